//! What a node is told.

use std::collections::{BTreeMap, btree_map::Entry};

use domain::{
    assignment::{Assignment, AssignmentDelta, AssignmentSet},
    deployment::{Env, InstanceSpec, Limits, PortSpec, PullPolicy, RestartPolicy, Transport},
    id::InstanceId,
    instance::Desired,
};

use super::{ConvertError, Problem, each, id, inner, port, required, unknown};
use crate::proto;

impl TryFrom<proto::CompleteAssignments> for AssignmentSet {
    type Error = ConvertError;

    fn try_from(m: proto::CompleteAssignments) -> Result<Self, ConvertError> {
        let mut assignments = BTreeMap::new();
        for (index, assignment) in
            each::<_, Assignment>("assignments", m.assignments)?.into_iter().enumerate()
        {
            match assignments.entry(assignment.instance_id) {
                Entry::Vacant(place) => drop(place.insert(assignment)),
                Entry::Occupied(_) => {
                    let field = format!("assignments[{index}].instance_id");
                    return Err(ConvertError::new(field, Problem::Duplicate));
                }
            }
        }
        Ok(Self { revision: m.revision, assignments })
    }
}

impl From<&AssignmentSet> for proto::CompleteAssignments {
    fn from(set: &AssignmentSet) -> Self {
        Self { revision: set.revision, assignments: set.assignments.values().map(Into::into).collect() }
    }
}

impl TryFrom<proto::AssignmentDelta> for AssignmentDelta {
    type Error = ConvertError;

    fn try_from(m: proto::AssignmentDelta) -> Result<Self, ConvertError> {
        let removal = |(index, text): (usize, &String)| id(&format!("removals[{index}]"), text);
        Ok(Self {
            base_revision: m.base_revision,
            revision: m.revision,
            upserts: each("upserts", m.upserts)?,
            removals: m.removals.iter().enumerate().map(removal).collect::<Result<Vec<InstanceId>, _>>()?,
        })
    }
}

impl From<&AssignmentDelta> for proto::AssignmentDelta {
    fn from(delta: &AssignmentDelta) -> Self {
        Self {
            base_revision: delta.base_revision,
            revision: delta.revision,
            upserts: delta.upserts.iter().map(Into::into).collect(),
            removals: delta.removals.iter().map(ToString::to_string).collect(),
        }
    }
}

impl TryFrom<proto::Assignment> for Assignment {
    type Error = ConvertError;

    fn try_from(m: proto::Assignment) -> Result<Self, ConvertError> {
        Ok(Self {
            instance_id: id("instance_id", &m.instance_id)?,
            deployment_id: id("deployment_id", &m.deployment_id)?,
            deployment_name: m.deployment_name,
            revision: m.revision,
            spec: inner("spec", m.spec)?,
            desired: match proto::Desired::try_from(m.desired) {
                Ok(proto::Desired::Running) => Desired::Running,
                Ok(proto::Desired::Stopped) => Desired::Stopped,
                Ok(proto::Desired::Removed) => Desired::Removed,
                Ok(proto::Desired::Unspecified) | Err(_) => return Err(unknown("desired", m.desired)),
            },
            restart_generation: m.restart_generation,
        })
    }
}

impl From<&Assignment> for proto::Assignment {
    fn from(assignment: &Assignment) -> Self {
        let desired = match assignment.desired {
            Desired::Running => proto::Desired::Running,
            Desired::Stopped => proto::Desired::Stopped,
            Desired::Removed => proto::Desired::Removed,
        };
        Self {
            instance_id: assignment.instance_id.to_string(),
            deployment_id: assignment.deployment_id.to_string(),
            deployment_name: assignment.deployment_name.clone(),
            revision: assignment.revision,
            spec: Some((&assignment.spec).into()),
            desired: desired.into(),
            restart_generation: assignment.restart_generation,
        }
    }
}

impl TryFrom<proto::InstanceSpec> for InstanceSpec {
    type Error = ConvertError;

    fn try_from(m: proto::InstanceSpec) -> Result<Self, ConvertError> {
        let limits = required("limits", m.limits)?;
        Ok(Self {
            image: m.image,
            entrypoint: m.entrypoint,
            command: m.command,
            env: Env(m.env),
            ports: each("ports", m.ports)?,
            limits: Limits {
                cpu_millis: limits.cpu_millis,
                memory_bytes: limits.memory_bytes,
                pids: limits.pids,
            },
            restart: inner("restart", m.restart)?,
            pull: match proto::PullPolicy::try_from(m.pull) {
                Ok(proto::PullPolicy::Always) => PullPolicy::Always,
                Ok(proto::PullPolicy::Missing) => PullPolicy::Missing,
                Ok(proto::PullPolicy::Never) => PullPolicy::Never,
                Ok(proto::PullPolicy::Unspecified) | Err(_) => return Err(unknown("pull", m.pull)),
            },
            stop_grace_seconds: m.stop_grace_seconds,
            min_healthy_seconds: m.min_healthy_seconds,
        })
    }
}

impl From<&InstanceSpec> for proto::InstanceSpec {
    fn from(spec: &InstanceSpec) -> Self {
        let Limits { cpu_millis, memory_bytes, pids } = spec.limits;
        let pull = match spec.pull {
            PullPolicy::Always => proto::PullPolicy::Always,
            PullPolicy::Missing => proto::PullPolicy::Missing,
            PullPolicy::Never => proto::PullPolicy::Never,
        };
        Self {
            image: spec.image.clone(),
            entrypoint: spec.entrypoint.clone(),
            command: spec.command.clone(),
            env: spec.env.0.clone(),
            ports: spec.ports.iter().map(Into::into).collect(),
            limits: Some(proto::Limits { cpu_millis, memory_bytes, pids }),
            restart: Some(spec.restart.into()),
            pull: pull.into(),
            stop_grace_seconds: spec.stop_grace_seconds,
            min_healthy_seconds: spec.min_healthy_seconds,
        }
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
