//! What a user sends to declare a deployment, and its defaults.

use std::collections::BTreeMap;

use domain::deployment::{
    DeploymentSpec, Env, InstanceSpec, Limits, PortSpec, PullPolicy, Reservation, RestartPolicy, Transport,
};
use serde::Deserialize;
use utoipa::ToSchema;

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
    /// Ports to publish.
    #[serde(default)]
    ports: Vec<PortCreate>,
    /// What one copy may use.
    #[serde(default)]
    limits: LimitsCreate,
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
    /// Seconds between the stop signal and the kill, 0 to 3600; 10 when left out.
    stop_grace_seconds: Option<u32>,
    /// Seconds of running after which a copy counts as healthy, 0 to 3600; 1 when left out.
    min_healthy_seconds: Option<u32>,
    /// Seconds without progress after which an operation fails, 5 to 86400; 300 when left out.
    progress_deadline_seconds: Option<u32>,
    /// Labels that a node must carry.
    #[serde(default)]
    constraints: BTreeMap<String, String>,
}

/// A port to publish.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PortCreate {
    /// Where the program listens, 1 to 65535.
    container_port: u16,
    /// Where the host listens; the engine chooses when left out.
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
    /// Processes and threads; 1024 when left out.
    pids: Option<u32>,
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
            entrypoint: self.entrypoint,
            command: self.command,
            env: Env(self.env),
            ports: self.ports.into_iter().map(PortCreate::read).collect(),
            limits,
            restart: self.restart.read()?,
            pull: self.pull.read(),
            stop_grace_seconds: self.stop_grace_seconds.unwrap_or(defaults.stop_grace_seconds),
            min_healthy_seconds: self.min_healthy_seconds.unwrap_or(defaults.min_healthy_seconds),
            ..defaults
        };
        let spec = DeploymentSpec {
            instance,
            replicas: self.replicas.unwrap_or(1),
            reservation: Reservation {
                cpu_millis: self.reservation.cpu_millis.unwrap_or(reserved.cpu_millis),
                memory_bytes: self.reservation.memory_bytes.unwrap_or(reserved.memory_bytes),
            },
            constraints: self.constraints,
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
            pids: self.pids.unwrap_or(defaults.pids),
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
