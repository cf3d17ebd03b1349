//! Checkers of histories.

mod cycle;
mod explain;
mod graph;
mod index;
mod level;
mod reads;
mod report;

pub mod bank;
pub mod list_append;
pub mod register;
pub mod timestamps;

pub use level::{Class, Cycle, Level, Order};
pub use report::{Anomaly, Options, Report};

use std::collections::BTreeMap;

use graph::{Builder, PROCESS, REALTIME};
use index::Index;

/// Adds the order of sessions and of real time to the dependencies, and reports the cycles.
fn check_cycles(index: &Index<'_>, mut builder: Builder, report: &mut Report) {
    // An unknown transaction that counts took place at some time after it began, perhaps after
    // the next one of its session: it has a beginning and no end.
    let span = |t: u32| (t, index.txn(t).invoke, index.txn(t).complete);
    let mut sessions: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
    for t in index.counting() {
        sessions.entry(index.txn(t).session).or_default().push(t);
    }
    for transactions in sessions.into_values() {
        builder.order(transactions.into_iter().map(span), PROCESS);
    }
    builder.order(index.counting().map(span), REALTIME);
    for found in cycle::find(&builder.build()) {
        report.add(found.class, || explain::cycle(index, &found));
    }
}

#[cfg(test)]
mod tests;
