//! Credentials over HTTP: values go in byte for byte, and come out nowhere.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on fails where it stands"
)]

mod common;

use base64::{Engine, engine::general_purpose::STANDARD};
use common::{Answer, Api};
use controller::auth::role::Role;
use reqwest::{Method, StatusCode, header};
use serde_json::{Value, json};

/// Occurs nowhere else.
const SECRET: &str = "hunter2-pa$$w0rd";

async fn create(api: &Api, token: &str, body: Value) -> Answer {
    api.post("/credentials", Some(token), body).await
}

async fn secret(api: &Api, token: &str, name: &str, value: &str) -> Value {
    let answer = create(api, token, json!({"name": name, "kind": "secret", "value": value})).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.body);
    answer.body
}

async fn put(api: &Api, token: &str, name: &str, body: Value) -> Answer {
    let path = format!("/credentials/{name}/value");
    api.send(api.request(Method::PUT, &path, Some(token)).json(&body)).await
}

async fn raw(api: &Api, token: &str, body: impl Into<reqwest::Body>) -> Answer {
    let request = api.request(Method::POST, "/credentials", Some(token));
    api.send(request.header(header::CONTENT_TYPE, "application/json").body(body)).await
}

async fn revealed(api: &Api, token: &str, name: &str) -> Vec<u8> {
    let answer = api.post(&format!("/credentials/{name}/reveal"), Some(token), json!({})).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    STANDARD.decode(answer.body["value_base64"].as_str().unwrap()).unwrap()
}

