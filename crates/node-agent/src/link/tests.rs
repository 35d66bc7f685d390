//! The agent's side of every conversation, against a controller that the test plays.

use std::path::Path;

use chrono::{TimeDelta, Utc};
use domain::{
    Timestamp,
    assignment::{Assignment, AssignmentSet},
    deployment::InstanceSpec,
    dossier::{Dossier, DossierLine},
    id::{DeploymentId, InstanceId},
    instance::{Cause, Desired, InstanceStatus, Outcome},
    node::{EngineState, NodeFacts},
    plan::Transition,
    sample::{HostSample, InstanceSample},
};
use protocol::proto::{
    self, AssignmentDelta, Draining, LogsRequest, OpenStream, ReportsAcknowledged, agent_frame::Frame as Up,
    controller_frame::Frame as Down, open_stream::What, stream_frame::Frame as Data,
};
use tonic::{Code, Status};
use uuid::Uuid;

use super::{
    testing::{LogRuntime, TestController, TestSession, soon},
    *,
};
use crate::{
    identity::{EnrolError, EnrolOptions, Enrolled, enrol},
    ledger::testing::FaultyDisk,
};

mod autonomy;
mod secrets;

fn quick() -> Timing {
    let millis = Duration::from_millis;
    Timing {
        retry: (millis(20), millis(40)),
        quick: millis(10),
        refused: millis(50),
        good_after: millis(500),
        handshake: Duration::from_secs(5),
        silence: Duration::from_secs(10),
        unkept: (millis(20), millis(40)),
        renew: (millis(20), millis(40)),
    }
}

fn instance(n: u128) -> InstanceId {
    InstanceId::from_uuid(Uuid::from_u128(n))
}

fn assignment(n: u128) -> Assignment {
    Assignment {
        instance_id: instance(n),
        deployment_id: DeploymentId::from_uuid(Uuid::nil()),
        deployment_name: "web".into(),
        revision: 1,
        spec: InstanceSpec::of_image("app:1"),
        desired: Desired::Running,
        restart_generation: 0,
        registry_credential: None,
    }
}

fn set(revision: u64, numbers: &[u128]) -> AssignmentSet {
    let assignments = numbers.iter().map(|n| (instance(*n), assignment(*n))).collect();
    AssignmentSet { revision, assignments }
}

/// An agent's link, with all that it hangs on.
struct Agent {
    supervisor: Supervisor,
    ledger: Ledger,
    state: watch::Receiver<LinkState>,
    engine: watch::Sender<EngineState>,
    facts: watch::Sender<NodeFacts>,
    samples: SampleBuffer,
    dossiers: Dossiers,
    period: watch::Receiver<Duration>,
    lease: Lease,
    disk: FaultyDisk,
    board: watch::Sender<crate::pull::Board>,
    asking: crate::secrets::ask::Asking,
    _dir: tempfile::TempDir,
}

impl Agent {
    async fn start(controller: &TestController) -> Self {
        Self::start_with(controller, quick(), LogRuntime::new(instance(1))).await
    }

