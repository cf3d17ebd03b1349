//! Where a value lies, and how much of value files is in use.

#![deny(clippy::indexing_slicing)]

use base::codec::{self, Reader, Truncated};

use super::reader::FOOTER_BYTES;

/// What an encoded handle takes, at most, in bytes.
pub(crate) const HANDLE_BYTES_MAX: usize = 10 + 10 + 5 + 5 + 4;

/// Where a value lies: what the entry of a table holds instead of it.
///
/// ```text
///  +- - - -+- - - - -+- - - - - - -+- - - - - - +----------+
///  | file  | offset  | length of   | length of  | crc32c   |
///  |       |         | the record  | the value  | of it    |
///  +- - - -+- - - - -+- - - - - - -+- - - - - - +----------+
///   varint  varint    varint        varint       u32
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ValueHandle {
    /// The number in the name of the value file.
    pub file: u64,
    /// Where its record begins.
    pub offset: u64,
    /// How long the record is: what it takes of the disk.
    pub record_bytes: u32,
    /// How long the value is.
    pub value_bytes: u32,
    /// The checksum of the record.
    pub crc: u32,
}

impl ValueHandle {
    pub(crate) fn encode(self, out: &mut Vec<u8>) {
        codec::put_varint(out, self.file);
        codec::put_varint(out, self.offset);
        codec::put_varint(out, self.record_bytes.into());
        codec::put_varint(out, self.value_bytes.into());
        codec::put_u32(out, self.crc);
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<ValueHandle, Truncated> {
        let mut reader = Reader::new(bytes);
        let short = |number: u64| u32::try_from(number).map_err(|_| Truncated);
        let handle = ValueHandle {
            file: reader.varint()?,
            offset: reader.varint()?,
            record_bytes: short(reader.varint()?)?,
            value_bytes: short(reader.varint()?)?,
            crc: reader.u32()?,
        };
        let is_sound = reader.is_empty() && handle.end().is_some();
        if is_sound { Ok(handle) } else { Err(Truncated) }
    }

    /// Returns where the record ends; `None` beyond the end of all numbers.
    pub fn end(self) -> Option<u64> {
        self.offset.checked_add(self.record_bytes.into())
    }
}

/// What a table refers to in one value file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ValueUse {
    /// The number of the file.
    pub file: u64,
    /// How many values.
    pub values: u64,
    /// How many bytes their records take.
    pub bytes: u64,
}

impl ValueUse {
    /// Adds a value to what is used, which is in the order of the files.
    pub(crate) fn count(uses: &mut Vec<ValueUse>, handle: ValueHandle) {
        let one = ValueUse { file: handle.file, values: 1, bytes: handle.record_bytes.into() };
        ValueUse::add(uses, one);
    }

    /// Adds one use to others, which are in the order of the files.
    pub(crate) fn add(uses: &mut Vec<ValueUse>, more: ValueUse) {
        match uses.binary_search_by_key(&more.file, |of| of.file) {
            Ok(at) => {
                if let Some(of) = uses.get_mut(at) {
                    // What was damaged and has its checksum right must not overflow.
                    of.values = of.values.saturating_add(more.values);
                    of.bytes = of.bytes.saturating_add(more.bytes);
                }
            }
            Err(at) => uses.insert(at, more),
        }
    }

    pub(crate) fn encode_all(uses: &[ValueUse], out: &mut Vec<u8>) {
        codec::put_varint(out, uses.len() as u64);
        for of in uses {
            for number in [of.file, of.values, of.bytes] {
                codec::put_varint(out, number);
            }
        }
    }

    pub(crate) fn decode_all(reader: &mut Reader<'_>) -> Result<Vec<ValueUse>, Truncated> {
        let mut uses: Vec<ValueUse> = Vec::new();
        for _ in 0..reader.varint()? {
            let of = ValueUse {
                file: reader.varint()?,
                values: reader.varint()?,
                bytes: reader.varint()?,
            };
            if uses.last().is_some_and(|last| last.file >= of.file) {
                return Err(Truncated);
            }
            uses.push(of);
        }
        Ok(uses)
    }
}

/// What the manifest says of one value file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ValuesMeta {
    /// The number in its file name.
    pub number: u64,
    /// Length of the file.
    pub bytes: u64,
    /// Number of values.
    pub values: u64,
    /// Bytes of the values before compression.
    pub value_bytes: u64,
}

impl ValuesMeta {
    /// Returns the bytes of all records: the file without its footer.
    pub fn record_bytes(&self) -> u64 {
        self.bytes.saturating_sub(FOOTER_BYTES as u64)
    }
}

impl std::fmt::Display for ValuesMeta {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ValuesMeta { number, bytes, values, value_bytes } = self;
        write!(f, "value file {number}: {bytes} bytes, {values} values of {value_bytes} bytes")
    }
}
