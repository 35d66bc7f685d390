//! Cookies: the one place that says what is on them.
//!
//! `HttpOnly`, `SameSite`, a narrow path, a signed value ([`crate::auth::cookie`]),
//! and `Secure` with the name's prefix `__Secure-`, by which browsers take it over
//! TLS only. Only where the UI itself is plain HTTP on this host's loopback is there
//! no TLS that it could come over.

use actix_web::{
    HttpRequest,
    cookie::{Cookie, SameSite, time::Duration as CookieDuration},
};

use crate::{http::client, service::Services};

/// What a cookie is called and where it goes.
#[derive(Clone, Copy)]
pub(super) struct Spec {
    /// Its name, without prefix.
    pub name: &'static str,
    /// The path below which browsers send it.
    pub path: &'static str,
    /// Whether a browser that comes from another site sends it, too.
    pub same_site: SameSite,
}

impl Spec {
    fn full_name(&self, secure: bool) -> String {
        if secure { format!("__Secure-{}", self.name) } else { self.name.to_owned() }
    }

    fn bare(&self, services: &Services, value: String) -> Cookie<'static> {
        let secure = must_be_secure(&services.settings.public_url);
        Cookie::build(self.full_name(secure), value)
            .path(self.path)
            .http_only(true)
            .same_site(self.same_site)
            .secure(secure)
            .finish()
    }

    /// The cookie with a value, for `seconds`.
    pub(super) fn holding(&self, services: &Services, value: &str, seconds: i64) -> Cookie<'static> {
        let mut cookie = self.bare(services, services.cookies.sign(self.name, value));
        cookie.set_max_age(CookieDuration::seconds(seconds));
        cookie
    }

    /// What takes the cookie back from the browser.
    pub(super) fn removal(&self, services: &Services) -> Cookie<'static> {
        let mut cookie = self.bare(services, String::new());
        cookie.set_max_age(CookieDuration::ZERO);
        cookie
    }

    /// The value that the browser brings back, if we signed it.
    pub(super) fn read(&self, services: &Services, request: &HttpRequest) -> Option<String> {
        let name = self.full_name(must_be_secure(&services.settings.public_url));
        let cookie = request.cookie(&name)?;
        services.cookies.verify(self.name, cookie.value())
    }
}

/// Whether cookies are for TLS only: unless the UI is plain HTTP on loopback.
fn must_be_secure(public_url: &str) -> bool {
    let Some(rest) = public_url.strip_prefix("http://") else { return true };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    !client::is_loopback_authority(authority)
}

#[cfg(test)]
mod tests {
    use super::must_be_secure;

    #[test]
    fn cookies_are_for_tls_only_unless_the_ui_is_plain_http_on_loopback() {
        for url in
            ["http://127.0.0.1:6700", "http://127.8.9.1", "http://localhost:80/ui", "http://[::1]:6700"]
        {
            assert!(!must_be_secure(url), "{url}");
        }
        for url in [
            "https://127.0.0.1:6700",
            "https://a.example",
            "http://a.example",
            "http://localhost.a.example",
            "http://127.0.0.1.a.example",
            "http://127.0.0.1@a.example",
            "http://a.example/127.0.0.1",
            "http://[::2]",
        ] {
            assert!(must_be_secure(url), "{url}");
        }
    }
}
