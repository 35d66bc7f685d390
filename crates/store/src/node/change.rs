//! What administrators do with a node: cordon, drain, labels, and its end.

use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use domain::{
    id::{NodeId, OperationId},
    name::Labels,
    operation::OperationKind,
};
use serde_json::json;

use crate::{
    Refusal, Store, StoreError,
    audit::{Actor, AuditNew, audit_insert_on_conn},
    event::{EventNew, Severity, event_insert_on_conn},
    operation::{OperationNew, operation_insert_in_txn},
    schema::{instances, nodes, operations},
    text,
    wake::{Wake, wake_in_txn},
};

/// What is changed about a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeChange {
    /// It takes nothing new.
    Cordon,
    /// It takes new instances again; ends a drain that is under way.
    Uncordon,
    /// It has these labels, and no others.
    Labels(Labels),
}

impl NodeChange {
    const fn action(&self) -> &'static str {
        match self {
            Self::Cordon => "node_cordon",
            Self::Uncordon => "node_uncordon",
            Self::Labels(_) => "node_label",
        }
    }
}

/// A node whose row this transaction has locked.
struct Locked {
    name: String,
    labels: serde_json::Value,
    cordoned: bool,
    draining: bool,
}

impl Locked {
    fn shown(&self) -> serde_json::Value {
        json!({ "cordoned": self.cordoned, "draining": self.draining, "labels": self.labels })
    }
}

async fn node_lock_in_txn(conn: &mut AsyncPgConnection, id: NodeId) -> Result<Locked, StoreError> {
    let row: Option<(String, serde_json::Value, bool, bool)> = nodes::table
        .filter(nodes::id.eq(id.uuid()))
        .select((nodes::name, nodes::labels, nodes::cordoned, nodes::draining))
        .for_update()
        .first(conn)
        .await
        .optional()?;
    let (name, labels, cordoned, draining) = row.ok_or(Refusal::Missing("node"))?;
    Ok(Locked { name, labels, cordoned, draining })
}

