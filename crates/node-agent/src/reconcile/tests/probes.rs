//! Probes, carried out by the loop.

use domain::{
    probe::{ProbeKind, ProbeRole, ProbeSpec, Verdict},
    spec::PullPolicy,
};
use tokio::net::TcpListener;

use super::*;
use crate::runtime::ImageInfo;

const CHECK: &[&str] = &["check"];

fn command(role: ProbeRole) -> ProbeSpec {
    probe(role, ProbeKind::Exec { command: vec!["check".into()] })
}

/// As quick as a probe can be declared.
fn probe(role: ProbeRole, kind: ProbeKind) -> ProbeSpec {
    ProbeSpec {
        interval_seconds: 1,
        timeout_seconds: 1,
        retries: 1,
        start_period_seconds: 0,
        ..ProbeSpec::new(role, kind)
    }
}

fn probed(n: u128, probe: ProbeSpec) -> Assignment {
    let mut probed = assignment(n);
    probed.spec.probes = vec![probe];
    probed
}

fn health(agent: &Agent, n: u128) -> Health {
    agent.last(n).map_or(Health::Unknown, |report| report.status.health)
}

#[tokio::test]
async fn an_instance_is_healthy_by_its_probe_and_not_by_time() {
    let (dir, engine) = (tempfile::tempdir().unwrap(), FakeRuntime::default());
    engine.set_command(CHECK, Some(1), "not yet");
    let agent = Agent::start(dir.path(), &engine).await;
    let mut slow = probed(1, command(ProbeRole::Readiness));
    slow.spec.probes[0].start_period_seconds = 60;
    agent.assign([slow]).await;
    until("it was probed", || engine.count(Call::Exec, Some(id(1))) >= 1).await;
    assert_eq!(health(&agent, 1), Health::Starting);
    engine.set_command(CHECK, Some(0), "ready");
    agent.healthy(1).await;
    let last = agent.last(1).unwrap();
    assert_eq!((last.cause, last.message.as_str()), (Cause::Probe, "healthy: exit code 0: ready"));
    agent.stop().await;
}

#[tokio::test]
async fn a_program_that_stops_working_is_restarted_and_its_death_tells_what_the_probe_found() {
    let (dir, engine) = (tempfile::tempdir().unwrap(), FakeRuntime::default());
    let agent = Agent::start(dir.path(), &engine).await;
    agent.assign([probed(1, command(ProbeRole::Liveness))]).await;
    agent.healthy(1).await;
    engine.set_command(CHECK, Some(7), "broken");
    until("it is started again", || engine.count(Call::Start, None) == 2).await;
    engine.set_command(CHECK, Some(0), "");
    agent.healthy_since(1, 2).await;
    let reports = agent.reports(1);
    let end = reports.iter().find(|r| r.status.progress.phase == Phase::Ended).unwrap();
    let message = "its liveness probe failed: exit code 7: broken";
    assert_eq!(
        end.status.outcome,
        Some(Outcome::Failed {
            reason: FailureReason::Unhealthy,
            message: message.into(),
            code: Some(FakeRuntime::STOPPED_CODE)
        })
    );
    assert_eq!((&end.cause, end.status.failures), (&Cause::Probe, 1));
    let unhealthy = reports.iter().find(|r| r.status.health == Health::Unhealthy).unwrap();
    assert_eq!(unhealthy.message, format!("unhealthy: {message}"));
    let death = agent.death().unwrap();
    assert_eq!((death.attempt, &death.outcome), (1, end.status.outcome.as_ref().unwrap()));
    let last = death.probes.last().unwrap();
    assert_eq!((last.probe, last.result.verdict), (0, Verdict::Failed));
    assert!(death.probes.len() >= 2 && death.probes[0].result.verdict == Verdict::Passed, "{death:?}");
    assert!(agent.death().is_none(), "once");
    agent.stop().await;
}

