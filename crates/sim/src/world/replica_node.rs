//! The node that a server runs: [`cluster::Replica`], with the real log, engine and conflict check
//! on the simulated disk. Here is only what lies between it and the world.
//!
//! ```text
//!   Request::Read   ─► Begin ─► Begun(ts) ─► Get, Get … at ts ─► Values
//!   Request::Commit ─► Commit, its read timestamp and the id of the request being its name
//! ```
//!
//! # Not here
//! `SetGc`, scans, the status of a transaction: what clients of the world do not ask for.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::Path;

use base::{KeyspaceId, Timestamp};
use bytes::Bytes;
use cluster::{Commit, Input, Isolation, Output, Record, Replica, ReplicaOptions, Response, TxnId};
use env::{Clock, ManualClock, SeededRandom};
use raft::{LogIndex, Raft, ReadMode, ReplicaId, Ticks};

use super::clock::{MS, SECOND, Time};
use super::node::{Applied, Host, Node, NodeInput, NodeOutput, Promise};
use super::request::{Reply, Request};

/// The state is hashed whenever a multiple of this was applied: to read all of it takes a while.
const HASHED_ENTRIES: u64 = 16;

/// How the nodes of a world are set up.
#[derive(Debug, Clone)]
pub struct ReplicaNodeConfig {
    /// What a small replica has, the unit of time being the microsecond; ids and seed are each
    /// node's own.
    pub options: ReplicaOptions,
}

/// What a client asked and is not answered.
enum Call {
    /// A moment to read at.
    Begin {
        keys: Vec<Bytes>,
    },
    /// The values of the first keys are there.
    Get {
        keys: Vec<Bytes>,
        read_ts: Timestamp,
        values: Vec<Option<Bytes>>,
    },
    Commit,
    /// Nobody waits for the answer.
    Order,
}

/// A node that is a replica of the database.
pub struct ReplicaNode {
    replica: Replica,
    wall: ManualClock,
    /// What clients asked, by the number of the request within the replica, with that of the world.
    calls: BTreeMap<u64, (u64, Call)>,
    next_call: u64,
    outputs: Vec<Output>,
    has_stopped: bool,
    /// The last hash, and after which entry it was taken.
    hashed: Cell<(LogIndex, Option<u64>)>,
}

impl Node for ReplicaNode {
    type Config = ReplicaNodeConfig;

    const READS_ALL_AT_OPEN: bool = false;

    fn draw_config(random: &mut SeededRandom) -> ReplicaNodeConfig {
        let mut options = ReplicaOptions::small(ReplicaId(1), &[], 0);
        options.raft.election_timeout_ticks = SECOND;
        options.raft.heartbeat_ticks = 100 * MS;
        options.raft.snapshot_retry_ticks = SECOND;
        options.raft.promotion_lag_max = 100;
        options.read_mode = if random.chance(600) { ReadMode::Lease } else { ReadMode::Quorum };
        options.log_entries_kept = 1 + random.below(60);
        options.chunk_bytes = 200 + random.below(4000) as usize;
        options.memory.memtable_bytes = 4000 + random.below(12_000) as usize;
        options.log_bytes_max = 4000 + random.below(28_000);
        // Between steps, so that the judge has seen what is forgotten.
        options.has_inline_background = false;
        ReplicaNodeConfig { options }
    }

    fn open(config: &ReplicaNodeConfig, host: &Host, now: Time) -> Result<ReplicaNode, String> {
        let mut options = config.options.clone();
        options.id = host.id;
        options.members = host.founders.iter().copied().map(ReplicaId).collect();
        options.seed = host.seed;
        options.raft.seed = host.seed;
        let replica = Replica::open(host.disk.clone(), Path::new("replica"), options, Ticks(now.0))
            .map_err(|error| error.to_string())?;
        Ok(ReplicaNode {
            replica,
            wall: host.wall.clone(),
            calls: BTreeMap::new(),
            next_call: 1,
            outputs: Vec::new(),
            has_stopped: false,
            hashed: Cell::new((LogIndex(0), None)),
        })
    }

    fn step(&mut self, now: Time, input: NodeInput, out: &mut Vec<NodeOutput>) {
        let ticks = Ticks(now.0);
        self.replica.set_wall_clock(self.wall.wall_ms());
        if self.replica.wants_background() {
            let mut outputs = std::mem::take(&mut self.outputs);
            self.replica.background(ticks, &mut outputs);
            self.outputs = outputs;
            self.settle(ticks, out);
        }
        let input = match input {
            NodeInput::Tick => Some(Input::Timer),
            NodeInput::Message { from, bytes } => Some(Input::Message { from, bytes }),
            NodeInput::DiskWork(ticket) => {
                if let Some(work) = self.replica.log_work(ticket)
                    && let Err(error) = work.run()
                {
                    self.stop(error.to_string(), out);
                }
                None
            }
            NodeInput::DiskDone(ticket) => Some(Input::DiskDone { ticket, result: Ok(()) }),
            NodeInput::Request { id, bytes } => Some(self.admit(id, &bytes)),
            NodeInput::Transfer(to) => Some(self.order(cluster::Request::Transfer(to))),
            NodeInput::Change { voters, learners } => {
                Some(self.order(cluster::Request::Change { voters, learners }))
            }
            // Groups are never quiet.
            NodeInput::Wake => None,
        };
        if let Some(input) = input {
            self.drive(ticks, input);
        }
        self.settle(ticks, out);
        if let Some(failure) = self.replica.failure() {
            let failure = failure.to_string();
            self.stop(failure, out);
        }
    }

    fn next_deadline(&self) -> Option<Time> {
        self.replica.next_deadline().map(|ticks| Time(ticks.0))
    }

