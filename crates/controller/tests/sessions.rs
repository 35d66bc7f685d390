//! Sessions as a client sees them: how they go on, are listed and end, on one
//! controller and on two.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on fails where it stands"
)]

mod common;

use std::time::{Duration, Instant};

use common::{Answer, Api, PASSWORD};
use controller::{auth::role::Role, config::Config, tasks};
use domain::id::SessionId;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use store::{audit::Actor, session::SessionNew};
use uuid::Uuid;

const NEW_PASSWORD: &str = "a staple that is new";

/// What a sign-in gives.
struct Tokens {
    access: String,
    refresh: String,
}

impl Tokens {
    fn of(answer: &Answer) -> Self {
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        let text = |name: &str| answer.body[name].as_str().unwrap().to_owned();
        Self { access: text("access_token"), refresh: text("refresh_token") }
    }
}

async fn sign_in(api: &Api, name: &str, password: &str) -> Tokens {
    Tokens::of(&api.post("/auth/login", None, json!({"name": name, "password": password})).await)
}

async fn refresh(api: &Api, token: &str) -> Answer {
    api.post("/auth/refresh", None, json!({"refresh_token": token})).await
}

async fn is_good(api: &Api, access: &str) -> bool {
    api.get("/auth/me", access).await.status == StatusCode::OK
}

fn is_bad_token(answer: &Answer) -> bool {
    (answer.status, answer.body["code"].as_str()) == (StatusCode::UNAUTHORIZED, Some("bad_token"))
}

/// Looks again until it is so, for ten seconds; gives how long it took.
async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) -> Duration {
    let begun = Instant::now();
    while !is_so().await {
        assert!(begun.elapsed() < Duration::from_secs(10), "{what}");
        tokio::task::yield_now().await;
    }
    begun.elapsed()
}

fn same_vault(config: &mut Config) {
    config.master_key = Some("MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=".to_owned().into());
}

