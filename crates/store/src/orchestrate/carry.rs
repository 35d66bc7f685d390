//! Writes what the plan says, with an event for each change.

use std::collections::{BTreeMap, BTreeSet};

use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use domain::{
    id::{DeploymentId, InstanceId, NodeId},
    instance::{Desired, InstanceStatus},
    orchestrate::{self, Change, Plan, Reason},
    placement::Placement,
    presence::Hearing,
};
use serde_json::json;
use uuid::Uuid;

use super::{Fleet, Orchestrated};
use crate::{
    StoreError,
    deployment::Pending,
    event::{EventNew, Severity, event_insert_on_conn},
    instance::assignment_revision_next_in_txn,
    schema::{deployments, fleet, instances, operations},
};

pub(super) async fn carry_out_in_txn(
    conn: &mut AsyncPgConnection,
    fleet: &mut Fleet,
    plan: &Plan,
    hearing: &dyn Hearing,
) -> Result<Orchestrated, StoreError> {
    let revisions = node_revisions_in_txn(conn, fleet, &plan.changes).await?;
    let mut done = Orchestrated { due: plan.due, ..Orchestrated::default() };
    if was_heard_since(fleet, &plan.changes, hearing) {
        done.due = Some(fleet.world.now);
        return Ok(done);
    }
    let mut still_pending = BTreeMap::new();
    for change in &plan.changes {
        match change {
            Change::Place { placement, .. } => {
                let revision = revisions.get(&placement.node_id).copied().unwrap_or_default();
                place_in_txn(conn, fleet, change, revision).await?;
                done.placed += 1;
            }
            Change::Pend { deployment_id, lacking, rejected } => {
                let pending = Pending { lacking: *lacking, rejected: rejected.clone() };
                still_pending.insert(*deployment_id, pending);
            }
            Change::Remove { instance_id, reason } => {
                let revision = revision_at(fleet, &revisions, *instance_id);
                remove_in_txn(conn, fleet, (*instance_id, *reason), revision).await?;
                done.removed += 1;
            }
            Change::Release { instance_id } => {
                let revision = revision_at(fleet, &revisions, *instance_id);
                diesel::update(instances::table.filter(instances::id.eq(instance_id.uuid())))
                    .set((instances::assigned.eq(false), instances::assignment_revision.eq(revision)))
                    .execute(conn)
                    .await?;
            }
            Change::Finish { deployment_id } => finish_in_txn(conn, *deployment_id).await?,
        }
    }
    pending_in_txn(conn, &fleet.pending, &still_pending).await?;
    fleet.pending = still_pending;
    paused_in_txn(conn, fleet.replacement_paused.as_deref(), plan.replacement_paused.as_deref()).await?;
    Ok(done)
}

/// Whether a node with a fenced copy that is to be replaced was heard of after the plan
/// was made. Its row is locked by now: a session that answers its heartbeat from here on
/// reads its assignments only after this transaction (I6).
fn was_heard_since(fleet: &Fleet, changes: &[Change], hearing: &dyn Hearing) -> bool {
    let now = fleet.world.now;
    let fenced = changes.iter().filter_map(|change| match change {
        Change::Remove { instance_id, reason: Reason::NodeLost } => fleet.instance(*instance_id),
        _ => None,
    });
    fenced.into_iter().any(|instance| {
        let silent = hearing.silent_since(instance.node_id, now);
        fleet
            .deployment(instance.deployment_id)
            .is_none_or(|of| !orchestrate::is_replaceable(of, instance, silent, now))
    })
}

fn revision_at(fleet: &Fleet, revisions: &BTreeMap<NodeId, i64>, id: InstanceId) -> i64 {
    let node = fleet.instance(id).map(|instance| instance.node_id);
    node.and_then(|node| revisions.get(&node).copied()).unwrap_or_default()
}

