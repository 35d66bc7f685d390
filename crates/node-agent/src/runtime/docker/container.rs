//! Containers, in the engine's words and in ours.

use std::collections::{BTreeMap, HashMap, btree_map::Entry};

use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, ContainerState, ContainerStateStatusEnum, HostConfig,
    HostConfigLogConfig, PortBinding, PortMap, RestartPolicy, RestartPolicyNameEnum,
};
use domain::{
    Timestamp,
    assignment::Assignment,
    deployment::{PortSpec, Transport},
    id::{FleetId, InstanceId, NodeId},
    instance::{FailureReason, PublishedPort},
    plan::{Container, ContainerStatus},
};

use super::failure::{Failure, trimmed};
use crate::runtime::{
    LABEL_DEPLOYMENT, LABEL_FLEET, LABEL_INSTANCE, LABEL_NODE, LABEL_REVISION, RuntimeError, container_name,
};

/// Most of a container's log that the engine keeps, in files of [`LOG_FILE_SIZE`].
const LOG_FILES: &str = "3";
const LOG_FILE_SIZE: &str = "10m";

/// Whose containers are ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) fleet: FleetId,
    pub(super) node: NodeId,
}

impl Owner {
    /// Label filters that let only our containers through.
    pub(super) fn filters(&self) -> Vec<String> {
        vec![format!("{LABEL_FLEET}={}", self.fleet), format!("{LABEL_NODE}={}", self.node)]
    }
}

/// A container as inspected, with what decides whether it is ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Inspected {
    pub(super) container: Container,
    pub(super) instance_id: Option<InstanceId>,
    fleet: Option<String>,
    node: Option<String>,
    name: String,
    created_at: Option<Timestamp>,
}

impl Inspected {
    pub(super) fn read(response: ContainerInspectResponse) -> Result<Self, RuntimeError> {
        let container_id = response
            .id
            .filter(|id| !id.is_empty())
            .ok_or_else(|| RuntimeError::unreachable("the engine describes a container without an id"))?;
        let labels = response.config.and_then(|config| config.labels).unwrap_or_default();
        let ports = response.network_settings.and_then(|settings| settings.ports);
        let container = container(container_id, response.state, response.image, ports);
        Ok(Self {
            container,
            instance_id: labels.get(LABEL_INSTANCE).and_then(|text| text.parse().ok()),
            fleet: labels.get(LABEL_FLEET).cloned(),
            node: labels.get(LABEL_NODE).cloned(),
            name: response.name.unwrap_or_default().trim_start_matches('/').to_owned(),
            created_at: moment(response.created.as_deref()),
        })
    }

    /// Whether it carries our labels. Its name proves nothing (I3).
    pub(super) fn is_of(&self, owner: &Owner) -> bool {
        self.fleet.as_deref() == Some(owner.fleet.to_string().as_str())
            && self.node.as_deref() == Some(owner.node.to_string().as_str())
    }

    /// Smaller is better: the one with the instance's own name, then the oldest.
    fn rank(&self) -> (bool, Option<Timestamp>) {
        let named = self.instance_id.is_some_and(|id| container_name(id) == self.name);
        (!named, self.created_at)
    }
}

/// Of several containers with one instance's label, the one that is really its.
/// An image made from a container hands its labels on to strangers.
pub(super) fn one_each(found: impl Iterator<Item = Inspected>) -> Vec<Inspected> {
    let mut best: BTreeMap<InstanceId, Inspected> = BTreeMap::new();
    for inspected in found {
        let Some(instance) = inspected.instance_id else { continue };
        match best.entry(instance) {
            Entry::Vacant(place) => drop(place.insert(inspected)),
            Entry::Occupied(mut place) if inspected.rank() < place.get().rank() => {
                place.insert(inspected);
            }
            Entry::Occupied(_) => {}
        }
    }
    best.into_values().collect()
}

