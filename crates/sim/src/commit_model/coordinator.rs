//! The coordinator of one transaction, and its client in one: it reads, commits, and replies.
//!
//! ```text
//!  Starting -> Reading -> OnePhase ----------------------------------------> Ended
//!                   |        '- no answer -> Finalizing ------------------->
//!                   '-> Preparing -- refused --> Finalizing -> Resolving ->
//!                          |  '- max <= limit: ACK --^
//!                          '- pushed -> Refreshing --^
//! ```
//!
//! # Invariants
//! * Once it has replied, it never asks for the opposite.
//! * It replies Abort only to what it never asked a shard to write, or to a final record.
//! * Answers come late and more than once. Each state takes those that are news to it; the rest
//!   are true, too, but old.

use super::message::{Ask, Decision, Expect, Record, Stage};
use super::mutant::is;
use super::{Address, Body, Fact, Isolation, Key, Message, Mutant, Outbox, SHARDS_MAX, Set};
use super::{ShardId, Ts, TxnId};

/// How often a blocked read comes again before the transaction gives up: enough for a commit that
/// is under way to end.
const READS_MAX: u8 = 10;

/// How often a Prepare is sent before the transaction gives up.
const PREPARES_MAX: u8 = 4;

/// What a transaction is to do.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// What it reads, in the order of the keys.
    pub reads: Set<Key>,
    /// What it writes.
    pub writes: Set<Key>,
    /// Where its record is to be: one of the shards it writes.
    pub primary: ShardId,
    /// What it was promised.
    pub isolation: Isolation,
    /// Two rounds, as in the textbook: a limit of zero, so that nothing commits implicitly.
    pub textbook: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Starting,
    Reading,
    OnePhase,
    Preparing,
    Refreshing(Ts),
    Finalizing(Decision, Expect),
    Resolving(Decision),
    Ended,
}

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Coordinator {
    txn: TxnId,
    plan: Plan,
    state: State,
    pub(super) start: Ts,
    known: Ts,
    /// The keys that are not read yet.
    unread: Set<Key>,
    reads: u8,
    /// The shards that have not answered.
    open: Set<ShardId>,
    /// Those of them that sent it to the oracle first.
    stalled: Set<ShardId>,
    prepares: [u8; SHARDS_MAX],
    /// The highest of the timestamps prepared at.
    max_ts: Ts,
    target: Ts,
    limit: Ts,
    is_one_phase: bool,
    has_replied: bool,
}

impl Coordinator {
    /// Returns a coordinator that has asked for its timestamp.
    pub fn begin(txn: TxnId, plan: Plan, out: &mut Outbox) -> Coordinator {
        let coordinator = Coordinator {
            txn,
            plan,
            state: State::Starting,
            start: 0,
            known: 0,
            unread: plan.reads,
            reads: 0,
            open: Set::default(),
            stalled: Set::default(),
            prepares: [0; SHARDS_MAX],
            max_ts: 0,
            target: 0,
            limit: 0,
            is_one_phase: false,
            has_replied: false,
        };
        coordinator.send(Address::Oracle, Body::Issue, out);
        coordinator
    }

    /// Returns true if it waits for nothing any more.
    pub fn has_ended(&self) -> bool {
        self.state == State::Ended
    }

