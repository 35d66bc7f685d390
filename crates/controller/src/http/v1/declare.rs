//! What a user sends to declare a deployment, and its defaults.

mod container;
mod probe;
mod secrets;
mod update;

use std::collections::BTreeMap;

use domain::{
    deployment::{DeploymentSpec, Reservation},
    spec::{Env, InstanceSpec, Limits, PortSpec, PullPolicy, RestartPolicy, StorageExceeded, Transport},
};
use serde::Deserialize;
use utoipa::ToSchema;

use self::{
    container::{DeviceCreate, LogCreate, NetworkCreate, SecurityCreate, UlimitCreate, VolumeCreate},
    probe::ProbeCreate,
    secrets::SecretCreate,
    update::{DisconnectCreate, UpdateCreate},
};
use crate::error::Error;

/// A new deployment. Only `name` and `image` are needed.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeploymentCreate {
    /// Lower-case letters, digits and inner hyphens, at most 63; unique in its project.
    pub(super) name: String,
    /// The project that it belongs to, by name or id; `default` when left out.
    pub(super) project: Option<String>,
    /// As `docker pull` takes it.
    image: String,
    /// Replaces the image's entrypoint.
    #[serde(default)]
    entrypoint: Vec<String>,
    /// Replaces the image's command.
    #[serde(default)]
    command: Vec<String>,
    /// Added to the image's environment.
    #[serde(default)]
    env: BTreeMap<String, String>,
    /// Replaces the image's working directory; an absolute path.
    working_dir: Option<String>,
    /// Replaces the image's user: name or number, with or without `:group`.
    user: Option<String>,
    /// Labels of the container; names that begin with `automator67.` are ours.
    #[serde(default)]
    labels: BTreeMap<String, String>,
    /// The container's host name; the deployment's name when left out.
    hostname: Option<String>,
    /// Ports to publish.
    #[serde(default)]
    ports: Vec<PortCreate>,
    /// What it is connected to; the engine's own bridge when left out.
    #[serde(default)]
    network: NetworkCreate,
    /// What is mounted into it.
    #[serde(default)]
    volumes: Vec<VolumeCreate>,
    /// Credentials of the vault that it is given, at most 256.
    #[serde(default)]
    secrets: Vec<SecretCreate>,
    /// Devices of the host that it may use. A node refuses those that its own
    /// configuration does not allow (`device_paths`).
    #[serde(default)]
    devices: Vec<DeviceCreate>,
    /// What it may do.
    #[serde(default)]
    security: SecurityCreate,
    /// What one copy may use.
    #[serde(default)]
    limits: LimitsCreate,
    /// Limits of each of its processes; the engine's own when left out.
    #[serde(default)]
    ulimits: Vec<UlimitCreate>,
    /// What becomes of its output; three files of 10 MB at the node when left out.
    #[serde(default)]
    log: LogCreate,
    /// Whether an init process runs before the program; `false` when left out.
    #[serde(default)]
    init: bool,
    /// What placement sets aside for one copy.
    #[serde(default)]
    reservation: ReservationCreate,
    /// Copies, 0 to 1000; 1 when left out.
    replicas: Option<u32>,
    /// When a container that ended is started again; always when left out.
    #[serde(default)]
    restart: RestartCreate,
    /// `always`, `missing` or `never`; `missing` when left out.
    #[serde(default)]
    pull: PullCreate,
    /// What asks it to end, such as `SIGTERM` or `15`; the image's own when left out.
    stop_signal: Option<String>,
    /// Seconds between the stop signal and the kill, 0 to 3600; 10 when left out.
    stop_grace_seconds: Option<u32>,
    /// Seconds of running after which a copy without probes counts as healthy, 0 to
    /// 3600; 1 when left out.
    min_healthy_seconds: Option<u32>,
    /// How to find out whether a copy works, at most 8.
    #[serde(default)]
    probes: Vec<ProbeCreate>,
    /// Seconds without a word of the controller after which a node stops its copies,
    /// 30 to 604800; never when left out.
    stop_after_seconds: Option<u32>,
    /// Whether only nodes qualify whose engine enforces `limits.storage_bytes`;
    /// `false` when left out.
    #[serde(default)]
    storage_enforced: bool,
    /// Seconds without progress after which an operation fails, 5 to 86400; 300 when left out.
    progress_deadline_seconds: Option<u32>,
    /// Labels that a node must carry.
    #[serde(default)]
    constraints: BTreeMap<String, String>,
    /// How copies give way to those of a new revision.
    #[serde(default)]
    update: UpdateCreate,
    /// What becomes of copies on a node that is not heard of.
    #[serde(default)]
    disconnect: DisconnectCreate,
}

/// A port to publish.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PortCreate {
    /// Where the program listens, 1 to 65535.
    container_port: u16,
    /// Where the host listens; the node chooses when left out, and the choice is reported.
    host_port: Option<u16>,
    /// `tcp` when left out.
    #[serde(default)]
    transport: TransportCreate,
}

#[derive(Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum TransportCreate {
    #[default]
    Tcp,
    Udp,
}

