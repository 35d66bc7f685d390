//! What the loop finds out about instances beside what the engine says of their
//! containers: by probes, by the sizes that others measure, from their images, and
//! how long ago the controller gave a word.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use domain::{
    Timestamp,
    assignment::{Assignment, AssignmentSet},
    id::InstanceId,
    instance::{Desired, Outcome, Phase},
    plan::{self, Container, ContainerStatus, Seen, Transition, Wish},
};

use super::{
    entry::Entry,
    images,
    probing::{ProbeDone, Probing},
    slots::Class,
    task::Reconciler,
};
use crate::death::Death;

/// How often those that are held are asked about while the controller is away.
const HELD_LOOK: Duration = Duration::from_secs(1);
/// How often leases are looked at where some may run out. A host that slept wakes with
/// leases that ran out meanwhile, and no timer counts its sleep.
const LEASE_LOOK: Duration = Duration::from_secs(5);
/// So that what is due at a deadline is found past it.
const BEYOND: Duration = Duration::from_millis(1);

/// The instances that may not run for ever without a word of the controller.
#[derive(Default)]
pub(super) struct Leased {
    most: BTreeMap<InstanceId, Duration>,
    held: BTreeSet<InstanceId>,
}

impl Leased {
    pub(super) fn of(wanted: &AssignmentSet, age: Duration) -> Self {
        let running = wanted.assignments.iter().filter(|(_, a)| a.desired == Desired::Running);
        let most: BTreeMap<_, _> = running.filter_map(|(id, a)| Some((*id, a.spec.stop_after()?))).collect();
        let held = most.iter().filter(|(_, most)| age > **most).map(|(id, _)| *id).collect();
        Self { most, held }
    }

    /// How long until something changes by time alone, or may have changed.
    pub(super) fn wake(&self, age: Duration) -> Option<Duration> {
        let waits = self.most.values().map(|most| {
            if age > *most {
                HELD_LOOK
            } else {
                most.saturating_sub(age).saturating_add(BEYOND).min(LEASE_LOOK)
            }
        });
        waits.min()
    }

    /// Names those that are held from now on, or are not any more.
    pub(super) fn changed(&mut self, age: Duration) -> Vec<InstanceId> {
        let mut changed = Vec::new();
        for (id, most) in &self.most {
            let is_new = if age > *most { self.held.insert(*id) } else { self.held.remove(id) };
            if is_new {
                changed.push(*id);
            }
        }
        changed
    }
}

