//! The Bloom filter of a partition: "this user key is certainly not here", without touching data.
//!
//! ```text
//!  +-------------+-------------+- - - - - - -+--------+
//!  | 64 bytes    | 64 bytes    |             | probes |      one bit per key and probe,
//!  +-------------+-------------+- - - - - - -+--------+      lowest bit of a byte first
//!   line 0        line 1                      1 byte
//! ```
//!
//! A key's 64-bit hash names one line with its upper half, and `probes` bits in it with its lower
//! half. Keeping the bits of a key in one cache line costs some precision (about 1.0 % false
//! positives at 10 bits per key, where a plain filter has 0.8 %) and makes a lookup one cache miss
//! instead of seven: Putze, Sanders, Singler, "Cache-, Hash- and Space-Efficient Bloom Filters"
//! (2007); the same shape as RocksDB's `FastLocalBloom`.
//!
//! The hash folds 128-bit products, as wyhash does. It is part of the format: changing a bit of it
//! makes old filters deny keys that are there, so a test pins its values.

#![deny(clippy::indexing_slicing)]

use bytes::Bytes;

use super::block::{Decoded, Flaw};

/// One cache line.
const LINE_BYTES: usize = 64;
const LINE_BITS_LOG2: u32 = 9;

/// More than this many probes would run out of the hash's bits, and no filter needs them.
const PROBES_MAX: u8 = 16;

/// Odd, with evenly spread bits: the golden ratio, and two of the primes of xxHash.
const GOLDEN_32: u32 = 0x9e37_79b9;
const MULTIPLIER_1: u64 = 0x9e37_79b1_85eb_ca87;
const MULTIPLIER_2: u64 = 0xc2b2_ae3d_27d4_eb4f;

/// Returns the hash of a user key by which filters, data blocks and caches find it. It is computed
/// once for each read.
pub fn hash(key: &[u8]) -> u64 {
    let mut state = fold(key.len() as u64 ^ MULTIPLIER_2, MULTIPLIER_1);
    let (words, tail) = key.as_chunks::<8>();
    for word in words {
        state = mix(state, u64::from_le_bytes(*word));
    }
    // The length is in the state already, so padding with zeros confuses no two keys.
    let tail = tail.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte));
    fold(mix(state, tail), MULTIPLIER_1)
}

fn mix(state: u64, word: u64) -> u64 {
    // The rotation keeps what came before if the product is zero.
    fold(state ^ word ^ MULTIPLIER_1, MULTIPLIER_2) ^ state.rotate_left(23)
}

fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ (product >> 64) as u64
}

/// Collects the hashes of one partition's keys.
pub(crate) struct FilterBuilder {
    bits_per_key: usize,
    hashes: Vec<u64>,
}

impl FilterBuilder {
    pub(crate) fn new(bits_per_key: usize) -> FilterBuilder {
        FilterBuilder { bits_per_key: bits_per_key.min(64), hashes: Vec::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    pub(crate) fn add(&mut self, hash: u64) {
        self.hashes.push(hash);
    }

    /// Appends the contents of the filter block to `out`, and starts anew. No bits per key make an
    /// empty block, which is no filter.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) {
        if self.bits_per_key == 0 {
            self.hashes.clear();
            return;
        }
        let bits = self.hashes.len() * self.bits_per_key;
        let lines = bits.div_ceil(8 * LINE_BYTES).max(1);
        // ln 2 times the bits per key is best for a plain filter; a blocked one wants one less.
        let probes = (self.bits_per_key * 6 / 10).clamp(1, PROBES_MAX.into()) as u8;
        let start = out.len();
        out.resize(start + lines * LINE_BYTES, 0);
        let (_, bytes) = out.split_at_mut(start);
        let (lines, _) = bytes.as_chunks_mut::<LINE_BYTES>();
        for hash in self.hashes.drain(..) {
            if let Some(line) = lines.get_mut(line_of(hash, lines.len())) {
                for (byte, bit) in probes_of(hash, probes) {
                    if let Some(byte) = line.get_mut(byte) {
                        *byte |= bit;
                    }
                }
            }
        }
        out.push(probes);
    }
}

/// A filter read from a table.
#[derive(Debug, Clone)]
pub(crate) struct Filter {
    contents: Bytes,
    probes: u8,
}

impl Filter {
    pub(crate) fn new(contents: Bytes) -> Decoded<Filter> {
        match contents.split_last() {
            Some((&probes, lines))
                if (1..=PROBES_MAX).contains(&probes)
                    && !lines.is_empty()
                    && lines.len() % LINE_BYTES == 0 =>
            {
                Ok(Filter { contents, probes })
            }
            _ => Err(Flaw::new(0, "the block is not a filter")),
        }
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.contents.len()
    }

