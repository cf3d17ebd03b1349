//! The small words of the protocol: who, when, where in the log, and what stands there.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::Config;

/// Names one replica of a group. An id is given once: a replica that was removed, or that lost its
/// disk, comes back under a new one, because the old one may have promised what it now forgot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ReplicaId(pub u64);

/// A term (Raft §5.1): the logical clock of elections. Zero is before the first one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Term(pub u64);

/// A place in the log. The first entry has index 1; zero is before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LogIndex(pub u64);

/// A moment of this replica's monotonic clock, or a span of it, in a unit that the driver chooses.
/// Clocks of different replicas are never compared; the lease assumes that over an election timeout
/// they run at rates that differ by less than a tenth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Ticks(pub u64);

impl Ticks {
    /// Returns the moment so many ticks later.
    pub fn after(self, ticks: u64) -> Ticks {
        Ticks(self.0.saturating_add(ticks))
    }
}

impl Term {
    /// Returns the term after this one.
    pub fn next(self) -> Term {
        Term(self.0 + 1)
    }
}

impl LogIndex {
    /// Returns the index after this one.
    pub fn next(self) -> LogIndex {
        LogIndex(self.0 + 1)
    }

    /// Returns the index before this one; zero stays zero.
    pub fn previous(self) -> LogIndex {
        LogIndex(self.0.saturating_sub(1))
    }
}

macro_rules! shown_as_numbers {
    ($($name:ty),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    )*};
}
shown_as_numbers!(ReplicaId, Term, LogIndex, Ticks);

/// A place in the log together with the term of what stands there.
///
/// Two logs with an entry of the same index and term agree up to it (Raft §5.3, log matching).
/// Ordered as logs are compared in elections: by term, then by index (§5.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position {
    /// The term in which the entry was made.
    pub term: Term,
    /// Where it stands.
    pub index: LogIndex,
}

/// What a replica must remember of elections (Raft figure 2, "persistent state").
///
/// It only grows: terms rise, and within one the vote is given once. So "this hard state is
/// durable" can be said at any later time and cannot mean another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HardState {
    /// The newest term this replica has seen.
    pub term: Term,
    /// Whom it voted for in that term.
    pub vote: Option<ReplicaId>,
}

impl HardState {
    /// Returns true if this is the other or came after it.
    pub fn covers(&self, other: &HardState) -> bool {
        self.term > other.term
            || self.term == other.term && (other.vote.is_none() || self.vote == other.vote)
    }
}

/// Names all that had been written when it was made. The driver gives back the newest one whose
/// writes are durable.
///
/// ```text
///   accepted in    log                       written                  durable?
///   term 2         a b c d                   (2, 4)
///   term 3         a b x        replaced     (3, 3)
///   term 3         a b x y      grown        (3, 4)   not (2, 4), though both end at index 4
/// ```
///
/// While entries are accepted from one leader the log only grows, so (accepted term, index) names
/// one log for ever. An index alone does not: the write of `d` would be taken for that of `y`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stamp {
    /// The hard state of that moment.
    pub hard_state: HardState,
    /// The term of the leader from whom the log's last write was accepted.
    pub accepted_term: Term,
    /// The last index of the log.
    pub index: LogIndex,
}

/// What an entry holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// Nothing: the first entry of each leader (Raft §8), by which it learns what is committed.
    Empty,
    /// A command. Opaque here.
    Command(Bytes),
    /// The configuration that is in force from here on.
    Config(Arc<Config>),
}

impl Payload {
    /// Returns the size that counts against limits.
    pub fn bytes(&self) -> usize {
        match self {
            Payload::Empty => 0,
            Payload::Command(bytes) => bytes.len(),
            Payload::Config(config) => {
                8 * (config.voters.len() + config.outgoing.len() + config.learners.len())
            }
        }
    }
}

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The term of the leader that made it.
    pub term: Term,
    /// Where it stands.
    pub index: LogIndex,
    /// What it says.
    pub payload: Payload,
}

impl Entry {
    /// What an entry costs beside its payload, in limits and about so on the wire.
    pub const OVERHEAD_BYTES: usize = 16;

    /// Returns the size that counts against limits.
    pub fn bytes(&self) -> usize {
        Entry::OVERHEAD_BYTES + self.payload.bytes()
    }

    /// Returns where it stands, with its term.
    pub fn position(&self) -> Position {
        Position { term: self.term, index: self.index }
    }
}

/// Describes an image of the state machine: what it holds, and under which configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotMeta {
    /// The last entry whose effects are in it.
    pub position: Position,
    /// The configuration in force there.
    pub config: Arc<Config>,
    /// Where that configuration stands in the log.
    pub config_index: LogIndex,
    /// Names the bytes: two images with the same id are the same byte for byte, so that a transfer
    /// can go on where it stopped. The driver chooses it; images that two replicas made are two.
    pub id: u64,
}

/// Times and limits of a replica. All replicas of a group must have the same election timeout: the
/// lease of a leader rests on the promises of the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The least time without a leader before a replica stands for election. Each wait is drawn
    /// anew between this and twice this (Raft §5.2).
    pub election_timeout_ticks: u64,
    /// Time between heartbeats. A fifth of the election timeout or less: two may be lost then.
    pub heartbeat_ticks: u64,
    /// Messages with entries that may be on their way to one replica.
    pub inflight_messages_max: usize,
    /// Bytes of entries that may be on their way to one replica.
    pub inflight_bytes_max: usize,
    /// Bytes of entries in one message; one entry always fits, however large.
    pub message_bytes_max: usize,
    /// Bytes of proposals that are not committed. What comes on top is refused, so that a leader
    /// without a quorum does not fill the memory.
    pub uncommitted_bytes_max: usize,
    /// Entries that a learner may lack of what is committed when it is made a voter (thesis
    /// §4.2.1): the group cannot commit past what it lacks, if it is needed for a quorum.
    pub promotion_lag_max: u64,
    /// Time without work after which a group falls quiet. Zero: never.
    pub quiet_after_ticks: u64,
    /// How long a transfer of a snapshot waits for an answer before it sends the same chunk again.
    pub snapshot_retry_ticks: u64,
    /// Tells followers at once what was committed, with a message of its own if there is no other.
    /// Otherwise they learn it with the next entries or the next heartbeat.
    pub tells_commit_at_once: bool,
    /// Where the chance in election timeouts comes from.
    pub seed: u64,
}

impl Default for Options {
    /// Milliseconds, for a local network.
    fn default() -> Options {
        Options {
            election_timeout_ticks: 1000,
            heartbeat_ticks: 100,
            inflight_messages_max: 256,
            inflight_bytes_max: 4 << 20,
            message_bytes_max: 256 << 10,
            uncommitted_bytes_max: 64 << 20,
            promotion_lag_max: 4096,
            quiet_after_ticks: 3000,
            snapshot_retry_ticks: 1000,
            tells_commit_at_once: true,
            seed: 0,
        }
    }
}

/// The one source of chance: SplitMix64 (Steele, Lea, Flood 2014), enough to spread timeouts.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// Returns a number below `end`, which is not zero.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }
}
