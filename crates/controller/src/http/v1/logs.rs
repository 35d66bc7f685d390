//! Logs of an instance, as plain text or as server-sent events.

use std::{sync::Arc, time::Duration};

use actix_web::{
    HttpRequest, HttpResponse, get,
    http::header::ACCEPT,
    web::{Bytes, Data, Path, Query},
};
use chrono::{DateTime, Utc};
use domain::id::ProjectId;
use futures_util::stream::unfold;
use serde::Deserialize;
use serde_json::json;
use tokio::time::{Instant, Interval, interval_at};
use utoipa::IntoParams;
use zeroize::Zeroizing;

use super::{
    super::{
        extract::{Allowed, bearer},
        problem::Problems,
    },
    instances,
};
use crate::{
    auth::policy::{DeploymentsRead, Permission},
    error::Error,
    fleet::{
        sessions::LogsRequest,
        streams::{Item, LogLine},
    },
    service::{Services, logs::OpenLog},
};

/// Silence after which a comment keeps the stream alive through proxies.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Longest that a log is still followed by somebody whose access to it has ended.
const ACCESS_LOOK: Duration = Duration::from_secs(2);
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
/// it breaks, an event `end` where it is complete, and a comment after 15 s of silence. Else plain
/// text. Whose access ends is told so by an `error` within 2 s, and reads no further.
#[utoipa::path(
    tag = "instances", security(("bearer" = [])), params(("instance" = uuid::Uuid, Path), LogsQuery),
    responses((status = 200, content((String = "text/plain"), (String = "text/event-stream"))), Problems)
)]
#[get("/instances/{instance}/logs")]
pub(super) async fn instance_logs(
    services: Data<Services>,
    caller: Allowed<DeploymentsRead>,
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
    let instance = instances::over(&services, &caller, &path).await?;
    let wanted =
        LogsRequest { instance_id: instance.id, tail: Some(tail), follow: query.follow, since: query.since };
    let log = services.logs_open(&instance, wanted).await?;
    Ok(if events {
        let followed = Followed {
            log,
            token: bearer(&request)?.into(),
            address: caller.actor.address,
            project: instance.project_id,
            looks: interval_at(Instant::now() + ACCESS_LOOK, ACCESS_LOOK),
            services: services.into_inner(),
        };
        let body = unfold(Some(followed), |followed| async {
            let mut followed = followed?;
            let (chunk, more) = followed.next().await;
            Some((Ok::<_, Error>(chunk), more.then_some(followed)))
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

/// A log as somebody follows it, for as long as that one may.
struct Followed {
    log: OpenLog,
    token: Zeroizing<String>,
    address: Option<String>,
    project: ProjectId,
    looks: Interval,
    services: Arc<Services>,
}

impl Followed {
    /// The next event, and whether there may be more.
    async fn next(&mut self) -> (Bytes, bool) {
        let error = |message: &str| (event("error", &json!({ "message": message })), false);
        let silence = tokio::time::sleep(KEEP_ALIVE);
        tokio::pin!(silence);
        loop {
            // Cancel-safe: a line that loses stays in its channel, a look that loses is made
            // up for by the next, and the stop ends everything.
            tokio::select! {
                item = self.log.next() => return item_event(item),
                () = &mut silence => return (Bytes::from_static(b": still here\n\n"), true),
                () = self.services.stopping.cancelled() => return error("the controller is stopping"),
                _ = self.looks.tick() => {}
            }
            let shown = (self.token.as_str(), self.address.as_deref());
            if !self.services.project_still_allowed(shown, &DeploymentsRead::RULE, self.project).await {
                return error("your access to this log has ended");
            }
        }
    }
}

fn item_event(item: Option<Item>) -> (Bytes, bool) {
    match item {
        None => (event("end", &json!({})), false),
        Some(Err(message)) => (event("error", &json!({ "message": message })), false),
        Some(Ok(line)) => {
            let data = json!({
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
