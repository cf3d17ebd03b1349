//! Loading many sorted rows at once.

use base::Timestamp;
use base::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use storage::BulkWriter;
use transaction::{Error, Result};

use crate::db::Db;
use crate::keyspace::{HIDDEN, Keyspace};

/// Rows on their way into an empty range of a keyspace, by the short way: they are written to
/// tables as they come, and become visible all at once. Nobody sees any of them before; dropped
/// without [`BulkLoad::finish`], it leaves nothing.
///
/// ```
/// # let directory = std::env::temp_dir().join(format!("holm-bulk-{}", std::process::id()));
/// # let _ = std::fs::remove_dir_all(&directory);
/// # let db = holm::Db::open(&directory)?;
/// let squares = db.keyspace("squares")?;
/// let mut load = db.bulk_load(&squares);
/// for n in 0..1000_u32 {
///     load.add(n.to_be_bytes(), (n * n).to_string())?;
/// }
/// let timestamp = load.finish()?;
/// assert_eq!(timestamp, Some(db.now()));
/// assert_eq!(db.get(&squares, 12_u32.to_be_bytes())?.as_deref(), Some(&b"144"[..]));
/// # drop((squares, db));
/// # std::fs::remove_dir_all(&directory)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct BulkLoad {
    db: Db,
    keyspace: Keyspace,
    writer: BulkWriter,
    /// The engine's key of the last row.
    last: Vec<u8>,
}

impl BulkLoad {
    pub(crate) fn new(db: Db, keyspace: Keyspace, writer: BulkWriter) -> BulkLoad {
        BulkLoad { db, keyspace, writer, last: Vec::new() }
    }

    /// Adds a row. Each key comes after the one before.
    ///
    /// # Errors
    /// `Invalid` if it does not, and `TooLarge`: the row was not added. Those of the disk, after
    /// which the load can only be dropped.
    pub fn add(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        let (key, value) = (key.as_ref(), value.as_ref());
        check("key", key.len(), KEY_BYTES_MAX)?;
        check("value", value.len(), VALUE_BYTES_MAX)?;
        if self.writer.rows() > 0 && self.last[HIDDEN..] >= *key {
            let shown = |key: &[u8]| base::text::escape_short(key, 60);
            return Err(Error::Invalid(format!(
                "the keys of a bulk load must rise, and {} comes after {}: sort them first",
                shown(key),
                shown(&self.last[HIDDEN..])
            )));
        }
        self.last.clear();
        self.last.extend_from_slice(&self.keyspace.id.prefix());
        self.last.extend_from_slice(key);
        Ok(self.writer.add(&self.last, value)?)
    }

    /// Returns how many rows were added.
    pub fn rows(&self) -> u64 {
        self.writer.rows()
    }

    /// Makes all rows visible, as one commit; returns its timestamp, or `None` if there were no
    /// rows. Commits wait while the last step runs, for about as long as a flush takes.
    ///
    /// # Errors
    /// `NotEmpty` if a row has come to lie between the first key and the last; those of the disk.
    /// Nothing was loaded then.
    ///
    /// # Durability
    /// All rows survive the loss of power once this returns.
    pub fn finish(self) -> Result<Option<Timestamp>> {
        if self.writer.rows() == 0 {
            return Ok(None);
        }
        let tables = self.writer.finish()?;
        self.db.add_bulk(tables).map(Some)
    }
}

fn check(what: &'static str, bytes: usize, limit: usize) -> Result<()> {
    if bytes > limit {
        let advice = "split it, or leave it out";
        return Err(Error::TooLarge { what, bytes, limit, advice });
    }
    Ok(())
}
