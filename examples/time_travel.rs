//! Reading the past: what a mistake overwrote is still there, and comes back.
//!
//! `cargo run --example time_travel` prints:
//!
//! ```text
//! now there are 0 orders
//! before the mistake there were 3
//! after bringing them back: 3
//! ```

use holm::{Db, KeyRange, Result};

fn main() -> Result<()> {
    let db = Db::open("holm-data")?;
    let orders = db.keyspace("orders")?;
    for (number, what) in ["tea", "salt", "rope"].iter().enumerate() {
        db.put(&orders, format!("order/{number}"), what)?;
    }

    // Every commit has a timestamp, and ten minutes of them can be read unless told otherwise.
    let good = db.now();
    let all = || KeyRange::prefix(b"order/");
    db.transact(|txn| txn.delete_range(&orders, all()))?;
    println!("now there are {} orders", db.snapshot().scan(&orders, all()).count());

    let past = db.at(good)?;
    println!("before the mistake there were {}", past.scan(&orders, all()).count());

    db.transact(|txn| {
        for row in past.scan(&orders, all()) {
            let row = row?;
            txn.put(&orders, row.key(), row.value())?;
        }
        Ok(())
    })?;
    println!("after bringing them back: {}", db.snapshot().scan(&orders, all()).count());
    drop(past);
    db.close()
}
