//! Limits on any request: how many, how large its head, how long it may take.
//!
//! How large a body may be and how slowly it may come is [`super::extract::Body`]'s
//! business; how slowly a head may come, the server's.

use std::{cell::RefCell, future::Future, time::Duration};

use actix_web::{
    Error as ActixError, HttpRequest,
    body::{BoxBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    middleware::Next,
    web::Data,
};
use tokio::time::timeout;

use super::client;
use crate::{
    error::{Error, ErrorKind},
    service::Services,
};

/// Longest path with its query, in bytes.
const URI_MAX_BYTES: usize = 8 * 1024;
/// Most headers' names and values, in bytes. The server itself takes no more than 96
/// headers and 128 KiB.
const HEADERS_MAX_BYTES: usize = 32 * 1024;
/// Longest that a request can ask to be kept waiting.
const WAIT_MAX_SECONDS: u64 = 60;

tokio::task_local! {
    /// The request as its handler got it. An answer needs it, and before the request is
    /// routed nobody may keep it.
    static ROUTED: RefCell<Option<HttpRequest>>;
}

/// Remembers a request that has reached its handler, so that it can be answered even
/// if its handler does not.
pub(super) fn remember(request: &HttpRequest) {
    // Where nothing guards the request, as in the tests of a handler, nothing is kept.
    let _ = ROUTED.try_with(|routed| routed.replace(Some(request.clone())));
}

/// Refuses what is too much, and answers for handlers that take too long.
pub(super) async fn guard(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, ActixError> {
    let limit = match admitted(request.request()) {
        Ok(limit) => limit,
        Err(error) => return Ok(request.error_response(error)),
    };
    let (answer, routed) = keeping(timeout(limit, next.call(request))).await;
    match (answer, routed) {
        (Ok(answer), _) => answer.map(ServiceResponse::map_into_boxed_body),
        (Err(_), Some(routed)) => Ok(ServiceResponse::from_err(timed_out(limit), routed)),
        // It has not even come to its handler: nothing of ours takes that long.
        (Err(_), None) => Err(timed_out(limit).into()),
    }
}

/// Runs `work`, and gives the request that it remembered.
async fn keeping<T>(work: impl Future<Output = T>) -> (T, Option<HttpRequest>) {
    let kept = async {
        let answer = work.await;
        (answer, ROUTED.with(RefCell::take))
    };
    ROUTED.scope(RefCell::default(), kept).await
}

/// How long the request may take, if it may come in at all.
fn admitted(request: &HttpRequest) -> Result<Duration, Error> {
    let services = request.app_data::<Data<Services>>();
    let services = services.ok_or_else(|| Error::internal("the services are not registered"))?;
    if let Some(address) = client::address(request) {
        services.floods.request(address)?;
    }
    let uri = request.uri().path_and_query().map_or(0, |uri| uri.as_str().len());
    if uri > URI_MAX_BYTES {
        let message = format!("a path and its query may have at most {URI_MAX_BYTES} bytes");
        return Err(Error::new(ErrorKind::UriTooLong, "uri_too_long", message));
    }
    let headers: usize =
        request.headers().iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if headers > HEADERS_MAX_BYTES {
        let message = format!("headers may have at most {HEADERS_MAX_BYTES} bytes");
        return Err(Error::new(ErrorKind::HeadersTooLarge, "headers_too_large", message));
    }
    Ok(services.settings.edge.request_timeout + wait_asked_for(request.query_string()))
}

/// What `?wait_seconds=` adds. What is wrong with it, its handler says.
fn wait_asked_for(query: &str) -> Duration {
    let wait = query.split('&').find_map(|pair| pair.strip_prefix("wait_seconds=")?.parse().ok());
    Duration::from_secs(wait.unwrap_or(0).min(WAIT_MAX_SECONDS))
}

fn timed_out(limit: Duration) -> Error {
    let message = format!("this took longer than {} s, and was given up", limit.as_secs());
    Error::new(ErrorKind::Unavailable, "timed_out", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_request_asks_to_wait_is_added_up_to_a_minute() {
        let waits = [
            "",
            "wait_seconds=20",
            "a=1&wait_seconds=20",
            "wait_seconds=9999",
            "wait_seconds=-1",
            "xwait_seconds=9",
        ];
        assert_eq!(waits.map(|query| wait_asked_for(query).as_secs()), [0, 20, 20, 60, 0, 0]);
    }
}
