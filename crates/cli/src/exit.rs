//! How the program ends: one line on standard error that says what, where and what next, and a code
//! that scripts can tell apart.
//!
//! | code | means |
//! |---|---|
//! | 0 | done |
//! | 1 | failed; for `get`, also: there is no such key |
//! | 2 | the command line is wrong |
//! | 3 | another process has the database open |
//! | 4 | something that was durable is damaged |
//! | 5 | a newer program wrote the database |
//! | 6 | the disk is full |
//! | 7 | no server could be reached |

use std::fmt::Display;
use std::io;
use std::path::Path;
use std::process::ExitCode;

/// The result of a command.
pub(crate) type Result<T = ()> = std::result::Result<T, Failure>;

/// What kind of failure it was, as the exit code tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    Failed = 1,
    Usage = 2,
    Locked = 3,
    Damaged = 4,
    NewerFormat = 5,
    DiskFull = 6,
    NotConnected = 7,
}

/// Why a command did not end well.
#[derive(Debug)]
pub(crate) enum Failure {
    /// There is nothing to say that the exit code does not.
    Silent,
    /// Whoever read our output has had enough. Nobody's mistake.
    OutputClosed,
    /// To be said in one line.
    Said { code: Code, message: String },
}

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Failure {
        Failure::Said { code: Code::Failed, message: message.into() }
    }

    pub(crate) fn with_code(code: Code, message: impl Into<String>) -> Failure {
        Failure::Said { code, message: message.into() }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Failure {
        Failure::with_code(Code::Usage, message)
    }

    /// Wraps the system's error with its file and what was tried.
    pub(crate) fn io(path: &Path, action: &str) -> impl FnOnce(io::Error) -> Failure {
        let path = path.display().to_string();
        move |error| Failure::of_io(&path, action, &error)
    }

    pub(crate) fn of_io(what: &str, action: &str, error: &io::Error) -> Failure {
        let code = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Code::DiskFull,
            _ => Code::Failed,
        };
        Failure::with_code(code, format!("{what}: cannot {action}: {error}"))
    }

    /// Says where it happened, in front.
    pub(crate) fn at(self, place: impl Display) -> Failure {
        match self {
            Failure::Said { code, message } => {
                Failure::Said { code, message: format!("{place}: {message}") }
            }
            other => other,
        }
    }

    /// Returns what there is to say.
    pub(crate) fn message(&self) -> &str {
        match self {
            Failure::Said { message, .. } => message,
            Failure::Silent => "there is no such key",
            Failure::OutputClosed => "the output was closed",
        }
    }
}

impl From<storage::Error> for Failure {
    fn from(error: storage::Error) -> Failure {
        Failure::with_code(code_of_storage(&error), error.to_string())
    }
}

impl From<holm::Error> for Failure {
    fn from(error: holm::Error) -> Failure {
        let code = error.as_storage().map_or(Code::Failed, code_of_storage);
        Failure::with_code(code, error.to_string())
    }
}

fn code_of_storage(error: &storage::Error) -> Code {
    match error {
        storage::Error::Locked { .. } => Code::Locked,
        storage::Error::Damaged { .. } => Code::Damaged,
        storage::Error::NewerFormat { .. } => Code::NewerFormat,
        storage::Error::DiskFull { .. } => Code::DiskFull,
        _ => Code::Failed,
    }
}

/// Says what a command failed with; returns the program's exit code.
pub(crate) fn code_of(result: Result) -> ExitCode {
    match result {
        Ok(()) | Err(Failure::OutputClosed) => ExitCode::SUCCESS,
        Err(Failure::Silent) => ExitCode::FAILURE,
        Err(Failure::Said { code, message }) => {
            say(&message);
            ExitCode::from(code as u8)
        }
    }
}

/// Says one line on standard error.
pub(crate) fn say(message: &str) {
    eprintln!("holm: {}", one_line(message));
}

/// Says what is wrong with a command line, or prints the help that was asked for.
pub(crate) fn bad_usage(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        // A closed pipe is nobody's mistake.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    if error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = error.print();
        return ExitCode::from(Code::Usage as u8);
    }
    say(&format!("{}; `holm help` shows what there is", usage_line(error)));
    ExitCode::from(Code::Usage as u8)
}

/// Returns what is wrong with a command line, in one line.
pub(crate) fn usage_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let mut said = String::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if line.starts_with("Usage:") || line.starts_with("For more information") {
            break;
        }
        said.push_str(if said.is_empty() {
            ""
        } else if line.starts_with("tip:") {
            "; "
        } else {
            " "
        });
        said.push_str(line);
    }
    said.strip_prefix("error: ").unwrap_or(&said).to_string()
}

fn one_line(message: &str) -> String {
    message.replace('\n', " ")
}
