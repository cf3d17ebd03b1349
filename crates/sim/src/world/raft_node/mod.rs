//! The smallest node worth breaking: the real Raft protocol, a log in a file, and a table of keys
//! in memory. It proves the world before the database runs in it, and shows what a node has to do.
//!
//! ```text
//!   Request::Commit ─► Propose ─► Append ─► batch ··· DiskWork ─► file ··· DiskDone ─► Persisted
//!                                                                                          │
//!   Reply ◄─ table.apply ◄─ Commit ◄───────────────────────────────────────────────────────┘
//!   Request::Read   ─► Read ─► ReadOk(index) ─► table.read, once the index is applied
//! ```
//!
//! # Not here
//! What makes a database: versions, many shards, anything larger than memory.

mod file;
mod table;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use env::{Disk, SeededRandom};
use raft::{
    Config, Input, LogIndex, Message, Options, Output, Payload, Raft, ReadMode, Recovered, Refusal,
    Role, SnapshotMeta, Stamp, Ticks, codec,
};

use super::clock::{MS, SECOND, Time};
use super::digest;
use super::node::{Applied, Host, Node, NodeId, NodeInput, NodeOutput, Promise, Ticket};
use super::request::{Reply, Request};
use file::LogFile;
use table::Table;

/// How the nodes of a world are set up.
#[derive(Debug, Clone)]
pub struct RaftNodeConfig {
    /// Of the protocol; the unit of time is the microsecond.
    pub options: Options,
    /// A new image is made after so many entries.
    pub image_entries: u64,
    /// How many entries before an image are kept for slow followers.
    pub kept_entries: u64,
    /// Bytes of an image in one message.
    pub chunk_bytes: usize,
    /// Thousandths of the reads that rest on the lease; the others ask a quorum.
    pub lease_reads: u64,
}

/// A node that is Raft, a log and a table.
pub struct RaftNode {
    id: NodeId,
    config: RaftNodeConfig,
    random: SeededRandom,
    disk: Arc<dyn Disk>,
    file: LogFile,
    raft: Raft,
    table: Table,
    /// The newest image, as it stands in the file.
    image: (SnapshotMeta, Bytes),
    /// An image that comes in.
    incoming: Vec<u8>,
    /// Work that was announced: its ticket, what is durable with it, how much of the batch it is.
    work: VecDeque<(Ticket, Stamp, usize)>,
    /// Work that was done, and the news of it is not here.
    done: VecDeque<(Ticket, Stamp)>,
    ticket: Ticket,
    /// Commits that this node proposed as a leader and that were not applied.
    commits: BTreeMap<u64, ()>,
    /// Reads, and from which index on they may be served.
    reads: BTreeMap<u64, (Vec<Bytes>, Option<LogIndex>)>,
    outputs: Vec<Output>,
}

impl Node for RaftNode {
    type Config = RaftNodeConfig;

    const READS_ALL_AT_OPEN: bool = true;

    fn draw_config(random: &mut SeededRandom) -> RaftNodeConfig {
        let is_small = random.chance(400);
        let mut small = |min: u64, usual: u64| match is_small {
            true => min + random.below(min * 4),
            false => usual,
        };
        let options = Options {
            election_timeout_ticks: SECOND,
            heartbeat_ticks: 100 * MS,
            inflight_messages_max: small(1, 256) as usize,
            inflight_bytes_max: small(2_000, 4 << 20) as usize,
            message_bytes_max: small(500, 256 << 10) as usize,
            uncommitted_bytes_max: small(20_000, 64 << 20) as usize,
            promotion_lag_max: 100,
            quiet_after_ticks: 0,
            snapshot_retry_ticks: SECOND,
            tells_commit_at_once: false,
            seed: 0,
        };
        RaftNodeConfig {
            options: Options { tells_commit_at_once: random.chance(500), ..options },
            image_entries: if random.chance(500) { 5 + random.below(60) } else { 400 },
            kept_entries: random.below(20),
            chunk_bytes: if random.chance(500) { 50 + random.below(500) as usize } else { 1 << 16 },
            lease_reads: [0, 500, 1000][random.below(3) as usize],
        }
    }

