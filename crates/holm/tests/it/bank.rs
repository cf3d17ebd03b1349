//! Accounts, transfers between them by [`holm::Db::transact`], and readers who sum them up.

use std::cell::Cell;
use std::collections::BTreeMap;

use env::SeededRandom;
use holm::{Db, Error, Keyspace};
use holm_sim::checker::{Level, Options, bank};
use holm_sim::history::{Op, Outcome, Recorder, TransactionId};

use super::world::{Place, durability, options, recent, run_clients, summary};

const ACCOUNTS: u64 = 6;
const EACH: u64 = 100;

#[test]
fn on_a_simulated_disk() {
    check(Place::simulated(), 2000);
}

#[test]
fn on_a_real_disk() {
    check(Place::real("bank"), 500);
}

fn check(place: Place, transactions: u64) {
    let db = place.open(options());
    let space = db.keyspace("accounts").unwrap();
    db.transact(|txn| {
        (0..ACCOUNTS).try_for_each(|n| txn.put(&space, account(n), EACH.to_string()))
    })
    .unwrap();
    let recorder = Recorder::new();
    run_clients(&db, 6, |client| {
        let mut random = SeededRandom::new(client + 1);
        for _ in 0..transactions {
            match random.below(4) {
                0 => sum(&db, &space, &recorder, client, &mut random),
                _ => transfer(&db, &space, &recorder, client, &mut random),
            }
        }
    });
    let total: u64 = balances(db.snapshot().scan(&space, ..)).values().sum();
    assert_eq!(total, ACCOUNTS * EACH);
    drop(db);
    place.remove();

    let history = recorder.into_history();
    let (committed, aborted) = summary(&history);
    eprintln!("{committed} committed, {aborted} aborted");
    assert!(committed > 300 && aborted > 20, "nothing happened");
    let accounts = (0..ACCOUNTS).map(account).collect();
    let bank = bank::Bank { accounts, total: ACCOUNTS * EACH };
    let report = bank::check(&history, &bank, &Options::at(Level::StrictSerializable));
    assert!(report.is_valid(), "{report}");
}

fn account(n: u64) -> String {
    format!("a{n}")
}

/// Moves a part of one account to another. Each run of the closure is an attempt of its own.
fn transfer(
    db: &Db,
    space: &Keyspace,
    recorder: &Recorder,
    client: u64,
    random: &mut SeededRandom,
) {
    let from = random.below(ACCOUNTS);
    let to = (from + 1 + random.below(ACCOUNTS - 1)) % ACCOUNTS;
    let (locks, amount) = (random.chance(300), 1 + random.below(60));
    let attempt: Cell<Option<TransactionId>> = Cell::new(None);
    let builder = db.transaction().durability(durability(random));
    // Both accounts are written, so snapshot isolation keeps the total as well.
    let builder = if random.chance(300) { builder.snapshot_isolation() } else { builder };
    let done = builder.run(|txn| {
        if let Some(before) = attempt.replace(Some(recorder.begin(client))) {
            recorder.end(before, Outcome::Aborted);
        }
        let id = attempt.get().unwrap();
        let mut balances = [0; 2];
        for (balance, name) in balances.iter_mut().zip([account(from), account(to)]) {
            let value =
                if locks { txn.get_for_update(space, &name) } else { txn.get(space, &name) }?;
            *balance = parse(&value.unwrap());
            recorder.op(id, Op::read(&name, Some(*balance)));
        }
        let [source, target] = balances;
        let Some(source) = source.checked_sub(amount) else {
            return Err(Error::abort("there is not enough"));
        };
        for (name, balance) in [(account(from), source), (account(to), target + amount)] {
            recorder.op(id, Op::write(&name, balance));
            txn.put(space, &name, balance.to_string())?;
        }
        Ok(())
    });
    let outcome = match done {
        Ok(()) => Outcome::Committed,
        Err(Error::Aborted(_)) => Outcome::Aborted,
        Err(error) => panic!("{error}"),
    };
    recorder.end(attempt.get().unwrap(), outcome);
}

/// Sums up all accounts: in a read-only transaction, a snapshot, or a little in the past.
fn sum(db: &Db, space: &Keyspace, recorder: &Recorder, client: u64, random: &mut SeededRandom) {
    let id = recorder.begin(client);
    let found = match random.below(3) {
        0 => balances(db.transaction().read_only().begin().scan(space, ..)),
        1 => balances(db.snapshot().scan(space, ..).reverse()),
        _ => {
            let past = db.at(recent(db, random)).unwrap_or_else(|_| db.snapshot());
            balances(past.scan(space, ..))
        }
    };
    // Before the accounts were opened there were none.
    if !found.is_empty() {
        found
            .into_iter()
            .for_each(|(name, balance)| recorder.op(id, Op::read(name, Some(balance))));
    }
    recorder.end(id, Outcome::Committed);
}

fn balances(rows: holm::Scan<'_>) -> BTreeMap<String, u64> {
    let rows = rows.map(|row| row.unwrap());
    rows.map(|row| (String::from_utf8(row.key().to_vec()).unwrap(), parse(row.value()))).collect()
}

fn parse(value: &[u8]) -> u64 {
    std::str::from_utf8(value).unwrap().parse().unwrap()
}
