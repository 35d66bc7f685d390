//! Projects, and who is a member of which.

use actix_web::{
    HttpResponse, delete, get, post, put,
    web::{Data, Path, Query},
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use store::project::{Member, Project};
use utoipa::ToSchema;
use uuid::Uuid;

use super::super::{
    extract::{Allowed, Body},
    page::{PageQuery, PageView},
    problem::Problems,
};
use crate::{
    auth::{
        caller::Caller,
        policy::{MembersWrite, Permission, ProjectsRead, ProjectsWrite},
        role::Role,
    },
    error::Error,
    service::Services,
};

/// A new project.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProjectCreate {
    /// Lower-case letters, digits and inner hyphens, at most 63; unique.
    name: String,
}

/// A project: what deployments belong to.
#[derive(Serialize, ToSchema)]
pub struct ProjectView {
    id: Uuid,
    name: String,
    /// Whether it is the one that is meant where none is named.
    is_default: bool,
    /// The caller's role over its objects: `admin`, `operator` or `viewer`.
    role: &'static str,
    created_at: DateTime<Utc>,
}

/// A member of a project.
#[derive(Serialize, ToSchema)]
pub struct MemberView {
    account_id: Uuid,
    account: String,
    /// `user` or `service`.
    kind: String,
    /// `admin`, `operator` or `viewer`.
    role: String,
    /// Since when it is a member, with whatever role.
    created_at: DateTime<Utc>,
}

/// What a member may do.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MemberUpdate {
    /// `admin`, `operator` or `viewer`.
    role: String,
}

impl From<Member> for MemberView {
    fn from(member: Member) -> Self {
        Self {
            account_id: member.account_id().uuid(),
            account: member.account,
            kind: member.kind,
            role: member.role,
            created_at: member.created_at,
        }
    }
}

fn view(project: Project, caller: &Caller) -> ProjectView {
    ProjectView {
        id: project.id().uuid(),
        role: caller.role_in(project.id().uuid()).map_or("none", Role::as_str),
        name: project.name,
        is_default: project.is_default,
        created_at: project.created_at,
    }
}

/// A project by name or id, once it is certain that the caller has the permission
/// over it.
pub(super) async fn over<P: Permission>(
    services: &Services,
    caller: &Allowed<P>,
    text: &str,
) -> Result<Project, Error> {
    let project = services.project_find(text).await?;
    caller.over(services, project.id().uuid(), ("project", text)).await?;
    Ok(project)
}

/// Makes a project. It has no members; administrators of the fleet see it all the same.
#[utoipa::path(tag = "projects", security(("bearer" = [])), request_body = ProjectCreate, responses((status = 201, body = ProjectView), Problems))]
#[post("/projects")]
pub(super) async fn project_create(
    services: Data<Services>,
    caller: Allowed<ProjectsWrite>,
    body: Body<ProjectCreate>,
) -> Result<HttpResponse, Error> {
    let ProjectCreate { name } = body.read()?;
    let project = services.project_create(&name, &caller.actor).await?;
    Ok(HttpResponse::Created().json(view(project, &caller.caller)))
}

/// Lists the projects that the caller sees, the oldest first.
#[utoipa::path(tag = "projects", security(("bearer" = [])), params(PageQuery), responses((status = 200, body = PageView<ProjectView>), Problems))]
#[get("/projects")]
pub(super) async fn project_list(
    services: Data<Services>,
    caller: Allowed<ProjectsRead>,
    page: Query<PageQuery>,
) -> Result<HttpResponse, Error> {
    let (cursor, limit) = page.read()?;
    let projects = services.store.project_list_page(&caller.visible(), cursor, limit).await?;
    Ok(HttpResponse::Ok().json(PageView::of(projects, |project| view(project, &caller.caller))))
}

/// Shows a project.
#[utoipa::path(tag = "projects", security(("bearer" = [])), params(("project" = String, Path, description = "Name or id")), responses((status = 200, body = ProjectView), Problems))]
#[get("/projects/{project}")]
pub(super) async fn project_get(
    services: Data<Services>,
    caller: Allowed<ProjectsRead>,
    path: Path<String>,
) -> Result<HttpResponse, Error> {
    let project = over(&services, &caller, &path).await?;
    Ok(HttpResponse::Ok().json(view(project, &caller.caller)))
}

/// Deletes a project that has no deployments. What its members had by it ends at once.
#[utoipa::path(tag = "projects", security(("bearer" = [])), params(("project" = String, Path, description = "Name or id")), responses((status = 204), Problems))]
#[delete("/projects/{project}")]
pub(super) async fn project_delete(
    services: Data<Services>,
    caller: Allowed<ProjectsWrite>,
    path: Path<String>,
) -> Result<HttpResponse, Error> {
    let project = over(&services, &caller, &path).await?;
    services.store.project_delete(project.id(), &caller.actor).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Lists a project's members, those first who have been it for longest. Whoever has a
/// role on the fleet needs no membership, and is not listed for it.
#[utoipa::path(tag = "projects", security(("bearer" = [])), params(("project" = String, Path, description = "Name or id"), PageQuery), responses((status = 200, body = PageView<MemberView>), Problems))]
#[get("/projects/{project}/members")]
pub(super) async fn member_list(
    services: Data<Services>,
    caller: Allowed<ProjectsRead>,
    path: Path<String>,
    page: Query<PageQuery>,
) -> Result<HttpResponse, Error> {
    let (cursor, limit) = page.read()?;
    let project = over(&services, &caller, &path).await?;
    let members = services.store.project_member_list_page(project.id(), cursor, limit).await?;
    Ok(HttpResponse::Ok().json(PageView::of(members, MemberView::from)))
}

/// Gives an account a role in a project, in the place of the one it has there.
#[utoipa::path(
    tag = "projects", security(("bearer" = [])), request_body = MemberUpdate,
    params(("project" = String, Path, description = "Name or id"), ("account" = String, Path, description = "Name or id")),
    responses((status = 200, body = MemberView), Problems)
)]
#[put("/projects/{project}/members/{account}")]
pub(super) async fn member_set(
    services: Data<Services>,
    caller: Allowed<MembersWrite>,
    path: Path<(String, String)>,
    body: Body<MemberUpdate>,
) -> Result<HttpResponse, Error> {
    let (project, account) = path.into_inner();
    let project = over(&services, &caller, &project).await?;
    let MemberUpdate { role } = body.read()?;
    let role = Role::parse(&role)
        .ok_or_else(|| Error::invalid_field("role", "must be admin, operator or viewer"))?;
    let (id, role) = (project.id(), role.as_str());
    let member = services.store.project_member_set(id, &account, role, &caller.actor).await?;
    Ok(HttpResponse::Ok().json(MemberView::from(member)))
}

/// Ends an account's membership in a project, at once.
#[utoipa::path(
    tag = "projects", security(("bearer" = [])),
    params(("project" = String, Path, description = "Name or id"), ("account" = String, Path, description = "Name or id")),
    responses((status = 204), Problems)
)]
#[delete("/projects/{project}/members/{account}")]
pub(super) async fn member_remove(
    services: Data<Services>,
    caller: Allowed<MembersWrite>,
    path: Path<(String, String)>,
) -> Result<HttpResponse, Error> {
    let (project, account) = path.into_inner();
    let project = over(&services, &caller, &project).await?;
    services.store.project_member_remove(project.id(), &account, &caller.actor).await?;
    Ok(HttpResponse::NoContent().finish())
}
