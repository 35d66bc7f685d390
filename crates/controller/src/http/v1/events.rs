//! The timeline.

use actix_web::{
    HttpResponse, get,
    web::{Data, Query},
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use store::event::{EventFilter, EventRow};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::{
    super::{
        extract::Allowed,
        page::{self, PageView},
        problem::Problems,
    },
    instances::instance_id,
    nodes, projects,
};
use crate::{auth::policy::EventsRead, error::Error, service::Services};

/// One fact in the fleet's timeline.
#[derive(Serialize, ToSchema)]
pub struct EventView {
    id: Uuid,
    /// When it happened, by the clock of where it happened.
    at: DateTime<Utc>,
    /// When the controller learnt of it.
    recorded_at: DateTime<Utc>,
    /// For programs, such as `instance_exited`.
    kind: String,
    /// `info`, `warning` or `error`.
    severity: String,
    message: String,
    /// Why, for programs, such as `outside_signal_9`.
    cause: Option<String>,
    /// Who.
    actor: Option<String>,
    node: Option<String>,
    deployment: Option<String>,
    /// The project that the deployment belongs to.
    project: Option<String>,
    instance_id: Option<Uuid>,
    operation_id: Option<Uuid>,
    /// How it was, where something changed.
    before: Option<serde_json::Value>,
    /// How it is since.
    after: Option<serde_json::Value>,
}

impl From<EventRow> for EventView {
    fn from(row: EventRow) -> Self {
        Self {
            id: row.id,
            at: row.at,
            recorded_at: row.recorded_at,
            kind: row.kind,
            severity: row.severity,
            message: row.message,
            cause: row.cause,
            actor: row.actor,
            node: row.node,
            deployment: row.deployment,
            project: row.project,
            instance_id: row.instance_id,
            operation_id: row.operation_id,
            before: row.before,
            after: row.after,
        }
    }
}

/// Which events.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EventQuery {
    /// Of this deployment, by name or id.
    deployment: Option<String>,
    /// Of this project, by name or id; also where the deployment's name is looked up.
    project: Option<String>,
    /// Of this instance.
    instance: Option<String>,
    /// Of this node, by name or id.
    node: Option<String>,
    /// Of this operation.
    operation: Option<String>,
    /// Most items, 1 to 500; 50 when left out.
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Lists events that the caller sees, the newest first. Those about no deployment are
/// for who has a role on the fleet.
#[utoipa::path(tag = "events", security(("bearer" = [])), params(EventQuery), responses((status = 200, body = PageView<EventView>), Problems))]
#[get("/events")]
pub(super) async fn event_list(
    services: Data<Services>,
    caller: Allowed<EventsRead>,
    query: Query<EventQuery>,
) -> Result<HttpResponse, Error> {
    let (cursor, limit) = page::read(query.limit, query.cursor.as_deref())?;
    let filter = filter(&services, &caller, &query).await?;
    let events = services.store.event_list_page(&caller.visible(), &filter, cursor, limit).await?;
    Ok(HttpResponse::Ok().json(PageView::of(events, EventView::from)))
}

async fn filter(
    services: &Services,
    caller: &Allowed<EventsRead>,
    query: &EventQuery,
) -> Result<EventFilter, Error> {
    let mut filter = EventFilter::default();
    if let Some(text) = &query.project {
        filter.project_id = Some(projects::over(services, caller, text).await?.id());
    }
    if let Some(text) = &query.deployment {
        // An id is taken as it is: events outlive their deployment.
        filter.deployment_id = Some(match text.parse() {
            Ok(id) => id,
            Err(_) => services.deployment_find(text, filter.project_id, &caller.visible()).await?.id,
        });
    }
    if let Some(text) = &query.node {
        let node = services.store.node_fetch(&nodes::key(text)).await?.map(|node| node.id);
        // Who may not see nodes does not learn from here which there are.
        let unseen = caller.caller.role.is_none().then(|| Uuid::nil().into());
        filter.node_id = Some(node.or(unseen).ok_or_else(|| Error::not_found("node"))?);
    }
    filter.instance_id = query.instance.as_deref().map(instance_id).transpose()?;
    let operation = query.operation.as_deref().map(str::parse).transpose();
    filter.operation_id = operation.map_err(|_| Error::not_found("operation"))?;
    Ok(filter)
}
