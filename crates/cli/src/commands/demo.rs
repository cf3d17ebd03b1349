//! `holm demo`: a bank whose process is killed, again and again, and loses nothing.
//!
//! ```text
//!   parent                                   child, the same program
//!   ──────                                   ───────────────────────
//!   start ──────────────────────────────────► threads move money between accounts, each transfer
//!     ◄── "t …" for each transfer, once ────  one serializable transaction that leaves a receipt;
//!         it is durable                       a reader sums all accounts at snapshots
//!   SIGKILL at a random moment ──────────────✗
//!   open (recovery), compare with what was heard, start the next
//! ```
//!
//! What is compared: every acknowledged transfer has its receipt, every receipt is acknowledged or
//! was under way when the process was killed, and every balance is what the receipts make of it.

mod child;
mod ledger;
mod result;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use env::SeededRandom;
use indicatif::ProgressBar;

pub(crate) use self::child::{ChildArgs, run as run_child};
use self::ledger::Ledger;
use self::result::Outcome;
use super::Context;
use crate::exit::{Failure, Result};
use crate::progress;
use crate::table::grouped;
use crate::victim::{Heard, Victim};

/// Shows what Holm is for: concurrent transactions, and a process that is killed in the middle.
///
/// Bank accounts, threads that move money between them in serializable transactions, a reader that
/// sums them all the while. The process is killed with SIGKILL several times at random moments;
/// after each the database is opened again and compared with what it had acknowledged. The exit
/// code is 1 if one coin or one acknowledged transfer is missing.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How long, in seconds.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,

    /// How often the process is killed.
    #[arg(long, default_value_t = 5)]
    kills: u32,

    /// Threads that move money.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=256))]
    threads: u32,

    /// Accounts.
    #[arg(
        long,
        default_value_t = 100,
        value_parser = clap::value_parser!(u32).range(2..=1_000_000)
    )]
    accounts: u32,

    /// The directory to work in, which must not exist; otherwise a new one here.
    #[arg(long)]
    dir: Option<PathBuf>,

    /// Keeps the directory; otherwise it is removed if all is well.
    #[arg(long)]
    keep: bool,

    /// Seed of the moments of the kills and of the transfers; otherwise a new one each time.
    #[arg(long)]
    seed: Option<u64>,
}

pub(crate) fn run(context: &mut Context, args: Args) -> Result {
    if !(args.seconds > 0.0 && args.seconds <= 86_400.0) {
        return Err(Failure::usage("--seconds: more than 0 and at most 86400 are wanted"));
    }
    let directory = fresh_directory(args.dir.as_deref())?;
    let seed = args.seed.unwrap_or_else(|| u64::from(std::process::id()) ^ ledger::wall_ms());
    if !context.output.is_json() {
        context.output.line(&format!(
            "{} accounts, {} threads, {} kills, seed {seed}, in {}",
            grouped(args.accounts.into()),
            args.threads,
            args.kills,
            directory.display()
        ))?;
        context.output.flush()?;
    }
    let mut demo = Demo {
        random: SeededRandom::new(seed),
        ledger: Ledger::open_accounts(&directory, args.accounts)?,
        outcome: Outcome::default(),
        bar: progress::message(),
        args,
        directory,
    };
    demo.run()?;
    demo.bar.finish_and_clear();
    demo.outcome.show(&mut context.output)?;
    demo.close()
}

/// Returns a directory that did not exist.
fn fresh_directory(asked: Option<&Path>) -> Result<PathBuf> {
    let path = asked.map_or_else(
        || PathBuf::from(format!("holm-demo-{}", std::process::id())),
        Path::to_path_buf,
    );
    if path.exists() {
        return Err(Failure::new(format!(
            "{}: it exists already: name another directory with --dir",
            path.display()
        )));
    }
    Ok(path)
}

struct Demo {
    args: Args,
    directory: PathBuf,
    random: SeededRandom,
    ledger: Ledger,
    outcome: Outcome,
    bar: ProgressBar,
}

impl Demo {
    fn run(&mut self) -> Result {
        let mut left = Duration::from_secs_f64(self.args.seconds);
        for run in 0..=self.args.kills {
            let is_last = run == self.args.kills;
            let share = left / (self.args.kills - run + 1);
            // Between half and three halves of its share, so that no two runs are alike.
            let length = if is_last { left } else { share.mul_f64(0.5 + self.fraction()) };
            left = left.saturating_sub(length);
            let started = Instant::now();
            let victim = self.start(run)?;
            self.listen(&victim, started + length)?;
            self.outcome.worked += started.elapsed();
            let rest = if is_last { victim.end()? } else { victim.kill()? };
            self.outcome.kills += u32::from(!is_last);
            rest.iter().try_for_each(|line| self.heard(line))?;
            self.outcome.check(self.ledger.compare(
                &self.directory,
                run,
                self.in_flight(is_last),
            )?);
        }
        Ok(())
    }

    fn start(&mut self, run: u32) -> Result<Victim> {
        let arguments = [
            "demo-child".to_string(),
            format!("--threads={}", self.args.threads),
            format!("--accounts={}", self.args.accounts),
            format!("--seed={}", self.random.next_u64()),
            format!("--run={run}"),
        ];
        Victim::start(&self.directory, &arguments)
    }

    fn listen(&mut self, victim: &Victim, until: Instant) -> Result {
        loop {
            match victim.hear(until) {
                Heard::Line(line) => self.heard(&line)?,
                Heard::Nothing => return Ok(()),
                Heard::End => {
                    return Err(Failure::new(format!(
                        "the child process ended by itself; {} is kept for a look",
                        self.directory.display()
                    )));
                }
            }
            if Instant::now() >= until {
                return Ok(());
            }
        }
    }

    /// Takes note of a line of the child.
    fn heard(&mut self, line: &str) -> Result {
        let words: Vec<&str> = line.split(' ').collect();
        let number =
            |index: usize| words.get(index).and_then(|word: &&str| word.parse::<u64>().ok());
        match (words.first(), number(3), number(4)) {
            (Some(&"t"), Some(latency_us), Some(attempts)) => {
                self.ledger.acknowledged(words[1], words[2]);
                self.outcome.committed(latency_us, attempts);
                if self.outcome.transactions().is_multiple_of(256) {
                    self.bar.set_message(format!(
                        "{} transfers, {} kills survived",
                        grouped(self.outcome.transactions()),
                        self.outcome.kills
                    ));
                }
                Ok(())
            }
            (Some(&"s"), ..) => {
                let sum = number(1);
                self.outcome.summed(sum == Some(self.ledger.total()));
                Ok(())
            }
            _ => Err(Failure::new(format!("the child process said {line:?}, which means nothing"))),
        }
    }

    /// How many transfers may be found that nobody heard of.
    fn in_flight(&self, is_last: bool) -> u64 {
        if is_last { 0 } else { u64::from(self.args.threads) }
    }

    /// Removes the directory if all is well.
    fn close(self) -> Result {
        if let Some(wrong) = self.outcome.wrong() {
            return Err(Failure::new(format!(
                "{wrong}: this is a bug in Holm; {} is kept for a look",
                self.directory.display()
            )));
        }
        if self.args.keep {
            return Ok(());
        }
        std::fs::remove_dir_all(&self.directory).map_err(Failure::io(&self.directory, "remove"))
    }

    fn fraction(&mut self) -> f64 {
        self.random.below(1 << 20) as f64 / f64::from(1 << 20)
    }
}
