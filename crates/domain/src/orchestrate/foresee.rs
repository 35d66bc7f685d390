//! What would become of one deployment, if all went well.
//!
//! Plans and carries out in mind, again and again, as if each new copy were healthy at
//! once and each old one gone. It is the same plan that is carried out in earnest, so
//! what it says is what happens, unless something else happens first.

use super::{Change, InstanceView, Reason, World, plan};
use crate::{
    id::{DeploymentId, InstanceId},
    instance::{Desired, Health, InstanceStatus, Phase, Progress},
    placement::{Placement, Rejection},
};

/// A copy that would be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// Where, and why there.
    pub placement: Placement,
    /// Why at all.
    pub reason: Reason,
}

/// What would become of a deployment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Foreseen {
    /// Copies that would be made, in this order.
    pub made: Vec<Made>,
    /// Copies that would be taken away, in this order, and why.
    pub removed: Vec<(InstanceId, Reason)>,
    /// Copies that would stay as they are.
    pub left: Vec<InstanceId>,
    /// How many would wait for a node, and why each node takes none.
    pub pending: Option<(u32, Vec<Rejection>)>,
}

/// Says what would become of one deployment. `ids` gives ids to copies that are made
/// only in mind; they must be new.
#[must_use]
pub fn foresee(mut world: World, of: DeploymentId, mut ids: impl FnMut() -> InstanceId) -> Foreseen {
    let mut foreseen = Foreseen::default();
    let before: Vec<InstanceId> = kept(&world, of);
    world.deployments.retain(|deployment| deployment.id == of);
    let replicas = world.deployments.iter().map(|d| d.spec.replicas as usize).sum::<usize>();
    // Each round makes or takes away one copy at least, or is the last.
    for _ in 0..=2 * (replicas + before.len()) + 2 {
        let changes = plan(&world).changes;
        foreseen.pending = None;
        let mut more = false;
        for change in changes {
            match change {
                Change::Place { revision, placement, reason, replaces, .. } => {
                    make(&mut world, of, (revision, &placement, replaces), ids());
                    foreseen.made.push(Made { placement, reason });
                    more = true;
                }
                Change::Remove { instance_id, reason } => {
                    take_away(&mut world, instance_id);
                    if before.contains(&instance_id) {
                        foreseen.removed.push((instance_id, reason));
                    }
                    more = true;
                }
                Change::Pend { lacking, rejected, .. } => foreseen.pending = Some((lacking, rejected)),
                Change::Release { .. } | Change::Finish { .. } => {}
            }
        }
        if !more {
            break;
        }
    }
    let gone = |id: &InstanceId| foreseen.removed.iter().any(|(removed, _)| removed == id);
    foreseen.left = before.into_iter().filter(|id| !gone(id)).collect();
    foreseen
}

fn kept(world: &World, of: DeploymentId) -> Vec<InstanceId> {
    let own = |i: &&InstanceView| i.deployment_id == of && i.desired != Desired::Removed;
    world.instances.iter().filter(own).map(|i| i.id).collect()
}

fn make(
    world: &mut World,
    of: DeploymentId,
    (revision, placement, replaces): (u32, &Placement, Option<InstanceId>),
    id: InstanceId,
) {
    let Some(deployment) = world.deployments.iter().find(|deployment| deployment.id == of) else { return };
    let like = world.instances.iter().find(|i| i.deployment_id == of && i.revision == revision);
    let (spec, template) = match like {
        Some(like) if revision != deployment.revision => (like.spec.clone(), like.template),
        _ => (deployment.spec.clone(), deployment.template),
    };
    if let Some(node) = world.nodes.iter_mut().find(|node| node.id == placement.node_id) {
        node.take(of, &spec);
    }
    world.instances.push(InstanceView {
        id,
        deployment_id: of,
        node_id: placement.node_id,
        revision,
        template,
        spec,
        desired: Desired::Running,
        status: InstanceStatus {
            progress: Progress { attempt: 1, phase: Phase::Running, removed: false },
            health: Health::Healthy,
            ..InstanceStatus::FIRST
        },
        replaces,
    });
}

fn take_away(world: &mut World, id: InstanceId) {
    let Some(index) = world.instances.iter().position(|instance| instance.id == id) else { return };
    let gone = world.instances.swap_remove(index);
    if let Some(node) = world.nodes.iter_mut().find(|node| node.id == gone.node_id) {
        node.give_back(gone.deployment_id, &gone.spec);
    }
}
