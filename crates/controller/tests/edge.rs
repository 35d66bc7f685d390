//! What stands between clients and the API: limits, proxies, origins, headers, time.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on fails where it stands"
)]

mod common;

use std::{collections::HashMap, time::Duration};

use common::{Answer, Api, PASSWORD};
use controller::{app, auth::role::Role, config::Config, http};
use daemon::Supervisor;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout},
};
use zeroize::Zeroizing;

const WRONG: &str = "wrong wrong wrong";
/// Longer than anything here takes, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(30);

fn number(answer: &Answer, name: &str) -> u64 {
    let value = answer.headers.get(name).unwrap_or_else(|| panic!("{name}: {:?}", answer.headers));
    value.to_str().unwrap().parse().unwrap()
}

fn code(answer: &Answer) -> &str {
    answer.body["code"].as_str().unwrap_or_default()
}

/// Behind a proxy that sends what we tell it.
async fn behind_a_proxy() -> Api {
    Api::with(|config| config.trusted_proxies = "127.0.0.1, 10.0.0.0/8".into()).await
}

async fn sign_in(api: &Api, from: &str, name: &str, password: &str) -> Answer {
    let request = api.request(Method::POST, "/auth/login", None).header("X-Forwarded-For", from);
    api.send(request.json(&json!({"name": name, "password": password}))).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_has_so_many_attempts_and_every_answer_says_how_many_are_left() {
    let api = Api::with(|config| config.sign_in_limit_per_address_per_minute = 3).await;
    for (n, remaining) in [(1, 2), (2, 1), (3, 0)] {
        let name = format!("name{n}");
        let answer = api.post("/auth/login", None, json!({"name": name, "password": WRONG})).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        assert_eq!(number(&answer, "ratelimit-limit"), 3);
        assert_eq!(number(&answer, "ratelimit-remaining"), remaining);
        assert!((1..=60).contains(&number(&answer, "ratelimit-reset")));
    }
    let refused = api.post("/auth/register", None, json!({"name": "other", "password": PASSWORD})).await;
    assert_eq!((refused.status, code(&refused)), (StatusCode::TOO_MANY_REQUESTS, "rate_limited"));
    assert_eq!(refused.headers["content-type"], "application/problem+json");
    assert!((1..=20).contains(&number(&refused, "retry-after")), "{:?}", refused.headers);
    assert_eq!((number(&refused, "ratelimit-limit"), number(&refused, "ratelimit-remaining")), (3, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_open_operation_is_limited() {
    let api = Api::new().await;
    let document = serde_json::to_value(http::openapi_document()).unwrap();
    let mut walked = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            if operation.get("security").is_some() {
                continue;
            }
            let method: Method = method.to_uppercase().parse().unwrap();
            let path = path.trim_start_matches("/api/v1");
            // Nothing can be guessed there, and a sign-in page needs it each time.
            if path == "/auth/methods" {
                continue;
            }
            let answer = api.send(api.request(method.clone(), path, None).json(&json!({}))).await;
            assert!(answer.headers.contains_key("ratelimit-remaining"), "{method} {path}");
            walked += 1;
        }
    }
    assert!(walked >= 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_controllers_on_one_database_share_their_limits() {
    let common = |config: &mut Config| {
        config.sign_in_limit_per_address_per_minute = 6;
        config.sign_in_limit_failures_per_account = 4;
        config.trusted_proxies = "127.0.0.1".into();
        config.master_key = Some(Zeroizing::new("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=".into()));
    };
    let api = Api::with(common).await;
    let (mut config, data) = (Config { bcrypt_cost: 4, ..Config::default() }, tempfile::tempdir().unwrap());
    common(&mut config);
    config.data_dir = data.path().to_owned();
    let supervisor = Supervisor::new(tokio::runtime::Handle::current());
    let services = app::build(&config, api.db.store.clone(), supervisor.clone()).await.unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let bases = [api.base.clone(), format!("http://{}", listener.local_addr().unwrap())];
    supervisor.spawn("HTTP", http::server(services, listener, Duration::from_secs(1)).unwrap());
    let attempt = async |n: usize, from: String, name: String| {
        let url = format!("{}/api/v1/auth/login", bases[n % 2]);
        let body = json!({"name": name, "password": WRONG});
        api.send(api.client.post(url).header("X-Forwarded-For", from).json(&body)).await.status.as_u16()
    };
    let mut one_address = Vec::new();
    let mut one_name = Vec::new();
    for n in 0..8 {
        one_address.push(attempt(n, "198.51.100.1".into(), format!("name{n}")).await);
        one_name.push(attempt(n, format!("198.51.101.{n}"), "anna".into()).await);
    }
    assert_eq!(one_address, [401, 401, 401, 401, 401, 401, 429, 429]);
    assert_eq!(one_name, [401, 401, 401, 401, 429, 429, 429, 429]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failed_sign_ins_to_a_name_are_limited_wherever_they_come_from_whether_there_is_one_or_not() {
    let api = behind_a_proxy().await;
    api.account("anna", Role::Viewer).await;
    api.account("bert", Role::Viewer).await;
    let mut answers = HashMap::<&str, Vec<(u16, Value)>>::new();
    for name in ["anna", "nobody", "no name!"] {
        for n in 0..12 {
            let mut answer = sign_in(&api, &format!("198.51.100.{n}"), name, WRONG).await;
            answer.body["request_id"] = Value::Null;
            answers.entry(name).or_default().push((answer.status.as_u16(), answer.body));
        }
    }
    let statuses: Vec<u16> = answers["anna"].iter().map(|(status, _)| *status).collect();
    assert_eq!(statuses, [401, 401, 401, 401, 401, 401, 401, 401, 401, 401, 429, 429]);
    assert!(answers.values().all(|of_a_name| *of_a_name == answers["anna"]), "{answers:?}");
    let locked = sign_in(&api, "203.0.113.1", "anna", PASSWORD).await;
    assert_eq!((locked.status, code(&locked)), (StatusCode::TOO_MANY_REQUESTS, "rate_limited"));
    assert!((1..=30).contains(&number(&locked, "retry-after")));
    assert_eq!((number(&locked, "ratelimit-limit"), number(&locked, "ratelimit-remaining")), (10, 0));
    assert_eq!(sign_in(&api, "203.0.113.1", "bert", PASSWORD).await.status, StatusCode::OK);
    api.db.execute("update rate_limits set empty_at = empty_at - interval '30 s'").await;
    assert_eq!(sign_in(&api, "203.0.113.1", "anna", PASSWORD).await.status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_successful_sign_in_spends_no_failure() {
    let api = behind_a_proxy().await;
    api.account("anna", Role::Viewer).await;
    for n in 0..15 {
        assert_eq!(sign_in(&api, &format!("198.51.100.{n}"), "anna", PASSWORD).await.status, StatusCode::OK);
    }
    assert_eq!(sign_in(&api, "198.51.100.99", "anna", WRONG).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stolen_session_guesses_the_password_no_faster_and_strangers_do_not_spend_its_guesses() {
    let api = Api::with(|config| config.sign_in_limit_failures_per_account = 2).await;
    let anna = api.account("anna", Role::Viewer).await;
    for _ in 0..2 {
        let failed = api.post("/auth/login", None, json!({"name": "anna", "password": "wrong"})).await;
        assert_eq!(failed.status, StatusCode::UNAUTHORIZED, "{}", failed.body);
    }
    let change = |current: &str| {
        let body = json!({"current_password": current, "new_password": "quite another battery"});
        api.post("/auth/password", Some(&anna), body)
    };
    for _ in 0..2 {
        let wrong = change("not that one at all").await;
        assert_eq!(wrong.body["errors"][0]["field"], "current_password", "{}", wrong.body);
    }
    let refused = change(PASSWORD).await;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS, "{}", refused.body);
    assert_eq!(refused.body["code"], "rate_limited");
    assert!(refused.headers.contains_key("retry-after"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_wrong_passwords_at_once_are_not_more_than_one_after_the_other() {
    let api = behind_a_proxy().await;
    api.account("anna", Role::Viewer).await;
    let from: Vec<String> = (0..24).map(|n| format!("198.51.100.{n}")).collect();
    let attempts = from.iter().map(|from| sign_in(&api, from, "anna", WRONG));
    let answers = futures_util::future::join_all(attempts).await;
    let tried = answers.iter().filter(|answer| code(answer) == "bad_credentials").count();
    assert!((1..=10).contains(&tried), "{tried}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whom_a_request_comes_from_is_believed_of_trusted_proxies_only() {
    let addresses = async |api: &Api| {
        let account = api.account("anna", Role::Viewer).await;
        assert!(!account.is_empty());
        for from in ["198.51.100.1", "8.8.8.8, 198.51.100.2, 10.1.1.1", "garbage", "2001:db8::1"] {
            assert_eq!(sign_in(api, from, "anna", PASSWORD).await.status, StatusCode::OK);
        }
        api.db.texts("select address from sessions order by created_at").await
    };
    let believed = addresses(&behind_a_proxy().await).await;
    assert_eq!(believed, ["127.0.0.1", "198.51.100.1", "198.51.100.2", "127.0.0.1", "2001:db8::1"]);
    let not_believed = addresses(&Api::new().await).await;
    assert_eq!(not_believed, ["127.0.0.1"; 5]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spoofed_address_gives_no_new_attempts_and_an_ipv6_network_counts_as_one() {
    let api = Api::with(|config| config.sign_in_limit_per_address_per_minute = 2).await;
    let statuses = async |api: &Api, from: [&str; 4]| {
        let mut statuses = Vec::new();
        for from in from {
            statuses.push(sign_in(api, from, from, WRONG).await.status.as_u16());
        }
        statuses
    };
    assert_eq!(
        statuses(&api, ["198.51.100.1", "198.51.100.2", "198.51.100.3", "::1"]).await,
        [401, 401, 429, 429]
    );
    let api = Api::with(|config| {
        config.sign_in_limit_per_address_per_minute = 2;
        config.trusted_proxies = "127.0.0.0/8".into();
    })
    .await;
    let of_one = ["2001:db8::1", "2001:db8::2:0:0:3", "2001:db8::3", "2001:db8:0:1::1"];
    assert_eq!(statuses(&api, of_one).await, [401, 401, 429, 401]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_request_is_limited_for_each_address_where_that_is_configured() {
    let api = Api::with(|config| config.request_limit_per_address_per_second = 5).await;
    let url = format!("{}/version", api.base);
    let answers = futures_util::future::join_all((0..60).map(|_| api.send(api.client.get(&url)))).await;
    let refused: Vec<_> = answers.iter().filter(|answer| !answer.status.is_success()).collect();
    assert!((1..=50).contains(&refused.len()), "{}", refused.len());
    for answer in refused {
        assert_eq!((answer.status, code(answer)), (StatusCode::TOO_MANY_REQUESTS, "rate_limited"));
        assert!(number(answer, "retry-after") >= 1 && number(answer, "ratelimit-limit") == 10);
        assert!(answer.headers.contains_key("content-security-policy"));
    }
}

const UI: &str = "https://ui.example.org";

fn preflight(api: &Api, origin: &str) -> reqwest::RequestBuilder {
    api.request(Method::OPTIONS, "/deployments", None)
        .header("Origin", origin)
        .header("Access-Control-Request-Method", "POST")
        .header("Access-Control-Request-Headers", "authorization,content-type")
}

fn cors_headers(answer: &Answer) -> Vec<String> {
    let names = answer.headers.keys().map(ToString::to_string);
    names.filter(|name| name.starts_with("access-control-")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_configured_origins_no_answer_allows_another_one() {
    let api = Api::new().await;
    let refused = api.send(preflight(&api, UI)).await;
    assert!(refused.status.is_client_error());
    assert_eq!(cors_headers(&refused), [""; 0]);
    let answer = api.send(api.client.get(format!("{}/version", api.base)).header("Origin", UI)).await;
    assert_eq!((answer.status, cors_headers(&answer)), (StatusCode::OK, vec![]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn configured_origins_are_allowed_by_name_and_no_others() {
    let api = Api::with(|config| config.cors_origins = format!("{UI}, http://localhost:5173")).await;
    let allowed = api.send(preflight(&api, UI)).await;
    assert!(allowed.status.is_success(), "{}", allowed.body);
    assert_eq!(allowed.headers["access-control-allow-origin"], UI);
    assert!(!allowed.headers.contains_key("access-control-allow-credentials"));
    let unknown = api.request(Method::GET, "/auth/me", None).header("Origin", UI);
    let unknown = api.send(unknown).await;
    assert_eq!(unknown.status, StatusCode::UNAUTHORIZED);
    assert_eq!(unknown.headers["access-control-allow-origin"], UI, "a page can read why it was refused");
    assert!(unknown.headers["access-control-expose-headers"].to_str().unwrap().contains("x-request-id"));
    assert!(unknown.headers["vary"].to_str().unwrap().contains("Origin"));
    for origin in
        ["https://ui.example.org.evil.example", "http://ui.example.org", "null", "https://UI.example.org:444"]
    {
        let refused = api.send(preflight(&api, origin)).await;
        assert_eq!(
            (refused.status, code(&refused)),
            (StatusCode::FORBIDDEN, "origin_not_allowed"),
            "{origin}"
        );
        assert!(!refused.headers.contains_key("access-control-allow-origin"), "{origin}");
        let answer = api.send(api.client.get(format!("{}/version", api.base)).header("Origin", origin)).await;
        assert!(!answer.headers.contains_key("access-control-allow-origin"), "{origin}");
    }
}

const SECURITY_HEADERS: [&str; 8] = [
    "content-security-policy",
    "x-content-type-options",
    "x-frame-options",
    "referrer-policy",
    "permissions-policy",
    "cross-origin-opener-policy",
    "cross-origin-resource-policy",
    "x-request-id",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_carries_the_security_headers() {
    let api = Api::with(|config| config.sign_in_limit_per_address_per_minute = 2).await;
    let admin = api.account("admin", Role::Admin).await;
    let get = |path: &str| api.request(Method::GET, path, Some(&admin));
    let post = |path: &str| api.request(Method::POST, path, Some(&admin));
    let login = || post("/auth/login").json(&json!({"name": "admin", "password": WRONG}));
    let deep = format!("{}1{}", "[".repeat(200), "]".repeat(200));
    let deep = format!("{{\"name\":\"web\",\"image\":{deep}}}");
    let large = json!({"name": "web", "image": "x".repeat(1 << 20)});
    let cases = [
        (200, "", get("/nodes")),
        (200, "", api.client.get(format!("{}/", api.base))),
        (400, "bad_json", post("/deployments").header("Content-Type", "application/json").body("{")),
        (400, "", post("/deployments").header("Content-Type", "application/json").body(deep)),
        (401, "no_token", api.request(Method::GET, "/nodes", None)),
        (401, "bad_credentials", login()),
        (429, "rate_limited", login()),
        (404, "no_such_route", get("/nothing")),
        (404, "no_such_route", api.request(Method::TRACE, "/nodes", None)),
        (413, "body_too_large", post("/deployments").json(&large)),
        (414, "uri_too_long", get(&format!("/nodes?{}", "x".repeat(9_000)))),
        (431, "headers_too_large", get("/nodes").header("X-Long", "x".repeat(40_000))),
    ];
    for (status, expected, request) in cases {
        carries_them(&api.send(request).await, status, expected);
    }
    api.db.execute("alter table nodes rename to nodes_away").await;
    carries_them(&api.send(get("/nodes")).await, 500, "internal");
}

fn carries_them(answer: &Answer, status: u16, expected: &str) {
    assert_eq!(answer.status, status, "{}", answer.body);
    assert!(expected.is_empty() || code(answer) == expected, "{}", answer.body);
    for name in SECURITY_HEADERS {
        assert!(answer.headers.contains_key(name), "{status} {name}");
    }
    let policy = answer.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{policy}");
    assert!(!answer.headers.contains_key("strict-transport-security"), "it came by plain HTTP");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn https_only_is_said_to_those_who_came_by_it() {
    let hsts = async |api: &Api, proto: Option<&str>| {
        let mut request = api.client.get(format!("{}/nothing", api.base));
        if let Some(proto) = proto {
            request = request.header("X-Forwarded-Proto", proto);
        }
        api.send(request).await.headers.contains_key("strict-transport-security")
    };
    let plain = Api::new().await;
    assert!(!hsts(&plain, None).await && !hsts(&plain, Some("https")).await);
    let secure = Api::with(|config| config.public_url = "https://a67.example.org".into()).await;
    assert!(hsts(&secure, None).await && hsts(&secure, Some("http")).await, "nobody is believed");
    let proxied = behind_a_proxy().await;
    assert!(hsts(&proxied, Some("https")).await && hsts(&proxied, Some("http, HTTPS")).await);
    assert!(!hsts(&proxied, None).await && !hsts(&proxied, Some("https, http")).await);
}

/// Sends `head` at once and then a byte every tenth of a second; gives what came back
/// when the connection was closed.
async fn trickle(api: &Api, head: &str) -> String {
    let mut socket = TcpStream::connect(api.base.trim_start_matches("http://")).await.unwrap();
    socket.write_all(head.as_bytes()).await.unwrap();
    let (mut reader, mut writer) = socket.split();
    let mut answer = Vec::new();
    let dribble = async {
        let mut beat = tokio::time::interval(Duration::from_millis(100));
        // Ends when the other side has closed.
        while writer.write_all(b"x").await.is_ok() {
            beat.tick().await;
        }
        std::future::pending::<()>().await;
    };
    let closed = timeout(PATIENCE, async {
        // Cancel-safe: only the reading ends it, and nothing is read after that.
        tokio::select! {
            _ = reader.read_to_end(&mut answer) => {}
            () = dribble => {}
        }
    });
    closed.await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_trickles_in_is_cut() {
    let api = Api::with(|config| config.client_timeout_seconds = 1).await;
    let began = Instant::now();
    let answer = trickle(
        &api,
        "POST /api/v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n{",
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("body_too_slow"), "{answer}");
    assert!(
        answer.contains("application/problem+json") && answer.contains("content-security-policy"),
        "{answer}"
    );
    assert!(began.elapsed() < PATIENCE / 2, "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_nobody_asked_for_is_not_waited_for() {
    let api = Api::with(|config| config.client_timeout_seconds = 1).await;
    let answer = trickle(&api, "GET /version HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_trickles_in_is_cut() {
    let api = Api::with(|config| config.client_timeout_seconds = 1).await;
    let answer = trickle(&api, "GET /version HTTP/1.1\r\nHost: x\r\nX-Slow: ").await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_takes_too_long_is_given_up_and_harms_no_other() {
    let api = Api::with(|config| config.request_timeout_seconds = 1).await;
    let admin = api.account("admin", Role::Admin).await;
    let (client, connection) = tokio_postgres::connect(&api.db.url, tokio_postgres::NoTls).await.unwrap();
    let supervisor = Supervisor::new(tokio::runtime::Handle::current());
    supervisor.spawn("connection", async move {
        let _ = connection.await;
    });
    client.batch_execute("begin; lock table nodes in access exclusive mode").await.unwrap();
    let (stuck, quick) = tokio::join!(api.get("/nodes", &admin), api.get("/auth/me", &admin));
    assert_eq!(
        (stuck.status, code(&stuck)),
        (StatusCode::SERVICE_UNAVAILABLE, "timed_out"),
        "{}",
        stuck.body
    );
    assert_eq!(stuck.body["request_id"].as_str(), stuck.headers["x-request-id"].to_str().ok());
    assert!(number(&stuck, "retry-after") >= 1 && stuck.headers.contains_key("content-security-policy"));
    assert_eq!(quick.status, StatusCode::OK);
    client.batch_execute("rollback").await.unwrap();
    assert_eq!(api.get("/nodes", &admin).await.status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn time_that_a_request_asks_to_wait_does_not_count() {
    let api = Api::with(|config| config.request_timeout_seconds = 1).await;
    let admin = api.account("admin", Role::Admin).await;
    let made = api.post("/deployments", Some(&admin), json!({"name": "web", "image": "a"})).await;
    let path = format!("/operations/{}?wait_seconds=2", made.body["id"].as_str().unwrap());
    let began = Instant::now();
    assert_eq!(api.get(&path, &admin).await.status, StatusCode::OK);
    assert!(began.elapsed() >= Duration::from_secs(2));
}
