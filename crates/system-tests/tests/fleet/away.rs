//! One side is away for a while, and the other goes on.

use std::{path::Path, time::Duration};

use anyhow::ensure;
use chrono::{DateTime, Utc};
use system_tests::{
    docker::Container,
    fleet::Fleet,
    spec::Spec,
    testbed::Host,
    views::Event,
    wait::{seconds, stays, until},
};
use uuid::Uuid;

/// Longer than a node may be silent, and than most back-offs.
const AWAY: Duration = Duration::from_secs(20);

/// Kills a container as somebody at the host would; gives when that was.
fn kill(host: &Host, instance: Uuid) -> (Container, DateTime<Utc>) {
    let container = host.running(instance).unwrap();
    host.docker(&["kill", &container.id]).unwrap();
    (container, Utc::now())
}

async fn runs_again(host: &Host, killed: &Container) -> Container {
    until("it runs again", seconds(10), async || {
        let now = host.running(killed.instance)?;
        ensure!(now.started_at != killed.started_at && now.id == killed.id, "{now:?}");
        Ok(now)
    })
    .await
}

/// Both kinds of times of an event are right.
fn happened(event: &Event, at: DateTime<Utc>, learnt_after: DateTime<Utc>) {
    assert!((event.at - at).num_milliseconds().abs() < 2000, "at {at}: {event:?}");
    assert!(event.recorded_at >= learnt_after, "after {learnt_after}: {event:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_controller_is_away_agents_keep_containers_alive_and_report_it_with_true_times() {
    let mut fleet = Fleet::of(2).await;
    let web = fleet.runs("web", &Spec::web("web").replicas(2)).await;
    let of = |node: &str| web.instances.iter().find(|i| i.node == node).unwrap().id;
    let (one, two) = (of("h1"), of("h2"));
    fleet.controller.kill();

    let (host1, host2) = (fleet.bed.host(1).clone(), fleet.bed.host(2).clone());
    let untouched = host2.running(two).unwrap();
    let (killed, first_at) = kill(&host1, one);
    let mut now = runs_again(&host1, &killed).await;
    stays("everything runs on", AWAY, async || {
        host1.running(one)?;
        ensure!(host2.running(two)? == untouched, "it was restarted");
        Ok(())
    })
    .await;
    // An agent that starts while the controller is away knows from its disk what to do.
    fleet.agent("h1").kill();
    fleet.agent("h1").start();
    let (killed, second_at) = kill(&host1, one);
    assert_eq!(killed, now, "the start of the agent restarted it");
    now = runs_again(&host1, &killed).await;

    let back_at = Utc::now();
    fleet.controller.start().await;
    fleet.all_ready().await;
    until("the controller knows of both", seconds(60), async || {
        let instance = fleet.api.instance(one).await?;
        ensure!(instance.attempt == 3 && instance.state == "running", "{instance:?}");
        Ok(())
    })
    .await;
    let events = fleet.api.events(&format!("instance={one}")).await.unwrap();
    let ends: Vec<_> = events.iter().filter(|event| event.kind == "instance_exited").collect();
    assert_eq!(ends.len(), 2, "{events:#?}");
    happened(ends[0], first_at, back_at);
    happened(ends[1], second_at, back_at);
    assert_eq!(ends[0].cause.as_deref(), Some("outside_signal_9"));
    assert_eq!(fleet.api.instance(two).await.unwrap().attempt, 1);
    assert_eq!(host1.running(one).unwrap(), now);
    assert_eq!(host2.running(two).unwrap(), untouched);
    fleet.nothing_is_doubled(&[one, two]);
    fleet.deletes("web").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_happens_while_an_agent_is_away_is_mended_and_told_when_it_is_back() {
    let mut fleet = Fleet::of(1).await;
    let app = fleet.runs("app", &Spec::new("app").replicas(3)).await;
    let [killed, removed, quiet] = [0, 1, 2].map(|n| app.instances[n].id);
    let host = fleet.bed.host(1).clone();
    fleet.agents[0].kill();

    let (victim, at) = kill(&host, killed);
    let gone = host.running(removed).unwrap();
    host.docker(&["rm", "-f", &gone.id]).unwrap();
    let untouched = host.running(quiet).unwrap();
    fleet.api.node_is("h1", "unreachable").await;
    let seen = fleet.api.instance(quiet).await.unwrap();
    assert_eq!((seen.state.as_str(), seen.presence.as_str()), ("running", "lost"), "as last seen");
    let back_at = Utc::now();
    fleet.agents[0].start();

    runs_again(&host, &victim).await;
    let anew = until("a new container was made", seconds(10), async || host.running(removed)).await;
    assert_ne!(anew.id, gone.id);
    let event = until("the end is told", seconds(30), async || {
        let events = fleet.api.events(&format!("instance={killed}")).await?;
        let found = events.iter().find(|event| event.kind == "instance_exited").cloned();
        found.ok_or_else(|| anyhow::anyhow!("{events:?}"))
    })
    .await;
    happened(&event, at, back_at);
    fleet.all_ready().await;
    until("all is well", seconds(30), async || {
        let app = fleet.api.deployment("app").await?;
        ensure!(app.healthy == 3 && app.instances.iter().all(|i| i.presence == "fresh"), "{app:?}");
        Ok(())
    })
    .await;
    assert_eq!(host.running(quiet).unwrap(), untouched);
    fleet.nothing_is_doubled(&[killed, removed, quiet]);
}

/// Puts an agent's files aside, or back.
fn copy(from: &Path, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    let copied = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(copied.success());
}

/// An agent with other files than it had restarts nothing, and what it says from
/// then on is news and not taken for old.
async fn goes_on(fleet: &mut Fleet, id: Uuid, change_files: impl FnOnce(&Path)) {
    let host = fleet.bed.host(1).clone();
    let before = fleet.containers().unwrap();
    fleet.agents[0].kill();
    change_files(fleet.agents[0].data_dir());
    let since = Utc::now();
    fleet.agents[0].start();
    until("the node is back", seconds(30), async || {
        let node = fleet.api.node("h1").await?;
        ensure!(node.state == "ready" && node.last_seen_at > Some(since), "{node:?}");
        Ok(())
    })
    .await;
    stays("nothing is restarted", seconds(3), async || {
        let now = fleet.containers()?;
        ensure!(now == before, "{now:?}, and before: {before:?}");
        Ok(())
    })
    .await;

    let (killed, at) = kill(&host, id);
    runs_again(&host, &killed).await;
    until("the controller hears of it", seconds(20), async || {
        let events = fleet.api.events(&format!("instance={id}")).await?;
        let recent = |e: &&Event| e.kind == "instance_exited" && (e.at - at).num_seconds().abs() < 2;
        ensure!(events.iter().filter(recent).count() == 1, "{events:#?}");
        let instance = fleet.api.instance(id).await?;
        // A numbering that begins anew may begin below what was told before.
        ensure!(instance.state == "running" && instance.started_at > Some(at), "at {at}: {instance:?}");
        Ok(())
    })
    .await;
    // A stop that has begun may take as long as a grace that is not known.
    stays("nothing else is restarted", seconds(8), async || {
        for (_, before) in before.iter().filter(|(_, container)| container.instance != id) {
            ensure!(host.container(before.instance)? == *before, "{before:?}");
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_whose_files_went_back_in_time_or_were_lost_restarts_nothing_and_is_heard() {
    let mut fleet = Fleet::of(1).await;
    let app = fleet.runs("app", &Spec::new("app")).await;
    let id = app.instances[0].id;
    let host = fleet.bed.host(1).clone();
    let older = fleet.scratch.path().join("older");
    copy(fleet.agents[0].data_dir(), &older);
    let (killed, _) = kill(&host, id);
    runs_again(&host, &killed).await;
    let later = fleet.runs("later", &Spec::new("later")).await.instances.remove(0).id;
    goes_on(&mut fleet, id, |files| copy(&older, files)).await;

    let restart = fleet.api.ask(id, "restart").await;
    fleet.api.succeeds(restart).await;
    goes_on(&mut fleet, id, |files| std::fs::remove_dir_all(files.join("ledger")).unwrap()).await;
    fleet.nothing_is_doubled(&[id, later]);
    for name in ["app", "later"] {
        let operation = fleet.api.delete(name).await;
        fleet.api.succeeds(operation).await;
    }
    fleet.is_clean();
}
