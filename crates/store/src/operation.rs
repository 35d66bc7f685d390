//! Operations: what users asked for, and what became of it.

use std::time::Duration;

use diesel::{
    expression::SqlLiteral,
    prelude::*,
    sql_types::{Jsonb, Nullable},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use domain::{
    Timestamp,
    id::{DeploymentId, InstanceId, NodeId, OperationId, ProjectId},
    operation::{Judgement, OperationKind, OperationView, RolloutView, Verdict},
};
use uuid::Uuid;

use crate::{
    Cursor, Page, Store, StoreError,
    audit::Actor,
    caller::Visible,
    event::{EventNew, Severity, event_insert_on_conn},
    page::fetch_limit,
    schema::{deployments, operations},
    wake::{Wake, wake_in_txn},
};

#[derive(Queryable, Selectable)]
#[diesel(table_name = operations, check_for_backend(diesel::pg::Pg))]
struct OperationRow {
    id: Uuid,
    kind: String,
    actor: String,
    deployment_id: Option<Uuid>,
    deployment_name: String,
    instance_id: Option<Uuid>,
    restart_generation: i32,
    total: i32,
    done: i32,
    deadline_seconds: i32,
    verdict: Option<String>,
    message: String,
    #[diesel(embed)]
    rollout: Rollout,
    #[diesel(embed)]
    times: Times,
    // Not by a join: open operations are read with a lock, which an outer join cannot have.
    #[diesel(select_expression = project_column(), select_expression_type = SqlLiteral<Nullable<Jsonb>>)]
    project: Option<serde_json::Value>,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = operations, check_for_backend(diesel::pg::Pg))]
struct Rollout {
    revision: Option<i32>,
    base_revision: Option<i32>,
    replaced: i32,
    reverting: Option<String>,
    node_id: Option<Uuid>,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = operations, check_for_backend(diesel::pg::Pg))]
struct Times {
    created_at: Timestamp,
    updated_at: Timestamp,
    progressed_at: Timestamp,
    finished_at: Option<Timestamp>,
}

/// The project of the operation's deployment; null once that is forgotten.
fn project_column() -> SqlLiteral<Nullable<Jsonb>> {
    diesel::dsl::sql(
        "(select jsonb_build_array(p.id, p.name) from deployments d join projects p on p.id = d.project_id \
          where d.id = operations.deployment_id)",
    )
}

/// An operation, as stored.
#[derive(Clone, Debug)]
pub struct Operation {
    /// Its id.
    pub id: OperationId,
    /// Who asked.
    pub actor: String,
    /// The deployment it is about, or whose instance it is about.
    pub deployment_id: Option<DeploymentId>,
    /// Its name, kept even when it is gone; the node's, for one about a node.
    pub deployment_name: String,
    /// The node it is about.
    pub node_id: Option<NodeId>,
    /// The revision that it brings about, or goes back to.
    pub revision: Option<u32>,
    /// The revision that a failure goes back to.
    pub base_revision: Option<u32>,
    /// The project that the deployment belongs to, and its name; `None` once the
    /// deployment is forgotten.
    pub project: Option<(ProjectId, String)>,
    /// The instance it is about.
    pub instance_id: Option<InstanceId>,
    /// What the judge looks at.
    pub view: OperationView,
    /// How it ended; `None` while it is open.
    pub verdict: Option<Verdict>,
    /// Where it stands.
    pub message: String,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
}

fn unsigned(number: i32) -> u32 {
    u32::try_from(number).unwrap_or_default()
}

