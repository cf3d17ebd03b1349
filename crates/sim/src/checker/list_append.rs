//! Checks a history of list-append transactions.
//!
//! # Direct anomalies
//! What one read, or two reads of one key, prove without a graph: see `list_append/direct.rs`.
//!
//! # The order of versions
//! The longest read of a key shows the order of its appends; every other read has to be a prefix
//! of it. From there the dependencies follow:
//!
//! ```text
//! appends to x:        1 (T1)      2 (T2)      3 (T3)      4 (T4, seen by nobody)
//! longest read of x:  [1           2           3]
//!                      T1 --ww---> T2 --ww---> T3 --ww---> T4      each after the one before
//! T5 read x=[1 2]                  T2 -wr-> T5 -rw-> T3            after 2, before 3
//! T6 read x=[1 2 3]                            T3 -wr-> T6 -rw-> T4
//! ```
//!
//! In the last column, a committed append that no read saw comes after the longest read, since
//! that is a prefix of the whole order. So a write skew is found even if nobody looks at its
//! outcome.

mod direct;

use super::graph::{Builder, RW, WR, WW};
use super::hash::FastSet;
use super::index::{Index, Key, Read};
use super::{Options, Report, check_cycles};
use crate::history::{History, Op};

/// How many appends of a key that nobody read get edges. Each gets one from every reader of the
/// longest list, so that without a limit a key that is no longer read would cost their product.
const UNSEEN_APPENDS_MAX: usize = 32;

/// Checks what the transactions of a history appended and read; see the module.
///
/// Operations on registers are ignored.
pub fn check(history: &History, options: &Options) -> Report {
    let mut report = Report::new(options);
    let belongs = |op: &Op| matches!(op, Op::Append { .. } | Op::ReadList { .. });
    if let Some(index) = Index::new(history, belongs, &mut report) {
        let lists = Lists::new(&index);
        direct::check(&index, &lists, &mut report);
        let mut builder = Builder::new(history.transactions.len());
        lists.dependencies(&index, &mut builder);
        check_cycles(&index, builder, &mut report);
    }
    report.sort();
    report
}

/// The order of the appends to each key, as far as the reads show it.
struct Lists<'a> {
    /// Of each key the longest read, if it was read at all.
    longest: Vec<Option<Read<'a>>>,
    /// Of each key the appends that took place and that no read saw, by beginning.
    unseen: Vec<Vec<(u32, u32)>>,
}

impl<'a> Lists<'a> {
    fn new(index: &Index<'a>) -> Lists<'a> {
        let longest = index.longest_reads();
        let mut seen: FastSet<(Key, u64)> = FastSet::default();
        for read in longest.iter().flatten() {
            seen.extend(read.observed.iter().map(|element| (read.key, *element)));
        }
        let lists = Lists { longest, unseen: Vec::new() };
        for read in index.reads().filter(|read| !lists.is_prefix(read)) {
            seen.extend(read.observed.iter().map(|element| (read.key, *element)));
        }
        let mut unseen = vec![Vec::new(); index.keys.len()];
        for txn in index.counting() {
            for (o, key, op) in index.ops_of(txn) {
                if op.written().is_some_and(|element| !seen.contains(&(key, element))) {
                    unseen[key as usize].push((txn, o));
                }
            }
        }
        for appends in &mut unseen {
            appends.sort_by_key(|(txn, _)| index.txn(*txn).invoke);
        }
        Lists { unseen, ..lists }
    }

    /// Returns the longest read of a key as a list.
    fn order(&self, key: Key) -> &'a [u64] {
        self.longest[key as usize].map_or(&[], |read| read.observed)
    }

    /// Returns true if a read agrees with the longest one of its key.
    fn is_prefix(&self, read: &Read<'_>) -> bool {
        self.order(read.key).starts_with(read.observed)
    }

    fn dependencies(&self, index: &Index<'_>, builder: &mut Builder) {
        for key in 0..index.keys.len() as Key {
            let unseen = self.unseen[key as usize].iter().take(UNSEEN_APPENDS_MAX);
            let mut last: Option<u32> = None;
            let mut elements = FastSet::default();
            for element in self.order(key).iter().filter(|element| elements.insert(**element)) {
                let write = index.write(key, *element).filter(|write| index.counts(write.txn));
                if let Some(write) = write {
                    if let Some(last) = last {
                        builder.edge(last, write.txn, WW, write.op);
                    }
                    last = Some(write.txn);
                }
            }
            for (txn, op) in unseen {
                if let Some(last) = last {
                    builder.edge(last, *txn, WW, *op);
                }
            }
        }
        for read in index.reads().filter(|read| self.is_prefix(read)) {
            self.dependencies_of_read(index, &read, builder);
        }
    }

    fn dependencies_of_read(&self, index: &Index<'_>, read: &Read<'_>, builder: &mut Builder) {
        let writer = |element: &u64| {
            index.write(read.key, *element).map(|w| w.txn).filter(|t| index.counts(*t))
        };
        let (seen, missed) = self.order(read.key).split_at(read.observed.len());
        let last = seen.last().and_then(writer);
        if let Some(last) = last {
            builder.edge(last, read.txn, WR, read.op);
        }
        // If the last writer appended several, the ones missed are no anti-dependency: Adya counts
        // final versions only, and reading another is G1b.
        let next = missed.iter().filter_map(writer).find(|next| Some(*next) != last);
        if let Some(next) = next {
            builder.edge(read.txn, next, RW, read.op);
            return;
        }
        for (txn, _) in self.unseen[read.key as usize].iter().take(UNSEEN_APPENDS_MAX) {
            if Some(*txn) != last {
                builder.edge(read.txn, *txn, RW, read.op);
            }
        }
    }
}
