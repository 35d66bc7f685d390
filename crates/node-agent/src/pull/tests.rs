//! Pulls of an engine in memory, on a clock that moves by itself.

use std::{fs, os::unix::fs::PermissionsExt as _};

use domain::{deployment::InstanceSpec, id::DeploymentId, instance::Desired};
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::*;
use crate::runtime::fake::{Call, FakeRuntime, Fault, ScriptedPull};

const IMAGE: &str = "r:5000/app:1";

fn id(n: u128) -> InstanceId {
    InstanceId::from_uuid(Uuid::from_u128(n))
}

fn pulls(engine: &FakeRuntime, settings: Settings) -> Pulls {
    Pulls::new(Arc::new(engine.clone()), settings, None)
}

fn wanted(n: u128) -> Assignment {
    of(IMAGE, n)
}

fn of(image: &str, n: u128) -> Assignment {
    Assignment {
        instance_id: id(n),
        deployment_id: DeploymentId::from_uuid(Uuid::nil()),
        deployment_name: "web".into(),
        revision: 1,
        spec: InstanceSpec::of_image(image),
        desired: Desired::Running,
        restart_generation: 0,
        registry_credential: None,
    }
}

/// An instance that waits, on a task of its own.
fn wait(pulls: &Pulls, n: u128) -> JoinHandle<Outcome> {
    tokio::runtime::Handle::current().spawn(pulls.join(&wanted(n)))
}

fn failure(message: &str) -> RuntimeError {
    RuntimeError::refused(verdict::reason(500, message, IMAGE), message)
}

/// Lets pulls fail in turn; those after them go well.
async fn fail_with(engine: &FakeRuntime, messages: &[&str]) {
    for message in messages {
        engine.script_pull(IMAGE).fail(failure(message)).await;
    }
}

/// What came of a pull, how long it took, and how often the engine was asked.
async fn course(engine: &FakeRuntime) -> (Outcome, Duration, usize) {
    let begun = Instant::now();
    let outcome = pulls(engine, Settings::default()).join(&wanted(1)).await;
    (outcome, begun.elapsed(), engine.count(Call::Pull, None))
}

