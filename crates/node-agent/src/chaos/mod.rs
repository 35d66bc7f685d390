//! What goes wrong around an agent, one thing at a time, and what comes of it: each
//! ends in a bounded and reported result. Disks that fail are in the ledger's tests
//! and in the link's, engines and hosts that really do in `system-tests`; the table
//! of all is in docs/TESTING.md.

mod away;
mod clock;
mod engine;
mod flood;
mod log;

use std::{path::Path, sync::Arc, time::Duration};

use daemon::Supervisor;
use domain::{
    assignment::{Assignment, AssignmentSet},
    deployment::InstanceSpec,
    id::{DeploymentId, InstanceId},
    instance::{Desired, Health, Phase, Report},
};
use tokio::{runtime::Handle, sync::watch, time::sleep};
use uuid::Uuid;

use crate::{
    death::Deaths,
    lease::Lease,
    ledger::{
        Ledger,
        testing::{FaultyDisk, key},
    },
    pull,
    reconcile::{self, Parts, Published, Settings},
    runtime::fake::FakeRuntime,
    secrets,
    storage::Sizes,
};

const DEADLINE: Duration = Duration::from_secs(30);

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

/// Short enough for a test to see them pass, long enough for a busy machine; full
/// looks do not come by themselves.
fn quick() -> Settings {
    let millis = Duration::from_millis;
    Settings {
        call_deadline: millis(400),
        pull: pull::Settings { idle: millis(400), ..pull::Settings::default() },
        stop_slack: millis(400),
        ping_deadline: millis(400),
        ping_period: millis(200),
        list_period: Duration::from_secs(3600),
        retry: (millis(10), millis(50)),
        ..Settings::default()
    }
}

/// An agent without a link, on an engine in memory.
struct Node {
    supervisor: Supervisor,
    ledger: Ledger,
    published: Published,
}

impl Node {
    fn start(dir: &Path, engine: &FakeRuntime, settings: Settings) -> Self {
        Self::start_leased(dir, engine, settings, Lease::renewed_ago(Duration::ZERO))
    }

    fn start_leased(dir: &Path, engine: &FakeRuntime, settings: Settings, lease: Lease) -> Self {
        let ledger = FaultyDisk::default().open(dir).unwrap();
        let supervisor = Supervisor::new(Handle::current());
        let (deaths, _) = Deaths::new();
        let (_, storage) = watch::channel(Sizes::default());
        let (ledger_too, runtime) = (ledger.clone(), Arc::new(engine.clone()));
        let (files, kept) = (dir.join("files"), dir.join("secrets"));
        let (secrets, _) = secrets::testing::over(&kept, &files, key(), secrets::testing::node());
        let parts = Parts { ledger: ledger_too, runtime, settings, deaths, lease, storage, secrets };
        let published = reconcile::start(&supervisor, parts);
        Self { supervisor, ledger, published }
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

    fn is_healthy(&self, n: u128) -> bool {
        self.reports(n).pop().is_some_and(|report| {
            (report.status.progress.phase, report.status.health) == (Phase::Running, Health::Healthy)
        })
    }

    async fn stop(self) {
        assert!(self.supervisor.shut_down(Duration::from_secs(10)).await);
        self.ledger.close().await;
    }
}

/// Waits, by real time, until it is so.
async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !so() {
        assert!(begun.elapsed() < DEADLINE, "waited in vain until {what}");
        sleep(Duration::from_millis(2)).await;
    }
}
