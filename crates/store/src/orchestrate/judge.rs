//! Judges open operations, and does what follows from a verdict.

use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use domain::{
    disconnect::has_local_volumes,
    id::{DeploymentId, InstanceId},
    node::NodeState,
    operation::{self, OperationKind, Subject, Then},
    orchestrate::Plan,
};
use serde_json::json;
use uuid::Uuid;

use super::{Fleet, Orchestrated};
use crate::{
    StoreError,
    deployment::{
        Pending, read_spec,
        revision::{Template, revision_in_txn, revision_insert_in_txn},
    },
    event::{EventNew, Severity, event_insert_on_conn},
    instance::{read_desired, read_status},
    operation::{Operation, operation_judged_in_txn, operation_open_in_txn},
    schema::{deployments, instances, nodes, operations, revisions},
    wake::{Wake, wake_in_txn},
};

pub(super) async fn judge_in_txn(
    conn: &mut AsyncPgConnection,
    fleet: &Fleet,
    plan: &Plan,
    done: &mut Orchestrated,
) -> Result<(), StoreError> {
    for mut operation in operation_open_in_txn(conn).await? {
        rollout_in_txn(conn, fleet, &mut operation).await?;
        let subjects = subjects_in_txn(conn, plan, &operation).await?;
        let pending = operation.deployment_id.and_then(|id| fleet.pending.get(&id)).map(Pending::message);
        let judgement = operation::judge(&operation.view, &subjects, pending.as_deref(), chrono::Utc::now());
        operation_judged_in_txn(conn, &operation, &judgement).await?;
        follow_in_txn(conn, &operation, &judgement.then).await?;
        if judgement.verdict.is_some() { done.judged += 1 } else { done.open += 1 }
    }
    Ok(())
}

/// Adds what the judge must know of the deployment's revisions.
async fn rollout_in_txn(
    conn: &mut AsyncPgConnection,
    fleet: &Fleet,
    operation: &mut Operation,
) -> Result<(), StoreError> {
    let (Some(id), Some(revision), Some(base)) =
        (operation.deployment_id, operation.revision, operation.base_revision)
    else {
        return Ok(());
    };
    let number = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
    let (of, from) =
        (revision_in_txn(conn, id, number(revision)).await?, revision_in_txn(conn, id, number(base)).await?);
    let rollout = &mut operation.view.rollout;
    rollout.replaces_copies =
        operation.view.kind != OperationKind::DeploymentScale && of.template != from.template;
    rollout.auto_rollback = of.spec.update.auto_rollback;
    rollout.paused = fleet.paused.get(&id).cloned();
    Ok(())
}

type SubjectRow = (Uuid, String, String, serde_json::Value, i32, String, serde_json::Value);

async fn subjects_in_txn(
    conn: &mut AsyncPgConnection,
    plan: &Plan,
    operation: &Operation,
) -> Result<Vec<Subject>, StoreError> {
    let own =
        revisions::deployment_id.eq(instances::deployment_id).and(revisions::number.eq(instances::revision));
    let query = instances::table
        .inner_join(nodes::table)
        .inner_join(revisions::table.on(own))
        .filter(instances::assigned)
        .select((
            instances::id,
            nodes::name,
            instances::desired,
            instances::status,
            revisions::template,
            nodes::state,
            revisions::spec,
        ))
        .into_boxed();
    let query = match (operation.node_id, operation.instance_id, operation.deployment_id) {
        (Some(node), ..) => query.filter(instances::node_id.eq(node.uuid())),
        (None, Some(instance), _) => query.filter(instances::id.eq(instance.uuid())),
        (None, None, Some(deployment)) => query.filter(instances::deployment_id.eq(deployment.uuid())),
        (None, None, None) => return Ok(Vec::new()),
    };
    let rows: Vec<SubjectRow> = query.load(conn).await?;
    let template = match operation.deployment_id {
        Some(id) => Some(template_in_txn(conn, id).await?),
        None => None,
    };
    rows.into_iter()
        .map(|(id, node, desired, status, of, state, spec)| {
            let state = NodeState::parse(&state).ok_or_else(|| StoreError::corrupt("node's state", state))?;
            Ok(Subject {
                instance_id: id.into(),
                node,
                desired: read_desired(desired)?,
                status: read_status(status)?,
                current: template.is_none_or(|template| template == of),
                lost: plan.lost.contains(&InstanceId::from(id)),
                heard: matches!(state, NodeState::Ready | NodeState::Suspect),
                stays: has_local_volumes(&read_spec(spec)?.instance),
            })
        })
        .collect()
}

