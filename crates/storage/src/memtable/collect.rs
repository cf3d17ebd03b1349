//! Collecting: finding what the watermark has passed, without looking at the rest.
//!
//! An entry is queued when it gets something that will be garbage one day: a second version, or a
//! tombstone. Its place in the queue carries the timestamp at which there will be something to do,
//! so a collection with a lower watermark passes it without touching the entry.
//!
//! ```text
//!   chain  @9 -> @7 -> @4          due at @7: then nobody needs @4
//!   chain  T8                      due at @8: then nobody needs the key
//! ```

use base::Timestamp;

use super::Memtable;
use super::entry::{Claim, EntryRef, VersionRef};
use super::link::Guard;
use super::pin::Pin;
use super::reclaim::Retired;
use super::sync::{Mutex, MutexGuard, Padded, STRIPES, thread_number};

/// What a collection did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collected {
    /// Versions cut from their chains.
    pub versions: usize,
    /// Keys removed from both indexes.
    pub keys: usize,
    /// Allocations given back (those retired earlier included).
    pub freed: usize,
    /// Allocations that wait for a pin to go.
    pub waiting: usize,
}

struct Due {
    ts: Timestamp,
    claim: Claim,
}

/// The entries with something to collect, now or later.
#[derive(Default)]
pub(super) struct Queue {
    stripes: [Padded<Mutex<Vec<Due>>>; STRIPES],
}

impl Queue {
    /// Adds an entry that was not queued and is marked as queued now.
    pub(super) fn push(&self, ts: Timestamp, entry: EntryRef<'_>) {
        let due = Due { ts, claim: Claim::new(entry) };
        self.stripes[thread_number() % STRIPES].0.lock().push(due);
    }

    pub(super) fn len(&self) -> usize {
        self.stripes.iter().map(|stripe| stripe.0.lock().len()).sum()
    }
}

impl Memtable {
    /// Goes through the queue once.
    pub(super) fn collect_queued(&self, collected: &mut Collected, pin: &Pin<&Memtable>) {
        let watermark = self.watermark();
        for stripe in &self.queue.stripes {
            let mut queued = std::mem::take(&mut *stripe.0.lock());
            queued.retain_mut(|due| {
                if due.ts <= watermark {
                    match self.collect_entry(&due.claim, watermark, collected, pin.guard()) {
                        Some(ts) => due.ts = ts,
                        None => return false,
                    }
                }
                true
            });
            stripe.0.lock().append(&mut queued);
        }
    }

    /// Collects one entry. Returns when there will be more to do; `None` takes it off the queue.
    fn collect_entry(
        &self,
        claim: &Claim,
        watermark: Timestamp,
        collected: &mut Collected,
        guard: &Guard,
    ) -> Option<Timestamp> {
        let entry = claim.entry(guard);
        let lock = entry.lock();
        let tail = self.trim(entry, usize::MAX, watermark, &lock);
        let head = entry.head();
        let due = self.next_due(head);
        if due.is_none() {
            entry.set_queued(false, &lock);
        }
        let dead =
            self.is_collectable_tombstone(head) && head.next().is_none() && head.ts() <= watermark;
        if dead {
            entry.set_dead(&lock);
        }
        drop(lock);
        collected.versions += self.retire_tail(tail);
        if dead {
            self.remove(entry, guard);
            collected.keys += 1;
            return None;
        }
        due
    }

    /// Cuts off what lies behind the newest version at or below the watermark, if that is one of
    /// the first `steps`.
    pub(super) fn trim<'g>(
        &self,
        entry: EntryRef<'g>,
        steps: usize,
        watermark: Timestamp,
        lock: &MutexGuard<'_, ()>,
    ) -> Option<VersionRef<'g>> {
        let mut version = entry.head();
        for _ in 0..steps {
            let next = version.next()?;
            if version.ts() <= watermark {
                return entry.cut_after(version, lock);
            }
            version = next;
        }
        None
    }

    /// Retires the versions that `trim` cut off.
    pub(super) fn retire_tail(&self, mut tail: Option<VersionRef<'_>>) -> usize {
        let mut count = 0;
        while let Some(version) = tail {
            tail = version.next();
            if let Some(retired) = Retired::version(version) {
                self.memory.retire(retired);
            }
            count += 1;
        }
        count
    }

    /// Takes a dead entry out of both indexes and retires it with its last version.
    fn remove(&self, entry: EntryRef<'_>, guard: &Guard) {
        self.apply(self.tree.remove(entry, guard));
        self.hash.remove(self.hash_of(entry.key()), entry, guard);
        self.memory.counters.add(-1, 0);
        if let Some(version) = Retired::version(entry.head()) {
            self.memory.retire(version);
        }
        self.memory.retire(Retired::entry(entry));
    }

    /// Returns when the chain will have something to collect: when the watermark reaches the second
    /// oldest version, or the tombstone that stands alone.
    fn next_due(&self, head: VersionRef<'_>) -> Option<Timestamp> {
        let mut version = head;
        let mut due = self.is_collectable_tombstone(head).then(|| head.ts());
        while let Some(next) = version.next() {
            due = Some(version.ts());
            version = next;
        }
        due
    }
}
