//! The threads that work beside the program.
//!
//! ```text
//!   holm-log      pending commits, the Buffered interval, the log's next segment
//!   holm-flush    memtables that are full, versions past the retention
//!   holm-compact  tables into fewer tables; a few threads of them
//! ```
//!
//! They are apart because a compaction takes seconds, a flush part of one, and a commit must not
//! wait for either. Committers never wait for them: whoever waits for a commit does its disk work
//! itself, and whoever brings more than is carried away is slowed down.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::db::Inner;

/// How often versions past the retention are looked for, at most. Collecting costs what there is to
/// collect, so this only bounds how long memory is held in vain.
const COLLECT_EVERY: Duration = Duration::from_secs(1);

/// How often compaction looks for what nobody has told it of, at most: garbage that came of age.
const COMPACT_EVERY: Duration = Duration::from_secs(5);

/// Compactions that run at once, at most. Each keeps a processor busy, and the program wants some.
const COMPACTION_THREADS_MAX: usize = 4;

/// Returns how many threads compact: half of the processors.
pub(crate) fn compaction_threads() -> usize {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    (processors / 2).clamp(1, COMPACTION_THREADS_MAX)
}

/// What a thread is told.
#[derive(Default)]
struct Told {
    work: bool,
    stop: bool,
}

/// Wakes one thread.
#[derive(Default)]
pub(crate) struct Signal {
    told: Mutex<Told>,
    changed: Condvar,
}

impl Signal {
    /// Says that there is work.
    pub(crate) fn work(&self) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if !told.work {
            told.work = true;
            self.changed.notify_one();
        }
    }

    fn stop(&self) {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).stop = true;
        self.changed.notify_one();
    }

    /// Waits for work, for a while if a time is given; false if the thread shall end.
    fn wait(&self, at_most: Option<Duration>) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        while !told.work && !told.stop {
            let Some(at_most) = at_most else {
                told = self.changed.wait(told).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let waited = self.changed.wait_timeout(told, at_most);
            let (guard, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            told = guard;
            if timeout.timed_out() {
                break;
            }
        }
        told.work = false;
        !told.stop
    }
}

/// The threads of one database.
#[derive(Default)]
pub(crate) struct Background {
    threads: Mutex<Vec<(Arc<Signal>, JoinHandle<()>)>>,
}

impl Background {
    pub(crate) fn start(&self, db: &Arc<Inner>) -> std::io::Result<()> {
        let interval = db.options.buffered_interval;
        let log = spawn("holm-log", &db.log_signal, db, None, move |db, signal| {
            // The interval lets commits gather that nobody waits for.
            if db.wants_interval() && !db.has_pending() && !signal.pause(interval) {
                return;
            }
            db.log_work();
        })?;
        let flush = spawn("holm-flush", &db.flush_signal, db, Some(COLLECT_EVERY), |db, _| {
            // What is in a full memtable may be on its way to the disk still, and whoever committed
            // it may never come to bring it there.
            if db.shard.engine().wants_flush() {
                let _ = db.shard.sync();
            }
            db.flush_work();
        })?;
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        threads.extend([(db.log_signal.clone(), log), (db.flush_signal.clone(), flush)]);
        for number in 0..compaction_threads() {
            let signal = &db.compact_signals[number % db.compact_signals.len()];
            let thread = spawn("holm-compact", signal, db, Some(COMPACT_EVERY), move |db, _| {
                while !db.is_stopping.load(Ordering::Relaxed) && db.compact_work() {
                    // Perhaps there is enough for another one.
                    db.wake_compaction(number + 1);
                }
                if number == 0 {
                    db.scrub_work();
                }
            })?;
            threads.push((signal.clone(), thread));
        }
        Ok(())
    }

    /// Ends the threads and waits for them.
    pub(crate) fn stop(&self) {
        let threads: Vec<_> =
            self.threads.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect();
        for (signal, _) in &threads {
            signal.stop();
        }
        for (_, thread) in threads {
            let _ = thread.join();
        }
    }
}

impl Signal {
    /// Sleeps, unless the thread shall end; false then.
    fn pause(&self, how_long: Duration) -> bool {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let waited =
            self.changed.wait_timeout_while(told, how_long, |told| !told.stop && !told.work);
        let (told, _) = waited.unwrap_or_else(PoisonError::into_inner);
        !told.stop
    }
}

fn spawn(
    name: &str,
    signal: &Arc<Signal>,
    db: &Arc<Inner>,
    every: Option<Duration>,
    work: impl Fn(&Arc<Inner>, &Signal) + Send + 'static,
) -> std::io::Result<JoinHandle<()>> {
    // The threads do not keep the database open: whoever closes it waits for them.
    let (signal, db) = (signal.clone(), db.clone());
    std::thread::Builder::new().name(name.to_string()).spawn(move || {
        while signal.wait(every) {
            work(&db, &signal);
        }
    })
}
