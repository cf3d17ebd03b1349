#![expect(unsafe_code, reason = "one block holds a header and bytes of any length")]
//! Entries and versions: a key with the chain of its versions, each one block of the arena.
//!
//! ```text
//!  entry
//!  0      8         12         14     15      16          (aligned to 8)
//!  +------+---------+----------+------+-------+-----------+ - - - - - - - - - - - +
//!  | head | key len | embedded | lock | flags | key bytes | first version         |
//!  +------+---------+----------+------+-------+-----------+ - - - - - - - - - - - +
//!     |         '--- bytes of the first version, or 0: it was too large to embed
//!     v
//!  version (newest)         version                 version (oldest)
//!  0      8    16    20     21         22..24
//!  +------+----+-----+------+----------+----+-------------+
//!  | next | ts | len | kind | embedded | -- | value bytes |
//!  +------+----+-----+------+----------+----+-------------+
//! ```
//!
//! Most keys are written once. So the first version of a key lies in the same block as the
//! key when it is small: a read that finds the entry has the value on the following cache line,
//! without a third miss. The price: when a newer version supersedes it, its room is not given back
//! before the entry goes; [`EMBEDDED_VALUE_BYTES_MAX`] bounds that.
//!
//! # Invariants
//! * A chain is never empty, and its timestamps fall strictly from the head on.
//! * Key, timestamp and value never change once the entry or version is reachable; `head` and
//!   `next` change only under the entry's lock.
//! * A dead entry stays dead, and its chain does not change any more.

use std::alloc::Layout;
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::slice;

use base::Timestamp;

use super::arena::Arena;
use super::link::{Guard, prefetch};
use super::sync::{AtomicPtr, AtomicU8, Mutex, MutexGuard, Ordering};
use crate::Value;

/// Longest value that is embedded beside its key. Larger ones cost two cache misses more, which
/// their own length hides; and an embedded version is not given back before its entry.
pub(super) const EMBEDDED_VALUE_BYTES_MAX: usize = 192;

/// Cache lines fetched of an entry or version ahead of its use.
const PREFETCH_LINES: usize = 4;

/// Set under the lock when the entry leaves the indexes.
const DEAD: u8 = 1;
/// Set while the entry waits in the collector's queue.
const QUEUED: u8 = 2;

#[repr(C)]
pub(super) struct EntryHeader {
    head: AtomicPtr<VersionHeader>,
    key_len: u32,
    embedded: u16,
    lock: Mutex<()>,
    flags: AtomicU8,
}

#[repr(C)]
pub(super) struct VersionHeader {
    next: AtomicPtr<VersionHeader>,
    ts: u64,
    len: u32,
    tombstone: bool,
    embedded: bool,
}

const KEY_AT: usize = size_of::<EntryHeader>();
const VALUE_AT: usize = size_of::<VersionHeader>();

impl EntryHeader {
    /// Returns the layout of an entry, and where its embedded version would lie.
    fn layout(key_len: usize, embedded: usize) -> (Layout, usize) {
        let version_at = (KEY_AT + key_len).next_multiple_of(align_of::<VersionHeader>());
        let size = if embedded == 0 { KEY_AT + key_len } else { version_at + embedded };
        let layout = Layout::from_size_align(size, align_of::<EntryHeader>());
        (layout.expect("a key is shorter than 4 GiB, so the size cannot overflow"), version_at)
    }
}

impl VersionHeader {
    fn layout(len: usize) -> Layout {
        let layout = Layout::from_size_align(VALUE_AT + len, align_of::<VersionHeader>());
        layout.expect("a value is shorter than 4 GiB, so the size cannot overflow")
    }

    /// Writes a version to `at`.
    ///
    /// # Safety
    /// `at` is writable for `VALUE_AT` plus the value's length, aligned, and nobody else's.
    unsafe fn write(at: NonNull<VersionHeader>, ts: Timestamp, value: Value<'_>, embedded: bool) {
        let bytes = value.as_put().unwrap_or_default();
        let len = u32::try_from(bytes.len()).expect("a value is shorter than 4 GiB");
        let header = VersionHeader {
            next: AtomicPtr::new(ptr::null_mut()),
            ts: ts.raw(),
            len,
            tombstone: value == Value::Tombstone,
            embedded,
        };
        // SAFETY: the caller gives the room, which begins with a header and goes on with the value.
        unsafe {
            at.write(header);
            let room = at.cast::<u8>().add(VALUE_AT);
            ptr::copy_nonoverlapping(bytes.as_ptr(), room.as_ptr(), bytes.len());
        }
    }
}

