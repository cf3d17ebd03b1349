//! Reading and writing the little-endian integers, varints and length-prefixed bytes that every
//! format here is made of.
//!
//! Writers append to a `Vec<u8>` and cannot fail. A [`Reader`] never panics on any input: it
//! returns [`Truncated`] and the caller says which format and where.

use thiserror::Error;

/// The input ended, or a length in it points past its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the bytes end before the value they announce")]
pub struct Truncated;

/// Appends a `u32`, little-endian.
pub fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

/// Appends a `u64`, little-endian.
pub fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

/// Appends a LEB128 varint: seven bits a byte, lowest first, one to ten bytes.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value as u8) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a varint length and the bytes.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// A cursor over encoded bytes.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the first byte.
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    /// Returns what has not been read.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Returns true at the end.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Takes the next `len` bytes.
    ///
    /// # Errors
    /// [`Truncated`] if fewer are left; nothing is taken then.
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], Truncated> {
        let (head, rest) = self.rest.split_at_checked(len).ok_or(Truncated)?;
        self.rest = rest;
        Ok(head)
    }

    /// Takes one byte.
    ///
    /// # Errors
    /// [`Truncated`] at the end.
    pub fn u8(&mut self) -> Result<u8, Truncated> {
        let (&byte, rest) = self.rest.split_first().ok_or(Truncated)?;
        self.rest = rest;
        Ok(byte)
    }

    /// Takes a little-endian `u32`.
    ///
    /// # Errors
    /// [`Truncated`] if fewer than four bytes are left.
    pub fn u32(&mut self) -> Result<u32, Truncated> {
        let (head, rest) = self.rest.split_first_chunk::<4>().ok_or(Truncated)?;
        self.rest = rest;
        Ok(u32::from_le_bytes(*head))
    }

    /// Takes a little-endian `u64`.
    ///
    /// # Errors
    /// [`Truncated`] if fewer than eight bytes are left.
    pub fn u64(&mut self) -> Result<u64, Truncated> {
        let (head, rest) = self.rest.split_first_chunk::<8>().ok_or(Truncated)?;
        self.rest = rest;
        Ok(u64::from_le_bytes(*head))
    }

    /// Takes a varint.
    ///
    /// # Errors
    /// [`Truncated`] if it does not end, or does not fit 64 bits.
    pub fn varint(&mut self) -> Result<u64, Truncated> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            // The tenth byte has room for one bit only.
            if shift == 63 && byte > 1 {
                return Err(Truncated);
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Truncated)
    }

    /// Takes length-prefixed bytes.
    ///
    /// # Errors
    /// [`Truncated`] if the length is not there or points past the end.
    pub fn bytes(&mut self) -> Result<&'a [u8], Truncated> {
        let len = usize::try_from(self.varint()?).map_err(|_| Truncated)?;
        self.take(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_survive_the_round_trip() {
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            let mut reader = Reader::new(&out);
            assert_eq!(reader.varint(), Ok(value));
            assert!(reader.is_empty());
        }
    }

    #[test]
    fn an_endless_or_oversized_varint_is_refused() {
        assert_eq!(Reader::new(&[0x80; 5]).varint(), Err(Truncated));
        assert_eq!(Reader::new(&[0xff; 10]).varint(), Err(Truncated));
        assert_eq!(Reader::new(&[0xff; 64]).varint(), Err(Truncated));
    }

    #[test]
    fn a_length_past_the_end_is_refused() {
        assert_eq!(Reader::new(&[9, 1, 2]).bytes(), Err(Truncated));
        assert_eq!(Reader::new(&[2, 1, 2]).bytes(), Ok(&[1u8, 2][..]));
    }
}