/// Two controllers on one database, which hear each other.
async fn two() -> (Api, Api) {
    let one = Api::with(same_vault).await;
    let other = Api::beside(&one, same_vault).await;
    for api in [&one, &other] {
        tasks::start(&api.services);
        until("it listens", async || api.services.identity.callers.is_listening()).await;
    }
    (one, other)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refresh_gives_new_tokens_and_moves_the_sessions_end() {
    let api = Api::new().await;
    api.account("anna", Role::Viewer).await;
    let first = sign_in(&api, "anna", PASSWORD).await;
    api.db
        .execute("update sessions set expires_at = now() + interval '1 minute', last_used_at = 'epoch'")
        .await;
    let answer = refresh(&api, &first.refresh).await;
    let second = Tokens::of(&answer);
    assert!(first.access != second.access && first.refresh != second.refresh);
    assert_eq!(answer.body["account"]["name"], "anna");
    assert!(is_good(&api, &first.access).await && is_good(&api, &second.access).await);
    let moved = "select count(*) from sessions where expires_at > now() + interval '1 hour' and last_used_at > now() - interval '1 minute'";
    assert_eq!(api.db.texts(moved).await, ["1"]);
    let stored = api.db.texts("select encode(token_sha256, 'escape') from refresh_tokens").await.join(" ");
    assert!(!stored.contains(first.refresh.trim_start_matches("a67r_")));
    Tokens::of(&refresh(&api, &second.refresh).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tabs_that_refresh_at_once_stay_signed_in_and_more_than_four_end_the_session() {
    let api = Api::new().await;
    api.account("anna", Role::Viewer).await;
    let tokens = sign_in(&api, "anna", PASSWORD).await;
    let again = || refresh(&api, &tokens.refresh);
    let (a, b, c, d) = tokio::join!(again(), again(), again(), again());
    let siblings = [&a, &b, &c, &d].map(Tokens::of);
    for sibling in &siblings {
        assert!(is_good(&api, &sibling.access).await);
    }
    Tokens::of(&refresh(&api, &siblings[0].refresh).await);
    assert!(is_bad_token(&again().await));
    assert!(!is_good(&api, &tokens.access).await && !is_good(&api, &siblings[1].access).await);
    assert!(is_bad_token(&refresh(&api, &siblings[1].refresh).await));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_used_refresh_token_that_comes_again_later_ends_the_whole_session() {
    let api = Api::new().await;
    let bystander = api.account("anna", Role::Viewer).await;
    let stolen = sign_in(&api, "anna", PASSWORD).await;
    let next = Tokens::of(&refresh(&api, &stolen.refresh).await);
    api.db.execute("update refresh_tokens set used_at = used_at - interval '11 s'").await;
    assert!(is_bad_token(&refresh(&api, &stolen.refresh).await));
    assert!(!is_good(&api, &stolen.access).await && !is_good(&api, &next.access).await);
    assert!(is_bad_token(&refresh(&api, &next.refresh).await));
    assert!(is_good(&api, &bystander).await, "another session of the account goes on");
    let reasons = api.db.texts("select ended_reason from sessions where ended_at is not null").await;
    assert_eq!(reasons, ["refresh_token_reused"]);
    let audited = "select concat_ws(' ', actor, subject, outcome, address) from audit_log where action = 'refresh_token_reuse'";
    assert_eq!(api.db.texts(audited).await, ["anonymous anna refused 127.0.0.1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_refresh_token_that_is_not_good_gets_the_same_answer() {
    let api = Api::new().await;
    let access = api.account("anna", Role::Viewer).await;
    let mut bad = vec![
        String::new(),
        "a67r_nonsense".to_owned(),
        format!("a67r_{}", "A".repeat(43)),
        access.clone(),
        "a67_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".to_owned(),
    ];
    for spoil in [
        "update sessions set ended_at = now() where ended_at is null",
        "update sessions set expires_at = now() where ended_at is null",
        "update refresh_tokens set created_at = created_at - interval '1 year'",
    ] {
        let tokens = sign_in(&api, "anna", PASSWORD).await;
        api.db.execute(spoil).await;
        bad.push(tokens.refresh);
    }
    let disabled = sign_in(&api, "anna", PASSWORD).await;
    api.db.execute("update accounts set disabled_at = now()").await;
    bad.push(disabled.refresh);
    let mut bodies = Vec::new();
    for token in bad {
        let mut answer = refresh(&api, &token).await;
        assert!(is_bad_token(&answer), "{}", answer.body);
        answer.body["request_id"] = Value::Null;
        bodies.push(answer.body);
    }
    assert!(bodies.windows(2).all(|pair| pair[0] == pair[1]), "{bodies:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_password_ends_all_sessions_and_begins_one() {
    let api = Api::new().await;
    let elsewhere = api.account("anna", Role::Viewer).await;
    let here = sign_in(&api, "anna", PASSWORD).await;
    let change = |access: &str, current: &str, new: &str| {
        let body = json!({"current_password": current, "new_password": new});
        api.send(api.request(Method::POST, "/auth/password", Some(access)).json(&body))
    };
    for (current, new, field) in [
        ("not that one at all", NEW_PASSWORD, "current_password"),
        (PASSWORD, "short", "new_password"),
        (PASSWORD, "password1234", "new_password"),
    ] {
        let answer = change(&here.access, current, new).await;
        let named = (answer.status, answer.body["errors"][0]["field"].as_str());
        assert_eq!(named, (StatusCode::UNPROCESSABLE_ENTITY, Some(field)), "{}", answer.body);
    }
    assert!(is_good(&api, &elsewhere).await);
    let renewed = Tokens::of(&change(&here.access, PASSWORD, NEW_PASSWORD).await);
    assert!(!is_good(&api, &elsewhere).await && !is_good(&api, &here.access).await);
    assert!(is_bad_token(&refresh(&api, &here.refresh).await));
    assert!(is_good(&api, &renewed.access).await);
    Tokens::of(&refresh(&api, &renewed.refresh).await);
    let old = api.post("/auth/login", None, json!({"name": "anna", "password": PASSWORD})).await;
    assert_eq!(old.status, StatusCode::UNAUTHORIZED);
    sign_in(&api, "anna", NEW_PASSWORD).await;
    let audited = "select outcome from audit_log where action = 'password_change' order by at, id";
    assert_eq!(api.db.texts(audited).await, ["refused", "done"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_token_neither_changes_the_password_nor_touches_sessions() {
    let api = Api::new().await;
    let anna = api.account("anna", Role::Admin).await;
    let made = api.post("/api-tokens", Some(&anna), json!({"name": "ci"})).await;
    let token = made.body["token"].as_str().unwrap();
    let passwords = json!({"current_password": PASSWORD, "new_password": NEW_PASSWORD});
    let session = format!("/auth/sessions/{}", Uuid::now_v7());
    for (method, path, body) in [
        (Method::POST, "/auth/password", passwords),
        (Method::POST, "/auth/logout", json!({})),
        (Method::POST, "/auth/logout-all", json!({})),
        (Method::GET, "/auth/sessions", json!({})),
        (Method::DELETE, session.as_str(), json!({})),
    ] {
        let answer = api.send(api.request(method, path, Some(token)).json(&body)).await;
        let code = (answer.status, answer.body["code"].as_str());
        assert_eq!(code, (StatusCode::CONFLICT, Some("no_session")), "{path}");
    }
    assert!(is_good(&api, &anna).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ones_own_sessions_are_listed_and_ended_and_nobody_elses() {
    let api = Api::new().await;
    let first = api.account("anna", Role::Viewer).await;
    let bert = api.account("bert", Role::Admin).await;
    let second = api
        .request(Method::POST, "/auth/login", None)
        .header("user-agent", "browser/1")
        .json(&json!({"name": "anna", "password": PASSWORD}));
    let second = Tokens::of(&api.send(second).await);
    let list = api.get("/auth/sessions", &second.access).await.body;
    let items = list["items"].as_array().unwrap();
    let shown: Vec<_> = items.iter().map(|item| item["current"].as_bool().unwrap()).collect();
    assert_eq!(shown, [true, false]);
    assert_eq!(
        (&items[0]["user_agent"], &items[0]["address"], &items[0]["method"]),
        (&json!("browser/1"), &json!("127.0.0.1"), &json!("password"))
    );
    let page = api.get("/auth/sessions?limit=1", &second.access).await.body;
    let next = format!("/auth/sessions?limit=1&cursor={}", page["next_cursor"].as_str().unwrap());
    assert_eq!(api.get(&next, &second.access).await.body["items"][0]["id"], items[1]["id"]);

    let path = format!("/auth/sessions/{}", items[1]["id"].as_str().unwrap());
    let end = |token: &str, path: &str| api.send(api.request(Method::DELETE, path, Some(token)));
    assert_eq!(end(&bert, &path).await.status, StatusCode::NOT_FOUND);
    assert_eq!(end(&second.access, "/auth/sessions/nonsense").await.status, StatusCode::NOT_FOUND);
    assert!(is_good(&api, &first).await);
    assert_eq!(end(&second.access, &path).await.status, StatusCode::NO_CONTENT);
    assert!(!is_good(&api, &first).await);
    assert_eq!(end(&second.access, &path).await.status, StatusCode::NOT_FOUND);
    let list = api.get("/auth/sessions", &second.access).await.body;
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_asks_is_told_who_it_is_and_what_it_may() {
    let api = Api::new().await;
    let anna = api.account("anna", Role::Operator).await;
    api.db
        .execute(
            "insert into project_members (project_id, account_id, role) select p.id, a.id, 'admin' from projects p, accounts a;
             update accounts set email = 'anna@example.org'",
        )
        .await;
    let me = api.get("/auth/me", &anna).await.body;
    assert_eq!((&me["kind"], &me["email"]), (&json!("user"), &json!("anna@example.org")));
    assert_eq!(
        (&me["memberships"][0]["project"], &me["memberships"][0]["role"]),
        (&json!("default"), &json!("admin"))
    );
    assert_eq!((&me["credential"]["kind"], &me["credential"]["scopes"]), (&json!("session"), &Value::Null));
    let body = json!({"name": "ci", "scopes": ["*:read"]});
    let token = api.post("/api-tokens", Some(&anna), body).await.body["token"].as_str().unwrap().to_owned();
    let me = api.get("/auth/me", &token).await.body;
    assert_eq!(
        (&me["credential"]["kind"], &me["credential"]["scopes"]),
        (&json!("api_token"), &json!(["*:read"]))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sessions_use_is_noted_at_most_once_a_minute() {
    let api = Api::new().await;
    let anna = api.account("anna", Role::Viewer).await;
    let version = || api.db.texts("select xmin from sessions");
    let fresh = version().await;
    assert!(is_good(&api, &anna).await);
    assert_eq!(version().await, fresh);
    api.db.execute("update sessions set last_used_at = now() - interval '5 minutes'").await;
    assert!(is_good(&api, &anna).await);
    let noted = version().await;
    assert_eq!(
        api.db.texts("select last_used_at > now() - interval '1 minute' from sessions").await,
        ["true"]
    );
    assert!(is_good(&api, &anna).await);
    assert_eq!(version().await, noted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sign_in_that_a_change_of_the_account_overtook_opens_no_session() {
    let api = Api::new().await;
    api.account("anna", Role::Viewer).await;
    let store = &api.services.store;
    let row = store.account_fetch_by_name("anna").await.unwrap().unwrap();
    let open = async |shown: &str| {
        let new = SessionNew {
            id: SessionId::from_uuid(Uuid::now_v7()),
            account_id: row.id(),
            method: "password",
            refresh_sha256: Uuid::now_v7().as_bytes().to_vec(),
            expires_at: chrono::Utc::now() + Duration::from_secs(60),
            address: None,
            user_agent: None,
        };
        store.session_insert(&new, Some(shown), &Actor::system()).await.unwrap()
    };
    let hash = row.password_hash.clone().unwrap();
    assert!(open(&hash).await);
    assert!(!open("the hash of an earlier password").await);
    api.db.execute("update accounts set disabled_at = now()").await;
    assert!(!open(&hash).await);
    assert_eq!(api.count("sessions").await, "2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ends_access_on_one_controller_ends_it_there_at_once_and_on_the_other_within_a_second() {
    let (one, other) = two().await;
    let admin = one.account("root", Role::Admin).await;
    one.account("anna", Role::Operator).await;
    let cases: [(&str, Method, &str, Value); 6] = [
        ("signs out", Method::POST, "/auth/logout", json!({})),
        ("signs out everywhere", Method::POST, "/auth/logout-all", json!({})),
        (
            "changes the password",
            Method::POST,
            "/auth/password",
            json!({"current_password": PASSWORD, "new_password": NEW_PASSWORD}),
        ),
        ("gets another role", Method::PATCH, "/accounts/anna", json!({"role": "viewer"})),
        ("is disabled", Method::PATCH, "/accounts/anna", json!({"disabled": true})),
        ("shows a used refresh token", Method::POST, "/auth/refresh", Value::Null),
    ];
    for (what, method, path, body) in cases {
        let tokens = sign_in(&one, "anna", PASSWORD).await;
        for api in [&one, &other] {
            assert!(is_good(api, &tokens.access).await, "{what}");
        }
        let bearer = if path.starts_with("/accounts") { &admin } else { &tokens.access };
        if body.is_null() {
            Tokens::of(&refresh(&one, &tokens.refresh).await);
            one.db.execute("update refresh_tokens set used_at = used_at - interval '11 s'").await;
            assert!(is_bad_token(&refresh(&one, &tokens.refresh).await));
        } else {
            let answer = one.send(one.request(method, path, Some(bearer)).json(&body)).await;
            assert!(answer.status.is_success(), "{what}: {}", answer.body);
        }
        let committed = Instant::now();
        assert!(!is_good(&one, &tokens.access).await, "{what}");
        until(what, async || !is_good(&other, &tokens.access).await).await;
        assert!(committed.elapsed() < Duration::from_secs(1), "{what}: {:?}", committed.elapsed());
        // As before, for the next.
        let hash = one.db.texts("select password_hash from accounts where name = 'root'").await.remove(0);
        one.db
            .execute(&format!(
                "update accounts set password_hash = '{hash}', role = 'operator', disabled_at = null where name = 'anna'"
            ))
            .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_token_that_is_taken_back_is_worth_nothing_on_any_controller() {
    let (one, other) = two().await;
    let anna = one.account("anna", Role::Admin).await;
    let made = one.post("/api-tokens", Some(&anna), json!({"name": "ci"})).await.body;
    let token = made["token"].as_str().unwrap();
    for api in [&one, &other] {
        assert!(is_good(api, token).await);
    }
    let path = format!("/api-tokens/{}", made["id"].as_str().unwrap());
    let answer = one.send(one.request(Method::DELETE, &path, Some(&anna))).await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT, "{}", answer.body);
    let ended = Instant::now();
    assert!(!is_good(&one, token).await);
    until("the other hears of it", async || !is_good(&other, token).await).await;
    assert!(ended.elapsed() < Duration::from_secs(1), "{:?}", ended.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_shows_a_token_is_remembered_for_two_seconds_at_most_and_only_while_listening() {
    let (one, deaf) = {
        let one = Api::with(same_vault).await;
        let deaf = Api::beside(&one, same_vault).await;
        tasks::start(&one.services);
        until("it listens", async || one.services.identity.callers.is_listening()).await;
        (one, deaf)
    };
    let anna = one.account("anna", Role::Operator).await;
    let role = async |api: &Api| api.get("/auth/me", &anna).await.body["role"].as_str().unwrap().to_owned();
    // Behind everybody's back, as nothing in the product does it.
    let set = async |role: &str| {
        one.db.execute(&format!("update accounts set role = '{role}'")).await;
    };
    until("an answer is remembered", async || {
        set("operator").await;
        role(&one).await;
        set("viewer").await;
        role(&one).await == "operator"
    })
    .await;
    assert_eq!(role(&deaf).await, "viewer", "who hears nothing remembers nothing");
    let took = until("it is forgotten", async || role(&one).await == "viewer").await;
    assert!(took < Duration::from_millis(2_500), "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_call_revokes_is_counted_before_it_answers_and_nothing_else_is() {
    let api = Api::new().await;
    api.account("anna", Role::Viewer).await;
    let store = &api.services.store;
    let id = store.account_fetch_by_name("anna").await.unwrap().unwrap().id();
    let count = || store.revocations().count();
    assert_eq!(count(), 0, "signing in ends nobody's access");
    store.session_end_all(id, "signed_out_everywhere", &Actor::system()).await.unwrap();
    assert_eq!(count(), 1);
    store
        .session_end(id, SessionId::from_uuid(Uuid::now_v7()), "signed_out", &Actor::system())
        .await
        .unwrap();
    assert_eq!(count(), 1, "a session that is not open cannot be ended");
    store.wake(store::wake::Wake::Revoked).await.unwrap();
    assert_eq!(count(), 2);
}
