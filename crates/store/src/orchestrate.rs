//! The planning transaction: reads the fleet, lets [`domain::orchestrate`] and
//! [`domain::operation`] decide, and writes what they say, all in one.
//!
//! An advisory lock lets one controller at a time do it. The lock ends with the
//! transaction, so a controller that dies in the middle leaves nothing behind.

use std::collections::{BTreeMap, BTreeSet};

use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use domain::{
    deployment::DeploymentSpec,
    id::{DeploymentId, InstanceId, NodeId},
    instance::{Desired, InstanceStatus},
    node::{NodeFacts, NodeState, StorageLimit},
    operation::{self, Subject},
    orchestrate::{self, Change, DeploymentView, InstanceView},
    placement::{Candidate, Placement},
};
use uuid::Uuid;

use crate::{
    Store, StoreError,
    deployment::{Pending, read_spec},
    event::{EventNew, Severity, event_insert_on_conn},
    instance::{assignment_revision_next_in_txn, read_desired, read_status},
    operation::{Operation, operation_judged_in_txn, operation_open_in_txn},
    schema::{deployments, instances, nodes, revisions},
};

/// What one pass did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Orchestrated {
    /// Instances placed.
    pub placed: usize,
    /// Instances told to go.
    pub removed: usize,
    /// Operations that got their verdict.
    pub judged: usize,
    /// Operations that are still open.
    pub open: usize,
}

struct World {
    deployments: Vec<DeploymentView>,
    instances: Vec<InstanceView>,
    candidates: Vec<Candidate>,
    pending: BTreeMap<DeploymentId, Pending>,
}

impl Store {
    /// Plans and judges once. Doing it twice does nothing more.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn orchestrate(&self) -> Result<Orchestrated, StoreError> {
        self.transact("orchestrate", async |conn| {
            diesel::sql_query("select pg_advisory_xact_lock(6701004)").execute(conn).await?;
            let mut world = world_in_txn(conn).await?;
            let changes = orchestrate::plan(
                &world.deployments,
                &world.instances,
                std::mem::take(&mut world.candidates),
            );
            let mut done = carry_out_in_txn(conn, &mut world, changes).await?;
            for operation in operation_open_in_txn(conn).await? {
                let verdict = judge_in_txn(conn, &operation, &world).await?;
                if verdict { done.judged += 1 } else { done.open += 1 }
            }
            Ok(done)
        })
        .await
    }
}

async fn judge_in_txn(
    conn: &mut AsyncPgConnection,
    operation: &Operation,
    world: &World,
) -> Result<bool, StoreError> {
    let subjects = subjects_in_txn(conn, operation).await?;
    let pending = operation.deployment_id.and_then(|id| world.pending.get(&id)).map(Pending::message);
    let judgement = operation::judge(&operation.view, &subjects, pending.as_deref(), chrono::Utc::now());
    operation_judged_in_txn(conn, operation, &judgement).await?;
    Ok(judgement.verdict.is_some())
}

async fn subjects_in_txn(
    conn: &mut AsyncPgConnection,
    operation: &Operation,
) -> Result<Vec<Subject>, StoreError> {
    let query = instances::table
        .inner_join(nodes::table)
        .filter(instances::assigned)
        .select((instances::id, nodes::name, instances::desired, instances::status))
        .into_boxed();
    let query = match (operation.instance_id, operation.deployment_id) {
        (Some(instance), _) => query.filter(instances::id.eq(instance.uuid())),
        (None, Some(deployment)) => query.filter(instances::deployment_id.eq(deployment.uuid())),
        (None, None) => return Ok(Vec::new()),
    };
    let rows: Vec<(Uuid, String, String, serde_json::Value)> = query.load(conn).await?;
    rows.into_iter()
        .map(|(id, node, desired, status)| {
            Ok(Subject {
                instance_id: id.into(),
                node,
                desired: read_desired(desired)?,
                status: read_status(status)?,
            })
        })
        .collect()
}

