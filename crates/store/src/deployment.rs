//! Deployments and their revisions: what changes them. What reads them is in `query`.

mod query;

use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use domain::{
    Timestamp,
    deployment::DeploymentSpec,
    id::{DeploymentId, OperationId, ProjectId, UserId},
    operation::OperationKind,
    placement::Rejection,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    Refusal, Store, StoreError,
    audit::{Actor, AuditNew, audit_insert_on_conn, spec_shown},
    error::violates,
    event::{EventNew, Severity, event_insert_on_conn},
    operation::{OperationNew, operation_insert_in_txn},
    project::project_share_in_txn,
    schema::{deployments, idempotency_keys, instances, projects, revisions},
    wake::{Wake, wake_in_txn},
};

/// Why instances of a deployment wait.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// How many.
    pub lacking: u32,
    /// Why, node by node; empty when there is no node at all.
    pub rejected: Vec<Rejection>,
}

impl Pending {
    /// One clause for an operation's message.
    #[must_use]
    pub fn message(&self) -> String {
        let first = self.rejected.as_slice().iter().next().map_or_else(
            || "there is no node".to_owned(),
            |r| format!("node {} cannot take it because {}", r.node, r.reason),
        );
        let more = self.rejected.len().saturating_sub(1);
        let tail = if more == 0 { String::new() } else { format!(" (and {more} more nodes)") };
        format!("{} wait for a node: {first}{tail}", self.lacking)
    }
}

/// A deployment, with its present revision.
#[derive(Clone, Debug)]
pub struct Deployment {
    /// Its id.
    pub id: DeploymentId,
    /// Which project it belongs to.
    pub project_id: ProjectId,
    /// By name.
    pub project: String,
    /// Its name; unique among those of its project that are not deleted.
    pub name: String,
    /// Number of its present revision.
    pub revision: u32,
    /// What that says.
    pub spec: DeploymentSpec,
    /// Whether it is on its way out.
    pub deleting: bool,
    /// Why instances wait, where they do.
    pub pending: Option<Pending>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

pub(crate) fn read_spec(spec: serde_json::Value) -> Result<DeploymentSpec, StoreError> {
    serde_json::from_value(spec).map_err(|e| StoreError::corrupt("deployment's spec", e))
}

/// A deployment by its id or by its name.
#[derive(Clone, Debug)]
pub enum DeploymentKey {
    /// By id.
    Id(DeploymentId),
    /// By name, in the default project.
    Name(String),
    /// By name, in a project.
    In(ProjectId, String),
}

/// A key that makes a repeated request harmless, and the request's hash.
#[derive(Clone, Debug)]
pub struct IdempotencyKey {
    /// As the client chose it.
    pub key: String,
    /// SHA-256 of the request's body.
    pub request_sha256: Vec<u8>,
}

/// A new deployment.
pub struct DeploymentNew {
    /// Its id.
    pub id: DeploymentId,
    /// Which project it belongs to.
    pub project_id: ProjectId,
    /// Its name.
    pub name: String,
    /// Its first revision.
    pub spec: DeploymentSpec,
    /// The operation that carries it out.
    pub operation_id: OperationId,
    /// Where the client sent one.
    pub idempotency: Option<IdempotencyKey>,
}

impl Store {
    /// Records a deployment, its first revision, its operation, the audit line
    /// and the event, all or nothing. With an idempotency key that was used for
    /// the same request, answers that request's operation and changes nothing.
    ///
    /// # Errors
    /// [`Refusal::NameTaken`], [`Refusal::KeyReused`], [`Refusal::Missing`] for the project.
    pub async fn deployment_create(
        &self,
        new: &DeploymentNew,
        actor: &Actor,
    ) -> Result<OperationId, StoreError> {
        let spec =
            serde_json::to_value(&new.spec).map_err(|e| StoreError::corrupt("deployment's spec", e))?;
        self.transact("deployment_create", async |conn| {
            if let Some(earlier) = idempotent_in_txn(conn, new, actor).await? {
                return Ok(earlier);
            }
            let project = project_share_in_txn(conn, new.project_id).await?;
            diesel::insert_into(deployments::table)
                .values((
                    deployments::id.eq(new.id.uuid()),
                    deployments::project_id.eq(new.project_id.uuid()),
                    deployments::name.eq(&new.name),
                    deployments::revision.eq(1),
                ))
                .execute(conn)
                .await
                .map_err(|e| match violates(&e, "deployments_name") {
                    true => Refusal::NameTaken(new.name.clone()).into(),
                    false => StoreError::from(e),
                })?;
            diesel::insert_into(revisions::table)
                .values((
                    revisions::deployment_id.eq(new.id.uuid()),
                    revisions::number.eq(1),
                    revisions::spec.eq(&spec),
                    revisions::created_by.eq(&actor.name),
                ))
                .execute(conn)
                .await?;
            let operation = OperationNew {
                id: new.operation_id,
                kind: OperationKind::DeploymentCreate,
                deployment: (new.id, &new.name),
                instance_id: None,
                restart_generation: 0,
                total: new.spec.replicas,
                deadline_seconds: new.spec.progress_deadline_seconds,
            };
            operation_insert_in_txn(conn, &operation, actor).await?;
            idempotency_insert_in_txn(conn, new, actor).await?;
            let change = (None, Some(spec_shown(&new.spec)));
            let asked = Asked { action: "deployment_create", id: new.id, name: &new.name, project, change };
            requested_in_txn(conn, asked, new.operation_id, actor).await?;
            Ok(new.operation_id)
        })
        .await
    }

