//! Containers, in the engine's words and in ours.

use std::{
    collections::{BTreeMap, HashMap, btree_map::Entry},
    net::{IpAddr, Ipv4Addr},
};

use bollard::models::{
    ContainerInspectResponse, ContainerState, ContainerStateStatusEnum, ContainerSummary,
    ContainerSummaryStateEnum, EndpointSettings, PortMap,
};
use domain::{
    Timestamp,
    deployment::Transport,
    id::{FleetId, InstanceId, NodeId},
    instance::PublishedPort,
    plan::{Container, ContainerStatus},
};

use super::{create, failure::trimmed};
use crate::runtime::{LABEL_FLEET, LABEL_INSTANCE, LABEL_NODE, RuntimeError, container_name};

/// Whose containers are ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) fleet: FleetId,
    pub(super) node: NodeId,
}

impl Owner {
    /// The labels that say whose something is.
    pub(super) fn labels(&self) -> [(String, String); 2] {
        [(LABEL_FLEET.to_owned(), self.fleet.to_string()), (LABEL_NODE.to_owned(), self.node.to_string())]
    }

    /// Label filters that let only what is ours through.
    pub(super) fn filters(&self) -> Vec<String> {
        self.labels().iter().map(|(key, value)| format!("{key}={value}")).collect()
    }
}

/// A container as inspected, with what decides whether it is ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Inspected {
    pub(super) container: Container,
    pub(super) instance_id: Option<InstanceId>,
    /// Networks that it shall join before it starts, and has not.
    pub(super) to_join: Vec<create::Attachment>,
    /// Those that it is in, and the ids that they had when it joined them.
    pub(super) networks: Vec<(create::Attachment, Option<String>)>,
    /// How many host ports the engine chooses from at each start; 0 where it does not.
    pub(super) ranged_ports: usize,
    fleet: Option<String>,
    node: Option<String>,
    name: String,
    created_at: Option<Timestamp>,
    /// The engine's ids of its places in networks, sorted.
    endpoints: Vec<String>,
}

