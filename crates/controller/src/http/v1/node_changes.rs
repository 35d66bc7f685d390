//! What administrators do with a node.

use std::collections::BTreeMap;

use actix_web::{
    HttpResponse, delete, patch, post,
    web::{Data, Path, Query},
};
use domain::{
    id::{NodeId, OperationId},
    name::labels_fault,
};
use serde::Deserialize;
use store::node::{Node, NodeChange};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::{
    super::{
        extract::{Allowed, Body},
        problem::Problems,
    },
    accepted,
    nodes::{NodeView, key, view},
    operations::OperationView,
};
use crate::{auth::policy::NodesWrite, error::Error, service::Services};

async fn find(services: &Services, text: &str) -> Result<Node, Error> {
    services.store.node_fetch(&key(text)).await?.ok_or_else(|| Error::not_found("node"))
}

async fn changed(
    services: &Services,
    caller: &Allowed<NodesWrite>,
    id: NodeId,
    change: NodeChange,
) -> Result<HttpResponse, Error> {
    services.store.node_change(id, &change, &caller.actor).await?;
    let node = find(services, &id.to_string()).await?;
    let counts = services.store.node_instance_counts(&[id]).await?.into_iter().collect();
    Ok(HttpResponse::Ok().json(view(services, node, &counts)))
}

/// Cordons a node: it takes nothing new. What it runs stays.
#[utoipa::path(tag = "nodes", security(("bearer" = [])), params(("node" = String, Path, description = "Name or id")), responses((status = 200, body = NodeView), Problems))]
#[post("/nodes/{node}/cordon")]
pub(super) async fn node_cordon(
    services: Data<Services>,
    caller: Allowed<NodesWrite>,
    path: Path<String>,
) -> Result<HttpResponse, Error> {
    let node = find(&services, &path).await?;
    changed(&services, &caller, node.id, NodeChange::Cordon).await
}

/// Lets a node take new instances again; ends a drain that is under way.
#[utoipa::path(tag = "nodes", security(("bearer" = [])), params(("node" = String, Path, description = "Name or id")), responses((status = 200, body = NodeView), Problems))]
#[post("/nodes/{node}/uncordon")]
pub(super) async fn node_uncordon(
    services: Data<Services>,
    caller: Allowed<NodesWrite>,
    path: Path<String>,
) -> Result<HttpResponse, Error> {
    let node = find(&services, &path).await?;
    changed(&services, &caller, node.id, NodeChange::Uncordon).await
}

/// What is to change about a node.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NodeUpdate {
    /// All its labels; those that are left out are taken away.
    labels: BTreeMap<String, String>,
}

/// Changes a node's labels. Instances that are there stay.
#[utoipa::path(tag = "nodes", security(("bearer" = [])), request_body = NodeUpdate, params(("node" = String, Path, description = "Name or id")), responses((status = 200, body = NodeView), Problems))]
#[patch("/nodes/{node}")]
pub(super) async fn node_update(
    services: Data<Services>,
    caller: Allowed<NodesWrite>,
    path: Path<String>,
    body: Body<NodeUpdate>,
) -> Result<HttpResponse, Error> {
    let node = find(&services, &path).await?;
    let NodeUpdate { labels } = body.read()?;
    if let Some(message) = labels_fault(&labels) {
        return Err(Error::invalid_field("labels", message));
    }
    changed(&services, &caller, node.id, NodeChange::Labels(labels)).await
}

/// How a node is to be drained.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DrainCreate {
    /// Seconds without progress after which it fails, 5 to 86400; 600 when left out.
    deadline_seconds: Option<u32>,
}

/// Drains a node: cordons it, and moves what it runs elsewhere, start-first. Copies with
/// data on the node stay. Again: answers the operation that is under way.
#[utoipa::path(tag = "nodes", security(("bearer" = [])), request_body = DrainCreate, params(("node" = String, Path, description = "Name or id")), responses((status = 202, body = OperationView, headers(("Location" = String))), Problems))]
#[post("/nodes/{node}/drain")]
pub(super) async fn node_drain(
    services: Data<Services>,
    caller: Allowed<NodesWrite>,
    path: Path<String>,
    body: Body<DrainCreate>,
) -> Result<HttpResponse, Error> {
    let node = find(&services, &path).await?;
    let deadline = body.read()?.deadline_seconds.unwrap_or(600);
    if !(5..=86_400).contains(&deadline) {
        return Err(Error::invalid_field("deadline_seconds", "must be 5 to 86400"));
    }
    let id = OperationId::from_uuid(Uuid::now_v7());
    let id = services.store.node_drain(node.id, (id, deadline), &caller.actor).await?;
    let operation = services.store.operation_fetch(id).await?.ok_or_else(|| Error::not_found("operation"))?;
    Ok(accepted(operation.into()))
}

/// Whether a node goes whatever it runs.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct NodeDeleteQuery {
    /// Also while it has instances: they are placed elsewhere at once, though its agent
    /// may go on running what it has.
    #[serde(default)]
    force: bool,
}

/// Removes a node: its certificates are worth nothing from now on, and its agent is
/// refused.
#[utoipa::path(tag = "nodes", security(("bearer" = [])), params(("node" = String, Path, description = "Name or id"), NodeDeleteQuery), responses((status = 204), Problems))]
#[delete("/nodes/{node}")]
pub(super) async fn node_delete(
    services: Data<Services>,
    caller: Allowed<NodesWrite>,
    path: Path<String>,
    query: Query<NodeDeleteQuery>,
) -> Result<HttpResponse, Error> {
    let node = find(&services, &path).await?;
    services.store.node_delete(node.id, query.force, &caller.actor).await?;
    tracing::info!(node.id = %node.id, forced = query.force, "node removed");
    Ok(HttpResponse::NoContent().finish())
}
