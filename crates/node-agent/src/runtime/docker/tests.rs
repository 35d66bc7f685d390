//! Against a small engine of our own: what is really sent, and what is made of
//! answers that a real engine rarely gives.

use std::{
    path::Path,
    sync::{Arc, Mutex},
};

use domain::{
    assignment::Assignment,
    deployment::InstanceSpec,
    id::{DeploymentId, FleetId, InstanceId, NodeId},
    instance::{Desired, FailureReason},
};
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixListener,
};
use uuid::Uuid;

use super::*;
use crate::runtime::{LABEL_FLEET, LABEL_NODE, RuntimeErrorKind};

/// What to answer to a method and a path without version.
type Answers = Arc<dyn Fn(&str, &str) -> (u16, Value) + Send + Sync>;

/// An engine that writes down what it is asked.
struct FakeEngine {
    requests: Arc<Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<()>,
}

impl FakeEngine {
    /// Serves one API version and refuses what is below `oldest`.
    fn start(socket: &Path, version: &str, oldest: &str, answers: Answers) -> Self {
        let listener = UnixListener::bind(socket).unwrap();
        let requests = Arc::<Mutex<Vec<String>>>::default();
        let (version, oldest) = (version.to_owned(), oldest.to_owned());
        let seen = Arc::clone(&requests);
        let serve = async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let Some(request) = read_request(&mut stream).await else { continue };
                seen.lock().unwrap().push(request.clone());
                let (status, body) = answer(&request, &version, &oldest, &answers);
                let body = if body.is_null() { String::new() } else { body.to_string() };
                let head = format!(
                    "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                    body.len()
                );
                let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
            }
        };
        Self { requests, task: tokio::runtime::Handle::current().spawn(serve) }
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    async fn stop(self, socket: &Path) {
        self.task.abort();
        let _ = self.task.await;
        std::fs::remove_file(socket).unwrap();
    }
}

/// Method and target of a request; its body is read and thrown away.
async fn read_request(stream: &mut tokio::net::UnixStream) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        let mut part = [0; 4096];
        let count = stream.read(&mut part).await.ok()?;
        bytes.extend_from_slice(&part[..count]);
        let text = String::from_utf8_lossy(&bytes).to_lowercase();
        if let Some(end) = text.find("\r\n\r\n") {
            let length =
                text.split("content-length: ").nth(1).and_then(|t| t.lines().next()?.trim().parse().ok());
            if bytes.len() >= end + 4 + length.unwrap_or(0) {
                break;
            }
        }
        if count == 0 {
            return None;
        }
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let mut words = text.lines().next()?.split(' ');
    Some(format!("{} {}", words.next()?, words.next()?))
}

fn minor(version: &str) -> u32 {
    version.rsplit('.').next().unwrap().parse().unwrap()
}

fn answer(request: &str, version: &str, oldest: &str, answers: &Answers) -> (u16, Value) {
    let (method, target) = request.split_once(' ').unwrap();
    let path = target.split('?').next().unwrap();
    if path == "/version" {
        return (200, json!({ "Version": "99.0", "ApiVersion": version, "MinAPIVersion": oldest }));
    }
    let (asked, path) = match path.strip_prefix("/v").and_then(|rest| rest.split_once('/')) {
        Some((asked, path)) => (asked, format!("/{path}")),
        None => return (400, json!({ "message": format!("no version in {path}") })),
    };
    if minor(asked) < minor(oldest) {
        return (
            400,
            json!({ "message": format!("client version {asked} is too old. Minimum is {oldest}") }),
        );
    }
    if minor(asked) > minor(version) {
        return (
            400,
            json!({ "message": format!("client version {asked} is too new. Maximum is {version}") }),
        );
    }
    answers(method, &path)
}

fn ids() -> (FleetId, NodeId) {
    (FleetId::from_uuid(Uuid::from_u128(1)), NodeId::from_uuid(Uuid::from_u128(2)))
}

fn instance() -> InstanceId {
    InstanceId::from_uuid(Uuid::from_u128(3))
}

