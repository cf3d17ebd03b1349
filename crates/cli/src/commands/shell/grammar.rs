//! The commands of the shell.

use clap::{FromArgMatches, Parser, Subcommand};

use super::words;
use crate::commands::scan::What;
use crate::exit::usage_line;
use crate::form::Text;
use crate::when::When;

#[derive(Debug, Parser)]
#[command(multicall = true, disable_help_flag = true, disable_help_subcommand = true)]
struct Line {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
#[command(disable_help_flag = true)]
pub(super) enum Command {
    Get {
        key: Text,
        /// Reads the past, outside of transactions.
        #[arg(long, allow_hyphen_values = true)]
        at: Option<When>,
    },
    Put {
        key: Text,
        #[arg(allow_negative_numbers = true)]
        value: Text,
    },
    Delete {
        key: Text,
    },
    Scan {
        #[command(flatten)]
        what: What,
        #[arg(long, allow_hyphen_values = true)]
        at: Option<When>,
    },
    Begin {
        #[arg(value_enum)]
        modes: Vec<Mode>,
    },
    Commit,
    Rollback {
        /// Nothing, or `to` and the name of a savepoint.
        to: Vec<String>,
    },
    Savepoint {
        name: String,
    },
    Use {
        keyspace: String,
    },
    Keyspaces,
    At {
        #[arg(allow_hyphen_values = true)]
        when: String,
    },
    Stats,
    #[command(alias = "?")]
    Help,
    #[command(alias = "quit")]
    Exit,
}

/// What can be said of a transaction when it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Mode {
    /// It refuses writes.
    Readonly,
    /// Snapshot isolation instead of serializability.
    Snapshot,
}

/// What `help` shows, a command and its sentence per line.
pub(super) const HELP: [(&str, &str); 14] = [
    ("get KEY [--at WHEN]", "prints a value"),
    ("put KEY VALUE", "writes a value"),
    ("delete KEY", "deletes a key"),
    (
        "scan [START [END]] [--prefix P] [--limit N] [--reverse] [--keys-only] [--at WHEN]",
        "prints rows",
    ),
    ("begin [readonly] [snapshot]", "begins a transaction; serializable unless it says snapshot"),
    ("commit", "commits it; durable when it answers"),
    ("rollback [to NAME]", "forgets it, or what it wrote since a savepoint"),
    ("savepoint NAME", "marks a place in it to roll back to"),
    ("use KEYSPACE", "works in a keyspace; the first put creates it"),
    ("keyspaces", "lists the keyspaces"),
    ("at WHEN | at now", "reads the past: a commit timestamp, or -30s, -5m, -2h"),
    ("stats", "prints sizes and counts"),
    ("help", "prints this"),
    ("exit", "ends; an open transaction is rolled back"),
];

/// Reads lines. Kept, because building the grammar costs more than reading a line with it.
pub(super) struct Grammar(clap::Command);

impl Grammar {
    pub(super) fn new() -> Grammar {
        Grammar(<Line as clap::CommandFactory>::command())
    }

    /// Returns the command on a line; `None` if there is none on it.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub(super) fn parse(&mut self, line: &str) -> Result<Option<Command>, String> {
        if line.trim_start().starts_with('#') {
            return Ok(None);
        }
        let words = words::split(line)?;
        if words.is_empty() {
            return Ok(None);
        }
        let matches = self.0.try_get_matches_from_mut(&words);
        let line = matches.and_then(|matches| Line::from_arg_matches(&matches));
        line.map(|line| Some(line.command)).map_err(|error| {
            let what = usage_line(&error);
            match error.kind() {
                clap::error::ErrorKind::InvalidSubcommand => format!("{what}; `help` lists them"),
                _ => what,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_command() {
        let mut grammar = Grammar::new();
        let mut shown = |line: &str| match grammar.parse(line) {
            Ok(Some(command)) => format!("{command:?}"),
            Ok(None) => "nothing".to_string(),
            Err(what) => what,
        };
        assert_eq!(shown("  "), "nothing");
        assert_eq!(shown("# put a b"), "nothing");
        assert_eq!(shown("begin readonly snapshot"), "Begin { modes: [Readonly, Snapshot] }");
        assert_eq!(shown("put k -5"), "Put { key: Text([107]), value: Text([45, 53]) }");
        assert_eq!(
            shown(r#"put k "--at""#),
            "Put { key: Text([107]), value: Text([45, 45, 97, 116]) }"
        );
        assert!(shown("rollback to here").starts_with("Rollback"));
        assert!(shown("ptu a b").contains("`help` lists them"), "{}", shown("ptu a b"));
        assert!(shown(r"get a\q").contains("column 2"), "{}", shown(r"get a\q"));
        assert!(shown("get").contains("<KEY>"), "{}", shown("get"));
    }
}
