//! Whether a server answers as expected.
//!
//! One request on one connection, over HTTP/1.1 without TLS. Redirections are
//! answers and are not followed: a container must not make the agent ask others.
//! The body is read only where something is looked for in it, and no further than
//! needed.

use std::{
    convert::Infallible,
    error::Error as _,
    future::pending,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use bytes::Bytes;
use domain::probe::HttpCheck;
use http::{HeaderName, HeaderValue, Request, Response, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{
    select,
    time::{Instant, timeout_at},
};

use super::{Answer, Fault, seconds, tcp};

/// Most of an answer's header, in bytes and in lines.
const HEAD_MAX_BYTES: usize = 64 * 1024;
const HEAD_MAX_LINES: usize = 128;
/// Most of a body that is searched.
const BODY_MAX_BYTES: usize = 64 * 1024;

/// Makes the request, within `limit` in all.
pub(super) async fn ask(address: IpAddr, check: &HttpCheck, limit: Duration) -> Answer {
    let until = Instant::now() + limit;
    let to = SocketAddr::new(address, check.port);
    let request =
        request(check, to).map_err(|error| Fault::Unasked(format!("the request cannot be made: {error}")))?;
    let stream = tcp::connect(to, limit).await?;
    let (mut sender, connection) = http1::Builder::new()
        .max_headers(HEAD_MAX_LINES)
        .max_header_size(HEAD_MAX_BYTES)
        .max_buf_size(HEAD_MAX_BYTES)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| failed(&error))?;
    // It only carries what the exchange waits for, and the exchange tells how it ends.
    let carried = async {
        let _ = connection.await;
        pending::<Infallible>().await
    };
    let exchange = async {
        let answered = timeout_at(until, sender.send_request(request)).await;
        let response = answered
            .map_err(|_| Fault::Failed(format!("no answer {}", seconds(limit))))?
            .map_err(|error| failed(&error))?;
        let late = |_| Fault::Failed(format!("the body is not there {}", seconds(limit)));
        timeout_at(until, judge(check, response)).await.map_err(late)?
    };
    // Both are dropped together, whichever ends first, and the connection with them.
    select! {
        answer = exchange => answer,
        never = carried => match never {},
    }
}

fn request(check: &HttpCheck, to: SocketAddr) -> Result<Request<Empty<Bytes>>, http::Error> {
    let mut request = Request::get(check.path.as_str())
        .header(header::HOST, to.to_string())
        .header(header::USER_AGENT, "automator67-agent")
        .header(header::ACCEPT, "*/*")
        .header(header::CONNECTION, "close")
        .body(Empty::new())?;
    // The user's own take the place of ours, and may repeat each other.
    let own: Result<Vec<_>, http::Error> = check
        .headers
        .iter()
        .map(|own| Ok((HeaderName::try_from(&own.name)?, HeaderValue::try_from(&own.value)?)))
        .collect();
    let own = own?;
    let headers = request.headers_mut();
    for (name, _) in &own {
        headers.remove(name);
    }
    for (name, mut value) in own {
        value.set_sensitive(true);
        headers.append(name, value);
    }
    Ok(request)
}

async fn judge(check: &HttpCheck, response: Response<Incoming>) -> Answer {
    let status = response.status().as_u16();
    if !check.expects(status) {
        let expected: Vec<_> = check.expected_status.iter().map(ToString::to_string).collect();
        return Err(Fault::Failed(format!("status {status}, expected {}", expected.join(", "))));
    }
    match &check.body_contains {
        None => Ok(format!("status {status}")),
        Some(text) => {
            search(response.into_body(), text.as_bytes()).await?;
            Ok(format!("status {status}, and the body holds what is looked for"))
        }
    }
}

/// Reads a body until it has brought `text`.
async fn search(mut body: Incoming, text: &[u8]) -> Result<(), Fault> {
    let mut read: Vec<u8> = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| failed(&error))?;
        let Some(data) = frame.data_ref() else { continue };
        // What was searched before cannot hold it, but its end may be a beginning of it.
        let from = read.len().saturating_sub(text.len().saturating_sub(1));
        let room = BODY_MAX_BYTES.saturating_sub(read.len()).min(data.len());
        read.extend_from_slice(data.get(..room).unwrap_or_default());
        let fresh = read.get(from..).unwrap_or_default();
        if fresh.windows(text.len().max(1)).any(|window| window == text) {
            return Ok(());
        }
        if read.len() >= BODY_MAX_BYTES {
            let message =
                format!("what is looked for is not in the first {BODY_MAX_BYTES} bytes of the body");
            return Err(Fault::Failed(message));
        }
    }
    Err(Fault::Failed(format!("what is looked for is not in the body of {} bytes", read.len())))
}

/// Says the innermost reason: the outer ones name the library's own steps.
fn failed(error: &hyper::Error) -> Fault {
    let mut reason = error.to_string();
    let mut next = error.source();
    while let Some(inner) = next {
        reason = inner.to_string();
        next = inner.source();
    }
    let what = if error.is_parse() || error.is_parse_too_large() {
        "the answer is not HTTP"
    } else {
        "the connection broke off"
    };
    Fault::Failed(format!("{what}: {reason}"))
}
