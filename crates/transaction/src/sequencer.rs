//! The order of commits: one short critical section that validates, takes the next timestamp and
//! appends to the log; and the watermark up to which commits are visible.
//!
//! ```text
//!               evicted │ remembered, visible      │ in flight, hidden
//!   commits:            [c3][c4][c5][c6][c7][c8][c9][c10][c11][c12]
//!                       ▲                       ▲
//!                     floor                  visible = c9.ts
//! ```
//!
//! Log order is timestamp order, because both are taken in the same critical section. A commit
//! becomes visible when it was applied to the memtable, is durable if it asked for that, and all
//! before it are visible: so whoever reads at `visible` reads a prefix of the history, and one that
//! no crash takes back (a `Buffered` commit takes only itself and later ones back). A commit is
//! acknowledged once it is visible; whoever begins after the acknowledgement sees it. That is the
//! "strictly" in strictly serializable.
//!
//! Visible commits are remembered for a while: a validation that began at an older watermark needs
//! their keys, a conflict wants their label, and feeds of changes follow them.
//!
//! # Invariants
//! * `commits` is sorted by timestamp; timestamps rise strictly, and so do log positions.
//! * All timestamps at or below `visible` that will ever be issued have been, and their versions
//!   are in the memtable.
//! * After the log failed, `visible` never moves again.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use base::{KeyRange, KeyspaceId, Timestamp, key};
use bytes::Bytes;
use storage::ReadPin;
use storage::sync::{AtomicBool, AtomicU64, Condvar, Mutex, MutexGuard, Ordering, lock, wait};
use storage::wal::Lsn;

use crate::error::{Conflict, Error, KeyspaceName, Result, Touched};
use crate::eval::{Footprint, Newer, Verdict, evaluate, evaluate_load};
use crate::locks::TransactionId;
use crate::watch::WatchQueue;
use crate::write_set::WriteSet;

/// How many visible commits are remembered. Enough for the validations that are under way at any
/// moment, and for conflicts to name the winner.
const REMEMBERED_MAX: usize = if cfg!(shuttle) { 1 } else { 4096 };

/// How many bytes of keys and values visible commits may hold on to, in bytes.
const REMEMBERED_BYTES_MAX: usize = 8 << 20;

/// How many commits are checked inside the critical section; with more to check, the transaction is
/// validated by the index first. A check costs a few nanoseconds, so this bounds the section to
/// about a microsecond.
const CHECKED_INSIDE_MAX: usize = if cfg!(shuttle) { 1 } else { 256 };

/// One commit in order.
pub struct Commit {
    /// When it happened.
    pub ts: Timestamp,
    /// Where its record begins in the log.
    pub begin: Lsn,
    /// Where its record ends in the log.
    pub end: Lsn,
    /// What it wrote.
    pub writes: Arc<WriteSet>,
    /// The range that it filled from tables, if it is a bulk load: it may have written any key of
    /// it.
    pub loaded: Option<KeyRange>,
    /// What it is called.
    pub label: Option<Arc<str>>,
    /// True if it may only be seen once it is durable.
    needs_sync: bool,
    /// Whose locks are given up when it is visible.
    owner: Option<TransactionId>,
    /// True once its versions are in the memtable.
    applied: AtomicBool,
    /// True once somebody has polled for it.
    is_polled: AtomicBool,
    /// Who polls for it.
    waker: Mutex<Option<Waker>>,
}

impl Commit {
    /// Returns true if it may only be seen once it is durable.
    pub(crate) fn needs_sync(&self) -> bool {
        self.needs_sync
    }

    /// Replaces the waker of whoever polls.
    pub(crate) fn set_waker(&self, waker: &Waker) {
        *lock(&self.waker) = Some(waker.clone());
        // The poller looks at `visible` after this, and `publish` moves it before it looks at this:
        // one of them sees the other.
        self.is_polled.store(true, Ordering::SeqCst);
    }

    fn wake(&self) {
        if let Some(waker) = lock(&self.waker).take() {
            waker.wake();
        }
    }
}

/// What wants to commit.
pub(crate) struct Request<'a> {
    pub(crate) read_ts: Timestamp,
    pub(crate) footprint: Footprint<'a>,
    pub(crate) writes: Arc<WriteSet>,
    pub(crate) label: Option<Arc<str>>,
    pub(crate) needs_sync: bool,
    pub(crate) owner: Option<TransactionId>,
}

/// The order of commits of one shard.
pub struct Sequencer {
    order: Mutex<Order>,
    visible: AtomicU64,
    /// Wakes those who wait for `visible` to move, for the first hidden commit to be applied, or
    /// for the log to fail.
    moved: Condvar,
    /// How many threads wait at `moved`; changed under the lock of `order`.
    sleeping: AtomicU64,
}

