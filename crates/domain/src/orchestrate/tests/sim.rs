//! A fleet in which anything happens: links are cut, engines stop, the controller
//! forgets, users change their minds; and after every step the rules hold.
//!
//! The deciding code is the real one ([`plan`], [`presence::judge`],
//! [`presence::silent_since`]); time, agents and links are played. Each schedule comes
//! from a number, which a failure names; `A67_SIM_SEED` plays that one alone.

use std::collections::BTreeMap;

use super::*;
use crate::{
    deployment::Transport,
    disconnect::Disconnect,
    node::{EngineState, Heartbeat, NodeState},
    presence::{self, PresenceSettings},
    spec::PortSpec,
};

const SCHEDULES: u64 = 2000;
/// Seconds of trouble, and of peace afterwards.
const TROUBLE: i64 = 120;
const PEACE: i64 = 240;

/// The numbers of a seed (xorshift64*).
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % most
    }

    fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

/// A host: its link, its engine, and what its agent knows and runs.
struct Host {
    linked: bool,
    engine: bool,
    /// When its agent last had a word of the controller.
    word: i64,
    told: BTreeMap<InstanceId, Desired>,
    /// Since when containers live.
    alive: BTreeMap<InstanceId, i64>,
    gone: BTreeMap<InstanceId, bool>,
}

struct Fleet {
    dice: Dice,
    now: i64,
    world: World,
    hosts: BTreeMap<NodeId, Host>,
    heard: BTreeMap<NodeId, Timestamp>,
    listening_since: i64,
    next: u128,
    story: Vec<String>,
}

