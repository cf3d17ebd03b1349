//! Random operations against a map of maps, pins held across collections included; with tombstones
//! that go at last, and with tombstones that stay, as they do in the engine.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use base::KeyRange;
use proptest::prelude::*;

use super::super::{Cursor, Direction, Memtable, Pin, Tombstones};
use super::ts;
use crate::Value;

#[derive(Debug, Clone)]
enum Op {
    /// Writes keys at the next timestamp.
    Write(Vec<(u16, Option<u16>)>),
    Pin,
    Unpin(usize),
    /// Raises the floor to this share of what is visible.
    Raise(u8),
    Collect,
    Compare(usize),
    Scan(u16, u16, bool),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let change = (0..400u16, proptest::option::weighted(0.6, 0..500u16));
    let op = prop_oneof![
        6 => proptest::collection::vec(change, 1..40).prop_map(Op::Write),
        2 => Just(Op::Pin),
        2 => any::<usize>().prop_map(Op::Unpin),
        1 => (200..=255u8).prop_map(Op::Raise),
        2 => Just(Op::Collect),
        1 => any::<usize>().prop_map(Op::Compare),
        2 => (0..420u16, 0..420u16, any::<bool>()).prop_map(|(a, b, c)| Op::Scan(a, b, c)),
    ];
    proptest::collection::vec(op, 1..120)
}

/// Keys of several lengths with long common parts.
fn key(n: u16) -> Vec<u8> {
    let mut key = vec![3, 0, 0, 0, (n % 3) as u8];
    key.extend_from_slice(&b"a common part of the keys"[..(n % 2) as usize * 25]);
    key.extend_from_slice(&n.to_be_bytes());
    key
}

fn value(len: u16) -> Vec<u8> {
    len.to_le_bytes().repeat(len as usize / 2)
}

type Model = BTreeMap<Vec<u8>, BTreeMap<u64, Option<u16>>>;

fn visible(model: &Model, at: u64) -> Vec<(Vec<u8>, u64, Vec<u8>)> {
    let newest = |(key, versions): (&Vec<u8>, &BTreeMap<u64, Option<u16>>)| {
        let (ts, len) = versions.range(..=at).next_back()?;
        Some((key.clone(), *ts, value((*len)?)))
    };
    model.iter().filter_map(newest).collect()
}

fn rows(
    pin: &Pin<&Memtable>,
    start: &[u8],
    end: Option<&[u8]>,
    direction: Direction,
) -> Vec<(Vec<u8>, u64, Vec<u8>)> {
    let scan = pin.scan(start, end, direction);
    scan.map(|row| (row.key.to_vec(), row.ts.raw(), row.value.to_vec())).collect()
}

