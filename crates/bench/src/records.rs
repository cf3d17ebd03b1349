//! The records every store holds: 16-byte keys in random order, 128-byte incompressible values.

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

/// Fills a value with fresh random bytes.
pub(crate) fn fill_value(random: &mut Random, value: &mut [u8; VALUE_BYTES]) {
    for word in value.chunks_exact_mut(8) {
        word.copy_from_slice(&random.next().to_le_bytes());
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
    fn count_up_starts_at_one() {
        let (mut first, mut second) = (Vec::new(), Vec::new());
        count_up(None, &mut first);
        count_up(Some(&first), &mut second);
        assert_eq!((first[0], second[0], second.len()), (1, 2, VALUE_BYTES));
    }
}
