//! Clients: what they ask, what they record, and that they never give a commit up before they know
//! how it ended.
//!
//! ```text
//!   Begin ─► Get, Get … (any replica) ─► Commit ─► committed, conflict
//!                                          └─ lost, unknown ─► the same Commit again, or Status,
//!                                                              at whoever may lead now
//! ```
//!
//! A session does one thing at a time. Each wait has a turn: an answer that comes late, or twice,
//! and an alarm of an older turn, are nobody's.

use std::collections::BTreeMap;

use base::{KeyspaceId, Timestamp};
use bytes::Bytes;
use cluster::{Commit, Isolation, Record, Request, Response, TxnId};

use super::{ELECTION_TICKS, What, Workload, World};
use crate::history::{Op, Outcome, Recorder, TransactionId};

/// How long an answer is waited for, in microseconds.
const PATIENCE_US: u64 = 3 * 1000 * ELECTION_TICKS;

/// How long a client thinks between transactions, in microseconds, at most.
const THINKING_US: u64 = 100_000;

/// What each account of the bank holds at first.
pub(super) const BALANCE: u64 = 100;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Idle,
    Begin,
    Read,
    Commit,
    Status,
}

#[derive(Debug)]
struct Session {
    stage: Stage,
    /// What is waited for.
    turn: u64,
    is_asked: bool,
    /// Whom it asks.
    target: usize,
    history: Option<TransactionId>,
    txn: TxnId,
    keys: Vec<u64>,
    values: Vec<Vec<u64>>,
    commit: Option<Commit>,
}

/// How a transaction ended, as a client was told.
#[derive(Debug, Clone, Copy)]
pub(super) struct Told {
    pub(super) txn: TxnId,
    pub(super) record: Record,
}

/// How often transactions ended how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ends {
    /// Took place.
    pub committed: u64,
    /// Lost against another one.
    pub conflicts: u64,
    /// Were in doubt for a while: an answer was lost, or the leadership went on.
    pub doubtful: u64,
}

pub(super) struct Clients {
    pub(super) recorder: Recorder,
    pub(super) told: Vec<Told>,
    pub(super) ends: Ends,
    /// No new transactions are begun.
    pub(super) is_closing: bool,
    workload: Workload,
    sessions: Vec<Session>,
    keys: u64,
    /// Names requests, transactions and what is written.
    next: u64,
    /// Whose answer a request's is.
    asked: BTreeMap<u64, usize>,
}

pub(super) fn key_of(key: u64) -> Bytes {
    Bytes::from(KeyspaceId(1).encode(format!("key {key}").as_bytes()))
}

fn numbers_of(bytes: &[u8]) -> Vec<u64> {
    let word = |word: &[u8]| u64::from_le_bytes(word.try_into().unwrap_or_default());
    bytes.chunks_exact(8).map(word).collect()
}

