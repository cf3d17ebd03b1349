//! The floor that every other crate stands on: timestamps, keys and ranges, the byte codec,
//! the checksum, and the one text form of bytes. No I/O, no clock, no thread, no other crate.
//!
//! ```
//! use base::{KeyRange, Timestamp};
//!
//! let ts = Timestamp::from_parts(1_700_000_000_000, 3);
//! assert_eq!((ts.wall_ms(), ts.counter()), (1_700_000_000_000, 3));
//! assert!(KeyRange::prefix(b"user/").contains(b"user/7"));
//! ```

#![forbid(unsafe_code)]

mod timestamp;

pub mod checksum;
pub mod codec;
pub mod key;
pub mod limits;
pub mod range;
pub mod text;

pub use key::KeyspaceId;
pub use range::KeyRange;
pub use timestamp::Timestamp;
