//! Who else meddles with a container.
//!
//! The engine tells of each signal that is sent through it, by whomever, and
//! keeps none of them. What of it is ours is told by when we were stopping the
//! container; what of the rest ended it, by exit code and by nearness in time.

use chrono::TimeDelta;
use domain::{Timestamp, plan::Container};

/// Signals kept of one container; older ones are forgotten.
const MOST: usize = 16;
/// A program that ends in an orderly way does so within this time of being asked.
const ORDERLY: TimeDelta = TimeDelta::seconds(60);
/// The engine tells of a signal a moment after it sent it.
const SLACK: TimeDelta = TimeDelta::milliseconds(500);

/// Signals that ask or force a program to end.
const ENDING: [i32; 4] = [2, 3, 9, 15];

/// What was sent to one instance's container, and when we did it ourselves.
#[derive(Debug, Default)]
pub(super) struct Meddling {
    signals: Vec<(i32, Timestamp)>,
    /// Our last stop: from when, and until when if it is over.
    stop: Option<(Timestamp, Option<Timestamp>)>,
}

impl Meddling {
    /// We begin to stop it.
    pub(super) fn stop_begins(&mut self, at: Timestamp) {
        self.stop = Some((at, None));
    }

    /// Our stop is over.
    pub(super) fn stop_ends(&mut self, at: Timestamp) {
        if let Some((_, end)) = &mut self.stop {
            *end = Some(at);
        }
    }

    /// Somebody, maybe we, sent it a signal. The same event may come twice.
    pub(super) fn signal(&mut self, signal: i32, at: Timestamp) {
        let ours = self
            .stop
            .is_some_and(|(begin, end)| begin - SLACK <= at && end.is_none_or(|end| at <= end + SLACK));
        if ours || self.signals.contains(&(signal, at)) {
            return;
        }
        if self.signals.len() >= MOST {
            self.signals.remove(0);
        }
        self.signals.push((signal, at));
    }

    /// The signal of somebody else that ended this run, if one did.
    pub(super) fn ended_by(&self, container: &Container) -> Option<i32> {
        let (Some(started), Some(finished)) = (container.started_at, container.finished_at) else {
            return None;
        };
        let in_time = |at: Timestamp| started <= at && at <= finished + SLACK;
        let sent = || self.signals.iter().rev().filter(|(_, at)| in_time(*at));
        let by_code = sent().find(|(signal, _)| container.exit_code == Some(128 + signal));
        let by_time = || {
            sent().find(|(signal, at)| {
                let killed_otherwise = container.exit_code.is_some_and(|code| code > 128);
                ENDING.contains(signal) && !killed_otherwise && finished - at <= ORDERLY
            })
        };
        by_code.or_else(by_time).map(|(signal, _)| *signal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::plan::ContainerStatus;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + TimeDelta::seconds(seconds)
    }

    fn ended(started: i64, finished: i64, code: i32) -> Container {
        Container {
            container_id: "c".into(),
            status: ContainerStatus::Exited,
            started_at: Some(at(started)),
            finished_at: Some(at(finished)),
            exit_code: Some(code),
            oom_killed: false,
            error: String::new(),
            image_id: None,
            ports: Vec::new(),
            outside_signal: None,
            pid: None,
            addresses: Vec::new(),
        }
    }

    #[test]
    fn a_signal_that_fits_the_exit_code_ended_it() {
        let mut meddling = Meddling::default();
        meddling.signal(15, at(10));
        meddling.signal(9, at(20));
        assert_eq!(meddling.ended_by(&ended(0, 20, 137)), Some(9));
        assert_eq!(meddling.ended_by(&ended(0, 11, 143)), Some(15));
    }

    #[test]
    fn a_program_that_was_asked_to_end_and_did_was_ended_by_it() {
        let mut meddling = Meddling::default();
        meddling.signal(15, at(10));
        assert_eq!(meddling.ended_by(&ended(0, 12, 0)), Some(15));
        assert_eq!(meddling.ended_by(&ended(0, 500, 0)), None, "too long ago");
        assert_eq!(meddling.ended_by(&ended(0, 12, 139)), None, "it fell to something else");
        assert_eq!(meddling.ended_by(&ended(30, 31, 0)), None, "of an earlier run");
    }

    #[test]
    fn a_signal_that_ends_nobody_is_not_blamed() {
        let mut meddling = Meddling::default();
        meddling.signal(1, at(10));
        assert_eq!(meddling.ended_by(&ended(0, 11, 1)), None);
    }

    #[test]
    fn our_own_stop_is_not_somebody_elses_however_late_its_event_comes() {
        let mut meddling = Meddling::default();
        meddling.stop_begins(at(10));
        meddling.signal(15, at(10));
        meddling.stop_ends(at(20));
        meddling.signal(9, at(20));
        assert_eq!(meddling.ended_by(&ended(0, 20, 137)), None);
        meddling.signal(9, at(40));
        assert_eq!(meddling.ended_by(&ended(30, 40, 137)), Some(9));
    }
}
