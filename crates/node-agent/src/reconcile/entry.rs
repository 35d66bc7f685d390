//! What the reconciler holds of one instance.

use domain::{
    Timestamp,
    plan::{Container, ContainerStatus, Record, Seen, Step},
};
use futures_util::future::AbortHandle;

use super::{events::Meddling, probing::Probing, slots::Class};
use crate::runtime::{EventKind, RunningContainer};

/// One instance.
pub(super) struct Entry {
    pub record: Record,
    /// The last look, and the moment that it speaks for.
    pub seen: Option<(Seen, Timestamp)>,
    /// Whether something happened since that look, so that nothing may be concluded
    /// from it.
    pub look_due: bool,
    /// What is under way.
    pub busy: Option<Busy>,
    /// A step that no answer came to, while it is found out whether the engine
    /// answers at all.
    pub doubt: Option<(Step, String)>,
    /// When it has to be decided about again, though nothing may have happened.
    pub wake: Option<Timestamp>,
    /// The commit that has to be on disk before the next step.
    pub barrier: Option<u64>,
    /// Grows with whatever makes a full look that began before it out of date.
    pub changed: u64,
    /// Who else did what to its container.
    pub meddling: Meddling,
    /// The probes of the run that was last seen.
    pub probing: Option<Probing>,
    /// When the next probe is due.
    pub probe_at: Option<Timestamp>,
    /// The run that the agent before this one probed last.
    pub adopted: Option<Timestamp>,
    /// Whether its container is removed for what it has written: sizes that come next
    /// may be of that one.
    pub emptied: bool,
}

/// An action under way.
pub(super) struct Busy {
    pub step: Step,
    /// The place that it takes, if it takes one.
    pub class: Option<Class>,
    pub abort: AbortHandle,
    /// What the engine said of the container meanwhile.
    pub events: Vec<EventKind>,
}

/// Events kept for an action under way; more say no more.
const EVENTS_MOST: usize = 16;

impl Entry {
    pub(super) fn new(record: Record) -> Self {
        Self {
            probing: None,
            probe_at: None,
            adopted: record.last_started,
            emptied: false,
            record,
            seen: None,
            look_due: false,
            busy: None,
            doubt: None,
            wake: None,
            barrier: None,
            changed: 0,
            meddling: Meddling::default(),
        }
    }

    /// Takes over what the engine said, by `now`, in answer to a question asked at `asked`.
    pub(super) fn look(&mut self, mut seen: Seen, asked: Timestamp, now: Timestamp) {
        let mut at = asked;
        if let Seen::Present(container) = &mut seen {
            // An answer speaks for no earlier moment than it tells of.
            at = at.max(container.started_at.unwrap_or(at)).max(container.finished_at.unwrap_or(at));
            // And for none that has yet to come: then the calendar was set back.
            at = at.min(now.max(asked));
            if matches!(container.status, ContainerStatus::Exited | ContainerStatus::Dead) {
                container.outside_signal = self.meddling.ended_by(container);
            }
        }
        self.seen = Some((seen, at));
        self.look_due = false;
    }

    /// Takes note of an event. Says whether a look is due because of it.
    pub(super) fn event(&mut self, kind: EventKind) -> bool {
        if let Some(busy) = &mut self.busy {
            // What is under way ends in a look of its own, and says then what was news.
            if busy.events.len() < EVENTS_MOST {
                busy.events.push(kind);
            }
            return false;
        }
        let news = self.is_news(kind);
        self.look_due |= news;
        news
    }

    /// Whether an event tells more than is known. The engine's echo of our own
    /// doing does not: it arrives after the answer that told the same.
    pub(super) fn is_news(&self, kind: EventKind) -> bool {
        // What was never looked at, or is being looked at in a full look, may have changed
        // under it.
        let Some((seen, _)) = &self.seen else { return true };
        match kind {
            EventKind::Started => !seen.is_alive(),
            EventKind::Died => seen.is_alive(),
            EventKind::Destroyed => seen.container().is_some(),
            // It is not to be probed while it is frozen.
            EventKind::Paused => self.has_status(ContainerStatus::Running),
            EventKind::Unpaused => self.has_status(ContainerStatus::Paused),
            // Nothing is decided by the rest, and the next full look sees it.
            EventKind::Killed { .. } | EventKind::Other => false,
        }
    }

    fn has_status(&self, status: ContainerStatus) -> bool {
        matches!(&self.seen, Some((Seen::Present(container), _)) if container.status == status)
    }

    /// What the sampler may measure.
    pub(super) fn running(&self, memory_limit_bytes: Option<u64>) -> Option<RunningContainer> {
        let Some((Seen::Present(container), _)) = &self.seen else { return None };
        let Container { container_id, status, started_at, pid, .. } = container;
        match (status, pid, started_at) {
            (ContainerStatus::Running | ContainerStatus::Paused, Some(pid), Some(started_at)) => {
                Some(RunningContainer {
                    container_id: container_id.clone(),
                    pid: *pid,
                    started_at: *started_at,
                    memory_limit_bytes,
                })
            }
            _ => None,
        }
    }

    /// The engine's id of its container.
    pub(super) fn container_id(&self) -> Option<String> {
        let (seen, _) = self.seen.as_ref()?;
        seen.container().map(|container| container.container_id.clone())
    }
}
