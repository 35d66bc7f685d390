//! The lease that answers give, and a disk that takes nothing while there is a session.

use domain::id::{FleetId, NodeId};

use super::{super::testing::DEADLINE, *};
use crate::{
    death::Deaths,
    ledger::testing::{Fault, key},
    reconcile,
    runtime::{
        docker::{DockerRuntime, HouseRules},
        fake::FakeRuntime,
    },
    secrets,
    storage::Sizes,
};

/// Waits until it is so.
async fn until(what: &str, so: impl Fn() -> bool) {
    let begun = std::time::Instant::now();
    while !so() {
        assert!(begun.elapsed() < DEADLINE, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn answer(stamp: Option<u64>) -> Down {
    let lease = Some(protocol::convert::duration_message(Duration::from_secs(6)));
    Down::HeartbeatAnswer(proto::HeartbeatAnswer { lease, stamp })
}

#[tokio::test]
async fn an_answered_heartbeat_renews_the_lease_from_when_it_was_sent() {
    let mut controller = TestController::start().await;
    let agent = Agent::start(&controller).await;
    let mut session = controller.welcomed(0).await;
    let first = session.heartbeat().await.stamp.unwrap();
    assert!(agent.lease.age() >= Duration::from_secs(3600), "a session alone is no word on a heartbeat");
    // The answer is on its way for a while.
    while session.heartbeat().await.stamp.unwrap() < first + 300 {}
    session.send(answer(Some(first))).await;
    until("it is renewed", || agent.lease.age() < Duration::from_secs(60)).await;
    assert!(agent.lease.age() >= Duration::from_millis(300), "{:?}", agent.lease.age());
    agent.stop().await;
}

#[tokio::test]
async fn a_controller_that_gives_no_stamp_back_renews_the_lease_by_its_answer() {
    let mut controller = TestController::start().await;
    let agent = Agent::start(&controller).await;
    let mut session = controller.welcomed(0).await;
    session.heartbeat().await;
    session.send(answer(None)).await;
    until("it is renewed", || agent.lease.age() < Duration::from_secs(60)).await;
    agent.stop().await;
}

/// The next question for the complete set.
async fn asks(session: &mut TestSession) {
    session.next_that(|frame| matches!(frame, Up::AssignmentsWanted(_)).then_some(())).await;
}

#[tokio::test]
async fn a_disk_that_takes_nothing_costs_no_session_and_what_came_meanwhile_is_asked_for_again() {
    for fault in [Fault::Full, Fault::ReadOnly, Fault::SyncFails] {
        let mut controller = TestController::start().await;
        let mut agent = Agent::start(&controller).await;
        let mut session = controller.welcomed(0).await;
        session.complete(&set(4, &[1])).await;
        agent.has_revision(4).await;
        let last = agent.report(2).await;
        session.reports_upto(last).await;
        agent.disk.set(fault);

        session.send(Down::ReportsAcknowledged(ReportsAcknowledged { seq: last })).await;
        delta(&session, 4, 5, &[2]).await;
        asks(&mut session).await;
        session.complete(&set(5, &[1, 2])).await;
        asks(&mut session).await;
        let beat = session.heartbeat().await;
        assert_eq!(beat.assignment_revision, 4, "the controller sees that it is not followed");
        assert!(matches!(*agent.state.borrow(), LinkState::Up { .. }), "one and the same session");
        assert_eq!(agent.ledger.assignments().revision, 4, "nothing acts on what is not on disk");

        agent.disk.set(Fault::None);
        session.complete(&set(5, &[1, 2])).await;
        agent.has_revision(5).await;
        session.send(Down::ReportsAcknowledged(ReportsAcknowledged { seq: last })).await;
        until("they are forgotten", || agent.ledger.reports_waiting() == 0).await;
        assert!(matches!(*agent.state.borrow_and_update(), LinkState::Up { .. }));
        agent.stop().await;
    }
}

#[tokio::test]
async fn a_session_begins_while_the_disk_takes_nothing() {
    let mut controller = TestController::start().await;
    let mut agent = Agent::start(&controller).await;
    let mut first = controller.welcomed(0).await;
    let last = agent.report(3).await;
    first.reports_upto(last).await;
    agent.disk.set(Fault::ReadOnly);
    // It has stored them, and the connection broke before it could say so.
    drop(first);
    let mut second = controller.session().await;
    second.welcome(last).await;
    second.complete(&set(1, &[1])).await;
    asks(&mut second).await;
    second.heartbeat().await;
    agent.reaches(|state| matches!(state, LinkState::Up { .. })).await;
    agent.disk.set(Fault::None);
    second.complete(&set(1, &[1])).await;
    agent.has_revision(1).await;
    agent.stop().await;
}

/// An engine that takes every connection and never answers.
fn silent_engine(socket: &Path) -> tokio::task::JoinHandle<()> {
    let listener = tokio::net::UnixListener::bind(socket).unwrap();
    tokio::runtime::Handle::current().spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            held.push(stream);
        }
    })
}

