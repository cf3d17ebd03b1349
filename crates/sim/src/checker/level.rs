//! Isolation levels, and which phenomena each of them forbids.
//!
//! ```text
//!                              strict-serializable
//!                             /                   \
//!        strong-session-serializable         strict-snapshot-isolation
//!             /            \                   /
//!       serializable     strong-session-snapshot-isolation
//!                  \       /
//!             snapshot-isolation        forbids lost updates, read skew, long forks
//!                     |
//!               read-committed          forbids dirty reads, circular information flow
//!                     |
//!              read-uncommitted         forbids interleaved writes
//! ```
//!
//! Adya (PhD thesis, MIT 1999) defines levels by the cycles they forbid: ch. 3 the levels up to
//! serializable, ch. 4 snapshot isolation. That snapshot isolation forbids exactly the cycles
//! without two anti-dependencies in a row is Cerone and Gotsman, "Analysing Snapshot Isolation",
//! PODC 2016. Strong-session: Daudjee and Salem, VLDB 2006.
//!
//! # Not here
//! * Repeatable read (PL-2.99): without predicates in the history it equals serializable.
//! * Cursor stability, monotonic atomic view and the other levels that Holm does not offer.

use std::fmt;
use std::str::FromStr;

/// What a database promises about transactions that run side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Level {
    /// Adya's PL-1: writes of two transactions do not interleave.
    ReadUncommitted,
    /// Adya's PL-2: what is read was committed, and in its final form.
    ReadCommitted,
    /// Each transaction reads one state, and no two beside each other write the same key.
    SnapshotIsolation,
    /// Snapshot isolation; a session sees what it did before.
    StrongSessionSnapshotIsolation,
    /// Snapshot isolation; a transaction sees all that ended before it began.
    StrictSnapshotIsolation,
    /// Adya's PL-3: the outcome is that of some serial order.
    Serializable,
    /// Serializable, in an order that agrees with that of each session.
    StrongSessionSerializable,
    /// Serializable, in an order that agrees with real time.
    StrictSerializable,
}

/// How a history departs from a serial one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Two transactions wrote the same element, so that the history proves nothing.
    AmbiguousWrite,
    /// A read saw what nobody wrote.
    GarbageRead,
    /// A read saw an element twice.
    DuplicateElements,
    /// Two reads of a list, neither of which begins with the other.
    IncompatibleOrder,
    /// A transaction did not read its own write, or not just once, or too early.
    Internal,
    /// The appends of one transaction stand in another order than it made them, or with gaps.
    ReorderedAppends,
    /// A transaction read a key twice and saw two states (P2).
    NonRepeatableRead,
    /// A read saw the write of an aborted transaction (Adya, Liskov, O'Neil §5.2).
    AbortedRead,
    /// A read saw a write that its transaction then wrote over (Adya, Liskov, O'Neil §5.2).
    IntermediateRead,
    /// A committed write stands on an aborted one (Elle).
    DirtyUpdate,
    /// Two transactions wrote a key on the ground of the same state of it (P4).
    LostUpdate,
    /// An append was acknowledged and is in no later read.
    LostAppend,
    /// The commit timestamps contradict each other.
    TimestampConflict,
    /// A read differs from the state at its timestamp.
    InexactSnapshot,
    /// Between the timestamps of a transaction, another wrote to a key that it wrote too.
    WriteOverlap,
    /// Between the timestamps of a transaction, another wrote to a key that it had read.
    ReadOverlap,
    /// The timestamps run against real time.
    TimestampOrder,
    /// Money appeared or vanished.
    WrongTotal,
    /// No order of the operations on a register agrees with their answers and with real time.
    NotLinearizable,
    /// A read of a set, or of a counter, does not show what was known before it began.
    StaleRead,
    /// An element of a set was acknowledged, and no read that began after the others has it.
    LostElement,
    /// A counter shows more than can have been added to it.
    WrongCount,
    /// Two reads disagree on which of two writes came first.
    LongFork,
    /// Too much overlapped for the search; nothing is proved, either way.
    Undecided,
    /// A cycle of dependencies.
    Cycle(Cycle, Order),
}

