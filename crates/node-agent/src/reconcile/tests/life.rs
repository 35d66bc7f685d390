//! What becomes of instances whose engine does as it is told.

use super::*;

#[tokio::test]
async fn what_is_assigned_is_pulled_and_runs_and_is_reported_step_by_step() {
    let (dir, engine) = (tempfile::tempdir().unwrap(), FakeRuntime::default());
    let agent = Agent::start(dir.path(), &engine).await;
    agent.assign([assignment(1)]).await;
    agent.healthy(1).await;
    assert_eq!(
        story(&agent.reports(1)),
        [
            (1, Phase::Pulling, Health::Unknown),
            (1, Phase::Running, Health::Starting),
            (1, Phase::Running, Health::Healthy),
        ]
    );
    let container = engine.container(id(1)).unwrap();
    let report = agent.last(1).unwrap();
    assert_eq!(report.status.container_id.as_ref(), Some(&container.container_id));
    assert_eq!(report.status.started_at, container.started_at);
    let running = agent.published.running.borrow().clone();
    assert_eq!(running[&id(1)].pid, container.pid.unwrap());
    assert_eq!(engine.count(Call::Inspect, None), 0, "results of actions and no second looks");
    agent.stop().await;
    assert_eq!(engine.running(), 1, "an agent that stops touches no container");
}

#[tokio::test]
async fn an_agent_that_comes_back_adopts_what_runs_and_says_nothing() {
    let (dir, engine) = (tempfile::tempdir().unwrap(), FakeRuntime::default());
    let agent = Agent::start(dir.path(), &engine).await;
    agent.assign([assignment(1)]).await;
    agent.healthy(1).await;
    agent.stop().await;
    for crash in [true, false] {
        let before = engine.container(id(1));
        let agent = Agent::start(dir.path(), &engine).await;
        looked_anew(&agent, &engine).await;
        assert_eq!(engine.container(id(1)), before, "I10");
        assert_eq!(agent.reports(1).len(), 3);
        if crash {
            agent.crash();
        } else {
            agent.stop().await;
        }
    }
    assert_eq!(engine.count(Call::Start, None), 1);
    assert_eq!(engine.count(Call::Create, None), 1);
}

#[tokio::test]
async fn a_container_that_somebody_kills_runs_again_at_once_and_the_report_says_why() {
    let (dir, engine) = (tempfile::tempdir().unwrap(), FakeRuntime::default());
    let agent = Agent::start(dir.path(), &engine).await;
    agent.assign([assignment(1)]).await;
    agent.healthy(1).await;
    for attempt in 2..6 {
        let killed = Instant::now();
        engine.kill(id(1), 9);
        until("it runs again", || engine.running() == 1).await;
        assert!(killed.elapsed() < Duration::from_millis(700), "{:?}", killed.elapsed());
        agent.healthy_since(1, attempt).await;
    }
    let ends: Vec<_> =
        agent.reports(1).into_iter().filter(|r| r.status.progress.phase == Phase::Ended).collect();
    assert_eq!(ends.len(), 4);
    for end in ends {
        assert_eq!(end.cause, Cause::OutsideSignal { signal: 9 });
        assert!(end.message.contains("somebody else sent SIGKILL"), "{}", end.message);
    }
    agent.stop().await;
}

#[tokio::test]
async fn a_kill_while_the_agent_was_away_is_found_out_and_named() {
    let (dir, engine) = (tempfile::tempdir().unwrap(), FakeRuntime::default());
    let agent = Agent::start(dir.path(), &engine).await;
    agent.assign([assignment(1)]).await;
    agent.healthy(1).await;
    agent.crash();
    engine.kill(id(1), 9);
    let killed_at = engine.container(id(1)).unwrap().finished_at.unwrap();
    let agent = Agent::start(dir.path(), &engine).await;
    agent.healthy_since(1, 2).await;
    assert_eq!(engine.running(), 1);
    let end = agent.reports(1).into_iter().find(|r| r.status.progress.phase == Phase::Ended).unwrap();
    assert_eq!(end.at, killed_at, "when it happened, not when it was found out");
    // The engine's tail of events may come before or after the full look.
    assert!(matches!(end.cause, Cause::OutsideSignal { signal: 9 } | Cause::Process), "{:?}", end.cause);
    agent.stop().await;
}

