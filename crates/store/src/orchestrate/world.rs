//! Reads the fleet as the plan sees it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use domain::{
    deployment::DeploymentSpec,
    id::{DeploymentId, InstanceId, NodeId, OperationId},
    node::{NodeFacts, NodeState, StorageLimit},
    orchestrate::{DeploymentView, InstanceView, World, loss::Tolerance},
    placement::Candidate,
    presence::Hearing,
};
use uuid::Uuid;

use crate::{
    StoreError,
    deployment::{Pending, read_spec},
    instance::{read_desired, read_status},
    schema::{deployments, fleet, instances, nodes, operations, revisions, settings},
};

/// What the setting of [`Tolerance`] is called in the database; 0 is for no limit.
const MASS_LOSS: &str = "mass_loss_percent";

/// The fleet as the plan sees it, and what is said of it in events.
pub(crate) struct Fleet {
    pub(crate) world: World,
    /// Why deployments wait, as stored.
    pub(crate) pending: BTreeMap<DeploymentId, Pending>,
    pub(crate) names: BTreeMap<DeploymentId, String>,
    /// Who or what halted rollouts.
    pub(crate) paused: BTreeMap<DeploymentId, String>,
    /// The open operation about each deployment as a whole.
    pub(crate) operations: BTreeMap<DeploymentId, OperationId>,
    /// Why nothing on lost nodes is replaced, as stored.
    pub(crate) replacement_paused: Option<String>,
}

impl Fleet {
    pub(crate) fn instance(&self, id: InstanceId) -> Option<&InstanceView> {
        self.world.instances.iter().find(|instance| instance.id == id)
    }

    pub(crate) fn deployment(&self, id: DeploymentId) -> Option<&DeploymentView> {
        self.world.deployments.iter().find(|deployment| deployment.id == id)
    }

    pub(crate) fn node(&self, id: NodeId) -> Option<&Candidate> {
        self.world.nodes.iter().find(|node| node.id == id)
    }
}

/// Specs by deployment and revision; shared, since many instances have the same.
type Specs = BTreeMap<(Uuid, i32), (Arc<DeploymentSpec>, i32)>;

pub(crate) async fn fleet_in_txn(
    conn: &mut AsyncPgConnection,
    hearing: &dyn Hearing,
) -> Result<Fleet, StoreError> {
    let now = chrono::Utc::now();
    lock_in_txn(conn).await?;
    let specs = specs_in_txn(conn).await?;
    let mut fleet = Fleet {
        world: World {
            deployments: Vec::new(),
            instances: Vec::new(),
            nodes: Vec::new(),
            tolerance: tolerance_in_txn(conn).await?,
            now,
        },
        pending: BTreeMap::new(),
        names: BTreeMap::new(),
        paused: BTreeMap::new(),
        operations: open_in_txn(conn).await?,
        replacement_paused: fleet::table
            .select(fleet::replacement_paused)
            .first::<Option<String>>(conn)
            .await
            .optional()?
            .flatten(),
    };
    deployments_in_txn(conn, &specs, &mut fleet).await?;
    let mut nodes = candidates_in_txn(conn).await?;
    for node in nodes.values_mut() {
        // Another controller on this database may hear what this one does not; its copies
        // are not to be placed anew for that.
        let last_seen_at = node.silent_since;
        node.silent_since =
            hearing.silent_since(node.id, now).map(|since| last_seen_at.map_or(since, |at| since.max(at)));
    }
    fleet.world.instances = instances_in_txn(conn, &specs, &mut nodes).await?;
    fleet.world.nodes = nodes.into_values().collect();
    Ok(fleet)
}

/// Locks the deployments that something is open about, before anything else: whoever
/// asks for something locks them before their operations, too.
async fn lock_in_txn(conn: &mut AsyncPgConnection) -> Result<(), StoreError> {
    let concerned = operations::table.filter(operations::verdict.is_null()).select(operations::deployment_id);
    deployments::table
        .filter(deployments::id.nullable().eq_any(concerned))
        .order(deployments::id)
        .select(deployments::id)
        .for_no_key_update()
        .load::<Uuid>(conn)
        .await?;
    Ok(())
}

async fn tolerance_in_txn(conn: &mut AsyncPgConnection) -> Result<Tolerance, StoreError> {
    let value: Option<serde_json::Value> =
        settings::table.find(MASS_LOSS).select(settings::value).first(conn).await.optional()?;
    match value {
        None => Ok(Tolerance::default()),
        Some(value) => {
            let percent: u32 =
                serde_json::from_value(value).map_err(|e| StoreError::corrupt("setting", e))?;
            Ok(Tolerance { mass_loss_percent: Some(percent).filter(|percent| *percent > 0) })
        }
    }
}

async fn open_in_txn(
    conn: &mut AsyncPgConnection,
) -> Result<BTreeMap<DeploymentId, OperationId>, StoreError> {
    let rows: Vec<(Option<Uuid>, Uuid)> = operations::table
        .filter(operations::verdict.is_null())
        .filter(operations::instance_id.is_null())
        .select((operations::deployment_id, operations::id))
        .load(conn)
        .await?;
    Ok(rows.into_iter().filter_map(|(of, id)| Some((of?.into(), id.into()))).collect())
}

