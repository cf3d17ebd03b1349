//! Clients that append to lists in transactions, and never give up a commit before they know how it
//! ended.
//!
//! ```text
//!   Begin ─► Get, Get … (any replica) ─► Commit ─► committed, conflict
//!                                          └─ lost, unknown ─► the same Commit again, or Status,
//!                                                              at whoever may lead now
//! ```

use base::{KeyspaceId, Timestamp};
use bytes::Bytes;
use cluster::{Commit, Isolation, Record, Request, Response, TxnId};
use holm_sim::history::{Op, Outcome, Recorder, TransactionId};

use crate::world::{ELECTION_TICKS, World};

#[derive(Debug)]
enum Stage {
    Idle,
    Begin,
    Read,
    Commit,
    Status,
}

#[derive(Debug)]
struct Session {
    number: u64,
    stage: Stage,
    /// Whom it asks.
    target: usize,
    /// The request under way, and until when an answer is waited for.
    request: u64,
    until: u64,
    history: Option<TransactionId>,
    txn: TxnId,
    keys: Vec<u64>,
    lists: Vec<Vec<u64>>,
    commit: Option<Commit>,
}

/// An acknowledged end of a transaction.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Acknowledged {
    pub(crate) txn: TxnId,
    pub(crate) record: Record,
}

pub(crate) struct Clients {
    pub(crate) recorder: Recorder,
    pub(crate) acknowledged: Vec<Acknowledged>,
    sessions: Vec<Session>,
    keys: u64,
    next: u64,
    pub(crate) committed: u64,
    pub(crate) conflicts: u64,
    pub(crate) doubtful: u64,
    /// No new transactions are begun.
    pub(crate) is_closing: bool,
}

pub(crate) fn key_of(key: u64) -> Bytes {
    Bytes::from(KeyspaceId(1).encode(format!("list {key}").as_bytes()))
}

fn list_of(bytes: &[u8]) -> Vec<u64> {
    let words = bytes.chunks_exact(8);
    words.map(|word| u64::from_le_bytes(word.try_into().unwrap())).collect()
}

impl Clients {
    pub(crate) fn new(sessions: u64, keys: u64) -> Clients {
        let session = |number| Session {
            number,
            stage: Stage::Idle,
            target: 0,
            request: 0,
            until: 0,
            history: None,
            txn: TxnId::default(),
            keys: Vec::new(),
            lists: Vec::new(),
            commit: None,
        };
        Clients {
            recorder: Recorder::new(),
            acknowledged: Vec::new(),
            sessions: (0..sessions).map(session).collect(),
            keys,
            next: 1,
            committed: 0,
            conflicts: 0,
            doubtful: 0,
            is_closing: false,
        }
    }

    pub(crate) fn are_idle(&self) -> bool {
        self.sessions.iter().all(|session| matches!(session.stage, Stage::Idle))
    }

    /// Lets every session do what it can do now.
    pub(crate) fn act(&mut self, world: &mut World) {
        let replies = std::mem::take(&mut world.replies);
        for (id, response) in replies {
            if let Some(at) = self.sessions.iter().position(|session| session.request == id) {
                self.sessions[at].request = 0;
                self.answered(at, Some(response), world);
            }
        }
        for at in 0..self.sessions.len() {
            let session = &mut self.sessions[at];
            if matches!(session.stage, Stage::Idle) {
                if !self.is_closing && world.now >= session.until && world.chance.chance(300) {
                    session.history = Some(self.recorder.begin(session.number));
                    session.stage = Stage::Begin;
                    self.send(at, Request::Begin, world);
                }
            } else if session.request == 0 && world.now >= session.until {
                // It was told to come again.
                self.again(at, world);
            } else if session.request != 0 && world.now >= session.until {
                session.request = 0;
                session.target = world.chance.below(world.nodes.len() as u64) as usize;
                self.answered(at, None, world);
            }
        }
    }

    fn send(&mut self, at: usize, request: Request, world: &mut World) {
        let session = &mut self.sessions[at];
        session.request = self.next;
        session.until = world.now + 3 * ELECTION_TICKS;
        self.next += 1;
        // The encoding is what a network would carry.
        let bytes = cluster::codec::encode_request(&request);
        let request = cluster::codec::decode_request(&bytes).unwrap();
        world.ask(session.target, session.request, request);
    }

    /// Asks the same thing again.
    fn again(&mut self, at: usize, world: &mut World) {
        let session = &self.sessions[at];
        let request = match session.stage {
            Stage::Idle => return,
            Stage::Begin => Request::Begin,
            Stage::Read => Request::Get {
                read_ts: session.txn.start,
                key: key_of(session.keys[session.lists.len()]),
            },
            Stage::Commit => Request::Commit(session.commit.clone().unwrap()),
            Stage::Status => Request::Status { txn: session.txn, abort_if_absent: true },
        };
        self.send(at, request, world);
    }

