//! A shard: what Raft keeps of it, and what only its leader knows.
//!
//! ```text
//!  request ---> evaluate ---> propose ---> | in flight | ---> apply ---> answer
//!               reads the      locks the   | (a change |      guards, again:
//!               fence, the     keys        | of leader |      other entries came
//!               locks          at ts       | cuts it)  |      in between
//! ```
//!
//! # Invariants
//! * The fence of a key is at least every timestamp that the key was read at, by any leader.
//! * What is in flight locks its keys from before the evaluation ends.
//! * `apply` is a function of the replicated state and the entry: it would give the same on each
//!   replica. What the leader looks up in `evaluate` only spares entries that come to nothing.

use super::message::{Ask, Decision, Expect, Record, Stage};
use super::mutant::is;
use super::{Address, Body, Fact, Isolation, KEYS_PER_SHARD, Key, Message, Mutant, Outbox};
use super::{Set, ShardId, TXNS_MAX, Ts, TxnId};

/// A value of a key: when it became visible, and who wrote it (nobody: the initial one).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version {
    pub(super) ts: Ts,
    pub(super) txn: Option<u8>,
}

/// What is locked for a transaction until it is resolved.
#[derive(Clone, Copy, Debug)]
pub(super) struct Prepared {
    pub(super) ts: Ts,
    pub(super) writes: Set<Key>,
    pub(super) primary: ShardId,
}

/// An entry of the Raft log.
#[derive(Clone, Copy, Debug)]
pub(super) enum Command {
    Prepare(TxnId, Prepared, Option<Stage>),
    CommitOne(TxnId, Prepared),
    Mark(TxnId),
    Finalize(TxnId, Decision, Expect),
    Resolve(TxnId, Decision),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) command: Command,
    /// Who waits for it to be applied.
    waiter: Address,
}

/// A lock in the way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lock {
    pub(super) txn: TxnId,
    pub(super) ts: Ts,
}

/// See the module.
#[derive(Debug)]
pub struct Shard {
    pub(super) id: ShardId,
    // What Raft keeps:
    pub(super) versions: [Vec<Version>; KEYS_PER_SHARD],
    pub(super) prepared: [Option<Prepared>; TXNS_MAX],
    pub(super) is_prepared: Set<TxnId>,
    marked: Set<TxnId>,
    pub(super) records: [Record; TXNS_MAX],
    // What its leader knows:
    pub(super) in_flight: Vec<Entry>,
    fence: [Ts; KEYS_PER_SHARD],
    known: Ts,
}

/// What an evaluation comes to.
enum Verdict {
    At(Ts),
    Answer(Body),
}

impl Shard {
    /// Returns an empty shard.
    pub fn new(id: ShardId) -> Shard {
        Shard {
            id,
            versions: std::array::from_fn(|_| vec![Version { ts: 0, txn: None }]),
            prepared: [None; TXNS_MAX],
            is_prepared: Set::default(),
            marked: Set::default(),
            records: [Record::Absent; TXNS_MAX],
            in_flight: Vec::new(),
            fence: [0; KEYS_PER_SHARD],
            known: 0,
        }
    }

    /// Makes it as good as new.
    pub(super) fn reset(&mut self) {
        for versions in &mut self.versions {
            versions.truncate(1);
        }
        self.prepared = [None; TXNS_MAX];
        self.is_prepared = Set::default();
        self.marked = Set::default();
        self.records = [Record::Absent; TXNS_MAX];
        self.in_flight.clear();
        self.fence = [0; KEYS_PER_SHARD];
        self.known = 0;
    }

