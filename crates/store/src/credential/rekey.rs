//! Moving everything that is sealed to another master key.
//!
//! It is begun, carried on and ended by statements that each may be run again, so whoever
//! does it may die at any point and somebody else goes on. From the moment that it is
//! begun, new values are sealed with the new key, also by controllers that run
//! (`super::sealing`); what was sealed before opens with the old one until it was moved.

use diesel::{
    prelude::*,
    sql_types::{Array, Binary, Integer, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use domain::id::CredentialId;
use uuid::Uuid;

use super::{
    Place, Sealed, Sealer, column, number,
    sealing::{epoch_take_in_txn, master_key_in_txn},
};
use crate::{
    Refusal, Store, StoreError,
    audit::{Actor, AuditNew, audit_insert_on_conn},
    fleet::SigningKeyRow,
    schema::{credential_versions, credentials, fleet, signing_keys},
};

/// What the fleet is sealed with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RekeyState {
    /// Names the master key that everything new is sealed with; `None` before anything was.
    pub seals_with: Option<Vec<u8>>,
    /// While a move is under way: the known text, sealed with the key that takes over.
    pub next_key_check: Option<Vec<u8>>,
}

/// A place in the list of versions.
pub type VersionAt = (CredentialId, u32);

/// A sealed version, to be opened by whoever has the keys.
#[derive(Clone, Debug)]
pub struct SealedVersion {
    /// The credential's name.
    pub name: String,
    /// Where it belongs.
    pub place: Place,
    /// The value.
    pub sealed: Sealed,
}

/// What the fleet's own row has after a move.
pub struct FleetResealed {
    /// The CA's key as it was, to be sure that it is that which was sealed anew.
    pub ca_key_before: Vec<u8>,
    /// The CA's key, sealed with the new master key.
    pub ca_key_sealed: Vec<u8>,
}

impl Store {
    /// What the fleet is sealed with.
    ///
    /// # Errors
    /// When the database is not there, or has no fleet.
    pub async fn rekey_state(&self) -> Result<RekeyState, StoreError> {
        let mut conn = self.conn().await?;
        let (seals_with, next_key_check) =
            fleet::table.select((fleet::seals_with, fleet::next_key_check)).first(&mut conn).await?;
        Ok(RekeyState { seals_with, next_key_check })
    }

    /// Notes which master key there is, where nobody has yet: in a database that an
    /// earlier version has made.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn master_key_note(&self, id: &[u8]) -> Result<(), StoreError> {
        let mut conn = self.conn().await?;
        diesel::update(fleet::table.filter(fleet::seals_with.is_null()))
            .set(fleet::seals_with.eq(Some(id)))
            .execute(&mut conn)
            .await?;
        Ok(())
    }

    /// Begins a move from one master key to another, unless that very move is under way
    /// already: then nothing is changed.
    ///
    /// # Errors
    /// [`Refusal::OtherRekey`] when the fleet is sealed with neither, or another move is
    /// under way.
    pub async fn rekey_begin(
        &self,
        from: &[u8],
        to: &[u8],
        next_key_check: &[u8],
        actor: &Actor,
    ) -> Result<(), StoreError> {
        self.transact("rekey_begin", async |conn| {
            let begun = diesel::update(
                fleet::table.filter(fleet::seals_with.eq(Some(from))).filter(fleet::next_key_check.is_null()),
            )
            .set((fleet::seals_with.eq(Some(to)), fleet::next_key_check.eq(Some(next_key_check))))
            .execute(conn)
            .await?;
            if begun == 1 {
                let audit = AuditNew::done("vault_rekey_begin", "vault");
                return audit_insert_on_conn(conn, actor, &audit).await;
            }
            let under_way = fleet::table
                .filter(fleet::seals_with.eq(Some(to)))
                .filter(fleet::next_key_check.is_not_null());
            match diesel::select(diesel::dsl::exists(under_way)).get_result(conn).await? {
                true => Ok(()),
                false => Err(Refusal::OtherRekey.into()),
            }
        })
        .await
    }

    /// Moves up to `limit` versions to the master key that the fleet is sealed with, those
    /// after `after` in the order of their credentials' ids. Answers how many were moved,
    /// and the last of them; `None` when there is none any more.
    ///
    /// # Errors
    /// [`StoreError::NotOpened`] for one that does not open; nothing of that batch is moved.
    pub async fn rekey_batch(
        &self,
        after: Option<VersionAt>,
        limit: u32,
    ) -> Result<Option<(usize, VersionAt)>, StoreError> {
        let sealer = self.sealer()?;
        let limit = i64::from(limit).min(sealer.epoch_bound());
        self.transact("rekey_batch", async |conn| {
            let versions = to_move_in_txn(conn, after, limit).await?;
            let Some(last) =
                versions.as_slice().iter().last().map(|v| (v.place.credential_id, v.place.version))
            else {
                return Ok(None);
            };
            move_in_txn(conn, sealer, &versions).await?;
            Ok(Some((versions.len(), last)))
        })
        .await
    }

    /// Replaces a signing key's sealed half by the same one under another key. One that
    /// is gone, or was moved by somebody else, changes nothing.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn signing_key_reseal(
        &self,
        before: &SigningKeyRow,
        private_key_sealed: &[u8],
    ) -> Result<(), StoreError> {
        let mut conn = self.conn().await?;
        diesel::update(
            signing_keys::table
                .filter(signing_keys::kid.eq(&before.kid))
                .filter(signing_keys::private_key_sealed.eq(&before.private_key_sealed)),
        )
        .set(signing_keys::private_key_sealed.eq(private_key_sealed))
        .execute(&mut conn)
        .await?;
        Ok(())
    }

    /// All keys that sign or have signed access tokens.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn signing_key_list_all(&self) -> Result<Vec<SigningKeyRow>, StoreError> {
        let mut conn = self.conn().await?;
        let query = signing_keys::table.select(SigningKeyRow::as_select()).order(signing_keys::created_at);
        Ok(query.load(&mut conn).await?)
    }

    /// Ends a move: from here on the new key is the only one. Answers whether it was
    /// ended; `false`: something is still sealed with the old one, or there is no move.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn rekey_finish(
        &self,
        to: &[u8],
        resealed: &FleetResealed,
        actor: &Actor,
    ) -> Result<bool, StoreError> {
        self.transact("rekey_finish", async |conn| {
            // Nobody seals anything until this is over.
            let check: Option<Option<Vec<u8>>> = fleet::table
                .filter(fleet::seals_with.eq(Some(to)))
                .select(fleet::next_key_check)
                .for_update()
                .first(conn)
                .await
                .optional()?;
            let Some(check) = check.flatten() else { return Ok(false) };
            let left = credential_versions::table.filter(credential_versions::sealed_by.ne(to));
            if diesel::select(diesel::dsl::exists(left)).get_result(conn).await? {
                return Ok(false);
            }
            let moved = diesel::update(
                fleet::table
                    .filter(fleet::seals_with.eq(Some(to)))
                    .filter(fleet::ca_key_sealed.eq(&resealed.ca_key_before)),
            )
            .set((
                fleet::ca_key_sealed.eq(&resealed.ca_key_sealed),
                fleet::master_key_check.eq(check),
                fleet::next_key_check.eq(None::<Vec<u8>>),
            ))
            .execute(conn)
            .await?;
            if moved == 1 {
                audit_insert_on_conn(conn, actor, &AuditNew::done("vault_rekey_finish", "vault")).await?;
            }
            Ok(moved == 1)
        })
        .await
    }

    /// Sealed versions in the order of their credentials' ids, those after `after`.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn credential_version_list_sealed(
        &self,
        after: Option<VersionAt>,
        limit: u32,
    ) -> Result<Vec<SealedVersion>, StoreError> {
        let mut conn = self.conn().await?;
        let (id, version) = after.map_or((Uuid::nil(), 0), |(id, version)| (id.uuid(), column(version)));
        let rows: Vec<Columns> =
            columns().filter(later(id, version)).limit(i64::from(limit)).load(&mut conn).await?;
        Ok(rows.into_iter().map(read).collect())
    }
}

