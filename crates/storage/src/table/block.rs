//! Blocks: the unit of reading and of checking; and index blocks, which the top index is one of.
//! Data blocks (`data`), filters and properties are blocks with contents of their own.
//!
//! ```text
//!  a block in the file                                    an index block
//!  +- - - - - - - -+-------------+--------+               +- - - - -+--------- - - -+-----------+
//!  | contents      | compression | crc32c |               | entries | restart u32 … | count u32 |
//!  +- - - - - - - -+-------------+--------+               +- - - - -+--------- - - -+-----------+
//!                   1 byte        4 bytes
//!
//!  an entry                                               its key
//!  +--------+----------+-----+- - - -+- - - - -+          +- - - - - -+-------------------+
//!  | shared | unshared | tag | key   | value   |          | user key  | !timestamp (BE)   |
//!  +--------+----------+-----+- - - -+- - - - -+          +- - - - - -+-------------------+
//!   varints                    unshared bytes                            8 bytes
//! ```
//!
//! * *compression* is 0 for none, 1 for LZ4, 2 for Zstandard (see `compression`); only data blocks
//!   are compressed. The CRC-32C covers the contents as they are stored, the compression byte and
//!   the block's offset in the file as a `u64`: a block that the disk returns from elsewhere in the
//!   file is not believed either.
//! * *shared* counts the first bytes of the key that are those of the previous key; it is 0 at a
//!   restart. *restarts* are the offsets of such entries, rising, the first one 0. (Data blocks of
//!   format 1 were laid out like this, too, and searched by their restarts.)
//! * *tag* is the length of the value times four, plus its kind: 0 a value, 1 a tombstone (length
//!   0; in data blocks of format 1).
//! * The timestamp is inverted and big-endian, so that keys of one user key sort newest first and
//!   share the bytes of about the same time. Keys as a whole are *not* compared byte by byte: the
//!   user key has no terminator, so the comparison splits the last eight bytes off (see
//!   [`Position`]).

#![deny(clippy::indexing_slicing)]

use base::codec::{self, Reader, Truncated};
use base::{Timestamp, checksum};
use bytes::Bytes;

use super::compression::{Compression, decompress};
use super::position::{Position, SUFFIX_BYTES, common_prefix};
use crate::Value;

/// Bytes behind the contents of each block: the compression byte and the checksum.
pub(crate) const TRAILER_BYTES: usize = 5;

const KIND_PUT: u64 = 0;
const KIND_TOMBSTONE: u64 = 1;

/// What is wrong with some bytes, and where in them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Flaw {
    /// Offset from the start of the bytes that were decoded.
    pub(crate) at: usize,
    /// What is wrong there.
    pub(crate) what: String,
    /// True if the bytes are sound and this program cannot read them.
    pub(crate) is_unsupported: bool,
}

/// The result of decoding some bytes.
pub(crate) type Decoded<T> = Result<T, Flaw>;

impl Flaw {
    pub(crate) fn new(at: usize, what: impl Into<String>) -> Flaw {
        Flaw { at, what: what.into(), is_unsupported: false }
    }
}

/// Where a block lies in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Handle {
    pub(crate) offset: u64,
    /// Length of the contents, without the trailer.
    pub(crate) len: u32,
}

impl Handle {
    /// Returns the offset of the first byte after the block and its trailer.
    pub(crate) fn end(self) -> u64 {
        self.offset.saturating_add(u64::from(self.len)).saturating_add(TRAILER_BYTES as u64)
    }

    /// Returns the length in the file.
    pub(crate) fn stored_len(self) -> usize {
        self.len as usize + TRAILER_BYTES
    }
}

/// Appends the trailer to the stored contents that begin at `start` in `out` and will lie at
/// `offset` in the file.
pub(crate) fn seal(
    out: &mut Vec<u8>,
    start: usize,
    offset: u64,
    compression: Compression,
) -> Handle {
    let stored = out.get(start..).unwrap_or_default();
    let len = u32::try_from(stored.len()).expect("a block is bounded by ENTRY_BYTES_MAX");
    let method = compression.method();
    let crc = checksum::of(&[stored, &[method], &offset.to_le_bytes()]);
    out.push(method);
    codec::put_u32(out, crc);
    Handle { offset, len }
}

/// Checks a stored block and returns its contents.
pub(crate) fn unseal(stored: Bytes, offset: u64) -> Decoded<Bytes> {
    match check(&stored, offset)? {
        (Compression::None, len) => Ok(stored.slice(..len)),
        (compression, len) => decompress(compression, stored.get(..len).unwrap_or_default()),
    }
}

