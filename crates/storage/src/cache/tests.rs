//! The cache against a map, and what a scan does to it.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

/// A value: its key, and a number that tells it from an older one of the same key.
type Numbered = (u64, u64);

/// Spreads keys as a hash does, with a few that differ only where the index does not look.
fn hash(key: u64) -> u64 {
    (key / 3).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
}

fn get(cache: &Cache<Numbered>, key: u64) -> Option<u64> {
    cache.get(hash(key), |value| value.0 == key).map(|value| value.1)
}

fn insert(cache: &Cache<Numbered>, key: u64, number: u64, bytes: usize) -> bool {
    cache.insert(hash(key), (key, number), bytes, |value| value.0 == key)
}

#[derive(Debug, Clone)]
enum Step {
    Get(u64),
    Insert(u64, usize),
    Remove(u64),
    SetCapacity(usize),
}

fn steps() -> impl Strategy<Value = Step> {
    let key = || 0..300u64;
    prop_oneof![
        40 => key().prop_map(Step::Get),
        40 => (key(), 0..2000usize).prop_map(|(key, bytes)| Step::Insert(key, bytes)),
        10 => key().prop_map(Step::Remove),
        1 => (0..400_000usize).prop_map(Step::SetCapacity),
    ]
}

proptest! {
    #[test]
    fn what_is_found_is_what_was_put_in_last(steps in prop::collection::vec(steps(), 1..600)) {
        let cache = Cache::new(100_000);
        let mut model = HashMap::new();
        for (number, step) in (0..).zip(steps) {
            match step {
                Step::Get(key) => {
                    let found = get(&cache, key);
                    prop_assert!(found.is_none() || found == model.get(&key).copied());
                }
                Step::Insert(key, bytes) => {
                    model.insert(key, number);
                    let is_in = insert(&cache, key, number, bytes);
                    prop_assert_eq!(get(&cache, key).is_some(), is_in);
                }
                Step::Remove(key) => {
                    model.remove(&key);
                    cache.shard(hash(key)).remove(hash(key), |value| value.0 == key);
                    prop_assert_eq!(get(&cache, key), None);
                }
                Step::SetCapacity(bytes) => cache.set_capacity(bytes),
            }
            cache.check_invariants();
        }
    }
}

#[test]
fn a_set_that_fits_stays_whole() {
    let cache = Cache::new(2 << 20);
    (0..5_000).for_each(|key| assert!(insert(&cache, key, key, 100)));
    let stats = cache.stats();
    assert_eq!((stats.entries, stats.evictions), (5_000, 0));
    assert_eq!(stats.bytes, 5_000 * (100 + Shard::<Numbered>::ENTRY_BYTES as u64));
    assert!((0..5_000).all(|key| get(&cache, key) == Some(key)));
    assert_eq!(
        (cache.stats().hits, cache.stats().misses, cache.stats().inserts),
        (5_000, 0, 5_000)
    );
}

#[test]
fn one_pass_over_everything_does_not_empty_it() {
    let cache = Cache::new(1 << 20);
    // A hot set of a good half, each read more than once, in the presence of strangers.
    for round in 0..4 {
        for key in 0..3_000 {
            if get(&cache, key).is_none() {
                insert(&cache, key, key, 100);
            }
            let stranger = 1_000_000 + round * 3_000 + key;
            insert(&cache, stranger, stranger, 100);
        }
    }
    let hot = |cache: &Cache<Numbered>| (0..3_000).filter(|&key| get(cache, key).is_some()).count();
    let before = hot(&cache);
    assert!(before > 2_900, "{before} of 3000");
    for stranger in 2_000_000..2_200_000 {
        assert_eq!(get(&cache, stranger), None);
        insert(&cache, stranger, stranger, 100);
    }
    let after = hot(&cache);
    assert!(after * 100 > before * 95, "{after} of {before} are left");
    cache.check_invariants();
}

#[test]
fn less_capacity_takes_effect_at_once_and_none_turns_it_off() {
    let cache = Cache::new(1 << 20);
    (0..10_000).for_each(|key| _ = insert(&cache, key, key, 50));
    assert!(cache.stats().bytes > 1_000_000);
    cache.set_capacity(100_000);
    let stats = cache.stats();
    assert!(stats.bytes <= 100_000 && stats.bytes > 80_000, "{stats:?}");
    cache.check_invariants();
    cache.for_each_shard(|shard| assert!(shard.slots.len() <= 100_000 / SHARDS / 50));
    cache.set_capacity(0);
    assert_eq!((cache.stats().bytes, cache.stats().entries), (0, 0));
    assert!(!insert(&cache, 1, 1, 0));
    cache.for_each_shard(|shard| assert_eq!(shard.index.len() + shard.slots.len(), 0));
}
