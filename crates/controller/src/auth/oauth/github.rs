//! GitHub, and GitHub Enterprise Server.
//!
//! Every call has a deadline, follows no redirect and reads a bounded body. The access
//! token lives as long as one sign-in, and is kept nowhere.

mod reply;

use std::time::Duration;

use futures_util::future::try_join_all;
use oauth2::{
    AuthType, AuthUrl, AuthorizationCode, ClientId, ClientSecret, CsrfToken, EndpointNotSet, EndpointSet,
    PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, RequestTokenError, Scope, TokenResponse, TokenUrl,
    basic::BasicClient,
};
use reqwest::{
    StatusCode,
    header::{ACCEPT, HeaderMap, HeaderName, HeaderValue},
};
use url::Url;
use zeroize::Zeroizing;

use self::reply::{Mail, Membership, User};
use super::{
    Departure, Profile,
    allow::{Allow, Facts, Team},
    fault::Fault,
};

/// What it is called in addresses, rows and records.
pub const NAME: &str = "github";
/// Largest answer that is read.
const BODY_MAX_BYTES: usize = 1024 * 1024;
/// Longest time to a connection.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// Questions about memberships that are asked at once.
const AT_ONCE: usize = 4;
/// A sign-in may take this many times as long as one call.
const CALLS_MAX: u32 = 2;
const USER_AGENT: &str = concat!("automator67-controller/", env!("CARGO_PKG_VERSION"));
const API_VERSION: &str = "2022-11-28";

/// How it is set up. Holds a secret: no `Debug`.
pub struct GithubSettings {
    /// Of the OAuth app.
    pub client_id: String,
    /// Of the OAuth app.
    pub client_secret: Zeroizing<String>,
    /// Where people sign in.
    pub url: Url,
    /// Where the API is.
    pub api_url: Url,
    /// Where GitHub sends browsers back to.
    pub callback_url: Url,
    /// Who is let in.
    pub allow: Allow,
    /// Longest time of one call.
    pub timeout: Duration,
}

/// GitHub, as it is set up.
pub struct Github {
    oauth: BasicClient<EndpointSet, EndpointNotSet, EndpointNotSet, EndpointNotSet, EndpointSet>,
    http: reqwest::Client,
    api_url: Url,
    allow: Allow,
    timeout: Duration,
}

/// Something went wrong on the way of a request.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
struct OnTheWay(#[from] Fault);

impl Github {
    /// Takes the settings over. Asks nobody anything.
    ///
    /// # Errors
    /// When there is no TLS to be had: the system's trusted certificates cannot be read.
    pub fn new(settings: GithubSettings) -> Result<Self, reqwest::Error> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/vnd.github+json"));
        headers
            .insert(HeaderName::from_static("x-github-api-version"), HeaderValue::from_static(API_VERSION));
        let secure = settings.url.scheme() == "https" && settings.api_url.scheme() == "https";
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_MAX.min(settings.timeout))
            .timeout(settings.timeout)
            .https_only(secure)
            .user_agent(USER_AGENT)
            .default_headers(headers)
            .build()?;
        let oauth = BasicClient::new(ClientId::new(settings.client_id))
            .set_client_secret(ClientSecret::new(settings.client_secret.to_string()))
            .set_auth_type(AuthType::RequestBody)
            .set_auth_uri(AuthUrl::from_url(below(&settings.url, &["login", "oauth", "authorize"])))
            .set_token_uri(TokenUrl::from_url(below(&settings.url, &["login", "oauth", "access_token"])))
            .set_redirect_uri(RedirectUrl::from_url(settings.callback_url));
        Ok(Self { oauth, http, api_url: settings.api_url, allow: settings.allow, timeout: settings.timeout })
    }

    /// Who is let in.
    #[must_use]
    pub const fn allow(&self) -> &Allow {
        &self.allow
    }

    /// Where a browser goes to sign in.
    #[must_use]
    pub fn begin(&self) -> Departure {
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let asks_about_members = !self.allow.organizations().is_empty() || !self.allow.teams().is_empty();
        let scopes = ["read:user", "user:email"].into_iter().chain(asks_about_members.then_some("read:org"));
        let (url, state) = self
            .oauth
            .authorize_url(|| CsrfToken::new_random_len(32))
            .add_scopes(scopes.map(|scope| Scope::new(scope.to_owned())))
            .set_pkce_challenge(challenge)
            .url();
        Departure {
            url,
            state: Zeroizing::new(state.into_secret()),
            verifier: Zeroizing::new(verifier.into_secret()),
        }
    }

    /// Asks who came back with a code.
    ///
    /// # Errors
    /// See [`super::Provider::profile`].
    pub async fn profile(&self, code: String, verifier: Zeroizing<String>) -> Result<Profile, Fault> {
        let whole = self.timeout.saturating_mul(CALLS_MAX);
        tokio::time::timeout(whole, self.ask(code, verifier)).await.unwrap_or(Err(Fault::Slow))
    }

    async fn ask(&self, code: String, verifier: Zeroizing<String>) -> Result<Profile, Fault> {
        let token = self.exchange(code, verifier).await?;
        let user = User::read(&self.get(&["user"], &token).await?.good()?)?;
        let email = match &user.email {
            Some(email) => email.clone(),
            None => {
                let mails = self.get(&["user", "emails"], &token).await?.good()?;
                Mail::primary_verified(&mails)?.ok_or(Fault::NoVerifiedMail)?
            }
        };
        let facts = self.facts(&user, &token).await?;
        let admission = self.allow.decide(&facts);
        Ok(Profile { subject: facts.subject, login: facts.login, email, admission })
    }

    /// Gets an access token for a code.
    async fn exchange(&self, code: String, verifier: Zeroizing<String>) -> Result<Zeroizing<String>, Fault> {
        let http = self.http.clone();
        let send = move |request| token_request(http.clone(), request);
        let request = self
            .oauth
            .exchange_code(AuthorizationCode::new(code))
            .set_pkce_verifier(PkceCodeVerifier::new(verifier.to_string()));
        match request.request_async(&send).await {
            Ok(token) => Ok(Zeroizing::new(token.access_token().secret().clone())),
            Err(RequestTokenError::Request(OnTheWay(fault))) => Err(fault),
            Err(RequestTokenError::ServerResponse(said)) => Err(reply::token_fault(said.error().as_ref())),
            // These hold the answer, which may hold a token: neither is kept.
            Err(RequestTokenError::Parse(..)) => Err(Fault::Nonsense("the token is not one")),
            Err(RequestTokenError::Other(_)) => Err(Fault::Nonsense("the answer about the token is none")),
        }
    }

    /// Asks about the memberships that matter here, and no others.
    async fn facts(&self, user: &User, token: &str) -> Result<Facts, Fault> {
        let mut facts = Facts { login: user.login.clone(), subject: user.id.to_string(), ..Facts::default() };
        for organization in self.allow.organizations() {
            if self.is_member(&["user", "memberships", "orgs", organization], token).await? {
                facts.organizations.insert(organization.clone());
            }
        }
        let teams: Vec<Team> = self.allow.teams().into_iter().collect();
        for some in teams.chunks(AT_ONCE) {
            let asked: Vec<_> = some.iter().map(|team| self.is_in_team(team, user, token)).collect();
            let found = try_join_all(asked).await?;
            facts.teams.extend(some.iter().zip(found).filter(|(_, is)| *is).map(|(team, _)| team.clone()));
        }
        Ok(facts)
    }

    async fn is_in_team(&self, team: &Team, user: &User, token: &str) -> Result<bool, Fault> {
        let path = ["orgs", &team.organization, "teams", &team.slug, "memberships", &user.login];
        self.is_member(&path, token).await
    }

    /// Whether there is an active membership; one that is only invited is none.
    async fn is_member(&self, path: &[&str], token: &str) -> Result<bool, Fault> {
        let answer = self.get(path, token).await?;
        match answer.status {
            // Not a member; not visible; or the organisation has not approved this application.
            StatusCode::NOT_FOUND => Ok(false),
            StatusCode::FORBIDDEN if !reply::is_rate_limited(&answer.headers) => Ok(false),
            _ => Membership::is_active(&answer.good()?),
        }
    }

    async fn get(&self, path: &[&str], token: &str) -> Result<Answer, Fault> {
        let request = self.http.get(below(&self.api_url, path)).bearer_auth(token);
        Answer::read(request.send().await.map_err(away)?).await
    }
}

