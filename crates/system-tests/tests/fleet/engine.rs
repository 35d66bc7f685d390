//! A host's engine goes away and comes back. What it does not say is not known,
//! and is not taken for 'no containers'.

use anyhow::ensure;
use system_tests::{
    fleet::Fleet,
    spec::Spec,
    views::Deployment,
    wait::{seconds, stays, until},
};

/// As last seen, and called old.
fn is_stale(app: &Deployment) -> anyhow::Result<()> {
    ensure!(app.instances.len() == 2, "{app:?}");
    for instance in &app.instances {
        let seen = (instance.state.as_str(), instance.presence.as_str(), instance.attempt);
        ensure!(seen == ("running", "stale", 1) && instance.outcome.is_none(), "{instance:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_was_killed_leaves_its_instances_as_last_seen_and_they_run_again_when_it_is_back() {
    let mut fleet = Fleet::of(1).await;
    let app = fleet.runs("app", &Spec::new("app").replicas(2)).await;
    let ids: Vec<_> = app.instances.iter().map(|i| i.id).collect();
    let before = fleet.containers().unwrap();
    let host = fleet.bed.host(1).clone();

    host.engine_kill();
    fleet.api.node_is("h1", "engine_unreachable").await;
    until("the engine's facts are unknown, and not what they were", seconds(10), async || {
        let facts = fleet.api.node("h1").await?.facts;
        ensure!(facts.engine_version.is_none(), "{facts:?}");
        Ok(())
    })
    .await;
    let waits = fleet.api.deploy(&Spec::new("waits")).await;
    stays("nothing is concluded from its silence", seconds(5), async || {
        is_stale(&fleet.api.deployment("app").await?)?;
        // The agent itself is there.
        let node = fleet.api.node("h1").await?;
        let silent = node.last_seen_at.map(|at| (chrono::Utc::now() - at).num_seconds());
        ensure!(node.state == "engine_unreachable" && silent.is_some_and(|s| s < 6), "{node:?}");
        Ok(())
    })
    .await;
    let pending = fleet.api.deployment("waits").await.unwrap().pending.unwrap();
    let why = pending["rejected"][0]["reason"].as_str().unwrap();
    assert!(why.contains("engine_unreachable"), "{pending}");
    both_sides_are_killed(&mut fleet).await;

    host.engine_start();
    fleet.api.node_is("h1", "ready").await;
    until("the engine's facts are known again", seconds(10), async || {
        let facts = fleet.api.node("h1").await?.facts;
        ensure!(facts.engine_version.is_some(), "{facts:?}");
        Ok(())
    })
    .await;
    fleet.api.succeeds(waits).await;
    let waits = fleet.api.delete("waits").await;
    fleet.api.succeeds(waits).await;
    // Such an engine ends what ran before it; the agent starts it again.
    until("both run again", seconds(30), async || {
        let app = fleet.api.deployment("app").await?;
        let well = |i: &system_tests::views::Instance| {
            i.state == "running" && i.presence == "fresh" && i.attempt == 2
        };
        ensure!(app.healthy == 2 && app.instances.iter().all(well), "{app:?}");
        Ok(())
    })
    .await;
    fleet.nothing_is_doubled(&ids);
    let after = fleet.containers().unwrap();
    for ((_, before), (_, after)) in before.iter().zip(&after) {
        assert_eq!(after.id, before.id, "it was made anew");
        assert!(after.is_running());
    }
    fleet.deletes("app").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_comes_back_with_its_containers_running_has_none_restarted() {
    let fleet = Fleet::of(1).await;
    let app = fleet.runs("app", &Spec::web("app").replicas(2)).await;
    let before = fleet.containers().unwrap();
    let host = fleet.bed.host(1);
    let port = app.instances[0].host_port(80).unwrap();

    host.engine_kill();
    fleet.api.node_is("h1", "engine_unreachable").await;
    is_stale(&fleet.api.deployment("app").await.unwrap()).unwrap();
    // What is asked of it meanwhile is done when it can be.
    let restart = fleet.api.ask(app.instances[1].id, "restart").await;
    host.engine_start_keeping_containers();
    fleet.api.node_is("h1", "ready").await;
    fleet.api.succeeds(restart).await;

    let one = app.instances[0].id;
    let kept = |all: &[(String, system_tests::docker::Container)]| {
        all.iter().find(|(_, container)| container.instance == one).unwrap().1.clone()
    };
    assert_eq!(kept(&fleet.containers().unwrap()), kept(&before));
    let attempts: Vec<_> =
        fleet.api.deployment("app").await.unwrap().instances.iter().map(|i| i.attempt).collect();
    assert_eq!(attempts, [1, 2]);
    until("its port still answers", seconds(10), async || host.http_get(port).await).await;
    fleet.deletes("app").await;
}

/// Agent and controller that start while the engine is away conclude nothing either.
async fn both_sides_are_killed(fleet: &mut Fleet) {
    fleet.agents[0].kill();
    fleet.controller.kill();
    fleet.agents[0].start();
    fleet.controller.start().await;
    let since = chrono::Utc::now();
    until("the agent has said that its engine is away", seconds(60), async || {
        let node = fleet.api.node("h1").await?;
        ensure!(node.state == "engine_unreachable" && node.last_seen_at > Some(since), "{node:?}");
        Ok(())
    })
    .await;
    stays("nothing is concluded", seconds(3), async || is_stale(&fleet.api.deployment("app").await?)).await;
}
