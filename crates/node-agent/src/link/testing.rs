//! A controller for tests: a real server with real TLS on a real port, whose
//! sessions and streams the test holds in its hands.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use chrono::{TimeDelta, Utc};
use domain::{
    Timestamp,
    assignment::AssignmentSet,
    id::{FleetId, InstanceId},
    plan::Container,
};
use futures_util::{
    StreamExt as _,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use protocol::{
    CONTROLLER_DNS_NAME, convert,
    proto::{
        self, AgentFrame, ControllerFrame, EnrolRequest, EnrolResponse, Heartbeat, Hello,
        PushDossiersRequest, PushDossiersResponse, PushMetricsRequest, PushMetricsResponse, RenewRequest,
        RenewResponse, Settings, StreamControl, StreamFrame, Welcome,
        agent_frame::Frame as Up,
        agent_service_server::{AgentService, AgentServiceServer},
        controller_frame::Frame as Down,
        enrolment_service_server::{EnrolmentService, EnrolmentServiceServer},
    },
};
use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle, time::timeout};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{
    Code, Request, Response, Status, Streaming,
    transport::{Certificate, Identity as TlsIdentity, Server, ServerTlsConfig},
};
use uuid::Uuid;

use crate::{
    identity::{Identity, testing::TestCa},
    runtime::{
        EngineEvent, EngineInfo, Executed, ImageInfo, LogChunk, LogsQuery, PullSign, RegistryLogin, Runtime,
        RuntimeError, RuntimeErrorKind, Usage,
    },
};

/// The longest that a test waits for anything.
pub(super) const DEADLINE: Duration = Duration::from_secs(20);

/// Waits for something that must come.
pub(super) async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(DEADLINE, what).await.expect("did not come in time")
}

/// What the controller does when it is asked.
#[derive(Default)]
pub(super) struct Behaviour {
    pub(super) refuse_sessions: Option<Code>,
    pub(super) refuse_enrolment: Option<Code>,
    pub(super) refuse_metrics: Option<Code>,
    pub(super) refuse_dossiers: Option<Code>,
    pub(super) refuse_secrets: Option<Code>,
    /// Refuses a call with the dossier of this attempt, for good.
    pub(super) refuse_attempt: Option<u32>,
    /// Signs with another CA than the fleet's.
    pub(super) foreign_signer: bool,
}

pub(super) struct Shared {
    pub(super) ca: TestCa,
    pub(super) behaviour: Mutex<Behaviour>,
    /// Public keys that asked to be enrolled, in order.
    pub(super) enrolled: Mutex<Vec<Vec<u8>>>,
    pub(super) pushed: Mutex<Vec<usize>>,
    pub(super) pushed_hosts: Mutex<Vec<proto::HostSample>>,
    pub(super) dossiers: Mutex<Vec<proto::Dossier>>,
    /// What each instance is given; nobody else is this node's.
    pub(super) secrets: Mutex<std::collections::BTreeMap<String, Vec<proto::secret_part::Part>>>,
    /// Life of the certificates that are signed.
    pub(super) life: Mutex<TimeDelta>,
    sessions: mpsc::Sender<TestSession>,
    streams: mpsc::Sender<TestStream>,
}

pub(super) struct TestController {
    pub(super) address: SocketAddr,
    pub(super) shared: Arc<Shared>,
    pub(super) sessions: mpsc::Receiver<TestSession>,
    pub(super) streams: mpsc::Receiver<TestStream>,
    server: JoinHandle<()>,
}

/// A session, from the controller's side.
pub(super) struct TestSession {
    pub(super) hello: Hello,
    pub(super) up: Streaming<AgentFrame>,
    pub(super) down: mpsc::Sender<Result<ControllerFrame, Status>>,
}

/// A data stream, from the controller's side.
pub(super) struct TestStream {
    pub(super) stream_id: String,
    pub(super) up: Streaming<StreamFrame>,
    /// Dropping it ends the call.
    pub(super) down: mpsc::Sender<Result<StreamControl, Status>>,
}

