//! A world of replicas on one thread, from one seed: a network that delays, loses, doubles and
//! reorders, disks that are slow and forget what was not synced, clocks that run at different
//! rates, crashes, pauses, partitions, and clients that do everything a driver may do.
//!
//! ```text
//!   seed ──► a subset of faults, each with an intensity (swarm testing)
//!        ──► events in the order of their time ──► Raft::step ──► outputs ──► events
//!                                                      │
//!                                                    judge
//! ```
//!
//! After a while the faults stop: then there has to be a leader soon, and everything that is asked
//! is answered.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use raft::{
    Body, Config, HardState, Input, LogIndex, Message, Options, Output, Position, Raft, ReadMode,
    ReplicaId, Role, SnapshotMeta, Stamp, Ticks,
};

use crate::chance::Chance;
use crate::disk::{Disk, Write};
use crate::judge::Judge;

/// The election timeout of all replicas, by their own clocks.
const ELECTION_TICKS: u64 = 100;

/// Replicas there may ever be, with those that were removed.
const REPLICAS_MAX: usize = 12;

/// What may go wrong in this world, drawn from its seed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Faults {
    drop: u64,
    double: u64,
    delay: u64,
    straggle: u64,
    disk_delay: u64,
    ack_delay: u64,
    skew: u64,
    crash: u64,
    pause: u64,
    partition: u64,
    image: u64,
    compact: u64,
    change: u64,
    transfer: u64,
    campaign: u64,
    bad_image: u64,
}

impl Faults {
    fn draw(chance: &mut Chance) -> Faults {
        // Each is there or not; one that is there is weak or strong.
        let mut maybe = |max: u64| if chance.permille(500) { 1 + chance.below(max) } else { 0 };
        Faults {
            drop: maybe(200),
            double: maybe(200),
            delay: maybe(40),
            straggle: maybe(60),
            disk_delay: maybe(60),
            ack_delay: maybe(40),
            skew: maybe(40),
            crash: maybe(60),
            pause: maybe(40),
            partition: maybe(60),
            image: maybe(150),
            compact: maybe(900),
            change: maybe(80),
            transfer: maybe(60),
            campaign: maybe(30),
            bad_image: maybe(300),
        }
    }
}

#[derive(Debug)]
enum What {
    Deliver(Message),
    Tick,
    Disk,
    Ack(Stamp),
    ReadImage { to: ReplicaId, id: Option<u64>, offset: u64 },
    Installed { meta: SnapshotMeta, digest: u64 },
    InstallDone { id: u64, is_installed: bool },
    Start,
    Client,
    Fault,
    Watch,
}

#[derive(Debug)]
struct Event {
    at: u64,
    order: u64,
    node: usize,
    /// Which life of the node it is for; zero is any.
    life: u32,
    what: What,
}

impl PartialEq for Event {
    fn eq(&self, other: &Event) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}
impl Eq for Event {}
impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Event) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Event {
    fn cmp(&self, other: &Event) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

struct Node {
    id: ReplicaId,
    life: u32,
    raft: Option<Raft>,
    disk: Disk,
    disk_free_at: u64,
    paused_until: u64,
    /// Its clock: thousandths of real time, and where it began.
    rate: u64,
    base: u64,
    applied: LogIndex,
    digest: u64,
    partial: (u64, Vec<u8>),
    images: HashMap<u64, (SnapshotMeta, Vec<u8>)>,
    tick_at: u64,
    /// Since when nobody hears of it and it of nobody.
    alone_since: Option<u64>,
}

/// What a run came to.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Totals {
    pub(crate) steps: u64,
    pub(crate) ticks: u64,
    pub(crate) committed: u64,
    pub(crate) reads: u64,
    pub(crate) elections: u64,
    pub(crate) images: u64,
    pub(crate) changes: u64,
    pub(crate) quiet: u64,
}

