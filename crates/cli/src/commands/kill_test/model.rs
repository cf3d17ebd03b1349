//! What each thread's transactions are, and what they make of the database.

use std::collections::BTreeMap;

use base::text::escape_short;
use env::SeededRandom;
use holm::{Db, Keyspace};

use crate::exit::{Failure, Result};

/// Keyspaces: the values, how far each thread has come, and what all threads count together.
pub(super) const VALUES: &str = "values";
pub(super) const PROGRESS: &str = "progress";
pub(super) const SHARED: &str = "shared";
pub(super) const COUNTER: &str = "counter";

/// Keys of each thread.
const SLOTS: u64 = 48;

/// Most transactions of a thread that are durable or about to be before it says so.
pub(super) const WINDOW: u64 = 32;

/// The transaction of a thread with a number, counted from 1.
pub(super) struct Planned {
    /// Slots and the lengths of their new values; `None` deletes.
    pub(super) writes: BTreeMap<u64, Option<usize>>,
    /// Whether it also counts on the shared counter, over which threads conflict.
    pub(super) counts: bool,
}

/// Returns a thread's transaction: the same in the child and here.
pub(super) fn planned(seed: u64, thread: u32, number: u64) -> Planned {
    let mut random = random_of(seed, thread, number, 0);
    let mut writes = BTreeMap::new();
    for _ in 0..1 + random.below(4) {
        let slot = random.below(SLOTS);
        let len = match random.below(256) {
            0 => random.below(1 << 20),
            1..16 => random.below(64 << 10),
            _ => random.below(200),
        };
        let is_delete = random.chance(150);
        writes.insert(slot, (!is_delete).then_some(len as usize));
    }
    Planned { writes, counts: random.chance(60) }
}

/// Mixes by multiplication with odd constants, so that neighbours have nothing in common.
fn random_of(seed: u64, thread: u32, number: u64, slot: u64) -> SeededRandom {
    let mut mixed = seed;
    for part in [u64::from(thread), number, slot] {
        mixed = (mixed ^ part).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }
    SeededRandom::new(mixed)
}

pub(super) fn key(thread: u32, slot: u64) -> Vec<u8> {
    let mut key = format!("{thread:02}/{slot:02}/").into_bytes();
    // Some keys are long, and none of those is text.
    if slot.is_multiple_of(16) {
        key.resize(key.len() + 900, 0xff);
    }
    key
}

/// Returns a value. It says whose it is, so that a wrong one can be traced, and ends with a
/// checksum.
pub(super) fn value(seed: u64, thread: u32, number: u64, slot: u64, len: usize) -> Vec<u8> {
    let mut value =
        format!("thread {thread} number {number} slot {slot} bytes {len}\n").into_bytes();
    let mut random = random_of(seed, thread, number, slot + 1);
    let end = value.len() + len;
    while value.len() < end {
        let bytes = random.next_u64().to_le_bytes();
        value.extend_from_slice(&bytes[..bytes.len().min(end - value.len())]);
    }
    let crc = crc32c::crc32c(&value);
    value.extend_from_slice(&crc.to_le_bytes());
    value
}

/// Returns how far a thread has come, as the database has it.
pub(super) fn progress(db: &Db, keyspace: &Keyspace, thread: u32) -> Result<u64> {
    let found = db.get(keyspace, thread.to_string())?;
    let Some(bytes) = found else { return Ok(0) };
    let number = std::str::from_utf8(&bytes).ok().and_then(|text| text.parse().ok());
    number.ok_or_else(|| {
        wrong(format!("torn: thread {thread} has come to {:?}", escape_short(&bytes, 40)))
    })
}

/// What must be there.
pub(super) struct Model {
    seed: u64,
    threads: Vec<Thread>,
}

#[derive(Default)]
struct Thread {
    acknowledged: u64,
    /// The last transaction that was found, with all before it.
    found: u64,
    counted: u64,
    /// For each slot that has a value, the transaction that wrote it, and its length.
    slots: BTreeMap<u64, (u64, usize)>,
}

impl Model {
    pub(super) fn new(seed: u64, threads: u32) -> Model {
        Model { seed, threads: (0..threads).map(|_| Thread::default()).collect() }
    }

    /// Takes note of a line of the child: thread, and number of its last durable transaction.
    pub(super) fn acknowledged(&mut self, line: &str) -> Result {
        let mut numbers = line.split(' ').map(str::parse::<u64>);
        match (numbers.next(), numbers.next()) {
            (Some(Ok(thread)), Some(Ok(number))) if (thread as usize) < self.threads.len() => {
                let thread = &mut self.threads[thread as usize];
                thread.acknowledged = thread.acknowledged.max(number);
                Ok(())
            }
            _ => Err(wrong(format!("the child said {line:?}"))),
        }
    }

    /// Returns how many transactions are known to be durable.
    pub(super) fn acknowledged_total(&self) -> u64 {
        self.threads.iter().map(|thread| thread.acknowledged).sum()
    }

