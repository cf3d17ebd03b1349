//! The judge sees everything, remembers what was ever said, and holds it against the invariants.
//!
//! | name | what | when it is looked at |
//! |---|---|---|
//! | I-R1 | a term has one leader | a node leads that did not |
//! | I-R2 | an index and a term name one entry, and what is before it | a log has changed |
//! | I-R3 | a leader has what was committed before its term | a node leads that did not |
//! | I-R4 | a committed entry never changes | a commit index has grown |
//! | I-R5 | what a message promises is on the disk | a message leaves; a node has opened |
//! | I-R6 | one node has a lease | a node has one after a step |
//! | I-R7 | what is committed is on the disks of a quorum | a leader's commit index has grown |
//! | I-S1 | what was applied durably is there after a crash | a node has opened |
//! | I-S2 | the same entries make the same state | an applied index has grown |
//! | I-S5 | what was durable is there after a crash | a node has opened |
//!
//! What is on a disk the judge knows from the work that the world let happen (the `Ledger`), never
//! from what the node says of itself. I-S5 for what clients were told is checked once more by the
//! checkers of histories.

use std::collections::{BTreeMap, VecDeque};

use raft::{Entry, HardState, LogIndex, Payload, Position, Raft, ReplicaId, Role, Term};

use super::digest;
use super::node::{Applied, Promise, Ticket};

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The name of the invariant, or of what else was broken.
    pub name: &'static str,
    /// What was seen.
    pub detail: String,
}

impl Violation {
    pub(crate) fn new(name: &'static str, detail: impl Into<String>) -> Violation {
        Violation { name, detail: detail.into() }
    }
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.name, self.detail)
    }
}

pub(crate) type Verdict = Result<(), Violation>;

/// Makes a verdict of a condition. The words are only made if it does not hold.
macro_rules! demand {
    ($holds:expr, $name:literal, $($words:tt)*) => {
        if !$holds {
            return Err(Violation::new($name, format!($($words)*)));
        }
    };
}

/// What the judge knows of one node's log: a term for each index, from 1 on.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// As the node has it in memory.
    log: Vec<Term>,
    /// As it is on its disk for sure, and the hard state there.
    durable: Vec<Term>,
    durable_state: HardState,
    /// What was handed to the disk since: where the log was cut, and what was put there.
    pending: VecDeque<Handed>,
    /// The first index that changed since the last piece of work was handed over.
    changed_from: Option<LogIndex>,
    image: LogIndex,
    commit: LogIndex,
    applied: LogIndex,
    led: Term,
}

#[derive(Debug)]
struct Handed {
    ticket: Ticket,
    hard_state: HardState,
    from: LogIndex,
    terms: Vec<Term>,
}

/// A committed entry: its term, its digest, and the term of the leader that committed it.
#[derive(Debug, Clone, Copy)]
struct Committed {
    term: Term,
    digest: u64,
    by: Term,
}

#[derive(Debug, Default)]
pub(crate) struct Judge {
    ledgers: Vec<Ledger>,
    leaders: BTreeMap<Term, ReplicaId>,
    /// What was ever in a log at a position: the term before it, and a digest of what it says.
    written: BTreeMap<Position, (Term, u64)>,
    committed: Vec<Committed>,
    /// The digest of the state after each index at which any node was seen.
    states: BTreeMap<LogIndex, u64>,
    pub(crate) elections: u64,
}

impl Judge {
    pub(crate) fn add_node(&mut self) {
        self.ledgers.push(Ledger::default());
    }

    /// Returns the highest index that anybody committed.
    pub(crate) fn committed(&self) -> LogIndex {
        LogIndex(self.committed.len() as u64)
    }