impl TestController {
    pub(super) async fn start() -> Self {
        Self::start_with(TestCa::new()).await
    }

    async fn start_with(ca: TestCa) -> Self {
        let (sessions_tx, sessions) = mpsc::channel(8);
        let (streams_tx, streams) = mpsc::channel(8);
        let (chain, key) = ca.server_chain(CONTROLLER_DNS_NAME);
        let pem = |der: &[u8]| crate::identity::Certificate::from_der(der.to_vec()).unwrap().to_pem();
        let chain: String = chain.iter().map(|der| pem(der)).collect();
        let key = key_pem(&key);
        let tls = ServerTlsConfig::new()
            .identity(TlsIdentity::from_pem(chain, key))
            .client_ca_root(Certificate::from_pem(ca.certificate().to_pem()))
            .client_auth_optional(true);
        let shared = Arc::new(Shared {
            ca,
            behaviour: Mutex::default(),
            enrolled: Mutex::default(),
            pushed: Mutex::default(),
            pushed_hosts: Mutex::default(),
            dossiers: Mutex::default(),
            secrets: Mutex::default(),
            life: Mutex::new(TimeDelta::days(90)),
            sessions: sessions_tx,
            streams: streams_tx,
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Server::builder()
            .tls_config(tls)
            .unwrap()
            .add_service(AgentServiceServer::new(Service(Arc::clone(&shared))))
            .add_service(EnrolmentServiceServer::new(Service(Arc::clone(&shared))));
        let serve = async move {
            router.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
        };
        let server = tokio::runtime::Handle::current().spawn(serve);
        Self { address, shared, sessions, streams, server }
    }

    pub(super) fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    pub(super) fn behave(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.shared.behaviour.lock().unwrap());
    }

    pub(super) async fn session(&mut self) -> TestSession {
        soon(self.sessions.recv()).await.unwrap()
    }

    /// The next session, welcomed and with an empty share.
    pub(super) async fn welcomed(&mut self, acknowledged_seq: u64) -> TestSession {
        let session = self.session().await;
        session.welcome(acknowledged_seq).await;
        session.complete(&AssignmentSet::default()).await;
        session
    }

    pub(super) async fn stream(&mut self) -> TestStream {
        soon(self.streams.recv()).await.unwrap()
    }
}

impl Drop for TestController {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn key_pem(key: &rustls::pki_types::PrivateKeyDer<'_>) -> String {
    rcgen::KeyPair::try_from(key).unwrap().serialize_pem()
}

impl TestSession {
    pub(super) async fn send(&self, frame: Down) {
        self.down.send(Ok(ControllerFrame { frame: Some(frame) })).await.unwrap();
    }

    pub(super) async fn welcome(&self, acknowledged_seq: u64) {
        let period = |millis| Some(convert::duration_message(Duration::from_millis(millis)));
        let settings = Settings { heartbeat_period: period(100), metrics_period: period(5_000) };
        self.send(Down::Welcome(Welcome { session_epoch: 1, settings: Some(settings), acknowledged_seq }))
            .await;
    }

    pub(super) async fn complete(&self, set: &AssignmentSet) {
        self.send(Down::CompleteAssignments(set.into())).await;
    }

    /// The next frame; `None` when the agent has gone.
    pub(super) async fn next(&mut self) -> Option<Up> {
        soon(self.up.message()).await.ok().flatten().and_then(|frame| frame.frame)
    }

    /// The next frame that `pick` takes; others are passed over.
    pub(super) async fn next_that<T>(&mut self, pick: impl Fn(Up) -> Option<T>) -> T {
        let search = async {
            loop {
                let frame = self.next().await.expect("the agent has gone");
                if let Some(found) = pick(frame) {
                    return found;
                }
            }
        };
        soon(search).await
    }

