//! Bugs that were found here, each as the smallest thing that went wrong.

use std::io::ErrorKind;

use base::KeyRange;
use bytes::Bytes;
use env::{CrashMode, SimDisk};

use super::{begin, key, put, range, shard};
use crate::{Durability, Error, TransactionOptions};

/// A commit that the log failed under gives up its locks when it is visible, which is never: all
/// who waited for them slept for ever.
#[test]
fn locks_are_given_up_when_the_log_fails() {
    let disk = SimDisk::new();
    let shard = shard(&disk);
    let mut txn = begin(&shard);
    txn.get_for_update(key("k")).unwrap();
    txn.put(key("k"), Bytes::from_static(b"1")).unwrap();
    disk.fail_from(disk.operations(), ErrorKind::Other);
    let failed = txn.commit(0);
    assert!(matches!(failed, Err(Error::Storage(_))), "{failed:?}");
    assert!(shard.locks().is_empty());
}

/// The same for one that is in order when somebody else learns of the failure.
#[test]
fn locks_of_a_pending_commit_are_given_up_when_the_log_fails() {
    let disk = SimDisk::new();
    let shard = shard(&disk);
    let mut txn = begin(&shard);
    txn.get_for_update(key("k")).unwrap();
    txn.put(key("k"), Bytes::from_static(b"1")).unwrap();
    let pending = txn.commit_pending(0).unwrap();
    disk.fail_from(disk.operations(), ErrorKind::Other);
    assert!(shard.sync().is_err());
    assert!(shard.locks().is_empty());
    assert!(pending.wait().is_err());
}

/// A feed kept the pin it began with until it had delivered something, so that one on a quiet range
/// kept every version of every other key.
#[test]
fn a_watch_of_a_quiet_range_does_not_keep_the_history_of_others() {
    let shard = shard(&SimDisk::new());
    let mut watch = shard.watch(range("quiet", "quiet~"), None).unwrap();
    for n in 0..100 {
        put(&shard, "busy", &n.to_string());
    }
    let collected = shard.collect(shard.visible());
    assert_eq!(collected.versions, 99);
    put(&shard, "quiet1", "x");
    assert_eq!(watch.try_next().unwrap().unwrap().changes[0].key, "quiet1");
}

/// A feed that starts after the log has failed was not told of it, and waited for ever.
#[test]
fn a_watch_that_begins_after_the_log_failed_says_so() {
    let disk = SimDisk::new();
    let shard = shard(&disk);
    disk.fail_from(disk.operations(), ErrorKind::Other);
    let mut txn = begin(&shard);
    txn.put(key("k"), Bytes::new()).unwrap();
    assert!(txn.commit(0).is_err());
    let mut watch = shard.watch(KeyRange::all(), None).unwrap();
    assert!(watch.try_next().is_err());
}

/// A failure that a checkpoint met first ended the log, and no feed was told.
#[test]
fn a_watch_learns_of_a_failure_that_a_checkpoint_met() {
    let disk = SimDisk::new();
    let shard = shard(&disk);
    let mut watch = shard.watch(KeyRange::all(), None).unwrap();
    let options = TransactionOptions { durability: Durability::None, ..Default::default() };
    let mut txn = shard.begin(options);
    txn.put(key("k"), Bytes::new()).unwrap();
    txn.commit(0).unwrap();
    assert_eq!(watch.try_next().unwrap().unwrap().changes.len(), 1);
    disk.fail_from(disk.operations(), ErrorKind::Other);
    assert!(shard.flush().is_err());
    assert!(watch.try_next().is_err());
}

/// Savepoints were numbered within their transaction, so that of another one was taken for one's
/// own.
#[test]
fn a_savepoint_of_another_transaction_is_refused() {
    let shard = shard(&SimDisk::new());
    let (mut one, mut other) = (begin(&shard), begin(&shard));
    let mark = one.savepoint();
    other.savepoint();
    other.put(key("k"), Bytes::new()).unwrap();
    assert!(matches!(other.rollback_to(mark), Err(Error::NoSuchSavepoint)));
    assert_eq!(other.writes_len(), 1);
}

/// A locker whose key had a newer version on its way to the disk moved its snapshot to before it,
/// read the old value, and lost at its commit in spite of the lock.
#[test]
fn get_for_update_sees_a_commit_that_was_in_flight() {
    let shard = shard(&SimDisk::new());
    put(&shard, "k", "1");
    let mut locker = begin(&shard);
    let mut blind = begin(&shard);
    blind.put(key("k"), Bytes::from_static(b"2")).unwrap();
    let in_flight = blind.commit_pending(0).unwrap();
    assert!(!in_flight.is_done());
    assert_eq!(locker.get_for_update(key("k")).unwrap().unwrap(), "2");
    locker.put(key("k"), Bytes::from_static(b"3")).unwrap();
    locker.commit(0).unwrap();
}

/// `delete_range` left its own savepoint behind, and every later write was kept twice.
#[test]
fn delete_range_leaves_no_savepoint() {
    let shard = shard(&SimDisk::new());
    put(&shard, "a", "1");
    let mut txn = begin(&shard);
    assert_eq!(txn.delete_range(range("a", "z")).unwrap(), 1);
    assert!(!txn.writes.keeps_undo());
    let mark = txn.savepoint();
    txn.put(key("b"), Bytes::new()).unwrap();
    assert_eq!(txn.delete_range(range("a", "z")).unwrap(), 1);
    txn.rollback_to(mark).unwrap();
    assert_eq!(txn.writes_len(), 1);
}

/// Waiting for a timestamp that was never given out went round in circles for ever.
#[test]
fn waiting_for_what_nobody_committed_ends() {
    let shard = shard(&SimDisk::new());
    let ts = put(&shard, "k", "1");
    shard.wait_visible(ts.next()).unwrap();
}

/// A flush makes commits that are in flight durable first, and releases no log before the tables
/// have what was in it. Found by breaking a checkpoint on purpose: nothing else noticed.
#[test]
fn a_flush_keeps_the_log_of_commits_in_flight() {
    let disk = SimDisk::new();
    let shard = shard(&disk);
    put(&shard, "a", "1");
    let mut txn = begin(&shard);
    txn.put(key("b"), Bytes::from_static(b"2")).unwrap();
    let in_flight = txn.commit_pending(0).unwrap();
    shard.flush().unwrap();
    in_flight.wait().unwrap();
    let found = super::shard(&disk.crash(CrashMode::LoseUnsynced)).snapshot();
    assert_eq!(found.get(&key("a")).unwrap().unwrap(), "1");
    assert_eq!(found.get(&key("b")).unwrap().unwrap(), "2");
}
