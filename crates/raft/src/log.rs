//! The log as the replica sees it: what is in memory of it, and how much of that is durable.
//!
//! ```text
//!        base                 durable          handed            last
//!   ------+--------------------+----------------+-----------------+
//!   image | entries in memory, durable          | being written   | to be written in this step
//! ```
//!
//! # Invariants
//! * `base ≤ durable ≤ handed ≤ last`; entries stand without gaps between base and last.
//! * Terms never fall along the log.
//! * What is up to `durable` is on this replica's disk as it is here.
//!
//! # Not here
//! Entries that are on disk but not in memory. What a slow follower may still need is kept in
//! memory until the driver compacts it; below that it gets an image of the state.

use std::collections::VecDeque;

use crate::{Entry, LogIndex, Position, Term};

#[derive(Debug, Clone)]
pub(crate) struct Log {
    /// The last entry that is not here any more; its effects are in a durable image of the state.
    base: Position,
    entries: VecDeque<Entry>,
    /// The leader's term from whom the last entries were accepted; see [`crate::Stamp`].
    accepted_term: Term,
    durable: LogIndex,
    /// What the driver has been given to write.
    handed: LogIndex,
    /// Where the driver must cut its log before it writes, since it was last given something.
    cut_from: Option<LogIndex>,
}

impl Log {
    /// Returns a log of which everything is durable.
    ///
    /// Its accepted term is that of its last entry. The leader from whom it was accepted may have
    /// had a later one, but who could replace anything in it has a later one than its last entry
    /// too; and there is nothing in flight that could be mistaken.
    ///
    /// `is_anew`: what is on the disk is another log, which has to go before anything is written.
    pub(crate) fn new(base: Position, entries: VecDeque<Entry>, is_anew: bool) -> Log {
        let last = entries.back().map_or(base, Entry::position);
        Log {
            base,
            entries,
            accepted_term: last.term,
            durable: last.index,
            handed: last.index,
            cut_from: is_anew.then_some(LogIndex(1)),
        }
    }

    pub(crate) fn base(&self) -> Position {
        self.base
    }

    pub(crate) fn last(&self) -> Position {
        self.entries.back().map_or(self.base, Entry::position)
    }

    pub(crate) fn last_index(&self) -> LogIndex {
        LogIndex(self.base.index.0 + self.entries.len() as u64)
    }

    pub(crate) fn durable(&self) -> LogIndex {
        self.durable
    }

    pub(crate) fn accepted_term(&self) -> Term {
        self.accepted_term
    }

    fn slot(&self, index: LogIndex) -> Option<usize> {
        usize::try_from(index.0.checked_sub(self.base.index.0 + 1)?).ok()
    }

    pub(crate) fn entry(&self, index: LogIndex) -> Option<&Entry> {
        self.entries.get(self.slot(index)?)
    }

    /// Returns the term of an entry, the base included; none if it is below the base or past the
    /// end.
    pub(crate) fn term_at(&self, index: LogIndex) -> Option<Term> {
        if index == self.base.index {
            return Some(self.base.term);
        }
        self.entry(index).map(|entry| entry.term)
    }

    /// Returns the entries from an index to the end.
    pub(crate) fn from(&self, index: LogIndex) -> impl Iterator<Item = &Entry> {
        let start = self.slot(index).unwrap_or(0).min(self.entries.len());
        self.entries.range(start..)
    }

    /// Returns the last index at or below a given one whose term is at most `term`.
    pub(crate) fn last_with_term_at_most(&self, term: Term, upto: LogIndex) -> LogIndex {
        let upto = upto.min(self.last_index());
        // Terms never fall along the log.
        let end = self.slot(upto).map_or(0, |slot| slot + 1);
        let (a, b) = self.entries.as_slices();
        let count = if a.last().is_some_and(|entry| entry.term <= term) {
            a.len() + b.partition_point(|entry| entry.term <= term)
        } else {
            a.partition_point(|entry| entry.term <= term)
        };
        LogIndex(self.base.index.0 + count.min(end) as u64)
    }

    /// Appends an entry accepted from the leader of a term.
    pub(crate) fn append(&mut self, accepted_term: Term, entry: Entry) {
        debug_assert_eq!(entry.index, self.last_index().next(), "entries stand without gaps");
        self.accepted_term = accepted_term;
        self.entries.push_back(entry);
    }

    /// Removes entries from an index on.
    pub(crate) fn truncate_from(&mut self, index: LogIndex) {
        let keep = self.slot(index).unwrap_or(0).min(self.entries.len());
        self.entries.truncate(keep);
        let last = self.last_index();
        if self.handed > last {
            self.handed = last;
            self.cut_from = Some(self.cut_from.map_or(index, |cut| cut.min(index)));
        }
        if !cfg!(mutant = "durable_survives_truncation") {
            self.durable = self.durable.min(last);
        } else {
            self.handed = self.handed.max(self.durable.min(last));
        }
    }

