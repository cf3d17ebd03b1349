//! Reads: which moment to read, and reading it.
//!
//! ```text
//!   Begin ─► leader: lease or heartbeats ─► index ─► applied ─► read_ts := last applied timestamp
//!   Get, Scan at read_ts ─► any replica: applied so far? ─► the engine at read_ts
//!                                          no: waits a while
//! ```
//!
//! Only the choice of the moment needs a leader. What is at or below the last applied timestamp
//! does not change any more, so every replica that has come so far gives the same answer, also one
//! that is cut off.

use std::collections::BTreeMap;

use base::Timestamp;
use bytes::Bytes;
use raft::{LogIndex, Ticks};
use storage::Visit;
use storage::memtable::Direction;

use super::{Output, Replica};
use crate::request::{Request, Response};

/// Bytes of one answer to a scan, about.
const SCAN_BYTES_MAX: usize = 1 << 20;

/// Reads that wait.
#[derive(Debug, Default)]
pub(super) struct Reads {
    next: u64,
    /// Those that the protocol was asked about.
    asked: BTreeMap<u64, u64>,
    /// Those that know their index and wait for it to be applied.
    indexed: Vec<(LogIndex, u64)>,
    /// Those that know their timestamp, and how long they wait for it.
    timed: Vec<(Ticks, Timestamp, u64, Request)>,
}

impl Reads {
    pub(super) fn len(&self) -> usize {
        self.asked.len() + self.indexed.len() + self.timed.len()
    }

    /// Returns the request behind a read that the protocol was asked about.
    pub(super) fn take(&mut self, id: u64) -> Option<u64> {
        self.asked.remove(&id)
    }

    pub(super) fn next_deadline(&self) -> Option<Ticks> {
        self.timed.iter().map(|(until, ..)| *until).min()
    }
}

impl Replica {
    pub(super) fn begin(&mut self, id: u64, out: &mut Vec<Output>) {
        if cfg!(mutant = "believes_to_lead") && self.raft.role() == raft::Role::Leader {
            let response = Response::Begun { read_ts: self.state.last_ts };
            return out.push(Output::Reply { id, response });
        }
        if self.waiting() >= self.options.requests_max {
            let response = self.busy();
            return out.push(Output::Reply { id, response });
        }
        self.reads.next += 1;
        let read = self.reads.next;
        self.reads.asked.insert(read, id);
        self.raft_step(raft::Input::Read { id: read, mode: self.options.read_mode });
    }

    pub(super) fn read_ok(&mut self, id: u64, index: LogIndex, out: &mut Vec<Output>) {
        if let Some(request) = self.reads.take(id) {
            self.reads.indexed.push((index, request));
            self.serve_reads(out);
        }
    }

    /// Answers the reads that have what they waited for.
    pub(super) fn serve_reads(&mut self, out: &mut Vec<Output>) {
        // What is committed is applied in the same step, so this waits for nothing yet; nothing
        // here rests on that.
        let (applied, last_ts) = (self.state.applied.index, self.state.last_ts);
        for (_, id) in self.reads.indexed.extract_if(.., |(index, _)| *index <= applied) {
            out.push(Output::Reply { id, response: Response::Begun { read_ts: last_ts } });
        }
        let ready: Vec<_> = self.reads.timed.extract_if(.., |(_, ts, ..)| *ts <= last_ts).collect();
        for (_, read_ts, id, request) in ready {
            self.read_at(id, read_ts, request, out);
        }
    }

    /// Tells those who have waited long enough to ask somebody else.
    pub(super) fn expire_reads(&mut self, out: &mut Vec<Output>) {
        let now = self.now;
        for (_, _, id, _) in self.reads.timed.extract_if(.., |(until, ..)| *until <= now) {
            let hint = self.raft.leader().filter(|leader| *leader != self.options.id);
            out.push(Output::Reply { id, response: Response::NotLeader { hint } });
        }
    }

    pub(super) fn read_at(
        &mut self,
        id: u64,
        read_ts: Timestamp,
        request: Request,
        out: &mut Vec<Output>,
    ) {
        if read_ts > self.state.last_ts {
            let response = if self.waiting() >= self.options.requests_max {
                self.busy()
            } else {
                let until = self.now.after(self.options.raft.election_timeout_ticks);
                return self.reads.timed.push((until, read_ts, id, request));
            };
            return out.push(Output::Reply { id, response });
        }
        if read_ts < self.state.gc_ts {
            let oldest = self.state.gc_ts;
            let what = format!("timestamp {read_ts} is older than what is kept (from {oldest})");
            return out.push(Output::Reply { id, response: Response::Refused(what) });
        }
        let response = match self.read(read_ts, &request) {
            Ok(response) => response,
            Err(error) => Response::Refused(error.to_string()),
        };
        out.push(Output::Reply { id, response });
    }

    fn read(&self, read_ts: Timestamp, request: &Request) -> storage::Result<Response> {
        let pin = match self.engine.pin_at(read_ts) {
            Ok(pin) => pin,
            Err(too_old) => return Ok(Response::Refused(too_old.to_string())),
        };
        match request {
            Request::Get { key, .. } if base::key::decode(key).is_none() => {
                Ok(Response::Refused("this is no key of data".into()))
            }
            Request::Get { key, .. } => Ok(Response::Value(pin.get(key)?)),
            Request::Scan { range, limit, .. } if base::key::decode(&range.start).is_some() => {
                let (mut rows, mut bytes) = (Vec::new(), 0);
                let limit = (*limit).max(1) as usize;
                let mut scan = pin.rows(range.clone(), Direction::Forward);
                let is_complete = scan.visit(|key, ts, value| {
                    bytes += key.len() + value.len();
                    rows.push((Bytes::copy_from_slice(key), ts, Bytes::copy_from_slice(value)));
                    match rows.len() < limit && bytes < SCAN_BYTES_MAX {
                        true => Visit::Next,
                        false => Visit::Stop,
                    }
                })?;
                Ok(Response::Rows { rows, is_complete })
            }
            _ => Ok(Response::Refused("the range does not begin with a key of data".into())),
        }
    }
}
