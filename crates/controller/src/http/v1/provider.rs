//! Signing in with GitHub: what browsers pass through, and what the UI calls.
//!
//! Browsers are not programs: what goes wrong between the UI and GitHub is a page.

use actix_web::{
    HttpRequest, HttpResponse,
    cookie::SameSite,
    delete, get,
    http::{StatusCode, header::LOCATION},
    post,
    web::{Data, Query},
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    super::{
        cookie,
        extract::{Allowed, Anonymous, Body, request_id},
        problem::Problems,
    },
    auth::{SessionView, user_agent},
    browser,
};
use crate::{
    auth::{
        oauth::{fault::Fault, github::NAME},
        policy::OwnAccount,
    },
    error::Error,
    service::{
        Services,
        identity::{
            provider::{CameBack, FLOW_SECONDS},
            session::SignInFrom,
        },
    },
};

/// Shows that a browser is the one that began. Only these addresses see it.
const BROWSER: cookie::Spec = cookie::Spec {
    name: "a67_github",
    path: "/api/v1/auth/github",
    // It has to come along when GitHub sends the browser back.
    same_site: SameSite::Lax,
};

/// Where to go in the end.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct BeginQuery {
    /// A path in the UI, such as `/nodes`; `/` when left out.
    return_to: Option<String>,
}

/// What GitHub sends back.
#[derive(Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct CallbackQuery {
    /// Gets GitHub's word, once.
    code: Option<String>,
    /// What the browser was sent out with.
    state: Option<String>,
    /// Why there is no code, such as `access_denied`.
    error: Option<String>,
}

/// A one-time code.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExchangeCreate {
    /// What came as `code` to the UI: `a67c_…`. Good for a minute, once, and in the browser that signed in.
    #[schema(format = Password)]
    code: String,
    /// For browsers: the refresh token goes into a cookie; `false` when left out.
    #[serde(default)]
    cookie: bool,
}

/// A wish to be linked.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LinkCreate {
    /// A path in the UI to go to in the end; `/` when left out.
    return_to: Option<String>,
}

/// Where the browser has to go.
#[derive(Serialize, ToSchema)]
pub struct LinkView {
    /// At GitHub.
    url: String,
}

/// Sends the browser to GitHub to sign in.
///
/// It comes back by way of the callback to `return_to`, with a one-time `code` in the
/// query that [`POST /api/v1/auth/github/exchange`] turns into tokens.
#[utoipa::path(tag = "auth", params(BeginQuery), responses(
    (status = 302, description = "to GitHub, with a cookie for the way back"), Problems))]
#[get("/auth/github")]
pub(super) async fn github_begin(
    services: Data<Services>,
    _from: Anonymous,
    query: Query<BeginQuery>,
) -> Result<HttpResponse, Error> {
    let begun = services.provider_begin(NAME, query.return_to.as_deref(), None).await?;
    Ok(HttpResponse::Found()
        .insert_header((LOCATION, begun.url.as_str()))
        .cookie(BROWSER.holding(&services, &begun.browser, i64::from(FLOW_SECONDS)))
        .finish())
}

/// Takes the browser that comes back from GitHub. Answers pages, for nobody but browsers calls it.
#[utoipa::path(tag = "auth", params(CallbackQuery), responses(
    (status = 302, description = "to the UI: with `code`, or with `linked=github`"),
    (status = 400, content_type = "text/html", description = "not begun in this browser, used, or too late"),
    (status = 403, content_type = "text/html", description = "denied at GitHub, or not allowed here"),
    (status = 409, content_type = "text/html", description = "linked to another account"),
    (status = 502, content_type = "text/html", description = "GitHub is away, or answers what is not understood"),
    (status = 504, content_type = "text/html", description = "GitHub does not answer in time")))]