/// The cursor over all versions: both ways, from anywhere, against the list of what it shows.
fn compare_cursor(model: &Model, pin: &Pin<&Memtable>, tombstones: Tombstones) {
    type Place = (Vec<u8>, Reverse<u64>);
    let mut cursor = pin.cursor();
    assert_eq!(cursor.entry().map(|entry| entry.ts), None, "it is nowhere yet");
    let place = |cursor: &Cursor<'_, &Memtable>| {
        cursor.entry().map(|entry| (entry.key.to_vec(), Reverse(entry.ts.raw())))
    };
    let mut all: Vec<Place> = Vec::new();
    let mut is_valid = cursor.seek_first();
    while is_valid {
        let entry = cursor.entry().expect("it says that it is on one");
        let len = model[entry.key][&entry.ts.raw()];
        assert_eq!(entry.value.as_inline().map(<[u8]>::to_vec), len.map(value));
        all.push((entry.key.to_vec(), Reverse(entry.ts.raw())));
        is_valid = cursor.next();
    }
    assert!(all.is_sorted_by(|a, b| a < b), "keys rise, timestamps fall");
    // What the pin can see, and everything newer, is among them.
    let at = pin.ts().raw();
    for (key, versions) in model {
        let seen = versions.range(..=at).next_back();
        let is_needed = |len: &Option<u16>| len.is_some() || tombstones == Tombstones::Kept;
        let seen = seen.filter(|(_, len)| is_needed(len)).map(|(ts, _)| *ts);
        for ts in versions.range(at + 1..).map(|(ts, _)| *ts).chain(seen) {
            assert!(all.binary_search(&(key.clone(), Reverse(ts))).is_ok(), "{ts} is missing");
        }
    }
    let mut is_valid = cursor.seek_last();
    for expected in all.iter().rev() {
        assert!(is_valid);
        assert_eq!(place(&cursor).as_ref(), Some(expected), "backward");
        is_valid = cursor.prev();
    }
    assert!(!is_valid && cursor.entry().is_none());
    // From anywhere, and there and back.
    for n in (0..410).step_by(7) {
        let target = (key(n), Reverse(u64::from(n) % (at + 3)));
        let ts = ts(target.1.0);
        let first = all.partition_point(|place| *place < target);
        assert_eq!(cursor.seek(&target.0, ts), first < all.len());
        assert_eq!(place(&cursor).as_ref(), all.get(first), "seek");
        if first < all.len() {
            match n % 3 {
                0 => {
                    assert_eq!(cursor.prev(), first > 0);
                    assert_eq!(place(&cursor), first.checked_sub(1).map(|at| all[at].clone()));
                    if first > 0 {
                        assert!(cursor.next());
                        assert_eq!(place(&cursor).as_ref(), all.get(first), "there and back");
                    }
                }
                1 => {
                    let next_key = all.partition_point(|place| place.0 <= all[first].0);
                    assert_eq!(cursor.skip_key(), next_key < all.len());
                    assert_eq!(place(&cursor).as_ref(), all.get(next_key), "skip");
                }
                _ => {
                    assert_eq!(cursor.next(), first + 1 < all.len());
                    assert_eq!(place(&cursor).as_ref(), all.get(first + 1));
                }
            }
        }
        assert_eq!(cursor.seek_before(&target.0, ts), first > 0);
        assert_eq!(place(&cursor), first.checked_sub(1).map(|at| all[at].clone()), "before");
        if first > 0 {
            let next_key = all.partition_point(|place| place.0 <= all[first - 1].0);
            match n % 3 {
                0 => {
                    assert_eq!(cursor.skip_key(), next_key < all.len());
                    assert_eq!(place(&cursor).as_ref(), all.get(next_key), "skip, turned around");
                }
                1 => {
                    assert_eq!(cursor.next(), first < all.len());
                    assert_eq!(place(&cursor).as_ref(), all.get(first), "turned around");
                }
                _ => {
                    assert_eq!(cursor.prev(), first > 1);
                    assert_eq!(place(&cursor), first.checked_sub(2).map(|at| all[at].clone()));
                }
            }
        }
    }
}

fn compare(model: &Model, pin: &Pin<&Memtable>, tombstones: Tombstones) {
    compare_cursor(model, pin, tombstones);
    let at = pin.ts().raw();
    let expected = visible(model, at);
    assert_eq!(rows(pin, b"", None, Direction::Forward), expected);
    let mut reverse = rows(pin, b"", None, Direction::Reverse);
    reverse.reverse();
    assert_eq!(reverse, expected);
    for n in 0..400 {
        let key = key(n);
        let versions = model.get(&key);
        let found = versions.and_then(|versions| versions.range(..=at).next_back());
        let expected = found.and_then(|(ts, len)| Some((*ts, value((*len)?))));
        let got = pin.get(&key).map(|(ts, value)| (ts.raw(), value.to_vec()));
        assert_eq!(got, expected);
        let newest = versions.and_then(|versions| versions.keys().next_back());
        if newest.is_some_and(|newest| *newest > at) {
            assert_eq!(pin.newest(&key).map(|ts| ts.raw()), newest.copied());
        }
    }
    // Every version newer than the pin, and the one it sees.
    for history in pin.versions(&KeyRange::all()) {
        let expected = &model[history.key];
        let seen = expected.range(..=at).next_back();
        let newer = expected.range(at + 1..).rev();
        let mut expected: Vec<_> = newer.chain(seen).map(|(ts, len)| (*ts, *len)).collect();
        let got: Vec<_> = history.versions().collect();
        if got.len() + 1 == expected.len() {
            // A tombstone below the watermark may be gone with all before it.
            assert_eq!(tombstones, Tombstones::Dropped);
            assert_eq!(expected.pop().map(|version| version.1), Some(None));
        }
        assert_eq!(got.len(), expected.len());
        for (version, (ts, len)) in got.iter().zip(expected) {
            assert_eq!(version.ts.raw(), ts);
            assert_eq!(version.value.as_put().map(<[u8]>::to_vec), len.map(value));
            assert_eq!(version.value == Value::Tombstone, len.is_none());
        }
    }
}

