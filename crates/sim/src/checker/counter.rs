//! Checks a counter: each addition counts once, however often it was tried.
//!
//! ```text
//! T1 s1 1..2 committed: add n 5         tried three times under one id
//! T2 s2 3..? unknown: add n 7
//! T3 s3 4..5 committed: read n 12       5 or 12: T2 may have counted, or not yet
//! T4 s3 6..7 committed: read n 5        no more: T3 had seen 12, and nothing is taken off
//! T5 s3 8..9 committed: read n 17       never: a retry of T1 counted again
//! ```
//!
//! A read has to lie between what was certainly added before it began and what can have been added
//! before it ended. Additions are positive, so that it is at least what an earlier read saw.
//! This is the test of requests that are repeated under one id: a server that forgets
//! an id shows a sum that is too high, one that takes a new request for an old one, too low.

use std::collections::BTreeMap;

use super::report::Evidence;
use super::{Class, Options, Report};
use crate::history::text::Name;
use crate::history::{History, Op, Outcome, Position, Transaction};

/// The additions to a counter and the reads of it, each with its transaction.
type Events<'a> = Vec<(&'a Transaction, u64)>;

/// Checks each counter of a history; see the module. A counter never written reads as nil, or zero.
pub fn check(history: &History, options: &Options) -> Report {
    let mut report = Report::new(options);
    let mut counters: BTreeMap<&str, (Events<'_>, Events<'_>)> = BTreeMap::new();
    for txn in history.transactions.iter().filter(|txn| txn.outcome != Outcome::Aborted) {
        for op in &txn.ops {
            match op {
                Op::Add { key, amount } => {
                    counters.entry(key).or_default().0.push((txn, *amount));
                }
                Op::Read { key, value } if txn.outcome == Outcome::Committed => {
                    counters.entry(key).or_default().1.push((txn, value.unwrap_or(0)));
                }
                _ => {}
            }
        }
    }
    // A register that was never added to is none of ours.
    for (key, (adds, reads)) in counters.into_iter().filter(|(_, (adds, _))| !adds.is_empty()) {
        check_counter(key, &adds, reads, &mut report);
    }
    report.sort();
    report
}

fn check_counter(key: &str, adds: &Events<'_>, reads: Events<'_>, report: &mut Report) {
    // Sums of what had ended, and of what had begun, by position.
    let is_committed = |txn: &Transaction| txn.outcome == Outcome::Committed;
    let ended = adds.iter().filter(|(txn, _)| is_committed(txn));
    let ended = sums(ended.filter_map(|(txn, amount)| Some((txn.complete?, *amount))).collect());
    let begun = sums(adds.iter().map(|(txn, amount)| (txn.invoke, *amount)).collect());
    let before = |sums: &[(Position, u64)], position: Position| {
        let count = sums.partition_point(|(at, _)| *at < position);
        count.checked_sub(1).map_or(0, |last| sums[last].1)
    };
    // Of the reads that had ended, the highest.
    let mut highest: Vec<(Position, u64, &str)> = reads
        .iter()
        .filter_map(|(txn, value)| Some((txn.complete?, *value, txn.label.as_str())))
        .collect();
    highest.sort_unstable();
    for i in 1..highest.len() {
        if highest[i].1 < highest[i - 1].1 {
            (highest[i].1, highest[i].2) = (highest[i - 1].1, highest[i - 1].2);
        }
    }
    for (txn, value) in reads {
        let least = before(&ended, txn.invoke);
        // At equal positions nothing is known: that which began then may count.
        let end = txn.complete.unwrap_or(Position::MAX);
        let most = before(&begun, end.saturating_add(1));
        let (label, name) = (txn.label.as_str(), Name(key));
        let class = match value {
            _ if value > most => Some(Class::WrongCount),
            _ if value < least => Some(Class::StaleRead),
            _ => None,
        };
        if let Some(class) = class {
            report.add(class, || {
                let line = format!(
                    "{label} read {name}={value}: at least {least} had been added before it began, \
                     and at most {most} before it ended"
                );
                Evidence::line([label], line)
            });
            continue;
        }
        let count = highest.partition_point(|(at, ..)| *at < txn.invoke);
        if let Some((at, seen, earlier)) = count.checked_sub(1).map(|last| highest[last])
            && seen > value
        {
            report.add(Class::StaleRead, || {
                let line = format!(
                    "{earlier} read {name}={seen} by {at}, then {label} began and read {value}"
                );
                Evidence::line([earlier, label], line)
            });
        }
    }
}

/// Turns amounts into sums, in the order of their positions.
fn sums(mut amounts: Vec<(Position, u64)>) -> Vec<(Position, u64)> {
    amounts.sort_unstable();
    let mut sum = 0_u64;
    for (_, amount) in &mut amounts {
        sum = sum.saturating_add(*amount);
        *amount = sum;
    }
    amounts
}
