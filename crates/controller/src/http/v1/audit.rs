//! The audit log.

use std::net::IpAddr;

use actix_web::{
    HttpResponse, get,
    http::header::CONTENT_DISPOSITION,
    web::{Bytes, Data, Query},
};
use chrono::{DateTime, Utc};
use domain::deployment::FieldFault;
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::audit::{AuditFilter, AuditNew, AuditOrder, AuditRow};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::super::{
    extract::Allowed,
    page::{self, PageView},
    problem::Problems,
};
use crate::{auth::policy::AuditRead, error::Error, service::Services};

/// Longest text to look for, in characters.
const TEXT_MAX: usize = 200;
const OUTCOMES: [&str; 3] = ["done", "refused", "failed"];

/// Who did what, or tried to.
#[derive(Serialize, ToSchema)]
pub struct AuditView {
    id: Uuid,
    at: DateTime<Utc>,
    /// Who, by the name of that time.
    actor: String,
    /// `anonymous`, `user`, `service`, `node`, `host` (commands at the controller's
    /// host) or `system` (the controller itself).
    actor_kind: String,
    /// The account; null for whoever has none.
    actor_id: Option<Uuid>,
    /// The session or API token that was used.
    credential_id: Option<Uuid>,
    /// From where.
    address: Option<String>,
    /// What, such as `deployment_create`.
    action: String,
    /// On what: a name, or an id where there is no name.
    subject: String,
    /// Of which project.
    project: Option<String>,
    /// `done`, `refused` or `failed`.
    outcome: String,
    /// In which request: its `X-Request-Id`.
    request_id: Option<String>,
    /// How it was, without anything secret.
    #[schema(value_type = Option<Object>)]
    before: Option<Value>,
    /// How it is since, without anything secret.
    #[schema(value_type = Option<Object>)]
    after: Option<Value>,
}

impl From<AuditRow> for AuditView {
    fn from(row: AuditRow) -> Self {
        Self {
            id: row.id,
            at: row.at,
            actor: row.actor,
            actor_kind: row.actor_kind,
            actor_id: row.actor_id,
            credential_id: row.credential_id,
            address: row.address,
            action: row.action,
            subject: row.subject,
            project: row.project,
            outcome: row.outcome,
            request_id: row.request_id,
            before: row.before,
            after: row.after,
        }
    }
}

/// Which lines, and which page of them. All that is given must apply.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AuditQuery {
    /// By this actor: a name as shown, or an account's id.
    actor: Option<String>,
    /// With this action.
    action: Option<String>,
    /// About this, as shown.
    subject: Option<String>,
    /// Of this project, by name.
    project: Option<String>,
    /// `done`, `refused` or `failed`.
    outcome: Option<String>,
    /// From this IP address.
    address: Option<String>,
    /// Of this request.
    request_id: Option<String>,
    /// From then on; RFC 3339.
    since: Option<String>,
    /// Before then; RFC 3339.
    until: Option<String>,
    /// Most items, 1 to 500; 50 when left out.
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Which lines. All that is given must apply.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AuditExportQuery {
    /// By this actor: a name as shown, or an account's id.
    actor: Option<String>,
    /// With this action.
    action: Option<String>,
    /// About this, as shown.
    subject: Option<String>,
    /// Of this project, by name.
    project: Option<String>,
    /// `done`, `refused` or `failed`.
    outcome: Option<String>,
    /// From this IP address.
    address: Option<String>,
    /// Of this request.
    request_id: Option<String>,
    /// From then on; RFC 3339.
    since: Option<String>,
    /// Before then; RFC 3339.
    until: Option<String>,
}