fn container(
    container_id: String,
    state: Option<ContainerState>,
    image_id: Option<String>,
    ports: Option<PortMap>,
) -> Container {
    let state = state.unwrap_or_default();
    let status = status(&state);
    let started_at = moment(state.started_at.as_deref());
    let ended = !status.is_alive() && started_at.is_some();
    let code = state.exit_code.and_then(|code| i32::try_from(code).ok());
    Container {
        container_id,
        status,
        started_at,
        finished_at: moment(state.finished_at.as_deref()).filter(|_| ended),
        exit_code: code.filter(|_| ended),
        oom_killed: state.oom_killed.unwrap_or_default(),
        error: trimmed(&state.error.unwrap_or_default()),
        image_id: image_id.filter(|id| !id.is_empty()),
        ports: if status.is_alive() { published(ports.unwrap_or_default()) } else { Vec::new() },
        outside_signal: None,
        pid: state.pid.and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid > 0 && status.is_alive()),
    }
}

fn status(state: &ContainerState) -> ContainerStatus {
    use ContainerStateStatusEnum as Wire;
    match state.status {
        Some(Wire::CREATED) => ContainerStatus::Created,
        // One that is being stopped still has its process.
        Some(Wire::RUNNING | Wire::STOPPING) => ContainerStatus::Running,
        Some(Wire::PAUSED) => ContainerStatus::Paused,
        Some(Wire::RESTARTING) => ContainerStatus::Restarting,
        Some(Wire::REMOVING) => ContainerStatus::Removing,
        Some(Wire::EXITED) => ContainerStatus::Exited,
        Some(Wire::DEAD) => ContainerStatus::Dead,
        // Engines that do not say it in a word say it in flags.
        Some(Wire::EMPTY) | None => match state {
            ContainerState { paused: Some(true), .. } => ContainerStatus::Paused,
            ContainerState { restarting: Some(true), .. } => ContainerStatus::Restarting,
            ContainerState { running: Some(true), .. } => ContainerStatus::Running,
            ContainerState { dead: Some(true), .. } => ContainerStatus::Dead,
            _ => ContainerStatus::Exited,
        },
    }
}

/// A moment as the engine writes it; its year 1 means never.
pub(super) fn moment(text: Option<&str>) -> Option<Timestamp> {
    let at = chrono::DateTime::parse_from_rfc3339(text?).ok()?.to_utc();
    (at.timestamp() > 0).then_some(at)
}

/// Ports as published. An engine lists a port once for each address family; one
/// entry is kept, that of IPv4 first.
fn published(ports: PortMap) -> Vec<PublishedPort> {
    let mut all: Vec<(PublishedPort, bool)> = ports
        .into_iter()
        .filter_map(|(inside, bindings)| Some((inside_port(&inside)?, bindings?)))
        .flat_map(|((container_port, transport), bindings)| {
            bindings.into_iter().filter_map(move |binding| {
                let host_port = binding.host_port?.parse().ok()?;
                let v6 = binding.host_ip.is_some_and(|ip| ip.contains(':'));
                Some((PublishedPort { container_port, host_port, transport }, v6))
            })
        })
        .collect();
    let has_v4: Vec<_> =
        all.iter().filter(|(_, v6)| !v6).map(|(p, _)| (p.container_port, p.transport)).collect();
    all.retain(|(port, v6)| !v6 || !has_v4.contains(&(port.container_port, port.transport)));
    let mut ports: Vec<_> = all.into_iter().map(|(port, _)| port).collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// Reads `80/tcp`.
fn inside_port(text: &str) -> Option<(u16, Transport)> {
    let (port, transport) = text.split_once('/')?;
    let transport = [Transport::Tcp, Transport::Udp].into_iter().find(|t| t.as_str() == transport)?;
    Some((port.parse().ok()?, transport))
}

/// What the engine is told to make.
///
/// No init process is put in front of the image's own: images that bring one
/// insist on being the first process, and `docker run` adds none either.
pub(super) fn create_body(assignment: &Assignment, owner: &Owner) -> ContainerCreateBody {
    let spec = &assignment.spec;
    let words = |words: &[String]| (!words.is_empty()).then(|| words.to_vec());
    ContainerCreateBody {
        hostname: Some(assignment.deployment_name.clone()),
        image: Some(spec.image.clone()),
        entrypoint: words(&spec.entrypoint),
        cmd: words(&spec.command),
        env: Some(spec.env.0.iter().map(|(name, value)| format!("{name}={value}")).collect()),
        exposed_ports: Some(spec.ports.iter().map(port_key).collect()),
        labels: Some(labels(assignment, owner)),
        // For whoever else stops it: the engine itself when it goes down.
        stop_timeout: Some(spec.stop_grace_seconds.into()),
        host_config: Some(host_config(assignment)),
        ..ContainerCreateBody::default()
    }
}

fn host_config(assignment: &Assignment) -> HostConfig {
    let limits = assignment.spec.limits;
    let memory = i64::try_from(limits.memory_bytes).unwrap_or(i64::MAX);
    let log_options = [("max-size", LOG_FILE_SIZE), ("max-file", LOG_FILES)];
    HostConfig {
        nano_cpus: Some(i64::from(limits.cpu_millis) * 1_000_000),
        memory: Some(memory),
        // Memory and swap together: as much as memory alone means no swap.
        memory_swap: Some(memory),
        pids_limit: Some(limits.pids.into()),
        port_bindings: Some(port_bindings(&assignment.spec.ports)),
        log_config: Some(HostConfigLogConfig {
            typ: Some("json-file".to_owned()),
            config: Some(log_options.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect()),
        }),
        // Who restarts is the agent, which reports it.
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            ..RestartPolicy::default()
        }),
        ..HostConfig::default()
    }
}