    async fn start_with(controller: &TestController, timing: Timing, runtime: LogRuntime) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let identity = controller.shared.ca.identity(dir.path(), &controller.url());
        Self::start_as(identity, dir, timing, runtime).await
    }

    async fn start_as(
        identity: Identity,
        dir: tempfile::TempDir,
        timing: Timing,
        runtime: LogRuntime,
    ) -> Self {
        let (disk, lease) = (FaultyDisk::default(), Lease::renewed_ago(Duration::from_secs(3600)));
        let ledger = open_ledger(dir.path(), &disk).await;
        let (engine, engine_rx) = watch::channel(EngineState::Reachable);
        let (facts, facts_rx) = watch::channel(NodeFacts { hostname: "here".into(), ..NodeFacts::default() });
        let (sample_period, period) = watch::channel(Duration::from_secs(30));
        let (supervisor, samples) = (Supervisor::new(tokio::runtime::Handle::current()), SampleBuffer::new());
        let dossiers = Dossiers::open(&dir.path().join("dossiers"), crate::ledger::testing::key());
        let board = watch::Sender::new(crate::pull::Board::default());
        let (asking, asked) = crate::secrets::ask::channel();
        let parts = Parts {
            identity,
            ledger: ledger.clone(),
            runtime: Arc::new(runtime),
            engine: EngineStatus { state: engine_rx, facts: facts_rx },
            samples: samples.clone(),
            dossiers: dossiers.clone(),
            sample_period,
            address: None,
            lease: lease.clone(),
            pulls: board.subscribe(),
            asked,
        };
        let state = start_timed(&supervisor, parts, timing);
        let _dir = dir;
        Self {
            supervisor,
            ledger,
            state,
            engine,
            facts,
            samples,
            dossiers,
            period,
            lease,
            disk,
            board,
            asking,
            _dir,
        }
    }

    async fn reaches(&mut self, wanted: impl FnMut(&LinkState) -> bool) {
        soon(self.state.wait_for(wanted)).await.unwrap();
    }

    async fn has_revision(&self, revision: u64) {
        soon(self.ledger.assignments_changed().wait_for(|r| *r == revision)).await.unwrap();
    }

    /// Adds reports to the ledger, and answers the number of the last.
    async fn report(&self, count: usize) -> u64 {
        let transition = |_| Transition {
            instance_id: instance(1),
            status: InstanceStatus::FIRST,
            cause: Cause::Assigned,
            message: "something".into(),
            at: Timestamp::UNIX_EPOCH,
        };
        self.ledger.commit(Vec::new(), (0..count).map(transition).collect()).await.unwrap()
    }

    async fn stop(self) {
        assert!(self.supervisor.shut_down(Duration::from_secs(5)).await);
        self.ledger.close().await;
    }
}

async fn open_ledger(dir: &Path, disk: &FaultyDisk) -> Ledger {
    let (dir, disk) = (dir.join("ledger"), disk.clone());
    let open = move || disk.open(&dir).unwrap();
    tokio::task::spawn_blocking(open).await.unwrap()
}

async fn delta(session: &TestSession, base_revision: u64, revision: u64, upserts: &[u128]) {
    let upserts = upserts.iter().map(|n| (&assignment(*n)).into()).collect();
    session
        .send(Down::AssignmentDelta(AssignmentDelta { base_revision, revision, upserts, removals: vec![] }))
        .await;
}

#[tokio::test]
async fn a_session_begins_with_hello_and_what_comes_is_kept() {
    let mut controller = TestController::start().await;
    let mut agent = Agent::start(&controller).await;
    let mut session = controller.session().await;
    assert_eq!(session.hello.protocol_version, 1);
    assert_eq!(session.hello.report_stream_id, agent.ledger.report_stream_id().to_string());
    assert_eq!(session.hello.assignment_revision, 0);
    assert!(!session.hello.boot_id.is_empty());
    let facts = session.hello.facts.clone().unwrap();
    assert_eq!((facts.hostname.as_str(), facts.address.as_deref()), ("here", Some("127.0.0.1")));

    session.welcome(0).await;
    session.complete(&set(5, &[1, 2])).await;
    agent.has_revision(5).await;
    assert_eq!(*agent.ledger.assignments(), set(5, &[1, 2]));
    delta(&session, 5, 6, &[3]).await;
    agent.has_revision(6).await;
    soon(async { while session.heartbeat().await.assignment_revision != 6 {} }).await;
    agent.reaches(|state| *state == LinkState::Up { session_epoch: 1 }).await;
    assert_eq!(*agent.period.borrow(), Duration::from_secs(5));
    agent.stop().await;
}

