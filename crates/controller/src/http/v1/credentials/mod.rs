//! Credentials: values go in and are not shown again, but for who may see them where
//! that is allowed at all.

mod body;

use actix_web::{
    HttpResponse, delete, get, post, put,
    web::{Data, Path, Query},
};
use chrono::{DateTime, Utc};
use domain::{credential::Form, id::ProjectId, name::Labels};
use serde::{Deserialize, Serialize};
use store::credential::{Credential, CredentialUser, CredentialVersion, Follower, OpenedVersion};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use self::body::{CredentialCreate, CredentialReplace, FIELDS};
use super::{
    super::{
        extract::{Allowed, Body},
        page::{self, PageView},
        problem::Problems,
    },
    projects,
};
use crate::{
    auth::policy::{CredentialsRead, CredentialsReveal, CredentialsWrite, Permission},
    error::Error,
    service::{Services, credentials::CredentialWish},
    vault::CertificateShown,
};

/// A credential, without its value.
#[derive(Serialize, ToSchema)]
pub struct StoredCredentialView {
    id: Uuid,
    name: String,
    /// The project that it belongs to.
    project: String,
    project_id: Uuid,
    /// `secret`, `registry`, `tls` or `webhook`.
    kind: &'static str,
    /// Labels that a node must carry to be given it.
    #[schema(value_type = std::collections::BTreeMap<String, String>)]
    node_labels: Labels,
    /// Of a login: whose images it is for.
    registry: Option<String>,
    /// Of a certificate: what it says, as it is in the newest version.
    certificate: Option<CertificateView>,
    /// Number of the newest version.
    version: u32,
    /// `bytes`, or `json`: then uses may ask for parts by key.
    form: &'static str,
    created_at: DateTime<Utc>,
    created_by: String,
    /// When it got its newest version.
    updated_at: DateTime<Utc>,
}

/// What a certificate says.
#[derive(Serialize, ToSchema)]
pub struct CertificateView {
    subject: String,
    /// The names and addresses that it is for.
    names: Vec<String>,
    issuer: String,
    not_before: DateTime<Utc>,
    not_after: DateTime<Utc>,
}

/// A version of a credential, without its value.
#[derive(Serialize, ToSchema)]
pub struct CredentialVersionView {
    version: u32,
    /// Whether it is the newest, which those use who follow the credential.
    is_latest: bool,
    /// `bytes` or `json`.
    form: &'static str,
    certificate: Option<CertificateView>,
    /// The version whose value it has again.
    restored_from: Option<u32>,
    created_at: DateTime<Utc>,
    created_by: String,
}

/// All versions that are kept: 100, and older ones that are in use.
#[derive(Serialize, ToSchema)]
pub struct CredentialVersionsView {
    /// The newest first.
    items: Vec<CredentialVersionView>,
}

/// Somebody who uses a credential.
#[derive(Serialize, ToSchema)]
pub struct CredentialUserView {
    deployment: String,
    deployment_id: Uuid,
    /// Which of its revisions.
    revision: u32,
    /// Whether that is the present one; if not, instances of it are still there.
    is_present: bool,
    /// Which version; null for a login, which is used as it is at the moment.
    version: Option<u32>,
    /// Whether a newer version makes a new revision; of a login it makes none.
    follows: bool,
}

/// Who uses a credential.
#[derive(Serialize, ToSchema)]
pub struct CredentialUsersView {
    items: Vec<CredentialUserView>,
}

/// A new version, and who is rolled to it.
#[derive(Serialize, ToSchema)]
pub struct CredentialReplacedView {
    /// Number of the new version.
    version: u32,
    /// Deployments that follow the credential and have a new revision for it.
    deployments: Vec<FollowerView>,
}

/// A deployment that is rolled to a new version.
#[derive(Serialize, ToSchema)]
pub struct FollowerView {
    deployment: String,
    deployment_id: Uuid,
    /// What brings it about.
    operation_id: Uuid,
}

