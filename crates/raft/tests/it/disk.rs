//! What one replica has durably: a log, a hard state and an image, and writes that are under way.

use std::collections::VecDeque;

use raft::{Config, Entry, HardState, LogIndex, Position, Recovered, SnapshotMeta, Stamp, Term};

use crate::chance::Chance;

#[derive(Debug, Clone)]
pub(crate) struct Write {
    pub(crate) cut_from: Option<LogIndex>,
    pub(crate) entries: Vec<Entry>,
    pub(crate) hard_state: Option<HardState>,
    pub(crate) stamp: Stamp,
}

#[derive(Debug, Clone)]
pub(crate) struct Disk {
    pub(crate) hard_state: HardState,
    pub(crate) entries: VecDeque<Entry>,
    pub(crate) image: SnapshotMeta,
    /// The digest of the state in the image.
    pub(crate) digest: u64,
    pub(crate) pending: VecDeque<Write>,
}

impl Disk {
    pub(crate) fn new(config: Config) -> Disk {
        let new = Recovered::new_group(config);
        Disk {
            hard_state: new.hard_state,
            entries: VecDeque::new(),
            image: new.image,
            digest: 0,
            pending: VecDeque::new(),
        }
    }

    pub(crate) fn recovered(&self) -> Recovered {
        Recovered {
            hard_state: self.hard_state,
            image: self.image.clone(),
            entries: self.entries.iter().cloned().collect(),
            commit: self.image.position.index,
        }
    }

    /// The oldest write becomes durable.
    pub(crate) fn complete_one(&mut self) -> Option<Stamp> {
        let write = self.pending.pop_front()?;
        self.cut(write.cut_from);
        self.put(write.hard_state, write.entries);
        Some(write.stamp)
    }

    /// Some of the writes under way happened, the next one in part, the others not.
    pub(crate) fn crash(&mut self, chance: &mut Chance) {
        let whole = chance.below(self.pending.len() as u64 + 1);
        for _ in 0..whole {
            self.complete_one();
        }
        if let Some(mut write) = self.pending.pop_front() {
            let steps = chance.below(write.entries.len() as u64 + 3);
            if steps > 0 {
                self.cut(write.cut_from);
            }
            if steps > 1 {
                write.entries.truncate(steps as usize - 2);
                self.put(write.hard_state, write.entries);
            }
        }
        self.pending.clear();
    }

    fn cut(&mut self, from: Option<LogIndex>) {
        if let Some(from) = from {
            while self.entries.back().is_some_and(|entry| entry.index >= from) {
                self.entries.pop_back();
            }
        }
    }

    fn put(&mut self, hard_state: Option<HardState>, entries: Vec<Entry>) {
        self.hard_state = hard_state.unwrap_or(self.hard_state);
        for entry in entries {
            if let Some(last) = self.entries.back() {
                assert_eq!(entry.index, last.index.next(), "writes leave no gap and no overlap");
            }
            self.entries.push_back(entry);
        }
    }

    /// The log is not needed up to there.
    pub(crate) fn compact(&mut self, upto: LogIndex) {
        while self.entries.len() > 1 && self.entries.front().is_some_and(|e| e.index <= upto) {
            self.entries.pop_front();
        }
    }

    /// Returns true if the effects of what stands at an index are durable here, with this term.
    pub(crate) fn has(&self, index: LogIndex, term: Option<Term>) -> bool {
        if index <= self.image.position.index {
            return true;
        }
        let Some(first) = self.entries.front() else { return false };
        let Some(slot) = index.0.checked_sub(first.index.0) else { return false };
        let entry = self.entries.get(slot as usize);
        entry.is_some_and(|entry| term.is_none_or(|term| entry.term == term))
    }

    pub(crate) fn set_image(&mut self, image: SnapshotMeta, digest: u64) {
        assert!(image.position.index >= self.image.position.index, "images only grow");
        self.image = image;
        self.digest = digest;
    }

    #[allow(dead_code, reason = "for traces")]
    pub(crate) fn last(&self) -> Position {
        self.entries.back().map_or(self.image.position, Entry::position)
    }
}