    fn raft(&self) -> &Raft {
        self.replica.raft()
    }

    fn applied(&self) -> Applied {
        let index = self.replica.applied().index;
        let is_due = index.0.is_multiple_of(HASHED_ENTRIES) && index.0 > 0;
        if is_due && self.hashed.get().0 != index {
            // A disk that has stopped cannot be read.
            self.hashed.set((index, self.replica.state_hash().unwrap_or_default()));
        }
        let digest = if is_due { self.hashed.get().1 } else { None };
        Applied { index, digest }
    }

    fn durable_applied(&self) -> LogIndex {
        self.replica.flushed_index()
    }

    fn check(&self) -> Result<(), String> {
        self.replica.check_invariants();
        Ok(())
    }

    fn describe(bytes: &Bytes) -> String {
        super::raft_node::RaftNode::describe(bytes)
    }
}

impl ReplicaNode {
    fn drive(&mut self, now: Ticks, input: Input) {
        let mut outputs = std::mem::take(&mut self.outputs);
        self.replica.step(now, input, &mut outputs);
        self.outputs = outputs;
    }

    /// Carries out what the replica wants, and asks it what the answers lead to.
    fn settle(&mut self, now: Ticks, out: &mut Vec<NodeOutput>) {
        while !self.outputs.is_empty() {
            for output in std::mem::take(&mut self.outputs) {
                match output {
                    Output::Send { to, bytes } => {
                        let message = raft::codec::decode_message(&bytes);
                        let promise = message.as_ref().map_or(Promise::Nothing, Promise::of);
                        out.push(NodeOutput::Send { to, bytes, promise });
                    }
                    Output::Disk { ticket } => out.push(NodeOutput::Disk(ticket)),
                    Output::Trace(_) => {}
                    Output::Reply { id, response } => {
                        if let Some((of, call)) = self.calls.remove(&id) {
                            self.answered(now, of, call, response, out);
                        }
                    }
                }
            }
        }
    }

    fn stop(&mut self, reason: String, out: &mut Vec<NodeOutput>) {
        if !self.has_stopped {
            self.has_stopped = true;
            out.push(NodeOutput::Stop(reason));
        }
    }

    fn call(&mut self, of: u64, call: Call, request: cluster::Request) -> Input {
        let id = self.next_call;
        self.next_call += 1;
        self.calls.insert(id, (of, call));
        Input::Request { id, request }
    }

    fn order(&mut self, request: cluster::Request) -> Input {
        self.call(0, Call::Order, request)
    }

    fn admit(&mut self, id: u64, bytes: &Bytes) -> Input {
        match Request::decode(bytes) {
            Ok(Request::Read { keys }) => {
                self.call(id, Call::Begin { keys }, cluster::Request::Begin)
            }
            Ok(Request::Commit { read_ts, reads, writes }) => {
                let start = Timestamp::from_raw(read_ts);
                let commit = Commit {
                    txn: TxnId { start, home: 0, nonce: id },
                    isolation: Isolation::Serializable,
                    is_blind: reads.is_empty(),
                    points: reads.iter().map(|key| engine_key(key)).collect(),
                    ranges: Vec::new(),
                    writes: writes
                        .into_iter()
                        .map(|(key, value)| (engine_key(&key), value))
                        .collect(),
                };
                self.call(id, Call::Commit, cluster::Request::Commit(commit))
            }
            // A client that makes no sense is not answered.
            Err(_) => Input::Timer,
        }
    }

    fn answered(
        &mut self,
        now: Ticks,
        of: u64,
        call: Call,
        response: Response,
        out: &mut Vec<NodeOutput>,
    ) {
        let reply = match (call, response) {
            (Call::Order, _) => return,
            (Call::Begin { keys }, Response::Begun { read_ts }) => {
                return self.get(now, of, keys, read_ts, Vec::new(), out);
            }
            (Call::Get { keys, read_ts, mut values }, Response::Value(value)) => {
                values.push(value.map(|(_, bytes)| bytes));
                return self.get(now, of, keys, read_ts, values, out);
            }
            (
                Call::Commit,
                Response::Committed { ts } | Response::Ended(Some(Record::Committed(ts))),
            ) => Reply::Committed { commit_ts: ts.raw() },
            (Call::Commit, Response::Conflict { .. } | Response::Ended(Some(Record::Aborted))) => {
                Reply::Conflict
            }
            (_, Response::NotLeader { hint }) => Reply::NotLeader { leader: hint },
            (_, Response::Busy { .. }) => Reply::Busy,
            (Call::Begin { .. } | Call::Get { .. }, _) => Reply::Busy,
            (Call::Commit, _) => Reply::Unknown,
        };
        out.push(NodeOutput::Reply { id: of, bytes: reply.encode() });
    }

    /// Asks for the next value, or answers if all are there.
    fn get(
        &mut self,
        now: Ticks,
        of: u64,
        keys: Vec<Bytes>,
        read_ts: Timestamp,
        values: Vec<Option<Bytes>>,
        out: &mut Vec<NodeOutput>,
    ) {
        let Some(key) = keys.get(values.len()).map(|key| engine_key(key)) else {
            let reply = Reply::Values { read_ts: read_ts.raw(), values };
            return out.push(NodeOutput::Reply { id: of, bytes: reply.encode() });
        };
        let call = Call::Get { keys, read_ts, values };
        let input = self.call(of, call, cluster::Request::Get { read_ts, key });
        self.drive(now, input);
    }
}

fn engine_key(key: &[u8]) -> Bytes {
    Bytes::from(KeyspaceId(1).encode(key))
}
