//! Instances: what is wanted of them, what is known of them, and what their
//! nodes are told.

use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use domain::{
    Timestamp,
    assignment::{Assignment, AssignmentDelta, AssignmentSet},
    id::{DeploymentId, InstanceId, NodeId, OperationId, ProjectId},
    instance::{Desired, InstanceStatus, Phase},
    node::NodeState,
    operation::OperationKind,
    placement::Placement,
    pull::PullProgress,
};
use uuid::Uuid;

use crate::{
    Refusal, Store, StoreError,
    audit::{Actor, AuditNew, audit_insert_on_conn},
    credential::LoginsOfNode,
    deployment::read_spec,
    event::{EventNew, Severity, event_insert_on_conn},
    operation::{OperationNew, operation_insert_in_txn},
    pull::read_pull,
    schema::{deployments, instance_pulls, instances, nodes, projects, revisions},
    wake::{Wake, wake_in_txn},
};

/// An instance, with what one wants to know of its deployment and node.
#[derive(Clone, Debug)]
pub struct Instance {
    /// Its id.
    pub id: InstanceId,
    /// Whose copy.
    pub deployment_id: DeploymentId,
    /// By name.
    pub deployment_name: String,
    /// Which project that belongs to.
    pub project_id: ProjectId,
    /// By name.
    pub project: String,
    /// Which revision.
    pub revision: u32,
    /// Where.
    pub node_id: NodeId,
    /// By name.
    pub node_name: String,
    /// How the node stands.
    pub node_state: NodeState,
    /// Where the node's published ports are reached.
    pub node_address: Option<String>,
    /// What is wanted.
    pub desired: Desired,
    /// The one on a lost node that it stands in for.
    pub replaces: Option<InstanceId>,
    /// Why it was made, for programs.
    pub placed_for: String,
    /// Why it was taken away, for programs.
    pub removed_for: Option<String>,
    /// Why it is there.
    pub placement: Placement,
    /// What is known.
    pub status: InstanceStatus,
    /// When the node said so.
    pub observed_at: Option<Timestamp>,
    /// When it was placed.
    pub created_at: Timestamp,
    /// How far its image has come, while that is being fetched.
    pub pull: Option<PullProgress>,
}

type InstanceRow = (
    (Uuid, Uuid, String, i32),
    (Uuid, String),
    (Uuid, String, String, serde_json::Value),
    (String, serde_json::Value, serde_json::Value, Option<Timestamp>, Timestamp),
    Option<serde_json::Value>,
    (Option<Uuid>, String, Option<String>),
);

fn read((whose, project, place, known, pull, reasons): InstanceRow) -> Result<Instance, StoreError> {
    let (id, deployment_id, deployment_name, revision) = whose;
    let (node_id, node_name, node_state, facts) = place;
    let (desired, placement, status, observed_at, created_at) = known;
    Ok(Instance {
        id: id.into(),
        deployment_id: deployment_id.into(),
        deployment_name,
        project_id: project.0.into(),
        project: project.1,
        revision: u32::try_from(revision).unwrap_or_default(),
        node_id: node_id.into(),
        node_name,
        node_state: NodeState::parse(&node_state)
            .ok_or_else(|| StoreError::corrupt("node's state", node_state))?,
        node_address: facts.get("address").and_then(|a| a.as_str()).map(str::to_owned),
        desired: read_desired(desired)?,
        replaces: reasons.0.map(Into::into),
        placed_for: reasons.1,
        removed_for: reasons.2,
        placement: serde_json::from_value(placement)
            .map_err(|e| StoreError::corrupt("instance's placement", e))?,
        status: read_status(status)?,
        observed_at,
        created_at,
        pull: pull.map(read_pull).transpose()?,
    })
}

pub(crate) fn read_desired(text: String) -> Result<Desired, StoreError> {
    Desired::parse(&text).ok_or_else(|| StoreError::corrupt("instance's desired state", text))
}

pub(crate) fn read_status(status: serde_json::Value) -> Result<InstanceStatus, StoreError> {
    serde_json::from_value(status).map_err(|e| StoreError::corrupt("instance's status", e))
}

#[diesel::dsl::auto_type(no_type_alias)]
fn whole() -> _ {
    let deployment = deployments::table.inner_join(projects::table);
    let pull = instance_pulls::table.on(instance_pulls::instance_id.eq(instances::id));
    instances::table.inner_join(deployment).inner_join(nodes::table).left_join(pull).select((
        (instances::id, instances::deployment_id, deployments::name, instances::revision),
        (deployments::project_id, projects::name),
        (instances::node_id, nodes::name, nodes::state, nodes::facts),
        (
            instances::desired,
            instances::placement,
            instances::status,
            instances::observed_at,
            instances::created_at,
        ),
        instance_pulls::progress.nullable(),
        (instances::replaces_id, instances::placed_for, instances::removed_for),
    ))
}