fn runtime(socket: &Path) -> DockerRuntime {
    let (fleet, node) = ids();
    DockerRuntime::new(&format!("unix://{}", socket.display()), fleet, node).unwrap()
}

fn assignment() -> Assignment {
    Assignment {
        instance_id: instance(),
        deployment_id: DeploymentId::from_uuid(Uuid::nil()),
        deployment_name: "web".into(),
        revision: 1,
        spec: InstanceSpec::of_image("app:1"),
        desired: Desired::Running,
        restart_generation: 0,
    }
}

/// A container as inspected; `None` gives it no labels.
fn inspected(owner: Option<NodeId>) -> Value {
    let labels = owner.map(|node| {
        json!({
            LABEL_FLEET: ids().0.to_string(), LABEL_NODE: node.to_string(), LABEL_INSTANCE: instance().to_string(),
        })
    });
    json!({
        "Id": "0a1b", "Name": format!("/{}", container_name(instance())),
        "State": { "Status": "exited" }, "Config": { "Labels": labels },
    })
}

fn plain() -> Answers {
    Arc::new(|method, path| match (method, path) {
        (_, "/_ping") => (200, Value::Null),
        (_, "/info") => (200, json!({ "ServerVersion": "99.0", "SystemTime": "2026-01-02T03:04:05Z" })),
        (_, "/containers/json") => (200, json!([{ "Id": "0a1b" }])),
        (_, "/containers/0a1b/json") => (200, inspected(Some(ids().1))),
        ("POST", "/containers/create") => (201, json!({ "Id": "0a1b", "Warnings": [] })),
        ("POST" | "DELETE", _) => (204, Value::Null),
        _ => (404, json!({ "message": "no such thing" })),
    })
}

async fn everything(runtime: &DockerRuntime) {
    runtime.ping().await.unwrap();
    assert_eq!(runtime.info().await.unwrap().version, "99.0");
    assert_eq!(runtime.list().await.unwrap().len(), 1);
    assert!(runtime.inspect(instance()).await.unwrap().is_some());
    assert_eq!(runtime.image_present("app:1").await.unwrap(), None);
    runtime.create(&assignment()).await.unwrap();
    runtime.start("0a1b").await.unwrap();
    runtime.stop("0a1b", Duration::from_secs(3)).await.unwrap();
    runtime.remove("0a1b").await.unwrap();
    let mut events = runtime.events(None);
    assert_eq!(events.next().await.unwrap().unwrap(), EngineEvent::Subscribed);
    let _ = events.next().await;
    let _ = runtime.logs("0a1b", &LogsQuery::default()).next().await;
    let _ = runtime.pull("app:1").next().await;
    let _ = runtime.usage("0a1b").await;
}

#[tokio::test]
async fn every_call_carries_the_version_that_was_agreed() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("engine.sock");
    let engine = FakeEngine::start(&socket, "1.41", "1.12", plain());
    everything(&runtime(&socket)).await;
    let requests = engine.requests();
    let (first, rest) = requests.split_first().unwrap();
    assert_eq!(first, "GET /version");
    assert!(rest.len() >= 15, "{rest:?}");
    for request in rest {
        assert!(request.contains(" /v1.41/"), "{request}");
    }
    let sent = |part: &str| assert!(rest.iter().any(|r| r.contains(part)), "{part} not in {rest:?}");
    sent("/stop?t=3");
    sent("/events?since=1767323045.000000000&");
    sent(&format!("/containers/create?name={}", container_name(instance())));
    engine.stop(&socket).await;
}

#[tokio::test]
async fn an_engine_that_refuses_versions_below_1_44_is_spoken_to_in_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("engine.sock");
    let engine = FakeEngine::start(&socket, "1.52", "1.44", plain());
    let runtime = runtime(&socket);
    everything(&runtime).await;
    assert_eq!(runtime.info().await.unwrap().api_version, "1.52");
    assert!(engine.requests().iter().skip(1).all(|r| r.contains(" /v1.52/")), "{:?}", engine.requests());
    engine.stop(&socket).await;
}

