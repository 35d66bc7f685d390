//! What the engine is told to make, from an instance's spec: a function of nothing
//! else but what the engine can do and what this node is set to.
//!
//! Ours wins over the user's wherever they meet: labels by which containers are
//! known as ours, and that nobody but the agent restarts.

use std::collections::HashMap;

use bollard::models::{
    ContainerCreateBody, DeviceMapping, EndpointSettings, HealthConfig, HostConfig, HostConfigLogConfig,
    Mount, MountTmpfsOptions, MountType, MountVolumeOptions, NetworkingConfig, PortBinding, PortMap,
    ResourcesUlimits, RestartPolicy, RestartPolicyNameEnum,
};
use domain::{
    assignment::Assignment,
    instance::FailureReason,
    spec::{Device, InstanceSpec, LogSpec, Network, NetworkSpec, OWN_LABELS, PortSpec, Security, Volume},
};
use serde::{Deserialize, Serialize};

use super::{
    container::Owner,
    engine::ApiVersion,
    failure::{Failure, trimmed},
};
use crate::runtime::{Given, GivenFile, LABEL_DEPLOYMENT, LABEL_INSTANCE, LABEL_REVISION, RuntimeError};

/// Most of a container's log that the engine keeps, in files of [`LOG_FILE_SIZE`].
const LOG_FILES: &str = "3";
const LOG_FILE_SIZE: &str = "10m";
/// Drivers that take the two above.
const LOG_IN_FILES: [&str; 2] = ["json-file", "local"];

/// Label with the networks to join before the start, where the engine does not take
/// them all when it makes the container. So nothing is lost if the agent ends in
/// between.
pub(super) const LABEL_NETWORKS: &str = "automator67.networks";
/// From here on an engine takes several networks when it makes a container.
const SEVERAL_NETWORKS: ApiVersion = ApiVersion { major: 1, minor: 44 };

/// What the body depends on beside the spec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// The version that is spoken with the engine.
    pub(super) api: ApiVersion,
    /// Whether the engine's storage driver enforces a size.
    pub(super) sizes_storage: bool,
    /// Where host ports are chosen from; `None` lets the engine choose.
    pub(super) ports: Option<(u16, u16)>,
}

/// A network to join before the start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Attachment {
    pub(super) name: String,
    aliases: Vec<String>,
}

impl Attachment {
    fn of(network: &NetworkSpec) -> Self {
        Self { name: network.name.clone(), aliases: network.aliases.clone() }
    }

    /// What an engine says of a network that a container is in, and the network's id.
    pub(super) fn joined((name, settings): (String, EndpointSettings)) -> (Self, Option<String>) {
        (Self { name, aliases: settings.aliases.unwrap_or_default() }, settings.network_id)
    }

    pub(super) fn settings(&self) -> EndpointSettings {
        let aliases = (!self.aliases.is_empty()).then(|| self.aliases.clone());
        EndpointSettings { aliases, ..EndpointSettings::default() }
    }
}

