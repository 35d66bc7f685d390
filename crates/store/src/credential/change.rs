//! Making credentials, giving them new versions, setting them back, deleting them.

use diesel::{
    prelude::*,
    sql_types::{Integer, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use domain::{
    credential::{CredentialKind, Form, PER_PROJECT_MAX, VERSIONS_KEPT},
    id::{CredentialId, ProjectId},
    name::Labels,
    secret::Secret,
    spec::FieldFault,
};
use serde_json::{Value, json};

use super::{
    Credential, Place, Row, Sealer, column, deliver::open_in_txn, read, sealing::seal_in_txn, uses, whole,
};
use crate::{
    Refusal, Store, StoreError,
    audit::{Actor, AuditNew, audit_insert_on_conn},
    error::violates,
    project::project_share_in_txn,
    schema::{credential_versions, credentials},
};

/// A value that is to be sealed, and what may be known of it. No `Debug`.
pub struct ValueNew {
    /// How it is to be read.
    pub form: Form,
    /// The value.
    pub value: Secret,
    /// What may be shown of it: never a part of it.
    pub shown: Value,
    /// Of a login: whose images it is for.
    pub registry_host: Option<String>,
}

/// A new credential.
pub struct CredentialNew {
    /// Its id.
    pub id: CredentialId,
    /// Which project it belongs to.
    pub project_id: ProjectId,
    /// Its name.
    pub name: String,
    /// What it is for.
    pub kind: CredentialKind,
    /// Labels that a node must carry to be given it.
    pub node_labels: Labels,
    /// Its first value.
    pub value: ValueNew,
}

domain::assert_has_not!(ValueNew: std::fmt::Debug, std::fmt::Display, serde::Serialize, Clone);
domain::assert_has_not!(CredentialNew: std::fmt::Debug, std::fmt::Display, serde::Serialize, Clone);

/// What became of a new value.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Replaced {
    /// It is the newest version, and these deployments follow it.
    Yes(u32, Vec<uses::Follower>),
    /// Deployments that follow the credential could not use it. Nothing was changed.
    Unfit(Vec<FieldFault>),
}

/// What became of a wish to delete.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Deleted {
    /// It is gone, with every version.
    Yes,
    /// These use it. Nothing was changed.
    InUse(Vec<uses::CredentialUser>),
}

impl Store {
    /// Makes a credential with its first version.
    ///
    /// # Errors
    /// [`Refusal::NameTaken`], [`Refusal::RegistryTaken`], [`Refusal::TooMany`],
    /// [`Refusal::Missing`] for the project.
    pub async fn credential_create(
        &self,
        new: &CredentialNew,
        actor: &Actor,
    ) -> Result<Credential, StoreError> {
        let sealer = self.sealer()?;
        let labels =
            serde_json::to_value(&new.node_labels).map_err(|e| StoreError::corrupt("node labels", e))?;
        self.transact("credential_create", async |conn| {
            let project = project_share_in_txn(conn, new.project_id).await?;
            room_in_txn(conn, new.project_id).await?;
            diesel::insert_into(credentials::table)
                .values((
                    credentials::id.eq(new.id.uuid()),
                    credentials::project_id.eq(new.project_id.uuid()),
                    credentials::name.eq(&new.name),
                    credentials::kind.eq(new.kind.as_str()),
                    credentials::node_labels.eq(&labels),
                    credentials::registry_host.eq(&new.value.registry_host),
                    credentials::latest.eq(1),
                    credentials::created_by.eq(&actor.name),
                ))
                .execute(conn)
                .await
                .map_err(|e| taken(e, &new.name, new.value.registry_host.as_deref()))?;
            let place = Place { project_id: new.project_id, credential_id: new.id, version: 1 };
            version_insert_in_txn(conn, sealer, place, (&new.value, None), actor).await?;
            if let Some(host) = &new.value.registry_host {
                uses::logins_changed_in_txn(conn, new.project_id, host).await?;
            }
            let after = json!({ "kind": new.kind.as_str(), "node_labels": labels, "version": 1 });
            let audit = AuditNew::done("credential_create", &new.name).in_project(project);
            audit_insert_on_conn(conn, actor, &audit.change(None, Some(after))).await?;
            credential_in_txn(conn, new.id).await
        })
        .await
    }