    fn retry_soon(&mut self, at: usize, world: &mut World) {
        let session = &mut self.sessions[at];
        session.until = world.now + 5 + world.chance.below(20);
        session.target = world
            .leader()
            .filter(|_| world.chance.chance(700))
            .unwrap_or_else(|| world.chance.below(world.nodes.len() as u64) as usize);
    }

    fn end(&mut self, at: usize, outcome: Outcome, world: &World) {
        let session = &mut self.sessions[at];
        if let Some(history) = session.history.take() {
            self.recorder.end(history, outcome);
        }
        session.stage = Stage::Idle;
        session.until = world.now + 1;
        session.keys.clear();
        session.lists.clear();
        session.commit = None;
    }

    fn answered(&mut self, at: usize, response: Option<Response>, world: &mut World) {
        let session = &mut self.sessions[at];
        match (&session.stage, response) {
            (Stage::Begin, Some(Response::Begun { read_ts })) => {
                session.txn = TxnId { start: read_ts, home: session.number, nonce: self.next };
                let count = 1 + world.chance.below(3);
                for _ in 0..count {
                    let key = world.chance.below(self.keys);
                    if !session.keys.contains(&key) {
                        session.keys.push(key);
                    }
                }
                session.stage = Stage::Read;
                if world.chance.chance(200) {
                    session.target = world.chance.below(world.nodes.len() as u64) as usize;
                }
                self.again(at, world);
            }
            (Stage::Read, Some(Response::Value(value))) => {
                let list = value.map_or(Vec::new(), |(_, bytes)| list_of(&bytes));
                let key = session.keys[session.lists.len()];
                let op = Op::read_list(format!("{key}"), list.clone());
                self.recorder.op(session.history.unwrap(), op);
                session.lists.push(list);
                if session.lists.len() < session.keys.len() {
                    return self.again(at, world);
                }
                self.commit(at, world);
            }
            (Stage::Commit | Stage::Status, Some(Response::Committed { ts })) => {
                self.ended(at, Record::Committed(ts), world);
            }
            (Stage::Commit | Stage::Status, Some(Response::Ended(Some(record)))) => {
                self.ended(at, record, world);
            }
            (Stage::Commit, Some(Response::Conflict { .. })) => {
                self.conflicts += 1;
                // An earlier attempt may have come through, and this be the duplicate's answer: no,
                // duplicates are found first. So it is certain.
                self.end(at, Outcome::Aborted, world);
            }
            (Stage::Begin | Stage::Read, Some(Response::Refused(_))) => {
                self.end(at, Outcome::Aborted, world);
            }
            (Stage::Commit | Stage::Status, Some(Response::Refused(_))) => {
                // Too old to be known, or of another term: nobody can tell.
                self.doubtful += 1;
                self.end(at, Outcome::Unknown, world);
            }
            (Stage::Commit, None | Some(Response::Unknown { .. })) => {
                self.doubtful += 1;
                if world.chance.chance(500) {
                    session.stage = Stage::Status;
                }
                self.retry_soon(at, world);
            }
            (Stage::Idle, _) => {}
            _ => self.retry_soon(at, world),
        }
    }

    fn ended(&mut self, at: usize, record: Record, world: &mut World) {
        let session = &self.sessions[at];
        let txn = session.txn;
        self.acknowledged.push(Acknowledged { txn, record });
        match record {
            Record::Committed(ts) => {
                self.committed += 1;
                if let Some(history) = session.history {
                    self.recorder.commit_ts(history, ts.raw());
                }
                self.end(at, Outcome::Committed, world);
            }
            Record::Aborted => self.end(at, Outcome::Aborted, world),
        }
    }

    fn commit(&mut self, at: usize, world: &mut World) {
        let session = &mut self.sessions[at];
        let history = session.history.unwrap();
        let mut commit = Commit {
            txn: session.txn,
            isolation: Isolation::Serializable,
            is_blind: false,
            points: Vec::new(),
            ranges: Vec::new(),
            writes: Vec::new(),
        };
        for (key, list) in session.keys.iter().zip(&session.lists) {
            commit.points.push(key_of(*key));
            // Some keys are only read: so there can be write skew.
            if world.chance.chance(600) {
                let element = self.next;
                self.next += 1;
                self.recorder.op(history, Op::append(format!("{key}"), element));
                let list = list.iter().chain([&element]);
                let bytes: Vec<u8> = list.flat_map(|element| element.to_le_bytes()).collect();
                commit.writes.push((key_of(*key), Some(Bytes::from(bytes))));
            }
        }
        if commit.writes.is_empty() {
            // It has read one moment: there is nothing to commit.
            return self.end(at, Outcome::Committed, world);
        }
        session.commit = Some(commit);
        session.stage = Stage::Commit;
        self.again(at, world);
    }

    /// Returns the newest timestamp that was acknowledged.
    pub(crate) fn newest(&self) -> Timestamp {
        let committed = self.acknowledged.iter().filter_map(|end| match end.record {
            Record::Committed(ts) => Some(ts),
            Record::Aborted => None,
        });
        committed.max().unwrap_or_default()
    }
}
