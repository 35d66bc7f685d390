//! One test for each state and what may happen in it.

use super::*;
use crate::deployment::{PullPolicy, RestartPolicy};

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

fn created() -> Seen {
    Seen::Present(container(ContainerStatus::Created, None))
}

/// A record after all of `looks`.
fn after(wish: &Wish<'_>, looks: &[(Seen, i64)]) -> Record {
    looks.iter().fold(Record::new(instance()), |record, (seen, now)| observe(wish, &record, seen, at(*now)).0)
}

fn phases(happened: &[Transition]) -> Vec<(u32, Phase, Health)> {
    happened.iter().map(|t| (t.status.progress.attempt, t.status.progress.phase, t.status.health)).collect()
}

fn failure(reason: FailureReason) -> Failure {
    Failure { reason: Some(reason), message: "no".into() }
}

use crate::instance::FailureReason;

#[test]
fn an_instance_that_is_new_is_checked_pulled_created_and_started() {
    let assignment = assignment(Desired::Running, 0);
    let wish = Wish::Run(&assignment);
    let record = Record::new(instance());
    let next = |record: &Record, seen: &Seen| decide(&wish, record, seen, at(0));
    assert_eq!(next(&record, &Seen::Absent), Step::CheckImage);
    assert_eq!(next(&image_checked(&record, true), &Seen::Absent), Step::Create);
    let record = image_checked(&record, false);
    assert_eq!(next(&record, &Seen::Absent), Step::Pull);
    let (record, pulling) = begin(&wish, &record, Step::Pull, at(0));
    assert_eq!(pulling.map(|t| (t.status.progress.phase, t.cause)), Some((Phase::Pulling, Cause::Assigned)));
    let record = image_pulled(&record);
    assert_eq!(next(&record, &Seen::Absent), Step::Create);
    assert_eq!(next(&record, &created()), Step::Start);
    let (record, happened) = observe(&wish, &record, &running(5), at(6));
    assert_eq!(phases(&happened), [(1, Phase::Running, Health::Starting)]);
    assert_eq!(happened[0].at, at(5), "the engine's time, not ours");
    assert_eq!(next(&record, &running(5)), Step::WaitUntil(at(1005)));
}

#[test]
fn the_pull_policy_says_whether_the_registry_is_asked() {
    for (pull, unknown, missing, here) in [
        (PullPolicy::Always, Step::Pull, Step::Pull, Step::Create),
        (PullPolicy::Missing, Step::CheckImage, Step::Pull, Step::Create),
        (PullPolicy::Never, Step::Create, Step::Create, Step::Create),
    ] {
        let mut assignment = assignment(Desired::Running, 0);
        assignment.spec.pull = pull;
        let record = Record::new(instance());
        let next = |record: &Record| decide(&Wish::Run(&assignment), record, &Seen::Absent, at(0));
        assert_eq!(next(&record), unknown, "{pull:?}");
        assert_eq!(next(&image_checked(&record, false)), missing, "{pull:?}");
        assert_eq!(next(&image_pulled(&record)), here, "{pull:?}");
    }
}

#[test]
fn health_is_granted_only_by_a_look_after_its_time() {
    let assignment = assignment(Desired::Running, 0);
    let wish = Wish::Run(&assignment);
    let record = after(&wish, &[(running(0), 1)]);
    assert_eq!(decide(&wish, &record, &running(0), at(999)), Step::WaitUntil(at(1000)));
    assert_eq!(decide(&wish, &record, &running(0), at(1000)), Step::Inspect);
    assert_eq!(observe(&wish, &record, &running(0), at(999)).1, []);
    let (record, happened) = observe(&wish, &record, &running(0), at(1500));
    assert_eq!(phases(&happened), [(1, Phase::Running, Health::Healthy)]);
    assert_eq!((happened[0].at, &happened[0].cause), (at(1000), &Cause::Time));
    assert_eq!(decide(&wish, &record, &running(0), at(1500)), Step::Nothing);
}

#[test]
fn a_run_that_an_agent_finds_when_it_comes_back_is_adopted_whatever_it_remembers() {
    let assignment = assignment(Desired::Running, 0);
    let wish = Wish::Run(&assignment);
    let fresh = Record::new(instance());
    let (record, happened) = observe(&wish, &fresh, &running(0), at(60_000));
    assert_eq!(
        phases(&happened),
        [(1, Phase::Running, Health::Starting), (1, Phase::Running, Health::Healthy)]
    );
    let again = observe(&wish, &record, &running(0), at(61_000));
    assert_eq!(again, (record, vec![]), "and seeing it again is no news");
}