fn reconciling(
    to: &Supervisor,
    ledger: Ledger,
    runtime: Arc<dyn Runtime>,
    dir: &std::path::Path,
) -> reconcile::Published {
    let parts = reconcile::Parts {
        ledger,
        runtime,
        settings: reconcile::Settings::default(),
        deaths: Deaths::new().0,
        lease: Lease::renewed_ago(Duration::ZERO),
        storage: watch::channel(Sizes::default()).1,
        secrets: secrets::testing::over(dir, dir, key(), secrets::testing::node()).0,
    };
    reconcile::start(to, parts)
}

#[tokio::test]
async fn heartbeats_go_on_while_one_engine_never_answers_and_another_floods() {
    let mut controller = TestController::start().await;
    let agent = Agent::start(&controller).await;
    let mut session = controller.welcomed(0).await;
    session.complete(&set(1, &[1, 2, 3])).await;
    agent.has_revision(1).await;

    // On the same thread as the link, which is what it would have to get in the way of.
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("engine.sock");
    let engine = silent_engine(&socket);
    let (fleet, node) = (FleetId::from_uuid(Uuid::nil()), NodeId::from_uuid(Uuid::nil()));
    let docker = DockerRuntime::with_rules(
        &format!("unix://{}", socket.display()),
        fleet,
        node,
        HouseRules::default(),
    );
    let hung = Supervisor::new(tokio::runtime::Handle::current());
    let published = reconciling(&hung, agent.ledger.clone(), Arc::new(docker.unwrap()), dir.path());
    let flooding = FakeRuntime::default();
    let flooded = Supervisor::new(tokio::runtime::Handle::current());
    let ledger = open_ledger(dir.path(), &FaultyDisk::default()).await;
    let _ = ledger.assignments_replace(set(1, &[7])).await.unwrap();
    let _ = reconciling(&flooded, ledger.clone(), Arc::new(flooding.clone()), dir.path());
    until("it floods", || flooding.running() == 1).await;

    session.heartbeat().await;
    let (begun, mut longest, mut beats) = (std::time::Instant::now(), Duration::ZERO, 0);
    let mut last = begun;
    while begun.elapsed() < Duration::from_secs(3) {
        // Ten heartbeats a second, and two hundred events between two of them.
        for _ in 0..200 {
            flooding.say(instance(7), crate::runtime::EventKind::Other);
        }
        session.heartbeat().await;
        longest = longest.max(last.elapsed());
        last = std::time::Instant::now();
        beats += 1;
    }
    assert!(beats >= 15 && longest < Duration::from_secs(1), "{beats} heartbeats, {longest:?} without any");
    assert_eq!(*published.engine.borrow(), EngineState::Unreachable);
    for supervisor in [hung, flooded] {
        assert!(supervisor.shut_down(Duration::from_secs(10)).await);
    }
    engine.abort();
    agent.stop().await;
}
