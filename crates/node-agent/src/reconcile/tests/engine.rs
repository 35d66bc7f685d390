//! An engine, a registry or a disk that fails.

use super::*;

#[tokio::test]
async fn an_engine_that_does_not_answer_is_not_an_engine_without_containers() {
    let (dir, engine) = (tempfile::tempdir().unwrap(), FakeRuntime::default());
    let agent = Agent::start(dir.path(), &engine).await;
    agent.assign((1..=5).map(assignment)).await;
    for n in 1..=5 {
        agent.healthy(n).await;
    }
    let before: Vec<_> = (1..=5).map(|n| engine.container(id(n))).collect();
    let (reports, running) = (agent.ledger.reports_after(0, 1000), agent.published.running.borrow().clone());
    let mut state = agent.published.engine.clone();
    engine.go_down();
    state.wait_for(|state| *state == EngineState::Unreachable).await.unwrap();
    let pings = engine.count(Call::Ping, None);
    until("it was asked some more", || engine.count(Call::Ping, None) > pings + 3).await;
    assert_eq!(*agent.published.running.borrow(), running, "what was last seen stays");
    engine.come_back();
    state.wait_for(|state| *state == EngineState::Reachable).await.unwrap();
    looked_anew(&agent, &engine).await;
    assert_eq!((1..=5).map(|n| engine.container(id(n))).collect::<Vec<_>>(), before);
    assert_eq!(agent.ledger.reports_after(0, 1000), reports);
    agent.stop().await;
}

#[tokio::test]
async fn an_engine_that_hangs_is_unreachable_too() {
    let (dir, engine) = (tempfile::tempdir().unwrap(), FakeRuntime::default());
    let agent = Agent::start(dir.path(), &engine).await;
    agent.assign([assignment(1)]).await;
    agent.healthy(1).await;
    let mut state = agent.published.engine.clone();
    let hanging = [Call::Ping, Call::List, Call::Inspect, Call::Start];
    hanging.into_iter().for_each(|call| engine.fail_always(call, Fault::Hang));
    engine.exit(id(1), 1);
    state.wait_for(|state| *state == EngineState::Unreachable).await.unwrap();
    hanging.into_iter().for_each(|call| engine.heal(call));
    agent.healthy_since(1, 2).await;
    let outcomes: Vec<_> = agent.reports(1).into_iter().filter_map(|r| r.status.outcome).collect();
    assert_eq!(outcomes, [Outcome::Exited { code: 1, oom: false }], "a silent engine is no failed attempt");
    agent.stop().await;
}

#[tokio::test]
async fn containers_that_died_with_their_engine_are_started_again() {
    let (dir, engine) = (tempfile::tempdir().unwrap(), FakeRuntime::default());
    let agent = Agent::start(dir.path(), &engine).await;
    agent.assign((1..=20).map(assignment)).await;
    until("all run", || engine.running() == 20).await;
    engine.restart();
    until("all run again", || (1..=20).all(|n| agent.is_healthy_since(n, 2))).await;
    assert_eq!(engine.count(Call::Start, None), 40);
    agent.stop().await;
}

#[tokio::test]
async fn a_call_that_hangs_ends_by_its_deadline_and_the_instance_runs_all_the_same() {
    for (call, fault) in [
        (Call::ImagePresent, Fault::Hang),
        (Call::Pull, Fault::Hang),
        (Call::Create, Fault::Hang),
        (Call::Create, Fault::DoAndHang),
        (Call::Create, Fault::DoAndBreak),
        (Call::Start, Fault::Hang),
        (Call::Start, Fault::DoAndHang),
        (Call::Start, Fault::DoAndBreak),
        (Call::List, Fault::Hang),
        (Call::Events, Fault::Hang),
        (Call::Ping, Fault::Hang),
    ] {
        let (dir, engine) = (tempfile::tempdir().unwrap(), FakeRuntime::default());
        engine.fail_next(call, fault);
        let agent = Agent::start(dir.path(), &engine).await;
        agent.assign([assignment(1)]).await;
        agent.healthy(1).await;
        let report = agent.last(1).unwrap();
        assert_eq!(
            report.status.started_at,
            engine.container(id(1)).unwrap().started_at,
            "{call:?} {fault:?}"
        );
        agent.stop().await;
    }
}