/// Checks a stored block and returns how it is compressed, and the length of what is stored.
pub(crate) fn check(stored: &[u8], offset: u64) -> Decoded<(Compression, usize)> {
    let (rest, crc) = stored
        .split_last_chunk::<4>()
        .ok_or_else(|| Flaw::new(0, "the block is shorter than its trailer"))?;
    let (&method, contents) =
        rest.split_last().ok_or_else(|| Flaw::new(0, "the block is shorter than its trailer"))?;
    let (found, expected) =
        (u32::from_le_bytes(*crc), checksum::of(&[rest, &offset.to_le_bytes()]));
    if found != expected {
        let what = format!(
            "the checksum of the block of {} bytes is {expected:08x}, and {found:08x} is stored",
            contents.len()
        );
        return Err(Flaw::new(0, what));
    }
    let len = contents.len();
    match Compression::from_method(method) {
        Some(compression) => Ok((compression, len)),
        None => {
            let what =
                format!("the block is compressed with method {method}, which is not known here");
            Err(Flaw { at: len, what, is_unsupported: true })
        }
    }
}

/// Collects entries and encodes them.
pub(crate) struct BlockBuilder {
    bytes: Vec<u8>,
    restarts: Vec<u32>,
    restart_interval: usize,
    since_restart: usize,
    last_key: Vec<u8>,
}

impl BlockBuilder {
    pub(crate) fn new(restart_interval: usize) -> BlockBuilder {
        BlockBuilder {
            bytes: Vec::new(),
            restarts: Vec::new(),
            restart_interval: restart_interval.max(1),
            since_restart: 0,
            last_key: Vec::new(),
        }
    }

    /// Appends an entry whose encoded key is after all others.
    pub(crate) fn add(&mut self, encoded_key: &[u8], value: Value<'_>) {
        let shared = if self.restarts.is_empty() || self.since_restart == self.restart_interval {
            self.restarts.push(self.bytes.len() as u32);
            self.since_restart = 0;
            0
        } else {
            common_prefix(&self.last_key, encoded_key)
        };
        self.since_restart += 1;
        let unshared = encoded_key.get(shared..).unwrap_or_default();
        let (kind, value) = match value {
            Value::Put(bytes) => (KIND_PUT, bytes),
            Value::Tombstone => (KIND_TOMBSTONE, &[][..]),
        };
        codec::put_varint(&mut self.bytes, shared as u64);
        codec::put_varint(&mut self.bytes, unshared.len() as u64);
        codec::put_varint(&mut self.bytes, (value.len() as u64) << 2 | kind);
        self.bytes.extend_from_slice(unshared);
        self.bytes.extend_from_slice(value);
        self.last_key.truncate(shared);
        self.last_key.extend_from_slice(unshared);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.restarts.is_empty()
    }

    /// Returns the length of the contents so far.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() + 4 * self.restarts.len() + 4
    }

    /// Appends the block to `out`, where it will lie at `offset` in the file, and starts anew.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>, offset: u64) -> Handle {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        for &restart in &self.restarts {
            codec::put_u32(out, restart);
        }
        codec::put_u32(out, self.restarts.len() as u32);
        self.bytes.clear();
        self.restarts.clear();
        seal(out, start, offset, Compression::None)
    }
}

/// The contents of a block of entries, with sound restarts. The entries themselves are checked as
/// they are decoded.
#[derive(Debug, Clone)]
pub(crate) struct Block {
    contents: Bytes,
    entries_end: usize,
}

impl Block {
    /// Takes the contents apart.
    pub(crate) fn new(contents: Bytes) -> Decoded<Block> {
        let (rest, count) = contents
            .split_last_chunk::<4>()
            .ok_or_else(|| Flaw::new(0, "the block has no count of restarts"))?;
        let entries_end = (u32::from_le_bytes(*count) as usize)
            .checked_mul(4)
            .and_then(|restarts_len| rest.len().checked_sub(restarts_len))
            .ok_or_else(|| Flaw::new(rest.len(), "the block is shorter than its restarts"))?;
        let block = Block { entries_end, contents };
        let mut next_min = 0;
        for (index, &restart) in block.restarts().iter().enumerate() {
            let restart = u32::from_le_bytes(restart) as usize;
            let is_sound = restart >= next_min && restart < entries_end;
            if !is_sound || (index == 0 && restart != 0) {
                return Err(Flaw::new(entries_end + 4 * index, "a restart points to no entry"));
            }
            next_min = restart + 1;
        }
        if block.restarts().is_empty() && entries_end != 0 {
            return Err(Flaw::new(entries_end, "the block has entries and no restarts"));
        }
        Ok(block)
    }

    pub(crate) fn restarts(&self) -> &[[u8; 4]] {
        self.contents
            .get(self.entries_end..)
            .unwrap_or_default()
            .as_chunks::<4>()
            .0
            .split_last()
            .map_or(
                // The last of them is the count.
                &[],
                |(_count, restarts)| restarts,
            )
    }

    fn restart(&self, index: usize) -> usize {
        self.restarts().get(index).map_or(self.entries_end, |&at| u32::from_le_bytes(at) as usize)
    }
}