struct Order {
    /// The last timestamp that was issued.
    last: Timestamp,
    commits: VecDeque<Arc<Commit>>,
    /// How many of `commits`, from the front, are visible.
    shown: usize,
    /// Bytes of those.
    shown_bytes: usize,
    /// The timestamp of the last commit that was forgotten.
    floor: Timestamp,
    failed: bool,
    /// True while a bulk load has the order for itself.
    paused: bool,
    watches: Vec<Arc<WatchQueue>>,
}

/// Keeps commits from being put in order while it lives. Those that were before go on.
pub(crate) struct Paused<'s>(&'s Sequencer);

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        lock(&self.0.order).paused = false;
        self.0.moved.notify_all();
    }
}

impl Sequencer {
    /// Starts after the last commit that was recovered.
    pub fn new(last: Timestamp) -> Sequencer {
        let order = Order {
            last,
            commits: VecDeque::new(),
            shown: 0,
            shown_bytes: 0,
            floor: last,
            failed: false,
            paused: false,
            watches: Vec::new(),
        };
        Sequencer {
            order: Mutex::new(order),
            visible: AtomicU64::new(last.raw()),
            moved: Condvar::new(),
            sleeping: AtomicU64::new(0),
        }
    }

    /// Returns the timestamp up to which all commits are visible.
    pub fn visible(&self) -> Timestamp {
        Timestamp::from_raw(self.visible.load(Ordering::SeqCst))
    }

    /// Puts a transaction in order: validates it against everything since its read timestamp, takes
    /// the next commit timestamp and appends to the log.
    ///
    /// `look` checks the footprint against what is stored; it is called outside the critical
    /// section, and only if there is much to check. `append` is called inside, with the timestamp
    /// before and the commit's own; besides where the record lies it says where the versions go.
    ///
    /// # Errors
    /// `Conflict`; and what `look` and `append` fail with: nothing happened then.
    pub(crate) fn commit<M>(
        &self,
        request: Request<'_>,
        wall_ms: u64,
        look: impl Fn() -> Result<Option<Newer>>,
        append: impl FnOnce(Timestamp, Timestamp) -> storage::Result<(Lsn, Lsn, M)>,
    ) -> Result<(Arc<Commit>, M)> {
        let mut validated = request.read_ts;
        let mut looked = false;
        let mut order = loop {
            let order = self.lock_unpaused();
            if request.footprint.blind {
                break order;
            }
            let is_short = order.commits.len() - order.since(validated) <= CHECKED_INSIDE_MAX;
            if validated >= order.floor && (is_short || looked) {
                break order;
            }
            drop(order);
            // Everything visible now is stored, so what `look` does not object to is valid through
            // this timestamp.
            let through = self.visible();
            if let Some(Newer { key, touched, ts }) = look()? {
                return Err(self.conflict(request.read_ts, &key, touched, ts));
            }
            (validated, looked) = (validated.max(through), true);
        };
        if !request.footprint.blind {
            let since = order.since(validated);
            for winner in order.commits.range(since..) {
                let verdict = match &winner.loaded {
                    None => evaluate(request.footprint, &winner.writes),
                    Some(range) => evaluate_load(request.footprint, range),
                };
                if let Verdict::Conflict { key, touched } = verdict {
                    let ts = winner.ts;
                    drop(order);
                    return Err(self.conflict(request.read_ts, &key, touched, ts));
                }
            }
        }
        let ts = order.last.next().max(Timestamp::from_parts(wall_ms, 0));
        let (begin, end, memtable) = append(order.last, ts)?;
        order.last = ts;
        let commit = Arc::new(Commit {
            ts,
            begin,
            end,
            writes: request.writes,
            loaded: None,
            label: request.label,
            needs_sync: request.needs_sync,
            owner: request.owner,
            applied: AtomicBool::new(false),
            is_polled: AtomicBool::new(false),
            waker: Mutex::new(None),
        });
        order.commits.push_back(commit.clone());
        Ok((commit, memtable))
    }

    /// Describes a conflict with the commit at `ts`.
    pub(crate) fn conflict(
        &self,
        read_ts: Timestamp,
        key: &Bytes,
        touched: Touched,
        ts: Timestamp,
    ) -> Error {
        let (id, _) = key::decode(key).unwrap_or((KeyspaceId::CATALOGUE, key));
        let touched = match touched {
            Touched::Scanned(range) => Touched::Scanned(user_range(&range)),
            touched => touched,
        };
        Error::Conflict(Box::new(Conflict {
            keyspace: KeyspaceName { id, name: None },
            key: user_key(key),
            touched,
            winner: self.label_of(ts),
            winner_ts: ts,
            read_ts,
        }))
    }

