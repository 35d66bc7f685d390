//! A client of the REST API.

use std::{sync::OnceLock, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use reqwest::{Method, Response, header::HeaderMap};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    spec::Spec,
    sse::Sse,
    views::{Deployment, Event, Instance, Node, Operation, Page, Problem},
    wait::{note, seconds, until},
};

/// Longer than any answer that a test waits for may take.
const ANSWER: Duration = Duration::from_secs(30);
/// Longest time an operation may take in these tests.
pub const OPERATION: Duration = Duration::from_secs(90);

/// A client of HTTP without TLS.
///
/// # Panics
/// Never, with the libraries as they are.
#[must_use]
pub fn http_client(timeout: Duration) -> reqwest::Client {
    static PROVIDER: OnceLock<()> = OnceLock::new();
    PROVIDER.get_or_init(|| {
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    // A test that kills its server must not find the next one's connections dead.
    let builder = reqwest::Client::builder().timeout(timeout).pool_max_idle_per_host(0).no_proxy();
    builder.build().expect("these settings are fine")
}

/// The API of one controller, as one caller.
#[derive(Clone)]
pub struct Api {
    base: String,
    token: Option<String>,
    client: reqwest::Client,
}

/// Any answer.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body; a string where it is not JSON.
    pub body: Value,
}

impl Answer {
    async fn read(response: Response) -> Result<Self> {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await?;
        Ok(Self { status, headers, body: serde_json::from_str(&text).unwrap_or(Value::String(text)) })
    }

    /// The body, if the status is a good one.
    ///
    /// # Errors
    /// When it is not, or the body is something else.
    pub fn good<T: DeserializeOwned>(self) -> Result<T> {
        ensure!((200..300).contains(&self.status), "{}: {}", self.status, self.body);
        let shown = self.body.to_string();
        serde_json::from_value(self.body).context(shown)
    }

    /// The problem that an answer with that status has to hold.
    ///
    /// # Panics
    /// When it is another answer.
    #[must_use]
    pub fn problem(self, status: u16) -> Problem {
        assert_eq!(self.status, status, "{}", self.body);
        assert_eq!(self.headers["content-type"], "application/problem+json");
        let problem: Problem = serde_json::from_value(self.body.clone())
            .unwrap_or_else(|e| panic!("{e}: no problem document: {}", self.body));
        assert_eq!(problem.status, status);
        problem
    }
}

impl Api {
    /// For `http://host:port`, as nobody.
    #[must_use]
    pub fn new(base: &str) -> Self {
        Self { base: base.to_owned(), token: None, client: http_client(ANSWER) }
    }

    /// The same, with a token.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.clone() }
    }

    /// The token that it shows.
    #[must_use]
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// A request to a path outside `/api/v1`.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn outside(&self, path: &str) -> Result<Answer> {
        Answer::read(self.client.get(format!("{}{path}", self.base)).send().await?).await
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.client.request(method, format!("{}/api/v1{path}", self.base));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// Any request with a body as it is.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn send(&self, method: Method, path: &str, body: Option<String>) -> Result<Answer> {
        let request = self.request(method, path);
        let request = match body {
            Some(body) => request.header("content-type", "application/json").body(body),
            None => request,
        };
        Answer::read(request.send().await?).await
    }

    /// Reads.
    ///
    /// # Errors
    /// When there is no answer, or another one.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.send(Method::GET, path, None).await?.good().with_context(|| format!("GET {path}"))
    }

    /// Asks for something.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Answer> {
        self.send(Method::POST, path, Some(body.to_string())).await
    }

    /// Signs in.
    ///
    /// # Errors
    /// When the controller refuses, or there is no answer.
    pub async fn sign_in(&self, name: &str, password: &str) -> Result<Self> {
        let session: Value =
            self.post("/auth/login", &json!({"name": name, "password": password})).await?.good()?;
        Ok(self.with_token(session["access_token"].as_str().context("a session has a token")?))
    }

    /// Declares a deployment.
    ///
    /// # Panics
    /// When it is not accepted.
    pub async fn deploy(&self, spec: &Spec) -> Operation {
        self.accepted(Method::POST, "/deployments", Some(spec.json())).await
    }

    /// Deletes a deployment.
    ///
    /// # Panics
    /// When that is not accepted.
    pub async fn delete(&self, name: &str) -> Operation {
        self.accepted(Method::DELETE, &format!("/deployments/{name}"), None).await
    }

    /// Asks an instance to `restart`, `stop` or `start`.
    ///
    /// # Panics
    /// When that is not accepted.
    pub async fn ask(&self, instance: Uuid, what: &str) -> Operation {
        self.accepted(Method::POST, &format!("/instances/{instance}/{what}"), None).await
    }

    async fn accepted(&self, method: Method, path: &str, body: Option<Value>) -> Operation {
        let shown = format!("{method} {path}");
        let answer = self.send(method, path, body.map(|body| body.to_string())).await;
        let answer = answer.unwrap_or_else(|e| panic!("{shown}: {e:#}"));
        assert_eq!(answer.status, 202, "{shown}: {}", answer.body);
        let location = answer.headers["location"].to_str().expect("it is a path").to_owned();
        let operation: Operation = answer.good().unwrap_or_else(|e| panic!("{shown}: {e:#}"));
        assert_eq!(location, format!("/api/v1/operations/{}", operation.id));
        operation
    }

    /// Waits for the end of an operation; the controller may go and come meanwhile.
    ///
    /// # Panics
    /// When it does not end in [`OPERATION`].
    pub async fn end_of(&self, operation: &Operation) -> Operation {
        let path = format!("/operations/{}?wait_seconds=5", operation.id);
        until(&format!("{} {} ends", operation.kind, operation.deployment), OPERATION, async || {
            let now: Operation = self.get(&path).await?;
            ensure!(now.state == "done", "{}", now.message);
            Ok(now)
        })
        .await
    }

    /// Waits for the success of an operation.
    ///
    /// # Panics
    /// When it ends otherwise.
    pub async fn succeeds(&self, operation: Operation) -> Operation {
        let ended = self.end_of(&operation).await;
        assert_eq!(ended.verdict.as_deref(), Some("succeeded"), "{}: {}", ended.kind, ended.message);
        assert_eq!(ended.done, ended.total, "{ended:?}");
        note(&format!("{} {} succeeded", ended.kind, ended.deployment));
        ended
    }

    /// One deployment.
    ///
    /// # Errors
    /// When there is no answer, or another one.
    pub async fn deployment(&self, name: &str) -> Result<Deployment> {
        self.get(&format!("/deployments/{name}")).await
    }

    /// One instance.
    ///
    /// # Errors
    /// When there is no answer, or another one.
    pub async fn instance(&self, id: Uuid) -> Result<Instance> {
        self.get(&format!("/instances/{id}")).await
    }

    /// Waits until an instance is in a state.
    ///
    /// # Panics
    /// When it does not come to that in half a minute.
    pub async fn instance_is(&self, id: Uuid, state: &str) -> Instance {
        until(&format!("instance {id} is {state}"), seconds(30), async || {
            let instance = self.instance(id).await?;
            ensure!(instance.state == state, "{instance:?}");
            Ok(instance)
        })
        .await
    }

    /// One node.
    ///
    /// # Errors
    /// When there is no answer, or another one.
    pub async fn node(&self, name: &str) -> Result<Node> {
        self.get(&format!("/nodes/{name}")).await
    }

    /// Waits until a node is in a state.
    ///
    /// # Panics
    /// When it does not come to that in a minute.
    pub async fn node_is(&self, name: &str, state: &str) -> Node {
        until(&format!("node {name} is {state}"), seconds(60), async || {
            let node = self.node(name).await?;
            ensure!(node.state == state, "it is {} since {}", node.state, node.state_since);
            Ok(node)
        })
        .await
    }

    /// Events that match a query, such as `deployment=web`; the oldest first.
    ///
    /// # Errors
    /// When there is no answer, or another one.
    pub async fn events(&self, query: &str) -> Result<Vec<Event>> {
        let page: Page<Event> = self.get(&format!("/events?limit=500&{query}")).await?;
        if page.next_cursor.is_some() {
            bail!("there are more than 500 events of {query}");
        }
        Ok(page.items.into_iter().rev().collect())
    }

    /// Waits for an event of an instance.
    ///
    /// # Panics
    /// When it does not come in half a minute.
    pub async fn event(&self, instance: Uuid, kind: &str, cause: &str) -> Event {
        until(&format!("event {kind} by {cause}"), seconds(30), async || {
            let events = self.events(&format!("instance={instance}")).await?;
            let shown: Vec<_> = events.iter().map(|e| format!("{} {:?}", e.kind, e.cause)).collect();
            let found =
                events.into_iter().rev().find(|e| e.kind == kind && e.cause.as_deref() == Some(cause));
            found.with_context(|| format!("{shown:?}"))
        })
        .await
    }

    /// An instance's log as plain text.
    ///
    /// # Errors
    /// When there is no answer, or another one.
    pub async fn log(&self, instance: Uuid, tail: u32) -> Result<String> {
        let answer = self.send(Method::GET, &format!("/instances/{instance}/logs?tail={tail}"), None).await?;
        ensure!(answer.status == 200, "{}: {}", answer.status, answer.body);
        // Text that happens to be JSON was read as that.
        Ok(answer.body.as_str().map_or_else(|| answer.body.to_string(), str::to_owned))
    }

    /// Follows an instance's log.
    ///
    /// # Errors
    /// When there is no answer, or another one.
    pub async fn follow(&self, instance: Uuid, tail: u32) -> Result<Sse> {
        let request =
            self.request(Method::GET, &format!("/instances/{instance}/logs?tail={tail}&follow=true"));
        let response = request.send().await?;
        ensure!(response.status() == 200, "{}", response.status());
        let kind = response.headers().get("content-type").and_then(|v| v.to_str().ok()).unwrap_or_default();
        ensure!(kind.starts_with("text/event-stream"), "it is {kind}");
        Ok(Sse::new(response))
    }
}
