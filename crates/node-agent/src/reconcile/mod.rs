//! Makes what runs here what is wanted here.
//!
//! One task owns all that is known: what is wanted (from the ledger), what is
//! remembered (records), what was last seen of each container, and what is under
//! way. [`domain::plan`] decides; this room looks, acts and writes down. It is
//! woken by a change of the assignments, by the engine's events, by an action or a
//! probe that ended, by sizes that were measured, and by a timer; and it looks at everything anew now and then, so that a
//! lost event costs time and nothing else.
//!
//! At most one action is under way for an instance, so an action's result is
//! always newer than what was known before. Every action has a deadline. Writing
//! to disk goes on beside acting: an agent that dies between the two finds out
//! again what it had not written, except where the plan says `durable_first`.
//!
//! When the engine does not answer, everything stays as it was (I5): nothing is
//! begun, nothing is concluded, until it answers again and all was looked at.

mod action;
mod engine;
mod entry;
mod events;
mod images;
mod news;
mod outbox;
mod probing;
mod slots;
mod step;
mod task;
#[cfg(test)]
mod tests;
mod vital;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use daemon::Supervisor;
use domain::{Timestamp, id::InstanceId, node::EngineState};
use tokio::sync::watch;

use crate::{
    death::Deaths,
    lease::Lease,
    ledger::Ledger,
    pull::{self, Pulls},
    runtime::{RunningContainer, Runtime},
    secrets::Secrets,
    storage::Sizes,
};

/// The limits that the reconciler keeps.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Most actions at once: of each of looking and working, half as many pulls,
    /// and four times as many each of stops and probes. Pulls, stops and probes mostly
    /// wait for others, for as long as a registry or a program likes; they must not
    /// keep a container that was killed from being started.
    pub max_parallel_actions: usize,
    /// For an answer of the engine to anything that it does by itself.
    pub call_deadline: Duration,
    /// What pulls keep.
    pub pull: pull::Settings,
    /// For a stop, beyond its grace.
    pub stop_slack: Duration,
    /// For an answer to a ping.
    pub ping_deadline: Duration,
    /// Between pings while the engine answers.
    pub ping_period: Duration,
    /// Between full looks.
    pub list_period: Duration,
    /// First and longest wait between tries to reach an engine that does not
    /// answer, and between tries to write to a ledger that fails. Trying costs next
    /// to nothing, and all containers that died with an engine wait for it.
    pub retry: (Duration, Duration),
    /// Tells the time.
    pub clock: fn() -> Timestamp,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_parallel_actions: 8,
            call_deadline: Duration::from_secs(60),
            pull: pull::Settings::default(),
            stop_slack: Duration::from_secs(30),
            ping_deadline: Duration::from_secs(5),
            ping_period: Duration::from_secs(5),
            list_period: Duration::from_secs(30),
            retry: (Duration::from_millis(200), Duration::from_secs(2)),
            clock: chrono::Utc::now,
        }
    }
}

/// What the reconciler lets others know.
#[derive(Clone, Debug)]
pub struct Published {
    /// Whether the engine answers.
    pub engine: watch::Receiver<EngineState>,
    /// The containers that run, as last seen.
    pub running: watch::Receiver<Arc<BTreeMap<InstanceId, RunningContainer>>>,
    /// How far the pulls under way have come.
    pub pulls: watch::Receiver<pull::Board>,
}

/// What the reconciler works with.
pub struct Parts {
    /// What is wanted, and what is remembered.
    pub ledger: Ledger,
    /// The engine.
    pub runtime: Arc<dyn Runtime>,
    /// The limits that it keeps.
    pub settings: Settings,
    /// Where it tells of attempts that ended without having been asked to.
    pub deaths: Deaths,
    /// How long ago the controller gave a word.
    pub lease: Lease,
    /// What containers have written. Each measurement is to be sent, also one that
    /// finds the same as the one before.
    pub storage: watch::Receiver<Sizes>,
    /// What containers are given.
    pub secrets: Secrets,
}

/// Starts reconciling. It ends when `supervisor` shuts down: what is under way at
/// the engine is left to it, and what was learnt is written to the ledger.
pub fn start(supervisor: &Supervisor, parts: Parts) -> Published {
    let Parts { ledger, runtime, settings, deaths, lease, storage, secrets } = parts;
    let (engine_tx, engine) = watch::channel(EngineState::Unreachable);
    let (running_tx, running) = watch::channel(Arc::default());
    let pulls = Pulls::new(runtime.clone(), settings.pull.clone(), Some(secrets.clone()));
    let (board, stop) = (pulls.board(), supervisor.stop_token());
    let task = task::forever(task::Parts {
        ledger,
        runtime,
        settings,
        deaths,
        lease,
        storage,
        engine_tx,
        running_tx,
        pulls,
        secrets,
        stop,
    });
    drop(supervisor.spawn("reconcile", task));
    Published { engine, running, pulls: board }
}