    /// Takes a request.
    pub fn step<const M: u8>(&mut self, message: &Message, out: &mut Outbox) {
        self.known = self.known.max(message.known);
        let from = message.from;
        match message.body {
            Body::Read { txn, key, ts, locks_seen } => {
                let body = self.read::<M>(message, txn, key, ts, locks_seen, out);
                body.into_iter().for_each(|body| self.answer(from, body, out));
            }
            Body::CommitOne(ask) => match self.evaluate::<M>(&ask, out) {
                Verdict::At(ts) => {
                    let lock = Prepared { ts, writes: ask.writes, primary: ask.primary };
                    self.propose(Command::CommitOne(ask.txn, lock), from);
                }
                Verdict::Answer(body) => self.answer(from, body, out),
            },
            Body::Prepare(ask, stage) => match self.evaluate::<M>(&ask, out) {
                Verdict::At(ts) => {
                    let lock = Prepared { ts, writes: ask.writes, primary: ask.primary };
                    self.propose(Command::Prepare(ask.txn, lock, stage), from);
                }
                Verdict::Answer(body) => self.answer(from, body, out),
            },
            Body::Refresh(ask) => {
                // Validation alone; it needs no entry, since the fence keeps what it promised.
                let body = if ask.target > self.known + 1 && !is::<M>(Mutant::NoT2) {
                    Body::NeedTs
                } else {
                    self.validate::<M>(&ask, ask.target, out).err().unwrap_or(Body::Refreshed)
                };
                self.answer(from, body, out);
            }
            Body::Finalize(txn, to, expect) => {
                self.propose(Command::Finalize(txn, to, expect), from);
            }
            Body::Status(txn) => {
                self.answer(from, Body::Record(self.records[txn.0 as usize]), out);
            }
            Body::Probe(txn) => match self.prepared[txn.0 as usize] {
                Some(prepared) => self.answer(from, Body::Prepared(prepared.ts), out),
                None if self.marked.has(txn) || is::<M>(Mutant::NoMarker) => {
                    self.answer(from, Body::Fenced, out);
                }
                None => self.propose(Command::Mark(txn), from),
            },
            Body::Resolve(txn, decision) => {
                if self.is_prepared.has(txn) || self.has_in_flight(txn) {
                    self.propose(Command::Resolve(txn, decision), from);
                } else {
                    self.answer(from, Body::Resolved, out);
                }
            }
            // Answers are for others.
            _ => {}
        }
    }

    /// Reads a key at a timestamp: first the fence, then the locks, then the version.
    fn read<const M: u8>(
        &mut self,
        message: &Message,
        txn: TxnId,
        key: Key,
        ts: Ts,
        locks_seen: bool,
        out: &mut Outbox,
    ) -> Option<Body> {
        let late_fence = is::<M>(Mutant::FenceAfterLock);
        if !late_fence || locks_seen {
            self.raise(key, ts, out);
        }
        if !locks_seen {
            if let Some(lock) = self.locks(key).find(|lock| lock.txn != txn && lock.ts <= ts) {
                return Some(Body::Blocked(key, lock.txn));
            }
            if late_fence {
                let body = Body::Read { txn, key, ts, locks_seen: true };
                out.messages.push(Message { body, ..*message });
                return None;
            }
        }
        out.facts.push(Fact::Served { txn, key, ts });
        let visible = self.versions[key.slot()].iter().filter(|version| version.ts <= ts);
        let version = visible.max_by_key(|version| version.ts);
        Some(Body::Value(key, version.and_then(|version| version.txn).map(TxnId)))
    }

    /// Decides whether a transaction may write here, and at which timestamp.
    fn evaluate<const M: u8>(&mut self, ask: &Ask, out: &mut Outbox) -> Verdict {
        let txn = ask.txn;
        if let Some(answer) = self.already(txn) {
            return Verdict::Answer(answer);
        }
        let mut fence = ask.start;
        for key in ask.writes.iter() {
            // The first committer wins.
            if self.versions[key.slot()].iter().any(|version| version.ts > ask.start) {
                return Verdict::Answer(Body::Refused(None));
            }
            if let Some(lock) = self.locks(key).find(|lock| lock.txn != txn) {
                return Verdict::Answer(Body::Refused(Some(lock.txn)));
            }
            fence = fence.max(self.fence[key.slot()]);
        }
        let ts = fence + 1;
        if ts > self.known + 1 && !is::<M>(Mutant::NoT2) {
            return Verdict::Answer(Body::NeedTs);
        }
        if ask.isolation == Isolation::Serializable
            && let Err(refused) = self.validate::<M>(ask, ts.max(ask.target), out)
        {
            return Verdict::Answer(refused);
        }
        Verdict::At(ts)
    }