async fn world_in_txn(conn: &mut AsyncPgConnection) -> Result<World, StoreError> {
    let (deployments, pending) = deployments_in_txn(conn).await?;
    let rows: Vec<(Uuid, Uuid, Uuid, i32, String, serde_json::Value)> = instances::table
        .filter(instances::assigned)
        .order(instances::id)
        .select((
            instances::id,
            instances::deployment_id,
            instances::node_id,
            instances::revision,
            instances::desired,
            instances::status,
        ))
        .load(conn)
        .await?;
    let mut candidates = candidates_in_txn(conn).await?;
    let specs: BTreeMap<DeploymentId, &DeploymentSpec> =
        deployments.iter().map(|d| (d.id, &d.spec)).collect();
    let mut instances = Vec::with_capacity(rows.len());
    for (id, deployment, node, _revision, desired, status) in rows {
        let (deployment_id, node_id) = (DeploymentId::from(deployment), NodeId::from(node));
        if let (Some(candidate), Some(spec)) = (candidates.get_mut(&node_id), specs.get(&deployment_id)) {
            candidate.take(deployment_id, spec);
        }
        let (desired, status) = (read_desired(desired)?, read_status(status)?);
        instances.push(InstanceView { id: id.into(), deployment_id, node_id, desired, status });
    }
    Ok(World { deployments, instances, candidates: candidates.into_values().collect(), pending })
}

type Deployments = (Vec<DeploymentView>, BTreeMap<DeploymentId, Pending>);

async fn deployments_in_txn(conn: &mut AsyncPgConnection) -> Result<Deployments, StoreError> {
    let revision =
        revisions::deployment_id.eq(deployments::id).and(revisions::number.eq(deployments::revision));
    let rows: Vec<(Uuid, i32, serde_json::Value, bool, Option<serde_json::Value>)> = deployments::table
        .inner_join(revisions::table.on(revision))
        .filter(deployments::deleted_at.is_null())
        .order(deployments::created_at)
        .select((
            deployments::id,
            deployments::revision,
            revisions::spec,
            deployments::deleting,
            deployments::pending,
        ))
        .load(conn)
        .await?;
    let (mut views, mut pending) = (Vec::with_capacity(rows.len()), BTreeMap::new());
    for (id, revision, spec, deleting, waits) in rows {
        let id = DeploymentId::from(id);
        if let Some(waits) = waits {
            let waits = serde_json::from_value(waits)
                .map_err(|e| StoreError::corrupt("deployment's pending reasons", e))?;
            pending.insert(id, waits);
        }
        views.push(DeploymentView {
            id,
            revision: u32::try_from(revision).unwrap_or_default(),
            spec: read_spec(spec)?,
            deleting,
        });
    }
    Ok((views, pending))
}

async fn candidates_in_txn(conn: &mut AsyncPgConnection) -> Result<BTreeMap<NodeId, Candidate>, StoreError> {
    let rows: Vec<(Uuid, String, String, bool, serde_json::Value, serde_json::Value)> = nodes::table
        .select((nodes::id, nodes::name, nodes::state, nodes::cordoned, nodes::labels, nodes::facts))
        .load(conn)
        .await?;
    rows.into_iter()
        .map(|(id, name, state, cordoned, labels, facts)| {
            let facts: NodeFacts =
                serde_json::from_value(facts).map_err(|e| StoreError::corrupt("node's facts", e))?;
            let candidate = Candidate {
                id: id.into(),
                name,
                state: NodeState::parse(&state).ok_or_else(|| StoreError::corrupt("node's state", state))?,
                cordoned,
                labels: serde_json::from_value(labels)
                    .map_err(|e| StoreError::corrupt("node's labels", e))?,
                cpu_millis: facts.cpu_millis,
                memory_bytes: facts.memory_bytes,
                reserved_cpu_millis: 0,
                reserved_memory_bytes: 0,
                storage_enforced: facts.storage_limit == Some(StorageLimit::Enforced),
                host_ports: BTreeSet::new(),
                deployments: Vec::new(),
            };
            Ok((candidate.id, candidate))
        })
        .collect()
}

