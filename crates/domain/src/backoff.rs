//! How long to wait before the next attempt.
//!
//! The first failure in a row is retried at once, because most single failures
//! are an operator's `docker kill` or a passing fault. After that the wait
//! doubles from one second up to the limit. The jitter is a function of what is
//! being retried, not a random number, so a plan stays a function.

use std::time::Duration;

/// Wait before the third attempt in a row; it doubles from here.
pub const FIRST: Duration = Duration::from_secs(1);
/// The longest wait between attempts.
pub const LIMIT: Duration = Duration::from_secs(30);
/// An attempt that ran this long was a success: the count of failures starts again.
pub const RESET_AFTER: Duration = Duration::from_secs(30);

/// The wait after `failures` failures in a row, made up to a fifth shorter by `seed`.
///
/// Shorter and never longer, so that [`LIMIT`] stays true; spread, so that a
/// hundred containers that died together do not come back together.
#[must_use]
pub fn delay(failures: u32, seed: u64) -> Duration {
    if failures <= 1 {
        return Duration::ZERO;
    }
    let doublings = (failures - 2).min(16);
    let full = FIRST.saturating_mul(1 << doublings).min(LIMIT);
    let millis = u64::try_from(full.as_millis()).unwrap_or(u64::MAX);
    let cut = mix(seed.wrapping_add(u64::from(failures))) % (millis / 5 + 1);
    Duration::from_millis(millis - cut)
}

/// Spreads the bits of `x` (the finaliser of SplitMix64, Steele and others 2014).
const fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_failure_is_retried_at_once() {
        assert_eq!(delay(0, 7), Duration::ZERO);
        assert_eq!(delay(1, 7), Duration::ZERO);
        assert!(delay(2, 7) >= Duration::from_millis(800));
    }

    proptest! {
        #[test]
        fn the_wait_never_exceeds_the_limit_and_never_falls_below_four_fifths(failures in 2u32..1000, seed: u64) {
            let full = FIRST.saturating_mul(1 << (failures - 2).min(16)).min(LIMIT);
            let wait = delay(failures, seed);
            prop_assert!(wait <= full && wait >= full * 4 / 5);
        }
    }
}
