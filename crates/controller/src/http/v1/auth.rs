//! Accounts, sessions, tokens.

use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, get, http::header::USER_AGENT, post, web::Data};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::super::{
    extract::{Admin, Anonymous, Body, Caller, Viewer},
    problem::Problems,
};
use crate::{
    auth::{password::Password, role::Role},
    error::Error,
    service::{
        Services,
        identity::{Caller as Identity, SignInFrom},
    },
};

/// A new account.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RegisterCreate {
    /// What to sign in with: lower-case letters, digits and inner hyphens.
    name: String,
    /// 12 to 72 bytes.
    #[schema(value_type = String, format = Password)]
    password: Password,
    /// An invite; needed unless registration is open. Decides the role.
    invite: Option<String>,
}

/// A sign-in.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LoginCreate {
    /// The account's name.
    name: String,
    /// Its password.
    #[schema(value_type = String, format = Password)]
    password: Password,
}

/// An account.
#[derive(Serialize, ToSchema)]
pub struct AccountView {
    id: Uuid,
    name: String,
    /// `admin`, `operator` or `viewer`.
    role: String,
}

impl From<&Identity> for AccountView {
    fn from(caller: &Identity) -> Self {
        Self {
            id: caller.account_id.uuid(),
            name: caller.name.clone(),
            role: caller.role.as_str().to_owned(),
        }
    }
}

/// A session that has begun.
#[derive(Serialize, ToSchema)]
pub struct SessionView {
    /// Goes into `Authorization: Bearer …`.
    access_token: String,
    /// `Bearer`.
    token_type: &'static str,
    /// When the token stops being good.
    expires_at: DateTime<Utc>,
    account: AccountView,
}

/// Makes an account.
#[utoipa::path(tag = "auth", request_body = RegisterCreate, responses((status = 201, body = AccountView), Problems))]
#[post("/auth/register")]
pub(super) async fn auth_register(
    services: Data<Services>,
    from: Anonymous,
    body: Body<RegisterCreate>,
) -> Result<HttpResponse, Error> {
    let RegisterCreate { name, password, invite } = body.read()?;
    let account = services.account_register(name, password, invite.as_deref(), &from.0).await?;
    Ok(HttpResponse::Created().json(AccountView::from(&account)))
}

/// Signs in with a password.
#[utoipa::path(tag = "auth", request_body = LoginCreate, responses((status = 200, body = SessionView), Problems))]
#[post("/auth/login")]
pub(super) async fn auth_login(
    services: Data<Services>,
    from: Anonymous,
    request: HttpRequest,
    body: Body<LoginCreate>,
) -> Result<HttpResponse, Error> {
    let user_agent = request
        .headers()
        .get(USER_AGENT)
        .and_then(|v| v.to_str().ok())
        .map(|v| v.chars().take(255).collect());
    let LoginCreate { name, password } = body.read()?;
    let signed_in = services.sign_in(&name, password, SignInFrom { actor: from.0, user_agent }).await?;
    Ok(HttpResponse::Ok().json(SessionView {
        access_token: signed_in.access_token,
        token_type: "Bearer",
        expires_at: signed_in.expires_at,
        account: AccountView::from(&signed_in.caller),
    }))
}

/// Ends the session that the token belongs to.
#[utoipa::path(tag = "auth", security(("bearer" = [])), responses((status = 204), Problems))]
#[post("/auth/logout")]
pub(super) async fn auth_logout(
    services: Data<Services>,
    caller: Caller<Viewer>,
) -> Result<HttpResponse, Error> {
    services.sign_out(&caller.identity, &caller.actor).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Says who the token belongs to.
#[utoipa::path(tag = "auth", security(("bearer" = [])), responses((status = 200, body = AccountView), Problems))]
#[get("/auth/me")]
pub(super) async fn auth_me(caller: Caller<Viewer>) -> HttpResponse {
    HttpResponse::Ok().json(AccountView::from(&caller.identity))
}

/// A new invite.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InviteCreate {
    /// `admin`, `operator` or `viewer`.
    role: String,
    /// 60 to 2592000 (30 days); 86400 when left out.
    expires_in_seconds: Option<u64>,
}

/// An invite; its text is shown once.
#[derive(Serialize, ToSchema)]
pub struct InviteView {
    invite: String,
    role: String,
    expires_at: DateTime<Utc>,
}

/// Makes an invite for one account.
#[utoipa::path(tag = "auth", security(("bearer" = [])), request_body = InviteCreate, responses((status = 201, body = InviteView), Problems))]
#[post("/invites")]
pub(super) async fn invite_create(
    services: Data<Services>,
    caller: Caller<Admin>,
    body: Body<InviteCreate>,
) -> Result<HttpResponse, Error> {
    let InviteCreate { role, expires_in_seconds } = body.read()?;
    let role = Role::parse(&role)
        .ok_or_else(|| Error::invalid_field("role", "must be admin, operator or viewer"))?;
    let lifetime = Duration::from_secs(expires_in_seconds.unwrap_or(86_400));
    let (invite, expires_at) = services.invite_create(role, lifetime, &caller.actor).await?;
    Ok(HttpResponse::Created().json(InviteView { invite, role: role.as_str().to_owned(), expires_at }))
}

/// A new API token.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ApiTokenCreate {
    /// What it is for, 1 to 100 characters.
    name: String,
    /// 60 to 315360000 (ten years); never when left out.
    expires_in_seconds: Option<u64>,
}

/// An API token; its text is shown once.
#[derive(Serialize, ToSchema)]
pub struct ApiTokenView {
    id: Uuid,
    token: String,
    name: String,
    expires_at: Option<DateTime<Utc>>,
}

/// Makes a token that acts as the caller's account.
#[utoipa::path(tag = "auth", security(("bearer" = [])), request_body = ApiTokenCreate, responses((status = 201, body = ApiTokenView), Problems))]
#[post("/api-tokens")]
pub(super) async fn api_token_create(
    services: Data<Services>,
    caller: Caller<Viewer>,
    body: Body<ApiTokenCreate>,
) -> Result<HttpResponse, Error> {
    let ApiTokenCreate { name, expires_in_seconds } = body.read()?;
    let lifetime = expires_in_seconds.map(Duration::from_secs);
    let made = services.api_token_create(caller.identity.account_id, &name, lifetime, &caller.actor).await?;
    Ok(HttpResponse::Created().json(ApiTokenView {
        id: made.id,
        token: made.text,
        name,
        expires_at: made.expires_at,
    }))
}
