//! Invites, and the accounts that are made with them.
//!
//! Tokens come in as SHA-256 hashes and never in clear. A bootstrap invite is one
//! that the controller makes itself while there is no account at all; it is worth
//! nothing once there is one.

use std::time::Duration;

use chrono::SubsecRound;
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use domain::{Timestamp, id::UserId};
use uuid::Uuid;

use crate::{
    Cursor, Page, Refusal, Store, StoreError,
    account::{AccountNew, AccountRow, account_insert_on_conn, shown},
    audit::{Actor, AuditNew, audit_insert_on_conn},
    page::fetch_limit,
    schema::{accounts, invites},
};

/// An invite, without what makes an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invite {
    /// Its id.
    pub id: Uuid,
    /// The role of the account that is made with it.
    pub role: String,
    /// The name of who made it; `None` for one that was made at the host.
    pub created_by: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
    /// When an account was made with it.
    pub used_at: Option<Timestamp>,
    /// Whether it is for the first account.
    pub bootstrap: bool,
}

type InviteColumns = (Uuid, String, Option<String>, Timestamp, Timestamp, Option<Timestamp>, bool);

fn read((id, role, created_by, created_at, expires_at, used_at, bootstrap): InviteColumns) -> Invite {
    Invite { id, role, created_by, created_at, expires_at, used_at, bootstrap }
}

/// When what is made now ends, as exactly as the database keeps it.
fn end(lifetime: Duration) -> Timestamp {
    (chrono::Utc::now() + lifetime).trunc_subsecs(6)
}

/// Deletes the invites for the first administrator: there is one.
pub(crate) async fn bootstrap_forget_on_conn(conn: &mut AsyncPgConnection) -> Result<(), StoreError> {
    let unused = invites::table.filter(invites::bootstrap).filter(invites::used_at.is_null());
    diesel::delete(unused).execute(conn).await?;
    Ok(())
}

/// Keeps accounts from being made or changed until the transaction ends, and says
/// whether there is an administrator.
async fn accounts_lock_in_txn(conn: &mut AsyncPgConnection) -> Result<bool, StoreError> {
    let admins = accounts::table.filter(accounts::role.eq("admin")).select(accounts::id);
    conn.batch_execute("lock table accounts in share row exclusive mode").await?;
    Ok(diesel::select(diesel::dsl::exists(admins)).get_result(conn).await?)
}

impl Store {
    /// Makes an account with the role of an invite, and uses the invite up.
    ///
    /// # Errors
    /// [`Refusal::TokenRefused`], [`Refusal::NameTaken`]; the invite is then as it was.
    pub async fn account_register(
        &self,
        new: &AccountNew,
        invite_sha256: &[u8],
        actor: &Actor,
    ) -> Result<AccountRow, StoreError> {
        self.transact("account_register", async |conn| {
            let invite = invites::table.filter(invites::token_sha256.eq(invite_sha256));
            let bootstrap: Option<bool> = invite.select(invites::bootstrap).first(conn).await.optional()?;
            // Before the invite's own lock: who makes an account deletes such invites after it.
            if bootstrap == Some(true) && accounts_lock_in_txn(conn).await? {
                return Err(Refusal::TokenRefused("invite").into());
            }
            let good =
                invite.filter(invites::used_at.is_null()).filter(invites::expires_at.gt(diesel::dsl::now));
            let role: Option<String> = diesel::update(good)
                .set(invites::used_at.eq(crate::txn::db_now()))
                .returning(invites::role)
                .get_result(conn)
                .await
                .optional()?;
            let role = role.ok_or(Refusal::TokenRefused("invite"))?;
            let row = account_insert_on_conn(conn, new, &role).await?;
            let audit = AuditNew::done("account_register", &new.name).change(None, Some(shown(&row)));
            audit_insert_on_conn(conn, actor, &audit).await?;
            Ok(row)
        })
        .await
    }

