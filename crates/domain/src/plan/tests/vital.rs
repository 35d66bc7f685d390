//! What probes, measuring, the image and the lease do to an instance.

use super::*;
use crate::{
    deployment::RestartPolicy,
    instance::FailureReason,
    probe::{ProbeKind, ProbeResult, ProbeRole, ProbeSpec, Probes, Verdict},
    spec::StorageExceeded,
};

const MIB: u64 = 1024 * 1024;

fn spec(role: ProbeRole) -> ProbeSpec {
    ProbeSpec { start_period_seconds: 0, ..ProbeSpec::new(role, ProbeKind::Tcp { port: 80 }) }
}

/// Assigned with these probes, each of which fails for good with its third failure.
fn probed_by(roles: &[ProbeRole]) -> Assignment {
    let mut assignment = assignment(Desired::Running, 0);
    assignment.spec.probes = roles.iter().copied().map(spec).collect();
    assignment
}

fn running(started: i64) -> Seen {
    Seen::Present(container(ContainerStatus::Running, Some(started)))
}

fn exited(started: i64, finished: i64, code: i32) -> Seen {
    Seen::Present(Container {
        finished_at: Some(at(finished)),
        exit_code: Some(code),
        ..container(ContainerStatus::Exited, Some(started))
    })
}

/// A record of a run that began at `started`.
fn run(wish: &Wish<'_>, record: &Record, started: i64) -> Record {
    observe(wish, record, &running(started), at(started)).0
}

fn result(now: i64, verdict: Verdict) -> ProbeResult {
    let message = if verdict == Verdict::Failed { "status 500" } else { "status 200" };
    ProbeResult { at: at(now), took: Duration::ZERO, verdict, message: message.into() }
}

/// A run with its record and its probes.
struct Run<'a> {
    assignment: &'a Assignment,
    record: Record,
    probes: Probes,
}

impl<'a> Run<'a> {
    fn begin(assignment: &'a Assignment, record: &Record, started: i64) -> Self {
        let record = run(&Wish::Run(assignment), record, started);
        let probes = Probes::new(&assignment.spec.probes, at(started), at(started));
        Self { assignment, record, probes }
    }

    fn finds(&mut self, probe: usize, now: i64, verdict: Verdict) -> Option<Transition> {
        self.probes = self.probes.clone().observe(probe, at(now), result(now, verdict));
        let wish = Wish::Run(self.assignment);
        let (record, transition) = probed(&wish, &self.record, &self.probes, at(now));
        assert_eq!(probed(&wish, &record, &self.probes, at(now)), (record.clone(), None), "once");
        self.record = record;
        transition
    }

    /// Three failures from `now` on, one each millisecond.
    fn fails(&mut self, probe: usize, now: i64) -> Option<Transition> {
        assert_eq!(self.finds(probe, now, Verdict::Failed), None);
        assert_eq!(self.finds(probe, now + 1, Verdict::Failed), None);
        self.finds(probe, now + 2, Verdict::Failed)
    }

    fn step(&self, started: i64, now: i64) -> Step {
        decide(&Wish::Run(self.assignment), &self.record, &running(started), at(now))
    }

    /// Stops it as it was decided, and answers how that was reported.
    fn stops(&mut self, started: i64, now: i64) -> Vec<Transition> {
        let wish = Wish::Run(self.assignment);
        let step = self.step(started, now);
        assert!(matches!(step, Step::Stop { .. }), "{step:?}");
        let (record, stopping) = begin(&wish, &self.record, step, at(now));
        let (record, happened) = observe(&wish, &record, &exited(started, now, 143), at(now));
        self.record = record;
        stopping.into_iter().chain(happened).collect()
    }
}

fn unhealthy(outcome: Option<&Outcome>) -> bool {
    matches!(outcome, Some(Outcome::Failed { reason: FailureReason::Unhealthy, .. }))
}

#[test]
fn with_probes_time_says_nothing_and_the_first_success_does() {
    let assignment = probed_by(&[ProbeRole::Readiness]);
    let mut run = Run::begin(&assignment, &Record::new(instance()), 0);
    assert_eq!(run.step(0, 100_000), Step::Nothing);
    assert_eq!(observe(&Wish::Run(&assignment), &run.record, &running(0), at(100_000)).1, []);
    let healthy = run.finds(0, 1000, Verdict::Passed).unwrap();
    assert_eq!(
        (healthy.status.health, &healthy.cause, healthy.at),
        (Health::Healthy, &Cause::Probe, at(1000))
    );
    assert_eq!(healthy.message, "healthy: status 200");
    assert_eq!(run.finds(0, 2000, Verdict::Passed), None, "no news");
}