#[get("/auth/github/callback")]
pub(super) async fn github_callback(
    services: Data<Services>,
    from: Result<Anonymous, Error>,
    request: HttpRequest,
) -> HttpResponse {
    let request_id = request_id(&request).unwrap_or_else(|| "unknown".to_owned());
    let from = match from {
        Ok(from) => from.0,
        Err(error) => return page(&error.into(), &request_id),
    };
    // What cannot be read has no state, and that has its page.
    let query = Query::<CallbackQuery>::from_query(request.query_string());
    let CallbackQuery { code, state, error } = query.map(Query::into_inner).unwrap_or_default();
    let back = CameBack { code, state, error, browser: BROWSER.read(&services, &request) };
    match services.provider_finish(NAME, back, &from).await {
        Ok(url) => HttpResponse::Found().insert_header((LOCATION, url.as_str())).finish(),
        Err(fault) => page(&fault, &request_id),
    }
}

/// Exchanges the one-time code of a sign-in with GitHub for tokens.
#[utoipa::path(tag = "auth", request_body = ExchangeCreate, responses((status = 200, body = SessionView), Problems))]
#[post("/auth/github/exchange")]
pub(super) async fn github_exchange(
    services: Data<Services>,
    from: Anonymous,
    request: HttpRequest,
    body: Body<ExchangeCreate>,
) -> Result<HttpResponse, Error> {
    let ExchangeCreate { code, cookie } = body.read()?;
    let keep = browser::Keep::asked(&services, &request, cookie)?;
    let browser = BROWSER.read(&services, &request);
    let from = SignInFrom { actor: from.0, user_agent: user_agent(&request) };
    let signed_in = services.provider_exchange(NAME, &code, browser.as_deref(), from).await?;
    Ok(keep.answer(&services, signed_in, Some(BROWSER.removal(&services))))
}

/// Begins to link the caller's account to GitHub; the browser then has to go to `url`.
#[utoipa::path(tag = "auth", security(("bearer" = [])), request_body = LinkCreate, responses((status = 200, body = LinkView), Problems))]
#[post("/auth/github/link")]
pub(super) async fn github_link_begin(
    services: Data<Services>,
    caller: Allowed<OwnAccount>,
    body: Body<LinkCreate>,
) -> Result<HttpResponse, Error> {
    let LinkCreate { return_to } = body.read()?;
    let begun = services.provider_begin(NAME, return_to.as_deref(), Some(&caller.caller)).await?;
    Ok(HttpResponse::Ok()
        .cookie(BROWSER.holding(&services, &begun.browser, i64::from(FLOW_SECONDS)))
        .json(LinkView { url: begun.url.into() }))
}

/// Takes the link to GitHub away from the caller's account.
#[utoipa::path(tag = "auth", security(("bearer" = [])), responses((status = 204), Problems))]
#[delete("/auth/github/link")]
pub(super) async fn github_link_delete(
    services: Data<Services>,
    caller: Allowed<OwnAccount>,
) -> Result<HttpResponse, Error> {
    services.provider_unlink(NAME, &caller.caller, &caller.actor).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// What a person sees of a fault: our own words only, nothing of what came in.
fn page(fault: &Fault, request_id: &str) -> HttpResponse {
    let shown = fault.shown();
    let request_id: String =
        request_id.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(64).collect();
    let status = StatusCode::from_u16(shown.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = include_str!("provider.html")
        .replace("{title}", shown.title)
        .replace("{advice}", shown.advice)
        .replace("{code}", shown.code)
        .replace("{request_id}", &request_id);
    let mut response = HttpResponse::build(status);
    if matches!(shown.status, 429 | 502..=504) {
        response.insert_header(("Retry-After", "10"));
    }
    response.content_type("text/html; charset=utf-8").body(body)
}

#[cfg(test)]
mod tests {
    use actix_web::body::MessageBody;

    use super::*;

    #[test]
    fn a_page_says_what_to_do_and_has_no_script_and_nothing_to_fill_in() {
        let response = page(&Fault::NotAllowed, "abc-1<script>");
        assert_eq!(response.status(), StatusCode::FORBIDDEN);
        let body = response.into_body().try_into_bytes().ok().unwrap();
        let text = std::str::from_utf8(&body).unwrap();
        assert!(text.contains("Ask an administrator") && text.contains("abc-1script"), "{text}");
        assert!(!text.contains("<script") && !text.contains("{title}") && !text.contains("{code}"), "{text}");
    }
}
