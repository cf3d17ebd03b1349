//! One replica alone, with messages and disks made by hand: what random worlds seldom bring.

use raft::{
    Body, Config, Entry, HardState, Input, LogIndex, Message, Options, Output, Payload, Position,
    Raft, Recovered, ReplicaId, Term, Ticks,
};

fn entry(term: u64, index: u64) -> Entry {
    Entry { term: Term(term), index: LogIndex(index), payload: Payload::Empty }
}

/// A message that ends before the follower's log does speaks of nothing behind its end: there the
/// follower may have another leader's entries (Raft figure 2, AppendEntries, step 5).
#[test]
fn a_message_is_committed_and_acknowledged_to_its_end_and_no_further() {
    let recovered = Recovered {
        hard_state: HardState { term: Term(2), vote: None },
        entries: vec![entry(1, 1), entry(1, 2), entry(2, 3), entry(2, 4)],
        ..Recovered::new_group(Config::new(&[1, 2, 3], &[]))
    };
    let mut raft = Raft::new(ReplicaId(3), Options::default(), recovered, Ticks(0)).unwrap();
    let previous = Position { term: Term(1), index: LogIndex(1) };
    let body = Body::Append { previous, commit: LogIndex(4), entries: vec![entry(1, 2)] };
    let message = Message { from: ReplicaId(1), to: ReplicaId(3), term: Term(3), body };
    let mut out = Vec::new();
    raft.step(Ticks(1), Input::Message(message), &mut out);
    assert!(out.contains(&Output::Commit(LogIndex(2))), "{out:?}");
    let is_stamp = |output: &Output| match output {
        Output::Append { stamp, .. } => Some(*stamp),
        _ => None,
    };
    let stamp = out.iter().find_map(is_stamp).unwrap();
    out.clear();
    raft.step(Ticks(2), Input::Persisted(stamp), &mut out);
    let body = Body::AppendReply { matched: LogIndex(2) };
    let reply = Message { from: ReplicaId(3), to: ReplicaId(1), term: Term(3), body };
    assert_eq!(out, [Output::Send(reply)]);
}

/// An image of a newer term became durable and the hard state of that term did not: nothing was
/// promised on the term, and it is written before anything is.
#[test]
fn the_term_of_an_image_is_written_after_a_crash() {
    let mut recovered = Recovered::new_group(Config::new(&[1, 2, 3], &[]));
    recovered.hard_state = HardState { term: Term(1), vote: Some(ReplicaId(3)) };
    recovered.image.position = Position { term: Term(3), index: LogIndex(9) };
    recovered.commit = LogIndex(9);
    let mut raft = Raft::new(ReplicaId(3), Options::default(), recovered, Ticks(0)).unwrap();
    let mut out = Vec::new();
    raft.step(Ticks(1), Input::Tick, &mut out);
    let written = out.iter().find_map(|output| match output {
        Output::Append { hard_state, .. } => *hard_state,
        _ => None,
    });
    assert_eq!(written, Some(HardState { term: Term(3), vote: None }));
}

/// The log has something else where the image ends, so what lies behind was never committed.
#[test]
fn a_log_that_disagrees_with_the_image_is_not_kept_behind_it() {
    let mut recovered = Recovered::new_group(Config::new(&[1, 2, 3], &[]));
    recovered.hard_state.term = Term(3);
    recovered.image.position = Position { term: Term(3), index: LogIndex(2) };
    recovered.entries = vec![entry(1, 1), entry(2, 2), entry(2, 3)];
    let raft = Raft::new(ReplicaId(3), Options::default(), recovered, Ticks(0)).unwrap();
    assert_eq!((raft.base().index, raft.entry(LogIndex(3))), (LogIndex(2), None));
}
