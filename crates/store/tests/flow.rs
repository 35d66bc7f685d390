//! What requests, plans and reports do to the rows.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on fails where it stands"
)]

use std::time::Duration;

use domain::{
    Timestamp,
    assignment::Applied,
    deployment::{DeploymentSpec, InstanceSpec},
    id::{DeploymentId, InstanceId, NodeId, OperationId, ReportStreamId},
    instance::{Cause, Desired, FailureReason, Health, InstanceStatus, Outcome, Phase, Progress, Report},
    name::{Labels, Name},
    node::{NodeFacts, NodeHealth, NodeState},
    operation::Verdict,
    pull::{LayerProgress, PullProgress},
    sample::{DiskSample, HostSample},
};
use store::{
    Refusal, Store, StoreError,
    audit::Actor,
    deployment::{DeploymentKey, DeploymentNew, IdempotencyKey},
    event::EventFilter,
    instance::InstanceRequest,
    node::NodeEnrol,
    testing::{TestDatabase, database},
};
use uuid::Uuid;

fn actor() -> Actor {
    Actor { name: "tester".into(), ..Actor::system() }
}

fn facts() -> NodeFacts {
    NodeFacts { cpu_millis: 4000, memory_bytes: 8 << 30, ..NodeFacts::default() }
}

async fn token(store: &Store, uses: u32) -> Vec<u8> {
    let hash = Uuid::now_v7().as_bytes().to_vec();
    store
        .enrolment_token_insert(
            Uuid::now_v7(),
            &hash,
            &Labels::new(),
            (uses, Duration::from_secs(60)),
            &actor(),
        )
        .await
        .unwrap();
    hash
}

async fn enrol(
    store: &Store,
    token: &[u8],
    key: &[u8],
    name: &str,
) -> Result<store::node::Enrolled, StoreError> {
    let (name, facts) = (Name::parse(name).unwrap(), facts());
    let enrol = NodeEnrol {
        id: Uuid::now_v7().into(),
        token_sha256: token,
        key_sha256: key,
        name: &name,
        facts: &facts,
        address: None,
    };
    store.node_enrol(&enrol).await
}

struct Fleet {
    db: TestDatabase,
    node: NodeId,
    stream: ReportStreamId,
    seq: u64,
}

impl Fleet {
    async fn new() -> Self {
        let db = database().await;
        let token = token(&db.store, 1).await;
        let node = enrol(&db.store, &token, b"key", "n1").await.unwrap().id;
        let stream = Uuid::now_v7().into();
        db.store.node_session_begin(node, &facts(), stream).await.unwrap();
        db.store.node_state_set(node, NodeState::Ready, chrono::Utc::now()).await.unwrap();
        Self { db, node, stream, seq: 0 }
    }

    fn store(&self) -> &Store {
        &self.db.store
    }

    fn deployment(name: &str, replicas: u32) -> DeploymentNew {
        let instance = InstanceSpec::of_image("app:1");
        DeploymentNew {
            project_id: domain::id::ProjectId::DEFAULT,
            id: Uuid::now_v7().into(),
            name: name.into(),
            spec: DeploymentSpec {
                replicas,
                progress_deadline_seconds: 60,
                ..DeploymentSpec::of_instance(instance)
            },
            operation_id: Uuid::now_v7().into(),
            idempotency: None,
        }
    }

    async fn create(&self, name: &str, replicas: u32) -> (DeploymentId, OperationId) {
        let new = Self::deployment(name, replicas);
        let operation = self.store().deployment_create(&new, &actor()).await.unwrap();
        self.store().orchestrate(&()).await.unwrap();
        (new.id, operation)
    }

    fn report(
        &mut self,
        instance_id: InstanceId,
        phase: Phase,
        edit: impl FnOnce(&mut InstanceStatus),
    ) -> Report {
        self.seq += 1;
        let mut status = InstanceStatus {
            progress: Progress { attempt: 1, phase, removed: false },
            ..InstanceStatus::FIRST
        };
        edit(&mut status);
        Report {
            seq: self.seq,
            instance_id,
            status,
            cause: Cause::Assigned,
            message: format!("it is {}", phase.as_str()),
            at: chrono::Utc::now(),
        }
    }

