//! What is kept of attempts that ended, and for how long.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on fails where it stands"
)]

use std::time::Duration;

use chrono::SubsecRound as _;
use domain::{
    deployment::{DeploymentSpec, InstanceSpec},
    dossier::{Dossier, DossierLine, DossierProbe, MemoryPoint},
    id::{InstanceId, NodeId, ProjectId},
    instance::{FailureReason, Outcome},
    name::{Labels, Name},
    node::{NodeFacts, NodeState},
    probe::{ProbeResult, Verdict},
};
use store::{
    Store,
    audit::Actor,
    deployment::DeploymentNew,
    dossier::KEPT,
    node::NodeEnrol,
    testing::{TestDatabase, database},
};
use uuid::Uuid;

async fn node(store: &Store, name: &str) -> NodeId {
    let hash = Uuid::now_v7().as_bytes().to_vec();
    let (once, system) = ((1, Duration::from_secs(60)), Actor::system());
    store.enrolment_token_insert(Uuid::now_v7(), &hash, &Labels::new(), once, &system).await.unwrap();
    let facts = NodeFacts { cpu_millis: 4000, memory_bytes: 8 << 30, ..NodeFacts::default() };
    let parsed = Name::parse(name).unwrap();
    let enrol = NodeEnrol {
        id: Uuid::now_v7().into(),
        token_sha256: &hash,
        key_sha256: name.as_bytes(),
        name: &parsed,
        facts: &facts,
        address: None,
    };
    let id = store.node_enrol(&enrol).await.unwrap().id;
    store.node_state_set(id, NodeState::Ready, chrono::Utc::now()).await.unwrap();
    id
}

/// A node with an instance.
async fn fleet() -> (TestDatabase, NodeId, InstanceId) {
    let db = database().await;
    let node = node(&db.store, "n1").await;
    let instance = InstanceSpec::of_image("app:1");
    let new = DeploymentNew {
        project_id: ProjectId::DEFAULT,
        id: Uuid::now_v7().into(),
        name: "web".into(),
        spec: DeploymentSpec { progress_deadline_seconds: 60, ..DeploymentSpec::of_instance(instance) },
        operation_id: Uuid::now_v7().into(),
        idempotency: None,
    };
    db.store.deployment_create(&new, &Actor::system()).await.unwrap();
    db.store.orchestrate(&()).await.unwrap();
    let instance = db.store.instance_list_of(&[new.id]).await.unwrap()[0].id;
    (db, node, instance)
}