impl Reconciler<'_> {
    /// What is wanted of an instance now.
    pub(super) fn wish<'a>(&self, wanted: &'a AssignmentSet, instance: InstanceId) -> Option<Wish<'a>> {
        let wish = Wish::of(wanted.assignments.get(&instance), self.complete)?;
        Some(wish.under_lease(self.parts.lease.age()))
    }

    /// Takes note of what is known of an instance's run beside `seen`.
    pub(super) fn judge(&mut self, instance: InstanceId, wish: &Wish<'_>, seen: &Seen, now: Timestamp) {
        let Some(container) = seen.container() else {
            if let Some(entry) = self.entries.get_mut(&instance) {
                entry.probing = None;
            }
            return;
        };
        self.identify(instance, container, now);
        let Wish::Run(assignment) = wish else { return };
        self.tend_probes(instance, assignment, container, now);
        let Some(entry) = self.entries.get(&instance) else { return };
        let Some(probing) = entry.probing.as_ref().filter(|probing| probing.is_of(container)) else { return };
        let (record, transition) = if probing.probes().is_empty() {
            (plan::unprobed(&entry.record), None)
        } else {
            plan::probed(wish, &entry.record, probing.probes(), now)
        };
        self.note(instance, record, transition, false);
    }

    fn identify(&mut self, instance: InstanceId, container: &Container, now: Timestamp) {
        let Some(image_id) = container.image_id.as_deref() else { return };
        let deadline = self.parts.settings.call_deadline;
        let image = self.images.get(image_id, instance, &self.parts.runtime, deadline);
        let digest = image.and_then(|image| image.digest.as_deref());
        let Some(entry) = self.entries.get(&instance) else { return };
        let (record, transition) = plan::identified(&entry.record, image_id, digest, now);
        self.note(instance, record, transition, false);
    }

    /// Has the present run probed, and no other.
    fn tend_probes(
        &mut self,
        instance: InstanceId,
        assignment: &Assignment,
        container: &Container,
        now: Timestamp,
    ) {
        let Some(entry) = self.entries.get_mut(&instance) else { return };
        let runs = entry.record.status.progress.phase == Phase::Running;
        match (container.status, &mut entry.probing) {
            (ContainerStatus::Paused, Some(probing)) => probing.freeze(),
            (ContainerStatus::Running, probing) if runs => {
                if assignment.spec.probes.is_empty() || probing.as_ref().is_some_and(|p| p.is_of(container)) {
                    return;
                }
                let deadline = self.parts.settings.call_deadline;
                let image = container
                    .image_id
                    .as_deref()
                    .and_then(|id| self.images.get(id, instance, &self.parts.runtime, deadline));
                let known = entry
                    .adopted
                    .filter(|adopted| Some(*adopted) == container.started_at)
                    .map(|_| entry.record.status.health);
                *probing = Probing::of(assignment, container, image, known, now);
            }
            (ContainerStatus::Running | ContainerStatus::Paused, _) => {}
            (_, probing) => *probing = None,
        }
    }

    /// Begins the probe of an instance that is due, if there is a place for it. If not,
    /// the next free place calls again.
    pub(super) fn probe(&mut self, instance: InstanceId, wish: &Wish<'_>, now: Timestamp) {
        let Some(entry) = self.entries.get_mut(&instance) else { return };
        entry.probe_at = None;
        let (Wish::Run(_), Some(probing), Some((Seen::Present(container), _)), None) =
            (wish, &mut entry.probing, &entry.seen, &entry.busy)
        else {
            return;
        };
        if container.status != ContainerStatus::Running || !probing.is_of(container) {
            return;
        }
        match probing.next_due(now) {
            None => {}
            Some((_, due)) if due > now => entry.probe_at = Some(due),
            Some((index, _)) => {
                if !self.slots.take(Class::Probe, instance) {
                    return;
                }
                let (runtime, clock) = (&self.parts.runtime, self.parts.settings.clock);
                match probing.begin(instance, index, container, runtime, clock) {
                    Some(probe) => self.probes.push(probe),
                    None => self.slots.give_back(Class::Probe),
                }
            }
        }
    }

    pub(super) fn probe_ended(&mut self, done: ProbeDone) {
        self.slots.give_back(Class::Probe);
        let now = (self.parts.settings.clock)();
        // While the engine is silent nothing is concluded.
        let counts = self.engine.is_ready();
        let instance = done.instance_id;
        let Some(entry) = self.entries.get_mut(&instance) else { return };
        if let Some(probing) = &mut entry.probing {
            probing.ended(done, counts, now);
        }
        self.dirty.insert(instance);
    }

    pub(super) fn image_answered(&mut self, answer: images::Answer) {
        let ids = self.entries.values().filter_map(|entry| entry.record.status.image_id.as_deref());
        let waiting = self.images.answered(answer, &ids.collect());
        self.dirty.extend(waiting);
    }

    /// Sizes of writable layers were measured.
    pub(super) fn storage_measured(&mut self) {
        let sizes = self.storage.borrow_and_update().clone();
        let now = (self.parts.settings.clock)();
        let wanted = self.wanted.clone();
        for (instance, bytes) in sizes.iter() {
            let Some(wish) = self.wish(&wanted, *instance) else { continue };
            let Some(entry) = self.entries.get_mut(instance) else { continue };
            if std::mem::take(&mut entry.emptied) {
                continue;
            }
            let (record, transition) = plan::measured(&wish, &entry.record, *bytes, now);
            self.note(*instance, record, transition, false);
            self.dirty.insert(*instance);
        }
    }

    /// Takes note of leases that ran out, and of a new word of the controller.
    pub(super) fn leases_passed(&mut self) {
        self.dirty.extend(self.leased.changed(self.parts.lease.age()));
    }

    /// Tells of attempts that ended without having been asked to.
    pub(super) fn tell_deaths(&self, instance: InstanceId, happened: &[Transition]) {
        for transition in happened {
            let status = &transition.status;
            let (
                Phase::Ended,
                false,
                Some(outcome @ (Outcome::Exited { .. } | Outcome::Failed { .. })),
                Some(_),
            ) = (status.progress.phase, status.progress.removed, &status.outcome, status.started_at)
            else {
                continue;
            };
            let probing = self.entries.get(&instance).and_then(|entry: &Entry| entry.probing.as_ref());
            let limits = self.wanted.assignments.get(&instance).map(|assignment| assignment.spec.limits);
            self.parts.deaths.tell(Death {
                instance_id: instance,
                attempt: status.progress.attempt,
                started_at: status.started_at,
                ended_at: status.finished_at.unwrap_or(transition.at),
                outcome: outcome.clone(),
                container_id: status.container_id.clone(),
                memory_limit_bytes: limits.map(|limits| limits.memory_bytes),
                probes: probing.map(Probing::results).unwrap_or_default(),
            });
        }
    }
}
