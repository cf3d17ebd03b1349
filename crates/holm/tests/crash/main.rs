//! What survives: the whole database on a simulated disk that stops, tears, refuses, fills up and
//! rots at every place there is.
//!
//! ```text
//!   workload ──► history: what was tried, what was acknowledged, what was promised
//!      │            │
//!      ▼            ▼
//!   disk ── crash ── open ──► what is there must be a prefix of the history, whole transactions,
//!                             no shorter than the promise
//! ```
//!
//! | file | proves |
//! |---|---|
//! | `stops.rs` | a machine that stops at any operation, also while it recovers |
//! | `recovery.rs` | a recovery that flushes, stopped and failing anywhere |
//! | `faults.rs` | any call that fails, for once or until the disk is healed, and a full disk |
//! | `threads.rs` | power lost at any moment while many threads commit, beside the background |
//! | `short_lives.rs` | a command in a loop, which piles nothing up |
//! | `bulk.rs` | bulk loads and checkpoints, stopped anywhere |
//! | `day.rs` | a day of overwriting and deleting, which does not fill the disk |
//! | `values.rs` | large values: their space comes back, and who needs them keeps them |
//! | `rot.rs` | any byte that changes while the database is closed, any file cut or gone |
//! | `model.rs` | random programs against a model, under several layouts |
//!
//! `HOLM_CRASH_SEEDS` multiplies the seeds of the first two, `PROPTEST_CASES` sets those of the
//! last; `scripts/crash-long` sets both.

#![allow(clippy::unwrap_used, reason = "the helpers of tests are tests")]

mod bulk;
mod day;
mod faults;
mod history;
mod model;
mod recovery;
mod rot;
mod short_lives;
mod stops;
mod threads;
mod values;
mod workload;
mod world;
