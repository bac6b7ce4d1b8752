//! Mutexes that survive a panicking test.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks, also where another thread panicked while it held the lock: what is kept behind these
/// locks is valid after every single step, and the first panic is the one that a test should show.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
