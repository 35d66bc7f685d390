//! Operations: what was asked for, and what became of it.

use std::time::Duration;

use actix_web::{
    HttpResponse, get,
    web::{Data, Path, Query},
};
use chrono::{DateTime, Utc};
use domain::{id::OperationId, operation::Verdict};
use serde::{Deserialize, Serialize};
use store::{event::EventFilter, operation::Operation};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::{
    super::{
        extract::Allowed,
        page::{PageQuery, PageView},
        problem::Problems,
    },
    events::EventView,
};
use crate::{auth::policy::DeploymentsRead, error::Error, service::Services};

/// Longest wait for an operation; proxies cut longer silences.
const WAIT_MAX_SECONDS: u32 = 60;
/// Events shown with an operation.
const LOG_MAX: usize = 200;

/// An operation.
#[derive(Serialize, ToSchema)]
pub struct OperationView {
    pub(super) id: Uuid,
    /// Such as `deployment_create`.
    kind: &'static str,
    /// `running` or `done`.
    state: &'static str,
    /// `succeeded`, `failed_kept_old`, `rolled_back`, `failed` or `cancelled`; null while it runs.
    verdict: Option<&'static str>,
    /// The revision that it brings about, or goes back to.
    revision: Option<u32>,
    /// The revision that a failure goes back to.
    base_revision: Option<u32>,
    /// How many copies are as asked for.
    done: u32,
    total: u32,
    /// Where it stands.
    message: String,
    actor: String,
    deployment: String,
    deployment_id: Option<Uuid>,
    /// The project that the deployment belongs to; null once the deployment is forgotten.
    project: Option<String>,
    instance_id: Option<Uuid>,
    /// For one about a node; `deployment` is then the node's name.
    node_id: Option<Uuid>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    finished_at: Option<DateTime<Utc>>,
    /// What whoever asked should know of what was asked for, such as credentials in
    /// environment variables. Only where it is asked for.
    warnings: Vec<String>,
    /// What happened in its course, the oldest first. Only where one operation is asked for.
    log: Option<Vec<EventView>>,
}

impl From<Operation> for OperationView {
    fn from(operation: Operation) -> Self {
        Self {
            id: operation.id.uuid(),
            kind: operation.view.kind.as_str(),
            state: if operation.verdict.is_some() { "done" } else { "running" },
            verdict: operation.verdict.map(Verdict::as_str),
            revision: operation.revision,
            base_revision: operation.base_revision,
            done: operation.view.done,
            total: operation.view.total,
            message: operation.message,
            actor: operation.actor,
            deployment: operation.deployment_name,
            deployment_id: operation.deployment_id.map(|id| id.uuid()),
            project: operation.project.map(|(_, name)| name),
            instance_id: operation.instance_id.map(|id| id.uuid()),
            node_id: operation.node_id.map(|id| id.uuid()),
            created_at: operation.created_at,
            updated_at: operation.updated_at,
            finished_at: operation.finished_at,
            warnings: Vec::new(),
            log: None,
        }
    }
}

impl OperationView {
    /// With what whoever asked should know.
    pub(super) fn warned(self, warnings: Vec<String>) -> Self {
        Self { warnings, ..self }
    }
}

/// Lists operations that the caller sees, the newest first.
#[utoipa::path(tag = "operations", security(("bearer" = [])), params(PageQuery), responses((status = 200, body = PageView<OperationView>), Problems))]
#[get("/operations")]
pub(super) async fn operation_list(
    services: Data<Services>,
    caller: Allowed<DeploymentsRead>,
    page: Query<PageQuery>,
) -> Result<HttpResponse, Error> {
    let (cursor, limit) = page.read()?;
    let operations = services.store.operation_list_page(&caller.visible(), cursor, limit).await?;
    Ok(HttpResponse::Ok().json(PageView::of(operations, OperationView::from)))
}

/// Whether to wait.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct OperationQuery {
    /// Answers when it is done, or after so many seconds, 0 to 60; at once when left out.
    wait_seconds: Option<u32>,
}

/// Shows an operation, at once or when it is done.
#[utoipa::path(tag = "operations", security(("bearer" = [])), params(("operation" = Uuid, Path), OperationQuery), responses((status = 200, body = OperationView), Problems))]
#[get("/operations/{operation}")]
pub(super) async fn operation_get(
    services: Data<Services>,
    caller: Allowed<DeploymentsRead>,
    path: Path<String>,
    query: Query<OperationQuery>,
) -> Result<HttpResponse, Error> {
    let wait = query.wait_seconds.unwrap_or_default();
    if wait > WAIT_MAX_SECONDS {
        return Err(Error::invalid_field("wait_seconds", format!("must be 0 to {WAIT_MAX_SECONDS}")));
    }
    let id: OperationId = path.parse().map_err(|_| Error::not_found("operation"))?;
    let known = services.store.operation_fetch(id).await?.ok_or_else(|| Error::not_found("operation"))?;
    // One about no project's deployment is for who has a role on the fleet.
    let project = known.project.map_or_else(Uuid::nil, |(id, _)| id.uuid());
    caller.over(&services, project, ("operation", &path)).await?;
    let services = services.into_inner();
    let operation = services.operation_wait(id, Duration::from_secs(u64::from(wait))).await?;
    let filter = EventFilter { operation_id: Some(id), ..EventFilter::default() };
    let events = services.store.event_list_page(&caller.visible(), &filter, None, LOG_MAX).await?;
    let mut view = OperationView::from(operation);
    view.log = Some(events.items.into_iter().rev().map(EventView::from).collect());
    Ok(HttpResponse::Ok().json(view))
}
