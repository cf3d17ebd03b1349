//! Many commits in flight from one thread: each is durable by itself, and they share the disk's
//! work.
//!
//! `cargo run --example in_flight` prints:
//!
//! ```text
//! 1000 commits, all durable, all in order
//! the disk was written to fewer times than that: true
//! ```

use std::collections::VecDeque;

use holm::{Db, PendingCommit, Result};

/// How many commits wait for the disk at once.
const IN_FLIGHT: usize = 64;

fn main() -> Result<()> {
    let db = Db::open("holm-data")?;
    let events = db.keyspace("events")?;
    let before = db.stats().engine.wal.syncs;

    let mut waiting: VecDeque<PendingCommit> = VecDeque::new();
    let mut durable = Vec::new();
    for number in 0..1000 {
        let mut txn = db.begin();
        txn.put(&events, format!("event/{number:04}"), "something happened")?;
        // In order when this returns; durable when it is waited for, or polled as a future.
        waiting.push_back(txn.commit_pending()?);
        if waiting.len() >= IN_FLIGHT {
            durable.extend(waiting.pop_front().map(PendingCommit::wait).transpose()?);
        }
    }
    for commit in waiting {
        durable.push(commit.wait()?);
    }

    let in_order = if durable.is_sorted() { "all in order" } else { "not in order" };
    println!("{} commits, all durable, {in_order}", durable.len());
    let writes = db.stats().engine.wal.syncs - before;
    println!("the disk was written to fewer times than that: {}", writes < 1000);
    db.close()
}
