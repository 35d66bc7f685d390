//! Taking connections from agents: the TLS settings and the accept loop.
//!
//! One port serves agents that have a certificate and those that still need one, so
//! a client certificate is optional here; but one that is shown must be ours and
//! valid. Whoever handles a call decides whether it can do without.
//!
//! Handshakes run beside each other, each with a deadline, and no more at once than
//! a bound: a client that stays silent delays nobody else.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use chrono::Utc;
use daemon::{Backoff, Supervisor};
use futures_util::Stream;
use rustls::{
    RootCertStore, ServerConfig,
    server::{NoServerSessionStorage, WebPkiClientVerifier},
    version::TLS13,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinSet,
    time::{Timeout, timeout},
};
use tokio_rustls::{Accept, TlsAcceptor, server::TlsStream};
use tokio_stream::wrappers::ReceiverStream;

use super::{Ca, PkiError, ServerIdentity};

/// Most handshakes at once; the next connections wait in the kernel's backlog.
const HANDSHAKES_MAX: usize = 1_024;
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
const LIMITS: Limits = Limits { handshakes: HANDSHAKES_MAX, deadline: HANDSHAKE_DEADLINE };
/// Connections that are ready and not yet taken over by the server.
const READY_MAX: usize = 64;
/// A connection whose other end vanished is given up after some 75 s of silence.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_PROBES: u32 = 3;

/// The TLS settings for agents: TLS 1.3, HTTP/2, an optional client certificate.
///
/// Sessions are not resumed: a resumed one would not look at the client's
/// certificate again, and so keep an expired one alive.
///
/// # Errors
/// When no certificate can be made.
pub fn server_config(ca: Arc<Ca>) -> Result<Arc<ServerConfig>, PkiError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(ca.certificate().clone())?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()?;
    let identity = ServerIdentity::new(ca, provider.clone(), Utc::now())?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(identity));
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// What bounds the accept loop.
#[derive(Clone, Copy)]
struct Limits {
    handshakes: usize,
    deadline: Duration,
}

/// Accepts connections until `supervisor` stops, and gives those whose handshake
/// succeeded. Then the stream ends; handshakes that are still under way are
/// dropped. It never gives an error, which would be nobody's but the client's.
pub fn incoming(
    listener: TcpListener,
    config: Arc<ServerConfig>,
    supervisor: &Supervisor,
) -> impl Stream<Item = io::Result<TlsStream<TcpStream>>> + Send + use<> {
    incoming_within(LIMITS, listener, config, supervisor)
}

fn incoming_within(
    limits: Limits,
    listener: TcpListener,
    config: Arc<ServerConfig>,
    supervisor: &Supervisor,
) -> impl Stream<Item = io::Result<TlsStream<TcpStream>>> + Send + use<> {
    let (ready, connections) = mpsc::channel(READY_MAX);
    let stop = supervisor.stop_token();
    let acceptor = TlsAcceptor::from(config);
    supervisor.spawn("agent-accept", async move {
        let mut handshakes = JoinSet::new();
        let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_secs(1));
        loop {
            // Cancel-safe: a connection not yet accepted stays in the backlog, and
            // an ended handshake stays in the set.
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                // The server is gone, so nobody takes connections any more.
                () = ready.closed() => return,
                Some(_) = handshakes.join_next() => {}
                accepted = listener.accept(), if handshakes.len() < limits.handshakes => match accepted {
                    Ok((tcp, peer)) => {
                        backoff.reset();
                        if let Err(error) = tune(&tcp) {
                            tracing::debug!(peer.address = %peer, %error, "failed to set socket options");
                        }
                        let handshake = timeout(limits.deadline, acceptor.accept(tcp));
                        handshakes.spawn(shake_hands(handshake, peer, ready.clone()));
                    }
                    Err(error) => {
                        // Mostly too many open files: it does not help to try again at once.
                        tracing::warn!(%error, "failed to accept a connection");
                        tokio::select! {
                            () = stop.cancelled() => return,
                            () = tokio::time::sleep(backoff.next_delay()) => {}
                        }
                    }
                }
            }
        }
    });
    ReceiverStream::new(connections)
}

async fn shake_hands(
    handshake: Timeout<Accept<TcpStream>>,
    peer: SocketAddr,
    ready: mpsc::Sender<io::Result<TlsStream<TcpStream>>>,
) {
    match handshake.await {
        // Waits while the server is busy. The place among the handshakes is held so
        // long, so what waits here is bounded too. An error means the server is gone.
        Ok(Ok(stream)) => drop(ready.send(Ok(stream)).await),
        // Includes a wrong certificate, which an operator wants to find, and every
        // port scan, which nobody does.
        Ok(Err(error)) if error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) => {
            tracing::info!(peer.address = %peer, %error, "tls handshake refused");
        }
        Ok(Err(error)) => tracing::debug!(peer.address = %peer, %error, "tls handshake broken off"),
        Err(_) => tracing::debug!(peer.address = %peer, "tls handshake took too long"),
    }
}

/// Small frames go out at once, and a vanished peer is noticed.
fn tune(tcp: &TcpStream) -> io::Result<()> {
    use rustix::net::sockopt;
    tcp.set_nodelay(true)?;
    sockopt::set_socket_keepalive(tcp, true)?;
    sockopt::set_tcp_keepidle(tcp, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(tcp, KEEPALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(tcp, KEEPALIVE_PROBES)?;
    Ok(())
}

#[cfg(test)]
mod tests;
