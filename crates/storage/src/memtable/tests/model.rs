//! Random operations against a map of maps, pins held across collections included.

use std::collections::BTreeMap;

use base::KeyRange;
use proptest::prelude::*;

use super::super::{Direction, Memtable, Pin, Tombstones};
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

fn compare(model: &Model, pin: &Pin<&Memtable>) {
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

fn run(ops: Vec<Op>, mut table: Memtable) {
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
                    compare(&model, &pins[which]);
                    pins.swap_remove(which);
                }
                Op::Raise(share) => table.raise_floor(ts(now * u64::from(share) / 255)),
                Op::Collect => {
                    table.collect();
                }
                Op::Compare(which) if !pins.is_empty() => {
                    compare(&model, &pins[which % pins.len()]);
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
            compare(&model, pin);
        }
        compare(&model, &table.pin(ts(now)).expect("the floor is never above now"));
    }
    table.check_invariants();
    table.raise_floor(ts(now));
    table.collect();
    assert_eq!(table.collect().waiting, 0, "nobody is pinned, so nothing waits");
    assert_eq!(table.len(), visible(&model, now).len());
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
        run(ops.clone(), Memtable::new(3, Tombstones::Dropped));
        run(ops, Memtable::in_chunks(3));
    }
}