    pub(super) async fn heartbeat(&mut self) -> Heartbeat {
        self.next_that(|frame| match frame {
            Up::Heartbeat(beat) => Some(beat),
            _ => None,
        })
        .await
    }

    /// The numbers of the next reports, until `last` is among them.
    pub(super) async fn reports_upto(&mut self, last: u64) -> Vec<u64> {
        let mut numbers = Vec::new();
        while numbers.last().is_none_or(|n| *n < last) {
            let batch = self
                .next_that(|frame| match frame {
                    Up::Reports(batch) => Some(batch),
                    _ => None,
                })
                .await;
            assert!(batch.reports.len() <= protocol::REPORT_BATCH_MAX);
            numbers.extend(batch.reports.iter().map(|report| report.seq));
        }
        numbers
    }

    /// Whether the agent ends the session.
    pub(super) async fn ends(mut self) {
        let drain = async { while self.up.message().await.ok().flatten().is_some() {} };
        soon(drain).await;
    }
}

struct Service(Arc<Shared>);

impl Service {
    fn refuses(&self, of: impl Fn(&Behaviour) -> Option<Code>) -> Result<(), Status> {
        match of(&self.0.behaviour.lock().unwrap()) {
            Some(code) => Err(Status::new(code, "because the test says so")),
            None => Ok(()),
        }
    }

    fn sign(&self, csr: &[u8]) -> Vec<u8> {
        let now = Utc::now();
        let life = *self.0.life.lock().unwrap();
        let foreign = TestCa::new();
        let ca = if self.0.behaviour.lock().unwrap().foreign_signer { &foreign } else { &self.0.ca };
        ca.sign_csr(csr, self.0.ca.node_id(), now - TimeDelta::minutes(1), now + life)
    }
}

fn authenticated<T>(request: &Request<T>) -> Result<(), Status> {
    match request.peer_certs() {
        Some(certificates) if !certificates.is_empty() => Ok(()),
        _ => Err(Status::unauthenticated("no certificate")),
    }
}

#[tonic::async_trait]
impl EnrolmentService for Service {
    async fn enrol(&self, request: Request<EnrolRequest>) -> Result<Response<EnrolResponse>, Status> {
        let request = request.into_inner();
        self.0.enrolled.lock().unwrap().push(public_key(&request.csr_der));
        self.refuses(|b| b.refuse_enrolment)?;
        if request.token != "sesame" {
            return Err(Status::permission_denied("no such token"));
        }
        Ok(Response::new(EnrolResponse {
            node_id: self.0.ca.node_id().to_string(),
            fleet_id: FleetId::from_uuid(Uuid::nil()).to_string(),
            node_name: request.node_name,
            certificate_der: self.sign(&request.csr_der),
            ca_certificate_der: self.0.ca.certificate().der().to_vec(),
            not_after: None,
        }))
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<RenewResponse>, Status> {
        let request = request.into_inner();
        self.refuses(|b| b.refuse_enrolment)?;
        let old = crate::identity::Certificate::from_der(request.certificate_der).unwrap();
        let signed = ring::signature::UnparsedPublicKey::new(
            &ring::signature::ECDSA_P256_SHA256_ASN1,
            old.public_key_bits(),
        )
        .verify(&request.csr_der, &request.signature);
        if signed.is_err() || old.node_id() != Some(self.0.ca.node_id()) {
            return Err(Status::permission_denied("not this node"));
        }
        Ok(Response::new(RenewResponse { certificate_der: self.sign(&request.csr_der), not_after: None }))
    }
}

fn public_key(csr: &[u8]) -> Vec<u8> {
    use x509_parser::prelude::FromDer as _;
    let (_, csr) = x509_parser::certification_request::X509CertificationRequest::from_der(csr).unwrap();
    csr.certification_request_info.subject_pki.raw.to_vec()
}

#[tonic::async_trait]
impl AgentService for Service {
    type FetchSecretsStream = ReceiverStream<Result<proto::SecretPart, Status>>;
    type SessionStream = ReceiverStream<Result<ControllerFrame, Status>>;
    type StreamStream = ReceiverStream<Result<StreamControl, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<AgentFrame>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        authenticated(&request)?;
        self.refuses(|b| b.refuse_sessions)?;
        let mut up = request.into_inner();
        let Some(Up::Hello(hello)) = up.message().await?.and_then(|frame| frame.frame) else {
            return Err(Status::invalid_argument("the first frame is not a hello"));
        };
        let (down, frames) = mpsc::channel(64);
        let session = TestSession { hello, up, down };
        self.0.sessions.send(session).await.map_err(|_| Status::unavailable("test over"))?;
        Ok(Response::new(ReceiverStream::new(frames)))
    }

