//! Accounts, API tokens, invites, settings and the first administrator, over real
//! HTTP and a real PostgreSQL.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on fails where it stands"
)]

mod common;

use clap::Parser;
use common::{Answer, Api, PASSWORD};
use controller::{
    admin,
    auth::role::Role,
    cli::{Admin, Cli, Command},
    service::identity::account::Registration,
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

async fn patch(api: &Api, path: &str, token: &str, body: Value) -> Answer {
    api.send(api.request(Method::PATCH, path, Some(token)).json(&body)).await
}

async fn delete(api: &Api, path: &str, token: &str) -> StatusCode {
    api.send(api.request(Method::DELETE, path, Some(token))).await.status
}

async fn login(api: &Api, name: &str, password: &str) -> StatusCode {
    api.post("/auth/login", None, json!({"name": name, "password": password})).await.status
}

async fn register(api: &Api, name: &str, invite: Value) -> Answer {
    let body = json!({"name": name, "password": PASSWORD, "invite": invite});
    api.post("/auth/register", None, body).await
}

/// Makes an API token; its text, and what is shown of it.
async fn token(api: &Api, with: &str, body: Value) -> (String, Value) {
    let made = api.post("/api-tokens", Some(with), body).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.body);
    (made.body["token"].as_str().unwrap().to_owned(), made.body)
}

#[track_caller]
fn refused(answer: &Answer, status: StatusCode, code: &str) {
    assert_eq!((answer.status, answer.body["code"].as_str()), (status, Some(code)), "{}", answer.body);
}

#[track_caller]
fn field(answer: &Answer, name: &str) {
    let found = answer.body["errors"][0]["field"].as_str();
    assert_eq!((answer.status, found), (StatusCode::UNPROCESSABLE_ENTITY, Some(name)), "{}", answer.body);
}

async fn at_host(api: &Api, line: &str) -> String {
    let words = format!("automator67-controller admin {line}");
    let Ok(Cli { command: Command::Admin(command), .. }) = Cli::try_parse_from(words.split_whitespace())
    else {
        panic!("{line}");
    };
    command_run(api, command).await
}

