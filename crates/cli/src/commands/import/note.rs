//! How far an import has come, kept in the database beside what it has imported.

use std::fs;
use std::path::Path;

use holm::{Db, Keyspace, Transaction};
use serde_json::{Value, json};

use super::record::Shape;
use crate::exit::{Failure, Result};
use crate::file_format::{FileFormat, is_standard};

/// The keyspace of the notes. Its names begin like those of our own keyspaces to come.
const NOTES_KEYSPACE: &str = "holm.imports";

/// How far an import has come.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Note {
    /// Everything before this place in the input was dealt with.
    pub(super) offset: u64,
    /// The CRC-32C of it.
    pub(super) crc: u32,
    /// The line that comes next, counted from 1.
    pub(super) line: u64,
    /// Records imported.
    pub(super) records: u64,
    /// Bad lines passed over.
    pub(super) bad: u64,
    /// The columns of a CSV file, which its first line told.
    pub(super) columns: Vec<String>,
    /// How lines were understood; it must be continued so.
    format: String,
    shape: Shape,
}

impl Note {
    /// Returns the note of an import at its start.
    pub(super) fn new(format: FileFormat, shape: &Shape) -> Note {
        Note {
            offset: 0,
            crc: 0,
            line: 1,
            records: 0,
            bad: 0,
            columns: Vec::new(),
            format: format.name().to_string(),
            shape: shape.clone(),
        }
    }

    /// Returns the note to go on from.
    ///
    /// # Errors
    /// If lines would not be understood as they were.
    pub(super) fn continued(self, asked: &Note, path: &Path) -> Result<Note> {
        if self.format == asked.format && self.shape == asked.shape {
            return Ok(self);
        }
        let mut options = format!("--format {}", self.format);
        for (name, field) in [(" --key ", &self.shape.key), (" --value ", &self.shape.value)] {
            options.extend(field.iter().flat_map(|field| [name, field]));
        }
        Err(Failure::usage(format!(
            "{}: its import was begun with {options}: continue it with the same",
            path.display()
        )))
    }

    fn encode(&self) -> String {
        json!({
            "offset": self.offset,
            "crc32c": self.crc,
            "line": self.line,
            "records": self.records,
            "bad": self.bad,
            "columns": self.columns,
            "format": self.format,
            "key": self.shape.key,
            "value": self.shape.value,
        })
        .to_string()
    }

    fn decode(bytes: &[u8]) -> Option<Note> {
        let note: Value = serde_json::from_slice(bytes).ok()?;
        let number = |name: &str| note.get(name)?.as_u64();
        let text = |name: &str| Some(note.get(name)?.as_str()?.to_string());
        let columns = note.get("columns")?.as_array()?.iter();
        Some(Note {
            offset: number("offset")?,
            crc: u32::try_from(number("crc32c")?).ok()?,
            line: number("line")?,
            records: number("records")?,
            bad: number("bad")?,
            columns: columns.map(|it| it.as_str().map(str::to_string)).collect::<Option<_>>()?,
            format: text("format")?,
            shape: Shape { key: text("key"), value: text("value") },
        })
    }
}

/// Where the note of one import is kept.
pub(super) struct Notes<'a> {
    db: &'a Db,
    keyspace: Keyspace,
    key: String,
}

impl<'a> Notes<'a> {
    /// The notes of imports of one file into one keyspace.
    pub(super) fn new(db: &'a Db, into: &str, path: &Path) -> Result<Notes<'a>> {
        let name = match is_standard(path) {
            true => "-".to_string(),
            // The same file by whatever path it is named.
            false => {
                let whole = fs::canonicalize(path).map_err(Failure::io(path, "find"))?;
                whole.to_string_lossy().into_owned()
            }
        };
        // No keyspace has a slash in its name.
        Ok(Notes { db, keyspace: db.keyspace(NOTES_KEYSPACE)?, key: format!("{into}/{name}") })
    }

    pub(super) fn read(&self) -> Result<Option<Note>> {
        let Some(bytes) = self.db.get(&self.keyspace, &self.key)? else { return Ok(None) };
        let note = Note::decode(&bytes).ok_or_else(|| {
            Failure::new(format!(
                "the note in {NOTES_KEYSPACE} of how far this import came cannot be read: import \
                 from the start, without --continue"
            ))
        })?;
        Ok(Some(note))
    }

    pub(super) fn write(&self, txn: &mut Transaction, note: &Note) -> Result {
        Ok(txn.put(&self.keyspace, &self.key, note.encode())?)
    }

    pub(super) fn remove(&self, txn: &mut Transaction) -> Result {
        Ok(txn.delete(&self.keyspace, &self.key)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_can_be_read_back() {
        let shape = Shape { key: Some("id".to_string()), value: None };
        let mut note = Note::new(FileFormat::Csv, &shape);
        note.columns = vec!["id".to_string(), "name".to_string()];
        (note.offset, note.crc, note.line) = (1 << 40, u32::MAX, 7);
        assert_eq!(Note::decode(note.encode().as_bytes()), Some(note.clone()));
        assert_eq!(Note::decode(b"{}"), None);

        let other = Note::new(FileFormat::Jsonl, &Shape { key: None, value: None });
        let failure = note.continued(&other, Path::new("a")).unwrap_err();
        assert!(failure.message().contains("--format csv --key id:"), "{failure:?}");
    }
}
