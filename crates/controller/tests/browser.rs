//! What browsers get: the UI's page and files, and sessions kept in a cookie.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on fails where it stands"
)]

mod common;

use common::{Answer, Api, PASSWORD};
use controller::auth::role::Role;
use reqwest::{
    Method, StatusCode,
    header::{ACCEPT_ENCODING, COOKIE, ORIGIN, SET_COOKIE},
};
use serde_json::{Value, json};

/// What a page of the UI would send: its origin, and the cookies that it has.
async fn from_page(api: &Api, path: &str, origin: Option<&str>, cookie: Option<&str>, body: Value) -> Answer {
    let mut request = api.request(Method::POST, path, None).json(&body);
    if let Some(origin) = origin {
        request = request.header(ORIGIN, origin);
    }
    if let Some(cookie) = cookie {
        request = request.header(COOKIE, cookie);
    }
    api.send(request).await
}

async fn sign_in(api: &Api, origin: &str) -> Answer {
    let body = json!({"name": "ann", "password": PASSWORD, "cookie": true});
    from_page(api, "/auth/login", Some(origin), None, body).await
}

async fn refresh(api: &Api, origin: Option<&str>, cookie: Option<&str>) -> Answer {
    from_page(api, "/auth/refresh", origin, cookie, json!({"cookie": true})).await
}

/// The cookie that an answer sets: `name=value`, and the rest.
fn cookie(answer: &Answer) -> (String, String) {
    let line = answer.headers[SET_COOKIE].to_str().unwrap();
    let (pair, rest) = line.split_once(';').unwrap();
    (pair.to_owned(), rest.to_owned())
}

