//! `kill -9` of agents and controller at every step of a deployment's life, in
//! every order. Nothing is restarted by it, nothing doubled, and every operation
//! ends with the true verdict.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use system_tests::{
    docker::Container,
    fleet::Fleet,
    proxy::{Link, Proxy, Target},
    spec::Spec,
    views::Instance,
    wait::{seconds, stays, until},
};
use uuid::Uuid;

use self::Side::{Agents, Controller};

#[derive(Clone, Copy)]
enum Side {
    Agents,
    Controller,
}

/// Who is killed, and who is started again, in that order.
struct Order {
    kill: &'static [Side],
    start: &'static [Side],
}

struct Rig {
    fleet: Fleet,
    order: Order,
    /// Between the engines and the registry.
    registry: Proxy,
}

impl Rig {
    async fn new(order: Order) -> Self {
        let fleet = Fleet::of(2).await;
        let pushed = fleet.bed.push();
        let (registry, _) = pushed.split_once('/').unwrap();
        let listen = format!("{}:0", fleet.bed.gateway);
        let registry = Proxy::start(&listen, Target::Tcp(registry.to_owned())).await;
        Self { fleet, order, registry }
    }

    async fn crash(&mut self) {
        for side in self.order.kill {
            match side {
                Agents => self.fleet.agents.iter_mut().for_each(|agent| agent.kill()),
                Controller => self.fleet.controller.kill(),
            }
        }
        for side in self.order.start {
            match side {
                Agents => self.fleet.agents.iter_mut().for_each(|agent| agent.start()),
                Controller => self.fleet.controller.start().await,
            }
        }
    }

    /// Waits until every agent has been heard of since now.
    async fn settles(&mut self) {
        let since = chrono::Utc::now();
        for agent in &mut self.fleet.agents {
            let (api, name) = (&self.fleet.api, agent.name().to_owned());
            until(&format!("node {name} is back"), seconds(60), async || {
                agent.process_mut().check()?;
                let node = api.node(&name).await?;
                ensure!(node.state == "ready" && node.last_seen_at > Some(since), "{node:?}");
                Ok(())
            })
            .await;
        }
    }

    async fn instances(&self) -> Result<Vec<Instance>> {
        Ok(self.fleet.api.deployment("app").await?.instances)
    }

    async fn all_are(&self, state: &str) {
        until(&format!("both are {state}"), seconds(30), async || {
            let instances = self.instances().await?;
            let states: Vec<_> = instances.iter().map(|i| i.state.as_str()).collect();
            ensure!(states == [state, state], "{states:?}");
            Ok(())
        })
        .await;
    }

    fn containers(&self) -> Vec<Container> {
        self.fleet.containers().unwrap().into_iter().map(|(_, container)| container).collect()
    }

    fn container(&self, instance: Uuid) -> Container {
        let mut of_it = self.containers().into_iter().filter(|c| c.instance == instance);
        of_it.next().unwrap()
    }

    /// No transition was told twice, and none was left out of the count of attempts.
    async fn nothing_was_told_twice(&self, ids: &[Uuid]) {
        for id in ids {
            let events = self.fleet.api.events(&format!("instance={id}")).await.unwrap();
            let told: BTreeSet<_> = events.iter().map(|e| (e.at, &e.kind, &e.message)).collect();
            assert_eq!(told.len(), events.len(), "{events:#?}");
        }
    }
}

impl Rig {
    fn spec(&self) -> Spec {
        let spec = Spec::new("app").image(&format!("{}/app:1", self.registry.address)).replicas(2);
        spec.set("stop_grace_seconds", 2).set("min_healthy_seconds", 2)
    }

    async fn ids(&self) -> Vec<Uuid> {
        self.instances().await.unwrap().iter().map(|instance| instance.id).collect()
    }
}

