//! What a database was told and what it promised: the truth that is compared with.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use holm::{Db, Error, KeyRange, Snapshot, Timestamp};

use crate::workload::KEYS;
use crate::world::key;

/// The name under which the catalogue of keyspaces stands in [`Contents`]; no keyspace has it.
const CATALOGUE: &str = "/catalogue";

/// Everything in a database at one moment: (keyspace, key) to value, and one entry for each
/// keyspace.
pub(crate) type Contents = BTreeMap<(String, Vec<u8>), Bytes>;

/// One key's new value; `None` deletes it.
pub(crate) type Write = ((String, Vec<u8>), Option<Bytes>);

/// All transactions that may be in the log, in their order.
///
/// # Invariants
/// * `states[n]` is what the first `n` transactions leave.
#[derive(Clone)]
pub(crate) struct History {
    /// The commit timestamps, as far as they are known.
    timestamps: Vec<Option<Timestamp>>,
    states: Vec<Arc<Contents>>,
    /// How many transactions were promised to survive a crash.
    promised: usize,
    /// No timestamp above this one may be refused as too old.
    floor: Timestamp,
}

impl History {
    pub(crate) fn new() -> History {
        let empty = Arc::default();
        let floor = Timestamp::ZERO;
        History { timestamps: Vec::new(), states: vec![empty], promised: 0, floor }
    }

    /// How many transactions were tried.
    pub(crate) fn len(&self) -> usize {
        self.timestamps.len()
    }

    pub(crate) fn promised(&self) -> usize {
        self.promised
    }

    /// Adds a transaction; its timestamp is unknown if it failed in a way that may have left it.
    pub(crate) fn push(&mut self, ts: Option<Timestamp>, writes: &[Write]) {
        if let Some(ts) = ts {
            let last = self.newest_timestamp();
            assert!(last < ts, "timestamps rise: {ts} came after {last}");
        }
        let mut state = (**self.newest()).clone();
        for (key, value) in writes {
            match value {
                Some(value) => state.insert(key.clone(), value.clone()),
                None => state.remove(key),
            };
        }
        self.timestamps.push(ts);
        self.states.push(Arc::new(state));
    }

    /// The newest timestamp that is known.
    pub(crate) fn newest_timestamp(&self) -> Timestamp {
        self.timestamps.iter().rev().flatten().next().copied().unwrap_or(Timestamp::ZERO)
    }

    /// What all transactions leave.
    pub(crate) fn newest(&self) -> &Arc<Contents> {
        self.states.last().expect("there is the empty state")
    }

    /// What the transactions up to a timestamp leave.
    pub(crate) fn at(&self, ts: Timestamp) -> &Arc<Contents> {
        &self.states[self.len_at(ts)]
    }

    /// How many transactions lie at or below a timestamp.
    pub(crate) fn len_at(&self, ts: Timestamp) -> usize {
        let known = |stamp: &Option<Timestamp>| stamp.is_some_and(|stamp| stamp <= ts);
        self.timestamps.iter().rposition(known).map_or(0, |last| last + 1)
    }

    /// Everything up to a transaction must survive.
    pub(crate) fn promise(&mut self, len: usize) {
        assert!(len <= self.len());
        self.promised = self.promised.max(len);
    }

    /// Notes from where on the past may have been forgotten.
    pub(crate) fn note_floor(&mut self, db: &Db) {
        self.floor = self.floor.max(db.stats().engine.oldest_readable);
    }

    /// Forgets everything after the first `len` transactions: a crash took it, and all before is
    /// there for good. `now` is the timestamp of the last one that is left.
    pub(crate) fn truncate(&mut self, len: usize, now: Timestamp) {
        assert!(self.promised <= len);
        self.timestamps.truncate(len);
        self.states.truncate(len + 1);
        self.promised = len;
        let is_new = !self.timestamps.contains(&Some(now));
        if let Some(last @ None) = self.timestamps.last_mut()
            && is_new
        {
            *last = Some(now);
        }
    }

    /// Compares an open database with the history: it must hold a prefix, at least what was
    /// promised, and answer for the past as it did. Returns the length of the prefix.
    pub(crate) fn check(&self, db: &Db, context: &str) -> usize {
        let now = db.now();
        let found = contents_of(db);
        let fits = |len: usize| *self.states[len] == found;
        let newest_of = |len: usize| self.timestamps[..len].iter().rev().flatten().next().copied();
        let not_after = |len: usize| newest_of(len).is_none_or(|ts| ts <= now);
        let candidates = (self.promised..=self.len()).rev();
        let Some(len) = candidates.into_iter().find(|&len| fits(len) && not_after(len)) else {
            let elsewhere = (0..self.states.len()).find(|&len| fits(len));
            panic!(
                "{context}: of {} transactions {} were promised; found {} (now {now}, {} keys)\n{}",
                self.len(),
                self.promised,
                match elsewhere {
                    Some(len) => format!("the first {len}"),
                    None => "no prefix".to_owned(),
                },
                found.len(),
                difference(&self.states[self.promised], &found),
            );
        };
        if let Some(ts) = newest_of(len) {
            assert!(now >= ts, "{context}: the newest timestamp fell from {ts} to {now}");
        }
        self.check_past(db, len, context);
        db.verify().unwrap_or_else(|error| panic!("{context}: verify: {error}"));
        len
    }

