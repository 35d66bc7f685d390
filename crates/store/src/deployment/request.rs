//! What requests about deployments share: the lock, what is open, and what is written
//! down about who asked for what.

use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use domain::{
    id::{DeploymentId, OperationId, ProjectId},
    operation::OperationKind,
};
use uuid::Uuid;

use super::DeploymentKey;
use crate::{
    Refusal, StoreError,
    audit::{Actor, AuditNew, audit_insert_on_conn},
    event::{EventNew, Severity, event_insert_on_conn},
    schema::{deployments, operations, projects},
    wake::{Wake, wake_in_txn},
};

/// A deployment whose row this transaction has locked.
pub(super) struct Locked {
    pub(super) id: DeploymentId,
    pub(super) name: String,
    pub(super) project: String,
    pub(super) deleting: bool,
    pub(super) revision: i32,
    pub(super) stable_revision: Option<i32>,
}

type LockedRow = (Uuid, String, Uuid, bool, i32, Option<i32>);

/// Locks a deployment. Whoever changes one or its operations comes through here first,
/// so a guard that was looked at behind this holds until the end of the transaction.
pub(super) async fn deployment_lock_in_txn(
    conn: &mut AsyncPgConnection,
    key: &DeploymentKey,
) -> Result<Locked, StoreError> {
    let query = deployments::table
        .filter(deployments::deleted_at.is_null())
        .select((
            deployments::id,
            deployments::name,
            deployments::project_id,
            deployments::deleting,
            deployments::revision,
            deployments::stable_revision,
        ))
        .for_no_key_update();
    let named = |project: ProjectId, name: String| {
        deployments::project_id.eq(project.uuid()).and(deployments::name.eq(name))
    };
    let row: Option<LockedRow> = match key.clone() {
        DeploymentKey::Id(id) => query.filter(deployments::id.eq(id.uuid())).first(conn).await,
        DeploymentKey::Name(name) => query.filter(named(ProjectId::DEFAULT, name)).first(conn).await,
        DeploymentKey::In(id, name) => query.filter(named(id, name)).first(conn).await,
    }
    .optional()?;
    let (id, name, project, deleting, revision, stable_revision) =
        row.ok_or(Refusal::Missing("deployment"))?;
    let project = projects::table.find(project).select(projects::name).first(conn).await?;
    Ok(Locked { id: id.into(), name, project, deleting, revision, stable_revision })
}

pub(super) async fn open_delete_in_txn(
    conn: &mut AsyncPgConnection,
    id: DeploymentId,
) -> Result<Option<OperationId>, StoreError> {
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

/// Which of a deployment's open operations.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Open {
    /// Those about instances of it, too.
    All,
    /// The one about the deployment as a whole.
    Whole,
}

/// Ends what is open on a deployment, with an event each. Says how many copies that
/// served had been taken away by it.
pub(super) async fn operation_cancel_in_txn(
    conn: &mut AsyncPgConnection,
    id: DeploymentId,
    which: Open,
    why: &str,
) -> Result<i32, StoreError> {
    let mut open: Vec<(Uuid, Option<Uuid>)> = operations::table
        .filter(operations::deployment_id.eq(id.uuid()))
        .filter(operations::verdict.is_null())
        .order(operations::id)
        .select((operations::id, operations::instance_id))
        .load(conn)
        .await?;
    open.retain(|(_, instance)| which == Open::All || instance.is_none());
    let mut replaced = 0;
    for (operation, _) in open {
        let ended: Option<(i32, String, String, String)> = diesel::update(
            operations::table.filter(operations::id.eq(operation)).filter(operations::verdict.is_null()),
        )
        .set((
            operations::verdict.eq("cancelled"),
            operations::message.eq(why),
            operations::updated_at.eq(diesel::dsl::now),
            operations::finished_at.eq(crate::txn::db_now()),
        ))
        .returning((operations::replaced, operations::kind, operations::deployment_name, operations::actor))
        .get_result(conn)
        .await
        .optional()?;
        let Some((taken, kind, name, actor)) = ended else { continue };
        replaced += taken;
        let message = format!("{kind} of {name}: cancelled: {why}");
        let event = EventNew {
            actor: Some(actor),
            deployment_id: Some(id),
            operation_id: Some(operation.into()),
            ..EventNew::now("operation_cancelled", Severity::Info, message)
        };
        event_insert_on_conn(conn, &event).await?;
        wake_in_txn(conn, Wake::Operation(operation.into())).await?;
    }
    Ok(replaced)
}

/// The open operation about a deployment as a whole. There is one at most.
pub(super) async fn operation_open_of_in_txn(
    conn: &mut AsyncPgConnection,
    id: DeploymentId,
) -> Result<Option<OperationId>, StoreError> {
    let open: Option<Uuid> = operations::table
        .filter(operations::deployment_id.eq(id.uuid()))
        .filter(operations::instance_id.is_null())
        .filter(operations::verdict.is_null())
        .select(operations::id)
        .first(conn)
        .await
        .optional()?;
    Ok(open.map(Into::into))
}

type Change = (Option<serde_json::Value>, Option<serde_json::Value>);

/// What was asked for of which deployment.
pub(super) struct Asked<'a> {
    pub(super) kind: OperationKind,
    pub(super) id: DeploymentId,
    pub(super) name: &'a str,
    pub(super) project: String,
    /// Before and after, as the audit log shows it.
    pub(super) audit: Change,
    /// Before and after, as the event shows it.
    pub(super) event: Change,
    pub(super) message: String,
}

/// Audit line, event and wake-up of a request about a deployment.
pub(super) async fn requested_in_txn(
    conn: &mut AsyncPgConnection,
    asked: Asked<'_>,
    operation_id: OperationId,
    actor: &Actor,
) -> Result<(), StoreError> {
    let action = asked.kind.as_str();
    let (before, after) = asked.audit;
    let audit = AuditNew::done(action, asked.name).in_project(asked.project).change(before, after);
    audit_insert_on_conn(conn, actor, &audit).await?;
    let event = EventNew {
        actor: Some(actor.name.clone()),
        deployment_id: Some(asked.id),
        operation_id: Some(operation_id),
        before: asked.event.0,
        after: asked.event.1,
        ..EventNew::now(format!("{action}_requested"), Severity::Info, asked.message)
    };
    event_insert_on_conn(conn, &event).await?;
    Ok(wake_in_txn(conn, Wake::Orchestrate).await?)
}
