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
    spec::policy::Policy,
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

mod keeping;

/// An engine that writes down what it is asked.
struct FakeEngine {
    requests: Arc<Mutex<Vec<(String, String)>>>,
    task: tokio::task::JoinHandle<()>,
}

impl FakeEngine {
    /// Serves one API version and refuses what is below `oldest`.
    fn start(socket: &Path, version: &str, oldest: &str, answers: Answers) -> Self {
        let listener = UnixListener::bind(socket).unwrap();
        let requests = Arc::<Mutex<Vec<(String, String)>>>::default();
        let (version, oldest) = (version.to_owned(), oldest.to_owned());
        let seen = Arc::clone(&requests);
        let serve = async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let Some((request, sent)) = read_request(&mut stream).await else { continue };
                seen.lock().unwrap().push((request.clone(), sent));
                let (status, body) = answer(&request, &version, &oldest, &answers);
                let body = if body.is_null() { String::new() } else { body.to_string() };
                let head = format!(
                    "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                    body.len()
                );
                let answer = if status == 101 {
                    upgraded(body.trim_matches('"'))
                } else {
                    format!("{head}{body}").into_bytes()
                };
                let _ = stream.write_all(&answer).await;
            }
        };
        Self { requests, task: tokio::runtime::Handle::current().spawn(serve) }
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().iter().map(|(request, _)| request.clone()).collect()
    }

    /// What was sent with requests whose target has this part.
    fn sent(&self, part: &str) -> Vec<Value> {
        let requests = self.requests.lock().unwrap();
        let fitting = requests.iter().filter(|(request, _)| request.contains(part));
        fitting.filter_map(|(_, body)| serde_json::from_str(body).ok()).collect()
    }

    async fn stop(self, socket: &Path) {
        self.task.abort();
        let _ = self.task.await;
        std::fs::remove_file(socket).unwrap();
    }
}

/// What a command writes, as the engine hands it out.
fn upgraded(output: &str) -> Vec<u8> {
    let head = "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n";
    let length = u32::try_from(output.len()).unwrap().to_be_bytes();
    [head.as_bytes(), &[1, 0, 0, 0], &length, output.as_bytes()].concat()
}

/// Method and target of a request, and its body.
async fn read_request(stream: &mut tokio::net::UnixStream) -> Option<(String, String)> {
    let mut bytes = Vec::new();
    let mut part = vec![0; 65_536];
    let head_end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        let count = stream.read(&mut part).await.ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&part[..count]);
    };
    let head = String::from_utf8_lossy(&bytes[..head_end]).into_owned();
    let lower = head.to_lowercase();
    let length: Option<usize> =
        lower.split("content-length: ").nth(1).and_then(|t| t.lines().next()?.trim().parse().ok());
    let chunked = lower.contains("transfer-encoding: chunked");
    loop {
        let whole = match length {
            Some(length) => bytes.len() >= head_end + length,
            None => !chunked || bytes.ends_with(b"0\r\n\r\n"),
        };
        if whole {
            break;
        }
        let count = stream.read(&mut part).await.ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&part[..count]);
    }
    let mut words = head.lines().next()?.split(' ');
    let body = String::from_utf8_lossy(&bytes[head_end..]).into_owned();
    Some((format!("{} {}", words.next()?, words.next()?), body))
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

/// Without a storage limit, so that nothing has to be found out about it.
fn assignment() -> Assignment {
    let mut spec = InstanceSpec::of_image("app:1");
    spec.limits.storage_bytes = None;
    Assignment {
        instance_id: instance(),
        deployment_id: DeploymentId::from_uuid(Uuid::nil()),
        deployment_name: "web".into(),
        revision: 1,
        spec,
        desired: Desired::Running,
        restart_generation: 0,
        registry_credential: None,
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
        ("POST", "/containers/0a1b/exec") => (201, json!({ "Id": "e1" })),
        ("POST", "/exec/e1/start") => (101, json!("all well")),
        ("GET", "/exec/e1/json") => (200, json!({ "Running": false, "ExitCode": 3 })),
        ("POST" | "DELETE", _) => (204, Value::Null),
        _ => (404, json!({ "message": "no such thing" })),
    })
}

