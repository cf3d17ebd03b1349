//! Holds every store that was compiled in to the same answers: a store that does less work than
//! the others would win.

use std::path::PathBuf;
use std::thread;

use super::*;
use crate::records::{FIRST, VALUE_BYTES, count_up, key};
use crate::store::{Access, Durability, Session};

/// A directory that is removed when the test ends well.
struct TempDir(PathBuf);

impl TempDir {
    fn new(test: &str, store: &str) -> TempDir {
        let name = format!("holm-bench-{}-{test}-{store}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&dir).unwrap();
        TempDir(dir)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn each_store(test: &str, is_transactional: bool, check: impl Fn(&dyn Store)) {
    for peer in all().into_iter().filter(|peer| peer.role != Role::LogLimit) {
        if is_transactional && peer.role == Role::PlainPeer {
            continue;
        }
        for durability in [Durability::Sync, Durability::None] {
            let dir = TempDir::new(test, peer.name);
            let (access, large_values) = (Access::Write, false);
            let memory_bytes = 32 << 20;
            let setup = Setup { dir: &dir.0, durability, memory_bytes, access, large_values };
            let store = (peer.open)(&setup).unwrap();
            check(&*store);
            store.settle().unwrap();
            store.compact().unwrap();
            store.close().unwrap();
        }
    }
}

fn rows(session: &mut dyn Session, from: &[u8], limit: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut rows = Vec::new();
    let mut row = |key: &[u8], value: &[u8]| rows.push((key.to_vec(), value.to_vec()));
    let count = session.scan(from, limit, &mut row).unwrap();
    assert_eq!(count, rows.len());
    rows
}

#[test]
fn reads_see_what_was_written() {
    each_store("reads", false, |store| {
        let mut session = store.session().unwrap();
        let mut expected: Vec<_> = (0..500u64)
            .map(|number| (key(number).to_vec(), vec![number as u8; VALUE_BYTES]))
            .collect();
        let written: Vec<_> =
            expected.iter().map(|(key, value)| (key.as_slice(), value.as_slice())).collect();
        session.write_batch(&written).unwrap();
        session.put(&key(7), b"replaced").unwrap();
        expected[7].1 = b"replaced".to_vec();
        session.delete(&key(499)).unwrap();
        expected.pop();

        let mut value = b"left over".to_vec();
        for (key, written) in &expected {
            assert!(session.get(key, &mut value).unwrap());
            assert_eq!(&value, written);
            assert!(session.reader().unwrap().get(key, &mut value).unwrap());
            assert_eq!(&value, written);
        }
        assert!(!session.get(&key(499), &mut value).unwrap());
        assert!(!session.reader().unwrap().get(&key(499), &mut value).unwrap());

        expected.sort_unstable();
        assert_eq!(rows(&mut *session, FIRST, 1000), expected);
        assert_eq!(rows(&mut *session, &expected[123].0, 100), expected[123..223]);
        assert_eq!(rows(&mut *session, &expected[450].0, 100), expected[450..]);
    });
}

/// Each store in each way that a cell opens it again, with and without large values.
#[test]
fn what_was_written_is_there_after_a_close() {
    for peer in all().into_iter().filter(|peer| !is_limit(peer.role)) {
        for large_values in [false, true] {
            let value = vec![7; if large_values { 20_000 } else { VALUE_BYTES }];
            let dir = TempDir::new("closed", peer.name);
            let setup = |access| Setup {
                dir: &dir.0,
                durability: Durability::None,
                memory_bytes: 8 << 20,
                access,
                large_values,
            };
            let store = (peer.open)(&setup(Access::Write)).unwrap();
            for number in 0..300 {
                store.session().unwrap().put(&key(number), &value).unwrap();
            }
            store.close().unwrap();
            for access in [Access::Read, Access::ColdPoints, Access::ColdRanges, Access::Write] {
                let store = (peer.open)(&setup(access)).unwrap();
                let found = rows(&mut *store.session().unwrap(), FIRST, 1000);
                assert_eq!(found.len(), 300, "{} {access:?}", peer.name);
                assert!(found.iter().all(|row| row.1 == value), "{} {access:?}", peer.name);
                store.close().unwrap();
            }
        }
    }
}

fn is_limit(role: Role) -> bool {
    matches!(role, Role::LogLimit | Role::MemoryLimit)
}

#[test]
fn no_update_is_lost() {
    const THREADS: u64 = 4;
    const UPDATES: u64 = 50;
    each_store("updates", true, |store| {
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    let mut session = store.session().unwrap();
                    for number in 0..UPDATES {
                        let key = key(number % 3);
                        session.read_modify_write(&key, &mut count_up).unwrap();
                    }
                });
            }
        });
        let mut session = store.session().unwrap();
        let counts = rows(&mut *session, FIRST, 10)
            .into_iter()
            .map(|(_, value)| u64::from_le_bytes(value.first_chunk().copied().unwrap()));
        assert_eq!(counts.sum::<u64>(), THREADS * UPDATES);
    });
}
