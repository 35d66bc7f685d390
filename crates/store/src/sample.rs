//! Readings, in partitions of a day each.

use std::time::Duration;

use chrono::{Days, NaiveDate, Utc};
use diesel::{
    prelude::*,
    sql_types::{Array, BigInt, Double, Jsonb, Nullable, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use domain::{
    Timestamp,
    id::{InstanceId, NodeId},
    node::NodeHealth,
    sample::{HostSample, InstanceSample},
};
use uuid::Uuid;

use crate::{
    Store, StoreError,
    event::{EventNew, Severity, event_insert_on_conn},
    node::HealthTold,
    schema::{instance_samples, instances, node_samples, nodes},
    text::json,
};

/// For how long readings are kept as they were taken. Whole days are dropped, so
/// up to a day more is there.
pub const KEPT: Duration = Duration::from_secs(48 * 3600);

#[derive(Queryable, Selectable)]
#[diesel(table_name = instance_samples, check_for_backend(diesel::pg::Pg))]
struct SampleRow {
    instance_id: Uuid,
    at: Timestamp,
    cpu_percent: Option<f64>,
    memory_bytes: Option<i64>,
    memory_limit_bytes: Option<i64>,
    network_rx_bytes: Option<i64>,
    network_tx_bytes: Option<i64>,
    block_read_bytes: Option<i64>,
    block_write_bytes: Option<i64>,
    pids: Option<i64>,
    throttled_nanos: Option<i64>,
    oom_kills: Option<i64>,
    storage_bytes: Option<i64>,
}

impl From<SampleRow> for InstanceSample {
    fn from(row: SampleRow) -> Self {
        Self {
            instance_id: row.instance_id.into(),
            at: row.at,
            cpu_percent: row.cpu_percent,
            memory_bytes: unsigned(row.memory_bytes),
            memory_limit_bytes: unsigned(row.memory_limit_bytes),
            network_rx_bytes: unsigned(row.network_rx_bytes),
            network_tx_bytes: unsigned(row.network_tx_bytes),
            block_read_bytes: unsigned(row.block_read_bytes),
            block_write_bytes: unsigned(row.block_write_bytes),
            pids: unsigned(row.pids),
            throttled_nanos: unsigned(row.throttled_nanos),
            oom_kills: unsigned(row.oom_kills),
            storage_bytes: unsigned(row.storage_bytes),
        }
    }
}

fn unsigned(number: Option<i64>) -> Option<u64> {
    number.and_then(|n| u64::try_from(n).ok())
}

fn signed(number: Option<u64>) -> Option<i64> {
    number.map(|n| i64::try_from(n).unwrap_or(i64::MAX))
}

/// The tables of readings; each has a partition a day, and is kept for [`KEPT`].
const TABLES: [&str; 2] = ["instance_samples", "node_samples"];

fn partition(table: &str, day: NaiveDate) -> String {
    format!("{table}_{}", day.format("%Y%m%d"))
}

/// From when to when readings are taken: not older than they are kept, and not from
/// a clock that is more than an hour fast.
fn taken_between() -> (Timestamp, Timestamp) {
    let now = Utc::now();
    (now - KEPT, now + chrono::TimeDelta::hours(1))
}

impl Store {
    /// Stores readings of a node's instances; says how many were dropped because
    /// they are not this node's, or too old, or of the future. One that is there
    /// already stays as it is.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn sample_insert(&self, node: NodeId, samples: &[InstanceSample]) -> Result<usize, StoreError> {
        let (oldest, newest) = taken_between();
        let mut ids: Vec<Uuid> = samples.iter().map(|s| s.instance_id.uuid()).collect();
        ids.sort_unstable();
        ids.dedup();
        let mut conn = self.conn().await?;
        let own: Vec<Uuid> = instances::table
            .filter(instances::id.eq_any(ids))
            .filter(instances::node_id.eq(node.uuid()))
            .select(instances::id)
            .load(&mut conn)
            .await?;
        let taken: Vec<&InstanceSample> = samples
            .iter()
            .filter(|s| own.contains(&s.instance_id.uuid()) && s.at > oldest && s.at < newest)
            .collect();
        if taken.is_empty() {
            return Ok(samples.len());
        }
        let numbers = |of: fn(&InstanceSample) -> Option<u64>| -> Vec<_> {
            taken.iter().map(|s| signed(of(s))).collect()
        };
        diesel::sql_query(
            "insert into instance_samples (instance_id, at, cpu_percent, memory_bytes, memory_limit_bytes, network_rx_bytes, network_tx_bytes, \
             block_read_bytes, block_write_bytes, pids, throttled_nanos, oom_kills, storage_bytes) \
             select * from unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) on conflict do nothing",
        )
        .bind::<Array<SqlUuid>, _>(taken.iter().map(|s| s.instance_id.uuid()).collect::<Vec<_>>())
        .bind::<Array<Timestamptz>, _>(taken.iter().map(|s| s.at).collect::<Vec<_>>())
        .bind::<Array<Nullable<Double>>, _>(taken.iter().map(|s| s.cpu_percent).collect::<Vec<_>>())
        .bind::<Array<Nullable<BigInt>>, _>(numbers(|s| s.memory_bytes))
        .bind::<Array<Nullable<BigInt>>, _>(numbers(|s| s.memory_limit_bytes))
        .bind::<Array<Nullable<BigInt>>, _>(numbers(|s| s.network_rx_bytes))
        .bind::<Array<Nullable<BigInt>>, _>(numbers(|s| s.network_tx_bytes))
        .bind::<Array<Nullable<BigInt>>, _>(numbers(|s| s.block_read_bytes))
        .bind::<Array<Nullable<BigInt>>, _>(numbers(|s| s.block_write_bytes))
        .bind::<Array<Nullable<BigInt>>, _>(numbers(|s| s.pids))
        .bind::<Array<Nullable<BigInt>>, _>(numbers(|s| s.throttled_nanos))
        .bind::<Array<Nullable<BigInt>>, _>(numbers(|s| s.oom_kills))
        .bind::<Array<Nullable<BigInt>>, _>(numbers(|s| s.storage_bytes))
        .execute(&mut conn)
        .await?;
        Ok(samples.len() - taken.len())
    }

    /// An instance's readings since a moment, the newest first.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn sample_list(
        &self,
        instance: InstanceId,
        since: Timestamp,
        limit: usize,
    ) -> Result<Vec<InstanceSample>, StoreError> {
        let mut conn = self.conn().await?;
        let rows: Vec<SampleRow> = instance_samples::table
            .filter(instance_samples::instance_id.eq(instance.uuid()))
            .filter(instance_samples::at.ge(since))
            .order(instance_samples::at.desc())
            .limit(i64::try_from(limit).unwrap_or(i64::MAX))
            .select(SampleRow::as_select())
            .load(&mut conn)
            .await?;
        Ok(rows.into_iter().map(Into::into).collect())
    }

    /// Stores readings of a node, and takes over what the newest of them makes of its
    /// health; a change of that is an event. Says how many were dropped because they
    /// are too old or of the future. One that is there already stays as it is, and
    /// readings that come late change nothing of the node's health.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn node_sample_insert(
        &self,
        node: NodeId,
        samples: &[HostSample],
    ) -> Result<usize, StoreError> {
        let (oldest, newest) = taken_between();
        let taken: Vec<&HostSample> = samples.iter().filter(|s| s.at > oldest && s.at < newest).collect();
        let Some(last) = taken.iter().max_by_key(|sample| sample.at) else { return Ok(samples.len()) };
        let json: Vec<serde_json::Value> =
            taken.iter().map(|sample| json(*sample, "host's reading")).collect::<Result<_, _>>()?;
        self.transact("node_sample_insert", async |conn| {
            // Two batches of one node come one after the other: what is the newest is
            // not judged while another transaction adds to it.
            let held: Option<(String, serde_json::Value)> = nodes::table
                .filter(nodes::id.eq(node.uuid()))
                .select((nodes::name, nodes::health))
                .for_no_key_update()
                .first(conn)
                .await
                .optional()?;
            let Some((name, health)) = held else { return Ok(samples.len()) };
            let known: Option<Timestamp> = node_samples::table
                .filter(node_samples::node_id.eq(node.uuid()))
                .select(diesel::dsl::max(node_samples::at))
                .first(conn)
                .await?;
            diesel::sql_query(
                "insert into node_samples (node_id, at, cpu_percent, memory_bytes, memory_available_bytes, sample) \
                 select $1, * from unnest($2, $3, $4, $5, $6) on conflict do nothing",
            )
            .bind::<SqlUuid, _>(node.uuid())
            .bind::<Array<Timestamptz>, _>(taken.iter().map(|s| s.at).collect::<Vec<_>>())
            .bind::<Array<Nullable<Double>>, _>(taken.iter().map(|s| s.cpu_percent).collect::<Vec<_>>())
            .bind::<Array<Nullable<BigInt>>, _>(
                taken.iter().map(|s| signed(s.memory_bytes)).collect::<Vec<_>>(),
            )
            .bind::<Array<Nullable<BigInt>>, _>(
                taken.iter().map(|s| signed(s.memory_available_bytes)).collect::<Vec<_>>(),
            )
            .bind::<Array<Jsonb>, _>(&json)
            .execute(conn)
            .await?;
            if known.is_none_or(|known| last.at > known) {
                let before = serde_json::from_value(health)
                    .map_err(|e| StoreError::corrupt("node's health", e))?;
                node_health_set_in_txn(conn, node, (&name, before), last).await?;
            }
            Ok(samples.len() - taken.len())
        })
        .await
    }

    /// A node's readings since a moment, the newest first.
    ///
    /// # Errors
    /// When the database is not there, or holds something that is no reading.
    pub async fn node_sample_list(
        &self,
        node: NodeId,
        since: Timestamp,
        limit: usize,
    ) -> Result<Vec<HostSample>, StoreError> {
        let mut conn = self.conn().await?;
        let rows: Vec<serde_json::Value> = node_samples::table
            .filter(node_samples::node_id.eq(node.uuid()))
            .filter(node_samples::at.ge(since))
            .order(node_samples::at.desc())
            .limit(i64::try_from(limit).unwrap_or(i64::MAX))
            .select(node_samples::sample)
            .load(&mut conn)
            .await?;
        rows.into_iter()
            .map(|row| serde_json::from_value(row).map_err(|e| StoreError::corrupt("host's reading", e)))
            .collect()
    }

    /// Makes the partitions of all readings from the oldest kept day to tomorrow, and drops those
    /// before it. Again, or in two controllers at once: changes nothing more.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn sample_partitions_maintain(&self, now: Timestamp) -> Result<(), StoreError> {
        let first = (now - KEPT).date_naive();
        let days = std::iter::successors(Some(first), |day| day.checked_add_days(Days::new(1)));
        let days: Vec<NaiveDate> = days.take_while(|day| *day <= now.date_naive() + Days::new(1)).collect();
        let mut statements = vec!["select pg_advisory_xact_lock(6701005)".to_owned()];
        for table in TABLES {
            statements.extend(days.iter().map(|day| {
                format!(
                    "create table if not exists {} partition of {table} for values from ('{day} 00:00+00') to ('{} 00:00+00')",
                    partition(table, *day),
                    *day + Days::new(1),
                )
            }));
        }
        self.transact("sample_partitions_maintain", async |conn| {
            conn.batch_execute(&statements.join(";")).await?;
            for table in TABLES {
                let oldest = partition(table, first);
                let names: Vec<PartitionName> = diesel::sql_query(
                    "select c.relname::text as name from pg_inherits i join pg_class c on c.oid = i.inhrelid \
                     where i.inhparent = $1::regclass",
                )
                .bind::<Text, _>(table)
                .load(conn)
                .await?;
                // The names sort as their days do.
                for PartitionName { name } in names.into_iter().filter(|p| p.name < oldest) {
                    conn.batch_execute(&format!("drop table {name}")).await?;
                }
            }
            Ok(())
        })
        .await
    }
}

