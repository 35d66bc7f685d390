//! Logs of an instance, as plain text or as server-sent events.

use std::time::Duration;

use actix_web::{
    HttpRequest, HttpResponse, get,
    http::header::ACCEPT,
    web::{Bytes, Data, Path, Query},
};
use chrono::{DateTime, Utc};
use futures_util::stream::unfold;
use serde::Deserialize;
use tokio::time::timeout;
use utoipa::IntoParams;

use super::{
    super::{
        extract::{Caller, Viewer},
        problem::Problems,
    },
    instances::fetch,
};
use crate::{
    error::Error,
    fleet::{sessions::LogsRequest, streams::LogLine},
    service::{Services, logs::OpenLog},
};

/// Silence after which a comment keeps the stream alive through proxies.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
const TAIL_MAX: u32 = 100_000;

/// Which lines.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct LogsQuery {
    /// Last lines to begin with, 0 to 100000; 100 when left out.
    tail: Option<u32>,
    /// Whether to go on as lines come, as server-sent events.
    #[serde(default)]
    follow: bool,
    /// Nothing from before that; RFC 3339.
    since: Option<DateTime<Utc>>,
}

/// Streams an instance's log.
///
/// With `follow=true`, or asked for `text/event-stream`: events `line` with `{at, stream, text, partial}`, an event `error` where
/// it breaks, an event `end` where it is complete, and a comment each 15 s. Else plain text.
#[utoipa::path(
    tag = "instances", security(("bearer" = [])), params(("instance" = uuid::Uuid, Path), LogsQuery),
    responses((status = 200, content((String = "text/plain"), (String = "text/event-stream"))), Problems)
)]
#[get("/instances/{instance}/logs")]
pub(super) async fn instance_logs(
    services: Data<Services>,
    _caller: Caller<Viewer>,
    request: HttpRequest,
    path: Path<String>,
    query: Query<LogsQuery>,
) -> Result<HttpResponse, Error> {
    let tail = query.tail.unwrap_or(100);
    if tail > TAIL_MAX {
        return Err(Error::invalid_field("tail", format!("must be 0 to {TAIL_MAX}")));
    }
    let accept = request.headers().get(ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let events = query.follow || accept.contains("text/event-stream");
    let instance = fetch(&services, &path).await?;
    let wanted =
        LogsRequest { instance_id: instance.id, tail: Some(tail), follow: query.follow, since: query.since };
    let log = services.logs_open(&instance, wanted).await?;
    let stop = services.stopping.clone();
    Ok(if events {
        let body = unfold(Some((log, stop)), |state| async {
            let (mut log, stop) = state?;
            // Cancel-safe: a line that loses against the end of the process is read again by the next reader.
            let (chunk, more) = tokio::select! {
                event = next_event(&mut log) => event,
                () = stop.cancelled() => (event("error", &serde_json::json!({"message": "the controller is stopping"})), false),
            };
            Some((Ok::<_, Error>(chunk), more.then_some((log, stop))))
        });
        HttpResponse::Ok()
            .content_type("text/event-stream")
            .insert_header(("X-Accel-Buffering", "no"))
            .streaming(body)
    } else {
        let body = unfold(Some(log), |log| async {
            let mut log = log?;
            match log.next().await? {
                Ok(line) => Some((Ok::<_, Error>(plain(&line)), Some(log))),
                Err(message) => {
                    Some((Ok(Bytes::from(format!("[the log breaks off here: {message}]\n"))), None))
                }
            }
        });
        HttpResponse::Ok().content_type("text/plain; charset=utf-8").streaming(body)
    })
}

/// The next event, and whether there may be more.
async fn next_event(log: &mut OpenLog) -> (Bytes, bool) {
    match timeout(KEEP_ALIVE, log.next()).await {
        Err(_) => (Bytes::from_static(b": still here\n\n"), true),
        Ok(None) => (event("end", &serde_json::json!({})), false),
        Ok(Some(Err(message))) => (event("error", &serde_json::json!({ "message": message })), false),
        Ok(Some(Ok(line))) => {
            let data = serde_json::json!({
                "at": line.at,
                "stream": if line.stderr { "stderr" } else { "stdout" },
                "text": String::from_utf8_lossy(&line.text),
                "partial": line.partial,
            });
            (event("line", &data), true)
        }
    }
}

/// JSON has no line breaks of its own, so one `data` field holds it.
fn event(name: &str, data: &serde_json::Value) -> Bytes {
    Bytes::from(format!("event: {name}\ndata: {data}\n\n"))
}

fn plain(line: &LogLine) -> Bytes {
    let mut text = line.text.to_vec();
    if !line.partial {
        text.push(b'\n');
    }
    text.into()
}