    fn open(config: &RaftNodeConfig, host: &Host, now: Time) -> Result<RaftNode, String> {
        let disk = Arc::clone(&host.disk);
        let found = match file::read(&*disk)? {
            Some(found) => found,
            None => file::Found {
                recovered: Recovered::new_group(Config::new(&host.founders, &[])),
                data: Table::default().encode(),
            },
        };
        let table = Table::decode(&found.data).map_err(|_| "the image is no table".to_owned())?;
        let image = (found.recovered.image.clone(), found.data);
        let options = Options { seed: host.seed, ..config.options.clone() };
        let raft = Raft::new(host.id, options, found.recovered, Ticks(now.0));
        let raft = raft.map_err(|error| error.to_string())?;
        let file = replace(&*disk, &image, &raft).map_err(|error| error.to_string())?;
        Ok(RaftNode {
            id: host.id,
            config: config.clone(),
            random: SeededRandom::new(host.seed),
            disk,
            file,
            raft,
            table,
            image,
            incoming: Vec::new(),
            work: VecDeque::new(),
            done: VecDeque::new(),
            ticket: 0,
            commits: BTreeMap::new(),
            reads: BTreeMap::new(),
            outputs: Vec::new(),
        })
    }

    fn step(&mut self, now: Time, input: NodeInput, out: &mut Vec<NodeOutput>) {
        let now = Ticks(now.0);
        let ticket = self.ticket;
        // Before the input, so that the judge has seen what is forgotten.
        let base = self.raft.base().index.0;
        if self.table.applied >= self.image.0.position.index.0 + self.config.image_entries {
            let upto = LogIndex(self.table.applied.saturating_sub(self.config.kept_entries));
            match self.make_image() {
                Ok(()) if upto.0 > base => self.drive(now, Input::Compact(upto), out),
                Ok(()) => {}
                Err(error) => out.push(NodeOutput::Stop(error)),
            }
        }
        let input = match input {
            NodeInput::Tick => Input::Tick,
            NodeInput::Message { bytes, .. } => match codec::decode_message(&bytes) {
                Ok(message) => Input::Message(message),
                Err(error) => return out.push(NodeOutput::Stop(error.to_string())),
            },
            NodeInput::DiskWork(ticket) => return self.write(ticket, out),
            NodeInput::DiskDone(ticket) => {
                let known = self.done.iter().take_while(|(done, _)| *done <= ticket).count();
                let Some((_, stamp)) = self.done.drain(..known).next_back() else { return };
                Input::Persisted(stamp)
            }
            NodeInput::Request { id, bytes } => match self.admit(id, bytes, out) {
                Some(input) => input,
                None => return,
            },
            NodeInput::Transfer(to) => Input::Transfer(to),
            NodeInput::Change { voters, learners } => {
                Input::Change { voters, learners, expected_term: self.raft.term() }
            }
            NodeInput::Wake => Input::Wake,
        };
        self.drive(now, input, out);
        if self.ticket > ticket {
            out.push(NodeOutput::Disk(self.ticket));
        }
    }

    fn next_deadline(&self) -> Option<Time> {
        self.raft.next_deadline().map(|ticks| Time(ticks.0))
    }

    fn raft(&self) -> &Raft {
        &self.raft
    }

    fn applied(&self) -> Applied {
        Applied { index: LogIndex(self.table.applied), digest: Some(self.table.digest()) }
    }

    fn durable_applied(&self) -> LogIndex {
        self.image.0.position.index
    }

    fn check(&self) -> Result<(), String> {
        self.raft.check_deeply();
        match self.table.is_sound() {
            true => Ok(()),
            false => Err("the digest of the table is not that of its rows".to_owned()),
        }
    }

    fn describe(bytes: &Bytes) -> String {
        let Ok(message) = codec::decode_message(bytes) else { return "no message".to_owned() };
        describe(&message)
    }
}

impl RaftNode {
    /// Returns what a request is to the protocol, if anything.
    fn admit(&mut self, id: u64, bytes: Bytes, out: &mut Vec<NodeOutput>) -> Option<Input> {
        match Request::decode(&bytes) {
            Ok(Request::Read { keys }) if cfg!(mutant = "node_reads_without_asking") => {
                out.push(NodeOutput::Reply { id, bytes: self.table.read(&keys).encode() });
                None
            }
            Ok(Request::Read { keys }) => {
                self.reads.insert(id, (keys, None));
                let is_lease = self.random.chance(self.config.lease_reads);
                let mode = if is_lease { ReadMode::Lease } else { ReadMode::Quorum };
                Some(Input::Read { id, mode })
            }
            Ok(Request::Commit { .. }) if self.raft.role() == Role::Leader => {
                // Who asked goes in front: the one who applies it here answers.
                let mut command = Vec::with_capacity(bytes.len() + 8);
                command.extend_from_slice(&id.to_le_bytes());
                command.extend_from_slice(&bytes);
                self.commits.insert(id, ());
                let expected_term = self.raft.term();
                if cfg!(mutant = "node_replies_before_commit") {
                    let reply = Reply::Committed { commit_ts: self.raft.last().index.0 + 1 };
                    out.push(NodeOutput::Reply { id, bytes: reply.encode() });
                }
                Some(Input::Propose { commands: vec![command.into()], expected_term })
            }
            Ok(Request::Commit { .. }) => {
                self.reply_not_leader(id, out);
                None
            }
            Err(_) => {
                out.push(NodeOutput::Reply { id, bytes: Reply::Busy.encode() });
                None
            }
        }
    }