    /// Returns the label of a commit, if it had one and is remembered.
    pub(crate) fn label_of(&self, ts: Timestamp) -> Option<Arc<str>> {
        let order = lock(&self.order);
        let found = order.commits.binary_search_by_key(&ts, |commit| commit.ts).ok()?;
        order.commits[found].label.clone()
    }

    /// Records that a commit's versions are in the memtable.
    pub(crate) fn applied(&self, commit: &Commit) {
        commit.applied.store(true, Ordering::SeqCst);
        // Whoever sleeps counted itself before it looked at `applied` for the last time: so it saw
        // that, or is seen here. Its own publishing is not enough to wake it, because whoever
        // committed may never come to wait for this commit.
        if self.sleeping.load(Ordering::SeqCst) > 0 {
            let order = lock(&self.order);
            self.moved.notify_all();
            drop(order);
        }
    }

    /// Moves `visible` over all commits that may be seen, hands them to the watches, and wakes
    /// whoever waits for them. `release` gives up a transaction's locks.
    pub(crate) fn publish(&self, durable: impl Fn() -> Lsn, release: impl Fn(TransactionId)) {
        let mut order_guard = lock(&self.order);
        let durable = durable();
        let order = &mut *order_guard;
        let before = order.shown;
        while let Some(commit) = order.commits.get(order.shown) {
            let is_durable = !commit.needs_sync || commit.end <= durable;
            if order.failed || !is_durable || !commit.applied.load(Ordering::Acquire) {
                break;
            }
            order.shown_bytes += commit.writes.bytes();
            order.shown += 1;
        }
        if order.shown == before {
            return;
        }
        let visible = order.commits[order.shown - 1].ts;
        self.visible.store(visible.raw(), Ordering::SeqCst);
        // Those for whom more is to be done than to be seen; hardly any.
        let wants_more = |commit: &&Arc<Commit>| {
            commit.owner.is_some() || commit.is_polled.load(Ordering::SeqCst)
        };
        let shown = order.commits.range(before..order.shown);
        let to_tell: Vec<Arc<Commit>> = shown.filter(wants_more).cloned().collect();
        // In commit order, and before anybody is told: a watch never lags behind an
        // acknowledgement.
        if !order.watches.is_empty() {
            order.watches.retain(|watch| !watch.is_gone());
            for watch in &order.watches {
                order.commits.range(before..order.shown).for_each(|commit| watch.push(commit));
            }
        }
        order.forget();
        if self.sleeping.load(Ordering::SeqCst) > 0 {
            self.moved.notify_all();
        }
        drop(order_guard);
        for commit in to_tell {
            if let Some(owner) = commit.owner {
                release(owner);
            }
            commit.wake();
        }
    }

    /// Waits until a commit is visible. `help` brings about that the log is durable up to a
    /// position: a commit that does not ask to be durable may stand behind one that does.
    ///
    /// # Errors
    /// What `help` fails with; `LogFailed` if the log fails while waiting.
    pub(crate) fn wait_visible(
        &self,
        ts: Timestamp,
        durable: impl Fn() -> Lsn,
        help: impl Fn(Lsn) -> Result<()>,
        release: impl Fn(TransactionId),
    ) -> Result<()> {
        while self.visible() < ts {
            self.publish(&durable, &release);
            let mut order = lock(&self.order);
            if self.visible() >= ts {
                break;
            }
            if order.failed {
                drop(order);
                return Err(log_failed());
            }
            // Nothing is hidden, so no commit of that timestamp is in order.
            let Some(first) = order.commits.get(order.shown) else { return Ok(()) };
            let is_applied = first.applied.load(Ordering::Acquire);
            if is_applied && first.needs_sync && first.end > durable() {
                let end = first.end;
                drop(order);
                help(end)?;
            } else if !is_applied {
                let first = first.clone();
                self.sleeping.fetch_add(1, Ordering::SeqCst);
                if !first.applied.load(Ordering::SeqCst) {
                    order = wait(&self.moved, order);
                }
                self.sleeping.fetch_sub(1, Ordering::SeqCst);
                drop(order);
            }
        }
        Ok(())
    }

    /// Records that the log failed: wakes everybody who waits for it, and gives up the locks of
    /// commits that will never be visible.
    pub(crate) fn fail(&self, release: impl Fn(TransactionId)) {
        let mut order = lock(&self.order);
        order.failed = true;
        self.moved.notify_all();
        let hidden: Vec<Arc<Commit>> = order.commits.range(order.shown..).cloned().collect();
        for watch in &order.watches {
            watch.fail();
        }
        drop(order);
        for commit in hidden {
            if let Some(owner) = commit.owner {
                release(owner);
            }
            commit.wake();
        }
    }

