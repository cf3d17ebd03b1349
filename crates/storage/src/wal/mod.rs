//! The write-ahead log. A commit is durable here before anybody sees its effects.
//!
//! One log serves the whole node. Its records carry the group they belong to and their index in
//! that group, so that the same log will carry the entries of every Raft group; the embedded
//! database is a group of one. There is no other log: what is in the memtable and not yet in a
//! table can be read back from here.
//!
//! # The stream and its segments
//!
//! The log is one endless stream of bytes; a position in it is an [`Lsn`]. The stream is cut into
//! files, the segments, which are filled with zeros before they are used: a write into space that
//! was written before changes no file-system metadata, and costs one device write.
//!
//! ```text
//!   00000007.wal              00000008.wal                          00000009.wal
//!  +--------+----------------+--------+-----------+ - - - - - - - + + - - - - - - - +
//!  | header | records        | header | records   | zeros, or an  | | prepared, not |
//!  | base=A |                | base=B |           | older life    | | in use        |
//!  +--------+----------------+--------+-----------+ - - - - - - - + + - - - - - - - +
//!           A                B        B           next             '- no valid header
//! ```
//!
//! Segment 8 begins in the stream where segment 7 ended, and is only begun after all of 7 is
//! durable. The last record of 7 names 8, whose file was made by then: without it, a log whose
//! newest file is lost would read as one that just ends there. A segment that a checkpoint covers
//! is renamed to become the next one, with its old content in it: the checksum of each record
//! covers its position in the stream, so nothing of an older life is ever taken for a record.
//!
//! # Group commit
//!
//! ```text
//!  thread 1   append ─ lead: write 1 ──────────────┐ done
//!  thread 2      append ─ wait ────────────────────┼─ lead: write 2,3 ───────┐ done
//!  thread 3          append ─ wait ────────────────┼───────── wait ──────────┤ done
//!  thread 4                                        │   append ─ wait ────────┼─ lead: write 4 …
//!  the batch  [1]   [2]   [2 3]                    [4]                       []
//! ```
//!
//! Committers append to the batch that is filling. Whoever finds nobody leading takes that batch,
//! writes and syncs it in one call, and wakes those whose records were in it and one of the next
//! batch, who leads on. There is no timer and no thread: a committer who is alone does its own
//! write at once, and under load each write carries all that queued up during the one before, and
//! what those bring who were just woken: the leader lets them run first, if there are any.
//!
//! # Invariants
//! * Indexes rise without gaps within one group; timestamps rise strictly.
//! * No position is reported durable before the write that covers it returned.
//! * After a failed write or sync nothing is reported durable ever again, and nothing is taken.
//! * A record never crosses a segment's end; one that is longer gets a longer segment.
//!
//! # A torn tail is not damage
//! After the last sync, bytes may reach the disk in any order, so a crash can leave a bad record
//! anywhere beyond it. Nobody was promised those, and recovery cuts them off. A bad record *below*
//! a position that a later record, or a later segment, calls synced was promised: that is damage,
//! and the log refuses to open. Damage of the very last records, which nothing later vouches for,
//! cannot be told from a torn tail; a clean close appends a record that vouches for all before it.
//!
//! # Not here
//! What a payload means ([`crate::batch`]), compression, a thread of its own.

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod group;
mod reader;
mod record;
mod segment;

#[cfg(test)]
mod tests;

pub use group::{Wal, WalOptions, WalStats};
pub use reader::{LogEnd, Recovered, SegmentSummary, read_log};
pub(crate) use reader::{oldest_position, read_log_through_damage};
pub(crate) use record::record_bytes;
pub use record::{EMBEDDED_GROUP, Record, RecordKind};
pub(crate) use segment::{begin_at, list_segment_files};
pub use segment::{segment_name, segment_number};

use std::fmt;

/// A position in the log's stream of bytes. Bigger is later.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Lsn(pub u64);

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "lsn {}", self.0)
    }
}
