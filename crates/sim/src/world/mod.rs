//! Whole clusters on one thread, from one seed.
//!
//! ```text
//!                      the world: one queue of events in the order of virtual time
//!                 ┌───────────────────────────────────────────────────────────────────┐
//!   clients ─ask─►│ network: delay, loss, duplication, order, partitions              │
//!           ◄reply│    │                                                              │
//!                 │    ▼            ▼            ▼                                    │
//!                 │ ┌──────┐     ┌──────┐     ┌──────┐   each: cluster::Replica       │
//!                 │ │  n1  │     │  n2  │     │  n3  │   (protocol, log, engine,      │
//!                 │ └──┬───┘     └──┬───┘     └──┬───┘   conflict check), its clocks  │
//!                 │ ┌──▼───┐     ┌──▼───┐     ┌──▼───┐                                │
//!                 │ │ disk │     │ disk │     │ disk │   simulated: slow, full, torn  │
//!                 │ └──────┘     └──────┘     └──────┘                                │
//!                 │ after each step the judge looks at the replica that made it       │
//!                 └───────────────────────────────────────────────────────────────────┘
//!      storm: faults happen            calm: they end, and everything has to come right
//! ```
//!
//! Nothing in here is a model: the replicas are those that a server runs, on disks that are
//! simulated call by call. One generator of numbers, made of the seed, decides everything, so a run
//! is the same each time to the byte, and a failure is a number that can be told to others.
//!
//! # What is checked
//! At each step by the names of the design: I-R1 (one leader a term), I-R2 and I-R4 (committed
//! entries are the same everywhere, for ever), I-R3 (a leader has all of them), I-S1 and I-S2 (a
//! state is that of its applied index, after whatever crash); the invariants that replicas assert
//! themselves. I-R5 and I-S5 by the end: what was acknowledged is there after all have lost power.
//! I-R6 by what clients read while leases and clocks are what they rest on. Then liveness: once
//! faults end there is a leader, and everything asked is answered. And the history that clients
//! recorded goes to the [checkers](crate::checker): strictly serializable, or the seed has failed.
//!
//! # Reading order
//! [`plan`] (what is drawn), this file (events), `clients`, `judge`, [`run`] (a run from its
//! beginning to its verdict, and how a failing one is made smaller).
//!
//! # Not here
//! Several groups, transactions over them (see the commit protocol's model). Bits that rot on a
//! disk: a replica that finds one has to leave the group and come back under a new id, which
//! somebody above it has to see to.

mod clients;
mod clock;
mod judge;
pub mod plan;
pub mod run;
mod storm;
mod trace;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use cluster::{Input, Output, Replica, ReplicaOptions, Request, Response};
use env::{CrashMode, SeededRandom, SimDisk};
use raft::{ReadMode, ReplicaId};

pub use clock::DRIFT_PPM_MAX;
pub use plan::{Fault, Plan, Scope, Workload};
pub use run::{Failure, Summary, run, shrink};
pub use trace::LEGEND;

use clock::Clock;
use judge::{Judge, Seen};
use trace::Trace;

/// The election timeout of simulated replicas, in ticks of a millisecond.
const ELECTION_TICKS: u64 = 300;

/// How long an ordinary message takes, in microseconds, at least and beyond that.
const MESSAGE_US: (u64, u64) = (200, 1800);

/// How long an ordinary sync takes, in microseconds, at least and beyond that.
const SYNC_US: (u64, u64) = (100, 900);

/// Events that may be due at once. More are an echo that grows without end.
const EVENTS_MAX: usize = 50_000;

/// What an event does.
#[derive(Debug)]
enum What {
    Deliver {
        from: ReplicaId,
        bytes: Bytes,
    },
    Ask {
        id: u64,
        request: Box<Request>,
    },
    DiskDone {
        ticket: u64,
    },
    Wake,
    Restart,
    /// An answer reaches its client.
    Reply {
        id: u64,
        response: Box<Response>,
    },
    /// A client does what is next, if this is still the turn it waits for.
    Session {
        at: usize,
        turn: u64,
    },
    /// Faults are drawn.
    Storm,
}

