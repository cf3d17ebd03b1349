//! Whole clusters on one thread, from one seed.
//!
//! ```text
//!   seed ──► a subset of faults, each with an intensity (swarm testing)
//!
//!   clients                   network                      machines
//!   async fn ── request ────► delay, loss, cuts ─────────► ┌───────────────────────────┐
//!            ◄─────── reply ─                    ◄──────── │ node: step(now, input)    │
//!      │                      doubles, reorders ◄────────► │   Raft, log, engine       │
//!      │                                                   ├───────────────────────────┤
//!      │                                                   │ disk: loses, tears, rots, │
//!      │                                                   │   fails, is slow, is full │
//!      ▼                                                   │ clocks: drift, jump       │
//!   history ──► checkers                                   └────────────┬──────────────┘
//!                                                                       │ after each step
//!               queue of events: the one clock of the world             ▼
//!                                                                     judge ──► I-R1 … I-S5
//! ```
//!
//! The world takes the next event from its queue, lets it happen to a node, and carries what comes
//! out: messages to other nodes, work to the disk, answers to clients. Faults happen for a while;
//! then they stop, and a leader, an answer for each client, and the same state everywhere have to
//! follow ("life"). At the end the checkers look at what the clients saw.
//!
//! ```
//! use holm_sim::world::{self, RaftNode, Setup};
//!
//! let outcome = world::run::<RaftNode>(&Setup::new(7));
//! assert_eq!(outcome.violation, None);
//! assert!(outcome.totals.answered > 0);
//! // Whatever goes wrong goes wrong again.
//! assert_eq!(outcome.digest, world::run::<RaftNode>(&Setup::new(7)).digest);
//! ```
//!
//! # Reading order
//! [`node`] is what a node has to be, [`request`] what is asked, [`client`] how that is written.
//! `run` is the world, `machine` and `network` what it is made of, `chaos` what goes wrong in it,
//! [`judge`] who notices. [`raft_node`] is the smallest node there is.
//!
//! # Invariants
//! * The same set-up gives the same run, byte for byte, on each machine. Nothing iterates over a
//!   map whose order is not that of its keys, nothing reads a clock, nothing takes chance from
//!   anywhere but the seed, and there is one thread.
//! * Each part of the world has its own source of chance, so that a world with one fault less is
//!   the same world for as long as that makes no difference.
//! * A fault never breaks a promise that the code under test may rely on: what was synced stays
//!   (rot is the exception, and there is one such disk at a time), and monotonic clocks keep their
//!   bound.
//!
//! # Not here
//! Byzantine nodes; disks that lie about a sync; clients whose requests are doubled.

mod chaos;
mod clock;
mod digest;
mod machine;
mod network;
mod outcome;
mod queue;
mod run;
mod setup;
mod shrink;
mod trace;
mod words;

pub mod client;
pub mod faults;
pub mod judge;
pub mod node;
pub mod raft_node;
pub mod replica_node;
pub mod request;
pub mod workload;

pub use client::{Client, Failure, Program, Snapshot};
pub use clock::Time;
pub use faults::{Fault, FaultSet};
pub use judge::Violation;
pub use node::{Applied, Host, Node, NodeId, NodeInput, NodeOutput, Promise};
pub use outcome::{Outcome, Totals};
pub use raft_node::RaftNode;
pub use replica_node::ReplicaNode;
pub use setup::Setup;
pub use shrink::shrink;
pub use trace::LEGEND;
pub use workload::{Workload, WorkloadKind};

/// Runs a world whose clients do what the set-up says.
pub fn run<N: Node>(setup: &Setup) -> Outcome {
    run_with::<N>(setup, &*WorkloadKind::of(setup).make())
}

/// Runs a world whose clients do what you want them to.
pub fn run_with<N: Node>(setup: &Setup, workload: &dyn Workload) -> Outcome {
    run::run::<N>(setup, workload)
}
