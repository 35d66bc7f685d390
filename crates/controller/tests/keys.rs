//! Access tokens over HTTP that are not quite right, and the keys that sign them.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on fails where it stands"
)]

mod common;

use std::time::{Duration, Instant};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use common::Api;
use controller::{auth::role::Role, config::Config, tasks};
use daemon::seal::MasterKey;
use reqwest::{StatusCode, header};
use ring::{hmac, signature::Ed25519KeyPair};
use serde_json::{Value, json};
use store::audit::Actor;
use zeroize::Zeroizing;

const MASTER_KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

fn same_vault(config: &mut Config) {
    config.master_key = Some(MASTER_KEY.to_owned().into());
}

/// The controller's own signing key, got as whoever has the master key could.
struct Forge {
    kid: String,
    public_key: Vec<u8>,
    private_key: Zeroizing<Vec<u8>>,
}

impl Forge {
    async fn of(api: &Api) -> Self {
        let row = api.services.store.signing_key_list().await.unwrap().remove(0);
        let sealing = MasterKey::from_base64(MASTER_KEY).unwrap().derive("signing");
        let aad = format!("signing {} {}", api.services.fleet_id, row.kid);
        let private_key = sealing.open(aad.as_bytes(), &row.private_key_sealed).unwrap();
        Self { kid: row.kid, public_key: row.public_key, private_key }
    }

    fn header(&self, algorithm: &str) -> Value {
        json!({"typ": "JWT", "alg": algorithm, "kid": self.kid})
    }

    fn signed(&self, header: &Value, claims: &Value) -> String {
        signed(&self.private_key, header, claims)
    }
}

fn message(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", part(header), part(claims))
}

fn signed(pkcs8: &[u8], header: &Value, claims: &Value) -> String {
    let message = message(header, claims);
    let pair = Ed25519KeyPair::from_pkcs8(pkcs8).unwrap();
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(pair.sign(message.as_bytes())))
}

/// What a token says, without asking whether it is true.
fn claims_of(token: &str) -> Value {
    let claims = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap()
}

fn kid_of(token: &str) -> String {
    let head = token.split('.').next().unwrap();
    let head: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(head).unwrap()).unwrap();
    head["kid"].as_str().unwrap().to_owned()
}

async fn is_good(api: &Api, access: &str) -> bool {
    api.get("/auth/me", access).await.status == StatusCode::OK
}

async fn sign_in(api: &Api) -> Value {
    let body = json!({"name": "anna", "password": common::PASSWORD});
    let answer = api.post("/auth/login", None, body).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    answer.body
}

