//! A deployment's spec as it is shown: every field, defaults filled in.

mod probe;
mod secrets;
mod update;

use std::collections::BTreeMap;

use domain::{
    deployment::DeploymentSpec,
    spec::{Device, InstanceSpec, Limits, Network, PortSpec, PullPolicy, RestartPolicy, Security, Volume},
};
use serde::Serialize;
use utoipa::ToSchema;

use self::{
    probe::ProbeView,
    secrets::SecretUseView,
    update::{DisconnectView, UpdateView},
};

/// What a revision says.
#[derive(Serialize, ToSchema)]
pub struct SpecView {
    image: String,
    entrypoint: Vec<String>,
    command: Vec<String>,
    env: BTreeMap<String, String>,
    /// Null: the image's own.
    working_dir: Option<String>,
    /// Null: the image's own.
    user: Option<String>,
    labels: BTreeMap<String, String>,
    /// Null: the deployment's name.
    hostname: Option<String>,
    ports: Vec<PortSpecView>,
    network: NetworkView,
    volumes: Vec<VolumeView>,
    secrets: Vec<SecretUseView>,
    devices: Vec<DeviceView>,
    security: SecurityView,
    limits: LimitsView,
    reservation: ReservationView,
    ulimits: Vec<UlimitView>,
    log: LogView,
    init: bool,
    replicas: u32,
    restart: RestartView,
    pull: &'static str,
    /// Null: the image's own.
    stop_signal: Option<String>,
    stop_grace_seconds: u32,
    min_healthy_seconds: u32,
    probes: Vec<ProbeView>,
    /// Null: never.
    stop_after_seconds: Option<u32>,
    storage_enforced: bool,
    progress_deadline_seconds: u32,
    constraints: BTreeMap<String, String>,
    update: UpdateView,
    disconnect: DisconnectView,
}

/// A port to publish.
#[derive(Serialize, ToSchema)]
pub struct PortSpecView {
    container_port: u16,
    /// Null: the node chooses.
    host_port: Option<u16>,
    transport: &'static str,
}

/// What a container is connected to.
#[derive(Serialize, ToSchema)]
pub struct NetworkView {
    /// `bridge`, `host`, `none` or `named`.
    mode: &'static str,
    networks: Vec<AttachmentView>,
}

/// A network that a container joins.
#[derive(Serialize, ToSchema)]
pub struct AttachmentView {
    name: String,
    aliases: Vec<String>,
}

/// Something that is mounted into a container.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum VolumeView {
    /// A volume of the node's engine.
    Named {
        /// Where it is mounted.
        target: String,
        /// Whether the container may only read it.
        read_only: bool,
        /// The volume's name at the engine.
        name: String,
    },
    /// A directory or file of the host.
    Bind {
        /// Where it is mounted.
        target: String,
        /// Whether the container may only read it.
        read_only: bool,
        /// The host's path.
        path: String,
    },
    /// Memory.
    Tmpfs {
        /// Where it is mounted.
        target: String,
        /// Null: half of the host's memory.
        size_bytes: Option<u64>,
        /// Permissions in octal digits; null: `1777`.
        mode: Option<String>,
    },
}

/// A device of the host.
#[derive(Serialize, ToSchema)]
pub struct DeviceView {
    host_path: String,
    container_path: String,
    permissions: String,
}

/// What a container may do.
#[derive(Serialize, ToSchema)]
pub struct SecurityView {
    privileged: bool,
    cap_add: Vec<String>,
    cap_drop: Vec<String>,
    no_new_privileges: bool,
    read_only_root: bool,
}

/// Enforced limits.
#[derive(Serialize, ToSchema)]
pub struct LimitsView {
    cpu_millis: u32,
    memory_bytes: u64,
    /// Null: none is set.
    memory_reservation_bytes: Option<u64>,
    /// Beyond `memory_bytes`.
    swap_bytes: u64,
    /// Null: no limit.
    storage_bytes: Option<u64>,
    /// `mark` or `stop`.
    storage_exceeded: &'static str,
    pids: u32,
    /// Null: the engine's own.
    shm_bytes: Option<u64>,
}

/// What is set aside.
#[derive(Serialize, ToSchema)]
pub struct ReservationView {
    cpu_millis: u32,
    memory_bytes: u64,
}

/// A limit of each process of its own.
#[derive(Serialize, ToSchema)]
pub struct UlimitView {
    name: String,
    /// -1: no limit.
    soft: i64,
    /// -1: no limit.
    hard: i64,
}

/// What becomes of a container's output.
#[derive(Serialize, ToSchema)]
pub struct LogView {
    /// Null: `json-file`.
    driver: Option<String>,
    options: BTreeMap<String, String>,
}

