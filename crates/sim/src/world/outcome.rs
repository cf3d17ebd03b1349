//! What a run came to.

use super::faults::FaultSet;
use super::judge::Violation;
use super::setup::Setup;
use crate::history::History;

/// What a run came to.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// What was run.
    pub setup: Setup,
    /// The faults that the seed drew.
    pub present: FaultSet,
    /// What went wrong, if anything did. The run ended there.
    pub violation: Option<Violation>,
    /// Of all that happened: two runs with the same digest did the same.
    pub digest: u64,
    /// Counts.
    pub totals: Totals,
    /// What the clients saw.
    pub history: History,
    /// A line for each event, if the set-up asked for it.
    pub trace: String,
}

/// What is counted in a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Simulated time, in microseconds.
    pub micros: u64,
    /// Events that happened.
    pub events: u64,
    /// Inputs that nodes took in.
    pub steps: u64,
    /// Messages that arrived.
    pub messages: u64,
    /// Terms that had a leader.
    pub elections: u64,
    /// Entries that were committed.
    pub committed: u64,
    /// Operations of clients that were answered.
    pub answered: u64,
    /// Processes that ended, each of them started again.
    pub crashes: u64,
    /// Nodes that were given up because their disks forgot something.
    pub given_up: u64,
}

impl Totals {
    /// Adds those of another run.
    pub fn add(&mut self, other: &Totals) {
        self.micros += other.micros;
        self.events += other.events;
        self.steps += other.steps;
        self.messages += other.messages;
        self.elections += other.elections;
        self.committed += other.committed;
        self.answered += other.answered;
        self.crashes += other.crashes;
        self.given_up += other.given_up;
    }
}