/// The next assignment revision of every node that a plan touches, in the order
/// of their ids, so that two transactions never wait for each other.
async fn node_revisions_in_txn(
    conn: &mut AsyncPgConnection,
    fleet: &Fleet,
    changes: &[Change],
) -> Result<BTreeMap<NodeId, i64>, StoreError> {
    let node_of = |id: &InstanceId| fleet.instance(*id).map(|i| i.node_id);
    let touched: BTreeSet<NodeId> = changes
        .iter()
        .filter_map(|change| match change {
            Change::Place { placement, .. } => Some(placement.node_id),
            Change::Remove { instance_id, .. } | Change::Release { instance_id } => node_of(instance_id),
            Change::Pend { .. } | Change::Finish { .. } => None,
        })
        .collect();
    let mut revisions = BTreeMap::new();
    for node in touched {
        revisions.insert(node, assignment_revision_next_in_txn(conn, node).await?);
    }
    Ok(revisions)
}

fn event_of(
    fleet: &Fleet,
    (deployment, instance, node): (DeploymentId, InstanceId, NodeId),
    (kind, reason): (&str, Reason),
    message: String,
) -> EventNew {
    let severity = if matches!(reason, Reason::NodeLost) { Severity::Warning } else { Severity::Info };
    EventNew {
        cause: Some(reason.as_str().to_owned()),
        node_id: Some(node),
        deployment_id: Some(deployment),
        instance_id: Some(instance),
        operation_id: fleet.operations.get(&deployment).copied(),
        ..EventNew::now(kind, severity, message)
    }
}

async fn place_in_txn(
    conn: &mut AsyncPgConnection,
    fleet: &Fleet,
    change: &Change,
    assignment_revision: i64,
) -> Result<(), StoreError> {
    let Change::Place { deployment_id, revision, placement, reason, replaces } = change else {
        return Ok(());
    };
    let id = Uuid::now_v7();
    let value = |r: Result<serde_json::Value, serde_json::Error>| {
        r.map_err(|e| StoreError::corrupt("new instance", e))
    };
    let Placement { node_id, .. } = placement;
    diesel::insert_into(instances::table)
        .values((
            instances::id.eq(id),
            instances::deployment_id.eq(deployment_id.uuid()),
            instances::revision.eq(i32::try_from(*revision).unwrap_or(i32::MAX)),
            instances::node_id.eq(node_id.uuid()),
            instances::desired.eq(Desired::Running.as_str()),
            instances::assignment_revision.eq(assignment_revision),
            instances::placement.eq(value(serde_json::to_value(placement))?),
            instances::status.eq(value(serde_json::to_value(InstanceStatus::FIRST))?),
            instances::replaces_id.eq(replaces.map(InstanceId::uuid)),
            instances::placed_for.eq(reason.as_str()),
        ))
        .execute(conn)
        .await?;
    let name = fleet.names.get(deployment_id).map_or("", String::as_str);
    let node = fleet.node(*node_id).map_or("", |node| node.name.as_str());
    let instead = replaces.map(|id| format!(" in the place of {id}")).unwrap_or_default();
    let message = format!("a copy of revision {revision} of {name} was placed on {node}{instead}");
    let event = EventNew {
        after: Some(
            json!({ "desired": "running", "revision": revision, "node": node, "replaces": replaces }),
        ),
        ..event_of(fleet, (*deployment_id, id.into(), *node_id), ("instance_placed", *reason), message)
    };
    event_insert_on_conn(conn, &event).await
}

async fn remove_in_txn(
    conn: &mut AsyncPgConnection,
    fleet: &Fleet,
    (id, reason): (InstanceId, Reason),
    assignment_revision: i64,
) -> Result<(), StoreError> {
    let own = instances::table.filter(instances::id.eq(id.uuid()));
    let changed = diesel::update(own.filter(instances::desired.ne(Desired::Removed.as_str())))
        .set((
            instances::desired.eq(Desired::Removed.as_str()),
            instances::assignment_revision.eq(assignment_revision),
            instances::removed_for.eq(reason.as_str()),
        ))
        .execute(conn)
        .await?;
    let Some(instance) = fleet.instance(id).filter(|_| changed > 0) else { return Ok(()) };
    let deployment = instance.deployment_id;
    if matches!(reason, Reason::NewRevision | Reason::MakesRoom) {
        diesel::update(
            operations::table
                .filter(operations::deployment_id.eq(deployment.uuid()))
                .filter(operations::instance_id.is_null())
                .filter(operations::verdict.is_null()),
        )
        .set(operations::replaced.eq(operations::replaced + 1))
        .execute(conn)
        .await?;
    }
    let name = fleet.names.get(&deployment).map_or("", String::as_str);
    let node = fleet.node(instance.node_id).map_or("", |node| node.name.as_str());
    let message =
        format!("the copy of revision {} of {name} on {node} is to go: {}", instance.revision, words(reason));
    let event = EventNew {
        before: Some(
            json!({ "desired": instance.desired.as_str(), "revision": instance.revision, "node": node }),
        ),
        after: Some(json!({ "desired": "removed" })),
        ..event_of(fleet, (deployment, id, instance.node_id), ("instance_retired", reason), message)
    };
    event_insert_on_conn(conn, &event).await
}

