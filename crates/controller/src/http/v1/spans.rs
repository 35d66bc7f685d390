//! The span around each request: what its log lines carry.
//!
//! Method and route, never the path as it came or its query: a hostile path is
//! no log line, and a token that somebody put into a query is not written down.

use actix_web::{
    Error, HttpMessage, HttpRequest,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
};
use tracing::Span;
use tracing_actix_web::{RequestId, RootSpanBuilder};

/// Makes them.
pub struct Spans;

impl RootSpanBuilder for Spans {
    fn on_request_start(request: &ServiceRequest) -> Span {
        let id = request.extensions().get::<RequestId>().map(ToString::to_string).unwrap_or_default();
        let route = request.match_pattern().unwrap_or_else(|| "none".to_owned());
        tracing::info_span!("request", request.id = id, method = %request.method(), route, status = tracing::field::Empty)
    }

    fn on_request_end<B: MessageBody>(span: Span, outcome: &Result<ServiceResponse<B>, Error>) {
        let status = match outcome {
            Ok(response) => response.status(),
            Err(error) => error.as_response_error().status_code(),
        };
        span.record("status", status.as_u16());
        let quiet = outcome.as_ref().is_ok_and(|r| is_probe(r.request()));
        if !quiet {
            span.in_scope(|| tracing::debug!(status = status.as_u16(), "request answered"));
        }
    }
}

fn is_probe(request: &HttpRequest) -> bool {
    matches!(request.path(), "/healthz" | "/readyz")
}