    /// Looks at a node after a step.
    pub(crate) fn stepped(&mut self, node: usize, raft: &Raft, applied: Applied) -> Verdict {
        let last = raft.last();
        let ledger = &self.ledgers[node];
        let known_last = ledger.log.last().copied().unwrap_or_default();
        if (known_last, ledger.log.len() as u64) != (last.term, last.index.0) {
            self.log_changed(node, raft)?;
        }
        if raft.role() == Role::Leader && self.ledgers[node].led != raft.term() {
            self.led(node, raft)?;
        }
        if raft.commit_index() > self.ledgers[node].commit {
            self.commit_grew(node, raft)?;
        }
        if applied.index > self.ledgers[node].applied {
            self.ledgers[node].applied = applied.index;
            self.applied_grew(raft, applied)?;
        }
        Ok(())
    }

    /// I-R2, by induction: what stands somewhere with a term says the same in each log, and so does
    /// what stands before it.
    fn log_changed(&mut self, node: usize, raft: &Raft) -> Verdict {
        let (base, last) = (raft.base(), raft.last());
        let ledger = &mut self.ledgers[node];
        let term_at = |index: u64| raft.entry(LogIndex(index)).map(|entry| entry.term);
        let mut common = (ledger.log.len() as u64).min(last.index.0);
        while common > base.index.0 && term_at(common) != Some(ledger.log[common as usize - 1]) {
            common -= 1;
        }
        if common <= base.index.0 {
            // Behind an image: what it stands for is committed.
            let is_other =
                ledger.log.get((base.index.0 as usize).wrapping_sub(1)) != Some(&base.term);
            common = base.index.0;
            if base.index.0 > 0 && is_other {
                let known = self.committed.get(..common as usize);
                let Some(known) = known else {
                    let id = raft.id();
                    return Err(Violation::new(
                        "I-R4",
                        format!("{id} has an image of more than is committed"),
                    ));
                };
                ledger.log.clear();
                ledger.log.extend(known.iter().map(|entry| entry.term));
            }
        }
        ledger.log.truncate(common as usize);
        let from = LogIndex(common + 1);
        ledger.changed_from = Some(ledger.changed_from.map_or(from, |before| before.min(from)));
        for index in common + 1..=last.index.0 {
            let entry = raft.entry(LogIndex(index)).expect("a log has no gaps");
            let before = self.ledgers[node].log.last().copied().unwrap_or_default();
            self.ledgers[node].log.push(entry.term);
            let said = (before, digest_of(entry));
            let first = *self.written.entry(entry.position()).or_insert(said);
            demand!(
                first == said,
                "I-R2",
                "two logs differ at or before {index} of term {}, one of them at {}",
                entry.term,
                raft.id()
            );
        }
        Ok(())
    }

    /// I-R1, I-R3.
    fn led(&mut self, node: usize, raft: &Raft) -> Verdict {
        let (id, term) = (raft.id(), raft.term());
        self.ledgers[node].led = term;
        self.elections += 1;
        let first = *self.leaders.entry(term).or_insert(id);
        demand!(first == id, "I-R1", "{first} and {id} lead in term {term}");
        let earlier = self.committed.iter().rposition(|entry| entry.by < term);
        if let Some(at) = earlier {
            let has = self.ledgers[node].log.get(at) == Some(&self.committed[at].term);
            demand!(
                has,
                "I-R3",
                "{id} leads in term {term} without the committed entry {}",
                at + 1
            );
        }
        Ok(())
    }

