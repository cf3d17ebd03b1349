//! Feeds of committed changes, in commit order.
//!
//! ```text
//!              after            registered at W
//!   commits ─────┼──c1────c2───────┼──c3────c4───►
//!                '── read from the ┘└─ handed over as they become visible
//!                    history
//! ```
//!
//! A feed that starts in the past first reads the versions between there and now from the memtable,
//! sorted by timestamp, and then takes commits as they become visible. Its reader may be slow: what
//! waits for it is bounded, and beyond the bound it is sent back to the history, which a pin
//! keeps from being trimmed. So nothing is lost, and nothing grows without bound but the history
//! that the reader still wants.
//!
//! The pin is moved up before garbage is collected, by whoever collects: a reader that waits for
//! changes to a quiet range cannot, and would keep the history of all other keys.
//!
//! # Invariants
//! * Every commit to the range that was not taken by the reader and is not in its backlog is in the
//!   queue, or later than the queue's pin.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use base::{KeyRange, Timestamp};
use bytes::Bytes;
use storage::ReadPin;
use storage::sync::{AtomicBool, Condvar, Mutex, Ordering, lock, wait};

use crate::error::{Error, Result};
use crate::sequencer::{Commit, user_key};
use crate::shard::Shard;

/// How many commits wait for a slow reader before it is sent back to the history.
const WAITING_MAX: usize = if cfg!(shuttle) { 1 } else { 4096 };

/// How many bytes of keys and values wait for a slow reader, in bytes.
const WAITING_BYTES_MAX: usize = 8 << 20;

/// What one transaction changed in the watched range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeSet {
    /// The commit's timestamp.
    pub ts: Timestamp,
    /// The changes in key order.
    pub changes: Vec<Change>,
}

/// One changed key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: Bytes,
    /// Its value from then on; `None` if it was deleted.
    pub value: Option<Bytes>,
}

/// What the sequencer hands commits to.
pub(crate) struct WatchQueue {
    range: KeyRange,
    waiting: Mutex<Waiting>,
    arrived: Condvar,
    is_gone: AtomicBool,
}

struct Waiting {
    /// Keeps what the reader would need if it were sent back to the history now. `None` once
    /// there is no reader.
    pin: Option<Arc<ReadPin>>,
    commits: VecDeque<Arc<Commit>>,
    bytes: usize,
    /// True if commits were left out because too many waited.
    overflowed: bool,
    failed: bool,
    closed: bool,
}

impl WatchQueue {
    pub(crate) fn push(&self, commit: &Arc<Commit>) {
        let was_loaded = commit.loaded.as_ref().is_some_and(|range| range.overlaps(&self.range));
        if !was_loaded && commit.writes.key_in(&self.range).is_none() {
            return;
        }
        let mut waiting = lock(&self.waiting);
        if was_loaded {
            // What it brought is only in tables: the reader fetches it from there.
            waiting.commits.clear();
            waiting.bytes = 0;
            waiting.overflowed = true;
        }
        if !waiting.overflowed {
            waiting.bytes += commit.writes.bytes();
            waiting.commits.push_back(commit.clone());
        }
        if waiting.commits.len() > WAITING_MAX || waiting.bytes > WAITING_BYTES_MAX {
            waiting.commits.clear();
            waiting.bytes = 0;
            waiting.overflowed = true;
        }
        self.arrived.notify_all();
    }

    pub(crate) fn fail(&self) {
        lock(&self.waiting).failed = true;
        self.arrived.notify_all();
    }

    /// Moves the pin up to what the reader may still need.
    pub(crate) fn keep_from(
        &self,
        visible: Timestamp,
        pin_at: impl Fn(Timestamp) -> Option<ReadPin>,
    ) {
        let mut waiting = lock(&self.waiting);
        if waiting.overflowed {
            // The reader has not fetched yet what was left out.
            return;
        }
        let needed = waiting.commits.front().map_or(visible, |commit| commit.ts.prev());
        if let Some(pin) = &mut waiting.pin
            && pin.ts() < needed
            // Past the retention the old pin stays: it keeps more than is needed, never too little.
            && let Some(higher) = pin_at(needed)
        {
            *pin = Arc::new(higher);
        }
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.is_gone.load(Ordering::Acquire)
    }

    /// Ends the feed: its reader gets what has arrived and then nothing.
    fn close(&self) {
        lock(&self.waiting).closed = true;
        self.arrived.notify_all();
    }
}

/// A feed of the changes to one range.
pub struct Watch {
    shard: Arc<Shard>,
    queue: Arc<WatchQueue>,
    /// Everything up to here was delivered, or is in `backlog`.
    position: Timestamp,
    /// Read from the history, not yet delivered.
    backlog: VecDeque<ChangeSet>,
}

/// Ends a feed from another thread.
#[derive(Clone)]
pub struct WatchCloser {
    queue: Arc<WatchQueue>,
}