fn dossier(instance_id: InstanceId, attempt: u32) -> Dossier {
    let at = chrono::Utc::now().trunc_subsecs(6);
    let line = |text: &str| DossierLine { at: Some(at), stderr: true, text: text.into(), partial: false };
    let result = ProbeResult {
        at,
        took: Duration::from_millis(7),
        verdict: Verdict::Failed,
        message: "refused".into(),
    };
    Dossier {
        instance_id,
        attempt,
        ended_at: at,
        outcome: Outcome::Exited { code: 137, oom: true },
        container_id: Some("0a1b".into()),
        log: vec![line("out of memory"), line("")],
        log_cut: true,
        probes: vec![DossierProbe { probe: 0, result }],
        memory: vec![MemoryPoint { at, bytes: 1 << 30 }],
        memory_limit_bytes: Some(1 << 30),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dossier_is_read_back_as_it_was_and_the_first_of_an_attempt_stays() {
    let (db, node, instance) = fleet().await;
    let first = dossier(instance, 1);
    assert_eq!(db.store.dossier_insert(node, std::slice::from_ref(&first)).await.unwrap(), 0);
    let other = Dossier { outcome: Outcome::Stopped { code: None }, log: Vec::new(), ..first.clone() };
    let second = dossier(instance, 2);
    // The same again, another one of the same attempt, and two of one in a call.
    let again = [other, second.clone(), Dossier { log_cut: false, ..second.clone() }];
    assert_eq!(db.store.dossier_insert(node, &again).await.unwrap(), 0);
    assert_eq!(db.store.dossier_fetch(instance, 1).await.unwrap(), Some(first.clone()));
    assert_eq!(db.store.dossier_fetch(instance, 2).await.unwrap(), Some(second.clone()));
    assert_eq!(db.store.dossier_fetch(instance, 3).await.unwrap(), None);
    assert_eq!(db.store.dossier_fetch(instance, u32::MAX).await.unwrap(), None);
    let listed = db.store.dossier_list(instance).await.unwrap();
    let shown: Vec<_> = listed.into_iter().map(|s| (s.attempt, s.ended_at, s.outcome)).collect();
    assert_eq!(shown, [(2, second.ended_at, second.outcome), (1, first.ended_at, first.outcome)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_node_says_of_an_instance_is_dropped_and_counted_and_the_rest_is_kept() {
    let (db, own, instance) = fleet().await;
    let stranger = node(&db.store, "n2").await;
    let nobody = InstanceId::from_uuid(Uuid::now_v7());
    let said = [dossier(instance, 1), dossier(nobody, 1)];
    assert_eq!(db.store.dossier_insert(stranger, &said).await.unwrap(), 2);
    assert_eq!(db.store.dossier_list(instance).await.unwrap(), []);
    assert_eq!(db.store.dossier_insert(own, &said).await.unwrap(), 1);
    assert_eq!(db.store.dossier_fetch(instance, 1).await.unwrap().as_ref(), Some(&said[0]));
    assert_eq!(db.texts("select count(*) from instance_dossiers").await, ["1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_an_instance_the_last_ten_stay() {
    let (db, node, instance) = fleet().await;
    for attempts in [1..=7_u32, 8..=23] {
        let batch: Vec<_> = attempts.map(|attempt| dossier(instance, attempt)).collect();
        assert_eq!(db.store.dossier_insert(node, &batch).await.unwrap(), 0);
    }
    let attempts: Vec<_> =
        db.store.dossier_list(instance).await.unwrap().into_iter().map(|s| s.attempt).collect();
    assert_eq!(attempts, (14..=23).rev().collect::<Vec<_>>());
    assert_eq!(db.texts("select count(*) from instance_dossiers").await, [KEPT.to_string()]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_controllers_that_take_the_same_over_at_once_keep_one_of_each() {
    let (db, node, instance) = fleet().await;
    let batch: Vec<_> = (1..=9).map(|attempt| dossier(instance, attempt)).collect();
    let backwards: Vec<_> = batch.iter().rev().cloned().collect();
    let calls = (0..8).map(|n| db.store.dossier_insert(node, if n % 2 == 0 { &batch } else { &backwards }));
    futures_util::future::try_join_all(calls).await.unwrap();
    for dossier in &batch {
        assert_eq!(db.store.dossier_fetch(instance, dossier.attempt).await.unwrap().as_ref(), Some(dossier));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_older_than_thirty_days_go_and_an_instance_that_goes_takes_its_own_along() {
    let (db, node, instance) = fleet().await;
    db.store.dossier_insert(node, &[dossier(instance, 1), dossier(instance, 2)]).await.unwrap();
    db.execute("update instance_dossiers set recorded_at = now() - interval '31 days' where attempt = 1")
        .await;
    assert_eq!(db.store.retention_apply().await.unwrap(), 1);
    assert_eq!(db.texts("select attempt from instance_dossiers").await, ["2"]);
    db.execute("delete from instances").await;
    assert_eq!(db.texts("select count(*) from instance_dossiers").await, ["0"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_program_wrote_can_be_stored() {
    let (db, node, instance) = fleet().await;
    let mut odd = dossier(instance, 1);
    let text = "nul \0, escape \u{1b}[31m, quote \", \\u0000, \u{fffd}, \u{1f980}";
    odd.log[0].text = text.into();
    odd.probes[0].result.message = "\0".into();
    odd.outcome = Outcome::failed(FailureReason::Unhealthy, "a\0b");
    db.store.dossier_insert(node, &[odd]).await.unwrap();
    let stored = db.store.dossier_fetch(instance, 1).await.unwrap().unwrap();
    assert_eq!(stored.log[0].text, text.replace('\0', "\u{fffd}"));
    assert_eq!(stored.probes[0].result.message, "\u{fffd}");
    let listed = db.store.dossier_list(instance).await.unwrap();
    let reason = FailureReason::Unhealthy;
    assert_eq!(listed[0].outcome, Outcome::failed(reason, "a\u{fffd}b"));
}