    /// Compares the database with what must be there; returns how many transactions it had that
    /// nobody had heard of, and how many values were compared.
    ///
    /// # Errors
    /// The first thing that is lost, torn or a stranger.
    pub(super) fn compare(&mut self, db: &Db) -> Result<(u64, u64)> {
        let progress_keyspace = db.keyspace(PROGRESS)?;
        let mut unheard = 0;
        for (index, thread) in self.threads.iter_mut().enumerate() {
            let found = progress(db, &progress_keyspace, index as u32)?;
            let (must, may) = (thread.acknowledged, thread.acknowledged + WINDOW);
            if found < must {
                return Err(wrong(format!(
                    "lost: thread {index} has {found}, acknowledged was {must}"
                )));
            }
            if found > may {
                return Err(wrong(format!(
                    "strangers: thread {index} has {found}, at most {may} began"
                )));
            }
            unheard += found - must;
            for number in thread.found + 1..=found {
                thread.apply(number, &planned(self.seed, index as u32, number));
            }
            // What was found once must stay, as if it had been acknowledged.
            (thread.found, thread.acknowledged) = (found, found);
        }
        self.compare_counter(db)?;
        Ok((unheard, self.compare_values(db)?))
    }

    fn compare_counter(&self, db: &Db) -> Result {
        let value = db.get(&db.keyspace(SHARED)?, COUNTER)?;
        let text = value.as_deref().map_or(Ok("0"), std::str::from_utf8);
        let expected: u64 = self.threads.iter().map(|thread| thread.counted).sum();
        match text {
            Ok(text) if text == expected.to_string() => Ok(()),
            _ => Err(wrong(format!("the counter is {text:?}, and was counted to {expected}"))),
        }
    }

    fn compare_values(&self, db: &Db) -> Result<u64> {
        let mut expected = BTreeMap::new();
        for (index, thread) in self.threads.iter().enumerate() {
            for (&slot, &(number, len)) in &thread.slots {
                expected.insert(key(index as u32, slot), (index as u32, slot, number, len));
            }
        }
        let compared = expected.len() as u64;
        for row in db.snapshot().scan(&db.keyspace(VALUES)?, ..) {
            let row = row?;
            let shown = || (escape_short(row.key(), 20), escape_short(row.value(), 60));
            let Some((thread, slot, number, len)) = expected.remove(row.key()) else {
                return Err(wrong(format!("a stranger: {:?}", shown())));
            };
            if row.value() != value(self.seed, thread, number, slot, len) {
                return Err(wrong(format!("torn: {:?} is not transaction {number}'s", shown())));
            }
        }
        match expected.first_key_value() {
            Some((key, (thread, _, number, _))) => Err(wrong(format!(
                "lost: {:?} of thread {thread}'s transaction {number}",
                escape_short(key, 20)
            ))),
            None => Ok(compared),
        }
    }
}

impl Thread {
    fn apply(&mut self, number: u64, planned: &Planned) {
        for (&slot, len) in &planned.writes {
            match len {
                Some(len) => self.slots.insert(slot, (number, *len)),
                None => self.slots.remove(&slot),
            };
        }
        self.counted += u64::from(planned.counts);
    }
}

fn wrong(what: String) -> Failure {
    Failure::new(what)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: u64 = 9;

    /// Makes a database as a child would, with so many transactions of one thread.
    fn database(name: &str, transactions: u64) -> (std::path::PathBuf, Db) {
        let name = format!("holm-model-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = std::fs::remove_dir_all(&path);
        let db = Db::open(&path).unwrap();
        let [values, progress, shared] =
            [VALUES, PROGRESS, SHARED].map(|name| db.keyspace(name).unwrap());
        for number in 1..=transactions {
            let planned = planned(SEED, 0, number);
            db.transact(|txn| {
                for (&slot, &len) in &planned.writes {
                    match len {
                        Some(len) => {
                            txn.put(&values, key(0, slot), value(SEED, 0, number, slot, len))?;
                        }
                        None => txn.delete(&values, key(0, slot))?,
                    }
                }
                if planned.counts {
                    txn.add(&shared, COUNTER, 1)?;
                }
                txn.put(&progress, "0", number.to_string())
            })
            .unwrap();
        }
        (path, db)
    }

    /// Compares a database that was acknowledged up to 20 and tampered with.
    fn check(name: &str, transactions: u64, tamper: impl Fn(&Db, &Keyspace), expected: &str) {
        let (path, db) = database(name, transactions);
        tamper(&db, &db.keyspace(VALUES).unwrap());
        let mut model = Model::new(SEED, 1);
        model.acknowledged("0 20").unwrap();
        let found = match model.compare(&db) {
            Ok((unheard, _)) => format!("{unheard} unheard"),
            Err(failure) => failure.message().to_string(),
        };
        drop(db);
        std::fs::remove_dir_all(path).unwrap();
        assert!(found.starts_with(expected), "{name}: {found}");
    }

    #[test]
    fn whatever_is_wrong_is_found() {
        let first =
            |db: &Db, values: &Keyspace| db.snapshot().scan(values, ..).next().unwrap().unwrap();
        check("sound", 20, |_, _| (), "0 unheard");
        check("under way", 25, |_, _| (), "5 unheard");
        check("too few", 19, |_, _| (), "lost: thread 0 has 19");
        check("too many", 21 + WINDOW, |_, _| (), "strangers: thread 0");
        check("gone", 20, |db, it| drop(db.delete(it, first(db, it).key())), "lost:");
        check("new", 20, |db, it| drop(db.put(it, "new", "")), "a stranger");
        check("cut", 20, |db, it| drop(db.put(it, first(db, it).key(), "thread")), "torn:");
        let count = |db: &Db, _: &Keyspace| {
            db.put(&db.keyspace(SHARED).unwrap(), COUNTER, "1000").unwrap();
        };
        check("counter", 20, count, "the counter is");
    }
}
