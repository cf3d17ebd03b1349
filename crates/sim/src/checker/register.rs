//! Checks a history of transactions that read and write registers.
//!
//! A read of a register shows one write and not those before it, so the order of writes has to
//! come from elsewhere. Three sources are used, key by key:
//!
//! * **Commit timestamps**, if every transaction that wrote the key recorded its own. Then the
//!   order is complete, and the check is as sharp as that of list-append. It trusts the timestamps:
//!   where they are wrong, it reports cycles that are theirs.
//! * **Writes that follow reads** otherwise, as in Elle. A transaction that read 1 and then wrote 2
//!   put 2 after 1; and every value comes after none at all.
//!
//! ```text
//! T1 read x=nil, wrote 1      T2 read x=1, wrote 2      T3 wrote 3       T4 read x=1
//!
//!              nil ---> 1 ---> 2           T4 -rw-> T2: 2 comes after 1.
//!               '-----> 3                  T4 and T3: unknown, 3 may come before 1.
//! ```
//!
//! * **Time**, for the levels that promise it. If anybody had written or read 1 and ended before
//!   the transaction began that wrote 2, then 2 comes after 1 in every order that agrees with real
//!   time.
//!   A cycle through such an edge is one of real time (or of the session, where one session did
//!   both), and violates no level that does not promise that order. Elle takes these orders for
//!   granted if told to; here they are part of what is checked.
//!
//! ```text
//! T1 wrote 1 |---|
//! T2 wrote 2        |---|                 2 comes after 1 in real time: T3 -rw-> T2,
//! T3 read 1                 |---|         and T2 -realtime-> T3, a cycle
//! ```
//!
//! # Not here
//! That of two concurrent writes, one must be the last for all later reads: the checker of
//! [linearizability](super::linearizable) sees that.

use super::explain::saw;
use super::graph::{Builder, RW, WR, WW};
use super::hash::{FastMap, FastSet};
use super::index::{Index, Key, Read};
use super::reads::{Flaws, check_intermediate};
use super::report::Evidence;
use super::{Class, Options, Order, Report, check_cycles, check_cycles_through};
use crate::history::{History, Op, Position};

/// How many writes known to follow one value get edges from each reader of that value. Without a
/// limit, a key that many wrote blindly would cost its readers times its writers.
const SUCCESSORS_MAX: usize = 32;

/// Checks what the transactions of a history wrote to registers and read from them; see the module.
///
/// Operations on lists are ignored.
pub fn check(history: &History, options: &Options) -> Report {
    let mut report = Report::new(options);
    let belongs = |op: &Op| matches!(op, Op::Write { .. } | Op::Read { .. });
    if let Some(index) = Index::new(history, belongs, &mut report) {
        for txn in index.counting() {
            check_inside(&index, txn, &mut report);
        }
        for read in index.reads() {
            Flaws::of(&index, read.key, read.observed).report(&index, &read, &mut report);
            check_intermediate(&index, &read, &mut report);
        }
        let successors = Successors::new(&index, &mut report);
        let mut builder = Builder::new(history.transactions.len());
        successors.dependencies(&index, &mut builder);
        // Another pass for each order, so that a cycle tells which order it needs.
        let mut known = builder.pairs(RW);
        check_cycles(&index, builder, &mut report);
        for order in [Order::Process, Order::RealTime] {
            let mut builder = Builder::new(history.transactions.len());
            successors.dependencies(&index, &mut builder);
            let inferred = infer(&index, order, &known, &mut builder);
            if !inferred.is_empty() {
                known.extend(inferred.keys());
                check_cycles_through(&index, builder, order, &inferred, &mut report);
            }
        }
    }
    report.sort();
    report
}

/// A transaction must read its own last write, and a value read before again.
fn check_inside(index: &Index<'_>, txn: u32, report: &mut Report) {
    let mut known: FastMap<Key, &Op> = FastMap::default();
    let label = index.label(txn);
    for (_, key, op) in index.ops_of(txn) {
        let before = known.insert(key, op);
        match (before, op) {
            (Some(Op::Write { value: own, .. }), Op::Read { value, .. })
                if *value != Some(*own) =>
            {
                report.add(Class::Internal, || {
                    let line = format!(
                        "{label} wrote {own} to {}, then read {}",
                        index.name(key),
                        saw(op)
                    );
                    Evidence::line([label], line)
                });
            }
            (Some(first @ Op::Read { value: expected, .. }), Op::Read { value, .. })
                if value != expected =>
            {
                report.add(Class::NonRepeatableRead, || {
                    let line = format!("{label} read {} and then {}", saw(first), saw(op));
                    Evidence::line([label], line)
                });
            }
            _ => {}
        }
    }
}