#[test]
fn an_end_says_how_and_what_follows() {
    let assignment = assignment(Desired::Running, 0);
    let wish = Wish::Run(&assignment);
    let record = after(&wish, &[(running(0), 1)]);
    let (record, happened) = observe(&wish, &record, &exited(0, 500, 3), at(510));
    assert_eq!(happened[0].cause, Cause::Process);
    assert_eq!(happened[0].message, "ended with exit code 3; it is started again at once");
    assert_eq!(happened[0].at, at(500));
    assert_eq!(record.status.outcome, Some(Outcome::Exited { code: 3, oom: false }));
    assert_eq!((record.status.failures, record.status.health), (1, Health::Unknown));
    assert_eq!(decide(&wish, &record, &exited(0, 500, 3), at(510)), Step::Start);
}

#[test]
fn a_kill_from_outside_is_named_and_is_not_the_programs_failure() {
    let assignment = assignment(Desired::Running, 0);
    let wish = Wish::Run(&assignment);
    let mut killed = container(ContainerStatus::Exited, Some(0));
    killed.exit_code = Some(137);
    killed.outside_signal = Some(9);
    let (record, happened) = observe(&wish, &after(&wish, &[(running(0), 1)]), &Seen::Present(killed), at(2));
    assert_eq!(happened[0].cause, Cause::OutsideSignal { signal: 9 });
    assert_eq!(
        happened[0].message,
        "ended with exit code 137 (SIGKILL); somebody else sent SIGKILL through the engine; it is started again at once"
    );
    assert_eq!(record.status.failures, 0);
}

#[test]
fn a_kill_for_memory_is_named_only_where_the_program_fell_to_it() {
    let assignment = assignment(Desired::Running, 0);
    let wish = Wish::Run(&assignment);
    for (code, cause) in [(137, Cause::OutOfMemory), (0, Cause::Process)] {
        let ended = Container {
            exit_code: Some(code),
            oom_killed: true,
            ..container(ContainerStatus::Exited, Some(0))
        };
        let (record, happened) =
            observe(&wish, &after(&wish, &[(running(0), 1)]), &Seen::Present(ended), at(2));
        assert_eq!(happened[0].cause, cause);
        assert_eq!(record.status.outcome, Some(Outcome::Exited { code, oom: code != 0 }));
    }
}

#[test]
fn a_run_that_began_and_ended_unseen_is_reported_whole() {
    let assignment = assignment(Desired::Running, 0);
    let wish = Wish::Run(&assignment);
    let (_, happened) = observe(&wish, &Record::new(instance()), &exited(10, 20, 1), at(30));
    assert_eq!(
        phases(&happened),
        [(1, Phase::Running, Health::Starting), (1, Phase::Ended, Health::Unknown)]
    );
    assert_eq!(happened.iter().map(|t| t.at).collect::<Vec<_>>(), [at(10), at(20)]);
}

#[test]
fn a_start_that_was_due_is_ours_and_any_other_is_somebody_elses() {
    let assignment = assignment(Desired::Running, 0);
    let wish = Wish::Run(&assignment);
    let ended = after(&wish, &[(running(0), 1), (exited(0, 500, 1), 501)]);
    let (_, happened) = observe(&wish, &ended, &running(600), at(700));
    assert_eq!((happened[0].status.progress.attempt, &happened[0].cause), (2, &Cause::RestartPolicy));
    let (_, happened) = observe(&wish, &after(&wish, &[(running(0), 1)]), &running(600), at(700));
    assert_eq!((happened[0].status.progress.attempt, &happened[0].cause), (2, &Cause::Outside));
}

#[test]
fn failures_in_a_row_wait_longer_and_a_long_run_resets_them() {
    let assignment = assignment(Desired::Running, 0);
    let wish = Wish::Run(&assignment);
    let mut record = Record::new(instance());
    let (mut now, mut waits) = (0, Vec::new());
    for _ in 0..4 {
        record = observe(&wish, &record, &running(now), at(now)).0;
        let end = exited(now, now + 10, 1);
        record = observe(&wish, &record, &end, at(now + 10)).0;
        let due = record.status.backoff_until.unwrap();
        waits.push((due - at(now + 10)).num_milliseconds());
        let waiting = decide(&wish, &record, &end, at(now + 10));
        assert_eq!(waiting, if due <= at(now + 10) { Step::Start } else { Step::WaitUntil(due) });
        now = due.timestamp_millis() + 1;
    }
    assert!(waits[0] == 0 && waits[1] >= 800 && waits[2] >= 1600 && waits[3] >= 3200, "{waits:?}");
    record = observe(&wish, &record, &running(now), at(now)).0;
    record = observe(&wish, &record, &exited(now, now + 30_000, 1), at(now + 30_000)).0;
    assert_eq!(record.status.failures, 1);
}