/// What a cycle of dependencies is made of, from the worst to the mildest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cycle {
    /// Writes over writes only.
    G0,
    /// Writes over writes and reads of writes: circular information flow.
    G1c,
    /// Exactly one anti-dependency (a read of what another then wrote over).
    GSingle,
    /// Several anti-dependencies, no two of them in a row.
    GNonadjacent,
    /// Two anti-dependencies in a row, as every cycle has that snapshot isolation allows.
    G2Item,
}

/// Which order a cycle needs besides the data itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Order {
    /// None: the data alone is contradictory.
    Data,
    /// That of a session.
    Process,
    /// That of real time.
    RealTime,
}

impl Level {
    /// All levels, weaker before stronger.
    pub const ALL: [Level; 8] = [
        Level::ReadUncommitted,
        Level::ReadCommitted,
        Level::SnapshotIsolation,
        Level::StrongSessionSnapshotIsolation,
        Level::StrictSnapshotIsolation,
        Level::Serializable,
        Level::StrongSessionSerializable,
        Level::StrictSerializable,
    ];

    /// Returns the name, as written on a command line.
    pub const fn name(self) -> &'static str {
        match self {
            Level::ReadUncommitted => "read-uncommitted",
            Level::ReadCommitted => "read-committed",
            Level::SnapshotIsolation => "snapshot-isolation",
            Level::StrongSessionSnapshotIsolation => "strong-session-snapshot-isolation",
            Level::StrictSnapshotIsolation => "strict-snapshot-isolation",
            Level::Serializable => "serializable",
            Level::StrongSessionSerializable => "strong-session-serializable",
            Level::StrictSerializable => "strict-serializable",
        }
    }

    /// Returns true if a history at this level cannot contain the phenomenon.
    pub fn forbids(self, class: Class) -> bool {
        match class {
            Class::AmbiguousWrite
            | Class::GarbageRead
            | Class::DuplicateElements
            | Class::Internal
            | Class::ReorderedAppends
            | Class::LostAppend
            | Class::LostElement
            | Class::WrongCount
            | Class::TimestampConflict => true,
            Class::IncompatibleOrder
            | Class::AbortedRead
            | Class::IntermediateRead
            | Class::DirtyUpdate => self != Level::ReadUncommitted,
            Class::NonRepeatableRead
            | Class::LostUpdate
            | Class::InexactSnapshot
            | Class::WrongTotal => self.cycle_max() >= Cycle::GNonadjacent,
            Class::WriteOverlap => self.cycle_max() == Cycle::GNonadjacent,
            Class::ReadOverlap => self.cycle_max() == Cycle::G2Item,
            Class::TimestampOrder => self.order_max() == Order::RealTime,
            // A single operation reads and writes at once, so that snapshots make no difference.
            Class::NotLinearizable | Class::StaleRead => self.order_max() == Order::RealTime,
            Class::Undecided => false,
            Class::LongFork => self.cycle_max() >= Cycle::GNonadjacent,
            Class::Cycle(cycle, order) => cycle <= self.cycle_max() && order <= self.order_max(),
        }
    }

    /// Returns true if the level promises an outcome that some serial order explains.
    pub fn is_serializable(self) -> bool {
        self.cycle_max() == Cycle::G2Item
    }

    /// The mildest cycle that is forbidden; the worse ones are too.
    fn cycle_max(self) -> Cycle {
        match self {
            Level::ReadUncommitted => Cycle::G0,
            Level::ReadCommitted => Cycle::G1c,
            Level::SnapshotIsolation
            | Level::StrongSessionSnapshotIsolation
            | Level::StrictSnapshotIsolation => Cycle::GNonadjacent,
            Level::Serializable | Level::StrongSessionSerializable | Level::StrictSerializable => {
                Cycle::G2Item
            }
        }
    }

    fn order_max(self) -> Order {
        match self {
            Level::ReadUncommitted
            | Level::ReadCommitted
            | Level::SnapshotIsolation
            | Level::Serializable => Order::Data,
            Level::StrongSessionSnapshotIsolation | Level::StrongSessionSerializable => {
                Order::Process
            }
            Level::StrictSnapshotIsolation | Level::StrictSerializable => Order::RealTime,
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Level {
    type Err = String;

    fn from_str(name: &str) -> Result<Level, String> {
        Level::ALL.into_iter().find(|level| level.name() == name).ok_or_else(|| {
            let names: Vec<_> = Level::ALL.iter().map(|level| level.name()).collect();
            format!("no isolation level is called `{name}`; there are {}", names.join(", "))
        })
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Class::AmbiguousWrite => "ambiguous-write",
            Class::GarbageRead => "garbage-read",
            Class::DuplicateElements => "duplicate-elements",
            Class::IncompatibleOrder => "incompatible-order",
            Class::Internal => "internal",
            Class::ReorderedAppends => "reordered-appends",
            Class::NonRepeatableRead => "non-repeatable-read",
            Class::AbortedRead => "G1a",
            Class::IntermediateRead => "G1b",
            Class::DirtyUpdate => "dirty-update",
            Class::LostUpdate => "lost-update",
            Class::LostAppend => "lost-append",
            Class::TimestampConflict => "timestamp-conflict",
            Class::InexactSnapshot => "inexact-snapshot",
            Class::WriteOverlap => "write-overlap",
            Class::ReadOverlap => "read-overlap",
            Class::TimestampOrder => "timestamp-order",
            Class::WrongTotal => "wrong-total",
            Class::NotLinearizable => "not-linearizable",
            Class::StaleRead => "stale-read",
            Class::LostElement => "lost-element",
            Class::WrongCount => "wrong-count",
            Class::LongFork => "long-fork",
            Class::Undecided => "undecided",
            Class::Cycle(cycle, order) => return write!(f, "{cycle}{order}"),
        })
    }
}

