//! The scheduler: draws a run from its choices, and plays it until nothing moves.
//!
//! Each step delivers one message, applies one entry, begins a transaction, or breaks something.
//! Which faults a run has, and how many, is drawn first: a run with one kind of fault reaches what
//! a run with all of them drowns (swarm testing: Groce et al., ISSTA 2012).

use super::choices::{Choices, shrink};
use super::coordinator::Coordinator;
use super::message::{Decision, Isolation};
use super::mutant::is;
use super::recoverer::Recoverer;
use super::shard::Shard;
use super::trace::Trace;
use super::watch::Watch;
use super::{Address, Body, Fact, KEYS_PER_SHARD, Key, Message, Mutant, Outbox, Plan, SHARDS_MAX};
use super::{Set, ShardId, TXNS_MAX, Ts, TxnId, Violation};
use crate::history::History;

/// How many recoverers a run may have before it ends; then the rest is recovered in the drain.
const RECOVERERS_MAX: usize = 12;

/// How many steps the drain may take. A run has a few hundred in all.
const DRAIN_STEPS_MAX: u32 = 20_000;

/// How many late duplicates there are at once.
const LATE_MAX: usize = 6;

/// How many timestamps the oracle may issue before it has to write down a new ceiling.
const CEILING_STEP: Ts = 4;

/// What kind of runs to draw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// All kinds.
    Wide,
    /// Few keys, two shards or more, many duplicates, silences and changes of leader: where the
    /// rare mutants show.
    Boosted,
}

/// When to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checks {
    /// At each step, and at the end.
    EveryStep,
    /// Only at the end, by what has become visible.
    End,
}

/// A run that broke an invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What was broken.
    pub violation: Violation,
    /// One line an event, below a legend.
    pub trace: String,
    /// What the clients saw.
    pub history: History,
    /// How many steps it took.
    pub steps: u32,
    choices: Vec<u32>,
}

/// How the transactions of many runs ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Their clients were told so.
    pub committed: u64,
    /// Their clients were told so.
    pub aborted: u64,
    /// Their coordinators crashed before they could say.
    pub crashed: u64,
    /// How often somebody began to recover a transaction.
    pub recoveries: u64,
    /// How many steps all that took.
    pub steps: u64,
}

/// How often each fault is to happen, of 256 steps.
#[derive(Clone, Copy, Debug, Default)]
struct Faults {
    silence: usize,
    late: usize,
    leader: usize,
    crash: usize,
    tick: usize,
    failover: usize,
    duplicate: usize,
    /// Of 8 who are blocked, how many begin to recover.
    impatience: usize,
}

/// A run. One value plays many of them, so that none has to allocate.
#[derive(Debug)]
pub struct World {
    choices: Choices,
    checks: Checks,
    watch: Watch,
    trace: Trace,
    step: u32,
    issued: Ts,
    ceiling: Ts,
    shards: Vec<Shard>,
    plans: Vec<Plan>,
    coordinators: Vec<Coordinator>,
    crashed: Set<TxnId>,
    recoverers: Vec<Recoverer>,
    bag: Vec<Message>,
    late: Vec<Message>,
    out: Outbox,
    faults: Faults,
    concurrency: usize,
    tally: Tally,
}

impl World {
    /// Returns a world without a run.
    pub fn new(checks: Checks) -> World {
        World {
            choices: Choices::seed(0, false),
            checks,
            watch: Watch::new(),
            trace: Trace::default(),
            step: 0,
            issued: 0,
            ceiling: 0,
            shards: Vec::new(),
            plans: Vec::new(),
            coordinators: Vec::new(),
            crashed: Set::default(),
            recoverers: Vec::new(),
            bag: Vec::new(),
            late: Vec::new(),
            out: Outbox::default(),
            faults: Faults::default(),
            concurrency: 0,
            tally: Tally::default(),
        }
    }

    /// Plays a run.
    ///
    /// # Errors
    /// Returns the first invariant that does not hold.
    pub fn play<const M: u8>(
        &mut self,
        choices: Choices,
        shape: Shape,
        isolation: Isolation,
    ) -> Result<(), Violation> {
        self.begin(choices, shape, isolation);
        let mut budget = 150 * self.plans.len() as u32;
        while budget > 0 && !self.is_done() {
            budget -= 1;
            self.random_step::<M>()?;
        }
        self.drain::<M>()?;
        self.count();
        self.watch.judge(&self.plans, &self.shards)
    }

    /// Returns what the clients of the last run saw.
    pub fn history(&self) -> History {
        self.watch.history(&self.plans[..self.coordinators.len()])
    }