#[tokio::test]
async fn an_instance_that_is_not_ready_is_left_alone_until_it_is_again() {
    let (dir, engine) = (tempfile::tempdir().unwrap(), FakeRuntime::default());
    let agent = Agent::start(dir.path(), &engine).await;
    agent.assign([probed(1, command(ProbeRole::Readiness))]).await;
    agent.healthy(1).await;
    engine.set_command(CHECK, Some(1), "");
    until("it is unhealthy", || health(&agent, 1) == Health::Unhealthy).await;
    let asked = engine.count(Call::Exec, None);
    until("it is asked again", || engine.count(Call::Exec, None) >= asked + 2).await;
    engine.set_command(CHECK, Some(0), "");
    agent.healthy(1).await;
    assert_eq!((engine.count(Call::Start, None), engine.count(Call::Stop, None)), (1, 0));
    assert_eq!(
        story(&agent.reports(1)),
        [
            (1, Phase::Pulling, Health::Unknown),
            (1, Phase::Running, Health::Starting),
            (1, Phase::Running, Health::Healthy),
            (1, Phase::Running, Health::Unhealthy),
            (1, Phase::Running, Health::Healthy),
        ],
        "only what changes is told"
    );
    agent.stop().await;
}

#[tokio::test]
async fn an_agent_that_comes_back_goes_on_probing_and_has_nothing_to_say() {
    let (dir, engine) = (tempfile::tempdir().unwrap(), FakeRuntime::default());
    let agent = Agent::start(dir.path(), &engine).await;
    agent.assign([probed(1, command(ProbeRole::Liveness))]).await;
    agent.healthy(1).await;
    let said = agent.reports(1).len();
    agent.stop().await;
    let asked = engine.count(Call::Exec, None);
    let agent = Agent::start(dir.path(), &engine).await;
    until("it is probed", || engine.count(Call::Exec, None) >= asked + 2).await;
    assert_eq!(agent.reports(1).len(), said);
    engine.set_command(CHECK, Some(1), "");
    until("it is started again", || engine.count(Call::Start, None) == 2).await;
    agent.crash();
    // Whatever moment that was: it works again, and the story is whole.
    engine.set_command(CHECK, Some(0), "");
    let agent = Agent::start(dir.path(), &engine).await;
    agent.healthy_since(1, 2).await;
    agent.stop().await;
}

#[tokio::test]
async fn a_frozen_container_is_neither_probed_nor_judged() {
    let (dir, engine) = (tempfile::tempdir().unwrap(), FakeRuntime::default());
    let agent = Agent::start(dir.path(), &engine).await;
    agent.assign([probed(1, command(ProbeRole::Liveness))]).await;
    agent.healthy(1).await;
    let looks = engine.count(Call::Inspect, None);
    engine.freeze(id(1), true);
    until("it is looked at", || engine.count(Call::Inspect, None) > looks).await;
    engine.set_command(CHECK, Some(1), "");
    looked_anew(&agent, &engine).await;
    let asked = engine.count(Call::Exec, None);
    let since = Instant::now();
    until("two intervals have passed", || since.elapsed() > Duration::from_secs(2)).await;
    assert!(engine.count(Call::Exec, None) <= asked + 1);
    assert_eq!((health(&agent, 1), engine.count(Call::Stop, None)), (Health::Healthy, 0));
    engine.freeze(id(1), false);
    until("it is judged again", || engine.count(Call::Start, None) == 2).await;
    agent.stop().await;
}

