//! An agent that is stopped, killed and put in place of by a newer one, as its
//! containers and those who talk to them notice it: not at all.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use anyhow::ensure;
use chrono::{DateTime, Utc};
use system_tests::{
    fleet::Fleet,
    spec::Spec,
    wait::{note, seconds, until},
};
use uuid::Uuid;

/// What an agent may take to stop.
const STOP: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_is_upgraded_in_place_and_neither_containers_nor_their_connections_notice() {
    let mut fleet = Fleet::of(1).await;
    let web = fleet.runs("web", &Spec::web("web")).await;
    let quiet = fleet.runs("quiet", &Spec::new("quiet").replicas(2)).await;
    let host = fleet.bed.host(1).clone();
    let before = fleet.containers().unwrap();
    let pids = |fleet: &Fleet| -> Vec<String> {
        let all = fleet.containers().unwrap();
        all.iter().map(|(_, c)| fleet.bed.host(1).inspect(c, "{{.State.Pid}}").unwrap()).collect()
    };
    let processes = pids(&fleet);
    let port = web.instances[0].host_port(80).unwrap();
    // Opened before, used after: whoever talks to it is not cut off.
    let mut talk = TcpStream::connect((host.address.as_str(), port)).unwrap();
    talk.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    talk.write_all(b"GET / HTTP/1.0\r\n").unwrap();

    let told = events(&fleet).await;
    for killed in [false, true, false] {
        if killed {
            fleet.agents[0].kill();
        } else {
            assert!(fleet.agents[0].stop(STOP).await.success());
        }
        let since = Utc::now();
        fleet.agents[0].start();
        back(&mut fleet, since).await;
    }
    assert_eq!(fleet.containers().unwrap(), before);
    assert_eq!(pids(&fleet), processes);
    talk.write_all(b"\r\n").unwrap();
    let mut answer = String::new();
    talk.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.") && answer.contains("200 OK"), "{answer}");
    assert_eq!(events(&fleet).await, told, "nothing happened, so nothing is told");
    for name in ["web", "quiet"] {
        let now = fleet.api.deployment(name).await.unwrap();
        assert!(now.instances.iter().all(|i| i.attempt == 1 && i.state == "running"), "{now:?}");
    }
    assert_eq!(quiet.instances.len(), 2);
    let since = chrono::Utc::now();
    fleet.agents[0].stop(STOP).await;
    // What is asked of it meanwhile is done by the newer one.
    let restart = fleet.api.ask(web.instances[0].id, "restart").await;
    fleet.agents[0].start();
    back(&mut fleet, since).await;
    fleet.api.succeeds(restart).await;
    for name in ["web", "quiet"] {
        let delete = fleet.api.delete(name).await;
        fleet.api.succeeds(delete).await;
    }
    fleet.is_clean();
}

/// All that the timeline tells of instances.
async fn events(fleet: &Fleet) -> Vec<(DateTime<Utc>, String)> {
    let all = fleet.api.events("").await.unwrap();
    let of_instances = all.into_iter().filter(|event| event.kind.starts_with("instance"));
    of_instances.map(|event| (event.at, event.kind)).collect()
}

async fn back(fleet: &mut Fleet, since: DateTime<Utc>) {
    let Fleet { api, agents, .. } = fleet;
    let agent = &mut agents[0];
    until("the agent is back", seconds(60), async || {
        agent.process_mut().check()?;
        let node = api.node("h1").await?;
        ensure!(node.state == "ready" && node.last_seen_at > Some(since), "{node:?}");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_killed_in_the_midst_of_making_containers_makes_each_once() {
    let mut fleet = Fleet::of(1).await;
    for (round, at_least) in [1_usize, 3, 6].into_iter().enumerate() {
        let name = format!("app{round}");
        let create = fleet.api.deploy(&Spec::new(&name).replicas(8)).await;
        let host = fleet.bed.host(1).clone();
        let filter = ["ps", "-aq", "--filter", "label=automator67.instance"];
        until("some of them are made", seconds(60), async || {
            let made = host.docker(&filter)?.lines().count();
            ensure!(made >= at_least, "{made}");
            Ok(())
        })
        .await;
        fleet.agents[0].kill();
        note(&format!("killed with {} containers there", host.docker(&filter).unwrap().lines().count()));
        fleet.agents[0].start();
        fleet.api.succeeds(create).await;
        let app = fleet.api.deployment(&name).await.unwrap();
        let ids: Vec<Uuid> = app.instances.iter().map(|instance| instance.id).collect();
        assert_eq!(ids.len(), 8);
        fleet.nothing_is_doubled(&ids);
        assert!(app.instances.iter().all(|i| i.attempt == 1), "each runs for the first time: {app:?}");
        fleet.deletes(&name).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_death_is_seen_within_a_second_and_not_by_the_next_full_look() {
    const COPIES: usize = 7;
    let fleet = Fleet::of(1).await;
    let app = fleet.runs("app", &Spec::new("app").replicas(7)).await;
    let host = fleet.bed.host(1).clone();
    let mut took = Vec::new();
    for instance in app.instances.iter().map(|instance| instance.id) {
        let container = host.running(instance).unwrap();
        host.docker(&["kill", &container.id]).unwrap();
        let event = until("its end is told", seconds(20), async || {
            let events = fleet.api.events(&format!("instance={instance}")).await?;
            let end = events.into_iter().find(|event| event.kind == "instance_exited");
            end.ok_or_else(|| anyhow::anyhow!("not yet"))
        })
        .await;
        // From the end of its process, by the engine, to when the controller knew.
        took.push((event.recorded_at - event.at).num_milliseconds());
        until("it runs again", seconds(20), async || host.running(instance)).await;
    }
    took.sort_unstable();
    note(&format!("from the end of a process until the controller knew, in ms: {took:?}"));
    assert_eq!(took.len(), COPIES);
    assert!(took[0] >= 0 && took[COPIES / 2] < 1000, "half of them within a second: {took:?}");
    // A full look comes each 30 s: seven ends in a row that waited for it would not all be this soon.
    assert!(took[COPIES - 1] < 3000, "{took:?}");
    fleet.deletes("app").await;
}
