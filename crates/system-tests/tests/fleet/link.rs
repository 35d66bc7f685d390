//! The cable between a host and the controller is pulled.

use anyhow::ensure;
use reqwest::Method;
use serde_json::json;
use system_tests::{
    fleet::Fleet,
    spec::Spec,
    views::Operation,
    wait::{seconds, stays, until},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_is_cut_off_is_unreachable_its_containers_run_on_and_all_is_told_when_it_is_back() {
    let mut fleet = Fleet::of(2).await;
    // What is not to come elsewhere; that has a test of its own.
    let stays_there = |spec: Spec| spec.replicas(2).set("disconnect", json!({"replace": "never"}));
    let web = fleet.runs("web", &stays_there(Spec::web("web"))).await;
    fleet.runs("goes", &stays_there(Spec::new("goes"))).await;
    let host = fleet.bed.host(1).clone();
    let id = web.instances.iter().find(|i| i.node == "h1").unwrap().id;
    let ids: Vec<_> = web.instances.iter().map(|i| i.id).collect();

    host.cut();
    fleet.api.node_is("h1", "unreachable").await;
    let instance = fleet.api.instance(id).await.unwrap();
    assert_eq!((instance.presence.as_str(), instance.state.as_str()), ("lost", "running"));
    let seen = fleet.api.deployment("web").await.unwrap();
    assert_eq!((seen.state.as_str(), seen.healthy), ("degraded", 1));
    let log = fleet.api.send(Method::GET, &format!("/instances/{id}/logs?tail=1"), None).await.unwrap();
    assert_eq!(log.problem(503).code, "node_unavailable");

    // What is wanted of it waits; what is new goes elsewhere.
    let elsewhere = fleet.runs("elsewhere", &Spec::new("elsewhere").replicas(2)).await;
    assert!(elsewhere.instances.iter().all(|i| i.node == "h2"), "{elsewhere:?}");
    let delete = deletion_begins(&fleet, "goes").await;
    let stop = fleet.api.ask(id, "stop").await;
    let killed = host.running(id).unwrap();
    host.docker(&["kill", &killed.id]).unwrap();
    let at = chrono::Utc::now();
    until("its agent starts it again", seconds(10), async || {
        ensure!(host.running(id)?.started_at != killed.started_at, "not yet");
        Ok(())
    })
    .await;
    stays("it runs on, and the wish stays open", seconds(3), async || {
        host.running(id)?;
        let stop: Operation = fleet.api.get(&format!("/operations/{}", stop.id)).await?;
        ensure!(stop.state == "running" && stop.message.contains("h1"), "{stop:?}");
        Ok(())
    })
    .await;

    let healed_at = chrono::Utc::now();
    host.heal();
    fleet.api.node_is("h1", "ready").await;
    fleet.api.succeeds(stop).await;
    fleet.api.succeeds(delete).await;
    assert!(!host.container(id).unwrap().is_running());
    let exit = fleet.api.event(id, "instance_exited", "outside_signal_9").await;
    assert!((exit.at - at).num_milliseconds().abs() < 2000 && exit.recorded_at > healed_at, "{exit:?}");
    let instance = fleet.api.instance(id).await.unwrap();
    assert_eq!(
        (instance.presence.as_str(), instance.state.as_str(), instance.attempt),
        ("fresh", "stopped", 2)
    );

    // The timeline of the node tells it, too.
    let kinds: Vec<String> =
        fleet.api.events("node=h1").await.unwrap().into_iter().map(|event| event.kind).collect();
    let unreachable = kinds.iter().position(|kind| kind == "node_unreachable").unwrap();
    assert!(kinds[unreachable..].iter().any(|kind| kind == "node_ready"), "{kinds:?}");
    let start = fleet.api.ask(id, "start").await;
    fleet.api.succeeds(start).await;
    let elsewhere = fleet.api.delete("elsewhere").await;
    fleet.api.succeeds(elsewhere).await;
    fleet.nothing_is_doubled(&ids);
    fleet.all_ready().await;
}

/// A deletion of what runs on both hosts, of which the first one is cut off.
async fn deletion_begins(fleet: &Fleet, name: &str) -> Operation {
    let delete = fleet.api.delete(name).await;
    let open = until("the host that is there is done", seconds(20), async || {
        let open: Operation = fleet.api.get(&format!("/operations/{}", delete.id)).await?;
        ensure!((open.verdict.as_deref(), open.done, open.total) == (None, 1, 2), "{open:?}");
        Ok(open)
    })
    .await;
    assert!(open.message.contains("h1"), "{}", open.message);
    assert!(fleet.api.deployment(name).await.unwrap().deleting);
    delete
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_whose_end_was_never_heard_does_not_keep_the_node_out() {
    let mut fleet = Fleet::of(1).await;
    let app = fleet.runs("app", &Spec::new("app")).await;
    let before = fleet.containers().unwrap();
    // The agent dies behind a link that is cut: the controller still holds its session.
    let host = fleet.bed.host(1).clone();
    host.cut();
    fleet.agents[0].kill();
    host.heal();
    fleet.agents[0].start();
    let since = chrono::Utc::now();
    until("the node is back long before the old session would have been given up", seconds(15), async || {
        let node = fleet.api.node("h1").await?;
        ensure!(node.state == "ready" && node.last_seen_at > Some(since), "{node:?}");
        Ok(())
    })
    .await;
    let restart = fleet.api.ask(app.instances[0].id, "restart").await;
    fleet.api.succeeds(restart).await;
    assert_eq!(fleet.containers().unwrap()[0].1.id, before[0].1.id);
    fleet.deletes("app").await;
}