struct Event {
    at_us: u64,
    order: u64,
    node: usize,
    /// The life of the node that it is for; 0 is any.
    life: u32,
    what: What,
}

impl PartialEq for Event {
    fn eq(&self, other: &Event) -> bool {
        self.order == other.order
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
        (self.at_us, self.order).cmp(&(other.at_us, other.order))
    }
}

struct Node {
    id: ReplicaId,
    replica: Option<Replica>,
    disk: SimDisk,
    clock: Clock,
    life: u32,
    /// Events wait until then: the node stands still.
    paused_until: u64,
    /// The next deadline that has an event.
    wake_at: Option<u64>,
    /// Its disk fails on purpose until the storm or something else heals it.
    has_bad_disk: bool,
    seen: Seen,
}

/// How often things happened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Steps that replicas made.
    pub steps: u64,
    /// Messages sent between replicas.
    pub messages: u64,
    /// Power losses.
    pub crashes: u64,
    /// Images that were installed.
    pub images: u64,
    /// Memtables that became tables.
    pub flushes: u64,
    /// Partitions that were made.
    pub partitions: u64,
    /// Changes of who takes part that were asked for.
    pub changes: u64,
}

struct World {
    random: SeededRandom,
    plan: Plan,
    now_us: u64,
    nodes: Vec<Node>,
    /// Who does not hear whom: (sender, receiver).
    cut: BTreeSet<(usize, usize)>,
    /// Faults are over.
    is_calm: bool,
    options: ReplicaOptions,
    order: u64,
    queue: BinaryHeap<Reverse<Event>>,
    judge: Judge,
    trace: Trace,
    counts: Counts,
    violation: Option<String>,
    /// The last answer to the runner.
    answer: Option<Response>,
    outputs: Vec<Output>,
}

impl World {
    fn new(plan: &Plan, trace: Trace) -> World {
        let mut random = SeededRandom::new(plan.seed);
        let members: Vec<u64> = (1..=plan.nodes).collect();
        let mut options = ReplicaOptions::small(ReplicaId(1), &members, plan.seed);
        options.raft.election_timeout_ticks = ELECTION_TICKS;
        options.raft.heartbeat_ticks = ELECTION_TICKS / 6;
        options.raft.snapshot_retry_ticks = ELECTION_TICKS;
        options.log_entries_kept = 1 + random.below(60);
        options.chunk_bytes = 200 + random.below(4000) as usize;
        options.memory.memtable_bytes = 4000 + random.below(12_000) as usize;
        options.log_bytes_max = 4000 + random.below(28_000);
        options.read_mode = if random.chance(700) { ReadMode::Lease } else { ReadMode::Quorum };
        let mut world = World {
            random,
            plan: plan.clone(),
            now_us: 0,
            nodes: Vec::new(),
            cut: BTreeSet::new(),
            is_calm: false,
            options,
            order: 0,
            queue: BinaryHeap::new(),
            judge: Judge::default(),
            trace,
            counts: Counts::default(),
            violation: None,
            answer: None,
            outputs: Vec::new(),
        };
        for id in members {
            world.add(ReplicaId(id));
        }
        world
    }

    /// Adds a node with an empty disk.
    fn add(&mut self, id: ReplicaId) {
        let clock = self.any_clock(0);
        self.nodes.push(Node {
            id,
            replica: None,
            disk: SimDisk::new(),
            clock,
            life: 1,
            paused_until: 0,
            wake_at: None,
            has_bad_disk: false,
            seen: Seen::default(),
        });
        self.open(self.nodes.len() - 1);
    }

    fn rate(&self, fault: Fault) -> u64 {
        if self.is_calm { 0 } else { self.plan.rate(fault) }
    }

