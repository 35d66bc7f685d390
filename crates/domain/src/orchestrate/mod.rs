//! Which instances a deployment needs more or fewer of.
//!
//! Looks at everything, each time, and says what to change; it keeps nothing
//! between calls. Carrying out its plan leaves nothing to plan until something
//! happens, so running it twice, or in a second controller, does nothing.
//!
//! Of each deployment there are copies that are as its present revision wants them,
//! copies that are to give way (of another revision, or on a node that is being
//! drained), and copies on nodes that are not heard of. How the second give way is in
//! `rolling`, what becomes of the third in `copies`, and when nothing is replaced
//! because too much was lost at once in [`loss`].

mod copies;
pub mod foresee;
pub mod loss;
mod rolling;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use self::{copies::Copies, loss::Tolerance};
use crate::{
    Timestamp,
    deployment::DeploymentSpec,
    id::{DeploymentId, InstanceId, NodeId},
    instance::{Desired, InstanceStatus},
    placement::{Candidate, Placement, Rejection},
};

/// A deployment as the plan sees it.
#[derive(Clone, Debug)]
pub struct DeploymentView {
    /// Whom.
    pub id: DeploymentId,
    /// Its present revision.
    pub revision: u32,
    /// The revision whose copies those of the present one are like.
    pub template: u32,
    /// What the present revision says.
    pub spec: Arc<DeploymentSpec>,
    /// Whether it is to go away.
    pub deleting: bool,
    /// Whether its rollout is halted: nothing gives way to anything.
    pub paused: bool,
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
    /// Of which revision.
    pub revision: u32,
    /// The revision whose copies that one's are like.
    pub template: u32,
    /// What its own revision says.
    pub spec: Arc<DeploymentSpec>,
    /// What is wanted of it now.
    pub desired: Desired,
    /// What is known of it.
    pub status: InstanceStatus,
    /// The one on a lost node that it stands in for.
    pub replaces: Option<InstanceId>,
}

/// The fleet as the plan sees it.
#[derive(Clone, Debug)]
pub struct World {
    /// All deployments that are not gone.
    pub deployments: Vec<DeploymentView>,
    /// All instances that are assigned.
    pub instances: Vec<InstanceView>,
    /// All nodes; they already count what `instances` set aside.
    pub nodes: Vec<Candidate>,
    /// When too much is lost to replace anything.
    pub tolerance: Tolerance,
    /// The present moment.
    pub now: Timestamp,
}

/// Why an instance is made or taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// There are fewer copies than there shall be.
    Lacking,
    /// There are more copies than there shall be.
    Surplus,
    /// It is, or gives way to, a copy of a new revision.
    NewRevision,
    /// It makes room for a copy of a new revision that cannot stand beside it.
    MakesRoom,
    /// The node of a copy is not heard of.
    NodeLost,
    /// The node of a copy that was replaced is back.
    NodeBack,
    /// The node of a copy is being drained.
    Drain,
    /// The deployment is to go away.
    Deleting,
}

impl Reason {
    /// The stable text used in the database and the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Lacking => "lacking",
            Self::Surplus => "surplus",
            Self::NewRevision => "new_revision",
            Self::MakesRoom => "makes_room",
            Self::NodeLost => "node_lost",
            Self::NodeBack => "node_back",
            Self::Drain => "drain",
            Self::Deleting => "deleting",
        }
    }
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
        /// Why at all.
        reason: Reason,
        /// The instance on a lost node that it stands in for.
        replaces: Option<InstanceId>,
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
        /// Why.
        reason: Reason,
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

/// What must change, and when to look again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// In the order in which they are to be carried out.
    pub changes: Vec<Change>,
    /// When a copy on a silent node is to be replaced, if nothing happens before.
    pub due: Option<Timestamp>,
    /// Copies that count as lost: others stand in for them, or shall.
    pub lost: BTreeSet<InstanceId>,
    /// Why nothing on lost nodes is replaced, where that is so.
    pub replacement_paused: Option<String>,
}

/// Whether a copy may be put in the place of this one at that moment: for asking once
/// more, of a node that may have been heard of in between.
#[must_use]
pub fn is_replaceable(
    deployment: &DeploymentView,
    instance: &InstanceView,
    silent_since: Option<Timestamp>,
    now: Timestamp,
) -> bool {
    let at =
        silent_since.and_then(|since| deployment.spec.disconnect.replace_at(&instance.spec.instance, since));
    at.is_some_and(|at| at <= now)
}

/// Says what must change.
#[must_use]
pub fn plan(world: &World) -> Plan {
    let mut nodes = world.nodes.clone();
    let replacement_paused = loss::judge(&world.nodes, &world.tolerance);
    let mut plan = Plan { replacement_paused, ..Plan::default() };
    let gone = |i: &&InstanceView| i.desired == Desired::Removed && i.status.progress.removed;
    plan.changes.extend(world.instances.iter().filter(gone).map(|i| Change::Release { instance_id: i.id }));
    let mut of: BTreeMap<DeploymentId, Vec<&InstanceView>> = BTreeMap::new();
    for instance in world.instances.iter().filter(|i| !gone(i)) {
        of.entry(instance.deployment_id).or_default().push(instance);
    }
    for deployment in &world.deployments {
        let instances = of.remove(&deployment.id).unwrap_or_default();
        if deployment.deleting {
            plan.changes.extend(deleting(deployment, &instances));
            continue;
        }
        let replaces = plan.replacement_paused.is_none();
        let copies = Copies::sort(deployment, &instances, &world.nodes, replaces.then_some(world.now));
        plan.lost.extend(copies.lost.iter().map(|i| i.id));
        plan.due = [plan.due, copies.due].into_iter().flatten().min();
        plan.changes.extend(rolling::step(deployment, &copies, &mut nodes));
    }
    plan
}

fn deleting(deployment: &DeploymentView, left: &[&InstanceView]) -> Vec<Change> {
    if left.is_empty() {
        return vec![Change::Finish { deployment_id: deployment.id }];
    }
    let kept = left.iter().filter(|i| i.desired != Desired::Removed);
    kept.map(|i| Change::Remove { instance_id: i.id, reason: Reason::Deleting }).collect()
}
