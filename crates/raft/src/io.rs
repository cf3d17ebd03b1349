//! What goes into a replica and what comes out: the whole contract with the driver.
//!
//! ```text
//!   driver                                         replica
//!     │  Propose, Message, Tick, ...  ─────────────►  step
//!     │  ◄───────────── Append: write this, in order      Send: at once      Commit: apply up to
//!     │  ... the disk says so ...
//!     │  Persisted(stamp)             ─────────────►  step
//!     │  ◄───────────── Send: the promises that rest on that write
//! ```
//!
//! The driver has one duty towards order: it writes [`Output::Append`]s one after the other, and
//! says [`Input::Persisted`] with the stamp of a write when it and all before it are durable. It
//! may say so late, for many at once, twice, or not at all for some. Everything else can be done in
//! any order and beside each other: a message that promises something durable is not made before it
//! is.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    Config, Entry, HardState, LogIndex, Message, ReplicaId, Role, SnapshotMeta, Stamp, Term,
};

/// What happens to a replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Time has passed: `now` is the news. Due at [`crate::Raft::next_deadline`], harmless at any
    /// time.
    Tick,
    /// A message came in. Any order, any delay, twice, never: all the same.
    Message(Message),
    /// Commands to append, if this replica leads in the term in which they were thought out.
    Propose {
        /// One entry each.
        commands: Vec<Bytes>,
        /// The term in which the proposer found this replica leading.
        expected_term: Term,
    },
    /// All writes up to the one with this stamp are durable.
    Persisted(Stamp),
    /// The state machine has applied entries up to here.
    Applied(LogIndex),
    /// Asks from which index on a read sees everything that was acknowledged before this moment.
    Read {
        /// Comes back with the answer.
        id: u64,
        /// On what the answer may rest.
        mode: ReadMode,
    },
    /// Hands the leadership to another voter.
    Transfer(ReplicaId),
    /// Changes who takes part, through a joint configuration.
    Change {
        /// Who shall vote.
        voters: Vec<ReplicaId>,
        /// Who shall only get the log.
        learners: Vec<ReplicaId>,
        /// As with proposals.
        expected_term: Term,
    },
    /// Stand for election now, if no leader was promised anything. For a group that was just made
    /// by a split.
    Campaign,
    /// The node-level liveness says that something is wrong: leave quiet and watch the time again.
    Wake,
    /// The effects of entries up to here are durable in the state machine; the log may forget them.
    Compact(LogIndex),
    /// Answers [`Output::ReadSnapshot`].
    SnapshotChunk {
        /// Who is to get it.
        to: ReplicaId,
        /// The image it is part of.
        meta: SnapshotMeta,
        /// Where in the image the bytes begin.
        offset: u64,
        /// The bytes.
        data: Bytes,
        /// The image ends with them.
        is_last: bool,
    },
    /// Answers [`Output::ReadSnapshot`]: there is no image, or no more of it. It is asked for
    /// later.
    SnapshotFailed(ReplicaId),
    /// Answers the last [`Output::InstallSnapshot`] of an image.
    SnapshotDone {
        /// The id of the image.
        id: u64,
        /// The state machine is durably what the image says. Otherwise the image was no good.
        is_installed: bool,
    },
}

/// On what the answer to a read may rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadMode {
    /// The leader's lease, while it has one: no message, but the rates of clocks matter.
    Lease,
    /// A round of heartbeats that began after the read (ReadIndex, thesis §6.4): no clock matters.
    Quorum,
}

/// What a replica wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Write this to the log, after all earlier writes; then say [`Input::Persisted`].
    Append {
        /// Remove entries at and above this index first. Behind a new image that is 1: all of them.
        cut_from: Option<LogIndex>,
        /// Entries to add, without gaps. After an image was installed they begin behind it.
        entries: Vec<Entry>,
        /// The hard state, if it changed. It goes before the entries: they may be of its term.
        hard_state: Option<HardState>,
        /// Names this write and all before it.
        stamp: Stamp,
    },
    /// Send this. It may get lost.
    Send(Message),
    /// Entries up to here are committed: apply them. They may not be durable on this very replica
    /// yet; if the state machine becomes durable first, recovery takes it for an image.
    Commit(LogIndex),
    /// A read may be served once this index is applied.
    ReadOk {
        /// The id of the read.
        id: u64,
        /// What has to be applied.
        index: LogIndex,
    },
    /// A read cannot be answered here.
    ReadFailed {
        /// The id of the read.
        id: u64,
        /// Why.
        reason: Refusal,
    },
    /// The role, the term or the leader that this replica follows is another one now.
    RoleChanged {
        /// What it is now.
        role: Role,
        /// In which term.
        term: Term,
        /// Whom it takes for the leader.
        leader: Option<ReplicaId>,
    },
    /// Another configuration is in force, for now: it may be truncated again.
    ConfigChanged {
        /// Where it stands.
        index: LogIndex,
        /// What it says.
        config: Arc<Config>,
    },
    /// Commands that were not appended.
    Dropped {
        /// The commands.
        commands: Vec<Bytes>,
        /// Why.
        reason: Refusal,
    },
    /// A transfer or a change was not begun, or was given up.
    Refused(Refusal),
    /// Give a part of an image, with [`Input::SnapshotChunk`].
    ReadSnapshot {
        /// Who is to get it.
        to: ReplicaId,
        /// The id of the image; none to begin with any recent one.
        id: Option<u64>,
        /// Where the part begins.
        offset: u64,
    },
    /// Store a part of an image. Offset 0 begins a new one. When it is the last part, check the
    /// image and make it the state, then say [`Input::SnapshotDone`].
    InstallSnapshot {
        /// Which image.
        meta: SnapshotMeta,
        /// Where the bytes begin.
        offset: u64,
        /// The bytes.
        data: Bytes,
        /// The image ends with them.
        is_last: bool,
    },
}

/// Why something was not done. Nothing was appended, so it can be tried elsewhere or later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// This replica does not lead.
    #[error("this replica does not lead the group")]
    NotLeader {
        /// Who does, as far as it knows.
        leader: Option<ReplicaId>,
    },
    /// The term went by in which the proposal was thought out.
    #[error("the group is in term {0} now")]
    OtherTerm(Term),
    /// The leadership is being handed over.
    #[error("the leadership is being handed to another replica")]
    Transferring,
    /// Too much is not committed.
    #[error("too many bytes wait to be committed")]
    Overloaded,
    /// A change is going on, or the leader has not committed anything in its term yet.
    #[error("an earlier change of the configuration is not finished")]
    ChangeUnfinished,
    /// The target of a transfer is not a voter, or is this replica.
    #[error("the target is not another voter of the group")]
    NotAVoter,
    /// A new voter has to be a learner that has nearly all of the log.
    #[error("a new voter must first be a learner that has caught up")]
    NotCaughtUp,
    /// A replica that is added must have a higher id than any there was.
    #[error("the id of a new replica must be higher than all ids there were")]
    IdUsed,
    /// The new configuration would be no configuration.
    #[error("{0}")]
    BadConfig(&'static str),
    /// The target of a transfer did not take over in time.
    #[error("the target did not take the leadership over in time")]
    TransferTimedOut,
}
