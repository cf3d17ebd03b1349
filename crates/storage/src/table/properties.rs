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
//!
//!  tag 13 bytes of data blocks before compression      varint  \
//!  tag 14 user keys with more than one entry           varint   | since format 2
//!  tag 15 bytes of keys and values that are not the    varint  /
//!         newest of their key
//!
//!  tag 16 values in value files: the number of files, and for each of them its number, how
//!         many values, and the bytes of their records, as varints; only if there are any,
//!         since format 3
//! ```
//!
//! A reader skips tags that it does not know: properties can be added without a new format.

#![deny(clippy::indexing_slicing)]

use std::collections::BTreeMap;

use base::codec::{self, Reader, Truncated};
use base::{KeyRange, Timestamp};
use bytes::Bytes;

use super::block::{Decoded, Flaw};
use crate::Stored;
use crate::values::ValueUse;

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
    /// Bytes of all values that lie in the table, before compression.
    pub value_bytes: u64,
    /// Number of data blocks.
    pub data_blocks: u64,
    /// Number of index partitions.
    pub partitions: u64,
    /// The program that wrote the table.
    pub creator: String,
    /// Bytes of the contents of all data blocks, before compression; 0 in a table of format 1.
    pub raw_bytes: u64,
    /// Number of user keys with more than one entry; 0 in a table of format 1.
    pub multiple_keys: u64,
    /// Bytes of keys and values of entries that are not the newest of their key in this table:
    /// what compaction could drop once the watermark has passed; 0 in a table of format 1.
    pub superseded_bytes: u64,
    /// What lies in value files, in the order of their numbers.
    pub values: Vec<ValueUse>,
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
    /// Returns the number of entries that are not the newest of their key in this table.
    pub fn superseded(&self) -> u64 {
        self.entries.saturating_sub(self.distinct_keys)
    }

    /// Counts one more entry. `is_multiple` says of the last key whether it had several.
    pub(crate) fn count(
        &mut self,
        is_new_key: bool,
        is_multiple: &mut bool,
        key: &[u8],
        value: Stored<'_>,
    ) {
        let value_len = match value {
            Stored::Put(bytes) => bytes.len() as u64,
            Stored::Apart(handle) => {
                ValueUse::count(&mut self.values, handle);
                0
            }
            Stored::Tombstone => 0,
        };
        self.entries += 1;
        self.distinct_keys += u64::from(is_new_key);
        self.tombstones += u64::from(value.is_tombstone());
        self.key_bytes += key.len() as u64;
        self.value_bytes += value_len;
        if !is_new_key {
            self.multiple_keys += u64::from(!*is_multiple);
            self.superseded_bytes += key.len() as u64 + value_len;
        }
        *is_multiple = !is_new_key;
    }

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
        let numbers = [self.raw_bytes, self.multiple_keys, self.superseded_bytes];
        for (tag, number) in (13..).zip(numbers) {
            put_number(&mut out, tag, number);
        }
        if !self.values.is_empty() {
            let mut uses = Vec::new();
            ValueUse::encode_all(&self.values, &mut uses);
            put_field(&mut out, 16, &uses);
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
        // What the first format does not have.
        let newer = |tag: u64| if fields.contains_key(&tag) { number(tag) } else { Ok(0) };
        let values = match fields.get(&16) {
            None => Vec::new(),
            Some(bytes) => {
                let mut reader = Reader::new(bytes);
                let uses = ValueUse::decode_all(&mut reader).ok().filter(|_| reader.is_empty());
                uses.ok_or_else(|| Flaw::new(0, "property 16 is not a list of value files"))?
            }
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
            raw_bytes: newer(13)?,
            multiple_keys: newer(14)?,
            superseded_bytes: newer(15)?,
            values,
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
