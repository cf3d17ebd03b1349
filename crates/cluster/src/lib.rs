//! What only exists with many nodes. So far: the replica, which joins the Raft protocol, the real
//! log, the real engine and the conflict check of transactions, as a pure driver.
//!
//! ```
//! use std::sync::Arc;
//!
//! use cluster::{Input, Output, Replica, ReplicaOptions, Request, Response};
//! use raft::{ReplicaId, Ticks};
//!
//! // A group of one: it elects itself at the first tick.
//! let disk = Arc::new(env::SimDisk::new());
//! let options = ReplicaOptions::small(ReplicaId(1), &[1], 7);
//! let mut replica = Replica::open(disk, "replica".as_ref(), options, Ticks(0))?;
//!
//! let (mut out, mut answer) = (Vec::new(), None);
//! for input in [Input::Timer, Input::Request { id: 1, request: Request::Begin }] {
//!     replica.step(Ticks(1), input, &mut out);
//!     while let Some(output) = out.pop() {
//!         match output {
//!             // The driver may do the disk's work on any thread; here nobody else has.
//!             Output::Disk { ticket } => {
//!                 replica.step(Ticks(2), Input::DiskDone { ticket, result: Ok(()) }, &mut out);
//!             }
//!             Output::Reply { response, .. } => answer = Some(response),
//!             _ => {}
//!         }
//!     }
//! }
//! assert!(matches!(answer, Some(Response::Begun { .. })));
//! # Ok::<(), cluster::Error>(())
//! ```
//!
//! # Not here
//! Many groups in one log, the map of shards, transactions over several of them. Bytes on a real
//! wire.

#![forbid(unsafe_code)]

mod error;
mod options;
mod request;
mod state;

mod command;
mod log;
mod oracle;

pub mod codec;
mod replica;

pub use error::Error;
pub use options::{FIRST_GROUP, ReplicaOptions};
pub use replica::{Input, Output, Replica};
pub use request::{Commit, Isolation, Request, Response, Row};
pub use state::{Record, TxnId};