    /// Moves the validity of reads from `start` to `thru`, or finds that it ends before.
    fn validate<const M: u8>(&mut self, ask: &Ask, thru: Ts, out: &mut Outbox) -> Result<(), Body> {
        let txn = ask.txn;
        for key in ask.reads.iter() {
            let has_changed = self.versions[key.slot()].iter().any(|version| {
                version.ts > ask.start && version.ts <= thru && version.txn != Some(txn.0)
            });
            if has_changed {
                return Err(Body::Refused(None));
            }
            let lock = self.locks(key).find(|lock| lock.txn != txn && lock.ts <= thru);
            if let (Some(lock), false) = (lock, is::<M>(Mutant::NoLockCheck)) {
                return Err(Body::Refused(Some(lock.txn)));
            }
            self.raise(key, thru, out);
            out.facts.push(Fact::Served { txn, key, ts: thru });
        }
        Ok(())
    }

    /// Answers for a transaction that is decided here, fenced off, or prepared.
    fn already(&self, txn: TxnId) -> Option<Body> {
        match self.records[txn.0 as usize] {
            Record::Final(Decision::Abort) => return Some(Body::Refused(None)),
            record @ Record::Final(_) => return Some(Body::Record(record)),
            Record::Absent | Record::Staging(_) => {}
        }
        if self.marked.has(txn) {
            return Some(Body::Refused(None));
        }
        self.prepared[txn.0 as usize].map(|prepared| Body::Prepared(prepared.ts))
    }

    /// Applies the oldest entry, and answers who waits for it.
    pub fn apply_next<const M: u8>(&mut self, out: &mut Outbox) {
        if self.in_flight.is_empty() {
            return;
        }
        let entry = self.in_flight.remove(0);
        let body = self.apply::<M>(&entry.command, out);
        self.answer(entry.waiter, body, out);
    }

    fn apply<const M: u8>(&mut self, command: &Command, out: &mut Outbox) -> Body {
        match *command {
            Command::Prepare(txn, lock, stage) => {
                if let Some(answer) = self.guard::<M>(txn) {
                    return answer;
                }
                let slot = &mut self.prepared[txn.0 as usize];
                let before = slot.map(|prepared| prepared.ts);
                if let (Some(ts), false) = (before, is::<M>(Mutant::MutablePrepare)) {
                    // What others may have acted on does not move.
                    return Body::Prepared(ts);
                }
                *slot = Some(lock);
                self.is_prepared.add(txn);
                out.facts.push(Fact::Prepared { txn, before, ts: lock.ts });
                if let Some(stage) = stage {
                    self.set_record(txn, Record::Staging(stage), out);
                }
                Body::Prepared(lock.ts)
            }
            Command::CommitOne(txn, lock) => {
                if let Some(answer) = self.guard::<M>(txn) {
                    return answer;
                }
                self.write(txn, lock.writes, lock.ts, out);
                let record = Record::Final(Decision::Commit(lock.ts));
                self.set_record(txn, record, out);
                Body::Record(record)
            }
            Command::Mark(txn) => match self.prepared[txn.0 as usize] {
                Some(prepared) => Body::Prepared(prepared.ts),
                None => {
                    self.marked.add(txn);
                    Body::Fenced
                }
            },
            Command::Finalize(txn, to, expect) => {
                let expect = if is::<M>(Mutant::NoExpect) { Expect::Any } else { expect };
                match (self.records[txn.0 as usize], to) {
                    (Record::Absent, Decision::Abort) if expect != Expect::Staging => {
                        self.set_record(txn, Record::Final(to), out);
                    }
                    (Record::Staging(_), _) if expect != Expect::Absent => {
                        self.set_record(txn, Record::Final(to), out);
                    }
                    _ => {}
                }
                Body::Record(self.records[txn.0 as usize])
            }
            Command::Resolve(txn, decision) => {
                let prepared = self.prepared[txn.0 as usize].take();
                self.is_prepared.remove(txn);
                if let (Some(prepared), Decision::Commit(ts)) = (prepared, decision) {
                    self.write(txn, prepared.writes, ts, out);
                }
                Body::Resolved
            }
        }
    }

    /// Stops an entry whose transaction was decided or fenced off after its evaluation.
    fn guard<const M: u8>(&self, txn: TxnId) -> Option<Body> {
        let record = self.records[txn.0 as usize];
        match record {
            _ if is::<M>(Mutant::NoApplyGuard) => None,
            Record::Final(Decision::Abort) => Some(Body::Refused(None)),
            Record::Final(_) => Some(Body::Record(record)),
            _ => self.marked.has(txn).then_some(Body::Refused(None)),
        }
    }

