//! Worlds from seeds: each has to keep every invariant and to live.
//!
//! `HOLM_SIM_SEEDS=100000` runs more, `HOLM_SIM_SEED=7` one of them with its trace.

use holm_sim::world::{self, LEGEND, RaftNode, Setup, Totals};

/// Seeds of a usual run of the tests.
const SEEDS: u64 = 200;

#[test]
fn worlds_keep_the_invariants_and_live() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let one = number("HOLM_SIM_SEED");
    let seeds = match one {
        Some(seed) => seed..seed + 1,
        None => 0..number("HOLM_SIM_SEEDS").unwrap_or(SEEDS),
    };
    let mut totals = Totals::default();
    for seed in seeds {
        let setup = Setup { keeps_trace: one.is_some(), ..Setup::new(seed) };
        let outcome = world::run::<RaftNode>(&setup);
        if one.is_some() {
            eprintln!("{LEGEND}\n{}", outcome.trace);
        }
        if let Some(violation) = outcome.violation {
            panic!("seed {seed} failed: {violation}\nHOLM_SIM_SEED={seed} shows how");
        }
        totals.add(&outcome.totals);
    }
    eprintln!("{totals:?}");
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in 0..12 {
        let setup = Setup { keeps_trace: true, ..Setup::new(seed) };
        let (first, again) = (world::run::<RaftNode>(&setup), world::run::<RaftNode>(&setup));
        assert_eq!(first.digest, again.digest);
        assert!(first.trace == again.trace, "seed {seed} has two traces");
        assert!(first.trace.lines().count() > 1000, "nothing happened");
        let silent = world::run::<RaftNode>(&Setup::new(seed));
        assert_eq!(first.digest, silent.digest, "looking changes nothing");
        assert_eq!(first.history, silent.history);
    }
}
