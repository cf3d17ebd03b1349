//! A model of Holm's commit protocol, small enough to read and fast enough to break.
//!
//! A transaction reads at one timestamp and keeps its writes to itself. To commit it, one message
//! to each shard it writes is enough: **parallel commit**. What a textbook does in two rounds (all
//! prepared? then decide) is here decided by a condition that anybody can look up afterwards.
//!
//! ```text
//!  coordinator        primary shard               other shard          what is decided
//!      |  Prepare+stage    |                           |
//!      |------------------>| fence, checks, lock       |
//!      |  Prepare          |                           |
//!      |---------------------------------------------->| fence, checks, lock
//!      |                   | Raft: Prepared(7),        | Raft: Prepared(9)
//!      |                   |       record = Staging    |
//!      |     Prepared(7)   |       {limit, anchors}    |    committed at 9 from here on, for
//!      |<------------------|                           |    all are prepared and 9 <= limit
//!      |     Prepared(9)   |                           |
//!      |<----------------------------------------------|
//!   ACK the client         |                           |
//!      |  Finalize(Commit 9, expect Staging)           |
//!      |------------------>| Raft: record = Committed(9)
//!      |  Resolve(Commit 9)                            |
//!      |------------------>|-------------------------->| Prepared becomes a version at 9
//! ```
//!
//! * One shard alone: `CommitOne` writes versions and record in one entry.
//! * **Pushed**: `max(ts) > limit`, since somebody read what it writes after it began. Its own
//!   reads are then valid only up to the limit; `Refresh` moves them, and only then `Finalize`.
//! * **Recovery**: whoever is blocked by a lock may finish its transaction, at any time, as many at
//!   once as like to. Absent record: `Finalize(Abort, expect Absent)`. Staging: `Probe` each
//!   anchor, which finds it prepared or leaves a **marker** that its Prepare has to stop at; then
//!   Finalize by what was found. Only what Finalize returned counts.
//! * Nobody aborts by opinion: who gives up asks `Finalize(Abort)` and replies what came back.
//!
//! # What is modelled
//! Requests and answers as values in a bag that is emptied in any order; duplicates that arrive
//! late; repeated requests; Raft as a queue of entries per shard of which a change of leader keeps
//! some first part, telling half of those who wait; crashed coordinators; recoverers side by side;
//! an oracle that fails over. Every chance is drawn from a seed ([`Choices`]).
//!
//! # Reading order
//! [`message`] (the words), `shard` (eval, read, apply: the heart), `coordinator`, `recoverer`, all
//! three pure: a message in, messages and [`Fact`]s out. `watch` asserts the invariants of those
//! facts and judges the end. [`World`] is the scheduler, and [`Mutant`] lists what can be broken.
//!
//! # Invariants
//! Asserted at every step, by the names of the design: I-T1 to I-T3, I-C0 to I-C4 and I-C7, I-C6
//! (nothing appears below a timestamp that was read); at the end I-C2, I-C3, I-C5, I-C6 and I-L2,
//! and no cycle among the transactions. See `watch`.
//!
//! # Not here
//! Ranges, splits, locks that users take, garbage collection, reads from followers, closed
//! timestamps (I-T4), and the oracle's lease. A new leader's floor is fetched in one step with its
//! election: it serves nothing in between.
//!
//! `CommitOne` is neither repeated nor duplicated here, and must not be: its refusal is an answer,
//! and a second copy could commit after it. The mutant `one_phase_resent` shows that.

mod choices;
mod coordinator;
pub mod message;
mod mutant;
mod recoverer;
mod set;
mod shard;
mod trace;
mod watch;
mod world;

pub use choices::Choices;
pub use coordinator::{Coordinator, Plan};
pub use message::{Address, Body, Isolation, Message};
pub use mutant::{Mutant, SOUND};
pub use recoverer::Recoverer;
pub use set::{Key, Set, ShardId, TxnId};
pub use shard::Shard;
pub use watch::{Fact, Violation};
pub use world::{Checks, Failure, Shape, Tally, World, run, shortest};

/// A timestamp, as the oracle issues them.
pub type Ts = u32;

/// How many transactions a run may hold.
pub const TXNS_MAX: usize = 10;
/// How many shards a run may hold: a primary, another that is written, and one that is only read.
pub const SHARDS_MAX: usize = 3;
/// How many keys a shard holds at most.
pub const KEYS_PER_SHARD: usize = 2;
/// How many keys there are at most.
pub const KEYS_MAX: usize = SHARDS_MAX * KEYS_PER_SHARD;

/// What an actor wants of the world, and what it did that the invariants speak of.
#[derive(Debug, Default)]
pub struct Outbox {
    /// What it sends.
    pub messages: Vec<Message>,
    /// What it did.
    pub facts: Vec<Fact>,
}

#[cfg(test)]
mod tests;
