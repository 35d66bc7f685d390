//! The disk that an agent keeps its files on is full, or read-only. Containers are
//! kept alive, the node stays in touch, and what happened is told in the end.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, ensure};
use chrono::{DateTime, Utc};
use serde_json::json;
use system_tests::{
    agent::Agent,
    docker::Container,
    fleet::Fleet,
    spec::Spec,
    testbed::Host,
    wait::{seconds, stays, until},
};
use uuid::Uuid;

/// A small file system of its own, taken away at the end.
struct Disk(PathBuf);

impl Disk {
    fn new(path: PathBuf) -> Self {
        fs::create_dir(&path).unwrap();
        let disk = Self(path);
        disk.mount(&["-t", "tmpfs", "-o", "size=2m,mode=700", "tmpfs"]);
        disk
    }

    fn mount(&self, arguments: &[&str]) {
        let done = Command::new("mount").args(arguments).arg(&self.0).output().unwrap();
        assert!(done.status.success(), "mount {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }

    /// Leaves no room at all.
    fn fill(&self) {
        assert!(fs::write(self.filler(), vec![0; 4 << 20]).is_err(), "it took more than it has");
    }

    fn clear(&self) {
        fs::remove_file(self.filler()).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// A fleet whose one agent keeps its files on a disk of their own.
async fn fleet_on(disk: impl Fn(&Path) -> Disk) -> (Fleet, Disk) {
    let mut fleet = Fleet::without_nodes(1).await;
    let disk = disk(fleet.scratch.path());
    let token = fleet.enrolment_token(&json!({"uses": 1})).await;
    let mut agent = Agent::new(fleet.bed.host(1), fleet.scratch.path());
    assert_eq!(agent.data_dir(), disk.0);
    agent.enrol(fleet.controller.agent_url(), &token).await;
    agent.start();
    fleet.agents.push(agent);
    fleet.all_ready().await;
    (fleet, disk)
}

/// Somebody kills a container, and it runs again.
async fn survives_a_kill(host: &Host, instance: Uuid) -> (Container, DateTime<Utc>) {
    let before = host.running(instance).unwrap();
    host.docker(&["kill", &before.id]).unwrap();
    let at = Utc::now();
    let after = until("it runs again", seconds(20), async || {
        let now = host.running(instance)?;
        ensure!(now.started_at != before.started_at && now.id == before.id, "{now:?}");
        Ok(now)
    })
    .await;
    (after, at)
}

fn said(fleet: &mut Fleet, what: &str) -> usize {
    fleet.agents[0].process_mut().log().matches(what).count()
}

async fn is_ready(fleet: &Fleet) -> Result<()> {
    let node = fleet.api.node("h1").await?;
    let silent = node.last_seen_at.map(|at| (Utc::now() - at).num_seconds());
    ensure!(node.state == "ready" && silent.is_some_and(|s| s < 6), "{node:?}");
    Ok(())
}

/// Each of these ends was told, at its own time.
async fn all_is_told(fleet: &Fleet, instance: Uuid, ends: &[DateTime<Utc>]) {
    let told = until("all ends are told", seconds(60), async || {
        let events = fleet.api.events(&format!("instance={instance}")).await?;
        let told: Vec<_> = events.iter().filter(|e| e.kind == "instance_exited").map(|e| e.at).collect();
        ensure!(told.len() == ends.len(), "{events:#?}");
        Ok(told)
    })
    .await;
    for (told, end) in told.iter().zip(ends) {
        assert!((*told - *end).num_milliseconds().abs() < 2000, "{told} is not {end}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_costs_no_container_and_no_contact_and_what_happened_is_told_later() {
    let (mut fleet, disk) = fleet_on(|dir| Disk::new(dir.join("h1"))).await;
    let app = fleet.runs("app", &Spec::new("app")).await.instances[0].id;
    let host = fleet.bed.host(1).clone();
    disk.fill();

    let (_, first) = survives_a_kill(&host, app).await;
    let later = fleet.api.deploy(&Spec::new("later")).await;
    stays("the node is there", seconds(15), async || is_ready(&fleet).await).await;
    assert_eq!(host.containers().unwrap().len(), 1, "nothing is begun that is not on disk first");
    assert_eq!(said(&mut fleet, "ledger cannot be written"), 1, "said once");
    assert_eq!(said(&mut fleet, "session with the controller"), 1, "one session, all the time");

    disk.clear();
    fleet.api.succeeds(later).await;
    all_is_told(&fleet, app, &[first]).await;
    assert_eq!(said(&mut fleet, "ledger is written again"), 1);
    for name in ["app", "later"] {
        let delete = fleet.api.delete(name).await;
        fleet.api.succeeds(delete).await;
    }
    fleet.is_clean();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_starts_on_a_read_only_disk_and_keeps_its_containers_alive() {
    let (mut fleet, disk) = fleet_on(|dir| Disk::new(dir.join("h1"))).await;
    let app = fleet.runs("app", &Spec::new("app")).await.instances[0].id;
    let host = fleet.bed.host(1).clone();
    let untouched = host.running(app).unwrap();
    fleet.agents[0].kill();
    disk.mount(&["-o", "remount,ro"]);
    let since = Utc::now();
    fleet.agents[0].start();

    until("the node is back", seconds(60), async || {
        let node = fleet.api.node("h1").await?;
        ensure!(node.state == "ready" && node.last_seen_at > Some(since), "{node:?}");
        Ok(())
    })
    .await;
    assert_eq!(host.running(app).unwrap(), untouched, "its start restarted nothing");
    let (_, first) = survives_a_kill(&host, app).await;
    stays("the node is there", seconds(8), async || is_ready(&fleet).await).await;
    assert_eq!(said(&mut fleet, "the ledger can be read and not written"), 1, "said once");
    assert_eq!(said(&mut fleet, "ledger cannot be written"), 0, "and not in other words");

    disk.mount(&["-o", "remount,rw"]);
    all_is_told(&fleet, app, &[first]).await;
    assert_eq!(fleet.api.instance(app).await.unwrap().attempt, 2);
    fleet.deletes("app").await;
}
