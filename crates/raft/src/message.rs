//! What replicas say to each other.
//!
//! ```text
//!   candidate                 voter          leader                        follower
//!      │ PreVote ──────────────►│              │ Append ────────────────────►│
//!      │◄───────── PreVoteReply │              │◄── AppendReply, AppendReject│
//!      │ Vote ─────────────────►│              │ Heartbeat ─────────────────►│
//!      │◄──────────── VoteReply │              │◄──────────── HeartbeatReply │
//!                                              │ Snapshot ──────────────────►│
//!      any                     any             │◄───────────── SnapshotReply │
//!      │◄──────────────── Stale │              │ TimeoutNow ────────────────►│
//! ```
//!
//! Each carries the term of its sender. The bytes are drawn in [`codec`](mod@crate::codec).

use bytes::Bytes;

use crate::{Entry, LogIndex, Position, ReplicaId, SnapshotMeta, Term, Ticks};

/// A message from one replica to another one of the same group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Who sent it.
    pub from: ReplicaId,
    /// Who is to get it.
    pub to: ReplicaId,
    /// The term of the sender.
    pub term: Term,
    /// What it says.
    pub body: Body,
}

/// What a message says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// Would you vote for me in the term after mine? (Thesis §9.6.) Changes nothing at the
    /// receiver.
    PreVote {
        /// The end of the sender's log.
        last: Position,
    },
    /// Answers [`Body::PreVote`]; its sender may be in an older term.
    PreVoteReply {
        /// The term that was asked about.
        asked: Term,
        /// The answer.
        is_granted: bool,
    },
    /// Vote for me (Raft §5.2, RequestVote).
    Vote {
        /// The end of the sender's log, durable as is its vote for itself.
        last: Position,
        /// The leader itself wants it: a promise to that leader does not count against it.
        is_transfer: bool,
    },
    /// Answers [`Body::Vote`]. A granted vote is durable.
    VoteReply {
        /// The answer.
        is_granted: bool,
    },
    /// Entries that stand behind `previous` (Raft §5.3, AppendEntries); also none, to ask whether
    /// the logs agree there.
    Append {
        /// What stands before them.
        previous: Position,
        /// The leader's commit index.
        commit: LogIndex,
        /// The entries.
        entries: Vec<Entry>,
    },
    /// Up to here the log agrees with the leader's and is durable.
    AppendReply {
        /// The last index of that part.
        matched: LogIndex,
    },
    /// What stands at `previous` is not what the leader said.
    AppendReject {
        /// The index that the leader asked about.
        previous: LogIndex,
        /// The last place of the sender's log that can agree with the leader's: what it has there,
        /// or before it, is of no newer term than what the leader named.
        hint: Position,
    },
    /// The leader lives. One for all groups of a pair of nodes can travel together.
    Heartbeat {
        /// The leader's commit index, as far as the receiver is known to have the log.
        commit: LogIndex,
        /// Counts rounds of heartbeats of this leader; comes back.
        round: u64,
        /// The leader's clock; comes back, for its lease.
        sent: Ticks,
        /// There is nothing to do: be quiet until there is, if you have all that is committed.
        is_quiet: bool,
    },
    /// Answers [`Body::Heartbeat`] with its round and time.
    HeartbeatReply {
        /// The round.
        round: u64,
        /// The leader's clock when it began.
        sent: Ticks,
    },
    /// Stand for election now (thesis §3.10).
    TimeoutNow,
    /// A part of an image of the state (Raft §7, InstallSnapshot).
    Snapshot {
        /// The image.
        meta: SnapshotMeta,
        /// Where the bytes begin in it.
        offset: u64,
        /// The bytes.
        data: Bytes,
        /// The image ends with them.
        is_last: bool,
    },
    /// So much of the image has arrived.
    SnapshotReply {
        /// The id of the image.
        id: u64,
        /// The offset that is wanted next.
        offset: u64,
    },
    /// Your term is over: mine, in the envelope, is newer.
    Stale,
}

impl Body {
    /// Returns the name of the message, for traces.
    pub fn name(&self) -> &'static str {
        match self {
            Body::PreVote { .. } => "PreVote",
            Body::PreVoteReply { .. } => "PreVoteReply",
            Body::Vote { .. } => "Vote",
            Body::VoteReply { .. } => "VoteReply",
            Body::Append { .. } => "Append",
            Body::AppendReply { .. } => "AppendReply",
            Body::AppendReject { .. } => "AppendReject",
            Body::Heartbeat { .. } => "Heartbeat",
            Body::HeartbeatReply { .. } => "HeartbeatReply",
            Body::TimeoutNow => "TimeoutNow",
            Body::Snapshot { .. } => "Snapshot",
            Body::SnapshotReply { .. } => "SnapshotReply",
            Body::Stale => "Stale",
        }
    }
}