#[tokio::test]
async fn a_gap_is_answered_by_asking_for_the_complete_set() {
    let mut controller = TestController::start().await;
    let agent = Agent::start(&controller).await;
    let mut session = controller.session().await;
    session.welcome(0).await;
    session.complete(&set(5, &[1])).await;
    delta(&session, 6, 7, &[2]).await;
    session.next_that(|frame| matches!(frame, Up::AssignmentsWanted(_)).then_some(())).await;
    assert_eq!(*agent.ledger.assignments(), set(5, &[1]));
    session.complete(&set(7, &[1, 2])).await;
    agent.has_revision(7).await;
    agent.stop().await;
}

#[tokio::test]
async fn reports_that_were_not_acknowledged_are_sent_again_after_a_cut() {
    let mut controller = TestController::start().await;
    let agent = Agent::start(&controller).await;
    assert_eq!(agent.report(3).await, 3);
    let mut session = controller.welcomed(0).await;
    assert_eq!(session.reports_upto(3).await, [1, 2, 3]);
    session.send(Down::ReportsAcknowledged(ReportsAcknowledged { seq: 1 })).await;
    assert_eq!(agent.report(2).await, 5);
    assert_eq!(session.reports_upto(5).await, [4, 5]);
    drop(session);

    // The controller has stored one more than it came to acknowledge.
    let mut session = controller.welcomed(2).await;
    assert_eq!(session.reports_upto(5).await, [3, 4, 5]);
    session.send(Down::ReportsAcknowledged(ReportsAcknowledged { seq: 5 })).await;
    let forgotten = async {
        while !agent.ledger.reports_after(0, 9).is_empty() {
            tokio::task::yield_now().await
        }
    };
    soon(forgotten).await;
    agent.stop().await;
}

#[tokio::test]
async fn reports_of_a_ledger_that_went_back_are_sent_under_numbers_that_the_controller_does_not_have() {
    let mut controller = TestController::start().await;
    let agent = Agent::start(&controller).await;
    assert_eq!(agent.report(3).await, 3);
    let mut session = controller.welcomed(100).await;
    assert_eq!(session.reports_upto(103).await, [101, 102, 103]);
    assert_eq!(agent.report(1).await, 104);
    assert_eq!(session.reports_upto(104).await, [104]);
    agent.stop().await;
}

#[tokio::test]
async fn many_reports_come_in_batches_as_they_are_acknowledged() {
    let mut controller = TestController::start().await;
    let agent = Agent::start(&controller).await;
    let last = agent.report(3_000).await;
    let mut session = controller.welcomed(0).await;
    let mut seen = Vec::new();
    while seen.len() < 3_000 {
        let upto = (seen.len() as u64 + 1000).min(last);
        seen.extend(session.reports_upto(upto).await);
        let seq = *seen.last().unwrap();
        session.send(Down::ReportsAcknowledged(ReportsAcknowledged { seq })).await;
    }
    assert_eq!(seen, (1..=last).collect::<Vec<_>>());
    agent.stop().await;
}

#[tokio::test]
async fn a_session_that_a_newer_one_took_over_is_opened_anew() {
    let mut controller = TestController::start().await;
    let mut agent = Agent::start(&controller).await;
    let session = controller.welcomed(0).await;
    agent.reaches(|state| matches!(state, LinkState::Up { .. })).await;
    session.down.send(Err(Status::aborted("a newer session took over"))).await.unwrap();
    let _second = controller.welcomed(0).await;
    agent.stop().await;
}

#[tokio::test]
async fn a_controller_that_is_about_to_stop_is_left_and_found_again() {
    let mut controller = TestController::start().await;
    let agent = Agent::start(&controller).await;
    let session = controller.welcomed(0).await;
    session.send(Down::Draining(Draining {})).await;
    session.ends().await;
    let _second = controller.welcomed(0).await;
    agent.stop().await;
}

#[tokio::test]
async fn a_silent_controller_is_left() {
    let mut controller = TestController::start().await;
    let timing = Timing { silence: Duration::from_millis(200), ..quick() };
    let agent = Agent::start_with(&controller, timing, LogRuntime::new(instance(1))).await;
    let silent = controller.welcomed(0).await;
    silent.ends().await;
    // One that never sends the complete set, either.
    let session = controller.session().await;
    session.welcome(0).await;
    session.ends().await;
    agent.stop().await;
}