impl fmt::Display for Cycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Cycle::G0 => "G0",
            Cycle::G1c => "G1c",
            Cycle::GSingle => "G-single",
            Cycle::GNonadjacent => "G-nonadjacent",
            Cycle::G2Item => "G2-item",
        })
    }
}

/// Prints the suffix that the order gives to the name of a cycle.
impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Order::Data => "",
            Order::Process => "-process",
            Order::RealTime => "-realtime",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(level: Level, forbidden: &str, permitted: &str) {
        let mut all = Vec::new();
        for order in [Order::Data, Order::Process, Order::RealTime] {
            for cycle in [Cycle::G0, Cycle::G1c, Cycle::GSingle, Cycle::GNonadjacent, Cycle::G2Item]
            {
                all.push(Class::Cycle(cycle, order));
            }
        }
        for (names, expected) in [(forbidden, true), (permitted, false)] {
            for name in names.split_whitespace() {
                let class = all.iter().find(|class| class.to_string() == name).unwrap();
                assert_eq!(level.forbids(*class), expected, "{level} {name}");
            }
        }
    }

    #[test]
    fn levels_forbid_what_the_literature_says() {
        check(Level::ReadUncommitted, "G0", "G1c G-single G0-process");
        check(Level::ReadCommitted, "G0 G1c", "G-single G2-item G1c-realtime");
        check(Level::SnapshotIsolation, "G-single G-nonadjacent", "G2-item G-single-process");
        check(Level::StrictSnapshotIsolation, "G-nonadjacent-realtime", "G2-item G2-item-realtime");
        check(Level::Serializable, "G2-item G0", "G2-item-process G-single-realtime");
        check(Level::StrongSessionSerializable, "G2-item-process", "G1c-realtime");
        check(Level::StrictSerializable, "G2-item-realtime G0-process", "");
    }

    #[test]
    fn names_are_read_back() {
        for level in Level::ALL {
            assert_eq!(level.name().parse(), Ok(level));
        }
        assert!("snapshot".parse::<Level>().unwrap_err().contains("snapshot-isolation"));
    }
}
