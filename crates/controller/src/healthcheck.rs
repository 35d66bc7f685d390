//! Asks the controller on this host whether it is ready. For containers, which
//! have no curl.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

/// For all of it together, however slowly the answer drips in.
const DEADLINE: Duration = Duration::from_secs(3);
/// As much of an answer as is needed: `HTTP/1.1 200`.
const HEAD_BYTES: usize = 12;

/// Whether `/readyz` under `listen` answers 200.
///
/// # Errors
/// When nothing answers in three seconds.
pub fn ready(listen: SocketAddr) -> io::Result<bool> {
    // A socket says 'would block' where it means that the time is over.
    ready_within(listen, DEADLINE).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => io::ErrorKind::TimedOut.into(),
        _ => error,
    })
}

fn ready_within(listen: SocketAddr, deadline: Duration) -> io::Result<bool> {
    let until = Instant::now() + deadline;
    let mut stream = TcpStream::connect_timeout(&reachable(listen), deadline)?;
    stream.set_write_timeout(Some(left(until)?))?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut head = Vec::with_capacity(HEAD_BYTES);
    while head.len() < HEAD_BYTES {
        stream.set_read_timeout(Some(left(until)?))?;
        let mut byte = [0_u8];
        stream.read_exact(&mut byte)?;
        head.extend(byte);
    }
    Ok(head.starts_with(b"HTTP/1.") && head.ends_with(b" 200"))
}

/// What is left of the time. Never nothing, which would mean for ever to a socket.
fn left(until: Instant) -> io::Result<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// The address under which one reaches what listens on all.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

#[cfg(test)]
mod tests {
    use std::{
        net::TcpListener,
        thread::{self, JoinHandle},
    };

    use super::*;

    /// A server that takes one request and answers it with these pieces.
    fn server(pieces: &'static [&'static str], pause: Duration) -> (SocketAddr, JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let thread = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let length = stream.read(&mut request).unwrap();
            for piece in pieces {
                // Fails once the client has given up, which some of the tests want.
                if stream.write_all(piece.as_bytes()).is_err() {
                    break;
                }
                thread::sleep(pause);
            }
            String::from_utf8_lossy(&request[..length]).into_owned()
        });
        (address, thread)
    }

    #[test]
    fn only_the_status_200_is_ready() {
        for (answer, verdict) in [
            (&["HTTP/1.1 200 OK\r\n\r\n"], true),
            (&["HTTP/1.1 503 Service Unavailable\r\n\r\n"], false),
            (&["HTTP/1.1 404 Not Found\r\n\r\n"], false),
            (&["SSH-2.0-xx 200\r\n"], false),
        ] {
            let (address, thread) = server(answer, Duration::ZERO);
            assert_eq!(ready(address).unwrap(), verdict, "{answer:?}");
            assert!(thread.join().unwrap().starts_with("GET /readyz HTTP/1.1\r\nHost: "));
        }
    }

    #[test]
    fn an_answer_in_pieces_is_an_answer() {
        let (address, thread) = server(&["HT", "TP/1.", "1 2", "00 OK\r\n\r\n"], Duration::from_millis(5));
        assert!(ready(address).unwrap());
        thread.join().unwrap();
    }

    #[test]
    fn a_half_answer_and_none_at_all_are_errors() {
        let (address, thread) = server(&["HTTP/1.1 2"], Duration::ZERO);
        assert!(ready(address).is_err());
        thread.join().unwrap();
        assert!(ready(address).is_err(), "nobody listens there any more");
    }

    #[test]
    fn an_answer_that_drips_is_given_up_at_the_deadline() {
        let (address, thread) = server(&["H", "T", "T", "P", "/", "1", ".", "1"], Duration::from_millis(50));
        let started = Instant::now();
        let error = ready_within(address, Duration::from_millis(120)).unwrap_err();
        assert!(matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut), "{error}");
        assert!(started.elapsed() < DEADLINE);
        thread.join().unwrap();
    }

    #[test]
    fn what_listens_on_all_addresses_is_asked_on_this_host() {
        for (listen, asked) in
            [("0.0.0.0:6700", "127.0.0.1:6700"), ("[::]:6700", "[::1]:6700"), ("10.1.2.3:1", "10.1.2.3:1")]
        {
            assert_eq!(reachable(listen.parse().unwrap()), asked.parse().unwrap());
        }
    }
}