    /// I-R4, I-R7.
    fn commit_grew(&mut self, node: usize, raft: &Raft) -> Verdict {
        let (id, upto) = (raft.id(), raft.commit_index());
        let from = self.ledgers[node].commit.max(raft.base().index);
        self.ledgers[node].commit = upto;
        demand!(
            raft.base().index <= self.committed(),
            "I-R4",
            "{id} has an image of more than is committed"
        );
        for index in from.0 + 1..=upto.0 {
            let entry = raft.entry(LogIndex(index)).expect("what is committed is there");
            let now = Committed { term: entry.term, digest: digest_of(entry), by: raft.term() };
            match self.committed.get(index as usize - 1) {
                Some(first) => demand!(
                    (first.term, first.digest) == (now.term, now.digest),
                    "I-R4",
                    "entry {index} was committed in term {} and is one of term {} at {id}",
                    first.term,
                    now.term
                ),
                None => self.committed.push(now),
            }
        }
        if raft.role() == Role::Leader {
            let term = raft.entry(upto).map(|entry| entry.term);
            let (_, config) = raft.current_config();
            let has = |id: ReplicaId| {
                self.ledgers.get(id.0 as usize - 1).is_some_and(|l| l.has(upto, term))
            };
            let reached = config.reached_by_quorum(|id| u64::from(has(id)));
            demand!(
                reached == 1,
                "I-R7",
                "{id} committed {upto} and no quorum of {:?} has it",
                config.voters
            );
        }
        Ok(())
    }

    /// I-S2.
    fn applied_grew(&mut self, raft: &Raft, applied: Applied) -> Verdict {
        let id = raft.id();
        let Applied { index, digest } = applied;
        demand!(index <= self.committed(), "I-S2", "{id} applied {index}, which is not committed");
        if let Some(digest) = digest {
            let first = *self.states.entry(index).or_insert(digest);
            demand!(
                first == digest,
                "I-S2",
                "after entry {index} {id} has another state than others"
            );
        }
        Ok(())
    }

    /// The node has handed all that changed to its disk.
    pub(crate) fn handed(&mut self, node: usize, ticket: Ticket, raft: &Raft) {
        let ledger = &mut self.ledgers[node];
        let end = LogIndex(ledger.log.len() as u64 + 1);
        let from = ledger.changed_from.take().unwrap_or(end);
        let terms = ledger.log[(from.0 as usize - 1).min(ledger.log.len())..].to_vec();
        let hard_state = raft.hard_state();
        ledger.pending.push_back(Handed { ticket, hard_state, from, terms });
    }

    /// The disk has done all work up to a ticket.
    pub(crate) fn written(&mut self, node: usize, ticket: Ticket, image: LogIndex) {
        let ledger = &mut self.ledgers[node];
        while ledger.pending.front().is_some_and(|handed| handed.ticket <= ticket) {
            let Some(Handed { hard_state, from, terms, .. }) = ledger.pending.pop_front() else {
                return;
            };
            ledger.durable.truncate(from.0 as usize - 1);
            // Behind an image: what it stands for is on the disk with it.
            let gap = ledger.durable.len()..from.0 as usize - 1;
            let known = self.committed.get(gap).unwrap_or_default();
            ledger.durable.extend(known.iter().map(|entry| entry.term));
            ledger.durable.extend(terms);
            ledger.durable_state = hard_state;
        }
        ledger.image = ledger.image.max(image);
    }

    /// I-R5: what a message promises is on the disk of its sender.
    pub(crate) fn sent(&mut self, node: usize, promise: Promise, image: LogIndex) -> Verdict {
        let ledger = &mut self.ledgers[node];
        ledger.image = ledger.image.max(image);
        let (id, state) = (node + 1, ledger.durable_state);
        let voted = |term, who| state.term > term || state.term == term && state.vote == Some(who);
        match promise {
            Promise::Nothing => {}
            Promise::Vote { term, candidate } => {
                demand!(
                    voted(term, candidate),
                    "I-R5",
                    "{id} votes for {candidate} in term {term}, and its disk has {state:?}"
                );
            }
            Promise::Candidacy { term, last } => {
                let me = ReplicaId(id as u64);
                demand!(
                    voted(term, me),
                    "I-R5",
                    "{id} asks for votes in term {term}, and its disk has {state:?}"
                );
                demand!(
                    ledger.has(last.index, Some(last.term)),
                    "I-R5",
                    "{id} asks for votes with a log up to {last:?}, which its disk does not have"
                );
            }
            Promise::Log { term, matched } => {
                let at = ledger.log.get((matched.0 as usize).wrapping_sub(1)).copied();
                demand!(
                    state.term >= term,
                    "I-R5",
                    "{id} acknowledges in term {term}, and its disk has {state:?}"
                );
                demand!(
                    ledger.has(matched, at),
                    "I-R5",
                    "{id} acknowledges {matched}, which its disk does not have"
                );
            }
        }
        Ok(())
    }

