//! The state machine: keys, each with a value and the moment of its last write. A moment is the
//! index of an entry.

use std::collections::BTreeMap;

use base::codec::{Reader, Truncated, put_bytes, put_varint};
use bytes::Bytes;

use crate::world::digest;
use crate::world::request::{Reply, Request, put_value, value};

#[derive(Default)]
pub(super) struct Table {
    /// A key that was removed stays: its last write matters to commits.
    rows: BTreeMap<Bytes, Row>,
    pub(super) applied: u64,
    digest: u64,
}

struct Row {
    value: Option<Bytes>,
    written_at: u64,
}

impl Table {
    /// Returns a digest of all rows, in any order of their writes.
    pub(super) fn digest(&self) -> u64 {
        self.digest
    }

    pub(super) fn read(&self, keys: &[Bytes]) -> Reply {
        let value = |key| self.rows.get(key).and_then(|row: &Row| row.value.clone());
        Reply::Values { read_ts: self.applied, values: keys.iter().map(value).collect() }
    }

    /// Applies a command that stands at the next index.
    pub(super) fn apply(&mut self, request: &Request) -> Reply {
        let Request::Commit { read_ts, reads, writes } = request else { return Reply::Busy };
        let is_newer = |key| self.rows.get(key).is_some_and(|row: &Row| row.written_at > *read_ts);
        if reads.iter().any(is_newer) && !cfg!(mutant = "node_skips_validation") {
            return Reply::Conflict;
        }
        for (key, value) in writes {
            self.put(key.clone(), Row { value: value.clone(), written_at: self.applied });
        }
        Reply::Committed { commit_ts: self.applied }
    }

    fn put(&mut self, key: Bytes, row: Row) {
        self.digest ^= digest_of(&key, &row);
        if let Some(old) = self.rows.insert(key.clone(), row) {
            self.digest ^= digest_of(&key, &old);
        }
    }

    pub(super) fn encode(&self) -> Bytes {
        let mut out = Vec::new();
        put_varint(&mut out, self.applied);
        put_varint(&mut out, self.rows.len() as u64);
        for (key, row) in &self.rows {
            put_bytes(&mut out, key);
            put_varint(&mut out, row.written_at);
            put_value(&mut out, row.value.as_ref());
        }
        out.into()
    }

    pub(super) fn decode(bytes: &Bytes) -> Result<Table, Truncated> {
        let mut reader = Reader::new(bytes);
        let mut table = Table { applied: reader.varint()?, ..Table::default() };
        for _ in 0..reader.varint()? {
            let key = bytes.slice_ref(reader.bytes()?);
            let written_at = reader.varint()?;
            table.put(key, Row { value: value(bytes, &mut reader)?, written_at });
        }
        Ok(table)
    }

    /// Returns true if the digest is that of the rows.
    pub(super) fn is_sound(&self) -> bool {
        let digests = self.rows.iter().map(|(key, row)| digest_of(key, row));
        digests.fold(0, |all, one| all ^ one) == self.digest
    }
}

fn digest_of(key: &[u8], row: &Row) -> u64 {
    let value = row.value.as_ref().map_or(1, |value| digest::of(value));
    digest::mix(digest::mix(digest::of(key), row.written_at), value)
}