    fn any_clock(&mut self, wall_off_ms: i64) -> Clock {
        let most = DRIFT_PPM_MAX * self.plan.rate(Fault::Drift) / 1000;
        let drift = self.random.below(2 * most + 1).cast_signed() - most.cast_signed();
        // A monotonic clock begins anywhere.
        Clock::new(self.now_us, self.random.below(1 << 40), drift, wall_off_ms)
    }

    fn violated(&mut self, what: String) {
        self.violation.get_or_insert(what);
    }

    fn push(&mut self, after_us: u64, node: usize, life: u32, what: What) {
        if self.queue.len() >= EVENTS_MAX {
            let commonest = self.commonest();
            return self.violated(format!("{EVENTS_MAX} events are due, an echo: {commonest}"));
        }
        self.order += 1;
        let (at_us, order) = (self.now_us + after_us, self.order);
        self.queue.push(Reverse(Event { at_us, order, node, life, what }));
    }

    /// Says what most of the events are that are due.
    fn commonest(&self) -> String {
        let mut kinds: BTreeMap<String, u64> = BTreeMap::new();
        for Reverse(event) in &self.queue {
            let kind = match &event.what {
                What::Deliver { bytes, from } => {
                    let name = raft::codec::decode_message(bytes).map(|m| m.body.name());
                    format!("{} from n{from}", name.unwrap_or("nothing"))
                }
                What::Ask { request, .. } => format!("{request:.20?}"),
                other => format!("{other:.20?}"),
            };
            *kinds.entry(kind).or_default() += 1;
        }
        let most = kinds.into_iter().max_by_key(|(_, count)| *count);
        most.map_or_else(String::new, |(kind, count)| format!("{count} times {kind}"))
    }

    /// Plays the next event, if one is due until a moment. Time goes on to that moment otherwise.
    fn play(&mut self, until_us: u64, clients: &mut clients::Clients) -> bool {
        if self.queue.peek().is_none_or(|Reverse(event)| event.at_us > until_us) {
            self.now_us = self.now_us.max(until_us);
            return false;
        }
        let Some(Reverse(event)) = self.queue.pop() else { return false };
        self.now_us = self.now_us.max(event.at_us);
        self.trace.mix(event.at_us ^ (event.node as u64) << 48 ^ u64::from(event.life) << 56);
        let (at, what) = (event.node, event.what);
        match what {
            What::Reply { id, response } => clients.answered(self, id, *response),
            What::Session { at, turn } => clients.turn(self, at, turn),
            What::Storm => self.storm(clients),
            What::Restart => self.restart(at),
            what => self.deliver(at, event.life, what),
        }
        true
    }

    /// Gives an event to a node, if it lives and can take it.
    fn deliver(&mut self, at: usize, life: u32, what: What) {
        let node = &mut self.nodes[at];
        if life != 0 && life != node.life || node.replica.is_none() {
            return;
        }
        if node.paused_until > self.now_us {
            let after_us = node.paused_until - self.now_us;
            return self.push(after_us, at, life, what);
        }
        let (id, now_us) = (node.id, self.now_us);
        let name = || format!("n{id}");
        let input = match what {
            What::Deliver { from, bytes } => {
                self.trace.mix_bytes(&bytes);
                self.trace
                    .line(now_us, name, "deliver", || format!("from n{from}: {}", say(&bytes)));
                Input::Message { from, bytes }
            }
            What::Ask { id, request } => {
                self.trace.line(now_us, name, "ask", || format!("#{id} {request:?}"));
                Input::Request { id, request: *request }
            }
            What::DiskDone { ticket } => {
                self.trace.line(now_us, name, "disk", || format!("write {ticket} is done"));
                Input::DiskDone { ticket, result: Ok(()) }
            }
            _ => {
                node.wake_at = None;
                self.trace.line(now_us, name, "wake", String::new);
                Input::Timer
            }
        };
        self.step(at, input);
    }

