//! The locks that committers meet at: those of the standard library, or shuttle's when a test
//! explores the schedules (`scripts/shuttle`).

#[cfg(not(shuttle))]
pub use std::sync::{
    Condvar, Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

#[cfg(shuttle)]
pub use shuttle::sync::{
    Condvar, Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

#[cfg(not(shuttle))]
pub use std::thread::{Thread, current as current_thread, park, yield_now};

#[cfg(shuttle)]
pub use shuttle::thread::{Thread, current as current_thread, park, yield_now};

use std::sync::PoisonError;

/// Locks. A panic while the lock was held is a bug that has been reported by the panic itself; the
/// queue behind it is changed in steps that each leave it whole.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for a notification.
pub fn wait<'a, T>(condvar: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    condvar.wait(guard).unwrap_or_else(PoisonError::into_inner)
}

#[cfg(all(test, not(shuttle)))]
pub(crate) use std::thread::spawn;

#[cfg(all(test, shuttle))]
pub(crate) use shuttle::thread::spawn;
