//! The shell without a terminal: one line in, one line out, in order, flushed as soon as it is
//! true.

use std::io::{self, BufReader};

use base::text;
use holm::{Row, Stats, Timestamp};
use serde_json::{Value, json};

use super::grammar::{Command, Grammar, HELP};
use super::screen::Screen;
use super::session::Session;
use crate::commands::{Context, stats};
use crate::exit::{Failure, Result};
use crate::form;
use crate::lines::read_line;
use crate::output::Output;

/// Longest line, in bytes: a value of 8 MiB and a key, every byte of them as `\xNN`.
const LINE_BYTES_MAX: usize = 36 << 20;

/// Answers standard input to its end, or to `exit`.
pub(super) fn run(context: &mut Context, mut session: Session) -> Result {
    let mut input = BufReader::with_capacity(64 << 10, io::stdin().lock());
    let mut line = Vec::new();
    let mut grammar = Grammar::new();
    let mut failed = 0u64;
    let input_failure = |error: io::Error| Failure::of_io("standard input", "read", &error);
    while let Some(read) =
        read_line(&mut input, &mut line, LINE_BYTES_MAX).map_err(input_failure)?
    {
        let command = match std::str::from_utf8(&line) {
            _ if read.is_cut => Err(format!("the line has more than {LINE_BYTES_MAX} bytes")),
            Err(_) => Err(r"the line is not UTF-8: write other bytes as \xNN".to_string()),
            Ok(line) => grammar.parse(line),
        };
        let result = match command {
            Ok(None) => continue,
            Ok(Some(Command::Exit)) => {
                context.output.done()?;
                break;
            }
            Ok(Some(command)) => session.run(command, &mut context.output),
            Err(what) => Err(Failure::new(what)),
        };
        match result {
            Ok(()) => {}
            Err(Failure::OutputClosed) => return Err(Failure::OutputClosed),
            Err(failure) => {
                failed += 1;
                session.failed();
                error(&mut context.output, &failure)?;
            }
        }
        context.output.flush()?;
    }
    context.output.flush()?;
    if session.is_in_transaction() {
        return Err(Failure::new("the input ended inside a transaction: it was rolled back"));
    }
    // Each has been said where it belongs.
    if failed > 0 { Err(Failure::Silent) } else { Ok(()) }
}

fn error(output: &mut Output, failure: &Failure) -> Result {
    let message = failure.message().replace('\n', " ");
    if output.is_json() {
        return output.json(&json!({ "error": message }));
    }
    output.line(&format!("error: {message}"))
}

impl Screen for Output {
    fn value(&mut self, value: Option<&[u8]>) -> Result {
        if self.is_json() {
            let mut object = serde_json::Map::new();
            match value {
                Some(value) => form::insert_bytes(&mut object, "value", value),
                None => drop(object.insert("value".to_string(), Value::Null)),
            }
            return self.json(&Value::Object(object));
        }
        match value {
            Some(value) => self.line(&unmistakable(text::escape(value))),
            None => self.line("(none)"),
        }
    }

    fn committed(&mut self, timestamp: Timestamp) -> Result {
        crate::commands::put::acknowledge(self, timestamp)
    }

    fn done(&mut self) -> Result {
        if self.is_json() { self.json(&json!({ "ok": true })) } else { self.line("ok") }
    }

    fn rows(
        &mut self,
        rows: &mut dyn Iterator<Item = holm::Result<Row>>,
        keys_only: bool,
    ) -> Result {
        // The first row before anything is written: a scan that fails does so at its start.
        let first = rows.next().transpose()?;
        let is_json = self.is_json();
        if is_json {
            self.bytes(br#"{"rows":["#)?;
        } else if first.is_none() {
            return self.line("(none)");
        }
        for (index, row) in first.map(Ok).into_iter().chain(rows).enumerate() {
            let row = row?;
            let value = (!keys_only).then_some(row.value());
            if index > 0 {
                self.bytes(if is_json { b"," } else { b" " })?;
            }
            if is_json {
                self.bytes(form::json_row(row.key(), value).as_bytes())?;
                continue;
            }
            let key = text::escape(row.key()).replace(' ', r"\x20").replace('=', r"\x3d");
            self.bytes(unmistakable(key).as_bytes())?;
            if let Some(value) = value {
                self.bytes(b"=")?;
                self.bytes(text::escape(value).replace(' ', r"\x20").as_bytes())?;
            }
        }
        self.bytes(if is_json { b"]}\n" } else { b"\n" })
    }

    fn names(&mut self, names: &[&str]) -> Result {
        if self.is_json() {
            return self.json(&json!({ "keyspaces": names }));
        }
        self.line(if names.is_empty() { "(none)".to_string() } else { names.join(" ") }.as_str())
    }

    fn stats(&mut self, stats: &Stats) -> Result {
        // Nothing but JSON tells so much in one line.
        self.json(&stats::json(stats))
    }

    fn help(&mut self) -> Result {
        let commands: Vec<&str> = HELP.iter().map(|(command, _)| *command).collect();
        if self.is_json() {
            return self.json(&json!({ "commands": commands }));
        }
        self.line(&commands.join("; "))
    }
}

/// Returns a text form in which it cannot be taken for another answer.
fn unmistakable(text: String) -> String {
    if text == "(none)" || text.starts_with("error: ") {
        return format!(r"\x{:02x}{}", text.as_bytes()[0], &text[1..]);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_never_taken_for_another_answer() {
        assert_eq!(unmistakable("(none)".into()), r"\x28none)");
        assert_eq!(unmistakable("error: x".into()), r"\x65rror: x");
        assert_eq!(unmistakable("(none) ".into()), "(none) ");
        assert_eq!(text::unescape(r"\x65rror: x").unwrap(), b"error: x");
    }
}
