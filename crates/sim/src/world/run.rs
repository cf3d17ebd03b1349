//! The world itself: it takes the next event, lets it happen, and looks at what came of it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use bytes::Bytes;
use env::SeededRandom;

use super::chaos::draw_rate;
use super::client::{ANSWER_MICROS_MAX, Answer, Ask, Session};
use super::clock::{MS, SECOND, Time};
use super::digest;
use super::faults::{ALL, Fault, Intensities, stream};
use super::judge::{Judge, Verdict, Violation};
use super::machine::{End, Machine};
use super::network::Network;
use super::node::{Host, Node, NodeId, NodeInput, NodeOutput, Ticket};
use super::outcome::{Outcome, Totals};
use super::setup::Setup;
use super::trace::{Trace, Who};
use super::workload::Workload;
use crate::history::Recorder;

/// After the faults, how long a world has for a leader, an answer for each client, and for all
/// members to have all. Elections may be tied a few times, and images may have to be sent.
const CALM_MICROS: u64 = 20 * SECOND;

/// How long clients then have for their last look.
const CLOSING_MICROS: u64 = 60 * SECOND;

/// How often quiet nodes are looked at, and each node checks itself, in microseconds.
const WATCH_MICROS: u64 = 500 * MS;

/// Requests are numbered together with their client, which is this number's remainder.
const CLIENTS_MAX: u64 = 256;

/// What is going to happen.
#[derive(Debug)]
pub(crate) enum Event {
    Deliver {
        to: usize,
        from: NodeId,
        bytes: Bytes,
    },
    Tick {
        node: usize,
        life: u32,
    },
    DiskWork {
        node: usize,
        life: u32,
        ticket: Ticket,
    },
    DiskDone {
        node: usize,
        life: u32,
        ticket: Ticket,
    },
    Request {
        node: usize,
        id: u64,
        bytes: Bytes,
    },
    Reply {
        id: u64,
        bytes: Bytes,
    },
    /// The client has waited, for an answer or by its own wish.
    Waited {
        id: u64,
    },
    Start {
        node: usize,
    },
    Fault(Fault),
    Heal,
    FreeDisk {
        node: usize,
    },
    Mend,
    Watch,
}

pub(crate) struct World<N: Node> {
    setup: Setup,
    node_config: N::Config,
    founders: Vec<u64>,
    pub(crate) now: Time,
    pub(crate) queue: super::queue::Queue<Event>,
    pub(crate) machines: Vec<Machine<N>>,
    pub(crate) network: Network,
    pub(crate) intensities: Intensities,
    /// A source of chance for each fault.
    pub(crate) chances: Vec<SeededRandom>,
    pub(crate) judge: Judge,
    pub(crate) trace: Trace,
    pub(crate) is_calm: bool,
    sessions: Vec<Session>,
    recorder: Rc<Recorder>,
    requests: u64,
    outputs: Vec<NodeOutput>,
    violation: Option<Violation>,
    totals: Totals,
}

/// Runs a world to its end, and checks what it did.
pub(crate) fn run<N: Node>(setup: &Setup, workload: &dyn Workload) -> Outcome {
    let mut world: World<N> = World::new(setup, workload);
    // What panics is a bug as well; the world is looked at afterwards, and not used again.
    let run = catch_unwind(AssertUnwindSafe(|| world.live()));
    let verdict = run.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(Violation::new("panic", text.unwrap_or("of an unknown kind")))
    });
    let history = world.recorder.history();
    let verdict = verdict.and_then(|()| workload.check(&history));
    let mut totals = world.totals;
    totals.micros = world.now.0;
    totals.events = world.trace.events();
    totals.elections = world.judge.elections;
    totals.committed = world.judge.committed().0;
    totals.answered = world.sessions.iter().map(Session::done).sum();
    let now = world.now;
    if let Err(violation) = &verdict {
        world.trace.line(now, Who::World, || format!("= VIOLATION {violation}"));
    }
    Outcome {
        setup: setup.clone(),
        present: world.intensities.present(),
        violation: verdict.err(),
        digest: digest::mix(world.trace.digest(), digest::of(history.to_string().as_bytes())),
        totals,
        history,
        trace: world.trace.take_lines(),
    }
}