impl Fleet {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        let nodes: Vec<_> = (1..=3 + dice.below(3) as u8).map(|id| candidate(id, 1000, 1000)).collect();
        let host = |node: &Candidate| {
            let host = Host {
                linked: true,
                engine: true,
                word: 0,
                told: BTreeMap::new(),
                alive: BTreeMap::new(),
                gone: BTreeMap::new(),
            };
            (node.id, host)
        };
        let hosts = nodes.iter().map(host).collect();
        let deployments = (1..=2).map(|id| deployment(id, &mut dice)).collect();
        let tolerance = Tolerance { mass_loss_percent: dice.once_in(2).then_some(34) };
        let world = World { deployments, instances: Vec::new(), nodes, tolerance, now: seconds(0) };
        let heard = BTreeMap::new();
        Self { dice, now: 0, world, hosts, heard, listening_since: 0, next: 0, story: Vec::new() }
    }

    fn trouble(&mut self) {
        let which = self.dice.below(self.world.nodes.len() as u64) as usize;
        let node = self.world.nodes[which].id;
        let deployment = self.dice.below(2) as usize;
        let what = self.dice.below(9);
        self.story.push(format!("{}: {what} at node {which}, deployment {deployment}", self.now));
        let Some(host) = self.hosts.get_mut(&node) else { return };
        match what {
            0 | 1 => host.linked = !host.linked,
            2 => host.engine = !host.engine,
            3 => {
                self.heard.clear();
                self.listening_since = self.now;
            }
            4 | 5 => {
                let view = &mut self.world.deployments[deployment];
                view.revision += 1;
                view.template = view.revision;
            }
            6 => {
                let replicas = self.dice.below(4) as u32;
                let view = &mut self.world.deployments[deployment];
                Arc::make_mut(&mut view.spec).replicas = replicas;
                view.revision += 1;
            }
            7 => self.world.nodes[which].draining = !self.world.nodes[which].draining,
            _ => {
                let view = &mut self.world.deployments[deployment];
                view.paused = !view.paused;
            }
        }
    }

    fn peace(&mut self) {
        for host in self.hosts.values_mut() {
            (host.linked, host.engine) = (true, true);
        }
        self.world.nodes.iter_mut().for_each(|node| node.draining = false);
        self.world.deployments.iter_mut().for_each(|view| view.paused = false);
    }

    /// One second: agents, then the controller.
    fn tick(&mut self) {
        self.now += 1;
        self.world.now = seconds(self.now);
        for id in self.hosts.keys().copied().collect::<Vec<_>>() {
            self.agent(id);
        }
        self.controller();
    }

    fn agent(&mut self, id: NodeId) {
        let (now, fresh) = (self.now, self.now % 2 == 0);
        let Some(host) = self.hosts.get_mut(&id) else { return };
        let own = |i: &&mut InstanceView| i.node_id == id;
        if host.linked && fresh {
            // The complete set comes before the lease.
            host.told =
                self.world.instances.iter().filter(|i| i.node_id == id).map(|i| (i.id, i.desired)).collect();
            host.word = now;
            self.heard.insert(id, seconds(now));
        }
        let lease_over: Vec<InstanceId> = self
            .world
            .instances
            .iter()
            .filter(|i| i.node_id == id)
            .filter(|i| {
                // A program that does not listen uses all of its grace up.
                let most = i.spec.instance.stop_after().map(|most| most + i.spec.instance.stop_grace());
                most.is_some_and(|most| now - host.word > most.as_secs() as i64)
            })
            .map(|i| i.id)
            .collect();
        if host.engine {
            for (instance, desired) in &host.told {
                match desired {
                    Desired::Running if !lease_over.contains(instance) => {
                        host.alive.entry(*instance).or_insert(now);
                    }
                    Desired::Removed => {
                        host.alive.remove(instance);
                        host.gone.insert(*instance, true);
                    }
                    _ => drop(host.alive.remove(instance)),
                }
            }
            let told = &host.told;
            host.alive.retain(|instance, _| told.contains_key(instance));
        }
        if !host.linked {
            return;
        }
        for instance in self.world.instances.iter_mut().filter(own) {
            let status = &mut instance.status;
            match host.alive.get(&instance.id) {
                Some(since) if now - since >= 2 => healthy(status),
                Some(_) => status.progress.phase = status.progress.phase.max(Phase::Starting),
                None if host.gone.contains_key(&instance.id) => {
                    status.progress = Progress { attempt: 1, phase: Phase::Ended, removed: true };
                    status.health = Health::Unknown;
                }
                None => {}
            }
        }
    }

    fn controller(&mut self) {
        let settings = PresenceSettings::default();
        for node in &mut self.world.nodes {
            let engine =
                if self.hosts[&node.id].engine { EngineState::Reachable } else { EngineState::Unreachable };
            let last = self.heard.get(&node.id).copied();
            let beat = last.map(|received_at| Heartbeat { received_at, engine, assignment_revision: 0 });
            let (since, now) = (seconds(self.listening_since), seconds(self.now));
            let state = presence::judge(node.state, beat, since, now, &settings);
            if state != node.state {
                (node.state, node.state_since) = (state, now);
            }
            node.silent_since = presence::silent_since(last, since, now, &settings);
            let fresh = candidate(0, 1000, 1000);
            (node.reserved_cpu_millis, node.reserved_memory_bytes) = (0, 0);
            (node.host_ports, node.deployments) = (fresh.host_ports, fresh.deployments);
            let id = node.id;
            for instance in self.world.instances.iter().filter(|i| i.node_id == id) {
                node.take(instance.deployment_id, &instance.spec);
            }
        }
        let plan = plan(&self.world);
        self.keeps_what_serves(&plan);
        for change in plan.changes {
            self.carry_out(change);
        }
    }

    fn carry_out(&mut self, change: Change) {
        match change {
            Change::Place { deployment_id, revision, placement, replaces, .. } => {
                self.next += 1;
                let view = self.world.deployments.iter().find(|view| view.id == deployment_id).unwrap();
                let like = self
                    .world
                    .instances
                    .iter()
                    .find(|i| i.deployment_id == deployment_id && i.revision == revision);
                let (spec, template) = match like {
                    Some(like) if revision != view.revision => (like.spec.clone(), like.template),
                    _ => (view.spec.clone(), view.template),
                };
                self.world.instances.push(InstanceView {
                    id: instance_id(self.next),
                    deployment_id,
                    node_id: placement.node_id,
                    revision,
                    template,
                    spec,
                    desired: Desired::Running,
                    status: InstanceStatus::FIRST,
                    replaces,
                });
            }
            Change::Remove { instance_id, .. } => {
                self.world.instances.iter_mut().find(|i| i.id == instance_id).unwrap().desired =
                    Desired::Removed;
            }
            Change::Release { instance_id } => self.world.instances.retain(|i| i.id != instance_id),
            Change::Pend { .. } | Change::Finish { .. } => {}
        }
    }

    /// I8: what serves is taken away for a new copy only where as many as there shall be
    /// still serve then.
    fn keeps_what_serves(&self, plan: &Plan) {
        for view in &self.world.deployments {
            let heard = |i: &InstanceView| {
                let node = self.world.nodes.iter().find(|node| node.id == i.node_id).unwrap();
                matches!(node.state, NodeState::Ready | NodeState::Suspect)
            };
            let serves = |i: &&InstanceView| {
                let status = &i.status;
                i.deployment_id == view.id
                    && i.desired != Desired::Removed
                    && status.health == Health::Healthy
                    && heard(i)
            };
            let serving = self.world.instances.iter().filter(serves).count();
            let for_new = |change: &&Change| {
                let Change::Remove { instance_id, reason: Reason::NewRevision | Reason::Drain } = change
                else {
                    return false;
                };
                self.world.instances.iter().filter(serves).any(|i| i.id == *instance_id)
            };
            let taken = plan.changes.iter().filter(for_new).count();
            let wanted = view.spec.replicas as usize;
            assert!(
                taken == 0 || serving - taken >= wanted.min(serving),
                "I8: {taken} of {serving} that serve were taken away, and {wanted} are wanted"
            );
        }
    }

    fn check(&self) {
        for node in &self.world.nodes {
            let here = || self.world.instances.iter().filter(|i| i.node_id == node.id);
            let cpu: u64 = here().map(|i| u64::from(i.spec.reservation.cpu_millis)).sum();
            assert!(cpu <= node.cpu_millis, "capacity: {cpu} on {}", node.name);
            let ports: Vec<_> = here().flat_map(|i| i.spec.instance.fixed_host_ports()).collect();
            let different: std::collections::BTreeSet<_> = ports.iter().collect();
            assert_eq!(ports.len(), different.len(), "a host port was given twice on {}", node.name);
        }
        for (at, host) in &self.hosts {
            for id in host.alive.keys() {
                let elsewhere = self.hosts.iter().filter(|(other, _)| *other != at);
                assert!(elsewhere.into_iter().all(|(_, other)| !other.alive.contains_key(id)), "I1: {id}");
            }
        }
        // Where the engine does not answer, an agent can end nothing: that is the one
        // thing that a lease cannot see to, and the copy goes as soon as it answers.
        let alive = |id: InstanceId| self.hosts.values().any(|h| h.engine && h.alive.contains_key(&id));
        for instance in &self.world.instances {
            let Some(first) = instance.replaces else { continue };
            let fenced = instance.spec.instance.stop_after_seconds.is_some();
            assert!(!(fenced && alive(first) && alive(instance.id)), "I6: {first} and {}", instance.id);
        }
    }

    /// After peace, all is as declared and stays so.
    fn settled(&self) {
        assert!(plan(&self.world).changes.iter().all(|c| matches!(c, Change::Pend { .. })));
        for view in &self.world.deployments {
            let own = || self.world.instances.iter().filter(|i| i.deployment_id == view.id);
            assert!(own().all(|i| i.template == view.template), "old copies are left");
            let wanted = view.spec.replicas as usize;
            assert_eq!(own().filter(|i| i.status.health == Health::Healthy).count(), wanted);
        }
    }
}

