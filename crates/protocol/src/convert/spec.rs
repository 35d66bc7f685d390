//! What a container is made from.
//!
//! Of the messages that came later, one that is missing means what the field's
//! absence has always meant; see [`domain::spec`].

use domain::spec::{
    Device, Env, InstanceSpec, Limits, LogSpec, Network, NetworkSpec, Options, PortSpec, PullPolicy,
    RestartPolicy, Security, StorageExceeded, Transport, Ulimit, Volume,
};

use super::{ConvertError, each, inner, port, required, unknown};
use crate::proto;

impl TryFrom<proto::InstanceSpec> for InstanceSpec {
    type Error = ConvertError;

    fn try_from(m: proto::InstanceSpec) -> Result<Self, ConvertError> {
        let network = m.network.map(|network| inner("network", Some(network))).transpose()?;
        Ok(Self {
            image: m.image,
            entrypoint: m.entrypoint,
            command: m.command,
            env: Env(m.env),
            working_dir: m.working_dir,
            user: m.user,
            labels: m.labels,
            hostname: m.hostname,
            ports: each("ports", m.ports)?,
            network: network.unwrap_or_default(),
            volumes: each("volumes", m.volumes)?,
            secrets: each("secrets", m.secrets)?,
            devices: m.devices.into_iter().map(Into::into).collect(),
            security: m.security.map(Into::into).unwrap_or_default(),
            limits: inner("limits", m.limits)?,
            ulimits: m.ulimits.into_iter().map(Into::into).collect(),
            log: m.log.map(Into::into).unwrap_or_default(),
            init: m.init,
            restart: inner("restart", m.restart)?,
            pull: pull(m.pull)?,
            stop_signal: m.stop_signal,
            stop_grace_seconds: m.stop_grace_seconds,
            min_healthy_seconds: m.min_healthy_seconds,
            probes: each("probes", m.probes)?,
            stop_after_seconds: m.stop_after_seconds,
        })
    }
}

impl From<&InstanceSpec> for proto::InstanceSpec {
    fn from(spec: &InstanceSpec) -> Self {
        Self {
            image: spec.image.clone(),
            entrypoint: spec.entrypoint.clone(),
            command: spec.command.clone(),
            env: spec.env.0.clone(),
            ports: spec.ports.iter().map(Into::into).collect(),
            limits: Some(spec.limits.into()),
            restart: Some(spec.restart.into()),
            pull: pull_number(spec.pull),
            stop_grace_seconds: spec.stop_grace_seconds,
            min_healthy_seconds: spec.min_healthy_seconds,
            working_dir: spec.working_dir.clone(),
            user: spec.user.clone(),
            labels: spec.labels.clone(),
            hostname: spec.hostname.clone(),
            network: Some((&spec.network).into()),
            volumes: spec.volumes.iter().map(Into::into).collect(),
            secrets: spec.secrets.iter().map(Into::into).collect(),
            devices: spec.devices.iter().map(Into::into).collect(),
            security: Some((&spec.security).into()),
            ulimits: spec.ulimits.iter().map(Into::into).collect(),
            log: Some((&spec.log).into()),
            init: spec.init,
            stop_signal: spec.stop_signal.clone(),
            probes: spec.probes.iter().map(Into::into).collect(),
            stop_after_seconds: spec.stop_after_seconds,
        }
    }
}

impl TryFrom<proto::Limits> for Limits {
    type Error = ConvertError;

    fn try_from(m: proto::Limits) -> Result<Self, ConvertError> {
        let storage_exceeded = match proto::StorageExceeded::try_from(m.storage_exceeded) {
            Ok(proto::StorageExceeded::Unspecified | proto::StorageExceeded::Mark) => StorageExceeded::Mark,
            Ok(proto::StorageExceeded::Stop) => StorageExceeded::Stop,
            Err(_) => return Err(unknown("storage_exceeded", m.storage_exceeded)),
        };
        Ok(Self {
            cpu_millis: m.cpu_millis,
            memory_bytes: m.memory_bytes,
            memory_reservation_bytes: m.memory_reservation_bytes,
            swap_bytes: m.swap_bytes,
            storage_bytes: m.storage_bytes,
            storage_exceeded,
            pids: m.pids,
            shm_bytes: m.shm_bytes,
        })
    }
}

