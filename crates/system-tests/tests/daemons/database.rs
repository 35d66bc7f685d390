//! A PostgreSQL of the operator's own, which goes away and comes back.

use std::{path::PathBuf, time::Instant};

use anyhow::ensure;
use serde_json::{Value, json};
use store::testing;
use system_tests::{
    client::Api,
    controller::Controller,
    proxy::{Link, Proxy, Target},
    scratch::Scratch,
    spec::Spec,
    views::{Deployment, Page},
    wait::{seconds, stays, until},
};

/// A link to a fresh database, and the URL through it.
async fn database() -> (Proxy, String) {
    let direct = testing::empty_database().await.url;
    // postgres://test@%2Ftmp%2F…%2Frun/name
    let (user, rest) = direct.trim_start_matches("postgres://").split_once('@').unwrap();
    let (directory, name) = rest.split_once('/').unwrap();
    let socket = PathBuf::from(directory.replace("%2F", "/")).join(".s.PGSQL.5432");
    let proxy = Proxy::start("127.0.0.1:0", Target::Unix(socket)).await;
    let url = format!("postgres://{user}@{}/{name}", proxy.address);
    (proxy, url)
}

async fn is_unavailable(api: &Api) -> anyhow::Result<()> {
    let answer = api.send(reqwest::Method::GET, "/deployments", None).await?;
    ensure!(answer.status == 503, "{}: {}", answer.status, answer.body);
    assert_eq!(answer.headers["retry-after"], "1");
    let problem = answer.problem(503);
    assert_eq!(problem.code, "database_unavailable");
    assert!(!problem.detail.contains("127.0.0.1"), "it tells of the inside: {problem:?}");
    Ok(())
}

async fn works(api: &Api) -> anyhow::Result<()> {
    let ready = api.outside("/readyz").await?;
    ensure!(ready.status == 200, "{}", ready.body);
    api.get::<Page<Deployment>>("/deployments").await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_cut_off_and_comes_back_costs_503s_meanwhile_and_no_restart() {
    let scratch = Scratch::new();
    let (proxy, url) = database().await;
    let mut controller = Controller::alone(scratch.path()).with("A67_DATABASE_URL", &url);
    controller.start().await;
    let api = controller.administrator().await;
    api.deploy(&Spec::new("before")).await;
    assert!(!controller.data_dir().join("postgres").exists(), "a private PostgreSQL was made, too");
    for _ in 0..2 {
        proxy.set(Link::Cut);
        until("the API says that it is unavailable", seconds(15), async || is_unavailable(&api).await).await;
        stays("each answer comes, and comes soon", seconds(3), async || {
            let asked = Instant::now();
            is_unavailable(&api).await?;
            ensure!(asked.elapsed() < seconds(8), "it took {:?}", asked.elapsed());
            // Alive, and not ready.
            ensure!(api.outside("/healthz").await?.status == 200, "it is not alive");
            ensure!(api.outside("/readyz").await?.status == 503, "it calls itself ready");
            Ok(())
        })
        .await;
        let refused = api.post("/deployments", &Spec::new("meanwhile").json()).await.unwrap();
        let _ = refused.problem(503);
        proxy.set(Link::Up);
        until("the API works again", seconds(15), async || works(&api).await).await;
    }
    controller.process_mut().check().unwrap();
    let all: Page<Deployment> = api.get("/deployments").await.unwrap();
    let names: Vec<_> = all.items.iter().map(|deployment| deployment.name.as_str()).collect();
    assert_eq!(names, ["before"]);
    // Tasks run again, too: the wish of now is judged.
    let operation = api.deploy(&Spec::new("after").set("progress_deadline_seconds", 5)).await;
    assert_eq!(api.end_of(&operation).await.verdict.as_deref(), Some("failed"));
    assert_eq!(controller.stop(seconds(20)).await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_behind_a_link_that_swallows_everything_costs_503s_and_no_request_hangs() {
    let scratch = Scratch::new();
    let (proxy, url) = database().await;
    let mut controller = Controller::alone(scratch.path()).with("A67_DATABASE_URL", &url);
    controller.start().await;
    let api = controller.administrator().await;
    proxy.set(Link::Held);
    // The controller's own limit is 20 s for an answer of the database; a client's here is 30 s.
    until("the API says that it is unavailable", seconds(60), async || is_unavailable(&api).await).await;
    stays("no request hangs", seconds(10), async || is_unavailable(&api).await).await;
    proxy.set(Link::Up);
    until("the API works again", seconds(30), async || works(&api).await).await;
    assert_eq!(controller.stop(seconds(20)).await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_that_starts_before_its_database_waits_for_it() {
    let scratch = Scratch::new();
    let (proxy, url) = database().await;
    proxy.set(Link::Cut);
    let mut controller = Controller::alone(scratch.path()).with("A67_DATABASE_URL", &url);
    controller.launch();
    let log = "waiting for the database";
    until("it says what it waits for", seconds(20), async || {
        ensure!(controller.process_mut().log().contains(log), "{}", controller.process_mut().log());
        Ok(())
    })
    .await;
    controller.process_mut().check().unwrap();
    proxy.set(Link::Up);
    controller.is_ready().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_that_waits_for_its_database_still_stops_when_asked() {
    let scratch = Scratch::new();
    let (proxy, url) = database().await;
    proxy.set(Link::Cut);
    let mut controller = Controller::alone(scratch.path()).with("A67_DATABASE_URL", &url);
    controller.launch();
    until("it waits", seconds(20), async || {
        ensure!(controller.process_mut().log().contains("waiting for the database"), "not yet");
        Ok(())
    })
    .await;
    assert_eq!(controller.stop(seconds(10)).await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_controllers_on_one_database_are_one_fleet() {
    let scratch = Scratch::new();
    let (_proxy, url) = database().await;
    let mut first = Controller::alone(scratch.path()).with("A67_DATABASE_URL", &url);
    first.start().await;
    let api = first.administrator().await;
    let other = Scratch::new();
    let mut second = Controller::alone(other.path()).with("A67_DATABASE_URL", &url);
    let key = first.data_dir().join("master.key").display().to_string();
    second.set("A67_MASTER_KEY_FILE", &key);
    second.start().await;
    let elsewhere = Api::new(second.url());
    let api_token: Value = api.post("/api-tokens", &json!({"name": "ci"})).await.unwrap().good().unwrap();
    let elsewhere = elsewhere.with_token(api_token["token"].as_str().unwrap());
    elsewhere.deploy(&Spec::new("web")).await;
    assert_eq!(api.deployment("web").await.unwrap().name, "web");
    let _ = api.post("/deployments", &Spec::new("web").json()).await.unwrap().problem(409);
}