/// Which version shall come again.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CredentialRollback {
    version: u32,
}

/// Which version is to be seen.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CredentialRevealWish {
    /// The newest when left out.
    #[serde(default)]
    version: Option<u32>,
}

/// A value. It is described here and never made: the answer is written in place.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes an answer; a secret is never in a type that can be shown")]
pub struct CredentialRevealed {
    version: u32,
    /// `bytes` or `json`.
    form: &'static str,
    /// The bytes, in base64, of either form.
    value_base64: String,
}

fn certificate(shown: serde_json::Value) -> Option<CertificateView> {
    let CertificateShown { subject, names, issuer, not_before, not_after } =
        serde_json::from_value(shown).ok()?;
    Some(CertificateView { subject, names, issuer, not_before, not_after })
}

impl From<Credential> for StoredCredentialView {
    fn from(credential: Credential) -> Self {
        Self {
            id: credential.id.uuid(),
            name: credential.name,
            project: credential.project,
            project_id: credential.project_id.uuid(),
            kind: credential.kind.as_str(),
            node_labels: credential.node_labels,
            registry: credential.registry_host,
            certificate: certificate(credential.shown),
            version: credential.latest,
            form: credential.form.as_str(),
            created_at: credential.created_at,
            created_by: credential.created_by,
            updated_at: credential.updated_at,
        }
    }
}

impl From<CredentialUser> for CredentialUserView {
    fn from(user: CredentialUser) -> Self {
        Self {
            deployment: user.deployment,
            deployment_id: user.deployment_id.uuid(),
            revision: user.revision,
            is_present: user.is_present,
            version: user.version,
            follows: user.follows,
        }
    }
}

fn replaced((version, followers): (u32, Vec<Follower>)) -> HttpResponse {
    let follower = |f: Follower| FollowerView {
        deployment: f.deployment,
        deployment_id: f.deployment_id.uuid(),
        operation_id: f.operation_id.uuid(),
    };
    let deployments = followers.into_iter().map(follower).collect();
    HttpResponse::Ok().json(CredentialReplacedView { version, deployments })
}

/// Where a credential's name is looked up.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ProjectQuery {
    /// The project, by name or id. When left out: the default one, or else whichever
    /// alone has a credential of that name.
    project: Option<String>,
}

/// A credential by name or id, once it is certain that the caller has the permission
/// over it.
async fn over<P: Permission>(
    services: &Services,
    caller: &Allowed<P>,
    text: &str,
    project: Option<&str>,
) -> Result<Credential, Error> {
    let project = match project {
        Some(text) => Some(projects::over(services, caller, text).await?.id()),
        None => None,
    };
    let credential = services.credential_find(text, project, &caller.visible()).await?;
    caller.over(services, credential.project_id.uuid(), ("credential", text)).await?;
    Ok(credential)
}

/// Makes a credential. Its value is sealed, and not shown again.
#[utoipa::path(tag = "credentials", security(("bearer" = [])), request_body = CredentialCreate, responses((status = 201, body = StoredCredentialView), Problems))]
#[post("/credentials")]
pub(super) async fn credential_create(
    services: Data<Services>,
    caller: Allowed<CredentialsWrite>,
    body: Body<CredentialCreate>,
) -> Result<HttpResponse, Error> {
    let create = body.read_secret(FIELDS)?;
    let project_id = match &create.project {
        Some(text) => projects::over(&services, &caller, text).await?.id(),
        None => {
            caller.over(&services, ProjectId::DEFAULT.uuid(), ("project", "default")).await?;
            ProjectId::DEFAULT
        }
    };
    let (name, node_labels, value) = create.read()?;
    let wish = CredentialWish { project_id, name, node_labels, value };
    let made = services.credential_create(wish, &caller.actor).await?;
    Ok(HttpResponse::Created().json(StoredCredentialView::from(made)))
}