#[test]
fn a_clock_that_was_set_back_does_not_hold_an_attempt_up() {
    let assignment = assignment(Desired::Running, 0);
    let wish = Wish::Run(&assignment);
    let hour = 3_600_000;
    let record = after(&wish, &[(running(hour), hour), (exited(hour, hour + 1, 1), hour + 1)]);
    assert_eq!(decide(&wish, &record, &exited(hour, hour + 1, 1), at(0)), Step::Start);
}

#[test]
fn the_restart_policy_says_whether_there_is_another_attempt() {
    let retries = |max| RestartPolicy::OnFailure { max_retries: max };
    for (policy, code, again) in [
        (RestartPolicy::Always, 0, true),
        (RestartPolicy::Always, 1, true),
        (RestartPolicy::Never, 1, false),
        (retries(None), 0, false),
        (retries(None), 1, true),
        (retries(Some(0)), 1, false),
        (retries(Some(1)), 1, true),
    ] {
        let mut assignment = assignment(Desired::Running, 0);
        assignment.spec.restart = policy;
        let wish = Wish::Run(&assignment);
        let record = after(&wish, &[(running(0), 1), (exited(0, 2, code), 2)]);
        assert_eq!(record.status.backoff_until.is_some(), again, "{policy:?} {code}");
        let expected = if again { Step::Start } else { Step::Nothing };
        assert_eq!(decide(&wish, &record, &exited(0, 2, code), at(2)), expected, "{policy:?} {code}");
    }
}

#[test]
fn a_failure_that_cannot_pass_waits_for_a_user() {
    let assigned = assignment(Desired::Running, 0);
    let wish = Wish::Run(&assigned);
    for reason in [FailureReason::ImageNotFound, FailureReason::ImageDenied] {
        let (record, transition) =
            failed(&wish, &Record::new(instance()), Step::Pull, failure(reason), at(1));
        assert_eq!(transition.map(|t| t.cause), Some(Cause::Engine));
        assert_eq!(decide(&wish, &record, &Seen::Absent, at(1_000_000)), Step::Nothing);
        let asked = assignment(Desired::Running, 1);
        let heeded = heed(&Wish::Run(&asked), &record, &Seen::Absent, at(2));
        assert!(heeded.durable_first);
        assert_eq!(decide(&Wish::Run(&asked), &heeded.record, &Seen::Absent, at(2)), Step::CheckImage);
    }
}

#[test]
fn a_failure_that_may_pass_is_tried_again_even_where_the_program_runs_once() {
    let mut assignment = assignment(Desired::Running, 0);
    assignment.spec.restart = RestartPolicy::Never;
    let wish = Wish::Run(&assignment);
    let pull = failure(FailureReason::ImagePullFailed);
    let (record, _) = failed(&wish, &Record::new(instance()), Step::Pull, pull, at(1));
    assert_eq!(decide(&wish, &record, &Seen::Absent, at(1)), Step::CheckImage);
    let (record, _) = begin(&wish, &record, Step::CheckImage, at(1));
    assert_eq!((record.status.progress.attempt, record.because), (2, Cause::RestartPolicy));
}

#[test]
fn an_image_that_went_away_after_it_was_seen_is_fetched_again() {
    let assignment = assignment(Desired::Running, 0);
    let wish = Wish::Run(&assignment);
    let known = image_checked(&Record::new(instance()), true);
    let (record, _) = failed(&wish, &known, Step::Create, failure(FailureReason::ImageNotFound), at(1));
    assert!(record.status.backoff_until.is_some());
    assert_eq!(decide(&wish, &record, &Seen::Absent, at(1)), Step::CheckImage);
}

#[test]
fn a_container_that_somebody_removed_is_made_again() {
    let assignment = assignment(Desired::Running, 0);
    let wish = Wish::Run(&assignment);
    let (record, happened) = observe(&wish, &after(&wish, &[(running(0), 1)]), &Seen::Absent, at(5));
    assert_eq!(happened[0].cause, Cause::Outside);
    assert!(matches!(record.status.outcome, Some(Outcome::Failed { reason: FailureReason::Vanished, .. })));
    assert_eq!(record.status.container_id, None);
    assert_eq!(decide(&wish, &record, &Seen::Absent, at(5)), Step::CheckImage);
}

