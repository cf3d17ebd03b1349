//! A world of replicas on one thread: virtual time, a network that delays, loses, doubles and
//! reorders, simulated disks that forget what was not synced, crashes at any of their operations.
//!
//! ```text
//!   events in the order of their time ──► Replica::step ──► outputs ──► events
//!                                             │
//!                                           judge: one leader a term, equal states, …
//! ```

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use cluster::{Input, Output, Replica, ReplicaOptions, Request, Response};
use env::{CrashMode, SeededRandom, SimDisk};
use raft::{LogIndex, ReplicaId, Role, Term, Ticks};

/// The election timeout of all replicas.
pub(crate) const ELECTION_TICKS: u64 = 100;

/// Events under way at once, at most: more are an echo that grows.
const EVENTS_MAX: usize = 20_000;

/// What the network and the disks do, in thousandths and in ticks.
#[derive(Debug, Clone, Default)]
pub(crate) struct Weather {
    pub(crate) drop: u64,
    pub(crate) double: u64,
    pub(crate) delay: u64,
    pub(crate) disk_delay: u64,
}

#[derive(Debug)]
pub(crate) enum What {
    Deliver { from: ReplicaId, bytes: Bytes },
    Ask { id: u64, request: Request },
    DiskDone { ticket: u64 },
    Wake,
    Restart,
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

pub(crate) struct Node {
    pub(crate) id: ReplicaId,
    pub(crate) replica: Option<Replica>,
    pub(crate) disk: SimDisk,
    life: u32,
    wake_at: Option<u64>,
    /// The applied index at which the state was compared last.
    judged: LogIndex,
}

/// What was seen of all replicas together.
#[derive(Default)]
struct Judge {
    leaders: BTreeMap<Term, ReplicaId>,
    committed: BTreeMap<LogIndex, Term>,
    states: BTreeMap<LogIndex, u64>,
}

/// What a run came to.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Totals {
    pub(crate) steps: u64,
    pub(crate) crashes: u64,
    pub(crate) images: u64,
    pub(crate) flushes: u64,
    pub(crate) compared: u64,
}

pub(crate) struct World {
    pub(crate) chance: SeededRandom,
    pub(crate) now: u64,
    pub(crate) nodes: Vec<Node>,
    pub(crate) weather: Weather,
    /// Who cannot send to whom.
    pub(crate) cut: Vec<(ReplicaId, ReplicaId)>,
    pub(crate) replies: Vec<(u64, Response)>,
    pub(crate) trace: Vec<String>,
    pub(crate) totals: Totals,
    /// Whether wall clocks go; otherwise timestamps only count.
    pub(crate) has_wall_clock: bool,
    members: Vec<u64>,
    options: ReplicaOptions,
    order: u64,
    queue: BinaryHeap<Reverse<Event>>,
    judge: Judge,
}

pub(crate) fn options(members: &[u64], seed: u64) -> ReplicaOptions {
    let mut options = ReplicaOptions::small(ReplicaId(1), members, seed);
    options.raft.election_timeout_ticks = ELECTION_TICKS;
    options.raft.heartbeat_ticks = 20;
    options.raft.snapshot_retry_ticks = 60;
    options
}

impl World {
    pub(crate) fn new(count: u64, seed: u64, options: ReplicaOptions) -> World {
        let mut world = World::empty(count, seed, options);
        (1..=count).for_each(|id| world.add(id));
        world
    }

    /// A world of a group whose replicas are still to be added.
    pub(crate) fn empty(count: u64, seed: u64, options: ReplicaOptions) -> World {
        World {
            chance: SeededRandom::new(seed),
            now: 0,
            nodes: Vec::new(),
            weather: Weather { delay: 1, disk_delay: 1, ..Weather::default() },
            cut: Vec::new(),
            replies: Vec::new(),
            trace: Vec::new(),
            totals: Totals::default(),
            has_wall_clock: true,
            members: (1..=count).collect(),
            options,
            order: 0,
            queue: BinaryHeap::new(),
            judge: Judge::default(),
        }
    }

    /// Adds a node, which starts at once.
    pub(crate) fn add(&mut self, id: u64) {
        self.add_that_stops(id, None);
    }

    /// Adds a node whose disk stops at an operation, once.
    pub(crate) fn add_that_stops(&mut self, id: u64, operation: Option<u64>) {
        self.nodes.push(Node {
            id: ReplicaId(id),
            replica: None,
            disk: SimDisk::new(),
            life: 1,
            wake_at: None,
            judged: LogIndex(0),
        });
        let at = self.nodes.len() - 1;
        if let Some(operation) = operation {
            self.nodes[at].disk.stop_at(operation);
        }
        while !self.open(at) {
            let mode = self.any_crash();
            self.crash(at, mode);
        }
    }

