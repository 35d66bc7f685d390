//! What a user declares, and whether it is acceptable.
//!
//! A deployment's spec is immutable: a change makes a new revision. It has two
//! halves. [`InstanceSpec`] is what a node needs in order to run one copy; the
//! rest of [`DeploymentSpec`] says how many copies there are and where they may
//! go, which no agent ever needs to know.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::name::{Labels, labels_fault};

/// Most replicas of one deployment.
pub const REPLICAS_MAX: u32 = 1000;
/// Least memory limit: the Docker Engine refuses less than 6 MiB.
pub const MEMORY_MIN_BYTES: u64 = 6 * 1024 * 1024;
/// Most of env, command and entrypoint of one spec together.
pub const TEXT_MAX_BYTES: usize = 256 * 1024;
/// Most environment variables, ports, or arguments.
pub const LIST_MAX: usize = 256;

/// Environment variables of a container. `Debug` shows names only, because
/// people do put passwords here.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Env(pub BTreeMap<String, String>);

impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Transport of a published port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

impl Transport {
    /// As Docker writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// A port to publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PortSpec {
    /// Where the program listens.
    pub container_port: u16,
    /// Where the host listens; `None` lets the engine choose, and the choice is reported.
    pub host_port: Option<u16>,
    /// TCP or UDP.
    pub transport: Transport,
}

/// What one instance may use at most; enforced by the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Thousandths of a core.
    pub cpu_millis: u32,
    /// Hard limit; swap is not added to it.
    pub memory_bytes: u64,
    /// Most processes and threads.
    pub pids: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { cpu_millis: 1000, memory_bytes: 512 * 1024 * 1024, pids: 1024 }
    }
}

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

/// When a container that ended is started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "when")]
pub enum RestartPolicy {
    /// Whatever its exit code.
    #[default]
    Always,
    /// When it failed, at most `max_retries` times in a row (`None`: without end).
    OnFailure {
        /// Failures in a row after which it stays down.
        max_retries: Option<u32>,
    },
    /// Never.
    Never,
}

/// When an image is fetched from its registry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PullPolicy {
    /// Before each attempt that makes a container.
    Always,
    /// When the engine does not have it.
    #[default]
    Missing,
    /// Never: it must be there.
    Never,
}

/// What a node needs to know in order to run one copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceSpec {
    /// Image reference, as `docker pull` takes it.
    pub image: String,
    /// Replaces the image's entrypoint; empty keeps it.
    pub entrypoint: Vec<String>,
    /// Replaces the image's command; empty keeps it.
    pub command: Vec<String>,
    /// Added to the image's environment.
    pub env: Env,
    /// Ports to publish on the host.
    pub ports: Vec<PortSpec>,
    /// Enforced limits.
    pub limits: Limits,
    /// What happens when it ends by itself.
    pub restart: RestartPolicy,
    /// When to fetch the image.
    pub pull: PullPolicy,
    /// Seconds between the stop signal and the kill.
    pub stop_grace_seconds: u32,
    /// Seconds of running after which it counts as healthy, there being no probe.
    pub min_healthy_seconds: u32,
}

impl InstanceSpec {
    /// A spec with defaults for all but the image.
    #[must_use]
    pub fn of_image(image: impl Into<String>) -> Self {
        Self {
            image: image.into(),
            entrypoint: Vec::new(),
            command: Vec::new(),
            env: Env::default(),
            ports: Vec::new(),
            limits: Limits::default(),
            restart: RestartPolicy::default(),
            pull: PullPolicy::default(),
            stop_grace_seconds: 10,
            min_healthy_seconds: 1,
        }
    }

    /// See [`InstanceSpec::min_healthy_seconds`].
    #[must_use]
    pub fn min_healthy(&self) -> Duration {
        Duration::from_secs(u64::from(self.min_healthy_seconds))
    }

    /// See [`InstanceSpec::stop_grace_seconds`].
    #[must_use]
    pub fn stop_grace(&self) -> Duration {
        Duration::from_secs(u64::from(self.stop_grace_seconds))
    }

    /// Host ports that the user fixed, which no two instances of a node can share.
    pub fn fixed_host_ports(&self) -> impl Iterator<Item = (Transport, u16)> + '_ {
        self.ports.iter().filter_map(|port| port.host_port.map(|host| (port.transport, host)))
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
    /// Seconds without progress after which an operation on it fails.
    pub progress_deadline_seconds: u32,
}

/// One thing that is wrong with a declaration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldFault {
    /// Path of the field, such as `ports[0].host_port`.
    pub field: String,
    /// What is allowed.
    pub message: String,
}

struct Faults(Vec<FieldFault>);

impl Faults {
    fn unless(&mut self, fine: bool, field: impl Into<String>, message: impl Into<String>) {
        if !fine {
            self.0.push(FieldFault { field: field.into(), message: message.into() });
        }
    }
}

