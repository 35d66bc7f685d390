//! All probes of one run, and the one health that they come to.

use super::{ProbeResult, ProbeSpec, ProbeState, Verdict};
use crate::{Timestamp, instance::Health};

/// All probes of one run of a container, in the order of their specs.
///
/// They are carried out one at a time: so what an instance costs is bounded, and
/// a result needs no more than the index of its probe.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Probes(Vec<ProbeState>);

impl Probes {
    /// Of a run that started at `started`; see [`ProbeState::new`].
    #[must_use]
    pub fn new(specs: &[ProbeSpec], started: Timestamp, now: Timestamp) -> Self {
        Self(specs.iter().map(|spec| ProbeState::new(spec, started, now)).collect())
    }

    /// Of a run that an agent before this one has probed; see [`ProbeState::resumed`].
    #[must_use]
    pub fn resumed(specs: &[ProbeSpec], started: Timestamp, health: Health, now: Timestamp) -> Self {
        Self(specs.iter().map(|spec| ProbeState::resumed(spec, started, health, now)).collect())
    }

    /// Takes the result of the probe at `index` in; see [`ProbeState::observe`]. Of
    /// a probe that is not there, it changes nothing.
    #[must_use]
    pub fn observe(mut self, index: usize, now: Timestamp, result: ProbeResult) -> Self {
        if let Some(state) = self.0.get_mut(index) {
            *state = state.clone().observe(now, result);
        }
        self
    }

    /// Which probe comes next, and when: never before `now`. The one that waits
    /// longest comes first, so that none keeps another from its turn. `None` where
    /// there is no probe.
    #[must_use]
    pub fn next_due(&self, now: Timestamp) -> Option<(usize, Timestamp)> {
        let next = self.0.iter().enumerate().min_by_key(|(_, state)| state.due(now));
        next.map(|(index, state)| (index, state.next_due(now)))
    }

    /// What is known of the instance by all of them; see [`merge`].
    #[must_use]
    pub fn health(&self) -> Health {
        merge(self.0.iter().map(ProbeState::health))
    }

    /// The probe because of which the container is to be restarted, if there is one.
    #[must_use]
    pub fn must_restart(&self) -> Option<usize> {
        self.0.iter().position(ProbeState::must_restart)
    }

    /// Why it is unhealthy, in a sentence without a full stop; of several reasons the
    /// one that restarts it. `None` where it is not.
    #[must_use]
    pub fn blame(&self) -> Option<String> {
        let unhealthy = || self.0.iter().find(|state| state.health() == Health::Unhealthy);
        let state = self.0.iter().find(|state| state.must_restart()).or_else(unhealthy)?;
        let failed = state.results().rev().find(|result| result.verdict == Verdict::Failed);
        let what = failed.map_or("", |result| result.message.as_str());
        Some(format!("its {} probe failed: {what}", state.role().as_str()))
    }

    /// What it is healthy by, in a few words.
    #[must_use]
    pub fn praise(&self) -> String {
        match self.0.as_slice() {
            [state] => state.results().next_back().map_or_else(String::new, |result| result.message.clone()),
            states => format!("all {} probes pass", states.len()),
        }
    }

    /// Each probe by itself.
    #[must_use]
    pub fn states(&self) -> &[ProbeState] {
        &self.0
    }

    /// Whether there is none, so that something else has to say what is healthy.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Makes one health of several: unhealthy where one is, healthy where all are, and
/// starting where some have yet to prove it. `Unknown` where nothing is known by any.
#[must_use]
pub fn merge(each: impl IntoIterator<Item = Health>) -> Health {
    each.into_iter().reduce(both).unwrap_or_default()
}

/// Associative and commutative, so that the order of probes does not matter.
const fn both(one: Health, other: Health) -> Health {
    match (one, other) {
        (Health::Unhealthy, _) | (_, Health::Unhealthy) => Health::Unhealthy,
        (Health::Healthy, Health::Healthy) => Health::Healthy,
        (Health::Unknown, Health::Unknown) => Health::Unknown,
        _ => Health::Starting,
    }
}