    pub(crate) fn push(&mut self, after: u64, node: usize, life: u32, what: What) {
        assert!(self.queue.len() < EVENTS_MAX, "replicas talk without end, at {}", self.now);
        self.order += 1;
        let (at, order) = (self.now + after, self.order);
        self.queue.push(Reverse(Event { at, order, node, life, what }));
    }

    /// Opens a replica; returns false if its disk stopped meanwhile.
    pub(crate) fn open(&mut self, at: usize) -> bool {
        let node = &mut self.nodes[at];
        let mut options = self.options.clone();
        options.id = node.id;
        options.members = self.members.iter().map(|id| ReplicaId(*id)).collect();
        options.seed ^= u64::from(node.life) << 32;
        let disk = Arc::new(node.disk.clone());
        match Replica::open(disk, Path::new("replica"), options, Ticks(self.now)) {
            Ok(replica) => {
                node.replica = Some(replica);
                node.judged = LogIndex(0);
                self.after_step(at);
                true
            }
            Err(error) if node.disk.is_stopped() => {
                self.trace.push(format!("{} {}: {error}", self.now, node.id));
                false
            }
            Err(error) => panic!("replica {} does not open: {error}", node.id),
        }
    }

    /// The power goes.
    pub(crate) fn crash(&mut self, at: usize, mode: CrashMode) {
        let node = &mut self.nodes[at];
        self.trace.push(format!("{} {}: crashes, {mode:?}", self.now, node.id));
        node.replica = None;
        node.disk = node.disk.crash(mode);
        node.life += 1;
        node.wake_at = None;
        self.totals.crashes += 1;
    }

    pub(crate) fn any_crash(&mut self) -> CrashMode {
        match self.chance.below(4) {
            0 => CrashMode::LoseUnsynced,
            1 => CrashMode::KeepUnsynced,
            _ => CrashMode::Torn(self.chance.next_u64()),
        }
    }

    pub(crate) fn ask(&mut self, at: usize, id: u64, request: Request) {
        let after = 1 + self.chance.below(self.weather.delay.max(1));
        self.push(after, at, 0, What::Ask { id, request });
    }

    /// Plays the next event, if there is one before a moment.
    pub(crate) fn play(&mut self, until: u64) -> bool {
        match self.queue.peek() {
            Some(Reverse(event)) if event.at <= until => {}
            _ => {
                self.now = self.now.max(until);
                return false;
            }
        }
        let Some(Reverse(Event { at, node, life, what, .. })) = self.queue.pop() else {
            return false;
        };
        self.now = at;
        if life != 0 && life != self.nodes[node].life {
            return true;
        }
        let input = match what {
            What::Restart => {
                if self.nodes[node].replica.is_none() && !self.open(node) {
                    let mode = self.any_crash();
                    self.crash(node, mode);
                    self.push(20, node, 0, What::Restart);
                }
                return true;
            }
            What::Wake => {
                self.nodes[node].wake_at = None;
                Input::Timer
            }
            What::Deliver { from, bytes } => {
                if self.cut.contains(&(from, self.nodes[node].id)) {
                    return true;
                }
                Input::Message { from, bytes }
            }
            What::Ask { id, request } => Input::Request { id, request },
            What::DiskDone { ticket } => Input::DiskDone { ticket, result: Ok(()) },
        };
        self.step(node, input);
        true
    }

    pub(crate) fn run(&mut self, ticks: u64) {
        let until = self.now + ticks;
        while self.play(until) {}
    }

    pub(crate) fn step(&mut self, at: usize, input: Input) {
        let Some(replica) = &mut self.nodes[at].replica else { return };
        let mut out = Vec::new();
        let flushed = replica.flushed_index();
        replica.set_wall_clock(if self.has_wall_clock { self.now } else { 0 });
        replica.step(Ticks(self.now), input, &mut out);
        self.totals.flushes += u64::from(replica.flushed_index() > flushed);
        self.totals.steps += 1;
        for output in out {
            self.take(at, output);
        }
        self.after_step(at);
    }

