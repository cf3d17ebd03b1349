//! What clients do, and what must be true of what they saw.

mod bank;
mod list_append;
mod register;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::client::{Client, Failure, Program};
use super::faults::stream;
use super::judge::Violation;
use super::setup::Setup;
use crate::checker::Report;
use crate::history::{History, Outcome, TransactionId};

pub use bank::BankWorkload;
pub use list_append::ListAppendWorkload;
pub use register::RegisterWorkload;

/// A program for each client, and a check of what all of them recorded.
pub trait Workload {
    /// Returns the program of a client. It ends once [`Client::is_closing`].
    fn client(&self, client: Client) -> Program;

    /// Checks what was recorded.
    ///
    /// # Errors
    /// What was wrong.
    fn check(&self, history: &History) -> Result<(), Violation>;
}

/// The workloads there are by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkloadKind {
    /// See [`RegisterWorkload`].
    Register,
    /// See [`ListAppendWorkload`].
    ListAppend,
    /// See [`BankWorkload`].
    Bank,
}

const KINDS: [WorkloadKind; 3] =
    [WorkloadKind::Register, WorkloadKind::ListAppend, WorkloadKind::Bank];

impl WorkloadKind {
    /// Returns that of a set-up.
    pub(crate) fn of(setup: &Setup) -> WorkloadKind {
        let drawn = stream(setup.seed, 102).below(KINDS.len() as u64) as usize;
        setup.workload.unwrap_or(KINDS[drawn])
    }

    pub(crate) fn make(self) -> Box<dyn Workload> {
        match self {
            WorkloadKind::Register => Box::new(RegisterWorkload),
            WorkloadKind::ListAppend => Box::new(ListAppendWorkload),
            WorkloadKind::Bank => Box::new(BankWorkload),
        }
    }

    fn name(self) -> &'static str {
        match self {
            WorkloadKind::Register => "register",
            WorkloadKind::ListAppend => "list-append",
            WorkloadKind::Bank => "bank",
        }
    }
}

impl fmt::Display for WorkloadKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for WorkloadKind {
    type Err = String;

    fn from_str(text: &str) -> Result<WorkloadKind, String> {
        let found = KINDS.into_iter().find(|kind| kind.name() == text);
        found.ok_or_else(|| {
            let names = KINDS.map(WorkloadKind::name).join(", ");
            format!("there is no workload '{text}'; there are: {names}")
        })
    }
}

/// Waits as a client does between two transactions.
async fn think(client: &Client) {
    let millis = client.random(200);
    client.sleep(Duration::from_millis(millis)).await;
}

/// Records how a transaction ended. A session whose outcome is unknown goes on under another name:
/// what it did may still take place.
fn record(client: &Client, session: &mut u64, txn: TransactionId, result: Result<u64, Failure>) {
    let recorder = client.recorder();
    match result {
        Ok(commit_ts) => {
            recorder.commit_ts(txn, commit_ts);
            recorder.end(txn, Outcome::Committed);
        }
        Err(Failure::Conflict | Failure::NotDone) => recorder.end(txn, Outcome::Aborted),
        Err(Failure::Unknown) => {
            recorder.end(txn, Outcome::Unknown);
            *session += 1000;
        }
    }
}

fn verdict(report: &Report) -> Result<(), Violation> {
    match report.is_valid() {
        true => Ok(()),
        false => Err(Violation::new("history", report.to_string())),
    }
}