/// Takes over a node's health from a reading. `held` is its name and what is known.
async fn node_health_set_in_txn(
    conn: &mut AsyncPgConnection,
    node: NodeId,
    held: (&str, HealthTold),
    sample: &HostSample,
) -> Result<(), StoreError> {
    let (name, before) = held;
    let changed = before.state != sample.health;
    let since = if changed { Some(sample.at) } else { before.since.or(Some(sample.at)) };
    let told = HealthTold { state: sample.health, since, reasons: sample.reasons.clone() };
    // Most readings say the same as the one before, and write nothing.
    if told == before {
        return Ok(());
    }
    let json = json(&told, "node's health")?;
    diesel::update(nodes::table.filter(nodes::id.eq(node.uuid())))
        .set(nodes::health.eq(json))
        .execute(conn)
        .await?;
    if !changed {
        return Ok(());
    }
    let severity = match sample.health {
        NodeHealth::Healthy => Severity::Info,
        NodeHealth::Degraded => Severity::Warning,
        NodeHealth::Failing => Severity::Error,
    };
    let (now, then) = (sample.health.as_str(), before.state.as_str());
    let message = format!("node {name} is {now}, after {then}");
    let event = EventNew {
        at: sample.at,
        cause: (!sample.reasons.is_empty()).then(|| sample.reasons.join("; ")),
        node_id: Some(node),
        ..EventNew::now("node_health_changed", severity, message)
    };
    event_insert_on_conn(conn, &event).await
}

#[derive(QueryableByName)]
struct PartitionName {
    #[diesel(sql_type = diesel::sql_types::Text)]
    name: String,
}
