//! The reconciler against a real engine: programs that stop working, and images that
//! say themselves how to find out.
//!
//! The containers' addresses mean something in the engine's own network only. So each
//! reconciler has a thread of its own, which lives there.

use std::{fs::File, os::fd::AsFd as _, sync::Arc, thread, time::Duration};

use daemon::{Supervisor, seal::MasterKey};
use domain::{
    assignment::{Assignment, AssignmentSet},
    id::InstanceId,
    instance::{Cause, Desired, FailureReason, Health, Outcome, Phase, Report},
    probe::{HttpCheck, ProbeKind, ProbeRole, ProbeSpec, Verdict},
};
use node_agent::{
    death::{Death, Deaths},
    lease::Lease,
    ledger::Ledger,
    reconcile,
    secrets::{self, Secrets},
    storage::Sizes,
};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tempfile::TempDir;
use tokio::sync::{mpsc, oneshot, watch};

use crate::engine::{IMAGE, World, shell, until};

/// What a reconciler may take to end.
const GRACE: Duration = Duration::from_secs(10);

/// A node's reconciler, in the engine's network.
struct Agent {
    ledger: Ledger,
    deaths: mpsc::Receiver<Death>,
    stop: oneshot::Sender<()>,
    thread: thread::JoinHandle<()>,
    _dir: TempDir,
}

impl Agent {
    fn start(world: &World) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let key = MasterKey::from_base64("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").unwrap();
        let ledger = Ledger::open(dir.path(), key.derive("docker tests")).unwrap();
        let (tell, deaths) = Deaths::new();
        // Nothing here is given any.
        let parts = secrets::Parts {
            node: world.node,
            kept_dir: dir.path().join("secrets"),
            key: key.derive("docker tests of secrets"),
            files_dir: dir.path().join("files"),
            asking: secrets::ask::channel().0,
        };
        let (stop, stopped) = oneshot::channel::<()>();
        // A node of its own: what the other scenarios run is none of its business.
        let (runtime, network, kept) = (world.neighbour(), world.network().to_owned(), ledger.clone());
        let thread = thread::spawn(move || {
            let network = File::open(network).unwrap();
            move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            tokio.block_on(async move {
                let supervisor = Supervisor::new(tokio::runtime::Handle::current());
                let (_sizes, storage) = watch::channel(Sizes::default());
                let parts = reconcile::Parts {
                    ledger: kept,
                    runtime: Arc::new(runtime),
                    settings: reconcile::Settings::default(),
                    deaths: tell,
                    lease: Lease::renewed_ago(Duration::ZERO),
                    storage,
                    secrets: Secrets::new(parts),
                };
                let _published = reconcile::start(&supervisor, parts);
                let _ = stopped.await;
                assert!(supervisor.shut_down(GRACE).await);
            });
        });
        Self { ledger, deaths, stop, thread, _dir: dir }
    }

    async fn assign(&self, assignment: &Assignment) {
        let revision = self.ledger.assignments().revision + 1;
        let assignments = [(assignment.instance_id, assignment.clone())].into();
        let set = AssignmentSet { revision, assignments };
        let _ = self.ledger.assignments_replace(set).await.unwrap();
    }

    fn reports(&self, instance: InstanceId) -> Vec<Report> {
        let all = self.ledger.reports_after(0, usize::MAX);
        all.into_iter().filter(|report| report.instance_id == instance).collect()
    }

    async fn healthy(&self, instance: InstanceId, attempt: u32) -> Report {
        until("it is healthy", async || {
            self.reports(instance).pop().filter(|report| {
                report.status.progress.attempt >= attempt && report.status.health == Health::Healthy
            })
        })
        .await
    }

    /// Removes what it ran, and ends.
    async fn end(self, assignment: &Assignment) {
        let instance = assignment.instance_id;
        self.assign(&Assignment { desired: Desired::Removed, ..assignment.clone() }).await;
        let removed = async || {
            self.reports(instance).last().is_some_and(|last| last.status.progress.removed).then_some(())
        };
        until("it is gone", removed).await;
        self.stop.send(()).unwrap();
        tokio::task::spawn_blocking(move || self.thread.join().unwrap()).await.unwrap();
    }
}