#[tokio::test]
async fn a_refused_node_says_so_keeps_its_assignments_and_tries_again_later() {
    let mut controller = TestController::start().await;
    let mut agent = Agent::start(&controller).await;
    let session = controller.session().await;
    session.welcome(0).await;
    session.complete(&set(3, &[1])).await;
    agent.has_revision(3).await;
    controller.behave(|b| b.refuse_sessions = Some(Code::PermissionDenied));
    session.down.send(Err(Status::permission_denied("revoked"))).await.unwrap();
    agent.reaches(|state| *state == LinkState::Refused).await;
    assert_eq!(*agent.ledger.assignments(), set(3, &[1]));

    controller.behave(|b| b.refuse_sessions = None);
    let session = controller.welcomed(0).await;
    assert_eq!(session.hello.assignment_revision, 3);
    agent.reaches(|state| matches!(state, LinkState::Up { .. })).await;
    agent.stop().await;
}

#[tokio::test]
async fn the_engine_going_away_is_told_at_once_and_changed_facts_are_sent_again() {
    let mut controller = TestController::start().await;
    let agent = Agent::start(&controller).await;
    let mut session = controller.welcomed(0).await;
    assert_eq!(session.heartbeat().await.engine, i32::from(proto::EngineState::Reachable));
    agent.engine.send_replace(EngineState::Unreachable);
    let away = i32::from(proto::EngineState::Unreachable);
    soon(async { while session.heartbeat().await.engine != away {} }).await;

    agent.facts.send_modify(|facts| facts.hostname = "there".into());
    let facts = session
        .next_that(|frame| match frame {
            Up::Facts(facts) => Some(facts),
            _ => None,
        })
        .await;
    assert_eq!((facts.hostname.as_str(), facts.address.as_deref()), ("there", Some("127.0.0.1")));
    agent.stop().await;
}

#[tokio::test]
async fn a_frame_that_cannot_be_understood_changes_nothing_and_ends_the_session() {
    let mut controller = TestController::start().await;
    let agent = Agent::start(&controller).await;
    let session = controller.session().await;
    session.welcome(0).await;
    session.complete(&set(5, &[1])).await;
    agent.has_revision(5).await;
    let mut bad: proto::Assignment = (&assignment(2)).into();
    bad.desired = 99;
    let delta = AssignmentDelta { base_revision: 5, revision: 6, upserts: vec![bad], removals: vec![] };
    session.send(Down::AssignmentDelta(delta)).await;
    session.ends().await;
    assert_eq!(*agent.ledger.assignments(), set(5, &[1]));
    agent.stop().await;
}

fn samples(count: usize) -> Vec<InstanceSample> {
    let sample = InstanceSample {
        instance_id: instance(1),
        memory_bytes: Some(1),
        ..InstanceSample::empty(instance(1), Timestamp::UNIX_EPOCH)
    };
    vec![sample; count]
}

#[tokio::test]
async fn readings_are_pushed_in_batches_and_stay_while_they_cannot_be() {
    let mut controller = TestController::start().await;
    controller.behave(|b| b.refuse_metrics = Some(Code::Unavailable));
    let agent = Agent::start(&controller).await;
    let mut session = controller.welcomed(0).await;
    agent.samples.push(samples(4_500));
    session.heartbeat().await;
    assert_eq!(agent.samples.peek(10_000).len(), 4_500);
    controller.behave(|b| b.refuse_metrics = None);
    let all = async {
        while controller.shared.pushed.lock().unwrap().iter().sum::<usize>() < 4_500 {
            session.heartbeat().await;
        }
    };
    soon(all).await;
    assert_eq!(*controller.shared.pushed.lock().unwrap(), [2_000, 2_000, 500]);
    agent.stop().await;
}

