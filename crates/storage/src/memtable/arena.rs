#![expect(unsafe_code, reason = "hands out parts of large allocations")]
//! Where the entries and versions of a table live: in chunks that are given back together.
//!
//! ```text
//!   stripe (by thread)   [ chunk, full ] [ chunk, full ] [ chunk | next -> ........ ]
//!                              |  '--- freed, and kept for one of the same size
//!   idle                 size 152: [block] -> [block]      size 160: [block]
//! ```
//!
//! A table is filled by those who commit and dropped by the thread that flushed it. With an
//! allocation for every entry, those two fought for the allocator's lock all the time, and giving
//! back the entries took longer than writing them to a table. Here, dropping a table costs what its
//! chunks cost, and entries that were written together lie together.
//!
//! What is freed before its table, which is what a newer version of its key has superseded, waits
//! for something of the same size; keys that are written again and again do not make a table grow.
//!
//! # Invariants
//! * A block belongs to one entry or version, or is idle, or was never handed out.
//! * What is not in a chunk is an allocation by itself, and [`Arena::is_pure`] is false.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ptr::NonNull;

use super::sync::{AtomicBool, AtomicUsize, Mutex, Ordering, Padded, STRIPES, thread_number};

/// Largest block, in bytes; what is larger is an allocation by itself. The cost of one does not
/// show beside copying a value of that length. Tools that look for uses of freed memory see them
/// only in allocations, so for them everything is one.
const BLOCK_BYTES_MAX: usize = if cfg!(any(shuttle, miri, separate_allocations)) {
    0
} else if cfg!(test) {
    128
} else {
    1024
};

/// Sizes of blocks are multiples of this, in bytes: the alignment of entries and versions.
const GRAIN: usize = 8;

/// Length of the first chunk of a stripe, in bytes; each further one is as long as all before.
const CHUNK_BYTES_MIN: usize = 4 << 10;

/// Length at which chunks stop growing, in bytes: what a stripe may hold unused, of which there is
/// one for each thread that writes.
const CHUNK_BYTES_MAX: usize = 64 << 10;

/// The memory of a table's entries and versions.
pub(super) struct Arena {
    is_chunked: bool,
    stripes: [Padded<Mutex<Stripe>>; STRIPES],
    idle: Mutex<Idle>,
    /// Bytes of all idle blocks.
    idle_bytes: AtomicUsize,
    has_separate: AtomicBool,
}

/// Chunks that one thread fills.
#[derive(Default)]
struct Stripe {
    chunks: Vec<(NonNull<u8>, Layout)>,
    chunk_bytes: usize,
    /// What is left of the last chunk: its last `left` bytes.
    left: usize,
}

/// Blocks that were freed, by size in grains. Each begins with the address of the next one.
struct Idle([Option<NonNull<u8>>; BLOCK_BYTES_MAX / GRAIN + 1]);

// SAFETY: the only way to chunks that nobody but the owner of the arena gives back, and to parts of
// them that were never handed out.
unsafe impl Send for Stripe {}
// SAFETY: the only way to blocks that their users have given back.
unsafe impl Send for Idle {}

impl Arena {
    /// Returns an empty arena. One that is not chunked makes an allocation of everything: what is
    /// freed is given back at once.
    pub(super) fn new(is_chunked: bool) -> Arena {
        Arena {
            is_chunked,
            stripes: Default::default(),
            idle: Mutex::new(Idle([None; BLOCK_BYTES_MAX / GRAIN + 1])),
            idle_bytes: AtomicUsize::new(0),
            has_separate: AtomicBool::new(false),
        }
    }

    /// Returns true if everything lies in chunks: it goes with the arena.
    pub(super) fn is_pure(&self) -> bool {
        !self.has_separate.load(Ordering::Relaxed)
    }

    /// Returns the bytes of what was freed and not given back.
    pub(super) fn idle_bytes(&self) -> usize {
        self.idle_bytes.load(Ordering::Relaxed)
    }

    fn is_block(&self, layout: Layout) -> bool {
        self.is_chunked && layout.size() <= BLOCK_BYTES_MAX
    }

    /// Returns room for something that is not empty and aligned to [`GRAIN`] at most. It is nobody
    /// else's until it is freed, or the arena is dropped.
    pub(super) fn allocate(&self, layout: Layout) -> NonNull<u8> {
        debug_assert!(layout.size() > 0 && layout.align() <= GRAIN);
        if !self.is_block(layout) {
            if self.is_pure() {
                self.has_separate.store(true, Ordering::Relaxed);
            }
            return allocate(layout);
        }
        let bytes = layout.size().next_multiple_of(GRAIN);
        let mut stripe = self.stripes[thread_number() % STRIPES].0.lock();
        if stripe.left < bytes {
            if self.idle_bytes() > 0
                && let Some(block) = self.take_idle(bytes)
            {
                return block;
            }
            stripe.begin_chunk();
        }
        stripe.cut(bytes)
    }