fn bytes_of(numbers: &[u64]) -> Bytes {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

impl Clients {
    pub(super) fn new(world: &mut World) -> Clients {
        let count = world.plan.sessions as usize;
        let session = |_| Session {
            stage: Stage::Idle,
            turn: 0,
            is_asked: false,
            target: 0,
            history: None,
            txn: TxnId::default(),
            keys: Vec::new(),
            values: Vec::new(),
            commit: None,
        };
        let mut clients = Clients {
            recorder: Recorder::new(),
            told: Vec::new(),
            ends: Ends::default(),
            is_closing: false,
            workload: world.plan.workload,
            sessions: (0..count).map(session).collect(),
            keys: world.plan.keys,
            next: 1,
            asked: BTreeMap::new(),
        };
        for at in 0..count {
            let after_us = world.random.below(THINKING_US);
            clients.wait(at, after_us, world);
        }
        clients
    }

    /// Returns true if everything that was begun has ended.
    pub(super) fn are_idle(&self) -> bool {
        self.sessions.iter().all(|session| session.stage == Stage::Idle)
    }

    /// Returns the newest timestamp that was acknowledged.
    pub(super) fn newest(&self) -> Timestamp {
        let committed = self.told.iter().filter_map(|told| match told.record {
            Record::Committed(ts) => Some(ts),
            Record::Aborted => None,
        });
        committed.max().unwrap_or_default()
    }

    /// Returns what an account holds that was never written to.
    fn initial(&self) -> u64 {
        if self.workload == Workload::Bank { BALANCE } else { 0 }
    }

    fn wait(&mut self, at: usize, after_us: u64, world: &mut World) {
        self.next += 1;
        let turn = self.next;
        self.sessions[at].turn = turn;
        world.push(after_us, 0, 0, What::Session { at, turn });
    }

    /// A wait is over.
    pub(super) fn turn(&mut self, world: &mut World, at: usize, turn: u64) {
        let session = &mut self.sessions[at];
        if session.turn != turn {
            return;
        }
        if session.stage == Stage::Idle {
            if self.is_closing {
                return;
            }
            session.history = Some(self.recorder.begin(at as u64));
            session.stage = Stage::Begin;
            return self.ask(at, world);
        }
        if !session.is_asked {
            // It was told to come again.
            return self.ask(at, world);
        }
        session.target = world.random.below(world.nodes.len() as u64) as usize;
        self.go_on(at, None, world);
    }

    /// An answer came, for whomever.
    pub(super) fn answered(&mut self, world: &mut World, id: u64, response: Response) {
        let Some(at) = self.asked.remove(&id) else { return };
        if self.sessions[at].turn == id && self.sessions[at].is_asked {
            self.go_on(at, Some(response), world);
        }
    }

    /// Asks what the stage asks for, and waits for the answer.
    fn ask(&mut self, at: usize, world: &mut World) {
        let session = &self.sessions[at];
        let request = match session.stage {
            Stage::Idle => return,
            Stage::Begin => Request::Begin,
            Stage::Read => Request::Get {
                read_ts: session.txn.start,
                key: key_of(session.keys[session.values.len()]),
            },
            Stage::Commit => match &session.commit {
                Some(commit) => Request::Commit(commit.clone()),
                None => return,
            },
            Stage::Status => Request::Status { txn: session.txn, abort_if_absent: true },
        };
        let target = session.target;
        self.wait(at, PATIENCE_US, world);
        let session = &mut self.sessions[at];
        session.is_asked = true;
        let id = session.turn;
        self.asked.insert(id, at);
        world.ask(target, id, &request);
    }

    fn again_soon(&mut self, at: usize, world: &mut World) {
        let leader = world.leader().filter(|_| world.random.chance(700));
        let any = world.random.below(world.nodes.len() as u64) as usize;
        let session = &mut self.sessions[at];
        session.target = leader.unwrap_or(any);
        session.is_asked = false;
        let after_us = 5000 + world.random.below(40_000);
        self.wait(at, after_us, world);
    }

    fn go_on(&mut self, at: usize, response: Option<Response>, world: &mut World) {
        match (self.sessions[at].stage, response) {
            (Stage::Begin, Some(Response::Begun { read_ts })) => self.begun(at, read_ts, world),
            (Stage::Read, Some(Response::Value(value))) => {
                let value = value.map(|(_, bytes)| numbers_of(&bytes));
                self.read(at, value, world);
            }
            (Stage::Commit | Stage::Status, Some(Response::Committed { ts })) => {
                self.told(at, Record::Committed(ts), world);
            }
            (Stage::Commit | Stage::Status, Some(Response::Ended(Some(record)))) => {
                self.told(at, record, world);
            }
            (Stage::Commit, Some(Response::Conflict { .. })) => {
                // Duplicates are found before conflicts, so this is certain.
                self.ends.conflicts += 1;
                self.end(at, Outcome::Aborted, world);
            }
            // The past it reads is forgotten: it has written nothing.
            (Stage::Begin | Stage::Read, Some(Response::Refused(_))) => {
                self.end(at, Outcome::Aborted, world);
            }
            // Too old to be known: nobody can tell any more.
            (Stage::Commit | Stage::Status, Some(Response::Refused(_))) => {
                self.ends.doubtful += 1;
                self.end(at, Outcome::Unknown, world);
            }
            (Stage::Commit, None | Some(Response::Unknown { .. })) => {
                self.ends.doubtful += 1;
                if world.random.chance(500) {
                    self.sessions[at].stage = Stage::Status;
                }
                self.again_soon(at, world);
            }
            _ => self.again_soon(at, world),
        }
    }

    fn begun(&mut self, at: usize, read_ts: Timestamp, world: &mut World) {
        self.next += 1;
        let session = &mut self.sessions[at];
        session.txn = TxnId { start: read_ts, home: at as u64, nonce: self.next };
        if let Some(history) = session.history {
            self.recorder.read_ts(history, read_ts.raw());
        }
        // Some see the whole bank; without reads of everything it proves nothing.
        let count = match self.workload {
            Workload::Bank if world.random.chance(400) => self.keys,
            Workload::Bank => 2,
            Workload::Append | Workload::Register => 1 + world.random.below(3),
        };
        let mut keys: Vec<u64> = (0..self.keys).collect();
        world.random.shuffle(&mut keys);
        keys.truncate(count as usize);
        session.keys = keys;
        session.stage = Stage::Read;
        // Any replica answers that has come to this timestamp.
        if world.random.chance(200) {
            session.target = world.random.below(world.nodes.len() as u64) as usize;
        }
        self.ask(at, world);
    }

    fn read(&mut self, at: usize, value: Option<Vec<u64>>, world: &mut World) {
        let initial = self.initial();
        let session = &mut self.sessions[at];
        let key = session.keys[session.values.len()].to_string();
        let (op, value) = match self.workload {
            Workload::Append => {
                let list = value.unwrap_or_default();
                (Op::read_list(key, list.clone()), list)
            }
            Workload::Register => {
                let number = value.and_then(|value| value.first().copied());
                (Op::read(key, number), number.into_iter().collect())
            }
            Workload::Bank => {
                let balance = value.and_then(|value| value.first().copied()).unwrap_or(initial);
                (Op::read(key, Some(balance)), vec![balance])
            }
        };
        if let Some(history) = session.history {
            self.recorder.op(history, op);
        }
        session.values.push(value);
        if session.values.len() < session.keys.len() {
            return self.ask(at, world);
        }
        self.commit(at, world);
    }

    fn commit(&mut self, at: usize, world: &mut World) {
        let writes = self.writes(at, world);
        if writes.is_empty() {
            // It has read one moment: there is nothing to commit.
            return self.end(at, Outcome::Committed, world);
        }
        let session = &mut self.sessions[at];
        if let Some(history) = session.history {
            for (key, numbers) in &writes {
                let (key, last) = (key.to_string(), numbers.last().copied().unwrap_or_default());
                self.recorder.op(
                    history,
                    match self.workload {
                        Workload::Append => Op::append(key, last),
                        Workload::Register | Workload::Bank => Op::write(key, last),
                    },
                );
            }
        }
        let write = |(key, numbers): &(u64, Vec<u64>)| (key_of(*key), Some(bytes_of(numbers)));
        session.commit = Some(Commit {
            txn: session.txn,
            isolation: Isolation::Serializable,
            is_blind: false,
            points: session.keys.iter().map(|key| key_of(*key)).collect(),
            ranges: Vec::new(),
            writes: writes.iter().map(write).collect(),
        });
        session.stage = Stage::Commit;
        self.ask(at, world);
    }

    /// Returns what a transaction writes that has read what it wanted.
    fn writes(&mut self, at: usize, world: &mut World) -> Vec<(u64, Vec<u64>)> {
        let session = &self.sessions[at];
        let read = session.keys.iter().copied().zip(&session.values);
        if self.workload == Workload::Bank {
            let [(from, has), (to, gets)] = match read.collect::<Vec<_>>()[..] {
                [a, b] if self.keys > 2 || world.random.chance(500) => [a, b],
                _ => return Vec::new(),
            };
            let amount = world.random.below(has[0] + 1).min(5);
            return vec![(from, vec![has[0] - amount]), (to, vec![gets[0] + amount])];
        }
        let mut writes = Vec::new();
        for (key, value) in read {
            // Some keys are only read: so there can be write skew.
            if world.random.chance(600) {
                self.next += 1;
                let numbers = match self.workload {
                    Workload::Append => value.iter().copied().chain([self.next]).collect(),
                    Workload::Register | Workload::Bank => vec![self.next],
                };
                writes.push((key, numbers));
            }
        }
        writes
    }

    fn told(&mut self, at: usize, record: Record, world: &mut World) {
        let session = &self.sessions[at];
        self.told.push(Told { txn: session.txn, record });
        match record {
            Record::Committed(ts) => {
                self.ends.committed += 1;
                if let Some(history) = session.history {
                    self.recorder.commit_ts(history, ts.raw());
                }
                self.end(at, Outcome::Committed, world);
            }
            Record::Aborted => self.end(at, Outcome::Aborted, world),
        }
    }

    fn end(&mut self, at: usize, outcome: Outcome, world: &mut World) {
        let session = &mut self.sessions[at];
        if let Some(history) = session.history.take() {
            self.recorder.end(history, outcome);
        }
        let txn = session.txn;
        world.trace.line(
            world.now_us,
            || format!("c{at}"),
            "end",
            || format!("{outcome:?} {txn:?}"),
        );
        session.stage = Stage::Idle;
        session.is_asked = false;
        session.keys.clear();
        session.values.clear();
        session.commit = None;
        let after_us = 1 + world.random.below(THINKING_US);
        self.wait(at, after_us, world);
    }
}
