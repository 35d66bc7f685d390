//! Networks, ports, storage and what lies about, at engines that do not do as asked.

use std::sync::atomic::{AtomicUsize, Ordering};

use domain::{
    housekeeping::Removal,
    node::StorageLimit,
    spec::{Network, NetworkSpec},
};

use super::*;
use crate::runtime::upkeep::{Discarded, Upkeep as _};

struct Fake {
    engine: FakeEngine,
    runtime: DockerRuntime,
    _dir: tempfile::TempDir,
}

fn fake(version: &str, answers: impl Fn(&str, &str) -> (u16, Value) + Send + Sync + 'static) -> Fake {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("engine.sock");
    let engine = FakeEngine::start(&socket, version, "1.12", Arc::new(answers));
    Fake { engine, runtime: runtime(&socket), _dir: dir }
}

fn says(status: u16, message: &str) -> (u16, Value) {
    (status, json!({ "message": message }))
}

fn networked() -> Assignment {
    let network = |name: &str| NetworkSpec { name: name.into(), aliases: vec!["db".into()] };
    let mut assignment = assignment();
    assignment.spec.network = Network::Named { networks: vec![network("front"), network("back")] };
    assignment
}

#[tokio::test]
async fn each_version_is_told_of_networks_in_its_own_way_and_missing_ones_are_made_with_our_labels() {
    for (version, at_create) in [("1.41", 1), ("1.43", 1), ("1.44", 2), ("1.52", 2)] {
        let fake = fake(version, |method, path| match (method, path) {
            // One is there, and somebody else's.
            ("GET", "/networks/front") => (200, json!({ "Name": "front", "Id": "n1", "Labels": {} })),
            ("GET", "/networks/back") => says(404, "network back not found"),
            ("POST", "/networks/create") => (201, json!({ "Id": "n2", "Warning": "" })),
            ("GET", "/networks") => (200, json!([{ "Name": "back", "Id": "n2" }])),
            _ => plain()(method, path),
        });
        fake.runtime.create(&networked()).await.unwrap();
        let made = fake.engine.sent("/networks/create");
        assert_eq!(made.len(), 1);
        assert_eq!((&made[0]["Name"], &made[0]["Driver"]), (&json!("back"), &json!("bridge")));
        assert_eq!(made[0]["Labels"][LABEL_NODE], ids().1.to_string());
        let body = fake.engine.sent("/containers/create").remove(0);
        let endpoints = body["NetworkingConfig"]["EndpointsConfig"].as_object().unwrap();
        assert_eq!(
            (endpoints.len(), &endpoints["front"]["Aliases"]),
            (at_create, &json!(["db"])),
            "{version}"
        );
        assert_eq!(body["Labels"].get(create::LABEL_NETWORKS).is_some(), at_create == 1);
        fake.engine.task.abort();
    }
}

#[tokio::test]
async fn of_two_networks_that_were_made_at_once_the_younger_goes() {
    let twins = json!([
        { "Name": "back", "Id": "n2", "Created": "2026-01-02T03:04:06Z" },
        { "Name": "back", "Id": "n1", "Created": "2026-01-02T03:04:05Z" },
        { "Name": "backup", "Id": "n0", "Created": "2026-01-01T03:04:05Z" },
    ]);
    let fake = fake("1.41", move |method, path| match (method, path) {
        ("GET", "/networks/front") => (200, json!({ "Name": "front" })),
        // What this finds by the beginning of its id is another one.
        ("GET", "/networks/back") => (200, json!({ "Name": "other", "Id": "back00" })),
        ("POST", "/networks/create") => (201, json!({ "Id": "n2", "Warning": "" })),
        ("GET", "/networks") => (200, twins.clone()),
        _ => plain()(method, path),
    });
    fake.runtime.create(&networked()).await.unwrap();
    let removed: Vec<_> = fake.engine.requests().into_iter().filter(|r| r.starts_with("DELETE")).collect();
    assert_eq!(removed, ["DELETE /v1.41/networks/n2"]);
    fake.engine.task.abort();
}

#[tokio::test]
async fn an_engine_that_makes_no_network_is_a_start_that_failed() {
    for (status, message) in
        [(404, "plugin not found"), (500, "could not find an available pool"), (403, "no")]
    {
        let fake = fake("1.41", move |method, path| match (method, path) {
            ("GET", "/networks/front") => says(404, "network front not found"),
            ("POST", "/networks/create") => says(status, message),
            _ => plain()(method, path),
        });
        let error = fake.runtime.create(&networked()).await.unwrap_err();
        assert_eq!(error, RuntimeError::refused(FailureReason::StartFailed, message));
        fake.engine.task.abort();
    }
}

