//! The first line against floods: limits of this process alone, in memory.
//!
//! What must hold across controllers is kept in the database
//! ([`super::identity::limits`]); but a flood of requests must not become a flood of
//! writes there. So each address first passes here, at the same rate, and only what
//! passes is counted there.

use std::{
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicU32, Ordering},
    },
};

use domain::limit::{Rate, Taken};
use governor::{DefaultKeyedRateLimiter, Quota, clock::Clock};

use crate::error::Error;

/// Requests between two looks at how much is remembered.
const LOOK_EVERY: u32 = 1024;
/// Addresses that are remembered, about 100 bytes each. Where more are busy at once,
/// all are forgotten: what is left then is the database's limit, and no lack of memory.
const ADDRESSES_MAX: usize = 65_536;

/// Whom an address stands for: whoever has an IPv6 address mostly has 2^64 of them.
#[must_use]
pub fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// One limit for each address.
pub struct Flood {
    rate: Rate,
    quota: Quota,
    // Guards which limiter is in use; written only to forget everything.
    limiter: RwLock<DefaultKeyedRateLimiter<IpAddr>>,
    checks: AtomicU32,
}

impl Flood {
    /// One with that rate; none where there is none.
    #[must_use]
    pub fn new(rate: Option<Rate>) -> Option<Self> {
        let rate = rate?;
        let quota = Quota::with_period(rate.each())?.allow_burst(NonZeroU32::new(rate.count())?);
        let limiter = RwLock::new(DefaultKeyedRateLimiter::keyed(quota));
        Some(Self { rate, quota, limiter, checks: AtomicU32::new(0) })
    }

    /// Lets one request of an address pass, or not.
    ///
    /// # Errors
    /// When there were too many; says when the next may pass.
    pub fn check(&self, address: IpAddr) -> Result<(), Error> {
        if self.checks.fetch_add(1, Ordering::Relaxed) % LOOK_EVERY == LOOK_EVERY - 1 {
            self.tidy(ADDRESSES_MAX);
        }
        let limiter = self.limiter.read().unwrap_or_else(PoisonError::into_inner);
        limiter.check_key(&source(address)).map_err(|not_until| {
            let wait = not_until.wait_time_from(limiter.clock().now());
            let filled = (self.rate.capacity() + wait).saturating_sub(self.rate.each());
            Error::rate_limited(Taken { retry_after: wait, ..self.rate.look(false, filled) })
        })
    }

    /// Forgets addresses that may do all again; all of them, if still more than `most` are left.
    fn tidy(&self, most: usize) {
        let left = {
            let limiter = self.limiter.read().unwrap_or_else(PoisonError::into_inner);
            limiter.retain_recent();
            limiter.shrink_to_fit();
            limiter.len()
        };
        if left > most {
            tracing::warn!(addresses = left, "more addresses at once than are remembered; all are forgotten");
            *self.limiter.write().unwrap_or_else(PoisonError::into_inner) =
                DefaultKeyedRateLimiter::keyed(self.quota);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn flood(count: u32) -> Flood {
        Flood::new(Rate::new(count, Duration::from_secs(3600) * count)).unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_passes_so_often_and_is_told_when_again() {
        let flood = flood(2);
        assert!(flood.check(ip("10.0.0.1")).is_ok() && flood.check(ip("::ffff:10.0.0.1")).is_ok());
        let error = flood.check(ip("10.0.0.1")).unwrap_err();
        let taken = error.rate().unwrap();
        assert_eq!((error.code(), taken.limit, taken.remaining), ("rate_limited", 2, 0));
        let hour = Duration::from_secs(3600);
        assert!(taken.retry_after <= hour && taken.retry_after > hour - Duration::from_secs(60));
        assert!(flood.check(ip("10.0.0.2")).is_ok());
    }

    #[test]
    fn the_addresses_of_one_ipv6_network_count_as_one() {
        let flood = flood(1);
        assert!(flood.check(ip("2001:db8::1")).is_ok());
        assert!(flood.check(ip("2001:db8::ffff:2")).is_err());
        assert!(flood.check(ip("2001:db8:0:1::1")).is_ok());
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let flood = flood(1);
        for n in 0..5_000_u32 {
            assert!(flood.check(IpAddr::from(n.to_be_bytes())).is_ok());
        }
        flood.tidy(5_000);
        assert!(flood.check(ip("0.0.0.0")).is_err(), "not so many that any is forgotten");
        flood.tidy(4_999);
        assert!(flood.check(ip("0.0.0.0")).is_ok());
        assert_eq!(flood.limiter.read().unwrap().len(), 1);
    }
}