    /// Records that nothing of a deployment shall be left. Of one that is being
    /// deleted already, answers the operation that does it.
    ///
    /// # Errors
    /// [`Refusal::Missing`].
    pub async fn deployment_delete(
        &self,
        key: &DeploymentKey,
        operation_id: OperationId,
        actor: &Actor,
    ) -> Result<OperationId, StoreError> {
        self.transact("deployment_delete", async |conn| {
            let (id, name, project, deleting) = deployment_lock_in_txn(conn, key).await?;
            if deleting && let Some(open) = open_delete_in_txn(conn, id).await? {
                return Ok(open);
            }
            let spec: serde_json::Value = revisions::table
                .filter(revisions::deployment_id.eq(id.uuid()))
                .order(revisions::number.desc())
                .select(revisions::spec)
                .first(conn)
                .await?;
            let total: i64 = instances::table
                .filter(instances::deployment_id.eq(id.uuid()))
                .filter(instances::assigned)
                .count()
                .get_result(conn)
                .await?;
            diesel::update(deployments::table.filter(deployments::id.eq(id.uuid())))
                .set((deployments::deleting.eq(true), deployments::updated_at.eq(diesel::dsl::now)))
                .execute(conn)
                .await?;
            cancel_others_in_txn(conn, id).await?;
            let spec = read_spec(spec)?;
            let operation = OperationNew {
                id: operation_id,
                kind: OperationKind::DeploymentDelete,
                deployment: (id, &name),
                instance_id: None,
                restart_generation: 0,
                total: u32::try_from(total).unwrap_or(u32::MAX),
                deadline_seconds: spec.progress_deadline_seconds,
            };
            operation_insert_in_txn(conn, &operation, actor).await?;
            let change = (Some(spec_shown(&spec)), None);
            let asked = Asked { action: "deployment_delete", id, name: &name, project, change };
            requested_in_txn(conn, asked, operation_id, actor).await?;
            Ok(operation_id)
        })
        .await
    }
}

async fn deployment_lock_in_txn(
    conn: &mut AsyncPgConnection,
    key: &DeploymentKey,
) -> Result<(DeploymentId, String, String, bool), StoreError> {
    let query = deployments::table
        .filter(deployments::deleted_at.is_null())
        .select((deployments::id, deployments::name, deployments::project_id, deployments::deleting))
        .for_no_key_update();
    let named = |project: ProjectId, name: String| {
        deployments::project_id.eq(project.uuid()).and(deployments::name.eq(name))
    };
    let row: Option<(Uuid, String, Uuid, bool)> = match key.clone() {
        DeploymentKey::Id(id) => query.filter(deployments::id.eq(id.uuid())).first(conn).await,
        DeploymentKey::Name(name) => query.filter(named(ProjectId::DEFAULT, name)).first(conn).await,
        DeploymentKey::In(id, name) => query.filter(named(id, name)).first(conn).await,
    }
    .optional()?;
    let (id, name, project, deleting) = row.ok_or(Refusal::Missing("deployment"))?;
    let project = projects::table.find(project).select(projects::name).first(conn).await?;
    Ok((id.into(), name, project, deleting))
}

async fn open_delete_in_txn(
    conn: &mut AsyncPgConnection,
    id: DeploymentId,
) -> Result<Option<OperationId>, StoreError> {
    use crate::schema::operations;
    let open: Option<Uuid> = operations::table
        .filter(operations::deployment_id.eq(id.uuid()))
        .filter(operations::kind.eq(OperationKind::DeploymentDelete.as_str()))
        .filter(operations::verdict.is_null())
        .select(operations::id)
        .first(conn)
        .await
        .optional()?;
    Ok(open.map(Into::into))
}

/// A deletion takes the place of whatever else is open on the deployment.
async fn cancel_others_in_txn(conn: &mut AsyncPgConnection, id: DeploymentId) -> Result<(), StoreError> {
    use crate::schema::operations;
    let cancelled: Vec<Uuid> = diesel::update(
        operations::table
            .filter(operations::deployment_id.eq(id.uuid()))
            .filter(operations::verdict.is_null()),
    )
    .set((
        operations::verdict.eq("cancelled"),
        operations::message.eq("the deployment is being deleted"),
        operations::updated_at.eq(diesel::dsl::now),
        operations::finished_at.eq(crate::txn::db_now()),
    ))
    .returning(operations::id)
    .get_results(conn)
    .await?;
    for operation in cancelled {
        wake_in_txn(conn, Wake::Operation(operation.into())).await?;
    }
    Ok(())
}

/// What was asked for of which deployment.
struct Asked<'a> {
    action: &'static str,
    id: DeploymentId,
    name: &'a str,
    project: String,
    /// Before and after, as the audit log shows it.
    change: (Option<serde_json::Value>, Option<serde_json::Value>),
}

