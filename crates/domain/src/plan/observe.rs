//! What has happened, by what the engine says.

use chrono::TimeDelta;

use super::{
    Container, ContainerStatus, Record, Seen, Transition, Wish,
    end::{doomed, end_attempt, exit_of, stop_of, vanished},
};
use crate::{
    Timestamp,
    instance::{Cause, Health, InstanceStatus, Phase},
};

/// Says what has happened to an instance since its record was made, and what is
/// to be remembered from now on.
///
/// `now` is when the engine was asked: nothing is concluded for a later moment.
/// The transitions are in the order of time and carry the engine's own times, so
/// what an agent finds out late is reported as it was.
#[must_use]
pub fn observe(wish: &Wish<'_>, record: &Record, seen: &Seen, now: Timestamp) -> (Record, Vec<Transition>) {
    let mut look = Look { wish, record: record.clone(), now, happened: Vec::new() };
    match seen {
        // Final: whatever turns up under its labels now is not its run.
        _ if record.status.progress.removed => {}
        Seen::Absent => look.absent(),
        Seen::Present(container) => look.present(container),
    }
    (look.record, look.happened)
}

struct Look<'a> {
    wish: &'a Wish<'a>,
    record: Record,
    now: Timestamp,
    happened: Vec<Transition>,
}

impl Look<'_> {
    fn present(&mut self, container: &Container) {
        let status = &mut self.record.status;
        if status.container_id.as_ref() != Some(&container.container_id) {
            status.container_id = Some(container.container_id.clone());
            // It has a writable layer of its own.
            status.storage_exceeded = false;
        }
        if container.image_id.is_some() && status.image_id != container.image_id {
            status.image_id.clone_from(&container.image_id);
            status.image_digest = None;
        }
        let new_run = container.started_at != self.record.last_started;
        match container.status {
            ContainerStatus::Running | ContainerStatus::Paused => {
                if new_run || !self.has_process() {
                    self.ran(container);
                }
                self.grew_healthy();
            }
            ContainerStatus::Exited | ContainerStatus::Dead => {
                if new_run && container.started_at.is_some() {
                    self.ran(container);
                }
                if self.has_process() {
                    self.exited(container);
                }
            }
            // Another one was put in its place.
            ContainerStatus::Created if self.has_process() => self.vanished(),
            ContainerStatus::Created | ContainerStatus::Restarting | ContainerStatus::Removing => {}
        }
    }

    fn absent(&mut self) {
        self.record.status.container_id = None;
        self.record.status.storage_exceeded = false;
        if let Wish::Remove(_) = self.wish {
            self.removed();
        } else if self.has_process() || self.record.phase() == Phase::Starting {
            self.vanished();
        }
    }

    /// Whether the present attempt is known to have a process.
    fn has_process(&self) -> bool {
        matches!(self.record.phase(), Phase::Running | Phase::Stopping)
    }

    /// A run is seen for the first time. It is the present attempt's, if that has
    /// not run yet; otherwise an attempt of its own.
    fn ran(&mut self, container: &Container) {
        let started = container.started_at.unwrap_or(self.now);
        let took_over = self.has_process();
        let cause = if self.record.phase() < Phase::Running {
            self.record.because.clone()
        } else {
            // An agent may have started it and died before it could say so. That
            // is told from meddling by whether it was due.
            let due = self.wish.next_attempt(&self.record).filter(|(due, _)| *due <= started);
            let cause = due.map_or(Cause::Outside, |(_, cause)| cause);
            self.record.begin_attempt(cause.clone());
            cause
        };
        self.record.last_started = container.started_at;
        // One that began in the future began before the calendar was set back: when, nobody
        // knows. It is taken to begin now.
        self.record.jumped = (self.now - started).min(TimeDelta::zero());
        self.record.reach(Phase::Running);
        let status = &mut self.record.status;
        status.started_at = Some(started);
        status.health = Health::Starting;
        status.ports.clone_from(&container.ports);
        let attempt = status.progress.attempt;
        let message = match cause {
            Cause::Outside if took_over => "somebody else restarted it".to_owned(),
            Cause::Outside => "somebody else started it".to_owned(),
            Cause::RestartRequested => "restarted as asked".to_owned(),
            _ if attempt > 1 => format!("running again, in attempt {attempt}"),
            _ => "running".to_owned(),
        };
        self.happened.push(self.record.transition(cause, message, started));
    }

    fn grew_healthy(&mut self) {
        let (Wish::Run(assignment), Phase::Running, Health::Starting) =
            (self.wish, self.record.phase(), self.record.status.health)
        else {
            return;
        };
        let Some(due) = self.record.healthy_at(assignment) else { return };
        if due <= self.now && self.record.is_judged_by_time(assignment) {
            self.record.status.health = Health::Healthy;
            let message = format!("healthy: it has run for {} s", assignment.spec.min_healthy_seconds);
            self.happened.push(self.record.transition(Cause::Time, message, due));
        }
    }

    fn exited(&mut self, container: &Container) {
        let end = match (self.record.phase(), &self.record.stopping_for) {
            (Phase::Stopping, Some(doom)) => doomed(Some(container), doom, self.now),
            (Phase::Stopping, None) => stop_of(Some(container), self.stop_cause(), self.now),
            _ => exit_of(container, self.now),
        };
        self.happened.push(end_attempt(&mut self.record, self.wish, end));
    }

    fn vanished(&mut self) {
        let end = match (self.record.phase(), &self.record.stopping_for) {
            (Phase::Stopping, Some(doom)) => doomed(None, doom, self.now),
            (Phase::Stopping, None) => stop_of(None, self.stop_cause(), self.now),
            _ => vanished(self.now),
        };
        self.happened.push(end_attempt(&mut self.record, self.wish, end));
    }

    fn removed(&mut self) {
        if matches!(self.wish, Wish::Remove(None)) && self.record.status == InstanceStatus::FIRST {
            // Nobody knows of it and nothing was ever there: that is no news.
            self.record.status.progress.removed = true;
            return;
        }
        if self.record.phase() != Phase::Ended {
            let end = stop_of(None, Cause::Assigned, self.now);
            // One statement says both: it is over, and nothing of it is left.
            let _ = end_attempt(&mut self.record, self.wish, end);
        }
        self.record.status.progress.removed = true;
        self.record.status.backoff_until = None;
        self.happened.push(self.record.transition(Cause::Assigned, "removed", self.now));
    }

    fn stop_cause(&self) -> Cause {
        match self.wish {
            Wish::Run(_) if self.wish.restart_pending(&self.record) => Cause::RestartRequested,
            Wish::Run(_) | Wish::Hold(_) | Wish::Stop(_) | Wish::Remove(_) => Cause::Assigned,
        }
    }
}
