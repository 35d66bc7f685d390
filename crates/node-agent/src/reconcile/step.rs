//! Deciding about one instance, and beginning what was decided.

use domain::{
    id::InstanceId,
    plan::{self, Record, Step, Transition, Wish},
};

use super::{
    action::{self, Order},
    entry::Busy,
    slots::Class,
    task::Reconciler,
};

impl Reconciler<'_> {
    /// Takes the next step about an instance, if there is one to take now.
    pub(super) fn advance(&mut self, instance: InstanceId) {
        // While the engine is silent nothing is concluded; a full look comes first.
        if !self.engine.is_ready() {
            return;
        }
        let now = (self.parts.settings.clock)();
        let wanted = self.wanted.clone();
        let wish = self.wish(&wanted, instance);
        let (Some(entry), Some(wish)) = (self.entries.get_mut(&instance), wish) else { return };
        if entry.busy.is_some() || entry.doubt.is_some() {
            return;
        }
        entry.wake = None;
        let Some((seen, looked)) = entry.seen.clone().filter(|_| !entry.look_due) else {
            let step = plan::hold_back(&entry.record, Step::Inspect, now);
            return self.take(instance, &wish, step);
        };
        let (record, happened) = plan::observe(&wish, &entry.record, &seen, looked);
        self.note(instance, record, happened, false);
        self.judge(instance, &wish, &seen, now);
        let Some(entry) = self.entries.get(&instance) else { return };
        let heeded = plan::heed(&wish, &entry.record, &seen, now);
        let step = plan::decide(&wish, &heeded.record, &seen, now);
        self.note(instance, heeded.record, heeded.transition, heeded.durable_first);
        self.take(instance, &wish, step);
        self.probe(instance, &wish, now);
    }

    /// Remembers a record; with transitions it goes to the ledger, and the next step
    /// waits for that if it has to.
    pub(super) fn note(
        &mut self,
        instance: InstanceId,
        record: Record,
        happened: impl IntoIterator<Item = Transition>,
        durable_first: bool,
    ) {
        let Some(entry) = self.entries.get_mut(&instance) else { return };
        entry.record = record;
        let happened: Vec<_> = happened.into_iter().collect();
        if happened.is_empty() {
            return;
        }
        for transition in &happened {
            tracing::info!(
                instance.id = %instance,
                attempt = transition.status.progress.attempt,
                phase = transition.status.progress.phase.as_str(),
                health = transition.status.health.as_str(),
                "{}", transition.message
            );
        }
        self.tell_deaths(instance, &happened);
        let Some(entry) = self.entries.get_mut(&instance) else { return };
        let commit = self.outbox.note(&entry.record, happened);
        if durable_first {
            entry.barrier = Some(commit);
        }
    }

    fn take(&mut self, instance: InstanceId, wish: &Wish<'_>, step: Step) {
        match step {
            Step::Nothing => {}
            Step::WaitUntil(at) => {
                if let Some(entry) = self.entries.get_mut(&instance) {
                    entry.wake = Some(at);
                }
            }
            Step::Forget => {
                self.entries.remove(&instance);
                self.outbox.forget(instance);
            }
            Step::Inspect => self.act(instance, wish, step),
            _ => {
                if self.is_written_down(instance) {
                    self.act(instance, wish, step);
                }
            }
        }
    }

    /// Whether what has to be on disk before the next step is there. If not, the
    /// commit that puts it there calls again.
    fn is_written_down(&mut self, instance: InstanceId) -> bool {
        let Some(entry) = self.entries.get_mut(&instance) else { return false };
        if entry.barrier.is_some_and(|commit| !self.outbox.is_written(commit)) {
            return false;
        }
        entry.barrier = None;
        true
    }

    /// Begins an action, if there is a place for it. If not, the next free place
    /// calls again.
    fn act(&mut self, instance: InstanceId, wish: &Wish<'_>, step: Step) {
        let assignment = wish.assignment();
        // Whoever joins a pull that is under way takes no place of its own.
        let joins = step == Step::Pull && assignment.is_some_and(|a| self.parts.pulls.is_under_way(a));
        let class = (!joins).then(|| Class::of(step));
        if class.is_some_and(|class| !self.slots.take(class, instance)) {
            return;
        }
        let now = (self.parts.settings.clock)();
        let Some(entry) = self.entries.get_mut(&instance) else { return };
        let (record, transition) = plan::begin(wish, &entry.record, step, now);
        match step {
            Step::Stop { .. } => {
                entry.meddling.stop_begins(now);
                if let Some(probing) = &mut entry.probing {
                    probing.halt();
                }
            }
            Step::Remove => entry.emptied |= entry.record.status.storage_exceeded,
            _ => {}
        }
        let order = Order {
            instance_id: instance,
            step,
            assignment: assignment.cloned(),
            container_id: entry.container_id(),
        };
        let (action, abort) = action::begin(
            &self.parts.runtime,
            &self.parts.settings,
            (&self.parts.pulls, &self.parts.secrets),
            order,
        );
        entry.busy = Some(Busy { step, class, abort, events: Vec::new() });
        tracing::debug!(instance.id = %instance, ?step, "begins");
        self.actions.push(action);
        self.note(instance, record, transition, false);
    }
}
