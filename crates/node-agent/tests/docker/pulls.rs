//! Pulls, from registries beside the engine.

use std::{fs, os::unix::fs::PermissionsExt as _, sync::Arc, time::Duration};

use domain::{assignment::Assignment, id::InstanceId, instance::FailureReason, pull::PullProgress};
use node_agent::{
    pull::{Board, LoginSource, Logins, Pulls, Settings},
    runtime::{Runtime as _, RuntimeError, RuntimeErrorKind},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use uuid::Uuid;

use crate::{
    engine::{CLOSED_REGISTRY, LOGIN, REGISTRY, World, shell, until},
    registry::{LAYER_BYTES, Registry, archive, digest_of},
};

/// As in life, but not as patient.
fn settings() -> Settings {
    let millis = Duration::from_millis;
    Settings { retry: (millis(100), millis(400)), publish: millis(20), ..Settings::default() }
}

fn pulls(world: &World, settings: Settings) -> Pulls {
    Pulls::new(Arc::new(world.runtime.clone()), settings, None)
}

fn instance() -> InstanceId {
    InstanceId::from_uuid(Uuid::now_v7())
}

/// Whoever wants an image.
fn of(image: &str, instance_id: InstanceId) -> Assignment {
    let mut assignment = shell("true");
    assignment.instance_id = instance_id;
    assignment.spec.image = image.to_owned();
    assignment
}

async fn fail(pulls: &Pulls, image: &str) -> (FailureReason, RuntimeError) {
    let error = pulls.join(&of(image, instance())).await.unwrap_err();
    match error.kind {
        RuntimeErrorKind::Refused(reason) => (reason, error),
        other => panic!("not refused but {other:?}: {error}"),
    }
}

async fn told(
    board: &mut watch::Receiver<Board>,
    image: &str,
    so: impl Fn(&PullProgress) -> bool,
) -> PullProgress {
    let wait = board.wait_for(|board| board.get(image).is_some_and(&so));
    let board = timeout(Duration::from_secs(60), wait).await.expect("it was not told").unwrap();
    board[image].clone()
}

pub async fn an_image_has_the_digest_by_which_it_was_pulled_and_an_imported_one_has_none(world: Arc<World>) {
    let pulls = pulls(&world, settings());
    let digest = async |image: &str| world.runtime.image(image).await.unwrap().map(|info| info.digest);
    let (dir, imported) = (tempfile::tempdir().unwrap(), "a67-test/imported:1");
    let file = dir.path().join("image.tar");
    fs::write(&file, archive("imported", b"from no registry")).unwrap();
    world.docker(&["import", file.to_str().unwrap(), imported]).await;
    assert_eq!(digest(imported).await, Some(None));
    world.docker(&["rmi", imported]).await;

    let by_tag = format!("{REGISTRY}/app:1");
    assert_eq!(digest(&by_tag).await, None, "it is not there");
    pulls.join(&of(&by_tag, instance())).await.unwrap();
    let named = digest(&by_tag).await.unwrap().unwrap();
    assert!(named.starts_with("sha256:") && named.len() == 71, "{named}");

    let by_digest = format!("{REGISTRY}/app@{named}");
    pulls.join(&of(&by_digest, instance())).await.unwrap();
    assert_eq!(digest(&by_digest).await, Some(Some(named.clone())));
    // The same image by both names.
    assert_eq!(world.runtime.image(&by_tag).await.unwrap(), world.runtime.image(&by_digest).await.unwrap());
    world.docker(&["rmi", &by_tag]).await;
}

pub async fn what_a_registry_does_not_have_is_told_apart_from_what_it_does_not_answer(world: Arc<World>) {
    let pulls = pulls(&world, Settings { tries: 1, ..settings() });
    let nothing = format!("sha256:{}", "0".repeat(64));
    for (image, reason) in [
        (format!("{REGISTRY}/app:none"), FailureReason::ImageNotFound),
        (format!("{REGISTRY}/nothing:1"), FailureReason::ImageNotFound),
        (format!("{REGISTRY}/app@{nothing}"), FailureReason::ImageNotFound),
        (format!("{REGISTRY}/App:1"), FailureReason::ImageNotFound),
        ("not an image".to_owned(), FailureReason::ImageNotFound),
        ("127.0.0.1:1/app:1".to_owned(), FailureReason::ImagePullFailed),
        ("registry.invalid/app:1".to_owned(), FailureReason::ImagePullFailed),
    ] {
        let (found, error) = fail(&pulls, &image).await;
        assert_eq!(found, reason, "{image}: {error}");
    }
}

pub async fn what_can_pass_is_asked_for_again_and_what_cannot_is_not(world: Arc<World>) {
    let registry = Registry::start(world.listen().await);
    let pulls = pulls(&world, settings());
    for (repository, reason, asked) in [
        ("code-401", FailureReason::ImageDenied, 1),
        ("code-403", FailureReason::ImageDenied, 1),
        ("code-404", FailureReason::ImageNotFound, 1),
        ("code-500", FailureReason::ImagePullFailed, 4),
        ("code-503", FailureReason::ImagePullFailed, 4),
    ] {
        let (found, error) = fail(&pulls, &registry.image(repository)).await;
        assert_eq!(found, reason, "{repository}: {error}");
        assert_eq!(registry.asked(repository), asked, "{repository}: {error}");
    }
    for repository in ["once-500", "once-503", "once-429", "cut"] {
        let (image, begun) = (registry.image(repository), Instant::now());
        pulls.join(&of(&image, instance())).await.unwrap_or_else(|error| panic!("{repository}: {error}"));
        assert_eq!(registry.asked(repository), 2, "{repository}");
        if repository == "once-429" {
            assert!(begun.elapsed() >= Duration::from_millis(1200), "it did not wait as it was told to");
        }
        let info = world.runtime.image(&image).await.unwrap().unwrap();
        assert_eq!(info.digest, Some(digest_of(repository)));
        world.docker(&["rmi", &image]).await;
    }
}

pub async fn a_registry_that_wants_a_login_gets_the_nodes_own(world: Arc<World>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.json");
    let write = |password: &str| {
        let entry = serde_json::json!({ "username": LOGIN.0, "password": password });
        let auths = serde_json::json!({ "auths": { CLOSED_REGISTRY: entry } });
        fs::write(&path, auths.to_string()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    };
    // An image of its own: an engine that removes the last name of one takes those with it
    // that it was given meanwhile.
    let image = format!("{CLOSED_REGISTRY}/locked:1");
    let (reason, error) = fail(&pulls(&world, settings()), &image).await;
    assert_eq!(reason, FailureReason::ImageDenied, "{error}");

    let logins = Logins(vec![LoginSource::File(path.clone())]);
    let pulls = pulls(&world, Settings { logins, ..settings() });
    write("wrong");
    let (reason, error) = fail(&pulls, &image).await;
    assert_eq!(reason, FailureReason::ImageDenied, "{error}");
    assert!(!error.message.contains("wrong"), "{error}");
    write(LOGIN.1);
    pulls.join(&of(&image, instance())).await.unwrap();
    let info = world.runtime.image(&image).await.unwrap().unwrap();
    assert!(info.digest.is_some(), "{info:?}");
    world.docker(&["rmi", &image]).await;
}

pub async fn a_slow_layer_shows_its_bytes_and_goes_on_for_who_stays(world: Arc<World>) {
    let registry = Registry::start(world.listen().await);
    let (pulls, image) = (pulls(&world, settings()), registry.image("slow-shared"));
    let mut board = pulls.board();
    let (first, second) = (instance(), instance());
    let spawn = |instance| tokio::runtime::Handle::current().spawn(pulls.join(&of(&image, instance)));
    let (leaves, stays) = (spawn(first), spawn(second));
    told(&mut board, &image, |progress| progress.instance_ids == [first, second]).await;

    let bytes = |part: usize| u64::try_from(LAYER_BYTES / 4 * part).unwrap();
    // What an engine has read and not yet told of.
    let slack = bytes(1) / 2;
    let mut last = 0;
    for part in 1..=3 {
        registry.release(LAYER_BYTES / 4 * part);
        let progress = told(&mut board, &image, |p| p.current_bytes() + slack >= bytes(part)).await;
        assert!(progress.current_bytes() > last && progress.current_bytes() <= bytes(part), "{progress:?}");
        assert!(progress.total_bytes().unwrap() > bytes(4), "{progress:?}");
        assert_eq!((progress.layers.len(), progress.layers[0].status.as_str()), (1, "Downloading"));
        last = progress.current_bytes();
        if part == 2 {
            leaves.abort();
            told(&mut board, &image, |progress| progress.instance_ids == [second]).await;
        }
    }
    assert_eq!(world.runtime.image(&image).await.unwrap(), None);
    registry.release(usize::MAX);
    stays.await.unwrap().unwrap();
    assert!(board.borrow().is_empty());
    assert_eq!(registry.asked("slow-shared"), 1);
    let info = world.runtime.image(&image).await.unwrap().unwrap();
    assert_eq!(info.digest, Some(digest_of("slow-shared")));
    world.docker(&["rmi", &image]).await;
}

pub async fn a_pull_that_nobody_wants_any_more_is_ended_by_the_engine(world: Arc<World>) {
    let registry = Registry::start(world.listen().await);
    let (pulls, image) = (pulls(&world, settings()), registry.image("slow-given-up"));
    let mut board = pulls.board();
    registry.release(LAYER_BYTES / 2);
    let pull = tokio::runtime::Handle::current().spawn(pulls.join(&of(&image, instance())));
    told(&mut board, &image, |progress| progress.current_bytes() > 0).await;
    pull.abort();
    let gone = board.wait_for(|board| board.is_empty());
    timeout(Duration::from_secs(30), gone).await.expect("it is still told of").unwrap();
    assert!(!pulls.is_under_way(&of(&image, instance())));
    // An engine that had gone on would let the next ones join it, and ask for nothing.
    let asked = async || (registry.layers("slow-given-up") > 1).then_some(());
    until("another request for the layer", async || {
        // A pull that joins one which is just being ended ends with it.
        tokio::select! {
            _ = pulls.join(&of(&image, instance())) => {}
            () = until("a request", asked) => {}
            () = sleep(Duration::from_secs(10)) => {}
        }
        asked().await
    })
    .await;
}