impl From<Limits> for proto::Limits {
    fn from(limits: Limits) -> Self {
        Self {
            cpu_millis: limits.cpu_millis,
            memory_bytes: limits.memory_bytes,
            memory_reservation_bytes: limits.memory_reservation_bytes,
            swap_bytes: limits.swap_bytes,
            storage_bytes: limits.storage_bytes,
            pids: limits.pids,
            shm_bytes: limits.shm_bytes,
            storage_exceeded: match limits.storage_exceeded {
                StorageExceeded::Mark => proto::StorageExceeded::Mark,
                StorageExceeded::Stop => proto::StorageExceeded::Stop,
            }
            .into(),
        }
    }
}

impl TryFrom<proto::Network> for Network {
    type Error = ConvertError;

    fn try_from(m: proto::Network) -> Result<Self, ConvertError> {
        use proto::network::Mode;
        Ok(match required("mode", m.mode)? {
            Mode::Bridge(_) => Self::Bridge,
            Mode::Host(_) => Self::Host,
            Mode::None(_) => Self::None,
            Mode::Named(m) => {
                let join = |m: proto::network::Attachment| NetworkSpec { name: m.name, aliases: m.aliases };
                Self::Named { networks: m.networks.into_iter().map(join).collect() }
            }
        })
    }
}

impl From<&Network> for proto::Network {
    fn from(network: &Network) -> Self {
        use proto::network::{Attachment, Bridge, Host, Mode, Named, None};
        let mode = match network {
            Network::Bridge => Mode::Bridge(Bridge {}),
            Network::Host => Mode::Host(Host {}),
            Network::None => Mode::None(None {}),
            Network::Named { networks } => {
                let join = |n: &NetworkSpec| Attachment { name: n.name.clone(), aliases: n.aliases.clone() };
                Mode::Named(Named { networks: networks.iter().map(join).collect() })
            }
        };
        Self { mode: Some(mode) }
    }
}

impl TryFrom<proto::Volume> for Volume {
    type Error = ConvertError;

    fn try_from(m: proto::Volume) -> Result<Self, ConvertError> {
        use proto::volume::Kind;
        Ok(match required("kind", m.kind)? {
            Kind::Named(m) => Self::Named { target: m.target, read_only: m.read_only, name: m.name },
            Kind::Bind(m) => Self::Bind { target: m.target, read_only: m.read_only, path: m.path },
            Kind::Tmpfs(m) => Self::Tmpfs { target: m.target, size_bytes: m.size_bytes, mode: m.mode },
        })
    }
}

impl From<&Volume> for proto::Volume {
    fn from(volume: &Volume) -> Self {
        use proto::volume::{Bind, Kind, Named, Tmpfs};
        let kind = match volume.clone() {
            Volume::Named { target, read_only, name } => Kind::Named(Named { target, read_only, name }),
            Volume::Bind { target, read_only, path } => Kind::Bind(Bind { target, read_only, path }),
            Volume::Tmpfs { target, size_bytes, mode } => Kind::Tmpfs(Tmpfs { target, size_bytes, mode }),
        };
        Self { kind: Some(kind) }
    }
}

impl From<proto::Device> for Device {
    fn from(m: proto::Device) -> Self {
        Self { host_path: m.host_path, container_path: m.container_path, permissions: m.permissions }
    }
}

impl From<&Device> for proto::Device {
    fn from(device: &Device) -> Self {
        let Device { host_path, container_path, permissions } = device.clone();
        Self { host_path, container_path, permissions }
    }
}

impl From<proto::Security> for Security {
    fn from(m: proto::Security) -> Self {
        Self {
            privileged: m.privileged,
            cap_add: m.cap_add,
            cap_drop: m.cap_drop,
            no_new_privileges: m.no_new_privileges,
            read_only_root: m.read_only_root,
        }
    }
}

