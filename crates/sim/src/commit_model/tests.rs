//! The sound protocol keeps its invariants, and every mutant is caught.
//!
//! A few thousand runs; `scripts/commit-mutants` and the example `commit_model` play millions.

use super::*;
use crate::checker::{Level, Options, register, timestamps};
use crate::history::History;

const SHAPES: [Shape; 2] = [Shape::Wide, Shape::Boosted];
const LEVELS: [(Isolation, Level); 2] = [
    (Isolation::Serializable, Level::StrictSerializable),
    (Isolation::Snapshot, Level::StrictSnapshotIsolation),
];

#[test]
fn sound_protocol_keeps_its_invariants() {
    for shape in SHAPES {
        for (isolation, _) in LEVELS {
            let mut world = World::new(Checks::EveryStep);
            for seed in 0..8_000 {
                if let Err(failure) = run::<SOUND>(&mut world, seed, shape, isolation) {
                    let short = shortest::<SOUND>(&failure, shape, isolation, Checks::EveryStep);
                    panic!("{shape:?} {isolation:?} seed {seed}\n{}", short.trace);
                }
            }
            let Tally { committed, aborted, crashed, recoveries, .. } = world.tally();
            println!("{shape:?} {isolation:?}: {:?}", world.tally());
            // Runs in which nothing happens keep every invariant.
            assert!(committed > 15_000 && aborted > 5_000, "{:?}", world.tally());
            assert!(crashed > 500 && recoveries > 5_000, "{:?}", world.tally());
        }
    }
}

/// Returns how many seeds it takes to catch a mutant.
fn seeds_to_catch<const M: u8>(checks: Checks, seeds_max: u64) -> u64 {
    let mut world = World::new(checks);
    for seed in 0..seeds_max {
        for shape in SHAPES {
            if run::<M>(&mut world, seed, shape, Isolation::Serializable).is_err() {
                return seed + 1;
            }
        }
    }
    panic!("{:?}: not caught in {seeds_max} seeds", Mutant::ALL[M as usize - 1]);
}

macro_rules! check_mutants {
    ($checks:expr, $seeds_max:expr; $($number:literal)*) => {
        $(println!(
            "{:>18} {:>6} seeds",
            Mutant::ALL[$number as usize - 1].name(),
            seeds_to_catch::<$number>($checks, $seeds_max)
        );)*
    };
}

#[test]
fn every_mutant_is_caught_at_the_step_that_breaks_it() {
    assert_eq!(Mutant::ALL.len(), 16, "a mutant is missing below");
    check_mutants!(Checks::EveryStep, 3_000; 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16);
}

#[test]
fn every_mutant_but_the_rarest_is_caught_by_what_is_visible_at_the_end() {
    // `no_t2` (12) takes some thirty thousand runs; `scripts/commit-mutants` plays them.
    check_mutants!(Checks::End, 3_000; 1 2 3 4 5 6 7 8 9 10 11 13 14 15 16);
}

#[test]
fn every_mutant_has_a_name_and_a_number_of_its_own() {
    for (index, mutant) in Mutant::ALL.iter().enumerate() {
        assert_eq!(*mutant as usize, index + 1, "{}", mutant.name());
        assert!(mutant.what().len() > 20);
    }
}

#[test]
fn same_seed_gives_the_same_trace() {
    let failure = || {
        let mut world = World::new(Checks::EveryStep);
        let seeds = 0..;
        let (shape, isolation) = (Shape::Boosted, Isolation::Serializable);
        let mut runs = seeds.map(|seed| run::<7>(&mut world, seed, shape, isolation));
        runs.find_map(Result::err).unwrap()
    };
    let (first, second) = (failure(), failure());
    assert_eq!(first, second);
    assert!(first.trace.lines().count() > 20, "{}", first.trace);
    let (shape, isolation) = (Shape::Boosted, Isolation::Serializable);
    let short = shortest::<7>(&first, shape, isolation, Checks::EveryStep);
    assert_eq!(short, shortest::<7>(&second, shape, isolation, Checks::EveryStep));
    assert_eq!(short.violation.name, first.violation.name);
    assert!(short.steps < first.steps && short.steps <= 70, "{}", short.trace);
}

/// Holds a run's history, with its timestamps, against the checkers of the library.
fn is_explained(history: &History, level: Level) -> bool {
    let options = Options::at(level);
    register::check(history, &options).is_valid() && timestamps::check(history, &options).is_valid()
}

#[test]
fn checkers_of_the_library_accuse_no_sound_run() {
    for shape in SHAPES {
        for (isolation, level) in LEVELS {
            let mut world = World::new(Checks::End);
            for seed in 0..500 {
                run::<SOUND>(&mut world, seed, shape, isolation).unwrap();
                let history = world.history();
                let report = register::check(&history, &Options::at(level));
                assert!(report.is_valid(), "{shape:?} seed {seed}\n{report}\n{history}");
                let report = timestamps::check(&history, &Options::at(level));
                assert!(report.is_valid(), "{shape:?} seed {seed}\n{report}\n{history}");
                let text = history.to_string();
                assert_eq!(text.parse::<History>().unwrap(), history);
            }
        }
    }
}

#[test]
fn checkers_of_the_library_see_every_cycle_that_the_model_sees() {
    fn compare<const M: u8>(seeds: u64) {
        let (isolation, level) = LEVELS[0];
        let mut world = World::new(Checks::End);
        let mut cycles = 0;
        for seed in 0..seeds {
            let played = world.play::<M>(Choices::seed(seed, false), Shape::Boosted, isolation);
            let Err(violation) = played else { continue };
            let history = world.history();
            if violation.name == "cycle" || violation.name == "real-time" {
                cycles += 1;
                assert!(!is_explained(&history, level), "mutant {M} seed {seed}\n{history}");
            }
        }
        assert!(cycles > 5, "mutant {M}: {cycles}");
    }
    compare::<4>(2_000);
    compare::<5>(2_000);
    compare::<9>(2_000);
}