/// Enforced limits.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct LimitsCreate {
    /// Thousandths of a core, 10 to 1024000; 1000 when left out.
    cpu_millis: Option<u32>,
    /// At least 6 MiB; 512 MiB when left out.
    memory_bytes: Option<u64>,
    /// What the kernel leaves it when memory gets scarce, 6 MiB to `memory_bytes`;
    /// nothing is set when left out.
    memory_reservation_bytes: Option<u64>,
    /// Swap beyond `memory_bytes`; none when left out.
    swap_bytes: Option<u64>,
    /// Of its writable layer, at least 1 MiB; 1 GiB when left out. Nodes whose
    /// engine cannot enforce it measure it; see `storage_exceeded`.
    storage_bytes: Option<u64>,
    /// What a node that can only measure does about a copy that is over
    /// `storage_bytes`: `mark` it, or `stop` it; `mark` when left out.
    #[serde(default)]
    storage_exceeded: StorageExceededCreate,
    /// Processes and threads; 1024 when left out.
    pids: Option<u32>,
    /// Size of `/dev/shm`, at least 4096; the engine's own (64 MiB) when left out.
    shm_bytes: Option<u64>,
}

#[derive(Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum StorageExceededCreate {
    #[default]
    Mark,
    Stop,
}

/// What is set aside.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ReservationCreate {
    /// Thousandths of a core; 50 when left out.
    cpu_millis: Option<u32>,
    /// 16 MiB when left out.
    memory_bytes: Option<u64>,
}

/// When a container that ended is started again.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RestartCreate {
    /// `always`, `on_failure` or `never`; `always` when left out.
    #[serde(default)]
    when: WhenCreate,
    /// With `on_failure`: failures in a row after which it stays down.
    max_retries: Option<u32>,
}

#[derive(Default, Deserialize, PartialEq, Eq, ToSchema)]
#[serde(rename_all = "snake_case")]
enum WhenCreate {
    #[default]
    Always,
    OnFailure,
    Never,
}

#[derive(Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum PullCreate {
    Always,
    #[default]
    Missing,
    Never,
}

impl DeploymentCreate {
    /// Fills in the defaults. Ranges are checked by [`DeploymentSpec::validate`].
    pub(super) fn read(self) -> Result<(String, DeploymentSpec), Error> {
        let defaults = InstanceSpec::of_image(self.image);
        let limits = self.limits.read();
        let reserved = Reservation::default_for(&limits);
        let instance = InstanceSpec {
            image: defaults.image,
            entrypoint: self.entrypoint,
            command: self.command,
            env: Env(self.env),
            working_dir: self.working_dir,
            user: self.user,
            labels: self.labels,
            hostname: self.hostname,
            ports: self.ports.into_iter().map(PortCreate::read).collect(),
            network: self.network.read()?,
            volumes: container::volumes(self.volumes)?,
            secrets: secrets::secrets(self.secrets)?,
            devices: self.devices.into_iter().map(DeviceCreate::read).collect(),
            security: self.security.read(),
            limits,
            ulimits: self.ulimits.into_iter().map(UlimitCreate::read).collect(),
            log: self.log.read(),
            init: self.init,
            restart: self.restart.read()?,
            pull: self.pull.read(),
            stop_signal: self.stop_signal,
            stop_grace_seconds: self.stop_grace_seconds.unwrap_or(defaults.stop_grace_seconds),
            min_healthy_seconds: self.min_healthy_seconds.unwrap_or(defaults.min_healthy_seconds),
            probes: probe::probes(self.probes)?,
            stop_after_seconds: self.stop_after_seconds,
        };
        let spec = DeploymentSpec {
            update: self.update.read(),
            disconnect: self.disconnect.read(&instance)?,
            instance,
            replicas: self.replicas.unwrap_or(1),
            reservation: Reservation {
                cpu_millis: self.reservation.cpu_millis.unwrap_or(reserved.cpu_millis),
                memory_bytes: self.reservation.memory_bytes.unwrap_or(reserved.memory_bytes),
            },
            constraints: self.constraints,
            storage_enforced: self.storage_enforced,
            progress_deadline_seconds: self.progress_deadline_seconds.unwrap_or(300),
        };
        Ok((self.name, spec))
    }
}

impl PortCreate {
    fn read(self) -> PortSpec {
        let transport = match self.transport {
            TransportCreate::Tcp => Transport::Tcp,
            TransportCreate::Udp => Transport::Udp,
        };
        PortSpec { container_port: self.container_port, host_port: self.host_port, transport }
    }
}

impl LimitsCreate {
    fn read(&self) -> Limits {
        let defaults = Limits::default();
        Limits {
            cpu_millis: self.cpu_millis.unwrap_or(defaults.cpu_millis),
            memory_bytes: self.memory_bytes.unwrap_or(defaults.memory_bytes),
            memory_reservation_bytes: self.memory_reservation_bytes,
            swap_bytes: self.swap_bytes.unwrap_or(defaults.swap_bytes),
            storage_bytes: self.storage_bytes.or(defaults.storage_bytes),
            storage_exceeded: match self.storage_exceeded {
                StorageExceededCreate::Mark => StorageExceeded::Mark,
                StorageExceededCreate::Stop => StorageExceeded::Stop,
            },
            pids: self.pids.unwrap_or(defaults.pids),
            shm_bytes: self.shm_bytes,
        }
    }
}

impl RestartCreate {
    fn read(self) -> Result<RestartPolicy, Error> {
        if self.max_retries.is_some() && self.when != WhenCreate::OnFailure {
            return Err(Error::invalid_field("restart.max_retries", "goes with when: on_failure only"));
        }
        Ok(match self.when {
            WhenCreate::Always => RestartPolicy::Always,
            WhenCreate::OnFailure => RestartPolicy::OnFailure { max_retries: self.max_retries },
            WhenCreate::Never => RestartPolicy::Never,
        })
    }
}

impl PullCreate {
    const fn read(&self) -> PullPolicy {
        match self {
            Self::Always => PullPolicy::Always,
            Self::Missing => PullPolicy::Missing,
            Self::Never => PullPolicy::Never,
        }
    }
}
