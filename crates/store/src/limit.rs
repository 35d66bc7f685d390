//! Limits that hold across controllers.
//!
//! The arithmetic is [`domain::limit`]'s, written once more in SQL, so that taking is
//! one statement by the database's clock: two controllers cannot both take the last
//! one. A test holds the two together. The table is unlogged: after a crash of the
//! database every bucket is empty, which is no worse than having waited.

use std::time::Duration;

use diesel::{
    OptionalExtension, QueryableByName, sql_query,
    sql_types::{BigInt, Bool, Bytea, Integer},
};
use diesel_async::RunQueryDsl;
use domain::limit::{Rate, Taken};

use crate::{Store, StoreError};

/// Rows that one statement of the clean-up deletes.
const ROWS_MAX: i32 = 5_000;

/// The row is only there where something was taken; `now()` is the statement's own
/// beginning, so who waits for a row's lock is judged by when it came.
const TAKE: &str = "
  insert into rate_limits as held (key_sha256, empty_at)
  select $1, now() + $2 * interval '1 microsecond' where $2 <= $3
  on conflict (key_sha256) do update
    set empty_at = greatest(held.empty_at, now()) + $2 * interval '1 microsecond'
    where greatest(held.empty_at, now()) + $2 * interval '1 microsecond' <= now() + $3 * interval '1 microsecond'
  returning true as allowed, (extract(epoch from empty_at - now()) * 1000000)::bigint as filled_micros";

const LOOK: &str = "
  select false as allowed, (extract(epoch from empty_at - now()) * 1000000)::bigint as filled_micros
  from rate_limits where key_sha256 = $1";

const GIVE_BACK: &str = "
  update rate_limits set empty_at = empty_at - $2 * interval '1 microsecond' where key_sha256 = $1";

const FORGET: &str = "
  delete from rate_limits where key_sha256 = any (array (
    select key_sha256 from rate_limits where empty_at < now() limit $1 for update skip locked
  )) and empty_at < now()";

#[derive(QueryableByName)]
struct Held {
    #[diesel(sql_type = Bool)]
    allowed: bool,
    #[diesel(sql_type = BigInt)]
    filled_micros: i64,
}

impl Store {
    /// Takes `cost` of what a key may have, or nothing where there is not so much.
    /// The key is a hash: what is limited is nobody's business here.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn limit_take(&self, key_sha256: &[u8], rate: Rate, cost: u32) -> Result<Taken, StoreError> {
        let mut conn = self.conn().await?;
        let taken = sql_query(TAKE)
            .bind::<Bytea, _>(key_sha256)
            .bind::<BigInt, _>(micros(rate.each().saturating_mul(cost)))
            .bind::<BigInt, _>(micros(rate.capacity()))
            .get_result::<Held>(&mut conn)
            .await
            .optional()?;
        let held = match taken {
            Some(taken) => Some(taken),
            // Only what is told depends on this one; that it is refused does not.
            None => {
                let look = sql_query(LOOK).bind::<Bytea, _>(key_sha256);
                look.get_result::<Held>(&mut conn).await.optional()?
            }
        };
        let (allowed, filled) = held.map_or((false, 0), |held| (held.allowed, held.filled_micros));
        Ok(rate.look(allowed, Duration::from_micros(u64::try_from(filled).unwrap_or_default())))
    }

    /// Gives back what was taken for something that turned out not to count.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn limit_give_back(&self, key_sha256: &[u8], rate: Rate, cost: u32) -> Result<(), StoreError> {
        let mut conn = self.conn().await?;
        sql_query(GIVE_BACK)
            .bind::<Bytea, _>(key_sha256)
            .bind::<BigInt, _>(micros(rate.each().saturating_mul(cost)))
            .execute(&mut conn)
            .await?;
        Ok(())
    }

    /// Forgets keys whose bucket is empty, at most 5,000; says how many. Again, or in
    /// two controllers at once: goes on.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn limit_forget_empty(&self) -> Result<usize, StoreError> {
        let mut conn = self.conn().await?;
        Ok(sql_query(FORGET).bind::<Integer, _>(ROWS_MAX).execute(&mut conn).await?)
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
