//! What a user declares, and whether it is acceptable.
//!
//! A deployment's spec is immutable: a change makes a new revision. It has two
//! halves. [`InstanceSpec`], in the room [`crate::spec`], is what a node needs in
//! order to run one copy; the rest of [`DeploymentSpec`] says how many copies there
//! are and where they may go, which no agent ever needs to know.

use serde::{Deserialize, Serialize};

pub use crate::spec::{
    Env, FieldFault, InstanceSpec, LIST_MAX, Limits, MEMORY_MIN_BYTES, PortSpec, PullPolicy, RestartPolicy,
    TEXT_MAX_BYTES, Transport,
};
use crate::{
    disconnect::Disconnect,
    name::{Labels, labels_fault},
    spec::Faults,
    update::UpdatePolicy,
};

/// Most replicas of one deployment.
pub const REPLICAS_MAX: u32 = 1000;

/// What placement sets aside for one instance; not enforced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reservation {
    /// Thousandths of a core.
    pub cpu_millis: u32,
    /// Memory.
    pub memory_bytes: u64,
}

impl Reservation {
    /// What is set aside when the user does not say: a twentieth of a core and
    /// 16 MiB, or the limit where that is less. Small on purpose. Most services
    /// idle, and a default that refused the third replica on a small host would
    /// be the first thing a newcomer sees.
    #[must_use]
    pub fn default_for(limits: &Limits) -> Self {
        Self {
            cpu_millis: limits.cpu_millis.min(50),
            memory_bytes: limits.memory_bytes.min(16 * 1024 * 1024),
        }
    }
}

/// The whole of one revision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentSpec {
    /// What each copy is.
    pub instance: InstanceSpec,
    /// How many copies there shall be.
    pub replicas: u32,
    /// What placement sets aside for each.
    pub reservation: Reservation,
    /// Labels that a node must carry, all of them.
    pub constraints: Labels,
    /// Whether only nodes qualify whose engine enforces `limits.storage_bytes`.
    #[serde(default)]
    pub storage_enforced: bool,
    /// Seconds without progress after which an operation on it fails.
    pub progress_deadline_seconds: u32,
    /// How copies give way to those of a new revision.
    #[serde(default)]
    pub update: UpdatePolicy,
    /// What becomes of copies on a node that is not heard of.
    #[serde(default)]
    pub disconnect: Disconnect,
}

impl DeploymentSpec {
    /// A spec with defaults for everything but the container.
    #[must_use]
    pub fn of_instance(instance: InstanceSpec) -> Self {
        Self {
            reservation: Reservation::default_for(&instance.limits),
            disconnect: Disconnect::default_for(&instance),
            update: UpdatePolicy::default(),
            instance,
            replicas: 1,
            constraints: Labels::new(),
            storage_enforced: false,
            progress_deadline_seconds: 300,
        }
    }

    /// Whether copies of this spec are the same as those of another, so that none need
    /// be replaced: all that says what a copy is and where it may be, and nothing of
    /// how many there are and what happens when.
    #[must_use]
    pub fn has_same_copies(&self, other: &Self) -> bool {
        let of = |spec: &Self| Self {
            replicas: 0,
            progress_deadline_seconds: 0,
            update: UpdatePolicy::default(),
            disconnect: Disconnect::default(),
            ..spec.clone()
        };
        of(self) == of(other)
    }

    /// Lists everything that is wrong, so that a user mends it in one round.
    ///
    /// # Errors
    /// With at least one fault; in the order of the fields.
    pub fn validate(&self) -> Result<(), Vec<FieldFault>> {
        let mut faults = Faults::default();
        self.instance.program_faults(&mut faults);
        faults.range("replicas", &self.replicas, 0, REPLICAS_MAX);
        self.instance.container_faults(&mut faults);
        self.number_faults(&mut faults);
        if let Some(message) = labels_fault(&self.constraints) {
            faults.unless(false, "constraints", message);
        }
        self.update.faults(&mut faults);
        self.disconnect.faults(&self.instance, &mut faults);
        if faults.0.is_empty() { Ok(()) } else { Err(faults.0) }
    }

    fn number_faults(&self, faults: &mut Faults) {
        let InstanceSpec { limits, min_healthy_seconds, .. } = &self.instance;
        faults.unless(
            self.reservation.cpu_millis <= limits.cpu_millis,
            "reservation.cpu_millis",
            "must not be more than limits.cpu_millis",
        );
        faults.unless(
            self.reservation.memory_bytes <= limits.memory_bytes,
            "reservation.memory_bytes",
            "must not be more than limits.memory_bytes",
        );
        faults.range("progress_deadline_seconds", &self.progress_deadline_seconds, 5, 86_400);
        faults.unless(
            *min_healthy_seconds < self.progress_deadline_seconds,
            "min_healthy_seconds",
            "must be less than progress_deadline_seconds",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> DeploymentSpec {
        DeploymentSpec::of_instance(InstanceSpec::of_image("app:1"))
    }

    fn fields(spec: &DeploymentSpec) -> Vec<String> {
        spec.validate().err().unwrap_or_default().into_iter().map(|f| f.field).collect()
    }

    #[test]
    fn a_spec_of_defaults_is_fine() {
        assert_eq!(spec().validate(), Ok(()));
    }

    #[test]
    fn every_fault_is_named_at_once() {
        let mut bad = spec();
        bad.instance.image = "two words".into();
        bad.instance.limits.memory_bytes = 1;
        bad.instance.ports =
            vec![PortSpec { container_port: 0, host_port: Some(0), transport: Transport::Tcp }];
        bad.replicas = REPLICAS_MAX + 1;
        let fields = fields(&bad);
        for field in
            ["image", "limits.memory_bytes", "ports[0].container_port", "ports[0].host_port", "replicas"]
        {
            assert!(fields.iter().any(|f| f == field), "{field} missing in {fields:?}");
        }
    }

    #[test]
    fn a_host_port_published_twice_is_refused_unless_the_transport_differs() {
        let port = |transport| PortSpec { container_port: 53, host_port: Some(53), transport };
        let mut twice = spec();
        twice.instance.ports =
            vec![port(Transport::Tcp), PortSpec { container_port: 54, ..port(Transport::Tcp) }];
        assert_eq!(fields(&twice), ["ports[1].host_port"]);
        twice.instance.ports = vec![port(Transport::Tcp), port(Transport::Udp)];
        assert_eq!(fields(&twice), [""; 0]);
    }

    #[test]
    fn debug_output_never_shows_the_value_of_a_variable() {
        let mut secret = spec();
        secret.instance.env.0.insert("PASSWORD".into(), "hunter2".into());
        let shown = format!("{secret:?}");
        assert!(shown.contains("PASSWORD") && !shown.contains("hunter2"));
    }
}
