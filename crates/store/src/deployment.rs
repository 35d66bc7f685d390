//! Deployments and their revisions: what changes them. What reads them is in `query`.

mod query;
mod request;
pub mod revision;
pub mod rollout;

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

use self::request::{
    Asked, Locked, Open, deployment_lock_in_txn, open_delete_in_txn, operation_cancel_in_txn,
    requested_in_txn,
};
use crate::{
    Refusal, Store, StoreError,
    audit::{Actor, spec_shown},
    credential::{env_warning_in_txn, secrets_resolve_in_txn, uses_insert_in_txn},
    error::violates,
    operation::{OperationNew, operation_insert_in_txn},
    project::project_share_in_txn,
    schema::{deployments, idempotency_keys, instances, revisions},
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
    /// Who or what halted its rollout.
    pub paused: Option<String>,
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
    /// [`Refusal::NameTaken`], [`Refusal::KeyReused`], [`Refusal::Missing`] for the project,
    /// [`Refusal::Invalid`] for uses of credentials that cannot be served.
    pub async fn deployment_create(
        &self,
        new: &DeploymentNew,
        actor: &Actor,
    ) -> Result<OperationId, StoreError> {
        self.transact("deployment_create", async |conn| {
            if let Some(earlier) = idempotent_in_txn(conn, new, actor).await? {
                return Ok(earlier);
            }
            let project = project_share_in_txn(conn, new.project_id).await?;
            let mut spec = new.spec.clone();
            secrets_resolve_in_txn(conn, self, new.project_id, &mut spec).await?;
            let stored =
                serde_json::to_value(&spec).map_err(|e| StoreError::corrupt("deployment's spec", e))?;
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
                    revisions::spec.eq(&stored),
                    revisions::created_by.eq(&actor.name),
                    revisions::template.eq(1),
                    revisions::cause.eq("created"),
                ))
                .execute(conn)
                .await?;
            uses_insert_in_txn(conn, new.id, 1, &spec.instance).await?;
            env_warning_in_txn(conn, (new.id, &new.name), None, &spec.instance).await?;
            let operation = OperationNew {
                total: new.spec.replicas,
                deadline_seconds: new.spec.progress_deadline_seconds,
                revision: Some(1),
                ..OperationNew::about(new.operation_id, OperationKind::DeploymentCreate, (new.id, &new.name))
            };
            operation_insert_in_txn(conn, &operation, actor).await?;
            idempotency_insert_in_txn(conn, new, actor).await?;
            let change = (None, Some(spec_shown(&new.spec)));
            let message = format!("{} asked for deployment {} to be created", actor.name, new.name);
            let asked = Asked {
                kind: OperationKind::DeploymentCreate,
                id: new.id,
                name: &new.name,
                project,
                audit: change,
                event: (None, Some(serde_json::json!({ "revision": 1 }))),
                message,
            };
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
            let Locked { id, name, project, deleting, revision: number, .. } =
                deployment_lock_in_txn(conn, key).await?;
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
            operation_cancel_in_txn(conn, id, Open::All, "the deployment is being deleted").await?;
            let spec = read_spec(spec)?;
            let operation = OperationNew {
                total: u32::try_from(total).unwrap_or(u32::MAX),
                deadline_seconds: spec.progress_deadline_seconds,
                ..OperationNew::about(operation_id, OperationKind::DeploymentDelete, (id, &name))
            };
            operation_insert_in_txn(conn, &operation, actor).await?;
            let change = (Some(spec_shown(&spec)), None);
            let message = format!("{} asked for deployment {name} to be deleted", actor.name);
            let asked = Asked {
                kind: OperationKind::DeploymentDelete,
                id,
                name: &name,
                project,
                audit: change,
                event: (Some(serde_json::json!({ "revision": number })), None),
                message,
            };
            requested_in_txn(conn, asked, operation_id, actor).await?;
            Ok(operation_id)
        })
        .await
    }
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
