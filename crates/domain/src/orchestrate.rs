//! Which instances a deployment needs more or fewer of.
//!
//! Looks at everything, each time, and says what to change; it keeps nothing
//! between calls. Carrying out its plan leaves nothing to plan, so running it
//! twice, or in a second controller, does nothing.

use crate::{
    deployment::DeploymentSpec,
    id::{DeploymentId, InstanceId, NodeId},
    instance::{Desired, InstanceStatus, Phase},
    placement::{self, Candidate, Placement, Rejection},
};

/// A deployment as the plan sees it.
#[derive(Clone, Debug)]
pub struct DeploymentView {
    /// Whom.
    pub id: DeploymentId,
    /// Its present revision.
    pub revision: u32,
    /// What that says.
    pub spec: DeploymentSpec,
    /// Whether it is to go away.
    pub deleting: bool,
}

/// An instance as the plan sees it. Those that are gone for good are left out.
#[derive(Clone, Debug)]
pub struct InstanceView {
    /// Whom.
    pub id: InstanceId,
    /// Whose.
    pub deployment_id: DeploymentId,
    /// Where.
    pub node_id: NodeId,
    /// What is wanted of it now.
    pub desired: Desired,
    /// What is known of it.
    pub status: InstanceStatus,
}

/// One thing to change in the desired state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Make one more instance.
    Place {
        /// Of which deployment.
        deployment_id: DeploymentId,
        /// Of which revision.
        revision: u32,
        /// Where, and why there.
        placement: Placement,
    },
    /// There is no room for one or more instances.
    Pend {
        /// Of which deployment.
        deployment_id: DeploymentId,
        /// How many lack.
        lacking: u32,
        /// Why, node by node.
        rejected: Vec<Rejection>,
    },
    /// Take one away.
    Remove {
        /// Which.
        instance_id: InstanceId,
    },
    /// Its node says that nothing of it is left: take it off the node's assignments.
    Release {
        /// Which.
        instance_id: InstanceId,
    },
    /// Nothing of a deleted deployment is left.
    Finish {
        /// Which.
        deployment_id: DeploymentId,
    },
}

/// Says what must change. `candidates` must already count what `instances` set aside.
#[must_use]
pub fn plan(
    deployments: &[DeploymentView],
    instances: &[InstanceView],
    mut candidates: Vec<Candidate>,
) -> Vec<Change> {
    let mut changes: Vec<Change> = instances
        .iter()
        .filter(|instance| instance.desired == Desired::Removed && instance.status.progress.removed)
        .map(|instance| Change::Release { instance_id: instance.id })
        .collect();
    for deployment in deployments {
        let of_it = || instances.iter().filter(|instance| instance.deployment_id == deployment.id);
        let kept: Vec<_> = of_it().filter(|instance| instance.desired != Desired::Removed).collect();
        let wanted = if deployment.deleting { 0 } else { deployment.spec.replicas as usize };
        if deployment.deleting
            && of_it()
                .all(|instance| instance.desired == Desired::Removed && instance.status.progress.removed)
        {
            changes.push(Change::Finish { deployment_id: deployment.id });
        }
        changes.extend(surplus(&kept, wanted));
        changes.extend(shortage(deployment, wanted.saturating_sub(kept.len()), &mut candidates));
    }
    changes
}

/// The least useful go first: those that do not run, then the youngest.
fn surplus(kept: &[&InstanceView], wanted: usize) -> Vec<Change> {
    let mut by_use: Vec<_> = kept.iter().map(|i| (i.status.progress.phase != Phase::Running, i.id)).collect();
    by_use.sort_unstable_by(|a, b| b.cmp(a));
    let too_many = kept.len().saturating_sub(wanted);
    by_use.into_iter().take(too_many).map(|(_, instance_id)| Change::Remove { instance_id }).collect()
}

