//! The timeline: what happened in the fleet, and why.
//!
//! An event is written in the transaction of the change that it is about, so there
//! is no change without its record and no record without its change.

use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use domain::{
    Timestamp,
    id::{DeploymentId, InstanceId, NodeId, OperationId, ProjectId},
};
use uuid::Uuid;

use crate::{
    Cursor, Page, Store, StoreError,
    caller::Visible,
    page::fetch_limit,
    schema::{deployments, events, nodes, projects},
    text::plain,
};

/// How much an event matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// As it should be.
    Info,
    /// Somebody may want to know.
    Warning,
    /// Somebody should look.
    Error,
}

impl Severity {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// A new event.
#[derive(Clone, Debug)]
pub struct EventNew {
    /// When it happened.
    pub at: Timestamp,
    /// For programs, such as `instance_running`.
    pub kind: String,
    /// How much it matters.
    pub severity: Severity,
    /// For people; one sentence.
    pub message: String,
    /// Why, for programs.
    pub cause: Option<String>,
    /// Who.
    pub actor: Option<String>,
    /// Where.
    pub node_id: Option<NodeId>,
    /// Of which deployment.
    pub deployment_id: Option<DeploymentId>,
    /// Of which instance.
    pub instance_id: Option<InstanceId>,
    /// In the course of what.
    pub operation_id: Option<OperationId>,
    /// How it was, where something changed.
    pub before: Option<serde_json::Value>,
    /// How it is since.
    pub after: Option<serde_json::Value>,
}

impl EventNew {
    /// An event of now about nothing in particular.
    #[must_use]
    pub fn now(kind: impl Into<String>, severity: Severity, message: impl Into<String>) -> Self {
        Self {
            at: chrono::Utc::now(),
            kind: kind.into(),
            severity,
            message: message.into(),
            cause: None,
            actor: None,
            node_id: None,
            deployment_id: None,
            instance_id: None,
            operation_id: None,
            before: None,
            after: None,
        }
    }
}

/// An event, with the names of what it is about as they are now.
#[derive(Clone, Debug, PartialEq, Eq, Queryable)]
pub struct EventRow {
    /// Unique, and growing with `recorded_at`.
    pub id: Uuid,
    /// When it happened.
    pub at: Timestamp,
    /// When the controller learnt of it.
    pub recorded_at: Timestamp,
    /// For programs.
    pub kind: String,
    /// info, warning or error.
    pub severity: String,
    /// For people.
    pub message: String,
    /// Why, for programs.
    pub cause: Option<String>,
    /// Who.
    pub actor: Option<String>,
    /// Where.
    pub node: Option<String>,
    /// Of which deployment.
    pub deployment: Option<String>,
    /// In which project.
    pub project: Option<String>,
    /// Of which instance.
    pub instance_id: Option<Uuid>,
    /// In the course of what.
    pub operation_id: Option<Uuid>,
    /// How it was, where something changed.
    pub before: Option<serde_json::Value>,
    /// How it is since.
    pub after: Option<serde_json::Value>,
}

/// Which events to list. Empty: all.
#[derive(Clone, Debug, Default)]
pub struct EventFilter {
    /// Of deployments of this project.
    pub project_id: Option<ProjectId>,
    /// Of this deployment.
    pub deployment_id: Option<DeploymentId>,
    /// Of this instance.
    pub instance_id: Option<InstanceId>,
    /// Of this node.
    pub node_id: Option<NodeId>,
    /// Of this operation.
    pub operation_id: Option<OperationId>,
}

pub(crate) async fn event_insert_on_conn(
    conn: &mut AsyncPgConnection,
    event: &EventNew,
) -> Result<(), StoreError> {
    event_insert_once_on_conn(conn, event, None).await.map(drop)
}

/// Inserts an event; one that came as a numbered report only if that number is new.
pub(crate) async fn event_insert_once_on_conn(
    conn: &mut AsyncPgConnection,
    event: &EventNew,
    report: Option<(Uuid, i64)>,
) -> Result<usize, StoreError> {
    let count = diesel::insert_into(events::table)
        .values((
            events::id.eq(Uuid::now_v7()),
            events::at.eq(event.at),
            events::recorded_at.eq(diesel::dsl::sql::<diesel::sql_types::Timestamptz>("clock_timestamp()")),
            events::kind.eq(&event.kind),
            events::severity.eq(event.severity.as_str()),
            events::message.eq(plain(&event.message)),
            (
                events::cause.eq(&event.cause),
                events::actor.eq(&event.actor),
                events::node_id.eq(event.node_id.map(NodeId::uuid)),
                events::deployment_id.eq(event.deployment_id.map(DeploymentId::uuid)),
                events::instance_id.eq(event.instance_id.map(InstanceId::uuid)),
                events::operation_id.eq(event.operation_id.map(OperationId::uuid)),
                events::before.eq(&event.before),
                events::after.eq(&event.after),
                events::report_stream_id.eq(report.map(|(stream, _)| stream)),
                events::report_seq.eq(report.map(|(_, seq)| seq)),
            ),
        ))
        .on_conflict((events::report_stream_id, events::report_seq))
        .do_nothing()
        .execute(conn)
        .await?;
    Ok(count)
}

impl Store {
    /// Writes an event on its own, for what has no other row.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn event_insert(&self, event: &EventNew) -> Result<(), StoreError> {
        let mut conn = self.conn().await?;
        event_insert_on_conn(&mut conn, event).await
    }

    /// Events that are seen, the newest first. Those about no deployment are only for
    /// who sees all projects.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn event_list_page(
        &self,
        visible: &Visible,
        filter: &EventFilter,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Page<EventRow>, StoreError> {
        let mut conn = self.conn().await?;
        let mut query = events::table
            .left_join(nodes::table)
            .left_join(deployments::table.inner_join(projects::table))
            .select((
                events::id,
                events::at,
                events::recorded_at,
                events::kind,
                events::severity,
                events::message,
                events::cause,
                events::actor,
                nodes::name.nullable(),
                deployments::name.nullable(),
                projects::name.nullable(),
                events::instance_id,
                events::operation_id,
                events::before,
                events::after,
            ))
            .order((events::recorded_at.desc(), events::id.desc()))
            .limit(fetch_limit(limit))
            .into_boxed();
        if let Visible::Projects(ids) = visible {
            query = query.filter(deployments::project_id.eq_any(ids));
        }
        if let Some(id) = filter.project_id {
            query = query.filter(deployments::project_id.eq(id.uuid()));
        }
        if let Some(id) = filter.deployment_id {
            query = query.filter(events::deployment_id.eq(id.uuid()));
        }
        if let Some(id) = filter.instance_id {
            query = query.filter(events::instance_id.eq(id.uuid()));
        }
        if let Some(id) = filter.node_id {
            query = query.filter(events::node_id.eq(id.uuid()));
        }
        if let Some(id) = filter.operation_id {
            query = query.filter(events::operation_id.eq(id.uuid()));
        }
        if let Some(Cursor { at, id }) = after {
            query = query
                .filter(events::recorded_at.lt(at).or(events::recorded_at.eq(at).and(events::id.lt(id))));
        }
        let rows: Vec<EventRow> = query.load(&mut conn).await?;
        Ok(Page::cut(rows, limit, |row| Cursor { at: row.recorded_at, id: row.id }))
    }
}
