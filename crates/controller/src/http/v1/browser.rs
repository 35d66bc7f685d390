//! What only browsers need: their refresh token in a cookie, and what to offer to
//! whoever is not signed in.
//!
//! A script on a page could read whatever a page keeps; a cookie with `HttpOnly` it
//! cannot. But a browser sends cookies by itself, so wherever this one is set or used
//! the request has to come from a page of ours: `SameSite=Strict` keeps it back
//! from other sites, and the `Origin` is looked at as well, for a site is more than an
//! origin.

use actix_web::{
    HttpRequest, HttpResponse,
    cookie::{Cookie, SameSite},
    get,
    http::header::{HOST, ORIGIN},
    web::Data,
};
use chrono::Utc;
use serde::Serialize;
use utoipa::ToSchema;
use zeroize::Zeroizing;

use super::{
    super::{cookie, guard, problem::Problems},
    auth::SessionView,
};
use crate::{
    error::{Error, ErrorKind},
    service::{Services, identity::session::SignedIn},
};

/// Holds a browser's refresh token. Only these addresses see it.
const REFRESH: cookie::Spec =
    cookie::Spec { name: "a67_refresh", path: "/api/v1/auth", same_site: SameSite::Strict };

/// Where a client keeps its refresh token.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    /// Wherever it likes: it gets it in the answer's body.
    Itself,
    /// In a cookie: it is a browser, on a page of ours.
    Cookie,
}

impl Keep {
    /// What the client asks for.
    ///
    /// # Errors
    /// When it wants a cookie, and is not on a page of ours.
    pub(super) fn asked(services: &Services, request: &HttpRequest, cookie: bool) -> Result<Self, Error> {
        if !cookie {
            return Ok(Self::Itself);
        }
        let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
        if is_own_origin(&services.settings.public_url, header(ORIGIN), header(HOST)) {
            return Ok(Self::Cookie);
        }
        let message = "a cookie is only for pages of this controller; see public_url";
        Err(Error::new(ErrorKind::PermissionDenied, "origin_not_allowed", message))
    }

    /// The refresh token that the client's cookie has.
    ///
    /// # Errors
    /// When it keeps the token itself and has not sent it, or there is no good cookie.
    pub(super) fn kept(self, services: &Services, request: &HttpRequest) -> Result<Zeroizing<String>, Error> {
        if self == Self::Itself {
            return Err(Error::malformed_field("refresh_token", "missing field `refresh_token`"));
        }
        REFRESH.read(services, request).map(Zeroizing::new).ok_or_else(|| {
            Error::new(ErrorKind::Unauthenticated, "no_cookie", "there is no session to continue")
        })
    }

    /// The tokens of a session; the refresh token goes where the client keeps it.
    pub(super) fn answer(
        self,
        services: &Services,
        signed_in: SignedIn,
        also: Option<Cookie<'static>>,
    ) -> HttpResponse {
        let mut response = HttpResponse::Ok();
        if let Some(cookie) = also {
            response.cookie(cookie);
        }
        if self == Self::Cookie {
            let seconds = (signed_in.refresh_expires_at - Utc::now()).num_seconds().max(0);
            response.cookie(REFRESH.holding(services, &signed_in.refresh_token, seconds));
        }
        response.json(SessionView::new(&signed_in, self == Self::Itself))
    }
}

/// The answer to whoever signed out; a browser drops its cookie.
pub(super) fn forgotten(services: &Services) -> HttpResponse {
    HttpResponse::NoContent().cookie(REFRESH.removal(services)).finish()
}

/// Whether a request comes from a page of ours: one under `public_url`, or under the
/// host that the request itself is for. A page elsewhere can change neither header.
fn is_own_origin(public_url: &str, origin: Option<&str>, host: Option<&str>) -> bool {
    let Some((scheme, authority)) = origin.and_then(|origin| origin.split_once("://")) else { return false };
    if !matches!(scheme, "http" | "https") || authority.is_empty() {
        return false;
    }
    let public = url::Url::parse(public_url).ok().map(|url| url.origin().ascii_serialization());
    public.as_deref() == origin || host.is_some_and(|host| host.eq_ignore_ascii_case(authority))
}

/// How one may sign in here.
#[derive(Serialize, ToSchema)]
pub struct MethodsView {
    /// With a name and a password.
    password: bool,
    /// With GitHub: by `GET /api/v1/auth/github`.
    github: bool,
    /// Who may register: `open`, `invite` or `closed`.
    registration: String,
}

/// Says how one may sign in and register.
#[utoipa::path(tag = "auth", responses((status = 200, body = MethodsView), Problems))]
#[get("/auth/methods")]
pub(super) async fn auth_methods(
    services: Data<Services>,
    request: HttpRequest,
) -> Result<HttpResponse, Error> {
    guard::remember(&request);
    let registration = services.registration().await?.effective.as_str().to_owned();
    let github = services.has_provider(crate::auth::oauth::github::NAME);
    Ok(HttpResponse::Ok().json(MethodsView { password: true, github, registration }))
}

#[cfg(test)]
mod tests {
    use super::is_own_origin;

    #[test]
    fn a_page_is_ours_under_the_public_url_or_the_host_that_is_asked() {
        let ours = |origin, host| is_own_origin("https://a67.example/ui", Some(origin), host);
        assert!(ours("https://a67.example", Some("10.0.0.1:6700")), "a proxy changed the host");
        assert!(ours("http://10.0.0.1:6700", Some("10.0.0.1:6700")));
        assert!(ours("http://A67.local", Some("a67.local")));
        for origin in [
            "https://evil.example",
            "https://a67.example.evil.example",
            "https://a67.example:8443",
            "http://a67.example",
            "null",
            "",
            "https://",
            "file://10.0.0.1:6700",
        ] {
            assert!(!ours(origin, Some("10.0.0.1:6700")), "{origin}");
        }
        assert!(!ours("https://", Some("")));
        assert!(!is_own_origin("https://a67.example", None, Some("a67.example")), "no browser");
    }
}