/// A write that others may see: the last one of its transaction to its key.
#[derive(Clone, Copy)]
struct Final {
    txn: u32,
    op: u32,
}

/// Which writes are known to follow a value: of commit timestamps the next one, else all that were
/// made by a transaction that had read it.
struct Successors(FastMap<(Key, Option<u64>), Vec<Final>>);

impl Successors {
    fn new(index: &Index<'_>, report: &mut Report) -> Successors {
        let mut finals: Vec<Vec<(Final, u64)>> = vec![Vec::new(); index.keys.len()];
        let mut updates: FastMap<(Key, Option<u64>), Vec<Final>> = FastMap::default();
        for txn in index.counting() {
            let mut ground: FastMap<Key, Read<'_>> = FastMap::default();
            let mut written: FastMap<Key, (Final, u64)> = FastMap::default();
            for (op, key, operation) in index.ops_of(txn) {
                if let Some(value) = operation.written() {
                    written.insert(key, (Final { txn, op }, value));
                } else if let Some(observed) = super::index::observed(operation)
                    && !written.contains_key(&key)
                {
                    ground.entry(key).or_insert(Read { txn, op, key, observed });
                }
            }
            let mut written: Vec<_> = written.into_iter().collect();
            written.sort_unstable_by_key(|(key, _)| *key);
            for (key, (write, value)) in written {
                finals[key as usize].push((write, value));
                if let Some(read) = ground.get(&key) {
                    let others = updates.entry((key, read.observed.first().copied())).or_default();
                    if let Some(other) = others.last() {
                        report_lost_update(index, read, other.txn, report);
                    }
                    others.push(write);
                }
            }
        }
        for (key, writes) in finals.iter_mut().enumerate() {
            add_unread(index, key as Key, writes, &mut updates);
        }
        Successors(updates)
    }

    fn dependencies(&self, index: &Index<'_>, builder: &mut Builder) {
        let writer = |key: Key, value: u64| {
            index.write(key, value).map(|w| w.txn).filter(|t| index.counts(*t))
        };
        for ((key, value), successors) in &self.0 {
            if let Some(writer) = value.and_then(|value| writer(*key, value)) {
                for next in successors {
                    builder.edge(writer, next.txn, WW, next.op);
                }
            }
        }
        for read in index.reads() {
            let value = read.observed.first().copied();
            let last = value.and_then(|value| writer(read.key, value));
            if let Some(last) = last {
                builder.edge(last, read.txn, WR, read.op);
            }
            let successors = self.0.get(&(read.key, value)).into_iter().flatten();
            for next in successors.filter(|n| Some(n.txn) != last).take(SUCCESSORS_MAX) {
                builder.edge(read.txn, next.txn, RW, read.op);
            }
        }
    }
}

/// Adds what is known of the order beyond the writes that follow reads.
fn add_unread(
    index: &Index<'_>,
    key: Key,
    writes: &mut [(Final, u64)],
    successors: &mut FastMap<(Key, Option<u64>), Vec<Final>>,
) {
    let ts = |write: &Final| index.txn(write.txn).commit_ts;
    if writes.iter().all(|(write, _)| ts(write).is_some()) {
        // The timestamps give all of the order; what reads say about it is in the other edges.
        writes.sort_by_key(|(write, _)| ts(write));
        let mut previous = None;
        for (write, value) in writes {
            successors.insert((key, previous), vec![*write]);
            previous = Some(*value);
        }
        successors.remove(&(key, previous));
        return;
    }
    // Every value comes after none. Those that follow another value are found through that one.
    let first = successors.entry((key, None)).or_default();
    for (write, _) in writes {
        let is_update = index.txn(write.txn).ops.iter().any(|op| {
            op.key() == index.keys[key as usize] && matches!(op, Op::Read { value: Some(_), .. })
        });
        if !is_update && !first.iter().any(|other| other.txn == write.txn) {
            first.push(*write);
        }
    }
}

