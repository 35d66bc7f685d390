//! One's own sessions.

use actix_web::{
    HttpResponse, delete, get,
    web::{Data, Path, Query},
};
use chrono::{DateTime, Utc};
use domain::id::SessionId;
use serde::Serialize;
use store::session::SessionRow;
use utoipa::ToSchema;
use uuid::Uuid;

use super::super::{
    extract::Allowed,
    page::{PageQuery, PageView},
    problem::Problems,
};
use crate::{auth::policy::OwnAccount, error::Error, service::Services};

/// A session that is open.
#[derive(Serialize, ToSchema)]
pub struct OwnSessionView {
    id: Uuid,
    /// How it began: `password`, or a provider's name.
    method: String,
    /// From where it began, as far as known.
    address: Option<String>,
    /// What the client called itself.
    user_agent: Option<String>,
    created_at: DateTime<Utc>,
    /// To a minute.
    last_used_at: DateTime<Utc>,
    /// When it ends, unless it is refreshed.
    expires_at: DateTime<Utc>,
    /// Whether it is the one that asks.
    current: bool,
}

impl OwnSessionView {
    fn new(row: SessionRow, current: Option<SessionId>) -> Self {
        Self {
            id: row.id().uuid(),
            current: Some(row.id()) == current,
            method: row.method,
            address: row.address,
            user_agent: row.user_agent,
            created_at: row.created_at,
            last_used_at: row.last_used_at,
            expires_at: row.expires_at,
        }
    }
}

/// Lists one's own open sessions, the newest first.
#[utoipa::path(tag = "auth", security(("bearer" = [])), params(PageQuery), responses((status = 200, body = PageView<OwnSessionView>), Problems))]
#[get("/auth/sessions")]
pub(super) async fn session_list(
    services: Data<Services>,
    caller: Allowed<OwnAccount>,
    page: Query<PageQuery>,
) -> Result<HttpResponse, Error> {
    let page = services.session_list(&caller.caller, page.read()?).await?;
    let current = caller.caller.session_id();
    Ok(HttpResponse::Ok().json(PageView::of(page, |row| OwnSessionView::new(row, current))))
}

/// Ends one of one's own sessions.
#[utoipa::path(tag = "auth", security(("bearer" = [])), params(("session" = String, Path, description = "Its id")), responses((status = 204), Problems))]
#[delete("/auth/sessions/{session}")]
pub(super) async fn session_end(
    services: Data<Services>,
    caller: Allowed<OwnAccount>,
    path: Path<String>,
) -> Result<HttpResponse, Error> {
    let id = path.parse().map_err(|_| Error::not_found("session"))?;
    services.session_end(&caller.caller, SessionId::from_uuid(id), &caller.actor).await?;
    Ok(HttpResponse::NoContent().finish())
}