impl Inspected {
    pub(super) fn read(response: ContainerInspectResponse) -> Result<Self, RuntimeError> {
        let container_id = response
            .id
            .filter(|id| !id.is_empty())
            .ok_or_else(|| RuntimeError::unreachable("the engine describes a container without an id"))?;
        let labels = response.config.and_then(|config| config.labels).unwrap_or_default();
        let settings = response.network_settings.unwrap_or_default();
        let joined = settings.networks.unwrap_or_default();
        let mut to_join = create::attachments(&labels);
        to_join.retain(|attachment| !joined.contains_key(&attachment.name));
        let ports = settings.ports;
        let host = response.host_config.unwrap_or_default();
        let addresses = addresses(host.network_mode.as_deref(), &joined);
        let asked = host
            .port_bindings
            .unwrap_or_default()
            .into_values()
            .flatten()
            .flatten()
            .filter_map(|binding| binding.host_port);
        let container = container(container_id, response.state, response.image, ports, addresses);
        Ok(Self {
            container,
            to_join,
            endpoints: endpoints(&joined),
            networks: joined.into_iter().map(create::Attachment::joined).collect(),
            ranged_ports: asked.filter_map(|port| range_length(&port)).max().unwrap_or(0),
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

    /// Whether a line of the engine's list shows that nothing has changed since this was
    /// inspected. It may say no of one that has not changed, and never yes of one that has.
    ///
    /// The list says nothing of when a container started, and so shows no restart by its
    /// state. But an engine makes a container's endpoints anew with each start, and
    /// gives each an id that no other has. So the same endpoints are the same run of it: the
    /// same process, ports and addresses. A container that does not run has none, nor has
    /// any on an engine that does not tell of them, as Podman does not.
    pub(super) fn is_still(&self, summary: &ContainerSummary) -> bool {
        let status = match summary.state {
            Some(ContainerSummaryStateEnum::RUNNING) => ContainerStatus::Running,
            Some(ContainerSummaryStateEnum::PAUSED) => ContainerStatus::Paused,
            _ => return false,
        };
        let networks = summary.network_settings.as_ref().and_then(|settings| settings.networks.as_ref());
        let names = summary.names.as_deref().unwrap_or_default();
        self.container.status == status
            && !self.endpoints.is_empty()
            && networks.is_some_and(|joined| endpoints(joined) == self.endpoints)
            && names.iter().any(|name| name.trim_start_matches('/') == self.name)
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
    addresses: Vec<IpAddr>,
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
        addresses: if status.is_alive() { addresses } else { Vec::new() },
    }
}

/// The ids of a container's places in networks, sorted; none unless each has one.
fn endpoints(joined: &HashMap<String, EndpointSettings>) -> Vec<String> {
    let id = |endpoint: &EndpointSettings| endpoint.endpoint_id.clone().filter(|id| !id.is_empty());
    let ids: Option<Vec<_>> = joined.values().map(id).collect();
    let mut ids = ids.unwrap_or_default();
    ids.sort_unstable();
    ids
}

/// Where the host reaches it: at its own loopback where they share a network, else
/// at the container's address in each network, by name, those of IPv4 first.
fn addresses(mode: Option<&str>, joined: &HashMap<String, EndpointSettings>) -> Vec<IpAddr> {
    if mode == Some("host") {
        return vec![Ipv4Addr::LOCALHOST.into()];
    }
    let by_name: BTreeMap<_, _> = joined.iter().collect();
    let given = |text: &Option<String>| text.as_deref().and_then(|text| text.parse::<IpAddr>().ok());
    let v4 = by_name.values().filter_map(|endpoint| given(&endpoint.ip_address));
    let v6 = by_name.values().filter_map(|endpoint| given(&endpoint.global_ipv6_address));
    v4.chain(v6).filter(|address| !address.is_unspecified()).collect()
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

/// Reads `30000-32767`.
fn range_length(text: &str) -> Option<usize> {
    let (first, last) = text.split_once('-')?;
    let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
    Some(last.checked_sub(first)?.saturating_add(1))
}

/// Reads `80/tcp`.
fn inside_port(text: &str) -> Option<(u16, Transport)> {
    let (port, transport) = text.split_once('/')?;
    let transport = [Transport::Tcp, Transport::Udp].into_iter().find(|t| t.as_str() == transport)?;
    Some((port.parse().ok()?, transport))
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn instance(n: u128) -> InstanceId {
        InstanceId::from_uuid(Uuid::from_u128(n))
    }

    fn owner() -> Owner {
        Owner { fleet: FleetId::from_uuid(Uuid::from_u128(1)), node: NodeId::from_uuid(Uuid::from_u128(2)) }
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
    fn a_container_is_reached_at_its_own_addresses_or_at_the_hosts() {
        let networks = serde_json::json!({
            "front": { "IPAddress": "172.18.0.2", "GlobalIPv6Address": "fd00::2" },
            "back": { "IPAddress": "172.17.0.3", "GlobalIPv6Address": "" },
        });
        let read = |status: &str, mode: &str| {
            inspect(serde_json::json!({
                "Id": "0a1b", "State": { "Status": status }, "HostConfig": { "NetworkMode": mode },
                "NetworkSettings": { "Networks": networks },
            }))
            .container
        };
        let all: Vec<_> = read("running", "back").addresses.iter().map(ToString::to_string).collect();
        assert_eq!(all, ["172.17.0.3", "172.18.0.2", "fd00::2"]);
        assert_eq!(read("running", "host").addresses, [IpAddr::from(Ipv4Addr::LOCALHOST)]);
        assert!(read("exited", "back").addresses.is_empty());
        let none = inspect(serde_json::json!({ "Id": "0a1b", "State": { "Status": "running" } }));
        assert_eq!(none.container.addresses.len(), 0);
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
    fn a_container_knows_the_networks_that_it_has_yet_to_join() {
        let joins = r#"[{"name":"back","aliases":["db"]},{"name":"side","aliases":[]}]"#;
        let read = inspect(serde_json::json!({
            "Id": "0a1b", "State": { "Status": "created" },
            "Config": { "Labels": { create::LABEL_NETWORKS: joins } },
            "NetworkSettings": { "Networks": { "front": {}, "side": {} } },
        }));
        assert_eq!(read.to_join.iter().map(|a| a.name.as_str()).collect::<Vec<_>>(), ["back"]);
        assert_eq!(inspect(serde_json::json!({ "Id": "0a1b" })).to_join, []);
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
