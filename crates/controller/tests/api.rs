//! The REST API as a client sees it, over real HTTP and a real PostgreSQL.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on fails where it stands"
)]

mod common;

use common::{Api, PASSWORD};
use controller::{auth::role::Role, http};
use reqwest::{Method, StatusCode, header};
use serde_json::{Value, json};

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
        "image": "app:1", "entrypoint": [], "command": [], "env": {}, "ports": [],
        "limits": {"cpu_millis": 1000, "memory_bytes": 536_870_912, "pids": 1024},
        "reservation": {"cpu_millis": 50, "memory_bytes": 16_777_216},
        "replicas": 1, "restart": {"when": "always", "max_retries": null}, "pull": "missing",
        "stop_grace_seconds": 10, "min_healthy_seconds": 1, "progress_deadline_seconds": 300, "constraints": {}
    });
    assert_eq!(shown["spec"], spec);
    assert_eq!(api.count("deployments").await, "1");
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
        api.services.store.orchestrate().await.unwrap();
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
async fn answers_carry_security_headers_and_probes_need_no_token() {
    let api = Api::new().await;
    for path in ["/healthz", "/readyz", "/version", "/", "/nothing"] {
        let answer = api.send(api.client.get(format!("{}{path}", api.base))).await;
        assert_eq!(answer.status.is_success(), path != "/nothing", "{path}");
        for name in ["x-content-type-options", "x-frame-options", "content-security-policy", "x-request-id"] {
            assert!(answer.headers.contains_key(name), "{path} {name}");
        }
    }
}