fn code(answer: &Answer) -> (u16, &str) {
    (answer.status.as_u16(), answer.body["code"].as_str().unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browsers_refresh_token_is_in_a_strict_cookie_and_nowhere_else() {
    let api = Api::new().await;
    api.account("ann", Role::Viewer).await;
    let answer = sign_in(&api, &api.base).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    assert_eq!(answer.body["refresh_token"], Value::Null);
    assert!(!answer.body.to_string().contains("a67r_"), "{}", answer.body);
    let (pair, rest) = cookie(&answer);
    assert!(pair.starts_with("a67_refresh=") && pair.len() > 60, "{pair}");
    for wanted in ["HttpOnly", "SameSite=Strict", "Path=/api/v1/auth", "Max-Age="] {
        assert!(rest.contains(wanted), "{rest}");
    }
    assert!(!rest.contains("Secure"), "the public URL is plain HTTP on loopback: {rest}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_behind_tls_sets_its_cookie_for_tls_only() {
    let api = Api::with(|config| config.public_url = "https://a67.example".into()).await;
    api.account("ann", Role::Viewer).await;
    let (pair, rest) = cookie(&sign_in(&api, "https://a67.example").await);
    assert!(pair.starts_with("__Secure-a67_refresh=") && rest.contains("Secure"), "{pair} {rest}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cookie_continues_the_session_and_is_another_one_each_time() {
    let api = Api::new().await;
    api.account("ann", Role::Viewer).await;
    let (first, _) = cookie(&sign_in(&api, &api.base).await);
    let answer = refresh(&api, Some(&api.base), Some(&first)).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    assert_eq!(answer.body["refresh_token"], Value::Null);
    let (second, _) = cookie(&answer);
    assert_ne!(first, second);
    let access = answer.body["access_token"].as_str().unwrap();
    assert_eq!(api.get("/auth/me", access).await.status, StatusCode::OK);
    let again = refresh(&api, Some(&api.base), Some(&second)).await;
    assert_eq!(again.status, StatusCode::OK, "{}", again.body);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_elsewhere_can_neither_get_nor_use_a_cookie() {
    let api = Api::new().await;
    api.account("ann", Role::Viewer).await;
    let (good, _) = cookie(&sign_in(&api, &api.base).await);
    for origin in [None, Some("https://evil.example"), Some("null"), Some("http://127.0.0.1:1")] {
        let refreshed = refresh(&api, origin, Some(&good)).await;
        assert_eq!(code(&refreshed), (403, "origin_not_allowed"), "{origin:?}");
        assert!(!refreshed.headers.contains_key(SET_COOKIE));
    }
    let signed_in = sign_in(&api, "https://evil.example").await;
    assert_eq!(code(&signed_in), (403, "origin_not_allowed"));
    assert!(!signed_in.headers.contains_key(SET_COOKIE));
    // None of it used the token up.
    assert_eq!(refresh(&api, Some(&api.base), Some(&good)).await.status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cookie_that_was_changed_or_is_missing_continues_nothing() {
    let api = Api::new().await;
    api.account("ann", Role::Viewer).await;
    let (good, _) = cookie(&sign_in(&api, &api.base).await);
    let changed = format!("{}x", good);
    for cookie in [None, Some("a67_refresh=x"), Some(changed.as_str())] {
        assert_eq!(code(&refresh(&api, Some(&api.base), cookie).await), (401, "no_cookie"), "{cookie:?}");
    }
    // Whoever does not ask for the cookie is not served by it.
    let bare = from_page(&api, "/auth/refresh", Some(&api.base), Some(&good), json!({})).await;
    assert_eq!(code(&bare), (400, "malformed_field"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signing_out_takes_the_cookie_back_and_ends_its_session() {
    let api = Api::new().await;
    api.account("ann", Role::Viewer).await;
    for path in ["/auth/logout", "/auth/logout-all"] {
        let signed_in = sign_in(&api, &api.base).await;
        let (kept, _) = cookie(&signed_in);
        let access = signed_in.body["access_token"].as_str().unwrap();
        let out = api.post(path, Some(access), json!({})).await;
        assert_eq!(out.status, StatusCode::NO_CONTENT, "{}", out.body);
        let (pair, rest) = cookie(&out);
        assert_eq!(pair, "a67_refresh=");
        assert!(rest.contains("Max-Age=0") && rest.contains("Path=/api/v1/auth"), "{rest}");
        assert_eq!(code(&refresh(&api, Some(&api.base), Some(&kept)).await), (401, "bad_token"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_clients_keep_their_token_in_the_body_and_get_no_cookie() {
    let api = Api::new().await;
    api.account("ann", Role::Viewer).await;
    let answer = api.post("/auth/login", None, json!({"name": "ann", "password": PASSWORD})).await;
    assert!(answer.body["refresh_token"].as_str().unwrap().starts_with("a67r_"), "{}", answer.body);
    assert!(!answer.headers.contains_key(SET_COOKIE));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn how_one_may_sign_in_is_told_to_anybody() {
    let api = Api::new().await;
    let methods = api.send(api.request(Method::GET, "/auth/methods", None)).await;
    assert_eq!(methods.body, json!({"password": true, "github": false, "registration": "invite"}));
    let admin = api.account("ann", Role::Admin).await;
    let request =
        api.request(Method::PATCH, "/settings", Some(&admin)).json(&json!({"registration": "open"}));
    assert_eq!(api.send(request).await.status, StatusCode::OK);
    let methods = api.send(api.request(Method::GET, "/auth/methods", None)).await;
    assert_eq!(methods.body["registration"], "open");
}

async fn get(api: &Api, path: &str) -> Answer {
    api.send(api.client.get(format!("{}{path}", api.base))).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_into_the_ui_lead_to_its_page_with_a_strict_policy() {
    let api = Api::new().await;
    let mut nonces = Vec::new();
    for path in ["/", "/nodes", "/deployments/web?project=a", "/apiary"] {
        let answer = get(&api, path).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}");
        assert!(answer.headers["content-type"].to_str().unwrap().starts_with("text/html"));
        assert_eq!(answer.headers["cache-control"], "no-store");
        let policy = answer.headers["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; "), "{policy}");
        assert!(!policy.contains("unsafe") && !policy.contains('*'), "{policy}");
        let (_, rest) = policy.split_once("'nonce-").unwrap();
        let nonce = rest.split('\'').next().unwrap().to_owned();
        assert!(answer.body.as_str().unwrap().contains(&nonce), "{path}");
        nonces.push(nonce);
    }
    nonces.dedup();
    assert_eq!(nonces.len(), 4, "each page has a nonce of its own");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_missing_below_the_api_is_a_problem_and_no_page() {
    let api = Api::new().await;
    for path in ["/api", "/api/v1/nothing", "/metrics/x", "/.well-known/x", "/healthz/x", "/assets/gone.js"] {
        assert_eq!(code(&get(&api, path).await), (404, "no_such_route"), "{path}");
    }
    let posted = api.send(api.client.post(format!("{}/nodes", api.base))).await;
    assert_eq!(code(&posted), (404, "no_such_route"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_of_the_ui_come_compressed_and_are_kept_for_ever() {
    let api = Api::new().await;
    assert_eq!(dashboard::is_built(), !dashboard::files().is_empty());
    for file in dashboard::files().iter().filter(|file| file.is_immutable()) {
        let url = format!("{}/{}", api.base, file.name());
        for (accepted, coding) in [("gzip, br", dashboard::Coding::Brotli), ("gzip", dashboard::Coding::Gzip)]
        {
            let response = api.client.get(&url).header(ACCEPT_ENCODING, accepted).send().await.unwrap();
            assert_eq!(response.status(), StatusCode::OK, "{url}");
            assert_eq!(response.headers()["cache-control"], "public, max-age=31536000, immutable");
            assert_eq!(response.headers()["vary"], "accept-encoding");
            let wanted = file.bytes(|one| one == coding).1;
            assert_eq!(response.bytes().await.unwrap(), wanted, "{url} as {accepted}");
        }
    }
}
