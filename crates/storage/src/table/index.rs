//! The two levels of the index. Both are blocks of entries whose keys separate blocks and whose
//! values say where these lie.
//!
//! ```text
//!  value in an index block:  | offset varint | length varint |            a data block
//!  value in the top index:   | offset varint | filter length varint | index length varint |
//!                                  '- of the filter; the index block follows it directly
//! ```
//!
//! The key of an entry is a *separator*: at or after the last position of the block it stands for,
//! and before the first of the next. Any such key will do, so the builder takes a short one.

#![deny(clippy::indexing_slicing)]

use base::Timestamp;
use base::codec::{self, Reader, Truncated};

use super::block::Handle;
use super::position::{Position, common_prefix};

/// Where the filter and the index of a partition lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PartitionHandle {
    pub(crate) filter: Handle,
    pub(crate) index: Handle,
}

pub(crate) fn encode_handle(handle: Handle) -> Vec<u8> {
    let mut out = Vec::with_capacity(10);
    codec::put_varint(&mut out, handle.offset);
    codec::put_varint(&mut out, handle.len.into());
    out
}

pub(crate) fn decode_handle(value: &[u8]) -> Result<Handle, Truncated> {
    let mut reader = Reader::new(value);
    let handle = Handle { offset: reader.varint()?, len: len(&mut reader)? };
    if reader.is_empty() { Ok(handle) } else { Err(Truncated) }
}

impl PartitionHandle {
    pub(crate) fn encode(self) -> Vec<u8> {
        debug_assert_eq!(self.filter.end(), self.index.offset, "the index follows the filter");
        let mut out = encode_handle(self.filter);
        codec::put_varint(&mut out, self.index.len.into());
        out
    }

    pub(crate) fn decode(value: &[u8]) -> Result<PartitionHandle, Truncated> {
        let mut reader = Reader::new(value);
        let filter = Handle { offset: reader.varint()?, len: len(&mut reader)? };
        let index = Handle { offset: filter.end(), len: len(&mut reader)? };
        if reader.is_empty() { Ok(PartitionHandle { filter, index }) } else { Err(Truncated) }
    }
}

fn len(reader: &mut Reader<'_>) -> Result<u32, Truncated> {
    u32::try_from(reader.varint()?).map_err(|_| Truncated)
}

/// Appends to `out` an encoded key that separates two neighbours.
pub(crate) fn put_separator(out: &mut Vec<u8>, last: Position<'_>, next: Position<'_>) {
    // The last position of a user key: whatever the timestamp, a seek for this key or a smaller one
    // goes to the block on the left, which holds all there is of it.
    match shorter_key(last.key, next.key) {
        Some(key) => Position::new(&key, Timestamp::ZERO).encode(out),
        None if last.key < next.key => Position::new(last.key, Timestamp::ZERO).encode(out),
        None => last.encode(out),
    }
}

/// Returns a key that is shorter than `last`, after it, and before `next`, if there is one.
fn shorter_key(last: &[u8], next: &[u8]) -> Option<Vec<u8>> {
    let common = common_prefix(last, next);
    // Raise the first byte that can be raised without reaching `next`, and cut after it.
    let raised = last.iter().enumerate().skip(common).find(|&(at, &byte)| {
        let is_below =
            at > common || next.get(at).is_some_and(|&limit| byte.saturating_add(1) < limit);
        byte < 0xff && is_below
    });
    let (at, byte) = raised.filter(|&(at, _)| at + 1 < last.len())?;
    let mut key = last.get(..at)?.to_vec();
    key.push(byte + 1);
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(last: &str, next: &str, expected: &str) {
        let (last, next) = (last.as_bytes(), next.as_bytes());
        let (last, next) =
            (Position::new(last, Timestamp::from_raw(7)), Position::new(next, Timestamp::MAX));
        let mut encoded = Vec::new();
        put_separator(&mut encoded, last, next);
        let separator = Position::decode(&encoded).unwrap();
        assert!(last <= separator && separator < next, "{last:?} {separator:?} {next:?}");
        assert_eq!(separator.key, expected.as_bytes());
        assert_eq!(separator.ts(), Timestamp::ZERO);
    }

    #[test]
    fn separators_are_short_and_separate() {
        check("apple pie", "zebra", "b");
        check("user/1234", "user/1900", "user/13");
        check("user/1234", "user/1300", "user/124");
        check("user/12", "user/13", "user/12");
        check("a", "abc", "a");
        check("a", "b", "a");
        check("az", "b", "az");
        check("azzz", "b", "a{");
    }

    #[test]
    fn versions_of_one_key_are_separated_by_their_timestamp() {
        let (newer, older) = (Timestamp::from_raw(9), Timestamp::from_raw(5));
        let mut encoded = Vec::new();
        put_separator(&mut encoded, Position::new(b"k", newer), Position::new(b"k", older));
        assert_eq!(Position::decode(&encoded), Some(Position::new(b"k", newer)));
    }
}