    /// I-R5, I-S1, I-S5: what was durable is still there. From here on, what was found is.
    pub(crate) fn opened(&mut self, node: usize, raft: &Raft, applied: Applied) -> Verdict {
        let verdict = self.found(node, raft, applied);
        let known = self.committed.len();
        let base = raft.base();
        let mut log: Vec<Term> = Vec::new();
        if base.index.0 as usize <= known {
            log.extend(self.committed[..base.index.0 as usize].iter().map(|entry| entry.term));
        } else {
            verdict?;
            return Ok(());
        }
        let from = log.len() as u64;
        log.extend(
            (from + 1..=raft.last().index.0)
                .filter_map(|index| raft.entry(LogIndex(index)))
                .map(|entry| entry.term),
        );
        self.ledgers[node] = Ledger {
            durable: log.clone(),
            log,
            durable_state: raft.hard_state(),
            image: base.index,
            commit: base.index,
            applied: applied.index,
            ..Ledger::default()
        };
        verdict?;
        if applied.index.0 > 0 { self.applied_grew(raft, applied) } else { Ok(()) }
    }

    fn found(&self, node: usize, raft: &Raft, applied: Applied) -> Verdict {
        let ledger = &self.ledgers[node];
        let (id, state, base) = (raft.id(), raft.hard_state(), raft.base());
        demand!(
            state.covers(&ledger.durable_state),
            "I-R5",
            "{id} had {:?} on its disk and opens with {state:?}",
            ledger.durable_state
        );
        demand!(
            applied.index >= ledger.image,
            "I-S1",
            "{id} had applied {} durably and opens with {}",
            ledger.image,
            applied.index
        );
        demand!(
            base.index <= self.committed(),
            "I-S1",
            "{id} opens with an image of {}, which is not committed",
            base.index
        );
        // What was about to be cut may be there or not.
        let cut = ledger.pending.iter().map(|handed| handed.from).chain(ledger.changed_from).min();
        let sure = cut.map_or(u64::MAX, |cut| cut.0 - 1).min(ledger.durable.len() as u64);
        if sure > base.index.0 {
            let was = ledger.durable[sure as usize - 1];
            let at_base = base.index.0.checked_sub(1).map(|at| ledger.durable[at as usize]);
            // An image that does not go on with the log replaces it.
            let is_replaced = at_base.is_some_and(|term| term != base.term);
            let is = raft.entry(LogIndex(sure)).map(|entry| entry.term);
            demand!(
                is_replaced || is == Some(was),
                "I-S5",
                "{id} had entry {sure} of term {was} on its disk and opens with {is:?}"
            );
        }
        Ok(())
    }
}

impl Ledger {
    /// Returns true if the effects of what stands at an index are durable, with this term.
    fn has(&self, index: LogIndex, term: Option<Term>) -> bool {
        if index <= self.image {
            return true;
        }
        let found = self.durable.get(index.0 as usize - 1);
        found.is_some_and(|found| term.is_none_or(|term| term == *found))
    }
}

fn digest_of(entry: &Entry) -> u64 {
    match &entry.payload {
        Payload::Empty => 1,
        Payload::Command(bytes) => digest::of(bytes),
        Payload::Config(config) => {
            let lists = [&config.voters, &config.outgoing, &config.learners];
            let ids = lists
                .into_iter()
                .flat_map(|ids| [ReplicaId(0)].into_iter().chain(ids.iter().copied()));
            ids.fold(2, |all, id| digest::mix(all, id.0))
        }
    }
}
