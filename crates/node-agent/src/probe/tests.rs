//! Against servers of our own on real sockets, and commands in an engine in memory.

use std::{net::Ipv4Addr, sync::Arc};

use domain::{
    assignment::Assignment,
    deployment::InstanceSpec,
    id::{DeploymentId, InstanceId},
    instance::{Desired, FailureReason},
    probe::{HttpCheck, HttpHeader, ProbeRole, StatusRange},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Mutex,
    task::JoinHandle,
    time::sleep,
};
use uuid::Uuid;

use super::*;
use crate::runtime::{
    RuntimeErrorKind,
    fake::{Call, FakeRuntime, Fault as EngineFault},
};

const NOT_FOUND: &str = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";

/// What a server does after it has read a request.
#[derive(Clone, Copy)]
enum Answer {
    /// Says this, and closes.
    Says(&'static str),
    /// Says the first, and then the second without end.
    Endless(&'static str, &'static str),
    /// Says this without end, a byte each 100 ms.
    Drips(&'static str),
    /// Says nothing, and stays.
    Nothing,
}

struct Server {
    port: u16,
    /// What it was asked, each request whole.
    requests: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    async fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::<Mutex<Vec<String>>>::default();
        let seen = Arc::clone(&requests);
        let serve = async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let Some(request) = read_request(&mut stream).await else { continue };
                seen.lock().await.push(request);
                let _ = respond(&mut stream, answer).await;
            }
        };
        Self { port, requests, task: tokio::runtime::Handle::current().spawn(serve) }
    }

    async fn requests(&self) -> Vec<String> {
        self.requests.lock().await.clone()
    }
}

async fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        bytes.push(stream.read_u8().await.ok()?);
    }
    String::from_utf8(bytes).ok()
}

/// Ends when the client has gone, at the latest.
async fn respond(stream: &mut TcpStream, answer: Answer) -> std::io::Result<()> {
    match answer {
        Answer::Says(text) => stream.write_all(text.as_bytes()).await,
        Answer::Endless(first, text) => {
            stream.write_all(first.as_bytes()).await?;
            loop {
                stream.write_all(text.as_bytes()).await?;
            }
        }
        Answer::Drips(text) => {
            for byte in text.bytes().cycle() {
                stream.write_u8(byte).await?;
                sleep(Duration::from_millis(100)).await;
            }
            Ok(())
        }
        Answer::Nothing => stream.read_u8().await.map(drop),
    }
}

fn spec(kind: ProbeKind) -> ProbeSpec {
    ProbeSpec::new(ProbeRole::Liveness, kind)
}

fn local() -> Target {
    Target { container_id: "none".into(), address: Some(Ipv4Addr::LOCALHOST.into()) }
}

/// One probe of a server on this host.
async fn asked(kind: ProbeKind) -> ProbeResult {
    let probed = probe(&FakeRuntime::default(), &local(), &spec(kind), None, chrono::Utc::now).await;
    assert_eq!(probed.left_running, None);
    probed.result
}

async fn get(server: &Server) -> ProbeResult {
    asked(ProbeKind::Http(HttpCheck::of(server.port, "/"))).await
}

async fn get_with_body(server: &Server, text: &str) -> ProbeResult {
    let check = HttpCheck { body_contains: Some(text.into()), ..HttpCheck::of(server.port, "/") };
    asked(ProbeKind::Http(check)).await
}

/// A port that nobody listens at.
async fn closed_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    listener.local_addr().unwrap().port()
}

#[track_caller]
fn failed(result: &ProbeResult, part: &str) {
    assert_eq!(result.verdict, Verdict::Failed, "{result:?}");
    assert!(result.message.contains(part), "{result:?}");
}

#[tokio::test]
async fn an_answer_with_the_expected_status_passes_and_the_request_is_as_declared() {
    let server = Server::start(Answer::Says("HTTP/1.1 204 No Content\r\n\r\n")).await;
    let header = |name: &str, value: &str| HttpHeader { name: name.into(), value: value.into() };
    let check = HttpCheck {
        headers: vec![header("Host", "example.org"), header("X-Key", "1"), header("X-Key", "2")],
        expected_status: vec![StatusRange::one(204)],
        ..HttpCheck::of(server.port, "/healthz?full=1")
    };
    let result = asked(ProbeKind::Http(check)).await;
    assert_eq!((result.verdict, result.message.as_str()), (Verdict::Passed, "status 204"));
    let requests = server.requests().await;
    let lower = requests[0].to_lowercase();
    assert!(lower.starts_with("get /healthz?full=1 http/1.1\r\n"), "{lower}");
    for line in
        ["host: example.org", "x-key: 1", "x-key: 2", "connection: close", "user-agent: automator67-agent"]
    {
        assert_eq!(lower.matches(line).count(), 1, "{line} in {lower}");
    }
    assert_eq!(lower.matches("\r\nhost:").count(), 1);
}

