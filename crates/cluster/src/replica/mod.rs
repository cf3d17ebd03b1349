//! A replica: the protocol, the log, the engine and the rules of transactions, joined.
//!
//! ```text
//!            Timer  Message  DiskDone  Request
//!               │      │        │         │
//!   ┌───────────▼──────▼────────▼─────────▼──────────────────────────────────────────────┐
//!   │ step      raft::Raft ── Append ──► log: records in the buffer ──► Disk{ticket}     │
//!   │              │    │                                                                │
//!   │              │    └─ Commit ─────► apply ──► memtable ──► waiters answered         │
//!   │              └────── Send ───────────────────────────────────────────────────────► │
//!   └──────────────────────┬──────────────────────┬───────────────────────┬──────────────┘
//!                        Send                   Disk                    Reply
//! ```
//!
//! # The life of a replicated commit
//! ```text
//!   client            leader                                        followers
//!     │ Commit ──────► duplicates: in flight? recorded?             │
//!     │                conflict check: in flight, and in the engine │
//!     │                ts := oracle, below the applied ceiling      │
//!     │                proposed in the term in which it was checked │
//!     │                ├─ Append ─► log ─► Disk ── synced ─┐        │
//!     │                ├─ Send ────────────────────────────┼───────►│ log ─► Disk ── synced
//!     │                │                                   │        │
//!     │                │◄────────── a quorum is durable ───┴────────┤ AppendReply
//!     │                apply: guards, versions, record              │
//!     │ ◄── Committed ─┤                                            │
//!     │                └─ Send: the commit index ──────────────────►│ apply: the same
//! ```
//!
//! # What is on the disk
//! ```text
//!   log       hard states, entries, truncations, positions of images         [`crate::log`]
//!   tables    the effects of a prefix of the log, and the state that says
//!             which prefix that is, in one memtable, so in one flush         [`crate::state`]
//! ```
//! Recovery takes the state from the tables and the rest from the log. What is merely in the log is
//! not applied: it is handed to the protocol, which finds out what of it is committed.
//!
//! # Invariants
//! * Commits are in the log in the order of their timestamps. So who has applied a commit has
//!   applied every one with a smaller timestamp, and what is read at or below the last applied
//!   timestamp never changes: reads take no locks, and meet nothing that is in flight.
//! * I-S1: the applied index is durable if and only if the effects are: the state is put into the
//!   memtable just before it is sealed.
//! * I-S2: replicas that have applied the same index have the same state. Applying looks at nothing
//!   but the state and the command.
//! * I-S3: a (key, timestamp) is written once: a command whose timestamp is not above the last one
//!   changes nothing.
//! * A transaction ends once: its record is written with its effects, and whoever comes later, by
//!   whatever way, is answered with the record.
//! * A leader serves once an entry of its own term is applied, and issues timestamps only below a
//!   ceiling that is applied.
//! * No position of the log is given up that holds an entry that is not in tables, or the last
//!   hard state: that is written again before.
//!
//! # What can fail
//! A failed write or sync of the log ends this life of the replica ([`Replica::failure`]): nobody
//! knows what is on the disk, and opening it again finds out. So does an entry that cannot be
//! understood, and damage under what has to be read to apply one. A flush or compaction that fails
//! is tried again; if memory runs out meanwhile, commits are told to come later.
//!
//! # Not here
//! Threads, clocks, sockets. Locks for `get_for_update`, watches, several shards.

mod apply;
mod background;
mod commits;
mod inspect;
mod open;
mod reads;
mod snapshots;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use raft::{LogIndex, Raft, Refusal, ReplicaId, Role, Stamp, Term, Ticks};
use storage::wal::{Lsn, RecordKind};
use storage::{Engine, LogWrite};

use crate::log::{encode_entry, encode_vote};
use crate::options::ReplicaOptions;
use crate::oracle::Oracle;
use crate::request::{Request, Response};
use crate::state::State;
use commits::InFlight;
use reads::Reads;
use snapshots::{Incoming, Outgoing, Spoiled};

/// What happens to a replica.
#[derive(Debug, Clone)]
pub enum Input {
    /// Time has passed.
    Timer,
    /// Another replica says something.
    Message {
        /// Who sent it, as the network knows.
        from: ReplicaId,
        /// What came; anything may.
        bytes: Bytes,
    },
    /// The work of a ticket was done, or could not be.
    DiskDone {
        /// Which.
        ticket: u64,
        /// What became of it. If nobody did the work, the replica does it now.
        result: Result<(), String>,
    },
    /// Somebody asks for something.
    Request {
        /// Comes back with the answer.
        id: u64,
        /// What.
        request: Request,
    },
}

