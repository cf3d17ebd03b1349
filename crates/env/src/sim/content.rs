//! The bytes of one file, in pages that copies share until one of them writes. A crash copies the
//! whole disk, and a test that crashes at every operation does it thousands of times.
//!
//! # Invariants
//! * A page that was never written is a hole: it reads as zeros and takes no space.
//! * Bytes after the length are zeros, so that growing needs no clearing.

use std::ops::Range;
use std::sync::Arc;

/// The unit of space and of sharing, in bytes: what file systems give out.
pub(super) const PAGE_BYTES: usize = 4096;

type Page = [u8; PAGE_BYTES];

#[derive(Clone, Default)]
pub(super) struct Content {
    pages: Vec<Option<Arc<Page>>>,
    len: u64,
}

impl Content {
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn allocated_bytes(&self) -> u64 {
        (self.pages.iter().flatten().count() * PAGE_BYTES) as u64
    }

    /// Fills `buf` from `offset`, as far as the file goes; returns how far.
    pub(super) fn read(&self, buf: &mut [u8], offset: u64) -> usize {
        let end = self.len.min(offset.saturating_add(buf.len() as u64));
        for (index, within, part) in pieces(offset..end) {
            let target = &mut buf[part];
            match &self.pages[index] {
                Some(page) => target.copy_from_slice(&page[within]),
                None => target.fill(0),
            }
        }
        end.saturating_sub(offset) as usize
    }

    pub(super) fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len as usize];
        self.read(&mut bytes, 0);
        bytes
    }

    /// Writes the bytes and grows if need be.
    pub(super) fn write(&mut self, bytes: &[u8], offset: u64) {
        let end = offset + bytes.len() as u64;
        if end > self.len && !bytes.is_empty() {
            self.set_len(end);
        }
        for (index, within, part) in pieces(offset..end) {
            let page = self.pages[index].get_or_insert_with(|| Arc::new([0; PAGE_BYTES]));
            Arc::make_mut(page)[within].copy_from_slice(&bytes[part]);
        }
    }

    pub(super) fn set_len(&mut self, len: u64) {
        self.pages.resize(len.div_ceil(PAGE_BYTES as u64) as usize, None);
        let tail = (len % PAGE_BYTES as u64) as usize;
        if len < self.len
            && tail > 0
            && let Some(Some(page)) = self.pages.last_mut()
        {
            Arc::make_mut(page)[tail..].fill(0);
        }
        self.len = len;
    }

    /// Inverts one bit; does nothing beyond the end.
    pub(super) fn flip(&mut self, offset: u64, bit: u8) {
        let mut byte = [0];
        if self.read(&mut byte, offset) == 1 {
            self.write(&[byte[0] ^ (1 << bit)], offset);
        }
    }

    /// Returns how many of `len` bytes at `offset` can be written if `bytes_free` may be allocated.
    pub(super) fn writable_len(&self, len: usize, offset: u64, bytes_free: u64) -> usize {
        let mut pages_free = bytes_free / PAGE_BYTES as u64;
        for (index, _, part) in pieces(offset..offset + len as u64) {
            if matches!(self.pages.get(index), Some(Some(_))) {
                continue;
            }
            if pages_free == 0 {
                return part.start;
            }
            pages_free -= 1;
        }
        len
    }
}

/// Splits a range of a file at page boundaries: number of the page, range inside the page, range
/// counted from the start of the whole.
fn pieces(range: Range<u64>) -> impl Iterator<Item = (usize, Range<usize>, Range<usize>)> {
    split_at_multiples(range.clone(), PAGE_BYTES as u64).map(move |piece| {
        let within = (piece.start % PAGE_BYTES as u64) as usize;
        let from = (piece.start - range.start) as usize;
        let len = (piece.end - piece.start) as usize;
        ((piece.start / PAGE_BYTES as u64) as usize, within..within + len, from..from + len)
    })
}

/// Splits a range at the multiples of `unit`.
pub(super) fn split_at_multiples(range: Range<u64>, unit: u64) -> impl Iterator<Item = Range<u64>> {
    let mut start = range.start;
    std::iter::from_fn(move || {
        if start >= range.end {
            return None;
        }
        let piece = start..range.end.min((start / unit + 1) * unit);
        start = piece.end;
        Some(piece)
    })
}
