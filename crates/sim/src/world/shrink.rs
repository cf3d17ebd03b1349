//! Makes a run that fails smaller: fewer faults, less time, fewer clients and nodes.
//!
//! Each step is a run of its own, and what it does may be something else altogether. It is kept if
//! it violates the same thing.

use super::faults::FaultSet;
use super::node::Node;
use super::outcome::Outcome;
use super::setup::Setup;
use super::workload::{Workload, WorkloadKind};

/// Runs that are tried at most: a person waits for the answer.
const RUNS_MAX: u32 = 200;

/// Returns the smallest run that was found to fail as this one did, with its trace.
pub fn shrink<N: Node>(failed: &Outcome) -> Outcome {
    let workload = WorkloadKind::of(&failed.setup);
    let mut shrunk = failed.clone();
    shrunk.setup.workload = Some(workload);
    shrink_with::<N>(&shrunk, &*workload.make())
}

pub(crate) fn shrink_with<N: Node>(failed: &Outcome, workload: &dyn Workload) -> Outcome {
    let Some(name) = failed.violation.as_ref().map(|violation| violation.name) else {
        return failed.clone();
    };
    let mut runs = 0;
    let mut fails = |setup: &Setup| {
        runs += 1;
        let outcome = (runs < RUNS_MAX).then(|| super::run_with::<N>(setup, workload))?;
        let is_same = outcome.violation.as_ref().is_some_and(|found| found.name == name);
        is_same.then_some(outcome)
    };
    let mut best = failed.clone();
    // From here on the faults are named, so that leaving one out changes no other.
    let named = Setup { faults: failed.present, faults_always: true, ..failed.setup.clone() };
    if let Some(outcome) = fails(&named) {
        best = outcome;
    }
    loop {
        let before = best.setup.clone();
        for smaller in smaller(&before, best.totals.micros) {
            if let Some(outcome) = fails(&smaller) {
                best = outcome;
                break;
            }
        }
        if best.setup == before {
            break;
        }
    }
    // What is told is what was found, also if the runs are used up.
    super::run_with::<N>(&Setup { keeps_trace: true, ..best.setup }, workload)
}

/// Returns set-ups that are a little smaller, those first that save the most.
fn smaller(setup: &Setup, failed_micros: u64) -> Vec<Setup> {
    let mut smaller = Vec::new();
    // It failed before the faults were to end: they may as well end soon after.
    let failed_ms = failed_micros / 1000 + 1;
    for length_ms in [failed_ms / 2, failed_ms * 9 / 10, failed_ms] {
        if length_ms < setup.length_ms {
            smaller.push(Setup { length_ms, ..setup.clone() });
        }
    }
    if setup.faults_always {
        if setup.faults != FaultSet::NONE {
            smaller.push(Setup { faults: FaultSet::NONE, ..setup.clone() });
        }
        for fault in setup.faults.iter() {
            smaller.push(Setup { faults: setup.faults.without(fault), ..setup.clone() });
        }
    }
    for clients in [1, setup.clients / 2, setup.clients - setup.clients.min(1)] {
        if (1..setup.clients).contains(&clients) {
            smaller.push(Setup { clients, ..setup.clone() });
        }
    }
    if setup.nodes != Some(3) {
        smaller.push(Setup { nodes: Some(3), ..setup.clone() });
    }
    smaller
}