/// What a replica wants done.
#[derive(Debug, Clone)]
pub enum Output {
    /// Send this. It may get lost.
    Send {
        /// To whom.
        to: ReplicaId,
        /// What.
        bytes: Bytes,
    },
    /// Make the log durable: [`Replica::log_work`] has the work. Then say [`Input::DiskDone`].
    Disk {
        /// Which write. Later ones include earlier ones.
        ticket: u64,
    },
    /// An answer.
    Reply {
        /// To which request.
        id: u64,
        /// What.
        response: Response,
    },
    /// Something that people may want to know.
    Trace(String),
}

/// A write that was handed over and is not known to be durable.
struct PendingWrite {
    ticket: u64,
    stamp: Stamp,
    work: LogWrite,
}

/// A replica of one group.
pub struct Replica {
    options: ReplicaOptions,
    engine: Arc<Engine>,
    raft: Raft,
    now: Ticks,
    wall_ms: u64,
    state: State,
    /// The effects of entries up to here are in tables, and those that wait to be.
    flushed: LogIndex,
    sealed: VecDeque<LogIndex>,
    /// Where the records of entries begin that are not applied.
    positions: VecDeque<(LogIndex, Lsn)>,
    /// The hard state that was appended last.
    hard_state: raft::HardState,
    writes: VecDeque<PendingWrite>,
    next_ticket: u64,
    /// What the protocol wants done and has not been.
    raft_out: Vec<raft::Output>,
    /// The term in which this replica leads.
    leads_in: Option<Term>,
    oracle: Option<Oracle>,
    /// What this leader proposed and is not applied, by index.
    in_flight: BTreeMap<LogIndex, InFlight>,
    /// What waits for this leader to be ready.
    queue: VecDeque<(u64, Request)>,
    reads: Reads,
    outgoing: Option<Outgoing>,
    incoming: Option<Incoming>,
    spoiled: Option<Spoiled>,
    failure: Option<String>,
}

impl Replica {
    /// Takes one input in and appends what is to be done.
    pub fn step(&mut self, now: Ticks, input: Input, out: &mut Vec<Output>) {
        self.now = self.now.max(now);
        if self.failure.is_some() {
            if let Input::Request { id, .. } = input {
                let response = Response::Unknown { hint: None };
                out.push(Output::Reply { id, response });
            }
            return;
        }
        match input {
            Input::Timer => {
                self.raft_step(raft::Input::Tick);
                self.expire_reads(out);
                self.give_image_up();
            }
            Input::Message { from, bytes } => self.receive(from, &bytes, out),
            Input::DiskDone { ticket, result } => self.disk_done(ticket, result),
            Input::Request { id, request } => self.request(id, request, out),
        }
        self.settle(out);
        if self.options.has_inline_background && self.wants_background() {
            self.background(now, out);
        }
        #[cfg(debug_assertions)]
        self.check_invariants();
    }

    /// Tells what the wall clock shows. Nothing is ordered by it: it is what makes timestamps
    /// something that people can read.
    pub fn set_wall_clock(&mut self, wall_ms: u64) {
        self.wall_ms = wall_ms;
    }

    /// Returns when [`Input::Timer`] is due next, if anything is waited for.
    pub fn next_deadline(&self) -> Option<Ticks> {
        if self.failure.is_some() {
            return None;
        }
        let image = self.spoiled.map(|spoiled| spoiled.until);
        let deadlines = [self.raft.next_deadline(), self.reads.next_deadline(), image];
        deadlines.into_iter().flatten().min()
    }

    /// Returns the work of a ticket, for any thread to do. None if it is known to be done.
    pub fn log_work(&self, ticket: u64) -> Option<LogWrite> {
        let found = self.writes.iter().find(|write| write.ticket == ticket);
        found.map(|write| write.work.clone())
    }

    fn receive(&mut self, from: ReplicaId, bytes: &Bytes, out: &mut Vec<Output>) {
        match raft::codec::decode_message(bytes) {
            Ok(message) if message.from == from => self.raft_step(raft::Input::Message(message)),
            Ok(message) => {
                let claims = message.from;
                out.push(Output::Trace(format!("replica {from} says that it is {claims}")));
            }
            // A frame that was damaged on its way, or a newer program's: it is as good as lost.
            Err(error) => out.push(Output::Trace(format!("from replica {from}: {error}"))),
        }
    }

