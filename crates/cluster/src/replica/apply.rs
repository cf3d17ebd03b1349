//! Applying: what a committed entry does to the state.
//!
//! ```text
//!   entry ── Empty, Config ──────────────────────► the state
//!        └── Command ── guards ── refused? ──────► nothing, and an answer
//!                          └── versions, record ─► memtable, and an answer
//! ```
//!
//! The guards are what a leader has checked before it proposed, once more and for good: between
//! the check and here another leader may have come, a duplicate may have been applied, a watermark
//! may have risen. They look at nothing but the state and the command, so all replicas decide
//! alike.

use base::Timestamp;
use bytes::Bytes;
use raft::{Entry, LogIndex, Payload};
use storage::{ReadPin, Value, Visit};

use super::commits::{Ask, InFlight};
use super::{Output, Replica};
use crate::command::{Body, Command, as_value};
use crate::request::Response;
use crate::state::{Record, TxnId, record_key, records_before};

/// Records that one command forgets at most: a bound for the work of applying it.
const RECORDS_FORGOTTEN_MAX: usize = 1024;

/// What became of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The transaction ended, now or before.
    Ended(Record),
    /// It changed nothing, and may be tried again.
    Rejected(&'static str),
    /// There is nothing to say.
    Done,
}

impl Replica {
    /// Applies entries up to an index, which is committed.
    pub(super) fn apply_to(&mut self, index: LogIndex, out: &mut Vec<Output>) {
        let index =
            if cfg!(mutant = "applies_before_commit") { self.raft.last().index } else { index };
        let before = self.state.applied.index;
        while self.state.applied.index < index && self.failure.is_none() {
            let next = self.state.applied.index.next();
            let entry = self.raft.entry(next).cloned();
            let entry = entry.expect("what is committed and not applied is in the log");
            match self.apply(&entry) {
                Ok(outcome) => {
                    self.state.applied = entry.position();
                    while self.positions.front().is_some_and(|(index, _)| *index <= entry.index) {
                        self.positions.pop_front();
                    }
                    if let Some(flight) = self.in_flight.remove(&entry.index) {
                        self.answer(flight, outcome, out);
                    }
                }
                Err(what) => self.fail(format!("entry {next} cannot be applied: {what}")),
            }
        }
        if self.state.applied.index > before {
            self.raft_step(raft::Input::Applied(self.state.applied.index));
            self.serve_reads(out);
        }
    }

    fn apply(&mut self, entry: &Entry) -> Result<Outcome, String> {
        match &entry.payload {
            Payload::Empty => Ok(Outcome::Done),
            Payload::Config(config) => {
                self.state.config = config.clone();
                self.state.config_index = entry.index;
                Ok(Outcome::Done)
            }
            Payload::Command(bytes) => {
                let command = Command::decode(bytes)?;
                if command.epoch != self.state.epoch {
                    return Ok(Outcome::Rejected("the shard has changed"));
                }
                if command.term != entry.term {
                    return Ok(Outcome::Rejected("it was thought out in another term"));
                }
                self.carry_out_command(command.body).map_err(|error| error.to_string())
            }
        }
    }

