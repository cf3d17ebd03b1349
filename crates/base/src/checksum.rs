//! CRC-32C (Castagnoli), the one checksum of everything on disk.
//!
//! Stored values are masked, as LevelDB does: computing a CRC over bytes that themselves contain a
//! CRC weakens it, and records travel inside other records.

/// A stored checksum: CRC-32C of the parts in order, then masked.
pub fn of(parts: &[&[u8]]) -> u32 {
    let crc = parts.iter().fold(0, |crc, part| crc32c::crc32c_append(crc, part));
    mask(crc)
}

/// Rotates and offsets a CRC so that a checksum of checksums keeps its strength.
const fn mask(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_polynomial_is_castagnoli() {
        // RFC 3720, appendix B.4: 32 bytes of zeros.
        assert_eq!(of(&[&[0; 32]]), mask(0x8a91_36aa));
        assert_eq!(of(&[b"12345", b"6789"]), mask(0xe306_9283));
    }
}
