//! A connection that notices when nobody answers.
//!
//! The server ends a statement that takes too long, but a server that is frozen,
//! or a link that swallows everything, ends nothing, and no timeout of TCP's does
//! either while somebody acknowledges. So the stream itself keeps a deadline: what
//! was written must be answered within [`LIMIT`], or the connection breaks, and
//! whoever waits is told that the database is not available.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
    time::{Sleep, sleep, timeout},
};
use tokio_postgres::config::{Config, Host};

/// Five seconds more than the server gives a statement.
const LIMIT: Duration = Duration::from_secs(20);
/// For one address.
const DIAL: Duration = Duration::from_secs(5);
/// How a server's answer ends: `ReadyForQuery`, without its last byte, the status.
const READY: &[u8] = b"Z\0\0\0\x05";

pub(crate) trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

/// A stream with a deadline for answers.
pub(crate) struct Watched {
    inner: Box<dyn Socket>,
    /// Whether what passes can be read here; under TLS it cannot.
    clear: bool,
    /// The last bytes that came, since an answer's end may come in two pieces.
    tail: Vec<u8>,
    /// Set while something is unanswered.
    unanswered: Option<Pin<Box<Sleep>>>,
}

impl Watched {
    fn new(inner: Box<dyn Socket>, clear: bool) -> Self {
        Self { inner, clear, tail: Vec::new(), unanswered: None }
    }

    /// Connects to the first of the configured hosts that can be reached.
    pub(crate) async fn dial(config: &Config, clear: bool) -> io::Result<Self> {
        let mut last = io::Error::new(io::ErrorKind::InvalidInput, "no host is configured");
        for (index, host) in config.get_hosts().iter().enumerate() {
            let ports = config.get_ports();
            let port = ports.get(index).or_else(|| ports.first()).copied().unwrap_or(5432);
            match timeout(DIAL, dial_one(host, port)).await {
                Ok(Ok(socket)) => return Ok(Self::new(socket, clear)),
                Ok(Err(error)) => last = error,
                Err(_) => last = io::ErrorKind::TimedOut.into(),
            }
        }
        Err(last)
    }

    /// Whether bytes that came are the end of an answer, as far as one can tell.
    fn is_end(&mut self, bytes: &[u8]) -> bool {
        let length = READY.len() + 1;
        self.tail.extend_from_slice(bytes.get(bytes.len().saturating_sub(length)..).unwrap_or_default());
        self.tail.drain(..self.tail.len().saturating_sub(length));
        !self.clear || (self.tail.len() == length && self.tail.starts_with(READY))
    }

    fn begin_waiting(&mut self, cx: &mut Context<'_>) {
        let mut deadline = Box::pin(sleep(LIMIT));
        // Polled once, so that it wakes this task.
        let _ = deadline.as_mut().poll(cx);
        self.unanswered = Some(deadline);
    }
}

async fn dial_one(host: &Host, port: u16) -> io::Result<Box<dyn Socket>> {
    match host {
        Host::Tcp(name) => {
            let stream = TcpStream::connect((name.as_str(), port)).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream))
        }
        Host::Unix(directory) => {
            Ok(Box::new(UnixStream::connect(directory.join(format!(".s.PGSQL.{port}"))).await?))
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        match Pin::new(&mut self.inner).poll_read(cx, buf) {
            Poll::Ready(result) => {
                let came = buf.filled().get(before..).unwrap_or_default();
                if self.is_end(came) {
                    self.unanswered = None;
                } else if self.unanswered.is_some() {
                    self.begin_waiting(cx);
                }
                Poll::Ready(result)
            }
            Poll::Pending => match self.unanswered.as_mut() {
                None => Poll::Pending,
                Some(deadline) => {
                    ready!(deadline.as_mut().poll(cx));
                    Poll::Ready(Err(io::Error::new(
                        io::ErrorKind::TimedOut,
                        "the database did not answer in 20 s",
                    )))
                }
            },
        }
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write(cx, bytes));
        if self.unanswered.is_none() {
            self.begin_waiting(cx);
        }
        Poll::Ready(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    #[tokio::test(start_paused = true)]
    async fn what_is_not_answered_in_time_breaks_the_connection() {
        let (ours, _theirs) = duplex(64);
        let mut watched = Watched::new(Box::new(ours), true);
        watched.write_all(b"query").await.unwrap();
        let error = watched.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_stops_in_the_middle_breaks_it_too() {
        let (ours, mut theirs) = duplex(64);
        let mut watched = Watched::new(Box::new(ours), true);
        watched.write_all(b"query").await.unwrap();
        theirs.write_all(b"half of a").await.unwrap();
        let mut answer = [0; 64];
        assert_eq!(watched.read(&mut answer).await.unwrap(), 9);
        assert_eq!(watched.read(&mut answer).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_is_idle_after_an_answer_lives_on() {
        let (ours, mut theirs) = duplex(64);
        let mut watched = Watched::new(Box::new(ours), true);
        watched.write_all(b"query").await.unwrap();
        let mut answer = [0; 64];
        for piece in [&b"rowsZ\0\0"[..], &b"\0\x05I"[..]] {
            theirs.write_all(piece).await.unwrap();
            assert_eq!(watched.read(&mut answer).await.unwrap(), piece.len());
        }
        let idle = timeout(LIMIT * 10, watched.read(&mut answer)).await;
        assert!(idle.is_err(), "it is still waiting");
    }
}