    /// Takes an answer.
    pub fn step<const M: u8>(&mut self, message: &Message, out: &mut Outbox) {
        self.known = self.known.max(message.known);
        if let Body::Issued(ts) = message.body {
            self.known = self.known.max(ts);
            if self.state == State::Starting {
                self.start = ts;
                self.state = State::Reading;
                out.facts.push(Fact::Started { txn: self.txn, ts });
                self.read_next::<M>(out);
            } else {
                let stalled = std::mem::take(&mut self.stalled);
                stalled.iter().for_each(|shard| self.ask(shard, out));
            }
            return;
        }
        let Address::Shard(shard) = message.from else { return };
        match (self.state, message.body) {
            (State::Reading, Body::Value(key, writer)) if self.unread.has(key) => {
                out.facts.push(Fact::Saw { txn: self.txn, key, writer });
                self.unread.remove(key);
                self.read_next::<M>(out);
            }
            (State::Reading, Body::Blocked(key, _)) if self.unread.has(key) => {
                self.reads += 1;
                if self.reads > READS_MAX {
                    self.reply(Decision::Abort, out);
                    self.state = State::Ended;
                } else {
                    self.read_next::<M>(out);
                }
            }
            (State::OnePhase | State::Preparing | State::Refreshing(_), Body::NeedTs)
                if self.open.has(shard) =>
            {
                if self.stalled.is_empty() {
                    self.send(Address::Oracle, Body::Issue, out);
                }
                self.stalled.add(shard);
            }
            (State::OnePhase, Body::Record(Record::Final(decision))) => {
                self.reply(decision, out);
                self.state = State::Ended;
            }
            (State::OnePhase, Body::Refused(_)) => {
                self.reply(Decision::Abort, out);
                self.state = State::Ended;
            }
            (State::Preparing, Body::Prepared(ts)) if self.open.has(shard) => {
                self.open.remove(shard);
                self.stalled.remove(shard);
                self.max_ts = self.max_ts.max(ts);
                if is::<M>(Mutant::AckEarly) && shard == self.plan.primary {
                    self.reply(Decision::Commit(self.max_ts), out);
                }
                if self.open.is_empty() {
                    self.all_prepared::<M>(out);
                }
            }
            (State::Preparing, Body::Refused(_)) if self.open.has(shard) => {
                self.give_up::<M>(out);
            }
            // A recoverer was faster.
            (State::Preparing, Body::Record(Record::Final(decision))) => {
                self.decided(decision, out);
            }
            (State::Refreshing(ts), Body::Refreshed) if self.open.has(shard) => {
                self.open.remove(shard);
                self.stalled.remove(shard);
                if self.open.is_empty() {
                    self.finalize(Decision::Commit(ts), Expect::Staging, out);
                }
            }
            (State::Refreshing(_), Body::Refused(_)) if self.open.has(shard) => {
                self.finalize(Decision::Abort, Expect::Staging, out);
            }
            (State::Finalizing(..), Body::Record(Record::Final(decision))) => {
                self.decided(decision, out);
            }
            (State::Resolving(_), Body::Resolved) => {
                self.open.remove(shard);
                if self.open.is_empty() {
                    self.state = State::Ended;
                }
            }
            _ => {}
        }
    }

    /// Asks again for what it waits for: an answer may be lost.
    pub fn timeout<const M: u8>(&mut self, out: &mut Outbox) {
        match self.state {
            State::Starting => self.send(Address::Oracle, Body::Issue, out),
            State::Reading => self.read_next::<M>(out),
            State::OnePhase | State::Preparing | State::Refreshing(_)
                if !self.stalled.is_empty() =>
            {
                self.send(Address::Oracle, Body::Issue, out);
            }
            State::OnePhase if is::<M>(Mutant::OnePhaseResent) => self.ask(self.plan.primary, out),
            // It may have committed. Its record knows; and if there is none, there never will be.
            State::OnePhase => self.finalize(Decision::Abort, Expect::Absent, out),
            State::Preparing => {
                let open = self.open;
                for shard in open.iter() {
                    self.prepares[shard.0 as usize] += 1;
                    if self.prepares[shard.0 as usize] >= PREPARES_MAX {
                        return self.give_up::<M>(out);
                    }
                    self.ask(shard, out);
                }
            }
            State::Refreshing(_) => self.open.iter().for_each(|shard| self.ask(shard, out)),
            State::Finalizing(to, expect) => {
                let body = Body::Finalize(self.txn, to, expect);
                self.send(Address::Shard(self.plan.primary), body, out);
            }
            State::Resolving(decision) => self.resolve(decision, out),
            State::Ended => {}
        }
    }

    fn read_next<const M: u8>(&mut self, out: &mut Outbox) {
        let next = self.unread.iter().next();
        match next {
            Some(key) => {
                let body = Body::Read { txn: self.txn, key, ts: self.start, locks_seen: false };
                self.send(Address::Shard(key.shard()), body, out);
            }
            None => self.commit::<M>(out),
        }
    }

