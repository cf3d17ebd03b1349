//! A history with its keys numbered and its writes looked up: who wrote what, and who counts.
//!
//! # Who counts
//! A committed transaction does, an aborted one does not. One whose outcome is unknown counts once
//! a transaction that counts has read what it wrote, since it must have committed for that. Until
//! then nothing is held for or against it.
//!
//! ```text
//! T1 committed: read x [1 2]         counts
//! T2 unknown:   append x 2; read y [7]   counts, for T1 read its 2
//! T3 unknown:   append y 7           counts, for T2 counts and read its 7
//! T4 unknown:   append x 3           does not, for nobody saw the 3
//! ```

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::hash::FastMap;
use super::{Class, Report, report::Evidence};
use crate::history::text::Name;
use crate::history::{History, Op, Outcome, Transaction};

/// The number of a key.
pub(super) type Key = u32;

/// The key of operations that belong to another workload.
const OTHER_WORKLOAD: Key = Key::MAX;

/// Where an element or a value was written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Write {
    pub(super) txn: u32,
    pub(super) op: u32,
    /// Whether it is the last write of its transaction to its key, the one that others may see.
    pub(super) is_final: bool,
}

/// What a read of a transaction that counts saw of *others*.
///
/// A list ends with what the reader itself has appended so far, and that is cut off: where its
/// appends come to stand among those of others is decided when it commits. A register that the
/// reader has written shows nothing of others, and such a read is left out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Read<'a> {
    pub(super) txn: u32,
    pub(super) op: u32,
    pub(super) key: Key,
    /// The list; of a register, its value as a list of at most one.
    pub(super) observed: &'a [u64],
}

/// See the module.
pub(super) struct Index<'a> {
    pub(super) history: &'a History,
    pub(super) keys: Vec<&'a str>,
    op_keys: Vec<Vec<Key>>,
    writes: FastMap<(Key, u64), Write>,
    counts: Vec<bool>,
}

/// Returns what a read saw, or `None` for a write.
pub(super) fn observed(op: &Op) -> Option<&[u64]> {
    match op {
        Op::ReadList { observed, .. } => Some(observed),
        Op::Read { value, .. } => Some(value.as_slice()),
        Op::Append { .. } | Op::Write { .. } | Op::Cas { .. } | Op::Add { .. } => None,
    }
}

