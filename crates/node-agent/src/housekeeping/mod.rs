//! Keeps the engine's disk from filling up with what nobody needs any more.
//!
//! Now and then it looks at everything in the engine, remembers since when what is
//! ours lies about unused, and lets [`domain::housekeeping`] decide what goes. It
//! removes one thing after the other, never by force. Off in the configuration, it
//! still remembers, so that it knows what is ours when it is turned on.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc, time::Duration};

use daemon::Supervisor;
use domain::{
    Timestamp,
    housekeeping::{Disk, Needs, Policy, Removal, tidy},
    node::{EngineState, NodeFacts},
    spec::Volume,
};
use tokio::{
    sync::watch,
    task::spawn_blocking,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use self::memory::Memory;
use crate::{
    ledger::Ledger,
    runtime::{
        Runtime,
        upkeep::{Discarded, Upkeep},
    },
};

mod memory;
#[cfg(test)]
mod tests;

/// Most things that are removed in one round; the next one goes on.
const ROUND_MAX: usize = 100;

/// What housekeeping is set to.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Whether anything is removed.
    pub on: bool,
    /// What goes when.
    pub policy: Policy,
    /// From one round to the next.
    pub period: Duration,
    /// For each call of the engine.
    pub deadline: Duration,
    /// Tells the time.
    pub clock: fn() -> Timestamp,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            on: true,
            policy: Policy {
                keep_unused: Duration::from_secs(7 * 86_400),
                watermark_percent: 85,
                volumes: false,
            },
            period: Duration::from_secs(600),
            deadline: Duration::from_secs(120),
            clock: chrono::Utc::now,
        }
    }
}

/// What this room works with.
pub struct Parts {
    /// The engine, as a place where things lie about.
    pub upkeep: Arc<dyn Upkeep>,
    /// The engine, to ask which image a name means.
    pub runtime: Arc<dyn Runtime>,
    /// Says what is wanted.
    pub ledger: Ledger,
    /// Whether the engine answers.
    pub engine: watch::Receiver<EngineState>,
    /// Says how full the engine's disk is.
    pub facts: watch::Receiver<NodeFacts>,
    /// Where what is remembered lies.
    pub data_dir: PathBuf,
    /// See there.
    pub settings: Settings,
}

/// Starts housekeeping.
pub fn start(supervisor: &Supervisor, parts: Parts) {
    drop(supervisor.spawn("housekeeping", keep(parts, supervisor.stop_token())));
}

async fn keep(parts: Parts, stop: CancellationToken) {
    let dir = parts.data_dir.clone();
    let Ok(mut memory) = spawn_blocking(move || Memory::load(&dir)).await else { return };
    let mut fetched = parts.upkeep.fetched();
    loop {
        // What was fetched is written down at once: else an agent that ends would not
        // know later that it was ours. Cancel-safe: what is fetched is read anew.
        let round = tokio::select! {
            () = stop.cancelled() => return,
            changed = fetched.changed() => if changed.is_ok() { false } else { return },
            () = sleep(parts.settings.period) => true,
        };
        memory.fetched(&fetched.borrow_and_update());
        if round && *parts.engine.borrow() == EngineState::Reachable {
            // Broken off between two removals, it goes on with the next agent.
            tokio::select! {
                () = stop.cancelled() => return,
                () = self::round(&parts, &mut memory) => {}
            }
        }
        let saved = spawn_blocking(move || {
            let saved = memory.save();
            (memory, saved)
        });
        let Ok((back, saved)) = saved.await else { return };
        memory = back;
        if let Err(error) = saved {
            tracing::warn!(%error, "what housekeeping remembers could not be written down");
        }
    }
}

/// Looks at everything, and removes what has to go.
async fn round(parts: &Parts, memory: &mut Memory) {
    let Some(needs) = needs(parts, memory).await else { return };
    let Settings { deadline, policy, on, clock, .. } = parts.settings;
    let held = match timeout(deadline, parts.upkeep.belongings(policy.volumes)).await {
        Ok(Ok(held)) => held,
        Ok(Err(error)) => return tracing::debug!(%error, "the engine did not say what lies about"),
        Err(_) => return tracing::debug!("the engine did not say in time what lies about"),
    };
    let now = clock();
    memory.look(&held, &needs, now);
    if !on {
        return;
    }
    let removals = tidy(&held, &needs, memory, disk(&parts.facts.borrow()), &policy, now);
    for removal in removals.iter().take(ROUND_MAX) {
        remove(parts, removal).await;
    }
}

async fn remove(parts: &Parts, removal: &Removal) {
    let (kind, id) = match removal {
        Removal::Container(id) => ("container", id),
        Removal::Image(id) => ("image", id),
        Removal::Network(id) => ("network", id),
        Removal::Volume(id) => ("volume", id),
    };
    match timeout(parts.settings.deadline, parts.upkeep.discard(removal)).await {
        Ok(Ok(Discarded::Yes)) => tracing::info!(kind, id, "cleared away what nobody needs"),
        Ok(Ok(Discarded::InUse)) => tracing::debug!(kind, id, "is in use after all, and stays"),
        Ok(Err(error)) => tracing::warn!(kind, id, %error, "could not be cleared away"),
        Err(_) => tracing::warn!(kind, id, "was not cleared away in time"),
    }
}

/// What is needed here. `None` where the engine did not say what an image's name
/// means: then nothing is to be concluded.
async fn needs(parts: &Parts, memory: &mut Memory) -> Option<Needs> {
    let complete = parts.ledger.complete_received();
    let wanted = parts.ledger.assignments();
    let mut needs = Needs { complete, ..Needs::default() };
    let mut names = BTreeSet::new();
    let mut present = BTreeSet::new();
    for (id, assignment) in &wanted.assignments {
        needs.instances.insert(*id);
        present.insert(assignment.deployment_id);
        needs.networks.extend(assignment.spec.network.named().iter().map(|network| network.name.clone()));
        needs.volumes.extend(assignment.spec.volumes.iter().filter_map(|volume| match volume {
            Volume::Named { name, .. } => Some(name.clone()),
            Volume::Bind { .. } | Volume::Tmpfs { .. } => None,
        }));
        names.insert((assignment.deployment_id, assignment.revision, assignment.spec.image.clone()));
    }
    for (deployment, revision, name) in names {
        let image = timeout(parts.settings.deadline, parts.runtime.image(&name)).await.ok()?.ok()?;
        memory.revision(deployment, revision, &name, image.map(|image| image.id));
    }
    for (id, record) in parts.ledger.records() {
        needs.instances.insert(id);
        needs.images.extend(record.status.image_digest);
    }
    needs.images.extend(memory.needed(&present));
    Some(needs)
}

/// The disk that the engine's data is on, where that is known.
fn disk(facts: &NodeFacts) -> Option<Disk> {
    let disk = Disk { bytes: facts.disk_bytes, free_bytes: facts.disk_free_bytes };
    (disk.bytes > 0).then_some(disk)
}