async fn kids(api: &Api) -> Vec<String> {
    let answer = api.send(api.client.get(format!("{}/.well-known/jwks.json", api.base))).await;
    assert_eq!(answer.status, StatusCode::OK);
    answer.body["keys"].as_array().unwrap().iter().map(|k| k["kid"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_access_token_that_is_not_good_gets_the_same_answer() {
    let api = Api::with(same_vault).await;
    let good = api.account("anna", Role::Admin).await;
    let (forge, claims) = (Forge::of(&api).await, claims_of(&good));
    let eddsa = forge.header("EdDSA");
    // Otherwise the rest would show nothing.
    assert!(is_good(&api, &forge.signed(&eddsa, &claims)).await);

    let now = chrono::Utc::now().timestamp();
    let with = |name: &str, value: Value| {
        let mut claims = claims.clone();
        claims[name] = value;
        forge.signed(&eddsa, &claims)
    };
    let hs256 = message(&forge.header("HS256"), &claims);
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &forge.public_key), hs256.as_bytes());
    let foreign = controller::auth::jwt::NewKey::generate().unwrap();
    let foreign_header = json!({"typ": "JWT", "alg": "EdDSA", "kid": foreign.kid});
    let stolen = sign_in(&api).await["access_token"].as_str().unwrap().to_owned();
    assert!(is_good(&api, &stolen).await);
    assert_eq!(api.post("/auth/logout", Some(&stolen), json!({})).await.status, StatusCode::NO_CONTENT);

    let cases = [
        ("algorithm confusion", format!("{hs256}.{}", URL_SAFE_NO_PAD.encode(tag))),
        ("none", format!("{}.", message(&forge.header("none"), &claims))),
        ("no signature", format!("{}.", message(&eddsa, &claims))),
        ("a foreign key", signed(&foreign.private_key, &foreign_header, &claims)),
        ("a foreign key under our name", signed(&foreign.private_key, &eddsa, &claims)),
        ("another audience", with("aud", json!("another-api"))),
        ("another issuer", with("iss", json!("automator67:another-fleet"))),
        ("expired", with("exp", json!(now - 1))),
        ("not yet valid", with("nbf", json!(now + 3_600))),
        ("issued in the future", with("iat", json!(now + 3_600))),
        ("another account", with("sub", json!(uuid::Uuid::now_v7()))),
        ("another session", with("sid", json!(uuid::Uuid::now_v7()))),
        ("stolen, after the sign-out", stolen),
        ("nonsense", "nonsense".to_owned()),
    ];
    let mut answers = Vec::new();
    for (what, token) in &cases {
        let mut answer = api.get("/auth/me", token).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{what}");
        answer.body["request_id"] = Value::Null;
        answers.push(answer.body);
    }
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{answers:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_and_another_controller_believe_the_same_tokens() {
    let api = Api::with(same_vault).await;
    let access = api.account("anna", Role::Viewer).await;
    let refresh = sign_in(&api).await["refresh_token"].clone();
    let restarted = Api::beside(&api, same_vault).await;
    assert!(is_good(&restarted, &access).await);
    let answer = restarted.post("/auth/refresh", None, json!({"refresh_token": refresh})).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert!(is_good(&api, answer.body["access_token"].as_str().unwrap()).await);
    assert_eq!(kids(&api).await, kids(&restarted).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_public_keys_are_shown_to_everybody_and_verify_tokens() {
    let api = Api::with(same_vault).await;
    let access = api.account("anna", Role::Viewer).await;
    let answer = api.send(api.client.get(format!("{}/.well-known/jwks.json", api.base))).await;
    assert_eq!(answer.headers[header::CACHE_CONTROL], "public, max-age=300");
    let key = &answer.body["keys"][0];
    for (name, value) in [("kty", "OKP"), ("crv", "Ed25519"), ("use", "sig"), ("alg", "EdDSA")] {
        assert_eq!(key[name], value);
    }
    assert_eq!(key["kid"], kid_of(&access));
    assert!(key.get("d").is_none());
    let public_key = URL_SAFE_NO_PAD.decode(key["x"].as_str().unwrap()).unwrap();
    let (message, signature) = access.rsplit_once('.').unwrap();
    let key = ring::signature::UnparsedPublicKey::new(&ring::signature::ED25519, public_key);
    key.verify(message.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap()).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_key_is_taken_up_by_all_and_the_old_one_is_believed_for_the_overlap() {
    let one = Api::with(same_vault).await;
    let other = Api::beside(&one, same_vault).await;
    tasks::start(&other.services);
    until("it listens", async || other.services.identity.callers.is_listening()).await;
    let old = one.account("anna", Role::Viewer).await;
    // As `admin rotate-signing-key` does it, in a process of its own.
    let kid = one.services.signing_key_rotate(None, &Actor::system()).await.unwrap();
    let rotated = Instant::now();
    until("the other knows the key", async || kids(&other).await.contains(&kid)).await;
    assert!(rotated.elapsed() < Duration::from_secs(1), "{:?}", rotated.elapsed());
    for api in [&one, &other] {
        let new = sign_in(api).await["access_token"].as_str().unwrap().to_owned();
        assert_eq!(kid_of(&new), kid);
        assert!(is_good(&one, &new).await && is_good(&other, &new).await);
        assert!(is_good(api, &old).await);
        assert_eq!(kids(api).await.len(), 2);
    }
    let left = "select retired_at - now() between interval '24 hours' and interval '25 hours' from signing_keys where retired_at is not null";
    assert_eq!(one.db.texts(left).await, ["true"]);

    // An overlap of nothing ends what older keys signed, and no session.
    let refresh = sign_in(&one).await["refresh_token"].clone();
    let last = one.services.signing_key_rotate(Some(Duration::ZERO), &Actor::system()).await.unwrap();
    until("the other believes no older key", async || kids(&other).await == [last.as_str()]).await;
    assert!(!is_good(&one, &old).await && !is_good(&other, &old).await);
    let answer = other.post("/auth/refresh", None, json!({"refresh_token": refresh})).await;
    assert!(is_good(&other, answer.body["access_token"].as_str().unwrap()).await);
    let audited = "select subject from audit_log where action = 'signing_key_rotate' order by at, id";
    assert_eq!(one.db.texts(audited).await, [kid, last]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_of_an_unknown_key_makes_a_controller_look_but_not_each_time() {
    let one = Api::with(same_vault).await;
    one.account("anna", Role::Viewer).await;
    // Hears nothing, so it must find out by itself.
    let deaf = Api::beside(&one, same_vault).await;
    let mut verdicts = Vec::new();
    for _ in 0..2 {
        one.services.signing_key_rotate(None, &Actor::system()).await.unwrap();
        let new = sign_in(&one).await["access_token"].as_str().unwrap().to_owned();
        verdicts.push(is_good(&deaf, &new).await);
    }
    assert_eq!(verdicts, [true, false], "the second look would be within five seconds of the first");
    deaf.services.signing_keys_reload().await.unwrap();
    assert_eq!(kids(&deaf).await.len(), 3);
}

/// Looks again until it is so, for ten seconds.
async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !is_so().await {
        assert!(begun.elapsed() < Duration::from_secs(10), "{what}");
        tokio::task::yield_now().await;
    }
}
