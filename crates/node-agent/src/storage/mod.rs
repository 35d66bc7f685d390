//! What containers write beside their volumes, and who keeps it within limits.
//!
//! At the start, and each time the engine comes back, it is found out by trying
//! whether the engine keeps a container's storage limit. Where it does there is
//! nothing to do but say so. Elsewhere the writable layers of containers that have
//! a limit are measured: one at a time, because the engine walks through all files
//! of each, and never more than a small part of the time.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use daemon::{Backoff, Supervisor};
use domain::{
    id::InstanceId,
    node::{EngineState, StorageLimit},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    ledger::Ledger,
    runtime::{RunningContainer, RuntimeErrorKind, upkeep::Upkeep},
};

#[cfg(test)]
mod tests;

/// Bytes of the writable layers of instances, as last measured. Only of those that
/// the engine does not keep within a limit.
pub type Sizes = Arc<BTreeMap<InstanceId, u64>>;

/// The containers that run, as the reconciler publishes them.
type Running = Arc<BTreeMap<InstanceId, RunningContainer>>;

/// The limits that measuring keeps.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// From one round of measuring to the next.
    pub period: Duration,
    /// For one measurement. One that takes longer is left out of the round.
    pub deadline: Duration,
    /// For finding out what the engine does.
    pub trial_deadline: Duration,
    /// First and longest wait before that is tried again where it failed.
    pub retry: (Duration, Duration),
    /// How many times as long as a measurement took is waited before the next, so
    /// that measuring takes a twentieth of the time at most.
    pub rest: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            period: Duration::from_secs(60),
            deadline: Duration::from_secs(30),
            trial_deadline: Duration::from_secs(120),
            retry: (Duration::from_secs(10), Duration::from_secs(600)),
            rest: 20,
        }
    }
}

/// What this room works with.
pub struct Parts {
    /// The engine.
    pub upkeep: Arc<dyn Upkeep>,
    /// Says who has a limit.
    pub ledger: Ledger,
    /// What runs.
    pub running: watch::Receiver<Running>,
    /// Whether the engine answers.
    pub engine: watch::Receiver<EngineState>,
    /// Where sizes go.
    pub sizes: watch::Sender<Sizes>,
    /// See there.
    pub settings: Settings,
}

/// Starts finding out and measuring. Tells what becomes of storage limits here;
/// `None` until that is known, and the last answer while the engine is away.
pub fn start(supervisor: &Supervisor, parts: Parts) -> watch::Receiver<Option<StorageLimit>> {
    let (told, limit) = watch::channel(None);
    let (upkeep, engine, settings) = (parts.upkeep.clone(), parts.engine.clone(), parts.settings);
    drop(
        supervisor.spawn("storage-limit", find_out(upkeep, engine, settings, told, supervisor.stop_token())),
    );
    drop(supervisor.spawn("storage-sizes", measure(parts, supervisor.stop_token())));
    limit
}

async fn find_out(
    upkeep: Arc<dyn Upkeep>,
    mut engine: watch::Receiver<EngineState>,
    settings: Settings,
    told: watch::Sender<Option<StorageLimit>>,
    stop: CancellationToken,
) {
    let mut backoff = Backoff::new(settings.retry.0, settings.retry.1);
    loop {
        // Cancel-safe: the state is read anew each time.
        let answers = tokio::select! {
            () = stop.cancelled() => return,
            answers = engine.wait_for(|state| *state == EngineState::Reachable) => answers.is_ok(),
        };
        if !answers {
            return;
        }
        let trial = timeout(settings.trial_deadline, upkeep.storage_limit());
        // A trial that is broken off leaves what the next one clears away.
        let found = tokio::select! {
            () = stop.cancelled() => return,
            found = trial => found,
        };
        let retry = match found {
            Ok(Ok(limit)) => {
                backoff.reset();
                told.send_if_modified(|old| {
                    let news = *old != Some(limit);
                    if news {
                        tracing::info!(limit = limit.as_str(), "found out what becomes of storage limits");
                        *old = Some(limit);
                    }
                    news
                });
                None
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "could not find out what becomes of storage limits");
                Some(backoff.next_delay())
            }
            Err(_) => Some(backoff.next_delay()),
        };
        // Cancel-safe: what is waited for is seen again when it is asked for anew.
        tokio::select! {
            () = stop.cancelled() => return,
            away = engine.wait_for(|state| *state == EngineState::Unreachable) => if away.is_err() { return },
            () = maybe_sleep(retry) => {}
        }
    }
}

async fn maybe_sleep(wait: Option<Duration>) {
    match wait {
        Some(wait) => sleep(wait).await,
        None => std::future::pending().await,
    }
}

async fn measure(parts: Parts, stop: CancellationToken) {
    // By container: one that the engine keeps in order is not asked about again.
    let mut kept = BTreeSet::new();
    loop {
        let began = Instant::now();
        let rounds = tokio::select! {
            () = stop.cancelled() => return,
            // A round that is broken off has published what it measured.
            () = round(&parts, &mut kept) => began.elapsed(),
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(parts.settings.period.saturating_sub(rounds)) => {}
        }
    }
}

/// Measures all that has to be, one after the other.
async fn round(parts: &Parts, kept: &mut BTreeSet<String>) {
    let running = parts.running.borrow().clone();
    let limited = limited(&parts.ledger, &running);
    kept.retain(|id| running.values().any(|container| container.container_id == *id));
    parts.sizes.send_if_modified(|sizes| {
        let gone = sizes.keys().any(|id| !limited.contains(id));
        if gone {
            Arc::make_mut(sizes).retain(|id, _| limited.contains(id));
        }
        gone
    });
    for (instance, container) in running.iter().filter(|(id, _)| limited.contains(id)) {
        let id = &container.container_id;
        if kept.contains(id) || *parts.engine.borrow() != EngineState::Reachable {
            continue;
        }
        let began = Instant::now();
        match timeout(parts.settings.deadline, parts.upkeep.writable_bytes(id)).await {
            Ok(Ok(Some(bytes))) => publish(parts, *instance, bytes),
            Ok(Ok(None)) => drop(kept.insert(id.clone())),
            Ok(Err(error)) if error.kind == RuntimeErrorKind::NotFound => {}
            Ok(Err(error)) => {
                tracing::debug!(instance.id = %instance, %error, "a writable layer was not measured")
            }
            Err(_) => tracing::warn!(instance.id = %instance, "measuring a writable layer took too long"),
        }
        sleep(began.elapsed() * parts.settings.rest).await;
    }
}

/// Those of `running` that have a storage limit.
fn limited(ledger: &Ledger, running: &BTreeMap<InstanceId, RunningContainer>) -> BTreeSet<InstanceId> {
    let wanted = ledger.assignments();
    let has_limit = |id: &&InstanceId| {
        wanted.assignments.get(*id).is_some_and(|assignment| assignment.spec.limits.storage_bytes.is_some())
    };
    running.keys().filter(has_limit).copied().collect()
}

/// Sent also where it is what it was: whoever decides by it counts measurements.
fn publish(parts: &Parts, instance: InstanceId, bytes: u64) {
    parts.sizes.send_modify(|sizes| {
        Arc::make_mut(sizes).insert(instance, bytes);
    });
}
