//! The machine stops at every operation of the disk, and everything that was not synced is lost,
//! kept, or torn; then it stops again while it recovers, and in its second life.

use std::collections::BTreeSet;

use env::{CrashMode, ManualClock, SeededRandom, SimDisk};

use crate::history::History;
use crate::workload::{Step, workload};
use crate::world::{Tally, World, tiny};

/// Steps of a workload: enough for several checkpoints, reopenings and used-again segments.
const STEPS: usize = 120;

/// Returns how many times more seeds than usual are wanted.
pub(crate) fn seeds_factor() -> u64 {
    std::env::var("HOLM_CRASH_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

fn modes(torn: u64) -> impl Iterator<Item = CrashMode> {
    [CrashMode::LoseUnsynced, CrashMode::KeepUnsynced]
        .into_iter()
        .chain((0..torn).map(CrashMode::Torn))
}

/// Runs a workload on a new disk that stops at an operation.
fn run_until_stop(steps: &[Step], stop: u64) -> World {
    let mut world = World::new(tiny());
    world.context = format!("before the stop at {stop}");
    world.disk.stop_at(stop);
    let outcome = world.run(steps);
    assert!(world.disk.is_stopped() == outcome.is_err() || outcome.is_ok(), "{outcome:?}");
    if let Some(db) = &world.db {
        world.history.note_floor(db);
    }
    world
}

/// Recovers a crashed disk and checks it; returns the world, open.
pub(crate) fn recover(
    disk: SimDisk,
    clock: &ManualClock,
    history: &History,
    context: &str,
) -> World {
    let mut world = World::resume(disk, clock.clone(), tiny(), history.clone());
    world.context = context.to_owned();
    world.open().unwrap_or_else(|error| panic!("{context}: {error}"));
    world
}

/// Figures of a run, for its last line.
#[derive(Default)]
struct Figures {
    stops: u64,
    recoveries: u64,
}

/// Stops at every operation of the workload of a seed; `second` is given each recovered world.
fn stop_everywhere(
    seed: u64,
    torn: u64,
    every: u64,
    mut second: impl FnMut(&World, CrashMode, &mut World),
) -> Figures {
    let steps = workload(seed, STEPS);
    let mut figures = Figures::default();
    let mut stop = 0;
    loop {
        let world = run_until_stop(&steps, stop);
        for mode in modes(torn) {
            let context = format!("seed {seed}, stop {stop}, {mode:?}");
            let crashed = world.disk.crash(mode);
            let mut recovered = recover(crashed, &world.clock, &world.history, &context);
            second(&world, mode, &mut recovered);
            figures.recoveries += 1;
        }
        if !world.disk.is_stopped() {
            figures.stops = stop;
            return figures;
        }
        stop += every;
    }
}

/// The operations that the tests below stop at are those of the same workloads here. Each kind that
/// flushes, compactions and the manifest make is among them, and each kind of compaction happens.
#[test]
fn the_workloads_make_every_kind_of_operation() {
    let (mut seen, mut tally) = (BTreeSet::new(), Tally::default());
    for seed in (0..4).chain(100..102).chain(200..201) {
        let mut world = World::new(tiny());
        world.disk.record_trace(true);
        world.run(&workload(seed, STEPS)).unwrap();
        world.check_view();
        world.close(true).unwrap();
        seen.extend(world.disk.trace().iter().map(|line| kind_of(line)));
        tally.join(&world.tally);
    }
    println!("{tally:?}, {seen:?}");
    tally.check_all_happened();
    for kind in [
        "create segment",
        "rename segment",
        "remove segment",
        "sync_dir wal",
        "create table",
        "write_at table",
        "sync table",
        "sync_dir tables",
        "create MANIFEST.tmp",
        "write_at MANIFEST.tmp",
        "sync MANIFEST.tmp",
        "rename MANIFEST.tmp",
        "sync_dir db",
        "remove table",
    ] {
        assert!(seen.contains(kind), "no workload comes to {kind:?}: {seen:?}");
    }
}

/// What an operation does, and to which kind of file: "create table", say.
fn kind_of(line: &str) -> String {
    let mut words = line.split_whitespace().skip(1);
    let (what, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let name = path.rsplit('/').next().unwrap_or_default();
    let file = match name.split_once('.') {
        Some((_, "wal")) => "segment",
        Some((_, "table")) => "table",
        _ => name,
    };
    format!("{what} {file}")
}

#[test]
fn whatever_operation_the_machine_stops_at_a_prefix_with_all_that_was_promised_is_there() {
    for seed in 0..3 * seeds_factor() {
        let figures = stop_everywhere(seed, 4, 1, |_, _, recovered| {
            // It takes writes, and they survive the next loss of power.
            recovered.run(&[Step::Checkpoint]).unwrap();
            recovered.run(&workload(1, 3)).unwrap();
            let again = recovered.disk.crash(CrashMode::LoseUnsynced);
            let context = format!("{}, second life", recovered.context);
            recover(again, &recovered.clock, &recovered.history, &context);
        });
        assert!(figures.stops > 150, "the workload is shorter than thought: {}", figures.stops);
        println!("seed {seed}: {} stops, {} recoveries", figures.stops, figures.recoveries);
    }
}

#[test]
fn a_second_stop_anywhere_in_the_second_life_loses_nothing_either() {
    for seed in 100..100 + 2 * seeds_factor() {
        let mut random = SeededRandom::new(seed);
        let figures = stop_everywhere(seed, 2, 3, |world, mode, _| {
            let again = world.disk.crash(mode);
            again.stop_at(random.below(30));
            let context = format!("seed {seed}, {mode:?}, second life");
            let clock = world.clock.clone();
            let mut second = World::resume(again, clock, tiny(), world.history.clone());
            second.context = context.clone();
            let _ = second.run(&workload(random.next_u64(), 12));
            for mode in [CrashMode::LoseUnsynced, CrashMode::Torn(random.next_u64())] {
                let crashed = second.disk.crash(mode);
                let context = format!("{context}, then {mode:?}");
                recover(crashed, &second.clock, &second.history, &context);
            }
        });
        println!("seed {seed}: {} stops, {} recoveries", figures.stops, 3 * figures.recoveries);
    }
}

#[test]
fn a_recovery_that_is_stopped_anywhere_and_again_and_again_changes_nothing() {
    for seed in 200..200 + seeds_factor() {
        let mut random = SeededRandom::new(seed);
        let (mut stops, mut chains) = (0, 0);
        stop_everywhere(seed, 2, 5, |world, mode, recovered| {
            let expected = recovered.history.len();
            let context = format!("{}, stopped in recovery", recovered.context);
            let mut stop = 0;
            loop {
                let disk = world.disk.crash(mode);
                disk.stop_at(stop);
                let mut stopped =
                    World::resume(disk, world.clock.clone(), tiny(), world.history.clone());
                stopped.context = format!("{context} at {stop}");
                let opened = stopped.open().is_ok();
                let (mut disk, is_whole) = (stopped.disk.clone(), !stopped.disk.is_stopped());
                // And a few more times, at random places.
                for _ in 0..3 {
                    disk = disk.crash(CrashMode::Torn(random.next_u64()));
                    disk.stop_at(random.below(8));
                    let clock = world.clock.clone();
                    let mut next = World::resume(disk, clock, tiny(), world.history.clone());
                    next.context = stopped.context.clone();
                    let _ = next.open();
                    disk = next.disk.clone();
                }
                let disk = disk.crash(CrashMode::LoseUnsynced);
                let last = recover(disk, &world.clock, &world.history, &stopped.context);
                assert_eq!(last.history.len(), expected, "{}: it changed", stopped.context);
                assert!(opened || !is_whole, "{}: it does not open", stopped.context);
                chains += 1;
                if is_whole {
                    break;
                }
                stop += 1;
            }
            stops += stop;
        });
        println!("seed {seed}: {stops} stops of recoveries, {chains} chains of four");
    }
}
