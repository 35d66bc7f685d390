//! One step of one deployment towards its present revision.
//!
//! Start-first: a new copy comes while there are fewer than `replicas + max_surge`, and
//! an old one goes when a new one is healthy in its place. Stop-first, where a new copy
//! cannot come beside the old ones: an old one goes first, as long as no more than
//! `max_unavailable` of the replicas are then missing.
//!
//! What is missing is what neither an old copy nor a healthy new one stands for, so a
//! new copy that does not come up stops the rollout by itself.

use super::{Change, DeploymentView, InstanceView, Reason, copies::Copies};
use crate::{
    deployment::DeploymentSpec,
    disconnect::Keep,
    id::{InstanceId, NodeId},
    placement::{self, Candidate, Rejection},
    update::Strategy,
};

/// Says what to change about one deployment that is to stay.
pub(super) fn step(deployment: &DeploymentView, copies: &Copies<'_>, nodes: &mut [Candidate]) -> Vec<Change> {
    let mut step = Step { deployment, copies, nodes, changes: Vec::new(), stands_in: Vec::new() };
    let recreate = deployment.spec.update.strategy == Strategy::Recreate;
    if deployment.paused {
        step.hold();
    } else if recreate && step.old_is_left() {
        step.remove(&copies.old, Reason::NewRevision);
        let lost: Vec<_> = copies.lost.iter().copied().filter(|i| !step.is_current(i)).collect();
        step.remove(&lost, Reason::NewRevision);
    } else {
        step.roll();
    }
    step.changes
}

struct Step<'a, 'n> {
    deployment: &'a DeploymentView,
    copies: &'a Copies<'a>,
    nodes: &'n mut [Candidate],
    changes: Vec<Change>,
    /// Lost ones that this step has put another in the place of.
    stands_in: Vec<InstanceId>,
}