async fn command_run(api: &Api, command: Admin) -> String {
    admin::run(&api.services, command).await.unwrap().map(|shown| shown.to_string()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_administrator_makes_and_sees_accounts_of_people_and_services() {
    let api = Api::new().await;
    let root = api.account("root", Role::Admin).await;
    let create = |body: Value| api.post("/accounts", Some(&root), body);
    let made = create(json!({"name": "anna", "role": "none", "password": PASSWORD})).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.body);
    assert_eq!(login(&api, "anna", PASSWORD).await, StatusCode::OK);
    let service = create(json!({"name": "ci", "role": "operator", "kind": "service"})).await;
    assert_eq!(
        (service.body["kind"].as_str(), service.body["has_password"].as_bool()),
        (Some("service"), Some(false))
    );
    assert_eq!(login(&api, "ci", "").await, StatusCode::UNAUTHORIZED);
    for (body, name) in [
        (json!({"name": "x", "role": "viewer"}), "password"),
        (json!({"name": "x", "role": "viewer", "kind": "service", "password": PASSWORD}), "password"),
        (json!({"name": "x", "role": "viewer", "password": "password1234"}), "password"),
        (json!({"name": "x", "role": "viewer", "password": "x1y2z3".repeat(13)}), "password"),
        (json!({"name": "x", "role": "root", "password": PASSWORD}), "role"),
        (json!({"name": "x", "role": "viewer", "kind": "node"}), "kind"),
        (json!({"name": "X", "role": "viewer", "password": PASSWORD}), "name"),
        (json!({"name": "01a20424-bd3c-7657-b1bf-da697adf6b74", "role": "none", "kind": "service"}), "name"),
    ] {
        field(&create(body).await, name);
    }
    refused(
        &create(json!({"name": "ci", "role": "none", "kind": "service"})).await,
        StatusCode::CONFLICT,
        "name_taken",
    );
    let id = service.body["id"].as_str().unwrap();
    for key in ["ci", id] {
        let shown = api.get(&format!("/accounts/{key}"), &root).await;
        assert_eq!(shown.body, service.body);
    }
    let first = api.get("/accounts?limit=2", &root).await.body;
    let rest =
        api.get(&format!("/accounts?cursor={}", first["next_cursor"].as_str().unwrap()), &root).await.body;
    let names: Vec<_> = [&first, &rest]
        .iter()
        .flat_map(|page| page["items"].as_array().unwrap())
        .map(|account| account["name"].as_str().unwrap())
        .collect();
    assert_eq!((names, &rest["next_cursor"]), (vec!["root", "anna", "ci"], &Value::Null));
    assert!(!first.to_string().contains("$2"), "no hash is shown");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_no_administrator_sees_and_changes_no_accounts() {
    let api = Api::new().await;
    let operator = api.account("operator", Role::Operator).await;
    for path in ["/accounts", "/accounts/operator", "/accounts/nobody", "/invites", "/settings"] {
        refused(&api.get(path, &operator).await, StatusCode::FORBIDDEN, "role_too_low");
    }
    let raised = patch(&api, "/accounts/operator", &operator, json!({"role": "admin"})).await;
    refused(&raised, StatusCode::FORBIDDEN, "role_too_low");
    let opened = patch(&api, "/settings", &operator, json!({"registration": "open"})).await;
    refused(&opened, StatusCode::FORBIDDEN, "role_too_low");
    assert_eq!(api.count("audit_log where outcome = 'refused'").await, "7");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_changes_ends_the_accounts_sessions_and_not_its_api_tokens() {
    let api = Api::new().await;
    let (root, anna) = (api.account("root", Role::Admin).await, api.account("anna", Role::Operator).await);
    let (ci, _) = token(&api, &anna, json!({"name": "ci"})).await;
    let same = patch(&api, "/accounts/anna", &root, json!({"role": "operator", "disabled": false})).await;
    assert_eq!((same.status, api.get("/auth/me", &anna).await.status), (StatusCode::OK, StatusCode::OK));
    let changed = patch(&api, "/accounts/anna", &root, json!({"role": "none"})).await;
    assert_eq!((changed.status, changed.body["role"].as_str()), (StatusCode::OK, Some("none")));
    assert_eq!(api.get("/auth/me", &anna).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(api.get("/auth/me", &ci).await.body["role"], "none");
    assert_eq!(api.get("/auth/me", &root).await.status, StatusCode::OK);
    assert_eq!(login(&api, "anna", PASSWORD).await, StatusCode::OK);
    field(&patch(&api, "/accounts/anna", &root, json!({"role": "root"})).await, "role");
    let unknown = patch(&api, "/accounts/anna", &root, json!({"name": "bert"})).await;
    assert_eq!(unknown.status, StatusCode::BAD_REQUEST);
    let line = "select actor || ' ' || (before->>'role') || ' ' || (after->>'role') from audit_log where action = 'account_update'";
    assert_eq!(api.db.texts(line).await, ["root operator none"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disabled_account_has_no_access_by_anything_until_it_is_enabled() {
    let api = Api::new().await;
    let (root, anna) = (api.account("root", Role::Admin).await, api.account("anna", Role::Admin).await);
    let (ci, _) = token(&api, &anna, json!({"name": "ci"})).await;
    let invite = api.post("/invites", Some(&anna), json!({"role": "admin"})).await.body["invite"].clone();
    let disabled = patch(&api, "/accounts/anna", &root, json!({"disabled": true})).await;
    assert!(disabled.body["disabled_at"].is_string(), "{}", disabled.body);
    for token in [&anna, &ci] {
        assert_eq!(api.get("/auth/me", token).await.status, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(login(&api, "anna", PASSWORD).await, StatusCode::UNAUTHORIZED);
    refused(&register(&api, "eve", invite).await, StatusCode::FORBIDDEN, "token_refused");
    assert_eq!(
        api.db.texts("select ended_reason from sessions where ended_at is not null").await,
        ["account_disabled"]
    );
    let enabled = patch(&api, "/accounts/anna", &root, json!({"disabled": false})).await;
    assert_eq!(enabled.body["disabled_at"], Value::Null);
    assert_eq!(api.get("/auth/me", &anna).await.status, StatusCode::UNAUTHORIZED, "its sessions stay ended");
    assert_eq!(api.get("/auth/me", &ci).await.status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_last_administrator_is_neither_demoted_nor_disabled_even_by_two_at_once() {
    let api = Api::new().await;
    let root = api.account("root", Role::Admin).await;
    for change in [json!({"role": "operator"}), json!({"role": "none"}), json!({"disabled": true})] {
        let answer = patch(&api, "/accounts/root", &root, change).await;
        refused(&answer, StatusCode::CONFLICT, "last_admin");
    }
    assert_eq!(api.get("/auth/me", &root).await.body["role"], "admin");
    let anna = api.account("anna", Role::Admin).await;
    let (one, other) = tokio::join!(
        patch(&api, "/accounts/anna", &root, json!({"role": "viewer"})),
        patch(&api, "/accounts/root", &anna, json!({"disabled": true})),
    );
    let done = [&one, &other].iter().filter(|answer| answer.status == StatusCode::OK).count();
    assert_eq!(done, 1, "{} {}", one.body, other.body);
    assert_eq!(api.count("accounts where role = 'admin' and disabled_at is null").await, "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_deletes_an_account() {
    let api = Api::new().await;
    let root = api.account("root", Role::Admin).await;
    api.account("anna", Role::Viewer).await;
    let status = delete(&api, "/accounts/anna", &root).await;
    assert!(matches!(status, StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED), "{status}");
    assert_eq!(api.count("accounts").await, "2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_tokens_text_is_shown_once_and_its_use_ever_after() {
    let api = Api::new().await;
    let anna = api.account("anna", Role::Viewer).await;
    let (ci, made) =
        token(&api, &anna, json!({"name": "ci", "scopes": ["*:read"], "expires_in_seconds": 3600})).await;
    assert_eq!(api.get("/auth/me", &ci).await.status, StatusCode::OK);
    let listed = api.get("/api-tokens", &anna).await.body;
    let shown = &listed["items"][0];
    assert!(!listed.to_string().contains(ci.trim_start_matches("a67_")));
    let keys: Vec<_> = shown.as_object().unwrap().keys().map(String::as_str).collect();
    let all =
        ["account", "created_at", "expires_at", "id", "last_used_address", "last_used_at", "name", "scopes"];
    assert_eq!(keys, all);
    assert_eq!((&shown["id"], &shown["scopes"]), (&made["id"], &json!(["*:read"])));
    assert_eq!(
        (shown["last_used_address"].as_str(), shown["account"].as_str()),
        (Some("127.0.0.1"), Some("anna"))
    );
    assert!(shown["last_used_at"].is_string() && shown["expires_at"].is_string());
    let audit = api.db.texts("select coalesce(after::text, '') from audit_log").await.join("\n");
    assert!(!audit.contains(ci.trim_start_matches("a67_")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_seen_and_deleted_by_its_owner_and_by_who_may_see_and_change_accounts() {
    let api = Api::new().await;
    let (root, anna) = (api.account("root", Role::Admin).await, api.account("anna", Role::Operator).await);
    let bert = api.account("bert", Role::Operator).await;
    let (first, made) = token(&api, &anna, json!({"name": "one"})).await;
    let (second, _) = token(&api, &anna, json!({"name": "two"})).await;
    assert_eq!(api.get("/api-tokens", &bert).await.body["items"], json!([]));
    for path in ["/api-tokens?account=anna", "/api-tokens?account=nobody"] {
        refused(&api.get(path, &bert).await, StatusCode::FORBIDDEN, "role_too_low");
    }
    assert_eq!(api.get("/api-tokens?account=anna", &anna).await.status, StatusCode::OK);
    let page = api.get("/api-tokens?account=anna&limit=1", &root).await.body;
    assert_eq!((page["items"][0]["name"].as_str(), page["next_cursor"].is_string()), (Some("one"), true));
    assert_eq!(api.get("/api-tokens?account=nobody", &root).await.status, StatusCode::NOT_FOUND);
    let path = format!("/api-tokens/{}", made["id"].as_str().unwrap());
    assert_eq!(delete(&api, &path, &bert).await, StatusCode::NOT_FOUND);
    assert_eq!(api.get("/auth/me", &first).await.status, StatusCode::OK);
    assert_eq!(delete(&api, &path, &root).await, StatusCode::NO_CONTENT);
    assert_eq!(api.get("/auth/me", &first).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(delete(&api, &path, &root).await, StatusCode::NOT_FOUND);
    let own = api.get("/api-tokens", &second).await.body["items"][0]["id"].clone();
    assert_eq!(
        delete(&api, &format!("/api-tokens/{}", own.as_str().unwrap()), &second).await,
        StatusCode::NO_CONTENT
    );
    assert_eq!(api.get("/auth/me", &second).await.status, StatusCode::UNAUTHORIZED);
    let lines = "select actor || ' ' || (before->>'account') || ' ' || (before->>'name') from audit_log \
        where action = 'api_token_delete' order by id";
    assert_eq!(api.db.texts(lines).await, ["root anna one", "anna anna two"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_makes_none_that_may_more_or_lasts_longer_than_itself() {
    let api = Api::new().await;
    let root = api.account("root", Role::Admin).await;
    let scopes = json!(["tokens:write", "accounts:write", "*:read"]);
    let (parent, shown) =
        token(&api, &root, json!({"name": "p", "scopes": scopes, "expires_in_seconds": 3600})).await;
    let make = |body: Value| api.post("/api-tokens", Some(&parent), body);
    for more in [json!(["*"]), json!(["nodes:read", "nodes:write"]), Value::Null] {
        let answer = make(json!({"name": "c", "scopes": more})).await;
        refused(&answer, StatusCode::FORBIDDEN, "scope_missing");
    }
    let (_, child) =
        token(&api, &parent, json!({"name": "c", "scopes": ["nodes:read", "*:read", "self"]})).await;
    assert_eq!(child["expires_at"], shown["expires_at"]);
    field(
        &make(json!({"name": "c", "scopes": ["*:read"], "expires_in_seconds": 3700})).await,
        "expires_in_seconds",
    );
    let (_, short) =
        token(&api, &parent, json!({"name": "c", "scopes": ["*:read"], "expires_in_seconds": 60})).await;
    assert!(short["expires_at"].as_str() < shown["expires_at"].as_str());
    let (reader, _) = token(&api, &root, json!({"name": "r", "scopes": ["*:read"]})).await;
    let answer = api.post("/api-tokens", Some(&reader), json!({"name": "c", "scopes": ["*:read"]})).await;
    refused(&answer, StatusCode::FORBIDDEN, "scope_missing");
    assert_eq!(api.get("/api-tokens", &reader).await.status, StatusCode::OK);
    // A session is no token: it may give away what its account has.
    let (_, all) = token(&api, &root, json!({"name": "all"})).await;
    assert_eq!((&all["scopes"], &all["expires_at"]), (&json!(["*"]), &Value::Null));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_for_a_service_are_made_by_who_may_change_accounts() {
    let api = Api::new().await;
    let (root, anna) = (api.account("root", Role::Admin).await, api.account("anna", Role::Operator).await);
    let service = json!({"name": "ci", "role": "viewer", "kind": "service"});
    assert_eq!(api.post("/accounts", Some(&root), service).await.status, StatusCode::CREATED);
    let for_ci = json!({"name": "deploys", "account": "ci", "scopes": ["*:read"]});
    refused(
        &api.post("/api-tokens", Some(&anna), for_ci.clone()).await,
        StatusCode::FORBIDDEN,
        "role_too_low",
    );
    let (narrow, _) = token(&api, &root, json!({"name": "n", "scopes": ["tokens:write", "*:read"]})).await;
    refused(
        &api.post("/api-tokens", Some(&narrow), for_ci.clone()).await,
        StatusCode::FORBIDDEN,
        "scope_missing",
    );
    let (ci, _) = token(&api, &root, for_ci).await;
    let me = api.get("/auth/me", &ci).await.body;
    assert_eq!((me["name"].as_str(), me["role"].as_str()), (Some("ci"), Some("viewer")));
    field(&api.post("/api-tokens", Some(&root), json!({"name": "x", "account": "anna"})).await, "account");
    let nobody = api.post("/api-tokens", Some(&root), json!({"name": "x", "account": "nobody"})).await;
    assert_eq!(nobody.status, StatusCode::NOT_FOUND);
    token(&api, &anna, json!({"name": "own", "account": "anna"})).await;
    assert_eq!(api.get("/api-tokens?account=ci", &root).await.body["items"][0]["name"], "deploys");
    patch(&api, "/accounts/ci", &root, json!({"disabled": true})).await;
    assert_eq!(api.get("/auth/me", &ci).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invite_is_listed_without_its_text_and_worth_nothing_when_taken_back() {
    let api = Api::new().await;
    let root = api.account("root", Role::Admin).await;
    let make = |role: &str| api.post("/invites", Some(&root), json!({"role": role}));
    let (kept, gone) = (make("none").await.body, make("admin").await.body);
    field(&make("root").await, "role");
    assert_eq!(register(&api, "anna", kept["invite"].clone()).await.body["role"], "none");
    let listed = api.get("/invites", &root).await.body;
    assert!(!listed.to_string().contains("a67i_"));
    let shown = &listed["items"];
    assert_eq!((&shown[0]["id"], &shown[1]["id"]), (&kept["id"], &gone["id"]));
    assert_eq!((shown[0]["used_at"].is_string(), &shown[1]["used_at"]), (true, &Value::Null));
    assert_eq!(
        (shown[0]["created_by"].as_str(), shown[0]["bootstrap"].as_bool()),
        (Some("root"), Some(false))
    );
    let path = format!("/invites/{}", gone["id"].as_str().unwrap());
    assert_eq!(delete(&api, &path, &root).await, StatusCode::NO_CONTENT);
    assert_eq!(delete(&api, &path, &root).await, StatusCode::NOT_FOUND);
    refused(&register(&api, "eve", gone["invite"].clone()).await, StatusCode::FORBIDDEN, "token_refused");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_register_is_set_at_run_time_for_every_controller() {
    let key = |config: &mut controller::config::Config| {
        config.master_key = Some("MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=".to_owned().into());
    };
    let api = Api::with(key).await;
    let other = Api::beside(&api, key).await;
    let root = api.account("root", Role::Admin).await;
    let settings = api.get("/settings", &root).await.body;
    let configured = json!({"registration": "invite", "registration_configured": "invite", "registration_set_by": null, "registration_set_at": null, "mass_loss_percent": 34});
    assert_eq!(settings, configured);
    refused(&register(&other, "a", Value::Null).await, StatusCode::FORBIDDEN, "invite_needed");
    let set = patch(&api, "/settings", &root, json!({"registration": "open"})).await.body;
    assert_eq!(
        (set["registration"].as_str(), set["registration_set_by"].as_str()),
        (Some("open"), Some("root"))
    );
    assert_eq!(register(&other, "a", Value::Null).await.body["role"], "viewer");
    let invite = api.post("/invites", Some(&root), json!({"role": "admin"})).await.body["invite"].clone();
    patch(&api, "/settings", &root, json!({"registration": "closed"})).await;
    for invite in [Value::Null, invite] {
        refused(&register(&other, "b", invite).await, StatusCode::FORBIDDEN, "registration_closed");
    }
    assert_eq!(patch(&api, "/settings", &root, json!({})).await.body["registration"], "closed");
    field(&patch(&api, "/settings", &root, json!({"registration": "all"})).await, "registration");
    assert_eq!(patch(&other, "/settings", &root, json!({"registration": null})).await.body, configured);
    let lines = "select coalesce(before::text, '-') || coalesce(after::text, '-') from audit_log where action = 'setting_update' order by id";
    assert_eq!(api.db.texts(lines).await, ["-\"open\"", "\"open\"\"closed\"", "\"closed\"-"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_administrator_registers_with_what_the_controller_prints_and_nobody_after() {
    let api = Api::with(|config| config.registration = Registration::Closed).await;
    let mut printed = Vec::new();
    api.services.first_admin_announce(&mut printed).await;
    let line = String::from_utf8(printed).unwrap();
    assert_eq!(line.matches('\n').count(), 1, "{line}");
    assert!(
        line.ends_with('\n') && line.contains("POST ") && line.contains("/api/v1/auth/register"),
        "{line}"
    );
    let invite = line.split('"').find(|part| part.starts_with("a67i_")).unwrap().to_owned();
    let again = api.services.first_admin_invite().await.unwrap().unwrap().invite;
    refused(&register(&api, "eve", json!(invite)).await, StatusCode::FORBIDDEN, "registration_closed");
    let weak = json!({"name": "root", "password": "password1234", "invite": again.as_str()});
    field(&api.post("/auth/register", None, weak).await, "password");
    assert_eq!(register(&api, "root", json!(again.as_str())).await.body["role"], "admin");
    refused(
        &register(&api, "eve", json!(again.as_str())).await,
        StatusCode::FORBIDDEN,
        "registration_closed",
    );
    assert_eq!(login(&api, "root", PASSWORD).await, StatusCode::OK);
    let mut printed = Vec::new();
    api.services.first_admin_announce(&mut printed).await;
    assert!(printed.is_empty() && api.services.first_admin_invite().await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unused_first_administrators_invite_is_worth_nothing_once_there_is_an_account_or_a_day_is_over() {
    let api = Api::new().await;
    let invite = api.services.first_admin_invite().await.unwrap().unwrap().invite;
    api.db.execute("update invites set expires_at = now() - interval '1 s'").await;
    refused(&register(&api, "eve", json!(invite.as_str())).await, StatusCode::FORBIDDEN, "token_refused");
    let invite = api.services.first_admin_invite().await.unwrap().unwrap();
    assert!((invite.expires_at - chrono::Utc::now()).num_seconds() <= 24 * 3600);
    assert_eq!(at_host(&api, "create --name root").await.len(), 24);
    refused(
        &register(&api, "eve", json!(invite.invite.as_str())).await,
        StatusCode::FORBIDDEN,
        "token_refused",
    );
    assert_eq!(api.count("invites").await, "0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_that_is_reset_at_the_host_ends_the_sessions() {
    let api = Api::new().await;
    let (root, anna) = (api.account("root", Role::Admin).await, api.account("anna", Role::Viewer).await);
    let made = at_host(&api, "reset-password --account anna").await;
    assert_eq!(api.get("/auth/me", &anna).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(api.get("/auth/me", &root).await.status, StatusCode::OK);
    assert_eq!(login(&api, "anna", PASSWORD).await, StatusCode::UNAUTHORIZED);
    assert_eq!(login(&api, "anna", &made).await, StatusCode::OK);
    let line = "select actor_kind || ' ' || subject || ' ' || (after::text) from audit_log where action = 'password_reset'";
    assert_eq!(api.db.texts(line).await, ["host anna {\"sessions_ended\": 1}"]);
    api.post("/accounts", Some(&root), json!({"name": "ci", "role": "viewer", "kind": "service"})).await;
    for (name, kind) in [("nobody", "not_found"), ("ci", "invalid_fields")] {
        let password = controller::auth::password::Password::new(PASSWORD);
        let actor = store::audit::Actor::system();
        let refused = api.services.account_password_reset(name, password, &actor).await.unwrap_err();
        assert_eq!(refused.code(), kind);
    }
    let weak = controller::auth::password::Password::new("short");
    let refused = api.services.account_password_reset("anna", weak, &store::audit::Actor::system()).await;
    assert_eq!(refused.unwrap_err().code(), "invalid_fields");
    assert_eq!(login(&api, "anna", &made).await, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_made_at_the_host_has_the_scopes_that_were_named() {
    let api = Api::new().await;
    api.account("root", Role::Admin).await;
    let some =
        at_host(&api, "api-token --account root --name ci --scope nodes:read --scope events:read").await;
    assert_eq!(api.get("/nodes", &some).await.status, StatusCode::OK);
    refused(&api.get("/accounts", &some).await, StatusCode::FORBIDDEN, "scope_missing");
    let all = at_host(&api, "api-token --account root --name ci").await;
    assert_eq!(api.get("/accounts", &all).await.status, StatusCode::OK);
    let words = "automator67-controller admin api-token --account root --name ci --scope nodes:fly";
    let Ok(Cli { command: Command::Admin(command), .. }) = Cli::try_parse_from(words.split_whitespace())
    else {
        panic!();
    };
    assert_eq!(admin::run(&api.services, command).await.err().unwrap().code(), "invalid_fields");
}