    fn disk_done(&mut self, ticket: u64, result: Result<(), String>) {
        if let Err(what) = result {
            return self.fail(format!("the log could not be written: {what}"));
        }
        let Some(at) = self.writes.iter().position(|write| write.ticket == ticket) else {
            return;
        };
        // A write that was done long ago returns at once.
        let write = self.writes.drain(..=at).next_back().expect("it was found there");
        if !cfg!(mutant = "acknowledges_before_sync")
            && let Err(error) = write.work.run()
        {
            return self.fail(error.to_string());
        }
        self.raft_step(raft::Input::Persisted(write.stamp));
    }

    fn request(&mut self, id: u64, request: Request, out: &mut Vec<Output>) {
        match request {
            Request::Begin => self.begin(id, out),
            Request::Get { read_ts, .. } | Request::Scan { read_ts, .. } => {
                self.read_at(id, read_ts, request, out);
            }
            Request::Transfer(to) => {
                self.raft_step(raft::Input::Transfer(to));
                self.answer_asked(id, out);
            }
            Request::Change { voters, learners } => {
                let expected_term = self.raft.term();
                self.raft_step(raft::Input::Change { voters, learners, expected_term });
                self.answer_asked(id, out);
            }
            request => self.for_leader(id, request, out),
        }
    }

    /// Answers a request that the protocol has just taken, or refused.
    fn answer_asked(&mut self, id: u64, out: &mut Vec<Output>) {
        let refused = self.raft_out.iter().rposition(|o| matches!(o, raft::Output::Refused(_)));
        let response = match refused.map(|at| self.raft_out.remove(at)) {
            Some(raft::Output::Refused(reason)) => self.refused(reason),
            _ => Response::Done,
        };
        out.push(Output::Reply { id, response });
    }

    fn refused(&self, reason: Refusal) -> Response {
        match reason {
            Refusal::NotLeader { leader } => Response::NotLeader { hint: leader },
            Refusal::OtherTerm(_) => Response::NotLeader { hint: None },
            Refusal::Transferring | Refusal::Overloaded | Refusal::ChangeUnfinished => self.busy(),
            other => Response::Refused(other.to_string()),
        }
    }

    fn busy(&self) -> Response {
        Response::Busy { retry_after_ticks: self.options.raft.heartbeat_ticks.max(1) }
    }

    fn not_leader(&self) -> Response {
        let me = self.options.id;
        Response::NotLeader { hint: self.raft.leader().filter(|leader| *leader != me) }
    }

    fn raft_step(&mut self, input: raft::Input) {
        self.raft.step(self.now, input, &mut self.raft_out);
    }

    /// Does what the protocol wants done, until it wants nothing more.
    fn settle(&mut self, out: &mut Vec<Output>) {
        while self.failure.is_none() {
            let mut outputs = std::mem::take(&mut self.raft_out);
            if outputs.is_empty() {
                self.lead(out);
                if self.raft_out.is_empty() {
                    return;
                }
                continue;
            }
            // Writes first: whatever else is made durable on the way must not be ahead of them.
            for output in outputs.extract_if(.., |o| matches!(o, raft::Output::Append { .. })) {
                self.append(output, out);
            }
            for output in outputs {
                self.carry_out(output, out);
            }
        }
    }

    fn carry_out(&mut self, output: raft::Output, out: &mut Vec<Output>) {
        match output {
            raft::Output::Append { .. } => {}
            raft::Output::Send(message) => {
                let mut bytes = Vec::new();
                raft::codec::encode_message(&message, &mut bytes);
                out.push(Output::Send { to: message.to, bytes: Bytes::from(bytes) });
            }
            raft::Output::Commit(index) => self.apply_to(index, out),
            raft::Output::ReadOk { id, index } => self.read_ok(id, index, out),
            raft::Output::ReadFailed { id, reason } => {
                if let Some(request) = self.reads.take(id) {
                    let response = self.refused(reason);
                    out.push(Output::Reply { id: request, response });
                }
            }
            raft::Output::RoleChanged { role, term, leader } => {
                let leader = leader.map_or("nobody".into(), |leader| format!("replica {leader}"));
                out.push(Output::Trace(format!("{role:?} in term {term}, {leader} leads")));
                self.role_changed(role, term, out);
            }
            // The state has the one that is applied; the protocol knows the others.
            raft::Output::ConfigChanged { .. } => {}
            // Taken where they were asked for; a transfer may time out later.
            raft::Output::Dropped { .. } => {}
            raft::Output::Refused(reason) => out.push(Output::Trace(reason.to_string())),
            raft::Output::ReadSnapshot { to, id, offset } => self.send_image(to, id, offset, out),
            raft::Output::InstallSnapshot { meta, offset, data, is_last } => {
                self.take_chunk(meta, offset, &data, is_last, out);
            }
        }
    }

