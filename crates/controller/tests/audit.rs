//! The audit log: every change and every refusal is a line, and no line is a secret.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on fails where it stands"
)]

mod common;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use chrono::Utc;
use common::{Answer, Api, PASSWORD};
use controller::{auth::role::Role, grpc, http, pki};
use domain::{
    id::NodeId,
    name::Name,
    node::{NodeFacts, NodeState},
};
use protocol::proto::{
    self, agent_service_client::AgentServiceClient, enrolment_service_client::EnrolmentServiceClient,
};
use reqwest::{Method, StatusCode, header};
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use serde_json::{Value, json};
use store::{audit::Actor, node::NodeEnrol};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};
use uuid::Uuid;

/// Every operation that changes something, and the action of its line.
const ACTIONS: &[(&str, &str)] = &[
    ("account_create", "account_create"),
    ("account_update", "account_update"),
    ("api_token_create", "api_token_create"),
    ("api_token_delete", "api_token_delete"),
    ("auth_login", "sign_in"),
    ("auth_logout", "sign_out"),
    ("auth_logout_all", "sign_out_everywhere"),
    ("auth_password", "password_change"),
    ("auth_register", "account_register"),
    ("credential_create", "credential_create"),
    ("credential_delete", "credential_delete"),
    ("credential_replace", "credential_replace"),
    ("credential_reveal", "credential_reveal"),
    ("credential_rollback", "credential_rollback"),
    ("deployment_cancel", "deployment_cancel"),
    ("deployment_create", "deployment_create"),
    ("deployment_delete", "deployment_delete"),
    ("deployment_pause", "deployment_pause"),
    ("deployment_resume", "deployment_resume"),
    ("deployment_rollback", "deployment_rollback"),
    ("deployment_scale", "deployment_scale"),
    ("deployment_update", "deployment_update"),
    ("enrolment_token_create", "enrolment_token_create"),
    ("github_exchange", "sign_in"),
    ("github_link_delete", "identity_unlink"),
    ("instance_restart", "instance_restart"),
    ("instance_start", "instance_start"),
    ("instance_stop", "instance_stop"),
    ("invite_create", "invite_create"),
    ("invite_delete", "invite_delete"),
    ("member_remove", "member_remove"),
    ("member_set", "member_set"),
    ("node_cordon", "node_cordon"),
    ("node_delete", "node_delete"),
    ("node_drain", "node_drain"),
    ("node_uncordon", "node_uncordon"),
    ("node_update", "node_label"),
    ("project_create", "project_create"),
    ("project_delete", "project_delete"),
    ("session_end", "sign_out"),
    ("settings_update", "setting_update"),
];

/// Operations that are no POST for nothing, and yet no line.
const NO_LINE: &[(&str, &str)] = &[
    ("auth_refresh", "goes on with a session whose beginning is a line, as a token used twice is"),
    ("github_link_begin", "only sends the browser away; that it came back linked is a line"),
];

/// Those of [`ACTIONS`] that need a provider; its own tests look at their lines.
const ELSEWHERE: &[&str] = &["github_exchange", "github_link_delete"];

/// The operations of the document that may change something.
fn mutations() -> Vec<String> {
    let document = serde_json::to_value(http::openapi_document()).unwrap();
    let methods = document["paths"].as_object().unwrap().values().flat_map(|path| path.as_object().unwrap());
    let changing =
        methods.filter(|(method, _)| ["post", "put", "patch", "delete"].contains(&method.as_str()));
    changing.map(|(_, operation)| operation["operationId"].as_str().unwrap().to_owned()).collect()
}

/// What a line says, field by field.
async fn lines(api: &Api, condition: &str) -> Vec<Value> {
    let rows = api
        .db
        .texts(&format!("select row_to_json(t) from audit_log t where {condition} order by at, id"))
        .await;
    rows.iter().map(|row| serde_json::from_str(row).unwrap()).collect()
}

