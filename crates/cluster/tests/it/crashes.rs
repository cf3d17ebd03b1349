//! A crash at every operation of the disk: of one that appends, applies, flushes and compacts, and
//! of one that gets an image.

use base::{KeyspaceId, Timestamp};
use bytes::Bytes;
use cluster::{Commit, Isolation, Record, ReplicaOptions, Request, Response, TxnId};
use raft::ReplicaId;

use crate::world::{ELECTION_TICKS, World, options};

fn key(number: u64) -> Bytes {
    Bytes::from(KeyspaceId(1).encode(format!("key {number:04}").as_bytes()))
}

/// Writes a key blindly, and again until it is known to be written; returns when.
fn put(world: &mut World, nonce: u64, number: u64, value: &[u8]) -> Timestamp {
    let request = Request::Commit(Commit {
        txn: TxnId { start: Timestamp::ZERO, home: 1, nonce },
        isolation: Isolation::Serializable,
        is_blind: true,
        points: Vec::new(),
        ranges: Vec::new(),
        writes: vec![(key(number), Some(Bytes::copy_from_slice(value)))],
    });
    for _ in 0..40 {
        let leader = world.elect();
        match world.call(leader, request.clone()) {
            Some(Response::Committed { ts }) => return ts,
            Some(Response::Ended(Some(Record::Committed(ts)))) => return ts,
            Some(Response::Refused(what)) => panic!("refused: {what}"),
            _ => world.run(ELECTION_TICKS / 2),
        }
    }
    panic!("commit {nonce} comes to no end");
}

fn flush(world: &mut World, at: usize) {
    if let Some(replica) = &mut world.nodes[at].replica {
        let mut out = Vec::new();
        let _ = replica.flush(&mut out);
        while replica.background(raft::Ticks(world.now), &mut out) {}
        world.step(at, cluster::Input::Timer);
    }
}

/// Checks that every acknowledged write is there, at its timestamp.
fn check(world: &mut World, written: &[(u64, Vec<u8>, Timestamp)]) {
    let leader = world.elect();
    let Some(Response::Begun { read_ts }) = world.call(leader, Request::Begin) else {
        panic!("a leader serves")
    };
    for (number, value, ts) in written {
        let newest = written.iter().rfind(|(of, ..)| of == number).unwrap();
        for (read_ts, ts, value) in [(*ts, *ts, value), (read_ts, newest.2, &newest.1)] {
            let response = world.call(leader, Request::Get { read_ts, key: key(*number) });
            let expected = Response::Value(Some((ts, Bytes::copy_from_slice(value))));
            assert_eq!(response, Some(expected), "key {number} at {read_ts}");
        }
    }
}

fn small() -> ReplicaOptions {
    let mut options = options(&[1, 2, 3], 3);
    options.log_entries_kept = 1;
    options.chunk_bytes = 700;
    options.wal.segment_bytes_min = 8 << 10;
    options.wal.segment_bytes_max = 8 << 10;
    options
}

/// Thirty commits on a group of one, with flushes between them.
fn alone(stop_at: Option<u64>, seed: u64) -> u64 {
    let mut world = World::empty(1, seed, small());
    world.add_that_stops(1, stop_at);
    let mut written = Vec::new();
    for nonce in 1..=30 {
        let (number, value) = (nonce % 7, vec![nonce as u8; 200]);
        let ts = put(&mut world, nonce, number, &value);
        written.push((number, value, ts));
        if nonce % 6 == 0 {
            flush(&mut world, 0);
            world.elect();
        }
    }
    let operations = world.nodes[0].disk.operations();
    world.nodes[0].disk.heal();
    let mode = world.any_crash();
    world.crash(0, mode);
    assert!(world.open(0));
    check(&mut world, &written);
    // What was written twice, by a client that had no answer, is there once.
    for (nonce, (number, value, ts)) in (1..).zip(written.clone()) {
        assert_eq!(put(&mut world, nonce, number, &value), ts, "a duplicate of {nonce}");
    }
    operations
}

#[test]
fn a_crash_at_each_operation_of_one_replica_loses_nothing_acknowledged() {
    let operations = alone(None, 0);
    assert!(operations > 100, "{operations}");
    for operation in 0..operations {
        for seed in 0..3 {
            alone(Some(operation), seed);
        }
    }
}

/// A replica that was away so long that it gets an image, and stops on the way.
fn away(stop_at: Option<u64>, seed: u64) -> (u64, u64) {
    let mut world = World::new(3, seed, small());
    let mut written = Vec::new();
    let mut nonce = 0;
    let mut write = |world: &mut World, count: u64| {
        for _ in 0..count {
            nonce += 1;
            let (number, value) = (nonce % 9, vec![nonce as u8; 150]);
            let ts = put(world, nonce, number, &value);
            written.push((number, value, ts));
        }
    };
    write(&mut world, 6);
    let leader = world.elect();
    let absent = (leader + 1) % 3;
    flush(&mut world, absent);
    let id = world.nodes[absent].id;
    for other in (1..=3).map(ReplicaId).filter(|other| *other != id) {
        world.cut.extend([(id, other), (other, id)]);
    }
    write(&mut world, 20);
    (0..3).filter(|at| *at != absent).for_each(|at| flush(&mut world, at));
    write(&mut world, 2);
    (0..3).filter(|at| *at != absent).for_each(|at| flush(&mut world, at));
    world.cut.clear();
    let before = world.nodes[absent].disk.operations();
    if let Some(operation) = stop_at {
        world.nodes[absent].disk.stop_at(before + operation);
    }
    let applied = |world: &World, at: usize| {
        world.nodes[at].replica.as_ref().map_or(0, |replica| replica.applied().index.0)
    };
    let until = world.now + 100 * ELECTION_TICKS;
    while applied(&world, absent) < applied(&world, leader) || world.leader().is_none() {
        assert!(world.now < until, "it comes back");
        world.run(10);
    }
    let operations = world.nodes[absent].disk.operations().saturating_sub(before);
    world.judge_all();
    // It has all of it, the past included, by itself.
    for (number, value, ts) in &written {
        let request = Request::Get { read_ts: *ts, key: key(*number) };
        let expected = Response::Value(Some((*ts, Bytes::copy_from_slice(value))));
        assert_eq!(world.call(absent, request), Some(expected));
    }
    let images = world.totals.images;
    for at in 0..3 {
        world.nodes[at].disk.heal();
        let mode = world.any_crash();
        world.crash(at, mode);
        assert!(world.open(at));
    }
    check(&mut world, &written);
    (operations, images)
}

#[test]
fn a_crash_at_each_operation_of_an_image_leaves_the_old_state_or_the_new_one() {
    let (operations, images) = away(None, 0);
    assert!(images > 0 && operations > 10, "{operations} operations, {images} images");
    for operation in 0..operations {
        for seed in 0..4 {
            away(Some(operation), seed);
        }
    }
}
