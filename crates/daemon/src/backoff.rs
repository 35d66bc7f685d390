//! Growing, jittered waits between attempts.
//!
//! The wait doubles from `first` up to `limit`, and each one is drawn from its
//! upper half. So many clients that lost the same server do not all come back in
//! the same moment, and none of them comes back at once.

use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};

/// The waits of one retry loop. It does not sleep itself.
pub struct Backoff {
    first: Duration,
    limit: Duration,
    whole: Duration,
    random: SystemRandom,
}

impl Backoff {
    /// Starts at `first` and never waits longer than `limit`. A `limit` below
    /// `first` counts as `first`.
    #[must_use]
    pub fn new(first: Duration, limit: Duration) -> Self {
        Self { first, limit: limit.max(first), whole: first, random: SystemRandom::new() }
    }

    /// Says how long to wait before the next attempt, and makes the one after
    /// that up to twice as long.
    #[must_use]
    pub fn next_delay(&mut self) -> Duration {
        let whole = self.whole;
        self.whole = whole.saturating_mul(2).min(self.limit);
        let half = whole / 2;
        half + (whole - half).mul_f64(self.fraction())
    }

    /// Begins again at the first wait. Call it once an attempt has proved good,
    /// which is later than the moment it connected.
    pub fn reset(&mut self) {
        self.whole = self.first;
    }

    /// A number from 0 to 1. Without a random source it is 1: a wait that is not
    /// jittered is better than none.
    fn fraction(&self) -> f64 {
        let mut bytes = [0_u8; 4];
        match self.random.fill(&mut bytes) {
            Ok(()) => f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX),
            Err(ring::error::Unspecified) => 1.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_secs(1);
    const LIMIT: Duration = Duration::from_secs(30);

    #[test]
    fn every_wait_lies_in_the_upper_half_of_a_doubling_whole() {
        let mut backoff = Backoff::new(FIRST, LIMIT);
        for whole in [1, 2, 4, 8, 16, 30, 30, 30].map(Duration::from_secs) {
            let delay = backoff.next_delay();
            assert!(delay >= whole / 2 && delay <= whole, "{delay:?} of {whole:?}");
        }
    }

    #[test]
    fn waits_differ() {
        let delays: Vec<_> = (0..8).map(|_| Backoff::new(LIMIT, LIMIT).next_delay()).collect();
        assert!(delays.iter().any(|delay| Some(delay) != delays.first()), "{delays:?}");
    }

    #[test]
    fn reset_begins_again() {
        let mut backoff = Backoff::new(FIRST, LIMIT);
        for _ in 0..10 {
            let _ = backoff.next_delay();
        }
        backoff.reset();
        assert!(backoff.next_delay() <= FIRST);
    }

    #[test]
    fn limit_below_first_counts_as_first() {
        let mut backoff = Backoff::new(LIMIT, FIRST);
        assert!(backoff.next_delay() >= LIMIT / 2);
        assert!(backoff.next_delay() <= LIMIT);
    }

    #[test]
    fn the_longest_possible_wait_does_not_overflow() {
        let mut backoff = Backoff::new(Duration::MAX, Duration::MAX);
        assert!(backoff.next_delay() >= Duration::MAX / 2);
        assert!(backoff.next_delay() >= Duration::MAX / 2);
    }
}
