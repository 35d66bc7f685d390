//! Which lines of a container's log are of which run.
//!
//! A line is stamped by the engine when it reads it, not when it is written: the last
//! lines of a run often carry a time after its end, and the first ones one before its
//! start, which the engine notes only when the process is already running. So a run's
//! window reaches a little beyond both, and where it would meet its neighbour's, the
//! border is half-way between the end of the one and the start of the other: nobody
//! writes there, since an engine takes a tenth of a second at least to start a process.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use domain::{Timestamp, id::InstanceId};

use crate::death::Death;

/// How far beyond its end a run's window reaches at most.
const BEHIND: TimeDelta = TimeDelta::seconds(2);
/// How far before its start.
const BEFORE: TimeDelta = TimeDelta::seconds(1);
/// How far before its start where a run came before it of which nothing is known.
const BEFORE_UNKNOWN: TimeDelta = TimeDelta::milliseconds(100);
/// Most instances whose earlier runs are remembered, and most runs of each.
const INSTANCES_MAX: usize = 1024;
const RUNS_MAX: usize = 8;

/// The moments between which a run's lines lie, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) from: Timestamp,
    pub(super) until: Timestamp,
}

impl Window {
    pub(super) fn holds(&self, at: Timestamp) -> bool {
        (self.from..=self.until).contains(&at)
    }
}

/// Runs that have ended, as far as this agent was told: by start, with their end.
#[derive(Debug, Default)]
pub(super) struct Runs(BTreeMap<InstanceId, BTreeMap<Timestamp, Timestamp>>);

impl Runs {
    /// Remembers a run.
    pub(super) fn note(&mut self, death: &Death) {
        let Some(started) = death.started_at else { return };
        let runs = self.0.entry(death.instance_id).or_default();
        runs.insert(started, death.ended_at);
        if runs.len() > RUNS_MAX {
            runs.pop_first();
        }
        if self.0.len() > INSTANCES_MAX {
            // Ids grow with time, so this is the one that has been there longest.
            self.0.pop_first();
        }
    }

    /// The window of the run that ended, where `present` is the start of the run that
    /// the engine shows now. `None` where it cannot be told from others.
    pub(super) fn window(&self, death: &Death, present: Option<Timestamp>) -> Option<Window> {
        let (started, ended) = (death.started_at?, death.ended_at);
        if ended < started {
            // The clock was set back meanwhile: no stamp of it means anything.
            return None;
        }
        let runs = self.0.get(&death.instance_id);
        let known = runs.into_iter().flatten().map(|(start, end)| (*start, *end));
        let next =
            known.clone().map(|(start, _)| start).chain(present).filter(|start| *start > started).min();
        let until = match next {
            Some(next) => ended + half(next - ended).min(BEHIND),
            None => ended + BEHIND,
        };
        let before = known.filter(|(start, _)| *start < started).map(|(_, end)| end).max();
        let from = match before {
            Some(before) => started - half(started - before).min(BEFORE),
            // The first attempt of an instance has its container to itself.
            None if death.attempt == 1 => started - BEFORE,
            None => started - BEFORE_UNKNOWN,
        };
        Some(Window { from, until })
    }
}

/// Half of what lies between two runs; nothing where the clock was set back.
fn half(between: TimeDelta) -> TimeDelta {
    (between / 2).max(TimeDelta::zero())
}

#[cfg(test)]
mod tests {
    use domain::instance::Outcome;
    use uuid::Uuid;

    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + TimeDelta::days(20_000) + TimeDelta::milliseconds(millis)
    }

    fn death(attempt: u32, started: i64, ended: i64) -> Death {
        Death {
            instance_id: InstanceId::from_uuid(Uuid::nil()),
            attempt,
            started_at: Some(at(started)),
            ended_at: at(ended),
            outcome: Outcome::Exited { code: 1, oom: false },
            container_id: Some("0a1b".into()),
            memory_limit_bytes: None,
            probes: Vec::new(),
        }
    }

    fn window(runs: &Runs, death: &Death, present: Option<i64>) -> (i64, i64) {
        let Window { from, until } = runs.window(death, present.map(at)).unwrap();
        ((from - at(0)).num_milliseconds(), (until - at(0)).num_milliseconds())
    }

    #[test]
    fn a_run_without_neighbours_reaches_a_little_beyond_its_start_and_end() {
        let runs = Runs::default();
        assert_eq!(window(&runs, &death(1, 10_000, 20_000), None), (9_000, 22_000));
        assert_eq!(window(&runs, &death(1, 10_000, 20_000), Some(10_000)), (9_000, 22_000));
        // Of the run before nothing is known but that there was one.
        assert_eq!(window(&runs, &death(5, 10_000, 20_000), None), (9_900, 22_000));
    }

    #[test]
    fn two_runs_meet_half_way_and_share_nothing() {
        let mut runs = Runs::default();
        let (first, second) = (death(1, 10_000, 20_000), death(2, 20_300, 30_000));
        assert_eq!(window(&runs, &first, Some(20_300)), (9_000, 20_150));
        runs.note(&first);
        runs.note(&second);
        assert_eq!(window(&runs, &first, None), (9_000, 20_150));
        assert_eq!(window(&runs, &second, Some(20_300)), (20_150, 32_000));
        // The engine shows the third by now; the second is known from its end.
        assert_eq!(window(&runs, &first, Some(31_000)), (9_000, 20_150));
        assert_eq!(window(&runs, &second, Some(31_000)), (20_150, 30_500));
    }

    #[test]
    fn runs_far_apart_reach_no_further_than_they_would_alone() {
        let mut runs = Runs::default();
        let (first, second) = (death(1, 0, 1_000), death(2, 100_000, 101_000));
        runs.note(&first);
        assert_eq!(window(&runs, &first, Some(100_000)), (-1_000, 3_000));
        assert_eq!(window(&runs, &second, None), (99_000, 103_000));
    }

    #[test]
    fn a_run_whose_start_is_unknown_or_behind_its_end_has_no_window() {
        let runs = Runs::default();
        assert_eq!(runs.window(&Death { started_at: None, ..death(1, 0, 1) }, None), None);
        assert_eq!(runs.window(&death(1, 5_000, 4_000), None), None);
    }

    #[test]
    fn a_next_run_that_seems_to_begin_before_the_end_takes_nothing_away() {
        // A clock that was set back between the two.
        assert_eq!(window(&Runs::default(), &death(1, 0, 5_000), Some(4_000)), (-1_000, 5_000));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut runs = Runs::default();
        for n in 0..3_000_u32 {
            let other = InstanceId::from_uuid(Uuid::from_u128(u128::from(n) + 1));
            runs.note(&Death { instance_id: other, ..death(1, 0, 1) });
            runs.note(&death(n, i64::from(n) * 10, i64::from(n) * 10 + 1));
        }
        assert!(runs.0.len() <= INSTANCES_MAX + 1);
        assert!(runs.0.values().all(|runs| runs.len() <= RUNS_MAX));
    }
}