#[tokio::test]
async fn an_engine_that_came_back_as_another_version_is_asked_again() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("engine.sock");
    let runtime = runtime(&socket);
    assert_eq!(runtime.ping().await.unwrap_err().kind, RuntimeErrorKind::Unreachable);

    let engine = FakeEngine::start(&socket, "1.52", "1.44", plain());
    assert_eq!(runtime.info().await.unwrap().api_version, "1.52");
    engine.stop(&socket).await;
    assert_eq!(runtime.ping().await.unwrap_err().kind, RuntimeErrorKind::Unreachable);

    let engine = FakeEngine::start(&socket, "1.41", "1.12", plain());
    assert_eq!(runtime.info().await.unwrap().api_version, "1.41");
    engine.stop(&socket).await;
}

#[tokio::test]
async fn an_engine_that_was_replaced_unnoticed_is_out_of_reach_once_and_then_asked_again() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("engine.sock");
    let runtime = runtime(&socket);
    let engine = FakeEngine::start(&socket, "1.52", "1.44", plain());
    runtime.ping().await.unwrap();
    engine.stop(&socket).await;
    let engine = FakeEngine::start(&socket, "1.41", "1.12", plain());
    assert_eq!(runtime.list().await.unwrap_err().kind, RuntimeErrorKind::Unreachable);
    assert_eq!(runtime.list().await.unwrap().len(), 1);
    engine.stop(&socket).await;
}

/// Makes a container whose name is taken, by one that `holder` describes.
async fn create_over(holder: Value) -> Result<Container, RuntimeError> {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("engine.sock");
    let answers: Answers = Arc::new(move |method, path| match (method, path) {
        ("POST", "/containers/create") => (409, json!({ "message": "Conflict. The name is in use" })),
        ("GET", _) => (200, holder.clone()),
        _ => (500, json!({ "message": "not asked for" })),
    });
    let engine = FakeEngine::start(&socket, "1.41", "1.12", answers);
    let made = runtime(&socket).create(&assignment()).await;
    engine.stop(&socket).await;
    made
}

#[tokio::test]
async fn a_name_that_this_very_instance_holds_is_adopted_and_any_other_holder_is_left_alone() {
    assert_eq!(create_over(inspected(Some(ids().1))).await.unwrap().container_id, "0a1b");
    let taken = RuntimeErrorKind::Refused(FailureReason::NameTaken);
    assert_eq!(create_over(inspected(None)).await.unwrap_err().kind, taken);
    let neighbour = NodeId::from_uuid(Uuid::from_u128(9));
    assert_eq!(create_over(inspected(Some(neighbour))).await.unwrap_err().kind, taken);
}

#[tokio::test]
async fn a_refused_create_says_why() {
    let dir = tempfile::tempdir().unwrap();
    for (status, message, reason) in [
        (404, "No such image: app:1", FailureReason::ImageNotFound),
        (400, "invalid env", FailureReason::SpecRefused),
        (500, "no space left on device", FailureReason::StartFailed),
    ] {
        let socket = dir.path().join(format!("{status}.sock"));
        let answers: Answers = Arc::new(move |_, _| (status, json!({ "message": message })));
        let engine = FakeEngine::start(&socket, "1.41", "1.12", answers);
        let error = runtime(&socket).create(&assignment()).await.unwrap_err();
        assert_eq!(error, RuntimeError::refused(reason, message));
        engine.stop(&socket).await;
    }
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_or_a_broken_list_is_no_answer() {
    let dir = tempfile::tempdir().unwrap();
    for (name, status, body) in
        [("a", 500, json!({ "message": "broken" })), ("b", 200, json!({ "not": "a list" }))]
    {
        let socket = dir.path().join(name);
        let answers: Answers = Arc::new(move |_, _| (status, body.clone()));
        let engine = FakeEngine::start(&socket, "1.41", "1.12", answers);
        assert_eq!(runtime(&socket).list().await.unwrap_err().kind, RuntimeErrorKind::Unreachable);
        engine.stop(&socket).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_hangs_times_out() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("engine.sock");
    let _listener = UnixListener::bind(&socket).unwrap();
    assert_eq!(runtime(&socket).ping().await.unwrap_err().kind, RuntimeErrorKind::Timeout);
}
