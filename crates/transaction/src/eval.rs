//! The conflict check: values in, a verdict out. This is the function that every deployment will
//! run at the shard's leader.
//!
//! ```text
//!   time ─────► read_ts              validated              now
//!   this one    │ begins             │                      │ wants to commit
//!   others      │   c1  c2      c3   │     c4        c5     │
//!               '── by the index ────'── by this function ──'
//! ```
//!
//! A transaction may commit if nobody committed a write to what it read, or to what it writes,
//! after it began to read. Commits that can be seen in the memtable's index are checked there,
//! outside the critical section; the few that may have come since are handed to [`evaluate`].
//!
//! * A blind transaction, which read nothing, never conflicts: it might as well have begun now.
//! * Under snapshot isolation only written keys count (first committer wins), and those that were
//!   read with `get_for_update`.

use base::{KeyRange, Timestamp};
use bytes::Bytes;
use storage::ReadPin;

use crate::error::Touched;
use crate::read_set::ReadSet;
use crate::write_set::WriteSet;

/// What a transaction touched, as far as a conflict with it is possible.
#[derive(Debug, Clone, Copy)]
pub struct Footprint<'a> {
    /// What must not have changed since it was read.
    pub reads: &'a ReadSet,
    /// What it writes.
    pub writes: &'a WriteSet,
    /// True if it has read nothing, so that its writes cannot conflict.
    pub blind: bool,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nobody stood in the way.
    Free,
    /// Somebody wrote this key.
    Conflict {
        /// The key.
        key: Bytes,
        /// What the loser had done with it.
        touched: Touched,
    },
}

/// How much larger one side may be before its keys are looked up instead of walked. A look-up in a
/// tree costs about as much as walking this many keys.
const LOOK_UP_FACTOR: usize = 8;

/// Decides whether a transaction may commit after another one that committed `writes` since it
/// began to read.
pub fn evaluate(mine: Footprint<'_>, writes: &WriteSet) -> Verdict {
    if mine.blind {
        return Verdict::Free;
    }
    let may_share_keys =
        writes.signature() & (mine.writes.signature() | mine.reads.signature()) != 0;
    if may_share_keys {
        let own = mine.writes.len() + mine.reads.points().len();
        let verdict = if writes.len() > own * LOOK_UP_FACTOR {
            look_up_own(mine, writes)
        } else {
            walk_theirs(mine, writes)
        };
        if verdict != Verdict::Free {
            return verdict;
        }
    }
    // Whichever side has less is walked: this runs in the critical section.
    let found = if writes.len() < mine.reads.ranges().len() {
        writes.iter().find_map(|(key, _)| Some((key, mine.reads.range_of(key)?)))
    } else {
        mine.reads.ranges().iter().find_map(|range| Some((writes.key_in(range)?, range)))
    };
    match found {
        Some((key, range)) => {
            Verdict::Conflict { key: key.clone(), touched: Touched::Scanned(range.clone()) }
        }
        None => Verdict::Free,
    }
}

fn walk_theirs(mine: Footprint<'_>, writes: &WriteSet) -> Verdict {
    for (key, _) in writes.iter() {
        if mine.writes.contains(key) {
            return Verdict::Conflict { key: key.clone(), touched: Touched::Wrote };
        }
        if mine.reads.contains_point(key) {
            return Verdict::Conflict { key: key.clone(), touched: Touched::Read };
        }
    }
    Verdict::Free
}

fn look_up_own(mine: Footprint<'_>, writes: &WriteSet) -> Verdict {
    let wrote = mine.writes.iter().map(|(key, _)| (key, Touched::Wrote));
    let read = mine.reads.points().map(|key| (key, Touched::Read));
    match wrote.chain(read).find(|(key, _)| writes.contains(key)) {
        Some((key, touched)) => Verdict::Conflict { key: key.clone(), touched },
        None => Verdict::Free,
    }
}

/// Decides whether a transaction may commit after a bulk load that filled a range since it began to
/// read. The load may have written any key of it.
pub(crate) fn evaluate_load(mine: Footprint<'_>, loaded: &KeyRange) -> Verdict {
    if mine.blind {
        return Verdict::Free;
    }
    let wrote = mine.writes.key_in(loaded).map(|key| (key, Touched::Wrote));
    let read = || {
        let key = mine.reads.points().find(|key| loaded.contains(key));
        key.map(|key| (key, Touched::Read))
    };
    let scanned = || {
        let range = mine.reads.ranges().iter().find(|range| range.overlaps(loaded))?;
        let first = if range.start > loaded.start { &range.start } else { &loaded.start };
        Some((first, Touched::Scanned(range.clone())))
    };
    match wrote.or_else(read).or_else(scanned) {
        Some((key, touched)) => Verdict::Conflict { key: key.clone(), touched },
        None => Verdict::Free,
    }
}

/// A conflict found in the index: somebody committed this key at this time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Newer {
    /// The key.
    pub key: Bytes,
    /// What the loser had done with it.
    pub touched: Touched,
    /// The winner's timestamp.
    pub ts: Timestamp,
}

