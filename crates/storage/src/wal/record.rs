//! The bytes of one record.
//!
//! ```text
//!  0         4         8         12   13   14        16
//!  +---------+---------+---------+----+----+---------+-------------------+
//!  | crc32c  | payload | crc32c  |kind|  0 |    0    | group             |
//!  | header  | length  | payload |    |    |         |                   |
//!  +---------+---------+---------+----+----+---------+-------------------+
//!  24                  32                  40                  48
//!  +-------------------+-------------------+-------------------+-------------------+
//!  | term              | index             | synced up to      | timestamp         |
//!  +-------------------+-------------------+-------------------+-------------------+
//!  56
//!  +---------------------------- - -
//!  | payload, then zeros up to a multiple of 8
//!  +---------------------------- - -
//! ```
//!
//! All integers are little-endian. The header's checksum covers the record's own position in the
//! stream (eight bytes, not stored) and bytes 4 to 56; the payload has its own, so that it can be
//! computed before the record's place and timestamp are known, outside the critical section.
//! `synced up to` is a position that was durable when this record was made: it vouches for
//! everything below.
//!
//! The timestamp stands in the header and not in the payload for the same reason: it is only known
//! inside the critical section. Records of a replicated group have none.

use base::{Timestamp, checksum};

use super::Lsn;

/// Bytes before the payload.
pub(super) const HEADER_BYTES: usize = 56;

/// Records begin at multiples of this in the stream.
pub(super) const ALIGN: u64 = 8;

/// The group of an embedded database: one voter, always the leader, term 1 for ever.
pub const EMBEDDED_GROUP: u64 = 1;

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordKind {
    /// An entry of a group's log: for the embedded database, one transaction.
    Entry,
    /// What a replica must remember of elections: the term, and in the payload the vote. The index
    /// is one that was applied.
    HardState,
    /// The entries of the group at and above the index are not part of its log any more.
    Truncate,
    /// An image of the state up to the index, which has the term, stands in for all entries before
    /// this record.
    Snapshot,
    /// Written at a clean close: vouches for everything before it, and carries nothing.
    Close,
    /// The last of a segment: the file of the next one was made, and is this long
    /// (two integers: its number and its bytes). If it is missing, what was in it has been lost.
    Next,
}

impl RecordKind {
    fn encode(self) -> u8 {
        match self {
            RecordKind::Entry => 1,
            RecordKind::HardState => 2,
            RecordKind::Truncate => 3,
            RecordKind::Snapshot => 4,
            RecordKind::Close => 5,
            RecordKind::Next => 6,
        }
    }

    fn decode(byte: u8) -> Option<RecordKind> {
        match byte {
            1 => Some(RecordKind::Entry),
            2 => Some(RecordKind::HardState),
            3 => Some(RecordKind::Truncate),
            4 => Some(RecordKind::Snapshot),
            5 => Some(RecordKind::Close),
            6 => Some(RecordKind::Next),
            _ => None,
        }
    }
}

/// One record as read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Where it begins in the stream.
    pub lsn: Lsn,
    /// What it is.
    pub kind: RecordKind,
    /// Whose log it belongs to.
    pub group: u64,
    /// The term it was accepted in.
    pub term: u64,
    /// Its index in the group's log.
    pub index: u64,
    /// All of the stream below was durable when this record was made.
    pub synced: Lsn,
    /// The commit timestamp of the transaction in it.
    pub timestamp: Timestamp,
    /// The content.
    pub payload: &'a [u8],
}

/// The fields of a header, read but for the payload.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    pub(super) payload_len: usize,
    payload_crc: u32,
    kind: RecordKind,
    group: u64,
    term: u64,
    pub(super) index: u64,
    pub(super) synced: Lsn,
    pub(super) timestamp: Timestamp,
}

/// Bytes of the payload of a [`RecordKind::Next`].
pub(super) const NEXT_BYTES: usize = 16;