/// Which credentials.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct CredentialQuery {
    /// Of this project, by name or id.
    project: Option<String>,
    /// Most items, 1 to 500; 50 when left out.
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Lists credentials that the caller sees, the oldest first.
#[utoipa::path(tag = "credentials", security(("bearer" = [])), params(CredentialQuery), responses((status = 200, body = PageView<StoredCredentialView>), Problems))]
#[get("/credentials")]
pub(super) async fn credential_list(
    services: Data<Services>,
    caller: Allowed<CredentialsRead>,
    query: Query<CredentialQuery>,
) -> Result<HttpResponse, Error> {
    let (cursor, limit) = page::read(query.limit, query.cursor.as_deref())?;
    let project = match &query.project {
        Some(text) => Some(projects::over(&services, &caller, text).await?.id()),
        None => None,
    };
    let page = services.store.credential_list_page(&caller.visible(), project, cursor, limit).await?;
    Ok(HttpResponse::Ok().json(PageView::of(page, StoredCredentialView::from)))
}

/// Shows a credential, by name or id, without its value.
#[utoipa::path(tag = "credentials", security(("bearer" = [])), params(("credential" = String, Path, description = "Name or id"), ProjectQuery), responses((status = 200, body = StoredCredentialView), Problems))]
#[get("/credentials/{credential}")]
pub(super) async fn credential_get(
    services: Data<Services>,
    caller: Allowed<CredentialsRead>,
    path: Path<String>,
    query: Query<ProjectQuery>,
) -> Result<HttpResponse, Error> {
    let credential = over(&services, &caller, &path, query.project.as_deref()).await?;
    Ok(HttpResponse::Ok().json(StoredCredentialView::from(credential)))
}

/// Deletes a credential with all its versions. Refused while somebody uses it; the
/// problem's `errors` say who.
#[utoipa::path(tag = "credentials", security(("bearer" = [])), params(("credential" = String, Path, description = "Name or id"), ProjectQuery), responses((status = 204), Problems))]
#[delete("/credentials/{credential}")]
pub(super) async fn credential_delete(
    services: Data<Services>,
    caller: Allowed<CredentialsWrite>,
    path: Path<String>,
    query: Query<ProjectQuery>,
) -> Result<HttpResponse, Error> {
    let credential = over(&services, &caller, &path, query.project.as_deref()).await?;
    services.credential_delete(&credential, &caller.actor).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Gives a credential a new value, as a new version. Deployments that follow it are
/// rolled to it; refused where one could not use it.
#[utoipa::path(
    tag = "credentials", security(("bearer" = [])), request_body = CredentialReplace,
    params(("credential" = String, Path, description = "Name or id"), ProjectQuery),
    responses((status = 200, body = CredentialReplacedView), Problems)
)]
#[put("/credentials/{credential}/value")]
pub(super) async fn credential_replace(
    services: Data<Services>,
    caller: Allowed<CredentialsWrite>,
    path: Path<String>,
    query: Query<ProjectQuery>,
    body: Body<CredentialReplace>,
) -> Result<HttpResponse, Error> {
    let credential = over(&services, &caller, &path, query.project.as_deref()).await?;
    let value = body.read_secret(FIELDS)?.read()?;
    Ok(replaced(services.credential_replace(&credential, value, &caller.actor).await?))
}

