//! A TCP link that can be held and cut.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use daemon::Supervisor;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixStream},
    runtime::Handle,
    sync::watch,
};

/// What becomes of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// They pass.
    Up,
    /// They wait: connections stay open, and nothing comes through.
    Held,
    /// Connections are closed, and new ones at once.
    Cut,
}

/// Where a connection goes.
#[derive(Clone, Debug)]
pub enum Target {
    /// To `host:port`.
    Tcp(String),
    /// To a socket of this machine.
    Unix(PathBuf),
}

/// A listener that passes everything on. Ends when dropped.
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    link: watch::Sender<Link>,
    supervisor: Supervisor,
}

impl Proxy {
    /// Listens at an address, port 0 for any.
    ///
    /// # Panics
    /// When it cannot.
    pub async fn start(listen: &str, target: Target) -> Self {
        let listener = TcpListener::bind(listen).await.unwrap_or_else(|e| panic!("listen at {listen}: {e}"));
        let address = listener.local_addr().expect("it is bound");
        let (link, state) = watch::channel(Link::Up);
        let supervisor = Supervisor::new(Handle::current());
        let (stop, pairs) = (supervisor.stop_token(), supervisor.clone());
        supervisor.spawn("proxy", async move {
            // Cancel-safe: a connection that was not yet accepted is closed with the listener.
            while let Some(Ok((near, _))) = tokio::select! {
                () = stop.cancelled() => None,
                accepted = listener.accept() => Some(accepted),
            } {
                let (target, state, stop) = (target.clone(), state.clone(), stop.clone());
                pairs.spawn("proxied connection", async move {
                    // Cancel-safe: both ends close.
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = cut(state.clone()) => {}
                        () = connect(near, target, state) => {}
                    }
                });
            }
        });
        Self { address, link, supervisor }
    }

    /// Changes the link, for connections that are open, too.
    pub fn set(&self, link: Link) {
        self.link.send_replace(link);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.supervisor.stop_token().cancel();
    }
}

/// Comes back when the link is cut.
async fn cut(mut state: watch::Receiver<Link>) {
    if state.wait_for(|link| *link == Link::Cut).await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn connect(near: TcpStream, target: Target, state: watch::Receiver<Link>) {
    match target {
        Target::Tcp(address) => {
            if let Ok(far) = TcpStream::connect(address).await {
                pass_both(near, far, state).await;
            }
        }
        Target::Unix(path) => {
            if let Ok(far) = UnixStream::connect(path).await {
                pass_both(near, far, state).await;
            }
        }
    }
}

async fn pass_both<F: AsyncRead + AsyncWrite>(near: TcpStream, far: F, state: watch::Receiver<Link>) {
    let (near_in, near_out) = near.into_split();
    let (far_in, far_out) = tokio::io::split(far);
    tokio::join!(pass(near_in, far_out, state.clone()), pass(far_in, near_out, state));
}

async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut state: watch::Receiver<Link>,
) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let Some(bytes) = buffer.get(..length) else { break };
        if state.wait_for(|link| *link != Link::Held).await.is_err() || to.write_all(bytes).await.is_err() {
            break;
        }
    }
    let _ = tokio::time::timeout(Duration::from_secs(1), to.shutdown()).await;
}
