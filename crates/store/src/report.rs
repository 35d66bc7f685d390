//! Taking over what agents report.
//!
//! Reports of one stream are counted; the node's row keeps how far they were
//! taken over, so a batch that comes again changes nothing. Beyond that, each
//! report passes the guard of progress in the statement itself, because a node's
//! ledger may be older than what it once said.

use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use domain::{
    id::{DeploymentId, NodeId, ReportStreamId},
    instance::{Cause, Health, Outcome, Phase, Report},
};
use uuid::Uuid;

use crate::{
    Refusal, Store, StoreError,
    event::{EventNew, Severity, event_insert_once_on_conn},
    pull::pull_forget_on_conn,
    schema::{instances, nodes, operations},
    text::json,
    wake::{Wake, wake_in_txn},
};

impl Store {
    /// Takes over reports, in their order, with an event for each, and says up to
    /// which number reports of this stream are now stored. Reports that were taken
    /// over before are passed over; so are those about instances that are not this
    /// node's (I4).
    ///
    /// # Errors
    /// [`Refusal::Missing`] when the node was removed or counts in another stream
    /// by now: a newer session has begun.
    pub async fn reports_apply(
        &self,
        node: NodeId,
        stream: ReportStreamId,
        reports: &[Report],
    ) -> Result<u64, StoreError> {
        self.transact("reports_apply", async |conn| {
            let held: Option<i64> = nodes::table
                .filter(nodes::id.eq(node.uuid()))
                .filter(nodes::report_stream_id.eq(stream.uuid()))
                .select(nodes::report_seq)
                .for_update()
                .first(conn)
                .await
                .optional()?;
            let held = held.ok_or(Refusal::Missing("report stream"))?;
            let mut last = held;
            for report in reports {
                let seq = i64::try_from(report.seq).unwrap_or(i64::MAX);
                if seq > last {
                    report_apply_in_txn(conn, node, stream, report, seq).await?;
                    last = seq;
                }
            }
            if last > held {
                diesel::update(nodes::table.filter(nodes::id.eq(node.uuid())))
                    .set(nodes::report_seq.eq(last))
                    .execute(conn)
                    .await?;
                wake_in_txn(conn, Wake::Orchestrate).await?;
            }
            Ok(u64::try_from(last).unwrap_or_default())
        })
        .await
    }
}

async fn report_apply_in_txn(
    conn: &mut AsyncPgConnection,
    node: NodeId,
    stream: ReportStreamId,
    report: &Report,
    seq: i64,
) -> Result<(), StoreError> {
    let own = instances::table
        .filter(instances::id.eq(report.instance_id.uuid()))
        .filter(instances::node_id.eq(node.uuid()));
    let deployment: Option<Uuid> = own.select(instances::deployment_id).first(conn).await.optional()?;
    let Some(deployment) = deployment else {
        tracing::warn!(node.id = %node, instance.id = %report.instance_id, "a report about an instance that is not this node's was passed over");
        return Ok(());
    };
    let progress = report.status.progress;
    let (attempt, phase) = (i32::try_from(progress.attempt).unwrap_or(i32::MAX), progress.phase.number());
    let status = json(&report.status, "instance's status")?;
    let newer = instances::attempt
        .lt(attempt)
        .or(instances::attempt.eq(attempt).and(instances::phase.lt(phase)))
        .or(instances::attempt
            .eq(attempt)
            .and(instances::phase.eq(phase))
            .and(instances::removed.lt(progress.removed)))
        .or(instances::attempt
            .eq(attempt)
            .and(instances::phase.eq(phase))
            .and(instances::removed.eq(progress.removed))
            .and(instances::report_seq.lt(seq)));
    let updated = diesel::update(own.filter(newer))
        .set((
            instances::attempt.eq(attempt),
            instances::phase.eq(phase),
            instances::removed.eq(progress.removed),
            instances::report_seq.eq(seq),
            instances::status.eq(&status),
            instances::observed_at.eq(Some(report.at)),
        ))
        .execute(conn)
        .await?;
    if updated > 0 && progress.phase != Phase::Pulling {
        pull_forget_on_conn(conn, report.instance_id.uuid()).await?;
    }
    let event = event_of(conn, node, deployment.into(), report).await?;
    event_insert_once_on_conn(conn, &event, Some((stream.uuid(), seq))).await?;
    Ok(())
}

async fn event_of(
    conn: &mut AsyncPgConnection,
    node: NodeId,
    deployment: DeploymentId,
    report: &Report,
) -> Result<EventNew, StoreError> {
    let operation: Option<Uuid> = operations::table
        .filter(operations::deployment_id.eq(deployment.uuid()))
        .filter(operations::verdict.is_null())
        .filter(operations::instance_id.is_null().or(operations::instance_id.eq(report.instance_id.uuid())))
        .order(operations::id.desc())
        .select(operations::id)
        .first(conn)
        .await
        .optional()?;
    Ok(EventNew {
        at: report.at,
        kind: kind_of(report).to_owned(),
        severity: severity_of(report),
        message: report.message.clone(),
        cause: Some(cause_of(&report.cause)),
        actor: None,
        node_id: Some(node),
        deployment_id: Some(deployment),
        instance_id: Some(report.instance_id),
        operation_id: operation.map(Into::into),
        before: None,
        after: None,
    })
}

fn kind_of(report: &Report) -> &'static str {
    let status = &report.status;
    match (status.progress.phase, &status.outcome) {
        _ if status.progress.removed => "instance_removed",
        (Phase::Assigned, _) => "instance_assigned",
        (Phase::Pulling, _) => "instance_pulling",
        (Phase::Creating, _) => "instance_creating",
        (Phase::Starting, _) => "instance_starting",
        (Phase::Running, _) => match status.health {
            Health::Healthy => "instance_healthy",
            Health::Unhealthy => "instance_unhealthy",
            Health::Unknown | Health::Starting => "instance_running",
        },
        (Phase::Stopping, _) => "instance_stopping",
        (Phase::Ended, Some(Outcome::Stopped { .. }) | None) => "instance_stopped",
        (Phase::Ended, Some(Outcome::Exited { .. })) => "instance_exited",
        (Phase::Ended, Some(Outcome::Failed { .. })) => "instance_failed",
    }
}

fn severity_of(report: &Report) -> Severity {
    match &report.status.outcome {
        Some(Outcome::Failed { .. }) => Severity::Error,
        Some(Outcome::Exited { code, .. }) if *code != 0 => Severity::Warning,
        _ if report.status.health == Health::Unhealthy => Severity::Warning,
        _ => Severity::Info,
    }
}

fn cause_of(cause: &Cause) -> String {
    match cause {
        Cause::Assigned => "assigned".into(),
        Cause::RestartRequested => "restart_requested".into(),
        Cause::RestartPolicy => "restart_policy".into(),
        Cause::Process => "process".into(),
        Cause::OutsideSignal { signal } => format!("outside_signal_{signal}"),
        Cause::Outside => "outside".into(),
        Cause::OutOfMemory => "out_of_memory".into(),
        Cause::Engine => "engine".into(),
        Cause::Time => "time".into(),
        Cause::Probe => "probe".into(),
        Cause::Storage => "storage".into(),
        Cause::LeaseExpired => "lease_expired".into(),
    }
}
