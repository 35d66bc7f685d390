//! Accounts, as administrators see and change them.

use actix_web::{
    HttpResponse, get, patch, post,
    web::{Data, Path, Query},
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use store::account::AccountRow;
use utoipa::ToSchema;
use uuid::Uuid;

use super::super::{
    extract::{Allowed, Body},
    page::{PageQuery, PageView},
    problem::Problems,
};
use crate::{
    auth::{
        password::Password,
        policy::{AccountsRead, AccountsWrite},
    },
    error::Error,
    service::{
        Services,
        identity::account::{AccountWish, account_key, role_or_none},
    },
};

/// A new account.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AccountCreate {
    /// What to sign in with: lower-case letters, digits and inner hyphens.
    name: String,
    /// `admin`, `operator`, `viewer`, or `none`: only what memberships in projects give.
    role: String,
    /// `user` or `service`, which never signs in and acts by API tokens; `user` when left out.
    kind: Option<String>,
    /// 12 to 72 bytes; needed for a user, and not allowed for a service.
    #[schema(value_type = Option<String>, format = Password)]
    password: Option<Password>,
}

/// What is to change of an account; what is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AccountUpdate {
    /// `admin`, `operator`, `viewer` or `none`. Another one ends the account's sessions.
    role: Option<String>,
    /// Whether it may do nothing any more. Sessions end; API tokens work again when it may again.
    disabled: Option<bool>,
}

/// An account, as administrators see it.
#[derive(Serialize, ToSchema)]
pub struct AccountRecordView {
    id: Uuid,
    name: String,
    /// `user` or `service`.
    kind: String,
    /// On the fleet: `admin`, `operator`, `viewer`, or `none`: only what memberships in projects give.
    role: String,
    /// Null where none is known and proven.
    email: Option<String>,
    /// Whether it can sign in with a password.
    has_password: bool,
    created_at: DateTime<Utc>,
    /// Since when it may do nothing; null while it may act.
    disabled_at: Option<DateTime<Utc>>,
}

impl From<AccountRow> for AccountRecordView {
    fn from(account: AccountRow) -> Self {
        Self {
            id: account.id().uuid(),
            has_password: account.password_hash.is_some(),
            name: account.name,
            kind: account.kind,
            role: account.role,
            email: account.email,
            created_at: account.created_at,
            disabled_at: account.disabled_at,
        }
    }
}

/// Makes an account.
#[utoipa::path(tag = "accounts", security(("bearer" = [])), request_body = AccountCreate, responses((status = 201, body = AccountRecordView), Problems))]
#[post("/accounts")]
pub(super) async fn account_create(
    services: Data<Services>,
    caller: Allowed<AccountsWrite>,
    body: Body<AccountCreate>,
) -> Result<HttpResponse, Error> {
    let AccountCreate { name, role, kind, password } = body.read()?;
    let service = match kind.as_deref() {
        None | Some("user") => false,
        Some("service") => true,
        Some(_) => return Err(Error::invalid_field("kind", "must be user or service")),
    };
    let wish = AccountWish { name, role: role_or_none(&role)?, service, password };
    let account = services.account_make(wish, &caller.actor).await?;
    Ok(HttpResponse::Created().json(AccountRecordView::from(account)))
}

/// Lists accounts, the oldest first.
#[utoipa::path(tag = "accounts", security(("bearer" = [])), params(PageQuery), responses((status = 200, body = PageView<AccountRecordView>), Problems))]
#[get("/accounts")]
pub(super) async fn account_list(
    services: Data<Services>,
    _caller: Allowed<AccountsRead>,
    page: Query<PageQuery>,
) -> Result<HttpResponse, Error> {
    let (cursor, limit) = page.read()?;
    let accounts = services.store.account_list_page(cursor, limit).await?;
    Ok(HttpResponse::Ok().json(PageView::of(accounts, AccountRecordView::from)))
}

/// Shows an account, by name or id.
#[utoipa::path(tag = "accounts", security(("bearer" = [])), params(("account" = String, Path, description = "Name or id")), responses((status = 200, body = AccountRecordView), Problems))]
#[get("/accounts/{account}")]
pub(super) async fn account_get(
    services: Data<Services>,
    _caller: Allowed<AccountsRead>,
    path: Path<String>,
) -> Result<HttpResponse, Error> {
    let account = services.account_get(&account_key(&path)).await?;
    Ok(HttpResponse::Ok().json(AccountRecordView::from(account)))
}

/// Changes an account's role, or whether it may act. Ends its sessions. The last
/// enabled administrator stays one.
#[utoipa::path(tag = "accounts", security(("bearer" = [])), params(("account" = String, Path, description = "Name or id")), request_body = AccountUpdate, responses((status = 200, body = AccountRecordView), Problems))]
#[patch("/accounts/{account}")]
pub(super) async fn account_update(
    services: Data<Services>,
    caller: Allowed<AccountsWrite>,
    path: Path<String>,
    body: Body<AccountUpdate>,
) -> Result<HttpResponse, Error> {
    let account = services.account_get(&account_key(&path)).await?;
    let AccountUpdate { role, disabled } = body.read()?;
    let role = role.as_deref().map(role_or_none).transpose()?;
    let account = services.account_update(account.id(), role, disabled, &caller.actor).await?;
    Ok(HttpResponse::Ok().json(AccountRecordView::from(account)))
}
