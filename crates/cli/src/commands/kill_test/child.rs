//! The process that is killed. Its threads commit in all the ways there are.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};

use holm::{Db, Durability, Keyspace, PendingCommit, Transaction};

use super::model::{self, COUNTER, PROGRESS, Planned, SHARED, VALUES, WINDOW};
use crate::commands::Context;
use crate::exit::{Failure, Result};
use crate::victim::{tell, wait_for_end};

/// The process that `kill-test` kills.
#[derive(Debug, clap::Args)]
pub(crate) struct ChildArgs {
    #[arg(long)]
    seed: u64,
    #[arg(long)]
    threads: u32,
}

/// Commits in flight, or without a promise, before a thread waits for them.
const UNWAITED_MAX: usize = WINDOW as usize - 1;

pub(crate) fn run(context: &Context, args: ChildArgs) -> Result {
    let db = super::options().open(context.target.directory()?)?;
    let bench = Bench {
        values: db.keyspace(VALUES)?,
        progress: db.keyspace(PROGRESS)?,
        shared: db.keyspace(SHARED)?,
        seed: args.seed,
        db,
    };
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..args.threads)
            .map(|thread| {
                let (bench, stop) = (&bench, &stop);
                scope.spawn(move || bench.work(thread, stop))
            })
            .collect();
        wait_for_end();
        stop.store(true, Ordering::Relaxed);
        threads.into_iter().try_for_each(|thread| {
            thread.join().map_err(|_| Failure::new("a thread of the test panicked"))?
        })
    })
}

struct Bench {
    db: Db,
    values: Keyspace,
    progress: Keyspace,
    shared: Keyspace,
    seed: u64,
}

impl Bench {
    /// Goes on with a thread's transactions where the database has it.
    fn work(&self, thread: u32, stop: &AtomicBool) -> Result {
        let mut number = model::progress(&self.db, &self.progress, thread)?;
        let mut unwaited = Unwaited::default();
        while !stop.load(Ordering::Relaxed) {
            number += 1;
            let planned = model::planned(self.seed, thread, number);
            let builder = self.db.transaction().label(format!("thread {thread}"));
            // A third of the threads each: durable one by one, many in flight, one sync for many.
            match thread % 3 {
                1 if !planned.counts => {
                    let mut txn = builder.begin();
                    self.write(&mut txn, thread, number, &planned)?;
                    unwaited.pending.push_back(txn.commit_pending()?);
                }
                2 => {
                    builder
                        .durability(Durability::Buffered)
                        .run(|txn| self.write(txn, thread, number, &planned))?;
                    unwaited.buffered += 1;
                }
                _ => {
                    unwaited.wait(&self.db)?;
                    builder.run(|txn| self.write(txn, thread, number, &planned))?;
                    tell(&format!("{thread} {number}"))?;
                    continue;
                }
            }
            if unwaited.pending.len() + unwaited.buffered >= UNWAITED_MAX {
                unwaited.wait(&self.db)?;
                tell(&format!("{thread} {number}"))?;
            }
        }
        Ok(())
    }

    fn write(
        &self,
        txn: &mut Transaction,
        thread: u32,
        number: u64,
        planned: &Planned,
    ) -> holm::Result<()> {
        for (&slot, &len) in &planned.writes {
            let key = model::key(thread, slot);
            match len {
                Some(len) => {
                    let value = model::value(self.seed, thread, number, slot, len);
                    txn.put(&self.values, key, value)?;
                }
                None => txn.delete(&self.values, key)?,
            }
        }
        if planned.counts {
            txn.add(&self.shared, COUNTER, 1)?;
        }
        txn.put(&self.progress, thread.to_string(), number.to_string())
    }
}

/// Commits of one thread that were not waited for.
#[derive(Default)]
struct Unwaited {
    pending: VecDeque<PendingCommit>,
    buffered: usize,
}

impl Unwaited {
    fn wait(&mut self, db: &Db) -> holm::Result<()> {
        for commit in self.pending.drain(..) {
            commit.wait()?;
        }
        if std::mem::take(&mut self.buffered) > 0 {
            db.sync()?;
        }
        Ok(())
    }
}
