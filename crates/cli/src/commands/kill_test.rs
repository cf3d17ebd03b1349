//! `holm kill-test`, hidden, run by `scripts/kill-test`: a process killed at random times, hundreds
//! of times over, and every byte compared afterwards.
//!
//! Threads of a child process run transactions that follow from the seed alone ([`model`]), so that
//! the parent knows every byte that each of them writes without being told. The child says only "up
//! to transaction n of thread t is durable". After each kill the database must be exactly what
//! *some* number of transactions of each thread makes of it: no fewer than were acknowledged, no
//! more than could have been under way.
//!
//! ```text
//!   thread 3:   1  2  3  4  5  6  7  8                    the child was killed here
//!                        ^ acknowledged   ^ under way
//!   found:      exactly the bytes after 5, or 6, or 7, or 8; the database says which
//! ```
//!
//! Some kills come while the child is still opening, so recovery is interrupted too; the log is cut
//! into small segments and flushes and compactions are frequent, so those are hit as well.

mod child;
mod model;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use env::SeededRandom;
use holm::{Db, Options};
use serde_json::json;

pub(crate) use self::child::{ChildArgs, run as run_child};
use self::model::Model;
use super::Context;
use crate::exit::{Failure, Result};
use crate::progress;
use crate::table::{grouped, pairs};
use crate::victim::{Heard, Victim};

/// Kills a process hundreds of times and compares every byte afterwards.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How often.
    #[arg(long, default_value_t = 200)]
    kills: u32,

    /// Threads of the process.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=64))]
    threads: u32,

    /// Seed of the transactions and of the moments of the kills.
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// The directory to work in, which must not exist; otherwise a new one here.
    #[arg(long)]
    dir: Option<PathBuf>,
}

/// Longest life of a child, in milliseconds: long enough for some flushes.
const LIFE_MS_MAX: u64 = 500;

/// Longest life of one that shall be killed while it opens, in milliseconds.
const OPENING_MS_MAX: u64 = 25;

/// How the database is opened: everything that can be interrupted happens often.
fn options() -> Options {
    Options::new()
        .segment_bytes(64 << 10, 512 << 10)
        .log_bytes(512 << 10)
        .memtable_bytes(256 << 10)
        .buffered(Duration::from_millis(5), 64 << 10)
        .retention(Duration::from_millis(50))
}

/// What was seen.
#[derive(Default)]
struct Counts {
    kills: u32,
    kills_while_opening: u32,
    acknowledged: u64,
    unheard: u64,
    values_compared: u64,
    replayed: u64,
    torn_bytes: u64,
    opened_with_tables: u64,
}

pub(crate) fn run(context: &mut Context, args: Args) -> Result {
    let directory =
        args.dir.unwrap_or_else(|| PathBuf::from(format!("holm-kill-test-{}", std::process::id())));
    if directory.exists() {
        return Err(Failure::new(format!("{}: it exists already", directory.display())));
    }
    let mut random = SeededRandom::new(args.seed);
    let mut model = Model::new(args.seed, args.threads);
    let mut counts = Counts::default();
    let started = Instant::now();
    let bar = progress::message();
    while counts.kills < args.kills {
        let arguments = [
            "kill-test-child".to_string(),
            format!("--seed={}", args.seed),
            format!("--threads={}", args.threads),
        ];
        let victim = Victim::start(&directory, &arguments)?;
        // One in four is not given the time to open.
        let life_ms = match random.chance(250) {
            true => random.below(OPENING_MS_MAX),
            false => OPENING_MS_MAX + random.below(LIFE_MS_MAX - OPENING_MS_MAX),
        };
        let until = Instant::now() + Duration::from_millis(life_ms);
        let mut lines = Vec::new();
        while let Heard::Line(line) = victim.hear(until) {
            lines.push(line);
            if Instant::now() >= until {
                break;
            }
        }
        lines.extend(victim.kill()?);
        counts.kills += 1;
        counts.kills_while_opening += u32::from(lines.is_empty());
        let before = model.acknowledged_total();
        let found = lines.iter().try_for_each(|line| model.acknowledged(line));
        counts.acknowledged += model.acknowledged_total() - before;
        // Sometimes the next child has only tables to open, mostly also a log.
        let tidies = random.chance(250);
        let found = found.and_then(|()| compare(&directory, &mut model, &mut counts, tidies));
        found.map_err(|failure| {
            failure.at(format!(
                "after kill {} with --seed {}, {} is kept",
                counts.kills,
                args.seed,
                directory.display()
            ))
        })?;
        bar.set_message(format!("{} kills, {} acknowledged", counts.kills, counts.acknowledged));
    }
    bar.finish_and_clear();
    std::fs::remove_dir_all(&directory).map_err(Failure::io(&directory, "remove"))?;
    show(context, &counts, args.seed, started.elapsed())
}

/// Opens the database and compares every byte of it with the model.
fn compare(directory: &Path, model: &mut Model, counts: &mut Counts, tidies: bool) -> Result {
    let db: Db = options().open(directory)?;
    let recovery = db.stats().recovery;
    counts.replayed += recovery.replayed;
    counts.torn_bytes += recovery.torn_bytes;
    counts.opened_with_tables += u64::from(recovery.tables > 0);
    let (unheard, values) = model.compare(&db)?;
    counts.unheard += unheard;
    counts.values_compared += values;
    if tidies {
        // Forgets the past first, which would go into tables otherwise.
        db.maintain();
        db.flush()?;
    }
    db.verify()?;
    Ok(db.close()?)
}

fn show(context: &mut Context, counts: &Counts, seed: u64, took: Duration) -> Result {
    let output = &mut context.output;
    if output.is_json() {
        return output.json(&json!({
            "seed": seed,
            "kills": counts.kills,
            "kills_while_opening": counts.kills_while_opening,
            "acknowledged": counts.acknowledged,
            "unheard": counts.unheard,
            "values_compared": counts.values_compared,
            "replayed": counts.replayed,
            "torn_bytes": counts.torn_bytes,
            "lost": 0,
            "torn": 0,
            "strangers": 0,
        }));
    }
    output.line(&pairs([
        ("seed", seed.to_string()),
        (
            "kills",
            format!(
                "{}, {} of them before it had opened",
                counts.kills, counts.kills_while_opening
            ),
        ),
        ("acknowledged", format!("{} transactions", grouped(counts.acknowledged))),
        ("committed, not yet acknowledged", grouped(counts.unheard)),
        ("values compared", grouped(counts.values_compared)),
        (
            "recovered",
            format!(
                "{} transactions replayed, {} bytes cut off, {} times with tables",
                grouped(counts.replayed),
                grouped(counts.torn_bytes),
                counts.opened_with_tables
            ),
        ),
        // The first of these ends the test, with its place.
        ("lost, torn, strangers", "0, 0, 0".to_string()),
        ("took", format!("{} s", took.as_secs())),
    ]))
}