fn report_lost_update(index: &Index<'_>, read: &Read<'_>, other: u32, report: &mut Report) {
    report.add(Class::LostUpdate, || {
        let (first, second) = (index.label(other), index.label(read.txn));
        let (saw, key) = (saw(index.op(read.txn, read.op)), index.name(read.key));
        let line = format!("{first} and {second} both read {saw} and then wrote to {key}");
        Evidence::line([first, second], line)
    });
}

/// What a key has seen in one session, or in all of them.
#[derive(Default)]
struct Seen {
    /// Of each value the first end of a transaction that had written or read it, and which that is.
    values: FastMap<u64, (Position, u32)>,
    /// The final writes.
    writes: Vec<Final>,
}

/// Adds the anti-dependencies that follow from an order in time between the writes of a key, where
/// commit timestamps do not tell it; and says why for each.
fn infer(
    index: &Index<'_>,
    order: Order,
    known: &FastSet<(u32, u32)>,
    builder: &mut Builder,
) -> FastMap<(u32, u32), String> {
    let scope = |txn: u32| if order == Order::Process { index.txn(txn).session } else { 0 };
    let mut seen: FastMap<(Key, u64), Seen> = FastMap::default();
    let mut dated: Vec<bool> = vec![true; index.keys.len()];
    for txn in index.counting() {
        let complete = index.txn(txn).complete;
        let mut last: FastMap<Key, (u32, u64)> = FastMap::default();
        let mut values: Vec<(Key, u64)> = Vec::new();
        for (op, key, operation) in index.ops_of(txn) {
            if let Some(value) = operation.written() {
                last.insert(key, (op, value));
                dated[key as usize] &= index.txn(txn).commit_ts.is_some();
            }
        }
        for read in index.reads_of(txn) {
            values.extend(read.observed.first().map(|value| (read.key, *value)));
        }
        for (key, (op, value)) in last {
            seen.entry((key, scope(txn))).or_default().writes.push(Final { txn, op });
            values.push((key, value));
        }
        let Some(complete) = complete else { continue };
        for (key, value) in values {
            let seen = &mut seen.entry((key, scope(txn))).or_default().values;
            let first = seen.entry(value).or_insert((complete, txn));
            *first = (complete, txn).min(*first);
        }
    }
    for seen in seen.values_mut() {
        seen.writes.sort_by_key(|write| (index.txn(write.txn).invoke, write.txn));
    }
    let mut reasons = FastMap::default();
    // Each read may have been proved old in any of the sessions, or by anybody.
    let mut readers: FastMap<(Key, u64), Vec<Read<'_>>> = FastMap::default();
    for read in index.reads().filter(|read| !dated[read.key as usize]) {
        if let Some(value) = read.observed.first() {
            readers.entry((read.key, *value)).or_default().push(read);
        }
    }
    let mut seen: Vec<_> = seen.into_iter().collect();
    seen.sort_unstable_by_key(|(at, _)| *at);
    for ((key, _), seen) in seen {
        for (value, (end, witness)) in &seen.values {
            let Some(readers) = readers.get(&(key, *value)) else { continue };
            let writer = index.write(key, *value).map(|write| write.txn);
            for next in followers(index, &seen.writes, *end) {
                if Some(next.txn) == writer || next.txn == *witness {
                    continue;
                }
                for read in readers
                    .iter()
                    .filter(|read| read.txn != next.txn && !known.contains(&(read.txn, next.txn)))
                {
                    builder.edge(read.txn, next.txn, RW, read.op);
                    reasons.entry((read.txn, next.txn)).or_insert_with(|| {
                        let (old, new) = (index.label(*witness), index.label(next.txn));
                        let begun = index.txn(next.txn).invoke;
                        format!(
                            "{old} knew {}={value} and ended at {end}, before {new} began at \
                             {begun}",
                            index.name(key)
                        )
                    });
                }
            }
        }
    }
    reasons
}

/// Returns the writes that began after a position, without those that others of them precede.
fn followers<'a>(
    index: &'a Index<'_>,
    writes: &'a [Final],
    end: Position,
) -> impl Iterator<Item = Final> + 'a {
    let first = writes.partition_point(|write| index.txn(write.txn).invoke <= end);
    let mut until = Position::MAX;
    let next = writes[first..].iter().take_while(move |write| {
        let txn = index.txn(write.txn);
        let is_next = txn.invoke <= until;
        until = until.min(txn.complete.unwrap_or(Position::MAX));
        is_next
    });
    next.copied().take(SUCCESSORS_MAX)
}
