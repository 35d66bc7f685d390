//! Which node takes an instance, and why not the others.
//!
//! First the nodes that cannot take it drop out, each with a reason that is kept
//! and shown; then the rest are ranked: fewest copies of the same deployment,
//! then the smallest share of memory and CPU set aside, then the lower id, so
//! that the same fleet always gives the same answer.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{
    Timestamp,
    deployment::{DeploymentSpec, Reservation, Transport},
    id::{DeploymentId, NodeId},
    name::Labels,
    node::NodeState,
};

/// A node as placement sees it. Changes as a plan puts instances onto it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Whom.
    pub id: NodeId,
    /// For explanations.
    pub name: String,
    /// Only a ready node takes anything.
    pub state: NodeState,
    /// Since when it stands like that.
    pub state_since: Timestamp,
    /// Since when nothing was heard of it; only where that is certain.
    pub silent_since: Option<Timestamp>,
    /// Set by an operator: takes nothing new.
    pub cordoned: bool,
    /// Its instances are to be moved elsewhere.
    pub draining: bool,
    /// Matched by constraints.
    pub labels: Labels,
    /// The host's CPUs, in thousandths.
    pub cpu_millis: u64,
    /// The host's memory.
    pub memory_bytes: u64,
    /// Set aside already.
    pub reserved_cpu_millis: u64,
    /// Set aside already.
    pub reserved_memory_bytes: u64,
    /// Whether its engine keeps containers within their storage limit.
    pub storage_enforced: bool,
    /// Host ports that instances on it have fixed.
    pub host_ports: BTreeSet<(Transport, u16)>,
    /// How many instances of each deployment it holds, one entry per instance.
    pub deployments: Vec<DeploymentId>,
}

/// Why one node does not qualify.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejection {
    /// Which node, by name.
    pub node: String,
    /// One clause that fits after 'because'.
    pub reason: String,
}

/// Why an instance is where it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// The chosen node.
    pub node_id: NodeId,
    /// What spoke for it.
    pub reason: String,
    /// The nodes that did not qualify.
    pub rejected: Vec<Rejection>,
}

impl Candidate {
    fn rejection(&self, spec: &DeploymentSpec) -> Option<String> {
        if self.state != NodeState::Ready {
            return Some(format!("it is {}", self.state.as_str()));
        }
        if self.draining {
            return Some("it is being drained".to_owned());
        }
        if self.cordoned {
            return Some("it is cordoned".to_owned());
        }
        if let Some((key, value)) = spec.constraints.iter().find(|(k, v)| self.labels.get(*k) != Some(v)) {
            return Some(match self.labels.get(key) {
                Some(has) => format!("its label {key} is {has:?}, not {value:?}"),
                None => format!("it has no label {key}"),
            });
        }
        if let Some(reason) = self.secret_rejection(spec) {
            return Some(reason);
        }
        let Reservation { cpu_millis, memory_bytes } = spec.reservation;
        let free_cpu = self.cpu_millis.saturating_sub(self.reserved_cpu_millis);
        if free_cpu < u64::from(cpu_millis) {
            return Some(format!("{cpu_millis} CPU millis are asked for and {free_cpu} are free"));
        }
        let free_memory = self.memory_bytes.saturating_sub(self.reserved_memory_bytes);
        if free_memory < memory_bytes {
            return Some(format!("{memory_bytes} bytes of memory are asked for and {free_memory} are free"));
        }
        if spec.storage_enforced && !self.storage_enforced {
            return Some("its engine does not enforce storage limits".to_owned());
        }
        let taken = spec.instance.fixed_host_ports().find(|port| self.host_ports.contains(port));
        taken.map(|(transport, port)| format!("host port {port}/{} is taken", transport.as_str()))
    }

    /// Whether a credential that is used is not for this node.
    fn secret_rejection(&self, spec: &DeploymentSpec) -> Option<String> {
        spec.instance.secrets.iter().find_map(|used| {
            let wanted = &used.resolved.as_ref()?.node_labels;
            let (key, value) = wanted.iter().find(|(key, value)| self.labels.get(*key) != Some(value))?;
            let credential = &used.credential;
            Some(format!("credential {credential} is only for nodes with the label {key}={value:?}"))
        })
    }

    fn copies(&self, deployment: DeploymentId) -> usize {
        self.deployments.iter().filter(|id| **id == deployment).count()
    }