    /// Reads the past at the timestamps of the first `len` transactions.
    pub(crate) fn check_past(&self, db: &Db, len: usize, context: &str) {
        let oldest = db.stats().engine.oldest_readable;
        assert!(oldest <= self.floor, "{context}: kept from {oldest}, was {}", self.floor);
        // All of the recent past, samples of what lies further back.
        for at in (1..=len).filter(|at| len - at < 6 || at.is_multiple_of(7)) {
            let Some(ts) = self.timestamps[at - 1] else { continue };
            match db.at(ts) {
                Ok(snapshot) => {
                    assert!(ts >= oldest, "{context}: {ts} is read, and {oldest} is the oldest");
                    // In every way there is for the last few, for the others in one.
                    let found = match len - at < 3 {
                        true => rows_of(db, &snapshot),
                        false => scanned(db, &snapshot).expect("the disk can be read"),
                    };
                    let expected = without_catalogue(&self.states[at]);
                    assert!(found == expected, "{context}: the past at {ts}\n{}", {
                        difference(&expected, &found)
                    });
                }
                Err(Error::TooOld { .. }) => {
                    assert!(ts < oldest, "{context}: {ts} is refused, {oldest} is the oldest");
                }
                Err(error) => panic!("{context}: the past at {ts}: {error}"),
            }
        }
    }
}

/// Returns all rows that a snapshot shows, of a database whose disk can be read.
pub(crate) fn rows_of(db: &Db, snapshot: &Snapshot) -> Contents {
    try_rows_of(db, snapshot).expect("the disk can be read")
}

/// What a snapshot shows to a scan.
fn scanned(db: &Db, snapshot: &Snapshot) -> holm::Result<Contents> {
    let mut rows = Contents::new();
    for keyspace in db.keyspaces() {
        for row in snapshot.scan(&keyspace, KeyRange::all()) {
            let (key, value) = row?.into_parts();
            rows.insert((keyspace.name().to_owned(), key.to_vec()), value);
        }
    }
    Ok(rows)
}

/// The same, backward and one by one, too: these ask other places, filters and hot rows say.
fn try_rows_of(db: &Db, snapshot: &Snapshot) -> holm::Result<Contents> {
    let rows = scanned(db, snapshot)?;
    let mut backward = 0;
    for keyspace in db.keyspaces() {
        let of = |key: &[u8]| (keyspace.name().to_owned(), key.to_vec());
        for row in snapshot.scan(&keyspace, KeyRange::all()).reverse() {
            let row = row?;
            assert_eq!(rows.get(&of(row.key())).map(|value| &value[..]), Some(row.value()));
            backward += 1;
        }
        for number in 0..KEYS as u8 + 1 {
            let key = key(number);
            let found = snapshot.get(&keyspace, &key)?;
            assert_eq!(found.as_ref(), rows.get(&of(&key)), "key {number} by itself");
        }
    }
    assert_eq!(backward, rows.len(), "rows backward");
    Ok(rows)
}

/// Returns everything that is in the database now, the catalogue included.
pub(crate) fn contents_of(db: &Db) -> Contents {
    try_contents_of(db).expect("the disk can be read")
}

/// As [`contents_of`], of a database that may be damaged.
pub(crate) fn try_contents_of(db: &Db) -> holm::Result<Contents> {
    let mut contents = try_rows_of(db, &db.snapshot())?;
    for keyspace in db.keyspaces() {
        contents.insert(catalogue_entry(keyspace.name()), Bytes::new());
    }
    Ok(contents)
}

/// Returns the key under which a keyspace stands in [`Contents`].
pub(crate) fn catalogue_entry(name: &str) -> (String, Vec<u8>) {
    (CATALOGUE.to_owned(), name.as_bytes().to_vec())
}

fn without_catalogue(contents: &Contents) -> Contents {
    let rows = contents.iter().filter(|((keyspace, _), _)| keyspace != CATALOGUE);
    rows.map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// The first keys in which two states differ, for people.
pub(crate) fn difference(expected: &Contents, found: &Contents) -> String {
    let keys: std::collections::BTreeSet<_> = expected.keys().chain(found.keys()).collect();
    let show = |value: Option<&Bytes>| match value {
        Some(value) => format!("{} bytes {:?}", value.len(), value.slice(..value.len().min(24))),
        None => "nothing".to_owned(),
    };
    let lines = keys.into_iter().filter(|key| expected.get(*key) != found.get(*key)).map(|key| {
        let name = String::from_utf8_lossy(&key.1);
        format!(
            "  {}/{name}: {} promised, {} found",
            key.0,
            show(expected.get(key)),
            show(found.get(key))
        )
    });
    lines.take(8).collect::<Vec<_>>().join("\n")
}
