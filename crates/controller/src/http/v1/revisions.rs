//! Revisions of a deployment: what makes a new one, what shows them, and what is asked
//! of the rollout that is under way.

use actix_web::{
    HttpRequest, HttpResponse, get,
    http::header::IF_MATCH,
    post, put,
    web::{Data, Path, Query},
};
use chrono::{DateTime, Utc};
use domain::{deployment::DeploymentSpec, operation::OperationKind};
use serde::{Deserialize, Serialize};
use store::deployment::{
    Deployment,
    revision::{Revision, Template},
    rollout::{Preview, RolloutRequest},
};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::{
    super::{
        extract::{Allowed, Body},
        page::PageView,
        problem::Problems,
    },
    accepted,
    declare::DeploymentCreate,
    deployments::{PendingView, ProjectQuery, over},
    operations::OperationView,
    spec::SpecView,
};
use crate::{
    auth::policy::{DeploymentsRead, DeploymentsWrite},
    error::Error,
    service::{Services, deployments::Change},
};

/// How a change is to be made.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ChangeQuery {
    /// Where the deployment's name is looked up: a project, by name or id.
    project: Option<String>,
    /// Whether an operation that is under way is cancelled for this one; it is refused
    /// with `409` (`operation_in_progress`) otherwise.
    #[serde(default)]
    supersede: bool,
    /// Only says where it would lead.
    #[serde(default)]
    dry_run: bool,
}

/// Where a declaration would lead, if nothing else happens meanwhile.
#[derive(Serialize, ToSchema)]
pub struct PreviewView {
    /// The number that the revision would have.
    revision: u32,
    /// Copies that would be made, in this order.
    created: Vec<CreatedView>,
    /// Copies that would be taken away, in this order.
    removed: Vec<RemovedView>,
    /// Copies that would stay as they are.
    left: Vec<LeftView>,
    /// Why copies would wait for a node; null when none would.
    pending: Option<PendingView>,
    /// Whether a copy would have to go before the one that replaces it comes.
    stop_first: bool,
}

/// A copy that would be made.
#[derive(Serialize, ToSchema)]
pub struct CreatedView {
    node: String,
    /// Why at all, such as `new_revision`.
    reason: &'static str,
    /// Why there.
    placement: String,
}

/// A copy that would be taken away.
#[derive(Serialize, ToSchema)]
pub struct RemovedView {
    instance_id: Uuid,
    node: String,
    /// Such as `new_revision`; `makes_room`: a new one cannot stand beside it.
    reason: &'static str,
}

/// A copy that would stay.
#[derive(Serialize, ToSchema)]
pub struct LeftView {
    instance_id: Uuid,
    node: String,
}

impl From<Preview> for PreviewView {
    fn from(preview: Preview) -> Self {
        let Preview { revision, foreseen, nodes, instances } = preview;
        let name = |id| nodes.iter().find(|(node, _)| *node == id).map(|(_, name)| name.clone());
        let at = |id| {
            let node = instances.iter().find(|(instance, _)| *instance == id).map(|(_, node)| *node);
            node.and_then(name).unwrap_or_default()
        };
        let stop_first =
            foreseen.removed.iter().any(|(_, reason)| *reason == domain::orchestrate::Reason::MakesRoom);
        Self {
            revision,
            created: foreseen
                .made
                .into_iter()
                .map(|made| CreatedView {
                    node: name(made.placement.node_id).unwrap_or_default(),
                    reason: made.reason.as_str(),
                    placement: made.placement.reason,
                })
                .collect(),
            removed: foreseen
                .removed
                .into_iter()
                .map(|(id, reason)| RemovedView {
                    instance_id: id.uuid(),
                    node: at(id),
                    reason: reason.as_str(),
                })
                .collect(),
            left: foreseen
                .left
                .into_iter()
                .map(|id| LeftView { instance_id: id.uuid(), node: at(id) })
                .collect(),
            pending: foreseen.pending.map(|(lacking, rejected)| PendingView::new(lacking, rejected)),
            stop_first,
        }
    }
}

/// A revision of a deployment.
#[derive(Serialize, ToSchema)]
pub struct RevisionView {
    revision: u32,
    /// Why there is this revision.
    cause: String,
    /// The number of the revision whose copies its own are like: going from one to the
    /// other replaces none.
    template: u32,
    created_by: String,
    created_at: DateTime<Utc>,
    spec: SpecView,
}