    /// The larger of the shares of CPU and memory set aside, in parts per million.
    fn load(&self) -> u64 {
        let share =
            |part: u64, whole: u64| part.saturating_mul(1_000_000).checked_div(whole).unwrap_or(u64::MAX);
        share(self.reserved_cpu_millis, self.cpu_millis)
            .max(share(self.reserved_memory_bytes, self.memory_bytes))
    }

    /// Sets aside what one instance of `spec` needs.
    pub fn take(&mut self, deployment: DeploymentId, spec: &DeploymentSpec) {
        self.reserved_cpu_millis += u64::from(spec.reservation.cpu_millis);
        self.reserved_memory_bytes += spec.reservation.memory_bytes;
        self.host_ports.extend(spec.instance.fixed_host_ports());
        self.deployments.push(deployment);
    }

    /// Takes back what [`Candidate::take`] set aside, as if the instance were gone.
    pub fn give_back(&mut self, deployment: DeploymentId, spec: &DeploymentSpec) {
        self.reserved_cpu_millis =
            self.reserved_cpu_millis.saturating_sub(u64::from(spec.reservation.cpu_millis));
        self.reserved_memory_bytes = self.reserved_memory_bytes.saturating_sub(spec.reservation.memory_bytes);
        for port in spec.instance.fixed_host_ports() {
            self.host_ports.remove(&port);
        }
        if let Some(index) = self.deployments.iter().position(|id| *id == deployment) {
            self.deployments.swap_remove(index);
        }
    }

    /// Whether it could take an instance of `spec` now.
    #[must_use]
    pub fn takes(&self, spec: &DeploymentSpec) -> bool {
        self.rejection(spec).is_none()
    }
}

