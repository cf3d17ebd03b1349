//! Registers that transactions set, blindly or after reading them, and read.

use env::SeededRandom;
use holm_sim::checker::{Level, Options, register, timestamps};
use holm_sim::history::{Op, Recorder, Transaction};

use super::world::{InFlight, Place, durability, options, retryable, run_clients, summary};

const KEYS: u64 = 8;

#[test]
fn serializable_on_a_simulated_disk() {
    check(Place::simulated(), Level::StrictSerializable, 4000);
}

#[test]
fn serializable_on_a_real_disk() {
    check(Place::real("register"), Level::StrictSerializable, 1000);
}

#[test]
fn snapshot_isolation_on_a_simulated_disk() {
    check(Place::simulated(), Level::StrictSnapshotIsolation, 4000);
}

fn check(place: Place, level: Level, transactions: u64) {
    let db = place.open(options());
    let space = db.keyspace("registers").unwrap();
    let recorder = Recorder::new();
    run_clients(&db, 6, |client| {
        let mut random = SeededRandom::new(client + 1);
        let mut flight = InFlight::new(&recorder, client);
        for n in 0..transactions {
            let mut builder = db.transaction().durability(durability(&mut random));
            if level == Level::StrictSnapshotIsolation {
                builder = builder.snapshot_isolation();
            }
            let writes_only = random.chance(250);
            let mut attempt = flight.begin();
            let mut txn = builder.begin();
            let mut is_alive = true;
            for op in 0..1 + random.below(4) {
                let key = format!("r{}", random.below(KEYS));
                let value = client * 1_000_000 + n * 10 + op;
                let read = |txn: &mut holm::Transaction, locks: bool| {
                    let value = if locks {
                        retryable(txn.get_for_update(&space, &key))?
                    } else {
                        txn.get(&space, &key).unwrap()
                    };
                    Some(value.map(|value| u64::from_le_bytes((*value).try_into().unwrap())))
                };
                if !writes_only && random.chance(600) {
                    let Some(value) = read(&mut txn, random.chance(250)) else {
                        is_alive = false;
                        break;
                    };
                    flight.op(&mut attempt, Op::read(&key, value));
                } else {
                    flight.op(&mut attempt, Op::write(&key, value));
                    txn.put(&space, &key, value.to_le_bytes()).unwrap();
                }
            }
            if !is_alive {
                flight.abort(attempt);
                continue;
            }
            flight.commit(attempt, txn, &mut random);
        }
    });
    drop(db);
    place.remove();

    let mut history = recorder.into_history();
    history.transactions.iter_mut().filter(|txn| is_blind(txn)).for_each(|txn| txn.read_ts = None);
    let (committed, aborted) = summary(&history);
    eprintln!("{committed} committed, {aborted} aborted");
    assert!(committed > 500 && aborted > 50, "nothing happened");
    let report = register::check(&history, &Options::at(level));
    assert!(report.is_valid(), "{report}");
    let report = timestamps::check(&history, &Options::at(level));
    assert!(report.is_valid(), "{report}");
}

/// Returns true if a transaction read nothing but what it had written itself. Such a one takes
/// place when it commits, and it does not matter when it began to read.
fn is_blind(txn: &Transaction) -> bool {
    let mut reads = txn.ops.iter().enumerate().filter(|(_, op)| matches!(op, Op::Read { .. }));
    let is_own = |(at, op): (usize, &Op)| {
        txn.ops[..at].iter().any(|before| before.written().is_some() && before.key() == op.key())
    };
    reads.all(is_own)
}
