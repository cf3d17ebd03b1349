//! Somebody who was blocked by a lock, and finishes its transaction.
//!
//! ```text
//!  Asking -- Final --------------------------------------------------> Resolving -> Ended
//!    |  '-- Absent --> Deciding (Abort, expect Absent) -- Final ------>
//!    |                     '-- Staging: restart --.
//!    '----- Staging --> Probing <-----------------'
//!                         '-> Deciding (by what was found, expect Staging) -- Final -->
//! ```
//!
//! # Invariants
//! * It acts only on a final record.
//! * A Probe that says Fenced has made sure that the Prepare can no more happen.

use super::message::{Decision, Expect, Record, Stage};
use super::{Address, Body, Message, Outbox, Set, ShardId, Ts, TxnId};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Asking,
    Probing(Stage),
    Deciding(Decision, Expect),
    Resolving(Decision),
    Ended,
}

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Recoverer {
    number: u8,
    txn: TxnId,
    primary: ShardId,
    state: State,
    /// The shards whose locks it will resolve: the one it was blocked at, and the anchors once it
    /// has read them.
    shards: Set<ShardId>,
    open: Set<ShardId>,
    max_ts: Ts,
}

impl Recoverer {
    /// Returns a recoverer that has asked for the record of the transaction that blocks `at`.
    pub fn begin(
        number: u8,
        txn: TxnId,
        primary: ShardId,
        at: ShardId,
        out: &mut Outbox,
    ) -> Recoverer {
        let mut shards = Set::default();
        shards.add(at);
        let state = State::Asking;
        let recoverer =
            Recoverer { number, txn, primary, state, shards, open: Set::default(), max_ts: 0 };
        recoverer.send(primary, Body::Status(txn), out);
        recoverer
    }

    /// Returns true if it waits for nothing any more.
    pub fn has_ended(&self) -> bool {
        self.state == State::Ended
    }

    /// Returns the transaction it recovers.
    pub fn txn(&self) -> TxnId {
        self.txn
    }

    /// Takes an answer.
    pub fn step(&mut self, message: &Message, out: &mut Outbox) {
        let Address::Shard(shard) = message.from else { return };
        match (self.state, message.body) {
            (State::Asking | State::Deciding(..), Body::Record(Record::Final(decision))) => {
                self.state = State::Resolving(decision);
                self.open = self.shards;
                self.timeout(out);
            }
            (State::Asking, Body::Record(Record::Absent)) => {
                self.state = State::Deciding(Decision::Abort, Expect::Absent);
                self.timeout(out);
            }
            (
                State::Asking | State::Deciding(_, Expect::Absent),
                Body::Record(Record::Staging(stage)),
            ) => {
                stage.anchors.iter().for_each(|anchor| self.shards.add(anchor));
                self.state = State::Probing(stage);
                self.open = stage.anchors;
                self.max_ts = 0;
                self.timeout(out);
            }
            (State::Probing(stage), Body::Prepared(ts)) if self.open.has(shard) => {
                self.open.remove(shard);
                self.max_ts = self.max_ts.max(ts);
                if self.open.is_empty() {
                    let is_committed = self.max_ts <= stage.limit;
                    let to =
                        if is_committed { Decision::Commit(self.max_ts) } else { Decision::Abort };
                    self.state = State::Deciding(to, Expect::Staging);
                    self.timeout(out);
                }
            }
            (State::Probing(_), Body::Fenced) if self.open.has(shard) => {
                self.state = State::Deciding(Decision::Abort, Expect::Staging);
                self.timeout(out);
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

    /// Asks (again) for what it waits for.
    pub fn timeout(&mut self, out: &mut Outbox) {
        match self.state {
            State::Asking => self.send(self.primary, Body::Status(self.txn), out),
            State::Probing(_) => {
                self.open.iter().for_each(|shard| self.send(shard, Body::Probe(self.txn), out));
            }
            State::Deciding(to, expect) => {
                self.send(self.primary, Body::Finalize(self.txn, to, expect), out);
            }
            State::Resolving(decision) => {
                let body = Body::Resolve(self.txn, decision);
                self.open.iter().for_each(|shard| self.send(shard, body, out));
            }
            State::Ended => {}
        }
    }

    fn send(&self, shard: ShardId, body: Body, out: &mut Outbox) {
        let from = Address::Recoverer(self.number);
        out.messages.push(Message { from, to: Address::Shard(shard), known: 0, body });
    }
}