/// An entry that lives at least as long as `'g`.
#[derive(Clone, Copy)]
pub(super) struct EntryRef<'g> {
    at: NonNull<EntryHeader>,
    guard: PhantomData<&'g EntryHeader>,
}

// SAFETY: it acts as a shared reference to atomics, a lock and constants.
unsafe impl Send for EntryRef<'_> {}
// SAFETY: as above.
unsafe impl Sync for EntryRef<'_> {}

impl<'g> EntryRef<'g> {
    /// Makes an entry with one version. It lives until it is freed, or the arena is dropped.
    pub(super) fn new(
        arena: &Arena,
        key: &[u8],
        ts: Timestamp,
        value: Value<'_>,
        guard: &'g Guard,
    ) -> EntryRef<'g> {
        let key_len = u32::try_from(key.len()).expect("a key is shorter than 4 GiB");
        let value_len = value.as_put().map_or(0, <[u8]>::len);
        let embed = value_len <= EMBEDDED_VALUE_BYTES_MAX;
        let embedded = if embed { VALUE_AT + value_len } else { 0 };
        let (layout, version_at) = EntryHeader::layout(key.len(), embedded);
        let room = arena.allocate(layout);
        let version = if embed {
            // SAFETY: the layout has `embedded` bytes from `version_at` on, and it is aligned.
            unsafe {
                let version = room.add(version_at).cast();
                VersionHeader::write(version, ts, value, true);
                version
            }
        } else {
            VersionRef::new(arena, ts, value, guard).at
        };
        let header = EntryHeader {
            head: AtomicPtr::new(version.as_ptr()),
            key_len,
            embedded: u16::try_from(embedded).expect("an embedded value is short"),
            lock: Mutex::new(()),
            flags: AtomicU8::new(0),
        };
        let at = room.cast::<EntryHeader>();
        // SAFETY: the layout begins with a header followed by the key, and is nobody else's yet.
        unsafe {
            at.write(header);
            ptr::copy_nonoverlapping(key.as_ptr(), room.add(KEY_AT).as_ptr(), key.len());
        }
        debug_assert_eq!(at.addr().get() >> 48, 0, "user addresses have 48 bits");
        EntryRef { at, guard: PhantomData }
    }

    pub(super) fn as_ptr(self) -> NonNull<EntryHeader> {
        self.at
    }

    pub(super) fn is(self, other: EntryRef<'_>) -> bool {
        self.at == other.at
    }

    fn header(self) -> &'g EntryHeader {
        // SAFETY: the entry lives for `'g`, and its header is only changed through atomics.
        unsafe { self.at.as_ref() }
    }

    pub(super) fn key(self) -> &'g [u8] {
        let len = self.header().key_len as usize;
        // SAFETY: the key was written behind the header before the entry was reachable, and never
        // changes.
        unsafe { slice::from_raw_parts(self.at.cast::<u8>().add(KEY_AT).as_ptr(), len) }
    }

    /// Returns the newest version.
    pub(super) fn head(self) -> VersionRef<'g> {
        let at = NonNull::new(self.header().head.load(Ordering::Acquire));
        VersionRef { at: at.expect("a chain is never empty"), guard: PhantomData }
    }

    /// Returns the newest version at or below `ts`.
    pub(super) fn visible(self, ts: Timestamp) -> Option<VersionRef<'g>> {
        let mut version = self.head();
        while version.ts() > ts {
            version = version.next()?;
        }
        Some(version)
    }

    pub(super) fn lock(self) -> MutexGuard<'g, ()> {
        self.header().lock.lock()
    }

    pub(super) fn is_dead(self) -> bool {
        self.header().flags.load(Ordering::Acquire) & DEAD != 0
    }

    pub(super) fn set_dead(self, _lock: &MutexGuard<'_, ()>) {
        self.header().flags.fetch_or(DEAD, Ordering::Release);
    }

    pub(super) fn is_queued(self) -> bool {
        self.header().flags.load(Ordering::Relaxed) & QUEUED != 0
    }

    pub(super) fn set_queued(self, queued: bool, _lock: &MutexGuard<'_, ()>) {
        if queued {
            self.header().flags.fetch_or(QUEUED, Ordering::Relaxed);
        } else {
            self.header().flags.fetch_and(!QUEUED, Ordering::Relaxed);
        }
    }

    /// Puts a version into the chain where its timestamp belongs. Returns false, and keeps nothing,
    /// if there is one with that timestamp.
    pub(super) fn link(self, version: VersionRef<'g>, _lock: &MutexGuard<'_, ()>) -> bool {
        let mut link = &self.header().head;
        loop {
            let next = link.load(Ordering::Relaxed);
            if let Some(at) = NonNull::new(next) {
                let older = VersionRef { at, guard: PhantomData::<&'g VersionHeader> };
                if older.ts() == version.ts() {
                    return false;
                }
                if older.ts() > version.ts() {
                    link = &older.header().next;
                    continue;
                }
            }
            version.header().next.store(next, Ordering::Relaxed);
            // Publishes the version: what was written to it happens before whoever reads the link.
            link.store(version.at.as_ptr(), Ordering::Release);
            return true;
        }
    }

    /// Cuts all versions older than `keep` off the chain and returns the first of them.
    pub(super) fn cut_after(
        self,
        keep: VersionRef<'g>,
        _lock: &MutexGuard<'_, ()>,
    ) -> Option<VersionRef<'g>> {
        let tail = keep.next();
        keep.header().next.store(ptr::null_mut(), Ordering::Release);
        tail
    }

    /// Returns the bytes of the block.
    pub(super) fn bytes(self) -> usize {
        let header = self.header();
        EntryHeader::layout(header.key_len as usize, usize::from(header.embedded)).0.size()
    }

    /// Fetches the lines that a read of the key and of an embedded version will touch.
    pub(super) fn prefetch(self) {
        // How long the entry is stands in its first line, which is not there yet: the guess is a
        // short key with a value of some hundred bytes.
        for line in 0..PREFETCH_LINES {
            prefetch(self.at.as_ptr().cast::<u8>().wrapping_add(64 * line));
        }
    }

    /// Fetches the line of the key.
    pub(super) fn prefetch_key(self) {
        prefetch(self.at.as_ptr());
    }

    /// Fetches the newest version, unless it is embedded.
    pub(super) fn prefetch_version(self) {
        let head = self.header().head.load(Ordering::Relaxed).cast::<u8>();
        let offset = head.addr().wrapping_sub(self.at.addr().get());
        if offset > KEY_AT + self.header().key_len as usize + align_of::<VersionHeader>() {
            for line in 0..PREFETCH_LINES {
                prefetch(head.wrapping_add(64 * line));
            }
        }
    }

    /// Frees the entry and an embedded version, but no other.
    ///
    /// # Safety
    /// It is of this arena, nothing leads to it any more, and no guard protects a reference to it.
    pub(super) unsafe fn free(at: NonNull<EntryHeader>, arena: &Arena) {
        // SAFETY: allocated in `new` with the layout that follows from the header.
        unsafe {
            let header = at.as_ref();
            let embedded = usize::from(header.embedded);
            let (layout, version_at) = EntryHeader::layout(header.key_len as usize, embedded);
            if embedded != 0 {
                at.cast::<u8>().add(version_at).cast::<VersionHeader>().drop_in_place();
            }
            at.drop_in_place();
            arena.free(at.cast(), layout);
        }
    }
}