async fn everything(runtime: &DockerRuntime) {
    runtime.ping().await.unwrap();
    assert_eq!(runtime.info().await.unwrap().version, "99.0");
    assert_eq!(runtime.list().await.unwrap().len(), 1);
    assert!(runtime.inspect(instance()).await.unwrap().is_some());
    assert_eq!(runtime.image("app:1").await.unwrap(), None);
    runtime.create(&assignment()).await.unwrap();
    runtime.start("0a1b").await.unwrap();
    runtime.stop("0a1b", Duration::from_secs(3)).await.unwrap();
    runtime.remove("0a1b").await.unwrap();
    let mut events = runtime.events(None);
    assert_eq!(events.next().await.unwrap().unwrap(), EngineEvent::Subscribed);
    let _ = events.next().await;
    let _ = runtime.logs("0a1b", &LogsQuery::default()).next().await;
    let _ = runtime.pull("app:1", None).next().await;
    let _ = runtime.usage("0a1b").await;
    runtime.exec("0a1b", &["true".into()], SOON).await.unwrap();
    assert!(!runtime.exec_is_running("e1").await.unwrap());
}

const SOON: Duration = Duration::from_secs(20);

/// Runs a command in an engine that answers like that to being asked to make one, to
/// start it, and how it is.
async fn exec(
    create: (u16, Value),
    start: (u16, Value),
    look: (u16, Value),
    deadline: Duration,
) -> Result<Executed, RuntimeError> {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("engine.sock");
    let answers: Answers = Arc::new(move |method, path| match (method, path) {
        ("POST", "/containers/0a1b/exec") => create.clone(),
        ("POST", "/exec/e1/start") => start.clone(),
        _ => look.clone(),
    });
    let engine = FakeEngine::start(&socket, "1.41", "1.12", answers);
    let executed = runtime(&socket).exec("0a1b", &["check".into()], deadline).await;
    engine.stop(&socket).await;
    executed
}

#[tokio::test]
async fn a_command_is_read_to_its_end_and_its_output_kept_up_to_a_bound() {
    let made = || (201, json!({ "Id": "e1" }));
    let ended = || (200, json!({ "Running": false, "ExitCode": 3 }));
    let executed = exec(made(), (101, json!("all well")), ended(), SOON).await.unwrap();
    assert_eq!((executed.exit_code, executed.output.as_ref()), (Some(3), b"all well".as_slice()));
    let long = "x".repeat(100_000);
    let executed = exec(made(), (101, json!(long)), ended(), SOON).await.unwrap();
    assert_eq!((executed.exit_code, executed.output.len()), (Some(3), crate::runtime::EXEC_OUTPUT_MAX));
    let endless = "x".repeat(2_000_000);
    assert_eq!(exec(made(), (101, json!(endless)), ended(), SOON).await.unwrap().exit_code, None);
}

#[tokio::test]
async fn a_command_that_does_not_end_in_time_is_left_behind_and_named() {
    let running = (200, json!({ "Running": true, "ExitCode": null }));
    let made = (201, json!({ "Id": "e1" }));
    let executed = exec(made, (101, json!("")), running, Duration::from_millis(300)).await.unwrap();
    assert_eq!((executed.exec_id.as_str(), executed.exit_code), ("e1", None));
}

#[tokio::test]
async fn a_container_that_does_not_run_is_told_from_a_command_that_cannot() {
    let says = |status: u16| (status, json!({ "message": "so it is" }));
    let made = || (201, json!({ "Id": "e1" }));
    for status in [404, 409] {
        let error = exec(says(status), says(500), says(500), SOON).await.unwrap_err();
        assert_eq!(error.kind, RuntimeErrorKind::NotFound, "{status}");
    }
    let error = exec(made(), says(400), says(500), SOON).await.unwrap_err();
    assert_eq!(error.kind, RuntimeErrorKind::Refused(FailureReason::StartFailed));
}

