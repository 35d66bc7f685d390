//! What the results of one probe come to.

use std::{collections::VecDeque, time::Duration};

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};

use super::{ProbeRole, ProbeSpec};
use crate::{Timestamp, instance::Health};

/// Results that are kept, the latest.
pub const RESULTS_KEPT: usize = 10;
/// Characters that are kept of a result's message.
pub const MESSAGE_MAX_CHARS: usize = 256;
/// Wait before the first probe of a run; it doubles from here.
const FIRST: Duration = Duration::from_secs(1);

/// What one probe found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It works.
    Passed,
    /// It does not.
    Failed,
    /// It could not be asked, for reasons that are not its own: the engine did not
    /// answer, the host is out of sockets. Counts neither way.
    Unknown,
}

/// One probe that was carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeResult {
    /// When it began, by the node's clock.
    pub at: Timestamp,
    /// How long it took.
    pub took: Duration,
    /// What it found.
    pub verdict: Verdict,
    /// For people: one line.
    pub message: String,
}

impl ProbeResult {
    /// With its message in one line, cut to [`MESSAGE_MAX_CHARS`].
    fn bounded(mut self) -> Self {
        if self.message.contains(char::is_control) {
            self.message = self.message.replace(char::is_control, " ");
        }
        if let Some((end, _)) = self.message.char_indices().nth(MESSAGE_MAX_CHARS) {
            self.message.truncate(end);
        }
        self
    }
}

/// What of a spec decides about time and health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rules {
    role: ProbeRole,
    interval: Duration,
    retries: u32,
    start_period: Duration,
}

/// All that is known by one probe of one run of a container.
///
/// It belongs to that run: a restart begins with a new one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeState {
    rules: Rules,
    /// The latest, in the order in which they came.
    results: VecDeque<ProbeResult>,
    /// From when on results count.
    since: Timestamp,
    /// The end of the start period.
    grace_until: Timestamp,
    /// When the last probe began; never later than the `now` that came with it.
    last_at: Option<Timestamp>,
    /// Probes before the first success.
    tries: u32,
    /// Failures in a row that count.
    failures: u32,
    /// Whether it ever passed.
    passed: bool,
    /// Whether anything was ever found out.
    asked: bool,
}

impl ProbeState {
    /// Of a run that started at `started`, which may be long ago, or ahead of `now`
    /// where the engine's clock is.
    #[must_use]
    pub fn new(spec: &ProbeSpec, started: Timestamp, now: Timestamp) -> Self {
        let since = started.min(now);
        let rules = Rules {
            role: spec.role,
            interval: spec.interval().max(FIRST),
            retries: spec.retries.max(1),
            start_period: spec.start_period(),
        };
        Self {
            rules,
            results: VecDeque::new(),
            since,
            grace_until: later(since, rules.start_period),
            last_at: None,
            tries: 0,
            failures: 0,
            passed: false,
            asked: false,
        }
    }

    /// Of a run that an agent before this one has probed, and last called `health`.
    /// One that was healthy stays so until it fails; any other has to prove itself
    /// anew, without a second start period.
    #[must_use]
    pub fn resumed(spec: &ProbeSpec, started: Timestamp, health: Health, now: Timestamp) -> Self {
        let passed = health == Health::Healthy;
        Self { passed, asked: passed, ..Self::new(spec, started, now) }
    }

    /// Takes a result in. `now` is when it is known.
    ///
    /// One that is known already, that is not later than the last, or that is of an
    /// earlier run changes nothing. Where the last lies ahead of `now`, the clock was
    /// set back, and what comes is believed.
    #[must_use]
    pub fn observe(mut self, now: Timestamp, result: ProbeResult) -> Self {
        let result = result.bounded();
        let at = result.at.min(now);
        let late = self.last_at.is_some_and(|last| at <= last && last <= now);
        let of_earlier_run = at < self.since && self.since <= now;
        if late || of_earlier_run || self.results.contains(&result) {
            return self;
        }
        // Only ever shorter: as long as the clock goes forward it is that short already.
        self.grace_until = self.grace_until.min(later(now, self.rules.start_period));
        match result.verdict {
            Verdict::Passed => {
                (self.passed, self.asked) = (true, true);
                self.failures = 0;
            }
            Verdict::Failed => {
                self.asked = true;
                if self.passed || at >= self.grace_until {
                    self.failures = self.failures.saturating_add(1);
                }
            }
            Verdict::Unknown => {}
        }
        self.tries = self.tries.saturating_add(1);
        self.last_at = Some(at);
        if self.results.len() >= RESULTS_KEPT {
            self.results.pop_front();
        }
        self.results.push_back(result);
        self
    }

    /// When the next probe is to begin: `now` where it is due, and at most an
    /// interval later. Not to be asked while one is under way.
    #[must_use]
    pub fn next_due(&self, now: Timestamp) -> Timestamp {
        self.due(now).max(now)
    }

    /// When the next probe was or is to begin.
    pub(super) fn due(&self, now: Timestamp) -> Timestamp {
        let from = self.last_at.unwrap_or(self.since);
        // A wait that began ahead of now never ends: the clock was set back.
        if from > now { now } else { later(from, self.wait()) }
    }

    fn wait(&self) -> Duration {
        let starting = !self.passed && self.last_at.is_none_or(|last| last < self.grace_until);
        match self.tries {
            0 => FIRST,
            tries if starting => FIRST.saturating_mul(1 << tries.min(20)).min(self.rules.interval),
            _ => self.rules.interval,
        }
    }

    /// What is known of the instance by this probe alone.
    #[must_use]
    pub const fn health(&self) -> Health {
        if self.failures >= self.rules.retries {
            Health::Unhealthy
        } else if self.passed {
            Health::Healthy
        } else if self.asked {
            Health::Starting
        } else {
            Health::Unknown
        }
    }

    /// Whether the container is to be restarted because of it. Stays so for the rest
    /// of the run, unless it passes before.
    #[must_use]
    pub fn must_restart(&self) -> bool {
        self.rules.role == ProbeRole::Liveness && self.health() == Health::Unhealthy
    }

    /// The latest results, the oldest first; at most [`RESULTS_KEPT`].
    pub fn results(&self) -> impl ExactSizeIterator<Item = &ProbeResult> + DoubleEndedIterator {
        self.results.iter()
    }

    /// What it is for.
    #[must_use]
    pub const fn role(&self) -> ProbeRole {
        self.rules.role
    }
}

fn later(at: Timestamp, wait: Duration) -> Timestamp {
    let wait = TimeDelta::from_std(wait).unwrap_or(TimeDelta::MAX);
    at.checked_add_signed(wait).unwrap_or(Timestamp::MAX_UTC)
}
