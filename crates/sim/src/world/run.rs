//! A run, from its plan to its verdict; and how a failing one is made smaller.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use cluster::{Request, Response};

use super::clients::{BALANCE, Clients, Ends, key_of};
use super::plan::Plan;
use super::trace::Trace;
use super::{Counts, What, Workload, World};
use crate::checker::{self, Level, Options, Report, bank::Bank};
use crate::history::{Op, Outcome};

/// How long it may take until everything has come right once faults have ended, in microseconds of
/// virtual time: some elections, an image, and all that was asked.
const CALM_US: u64 = 60_000_000;

/// The id of the requests of the runner itself.
pub(super) const CALLER: u64 = u64::MAX - 1;

/// What came of a run in which nothing was wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// How often things happened.
    pub counts: Counts,
    /// How transactions ended.
    pub ends: Ends,
    /// States of replicas that were compared.
    pub compared: u64,
    /// Virtual time that passed, in microseconds.
    pub virtual_us: u64,
    /// A hash of everything that happened: the same plan gives the same one.
    pub digest: u64,
}

/// A run in which something was wrong.
#[derive(Debug, Clone)]
pub struct Failure {
    /// What was planned.
    pub plan: Plan,
    /// What was wrong.
    pub what: String,
    /// What happened until then, if that was kept.
    pub trace: Vec<String>,
}

/// Carries out a plan.
///
/// # Errors
/// What was wrong, a panic of the code under test included; with the lines of the trace if
/// `is_traced`.
pub fn run(plan: &Plan, is_traced: bool) -> Result<Summary, Failure> {
    replay(plan, is_traced).0
}

/// Carries out a plan and keeps its trace, whatever comes of it.
pub fn replay(plan: &Plan, is_traced: bool) -> (Result<Summary, Failure>, Vec<String>) {
    let trace = Trace::new(is_traced);
    let lines = trace.clone();
    // The world is thrown away, so nobody sees what a panic left half done.
    let outcome = catch_unwind(AssertUnwindSafe(|| play(plan, trace)))
        .unwrap_or_else(|panic| Err(format!("a panic: {}", message_of(&*panic))));
    let lines = lines.take();
    match outcome {
        Ok(summary) => (Ok(summary), lines),
        Err(what) => {
            let failure = Failure { plan: plan.clone(), what, trace: lines.clone() };
            (Err(failure), lines)
        }
    }
}

fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a word").to_string()
}

fn play(plan: &Plan, trace: Trace) -> Result<Summary, String> {
    let mut world = World::new(plan, trace);
    let mut clients = Clients::new(&mut world);
    world.push(0, 0, 0, What::Storm);
    until(&mut world, &mut clients, plan.storm_ms * 1000)?;

    world.calm();
    clients.is_closing = true;
    come_right(&mut world, &mut clients, "a leader", |world, _| world.leader().is_some())?;
    come_right(&mut world, &mut clients, "an answer to all", |_, clients| clients.are_idle())?;
    world.blackout();
    come_right(&mut world, &mut clients, "a leader", |world, _| world.leader().is_some())?;
    what_was_told_is_true(&mut world, &mut clients)?;
    read_all(&mut world, &mut clients)?;
    come_right(&mut world, &mut clients, "the same state everywhere", |world, _| {
        let members = world.members();
        let applied =
            |at: &usize| world.nodes[*at].replica.as_ref().map(|replica| replica.applied().index);
        !members.is_empty() && members.iter().all(|at| applied(at) == applied(&members[0]))
    })?;
    for at in world.members() {
        if let Some(replica) = &world.nodes[at].replica {
            world.judge.compare(replica)?;
        }
    }
    let history = clients.recorder.history();
    let report = judge_history(plan, &history);
    if !report.is_valid() {
        return Err(format!("the history of the clients: {report}"));
    }
    Ok(Summary {
        counts: world.counts,
        ends: clients.ends,
        compared: world.judge.compared,
        virtual_us: world.now_us,
        digest: world.trace.digest(),
    })
}

fn judge_history(plan: &Plan, history: &crate::history::History) -> Report {
    let options = Options::at(Level::StrictSerializable);
    match plan.workload {
        Workload::Append => checker::list_append::check(history, &options),
        Workload::Register => checker::register::check(history, &options),
        Workload::Bank => {
            let accounts = (0..plan.keys).map(|key| key.to_string()).collect();
            checker::bank::check(history, &Bank { accounts, total: BALANCE * plan.keys }, &options)
        }
    }
}

/// Plays everything that is due until a moment.
fn until(world: &mut World, clients: &mut Clients, moment_us: u64) -> Result<(), String> {
    while world.play(moment_us, clients) {
        if let Some(what) = world.violation.take() {
            return Err(what);
        }
    }
    Ok(())
}

