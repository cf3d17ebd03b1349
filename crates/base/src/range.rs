//! Ranges of keys. A range is `start..end`, end exclusive, everywhere; no end means "to the last".

use std::fmt;
use std::ops::{Range, RangeFrom, RangeFull, RangeInclusive, RangeTo, RangeToInclusive};

use bytes::Bytes;

use crate::text;

/// A contiguous range of keys.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct KeyRange {
    /// The first key in the range.
    pub start: Bytes,
    /// The first key after the range; `None` if there is none.
    pub end: Option<Bytes>,
}

impl KeyRange {
    /// Returns the range of all keys.
    pub fn all() -> KeyRange {
        KeyRange { start: Bytes::new(), end: None }
    }

    /// Returns `start..end`.
    pub fn new(start: impl Into<Bytes>, end: impl Into<Bytes>) -> KeyRange {
        KeyRange { start: start.into(), end: Some(end.into()) }
    }

    /// Returns the range that holds one key.
    pub fn point(key: &[u8]) -> KeyRange {
        KeyRange { start: Bytes::copy_from_slice(key), end: Some(successor(key)) }
    }

    /// Returns the range of all keys that begin with `prefix`.
    pub fn prefix(prefix: &[u8]) -> KeyRange {
        KeyRange { start: Bytes::copy_from_slice(prefix), end: prefix_end(prefix).map(Bytes::from) }
    }

    /// Returns true if the key lies in the range.
    pub fn contains(&self, key: &[u8]) -> bool {
        key >= &self.start[..] && self.end.as_ref().is_none_or(|end| key < &end[..])
    }

    /// Returns true if no key can lie in the range.
    pub fn is_empty(&self) -> bool {
        self.end.as_ref().is_some_and(|end| end <= &self.start)
    }

    /// Returns true if some key could lie in both.
    pub fn overlaps(&self, other: &KeyRange) -> bool {
        let before = |a: &KeyRange, b: &KeyRange| a.end.as_ref().is_some_and(|e| e <= &b.start);
        !self.is_empty() && !other.is_empty() && !before(self, other) && !before(other, self)
    }
}

/// Returns the smallest key after `key`.
pub fn successor(key: &[u8]) -> Bytes {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    Bytes::from(next)
}

/// Returns the smallest key after all keys that begin with `prefix`; `None` if there is none
/// (the prefix is empty or all `0xff`).
pub fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|&byte| byte != 0xff)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

impl fmt::Display for KeyRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self.end.as_ref().map(|end| text::escape(end)).unwrap_or_default();
        write!(f, "{}..{end}", text::escape(&self.start))
    }
}

impl fmt::Debug for KeyRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn copy(key: impl AsRef<[u8]>) -> Bytes {
    Bytes::copy_from_slice(key.as_ref())
}

impl<K: AsRef<[u8]>> From<Range<K>> for KeyRange {
    fn from(range: Range<K>) -> KeyRange {
        KeyRange { start: copy(range.start), end: Some(copy(range.end)) }
    }
}

impl<K: AsRef<[u8]>> From<RangeInclusive<K>> for KeyRange {
    fn from(range: RangeInclusive<K>) -> KeyRange {
        KeyRange { start: copy(range.start()), end: Some(successor(range.end().as_ref())) }
    }
}

impl<K: AsRef<[u8]>> From<RangeFrom<K>> for KeyRange {
    fn from(range: RangeFrom<K>) -> KeyRange {
        KeyRange { start: copy(range.start), end: None }
    }
}

impl<K: AsRef<[u8]>> From<RangeTo<K>> for KeyRange {
    fn from(range: RangeTo<K>) -> KeyRange {
        KeyRange { start: Bytes::new(), end: Some(copy(range.end)) }
    }
}

impl<K: AsRef<[u8]>> From<RangeToInclusive<K>> for KeyRange {
    fn from(range: RangeToInclusive<K>) -> KeyRange {
        KeyRange { start: Bytes::new(), end: Some(successor(range.end.as_ref())) }
    }
}

impl From<RangeFull> for KeyRange {
    fn from(_: RangeFull) -> KeyRange {
        KeyRange::all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_range_ends_before_the_next_prefix() {
        assert_eq!(prefix_end(b"a"), Some(b"b".to_vec()));
        assert_eq!(prefix_end(b"a\xff\xff"), Some(b"b".to_vec()));
        assert_eq!(prefix_end(b"\xff"), None);
        assert_eq!(prefix_end(b""), None);
        assert!(KeyRange::prefix(b"a\xff").contains(b"a\xff\x00"));
        assert!(!KeyRange::prefix(b"a\xff").contains(b"b"));
    }

    #[test]
    fn ranges_of_the_language_convert() {
        assert!(KeyRange::from(b"a"..=b"b").contains(b"b"));
        assert!(!KeyRange::from(b"a"..b"b").contains(b"b"));
        assert!(KeyRange::from(..).contains(b""));
        assert!(!KeyRange::from(.."m").contains(b"m"));
        assert!(KeyRange::from("m"..).contains(b"z"));
    }

    #[test]
    fn touching_ranges_do_not_overlap() {
        let check = |a: KeyRange, b: KeyRange, expected| {
            assert_eq!(a.overlaps(&b), expected, "{a} {b}");
            assert_eq!(b.overlaps(&a), expected, "{b} {a}");
        };
        check((b"a"..b"c").into(), (b"c"..b"d").into(), false);
        check((b"a"..b"c").into(), (b"b"..b"d").into(), true);
        check((b"a"..b"a").into(), (..).into(), false);
        check((b"a"..).into(), KeyRange::point(b"z"), true);
    }
}
