//! Commits at the leader: duplicates, the conflict check, a timestamp, a proposal.
//!
//! ```text
//!   start ───────────────── applied ──────────── in flight ─────── now
//!     '── by the index of ────'└─ by their writes ───'
//!         the engine                    both with the rules of the transaction crate
//! ```
//!
//! What is in flight may come to nothing, if the leadership goes. So who is in conflict with it is
//! not told before it is applied: an answer that says "never" must stay true.
//!
//! # Invariants
//! * Of what is in flight, indexes and timestamps rise together.
//! * A timestamp that is issued lies above the start of every transaction that was given one here:
//!   starts are timestamps of applied commits.

use std::sync::Arc;

use base::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use base::{Timestamp, key};
use bytes::Bytes;
use raft::{LogIndex, Role};
use transaction::{Footprint, ReadSet, Verdict, WriteSet, evaluate, find_newer};

use super::{Output, Replica};
use crate::command::{Body, Command};
use crate::oracle::Oracle;
use crate::request::{Commit, Request, Response};
use crate::state::{Record, TxnId};

/// What somebody who waits wants to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ask {
    Commit,
    Status,
}

/// A command that was proposed here and is not applied.
#[derive(Debug)]
pub(super) struct InFlight {
    /// The transaction that it ends.
    txn: Option<TxnId>,
    ts: Timestamp,
    writes: Arc<WriteSet>,
    pub(super) waiters: Vec<(u64, Ask)>,
    /// Who is in conflict with it, over which key: if it takes place, they never will.
    pub(super) losers: Vec<(u64, Bytes)>,
}

impl InFlight {
    fn waiting(&self) -> usize {
        self.waiters.len() + self.losers.len()
    }
}

impl Replica {
    /// Returns true if this replica leads and may serve: an entry of its own term is applied, so it
    /// knows of everything that any leader before it acknowledged.
    pub fn is_ready(&self) -> bool {
        self.raft.role() == Role::Leader
            && (self.state.applied.term == self.raft.term()
                || cfg!(mutant = "serves_before_own_entry"))
    }

    /// Does what a leader does by itself: begins to issue timestamps, keeps the ceiling ahead, and
    /// takes up what waited for it.
    pub(super) fn lead(&mut self, out: &mut Vec<Output>) {
        if !self.is_ready() {
            return;
        }
        let (ceiling, last_ts) = (self.state.ceiling, self.state.last_ts);
        let oracle = self.oracle.get_or_insert_with(|| Oracle::new(ceiling, last_ts));
        if let Some(ts) = oracle.wants(self.wall_ms) {
            let proposed = self.propose(Body::Ceiling { ts }, None, ts, Arc::default(), Vec::new());
            if proposed.is_err() {
                self.oracle.iter_mut().for_each(Oracle::refused);
            }
        }
        if self.can_issue() {
            for (id, request) in std::mem::take(&mut self.queue) {
                self.for_leader(id, request, out);
            }
        }
    }

    fn can_issue(&mut self) -> bool {
        let last = self.oracle.as_ref().map(Oracle::last);
        last.is_some_and(|last| last < self.state.ceiling)
    }

    /// Takes a request that only a leader can answer.
    pub(super) fn for_leader(&mut self, id: u64, request: Request, out: &mut Vec<Output>) {
        if self.raft.role() != Role::Leader {
            let response = self.not_leader();
            return out.push(Output::Reply { id, response });
        }
        if self.waiting() >= self.options.requests_max || self.engine.no_room().is_some() {
            let response = self.busy();
            return out.push(Output::Reply { id, response });
        }
        if !self.is_ready() || !self.can_issue() {
            return self.queue.push_back((id, request));
        }
        let response = match &request {
            Request::Commit(commit) => self.commit(id, commit),
            Request::Status { txn, abort_if_absent } => self.status(id, *txn, *abort_if_absent),
            Request::SetGc(gc_ts) => self.set_gc(id, *gc_ts),
            _ => Ok(Some(Response::Refused("this is no request to a leader".into()))),
        };
        match response {
            Ok(Some(response)) => out.push(Output::Reply { id, response }),
            Ok(None) => {}
            Err(error) => {
                self.fail(error.to_string());
                out.push(Output::Reply { id, response: Response::Unknown { hint: None } });
            }
        }
    }