/// A pointer to an entry kept over the end of a guard, by someone without whom the entry is not
/// retired: the collector's queue (an entry is in it once, and only the collector, having taken it
/// out, retires entries), or a loader that has the table for itself.
pub(super) struct Claim(NonNull<EntryHeader>);

// SAFETY: it is a key to an entry, which any thread may use.
unsafe impl Send for Claim {}

impl Claim {
    pub(super) fn new(entry: EntryRef<'_>) -> Claim {
        Claim(entry.at)
    }

    pub(super) fn entry<'g>(&self, _guard: &'g Guard) -> EntryRef<'g> {
        // The entry was not retired before, by what a claim is, so the guard holds it from now on.
        EntryRef { at: self.0, guard: PhantomData }
    }
}

/// A version that lives at least as long as `'g`.
#[derive(Clone, Copy)]
pub(super) struct VersionRef<'g> {
    at: NonNull<VersionHeader>,
    guard: PhantomData<&'g VersionHeader>,
}

// SAFETY: it acts as a shared reference to an atomic and constants.
unsafe impl Send for VersionRef<'_> {}
// SAFETY: as above.
unsafe impl Sync for VersionRef<'_> {}

impl<'g> VersionRef<'g> {
    /// Makes a version. It lives until it is freed, or the arena is dropped.
    pub(super) fn new(
        arena: &Arena,
        ts: Timestamp,
        value: Value<'_>,
        _: &'g Guard,
    ) -> VersionRef<'g> {
        let layout = VersionHeader::layout(value.as_put().map_or(0, <[u8]>::len));
        let at = arena.allocate(layout).cast();
        // SAFETY: allocated with that layout just now.
        unsafe { VersionHeader::write(at, ts, value, false) };
        VersionRef { at, guard: PhantomData }
    }

    pub(super) fn as_ptr(self) -> NonNull<VersionHeader> {
        self.at
    }

    fn header(self) -> &'g VersionHeader {
        // SAFETY: the version lives for `'g`; only `next` changes, and it is atomic.
        unsafe { self.at.as_ref() }
    }

    pub(super) fn ts(self) -> Timestamp {
        Timestamp::from_raw(self.header().ts)
    }

    pub(super) fn is_tombstone(self) -> bool {
        self.header().tombstone
    }

    pub(super) fn is_embedded(self) -> bool {
        self.header().embedded
    }

    pub(super) fn value(self) -> Value<'g> {
        if self.header().tombstone {
            return Value::Tombstone;
        }
        let len = self.header().len as usize;
        // SAFETY: the value was written behind the header before the version was reachable, and
        // never changes.
        let value =
            unsafe { slice::from_raw_parts(self.at.cast::<u8>().add(VALUE_AT).as_ptr(), len) };
        Value::Put(value)
    }

    /// Returns the next older version.
    pub(super) fn next(self) -> Option<VersionRef<'g>> {
        let at = NonNull::new(self.header().next.load(Ordering::Acquire))?;
        Some(VersionRef { at, guard: PhantomData })
    }

    /// Returns the bytes of the block; zero for an embedded version.
    pub(super) fn bytes(self) -> usize {
        let header = self.header();
        if header.embedded { 0 } else { VersionHeader::layout(header.len as usize).size() }
    }

    /// Frees the version.
    ///
    /// # Safety
    /// It is of this arena and not embedded, no chain leads to it any more, and no guard protects a
    /// reference to it.
    pub(super) unsafe fn free(at: NonNull<VersionHeader>, arena: &Arena) {
        // SAFETY: allocated in `new` with the layout that follows from the header.
        unsafe {
            let layout = VersionHeader::layout(at.as_ref().len as usize);
            at.drop_in_place();
            arena.free(at.cast(), layout);
        }
    }
}

