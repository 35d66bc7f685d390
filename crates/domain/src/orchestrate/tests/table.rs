//! What the plan says about one deployment as it stands.

use super::*;
use crate::{
    deployment::{PortSpec, Transport},
    node::NodeState,
    spec::Volume,
    update::{Strategy, UpdatePolicy},
};

/// Three nodes and one deployment, which is at revision 2.
struct Scene(World);

impl Scene {
    fn new(replicas: u32) -> Self {
        let deployment = DeploymentView {
            id: deployment_id(1),
            revision: 2,
            template: 2,
            spec: Arc::new(DeploymentSpec { replicas, ..spec(100, 100) }),
            deleting: false,
            paused: false,
        };
        Self(World {
            deployments: vec![deployment],
            instances: Vec::new(),
            nodes: (1..=3).map(|id| candidate(id, 1000, 1000)).collect(),
            tolerance: Tolerance { mass_loss_percent: None },
            now: seconds(100),
        })
    }

    fn spec(mut self, edit: impl Fn(&mut DeploymentSpec)) -> Self {
        edit(Arc::make_mut(&mut self.0.deployments[0].spec));
        for instance in &mut self.0.instances {
            edit(Arc::make_mut(&mut instance.spec));
        }
        self
    }

    /// With a healthy copy of a revision on a node; its id counts from 1.
    fn copy(mut self, revision: u32, node: u8) -> Self {
        let mut status = InstanceStatus::FIRST;
        healthy(&mut status);
        let instance = InstanceView {
            id: instance_id(self.0.instances.len() as u128 + 1),
            deployment_id: deployment_id(1),
            node_id: node_id(node),
            revision,
            template: revision,
            spec: self.0.deployments[0].spec.clone(),
            desired: Desired::Running,
            status,
            replaces: None,
        };
        self.0.nodes[usize::from(node) - 1].take(instance.deployment_id, &instance.spec);
        self.0.instances.push(instance);
        self
    }

    fn starting(mut self) -> Self {
        self.0.instances.last_mut().unwrap().status = InstanceStatus::FIRST;
        self
    }

    fn replacing(mut self, other: u128) -> Self {
        self.0.instances.last_mut().unwrap().replaces = Some(instance_id(other));
        self
    }

    fn going(mut self) -> Self {
        self.0.instances.last_mut().unwrap().desired = Desired::Removed;
        self
    }

    fn node(mut self, node: u8, edit: impl FnOnce(&mut Candidate)) -> Self {
        edit(&mut self.0.nodes[usize::from(node) - 1]);
        self
    }

    fn silent(self, node: u8, since: i64) -> Self {
        self.node(node, |n| {
            n.state = NodeState::Unreachable;
            n.silent_since = Some(seconds(since));
        })
    }

    fn paused(mut self) -> Self {
        self.0.deployments[0].paused = true;
        self
    }

    /// The plan in short: `+2 new_revision`, `-1 surplus`, `?1` for what waits.
    fn plan(&self) -> Vec<String> {
        let short = |change: Change| match change {
            Change::Place { revision, reason, replaces, .. } => {
                let instead = replaces.map_or(String::new(), |id| format!(" for {}", id.uuid().as_u128()));
                format!("+{revision} {}{instead}", reason.as_str())
            }
            Change::Pend { lacking, .. } => format!("?{lacking}"),
            Change::Remove { instance_id, reason } => {
                format!("-{} {}", instance_id.uuid().as_u128(), reason.as_str())
            }
            Change::Release { instance_id } => format!("x{}", instance_id.uuid().as_u128()),
            Change::Finish { .. } => "finish".to_owned(),
        };
        plan(&self.0).changes.into_iter().map(short).collect()
    }
}

const NOTHING: [&str; 0] = [];

