//! Deployments.

use std::collections::BTreeMap;

use actix_web::{
    HttpRequest, HttpResponse, delete, get,
    http::header::ETAG,
    post,
    web::{Data, Path, Query},
};
use chrono::{DateTime, Utc};
use domain::{
    id::{DeploymentId, ProjectId},
    instance::{Desired, Presence},
    overview::{Copy, deployment_state},
    placement::Rejection,
};
use serde::{Deserialize, Serialize};
use store::{
    deployment::{Deployment, IdempotencyKey, Pending},
    instance::Instance,
};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::{
    super::{
        extract::{Allowed, Body},
        page::{self, PageView},
        problem::Problems,
    },
    accepted,
    declare::DeploymentCreate,
    instances::{InstanceView, RejectionView},
    operations::OperationView,
    projects,
    revisions::PreviewView,
    spec::SpecView,
};
use crate::{
    auth::policy::{DeploymentsRead, DeploymentsWrite, Permission},
    auth::token,
    error::Error,
    service::{Services, deployments::Declaration},
};

/// A deployment.
#[derive(Serialize, ToSchema)]
pub struct DeploymentView {
    id: Uuid,
    name: String,
    /// The project that it belongs to.
    project: String,
    project_id: Uuid,
    /// Number of the present revision.
    revision: u32,
    /// `running`: every copy is as it should be; `completed`: every copy has run to
    /// its end; `progressing`: not yet; `degraded`: a copy failed, or nobody knows
    /// how it is; `deleting`.
    state: &'static str,
    deleting: bool,
    /// Who or what halted the rollout; null while nothing does.
    paused: Option<String>,
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

impl PendingView {
    pub(super) fn new(lacking: u32, rejected: Vec<Rejection>) -> Self {
        Self { lacking, rejected: rejected.into_iter().map(Into::into).collect() }
    }
}

impl From<Pending> for PendingView {
    fn from(pending: Pending) -> Self {
        Self::new(pending.lacking, pending.rejected)
    }
}

/// How a declaration is to be taken.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct CreateQuery {
    /// Only says where it would lead.
    #[serde(default)]
    dry_run: bool,
}

/// Declares a deployment: records the wish; the agents carry it out.
///
/// With an `Idempotency-Key` header, the same request sent again answers the same operation.
#[utoipa::path(
    tag = "deployments", security(("bearer" = [])), request_body = DeploymentCreate,
    params(CreateQuery, ("Idempotency-Key" = Option<String>, Header, description = "1 to 255 characters of the client's choice")),
    responses((status = 202, body = OperationView, headers(("Location" = String))), (status = 200, body = PreviewView, description = "With `dry_run`"), Problems)
)]
#[post("/deployments")]
pub(super) async fn deployment_create(
    services: Data<Services>,
    caller: Allowed<DeploymentsWrite>,
    request: HttpRequest,
    query: Query<CreateQuery>,
    body: Body<DeploymentCreate>,
) -> Result<HttpResponse, Error> {
    let (create, bytes) = body.read_with_bytes()?;
    let idempotency = idempotency_key(&request, &bytes)?;
    let project_id = match &create.project {
        Some(text) => projects::over(&services, &caller, text).await?.id(),
        None => {
            caller.over(&services, ProjectId::DEFAULT.uuid(), ("project", "default")).await?;
            ProjectId::DEFAULT
        }
    };
    let (name, spec) = create.read()?;
    if query.dry_run {
        let preview = services.deployment_preview(None, &spec).await?;
        return Ok(HttpResponse::Ok().json(PreviewView::from(preview)));
    }
    let warnings = store::credential::env_warning(&spec.instance).into_iter().collect();
    let declaration = Declaration { project_id, name, spec, idempotency };
    let operation = services.deployment_create(declaration, &caller.actor).await?;
    Ok(accepted(OperationView::from(operation).warned(warnings)))
}

