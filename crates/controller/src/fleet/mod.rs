//! The nodes as they are connected to this process, kept in memory only: live
//! sessions, heartbeats, and streams of data that somebody waits for.

pub mod presence;
pub mod sessions;
pub mod streams;

pub use presence::Heartbeats;
pub use sessions::Sessions;
pub use streams::Streams;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks, whatever became of the thread that held it before: every critical
/// section here leaves its data whole at each step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