/// Chooses a node for one instance and sets its share aside there.
///
/// # Errors
/// With the reason of every node when none qualifies; empty when there are no nodes.
pub fn place(
    deployment: DeploymentId,
    spec: &DeploymentSpec,
    nodes: &mut [Candidate],
) -> Result<Placement, Vec<Rejection>> {
    let mut rejected = Vec::new();
    let mut best: Option<(usize, (usize, u64, NodeId))> = None;
    for (index, node) in nodes.iter().enumerate() {
        if let Some(reason) = node.rejection(spec) {
            rejected.push(Rejection { node: node.name.clone(), reason });
            continue;
        }
        let rank = (node.copies(deployment), node.load(), node.id);
        if best.is_none_or(|(_, least)| rank < least) {
            best = Some((index, rank));
        }
    }
    match best.and_then(|(index, rank)| nodes.get_mut(index).map(|node| (node, rank))) {
        Some((node, (copies, load, node_id))) => {
            node.take(deployment, spec);
            let reason = format!(
                "{copies} copies of it were there, and {}.{} % of the node was set aside",
                load / 10_000,
                load / 1000 % 10
            );
            Ok(Placement { node_id, reason, rejected })
        }
        None => Err(rejected),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::deployment::{InstanceSpec, PortSpec};
    use proptest::prelude::*;
    use uuid::Uuid;

    pub(crate) fn candidate(id: u8, cpu_millis: u64, memory_bytes: u64) -> Candidate {
        Candidate {
            id: NodeId::from_uuid(Uuid::from_u128(u128::from(id))),
            name: format!("n{id}"),
            state: NodeState::Ready,
            state_since: Timestamp::UNIX_EPOCH,
            silent_since: None,
            cordoned: false,
            draining: false,
            labels: Labels::new(),
            cpu_millis,
            memory_bytes,
            reserved_cpu_millis: 0,
            reserved_memory_bytes: 0,
            storage_enforced: false,
            host_ports: BTreeSet::new(),
            deployments: Vec::new(),
        }
    }

    pub(crate) fn spec(cpu_millis: u32, memory_bytes: u64) -> DeploymentSpec {
        DeploymentSpec {
            reservation: Reservation { cpu_millis, memory_bytes },
            ..DeploymentSpec::of_instance(InstanceSpec::of_image("app:1"))
        }
    }

    fn deployment(id: u8) -> DeploymentId {
        DeploymentId::from_uuid(Uuid::from_u128(u128::from(id)))
    }

    #[test]
    fn a_node_that_a_credential_is_not_for_takes_nothing_that_uses_it_and_says_so() {
        use crate::{
            id::CredentialId,
            name::Name,
            spec::{Resolved, SecretTarget, SecretUse},
        };
        let mut wanted = spec(100, 100);
        let node_labels = [("zone".to_owned(), "vault".to_owned())].into();
        let resolved =
            Resolved { credential_id: CredentialId::from_uuid(Uuid::nil()), version: 1, node_labels };
        let target = SecretTarget::file("/run/db");
        let used = SecretUse::new(Name::parse("db").unwrap(), target);
        wanted.instance.secrets = vec![SecretUse { resolved: Some(resolved), ..used }];
        let mut nodes = [candidate(1, 1000, 1000), candidate(2, 1000, 1000)];
        nodes[1].labels.insert("zone".into(), "vault".into());
        let placed = place(DeploymentId::from_uuid(Uuid::nil()), &wanted, &mut nodes).unwrap();
        assert_eq!(placed.node_id, nodes[1].id);
        let reason = "credential db is only for nodes with the label zone=\"vault\"";
        assert_eq!(placed.rejected, [Rejection { node: "n1".into(), reason: reason.into() }]);
    }

    #[test]
    fn copies_of_one_deployment_spread_before_anything_else() {
        let mut nodes = [candidate(1, 1000, 1000), candidate(2, 1000, 1000), candidate(3, 1000, 1000)];
        nodes[0].reserved_cpu_millis = 500;
        let mut got: Vec<_> =
            (0..3).map(|_| place(deployment(1), &spec(10, 10), &mut nodes).unwrap().node_id).collect();
        got.sort();
        assert_eq!(got, nodes.iter().map(|n| n.id).collect::<Vec<_>>());
    }

    #[test]
    fn every_node_that_does_not_qualify_says_why() {
        let mut nodes = [
            candidate(1, 1000, 1000),
            candidate(2, 5, 1000),
            candidate(3, 1000, 5),
            candidate(4, 1000, 1000),
            candidate(5, 1000, 1000),
            candidate(6, 1000, 1000),
        ];
        nodes[0].state = NodeState::EngineUnreachable;
        nodes[3].cordoned = true;
        nodes[4].host_ports.insert((Transport::Tcp, 80));
        let mut spec = spec(10, 10);
        spec.instance.ports =
            vec![PortSpec { container_port: 80, host_port: Some(80), transport: Transport::Tcp }];
        nodes[5].labels.insert("zone".into(), "a".into());
        spec.constraints.insert("zone".into(), "b".into());
        let without_zone: Vec<_> = place(
            deployment(1),
            &DeploymentSpec { constraints: Labels::new(), ..spec.clone() },
            &mut nodes.clone(),
        )
        .unwrap()
        .rejected
        .into_iter()
        .map(|r| r.reason)
        .collect();
        assert_eq!(
            without_zone,
            [
                "it is engine_unreachable",
                "10 CPU millis are asked for and 5 are free",
                "10 bytes of memory are asked for and 5 are free",
                "it is cordoned",
                "host port 80/tcp is taken",
            ]
        );
        let reasons = place(deployment(1), &spec, &mut nodes).unwrap_err();
        assert_eq!(reasons.len(), 6);
        assert_eq!(reasons[5].reason, "its label zone is \"a\", not \"b\"");
        assert_eq!(reasons[2].reason, "it has no label zone");
    }

    proptest! {
        #[test]
        fn placement_never_exceeds_capacity_and_never_shares_a_fixed_port(
            sizes in prop::collection::vec((0u64..2000, 0u64..2000), 0..5),
            wants in prop::collection::vec((0u32..500, 0u64..500, prop::option::of(1u16..4)), 0..40),
        ) {
            let mut nodes: Vec<_> = sizes.iter().enumerate().map(|(n, (cpu, memory))| candidate(n as u8, *cpu, *memory)).collect();
            let mut ports = BTreeSet::new();
            for (n, (cpu, memory, port)) in wants.into_iter().enumerate() {
                let mut spec = spec(cpu, memory);
                spec.instance.ports = port.map(|host| PortSpec { container_port: 1, host_port: Some(host), transport: Transport::Tcp }).into_iter().collect();
                let room = nodes.iter().any(|node| node.rejection(&spec).is_none());
                let placed = place(deployment(n as u8 % 3), &spec, &mut nodes);
                prop_assert_eq!(room, placed.is_ok());
                if let (Ok(placed), Some(port)) = (placed, port) {
                    prop_assert!(ports.insert((placed.node_id, port)));
                }
            }
            for node in &nodes {
                prop_assert!(node.reserved_cpu_millis <= node.cpu_millis && node.reserved_memory_bytes <= node.memory_bytes);
            }
        }
    }
}