/// Which deployments.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DeploymentQuery {
    /// Of this project, by name or id.
    project: Option<String>,
    /// Most items, 1 to 500; 50 when left out.
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Lists deployments that the caller sees, the oldest first.
#[utoipa::path(tag = "deployments", security(("bearer" = [])), params(DeploymentQuery), responses((status = 200, body = PageView<DeploymentView>), Problems))]
#[get("/deployments")]
pub(super) async fn deployment_list(
    services: Data<Services>,
    caller: Allowed<DeploymentsRead>,
    query: Query<DeploymentQuery>,
) -> Result<HttpResponse, Error> {
    let (cursor, limit) = page::read(query.limit, query.cursor.as_deref())?;
    let project = match &query.project {
        Some(text) => Some(projects::over(&services, &caller, text).await?.id()),
        None => None,
    };
    let visible = caller.visible();
    let deployments = services.store.deployment_list_page(&visible, project, cursor, limit).await?;
    let ids: Vec<DeploymentId> = deployments.items.iter().map(|d| d.id).collect();
    let mut instances: BTreeMap<DeploymentId, Vec<Instance>> = BTreeMap::new();
    for instance in services.store.instance_list_of(&ids).await? {
        instances.entry(instance.deployment_id).or_default().push(instance);
    }
    let view = |d: Deployment| view(instances.remove(&d.id).unwrap_or_default(), d);
    Ok(HttpResponse::Ok().json(PageView::of(deployments, view)))
}

/// Where a deployment's name is looked up.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ProjectQuery {
    /// The project, by name or id. When left out: the default one, or else whichever
    /// alone has a deployment of that name.
    pub(super) project: Option<String>,
}

/// A deployment by name or id, once it is certain that the caller has the permission
/// over it.
pub(super) async fn over<P: Permission>(
    services: &Services,
    caller: &Allowed<P>,
    text: &str,
    project: Option<&str>,
) -> Result<Deployment, Error> {
    let project = match project {
        Some(text) => Some(projects::over(services, caller, text).await?.id()),
        None => None,
    };
    let deployment = services.deployment_find(text, project, &caller.visible()).await?;
    caller.over(services, deployment.project_id.uuid(), ("deployment", text)).await?;
    Ok(deployment)
}

/// Shows a deployment, by name or id.
#[utoipa::path(tag = "deployments", security(("bearer" = [])), params(("deployment" = String, Path, description = "Name or id"), ProjectQuery), responses((status = 200, body = DeploymentView), Problems))]
#[get("/deployments/{deployment}")]
pub(super) async fn deployment_get(
    services: Data<Services>,
    caller: Allowed<DeploymentsRead>,
    path: Path<String>,
    query: Query<ProjectQuery>,
) -> Result<HttpResponse, Error> {
    let deployment = over(&services, &caller, &path, query.project.as_deref()).await?;
    let instances = services.store.instance_list_of(&[deployment.id]).await?;
    let tag = format!("\"{}\"", deployment.revision);
    Ok(HttpResponse::Ok().insert_header((ETAG, tag)).json(view(instances, deployment)))
}

/// Deletes a deployment: stops and removes every copy. Again: answers the
/// operation that is under way.
#[utoipa::path(tag = "deployments", security(("bearer" = [])), params(("deployment" = String, Path, description = "Name or id"), ProjectQuery), responses((status = 202, body = OperationView, headers(("Location" = String))), Problems))]
#[delete("/deployments/{deployment}")]
pub(super) async fn deployment_delete(
    services: Data<Services>,
    caller: Allowed<DeploymentsWrite>,
    path: Path<String>,
    query: Query<ProjectQuery>,
) -> Result<HttpResponse, Error> {
    let deployment = over(&services, &caller, &path, query.project.as_deref()).await?;
    let operation = services.deployment_delete(&deployment, &caller.actor).await?;
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
    let stands_in = |i: &Instance| instances.iter().any(|other| other.replaces == Some(i.id));
    let lost = |i: &Instance| Presence::of(i.node_state) == Presence::Lost && stands_in(i);
    let kept = instances.iter().filter(|i| i.desired != Desired::Removed && !lost(i));
    let copies: Vec<Copy<'_>> = kept
        .map(|i| Copy { desired: i.desired, status: &i.status, presence: Presence::of(i.node_state) })
        .collect();
    let healthy = u32::try_from(copies.iter().filter(|copy| copy.is_healthy()).count()).unwrap_or(u32::MAX);
    let state = deployment_state(deployment.spec.replicas, deployment.deleting, &copies).as_str();
    DeploymentView {
        id: deployment.id.uuid(),
        name: deployment.name,
        project: deployment.project,
        project_id: deployment.project_id.uuid(),
        revision: deployment.revision,
        state,
        deleting: deployment.deleting,
        paused: deployment.paused,
        spec: deployment.spec.into(),
        pending: deployment.pending.map(Into::into),
        healthy,
        instances: instances.into_iter().map(Into::into).collect(),
        created_at: deployment.created_at,
        updated_at: deployment.updated_at,
    }
}