/// A viewer's or operator's doings, each looked up in the log by its request.
struct Walk<'a> {
    api: &'a Api,
    seen: BTreeMap<String, Value>,
}

impl Walk<'_> {
    /// Sends a request that succeeds, and makes sure of its one line.
    async fn step(
        &mut self,
        operation: &str,
        (actor, token): (&str, Option<&str>),
        (method, path): (Method, &str),
        body: Value,
    ) -> Answer {
        let mut request = self.api.request(method, path, token);
        if !body.is_null() {
            request = request.json(&body);
        }
        let answer = self.api.send(request).await;
        assert!(answer.status.is_success(), "{operation}: {} {}", answer.status, answer.body);
        let id = answer.headers["x-request-id"].to_str().unwrap();
        let mut found = lines(self.api, &format!("request_id = '{id}'")).await;
        assert_eq!(found.len(), 1, "{operation}: {found:?}");
        let line = found.remove(0);
        let action = ACTIONS.iter().find(|(name, _)| *name == operation).unwrap().1;
        let says = |field: &str| line[field].as_str().unwrap_or_default().to_owned();
        assert_eq!(
            (
                says("action").as_str(),
                says("actor").as_str(),
                says("address").as_str(),
                says("outcome").as_str()
            ),
            (action, actor, "127.0.0.1", "done"),
            "{operation}: {line}"
        );
        assert_ne!(says("subject"), "", "{operation}: {line}");
        self.seen.insert(operation.to_owned(), line);
        answer
    }
}

/// A node that takes instances.
async fn node(api: &Api) -> NodeId {
    let (name, facts) = (
        Name::parse("n1").unwrap(),
        NodeFacts { cpu_millis: 4000, memory_bytes: 8 << 30, ..NodeFacts::default() },
    );
    let once = (1, Duration::from_secs(60));
    let (store, system) = (&api.services.store, Actor::system());
    store.enrolment_token_insert(Uuid::now_v7(), b"t", &BTreeMap::new(), once, &system).await.unwrap();
    let enrol = NodeEnrol {
        id: Uuid::now_v7().into(),
        token_sha256: b"t",
        key_sha256: b"k",
        name: &name,
        facts: &facts,
        address: Some("192.0.2.7"),
    };
    let id = store.node_enrol(&enrol).await.unwrap().id;
    store.node_state_set(id, NodeState::Ready, Utc::now()).await.unwrap();
    id
}

/// Changes of a deployment `web` and of the node `n1`, each superseding the one before.
async fn changes(walk: &mut Walk<'_>, who: (&str, Option<&str>)) {
    let (post, web) = (Method::POST, json!({"name": "web", "image": "app:2"}));
    walk.step("deployment_update", who, (Method::PUT, "/deployments/web?supersede=true"), web).await;
    for request in ["pause", "resume"] {
        let path = format!("/deployments/web/{request}");
        walk.step(&format!("deployment_{request}"), who, (post.clone(), &path), Value::Null).await;
    }
    let path = "/deployments/web/scale?supersede=true";
    walk.step("deployment_scale", who, (post.clone(), path), json!({"replicas": 2})).await;
    let path = "/deployments/web/rollback?supersede=true";
    walk.step("deployment_rollback", who, (post.clone(), path), json!({"revision": 1})).await;
    walk.step("deployment_cancel", who, (post.clone(), "/deployments/web/cancel"), Value::Null).await;
    for request in ["cordon", "uncordon", "drain"] {
        let (path, body) = (format!("/nodes/n1/{request}"), json!({}));
        walk.step(&format!("node_{request}"), who, (post.clone(), &path), body).await;
    }
    walk.step("node_update", who, (Method::PATCH, "/nodes/n1"), json!({"labels": {"zone": "a"}})).await;
    walk.step("node_delete", who, (Method::DELETE, "/nodes/n1?force=true"), Value::Null).await;
}

