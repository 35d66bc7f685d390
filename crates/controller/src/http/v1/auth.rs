//! Accounts, sessions, tokens.

use actix_web::{HttpRequest, HttpResponse, get, http::header::USER_AGENT, post, web::Data};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use store::{account::AccountRow, caller::Profile};
use utoipa::ToSchema;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{
    super::{
        extract::{Allowed, Anonymous, Body},
        problem::Problems,
    },
    browser::{self, Keep},
};
use crate::{
    auth::{
        caller::{Caller, Credential},
        password::Password,
        policy::OwnAccount,
        role::Role,
    },
    error::Error,
    service::{
        Services,
        identity::session::{SignInFrom, SignedIn},
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
    /// For browsers: the refresh token goes into a cookie; `false` when left out.
    #[serde(default)]
    cookie: bool,
}

/// An account.
#[derive(Serialize, ToSchema)]
pub struct AccountView {
    id: Uuid,
    name: String,
    /// On the fleet: `admin`, `operator`, `viewer`, or `none`: only what memberships in projects give.
    role: String,
}

impl From<&AccountRow> for AccountView {
    fn from(account: &AccountRow) -> Self {
        Self { id: account.id().uuid(), name: account.name.clone(), role: account.role.clone() }
    }
}

/// A session that has begun.
#[derive(Serialize, ToSchema)]
pub struct SessionView {
    /// Goes into `Authorization: Bearer …`.
    access_token: String,
    /// `Bearer`.
    token_type: &'static str,
    /// When the access token stops being good.
    expires_at: DateTime<Utc>,
    /// Gets the next tokens, once, by `POST /api/v1/auth/refresh`; null where a cookie has it.
    refresh_token: Option<String>,
    /// When the session ends, unless it is refreshed before.
    refresh_expires_at: DateTime<Utc>,
    account: AccountView,
}

impl SessionView {
    /// All of it, but the refresh token only with `shown`.
    pub(super) fn new(signed_in: &SignedIn, shown: bool) -> Self {
        Self {
            access_token: signed_in.access_token.to_string(),
            token_type: "Bearer",
            expires_at: signed_in.expires_at,
            refresh_token: shown.then(|| signed_in.refresh_token.to_string()),
            refresh_expires_at: signed_in.refresh_expires_at,
            account: AccountView::from(&signed_in.account),
        }
    }
}

/// A refresh token that is shown.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Refresh {
    /// Of the last answer; left out by a browser whose cookie has it.
    #[schema(value_type = Option<String>, format = Password)]
    refresh_token: Option<Zeroizing<String>>,
    /// For browsers: the refresh token goes into a cookie; `false` when left out.
    #[serde(default)]
    cookie: bool,
}

/// A new password.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PasswordChange {
    /// The one that it is now.
    #[schema(value_type = String, format = Password)]
    current_password: Password,
    /// 12 to 72 bytes.
    #[schema(value_type = String, format = Password)]
    new_password: Password,
    /// For browsers: the refresh token goes into a cookie; `false` when left out.
    #[serde(default)]
    cookie: bool,
}

/// Who calls.
#[derive(Serialize, ToSchema)]
pub struct MeView {
    id: Uuid,
    name: String,
    /// `user` or `service`.
    kind: &'static str,
    /// On the fleet: `admin`, `operator`, `viewer`, or `none`: only what memberships in projects give.
    role: String,
    email: Option<String>,
    memberships: Vec<MembershipView>,
    credential: CredentialView,
}

/// A role in a project.
#[derive(Serialize, ToSchema)]
pub struct MembershipView {
    project_id: Uuid,
    project: String,
    role: String,
}

/// With what somebody calls.
#[derive(Serialize, ToSchema)]
pub struct CredentialView {
    /// `session` or `api_token`.
    kind: &'static str,
    id: Option<Uuid>,
    /// Of an API token: the names of permissions; null where all that the role has are meant.
    scopes: Option<Vec<String>>,
}

