//! Whole clusters on one thread from one seed ([`world`]), and checks of what a database did, from
//! a record of what its clients saw.
//!
//! A client records each transaction (what it asked, what it was told, when) in a
//! [`history::Recorder`]. A [`checker`] then decides whether any execution at the promised
//! isolation level could have produced that record, and if not, prints the shortest proof:
//!
//! ```
//! use holm_sim::checker::{Level, Options, list_append};
//! use holm_sim::history::History;
//!
//! // Each of two transactions read what the other was about to append to: write skew.
//! let history: History = "
//!     T1 s1 1..4 committed: read x []; append y 1
//!     T2 s2 2..5 committed: read y []; append x 2
//!     T3 s1 6..7 committed: read x [2]; read y [1]
//! ".parse()?;
//!
//! let report = list_append::check(&history, &Options::at(Level::Serializable));
//! assert!(!report.is_valid());
//! assert!(report.to_string().contains("T1 -rw-> T2"), "{report}");
//!
//! // Snapshot isolation allows it.
//! assert!(list_append::check(&history, &Options::at(Level::SnapshotIsolation)).is_valid());
//! # Ok::<(), holm_sim::history::ParseError>(())
//! ```
//!
//! # Not here
//! No I/O, no clock, no thread: a history is a value, and checking it is a function; a world is a
//! function of its seed.

#![forbid(unsafe_code)]

pub mod history;

pub mod checker;

pub mod commit_model;

pub mod world;
