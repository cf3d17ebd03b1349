//! `holm sim`: clusters in a simulated world, from seeds.

use std::time::{Duration, Instant};

use holm_sim::world::{
    self, FaultSet, LEGEND, Outcome, RaftNode, ReplicaNode, Setup, Totals, WorkloadKind,
};
use serde_json::json;

use super::Context;
use crate::exit::{Failure, Result};
use crate::progress;
use crate::table::{grouped, pairs};

/// Runs clusters in a simulated world where everything goes wrong, and checks what they did.
///
/// Everything follows from the seed. A seed that fails is shrunk and shown with its trace.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The seed to run, or the first one with --minutes.
    #[arg(long, default_value_t = 0)]
    seed: u64,

    /// Seeds to run: from A up to, not including, B.
    #[arg(long, value_name = "A..B", value_parser = seeds)]
    #[arg(conflicts_with_all = ["seed", "minutes"])]
    seeds: Option<(u64, u64)>,

    /// Run seed after seed for so many minutes.
    #[arg(long)]
    minutes: Option<u64>,

    /// How many nodes found the group; drawn from the seed otherwise.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=7))]
    nodes: Option<u64>,

    /// What clients do: register, list-append or bank; drawn from the seed otherwise.
    #[arg(long)]
    workload: Option<WorkloadKind>,

    /// Which faults there may be: all, none, or names with commas between, which are all there.
    #[arg(long)]
    faults: Option<FaultSet>,

    /// How long faults happen in each world, in simulated milliseconds.
    #[arg(long, value_name = "MS")]
    length_ms: Option<u64>,

    /// What runs on the nodes: the replica of the database, or Raft with a table and nothing else.
    #[arg(long, value_enum, default_value_t = NodeKind::Replica)]
    node: NodeKind,

    /// Run one set-up, as a failure prints it, and show its whole trace.
    #[arg(long, value_name = "SEED[:OPTIONS]")]
    replay: Option<Setup>,
}

/// What runs on the nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum NodeKind {
    Replica,
    Raft,
}

impl NodeKind {
    fn run(self, setup: &Setup) -> Outcome {
        match self {
            NodeKind::Replica => world::run::<ReplicaNode>(setup),
            NodeKind::Raft => world::run::<RaftNode>(setup),
        }
    }

    fn shrink(self, outcome: &Outcome) -> Outcome {
        match self {
            NodeKind::Replica => world::shrink::<ReplicaNode>(outcome),
            NodeKind::Raft => world::shrink::<RaftNode>(outcome),
        }
    }

    /// Returns what has to be typed to get it.
    fn flag(self) -> &'static str {
        match self {
            NodeKind::Replica => "",
            NodeKind::Raft => "--node raft ",
        }
    }
}

/// Lines of the trace of a failure that are shown: the end tells most.
const SHOWN_LINES_MAX: usize = 200;

pub(crate) fn run(context: &mut Context, args: Args) -> Result {
    if let Some(setup) = args.replay {
        let outcome = args.node.run(&Setup { keeps_trace: true, ..setup });
        context.output.line(LEGEND)?;
        context.output.bytes(outcome.trace.as_bytes())?;
        return finish(context, args.node, &outcome);
    }
    let (first, end) = match (args.seeds, args.minutes) {
        (Some((first, end)), _) => (first, end),
        (None, Some(_)) => (args.seed, u64::MAX),
        (None, None) => (args.seed, args.seed.saturating_add(1)),
    };
    let until = args.minutes.map(|minutes| Duration::from_secs(minutes * 60));
    let (begun, mut totals, mut runs) = (Instant::now(), Totals::default(), 0);
    let bar = progress::message();
    for seed in first..end {
        if until.is_some_and(|until| begun.elapsed() >= until) {
            break;
        }
        let mut setup = Setup::new(seed);
        setup.nodes = args.nodes.map(|nodes| nodes as usize);
        setup.workload = args.workload;
        setup.length_ms = args.length_ms.unwrap_or(setup.length_ms);
        if let Some(faults) = args.faults {
            (setup.faults, setup.faults_always) = (faults, faults != FaultSet::ALL);
        }
        let outcome = args.node.run(&setup);
        runs += 1;
        totals.add(&outcome.totals);
        if outcome.violation.is_some() {
            bar.set_message(format!("seed {seed} fails; looking for a smaller run"));
            let small = args.node.shrink(&outcome);
            bar.finish_and_clear();
            return failed(context, args.node, seed, &small);
        }
        bar.set_message(format!("seed {seed}"));
    }
    bar.finish_and_clear();
    show(context, runs, &totals, begun.elapsed())
}

fn failed(context: &mut Context, node: NodeKind, seed: u64, small: &Outcome) -> Result {
    let lines: Vec<&str> = small.trace.lines().collect();
    let shown = lines.len().saturating_sub(SHOWN_LINES_MAX);
    if !context.output.is_json() {
        context.output.line(LEGEND)?;
        if shown > 0 {
            context.output.line(&format!("... {shown} lines before"))?;
        }
        for line in &lines[shown..] {
            context.output.line(line)?;
        }
    }
    finish(context, node, small).map_err(|failure| failure.at(format!("seed {seed}")))
}

fn finish(context: &mut Context, node: NodeKind, outcome: &Outcome) -> Result {
    let Some(violation) = &outcome.violation else { return Ok(()) };
    if context.output.is_json() {
        context.output.json(&json!({
            "seed": outcome.setup.seed,
            "replay": outcome.setup.to_string(),
            "invariant": violation.name,
            "detail": violation.detail,
        }))?;
    }
    context.output.flush()?;
    let (flag, replay) = (node.flag(), &outcome.setup);
    Err(Failure::new(format!("{violation}; holm sim {flag}--replay {replay} shows how")))
}

fn show(context: &mut Context, runs: u64, totals: &Totals, took: Duration) -> Result {
    let simulated = totals.micros as f64 / 1e6;
    let seconds = took.as_secs_f64().max(1e-9);
    let output = &mut context.output;
    if output.is_json() {
        return output.json(&json!({
            "seeds": runs,
            "simulated_hours": simulated / 3600.0,
            "times_real_time": simulated / seconds,
            "steps": totals.steps,
            "steps_per_second": totals.steps as f64 / seconds,
            "events": totals.events,
            "crashes": totals.crashes,
            "elections": totals.elections,
            "committed": totals.committed,
            "answered": totals.answered,
            "violations": 0,
        }));
    }
    output.line(&pairs([
        ("seeds", grouped(runs)),
        (
            "simulated",
            format!("{:.1} hours, {:.0} times real time", simulated / 3600.0, simulated / seconds),
        ),
        (
            "steps",
            format!("{}, {:.0} a second", grouped(totals.steps), totals.steps as f64 / seconds),
        ),
        ("crashes", grouped(totals.crashes)),
        ("elections", grouped(totals.elections)),
        ("committed", format!("{} entries", grouped(totals.committed))),
        ("answered", format!("{} operations of clients", grouped(totals.answered))),
        ("violations", "0".to_string()),
    ]))
}

fn seeds(text: &str) -> std::result::Result<(u64, u64), String> {
    let wrong = || format!("'{text}' is no range of seeds, such as 0..1000");
    let (first, end) = text.split_once("..").ok_or_else(wrong)?;
    let (first, end) = (first.parse().map_err(|_| wrong())?, end.parse().map_err(|_| wrong())?);
    if first < end { Ok((first, end)) } else { Err(wrong()) }
}