    /// Forgets entries up to one whose effects are durable elsewhere.
    pub(crate) fn compact(&mut self, upto: LogIndex) {
        let Some(term) = self.term_at(upto) else { return };
        let count = (upto.0 - self.base.index.0) as usize;
        self.entries.drain(..count);
        self.base = Position { term, index: upto };
        self.durable = self.durable.max(upto);
        self.handed = self.handed.max(upto);
    }

    /// Begins anew behind an image of the state that was installed in the given term.
    pub(crate) fn reset(&mut self, base: Position, current_term: Term) {
        self.entries.clear();
        self.base = base;
        self.durable = base.index;
        self.handed = base.index;
        // All of it: what lies before the image would not join what comes behind it.
        self.cut_from = Some(LogIndex(1));
        // What is in flight was accepted in an older term: a log that was accepted in this one
        // would have matched the image.
        self.accepted_term = current_term;
    }

    /// Takes note that a write is durable. Returns true if more is durable than before.
    pub(crate) fn persisted(&mut self, accepted_term: Term, index: LogIndex) -> bool {
        // A write from before the log was last accepted from another leader. Its index may stand
        // for another entry by now; the write that came after it will be reported too.
        if accepted_term != self.accepted_term && !cfg!(mutant = "persisted_by_index_alone") {
            return false;
        }
        let upto = index.min(self.handed);
        let grows = upto > self.durable;
        self.durable = self.durable.max(upto);
        grows
    }

    /// Takes note that the state is durable up to an index, and so as good as the entries.
    pub(crate) fn covered_by_image(&mut self, index: LogIndex) {
        self.durable = self.durable.max(index.min(self.last_index()));
        self.handed = self.handed.max(self.durable);
    }

    /// Returns what the driver has to cut and to write since it was last asked.
    pub(crate) fn take_unwritten(&mut self) -> Option<(Option<LogIndex>, Vec<Entry>)> {
        let last = self.last_index();
        if self.handed == last && self.cut_from.is_none() {
            return None;
        }
        let entries = self.from(self.handed.next()).cloned().collect();
        self.handed = last;
        Some((self.cut_from.take(), entries))
    }

    /// # Panics
    /// If an invariant of the header does not hold.
    pub(crate) fn check_invariants(&self) {
        let last = self.last_index();
        assert!(self.base.index <= self.durable, "the image is durable: {self:?}");
        assert!(self.durable <= self.handed, "only what was handed out is durable: {self:?}");
        assert!(self.handed <= last, "only what there is was handed out: {self:?}");
        assert!(self.last().term <= self.accepted_term.max(self.base.term), "{self:?}");
    }

    /// Checks each entry; slower than the other one.
    pub(crate) fn check_entries(&self) {
        let mut before = self.base;
        for entry in &self.entries {
            assert_eq!(entry.index, before.index.next(), "entries stand without gaps");
            assert!(entry.term >= before.term, "terms never fall along the log");
            before = entry.position();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Payload;

    fn log(terms: &[u64]) -> Log {
        let mut log = Log::new(Position::default(), VecDeque::new(), false);
        for &term in terms {
            let index = log.last_index().next();
            log.append(Term(term), Entry { term: Term(term), index, payload: Payload::Empty });
        }
        log
    }

    #[test]
    fn hints_find_the_ends_of_terms() {
        let mut log = log(&[1, 1, 2, 4, 4, 4]);
        assert_eq!(log.last_with_term_at_most(Term(3), LogIndex(9)), LogIndex(3));
        assert_eq!(log.last_with_term_at_most(Term(4), LogIndex(5)), LogIndex(5));
        assert_eq!(log.last_with_term_at_most(Term(0), LogIndex(5)), LogIndex(0));
        let _ = log.take_unwritten();
        log.compact(LogIndex(2));
        assert_eq!(log.last_with_term_at_most(Term(1), LogIndex(5)), LogIndex(2));
    }

    #[test]
    fn an_old_write_is_not_taken_for_a_new_one() {
        let mut log = log(&[1, 2, 2, 2]);
        assert_eq!(log.take_unwritten().unwrap().1.len(), 4);
        log.truncate_from(LogIndex(3));
        for index in [3, 4] {
            let index = LogIndex(index);
            log.append(Term(3), Entry { term: Term(3), index, payload: Payload::Empty });
        }
        let (cut, entries) = log.take_unwritten().unwrap();
        assert_eq!((cut, entries.len()), (Some(LogIndex(3)), 2));
        assert!(!log.persisted(Term(2), LogIndex(4)), "the write of term 2");
        assert_eq!(log.durable(), LogIndex(0));
        assert!(log.persisted(Term(3), LogIndex(4)));
        assert_eq!(log.durable(), LogIndex(4));
        log.check_invariants();
        log.check_entries();
    }
}