#[test]
fn a_container_that_is_wanted_stopped_is_stopped_and_stays_so() {
    let run = assignment(Desired::Running, 0);
    let stop = assignment(Desired::Stopped, 0);
    let wish = Wish::Stop(&stop);
    let record = after(&Wish::Run(&run), &[(running(0), 1)]);
    let step = decide(&wish, &record, &running(0), at(2));
    assert_eq!(step, Step::Stop { grace: Duration::from_secs(10) });
    let (record, stopping) = begin(&wish, &record, step, at(2));
    assert_eq!(stopping.map(|t| t.status.progress.phase), Some(Phase::Stopping));
    let end = exited(0, 100, 143);
    let (record, happened) = observe(&wish, &record, &end, at(101));
    assert_eq!(happened[0].message, "stopped with exit code 143 (SIGTERM)");
    assert_eq!(record.status.outcome, Some(Outcome::Stopped { code: Some(143) }));
    assert_eq!(decide(&wish, &record, &end, at(102)), Step::Nothing);
    assert_eq!(decide(&Wish::Run(&run), &record, &end, at(103)), Step::Start, "wanted again");
}

#[test]
fn an_instance_that_waits_to_be_started_again_is_stopped_without_the_engine() {
    let run = assignment(Desired::Running, 0);
    let stop = assignment(Desired::Stopped, 0);
    let end = exited(0, 5, 1);
    for (record, seen) in [
        (after(&Wish::Run(&run), &[(running(0), 1), (end.clone(), 6)]), end),
        (Record::new(instance()), Seen::Absent),
        (Record::new(instance()), created()),
    ] {
        let heeded = heed(&Wish::Stop(&stop), &record, &seen, at(7));
        let status = &heeded.record.status;
        assert!(matches!(status.outcome, Some(Outcome::Stopped { .. })), "{status:?}");
        assert_eq!((status.progress.phase, status.backoff_until), (Phase::Ended, None));
        assert!(heeded.transition.is_some() && !heeded.durable_first);
        assert_eq!(heed(&Wish::Stop(&stop), &heeded.record, &seen, at(8)).transition, None);
        assert_eq!(decide(&Wish::Stop(&stop), &heeded.record, &seen, at(8)), Step::Nothing);
    }
}

#[test]
fn a_stop_that_began_is_finished_before_it_is_started_again() {
    let run = assignment(Desired::Running, 0);
    let stop = assignment(Desired::Stopped, 0);
    let record = after(&Wish::Run(&run), &[(running(0), 1)]);
    let (record, _) = begin(&Wish::Stop(&stop), &record, Step::Stop { grace: Duration::ZERO }, at(2));
    assert!(matches!(decide(&Wish::Run(&run), &record, &running(0), at(3)), Step::Stop { .. }));
}

#[test]
fn a_restart_stops_notes_itself_on_disk_and_starts() {
    let before = assignment(Desired::Running, 0);
    let asked = assignment(Desired::Running, 1);
    let wish = Wish::Run(&asked);
    let record = after(&Wish::Run(&before), &[(running(0), 1)]);
    assert_eq!(heed(&wish, &record, &running(0), at(2)).transition, None, "not while it runs");
    let step = decide(&wish, &record, &running(0), at(2));
    assert!(matches!(step, Step::Stop { .. }));
    let (record, stopping) = begin(&wish, &record, step, at(2));
    assert_eq!(stopping.map(|t| t.cause), Some(Cause::RestartRequested));
    let end = exited(0, 10, 143);
    let (record, _) = observe(&wish, &record, &end, at(11));
    let heeded = heed(&wish, &record, &end, at(12));
    assert!(heeded.durable_first);
    let record = heeded.record;
    assert_eq!((record.status.restart_generation, record.status.progress.attempt), (1, 2));
    assert_eq!(heed(&wish, &record, &end, at(13)).transition, None, "once");
    assert_eq!(decide(&wish, &record, &end, at(13)), Step::Start);
    let (record, happened) = observe(&wish, &record, &running(20), at(21));
    assert_eq!((&happened[0].cause, happened[0].status.progress.attempt), (&Cause::RestartRequested, 2));
    assert_eq!(decide(&wish, &record, &running(20), at(22)), Step::WaitUntil(at(1020)));
}