/// A walk over the entries of a block, forward: on an entry, or off the block.
#[derive(Debug)]
pub(crate) struct BlockCursor {
    block: Block,
    /// Where the current entry begins and the next one does. Off the block both are its end.
    start: usize,
    next: usize,
    key: Vec<u8>,
    is_tombstone: bool,
    value_start: usize,
}

impl BlockCursor {
    /// Returns a cursor that is off the block.
    pub(crate) fn new(block: Block) -> BlockCursor {
        let end = block.entries_end;
        let key = Vec::with_capacity(64);
        BlockCursor { block, start: end, next: end, key, is_tombstone: false, value_start: 0 }
    }

    /// Returns where the current entry begins in the block.
    pub(crate) fn offset(&self) -> usize {
        self.start
    }

    /// Returns the encoded key of the current entry.
    pub(crate) fn encoded_key(&self) -> &[u8] {
        &self.key
    }

    /// Returns the current position. Off the block it means nothing.
    pub(crate) fn position(&self) -> Position<'_> {
        Position::decode(&self.key).unwrap_or(Position::new(&[], Timestamp::MAX))
    }

    /// Returns the current value. Off the block it means nothing.
    pub(crate) fn value(&self) -> Value<'_> {
        if self.is_tombstone { Value::Tombstone } else { Value::Put(self.value_bytes()) }
    }

    fn value_bytes(&self) -> &[u8] {
        self.block.contents.get(self.value_start..self.next).unwrap_or_default()
    }

    /// Goes to the first entry; returns false if there is none.
    pub(crate) fn seek_first(&mut self) -> Decoded<bool> {
        self.decode_restart(0)
    }

    /// Goes to the next entry; returns false, and leaves the block, if there is none.
    pub(crate) fn next(&mut self) -> Decoded<bool> {
        self.decode(self.next)
    }

    fn leave(&mut self) {
        self.start = self.block.entries_end;
        self.next = self.block.entries_end;
    }

    fn decode_restart(&mut self, index: usize) -> Decoded<bool> {
        // Without a key to share with, an entry that shares is refused.
        self.key.clear();
        self.decode(self.block.restart(index))
    }

    /// Decodes the entry that begins at an offset, on top of the key that is current.
    fn decode(&mut self, start: usize) -> Decoded<bool> {
        if start >= self.block.entries_end {
            self.leave();
            return Ok(false);
        }
        let entry = self.block.contents.get(start..self.block.entries_end).unwrap_or_default();
        let decoded = Header::decode(entry).ok().and_then(|(header, rest)| {
            let (unshared, rest) = rest.split_at_checked(header.unshared)?;
            rest.get(..header.value_len)?;
            let has_suffix = header.shared.saturating_add(header.unshared) >= SUFFIX_BYTES;
            (has_suffix && header.shared <= self.key.len()).then_some((header, unshared, rest))
        });
        let Some((header, unshared, rest)) = decoded else {
            self.leave();
            return Err(Flaw::new(start, "an entry does not fit its block"));
        };
        self.is_tombstone = match header.kind {
            KIND_PUT => false,
            KIND_TOMBSTONE if header.value_len == 0 => true,
            kind => {
                self.leave();
                return Err(Flaw::new(start, format!("an entry is of the unknown kind {kind}")));
            }
        };
        self.key.truncate(header.shared);
        self.key.extend_from_slice(unshared);
        self.start = start;
        self.value_start = self.block.entries_end - rest.len();
        self.next = self.value_start + header.value_len;
        Ok(true)
    }
}

/// The three numbers in front of an entry.
struct Header {
    shared: usize,
    unshared: usize,
    value_len: usize,
    kind: u64,
}

impl Header {
    #[inline]
    fn decode(entry: &[u8]) -> Result<(Header, &[u8]), Truncated> {
        // Nearly all entries have three one-byte numbers, and a scan spends its time here.
        if let [shared, unshared, tag, rest @ ..] = entry
            && (shared | unshared | tag) < 0x80
        {
            return Header::new(u64::from(*shared), u64::from(*unshared), u64::from(*tag), rest);
        }
        let mut reader = Reader::new(entry);
        let (shared, unshared, tag) = (reader.varint()?, reader.varint()?, reader.varint()?);
        Header::new(shared, unshared, tag, reader.rest())
    }

    fn new(
        shared: u64,
        unshared: u64,
        tag: u64,
        rest: &[u8],
    ) -> Result<(Header, &[u8]), Truncated> {
        let size =
            |value: u64| u32::try_from(value).map(|value| value as usize).map_err(|_| Truncated);
        let header = Header {
            shared: size(shared)?,
            unshared: size(unshared)?,
            value_len: size(tag >> 2)?,
            kind: tag & 3,
        };
        Ok((header, rest))
    }
}
