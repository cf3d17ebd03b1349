//! Checks a history against the timestamps that its database gave out.
//!
//! The other checkers ask whether *some* order explains what clients saw. A database that orders
//! its transactions by timestamps claims more: that *this* order does. That is easier to check,
//! finds a bug before it becomes visible as a cycle, and names the read that was wrong.
//!
//! ```text
//!  timestamp     10        11        12        13        14
//!                T1 wrote x          T2 wrote x
//!  T3:           |-read_ts=11--------------- commit_ts=14 -|
//!                     |                |
//!                     '- must see T1   '- T3 read x: its read holds no longer at 14 (read-overlap)
//!                        and not T2       T3 wrote x: the update of T2 is lost (write-overlap)
//! ```
//!
//! * **inexact-snapshot**: a read is not the state at `read_ts`, own writes on top.
//! * **write-overlap**: snapshot isolation forbids it (first committer wins).
//! * **read-overlap**: serializability by commit timestamp forbids it.
//! * **timestamp-order**: what ended before another began has to have the smaller timestamp.
//! * **timestamp-conflict**: two transactions wrote a key at one timestamp, or one committed
//!   no later than it read.
//!
//! What carries no timestamps is left out, and so are the elements of such transactions in the
//! reads of others. Leave the timestamps out of reads that were asked to be of the past: they are
//! meant to run against real time.

use super::explain::saw;
use super::hash::{FastMap, FastSet};
use super::index::{Index, Key, observed};
use super::report::Evidence;
use super::{Class, Options, Report};
use crate::history::{History, Op};

/// Checks reads, overlaps and the order in real time, lists and registers alike; see the module.
pub fn check(history: &History, options: &Options) -> Report {
    let mut report = Report::new(options);
    let belongs = |op: &Op| !matches!(op, Op::Cas { .. } | Op::Add { .. });
    if let Some(index) = Index::new(history, belongs, &mut report) {
        let timelines = Timelines::new(&index, &mut report);
        for txn in index.counting() {
            timelines.check_reads(&index, txn, &mut report);
            timelines.check_overlaps(&index, txn, &mut report);
        }
        check_real_time(&index, &mut report);
    }
    report.sort();
    report
}

/// The writes of one key in the order of their timestamps.
#[derive(Default)]
struct Timeline {
    /// Of each transaction that wrote the key: its timestamp, its number, and how long the list
    /// is after it (of a register, how many values were written).
    commits: Vec<(u64, u32, usize)>,
    values: Vec<u64>,
}

impl Timeline {
    /// Returns what was written up to a timestamp.
    fn until(&self, ts: u64) -> &[u64] {
        let commits = self.commits.partition_point(|(commit_ts, ..)| *commit_ts <= ts);
        &self.values[..commits.checked_sub(1).map_or(0, |last| self.commits[last].2)]
    }

    /// Returns a transaction other than `txn` that committed after `start` and before `end`.
    fn between(&self, start: u64, end: u64, txn: u32) -> Option<(u64, u32)> {
        let first = self.commits.partition_point(|(ts, ..)| *ts <= start);
        let commits = self.commits[first..].iter().take_while(|(ts, ..)| *ts < end);
        commits.map(|(ts, other, _)| (*ts, *other)).find(|(_, other)| *other != txn)
    }
}

struct Timelines {
    keys: Vec<Timeline>,
    /// The values whose transactions count and tell no commit timestamp.
    undated: FastSet<(Key, u64)>,
}

impl Timelines {
    fn new(index: &Index<'_>, report: &mut Report) -> Timelines {
        let mut keys: Vec<Timeline> = Vec::new();
        keys.resize_with(index.keys.len(), Timeline::default);
        let mut undated = FastSet::default();
        let mut dated: Vec<(u64, u32)> = Vec::new();
        for t in index.counting() {
            match index.txn(t).commit_ts {
                Some(ts) => dated.push((ts, t)),
                None => undated
                    .extend(index.ops_of(t).filter_map(|(_, key, op)| Some((key, op.written()?)))),
            }
        }
        dated.sort_unstable();
        for (ts, t) in dated {
            for (_, key, op) in index.ops_of(t) {
                let Some(value) = op.written() else { continue };
                let timeline = &mut keys[key as usize];
                timeline.values.push(value);
                let length = timeline.values.len();
                match timeline.commits.last_mut() {
                    Some((_, last, end)) if *last == t => *end = length,
                    last => {
                        if let Some((last_ts, other, _)) = last
                            && *last_ts == ts
                        {
                            report.add(Class::TimestampConflict, || {
                                let (a, b) = (index.label(*other), index.label(t));
                                let key = index.name(key);
                                Evidence::line(
                                    [a, b],
                                    format!("{a} and {b} both wrote {key} at {ts}"),
                                )
                            });
                        }
                        timeline.commits.push((ts, t, length));
                    }
                }
            }
        }
        Timelines { keys, undated }
    }