/// Carries a request about a token for the library.
async fn token_request(
    http: reqwest::Client,
    request: oauth2::HttpRequest,
) -> Result<oauth2::HttpResponse, OnTheWay> {
    let request = reqwest::Request::try_from(request).map_err(away)?;
    let answer = Answer::read(http.execute(request).await.map_err(away)?).await?;
    // GitHub says 200 to a code that is not good; the library looks at the status.
    let is_error = answer.status.is_success() && reply::is_error(&answer.body);
    let status = if is_error { StatusCode::BAD_REQUEST } else { answer.status };
    let mut response = oauth2::HttpResponse::new(answer.body);
    *response.status_mut() = status;
    *response.headers_mut() = answer.headers;
    Ok(response)
}

/// An answer that was read to its end.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    async fn read(mut response: reqwest::Response) -> Result<Self, Fault> {
        let (status, headers) = (response.status(), std::mem::take(response.headers_mut()));
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(away)? {
            if body.len() + chunk.len() > BODY_MAX_BYTES {
                return Err(Fault::Nonsense("it is longer than is read"));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Self { status, headers, body })
    }

    /// The body of a good one.
    fn good(self) -> Result<Vec<u8>, Fault> {
        match self.status {
            StatusCode::OK => Ok(self.body),
            StatusCode::UNAUTHORIZED => Err(Fault::Nonsense("the token it just gave is not good")),
            status => Err(Fault::Away(format!("it answers {}", status.as_u16()).into())),
        }
    }
}

fn away(error: reqwest::Error) -> Fault {
    if error.is_timeout() { Fault::Slow } else { Fault::Away(error.without_url().into()) }
}

/// An address below another, whatever the parts hold.
fn below(base: &Url, path: &[&str]) -> Url {
    let mut url = base.clone();
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend(path);
    }
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_below_what_is_configured_whatever_the_parts_hold() {
        let base = Url::parse("https://ghe.example/api/v3").unwrap();
        assert_eq!(below(&base, &["user", "emails"]).as_str(), "https://ghe.example/api/v3/user/emails");
        let slash = Url::parse("https://ghe.example/api/v3/").unwrap();
        assert_eq!(
            below(&slash, &["orgs", "a/../b?c#d"]).as_str(),
            "https://ghe.example/api/v3/orgs/a%2F..%2Fb%3Fc%23d"
        );
    }
}