#[tokio::test]
async fn readings_of_the_host_go_with_those_of_instances() {
    let mut controller = TestController::start().await;
    let agent = Agent::start(&controller).await;
    let mut session = controller.welcomed(0).await;
    agent.samples.push_host(HostSample { reasons: vec!["disk / is full".into()], ..HostSample::default() });
    agent.samples.push(samples(1));
    soon(async {
        while agent.samples.waiting() > 0 {
            session.heartbeat().await;
        }
    })
    .await;
    assert_eq!(controller.shared.pushed.lock().unwrap().iter().sum::<usize>(), 1);
    let hosts = std::mem::take(&mut *controller.shared.pushed_hosts.lock().unwrap());
    assert_eq!(hosts.len(), 1);
    assert_eq!(hosts[0].reasons, ["disk / is full"]);
    agent.stop().await;
}

#[tokio::test]
async fn readings_that_the_controller_refuses_for_good_are_dropped() {
    let mut controller = TestController::start().await;
    controller.behave(|b| b.refuse_metrics = Some(Code::InvalidArgument));
    let agent = Agent::start(&controller).await;
    let mut session = controller.welcomed(0).await;
    agent.samples.push(samples(3));
    soon(async {
        while !agent.samples.peek(1).is_empty() {
            session.heartbeat().await;
        }
    })
    .await;
    agent.stop().await;
}

fn dossier(attempt: u32) -> Dossier {
    let line = DossierLine { at: None, stderr: true, text: format!("line of {attempt}"), partial: false };
    Dossier {
        instance_id: instance(1),
        attempt,
        ended_at: Timestamp::UNIX_EPOCH,
        outcome: Outcome::Exited { code: 3, oom: false },
        container_id: Some("0a1b".into()),
        log: vec![line],
        log_cut: false,
        probes: Vec::new(),
        memory: Vec::new(),
        memory_limit_bytes: None,
    }
}

#[tokio::test]
async fn dossiers_wait_while_they_cannot_be_pushed_and_then_come_whole_and_in_order() {
    let mut controller = TestController::start().await;
    controller.behave(|b| b.refuse_dossiers = Some(Code::Unavailable));
    let agent = Agent::start(&controller).await;
    let mut session = controller.welcomed(0).await;
    for attempt in 1..=40 {
        agent.dossiers.keep(dossier(attempt)).await;
    }
    session.heartbeat().await;
    assert_eq!(agent.dossiers.waiting(), 40);
    controller.behave(|b| b.refuse_dossiers = None);
    soon(async {
        while agent.dossiers.waiting() > 0 {
            session.heartbeat().await;
        }
    })
    .await;
    let taken: Vec<_> =
        controller.shared.dossiers.lock().unwrap().drain(..).map(|m| Dossier::try_from(m).unwrap()).collect();
    assert_eq!(taken, (1..=40).map(dossier).collect::<Vec<_>>());
    agent.stop().await;
}

#[tokio::test]
async fn a_dossier_that_the_controller_refuses_for_good_is_dropped_and_takes_no_other_with_it() {
    let mut controller = TestController::start().await;
    controller.behave(|b| b.refuse_attempt = Some(5));
    let agent = Agent::start(&controller).await;
    for attempt in 1..=20 {
        agent.dossiers.keep(dossier(attempt)).await;
    }
    let mut session = controller.welcomed(0).await;
    soon(async {
        while agent.dossiers.waiting() > 0 {
            session.heartbeat().await;
        }
    })
    .await;
    let taken: Vec<_> = controller.shared.dossiers.lock().unwrap().iter().map(|m| m.attempt).collect();
    assert_eq!(taken, (1..=20).filter(|n| *n != 5).collect::<Vec<_>>());
    agent.stop().await;
}

fn open_logs(stream_id: &str, instance_id: &str, follow: bool) -> Down {
    let logs = LogsRequest { instance_id: instance_id.into(), tail: None, follow, since: None };
    Down::OpenStream(OpenStream { stream_id: stream_id.into(), what: Some(What::Logs(logs)) })
}