pub(crate) struct World {
    chance: Chance,
    faults: Faults,
    now: u64,
    order: u64,
    queue: BinaryHeap<Reverse<Event>>,
    nodes: Vec<Node>,
    first_config: Config,
    options: Options,
    judge: Judge,
    /// Who cannot send to whom: `cut[from]` has a bit for each receiver.
    cut: [u32; REPLICAS_MAX],
    /// What was committed when a read began.
    reads: HashMap<u64, LogIndex>,
    names: u64,
    outputs: Vec<Output>,
    is_calm: bool,
    pub(crate) trace: bool,
    pub(crate) totals: Totals,
}

impl World {
    pub(crate) fn new(seed: u64) -> World {
        let mut chance = Chance::new(seed);
        let faults = Faults::draw(&mut chance);
        let voters: Vec<u64> = (1..=chance.between(1, 6).max(chance.between(1, 6))).collect();
        let is_small = chance.permille(500);
        let options = Options {
            election_timeout_ticks: ELECTION_TICKS,
            heartbeat_ticks: 20,
            inflight_messages_max: if is_small { 1 + chance.below(4) as usize } else { 64 },
            inflight_bytes_max: if is_small { 200 } else { 1 << 20 },
            // Now and then each entry travels alone: without its own first entry a leader's older
            // ones can reach a majority (Raft figure 8).
            message_bytes_max: match is_small {
                true if seed % 4 == 1 => 1,
                true => 100,
                false => 1 << 16,
            },
            uncommitted_bytes_max: if is_small { 2000 } else { 1 << 20 },
            promotion_lag_max: 20,
            quiet_after_ticks: if chance.permille(500) { 60 } else { 0 },
            snapshot_retry_ticks: 60,
            tells_commit_at_once: chance.permille(500),
            seed,
        };
        let mut world = World {
            chance,
            faults,
            now: 0,
            order: 0,
            queue: BinaryHeap::new(),
            nodes: Vec::new(),
            first_config: Config::new(&voters, &[]),
            options,
            judge: Judge::default(),
            cut: [0; REPLICAS_MAX],
            reads: HashMap::new(),
            names: 0,
            outputs: Vec::new(),
            is_calm: false,
            trace: false,
            totals: Totals::default(),
        };
        for _ in voters {
            world.add_node();
        }
        for (what, after) in [(What::Client, 5), (What::Fault, 40), (What::Watch, 150)] {
            world.push(after, 0, 0, what);
        }
        world
    }

    /// Lets things go wrong until a time, then lets them go right, and asks for life.
    pub(crate) fn run(&mut self, until: u64) {
        self.run_to(until);
        self.calm();
        // A dozen timeouts: elections may be tied a few times, an image may have to be sent.
        self.run_to(until + 15 * ELECTION_TICKS);
        let before = self.judge.committed();
        let had: Vec<u64> = self.nodes.iter().map(|node| node.applied.0).collect();
        self.run_to(until + 25 * ELECTION_TICKS);
        assert!(self.judge.committed() > before, "life: nothing is committed after the faults");
        assert!(self.reads.len() < 20, "life: {} reads are not answered", self.reads.len());
        let config = self.leader_config().expect("life: there is a leader");
        let committed = self.judge.committed().0;
        for id in config.members() {
            let node = &self.nodes[id.0 as usize - 1];
            let has = node.applied.0;
            // With a window of one small message it takes its time.
            let moves = had.get(id.0 as usize - 1).is_some_and(|had| has > had + 20);
            assert!(has + 60 > committed || moves, "life: {id} applied {has} of {committed}");
        }
        for node in &self.nodes {
            node.raft.as_ref().expect("all live").check_deeply();
        }
        self.totals.committed = committed;
        self.totals.ticks = self.now;
    }

    fn run_to(&mut self, until: u64) {
        while self.queue.peek().is_some_and(|Reverse(event)| event.at <= until) {
            let Some(Reverse(event)) = self.queue.pop() else { return };
            self.now = event.at;
            self.happen(event);
        }
        self.now = until;
    }

    fn leader_config(&self) -> Option<Arc<Config>> {
        let rafts = self.nodes.iter().filter_map(|node| node.raft.as_ref());
        let leader = rafts.filter(|raft| raft.role() == Role::Leader).max_by_key(|r| r.term());
        leader.map(|raft| Arc::clone(raft.current_config().1))
    }