#[test]
fn every_operation_that_changes_something_has_a_row_here() {
    let missing: Vec<String> = mutations()
        .into_iter()
        .filter(|name| !ACTIONS.iter().chain(NO_LINE).any(|(operation, _)| operation == name))
        .collect();
    assert_eq!(missing, [""; 0], "which line do these write?");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_change_is_one_line_with_who_from_where_what_and_in_which_request() {
    let api = Api::with(|config| config.reveal_enabled = true).await;
    let token = api.account("boss", Role::Admin).await;
    let boss = ("boss", Some(token.as_str()));
    let mut walk = Walk { api: &api, seen: BTreeMap::new() };
    let (post, put) = (Method::POST, Method::PUT);
    let (patch, delete) = (Method::PATCH, Method::DELETE);

    let anna = json!({"name": "anna", "role": "viewer", "password": PASSWORD});
    walk.step("account_create", boss, (post.clone(), "/accounts"), anna).await;
    walk.step("account_update", boss, (patch.clone(), "/accounts/anna"), json!({"role": "operator"})).await;
    let made =
        walk.step("invite_create", boss, (post.clone(), "/invites"), json!({"role": "viewer"})).await.body;
    let path = format!("/invites/{}", made["id"].as_str().unwrap());
    walk.step("invite_delete", boss, (delete.clone(), &path), Value::Null).await;
    let invite = api.post("/invites", Some(&token), json!({"role": "viewer"})).await.body["invite"].clone();
    let bert = json!({"name": "bert", "password": PASSWORD, "invite": invite});
    walk.step("auth_register", ("bert", None), (post.clone(), "/auth/register"), bert).await;
    let made =
        walk.step("api_token_create", boss, (post.clone(), "/api-tokens"), json!({"name": "ci"})).await.body;
    let path = format!("/api-tokens/{}", made["id"].as_str().unwrap());
    walk.step("api_token_delete", boss, (delete.clone(), &path), Value::Null).await;
    walk.step("settings_update", boss, (patch, "/settings"), json!({"registration": "closed"})).await;
    let labels = json!({"labels": {"zone": "a"}, "uses": 3});
    walk.step("enrolment_token_create", boss, (post.clone(), "/enrolment-tokens"), labels).await;

    let db = json!({"name": "db", "kind": "secret", "value": "x"});
    walk.step("credential_create", boss, (post.clone(), "/credentials"), db).await;
    let path = (put.clone(), "/credentials/db/value");
    walk.step("credential_replace", boss, path, json!({"value": "y"})).await;
    let path = (post.clone(), "/credentials/db/rollback");
    walk.step("credential_rollback", boss, path, json!({"version": 1})).await;
    walk.step("credential_reveal", boss, (post.clone(), "/credentials/db/reveal"), json!({})).await;
    walk.step("credential_delete", boss, (delete.clone(), "/credentials/db"), Value::Null).await;

    walk.step("project_create", boss, (post.clone(), "/projects"), json!({"name": "shop"})).await;
    let member = "/projects/shop/members/anna";
    walk.step("member_set", boss, (put, member), json!({"role": "operator"})).await;
    walk.step("member_remove", boss, (delete.clone(), member), Value::Null).await;
    walk.step("project_delete", boss, (delete.clone(), "/projects/shop"), Value::Null).await;

    node(&api).await;
    let web = json!({"name": "web", "image": "app:1", "env": {"MODE": "fast"}});
    walk.step("deployment_create", boss, (post.clone(), "/deployments"), web).await;
    api.services.store.orchestrate(&()).await.unwrap();
    let instance = api.db.texts("select id from instances").await.remove(0);
    for request in ["restart", "stop", "start"] {
        let path = format!("/instances/{instance}/{request}");
        walk.step(&format!("instance_{request}"), boss, (post.clone(), &path), Value::Null).await;
    }
    changes(&mut walk, boss).await;
    walk.step("deployment_delete", boss, (delete.clone(), "/deployments/web"), Value::Null).await;

    let sign_in = async |walk: &mut Walk<'_>, password: &str| {
        let body = json!({"name": "anna", "password": password});
        let path = (Method::POST, "/auth/login");
        let answer = walk.step("auth_login", ("anna", None), path, body).await;
        answer.body["access_token"].as_str().unwrap().to_owned()
    };
    let first = sign_in(&mut walk, PASSWORD).await;
    let anna = ("anna", Some(first.as_str()));
    let change = json!({"current_password": PASSWORD, "new_password": "another horse battery"});
    walk.step("auth_password", anna, (post.clone(), "/auth/password"), change).await;
    let second = sign_in(&mut walk, "another horse battery").await;
    let third = sign_in(&mut walk, "another horse battery").await;
    let sessions = api.get("/auth/sessions", &third).await.body;
    let other = sessions["items"].as_array().unwrap().iter().find(|s| s["current"] == false).unwrap();
    let path = format!("/auth/sessions/{}", other["id"].as_str().unwrap());
    walk.step("session_end", ("anna", Some(&third)), (delete, &path), Value::Null).await;
    drop(second);
    walk.step("auth_logout", ("anna", Some(&third)), (post.clone(), "/auth/logout"), Value::Null).await;
    let last = sign_in(&mut walk, "another horse battery").await;
    walk.step("auth_logout_all", ("anna", Some(&last)), (post, "/auth/logout-all"), Value::Null).await;

    let done: Vec<&str> = walk.seen.keys().map(String::as_str).collect();
    let wanted: Vec<&str> =
        ACTIONS.iter().map(|(operation, _)| *operation).filter(|o| !ELSEWHERE.contains(o)).collect();
    assert_eq!(done, wanted);

    let line = |operation: &str| &walk.seen[operation];
    let created = line("deployment_create");
    assert_eq!((&created["subject"], &created["project"]), (&json!("web"), &json!("default")));
    assert_eq!(created["after"]["env"], json!(["MODE"]));
    assert_eq!(created["after"]["image"], "app:1");
    assert_eq!(line("deployment_update")["before"], created["after"]);
    // The rollback was cancelled, which left what was there before it.
    assert_eq!(line("deployment_delete")["before"], line("deployment_scale")["after"]);
    let stopped = line("instance_stop");
    assert_eq!((&stopped["subject"], &stopped["project"]), (&json!(instance), &json!("default")));
    assert_eq!(
        (&stopped["before"]["desired"], &stopped["after"]["desired"]),
        (&json!("running"), &json!("stopped"))
    );
    assert_eq!(stopped["after"]["deployment"], "web");
    let token = line("enrolment_token_create");
    assert_eq!((&token["after"]["uses"], &token["after"]["labels"]), (&json!(3), &json!({"zone": "a"})));
    let enrolled = lines(&api, "action = 'node_enrol'").await;
    assert_eq!(
        (enrolled.len(), &enrolled[0]["actor_kind"], &enrolled[0]["subject"]),
        (1, &json!("node"), &json!("n1"))
    );
    assert_eq!(enrolled[0]["address"], "192.0.2.7");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_refused_is_a_line_and_what_was_only_wrong_is_none() {
    let api = Api::new().await;
    let viewer = api.account("viewer", Role::Viewer).await;
    let admin = api.account("admin", Role::Admin).await;
    let before = lines(&api, "true").await.len();
    let refused = api.post("/deployments", Some(&viewer), json!({"name": "web", "image": "a"})).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    let wrong =
        api.post("/auth/login", None, json!({"name": "admin", "password": "wrong wrong wrong"})).await;
    assert_eq!(wrong.status, StatusCode::UNAUTHORIZED);
    for (answer, actor, subject) in
        [(&refused, "viewer", "POST /api/v1/deployments"), (&wrong, "anonymous", "admin")]
    {
        let id = answer.body["request_id"].as_str().unwrap();
        let found = lines(&api, &format!("request_id = '{id}'")).await;
        assert_eq!(found.len(), 1, "{found:?}");
        let line = &found[0];
        assert_eq!((&line["actor"], &line["subject"]), (&json!(actor), &json!(subject)), "{line}");
        assert_eq!((&line["outcome"], &line["address"]), (&json!("refused"), &json!("127.0.0.1")), "{line}");
    }
    let create = |body: Value| api.post("/deployments", Some(&admin), body);
    assert_eq!(create(json!({"name": "web", "image": "a"})).await.status, StatusCode::ACCEPTED);
    assert_eq!(create(json!({"name": "web", "image": "a"})).await.status, StatusCode::CONFLICT);
    assert_eq!(create(json!({"name": "WEB", "image": "a"})).await.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(create(json!({"nme": "web"})).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(api.get("/deployments/none", &admin).await.status, StatusCode::NOT_FOUND);
    assert_eq!(lines(&api, "true").await.len(), before + 3);

    // Somebody who may do it elsewhere.
    assert!(api.post("/projects", Some(&admin), json!({"name": "shop"})).await.status.is_success());
    let member = api.request(Method::PUT, "/projects/shop/members/viewer", Some(&admin));
    assert!(api.send(member.json(&json!({"role": "operator"}))).await.status.is_success());
    let refused = api.send(api.request(Method::DELETE, "/deployments/web", Some(&viewer))).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "{}", refused.body);
    let id = refused.body["request_id"].as_str().unwrap();
    let line = lines(&api, &format!("request_id = '{id}'")).await.remove(0);
    assert_eq!((&line["subject"], &line["project"]), (&json!("deployment web"), &json!("default")), "{line}");
    assert_eq!(
        (&line["outcome"], &line["after"]),
        (&json!("refused"), &json!({"needs": "deployments:write"}))
    );
}

/// Serves agents too; gives where, and what a host needs in order to trust it.
fn serve_agents(api: &Api) -> (Endpoint, ClientTlsConfig) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let (services, supervisor) = (api.services.clone(), &api.services.supervisor);
    let tls = pki::server_config(services.ca.clone()).unwrap();
    let incoming = pki::incoming(tokio::net::TcpListener::from_std(listener).unwrap(), tls, supervisor);
    let stop = services.stopping.clone();
    supervisor.spawn("agents", grpc::serve(services.clone(), incoming, stop));
    let ca = Certificate::from_pem(pem(services.ca.certificate()));
    let tls = ClientTlsConfig::new().domain_name("controller.automator67.internal").ca_certificate(ca);
    (Endpoint::from_shared(format!("https://{address}")).unwrap(), tls)
}

fn pem(der: &[u8]) -> String {
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", STANDARD.encode(der))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn enrolment_renewal_and_what_is_refused_to_hosts_and_agents_are_lines_with_the_address() {
    let api = Api::new().await;
    let (endpoint, tls) = serve_agents(&api);
    let key = rcgen::KeyPair::generate().unwrap();
    let csr = rcgen::CertificateParams::default().serialize_request(&key).unwrap().der().to_vec();
    let channel = endpoint.clone().tls_config(tls.clone()).unwrap().connect().await.unwrap();
    let mut host = EnrolmentServiceClient::new(channel);
    let sha256 = controller::auth::token::sha256("good");
    let once = (1, Duration::from_secs(60));
    let (id, system) = (Uuid::now_v7(), Actor::system());
    api.services.store.enrolment_token_insert(id, &sha256, &BTreeMap::new(), once, &system).await.unwrap();
    let wish = |token: &str| proto::EnrolRequest {
        token: token.to_owned(),
        csr_der: csr.clone(),
        facts: Some(proto::NodeFacts::default()),
        node_name: "n1".to_owned(),
        protocol_version: protocol::PROTOCOL_VERSION,
    };
    for _ in 0..3 {
        assert_eq!(host.enrol(wish("bad")).await.unwrap_err().code(), tonic::Code::PermissionDenied);
    }
    let enrolled = host.enrol(wish("good")).await.unwrap().into_inner();

    let pkcs8 = key.serialize_der();
    let rng = ring::rand::SystemRandom::new();
    let signer = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &pkcs8, &rng).unwrap();
    let renew = proto::RenewRequest {
        csr_der: csr.clone(),
        certificate_der: enrolled.certificate_der.clone(),
        signature: signer.sign(&rng, &csr).unwrap().as_ref().to_vec(),
    };
    host.renew(renew.clone()).await.unwrap();
    api.db.execute("update node_certificates set revoked_at = now()").await;
    for _ in 0..3 {
        assert_eq!(host.renew(renew.clone()).await.unwrap_err().code(), tonic::Code::PermissionDenied);
    }
    let identity = Identity::from_pem(pem(&enrolled.certificate_der), key.serialize_pem());
    let channel = endpoint.tls_config(tls.identity(identity)).unwrap().connect().await.unwrap();
    let mut agent = AgentServiceClient::new(channel);
    for _ in 0..3 {
        let refused = agent.push_metrics(proto::PushMetricsRequest::default()).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::PermissionDenied);
    }

    let shown = "select concat_ws(' ', actor_kind, actor, action, subject, outcome, address) from audit_log \
        where action like 'node_%' order by at, id";
    let wanted = [
        "anonymous anonymous node_enrol n1 refused 127.0.0.1",
        "node node n1 node_enrol n1 done 127.0.0.1",
        "node node n1 node_renew n1 done 127.0.0.1",
        "anonymous anonymous node_renew certificate refused 127.0.0.1",
        "node node n1 node_session n1 refused 127.0.0.1",
    ];
    assert_eq!(api.db.texts(shown).await, wanted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_bad_tokens_is_one_line_and_a_missing_token_is_none() {
    let api = Api::new().await;
    for n in 0..20 {
        let answer = api.get("/deployments", &format!("a67_nonsense{n}")).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        let answer = api.send(api.request(Method::GET, "/nodes", None)).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    }
    let found = lines(&api, "outcome = 'refused'").await;
    assert_eq!(found.len(), 1, "{found:?}");
    let line = &found[0];
    assert_eq!(
        (&line["action"], &line["subject"]),
        (&json!("authenticate"), &json!("GET /api/v1/deployments"))
    );
    assert_eq!((&line["actor_kind"], &line["address"]), (&json!("anonymous"), &json!("127.0.0.1")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_that_came_in_or_went_out_is_in_the_log_the_events_or_the_operations() {
    let api = Api::new().await;
    let admin = api.account("admin", Role::Admin).await;
    let mut secrets: Vec<String> = ["planted-password-1", "planted-password-2", "planted-wrong-password"]
        .into_iter()
        .chain(["planted-env-value", "planted-argument", "planted-entrypoint", "planted-in-a-bad-body"])
        .map(str::to_owned)
        .collect();
    let mut made = |answer: &Answer, field: &str| {
        let text =
            answer.body[field].as_str().unwrap_or_else(|| panic!("{field}: {}", answer.body)).to_owned();
        secrets.push(text.clone());
        text
    };
    let carl = json!({"name": "carl", "role": "operator", "password": "planted-password-1"});
    assert_eq!(api.post("/accounts", Some(&admin), carl).await.status, StatusCode::CREATED);
    let invite = api.post("/invites", Some(&admin), json!({"role": "viewer"})).await;
    let invite = made(&invite, "invite");
    let dora = json!({"name": "dora", "password": "planted-password-1", "invite": invite});
    assert_eq!(api.post("/auth/register", None, dora).await.status, StatusCode::CREATED);
    // Somebody types the password where the name belongs.
    let login = |name: &str, password: &str| {
        api.post("/auth/login", None, json!({"name": name, "password": password}))
    };
    login("Planted-Password-1!", "planted-wrong-password").await;
    login("carl", "planted-wrong-password").await;
    let signed_in = login("carl", "planted-password-1").await;
    let carl = made(&signed_in, "access_token");
    let refresh = made(&signed_in, "refresh_token");
    let refreshed = api.post("/auth/refresh", None, json!({"refresh_token": refresh})).await;
    made(&refreshed, "access_token");
    made(&refreshed, "refresh_token");
    let token = api.post("/api-tokens", Some(&carl), json!({"name": "ci"})).await;
    let token = made(&token, "token");
    let enrolment = api.post("/enrolment-tokens", Some(&admin), json!({})).await;
    made(&enrolment, "token");
    let spec = json!({
        "name": "web", "image": "app:1", "env": {"PASSWORD": "planted-env-value"},
        "command": ["--password=planted-argument"], "entrypoint": ["/planted-entrypoint"]
    });
    assert_eq!(api.post("/deployments", Some(&token), spec).await.status, StatusCode::ACCEPTED);
    node(&api).await;
    api.services.store.orchestrate(&()).await.unwrap();
    let bad = json!({"name": "x", "image": {"planted-in-a-bad-body": 1}});
    assert_eq!(api.post("/deployments", Some(&token), bad).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(api.get("/accounts", &token).await.status, StatusCode::FORBIDDEN);
    assert_eq!(api.get("/nodes", &format!("{token}x")).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(api.get("/nodes", &format!("{carl}x")).await.status, StatusCode::UNAUTHORIZED);
    let change = json!({"current_password": "planted-password-1", "new_password": "planted-password-2"});
    assert!(api.post("/auth/password", Some(&carl), change).await.status.is_success());
    let gone = api.send(api.request(Method::DELETE, "/deployments/web", Some(&admin))).await;
    assert_eq!(gone.status, StatusCode::ACCEPTED);

    for table in ["audit_log", "events", "operations"] {
        let rows = api.db.texts(&format!("select row_to_json(t)::text from {table} t")).await;
        assert_ne!(rows, [""; 0], "{table}");
        for row in rows {
            let lower = row.to_lowercase();
            for secret in &secrets {
                // Of a token, the part that nobody could know without it.
                let tail = secret.rsplit('.').next().filter(|tail| tail.len() >= 32).unwrap_or(secret);
                assert!(!row.contains(secret.as_str()) && !row.contains(tail), "{table}: {secret} in {row}");
            }
            assert!(!lower.contains("planted"), "{table}: {row}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_is_listed_from_the_newest_back_with_filters_and_shows_admins_only() {
    let api = Api::new().await;
    let admin = api.account("admin", Role::Admin).await;
    let operator = api.account("operator", Role::Operator).await;
    for path in ["/audit", "/audit/export"] {
        assert_eq!(api.get(path, &operator).await.status, StatusCode::FORBIDDEN, "{path}");
    }
    let list = async |query: &str| {
        let answer = api.get(&format!("/audit{query}"), &admin).await;
        assert_eq!(answer.status, StatusCode::OK, "{query}: {}", answer.body);
        answer.body["items"].as_array().unwrap().clone()
    };
    let all = list("").await;
    let subjects: Vec<&str> = all.iter().map(|line| line["subject"].as_str().unwrap()).collect();
    assert_eq!(subjects[..2], ["GET /api/v1/audit/export", "GET /api/v1/audit"]);
    let newest = &all[0];
    let fields: Vec<&String> = newest.as_object().unwrap().keys().collect();
    for field in ["actor_id", "actor_kind", "after", "before", "credential_id", "project", "request_id"] {
        assert!(fields.iter().any(|f| *f == field), "{field} is not in {fields:?}");
    }
    let (id, at) = (newest["actor_id"].as_str().unwrap(), newest["at"].as_str().unwrap());
    let request = newest["request_id"].as_str().unwrap();
    let (mut paged, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = api.get(&format!("/audit?limit=2{cursor}"), &admin).await.body;
        paged.extend(page["items"].as_array().unwrap().clone());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(paged, all, "reading is no line");
    for (query, count) in [
        ("?actor=operator&outcome=refused".to_owned(), 2),
        (format!("?actor={id}&action=request"), 2),
        (format!("?request_id={request}"), 1),
        ("?action=sign_in&subject=admin".to_owned(), 1),
        ("?project=default".to_owned(), 0),
        ("?address=127.0.0.1&action=sign_in".to_owned(), 2),
        ("?address=192.0.2.1".to_owned(), 0),
        (format!("?since={at}"), 1),
        (format!("?until={at}"), all.len() - 1),
    ] {
        assert_eq!(list(&query).await.len(), count, "{query}");
    }
    for (query, field) in [
        ("outcome=maybe", "outcome"),
        ("address=here", "address"),
        ("since=yesterday", "since"),
        ("until=2026-01-01", "until"),
        ("since=2026-02-01T00:00:00Z&until=2026-01-01T00:00:00Z", "until"),
        ("actor=", "actor"),
        ("subject=a%00b", "subject"),
    ] {
        for path in ["/audit", "/audit/export"] {
            let answer = api.get(&format!("{path}?{query}"), &admin).await;
            assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{path}?{query}");
            assert_eq!(answer.body["errors"][0]["field"], field, "{path}?{query}");
        }
    }
    assert_eq!(api.get("/audit?who=me", &admin).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(api.get("/audit?limit=0", &admin).await.status, StatusCode::UNPROCESSABLE_ENTITY);
}

/// Fills the log: each line has a kilobyte.
async fn fill(api: &Api, count: u32) {
    api.db
        .execute(&format!(
            "insert into audit_log (id, at, actor, actor_kind, action, subject, outcome, after) \
             select gen_random_uuid(), now() - interval '1 hour' + n / 7 * interval '1 ms', 'system', 'system', 'filler', \
             n::text, 'done', jsonb_build_object('text', repeat('x', 1000)) from generate_series(1, {count}) n"
        ))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_has_every_line_once_from_the_oldest_on_and_is_a_line_itself() {
    let api = Api::new().await;
    let admin = api.account("admin", Role::Admin).await;
    fill(&api, 1234).await;
    let answer = api.get("/audit/export", &admin).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.headers[header::CONTENT_TYPE], "application/x-ndjson");
    let name = answer.headers[header::CONTENT_DISPOSITION].to_str().unwrap();
    assert!(name.starts_with("attachment; filename=\"audit-") && name.ends_with(".ndjson\""), "{name}");
    let text = answer.body.as_str().unwrap();
    let exported: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let ids: Vec<&str> = exported.iter().map(|line| line["id"].as_str().unwrap()).collect();
    assert_eq!(ids, api.db.texts("select id from audit_log order by at, id").await);
    assert_eq!(exported.last().unwrap()["action"], "audit_export");
    let some = api.get("/audit/export?action=filler&subject=77", &admin).await.body;
    assert_eq!((&some["subject"], &some["actor_kind"]), (&json!("77"), &json!("system")), "{some}");
    assert_eq!(api.get("/audit/export?subject=nothing", &admin).await.body, "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_whose_reader_goes_away_ends_and_holds_no_transaction_until_then() {
    let api = Api::new().await;
    let admin = api.account("admin", Role::Admin).await;
    fill(&api, 40_000).await;
    let idle = Arc::strong_count(&api.services);
    let mut response = api.request(Method::GET, "/audit/export", Some(&admin)).send().await.unwrap();
    assert!(response.chunk().await.unwrap().is_some_and(|chunk| !chunk.is_empty()));
    assert!(Arc::strong_count(&api.services) > idle, "it is under way");
    let open = "select count(*) from pg_stat_activity where datname = current_database() and state like 'idle in transaction%'";
    assert_eq!(api.db.texts(open).await, ["0"]);
    drop(response);
    let deadline = Instant::now() + Duration::from_secs(10);
    while Arc::strong_count(&api.services) > idle {
        assert!(Instant::now() < deadline, "the export goes on without its reader");
        tokio::task::yield_now().await;
    }
}