/// Lists a credential's versions, the newest first.
#[utoipa::path(tag = "credentials", security(("bearer" = [])), params(("credential" = String, Path, description = "Name or id"), ProjectQuery), responses((status = 200, body = CredentialVersionsView), Problems))]
#[get("/credentials/{credential}/versions")]
pub(super) async fn credential_version_list(
    services: Data<Services>,
    caller: Allowed<CredentialsRead>,
    path: Path<String>,
    query: Query<ProjectQuery>,
) -> Result<HttpResponse, Error> {
    let credential = over(&services, &caller, &path, query.project.as_deref()).await?;
    let versions = services.store.credential_version_list(credential.id).await?;
    let view = |v: CredentialVersion| CredentialVersionView {
        version: v.version,
        is_latest: v.version == credential.latest,
        form: v.form.as_str(),
        certificate: certificate(v.shown),
        restored_from: v.restored_from,
        created_at: v.created_at,
        created_by: v.created_by,
    };
    let items = versions.into_iter().map(view).collect();
    Ok(HttpResponse::Ok().json(CredentialVersionsView { items }))
}

/// Gives a credential the value of an earlier version again, as a new version.
#[utoipa::path(
    tag = "credentials", security(("bearer" = [])), request_body = CredentialRollback,
    params(("credential" = String, Path, description = "Name or id"), ProjectQuery),
    responses((status = 200, body = CredentialReplacedView), Problems)
)]
#[post("/credentials/{credential}/rollback")]
pub(super) async fn credential_rollback(
    services: Data<Services>,
    caller: Allowed<CredentialsWrite>,
    path: Path<String>,
    query: Query<ProjectQuery>,
    body: Body<CredentialRollback>,
) -> Result<HttpResponse, Error> {
    let credential = over(&services, &caller, &path, query.project.as_deref()).await?;
    let CredentialRollback { version } = body.read()?;
    Ok(replaced(services.credential_rollback(&credential, version, &caller.actor).await?))
}

/// Lists who uses a credential: present revisions of deployments, and earlier ones of
/// which instances are still there; of a login, whoever has an image of its registry.
#[utoipa::path(tag = "credentials", security(("bearer" = [])), params(("credential" = String, Path, description = "Name or id"), ProjectQuery), responses((status = 200, body = CredentialUsersView), Problems))]
#[get("/credentials/{credential}/used-by")]
pub(super) async fn credential_used_by(
    services: Data<Services>,
    caller: Allowed<CredentialsRead>,
    path: Path<String>,
    query: Query<ProjectQuery>,
) -> Result<HttpResponse, Error> {
    let credential = over(&services, &caller, &path, query.project.as_deref()).await?;
    let users = services.store.credential_users(&credential).await?;
    let items = users.into_iter().map(CredentialUserView::from).collect();
    Ok(HttpResponse::Ok().json(CredentialUsersView { items }))
}

/// Shows a value. Only where the configuration allows it (`reveal_enabled`), and it is
/// written down who saw what.
#[utoipa::path(
    tag = "credentials", security(("bearer" = [])), request_body = CredentialRevealWish,
    params(("credential" = String, Path, description = "Name or id"), ProjectQuery),
    responses((status = 200, body = CredentialRevealed), Problems)
)]
#[post("/credentials/{credential}/reveal")]
pub(super) async fn credential_reveal(
    services: Data<Services>,
    caller: Allowed<CredentialsReveal>,
    path: Path<String>,
    query: Query<ProjectQuery>,
    body: Body<CredentialRevealWish>,
) -> Result<HttpResponse, Error> {
    let credential = over(&services, &caller, &path, query.project.as_deref()).await?;
    let CredentialRevealWish { version } = body.read()?;
    let opened = services.credential_reveal(&credential, version, &caller.actor).await?;
    Ok(HttpResponse::Ok().content_type("application/json").body(revealed(&opened)))
}

/// The answer, written in place: nothing in between holds the value.
fn revealed(opened: &OpenedVersion) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let form = match opened.form {
        Form::Bytes => "bytes",
        Form::Json => "json",
    };
    let mut text = String::with_capacity(64 + opened.value.size_bytes().div_ceil(3) * 4);
    text.push_str(&format!("{{\"version\":{},\"form\":\"{form}\",\"value_base64\":\"", opened.version));
    STANDARD.encode_string(opened.value.reveal(), &mut text);
    text.push_str("\"}");
    text
}
