//! Value files: large values, stored once, apart from the tables that refer to them.
//!
//! A table is merged again and again on its way down the levels, and each time all that is in it is
//! written anew. A value of some kilobytes would be copied five times for the sake of its key. So
//! a large value is written to a value file when its memtable is flushed, and the entry in the table
//! holds a [`ValueHandle`]: compactions copy the handle and never touch the value.
//!
//! ```text
//!  one record after the other                                                  the last 40 bytes
//!  +--------+-----+- - - - - -+--------+-----+- - - - - -+- - - - - - - - - - -+--------+
//!  | header | key | value     | header | key | value     |                     | footer |
//!  +--------+-----+- - - - - -+--------+-----+- - - - - -+- - - - - - - - - - -+--------+
//!
//!  the header of a record                                      length of the value as stored
//!  0          4          8          10         11         12   v
//!  +----------+----------+----------+----------+----------+
//!  | crc32c   | length   | key len  | method   | zero     |   method: 0 plain, 1 LZ4, 2 Zstandard,
//!  +----------+----------+----------+----------+----------+   as drawn in `table::compression`
//!
//!  the footer
//!  0                8                16         20         24               32         36
//!  +----------------+----------------+----------+----------+----------------+----------+--------+
//!  | values         | bytes of them  | version  | zero     | magic          | zero     | crc32c |
//!  +----------------+----------------+----------+----------+----------------+----------+--------+
//!                    before compression
//! ```
//!
//! The checksum of a record covers all of it that follows, and then its offset in the file as eight
//! bytes, so a record that came to lie elsewhere is not taken for another. The checksum of the
//! footer covers the 36 bytes before it. Magic, version and checksum keep their places in all
//! versions to come. Integers are little-endian.
//!
//! # A handle vouches for its record
//! The handle in the table has the record's checksum, too. A value file that came under its name in
//! some other way, as from an older copy, is found out by the first read, and so is a handle that
//! points to the wrong record. The key in the record is there for people and for repairs, and is
//! compared as well.
//!
//! # How space comes back
//! A value is garbage when no table refers to it any more: its entry was left out of a merge. Each
//! table says how much it refers to in which file, so what is live in a file is a sum over the live
//! tables ([`crate::version`]). A file that no table refers to is removed as a table is. From one
//! that is mostly garbage, compactions take along what is live ([`crate::compaction`]).
//!
//! # Invariants
//! * A value file is whole and durable, its name included, before a table that refers to it is
//!   named.
//! * It is never changed. Each byte of it belongs to one record or to the footer.
//!
//! # Not here
//! Timestamps: a bulk load does not know its own, and a value means nothing without its entry.
//! Reading ahead: values of neighbouring keys lie side by side, and the system reads ahead of who
//! reads one after the other. References: WiscKey (FAST '16), Titan and BlobDB.

mod builder;
mod handle;
mod reader;
mod writer;

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
#[cfg(test)]
mod tests;

pub use builder::ValuesBuilder;
pub(crate) use handle::HANDLE_BYTES_MAX;
pub use handle::{ValueHandle, ValueUse, ValuesMeta};
pub use reader::{FORMAT_VERSION, Record, ValuesFile, Walk};
pub use writer::ValueWriter;