/// Starts a container with this host port, at an engine on which so many ports are
/// in use; answers how often it was asked.
async fn start_with_port(host_port: &str, in_use: usize) -> (Result<Container, RuntimeError>, usize) {
    let mut holder = inspected(Some(ids().1));
    holder["HostConfig"] = json!({ "PortBindings": { "80/tcp": [{ "HostPort": host_port }] } });
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&tries);
    let fake = fake("1.41", move |method, path| match (method, path) {
        ("POST", "/containers/0a1b/start") if counted.fetch_add(1, Ordering::Relaxed) < in_use => says(
            500,
            "Error starting userland proxy: listen tcp4 0.0.0.0:30000: bind: address already in use",
        ),
        ("GET", "/containers/0a1b/json") => (200, holder.clone()),
        _ => plain()(method, path),
    });
    let started = fake.runtime.start("0a1b").await;
    fake.engine.task.abort();
    (started, tries.load(Ordering::Relaxed))
}

#[tokio::test]
async fn a_port_in_use_gives_way_to_the_next_of_the_range_and_a_fixed_one_says_so_at_once() {
    let (started, tries) = start_with_port("30000-30010", 3).await;
    assert!(started.is_ok());
    assert_eq!(tries, 4);
    let (started, tries) = start_with_port("30000", 1).await;
    let error = started.unwrap_err();
    assert_eq!((error.kind, tries), (RuntimeErrorKind::Refused(FailureReason::StartFailed), 1));
    assert!(error.message.contains("30000") && error.message.contains("in use"), "{error}");
    let (started, tries) = start_with_port("30000-32767", usize::MAX).await;
    assert!(started.is_err() && tries == 16, "{tries}");
    let (started, tries) = start_with_port("30000-30003", usize::MAX).await;
    assert!(started.is_err() && tries == 12, "{tries}");
}

#[tokio::test]
async fn a_network_that_somebody_removed_is_made_again_at_the_start() {
    let mut holder = inspected(Some(ids().1));
    holder["NetworkSettings"] =
        json!({ "Networks": { "front": { "NetworkID": "n1", "Aliases": ["web"] }, "bridge": {} } });
    let made = AtomicUsize::new(0);
    let joined = AtomicUsize::new(0);
    let fake = fake("1.41", move |method, path| match (method, path) {
        ("GET", "/networks/front") if made.load(Ordering::Relaxed) == 0 => says(404, "no"),
        ("GET", "/networks/front") => (200, json!({ "Name": "front", "Id": "n2" })),
        ("POST", "/networks/front/connect") => {
            joined.store(1, Ordering::Relaxed);
            (200, Value::Null)
        }
        ("POST", "/networks/create") => {
            made.store(1, Ordering::Relaxed);
            (201, json!({ "Id": "n2", "Warning": "" }))
        }
        ("GET", "/networks") => (200, json!([])),
        ("POST", "/containers/0a1b/start") if joined.load(Ordering::Relaxed) == 0 => {
            says(404, "network n1 not found")
        }
        ("GET", "/containers/0a1b/json") => (200, holder.clone()),
        _ => plain()(method, path),
    });
    fake.runtime.start("0a1b").await.unwrap();
    assert_eq!(fake.engine.sent("/networks/create").len(), 1);
    let joined = fake.engine.sent("/networks/front/connect");
    assert_eq!(joined, [json!({ "Container": "0a1b", "EndpointConfig": { "Aliases": ["web"] } })]);
    fake.engine.task.abort();
}

/// An engine that takes files of a trial like that: one answer for each.
fn with_uploads(uploads: &'static [(u16, &'static str)], create: (u16, &'static str)) -> Fake {
    let count = AtomicUsize::new(0);
    fake("1.41", move |method, path| match (method, path) {
        ("PUT", "/containers/0a1b/archive") => {
            let (status, message) = uploads[count.fetch_add(1, Ordering::Relaxed)];
            says(status, message)
        }
        ("POST", "/containers/create") if create.0 != 201 => says(create.0, create.1),
        (_, "/images/json") => (200, json!([image_json()])),
        ("DELETE", "/images/sha256:1") => (200, json!([{ "Deleted": "sha256:1" }])),
        _ => plain()(method, path),
    })
}

