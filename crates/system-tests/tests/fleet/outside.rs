//! Somebody else meddles with a container.

use std::time::{Duration, Instant};

use anyhow::ensure;
use system_tests::{
    docker::Container,
    fleet::Fleet,
    spec::Spec,
    testbed::Host,
    wait::{seconds, until},
};
use uuid::Uuid;

/// How soon a container that was killed has to run again.
const AT_ONCE: Duration = Duration::from_secs(2);

async fn again(host: &Host, instance: Uuid, before: &Container) -> Container {
    until("it runs again", seconds(20), async || {
        let now = host.running(instance)?;
        ensure!(now.started_at != before.started_at, "it still runs");
        Ok(now)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_killed_from_outside_runs_again_at_once_and_the_event_says_why() {
    let fleet = Fleet::of(1).await;
    let host = fleet.bed.host(1);
    let web = fleet.runs("web", &Spec::web("web")).await;
    let id = web.instances[0].id;
    let mut before = host.running(id).unwrap();
    // Not only the first time: a kill is nothing that the program is punished for.
    for round in 1..=5 {
        let killed_at = chrono::Utc::now();
        let killed = Instant::now();
        host.docker(&["kill", &before.id]).unwrap();
        let now = again(host, id, &before).await;
        let took = killed.elapsed();
        assert!(took < AT_ONCE, "round {round}: it took {took:?}");
        assert_eq!(now.id, before.id);
        let event = fleet.api.event(id, "instance_exited", "outside_signal_9").await;
        assert!(event.message.contains("SIGKILL"), "{event:?}");
        assert!((event.at - killed_at).num_milliseconds().abs() < 2000, "{event:?}, killed at {killed_at}");
        until("the controller knows", seconds(10), async || {
            let instance = fleet.api.instance(id).await?;
            ensure!(instance.attempt == round + 1 && instance.state == "running", "{instance:?}");
            Ok(())
        })
        .await;
        before = now;
    }
    let events = fleet.api.events(&format!("instance={id}")).await.unwrap();
    let kills = events.iter().filter(|e| e.cause.as_deref() == Some("outside_signal_9")).count();
    assert_eq!(kills, 5, "one event for each: {events:#?}");
    let web = fleet.api.deployment("web").await.unwrap();
    let port = web.instances[0].host_port(80).unwrap();
    until("the port that is told now answers", seconds(10), async || host.http_get(port).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_stopped_or_removed_from_outside_comes_back_and_a_program_that_ends_is_told_apart() {
    let fleet = Fleet::of(1).await;
    let host = fleet.bed.host(1);
    let app = fleet.runs("app", &Spec::new("app")).await;
    let id = app.instances[0].id;
    let first = host.running(id).unwrap();

    host.docker(&["stop", "-t", "0", &first.id]).unwrap();
    let second = again(host, id, &first).await;

    host.docker(&["rm", "-f", &second.id]).unwrap();
    let third = again(host, id, &second).await;
    assert_ne!(third.id, second.id, "a new one was made");
    until("the controller knows", seconds(10), async || {
        let instance = fleet.api.instance(id).await?;
        ensure!(instance.container_id.as_deref() == Some(third.id.as_str()), "{instance:?}");
        ensure!(instance.attempt == 3 && instance.state == "running", "{instance:?}");
        Ok(())
    })
    .await;
    fleet.nothing_is_doubled(&[id]);

    // From inside it is nobody's signal.
    let pid = host.inspect(&third, "{{.State.Pid}}").unwrap();
    let killed = std::process::Command::new("kill").args(["-KILL", &pid]).status().unwrap();
    assert!(killed.success());
    again(host, id, &third).await;
    let event = fleet.api.event(id, "instance_exited", "process").await;
    assert!(event.message.contains("137") || event.message.contains("SIGKILL"), "{event:?}");
    fleet.deletes("app").await;
}