/// A session of an agent that has instance 1.
async fn with_instance(controller: &mut TestController, agent: &Agent) -> TestSession {
    let session = controller.session().await;
    session.welcome(0).await;
    session.complete(&set(1, &[1])).await;
    agent.has_revision(1).await;
    session
}

#[tokio::test]
async fn a_log_is_streamed_to_its_end() {
    let mut controller = TestController::start().await;
    let agent = Agent::start(&controller).await;
    let session = with_instance(&mut controller, &agent).await;
    session.send(open_logs("s1", &instance(1).to_string(), false)).await;
    let mut stream = controller.stream().await;
    assert_eq!(stream.stream_id, "s1");
    for number in 0..3 {
        let Some(Data::LogLine(line)) = soon(stream.up.message()).await.unwrap().unwrap().frame else {
            panic!("not a line")
        };
        assert_eq!(format!("{}\n", std::str::from_utf8(&line.text).unwrap()), LogRuntime::line(number));
    }
    assert!(soon(stream.up.message()).await.unwrap().is_none());
    drop(stream.down);
    agent.stop().await;
}

#[tokio::test]
async fn heartbeats_go_on_while_a_log_stream_stands_still_and_nothing_piles_up() {
    let mut controller = TestController::start().await;
    let mut runtime = LogRuntime::new(instance(1));
    runtime.endless = true;
    let read = Arc::clone(&runtime.read);
    let agent = Agent::start_with(&controller, quick(), runtime).await;
    let mut session = with_instance(&mut controller, &agent).await;
    session.send(open_logs("s1", &instance(1).to_string(), true)).await;
    let stream = controller.stream().await;

    // Nobody reads the stream. The agent reads until all windows are full, then stops.
    let stands_still = async {
        let mut before = usize::MAX;
        loop {
            for _ in 0..3 {
                session.heartbeat().await;
            }
            let now = *read.lock().unwrap();
            if now == before {
                return now;
            }
            before = now;
        }
    };
    let lines = soon(stands_still).await;
    assert!(lines > 0 && lines < 50_000, "{lines} lines were read for nobody");
    for _ in 0..5 {
        session.heartbeat().await;
    }
    // Reports pass it too.
    let last = agent.report(2).await;
    session.reports_upto(last).await;

    // The reader goes away, and so does the engine's stream; who holds the counter
    // then is this test and the runtime.
    assert_eq!(Arc::strong_count(&read), 3);
    drop(stream);
    let let_go = async {
        while Arc::strong_count(&read) > 2 {
            session.heartbeat().await;
        }
    };
    soon(let_go).await;
    agent.stop().await;
}

async fn refusal(session: &mut TestSession) -> (String, String) {
    session
        .next_that(|frame| match frame {
            Up::StreamRefused(refused) => Some((refused.stream_id, refused.message)),
            _ => None,
        })
        .await
}

#[tokio::test]
async fn streams_that_cannot_be_opened_are_refused_and_those_that_nobody_waits_for_end() {
    let mut controller = TestController::start().await;
    let agent = Agent::start(&controller).await;
    let mut session = with_instance(&mut controller, &agent).await;
    for (id, what) in [("a", "not a uuid"), ("b", &instance(9).to_string())] {
        session.send(open_logs(id, what, false)).await;
        assert_eq!(refusal(&mut session).await.0, id);
    }
    session.send(Down::OpenStream(OpenStream { stream_id: "c".into(), what: None })).await;
    assert!(refusal(&mut session).await.1.contains("does not know"));
    session.send(open_logs("unknown", &instance(1).to_string(), false)).await;
    session.heartbeat().await;
    agent.stop().await;
}

