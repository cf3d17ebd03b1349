//! How long a large history takes: `cargo test --release -p holm-sim -- --ignored --nocapture`.

#![expect(clippy::disallowed_methods, reason = "a measurement needs a clock")]

use std::time::Instant;

use holm_sim::checker::{Level, Options, list_append, register, timestamps};

use crate::executor::{Fault, SMALL, Size, run};

fn check(fault: Fault, sessions: usize, keys: usize) {
    let size = Size { transactions: 100_000, sessions, keys, ops: 9, ..SMALL };
    for registers in [false, true] {
        let history = run(1, fault, Size { registers, ..size });
        let operations: usize = history.transactions.iter().map(|t| t.ops.len()).sum();
        let options = Options::at(Level::StrictSerializable);
        let begin = Instant::now();
        let report = if registers {
            register::check(&history, &options)
        } else {
            list_append::check(&history, &options)
        };
        let checked = begin.elapsed();
        let begin = Instant::now();
        let _ = timestamps::check(&history, &options);
        println!(
            "{fault:?} registers={registers} sessions={sessions} keys={keys} \
             operations={operations} valid={}: {checked:.2?}, timestamps {:.2?}",
            report.is_valid(),
            begin.elapsed()
        );
    }
}

#[test]
#[ignore = "a measurement"]
fn a_hundred_thousand_transactions() {
    check(Fault::None, 20, 5_000);
    check(Fault::None, 500, 20_000);
    check(Fault::NoReadValidation, 20, 5_000);
    check(Fault::StaleSnapshot, 20, 5_000);
    check(Fault::NoValidation, 50, 5_000);
    check(Fault::ReadCommitted, 50, 5_000);
    check(Fault::DirtyReads, 50, 5_000);
}