#[tokio::test]
async fn a_wrong_status_fails_and_says_which() {
    let server = Server::start(Answer::Says(NOT_FOUND)).await;
    failed(&get(&server).await, "status 404, expected 200-399");
}

#[tokio::test]
async fn a_redirection_is_an_answer_and_is_not_followed() {
    let elsewhere = "HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n";
    let server = Server::start(Answer::Says(elsewhere)).await;
    assert_eq!(get(&server).await.verdict, Verdict::Passed);
    let strict =
        HttpCheck { expected_status: vec![StatusRange::one(200)], ..HttpCheck::of(server.port, "/") };
    failed(&asked(ProbeKind::Http(strict)).await, "status 302");
    assert_eq!(server.requests().await.len(), 2);
}

#[tokio::test]
async fn a_body_is_searched_across_its_pieces() {
    let chunks = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nall\r\n5\r\n well\r\n0\r\n\r\n";
    let server = Server::start(Answer::Says(chunks)).await;
    for text in ["all well", "l w", "well", "a"] {
        assert_eq!(get_with_body(&server, text).await.verdict, Verdict::Passed, "{text}");
    }
    failed(&get_with_body(&server, "all  well").await, "not in the body of 8 bytes");
}

#[tokio::test]
async fn an_endless_body_is_given_up_at_the_bound_and_needs_no_reading_where_nothing_is_looked_for() {
    let head = "HTTP/1.1 200 OK\r\n\r\nready ";
    let server = Server::start(Answer::Endless(head, "xxxxxxxxxxxxxxxx")).await;
    failed(&get_with_body(&server, "unready").await, "first 65536 bytes");
    assert_eq!(get_with_body(&server, "ready").await.verdict, Verdict::Passed);
    assert_eq!(get(&server).await.verdict, Verdict::Passed);
    // The server goes on to the next only when the connection before is closed.
    assert_eq!(get(&server).await.verdict, Verdict::Passed);
}

#[tokio::test]
async fn a_body_that_breaks_off_fails() {
    let server = Server::start(Answer::Says("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nall")).await;
    failed(&get_with_body(&server, "all well").await, "broke off");
}

