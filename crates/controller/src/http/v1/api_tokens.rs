//! API tokens.

use std::time::Duration;

use actix_web::{
    HttpResponse, delete, get, post,
    web::{Data, Path, Query},
};
use chrono::{DateTime, Utc};
use domain::id::UserId;
use serde::{Deserialize, Serialize};
use store::api_token::ApiTokenRow;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::super::{
    extract::{Allowed, Body},
    page::{self, PageView},
    problem::Problems,
};
use crate::{
    auth::{
        caller::{Caller, Decision},
        policy::{AccountsRead, AccountsWrite, OwnTokens, OwnTokensRead, Permission},
    },
    error::Error,
    service::{
        Services,
        identity::{account::account_key, token::TokenWish},
    },
};

/// A new API token.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ApiTokenCreate {
    /// What it is for, 1 to 100 characters.
    name: String,
    /// Names of permissions, `*:read` or `*`, which is meant when left out. With an API token: no more than that one has.
    scopes: Option<Vec<String>>,
    /// 60 to 315360000 (ten years); never when left out. With an API token: not beyond its end, which is meant when left out.
    expires_in_seconds: Option<u64>,
    /// The service account that it is for, by name or id; the caller's own when left out.
    account: Option<String>,
}

/// A new API token; its text is shown once.
#[derive(Serialize, ToSchema)]
pub struct ApiTokenMadeView {
    id: Uuid,
    token: String,
    name: String,
    scopes: Vec<String>,
    expires_at: Option<DateTime<Utc>>,
}

/// An API token.
#[derive(Serialize, ToSchema)]
pub struct ApiTokenView {
    id: Uuid,
    /// Name of the account that it acts for.
    account: String,
    name: String,
    scopes: Vec<String>,
    created_at: DateTime<Utc>,
    /// Null for never.
    expires_at: Option<DateTime<Utc>>,
    /// To the minute; null for never.
    last_used_at: Option<DateTime<Utc>>,
    last_used_address: Option<String>,
}

impl From<ApiTokenRow> for ApiTokenView {
    fn from(token: ApiTokenRow) -> Self {
        Self {
            id: token.id,
            account: token.account,
            name: token.name,
            scopes: token.scopes,
            created_at: token.created_at,
            expires_at: token.expires_at,
            last_used_at: token.last_used_at,
            last_used_address: token.last_used_address,
        }
    }
}

/// Which API tokens.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ApiTokenQuery {
    /// Of this account, by name or id; the caller's own when left out.
    account: Option<String>,
    /// Most items, 1 to 500; 50 when left out.
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Whether a text names the caller's own account.
fn is_own(caller: &Caller, text: &str) -> bool {
    text == caller.name || text.parse::<UserId>().is_ok_and(|id| id == caller.account_id)
}

/// Makes a token that acts as the caller's account, or as a service account.
#[utoipa::path(tag = "api-tokens", security(("bearer" = [])), request_body = ApiTokenCreate, responses((status = 201, body = ApiTokenMadeView), Problems))]
#[post("/api-tokens")]
pub(super) async fn api_token_create(
    services: Data<Services>,
    caller: Allowed<OwnTokens>,
    body: Body<ApiTokenCreate>,
) -> Result<HttpResponse, Error> {
    let ApiTokenCreate { name, scopes, expires_in_seconds, account } = body.read()?;
    let account_id = match account.filter(|account| !is_own(&caller.caller, account)) {
        None => caller.caller.account_id,
        Some(account) => {
            caller.also::<AccountsWrite>(&services, "POST /api/v1/api-tokens for another account").await?;
            let account = services.account_get(&account_key(&account)).await?;
            if account.kind != "service" {
                return Err(Error::invalid_field("account", "must be a service account, or left out"));
            }
            account.id()
        }
    };
    let lifetime = expires_in_seconds.map(Duration::from_secs);
    let scopes = scopes.unwrap_or_else(|| vec!["*".to_owned()]);
    let wish = TokenWish { name: name.clone(), scopes: scopes.clone(), lifetime };
    let made = services.api_token_create_by(&caller.caller, account_id, wish, &caller.actor).await?;
    Ok(HttpResponse::Created().json(ApiTokenMadeView {
        id: made.id,
        token: made.text,
        name,
        scopes,
        expires_at: made.expires_at,
    }))
}

/// Lists API tokens, the oldest first: the caller's own, or another account's for
/// whoever may see accounts.
#[utoipa::path(tag = "api-tokens", security(("bearer" = [])), params(ApiTokenQuery), responses((status = 200, body = PageView<ApiTokenView>), Problems))]
#[get("/api-tokens")]
pub(super) async fn api_token_list(
    services: Data<Services>,
    caller: Allowed<OwnTokensRead>,
    query: Query<ApiTokenQuery>,
) -> Result<HttpResponse, Error> {
    let (cursor, limit) = page::read(query.limit, query.cursor.as_deref())?;
    let account_id = match query.account.as_deref().filter(|account| !is_own(&caller.caller, account)) {
        None => caller.caller.account_id,
        Some(account) => {
            caller.also::<AccountsRead>(&services, "GET /api/v1/api-tokens of another account").await?;
            services.account_get(&account_key(account)).await?.id()
        }
    };
    let tokens = services.store.api_token_list_page(account_id, cursor, limit).await?;
    Ok(HttpResponse::Ok().json(PageView::of(tokens, ApiTokenView::from)))
}

/// Takes an API token back: the caller's own, or anybody's for whoever may change
/// accounts. It is worth nothing from then on.
#[utoipa::path(tag = "api-tokens", security(("bearer" = [])), params(("api_token" = String, Path, description = "Id")), responses((status = 204), Problems))]
#[delete("/api-tokens/{api_token}")]
pub(super) async fn api_token_delete(
    services: Data<Services>,
    caller: Allowed<OwnTokens>,
    path: Path<String>,
) -> Result<HttpResponse, Error> {
    let id = path.parse().map_err(|_| Error::not_found("API token"))?;
    let all = caller.caller.decide(&AccountsWrite::RULE) == Decision::May;
    let of = (!all).then_some(caller.caller.account_id);
    services.store.api_token_delete(id, of, &caller.actor).await?;
    Ok(HttpResponse::NoContent().finish())
}