impl From<&Security> for proto::Security {
    fn from(security: &Security) -> Self {
        let Security { privileged, cap_add, cap_drop, no_new_privileges, read_only_root } = security.clone();
        Self { privileged, cap_add, cap_drop, no_new_privileges, read_only_root }
    }
}

impl From<proto::Ulimit> for Ulimit {
    fn from(m: proto::Ulimit) -> Self {
        Self { name: m.name, soft: m.soft, hard: m.hard }
    }
}

impl From<&Ulimit> for proto::Ulimit {
    fn from(ulimit: &Ulimit) -> Self {
        Self { name: ulimit.name.clone(), soft: ulimit.soft, hard: ulimit.hard }
    }
}

impl From<proto::LogOptions> for LogSpec {
    fn from(m: proto::LogOptions) -> Self {
        Self { driver: m.driver, options: Options(m.options) }
    }
}

impl From<&LogSpec> for proto::LogOptions {
    fn from(log: &LogSpec) -> Self {
        Self { driver: log.driver.clone(), options: log.options.0.clone() }
    }
}

impl TryFrom<proto::PortSpec> for PortSpec {
    type Error = ConvertError;

    fn try_from(m: proto::PortSpec) -> Result<Self, ConvertError> {
        Ok(Self {
            container_port: port("container_port", m.container_port)?,
            host_port: m.host_port.map(|number| port("host_port", number)).transpose()?,
            transport: transport(m.transport)?,
        })
    }
}

impl From<&PortSpec> for proto::PortSpec {
    fn from(spec: &PortSpec) -> Self {
        Self {
            container_port: spec.container_port.into(),
            host_port: spec.host_port.map(Into::into),
            transport: transport_number(spec.transport),
        }
    }
}

impl TryFrom<proto::RestartPolicy> for RestartPolicy {
    type Error = ConvertError;

    fn try_from(m: proto::RestartPolicy) -> Result<Self, ConvertError> {
        use proto::restart_policy::When;
        Ok(match required("when", m.when)? {
            When::Always(_) => Self::Always,
            When::OnFailure(m) => Self::OnFailure { max_retries: m.max_retries },
            When::Never(_) => Self::Never,
        })
    }
}

impl From<RestartPolicy> for proto::RestartPolicy {
    fn from(policy: RestartPolicy) -> Self {
        use proto::restart_policy::{Always, Never, OnFailure, When};
        let when = match policy {
            RestartPolicy::Always => When::Always(Always {}),
            RestartPolicy::OnFailure { max_retries } => When::OnFailure(OnFailure { max_retries }),
            RestartPolicy::Never => When::Never(Never {}),
        };
        Self { when: Some(when) }
    }
}

fn pull(number: i32) -> Result<PullPolicy, ConvertError> {
    match proto::PullPolicy::try_from(number) {
        Ok(proto::PullPolicy::Always) => Ok(PullPolicy::Always),
        Ok(proto::PullPolicy::Missing) => Ok(PullPolicy::Missing),
        Ok(proto::PullPolicy::Never) => Ok(PullPolicy::Never),
        Ok(proto::PullPolicy::Unspecified) | Err(_) => Err(unknown("pull", number)),
    }
}

fn pull_number(policy: PullPolicy) -> i32 {
    match policy {
        PullPolicy::Always => proto::PullPolicy::Always,
        PullPolicy::Missing => proto::PullPolicy::Missing,
        PullPolicy::Never => proto::PullPolicy::Never,
    }
    .into()
}

pub(super) fn transport(number: i32) -> Result<Transport, ConvertError> {
    match proto::Transport::try_from(number) {
        Ok(proto::Transport::Tcp) => Ok(Transport::Tcp),
        Ok(proto::Transport::Udp) => Ok(Transport::Udp),
        Ok(proto::Transport::Unspecified) | Err(_) => Err(unknown("transport", number)),
    }
}

pub(super) fn transport_number(transport: Transport) -> i32 {
    match transport {
        Transport::Tcp => proto::Transport::Tcp,
        Transport::Udp => proto::Transport::Udp,
    }
    .into()
}