    fn take(&mut self, at: usize, output: Output) {
        match output {
            Output::Send { to, bytes } => {
                let Some(target) = self.nodes.iter().position(|node| node.id == to) else { return };
                let copies = 1 + u64::from(self.chance.chance(self.weather.double));
                for _ in 0..copies {
                    if !self.chance.chance(self.weather.drop) {
                        let from = self.nodes[at].id;
                        let after = 1 + self.chance.below(self.weather.delay.max(1));
                        let bytes = bytes.clone();
                        self.push(after, target, 0, What::Deliver { from, bytes });
                    }
                }
            }
            Output::Disk { ticket } => {
                // The work is done at once or when it is reported.
                if self.chance.chance(500)
                    && let Some(work) =
                        self.nodes[at].replica.as_ref().and_then(|r| r.log_work(ticket))
                {
                    let _ = work.run();
                }
                let after = self.chance.below(self.weather.disk_delay.max(1));
                let life = self.nodes[at].life;
                self.push(after, at, life, What::DiskDone { ticket });
            }
            Output::Reply { id, response } => self.replies.push((id, response)),
            Output::Trace(line) => {
                self.totals.images += u64::from(line.starts_with("installed"));
                self.trace.push(format!("{} {}: {line}", self.now, self.nodes[at].id));
            }
        }
    }

    fn after_step(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let Some(replica) = &node.replica else { return };
        if let Some(failure) = replica.failure() {
            assert!(node.disk.is_stopped(), "replica {} failed: {failure}", node.id);
            let mode = self.any_crash();
            self.crash(at, mode);
            return self.push(20, at, 0, What::Restart);
        }
        let deadline = replica.next_deadline().map(|ticks| ticks.0.max(self.now + 1));
        if let Some(deadline) = deadline
            && node.wake_at.is_none_or(|wake_at| wake_at > deadline)
        {
            node.wake_at = Some(deadline);
            let life = node.life;
            let after = deadline - self.now;
            self.push(after, at, life, What::Wake);
        }
        self.judge(at);
    }

    fn judge(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let Some(replica) = &node.replica else { return };
        if replica.role() == Role::Leader {
            let first = *self.judge.leaders.entry(replica.term()).or_insert(node.id);
            assert_eq!(first, node.id, "I-R1: two leaders of term {}", replica.term());
        }
        let commit = replica.commit_index();
        if let Some(term) = replica.term_at(commit) {
            let first = *self.judge.committed.entry(commit).or_insert(term);
            assert_eq!(first, term, "I-R4: entry {commit} changed after it was committed");
        }
        let applied = replica.applied().index;
        if applied > node.judged && (applied.0.is_multiple_of(8) || self.weather.delay == 1) {
            node.judged = applied;
            let Ok(Some(hash)) = replica.state_hash() else { return };
            let first = *self.judge.states.entry(applied).or_insert(hash);
            assert_eq!(first, hash, "I-S2: states differ after entry {applied} at {}", node.id);
            self.totals.compared += 1;
        }
    }

    /// Compares all states, wherever they are.
    pub(crate) fn judge_all(&mut self) {
        for at in 0..self.nodes.len() {
            let Some(replica) = &self.nodes[at].replica else { continue };
            let applied = replica.applied().index;
            let Some(hash) = replica.state_hash().unwrap() else { continue };
            let first = *self.judge.states.entry(applied).or_insert(hash);
            assert_eq!(first, hash, "I-S2: states differ after entry {applied}");
        }
    }

    pub(crate) fn leader(&self) -> Option<usize> {
        let leads = |node: &Node| {
            let replica = node.replica.as_ref()?;
            replica.is_ready().then_some(replica.term())
        };
        let at = (0..self.nodes.len()).filter(|at| leads(&self.nodes[*at]).is_some());
        at.max_by_key(|at| leads(&self.nodes[*at]))
    }

    /// Runs until there is a leader that serves.
    pub(crate) fn elect(&mut self) -> usize {
        let until = self.now + 40 * ELECTION_TICKS;
        while self.leader().is_none() {
            assert!(self.play(until), "no leader within {} ticks", 40 * ELECTION_TICKS);
        }
        self.leader().expect("there is one")
    }

    /// Asks one node and runs until the answer is there.
    pub(crate) fn call(&mut self, at: usize, request: Request) -> Option<Response> {
        let id = u64::MAX - self.order;
        self.ask(at, id, request);
        let until = self.now + 10 * ELECTION_TICKS;
        loop {
            if let Some(found) = self.replies.iter().position(|(of, _)| *of == id) {
                return Some(self.replies.remove(found).1);
            }
            if !self.play(until) {
                return None;
            }
        }
    }
}
