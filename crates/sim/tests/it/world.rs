//! Worlds from seeds: each has to keep every invariant and to live.
//!
//! `HOLM_SIM_SEEDS=100000` runs more, `HOLM_SIM_SEED=7` one of them with its trace.

use holm_sim::world::{self, LEGEND, Node, RaftNode, ReplicaNode, Setup, Totals};

/// Seeds of a usual run of the tests.
const SEEDS: u64 = 200;

/// The same of the node that is the database: ten times the work.
const REPLICA_SEEDS: u64 = 30;

#[test]
fn worlds_keep_the_invariants_and_live() {
    play::<RaftNode>(SEEDS);
}

#[test]
fn worlds_of_replicas_keep_the_invariants_and_live() {
    play::<ReplicaNode>(REPLICA_SEEDS);
}

fn play<N: Node>(usual: u64) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let one = number("HOLM_SIM_SEED");
    let seeds = match one {
        Some(seed) => seed..seed + 1,
        None => 0..number("HOLM_SIM_SEEDS").unwrap_or(usual),
    };
    let mut totals = Totals::default();
    for seed in seeds {
        let setup = Setup { keeps_trace: one.is_some(), ..Setup::new(seed) };
        let outcome = world::run::<N>(&setup);
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
    the_same::<RaftNode>(12);
    the_same::<ReplicaNode>(3);
}

fn the_same<N: Node>(seeds: u64) {
    for seed in 0..seeds {
        let setup = Setup { keeps_trace: true, ..Setup::new(seed) };
        let (first, again) = (world::run::<N>(&setup), world::run::<N>(&setup));
        assert_eq!(first.digest, again.digest);
        assert!(first.trace == again.trace, "seed {seed} has two traces");
        assert!(first.trace.lines().count() > 1000, "nothing happened");
        let silent = world::run::<N>(&Setup::new(seed));
        assert_eq!(first.digest, silent.digest, "looking changes nothing");
        assert_eq!(first.history, silent.history);
    }
}