#[test]
fn one_whose_container_is_gone_when_it_was_stopped_has_no_exit_code() {
    let assignment = probed_by(&[ProbeRole::Liveness]);
    let wish = Wish::Run(&assignment);
    let mut run = Run::begin(&assignment, &Record::new(instance()), 0);
    assert!(run.fails(0, 1000).is_some());
    let (record, _) = begin(&wish, &run.record, run.step(0, 2000), at(2000));
    let (record, told) = observe(&wish, &record, &Seen::Absent, at(2000));
    assert!(unhealthy(record.status.outcome.as_ref()), "{record:?}");
    assert_eq!(record.status.outcome.unwrap().exit_code(), None);
    assert!(!told[0].message.contains("exit code"), "{told:?}");
}

/// One without probes, which is healthy after a minute.
fn timed() -> Assignment {
    let mut assignment = assignment(Desired::Running, 0);
    assignment.spec.min_healthy_seconds = 60;
    assignment
}

#[test]
fn a_calendar_that_is_set_makes_nothing_healthy_sooner_or_later() {
    const MINUTE: i64 = 60_000;
    let assignment = timed();
    let wish = Wish::Run(&assignment);
    // It began an hour into some day, and 20 s later the calendar is set.
    let (began, set) = (60 * MINUTE, 60 * MINUTE + 20_000);
    for by in [-50 * MINUTE, -24 * 60 * MINUTE, 50 * MINUTE] {
        let record = run(&wish, &Record::new(instance()), began);
        let record = jumped(&record, chrono::TimeDelta::milliseconds(by));
        let due = began + MINUTE + by;
        for now in [set + by, due - 1] {
            let (looked, told) = observe(&wish, &record, &running(began), at(now));
            assert_eq!(told, [], "{by}");
            assert_eq!(decide(&wish, &looked, &running(began), at(now)), Step::WaitUntil(at(due)), "{by}");
        }
        assert_eq!(decide(&wish, &record, &running(began), at(due)), Step::Inspect, "{by}");
        let (healthy, told) = observe(&wish, &record, &running(began), at(due));
        assert_eq!((healthy.status.health, told[0].at), (Health::Healthy, at(due)), "{by}");
        // The next run knows nothing of it.
        let next = due + MINUTE;
        let (ended, _) = observe(&wish, &healthy, &exited(began, next, 1), at(next));
        let (again, _) = observe(&wish, &ended, &running(next), at(next));
        assert_eq!(decide(&wish, &again, &running(next), at(next)), Step::WaitUntil(at(next + MINUTE)));
    }
}

#[test]
fn a_run_that_began_in_the_future_is_taken_to_begin_when_it_is_first_seen() {
    let assignment = timed();
    let wish = Wish::Run(&assignment);
    // Whoever sees it was not there when the calendar was set back by a day.
    let (began, now) = (86_400_000, 1_000);
    let (record, _) = observe(&wish, &Record::new(instance()), &running(began), at(now));
    assert_eq!(record.status.health, Health::Starting);
    assert_eq!(decide(&wish, &record, &running(began), at(now)), Step::WaitUntil(at(now + 60_000)));
    let (record, _) = observe(&wish, &record, &running(began), at(now + 60_000));
    assert_eq!(record.status.health, Health::Healthy);
}

#[test]
fn all_probes_have_to_pass_and_one_is_enough_to_fail() {
    let assignment = probed_by(&[ProbeRole::Readiness, ProbeRole::Readiness]);
    let mut run = Run::begin(&assignment, &Record::new(instance()), 0);
    assert_eq!(run.finds(0, 1000, Verdict::Passed), None);
    assert_eq!(run.finds(1, 1001, Verdict::Passed).unwrap().message, "healthy: all 2 probes pass");
    let unhealthy = run.fails(1, 2000).unwrap();
    assert_eq!(unhealthy.status.health, Health::Unhealthy);
    assert_eq!(unhealthy.message, "unhealthy: its readiness probe failed: status 500");
    assert_eq!(run.finds(1, 3000, Verdict::Passed).unwrap().status.health, Health::Healthy);
}

