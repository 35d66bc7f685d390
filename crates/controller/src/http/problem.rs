//! Errors as RFC 9457 problems.

use actix_web::{
    HttpResponse, ResponseError,
    http::{StatusCode, header::RETRY_AFTER},
};
use serde::Serialize;
use utoipa::{IntoResponses, ToSchema};

use super::headers;
use crate::error::{Error, ErrorKind};

/// What every error answer looks like, as `application/problem+json`.
#[derive(Serialize, ToSchema)]
pub struct Problem {
    /// `about:blank`: `code` tells problems apart.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The HTTP status in words.
    title: String,
    /// The HTTP status.
    status: u16,
    /// Stable; for programs.
    code: String,
    /// For people; may be reworded at any time.
    detail: String,
    /// Also in the answer's `X-Request-Id` and in the controller's log.
    request_id: Option<String>,
    /// What is wrong where; empty where it is not about fields.
    errors: Vec<FieldProblem>,
}

/// What is wrong with one field.
#[derive(Serialize, ToSchema)]
pub struct FieldProblem {
    /// Path of the field, such as `ports[0].host_port`.
    field: String,
    /// What is allowed.
    message: String,
}

/// The problems that every operation may answer.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "describes answers; is never made")]
pub enum Problems {
    /// The request cannot be read; the detail names the field.
    #[response(status = 400, content_type = "application/problem+json")]
    Malformed(Problem),
    /// No token, or one that is not good any more.
    #[response(status = 401, content_type = "application/problem+json")]
    Unauthenticated(Problem),
    /// The caller's role does not allow it.
    #[response(status = 403, content_type = "application/problem+json")]
    PermissionDenied(Problem),
    /// It is not there.
    #[response(status = 404, content_type = "application/problem+json")]
    NotFound(Problem),
    /// A name in use, or not in the present state.
    #[response(status = 409, content_type = "application/problem+json")]
    Conflict(Problem),
    /// A body that did not come to its end in time.
    #[response(status = 408, content_type = "application/problem+json")]
    TooSlow(Problem),
    /// A body over 1 MiB.
    #[response(status = 413, content_type = "application/problem+json")]
    TooLarge(Problem),
    /// Fields that are not allowed to be what they are; all are listed.
    #[response(status = 422, content_type = "application/problem+json")]
    Invalid(Problem),
    /// Too often, or too many at once; after `Retry-After` seconds.
    #[response(status = 429, content_type = "application/problem+json")]
    RateLimited(Problem),
    /// Something that it needs is away; later.
    #[response(status = 503, content_type = "application/problem+json")]
    Unavailable(Problem),
}

/// Makes the answer for an error.
pub(super) fn answer(error: &Error, request_id: Option<String>) -> HttpResponse {
    let status = status(error.kind());
    let mut response = HttpResponse::build(status);
    if matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::RateLimited) {
        let wait = error.retries_after().map_or(1, headers::seconds).max(1);
        response.insert_header((RETRY_AFTER, wait));
    }
    if error.kind() == ErrorKind::TooSlow {
        // The rest of the body may come or not; nobody waits for it.
        response.force_close();
    }
    if error.kind() == ErrorKind::Unauthenticated {
        response.insert_header(("WWW-Authenticate", "Bearer"));
    }
    let mut response = response.content_type("application/problem+json").json(Problem {
        kind: "about:blank",
        title: status.canonical_reason().unwrap_or_default().to_owned(),
        status: status.as_u16(),
        code: error.code().to_owned(),
        detail: error.to_string(),
        request_id,
        errors: error
            .fields()
            .iter()
            .map(|f| FieldProblem { field: f.field.clone(), message: f.message.clone() })
            .collect(),
    });
    if let Some(taken) = error.rate() {
        headers::rate(response.headers_mut(), taken);
    }
    response
}

fn status(kind: ErrorKind) -> StatusCode {
    StatusCode::from_u16(kind.codes().0).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

impl ResponseError for Error {
    fn status_code(&self) -> StatusCode {
        status(self.kind())
    }

    /// Only for what never passes `super::respond`, which knows the request's id.
    fn error_response(&self) -> HttpResponse {
        answer(self, None)
    }
}
