//! The log of who did what, or tried to.
//!
//! A line is written in the transaction of the change that it is about; what was
//! refused or failed has a line of its own. The database itself refuses to change or
//! delete lines: only whole months go, when they are old enough.
//!
//! Nothing secret comes in here. Of a deployment's spec that is what
//! `spec_shown` leaves of it.

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, time::Duration};

use chrono::{Datelike, Months, NaiveDate};
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use domain::{
    Timestamp,
    deployment::DeploymentSpec,
    id::UserId,
    probe::{ProbeKind, ProbeSpec},
    spec::{InstanceSpec, LogSpec},
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{Cursor, Page, Store, StoreError, page::fetch_limit, schema::audit_log};

/// Months that are made ahead of the present one.
const MONTHS_AHEAD: u32 = 2;

/// What kind of somebody does something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActorKind {
    /// Nobody is known yet: who signs in, registers, or shows a bad token.
    Anonymous,
    /// A person's account.
    User,
    /// A service account.
    Service,
    /// An agent.
    Node,
    /// Whoever runs commands at the controller's host.
    Host,
    /// The controller itself.
    System,
}

impl ActorKind {
    /// The name, as it is stored and shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Anonymous => "anonymous",
            Self::User => "user",
            Self::Service => "service",
            Self::Node => "node",
            Self::Host => "host",
            Self::System => "system",
        }
    }
}

/// Who does something, and in which request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// As shown: an account's name, `node NAME`, or `system`.
    pub name: String,
    /// Of which kind.
    pub kind: ActorKind,
    /// Set for accounts.
    pub account_id: Option<UserId>,
    /// The session or API token that was shown.
    pub credential: Option<Uuid>,
    /// From where.
    pub address: Option<String>,
    /// The HTTP request's id.
    pub request_id: Option<String>,
}

impl Actor {
    /// One that is no account, without a request.
    #[must_use]
    pub fn of(kind: ActorKind, name: impl Into<String>) -> Self {
        Self { name: name.into(), kind, account_id: None, credential: None, address: None, request_id: None }
    }

    /// The controller itself.
    #[must_use]
    pub fn system() -> Self {
        Self::of(ActorKind::System, "system")
    }
}

/// A line of the audit log. The actor comes with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditNew {
    action: &'static str,
    subject: String,
    project: Option<String>,
    outcome: &'static str,
    before: Option<Value>,
    after: Option<Value>,
}

impl AuditNew {
    const fn new(action: &'static str, subject: String, outcome: &'static str) -> Self {
        Self { action, subject, project: None, outcome, before: None, after: None }
    }

    /// It was done.
    #[must_use]
    pub fn done(action: &'static str, subject: &str) -> Self {
        Self::new(action, subject.to_owned(), "done")
    }

    /// It was refused.
    #[must_use]
    pub fn refused(action: &'static str, subject: &str) -> Self {
        Self::new(action, subject.to_owned(), "refused")
    }

    /// It was tried, and failed.
    #[must_use]
    pub fn failed(action: &'static str, subject: &str) -> Self {
        Self::new(action, subject.to_owned(), "failed")
    }

    /// What it is about belongs to this project.
    #[must_use]
    pub fn in_project(self, name: impl Into<String>) -> Self {
        Self { project: Some(name.into()), ..self }
    }

    /// How it was before and is after, without anything secret.
    #[must_use]
    pub fn change(self, before: Option<Value>, after: Option<Value>) -> Self {
        Self { before, after, ..self }
    }
}

pub(crate) async fn audit_insert_on_conn(
    conn: &mut AsyncPgConnection,
    actor: &Actor,
    audit: &AuditNew,
) -> Result<(), StoreError> {
    diesel::insert_into(audit_log::table)
        .values((
            audit_log::id.eq(Uuid::now_v7()),
            audit_log::actor.eq(&actor.name),
            audit_log::actor_kind.eq(actor.kind.as_str()),
            audit_log::actor_uuid.eq(actor.account_id.map(UserId::uuid)),
            audit_log::credential_uuid.eq(actor.credential),
            audit_log::address.eq(&actor.address),
            audit_log::action.eq(audit.action),
            (
                audit_log::subject.eq(&audit.subject),
                audit_log::project.eq(&audit.project),
                audit_log::outcome.eq(audit.outcome),
                audit_log::request_id.eq(&actor.request_id),
                audit_log::before.eq(&audit.before),
                audit_log::after.eq(&audit.after),
            ),
        ))
        .execute(conn)
        .await?;
    Ok(())
}