impl<'a> Step<'a, '_> {
    fn wanted(&self) -> usize {
        self.deployment.spec.replicas as usize
    }

    fn is_current(&self, instance: &InstanceView) -> bool {
        instance.template == self.deployment.template
    }

    /// Whether an old copy is still there, or only on its way out.
    fn old_is_left(&self) -> bool {
        let going = |i: &&&InstanceView| !self.is_current(i) || self.copies.is_drained(i);
        !self.copies.old.is_empty() || self.copies.going.iter().any(|i| going(&i))
    }

    fn remove(&mut self, which: &[&InstanceView], reason: Reason) {
        for instance in which {
            let drained = reason == Reason::NewRevision && self.is_current(instance);
            let reason = if drained { Reason::Drain } else { reason };
            self.changes.push(Change::Remove { instance_id: instance.id, reason });
        }
    }

    /// A rollout that goes on, or a deployment at rest.
    fn roll(&mut self) {
        let Copies { new, old, lost, .. } = self.copies;
        let surplus = new.len().saturating_sub(self.wanted());
        self.remove_surplus(new, surplus);
        let most = self.wanted() + self.surge();
        let (mut count, mut stuck) = (new.len(), None);
        while count < self.wanted() && count + old.len() < most {
            let reason = if old.is_empty() { Reason::Lacking } else { self.reason_for_new() };
            match self.place(&self.deployment.spec.clone(), self.deployment.revision, reason) {
                Ok(()) => count += 1,
                Err(rejected) => {
                    stuck = Some(rejected);
                    break;
                }
            }
        }
        let fenced_off = count + old.len() >= self.wanted();
        let up = new.iter().filter(|i| self.copies.serves(i)).count();
        let given_way = self.give_way(up);
        let kept: Vec<_> = old.iter().copied().filter(|i| !given_way.contains(&i.id)).collect();
        let blocked = stuck.is_some() || (count < self.wanted() && self.surge() == 0);
        let made_room = blocked && self.make_room(&kept, up, stuck.is_some());
        if fenced_off {
            let fenced: Vec<_> = lost.iter().copied().filter(|i| is_fenced(i)).collect();
            let left: Vec<_> = fenced.into_iter().filter(|i| !self.is_told_to_go(i.id)).collect();
            self.remove(&left, Reason::NodeLost);
        }
        let room_comes = |i: &&InstanceView| self.copies.is_heard(i) && self.would_take_without(i);
        let comes = made_room || self.copies.going.iter().any(room_comes);
        if let Some(rejected) = stuck.filter(|_| !comes) {
            self.pend(self.wanted() - count, rejected);
        }
    }

    /// A rollout that is halted: copies are neither taken away for others nor made of
    /// the new revision while old ones serve, and what is lost is replaced as it was.
    fn hold(&mut self) {
        let Copies { new, old, lost, .. } = self.copies;
        let all: Vec<_> = new.iter().chain(old).copied().collect();
        self.remove_extras(&all, all.len().saturating_sub(self.wanted()));
        for done in all.len()..self.wanted() {
            let like = lost
                .iter()
                .find(|i| !self.copies.is_replaced(i.id) && !self.stands_in.contains(&i.id))
                .or_else(|| old.iter().next());
            let (spec, revision) = match like {
                Some(like) => (like.spec.clone(), like.revision),
                None => (self.deployment.spec.clone(), self.deployment.revision),
            };
            if let Err(rejected) = self.place(&spec, revision, Reason::Lacking) {
                self.pend(self.wanted() - done, rejected);
                break;
            }
        }
    }

    fn surge(&self) -> usize {
        self.deployment.spec.update.max_surge as usize
    }

    fn reason_for_new(&self) -> Reason {
        let drained = self.copies.old.iter().all(|i| self.is_current(i));
        if drained { Reason::Drain } else { Reason::NewRevision }
    }

    /// Places one more, in the place of a lost one if there is one without another.
    fn place(&mut self, spec: &DeploymentSpec, revision: u32, reason: Reason) -> Result<(), Vec<Rejection>> {
        let placement = placement::place(self.deployment.id, spec, self.nodes)?;
        let stands_in =
            |i: &&&InstanceView| !self.copies.is_replaced(i.id) && !self.stands_in.contains(&i.id);
        let lost = self.copies.lost.iter().find(|i| stands_in(i)).copied();
        self.stands_in.extend(lost.map(|i| i.id));
        self.changes.push(Change::Place {
            deployment_id: self.deployment.id,
            revision,
            placement,
            reason: if lost.is_some() { Reason::NodeLost } else { reason },
            replaces: lost.map(|i| i.id),
        });
        if let Some(fenced) = lost.filter(|i| is_fenced(i)) {
            // Its lease is over and it has ended; it must not begin again beside the other.
            self.changes.push(Change::Remove { instance_id: fenced.id, reason: Reason::NodeLost });
        }
        Ok(())
    }

    /// Takes away as many old copies as healthy new ones stand for (I8), and says which.
    fn give_way(&mut self, up: usize) -> Vec<InstanceId> {
        let lost_old: Vec<&InstanceView> = self
            .copies
            .lost
            .iter()
            .copied()
            .filter(|i| !self.is_current(i) && !self.is_told_to_go(i.id))
            .collect();
        let needed = self.wanted().saturating_sub(up);
        let too_many = (self.copies.old.len() + lost_old.len()).saturating_sub(needed);
        let in_order = lost_old.into_iter().chain(self.in_order_of_use(&self.copies.old));
        let going: Vec<&InstanceView> = in_order.take(too_many).collect();
        self.remove(&going, Reason::NewRevision);
        going.iter().map(|i| i.id).collect()
    }

    /// Takes old copies away before there are new ones, as far as may be missing. Says
    /// whether it did.
    fn make_room(&mut self, old: &[&'a InstanceView], up: usize, stuck: bool) -> bool {
        let policy = &self.deployment.spec.update;
        let budget = policy.max_unavailable as usize;
        let mut serving = up + old.iter().filter(|i| self.copies.serves(i)).count();
        let (mut left, mut made) = (old.len(), false);
        for instance in self.in_order_of_use(old) {
            let port = stuck && self.frees_a_port(instance);
            let budget = if port { budget.max(1) } else { budget };
            let missing = self.wanted().saturating_sub(up + left - 1);
            let serves = self.copies.serves(instance);
            let unavailable = self.wanted().saturating_sub(serving - usize::from(serves));
            let makes_room = !stuck || self.would_take_without(instance);
            if missing > budget || (serves && unavailable > budget) || !makes_room {
                continue;
            }
            self.remove(&[instance], Reason::MakesRoom);
            serving -= usize::from(serves);
            left -= 1;
            made = true;
        }
        made
    }

    fn node(&self, id: NodeId) -> Option<&Candidate> {
        self.nodes.iter().find(|node| node.id == id)
    }

    /// Whether its node would take a new copy if it were gone.
    fn would_take_without(&self, instance: &InstanceView) -> bool {
        self.node(instance.node_id).is_some_and(|node| {
            let mut without = node.clone();
            without.give_back(instance.deployment_id, &instance.spec);
            without.takes(&self.deployment.spec)
        })
    }

    /// Whether it holds a host port that a new copy needs.
    fn frees_a_port(&self, instance: &InstanceView) -> bool {
        let mut held = instance.spec.instance.fixed_host_ports();
        held.any(|port| self.deployment.spec.instance.fixed_host_ports().any(|wanted| wanted == port))
    }

    fn is_told_to_go(&self, id: InstanceId) -> bool {
        let told =
            |change: &Change| matches!(change, Change::Remove { instance_id, .. } if *instance_id == id);
        self.changes.iter().any(told)
    }

    /// The least useful first: those that do not run, then those that do not serve, then
    /// those that another does the work of, then the youngest.
    fn in_order_of_use(&self, instances: &[&'a InstanceView]) -> Vec<&'a InstanceView> {
        let mut sorted = instances.to_vec();
        let running = |i: &InstanceView| i.status.progress.phase == crate::instance::Phase::Running;
        sorted.sort_by_key(|i| {
            std::cmp::Reverse((!running(i), !self.copies.serves(i), self.is_extra(i), i.id))
        });
        sorted
    }

    /// Whether it is the one to go of two that stand for the same copy.
    fn is_extra(&self, instance: &InstanceView) -> bool {
        match self.deployment.spec.disconnect.keep {
            Keep::Newest => self.copies.has_stand_in(instance),
            Keep::Oldest => self.copies.is_stand_in(instance),
        }
    }

    /// Whether it is one of two that stand for the same copy.
    fn is_one_of_two(&self, instance: &InstanceView) -> bool {
        self.copies.has_stand_in(instance) || self.copies.is_stand_in(instance)
    }

    fn remove_surplus(&mut self, of: &[&'a InstanceView], surplus: usize) {
        let going: Vec<_> = self.in_order_of_use(of).into_iter().take(surplus).collect();
        for instance in going {
            let reason = if self.is_one_of_two(instance) { Reason::NodeBack } else { Reason::Surplus };
            self.remove(&[instance], reason);
        }
    }

    fn remove_extras(&mut self, of: &[&'a InstanceView], surplus: usize) {
        let pairs = self.in_order_of_use(of).into_iter().filter(|i| self.is_one_of_two(i));
        let going: Vec<_> = pairs.take(surplus).collect();
        self.remove(&going, Reason::NodeBack);
    }

    fn pend(&mut self, lacking: usize, rejected: Vec<Rejection>) {
        let lacking = u32::try_from(lacking).unwrap_or(u32::MAX);
        self.changes.push(Change::Pend { deployment_id: self.deployment.id, lacking, rejected });
    }
}

/// Whether its node ends it by itself when it hears nothing.
fn is_fenced(instance: &InstanceView) -> bool {
    instance.spec.instance.stop_after_seconds.is_some()
}