    fn commit(&mut self, id: u64, commit: &Commit) -> storage::Result<Option<Response>> {
        let writes = match write_set(commit) {
            Ok(writes) => writes,
            Err(what) => return Ok(Some(Response::Refused(what))),
        };
        let txn = commit.txn;
        if let Some(answered) = self.known_end(id, txn, Ask::Commit)? {
            return Ok(answered);
        }
        if txn.start < self.state.gc_ts {
            let oldest = self.state.gc_ts;
            let what = format!("it began at {}, before what is kept ({oldest})", txn.start);
            return Ok(Some(Response::Refused(what)));
        }
        if txn.start > self.state.last_ts {
            let what = format!("it began at {}, which was not reached yet", txn.start);
            return Ok(Some(Response::Refused(what)));
        }
        if writes.is_empty() {
            return Ok(Some(Response::Committed { ts: txn.start }));
        }
        let mut reads = ReadSet::default();
        commit.points.iter().for_each(|key| reads.add_point(key.clone()));
        commit.ranges.iter().for_each(|range| reads.add_range(range.clone()));
        let mine = Footprint { reads: &reads, writes: &writes, blind: commit.is_blind };
        if let Some(conflict) = self.conflict(mine, txn.start)? {
            return Ok(Some(conflict));
        }
        if self.waits_for_winner(id, mine) {
            return Ok(None);
        }
        let list = writes
            .iter()
            .map(|(key, value)| (key.clone(), value.as_put().map(Bytes::copy_from_slice)));
        let writes_list = list.collect();
        let Some(ts) = self.issue() else {
            self.queue.push_back((id, Request::Commit(commit.clone())));
            return Ok(None);
        };
        let body = Body::CommitOne { txn, ts, writes: writes_list };
        let waiters = vec![(id, Ask::Commit)];
        Ok(self.propose(body, Some(txn), ts, Arc::new(writes), waiters).err())
    }

    /// Answers what is asked of a transaction that has ended or is about to; none if it has not.
    fn known_end(
        &mut self,
        id: u64,
        txn: TxnId,
        ask: Ask,
    ) -> storage::Result<Option<Option<Response>>> {
        if cfg!(mutant = "forgets_duplicates") {
            return Ok(None);
        }
        let mut flights = self.in_flight.values_mut();
        if let Some(flight) = flights.find(|flight| flight.txn == Some(txn)) {
            flight.waiters.push((id, ask));
            return Ok(Some(None));
        }
        let record = self.record(&txn)?;
        Ok(record.map(|record| match (record, ask) {
            (Record::Committed(ts), Ask::Commit) => Some(Response::Committed { ts }),
            (record, _) => Some(Response::Ended(Some(record))),
        }))
    }

    fn conflict(&self, mine: Footprint<'_>, start: Timestamp) -> storage::Result<Option<Response>> {
        if mine.blind || cfg!(mutant = "checks_no_conflicts") {
            return Ok(None);
        }
        let newer = find_newer(&self.pin_all(), mine, start)?;
        Ok(newer.map(|newer| Response::Conflict { key: newer.key, ts: newer.ts }))
    }

    /// Returns true if something in flight stands in the way: the answer waits for that. It may
    /// come to nothing, and who was told of a conflict must never take place after all, whatever
    /// copies of the request are still on their way.
    fn waits_for_winner(&mut self, id: u64, mine: Footprint<'_>) -> bool {
        if mine.blind
            || cfg!(mutant = "checks_no_conflicts")
            || cfg!(mutant = "ignores_what_is_in_flight")
        {
            return false;
        }
        for flight in self.in_flight.values_mut() {
            if let Verdict::Conflict { key, .. } = evaluate(mine, &flight.writes) {
                flight.losers.push((id, key));
                return true;
            }
        }
        false
    }

