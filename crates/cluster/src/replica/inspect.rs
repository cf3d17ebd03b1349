//! What tests and people may know of a replica.

use std::cmp::Reverse;

use base::{KeyRange, Timestamp};
use bytes::Bytes;
use raft::{Config, HardState, LogIndex, Position, Raft, ReplicaId, Role, Term};
use storage::memtable::Direction;
use storage::{Engine, Visit};

use super::Replica;
use super::snapshots::Versions;
use crate::state::RECORD;

impl Replica {
    /// Returns its id.
    pub fn id(&self) -> ReplicaId {
        self.options.id
    }

    /// Returns what it is.
    pub fn role(&self) -> Role {
        self.raft.role()
    }

    /// Returns the term it is in.
    pub fn term(&self) -> Term {
        self.raft.term()
    }

    /// Returns its term and vote.
    pub fn hard_state(&self) -> HardState {
        self.raft.hard_state()
    }

    /// Returns whom it takes for the leader.
    pub fn leader(&self) -> Option<ReplicaId> {
        self.raft.leader()
    }

    /// Returns up to where it knows entries to be committed.
    pub fn commit_index(&self) -> LogIndex {
        self.raft.commit_index()
    }

    /// Returns the last entry whose effects are in its state.
    pub fn applied(&self) -> Position {
        self.state.applied
    }

    /// Returns the newest timestamp that was written.
    pub fn last_timestamp(&self) -> Timestamp {
        self.state.last_ts
    }

    /// Returns the timestamp below which reads are refused.
    pub fn gc_timestamp(&self) -> Timestamp {
        self.state.gc_ts
    }

    /// Returns up to where the effects of entries are in tables.
    pub fn flushed_index(&self) -> LogIndex {
        self.flushed
    }

    /// Returns the configuration that is applied.
    pub fn config(&self) -> &Config {
        &self.state.config
    }

    /// Returns the term of an entry that is in its memory.
    pub fn term_at(&self, index: LogIndex) -> Option<Term> {
        let base = self.raft.base();
        if index == base.index {
            return Some(base.term);
        }
        self.raft.entry(index).map(|entry| entry.term)
    }

    /// Returns the protocol's part of it.
    pub fn raft(&self) -> &Raft {
        &self.raft
    }

    /// Returns the storage part of it.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Returns a hash of everything that has been applied: replicas with the same applied index
    /// have the same one (I-S2), whatever they flushed, compacted or were sent as an image. Reads
    /// everything. None while a replica that was just opened has not come to where a compaction
    /// of its former life had been told to forget.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn state_hash(&self) -> storage::Result<Option<u64>> {
        let mut hash = Hash(0xcbf2_9ce4_8422_2325);
        hash.bytes(&self.state.encode());
        let Some(versions) = self.versions()? else { return Ok(None) };
        for ((key, Reverse(ts)), value) in versions {
            hash.bytes(&key);
            hash.bytes(&ts.raw().to_le_bytes());
            hash.bytes(&[u8::from(value.is_some())]);
            hash.bytes(&value.unwrap_or_default());
        }
        Ok(Some(hash.0))
    }

    /// Returns all versions above the watermark, and those that are visible at it.
    fn versions(&self) -> storage::Result<Option<Versions>> {
        let range = KeyRange { start: Bytes::from_static(&[RECORD]), end: None };
        let mut versions = Versions::new();
        let Ok(pin) = self.engine.pin_at(self.state.gc_ts) else { return Ok(None) };
        pin.rows(range.clone(), Direction::Forward).visit(|key, ts, value| {
            let value = Some(Bytes::copy_from_slice(value));
            versions.insert((Bytes::copy_from_slice(key), Reverse(ts)), value);
            Visit::Next
        })?;
        pin.history(&range, pin.ts(), Timestamp::MAX, |key, ts, value| {
            let value = value.as_put().map(Bytes::copy_from_slice);
            versions.insert((Bytes::copy_from_slice(key), Reverse(ts)), value);
        })?;
        Ok(Some(versions))
    }

    /// # Panics
    /// If an invariant of the replica does not hold.
    pub fn check_invariants(&self) {
        if self.failure.is_some() {
            return;
        }
        let applied = self.state.applied.index;
        assert!(
            applied <= self.raft.commit_index() || cfg!(mutant = "applies_before_commit"),
            "only what is committed is applied"
        );
        assert!(self.flushed <= applied, "only what is applied is flushed");
        assert!(self.state.gc_ts <= self.state.last_ts, "the newest moment can be read");
        if let Some((first, _)) = self.positions.front() {
            assert_eq!(*first, applied.next(), "the log is known from the first unapplied entry");
        }
        self.check_in_flight();
    }
}

/// FNV-1a, over lengths and bytes.
struct Hash(u64);

impl Hash {
    fn bytes(&mut self, bytes: &[u8]) {
        let len = (bytes.len() as u64).to_le_bytes();
        for byte in len.iter().chain(bytes) {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}