/// Looks for anything stored of a footprint that is newer than `after`.
///
/// # Errors
/// Those of the disk, if a table must be read.
pub fn find_newer(
    pin: &ReadPin,
    footprint: Footprint<'_>,
    after: Timestamp,
) -> storage::Result<Option<Newer>> {
    let wrote = footprint.writes.iter().map(|(key, _)| (key, Touched::Wrote));
    let read = footprint.reads.points().map(|key| (key, Touched::Read));
    for (key, touched) in wrote.chain(read) {
        if let Some(ts) = pin.newest_after(key, after)? {
            return Ok(Some(Newer { key: key.clone(), touched, ts }));
        }
    }
    for range in footprint.reads.ranges() {
        if let Some((key, ts)) = pin.newest_in_range(range, after)? {
            return Ok(Some(Newer { key, touched: Touched::Scanned(range.clone()), ts }));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(keys: &[&'static str]) -> WriteSet {
        let mut set = WriteSet::default();
        for key in keys {
            set.write(Bytes::from_static(key.as_bytes()), None).unwrap();
        }
        set
    }

    fn check(
        reads: &[&'static str],
        range: Option<(&str, &str)>,
        writes: &[&'static str],
        theirs: &[&'static str],
    ) -> String {
        let mut read_set = ReadSet::default();
        for key in reads {
            read_set.add_point(Bytes::from_static(key.as_bytes()));
        }
        if let Some((start, end)) = range {
            read_set.add_range((start..end).into());
        }
        let writes = set(writes);
        let mine = Footprint { reads: &read_set, writes: &writes, blind: false };
        match evaluate(mine, &set(theirs)) {
            Verdict::Free => "free".into(),
            Verdict::Conflict { key, touched } => format!("{touched:?} {}", key.escape_ascii()),
        }
    }

    #[test]
    fn what_was_read_or_written_must_not_have_changed() {
        assert_eq!(check(&["a"], None, &["b"], &["c"]), "free");
        assert_eq!(check(&["a"], None, &["b"], &["a"]), "Read a");
        assert_eq!(check(&["a"], None, &["b"], &["b"]), "Wrote b");
        assert_eq!(check(&[], Some(("k", "m")), &["b"], &["l"]), "Scanned(k..m) l");
        assert_eq!(check(&[], Some(("k", "m")), &["b"], &["m"]), "free");
    }

    #[test]
    fn a_large_transaction_is_searched_instead_of_walked() {
        let names: Vec<&'static str> = (0..200).map(|n| &*format!("k{n:03}").leak()).collect();
        assert_eq!(check(&["k150"], None, &["x"], &names), "Read k150");
        assert_eq!(check(&["y"], None, &["k007"], &names), "Wrote k007");
        assert_eq!(check(&["y"], None, &["x"], &names), "free");
    }

    #[test]
    fn many_ranges_are_searched_instead_of_walked() {
        let mut reads = ReadSet::default();
        for start in ["a", "d", "g", "k"] {
            reads.add_range(base::KeyRange::prefix(start.as_bytes()));
        }
        let check = |theirs: &[&'static str]| {
            let mine = Footprint { reads: &reads, writes: &set(&["z"]), blind: false };
            evaluate(mine, &set(theirs))
        };
        assert_eq!(check(&["c", "f", "l"]), Verdict::Free);
        let range = base::KeyRange::prefix(b"g");
        let conflict =
            Verdict::Conflict { key: Bytes::from_static(b"gg"), touched: Touched::Scanned(range) };
        assert_eq!(check(&["c", "gg"]), conflict);
    }

    #[test]
    fn a_bulk_load_conflicts_with_whatever_touched_its_range() {
        let check = |reads: &[&'static str],
                     range: Option<(&str, &str)>,
                     writes: &[&'static str]| {
            let mut read_set = ReadSet::default();
            reads.iter().for_each(|key| read_set.add_point(Bytes::from_static(key.as_bytes())));
            if let Some((start, end)) = range {
                read_set.add_range((start..end).into());
            }
            let writes = set(writes);
            let mine = Footprint { reads: &read_set, writes: &writes, blind: false };
            match evaluate_load(mine, &("k".."m").into()) {
                Verdict::Free => "free".into(),
                Verdict::Conflict { key, touched } => format!("{touched:?} {}", key.escape_ascii()),
            }
        };
        assert_eq!(check(&["a", "m"], Some(("a", "k")), &["z"]), "free");
        assert_eq!(check(&["l"], None, &["z"]), "Read l");
        assert_eq!(check(&[], None, &["k"]), "Wrote k");
        assert_eq!(check(&[], Some(("a", "k\0")), &["z"]), "Scanned(a..k\\x00) k");
        assert_eq!(check(&[], Some(("l", "z")), &["z"]), "Scanned(l..z) l");
    }

    #[test]
    fn a_blind_transaction_never_conflicts() {
        let writes = set(&["a"]);
        let mine = Footprint { reads: &ReadSet::default(), writes: &writes, blind: true };
        assert_eq!(evaluate(mine, &set(&["a"])), Verdict::Free);
    }
}
