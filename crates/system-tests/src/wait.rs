//! Waiting for a fact instead of for time.

use std::{
    sync::OnceLock,
    time::{Duration, Instant},
};

use anyhow::Result;

/// Between two looks.
const POLL: Duration = Duration::from_millis(50);

/// Looks until it finds what it looks for, and gives it back.
///
/// An error says what was seen instead; the last one is in the message of the
/// failure.
///
/// # Panics
/// When it was not found within that time.
pub async fn until<T>(what: &str, within: Duration, mut look: impl AsyncFnMut() -> Result<T>) -> T {
    let started = Instant::now();
    loop {
        match look().await {
            Ok(found) => return found,
            Err(seen) if started.elapsed() >= within => {
                panic!("{what}: not so within {} s; last seen: {seen:#}", within.as_secs_f32())
            }
            Err(_) => tokio::time::sleep(POLL).await,
        }
    }
}

/// Looks again and again for that long, and each time it has to be so.
///
/// # Panics
/// When it once is not.
pub async fn stays(what: &str, so_long: Duration, mut look: impl AsyncFnMut() -> Result<()>) {
    let started = Instant::now();
    while started.elapsed() < so_long {
        if let Err(seen) = look().await {
            panic!("{what}: no longer so after {} s: {seen:#}", started.elapsed().as_secs_f32());
        }
        tokio::time::sleep(POLL).await;
    }
}

/// A number of seconds.
#[must_use]
pub const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Notes how far a test has come and when; shown with a failure.
pub fn note(what: &str) {
    static START: OnceLock<Instant> = OnceLock::new();
    eprintln!("{:7.2} s  {what}", START.get_or_init(Instant::now).elapsed().as_secs_f64());
}
