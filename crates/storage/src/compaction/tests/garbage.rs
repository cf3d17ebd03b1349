//! The garbage rule against brute force: all reads, before and after.

use std::collections::BTreeMap;

use base::Timestamp;
use proptest::prelude::*;

use crate::Value;
use crate::compaction::garbage::{Fate, Rule};

/// Versions of one key by timestamp; false for a tombstone.
type Key = BTreeMap<u64, bool>;

fn read(versions: &Key, ts: u64) -> Option<u64> {
    let (&ts, &is_put) = versions.range(..=ts).next_back()?;
    is_put.then_some(ts)
}

fn kept(keys: &[(Key, Key)], watermark: u64) -> Vec<Key> {
    let mut rule = Rule::new(Timestamp::from_raw(watermark));
    let judge = |(number, (versions, beneath)): (usize, &(Key, Key))| {
        let judged = versions.iter().rev().filter(|&(&ts, &is_put)| {
            let value = if is_put { Value::Put(b"v") } else { Value::Tombstone };
            let ts = Timestamp::from_raw(ts);
            let fate = rule.judge(&[number as u8], ts, value, |_| !beneath.is_empty());
            fate == Fate::Keep
        });
        judged.map(|(&ts, &is_put)| (ts, is_put)).collect()
    };
    keys.iter().enumerate().map(judge).collect()
}

fn key() -> impl Strategy<Value = Key> {
    prop::collection::btree_map(0..20u64, any::<bool>(), 0..8)
}

proptest! {
    #[test]
    fn readers_at_or_above_the_watermark_see_no_difference(
        keys in prop::collection::vec(key(), 1..5),
        cuts in prop::collection::vec(0..12u64, 5),
        watermark in 0..22u64,
    ) {
        // What is older than the cut lies beneath, and is not merged.
        let split = |(mut beneath, &cut): (Key, &u64)| (beneath.split_off(&cut), beneath);
        let split: Vec<(Key, Key)> = keys.iter().cloned().zip(&cuts).map(split).collect();
        let kept = kept(&split, watermark);
        for ((all, (versions, beneath)), kept) in keys.iter().zip(&split).zip(&kept) {
            let mut after = kept.clone();
            after.extend(beneath.clone());
            for ts in watermark..23 {
                prop_assert_eq!(read(all, ts), read(&after, ts));
            }
            // And nothing is kept that could go: each version is read by somebody, or hides what
            // lies beneath.
            for ts in kept.keys() {
                let mut without = after.clone();
                let is_put = without.remove(ts) == Some(true);
                let is_missed = (watermark..23).any(|at| read(&without, at) != read(all, at));
                let is_above = *ts > watermark;
                let hides = !is_put && !beneath.is_empty();
                prop_assert!(is_missed || is_above || hides, "{ts} of {versions:?}");
            }
        }
    }
}

#[test]
fn the_drawing_is_true() {
    let versions: Key = [(9, true), (7, true), (5, true), (3, true), (2, true)].into();
    assert_eq!(kept(&[(versions, Key::new())], 6), [Key::from([(9, true), (7, true), (5, true)])]);
    let deleted: Key = [(9, true), (5, false), (3, true)].into();
    assert_eq!(kept(&[(deleted.clone(), Key::new())], 6), [Key::from([(9, true)])]);
    let beneath = Key::from([(1, true)]);
    assert_eq!(kept(&[(deleted, beneath)], 6), [Key::from([(9, true), (5, false)])]);
}
