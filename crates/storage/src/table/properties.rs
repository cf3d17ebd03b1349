//! The properties of a table: what it holds, for people, for the manifest and for checks.
//!
//! ```text
//!  +-----+--------+- - - - -+-----+--------+- - - - -+- - -
//!  | tag | length | bytes   | tag | length | bytes   |          in rising order of tag
//!  +-----+--------+- - - - -+-----+--------+- - - - -+- - -
//!   varint varint            varint varint
//!
//!  tag  1 entries              varint     tag  7 index partitions     varint
//!  tag  2 tombstones           varint     tag  8 creator              text
//!  tag  3 distinct user keys   varint     tag  9 first user key       bytes  \
//!  tag  4 bytes of user keys   varint     tag 10 last user key        bytes   | only if there
//!  tag  5 bytes of values      varint     tag 11 oldest timestamp     varint  | are entries
//!  tag  6 data blocks          varint     tag 12 newest timestamp     varint /
//! ```
//!
//! A reader skips tags that it does not know: properties can be added without a new format.

#![deny(clippy::indexing_slicing)]

use std::collections::BTreeMap;

use base::codec::{self, Reader, Truncated};
use base::{KeyRange, Timestamp};
use bytes::Bytes;

use super::block::{Decoded, Flaw};

/// What a table says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TableProperties {
    /// Number of entries, tombstones included.
    pub entries: u64,
    /// Number of tombstones.
    pub tombstones: u64,
    /// Number of distinct user keys.
    pub distinct_keys: u64,
    /// Bytes of all user keys, before compression, without timestamps.
    pub key_bytes: u64,
    /// Bytes of all values, before compression.
    pub value_bytes: u64,
    /// Number of data blocks.
    pub data_blocks: u64,
    /// Number of index partitions.
    pub partitions: u64,
    /// The program that wrote the table.
    pub creator: String,
    /// Where the entries lie; `None` if there are none.
    pub bounds: Option<TableBounds>,
}

/// The keys and timestamps between which all entries of a table lie, both ends included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableBounds {
    /// The smallest user key.
    pub first_key: Bytes,
    /// The largest user key.
    pub last_key: Bytes,
    /// The oldest timestamp.
    pub ts_min: Timestamp,
    /// The newest timestamp.
    pub ts_max: Timestamp,
}

impl TableBounds {
    /// Returns the range of user keys.
    pub fn key_range(&self) -> KeyRange {
        KeyRange::from(&self.first_key..=&self.last_key)
    }
}

impl TableProperties {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let numbers = [
            self.entries,
            self.tombstones,
            self.distinct_keys,
            self.key_bytes,
            self.value_bytes,
            self.data_blocks,
            self.partitions,
        ];
        for (tag, number) in (1..).zip(numbers) {
            put_number(&mut out, tag, number);
        }
        put_field(&mut out, 8, self.creator.as_bytes());
        if let Some(bounds) = &self.bounds {
            put_field(&mut out, 9, &bounds.first_key);
            put_field(&mut out, 10, &bounds.last_key);
            put_number(&mut out, 11, bounds.ts_min.raw());
            put_number(&mut out, 12, bounds.ts_max.raw());
        }
        out
    }

    pub(crate) fn decode(contents: &[u8]) -> Decoded<TableProperties> {
        let flaw = |at| move |_: Truncated| Flaw::new(at, "a property is cut short");
        let mut fields = BTreeMap::new();
        let mut reader = Reader::new(contents);
        while !reader.is_empty() {
            let at = contents.len() - reader.rest().len();
            let tag = reader.varint().map_err(flaw(at))?;
            let value = reader.bytes().map_err(flaw(at))?;
            if fields.last_key_value().is_some_and(|(&last, _)| last >= tag) {
                return Err(Flaw::new(at, format!("property {tag} is out of order")));
            }
            fields.insert(tag, value);
        }
        let bytes = |tag: u64| {
            let missing = || Flaw::new(0, format!("property {tag} is missing"));
            fields.get(&tag).copied().ok_or_else(missing)
        };
        let number = |tag: u64| {
            let mut reader = Reader::new(bytes(tag)?);
            let value = reader.varint().ok().filter(|_| reader.is_empty());
            value.ok_or_else(|| Flaw::new(0, format!("property {tag} is not a number")))
        };
        let entries = number(1)?;
        let bounds = if entries > 0 {
            let bounds = TableBounds {
                first_key: Bytes::copy_from_slice(bytes(9)?),
                last_key: Bytes::copy_from_slice(bytes(10)?),
                ts_min: Timestamp::from_raw(number(11)?),
                ts_max: Timestamp::from_raw(number(12)?),
            };
            if bounds.first_key > bounds.last_key || bounds.ts_min > bounds.ts_max {
                return Err(Flaw::new(0, "the bounds are reversed"));
            }
            Some(bounds)
        } else {
            None
        };
        Ok(TableProperties {
            entries,
            tombstones: number(2)?,
            distinct_keys: number(3)?,
            key_bytes: number(4)?,
            value_bytes: number(5)?,
            data_blocks: number(6)?,
            partitions: number(7)?,
            creator: String::from_utf8_lossy(bytes(8)?).into_owned(),
            bounds,
        })
    }
}

fn put_field(out: &mut Vec<u8>, tag: u64, bytes: &[u8]) {
    codec::put_varint(out, tag);
    codec::put_bytes(out, bytes);
}

fn put_number(out: &mut Vec<u8>, tag: u64, number: u64) {
    let mut bytes = Vec::with_capacity(10);
    codec::put_varint(&mut bytes, number);
    put_field(out, tag, &bytes);
}
