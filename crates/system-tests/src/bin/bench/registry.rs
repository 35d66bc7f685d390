//! Registering an application, looking one up, and taking a container's metrics:
//! in memory and durable, beside each other.
//!
//! *In memory* is what the field's in-memory managers do: check the declaration,
//! put it into a map behind a lock, take it out again; readings go into the agent's
//! own buffer. *Durable* is what this product really does: one transaction with
//! revision, operation, audit line and event on a PostgreSQL with fsync on, a
//! query, and readings in batches into their partition.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use anyhow::Result;
use controller::postgres::{Embedded, EmbeddedSettings};
use domain::{
    deployment::{DeploymentSpec, InstanceSpec},
    id::{InstanceId, NodeId},
    name::{Labels, Name},
    node::{NodeFacts, NodeState},
    sample::InstanceSample,
};
use node_agent::sample::SampleBuffer;
use store::{
    Store, StoreSettings,
    audit::Actor,
    deployment::{DeploymentKey, DeploymentNew},
    node::NodeEnrol,
};
use uuid::Uuid;

use crate::table::{Row, rate};

const IN_MEMORY: usize = 200_000;
const DURABLE: usize = 4_000;
const READINGS: usize = 200_000;
/// Callers at once, each waiting for its answer.
const CALLERS: usize = 16;
/// Readings in one call, as agents send them.
const BATCH: usize = 1_000;

/// Published for an in-memory predecessor in Go, per second.
const PUBLISHED: [f64; 3] = [50_000.0, 100_000.0, 10_000.0];
const WHAT: [&str; 3] = ["registering an application", "looking one up", "taking one container's metrics"];

fn spec() -> DeploymentSpec {
    let instance = InstanceSpec::of_image("registry.example.org/team/app:1.2");
    DeploymentSpec { replicas: 0, ..DeploymentSpec::of_instance(instance) }
}

fn reading(instance_id: InstanceId, n: usize, now: domain::Timestamp) -> InstanceSample {
    InstanceSample {
        instance_id,
        at: now - chrono::TimeDelta::milliseconds(i64::try_from(n).unwrap_or_default()),
        cpu_percent: Some(12.5),
        memory_bytes: Some(64 << 20),
        memory_limit_bytes: Some(512 << 20),
        network_rx_bytes: Some(1_000_000),
        network_tx_bytes: Some(2_000_000),
        ..InstanceSample::empty(instance_id, now)
    }
}

/// Three lines in memory, three durable.
pub async fn run() -> Result<Vec<Row>> {
    let memory = in_memory();
    let durable = durable().await?;
    let mut rows = Vec::new();
    for (kind, counts, aim) in [("in memory", memory, "more than theirs"), ("durable", durable, "beside it")]
    {
        for ((what, (count, time)), published) in WHAT.into_iter().zip(counts).zip(PUBLISHED) {
            let (number, text) = rate(count, time);
            rows.push(Row {
                what: format!("{what}, {kind}"),
                ours: text,
                against: "published, in memory, Go".into(),
                theirs: format!("{:.0} k/s", published / 1000.0),
                ratio: format!("{:.2}x", number / published),
                aim,
            });
        }
    }
    Ok(rows)
}

fn in_memory() -> [(usize, Duration); 3] {
    let registry: Mutex<BTreeMap<Name, DeploymentSpec>> = Mutex::default();
    let names: Vec<String> = (0..IN_MEMORY).map(|n| format!("app-{n}")).collect();
    let began = Instant::now();
    for name in &names {
        let (name, spec) = (Name::parse(name.as_str()).unwrap(), spec());
        spec.validate().unwrap();
        registry.lock().unwrap().insert(name, spec);
    }
    let registering = began.elapsed();
    let began = Instant::now();
    let mut replicas = 0;
    for name in &names {
        let found = registry.lock().unwrap().get(&Name::parse(name.as_str()).unwrap()).cloned();
        replicas += found.map_or(1, |spec| spec.replicas);
    }
    let looking_up = began.elapsed();
    assert_eq!(replicas, 0, "every one was found");
    let (buffer, now) = (SampleBuffer::new(), chrono::Utc::now());
    let instance = Uuid::now_v7().into();
    let began = Instant::now();
    for n in 0..READINGS {
        buffer.push(vec![reading(instance, n, now)]);
    }
    [(IN_MEMORY, registering), (IN_MEMORY, looking_up), (READINGS, began.elapsed())]
}