/// Plays until something holds, which it has to before long.
fn come_right(
    world: &mut World,
    clients: &mut Clients,
    what: &str,
    mut holds: impl FnMut(&World, &Clients) -> bool,
) -> Result<(), String> {
    let end = world.now_us + CALM_US;
    while !holds(world, clients) {
        if world.now_us >= end {
            let roles = world.roles();
            let seconds = CALM_US / 1_000_000;
            return Err(format!("liveness: not {what} within {seconds} s without faults: {roles}"));
        }
        until(world, clients, world.now_us + 5000)?;
    }
    Ok(())
}

/// Asks the leader, again and again until it answers.
fn call(world: &mut World, clients: &mut Clients, request: &Request) -> Result<Response, String> {
    let end = world.now_us + CALM_US;
    while world.now_us < end {
        if let Some(leader) = world.leader() {
            match world.ask_now(leader, request, clients)? {
                None
                | Some(
                    Response::NotLeader { .. } | Response::Busy { .. } | Response::Unknown { .. },
                ) => {}
                Some(response) => return Ok(response),
            }
        }
        until(world, clients, world.now_us + 20_000)?;
    }
    Err(format!("liveness: no answer to {request:?} without faults: {}", world.roles()))
}

impl World {
    /// Asks a node and plays until the answer is there, or for a while.
    fn ask_now(
        &mut self,
        at: usize,
        request: &Request,
        clients: &mut Clients,
    ) -> Result<Option<Response>, String> {
        self.answer = None;
        self.push(1, at, 0, What::Ask { id: CALLER, request: Box::new(request.clone()) });
        let end = self.now_us + 2_000_000;
        while self.now_us < end && self.answer.is_none() {
            until(self, clients, self.now_us + 1000)?;
        }
        Ok(self.answer.take())
    }
}

/// I-S5: what a client was told is so, after all have lost power.
fn what_was_told_is_true(world: &mut World, clients: &mut Clients) -> Result<(), String> {
    for told in clients.told.clone() {
        let request = Request::Status { txn: told.txn, abort_if_absent: false };
        match call(world, clients, &request)? {
            Response::Ended(Some(record)) if record == told.record => {}
            // It began before what is remembered.
            Response::Refused(_) => {}
            other => {
                return Err(format!("I-S5: {told:?} was acknowledged, and now it is {other:?}"));
            }
        }
    }
    Ok(())
}

/// Reads everything at the end, so that a write that was lost shows.
fn read_all(world: &mut World, clients: &mut Clients) -> Result<(), String> {
    let txn = clients.recorder.begin(world.plan.sessions);
    let read_ts = match call(world, clients, &Request::Begin)? {
        Response::Begun { read_ts } => read_ts,
        other => return Err(format!("a calm leader answers Begin with {other:?}")),
    };
    if read_ts < clients.newest() {
        return Err(format!("I-T3: @{read_ts} is given out, @{} was before", clients.newest()));
    }
    for key in 0..world.plan.keys {
        let value = match call(world, clients, &Request::Get { read_ts, key: key_of(key) })? {
            Response::Value(value) => value.map(|(_, bytes)| bytes),
            other => return Err(format!("a calm leader answers Get with {other:?}")),
        };
        let word = |word: &[u8]| u64::from_le_bytes(word.try_into().unwrap_or_default());
        let numbers: Vec<u64> = value.unwrap_or_default().chunks_exact(8).map(word).collect();
        let key = key.to_string();
        clients.recorder.op(
            txn,
            match world.plan.workload {
                Workload::Append => Op::read_list(key, numbers),
                Workload::Register => Op::read(key, numbers.first().copied()),
                Workload::Bank => Op::read(key, Some(numbers.first().copied().unwrap_or(BALANCE))),
            },
        );
    }
    clients.recorder.end(txn, Outcome::Committed);
    Ok(())
}

/// Looks for the simplest plan that fails as well, at most so many runs long, and carries it out
/// with a trace.
pub fn shrink(failure: Failure, runs_max: u64) -> Failure {
    let mut smallest = failure;
    let mut runs = 0;
    'smaller: while runs < runs_max {
        for plan in smallest.plan.simpler() {
            runs += 1;
            if runs > runs_max {
                break 'smaller;
            }
            if let Err(failure) = run(&plan, false) {
                smallest = failure;
                continue 'smaller;
            }
        }
        break;
    }
    match run(&smallest.plan, true) {
        Err(failure) => failure,
        // It does the same each time, or determinism is what is broken.
        Ok(_) => Failure {
            what: format!("not again, at the second time: {}", smallest.what),
            ..smallest
        },
    }
}