    /// Takes back what was allocated with this layout.
    ///
    /// # Safety
    /// It came from [`Arena::allocate`] of this arena, is freed once, and not used any more.
    pub(super) unsafe fn free(&self, at: NonNull<u8>, layout: Layout) {
        if !self.is_block(layout) {
            // SAFETY: `allocate` made it an allocation by itself, by the same test.
            unsafe { dealloc(at.as_ptr(), layout) };
            return;
        }
        let bytes = layout.size().next_multiple_of(GRAIN);
        let mut idle = self.idle.lock();
        let first = &mut idle.0[bytes / GRAIN];
        // SAFETY: nobody uses the block any more, says the caller; it is as large as a pointer and
        // aligned like one.
        unsafe { at.cast::<Option<NonNull<u8>>>().write(*first) };
        *first = Some(at);
        self.idle_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn take_idle(&self, bytes: usize) -> Option<NonNull<u8>> {
        let mut idle = self.idle.lock();
        let first = &mut idle.0[bytes / GRAIN];
        let block = (*first)?;
        // SAFETY: `free` wrote the address of the next block there, and nobody has used this one
        // since.
        *first = unsafe { block.cast::<Option<NonNull<u8>>>().read() };
        self.idle_bytes.fetch_sub(bytes, Ordering::Relaxed);
        Some(block)
    }
}

impl Stripe {
    fn begin_chunk(&mut self) {
        let bytes = self.chunk_bytes.clamp(CHUNK_BYTES_MIN, CHUNK_BYTES_MAX);
        let layout = Layout::from_size_align(bytes, GRAIN).expect("a chunk is not large");
        self.chunks.push((allocate(layout), layout));
        self.chunk_bytes += bytes;
        self.left = bytes;
    }

    /// Cuts the next block off the last chunk, which has room for it.
    fn cut(&mut self, bytes: usize) -> NonNull<u8> {
        let (chunk, layout) = self.chunks.last().expect("what has something left is a chunk");
        let offset = layout.size() - self.left;
        self.left -= bytes;
        // SAFETY: `left` is at most the length of the chunk, and was at least `bytes`, or the line
        // before would have failed: so this and what follows lies in the chunk.
        unsafe { chunk.add(offset) }
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        for stripe in &self.stripes {
            for (chunk, layout) in stripe.0.lock().chunks.drain(..) {
                // SAFETY: allocated with this layout in `begin_chunk`. Nobody uses a block of it
                // any more: entries and versions are used through pins, which borrow or own the
                // table, whose arena this is.
                unsafe { dealloc(chunk.as_ptr(), layout) };
            }
        }
    }
}

fn allocate(layout: Layout) -> NonNull<u8> {
    // SAFETY: no layout is empty: those of entries and versions begin with a header.
    let room = unsafe { alloc(layout) };
    NonNull::new(room).unwrap_or_else(|| handle_alloc_error(layout))
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    fn layout(bytes: usize) -> Layout {
        Layout::from_size_align(bytes, GRAIN).expect("a block is small")
    }

    #[test]
    fn blocks_do_not_overlap_and_come_back() {
        let arena = Arena::new(true);
        let mut blocks = Vec::new();
        for n in 0..2_000_usize {
            let layout = layout(1 + n % 150);
            let at = arena.allocate(layout);
            // SAFETY: room of that length.
            unsafe { at.write_bytes(n as u8, layout.size()) };
            blocks.push((at, layout, n as u8));
        }
        let chunks = || arena.stripes.iter().map(|stripe| stripe.0.lock().chunks.len());
        let before: usize = chunks().sum();
        for (at, layout, byte) in blocks {
            // SAFETY: written with that length above; freed once.
            unsafe {
                let bytes = std::slice::from_raw_parts(at.as_ptr(), layout.size());
                assert!(bytes.iter().all(|b| *b == byte), "two blocks overlap");
                arena.free(at, layout);
            }
        }
        // What is left of the last chunk comes first.
        let idle = arena.idle_bytes();
        for _ in 0..5 {
            for n in 0..500 {
                let layout = layout(1 + n % 150);
                let at = arena.allocate(layout);
                // SAFETY: freed once.
                unsafe { arena.free(at, layout) };
            }
        }
        assert!(chunks().sum::<usize>() <= before + 1, "freed blocks are not used again");
        assert!(cfg!(any(miri, separate_allocations)) || arena.idle_bytes() >= idle);
    }
}
