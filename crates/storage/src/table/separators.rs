//! An index as it lies in memory: the keys that separate blocks, laid out to be searched.
//!
//! ```text
//!   common:  "user/0000"                 what all user keys begin with
//!   next:    [ "12340000" | "12980000" | … ]   the next 8 bytes of each, as numbers
//!   keys:    user/0000123|…                    the whole encoded keys, for what is equal there
//! ```
//!
//! A search compares numbers that lie side by side and looks at whole keys only where the numbers
//! are equal to that of the key it looks for. In the encoded block each step of a search decodes an
//! entry somewhere else in it.

#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use super::block::{Block, BlockCursor, Decoded, Flaw, Handle};
use super::filter::Filter;
use super::index::decode_handle;
use super::position::{Position, common_prefix};

/// Rising keys, each of which separates what lies before it from what lies behind.
#[derive(Debug)]
pub(crate) struct Separators {
    common: Box<[u8]>,
    next: Box<[u64]>,
    /// Where each encoded key ends among `keys`.
    ends: Box<[u32]>,
    keys: Box<[u8]>,
}

impl Separators {
    /// Takes the keys out of an index block, calling `value` with the value of each.
    pub(crate) fn decode(
        block: Block,
        mut value: impl FnMut(&[u8]) -> Option<()>,
    ) -> Decoded<Separators> {
        let mut cursor = BlockCursor::new(block);
        let (mut keys, mut ends, mut last) = (Vec::new(), Vec::new(), Vec::new());
        let mut common: Option<Vec<u8>> = None;
        let mut is_valid = cursor.seek_first()?;
        while is_valid {
            let position = cursor.position();
            let is_in_order = Position::decode(&last).is_none_or(|last| last < position);
            let is_sound = is_in_order && cursor.value().as_put().and_then(&mut value).is_some();
            if !is_sound {
                return Err(Flaw::new(
                    cursor.offset(),
                    "an index entry is out of order or points to no block",
                ));
            }
            match &mut common {
                Some(common) => common.truncate(common_prefix(common, position.key)),
                None => common = Some(position.key.to_vec()),
            }
            last.clear();
            last.extend_from_slice(cursor.encoded_key());
            keys.extend_from_slice(&last);
            ends.push(keys.len() as u32);
            is_valid = cursor.next()?;
        }
        let mut separators = Separators {
            common: common.unwrap_or_default().into(),
            next: Box::default(),
            ends: ends.into(),
            keys: keys.into(),
        };
        let next = (0..separators.len()).map(|at| separators.next_of(separators.get(at).key));
        separators.next = next.collect();
        Ok(separators)
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Returns the encoded key with this number; empty if there is none.
    pub(crate) fn encoded(&self, at: usize) -> &[u8] {
        let end = |at: usize| self.ends.get(at).map_or(0, |&end| end as usize);
        let start = at.checked_sub(1).map_or(0, end);
        self.keys.get(start..end(at)).unwrap_or_default()
    }

    pub(crate) fn get(&self, at: usize) -> Position<'_> {
        Position::decode(self.encoded(at)).unwrap_or(Position::new(&[], base::Timestamp::MAX))
    }

    /// Returns the number of the first separator at or after a position, which is that of the block
    /// in which the position must lie; their number if there is none.
    #[inline]
    pub(crate) fn lower_bound(&self, target: Position<'_>) -> usize {
        let len = self.common.len();
        let head = target.key.get(..len).unwrap_or(target.key);
        match head.cmp(self.common.get(..head.len()).unwrap_or_default()) {
            std::cmp::Ordering::Less => return 0,
            std::cmp::Ordering::Greater => return self.len(),
            // A key that ends within what is common is before all that go on.
            std::cmp::Ordering::Equal if head.len() < len => return 0,
            std::cmp::Ordering::Equal => {}
        }
        let next = self.next_of(target.key);
        let mut at = self.next.partition_point(|&other| other < next);
        while self.next.get(at) == Some(&next) && self.get(at) < target {
            at += 1;
        }
        at
    }

