//! Runs the scripts under `testscripts/`: a story, a history, what to check, and the answer.
//!
//! ```text
//! # A story, told in comments.
//! T1 s1 1..4 committed: read x []; append y 1       the history, as in a file
//! check list-append serializable                    checkers and the level to hold it to
//! levels list-append                                at which levels it is valid
//! ---
//! invalid under serializable ...
//! ```
//!
//! `UPDATE_SCRIPTS=1 cargo test -p holm-sim scripts` writes the answers anew, for review.
//!
//! Our own few lines instead of the goldenscript crate, because a history is not made of commands:
//! it should stand in a script exactly as it stands in a file.

#![expect(clippy::disallowed_methods, reason = "the scripts lie in the repository")]

use std::path::{Path, PathBuf};

use super::bank::{self, Bank};
use super::{Level, Options, Report};
use super::{counter, linearizable, list_append, long_fork, register, set, timestamps};
use crate::history::History;

#[test]
fn scripts_give_the_answers_written_in_them() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/checker/testscripts");
    let scripts = scripts_below(&root);
    assert!(scripts.len() > 20, "the scripts are missing: {scripts:?}");
    let mut failures = Vec::new();
    for path in scripts {
        let script = std::fs::read_to_string(&path).unwrap();
        let input = script.split("---\n").next().unwrap();
        let expected = format!("{input}---\n{}", answer(input));
        if std::env::var_os("UPDATE_SCRIPTS").is_some() {
            std::fs::write(&path, expected).unwrap();
        } else if script != expected {
            failures.push(format!("{}: the answer is now\n\n{expected}", path.display()));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn scripts_below(directory: &Path) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { paths.extend(scripts_below(&path)) } else { paths.push(path) }
    }
    paths.sort();
    paths
}

fn answer(input: &str) -> String {
    let is_command = |line: &&str| line.starts_with("check ") || line.starts_with("levels ");
    // Commands become blank lines, so that errors name the line of the script.
    let history = input.lines().map(|l| if is_command(&l) { "" } else { l }).collect::<Vec<_>>();
    let history: History = match history.join("\n").parse() {
        Ok(history) => history,
        Err(error) => return format!("error: {error}\n"),
    };
    let mut output = String::new();
    for command in input.lines().filter(is_command) {
        let words: Vec<_> = command.split_whitespace().collect();
        match words[..] {
            ["check", checker, level] => {
                output += &run(checker, &history, level.parse().unwrap()).to_string();
            }
            ["levels", checker] => {
                let report = run(checker, &history, Level::StrictSerializable);
                for (title, valid) in [("valid under", true), ("invalid under", false)] {
                    let levels = Level::ALL.into_iter().filter(|l| report.is_valid_at(*l) == valid);
                    let mut levels: Vec<_> = levels.map(Level::name).collect();
                    if levels.is_empty() {
                        levels.push("none");
                    }
                    output += &format!("{title}: {}\n", levels.join(" "));
                }
            }
            _ => panic!("unknown command `{command}`"),
        }
    }
    output
}

fn run(checker: &str, history: &History, level: Level) -> Report {
    let options = Options::at(level);
    match checker {
        "list-append" => list_append::check(history, &options),
        "register" => register::check(history, &options),
        "linearizable" => linearizable::check(history, &options),
        "set" => set::check(history, &options),
        "counter" => counter::check(history, &options),
        "long-fork" => long_fork::check(history, &options),
        "timestamps" => timestamps::check(history, &options),
        "bank" => {
            let bank = Bank { accounts: vec!["a".into(), "b".into()], total: 100 };
            bank::check(history, &bank, &options)
        }
        _ => panic!("no checker is called `{checker}`"),
    }
}
