//! What is done to a database, from a seed.

use env::SeededRandom;
use holm::Durability;

/// One step of a workload.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// A transaction that writes keys and perhaps deletes a range; with `is_pending` nobody waits
    /// for it yet.
    Commit {
        writes: Vec<Put>,
        deletes: Option<(u8, u8)>,
        durability: Durability,
        is_pending: bool,
    },
    /// Waits for the oldest commit in flight.
    Wait,
    /// Forgets the oldest commit in flight; it happens all the same.
    Abandon,
    Keyspace(u8),
    Sync,
    Checkpoint,
    /// What the background does.
    Maintain,
    Advance(u64),
    /// Holds a snapshot, so that nothing it sees may be forgotten.
    Hold,
    Release,
    /// Closes the database and opens it again; without `is_clean` the handle is dropped.
    Reopen {
        is_clean: bool,
    },
}

/// One write: which keyspace, which key, how long a value; none deletes.
#[derive(Debug, Clone)]
pub(crate) struct Put {
    pub(crate) keyspace: u8,
    pub(crate) key: u8,
    pub(crate) value_bytes: Option<usize>,
}

/// How many keys a keyspace has: few, so that they are overwritten and deleted often.
pub(crate) const KEYS: u64 = 12;

/// How many keyspaces there are.
pub(crate) const KEYSPACES: u64 = 3;

/// Returns the steps of a workload.
pub(crate) fn workload(seed: u64, len: usize) -> Vec<Step> {
    let mut random = SeededRandom::new(seed);
    let mut steps = vec![Step::Keyspace(0)];
    while steps.len() < len {
        if random.chance(30) {
            burst(&mut random, &mut steps);
        } else {
            steps.push(step(&mut random));
        }
    }
    steps
}

fn step(random: &mut SeededRandom) -> Step {
    match random.below(100) {
        0..62 => commit(random),
        62..66 => Step::Wait,
        66..68 => Step::Abandon,
        68..72 => Step::Keyspace(random.below(KEYSPACES) as u8),
        72..75 => Step::Sync,
        75..81 => Step::Checkpoint,
        81..88 => Step::Maintain,
        88..92 => Step::Advance(random.below(40)),
        92..94 => Step::Hold,
        94..96 => Step::Release,
        _ => Step::Reopen { is_clean: random.chance(500) },
    }
}

/// Commits that are all in flight when a checkpoint is written: its timestamp lies before them.
fn burst(random: &mut SeededRandom, steps: &mut Vec<Step>) {
    for _ in 0..2 + random.below(3) {
        let puts = vec![put(random)];
        let durability = Durability::Sync;
        steps.push(Step::Commit { writes: puts, deletes: None, durability, is_pending: true });
    }
    steps.push(Step::Checkpoint);
}

fn commit(random: &mut SeededRandom) -> Step {
    let count = 1 + random.below(4);
    let puts = (0..count).map(|_| put(random)).collect();
    let from = random.below(KEYS) as u8;
    let deletes = random.chance(80).then(|| (from, from + random.below(6) as u8));
    let durability = match random.below(10) {
        0..6 => Durability::Sync,
        6..8 => Durability::Buffered,
        _ => Durability::None,
    };
    Step::Commit { writes: puts, deletes, durability, is_pending: random.chance(250) }
}

fn put(random: &mut SeededRandom) -> Put {
    let value_bytes = match random.below(20) {
        0..4 => None,
        4..15 => Some(random.below(60) as usize),
        15..19 => Some(500 + random.below(3000) as usize),
        _ => Some(9_000 + random.below(12_000) as usize),
    };
    let (keyspace, key) = (random.below(KEYSPACES) as u8, random.below(KEYS) as u8);
    Put { keyspace, key, value_bytes }
}
