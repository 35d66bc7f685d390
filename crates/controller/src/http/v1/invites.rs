//! Invites: each makes one account.

use std::time::Duration;

use actix_web::{
    HttpResponse, delete, get, post,
    web::{Data, Path, Query},
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use store::invite::Invite;
use utoipa::ToSchema;
use uuid::Uuid;

use super::super::{
    extract::{Allowed, Body},
    page::{PageQuery, PageView},
    problem::Problems,
};
use crate::{
    auth::policy::{AccountsRead, AccountsWrite},
    error::Error,
    service::{
        Services,
        identity::account::{role_name, role_or_none},
    },
};

/// A new invite.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InviteCreate {
    /// `admin`, `operator`, `viewer`, or `none`: only what memberships in projects give.
    role: String,
    /// 60 to 2592000 (30 days); 86400 when left out.
    expires_in_seconds: Option<u64>,
}

/// A new invite; its text is shown once.
#[derive(Serialize, ToSchema)]
pub struct InviteMadeView {
    id: Uuid,
    invite: String,
    role: String,
    expires_at: DateTime<Utc>,
}

/// An invite.
#[derive(Serialize, ToSchema)]
pub struct InviteView {
    id: Uuid,
    role: String,
    /// Name of the account that made it; null for one of the controller's own.
    created_by: Option<String>,
    created_at: DateTime<Utc>,
    expires_at: DateTime<Utc>,
    /// Null while it can be used.
    used_at: Option<DateTime<Utc>>,
    /// Whether the controller made it for the first account.
    bootstrap: bool,
}

impl From<Invite> for InviteView {
    fn from(invite: Invite) -> Self {
        let Invite { id, role, created_by, created_at, expires_at, used_at, bootstrap } = invite;
        Self { id, role, created_by, created_at, expires_at, used_at, bootstrap }
    }
}

/// Makes an invite for one account.
#[utoipa::path(tag = "accounts", security(("bearer" = [])), request_body = InviteCreate, responses((status = 201, body = InviteMadeView), Problems))]
#[post("/invites")]
pub(super) async fn invite_create(
    services: Data<Services>,
    caller: Allowed<AccountsWrite>,
    body: Body<InviteCreate>,
) -> Result<HttpResponse, Error> {
    let InviteCreate { role, expires_in_seconds } = body.read()?;
    let role = role_or_none(&role)?;
    let lifetime = Duration::from_secs(expires_in_seconds.unwrap_or(86_400));
    let made = services.invite_create(role, lifetime, &caller.actor).await?;
    Ok(HttpResponse::Created().json(InviteMadeView {
        id: made.id,
        invite: made.text.to_string(),
        role: role_name(role).to_owned(),
        expires_at: made.expires_at,
    }))
}

/// Lists invites, used ones too, the oldest first.
#[utoipa::path(tag = "accounts", security(("bearer" = [])), params(PageQuery), responses((status = 200, body = PageView<InviteView>), Problems))]
#[get("/invites")]
pub(super) async fn invite_list(
    services: Data<Services>,
    _caller: Allowed<AccountsRead>,
    page: Query<PageQuery>,
) -> Result<HttpResponse, Error> {
    let (cursor, limit) = page.read()?;
    let invites = services.store.invite_list_page(cursor, limit).await?;
    Ok(HttpResponse::Ok().json(PageView::of(invites, InviteView::from)))
}

/// Takes an invite back.
#[utoipa::path(tag = "accounts", security(("bearer" = [])), params(("invite" = String, Path, description = "Id")), responses((status = 204), Problems))]
#[delete("/invites/{invite}")]
pub(super) async fn invite_delete(
    services: Data<Services>,
    caller: Allowed<AccountsWrite>,
    path: Path<String>,
) -> Result<HttpResponse, Error> {
    let id = path.parse().map_err(|_| Error::not_found("invite"))?;
    services.store.invite_delete(id, &caller.actor).await?;
    Ok(HttpResponse::NoContent().finish())
}
