//! How the contents of a block are made smaller.
//!
//! ```text
//!  stored contents of a compressed block:   | length before u32 | compressed bytes |
//! ```
//!
//! The method is the byte behind the contents (see `block`), so each block has its own. A block
//! that would not shrink by an eighth is stored as it is: the bytes saved would not pay for
//! decompressing it at each read. The length before is bounded and checked before memory is taken
//! for it.

#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use std::cell::RefCell;

use base::codec;
use base::limits::TRANSACTION_BYTES_MAX;
use bytes::Bytes;

use super::block::{Decoded, Flaw};

/// The largest contents of a block before compression, in bytes: the largest entry there is, and
/// room for what a block adds to it.
const CONTENTS_BYTES_MAX: usize = TRANSACTION_BYTES_MAX + (1 << 20);

/// LZ4 gets no more than this out of a byte: larger claims are refused unread.
const LZ4_RATIO_MAX: usize = 255;

/// The level of Zstandard: its default, beyond which little is gained on blocks of some KiB.
const ZSTD_LEVEL: i32 = 3;

const LEN_BYTES: usize = 4;

/// How data blocks are compressed. Any table can be read whatever it was written with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// Stored as they are.
    None,
    /// LZ4: costs little at any read.
    #[default]
    Lz4,
    /// Zstandard: about a third smaller than LZ4, and several times slower to read. For data that
    /// is seldom read.
    Zstd,
}

impl Compression {
    pub(crate) fn method(self) -> u8 {
        match self {
            Compression::None => 0,
            Compression::Lz4 => 1,
            Compression::Zstd => 2,
        }
    }

    pub(crate) fn from_method(method: u8) -> Option<Compression> {
        [Compression::None, Compression::Lz4, Compression::Zstd].get(usize::from(method)).copied()
    }
}

/// Compresses blocks, and keeps the memory it needs for that.
pub(crate) struct Compressor {
    compression: Compression,
    zstd: Option<zstd::bulk::Compressor<'static>>,
    scratch: Vec<u8>,
}

impl Compressor {
    pub(crate) fn new(compression: Compression) -> Compressor {
        Compressor { compression, zstd: None, scratch: Vec::new() }
    }

    /// Appends contents to `out`, compressed if that is worth it, and returns how they are stored.
    pub(crate) fn put(&mut self, out: &mut Vec<u8>, contents: &[u8]) -> Compression {
        let worth = contents.len() - contents.len().div_ceil(8);
        if let Some(len) = self.compress(contents)
            && len + LEN_BYTES <= worth
            && let Some(compressed) = self.scratch.get(..len)
        {
            codec::put_u32(out, contents.len() as u32);
            out.extend_from_slice(compressed);
            return self.compression;
        }
        out.extend_from_slice(contents);
        Compression::None
    }

    /// Compresses into the scratch memory and returns the length. What cannot be compressed for
    /// whatever reason is stored as it is.
    fn compress(&mut self, contents: &[u8]) -> Option<usize> {
        match self.compression {
            Compression::None => None,
            Compression::Lz4 => {
                let len_max = lz4_flex::block::get_maximum_output_size(contents.len());
                self.scratch.resize(self.scratch.len().max(len_max), 0);
                lz4_flex::block::compress_into(contents, &mut self.scratch).ok()
            }
            Compression::Zstd => {
                let len_max = zstd::zstd_safe::compress_bound(contents.len());
                self.scratch.resize(self.scratch.len().max(len_max), 0);
                if self.zstd.is_none() {
                    self.zstd = zstd::bulk::Compressor::new(ZSTD_LEVEL).ok();
                }
                let zstd = self.zstd.as_mut()?;
                zstd.compress_to_buffer(contents, &mut self.scratch[..]).ok()
            }
        }
    }
}

thread_local! {
    /// Making one takes longer than decompressing a block with it.
    static ZSTD: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { RefCell::new(None) };
}

/// Returns contents as they were before compression.
pub(crate) fn decompress(compression: Compression, stored: &[u8]) -> Decoded<Bytes> {
    let (len, compressed) = stored
        .split_first_chunk::<LEN_BYTES>()
        .ok_or_else(|| Flaw::new(0, "a compressed block is shorter than its length"))?;
    let len = u32::from_le_bytes(*len) as usize;
    let len_max = match compression {
        Compression::Lz4 => CONTENTS_BYTES_MAX.min(LZ4_RATIO_MAX.saturating_mul(compressed.len())),
        Compression::Zstd | Compression::None => CONTENTS_BYTES_MAX,
    };
    if len > len_max {
        return Err(Flaw::new(0, format!("a compressed block claims to hold {len} bytes")));
    }
    let out = match compression {
        Compression::None => Some(compressed.to_vec()),
        Compression::Lz4 => {
            let mut out = vec![0; len];
            let found = lz4_flex::block::decompress_into(compressed, &mut out).ok();
            (found == Some(len)).then_some(out)
        }
        Compression::Zstd => ZSTD.with_borrow_mut(|zstd| {
            if zstd.is_none() {
                *zstd = zstd::bulk::Decompressor::new().ok();
            }
            let mut out = Vec::with_capacity(len);
            let found = zstd.as_mut()?.decompress_to_buffer(compressed, &mut out).ok();
            (found == Some(len)).then_some(out)
        }),
    };
    let flaw = || Flaw::new(LEN_BYTES, "a compressed block does not decompress to its length");
    out.map(Bytes::from_owner).ok_or_else(flaw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_shrinks_comes_back_and_what_does_not_is_stored_plain() {
        let text = b"a row like any other, ".repeat(200);
        let mut random = 1u64;
        let noise: Vec<u8> = (0..4000)
            .map(|_| {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (random >> 56) as u8
            })
            .collect();
        for compression in [Compression::Lz4, Compression::Zstd] {
            let mut compressor = Compressor::new(compression);
            for _ in 0..2 {
                let mut out = vec![7];
                assert_eq!(compressor.put(&mut out, &text), compression);
                assert!(out.len() < text.len() / 10);
                assert_eq!(decompress(compression, &out[1..]).unwrap(), text);
                let mut out = Vec::new();
                assert_eq!(compressor.put(&mut out, &noise), Compression::None);
                assert_eq!(out, noise);
            }
        }
        let mut out = Vec::new();
        assert_eq!(Compressor::new(Compression::None).put(&mut out, &text), Compression::None);
    }

    #[test]
    fn a_wrong_length_is_refused_before_memory_is_taken() {
        for compression in [Compression::Lz4, Compression::Zstd] {
            let mut out = Vec::new();
            Compressor::new(compression).put(&mut out, &[5; 1000]);
            let claim = |len: u32| {
                let claimed = [&len.to_le_bytes()[..], &out[4..]].concat();
                decompress(compression, &claimed).map(|contents| contents.len())
            };
            assert_eq!(claim(1000), Ok(1000));
            for len in [0, 999, 1001, u32::MAX, 1 << 27] {
                assert!(claim(len).is_err(), "{compression:?} {len}");
            }
            assert!(decompress(compression, &out[..3]).is_err());
        }
    }
}