#[test]
fn an_image_without_a_check_of_its_own_is_judged_by_time() {
    let assignment = probed_by(&[ProbeRole::Liveness]);
    let wish = Wish::Run(&assignment);
    let record = unprobed(&run(&wish, &Record::new(instance()), 0));
    assert_eq!(decide(&wish, &record, &running(0), at(1)), Step::WaitUntil(at(1000)));
    assert_eq!(observe(&wish, &record, &running(0), at(1000)).1[0].cause, Cause::Time);
}

#[test]
fn an_instance_whose_readiness_fails_is_left_alone() {
    let assignment = probed_by(&[ProbeRole::Readiness]);
    let mut run = Run::begin(&assignment, &Record::new(instance()), 0);
    assert!(run.fails(0, 1000).is_some());
    assert_eq!(run.step(0, 2000), Step::Nothing);
}

#[test]
fn an_instance_whose_liveness_fails_is_stopped_and_has_failed_and_is_started_again() {
    let assignment = probed_by(&[ProbeRole::Liveness]);
    let mut run = Run::begin(&assignment, &Record::new(instance()), 0);
    assert_eq!(run.finds(0, 500, Verdict::Passed).unwrap().status.health, Health::Healthy);
    assert_eq!(run.fails(0, 1000).unwrap().status.health, Health::Unhealthy);
    let told = run.stops(0, 2000);
    assert_eq!(told[0].message, "stopping within 10 s: its liveness probe failed: status 500");
    assert_eq!(
        told[1].message,
        "stopped: its liveness probe failed: status 500; it ended with exit code 143 (SIGTERM); it is started again at once"
    );
    assert!(told.iter().all(|transition| transition.cause == Cause::Probe));
    let status = &run.record.status;
    assert!(unhealthy(status.outcome.as_ref()), "{status:?}");
    let outcome = status.outcome.as_ref().unwrap();
    assert_eq!((outcome.exit_code(), outcome.signal()), (Some(143), Some(15)));
    assert_eq!((status.progress.phase, status.health, status.failures), (Phase::Ended, Health::Unknown, 1));
    assert_eq!(decide(&Wish::Run(&assignment), &run.record, &exited(0, 2000, 143), at(2000)), Step::Start);
    // The next run begins with a clean sheet.
    let next = Run::begin(&assignment, &run.record, 3000);
    assert_eq!((next.record.status.progress.attempt, next.step(3000, 3001)), (2, Step::Nothing));
}

#[test]
fn one_that_works_again_before_it_is_stopped_is_not_stopped() {
    let assignment = probed_by(&[ProbeRole::Liveness]);
    let mut run = Run::begin(&assignment, &Record::new(instance()), 0);
    assert!(run.fails(0, 1000).is_some());
    assert!(matches!(run.step(0, 1500), Step::Stop { .. }));
    assert_eq!(run.finds(0, 2000, Verdict::Passed).unwrap().status.health, Health::Healthy);
    assert_eq!(run.step(0, 2500), Step::Nothing);
}

#[test]
fn an_agent_that_ends_while_it_stops_an_unhealthy_one_still_knows_why() {
    let assignment = probed_by(&[ProbeRole::Liveness]);
    let wish = Wish::Run(&assignment);
    let mut run = Run::begin(&assignment, &Record::new(instance()), 0);
    assert!(run.fails(0, 1000).is_some());
    let reread = |record: &Record| -> Record {
        serde_json::from_str(&serde_json::to_string(record).unwrap()).unwrap()
    };
    let judged = reread(&run.record);
    assert_eq!(decide(&wish, &judged, &running(0), at(2000)), Step::Nothing, "it has to fail anew (I10)");
    let (stopping, _) = begin(&wish, &run.record, Step::Stop { grace: Duration::ZERO }, at(2000));
    for seen in [exited(0, 2500, 137), Seen::Absent] {
        let (record, _) = observe(&wish, &reread(&stopping), &seen, at(3000));
        assert!(unhealthy(record.status.outcome.as_ref()), "{:?}", record.status.outcome);
    }
    assert!(
        matches!(decide(&wish, &reread(&stopping), &running(0), at(3000)), Step::Stop { .. }),
        "finished"
    );
}

