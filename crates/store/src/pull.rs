//! How far the images of instances have come.
//!
//! A gauge and no history: one row for an instance whose image is being fetched, the
//! newest as its node saw it, gone when the instance gets beyond that.

use diesel::{
    prelude::*,
    sql_types::{Array, Jsonb, SmallInt, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use domain::{id::NodeId, instance::Phase, pull::PullProgress};
use uuid::Uuid;

use crate::{Store, StoreError, schema::instance_pulls, text::json};

impl Store {
    /// Takes over how far a node's pull has come, for each of its instances that wait
    /// for it; says for how many. One that is not this node's, that is beyond pulling,
    /// or of which something later is known, stays as it is (I4).
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn pull_progress_set(
        &self,
        node: NodeId,
        progress: &PullProgress,
    ) -> Result<usize, StoreError> {
        let ids: Vec<Uuid> = progress.instance_ids.iter().map(|id| id.uuid()).collect();
        // Who else waits for it is nothing that an instance's reader may know.
        let kept = PullProgress { instance_ids: Vec::new(), ..progress.clone() };
        let kept = json(&kept, "instance's pull")?;
        let mut conn = self.conn().await?;
        // Locked, so that a report that ends the pull comes wholly before or wholly after.
        let rows = diesel::sql_query(
            "with waiting as ( \
               select id from instances where id = any($1) and node_id = $2 and phase <= $3 \
               order by id for share \
             ) \
             insert into instance_pulls as held (instance_id, observed_at, progress) \
             select id, $4, $5 from waiting \
             on conflict (instance_id) do update \
             set observed_at = excluded.observed_at, progress = excluded.progress \
             where held.observed_at < excluded.observed_at",
        )
        .bind::<Array<SqlUuid>, _>(ids)
        .bind::<SqlUuid, _>(node.uuid())
        .bind::<SmallInt, _>(Phase::Pulling.number())
        .bind::<Timestamptz, _>(progress.at)
        .bind::<Jsonb, _>(kept)
        .execute(&mut conn)
        .await?;
        Ok(rows)
    }
}

/// Forgets how far an instance's image had come.
pub(crate) async fn pull_forget_on_conn(conn: &mut AsyncPgConnection, instance: Uuid) -> QueryResult<usize> {
    diesel::delete(instance_pulls::table.find(instance)).execute(conn).await
}

/// Reads what is kept.
pub(crate) fn read_pull(progress: serde_json::Value) -> Result<PullProgress, StoreError> {
    serde_json::from_value(progress).map_err(|e| StoreError::corrupt("instance's pull", e))
}
