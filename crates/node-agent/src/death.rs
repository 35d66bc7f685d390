//! Attempts that ended without having been asked to, on their way to whoever keeps
//! what is known of them.

use domain::{Timestamp, dossier::DossierProbe, id::InstanceId, instance::Outcome};
use tokio::sync::mpsc;

/// Most deaths that wait; of more than that at once the rest is not looked into.
const WAITING_MAX: usize = 256;

/// An attempt that ended, as the reconciler saw it.
#[derive(Clone, Debug)]
pub struct Death {
    /// Whose.
    pub instance_id: InstanceId,
    /// Which attempt.
    pub attempt: u32,
    /// When its process started.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Timestamp,
    /// How.
    pub outcome: Outcome,
    /// Its container; `None` where it is gone.
    pub container_id: Option<String>,
    /// The memory limit in force.
    pub memory_limit_bytes: Option<u64>,
    /// The last results of its probes, the oldest first.
    pub probes: Vec<DossierProbe>,
}

/// Where deaths are told.
#[derive(Clone, Debug)]
pub struct Deaths(mpsc::Sender<Death>);

impl Deaths {
    /// A place to tell of deaths, and where they come out.
    #[must_use]
    pub fn new() -> (Self, mpsc::Receiver<Death>) {
        let (tell, told) = mpsc::channel(WAITING_MAX);
        (Self(tell), told)
    }

    /// Tells of one; never waits. One too many is dropped.
    pub fn tell(&self, death: Death) {
        let instance = death.instance_id;
        if self.0.try_send(death).is_err() {
            tracing::warn!(instance.id = %instance, "too many deaths at once: one is not looked into");
        }
    }
}
