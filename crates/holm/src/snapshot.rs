//! Reading one moment.

use base::{KeyRange, Timestamp};
use bytes::Bytes;
use transaction::{Direction, ReadSnapshot, Result, Row};

use crate::keyspace::{HIDDEN, Keyspace};

/// The database as it was at one timestamp. Never blocks, is never blocked, never conflicts. While
/// it lives, what it can see is kept, however old it gets.
pub struct Snapshot {
    pub(crate) core: ReadSnapshot,
}

impl Snapshot {
    /// Returns the timestamp that is read.
    pub fn timestamp(&self) -> Timestamp {
        self.core.read_ts()
    }

    /// Returns a key's value.
    ///
    /// # Errors
    /// Those of the disk, if a table must be read: `Damaged` names the file.
    pub fn get(&self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> Result<Option<Bytes>> {
        with_engine_key(keyspace, key.as_ref(), |key| self.core.get(key))
    }

    /// Returns a key's value and when it was committed.
    ///
    /// # Errors
    /// As [`Snapshot::get`].
    pub fn get_versioned(
        &self,
        keyspace: &Keyspace,
        key: impl AsRef<[u8]>,
    ) -> Result<Option<(Timestamp, Bytes)>> {
        with_engine_key(keyspace, key.as_ref(), |key| self.core.get_versioned(key))
    }

    /// Returns the rows of a range: `b"a"..b"b"`, `..`, or [`KeyRange::prefix`].
    pub fn scan(&self, keyspace: &Keyspace, range: impl Into<KeyRange>) -> Scan<'_> {
        Scan::new(ScanSource::Snapshot(&self.core), keyspace.range(&range.into()))
    }
}

/// Longest key whose engine key is made on the stack, in bytes: most keys, without an allocation.
const STACK_KEY_BYTES: usize = 128;

pub(crate) fn with_engine_key<R>(keyspace: &Keyspace, key: &[u8], f: impl FnOnce(&[u8]) -> R) -> R {
    let len = HIDDEN + key.len();
    let mut stack = [0; STACK_KEY_BYTES];
    match stack.get_mut(..len) {
        Some(buffer) => {
            buffer[..HIDDEN].copy_from_slice(&keyspace.id.prefix());
            buffer[HIDDEN..].copy_from_slice(key);
            f(buffer)
        }
        None => f(&keyspace.id.encode(key)),
    }
}

pub(crate) enum ScanSource<'t> {
    Snapshot(&'t ReadSnapshot),
    Transaction(&'t transaction::Transaction),
}

/// The rows of a range, in the order of their keys. Rows are owned and outlive the scan.
///
/// ```
/// # let directory = std::env::temp_dir().join(format!("holm-scan-{}", std::process::id()));
/// # let _ = std::fs::remove_dir_all(&directory);
/// # let db = holm::Db::open(&directory)?;
/// # let fruit = db.keyspace("fruit")?;
/// # db.put(&fruit, "apple", "1")?;
/// # db.put(&fruit, "banana", "2")?;
/// for row in db.snapshot().scan(&fruit, "a".."c").reverse().limit(1) {
///     let row = row?;
///     assert_eq!((row.key(), row.value()), (&b"banana"[..], &b"2"[..]));
/// }
/// # drop(db);
/// # std::fs::remove_dir_all(&directory)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Scan<'t> {
    source: ScanSource<'t>,
    range: KeyRange,
    direction: Direction,
    left: usize,
    rows: Option<transaction::Scan<'t>>,
}

impl<'t> Scan<'t> {
    pub(crate) fn new(source: ScanSource<'t>, range: KeyRange) -> Scan<'t> {
        Scan { source, range, direction: Direction::Forward, left: usize::MAX, rows: None }
    }

    /// Goes from the last key to the first. Call it before the first row is taken.
    pub fn reverse(mut self) -> Scan<'t> {
        self.direction = Direction::Reverse;
        self
    }

    /// Stops after so many rows. Tells the database how many to fetch, where `take` does not.
    pub fn limit(mut self, rows: usize) -> Scan<'t> {
        self.left = rows;
        self
    }

    fn start(&self) -> Result<transaction::Scan<'t>> {
        let range = self.range.clone();
        let rows = match self.source {
            ScanSource::Snapshot(snapshot) => snapshot.scan(range, self.direction),
            ScanSource::Transaction(txn) => txn.scan(range, self.direction)?,
        };
        let rows = rows.hiding_prefix(HIDDEN);
        Ok(if self.left == usize::MAX { rows } else { rows.expecting(self.left) })
    }
}

impl Iterator for Scan<'_> {
    type Item = Result<Row>;

    fn next(&mut self) -> Option<Result<Row>> {
        if self.left == 0 {
            return None;
        }
        if self.rows.is_none() {
            match self.start() {
                Ok(rows) => self.rows = Some(rows),
                Err(error) => {
                    self.left = 0;
                    return Some(Err(error));
                }
            }
        }
        let row = self.rows.as_mut().and_then(Iterator::next);
        self.left = if matches!(row, Some(Ok(_))) { self.left - 1 } else { 0 };
        row
    }
}
