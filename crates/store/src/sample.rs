//! Readings, in partitions of a day each.

use std::time::Duration;

use chrono::{Days, NaiveDate, Utc};
use diesel::{
    prelude::*,
    sql_types::{Array, BigInt, Double, Nullable, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{RunQueryDsl, SimpleAsyncConnection};
use domain::{
    Timestamp,
    id::{InstanceId, NodeId},
    sample::InstanceSample,
};
use uuid::Uuid;

use crate::{
    Store, StoreError,
    schema::{instance_samples, instances},
};

/// For how long readings are kept as they were taken. Whole days are dropped, so
/// up to a day more is there.
pub const KEPT: Duration = Duration::from_secs(48 * 3600);

type SampleRow = (Uuid, Timestamp, Option<f64>, Option<i64>, Option<i64>, Option<i64>, Option<i64>);

fn unsigned(number: Option<i64>) -> Option<u64> {
    number.and_then(|n| u64::try_from(n).ok())
}

fn signed(number: Option<u64>) -> Option<i64> {
    number.map(|n| i64::try_from(n).unwrap_or(i64::MAX))
}

fn partition(day: NaiveDate) -> String {
    format!("instance_samples_{}", day.format("%Y%m%d"))
}

impl Store {
    /// Stores readings of a node's instances; says how many were dropped because
    /// they are not this node's, or too old, or of the future. One that is there
    /// already stays as it is.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn sample_insert(&self, node: NodeId, samples: &[InstanceSample]) -> Result<usize, StoreError> {
        let now = Utc::now();
        let (oldest, newest) = (now - KEPT, now + chrono::TimeDelta::hours(1));
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
        diesel::sql_query(
            "insert into instance_samples (instance_id, at, cpu_percent, memory_bytes, memory_limit_bytes, network_rx_bytes, network_tx_bytes) \
             select * from unnest($1, $2, $3, $4, $5, $6, $7) on conflict do nothing",
        )
        .bind::<Array<SqlUuid>, _>(taken.iter().map(|s| s.instance_id.uuid()).collect::<Vec<_>>())
        .bind::<Array<Timestamptz>, _>(taken.iter().map(|s| s.at).collect::<Vec<_>>())
        .bind::<Array<Nullable<Double>>, _>(taken.iter().map(|s| s.cpu_percent).collect::<Vec<_>>())
        .bind::<Array<Nullable<BigInt>>, _>(taken.iter().map(|s| signed(s.memory_bytes)).collect::<Vec<_>>())
        .bind::<Array<Nullable<BigInt>>, _>(taken.iter().map(|s| signed(s.memory_limit_bytes)).collect::<Vec<_>>())
        .bind::<Array<Nullable<BigInt>>, _>(taken.iter().map(|s| signed(s.network_rx_bytes)).collect::<Vec<_>>())
        .bind::<Array<Nullable<BigInt>>, _>(taken.iter().map(|s| signed(s.network_tx_bytes)).collect::<Vec<_>>())
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
            .load(&mut conn)
            .await?;
        Ok(rows
            .into_iter()
            .map(|(id, at, cpu_percent, memory, limit, rx, tx)| InstanceSample {
                instance_id: id.into(),
                at,
                cpu_percent,
                memory_bytes: unsigned(memory),
                memory_limit_bytes: unsigned(limit),
                network_rx_bytes: unsigned(rx),
                network_tx_bytes: unsigned(tx),
            })
            .collect())
    }

    /// Makes the partitions from the oldest kept day to tomorrow, and drops those
    /// before it. Again, or in two controllers at once: changes nothing more.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn sample_partitions_maintain(&self, now: Timestamp) -> Result<(), StoreError> {
        let first = (now - KEPT).date_naive();
        let days = std::iter::successors(Some(first), |day| day.checked_add_days(Days::new(1)));
        let mut statements = vec!["select pg_advisory_xact_lock(6701005)".to_owned()];
        for day in days.take_while(|day| *day <= now.date_naive() + Days::new(1)) {
            statements.push(format!(
                "create table if not exists {} partition of instance_samples for values from ('{day} 00:00+00') to ('{} 00:00+00')",
                partition(day),
                day + Days::new(1),
            ));
        }
        let oldest = partition(first);
        self.transact("sample_partitions_maintain", async |conn| {
            conn.batch_execute(&statements.join(";")).await?;
            let names: Vec<PartitionName> = diesel::sql_query(
                "select c.relname::text as name from pg_inherits i join pg_class c on c.oid = i.inhrelid \
                 where i.inhparent = 'instance_samples'::regclass",
            )
            .load(conn)
            .await?;
            // The names sort as their days do.
            for PartitionName { name } in names.into_iter().filter(|p| p.name < oldest) {
                conn.batch_execute(&format!("drop table {name}")).await?;
            }
            Ok(())
        })
        .await
    }
}

#[derive(QueryableByName)]
struct PartitionName {
    #[diesel(sql_type = diesel::sql_types::Text)]
    name: String,
}
