//! A digest of bytes: the same on each machine and in each run, and quick. No defence against
//! anybody who wants two texts to have one.

const PRIME: u64 = 0x9e37_79b9_7f4a_7c15;

/// Returns the digest of bytes.
pub(crate) fn of(bytes: &[u8]) -> u64 {
    let mut digest = mix(bytes.len() as u64, PRIME);
    let mut chunks = bytes.chunks_exact(8);
    for chunk in &mut chunks {
        let chunk: [u8; 8] = chunk.try_into().expect("a chunk has eight bytes");
        digest = mix(digest, u64::from_le_bytes(chunk));
    }
    let mut rest = [0; 8];
    rest[..chunks.remainder().len()].copy_from_slice(chunks.remainder());
    mix(digest, u64::from_le_bytes(rest))
}

/// Adds a number to a digest.
pub(crate) fn mix(digest: u64, number: u64) -> u64 {
    let product = u128::from(digest ^ number ^ PRIME) * u128::from(number.rotate_left(32) ^ PRIME);
    // Both halves: the low one alone knows nothing of the high bits.
    (product as u64) ^ ((product >> 64) as u64) ^ digest.rotate_left(23)
}