impl AuditExportQuery {
    /// Checks it.
    ///
    /// # Errors
    /// With every field that is not allowed to be what it is.
    fn read(self) -> Result<AuditFilter, Error> {
        let mut faults = Vec::new();
        let mut fault = |field: &str, message: String| {
            faults.push(FieldFault { field: field.to_owned(), message });
        };
        let mut text = |field: &str, value: Option<String>| {
            let odd =
                |t: &String| !(1..=TEXT_MAX).contains(&t.chars().count()) || t.contains(char::is_control);
            if value.as_ref().is_some_and(odd) {
                fault(field, format!("must be 1 to {TEXT_MAX} printable characters"));
            }
            value
        };
        let (actor, action) = (text("actor", self.actor), text("action", self.action));
        let (subject, project) = (text("subject", self.subject), text("project", self.project));
        let request_id = text("request_id", self.request_id);
        if self.outcome.as_ref().is_some_and(|o| !OUTCOMES.contains(&o.as_str())) {
            fault("outcome", format!("must be one of {}", OUTCOMES.join(", ")));
        }
        let address = self.address.as_deref().map(str::parse::<IpAddr>);
        if let Some(Err(_)) = address {
            fault("address", "must be an IP address".to_owned());
        }
        let mut time = |field: &str, text: Option<String>| {
            let time = text.as_deref().map(DateTime::parse_from_rfc3339)?;
            if time.is_err() {
                fault(field, "must be a time as in RFC 3339, such as 2026-01-31T12:00:00Z".to_owned());
            }
            time.ok().map(|time| time.with_timezone(&Utc))
        };
        let (since, until) = (time("since", self.since), time("until", self.until));
        if since.is_some() && until.is_some() && since >= until {
            fault("until", "must be later than since".to_owned());
        }
        if !faults.is_empty() {
            return Err(Error::invalid(faults));
        }
        let address = address.and_then(Result::ok).map(|address| address.to_string());
        Ok(AuditFilter {
            actor,
            action,
            subject,
            project,
            outcome: self.outcome,
            address,
            request_id,
            since,
            until,
        })
    }
}

/// Lists what was done, refused or failed, the newest first.
#[utoipa::path(tag = "audit", security(("bearer" = [])), params(AuditQuery), responses((status = 200, body = PageView<AuditView>), Problems))]
#[get("/audit")]
pub(super) async fn audit_list(
    services: Data<Services>,
    _caller: Allowed<AuditRead>,
    query: Query<AuditQuery>,
) -> Result<HttpResponse, Error> {
    let AuditQuery {
        actor,
        action,
        subject,
        project,
        outcome,
        address,
        request_id,
        since,
        until,
        limit,
        cursor,
    } = query.into_inner();
    let filter =
        AuditExportQuery { actor, action, subject, project, outcome, address, request_id, since, until }
            .read()?;
    let (cursor, limit) = page::read(limit, cursor.as_deref())?;
    let lines = services.store.audit_list_page(&filter, AuditOrder::Newest, cursor, limit).await?;
    Ok(HttpResponse::Ok().json(PageView::of(lines, AuditView::from)))
}

/// Exports the audit log, one JSON object a line, the oldest first.
///
/// There is no limit to it. An export that breaks off ends the connection instead of the
/// answer, so that it is not taken for a complete one. It is a line of the log itself.
#[utoipa::path(tag = "audit", security(("bearer" = [])), params(AuditExportQuery), responses((status = 200, content_type = "application/x-ndjson", body = AuditView), Problems))]
#[get("/audit/export")]
pub(super) async fn audit_export(
    services: Data<Services>,
    caller: Allowed<AuditRead>,
    query: Query<AuditExportQuery>,
) -> Result<HttpResponse, Error> {
    let filter = query.into_inner().read()?;
    services.store.audit_insert(&caller.actor, &AuditNew::done("audit_export", "audit log")).await?;
    let name = format!("attachment; filename=\"audit-{}.ndjson\"", Utc::now().format("%Y%m%dT%H%M%SZ"));
    let lines = services.into_inner().audit_export(filter).map(|batch| match batch {
        Ok(rows) => lines(rows),
        Err(e) => {
            tracing::warn!(error = e.chain(), "an export of the audit log broke off");
            Err(e)
        }
    });
    Ok(HttpResponse::Ok()
        .content_type("application/x-ndjson")
        .insert_header((CONTENT_DISPOSITION, name))
        .insert_header(("X-Accel-Buffering", "no"))
        .streaming(lines))
}

fn lines(rows: Vec<AuditRow>) -> Result<Bytes, Error> {
    let mut text = Vec::new();
    for row in rows {
        serde_json::to_writer(&mut text, &AuditView::from(row)).map_err(Error::internal)?;
        text.push(b'\n');
    }
    Ok(text.into())
}