/// An atomic pointer to an entry with a tag in its upper bits, as the indexes hold them.
#[derive(Debug)]
pub(super) struct EntryCell(AtomicPtr<EntryHeader>);

/// What a cell may say.
#[derive(Clone, Copy)]
pub(super) struct Tagged<'g> {
    word: *mut EntryHeader,
    guard: PhantomData<&'g EntryHeader>,
}

/// Addresses of user memory have 48 bits on every system we run on; the tag takes the rest.
const ADDRESS_BITS: u32 = 48;

/// A hash slot whose entry was removed: no address, and the tag 0 that no entry has.
const REMOVED: usize = 1;

impl EntryCell {
    pub(super) const fn empty() -> EntryCell {
        EntryCell(AtomicPtr::new(ptr::null_mut()))
    }

    pub(super) fn load<'g>(&self, _guard: &'g Guard) -> Tagged<'g> {
        Tagged { word: self.0.load(Ordering::Acquire), guard: PhantomData }
    }

    pub(super) fn store(&self, word: Tagged<'_>) {
        self.0.store(word.word, Ordering::Release);
    }

    /// Copies another cell. Only for who holds the locks of both.
    pub(super) fn copy_from(&self, source: &EntryCell) {
        self.0.store(source.0.load(Ordering::Relaxed), Ordering::Release);
    }

    pub(super) fn prefetch(&self) {
        prefetch(self);
    }
}

impl<'g> Tagged<'g> {
    pub(super) fn empty() -> Tagged<'g> {
        Tagged { word: ptr::null_mut(), guard: PhantomData }
    }

    pub(super) fn removed() -> Tagged<'g> {
        Tagged { word: ptr::without_provenance_mut(REMOVED), guard: PhantomData }
    }

    pub(super) fn new(entry: EntryRef<'g>, tag: u16) -> Tagged<'g> {
        let word = entry.at.as_ptr().map_addr(|at| at | usize::from(tag) << ADDRESS_BITS);
        Tagged { word, guard: PhantomData }
    }

    pub(super) fn is_empty(self) -> bool {
        self.word.is_null()
    }

    pub(super) fn is_removed(self) -> bool {
        self.word.addr() == REMOVED
    }

    pub(super) fn tag(self) -> u16 {
        (self.word.addr() >> ADDRESS_BITS) as u16
    }

    /// Returns the entry; `None` if the cell was empty or its entry removed.
    pub(super) fn entry(self) -> Option<EntryRef<'g>> {
        let at = self.word.map_addr(|at| at & ((1 << ADDRESS_BITS) - 1));
        match NonNull::new(at) {
            Some(at) if at.addr().get() != REMOVED => Some(EntryRef { at, guard: PhantomData }),
            _ => None,
        }
    }
}