impl WatchCloser {
    /// Ends the feed: [`Watch::next_change`] returns `None` once what has arrived was delivered.
    pub fn close(&self) {
        self.queue.close();
    }
}

impl Watch {
    /// Starts a feed after a timestamp; from now on if there is none.
    pub(crate) fn start(
        shard: &Arc<Shard>,
        range: KeyRange,
        after: Option<Timestamp>,
    ) -> Result<Watch> {
        let pin = Arc::new(match after {
            Some(ts) => shard.pin_at(ts)?,
            None => shard.pin_newest(),
        });
        let waiting = Waiting {
            pin: Some(pin.clone()),
            commits: VecDeque::new(),
            bytes: 0,
            overflowed: false,
            failed: false,
            closed: false,
        };
        let queue = Arc::new(WatchQueue {
            range,
            waiting: Mutex::new(waiting),
            arrived: Condvar::new(),
            is_gone: AtomicBool::new(false),
        });
        let registered = shard.sequencer().watch(queue.clone());
        let position = after.unwrap_or(registered);
        let mut watch = Watch { shard: shard.clone(), queue, position, backlog: VecDeque::new() };
        watch.read_history(&pin, registered)?;
        Ok(watch)
    }

    /// Returns the timestamp after which this feed will deliver: a later feed that starts there
    /// goes on without a gap.
    pub fn position(&self) -> Timestamp {
        self.backlog.front().map_or(self.position, |set| set.ts.prev())
    }

    /// Returns a handle that ends the feed from another thread.
    pub fn closer(&self) -> WatchCloser {
        WatchCloser { queue: self.queue.clone() }
    }

    /// Returns the next transaction's changes if there are any yet.
    ///
    /// # Errors
    /// `LogFailed` once the log has failed and everything before was delivered.
    pub fn try_next(&mut self) -> Result<Option<ChangeSet>> {
        self.take(false)
    }

    /// Waits for the next transaction's changes; `None` once the feed was closed.
    ///
    /// # Errors
    /// `LogFailed` once the log has failed and everything before was delivered.
    pub fn next_change(&mut self) -> Result<Option<ChangeSet>> {
        self.take(true)
    }

    fn take(&mut self, may_wait: bool) -> Result<Option<ChangeSet>> {
        loop {
            if let Some(set) = self.backlog.pop_front() {
                return Ok(Some(set));
            }
            let mut waiting = lock(&self.queue.waiting);
            while may_wait
                && waiting.commits.is_empty()
                && !(waiting.overflowed || waiting.failed || waiting.closed)
            {
                waiting = wait(&self.queue.arrived, waiting);
            }
            if let Some(commit) = waiting.commits.pop_front() {
                waiting.bytes -= commit.writes.bytes();
                drop(waiting);
                if commit.ts > self.position {
                    self.position = commit.ts;
                    return Ok(Some(self.changes_of(&commit)));
                }
            } else if waiting.overflowed {
                // Commits pushed from here on wait again; those before are read from the chains.
                waiting.overflowed = false;
                let pin = waiting.pin.clone();
                drop(waiting);
                let through = self.shard.sequencer().visible();
                if let Some(pin) = pin {
                    self.read_history(&pin, through)?;
                }
            } else if waiting.failed {
                let cause = "nothing more will be committed".to_string();
                return Err(Error::from(storage::Error::LogFailed { cause }));
            } else {
                return Ok(None);
            }
        }
    }

    fn changes_of(&self, commit: &Commit) -> ChangeSet {
        let in_range = commit.writes.iter().filter(|(key, _)| self.queue.range.contains(key));
        let changes = in_range.map(|(key, value)| Change {
            key: user_key(key),
            value: value.as_put().map(Bytes::copy_from_slice),
        });
        ChangeSet { ts: commit.ts, changes: changes.collect() }
    }

    /// Reads what was committed after the position and up to `through` from what is stored.
    fn read_history(&mut self, pin: &ReadPin, through: Timestamp) -> Result<()> {
        let mut sets: BTreeMap<Timestamp, BTreeMap<Bytes, Option<Bytes>>> = BTreeMap::new();
        if through > self.position {
            // A version may be found twice, in the log's replay and in a table: it is the same one.
            pin.history(&self.queue.range, self.position, through, |key, ts, value| {
                let key = user_key(&Bytes::copy_from_slice(key));
                let value = value.as_put().map(Bytes::copy_from_slice);
                sets.entry(ts).or_default().insert(key, value);
            })?;
            self.position = through;
        }
        self.backlog.extend(sets.into_iter().map(|(ts, changes)| {
            let changes = changes.into_iter().map(|(key, value)| Change { key, value });
            ChangeSet { ts, changes: changes.collect() }
        }));
        Ok(())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.queue.is_gone.store(true, Ordering::Release);
        let mut waiting = lock(&self.queue.waiting);
        (waiting.pin, waiting.bytes) = (None, 0);
        waiting.commits.clear();
    }
}
