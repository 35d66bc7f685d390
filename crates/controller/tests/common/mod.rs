//! A controller over real HTTP with a database of its own, for tests.

#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on fails where it stands, and no file of tests uses everything"
)]

use std::{sync::Arc, time::Duration};

use controller::{
    app,
    auth::{password::Password, role::Role},
    config::Config,
    http,
    service::Services,
};
use daemon::Supervisor;
use reqwest::{Method, StatusCode, header};
use serde_json::{Value, json};
use store::{
    Store, StoreSettings,
    audit::Actor,
    testing::{TestDatabase, database},
};

pub const PASSWORD: &str = "correct horse battery";

pub struct Api {
    pub client: reqwest::Client,
    pub base: String,
    pub services: Arc<Services>,
    pub db: TestDatabase,
    _data: tempfile::TempDir,
}

pub struct Answer {
    pub status: StatusCode,
    pub headers: header::HeaderMap,
    pub body: Value,
}

impl Api {
    pub async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub async fn with(edit: impl FnOnce(&mut Config)) -> Self {
        Self::on(database().await, edit).await
    }

    /// One more controller on this one's database, with a pool of its own. For the vault
    /// to open, both need `edit` to set the same master key.
    pub async fn beside(other: &Self, edit: impl FnOnce(&mut Config)) -> Self {
        let settings = StoreSettings { url: other.db.url.as_str().into(), connections_max: 8 };
        let store = Store::new(settings, tokio::runtime::Handle::current()).unwrap();
        Self::on(TestDatabase { store, url: other.db.url.clone() }, edit).await
    }

    async fn on(db: TestDatabase, edit: impl FnOnce(&mut Config)) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let data = tempfile::tempdir().unwrap();
        let mut config = Config { data_dir: data.path().to_owned(), bcrypt_cost: 4, ..Config::default() };
        edit(&mut config);
        let supervisor = Supervisor::new(tokio::runtime::Handle::current());
        let services = app::build(&config, db.store.clone(), supervisor.clone()).await.unwrap();
        db.store.sample_partitions_maintain(chrono::Utc::now()).await.unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let server = http::server(services.clone(), listener, Duration::from_secs(1)).unwrap();
        supervisor.spawn("HTTP", server);
        Self { client: reqwest::Client::new(), base, services, db, _data: data }
    }

    pub async fn account(&self, name: &str, role: Role) -> String {
        self.services
            .account_create(name.into(), Password::new(PASSWORD), role, &Actor::system())
            .await
            .unwrap();
        let answer = self.post("/auth/login", None, json!({"name": name, "password": PASSWORD})).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        answer.body["access_token"].as_str().unwrap().to_owned()
    }

    pub async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let text = response.text().await.unwrap();
        Answer { status, headers, body: serde_json::from_str(&text).unwrap_or(Value::String(text)) }
    }

    pub fn request(&self, method: Method, path: &str, token: Option<&str>) -> reqwest::RequestBuilder {
        let request = self.client.request(method, format!("{}/api/v1{path}", self.base));
        match token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    pub async fn get(&self, path: &str, token: &str) -> Answer {
        self.send(self.request(Method::GET, path, Some(token))).await
    }

    pub async fn post(&self, path: &str, token: Option<&str>, body: Value) -> Answer {
        self.send(self.request(Method::POST, path, token).json(&body)).await
    }

    pub async fn count(&self, table: &str) -> String {
        self.db.texts(&format!("select count(*) from {table}")).await.remove(0)
    }
}