    /// Returns true once the log has failed.
    pub(crate) fn has_failed(&self) -> bool {
        lock(&self.order).failed
    }

    /// Adds a watch; returns the timestamp after which it is told of all commits.
    pub(crate) fn watch(&self, watch: Arc<WatchQueue>) -> Timestamp {
        let mut order = lock(&self.order);
        if order.failed {
            watch.fail();
        }
        order.watches.push(watch);
        self.visible()
    }

    /// Lets the watches move up what they keep of the past. `pin_at` pins a timestamp.
    pub(crate) fn move_watches(&self, pin_at: impl Fn(Timestamp) -> Option<ReadPin>) {
        let mut order = lock(&self.order);
        order.watches.retain(|watch| !watch.is_gone());
        // Under the lock, so that no commit becomes visible that a watch has not been told of.
        let visible = self.visible();
        order.watches.iter().for_each(|watch| watch.keep_from(visible, &pin_at));
    }

    /// Returns the timestamp of the last commit that was put in order.
    pub(crate) fn last(&self) -> Timestamp {
        lock(&self.order).last
    }

    fn lock_unpaused(&self) -> MutexGuard<'_, Order> {
        let mut order = lock(&self.order);
        while order.paused {
            order = wait(&self.moved, order);
        }
        order
    }

    /// Keeps new commits waiting until what is returned is dropped. Whoever else pauses waits, too.
    pub(crate) fn pause(&self) -> Paused<'_> {
        self.lock_unpaused().paused = true;
        Paused(self)
    }

    /// Puts a bulk load in order, which `add` makes durable at the timestamp it is given. Nothing
    /// may be hidden: commits are paused, and those before are visible.
    pub(crate) fn load<E>(
        &self,
        _paused: &Paused<'_>,
        range: KeyRange,
        wall_ms: u64,
        at: Lsn,
        add: impl FnOnce(Timestamp) -> std::result::Result<(), E>,
    ) -> std::result::Result<Timestamp, E> {
        let ts = lock(&self.order).last.next().max(Timestamp::from_parts(wall_ms, 0));
        add(ts)?;
        let mut order = lock(&self.order);
        debug_assert_eq!(order.shown, order.commits.len(), "nothing is hidden");
        order.last = ts;
        order.commits.push_back(Arc::new(Commit {
            ts,
            begin: at,
            end: at,
            writes: Arc::default(),
            loaded: Some(range),
            label: None,
            needs_sync: false,
            owner: None,
            applied: AtomicBool::new(true),
            is_polled: AtomicBool::new(false),
            waker: Mutex::new(None),
        }));
        Ok(ts)
    }

    /// Calls `seal` between two commits, with the timestamp of the last one.
    pub(crate) fn seal(&self, seal: impl FnOnce(Timestamp)) {
        let order = lock(&self.order);
        seal(order.last);
    }
}

impl Order {
    /// Returns the position of the first commit after a timestamp.
    fn since(&self, ts: Timestamp) -> usize {
        // Most transactions are short: a few commits back from the end, and a search otherwise.
        let recent = self.commits.iter().rev().take(CHECKED_INSIDE_MAX / 16);
        let steps = recent.take_while(|commit| commit.ts > ts).count();
        if steps < CHECKED_INSIDE_MAX / 16 {
            return self.commits.len() - steps;
        }
        self.commits.partition_point(|commit| commit.ts <= ts)
    }

    /// Forgets the oldest visible commits beyond the bounds.
    fn forget(&mut self) {
        while self.shown > REMEMBERED_MAX || self.shown_bytes > REMEMBERED_BYTES_MAX {
            let Some(oldest) = self.commits.pop_front() else { break };
            self.shown -= 1;
            self.shown_bytes -= oldest.writes.bytes();
            self.floor = oldest.ts;
        }
    }
}

fn log_failed() -> Error {
    let cause = "the log failed while the commit waited for it".to_string();
    Error::from(storage::Error::LogFailed { cause })
}

/// Returns the user's part of an engine key.
pub(crate) fn user_key(engine_key: &Bytes) -> Bytes {
    engine_key.slice(key::PREFIX_BYTES.min(engine_key.len())..)
}

/// Returns a range of engine keys, all of one keyspace, as one of user keys.
pub(crate) fn user_range(range: &base::KeyRange) -> base::KeyRange {
    let start = user_key(&range.start);
    let keyspace = key::decode(&range.start).map(|(id, _)| id);
    let end = range.end.as_ref().filter(|end| key::decode(end).map(|(id, _)| id) == keyspace);
    base::KeyRange { start, end: end.map(user_key) }
}