#[tokio::test]
async fn a_stop_or_removal_whose_answer_is_lost_is_finished() {
    for call in [Call::Stop, Call::Remove, Call::Inspect] {
        for fault in
            [Fault::Hang, Fault::DoAndHang, Fault::DoAndBreak, Fault::Error(RuntimeErrorKind::NotFound)]
        {
            let (dir, engine) = (tempfile::tempdir().unwrap(), FakeRuntime::default());
            let agent = Agent::start(dir.path(), &engine).await;
            let mut gone = assignment(1);
            gone.spec.stop_grace_seconds = 0;
            agent.assign([gone.clone()]).await;
            agent.healthy(1).await;
            engine.fail_next(call, fault);
            gone.desired = Desired::Removed;
            agent.assign([gone]).await;
            until("it is gone", || agent.last(1).is_some_and(|r| r.status.progress.removed)).await;
            assert_eq!(engine.container(id(1)), None, "{call:?} {fault:?}");
            agent.stop().await;
        }
    }
}

#[tokio::test]
async fn a_pull_that_fails_is_classified() {
    let (dir, engine) = (tempfile::tempdir().unwrap(), FakeRuntime::default());
    let agent = Agent::start(dir.path(), &engine).await;
    for (n, reason) in [
        (1, FailureReason::ImageNotFound),
        (2, FailureReason::ImageDenied),
        (3, FailureReason::ImagePullFailed),
    ] {
        let mut missing = assignment(n);
        missing.spec.image = format!("missing:{n}");
        engine.refuse_image(&missing.spec.image, reason);
        agent.assign([missing]).await;
        until("it failed", || {
            matches!(agent.last(n), Some(Report { status, .. })
                if matches!(&status.outcome, Some(Outcome::Failed { reason: r, .. }) if *r == reason))
        })
        .await;
        let last = agent.last(n).unwrap();
        assert_eq!(last.status.backoff_until.is_some(), reason.may_pass());
        assert_eq!(last.cause, Cause::Engine);
    }
    agent.stop().await;
}

#[tokio::test]
async fn a_name_that_a_stranger_has_is_a_failure_and_the_stranger_is_left_alone() {
    let (dir, engine) = (tempfile::tempdir().unwrap(), FakeRuntime::default());
    engine.take_name(id(1));
    let agent = Agent::start(dir.path(), &engine).await;
    agent.assign([assignment(1)]).await;
    until("it failed", || agent.last(1).is_some_and(|r| r.status.outcome.is_some())).await;
    let outcome = agent.last(1).unwrap().status.outcome;
    assert!(matches!(outcome, Some(Outcome::Failed { reason: FailureReason::NameTaken, .. })), "{outcome:?}");
    looked_anew(&agent, &engine).await;
    assert_eq!(engine.count(Call::Create, None), 1);
    agent.stop().await;
}

static CLOCK_CALLS: AtomicUsize = AtomicUsize::new(0);

fn counted_clock() -> Timestamp {
    CLOCK_CALLS.fetch_add(1, Ordering::Relaxed);
    chrono::Utc::now()
}

#[tokio::test]
async fn a_wait_that_ends_while_the_engine_is_away_does_not_keep_the_loop_awake() {
    let (dir, engine) = (tempfile::tempdir().unwrap(), FakeRuntime::default());
    let settings = Settings { clock: counted_clock, ..settings() };
    let agent = Agent::start_with(dir.path(), &engine, settings, &FaultyDisk::default()).await;
    agent.assign([assignment(1)]).await;
    agent.healthy(1).await;
    engine.exit(id(1), 1);
    agent.healthy_since(1, 2).await;
    engine.exit(id(1), 1);
    until("it waits", || agent.last(1).unwrap().status.failures == 2).await;
    engine.go_down();
    let due = agent.last(1).unwrap().status.backoff_until.unwrap();
    until("the wait is over", || chrono::Utc::now() > due).await;
    let (calls, pings) = (CLOCK_CALLS.load(Ordering::Relaxed), engine.count(Call::Ping, None));
    until("some pings more", || engine.count(Call::Ping, None) >= pings + 10).await;
    let calls = CLOCK_CALLS.load(Ordering::Relaxed) - calls;
    assert!(calls < 200, "{calls}");
    engine.come_back();
    agent.healthy_since(1, 3).await;
    agent.stop().await;
}