impl From<Revision> for RevisionView {
    fn from(revision: Revision) -> Self {
        Self {
            revision: revision.number,
            cause: revision.cause,
            template: revision.template,
            created_by: revision.created_by,
            created_at: revision.created_at,
            spec: revision.spec.into(),
        }
    }
}

/// Changes a deployment: makes a new revision of the whole declaration, and rolls it out.
///
/// The body is as for a new deployment; its name must be the deployment's own. With
/// `If-Match`, the revision must be that one.
#[utoipa::path(
    tag = "deployments", security(("bearer" = [])), request_body = DeploymentCreate,
    params(
        ("deployment" = String, Path, description = "Name or id"), ChangeQuery,
        ("If-Match" = Option<String>, Header, description = "The revision that the change is based on, as in `ETag`; `412` when it is another by now")
    ),
    responses((status = 202, body = OperationView, headers(("Location" = String))), (status = 200, body = PreviewView, description = "With `dry_run`"), Problems)
)]
#[put("/deployments/{deployment}")]
pub(super) async fn deployment_update(
    services: Data<Services>,
    caller: Allowed<DeploymentsWrite>,
    request: HttpRequest,
    path: Path<String>,
    query: Query<ChangeQuery>,
    body: Body<DeploymentCreate>,
) -> Result<HttpResponse, Error> {
    let deployment = over(&services, &caller, &path, query.project.as_deref()).await?;
    let expected = if_match(&request)?;
    let create = body.read()?;
    if create
        .project
        .as_deref()
        .is_some_and(|p| p != deployment.project && p != deployment.project_id.to_string())
    {
        return Err(Error::invalid_field("project", "must be the deployment's own"));
    }
    let (name, spec) = create.read()?;
    if name != deployment.name {
        return Err(Error::invalid_field(
            "name",
            format!("must be the deployment's own, {:?}", deployment.name),
        ));
    }
    let change = Change {
        spec,
        kind: OperationKind::DeploymentUpdate,
        cause: format!("updated by {}", caller.actor.name),
        expected,
        template: Template::Found,
    };
    changed(&services, &caller, &deployment, change, &query).await
}

async fn changed(
    services: &Services,
    caller: &Allowed<DeploymentsWrite>,
    deployment: &Deployment,
    change: Change,
    query: &ChangeQuery,
) -> Result<HttpResponse, Error> {
    if query.dry_run {
        let preview = services.deployment_preview(Some(deployment.id), &change.spec).await?;
        return Ok(HttpResponse::Ok().json(PreviewView::from(preview)));
    }
    let operation = services.deployment_change(deployment.id, change, query.supersede, &caller.actor).await?;
    Ok(accepted(operation.into()))
}

/// The revision that `If-Match` names; `*` is any.
fn if_match(request: &HttpRequest) -> Result<Option<u32>, Error> {
    let Some(header) = request.headers().get(IF_MATCH) else { return Ok(None) };
    let text = header.to_str().unwrap_or_default().trim().trim_start_matches("W/");
    if text == "*" {
        return Ok(None);
    }
    let number = text.trim_matches('"').parse();
    number.map(Some).map_err(|_| Error::invalid_field("If-Match", "must be a revision, such as \"3\", or *"))
}

/// Which revisions.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RevisionQuery {
    /// Where the deployment's name is looked up: a project, by name or id.
    project: Option<String>,
    /// Most items, 1 to 100; 20 when left out.
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Lists the revisions of a deployment, the newest first.
#[utoipa::path(tag = "deployments", security(("bearer" = [])), params(("deployment" = String, Path, description = "Name or id"), RevisionQuery), responses((status = 200, body = PageView<RevisionView>), Problems))]
#[get("/deployments/{deployment}/revisions")]
pub(super) async fn revision_list(
    services: Data<Services>,
    caller: Allowed<DeploymentsRead>,
    path: Path<String>,
    query: Query<RevisionQuery>,
) -> Result<HttpResponse, Error> {
    let limit = query.limit.unwrap_or(20);
    if !(1..=100).contains(&limit) {
        return Err(Error::invalid_field("limit", "must be 1 to 100"));
    }
    let before = query.cursor.as_deref().map(str::parse).transpose();
    let before = before.map_err(|_| Error::invalid_field("cursor", "must be a next_cursor of this list"))?;
    let deployment = over(&services, &caller, &path, query.project.as_deref()).await?;
    let limit = limit as usize;
    let mut revisions = services.store.revision_list(deployment.id, before, limit + 1).await?;
    let more = revisions.len() > limit;
    revisions.truncate(limit);
    let next = revisions.iter().last().filter(|_| more).map(|last| last.number.to_string());
    let items: Vec<RevisionView> = revisions.into_iter().map(Into::into).collect();
    Ok(HttpResponse::Ok().json(PageView { items, next_cursor: next }))
}