/// Networks that a container's labels say it shall join.
pub(super) fn attachments(labels: &HashMap<String, String>) -> Vec<Attachment> {
    labels.get(LABEL_NETWORKS).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

/// Whether all networks go into the body; else the first one does, and the others
/// are joined before the start.
pub(super) fn takes_several(api: ApiVersion) -> bool {
    api >= SEVERAL_NETWORKS
}

/// What the engine is told to make.
pub(super) fn create_body(
    assignment: &Assignment,
    given: &Given,
    owner: &Owner,
    shape: Shape,
) -> ContainerCreateBody {
    let spec = &assignment.spec;
    let words = |words: &[String]| (!words.is_empty()).then(|| words.to_vec());
    // In the host's network the host's own name is what programs expect.
    let own_name = (spec.network != Network::Host).then(|| assignment.deployment_name.clone());
    ContainerCreateBody {
        hostname: spec.hostname.clone().or(own_name),
        image: Some(spec.image.clone()),
        entrypoint: words(&spec.entrypoint),
        cmd: words(&spec.command),
        env: Some(variables(spec, given)),
        working_dir: spec.working_dir.clone(),
        user: spec.user.clone(),
        exposed_ports: Some(spec.ports.iter().map(port_key).collect()),
        labels: Some(labels(assignment, owner, shape)),
        stop_signal: spec.stop_signal.clone(),
        // For whoever else stops it: the engine itself when it goes down.
        stop_timeout: Some(spec.stop_grace_seconds.into()),
        healthcheck: (!spec.probes.is_empty()).then(no_check),
        host_config: Some(host_config(spec, given, owner, shape)),
        networking_config: networking(spec.network.named(), shape),
        ..ContainerCreateBody::default()
    }
}

/// The image's own check is not to run beside the probes that are declared; where
/// they name it, the agent carries it out.
fn no_check() -> HealthConfig {
    HealthConfig { test: Some(vec!["NONE".to_owned()]), ..HealthConfig::default() }
}

/// The spec's own, and then what it is given: they have no name in common.
fn variables(spec: &InstanceSpec, given: &Given) -> Vec<String> {
    let own = spec.env.0.iter().map(|(name, value)| format!("{name}={value}"));
    let given = given.env.iter().map(|(name, value)| format!("{name}={}", value.as_str()));
    own.chain(given).collect()
}

fn host_config(spec: &InstanceSpec, given: &Given, owner: &Owner, shape: Shape) -> HostConfig {
    let limits = spec.limits;
    let Security { privileged, cap_add, cap_drop, no_new_privileges, read_only_root } = &spec.security;
    let memory = signed(limits.memory_bytes);
    let size = limits.storage_bytes.filter(|_| shape.sizes_storage);
    HostConfig {
        nano_cpus: Some(i64::from(limits.cpu_millis) * 1_000_000),
        memory: Some(memory),
        memory_reservation: limits.memory_reservation_bytes.map(signed),
        // Memory and swap together: as much as memory alone means no swap.
        memory_swap: Some(memory.saturating_add(signed(limits.swap_bytes))),
        storage_opt: size.map(|size| HashMap::from([("size".to_owned(), size.to_string())])),
        pids_limit: Some(limits.pids.into()),
        shm_size: limits.shm_bytes.map(signed),
        ulimits: some(spec.ulimits.iter().map(|ulimit| ResourcesUlimits {
            name: Some(ulimit.name.clone()),
            soft: Some(ulimit.soft),
            hard: Some(ulimit.hard),
        })),
        devices: some(spec.devices.iter().map(device)),
        privileged: privileged.then_some(true),
        cap_add: some(cap_add.iter().cloned()),
        cap_drop: some(cap_drop.iter().cloned()),
        security_opt: no_new_privileges.then(|| vec!["no-new-privileges:true".to_owned()]),
        readonly_rootfs: read_only_root.then_some(true),
        mounts: some(
            spec.volumes.iter().map(|volume| mount(volume, owner)).chain(given.files.iter().map(given_mount)),
        ),
        network_mode: network_mode(&spec.network),
        port_bindings: spec.network.publishes().then(|| port_bindings(&spec.ports, shape.ports)),
        // None unless asked for: images that bring an init process of their own
        // insist on being the first one, and `docker run` adds none either.
        init: spec.init.then_some(true),
        log_config: Some(log_config(&spec.log)),
        // Who restarts is the agent, which reports it.
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            ..RestartPolicy::default()
        }),
        ..HostConfig::default()
    }
}

