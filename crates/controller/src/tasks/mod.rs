//! What the controller does by itself. Each task takes no input, is safe to run
//! twice and in two controllers at once, and reads what to do from the store:
//! wake-ups only shorten its wait.

mod keys;
mod limits;
mod listener;
mod orchestrator;
mod presence;
mod upkeep;

use std::{sync::Arc, time::Duration};

use crate::service::Services;

/// Starts them all.
pub fn start(services: &Arc<Services>) {
    let supervisor = &services.supervisor;
    let (orchestrate, _) =
        supervisor.start(orchestrator::Orchestrator::new(services.clone()), Duration::from_secs(1));
    let (judge, _) = supervisor.start(presence::Presence::new(services.clone()), Duration::from_millis(250));
    supervisor.start(upkeep::LastSeen::new(services.clone()), Duration::from_secs(5));
    supervisor.start(upkeep::Retention::new(services.clone()), Duration::from_secs(600));
    supervisor.start(upkeep::Partitions::new(services.clone()), Duration::from_secs(3600));
    let (keys, _) = supervisor.start(keys::Keys::new(services.clone()), Duration::from_secs(60));
    supervisor.start(limits::Limits::new(services.clone()), Duration::from_secs(60));
    supervisor.spawn("listener", listener::listen(services.clone(), orchestrate, keys));
    let (services, stop) = (services.clone(), supervisor.stop_token());
    supervisor.clone().spawn("presence wake-up", async move {
        loop {
            // Cancel-safe: a permit that loses against the stop is no longer wanted.
            tokio::select! {
                () = services.heartbeats.news() => judge.notify_one(),
                () = stop.cancelled() => return,
            }
        }
    });
}