#[test]
fn a_removal_stops_removes_says_so_and_forgets_only_what_is_nobodys() {
    let run = assignment(Desired::Running, 0);
    let gone = assignment(Desired::Removed, 0);
    let wish = Wish::Remove(Some(&gone));
    let record = after(&Wish::Run(&run), &[(running(0), 1)]);
    let step = decide(&wish, &record, &running(0), at(2));
    assert!(matches!(step, Step::Stop { .. }));
    let (record, _) = begin(&wish, &record, step, at(2));
    let (record, _) = observe(&wish, &record, &exited(0, 3, 0), at(3));
    assert_eq!(decide(&wish, &record, &exited(0, 3, 0), at(3)), Step::Remove);
    let (record, happened) = observe(&wish, &record, &Seen::Absent, at(4));
    assert!(happened[0].status.progress.removed);
    assert_eq!(record.status.outcome, Some(Outcome::Stopped { code: Some(0) }));
    assert_eq!(decide(&wish, &record, &Seen::Absent, at(4)), Step::Nothing);
    assert_eq!(decide(&Wish::Remove(None), &record, &Seen::Absent, at(4)), Step::Forget);
    assert_eq!(decide(&Wish::Run(&run), &record, &Seen::Absent, at(4)), Step::Nothing, "final");
}

#[test]
fn an_instance_that_never_had_a_container_is_removed_with_an_outcome() {
    let gone = assignment(Desired::Removed, 0);
    let (record, happened) =
        observe(&Wish::Remove(Some(&gone)), &Record::new(instance()), &Seen::Absent, at(4));
    assert_eq!(happened.len(), 1);
    assert_eq!(record.status.outcome, Some(Outcome::Stopped { code: None }));
}

#[test]
fn what_nobody_knows_and_never_was_is_forgotten_without_a_word() {
    let wish = Wish::Remove(None);
    let (record, happened) = observe(&wish, &Record::new(instance()), &Seen::Absent, at(4));
    assert_eq!(happened, []);
    assert_eq!(decide(&wish, &record, &Seen::Absent, at(4)), Step::Forget);
}

#[test]
fn nothing_is_concluded_from_a_missing_assignment_before_a_complete_set_came() {
    assert!(Wish::of(None, false).is_none());
    assert!(matches!(Wish::of(None, true), Some(Wish::Remove(None))));
}

#[test]
fn a_container_in_a_passing_state_is_left_to_the_engine() {
    let run = assignment(Desired::Running, 0);
    let gone = assignment(Desired::Removed, 0);
    let seen = |status| Seen::Present(container(status, Some(0)));
    let record = after(&Wish::Run(&run), &[(running(0), 1)]);
    for status in [ContainerStatus::Restarting, ContainerStatus::Removing] {
        assert_eq!(observe(&Wish::Run(&run), &record, &seen(status), at(2)).1, []);
        assert_eq!(decide(&Wish::Run(&run), &record, &seen(status), at(2)), Step::Nothing);
    }
    assert_eq!(
        decide(&Wish::Remove(Some(&gone)), &record, &seen(ContainerStatus::Removing), at(2)),
        Step::Nothing
    );
}

#[test]
fn what_is_left_of_a_dead_container_is_removed_before_a_new_one_is_made() {
    let run = assignment(Desired::Running, 0);
    let wish = Wish::Run(&run);
    let dead = Seen::Present(Container { exit_code: Some(1), ..container(ContainerStatus::Dead, Some(0)) });
    let record = after(&wish, &[(running(0), 1), (dead.clone(), 2)]);
    assert_eq!(decide(&wish, &record, &dead, at(2)), Step::Remove);
}