/// A list, left out where it is empty.
fn some<T>(items: impl Iterator<Item = T>) -> Option<Vec<T>> {
    let items: Vec<T> = items.collect();
    (!items.is_empty()).then_some(items)
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

fn device(device: &Device) -> DeviceMapping {
    DeviceMapping {
        path_on_host: Some(device.host_path.clone()),
        path_in_container: Some(device.container_path.clone()),
        cgroup_permissions: Some(device.permissions.clone()),
    }
}

/// Always as a mount, never as a bind string: those are split at colons, make a
/// host's path that is missing, and take a volume's name for a path if it looks
/// like one.
fn mount(volume: &Volume, owner: &Owner) -> Mount {
    let base = Mount { target: Some(volume.target().to_owned()), ..Mount::default() };
    match volume {
        Volume::Named { name, read_only, .. } => Mount {
            typ: Some(MountType::VOLUME),
            source: Some(name.clone()),
            read_only: read_only.then_some(true),
            // Heeded only where this makes it: one that was there is not ours.
            volume_options: Some(MountVolumeOptions {
                labels: Some(owner.labels().into()),
                ..MountVolumeOptions::default()
            }),
            ..base
        },
        Volume::Bind { path, read_only, .. } => Mount {
            typ: Some(MountType::BIND),
            source: Some(path.clone()),
            read_only: read_only.then_some(true),
            ..base
        },
        Volume::Tmpfs { size_bytes, mode, .. } => Mount {
            typ: Some(MountType::TMPFS),
            tmpfs_options: (size_bytes.is_some() || mode.is_some()).then(|| MountTmpfsOptions {
                size_bytes: size_bytes.map(signed),
                mode: mode.map(Into::into),
                ..MountTmpfsOptions::default()
            }),
            ..base
        },
    }
}

/// Mounted in place, so that nothing of it is in the container's own layer.
fn given_mount(file: &GivenFile) -> Mount {
    Mount {
        typ: Some(MountType::BIND),
        source: Some(file.source.to_string_lossy().into_owned()),
        target: Some(file.target.clone()),
        read_only: Some(true),
        ..Mount::default()
    }
}

/// Left out for the engine's own bridge, which engines call by different names.
fn network_mode(network: &Network) -> Option<String> {
    match network {
        Network::Bridge => None,
        Network::Host => Some("host".to_owned()),
        Network::None => Some("none".to_owned()),
        Network::Named { networks } => networks.first().map(|first| first.name.clone()),
    }
}

fn networking(networks: &[NetworkSpec], shape: Shape) -> Option<NetworkingConfig> {
    let count = if takes_several(shape.api) { networks.len() } else { 1 };
    let join = |network| (Attachment::of(network).name, Attachment::of(network).settings());
    let endpoints: HashMap<_, _> = networks.iter().take(count).map(join).collect();
    (!endpoints.is_empty()).then_some(NetworkingConfig { endpoints_config: Some(endpoints) })
}

fn log_config(log: &LogSpec) -> HostConfigLogConfig {
    let driver = log.driver.as_deref().unwrap_or("json-file");
    let mut options: HashMap<String, String> = log.options.0.clone().into_iter().collect();
    if LOG_IN_FILES.contains(&driver) {
        for (name, value) in [("max-size", LOG_FILE_SIZE), ("max-file", LOG_FILES)] {
            options.entry(name.to_owned()).or_insert_with(|| value.to_owned());
        }
    }
    HostConfigLogConfig { typ: Some(driver.to_owned()), config: Some(options) }
}

fn labels(assignment: &Assignment, owner: &Owner, shape: Shape) -> HashMap<String, String> {
    let theirs = assignment.spec.labels.iter().filter(|(key, _)| !key.starts_with(OWN_LABELS));
    let mut labels: HashMap<String, String> = theirs.map(|(k, v)| (k.clone(), v.clone())).collect();
    labels.extend(owner.labels());
    labels.extend([
        (LABEL_INSTANCE.to_owned(), assignment.instance_id.to_string()),
        (LABEL_DEPLOYMENT.to_owned(), assignment.deployment_id.to_string()),
        (LABEL_REVISION.to_owned(), assignment.revision.to_string()),
    ]);
    let later = assignment.spec.network.named().get(1..).unwrap_or_default();
    if !later.is_empty() && !takes_several(shape.api) {
        let later: Vec<_> = later.iter().map(Attachment::of).collect();
        labels.insert(LABEL_NETWORKS.to_owned(), serde_json::to_string(&later).unwrap_or_default());
    }
    labels
}

fn port_key(port: &PortSpec) -> String {
    format!("{}/{}", port.container_port, port.transport.as_str())
}

/// An empty host port lets the engine choose, a range lets it choose from that.
fn port_bindings(ports: &[PortSpec], range: Option<(u16, u16)>) -> PortMap {
    let chosen = range.map(|(first, last)| format!("{first}-{last}")).unwrap_or_default();
    let mut map = PortMap::new();
    for port in ports {
        let host_port = port.host_port.map_or_else(|| chosen.clone(), |number| number.to_string());
        let binding = PortBinding { host_ip: None, host_port: Some(host_port) };
        map.entry(port_key(port)).or_default().get_or_insert_default().push(binding);
    }
    map
}

/// Whether the engine misses a network, which somebody may yet make: it answers
/// with the same status as if the image or the container was missing.
pub(super) fn misses_network(message: &str) -> bool {
    let lower = message.to_lowercase();
    let says = |word: &str| lower.contains(word);
    says("network") && !says("image") && (says("not found") || says("no such") || says("unable to find"))
}

/// Whether a host port is in use already, by another container or by a program.
pub(super) fn port_in_use(message: &str) -> bool {
    let lower = message.to_lowercase();
    ["port is already allocated", "address already in use"].iter().any(|words| lower.contains(words))
}

/// What it means that the engine did not make a container.
pub(super) fn create_error(failure: Failure) -> RuntimeError {
    match failure {
        Failure::Answered { status: 404, message } if misses_network(&message) => {
            RuntimeError::refused(FailureReason::StartFailed, trimmed(&message))
        }
        Failure::Answered { status: 404, message } => {
            RuntimeError::refused(FailureReason::ImageNotFound, trimmed(&message))
        }
        Failure::Answered { status: 400, message } => {
            RuntimeError::refused(FailureReason::SpecRefused, trimmed(&message))
        }
        other => other.or_refused(FailureReason::StartFailed),
    }
}

/// What it means that the engine did not start a container, or let it join a network.
pub(super) fn start_error(failure: Failure) -> RuntimeError {
    match failure {
        Failure::Answered { status: 404, message } if misses_network(&message) => {
            RuntimeError::refused(FailureReason::StartFailed, trimmed(&message))
        }
        other => other.or_refused(FailureReason::StartFailed),
    }
}

#[cfg(test)]
mod tests;