    /// Returns how the transactions of all runs ended.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    fn count(&mut self) {
        for (reply, coordinator) in self.watch.replies.iter().zip(&self.coordinators) {
            match reply {
                Some((Decision::Commit(_), _)) => self.tally.committed += 1,
                Some((Decision::Abort, _)) => self.tally.aborted += 1,
                None => self.tally.crashed += u64::from(!coordinator.has_ended()),
            }
        }
        self.tally.recoveries += self.recoverers.len() as u64;
        self.tally.steps += u64::from(self.step);
    }

    /// Returns how many steps the last run took.
    pub fn steps(&self) -> u32 {
        self.step
    }

    fn begin(&mut self, choices: Choices, shape: Shape, isolation: Isolation) {
        self.choices = choices;
        self.watch = Watch::new();
        (self.step, self.issued, self.ceiling) = (0, 0, 0);
        self.coordinators.clear();
        self.recoverers.clear();
        self.bag.clear();
        self.late.clear();
        self.crashed = Set::default();
        let c = &mut self.choices;
        let boosted = shape == Shape::Boosted;
        let shards = if boosted { 2 + c.below(SHARDS_MAX - 1) } else { 1 + c.below(SHARDS_MAX) };
        let keys = if boosted { 1 } else { 1 + c.below(KEYS_PER_SHARD) };
        let txns = if boosted { 3 + c.below(6) } else { 4 + c.below(TXNS_MAX - 3) };
        self.concurrency = [2, 3, 5, 8][c.below(4)];
        let weights: &[usize; 4] = if boosted { &[0, 6, 16, 32] } else { &[0, 0, 4, 12] };
        self.faults = Faults {
            silence: weights[c.below(4)],
            late: 2 + 2 * c.below(3),
            leader: weights[c.below(4)],
            crash: [0, 0, 1, 4][c.below(4)],
            tick: [0, 2, 8, 16][c.below(4)],
            failover: [0, 0, 1, 4][c.below(4)],
            duplicate: weights[c.below(4)],
            impatience: 1 + c.below(7),
        };
        self.shards.iter_mut().for_each(Shard::reset);
        self.shards.truncate(shards);
        while self.shards.len() < shards {
            self.shards.push(Shard::new(ShardId(self.shards.len() as u8)));
        }
        self.plans.clear();
        let textbook = c.chance(1, 16);
        for _ in 0..txns {
            let (mut reads, mut writes) = (Set::default(), Set::default());
            let extra_writes = c.below(3);
            for (count, set) in [(2, &mut reads), (1 + extra_writes, &mut writes)] {
                for _ in 0..count {
                    let (shard, slot) = (c.below(shards), c.below(keys));
                    set.add(Key((shard * KEYS_PER_SHARD + slot) as u8));
                }
            }
            // The dullest transaction is none, which makes failing runs short.
            match c.below(32) {
                0 => continue,
                22..=25 => reads = Set::default(),
                26..=31 => writes = Set::default(),
                14..=21 => writes.iter().take(1).for_each(|key| reads.add(key)),
                _ => {}
            }
            let anchors = writes.shards();
            let primary = match anchors.len() {
                0 => ShardId(0),
                n => anchors.iter().nth(c.below(n)).unwrap_or(ShardId(0)),
            };
            self.plans.push(Plan { reads, writes, primary, isolation, textbook });
        }
    }

    fn is_done(&self) -> bool {
        self.coordinators.len() == self.plans.len()
            && self.bag.is_empty()
            && self.shards.iter().all(|shard| shard.in_flight.is_empty())
            && self.coordinators.iter().all(Coordinator::has_ended)
            && self.recoverers.iter().all(Recoverer::has_ended)
    }

    /// Takes one step of those that are possible. The order of the arms is from dull to wild, as
    /// the choices want it.
    fn random_step<const M: u8>(&mut self) -> Result<(), Violation> {
        self.step += 1;
        let roll = self.choices.below(256);
        let f = self.faults;
        let mut fault = 224;
        let mut is_fault = |weight: usize| {
            fault -= weight.min(fault);
            (fault..fault + weight).contains(&roll)
        };
        // Faults lie below 224, so that those of no weight leave the room to deliveries.
        if roll >= 224 {
            return self.begin_transaction::<M>();
        }
        if is_fault(f.silence) {
            return self.silence::<M>();
        }
        if is_fault(f.late) && !self.late.is_empty() {
            return self.deliver_late::<M>();
        }
        if is_fault(f.leader) {
            return self.change_leader::<M>();
        }
        if is_fault(f.crash) {
            return self.crash();
        }
        if is_fault(f.tick) {
            return self.tick::<M>();
        }
        if is_fault(f.failover) {
            return self.fail_over::<M>();
        }
        if is_fault(f.duplicate) {
            self.duplicate();
        }
        if roll % 8 >= 5 && self.apply::<M>()? {
            return Ok(());
        }
        if !self.bag.is_empty() {
            return self.deliver::<M>();
        }
        if self.apply::<M>()? {
            return Ok(());
        }
        if self.coordinators.len() < self.plans.len() {
            return self.begin_transaction::<M>();
        }
        self.silence::<M>()
    }

    /// Plays on without faults until nothing moves, and has what is left recovered.
    fn drain<const M: u8>(&mut self) -> Result<(), Violation> {
        let until = self.step + DRAIN_STEPS_MAX;
        loop {
            self.step += 1;
            if self.step > until {
                let what = format!("no end after {DRAIN_STEPS_MAX} steps without faults");
                return Err(Violation { name: "I-L2", what });
            }
            if !self.bag.is_empty() && self.choices.below(3) < 2 {
                self.deliver::<M>()?;
            } else if self.apply::<M>()? {
            } else if !self.bag.is_empty() {
                self.deliver::<M>()?;
            } else if self.coordinators.len() < self.plans.len() && self.running() < 2 {
                self.begin_transaction::<M>()?;
            } else if !self.late.is_empty() {
                self.deliver_late::<M>()?;
            } else if self.recover_locks::<M>()? {
            } else if self.is_waiting() {
                self.silence::<M>()?;
            } else {
                return Ok(());
            }
        }
    }

    fn running(&self) -> usize {
        let coordinators = self.coordinators.iter().enumerate();
        coordinators.filter(|(t, c)| !c.has_ended() && !self.crashed.has(TxnId(*t as u8))).count()
    }

    fn is_waiting(&self) -> bool {
        let coordinators = self.coordinators.iter().enumerate();
        coordinators.into_iter().any(|(t, c)| !c.has_ended() && !self.crashed.has(TxnId(t as u8)))
            || self.recoverers.iter().any(|recoverer| !recoverer.has_ended())
    }

    fn begin_transaction<const M: u8>(&mut self) -> Result<(), Violation> {
        let next = self.coordinators.len();
        if next == self.plans.len() || self.running() >= self.concurrency {
            return if self.bag.is_empty() { Ok(()) } else { self.deliver::<M>() };
        }
        let txn = TxnId(next as u8);
        let plan = self.plans[next];
        self.watch.begun_at[next] = self.step;
        self.trace.line(
            self.step,
            || txn.to_string(),
            format_args!(
                "begins: reads={} writes={} record on {}",
                plan.reads, plan.writes, plan.primary
            ),
        );
        let coordinator = Coordinator::begin(txn, plan, &mut self.out);
        self.coordinators.push(coordinator);
        self.flush()
    }

    fn deliver<const M: u8>(&mut self) -> Result<(), Violation> {
        let chosen = self.choices.below(self.bag.len());
        let message = self.bag.remove(chosen);
        self.receive::<M>(&message, "")
    }

    fn deliver_late<const M: u8>(&mut self) -> Result<(), Violation> {
        let chosen = self.choices.below(self.late.len());
        let message = self.late.remove(chosen);
        self.receive::<M>(&message, " again")
    }

    fn receive<const M: u8>(&mut self, message: &Message, mark: &str) -> Result<(), Violation> {
        self.trace.line(
            self.step,
            || format!("{} -> {}", message.from, message.to),
            format_args!("{}{mark}", message.body),
        );
        match message.to {
            Address::Oracle => {
                let ts = self.issue::<M>()?;
                let body = Body::Issued(ts);
                let (from, to) = (Address::Oracle, message.from);
                self.bag.push(Message { from, to, known: ts, body });
            }
            Address::Shard(shard) => {
                self.shards[shard.0 as usize].step::<M>(message, &mut self.out)
            }
            Address::Coordinator(txn) => {
                if !self.crashed.has(txn) {
                    self.coordinators[txn.0 as usize].step::<M>(message, &mut self.out);
                    self.flush()?;
                }
                self.consider_recovery(message);
            }
            Address::Recoverer(number) => {
                self.recoverers[number as usize].step(message, &mut self.out);
            }
        }
        self.flush()
    }

    /// Whoever hears of a lock in the way may finish its transaction.
    fn consider_recovery(&mut self, message: &Message) {
        let (Body::Blocked(_, by) | Body::Refused(Some(by))) = message.body else { return };
        let Address::Shard(at) = message.from else { return };
        if self.recoverers.len() < RECOVERERS_MAX && self.choices.chance(self.faults.impatience, 8)
        {
            self.recover(by, at);
        }
    }

    fn recover(&mut self, txn: TxnId, at: ShardId) {
        let Some(primary) = self.shards[at.0 as usize].primary_of(txn) else { return };
        let number = self.recoverers.len() as u8;
        self.trace.line(
            self.step,
            || format!("R{number}"),
            format_args!("begins to recover {txn}, whose lock on {at} is in the way"),
        );
        let recoverer = Recoverer::begin(number, txn, primary, at, &mut self.out);
        self.recoverers.push(recoverer);
    }

    fn recover_locks<const M: u8>(&mut self) -> Result<bool, Violation> {
        let is_recovered = |txn| self.recoverers.iter().any(|r| r.txn() == txn && !r.has_ended());
        let lock = self.shards.iter().find_map(|shard| {
            let txn = shard.is_prepared.iter().find(|txn| !is_recovered(*txn))?;
            Some((txn, shard.id))
        });
        let Some((txn, at)) = lock else { return Ok(false) };
        if self.recoverers.len() >= 200 {
            let what = format!("{txn} is prepared on {at} however often it is recovered");
            return Err(Violation { name: "I-C5", what });
        }
        self.recover(txn, at);
        self.flush()?;
        Ok(true)
    }

    fn apply<const M: u8>(&mut self) -> Result<bool, Violation> {
        let busy = self.shards.iter().filter(|shard| !shard.in_flight.is_empty());
        let count = busy.count();
        if count == 0 {
            return Ok(false);
        }
        let chosen = self.choices.below(count);
        let busy = self.shards.iter_mut().filter(|shard| !shard.in_flight.is_empty());
        if let Some(shard) = busy.into_iter().nth(chosen) {
            if self.trace.is_on() {
                let what = shard.in_flight[0].to_string();
                self.trace.line(self.step, || format!("{} ok", shard.id), format_args!("{what}"));
            }
            shard.apply_next::<M>(&mut self.out);
        }
        self.flush()?;
        Ok(true)
    }

    /// Lets somebody wait in vain.
    fn silence<const M: u8>(&mut self) -> Result<(), Violation> {
        let waiting =
            |t: usize, c: &Coordinator| !c.has_ended() && !self.crashed.has(TxnId(t as u8));
        let coordinators = self.coordinators.iter().enumerate().filter(|(t, c)| waiting(*t, c));
        let of_coordinators = coordinators.count();
        let of_recoverers = self.recoverers.iter().filter(|r| !r.has_ended()).count();
        if of_coordinators + of_recoverers == 0 {
            return Ok(());
        }
        let chosen = self.choices.below(of_coordinators + of_recoverers);
        let who = if chosen < of_coordinators {
            let mut coordinators =
                self.coordinators.iter().enumerate().filter(|(t, c)| waiting(*t, c));
            let t = coordinators.nth(chosen).map_or(0, |(t, _)| t);
            self.coordinators[t].timeout::<M>(&mut self.out);
            Address::Coordinator(TxnId(t as u8))
        } else {
            let open = self.recoverers.iter().enumerate().filter(|(_, r)| !r.has_ended());
            let r = { open }.nth(chosen - of_coordinators).map_or(0, |(r, _)| r);
            self.recoverers[r].timeout(&mut self.out);
            Address::Recoverer(r as u8)
        };
        self.trace.line(
            self.step,
            || format!("{who} !"),
            format_args!("hears nothing, and asks again or gives up"),
        );
        self.flush()
    }

    fn change_leader<const M: u8>(&mut self) -> Result<(), Violation> {
        let chosen = self.choices.below(self.shards.len());
        let entries = self.shards[chosen].in_flight.len();
        // The dull choice is to keep all of them.
        let kept = entries - self.choices.below(entries + 1);
        let floor = self.issue::<M>()?;
        let (shard, choices) = (&mut self.shards[chosen], &mut self.choices);
        self.trace.line(
            self.step,
            || format!("{} !", shard.id),
            format_args!("a new leader keeps {kept} of {entries} in flight, floor {floor}"),
        );
        if self.trace.is_on() {
            for entry in &shard.in_flight[..kept] {
                let what = entry.to_string();
                self.trace.line(self.step, || format!("{} ok", shard.id), format_args!("{what}"));
            }
        }
        shard.change_leader::<M>(kept, || choices.below(2) == 0, floor, &mut self.out);
        self.flush()
    }

    fn crash(&mut self) -> Result<(), Violation> {
        let chosen = self.choices.below(self.coordinators.len().max(1));
        if let Some(coordinator) = self.coordinators.get(chosen)
            && !coordinator.has_ended()
            && !self.crashed.has(TxnId(chosen as u8))
        {
            self.crashed.add(TxnId(chosen as u8));
            self.trace.line(
                self.step,
                || format!("T{chosen} !"),
                format_args!("crashes: its coordinator is no more"),
            );
        }
        Ok(())
    }

    fn tick<const M: u8>(&mut self) -> Result<(), Violation> {
        let ts = self.issue::<M>()?;
        self.trace.line(
            self.step,
            || "oracle".into(),
            format_args!("issues {ts} to somebody else"),
        );
        Ok(())
    }

    fn fail_over<const M: u8>(&mut self) -> Result<(), Violation> {
        // What was issued is lost; the ceiling was written down before.
        let forgets = is::<M>(Mutant::OracleForgets);
        self.issued =
            if forgets { self.ceiling.saturating_sub(CEILING_STEP) } else { self.ceiling };
        let issued = self.issued;
        self.trace.line(
            self.step,
            || "oracle !".into(),
            format_args!("fails over, and will issue from {} on", issued + 1),
        );
        Ok(())
    }

    /// Keeps a copy of a request in the bag, to be delivered at some later time.
    fn duplicate(&mut self) {
        if self.bag.is_empty() || self.late.len() >= LATE_MAX {
            return;
        }
        let message = self.bag[self.choices.below(self.bag.len())];
        // A second CommitOne would be a mistake of the coordinator (see the module above), and the
        // oracle's answers are for those who wait.
        if matches!(message.to, Address::Shard(_)) && !matches!(message.body, Body::CommitOne(_)) {
            self.late.push(message);
        }
    }

    fn issue<const M: u8>(&mut self) -> Result<Ts, Violation> {
        self.issued += 1;
        if self.issued > self.ceiling {
            self.ceiling = self.issued + CEILING_STEP;
        }
        let fact = Fact::Issued(self.issued);
        self.watch.fact(fact, self.step, self.checks == Checks::EveryStep)?;
        Ok(self.issued)
    }

    /// Takes what the actors want: puts messages into the bag, and shows facts to the watch.
    fn flush(&mut self) -> Result<(), Violation> {
        self.bag.append(&mut self.out.messages);
        for fact in self.out.facts.drain(..) {
            if let Fact::Replied { txn, decision } = fact {
                self.trace.line(self.step, || format!("{txn} -> user"), format_args!("{decision}"));
            }
            self.watch.fact(fact, self.step, self.checks == Checks::EveryStep)?;
        }
        Ok(())
    }
}

