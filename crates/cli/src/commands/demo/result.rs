//! What the demo has seen, and how it is told.

use std::time::Duration;

use serde_json::json;

use super::ledger::Comparison;
use crate::exit::Result;
use crate::output::Output;
use crate::table::{grouped, pairs};

#[derive(Default)]
pub(super) struct Outcome {
    latencies_us: Vec<u64>,
    attempts: u64,
    sums: u64,
    wrong_sums: u64,
    pub(super) kills: u32,
    /// How long the child processes ran.
    pub(super) worked: Duration,
    unheard: u64,
    lost: u64,
    replayed: u64,
    longest_opening: Duration,
    wrong: Vec<String>,
}

impl Outcome {
    pub(super) fn committed(&mut self, latency_us: u64, attempts: u64) {
        self.latencies_us.push(latency_us);
        self.attempts += attempts;
    }

    pub(super) fn summed(&mut self, is_exact: bool) {
        self.sums += 1;
        self.wrong_sums += u64::from(!is_exact);
    }

    pub(super) fn check(&mut self, found: Comparison) {
        self.unheard += found.unheard;
        self.lost += found.lost;
        self.wrong.extend(found.wrong);
        self.replayed += found.recovery.replayed;
        self.longest_opening = self.longest_opening.max(found.opening);
    }

    pub(super) fn transactions(&self) -> u64 {
        self.latencies_us.len() as u64
    }

    /// Returns what is wrong, in a sentence; `None` if all is well.
    pub(super) fn wrong(&self) -> Option<String> {
        if self.lost > 0 {
            return Some(format!("{} acknowledged transfers are lost", self.lost));
        }
        if self.wrong_sums > 0 {
            return Some(format!("{} sums while running were not the total", self.wrong_sums));
        }
        self.wrong.first().cloned()
    }

    pub(super) fn show(&mut self, output: &mut Output) -> Result {
        self.latencies_us.sort_unstable();
        let count = self.latencies_us.len();
        let latency = |share: f64| {
            let index = ((count as f64 * share) as usize).min(count.saturating_sub(1));
            self.latencies_us.get(index).copied().unwrap_or(0)
        };
        let (p50, p99, longest) = (latency(0.5), latency(0.99), latency(1.0));
        let transactions = self.transactions();
        let per_second = (transactions as f64 / self.worked.as_secs_f64().max(1e-9)) as u64;
        let retries = self.attempts - transactions;
        let opening_ms = self.longest_opening.as_millis() as u64;
        let is_exact = self.wrong.is_empty() && self.wrong_sums == 0;
        if output.is_json() {
            return output.json(&json!({
                "transactions": transactions,
                "retries": retries,
                "transactions_per_second": per_second,
                "latency_us": { "p50": p50, "p99": p99, "max": longest },
                "sums_while_running": self.sums,
                "kills_survived": self.kills,
                "longest_recovery_ms": opening_ms,
                "replayed": self.replayed,
                "unheard": self.unheard,
                "lost": self.lost,
                "total_always_exact": is_exact,
                "wrong": self.wrong,
            }));
        }
        let ms = |us: u64| format!("{:.2} ms", us as f64 / 1000.0);
        output.line(&pairs([
            (
                "transactions",
                format!("{} transfers, each durable when acknowledged", grouped(transactions)),
            ),
            (
                "aborts",
                format!("{} conflicts, each run again until it committed", grouped(retries)),
            ),
            ("throughput", format!("{} transactions/s", grouped(per_second))),
            ("latency", format!("p50 {}, p99 {}, max {}", ms(p50), ms(p99), ms(longest))),
            (
                "sums while running",
                format!("{}, {} of them wrong", grouped(self.sums), self.wrong_sums),
            ),
            ("kills survived", self.kills.to_string()),
            (
                "recovery",
                format!(
                    "{opening_ms} ms at most, {} transactions replayed",
                    grouped(self.replayed)
                ),
            ),
            ("committed, not yet acknowledged", format!("{} when killed", self.unheard)),
            ("acknowledged and lost", self.lost.to_string()),
            ("total always exact", if is_exact { "yes" } else { "NO" }.to_string()),
        ]))?;
        self.wrong.iter().try_for_each(|wrong| output.line(&format!("WRONG: {wrong}")))?;
        output.flush()
    }
}
