//! Storage limits and housekeeping on a real engine.

use std::{sync::Arc, time::Duration};

use chrono::{TimeDelta, Utc};
use daemon::{Supervisor, seal::MasterKey};
use domain::{
    Timestamp,
    assignment::AssignmentSet,
    housekeeping::Removal,
    node::{EngineState, NodeFacts, StorageLimit},
    plan::ContainerStatus,
    spec::{Network, NetworkSpec, Volume},
};
use futures_util::TryStreamExt as _;
use node_agent::{
    housekeeping,
    ledger::Ledger,
    runtime::{
        LogsQuery, Runtime as _,
        docker::HouseRules,
        upkeep::{Discarded, Upkeep as _},
    },
};
use tokio::sync::watch;

use crate::{
    engine::{IMAGE, REGISTRY, World, shell, until},
    scenarios::{read_log, texts},
};

pub async fn what_becomes_of_a_storage_limit_is_found_out_by_trying_and_a_layer_is_measured(
    world: Arc<World>,
) {
    let limit = world.runtime.storage_limit().await.unwrap();
    assert_eq!(limit, StorageLimit::Measured, "this engine is on overlay2 without quotas");
    let label = format!("label=automator67.trial={}", world.node);
    let left = world.docker(&["images", "--quiet", "--filter", &label]).await;
    assert_eq!(left, "", "images of the trial were left behind");
    let left = world.docker(&["ps", "--all", "--quiet", "--filter", &label]).await;
    assert_eq!(left, "", "containers of the trial were left behind");

    // What was found out is so: a program writes twice what it may.
    let mut assignment = shell("head -c 20000000 /dev/urandom > /big; echo wrote $?; sleep 60");
    assignment.spec.limits.storage_bytes = Some(10 << 20);
    let container = world.run(&assignment).await;
    let written = async || {
        let lines = read_log(&world, &container, LogsQuery::default()).await;
        texts(&lines).into_iter().find(|line| line.starts_with("wrote")).map(str::to_owned)
    };
    let wrote = until("the end of writing", written).await;
    let measured = world.runtime.writable_bytes(&container.container_id).await.unwrap();
    assert_eq!(wrote, "wrote 0");
    assert!((20_000_000..22_000_000).contains(&measured.unwrap()), "{measured:?}");
    world.runtime.remove(&container.container_id).await.unwrap();
    world.runtime.writable_bytes(&container.container_id).await.unwrap_err();
}

/// On an engine of its own.
pub async fn a_limit_that_the_engine_keeps_is_found_out_and_holds(world: Arc<World>) {
    assert_eq!(world.runtime.storage_limit().await.unwrap(), StorageLimit::Enforced);
    let all = world.docker(&["ps", "--all", "--quiet"]).await;
    assert_eq!(all, "", "containers of the trial were left behind");

    // Noise, which no file system makes smaller; it counts once it is on the disk.
    let script = "i=0
        while [ $i -lt 60 ] && /bin/busybox dd if=/dev/urandom of=/tmp/part$i bs=1000000 count=1 conv=fsync; do
            i=$((i+1))
        done
        echo wrote $i of 60; sleep 60";
    let mut limited = shell(script);
    limited.spec.limits.storage_bytes = Some(20 << 20);
    let mut free = shell(script);
    free.spec.limits.storage_bytes = Some(200 << 20);
    let (limited, free) = tokio::join!(world.run(&limited), world.run(&free));
    let written = async |container| {
        until("the end of writing", async || {
            let lines = read_log(&world, container, LogsQuery::default()).await;
            let texts: Vec<String> = texts(&lines).into_iter().map(str::to_owned).collect();
            let end = texts.iter().find(|line| line.starts_with("wrote"))?.clone();
            Some((end, texts))
        })
        .await
    };
    let (end, said) = written(&limited).await;
    let parts: u64 = end.split(' ').nth(1).unwrap().parse().unwrap();
    assert!((15..=21).contains(&parts), "{said:?}");
    assert!(said.iter().any(|line| line.contains("quota exceeded")), "{said:?}");
    assert_eq!(written(&free).await.0, "wrote 60 of 60");
    for container in [limited, free] {
        let measured = world.runtime.writable_bytes(&container.container_id).await.unwrap();
        assert_eq!(measured, None, "what is kept is not measured");
        world.runtime.remove(&container.container_id).await.unwrap();
    }
}

