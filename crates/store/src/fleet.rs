//! What there is one of: the fleet's identity, its CA, and the keys that sign tokens.

use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use domain::{Timestamp, id::FleetId};
use uuid::Uuid;

use crate::{
    Store, StoreError,
    audit::{Actor, AuditNew, audit_insert_on_conn},
    schema::{fleet, signing_keys},
    txn::db_now,
    wake::{Wake, wake_in_txn},
};

/// The fleet's row. Sealed values are opaque here.
#[derive(Clone, Queryable, Selectable, Insertable)]
#[diesel(table_name = fleet, check_for_backend(diesel::pg::Pg))]
pub struct FleetRow {
    id: Uuid,
    /// A known text, sealed by the master key.
    pub master_key_check: Vec<u8>,
    /// The CA's certificate.
    pub ca_certificate_der: Vec<u8>,
    /// The CA's key, sealed.
    pub ca_key_sealed: Vec<u8>,
    /// Names the master key that everything new is sealed with.
    seals_with: Option<Vec<u8>>,
}

impl FleetRow {
    /// A new fleet's row.
    #[must_use]
    pub fn new(
        id: FleetId,
        master_key_check: Vec<u8>,
        ca_certificate_der: Vec<u8>,
        ca_key_sealed: Vec<u8>,
        seals_with: Vec<u8>,
    ) -> Self {
        let seals_with = Some(seals_with);
        Self { id: id.uuid(), master_key_check, ca_certificate_der, ca_key_sealed, seals_with }
    }

    /// The fleet's id.
    #[must_use]
    pub fn id(&self) -> FleetId {
        self.id.into()
    }
}

/// A key that signs access tokens.
#[derive(Clone, Queryable, Selectable, Insertable)]
#[diesel(table_name = signing_keys, check_for_backend(diesel::pg::Pg))]
pub struct SigningKeyRow {
    /// In the header of every token it signed.
    pub kid: String,
    /// Raw Ed25519 public key.
    pub public_key: Vec<u8>,
    /// PKCS #8, sealed.
    pub private_key_sealed: Vec<u8>,
    /// When its tokens stop being good; `None` for the one that signs.
    pub retired_at: Option<Timestamp>,
}

impl Store {
    /// The fleet, once there is one.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn fleet_fetch(&self) -> Result<Option<FleetRow>, StoreError> {
        let mut conn = self.conn().await?;
        Ok(fleet::table.select(FleetRow::as_select()).first(&mut conn).await.optional()?)
    }

    /// Makes the fleet, unless another controller was quicker; says which one holds.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn fleet_found(&self, row: FleetRow) -> Result<FleetRow, StoreError> {
        let mut conn = self.conn().await?;
        diesel::insert_into(fleet::table).values(&row).on_conflict_do_nothing().execute(&mut conn).await?;
        Ok(fleet::table.select(FleetRow::as_select()).first(&mut conn).await?)
    }

    /// Keys whose tokens are good, first the one that signs: the newest that is not to
    /// be retired.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn signing_key_list(&self) -> Result<Vec<SigningKeyRow>, StoreError> {
        let mut conn = self.conn().await?;
        Ok(signing_keys::table
            .filter(signing_keys::retired_at.is_null().or(signing_keys::retired_at.gt(db_now())))
            .order((
                signing_keys::retired_at.is_not_null(),
                signing_keys::created_at.desc(),
                signing_keys::kid,
            ))
            .select(SigningKeyRow::as_select())
            .load(&mut conn)
            .await?)
    }

    /// Adds a key, made at `created_at` and sealed with that master key. A kid that is
    /// there already changes nothing.
    ///
    /// # Errors
    /// [`StoreError::Unsealable`] when the fleet is sealed with another master key by now.
    pub async fn signing_key_insert(
        &self,
        row: SigningKeyRow,
        master_key: &[u8],
        created_at: Timestamp,
    ) -> Result<(), StoreError> {
        self.transact("signing_key_insert", async |conn| {
            sealed_with_in_txn(conn, master_key).await?;
            diesel::insert_into(signing_keys::table)
                .values((&row, signing_keys::created_at.eq(created_at)))
                .on_conflict_do_nothing()
                .execute(conn)
                .await?;
            Ok(())
        })
        .await
    }

    /// Adds a key that signs from now on, sealed with that master key. The tokens of all older ones are good until
    /// `retire_at`, or until an earlier moment that was set before.
    ///
    /// # Errors
    /// [`StoreError::Unsealable`] when the fleet is sealed with another master key by now.
    pub async fn signing_key_rotate(
        &self,
        row: &SigningKeyRow,
        master_key: &[u8],
        retire_at: Timestamp,
        actor: &Actor,
    ) -> Result<(), StoreError> {
        self.transact("signing_key_rotate", async |conn| {
            // One at a time, so that each sees the other's key.
            sealed_with_in_txn(conn, master_key).await?;
            let newest = signing_keys::table.select(diesel::dsl::max(signing_keys::created_at));
            let newest: Option<Timestamp> = newest.first(conn).await?;
            let later = signing_keys::retired_at.is_null().or(signing_keys::retired_at.gt(Some(retire_at)));
            diesel::update(signing_keys::table.filter(later))
                .set(signing_keys::retired_at.eq(Some(retire_at)))
                .execute(conn)
                .await?;
            // Later than the last, however the clocks of those who made them stand.
            let least = newest.map_or(Timestamp::UNIX_EPOCH, |at| at + chrono::TimeDelta::microseconds(1));
            let created_at = least.max(chrono::Utc::now());
            diesel::insert_into(signing_keys::table)
                .values((row, signing_keys::created_at.eq(created_at)))
                .execute(conn)
                .await?;
            wake_in_txn(conn, Wake::Keys).await?;
            let after = serde_json::json!({ "kid": row.kid, "older_keys_end_at": retire_at });
            let audit = AuditNew::done("signing_key_rotate", &row.kid).change(None, Some(after));
            audit_insert_on_conn(conn, actor, &audit).await
        })
        .await
    }
}

/// Makes sure that the fleet is sealed with a master key, and stays so until this
/// transaction is over; one at a time.
async fn sealed_with_in_txn(conn: &mut AsyncPgConnection, master_key: &[u8]) -> Result<(), StoreError> {
    let now: Option<Vec<u8>> = fleet::table.select(fleet::seals_with).for_update().first(conn).await?;
    if now.as_deref().is_none_or(|now| now == master_key) {
        return Ok(());
    }
    Err(StoreError::Unsealable("the fleet is sealed with another master key by now".into()))
}