fn labels(assignment: &Assignment, owner: &Owner) -> HashMap<String, String> {
    HashMap::from([
        (LABEL_FLEET.to_owned(), owner.fleet.to_string()),
        (LABEL_NODE.to_owned(), owner.node.to_string()),
        (LABEL_INSTANCE.to_owned(), assignment.instance_id.to_string()),
        (LABEL_DEPLOYMENT.to_owned(), assignment.deployment_id.to_string()),
        (LABEL_REVISION.to_owned(), assignment.revision.to_string()),
    ])
}

fn port_key(port: &PortSpec) -> String {
    format!("{}/{}", port.container_port, port.transport.as_str())
}

/// An empty host port lets the engine choose.
fn port_bindings(ports: &[PortSpec]) -> PortMap {
    let mut map = PortMap::new();
    for port in ports {
        let host_port = port.host_port.map(|number| number.to_string()).unwrap_or_default();
        let binding = PortBinding { host_ip: None, host_port: Some(host_port) };
        map.entry(port_key(port)).or_default().get_or_insert_default().push(binding);
    }
    map
}

/// What it means that the engine did not make a container.
pub(super) fn create_error(failure: Failure) -> RuntimeError {
    match failure {
        Failure::Answered { status: 404, message } => {
            RuntimeError::refused(FailureReason::ImageNotFound, trimmed(&message))
        }
        Failure::Answered { status: 400, message } => {
            RuntimeError::refused(FailureReason::SpecRefused, trimmed(&message))
        }
        other => other.or_refused(FailureReason::StartFailed),
    }
}

#[cfg(test)]
mod tests {
    use domain::{deployment::InstanceSpec, id::DeploymentId, instance::Desired};
    use uuid::Uuid;

    use super::*;

    fn instance(n: u128) -> InstanceId {
        InstanceId::from_uuid(Uuid::from_u128(n))
    }

    fn owner() -> Owner {
        Owner { fleet: FleetId::from_uuid(Uuid::from_u128(1)), node: NodeId::from_uuid(Uuid::from_u128(2)) }
    }

    fn assignment() -> Assignment {
        let mut spec = InstanceSpec::of_image("app:1");
        spec.limits.cpu_millis = 250;
        spec.env.0.insert("A".into(), "b=c".into());
        spec.ports = vec![
            PortSpec { container_port: 80, host_port: None, transport: Transport::Tcp },
            PortSpec { container_port: 80, host_port: Some(8080), transport: Transport::Tcp },
        ];
        Assignment {
            instance_id: instance(7),
            deployment_id: DeploymentId::from_uuid(Uuid::nil()),
            deployment_name: "web".into(),
            revision: 3,
            spec,
            desired: Desired::Running,
            restart_generation: 0,
        }
    }

