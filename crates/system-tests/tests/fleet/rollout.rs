//! Deployments change, and hosts are lost: what runs gives way, or comes elsewhere.

use std::time::Instant;

use anyhow::{Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use system_tests::{
    client::Api,
    docker::Container,
    fleet::Fleet,
    spec::Spec,
    views::{Deployment, Operation},
    wait::{note, seconds, until},
};

async fn asks(api: &Api, method: Method, path: &str, body: &Value) -> Operation {
    let answer = api.send(method, path, Some(body.to_string())).await.unwrap();
    answer.good().unwrap()
}

async fn updates(api: &Api, spec: &Spec) -> Operation {
    let path = format!("/deployments/{}", spec.json()["name"].as_str().unwrap());
    let operation = asks(api, Method::PUT, &path, &spec.json()).await;
    api.end_of(&operation).await
}

fn verdict(operation: &Operation) -> &str {
    operation.verdict.as_deref().unwrap_or("none")
}

/// Which containers there are, and since when each of them runs.
fn runs(fleet: &Fleet) -> Vec<(String, String)> {
    let run = |(_, container): (String, Container)| (container.id, container.started_at);
    let mut runs: Vec<_> = fleet.containers().unwrap().into_iter().map(run).collect();
    runs.sort();
    runs
}

/// Waits until so many copies are healthy and no container is left of any other.
async fn only(fleet: &Fleet, name: &str, replicas: usize) -> Deployment {
    until("what gave way is gone", seconds(60), async || {
        let deployment = fleet.api.deployment(name).await?;
        let left = fleet.containers()?.len();
        ensure!(
            deployment.healthy as usize == replicas && left == replicas,
            "{} are healthy, {left} containers",
            deployment.healthy
        );
        Ok(deployment)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_brings_the_new_copies_up_first_and_one_that_fails_leaves_the_old_ones_alone() {
    let fleet = Fleet::of(2).await;
    let first = fleet.runs("web", &Spec::web("web").replicas(2)).await;
    let old: Vec<_> = first.instances.iter().map(|instance| instance.id).collect();

    let second = Spec::web("web").replicas(2).set("env", json!({"GREETING": "hello"}));
    let update = updates(&fleet.api, &second).await;
    assert_eq!(verdict(&update), "succeeded", "{update:?}");
    let new = only(&fleet, "web", 2).await;
    assert!(new.instances.iter().all(|instance| !old.contains(&instance.id)), "{new:?}");
    // No old copy was told to go before a new one was healthy in its place.
    let mut events = fleet.api.events("deployment=web").await.unwrap();
    events.sort_by_key(|event| event.recorded_at);
    let (mut up, mut gone) = (0, 0);
    for event in &events {
        let of_old = event.instance_id.is_some_and(|id| old.contains(&id));
        match event.kind.as_str() {
            "instance_healthy" if !of_old => up += 1,
            "instance_retired" if of_old => {
                gone += 1;
                assert!(gone <= up, "{gone} old copies went when {up} new ones were up: {event:?}");
            }
            _ => {}
        }
    }
    assert_eq!(gone, 2, "{events:?}");

    let before = runs(&fleet);
    let missing = Spec::web("web").replicas(2).image("nothing-of-that-name:1").set("pull", "never");
    let failed = updates(&fleet.api, &missing).await;
    assert_eq!(verdict(&failed), "failed_kept_old", "{failed:?}");
    only(&fleet, "web", 2).await;
    assert_eq!(runs(&fleet), before, "the old copies were never touched");

    // More copies of the same thing replace none.
    let scale = asks(&fleet.api, Method::POST, "/deployments/web/scale", &json!({"replicas": 3})).await;
    fleet.api.succeeds(scale).await;
    let more = runs(&fleet);
    assert!(before.iter().all(|run| more.contains(run)) && more.len() == 3, "{before:?} {more:?}");

    let back = asks(&fleet.api, Method::POST, "/deployments/web/rollback", &json!({"revision": 1})).await;
    fleet.api.succeeds(back).await;
    let back = only(&fleet, "web", 2).await;
    assert!(back.instances.iter().all(|i| !new.instances.iter().any(|new| new.id == i.id)), "{back:?}");
    fleet.deletes("web").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_on_a_host_that_is_cut_off_come_up_elsewhere_and_the_extra_one_goes_when_it_is_back() {
    let mut fleet = Fleet::of(2).await;
    let web = fleet.runs("web", &Spec::web("web").replicas(2)).await;
    assert_eq!(web.instances.iter().filter(|instance| instance.node == "h1").count(), 1);
    let host = fleet.bed.host(1).clone();
    let run = |containers: Vec<Container>| -> Vec<String> { containers.into_iter().map(|c| c.id).collect() };
    let cut_off = run(host.containers().unwrap());

    let began = Instant::now();
    host.cut();
    until("both copies run on the other host", seconds(60), async || -> Result<()> {
        let deployment = fleet.api.deployment("web").await?;
        let there = deployment.instances.iter().filter(|i| i.node == "h2" && i.health == "healthy").count();
        ensure!(there == 2, "{there} are there");
        Ok(())
    })
    .await;
    note(&format!("from the cut until all copies were healthy elsewhere: {:?}", began.elapsed()));
    assert_eq!(run(host.containers().unwrap()), cut_off, "the one that was cut off runs on");

    let began = Instant::now();
    host.heal();
    until("the extra copy is gone", seconds(60), async || {
        let left = host.containers()?.len();
        ensure!(left == 0, "{left} containers on h1");
        Ok(())
    })
    .await;
    note(&format!("from the link's return until the extra copy was gone: {:?}", began.elapsed()));
    let deployment = only(&fleet, "web", 2).await;
    assert!(deployment.instances.iter().all(|instance| instance.node == "h2"), "{deployment:?}");
    fleet.all_ready().await;
    fleet.deletes("web").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drained_host_is_empty_afterwards_and_what_it_ran_was_up_elsewhere_first() {
    let fleet = Fleet::of(2).await;
    fleet.runs("web", &Spec::web("web").replicas(2)).await;
    let drain = asks(&fleet.api, Method::POST, "/nodes/h1/drain", &json!({})).await;
    fleet.api.succeeds(drain).await;
    let web = only(&fleet, "web", 2).await;
    assert!(web.instances.iter().all(|instance| instance.node == "h2"), "{web:?}");
    let node: Value = fleet.api.get("/nodes/h1").await.unwrap();
    assert_eq!((&node["cordoned"], &node["state"]), (&json!(true), &json!("ready")));

    // Nothing moves back by itself; what is new may go there again.
    let answer = fleet.api.send(Method::POST, "/nodes/h1/uncordon", Some("{}".into())).await.unwrap();
    answer.good::<Value>().unwrap();
    let more = fleet.runs("more", &Spec::new("more")).await;
    assert_eq!(more.instances[0].node, "h1");
    assert!(fleet.api.deployment("web").await.unwrap().instances.iter().all(|i| i.node == "h2"));
    let more = fleet.api.delete("more").await;
    fleet.api.succeeds(more).await;
    fleet.deletes("web").await;
}
