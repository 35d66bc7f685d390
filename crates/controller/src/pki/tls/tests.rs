use domain::id::NodeId;
use futures_util::StreamExt;
use rcgen::{CertificateParams, KeyPair};
use rustls::{
    ClientConfig,
    pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    runtime::Handle,
};
use tokio_rustls::{TlsConnector, client};
use tonic::transport::server::Connected;

use super::*;
use crate::pki::{SERVER_NAME, peer_node_id};

const DAY: Duration = Duration::from_secs(86_400);
const PATIENCE: Duration = Duration::from_secs(30);

fn node() -> NodeId {
    "0195c1a8-7c1e-7000-8000-0123456789ab".parse().unwrap()
}

fn ca() -> Arc<Ca> {
    Arc::new(Ca::generate(Utc::now()).unwrap().0)
}

/// A node's certificate, issued `age` ago for a day, and its key.
fn identity(ca: &Ca, age: Duration) -> (CertificateDer<'static>, KeyPair) {
    let key = KeyPair::generate().unwrap();
    let csr = CertificateParams::default().serialize_request(&key).unwrap();
    let issued = ca.sign_agent(csr.der(), node(), DAY, Utc::now() - age).unwrap();
    (issued.der.into(), key)
}

fn client_config(trusted: &Ca, identity: Option<(CertificateDer<'static>, KeyPair)>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.certificate().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match identity {
        Some((cert, key)) => {
            let key = PrivatePkcs8KeyDer::from(key.serialize_der());
            builder.with_client_auth_cert(vec![cert], key.into()).unwrap()
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

struct Server {
    address: SocketAddr,
    supervisor: Supervisor,
    connections: std::pin::Pin<Box<dyn Stream<Item = io::Result<TlsStream<TcpStream>>> + Send>>,
}

impl Server {
    async fn start(ca: &Arc<Ca>) -> Self {
        Self::start_within(LIMITS, ca).await
    }

    async fn start_within(limits: Limits, ca: &Arc<Ca>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let supervisor = Supervisor::new(Handle::current());
        let connections =
            Box::pin(incoming_within(limits, listener, server_config(ca.clone()).unwrap(), &supervisor));
        Self { address, supervisor, connections }
    }

    async fn next(&mut self) -> TlsStream<TcpStream> {
        timeout(PATIENCE, self.connections.next()).await.unwrap().unwrap().unwrap()
    }

    /// Dials in the way an agent does. In TLS 1.3 the client learns only with its
    /// first read whether the server took its certificate.
    async fn dial(&self, config: ClientConfig) -> io::Result<client::TlsStream<TcpStream>> {
        let tcp = TcpStream::connect(self.address).await?;
        let name = ServerName::try_from(SERVER_NAME).unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, tcp).await
    }

    /// Whether the server refuses; a connection of a good client proves that the
    /// refused one never came through.
    async fn refuses(&mut self, ca: &Ca, config: ClientConfig) -> String {
        let error = match self.dial(config).await {
            Ok(mut stream) => timeout(PATIENCE, stream.read_u8()).await.unwrap().unwrap_err(),
            Err(error) => error,
        };
        let good = self.dial(client_config(ca, None)).await.unwrap();
        assert!(self.next().await.get_ref().1.peer_certificates().is_none());
        drop(good);
        error.to_string()
    }
}

#[tokio::test]
async fn an_agents_certificate_tells_its_node_to_the_server() {
    let ca = ca();
    let mut server = Server::start(&ca).await;
    let mut client = server.dial(client_config(&ca, Some(identity(&ca, Duration::ZERO)))).await.unwrap();
    let mut stream = server.next().await;
    let certificates = stream.connect_info().peer_certs().unwrap();
    assert_eq!(peer_node_id(&certificates[0]), Some(node()));
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    assert!(stream.get_ref().0.nodelay().unwrap());
    assert!(rustix::net::sockopt::socket_keepalive(stream.get_ref().0).unwrap());

    stream.write_all(b"x").await.unwrap();
    assert_eq!(client.read_u8().await.unwrap(), b'x');
}

#[tokio::test]
async fn without_a_certificate_a_client_is_let_in_as_nobody() {
    let ca = ca();
    let mut server = Server::start(&ca).await;
    let client = server.dial(client_config(&ca, None)).await.unwrap();
    assert!(server.next().await.connect_info().peer_certs().is_none());
    drop(client);
}

#[tokio::test]
async fn certificates_that_are_not_ours_or_not_valid_now_are_refused() {
    let (ca, other) = (ca(), ca());
    let mut server = Server::start(&ca).await;
    let cases = [
        ("of another fleet", identity(&other, Duration::ZERO)),
        ("expired", identity(&ca, 2 * DAY)),
        ("not yet valid", {
            let key = KeyPair::generate().unwrap();
            let csr = CertificateParams::default().serialize_request(&key).unwrap();
            let issued = ca.sign_agent(csr.der(), node(), DAY, Utc::now() + DAY).unwrap();
            (issued.der.into(), key)
        }),
        ("a server's", {
            let (chain, key) = ca.server_chain(Utc::now()).unwrap();
            (chain[0].clone(), KeyPair::try_from(key.secret_der()).unwrap())
        }),
    ];
    for (what, identity) in cases {
        let said = server.refuses(&ca, client_config(&ca, Some(identity))).await;
        assert!(said.contains("received fatal alert"), "{what}: {said}");
    }
}

#[tokio::test]
async fn a_certificate_with_a_foreign_key_is_refused() {
    let ca = ca();
    let mut server = Server::start(&ca).await;
    let (certificate, _) = identity(&ca, Duration::ZERO);
    let provider = rustls::crypto::ring::default_provider();
    let other_key = PrivatePkcs8KeyDer::from(KeyPair::generate().unwrap().serialize_der());
    let key = provider.key_provider.load_private_key(other_key.into()).unwrap();
    // Put together by hand, because the builder notices that they do not match.
    let certified = Arc::new(rustls::sign::CertifiedKey::new(vec![certificate], key));
    let mut config = client_config(&ca, None);
    config.client_auth_cert_resolver = Arc::new(rustls::sign::SingleCertAndKey::from(certified));
    let said = server.refuses(&ca, config).await;
    assert!(said.contains("received fatal alert"), "{said}");
}

#[tokio::test]
async fn a_client_that_pins_another_authority_or_name_turns_away() {
    let ca = ca();
    let server = Server::start(&ca).await;
    let error = server.dial(client_config(&super::tests::ca(), None)).await.unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
    let tcp = TcpStream::connect(server.address).await.unwrap();
    let connector = TlsConnector::from(Arc::new(client_config(&ca, None)));
    let name = ServerName::try_from("localhost").unwrap();
    assert!(connector.connect(name, tcp).await.unwrap_err().to_string().contains("not valid for name"));
}

#[tokio::test]
async fn silent_and_senseless_clients_delay_nobody() {
    let ca = ca();
    let mut server = Server::start(&ca).await;
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(TcpStream::connect(server.address).await.unwrap());
    }
    let mut senseless = TcpStream::connect(server.address).await.unwrap();
    senseless.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let started = std::time::Instant::now();
    let client = server.dial(client_config(&ca, None)).await.unwrap();
    server.next().await;
    assert!(started.elapsed() < HANDSHAKE_DEADLINE);
    drop((client, silent, senseless));
}

#[tokio::test]
async fn beyond_the_bound_a_client_waits_for_a_place() {
    let ca = ca();
    let mut server = Server::start_within(Limits { handshakes: 2, ..LIMITS }, &ca).await;
    let silent = [TcpStream::connect(server.address).await, TcpStream::connect(server.address).await];
    let config = client_config(&ca, None);
    let mut dialled = Box::pin(server.dial(config));
    assert!(timeout(Duration::from_millis(300), &mut dialled).await.is_err(), "both places are taken");
    drop(silent);
    let client = timeout(PATIENCE, dialled).await.unwrap().unwrap();
    server.next().await;
    drop(client);
}

#[tokio::test]
async fn a_client_that_stays_silent_loses_its_place() {
    let ca = ca();
    let limits = Limits { handshakes: 1, deadline: Duration::from_millis(200) };
    let mut server = Server::start_within(limits, &ca).await;
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    assert_eq!(timeout(PATIENCE, silent.read(&mut [0])).await.unwrap().unwrap(), 0, "it was closed");
    let client = server.dial(client_config(&ca, None)).await.unwrap();
    server.next().await;
    drop(client);
}

#[tokio::test]
async fn the_stream_ends_with_the_supervisor_even_with_handshakes_under_way() {
    let ca = ca();
    let mut server = Server::start(&ca).await;
    let silent = TcpStream::connect(server.address).await.unwrap();
    let client = server.dial(client_config(&ca, None)).await.unwrap();
    server.next().await;
    assert!(server.supervisor.shut_down(Duration::from_secs(5)).await);
    assert!(timeout(PATIENCE, server.connections.next()).await.unwrap().is_none());
    assert!(TcpStream::connect(server.address).await.is_err(), "the port is closed");
    drop((silent, client));
}

#[tokio::test]
async fn the_loop_ends_when_the_server_drops_the_stream() {
    let ca = ca();
    let server = Server::start(&ca).await;
    drop(server.connections);
    let started = std::time::Instant::now();
    while TcpStream::connect(server.address).await.is_ok() {
        assert!(started.elapsed() < PATIENCE);
        tokio::task::yield_now().await;
    }
    assert!(server.supervisor.shut_down(Duration::from_secs(5)).await);
}