#[test]
fn an_old_copy_goes_only_when_a_new_one_is_healthy() {
    let two = || Scene::new(2).copy(1, 1).copy(1, 2);
    assert_eq!(two().plan(), ["+2 new_revision"], "one more than replicas");
    assert_eq!(two().copy(2, 3).starting().plan(), NOTHING);
    assert_eq!(two().copy(2, 3).plan(), ["-2 new_revision"]);
    let last = Scene::new(2).copy(1, 1).copy(2, 2);
    assert_eq!(last.plan(), ["+2 new_revision"]);
    assert_eq!(Scene::new(2).copy(1, 1).copy(2, 2).copy(2, 3).plan(), ["-1 new_revision"]);
    assert_eq!(Scene::new(2).copy(2, 2).copy(2, 3).plan(), NOTHING);
}

#[test]
fn a_new_copy_on_a_node_that_is_not_heard_of_is_not_counted_on() {
    let scene = Scene::new(1).copy(1, 1).copy(2, 2).silent(2, 99);
    assert_eq!(scene.plan(), NOTHING);
    let engine = Scene::new(1).copy(1, 1).copy(2, 2).node(2, |n| n.state = NodeState::EngineUnreachable);
    assert_eq!(engine.plan(), NOTHING);
}

#[test]
fn more_surge_brings_more_new_copies_at_once() {
    let surge = |max_surge| {
        Scene::new(3).copy(1, 1).copy(1, 2).copy(1, 3).spec(move |s| s.update.max_surge = max_surge)
    };
    assert_eq!(surge(2).plan(), ["+2 new_revision", "+2 new_revision"]);
    assert_eq!(surge(9).plan().len(), 3);
}

#[test]
fn without_surge_old_copies_go_first_and_no_more_than_may_be_missing() {
    let scene = || {
        Scene::new(3).copy(1, 1).copy(1, 2).copy(1, 3).spec(|s| {
            s.update = UpdatePolicy { max_surge: 0, max_unavailable: 2, ..UpdatePolicy::default() };
        })
    };
    assert_eq!(scene().plan(), ["-3 makes_room", "-2 makes_room"]);
    let broken = scene();
    let mut broken = broken;
    broken.0.instances[0].status = InstanceStatus::FIRST;
    assert_eq!(broken.plan(), ["-1 makes_room", "-3 makes_room"], "one does not serve anyhow");
}

fn port(spec: &mut DeploymentSpec) {
    spec.instance.ports =
        vec![PortSpec { container_port: 80, host_port: Some(80), transport: Transport::Tcp }];
}

#[test]
fn a_fixed_host_port_that_is_in_the_way_makes_it_stop_first() {
    let two = || {
        let mut scene = Scene::new(2).spec(port).copy(1, 1).copy(1, 2);
        scene.0.nodes.truncate(2);
        scene
    };
    assert_eq!(two().plan(), ["-2 makes_room"], "one at a time, whatever max_unavailable says");
    let gone = {
        let mut scene = Scene::new(2).spec(port).copy(1, 1).copy(1, 2).going();
        scene.0.nodes.truncate(2);
        scene
    };
    assert_eq!(gone.plan(), NOTHING, "its port is not free yet, and no other may be missing");
    let free = Scene::new(2).spec(port).copy(1, 1).copy(1, 2);
    assert_eq!(free.plan(), ["+2 new_revision"], "there is a node without");
}

#[test]
fn a_port_that_somebody_else_holds_frees_nothing_by_stopping_a_copy() {
    let mut scene = Scene::new(1).copy(1, 1).spec(port);
    Arc::make_mut(&mut scene.0.instances[0].spec).instance.ports.clear();
    for node in &mut scene.0.nodes {
        node.host_ports.insert((Transport::Tcp, 80));
    }
    assert_eq!(scene.plan(), ["?1"]);
}

#[test]
fn nodes_without_room_make_it_stop_first_only_where_copies_may_be_missing() {
    let full = || {
        let mut scene = Scene::new(1).copy(1, 1);
        scene.0.nodes.truncate(1);
        scene.node(1, |n| n.cpu_millis = 150)
    };
    assert_eq!(full().plan(), ["?1"]);
    assert_eq!(full().spec(|s| s.update.max_unavailable = 1).plan(), ["-1 makes_room"]);
}

