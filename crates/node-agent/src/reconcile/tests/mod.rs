//! The loop against an engine in memory and a ledger on disk.

mod engine;
mod life;
mod probes;
mod secret;
mod vital;

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use domain::{
    assignment::{Assignment, AssignmentSet},
    deployment::{InstanceSpec, RestartPolicy},
    id::DeploymentId,
    instance::{Cause, Desired, FailureReason, Health, Outcome, Phase, Report},
    plan::ContainerStatus,
};
use tokio::{runtime::Runtime as Tokio, sync::mpsc, time::sleep};
use uuid::Uuid;

use super::*;
use crate::{
    death::Death,
    ledger::{
        LedgerError,
        testing::{Fault as DiskFault, FaultyDisk},
    },
    runtime::{
        RuntimeErrorKind,
        fake::{Call, FakeRuntime, Fault},
    },
    secrets::{
        self,
        testing::{Bench, Vault},
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
        registry_credential: None,
    }
}

/// Short enough for a test to see them pass, long enough for a busy machine.
fn settings() -> Settings {
    Settings {
        call_deadline: Duration::from_millis(400),
        pull: pull::Settings {
            idle: Duration::from_millis(400),
            retry: (Duration::from_millis(1), Duration::from_millis(5)),
            ..pull::Settings::default()
        },
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
    deaths: Told,
    lease: Lease,
    storage: watch::Sender<Sizes>,
    bench: Bench,
}

/// Deaths that were told.
type Told = Arc<Mutex<mpsc::Receiver<Death>>>;

impl Agent {
    async fn start(dir: &Path, engine: &FakeRuntime) -> Self {
        Self::start_with(dir, engine, settings(), &FaultyDisk::default()).await
    }

    async fn start_with(dir: &Path, engine: &FakeRuntime, settings: Settings, disk: &FaultyDisk) -> Self {
        Self::start_on(dir, engine, settings, disk, &Vault::default()).await
    }

    async fn start_on(
        dir: &Path,
        engine: &FakeRuntime,
        settings: Settings,
        disk: &FaultyDisk,
        vault: &Vault,
    ) -> Self {
        let ledger = open(dir, disk).await;
        let threads =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let supervisor = Supervisor::new(threads.handle().clone());
        let (deaths, told) = Deaths::new();
        let (sizes, storage) = watch::channel(Sizes::default());
        let lease = Lease::renewed_ago(Duration::ZERO);
        let (runtime, ledger2) = (Arc::new(engine.clone()), ledger.clone());
        let lease2 = lease.clone();
        let files = Arc::new(secrets::testing::in_memory());
        let bench = Bench::on(threads.handle(), &dir.join("secrets"), vault, files);
        let secrets = bench.secrets.clone();
        secrets::forget_in_time(&supervisor, secrets.clone(), ledger.clone());
        let parts = Parts { ledger: ledger2, runtime, settings, deaths, lease: lease2, storage, secrets };
        let published = start(&supervisor, parts);
        let deaths = Arc::new(Mutex::new(told));
        Self { threads, supervisor, ledger, published, deaths, lease, storage: sizes, bench }
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

    /// The next death that is told, if one was.
    fn death(&self) -> Option<Death> {
        self.deaths.lock().unwrap().try_recv().ok()
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
