//! How often something may be done.
//!
//! GCRA, the virtual form of a leaky bucket: of each key one moment is kept, when its
//! bucket will be empty again. Doing it once pours in the time that one costs; it may
//! be done as long as the bucket does not run over. Nothing has to run in the
//! background, and a key whose moment has passed need not be kept at all.
//!
//! Whoever keeps the moment takes `now` from one clock for all, and keeps what
//! [`Rate::take`] says: the database does so in one statement, and is tested against
//! this.

use std::time::Duration;

/// So many in a row, and so many again in that time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    count: u32,
    each: Duration,
}

/// What became of a request to do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Taken {
    /// Whether it may be done.
    pub allowed: bool,
    /// How many in a row there are at most.
    pub limit: u32,
    /// How many of them are left now.
    pub remaining: u32,
    /// When all of them are there again, if it is not done any more.
    pub reset_after: Duration,
    /// When one more may be done; zero where one may be done now.
    pub retry_after: Duration,
}

impl Rate {
    /// `count` in `per`, and `count` at once; none where one of them is zero. Whole
    /// microseconds, as the database keeps them: a longer `per` than a century is cut.
    #[must_use]
    pub fn new(count: u32, per: Duration) -> Option<Self> {
        let per = per.min(Duration::from_secs(100 * 366 * 86_400));
        let micros = u64::try_from(per.checked_div(count)?.as_micros()).unwrap_or(u64::MAX);
        (micros > 0).then_some(Self { count, each: Duration::from_micros(micros) })
    }

    /// How many in a row.
    #[must_use]
    pub const fn count(self) -> u32 {
        self.count
    }

    /// What one costs.
    #[must_use]
    pub const fn each(self) -> Duration {
        self.each
    }

    /// What the bucket holds.
    #[must_use]
    pub fn capacity(self) -> Duration {
        self.each * self.count
    }

    /// Does it `cost` times at once, or not at all. `filled` is how long the bucket
    /// still needs to be empty; also given is how long it does afterwards.
    pub fn take(self, filled: Duration, cost: u32) -> (Taken, Duration) {
        let after = filled.saturating_add(self.each.saturating_mul(cost));
        if after <= self.capacity() {
            (self.look(true, after), after)
        } else {
            (self.look(false, filled), filled)
        }
    }

    /// Takes back what was taken for something that does not count.
    #[must_use]
    pub fn give_back(self, filled: Duration, cost: u32) -> Duration {
        filled.saturating_sub(self.each.saturating_mul(cost))
    }

    /// What is there for who was `allowed` or not, with a bucket that is `filled`.
    pub fn look(self, allowed: bool, filled: Duration) -> Taken {
        let left = self.capacity().saturating_sub(filled);
        let remaining = left.as_micros() / self.each.as_micros().max(1);
        let over = filled.saturating_add(self.each).saturating_sub(self.capacity());
        Taken {
            allowed,
            limit: self.count,
            remaining: u32::try_from(remaining).unwrap_or(self.count),
            reset_after: filled,
            retry_after: over,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn rates() -> impl Strategy<Value = Rate> {
        (1u32..50, 1u64..100_000_000)
            .prop_filter_map("too fast", |(count, micros)| Rate::new(count, Duration::from_micros(micros)))
    }

    /// A bucket by a clock of the test's own.
    struct Bucket {
        rate: Rate,
        now: Duration,
        empty_at: Duration,
    }

    impl Bucket {
        fn new(rate: Rate) -> Self {
            Self { rate, now: Duration::ZERO, empty_at: Duration::ZERO }
        }

        fn take(&mut self, cost: u32) -> Taken {
            let (taken, filled) = self.rate.take(self.empty_at.saturating_sub(self.now), cost);
            self.empty_at = self.now + filled;
            taken
        }
    }

    #[test]
    fn so_many_in_a_row_and_then_one_each() {
        let mut bucket = Bucket::new(Rate::new(3, 6 * SECOND).unwrap());
        let remaining: Vec<_> = (0..3).map(|_| bucket.take(1).remaining).collect();
        assert_eq!(remaining, [2, 1, 0]);
        let refused = bucket.take(1);
        let told = Taken {
            allowed: false,
            limit: 3,
            remaining: 0,
            reset_after: 6 * SECOND,
            retry_after: 2 * SECOND,
        };
        assert_eq!(refused, told);
        bucket.now += 2 * SECOND;
        assert!(bucket.take(1).allowed && !bucket.take(1).allowed);
        bucket.now += 60 * SECOND;
        assert_eq!(bucket.take(1).remaining, 2, "time does not add up beyond the burst");
    }

    #[test]
    fn a_rate_of_nothing_is_none() {
        assert_eq!(Rate::new(0, SECOND), None);
        assert_eq!(Rate::new(1, Duration::ZERO), None);
        assert_eq!(Rate::new(u32::MAX, SECOND), None, "less than a microsecond each");
        assert_eq!(Rate::new(1, Duration::MAX).unwrap().count(), 1);
    }

    proptest! {
        #[test]
        fn never_more_than_the_burst_and_what_the_time_brings(
            rate in rates(), steps in prop::collection::vec((0u64..10_000_000, 1u32..4), 1..100),
        ) {
            let (mut bucket, mut done) = (Bucket::new(rate), 0u128);
            for (wait, cost) in steps {
                bucket.now += Duration::from_micros(wait);
                if bucket.take(cost).allowed {
                    done += u128::from(cost);
                }
                let brought = bucket.now.as_micros() / rate.each().as_micros();
                prop_assert!(done <= u128::from(rate.count()) + brought);
            }
        }

        #[test]
        fn what_is_told_is_true(rate in rates(), filled in 0u64..200_000_000) {
            let filled = Duration::from_micros(filled).min(rate.capacity());
            let seen = rate.look(true, filled);
            prop_assert!(seen.remaining <= seen.limit);
            prop_assert_eq!(rate.take(filled, seen.remaining).0.allowed, true);
            prop_assert_eq!(rate.take(filled, seen.remaining + 1).0.allowed, false);
            prop_assert!(rate.take(filled.saturating_sub(seen.retry_after), 1).0.allowed);
            if seen.retry_after > Duration::ZERO {
                let early = filled - (seen.retry_after - Duration::from_micros(1));
                prop_assert!(!rate.take(early, 1).0.allowed);
            }
        }

        #[test]
        fn what_is_refused_costs_nothing_and_what_is_given_back_was_never_taken(
            rate in rates(), filled in 0u64..200_000_000, cost in 0u32..60,
        ) {
            let filled = Duration::from_micros(filled).min(rate.capacity());
            let (taken, after) = rate.take(filled, cost);
            prop_assert_eq!(if taken.allowed { rate.give_back(after, cost) } else { after }, filled);
        }

        #[test]
        fn who_waits_as_told_is_not_refused_again(rate in rates(), costs in 1usize..80) {
            let mut bucket = Bucket::new(rate);
            for _ in 0..costs {
                let taken = bucket.take(1);
                if !taken.allowed {
                    bucket.now += taken.retry_after;
                    prop_assert!(bucket.take(1).allowed);
                }
            }
        }
    }
}
