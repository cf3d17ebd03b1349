//! The trace of a world: a line for each event, in columns, and a digest of all of them.
//!
//! The digest is made whether lines are kept or not. Two runs with the same digest did the same.

use std::fmt::{self, Write};

use super::clock::Time;
use super::digest;

/// What the columns and the signs of a trace mean.
pub const LEGEND: &str = "\
time s     who  what
           n3   a node; c2 a client; * the world
           <-   comes in      ->  goes out      x  is lost      =  is so from now on
           disk work 5: writes and syncs what was handed over up to ticket 5
           disk done 5: the node is told of it
";

/// What happens, and what it is worth to the digest.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    lines: Option<String>,
    digest: u64,
    events: u64,
}

impl Trace {
    pub(crate) fn new(is_kept: bool) -> Trace {
        Trace { lines: is_kept.then(String::new), digest: 0, events: 0 }
    }

    pub(crate) fn is_kept(&self) -> bool {
        self.lines.is_some()
    }

    /// Adds an event to the digest.
    pub(crate) fn event(&mut self, now: Time, kind: u64, detail: u64) {
        self.events += 1;
        self.digest = digest::mix(digest::mix(self.digest, now.0), kind ^ detail.rotate_left(8));
    }

    /// Adds a line, if lines are kept.
    pub(crate) fn line(&mut self, now: Time, who: Who, what: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.lines {
            let what = what();
            writeln!(lines, "{now:>10} {who:<4} {what}").expect("a string takes everything");
        }
    }

    pub(crate) fn digest(&self) -> u64 {
        self.digest
    }

    pub(crate) fn events(&self) -> u64 {
        self.events
    }

    pub(crate) fn take_lines(&mut self) -> String {
        self.lines.take().unwrap_or_default()
    }
}

/// Of whom a line tells.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Who {
    Node(usize),
    Client(u64),
    World,
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Who::Node(index) => f.pad(&format!("n{}", index + 1)),
            Who::Client(number) => f.pad(&format!("c{number}")),
            Who::World => f.pad("*"),
        }
    }
}