/// Audit line, event and wake-up of a request about a deployment.
async fn requested_in_txn(
    conn: &mut AsyncPgConnection,
    Asked { action, id, name, project, change: (before, after) }: Asked<'_>,
    operation_id: OperationId,
    actor: &Actor,
) -> Result<(), StoreError> {
    let audit = AuditNew::done(action, name).in_project(project).change(before, after);
    audit_insert_on_conn(conn, actor, &audit).await?;
    let what = if action == "deployment_create" { "created" } else { "deleted" };
    let message = format!("{} asked for deployment {name} to be {what}", actor.name);
    let event = EventNew {
        actor: Some(actor.name.clone()),
        deployment_id: Some(id),
        operation_id: Some(operation_id),
        ..EventNew::now(format!("{action}_requested"), Severity::Info, message)
    };
    event_insert_on_conn(conn, &event).await?;
    Ok(wake_in_txn(conn, Wake::Orchestrate).await?)
}

async fn idempotent_in_txn(
    conn: &mut AsyncPgConnection,
    new: &DeploymentNew,
    actor: &Actor,
) -> Result<Option<OperationId>, StoreError> {
    let (Some(key), Some(account)) = (&new.idempotency, actor.account_id) else { return Ok(None) };
    // Two requests with one key that arrive together: the second waits for the first.
    diesel::sql_query("select pg_advisory_xact_lock(6701003, hashtext($1))")
        .bind::<diesel::sql_types::Text, _>(&key.key)
        .execute(conn)
        .await?;
    let earlier: Option<(Vec<u8>, Uuid)> = idempotency_keys::table
        .find((account.uuid(), &key.key))
        .select((idempotency_keys::request_sha256, idempotency_keys::operation_id))
        .first(conn)
        .await
        .optional()?;
    match earlier {
        Some((hash, operation)) if hash == key.request_sha256 => Ok(Some(operation.into())),
        Some(_) => Err(Refusal::KeyReused.into()),
        None => Ok(None),
    }
}

async fn idempotency_insert_in_txn(
    conn: &mut AsyncPgConnection,
    new: &DeploymentNew,
    actor: &Actor,
) -> Result<(), StoreError> {
    let (Some(key), Some(account)) = (&new.idempotency, actor.account_id) else { return Ok(()) };
    diesel::insert_into(idempotency_keys::table)
        .values((
            idempotency_keys::account_id.eq(UserId::uuid(account)),
            idempotency_keys::key.eq(&key.key),
            idempotency_keys::request_sha256.eq(&key.request_sha256),
            idempotency_keys::operation_id.eq(new.operation_id.uuid()),
        ))
        .execute(conn)
        .await?;
    Ok(())
}