    fn commit<const M: u8>(&mut self, out: &mut Outbox) {
        let Plan { reads, writes, isolation, .. } = self.plan;
        let shards = writes.shards();
        if shards.is_empty() {
            self.reply(Decision::Commit(self.start), out);
            self.state = State::Ended;
            return;
        }
        let is_snapshot = isolation == Isolation::Snapshot;
        let reads_at_home = reads.shards().is_within(shards);
        self.open = shards;
        self.target = self.start + 1;
        if shards.len() == 1 && reads_at_home {
            self.is_one_phase = true;
            self.state = State::OnePhase;
        } else {
            if reads_at_home || is_snapshot {
                self.target = self.target.max(self.known + 1);
            }
            // Up to where the reads are valid if all prepare: for ever if nobody asks; through the
            // target if all are validated there; else where the fence of the reads stands.
            self.limit = match () {
                () if self.plan.textbook => 0,
                () if is::<M>(Mutant::LimitInf) => Ts::MAX,
                () if is_snapshot || reads.is_empty() => Ts::MAX,
                () if reads_at_home => self.target,
                () => self.start + 1,
            };
            self.state = State::Preparing;
        }
        shards.iter().for_each(|shard| self.ask(shard, out));
    }

    /// Sends a shard what the state asks of it.
    fn ask(&self, shard: ShardId, out: &mut Outbox) {
        let Plan { primary, isolation, reads, writes, .. } = self.plan;
        let mut ask = Ask {
            txn: self.txn,
            start: self.start,
            reads: reads.at(shard),
            writes: writes.at(shard),
            target: self.target,
            primary,
            isolation,
        };
        let body = match self.state {
            State::OnePhase => Body::CommitOne(ask),
            State::Preparing => {
                let stage = Stage { limit: self.limit, anchors: writes.shards() };
                Body::Prepare(ask, (shard == primary).then_some(stage))
            }
            State::Refreshing(thru) => {
                ask.target = thru;
                Body::Refresh(ask)
            }
            _ => return,
        };
        self.send(Address::Shard(shard), body, out);
    }

    fn all_prepared<const M: u8>(&mut self, out: &mut Outbox) {
        let ts = if is::<M>(Mutant::MinCts) { self.start + 1 } else { self.max_ts };
        if ts <= self.limit {
            // Committed, by what the shards hold. Finalize only writes it down.
            self.reply(Decision::Commit(ts), out);
            if is::<M>(Mutant::ResolveFirst) {
                return self.decided(Decision::Commit(ts), out);
            }
            return self.finalize(Decision::Commit(ts), Expect::Staging, out);
        }
        let needs_refresh = self.plan.isolation == Isolation::Serializable;
        self.open = if needs_refresh { self.plan.reads.shards() } else { Set::default() };
        if self.open.is_empty() || is::<M>(Mutant::NoRefresh) {
            return self.finalize(Decision::Commit(ts), Expect::Staging, out);
        }
        self.state = State::Refreshing(ts);
        self.open.iter().for_each(|shard| self.ask(shard, out));
    }

    fn give_up<const M: u8>(&mut self, out: &mut Outbox) {
        if is::<M>(Mutant::NaiveAbort) {
            self.reply(Decision::Abort, out);
            self.state = State::Ended;
            return;
        }
        self.finalize(Decision::Abort, Expect::Any, out);
    }

    fn finalize(&mut self, to: Decision, expect: Expect, out: &mut Outbox) {
        self.state = State::Finalizing(to, expect);
        self.stalled = Set::default();
        let body = Body::Finalize(self.txn, to, expect);
        self.send(Address::Shard(self.plan.primary), body, out);
    }

    fn decided(&mut self, decision: Decision, out: &mut Outbox) {
        self.reply(decision, out);
        if self.is_one_phase {
            self.state = State::Ended;
            return;
        }
        self.open = self.plan.writes.shards();
        self.stalled = Set::default();
        self.resolve(decision, out);
    }

    fn resolve(&mut self, decision: Decision, out: &mut Outbox) {
        self.state = State::Resolving(decision);
        for shard in self.open.iter() {
            self.send(Address::Shard(shard), Body::Resolve(self.txn, decision), out);
        }
    }

    fn reply(&mut self, decision: Decision, out: &mut Outbox) {
        if !self.has_replied {
            self.has_replied = true;
            out.facts.push(Fact::Replied { txn: self.txn, decision });
        }
    }

    fn send(&self, to: Address, body: Body, out: &mut Outbox) {
        let from = Address::Coordinator(self.txn);
        out.messages.push(Message { from, to, known: self.known, body });
    }
}