fn shortage(deployment: &DeploymentView, lacking: usize, candidates: &mut [Candidate]) -> Vec<Change> {
    let mut changes = Vec::new();
    for done in 0..lacking {
        match placement::place(deployment.id, &deployment.spec, candidates) {
            Ok(placement) => changes.push(Change::Place {
                deployment_id: deployment.id,
                revision: deployment.revision,
                placement,
            }),
            Err(rejected) => {
                let lacking = u32::try_from(lacking - done).unwrap_or(u32::MAX);
                changes.push(Change::Pend { deployment_id: deployment.id, lacking, rejected });
                break;
            }
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        instance::Progress,
        placement::tests::{candidate, spec},
    };
    use proptest::prelude::*;
    use uuid::Uuid;

    fn deployment(id: u8, replicas: u32, deleting: bool) -> DeploymentView {
        DeploymentView {
            id: DeploymentId::from_uuid(Uuid::from_u128(u128::from(id))),
            revision: 1,
            spec: DeploymentSpec { replicas, ..spec(100, 100) },
            deleting,
        }
    }

    /// Carries a plan out as the store and the agents would, with every removal done at once.
    fn carry_out(
        deployments: &mut Vec<DeploymentView>,
        instances: &mut Vec<InstanceView>,
        changes: Vec<Change>,
        next: &mut u128,
    ) {
        for change in changes {
            match change {
                Change::Place { deployment_id, placement, .. } => {
                    *next += 1;
                    instances.push(InstanceView {
                        id: InstanceId::from_uuid(Uuid::from_u128(*next)),
                        deployment_id,
                        node_id: placement.node_id,
                        desired: Desired::Running,
                        status: InstanceStatus::FIRST,
                    });
                }
                Change::Pend { .. } => {}
                Change::Remove { instance_id } => {
                    let instance = instances.iter_mut().find(|i| i.id == instance_id).unwrap();
                    instance.desired = Desired::Removed;
                    instance.status.progress = Progress { attempt: 1, phase: Phase::Ended, removed: true };
                }
                Change::Release { instance_id } => instances.retain(|i| i.id != instance_id),
                Change::Finish { deployment_id } => deployments.retain(|d| d.id != deployment_id),
            }
        }
    }

    fn candidates(sizes: &[u64], instances: &[InstanceView]) -> Vec<Candidate> {
        let mut nodes: Vec<_> =
            sizes.iter().enumerate().map(|(n, size)| candidate(n as u8, *size, *size)).collect();
        for instance in instances {
            nodes
                .iter_mut()
                .find(|n| n.id == instance.node_id)
                .unwrap()
                .take(instance.deployment_id, &spec(100, 100));
        }
        nodes
    }

    proptest! {
        #[test]
        fn carrying_out_a_plan_leaves_nothing_to_plan(
            rounds in prop::collection::vec(prop::collection::vec((0u32..6, any::<bool>()), 3), 1..5),
            sizes in prop::collection::vec(0u64..600, 0..4),
        ) {
            let (mut instances, mut next) = (Vec::new(), 0);
            for round in rounds {
                let mut deployments: Vec<_> = round.iter().enumerate().map(|(n, (replicas, deleting))| deployment(n as u8, *replicas, *deleting)).collect();
                for _ in 0..3 {
                    let changes = plan(&deployments, &instances, candidates(&sizes, &instances));
                    carry_out(&mut deployments, &mut instances, changes, &mut next);
                }
                let left = plan(&deployments, &instances, candidates(&sizes, &instances));
                prop_assert!(left.iter().all(|c| matches!(c, Change::Pend { .. })), "{left:?}");
                for deployment in &deployments {
                    let have = instances.iter().filter(|i| i.deployment_id == deployment.id).count();
                    prop_assert!(have <= deployment.spec.replicas as usize);
                }
            }
        }
    }

    #[test]
    fn an_instance_that_runs_is_kept_before_one_that_does_not() {
        let deployment = deployment(1, 1, false);
        let mut instances: Vec<_> = [1u128, 2]
            .map(|id| InstanceView {
                id: InstanceId::from_uuid(Uuid::from_u128(id)),
                deployment_id: deployment.id,
                node_id: NodeId::from_uuid(Uuid::nil()),
                desired: Desired::Running,
                status: InstanceStatus::FIRST,
            })
            .to_vec();
        instances[1].status.progress.phase = Phase::Running;
        let changes = plan(&[deployment], &instances, Vec::new());
        assert_eq!(changes, [Change::Remove { instance_id: instances[0].id }]);
    }
}