    fn step(&mut self, at: usize, input: Input) {
        let node = &mut self.nodes[at];
        let Some(replica) = &mut node.replica else { return };
        let flushed = replica.flushed_index();
        let mut outputs = std::mem::take(&mut self.outputs);
        replica.set_wall_clock(node.clock.wall_ms(self.now_us));
        replica.step(node.clock.ticks(self.now_us), input, &mut outputs);
        self.counts.flushes += u64::from(replica.flushed_index() > flushed);
        self.counts.steps += 1;
        for output in outputs.drain(..) {
            self.take(at, output);
        }
        self.outputs = outputs;
        self.stepped(at);
    }

    fn take(&mut self, at: usize, output: Output) {
        match output {
            Output::Send { to, bytes } => self.send(at, to, bytes),
            Output::Disk { ticket } => self.sync(at, ticket),
            Output::Reply { id, response } => self.reply(at, id, response),
            Output::Trace(text) => {
                self.counts.images += u64::from(text.starts_with("installed"));
                let id = self.nodes[at].id;
                self.trace.line(self.now_us, || format!("n{id}"), "say", || text);
            }
        }
    }

    fn any_message_us(&mut self) -> u64 {
        let slow = self.rate(Fault::Delay);
        let beyond = match self.random.chance(slow / 4) {
            // Now and then longer than elections take.
            true => 1000 * (1 + self.random.below(2 * slow)),
            false => MESSAGE_US.1 + 20 * slow,
        };
        MESSAGE_US.0 + self.random.below(beyond)
    }

    /// How many times something arrives that is sent.
    fn any_copies(&mut self) -> u64 {
        let (loss, twice) = (self.rate(Fault::Loss) / 4, self.rate(Fault::Duplication) / 4);
        if self.random.chance(loss) { 0 } else { 1 + u64::from(self.random.chance(twice)) }
    }

    fn send(&mut self, at: usize, to: ReplicaId, bytes: Bytes) {
        self.counts.messages += 1;
        let Some(target) = self.nodes.iter().position(|node| node.id == to) else { return };
        if self.cut.contains(&(at, target)) {
            return;
        }
        let from = self.nodes[at].id;
        for _ in 0..self.any_copies() {
            let after_us = self.any_message_us();
            self.push(after_us, target, 0, What::Deliver { from, bytes: bytes.clone() });
        }
    }

    fn sync(&mut self, at: usize, ticket: u64) {
        // The work is done at some moment between now and when it is reported.
        let node = &self.nodes[at];
        let work = node.replica.as_ref().and_then(|replica| replica.log_work(ticket));
        if self.random.chance(500)
            && let Some(work) = work
        {
            // What fails now fails again when it is reported.
            let _ = work.run();
        }
        let slow = self.rate(Fault::SlowDisk);
        let after_us = SYNC_US.0 + self.random.below(SYNC_US.1 + 100 * slow);
        let life = self.nodes[at].life;
        self.push(after_us, at, life, What::DiskDone { ticket });
    }

    fn reply(&mut self, at: usize, id: u64, response: Response) {
        if self.is_calm && id == run::CALLER {
            self.answer = Some(response);
            return;
        }
        let node = self.nodes[at].id;
        self.trace.line(
            self.now_us,
            || format!("n{node}"),
            "reply",
            || format!("#{id} {response:?}"),
        );
        for _ in 0..self.any_copies() {
            let after_us = self.any_message_us();
            self.push(after_us, at, 0, What::Reply { id, response: Box::new(response.clone()) });
        }
    }

    /// A request leaves for a node.
    fn ask(&mut self, at: usize, id: u64, request: &Request) {
        // What a network would carry.
        let bytes = cluster::codec::encode_request(request);
        for _ in 0..self.any_copies() {
            let Ok(request) = cluster::codec::decode_request(&bytes) else {
                return self.violated(format!("a request is not read back: {request:?}"));
            };
            let after_us = self.any_message_us();
            self.push(after_us, at, 0, What::Ask { id, request: Box::new(request) });
        }
    }