/// Writes down who changed a node, and wakes the orchestrator: something may wait for room.
async fn changed_in_txn(
    conn: &mut AsyncPgConnection,
    (action, id, operation): (&'static str, NodeId, Option<OperationId>),
    (before, after): (&Locked, Option<&Locked>),
    actor: &Actor,
) -> Result<(), StoreError> {
    let change = (Some(before.shown()), after.map(Locked::shown));
    let audit = AuditNew::done(action, &before.name).change(change.0.clone(), change.1.clone());
    audit_insert_on_conn(conn, actor, &audit).await?;
    let message =
        format!("{} asked for a {} of node {}", actor.name, action.trim_start_matches("node_"), before.name);
    let event = EventNew {
        actor: Some(actor.name.clone()),
        node_id: after.map(|_| id),
        operation_id: operation,
        before: change.0,
        after: change.1,
        ..EventNew::now(format!("{action}_requested"), Severity::Info, message)
    };
    event_insert_on_conn(conn, &event).await?;
    Ok(wake_in_txn(conn, Wake::Orchestrate).await?)
}

impl Store {
    /// Changes something about a node. Again: changes nothing.
    ///
    /// # Errors
    /// [`Refusal::Missing`].
    pub async fn node_change(
        &self,
        id: NodeId,
        change: &NodeChange,
        actor: &Actor,
    ) -> Result<(), StoreError> {
        self.transact("node_change", async |conn| {
            let before = node_lock_in_txn(conn, id).await?;
            let mut after = Locked { name: before.name.clone(), labels: before.labels.clone(), ..before };
            match change {
                NodeChange::Cordon => after.cordoned = true,
                NodeChange::Uncordon => (after.cordoned, after.draining) = (false, false),
                NodeChange::Labels(labels) => after.labels = text::json(labels, "label")?,
            }
            if before.shown() == after.shown() {
                return Ok(());
            }
            diesel::update(nodes::table.filter(nodes::id.eq(id.uuid())))
                .set((
                    nodes::cordoned.eq(after.cordoned),
                    nodes::draining.eq(after.draining),
                    nodes::labels.eq(&after.labels),
                ))
                .execute(conn)
                .await?;
            if *change == NodeChange::Uncordon {
                let ended: Vec<uuid::Uuid> = diesel::update(
                    operations::table
                        .filter(operations::node_id.eq(id.uuid()))
                        .filter(operations::verdict.is_null()),
                )
                .set((
                    operations::verdict.eq("cancelled"),
                    operations::message.eq(format!("{} uncordoned the node", actor.name)),
                    operations::updated_at.eq(diesel::dsl::now),
                    operations::finished_at.eq(crate::txn::db_now()),
                ))
                .returning(operations::id)
                .get_results(conn)
                .await?;
                for operation in ended {
                    wake_in_txn(conn, Wake::Operation(operation.into())).await?;
                }
            }
            changed_in_txn(conn, (change.action(), id, None), (&before, Some(&after)), actor).await
        })
        .await
    }

    /// Begins to move what a node runs elsewhere. Of one that is being drained already,
    /// answers the operation that does it.
    ///
    /// # Errors
    /// [`Refusal::Missing`].
    pub async fn node_drain(
        &self,
        id: NodeId,
        (operation_id, deadline_seconds): (OperationId, u32),
        actor: &Actor,
    ) -> Result<OperationId, StoreError> {
        self.transact("node_drain", async |conn| {
            let before = node_lock_in_txn(conn, id).await?;
            let open: Option<uuid::Uuid> = operations::table
                .filter(operations::node_id.eq(id.uuid()))
                .filter(operations::verdict.is_null())
                .select(operations::id)
                .first(conn)
                .await
                .optional()?;
            if let Some(open) = open {
                return Ok(open.into());
            }
            diesel::update(nodes::table.filter(nodes::id.eq(id.uuid())))
                .set((nodes::cordoned.eq(true), nodes::draining.eq(true)))
                .execute(conn)
                .await?;
            let total: i64 = instances::table
                .filter(instances::node_id.eq(id.uuid()))
                .filter(instances::assigned)
                .count()
                .get_result(conn)
                .await?;
            let operation = OperationNew {
                node_id: Some(id),
                total: u32::try_from(total).unwrap_or(u32::MAX),
                deadline_seconds,
                ..OperationNew::new(operation_id, OperationKind::NodeDrain, &before.name)
            };
            operation_insert_in_txn(conn, &operation, actor).await?;
            let after = Locked {
                name: before.name.clone(),
                labels: before.labels.clone(),
                cordoned: true,
                draining: true,
            };
            let what = ("node_drain", id, Some(operation_id));
            changed_in_txn(conn, what, (&before, Some(&after)), actor).await?;
            Ok(operation_id)
        })
        .await
    }

    /// Forgets a node, with its certificates and what it was assigned. Its agent is
    /// refused from now on; what it runs, it goes on running.
    ///
    /// # Errors
    /// [`Refusal::Missing`]; [`Refusal::NodeInUse`], unless it is forced.
    pub async fn node_delete(&self, id: NodeId, force: bool, actor: &Actor) -> Result<(), StoreError> {
        self.transact("node_delete", async |conn| {
            let before = node_lock_in_txn(conn, id).await?;
            let held: i64 = instances::table
                .filter(instances::node_id.eq(id.uuid()))
                .filter(instances::assigned)
                .count()
                .get_result(conn)
                .await?;
            if held > 0 && !force {
                return Err(Refusal::NodeInUse(before.name, u64::try_from(held).unwrap_or_default()).into());
            }
            // Those about its instances as well: without their instance they would be
            // about the whole deployment, of which there may be one only.
            let own =
                instances::table.filter(instances::node_id.eq(id.uuid())).select(instances::id.nullable());
            let about_it =
                operations::node_id.eq(id.uuid()).or(operations::instance_id.eq_any(own).assume_not_null());
            diesel::update(operations::table.filter(about_it).filter(operations::verdict.is_null()))
                .set((
                    operations::verdict.eq("cancelled"),
                    operations::message.eq("the node was removed"),
                    operations::updated_at.eq(diesel::dsl::now),
                    operations::finished_at.eq(crate::txn::db_now()),
                ))
                .execute(conn)
                .await?;
            diesel::delete(nodes::table.filter(nodes::id.eq(id.uuid()))).execute(conn).await?;
            // Ends its session, which finds that the node is gone.
            wake_in_txn(conn, Wake::Assignments(id)).await?;
            changed_in_txn(conn, ("node_delete", id, None), (&before, None), actor).await
        })
        .await
    }
}