#[tokio::test]
async fn a_node_that_runs_no_commands_does_not_ask_the_engine_to() {
    let (fleet, node) = ids();
    let policy = domain::spec::policy::Policy { exec: false, ..Default::default() };
    let house = HouseRules { policy, ..HouseRules::default() };
    let runtime = DockerRuntime::with_rules("unix:///nowhere.sock", fleet, node, house).unwrap();
    let error = runtime.exec("0a1b", &["true".into()], SOON).await.unwrap_err();
    assert_eq!(error.kind, RuntimeErrorKind::Refused(FailureReason::SpecRefused));
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
    assert!(rest.len() >= 19, "{rest:?}");
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

/// A line of the list about a container that runs, with one place in a network.
fn line(id: &str, state: &str, endpoint: &str) -> Value {
    json!({
        "Id": id, "Names": [format!("/{id}")], "State": state, "Status": "Up 2 minutes",
        "NetworkSettings": { "Networks": { "bridge": { "EndpointID": endpoint } } },
    })
}

/// The same as inspected, of an instance that is told from the others by `n`.
fn details(line: &Value, n: u128) -> Value {
    let mut details = inspected(Some(ids().1));
    details["Id"] = line["Id"].clone();
    details["Name"] = line["Names"][0].clone();
    details["State"] = json!({ "Status": line["State"], "StartedAt": "2026-01-02T03:04:05Z", "Pid": 7 });
    details["Config"]["Labels"][LABEL_INSTANCE] = json!(Uuid::from_u128(n).to_string());
    details["NetworkSettings"] = line["NetworkSettings"].clone();
    details
}

/// Something that happens to what an engine lists.
type Change<'a> = (&'static str, &'a dyn Fn(&mut Vec<Value>));

#[tokio::test]
async fn a_list_that_shows_no_change_inspects_nothing_and_any_other_what_may_have_changed() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("engine.sock");
    let lines = Arc::new(Mutex::new(vec![line("a", "running", "e1"), line("b", "running", "e2")]));
    let told = Arc::clone(&lines);
    let answers: Answers = Arc::new(move |method, path| {
        let lines = told.lock().unwrap();
        if path == "/containers/json" {
            return (200, Value::Array(lines.clone()));
        }
        let found = (1_u128..)
            .zip(lines.iter())
            .find(|(_, line)| path == format!("/containers/{}/json", line["Id"].as_str().unwrap()));
        found.map_or_else(|| plain()(method, path), |(n, line)| (200, details(line, n)))
    });
    let engine = FakeEngine::start(&socket, "1.52", "1.12", answers);
    let runtime = runtime(&socket);
    let inspections = || {
        let asked = engine.requests();
        asked.iter().filter(|r| r.contains("/containers/") && !r.contains("/containers/json")).count()
    };
    let list = async |change: &dyn Fn(&mut Vec<Value>)| {
        change(&mut lines.lock().unwrap());
        let before = inspections();
        let found = runtime.list().await.unwrap();
        (found, inspections() - before)
    };
    let (first, asked) = list(&|_| ()).await;
    assert_eq!((first.len(), asked), (2, 2));
    let (again, asked) = list(&|lines| lines[0]["Status"] = json!("Up 3 minutes")).await;
    assert_eq!((again, asked), (first, 0));
    let changes: [Change<'_>; 5] = [
        ("it was restarted", &|lines| lines[0] = line("a", "running", "e3")),
        ("it was frozen", &|lines| lines[0] = line("a", "paused", "e3")),
        ("it goes on", &|lines| lines[0] = line("a", "running", "e3")),
        ("it was renamed", &|lines| lines[0]["Names"] = json!(["/other"])),
        ("it joined a network", &|lines| {
            lines[0]["NetworkSettings"]["Networks"]["more"] = json!({ "EndpointID": "e4" });
        }),
    ];
    for (what, change) in changes {
        assert_eq!(list(change).await.1, 1, "{what}");
        assert_eq!(list(&|_| ()).await.1, 0, "{what}, and nothing more");
    }
    // Of these the list does not say enough: they are looked at each time.
    let unclear: [Change<'_>; 3] = [
        ("it has ended", &|lines| lines[0] = line("a", "exited", "")),
        ("an engine without endpoints", &|lines| lines[0] = line("a", "running", "")),
        ("no networks at all", &|lines| lines[0]["NetworkSettings"] = json!({})),
    ];
    for (what, change) in unclear {
        assert_eq!((list(change).await.1, list(&|_| ()).await.1), (1, 1), "{what}");
    }
    let (rest, _) = list(&|lines| drop(lines.pop())).await;
    assert_eq!(rest.len(), 1, "one that has gone is not remembered");
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
async fn what_the_node_itself_refuses_never_reaches_the_engine() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("engine.sock");
    let engine = FakeEngine::start(&socket, "1.41", "1.12", plain());
    let (fleet, node) = ids();
    let policy = Policy { registries: vec!["ghcr.io".into()], ..Policy::default() };
    let house = HouseRules { policy, port_range: None };
    let strict =
        DockerRuntime::with_rules(&format!("unix://{}", socket.display()), fleet, node, house).unwrap();
    let mut privileged = assignment();
    privileged.spec.security.privileged = true;
    let refused = RuntimeErrorKind::Refused(FailureReason::SpecRefused);
    for (runtime, assignment, setting) in [
        (runtime(&socket), privileged, "allow_privileged"),
        (strict.clone(), assignment(), "allowed_registries"),
    ] {
        let error = runtime.create(&assignment).await.unwrap_err();
        assert_eq!(error.kind, refused);
        assert!(error.message.contains(setting), "{error}");
    }
    assert_eq!(strict.pull("app:1", None).next().await.unwrap().unwrap_err().kind, refused);
    assert_eq!(engine.requests(), [""; 0]);
    engine.stop(&socket).await;
}