impl<N: Node> World<N> {
    fn new(setup: &Setup, workload: &dyn Workload) -> World<N> {
        let seed = setup.seed;
        let intensities = Intensities::draw(seed, setup.faults, setup.faults_always);
        let mut random = stream(seed, 101);
        let drawn = 3 + random.below(5) as usize;
        let nodes = setup.nodes.unwrap_or(drawn);
        let node_config = N::draw_config(&mut random);
        let mut world = World {
            setup: setup.clone(),
            node_config,
            founders: (1..=nodes as u64).collect(),
            now: Time(0),
            queue: super::queue::Queue::new(),
            machines: Vec::new(),
            network: Network::new(seed, &intensities),
            chances: ALL.map(|fault| stream(seed, 200 + fault as u64)).to_vec(),
            intensities,
            judge: Judge::default(),
            trace: Trace::new(setup.keeps_trace),
            is_calm: false,
            sessions: Vec::new(),
            recorder: Rc::new(Recorder::new()),
            requests: 0,
            outputs: Vec::new(),
            violation: None,
            totals: Totals::default(),
        };
        for _ in 0..nodes {
            world.add_machine();
        }
        let ids: Vec<_> = world.founders.iter().copied().map(raft::ReplicaId).collect();
        for number in 1..=setup.clients.min(CLIENTS_MAX - 1) {
            let random = stream(seed, 2000 + number);
            let (recorder, ids) = (Rc::clone(&world.recorder), ids.clone());
            let program = |client| workload.client(client);
            world.sessions.push(Session::new(number, random, recorder, ids, program));
        }
        world
    }

    fn live(&mut self) -> Verdict {
        let present = self.intensities.present();
        let nodes = self.founders.len();
        self.trace.line(self.now, Who::World, || format!("= {nodes} nodes, faults: {present}"));
        self.schedule_faults();
        self.queue.push(Time(WATCH_MICROS), Event::Watch);
        for index in 0..self.sessions.len() {
            self.resume(index, None);
        }
        self.run_until(Time(self.setup.length_micros()))?;
        self.calm();
        let done: Vec<u64> = self.sessions.iter().map(Session::done).collect();
        let calm_since = self.now;
        self.run_until(calm_since.after(CALM_MICROS))?;
        self.judge_life(&done, calm_since)?;
        self.sessions.iter().for_each(Session::close);
        let until = self.now.after(CLOSING_MICROS);
        while self.sessions.iter().any(|session| !session.has_ended()) {
            if self.now >= until {
                let open = self.sessions.iter().position(|session| !session.has_ended());
                let client = open.map_or(0, |open| open + 1);
                let detail = format!("client {client} does not come to its end");
                return Err(Violation::new("life", detail));
            }
            self.run_until(self.now.after(100 * MS))?;
        }
        self.machines
            .iter()
            .filter_map(|machine| machine.node.as_ref())
            .try_for_each(|node| node.check().map_err(|error| Violation::new("node", error)))
    }

    fn run_until(&mut self, until: Time) -> Verdict {
        while let Some((at, event)) = self.queue.pop_due(until) {
            self.now = at;
            self.happen(event);
            if let Some(violation) = self.violation.take() {
                return Err(violation);
            }
        }
        self.now = until;
        Ok(())
    }

    /// Ends all faults.
    fn calm(&mut self) {
        self.is_calm = true;
        self.network.calm();
        self.trace.line(self.now, Who::World, || "= all faults end".to_owned());
        for index in 0..self.machines.len() {
            let machine = &mut self.machines[index];
            machine.paused_until = Time(0);
            machine.free_disk();
            if machine.is_stop_armed {
                // It would stop at its next write: now is as good.
                self.end(index, End::Power, MS);
            }
            let machine = &mut self.machines[index];
            machine.disk.heal();
            machine.is_write_bad = false;
            if machine.node.is_none() && !machine.is_dead {
                self.queue.push(self.now.after(MS), Event::Start { node: index });
            }
        }
    }