fn quick(kind: ProbeKind) -> ProbeSpec {
    ProbeSpec {
        interval_seconds: 1,
        // What a busy host needs to begin a program in a container, and to answer.
        timeout_seconds: 30,
        retries: 2,
        start_period_seconds: 60,
        ..ProbeSpec::new(ProbeRole::Liveness, kind)
    }
}

fn container_of(agent: &Agent, instance: InstanceId) -> String {
    agent.reports(instance).pop().and_then(|last| last.status.container_id).unwrap()
}

/// That the first attempt ended because of its probe, and the second one works.
async fn is_restarted(agent: &mut Agent, instance: InstanceId, finding: &str) {
    agent.healthy(instance, 2).await;
    let reports = agent.reports(instance);
    let end = reports.iter().find(|report| report.status.progress.phase == Phase::Ended).unwrap();
    let Some(Outcome::Failed { reason, message, code }) = &end.status.outcome else { panic!("{end:?}") };
    assert_eq!((*reason, &end.cause), (FailureReason::Unhealthy, &Cause::Probe));
    assert!(message.contains(finding), "{message}");
    // A shell or server that takes no notice of being asked, and is killed.
    assert!([Some(143), Some(137)].contains(code), "{end:?}");
    let death = agent.deaths.recv().await.unwrap();
    assert_eq!((death.instance_id, death.attempt), (instance, 1));
    assert_eq!(death.probes.last().unwrap().result.verdict, Verdict::Failed);
}

pub async fn a_server_that_begins_to_fail_is_restarted_and_works_again(world: Arc<World>) {
    let mut agent = Agent::start(&world);
    let script = "mkdir -p /tmp/www; echo well > /tmp/www/index.html; exec httpd -f -p 80 -h /tmp/www";
    let mut web = shell(script);
    web.spec.stop_grace_seconds = 1;
    let check = HttpCheck { body_contains: Some("well".into()), ..HttpCheck::of(80, "/index.html") };
    web.spec.probes = vec![quick(ProbeKind::Http(check))];
    agent.assign(&web).await;
    let healthy = agent.healthy(web.instance_id, 1).await;
    assert_eq!(healthy.message, "healthy: status 200, and the body holds what is looked for");
    let container = container_of(&agent, web.instance_id);
    world.docker(&["exec", &container, "/bin/busybox", "rm", "/tmp/www/index.html"]).await;
    is_restarted(&mut agent, web.instance_id, "status 404").await;
    assert_eq!(container_of(&agent, web.instance_id), container, "in place");
    agent.end(&web).await;
}

pub async fn an_images_own_check_is_carried_out_by_the_agent_and_not_by_the_engine(world: Arc<World>) {
    const CHECKED: &str = "a67-test/checked:1";
    let plain = world.docker(&["create", IMAGE, "/bin/sh"]).await;
    let check = "HEALTHCHECK --interval=1s CMD test -e /tmp/well || { echo no such thing; exit 3; }";
    world.docker(&["commit", "--change", check, &plain, CHECKED]).await;
    world.docker(&["rm", &plain]).await;

    let mut agent = Agent::start(&world);
    let mut checked = shell("echo > /tmp/well; exec sleep 100000");
    checked.spec.image = CHECKED.into();
    checked.spec.stop_grace_seconds = 1;
    checked.spec.probes = vec![quick(ProbeKind::Image)];
    agent.assign(&checked).await;
    assert_eq!(agent.healthy(checked.instance_id, 1).await.cause, Cause::Probe);
    let container = container_of(&agent, checked.instance_id);
    let state = world.docker(&["inspect", "--format", "{{json .State}}", &container]).await;
    assert!(!state.contains("\"Health\""), "the engine checks it, too: {state}");
    world.docker(&["exec", &container, "/bin/busybox", "rm", "/tmp/well"]).await;
    is_restarted(&mut agent, checked.instance_id, "exit code 3: no such thing").await;
    agent.end(&checked).await;
    world.docker(&["rmi", CHECKED]).await;
}