    async fn push_metrics(
        &self,
        request: Request<PushMetricsRequest>,
    ) -> Result<Response<PushMetricsResponse>, Status> {
        authenticated(&request)?;
        self.refuses(|b| b.refuse_metrics)?;
        let request = request.into_inner();
        self.0.pushed.lock().unwrap().push(request.samples.len());
        self.0.pushed_hosts.lock().unwrap().extend(request.host_samples);
        Ok(Response::new(PushMetricsResponse { dropped: 0 }))
    }

    async fn push_dossiers(
        &self,
        request: Request<PushDossiersRequest>,
    ) -> Result<Response<PushDossiersResponse>, Status> {
        authenticated(&request)?;
        self.refuses(|b| b.refuse_dossiers)?;
        let dossiers = request.into_inner().dossiers;
        let spoilt = |b: &Behaviour| {
            dossiers.iter().find(|d| Some(d.attempt) == b.refuse_attempt).map(|_| Code::InvalidArgument)
        };
        self.refuses(spoilt)?;
        assert!(dossiers.len() <= protocol::DOSSIER_BATCH_MAX);
        self.0.dossiers.lock().unwrap().extend(dossiers);
        Ok(Response::new(PushDossiersResponse { dropped: 0 }))
    }

    async fn stream(
        &self,
        request: Request<Streaming<StreamFrame>>,
    ) -> Result<Response<Self::StreamStream>, Status> {
        authenticated(&request)?;
        let mut up = request.into_inner();
        let first = up.message().await?.and_then(|frame| frame.frame);
        let Some(proto::stream_frame::Frame::StreamId(stream_id)) = first else {
            return Err(Status::invalid_argument("the first frame is not a stream's id"));
        };
        if stream_id == "unknown" {
            return Err(Status::not_found("nobody waits"));
        }
        let (down, frames) = mpsc::channel(4);
        let stream = TestStream { stream_id, up, down };
        self.0.streams.send(stream).await.map_err(|_| Status::unavailable("test over"))?;
        Ok(Response::new(ReceiverStream::new(frames)))
    }

    async fn fetch_secrets(
        &self,
        request: Request<proto::FetchSecretsRequest>,
    ) -> Result<Response<Self::FetchSecretsStream>, Status> {
        authenticated(&request)?;
        self.refuses(|b| b.refuse_secrets)?;
        let given = self.0.secrets.lock().unwrap().get(&request.into_inner().instance_id).cloned();
        let given = given.ok_or_else(|| Status::not_found("not this node's"))?;
        let (down, parts) = mpsc::channel(1);
        tokio::runtime::Handle::current().spawn(async move {
            for part in given {
                if down.send(Ok(proto::SecretPart { part: Some(part) })).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(parts)))
    }
}

/// An engine with one container, `0a1b`, which has written `lines` lines and may
/// write on without end. All else is out of reach.
pub(super) struct LogRuntime {
    pub(super) instance: InstanceId,
    pub(super) lines: usize,
    pub(super) endless: bool,
    /// How many lines have been read.
    pub(super) read: Arc<Mutex<usize>>,
}

impl LogRuntime {
    pub(super) fn new(instance: InstanceId) -> Self {
        Self { instance, lines: 3, endless: false, read: Arc::default() }
    }