    fn calm(&mut self) {
        self.is_calm = true;
        self.faults = Faults { delay: self.faults.delay.min(5), ..Faults::default() };
        self.cut = [0; REPLICAS_MAX];
        for node in &mut self.nodes {
            node.paused_until = 0;
            node.alone_since = None;
            node.disk_free_at = node.disk_free_at.min(self.now + 10);
        }
        // Whose clients went away with their leader is not waited for.
        self.reads.clear();
    }

    fn add_node(&mut self) -> ReplicaId {
        let index = self.nodes.len();
        let id = ReplicaId(index as u64 + 1);
        let rate = 1000 + self.chance.below(2 * self.faults.skew + 1) - self.faults.skew;
        self.nodes.push(Node {
            id,
            life: 0,
            raft: None,
            disk: Disk::new(self.first_config.clone()),
            disk_free_at: 0,
            paused_until: 0,
            rate,
            base: self.chance.below(1_000_000),
            applied: LogIndex(0),
            digest: 0,
            partial: (0, Vec::new()),
            images: HashMap::new(),
            tick_at: u64::MAX,
            alone_since: None,
        });
        self.start(index);
        id
    }

    fn push(&mut self, after: u64, node: usize, life: u32, what: What) {
        self.order += 1;
        let (at, order) = (self.now + after, self.order);
        self.queue.push(Reverse(Event { at, order, node, life, what }));
    }

    fn local_time(&self, node: usize) -> Ticks {
        let node = &self.nodes[node];
        Ticks(node.base + self.now * node.rate / 1000)
    }

    fn happen(&mut self, mut event: Event) {
        let index = event.node;
        let is_world = matches!(event.what, What::Client | What::Fault | What::Watch);
        if !is_world {
            let node = &self.nodes[index];
            let is_there = node.raft.is_some() || matches!(event.what, What::Start);
            if event.life != 0 && event.life != node.life || !is_there {
                return;
            }
            if node.paused_until > self.now {
                event.at = node.paused_until;
                self.order += 1;
                event.order = self.order;
                self.queue.push(Reverse(event));
                return;
            }
        }
        // Another tick was set for earlier meanwhile.
        if matches!(event.what, What::Tick)
            && self.nodes[index].tick_at > event.at.max(self.nodes[index].paused_until)
        {
            return;
        }
        if self.trace && !is_world {
            eprintln!("{:>7} {:>3} {:?}", self.now, self.nodes[index].id.0, event.what);
        }
        match event.what {
            What::Deliver(message) => self.step(index, Input::Message(message)),
            What::Tick => {
                self.nodes[index].tick_at = u64::MAX;
                self.step(index, Input::Tick);
            }
            What::Disk => {
                if let Some(stamp) = self.nodes[index].disk.complete_one() {
                    let delay = self.chance.below(self.faults.ack_delay + 1);
                    self.push(delay, index, event.life, What::Ack(stamp));
                }
            }
            What::Ack(stamp) => self.step(index, Input::Persisted(stamp)),
            What::ReadImage { to, id, offset } => self.read_image(index, to, id, offset),
            What::Installed { meta, digest } => {
                let id = meta.id;
                self.nodes[index].disk.set_image(meta, digest);
                let what = What::InstallDone { id, is_installed: true };
                let after = 1 + self.chance.below(3);
                self.push(after, index, event.life, what);
            }
            What::InstallDone { id, is_installed } => {
                if is_installed {
                    let node = &mut self.nodes[index];
                    node.applied = node.disk.image.position.index;
                    node.digest = node.disk.digest;
                }
                self.totals.images += u64::from(is_installed);
                self.step(index, Input::SnapshotDone { id, is_installed });
            }
            What::Start => self.start(index),
            What::Client => {
                self.client();
                let pause = self.chance.permille(20) && !self.is_calm;
                let after = if pause { 400 } else { self.chance.between(2, 20) };
                self.push(after, 0, 0, What::Client);
            }
            What::Fault => {
                self.fault();
                let after = self.chance.between(20, 60);
                self.push(after, 0, 0, What::Fault);
            }
            What::Watch => {
                self.watch();
                self.push(150, 0, 0, What::Watch);
            }
        }
    }

