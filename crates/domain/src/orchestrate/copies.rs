//! The copies of one deployment, sorted by what the plan does with them.

use super::{DeploymentView, InstanceView};
use crate::{
    Timestamp,
    disconnect::has_local_volumes,
    id::{InstanceId, NodeId},
    instance::{Desired, Outcome, Phase},
    node::NodeState,
    operation::is_up,
    placement::Candidate,
};

/// The copies of one deployment. Those that are to go already are only in `going`.
pub(super) struct Copies<'a> {
    /// As the present revision wants them.
    pub(super) new: Vec<&'a InstanceView>,
    /// To give way: of another revision, or on a node that is being drained.
    pub(super) old: Vec<&'a InstanceView>,
    /// On a node that is not heard of, and to be replaced by now.
    pub(super) lost: Vec<&'a InstanceView>,
    /// Told to go and not gone yet, where that can still be heard of.
    pub(super) going: Vec<&'a InstanceView>,
    /// Nodes that are being drained.
    draining: Vec<NodeId>,
    /// Nodes that are heard of, with an engine that answers.
    heard: Vec<NodeId>,
    /// When the next one counts as lost.
    pub(super) due: Option<Timestamp>,
}

impl<'a> Copies<'a> {
    /// Sorts them. Without a moment nothing counts as lost.
    pub(super) fn sort(
        deployment: &DeploymentView,
        instances: &[&'a InstanceView],
        nodes: &[Candidate],
        now: Option<Timestamp>,
    ) -> Self {
        let draining = nodes.iter().filter(|node| node.draining).map(|node| node.id).collect();
        let is_heard = |node: &&Candidate| matches!(node.state, NodeState::Ready | NodeState::Suspect);
        let heard = nodes.iter().filter(is_heard).map(|node| node.id).collect();
        let mut copies =
            Self { new: vec![], old: vec![], lost: vec![], going: vec![], draining, heard, due: None };
        for instance in instances {
            let at = now.and_then(|_| lost_at(deployment, instance, nodes));
            let lost = at.zip(now).is_some_and(|(at, now)| at <= now);
            if !lost && instance.desired != Desired::Removed {
                copies.due = [copies.due, at].into_iter().flatten().min();
            }
            let gives_way = instance.template != deployment.template || copies.is_drained(instance);
            let list = match instance.desired {
                Desired::Removed if lost => continue,
                Desired::Removed => &mut copies.going,
                _ if lost => &mut copies.lost,
                _ if gives_way => &mut copies.old,
                _ => &mut copies.new,
            };
            list.push(instance);
        }
        copies
    }

    /// Whether it is to be moved off its node. One with data on its node stays: a copy
    /// elsewhere would not have it.
    pub(super) fn is_drained(&self, instance: &InstanceView) -> bool {
        self.draining.contains(&instance.node_id) && !has_local_volumes(&instance.spec.instance)
    }

    /// Whether somebody stands in for it already.
    pub(super) fn is_replaced(&self, id: InstanceId) -> bool {
        let mut present = self.new.iter().chain(&self.old).chain(&self.lost);
        present.any(|other| other.replaces == Some(id))
    }

    /// The one that it was put in the place of is here again.
    pub(super) fn is_stand_in(&self, instance: &InstanceView) -> bool {
        let first = |id| self.new.iter().chain(&self.old).any(|other| other.id == id);
        instance.replaces.is_some_and(first)
    }

    /// It is here again, beside the one that was put in its place.
    pub(super) fn has_stand_in(&self, instance: &InstanceView) -> bool {
        self.new.iter().chain(&self.old).any(|other| other.replaces == Some(instance.id))
    }

    /// Whether its node can be heard of.
    pub(super) fn is_heard(&self, instance: &InstanceView) -> bool {
        self.heard.contains(&instance.node_id)
    }

    /// Whether it does what is wanted of it, as far as is known now.
    pub(super) fn serves(&self, instance: &InstanceView) -> bool {
        self.is_heard(instance) && is_up(instance.desired, &instance.status)
    }
}

/// When an instance is to be replaced because its node is not heard of; `None` for
/// never, or not as things are. One that its user has stopped, or that has run to its
/// end, does nothing elsewhere either.
fn lost_at(deployment: &DeploymentView, instance: &InstanceView, nodes: &[Candidate]) -> Option<Timestamp> {
    let status = &instance.status;
    let completed = status.progress.phase == Phase::Ended
        && status.backoff_until.is_none()
        && matches!(status.outcome, Some(Outcome::Exited { code: 0, .. }));
    if instance.desired == Desired::Stopped || completed {
        return None;
    }
    let node = nodes.iter().find(|node| node.id == instance.node_id)?;
    if node.state != NodeState::Unreachable {
        return None;
    }
    deployment.spec.disconnect.replace_at(&instance.spec.instance, node.silent_since?)
}