#[test]
fn recreate_waits_until_nothing_old_is_left() {
    let recreate = |scene: Scene| scene.spec(|s| s.update.strategy = Strategy::Recreate);
    assert_eq!(recreate(Scene::new(2).copy(1, 1).copy(1, 2)).plan(), ["-1 new_revision", "-2 new_revision"]);
    assert_eq!(recreate(Scene::new(1).copy(1, 1).going()).plan(), NOTHING);
    assert_eq!(recreate(Scene::new(1)).plan(), ["+2 lacking"]);
}

#[test]
fn a_change_that_leaves_copies_alike_replaces_none() {
    let mut scene = Scene::new(3).copy(1, 1).copy(1, 2);
    scene.0.deployments[0].template = 1;
    assert_eq!(scene.plan(), ["+2 lacking"]);
    let mut scene = Scene::new(1).copy(1, 1).copy(1, 2);
    scene.0.deployments[0].template = 1;
    assert_eq!(scene.plan(), ["-2 surplus"]);
}

#[test]
fn a_halted_rollout_replaces_nothing_but_what_is_lost_and_that_as_it_was() {
    let half = || Scene::new(2).copy(1, 1).copy(2, 2).paused();
    assert_eq!(half().plan(), NOTHING);
    assert_eq!(half().silent(1, 90).plan(), ["+1 node_lost for 1"]);
    assert_eq!(half().silent(2, 90).plan(), ["+2 node_lost for 2"]);
}

#[test]
fn a_copy_is_replaced_at_its_moment_and_the_plan_knows_when_that_is() {
    let silent = |since| Scene::new(1).copy(2, 1).silent(1, since);
    assert_eq!(silent(91).plan(), NOTHING);
    assert_eq!(plan(&silent(91).0).due, Some(seconds(101)));
    assert_eq!(silent(90).plan(), ["+2 node_lost for 1"]);
    assert_eq!(plan(&silent(90).0).due, None);
    let never = silent(0).spec(|s| s.disconnect.replace_after_seconds = None);
    assert_eq!((never.plan(), plan(&never.0).due), (vec![], None));
}

#[test]
fn silence_of_which_nobody_can_be_certain_replaces_nothing() {
    let unsure = Scene::new(1).copy(2, 1).node(1, |n| n.state = NodeState::Unreachable);
    assert_eq!(unsure.plan(), NOTHING);
    for state in [NodeState::Suspect, NodeState::EngineUnreachable, NodeState::Ready] {
        let scene = Scene::new(1).copy(2, 1).silent(1, 0).node(1, |n| n.state = state);
        assert_eq!(scene.plan(), NOTHING, "{state:?}");
    }
}

#[test]
fn of_two_copies_the_policy_says_which_one_stays_when_the_node_is_back() {
    let two = || Scene::new(1).copy(2, 1).copy(2, 2).replacing(1);
    assert_eq!(two().silent(1, 0).plan(), NOTHING, "the lost one is replaced already");
    assert_eq!(two().plan(), ["-1 node_back"]);
    let oldest = two().spec(|s| s.disconnect.keep = crate::disconnect::Keep::Oldest);
    assert_eq!(oldest.plan(), ["-2 node_back"]);
    let not_yet = Scene::new(1).copy(2, 1).copy(2, 2).replacing(1).starting();
    assert_eq!(not_yet.plan(), ["-2 node_back"], "the one that works stays");
}

#[test]
fn one_that_was_stopped_or_has_run_to_its_end_is_not_started_elsewhere() {
    let mut stopped = Scene::new(1).copy(2, 1).silent(1, 0);
    stopped.0.instances[0].desired = Desired::Stopped;
    assert_eq!(stopped.plan(), NOTHING);
}

#[test]
fn a_fenced_copy_is_replaced_when_its_lease_is_surely_over_and_told_to_go_at_once() {
    let fenced =
        |since| Scene::new(1).copy(2, 1).silent(1, since).spec(|s| s.instance.stop_after_seconds = Some(30));
    // 30 s of lease and a thousandth, 10 s of grace, 20 s to be sure.
    assert_eq!(fenced(40).plan(), NOTHING);
    assert_eq!(fenced(39).plan(), ["+2 node_lost for 1", "-1 node_lost"]);
    let no_room = fenced(39).node(2, |n| n.cordoned = true).node(3, |n| n.cordoned = true);
    assert_eq!(no_room.plan(), ["?1"], "without another it may come back as it was");
}

