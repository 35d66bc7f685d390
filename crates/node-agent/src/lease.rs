//! How long ago the controller last gave this node a word.
//!
//! An instance with `stop_after_seconds` is stopped when that long ago: by then its
//! controller may have put another in its place (I6). So an age may be told too
//! long and never too short. It counts from when the heartbeat was sent that was
//! answered, and not from the answer, which may have been long on its way.
//!
//! Measured by a clock that nobody sets and that goes on while the host sleeps
//! (`CLOCK_BOOTTIME`): a laptop that was shut for an hour has been away for an hour.
//! What is kept on disk, and what it says after a restart, is in `keep`.

mod keep;

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::watch;

pub(crate) use keep::{keep, restore};

/// Tells the time since some moment that stays the same while the process lives.
type Clock = Arc<dyn Fn() -> Duration + Send + Sync>;

/// When the controller last gave this node a word. Clones share it.
#[derive(Clone)]
pub struct Lease(Arc<Inner>);

struct Inner {
    clock: Clock,
    /// Held for reading and writing two numbers only.
    held: Mutex<Held>,
    renewals: watch::Sender<()>,
}

/// So old it was at that time of the clock.
#[derive(Clone, Copy)]
struct Held {
    at: Duration,
    age: Duration,
}

/// The time since the host started, sleep included.
fn since_boot() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or(0))
}

impl Lease {
    /// One that was last renewed so long ago. [`Duration::MAX`] stands for one that
    /// nobody knows the age of: it counts as run out.
    #[must_use]
    pub fn renewed_ago(age: Duration) -> Self {
        Self::with_clock(age, since_boot)
    }

    /// The same, by another clock; for tests, and for those whose clock is a test's.
    #[must_use]
    pub fn with_clock(age: Duration, clock: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        let held = Mutex::new(Held { at: clock(), age });
        Self(Arc::new(Inner { clock: Arc::new(clock), held, renewals: watch::Sender::new(()) }))
    }

    /// The controller gave a word just now.
    pub fn renew(&self) {
        self.renew_as_of(self.now());
    }

    /// The controller gave a word on what was sent to it at `sent`, as told by
    /// [`Lease::now`]. What is older than what is held already changes nothing; a time
    /// that has not come yet counts as now.
    pub fn renew_as_of(&self, sent: Duration) {
        let now = self.now();
        let age = now.saturating_sub(sent);
        let mut held = self.held();
        if age <= held.age_at(now) {
            *held = Held { at: now, age };
            drop(held);
            self.0.renewals.send_replace(());
        }
    }

    /// How long ago that was.
    #[must_use]
    pub fn age(&self) -> Duration {
        let now = self.now();
        self.held().age_at(now)
    }

    /// The time by this lease's clock: for [`Lease::renew_as_of`].
    #[must_use]
    pub fn now(&self) -> Duration {
        (self.0.clock)()
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Held> {
        // Two numbers that are written together: whole, even behind a poisoned lock.
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Woken by each renewal.
    fn renewals(&self) -> watch::Receiver<()> {
        self.0.renewals.subscribe()
    }
}

impl Held {
    const fn age_at(self, now: Duration) -> Duration {
        self.age.saturating_add(now.saturating_sub(self.at))
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Lease").field(&self.age()).finish()
    }
}

#[cfg(test)]
mod testing {
    use super::*;

    /// A clock that a test sets.
    #[derive(Clone, Default)]
    pub(super) struct Hands(Arc<Mutex<Duration>>);

    impl Hands {
        pub(super) fn set(&self, seconds: u64) {
            *self.0.lock().unwrap() = Duration::from_secs(seconds);
        }
        pub(super) fn lease(&self, age: Duration) -> Lease {
            let hands = self.clone();
            Lease::with_clock(age, move || *hands.0.lock().unwrap())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{testing::Hands, *};

    const fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn it_grows_old_until_the_controller_gives_a_word() {
        let hands = Hands::default();
        hands.set(100);
        let lease = hands.lease(seconds(7));
        hands.set(105);
        assert_eq!(lease.age(), seconds(12));
        lease.clone().renew();
        hands.set(106);
        assert_eq!(lease.age(), seconds(1));
    }

    #[test]
    fn it_counts_from_what_was_answered_and_not_from_the_answer() {
        let hands = Hands::default();
        hands.set(100);
        let lease = hands.lease(seconds(50));
        let sent = lease.now();
        hands.set(109);
        lease.renew_as_of(sent);
        assert_eq!(lease.age(), seconds(9));
        lease.renew_as_of(seconds(95));
        assert_eq!(lease.age(), seconds(9), "a late answer to an earlier one takes nothing back");
        lease.renew_as_of(seconds(5000));
        assert_eq!(lease.age(), Duration::ZERO, "nobody answers what was not sent yet");
    }

    #[test]
    fn one_of_unknown_age_has_run_out_until_it_is_renewed() {
        let hands = Hands::default();
        let lease = hands.lease(Duration::MAX);
        hands.set(10);
        assert_eq!(lease.age(), Duration::MAX);
        lease.renew();
        assert_eq!(lease.age(), Duration::ZERO);
    }

    #[test]
    fn the_hosts_own_clock_counts_from_its_start_and_only_forward() {
        let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
        let uptime: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
        let (first, second) = (since_boot(), since_boot());
        assert!(first <= second);
        assert!((first.as_secs_f64() - uptime).abs() < 5.0, "{first:?} {uptime}");
    }
}
