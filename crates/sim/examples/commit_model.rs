//! Plays runs of the commit protocol's model: the sound one, or one of its mutants.
//!
//! ```text
//! cargo run --release -p holm-sim --example commit_model -- seeds 0..1000000
//! cargo run --release -p holm-sim --example commit_model -- mutant no_marker
//! cargo run --release -p holm-sim --example commit_model -- mutant no_t2 boosted end trace
//! ```
//!
//! Words: `seeds A..B`, `mutant NAME`; `si` (snapshot isolation instead of serializable), `boosted`
//! (runs in which rare bugs show), `end` (judge only what is visible at the end), `trace` (print
//! the shortest run that fails), `names` (print the names of the mutants).

#![expect(clippy::disallowed_methods, reason = "a measurement needs a clock")]

use std::process::ExitCode;
use std::time::Instant;

use holm_sim::commit_model::{Checks, Isolation, Mutant, SOUND, Shape, World, run, shortest};

struct Wish {
    seeds: std::ops::Range<u64>,
    shape: Shape,
    isolation: Isolation,
    checks: Checks,
    trace: bool,
}

fn main() -> ExitCode {
    let mut wish = Wish {
        seeds: 0..1_000_000,
        shape: Shape::Wide,
        isolation: Isolation::Serializable,
        checks: Checks::EveryStep,
        trace: false,
    };
    let mut mutant = None;
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "si" => wish.isolation = Isolation::Snapshot,
            "boosted" => wish.shape = Shape::Boosted,
            "end" => wish.checks = Checks::End,
            "trace" => wish.trace = true,
            "names" => {
                Mutant::ALL.iter().for_each(|mutant| println!("{}", mutant.name()));
                return ExitCode::SUCCESS;
            }
            "seeds" => {
                let range = words.next().unwrap_or_default();
                let ends = range.split_once("..").and_then(|(from, to)| {
                    Some((from.parse::<u64>().ok()?, to.parse::<u64>().ok()?))
                });
                let Some((from, to)) = ends else {
                    eprintln!("expected seeds such as 0..1000, found `{range}`");
                    return ExitCode::from(2);
                };
                wish.seeds = from..to;
            }
            "mutant" => {
                let name = words.next().unwrap_or_default();
                mutant = Mutant::ALL.iter().find(|mutant| mutant.name() == name);
                if mutant.is_none() {
                    eprintln!("no mutant is called `{name}`; `names` prints them");
                    return ExitCode::from(2);
                }
            }
            word => {
                eprintln!("unknown word `{word}`; see the head of this example");
                return ExitCode::from(2);
            }
        }
    }
    // Each mutant is a program of its own.
    match mutant.map_or(SOUND, |mutant| *mutant as u8) {
        1 => play::<1>(&wish),
        2 => play::<2>(&wish),
        3 => play::<3>(&wish),
        4 => play::<4>(&wish),
        5 => play::<5>(&wish),
        6 => play::<6>(&wish),
        7 => play::<7>(&wish),
        8 => play::<8>(&wish),
        9 => play::<9>(&wish),
        10 => play::<10>(&wish),
        11 => play::<11>(&wish),
        12 => play::<12>(&wish),
        13 => play::<13>(&wish),
        14 => play::<14>(&wish),
        15 => play::<15>(&wish),
        16 => play::<16>(&wish),
        _ => play::<SOUND>(&wish),
    }
}

fn play<const M: u8>(wish: &Wish) -> ExitCode {
    let mut world = World::new(wish.checks);
    let begin = Instant::now();
    for seed in wish.seeds.clone() {
        if let Err(failure) = run::<M>(&mut world, seed, wish.shape, wish.isolation) {
            let seconds = begin.elapsed().as_secs_f64();
            let seeds = seed + 1 - wish.seeds.start;
            let name = failure.violation.name;
            println!(
                "seed {seed} failed after {seeds} seeds, {seconds:.1} s: {name}: {}",
                failure.violation.what
            );
            if wish.trace {
                let short = shortest::<M>(&failure, wish.shape, wish.isolation, wish.checks);
                println!("{}\nwhat the clients saw:\n{}", short.trace, short.history);
            }
            return ExitCode::FAILURE;
        }
    }
    let seconds = begin.elapsed().as_secs_f64();
    let seeds = wish.seeds.end - wish.seeds.start;
    println!("{seeds} runs without a violation: {:?}", world.tally());
    println!("{seconds:.1} s, {:.0} runs/s", seeds as f64 / seconds);
    ExitCode::SUCCESS
}
