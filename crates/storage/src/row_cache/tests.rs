//! Rows come back as they were put in, and none that is out of date is served.

use super::*;

fn ts(raw: u64) -> Timestamp {
    Timestamp::from_raw(raw)
}

fn get(cache: &RowCache, key: &[u8], at: u64) -> Option<(u64, Option<Vec<u8>>)> {
    let found = cache.get(key_hash(key), key, ts(at))?;
    Some((found.ts.raw(), found.value.map(Vec::from)))
}

fn insert(cache: &RowCache, generation: Generation, key: &[u8], at: u64, value: Value<'_>) -> bool {
    cache.insert(generation, key_hash(key), key, ts(at), value)
}

#[cfg(not(shuttle))]
#[test]
fn a_row_is_served_from_its_timestamp_on() {
    let cache = RowCache::new(1 << 20);
    let now = cache.generation();
    assert!(insert(&cache, now, b"k", 5, Value::Put(b"value")));
    assert!(insert(&cache, now, b"gone", 6, Value::Tombstone));
    assert!(insert(&cache, now, b"", 7, Value::Put(b"")));
    assert_eq!(get(&cache, b"k", 5), Some((5, Some(b"value".to_vec()))));
    assert_eq!(get(&cache, b"k", 4), None);
    assert_eq!(get(&cache, b"gone", u64::MAX), Some((6, None)));
    assert_eq!(get(&cache, b"", u64::MAX), Some((7, Some(Vec::new()))));
    assert_eq!(get(&cache, b"kv", u64::MAX), None);
    assert_eq!(cache.stats().entries, 3);
}

#[cfg(not(shuttle))]
#[test]
fn large_rows_are_not_kept_and_no_capacity_keeps_none() {
    let cache = RowCache::new(64 * 3 * ROW_BYTES_MAX);
    let now = cache.generation();
    assert!(insert(&cache, now, b"k", 1, Value::Put(&[7; ROW_BYTES_MAX - 1])));
    assert!(!insert(&cache, now, b"l", 1, Value::Put(&[7; ROW_BYTES_MAX])));
    cache.set_capacity(0);
    assert_eq!((get(&cache, b"k", 1), cache.stats().bytes), (None, 0));
    assert!(!insert(&cache, now, b"k", 1, Value::Put(b"v")));
}

/// Random rows in a shard of a few of them: what is found is right, what was read stays longer, and
/// the ring and its index agree after each step.
#[cfg(not(shuttle))]
#[test]
fn a_shard_agrees_with_a_map() {
    let mut random = env::SeededRandom::new(1);
    for capacity in [0, 100, 700, 3_000, 40_000] {
        let mut shard = Shard::new(capacity);
        let mut model = std::collections::HashMap::new();
        let mut hits = 0;
        for step in 0..20_000_u64 {
            let keys = if random.chance(700) { 20 } else { 400 };
            let number = random.below(keys);
            // Few hashes, so that they collide.
            let (key, hash) = (format!("key {number}"), (number % 90) << 40 | (number % 7) << 8);
            match random.below(10) {
                0 => assert!(!shard.remove(hash, key.as_bytes()) || model.remove(&key).is_some()),
                1 if step % 997 == 0 => shard.clear(),
                1..4 => {
                    let len_max = if random.chance(30) { 900 } else { 90 };
                    let len = random.below(len_max) as usize;
                    let value = vec![step as u8; len];
                    let put =
                        if random.chance(900) { Value::Put(&value) } else { Value::Tombstone };
                    shard.insert(hash, key.as_bytes(), ts(step), put);
                    model.insert(key, (step, put.as_put().map(<[u8]>::to_vec)));
                }
                _ => {
                    let read = |ts: Timestamp, value: Value<'_>| {
                        (ts.raw(), value.as_put().map(<[u8]>::to_vec))
                    };
                    let found = shard.get(hash, key.as_bytes(), Timestamp::MAX, read);
                    hits += u32::from(found.is_some());
                    assert!(found.is_none() || found.as_ref() == model.get(&key), "{key}");
                    if let Some((at, _)) = found.filter(|found| found.0 > 0) {
                        let older = shard.get(hash, key.as_bytes(), ts(at - 1), read);
                        assert_eq!(older, None);
                    }
                }
            }
            shard.check_invariants();
        }
        assert!(hits > if capacity < 1000 { 0 } else { 3_000 } || capacity < 700, "{hits}");
    }
}

#[cfg(not(shuttle))]
#[test]
fn rows_that_are_read_outlive_those_that_are_not() {
    let cache = RowCache::new(64 * 4 * 1024);
    let now = cache.generation();
    let key = |n: u32| n.to_be_bytes();
    for n in 0..20_000 {
        insert(&cache, now, &key(n), 1, Value::Put(&[1; 100]));
        for hot in 0..100 {
            get(&cache, &key(hot), 1);
        }
    }
    let hot = (0..100).filter(|n| get(&cache, &key(*n), 1).is_some()).count();
    assert!(hot > 90, "{hot} of 100 hot rows are left");
    assert!(cache.stats().bytes <= 64 * 4 * 1024);
}

