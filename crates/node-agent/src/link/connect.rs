//! A connection to the controller that is either the right one or none.

use std::{error::Error as _, io, net::SocketAddr, sync::Arc, time::Duration};

use protocol::CONTROLLER_DNS_NAME;
use tokio::{net::UdpSocket, time::timeout};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity as TlsIdentity, Uri};

use crate::identity::{Identity, PinnedCa};

/// How long a connection may take, TLS handshake included.
pub(super) const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// A ping is sent after this long without a frame; the link may stand idle for
/// no longer, or a NAT on the way forgets it.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// A ping that is not answered in this time ends the connection.
const KEEPALIVE_LIMIT: Duration = Duration::from_secs(5);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The address is not `https://host:port`.
    #[error("use the controller's address")]
    Address,
    /// The certificate and key cannot be used by TLS.
    #[error("set up TLS")]
    Tls(#[source] tonic::transport::Error),
    /// It took too long.
    #[error("connect within {} s", CONNECT_LIMIT.as_secs())]
    Timeout,
    /// The host does not answer, or does not speak TLS.
    #[error("connect ({reason})")]
    Unreachable {
        /// The innermost reason, for people.
        reason: String,
    },
    /// Somebody answers whose certificate is not the controller's.
    #[error("trust the controller's certificate ({reason})")]
    NotTrusted {
        /// What is wrong with it.
        reason: String,
    },
}

/// Which server is the controller, and who we are.
pub(super) enum Trust<'a> {
    /// Known by the hash of its CA; we are nobody yet.
    Pinned(Arc<PinnedCa>),
    /// Known by its CA; we are nobody, because our certificate has ended.
    CaOnly(&'a Identity),
    /// Known by its CA; we show our certificate.
    Mutual(&'a Identity),
}

/// Connects. Whatever host is dialled, the controller's certificate must be for
/// its own fixed name: so any address, NAT or port forward works, and none of
/// them can pretend.
pub(super) async fn connect(controller: &str, trust: Trust<'_>) -> Result<Channel, ConnectError> {
    let endpoint = endpoint(controller)?;
    let tls = ClientTlsConfig::new().domain_name(CONTROLLER_DNS_NAME);
    let ca = |identity: &Identity| Certificate::from_pem(identity.ca().to_pem());
    let endpoint = match trust {
        Trust::Pinned(verifier) => endpoint.tls_config_with_verifier(tls, verifier),
        Trust::CaOnly(identity) => endpoint.tls_config(tls.ca_certificate(ca(identity))),
        Trust::Mutual(identity) => {
            let own = TlsIdentity::from_pem(identity.certificate().to_pem(), identity.key_pem().as_bytes());
            endpoint.tls_config(tls.ca_certificate(ca(identity)).identity(own))
        }
    }
    .map_err(ConnectError::Tls)?;
    match timeout(CONNECT_LIMIT, endpoint.connect()).await {
        Ok(Ok(channel)) => Ok(channel),
        Ok(Err(error)) => Err(classify(&error)),
        Err(_) => Err(ConnectError::Timeout),
    }
}

fn endpoint(controller: &str) -> Result<Endpoint, ConnectError> {
    let endpoint = Endpoint::from_shared(controller.to_owned()).map_err(|_| ConnectError::Address)?;
    authority(endpoint.uri()).ok_or(ConnectError::Address)?;
    Ok(endpoint
        .connect_timeout(CONNECT_LIMIT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_LIMIT)
        .keep_alive_while_idle(true))
}

/// Host and port of an address that can be a controller's.
pub(super) fn authority(uri: &Uri) -> Option<(&str, u16)> {
    let plain = uri.path() == "/" && uri.query().is_none();
    let host = uri.host().filter(|_| plain && uri.scheme_str() == Some("https"))?;
    Some((host.trim_start_matches('[').trim_end_matches(']'), uri.port_u16().unwrap_or(443)))
}

/// The address of ours that the controller is reached from. Sends nothing: it
/// asks the routing table.
pub(super) async fn local_address(controller: &str) -> Option<String> {
    let uri: Uri = controller.parse().ok()?;
    let target = authority(&uri)?;
    let mut targets = timeout(CONNECT_LIMIT, tokio::net::lookup_host(target)).await.ok()?.ok()?;
    let target = targets.next()?;
    let any = if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any.parse::<SocketAddr>().ok()?).await.ok()?;
    socket.connect(target).await.ok()?;
    Some(socket.local_addr().ok()?.ip().to_string())
}

/// Tells a wrong certificate from a connection that failed. TLS errors hide
/// inside I/O errors, whose own `source` skips them.
fn classify(error: &tonic::transport::Error) -> ConnectError {
    let mut reason = error.to_string();
    let mut next = error.source();
    while let Some(inner) = next {
        reason = inner.to_string();
        let hidden = inner.downcast_ref::<io::Error>().and_then(|e| e.get_ref());
        let tls = hidden.and_then(|e| e.downcast_ref::<rustls::Error>());
        if let Some(wrong @ rustls::Error::InvalidCertificate(_)) = tls {
            return ConnectError::NotTrusted { reason: wrong.to_string() };
        }
        next = inner.source();
    }
    ConnectError::Unreachable { reason }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::identity::testing::TestCa;

    #[tokio::test(start_paused = true)]
    async fn a_host_that_accepts_and_says_nothing_is_given_up_in_time() {
        let dir = tempfile::tempdir().unwrap();
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", silent.local_addr().unwrap());
        let identity = TestCa::new().identity(dir.path(), &url);
        let began = tokio::time::Instant::now();
        let error = connect(&url, Trust::Mutual(&identity)).await.err().unwrap();
        assert!(matches!(error, ConnectError::Timeout), "{error}");
        assert!(began.elapsed() < 2 * CONNECT_LIMIT);
    }

    #[test]
    fn addresses_are_of_one_form() {
        let read = |text: &str| {
            text.parse().ok().and_then(|uri: Uri| authority(&uri).map(|(h, p)| (h.to_owned(), p)))
        };
        assert_eq!(read("https://a.example:6701"), Some(("a.example".into(), 6701)));
        assert_eq!(read("https://[::1]:6701/"), Some(("::1".into(), 6701)));
        for bad in ["http://a:1", "a:1", "https://a:1/path", "https://a:1/?q", "/"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[tokio::test]
    async fn the_local_address_is_the_one_that_faces_the_controller() {
        assert_eq!(local_address("https://127.0.0.1:6701").await.as_deref(), Some("127.0.0.1"));
        assert_eq!(local_address("nonsense").await, None);
    }
}
