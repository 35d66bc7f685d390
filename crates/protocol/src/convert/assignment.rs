//! What a node is told.

use std::collections::{BTreeMap, btree_map::Entry};

use domain::{
    assignment::{Assignment, AssignmentDelta, AssignmentSet},
    id::InstanceId,
    instance::Desired,
};

use super::{ConvertError, Problem, each, id, inner, unknown};
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
            registry_credential: m
                .registry_credential
                .map(|text| id("registry_credential", &text))
                .transpose()?,
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
            registry_credential: assignment.registry_credential.map(|id| id.to_string()),
        }
    }
}