async fn revision(services: &Services, deployment: &Deployment, number: u32) -> Result<Revision, Error> {
    let found = services.store.revision_fetch(deployment.id, number).await?;
    found.ok_or_else(|| Error::not_found("revision"))
}

/// Shows a revision of a deployment.
#[utoipa::path(tag = "deployments", security(("bearer" = [])), params(("deployment" = String, Path, description = "Name or id"), ("revision" = u32, Path), ProjectQuery), responses((status = 200, body = RevisionView), Problems))]
#[get("/deployments/{deployment}/revisions/{revision}")]
pub(super) async fn revision_get(
    services: Data<Services>,
    caller: Allowed<DeploymentsRead>,
    path: Path<(String, String)>,
    query: Query<ProjectQuery>,
) -> Result<HttpResponse, Error> {
    let (name, number) = path.into_inner();
    let deployment = over(&services, &caller, &name, query.project.as_deref()).await?;
    let number = number.parse().map_err(|_| Error::not_found("revision"))?;
    Ok(HttpResponse::Ok().json(RevisionView::from(revision(&services, &deployment, number).await?)))
}

/// Which revision to compare with.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DiffQuery {
    /// Where the deployment's name is looked up: a project, by name or id.
    project: Option<String>,
    /// The number of the other revision; the one before when left out.
    from: Option<u32>,
}

/// What differs between two revisions.
#[derive(Serialize, ToSchema)]
pub struct DiffView {
    from: u32,
    to: u32,
    /// Whether going from one to the other replaces copies.
    replaces_copies: bool,
    changes: Vec<FieldDiffView>,
}

/// A field that differs.
#[derive(Serialize, ToSchema)]
pub struct FieldDiffView {
    /// Its path, such as `limits.memory_bytes`. Lists are compared as a whole.
    field: String,
    from: serde_json::Value,
    to: serde_json::Value,
}

/// Shows what a revision changed.
#[utoipa::path(tag = "deployments", security(("bearer" = [])), params(("deployment" = String, Path, description = "Name or id"), ("revision" = u32, Path), DiffQuery), responses((status = 200, body = DiffView), Problems))]
#[get("/deployments/{deployment}/revisions/{revision}/diff")]
pub(super) async fn revision_diff(
    services: Data<Services>,
    caller: Allowed<DeploymentsRead>,
    path: Path<(String, String)>,
    query: Query<DiffQuery>,
) -> Result<HttpResponse, Error> {
    let (name, number) = path.into_inner();
    let deployment = over(&services, &caller, &name, query.project.as_deref()).await?;
    let number: u32 = number.parse().map_err(|_| Error::not_found("revision"))?;
    let to = revision(&services, &deployment, number).await?;
    let from = revision(&services, &deployment, query.from.unwrap_or_else(|| before(number))).await?;
    let shown = |spec: DeploymentSpec| serde_json::to_value(SpecView::from(spec)).map_err(Error::internal);
    let mut view = DiffView {
        from: from.number,
        to: to.number,
        replaces_copies: from.template != to.template,
        changes: Vec::new(),
    };
    diff("", &shown(from.spec)?, &shown(to.spec)?, &mut view.changes);
    Ok(HttpResponse::Ok().json(view))
}

/// The revision that another is compared with; nothing comes before the first.
fn before(number: u32) -> u32 {
    number.saturating_sub(1).max(1)
}

fn diff(at: &str, from: &serde_json::Value, to: &serde_json::Value, changes: &mut Vec<FieldDiffView>) {
    if let (Some(old), Some(new)) = (from.as_object(), to.as_object()) {
        let names: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        let null = serde_json::Value::Null;
        for name in names {
            let path = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
            diff(&path, old.get(name).unwrap_or(&null), new.get(name).unwrap_or(&null), changes);
        }
    } else if from != to {
        changes.push(FieldDiffView { field: at.to_owned(), from: from.clone(), to: to.clone() });
    }
}

/// Which revision to go back to.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RollbackCreate {
    /// Its number.
    revision: u32,
}

