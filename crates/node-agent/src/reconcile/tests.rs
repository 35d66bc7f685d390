//! The loop against an engine in memory and a ledger on disk.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use domain::{
    assignment::{Assignment, AssignmentSet},
    deployment::{InstanceSpec, RestartPolicy},
    id::DeploymentId,
    instance::{Cause, Desired, FailureReason, Health, Outcome, Phase, Report},
    plan::ContainerStatus,
};
use tokio::{runtime::Runtime as Tokio, time::sleep};
use uuid::Uuid;

use super::*;
use crate::{
    ledger::{
        LedgerError,
        testing::{Fault as DiskFault, FaultyDisk},
    },
    runtime::{
        RuntimeErrorKind,
        fake::{Call, FakeRuntime, Fault},
    },
};

const DEADLINE: Duration = Duration::from_secs(20);

fn id(n: u128) -> InstanceId {
    InstanceId::from_uuid(Uuid::from_u128(n))
}

fn assignment(n: u128) -> Assignment {
    let mut spec = InstanceSpec::of_image("app:1");
    spec.min_healthy_seconds = 0;
    Assignment {
        instance_id: id(n),
        deployment_id: DeploymentId::from_uuid(Uuid::nil()),
        deployment_name: "web".into(),
        revision: 1,
        spec,
        desired: Desired::Running,
        restart_generation: 0,
    }
}

/// Short enough for a test to see them pass, long enough for a busy machine.
fn settings() -> Settings {
    Settings {
        call_deadline: Duration::from_millis(400),
        pull_idle: Duration::from_millis(400),
        stop_slack: Duration::from_millis(400),
        ping_deadline: Duration::from_millis(400),
        ping_period: Duration::from_millis(200),
        // Nothing here may depend on the full look that comes by itself.
        list_period: Duration::from_secs(3600),
        retry: (Duration::from_millis(10), Duration::from_millis(50)),
        ..Settings::default()
    }
}

/// One agent's life on an engine and a disk that outlive it.
struct Agent {
    /// Its own threads, so that a crash takes its tasks away at once.
    threads: Tokio,
    supervisor: Supervisor,
    ledger: Ledger,
    published: Published,
}

impl Agent {
    async fn start(dir: &Path, engine: &FakeRuntime) -> Self {
        Self::start_with(dir, engine, settings(), &FaultyDisk::default()).await
    }

    async fn start_with(dir: &Path, engine: &FakeRuntime, settings: Settings, disk: &FaultyDisk) -> Self {
        let ledger = open(dir, disk).await;
        let threads =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let supervisor = Supervisor::new(threads.handle().clone());
        let published = start(&supervisor, ledger.clone(), Arc::new(engine.clone()), settings);
        Self { threads, supervisor, ledger, published }
    }

    /// As SIGTERM does.
    async fn stop(self) {
        assert!(self.supervisor.shut_down(DEADLINE).await);
        self.ledger.close().await;
        self.threads.shutdown_background();
    }

    /// As SIGKILL does, apart from what the ledger's thread has already taken.
    fn crash(self) {
        self.threads.shutdown_background();
    }

    async fn assign(&self, assignments: impl IntoIterator<Item = Assignment>) {
        let revision = self.ledger.assignments().revision + 1;
        let assignments = assignments.into_iter().map(|a| (a.instance_id, a)).collect();
        let _ = self.ledger.assignments_replace(AssignmentSet { revision, assignments }).await.unwrap();
    }

    fn reports(&self, n: u128) -> Vec<Report> {
        let all = self.ledger.reports_after(0, usize::MAX);
        all.into_iter().filter(|report| report.instance_id == id(n)).collect()
    }

    fn last(&self, n: u128) -> Option<Report> {
        self.reports(n).pop()
    }

    fn is_healthy(&self, n: u128) -> bool {
        self.last(n).is_some_and(|report| {
            (report.status.progress.phase, report.status.health) == (Phase::Running, Health::Healthy)
        })
    }

    async fn healthy(&self, n: u128) {
        until("it is healthy", || self.is_healthy(n)).await;
    }

    /// Whether it is healthy, and that in this attempt or a later one.
    fn is_healthy_since(&self, n: u128, attempt: u32) -> bool {
        self.is_healthy(n) && self.last(n).is_some_and(|r| r.status.progress.attempt >= attempt)
    }

    async fn healthy_since(&self, n: u128, attempt: u32) {
        until("it is healthy anew", || self.is_healthy_since(n, attempt)).await;
    }
}

/// A crashed agent's ledger is free once its thread has noticed.
async fn open(dir: &Path, disk: &FaultyDisk) -> Ledger {
    let begun = Instant::now();
    loop {
        match disk.open(dir) {
            Err(LedgerError::InUse { .. }) if begun.elapsed() < DEADLINE => {
                sleep(Duration::from_millis(2)).await;
            }
            opened => return opened.unwrap(),
        }
    }
}

async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < DEADLINE, "waited in vain until {what}");
        sleep(Duration::from_millis(2)).await;
    }
}

/// Waits until the agent has looked at everything anew, so that what it was going
/// to do about what was before is done.
async fn looked_anew(agent: &Agent, engine: &FakeRuntime) {
    let before = engine.count(Call::List, None);
    engine.go_down();
    let state = agent.published.engine.clone();
    until("it is unreachable", || *state.borrow() == EngineState::Unreachable).await;
    engine.come_back();
    until("all was listed", || engine.count(Call::List, None) > before).await;
    until("it is reachable", || *state.borrow() == EngineState::Reachable).await;
}

fn story(reports: &[Report]) -> Vec<(u32, Phase, Health)> {
    reports.iter().map(|r| (r.status.progress.attempt, r.status.progress.phase, r.status.health)).collect()
}

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
    let settings = Settings { pull_idle: Duration::from_secs(3600), ..settings() };
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