/// Makes the node's next assignment revision, and locks its row: whoever changes
/// a node's assignments goes through here first, so revisions follow the order of
/// commits.
pub(crate) async fn assignment_revision_next_in_txn(
    conn: &mut AsyncPgConnection,
    node: NodeId,
) -> Result<i64, StoreError> {
    let revision = diesel::update(nodes::table.filter(nodes::id.eq(node.uuid())))
        .set(nodes::assignment_revision.eq(nodes::assignment_revision + 1))
        .returning(nodes::assignment_revision)
        .get_result(conn)
        .await?;
    wake_in_txn(conn, Wake::Assignments(node)).await?;
    Ok(revision)
}

/// What a user asks of one instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstanceRequest {
    /// Run it anew, whatever it does now.
    Restart,
    /// Do not run it.
    Stop,
    /// Run it.
    Start,
}

impl InstanceRequest {
    const fn kind(self) -> OperationKind {
        match self {
            Self::Restart => OperationKind::InstanceRestart,
            Self::Stop => OperationKind::InstanceStop,
            Self::Start => OperationKind::InstanceStart,
        }
    }

    const fn desired(self) -> Desired {
        match self {
            Self::Restart | Self::Start => Desired::Running,
            Self::Stop => Desired::Stopped,
        }
    }

    /// Whether the agent is asked for a new attempt. A start of what runs is none;
    /// a start of what has ended by itself is one, though it is wanted already.
    fn anew(self, status: &InstanceStatus) -> bool {
        match self {
            Self::Restart => true,
            Self::Start => status.progress.phase == Phase::Ended,
            Self::Stop => false,
        }
    }
}

impl Store {
    /// Records a request about one instance, with its operation.
    ///
    /// # Errors
    /// [`Refusal::Missing`], or [`Refusal::Deleting`] for one that is to go.
    pub async fn instance_request(
        &self,
        id: InstanceId,
        request: InstanceRequest,
        operation_id: OperationId,
        actor: &Actor,
    ) -> Result<OperationId, StoreError> {
        self.transact("instance_request", async |conn| {
            let found: Option<(Uuid, Uuid, String, String, i32)> = instances::table
                .inner_join(deployments::table.inner_join(projects::table))
                .filter(instances::id.eq(id.uuid()))
                .select((
                    instances::node_id,
                    instances::deployment_id,
                    deployments::name,
                    projects::name,
                    instances::revision,
                ))
                .first(conn)
                .await
                .optional()?;
            let (node, deployment, name, project, revision) = found.ok_or(Refusal::Missing("instance"))?;
            // The node's row is locked before the instance's, as everywhere.
            let assignment_revision = assignment_revision_next_in_txn(conn, node.into()).await?;
            let (desired, generation, status): (String, i32, serde_json::Value) = instances::table
                .filter(instances::id.eq(id.uuid()))
                .select((instances::desired, instances::restart_generation, instances::status))
                .for_update()
                .first(conn)
                .await?;
            let desired = read_desired(desired)?;
            if desired == Desired::Removed {
                return Err(Refusal::Deleting(id.to_string()).into());
            }
            let before = generation;
            let generation = generation + i32::from(request.anew(&read_status(status)?));
            diesel::update(instances::table.filter(instances::id.eq(id.uuid())))
                .set((
                    instances::desired.eq(request.desired().as_str()),
                    instances::restart_generation.eq(generation),
                    instances::assignment_revision.eq(assignment_revision),
                ))
                .execute(conn)
                .await?;
            let spec: serde_json::Value =
                revisions::table.find((deployment, revision)).select(revisions::spec).first(conn).await?;
            let operation = OperationNew {
                instance_id: Some(id),
                restart_generation: u32::try_from(generation).unwrap_or_default(),
                deadline_seconds: read_spec(spec)?.progress_deadline_seconds,
                ..OperationNew::about(operation_id, request.kind(), (deployment.into(), &name))
            };
            operation_insert_in_txn(conn, &operation, actor).await?;
            let action = request.kind().as_str();
            let shown = |desired: Desired, restart_generation: i32| {
                let desired = desired.as_str();
                serde_json::json!({ "deployment": name, "desired": desired, "restart_generation": restart_generation })
            };
            let (before, after) = (shown(desired, before), shown(request.desired(), generation));
            let audit = AuditNew::done(action, &id.to_string()).in_project(project);
            let audit = audit.change(Some(before), Some(after));
            audit_insert_on_conn(conn, actor, &audit).await?;
            let event = EventNew {
                actor: Some(actor.name.clone()),
                node_id: Some(node.into()),
                deployment_id: Some(deployment.into()),
                instance_id: Some(id),
                operation_id: Some(operation_id),
                ..EventNew::now(
                    format!("{action}_requested"),
                    Severity::Info,
                    format!(
                        "{} asked for a {} of an instance of {name}",
                        actor.name,
                        action.trim_start_matches("instance_")
                    ),
                )
            };
            event_insert_on_conn(conn, &event).await?;
            wake_in_txn(conn, Wake::Orchestrate).await?;
            Ok(operation_id)
        })
        .await
    }