#[test]
fn what_was_unhealthy_is_so_until_all_its_probes_say_otherwise() {
    let assignment = probed_by(&[ProbeRole::Readiness]);
    let mut run = Run::begin(&assignment, &Record::new(instance()), 0);
    assert!(run.fails(0, 1000).is_some());
    // Another agent, which has asked nothing yet, and then once.
    run.probes = Probes::resumed(&assignment.spec.probes, at(0), run.record.status.health, at(5000));
    let wish = Wish::Run(&assignment);
    assert_eq!(probed(&wish, &run.record, &run.probes, at(5000)), (run.record.clone(), None));
    assert_eq!(run.finds(0, 6000, Verdict::Failed), None);
    assert_eq!(run.finds(0, 7000, Verdict::Passed).unwrap().status.health, Health::Healthy);
}

#[test]
fn one_that_is_always_unhealthy_waits_longer_each_time_however_long_it_runs() {
    let assignment = probed_by(&[ProbeRole::Liveness]);
    let (mut record, mut now, mut failures) = (Record::new(instance()), 0, Vec::new());
    for _ in 0..3 {
        let mut run = Run::begin(&assignment, &record, now);
        // It takes ten minutes each time to be found out.
        assert!(run.fails(0, now + 600_000).is_some());
        run.stops(now, now + 601_000);
        failures.push(run.record.status.failures);
        now = run.record.status.backoff_until.unwrap().timestamp_millis() + 1;
        record = run.record;
    }
    assert_eq!(failures, [1, 2, 3]);
    let mut run = Run::begin(&assignment, &record, now);
    assert!(run.finds(0, now + 1000, Verdict::Passed).is_some());
    assert_eq!(run.fails(0, now + 31_000).unwrap().status.failures, 0, "healthy for 30 s");
    run.stops(now, now + 32_000);
    assert_eq!(run.record.status.failures, 1);
}

#[test]
fn an_unhealthy_one_did_run_and_the_restart_policy_says_what_follows() {
    let retries = |max| RestartPolicy::OnFailure { max_retries: max };
    for (policy, again) in [
        (RestartPolicy::Always, true),
        (RestartPolicy::Never, false),
        (retries(None), true),
        (retries(Some(0)), false),
        (retries(Some(1)), true),
    ] {
        let mut assignment = probed_by(&[ProbeRole::Liveness]);
        assignment.spec.restart = policy;
        let mut run = Run::begin(&assignment, &Record::new(instance()), 0);
        assert!(run.fails(0, 1000).is_some());
        run.stops(0, 2000);
        assert_eq!(run.record.status.backoff_until.is_some(), again, "{policy:?}");
    }
}

#[test]
fn a_restart_that_was_asked_for_is_not_an_unhealthy_end() {
    let assignment = probed_by(&[ProbeRole::Liveness]);
    let mut run = Run::begin(&assignment, &Record::new(instance()), 0);
    assert!(run.fails(0, 1000).is_some());
    let asked = Assignment { restart_generation: 1, ..assignment.clone() };
    run.assignment = &asked;
    let told = run.stops(0, 2000);
    assert_eq!(told[0].cause, Cause::RestartRequested);
    assert_eq!(run.record.status.outcome, Some(Outcome::Stopped { code: Some(143) }));
}

#[test]
fn probes_say_nothing_of_one_that_does_not_run_or_is_not_wanted() {
    let assignment = probed_by(&[ProbeRole::Liveness]);
    let mut run = Run::begin(&assignment, &Record::new(instance()), 0);
    assert!(run.fails(0, 1000).is_some());
    for wish in [Wish::Stop(&assignment), Wish::Hold(&assignment), Wish::Remove(Some(&assignment))] {
        let (record, _) = observe(&wish, &Record::new(instance()), &running(0), at(1));
        assert_eq!(probed(&wish, &record, &run.probes, at(2000)), (record, None));
    }
    run.stops(0, 2000);
    let wish = Wish::Run(&assignment);
    assert_eq!(probed(&wish, &run.record, &run.probes, at(3000)), (run.record.clone(), None));
}

fn limited(policy: StorageExceeded) -> Assignment {
    let mut assignment = assignment(Desired::Running, 0);
    assignment.spec.limits.storage_bytes = Some(100 * MIB);
    assignment.spec.limits.storage_exceeded = policy;
    assignment
}