    fn check_reads(&self, index: &Index<'_>, t: u32, report: &mut Report) {
        let Some(read_ts) = index.txn(t).read_ts else { return };
        let mut own: FastMap<Key, Vec<u64>> = FastMap::default();
        for (_, key, op) in index.ops_of(t) {
            if let Some(value) = op.written() {
                own.entry(key).or_default().push(value);
                continue;
            }
            let Some(seen) = observed(op) else { continue };
            let own = own.get(&key).map_or(&[][..], Vec::as_slice);
            let state = self.keys[key as usize].until(read_ts);
            let is_list = matches!(op, Op::ReadList { .. });
            let is_exact = if is_list {
                // Lists differ from the state only by what has no place on the timeline.
                let rest = seen.strip_suffix(own);
                rest.is_some_and(|rest| {
                    rest == state || self.is_same_without_undated(key, rest, state)
                })
            } else {
                let expected = own.last().or(state.last());
                seen.first() == expected
                    || seen.first().is_some_and(|value| self.undated.contains(&(key, *value)))
            };
            if !is_exact {
                report.add(Class::InexactSnapshot, || {
                    let label = index.label(t);
                    let mut expected = if is_list { state.to_vec() } else { Vec::new() };
                    expected.extend(own);
                    if !is_list {
                        expected.extend(own.is_empty().then_some(state.last()).flatten());
                        expected.drain(..expected.len().saturating_sub(1));
                    }
                    let expected = if is_list {
                        saw(&Op::read_list(op.key(), expected))
                    } else {
                        saw(&Op::read(op.key(), expected.first().copied()))
                    };
                    let line =
                        format!("{label} read {}, and at {read_ts} it was {expected}", saw(op));
                    Evidence::line([label], line)
                });
            }
        }
    }

    fn is_same_without_undated(&self, key: Key, seen: &[u64], state: &[u64]) -> bool {
        !self.undated.is_empty()
            && seen.iter().filter(|value| !self.undated.contains(&(key, **value))).eq(state)
    }

    fn check_overlaps(&self, index: &Index<'_>, t: u32, report: &mut Report) {
        let (Some(read_ts), Some(commit_ts)) = (index.txn(t).read_ts, index.txn(t).commit_ts)
        else {
            return;
        };
        let has_written = index.ops_of(t).any(|(_, _, op)| op.written().is_some());
        let label = index.label(t);
        if has_written && commit_ts <= read_ts {
            report.add(Class::TimestampConflict, || {
                let line = format!("{label} read at {read_ts} and committed at {commit_ts}");
                Evidence::line([label], line)
            });
        }
        let mut reported = FastSet::default();
        for (_, key, op) in index.ops_of(t) {
            let (class, verb) = match op.written() {
                Some(_) => (Class::WriteOverlap, "wrote"),
                None => (Class::ReadOverlap, "read"),
            };
            // A read of what it wrote itself says nothing about others.
            let other = self.keys[key as usize].between(read_ts, commit_ts, t);
            if let Some((ts, other)) = other
                && has_written
                && reported.insert((key, class))
            {
                report.add(class, || {
                    let (other, key) = (index.label(other), index.name(key));
                    let line = format!(
                        "{label}, from {read_ts} to {commit_ts}, {verb} {key}, \
                         and {other} wrote it at {ts}"
                    );
                    Evidence::line([label, other], line)
                });
            }
        }
    }
}

/// Compares each transaction, as it begins, with the latest timestamp of those that have ended.
fn check_real_time(index: &Index<'_>, report: &mut Report) {
    let is_serializable = report.level().is_serializable();
    // Where a transaction stands for those that come after it.
    let point = |t: u32| index.txn(t).commit_ts.or(index.txn(t).read_ts);
    let mut begins: Vec<u32> = index.counting().collect();
    let mut ends: Vec<(u64, u32)> =
        begins.iter().filter_map(|t| Some((index.txn(*t).complete?, *t))).collect();
    begins.sort_by_key(|t| index.txn(*t).invoke);
    ends.sort_unstable();
    let mut ends = ends.into_iter().peekable();
    let mut latest: Option<(u64, u32)> = None;
    for t in begins {
        let txn = index.txn(t);
        while let Some((_, ended)) = ends.next_if(|(complete, _)| *complete < txn.invoke) {
            latest = latest.max(point(ended).map(|ts| (ts, ended)));
        }
        // A snapshot is taken at `read_ts`. A serializable transaction takes place at `commit_ts`:
        // that it read earlier is no matter, as long as nothing it read was written over since.
        let (ts, must_exceed) = match (txn.read_ts, txn.commit_ts) {
            (Some(read_ts), None) => (read_ts, false),
            (Some(read_ts), Some(_)) if !is_serializable => (read_ts, false),
            (_, Some(commit_ts)) => (commit_ts, true),
            (None, None) => continue,
        };
        if let Some((before, earlier)) = latest
            && (before > ts || (must_exceed && before == ts))
        {
            report.add(Class::TimestampOrder, || {
                let (a, b) = (index.label(earlier), index.label(t));
                let line = format!("{a} at {before} ended, and then {b} at {ts} began");
                Evidence::line([a, b], line)
            });
        }
    }
}
