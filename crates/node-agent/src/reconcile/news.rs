//! Taking note of what came: of the engine's events and looks, of actions that
//! ended, of new assignments.

use std::collections::BTreeMap;

use domain::{
    Timestamp,
    id::InstanceId,
    instance::FailureReason,
    plan::{self, Container, Failure, Record, Seen, Step, Wish},
};

use super::{
    action::{Done, Outcome},
    engine::Happening,
    entry::{Busy, Entry},
    task::Reconciler,
    vital::Leased,
};
use crate::runtime::{ContainerEvent, EventKind, RuntimeError, RuntimeErrorKind};

impl Reconciler<'_> {
    fn now(&self) -> Timestamp {
        (self.parts.settings.clock)()
    }

    pub(super) fn engine_says(&mut self, happening: Happening) {
        match happening {
            Happening::Event(event) => self.event(event),
            Happening::Listed { mark, asked, containers } => self.all_seen(mark, asked, containers),
            Happening::Answers => self.engine_answers(),
            Happening::Silent => {
                for entry in self.entries.values_mut().filter(|entry| entry.doubt.is_some()) {
                    // It was the engine's failure and not the step's.
                    entry.doubt = None;
                    entry.look_due = true;
                }
            }
        }
    }

    fn event(&mut self, event: ContainerEvent) {
        tracing::trace!(instance.id = %event.instance_id, kind = ?event.kind, "engine event");
        let instance = event.instance_id;
        let makes_known =
            matches!(event.kind, EventKind::Started | EventKind::Died) && self.engine.is_since_look(event.at);
        if !makes_known && !self.entries.contains_key(&instance) {
            return;
        }
        self.mark += 1;
        let entry = self.entries.entry(instance).or_insert_with(|| Entry::new(Record::new(instance)));
        if let EventKind::Killed { signal } = event.kind
            && !self.engine.was_away(event.at)
        {
            entry.meddling.signal(signal, event.at);
        }
        if entry.event(event.kind) {
            entry.changed = self.mark;
            self.dirty.insert(instance);
        }
    }

    /// A full look. Of an instance that something happened to since it began, or
    /// that something is being done to, it says nothing.
    fn all_seen(&mut self, mark: u64, asked: Timestamp, containers: Vec<(InstanceId, Container)>) {
        let mut found: BTreeMap<_, _> = containers.into_iter().collect();
        let now = self.now();
        for id in found.keys() {
            self.entries.entry(*id).or_insert_with(|| Entry::new(Record::new(*id)));
        }
        for (id, entry) in &mut self.entries {
            let seen = Seen::from(found.remove(id));
            if entry.busy.is_none() && entry.changed <= mark {
                entry.look(seen, asked, now);
            }
            self.dirty.insert(*id);
        }
        self.running_changed = true;
    }

    /// So a step that no answer came to has failed by itself.
    fn engine_answers(&mut self) {
        let doubts: Vec<_> = self
            .entries
            .iter_mut()
            .filter_map(|(id, entry)| entry.doubt.take().map(|doubt| (*id, doubt)))
            .collect();
        for (instance, (step, message)) in doubts {
            self.step_failed(instance, step, Failure { reason: None, message });
            self.dirty.insert(instance);
        }
    }

    pub(super) fn action_ended(&mut self, done: Done) {
        let now = self.now();
        self.mark += 1;
        let Some(entry) = self.entries.get_mut(&done.instance_id) else { return };
        let Some(Busy { class, events, .. }) = entry.busy.take() else { return };
        if let Some(class) = class {
            self.slots.give_back(class);
        }
        entry.changed = self.mark;
        self.dirty.insert(done.instance_id);
        if matches!(done.step, Step::Stop { .. }) {
            entry.meddling.stop_ends(now);
        }
        match done.outcome {
            Outcome::Seen(seen) => {
                entry.record = plan::succeeded(&entry.record);
                // A step ends with a look; a mere look speaks for the moment it began.
                let asked = if done.step == Step::Inspect { done.asked } else { now };
                entry.look(seen, asked, now);
                self.running_changed = true;
            }
            Outcome::Image(is_here) => entry.record = plan::image_checked(&entry.record, is_here),
            Outcome::Pulled => entry.record = plan::image_pulled(&entry.record),
            Outcome::Prepared => entry.record = plan::prepared(&entry.record),
            Outcome::GivenUp => {}
            Outcome::Failed(error) => self.action_failed(done.instance_id, done.step, error),
        }
        if let Some(entry) = self.entries.get_mut(&done.instance_id) {
            entry.look_due |= events.into_iter().any(|kind| entry.is_news(kind));
        }
    }

    fn action_failed(&mut self, instance: InstanceId, step: Step, error: RuntimeError) {
        tracing::debug!(instance.id = %instance, ?step, %error, "came to nothing");
        let Some(entry) = self.entries.get_mut(&instance) else { return };
        if !matches!(step, Step::CheckImage | Step::Pull | Step::Prepare) {
            entry.look_due = true;
        }
        let reason = match error.kind {
            RuntimeErrorKind::HeldUp => {
                let now = (self.parts.settings.clock)();
                let (record, told) = plan::held_up(&entry.record, error.message, now);
                return self.note(instance, record, told, false);
            }
            // Nobody's failure. What became of the step is looked up when it answers again;
            // after a moment, should it answer to nothing but a ping.
            RuntimeErrorKind::Unreachable => {
                entry.look_due = true;
                entry.doubt = Some((Step::Inspect, error.message));
                self.engine.suspect();
                return;
            }
            // Whose failure it is depends on whether the engine answers anything at all.
            // A silent registry is not a silent engine.
            RuntimeErrorKind::Timeout if step != Step::Pull => {
                entry.doubt = Some((step, error.message));
                self.engine.suspect();
                return;
            }
            RuntimeErrorKind::Timeout => None,
            RuntimeErrorKind::Refused(reason) => Some(reason),
            RuntimeErrorKind::NotFound => Some(FailureReason::Vanished),
        };
        self.step_failed(instance, step, Failure { reason, message: error.message });
    }

    fn step_failed(&mut self, instance: InstanceId, step: Step, failure: Failure) {
        let wanted = self.wanted.clone();
        let wish = self.wish(&wanted, instance);
        let (Some(entry), Some(wish)) = (self.entries.get_mut(&instance), wish) else { return };
        let now = (self.parts.settings.clock)();
        if !matches!(step, Step::CheckImage | Step::Pull | Step::Prepare) {
            entry.look_due = true;
        }
        let (record, transition) = plan::failed(&wish, &entry.record, step, failure, now);
        self.note(instance, record, transition, false);
    }

    /// Whoever waits for something of the controller's asks again at once.
    pub(super) fn controller_reached(&mut self) {
        for (instance, entry) in self.entries.iter_mut().filter(|(_, entry)| plan::is_held_up(&entry.record))
        {
            entry.record = plan::resumed(&entry.record);
            self.dirty.insert(*instance);
        }
    }

    pub(super) fn assignments_changed(&mut self) {
        let now = self.now();
        let before = std::mem::replace(&mut self.wanted, self.parts.ledger.assignments());
        let was_complete = std::mem::replace(&mut self.complete, self.parts.ledger.complete_received());
        if self.complete != was_complete {
            self.dirty.extend(self.entries.keys());
        }
        let wanted = self.wanted.clone();
        self.leased = Leased::of(&wanted, self.parts.lease.age());
        let all = before.assignments.keys().chain(wanted.assignments.keys());
        for id in all.filter(|id| before.assignments.get(id) != wanted.assignments.get(id)) {
            let wish = Wish::of(wanted.assignments.get(id), self.complete);
            let runs = matches!(wish, Some(Wish::Run(_) | Wish::Hold(_)));
            let is_ready = self.engine.is_ready();
            let record = self.parts.ledger.record(*id).unwrap_or_else(|| Record::new(*id));
            let known = record.clone();
            let entry = self.entries.entry(*id).or_insert_with(|| {
                let mut entry = Entry::new(known);
                // It is new, and the full look knew of no container of it. If that is
                // wrong, the engine refuses the second one, and the first is taken (I2).
                if runs && is_ready {
                    entry.look(Seen::Absent, now, now);
                }
                entry
            });
            // It was met before as a container of nobody's.
            if entry.record.is_new() {
                entry.record = record;
            }
            if let Some(busy) = entry.busy.as_ref().filter(|_| !runs)
                && matches!(busy.step, Step::Pull | Step::CheckImage | Step::Prepare)
            {
                busy.abort.abort();
            }
            self.dirty.insert(*id);
        }
        self.running_changed = true;
    }
}