    fn carry_out_command(&mut self, body: Body) -> storage::Result<Outcome> {
        match body {
            Body::CommitOne { txn, ts, writes } => {
                if let Some(outcome) = self.guard(&txn, ts)? {
                    return Ok(outcome);
                }
                let record = (record_key(&txn), Record::Committed(ts).encode());
                let record = std::iter::once((&record.0[..], Value::Put(&record.1)));
                let data = writes.iter().map(|(key, value)| (&key[..], as_value(value)));
                self.engine.put_applied(ts, record.chain(data));
                self.state.last_ts = ts;
                Ok(Outcome::Ended(Record::Committed(ts)))
            }
            Body::Abort { txn, ts } => {
                if let Some(outcome) = self.guard(&txn, ts)? {
                    return Ok(outcome);
                }
                let (key, value) = (record_key(&txn), Record::Aborted.encode());
                self.engine.put_applied(ts, [(&key[..], Value::Put(&value))].into_iter());
                self.state.last_ts = ts;
                Ok(Outcome::Ended(Record::Aborted))
            }
            Body::Ceiling { ts } => {
                self.state.ceiling = self.state.ceiling.max(ts);
                if let Some(oracle) = &mut self.oracle {
                    oracle.raised(ts);
                }
                Ok(Outcome::Done)
            }
            Body::SetGc { gc_ts, ts } => {
                if ts <= self.state.last_ts {
                    return Ok(Outcome::Rejected("a later timestamp was written before it"));
                }
                self.state.last_ts = ts;
                // Never above what is written: who reads at the newest moment must be able to.
                self.state.gc_ts = self.state.gc_ts.max(gc_ts.min(ts));
                self.forget_records(ts)?;
                self.engine.collect(self.state.gc_ts);
                Ok(Outcome::Done)
            }
        }
    }

    /// Returns what keeps a transaction from ending now, if anything does.
    fn guard(&self, txn: &TxnId, ts: Timestamp) -> storage::Result<Option<Outcome>> {
        if !cfg!(mutant = "forgets_duplicates")
            && let Some(record) = self.record(txn)?
        {
            return Ok(Some(Outcome::Ended(record)));
        }
        if txn.start < self.state.gc_ts {
            return Ok(Some(Outcome::Rejected("it began before what is kept")));
        }
        if ts <= self.state.last_ts {
            return Ok(Some(Outcome::Rejected("a later timestamp was written before it")));
        }
        Ok(None)
    }

    /// Returns how a transaction ended, if it is known to have.
    pub(super) fn record(&self, txn: &TxnId) -> storage::Result<Option<Record>> {
        let Some((_, bytes)) = self.pin_all().get(&record_key(txn))? else { return Ok(None) };
        let decoded = Record::decode(&bytes);
        let path = self.engine.directory().path();
        decoded.map(Some).map_err(|what| storage::Error::damaged(path, 0, what))
    }

    /// Returns a pin that sees everything that is applied, and holds nothing back.
    pub(super) fn pin_all(&self) -> ReadPin {
        self.engine.pin_newest(|| Timestamp::MAX)
    }

    /// Forgets the oldest records of transactions that began before the watermark: who asks for
    /// them is refused for that.
    fn forget_records(&mut self, ts: Timestamp) -> storage::Result<()> {
        let mut keys: Vec<Bytes> = Vec::new();
        let start = Bytes::from(records_before(Timestamp::ZERO));
        let end = Bytes::from(records_before(self.state.gc_ts));
        let pin = self.pin_all();
        let range = base::KeyRange::new(start, end);
        pin.rows(range, storage::memtable::Direction::Forward).visit(|key, _, _| {
            keys.push(Bytes::copy_from_slice(key));
            if keys.len() < RECORDS_FORGOTTEN_MAX { Visit::Next } else { Visit::Stop }
        })?;
        self.engine.put_applied(ts, keys.iter().map(|key| (&key[..], Value::Tombstone)));
        Ok(())
    }

    /// Answers those who wait for a command.
    fn answer(&mut self, flight: InFlight, outcome: Outcome, out: &mut Vec<Output>) {
        for (id, key) in flight.losers {
            let response = match outcome {
                Outcome::Ended(Record::Committed(ts)) => Response::Conflict { key, ts },
                _ => self.busy(),
            };
            out.push(Output::Reply { id, response });
        }
        for (id, ask) in flight.waiters {
            let response = match (outcome, ask) {
                (Outcome::Ended(Record::Committed(ts)), Ask::Commit) => Response::Committed { ts },
                (Outcome::Ended(record), _) => Response::Ended(Some(record)),
                (Outcome::Rejected(why), _) => Response::Refused(why.to_string()),
                (Outcome::Done, _) => Response::Done,
            };
            out.push(Output::Reply { id, response });
        }
    }
}