impl DeploymentSpec {
    /// Lists everything that is wrong, so that a user mends it in one round.
    ///
    /// # Errors
    /// With at least one fault; in the order of the fields.
    pub fn validate(&self) -> Result<(), Vec<FieldFault>> {
        let mut faults = Faults(Vec::new());
        image_faults(&self.instance.image, &mut faults);
        text_faults(&self.instance, &mut faults);
        port_faults(&self.instance.ports, &mut faults);
        self.number_faults(&mut faults);
        if let Some(message) = labels_fault(&self.constraints) {
            faults.unless(false, "constraints", message);
        }
        if faults.0.is_empty() { Ok(()) } else { Err(faults.0) }
    }

    fn number_faults(&self, faults: &mut Faults) {
        let InstanceSpec { limits, stop_grace_seconds, min_healthy_seconds, .. } = &self.instance;
        faults.unless(self.replicas <= REPLICAS_MAX, "replicas", format!("must be 0 to {REPLICAS_MAX}"));
        faults.unless(
            (10..=1_024_000).contains(&limits.cpu_millis),
            "limits.cpu_millis",
            "must be 10 to 1024000",
        );
        faults.unless(
            (MEMORY_MIN_BYTES..=1 << 46).contains(&limits.memory_bytes),
            "limits.memory_bytes",
            format!("must be {MEMORY_MIN_BYTES} (6 MiB) to {} (64 TiB)", 1u64 << 46),
        );
        faults.unless((1..=4_194_304).contains(&limits.pids), "limits.pids", "must be 1 to 4194304");
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
        faults.unless(*stop_grace_seconds <= 3600, "stop_grace_seconds", "must be 0 to 3600");
        faults.unless(*min_healthy_seconds <= 3600, "min_healthy_seconds", "must be 0 to 3600");
        faults.unless(
            (5..=86_400).contains(&self.progress_deadline_seconds),
            "progress_deadline_seconds",
            "must be 5 to 86400",
        );
        faults.unless(
            *min_healthy_seconds < self.progress_deadline_seconds,
            "min_healthy_seconds",
            "must be less than progress_deadline_seconds",
        );
    }
}

fn image_faults(image: &str, faults: &mut Faults) {
    let shape = (1..=512).contains(&image.len()) && image.bytes().all(|b| b.is_ascii_graphic());
    faults.unless(
        shape && !image.starts_with('-') && !image.contains("://"),
        "image",
        "must be an image reference such as registry.example.org/team/app:1.2, of 1 to 512 characters, without spaces and without a scheme",
    );
}

fn text_faults(spec: &InstanceSpec, faults: &mut Faults) {
    for (field, words) in [("entrypoint", &spec.entrypoint), ("command", &spec.command)] {
        faults.unless(words.len() <= LIST_MAX, field, format!("must have at most {LIST_MAX} words"));
        faults.unless(words.iter().all(|w| !w.contains('\0')), field, "must not contain a NUL character");
    }
    faults.unless(spec.env.0.len() <= LIST_MAX, "env", format!("must have at most {LIST_MAX} variables"));
    for (key, value) in &spec.env.0 {
        let key_ok = !key.is_empty() && key.len() <= 255 && !key.contains(['=', '\0']);
        // The name may be hostile; the value may be a secret. Only the name is shown, and escaped.
        faults.unless(key_ok, format!("env[{key:?}]"), "name must be 1 to 255 characters without '='");
        faults.unless(
            !value.contains('\0'),
            format!("env[{key:?}]"),
            "value must not contain a NUL character",
        );
    }
    let words = spec.entrypoint.iter().chain(&spec.command).map(String::len).sum::<usize>();
    let env = spec.env.0.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>();
    faults.unless(
        words + env <= TEXT_MAX_BYTES,
        "env",
        format!("env, command and entrypoint together must be at most {TEXT_MAX_BYTES} bytes"),
    );
}

fn port_faults(ports: &[PortSpec], faults: &mut Faults) {
    faults.unless(ports.len() <= LIST_MAX, "ports", format!("must have at most {LIST_MAX} entries"));
    let mut seen = std::collections::BTreeSet::new();
    let mut inside = std::collections::BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        faults.unless(
            port.container_port != 0,
            format!("ports[{index}].container_port"),
            "must be 1 to 65535",
        );
        faults.unless(
            port.host_port != Some(0),
            format!("ports[{index}].host_port"),
            "must be 1 to 65535, or left out to let the node choose",
        );
        let once = inside.insert((port.container_port, port.transport, port.host_port));
        faults.unless(once, format!("ports[{index}]"), "is there twice");
        if let Some(host) = port.host_port {
            let free = seen.insert((port.transport, host));
            faults.unless(
                free || !once,
                format!("ports[{index}].host_port"),
                format!("{host} is published twice"),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> DeploymentSpec {
        let instance = InstanceSpec::of_image("app:1");
        DeploymentSpec {
            reservation: Reservation::default_for(&instance.limits),
            instance,
            replicas: 1,
            constraints: Labels::new(),
            progress_deadline_seconds: 300,
        }
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
