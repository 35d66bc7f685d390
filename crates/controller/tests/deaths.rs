//! What a client sees of attempts that ended.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on fails where it stands"
)]

mod common;

use std::time::Duration;

use common::Api;
use controller::auth::role::Role;
use domain::{
    Timestamp,
    dossier::{Dossier, DossierLine, DossierProbe, MemoryPoint},
    id::{InstanceId, NodeId},
    instance::Outcome,
    name::{Labels, Name},
    node::{NodeFacts, NodeState},
    probe::{ProbeResult, Verdict},
};
use reqwest::StatusCode;
use serde_json::{Value, json};
use store::{audit::Actor, node::NodeEnrol};
use uuid::Uuid;

async fn node(api: &Api) -> NodeId {
    let (store, system) = (&api.services.store, Actor::system());
    let once = (1, Duration::from_secs(60));
    store.enrolment_token_insert(Uuid::now_v7(), b"t", &Labels::new(), once, &system).await.unwrap();
    let name = Name::parse("n1").unwrap();
    let facts = NodeFacts { cpu_millis: 4000, memory_bytes: 8 << 30, ..NodeFacts::default() };
    let enrol = NodeEnrol {
        id: Uuid::now_v7().into(),
        token_sha256: b"t",
        key_sha256: b"k",
        name: &name,
        facts: &facts,
        address: None,
    };
    let id = store.node_enrol(&enrol).await.unwrap().id;
    store.node_state_set(id, NodeState::Ready, chrono::Utc::now()).await.unwrap();
    id
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
}

fn dossier(instance_id: InstanceId, attempt: u32, outcome: Outcome) -> Dossier {
    let result = ProbeResult {
        at: at(1),
        took: Duration::from_millis(2_500),
        verdict: Verdict::Failed,
        message: "timed out".into(),
    };
    let line =
        |stderr, text: &str, partial| DossierLine { at: Some(at(2)), stderr, text: text.into(), partial };
    Dossier {
        instance_id,
        attempt,
        ended_at: at(i64::from(attempt)),
        outcome,
        container_id: Some("0a1b".into()),
        log: vec![line(false, "password=hunter2", false), line(true, "xxxx", true)],
        log_cut: true,
        probes: vec![DossierProbe { probe: 1, result }],
        memory: vec![MemoryPoint { at: at(3), bytes: 1 << 20 }],
        memory_limit_bytes: Some(1 << 21),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deaths_are_listed_the_newest_first_and_each_is_shown_whole() {
    let api = Api::new().await;
    let (admin, viewer) =
        (api.account("admin", Role::Admin).await, api.account("viewer", Role::Viewer).await);
    let node = node(&api).await;
    let body = json!({"name": "web", "image": "app:1"});
    assert_eq!(api.post("/deployments", Some(&admin), body).await.status, StatusCode::ACCEPTED);
    api.services.store.orchestrate(&()).await.unwrap();
    let id = api.db.texts("select id from instances").await.remove(0);
    let path = format!("/instances/{id}/deaths");
    let shown = api.get(&path, &viewer).await;
    assert_eq!((shown.status, shown.body), (StatusCode::OK, json!({ "items": [] })));

    let instance = id.parse().unwrap();
    let ends = [
        Outcome::Exited { code: 3, oom: false },
        Outcome::Exited { code: 137, oom: true },
        Outcome::Exited { code: 139, oom: false },
        Outcome::Exited { code: 191, oom: false },
    ];
    let dossiers: Vec<_> = (1..).zip(ends).map(|(n, end)| dossier(instance, n, end)).collect();
    assert_eq!(api.services.store.dossier_insert(node, &dossiers).await.unwrap(), 0);

    let outcome = |code: i32, signal: Value, oom: bool| json!({"kind": "exited", "exit_code": code, "signal": signal, "oom": oom, "reason": null, "message": null});
    let listed = api.get(&path, &viewer).await.body;
    assert_eq!(
        listed["items"],
        json!([
            {"attempt": 4, "ended_at": "2027-01-15T08:00:04Z", "outcome": outcome(191, json!("signal 63"), false)},
            {"attempt": 3, "ended_at": "2027-01-15T08:00:03Z", "outcome": outcome(139, json!("SIGSEGV"), false)},
            {"attempt": 2, "ended_at": "2027-01-15T08:00:02Z", "outcome": outcome(137, json!("SIGKILL"), true)},
            {"attempt": 1, "ended_at": "2027-01-15T08:00:01Z", "outcome": outcome(3, Value::Null, false)},
        ])
    );
    let whole = api.get(&format!("{path}/2"), &viewer).await;
    assert_eq!(whole.status, StatusCode::OK);
    assert_eq!(
        whole.body,
        json!({
            "attempt": 2, "ended_at": "2027-01-15T08:00:02Z", "outcome": outcome(137, json!("SIGKILL"), true),
            "container_id": "0a1b",
            "log": [
                {"at": "2027-01-15T08:00:02Z", "stream": "stdout", "text": "password=hunter2", "partial": false},
                {"at": "2027-01-15T08:00:02Z", "stream": "stderr", "text": "xxxx", "partial": true},
            ],
            "log_cut": true,
            "probes": [{
                "probe": 1, "at": "2027-01-15T08:00:01Z", "took_millis": 2500, "verdict": "failed",
                "message": "timed out"
            }],
            "memory": [{"at": "2027-01-15T08:00:03Z", "bytes": 1_048_576}],
            "memory_limit_bytes": 2_097_152,
        })
    );
    for absent in ["5", "0", "-1", "x", "4294967296"] {
        let answer = api.get(&format!("{path}/{absent}"), &viewer).await;
        assert_eq!((answer.status, &answer.body["code"]), (StatusCode::NOT_FOUND, &json!("not_found")));
    }
    for table in ["audit_log", "events"] {
        let said = format!("select count(*) from {table} t where row_to_json(t)::text like '%hunter2%'");
        assert_eq!(api.db.texts(&said).await, ["0"], "{table}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn how_an_instance_ended_stays_after_its_container_is_gone() {
    let api = Api::new().await;
    let admin = api.account("admin", Role::Admin).await;
    node(&api).await;
    let body = json!({"name": "web", "image": "app:1"});
    assert_eq!(api.post("/deployments", Some(&admin), body).await.status, StatusCode::ACCEPTED);
    api.services.store.orchestrate(&()).await.unwrap();
    let id = api.db.texts("select id from instances").await.remove(0);
    // As its agent says it once the container is removed.
    api.db
        .execute(
            "update instances set removed = true, phase = 70, attempt = 4, status = jsonb_set(jsonb_set(jsonb_set( \
             status, '{progress}', '{\"attempt\": 4, \"phase\": \"ended\", \"removed\": true}'), \
             '{outcome}', '{\"kind\": \"exited\", \"code\": 137, \"oom\": true}'), '{container_id}', 'null')",
        )
        .await;
    let shown = api.get(&format!("/instances/{id}"), &admin).await.body;
    assert_eq!(
        (&shown["attempt"], &shown["restarts"], &shown["container_id"]),
        (&json!(4), &json!(3), &Value::Null)
    );
    let outcome = json!({
        "kind": "exited", "exit_code": 137, "signal": "SIGKILL", "oom": true, "reason": null, "message": null
    });
    assert_eq!(shown["outcome"], outcome);
}
