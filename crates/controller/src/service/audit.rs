//! The audit log: reading it out, and what goes into it of strangers.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::{Stream, stream::try_unfold};
use serde_json::json;
use store::{
    Cursor,
    audit::{Actor, AuditFilter, AuditNew, AuditOrder, AuditRow},
};
use tokio::time::Instant;

use super::Services;
use crate::error::Error;

/// Lines that an export reads at a time.
const BATCH: usize = 500;
/// A stranger's refusals are one line in that time.
const QUIET: Duration = Duration::from_secs(60);
/// Addresses with actions that are remembered; of more in one [`QUIET`], nothing is written down.
const SOURCES_MAX: usize = 4096;
/// Longest subject that a stranger gets written down, in characters.
const SUBJECT_MAX: usize = 200;

/// What was lately written down of those whom nobody knows: a flood of bad tokens must
/// not be a flood of writes.
#[derive(Default)]
pub struct Strangers(
    // Guards nothing but itself, and is held for a look.
    Mutex<HashMap<(IpAddr, &'static str), Seen>>,
);

struct Seen {
    written: Instant,
    unwritten: u64,
}

/// Whoever has an IPv6 address mostly has 2^64 of them.
fn source(address: Option<&str>) -> IpAddr {
    match address.and_then(|text| text.parse().ok()) {
        Some(IpAddr::V6(v6)) => v6
            .to_ipv4_mapped()
            .map_or_else(|| Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(), IpAddr::V4),
        Some(v4) => v4,
        None => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}

impl Strangers {
    /// Whether a refusal of an action is to be written down, and then how many from the
    /// same address were not since the last that was.
    fn admit(&self, address: Option<&str>, action: &'static str, now: Instant) -> Option<u64> {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let source = (source(address), action);
        if let Some(last) = seen.get_mut(&source) {
            if now.duration_since(last.written) < QUIET {
                last.unwritten += 1;
                return None;
            }
            last.written = now;
            return Some(std::mem::take(&mut last.unwritten));
        }
        if seen.len() >= SOURCES_MAX {
            seen.retain(|_, last| now.duration_since(last.written) < QUIET);
        }
        if seen.len() >= SOURCES_MAX {
            return None;
        }
        seen.insert(source, Seen { written: now, unwritten: 0 });
        Some(0)
    }
}

impl Services {
    /// Writes down that somebody was refused whose token or certificate is not good: one
    /// line a minute of each address and action. That it cannot be written changes no answer.
    pub async fn stranger_refused(&self, actor: &Actor, action: &'static str, subject: &str) {
        let Some(unwritten) = self.strangers.admit(actor.address.as_deref(), action, Instant::now()) else {
            return;
        };
        let subject: String = subject.chars().filter(|c| !c.is_control()).take(SUBJECT_MAX).collect();
        let after = (unwritten > 0).then(|| json!({ "more_since_the_last_line": unwritten }));
        let audit = AuditNew::refused(action, &subject).change(None, after);
        if let Err(e) = self.store.audit_insert(actor, &audit).await {
            tracing::warn!(error = Error::from(e).chain(), action, "a refusal could not be written down");
        }
    }

    /// Lines of the audit log in batches, the oldest first, up to the newest. Between two
    /// batches nothing is held: neither a connection nor a transaction. Dropping it ends it.
    pub fn audit_export(
        self: Arc<Self>,
        filter: AuditFilter,
    ) -> impl Stream<Item = Result<Vec<AuditRow>, Error>> {
        struct Rest(Arc<Services>, AuditFilter, Option<Cursor>);
        try_unfold(Some(Rest(self, filter, None)), |rest| async {
            let Some(Rest(services, filter, after)) = rest else { return Ok(None) };
            let page = services.store.audit_list_page(&filter, AuditOrder::Oldest, after, BATCH).await?;
            let rest = page.next.map(|next| Rest(services, filter, Some(next)));
            Ok(Some((page.items, rest)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_written_down_once_a_minute_and_the_next_line_counts_the_rest() {
        let (strangers, start) = (Strangers::default(), Instant::now());
        assert_eq!(strangers.admit(Some("10.0.0.1"), "authenticate", start), Some(0));
        assert_eq!(strangers.admit(Some("10.0.0.1"), "authenticate", start + QUIET / 2), None);
        assert_eq!(strangers.admit(Some("10.0.0.2"), "authenticate", start + QUIET / 2), Some(0));
        assert_eq!(strangers.admit(Some("10.0.0.2"), "other", start + QUIET / 2), Some(0));
        assert_eq!(strangers.admit(Some("::ffff:10.0.0.1"), "authenticate", start + QUIET / 2), None);
        assert_eq!(strangers.admit(Some("10.0.0.1"), "authenticate", start + QUIET), Some(2));
        assert_eq!(strangers.admit(Some("10.0.0.1"), "authenticate", start + 2 * QUIET), Some(0));
    }

    #[test]
    fn the_addresses_of_one_ipv6_network_count_as_one() {
        let (strangers, start) = (Strangers::default(), Instant::now());
        assert_eq!(strangers.admit(Some("2001:db8::1"), "authenticate", start), Some(0));
        assert_eq!(strangers.admit(Some("2001:db8::ffff:2"), "authenticate", start), None);
        assert_eq!(strangers.admit(Some("2001:db8:0:1::1"), "authenticate", start), Some(0));
    }

    #[test]
    fn more_addresses_than_are_remembered_are_not_written_down_until_others_are_forgotten() {
        let (strangers, start) = (Strangers::default(), Instant::now());
        let address = |n: usize| format!("10.{}.{}.{}", n >> 16, n >> 8 & 255, n & 255);
        for n in 0..SOURCES_MAX {
            assert_eq!(strangers.admit(Some(&address(n)), "authenticate", start), Some(0));
        }
        assert_eq!(strangers.admit(Some("192.0.2.1"), "authenticate", start), None);
        assert_eq!(strangers.admit(Some("192.0.2.1"), "authenticate", start + QUIET), Some(0));
    }
}