/// Some have a fixed host port, some are fenced; what fits is always less than there is.
fn deployment(id: u8, dice: &mut Dice) -> DeploymentView {
    let mut spec = DeploymentSpec { replicas: 1 + dice.below(3) as u32, ..spec(150, 150) };
    if dice.once_in(3) {
        let port = 8000 + u16::from(id);
        spec.instance.ports =
            vec![PortSpec { container_port: 80, host_port: Some(port), transport: Transport::Tcp }];
    }
    if dice.once_in(2) {
        spec.instance.stop_after_seconds = Some(30);
        spec.instance.stop_grace_seconds = dice.below(20) as u32;
    }
    spec.disconnect = Disconnect::default_for(&spec.instance);
    assert_eq!(spec.validate(), Ok(()));
    let id = deployment_id(id);
    DeploymentView { id, revision: 1, template: 1, spec: Arc::new(spec), deleting: false, paused: false }
}

fn play(seed: u64) {
    let mut fleet = Fleet::new(seed);
    let story = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        for _ in 0..TROUBLE {
            if fleet.dice.once_in(4) {
                fleet.trouble();
            }
            fleet.tick();
            fleet.check();
        }
        fleet.peace();
        for _ in 0..PEACE {
            fleet.tick();
            fleet.check();
        }
        fleet.settled();
    }));
    if let Err(fault) = story {
        eprintln!(
            "seed {seed} at {} s; play it with A67_SIM_SEED={seed}:\n{}",
            fleet.now,
            fleet.story.join("\n")
        );
        std::panic::resume_unwind(fault);
    }
}

#[test]
fn whatever_happens_to_a_fleet_the_rules_hold_and_peace_brings_what_was_declared() {
    match std::env::var("A67_SIM_SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => play(seed),
        None => (1..=SCHEDULES).for_each(play),
    }
}

#[test]
fn a_seed_plays_the_same_each_time() {
    let told = |seed| {
        let mut fleet = Fleet::new(seed);
        for _ in 0..60 {
            fleet.trouble();
            fleet.tick();
        }
        (fleet.story, format!("{:?}", fleet.world.instances))
    };
    assert_eq!(told(7), told(7));
}