    /// Returns the eight bytes of a key that follow what is common, as a number that sorts as they
    /// do. A key that ends there is padded with zeros, so that equal numbers decide nothing.
    #[inline]
    fn next_of(&self, key: &[u8]) -> u64 {
        let rest = key.get(self.common.len()..).unwrap_or_default();
        match rest.first_chunk::<8>() {
            Some(chunk) => u64::from_be_bytes(*chunk),
            None => {
                let shift = 64 - 8 * rest.len() as u32;
                let number = rest.iter().fold(0, |number, &byte| number << 8 | u64::from(byte));
                number.checked_shl(shift).unwrap_or(0)
            }
        }
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.common.len() + 12 * self.len() + self.keys.len()
    }
}

/// What a point read needs of a partition: its filter, if it has one, and its index.
#[derive(Debug)]
pub(crate) struct Metadata {
    pub(crate) filter: Option<Filter>,
    pub(crate) separators: Separators,
    handles: Box<[Handle]>,
}

impl Metadata {
    /// Takes an index block apart that lies at `index_at`.
    pub(crate) fn decode(filter: Option<Filter>, index: Block, index_at: u64) -> Decoded<Metadata> {
        let mut handles = Vec::new();
        let separators = Separators::decode(index, |value| {
            // Data lies before its index: this also bounds what a wrong length could make us
            // allocate.
            let handle = decode_handle(value).ok().filter(|handle| handle.end() <= index_at)?;
            handles.push(handle);
            Some(())
        })?;
        if handles.is_empty() {
            return Err(Flaw::new(0, "the index of a partition is empty"));
        }
        Ok(Metadata { filter, separators, handles: handles.into() })
    }

    /// Returns where the data block with this number lies in the file.
    pub(crate) fn handle(&self, at: usize) -> Option<Handle> {
        self.handles.get(at).copied()
    }

    pub(crate) fn handles(&self) -> &[Handle] {
        &self.handles
    }

    /// Returns the memory that it takes.
    pub(crate) fn memory_bytes(&self) -> usize {
        let filter = self.filter.as_ref().map_or(0, Filter::memory_bytes);
        let handles = std::mem::size_of_val(&*self.handles);
        std::mem::size_of::<Metadata>() + filter + self.separators.memory_bytes() + handles
    }
}

#[cfg(test)]
mod tests {
    use base::Timestamp;

    use super::*;
    use crate::Value;
    use crate::table::block::BlockBuilder;

    #[test]
    fn a_search_finds_what_a_walk_finds() {
        let sets: [&[&[u8]]; 6] = [
            &[b""],
            &[b"", b"\0", b"\0\0", b"\0\0\0\0\0\0\0\0\0", b"\0\x01"],
            &[b"user/1", b"user/12", b"user/12345678", b"user/123456789", b"user/12345678a"],
            &[b"user/", b"user/\0", b"user/1"],
            &[b"abc"],
            &[b"aaaaaaaaaaaaaaaa1", b"aaaaaaaaaaaaaaaa2", b"aaaaaaaab", b"\xff\xff\xff\xff\xff"],
        ];
        let all: Vec<&[u8]> = sets.into_iter().flatten().copied().collect();
        for set in sets {
            let mut positions: Vec<Position<'_>> = set
                .iter()
                .flat_map(|key| [3, 0].map(|ts| Position::new(key, Timestamp::from_raw(ts))))
                .collect();
            positions.sort();
            let mut builder = BlockBuilder::new(4);
            for position in &positions {
                let mut encoded = Vec::new();
                position.encode(&mut encoded);
                builder.add(&encoded, Value::Put(b""));
            }
            let mut out = Vec::new();
            let len = builder.finish(&mut out, 0).len as usize;
            let block = Block::new(out[..len].to_vec().into()).unwrap();
            let separators = Separators::decode(block, |_| Some(())).unwrap();
            for key in all.iter().chain(&[&b"user"[..], b"v", b"ab", b"aaaaaaaaa"]) {
                for ts in [0, 1, 3, 9] {
                    let target = Position::new(key, Timestamp::from_raw(ts));
                    let expected = positions.partition_point(|position| *position < target);
                    assert_eq!(separators.lower_bound(target), expected, "{target:?} {set:?}");
                }
            }
        }
    }
}
