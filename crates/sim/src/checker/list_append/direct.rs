//! Anomalies of list-append that one read, or two reads of one key, prove.
//!
//! ```text
//! garbage-read         T1 read x=[1 9]              and nobody appended 9
//! duplicate-elements   T1 read x=[1 1]
//! incompatible-order   T1 read x=[1 2], T2 read x=[2]      neither is a prefix of the other
//! internal             T1 appended 1 to x, read x=[]
//! non-repeatable-read  T1 read x=[1], then x=[1 2]
//! G1a                  T1 read x=[1]                and the transaction that appended 1 aborted
//! G1b                  T1 read x=[1]                and T2 appended 1 and then 2 to x
//! dirty-update         T1 read x=[1 2]              1 is of an aborted one, 2 of a committed one
//! lost-update          T1 read x=[], appended to x; T2 read x=[], appended to x
//! lost-append          T1 appended 1 to x and ended; then T2 began, read x=[]; no read has the 1
//! ```

use std::collections::HashMap;

use super::Lists;
use crate::checker::explain::saw;
use crate::checker::index::{Index, Key, Read};
use crate::checker::reads::{Flaws, check_intermediate};
use crate::checker::report::Evidence;
use crate::checker::{Class, Report};
use crate::history::{Op, Outcome};

/// Checks each transaction by itself, then the reads of each key among each other.
pub(super) fn check(index: &Index<'_>, lists: &Lists<'_>, report: &mut Report) {
    for txn in index.counting() {
        check_inside(index, txn, report);
    }
    check_reads(index, lists, report);
    check_dirty_updates(index, lists, report);
    check_lost_updates(index, lists, report);
    check_lost_appends(index, lists, report);
}

/// What a transaction knows of a key from its own past.
#[derive(Default)]
struct Known<'a> {
    /// Its last read of the key.
    read: Option<(&'a Op, &'a [u64])>,
    /// What it appended after that.
    own: Vec<u64>,
}

fn check_inside(index: &Index<'_>, txn: u32, report: &mut Report) {
    let mut known: HashMap<Key, Known<'_>> = HashMap::new();
    let label = index.label(txn);
    for (_, key, op) in index.ops_of(txn) {
        let known = known.entry(key).or_default();
        match op {
            Op::Append { element, .. } => known.own.push(*element),
            Op::ReadList { observed, .. } => {
                let before = observed.strip_suffix(known.own.as_slice());
                if before.is_none() {
                    report.add(Class::Internal, || {
                        let own: Vec<_> = known.own.iter().map(u64::to_string).collect();
                        let (own, key) = (own.join(" "), index.name(key));
                        let line =
                            format!("{label} appended {own} to {key}, then read {}", saw(op));
                        Evidence::line([label], line)
                    });
                }
                if let (Some((first, expected)), Some(before)) = (known.read, before)
                    && before != expected
                {
                    report.add(Class::NonRepeatableRead, || {
                        let line = format!("{label} read {} and then {}", saw(first), saw(op));
                        Evidence::line([label], line)
                    });
                }
                *known = Known { read: Some((op, observed)), own: Vec::new() };
            }
            Op::Write { .. } | Op::Read { .. } => {}
        }
    }
}

fn check_reads(index: &Index<'_>, lists: &Lists<'_>, report: &mut Report) {
    // The flaws of a list are those of its prefixes, so that each key is looked up only once.
    let keys = 0..index.keys.len() as Key;
    let flaws_of_longest: Vec<_> =
        keys.map(|key| Flaws::of(index, key, lists.order(key))).collect();
    for read in index.reads() {
        let is_prefix = lists.is_prefix(&read);
        if !is_prefix && let Some(longest) = lists.longest[read.key as usize] {
            report.add(Class::IncompatibleOrder, || {
                let (a, b) = (index.label(read.txn), index.label(longest.txn));
                let read = saw(index.op(read.txn, read.op));
                let longest = saw(index.op(longest.txn, longest.op));
                Evidence::line([a, b], format!("{a} read {read}, and {b} read {longest}"))
            });
        }
        let flaws = if is_prefix {
            flaws_of_longest[read.key as usize]
        } else {
            Flaws::of(index, read.key, read.observed)
        };
        flaws.report(index, &read, report);
        check_intermediate(index, &read, report);
    }
}

