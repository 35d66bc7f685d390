//! What users ask of a rollout that is under way, and what one would lead to.

use std::sync::Arc;

use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use domain::{
    deployment::DeploymentSpec,
    id::{DeploymentId, InstanceId, OperationId},
    operation::OperationKind,
    orchestrate::{
        DeploymentView,
        foresee::{Foreseen, foresee},
    },
    presence::Hearing,
};
use serde_json::json;
use uuid::Uuid;

use super::{
    DeploymentKey,
    request::{Locked, Open, deployment_lock_in_txn, operation_cancel_in_txn, operation_open_of_in_txn},
    revision::template_found_in_txn,
};
use crate::{
    Refusal, Store, StoreError,
    audit::{Actor, AuditNew, audit_insert_on_conn},
    event::{EventNew, Severity, event_insert_on_conn},
    operation::{Operation, operation_in_txn},
    orchestrate::{fleet_in_txn, revert_in_txn},
    schema::{deployments, operations},
    wake::{Wake, wake_in_txn},
};

/// What a user asks of a rollout that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RolloutRequest {
    /// Nothing more gives way for now.
    Pause,
    /// It goes on.
    Resume,
    /// It ends, and the deployment goes back to the revision before.
    Cancel,
}

impl RolloutRequest {
    const fn action(self) -> &'static str {
        match self {
            Self::Pause => "deployment_pause",
            Self::Resume => "deployment_resume",
            Self::Cancel => "deployment_cancel",
        }
    }
}

/// Where a declaration would lead.
#[derive(Clone, Debug)]
pub struct Preview {
    /// The number that its revision would have.
    pub revision: u32,
    /// What would become of the copies.
    pub foreseen: Foreseen,
    /// Names of the nodes that it speaks of.
    pub nodes: Vec<(domain::id::NodeId, String)>,
    /// Where copies that are there now are.
    pub instances: Vec<(InstanceId, domain::id::NodeId)>,
}

impl Store {
    /// Asks something of the rollout that is under way, and says which operation it is.
    ///
    /// # Errors
    /// [`Refusal::Missing`], [`Refusal::NothingUnderWay`].
    pub async fn rollout_request(
        &self,
        id: DeploymentId,
        request: RolloutRequest,
        actor: &Actor,
    ) -> Result<OperationId, StoreError> {
        self.transact("rollout_request", async |conn| {
            let locked = deployment_lock_in_txn(conn, &DeploymentKey::Id(id)).await?;
            let open = operation_open_of_in_txn(conn, id).await?;
            let open = open.ok_or_else(|| Refusal::NothingUnderWay(locked.name.clone()))?;
            let operation = operation_in_txn(conn, open).await?;
            let creates = operation.view.kind == OperationKind::DeploymentCreate;
            if locked.deleting || (creates && request == RolloutRequest::Cancel) {
                return Err(Refusal::NothingUnderWay(locked.name).into());
            }
            let paused = (request == RolloutRequest::Pause).then(|| format!("by {}", actor.name));
            diesel::update(deployments::table.filter(deployments::id.eq(id.uuid())))
                .set(deployments::paused.eq(&paused))
                .execute(conn)
                .await?;
            // The time that it was paused is none in which it failed to progress.
            diesel::update(operations::table.filter(operations::id.eq(open.uuid())))
                .set(operations::progressed_at.eq(chrono::Utc::now()))
                .execute(conn)
                .await?;
            requested_in_txn(conn, &locked, (request, &operation), paused.as_deref(), actor).await?;
            if request == RolloutRequest::Cancel {
                let why = format!("{} cancelled it", actor.name);
                operation_cancel_in_txn(conn, id, Open::Whole, &why).await?;
                revert_in_txn(conn, id, &operation, &why).await?;
            }
            Ok(open)
        })
        .await
    }

    /// Says where a declaration would lead, and changes nothing. With `id`, it is a new
    /// revision of that deployment, otherwise a new deployment.
    ///
    /// # Errors
    /// [`Refusal::Missing`].
    pub async fn deployment_preview(
        &self,
        id: Option<DeploymentId>,
        spec: &DeploymentSpec,
        hearing: &dyn Hearing,
    ) -> Result<Preview, StoreError> {
        self.transact("deployment_preview", async |conn| {
            let mut world = fleet_in_txn(conn, hearing).await?.world;
            let mut view = DeploymentView {
                id: id.unwrap_or_else(|| DeploymentId::from_uuid(Uuid::now_v7())),
                revision: 1,
                template: 1,
                spec: Arc::new(spec.clone()),
                deleting: false,
                paused: false,
            };
            if let Some(id) = id {
                if !world.deployments.iter().any(|deployment| deployment.id == id) {
                    return Err(Refusal::Missing("deployment").into());
                }
                let found = template_found_in_txn(conn, id, spec).await?;
                view.revision = u32::try_from(found.number).unwrap_or_default();
                view.template = u32::try_from(found.template).unwrap_or_default();
            }
            let (of, revision) = (view.id, view.revision);
            world.deployments.retain(|deployment| deployment.id != of);
            world.deployments.push(view);
            Ok(Preview {
                revision,
                nodes: world.nodes.iter().map(|node| (node.id, node.name.clone())).collect(),
                instances: world.instances.iter().map(|i| (i.id, i.node_id)).collect(),
                foreseen: foresee(world, of, || InstanceId::from_uuid(Uuid::now_v7())),
            })
        })
        .await
    }
}

async fn requested_in_txn(
    conn: &mut AsyncPgConnection,
    locked: &Locked,
    (request, operation): (RolloutRequest, &Operation),
    paused: Option<&str>,
    actor: &Actor,
) -> Result<(), StoreError> {
    let (action, name) = (request.action(), locked.name.as_str());
    let after = json!({ "paused": paused, "operation": operation.id });
    let audit =
        AuditNew::done(action, name).in_project(locked.project.clone()).change(None, Some(after.clone()));
    audit_insert_on_conn(conn, actor, &audit).await?;
    let what = action.trim_start_matches("deployment_");
    let message = format!("{} asked for a {what} of {} of {name}", actor.name, operation.view.kind.as_str());
    let event = EventNew {
        actor: Some(actor.name.clone()),
        deployment_id: Some(locked.id),
        operation_id: Some(operation.id),
        after: Some(after),
        ..EventNew::now(format!("{action}_requested"), Severity::Info, message)
    };
    event_insert_on_conn(conn, &event).await?;
    wake_in_txn(conn, Wake::Operation(operation.id)).await?;
    Ok(wake_in_txn(conn, Wake::Orchestrate).await?)
}
