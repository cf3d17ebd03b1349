//! Checks for long forks: two readers that disagree on which of two writes came first.
//!
//! ```text
//! T1 wrote x        T2 wrote y         both once, side by side
//! T3 read x=1, y=nil                   T1 came first
//! T4 read x=nil, y=1                   T2 came first
//! ```
//!
//! Parallel snapshot isolation allows it, snapshot isolation does not. The graph of
//! [`super::register`] finds it as `G-nonadjacent`; this workload finds it without a graph,
//! after Jepsen's `long-fork`:
//! each key is written once, and readers read whole groups of keys. Of two reads of one group, one
//! must have seen all that the other had.
//!
//! Keys that are written more than once are left out.

use std::collections::{BTreeMap, BTreeSet};

use super::explain::saw;
use super::report::Evidence;
use super::{Class, Options, Report};
use crate::history::{History, Op, Outcome, Transaction};

/// A read of a group: what it saw of each key, in the order of the keys.
struct Look<'a> {
    txn: &'a Transaction,
    seen: Vec<(&'a str, &'a Op, bool)>,
}

/// Compares the reads of each group of keys; see the module.
pub fn check(history: &History, options: &Options) -> Report {
    let mut report = Report::new(options);
    let mut writes: BTreeMap<&str, usize> = BTreeMap::new();
    for op in history.transactions.iter().flat_map(|txn| &txn.ops) {
        if let Op::Write { key, .. } = op {
            *writes.entry(key).or_default() += 1;
        }
    }
    let mut groups: BTreeMap<BTreeSet<&str>, Vec<Look<'_>>> = BTreeMap::new();
    for txn in history.transactions.iter().filter(|txn| txn.outcome == Outcome::Committed) {
        let mut seen: BTreeMap<&str, (&Op, bool)> = BTreeMap::new();
        for op in &txn.ops {
            match op {
                Op::Read { key, value } if writes.get(key.as_str()).is_none_or(|n| *n == 1) => {
                    seen.entry(key).or_insert((op, value.is_some()));
                }
                _ => {}
            }
        }
        let is_reader = txn.ops.iter().all(|op| matches!(op, Op::Read { .. }));
        if is_reader && seen.len() > 1 {
            let keys = seen.keys().copied().collect();
            let seen = seen.into_iter().map(|(key, (op, value))| (key, op, value)).collect();
            groups.entry(keys).or_default().push(Look { txn, seen });
        }
    }
    for mut looks in groups.into_values() {
        // If all pairs agree, then each has seen what those with fewer had: neighbours are enough.
        let count = |look: &Look<'_>| look.seen.iter().filter(|(.., value)| *value).count();
        looks.sort_by_key(count);
        for pair in looks.windows(2) {
            compare(&pair[0], &pair[1], &mut report);
        }
    }
    report.sort();
    report
}

fn compare(a: &Look<'_>, b: &Look<'_>, report: &mut Report) {
    let both = || a.seen.iter().zip(&b.seen);
    let only_a = both().find(|(x, y)| x.2 && !y.2);
    let only_b = both().find(|(x, y)| !x.2 && y.2);
    if let (Some(x), Some(y)) = (only_a, only_b) {
        report.add(Class::LongFork, || {
            let (first, second) = (a.txn.label.as_str(), b.txn.label.as_str());
            let line = format!(
                "{first} read {} {}, and {second} read {} {}",
                saw(x.0.1),
                saw(y.0.1),
                saw(x.1.1),
                saw(y.1.1)
            );
            Evidence::line([first, second], line)
        });
    }
}