#[tokio::test]
async fn what_is_not_http_fails() {
    let server = Server::start(Answer::Says("SSH-2.0-OpenSSH_9.2\r\n\r\n")).await;
    failed(&get(&server).await, "the answer is not HTTP");
    let server =
        Server::start(Answer::Endless("HTTP/1.1 200 OK\r\n", "X-Filler: xxxxxxxxxxxxxxxx\r\n")).await;
    failed(&get(&server).await, "the answer is not HTTP");
    let server = Server::start(Answer::Says("")).await;
    failed(&get(&server).await, "broke off");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_answer_in_time_fails() {
    let server = Server::start(Answer::Nothing).await;
    let mut slow = spec(ProbeKind::Http(HttpCheck::of(server.port, "/")));
    slow.timeout_seconds = 2;
    let probed = probe(&FakeRuntime::default(), &local(), &slow, None, chrono::Utc::now).await;
    failed(&probed.result, "within 2 s");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_drips_is_cut_off_in_its_head_and_in_its_body() {
    let server = Server::start(Answer::Drips("HTTP/1.1 200 OK and so on")).await;
    failed(&get(&server).await, "within 5 s");
    let server = Server::start(Answer::Drips("HTTP/1.1 200 OK\r\n\r\nx")).await;
    failed(&get_with_body(&server, "never").await, "within 5 s");
}

#[tokio::test]
async fn a_port_that_nobody_listens_at_fails_and_one_that_is_open_passes() {
    let server = Server::start(Answer::Nothing).await;
    assert_eq!(asked(ProbeKind::Tcp { port: server.port }).await.verdict, Verdict::Passed);
    let port = closed_port().await;
    failed(&asked(ProbeKind::Tcp { port }).await, "refused");
    failed(&asked(ProbeKind::Http(HttpCheck::of(port, "/"))).await, "refused");
}

#[tokio::test]
async fn what_cannot_be_asked_counts_neither_way() {
    let nowhere = Target { address: None, ..local() };
    for kind in [ProbeKind::Tcp { port: 1 }, ProbeKind::Http(HttpCheck::of(1, "/")), ProbeKind::Image] {
        let probed = probe(&FakeRuntime::default(), &nowhere, &spec(kind), None, chrono::Utc::now).await;
        assert_eq!(probed.result.verdict, Verdict::Unknown);
    }
}

#[tokio::test]
async fn a_result_tells_when_it_began_and_how_long_it_took() {
    let server = Server::start(Answer::Says(NOT_FOUND)).await;
    let before = chrono::Utc::now();
    let result = get(&server).await;
    let after = chrono::Utc::now();
    assert!(before <= result.at && result.at <= after);
    assert!(result.took <= (after - before).to_std().unwrap() + Duration::from_millis(50));
}

/// A container that runs, in an engine in memory.
async fn running() -> (FakeRuntime, Target) {
    let engine = FakeRuntime::default();
    engine.add_image("app:1");
    let assignment = Assignment {
        instance_id: InstanceId::from_uuid(Uuid::from_u128(1)),
        deployment_id: DeploymentId::from_uuid(Uuid::nil()),
        deployment_name: "web".into(),
        revision: 1,
        spec: InstanceSpec::of_image("app:1"),
        desired: Desired::Running,
        restart_generation: 0,
        registry_credential: None,
    };
    let container = engine.create(&assignment).await.unwrap();
    engine.start(&container.container_id).await.unwrap();
    (engine, Target { container_id: container.container_id, address: None })
}

async fn run(engine: &FakeRuntime, target: &Target, left_running: Option<String>) -> Probed {
    let check = spec(ProbeKind::Exec { command: vec!["check".into(), "it".into()] });
    probe(engine, target, &check, left_running, chrono::Utc::now).await
}

#[tokio::test]
async fn a_command_passes_with_exit_code_0_and_says_what_it_wrote() {
    let (engine, target) = running().await;
    engine.set_command(&["check", "it"], Some(0), "all well\n");
    let result = run(&engine, &target, None).await.result;
    assert_eq!((result.verdict, result.message.as_str()), (Verdict::Passed, "exit code 0: all well"));
    engine.set_command(&["check", "it"], Some(2), "");
    failed(&run(&engine, &target, None).await.result, "exit code 2");
}

#[tokio::test(start_paused = true)]
async fn a_command_that_hangs_fails_and_is_not_started_again_before_it_has_ended() {
    let (engine, target) = running().await;
    engine.set_command(&["check", "it"], None, "waiting");
    let first = run(&engine, &target, None).await;
    failed(&first.result, "does not end within 5 s: waiting");
    let second = run(&engine, &target, first.left_running.clone()).await;
    failed(&second.result, "has not ended yet");
    assert_eq!((&second.left_running, engine.count(Call::Exec, None)), (&first.left_running, 1));
    engine.end_commands();
    engine.set_command(&["check", "it"], Some(0), "");
    let third = run(&engine, &target, second.left_running).await;
    assert_eq!((third.result.verdict, third.left_running), (Verdict::Passed, None));
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_is_away_or_hangs_says_nothing_about_the_container() {
    let (engine, target) = running().await;
    let refused = RuntimeErrorKind::Refused(FailureReason::StartFailed);
    for (fault, verdict) in [
        (EngineFault::Error(RuntimeErrorKind::Unreachable), Verdict::Unknown),
        (EngineFault::Error(RuntimeErrorKind::NotFound), Verdict::Unknown),
        (EngineFault::Hang, Verdict::Unknown),
        (EngineFault::Error(RuntimeErrorKind::Refused(FailureReason::SpecRefused)), Verdict::Unknown),
        (EngineFault::Error(refused), Verdict::Failed),
    ] {
        engine.fail_next(Call::Exec, fault);
        assert_eq!(run(&engine, &target, None).await.result.verdict, verdict, "{fault:?}");
    }
    engine.fail_next(Call::ExecIsRunning, EngineFault::Hang);
    let probed = run(&engine, &target, Some("exec-1".into())).await;
    assert_eq!(probed.result.verdict, Verdict::Unknown);
    assert_eq!(probed.left_running.as_deref(), Some("exec-1"), "it may still run");
}

#[tokio::test]
async fn a_container_that_does_not_run_is_not_asked() {
    let (engine, target) = running().await;
    engine.exit(InstanceId::from_uuid(Uuid::from_u128(1)), 1);
    assert_eq!(run(&engine, &target, None).await.result.verdict, Verdict::Unknown);
}
