//! Watches deliver exactly what was committed, in order, to readers of every speed.

use std::collections::BTreeMap;
use std::sync::Mutex;

use env::SeededRandom;
use holm::{Bytes, Change, ChangeSet, Durability, KeyRange, Watch, WatchFrom};

use super::world::{Place, options, run_clients};

/// More than a watch lets wait, so that a reader who comes late is sent back to the versions.
const COMMITS_EACH: u64 = 1000;
const CLIENTS: u64 = 6;

/// The key that says that there will be no more; the last one of each prefix.
const LAST: &str = "~";

#[test]
fn readers_of_every_speed_see_the_committed_history() {
    let db = Place::simulated().open(options());
    let space = db.keyspace("things").unwrap();
    let beginning = db.put(&space, "b0", "before").unwrap();
    let from_the_past = db.watch(&space, .., WatchFrom::After(beginning)).unwrap();
    let [fast, slow, late] =
        [(); 3].map(|()| db.watch(&space, KeyRange::prefix(b"a"), WatchFrom::Now).unwrap());
    let committed: Mutex<BTreeMap<u64, Vec<Change>>> = Mutex::default();

    let all = std::thread::scope(|scope| {
        let all = scope.spawn(|| read_to_the_end(from_the_past, |_| ()));
        let fast = scope.spawn(|| read_to_the_end(fast, |_| ()));
        let slow = scope.spawn(|| {
            // As slow as the work that goes on: it looks at the whole keyspace each time.
            read_to_the_end(slow, |n| {
                if n % 16 == 0 {
                    assert!(db.snapshot().scan(&space, ..).count() > 0);
                }
            })
        });
        run_clients(&db, CLIENTS, |client| {
            let mut random = SeededRandom::new(client + 1);
            for n in 0..COMMITS_EACH {
                let mut txn = db
                    .transaction()
                    .durability(if n % 64 == 0 { Durability::Sync } else { Durability::None })
                    .begin();
                let mut changes: BTreeMap<String, Option<Bytes>> = BTreeMap::new();
                for _ in 0..1 + random.below(3) {
                    let prefix = if random.chance(900) { "a" } else { "b" };
                    let key = format!("{prefix}{}", random.below(10));
                    if random.chance(200) {
                        txn.delete(&space, &key).unwrap();
                        changes.insert(key, None);
                    } else {
                        let value = format!("{client} {n}");
                        txn.put(&space, &key, &value).unwrap();
                        changes.insert(key, Some(value.into()));
                    }
                }
                let ts = txn.commit().unwrap();
                let changes = changes.into_iter();
                let changes = changes.map(|(key, value)| Change { key: key.into(), value });
                committed.lock().unwrap().insert(ts.raw(), changes.collect());
            }
        });
        let mut last = db.begin();
        last.put(&space, format!("a{LAST}"), "").unwrap();
        last.commit().unwrap();
        let [fast, slow, all] = [fast, slow, all].map(|thread| thread.join().unwrap());
        assert_same(&fast, &slow);
        assert_same(&fast, &read_to_the_end(late, |_| ()));
        assert_same(&fast, &only(&all, b"a"));
        all
    });
    let committed = committed.into_inner().unwrap();
    assert_eq!(committed.len() as u64, CLIENTS * COMMITS_EACH);
    let expected: Vec<ChangeSet> = committed
        .into_iter()
        .map(|(ts, changes)| ChangeSet { ts: holm::Timestamp::from_raw(ts), changes })
        .collect();
    assert_same(&all, &expected);
}

/// Reads until the last key was written; returns what came before.
fn read_to_the_end(mut watch: Watch, mut each: impl FnMut(usize)) -> Vec<ChangeSet> {
    let mut sets = Vec::new();
    loop {
        let set = watch.next_change().unwrap();
        if set.changes.iter().any(|change| change.key.ends_with(LAST.as_bytes())) {
            return sets;
        }
        sets.push(set);
        each(sets.len());
    }
}

fn only(sets: &[ChangeSet], prefix: &[u8]) -> Vec<ChangeSet> {
    let part = |set: &ChangeSet| {
        let changes = set.changes.iter().filter(|change| change.key.starts_with(prefix));
        let changes: Vec<Change> = changes.cloned().collect();
        (!changes.is_empty()).then_some(ChangeSet { ts: set.ts, changes })
    };
    sets.iter().filter_map(part).collect()
}

/// Says where they part, rather than printing thousands.
fn assert_same(left: &[ChangeSet], right: &[ChangeSet]) {
    let differs = left.iter().zip(right).position(|(left, right)| left != right);
    if let Some(at) = differs {
        panic!("set {at} of {}: {:?} and {:?}", left.len(), left[at], right[at]);
    }
    assert_eq!(left.len(), right.len());
}
