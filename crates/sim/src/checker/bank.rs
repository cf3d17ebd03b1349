//! Checks a bank: money moves between accounts, and nobody ever sees more or less of it in all.
//!
//! ```text
//! T1 s1 1..4 committed: read a 60; read b 40; write a 50; write b 50
//! T2 s2 2..3 committed: read a 60; read b 50                           60 + 50 is not 100
//! ```
//!
//! Accounts are registers, and unlike in the register workload two of them may hold one value, so
//! that the checker needs no unique values and any program can be its workload. It proves little
//! compared with the others (it does not notice write skew, or stale reads) but its proof
//! convinces everybody.

use std::collections::HashMap;

use super::explain::saw;
use super::report::Evidence;
use super::{Class, Options, Report};
use crate::history::{History, Op, Outcome, Transaction};

/// The accounts, and what they hold together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bank {
    /// The keys of the accounts.
    pub accounts: Vec<String>,
    /// The sum of their balances, at all times. An account never written holds nothing.
    pub total: u64,
}

/// Checks each committed transaction that read all accounts (before it wrote to them itself).
pub fn check(history: &History, bank: &Bank, options: &Options) -> Report {
    let mut report = Report::new(options);
    for txn in history.transactions.iter().filter(|txn| txn.outcome == Outcome::Committed) {
        let balances = first_reads(txn);
        let reads: Option<Vec<_>> =
            bank.accounts.iter().map(|a| balances.get(a.as_str())).collect();
        let Some(reads) = reads else { continue };
        let total: u128 = reads.iter().map(|(_, balance)| u128::from(*balance)).sum();
        if total != u128::from(bank.total) {
            report.add(Class::WrongTotal, || {
                let label = txn.label.as_str();
                let reads: Vec<_> = reads.iter().map(|(op, _)| saw(op)).collect();
                let (reads, expected) = (reads.join(" "), bank.total);
                let line = format!("{label} read {reads}: {total} in all, and not {expected}");
                Evidence::line([label], line)
            });
        }
    }
    report.sort();
    report
}

/// Returns what a transaction saw of each key that others had written.
fn first_reads(txn: &Transaction) -> HashMap<&str, (&Op, u64)> {
    let mut reads = HashMap::new();
    let mut own = Vec::new();
    for op in &txn.ops {
        match op {
            Op::Read { key, value } if !own.contains(&key) => {
                reads.entry(key.as_str()).or_insert((op, value.unwrap_or(0)));
            }
            Op::Write { key, .. } => own.push(key),
            _ => {}
        }
    }
    reads
}