#[tokio::test]
async fn what_is_long_gone_is_not_reported_again_because_the_engine_remembers_it() {
    let (dir, engine) = (tempfile::tempdir().unwrap(), FakeRuntime::default());
    let agent = Agent::start(dir.path(), &engine).await;
    agent.assign([assignment(1)]).await;
    agent.healthy(1).await;
    agent.assign([]).await;
    until("it is forgotten", || agent.last(1).is_some_and(|r| r.status.progress.removed)).await;
    until("it is forgotten", || agent.ledger.records().is_empty()).await;
    agent.stop().await;
    let inspections = engine.count(Call::Inspect, None);
    let agent = Agent::start(dir.path(), &engine).await;
    let before = agent.reports(1);
    looked_anew(&agent, &engine).await;
    assert_eq!(agent.reports(1), before);
    assert_eq!(engine.count(Call::Inspect, None), inspections);
    agent.stop().await;
}

#[tokio::test]
async fn an_engine_that_ends_containers_as_it_starts_is_not_somebody_else() {
    let (dir, engine) = (tempfile::tempdir().unwrap(), FakeRuntime::default());
    let agent = Agent::start(dir.path(), &engine).await;
    agent.assign([assignment(1)]).await;
    agent.healthy(1).await;
    engine.go_down();
    let mut state = agent.published.engine.clone();
    state.wait_for(|state| *state == EngineState::Unreachable).await.unwrap();
    engine.kill(id(1), 9);
    engine.come_back();
    agent.healthy_since(1, 2).await;
    let end = agent.reports(1).into_iter().find(|r| r.status.progress.phase == Phase::Ended).unwrap();
    assert_eq!(end.cause, Cause::Process);
    agent.stop().await;
}

#[tokio::test]
async fn an_engine_that_lies_about_what_there_is_does_not_get_a_second_container() {
    let (dir, engine) = (tempfile::tempdir().unwrap(), FakeRuntime::default());
    let agent = Agent::start(dir.path(), &engine).await;
    agent.assign([assignment(1)]).await;
    agent.healthy(1).await;
    let before = engine.container(id(1));
    engine.hide_all(true);
    looked_anew(&agent, &engine).await;
    agent.healthy_since(1, 2).await;
    assert_eq!(engine.count(Call::Create, None), 2, "it was taken for a new one");
    assert_eq!(engine.container(id(1)).map(|c| c.container_id), before.map(|c| c.container_id), "I2");
    agent.stop().await;
}

#[tokio::test]
async fn a_full_disk_keeps_nothing_from_running_but_what_must_be_written_first() {
    let (dir, engine) = (tempfile::tempdir().unwrap(), FakeRuntime::default());
    let disk = FaultyDisk::default();
    let agent = Agent::start_with(dir.path(), &engine, settings(), &disk).await;
    agent.assign([assignment(1), assignment(2)]).await;
    agent.healthy(1).await;
    agent.healthy(2).await;
    let restart = Assignment { restart_generation: 1, ..assignment(2) };
    // The assignments are on disk before the disk is full.
    engine.fail_next(Call::Stop, Fault::Error(RuntimeErrorKind::Refused(FailureReason::StartFailed)));
    agent.assign([assignment(1), restart]).await;
    until("the stop was tried", || engine.count(Call::Stop, Some(id(2))) == 1).await;
    disk.set(DiskFault::Full);
    engine.kill(id(1), 9);
    until("1 runs again", || engine.count(Call::Start, Some(id(1))) == 2).await;
    until("2 was stopped", || engine.count(Call::Stop, Some(id(2))) == 2).await;
    let retries = Instant::now();
    until("some tries to write", || retries.elapsed() > Duration::from_millis(200)).await;
    assert_eq!(engine.count(Call::Start, Some(id(2))), 1, "not before it is written down");
    assert_eq!(agent.last(1).unwrap().status.progress.attempt, 1, "what is read is on disk");
    disk.set(DiskFault::None);
    until("2 was restarted", || agent.last(2).unwrap().status.restart_generation == 1).await;
    agent.healthy(2).await;
    until("1 is reported", || agent.last(1).unwrap().status.progress.attempt == 2).await;
    agent.stop().await;
}

#[tokio::test]
async fn a_panic_ends_nothing_but_the_run_that_it_happened_in() {
    let (dir, engine) = (tempfile::tempdir().unwrap(), FakeRuntime::default());
    engine.fail_next(Call::Create, Fault::Panic);
    let agent = Agent::start(dir.path(), &engine).await;
    agent.assign([assignment(1)]).await;
    agent.healthy(1).await;
    assert_eq!(engine.count(Call::Create, None), 2);
    agent.stop().await;
}