impl MeView {
    fn new(caller: &Caller, profile: Profile) -> Self {
        let credential = match &caller.credential {
            Credential::Session(id) => CredentialView { kind: "session", id: Some(id.uuid()), scopes: None },
            Credential::Token { id, scopes } => {
                CredentialView { kind: "api_token", id: Some(*id), scopes: Some(scopes.clone()) }
            }
            Credential::None => CredentialView { kind: "none", id: None, scopes: None },
        };
        let membership = |(project_id, project, role)| MembershipView { project_id, project, role };
        Self {
            id: caller.account_id.uuid(),
            name: caller.name.clone(),
            kind: caller.kind.as_str(),
            role: caller.role.map_or("none", Role::as_str).to_owned(),
            email: profile.email,
            memberships: profile.memberships.into_iter().map(membership).collect(),
            credential,
        }
    }
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
    let LoginCreate { name, password, cookie } = body.read()?;
    let keep = Keep::asked(&services, &request, cookie)?;
    let from = SignInFrom { actor: from.0, user_agent: user_agent(&request) };
    let signed_in = services.sign_in(&name, password, from).await?;
    Ok(keep.answer(&services, signed_in, None))
}

/// What the client calls itself, as far as it is kept.
pub(super) fn user_agent(request: &HttpRequest) -> Option<String> {
    let value = request.headers().get(USER_AGENT)?.to_str().ok()?;
    Some(value.chars().take(255).collect())
}

/// Ends the session that the token belongs to. A browser's cookie goes with it.
#[utoipa::path(tag = "auth", security(("bearer" = [])), responses((status = 204), Problems))]
#[post("/auth/logout")]
pub(super) async fn auth_logout(
    services: Data<Services>,
    caller: Allowed<OwnAccount>,
) -> Result<HttpResponse, Error> {
    services.sign_out(&caller.caller, &caller.actor).await?;
    Ok(browser::forgotten(&services))
}

/// Ends all sessions of the account that the token belongs to.
#[utoipa::path(tag = "auth", security(("bearer" = [])), responses((status = 204), Problems))]
#[post("/auth/logout-all")]
pub(super) async fn auth_logout_all(
    services: Data<Services>,
    caller: Allowed<OwnAccount>,
) -> Result<HttpResponse, Error> {
    services.sign_out_everywhere(&caller.caller, &caller.actor).await?;
    Ok(browser::forgotten(&services))
}

/// Continues a session: gives new tokens for its refresh token, which is good once.
///
/// A token that was used before ends the whole session, for then two have it; only within
/// ten seconds after its use it is good again, for two tabs that refresh at once.
///
/// A browser whose cookie has the token sends `{"cookie": true}`, from a page of this
/// controller: its `Origin` has to be ours.
#[utoipa::path(tag = "auth", request_body = Refresh, responses((status = 200, body = SessionView), Problems))]
#[post("/auth/refresh")]
pub(super) async fn auth_refresh(
    services: Data<Services>,
    from: Anonymous,
    request: HttpRequest,
    body: Body<Refresh>,
) -> Result<HttpResponse, Error> {
    let Refresh { refresh_token, cookie } = body.read()?;
    let keep = Keep::asked(&services, &request, cookie)?;
    let shown = match refresh_token {
        Some(token) => token,
        None => keep.kept(&services, &request)?,
    };
    let signed_in = services.session_refresh(&shown, &from.0).await?;
    Ok(keep.answer(&services, signed_in, None))
}

/// Changes the password, ends all sessions of the account, and gives the tokens of a new one.
#[utoipa::path(tag = "auth", security(("bearer" = [])), request_body = PasswordChange, responses((status = 200, body = SessionView), Problems))]
#[post("/auth/password")]
pub(super) async fn auth_password(
    services: Data<Services>,
    caller: Allowed<OwnAccount>,
    request: HttpRequest,
    body: Body<PasswordChange>,
) -> Result<HttpResponse, Error> {
    let PasswordChange { current_password, new_password, cookie } = body.read()?;
    let keep = Keep::asked(&services, &request, cookie)?;
    let from = SignInFrom { actor: caller.actor, user_agent: user_agent(&request) };
    let signed_in = services.password_change((&caller.caller, from), current_password, new_password).await?;
    Ok(keep.answer(&services, signed_in, None))
}

/// Says who the token belongs to, and what that one may.
#[utoipa::path(tag = "auth", security(("bearer" = [])), responses((status = 200, body = MeView), Problems))]
#[get("/auth/me")]
pub(super) async fn auth_me(
    services: Data<Services>,
    caller: Allowed<OwnAccount>,
) -> Result<HttpResponse, Error> {
    let profile = services.store.account_profile(caller.caller.account_id).await?;
    Ok(HttpResponse::Ok().json(MeView::new(&caller.caller, profile)))
}