#[tokio::test]
async fn an_engine_that_runs_no_commands_is_nobodys_illness() {
    let (dir, engine) = (tempfile::tempdir().unwrap(), FakeRuntime::default());
    let agent = Agent::start(dir.path(), &engine).await;
    agent.assign([probed(1, command(ProbeRole::Liveness))]).await;
    agent.healthy(1).await;
    for fault in [Fault::Error(RuntimeErrorKind::Unreachable), Fault::Error(RuntimeErrorKind::Timeout)] {
        engine.fail_always(Call::Exec, fault);
        let asked = engine.count(Call::Exec, None);
        until("it was tried", || engine.count(Call::Exec, None) >= asked + 2).await;
    }
    engine.heal(Call::Exec);
    let asked = engine.count(Call::Exec, None);
    until("it is asked again", || engine.count(Call::Exec, None) >= asked + 2).await;
    assert_eq!((health(&agent, 1), engine.count(Call::Stop, None)), (Health::Healthy, 0));
    assert_eq!(agent.reports(1).len(), 3);
    agent.stop().await;
}

#[tokio::test]
async fn a_command_that_never_ends_is_one_command() {
    let (dir, engine) = (tempfile::tempdir().unwrap(), FakeRuntime::default());
    engine.set_command(CHECK, None, "");
    let agent = Agent::start(dir.path(), &engine).await;
    agent.assign([probed(1, command(ProbeRole::Readiness))]).await;
    until("it was asked after", || engine.count(Call::ExecIsRunning, None) >= 2).await;
    assert_eq!((engine.count(Call::Exec, None), health(&agent, 1)), (1, Health::Unhealthy));
    engine.set_command(CHECK, Some(0), "");
    engine.end_commands();
    agent.healthy(1).await;
    agent.stop().await;
}

#[tokio::test]
async fn an_images_own_check_is_carried_out_and_without_one_time_decides() {
    let (dir, engine) = (tempfile::tempdir().unwrap(), FakeRuntime::default());
    let test = vec!["CMD".to_owned(), "check".to_owned()];
    engine.describe_image("app:1", ImageInfo { health_test: test, ..ImageInfo::default() });
    let agent = Agent::start(dir.path(), &engine).await;
    let mut plain = probed(2, probe(ProbeRole::Liveness, ProbeKind::Image));
    plain.spec.image = "plain:1".into();
    agent.assign([probed(1, probe(ProbeRole::Liveness, ProbeKind::Image)), plain]).await;
    agent.healthy(1).await;
    agent.healthy(2).await;
    assert_eq!((agent.last(1).unwrap().cause, agent.last(2).unwrap().cause), (Cause::Probe, Cause::Time));
    engine.set_command(CHECK, Some(1), "");
    until("it is started again", || engine.count(Call::Start, Some(id(1))) == 2).await;
    agent.stop().await;
}

#[tokio::test]
async fn a_port_is_looked_for_at_the_containers_address() {
    let (dir, engine) = (tempfile::tempdir().unwrap(), FakeRuntime::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let agent = Agent::start(dir.path(), &engine).await;
    agent.assign([probed(1, probe(ProbeRole::Liveness, ProbeKind::Tcp { port }))]).await;
    agent.healthy(1).await;
    drop(listener);
    until("it is started again", || engine.count(Call::Start, None) == 2).await;
    agent.stop().await;
}

#[tokio::test]
async fn probes_that_last_keep_nobody_from_being_started_and_each_has_its_turn() {
    let (dir, engine) = (tempfile::tempdir().unwrap(), FakeRuntime::default());
    engine.add_image("app:1");
    engine.set_command(CHECK, None, "");
    let settings = Settings { max_parallel_actions: 1, ..settings() };
    let agent = Agent::start_with(dir.path(), &engine, settings, &FaultyDisk::default()).await;
    let slow = |n| {
        let mut slow = probed(n, command(ProbeRole::Readiness));
        slow.spec.pull = PullPolicy::Never;
        slow
    };
    agent.assign((1..=12).map(slow)).await;
    until("four are probed", || engine.count(Call::Exec, None) >= 4).await;
    agent.assign((1..=12).map(slow).chain([assignment(99)])).await;
    agent.healthy(99).await;
    until("each was probed", || (1..=12).all(|n| engine.count(Call::Exec, Some(id(n))) == 1)).await;
    agent.stop().await;
}