    /// Gives a credential a new version, which is the newest from then on. Deployments
    /// that follow it get a new revision, all in the same transaction.
    ///
    /// # Errors
    /// [`Refusal::Missing`]; [`Refusal::OtherRegistry`] for a login at another registry.
    pub async fn credential_replace(
        &self,
        id: CredentialId,
        value: &ValueNew,
        actor: &Actor,
    ) -> Result<Replaced, StoreError> {
        let sealer = self.sealer()?;
        self.transact("credential_replace", async |conn| {
            let credential = lock_in_txn(conn, id).await?;
            if value.registry_host != credential.registry_host {
                return Err(Refusal::OtherRegistry.into());
            }
            next_in_txn(conn, sealer, &credential, (value, None), ("credential_replace", actor)).await
        })
        .await
    }

    /// Makes a new version with the value of an earlier one.
    ///
    /// # Errors
    /// [`Refusal::Missing`] for the credential or the version.
    pub async fn credential_rollback(
        &self,
        id: CredentialId,
        version: u32,
        actor: &Actor,
    ) -> Result<Replaced, StoreError> {
        let sealer = self.sealer()?;
        self.transact("credential_rollback", async |conn| {
            let credential = lock_in_txn(conn, id).await?;
            let earlier = open_in_txn(conn, sealer, id, version).await?;
            let earlier = earlier.ok_or(Refusal::Missing("version of the credential"))?;
            let value = ValueNew {
                form: earlier.form,
                value: earlier.value,
                shown: earlier.shown,
                registry_host: credential.registry_host.clone(),
            };
            let source = (&value, Some(version));
            next_in_txn(conn, sealer, &credential, source, ("credential_rollback", actor)).await
        })
        .await
    }

    /// Deletes a credential and every version of it, unless somebody uses it.
    ///
    /// # Errors
    /// [`Refusal::Missing`].
    pub async fn credential_delete(&self, id: CredentialId, actor: &Actor) -> Result<Deleted, StoreError> {
        self.transact("credential_delete", async |conn| {
            // Whoever begins to use it holds the row shared: either that is seen below, or
            // it waits, and then finds nothing.
            let credential = lock_in_txn(conn, id).await?;
            let logins = uses::login_users_in_txn(conn, &credential).await?;
            if !logins.is_empty() {
                return Ok(Deleted::InUse(logins));
            }
            let gone = diesel::sql_query(format!(
                "delete from credentials c where c.id = $1 and not exists \
                 (select 1 from credential_uses u where u.credential_id = c.id and {})",
                uses::LIVE
            ))
            .bind::<SqlUuid, _>(id.uuid())
            .execute(conn)
            .await?;
            if gone == 0 {
                return Ok(Deleted::InUse(uses::users_in_txn(conn, id).await?));
            }
            if let Some(host) = &credential.registry_host {
                uses::logins_changed_in_txn(conn, credential.project_id, host).await?;
            }
            let before = json!({ "kind": credential.kind.as_str(), "version": credential.latest });
            let audit = AuditNew::done("credential_delete", &credential.name).in_project(&credential.project);
            audit_insert_on_conn(conn, actor, &audit.change(Some(before), None)).await?;
            Ok(Deleted::Yes)
        })
        .await
    }
}

/// Makes sure that a project takes one more credential; until this transaction is over,
/// nobody else makes one in it.
async fn room_in_txn(conn: &mut AsyncPgConnection, project: ProjectId) -> Result<(), StoreError> {
    diesel::sql_query("select pg_advisory_xact_lock(6701007, hashtext($1))")
        .bind::<diesel::sql_types::Text, _>(project.to_string())
        .execute(conn)
        .await?;
    let present: i64 = credentials::table
        .filter(credentials::project_id.eq(project.uuid()))
        .count()
        .get_result(conn)
        .await?;
    if present >= i64::from(PER_PROJECT_MAX) {
        return Err(Refusal::TooMany("credentials in the project", PER_PROJECT_MAX).into());
    }
    Ok(())
}

fn taken(error: diesel::result::Error, name: &str, host: Option<&str>) -> StoreError {
    if violates(&error, "credentials_name") {
        return Refusal::NameTaken(name.to_owned()).into();
    }
    if violates(&error, "credentials_registry") {
        return Refusal::RegistryTaken(host.unwrap_or_default().to_owned()).into();
    }
    error.into()
}