#[tokio::test]
async fn each_restart_request_restarts_once_wherever_the_agent_dies() {
    let (dir, engine) = (tempfile::tempdir().unwrap(), FakeRuntime::default());
    let agent = Agent::start(dir.path(), &engine).await;
    agent.assign([assignment(1)]).await;
    agent.healthy(1).await;
    agent.stop().await;
    for generation in 1..=24_u32 {
        let agent = Agent::start(dir.path(), &engine).await;
        let asked = Assignment { restart_generation: generation, ..assignment(1) };
        agent.assign([asked]).await;
        // A different moment each time, from before the stop to after the start.
        let moment = Duration::from_micros(u64::from(generation) * 150);
        let begun = Instant::now();
        while begun.elapsed() < moment {
            std::hint::spin_loop();
        }
        agent.crash();
        let agent = Agent::start(dir.path(), &engine).await;
        until("it was carried out", || {
            agent.is_healthy(1) && agent.last(1).unwrap().status.restart_generation == generation
        })
        .await;
        looked_anew(&agent, &engine).await;
        assert_eq!(engine.count(Call::Start, None), 1 + generation as usize);
        agent.stop().await;
    }
    assert_eq!(engine.count(Call::Create, None), 1, "restarted in place");
}

#[tokio::test]
async fn a_hundred_assignments_run_with_no_more_than_eight_at_work() {
    let (dir, engine) = (tempfile::tempdir().unwrap(), FakeRuntime::default());
    engine.delay(Duration::from_millis(5));
    let agent = Agent::start(dir.path(), &engine).await;
    agent.assign((1..=100).map(assignment)).await;
    until("all run", || engine.running() == 100).await;
    until("all are healthy", || (1..=100).all(|n| agent.is_healthy(n))).await;
    assert_eq!(engine.most_working(), 8);
    assert_eq!((engine.count(Call::Create, None), engine.count(Call::Start, None)), (100, 100));
    assert_eq!(engine.count(Call::Pull, None), 1, "one image, one pull");
    agent.assign((1..=100).map(|n| Assignment { desired: Desired::Removed, ..assignment(n) })).await;
    until("all are gone", || (1..=100).all(|n| agent.last(n).is_some_and(|r| r.status.progress.removed)))
        .await;
    agent.assign([]).await;
    until("all are forgotten", || agent.ledger.records().is_empty()).await;
    agent.stop().await;
}

#[tokio::test]
async fn pulls_that_last_keep_nobody_else_from_being_started() {
    let (dir, engine) = (tempfile::tempdir().unwrap(), FakeRuntime::default());
    engine.add_image("app:1");
    engine.fail_always(Call::Pull, Fault::Hang);
    let patient = pull::Settings { idle: Duration::from_secs(3600), ..settings().pull };
    let settings = Settings { pull: patient, ..settings() };
    let agent = Agent::start_with(dir.path(), &engine, settings, &FaultyDisk::default()).await;
    let pulling = |n: u128| {
        let mut pulling = assignment(n);
        pulling.spec.image = format!("large:{n}");
        pulling
    };
    agent.assign((1..=20).map(pulling)).await;
    until("four are pulled", || engine.count(Call::Pull, None) == 4).await;
    agent.assign((1..=20).map(pulling).chain([assignment(99)])).await;
    agent.healthy(99).await;
    engine.kill(id(99), 9);
    agent.healthy_since(99, 2).await;
    // And nobody waits for a pull that is not wanted any more.
    agent.assign((1..=20).map(|n| Assignment { desired: Desired::Removed, ..pulling(n) })).await;
    until("all are gone", || (1..=20).all(|n| agent.last(n).is_some_and(|r| r.status.progress.removed)))
        .await;
    agent.stop().await;
}

#[tokio::test]
async fn with_its_controller_away_an_agent_goes_on_restarting_and_keeps_the_story() {
    let (dir, engine) = (tempfile::tempdir().unwrap(), FakeRuntime::default());
    let agent = Agent::start(dir.path(), &engine).await;
    agent.assign([assignment(1)]).await;
    agent.healthy(1).await;
    for attempt in 2..=4 {
        engine.exit(id(1), 3);
        agent.healthy_since(1, attempt).await;
    }
    let reports = agent.reports(1);
    let failures: Vec<_> = reports
        .iter()
        .filter(|r| r.status.progress.phase == Phase::Ended)
        .map(|r| r.status.failures)
        .collect();
    assert_eq!(failures, [1, 2, 3]);
    assert!(reports.windows(2).all(|pair| pair[0].status.progress <= pair[1].status.progress));
    assert!(reports.windows(2).all(|pair| pair[0].at <= pair[1].at), "in the order of time");
    agent.stop().await;
}

#[tokio::test]
async fn a_program_that_shall_run_once_is_not_started_again() {
    let (dir, engine) = (tempfile::tempdir().unwrap(), FakeRuntime::default());
    let agent = Agent::start(dir.path(), &engine).await;
    let mut once = assignment(1);
    once.spec.restart = RestartPolicy::Never;
    agent.assign([once]).await;
    agent.healthy(1).await;
    engine.exit(id(1), 0);
    until("it ended", || agent.last(1).unwrap().status.progress.phase == Phase::Ended).await;
    looked_anew(&agent, &engine).await;
    assert_eq!(engine.count(Call::Start, None), 1);
    agent.stop().await;
}

