//! Moving money: several threads, one account in the middle, and a rule that no transfer may break.
//!
//! `cargo run --example transfer` prints:
//!
//! ```text
//! 400 transfers were made
//! one too large was refused: alice has not got 1000000
//! 3000 coins in all, as before
//! ```

use holm::{Db, Error, Keyspace, Result};

const NAMES: [&str; 3] = ["alice", "bob", "carol"];

fn main() -> Result<()> {
    let db = Db::open("holm-data")?;
    let accounts = db.keyspace("accounts")?;
    db.transact(|txn| NAMES.into_iter().try_for_each(|name| txn.put(&accounts, name, "1000")))?;

    std::thread::scope(|scope| {
        let workers = [("alice", "bob"), ("bob", "carol"), ("carol", "alice"), ("bob", "alice")];
        let workers = workers.map(|(from, to)| {
            let (db, accounts) = (db.clone(), &accounts);
            scope.spawn(move || (0..100).try_for_each(|_| transfer(&db, accounts, from, to, 1)))
        });
        workers.into_iter().try_for_each(|worker| worker.join().expect("no worker panics"))
    })?;
    println!("400 transfers were made");

    if let Err(refusal) = transfer(&db, &accounts, "alice", "bob", 1_000_000) {
        println!("one too large was refused: {refusal}");
    }
    // A snapshot is one moment: no transfer is ever seen half made.
    let snapshot = db.snapshot();
    let mut total = 0;
    for row in snapshot.scan(&accounts, ..) {
        total += coins(row?.value());
    }
    println!("{total} coins in all, as before");
    db.close()
}

fn transfer(db: &Db, accounts: &Keyspace, from: &str, to: &str, amount: i64) -> Result<()> {
    // The closure may run several times. It touches nothing but the transaction.
    db.transact(|txn| {
        let balance = txn.get(accounts, from)?.map_or(0, |balance| coins(&balance));
        if balance < amount {
            return Err(Error::abort(format!("{from} has not got {amount}")));
        }
        txn.add(accounts, from, -amount)?;
        txn.add(accounts, to, amount)?;
        Ok(())
    })
}

fn coins(value: &[u8]) -> i64 {
    std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}