fn fields(answer: &Answer) -> Vec<&str> {
    let errors = answer.body["errors"].as_array().unwrap();
    errors.iter().map(|error| error["field"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_value_comes_out_as_it_went_in_byte_for_byte() {
    let api = Api::with(|config| config.reveal_enabled = true).await;
    let token = api.account("root", Role::Admin).await;
    let texts = ["", "\n", "a\n", "pa$$ $HOME ${X} `id`", "\u{0}", "ü\u{10ffff}\"\\", " x "];
    for (n, text) in texts.into_iter().enumerate() {
        secret(&api, &token, &format!("text-{n}"), text).await;
        assert_eq!(revealed(&api, &token, &format!("text-{n}")).await, text.as_bytes());
    }
    let every: Vec<u8> = (0..=255).collect();
    for (n, bytes) in [vec![], vec![0xff, 0xfe, 0], every.repeat(1024)].into_iter().enumerate() {
        let body =
            json!({"name": format!("raw-{n}"), "kind": "secret", "value_base64": STANDARD.encode(&bytes)});
        assert_eq!(create(&api, &token, body).await.status, StatusCode::CREATED);
        assert_eq!(revealed(&api, &token, &format!("raw-{n}")).await, bytes);
    }
    let data = "{\"b\" : 1.0,\n\t\"a\":[1e400 , \"\\u00e9\"], \"c\":{ }}";
    let answer =
        raw(&api, &token, format!("{{\"name\":\"data\",\"kind\":\"secret\",\"data\": {data} }}")).await;
    assert_eq!((answer.status, answer.body["form"].as_str()), (StatusCode::CREATED, Some("json")));
    assert_eq!(revealed(&api, &token, "data").await, data.as_bytes());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_has_256_kib_at_most() {
    let api = Api::new().await;
    let token = api.account("root", Role::Admin).await;
    for (length, status) in
        [(256 * 1024, StatusCode::CREATED), (256 * 1024 + 1, StatusCode::UNPROCESSABLE_ENTITY)]
    {
        let value = STANDARD.encode(vec![7; length]);
        let body = json!({"name": format!("n{length}"), "kind": "secret", "value_base64": value});
        assert_eq!(create(&api, &token, body).await.status, status, "{length}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_read_is_never_quoted_wherever_the_secret_stands() {
    let api = Api::new().await;
    let token = api.account("root", Role::Admin).await;
    for body in [
        format!("{{\"name\":\"a\",\"kind\":\"secret\",\"value\":[\"{SECRET}\"]}}"),
        format!("{{\"name\":\"a\",\"kind\":\"secret\",\"{SECRET}\":1}}"),
        format!("{{\"name\":\"a\",\"kind\":\"secret\",\"value\":{{\"{SECRET}\":\"{SECRET}\"}}}}"),
        format!("{{\"name\":\"a\",\"kind\":\"{SECRET}\",\"value\":\"x\"}}"),
        format!("{{\"name\":\"{SECRET}\",\"kind\":\"secret\",\"value\":\"{SECRET}\"}}"),
        format!("{{\"name\":\"a\",\"kind\":\"secret\",\"value_base64\":\"{SECRET}\"}}"),
        format!("{{\"name\":\"a\",\"kind\":\"secret\",\"registry\":\"{SECRET}\"}}"),
        format!("{{\"name\":\"a\",\"kind\":\"secret\",\"data\":[\"{SECRET}\"]}}"),
        format!("{{\"name\":\"a\",\"kind\":\"secret\",\"data\":{{\"{SECRET}\":1,\"{SECRET}\":2}}}}"),
        format!("{{\"name\":\"a\",\"kind\":\"secret\",\"value\":\"{SECRET}"),
        format!("\"{SECRET}\""),
        SECRET.to_owned(),
        format!(
            "{{\"name\":\"a\",\"kind\":\"tls\",\"tls\":{{\"certificate\":\"{SECRET}\",\"private_key\":\"{SECRET}\"}}}}"
        ),
        format!("{{\"name\":\"a\",\"kind\":\"webhook\",\"webhook\":{{\"url\":\"{SECRET}\"}}}}"),
        format!(
            "{{\"name\":\"a\",\"kind\":\"registry\",\"registry\":{{\"server\":\"{SECRET} x\",\"username\":\"{SECRET}:\",\"password\":\"{SECRET}\\n\"}}}}"
        ),
    ] {
        let answer = raw(&api, &token, body.clone()).await;
        assert!(answer.status.is_client_error(), "{body}: {}", answer.status);
        let told = format!("{} {:?}", answer.body, answer.headers);
        assert!(!told.contains(SECRET) && !told.contains("pa$$"), "{body}: {told}");
    }
    let number = raw(&api, &token, "{\"name\":\"a\",\"kind\":\"secret\",\"value\":470011}").await;
    assert_eq!((number.status, fields(&number)), (StatusCode::BAD_REQUEST, vec!["value"]));
    assert!(!number.body.to_string().contains("470011"));
    assert_eq!(api.count("credentials").await, "0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exactly_one_value_of_the_kind_that_is_said_is_taken() {
    let api = Api::new().await;
    let token = api.account("root", Role::Admin).await;
    for (body, field) in [
        (json!({"name": "a", "kind": "secret"}), "value"),
        (json!({"name": "a", "kind": "secret", "value": "x", "value_base64": "eA=="}), "value"),
        (json!({"name": "a", "kind": "tls", "value": "x"}), "kind"),
        (json!({"name": "a", "kind": "other", "value": "x"}), "kind"),
        (json!({"name": "A", "kind": "secret", "value": "x"}), "name"),
        (json!({"name": "a", "kind": "secret", "value": "x", "node_labels": {"": "x"}}), "node_labels"),
        (json!({"name": "a", "kind": "secret", "value_base64": "eA"}), "value_base64"),
    ] {
        let answer = create(&api, &token, body.clone()).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{body}: {}", answer.body);
        assert_eq!(fields(&answer), [field], "{body}");
    }
    secret(&api, &token, "a", "x").await;
    let again = create(&api, &token, json!({"name": "a", "kind": "secret", "value": "y"})).await;
    assert_eq!((again.status, again.body["code"].as_str()), (StatusCode::CONFLICT, Some("name_taken")));
    let other = put(&api, &token, "a", json!({"webhook": {"url": "https://a.example"}})).await;
    assert_eq!(fields(&other), ["kind"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_shows_its_names_and_its_end_and_never_its_key() {
    let api = Api::new().await;
    let token = api.account("root", Role::Admin).await;
    let made = rcgen::generate_simple_self_signed(vec!["a.example".to_owned()]).unwrap();
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let body = json!({"name": "web", "kind": "tls", "tls": {"certificate": certificate, "private_key": key}});
    let answer = create(&api, &token, body).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.body);
    assert_eq!(answer.body["certificate"]["names"], json!(["a.example"]));
    assert!(answer.body["certificate"]["not_after"].is_string());
    let shown = api.get("/credentials/web", &token).await.body.to_string();
    assert!(!shown.contains("PRIVATE") && !shown.contains("BEGIN"), "{shown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_answer_event_or_line_of_the_audit_log_has_a_value() {
    let api = Api::new().await;
    let token = api.account("root", Role::Admin).await;
    let login = json!({"server": "https://index.docker.io/v1/", "username": "bot-77", "password": SECRET});
    let made = create(&api, &token, json!({"name": "hub", "kind": "registry", "registry": login})).await;
    assert_eq!((made.status, made.body["registry"].as_str()), (StatusCode::CREATED, Some("docker.io")));
    secret(&api, &token, "db", SECRET).await;
    put(&api, &token, "db", json!({"value": format!("{SECRET}2")})).await;
    let body = json!({
        "name": "web", "image": "app:1", "replicas": 0,
        "secrets": [{"credential": "db", "as": {"env": "DB"}}, {"credential": "db", "as": {"file": "/run/db"}}]
    });
    let created = api.post("/deployments", Some(&token), body).await;
    assert_eq!(created.status, StatusCode::ACCEPTED, "{}", created.body);
    let warning = created.body["warnings"][0].as_str().unwrap();
    assert!(warning.contains("db as DB"), "{warning}");
    let back = api.post("/credentials/db/rollback", Some(&token), json!({"version": 1})).await;
    assert_eq!((back.status, back.body["version"].as_u64()), (StatusCode::OK, Some(3)));
    assert_eq!(back.body["deployments"][0]["deployment"], "web");
    let refused = api.send(api.request(Method::DELETE, "/credentials/db", Some(&token))).await;
    assert_eq!(
        (refused.status, refused.body["code"].as_str()),
        (StatusCode::CONFLICT, Some("credential_in_use"))
    );
    assert_eq!(fields(&refused), ["deployments/web", "deployments/web"][..fields(&refused).len()]);
    for path in [
        "/credentials",
        "/credentials/db",
        "/credentials/db/versions",
        "/credentials/db/used-by",
        "/credentials/hub",
        "/credentials/hub/used-by",
        "/deployments/web",
        "/events",
        "/audit",
        "/operations",
    ] {
        let answer = api.get(path, &token).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}");
        let text = answer.body.to_string();
        for hidden in [SECRET, "bot-77", &STANDARD.encode(SECRET), "hunter2-pa%24%24w0rd"] {
            assert!(!text.contains(hidden), "{path} shows {hidden}: {text}");
        }
    }
    let events = api.db.texts("select kind from events where kind = 'secret_in_env'").await;
    assert_eq!(events.len(), 1, "it is said once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_are_not_shown_unless_the_configuration_allows_it_and_then_it_is_written_down() {
    let api = Api::new().await;
    let token = api.account("root", Role::Admin).await;
    secret(&api, &token, "db", SECRET).await;
    let refused = api.post("/credentials/db/reveal", Some(&token), json!({})).await;
    assert_eq!(
        (refused.status, refused.body["code"].as_str()),
        (StatusCode::FORBIDDEN, Some("reveal_disabled"))
    );
    let api = Api::with(|config| config.reveal_enabled = true).await;
    let (admin, operator) = (api.account("root", Role::Admin).await, api.account("op", Role::Operator).await);
    secret(&api, &admin, "db", SECRET).await;
    assert_eq!(revealed(&api, &admin, "db").await, SECRET.as_bytes());
    let refused = api.post("/credentials/db/reveal", Some(&operator), json!({})).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    let missing = api.post("/credentials/db/reveal", Some(&admin), json!({"version": 2})).await;
    assert_eq!(missing.status, StatusCode::NOT_FOUND);
    let lines =
        "select actor || ' ' || subject || ' ' || outcome from audit_log where action = 'credential_reveal'";
    assert_eq!(api.db.texts(lines).await, ["root db done"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_use_of_what_is_not_there_is_refused_with_its_field() {
    let api = Api::new().await;
    let token = api.account("root", Role::Admin).await;
    let body =
        json!({"name": "web", "image": "app:1", "secrets": [{"credential": "db", "as": {"env": "DB"}}]});
    let answer = api.post("/deployments", Some(&token), body.clone()).await;
    assert_eq!(
        (answer.status, fields(&answer)),
        (StatusCode::UNPROCESSABLE_ENTITY, vec!["secrets[0].credential"])
    );
    secret(&api, &token, "db", "a\u{0}b").await;
    let answer = api.post("/deployments", Some(&token), body).await;
    assert_eq!(
        (answer.status, fields(&answer)),
        (StatusCode::UNPROCESSABLE_ENTITY, vec!["secrets[0].as.env"])
    );
}