    /// One instance, even one that is gone.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn instance_fetch(&self, id: InstanceId) -> Result<Option<Instance>, StoreError> {
        let mut conn = self.conn().await?;
        whole().filter(instances::id.eq(id.uuid())).first(&mut conn).await.optional()?.map(read).transpose()
    }

    /// The instances of these deployments that are still assigned, the oldest first.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn instance_list_of(&self, deployments: &[DeploymentId]) -> Result<Vec<Instance>, StoreError> {
        let ids: Vec<Uuid> = deployments.iter().map(|id| id.uuid()).collect();
        let mut conn = self.conn().await?;
        let rows: Vec<InstanceRow> = whole()
            .filter(instances::deployment_id.eq_any(ids))
            .filter(instances::assigned)
            .order(instances::id)
            .load(&mut conn)
            .await?;
        rows.into_iter().map(read).collect()
    }

    /// A node's whole share, as of one moment.
    ///
    /// # Errors
    /// [`Refusal::Missing`] for a node that was removed.
    pub async fn assignment_set_fetch(&self, node: NodeId) -> Result<AssignmentSet, StoreError> {
        let (revision, rows) = self.assignments_since(node, None).await?;
        let assignments = rows
            .into_iter()
            .filter(|(_, assigned)| *assigned)
            .map(|(assignment, _)| (assignment.instance_id, assignment))
            .collect();
        Ok(AssignmentSet { revision, assignments })
    }

    /// What changed in a node's share since `base_revision`.
    ///
    /// # Errors
    /// [`Refusal::Missing`] for a node that was removed.
    pub async fn assignment_delta_fetch(
        &self,
        node: NodeId,
        base_revision: u64,
    ) -> Result<AssignmentDelta, StoreError> {
        let (revision, rows) = self.assignments_since(node, Some(base_revision)).await?;
        let (mut upserts, mut removals) = (Vec::new(), Vec::new());
        for (assignment, assigned) in rows {
            if assigned { upserts.push(assignment) } else { removals.push(assignment.instance_id) }
        }
        Ok(AssignmentDelta { base_revision, revision, upserts, removals })
    }

    /// The node's revision, and its instances that changed after `since` (all that
    /// are assigned, without it), both of one snapshot: the node's row is locked
    /// against changes while the instances are read.
    async fn assignments_since(
        &self,
        node: NodeId,
        since: Option<u64>,
    ) -> Result<(u64, Vec<(Assignment, bool)>), StoreError> {
        self.transact("assignments_since", async |conn| {
            let known: Option<(i64, serde_json::Value)> = nodes::table
                .filter(nodes::id.eq(node.uuid()))
                .select((nodes::assignment_revision, nodes::labels))
                .for_share()
                .first(conn)
                .await
                .optional()?;
            let (revision, labels) = known.ok_or(Refusal::Missing("node"))?;
            let same_revision = revisions::deployment_id
                .eq(instances::deployment_id)
                .and(revisions::number.eq(instances::revision));
            let mut query = instances::table
                .inner_join(deployments::table)
                .inner_join(revisions::table.on(same_revision))
                .filter(instances::node_id.eq(node.uuid()))
                .select((
                    (instances::id, instances::deployment_id, deployments::name, instances::revision),
                    (revisions::spec, instances::desired, instances::restart_generation, instances::assigned),
                    deployments::project_id,
                ))
                .order(instances::id)
                .into_boxed();
            query = match since {
                None => query.filter(instances::assigned),
                Some(base) => {
                    query.filter(instances::assignment_revision.gt(i64::try_from(base).unwrap_or(i64::MAX)))
                }
            };
            let rows: Vec<AssignmentRow> = query.load(conn).await?;
            let logins = LoginsOfNode::read_in_txn(conn, labels, rows.iter().map(|row| row.2)).await?;
            let rows = rows.into_iter().map(|row| read_assignment(row, &logins)).collect::<Result<_, _>>()?;
            Ok((u64::try_from(revision).unwrap_or_default(), rows))
        })
        .await
    }
}

type AssignmentRow = ((Uuid, Uuid, String, i32), (serde_json::Value, String, i32, bool), Uuid);

fn read_assignment(
    ((id, deployment, name, revision), (spec, desired, generation, assigned), project): AssignmentRow,
    logins: &LoginsOfNode,
) -> Result<(Assignment, bool), StoreError> {
    let spec = read_spec(spec)?.instance;
    let assignment = Assignment {
        instance_id: id.into(),
        deployment_id: deployment.into(),
        deployment_name: name,
        revision: u32::try_from(revision).unwrap_or_default(),
        registry_credential: logins.choose(project, &spec.image),
        spec,
        desired: read_desired(desired)?,
        restart_generation: u32::try_from(generation).unwrap_or_default(),
    };
    Ok((assignment, assigned))
}
