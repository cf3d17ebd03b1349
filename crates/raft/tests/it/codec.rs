//! Messages as bytes: the bytes of each kind as they were decided, and what arbitrary bytes do.
//!
//! A change of the bytes below is a change of the format: it needs a new version.

use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use raft::codec::{DecodeError, decode_message, encode_message};
use raft::{
    Body, Config, Entry, LogIndex, Message, Payload, Position, ReplicaId, SnapshotMeta, Term, Ticks,
};

fn at(term: u64, index: u64) -> Position {
    Position { term: Term(term), index: LogIndex(index) }
}

fn entry(term: u64, index: u64, payload: Payload) -> Entry {
    Entry { term: Term(term), index: LogIndex(index), payload }
}

/// One message of each kind, and its bytes behind the head: version 1, kind, from 1 to 2 in term
/// 300 (0xac02).
fn each_kind() -> Vec<(Body, &'static str)> {
    let joint = Arc::new(Config::new(&[1, 2, 3], &[7]));
    let entries = vec![
        entry(299, 6, Payload::Empty),
        entry(300, 7, Payload::Command(Bytes::from_static(b"x=1"))),
        entry(300, 8, Payload::Config(Arc::clone(&joint))),
    ];
    let meta =
        SnapshotMeta { position: at(299, 5), config: joint, config_index: LogIndex(4), id: 9 };
    let data = Bytes::from_static(b"state");
    let sent = Ticks(1000);
    vec![
        (Body::PreVote { last: at(3, 200) }, "03c801"),
        (Body::PreVoteReply { asked: Term(301), is_granted: true }, "ad0201"),
        (Body::Vote { last: at(3, 200), is_transfer: false }, "03c80100"),
        (Body::VoteReply { is_granted: true }, "01"),
        (
            Body::Append { previous: at(299, 5), commit: LogIndex(4), entries },
            "ab020504030000010103783d3100020703010101000107",
        ),
        (Body::AppendReply { matched: LogIndex(8) }, "08"),
        (Body::AppendReject { previous: LogIndex(8), hint: at(2, 6) }, "080206"),
        (Body::Heartbeat { commit: LogIndex(8), round: 5, sent, is_quiet: true }, "0805e80701"),
        (Body::HeartbeatReply { round: 5, sent }, "05e807"),
        (Body::TimeoutNow, ""),
        (
            Body::Snapshot { meta, offset: 10, data, is_last: true },
            "09ab02050407030101010001070a01057374617465",
        ),
        (Body::SnapshotReply { id: 9, offset: 15 }, "090f"),
        (Body::Stale, ""),
    ]
}

fn message(body: Body) -> Message {
    Message { from: ReplicaId(1), to: ReplicaId(2), term: Term(300), body }
}

fn encoded(body: Body) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_message(&message(body), &mut bytes);
    bytes
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_bytes_of_each_kind_are_the_ones_decided() {
    let (mut found, mut decided) = (Vec::new(), Vec::new());
    for (kind, (body, bytes)) in (1u8..).zip(each_kind()) {
        decided.push(format!("{} 01{kind:02x}0102ac02{bytes}", body.name()));
        let bytes = encoded(body.clone());
        found.push(format!("{} {}", body.name(), hex(&bytes)));
        assert_eq!(decode_message(&bytes.into()), Ok(message(body)));
    }
    assert_eq!(found, decided);
}

#[test]
fn a_message_that_is_cut_or_goes_on_is_refused() {
    for (body, _) in each_kind() {
        let bytes = encoded(body.clone());
        for end in 0..bytes.len() {
            let cut = Bytes::copy_from_slice(&bytes[..end]);
            assert!(decode_message(&cut).is_err(), "{} of {end} bytes", body.name());
        }
        let longer = Bytes::from([&bytes[..], &[0]].concat());
        assert_eq!(decode_message(&longer), Err(DecodeError::Trailing(1)), "{}", body.name());
    }
}

#[test]
fn what_cannot_be_is_refused_with_its_reason() {
    let decode = |bytes: &[u8]| decode_message(&Bytes::copy_from_slice(bytes));
    let head = |version: u8, kind: u8| vec![version, kind, 1, 2, 3];
    let with = |kind: u8, rest: &[u8]| decode(&[&head(1, kind)[..], rest].concat());
    assert_eq!(decode(&head(9, 10)), Err(DecodeError::Version(9)));
    assert_eq!(with(14, &[]), Err(DecodeError::Unknown { what: "kind", value: 14 }));
    assert!(matches!(with(4, &[2]), Err(DecodeError::Unknown { value: 2, .. })));
    // A log that ends in a newer term than its owner is in; likewise a hint and an entry.
    assert_eq!(with(1, &[4, 1]), Err(DecodeError::Impossible));
    assert_eq!(with(7, &[9, 4, 1]), Err(DecodeError::Impossible));
    assert_eq!(with(5, &[3, 1, 0, 1, 1, 0]), Err(DecodeError::Impossible));
    // Indexes so large that one more would overflow.
    let mut most = vec![0xff; 9];
    most.push(1);
    assert_eq!(with(6, &most), Err(DecodeError::Impossible));
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        raft::fuzzing::message(&bytes);
    }

    /// Random bytes seldom get past the head; these do.
    #[test]
    fn broken_messages_never_panic(
        kind in 0..13usize,
        breaks in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        tail in prop::collection::vec(any::<u8>(), 0..20),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = encoded(each_kind().swap_remove(kind).0);
        for (place, value) in breaks {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        raft::fuzzing::message(&bytes);
        bytes.truncate(cut.index(bytes.len()));
        bytes.extend(tail);
        raft::fuzzing::message(&bytes);
    }
}
