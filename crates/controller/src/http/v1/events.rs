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
        extract::{Caller, Viewer},
        page::{self, PageView},
        problem::Problems,
    },
    instances::instance_id,
    nodes,
};
use crate::{
    error::Error,
    service::{Services, deployments},
};

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
    instance_id: Option<Uuid>,
    operation_id: Option<Uuid>,
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
            instance_id: row.instance_id,
            operation_id: row.operation_id,
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

/// Lists events, the newest first.
#[utoipa::path(tag = "events", security(("bearer" = [])), params(EventQuery), responses((status = 200, body = PageView<EventView>), Problems))]
#[get("/events")]
pub(super) async fn event_list(
    services: Data<Services>,
    _caller: Caller<Viewer>,
    query: Query<EventQuery>,
) -> Result<HttpResponse, Error> {
    let (cursor, limit) = page::read(query.limit, query.cursor.as_deref())?;
    let filter = filter(&services, &query).await?;
    let events = services.store.event_list_page(&filter, cursor, limit).await?;
    Ok(HttpResponse::Ok().json(PageView::of(events, EventView::from)))
}

async fn filter(services: &Services, query: &EventQuery) -> Result<EventFilter, Error> {
    let mut filter = EventFilter::default();
    if let Some(text) = &query.deployment {
        // An id is taken as it is: events outlive their deployment.
        filter.deployment_id = Some(match deployments::key(text) {
            store::deployment::DeploymentKey::Id(id) => id,
            by_name => {
                services
                    .store
                    .deployment_fetch(&by_name)
                    .await?
                    .ok_or_else(|| Error::not_found("deployment"))?
                    .id
            }
        });
    }
    if let Some(text) = &query.node {
        let node = services.store.node_fetch(&nodes::key(text)).await?;
        filter.node_id = Some(node.ok_or_else(|| Error::not_found("node"))?.id);
    }
    filter.instance_id = query.instance.as_deref().map(instance_id).transpose()?;
    let operation = query.operation.as_deref().map(str::parse).transpose();
    filter.operation_id = operation.map_err(|_| Error::not_found("operation"))?;
    Ok(filter)
}