const fn words(reason: Reason) -> &'static str {
    match reason {
        Reason::Lacking => "there are too few",
        Reason::Surplus => "there are more copies than asked for",
        Reason::NewRevision => "a copy of the present revision is healthy in its place",
        Reason::MakesRoom => "a copy of the present revision cannot stand beside it",
        Reason::NodeLost => "its node is lost, its lease is over, and another takes its place",
        Reason::NodeBack => "its node is back, and another does its work",
        Reason::Drain => "its node is being drained",
        Reason::Deleting => "the deployment is being deleted",
    }
}

async fn finish_in_txn(conn: &mut AsyncPgConnection, deployment: DeploymentId) -> Result<(), StoreError> {
    let name: Option<String> = diesel::update(
        deployments::table
            .filter(deployments::id.eq(deployment.uuid()))
            .filter(deployments::deleted_at.is_null()),
    )
    .set((deployments::deleted_at.eq(crate::txn::db_now()), deployments::updated_at.eq(diesel::dsl::now)))
    .returning(deployments::name)
    .get_result(conn)
    .await
    .optional()?;
    let Some(name) = name else { return Ok(()) };
    let message = format!("deployment {name} is gone");
    let event = EventNew {
        deployment_id: Some(deployment),
        ..EventNew::now("deployment_deleted", Severity::Info, message)
    };
    event_insert_on_conn(conn, &event).await
}

/// Writes why deployments wait, and an event where one begins to.
async fn pending_in_txn(
    conn: &mut AsyncPgConnection,
    before: &BTreeMap<DeploymentId, Pending>,
    after: &BTreeMap<DeploymentId, Pending>,
) -> Result<(), StoreError> {
    let known: BTreeSet<DeploymentId> = before.keys().chain(after.keys()).copied().collect();
    for deployment in known {
        let (was, is) = (before.get(&deployment), after.get(&deployment));
        if was == is {
            continue;
        }
        let value =
            is.map(serde_json::to_value).transpose().map_err(|e| StoreError::corrupt("pending reason", e))?;
        diesel::update(deployments::table.filter(deployments::id.eq(deployment.uuid())))
            .set(deployments::pending.eq(value))
            .execute(conn)
            .await?;
        if let (None, Some(is)) = (was, is) {
            let event = EventNew {
                deployment_id: Some(deployment),
                after: Some(json!({ "lacking": is.lacking })),
                ..EventNew::now("instances_pending", Severity::Warning, is.message())
            };
            event_insert_on_conn(conn, &event).await?;
        }
    }
    Ok(())
}

/// Writes that nothing on lost nodes is replaced, or is again; one event each.
async fn paused_in_txn(
    conn: &mut AsyncPgConnection,
    before: Option<&str>,
    after: Option<&str>,
) -> Result<(), StoreError> {
    if before == after {
        return Ok(());
    }
    let told = diesel::update(fleet::table.filter(fleet::replacement_paused.is_not_distinct_from(before)))
        .set(fleet::replacement_paused.eq(after))
        .execute(conn)
        .await?;
    if told == 0 {
        return Ok(());
    }
    let (kind, severity, message) = match (before, after) {
        (None, Some(why)) => (
            "replacement_paused",
            Severity::Error,
            format!("copies on lost nodes are not replaced: {why}. See the setting mass_loss_percent"),
        ),
        (_, None) => {
            let message = "copies on lost nodes are replaced again".to_owned();
            ("replacement_resumed", Severity::Info, message)
        }
        // More of the same is no news.
        (Some(_), Some(_)) => return Ok(()),
    };
    let event = EventNew {
        before: Some(json!({ "paused": before })),
        after: Some(json!({ "paused": after })),
        ..EventNew::now(kind, severity, message)
    };
    event_insert_on_conn(conn, &event).await
}
