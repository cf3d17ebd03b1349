//! How long a register's history takes to check: `cargo run --release -p holm-sim --example
//! linearizability`. One line for each size: operations, clients at once, share of unanswered ones.

#![expect(clippy::disallowed_methods, reason = "a measurement needs a clock")]

use std::time::Instant;

use holm_sim::checker::{Level, Options, linearizable};

#[path = "../tests/it/clients.rs"]
mod clients;
#[path = "../tests/it/executor.rs"]
#[expect(dead_code, reason = "the generator of another workload lives there, too")]
mod executor;

fn main() {
    println!("operations  clients  unanswered  seconds  operations/s");
    for (operations, clients, unanswered) in [
        (1_000, 5, 0),
        (10_000, 5, 0),
        (100_000, 5, 0),
        (100_000, 10, 0),
        (10_000, 20, 0),
        (10_000, 5, 50),
        (10_000, 10, 50),
        (10_000, 10, 10),
        (100_000, 10, 50),
    ] {
        let size = clients::Clients { operations, clients, values: 1_000_000, unanswered };
        let history = clients::play(7, size);
        let begin = Instant::now();
        let report = linearizable::check(&history, &Options::at(Level::StrictSerializable));
        let seconds = begin.elapsed().as_secs_f64();
        assert!(report.is_valid(), "{report}");
        let share = if unanswered == 0 { "none".into() } else { format!("1 in {unanswered}") };
        let rate = operations as f64 / seconds;
        println!("{operations:>10}  {clients:>7}  {share:>10}  {seconds:>7.3}  {rate:>12.0}");
    }
}
