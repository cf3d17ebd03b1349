//! The judge sees everything, remembers what was ever said, and holds it against the invariants.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use raft::{Body, Entry, LogIndex, Message, Payload, Position, Raft, ReplicaId, Term};

use crate::disk::Disk;

#[derive(Debug, Default)]
pub(crate) struct Judge {
    leaders: HashMap<Term, ReplicaId>,
    /// What was ever written at a position: the term before it, and a digest of what it says.
    written: HashMap<Position, (Term, u64)>,
    /// What is committed, from index 1 on: the entry's term, its digest, and the term of the leader
    /// that committed it.
    committed: Vec<(Term, u64, Term)>,
    /// The state after each committed entry.
    digests: Vec<u64>,
}

pub(crate) fn digest_of(entry: &Entry) -> u64 {
    let mut hasher = DefaultHasher::new();
    match &entry.payload {
        Payload::Empty => 0u8.hash(&mut hasher),
        Payload::Command(bytes) => bytes.hash(&mut hasher),
        Payload::Config(config) => (&config.voters, &config.outgoing).hash(&mut hasher),
    }
    hasher.finish()
}

pub(crate) fn apply(digest: u64, entry: u64) -> u64 {
    (digest ^ entry).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23)
}

impl Judge {
    pub(crate) fn committed(&self) -> LogIndex {
        LogIndex(self.committed.len() as u64)
    }

    pub(crate) fn digest_at(&self, index: LogIndex) -> u64 {
        match index.0 {
            0 => 0,
            index => self.digests[index as usize - 1],
        }
    }

    /// I-R1, I-R3.
    pub(crate) fn led(&mut self, raft: &Raft) {
        let (id, term) = (raft.id(), raft.term());
        let first = *self.leaders.entry(term).or_insert(id);
        assert_eq!(first, id, "I-R1: {first} and {id} lead in term {term}");
        let earlier = self.committed.iter().rposition(|(_, _, by)| *by < term);
        if let Some(at) = earlier {
            let index = LogIndex(at as u64 + 1);
            let has = raft.base().index >= index
                || raft.entry(index).is_some_and(|entry| entry.term == self.committed[at].0);
            assert!(has, "I-R3: {id} leads in term {term} without the committed entry {index}");
        }
    }

    /// I-R2, by induction: what stands somewhere with a term says the same in each log, and so does
    /// what stands before it. Also: commands are in the term in which they were thought out.
    pub(crate) fn wrote(&mut self, raft: &Raft, entries: &[Entry]) {
        for entry in entries {
            let at = entry.position();
            let before = entry.index.previous();
            let before = if before == raft.base().index {
                raft.base().term
            } else {
                raft.entry(before).map_or(Term(0), |before| before.term)
            };
            let said = (before, digest_of(entry));
            let first = *self.written.entry(at).or_insert(said);
            assert_eq!(first, said, "I-R2: two logs differ at or before {at:?}");
            if let Payload::Command(command) = &entry.payload {
                let expected = u64::from_le_bytes(command[..8].try_into().unwrap());
                assert_eq!(entry.term.0, expected, "a command is in a term it was not meant for");
            }
        }
    }

    /// I-R4, I-R7.
    pub(crate) fn committed_by<'a>(
        &mut self,
        raft: &Raft,
        from: LogIndex,
        upto: LogIndex,
        disk_of: impl Fn(ReplicaId) -> &'a Disk,
    ) {
        let id = raft.id();
        for index in from.0 + 1..=upto.0 {
            let entry = raft.entry(LogIndex(index)).expect("what is committed is there");
            let digest = digest_of(entry);
            match self.committed.get(index as usize - 1) {
                Some((term, first, _)) => assert_eq!(
                    (*term, *first),
                    (entry.term, digest),
                    "I-R4: entry {index} was committed and is another one at {id}"
                ),
                None => {
                    assert_eq!(self.committed.len() as u64 + 1, index, "commits leave no gap");
                    self.committed.push((entry.term, digest, raft.term()));
                    let state = self.digest_at(LogIndex(index - 1));
                    self.digests.push(apply(state, digest));
                }
            }
        }
        if raft.role() == raft::Role::Leader {
            let term = raft.entry(upto).map(|entry| entry.term);
            // Raft §5.4.2, without which I-R3 fails, but only once in a great many worlds.
            let own = Some(raft.term());
            assert_eq!(term, own, "I-R3: {id} counts {upto} of another leader's term as committed");
            let (_, config) = raft.current_config();
            let reached = config.reached_by_quorum(|id| u64::from(disk_of(id).has(upto, term)));
            assert_eq!(reached, 1, "I-R7: {id} committed {upto} without a quorum of {config:?}");
        }
    }

    /// I-R5: what a message promises is on the disk of its sender.
    pub(crate) fn sent(&self, raft: &Raft, disk: &Disk, message: &Message) {
        let (from, term) = (message.from, message.term);
        match &message.body {
            Body::VoteReply { is_granted: true } => {
                let vote = disk.hard_state;
                let is_there =
                    vote.term > term || vote.term == term && vote.vote == Some(message.to);
                assert!(is_there, "I-R5: {from} votes for {} in term {term}: {vote:?}", message.to);
            }
            Body::Vote { last, .. } => {
                let vote = disk.hard_state;
                let is_there = vote.term == term && vote.vote == Some(from);
                assert!(is_there, "I-R5: {from} asks for votes in term {term}: {vote:?}");
                assert!(disk.has(last.index, Some(last.term)), "I-R5: {from} has no {last:?}");
            }
            Body::AppendReply { matched } => {
                let entry = raft.entry(*matched).map(|entry| entry.term);
                assert!(disk.hard_state.term >= term, "I-R5: {from} acknowledges in term {term}");
                assert!(disk.has(*matched, entry), "I-R5: {from} acknowledges {matched}");
            }
            _ => {}
        }
    }
}