impl<'a> Index<'a> {
    /// Indexes the operations of one workload, the ones that `belongs` accepts.
    ///
    /// Returns `None`, and says so in the report, if an element was written twice: then no read of
    /// it tells which transaction it saw, and the history proves nothing.
    pub(super) fn new(
        history: &'a History,
        belongs: impl Fn(&Op) -> bool,
        report: &mut Report,
    ) -> Option<Index<'a>> {
        let mut numbers: HashMap<&str, Key> = HashMap::new();
        let mut index = Index {
            history,
            keys: Vec::new(),
            op_keys: Vec::with_capacity(history.transactions.len()),
            writes: FastMap::default(),
            counts: history.transactions.iter().map(|t| t.outcome == Outcome::Committed).collect(),
        };
        for (t, txn) in history.transactions.iter().enumerate() {
            let keys = txn.ops.iter().map(|op| {
                if !belongs(op) {
                    return OTHER_WORKLOAD;
                }
                *numbers.entry(op.key()).or_insert_with(|| {
                    index.keys.push(op.key());
                    index.keys.len() as Key - 1
                })
            });
            let keys: Vec<Key> = keys.collect();
            for (o, op) in txn.ops.iter().enumerate() {
                let (key, Some(value)) = (keys[o], op.written()) else { continue };
                if key == OTHER_WORKLOAD {
                    continue;
                }
                let is_final =
                    !(o + 1..keys.len()).any(|n| keys[n] == key && txn.ops[n].written().is_some());
                let write = Write { txn: t as u32, op: o as u32, is_final };
                match index.writes.entry((key, value)) {
                    Entry::Vacant(entry) => drop(entry.insert(write)),
                    Entry::Occupied(entry) => report.add(Class::AmbiguousWrite, || {
                        let first = &history.transactions[entry.get().txn as usize].label;
                        let (second, name) = (&txn.label, Name(op.key()));
                        Evidence::line(
                            [first.as_str(), second],
                            format!("{first} and {second} both wrote {value} to {name}"),
                        )
                    }),
                }
            }
            index.op_keys.push(keys);
        }
        index.count_unknowns();
        (report.count(Class::AmbiguousWrite) == 0).then_some(index)
    }

    /// Makes each unknown transaction count whose write was read by one that counts.
    fn count_unknowns(&mut self) {
        if self.history.transactions.iter().all(|txn| txn.outcome != Outcome::Unknown) {
            return;
        }
        // Nearly all reads of a key are prefixes of its longest one, so that looking up the
        // elements of that one and comparing the others with it saves almost all the look-ups.
        // Each round but the last makes one more count, and there are few rounds in practice.
        loop {
            let longest = self.longest_reads();
            let mut seen: Vec<u32> = Vec::new();
            for read in longest.iter().flatten() {
                seen.extend(self.unknown_writers(read));
            }
            for read in self.reads() {
                if !longest[read.key as usize]
                    .is_some_and(|l| l.observed.starts_with(read.observed))
                {
                    seen.extend(self.unknown_writers(&read));
                }
            }
            if seen.is_empty() {
                return;
            }
            for txn in seen {
                self.counts[txn as usize] = true;
            }
        }
    }

    fn unknown_writers(&self, read: &Read<'_>) -> impl Iterator<Item = u32> {
        let writers = read.observed.iter().filter_map(|value| self.write(read.key, *value));
        writers
            .map(|write| write.txn)
            .filter(|txn| !self.counts[*txn as usize] && self.txn(*txn).outcome == Outcome::Unknown)
    }

    /// Returns the longest read of each key, the first of equals.
    pub(super) fn longest_reads(&self) -> Vec<Option<Read<'a>>> {
        let mut longest: Vec<Option<Read<'a>>> = vec![None; self.keys.len()];
        for read in self.reads() {
            let slot = &mut longest[read.key as usize];
            if slot.is_none_or(|longest| longest.observed.len() < read.observed.len()) {
                *slot = Some(read);
            }
        }
        longest
    }

    /// Returns the reads of all transactions that count, in the order of the history.
    pub(super) fn reads(&self) -> impl Iterator<Item = Read<'a>> {
        self.counting().flat_map(|t| self.reads_of(t))
    }

    /// Returns the reads of one transaction in program order.
    pub(super) fn reads_of(&self, t: u32) -> impl Iterator<Item = Read<'a>> {
        self.ops_of(t).filter_map(move |(o, key, op)| {
            let observed = observed(op)?;
            let mut own = self.own_writes_before(t, o, key).peekable();
            let observed = match op {
                Op::Read { .. } if own.peek().is_some() => return None,
                _ if own.peek().is_none() => observed,
                _ => {
                    let own: Vec<u64> = own.collect();
                    observed.strip_suffix(own.as_slice()).unwrap_or(observed)
                }
            };
            Some(Read { txn: t, op: o, key, observed })
        })
    }

    /// Returns what a transaction had written to a key before one of its operations.
    fn own_writes_before(&self, t: u32, o: u32, key: Key) -> impl Iterator<Item = u64> {
        let keys = &self.op_keys[t as usize][..o as usize];
        let writes = self.txn(t).ops.iter().zip(keys).filter(move |(_, k)| **k == key);
        writes.filter_map(|(op, _)| op.written())
    }

    /// Returns the operations of a transaction that belong to the workload.
    pub(super) fn ops_of(&self, t: u32) -> impl Iterator<Item = (u32, Key, &'a Op)> {
        let keys = self.op_keys[t as usize].iter();
        let ops = self.txn(t).ops.iter().zip(keys).enumerate();
        ops.filter(|(_, (_, key))| **key != OTHER_WORKLOAD)
            .map(|(o, (op, key))| (o as u32, *key, op))
    }

    /// Returns the transactions that count.
    pub(super) fn counting(&self) -> impl Iterator<Item = u32> {
        (0..self.counts.len() as u32).filter(|t| self.counts(*t))
    }

    /// Returns true if the transaction is held to have committed.
    pub(super) fn counts(&self, t: u32) -> bool {
        self.counts[t as usize]
    }

    /// Returns where a value was written, if anybody did.
    pub(super) fn write(&self, key: Key, value: u64) -> Option<Write> {
        self.writes.get(&(key, value)).copied()
    }

    /// Returns the transaction with a number.
    pub(super) fn txn(&self, t: u32) -> &'a Transaction {
        &self.history.transactions[t as usize]
    }

    /// Returns the operation of a transaction.
    pub(super) fn op(&self, t: u32, o: u32) -> &'a Op {
        &self.txn(t).ops[o as usize]
    }

    /// Returns the label of a transaction.
    pub(super) fn label(&self, t: u32) -> &'a str {
        &self.txn(t).label
    }

    /// Returns the name of a key as it is printed.
    pub(super) fn name(&self, key: Key) -> Name<'a> {
        Name(self.keys[key as usize])
    }
}