/// Goes back to an earlier revision: makes a new one that says the same.
#[utoipa::path(tag = "deployments", security(("bearer" = [])), request_body = RollbackCreate, params(("deployment" = String, Path, description = "Name or id"), ChangeQuery), responses((status = 202, body = OperationView, headers(("Location" = String))), (status = 200, body = PreviewView, description = "With `dry_run`"), Problems))]
#[post("/deployments/{deployment}/rollback")]
pub(super) async fn deployment_rollback(
    services: Data<Services>,
    caller: Allowed<DeploymentsWrite>,
    path: Path<String>,
    query: Query<ChangeQuery>,
    body: Body<RollbackCreate>,
) -> Result<HttpResponse, Error> {
    let deployment = over(&services, &caller, &path, query.project.as_deref()).await?;
    let to = revision(&services, &deployment, body.read()?.revision).await?;
    let change = Change {
        spec: to.spec,
        kind: OperationKind::DeploymentRollback,
        cause: format!("{} went back to revision {}", caller.actor.name, to.number),
        expected: None,
        template: Template::Of(to.template),
    };
    changed(&services, &caller, &deployment, change, &query).await
}

/// How many copies there shall be.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ScaleCreate {
    /// 0 to 1000.
    replicas: u32,
}

/// Sets how many copies there shall be; those that are there stay as they are.
#[utoipa::path(tag = "deployments", security(("bearer" = [])), request_body = ScaleCreate, params(("deployment" = String, Path, description = "Name or id"), ChangeQuery), responses((status = 202, body = OperationView, headers(("Location" = String))), (status = 200, body = PreviewView, description = "With `dry_run`"), Problems))]
#[post("/deployments/{deployment}/scale")]
pub(super) async fn deployment_scale(
    services: Data<Services>,
    caller: Allowed<DeploymentsWrite>,
    path: Path<String>,
    query: Query<ChangeQuery>,
    body: Body<ScaleCreate>,
) -> Result<HttpResponse, Error> {
    let deployment = over(&services, &caller, &path, query.project.as_deref()).await?;
    let replicas = body.read()?.replicas;
    let change = Change {
        spec: DeploymentSpec { replicas, ..deployment.spec.clone() },
        kind: OperationKind::DeploymentScale,
        cause: format!("{} asked for {replicas} replicas", caller.actor.name),
        // What was read above is what is written, or it is refused.
        expected: Some(deployment.revision),
        template: Template::Found,
    };
    changed(&services, &caller, &deployment, change, &query).await
}

async fn asked(
    services: &Services,
    caller: &Allowed<DeploymentsWrite>,
    (path, query): (&str, &ProjectQuery),
    request: RolloutRequest,
) -> Result<HttpResponse, Error> {
    let deployment = over(services, caller, path, query.project.as_deref()).await?;
    let operation = services.rollout_request(deployment.id, request, &caller.actor).await?;
    Ok(accepted(operation.into()))
}

/// Pauses the rollout that is under way: nothing more gives way until it is resumed.
#[utoipa::path(tag = "deployments", security(("bearer" = [])), params(("deployment" = String, Path, description = "Name or id"), ProjectQuery), responses((status = 202, body = OperationView, headers(("Location" = String))), Problems))]
#[post("/deployments/{deployment}/pause")]
pub(super) async fn deployment_pause(
    services: Data<Services>,
    caller: Allowed<DeploymentsWrite>,
    path: Path<String>,
    query: Query<ProjectQuery>,
) -> Result<HttpResponse, Error> {
    asked(&services, &caller, (&path, &query), RolloutRequest::Pause).await
}

/// Lets the rollout that is under way go on.
#[utoipa::path(tag = "deployments", security(("bearer" = [])), params(("deployment" = String, Path, description = "Name or id"), ProjectQuery), responses((status = 202, body = OperationView, headers(("Location" = String))), Problems))]
#[post("/deployments/{deployment}/resume")]
pub(super) async fn deployment_resume(
    services: Data<Services>,
    caller: Allowed<DeploymentsWrite>,
    path: Path<String>,
    query: Query<ProjectQuery>,
) -> Result<HttpResponse, Error> {
    asked(&services, &caller, (&path, &query), RolloutRequest::Resume).await
}

/// Ends the change that is under way, and goes back to the revision before it. A
/// creation is ended by deleting.
#[utoipa::path(tag = "deployments", security(("bearer" = [])), params(("deployment" = String, Path, description = "Name or id"), ProjectQuery), responses((status = 202, body = OperationView, headers(("Location" = String))), Problems))]
#[post("/deployments/{deployment}/cancel")]
pub(super) async fn deployment_cancel(
    services: Data<Services>,
    caller: Allowed<DeploymentsWrite>,
    path: Path<String>,
    query: Query<ProjectQuery>,
) -> Result<HttpResponse, Error> {
    asked(&services, &caller, (&path, &query), RolloutRequest::Cancel).await
}
