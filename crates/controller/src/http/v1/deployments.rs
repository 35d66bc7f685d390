//! Deployments.

use std::collections::BTreeMap;

use actix_web::{
    HttpRequest, HttpResponse, delete, get, post,
    web::{Data, Path, Query},
};
use chrono::{DateTime, Utc};
use domain::{
    id::DeploymentId,
    instance::{Desired, Presence},
    overview::{Copy, deployment_state},
};
use serde::Serialize;
use store::{
    deployment::{Deployment, IdempotencyKey, Pending},
    instance::Instance,
};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    super::{
        extract::{Body, Caller, Operator, Viewer},
        page::{PageQuery, PageView},
        problem::Problems,
    },
    accepted,
    declare::DeploymentCreate,
    instances::{InstanceView, RejectionView},
    operations::OperationView,
    spec::SpecView,
};
use crate::{
    auth::token,
    error::Error,
    service::{
        Services,
        deployments::{Declaration, key},
    },
};

/// A deployment.
#[derive(Serialize, ToSchema)]
pub struct DeploymentView {
    id: Uuid,
    name: String,
    /// Number of the present revision.
    revision: u32,
    /// `running`: every copy is as it should be; `completed`: every copy has run to
    /// its end; `progressing`: not yet; `degraded`: a copy failed, or nobody knows
    /// how it is; `deleting`.
    state: &'static str,
    deleting: bool,
    spec: SpecView,
    /// Why copies wait for a node; null when none does.
    pending: Option<PendingView>,
    /// How many copies are healthy.
    healthy: u32,
    instances: Vec<InstanceView>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

/// Why copies wait for a node.
#[derive(Serialize, ToSchema)]
pub struct PendingView {
    /// How many wait.
    lacking: u32,
    /// Why, node by node; empty when there is no node.
    rejected: Vec<RejectionView>,
}

impl From<Pending> for PendingView {
    fn from(pending: Pending) -> Self {
        Self { lacking: pending.lacking, rejected: pending.rejected.into_iter().map(Into::into).collect() }
    }
}

/// Declares a deployment: records the wish; the agents carry it out.
///
/// With an `Idempotency-Key` header, the same request sent again answers the same operation.
#[utoipa::path(
    tag = "deployments", security(("bearer" = [])), request_body = DeploymentCreate,
    params(("Idempotency-Key" = Option<String>, Header, description = "1 to 255 characters of the client's choice")),
    responses((status = 202, body = OperationView, headers(("Location" = String))), Problems)
)]
#[post("/deployments")]
pub(super) async fn deployment_create(
    services: Data<Services>,
    caller: Caller<Operator>,
    request: HttpRequest,
    body: Body<DeploymentCreate>,
) -> Result<HttpResponse, Error> {
    let (create, bytes) = body.read_with_bytes()?;
    let idempotency = idempotency_key(&request, &bytes)?;
    let (name, spec) = create.read()?;
    let declaration = Declaration { name, spec, idempotency };
    let operation = services.deployment_create(declaration, &caller.actor).await?;
    Ok(accepted(operation.into()))
}

/// Lists deployments, the oldest first.
#[utoipa::path(tag = "deployments", security(("bearer" = [])), params(PageQuery), responses((status = 200, body = PageView<DeploymentView>), Problems))]
#[get("/deployments")]
pub(super) async fn deployment_list(
    services: Data<Services>,
    _caller: Caller<Viewer>,
    page: Query<PageQuery>,
) -> Result<HttpResponse, Error> {
    let (cursor, limit) = page.read()?;
    let deployments = services.store.deployment_list_page(cursor, limit).await?;
    let ids: Vec<DeploymentId> = deployments.items.iter().map(|d| d.id).collect();
    let mut instances: BTreeMap<DeploymentId, Vec<Instance>> = BTreeMap::new();
    for instance in services.store.instance_list_of(&ids).await? {
        instances.entry(instance.deployment_id).or_default().push(instance);
    }
    let view = |d: Deployment| view(instances.remove(&d.id).unwrap_or_default(), d);
    Ok(HttpResponse::Ok().json(PageView::of(deployments, view)))
}

/// Shows a deployment, by name or id.
#[utoipa::path(tag = "deployments", security(("bearer" = [])), params(("deployment" = String, Path, description = "Name or id")), responses((status = 200, body = DeploymentView), Problems))]
#[get("/deployments/{deployment}")]
pub(super) async fn deployment_get(
    services: Data<Services>,
    _caller: Caller<Viewer>,
    path: Path<String>,
) -> Result<HttpResponse, Error> {
    let deployment =
        services.store.deployment_fetch(&key(&path)).await?.ok_or_else(|| Error::not_found("deployment"))?;
    let instances = services.store.instance_list_of(&[deployment.id]).await?;
    Ok(HttpResponse::Ok().json(view(instances, deployment)))
}

/// Deletes a deployment: stops and removes every copy. Again: answers the
/// operation that is under way.
#[utoipa::path(tag = "deployments", security(("bearer" = [])), params(("deployment" = String, Path, description = "Name or id")), responses((status = 202, body = OperationView, headers(("Location" = String))), Problems))]
#[delete("/deployments/{deployment}")]
pub(super) async fn deployment_delete(
    services: Data<Services>,
    caller: Caller<Operator>,
    path: Path<String>,
) -> Result<HttpResponse, Error> {
    let operation = services.deployment_delete(&key(&path), &caller.actor).await?;
    Ok(accepted(operation.into()))
}

fn idempotency_key(request: &HttpRequest, body: &[u8]) -> Result<Option<IdempotencyKey>, Error> {
    let Some(header) = request.headers().get("Idempotency-Key") else { return Ok(None) };
    match header.to_str() {
        Ok(key) if (1..=255).contains(&key.len()) => {
            Ok(Some(IdempotencyKey { key: key.to_owned(), request_sha256: token::sha256_of(body).to_vec() }))
        }
        _ => Err(Error::invalid_field("Idempotency-Key", "must be 1 to 255 printable ASCII characters")),
    }
}

fn view(instances: Vec<Instance>, deployment: Deployment) -> DeploymentView {
    let kept = instances.iter().filter(|i| i.desired != Desired::Removed);
    let copies: Vec<Copy<'_>> = kept
        .map(|i| Copy { desired: i.desired, status: &i.status, presence: Presence::of(i.node_state) })
        .collect();
    let healthy = u32::try_from(copies.iter().filter(|copy| copy.is_healthy()).count()).unwrap_or(u32::MAX);
    let state = deployment_state(deployment.spec.replicas, deployment.deleting, &copies).as_str();
    DeploymentView {
        id: deployment.id.uuid(),
        name: deployment.name,
        revision: deployment.revision,
        state,
        deleting: deployment.deleting,
        spec: deployment.spec.into(),
        pending: deployment.pending.map(Into::into),
        healthy,
        instances: instances.into_iter().map(Into::into).collect(),
        created_at: deployment.created_at,
        updated_at: deployment.updated_at,
    }
}
