//! A child process that will be killed, and what it said before.
//!
//! It is this program again, with a hidden subcommand. It says what it has been promised, a line at
//! a time, through a pipe: what was written to a pipe is read even after the writer was killed. It
//! ends by itself when its standard input ends, so none is left behind if its parent is killed.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Instant;

use crate::exit::{Failure, Result};

pub(crate) struct Victim {
    child: Child,
    /// Held open as long as it shall live.
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
}

/// What there was to hear up to a moment.
pub(crate) enum Heard {
    Line(String),
    /// Nothing until then.
    Nothing,
    /// It has ended by itself.
    End,
}

impl Victim {
    /// Starts this program again.
    pub(crate) fn start(db: &Path, arguments: &[String]) -> Result<Victim> {
        let failure = |error| Failure::of_io("this program", "start again", &error);
        let mut child = Command::new(std::env::current_exe().map_err(failure)?)
            .arg("--db")
            .arg(db)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(failure)?;
        let (sender, lines) = channel();
        let stdout = child.stdout.take();
        let stdin = child.stdin.take();
        std::thread::spawn(move || {
            for line in stdout.into_iter().flat_map(whole_lines) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Victim { child, stdin, lines })
    }

    /// Waits for the next line until a moment.
    pub(crate) fn hear(&self, until: Instant) -> Heard {
        match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(line) => Heard::Line(line),
            Err(RecvTimeoutError::Timeout) => Heard::Nothing,
            Err(RecvTimeoutError::Disconnected) => Heard::End,
        }
    }

    /// Kills it with SIGKILL, and returns what it had said until then.
    pub(crate) fn kill(mut self) -> Result<Vec<String>> {
        let failure = |error| Failure::of_io("the child process", "be killed", &error);
        self.child.kill().map_err(failure)?;
        self.child.wait().map_err(failure)?;
        Ok(self.lines.iter().collect())
    }

    /// Lets it end, and returns what else it said.
    ///
    /// # Errors
    /// If it ended badly.
    pub(crate) fn end(mut self) -> Result<Vec<String>> {
        self.stdin.take();
        let lines = self.lines.iter().collect();
        let status = self.child.wait();
        let status = status.map_err(|error| Failure::of_io("the child process", "end", &error))?;
        match status.success() {
            true => Ok(lines),
            false => Err(Failure::new(format!("the child process failed: {status}"))),
        }
    }
}

/// Returns the lines that end: the last one may have been cut off.
fn whole_lines(stdout: ChildStdout) -> impl Iterator<Item = String> {
    let mut reader = BufReader::new(stdout);
    std::iter::from_fn(move || {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        line.ends_with('\n').then(|| line.trim_end().to_string())
    })
}

/// In the child: says a line, all at once.
///
/// # Errors
/// If nobody listens any more.
pub(crate) fn tell(line: &str) -> Result {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("{line}\n").as_bytes()).map_err(|_| Failure::OutputClosed)
}

/// In the child: waits until it shall end.
pub(crate) fn wait_for_end() {
    // Nothing is ever written to it, so this returns when the other end is closed.
    let _ = std::io::stdin().read(&mut [0]);
}
