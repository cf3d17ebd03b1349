//! Holds every store that was compiled in to the same answers: a store that does less work than
//! the others would win.

use std::path::PathBuf;
use std::thread;

use super::*;
use crate::records::{FIRST, VALUE_BYTES, count_up, key};
use crate::store::{Durability, Session};

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

fn each_store(test: &str, check: impl Fn(&dyn Store)) {
    for peer in all().into_iter().filter(|peer| peer.role != Role::LogLimit) {
        for durability in [Durability::Sync, Durability::None] {
            let dir = TempDir::new(test, peer.name);
            let setup = Setup { dir: &dir.0, durability, memory_bytes: 160 << 20 };
            let store = (peer.open)(&setup).unwrap();
            check(&*store);
            store.settle().unwrap();
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
    each_store("reads", |store| {
        let mut session = store.session().unwrap();
        let mut expected: Vec<_> = (0..500u64)
            .map(|number| (key(number).to_vec(), vec![number as u8; VALUE_BYTES]))
            .collect();
        session.write_batch(&expected).unwrap();
        session.put(&key(7), b"replaced").unwrap();
        expected[7].1 = b"replaced".to_vec();

        let mut value = b"left over".to_vec();
        for (key, written) in &expected {
            assert!(session.get(key, &mut value).unwrap());
            assert_eq!(&value, written);
            assert!(session.reader().unwrap().get(key, &mut value).unwrap());
            assert_eq!(&value, written);
        }
        assert!(!session.get(&key(500), &mut value).unwrap());
        assert!(!session.reader().unwrap().get(&key(500), &mut value).unwrap());

        expected.sort_unstable();
        assert_eq!(rows(&mut *session, FIRST, 1000), expected);
        assert_eq!(rows(&mut *session, &expected[123].0, 100), expected[123..223]);
        assert_eq!(rows(&mut *session, &expected[450].0, 100), expected[450..]);
    });
}

#[test]
fn no_update_is_lost() {
    const THREADS: u64 = 4;
    const UPDATES: u64 = 50;
    each_store("updates", |store| {
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