fn image_json() -> Value {
    json!({
        "Id": "sha256:1", "ParentId": "", "RepoTags": ["a67-trial:1"], "RepoDigests": null, "Created": 0,
        "Size": 0, "SharedSize": -1, "Labels": {}, "Containers": -1,
    })
}

#[tokio::test]
async fn a_size_is_kept_where_too_much_is_refused_and_trials_leave_nothing() {
    let made = (201, "");
    type Uploads = &'static [(u16, &'static str)];
    type Case = (Uploads, (u16, &'static str), Result<StorageLimit, ()>);
    let cases: [Case; 7] = [
        (&[(200, ""), (500, "write /much: no space left on device")], made, Ok(StorageLimit::Enforced)),
        (&[(200, ""), (500, "disk quota exceeded")], made, Ok(StorageLimit::Enforced)),
        (&[(200, ""), (200, ""), (500, "disk quota exceeded")], made, Ok(StorageLimit::Enforced)),
        (&[(200, ""), (200, ""), (200, "")], made, Ok(StorageLimit::Measured)),
        (&[], (500, "--storage-opt is supported only for overlay over xfs"), Ok(StorageLimit::Measured)),
        (&[(500, "no space left on device")], made, Err(())),
        (&[(200, ""), (500, "unexpected EOF")], made, Err(())),
    ];
    for (uploads, create, found) in cases {
        let fake = with_uploads(uploads, create);
        let answer = fake.runtime.storage_limit().await;
        assert_eq!(answer.map_err(drop), found, "{uploads:?}");
        let removed: Vec<_> =
            fake.engine.requests().into_iter().filter(|r| r.starts_with("DELETE")).collect();
        let image = removed.iter().filter(|r| r.contains("/images/sha256:1")).count();
        assert_eq!(image, 2, "before and after: {removed:?}");
        fake.engine.task.abort();
    }
}

#[tokio::test]
async fn an_engine_that_comes_back_without_sizes_makes_the_container_all_the_same() {
    let (files, made) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let fake = fake("1.41", move |method, path| match (method, path) {
        ("PUT", _) if files.fetch_add(1, Ordering::Relaxed) == 0 => says(200, ""),
        ("PUT", _) => says(500, "disk quota exceeded"),
        // The trial's, then the first one that has a size.
        ("POST", "/containers/create") if made.fetch_add(1, Ordering::Relaxed) == 1 => {
            says(500, "--storage-opt is supported only for overlay over xfs with 'pquota' mount option")
        }
        (_, "/images/json") => (200, json!([])),
        _ => plain()(method, path),
    });
    assert_eq!(fake.runtime.storage_limit().await.unwrap(), StorageLimit::Enforced);
    let mut limited = assignment();
    limited.spec.limits.storage_bytes = Some(1 << 30);
    fake.runtime.create(&limited).await.unwrap();
    let bodies = fake.engine.sent("/containers/create?name=a67-0");
    let sizes: Vec<_> = bodies.iter().map(|body| body["HostConfig"]["StorageOpt"]["size"].clone()).collect();
    assert_eq!(sizes, [json!("1073741824"), Value::Null]);
    fake.engine.task.abort();
}

#[tokio::test]
async fn a_container_that_cannot_be_killed_is_said_to_be_there_still() {
    let message = "cannot stop container: 0a1b: tried to kill container, but did not receive an exit event";
    let fake = fake("1.41", move |method, path| match (method, path) {
        ("POST", "/containers/0a1b/stop") => says(500, message),
        ("DELETE", "/containers/0a1b") => says(500, "could not kill: tried to kill container"),
        _ => plain()(method, path),
    });
    let error = fake.runtime.stop("0a1b", Duration::from_secs(1)).await.unwrap_err();
    assert!(matches!(error.kind, RuntimeErrorKind::Refused(_)) && error.message == message, "{error:?}");
    let error = fake.runtime.remove("0a1b").await.unwrap_err();
    assert!(matches!(error.kind, RuntimeErrorKind::Refused(_)), "{error:?}");
    fake.engine.task.abort();
}

#[tokio::test]
async fn what_lies_about_is_read_with_all_that_refers_to_it_and_removed_without_force() {
    let (fleet, node) = ids();
    let (ours, name) = (instance(), container_name(instance()));
    let labels = json!({
        LABEL_FLEET: fleet.to_string(), LABEL_NODE: node.to_string(), LABEL_INSTANCE: ours.to_string(),
    });
    let container = |id: &str, name: &str, labels: &Value| {
        json!({
            "Id": id, "Names": [format!("/{name}")], "State": "exited", "Created": 1_700_000_000, "Image": "app:1",
            "ImageID": "sha256:1", "Labels": labels, "HostConfig": { "NetworkMode": "front" },
            "NetworkSettings": { "Networks": { "front": { "NetworkID": "n1" } } },
            "Mounts": [{ "Type": "volume", "Name": "data" }, { "Type": "bind" }],
        })
    };
    let containers = json!([
        container("c1", &name, &labels),
        container("c2", "committed", &labels),
        container("c3", "x", &json!({}))
    ]);
    let fake = fake("1.41", move |method, path| match (method, path) {
        ("GET", "/containers/json") => (200, containers.clone()),
        ("GET", "/images/json") => (200, json!([image_json()])),
        ("GET", "/networks") => (
            200,
            json!([
                { "Name": "front", "Id": "n1", "Created": "2026-01-02T03:04:05Z", "Labels": { LABEL_FLEET: fleet.to_string() } },
                { "Name": "alien", "Id": "n2", "Labels": { LABEL_FLEET: "another" } },
            ]),
        ),
        ("GET", "/volumes") => (
            200,
            json!({ "Volumes": [{ "Name": "data", "Driver": "local", "Mountpoint": "/x", "Labels": {}, "Scope": "local", "Options": {} }], "Warnings": [] }),
        ),
        ("DELETE", "/images/sha256:1") => says(409, "conflict: unable to delete"),
        ("DELETE", "/networks/n1") => says(403, "network front has active endpoints"),
        ("DELETE", "/volumes/gone") => says(404, "no such volume"),
        ("DELETE", "/containers/c9") => says(500, "storage driver failed"),
        _ => plain()(method, path),
    });
    let held = fake.runtime.belongings(true).await.unwrap();
    assert_eq!(held.images[0].names, ["a67-trial:1"]);
    let whose: Vec<_> = held.containers.iter().map(|c| c.instance_id).collect();
    assert_eq!(whose, [Some(ours), None, None], "labels of a committed image prove nothing");
    for container in &held.containers {
        assert!(container.is_dead && container.created_at.is_some());
        assert!(container.networks.contains(&"n1".into()) && container.volumes == ["data"]);
        assert!(container.images.contains(&"sha256:1".into()) && container.images.contains(&"app:1".into()));
    }
    assert_eq!(held.networks.iter().map(|n| n.name.as_str()).collect::<Vec<_>>(), ["front"]);
    assert_eq!(held.volumes.len(), 1);
    assert_eq!(fake.runtime.belongings(false).await.unwrap().volumes, []);

    for (removal, became) in [
        (Removal::Image("sha256:1".into()), Some(Discarded::InUse)),
        (Removal::Network("n1".into()), Some(Discarded::InUse)),
        (Removal::Volume("gone".into()), Some(Discarded::Yes)),
        (Removal::Container("c1".into()), Some(Discarded::Yes)),
        (Removal::Container("c9".into()), None),
    ] {
        assert_eq!(fake.runtime.discard(&removal).await.ok(), became, "{removal:?}");
    }
    assert!(fake.engine.requests().iter().all(|r| !r.contains("force=true")), "{:?}", fake.engine.requests());
    fake.engine.task.abort();
}

#[tokio::test]
async fn an_image_that_a_pull_brought_is_ours_and_one_that_was_there_is_not() {
    let pulled = Arc::new(AtomicUsize::new(0));
    let fake = fake("1.41", move |method, path| match (method, path) {
        ("GET", "/images/app:1/json") if pulled.load(Ordering::Relaxed) == 0 => says(404, "No such image"),
        ("GET", "/images/app:1/json") => (200, json!({ "Id": "sha256:1" })),
        ("GET", "/images/there:1/json") => (200, json!({ "Id": "sha256:2" })),
        ("POST", "/images/create") => {
            pulled.store(1, Ordering::Relaxed);
            (200, json!({ "status": "Pull complete" }))
        }
        _ => plain()(method, path),
    });
    let fetched = fake.runtime.fetched();
    for image in ["app:1", "there:1"] {
        let progress: Vec<_> = fake.runtime.pull(image, None).collect().await;
        assert!(progress.iter().all(Result::is_ok), "{progress:?}");
    }
    assert_eq!(*fetched.borrow(), ["sha256:1".to_owned()].into());
    fake.engine.task.abort();
}
