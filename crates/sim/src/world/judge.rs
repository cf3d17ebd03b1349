//! What is true at every step, of all replicas together. The names are those of the design.

use std::collections::BTreeMap;

use cluster::Replica;
use raft::{LogIndex, Payload, ReplicaId, Role, Term};

/// The state is compared whenever a multiple of this was applied: to read all of it takes a while.
const COMPARE_ENTRIES: u64 = 32;

/// What one replica was seen to have.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Seen {
    commit: LogIndex,
    compared: LogIndex,
    leads_in: Option<Term>,
}

/// What was seen of all replicas in all their lives.
#[derive(Default)]
pub(super) struct Judge {
    leaders: BTreeMap<Term, ReplicaId>,
    /// Of each committed entry its term and a hash of what it says.
    committed: BTreeMap<LogIndex, (Term, u64)>,
    states: BTreeMap<LogIndex, u64>,
    /// States that were compared with another one.
    pub(super) compared: u64,
}

type Verdict = Result<(), String>;

impl Judge {
    /// Looks at a replica that was just opened.
    pub(super) fn opened(&mut self, replica: &Replica) -> Verdict {
        let applied = replica.applied();
        let newest = self.committed.last_key_value().map_or(LogIndex(0), |(index, _)| *index);
        if applied.index > newest {
            let id = replica.id();
            return Err(format!(
                "I-S1: {id} opens with {applied:?}, and only {newest} is committed"
            ));
        }
        // Its state is what the others had there: the index is durable if and only if the effects
        // are.
        self.compare(replica)
    }

    /// Looks at a replica after a step.
    pub(super) fn stepped(&mut self, replica: &Replica, seen: &mut Seen) -> Verdict {
        let id = replica.id();
        self.commits(replica, seen)?;
        if replica.role() == Role::Leader {
            let term = replica.term();
            let first = *self.leaders.entry(term).or_insert(id);
            if first != id {
                return Err(format!("I-R1: {first} and {id} lead in term {term}"));
            }
            if seen.leads_in != Some(term) {
                seen.leads_in = Some(term);
                self.is_complete(replica)?;
            }
        }
        let applied = replica.applied().index;
        if applied > seen.compared && applied.0.is_multiple_of(COMPARE_ENTRIES) {
            seen.compared = applied;
            self.compare(replica)?;
        }
        Ok(())
    }

    /// I-R2, I-R4: what is committed is the same everywhere, and stays.
    fn commits(&mut self, replica: &Replica, seen: &mut Seen) -> Verdict {
        let commit = replica.commit_index();
        let base = replica.raft().base();
        let from = seen.commit.max(base.index);
        for index in (from.0 + 1..=commit.0).map(LogIndex) {
            let Some(entry) = replica.raft().entry(index) else { continue };
            let found = (entry.term, hash_of(&entry.payload));
            let first = *self.committed.entry(index).or_insert(found);
            if first != found {
                let (id, was, is) = (replica.id(), first.0, found.0);
                return Err(format!(
                    "I-R4: entry {index} was committed in term {was}, and {id} has one of {is}"
                ));
            }
        }
        seen.commit = commit;
        Ok(())
    }

    /// I-R3: who leads has everything that is committed.
    fn is_complete(&self, replica: &Replica) -> Verdict {
        let base = replica.raft().base().index;
        for (index, (term, hash)) in self.committed.range(base.next()..) {
            let entry = replica.raft().entry(*index);
            if entry.is_none_or(|entry| (entry.term, hash_of(&entry.payload)) != (*term, *hash)) {
                let id = replica.id();
                return Err(format!("I-R3: {id} leads without entry {index}, which is committed"));
            }
        }
        Ok(())
    }

    /// I-S2: who has applied the same has the same state.
    pub(super) fn compare(&mut self, replica: &Replica) -> Verdict {
        let index = replica.applied().index;
        let hash = match replica.state_hash() {
            Ok(Some(hash)) => hash,
            // It forgot what the others had forgotten too, and has not come to the entry that said
            // so; or its disk has a fault, which it will find out.
            Ok(None) | Err(_) => return Ok(()),
        };
        if let Some(first) = self.states.insert(index, hash) {
            self.compared += 1;
            if first != hash {
                let id = replica.id();
                return Err(format!(
                    "I-S2: {id} has another state than others after entry {index}"
                ));
            }
        }
        Ok(())
    }
}

fn hash_of(payload: &Payload) -> u64 {
    let bytes: &[u8] = match payload {
        Payload::Empty => b"empty",
        Payload::Command(bytes) => bytes,
        Payload::Config(_) => b"config",
    };
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, mix)
}
