//! The web UI, to browsers: its files, and its page under every path that is nothing
//! else, so that a link into the UI works.

use actix_web::{
    HttpRequest, HttpResponse,
    http::{
        Method,
        header::{
            ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, VARY,
        },
    },
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use dashboard::{Coding, File};
use ring::rand::{SecureRandom, SystemRandom};

use super::{guard, no_such_route};
use crate::error::Error;

/// What is not the UI's, with all that is below; what is not there is told by a problem.
const RESERVED: [&str; 7] =
    ["/api", "/assets", "/healthz", "/readyz", "/version", "/metrics", "/.well-known"];

/// Serves whatever no other route does.
pub(super) async fn serve(request: HttpRequest) -> Result<HttpResponse, Error> {
    guard::remember(&request);
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Err(no_such_route());
    }
    let path = request.path();
    if let Some(file) = path.strip_prefix('/').and_then(dashboard::file) {
        return Ok(answer(&request, file));
    }
    if is_reserved(path) { Err(no_such_route()) } else { page() }
}

fn is_reserved(path: &str) -> bool {
    RESERVED.iter().any(|reserved| {
        path.strip_prefix(reserved).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

fn answer(request: &HttpRequest, file: File) -> HttpResponse {
    let accepted = request.headers().get(ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or("");
    let (coding, bytes) = file.bytes(|coding| accepts(accepted, coding));
    let cache =
        if file.is_immutable() { "public, max-age=31536000, immutable" } else { "public, max-age=3600" };
    let mut response = HttpResponse::Ok();
    response
        .insert_header((CONTENT_TYPE, file.media_type()))
        .insert_header((CACHE_CONTROL, cache))
        .insert_header((VARY, "accept-encoding"));
    if let Some(name) = name(coding) {
        response.insert_header((CONTENT_ENCODING, name));
    }
    response.body(bytes)
}

const fn name(coding: Coding) -> Option<&'static str> {
    match coding {
        Coding::Brotli => Some("br"),
        Coding::Gzip => Some("gzip"),
        Coding::Plain => None,
    }
}

/// Whether an `Accept-Encoding` names a coding, and not with the quality 0.
fn accepts(header: &str, coding: Coding) -> bool {
    let Some(wanted) = name(coding) else { return true };
    header.split(',').any(|part| {
        let mut words = part.split(';').map(str::trim);
        let is_named = words.next().is_some_and(|word| word.eq_ignore_ascii_case(wanted));
        let is_refused = words.filter_map(|word| word.strip_prefix("q=")).any(|q| q.parse() == Ok(0.0_f32));
        is_named && !is_refused
    })
}

/// The page. Scripts and styles come from this origin alone; the styles that its
/// components make by themselves carry a nonce, which is another one each time.
fn page() -> Result<HttpResponse, Error> {
    let mut bytes = [0_u8; 18];
    SystemRandom::new().fill(&mut bytes).map_err(|_| Error::internal("there are no random numbers"))?;
    let nonce = URL_SAFE_NO_PAD.encode(bytes);
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self' 'nonce-{nonce}'; img-src 'self' data:; \
         font-src 'self'; connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; \
         frame-ancestors 'none'"
    );
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_SECURITY_POLICY, policy))
        .content_type("text/html; charset=utf-8")
        .body(dashboard::page(&nonce)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_the_api_and_of_machines_are_never_pages() {
        for path in ["/api", "/api/v1/none", "/healthz", "/metrics", "/.well-known/x", "/assets/gone.js"] {
            assert!(is_reserved(path), "{path}");
        }
        for path in ["/", "/nodes", "/apiary", "/versions", "/deployments/api"] {
            assert!(!is_reserved(path), "{path}");
        }
    }

    #[test]
    fn a_coding_is_taken_only_where_it_is_accepted() {
        assert!(accepts("gzip, deflate, br", Coding::Brotli));
        assert!(accepts("GZIP;q=0.5", Coding::Gzip));
        assert!(!accepts("gzip", Coding::Brotli));
        assert!(!accepts("br;q=0, gzip", Coding::Brotli));
        assert!(!accepts("", Coding::Gzip));
        assert!(accepts("", Coding::Plain));
    }
}