fn signed(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

impl OperationRow {
    fn read(self) -> Result<Operation, StoreError> {
        let kind = OperationKind::parse(&self.kind)
            .ok_or_else(|| StoreError::corrupt("operation's kind", self.kind))?;
        let verdict = match self.verdict {
            None => None,
            Some(text) => {
                Some(Verdict::parse(&text).ok_or_else(|| StoreError::corrupt("operation's verdict", text))?)
            }
        };
        let project = self.project.map(serde_json::from_value).transpose();
        Ok(Operation {
            id: self.id.into(),
            actor: self.actor,
            deployment_id: self.deployment_id.map(Into::into),
            deployment_name: self.deployment_name,
            project: project.map_err(|e| StoreError::corrupt("operation's project", e))?,
            instance_id: self.instance_id.map(Into::into),
            view: OperationView {
                kind,
                total: unsigned(self.total),
                restart_generation: unsigned(self.restart_generation),
                done: unsigned(self.done),
                progressed_at: self.times.progressed_at,
                deadline: Duration::from_secs(u64::from(unsigned(self.deadline_seconds))),
                rollout: RolloutView {
                    replaced: unsigned(self.rollout.replaced),
                    reverting: self.rollout.reverting,
                    ..RolloutView::default()
                },
            },
            node_id: self.rollout.node_id.map(Into::into),
            revision: self.rollout.revision.map(unsigned),
            base_revision: self.rollout.base_revision.map(unsigned),
            verdict,
            message: self.message,
            created_at: self.times.created_at,
            updated_at: self.times.updated_at,
            finished_at: self.times.finished_at,
        })
    }
}

pub(crate) struct OperationNew<'a> {
    pub(crate) id: OperationId,
    pub(crate) kind: OperationKind,
    pub(crate) deployment_id: Option<DeploymentId>,
    /// The deployment's name; the node's, for one about a node.
    pub(crate) name: &'a str,
    pub(crate) instance_id: Option<InstanceId>,
    pub(crate) node_id: Option<NodeId>,
    pub(crate) restart_generation: u32,
    pub(crate) total: u32,
    pub(crate) deadline_seconds: u32,
    pub(crate) revision: Option<u32>,
    pub(crate) base_revision: Option<u32>,
    /// Copies that served and were taken away by those whose place it takes.
    pub(crate) replaced: i32,
}

