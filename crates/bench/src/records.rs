//! The records every store holds: 16-byte keys, and values of 128 bytes unless the workload says
//! otherwise, which cannot be compressed unless the user wants it so.

use std::sync::Arc;

use crate::random::{Random, mix};

/// Bytes of a key.
pub(crate) const KEY_BYTES: usize = 16;
/// Bytes of a value.
pub(crate) const VALUE_BYTES: usize = 128;

/// Not above any key. LMDB has no empty key, not even to start a scan from.
pub(crate) const FIRST: &[u8] = &[0];

/// Returns the key of a record. Counting up the numbers visits the keys in random order, and
/// numbers from the record count on are keys that do not exist.
pub(crate) fn key(number: u64) -> [u8; KEY_BYTES] {
    let mut key = [0; KEY_BYTES];
    let (high, low) = key.split_at_mut(8);
    high.copy_from_slice(&mix(number ^ 0x686f_6c6d).to_be_bytes());
    low.copy_from_slice(&number.to_be_bytes());
    key
}

/// Returns a key for records that are written in the order of their keys.
pub(crate) fn ordered_key(number: u64) -> [u8; KEY_BYTES] {
    let mut key = [0; KEY_BYTES];
    let (high, low) = key.split_at_mut(8);
    high.copy_from_slice(&number.to_be_bytes());
    low.copy_from_slice(&mix(number).to_be_bytes());
    key
}

/// Values without end, cut from a pool that was filled beforehand: at two million values a second
/// making fresh ones would be a good part of the time that a cell measures.
#[derive(Clone, Debug)]
pub(crate) struct Values {
    pool: Arc<[u8]>,
    at: usize,
    bytes: usize,
}

/// Fits the processor's own cache, and is longer than the window of LZ4.
const POOL_BYTES: usize = 1 << 20;

/// The part of a value that is random, and the rest that is not, alternate in pieces of this many
/// bytes.
const PIECE_BYTES: usize = 32;

impl Values {
    /// Makes a pool for values of `bytes` bytes, `compressible` (0 to 1) of which are zeros.
    pub(crate) fn new(seed: u64, bytes: usize, compressible: f64) -> Values {
        let mut random = Random::new(seed);
        let mut pool = vec![0; POOL_BYTES + bytes.next_multiple_of(PIECE_BYTES)];
        let random_bytes = (PIECE_BYTES as f64 * (1.0 - compressible.clamp(0.0, 1.0))) as usize;
        for piece in pool.chunks_mut(PIECE_BYTES) {
            for word in piece.iter_mut().take(random_bytes).collect::<Vec<_>>().chunks_mut(8) {
                let fresh = random.next().to_le_bytes();
                word.iter_mut().zip(fresh).for_each(|(byte, fresh)| **byte = fresh);
            }
        }
        Values { pool: pool.into(), at: 0, bytes }
    }

    /// Returns where the next value begins in the pool; [`Values::at`] shows it.
    pub(crate) fn advance(&mut self) -> usize {
        // Eight bytes more than a value, so that the next round is not the same as this one.
        self.at = (self.at + self.bytes + 8) % POOL_BYTES;
        self.at
    }

    /// Returns the value that begins there.
    pub(crate) fn at(&self, start: usize) -> &[u8] {
        &self.pool[start..start + self.bytes]
    }

    /// Returns the next value.
    pub(crate) fn next(&mut self) -> &[u8] {
        let start = self.advance();
        self.at(start)
    }

    /// Returns the bytes of a row with such a value.
    pub(crate) fn row_bytes(&self) -> u64 {
        (KEY_BYTES + self.bytes) as u64
    }
}

/// The rows of one batch: keys side by side, values in the pool, so that a batch costs one
/// allocation and not two for each row.
#[derive(Debug)]
pub(crate) struct Batch {
    keys: Vec<[u8; KEY_BYTES]>,
    starts: Vec<usize>,
}

impl Batch {
    pub(crate) fn new(rows: u64) -> Batch {
        let rows = rows as usize;
        Batch { keys: Vec::with_capacity(rows), starts: Vec::with_capacity(rows) }
    }

    /// Replaces the rows: the keys are given, each gets the next value.
    pub(crate) fn fill(
        &mut self,
        keys: impl Iterator<Item = [u8; KEY_BYTES]>,
        values: &mut Values,
    ) {
        self.keys.clear();
        self.starts.clear();
        self.keys.extend(keys);
        self.starts.extend(self.keys.iter().map(|_| values.advance()));
    }

    /// Returns the rows as a store wants them.
    pub(crate) fn rows<'a>(&'a self, values: &'a Values) -> Vec<(&'a [u8], &'a [u8])> {
        let rows = self.keys.iter().zip(&self.starts);
        rows.map(|(key, &start)| (key.as_slice(), values.at(start))).collect()
    }
}

/// Counts up the first eight bytes of a value: the change of the read-modify-write workload.
pub(crate) fn count_up(old: Option<&[u8]>, new: &mut Vec<u8>) {
    new.clear();
    match old {
        Some(old) => new.extend_from_slice(old),
        None => new.resize(VALUE_BYTES, 0),
    }
    if let Some(counter) = new.first_chunk_mut::<8>() {
        *counter = u64::from_le_bytes(*counter).wrapping_add(1).to_le_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_differ_and_do_not_come_in_order() {
        let keys: Vec<_> = (0..1000).map(key).collect();
        let mut sorted = keys.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted.len(), keys.len());
        assert_ne!(sorted, keys);
    }

    #[test]
    fn ordered_keys_are() {
        assert!((0..1000).map(ordered_key).collect::<Vec<_>>().is_sorted());
    }

    #[test]
    fn values_are_as_long_and_as_random_as_asked() {
        for (bytes, compressible) in [(128, 0.0), (16, 0.5), (256 << 10, 0.25)] {
            let mut values = Values::new(7, bytes, compressible);
            let mut zeros = 0;
            for _ in 0..1000 {
                let value = values.next();
                assert_eq!(value.len(), bytes);
                zeros += value.iter().filter(|&&byte| byte == 0).count();
            }
            let share = zeros as f64 / (1000 * bytes) as f64;
            assert!((share - compressible).abs() < 0.02, "{bytes}: {share}");
        }
    }

    #[test]
    fn a_batch_has_the_keys_and_fresh_values() {
        let mut values = Values::new(7, VALUE_BYTES, 0.0);
        let mut batch = Batch::new(3);
        batch.fill((0..3).map(key), &mut values);
        let rows = batch.rows(&values);
        assert_eq!(rows.iter().map(|row| row.0.to_vec()).collect::<Vec<_>>()[2], key(2).to_vec());
        assert!(rows[0].1 != rows[1].1 && rows[1].1 != rows[2].1);
    }

    #[test]
    fn count_up_starts_at_one() {
        let (mut first, mut second) = (Vec::new(), Vec::new());
        count_up(None, &mut first);
        count_up(Some(&first), &mut second);
        assert_eq!((first[0], second[0], second.len()), (1, 2, VALUE_BYTES));
    }
}