#[tokio::test]
async fn networks_that_the_engine_did_not_take_at_first_are_joined_before_the_start_and_only_those() {
    let joins = json!([{ "name": "back", "aliases": ["db"] }, { "name": "side", "aliases": [] }]);
    let mut holder = inspected(Some(ids().1));
    holder["Config"]["Labels"][create::LABEL_NETWORKS] = joins.to_string().into();
    holder["NetworkSettings"] = json!({ "Networks": { "front": {}, "side": {} } });
    let answers: Answers = Arc::new(move |method, path| match (method, path) {
        ("GET", "/networks/back") => (200, json!({ "Name": "back", "Id": "n1" })),
        ("GET", _) => (200, holder.clone()),
        ("POST", "/networks/back/connect") => (200, Value::Null),
        ("POST", "/containers/0a1b/start") => (204, Value::Null),
        _ => (500, json!({ "message": "not asked for" })),
    });
    let dir = tempfile::tempdir().unwrap();
    // Also by an engine that was upgraded since.
    for version in ["1.41", "1.44"] {
        let socket = dir.path().join(version);
        let engine = FakeEngine::start(&socket, version, "1.12", Arc::clone(&answers));
        runtime(&socket).start("0a1b").await.unwrap();
        let requests = engine.requests();
        let posts: Vec<_> = requests.iter().filter_map(|r| r.strip_prefix("POST ")).collect();
        let start = format!("/v{version}/containers/0a1b/start");
        let connect = format!("/v{version}/networks/back/connect");
        assert_eq!(posts, [connect, start]);
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
