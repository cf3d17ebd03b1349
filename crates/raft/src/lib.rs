//! The Raft protocol as a pure state machine: inputs go in, outputs come out, and nothing else
//! happens. No clock, no disk, no network, no thread; chance comes from a seed.
//!
//! ```
//! use raft::{Config, Input, Options, Output, Raft, Recovered, ReplicaId, Role, Ticks};
//!
//! let group = Recovered::new_group(Config::new(&[1], &[]));
//! let mut raft = Raft::new(ReplicaId(1), Options::default(), group, Ticks(0))?;
//!
//! let mut out = Vec::new();
//! raft.step(Ticks(1), Input::Tick, &mut out);
//! // The driver writes what it is told to, and says when that is durable.
//! while let Some(output) = out.pop() {
//!     if let Output::Append { stamp, .. } = output {
//!         raft.step(Ticks(2), Input::Persisted(stamp), &mut out);
//!     }
//! }
//! assert_eq!(raft.role(), Role::Leader);
//!
//! let command = vec!["x = 1".into()];
//! let expected_term = raft.term();
//! raft.step(Ticks(3), Input::Propose { commands: command, expected_term }, &mut out);
//! assert!(matches!(&out[..], [Output::Append { entries, .. }] if entries.len() == 1));
//! # Ok::<(), raft::RecoveryError>(())
//! ```
//!
//! "Raft" with a section is the paper (Ongaro, Ousterhout: In Search of an Understandable Consensus
//! Algorithm, extended version, 2014), "thesis" is Ongaro's dissertation (Consensus: Bridging
//! Theory and Practice, 2014). Each rule names its section where it stands in the code, and each
//! departure its reason.
//!
//! # Invariants
//! By the names under which tests assert them:
//! * I-R1: a term has at most one leader.
//! * I-R2: two logs with an entry of the same index and term agree up to it.
//! * I-R3: a leader's log has everything that was committed before its term.
//! * I-R4: a committed entry never changes.
//! * I-R5: a vote or an acknowledgement is sent only when what it promises is durable.
//! * I-R6: at most one leader has a valid lease at any moment, while clocks keep their bound.
//! * I-R7: a quorum is one of voters of the configuration in force.

#![forbid(unsafe_code)]

mod config;
mod io;
mod log;
mod message;
mod progress;
mod replica;
mod types;

pub mod codec;
#[doc(hidden)]
pub mod fuzzing;

pub use config::{Config, LEARNERS_MAX, Outcome, VOTERS_MAX};
pub use io::{Input, Output, ReadMode, Refusal};
pub use message::{Body, Message};
pub use replica::{Raft, Recovered, RecoveryError, Role};
pub use types::{
    Entry, HardState, LogIndex, Options, Payload, Position, ReplicaId, SnapshotMeta, Stamp, Term,
    Ticks,
};