    async fn apply(&self, reports: &[Report]) -> u64 {
        let seq = self.store().reports_apply(self.node, self.stream, reports).await.unwrap();
        self.store().orchestrate(&()).await.unwrap();
        seq
    }

    async fn verdict(&self, operation: OperationId) -> Option<Verdict> {
        self.store().operation_fetch(operation).await.unwrap().unwrap().verdict
    }
}

fn refusal<T: std::fmt::Debug>(result: Result<T, StoreError>) -> Refusal {
    match result.unwrap_err() {
        StoreError::Refused(refusal) => refusal,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_enrolment_token_is_used_up_once_however_many_hosts_come_together() {
    let db = database().await;
    let token = token(&db.store, 1).await;
    let keys: Vec<Vec<u8>> = (0u8..6).map(|n| vec![n]).collect();
    let results =
        futures_util::future::join_all(keys.iter().map(|key| enrol(&db.store, &token, key, "n1"))).await;
    assert_eq!(results.iter().filter(|r| r.is_ok()).count(), 1);
    assert!(
        results
            .into_iter()
            .filter(Result::is_err)
            .all(|r| refusal(r) == Refusal::TokenRefused("enrolment token"))
    );
    assert_eq!(db.texts("select name from nodes").await, ["n1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_enrolment_of_one_key_gives_the_same_node_and_uses_nothing_up() {
    let db = database().await;
    let token = token(&db.store, 1).await;
    let first = enrol(&db.store, &token, b"key", "n1").await.unwrap();
    let again = enrol(&db.store, &token, b"key", "n1").await.unwrap();
    assert_eq!((first.id, first.name), (again.id, again.name));
    assert_eq!(db.texts("select uses_left from enrolment_tokens").await, ["0"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_of_one_name_get_numbers() {
    let db = database().await;
    let token = token(&db.store, 3).await;
    for key in [b"1", b"2", b"3"] {
        enrol(&db.store, &token, key, "web").await.unwrap();
    }
    assert_eq!(db.texts("select name from nodes order by created_at").await, ["web", "web-2", "web-3"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_in_use_is_refused_and_nothing_of_the_second_is_left() {
    let fleet = Fleet::new().await;
    fleet.create("web", 1).await;
    let refused = refusal(fleet.store().deployment_create(&Fleet::deployment("web", 2), &actor()).await);
    assert_eq!(refused, Refusal::NameTaken("web".into()));
    for table in ["deployments", "revisions", "operations", "instances"] {
        assert_eq!(fleet.db.texts(&format!("select count(*) from {table}")).await, ["1"], "{table}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_idempotency_key_makes_one_deployment_and_another_request_under_it_is_refused() {
    let fleet = Fleet::new().await;
    let account = store::account::AccountNew {
        id: Uuid::now_v7().into(),
        name: "anna".into(),
        kind: "user",
        password_hash: Some("-".into()),
        email: None,
    };
    let account = fleet.store().account_insert(&account, "admin", &actor()).await.unwrap().id();
    let actor = Actor { account_id: Some(account), ..actor() };
    let with_key = |name: &str, hash: u8| DeploymentNew {
        project_id: domain::id::ProjectId::DEFAULT,
        idempotency: Some(IdempotencyKey { key: "k".into(), request_sha256: vec![hash] }),
        ..Fleet::deployment(name, 1)
    };
    let (a, b) = (with_key("web", 1), with_key("web", 1));
    let (first, second) = tokio::join!(
        fleet.store().deployment_create(&a, &actor),
        fleet.store().deployment_create(&b, &actor)
    );
    assert_eq!(first.unwrap(), second.unwrap());
    assert_eq!(
        refusal(fleet.store().deployment_create(&with_key("other", 2), &actor).await),
        Refusal::KeyReused
    );
    assert_eq!(fleet.db.texts("select name from deployments").await, ["web"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_is_placed_reported_judged_deleted_and_released() {
    let mut fleet = Fleet::new().await;
    let (deployment, create) = fleet.create("web", 2).await;
    let instances = fleet.store().instance_list_of(&[deployment]).await.unwrap();
    assert_eq!(instances.len(), 2);
    assert_eq!(fleet.verdict(create).await, None);
    let mut reports = Vec::new();
    for instance in &instances {
        reports.push(fleet.report(instance.id, Phase::Running, |s| s.health = Health::Healthy));
    }
    assert_eq!(fleet.apply(&reports).await, 2);
    assert_eq!(fleet.verdict(create).await, Some(Verdict::Succeeded));

    let key = DeploymentKey::Name("web".into());
    let delete = fleet.store().deployment_delete(&key, Uuid::now_v7().into(), &actor()).await.unwrap();
    let again = fleet.store().deployment_delete(&key, Uuid::now_v7().into(), &actor()).await.unwrap();
    assert_eq!(delete, again, "a second request is answered by the operation under way");
    fleet.store().orchestrate(&()).await.unwrap();
    let set = fleet.store().assignment_set_fetch(fleet.node).await.unwrap();
    assert!(set.assignments.values().all(|a| a.desired == Desired::Removed) && set.assignments.len() == 2);
    assert_eq!(fleet.verdict(delete).await, None);

    let mut reports = Vec::new();
    for instance in &instances {
        reports.push(fleet.report(instance.id, Phase::Ended, |s| s.progress.removed = true));
    }
    fleet.apply(&reports).await;
    fleet.store().orchestrate(&()).await.unwrap();
    assert_eq!(fleet.verdict(delete).await, Some(Verdict::Succeeded));
    assert!(fleet.store().deployment_fetch(&key).await.unwrap().is_none());
    assert!(fleet.store().assignment_set_fetch(fleet.node).await.unwrap().assignments.is_empty());
    fleet.create("web", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reports_that_come_twice_or_late_change_nothing_and_make_no_second_event() {
    let mut fleet = Fleet::new().await;
    let (deployment, _) = fleet.create("web", 1).await;
    let instance = fleet.store().instance_list_of(&[deployment]).await.unwrap()[0].id;
    let running = fleet.report(instance, Phase::Running, |_| {});
    let healthy = fleet.report(instance, Phase::Running, |s| s.health = Health::Healthy);
    assert_eq!(fleet.apply(&[running.clone(), healthy.clone()]).await, 2);
    assert_eq!(fleet.apply(&[running.clone(), healthy]).await, 2);
    // A ledger restored from a backup counts on, but knows less.
    let older = Report { seq: 3, ..fleet.report(instance, Phase::Pulling, |_| {}) };
    assert_eq!(fleet.apply(&[older]).await, 3);
    let status = fleet.store().instance_fetch(instance).await.unwrap().unwrap().status;
    assert_eq!((status.progress.phase, status.health), (Phase::Running, Health::Healthy));
    let filter = EventFilter { instance_id: Some(instance), ..EventFilter::default() };
    let kinds: Vec<_> = fleet
        .store()
        .event_list_page(&store::caller::Visible::All, &filter, None, 50)
        .await
        .unwrap()
        .items
        .into_iter()
        .map(|e| e.kind)
        .collect();
    assert_eq!(kinds, ["instance_pulling", "instance_healthy", "instance_running", "instance_placed"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_about_another_nodes_instance_is_passed_over() {
    let mut fleet = Fleet::new().await;
    let (deployment, _) = fleet.create("web", 1).await;
    let instance = fleet.store().instance_list_of(&[deployment]).await.unwrap()[0].id;
    let token = token(fleet.store(), 1).await;
    let other = enrol(fleet.store(), &token, b"other", "n2").await.unwrap().id;
    let stream = Uuid::now_v7().into();
    fleet.store().node_session_begin(other, &facts(), stream).await.unwrap();
    let lie = fleet.report(instance, Phase::Ended, |_| {});
    assert_eq!(fleet.store().reports_apply(other, stream, &[lie]).await.unwrap(), 1);
    let status = fleet.store().instance_fetch(instance).await.unwrap().unwrap().status;
    assert_eq!(status, InstanceStatus::FIRST);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_with_a_nul_in_its_texts_is_taken_over_and_holds_nothing_up() {
    let mut fleet = Fleet::new().await;
    let (deployment, _) = fleet.create("web", 1).await;
    let instance = fleet.store().instance_list_of(&[deployment]).await.unwrap()[0].id;
    let mut failed = fleet.report(instance, Phase::Ended, |status| {
        status.outcome = Some(Outcome::failed(FailureReason::ImagePullFailed, "a\0b"));
    });
    failed.message = "the image could not be fetched: a\0b".into();
    assert_eq!(fleet.apply(&[failed]).await, 1);
    let status = fleet.store().instance_fetch(instance).await.unwrap().unwrap().status;
    let reason = FailureReason::ImagePullFailed;
    assert_eq!(status.outcome, Some(Outcome::failed(reason, "a\u{fffd}b")));
    let told = fleet.db.texts("select message from events where kind = 'instance_failed'").await;
    assert_eq!(told, ["the image could not be fetched: a\u{fffd}b"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reports_of_a_stream_that_is_no_longer_the_nodes_are_refused() {
    let mut fleet = Fleet::new().await;
    let (deployment, _) = fleet.create("web", 1).await;
    let instance = fleet.store().instance_list_of(&[deployment]).await.unwrap()[0].id;
    let report = fleet.report(instance, Phase::Running, |_| {});
    fleet.store().node_session_begin(fleet.node, &facts(), Uuid::now_v7().into()).await.unwrap();
    let refused = refusal(fleet.store().reports_apply(fleet.node, fleet.stream, &[report]).await);
    assert_eq!(refused, Refusal::Missing("report stream"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_report_of_a_new_ledger_is_believed_though_the_lost_one_had_come_further() {
    let mut fleet = Fleet::new().await;
    let (deployment, _) = fleet.create("web", 1).await;
    let instance = fleet.store().instance_list_of(&[deployment]).await.unwrap()[0].id;
    let far = fleet.report(instance, Phase::Running, |s| s.progress.attempt = 5);
    fleet.apply(&[far]).await;
    fleet.stream = Uuid::now_v7().into();
    fleet.seq = 0;
    fleet.store().node_session_begin(fleet.node, &facts(), fleet.stream).await.unwrap();
    let known = fleet.store().instance_fetch(instance).await.unwrap().unwrap().status;
    assert_eq!(known.progress.attempt, 5, "what is known stays until there is news");
    let first = fleet.report(instance, Phase::Running, |s| s.health = Health::Healthy);
    assert_eq!(fleet.apply(&[first]).await, 1);
    let known = fleet.store().instance_fetch(instance).await.unwrap().unwrap().status;
    assert_eq!((known.progress.attempt, known.health), (1, Health::Healthy));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_old_is_deleted_and_nothing_else() {
    let fleet = Fleet::new().await;
    fleet.create("web", 1).await;
    fleet.db.execute("insert into events (id, at, recorded_at, kind, severity, message) \
        select gen_random_uuid(), now(), now() - interval '31 days', 'x', 'info', '' from generate_series(1, 3)").await;
    let before = fleet.db.texts("select count(*) from events").await;
    assert_eq!(fleet.store().retention_apply().await.unwrap(), 3);
    assert_eq!(fleet.store().retention_apply().await.unwrap(), 0);
    let after = fleet.db.texts("select count(*) + 3 from events").await;
    assert_eq!(
        (before, fleet.db.texts("select count(*) from instances").await),
        (after, vec!["1".to_owned()])
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deltas_from_the_database_lead_to_its_complete_set() {
    let fleet = Fleet::new().await;
    let mut held = fleet.store().assignment_set_fetch(fleet.node).await.unwrap();
    let (deployment, _) = fleet.create("web", 3).await;
    let delta = fleet.store().assignment_delta_fetch(fleet.node, held.revision).await.unwrap();
    assert_eq!(held.apply(&delta), Applied::Yes);
    assert_eq!(held, fleet.store().assignment_set_fetch(fleet.node).await.unwrap());
    let instance = fleet.store().instance_list_of(&[deployment]).await.unwrap()[0].id;
    fleet
        .store()
        .instance_request(instance, InstanceRequest::Restart, Uuid::now_v7().into(), &actor())
        .await
        .unwrap();
    let delta = fleet.store().assignment_delta_fetch(fleet.node, held.revision).await.unwrap();
    assert_eq!(delta.upserts.len(), 1);
    assert_eq!(held.apply(&delta), Applied::Yes);
    assert_eq!(held, fleet.store().assignment_set_fetch(fleet.node).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn restarts_that_are_asked_for_together_all_count() {
    let fleet = Fleet::new().await;
    let (deployment, _) = fleet.create("web", 1).await;
    let instance = fleet.store().instance_list_of(&[deployment]).await.unwrap()[0].id;
    let requests = (0..8).map(|_| async {
        fleet
            .store()
            .instance_request(instance, InstanceRequest::Restart, Uuid::now_v7().into(), &actor())
            .await
            .unwrap()
    });
    futures_util::future::join_all(requests).await;
    assert_eq!(fleet.db.texts("select restart_generation from instances").await, ["8"]);
    let revision = fleet.store().assignment_set_fetch(fleet.node).await.unwrap().revision;
    assert_eq!(revision, 9);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_orchestrators_at_once_place_each_copy_once() {
    let fleet = Fleet::new().await;
    fleet.store().deployment_create(&Fleet::deployment("web", 5), &actor()).await.unwrap();
    let passes = (0..4).map(|_| fleet.store().orchestrate(&()));
    let placed: usize =
        futures_util::future::try_join_all(passes).await.unwrap().iter().map(|p| p.placed).sum();
    assert_eq!(placed, 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_placed_says_why_and_is_placed_when_there_is_room() {
    let fleet = Fleet::new().await;
    fleet.store().node_state_set(fleet.node, NodeState::Unreachable, chrono::Utc::now()).await.unwrap();
    let (_, operation) = fleet.create("web", 1).await;
    let message = fleet.store().operation_fetch(operation).await.unwrap().unwrap().message;
    assert!(message.contains("node n1 cannot take it because it is unreachable"), "{message}");
    fleet.store().node_state_set(fleet.node, NodeState::Ready, chrono::Utc::now()).await.unwrap();
    assert_eq!(fleet.store().orchestrate(&()).await.unwrap().placed, 1);
    assert!(
        fleet
            .store()
            .deployment_fetch(&DeploymentKey::Name("web".into()))
            .await
            .unwrap()
            .unwrap()
            .pending
            .is_none()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn samples_are_stored_once_and_only_for_the_nodes_own_instances() {
    let fleet = Fleet::new().await;
    let (deployment, _) = fleet.create("web", 1).await;
    let instance_id = fleet.store().instance_list_of(&[deployment]).await.unwrap()[0].id;
    let now = chrono::Utc::now();
    fleet.store().sample_partitions_maintain(now).await.unwrap();
    fleet.store().sample_partitions_maintain(now).await.unwrap();
    let sample = |instance_id, at| domain::sample::InstanceSample {
        cpu_percent: Some(12.5),
        memory_bytes: Some(1 << 20),
        network_rx_bytes: Some(7),
        block_write_bytes: Some(11),
        oom_kills: Some(0),
        ..domain::sample::InstanceSample::empty(instance_id, at)
    };
    let ancient = now - chrono::TimeDelta::days(9);
    let batch = [
        sample(instance_id, now),
        sample(instance_id, now),
        sample(Uuid::now_v7().into(), now),
        sample(instance_id, ancient),
    ];
    assert_eq!(fleet.store().sample_insert(fleet.node, &batch).await.unwrap(), 2);
    assert_eq!(fleet.store().sample_insert(fleet.node, &batch).await.unwrap(), 2);
    let kept = fleet.store().sample_list(instance_id, ancient, 10).await.unwrap();
    assert_eq!(kept.len(), 1);
    assert_eq!(
        (kept[0].cpu_percent, kept[0].memory_limit_bytes, kept[0].network_rx_bytes),
        (Some(12.5), None, Some(7))
    );
    fleet.store().sample_partitions_maintain(now + chrono::TimeDelta::days(5)).await.unwrap();
    assert_eq!(fleet.store().sample_list(instance_id, ancient, 10).await.unwrap().len(), 0);
}

fn host_sample(at: Timestamp, health: NodeHealth, reasons: &[&str]) -> HostSample {
    let disk =
        DiskSample { path: "/".into(), size_bytes: 9, free_bytes: 1, inodes: Some(5), inodes_free: None };
    HostSample {
        at,
        cpu_percent: Some(12.5),
        load: Some([0.5, 1.0, 2.0]),
        memory_bytes: Some(1 << 30),
        network_rx_bytes: Some(7),
        disks: vec![disk],
        health,
        reasons: reasons.iter().map(|reason| (*reason).to_owned()).collect(),
        ..HostSample::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hosts_readings_are_stored_once_and_too_old_ones_are_dropped() {
    let fleet = Fleet::new().await;
    let now = whole_second();
    fleet.store().sample_partitions_maintain(now).await.unwrap();
    let at = |seconds: i64| now - chrono::TimeDelta::seconds(seconds);
    let healthy = |seconds| host_sample(at(seconds), NodeHealth::Healthy, &[]);
    let batch = [healthy(60), healthy(30), healthy(30), healthy(9 * 86_400), healthy(-2 * 3600)];
    assert_eq!(fleet.store().node_sample_insert(fleet.node, &batch).await.unwrap(), 2);
    assert_eq!(fleet.store().node_sample_insert(fleet.node, &batch).await.unwrap(), 2);
    let ancient = at(20 * 86_400);
    let kept = fleet.store().node_sample_list(fleet.node, ancient, 10).await.unwrap();
    assert_eq!(kept, [healthy(30), healthy(60)]);
    assert_eq!(fleet.store().node_sample_list(fleet.node, at(45), 10).await.unwrap(), [healthy(30)]);
    let stranger = Uuid::now_v7().into();
    assert_eq!(fleet.store().node_sample_insert(stranger, &batch).await.unwrap(), 5, "no such node");
    fleet.store().sample_partitions_maintain(now + chrono::TimeDelta::days(5)).await.unwrap();
    assert!(fleet.store().node_sample_list(fleet.node, ancient, 10).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_nodes_health_follows_its_newest_reading_and_only_changes_are_events() {
    let fleet = Fleet::new().await;
    let now = whole_second();
    fleet.store().sample_partitions_maintain(now).await.unwrap();
    let at = |seconds: i64| now - chrono::TimeDelta::seconds(seconds);
    let tell = async |samples: &[HostSample]| {
        fleet.store().node_sample_insert(fleet.node, samples).await.unwrap();
        let node = fleet.store().node_fetch(&store::node::NodeKey::Id(fleet.node)).await.unwrap().unwrap();
        (node.health.state, node.health.reasons.join(","), node.health.since.unwrap())
    };
    let events = "select concat_ws(' ', severity, message, cause) from events \
        where kind = 'node_health_changed' order by at, id";
    assert_eq!(tell(&[host_sample(at(100), NodeHealth::Healthy, &[])]).await.0, NodeHealth::Healthy);
    assert_eq!(fleet.db.texts(events).await, [""; 0]);

    // Only the newest of a batch counts, in whatever order they come.
    let batch = [
        host_sample(at(80), NodeHealth::Degraded, &["disk / has 9 % free"]),
        host_sample(at(90), NodeHealth::Failing, &["thrashes"]),
    ];
    let degraded = (NodeHealth::Degraded, "disk / has 9 % free".to_owned(), at(80));
    assert_eq!(tell(&batch).await, degraded);
    assert_eq!(tell(&batch).await, degraded, "the same again changes nothing");
    // One that comes late is stored and changes nothing.
    assert_eq!(tell(&[host_sample(at(85), NodeHealth::Failing, &["late"])]).await, degraded);
    assert_eq!(fleet.store().node_sample_list(fleet.node, at(95), 9).await.unwrap().len(), 3);
    // The same health with another reason is no event and keeps since when.
    let other = tell(&[host_sample(at(70), NodeHealth::Degraded, &["disk / has 8 % free"])]).await;
    assert_eq!(other, (NodeHealth::Degraded, "disk / has 8 % free".to_owned(), at(80)));
    tell(&[host_sample(at(60), NodeHealth::Failing, &["full", "slow"])]).await;
    let healthy = tell(&[host_sample(at(50), NodeHealth::Healthy, &[])]).await;
    assert_eq!(healthy, (NodeHealth::Healthy, String::new(), at(50)));
    assert_eq!(
        fleet.db.texts(events).await,
        [
            "warning node n1 is degraded, after healthy disk / has 9 % free",
            "error node n1 is failing, after degraded full; slow",
            "info node n1 is healthy, after failing",
        ]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_batches_of_one_node_at_once_leave_the_newest_health() {
    let fleet = Fleet::new().await;
    let now = whole_second();
    fleet.store().sample_partitions_maintain(now).await.unwrap();
    let old = [host_sample(now - chrono::TimeDelta::seconds(9), NodeHealth::Failing, &["old"])];
    let new = [host_sample(now, NodeHealth::Degraded, &["new"])];
    let store = fleet.store();
    let (one, two) =
        tokio::join!(store.node_sample_insert(fleet.node, &old), store.node_sample_insert(fleet.node, &new));
    assert_eq!((one.unwrap(), two.unwrap()), (0, 0));
    let node = store.node_fetch(&store::node::NodeKey::Id(fleet.node)).await.unwrap().unwrap();
    assert_eq!((node.health.state, node.health.reasons), (NodeHealth::Degraded, vec!["new".to_owned()]));
}

/// The database keeps microseconds.
fn whole_second() -> Timestamp {
    let now = chrono::Utc::now();
    now - chrono::TimeDelta::nanoseconds(now.timestamp_subsec_nanos().into())
}

fn pulled(instances: &[InstanceId], second: i64, current_bytes: u64) -> PullProgress {
    let at = chrono::DateTime::UNIX_EPOCH + chrono::TimeDelta::seconds(second);
    let (id, status, total_bytes) = ("0a1b".into(), "Downloading".into(), Some(100));
    let layers = vec![LayerProgress { id, status, current_bytes, total_bytes }];
    PullProgress { image: "app:1".into(), instance_ids: instances.to_vec(), at, attempt: 2, layers }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_progress_of_a_pull_is_the_latest_of_the_nodes_own_instances_until_they_are_beyond_it() {
    let mut fleet = Fleet::new().await;
    let (deployment, _) = fleet.create("web", 2).await;
    let ids: Vec<_> =
        fleet.store().instance_list_of(&[deployment]).await.unwrap().into_iter().map(|i| i.id).collect();
    let known = async |fleet: &Fleet, id: InstanceId| {
        let instance = fleet.store().instance_fetch(id).await.unwrap().unwrap();
        instance.pull.map(|pull| (pull.current_bytes(), pull.attempt, pull.instance_ids.len()))
    };
    assert_eq!(known(&fleet, ids[0]).await, None);

    // One that nobody has ever heard of, and one of another node's.
    let token = token(fleet.store(), 1).await;
    let other = enrol(fleet.store(), &token, b"other", "n2").await.unwrap().id;
    let stranger: InstanceId = Uuid::now_v7().into();
    let store = fleet.store();
    assert_eq!(store.pull_progress_set(other, &pulled(&ids, 1, 9)).await.unwrap(), 0);
    let all = [ids[0], stranger, ids[1]];
    assert_eq!(store.pull_progress_set(fleet.node, &pulled(&all, 5, 50)).await.unwrap(), 2);
    // Who else waits for it is not for an instance's reader.
    assert_eq!(known(&fleet, ids[0]).await, Some((50, 2, 0)));

    // Late, or again.
    for second in [4, 5] {
        assert_eq!(store.pull_progress_set(fleet.node, &pulled(&ids, second, 40)).await.unwrap(), 0);
    }
    assert_eq!(store.pull_progress_set(fleet.node, &pulled(&ids[..1], 6, 60)).await.unwrap(), 1);
    assert_eq!(known(&fleet, ids[0]).await, Some((60, 2, 0)));
    assert_eq!(known(&fleet, ids[1]).await, Some((50, 2, 0)));

    let pulling = fleet.report(ids[0], Phase::Pulling, |_| {});
    fleet.apply(&[pulling]).await;
    assert_eq!(known(&fleet, ids[0]).await, Some((60, 2, 0)));
    let creating = fleet.report(ids[0], Phase::Creating, |_| {});
    fleet.apply(&[creating]).await;
    assert_eq!(known(&fleet, ids[0]).await, None);
    assert_eq!(known(&fleet, ids[1]).await, Some((50, 2, 0)));
    // What was on its way when it ended comes too late.
    assert_eq!(fleet.store().pull_progress_set(fleet.node, &pulled(&ids, 7, 99)).await.unwrap(), 1);
    assert_eq!(known(&fleet, ids[0]).await, None);
    let failed = fleet.report(ids[1], Phase::Ended, |_| {});
    fleet.apply(&[failed]).await;
    assert_eq!(fleet.db.texts("select instance_id from instance_pulls").await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_that_ends_a_pull_leaves_no_progress_behind_however_the_two_race() {
    let mut fleet = Fleet::new().await;
    let (deployment, _) = fleet.create("web", 4).await;
    let ids: Vec<_> =
        fleet.store().instance_list_of(&[deployment]).await.unwrap().into_iter().map(|i| i.id).collect();
    let reports: Vec<_> = ids.iter().map(|id| fleet.report(*id, Phase::Running, |_| {})).collect();
    let (store, node, stream) = (fleet.store(), fleet.node, fleet.stream);
    let progress: Vec<_> = (1..20).map(|second| pulled(&ids, second, 1)).collect();
    let told = async {
        for progress in &progress {
            store.pull_progress_set(node, progress).await.unwrap();
        }
    };
    let reported = async {
        for report in &reports {
            store.reports_apply(node, stream, std::slice::from_ref(report)).await.unwrap();
        }
    };
    tokio::join!(told, reported);
    assert_eq!(fleet.db.texts("select instance_id from instance_pulls").await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invite_makes_one_account_and_survives_a_name_that_is_taken() {
    let db = database().await;
    let new = |name: &str| store::account::AccountNew {
        id: Uuid::now_v7().into(),
        name: name.into(),
        kind: "user",
        password_hash: Some("-".into()),
        email: None,
    };
    db.store.account_insert(&new("anna"), "admin", &actor()).await.unwrap();
    db.store.invite_insert(b"invite", "operator", Duration::from_secs(60), &actor()).await.unwrap();
    assert_eq!(
        refusal(db.store.account_register(&new("anna"), b"invite", &actor()).await.map(drop)),
        Refusal::NameTaken("anna".into())
    );
    assert_eq!(db.store.account_register(&new("bert"), b"invite", &actor()).await.unwrap().role, "operator");
    assert_eq!(
        refusal(db.store.account_register(&new("carl"), b"invite", &actor()).await.map(drop)),
        Refusal::TokenRefused("invite")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wake_up_is_heard_after_the_commit_it_announces() {
    let fleet = Fleet::new().await;
    let (tx, mut rx) = tokio::sync::mpsc::unbounded_channel();
    let store = fleet.store().clone();
    let ready = std::sync::Arc::new(tokio::sync::Notify::new());
    let is_ready = ready.clone();
    let listening =
        async move { store.listen(|| is_ready.notify_one(), |wake| tx.send(wake).unwrap_or_default()).await };
    let acting = async {
        ready.notified().await;
        fleet.store().deployment_create(&Fleet::deployment("web", 1), &actor()).await.unwrap();
        rx.recv().await.unwrap()
    };
    tokio::select! {
        ended = listening => panic!("{ended:?}"),
        wake = tokio::time::timeout(Duration::from_secs(10), acting) => assert_eq!(wake.unwrap(), store::wake::Wake::Orchestrate),
    }
}