#[test]
fn one_that_writes_too_much_is_marked_until_it_has_shrunk_well_below_its_limit() {
    let assignment = limited(StorageExceeded::Mark);
    let wish = Wish::Run(&assignment);
    let mut record = run(&wish, &Record::new(instance()), 0);
    let mut told = Vec::new();
    for (now, mebibytes) in [(1, 100), (2, 101), (3, 99), (4, 102), (5, 91), (6, 90), (7, 99)] {
        let (after, transition) = measured(&wish, &record, mebibytes * MIB, at(now));
        assert_eq!(measured(&wish, &after, mebibytes * MIB, at(now)), (after.clone(), None), "once");
        record = after;
        told.extend(transition.map(|t| (now, t.cause, t.message)));
        assert!(!matches!(decide(&wish, &record, &running(0), at(now)), Step::Stop { .. }));
    }
    let over = "its writable layer is over its limit: 101 MiB of 100 MiB";
    let within = "its writable layer is within its limit again: 90 MiB of 100 MiB";
    assert_eq!(told, [(2, Cause::Storage, over.into()), (6, Cause::Storage, within.into())]);
}

#[test]
fn one_that_writes_too_much_is_stopped_where_its_policy_says_so_and_stays_down() {
    let assigned = limited(StorageExceeded::Stop);
    let wish = Wish::Run(&assigned);
    let mut run = Run::begin(&assigned, &Record::new(instance()), 0);
    let (record, marked) = measured(&wish, &run.record, 100 * MIB + 1, at(1000));
    assert!(marked.is_some_and(|t| t.status.storage_exceeded));
    run.record = record;
    let told = run.stops(0, 2000);
    assert!(told.iter().all(|t| t.cause == Cause::Storage), "{told:?}");
    assert_eq!(
        told[1].message,
        "stopped: its writable layer is over its limit: 101 MiB of 100 MiB; it ended with exit code 143 (SIGTERM); it is not started again"
    );
    let status = &run.record.status;
    assert!(matches!(status.outcome, Some(Outcome::Failed { reason: FailureReason::StorageExceeded, .. })));
    let end = exited(0, 2000, 143);
    assert_eq!(decide(&wish, &run.record, &end, at(1_000_000)), Step::Nothing);
    // Asked for by a user it begins again, with a layer of its own.
    let asked = Assignment { restart_generation: 1, ..assigned.clone() };
    let wish = Wish::Run(&asked);
    let record = heed(&wish, &run.record, &end, at(3000)).record;
    assert_eq!(decide(&wish, &record, &end, at(3000)), Step::Remove);
    let (record, _) = observe(&wish, &record, &Seen::Absent, at(3001));
    assert!(!record.status.storage_exceeded);
    assert_eq!(decide(&wish, &record, &Seen::Absent, at(3001)), Step::CheckImage);
}

#[test]
fn one_that_shrinks_before_it_is_stopped_is_not_stopped_and_an_agent_that_comes_back_measures_anew() {
    let assignment = limited(StorageExceeded::Stop);
    let wish = Wish::Run(&assignment);
    let record = run(&wish, &Record::new(instance()), 0);
    let (over, _) = measured(&wish, &record, 101 * MIB, at(1));
    assert!(matches!(decide(&wish, &over, &running(0), at(1)), Step::Stop { .. }));
    let (shrunk, _) = measured(&wish, &over, 50 * MIB, at(2));
    assert!(!matches!(decide(&wish, &shrunk, &running(0), at(2)), Step::Stop { .. }));
    let reread: Record = serde_json::from_str(&serde_json::to_string(&over).unwrap()).unwrap();
    assert!(!matches!(decide(&wish, &reread, &running(0), at(3)), Step::Stop { .. }));
    let (again, told) = measured(&wish, &reread, 101 * MIB, at(4));
    assert_eq!(told, None, "it was told already");
    assert!(matches!(decide(&wish, &again, &running(0), at(4)), Step::Stop { .. }));
}

#[test]
fn where_there_is_no_limit_nothing_is_too_much() {
    let mut assignment = limited(StorageExceeded::Stop);
    assignment.spec.limits.storage_bytes = None;
    let wish = Wish::Run(&assignment);
    let record = run(&wish, &Record::new(instance()), 0);
    assert_eq!(measured(&wish, &record, u64::MAX, at(1)), (record, None));
}

