//! The footer: the last 48 bytes of a table, from which all else is found.
//!
//! ```text
//!  0                8          12         16               24         28         32
//!  +----------------+----------+----------+----------------+----------+----------+
//!  | top index at   | length   | version  | properties at  | length   | zero     |
//!  +----------------+----------+----------+----------------+----------+----------+
//!  32               40         44         48
//!  +----------------+----------+----------+
//!  | magic          | zero     | crc32c   |
//!  +----------------+----------+----------+
//! ```
//!
//! Lengths are those of block contents, without trailer. The checksum covers the 44 bytes before
//! it. Magic, version and checksum keep their places in all versions to come, so that an old
//! program can tell a newer table from a damaged one.

#![deny(clippy::indexing_slicing)]

use base::checksum;
use base::codec::{self, Reader, Truncated};

use super::block::{Flaw, Handle};

/// Length of the footer.
pub(crate) const FOOTER_BYTES: usize = 48;

/// The version of the format that is written, and the newest that is read.
///
/// Format 2 has another layout of data blocks, compresses them, and may have no filters. Format 3
/// may refer to values in value files.
pub const FORMAT_VERSION: u32 = 3;

/// The first byte is not text and the last ones break when a file passes through a text filter, as
/// in PNG.
const MAGIC: [u8; 8] = *b"\x89HOLMT\r\n";

/// Where the top index and the properties lie, and the version of the file's format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Footer {
    pub(crate) version: u32,
    pub(crate) top_index: Handle,
    pub(crate) properties: Handle,
}

/// Why a footer cannot be used.
pub(crate) enum BadFooter {
    Damaged(Flaw),
    Newer(u32),
}

impl Footer {
    pub(crate) fn encode(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(FOOTER_BYTES);
        codec::put_u64(&mut out, self.top_index.offset);
        codec::put_u32(&mut out, self.top_index.len);
        codec::put_u32(&mut out, self.version);
        codec::put_u64(&mut out, self.properties.offset);
        codec::put_u32(&mut out, self.properties.len);
        codec::put_u32(&mut out, 0);
        out.extend_from_slice(&MAGIC);
        codec::put_u32(&mut out, 0);
        let crc = checksum::of(&[&out]);
        codec::put_u32(&mut out, crc);
        debug_assert_eq!(out.len(), FOOTER_BYTES, "the map above is wrong");
        out
    }

    /// Decodes the last bytes of a file of `file_len` bytes.
    pub(crate) fn decode(bytes: &[u8], file_len: u64) -> Result<Footer, BadFooter> {
        let damaged = |what| BadFooter::Damaged(Flaw::new(0, what));
        let fields =
            Fields::decode(bytes).map_err(|_| damaged("the file is shorter than a footer"))?;
        if fields.magic != MAGIC {
            return Err(damaged("the file does not end with the footer of a table"));
        }
        if bytes
            .get(..FOOTER_BYTES - 4)
            .is_none_or(|covered| checksum::of(&[covered]) != fields.crc)
        {
            return Err(damaged("the checksum of the footer does not match"));
        }
        if fields.footer.version > FORMAT_VERSION {
            return Err(BadFooter::Newer(fields.footer.version));
        }
        let Footer { version, top_index, properties } = fields.footer;
        // The blocks must lie where the builder puts them: no byte between them, none behind.
        if version == 0
            || top_index.end() != properties.offset
            || properties.end().checked_add(FOOTER_BYTES as u64) != Some(file_len)
        {
            return Err(damaged("the footer points outside the file"));
        }
        Ok(fields.footer)
    }
}

struct Fields {
    footer: Footer,
    magic: [u8; 8],
    crc: u32,
}

impl Fields {
    fn decode(bytes: &[u8]) -> Result<Fields, Truncated> {
        let mut reader = Reader::new(bytes);
        let top_index = Handle { offset: reader.u64()?, len: reader.u32()? };
        let version = reader.u32()?;
        let properties = Handle { offset: reader.u64()?, len: reader.u32()? };
        let _zero = reader.u32()?;
        let magic = reader.u64()?.to_le_bytes();
        let _zero = reader.u32()?;
        let crc = reader.u32()?;
        Ok(Fields { footer: Footer { version, top_index, properties }, magic, crc })
    }
}