async fn seen(board: &mut watch::Receiver<Board>, so: impl Fn(&PullProgress) -> bool) -> PullProgress {
    let board = board.wait_for(|board| board.get(IMAGE).is_some_and(&so)).await.unwrap();
    board[IMAGE].clone()
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[tokio::test(start_paused = true)]
async fn what_can_pass_is_tried_again_after_growing_waits() {
    let engine = FakeRuntime::default();
    fail_with(&engine, &["received unexpected HTTP status: 503 Service Unavailable", "EOF"]).await;
    let (outcome, took, asked) = course(&engine).await;
    assert_eq!((outcome, asked), (Ok(()), 3));
    // 1 to 2 s, then 2 to 4 s.
    assert!(took >= seconds(3) && took < seconds(7), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn after_four_tries_the_attempt_fails_and_says_so() {
    let engine = FakeRuntime::default();
    fail_with(&engine, &["EOF"; 5]).await;
    let (outcome, took, asked) = course(&engine).await;
    let error = outcome.unwrap_err();
    assert_eq!(error.kind, RuntimeErrorKind::Refused(FailureReason::ImagePullFailed));
    assert_eq!(error.message, "EOF (tried 4 times)");
    assert_eq!(asked, 4);
    // At most 2 + 4 + 8 s.
    assert!(took >= seconds(7) && took < seconds(15), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_pass_is_not_tried_again() {
    for error in [
        failure("manifest unknown"),
        failure("unauthorized: authentication required"),
        failure("Get \"https://r/v2/\": x509: certificate signed by unknown authority"),
        RuntimeError::refused(FailureReason::SpecRefused, "allowed_registries"),
        RuntimeError::unreachable("the engine went away: EOF"),
    ] {
        let engine = FakeRuntime::default();
        engine.script_pull(IMAGE).fail(error.clone()).await;
        let (outcome, took, asked) = course(&engine).await;
        assert_eq!((outcome, asked), (Err(error), 1));
        assert!(took < seconds(1), "{took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_was_asked_too_often_is_left_alone_for_as_long_as_it_says() {
    for (message, least, most) in [
        ("toomanyrequests: retry-after: 90s, allowed: 100/hour", 90, 100),
        // Not earlier than anything else would be tried again.
        ("toomanyrequests: retry-after: 301.834µs", 1, 3),
        // A day is more than an attempt waits for.
        ("toomanyrequests: retry-after: 86400", 900, 991),
        ("toomanyrequests: You have reached your pull rate limit.", 15, 31),
    ] {
        let engine = FakeRuntime::default();
        fail_with(&engine, &[message]).await;
        let (outcome, took, asked) = course(&engine).await;
        assert_eq!((outcome, asked), (Ok(()), 2));
        assert!(took >= seconds(least) && took < seconds(most), "{message}: {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_pull_without_a_sign_of_life_is_given_up_and_one_with_may_take_any_time() {
    let engine = FakeRuntime::default();
    let script = engine.script_pull(IMAGE);
    let begun = Instant::now();
    let pull = wait(&pulls(&engine, Settings::default()), 1);
    for minute in 1..=10 {
        sleep(seconds(60)).await;
        script.say("a", "Downloading", Some(minute), Some(100)).await;
    }
    let error = pull.await.unwrap().unwrap_err();
    assert_eq!(
        (error.kind, error.message.as_str()),
        (RuntimeErrorKind::Timeout, "no sign of life for 120 s")
    );
    assert_eq!(begun.elapsed().as_secs(), 720);
    script.given_up().await;
    assert_eq!(engine.count(Call::Pull, None), 1);
}

#[tokio::test(start_paused = true)]
async fn two_who_want_an_image_share_one_pull_and_one_may_leave() {
    let engine = FakeRuntime::default();
    let script = engine.script_pull(IMAGE);
    let pulls = pulls(&engine, Settings::default());
    let mut board = pulls.board();
    assert!(!pulls.is_under_way(&wanted(1)));
    let first = wait(&pulls, 1);
    assert!(pulls.is_under_way(&wanted(1)));
    let second = wait(&pulls, 2);
    seen(&mut board, |progress| progress.instance_ids == [id(1), id(2)]).await;

    // The one that began it.
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    seen(&mut board, |progress| progress.instance_ids == [id(2)]).await;
    script.say("a", "Downloading", Some(1), Some(2)).await;
    seen(&mut board, |progress| progress.current_bytes() == 1).await;

    drop(script);
    assert_eq!(second.await.unwrap(), Ok(()));
    assert!(board.borrow().is_empty() && !pulls.is_under_way(&wanted(1)));
    assert_eq!(engine.count(Call::Pull, None), 1);
}

#[tokio::test(start_paused = true)]
async fn a_pull_that_nobody_wants_any_more_ends_at_the_engine_too() {
    let engine = FakeRuntime::default();
    let script = engine.script_pull(IMAGE);
    let pulls = pulls(&engine, Settings::default());
    let mut board = pulls.board();
    let waiting = [wait(&pulls, 1), wait(&pulls, 2)];
    seen(&mut board, |progress| progress.instance_ids.len() == 2).await;
    for one in &waiting {
        one.abort();
    }
    script.given_up().await;
    board.wait_for(|board| board.is_empty()).await.unwrap();
    assert!(!pulls.is_under_way(&wanted(1)));
    // Whoever wants it now begins anew.
    assert_eq!(pulls.join(&wanted(3)).await, Ok(()));
    assert_eq!(engine.count(Call::Pull, None), 2);
}

#[tokio::test(start_paused = true)]
async fn whoever_leaves_between_two_tries_ends_it_as_well() {
    let engine = FakeRuntime::default();
    fail_with(&engine, &["EOF"]).await;
    let pulls = pulls(&engine, Settings::default());
    let mut board = pulls.board();
    let waiting = wait(&pulls, 1);
    seen(&mut board, |_| true).await;
    waiting.abort();
    board.wait_for(|board| board.is_empty()).await.unwrap();
    sleep(seconds(60)).await;
    assert_eq!(engine.count(Call::Pull, None), 1);
}

#[tokio::test(start_paused = true)]
async fn progress_is_told_at_most_once_a_second_and_again_when_nothing_is_new() {
    let engine = FakeRuntime::default();
    let script = engine.script_pull(IMAGE);
    let pulls = pulls(&engine, Settings::default());
    let mut board = pulls.board();
    let waiting = wait(&pulls, 1);
    let mut told = Vec::new();
    let talk = async {
        for bytes in 0..=1000_u64 {
            script.say("a", "Downloading", Some(bytes), Some(1000)).await;
            sleep(Duration::from_millis(10)).await;
        }
        sleep(seconds(30)).await;
    };
    let listen = async {
        loop {
            board.changed().await.unwrap();
            told.push((Instant::now(), board.borrow_and_update()[IMAGE].clone()));
        }
    };
    // Cancel-safe: the listener only listens.
    tokio::select! {
        () = talk => {}
        () = listen => {}
    }
    assert!(told.windows(2).all(|pair| pair[1].0 - pair[0].0 >= seconds(1)), "{told:?}");
    let bytes: Vec<_> = told.iter().map(|(_, progress)| progress.current_bytes()).collect();
    assert!(bytes.is_sorted() && bytes.last() == Some(&1000), "{bytes:?}");
    // Ten of the download, and a sign of life each ten seconds after it.
    assert!((12..=16).contains(&told.len()), "{bytes:?}");
    assert!(told.iter().all(|(_, progress)| progress.attempt == 1 && progress.image == IMAGE));
    drop(script);
    assert_eq!(waiting.await.unwrap(), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_new_try_counts_its_bytes_anew() {
    let engine = FakeRuntime::default();
    let (first, second) = (engine.script_pull(IMAGE), engine.script_pull(IMAGE));
    let pulls = pulls(&engine, Settings::default());
    let mut board = pulls.board();
    let waiting = wait(&pulls, 1);
    first.say("a", "Downloading", Some(9), Some(10)).await;
    seen(&mut board, |progress| progress.current_bytes() == 9).await;
    first.fail(failure("EOF")).await;
    second.say("b", "Downloading", Some(1), Some(10)).await;
    let progress = seen(&mut board, |progress| progress.attempt == 2 && !progress.layers.is_empty()).await;
    assert_eq!((progress.layers.len(), progress.current_bytes()), (1, 1));
    drop(second);
    assert_eq!(waiting.await.unwrap(), Ok(()));
}

#[tokio::test]
async fn the_login_of_the_images_registry_is_used_and_one_that_cannot_be_is_said_when_it_matters() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.json");
    fs::write(&path, r#"{"auths": {"r:5000": {"username": "u", "password": "hunter2"}}}"#).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let engine = FakeRuntime::default();
    let logins = Logins(vec![LoginSource::File(path.clone())]);
    let pulls = pulls(&engine, Settings { logins, ..Settings::default() });
    assert_eq!(pulls.join(&wanted(1)).await, Ok(()));
    assert_eq!(pulls.join(&of("other:5000/app:1", 1)).await, Ok(()));

    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    // A public image needs no login.
    assert_eq!(pulls.join(&wanted(1)).await, Ok(()));
    fail_with(&engine, &["no basic auth credentials", "manifest unknown"]).await;
    let error = pulls.join(&wanted(1)).await.unwrap_err();
    assert_eq!(error.kind, RuntimeErrorKind::Refused(FailureReason::ImageDenied));
    assert!(error.message.contains("config.json") && error.message.contains("chmod 600"), "{error}");
    assert!(!error.message.contains("hunter2"));
    assert_eq!(pulls.join(&wanted(1)).await.unwrap_err().message, "manifest unknown");
    let used = engine.logins_used();
    assert_eq!(used, [Some("r:5000".into()), None, None, None, None]);
}

#[tokio::test(start_paused = true)]
async fn a_pull_of_an_engine_that_hangs_keeps_no_other_image_waiting() {
    let engine = FakeRuntime::default();
    engine.fail_next(Call::Pull, Fault::Hang);
    let pulls = pulls(&engine, Settings::default());
    let mut board = pulls.board();
    let hanging = wait(&pulls, 1);
    seen(&mut board, |progress| progress.layers.is_empty()).await;
    assert_eq!(pulls.join(&of("other:1", 2)).await, Ok(()));
    assert_eq!(hanging.await.unwrap().unwrap_err().kind, RuntimeErrorKind::Timeout);
}

#[tokio::test(start_paused = true)]
async fn layers_of_a_scripted_pull_are_told_one_by_one() {
    let engine = FakeRuntime::default();
    let script: ScriptedPull = engine.script_pull(IMAGE);
    let pulls = pulls(&engine, Settings::default());
    let mut board = pulls.board();
    let waiting = wait(&pulls, 1);
    script.say("1", "Pulling from app", None, None).await;
    script.say("a", "Already exists", None, None).await;
    script.say("b", "Downloading", Some(3), Some(8)).await;
    script.say("c", "Waiting", None, None).await;
    let progress = seen(&mut board, |progress| progress.layers.len() == 3).await;
    assert_eq!((progress.current_bytes(), progress.total_bytes()), (3, None));
    script.say("c", "Downloading", Some(1), Some(2)).await;
    let progress = seen(&mut board, |progress| progress.current_bytes() == 4).await;
    assert_eq!(progress.total_bytes(), Some(10));
    drop(script);
    assert_eq!(waiting.await.unwrap(), Ok(()));
}