    /// Gives the protocol an input, and those that its outputs lead to at once.
    fn drive(&mut self, now: Ticks, input: Input, out: &mut Vec<NodeOutput>) {
        let mut outputs = std::mem::take(&mut self.outputs);
        let mut next = Some(input);
        let mut inputs = VecDeque::new();
        while let Some(input) = next {
            self.raft.step(now, input, &mut outputs);
            for output in outputs.drain(..) {
                self.handle(output, &mut inputs, out);
            }
            next = inputs.pop_front();
        }
        self.outputs = outputs;
    }

    fn handle(&mut self, output: Output, inputs: &mut VecDeque<Input>, out: &mut Vec<NodeOutput>) {
        match output {
            Output::Append { cut_from, entries, hard_state, stamp } => {
                let before = self.file.batch_len();
                self.file.add(cut_from, &entries, hard_state);
                self.ticket += 1;
                self.work.push_back((self.ticket, stamp, self.file.batch_len() - before));
                if cfg!(mutant = "node_acks_before_sync") {
                    inputs.push_back(Input::Persisted(stamp));
                }
            }
            Output::Send(message) => {
                let promise = Promise::of(&message);
                let mut bytes = Vec::with_capacity(64);
                codec::encode_message(&message, &mut bytes);
                let bytes = bytes.into();
                out.push(NodeOutput::Send { to: message.to, bytes, promise });
            }
            Output::Commit(upto) => {
                self.apply(upto, out);
                inputs.push_back(Input::Applied(upto));
            }
            Output::ReadOk { id, index } => {
                if let Some(read) = self.reads.get_mut(&id) {
                    read.1 = Some(index);
                    self.serve_reads(out);
                }
            }
            Output::ReadFailed { id, .. } => {
                if self.reads.remove(&id).is_some() {
                    self.reply_not_leader(id, out);
                }
            }
            Output::RoleChanged { role, .. } => {
                if role != Role::Leader {
                    // They may still be committed by another leader.
                    for (id, ()) in std::mem::take(&mut self.commits) {
                        out.push(NodeOutput::Reply { id, bytes: Reply::Unknown.encode() });
                    }
                }
            }
            Output::Dropped { commands, reason } => {
                for command in commands {
                    let id = id_of(&command);
                    if self.commits.remove(&id).is_some() {
                        match reason {
                            Refusal::NotLeader { .. } => self.reply_not_leader(id, out),
                            _ => out.push(NodeOutput::Reply { id, bytes: Reply::Busy.encode() }),
                        }
                    }
                }
            }
            Output::ReadSnapshot { to, id, offset } => {
                inputs.push_back(self.read_chunk(to, id, offset));
            }
            Output::InstallSnapshot { meta, offset, data, is_last } => {
                if offset == 0 {
                    self.incoming.clear();
                }
                self.incoming.extend_from_slice(&data);
                if is_last {
                    let id = meta.id;
                    match self.install(meta) {
                        Ok(is_installed) => {
                            inputs.push_back(Input::SnapshotDone { id, is_installed });
                        }
                        Err(error) => out.push(NodeOutput::Stop(error)),
                    }
                }
            }
            Output::ConfigChanged { .. } | Output::Refused(_) => {}
        }
    }

    fn write(&mut self, ticket: Ticket, out: &mut Vec<NodeOutput>) {
        let asked = self.work.iter().take_while(|(work, ..)| *work <= ticket).count();
        let len = self.work.iter().take(asked).map(|(.., len)| len).sum();
        match self.file.write(len) {
            Ok(()) => {
                self.done
                    .extend(self.work.drain(..asked).map(|(ticket, stamp, _)| (ticket, stamp)));
            }
            // Nobody knows what is on the disk now.
            Err(error) => out.push(NodeOutput::Stop(error.to_string())),
        }
    }

    fn apply(&mut self, upto: LogIndex, out: &mut Vec<NodeOutput>) {
        while self.table.applied < upto.0 {
            let index = LogIndex(self.table.applied + 1);
            let entry = self.raft.entry(index).expect("what is committed and unapplied is there");
            self.table.applied = index.0;
            let Payload::Command(command) = &entry.payload else { continue };
            let id = id_of(command);
            let request = Request::decode(&command.slice(8..));
            let reply = request.map_or(Reply::Busy, |request| self.table.apply(&request));
            if self.commits.remove(&id).is_some() {
                out.push(NodeOutput::Reply { id, bytes: reply.encode() });
            }
        }
        self.serve_reads(out);
    }