    #[test]
    fn a_container_is_made_with_its_limits_and_without_swap_or_restarts() {
        let body = create_body(&assignment(), &owner());
        let host = body.host_config.unwrap();
        assert_eq!(host.nano_cpus, Some(250_000_000));
        assert_eq!((host.memory, host.memory_swap), (Some(512 << 20), Some(512 << 20)));
        assert_eq!(host.pids_limit, Some(1024));
        assert_eq!(host.restart_policy.unwrap().name, Some(RestartPolicyNameEnum::NO));
        assert_eq!((body.hostname.as_deref(), body.entrypoint, body.cmd), (Some("web"), None, None));
        assert_eq!(body.env.unwrap(), ["A=b=c"]);
        let bindings = host.port_bindings.unwrap().remove("80/tcp").flatten().unwrap();
        let ports: Vec<_> = bindings.into_iter().map(|b| b.host_port.unwrap()).collect();
        assert_eq!(ports, ["", "8080"]);
        assert_eq!(body.labels.unwrap().len(), 5);
    }

    fn inspect(json: serde_json::Value) -> Inspected {
        Inspected::read(serde_json::from_value(json).unwrap()).unwrap()
    }

    #[test]
    fn a_running_container_is_read_with_its_ports_and_without_an_old_end() {
        let read = inspect(serde_json::json!({
            "Id": "0a1b", "Image": "sha256:1", "Name": "/x",
            "State": {
                "Status": "running", "Pid": 42, "ExitCode": 0, "Error": "",
                "StartedAt": "2026-01-02T03:04:05.123456789Z", "FinishedAt": "2026-01-01T00:00:00Z",
            },
            "Config": { "Labels": { LABEL_INSTANCE: instance(7).to_string() } },
            "NetworkSettings": { "Ports": {
                "80/tcp": [{ "HostIp": "::", "HostPort": "32769" }, { "HostIp": "0.0.0.0", "HostPort": "32768" }],
                "81/tcp": null, "9/sctp": [{ "HostIp": "0.0.0.0", "HostPort": "1" }],
            } },
        }));
        assert_eq!(read.instance_id, Some(instance(7)));
        assert!(!read.is_of(&owner()));
        let container = read.container;
        assert_eq!((container.status, container.pid), (ContainerStatus::Running, Some(42)));
        assert_eq!(container.started_at.unwrap().timestamp_subsec_nanos(), 123_456_789);
        assert_eq!((container.finished_at, container.exit_code), (None, None));
        let port = PublishedPort { container_port: 80, host_port: 32768, transport: Transport::Tcp };
        assert_eq!(container.ports, [port]);
    }

    #[test]
    fn a_container_that_never_started_has_no_times_and_no_code() {
        let container = inspect(serde_json::json!({
            "Id": "0a1b",
            "State": {
                "Status": "created", "Pid": 0, "ExitCode": 127, "Error": "exec failed:\n no such file",
                "StartedAt": "0001-01-01T00:00:00Z", "FinishedAt": "0001-01-01T00:00:00Z",
            },
        }))
        .container;
        assert_eq!(container.status, ContainerStatus::Created);
        assert_eq!((container.started_at, container.finished_at), (None, None));
        assert_eq!((container.exit_code, container.pid), (None, None));
        assert_eq!(container.error, "exec failed: no such file");
    }

    #[test]
    fn of_several_with_one_instances_label_the_named_one_wins_then_the_oldest() {
        let made = |id: &str, name: &str, created: &str| {
            inspect(serde_json::json!({
                "Id": id, "Name": name, "Created": created,
                "Config": { "Labels": { LABEL_INSTANCE: instance(7).to_string() } },
            }))
        };
        let (old, new) = ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z");
        let named = format!("/{}", container_name(instance(7)));
        let ids = |found: Vec<Inspected>| {
            one_each(found.into_iter()).into_iter().map(|i| i.container.container_id).collect::<Vec<_>>()
        };
        assert_eq!(ids(vec![made("a", "/x", old), made("b", &named, new)]), ["b"]);
        assert_eq!(ids(vec![made("a", "/x", new), made("b", "/y", old)]), ["b"]);
    }
}
