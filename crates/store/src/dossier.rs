//! What nodes kept of attempts that ended.

use std::collections::BTreeMap;

use diesel::{
    prelude::*,
    sql_types::{Array, Integer, Jsonb, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::RunQueryDsl;
use domain::{
    Timestamp,
    dossier::Dossier,
    id::{InstanceId, NodeId},
    instance::Outcome,
};
use uuid::Uuid;

use crate::{
    Store, StoreError,
    schema::{instance_dossiers, instances},
    text::json,
};

/// Most dossiers that are kept of an instance, the last to come.
pub const KEPT: i32 = 10;

/// How an attempt ended, in short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DossierSummary {
    /// Which.
    pub attempt: u32,
    /// When, by its node's clock.
    pub ended_at: Timestamp,
    /// How.
    pub outcome: Outcome,
}

impl Store {
    /// Stores what a node kept, and says how many were dropped because they are about
    /// instances that are not this node's. That of an attempt that is there already
    /// stays as it is (I4). Of an instance the last [`KEPT`] stay.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn dossier_insert(&self, node: NodeId, dossiers: &[Dossier]) -> Result<usize, StoreError> {
        // In one order, so that two that insert the same wait for each other and never
        // in a ring; and of two of one attempt the first.
        let mut rows = BTreeMap::new();
        for dossier in dossiers {
            let Ok(attempt) = i32::try_from(dossier.attempt) else { continue };
            rows.entry((dossier.instance_id.uuid(), attempt)).or_insert(dossier);
        }
        let ids: Vec<Uuid> = rows.keys().map(|(instance, _)| *instance).collect();
        let attempts: Vec<i32> = rows.keys().map(|(_, attempt)| *attempt).collect();
        let ended: Vec<Timestamp> = rows.values().map(|dossier| dossier.ended_at).collect();
        let contents =
            rows.values().map(|dossier| json(*dossier, "dossier")).collect::<Result<Vec<_>, _>>()?;
        let own = self
            .transact("dossier_insert", async |conn| {
                diesel::sql_query(
                    "insert into instance_dossiers (instance_id, attempt, ended_at, dossier) \
                     select d.instance_id, d.attempt, d.ended_at, d.dossier \
                     from unnest($1, $2, $3, $4) as d (instance_id, attempt, ended_at, dossier) \
                     join instances i on i.id = d.instance_id and i.node_id = $5 \
                     order by d.instance_id, d.attempt on conflict do nothing",
                )
                .bind::<Array<SqlUuid>, _>(&ids)
                .bind::<Array<Integer>, _>(&attempts)
                .bind::<Array<Timestamptz>, _>(&ended)
                .bind::<Array<Jsonb>, _>(&contents)
                .bind::<SqlUuid, _>(node.uuid())
                .execute(conn)
                .await?;
                diesel::sql_query(
                    "delete from instance_dossiers where (instance_id, attempt) in ( \
                     select instance_id, attempt from ( \
                     select instance_id, attempt, row_number() over ( \
                     partition by instance_id order by recorded_at desc, attempt desc) as place \
                     from instance_dossiers where instance_id = any ($1)) as ranked where place > $2)",
                )
                .bind::<Array<SqlUuid>, _>(&ids)
                .bind::<Integer, _>(KEPT)
                .execute(conn)
                .await?;
                let own: Vec<Uuid> = instances::table
                    .filter(instances::id.eq_any(&ids))
                    .filter(instances::node_id.eq(node.uuid()))
                    .select(instances::id)
                    .load(conn)
                    .await?;
                Ok(own)
            })
            .await?;
        Ok(dossiers.iter().filter(|dossier| !own.contains(&dossier.instance_id.uuid())).count())
    }

    /// How the last attempts of an instance ended, the newest first.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn dossier_list(&self, instance: InstanceId) -> Result<Vec<DossierSummary>, StoreError> {
        let outcome = diesel::dsl::sql::<Jsonb>("dossier -> 'outcome'");
        let mut conn = self.conn().await?;
        let rows: Vec<(i32, Timestamp, serde_json::Value)> = instance_dossiers::table
            .filter(instance_dossiers::instance_id.eq(instance.uuid()))
            .order((instance_dossiers::recorded_at.desc(), instance_dossiers::attempt.desc()))
            .limit(i64::from(KEPT))
            .select((instance_dossiers::attempt, instance_dossiers::ended_at, outcome))
            .load(&mut conn)
            .await?;
        let read = |(attempt, ended_at, outcome)| {
            let outcome =
                serde_json::from_value(outcome).map_err(|e| StoreError::corrupt("dossier's outcome", e))?;
            Ok(DossierSummary { attempt: u32::try_from(attempt).unwrap_or_default(), ended_at, outcome })
        };
        rows.into_iter().map(read).collect()
    }

    /// All that is known of one attempt that ended.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn dossier_fetch(
        &self,
        instance: InstanceId,
        attempt: u32,
    ) -> Result<Option<Dossier>, StoreError> {
        let Ok(attempt) = i32::try_from(attempt) else { return Ok(None) };
        let mut conn = self.conn().await?;
        let row: Option<serde_json::Value> = instance_dossiers::table
            .find((instance.uuid(), attempt))
            .select(instance_dossiers::dossier)
            .first(&mut conn)
            .await
            .optional()?;
        // The parser's own message may quote a line of the log.
        row.map(serde_json::from_value)
            .transpose()
            .map_err(|e| StoreError::corrupt("dossier", format!("{:?}", e.classify())))
    }
}