async fn credential_in_txn(conn: &mut AsyncPgConnection, id: CredentialId) -> Result<Credential, StoreError> {
    let row: Option<Row> = whole().filter(credentials::id.eq(id.uuid())).first(conn).await.optional()?;
    read(row.ok_or(Refusal::Missing("credential"))?)
}

/// A credential that nobody else changes, and nobody begins to use, before this
/// transaction is over.
async fn lock_in_txn(conn: &mut AsyncPgConnection, id: CredentialId) -> Result<Credential, StoreError> {
    let found: Option<uuid::Uuid> = credentials::table
        .find(id.uuid())
        .select(credentials::id)
        .for_update()
        .first(conn)
        .await
        .optional()?;
    found.ok_or(Refusal::Missing("credential"))?;
    credential_in_txn(conn, id).await
}

/// The next version of a locked credential, and what follows from it.
async fn next_in_txn(
    conn: &mut AsyncPgConnection,
    sealer: &dyn Sealer,
    credential: &Credential,
    (value, restored_from): (&ValueNew, Option<u32>),
    (action, actor): (&'static str, &Actor),
) -> Result<Replaced, StoreError> {
    let following = uses::following_in_txn(conn, credential.id).await?;
    let faults = uses::unfit(credential.id, &following, value);
    if !faults.is_empty() {
        return Ok(Replaced::Unfit(faults));
    }
    let version = credential.latest + 1;
    let place = Place { project_id: credential.project_id, credential_id: credential.id, version };
    version_insert_in_txn(conn, sealer, place, (value, restored_from), actor).await?;
    diesel::update(credentials::table.find(credential.id.uuid()))
        .set((credentials::latest.eq(column(version)), credentials::updated_at.eq(diesel::dsl::now)))
        .execute(conn)
        .await?;
    let followers = uses::follow_in_txn(conn, credential, version, following, actor).await?;
    versions_forget_in_txn(conn, credential.id, version).await?;
    let (before, after) = (
        json!({ "version": credential.latest }),
        json!({ "version": version, "restored_from": restored_from, "deployments": followers.iter().map(|f| &f.deployment).collect::<Vec<_>>() }),
    );
    let audit = AuditNew::done(action, &credential.name).in_project(&credential.project);
    audit_insert_on_conn(conn, actor, &audit.change(Some(before), Some(after))).await?;
    Ok(Replaced::Yes(version, followers))
}

async fn version_insert_in_txn(
    conn: &mut AsyncPgConnection,
    sealer: &dyn Sealer,
    place: Place,
    (value, restored_from): (&ValueNew, Option<u32>),
    actor: &Actor,
) -> Result<(), StoreError> {
    let sealed = seal_in_txn(conn, sealer, place, &value.value).await?;
    diesel::insert_into(credential_versions::table)
        .values((
            credential_versions::credential_id.eq(place.credential_id.uuid()),
            credential_versions::version.eq(column(place.version)),
            credential_versions::form.eq(value.form.as_str()),
            credential_versions::sealed.eq(sealed.bytes),
            credential_versions::sealed_by.eq(sealed.master_key),
            credential_versions::epoch.eq(column(sealed.epoch)),
            credential_versions::shown.eq(&value.shown),
            credential_versions::restored_from.eq(restored_from.map(column)),
            credential_versions::created_by.eq(&actor.name),
        ))
        .execute(conn)
        .await?;
    Ok(())
}

/// Forgets versions that are too many and that nobody uses.
async fn versions_forget_in_txn(
    conn: &mut AsyncPgConnection,
    id: CredentialId,
    latest: u32,
) -> Result<(), StoreError> {
    let Some(last) = latest.checked_sub(VERSIONS_KEPT).filter(|last| *last > 0) else { return Ok(()) };
    diesel::sql_query(format!(
        "delete from credential_versions v where v.credential_id = $1 and v.version <= $2 and not exists \
         (select 1 from credential_uses u where u.credential_id = v.credential_id and u.version = v.version and {})",
        uses::LIVE
    ))
    .bind::<SqlUuid, _>(id.uuid())
    .bind::<Integer, _>(column(last))
    .execute(conn)
    .await?;
    Ok(())
}
