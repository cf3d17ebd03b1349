//! The program of the README: open, write, read, look back.
//!
//! `cargo run --example hello` prints:
//!
//! ```text
//! visit number 1
//! then: "Ada", now: "Ada Lovelace"
//! ada = Ada Lovelace
//! ```

use holm::Db;

fn main() -> holm::Result<()> {
    let db = Db::open("holm-data")?;
    let people = db.keyspace("people")?;
    db.put(&people, "ada", "Ada")?;
    let then = db.snapshot();

    // All of it happens, or nothing. Run again by itself if another transaction was in the way.
    let visits = db.transact(|txn| {
        txn.put(&people, "ada", "Ada Lovelace")?;
        txn.add(&people, "visits", 1)
    })?;
    println!("visit number {visits}");

    let (old, new) = (then.get(&people, "ada")?, db.get(&people, "ada")?);
    println!("then: {:?}, now: {:?}", text(old.as_deref()), text(new.as_deref()));
    for row in db.snapshot().scan(&people, "a".."b") {
        let row = row?;
        println!("{} = {}", text(Some(row.key())), text(Some(row.value())));
    }
    db.close()
}

fn text(bytes: Option<&[u8]>) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes.unwrap_or_default())
}
