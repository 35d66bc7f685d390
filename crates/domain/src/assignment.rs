//! What a node is told: complete, or as a delta.
//!
//! A node's assignments carry one growing `revision`. A delta names the revision
//! it builds on; one that does not fit is refused whole, and the agent asks for
//! the complete set. So a lost, doubled or reordered delta can do no harm.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    deployment::InstanceSpec,
    id::{CredentialId, DeploymentId, InstanceId},
    instance::Desired,
};

/// An instance as its node is told about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// Whom.
    pub instance_id: InstanceId,
    /// Whose copy it is.
    pub deployment_id: DeploymentId,
    /// The deployment's name, for labels and the container's host name.
    pub deployment_name: String,
    /// Which revision of the deployment.
    pub revision: u32,
    /// What to run.
    pub spec: InstanceSpec,
    /// What is wanted of it.
    pub desired: Desired,
    /// Grows by one with each restart that a user asks for. The agent restarts
    /// once when it sees a number above the last one it carried out, however
    /// often it sees it.
    pub restart_generation: u32,
    /// The login for the image's registry; `None` where the controller knows none.
    /// It is no part of the revision: another login replaces no instance.
    #[serde(default)]
    pub registry_credential: Option<CredentialId>,
}

/// A node's whole share.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssignmentSet {
    /// Grows with every change; 0 is the empty set of a new node.
    pub revision: u64,
    /// By instance.
    pub assignments: BTreeMap<InstanceId, Assignment>,
}

/// A change of a node's share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssignmentDelta {
    /// The revision it builds on.
    pub base_revision: u64,
    /// The revision it leads to.
    pub revision: u64,
    /// New or changed.
    pub upserts: Vec<Assignment>,
    /// No longer this node's business. Whatever is left of them is removed.
    pub removals: Vec<InstanceId>,
}

/// What became of a set or delta that was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Applied {
    /// It was taken over.
    Yes,
    /// It is not newer than what is held. Nothing changed.
    Stale,
    /// Something before it is missing. Nothing changed; ask for the complete set.
    Gap,
}

impl AssignmentSet {
    /// Takes over a complete set. The set that a session begins with is the truth
    /// even under a lower revision: the controller may have been restored from a
    /// backup, and what it then says is what its users see.
    pub fn replace(&mut self, complete: Self) -> Applied {
        if *self == complete {
            return Applied::Stale;
        }
        *self = complete;
        Applied::Yes
    }

    /// Takes over a delta, whole or not at all.
    pub fn apply(&mut self, delta: &AssignmentDelta) -> Applied {
        if delta.revision <= self.revision {
            return Applied::Stale;
        }
        if delta.base_revision != self.revision {
            return Applied::Gap;
        }
        for id in &delta.removals {
            self.assignments.remove(id);
        }
        for assignment in &delta.upserts {
            self.assignments.insert(assignment.instance_id, assignment.clone());
        }
        self.revision = delta.revision;
        Applied::Yes
    }

    /// The delta that leads from this set to `to`.
    #[must_use]
    pub fn delta_to(&self, to: &Self) -> AssignmentDelta {
        AssignmentDelta {
            base_revision: self.revision,
            revision: to.revision,
            upserts: to
                .assignments
                .iter()
                .filter(|(id, assignment)| self.assignments.get(id) != Some(assignment))
                .map(|(_, assignment)| assignment.clone())
                .collect(),
            removals: self
                .assignments
                .keys()
                .filter(|id| !to.assignments.contains_key(id))
                .copied()
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use uuid::Uuid;

    fn assignment(id: u8, generation: u32) -> Assignment {
        Assignment {
            instance_id: InstanceId::from_uuid(Uuid::from_u128(u128::from(id))),
            deployment_id: DeploymentId::from_uuid(Uuid::nil()),
            deployment_name: "web".into(),
            revision: 1,
            spec: InstanceSpec::of_image("app:1"),
            desired: Desired::Running,
            restart_generation: generation,
            registry_credential: None,
        }
    }

    #[test]
    fn one_that_was_stored_before_there_were_credentials_reads_as_one_without() {
        let mut stored = serde_json::to_value(assignment(1, 0)).unwrap();
        stored.as_object_mut().unwrap().remove("registry_credential").unwrap();
        stored["spec"].as_object_mut().unwrap().remove("secrets").unwrap();
        assert_eq!(serde_json::from_value::<Assignment>(stored).unwrap(), assignment(1, 0));
    }

    fn history() -> impl Strategy<Value = Vec<AssignmentSet>> {
        prop::collection::vec(prop::collection::btree_map(0u8..6, 0u32..3, 0..6), 1..8).prop_map(|states| {
            let sets = states.into_iter().enumerate().map(|(n, state)| AssignmentSet {
                revision: n as u64 + 1,
                assignments: state
                    .into_iter()
                    .map(|(id, g)| assignment(id, g))
                    .map(|a| (a.instance_id, a))
                    .collect(),
            });
            std::iter::once(AssignmentSet::default()).chain(sets).collect()
        })
    }

    proptest! {
        #[test]
        fn deltas_lead_from_any_set_to_any_later_one(sets in history(), from: prop::sample::Index, to: prop::sample::Index) {
            let (a, b) = (from.index(sets.len()), to.index(sets.len()));
            let (from, to) = (&sets[a.min(b)], &sets[a.max(b)]);
            let mut held = from.clone();
            let applied = held.apply(&from.delta_to(to));
            prop_assert_eq!(applied, if a == b { Applied::Stale } else { Applied::Yes });
            prop_assert_eq!(&held, to);
        }

        #[test]
        fn doubled_lost_and_reordered_deltas_never_lead_to_a_set_that_was_not_meant(
            (sets, order) in history().prop_flat_map(|sets| {
                let n = sets.len();
                (Just(sets), prop::collection::vec(0..n.max(2) - 1, 0..24))
            }),
        ) {
            let deltas: Vec<_> = sets.windows(2).map(|w| w[0].delta_to(&w[1])).collect();
            let mut held = sets[0].clone();
            for index in order {
                if let Some(delta) = deltas.get(index) {
                    let before = held.clone();
                    if held.apply(delta) != Applied::Yes {
                        prop_assert_eq!(&before, &held);
                    }
                }
                prop_assert_eq!(&held, &sets[usize::try_from(held.revision).unwrap()]);
            }
        }
    }
}