#[tokio::test]
async fn more_streams_than_a_node_may_have_are_refused() {
    let mut controller = TestController::start().await;
    let mut runtime = LogRuntime::new(instance(1));
    runtime.endless = true;
    let agent = Agent::start_with(&controller, quick(), runtime).await;
    let mut session = with_instance(&mut controller, &agent).await;
    let mut open = Vec::new();
    for n in 0..streams::STREAMS_MAX {
        session.send(open_logs(&format!("s{n}"), &instance(1).to_string(), true)).await;
        open.push(controller.stream().await);
    }
    session.send(open_logs("one too many", &instance(1).to_string(), true)).await;
    assert_eq!(refusal(&mut session).await.0, "one too many");
    open.pop();
    let again = async {
        loop {
            session.send(open_logs("again", &instance(1).to_string(), true)).await;
            tokio::select! {
                stream = controller.streams.recv() => return stream.unwrap(),
                _ = refusal(&mut session) => {}
            }
        }
    };
    assert_eq!(soon(again).await.stream_id, "again");
    agent.stop().await;
}

#[tokio::test]
async fn a_certificate_that_is_due_is_renewed_kept_and_used() {
    let mut controller = TestController::start().await;
    let dir = tempfile::tempdir().unwrap();
    let now = Utc::now();
    let life = (now - TimeDelta::days(89), now + TimeDelta::days(1));
    let identity = controller.shared.ca.identity_between(dir.path(), &controller.url(), life);
    let old = identity.certificate().clone();
    let data_dir = dir.path().to_owned();
    let agent = Agent::start_as(identity, dir, quick(), LogRuntime::new(instance(1))).await;
    let pem = async {
        loop {
            // The session that was opened with the old certificate may come first.
            let session = controller.session().await;
            session.welcome(0).await;
            session.complete(&AssignmentSet::default()).await;
            if let Ok(pem) = std::fs::read_to_string(data_dir.join("node.pem")) {
                return pem;
            }
        }
    };
    let kept = crate::identity::Certificate::from_pem(&soon(pem).await).unwrap();
    assert!(kept != old && kept.not_after() > old.not_after() + TimeDelta::days(80));
    agent.stop().await;
}

#[tokio::test]
async fn a_node_that_was_off_past_its_certificates_end_renews_and_comes_back() {
    let mut controller = TestController::start().await;
    let dir = tempfile::tempdir().unwrap();
    let now = Utc::now();
    let life = (now - TimeDelta::days(100), now - TimeDelta::days(10));
    let identity = controller.shared.ca.identity_between(dir.path(), &controller.url(), life);
    let agent = Agent::start_as(identity, dir, quick(), LogRuntime::new(instance(1))).await;
    let _session = controller.welcomed(0).await;
    agent.stop().await;
}

fn enrol_options(controller: &TestController, data_dir: &Path, token: String) -> EnrolOptions {
    EnrolOptions {
        data_dir: data_dir.to_owned(),
        controller: controller.url(),
        token,
        name: Some("here".into()),
        facts: NodeFacts::default(),
    }
}

fn identity_of(enrolled: Enrolled) -> Identity {
    match enrolled {
        Enrolled::New(identity) => identity,
        Enrolled::Already(_) | Enrolled::Mended { .. } => panic!("was enrolled already"),
    }
}

#[tokio::test]
async fn a_host_becomes_a_node_and_says_so_when_it_is_one_already() {
    let mut controller = TestController::start().await;
    let dir = tempfile::tempdir().unwrap();
    let token = controller.shared.ca.token("sesame");
    let options = || enrol_options(&controller, dir.path(), token.clone());
    let identity = identity_of(enrol(options()).await.unwrap());
    assert_eq!(identity.node_id(), controller.shared.ca.node_id());
    assert_eq!(identity.node_name(), "here");
    assert!(matches!(enrol(options()).await, Ok(Enrolled::Already(_))));
    assert_eq!(controller.shared.enrolled.lock().unwrap().len(), 1);

    let other = TestController::start().await.shared.ca.token("sesame");
    let error = enrol(enrol_options(&controller, dir.path(), other)).await.err().unwrap();
    assert!(matches!(error, EnrolError::OtherFleet { .. }), "{error}");

    let kept = Identity::load(dir.path()).unwrap().unwrap();
    let agent = Agent::start_as(kept, dir, quick(), LogRuntime::new(instance(1))).await;
    let _session = controller.welcomed(0).await;
    agent.stop().await;
}