#[test]
fn the_digest_goes_with_the_report_of_the_run_or_is_told_by_itself() {
    let assignment = assignment(Desired::Running, 0);
    let wish = Wish::Run(&assignment);
    let made = Seen::Present(container(ContainerStatus::Created, None));
    let (record, _) = observe(&wish, &Record::new(instance()), &made, at(1));
    let (early, told) = identified(&record, "sha256:1", Some("sha256:d"), at(2));
    assert_eq!(told, None);
    let (early, happened) = observe(&wish, &early, &running(3), at(3));
    assert_eq!(happened[0].status.image_digest.as_deref(), Some("sha256:d"));
    assert_eq!(identified(&early, "sha256:1", Some("sha256:d"), at(4)), (early, None));

    let late = run(&wish, &record, 3);
    let (_, told) = identified(&late, "sha256:1", Some("sha256:d"), at(4));
    let told = told.unwrap();
    assert_eq!((told.status.image_digest.as_deref(), &told.cause), (Some("sha256:d"), &Cause::Assigned));
    assert_eq!(identified(&late, "sha256:2", Some("sha256:d"), at(4)).0, late, "of another image");
    assert_eq!(identified(&late, "sha256:1", None, at(4)), (late, None));
}

#[test]
fn one_that_may_not_run_without_its_controller_is_stopped_and_runs_again_with_a_new_word() {
    let mut assigned = assignment(Desired::Running, 0);
    assigned.spec.stop_after_seconds = Some(60);
    let lease = |seconds| Wish::Run(&assigned).under_lease(Duration::from_secs(seconds));
    assert!(matches!(lease(60), Wish::Run(_)));
    let (fresh, held) = (lease(0), lease(61));
    let record = run(&fresh, &Record::new(instance()), 0);
    let step = decide(&held, &record, &running(0), at(61_000));
    assert!(matches!(step, Step::Stop { .. }));
    let (record, stopping) = begin(&held, &record, step, at(61_000));
    assert_eq!(stopping.map(|t| t.cause), Some(Cause::LeaseExpired));
    let end = exited(0, 61_500, 143);
    // The word may come while it is being stopped: that is finished first.
    assert!(matches!(decide(&fresh, &record, &running(0), at(61_200)), Step::Stop { .. }));
    for wish in [&held, &fresh] {
        let (record, happened) = observe(wish, &record, &end, at(62_000));
        assert_eq!((&happened[0].cause, happened.len()), (&Cause::LeaseExpired, 1));
        assert_eq!(record.status.outcome, Some(Outcome::Stopped { code: Some(143) }));
        assert_eq!(decide(&held, &record, &end, at(62_000)), Step::Nothing);
        assert_eq!(heed(&held, &record, &end, at(62_000)).transition, None);
        assert_eq!(decide(&fresh, &record, &end, at(62_000)), Step::Start);
    }
    let forever = assignment(Desired::Running, 0);
    assert!(matches!(Wish::Run(&forever).under_lease(Duration::MAX), Wish::Run(_)));
}

#[test]
fn what_had_ended_by_itself_is_not_begun_anew_because_the_controller_was_away() {
    for (policy, after) in [(RestartPolicy::Never, Step::Nothing), (RestartPolicy::Always, Step::Start)] {
        let mut assigned = assignment(Desired::Running, 0);
        assigned.spec.restart = policy;
        let (fresh, held) = (Wish::Run(&assigned), Wish::Hold(&assigned));
        let end = exited(0, 10, 0);
        let (record, _) = observe(&fresh, &run(&fresh, &Record::new(instance()), 0), &end, at(11));
        assert_eq!(decide(&held, &record, &end, at(12)), Step::Nothing, "{policy:?}");
        let heeded = heed(&held, &record, &end, at(12));
        assert_eq!((heeded.record, heeded.transition), (record.clone(), None));
        assert_eq!(decide(&fresh, &record, &end, at(60_000)), after, "{policy:?}");
    }
}

#[test]
fn a_record_from_before_there_were_probes_reads() {
    let mut value = serde_json::to_value(Record::new(instance())).unwrap();
    let fields = value.as_object_mut().unwrap();
    fields.remove("stopping_for");
    fields.remove("healthy_since");
    assert_eq!(serde_json::from_value::<Record>(value).unwrap(), Record::new(instance()));
}