#[cfg(not(shuttle))]
#[test]
fn a_late_row_is_refused_whatever_its_key() {
    let cache = RowCache::new(1 << 20);
    // A reader finds k @5 in the tables; then k @9 moves from a memtable into a table.
    let before = cache.generation();
    let invalidation = cache.invalidate([&b"k"[..]]);
    let during = cache.generation();
    assert!(!insert(&cache, before, b"k", 5, Value::Put(b"old")));
    assert!(!insert(&cache, during, b"k", 5, Value::Put(b"old")));
    drop(invalidation);
    assert!(!insert(&cache, before, b"k", 5, Value::Put(b"old")));
    assert!(!insert(&cache, during, b"k", 5, Value::Put(b"old")));
    assert_eq!(get(&cache, b"k", u64::MAX), None);
    let after = cache.generation();
    assert!(insert(&cache, after, b"k", 9, Value::Put(b"new")));
    assert_eq!(get(&cache, b"k", u64::MAX), Some((9, Some(b"new".to_vec()))));
    // Keys that were not named stay.
    drop(cache.invalidate([&b"other"[..]]));
    assert_eq!(get(&cache, b"k", u64::MAX), Some((9, Some(b"new".to_vec()))));
    drop(cache.invalidate([&b"k"[..]]));
    assert_eq!(get(&cache, b"k", u64::MAX), None);
}

#[cfg(not(shuttle))]
#[test]
fn the_cache_is_closed_until_the_last_invalidation_has_ended() {
    let cache = RowCache::new(1 << 20);
    let first = cache.invalidate([]);
    let second = cache.invalidate([]);
    drop(first);
    assert!(!insert(&cache, cache.generation(), b"k", 1, Value::Tombstone));
    drop(second);
    assert!(insert(&cache, cache.generation(), b"k", 1, Value::Tombstone));
}

/// An engine of one key: a view of a memtable and the tables, each of which holds the timestamps of
/// versions. Flushes move the memtable into the tables; readers ask as the engine does.
#[cfg(shuttle)]
mod schedules {
    use std::sync::Arc;

    use super::*;
    use crate::sync::{Mutex, lock, spawn};

    /// A memtable that goes on filling while it is in views, and the newest version in the tables.
    #[derive(Clone)]
    struct View {
        memtables: Vec<Arc<Mutex<Vec<u64>>>>,
        table: u64,
    }

    struct Model {
        rows: RowCache,
        view: Mutex<View>,
        /// What a reader may see.
        visible: AtomicU64,
    }

    const KEY: &[u8] = b"k";

    impl Model {
        fn read(&self) {
            let at = self.visible.load(Ordering::SeqCst);
            let generation = self.rows.generation();
            let view = lock(&self.view).clone();
            let found = self.find(&view, at, generation);
            // One key, all of whose versions up to `at` are there: the newest is `at` itself.
            assert_eq!(found, at, "a reader sees what was visible when it began");
        }

        fn find(&self, view: &View, at: u64, generation: Generation) -> u64 {
            for memtable in view.memtables.iter().rev() {
                let newest = lock(memtable).iter().copied().filter(|&ts| ts <= at).max();
                if let Some(found) = newest {
                    return found;
                }
            }
            if let Some((found, _)) = get(&self.rows, KEY, at) {
                return found;
            }
            // The view's table holds all versions up to `table`.
            insert(&self.rows, generation, KEY, view.table, Value::Put(b"v"));
            view.table.min(at)
        }

        fn write(&self, at: u64) {
            let active = lock(&self.view).memtables.last().cloned();
            lock(&active.expect("there is always an active memtable")).push(at);
            self.visible.store(at, Ordering::SeqCst);
        }

        fn flush(&self) {
            let sealed = {
                let mut view = lock(&self.view);
                view.memtables.push(Arc::default());
                view.memtables[0].clone()
            };
            let newest = lock(&sealed).iter().copied().max();
            let keys = newest.map(|_| KEY);
            let invalidation = self.rows.invalidate(keys);
            {
                let mut view = lock(&self.view);
                view.memtables.remove(0);
                view.table = newest.unwrap_or(view.table);
            }
            drop(invalidation);
        }
    }

    #[test]
    fn no_schedule_serves_a_row_that_a_flush_made_stale() {
        let run = || {
            let model = Arc::new(Model {
                rows: RowCache::new(1 << 20),
                view: Mutex::new(View { memtables: vec![Arc::default()], table: 1 }),
                visible: AtomicU64::new(1),
            });
            let mut threads = Vec::new();
            for _ in 0..2 {
                let model = Arc::clone(&model);
                threads.push(spawn(move || (0..2).for_each(|_| model.read())));
            }
            for at in 2..4 {
                model.write(at);
                model.flush();
            }
            for thread in threads {
                thread.join().unwrap();
            }
            model.read();
        };
        shuttle::check_random(run, 20_000);
        shuttle::check_pct(run, 20_000, 3);
    }
}