/// When a container that ended is started again.
#[derive(Serialize, ToSchema)]
pub struct RestartView {
    when: &'static str,
    max_retries: Option<u32>,
}

impl From<DeploymentSpec> for SpecView {
    fn from(spec: DeploymentSpec) -> Self {
        let DeploymentSpec {
            instance,
            replicas,
            reservation,
            constraints,
            storage_enforced,
            progress_deadline_seconds,
            update,
            disconnect,
        } = spec;
        let InstanceSpec { ports, volumes, secrets, devices, ulimits, log, .. } = instance;
        Self {
            image: instance.image,
            entrypoint: instance.entrypoint,
            command: instance.command,
            env: instance.env.0,
            working_dir: instance.working_dir,
            user: instance.user,
            labels: instance.labels,
            hostname: instance.hostname,
            ports: ports.into_iter().map(Into::into).collect(),
            network: (&instance.network).into(),
            volumes: volumes.into_iter().map(Into::into).collect(),
            secrets: secrets.into_iter().map(Into::into).collect(),
            devices: devices.into_iter().map(Into::into).collect(),
            security: instance.security.into(),
            limits: instance.limits.into(),
            reservation: ReservationView {
                cpu_millis: reservation.cpu_millis,
                memory_bytes: reservation.memory_bytes,
            },
            ulimits: ulimits
                .into_iter()
                .map(|u| UlimitView { name: u.name, soft: u.soft, hard: u.hard })
                .collect(),
            log: LogView { driver: log.driver, options: log.options.0 },
            init: instance.init,
            replicas,
            restart: instance.restart.into(),
            pull: match instance.pull {
                PullPolicy::Always => "always",
                PullPolicy::Missing => "missing",
                PullPolicy::Never => "never",
            },
            stop_signal: instance.stop_signal,
            stop_grace_seconds: instance.stop_grace_seconds,
            min_healthy_seconds: instance.min_healthy_seconds,
            probes: instance.probes.into_iter().map(Into::into).collect(),
            stop_after_seconds: instance.stop_after_seconds,
            storage_enforced,
            progress_deadline_seconds,
            constraints,
            update: update.into(),
            disconnect: disconnect.into(),
        }
    }
}

impl From<PortSpec> for PortSpecView {
    fn from(port: PortSpec) -> Self {
        Self {
            container_port: port.container_port,
            host_port: port.host_port,
            transport: port.transport.as_str(),
        }
    }
}

impl From<&Network> for NetworkView {
    fn from(network: &Network) -> Self {
        let joined = network.named().iter();
        let networks = joined.map(|n| AttachmentView { name: n.name.clone(), aliases: n.aliases.clone() });
        Self { mode: network.mode(), networks: networks.collect() }
    }
}

impl From<Volume> for VolumeView {
    fn from(volume: Volume) -> Self {
        match volume {
            Volume::Named { target, read_only, name } => Self::Named { target, read_only, name },
            Volume::Bind { target, read_only, path } => Self::Bind { target, read_only, path },
            Volume::Tmpfs { target, size_bytes, mode } => {
                Self::Tmpfs { target, size_bytes, mode: mode.map(|mode| format!("{mode:o}")) }
            }
        }
    }
}

impl From<Device> for DeviceView {
    fn from(device: Device) -> Self {
        let Device { host_path, container_path, permissions } = device;
        Self { host_path, container_path, permissions }
    }
}

impl From<Security> for SecurityView {
    fn from(security: Security) -> Self {
        let Security { privileged, cap_add, cap_drop, no_new_privileges, read_only_root } = security;
        Self { privileged, cap_add, cap_drop, no_new_privileges, read_only_root }
    }
}

impl From<Limits> for LimitsView {
    fn from(limits: Limits) -> Self {
        Self {
            cpu_millis: limits.cpu_millis,
            memory_bytes: limits.memory_bytes,
            memory_reservation_bytes: limits.memory_reservation_bytes,
            swap_bytes: limits.swap_bytes,
            storage_bytes: limits.storage_bytes,
            storage_exceeded: limits.storage_exceeded.as_str(),
            pids: limits.pids,
            shm_bytes: limits.shm_bytes,
        }
    }
}

impl From<RestartPolicy> for RestartView {
    fn from(policy: RestartPolicy) -> Self {
        let (when, max_retries) = match policy {
            RestartPolicy::Always => ("always", None),
            RestartPolicy::OnFailure { max_retries } => ("on_failure", max_retries),
            RestartPolicy::Never => ("never", None),
        };
        Self { when, max_retries }
    }
}
