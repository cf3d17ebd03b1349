//! Atomics and mutexes: the real ones, or those of the `shuttle` scheduler under `cfg(shuttle)`.
//!
//! Every shared word and every lock of the memtable comes from here, so that shuttle sees each
//! step and can try its interleavings.

#[cfg(not(shuttle))]
mod chosen {
    use std::cell::Cell;

    pub(in crate::memtable) use parking_lot::{Mutex, MutexGuard};
    pub(in crate::memtable) use std::hint::spin_loop;
    pub(in crate::memtable) use std::sync::atomic::{
        AtomicBool, AtomicIsize, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering,
    };

    static THREADS: AtomicUsize = AtomicUsize::new(0);

    thread_local! {
        static THREAD: Cell<usize> = const { Cell::new(usize::MAX) };
        static SLOT: Cell<usize> = const { Cell::new(usize::MAX) };
    }

    /// Returns a small number that differs between the threads that live at one time, mostly.
    pub(in crate::memtable) fn thread_number() -> usize {
        THREAD.with(|thread| {
            if thread.get() == usize::MAX {
                thread.set(THREADS.fetch_add(1, Ordering::Relaxed));
            }
            thread.get()
        })
    }

    /// Returns the pin slot this thread gave back last: a good place to look for a free one.
    pub(in crate::memtable) fn slot_hint() -> usize {
        let hint = SLOT.get();
        if hint == usize::MAX { thread_number() } else { hint }
    }

    /// Remembers a slot for [`slot_hint`].
    pub(in crate::memtable) fn set_slot_hint(slot: usize) {
        SLOT.set(slot);
    }
}

#[cfg(shuttle)]
mod chosen {
    pub(in crate::memtable) use shuttle::hint::spin_loop;
    pub(in crate::memtable) use shuttle::sync::MutexGuard;
    pub(in crate::memtable) use shuttle::sync::atomic::{
        AtomicBool, AtomicIsize, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering,
    };

    /// A mutex with the shape of parking_lot's.
    #[derive(Debug, Default)]
    pub(in crate::memtable) struct Mutex<T>(shuttle::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(in crate::memtable) fn new(value: T) -> Mutex<T> {
            Mutex(shuttle::sync::Mutex::new(value))
        }

        pub(in crate::memtable) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().expect("no thread panics while it holds a lock of the memtable")
        }
    }

    /// Always zero: a schedule must not depend on what ran before it.
    pub(in crate::memtable) fn thread_number() -> usize {
        0
    }

    pub(in crate::memtable) fn slot_hint() -> usize {
        0
    }

    pub(in crate::memtable) fn set_slot_hint(_slot: usize) {}
}

pub(super) use chosen::*;

/// A value alone on its cache lines. Two lines, because processors fetch lines in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Padded<T>(pub(super) T);

/// Stripes of what every writer touches: enough that few threads share one.
pub(super) const STRIPES: usize = if cfg!(shuttle) { 1 } else { 16 };

/// The bytes of the table and its keys, counted in stripes so that writers do not meet.
#[derive(Debug, Default)]
pub(super) struct Counters {
    stripes: [Padded<Counter>; STRIPES],
}

#[derive(Debug, Default)]
struct Counter {
    keys: AtomicIsize,
    bytes: AtomicIsize,
}

impl Counters {
    pub(super) fn add(&self, keys: isize, bytes: isize) {
        let counter = &self.stripes[thread_number() % STRIPES].0;
        if keys != 0 {
            counter.keys.fetch_add(keys, Ordering::Relaxed);
        }
        counter.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn keys(&self) -> usize {
        let sum: isize = self.stripes.iter().map(|s| s.0.keys.load(Ordering::Relaxed)).sum();
        usize::try_from(sum).unwrap_or(0)
    }

    pub(super) fn bytes(&self) -> usize {
        let sum: isize = self.stripes.iter().map(|s| s.0.bytes.load(Ordering::Relaxed)).sum();
        usize::try_from(sum).unwrap_or(0)
    }
}