#[tokio::test]
async fn a_container_nobody_wants_is_removed_only_after_a_complete_set_came() {
    let (dir, engine) = (tempfile::tempdir().unwrap(), FakeRuntime::default());
    let first = tempfile::tempdir().unwrap();
    let agent = Agent::start(first.path(), &engine).await;
    agent.assign([assignment(1)]).await;
    agent.healthy(1).await;
    agent.stop().await;
    // An agent that has lost its ledger.
    let agent = Agent::start(dir.path(), &engine).await;
    looked_anew(&agent, &engine).await;
    assert_eq!(engine.running(), 1);
    agent.assign([]).await;
    until("it is gone", || engine.container(id(1)).is_none()).await;
    agent.stop().await;
}

#[tokio::test]
async fn an_agent_that_lost_its_ledger_restarts_nothing() {
    let (dir, engine) = (tempfile::tempdir().unwrap(), FakeRuntime::default());
    let first = tempfile::tempdir().unwrap();
    let asked = |generation| Assignment { restart_generation: generation, ..assignment(1) };
    let agent = Agent::start(first.path(), &engine).await;
    agent.assign([asked(2)]).await;
    agent.healthy(1).await;
    agent.stop().await;
    let before = engine.container(id(1));
    let agent = Agent::start(dir.path(), &engine).await;
    looked_anew(&agent, &engine).await;
    agent.assign([asked(2)]).await;
    agent.healthy(1).await;
    assert_eq!(engine.container(id(1)), before, "I10");
    assert_eq!(agent.last(1).unwrap().status.restart_generation, 2);
    agent.assign([asked(3)]).await;
    until("it is restarted", || agent.last(1).unwrap().status.restart_generation == 3).await;
    agent.healthy_since(1, 2).await;
    assert_eq!(engine.count(Call::Start, None), 2);
    agent.stop().await;
}

#[tokio::test]
async fn a_container_that_somebody_removes_is_made_again() {
    let (dir, engine) = (tempfile::tempdir().unwrap(), FakeRuntime::default());
    let agent = Agent::start(dir.path(), &engine).await;
    agent.assign([assignment(1)]).await;
    agent.healthy(1).await;
    engine.remove_outside(id(1));
    agent.healthy_since(1, 2).await;
    assert_eq!((engine.count(Call::Create, None), engine.running()), (2, 1));
    agent.stop().await;
}

#[tokio::test]
async fn a_stop_stops_and_a_start_starts() {
    let (dir, engine) = (tempfile::tempdir().unwrap(), FakeRuntime::default());
    let agent = Agent::start(dir.path(), &engine).await;
    agent.assign([assignment(1)]).await;
    agent.healthy(1).await;
    agent.assign([Assignment { desired: Desired::Stopped, ..assignment(1) }]).await;
    until("it is stopped", || {
        matches!(agent.last(1).unwrap().status.outcome, Some(Outcome::Stopped { code: Some(143) }))
    })
    .await;
    assert_eq!(agent.last(1).unwrap().cause, Cause::Assigned, "our own stop is nobody else's");
    assert_eq!(engine.container(id(1)).unwrap().status, ContainerStatus::Exited);
    agent.assign([assignment(1)]).await;
    agent.healthy_since(1, 2).await;
    agent.stop().await;
}

#[tokio::test]
async fn an_instance_is_called_healthy_only_when_it_has_run_that_long() {
    let (dir, engine) = (tempfile::tempdir().unwrap(), FakeRuntime::default());
    let agent = Agent::start(dir.path(), &engine).await;
    let mut slow = assignment(1);
    slow.spec.min_healthy_seconds = 1;
    agent.assign([slow]).await;
    agent.healthy(1).await;
    let (report, now) = (agent.last(1).unwrap(), chrono::Utc::now());
    let started = report.status.started_at.unwrap();
    assert_eq!(report.at, started + chrono::TimeDelta::seconds(1));
    assert!(now >= report.at);
    assert_eq!(engine.count(Call::Inspect, None), 1, "by a look, when its time was up");
    agent.stop().await;
}

#[tokio::test]
async fn every_started_run_is_an_attempt_of_its_own() {
    let (dir, engine) = (tempfile::tempdir().unwrap(), FakeRuntime::default());
    let agent = Agent::start(dir.path(), &engine).await;
    agent.assign([assignment(1)]).await;
    agent.healthy(1).await;
    // Somebody restarts it through the engine.
    engine.kill(id(1), 15);
    engine.start_outside(id(1));
    agent.healthy_since(1, 2).await;
    let runs: BTreeSet<_> = agent
        .reports(1)
        .iter()
        .filter(|r| r.status.progress.phase == Phase::Running)
        .map(|r| (r.status.progress.attempt, r.status.started_at))
        .collect();
    let attempts: BTreeSet<_> = runs.iter().map(|(attempt, _)| attempt).collect();
    assert_eq!(attempts.len(), runs.len());
    agent.stop().await;
}
