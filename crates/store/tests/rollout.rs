//! Revisions, rollouts, lost nodes: what requests and passes do to the rows.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on fails where it stands"
)]

use std::{collections::BTreeMap, time::Duration};

use chrono::TimeDelta;
use domain::{
    Timestamp,
    deployment::{DeploymentSpec, InstanceSpec},
    id::{DeploymentId, FleetId, NodeId, OperationId, ProjectId, ReportStreamId},
    instance::{Cause, Desired, FailureReason, Health, InstanceStatus, Outcome, Phase, Progress, Report},
    name::{Labels, Name},
    node::{NodeFacts, NodeState},
    operation::{OperationKind, Verdict},
};
use store::{
    Refusal, Store, StoreError,
    audit::Actor,
    deployment::{
        DeploymentKey, DeploymentNew,
        revision::{RevisionNew, Template},
        rollout::RolloutRequest,
    },
    fleet::FleetRow,
    instance::Instance,
    node::NodeEnrol,
    testing::{TestDatabase, database},
};
use uuid::Uuid;

fn actor() -> Actor {
    Actor { name: "tester".into(), ..Actor::system() }
}

struct Node {
    id: NodeId,
    stream: ReportStreamId,
    seq: u64,
}

/// Nodes whose agents do what a test says.
struct Fleet {
    db: TestDatabase,
    nodes: Vec<Node>,
    silent: BTreeMap<NodeId, Timestamp>,
}

fn spec(image: &str, replicas: u32) -> DeploymentSpec {
    DeploymentSpec { replicas, ..DeploymentSpec::of_instance(InstanceSpec::of_image(image)) }
}

impl Fleet {
    async fn new(count: u8) -> Self {
        let db = database().await;
        let (store, lifetime) = (&db.store, Duration::from_secs(60));
        let fleet = FleetRow::new(FleetId::from_uuid(Uuid::now_v7()), vec![1], vec![1], vec![1], vec![1]);
        store.fleet_found(fleet).await.unwrap();
        let facts = NodeFacts { cpu_millis: 4000, memory_bytes: 8 << 30, ..NodeFacts::default() };
        let mut nodes = Vec::new();
        store
            .enrolment_token_insert(
                Uuid::now_v7(),
                b"t",
                &Labels::new(),
                (u32::from(count), lifetime),
                &actor(),
            )
            .await
            .unwrap();
        for number in 0..count {
            let enrol = NodeEnrol {
                id: Uuid::now_v7().into(),
                token_sha256: b"t",
                key_sha256: &[number],
                name: &Name::parse(format!("n{number}").as_str()).unwrap(),
                facts: &facts,
                address: None,
            };
            let id = store.node_enrol(&enrol).await.unwrap().id;
            let stream = Uuid::now_v7().into();
            store.node_session_begin(id, &facts, stream).await.unwrap();
            store.node_state_set(id, NodeState::Ready, chrono::Utc::now()).await.unwrap();
            nodes.push(Node { id, stream, seq: 0 });
        }
        Self { db, nodes, silent: BTreeMap::new() }
    }

    fn store(&self) -> &Store {
        &self.db.store
    }

    async fn pass(&self) {
        self.store().orchestrate(&self.silent).await.unwrap();
    }

    async fn create(&mut self, image: &str, replicas: u32) -> DeploymentId {
        let new = DeploymentNew {
            project_id: ProjectId::DEFAULT,
            id: Uuid::now_v7().into(),
            name: "web".into(),
            spec: spec(image, replicas),
            operation_id: Uuid::now_v7().into(),
            idempotency: None,
        };
        self.store().deployment_create(&new, &actor()).await.unwrap();
        self.settle(new.id).await;
        assert_eq!(self.verdict(new.operation_id).await, Some(Verdict::Succeeded));
        new.id
    }