/// Plays the run of a seed in a world.
///
/// # Errors
/// Returns the run with its trace if an invariant does not hold.
pub fn run<const M: u8>(
    world: &mut World,
    seed: u64,
    shape: Shape,
    isolation: Isolation,
) -> Result<(), Box<Failure>> {
    match world.play::<M>(Choices::seed(seed, false), shape, isolation) {
        Ok(()) => Ok(()),
        Err(_) => {
            let choices = Choices::seed(seed, true);
            Err(replay::<M>(choices, shape, isolation, world.checks)
                .expect_err("a seed gives the same run"))
        }
    }
}

fn replay<const M: u8>(
    choices: Choices,
    shape: Shape,
    isolation: Isolation,
    checks: Checks,
) -> Result<(), Box<Failure>> {
    let mut world = World { trace: Trace::on(), ..World::new(checks) };
    world.play::<M>(choices, shape, isolation).map_err(|violation| {
        world.trace.line(
            world.step,
            || violation.name.to_string(),
            format_args!("does not hold: {}", violation.what),
        );
        Box::new(Failure {
            violation,
            trace: world.trace.text(),
            history: world.history(),
            steps: world.step,
            choices: std::mem::take(&mut world.choices.record),
        })
    })
}

/// Returns the shortest run that is found to break the same invariant.
pub fn shortest<const M: u8>(
    failure: &Failure,
    shape: Shape,
    isolation: Isolation,
    checks: Checks,
) -> Box<Failure> {
    // Each try takes some ten microseconds.
    const TRIES_MAX: usize = 100_000;
    let fails = |choices: &[u32]| {
        let mut world = World::new(checks);
        let choices = Choices::list(choices.to_vec());
        let played = world.play::<M>(choices, shape, isolation);
        played.is_err_and(|violation| violation.name == failure.violation.name)
    };
    let choices = shrink(failure.choices.clone(), TRIES_MAX, fails);
    replay::<M>(Choices::list(choices), shape, isolation, checks)
        .expect_err("the shortest run fails, too")
}