async fn template_in_txn(conn: &mut AsyncPgConnection, id: DeploymentId) -> Result<i32, StoreError> {
    let revision =
        revisions::deployment_id.eq(deployments::id).and(revisions::number.eq(deployments::revision));
    let query = deployments::table.inner_join(revisions::table.on(revision));
    Ok(query.filter(deployments::id.eq(id.uuid())).select(revisions::template).first(conn).await?)
}

/// Does what follows from a judgement.
async fn follow_in_txn(
    conn: &mut AsyncPgConnection,
    operation: &Operation,
    then: &Then,
) -> Result<(), StoreError> {
    let Some(id) = operation.deployment_id else {
        if let (Then::EndDrain, Some(node)) = (then, operation.node_id) {
            diesel::update(nodes::table.filter(nodes::id.eq(node.uuid())))
                .set(nodes::draining.eq(false))
                .execute(conn)
                .await?;
        }
        return Ok(());
    };
    let revision = operation.revision.and_then(|n| i32::try_from(n).ok());
    let own = deployments::table
        .filter(deployments::id.eq(id.uuid()))
        .filter(deployments::revision.nullable().eq(revision));
    match then {
        Then::Nothing | Then::EndDrain => {}
        Then::Stable => {
            diesel::update(own).set(deployments::stable_revision.eq(revision)).execute(conn).await?;
        }
        Then::Halt(why) => {
            let halted = diesel::update(own).set(deployments::paused.eq(why)).execute(conn).await?;
            if halted > 0 {
                let message = format!("the rollout of {} is halted: {why}", operation.deployment_name);
                let event = EventNew {
                    deployment_id: Some(id),
                    operation_id: Some(operation.id),
                    cause: Some("update_failed".into()),
                    before: Some(json!({ "paused": null })),
                    after: Some(json!({ "paused": why })),
                    ..EventNew::now("rollout_halted", Severity::Warning, message)
                };
                event_insert_on_conn(conn, &event).await?;
            }
        }
        Then::Revert(why) => revert_in_txn(conn, id, operation, why).await?,
    }
    Ok(())
}

/// Takes a deployment back to the revision before, as a revision of its own.
pub(crate) async fn revert_in_txn(
    conn: &mut AsyncPgConnection,
    id: DeploymentId,
    operation: &Operation,
    why: &str,
) -> Result<(), StoreError> {
    let (Some(revision), Some(base)) = (operation.revision, operation.base_revision) else { return Ok(()) };
    let number = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
    let before = revision_in_txn(conn, id, number(base)).await?;
    let template = Template::Of(u32::try_from(before.template).unwrap_or_default());
    let cause = format!("back to revision {base}, because {why}");
    let inserted = revision_insert_in_txn(conn, id, &before.spec, &cause, template, &operation.actor).await?;
    diesel::update(
        deployments::table
            .filter(deployments::id.eq(id.uuid()))
            .filter(deployments::revision.eq(number(revision))),
    )
    .set((
        deployments::revision.eq(inserted.number),
        deployments::stable_revision.eq(inserted.number),
        deployments::paused.eq(None::<String>),
        deployments::updated_at.eq(diesel::dsl::now),
    ))
    .execute(conn)
    .await?;
    diesel::update(operations::table.filter(operations::id.eq(operation.id.uuid())))
        .set((
            operations::revision.eq(inserted.number),
            operations::reverting.eq(why),
            operations::total.eq(number(before.spec.replicas)),
            operations::done.eq(0),
            operations::progressed_at.eq(chrono::Utc::now()),
        ))
        .execute(conn)
        .await?;
    let message = format!("{} goes {cause}", operation.deployment_name);
    let event = EventNew {
        deployment_id: Some(id),
        operation_id: Some(operation.id),
        cause: Some("update_failed".into()),
        before: Some(json!({ "revision": revision })),
        after: Some(json!({ "revision": inserted.number, "like": base })),
        ..EventNew::now("deployment_reverted", Severity::Warning, message)
    };
    event_insert_on_conn(conn, &event).await?;
    Ok(wake_in_txn(conn, Wake::Orchestrate).await?)
}