fn run(ops: Vec<Op>, mut table: Memtable, tombstones: Tombstones) {
    let mut model = Model::new();
    let mut now = 10;
    {
        let table = &table;
        let mut pins: Vec<Pin<&Memtable>> = Vec::new();
        for op in ops {
            match op {
                Op::Write(changes) => {
                    now += 1;
                    let writer = table.pin_writer();
                    if changes.len() % 2 == 0 {
                        // All at once: of a key that comes twice, the first.
                        let mut batch = BTreeMap::new();
                        for (n, len) in changes {
                            batch.entry(key(n)).or_insert(len);
                        }
                        let values: Vec<_> = batch.values().map(|len| len.map(value)).collect();
                        let writes = batch.keys().zip(&values).map(|(key, bytes)| {
                            (&key[..], bytes.as_deref().map_or(Value::Tombstone, Value::Put))
                        });
                        writer.insert_all(ts(now), writes);
                        for (key, len) in batch {
                            model.entry(key).or_default().insert(now, len);
                        }
                        continue;
                    }
                    for (n, len) in changes {
                        let bytes = len.map(value);
                        let new = bytes.as_deref().map_or(Value::Tombstone, Value::Put);
                        let added = writer.insert(&key(n), ts(now), new);
                        let versions = model.entry(key(n)).or_default();
                        assert_eq!(added, !versions.contains_key(&now));
                        versions.entry(now).or_insert(len);
                    }
                }
                Op::Pin => pins.push(table.pin_newest(|| ts(now))),
                Op::Unpin(which) if !pins.is_empty() => {
                    let which = which % pins.len();
                    compare(&model, &pins[which], tombstones);
                    pins.swap_remove(which);
                }
                Op::Raise(share) => table.raise_floor(ts(now * u64::from(share) / 255)),
                Op::Collect => {
                    table.collect();
                }
                Op::Compare(which) if !pins.is_empty() => {
                    compare(&model, &pins[which % pins.len()], tombstones);
                }
                Op::Scan(start, end, reverse) => {
                    let pin = table.pin(ts(now)).expect("the floor is never above now");
                    let (start, end) = (key(start), key(end));
                    let mut expected = visible(&model, now);
                    expected.retain(|row| row.0 >= start && row.0 < end);
                    let direction = if reverse {
                        expected.reverse();
                        Direction::Reverse
                    } else {
                        Direction::Forward
                    };
                    assert_eq!(rows(&pin, &start, Some(&end), direction), expected);
                }
                Op::Unpin(_) | Op::Compare(_) => {}
            }
        }
        for pin in &pins {
            compare(&model, pin, tombstones);
        }
        let pin = table.pin(ts(now)).expect("the floor is never above now");
        compare(&model, &pin, tombstones);
    }
    table.check_invariants();
    table.raise_floor(ts(now));
    table.collect();
    assert_eq!(table.collect().waiting, 0, "nobody is pinned, so nothing waits");
    let left = match tombstones {
        Tombstones::Dropped => visible(&model, now).len(),
        Tombstones::Kept => model.len(),
    };
    assert_eq!(table.len(), left);
    table.check_invariants();
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200,
        failure_persistence: None,
        ..Default::default()
    })]

    #[test]
    fn the_table_agrees_with_a_map_of_maps(ops in ops()) {
        run(ops.clone(), Memtable::new(3, Tombstones::Dropped), Tombstones::Dropped);
        run(ops.clone(), Memtable::in_chunks(3), Tombstones::Dropped);
        run(ops, Memtable::new(3, Tombstones::Kept), Tombstones::Kept);
    }
}