impl<'a> OperationNew<'a> {
    /// One about a deployment as a whole; the caller says the rest.
    pub(crate) fn about(id: OperationId, kind: OperationKind, deployment: (DeploymentId, &'a str)) -> Self {
        Self { deployment_id: Some(deployment.0), ..Self::new(id, kind, deployment.1) }
    }

    /// One about nothing yet, with a name for people.
    pub(crate) fn new(id: OperationId, kind: OperationKind, name: &'a str) -> Self {
        Self {
            id,
            kind,
            deployment_id: None,
            name,
            instance_id: None,
            node_id: None,
            restart_generation: 0,
            total: 1,
            deadline_seconds: 300,
            revision: None,
            base_revision: None,
            replaced: 0,
        }
    }
}

pub(crate) async fn operation_insert_in_txn(
    conn: &mut AsyncPgConnection,
    new: &OperationNew<'_>,
    actor: &Actor,
) -> Result<(), StoreError> {
    diesel::insert_into(operations::table)
        .values((
            operations::id.eq(new.id.uuid()),
            operations::kind.eq(new.kind.as_str()),
            operations::actor.eq(&actor.name),
            operations::deployment_id.eq(new.deployment_id.map(DeploymentId::uuid)),
            operations::deployment_name.eq(new.name),
            operations::node_id.eq(new.node_id.map(NodeId::uuid)),
            operations::instance_id.eq(new.instance_id.map(InstanceId::uuid)),
            operations::restart_generation.eq(signed(new.restart_generation)),
            operations::total.eq(signed(new.total)),
            operations::deadline_seconds.eq(signed(new.deadline_seconds)),
            operations::revision.eq(new.revision.map(signed)),
            operations::base_revision.eq(new.base_revision.map(signed)),
            operations::replaced.eq(new.replaced),
        ))
        .execute(conn)
        .await?;
    Ok(())
}

/// The open operations, locked for the length of the transaction; not against
/// rows that refer to them, which every event does.
pub(crate) async fn operation_open_in_txn(
    conn: &mut AsyncPgConnection,
) -> Result<Vec<Operation>, StoreError> {
    let rows: Vec<OperationRow> = operations::table
        .filter(operations::verdict.is_null())
        .order(operations::id)
        .select(OperationRow::as_select())
        .for_no_key_update()
        .load(conn)
        .await?;
    rows.into_iter().map(OperationRow::read).collect()
}

/// One operation whose deployment is locked.
pub(crate) async fn operation_in_txn(
    conn: &mut AsyncPgConnection,
    id: OperationId,
) -> Result<Operation, StoreError> {
    let query = operations::table.filter(operations::id.eq(id.uuid())).select(OperationRow::as_select());
    query.first(conn).await.optional()?.ok_or(crate::Refusal::Missing("operation"))?.read()
}

/// Writes what the judge said, where it says something new.
pub(crate) async fn operation_judged_in_txn(
    conn: &mut AsyncPgConnection,
    operation: &Operation,
    judgement: &Judgement,
) -> Result<(), StoreError> {
    let same = judgement.verdict.is_none()
        && judgement.done == operation.view.done
        && judgement.total == operation.view.total
        && judgement.message == operation.message;
    if same {
        return Ok(());
    }
    let now = chrono::Utc::now();
    let progressed = judgement.done > operation.view.done;
    diesel::update(
        operations::table
            .filter(operations::id.eq(operation.id.uuid()))
            .filter(operations::verdict.is_null()),
    )
    .set((
        operations::done.eq(signed(judgement.done)),
        operations::total.eq(signed(judgement.total)),
        operations::message.eq(&judgement.message),
        operations::verdict.eq(judgement.verdict.map(Verdict::as_str)),
        operations::updated_at.eq(now),
        operations::progressed_at.eq(if progressed { now } else { operation.view.progressed_at }),
        operations::finished_at.eq(judgement.verdict.map(|_| now)),
    ))
    .execute(conn)
    .await?;
    if let Some(verdict) = judgement.verdict {
        let severity = if verdict == Verdict::Succeeded { Severity::Info } else { Severity::Error };
        let message = format!(
            "{} of {}: {}: {}",
            operation.view.kind.as_str(),
            operation.deployment_name,
            verdict.as_str(),
            judgement.message
        );
        let event = EventNew {
            actor: Some(operation.actor.clone()),
            deployment_id: operation.deployment_id,
            instance_id: operation.instance_id,
            operation_id: Some(operation.id),
            node_id: operation.node_id,
            before: Some(serde_json::json!({ "verdict": null })),
            after: Some(serde_json::json!({ "verdict": verdict.as_str() })),
            ..EventNew::now(format!("operation_{}", verdict.as_str()), severity, message)
        };
        event_insert_on_conn(conn, &event).await?;
    }
    Ok(wake_in_txn(conn, Wake::Operation(operation.id)).await?)
}

impl Store {
    /// One operation.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn operation_fetch(&self, id: OperationId) -> Result<Option<Operation>, StoreError> {
        let mut conn = self.conn().await?;
        let query = operations::table.filter(operations::id.eq(id.uuid())).select(OperationRow::as_select());
        query.first(&mut conn).await.optional()?.map(OperationRow::read).transpose()
    }

    /// Operations that are seen, the newest first. Those about no deployment, or one
    /// that is forgotten, are only for who sees all projects.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn operation_list_page(
        &self,
        visible: &Visible,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Page<Operation>, StoreError> {
        let mut conn = self.conn().await?;
        let mut query = operations::table
            .select(OperationRow::as_select())
            .order((operations::created_at.desc(), operations::id.desc()))
            .limit(fetch_limit(limit))
            .into_boxed();
        if let Visible::Projects(ids) = visible {
            let seen = deployments::table.filter(deployments::project_id.eq_any(ids));
            query = query.filter(operations::deployment_id.eq_any(seen.select(deployments::id.nullable())));
        }
        if let Some(Cursor { at, id }) = after {
            let same = operations::created_at.eq(at).and(operations::id.lt(id));
            query = query.filter(operations::created_at.lt(at).or(same));
        }
        let rows: Vec<OperationRow> = query.load(&mut conn).await?;
        Page::cut(rows, limit, |row| Cursor { at: row.times.created_at, id: row.id })
            .try_map(OperationRow::read)
    }
}