    fn step(&mut self, index: usize, input: Input) {
        let now = self.local_time(index);
        let mut outputs = std::mem::take(&mut self.outputs);
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            let Some(raft) = self.nodes[index].raft.as_mut() else { break };
            raft.step(now, input, &mut outputs);
            self.totals.steps += 1;
            for output in outputs.drain(..) {
                self.handle(index, output, &mut inputs);
            }
            self.judge_leases(index, now);
        }
        self.outputs = outputs;
        let node = &mut self.nodes[index];
        let (life, rate, base) = (node.life, node.rate, node.base);
        let Some(due) = node.raft.as_ref().and_then(Raft::next_deadline) else { return };
        let due = ((due.0.saturating_sub(base)) * 1000).div_ceil(rate).max(self.now + 1);
        if due < node.tick_at {
            node.tick_at = due;
            let after = due - self.now;
            self.push(after, index, life, What::Tick);
        }
    }

    fn handle(&mut self, index: usize, output: Output, inputs: &mut Vec<Input>) {
        let life = self.nodes[index].life;
        match output {
            Output::Append { cut_from, entries, hard_state, stamp } => {
                let node = &mut self.nodes[index];
                let raft = node.raft.as_ref().expect("it lives");
                self.judge.wrote(raft, &entries);
                node.disk.pending.push_back(Write { cut_from, entries, hard_state, stamp });
                let done =
                    node.disk_free_at.max(self.now + self.chance.below(self.faults.disk_delay + 1));
                node.disk_free_at = done;
                let after = done - self.now;
                self.push(after, index, life, What::Disk);
            }
            Output::Send(message) => self.send(index, message),
            Output::Commit(upto) => self.commit(index, upto, inputs),
            Output::ReadOk { id, index: at } => {
                if let Some(acknowledged) = self.reads.remove(&id) {
                    let who = self.nodes[index].id;
                    assert!(
                        at >= acknowledged,
                        "I-R6: a read at {who} sees {at}, and {acknowledged} was acknowledged"
                    );
                    self.totals.reads += 1;
                }
            }
            Output::ReadFailed { id, .. } => drop(self.reads.remove(&id)),
            Output::RoleChanged { role, .. } => {
                if role == Role::Leader {
                    self.totals.elections += 1;
                    self.judge.led(self.nodes[index].raft.as_ref().expect("it lives"));
                }
            }
            Output::ConfigChanged { .. } => self.totals.changes += 1,
            Output::ReadSnapshot { to, id, offset } => {
                let after = self.chance.below(10);
                self.push(after, index, life, What::ReadImage { to, id, offset });
            }
            Output::InstallSnapshot { meta, offset, data, is_last } => {
                self.install(index, meta, offset, &data, is_last);
            }
            Output::Dropped { .. } | Output::Refused(_) => {}
        }
    }

    fn send(&mut self, index: usize, message: Message) {
        let node = &self.nodes[index];
        self.judge.sent(node.raft.as_ref().expect("it lives"), &node.disk, &message);
        let to = message.to.0 as usize - 1;
        let is_deaf_after = self.faults.partition > 0 && self.options.seed % 4 == 3;
        if matches!(message.body, Body::TimeoutNow) && is_deaf_after && !self.is_calm {
            // The worst moment for a lease: this leader does not hear that another one is elected.
            let others = (0..self.nodes.len()).filter(|from| *from != index);
            others.for_each(|from| self.cut[from] |= 1 << index);
        }
        if to >= self.nodes.len() || self.cut[index] & (1 << to) != 0 {
            return;
        }
        let copies = match () {
            () if self.chance.permille(self.faults.drop) => 0,
            () if self.chance.permille(self.faults.double) => 2,
            () => 1,
        };
        for _ in 0..copies {
            let mut after = 1 + self.chance.below(self.faults.delay + 1);
            if self.chance.permille(self.faults.straggle) {
                after += self.chance.below(1500);
            }
            self.push(after, to, 0, What::Deliver(message.clone()));
        }
    }

    fn commit(&mut self, index: usize, upto: LogIndex, inputs: &mut Vec<Input>) {
        let node = &self.nodes[index];
        let raft = node.raft.as_ref().expect("it lives");
        let nodes = &self.nodes;
        // An installed image may have brought more than the last commit said.
        let from = node.applied;
        self.judge.committed_by(raft, from, upto, |id| &nodes[id.0 as usize - 1].disk);
        let digest = self.judge.digest_at(upto);
        let node = &mut self.nodes[index];
        if upto > node.applied {
            node.applied = upto;
            node.digest = digest;
        }
        inputs.push(Input::Applied(upto));
    }

    /// I-R6: who has a lease that is valid now, by its own clock?
    fn judge_leases(&self, index: usize, now: Ticks) {
        let holds = |node: &Node, now: Ticks| {
            let lease = node.raft.as_ref().and_then(Raft::lease_until);
            lease.is_some_and(|until| now < until)
        };
        if !holds(&self.nodes[index], now) {
            return;
        }
        for (at, other) in self.nodes.iter().enumerate() {
            // A paused one cannot answer now, but it will not know that it was paused.
            if at != index && holds(other, self.local_time(at)) {
                let terms = (self.nodes[index].raft.as_ref(), other.raft.as_ref());
                let terms = (terms.0.map(Raft::term), terms.1.map(Raft::term));
                panic!("I-R6: {} and {} have leases: {terms:?}", self.nodes[index].id, other.id);
            }
        }
    }

    fn read_image(&mut self, index: usize, to: ReplicaId, id: Option<u64>, offset: u64) {
        let bad = self.chance.permille(self.faults.bad_image);
        self.names += 1;
        let name = self.names;
        let node = &mut self.nodes[index];
        let raft = node.raft.as_ref().expect("it lives");
        let found = match id {
            Some(id) => node.images.get(&id).cloned(),
            None => raft.snapshot_meta(node.applied, name).map(|meta| {
                let mut bytes = node.digest.to_le_bytes().to_vec();
                bytes.resize(24, 7);
                node.images.insert(meta.id, (meta.clone(), bytes.clone()));
                (meta, bytes)
            }),
        };
        let input = match found {
            Some((meta, bytes)) if !bad && offset < 24 => {
                let end = (offset as usize + 8).min(24);
                let data = Bytes::copy_from_slice(&bytes[offset as usize..end]);
                Input::SnapshotChunk { to, meta, offset, data, is_last: end == 24 }
            }
            _ => Input::SnapshotFailed(to),
        };
        self.step(index, input);
    }

    fn install(
        &mut self,
        index: usize,
        meta: SnapshotMeta,
        offset: u64,
        data: &[u8],
        is_last: bool,
    ) {
        let bad = self.chance.permille(self.faults.bad_image);
        let after = 1 + self.chance.below(30);
        let node = &mut self.nodes[index];
        let life = node.life;
        if offset == 0 {
            node.partial = (meta.id, Vec::new());
        }
        assert_eq!(node.partial.0, meta.id, "chunks of one image follow each other");
        assert_eq!(node.partial.1.len() as u64, offset, "chunks follow each other");
        node.partial.1.extend_from_slice(data);
        if !is_last {
            return;
        }
        assert_eq!(node.partial.1.len(), 24, "the image is whole");
        let digest = u64::from_le_bytes(node.partial.1[..8].try_into().unwrap());
        let index_of = meta.position.index;
        assert_eq!(digest, self.judge.digest_at(index_of), "I-S2: the state at {index_of}");
        let what = if bad {
            What::InstallDone { id: meta.id, is_installed: false }
        } else {
            What::Installed { meta, digest }
        };
        self.push(after, index, life, what);
    }

    fn client(&mut self) {
        let count = self.nodes.len() as u64;
        let leads = |node: &&Node| node.raft.as_ref().is_some_and(|r| r.role() == Role::Leader);
        let leaders: Vec<usize> =
            self.nodes.iter().filter(leads).map(|node| node.id.0 as usize - 1).collect();
        // Mostly those that think they lead; sometimes anybody.
        let anybody = self.chance.below(count) as usize;
        let index = match self.chance.pick(&leaders) {
            Some(leader) if !self.chance.permille(50) => leader,
            _ => anybody,
        };
        let node = &self.nodes[index];
        if node.paused_until > self.now {
            return;
        }
        let Some(raft) = node.raft.as_ref() else { return };
        let term = raft.term();
        // Thought out in another term, now and then.
        let expected_term =
            if self.chance.permille(30) { raft::Term(term.0 - term.0.min(1)) } else { term };
        match self.chance.below(4) {
            0 | 1 => {
                let commands = (0..1 + self.chance.below(3)).map(|_| {
                    self.names += 1;
                    let mut bytes = expected_term.0.to_le_bytes().to_vec();
                    bytes.extend_from_slice(&self.names.to_le_bytes());
                    Bytes::from(bytes)
                });
                let commands = commands.collect();
                self.step(index, Input::Propose { commands, expected_term });
            }
            _ => {
                self.names += 1;
                let id = self.names;
                self.reads.insert(id, self.judge.committed());
                let is_lease = self.chance.permille(500);
                let mode = if is_lease { ReadMode::Lease } else { ReadMode::Quorum };
                self.step(index, Input::Read { id, mode });
            }
        }
        if self.chance.permille(self.faults.transfer) {
            let to = ReplicaId(1 + self.chance.below(count));
            self.step(index, Input::Transfer(to));
        }
        if self.chance.permille(self.faults.change) {
            self.change(index, expected_term);
        }
        if self.chance.permille(self.faults.campaign) {
            self.step(anybody, Input::Campaign);
        }
    }

    fn change(&mut self, index: usize, expected_term: raft::Term) {
        let Some(raft) = self.nodes[index].raft.as_ref() else { return };
        let config = Arc::clone(raft.current_config().1);
        let (mut voters, mut learners) = (config.voters.clone(), config.learners.clone());
        for _ in 0..1 + self.chance.below(3) {
            match self.chance.below(4) {
                0 if self.nodes.len() < REPLICAS_MAX => {
                    let id = self.add_node();
                    learners.push(id);
                }
                0 | 1 if !learners.is_empty() => {
                    voters.append(&mut learners);
                }
                2 if voters.len() > 1 => {
                    let id = voters.remove(self.chance.below(voters.len() as u64) as usize);
                    if self.chance.permille(400) {
                        learners.push(id);
                    }
                }
                _ if !learners.is_empty() => {
                    learners.remove(self.chance.below(learners.len() as u64) as usize);
                }
                _ => {}
            }
        }
        voters.truncate(7);
        self.step(index, Input::Change { voters, learners, expected_term });
    }

    fn fault(&mut self) {
        let count = self.nodes.len();
        let index = self.chance.below(count as u64) as usize;
        if self.chance.permille(self.faults.crash) {
            // One, or all at once.
            let all = self.chance.permille(200);
            for node in if all { 0..count } else { index..index + 1 } {
                self.crash(node);
            }
        }
        if self.chance.permille(self.faults.pause) {
            self.nodes[index].paused_until = self.now + self.chance.below(400);
        }
        if self.chance.permille(self.faults.partition) {
            self.partition();
        }
        for index in 0..count {
            if self.chance.permille(self.faults.image) {
                self.make_image(index);
            }
        }
        self.watch_the_lonely();
    }

    fn partition(&mut self) {
        let count = self.nodes.len();
        self.cut = [0; REPLICAS_MAX];
        match self.chance.below(4) {
            0 => {}
            // Two sides; sometimes only one of them is deaf.
            1 | 2 => {
                let side = self.chance.next() as u32;
                let is_one_way = self.chance.permille(300);
                for from in 0..count {
                    let other = if side & (1 << from) == 0 { side } else { !side };
                    if !(is_one_way && side & (1 << from) == 0) {
                        self.cut[from] = other;
                    }
                }
            }
            // Some pairs, each in one direction.
            _ => {
                for from in 0..count {
                    self.cut[from] = (self.chance.next() & self.chance.next()) as u32;
                }
            }
        }
        for index in 0..count {
            let others = ((1u32 << count) - 1) & !(1 << index);
            let hears = (0..count).any(|from| from != index && self.cut[from] & (1 << index) == 0);
            let is_alone = !hears && self.cut[index] & others == others && count > 1;
            let since = self.nodes[index].alone_since.unwrap_or(self.now);
            self.nodes[index].alone_since = is_alone.then_some(since);
        }
    }

    /// Check-quorum: who hears nobody does not lead for long.
    fn watch_the_lonely(&self) {
        for node in &self.nodes {
            let is_long = node.alone_since.is_some_and(|since| {
                // What was on its way may still arrive, and a pause is no time at all to it.
                self.now > since + 1700 + 3 * ELECTION_TICKS && self.now > node.paused_until + 300
            });
            let Some(raft) = node.raft.as_ref().filter(|_| is_long) else { continue };
            let is_needed = !raft.current_config().1.is_sole_voter(node.id) && !raft.is_quiet();
            assert!(raft.role() != Role::Leader || !is_needed, "{} leads nobody", node.id);
        }
    }

    fn crash(&mut self, index: usize) {
        let after = 1 + self.chance.below(300);
        let node = &mut self.nodes[index];
        if node.raft.take().is_some() {
            node.disk.crash(&mut self.chance);
            node.life += 1;
            let life = node.life;
            self.push(after, index, life, What::Start);
        }
    }

    fn start(&mut self, index: usize) {
        let now = self.local_time(index);
        let node = &mut self.nodes[index];
        node.life += 1;
        node.disk_free_at = self.now;
        node.tick_at = u64::MAX;
        node.partial = (0, Vec::new());
        node.images.clear();
        node.applied = node.disk.image.position.index;
        node.digest = node.disk.digest;
        let options =
            Options { seed: self.options.seed ^ u64::from(node.life), ..self.options.clone() };
        let raft = Raft::new(node.id, options, node.disk.recovered(), now);
        node.raft = Some(raft.expect("what a crash leaves is a prefix"));
        self.step(index, Input::Wake);
    }

    /// The state machine becomes durable where it is, which may be ahead of the log.
    fn make_image(&mut self, index: usize) {
        self.names += 1;
        let (name, compacts) = (self.names, self.chance.permille(self.faults.compact));
        let node = &mut self.nodes[index];
        let Some(raft) = node.raft.as_ref() else { return };
        let Some(meta) = raft.snapshot_meta(node.applied, name) else { return };
        let upto = meta.position.index;
        if upto < node.disk.image.position.index {
            return;
        }
        node.disk.set_image(meta, node.digest);
        if compacts {
            node.disk.compact(upto);
            self.step(index, Input::Compact(upto));
        }
    }

    /// The node-level liveness: who is quiet is woken if its leader does not live.
    fn watch(&mut self) {
        for index in 0..self.nodes.len() {
            let Some(raft) = self.nodes[index].raft.as_ref() else { continue };
            if !raft.is_quiet() {
                continue;
            }
            self.totals.quiet += 1;
            let term = raft.term();
            let leader = raft.leader().map(|leader| leader.0 as usize - 1);
            let lives = leader.is_some_and(|leader| {
                let same = self.nodes[leader]
                    .raft
                    .as_ref()
                    .is_some_and(|l| l.term() == term && l.role() == Role::Leader && l.is_quiet());
                same && self.cut[leader] & (1 << index) == 0
            });
            if !lives {
                self.step(index, Input::Wake);
            }
        }
    }
}

/// What an empty disk says, so that tests of recovery can begin with it.
#[allow(dead_code, reason = "for tests of recovery")]
pub(crate) fn blank() -> (HardState, Position) {
    (HardState::default(), Position::default())
}