/// The revisions that are in use: the present ones, and those of assigned instances.
async fn specs_in_txn(conn: &mut AsyncPgConnection) -> Result<Specs, StoreError> {
    let present = deployments::table
        .filter(deployments::id.eq(revisions::deployment_id))
        .filter(deployments::revision.eq(revisions::number))
        .filter(deployments::deleted_at.is_null());
    let running = instances::table
        .filter(instances::deployment_id.eq(revisions::deployment_id))
        .filter(instances::revision.eq(revisions::number))
        .filter(instances::assigned);
    let rows: Vec<(Uuid, i32, serde_json::Value, i32)> = revisions::table
        .filter(diesel::dsl::exists(present).or(diesel::dsl::exists(running)))
        .select((revisions::deployment_id, revisions::number, revisions::spec, revisions::template))
        .load(conn)
        .await?;
    rows.into_iter()
        .map(|(of, number, spec, template)| Ok(((of, number), (Arc::new(read_spec(spec)?), template))))
        .collect()
}

fn unsigned(number: i32) -> u32 {
    u32::try_from(number).unwrap_or_default()
}

fn spec_of(specs: &Specs, key: (Uuid, i32)) -> Result<(Arc<DeploymentSpec>, u32), StoreError> {
    let found = specs.get(&key).ok_or_else(|| StoreError::corrupt("revision", "it is not there"))?;
    Ok((found.0.clone(), unsigned(found.1)))
}

type DeploymentRow = (Uuid, String, i32, bool, Option<serde_json::Value>, Option<String>);

async fn deployments_in_txn(
    conn: &mut AsyncPgConnection,
    specs: &Specs,
    fleet: &mut Fleet,
) -> Result<(), StoreError> {
    let rows: Vec<DeploymentRow> = deployments::table
        .filter(deployments::deleted_at.is_null())
        .order(deployments::created_at)
        .select((
            deployments::id,
            deployments::name,
            deployments::revision,
            deployments::deleting,
            deployments::pending,
            deployments::paused,
        ))
        .load(conn)
        .await?;
    for (uuid, name, revision, deleting, waits, paused) in rows {
        let id = DeploymentId::from(uuid);
        // One that was revised between two statements comes with the next pass.
        let Ok((spec, template)) = spec_of(specs, (uuid, revision)) else { continue };
        if let Some(waits) = waits {
            let waits = serde_json::from_value(waits)
                .map_err(|e| StoreError::corrupt("deployment's pending reasons", e))?;
            fleet.pending.insert(id, waits);
        }
        fleet.names.insert(id, name);
        let view = DeploymentView {
            id,
            revision: unsigned(revision),
            template,
            spec,
            deleting,
            paused: paused.is_some(),
        };
        fleet.paused.extend(paused.map(|who| (id, who)));
        fleet.world.deployments.push(view);
    }
    Ok(())
}

type InstanceRow = (Uuid, Uuid, Uuid, i32, String, serde_json::Value, Option<Uuid>);

async fn instances_in_txn(
    conn: &mut AsyncPgConnection,
    specs: &Specs,
    nodes: &mut BTreeMap<NodeId, Candidate>,
) -> Result<Vec<InstanceView>, StoreError> {
    let rows: Vec<InstanceRow> = instances::table
        .filter(instances::assigned)
        .order(instances::id)
        .select((
            instances::id,
            instances::deployment_id,
            instances::node_id,
            instances::revision,
            instances::desired,
            instances::status,
            instances::replaces_id,
        ))
        .load(conn)
        .await?;
    let mut views = Vec::with_capacity(rows.len());
    for (id, deployment, node, revision, desired, status, replaces) in rows {
        let (deployment_id, node_id) = (DeploymentId::from(deployment), NodeId::from(node));
        let (spec, template) = spec_of(specs, (deployment, revision))?;
        if let Some(candidate) = nodes.get_mut(&node_id) {
            candidate.take(deployment_id, &spec);
        }
        views.push(InstanceView {
            id: id.into(),
            deployment_id,
            node_id,
            revision: unsigned(revision),
            template,
            spec,
            desired: read_desired(desired)?,
            status: read_status(status)?,
            replaces: replaces.map(Into::into),
        });
    }
    Ok(views)
}

type NodeRow = (
    (Uuid, String, String, domain::Timestamp),
    (bool, bool, serde_json::Value, serde_json::Value),
    Option<domain::Timestamp>,
);

async fn candidates_in_txn(conn: &mut AsyncPgConnection) -> Result<BTreeMap<NodeId, Candidate>, StoreError> {
    let rows: Vec<NodeRow> = nodes::table
        .select((
            (nodes::id, nodes::name, nodes::state, nodes::state_since),
            (nodes::cordoned, nodes::draining, nodes::labels, nodes::facts),
            nodes::last_seen_at,
        ))
        .load(conn)
        .await?;
    rows.into_iter().map(|row| read_candidate(row).map(|node| (node.id, node))).collect()
}

fn read_candidate(row: NodeRow) -> Result<Candidate, StoreError> {
    let ((id, name, state, state_since), (cordoned, draining, labels, facts), last_seen_at) = row;
    let facts: NodeFacts =
        serde_json::from_value(facts).map_err(|e| StoreError::corrupt("node's facts", e))?;
    Ok(Candidate {
        id: id.into(),
        name,
        state: NodeState::parse(&state).ok_or_else(|| StoreError::corrupt("node's state", state))?,
        state_since,
        silent_since: last_seen_at,
        cordoned,
        draining,
        labels: serde_json::from_value(labels).map_err(|e| StoreError::corrupt("node's labels", e))?,
        cpu_millis: facts.cpu_millis,
        memory_bytes: facts.memory_bytes,
        reserved_cpu_millis: 0,
        reserved_memory_bytes: 0,
        storage_enforced: facts.storage_limit == Some(StorageLimit::Enforced),
        host_ports: BTreeSet::new(),
        deployments: Vec::new(),
    })
}