fn check_dirty_updates(index: &Index<'_>, lists: &Lists<'_>, report: &mut Report) {
    for longest in lists.longest.iter().flatten() {
        let writes = longest.observed.iter().map(|e| (e, index.write(longest.key, *e)));
        let mut aborted: Option<(u64, u32)> = None;
        for (element, write) in writes {
            let Some(write) = write else { continue };
            if index.txn(write.txn).outcome == Outcome::Aborted {
                aborted = aborted.or(Some((*element, write.txn)));
            } else if let Some((dirty, writer)) = aborted.take()
                && index.counts(write.txn)
            {
                report.add(Class::DirtyUpdate, || {
                    let (a, b) = (index.label(writer), index.label(write.txn));
                    let reader = index.label(longest.txn);
                    let saw = saw(index.op(longest.txn, longest.op));
                    let line = format!(
                        "{reader} read {saw}: the {element} of {b} stands on the {dirty} of {a}, \
                         which aborted"
                    );
                    Evidence::line([a, b], line)
                });
            }
        }
    }
}

/// Two transactions that read the same state of a key and both appended to it: whichever is
/// second in the order of versions missed the first.
fn check_lost_updates(index: &Index<'_>, lists: &Lists<'_>, report: &mut Report) {
    let mut updates: HashMap<(Key, usize), Read<'_>> = HashMap::new();
    for txn in index.counting() {
        let mut reads: HashMap<Key, Option<Read<'_>>> = HashMap::new();
        for (o, key, op) in index.ops_of(txn) {
            let Op::ReadList { observed, .. } = op else {
                // The first append after the first read decides; a second one adds nothing.
                if let Some(read) = reads.insert(key, None).flatten()
                    && lists.is_prefix(&read)
                    && let Some(other) = updates.insert((key, read.observed.len()), read)
                {
                    report_lost_update(index, &other, &read, report);
                }
                continue;
            };
            reads.entry(key).or_insert(Some(Read { txn, op: o, key, observed }));
        }
    }
}

fn report_lost_update(index: &Index<'_>, a: &Read<'_>, b: &Read<'_>, report: &mut Report) {
    report.add(Class::LostUpdate, || {
        let (first, second) = (index.label(a.txn), index.label(b.txn));
        let (saw, key) = (saw(index.op(a.txn, a.op)), index.name(a.key));
        let line = format!("{first} and {second} both read {saw} and then appended to {key}");
        Evidence::line([first, second], line)
    });
}

/// An append that is in no read although a transaction that read its key began after it was
/// acknowledged. (Whether that read may just be stale is for `Options::durable` to say.)
fn check_lost_appends(index: &Index<'_>, lists: &Lists<'_>, report: &mut Report) {
    let mut last: Vec<Option<Read<'_>>> = vec![None; index.keys.len()];
    for read in index.reads() {
        let slot = &mut last[read.key as usize];
        if slot.is_none_or(|l| index.txn(l.txn).invoke < index.txn(read.txn).invoke) {
            *slot = Some(read);
        }
    }
    for (key, appends) in lists.unseen.iter().enumerate() {
        let Some(read) = last[key] else { continue };
        for (txn, op) in appends {
            if !index.txn(*txn).is_before(index.txn(read.txn)) {
                continue;
            }
            report.add(Class::LostAppend, || {
                let (writer, reader) = (index.label(*txn), index.label(read.txn));
                let element = index.op(*txn, *op).written().unwrap_or_default();
                let (key, saw) = (index.name(read.key), saw(index.op(read.txn, read.op)));
                let line = format!(
                    "{writer} appended {element} to {key} and ended, then {reader} began and \
                     read {saw}; no read has the {element}"
                );
                Evidence::line([writer, reader], line)
            });
        }
    }
}