async fn carry_out_in_txn(
    conn: &mut AsyncPgConnection,
    world: &mut World,
    changes: Vec<Change>,
) -> Result<Orchestrated, StoreError> {
    let revisions = node_revisions_in_txn(conn, world, &changes).await?;
    let revision_of = |node: NodeId| revisions.get(&node).copied().unwrap_or_default();
    let node_of: BTreeMap<InstanceId, NodeId> = world.instances.iter().map(|i| (i.id, i.node_id)).collect();
    let mut done = Orchestrated::default();
    let mut still_pending = BTreeMap::new();
    for change in changes {
        match change {
            Change::Place { deployment_id, revision, placement } => {
                place_in_txn(conn, deployment_id, revision, &placement, revision_of(placement.node_id))
                    .await?;
                done.placed += 1;
            }
            Change::Pend { deployment_id, lacking, rejected } => {
                still_pending.insert(deployment_id, Pending { lacking, rejected });
            }
            Change::Remove { instance_id } => {
                let revision = node_of.get(&instance_id).map_or(0, |node| revision_of(*node));
                diesel::update(instances::table.filter(instances::id.eq(instance_id.uuid())))
                    .set((
                        instances::desired.eq(Desired::Removed.as_str()),
                        instances::assignment_revision.eq(revision),
                    ))
                    .execute(conn)
                    .await?;
                done.removed += 1;
            }
            Change::Release { instance_id } => {
                let revision = node_of.get(&instance_id).map_or(0, |node| revision_of(*node));
                diesel::update(instances::table.filter(instances::id.eq(instance_id.uuid())))
                    .set((instances::assigned.eq(false), instances::assignment_revision.eq(revision)))
                    .execute(conn)
                    .await?;
            }
            Change::Finish { deployment_id } => finish_in_txn(conn, deployment_id).await?,
        }
    }
    pending_in_txn(conn, &world.pending, &still_pending).await?;
    world.pending = still_pending;
    Ok(done)
}

/// The next assignment revision of every node that a plan touches, in the order
/// of their ids, so that two transactions never wait for each other.
async fn node_revisions_in_txn(
    conn: &mut AsyncPgConnection,
    world: &World,
    changes: &[Change],
) -> Result<BTreeMap<NodeId, i64>, StoreError> {
    let node_of = |id: &InstanceId| world.instances.iter().find(|i| i.id == *id).map(|i| i.node_id);
    let touched: BTreeSet<NodeId> = changes
        .iter()
        .filter_map(|change| match change {
            Change::Place { placement, .. } => Some(placement.node_id),
            Change::Remove { instance_id } | Change::Release { instance_id } => node_of(instance_id),
            Change::Pend { .. } | Change::Finish { .. } => None,
        })
        .collect();
    let mut revisions = BTreeMap::new();
    for node in touched {
        revisions.insert(node, assignment_revision_next_in_txn(conn, node).await?);
    }
    Ok(revisions)
}

async fn place_in_txn(
    conn: &mut AsyncPgConnection,
    deployment: DeploymentId,
    revision: u32,
    placement: &Placement,
    assignment_revision: i64,
) -> Result<(), StoreError> {
    let json = |r: Result<serde_json::Value, serde_json::Error>| {
        r.map_err(|e| StoreError::corrupt("new instance", e))
    };
    diesel::insert_into(instances::table)
        .values((
            instances::id.eq(Uuid::now_v7()),
            instances::deployment_id.eq(deployment.uuid()),
            instances::revision.eq(i32::try_from(revision).unwrap_or(i32::MAX)),
            instances::node_id.eq(placement.node_id.uuid()),
            instances::desired.eq(Desired::Running.as_str()),
            instances::assignment_revision.eq(assignment_revision),
            instances::placement.eq(json(serde_json::to_value(placement))?),
            instances::status.eq(json(serde_json::to_value(InstanceStatus::FIRST))?),
        ))
        .execute(conn)
        .await?;
    Ok(())
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
                ..EventNew::now("instances_pending", Severity::Warning, is.message())
            };
            event_insert_on_conn(conn, &event).await?;
        }
    }
    Ok(())
}