type Columns = ((Uuid, Uuid, String), (i32, i32), (Vec<u8>, Vec<u8>));

#[diesel::dsl::auto_type(no_type_alias)]
fn columns() -> _ {
    credential_versions::table
        .inner_join(credentials::table)
        .order((credential_versions::credential_id, credential_versions::version))
        .select((
            (credentials::project_id, credentials::id, credentials::name),
            (credential_versions::version, credential_versions::epoch),
            (credential_versions::sealed_by, credential_versions::sealed),
        ))
}

#[diesel::dsl::auto_type(no_type_alias)]
fn later(id: Uuid, version: i32) -> _ {
    credential_versions::credential_id
        .gt(id)
        .or(credential_versions::credential_id.eq(id).and(credential_versions::version.gt(version)))
}

fn read(((project, id, name), (version, epoch), (master_key, bytes)): Columns) -> SealedVersion {
    let place = Place { project_id: project.into(), credential_id: id.into(), version: number(version) };
    SealedVersion { name, place, sealed: Sealed { master_key, epoch: number(epoch), bytes } }
}

/// Versions that are sealed with another key than the fleet's, locked.
async fn to_move_in_txn(
    conn: &mut AsyncPgConnection,
    after: Option<VersionAt>,
    limit: i64,
) -> Result<Vec<SealedVersion>, StoreError> {
    let (id, version) = after.map_or((Uuid::nil(), 0), |(id, version)| (id.uuid(), column(version)));
    let to = fleet::table.select(fleet::seals_with).single_value();
    let rows: Vec<Columns> = columns()
        .filter(later(id, version))
        .filter(credential_versions::sealed_by.nullable().ne(to))
        .limit(limit)
        .for_update()
        .load(conn)
        .await?;
    Ok(rows.into_iter().map(read).collect())
}

async fn move_in_txn(
    conn: &mut AsyncPgConnection,
    sealer: &dyn Sealer,
    versions: &[SealedVersion],
) -> Result<(), StoreError> {
    let to = master_key_in_txn(conn).await?;
    let count = i64::try_from(versions.len()).unwrap_or(i64::MAX);
    let epoch = epoch_take_in_txn(conn, &to, count, sealer.epoch_bound()).await?;
    let (mut ids, mut numbers, mut values) = (Vec::new(), Vec::new(), Vec::new());
    for SealedVersion { name, place, sealed } in versions {
        let value = sealer.open(*place, sealed).map_err(|source| StoreError::NotOpened {
            credential: format!("{name} ({}), version {}", place.credential_id, place.version),
            source,
        })?;
        ids.push(place.credential_id.uuid());
        numbers.push(column(place.version));
        values.push(sealer.seal(&to, epoch, *place, &value).map_err(StoreError::Unsealable)?);
    }
    diesel::sql_query(
        "update credential_versions v set sealed = n.sealed, sealed_by = $4, epoch = $5 \
         from unnest($1, $2, $3) as n (id, version, sealed) \
         where v.credential_id = n.id and v.version = n.version",
    )
    .bind::<Array<SqlUuid>, _>(ids)
    .bind::<Array<Integer>, _>(numbers)
    .bind::<Array<Binary>, _>(values)
    .bind::<Binary, _>(to)
    .bind::<Integer, _>(column(epoch))
    .execute(conn)
    .await?;
    Ok(())
}