#[tokio::test]
async fn an_enrolment_that_failed_is_tried_again_with_the_same_key() {
    let controller = TestController::start().await;
    let dir = tempfile::tempdir().unwrap();
    let token = controller.shared.ca.token("sesame");
    let options = || enrol_options(&controller, dir.path(), token.clone());
    controller.behave(|b| b.refuse_enrolment = Some(Code::Unavailable));
    let error = enrol(options()).await.err().unwrap();
    assert!(matches!(error, EnrolError::Unreachable { .. }), "{error}");
    assert!(Identity::load(dir.path()).unwrap().is_none());
    controller.behave(|b| b.refuse_enrolment = None);
    identity_of(enrol(options()).await.unwrap());
    let keys = controller.shared.enrolled.lock().unwrap().clone();
    assert_eq!(keys.len(), 2);
    assert_eq!(keys[0], keys[1]);
}

#[tokio::test]
async fn each_way_to_fail_an_enrolment_is_told_apart() {
    let controller = TestController::start().await;
    let dir = tempfile::tempdir().unwrap();
    let (ours, theirs) = (&controller.shared.ca, TestController::start().await);
    let attempt =
        async |token: String| enrol(enrol_options(&controller, dir.path(), token)).await.err().unwrap();

    let error = attempt("sesame".into()).await;
    assert!(matches!(error, EnrolError::Token(_)), "{error}");
    let error = attempt(theirs.shared.ca.token("sesame")).await;
    assert!(matches!(error, EnrolError::WrongController { .. }), "{error}");
    assert!(controller.shared.enrolled.lock().unwrap().is_empty(), "something was said to a stranger");
    let error = attempt(ours.token("wrong")).await;
    assert!(matches!(error, EnrolError::TokenRefused { .. }), "{error}");

    controller.behave(|b| b.foreign_signer = true);
    let error = attempt(ours.token("sesame")).await;
    assert!(matches!(error, EnrolError::Certificate(_)), "{error}");
    controller.behave(|b| {
        *b = testing::Behaviour { refuse_enrolment: Some(Code::FailedPrecondition), ..Default::default() }
    });
    let error = attempt(ours.token("sesame")).await;
    assert!(matches!(error, EnrolError::Version { .. }), "{error}");

    for (address, unreachable) in
        [("https://127.0.0.1:1", true), ("http://127.0.0.1:1", false), ("nonsense", false)]
    {
        let options = EnrolOptions {
            controller: address.into(),
            ..enrol_options(&controller, dir.path(), ours.token("sesame"))
        };
        let error = enrol(options).await.err().unwrap();
        assert_eq!(matches!(error, EnrolError::Unreachable { .. }), unreachable, "{address}: {error}");
        assert_eq!(matches!(error, EnrolError::Address { .. }), !unreachable, "{address}: {error}");
    }
    assert!(Identity::load(dir.path()).unwrap().is_none());
}

#[tokio::test]
async fn how_far_pulls_have_come_is_told_to_each_session() {
    let mut controller = TestController::start().await;
    let agent = Agent::start(&controller).await;
    let progress = domain::pull::PullProgress {
        image: "app:1".into(),
        instance_ids: vec![instance(1)],
        at: Utc::now(),
        attempt: 1,
        layers: Vec::new(),
    };
    agent.board.send_modify(|board| {
        Arc::make_mut(board).insert("app:1".into(), progress.clone());
    });
    for _ in 0..2 {
        let mut session = controller.welcomed(0).await;
        let told = session
            .next_that(|frame| match frame {
                Up::PullProgress(progress) => Some(progress),
                _ => None,
            })
            .await;
        assert_eq!(domain::pull::PullProgress::try_from(told).unwrap(), progress);
        // The session goes on beside it.
        session.heartbeat().await;
    }
    agent.stop().await;
}
