//! With the engine in memory, and a clock that runs ahead.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::Instant,
};

use chrono::{TimeDelta, Utc};
use domain::{
    assignment::{Assignment, AssignmentSet},
    deployment::InstanceSpec,
    housekeeping::{Belongings, Image, Volume as HeldVolume},
    id::{DeploymentId, InstanceId},
    instance::Desired,
};
use uuid::Uuid;

use super::*;
use crate::{
    ledger::testing::FaultyDisk,
    runtime::fake::{Call, FakeRuntime},
};

const DEADLINE: Duration = Duration::from_secs(20);

static AHEAD_HOURS: AtomicI64 = AtomicI64::new(0);

fn clock() -> Timestamp {
    Utc::now() + TimeDelta::hours(AHEAD_HOURS.load(Ordering::Relaxed))
}

fn image(name: &str) -> Image {
    Image { id: format!("sha256:{name}"), names: vec![name.into()], size_bytes: 1 }
}

fn assigned(deployment: u128, revision: u32, image: &str) -> Assignment {
    Assignment {
        instance_id: InstanceId::from_uuid(Uuid::from_u128(deployment)),
        deployment_id: DeploymentId::from_uuid(Uuid::from_u128(deployment)),
        deployment_name: "web".into(),
        revision,
        spec: InstanceSpec::of_image(image),
        desired: Desired::Running,
        restart_generation: 0,
        registry_credential: None,
    }
}

struct World {
    fake: FakeRuntime,
    ledger: Ledger,
    engine: watch::Sender<EngineState>,
    facts: watch::Sender<NodeFacts>,
    dir: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ledger = FaultyDisk::default().open(&dir.path().join("ledger")).unwrap();
        let (engine, facts) =
            (watch::Sender::new(EngineState::Reachable), watch::Sender::new(NodeFacts::default()));
        Self { fake: FakeRuntime::default(), ledger, engine, facts, dir }
    }

    fn start(&self, on: bool, volumes: bool) -> Supervisor {
        let supervisor = Supervisor::new(tokio::runtime::Handle::current());
        let policy = Policy { volumes, ..Settings::default().policy };
        let settings =
            Settings { on, policy, period: Duration::from_millis(10), clock, ..Settings::default() };
        let parts = Parts {
            upkeep: Arc::new(self.fake.clone()),
            runtime: Arc::new(self.fake.clone()),
            ledger: self.ledger.clone(),
            engine: self.engine.subscribe(),
            facts: self.facts.subscribe(),
            data_dir: self.dir.path().into(),
            settings,
        };
        start(&supervisor, parts);
        supervisor
    }

    async fn assign(&self, revision: u64, assignments: Vec<Assignment>) {
        let assignments = assignments.into_iter().map(|a| (a.instance_id, a)).collect();
        let _ = self.ledger.assignments_replace(AssignmentSet { revision, assignments }).await.unwrap();
    }

    /// Waits for some rounds that begin only now.
    async fn rounds(&self) {
        let before = self.fake.count(Call::Belongings, None);
        until(|| self.fake.count(Call::Belongings, None) >= before + 3).await;
    }
}

async fn until(mut check: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !check() {
        assert!(begun.elapsed() < DEADLINE, "waited in vain");
        sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn what_was_fetched_goes_when_no_revision_needs_it_any_more_and_what_was_not_stays() {
    AHEAD_HOURS.store(0, Ordering::Relaxed);
    let world = World::new();
    let names = ["app:1", "app:2", "app:3", "users:1"];
    for name in names {
        world.fake.add_image(name);
    }
    world.fake.put(Belongings { images: names.map(image).to_vec(), ..Belongings::default() });
    let supervisor = world.start(true, false);
    for name in ["app:1", "app:2", "app:3"] {
        world.fake.say_fetched(&image(name).id);
    }
    // Each revision is seen once.
    for revision in 1..=3 {
        world
            .assign(revision, vec![assigned(1, u32::try_from(revision).unwrap(), &format!("app:{revision}"))])
            .await;
        world.rounds().await;
    }
    assert_eq!(world.fake.cleared(), []);
    // It is not forgotten by an agent that is started anew.
    assert!(supervisor.shut_down(DEADLINE).await);
    AHEAD_HOURS.store(400, Ordering::Relaxed);
    let supervisor = world.start(true, false);
    until(|| !world.fake.cleared().is_empty()).await;
    world.rounds().await;
    assert_eq!(world.fake.cleared(), [Removal::Image("sha256:app:1".into())], "the one before the last two");

    // The deployment goes: what it needed is nobody's now.
    world.assign(9, Vec::new()).await;
    world.rounds().await;
    AHEAD_HOURS.store(800, Ordering::Relaxed);
    until(|| world.fake.cleared().len() == 3).await;
    world.rounds().await;
    assert_eq!(world.fake.cleared().len(), 3, "the user's own image stays");
    assert!(supervisor.shut_down(DEADLINE).await);
}

#[tokio::test]
async fn nothing_goes_before_a_complete_set_came_while_the_engine_is_away_or_where_it_is_off() {
    let world = World::new();
    let network = domain::housekeeping::Network {
        id: "n1".into(),
        name: "back".into(),
        created_at: Some(Utc::now() - TimeDelta::days(1)),
    };
    world.fake.put(Belongings { networks: vec![network], ..Belongings::default() });
    let supervisor = world.start(true, false);
    world.rounds().await;
    assert_eq!(world.fake.cleared(), []);
    assert!(supervisor.shut_down(DEADLINE).await);

    world.assign(1, Vec::new()).await;
    let supervisor = world.start(false, false);
    world.rounds().await;
    assert_eq!(world.fake.cleared(), []);
    assert!(supervisor.shut_down(DEADLINE).await);

    world.fake.use_outside(Removal::Network("n1".into()));
    let supervisor = world.start(true, false);
    world.rounds().await;
    assert_eq!(world.fake.cleared(), [], "somebody uses it after all");
    assert!(supervisor.shut_down(DEADLINE).await);
}

#[tokio::test]
async fn volumes_are_not_even_looked_at_unless_asked_for() {
    let world = World::new();
    world.fake.put(Belongings { volumes: vec![HeldVolume { name: "data".into() }], ..Belongings::default() });
    world.assign(1, Vec::new()).await;
    for volumes in [false, true] {
        let supervisor = world.start(true, volumes);
        world.rounds().await;
        assert!(supervisor.shut_down(DEADLINE).await);
        let notes = std::fs::read_to_string(world.dir.path().join("housekeeping.json")).unwrap_or_default();
        assert_eq!(notes.contains("data"), volumes);
        assert_eq!(world.fake.cleared(), []);
    }
}

#[test]
fn a_file_that_cannot_be_read_is_as_good_as_none() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("housekeeping.json"), "{ torn").unwrap();
    let mut memory = Memory::load(dir.path());
    memory.fetched(&["sha256:a".to_owned()].into());
    memory.save().unwrap();
    let back = Memory::load(dir.path());
    assert!(std::fs::read_to_string(dir.path().join("housekeeping.json")).unwrap().contains("sha256:a"));
    assert_eq!(domain::housekeeping::Memory::image_unused_since(&back, "sha256:a"), None);
}
