//! Which data key seals, and how much it has sealed.

use diesel::{
    prelude::*,
    sql_types::{BigInt, Binary, Integer, Text},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use domain::secret::Secret;

use super::{PURPOSE, Place, Sealer};
use crate::{StoreError, schema::fleet};

/// How often the next epoch is begun in one transaction before something must be wrong.
const EPOCHS_TRIED: u32 = 8;

/// A sealed value, and with what it is sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// Names the master key.
    pub master_key: Vec<u8>,
    /// Which of its data keys.
    pub epoch: u32,
    /// The value; see `daemon::seal` for the format.
    pub bytes: Vec<u8>,
}

/// The master key that everything new is sealed with. Until this transaction is over,
/// nobody begins to move to another.
pub(super) async fn master_key_in_txn(conn: &mut AsyncPgConnection) -> Result<Vec<u8>, StoreError> {
    let key: Option<Option<Vec<u8>>> =
        fleet::table.select(fleet::seals_with).for_share().first(conn).await.optional()?;
    key.flatten().ok_or_else(|| StoreError::Unsealable("the fleet has no master key yet".into()))
}

/// Counts `count` values that are about to be sealed; gives the epoch whose key seals
/// them. With that the epoch's row is locked: values count even if another transaction
/// seals at the same moment, and not if this one is taken back.
pub(super) async fn epoch_take_in_txn(
    conn: &mut AsyncPgConnection,
    master_key: &[u8],
    count: i64,
    bound: i64,
) -> Result<u32, StoreError> {
    #[derive(QueryableByName)]
    struct Epoch {
        #[diesel(sql_type = Integer)]
        epoch: i32,
    }
    for _ in 0..EPOCHS_TRIED {
        let taken: Option<Epoch> = diesel::sql_query(
            "update sealing_epochs set sealed_count = sealed_count + $3 \
             where master_key = $1 and purpose = $2 and sealed_count + $3 <= $4 and epoch = \
             (select max(epoch) from sealing_epochs where master_key = $1 and purpose = $2) returning epoch",
        )
        .bind::<Binary, _>(master_key)
        .bind::<Text, _>(PURPOSE)
        .bind::<BigInt, _>(count)
        .bind::<BigInt, _>(bound)
        .get_result(conn)
        .await
        .optional()?;
        if let Some(Epoch { epoch }) = taken {
            return Ok(super::number(epoch));
        }
        // The first, or the one after a full one. Another transaction may do the same.
        diesel::sql_query(
            "insert into sealing_epochs (master_key, purpose, epoch) \
             select $1, $2, coalesce(max(epoch), 0) + 1 from sealing_epochs \
             where master_key = $1 and purpose = $2 on conflict do nothing",
        )
        .bind::<Binary, _>(master_key)
        .bind::<Text, _>(PURPOSE)
        .execute(conn)
        .await?;
    }
    Err(StoreError::Unsealable(format!("no data key may seal {count} values").into()))
}

/// Seals one value for its place.
pub(super) async fn seal_in_txn(
    conn: &mut AsyncPgConnection,
    sealer: &dyn Sealer,
    place: Place,
    value: &Secret,
) -> Result<Sealed, StoreError> {
    let master_key = master_key_in_txn(conn).await?;
    let epoch = epoch_take_in_txn(conn, &master_key, 1, sealer.epoch_bound()).await?;
    let bytes = sealer.seal(&master_key, epoch, place, value).map_err(StoreError::Unsealable)?;
    Ok(Sealed { master_key, epoch, bytes })
}
