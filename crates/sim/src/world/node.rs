//! What the world needs of a node: one trait, inputs, outputs, and what may be looked at.
//!
//! ```text
//!   world                                              node
//!     │  Tick, Message, Request, Transfer, ... ────────►  step
//!     │  ◄───────── Send, Reply: at once      Disk { ticket }: there is something to write
//!     │  ... as slow as the disk is ...
//!     │  DiskWork { ticket } ──────────────────────────►  step: writes and syncs it now
//!     │  ... as slow as the news of it is ...
//!     │  DiskDone { ticket } ──────────────────────────►  step: knows that it is durable
//!     │  ◄───────── Send, Reply: what rests on it
//! ```
//!
//! The disks of [`mod@env`] return at once, so a slow one is made by asking late for the work. A
//! crash in between loses the work; a crash during the work tears it; a crash between the last two
//! loses only the news.

use std::sync::Arc;

use bytes::Bytes;
use env::{Disk, ManualClock, SeededRandom};
use raft::{Body, LogIndex, Message, Position, Raft, ReplicaId, Term};

use super::clock::Time;

/// Names a node of the world, and its replica: an id is given once, also to who comes back with an
/// empty disk.
pub type NodeId = ReplicaId;

/// Names a piece of work for the disk. Tickets of one incarnation rise.
pub type Ticket = u64;

/// What a node finds around it when it opens.
#[derive(Clone)]
pub struct Host {
    /// Who it is.
    pub id: NodeId,
    /// Who founded the group. A node that is not one of them was added later.
    pub founders: Vec<u64>,
    /// Its disk, with whatever the last incarnation left.
    pub disk: Arc<dyn Disk>,
    /// Its wall clock, which may be anything.
    pub wall: ManualClock,
    /// Chance of its own, different in each incarnation.
    pub seed: u64,
}

/// One incarnation of one node. It is dropped at a crash, and opened again from its disk.
///
/// It knows nothing but what it is given: no clock, no thread, no chance of its own.
pub trait Node: Sized {
    /// How nodes are set up; the same for all of a world.
    type Config: Clone;

    /// Whether it reads all of its disk when it opens. Only then do bits rot in its world: what
    /// comes to light later, the world does not follow yet.
    const READS_ALL_AT_OPEN: bool;

    /// Draws a set-up. Strange ones find more: small windows, tiny messages, early snapshots.
    fn draw_config(random: &mut SeededRandom) -> Self::Config;

    /// Opens a node from its disk.
    ///
    /// # Errors
    /// In words, if it cannot or must not be opened. The world takes that for a violation, unless
    /// it broke the disk before.
    fn open(config: &Self::Config, host: &Host, now: Time) -> Result<Self, String>;

    /// Takes one input in, at a moment of the node's monotonic clock, and appends what is to be
    /// done. What is committed in a step must not be compacted in the same one: the judge looks at
    /// the log after each.
    fn step(&mut self, now: Time, input: NodeInput, out: &mut Vec<NodeOutput>);

    /// Returns when [`NodeInput::Tick`] is due, by the node's monotonic clock.
    fn next_deadline(&self) -> Option<Time>;

    /// Returns its Raft replica, to be looked at.
    fn raft(&self) -> &Raft;

    /// Returns what its state machine has applied.
    fn applied(&self) -> Applied;

    /// Returns up to which entry the effects are durable in its state machine.
    fn durable_applied(&self) -> LogIndex;

    /// Checks what it can check of itself. Called now and then.
    ///
    /// # Errors
    /// What is wrong, in words.
    fn check(&self) -> Result<(), String> {
        Ok(())
    }

    /// Returns a message in a few words, for the trace.
    fn describe(bytes: &Bytes) -> String;
}

/// How far a state machine is, and what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    /// The last entry that was applied.
    pub index: LogIndex,
    /// A digest of the state. Two replicas that applied the same entries have the same. None if it
    /// was not taken here.
    pub digest: Option<u64>,
}

/// What happens to a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeInput {
    /// Time has passed.
    Tick,
    /// A message of another node came in.
    Message {
        /// Who sent it.
        from: NodeId,
        /// What.
        bytes: Bytes,
    },
    /// The disk is free: do this work now, write and sync.
    DiskWork(Ticket),
    /// The work is done, and this is the news of it.
    DiskDone(Ticket),
    /// A client asks something; see [`super::request`].
    Request {
        /// Comes back with the answer. No two requests of a world have the same.
        id: u64,
        /// What is asked.
        bytes: Bytes,
    },
    /// Hand the leadership over, if this node has it.
    Transfer(NodeId),
    /// Change who takes part, if this node leads.
    Change {
        /// Who shall vote.
        voters: Vec<NodeId>,
        /// Who shall only get the log.
        learners: Vec<NodeId>,
    },
    /// The leader seems to be gone: leave quiet.
    Wake,
}

/// What a node wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeOutput {
    /// Send a message. It may get lost.
    Send {
        /// To whom.
        to: NodeId,
        /// What.
        bytes: Bytes,
        /// What it promises, so that the judge can hold it against the disk.
        promise: Promise,
    },
    /// There is work for the disk: [`NodeInput::DiskWork`] is awaited, in the order of tickets.
    Disk(Ticket),
    /// Answer a client.
    Reply {
        /// The id of the request.
        id: u64,
        /// The answer.
        bytes: Bytes,
    },
    /// The process ends: it met an error after which it must not go on.
    Stop(String),
}

/// What a message promises to be durable at its sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promise {
    /// Nothing.
    Nothing,
    /// A vote.
    Vote {
        /// The term.
        term: Term,
        /// For whom.
        candidate: NodeId,
    },
    /// The vote of a candidate for itself, and the log that it stands with.
    Candidacy {
        /// The term.
        term: Term,
        /// The end of the log.
        last: Position,
    },
    /// The log up to an index, as the leader of the term has it.
    Log {
        /// The term.
        term: Term,
        /// The index.
        matched: LogIndex,
    },
}

impl Promise {
    /// Returns what a message of the Raft protocol promises.
    pub fn of(message: &Message) -> Promise {
        let term = message.term;
        match &message.body {
            Body::VoteReply { is_granted: true } => Promise::Vote { term, candidate: message.to },
            Body::Vote { last, .. } => Promise::Candidacy { term, last: *last },
            Body::AppendReply { matched } => Promise::Log { term, matched: *matched },
            _ => Promise::Nothing,
        }
    }
}
