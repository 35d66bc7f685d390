//! What is found out about a run beside what the engine says of its container: by
//! probes, by measuring what it writes, and from its image.
//!
//! Only changes are reported. All of it is about a process that runs: on any other
//! record these functions change nothing.

use chrono::TimeDelta;

use super::{Doom, Record, Transition, Wish, delta};
use crate::{
    Timestamp, backoff,
    instance::{Cause, Health, Phase},
    probe::Probes,
    spec::StorageExceeded,
};

/// Takes note of what the probes of the present run have found so far.
///
/// Within a run health goes from starting to healthy or unhealthy, and between these
/// two from then on: one that was unhealthy is healthy when all its probes say so,
/// and one whose probes have yet to say anything, because its agent was restarted,
/// is what it was.
#[must_use]
pub fn probed(
    wish: &Wish<'_>,
    record: &Record,
    probes: &Probes,
    now: Timestamp,
) -> (Record, Option<Transition>) {
    let mut record = record.clone();
    let wanted = matches!(wish, Wish::Run(_));
    if record.phase() != Phase::Running || !wanted || probes.is_empty() {
        return (record, None);
    }
    let blame = probes.blame();
    let doomed = probes.must_restart().is_some();
    record.doom = match (record.doom.take(), &blame) {
        (Some(storage @ Doom::Storage { .. }), _) => Some(storage),
        (_, Some(blame)) if doomed => Some(Doom::Unhealthy { message: blame.clone() }),
        _ => None,
    };
    let before = record.status.health;
    let message = match (before, probes.health()) {
        (Health::Unhealthy, Health::Unhealthy) | (Health::Healthy, Health::Healthy) => return (record, None),
        (_, Health::Unhealthy) => {
            record.status.health = Health::Unhealthy;
            let worked =
                record.healthy_since.take().is_some_and(|since| now - since >= delta(backoff::RESET_AFTER));
            if worked {
                record.status.failures = 0;
            }
            format!("unhealthy: {}", blame.unwrap_or_default())
        }
        (_, Health::Healthy) => {
            record.status.health = Health::Healthy;
            record.healthy_since = Some(now);
            format!("healthy: {}", probes.praise())
        }
        (_, Health::Starting | Health::Unknown) => return (record, None),
    };
    let transition = record.transition(Cause::Probe, message, now);
    (record, Some(transition))
}

/// Takes note that none of the declared probes can be carried out: the image has no
/// check of its own. From then on time says what is healthy.
#[must_use]
pub fn unprobed(record: &Record) -> Record {
    Record { unprobed: true, ..record.clone() }
}

/// Takes note that the calendar was set: it went so much further, or less far, than
/// time did. How long a run has lasted is not to be told by it.
#[must_use]
pub fn jumped(record: &Record, by: TimeDelta) -> Record {
    Record { jumped: record.jumped.checked_add(&by).unwrap_or_default(), ..record.clone() }
}

/// Takes note of how much the present container has written beside its volumes.
///
/// It is over its limit from the first byte beyond it, and until it has shrunk to
/// nine tenths of it, so that one at the edge is not reported again and again.
#[must_use]
pub fn measured(
    wish: &Wish<'_>,
    record: &Record,
    bytes: u64,
    now: Timestamp,
) -> (Record, Option<Transition>) {
    let mut record = record.clone();
    let limits = wish.assignment().map(|assignment| assignment.spec.limits);
    let Some((limits, most)) = limits.and_then(|limits| Some((limits, limits.storage_bytes?))) else {
        return (record, None);
    };
    if record.phase() != Phase::Running {
        return (record, None);
    }
    let before = record.status.storage_exceeded;
    let exceeded = if before { bytes > most - most / 10 } else { bytes > most };
    let sizes = format!("{} of {}", mebibytes(bytes), mebibytes(most));
    let stops = exceeded && limits.storage_exceeded == StorageExceeded::Stop && matches!(wish, Wish::Run(_));
    record.doom = match record.doom.take() {
        Some(doom @ Doom::Storage { .. }) if stops => Some(doom),
        _ if stops => {
            Some(Doom::Storage { message: format!("its writable layer is over its limit: {sizes}") })
        }
        Some(Doom::Storage { .. }) => None,
        other => other,
    };
    record.status.storage_exceeded = exceeded;
    let message = match (before, exceeded) {
        (false, true) => format!("its writable layer is over its limit: {sizes}"),
        (true, false) => format!("its writable layer is within its limit again: {sizes}"),
        (true, true) | (false, false) => return (record, None),
    };
    let transition = record.transition(Cause::Storage, message, now);
    (record, Some(transition))
}

/// Takes note of how a registry names the image with this engine's id. Reported by
/// itself only where the run was reported without it.
#[must_use]
pub fn identified(
    record: &Record,
    image_id: &str,
    digest: Option<&str>,
    now: Timestamp,
) -> (Record, Option<Transition>) {
    let mut record = record.clone();
    let Some(digest) = digest.filter(|_| record.status.image_id.as_deref() == Some(image_id)) else {
        return (record, None);
    };
    if record.status.image_digest.as_deref() == Some(digest) {
        return (record, None);
    }
    record.status.image_digest = Some(digest.to_owned());
    let told = matches!(record.phase(), Phase::Running | Phase::Stopping);
    let transition =
        told.then(|| record.transition(record.because.clone(), format!("its image is {digest}"), now));
    (record, transition)
}

/// In MiB, rounded up, so that nothing that is over its limit reads as if it were not.
fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1024 * 1024))
}
