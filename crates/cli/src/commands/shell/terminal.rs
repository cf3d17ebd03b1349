//! The shell at a terminal: a prompt, history, completion.

use std::path::PathBuf;

use holm::{Db, Keyspace, Row, Stats, Timestamp};
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{Config, Editor, Helper, Highlighter, Hinter, Validator};

use super::grammar::{Command, Grammar, HELP};
use super::screen::Screen;
use super::session::Session;
use crate::commands::{Context, stats};
use crate::exit::{Failure, Result};
use crate::output::Output;
use crate::table::{grouped, pairs};

/// Lines of history kept: weeks of work, and nothing to wait for at the start.
const HISTORY_LINES_MAX: usize = 10_000;

/// Answers what is typed, to the end of input or `exit`.
pub(super) fn run(context: &mut Context, mut session: Session) -> Result {
    let mut editor = editor(&session.db).map_err(no_terminal)?;
    let history = history_path();
    if let Some(path) = &history {
        // There is none the first time.
        let _ = editor.load_history(path);
    }
    context.output.line(&format!("{}: `help` lists the commands", context.target.db))?;
    let ended = converse(context, &mut session, &mut editor);
    if let Some(path) = &history {
        let folder = path.parent().map(std::fs::create_dir_all);
        // A history that cannot be kept is no reason to fail what was done.
        let _ = folder.map(|_| editor.save_history(path));
    }
    ended
}

fn converse(context: &mut Context, session: &mut Session, editor: &mut LineEditor) -> Result {
    let mut grammar = Grammar::new();
    loop {
        context.output.flush()?;
        let line = match editor.readline(&prompt(session)) {
            Ok(line) => line,
            // Control-C forgets the line, control-D ends.
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(no_terminal(error)),
        };
        let command = match grammar.parse(&line) {
            Ok(Some(command)) => command,
            Ok(None) => continue,
            Err(what) => {
                let _ = editor.add_history_entry(line);
                context.output.line(&format!("error: {what}"))?;
                continue;
            }
        };
        let _ = editor.add_history_entry(line);
        if matches!(command, Command::Exit) {
            break;
        }
        match session.run(command, &mut Terminal(&mut context.output)) {
            Ok(()) => {}
            Err(Failure::OutputClosed) => return Err(Failure::OutputClosed),
            Err(failure) => {
                session.failed();
                context.output.line(&format!("error: {}", failure.message()))?;
            }
        }
    }
    if session.is_in_transaction() {
        context.output.line("the open transaction was rolled back")?;
    }
    Ok(())
}

fn prompt(session: &Session) -> String {
    match session.state() {
        state if state.is_empty() => format!("{}> ", session.keyspace),
        state => format!("{} ({state})> ", session.keyspace),
    }
}

type LineEditor = Editor<Completion, FileHistory>;

fn editor(db: &Db) -> rustyline::Result<LineEditor> {
    let config = Config::builder().max_history_size(HISTORY_LINES_MAX)?.build();
    let mut editor = Editor::with_config(config)?;
    editor.set_helper(Some(Completion { db: db.clone() }));
    Ok(editor)
}

fn no_terminal(error: ReadlineError) -> Failure {
    Failure::new(format!("the terminal: {error}: pipe the commands into `holm shell` instead"))
}

/// Returns where the history is kept, as the XDG Base Directory Specification has it.
fn history_path() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let state = set("XDG_STATE_HOME").map(PathBuf::from);
    let state = state.or_else(|| Some(PathBuf::from(set("HOME")?).join(".local").join("state")))?;
    Some(state.join("holm").join("history"))
}

/// Completes commands, and keyspaces where one is wanted.
#[derive(Helper, Highlighter, Hinter, Validator)]
struct Completion {
    db: Db,
}

impl Completer for Completion {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        position: usize,
        _: &rustyline::Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        let before = line.get(..position).unwrap_or(line);
        let start = before.rfind(' ').map_or(0, |space| space + 1);
        let word = &before[start..];
        let candidates: Vec<String> = match before[..start].split_whitespace().next() {
            None => {
                let first =
                    |(command, _): &(&str, &str)| command.split(' ').next().map(str::to_string);
                HELP.iter().filter_map(first).collect()
            }
            Some("use") => {
                self.db.keyspaces().iter().map(|it| Keyspace::name(it).to_string()).collect()
            }
            Some("begin") => vec!["readonly".to_string(), "snapshot".to_string()],
            Some("scan") => ["--prefix", "--limit", "--reverse", "--keys-only", "--at"]
                .map(str::to_string)
                .to_vec(),
            Some("rollback") => vec!["to".to_string()],
            Some("at") => vec!["now".to_string()],
            Some(_) => Vec::new(),
        };
        let fitting = candidates.into_iter().filter(|candidate| candidate.starts_with(word));
        Ok((start, fitting.map(|candidate| format!("{candidate} ")).collect()))
    }
}

/// Answers for people; in JSON they are as piped ones.
struct Terminal<'a>(&'a mut Output);

impl Screen for Terminal<'_> {
    fn value(&mut self, value: Option<&[u8]>) -> Result {
        self.0.value(value)
    }

    fn committed(&mut self, timestamp: Timestamp) -> Result {
        self.0.committed(timestamp)
    }

    fn done(&mut self) -> Result {
        self.0.done()
    }

    fn rows(
        &mut self,
        rows: &mut dyn Iterator<Item = holm::Result<Row>>,
        keys_only: bool,
    ) -> Result {
        if self.0.is_json() {
            return self.0.rows(rows, keys_only);
        }
        let mut count = 0;
        for row in rows {
            let row = row?;
            self.0.row(row.key(), (!keys_only).then_some(row.value()))?;
            count += 1;
        }
        self.0.line(&format!("({} rows)", grouped(count)))
    }

    fn names(&mut self, names: &[&str]) -> Result {
        if self.0.is_json() {
            return self.0.names(names);
        }
        names.iter().try_for_each(|name| self.0.line(name))
    }

    fn stats(&mut self, stats: &Stats) -> Result {
        if self.0.is_json() {
            return self.0.stats(stats);
        }
        self.0.line(&pairs(stats::lines(stats)))
    }

    fn help(&mut self) -> Result {
        self.0.line(&pairs(HELP.map(|(command, what)| (command, what.to_string()))))
    }
}