pub async fn what_lies_about_is_seen_with_who_uses_it_and_what_is_used_stays(world: Arc<World>) {
    let runtime = &world.runtime;
    let image = format!("{REGISTRY}/kept:1");
    let pulled: Vec<_> = runtime.pull(&image, None).try_collect().await.unwrap();
    assert!(!pulled.is_empty());
    let id = runtime.image(&image).await.unwrap().unwrap().id;
    assert!(runtime.fetched().borrow().contains(&id), "what was pulled is ours");

    let mut assignment = shell("exit 0");
    assignment.spec.image = image.clone();
    assignment.spec.volumes =
        vec![Volume::Named { target: "/data".into(), read_only: false, name: "a67-kept".into() }];
    let network = NetworkSpec { name: "a67-kept".into(), aliases: Vec::new() };
    assignment.spec.network = Network::Named { networks: vec![network] };
    let container = world.run(&assignment).await;
    world.container(assignment.instance_id, |c| c.status == ContainerStatus::Exited).await;

    let held = runtime.belongings(true).await.unwrap();
    let listed = held.containers.iter().find(|c| c.id == container.container_id).unwrap();
    assert_eq!((listed.instance_id, listed.is_dead), (Some(assignment.instance_id), true));
    assert!(listed.created_at.is_some() && listed.images.contains(&id), "{listed:?}");
    assert!(listed.networks.contains(&"a67-kept".into()) && listed.volumes.contains(&"a67-kept".into()));
    let network = held.networks.iter().find(|network| network.name == "a67-kept").unwrap();
    assert!(network.created_at.is_some());
    assert!(held.volumes.iter().any(|volume| volume.name == "a67-kept"));
    let found = held.images.iter().find(|found| found.id == id).unwrap();
    assert!(found.size_bytes > 100_000 && found.names.contains(&image), "{found:?}");

    // A dead container holds its image and its volume, whoever asks.
    for removal in [Removal::Image(id.clone()), Removal::Volume("a67-kept".into())] {
        assert_eq!(runtime.discard(&removal).await.unwrap(), Discarded::InUse, "{removal:?}");
    }
    let all = [
        Removal::Container(container.container_id.clone()),
        Removal::Network(network.id.clone()),
        Removal::Volume("a67-kept".into()),
        Removal::Image(id.clone()),
    ];
    for removal in all.iter().chain(&all) {
        assert_eq!(runtime.discard(removal).await.unwrap(), Discarded::Yes, "{removal:?}");
    }
    assert_eq!(runtime.image(&image).await.unwrap(), None);
    let held = runtime.belongings(true).await.unwrap();
    assert!(!held.volumes.iter().any(|volume| volume.name == "a67-kept"));
    assert!(!held.networks.iter().any(|network| network.name == "a67-kept"));
}

/// A fortnight from now, so that all is old.
fn later() -> Timestamp {
    Utc::now() + TimeDelta::days(14)
}

pub async fn what_was_pulled_goes_when_nobody_needs_it_and_what_was_there_stays(world: Arc<World>) {
    let runtime = world.with_rules(HouseRules::default());
    let dir = tempfile::tempdir().unwrap();
    let key = MasterKey::from_base64("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").unwrap();
    let ledger = Ledger::open(&dir.path().join("ledger"), key.derive("housekeeping")).unwrap();
    let set = AssignmentSet { revision: 1, ..AssignmentSet::default() };
    let _ = ledger.assignments_replace(set).await.unwrap();
    let (_engine, engine) = watch::channel(EngineState::Reachable);
    let (_facts, facts) = watch::channel(NodeFacts::default());
    let begin = |clock| {
        let settings = housekeeping::Settings {
            period: Duration::from_millis(100),
            clock,
            ..housekeeping::Settings::default()
        };
        let parts = housekeeping::Parts {
            upkeep: Arc::new(runtime.clone()),
            runtime: Arc::new(runtime.clone()),
            ledger: ledger.clone(),
            engine: engine.clone(),
            facts: facts.clone(),
            data_dir: dir.path().into(),
            settings,
        };
        let supervisor = Supervisor::new(tokio::runtime::Handle::current());
        housekeeping::start(&supervisor, parts);
        supervisor
    };
    let today = begin(Utc::now);
    let image = format!("{REGISTRY}/old:1");
    let _: Vec<_> = runtime.pull(&image, None).try_collect().await.unwrap();
    let id = runtime.image(&image).await.unwrap().unwrap().id;
    let path = dir.path().join("housekeeping.json");
    // Seen unused, with the time since when.
    let noted = format!("\"{id}\":\"20");
    until("a note of the image", async || {
        std::fs::read_to_string(&path).unwrap_or_default().contains(&noted).then_some(())
    })
    .await;
    assert!(today.shut_down(Duration::from_secs(10)).await);
    assert!(runtime.image(&image).await.unwrap().is_some(), "it is young");

    let ahead = begin(later);
    until("the image to go", async || runtime.image(&image).await.unwrap().is_none().then_some(())).await;
    assert!(ahead.shut_down(Duration::from_secs(10)).await);
    assert!(runtime.image(IMAGE).await.unwrap().is_some(), "nobody fetched that one through here");
}
