//! Which other origins' pages may call the API: none, unless they are configured.
//!
//! Without any, no answer has a CORS header, and browsers keep other origins out. With
//! some, exactly those are named, never `*`; and credentials that a browser adds by
//! itself are never allowed: pages show the token that they hold.

use actix_cors::Cors;

/// What a page may read besides the body.
const EXPOSED: [&str; 8] = [
    "ETag",
    "Location",
    "Retry-After",
    "RateLimit-Limit",
    "RateLimit-Remaining",
    "RateLimit-Reset",
    "WWW-Authenticate",
    "X-Request-Id",
];
const ALLOWED: [&str; 6] =
    ["Accept", "Authorization", "Content-Type", "Idempotency-Key", "If-Match", "Last-Event-ID"];
const MAX_AGE_SECONDS: usize = 600;

/// The rule for those origins.
pub(super) fn cors(origins: &[String]) -> Cors {
    let rule = Cors::default()
        .allowed_methods(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"])
        .allowed_headers(ALLOWED)
        .expose_headers(EXPOSED)
        .max_age(MAX_AGE_SECONDS);
    origins.iter().fold(rule, |rule, origin| rule.allowed_origin(origin))
}