    /// Hands a write of the protocol to the log.
    fn append(&mut self, output: raft::Output, out: &mut Vec<Output>) {
        let raft::Output::Append { cut_from, entries, hard_state, stamp } = output else { return };
        if let Err(error) = self.append_records(cut_from, &entries, hard_state) {
            return self.fail(error.to_string());
        }
        let (ticket, work) = (self.next_ticket, self.engine.log_write());
        self.next_ticket += 1;
        self.writes.push_back(PendingWrite { ticket, stamp, work });
        out.push(Output::Disk { ticket });
    }

    fn append_records(
        &mut self,
        cut_from: Option<LogIndex>,
        entries: &[raft::Entry],
        hard_state: Option<raft::HardState>,
    ) -> storage::Result<()> {
        let group = self.options.group;
        if let Some(from) = cut_from {
            while self.positions.back().is_some_and(|(index, _)| *index >= from) {
                self.positions.pop_back();
            }
            // Behind a new image nothing of the log is left.
            let first = entries.first().map_or(self.raft.last().index.next(), |first| first.index);
            let base = self.raft.base();
            if from < first && base.index.0 > 0 {
                let (term, index) = (base.term.0, base.index.0);
                self.engine.append_record(RecordKind::Snapshot, group, term, index, &[])?;
            } else if !cfg!(mutant = "truncates_silently") {
                let term = self.raft.term().0;
                self.engine.append_record(RecordKind::Truncate, group, term, from.0, &[])?;
            }
        }
        if let Some(hard_state) = hard_state {
            self.hard_state = hard_state;
            if !cfg!(mutant = "keeps_votes_in_memory") {
                self.append_hard_state()?;
            }
        }
        for entry in entries {
            let payload = encode_entry(&entry.payload);
            let (term, index) = (entry.term.0, entry.index.0);
            let engine = &self.engine;
            let begin = engine.append_record(RecordKind::Entry, group, term, index, &payload)?;
            self.positions.push_back((entry.index, begin));
        }
        Ok(())
    }

    /// Appends the hard state that was appended last, with how far things are applied.
    fn append_hard_state(&mut self) -> storage::Result<()> {
        let (group, vote) = (self.options.group, encode_vote(&self.hard_state));
        // Not the commit index: the entries up to there may be handed over with this very write.
        let (term, index) = (self.hard_state.term.0, self.state.applied.index.0);
        self.engine.append_record(RecordKind::HardState, group, term, index, &vote)?;
        Ok(())
    }

    /// Returns from where on the log holds what is not applied.
    fn needed(&self) -> Lsn {
        self.positions.front().map_or(self.engine.log_next(), |(_, begin)| *begin)
    }

    fn role_changed(&mut self, role: Role, term: Term, out: &mut Vec<Output>) {
        let leads_in = (role == Role::Leader).then_some(term);
        if self.leads_in == leads_in {
            return;
        }
        self.leads_in = leads_in;
        self.oracle = None;
        self.outgoing = None;
        // What is under way may take place or not: the next leader will know.
        let hint = self.raft.leader().filter(|leader| *leader != self.options.id);
        for (_, flight) in std::mem::take(&mut self.in_flight) {
            for (id, _) in flight.waiters {
                out.push(Output::Reply { id, response: Response::Unknown { hint } });
            }
            for (id, _) in flight.losers {
                out.push(Output::Reply { id, response: Response::NotLeader { hint } });
            }
        }
        for (id, _) in std::mem::take(&mut self.queue) {
            out.push(Output::Reply { id, response: Response::NotLeader { hint } });
        }
    }

    /// Ends this life of the replica.
    fn fail(&mut self, what: String) {
        self.failure.get_or_insert(what);
    }

    /// Returns what ended this life of the replica, if anything did: it does nothing any more, and
    /// has to be opened again.
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }
}
