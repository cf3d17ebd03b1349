//! What a leader knows of one other replica, and how it feeds it.
//!
//! ```text
//!              accepted                     rejected, or
//!   ┌───────┐  (AppendReply)  ┌───────────┐ given up       ┌───────┐
//!   │ Probe │────────────────►│ Replicate │───────────────►│ Probe │
//!   └───────┘                 └───────────┘                └───────┘
//!       │  what it needs is compacted                          ▲
//!       │                     ┌───────────┐  the image failed  │
//!       └────────────────────►│ Snapshot  │────────────────────┘
//!                             └───────────┘  or is installed: Replicate
//! ```
//!
//! * Probe: one message at a time, until the logs are known to agree at some place.
//! * Replicate: entries are sent without waiting for answers, as far as the window allows.
//! * Snapshot: one chunk of an image at a time.
//!
//! # Invariants
//! * `matched < next`; what is up to `matched` is durable there and never changes.
//! * Only Replicate has messages in flight.

use std::collections::VecDeque;

use crate::{LogIndex, ReplicaId, SnapshotMeta, Ticks};

#[derive(Debug, Clone)]
pub(crate) struct Progress {
    pub(crate) id: ReplicaId,
    /// Up to here its log is durable and agrees with the leader's.
    pub(crate) matched: LogIndex,
    /// The first index that it has not been sent.
    pub(crate) next: LogIndex,
    pub(crate) feeding: Feeding,
    /// Messages on their way: the last index in each and its bytes.
    inflight: VecDeque<(LogIndex, usize)>,
    inflight_bytes: usize,
    /// When it was last sent entries, or asked where it stands.
    pub(crate) sent_at: Ticks,
    /// When it was last heard of.
    pub(crate) heard_at: Ticks,
    /// When the newest heartbeat that it answered was sent, by the leader's clock.
    pub(crate) acked_sent: Option<Ticks>,
    /// The newest round of heartbeats that it answered.
    pub(crate) acked_round: u64,
    /// What it was last told of the commit index.
    pub(crate) told_commit: LogIndex,
}

/// How a replica is being fed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Feeding {
    Probe {
        /// What was sent and is not answered: the last index in it, and its bytes. A heartbeat that
        /// is answered ends the wait: the probe was lost.
        asked: Option<(LogIndex, usize)>,
    },
    Replicate,
    Snapshot(Transfer),
}

/// An image on its way to a replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Transfer {
    /// The image, once the driver has named it.
    pub(crate) meta: Option<SnapshotMeta>,
    /// Where the next chunk, or the one that is not answered, begins.
    pub(crate) offset: u64,
    /// The driver was asked for a chunk; otherwise the replica's answer is awaited.
    pub(crate) awaits_driver: bool,
}

impl Transfer {
    /// Returns true if a log that is complete up to an index needs nothing of the image.
    pub(crate) fn is_within(&self, index: LogIndex) -> bool {
        self.meta.as_ref().is_some_and(|meta| meta.position.index <= index)
    }
}

impl Progress {
    pub(crate) fn new(id: ReplicaId, next: LogIndex, now: Ticks) -> Progress {
        Progress {
            id,
            matched: LogIndex(0),
            next,
            feeding: Feeding::Probe { asked: None },
            inflight: VecDeque::new(),
            inflight_bytes: 0,
            sent_at: now,
            // It gets one election timeout to be heard of.
            heard_at: now,
            acked_sent: None,
            acked_round: 0,
            told_commit: LogIndex(0),
        }
    }

    /// Returns true while another message may be sent.
    pub(crate) fn has_room(&self, messages_max: usize, bytes_max: usize) -> bool {
        self.inflight.len() < messages_max && self.inflight_bytes < bytes_max
    }

    /// Takes note of a message with entries up to an index.
    pub(crate) fn sent(&mut self, last: LogIndex, bytes: usize) {
        self.inflight.push_back((last, bytes));
        self.inflight_bytes += bytes;
        self.next = last.next();
    }

    /// Takes note that the log is durable there up to an index. Returns true if that is news.
    pub(crate) fn acknowledged(&mut self, matched: LogIndex) -> bool {
        while let Some(&(last, bytes)) = self.inflight.front()
            && last <= matched
        {
            self.inflight.pop_front();
            self.inflight_bytes -= bytes;
        }
        let is_news = matched > self.matched;
        self.matched = self.matched.max(matched);
        self.next = self.next.max(self.matched.next());
        is_news
    }

    pub(crate) fn probe(&mut self, next: LogIndex) {
        self.feed(Feeding::Probe { asked: None });
        self.next = next.max(self.matched.next());
    }

    pub(crate) fn replicate(&mut self) {
        self.feed(Feeding::Replicate);
        self.next = self.next.max(self.matched.next());
    }

    pub(crate) fn feed(&mut self, feeding: Feeding) {
        self.feeding = feeding;
        self.inflight.clear();
        self.inflight_bytes = 0;
    }

    /// # Panics
    /// If an invariant of the header does not hold.
    pub(crate) fn check_invariants(&self) {
        assert!(self.matched < self.next, "what is acknowledged was sent: {self:?}");
        let is_empty = self.inflight.is_empty();
        assert!(is_empty || self.feeding == Feeding::Replicate, "in flight: {self:?}");
        let bytes: usize = self.inflight.iter().map(|(_, bytes)| bytes).sum();
        assert_eq!(bytes, self.inflight_bytes, "bytes in flight: {self:?}");
    }
}