/// Killed when it was just declared; while the image is fetched; while it has to
/// prove itself; while nothing happens.
async fn comes_up(rig: &mut Rig) {
    rig.registry.set(Link::Held);
    let create = rig.fleet.api.deploy(&rig.spec()).await;
    rig.crash().await;
    rig.all_are("pulling").await;
    rig.crash().await;
    rig.all_are("pulling").await;
    rig.registry.set(Link::Up);
    rig.all_are("running").await;
    let begun = rig.containers();
    rig.crash().await;
    let created = rig.fleet.api.succeeds(create).await;
    assert_eq!((created.done, created.total), (2, 2));
    assert_eq!(rig.containers(), begun);

    rig.crash().await;
    rig.settles().await;
    stays("the containers run on", seconds(1), async || {
        ensure!(rig.containers() == begun, "{:?}", rig.containers());
        Ok(())
    })
    .await;
    let instances = rig.instances().await.unwrap();
    assert!(instances.iter().all(|i| i.attempt == 1 && i.state == "running"), "{instances:?}");
    let ids = rig.ids().await;
    rig.fleet.nothing_is_doubled(&ids);
    rig.nothing_was_told_twice(&ids).await;
}

/// Killed while one copy is restarted, stopped and started, and while all goes away.
async fn changes(rig: &mut Rig) {
    let ids = rig.ids().await;
    let (one, other) = (ids[0], ids[1]);
    let (before, untouched) = (rig.container(one), rig.container(other));
    restarted_once(rig, one, &before).await;
    stopped_and_started(rig, one, &before).await;
    assert_eq!(rig.container(other), untouched, "the other copy was not touched");
    rig.nothing_was_told_twice(&ids).await;

    let delete = rig.fleet.api.delete("app").await;
    rig.all_are("stopping").await;
    rig.crash().await;
    rig.fleet.api.succeeds(delete).await;
    rig.fleet.is_clean();
    rig.nothing_was_told_twice(&ids).await;
}

/// A restart that was asked for happens once, and not again after the crash.
async fn restarted_once(rig: &mut Rig, one: Uuid, before: &Container) {
    let restart = rig.fleet.api.ask(one, "restart").await;
    rig.fleet.api.instance_is(one, "stopping").await;
    rig.crash().await;
    rig.fleet.api.succeeds(restart).await;
    let restarted = rig.container(one);
    assert!(restarted.id == before.id && restarted.is_running() && restarted.started_at != before.started_at);
    rig.crash().await;
    rig.settles().await;
    assert_eq!(rig.container(one), restarted);
    assert_eq!(rig.fleet.api.instance(one).await.unwrap().attempt, 2);
}

async fn stopped_and_started(rig: &mut Rig, one: Uuid, before: &Container) {
    let stop = rig.fleet.api.ask(one, "stop").await;
    rig.fleet.api.instance_is(one, "stopping").await;
    rig.crash().await;
    rig.fleet.api.succeeds(stop).await;
    let stopped = rig.container(one);
    assert!(stopped.id == before.id && !stopped.is_running(), "{stopped:?}");

    let start = rig.fleet.api.ask(one, "start").await;
    rig.crash().await;
    rig.fleet.api.succeeds(start).await;
    let started = rig.container(one);
    assert!(started.id == before.id && started.is_running(), "{started:?}");
    assert_eq!(rig.fleet.api.instance(one).await.unwrap().attempt, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agents_killed_at_every_step_change_nothing() {
    let mut rig = Rig::new(Order { kill: &[Agents], start: &[Agents] }).await;
    comes_up(&mut rig).await;
    changes(&mut rig).await;
}

// In two tests, since agents dial a controller that comes and goes ever more rarely.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_killed_at_every_step_of_a_creation_changes_nothing() {
    let mut rig = Rig::new(Order { kill: &[Controller], start: &[Controller] }).await;
    comes_up(&mut rig).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_killed_at_every_step_of_restart_stop_start_and_deletion_changes_nothing() {
    let mut rig = Rig::new(Order { kill: &[Controller], start: &[Controller] }).await;
    rig.fleet.runs("app", &rig.spec()).await;
    changes(&mut rig).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agents_killed_before_the_controller_at_every_step_and_started_before_it_change_nothing() {
    let mut rig = Rig::new(Order { kill: &[Agents, Controller], start: &[Agents, Controller] }).await;
    comes_up(&mut rig).await;
    changes(&mut rig).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_killed_before_the_agents_at_every_step_and_started_before_them_changes_nothing() {
    let mut rig = Rig::new(Order { kill: &[Controller, Agents], start: &[Controller, Agents] }).await;
    comes_up(&mut rig).await;
    changes(&mut rig).await;
}
