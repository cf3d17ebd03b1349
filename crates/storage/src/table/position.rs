//! The order of entries, and how it is kept in encoded keys: see the drawing in `block`.

#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use base::Timestamp;

/// Bytes of the inverted timestamp at the end of a key.
pub(crate) const SUFFIX_BYTES: usize = 8;

/// A place in the order of entries: by user key, then newest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position<'a> {
    pub(crate) key: &'a [u8],
    // Inverted, so that the derived order puts the newest first.
    inverted_ts: u64,
}

impl<'a> Position<'a> {
    pub(crate) fn new(key: &'a [u8], ts: Timestamp) -> Position<'a> {
        Position { key, inverted_ts: !ts.raw() }
    }

    /// Splits an encoded key; `None` if it is too short to be one.
    pub(crate) fn decode(encoded: &'a [u8]) -> Option<Position<'a>> {
        let (key, suffix) = encoded.split_last_chunk::<SUFFIX_BYTES>()?;
        Some(Position { key, inverted_ts: u64::from_be_bytes(*suffix) })
    }

    pub(crate) fn encode(self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.key);
        out.extend_from_slice(&self.inverted_ts.to_be_bytes());
    }

    pub(crate) fn ts(self) -> Timestamp {
        Timestamp::from_raw(!self.inverted_ts)
    }
}

/// Returns the length of the longest common prefix.
pub(crate) fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    // Eight bytes at a time: keys share long prefixes, and this runs for every entry written.
    let words = a.as_chunks::<8>().0.iter().zip(b.as_chunks::<8>().0).take_while(|(a, b)| a == b);
    let start = 8 * words.count();
    let tail = a.iter().zip(b).skip(start).take_while(|(a, b)| a == b);
    start + tail.count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_sort_by_key_and_then_newest_first() {
        let at = |key: &'static str, ts| Position::new(key.as_bytes(), Timestamp::from_raw(ts));
        let sorted =
            [at("", 0), at("a", 9), at("a", 3), at("a", 0), at("a\0", 5), at("ab", 9), at("b", 1)];
        assert!(sorted.is_sorted());
        for position in sorted {
            let mut encoded = Vec::new();
            position.encode(&mut encoded);
            assert_eq!(Position::decode(&encoded), Some(position));
        }
        assert_eq!(Position::decode(&[0xff; 7]), None);
    }

    #[test]
    fn a_common_prefix_may_end_anywhere() {
        for len in 0..40 {
            let (a, mut b) = ([7; 40], [7; 40]);
            b[len] = 8;
            assert_eq!(common_prefix(&a, &b), len);
            assert_eq!(common_prefix(&a, &a[..len]), len);
        }
    }
}