    fn serve_reads(&mut self, out: &mut Vec<NodeOutput>) {
        let applied = LogIndex(self.table.applied);
        let table = &self.table;
        self.reads.retain(|id, (keys, index)| {
            let is_due = index.is_some_and(|index| index <= applied);
            if is_due {
                out.push(NodeOutput::Reply { id: *id, bytes: table.read(keys).encode() });
            }
            !is_due
        });
    }

    fn reply_not_leader(&self, id: u64, out: &mut Vec<NodeOutput>) {
        let leader = self.raft.leader().filter(|leader| *leader != self.id);
        out.push(NodeOutput::Reply { id, bytes: Reply::NotLeader { leader }.encode() });
    }

    /// Makes the state durable as it is, and forgets the batch: the new file has what it says.
    fn make_image(&mut self) -> Result<(), String> {
        let applied = LogIndex(self.table.applied);
        // The same node with the same entries makes the same bytes.
        let id = digest::mix(self.id.0, applied.0) >> 8;
        let Some(meta) = self.raft.snapshot_meta(applied, id) else { return Ok(()) };
        self.rewrite((meta, self.table.encode()))
    }

    fn rewrite(&mut self, image: (SnapshotMeta, Bytes)) -> Result<(), String> {
        let file = replace(&*self.disk, &image, &self.raft);
        self.file = file.map_err(|error| error.to_string())?;
        self.image = image;
        self.work.iter_mut().for_each(|(.., len)| *len = 0);
        Ok(())
    }

    fn read_chunk(&self, to: NodeId, id: Option<u64>, offset: u64) -> Input {
        let (meta, data) = &self.image;
        let is_there = id.is_none_or(|id| id == meta.id) && offset <= data.len() as u64;
        if !is_there || meta.position.index.0 == 0 {
            return Input::SnapshotFailed(to);
        }
        let end = data.len().min(offset as usize + self.config.chunk_bytes);
        let is_last = end == data.len();
        let data = data.slice(offset as usize..end);
        Input::SnapshotChunk { to, meta: meta.clone(), offset, data, is_last }
    }

    fn install(&mut self, meta: SnapshotMeta) -> Result<bool, String> {
        let data = Bytes::from(std::mem::take(&mut self.incoming));
        let Ok(table) = Table::decode(&data) else { return Ok(false) };
        if table.applied != meta.position.index.0 {
            return Ok(false);
        }
        self.rewrite((meta, data))?;
        self.table = table;
        Ok(true)
    }
}

fn replace(
    disk: &dyn Disk,
    image: &(SnapshotMeta, Bytes),
    raft: &Raft,
) -> std::io::Result<LogFile> {
    let from = raft.base().index.next().0;
    let entries = (from..=raft.last().index.0).filter_map(|index| raft.entry(LogIndex(index)));
    // A log that does not reach the image would leave a gap behind it.
    LogFile::replace(disk, (&image.0, &image.1), raft.hard_state(), entries)
}

fn id_of(command: &[u8]) -> u64 {
    let id = command.get(..8).and_then(|id| id.try_into().ok());
    id.map_or(0, u64::from_le_bytes)
}

fn describe(message: &Message) -> String {
    use raft::Body;
    let (name, term) = (message.body.name(), message.term);
    match &message.body {
        Body::Append { previous, commit, entries } => {
            let first = previous.index.next();
            let count = entries.len();
            format!("{name} t{term} {first}+{count} after t{} commit {commit}", previous.term)
        }
        Body::AppendReply { matched } => format!("{name} t{term} upto {matched}"),
        Body::AppendReject { previous, .. } => format!("{name} t{term} not {previous}"),
        Body::PreVote { last } | Body::Vote { last, .. } => {
            format!("{name} t{term} log t{} {}", last.term, last.index)
        }
        Body::PreVoteReply { is_granted, .. } | Body::VoteReply { is_granted } => {
            format!("{name} t{term} {}", if *is_granted { "yes" } else { "no" })
        }
        Body::Heartbeat { commit, round, .. } => format!("{name} t{term} {round} commit {commit}"),
        Body::HeartbeatReply { round, .. } => format!("{name} t{term} {round}"),
        Body::Snapshot { meta, offset, is_last, .. } => {
            let end = if *is_last { ", the end" } else { "" };
            format!("{name} t{term} at {} from byte {offset}{end}", meta.position.index)
        }
        Body::SnapshotReply { offset, .. } => format!("{name} t{term} wants byte {offset}"),
        Body::TimeoutNow | Body::Stale => format!("{name} t{term}"),
    }
}