    /// Elects another leader, which keeps the first entries in flight and forgets the rest, the
    /// fence and who waits. Its floor was issued after its election, after all it may not miss.
    pub fn change_leader<const M: u8>(
        &mut self,
        kept: usize,
        mut tells: impl FnMut() -> bool,
        floor: Ts,
        out: &mut Outbox,
    ) {
        let entries = std::mem::take(&mut self.in_flight);
        for entry in entries.iter().take(kept) {
            let body = self.apply::<M>(&entry.command, out);
            if tells() {
                self.answer(entry.waiter, body, out);
            }
        }
        // The room is kept for the entries to come.
        self.in_flight = entries;
        self.in_flight.clear();
        let floor = if is::<M>(Mutant::NoLowWater) { 0 } else { floor };
        self.known = self.known.max(floor);
        for slot in 0..KEYS_PER_SHARD {
            self.fence[slot] = floor;
            let key = Key(self.id.0 * KEYS_PER_SHARD as u8 + slot as u8);
            out.facts.push(Fact::Floor { key, fence: floor });
        }
    }

    /// Returns the locks on a key: what is in flight, and what is prepared.
    pub(super) fn locks(&self, key: Key) -> impl Iterator<Item = Lock> {
        let in_flight = self.in_flight.iter().filter_map(move |entry| match entry.command {
            Command::Prepare(txn, lock, _) | Command::CommitOne(txn, lock)
                if lock.writes.has(key) =>
            {
                Some(Lock { txn, ts: lock.ts })
            }
            _ => None,
        });
        let prepared = self.is_prepared.iter().filter_map(move |txn| {
            let lock = self.prepared[txn.0 as usize].as_ref()?;
            lock.writes.has(key).then_some(Lock { txn, ts: lock.ts })
        });
        in_flight.chain(prepared)
    }

    /// Returns where the record of a transaction is that locks something here.
    pub(super) fn primary_of(&self, txn: TxnId) -> Option<ShardId> {
        let in_flight = self.in_flight.iter().find_map(|entry| match entry.command {
            Command::Prepare(t, lock, _) | Command::CommitOne(t, lock) if t == txn => {
                Some(lock.primary)
            }
            _ => None,
        });
        in_flight.or(self.prepared[txn.0 as usize].map(|prepared| prepared.primary))
    }

    fn has_in_flight(&self, txn: TxnId) -> bool {
        self.in_flight
            .iter()
            .any(|entry| matches!(entry.command, Command::Prepare(t, ..) if t == txn))
    }

    fn raise(&mut self, key: Key, ts: Ts, out: &mut Outbox) {
        let fence = &mut self.fence[key.slot()];
        if ts > *fence {
            *fence = ts;
            out.facts.push(Fact::Raised(ts));
        }
    }

    fn write(&mut self, txn: TxnId, writes: Set<Key>, ts: Ts, out: &mut Outbox) {
        for key in writes.iter() {
            self.versions[key.slot()].push(Version { ts, txn: Some(txn.0) });
            out.facts.push(Fact::Version { txn, key, ts });
        }
    }

    fn set_record(&mut self, txn: TxnId, after: Record, out: &mut Outbox) {
        let before = std::mem::replace(&mut self.records[txn.0 as usize], after);
        out.facts.push(Fact::Recorded { txn, before, after });
    }

    fn propose(&mut self, command: Command, waiter: Address) {
        self.in_flight.push(Entry { command, waiter });
    }

    fn answer(&self, to: Address, body: Body, out: &mut Outbox) {
        let from = Address::Shard(self.id);
        out.messages.push(Message { from, to, known: self.known, body });
    }
}

impl std::fmt::Display for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.command {
            Command::Prepare(txn, lock, None) => write!(f, "Prepare {txn} at {}", lock.ts),
            Command::Prepare(txn, lock, Some(stage)) => {
                write!(f, "Prepare {txn} at {}, {stage}", lock.ts)
            }
            Command::CommitOne(txn, lock) => write!(f, "CommitOne {txn} at {}", lock.ts),
            Command::Mark(txn) => write!(f, "Mark {txn}"),
            Command::Finalize(txn, to, expect) => {
                write!(f, "Finalize {txn} {to} expect {expect:?}")
            }
            Command::Resolve(txn, decision) => write!(f, "Resolve {txn} {decision}"),
        }
    }
}