/// What the audit log shows of a spec: names of environment variables, labels and log
/// options without their values, and neither command nor entrypoint, since people put
/// passwords into all of these. A new field does not compile until somebody has decided about it.
pub(crate) fn spec_shown(spec: &DeploymentSpec) -> Value {
    let DeploymentSpec {
        instance,
        replicas,
        reservation,
        constraints,
        storage_enforced,
        progress_deadline_seconds,
        update,
        disconnect,
    } = spec;
    let InstanceSpec {
        image,
        entrypoint: _,
        command: _,
        env,
        working_dir,
        user,
        labels,
        hostname,
        ports,
        network,
        volumes,
        secrets,
        devices,
        security,
        limits,
        ulimits,
        log: LogSpec { driver, options },
        init,
        restart,
        pull,
        stop_signal,
        stop_grace_seconds,
        min_healthy_seconds,
        probes,
        stop_after_seconds,
    } = instance;
    let names = |map: &BTreeMap<String, String>| map.keys().cloned().collect::<Vec<_>>();
    json!({
        "image": image, "env": names(&env.0), "working_dir": working_dir, "user": user,
        "labels": names(labels), "hostname": hostname, "ports": ports, "network": network,
        "volumes": volumes, "secrets": secrets, "devices": devices, "security": security, "limits": limits, "ulimits": ulimits,
        "log": {"driver": driver, "options": names(&options.0)}, "init": init, "restart": restart,
        "pull": pull, "stop_signal": stop_signal, "stop_grace_seconds": stop_grace_seconds,
        "min_healthy_seconds": min_healthy_seconds, "stop_after_seconds": stop_after_seconds,
        "probes": probes.iter().map(probe_shown).collect::<Vec<_>>(), "storage_enforced": storage_enforced,
        "replicas": replicas, "reservation": reservation, "constraints": constraints,
        "progress_deadline_seconds": progress_deadline_seconds, "update": update, "disconnect": disconnect
    })
}

/// What is shown of a probe: neither a command nor what is sent in headers or looked for in a body.
fn probe_shown(probe: &ProbeSpec) -> Value {
    let kind = match &probe.kind {
        ProbeKind::Http(check) => {
            let names: Vec<_> = check.headers.iter().map(|header| &header.name).collect();
            json!({
                "type": "http", "path": check.path, "port": check.port, "headers": names,
                "expected_status": check.expected_status
            })
        }
        ProbeKind::Tcp { port } => json!({ "type": "tcp", "port": port }),
        ProbeKind::Exec { command: _ } => json!({ "type": "exec" }),
        ProbeKind::Image => json!({ "type": "image" }),
    };
    json!({
        "kind": kind, "role": probe.role, "interval_seconds": probe.interval_seconds,
        "timeout_seconds": probe.timeout_seconds, "retries": probe.retries,
        "start_period_seconds": probe.start_period_seconds
    })
}

/// A line, as stored.
#[derive(Clone, Debug, PartialEq, Eq, Queryable)]
pub struct AuditRow {
    /// Unique.
    pub id: Uuid,
    /// When, by the database's clock.
    pub at: Timestamp,
    /// Who, by the name of that time.
    pub actor: String,
    /// What kind of somebody; see [`ActorKind`].
    pub actor_kind: String,
    /// The account, if it was one.
    pub actor_id: Option<Uuid>,
    /// The session or API token.
    pub credential_id: Option<Uuid>,
    /// From where.
    pub address: Option<String>,
    /// What.
    pub action: String,
    /// On what.
    pub subject: String,
    /// Of which project.
    pub project: Option<String>,
    /// `done`, `refused` or `failed`.
    pub outcome: String,
    /// In which request.
    pub request_id: Option<String>,
    /// How it was.
    pub before: Option<Value>,
    /// How it is since.
    pub after: Option<Value>,
}

/// Which lines; those to which all that is given applies.
#[derive(Clone, Debug, Default)]
pub struct AuditFilter {
    /// An actor's name, or an account's id.
    pub actor: Option<String>,
    /// What was done.
    pub action: Option<String>,
    /// On what.
    pub subject: Option<String>,
    /// Of which project, by name.
    pub project: Option<String>,
    /// `done`, `refused` or `failed`.
    pub outcome: Option<String>,
    /// From where.
    pub address: Option<String>,
    /// In which request.
    pub request_id: Option<String>,
    /// From then on.
    pub since: Option<Timestamp>,
    /// Before then.
    pub until: Option<Timestamp>,
}

/// In which order lines come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditOrder {
    /// The newest first.
    Newest,
    /// The oldest first.
    Oldest,
}

type Boxed<'a> = audit_log::BoxedQuery<'a, diesel::pg::Pg>;

