//! Checks a set: what was added stays, and nothing else is there.
//!
//! ```text
//! T1 s1 1..2 committed: append x 1
//! T2 s2 3..4 committed: read x [1]
//! T3 s3 5..6 committed: read x []                T1 had ended, T2 had seen it: 1 is lost
//! ```
//!
//! An addition is an append, and the order within a read means nothing. One that was acknowledged
//! has to be in each read that begins later; so has one that an earlier read saw. One without an
//! answer may appear, once and for all. It says little about isolation, much about durability, and
//! it works where lists of thousands of elements are read whole from an index or a scan.

use std::collections::BTreeMap;

use super::explain::saw;
use super::hash::{FastMap, FastSet};
use super::report::Evidence;
use super::{Class, Options, Report};
use crate::history::text::Name;
use crate::history::{History, Op, Outcome, Position, Transaction};

/// What is known of an element.
#[derive(Clone, Copy)]
struct Element<'a> {
    adder: &'a Transaction,
    /// From where on reads have to see it, and who makes that so.
    sure: Option<(Position, &'a Transaction)>,
}

/// Checks each set of a history; see the module.
pub fn check(history: &History, options: &Options) -> Report {
    let mut report = Report::new(options);
    let mut sets: BTreeMap<&str, FastMap<u64, Element<'_>>> = BTreeMap::new();
    let mut reads: Vec<(&str, &Transaction, &Op, &[u64])> = Vec::new();
    for txn in &history.transactions {
        for op in &txn.ops {
            match op {
                Op::Append { key, element } => {
                    let is_committed = txn.outcome == Outcome::Committed;
                    let sure = txn.complete.filter(|_| is_committed).map(|end| (end, txn));
                    let added = Element { adder: txn, sure };
                    if sets.entry(key).or_default().insert(*element, added).is_some() {
                        report.add(Class::AmbiguousWrite, || {
                            let line = format!("{element} was added to {} twice", Name(key));
                            Evidence::line([txn.label.as_str()], line)
                        });
                    }
                }
                Op::ReadList { key, observed } if txn.outcome == Outcome::Committed => {
                    reads.push((key, txn, op, observed));
                }
                _ => {}
            }
        }
    }
    for (key, reader, op, observed) in &reads {
        let set = sets.entry(key).or_default();
        check_read(set, reader, op, observed, &mut report);
    }
    // What the last read of all does not have is lost, and what another one does not have may yet
    // be on its way.
    let mut latest: FastMap<&str, Position> = FastMap::default();
    for (key, reader, ..) in &reads {
        let last = latest.entry(key).or_default();
        *last = reader.invoke.max(*last);
    }
    for (key, reader, op, observed) in &reads {
        let is_last = latest[key] == reader.invoke;
        let class = if is_last { Class::LostElement } else { Class::StaleRead };
        let seen: FastSet<u64> = observed.iter().copied().collect();
        let mut lost: Vec<_> = sets[key]
            .iter()
            .filter(|(element, _)| !seen.contains(element))
            .filter_map(|(element, known)| Some((*element, known.sure?)))
            .filter(|(_, (end, _))| *end < reader.invoke)
            .collect();
        lost.sort_unstable_by_key(|(element, _)| *element);
        for (element, (end, witness)) in lost {
            report.add(class, || {
                let (witness, reader) = (witness.label.as_str(), reader.label.as_str());
                let line = format!(
                    "{witness} knew {element} in {} and ended at {end}, then {reader} began and \
                     read {}",
                    Name(key),
                    saw(op)
                );
                Evidence::line([witness, reader], line)
            });
        }
    }
    report.sort();
    report
}

/// Checks what a read shows, and notes that later ones have to show it, too.
fn check_read<'a>(
    set: &mut FastMap<u64, Element<'a>>,
    reader: &'a Transaction,
    op: &Op,
    observed: &[u64],
    report: &mut Report,
) {
    let mut seen = FastSet::default();
    let label = reader.label.as_str();
    for element in observed {
        if !seen.insert(*element) {
            report.add(Class::DuplicateElements, || {
                Evidence::line([label], format!("{label} read {}, with {element} twice", saw(op)))
            });
        }
        match set.get_mut(element) {
            None => report.add(Class::GarbageRead, || {
                Evidence::line(
                    [label],
                    format!("{label} read {}, and nobody added {element}", saw(op)),
                )
            }),
            Some(known) if known.adder.outcome == Outcome::Aborted => {
                report.add(Class::AbortedRead, || {
                    let adder = known.adder.label.as_str();
                    let line = format!(
                        "{label} read {}, and {adder}, which added {element}, aborted",
                        saw(op)
                    );
                    Evidence::line([adder, label], line)
                });
            }
            Some(known) => {
                let end = reader.complete.map(|end| (end, reader));
                let earlier = |a: (Position, &'a Transaction), b: (Position, &'a Transaction)| {
                    if b.0 < a.0 { b } else { a }
                };
                known.sure = match (known.sure, end) {
                    (Some(a), Some(b)) => Some(earlier(a, b)),
                    (a, b) => a.or(b),
                };
            }
        }
    }
}
