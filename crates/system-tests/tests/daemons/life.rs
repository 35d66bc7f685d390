//! Start, stop, crash, and commands at the host.

use anyhow::ensure;
use serde_json::{Value, json};
use system_tests::{
    client::Api,
    controller::{ADMIN, Controller},
    process::signal_of,
    scratch::Scratch,
    spec::Spec,
    views::{Deployment, Operation, Page},
    wait::{seconds, until},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_that_is_asked_to_stop_ends_within_its_grace_and_its_database_with_it() {
    let scratch = Scratch::new();
    let mut controller = Controller::alone(scratch.path()).with("A67_SHUTDOWN_GRACE_SECONDS", "5");
    controller.start().await;
    let api = controller.administrator().await;
    let operation = api.deploy(&Spec::new("waits")).await;
    // A request that would last longer than the grace is under way.
    let path = format!("/operations/{}?wait_seconds=60", operation.id);
    let waits = api.get::<Operation>(&path);
    let stops = async {
        until("the wait has begun", seconds(5), async || {
            let now: Operation = api.get(&format!("/operations/{}", operation.id)).await?;
            ensure!(now.state == "running", "it is {}", now.state);
            Ok(())
        })
        .await;
        controller.stop(seconds(20)).await
    };
    let (_, status) = tokio::join!(waits, stops);
    assert_eq!(status.code(), Some(0));
    let pid_file = controller.data_dir().join("postgres/cluster/postmaster.pid");
    assert!(!pid_file.exists(), "the private PostgreSQL still runs");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_that_was_killed_comes_back_with_everything() {
    let scratch = Scratch::new();
    let mut controller = Controller::alone(scratch.path());
    controller.start().await;
    let api = controller.administrator().await;
    let operation = api.deploy(&Spec::new("web").replicas(2)).await;
    let before = api.deployment("web").await.unwrap();
    let ca = ca_of(&api).await;
    for _ in 0..2 {
        controller.kill();
        controller.start().await;
        // The same token: nobody is signed out.
        let me: Value = api.get("/auth/me").await.unwrap();
        assert_eq!(me["name"], ADMIN.0);
        let after = api.deployment("web").await.unwrap();
        assert_eq!((after.id, after.spec), (before.id, before.spec.clone()));
        let all: Page<Operation> = api.get("/operations").await.unwrap();
        let ids: Vec<_> = all.items.iter().map(|operation| operation.id).collect();
        assert_eq!(ids, [operation.id]);
        assert_eq!(ca_of(&api).await, ca, "agents would not know it any more");
    }
}

async fn ca_of(api: &Api) -> String {
    let token: Value = api.post("/enrolment-tokens", &json!({})).await.unwrap().good().unwrap();
    token["ca_sha256"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operation_that_nothing_can_carry_out_says_why_it_waits_and_fails_by_its_deadline() {
    let scratch = Scratch::new();
    let mut controller = Controller::alone(scratch.path());
    controller.start().await;
    let api = controller.administrator().await;
    let spec = Spec::new("nowhere").set("progress_deadline_seconds", 5).set("min_healthy_seconds", 1);
    let operation = api.deploy(&spec).await;
    let waiting: Deployment = until("its copies wait", seconds(10), async || {
        let deployment = api.deployment("nowhere").await?;
        ensure!(deployment.pending.is_some(), "{deployment:?}");
        Ok(deployment)
    })
    .await;
    assert_eq!(waiting.pending.unwrap()["lacking"], 1);
    let ended = api.end_of(&operation).await;
    assert_eq!(ended.verdict.as_deref(), Some("failed"), "{}", ended.message);
    assert!(ended.message.contains("no progress for 5 s"), "{}", ended.message);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_controller_on_the_same_data_is_refused_and_the_first_one_goes_on() {
    let scratch = Scratch::new();
    let mut controller = Controller::alone(scratch.path());
    controller.start().await;
    let mut second = controller.twin();
    second.launch();
    let (status, log) = second.end().await;
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("another automator67-controller already runs it"), "{log}");
    assert!(!log.contains("panicked"), "{log}");
    assert_eq!(Api::new(controller.url()).outside("/readyz").await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_at_the_host_work_while_the_controller_runs_and_while_it_does_not() {
    let scratch = Scratch::new();
    let mut controller = Controller::alone(scratch.path());

    // Nothing has ever run here.
    let password = controller.prints(&["admin", "create", "--name", "first"], "").await;
    assert!(password.len() >= 16 && !password.contains(char::is_whitespace), "{password:?}");
    let token = controller.prints(&["admin", "api-token", "--account", "first", "--name", "ci"], "").await;
    assert_eq!(controller.run(&["healthcheck"], "").await.status.code(), Some(1));

    controller.start().await;
    assert_eq!(controller.run(&["healthcheck"], "").await.status.code(), Some(0));
    let api = Api::new(controller.url());
    api.sign_in("first", &password).await.unwrap();
    let me: Value = api.with_token(&token).get("/auth/me").await.unwrap();
    assert_eq!((&me["name"], &me["role"]), (&json!("first"), &json!("admin")));

    let create = ["admin", "create", "--name", "second", "--role", "viewer", "--password-stdin"];
    assert_eq!(
        controller.prints(&create, "correct horse battery\n").await,
        "",
        "a given one is not repeated"
    );
    let viewer = api.sign_in("second", "correct horse battery").await.unwrap();
    assert_eq!(viewer.post("/invites", &json!({"role": "admin"})).await.unwrap().status, 403);
    let token =
        controller.prints(&["admin", "enrolment-token", "--label", "zone=a", "--uses", "2"], "").await;
    assert!(token.starts_with("a67e_"), "{token}");

    let again = controller.run(&create, "correct horse battery\n").await;
    assert_eq!(again.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&again.stderr).contains("second"), "{again:?}");
    assert!(again.stdout.is_empty());

    assert_eq!(controller.stop(seconds(20)).await.code(), Some(0));
    controller.prints(&["admin", "create", "--name", "third"], "").await;
    controller.start().await;
    api.sign_in("first", &password).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_a_controller_at_once() {
    let scratch = Scratch::new();
    let mut controller = Controller::alone(scratch.path());
    controller.start().await;
    let process = controller.process_mut();
    let pid = process.pid().to_string();
    // Both before it can have done anything about the first.
    for _ in 0..2 {
        let killed = std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap();
        assert!(killed.success());
    }
    let (status, log) = controller.end().await;
    assert!(matches!(status.code(), Some(0 | 143)) && signal_of(status).is_none(), "{status}: {log}");
    // What it left is good for the next start.
    controller.start().await;
}