    fn status(
        &mut self,
        id: u64,
        txn: TxnId,
        abort_if_absent: bool,
    ) -> storage::Result<Option<Response>> {
        if let Some(answered) = self.known_end(id, txn, Ask::Status)? {
            return Ok(answered);
        }
        if txn.start < self.state.gc_ts {
            let what = "it began before what is kept: its end is forgotten".to_string();
            return Ok(Some(Response::Refused(what)));
        }
        if !abort_if_absent {
            return Ok(Some(Response::Ended(None)));
        }
        let Some(ts) = self.issue() else {
            self.queue.push_back((id, Request::Status { txn, abort_if_absent }));
            return Ok(None);
        };
        let waiters = vec![(id, Ask::Status)];
        let body = Body::Abort { txn, ts };
        Ok(self.propose(body, Some(txn), ts, Arc::default(), waiters).err())
    }

    fn set_gc(&mut self, id: u64, gc_ts: Timestamp) -> storage::Result<Option<Response>> {
        if gc_ts > self.state.last_ts {
            let what = format!("{gc_ts} was not reached yet: somebody may still read below it");
            return Ok(Some(Response::Refused(what)));
        }
        let Some(ts) = self.issue() else {
            self.queue.push_back((id, Request::SetGc(gc_ts)));
            return Ok(None);
        };
        let body = Body::SetGc { gc_ts, ts };
        Ok(self.propose(body, None, ts, Arc::default(), vec![(id, Ask::Status)]).err())
    }

    fn issue(&mut self) -> Option<Timestamp> {
        let wall_ms = self.wall_ms;
        self.oracle.as_mut()?.issue(wall_ms)
    }

    /// Proposes a command in the term in which it was thought out.
    fn propose(
        &mut self,
        body: Body,
        txn: Option<TxnId>,
        ts: Timestamp,
        writes: Arc<WriteSet>,
        waiters: Vec<(u64, Ask)>,
    ) -> Result<LogIndex, Response> {
        let term = self.raft.term();
        let commands = vec![Command { epoch: self.state.epoch, term, body }.encode()];
        let before = self.raft_out.len();
        self.raft_step(raft::Input::Propose { commands, expected_term: term });
        // Taken out, since it is dealt with here: what is left over would be taken for news, and a
        // leader that may not propose just now would try again at once, for ever.
        let mut made = self
            .raft_out
            .extract_if(before.., |output| matches!(output, raft::Output::Dropped { .. }));
        if let Some(raft::Output::Dropped { reason, .. }) = made.next() {
            drop(made);
            return Err(self.refused(reason));
        }
        drop(made);
        let index = self.raft.last().index;
        self.in_flight.insert(index, InFlight { txn, ts, writes, waiters, losers: Vec::new() });
        Ok(index)
    }

    /// Returns how many requests wait for something.
    pub(super) fn waiting(&self) -> usize {
        let in_flight: usize = self.in_flight.values().map(InFlight::waiting).sum();
        in_flight + self.queue.len() + self.reads.len()
    }

    /// # Panics
    /// If an invariant of the header does not hold.
    pub(super) fn check_in_flight(&self) {
        let mut last = Timestamp::ZERO;
        for flight in self.in_flight.values().filter(|flight| flight.txn.is_some()) {
            assert!(flight.ts > last, "timestamps rise along the log");
            last = flight.ts;
        }
    }
}

/// Checks what a transaction writes.
fn write_set(commit: &Commit) -> Result<WriteSet, String> {
    let mut writes = WriteSet::default();
    for (key, value) in &commit.writes {
        if key::decode(key).is_none() {
            return Err("it writes a key that is no key of data".into());
        }
        let key_bytes = key.len() - key::PREFIX_BYTES;
        if key_bytes > KEY_BYTES_MAX {
            return Err(format!("a key has {key_bytes} bytes, {KEY_BYTES_MAX} are allowed"));
        }
        let value_bytes = value.as_ref().map_or(0, Bytes::len);
        if value_bytes > VALUE_BYTES_MAX {
            return Err(format!("a value has {value_bytes} bytes, {VALUE_BYTES_MAX} are allowed"));
        }
        writes.write(key.clone(), value.clone()).map_err(|error| error.to_string())?;
    }
    Ok(writes)
}