fn filtered(filter: &AuditFilter) -> Boxed<'_> {
    let mut query = audit_log::table.into_boxed();
    if let Some(actor) = &filter.actor {
        query = match actor.parse::<Uuid>() {
            Ok(id) => query.filter(audit_log::actor_uuid.eq(id)),
            Err(_) => query.filter(audit_log::actor.eq(actor)),
        };
    }
    if let Some(action) = &filter.action {
        query = query.filter(audit_log::action.eq(action));
    }
    if let Some(subject) = &filter.subject {
        query = query.filter(audit_log::subject.eq(subject));
    }
    if let Some(project) = &filter.project {
        query = query.filter(audit_log::project.eq(project));
    }
    if let Some(outcome) = &filter.outcome {
        query = query.filter(audit_log::outcome.eq(outcome));
    }
    if let Some(address) = &filter.address {
        query = query.filter(audit_log::address.eq(address));
    }
    if let Some(request_id) = &filter.request_id {
        query = query.filter(audit_log::request_id.eq(request_id));
    }
    if let Some(since) = filter.since {
        query = query.filter(audit_log::at.ge(since));
    }
    if let Some(until) = filter.until {
        query = query.filter(audit_log::at.lt(until));
    }
    query
}

fn month_of(at: Timestamp) -> NaiveDate {
    let day = at.date_naive();
    day.with_day(1).unwrap_or(day)
}

fn partition(month: NaiveDate) -> String {
    format!("audit_log_{}", month.format("%Y%m%d"))
}

#[derive(QueryableByName)]
struct PartitionName {
    #[diesel(sql_type = diesel::sql_types::Text)]
    name: String,
}

impl Store {
    /// Lines of the audit log.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn audit_list_page(
        &self,
        filter: &AuditFilter,
        order: AuditOrder,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Page<AuditRow>, StoreError> {
        let (at, id) = (audit_log::at, audit_log::id);
        let mut query = filtered(filter).limit(fetch_limit(limit));
        query = match order {
            AuditOrder::Newest => query.order((at.desc(), id.desc())),
            AuditOrder::Oldest => query.order((at.asc(), id.asc())),
        };
        // The bare bound on the time is what an index and the choice of months go by.
        if let Some(cursor) = after {
            query = match order {
                AuditOrder::Newest => query
                    .filter(at.le(cursor.at))
                    .filter(at.lt(cursor.at).or(at.eq(cursor.at).and(id.lt(cursor.id)))),
                AuditOrder::Oldest => query
                    .filter(at.ge(cursor.at))
                    .filter(at.gt(cursor.at).or(at.eq(cursor.at).and(id.gt(cursor.id)))),
            };
        }
        let mut conn = self.conn().await?;
        let rows: Vec<AuditRow> = query.load(&mut conn).await?;
        Ok(Page::cut(rows, limit, |row| Cursor { at: row.at, id: row.id }))
    }

    /// Makes the partitions of this month and the next two, and drops the months
    /// that ended longer than `keep` ago, which the log itself says. Again, or in two
    /// controllers at once: changes nothing more.
    ///
    /// # Errors
    /// When the database is not there. When somebody reads a month that is to go for
    /// longer than 5 s, the month stays until the next time.
    pub async fn audit_partitions_maintain(&self, now: Timestamp, keep: Duration) -> Result<(), StoreError> {
        let months = (0..=MONTHS_AHEAD).filter_map(|n| month_of(now).checked_add_months(Months::new(n)));
        let make: Vec<String> = std::iter::once("select pg_advisory_xact_lock(6701005)".to_owned())
            .chain(months.map(|month| format!("select audit_log_month_make('{month}')")))
            .collect();
        let oldest = partition(month_of(now - keep));
        self.transact("audit_partitions_make", async |conn| Ok(conn.batch_execute(&make.join(";")).await?))
            .await?;
        self.transact("audit_partitions_drop", async |conn| {
            // A drop that waits has everybody wait behind it who writes.
            conn.batch_execute("set local lock_timeout = '5s'; select pg_advisory_xact_lock(6701005)")
                .await?;
            let names: Vec<PartitionName> = diesel::sql_query(
                "select c.relname::text as name from pg_inherits i join pg_class c on c.oid = i.inhrelid \
                 where i.inhparent = 'audit_log'::regclass order by 1",
            )
            .load(conn)
            .await?;
            // The names sort as their months do.
            for PartitionName { name } in names.into_iter().filter(|p| p.name < oldest) {
                conn.batch_execute(&format!("drop table {name}")).await?;
                audit_insert_on_conn(conn, &Actor::system(), &AuditNew::done("audit_expire", &name)).await?;
            }
            Ok(())
        })
        .await
    }

    /// Writes a line of the audit log on its own, for what changed nothing: refusals.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn audit_insert(&self, actor: &Actor, audit: &AuditNew) -> Result<(), StoreError> {
        let mut conn = self.conn().await?;
        audit_insert_on_conn(&mut conn, actor, audit).await
    }
}