#[test]
fn a_stop_or_removal_that_fails_is_tried_again_later_and_ends_nothing() {
    let gone = assignment(Desired::Removed, 0);
    let wish = Wish::Remove(Some(&gone));
    let step = Step::Stop { grace: Duration::ZERO };
    let timeout = Failure { reason: None, message: "no answer".into() };
    let record = after(&wish, &[(running(0), 1)]);
    let (record, transition) = failed(&wish, &record, step, timeout.clone(), at(2));
    let told = transition.unwrap();
    assert_eq!(told.message, "the container does not stop, and is tried again: no answer");
    assert_eq!((told.cause, told.status.outcome.clone()), (Cause::Engine, None));
    let Step::WaitUntil(due) = decide(&wish, &record, &running(0), at(2)) else { panic!("must wait") };
    assert!(due > at(2));
    assert!(matches!(decide(&wish, &record, &running(0), due), Step::Stop { .. }));
    assert!(matches!(decide(&wish, &succeeded(&record), &running(0), at(3)), Step::Stop { .. }));
    // However long it lasts, it is told of now and then, and never given up.
    let (mut record, mut told) = (record, 1);
    for _ in 0..63 {
        let (next, transition) = failed(&wish, &record, step, timeout.clone(), due);
        (record, told) = (next, told + u32::from(transition.is_some()));
        assert!(matches!(decide(&wish, &record, &running(0), due), Step::WaitUntil(_)));
    }
    assert_eq!(told, 7);
}

#[test]
fn a_record_reads_back_without_what_is_only_known_for_now() {
    let record = image_checked(&Record::new(instance()), true);
    let text = serde_json::to_string(&record).unwrap();
    assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), Record::new(instance()));
}

#[test]
fn what_a_container_is_given_is_at_hand_before_it_is_made_and_files_before_each_start() {
    use crate::{
        name::Name,
        spec::{SecretTarget, SecretUse},
    };
    let with = |target| {
        let mut assignment = assignment(Desired::Running, 0);
        let credential = Name::nearest("key");
        assignment.spec.secrets =
            vec![SecretUse { credential, key: None, version: None, target, resolved: None }];
        assignment
    };
    let ready = image_checked(&Record::new(instance()), true);
    for (target, to_start) in [
        (SecretTarget::Env { name: "KEY".into() }, Step::Start),
        (SecretTarget::file("/run/key"), Step::Prepare),
    ] {
        let assignment = with(target);
        let wish = Wish::Run(&assignment);
        let next = |record: &Record, seen: &Seen| decide(&wish, record, seen, at(0));
        assert_eq!(next(&ready, &Seen::Absent), Step::Prepare);
        assert_eq!(next(&ready, &created()), to_start);
        let prepared = prepared(&ready);
        assert_eq!(next(&prepared, &Seen::Absent), Step::Create);
        assert_eq!(next(&prepared, &created()), Step::Start);
        let (again, _) = begin(&wish, &after(&wish, &[(exited(0, 1, 1), 1)]), to_start, at(1));
        assert_eq!(next(&again, &exited(0, 1, 1)), to_start, "each attempt asks anew");
    }
}

#[test]
fn who_waits_for_the_controller_says_so_once_asks_again_and_can_go_meanwhile() {
    let assignment = assignment(Desired::Running, 0);
    let (wish, record) = (Wish::Run(&assignment), image_checked(&Record::new(instance()), true));
    let (record, told) = held_up(&record, "waiting".into(), at(0));
    let told = told.unwrap();
    assert_eq!(
        (told.message.as_str(), &told.cause, told.status.outcome),
        ("waiting", &Cause::Assigned, None)
    );
    assert!(is_held_up(&record));
    let Step::WaitUntil(until) = decide(&wish, &record, &Seen::Absent, at(1)) else { panic!("no wait") };
    assert!(until > at(1) && until <= at(1000));
    assert_eq!(decide(&wish, &record, &Seen::Absent, until), Step::Create);
    assert_eq!(decide(&wish, &resumed(&record), &Seen::Absent, at(1)), Step::Create, "it may be there now");
    assert_eq!(decide(&Wish::Remove(Some(&assignment)), &record, &created(), at(1)), Step::Remove);
    assert_eq!(hold_back(&record, Step::Inspect, at(1)), Step::Inspect);
    let (record, told) = held_up(&record, "waiting".into(), until);
    assert_eq!(told, None, "nothing new");
    assert_eq!(held_up(&record, "deleted".into(), until).1.unwrap().message, "deleted");
    assert!(!is_held_up(&succeeded(&record)));
    assert_eq!(resumed(&succeeded(&record)), succeeded(&record));
}

#[test]
fn a_pull_that_waits_for_its_login_is_told_once() {
    let assignment = assignment(Desired::Running, 0);
    let (wish, record) = (Wish::Run(&assignment), image_checked(&Record::new(instance()), false));
    let (record, told) = begin(&wish, &record, Step::Pull, at(0));
    assert!(told.is_some());
    let (record, told) = held_up(&record, "waiting".into(), at(1));
    assert!(told.is_some());
    assert_eq!(begin(&wish, &record, Step::Pull, at(2)).1, None);
}