    async fn revise(
        &self,
        deployment: DeploymentId,
        spec: &DeploymentSpec,
        edit: impl FnOnce(&mut RevisionNew<'_>),
    ) -> Result<OperationId, StoreError> {
        let mut new = RevisionNew {
            deployment,
            spec,
            kind: OperationKind::DeploymentUpdate,
            operation_id: Uuid::now_v7().into(),
            cause: "a test".into(),
            expected: None,
            supersede: false,
            template: Template::Found,
        };
        edit(&mut new);
        self.store().deployment_revise(&new, &actor()).await
    }

    async fn instances(&self, id: DeploymentId) -> Vec<Instance> {
        self.store().instance_list_of(&[id]).await.unwrap()
    }

    async fn report(&mut self, instance: &Instance, edit: impl FnOnce(&mut InstanceStatus)) {
        let node = self.nodes.iter_mut().find(|node| node.id == instance.node_id).unwrap();
        node.seq += 1;
        let mut status = InstanceStatus::FIRST;
        edit(&mut status);
        let report = Report {
            seq: node.seq,
            instance_id: instance.id,
            status,
            cause: Cause::Assigned,
            message: "as the test says".into(),
            at: chrono::Utc::now(),
        };
        let (id, stream) = (node.id, node.stream);
        self.store().reports_apply(id, stream, &[report]).await.unwrap();
    }

    /// One pass, and every agent that is heard of does what it is told.
    async fn step(&mut self, id: DeploymentId) {
        self.pass().await;
        for instance in self.instances(id).await {
            if self.silent.contains_key(&instance.node_id) {
                continue;
            }
            let status = &instance.status;
            let failing = instance.status.outcome.is_some();
            if instance.desired == Desired::Removed {
                let phase = Phase::Ended;
                self.report(&instance, |s| s.progress = Progress { attempt: 1, phase, removed: true }).await;
            } else if status.health != Health::Healthy && !failing && !self.is_bad(&instance).await {
                let phase = Phase::Running;
                self.report(&instance, |s| {
                    s.progress = Progress { attempt: 1, phase, removed: false };
                    s.health = Health::Healthy;
                })
                .await;
            } else if !failing && self.is_bad(&instance).await {
                self.report(&instance, |s| {
                    s.progress = Progress { attempt: 1, phase: Phase::Ended, removed: false };
                    s.outcome = Some(Outcome::failed(FailureReason::ImageNotFound, "no such image"));
                })
                .await;
            }
        }
    }

    /// Whether its image cannot be had.
    async fn is_bad(&self, instance: &Instance) -> bool {
        let revision = self.store().revision_fetch(instance.deployment_id, instance.revision).await;
        revision.unwrap().unwrap().spec.instance.image == "bad:1"
    }

    async fn settle(&mut self, id: DeploymentId) {
        for _ in 0..20 {
            self.step(id).await;
        }
    }

    async fn verdict(&self, operation: OperationId) -> Option<Verdict> {
        self.store().operation_fetch(operation).await.unwrap().unwrap().verdict
    }

    async fn kept(&self, id: DeploymentId) -> Vec<(u32, NodeId)> {
        let kept = self.instances(id).await.into_iter().filter(|i| i.desired != Desired::Removed);
        kept.map(|i| (i.revision, i.node_id)).collect()
    }

    async fn lose(&mut self, node: usize, seconds: i64) {
        let (id, now) = (self.nodes[node].id, chrono::Utc::now());
        self.store().node_state_set(id, NodeState::Unreachable, now).await.unwrap();
        let silent_since = now - TimeDelta::seconds(seconds);
        self.silent.insert(id, silent_since);
        let last = format!(
            "update nodes set last_seen_at = date_trunc('second', timestamptz '{}') where id = '{}'",
            silent_since.to_rfc3339(),
            id.uuid()
        );
        self.db.execute(&last).await;
    }

    async fn find(&mut self, node: usize) {
        let id = self.nodes[node].id;
        self.silent.remove(&id);
        self.store().node_state_set(id, NodeState::Ready, chrono::Utc::now()).await.unwrap();
    }

    async fn kinds(&self, like: &str) -> Vec<String> {
        let query = format!(
            "select kind || ' ' || coalesce(cause, '') from events where kind like '{like}' order by id"
        );
        self.db.texts(&query).await
    }
}

fn refusal<T: std::fmt::Debug>(result: Result<T, StoreError>) -> Refusal {
    match result.unwrap_err() {
        StoreError::Refused(refusal) => refusal,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_replaces_copies_one_by_one_and_never_has_fewer_that_work() {
    let mut fleet = Fleet::new(3).await;
    let id = fleet.create("app:1", 2).await;
    let operation = fleet.revise(id, &spec("app:2", 2), |_| {}).await.unwrap();
    for _ in 0..12 {
        fleet.step(id).await;
        let working = fleet
            .instances(id)
            .await
            .into_iter()
            .filter(|i| i.desired == Desired::Running && i.status.health == Health::Healthy);
        assert!(working.count() >= 2);
    }
    assert_eq!(fleet.verdict(operation).await, Some(Verdict::Succeeded));
    assert!(fleet.kept(id).await.iter().all(|(revision, _)| *revision == 2));
    let row = "select revision || ' ' || stable_revision from deployments";
    assert_eq!(fleet.db.texts(row).await, ["2 2"]);
    assert_eq!(fleet.kinds("instance_retired").await, ["instance_retired new_revision"; 2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_that_fails_leaves_the_old_copies_and_goes_back_to_their_revision() {
    let mut fleet = Fleet::new(2).await;
    let id = fleet.create("app:1", 2).await;
    let before: Vec<_> = fleet.instances(id).await.iter().map(|i| i.id).collect();
    let operation = fleet.revise(id, &spec("bad:1", 2), |_| {}).await.unwrap();
    fleet.settle(id).await;
    assert_eq!(fleet.verdict(operation).await, Some(Verdict::FailedKeptOld));
    let after: Vec<_> = fleet.instances(id).await.iter().map(|i| i.id).collect();
    assert_eq!(after, before, "they are the same copies");
    let revisions = fleet.store().revision_list(id, None, 10).await.unwrap();
    let numbers: Vec<_> = revisions.iter().map(|r| (r.number, r.template)).collect();
    assert_eq!(numbers, [(3, 1), (2, 2), (1, 1)]);
    assert!(revisions[0].cause.contains("image_not_found"), "{}", revisions[0].cause);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_that_fails_after_it_replaced_something_is_rolled_back() {
    let mut fleet = Fleet::new(3).await;
    let id = fleet.create("app:1", 2).await;
    let operation = fleet.revise(id, &spec("app:2", 2), |_| {}).await.unwrap();
    while fleet.db.texts("select replaced from operations where kind = 'deployment_update'").await == ["0"] {
        fleet.step(id).await;
    }
    // The second new copy never comes up.
    fleet.pass().await;
    let second = fleet.instances(id).await.into_iter().rfind(|i| i.revision == 2).unwrap();
    fleet
        .report(&second, |s| {
            s.progress = Progress { attempt: 1, phase: Phase::Ended, removed: false };
            s.outcome = Some(Outcome::failed(FailureReason::NameTaken, "taken"));
        })
        .await;
    fleet.pass().await;
    assert_eq!(fleet.verdict(operation).await, None, "it is not back yet");
    fleet.settle(id).await;
    assert_eq!(fleet.verdict(operation).await, Some(Verdict::RolledBack));
    let templates = "select distinct r.template from instances i join revisions r \
        on r.deployment_id = i.deployment_id and r.number = i.revision where i.desired = 'running'";
    assert_eq!(fleet.db.texts(templates).await, ["1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_auto_rollback_a_failed_update_is_halted_until_a_new_one() {
    let mut fleet = Fleet::new(2).await;
    let id = fleet.create("app:1", 1).await;
    let mut bad = spec("bad:1", 1);
    bad.update.auto_rollback = false;
    let operation = fleet.revise(id, &bad, |_| {}).await.unwrap();
    fleet.settle(id).await;
    assert_eq!(fleet.verdict(operation).await, Some(Verdict::FailedKeptOld));
    assert_eq!(fleet.kept(id).await.len(), 2, "the old one and the new one");
    let paused = fleet.store().deployment_fetch(&DeploymentKey::Id(id)).await.unwrap().unwrap().paused;
    assert!(paused.is_some());
    fleet.revise(id, &spec("app:3", 1), |_| {}).await.unwrap();
    fleet.settle(id).await;
    assert_eq!(fleet.kept(id).await.iter().map(|(revision, _)| *revision).collect::<Vec<_>>(), [3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_operation_at_a_time_and_a_newer_one_supersedes_only_on_request() {
    let mut fleet = Fleet::new(1).await;
    let id = fleet.create("app:1", 1).await;
    let first = fleet.revise(id, &spec("app:2", 1), |_| {}).await.unwrap();
    assert_eq!(refusal(fleet.revise(id, &spec("app:3", 1), |_| {}).await), Refusal::InProgress(first));
    assert_eq!(
        refusal(fleet.revise(id, &spec("app:3", 1), |new| new.expected = Some(1)).await),
        Refusal::RevisionChanged(2)
    );
    let second = fleet.revise(id, &spec("app:3", 1), |new| new.supersede = true).await.unwrap();
    assert_eq!(fleet.verdict(first).await, Some(Verdict::Cancelled));
    fleet.settle(id).await;
    assert_eq!(fleet.verdict(second).await, Some(Verdict::Succeeded));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_updates_of_one_revision_that_come_together_one_wins() {
    let mut fleet = Fleet::new(1).await;
    let id = fleet.create("app:1", 1).await;
    let (two, three) = (spec("app:2", 1), spec("app:3", 1));
    let based = |new: &mut RevisionNew<'_>| {
        new.expected = Some(1);
        new.supersede = true;
    };
    let (first, second) = tokio::join!(fleet.revise(id, &two, based), fleet.revise(id, &three, based));
    assert_eq!([first, second].iter().filter(|r| r.is_ok()).count(), 1);
    assert_eq!(fleet.db.texts("select count(*) from revisions").await, ["2"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scale_replaces_no_copy_and_a_new_template_replaces_all() {
    let mut fleet = Fleet::new(2).await;
    let id = fleet.create("app:1", 1).await;
    let first = fleet.instances(id).await[0].id;
    fleet.revise(id, &spec("app:1", 2), |new| new.kind = OperationKind::DeploymentScale).await.unwrap();
    fleet.settle(id).await;
    let both = fleet.instances(id).await;
    assert!(both.len() == 2 && both.iter().any(|i| i.id == first));
    let same = spec("app:1", 2);
    let operation = fleet.revise(id, &same, |new| new.template = Template::New).await.unwrap();
    fleet.settle(id).await;
    assert_eq!(fleet.verdict(operation).await, Some(Verdict::Succeeded));
    assert!(fleet.instances(id).await.iter().all(|i| !both.iter().any(|old| old.id == i.id)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollout_that_is_paused_stands_and_one_that_is_cancelled_goes_back() {
    let mut fleet = Fleet::new(2).await;
    let id = fleet.create("app:1", 1).await;
    let ask = async |fleet: &Fleet, request| fleet.store().rollout_request(id, request, &actor()).await;
    assert!(matches!(refusal(ask(&fleet, RolloutRequest::Pause).await), Refusal::NothingUnderWay(_)));
    let operation = fleet.revise(id, &spec("app:2", 1), |_| {}).await.unwrap();
    ask(&fleet, RolloutRequest::Pause).await.unwrap();
    fleet.settle(id).await;
    assert_eq!(fleet.kept(id).await.iter().map(|(r, _)| *r).collect::<Vec<_>>(), [1]);
    ask(&fleet, RolloutRequest::Resume).await.unwrap();
    fleet.pass().await;
    assert_eq!(fleet.kept(id).await.len(), 2);
    ask(&fleet, RolloutRequest::Cancel).await.unwrap();
    assert_eq!(fleet.verdict(operation).await, Some(Verdict::Cancelled));
    fleet.settle(id).await;
    assert_eq!(fleet.kept(id).await.iter().map(|(r, _)| *r).collect::<Vec<_>>(), [1]);
    let deployment = fleet.store().deployment_fetch(&DeploymentKey::Id(id)).await.unwrap().unwrap();
    assert_eq!((deployment.revision, deployment.spec.instance.image.as_str()), (3, "app:1"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_on_a_lost_node_are_replaced_and_the_extra_one_goes_with_the_pass_that_sees_it_back() {
    let mut fleet = Fleet::new(3).await;
    let id = fleet.create("app:1", 1).await;
    let first = fleet.instances(id).await.remove(0);
    let home = fleet.nodes.iter().position(|node| node.id == first.node_id).unwrap();
    fleet.lose(home, 9).await;
    let due = fleet.store().orchestrate(&fleet.silent).await.unwrap().due.unwrap();
    let since = fleet.silent[&first.node_id];
    assert_eq!(due, since + TimeDelta::seconds(10), "it is looked at again at that moment");
    assert_eq!(fleet.instances(id).await.len(), 1);
    fleet.lose(home, 10).await;
    fleet.settle(id).await;
    let two = fleet.instances(id).await;
    assert_eq!(two.iter().filter(|i| i.replaces == Some(first.id)).count(), 1);
    fleet.find(home).await;
    fleet.pass().await;
    let kept = fleet.kept(id).await;
    assert!(kept.len() == 1 && kept[0].1 != first.node_id, "the newest stays");
    assert_eq!(
        fleet.kinds("instance_%d").await.iter().filter(|k| k.contains("node")).collect::<Vec<_>>(),
        ["instance_placed node_lost", "instance_retired node_back"]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_on_a_node_that_another_controller_hears_are_not_replaced() {
    let mut fleet = Fleet::new(2).await;
    let id = fleet.create("app:1", 1).await;
    fleet.settle(id).await;
    let first = fleet.instances(id).await.remove(0);
    let home = fleet.nodes.iter().position(|node| node.id == first.node_id).unwrap();
    fleet.lose(home, 60).await;
    let heard = |seconds| [(first.node_id, chrono::Utc::now() - TimeDelta::seconds(seconds))];
    fleet.store().node_seen(&heard(5)).await.unwrap();
    fleet.pass().await;
    assert_eq!(fleet.instances(id).await.len(), 1);
    // Silent to both for long enough.
    fleet
        .db
        .execute("update nodes set last_seen_at = now() - interval '11 s' where last_seen_at is not null")
        .await;
    fleet.pass().await;
    assert_eq!(fleet.instances(id).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fenced_copy_is_told_to_go_with_the_transaction_that_replaces_it() {
    let mut fleet = Fleet::new(2).await;
    let id = fleet.create("app:1", 1).await;
    let mut fenced = spec("app:1", 1);
    fenced.instance.stop_after_seconds = Some(30);
    fenced.disconnect = domain::disconnect::Disconnect::default_for(&fenced.instance);
    fleet.revise(id, &fenced, |_| {}).await.unwrap();
    fleet.settle(id).await;
    let first = fleet.instances(id).await.remove(0);
    let home = fleet.nodes.iter().position(|node| node.id == first.node_id).unwrap();
    fleet.lose(home, 55).await;
    fleet.pass().await;
    assert_eq!(fleet.kept(id).await.len(), 1, "its lease may not be over");
    fleet.lose(home, 61).await;
    fleet.pass().await;
    let set = fleet.store().assignment_set_fetch(first.node_id).await.unwrap();
    assert_eq!(set.assignments[&first.id].desired, Desired::Removed, "before it hears anything else");
    let kept = fleet.kept(id).await;
    assert!(kept.len() == 1 && kept[0].1 != first.node_id);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mass_loss_pauses_replacement_with_one_event_until_nodes_are_back() {
    let mut fleet = Fleet::new(3).await;
    let id = fleet.create("app:1", 3).await;
    fleet.lose(0, 60).await;
    fleet.lose(1, 60).await;
    for _ in 0..3 {
        fleet.pass().await;
    }
    assert_eq!(fleet.instances(id).await.len(), 3);
    assert_eq!(fleet.kinds("replacement_%").await, ["replacement_paused "]);
    fleet.find(0).await;
    fleet.pass().await;
    assert_eq!(fleet.kinds("replacement_%").await, ["replacement_paused ", "replacement_resumed "]);
    assert_eq!(fleet.instances(id).await.len(), 4, "one of three is no mass loss");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_preview_says_what_would_happen_and_changes_nothing() {
    let mut fleet = Fleet::new(2).await;
    let id = fleet.create("app:1", 1).await;
    let counts = "select (select count(*) from revisions) || ' ' || (select count(*) from instances) || ' ' || \
        (select count(*) from operations) || ' ' || (select count(*) from events)";
    let before = fleet.db.texts(counts).await;
    let update = fleet.store().deployment_preview(Some(id), &spec("app:2", 2), &()).await.unwrap();
    assert_eq!((update.revision, update.foreseen.made.len(), update.foreseen.removed.len()), (2, 2, 1));
    let scale = fleet.store().deployment_preview(Some(id), &spec("app:1", 2), &()).await.unwrap();
    assert_eq!((scale.foreseen.made.len(), scale.foreseen.left.len()), (1, 1));
    let new = fleet.store().deployment_preview(None, &spec("app:1", 2), &()).await.unwrap();
    assert_eq!((new.revision, new.foreseen.made.len()), (1, 2));
    assert_eq!(fleet.db.texts(counts).await, before);
}
