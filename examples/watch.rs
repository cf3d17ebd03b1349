//! Following changes: an index that a second thread keeps up to date, and that goes on where it
//! stopped.
//!
//! `cargo run --example watch` prints:
//!
//! ```text
//! +task/1 write +task/2 test
//! -task/1
//! after a pause: +task/3 release
//! ```

use holm::{Change, ChangeSet, Db, KeyRange, Result, WatchFrom};

fn main() -> Result<()> {
    let db = Db::open("holm-data")?;
    let tasks = db.keyspace("tasks")?;
    let range = KeyRange::prefix(b"task/");

    let mut watch = db.watch(&tasks, range.clone(), WatchFrom::Now)?;
    let follower = std::thread::spawn(move || -> Result<_> {
        for _ in 0..2 {
            // Each is one transaction, whole, in commit order.
            println!("{}", describe(&watch.next_change()?));
        }
        Ok(watch.position())
    });

    db.transact(|txn| {
        txn.put(&tasks, "task/1", "write")?;
        txn.put(&tasks, "task/2", "test")?;
        txn.put(&tasks, "unrelated", "not in the range")
    })?;
    db.delete(&tasks, "task/1")?;
    let position = follower.join().expect("the follower does not panic")?;

    // Nobody follows now. What is committed meanwhile is not lost for who comes back in time.
    db.put(&tasks, "task/3", "release")?;
    let mut watch = db.watch(&tasks, range, WatchFrom::After(position))?;
    println!("after a pause: {}", describe(&watch.next_change()?));
    drop(watch);
    db.close()
}

fn describe(set: &ChangeSet) -> String {
    let one = |change: &Change| {
        let key = String::from_utf8_lossy(&change.key);
        match &change.value {
            Some(value) => format!("+{key} {}", String::from_utf8_lossy(value)),
            None => format!("-{key}"),
        }
    };
    set.changes.iter().map(one).collect::<Vec<_>>().join(" ")
}
