//! Random worlds: some thousands of seeds, each of which has to keep every invariant and to live.
//!
//! `HOLM_RAFT_SEEDS=100000` runs more, `HOLM_RAFT_SEED=7` one of them with its trace.

use std::time::Instant;

use crate::world::{Totals, World};

/// How long faults go on in each world, in ticks: fifty election timeouts.
const FAULTY_TICKS: u64 = 5_000;

#[test]
#[allow(clippy::disallowed_methods, reason = "it says how fast it was")]
fn random_worlds_keep_the_invariants_and_live() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let one = number("HOLM_RAFT_SEED");
    let seeds = match one {
        Some(seed) => seed..seed + 1,
        None => 0..number("HOLM_RAFT_SEEDS").unwrap_or(1_000),
    };
    let begun = Instant::now();
    let mut totals = Totals::default();
    for seed in seeds.clone() {
        let run = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            world.trace = one.is_some();
            world.run(FAULTY_TICKS);
            world.totals
        });
        let Ok(run) = run else {
            panic!("seed {seed} failed: HOLM_RAFT_SEED={seed} shows how");
        };
        totals.steps += run.steps;
        totals.ticks += run.ticks;
        totals.committed += run.committed;
        totals.reads += run.reads;
        totals.elections += run.elections;
        totals.images += run.images;
        totals.changes += run.changes;
        totals.quiet += run.quiet;
    }
    let seconds = begun.elapsed().as_secs_f64();
    eprintln!(
        "{} worlds, {totals:?}, {:.1} s, {:.0} steps/s",
        seeds.end - seeds.start,
        seconds,
        totals.steps as f64 / seconds
    );
}