    /// Makes an invite; says which, and when it ends.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn invite_insert(
        &self,
        sha256: &[u8],
        role: &str,
        lifetime: Duration,
        actor: &Actor,
    ) -> Result<(Uuid, Timestamp), StoreError> {
        let (id, expires_at) = (Uuid::now_v7(), end(lifetime));
        self.transact("invite_insert", async |conn| {
            diesel::insert_into(invites::table)
                .values((
                    invites::id.eq(id),
                    invites::token_sha256.eq(sha256),
                    invites::role.eq(role),
                    invites::created_by.eq(actor.account_id.map(UserId::uuid)),
                    invites::expires_at.eq(expires_at),
                ))
                .execute(conn)
                .await?;
            let after = serde_json::json!({ "role": role, "expires_at": expires_at });
            let audit = AuditNew::done("invite_create", &id.to_string()).change(None, Some(after));
            audit_insert_on_conn(conn, actor, &audit).await
        })
        .await?;
        Ok((id, expires_at))
    }

    /// Makes the invite for the first administrator, in place of any earlier one.
    /// Where there is one, makes none and deletes what is left
    /// of them; `None`.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn invite_bootstrap(
        &self,
        sha256: &[u8],
        lifetime: Duration,
        actor: &Actor,
    ) -> Result<Option<Timestamp>, StoreError> {
        let expires_at = end(lifetime);
        self.transact("invite_bootstrap", async |conn| {
            // Also keeps apart two controllers that start together: the later one's invite is good.
            let founded = accounts_lock_in_txn(conn).await?;
            bootstrap_forget_on_conn(conn).await?;
            if founded {
                return Ok(None);
            }
            let id = Uuid::now_v7();
            diesel::insert_into(invites::table)
                .values((
                    invites::id.eq(id),
                    invites::token_sha256.eq(sha256),
                    invites::role.eq("admin"),
                    invites::bootstrap.eq(true),
                    invites::expires_at.eq(expires_at),
                ))
                .execute(conn)
                .await?;
            let after = serde_json::json!({ "role": "admin", "expires_at": expires_at, "bootstrap": true });
            let audit = AuditNew::done("invite_create", &id.to_string()).change(None, Some(after));
            audit_insert_on_conn(conn, actor, &audit).await?;
            Ok(Some(expires_at))
        })
        .await
    }

    /// Whether a token is that of an invite for the first account that can still be used.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn invite_is_bootstrap(&self, sha256: &[u8]) -> Result<bool, StoreError> {
        let mut conn = self.conn().await?;
        let good = invites::table
            .filter(invites::token_sha256.eq(sha256))
            .filter(invites::bootstrap)
            .filter(invites::used_at.is_null())
            .filter(invites::expires_at.gt(diesel::dsl::now));
        Ok(diesel::select(diesel::dsl::exists(good)).get_result(&mut conn).await?)
    }

    /// Invites, used and unused, the oldest first.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn invite_list_page(
        &self,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Page<Invite>, StoreError> {
        let mut conn = self.conn().await?;
        let mut query = invites::table
            .left_join(accounts::table.on(invites::created_by.eq(accounts::id.nullable())))
            .select((
                invites::id,
                invites::role,
                accounts::name.nullable(),
                invites::created_at,
                invites::expires_at,
                invites::used_at,
                invites::bootstrap,
            ))
            .order((invites::created_at, invites::id))
            .limit(fetch_limit(limit))
            .into_boxed();
        if let Some(Cursor { at, id }) = after {
            let later = invites::created_at.eq(at).and(invites::id.gt(id));
            query = query.filter(invites::created_at.gt(at).or(later));
        }
        let rows: Vec<InviteColumns> = query.load(&mut conn).await?;
        let invites = rows.into_iter().map(read).collect();
        Ok(Page::cut(invites, limit, |invite: &Invite| Cursor { at: invite.created_at, id: invite.id }))
    }

    /// Deletes an invite: nobody registers with it any more.
    ///
    /// # Errors
    /// [`Refusal::Missing`].
    pub async fn invite_delete(&self, id: Uuid, actor: &Actor) -> Result<(), StoreError> {
        self.transact("invite_delete", async |conn| {
            let role: Option<String> = diesel::delete(invites::table.find(id))
                .returning(invites::role)
                .get_result(conn)
                .await
                .optional()?;
            let role = role.ok_or(Refusal::Missing("invite"))?;
            let before = serde_json::json!({ "role": role });
            let audit = AuditNew::done("invite_delete", &id.to_string()).change(Some(before), None);
            audit_insert_on_conn(conn, actor, &audit).await
        })
        .await
    }
}