    /// After the faults: a leader, an answer for each client, and all of the log at all members.
    fn judge_life(&mut self, done: &[u64], calm_since: Time) -> Verdict {
        let Some(leader) = self.leader() else {
            return Err(Violation::new("life", "there is no leader after the faults"));
        };
        for (index, (session, before)) in self.sessions.iter().zip(done).enumerate() {
            let is_answered = session.done() > *before || session.has_ended();
            if !is_answered {
                let detail = format!("client {} got no answer since {calm_since}", index + 1);
                return Err(Violation::new("life", detail));
            }
        }
        let node = self.machines[leader].node.as_ref().expect("the leader runs");
        // What is committed this very moment may be on its way.
        let committed = node.raft().commit_index().0.saturating_sub(100);
        for id in node.raft().current_config().1.members() {
            let machine = &self.machines[id.0 as usize - 1];
            let applied = machine.node.as_ref().map(|node| node.applied().index.0);
            if !machine.is_dead && applied.is_none_or(|applied| applied < committed) {
                let detail = format!("n{id} has applied {applied:?} of {committed}");
                return Err(Violation::new("life", detail));
            }
        }
        Ok(())
    }

    pub(crate) fn add_machine(&mut self) -> NodeId {
        let index = self.machines.len();
        let mut random = stream(self.setup.seed, 3000 + index as u64);
        let rate = draw_rate(&mut random, self.intensities.of(Fault::Drift));
        self.machines.push(Machine::new(self.setup.seed, index, self.now, rate));
        self.judge.add_node();
        let id = raft::ReplicaId(index as u64 + 1);
        if index >= self.founders.len() {
            self.sessions.iter().for_each(|session| session.learn_of(id));
        }
        self.start(index);
        id
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Deliver { to, from, bytes } => {
                self.trace.event(
                    self.now,
                    1 + to as u64 * 32,
                    digest::mix(from.0, bytes.len() as u64),
                );
                if self.waits(to, |at| (at, Event::Deliver { to, from, bytes: bytes.clone() })) {
                    return;
                }
                if self.trace.is_kept() && self.machines[to].node.is_some() {
                    self.trace.line(self.now, Who::Node(to), || {
                        format!("<- n{from} {}", N::describe(&bytes))
                    });
                }
                self.totals.messages += 1;
                self.step(to, NodeInput::Message { from, bytes });
            }
            Event::Tick { node, life } => self.tick(node, life),
            Event::DiskWork { node, life, ticket } => {
                if self.machines[node].life != life {
                    return;
                }
                self.trace.event(self.now, 2, node as u64);
                self.work(node, ticket);
            }
            Event::DiskDone { node, life, ticket } => {
                if self.machines[node].life != life
                    || self.waits(node, |at| (at, Event::DiskDone { node, life, ticket }))
                {
                    return;
                }
                self.trace.event(self.now, 3, node as u64);
                self.trace.line(self.now, Who::Node(node), || format!("disk done {ticket}"));
                self.step(node, NodeInput::DiskDone(ticket));
            }
            Event::Request { node, id, bytes } => {
                self.trace.event(self.now, 4, id);
                if self.waits(node, |at| (at, Event::Request { node, id, bytes: bytes.clone() })) {
                    return;
                }
                self.step(node, NodeInput::Request { id, bytes });
            }
            Event::Reply { id, bytes } => self.answer(id, Answer::Reply(bytes)),
            Event::Waited { id } => self.answer(id, Answer::TimedOut),
            Event::Start { node } => {
                if self.machines[node].node.is_none() {
                    self.trace.event(self.now, 5, node as u64);
                    self.start(node);
                }
            }
            Event::Fault(fault) => {
                self.trace.event(self.now, 6, fault as u64);
                self.fault(fault);
            }
            Event::Heal => {
                if !self.is_calm {
                    self.network.heal();
                    self.trace.line(self.now, Who::World, || "= no partition".to_owned());
                }
            }
            Event::FreeDisk { node } => self.machines[node].free_disk(),
            Event::Mend => self.mend(),
            Event::Watch => self.watch(),
        }
    }

    /// Puts an event off, if its node stands still. Returns true if so.
    fn waits(&mut self, node: usize, event: impl FnOnce(Time) -> (Time, Event)) -> bool {
        let until = self.machines[node].paused_until;
        let stands = until > self.now;
        if stands {
            let (at, event) = event(until);
            self.queue.push(at, event);
        }
        stands
    }

    fn tick(&mut self, node: usize, life: u32) {
        let machine = &mut self.machines[node];
        if machine.life != life || machine.tick_at != self.now {
            return;
        }
        machine.tick_at = Time(u64::MAX);
        if self.waits(node, |at| (at, Event::Tick { node, life })) {
            self.machines[node].tick_at = self.machines[node].paused_until;
            return;
        }
        let machine = &self.machines[node];
        let Some(due) = machine.node.as_ref().and_then(Node::next_deadline) else { return };
        if machine.clock.shows(self.now) < due {
            return self.set_tick(node);
        }
        self.trace.event(self.now, 7, node as u64);
        self.step(node, NodeInput::Tick);
    }

    fn set_tick(&mut self, index: usize) {
        let machine = &mut self.machines[index];
        let Some(due) = machine.node.as_ref().and_then(Node::next_deadline) else { return };
        let at = machine.clock.when(due).max(self.now.after(1));
        if at < machine.tick_at {
            machine.tick_at = at;
            let life = machine.life;
            self.queue.push(at, Event::Tick { node: index, life });
        }
    }

    /// Gives a node an input, looks at it, and does what it wants.
    pub(crate) fn step(&mut self, index: usize, input: NodeInput) {
        let now = self.now;
        let machine = &mut self.machines[index];
        machine.set_wall(now);
        let local = machine.clock.shows(now);
        let Some(node) = machine.node.as_mut() else { return };
        let mut outputs = std::mem::take(&mut self.outputs);
        node.step(local, input, &mut outputs);
        self.totals.steps += 1;
        if machine.is_stop_armed && machine.disk.is_stopped() {
            // The power failed in the middle of it: nobody hears what came after.
            outputs.clear();
            self.outputs = outputs;
            let micros = self.machines[index].random.below(2 * SECOND);
            return self.end(index, End::Power, micros);
        }
        let verdict = self.judge_step(index);
        let mut stop = None;
        for output in outputs.drain(..) {
            if let NodeOutput::Stop(reason) = output {
                stop.get_or_insert(reason);
            } else if stop.is_none() {
                self.let_out(index, output);
            }
        }
        self.outputs = outputs;
        if let Err(violation) = verdict {
            self.violation.get_or_insert(violation);
        }
        match stop {
            Some(reason) => self.stopped(index, &reason),
            None => self.set_tick(index),
        }
    }

    fn judge_step(&mut self, index: usize) -> Verdict {
        let Some(node) = self.machines[index].node.as_ref() else { return Ok(()) };
        let had = self.judge.elections;
        self.judge.stepped(index, node.raft(), node.applied())?;
        if self.judge.elections > had {
            let term = node.raft().term();
            self.trace.line(self.now, Who::Node(index), || format!("= leads in term {term}"));
        }
        self.judge_leases(index)
    }

    /// I-R6: at most one node has a lease that is valid now by its own clock. One that stands still
    /// counts: it will not know that it stood still.
    fn judge_leases(&self, index: usize) -> Verdict {
        let holds = |machine: &Machine<N>| {
            let until = machine.node.as_ref().and_then(|node| node.raft().lease_until());
            until.is_some_and(|until| machine.clock.shows(self.now).0 < until.0)
        };
        if !holds(&self.machines[index]) {
            return Ok(());
        }
        let others = self.machines.iter().enumerate().filter(|(at, _)| *at != index);
        match others.into_iter().find(|(_, machine)| holds(machine)) {
            None => Ok(()),
            Some((at, _)) => {
                let detail = format!("n{} and n{} have leases", index + 1, at + 1);
                Err(Violation::new("I-R6", detail))
            }
        }
    }

    fn let_out(&mut self, index: usize, output: NodeOutput) {
        let now = self.now;
        match output {
            NodeOutput::Send { to, bytes, promise } => {
                let machine = &self.machines[index];
                let image =
                    machine.node.as_ref().map_or_else(Default::default, Node::durable_applied);
                if let Err(violation) = self.judge.sent(index, promise, image) {
                    self.violation.get_or_insert(violation);
                }
                let target = to.0 as usize - 1;
                if target >= self.machines.len() {
                    return;
                }
                let copies = self.network.carry(index, target);
                if self.trace.is_kept() {
                    let sign = if copies[0].is_some() { "->" } else { "x " };
                    self.trace.line(now, Who::Node(index), || {
                        format!("{sign} n{to} {}", N::describe(&bytes))
                    });
                }
                let from = raft::ReplicaId(index as u64 + 1);
                for after in copies.into_iter().flatten() {
                    let bytes = bytes.clone();
                    self.queue.push(now.after(after), Event::Deliver { to: target, from, bytes });
                }
            }
            NodeOutput::Disk(ticket) => {
                if let Some(node) = self.machines[index].node.as_ref() {
                    self.judge.handed(index, ticket, node.raft());
                }
                self.machines[index].asked = Some(ticket);
                self.start_work(index);
            }
            NodeOutput::Reply { id, bytes } => {
                if let Some(after) = self.network.carry_for_client(index, self.machines.len()) {
                    self.queue.push(now.after(after), Event::Reply { id, bytes });
                }
            }
            NodeOutput::Stop(_) => {}
        }
    }

    /// Lets the disk begin with what it was asked for, unless it is busy.
    fn start_work(&mut self, index: usize) {
        let slowness = if self.is_calm { 0 } else { self.intensities.of(Fault::SlowDisk) };
        let machine = &mut self.machines[index];
        let Some(ticket) = machine.asked.filter(|_| !machine.is_disk_busy) else { return };
        machine.is_disk_busy = true;
        let at = self.now.after(machine.draw_sync(slowness));
        let life = machine.life;
        self.queue.push(at, Event::DiskWork { node: index, life, ticket });
    }

    fn work(&mut self, index: usize, ticket: Ticket) {
        self.trace.line(self.now, Who::Node(index), || format!("disk work {ticket}"));
        let life = self.machines[index].life;
        self.step(index, NodeInput::DiskWork(ticket));
        let machine = &mut self.machines[index];
        if machine.life != life {
            return;
        }
        if let Some(node) = machine.node.as_ref() {
            self.judge.written(index, ticket, node.durable_applied());
        }
        machine.is_disk_busy = false;
        machine.asked = machine.asked.filter(|asked| *asked > ticket);
        let news = 5 + machine.random.below(50);
        let done = Event::DiskDone { node: index, life, ticket };
        self.queue.push(self.now.after(news), done);
        self.start_work(index);
    }

    /// The process ended itself.
    fn stopped(&mut self, index: usize, reason: &str) {
        self.trace.line(self.now, Who::Node(index), || format!("= ends: {reason}"));
        if !self.machines[index].may_fail() {
            let detail = format!("n{} ended without a fault of its disk: {reason}", index + 1);
            self.violation.get_or_insert(Violation::new("node", detail));
        }
        let micros = self.machines[index].random.below(SECOND);
        // It wrote what it could before it ended.
        self.machines[index].asked = None;
        self.end(index, End::Kill, micros);
    }

    /// Ends a process and lets another one start after a while.
    pub(crate) fn end(&mut self, index: usize, end: End, micros: u64) {
        let now = self.now;
        let machine = &mut self.machines[index];
        if machine.node.is_none() {
            return;
        }
        self.totals.crashes += 1;
        self.trace.line(now, Who::Node(index), || format!("= {end:?}"));
        let mut outputs = std::mem::take(&mut self.outputs);
        machine.end(end, now, &mut outputs);
        self.outputs = outputs;
        self.queue.push(now.after(micros), Event::Start { node: index });
    }

    pub(crate) fn start(&mut self, index: usize) {
        let now = self.now;
        let machine = &mut self.machines[index];
        if machine.is_dead {
            return;
        }
        machine.set_wall(now);
        machine.life += 1;
        let host = Host {
            id: raft::ReplicaId(index as u64 + 1),
            founders: self.founders.clone(),
            disk: machine.shared_disk(),
            wall: machine.wall.clone(),
            seed: machine.random.next_u64(),
        };
        match N::open(&self.node_config, &host, machine.clock.shows(now)) {
            Ok(node) => {
                let verdict = self.judge.opened(index, node.raft(), node.applied());
                let machine = &mut self.machines[index];
                machine.node = Some(node);
                let was_rotten = std::mem::take(&mut machine.is_rotten);
                match verdict {
                    // The last write of all is covered by nothing that would tell rot from tearing.
                    Err(violation) if was_rotten => self.give_up(index, &violation.to_string()),
                    Err(violation) => {
                        self.violation.get_or_insert(violation);
                    }
                    Ok(()) => {
                        let (last, state) = {
                            let raft = self.machines[index].node.as_ref().map(Node::raft);
                            raft.map_or_else(Default::default, |raft| {
                                (raft.last(), raft.hard_state())
                            })
                        };
                        self.trace.line(now, Who::Node(index), || {
                            format!(
                                "= starts in term {} with a log up to {} of term {}",
                                state.term, last.index, last.term
                            )
                        });
                        self.step(index, NodeInput::Wake);
                    }
                }
            }
            Err(error) if machine.is_rotten => self.give_up(index, &error),
            Err(error) if machine.is_stop_armed || machine.may_fail() => {
                self.trace.line(now, Who::Node(index), || format!("= does not start: {error}"));
                let machine = &mut self.machines[index];
                machine.disk.heal();
                machine.is_write_bad = false;
                self.queue.push(now.after(500 * MS), Event::Start { node: index });
            }
            Err(error) => {
                let detail = format!("n{} does not open: {error}", index + 1);
                self.violation.get_or_insert(Violation::new("I-S5", detail));
            }
        }
    }

    /// A disk that forgot something must not speak again.
    fn give_up(&mut self, index: usize, why: &str) {
        self.trace.line(self.now, Who::Node(index), || format!("= is given up: {why}"));
        self.totals.given_up += 1;
        let machine = &mut self.machines[index];
        machine.is_dead = true;
        machine.node = None;
        machine.life += 1;
    }

    /// The node-level liveness: who is quiet is woken if its leader does not live. And each node is
    /// asked how it is.
    fn watch(&mut self) {
        self.queue.push(self.now.after(WATCH_MICROS), Event::Watch);
        for index in 0..self.machines.len() {
            let Some(node) = self.machines[index].node.as_ref() else { continue };
            if let Err(error) = node.check() {
                self.violation.get_or_insert(Violation::new("node", error));
            }
            if !node.raft().is_quiet() {
                continue;
            }
            let leader = node.raft().leader().map(|leader| leader.0 as usize - 1);
            let lives = leader.is_some_and(|leader| {
                let other = self.machines[leader].node.as_ref().map(Node::raft);
                let is_same = other
                    .is_some_and(|other| other.term() == node.raft().term() && other.is_quiet());
                is_same && self.network.hears(index, leader)
            });
            if !lives {
                self.step(index, NodeInput::Wake);
            }
        }
    }

    /// Lets a client go on, and carries what it asks next.
    fn resume(&mut self, index: usize, answer: Option<Answer>) {
        let session = &mut self.sessions[index];
        let Some(ask) = session.resume(self.now, answer) else {
            session.waits_for = 0;
            return;
        };
        self.requests += 1;
        let id = self.requests * CLIENTS_MAX + index as u64;
        session.waits_for = id;
        session.asked_at = self.now;
        let wait = match ask {
            Ask::Sleep { micros } => micros,
            Ask::Call { to, bytes } => {
                let node = to.0 as usize - 1;
                self.trace.line(self.now, Who::Client(index as u64 + 1), || {
                    format!("-> n{to} {}", super::words::request(&bytes))
                });
                if let Some(after) = self.network.carry_for_client(node, self.machines.len()) {
                    self.queue.push(self.now.after(after), Event::Request { node, id, bytes });
                }
                ANSWER_MICROS_MAX
            }
        };
        self.queue.push(self.now.after(wait), Event::Waited { id });
    }

    fn answer(&mut self, id: u64, answer: Answer) {
        let index = (id % CLIENTS_MAX) as usize;
        if self.sessions[index].waits_for != id {
            return;
        }
        self.trace.event(self.now, 8, id);
        if let Answer::Reply(bytes) = &answer {
            self.trace.line(self.now, Who::Client(index as u64 + 1), || {
                format!("<- {}", super::words::reply(bytes))
            });
        }
        self.resume(index, Some(answer));
    }
}
