//! The hash function of the table: wyhash's folded multiplication, keyed by a seed.
//!
//! Ours because it is thirty lines, because a table with a given seed must behave the same
//! everywhere and for ever (the simulator replays by seed), and because no hash is ever stored.

const K: [u64; 4] =
    [0xa076_1d64_78bd_642f, 0xe703_7ed1_a0b4_28db, 0x8ebc_6af0_9c88_c6e3, 0x5899_65cc_7537_4cc3];

/// Multiplies to 128 bits and folds the halves together.
fn fold(a: u64, b: u64) -> u64 {
    let wide = u128::from(a).wrapping_mul(u128::from(b));
    (wide as u64) ^ ((wide >> 64) as u64)
}

fn read8(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |chunk| u64::from_le_bytes(*chunk))
}

fn read4(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |chunk| u64::from(u32::from_le_bytes(*chunk)))
}

/// Returns the hash of a key.
pub(super) fn hash(seed: u64, key: &[u8]) -> u64 {
    let len = key.len();
    let mut state = seed ^ K[0];
    let (a, b) = match len {
        0 => (0, 0),
        1..4 => {
            let middle = u64::from(key[len / 2]);
            (u64::from(key[0]) | middle << 8 | u64::from(key[len - 1]) << 16, 0)
        }
        4..8 => (read4(key), read4(&key[len - 4..])),
        8..=16 => (read8(key), read8(&key[len - 8..])),
        _ => {
            let mut rest = key;
            while rest.len() > 16 {
                state = fold(read8(rest) ^ K[1], read8(&rest[8..]) ^ state);
                rest = &rest[16..];
            }
            // The last sixteen bytes, which may overlap what is already in.
            (read8(&key[len - 16..]), read8(&key[len - 8..]))
        }
    };
    fold(K[1] ^ len as u64, fold(a ^ K[2], b ^ state) ^ K[3])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_and_every_byte_counts() {
        let mut seen = std::collections::HashSet::new();
        for len in 0..70 {
            let mut key = vec![7u8; len];
            assert!(seen.insert(hash(1, &key)), "length {len}");
            for at in 0..len {
                key[at] ^= 1;
                assert!(seen.insert(hash(1, &key)), "length {len}, byte {at}");
                key[at] ^= 1;
            }
        }
        assert_ne!(hash(1, b"key"), hash(2, b"key"));
    }

    #[test]
    fn counters_spread_over_shards_and_slots() {
        // Keys that differ in a counter only must fill all parts of the hash that are used.
        let mut high = [0u32; 256];
        let mut low = [0u32; 256];
        for n in 0u64..65_536 {
            let h = hash(9, &n.to_be_bytes());
            high[(h >> 56) as usize] += 1;
            low[(h & 255) as usize] += 1;
        }
        for count in high.iter().chain(&low) {
            assert!((160..360).contains(count), "{count} where 256 are expected");
        }
    }
}