    /// Returns false if a key with this hash was certainly not added.
    #[inline]
    pub(crate) fn may_contain(&self, hash: u64) -> bool {
        let (lines, _) = self.contents.as_chunks::<LINE_BYTES>();
        let line = lines.get(line_of(hash, lines.len()));
        line.is_some_and(|line| {
            probes_of(hash, self.probes).all(|(at, bit)| line.get(at).is_some_and(|b| b & bit != 0))
        })
    }
}

/// Maps the upper half of a hash evenly to a line, with a multiplication in place of a division.
fn line_of(hash: u64, lines: usize) -> usize {
    (((hash >> 32) * lines as u64) >> 32) as usize
}

/// Returns byte and bit of each probe in the line.
fn probes_of(hash: u64, probes: u8) -> impl Iterator<Item = (usize, u8)> {
    let first = hash as u32;
    (0..probes).scan(first, |state, _| {
        let bit = *state >> (u32::BITS - LINE_BITS_LOG2);
        *state = state.wrapping_mul(GOLDEN_32);
        Some(((bit / 8) as usize, 1 << (bit % 8)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter_of(keys: impl Iterator<Item = u64>) -> Filter {
        let mut builder = FilterBuilder::new(10);
        keys.for_each(|key| builder.add(hash(&key.to_be_bytes())));
        let mut out = Vec::new();
        builder.finish(&mut out);
        Filter::new(out.into()).unwrap()
    }

    #[test]
    fn every_key_is_found_and_about_one_stranger_in_a_hundred() {
        for keys in [1, 10, 1000, 24_000] {
            let filter = filter_of(0..keys);
            assert!((0..keys).all(|key| filter.may_contain(hash(&key.to_be_bytes()))));
            let strangers = keys..keys + 100_000;
            let wrong = strangers.filter(|key| filter.may_contain(hash(&key.to_be_bytes())));
            let wrong = wrong.count();
            assert!(wrong < 1_500, "{wrong} of 100000 strangers pass a filter of {keys} keys");
        }
    }

    #[test]
    fn the_hash_never_changes() {
        assert_eq!(hash(b""), 0x3a23_5ee0_aaa7_6466);
        assert_eq!(hash(b"a"), 0x8fe2_027d_eed5_a433);
        assert_eq!(hash(b"\0"), 0x97b7_528e_2590_864d);
        assert_eq!(hash(b"a key of more than 8 bytes"), 0x4621_57f2_07f6_d5db);
    }

    #[test]
    fn what_is_no_filter_is_refused_and_does_not_deny() {
        let line = [0xff; LINE_BYTES];
        let check = |lines: usize, probes: u8, extra: usize, is_sound: bool| {
            let mut contents = line.repeat(lines);
            contents.resize(contents.len() + extra, 0);
            contents.push(probes);
            let filter = Filter::new(contents.into());
            assert_eq!(filter.is_ok(), is_sound);
            assert!(filter.is_err() || filter.is_ok_and(|filter| filter.may_contain(hash(b"k"))));
        };
        check(1, 6, 0, true);
        check(2, 1, 0, true);
        check(0, 6, 0, false);
        check(1, 0, 0, false);
        check(1, PROBES_MAX + 1, 0, false);
        check(1, 6, 1, false);
        assert!(Filter::new(Bytes::new()).is_err());
    }
}
