//! With the engine in memory.

use domain::{
    assignment::{Assignment, AssignmentSet},
    deployment::InstanceSpec,
    id::DeploymentId,
    instance::Desired,
};
use uuid::Uuid;

use super::*;
use crate::{
    ledger::testing::FaultyDisk,
    runtime::{
        Runtime as _,
        fake::{Call, FakeRuntime, Fault},
    },
};

const DEADLINE: Duration = Duration::from_secs(20);

struct World {
    fake: FakeRuntime,
    supervisor: Supervisor,
    running: watch::Sender<Running>,
    engine: watch::Sender<EngineState>,
    sizes: watch::Receiver<Sizes>,
    limit: watch::Receiver<Option<StorageLimit>>,
    instances: Vec<(InstanceId, String)>,
    _dir: tempfile::TempDir,
}

/// Two instances that run, the second one without a limit.
async fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    let ledger = FaultyDisk::default().open(dir.path()).unwrap();
    let fake = FakeRuntime::default();
    let (mut set, mut containers, mut instances) = (AssignmentSet::default(), BTreeMap::new(), Vec::new());
    set.revision = 1;
    fake.add_image("app:1");
    for limited in [true, false] {
        let mut spec = InstanceSpec::of_image("app:1");
        spec.limits.storage_bytes = limited.then_some(1 << 20);
        let assignment = Assignment {
            instance_id: InstanceId::from_uuid(Uuid::now_v7()),
            deployment_id: DeploymentId::from_uuid(Uuid::nil()),
            deployment_name: "web".into(),
            revision: 1,
            spec,
            desired: Desired::Running,
            restart_generation: 0,
            registry_credential: None,
        };
        let id = assignment.instance_id;
        let container_id = fake.create(&assignment).await.unwrap().container_id;
        let started = fake.start(&container_id).await.unwrap();
        let container = RunningContainer {
            container_id: container_id.clone(),
            pid: 1,
            started_at: started.started_at.unwrap(),
            memory_limit_bytes: None,
        };
        containers.insert(id, container);
        instances.push((id, container_id));
        set.assignments.insert(id, assignment);
    }
    let _ = ledger.assignments_replace(set).await.unwrap();
    let supervisor = Supervisor::new(tokio::runtime::Handle::current());
    let (running, published) = watch::channel(Arc::new(containers));
    let (engine, state) = watch::channel(EngineState::Unreachable);
    let (sender, sizes) = watch::channel(Sizes::default());
    let settings = Settings {
        period: Duration::from_millis(20),
        retry: (Duration::from_millis(5), Duration::from_millis(5)),
        rest: 0,
        ..Settings::default()
    };
    let upkeep = Arc::new(fake.clone());
    let parts = Parts { upkeep, ledger, running: published, engine: state, sizes: sender, settings };
    let limit = start(&supervisor, parts);
    World { fake, supervisor, running, engine, sizes, limit, instances, _dir: dir }
}

impl World {
    async fn sizes(&mut self, wanted: &[(usize, u64)]) {
        let wanted: BTreeMap<_, _> =
            wanted.iter().map(|(at, bytes)| (self.instances[*at].0, *bytes)).collect();
        let come = self.sizes.wait_for(|sizes| **sizes == wanted);
        assert!(timeout(DEADLINE, come).await.is_ok_and(|come| come.is_ok()), "{wanted:?} did not come");
    }

    async fn limit(&mut self, wanted: StorageLimit) {
        let come = self.limit.wait_for(|limit| *limit == Some(wanted));
        assert!(timeout(DEADLINE, come).await.is_ok_and(|come| come.is_ok()), "{wanted:?} did not come");
    }

    async fn end(self) {
        assert!(self.supervisor.shut_down(DEADLINE).await);
    }
}

#[tokio::test]
async fn layers_with_a_limit_are_measured_and_forgotten_with_their_container() {
    let mut world = world().await;
    for (_, container) in &world.instances {
        world.fake.set_layer(container, 7);
    }
    assert_eq!(world.fake.count(Call::WritableBytes, None), 0, "not while the engine is away");
    world.engine.send_replace(EngineState::Reachable);
    world.sizes(&[(0, 7)]).await;
    world.fake.set_layer(&world.instances[0].1, 9);
    world.sizes(&[(0, 9)]).await;
    let unlimited = world.instances[1].0;
    assert_eq!(world.fake.count(Call::WritableBytes, Some(unlimited)), 0);
    world.running.send_replace(Arc::default());
    world.sizes(&[]).await;
    world.end().await;
}

#[tokio::test]
async fn a_layer_that_cannot_be_measured_keeps_its_last_size() {
    let mut world = world().await;
    world.engine.send_replace(EngineState::Reachable);
    world.sizes(&[(0, 0)]).await;
    world.fake.fail_always(Call::WritableBytes, Fault::Error(RuntimeErrorKind::Unreachable));
    let asked = world.fake.count(Call::WritableBytes, None);
    let more = async {
        while world.fake.count(Call::WritableBytes, None) < asked + 3 {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(DEADLINE, more).await.unwrap();
    world.sizes(&[(0, 0)]).await;
    world.end().await;
}

#[tokio::test]
async fn an_engine_that_keeps_sizes_is_asked_once_about_each_container() {
    let mut world = world().await;
    world.fake.enforce_sizes(true);
    world.engine.send_replace(EngineState::Reachable);
    world.limit(StorageLimit::Enforced).await;
    let asked = async {
        while world.fake.count(Call::WritableBytes, None) == 0 {
            sleep(Duration::from_millis(5)).await;
        }
        // Several rounds more.
        sleep(Duration::from_millis(200)).await;
    };
    timeout(DEADLINE, asked).await.unwrap();
    assert_eq!(world.fake.count(Call::WritableBytes, None), 1);
    world.sizes(&[]).await;
    world.end().await;
}

#[tokio::test]
async fn what_the_engine_does_is_found_out_again_when_it_comes_back_and_until_it_is_known() {
    let mut world = world().await;
    world.fake.fail_next(Call::StorageLimit, Fault::Error(RuntimeErrorKind::Timeout));
    world.engine.send_replace(EngineState::Reachable);
    world.limit(StorageLimit::Measured).await;
    assert_eq!(world.fake.count(Call::StorageLimit, None), 2);
    world.fake.enforce_sizes(true);
    world.engine.send_replace(EngineState::Unreachable);
    // The task has to see it go before it can see it come back.
    tokio::task::yield_now().await;
    sleep(Duration::from_millis(50)).await;
    world.engine.send_replace(EngineState::Reachable);
    world.limit(StorageLimit::Enforced).await;
    world.end().await;
}
