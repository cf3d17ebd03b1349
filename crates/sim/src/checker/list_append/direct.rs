//! Anomalies of list-append that one read, or two reads of one key, prove.
//!
//! ```text
//! garbage-read         T1 read x=[1 9]              and nobody appended 9
//! duplicate-elements   T1 read x=[1 1]
//! incompatible-order   T1 read x=[1 2], T2 read x=[2]      neither is a prefix of the other
//! internal             T1 appended 1 to x, read x=[]
//! non-repeatable-read  T1 read x=[1], then x=[1 2]
//! reordered-appends    T1 read x=[2 1]              and T2 appended 1 and then 2 to x
//! G1a                  T1 read x=[1]                and the transaction that appended 1 aborted
//! G1b                  T1 read x=[1]                and T2 appended 1 and then 2 to x
//! dirty-update         T1 read x=[1 2]              1 is of an aborted one, 2 of a committed one
//! lost-update          T1 read x=[], appended to x; T2 read x=[], appended to x
//! lost-append          T1 appended 1 to x and ended; then T2 began, read x=[]; no read has the 1
//! ```

use super::Lists;
use crate::checker::explain::saw;
use crate::checker::hash::{FastMap, FastSet};
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
    check_program_order(index, lists, report);
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
    /// All that it appended.
    all: Vec<u64>,
}

fn check_inside(index: &Index<'_>, txn: u32, report: &mut Report) {
    let mut known: FastMap<Key, Known<'_>> = FastMap::default();
    let label = index.label(txn);
    for (_, key, op) in index.ops_of(txn) {
        let known = known.entry(key).or_default();
        match op {
            Op::Append { element, .. } => {
                known.own.push(*element);
                known.all.push(*element);
            }
            Op::ReadList { observed, .. } => {
                let before = observed.strip_suffix(known.own.as_slice());
                let is_own =
                    |element: &u64| index.write(key, *element).is_some_and(|w| w.txn == txn);
                // Its own appends are at the end, once each, and not there before they are made.
                let rest = observed.strip_suffix(known.all.as_slice());
                if before.is_none() || rest.is_none_or(|rest| rest.iter().any(is_own)) {
                    report.add(Class::Internal, || {
                        let own: Vec<_> = known.all.iter().map(u64::to_string).collect();
                        let (own, key) = (
                            if own.is_empty() { "nothing yet".into() } else { own.join(" ") },
                            index.name(key),
                        );
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
                known.read = Some((op, observed));
                known.own.clear();
            }
            _ => {}
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

/// What one transaction appended to a key must stand in the order in which it did so, without gaps.
/// (With the appends of others in between it would be G0, and is found as a cycle.)
fn check_program_order(index: &Index<'_>, lists: &Lists<'_>, report: &mut Report) {
    for longest in lists.longest.iter().flatten() {
        let mut last: FastMap<u32, u32> = FastMap::default();
        let mut elements = FastSet::default();
        for element in longest.observed.iter().filter(|element| elements.insert(**element)) {
            let Some(write) = index.write(longest.key, *element) else { continue };
            let appends = index
                .ops_of(write.txn)
                .filter(|(_, key, op)| *key == longest.key && op.written().is_some());
            // The append before this one in the program has to be the last one seen.
            let before = appends.map(|(o, ..)| o).take_while(|o| *o < write.op).last();
            let is_in_order = last.insert(write.txn, write.op) == before;
            // A reader that sees its own appends in the middle is reported as `internal`.
            if !is_in_order && index.counts(write.txn) && write.txn != longest.txn {
                report.add(Class::ReorderedAppends, || {
                    let (reader, writer) = (index.label(longest.txn), index.label(write.txn));
                    let (saw, key) =
                        (saw(index.op(longest.txn, longest.op)), index.name(longest.key));
                    let line = format!(
                        "{reader} read {saw}, and {writer} did not append to {key} in this order: \
                         {element} is out of place"
                    );
                    Evidence::line([writer, reader], line)
                });
                break;
            }
        }
    }
}

/// Two transactions that read the same state of a key and both appended to it (before or
/// after): whichever is second in the order of versions missed the first.
fn check_lost_updates(index: &Index<'_>, lists: &Lists<'_>, report: &mut Report) {
    let mut updates: FastMap<(Key, usize), Read<'_>> = FastMap::default();
    for txn in index.counting() {
        let mut ground: FastMap<Key, Read<'_>> = FastMap::default();
        for read in index.reads_of(txn).filter(|read| lists.is_prefix(read)) {
            ground.entry(read.key).or_insert(read);
        }
        let mut writes: Vec<Key> =
            index.ops_of(txn).filter_map(|(_, key, op)| op.written().map(|_| key)).collect();
        writes.sort_unstable();
        writes.dedup();
        for read in writes.iter().filter_map(|key| ground.get(key)) {
            if let Some(other) = updates.insert((read.key, read.observed.len()), *read) {
                report_lost_update(index, &other, read, report);
            }
        }
    }
}

fn report_lost_update(index: &Index<'_>, a: &Read<'_>, b: &Read<'_>, report: &mut Report) {
    report.add(Class::LostUpdate, || {
        let (first, second) = (index.label(a.txn), index.label(b.txn));
        let (saw, key) = (saw(index.op(a.txn, a.op)), index.name(a.key));
        let line = format!("{first} and {second} both read {saw} and appended to {key}");
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