    fn stepped(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let Some(replica) = &node.replica else { return };
        if let Some(failure) = replica.failure() {
            let (failure, id) = (failure.to_string(), node.id);
            if !node.has_bad_disk && !node.disk.is_stopped() {
                return self.violated(format!("n{id} failed on a sound disk: {failure}"));
            }
            self.trace.line(self.now_us, || format!("n{id}"), "say", || failure);
            self.crash(at);
            let after_us = 1000 * (1 + self.random.below(500));
            return self.push(after_us, at, 0, What::Restart);
        }
        if let Some(deadline) = replica.next_deadline() {
            let due = node.clock.moment_of(deadline).max(self.now_us + 1000);
            if node.wake_at.is_none_or(|wake_at| wake_at > due) {
                node.wake_at = Some(due);
                let (life, after_us) = (node.life, due - self.now_us);
                self.push(after_us, at, life, What::Wake);
            }
        }
        let node = &mut self.nodes[at];
        let Some(replica) = &node.replica else { return };
        if let Err(what) = self.judge.stepped(replica, &mut node.seen) {
            self.violated(what);
        }
    }

    /// Opens a node's next life.
    fn open(&mut self, at: usize) {
        let clock = self.any_clock(self.nodes[at].clock.wall_off_ms);
        let node = &mut self.nodes[at];
        node.clock = clock;
        let mut options = self.options.clone();
        options.id = node.id;
        options.seed ^= u64::from(node.life) << 32;
        let disk = Arc::new(node.disk.clone());
        let (id, life) = (node.id, node.life);
        let name = || format!("n{id}");
        match Replica::open(disk, Path::new("replica"), options, node.clock.ticks(self.now_us)) {
            Ok(replica) => {
                self.trace.line(self.now_us, name, "open", || {
                    let (term, applied) = (replica.term(), replica.applied().index);
                    format!("life {life}: term {term}, {applied} applied")
                });
                node.seen = Seen::default();
                let verdict = self.judge.opened(&replica);
                node.replica = Some(replica);
                if let Err(what) = verdict {
                    self.violated(what);
                }
                self.stepped(at);
            }
            Err(error) if node.has_bad_disk || node.disk.is_stopped() => {
                self.trace.line(self.now_us, name, "open", || format!("life {life}: {error}"));
                self.crash(at);
                let after_us = 1000 * (1 + self.random.below(500));
                self.push(after_us, at, 0, What::Restart);
            }
            Err(error) => self.violated(format!("n{id} does not open: {error}")),
        }
    }

    fn restart(&mut self, at: usize) {
        if self.nodes[at].replica.is_none() {
            self.open(at);
        }
    }

    /// The power of a node goes.
    fn crash(&mut self, at: usize) {
        let mode = match self.random.below(4) {
            0 => CrashMode::LoseUnsynced,
            1 => CrashMode::KeepUnsynced,
            _ => CrashMode::Torn(self.random.next_u64()),
        };
        let node = &mut self.nodes[at];
        let id = node.id;
        self.trace.line(
            self.now_us,
            || format!("n{id}"),
            "fault",
            || format!("power lost, {mode:?}"),
        );
        node.replica = None;
        node.disk = node.disk.crash(mode);
        node.life += 1;
        node.wake_at = None;
        node.paused_until = 0;
        self.counts.crashes += 1;
    }

    /// Returns the node that serves as the leader of the newest term.
    fn leader(&self) -> Option<usize> {
        let serves = |node: &Node| {
            node.replica.as_ref().filter(|replica| replica.is_ready()).map(Replica::term)
        };
        let all = (0..self.nodes.len()).filter_map(|at| Some((serves(&self.nodes[at])?, at)));
        all.max().map(|(_, at)| at)
    }
}

/// Says what a message is.
fn say(bytes: &Bytes) -> String {
    match raft::codec::decode_message(bytes) {
        Ok(message) => format!("term {} {:?}", message.term, message.body),
        Err(error) => error.to_string(),
    }
}