async fn durable() -> Result<[(usize, Duration); 3]> {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir()?;
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o711))?;
    let settings = EmbeddedSettings { data_dir: dir.path().join("postgres"), bin_dir: None, user: None };
    let postgres = Embedded::start(settings).await?;
    let settings = StoreSettings { url: postgres.url().into(), connections_max: CALLERS };
    let store = Store::new(settings, tokio::runtime::Handle::current())?;
    store.migrate().await?;
    store.sample_partitions_maintain(chrono::Utc::now()).await?;
    let store = Arc::new(store);
    let registering = timed(&store, DURABLE, async |store, n| {
        let new = DeploymentNew {
            project_id: domain::id::ProjectId::DEFAULT,
            id: Uuid::now_v7().into(),
            name: format!("app-{n}"),
            spec: spec(),
            operation_id: Uuid::now_v7().into(),
            idempotency: None,
        };
        store.deployment_create(&new, &Actor::system()).await.map(drop)
    })
    .await?;
    let looking_up = timed(&store, DURABLE * 4, async |store, n| {
        store
            .deployment_fetch(&DeploymentKey::Name(format!("app-{}", n % DURABLE)))
            .await
            .map(|found| assert!(found.is_some()))
    })
    .await?;
    let (node, instance) = node_with_an_instance(&store).await?;
    let now = chrono::Utc::now();
    let began = Instant::now();
    for batch in 0..READINGS / BATCH {
        let readings: Vec<_> = (0..BATCH).map(|n| reading(instance, batch * BATCH + n, now)).collect();
        assert_eq!(store.sample_insert(node, &readings).await?, 0, "every reading was taken");
    }
    let metrics = began.elapsed();
    store.close();
    postgres.stop().await?;
    Ok([(DURABLE, registering), (DURABLE * 4, looking_up), (READINGS, metrics)])
}

/// Does something `count` times, `CALLERS` at once.
async fn timed<E: std::error::Error + Send + Sync + 'static>(
    store: &Arc<Store>,
    count: usize,
    act: impl AsyncFn(&Store, usize) -> Result<(), E>,
) -> Result<Duration> {
    let began = Instant::now();
    let act = &act;
    let callers = (0..CALLERS).map(|caller| async move {
        for n in (caller..count).step_by(CALLERS) {
            act(store, n).await?;
        }
        Ok::<_, E>(())
    });
    futures_util::future::try_join_all(callers).await?;
    Ok(began.elapsed())
}

async fn node_with_an_instance(store: &Store) -> Result<(NodeId, InstanceId)> {
    let hash = Uuid::now_v7();
    let hash = hash.as_bytes();
    store
        .enrolment_token_insert(
            Uuid::now_v7(),
            hash,
            &Labels::new(),
            (1, Duration::from_secs(60)),
            &Actor::system(),
        )
        .await?;
    let name = Name::parse("n1")?;
    let facts = NodeFacts { cpu_millis: 4000, memory_bytes: 8 << 30, ..NodeFacts::default() };
    let enrol = NodeEnrol {
        id: Uuid::now_v7().into(),
        token_sha256: hash,
        key_sha256: b"k",
        name: &name,
        facts: &facts,
        address: None,
    };
    let node = store.node_enrol(&enrol).await?.id;
    store.node_state_set(node, NodeState::Ready, chrono::Utc::now()).await?;
    let id = Uuid::now_v7().into();
    let new = DeploymentNew {
        project_id: domain::id::ProjectId::DEFAULT,
        id,
        name: "measured".into(),
        spec: DeploymentSpec { replicas: 1, ..spec() },
        operation_id: Uuid::now_v7().into(),
        idempotency: None,
    };
    store.deployment_create(&new, &Actor::system()).await?;
    store.orchestrate(&()).await?;
    let instance = store.instance_list_of(&[id]).await?.pop().map(|instance| instance.id);
    Ok((node, instance.ok_or_else(|| anyhow::anyhow!("the instance was not placed"))?))
}
