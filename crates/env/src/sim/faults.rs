//! The fault plan of a simulated disk: counts the operations, says which of them fail, and keeps
//! the trace.
//!
//! ```text
//!   operation   0     1     2     3     4     5     6     7
//!   fail_at(2)  done  done  FAIL  done  done ...
//!   fail_from(3), heal() after 5
//!               done  done  done  FAIL  FAIL  FAIL  done  done ...
//!   stop_at(4)  done  done  done  done  IN FLIGHT, then everything fails for ever
//! ```

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};

/// How an operation goes.
pub(super) enum Course {
    Done,
    /// Fails, and has as much of its effect as a failed operation of its kind has.
    Fails(io::Error),
    /// The machine stops while it is made: its effect is there and nothing of it is synced. The
    /// caller gets the error.
    InFlight(io::Error),
}

#[derive(Default)]
pub(super) struct FaultPlan {
    /// The number of operations so far, which is the number of the next one.
    pub(super) operations: u64,
    pub(super) reads_count: bool,
    pub(super) stop_at: Option<u64>,
    pub(super) is_stopped: bool,
    fail_at: BTreeMap<u64, ErrorKind>,
    fail_from: Option<(u64, ErrorKind)>,
    /// Lines so far, if they are recorded.
    pub(super) trace: Option<Vec<String>>,
}

impl FaultPlan {
    pub(super) fn fail_at(&mut self, number: u64, kind: ErrorKind) {
        self.fail_at.insert(number, kind);
    }

    pub(super) fn fail_from(&mut self, number: u64, kind: ErrorKind) {
        self.fail_from = Some((number, kind));
    }

    pub(super) fn heal(&mut self) {
        self.fail_at.clear();
        self.fail_from = None;
    }

    /// Numbers an operation that changes something and decides how it goes.
    ///
    /// # Errors
    /// The machine has stopped before.
    pub(super) fn begin(
        &mut self,
        what: &str,
        detail: impl FnOnce() -> String,
    ) -> io::Result<Course> {
        if self.is_stopped {
            return Err(stopped());
        }
        let number = self.operations;
        self.operations += 1;
        let course = self.course_of(number);
        if let Some(trace) = &mut self.trace {
            let outcome = match &course {
                Ok(Course::Done) => String::new(),
                Ok(Course::Fails(error)) => format!("  ! {error}"),
                Ok(Course::InFlight(_)) => "  ! in flight, the machine stops".to_owned(),
                Err(error) => format!("  ! {error}"),
            };
            trace.push(format!("{number:>6}  {what:<14}  {}{outcome}", detail()));
        }
        course
    }

    /// Numbers an operation that changes nothing, if such are counted, and decides how it goes.
    ///
    /// # Errors
    /// The machine has stopped, or the plan wants this one to fail.
    pub(super) fn begin_read(
        &mut self,
        what: &str,
        detail: impl FnOnce() -> String,
    ) -> io::Result<()> {
        if !self.reads_count {
            return if self.is_stopped { Err(stopped()) } else { Ok(()) };
        }
        match self.begin(what, detail)? {
            Course::Done => Ok(()),
            Course::Fails(error) | Course::InFlight(error) => Err(error),
        }
    }

    fn course_of(&mut self, number: u64) -> io::Result<Course> {
        if self.stop_at.is_some_and(|stop_at| stop_at <= number) {
            self.is_stopped = true;
            // Told to stop at an operation that is past, it stops before this one.
            return if self.stop_at == Some(number) {
                Ok(Course::InFlight(stopped()))
            } else {
                Err(stopped())
            };
        }
        let sticky = self.fail_from.filter(|(from, _)| *from <= number).map(|(_, kind)| kind);
        Ok(match self.fail_at.remove(&number).or(sticky) {
            Some(kind) => Course::Fails(injected(kind, number)),
            None => Course::Done,
        })
    }
}

fn stopped() -> io::Error {
    io::Error::other("the simulated machine has stopped")
}

fn injected(kind: ErrorKind, number: u64) -> io::Error {
    let what = match kind {
        ErrorKind::StorageFull => "no space left on device",
        _ => "input/output error",
    };
    io::Error::new(kind, format!("{what} (injected at operation {number})"))
}

pub(super) fn disk_full() -> io::Error {
    io::Error::new(ErrorKind::StorageFull, "no space left on the simulated disk")
}

impl Course {
    pub(super) fn into_result(self) -> io::Result<()> {
        match self {
            Course::Done => Ok(()),
            Course::Fails(error) | Course::InFlight(error) => Err(error),
        }
    }
}
