//! The REST API as a client sees it, over real HTTP and a real PostgreSQL.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on fails where it stands"
)]

mod common;

use std::{collections::BTreeMap, time::Duration};

use chrono::Utc;
use common::{Api, PASSWORD};
use controller::{auth::role::Role, http};
use domain::{
    id::NodeId,
    name::Name,
    node::{NodeFacts, NodeState},
    pull::{LayerProgress, PullProgress},
};
use reqwest::{Method, StatusCode, header};
use serde_json::{Value, json};
use store::{audit::Actor, node::NodeEnrol};
use uuid::Uuid;

/// Every operation of the document: method, path with ids filled in, whether it is open to all.
fn operations() -> Vec<(Method, String, bool)> {
    let document = serde_json::to_value(http::openapi_document()).unwrap();
    let mut operations = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let path = path.trim_start_matches("/api/v1").split('/').map(|part| {
                if part.starts_with('{') { "01a20424-bd3c-7657-b1bf-da697adf6b74" } else { part }
            });
            let path = path.collect::<Vec<_>>().join("/");
            let method = method.to_uppercase().parse().unwrap();
            operations.push((method, path, operation.get("security").is_none()));
        }
    }
    assert!(operations.len() > 20);
    operations
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_operation_but_sign_in_and_registration_refuses_who_has_no_good_token() {
    let api = Api::new().await;
    let open: Vec<String> =
        operations().into_iter().filter(|(.., open)| *open).map(|(_, path, _)| path).collect();
    assert_eq!(
        open,
        [
            "/auth/github",
            "/auth/github/callback",
            "/auth/github/exchange",
            "/auth/login",
            "/auth/methods",
            "/auth/refresh",
            "/auth/register"
        ]
    );
    for (method, path, _) in operations().into_iter().filter(|(.., open)| !open) {
        for token in [None, Some("nonsense"), Some("a67_nonsense"), Some("eyJhbGciOiJub25lIn0.e30.")] {
            let answer = api.send(api.request(method.clone(), &path, token)).await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{method} {path} {token:?}");
            assert_eq!(answer.headers[header::CONTENT_TYPE], "application/problem+json");
            assert_eq!(answer.body["request_id"].as_str(), answer.headers["x-request-id"].to_str().ok());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_viewer_changes_nothing_and_an_operator_makes_no_tokens_for_others() {
    let api = Api::new().await;
    let viewer = api.account("viewer", Role::Viewer).await;
    let operator = api.account("operator", Role::Operator).await;
    // Whoever is signed in has these over what is its own; the policy's test knows each by name.
    let own = ["/auth/", "/api-tokens"];
    for (method, path, _) in operations() {
        if method == Method::GET || own.iter().any(|own| path.starts_with(own)) {
            continue;
        }
        let answer = api.send(api.request(method.clone(), &path, Some(&viewer)).json(&json!({}))).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{method} {path}: {}", answer.body);
    }
    for path in ["/invites", "/enrolment-tokens"] {
        let answer = api.post(path, Some(&operator), json!({"role": "admin"})).await;
        assert_eq!(
            (answer.status, answer.body["code"].as_str()),
            (StatusCode::FORBIDDEN, Some("role_too_low")),
            "{path}"
        );
    }
    assert_ne!(api.db.texts("select action from audit_log where outcome = 'refused'").await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_there_is_404_for_every_resource() {
    let api = Api::new().await;
    let admin = api.account("admin", Role::Admin).await;
    for (method, path, _) in operations().into_iter().filter(|(_, path, _)| path.contains("01a20424")) {
        for path in [path.clone(), path.replace("01a20424-bd3c-7657-b1bf-da697adf6b74", "no%20such%2fthing")]
        {
            let answer = api.send(api.request(method.clone(), &path, Some(&admin))).await;
            assert_eq!(answer.status, StatusCode::NOT_FOUND, "{method} {path}: {}", answer.body);
        }
    }
    let answer = api.get("/nothing/here", &admin).await;
    assert_eq!((answer.status, answer.body["code"].as_str()), (StatusCode::NOT_FOUND, Some("no_such_route")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_input_names_its_fields_and_leaves_nothing_behind() {
    let api = Api::new().await;
    let admin = api.account("admin", Role::Admin).await;
    let create = |body: Value| api.post("/deployments", Some(&admin), body);
    let unknown = create(json!({"name": "web", "image": "app", "repicas": 2})).await;
    assert_eq!(
        (unknown.status, unknown.body["errors"][0]["field"].as_str()),
        (StatusCode::BAD_REQUEST, Some("repicas"))
    );
    let wrong_type =
        create(json!({"name": "web", "image": "app", "ports": [{"container_port": "http"}]})).await;
    let (status, field) = (wrong_type.status, wrong_type.body["errors"][0]["field"].as_str());
    assert_eq!((status, field), (StatusCode::BAD_REQUEST, Some("ports[0].container_port")));
    let secret = create(
        json!({"name": "web", "image": "app", "env": {"PASSWORD": ["hunter2"]}, "replicas": "hunter2"}),
    )
    .await;
    assert_eq!(secret.status, StatusCode::BAD_REQUEST);
    assert!(!secret.body.to_string().contains("hunter2"), "{}", secret.body);
    let invalid =
        create(json!({"name": "Web", "image": "a b", "replicas": 5000, "limits": {"memory_bytes": 1}})).await;
    let fields: Vec<_> =
        invalid.body["errors"].as_array().unwrap().iter().map(|e| e["field"].as_str().unwrap()).collect();
    assert_eq!(invalid.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(fields, ["name", "image", "replicas", "limits.memory_bytes"]);
    let not_json = api
        .send(
            api.request(Method::POST, "/deployments", Some(&admin))
                .header("content-type", "application/json")
                .body("{"),
        )
        .await;
    assert_eq!(
        (not_json.status, not_json.body["code"].as_str()),
        (StatusCode::BAD_REQUEST, Some("bad_json"))
    );
    let large = create(json!({"name": "web", "image": "x".repeat(1 << 20)})).await;
    assert_eq!(
        (large.status, large.body["code"].as_str()),
        (StatusCode::PAYLOAD_TOO_LARGE, Some("body_too_large"))
    );
    for query in ["limit=0", "limit=501", "cursor=x", "unknown=1", "limit=many"] {
        let answer = api.get(&format!("/deployments?{query}"), &admin).await;
        assert!(answer.status.is_client_error(), "{query}");
        assert_eq!(answer.headers[header::CONTENT_TYPE], "application/problem+json", "{query}");
    }
    for table in ["deployments", "revisions", "operations", "instances", "events"] {
        assert_eq!(api.count(table).await, "0", "{table}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_is_accepted_once_and_shown_with_its_defaults() {
    let api = Api::new().await;
    let admin = api.account("admin", Role::Admin).await;
    let body = json!({"name": "web", "image": "app:1"});
    let send = |body: Value| {
        api.send(
            api.request(Method::POST, "/deployments", Some(&admin))
                .header("Idempotency-Key", "k1")
                .json(&body),
        )
    };
    let first = send(body.clone()).await;
    assert_eq!(first.status, StatusCode::ACCEPTED);
    let id = first.body["id"].as_str().unwrap();
    assert_eq!(first.headers[header::LOCATION], format!("/api/v1/operations/{id}"));
    assert_eq!(
        send(body.clone()).await.body["id"],
        first.body["id"],
        "the same request again is the same operation"
    );
    let reused = send(json!({"name": "other", "image": "app:1"})).await;
    assert_eq!(
        (reused.status, reused.body["code"].as_str()),
        (StatusCode::CONFLICT, Some("idempotency_key_reused"))
    );
    let taken = api.post("/deployments", Some(&admin), body).await;
    assert_eq!((taken.status, taken.body["code"].as_str()), (StatusCode::CONFLICT, Some("name_taken")));
    let shown = api.get("/deployments/web", &admin).await.body;
    let spec = json!({
        "image": "app:1", "entrypoint": [], "command": [], "env": {}, "working_dir": null, "user": null,
        "labels": {}, "hostname": null, "ports": [], "network": {"mode": "bridge", "networks": []},
        "volumes": [], "secrets": [], "devices": [],
        "security": {
            "privileged": false, "cap_add": [], "cap_drop": [], "no_new_privileges": false,
            "read_only_root": false
        },
        "limits": {
            "cpu_millis": 1000, "memory_bytes": 536_870_912, "memory_reservation_bytes": null,
            "swap_bytes": 0, "storage_bytes": 1_073_741_824, "storage_exceeded": "mark", "pids": 1024,
            "shm_bytes": null
        },
        "reservation": {"cpu_millis": 50, "memory_bytes": 16_777_216},
        "ulimits": [], "log": {"driver": null, "options": {}}, "init": false,
        "replicas": 1, "restart": {"when": "always", "max_retries": null}, "pull": "missing",
        "stop_signal": null, "stop_grace_seconds": 10, "min_healthy_seconds": 1, "probes": [],
        "stop_after_seconds": null, "storage_enforced": false, "progress_deadline_seconds": 300,
        "constraints": {}, "disconnect": {"replace_after_seconds": 10, "keep": "newest"},
        "update": {"strategy": "rolling", "max_surge": 1, "max_unavailable": 0, "auto_rollback": true}
    });
    assert_eq!(shown["spec"], spec);
    assert_eq!(api.count("deployments").await, "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_of_a_container_is_declared_and_shown_as_it_was_declared() {
    let api = Api::new().await;
    let admin = api.account("admin", Role::Admin).await;
    let spec = json!({
        "image": "app:1", "working_dir": "/work", "user": "1000:1000", "labels": {"traefik.enable": "true"},
        "hostname": "db.internal",
        "network": {"mode": "named", "networks": [{"name": "front", "aliases": ["web"]}]},
        "volumes": [
            {"kind": "named", "target": "/data", "read_only": false, "name": "db"},
            {"kind": "bind", "target": "/etc/app", "read_only": true, "path": "/srv/app"},
            {"kind": "tmpfs", "target": "/run", "size_bytes": 4096, "mode": "1770"}
        ],
        "devices": [{"host_path": "/dev/fuse", "container_path": "/dev/fuse", "permissions": "rwm"}],
        "security": {
            "privileged": true, "cap_add": ["NET_ADMIN"], "cap_drop": ["ALL"], "no_new_privileges": true,
            "read_only_root": true
        },
        "limits": {
            "cpu_millis": 250, "memory_bytes": 67_108_864, "memory_reservation_bytes": 33_554_432,
            "swap_bytes": 1, "storage_bytes": 1_048_576, "storage_exceeded": "stop", "pids": 5,
            "shm_bytes": 4096
        },
        "ulimits": [{"name": "nofile", "soft": 1024, "hard": -1}],
        "log": {"driver": "local", "options": {"max-size": "1m"}},
        "init": true, "stop_signal": "SIGQUIT", "stop_after_seconds": 60, "storage_enforced": true,
        "probes": [
            {
                "type": "http", "role": "readiness", "port": 8080, "path": "/health?full=1",
                "headers": {"X-Key": "s3cr3t"}, "expected_status": ["200-299", "304"],
                "body_contains": "ok", "command": [], "interval_seconds": 10, "timeout_seconds": 2,
                "retries": 5, "start_period_seconds": 60
            },
            {
                "type": "exec", "role": "liveness", "port": null, "path": null, "headers": {},
                "expected_status": [], "body_contains": null, "command": ["pg_isready", "-q"],
                "interval_seconds": 30, "timeout_seconds": 5, "retries": 3, "start_period_seconds": 30
            }
        ]
    });
    let mut body = spec.clone();
    body["name"] = "web".into();
    assert_eq!(api.post("/deployments", Some(&admin), body).await.status, StatusCode::ACCEPTED);
    let shown = api.get("/deployments/web", &admin).await.body;
    for (field, value) in spec.as_object().unwrap() {
        assert_eq!(shown["spec"][field], *value, "{field}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_probe_needs_few_words_and_is_shown_with_what_they_mean() {
    let api = Api::new().await;
    let admin = api.account("admin", Role::Admin).await;
    let body = json!({"name": "web", "image": "app:1", "probes": [
        {"type": "http", "port": 80, "expected_status": [204, "301-302"]}, {"type": "tcp", "port": 5432},
        {"type": "image", "role": "readiness"}, {"type": "http", "port": 81}
    ]});
    assert_eq!(api.post("/deployments", Some(&admin), body).await.status, StatusCode::ACCEPTED);
    let shown = api.get("/deployments/web", &admin).await.body;
    let view = |kind: &str, role: &str, port: Value, path: Value, status: Value| {
        json!({
            "type": kind, "role": role, "port": port, "path": path, "headers": {}, "expected_status": status,
            "body_contains": null, "command": [], "interval_seconds": 30, "timeout_seconds": 5, "retries": 3,
            "start_period_seconds": 30
        })
    };
    let expected = json!([
        view("http", "liveness", json!(80), json!("/"), json!(["204", "301-302"])),
        view("tcp", "liveness", json!(5432), Value::Null, json!([])),
        view("image", "readiness", Value::Null, Value::Null, json!([])),
        view("http", "liveness", json!(81), json!("/"), json!(["200-399"]))
    ]);
    assert_eq!(shown["spec"]["probes"], expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_fault_of_a_container_is_told_by_its_path_and_an_unknown_field_is_one() {
    let api = Api::new().await;
    let admin = api.account("admin", Role::Admin).await;
    let first = async |field: &str, value: Value| {
        let mut body = json!({"name": "web", "image": "app:1"});
        body[field] = value;
        let answer = api.post("/deployments", Some(&admin), body).await;
        (answer.status, answer.body["errors"][0]["field"].as_str().unwrap_or_default().to_owned())
    };
    let unprocessable = [
        ("network", json!({"mode": "host", "networks": [{"name": "a"}]}), "network.networks"),
        ("network", json!({"networks": [{"name": "host"}]}), "network.networks[0].name"),
        ("volumes", json!([{"kind": "bind", "target": "/a", "path": "b"}]), "volumes[0].path"),
        ("volumes", json!([{"kind": "tmpfs", "target": "/a", "mode": "9"}]), "volumes[0].mode"),
        ("security", json!({"cap_add": ["cap_chown", "NOTHING"]}), "security.cap_add[1]"),
        ("limits", json!({"storage_bytes": 1}), "limits.storage_bytes"),
        ("stop_signal", json!("TERM"), "stop_signal"),
        ("probes", json!([{"type": "http"}]), "probes[0].port"),
        ("probes", json!([{"type": "tcp", "port": 80, "path": "/"}]), "probes[0].path"),
        ("probes", json!([{"type": "exec", "command": ["a"], "port": 80}]), "probes[0].port"),
        ("probes", json!([{"type": "exec"}]), "probes[0].command"),
        (
            "probes",
            json!([{"type": "http", "port": 80, "expected_status": ["2xx"]}]),
            "probes[0].expected_status[0]",
        ),
        ("probes", json!([{"type": "tcp", "port": 80, "retries": 0}]), "probes[0].retries"),
    ];
    for (field, value, path) in unprocessable {
        assert_eq!(first(field, value).await, (StatusCode::UNPROCESSABLE_ENTITY, path.to_owned()));
    }
    for (field, value) in [
        ("network", json!({"mode": "container:1"})),
        ("network", json!({"mode": "bridge", "more": 1})),
        ("volumes", json!([{"kind": "tmpfs", "target": "/a", "more": 1}])),
        ("security", json!({"seccomp": "unconfined"})),
        ("log", json!({"more": 1})),
        ("probes", json!([{"type": "http", "port": 80, "more": 1}])),
        ("probes", json!([{"type": "udp", "port": 80}])),
        ("devices", json!([{"host_path": "/dev/fuse", "more": 1}])),
    ] {
        assert_eq!(first(field, value.clone()).await.0, StatusCode::BAD_REQUEST, "{field}: {value}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_come_in_pages_that_neither_skip_nor_repeat() {
    let api = Api::new().await;
    let admin = api.account("admin", Role::Admin).await;
    for n in 0..5 {
        assert_eq!(
            api.post("/deployments", Some(&admin), json!({"name": format!("d{n}"), "image": "a"}))
                .await
                .status,
            202
        );
    }
    let (mut names, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = api.get(&format!("/deployments?limit=2{cursor}"), &admin).await.body;
        names
            .extend(page["items"].as_array().unwrap().iter().map(|d| d["name"].as_str().unwrap().to_owned()));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(names, ["d0", "d1", "d2", "d3", "d4"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_worth_nothing_after_its_session_ended_or_its_account_was_disabled() {
    let api = Api::new().await;
    let (anna, bert) = (api.account("anna", Role::Viewer).await, api.account("bert", Role::Viewer).await);
    assert_eq!(api.get("/auth/me", &anna).await.body["name"], "anna");
    assert_eq!(api.post("/auth/logout", Some(&anna), json!({})).await.status, StatusCode::NO_CONTENT);
    assert_eq!(api.get("/auth/me", &anna).await.status, StatusCode::UNAUTHORIZED);
    api.db.execute("update accounts set disabled_at = now() where name = 'bert'").await;
    assert_eq!(api.get("/auth/me", &bert).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_was_lowered_counts_at_once() {
    let api = Api::new().await;
    let anna = api.account("anna", Role::Admin).await;
    assert_eq!(
        api.post("/invites", Some(&anna), json!({"role": "viewer"})).await.status,
        StatusCode::CREATED
    );
    api.db.execute("update accounts set role = 'viewer'").await;
    assert_eq!(
        api.post("/invites", Some(&anna), json!({"role": "viewer"})).await.status,
        StatusCode::FORBIDDEN
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_account_and_a_wrong_password_get_the_same_answer() {
    let api = Api::new().await;
    api.account("anna", Role::Viewer).await;
    let mut bodies = Vec::new();
    for (name, password) in [("anna", "wrong wrong wrong"), ("nobody", PASSWORD), ("no name!", "")] {
        let mut answer = api.post("/auth/login", None, json!({"name": name, "password": password})).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        answer.body["request_id"] = Value::Null;
        bodies.push(answer.body);
    }
    assert!(bodies.windows(2).all(|pair| pair[0] == pair[1]), "{bodies:?}");
    let subjects = api.db.texts("select subject from audit_log where outcome = 'refused' order by id").await;
    assert_eq!(subjects, ["anna", "nobody", "(not a name)"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registration_needs_an_invite_which_decides_the_role_and_works_once() {
    let api = Api::new().await;
    let admin = api.account("admin", Role::Admin).await;
    let register = |name: &str, invite: Value| {
        api.post("/auth/register", None, json!({"name": name, "password": PASSWORD, "invite": invite}))
    };
    assert_eq!(register("anna", Value::Null).await.body["code"], "invite_needed");
    assert_eq!(register("anna", json!("a67i_nonsense")).await.body["code"], "token_refused");
    let invite = api.post("/invites", Some(&admin), json!({"role": "operator"})).await.body["invite"].clone();
    let weak = api
        .post("/auth/register", None, json!({"name": "anna", "password": "short", "invite": invite}))
        .await;
    assert_eq!(
        (weak.status, weak.body["errors"][0]["field"].as_str()),
        (StatusCode::UNPROCESSABLE_ENTITY, Some("password"))
    );
    let made = register("anna", invite.clone()).await;
    assert_eq!((made.status, made.body["role"].as_str()), (StatusCode::CREATED, Some("operator")));
    assert_eq!(register("bert", invite).await.body["code"], "token_refused");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_token_acts_as_its_account_until_it_ends() {
    let api = Api::new().await;
    let anna = api.account("anna", Role::Operator).await;
    let made = api.post("/api-tokens", Some(&anna), json!({"name": "ci", "expires_in_seconds": 3600})).await;
    assert_eq!(made.status, StatusCode::CREATED);
    let token = made.body["token"].as_str().unwrap();
    assert!(token.starts_with("a67_"));
    assert_eq!(api.get("/auth/me", token).await.body["role"], "operator");
    api.db.execute("update api_tokens set expires_at = now() - interval '1 s'").await;
    assert_eq!(api.get("/auth/me", token).await.status, StatusCode::UNAUTHORIZED);
    let stored = api.db.texts("select encode(token_sha256, 'escape') from api_tokens").await.remove(0);
    assert!(!stored.contains(token.trim_start_matches("a67_")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_enrolment_token_comes_with_the_command_that_uses_it() {
    let api = Api::with(|config| config.agent_url = Some("https://c.example.org:6701".into())).await;
    let admin = api.account("admin", Role::Admin).await;
    let made = api.post("/enrolment-tokens", Some(&admin), json!({"labels": {"zone": "a"}})).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.body);
    let token = made.body["token"].as_str().unwrap();
    assert_eq!(made.body["ca_sha256"].as_str(), token.rsplit('.').next());
    let command = format!("automator67-agent enrol --controller https://c.example.org:6701 --token {token}");
    assert_eq!(made.body["command"].as_str(), Some(command.as_str()));
    for bad in [json!({"uses": 0}), json!({"expires_in_seconds": 1}), json!({"labels": {"": "x"}})] {
        assert_eq!(
            api.post("/enrolment-tokens", Some(&admin), bad).await.status,
            StatusCode::UNPROCESSABLE_ENTITY
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_for_an_operation_ends_when_it_is_done_or_the_time_is_over() {
    let api = Api::new().await;
    let admin = api.account("admin", Role::Admin).await;
    let operation = api
        .post("/deployments", Some(&admin), json!({"name": "web", "image": "a", "replicas": 0}))
        .await
        .body;
    let path = format!("/operations/{}?wait_seconds=20", operation["id"].as_str().unwrap());
    let judge = async {
        api.services.store.orchestrate(&()).await.unwrap();
    };
    let (answer, ()) = tokio::join!(api.get(&path, &admin), judge);
    assert_eq!(
        (answer.body["state"].as_str(), answer.body["verdict"].as_str()),
        (Some("done"), Some("succeeded"))
    );
    assert_eq!(answer.body["log"][0]["kind"], "deployment_create_requested");
    assert_eq!(api.get(&path.replace("20", "61"), &admin).await.status, StatusCode::UNPROCESSABLE_ENTITY);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_shows_how_well_it_is_and_what_its_host_uses() {
    let api = Api::new().await;
    let viewer = api.account("viewer", Role::Viewer).await;
    let (store, system) = (&api.services.store, store::audit::Actor::system());
    let once = (1, std::time::Duration::from_secs(60));
    store
        .enrolment_token_insert(uuid::Uuid::now_v7(), b"t", &Default::default(), once, &system)
        .await
        .unwrap();
    let enrol = store::node::NodeEnrol {
        id: uuid::Uuid::now_v7().into(),
        token_sha256: b"t",
        key_sha256: b"k",
        name: &domain::name::Name::parse("n1").unwrap(),
        facts: &Default::default(),
        address: None,
    };
    let node = store.node_enrol(&enrol).await.unwrap().id;
    let fresh = api.get("/nodes/n1", &viewer).await.body;
    assert_eq!((&fresh["health"], &fresh["health_reasons"]), (&json!("healthy"), &json!([])));
    let none = api.get("/nodes/n1/metrics", &viewer).await.body;
    assert_eq!(none, json!({ "latest": null, "samples": [] }));

    let now = chrono::Utc::now();
    let sample = |seconds, memory_bytes| domain::sample::HostSample {
        at: now - chrono::TimeDelta::seconds(seconds),
        memory_bytes: Some(memory_bytes),
        load: Some([0.5, 1.0, 2.0]),
        disks: vec![domain::sample::DiskSample { path: "/".into(), size_bytes: 9, ..Default::default() }],
        pressure: Some(domain::sample::Pressure { io_full: 50.0, ..Default::default() }),
        health: domain::node::NodeHealth::Degraded,
        reasons: vec!["disks are slow".into()],
        ..Default::default()
    };
    store.node_sample_insert(node, &[sample(7000, 1), sample(60, 2), sample(30, 3)]).await.unwrap();
    let view = api.get(&format!("/nodes/{}", node.uuid()), &viewer).await.body;
    assert_eq!((&view["health"], &view["health_reasons"]), (&json!("degraded"), &json!(["disks are slow"])));
    assert_eq!(api.get("/nodes", &viewer).await.body["items"][0]["health"], "degraded");

    let metrics = api.get("/nodes/n1/metrics", &viewer).await.body;
    let memory = |metrics: &Value| -> Vec<u64> {
        metrics["samples"].as_array().unwrap().iter().map(|s| s["memory_bytes"].as_u64().unwrap()).collect()
    };
    assert_eq!(memory(&metrics), [3, 2], "the last hour, the newest first");
    let latest = &metrics["latest"];
    assert_eq!(latest, &metrics["samples"][0]);
    assert_eq!((&latest["cpu_percent"], &latest["load"]), (&Value::Null, &json!([0.5, 1.0, 2.0])));
    assert_eq!((&latest["disks"][0]["size_bytes"], &latest["disks"][0]["inodes"]), (&json!(9), &Value::Null));
    assert_eq!((&latest["pressure"]["io_full"], &latest["health"]), (&json!(50.0), &json!("degraded")));
    assert_eq!(memory(&api.get("/nodes/n1/metrics?seconds=172800", &viewer).await.body), [3, 2, 1]);

    for (path, status) in [
        ("/nodes/n1/metrics?seconds=0", StatusCode::UNPROCESSABLE_ENTITY),
        ("/nodes/n1/metrics?seconds=172801", StatusCode::UNPROCESSABLE_ENTITY),
        ("/nodes/n2/metrics", StatusCode::NOT_FOUND),
    ] {
        assert_eq!(api.get(path, &viewer).await.status, status, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_carry_security_headers_and_probes_need_no_token() {
    let api = Api::new().await;
    for path in ["/healthz", "/readyz", "/version", "/", "/api/nothing"] {
        let answer = api.send(api.client.get(format!("{}{path}", api.base))).await;
        assert_eq!(answer.status.is_success(), path != "/api/nothing", "{path}");
        for name in ["x-content-type-options", "x-frame-options", "content-security-policy", "x-request-id"] {
            assert!(answer.headers.contains_key(name), "{path} {name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_shows_how_far_its_image_has_come_while_it_is_fetched() {
    let api = Api::new().await;
    let admin = api.account("admin", Role::Admin).await;
    let node = node(&api).await;
    api.post("/deployments", Some(&admin), json!({"name": "web", "image": "app:1"})).await;
    api.services.store.orchestrate(&()).await.unwrap();
    let instance = api.db.texts("select id from instances").await.remove(0);
    let path = format!("/instances/{instance}");
    let shown = async || api.get(&path, &admin).await.body["pull"].clone();
    assert_eq!(shown().await, Value::Null);

    let layer = |id: &str, current_bytes, total_bytes| LayerProgress {
        id: id.into(),
        status: "Downloading".into(),
        current_bytes,
        total_bytes,
    };
    let mut progress = PullProgress {
        image: "app:1".into(),
        instance_ids: vec![instance.parse().unwrap()],
        at: "2026-01-02T03:04:05Z".parse().unwrap(),
        attempt: 1,
        layers: vec![layer("a", 5, Some(10)), layer("b", 0, None)],
    };
    api.services.store.pull_progress_set(node, &progress).await.unwrap();
    let first = json!({
        "current_bytes": 5, "total_bytes": null, "attempt": 1, "observed_at": "2026-01-02T03:04:05Z",
        "layers": [
            { "id": "a", "status": "Downloading", "current_bytes": 5, "total_bytes": 10 },
            { "id": "b", "status": "Downloading", "current_bytes": 0, "total_bytes": null },
        ],
    });
    assert_eq!(shown().await, first);
    (progress.at, progress.layers[1]) = ("2026-01-02T03:04:06Z".parse().unwrap(), layer("b", 7, Some(8)));
    api.services.store.pull_progress_set(node, &progress).await.unwrap();
    let second = shown().await;
    assert_eq!((&second["current_bytes"], &second["total_bytes"]), (&json!(12), &json!(18)));
    // The list of a deployment's instances shows the same.
    let deployment = api.get("/deployments/web", &admin).await.body;
    assert_eq!(deployment["instances"][0]["pull"], second, "{deployment}");
}

/// A node that takes instances.
async fn node(api: &Api) -> NodeId {
    let facts = NodeFacts { cpu_millis: 4000, memory_bytes: 8 << 30, ..NodeFacts::default() };
    let (name, once) = (Name::parse("n1").unwrap(), (1, Duration::from_secs(60)));
    let (store, system) = (&api.services.store, Actor::system());
    store.enrolment_token_insert(Uuid::now_v7(), b"t", &BTreeMap::new(), once, &system).await.unwrap();
    let enrol = NodeEnrol {
        id: Uuid::now_v7().into(),
        token_sha256: b"t",
        key_sha256: b"k",
        name: &name,
        facts: &facts,
        address: None,
    };
    let id = store.node_enrol(&enrol).await.unwrap().id;
    store.node_state_set(id, NodeState::Ready, Utc::now()).await.unwrap();
    id
}