/// Returns the payload of a [`RecordKind::Next`]: the number of the next segment and the length of
/// its file in bytes, little-endian.
pub(super) fn encode_next(number: u64, file_bytes: u64) -> [u8; NEXT_BYTES] {
    let mut payload = [0; NEXT_BYTES];
    payload[..8].copy_from_slice(&number.to_le_bytes());
    payload[8..].copy_from_slice(&file_bytes.to_le_bytes());
    payload
}

/// Returns what [`encode_next`] was given; `None` if these bytes are not of its making.
pub(super) fn decode_next(payload: &[u8]) -> Option<NextSegment> {
    let payload = payload.first_chunk::<NEXT_BYTES>().filter(|_| payload.len() == NEXT_BYTES)?;
    let (number, file_bytes) = payload.split_at(8);
    let u64_of = |bytes: &[u8]| bytes.try_into().map(u64::from_le_bytes).ok();
    Some(NextSegment { number: u64_of(number)?, file_bytes: u64_of(file_bytes)? })
}

/// The segment that a [`RecordKind::Next`] tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NextSegment {
    pub(super) number: u64,
    /// How long its file was made.
    pub(super) file_bytes: u64,
}

/// Returns the bytes that a record with this payload takes in the stream.
pub(crate) const fn record_bytes(payload_len: usize) -> u64 {
    ((HEADER_BYTES + payload_len) as u64).next_multiple_of(ALIGN)
}

/// Returns the header's bytes. `payload_crc` is [`base::checksum::of`] the payload.
#[expect(clippy::too_many_arguments, reason = "these are the fields of the format, once")]
pub(super) fn encode_header(
    lsn: Lsn,
    kind: RecordKind,
    group: u64,
    term: u64,
    index: u64,
    synced: Lsn,
    timestamp: Timestamp,
    payload_len: usize,
    payload_crc: u32,
) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    put(4, &(payload_len as u32).to_le_bytes());
    put(8, &payload_crc.to_le_bytes());
    put(12, &[kind.encode()]);
    put(16, &group.to_le_bytes());
    put(24, &term.to_le_bytes());
    put(32, &index.to_le_bytes());
    put(40, &synced.0.to_le_bytes());
    put(48, &timestamp.raw().to_le_bytes());
    let crc = header_crc(lsn, &header);
    header[..4].copy_from_slice(&crc.to_le_bytes());
    header
}

fn header_crc(lsn: Lsn, header: &[u8; HEADER_BYTES]) -> u32 {
    checksum::of(&[&lsn.0.to_le_bytes(), &header[4..]])
}

/// Reads the header of a record that begins at `lsn`; `None` if these bytes are not one.
pub(super) fn decode_header(lsn: Lsn, bytes: &[u8]) -> Option<Header> {
    let header = bytes.first_chunk::<HEADER_BYTES>()?;
    // Cheap tests first: the search for records beyond a torn one tries every eighth byte.
    let kind = RecordKind::decode(header[12])?;
    if header[13..16] != [0; 3] {
        return None;
    }
    let u32_at = |at: usize| {
        u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    };
    let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
    if u32_at(0) != header_crc(lsn, header) {
        return None;
    }
    Some(Header {
        payload_len: u32_at(4) as usize,
        payload_crc: u32_at(8),
        kind,
        group: u64_at(16),
        term: u64_at(24),
        index: u64_at(32),
        synced: Lsn(u64_at(40)),
        timestamp: Timestamp::from_raw(u64_at(48)),
    })
}

/// Reads the record that begins at `lsn` with the first of `bytes`; `None` if there is none whole.
/// The second value is the number of bytes it takes.
pub(super) fn decode(lsn: Lsn, bytes: &[u8]) -> Option<(Record<'_>, u64)> {
    let header = decode_header(lsn, bytes)?;
    let payload = bytes.get(HEADER_BYTES..HEADER_BYTES.checked_add(header.payload_len)?)?;
    if checksum::of(&[payload]) != header.payload_crc {
        return None;
    }
    let Header { kind, group, term, index, synced, timestamp, .. } = header;
    let record = Record { lsn, kind, group, term, index, synced, timestamp, payload };
    Some((record, record_bytes(header.payload_len)))
}
