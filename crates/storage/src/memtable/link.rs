#![expect(unsafe_code, reason = "pointers between nodes that are read without locks")]
//! Pointers between nodes that readers follow without locks, in the manner of crossbeam-epoch.
//!
//! A [`Link`] is an atomic pointer. Following it takes a [`Guard`], the proof that the thread is
//! pinned (or alone), and yields a [`Shared`] that is good for as long as the guard.
//!
//! # The one rule
//! What a link leads to is retired (`Memory::retire`) once, and only after every link to it was
//! overwritten; it is freed after every pin that was taken before that is gone. Everything in this
//! module and in `entry.rs` that looks safe is safe by that rule, and the calls of `retire`, of
//! which there are few, are where to check it.

use std::marker::PhantomData;
use std::ops::Deref;
use std::ptr::{self, NonNull};

use super::pins::Registration;
use super::sync::{AtomicPtr, Ordering};

/// Proof that nothing reachable will be freed while it lives. A [`Pin`](super::Pin) keeps one
/// beside its registration, and [`Memtable::new`](super::Memtable::new) and the table's drop have
/// one, when nobody else knows the table.
#[derive(Debug)]
pub(super) struct Guard {
    _made_here: (),
}

impl Guard {
    /// Returns the guard of a registration, to be dropped when that is given back.
    pub(super) fn of_registration(_registration: &Registration) -> Guard {
        Guard { _made_here: () }
    }

    /// Returns a guard for a table that nobody else can reach, and of which nothing is retired.
    pub(super) fn alone() -> Guard {
        Guard { _made_here: () }
    }
}

/// A node that lives at least as long as `'g`, the guard it was found under.
pub(super) struct Shared<'g, T> {
    node: NonNull<T>,
    guard: PhantomData<&'g T>,
}

impl<T> Clone for Shared<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Shared<'_, T> {}

// SAFETY: it acts as a `&T`.
unsafe impl<T: Sync> Send for Shared<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Shared<'_, T> {}

impl<'g, T> Shared<'g, T> {
    /// Moves a new node to the heap. It stays there until it is retired.
    pub(super) fn new(node: T, _guard: &'g Guard) -> Shared<'g, T> {
        let node = NonNull::from(Box::leak(Box::new(node)));
        Shared { node, guard: PhantomData }
    }

    /// Returns the node for the whole time of the guard.
    pub(super) fn get(self) -> &'g T {
        // SAFETY: a `Shared` comes from `new` or from a link, and by the one rule what a link led
        // to under a guard is not freed before the guard is gone. Nodes are only ever changed
        // through atomics and locks.
        unsafe { self.node.as_ref() }
    }

    /// Returns true if both are the same node.
    pub(super) fn is(self, other: Shared<'_, T>) -> bool {
        self.node == other.node
    }

    /// Returns the pointer that [`free`] takes.
    pub(super) fn as_ptr(self) -> NonNull<T> {
        self.node
    }
}

impl<T> Deref for Shared<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.get()
    }
}

/// An atomic pointer to a node, or to none.
#[derive(Debug)]
pub(super) struct Link<T>(AtomicPtr<T>);

impl<T> Link<T> {
    pub(super) fn none() -> Link<T> {
        Link(AtomicPtr::new(ptr::null_mut()))
    }

    pub(super) fn to(node: Shared<'_, T>) -> Link<T> {
        Link(AtomicPtr::new(node.node.as_ptr()))
    }

    pub(super) fn new(node: Option<Shared<'_, T>>) -> Link<T> {
        node.map_or_else(Link::none, Link::to)
    }

    pub(super) fn load<'g>(&self, _guard: &'g Guard) -> Option<Shared<'g, T>> {
        let node = NonNull::new(self.0.load(Ordering::Acquire))?;
        Some(Shared { node, guard: PhantomData })
    }

    pub(super) fn store(&self, node: Option<Shared<'_, T>>) {
        let node = node.map_or(ptr::null_mut(), |node| node.node.as_ptr());
        self.0.store(node, Ordering::Release);
    }
}

/// Frees a node.
///
/// # Safety
/// The node came from [`Shared::new`], and the one rule is kept.
pub(super) unsafe fn free<T>(node: NonNull<T>) {
    // SAFETY: `Shared::new` leaked a box; nobody else can reach the node, says the caller.
    drop(unsafe { Box::from_raw(node.as_ptr()) });
}

/// Asks the processor to fetch the cache line of `address`, if it is any address at all.
pub(crate) fn prefetch<T>(address: *const T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: a prefetch reads nothing that the program could observe and faults on no address.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(address.cast());
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = address;
}