    pub(super) fn line(number: usize) -> String {
        format!("line {number} {}\n", "x".repeat(1000))
    }
}

fn away<T: Send + 'static>() -> BoxFuture<'static, Result<T, RuntimeError>> {
    Box::pin(async { Err(RuntimeError::unreachable("only logs here")) })
}

impl Runtime for LogRuntime {
    fn ping(&self) -> BoxFuture<'_, Result<(), RuntimeError>> {
        away()
    }

    fn info(&self) -> BoxFuture<'_, Result<EngineInfo, RuntimeError>> {
        away()
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<(InstanceId, Container)>, RuntimeError>> {
        away()
    }

    fn inspect(&self, instance: InstanceId) -> BoxFuture<'_, Result<Option<Container>, RuntimeError>> {
        let container = (instance == self.instance).then(|| Container {
            container_id: "0a1b".into(),
            status: domain::plan::ContainerStatus::Running,
            started_at: None,
            finished_at: None,
            exit_code: None,
            oom_killed: false,
            error: String::new(),
            image_id: None,
            ports: Vec::new(),
            outside_signal: None,
            pid: None,
            addresses: Vec::new(),
        });
        Box::pin(async { Ok(container) })
    }

    fn image<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Option<ImageInfo>, RuntimeError>> {
        away()
    }

    fn pull(&self, _: &str, _: Option<RegistryLogin>) -> BoxStream<'static, Result<PullSign, RuntimeError>> {
        stream::empty().boxed()
    }

    fn create_given<'a>(
        &'a self,
        _: &'a domain::assignment::Assignment,
        _: &'a crate::runtime::Given,
    ) -> BoxFuture<'a, Result<Container, RuntimeError>> {
        away()
    }

    fn start<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Container, RuntimeError>> {
        away()
    }

    fn stop<'a>(&'a self, _: &'a str, _: Duration) -> BoxFuture<'a, Result<Option<Container>, RuntimeError>> {
        away()
    }

    fn remove<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<(), RuntimeError>> {
        away()
    }

    fn events(&self, _: Option<Timestamp>) -> BoxStream<'static, Result<EngineEvent, RuntimeError>> {
        stream::empty().boxed()
    }

    fn logs(&self, container_id: &str, _: &LogsQuery) -> BoxStream<'static, Result<LogChunk, RuntimeError>> {
        if container_id != "0a1b" {
            let gone = RuntimeError::new(RuntimeErrorKind::NotFound, "no such container");
            return stream::iter([Err(gone)]).boxed();
        }
        let (lines, read) = (if self.endless { usize::MAX } else { self.lines }, Arc::clone(&self.read));
        let chunk = move |number| {
            *read.lock().unwrap() += 1;
            let bytes = Self::line(number).into();
            Ok(LogChunk { at: Some(Timestamp::UNIX_EPOCH), stderr: false, bytes })
        };
        stream::iter(0..lines).map(chunk).boxed()
    }

    fn usage<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Usage, RuntimeError>> {
        away()
    }

    fn exec<'a>(
        &'a self,
        _: &'a str,
        _: &'a [String],
        _: Duration,
    ) -> BoxFuture<'a, Result<Executed, RuntimeError>> {
        away()
    }

    fn exec_is_running<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<bool, RuntimeError>> {
        away()
    }
}

/// A controller that works as long as the first part is kept; its address; and the
/// node's identity there. For tests outside of the link.
pub(crate) async fn working_controller(data_dir: &std::path::Path) -> (impl Sized, String, Identity) {
    let controller = TestController::start().await;
    let (url, ca) = (controller.url(), &controller.shared.ca);
    let identity = ca.identity(data_dir, &url);
    (controller, url, identity)
}