#[test]
fn when_too_much_is_lost_at_once_nothing_is_replaced() {
    let mut scene = Scene::new(2).copy(2, 1).copy(2, 2).silent(1, 0).silent(2, 0);
    scene.0.tolerance = Tolerance::default();
    assert_eq!(scene.plan(), NOTHING);
    assert!(plan(&scene.0).replacement_paused.is_some());
    scene.0.tolerance.mass_loss_percent = None;
    assert_eq!(scene.plan().len(), 2);
}

#[test]
fn a_drained_node_is_left_start_first() {
    let drained = |scene: Scene| scene.node(1, |n| n.draining = true);
    assert_eq!(drained(Scene::new(1).copy(2, 1)).plan(), ["+2 drain"]);
    assert_eq!(drained(Scene::new(1).copy(2, 1).copy(2, 2).starting()).plan(), NOTHING);
    assert_eq!(drained(Scene::new(1).copy(2, 1).copy(2, 2)).plan(), ["-1 drain"]);
    let data = |s: &mut DeploymentSpec| {
        s.instance.volumes =
            vec![Volume::Named { target: "/data".into(), read_only: false, name: "data".into() }];
    };
    assert_eq!(drained(Scene::new(1).spec(data).copy(2, 1)).plan(), NOTHING, "its data is there");
}

#[test]
fn a_deployment_that_is_deleted_goes_and_is_then_finished() {
    let mut scene = Scene::new(2).copy(2, 1);
    scene.0.deployments[0].deleting = true;
    assert_eq!(scene.plan(), ["-1 deleting"]);
    scene.0.instances[0].desired = Desired::Removed;
    assert_eq!(scene.plan(), NOTHING);
    scene.0.instances[0].status.progress.removed = true;
    assert_eq!(scene.plan(), ["x1", "finish"]);
}

#[test]
fn an_instance_that_runs_is_kept_before_one_that_does_not() {
    let scene = Scene::new(1).copy(2, 1).starting().copy(2, 2);
    assert_eq!(scene.plan(), ["-1 surplus"]);
}

/// What is made and why, what goes and why, what is left, and how many lack.
type Foreseen = (Vec<Reason>, Vec<(u128, Reason)>, Vec<u128>, Option<u32>);

fn foreseen(scene: Scene) -> Foreseen {
    let mut next = 1000;
    let ids = || {
        next += 1;
        instance_id(next)
    };
    let foreseen = foresee::foresee(scene.0, deployment_id(1), ids);
    let number = |id: InstanceId| id.uuid().as_u128();
    (
        foreseen.made.into_iter().map(|made| made.reason).collect(),
        foreseen.removed.into_iter().map(|(id, reason)| (number(id), reason)).collect(),
        foreseen.left.into_iter().map(number).collect(),
        foreseen.pending.map(|(lacking, _)| lacking),
    )
}

#[test]
fn what_is_foreseen_is_where_the_plan_leads() {
    let update = Scene::new(2).copy(1, 1).copy(1, 2);
    let new = vec![Reason::NewRevision; 2];
    let (made, removed, left, pending) = foreseen(update);
    assert_eq!((made, left, pending), (new, vec![], None));
    assert_eq!(removed, [(2, Reason::NewRevision), (1, Reason::NewRevision)]);
    assert_eq!(foreseen(Scene::new(1).copy(2, 1)), (vec![], vec![], vec![1], None));
    let mut full = Scene::new(2).copy(2, 1);
    full.0.nodes.truncate(1);
    let full = full.node(1, |n| n.cpu_millis = 150);
    assert_eq!(foreseen(full), (vec![], vec![], vec![1], Some(1)));
    let mut ports = Scene::new(2).spec(port).copy(1, 1).copy(1, 2);
    ports.0.nodes.truncate(2);
    let (_, removed, ..) = foreseen(ports);
    assert_eq!(removed, [(2, Reason::MakesRoom), (1, Reason::MakesRoom)], "it says that it stops first");
}
