//! What a serializable transaction has read: keys, and the parts of ranges it truly scanned.
//!
//! ```text
//!   scan a..z limit 3     a───────c════f════k·············z     recorded: [a, k] as start..k\0
//!                                 1    2    3 (last row seen)
//!   scan a..z to its end  a───────c════f════k═════════════z     recorded: a..z
//! ```
//!
//! The gaps between the rows belong to what was read, and so does an empty range: a row that
//! somebody inserts there is a phantom, and conflicts.

use std::collections::BTreeSet;

use base::KeyRange;
use bytes::Bytes;

use crate::write_set::signature_of;

/// How many point reads are kept as points before they are coarsened to ranges. 64 Ki keys of usual
/// size are a few MiB; a transaction that reads more has effectively read ranges.
const POINTS_MAX: usize = 64 << 10;

/// The keys and ranges read so far.
#[derive(Default, Debug)]
pub struct ReadSet {
    points: BTreeSet<Bytes>,
    /// Sorted by start, not overlapping.
    ranges: Vec<KeyRange>,
    signature: u64,
}

impl ReadSet {
    /// Records the read of one key, present or absent.
    pub fn add_point(&mut self, key: Bytes) {
        if self.points.contains(&key) || self.ranges_contain(&key) {
            return;
        }
        self.signature |= signature_of(&key);
        self.points.insert(key);
        if self.points.len() > POINTS_MAX {
            self.coarsen();
        }
    }

    /// Records a scanned range.
    pub fn add_range(&mut self, range: KeyRange) {
        if range.is_empty() {
            return;
        }
        let touches = |other: &KeyRange| {
            range.end.as_ref().is_none_or(|end| other.start <= *end)
                && other.end.as_ref().is_none_or(|end| end >= &range.start)
        };
        let from = self.ranges.iter().position(touches);
        let Some(from) = from else {
            let at = self.ranges.partition_point(|other| other.start < range.start);
            self.ranges.insert(at, range);
            return;
        };
        let until = self.ranges.iter().rposition(touches).map_or(from + 1, |last| last + 1);
        let start = self.ranges[from].start.clone().min(range.start);
        let last = &self.ranges[until - 1];
        let end = match (&last.end, range.end) {
            (Some(a), Some(b)) => Some(a.clone().max(b)),
            _ => None,
        };
        self.ranges.splice(from..until, [KeyRange { start, end }]);
    }

    /// Returns true if nothing was read.
    pub fn is_empty(&self) -> bool {
        self.points.is_empty() && self.ranges.is_empty()
    }

    /// Returns true if the key was read by itself.
    pub fn contains_point(&self, key: &[u8]) -> bool {
        self.points.contains(key)
    }

    /// Returns the scanned range that the key lies in.
    pub fn range_of(&self, key: &[u8]) -> Option<&KeyRange> {
        let after = self.ranges.partition_point(|range| &range.start[..] <= key);
        self.ranges[..after].last().filter(|range| range.contains(key))
    }

    fn ranges_contain(&self, key: &[u8]) -> bool {
        !self.ranges.is_empty() && self.range_of(key).is_some()
    }

    /// Returns the keys read by themselves, in order.
    pub fn points(&self) -> impl ExactSizeIterator<Item = &Bytes> {
        self.points.iter()
    }

    /// Returns the scanned ranges, in order.
    pub fn ranges(&self) -> &[KeyRange] {
        &self.ranges
    }

    /// Returns a word in which each key read by itself has set one bit.
    pub fn signature(&self) -> u64 {
        self.signature
    }

    /// Replaces the points by ranges over runs of them. That claims more than was read, which can
    /// only cause a conflict too many, and bounds the memory.
    fn coarsen(&mut self) {
        /// Points that become one range: a hundredfold saving leaves ranges still narrow.
        const RUN: usize = 128;
        let points: Vec<Bytes> = std::mem::take(&mut self.points).into_iter().collect();
        for run in points.chunks(RUN) {
            if let (Some(first), Some(last)) = (run.first(), run.last()) {
                self.add_range(KeyRange {
                    start: first.clone(),
                    end: Some(base::range::successor(last)),
                });
            }
        }
        self.signature = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(set: &ReadSet) -> String {
        set.ranges().iter().map(|range| format!("{range} ")).collect()
    }

    #[test]
    fn ranges_that_touch_become_one() {
        let mut set = ReadSet::default();
        set.add_range((b"c"..b"e").into());
        set.add_range((b"m"..b"p").into());
        set.add_range((b"a"..b"b").into());
        set.add_range((b"x"..).into());
        assert_eq!(ranges(&set), "a..b c..e m..p x.. ");
        set.add_range((b"e"..b"m").into());
        assert_eq!(ranges(&set), "a..b c..p x.. ");
        set.add_range((b"d"..b"f").into());
        set.add_range((b"o"..b"y").into());
        assert_eq!(ranges(&set), "a..b c.. ");
        assert!(set.range_of(b"b").is_none() && set.range_of(b"zz").is_some());
    }

    #[test]
    fn very_many_points_become_ranges() {
        let mut set = ReadSet::default();
        for n in 0..=POINTS_MAX as u32 {
            set.add_point(Bytes::copy_from_slice(&n.to_be_bytes()));
        }
        assert_eq!(set.points().len(), 0);
        assert!((0..=POINTS_MAX as u32).all(|n| set.range_of(&n.to_be_bytes()).is_some()));
        assert!(set.ranges().len() <= POINTS_MAX / 128 + 1);
    }
}
