//! Accounts, of people and of services.
//!
//! Roles are texts here; what they allow is decided in the controller. An account is
//! never deleted: it is disabled, so that what it did keeps a name.

use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use domain::{Timestamp, id::UserId};
use uuid::Uuid;

use crate::{
    Cursor, Page, Refusal, Store, StoreError,
    audit::{Actor, AuditNew, audit_insert_on_conn},
    error::violates,
    invite::bootstrap_forget_on_conn,
    page::fetch_limit,
    schema::{accounts, invites},
    session::sessions_end_in_txn,
};

/// The role that may change who may do what.
const ADMIN: &str = "admin";

/// An account. Holds a password hash: no `Debug`.
#[derive(Clone, Queryable, Selectable)]
#[diesel(table_name = accounts, check_for_backend(diesel::pg::Pg))]
pub struct AccountRow {
    id: Uuid,
    /// What it signs in with.
    pub name: String,
    /// bcrypt; `None` for one that cannot sign in with a password.
    pub password_hash: Option<String>,
    /// admin, operator, viewer or none.
    pub role: String,
    /// user or service.
    pub kind: String,
    /// Where its owner is reached, as far as known and proven.
    pub email: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Since when it may do nothing.
    pub disabled_at: Option<Timestamp>,
}

impl AccountRow {
    /// The account's id.
    #[must_use]
    pub fn id(&self) -> UserId {
        self.id.into()
    }
}

/// A new account.
pub struct AccountNew {
    /// Its id.
    pub id: UserId,
    /// Unique.
    pub name: String,
    /// `user` or `service`.
    pub kind: &'static str,
    /// bcrypt; `None` for one that cannot sign in with a password.
    pub password_hash: Option<String>,
    /// Where its owner is reached, if that is proven.
    pub email: Option<String>,
}

/// An account by its id or by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccountKey {
    /// By id.
    Id(UserId),
    /// By name.
    Name(String),
}

/// What is to change of an account; what is `None` stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccountChange {
    /// admin, operator, viewer or none.
    pub role: Option<&'static str>,
    /// Whether it may do nothing any more.
    pub disabled: Option<bool>,
}

impl AccountChange {
    /// Whether it leaves an account that is no enabled administrator.
    fn takes_admin(&self) -> bool {
        self.role.is_some_and(|role| role != ADMIN) || self.disabled == Some(true)
    }
}

impl Store {
    /// How many accounts there are.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn account_count(&self) -> Result<i64, StoreError> {
        let mut conn = self.conn().await?;
        Ok(accounts::table.count().get_result(&mut conn).await?)
    }

    /// One account, by name.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn account_fetch_by_name(&self, name: &str) -> Result<Option<AccountRow>, StoreError> {
        let mut conn = self.conn().await?;
        let query = accounts::table.filter(accounts::name.eq(name)).select(AccountRow::as_select());
        Ok(query.first(&mut conn).await.optional()?)
    }

    /// One account.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn account_fetch(&self, key: &AccountKey) -> Result<Option<AccountRow>, StoreError> {
        let id = match key {
            AccountKey::Name(name) => return self.account_fetch_by_name(name).await,
            AccountKey::Id(id) => id.uuid(),
        };
        let mut conn = self.conn().await?;
        let query = accounts::table.find(id).select(AccountRow::as_select());
        Ok(query.first(&mut conn).await.optional()?)
    }

    /// Accounts, the oldest first.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn account_list_page(
        &self,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Page<AccountRow>, StoreError> {
        let mut conn = self.conn().await?;
        let mut query = accounts::table
            .select(AccountRow::as_select())
            .order((accounts::created_at, accounts::id))
            .limit(fetch_limit(limit))
            .into_boxed();
        if let Some(Cursor { at, id }) = after {
            let later = accounts::created_at.eq(at).and(accounts::id.gt(id));
            query = query.filter(accounts::created_at.gt(at).or(later));
        }
        let rows: Vec<AccountRow> = query.load(&mut conn).await?;
        Ok(Page::cut(rows, limit, |row| Cursor { at: row.created_at, id: row.id }))
    }

    /// Changes an account's role, or whether it may act. Either ends its sessions;
    /// an account that stops being an administrator or acting takes its unused
    /// invites with it. What is so already changes nothing.
    ///
    /// # Errors
    /// [`Refusal::Missing`]; [`Refusal::LastAdmin`] when no enabled person would be
    /// left with the role admin.
    pub async fn account_update(
        &self,
        id: UserId,
        change: &AccountChange,
        actor: &Actor,
    ) -> Result<AccountRow, StoreError> {
        self.transact("account_update", async |conn| account_update_in_txn(conn, id, change, actor).await)
            .await
    }

    /// Gives an account another password, for somebody who need not know the old
    /// one, and ends its sessions.
    ///
    /// # Errors
    /// [`Refusal::Missing`], also for a service's account.
    pub async fn account_password_reset(
        &self,
        id: UserId,
        hash: &str,
        actor: &Actor,
    ) -> Result<(), StoreError> {
        self.transact("account_password_reset", async |conn| {
            let person = accounts::table.find(id.uuid()).filter(accounts::kind.eq("user"));
            let name: Option<String> = diesel::update(person)
                .set(accounts::password_hash.eq(hash))
                .returning(accounts::name)
                .get_result(conn)
                .await
                .optional()?;
            let name = name.ok_or(Refusal::Missing("account"))?;
            let ended = sessions_end_in_txn(conn, id, "password_reset").await?;
            let after = serde_json::json!({ "sessions_ended": ended });
            let audit = AuditNew::done("password_reset", &name).change(None, Some(after));
            audit_insert_on_conn(conn, actor, &audit).await
        })
        .await
    }

    /// Makes an account with a role.
    ///
    /// # Errors
    /// [`Refusal::NameTaken`].
    pub async fn account_insert(
        &self,
        new: &AccountNew,
        role: &str,
        actor: &Actor,
    ) -> Result<AccountRow, StoreError> {
        self.transact("account_insert", async |conn| {
            let row = account_insert_on_conn(conn, new, role).await?;
            let audit = AuditNew::done("account_create", &new.name).change(None, Some(shown(&row)));
            audit_insert_on_conn(conn, actor, &audit).await?;
            Ok(row)
        })
        .await
    }

    /// Takes a new hash of the same password, unless the password was changed meanwhile.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn account_rehash(&self, id: UserId, old_hash: &str, new_hash: &str) -> Result<(), StoreError> {
        let mut conn = self.conn().await?;
        let unchanged =
            accounts::table.filter(accounts::id.eq(id.uuid())).filter(accounts::password_hash.eq(old_hash));
        diesel::update(unchanged).set(accounts::password_hash.eq(new_hash)).execute(&mut conn).await?;
        Ok(())
    }
}

/// What the audit log shows of an account.
pub(crate) fn shown(row: &AccountRow) -> serde_json::Value {
    serde_json::json!({ "role": row.role, "kind": row.kind, "disabled": row.disabled_at.is_some() })
}

pub(crate) async fn account_update_in_txn(
    conn: &mut AsyncPgConnection,
    id: UserId,
    change: &AccountChange,
    actor: &Actor,
) -> Result<AccountRow, StoreError> {
    let others = if change.takes_admin() { admins_lock_in_txn(conn, id).await? } else { 0 };
    let before: Option<AccountRow> = accounts::table
        .find(id.uuid())
        .select(AccountRow::as_select())
        .for_no_key_update()
        .first(conn)
        .await
        .optional()?;
    let before = before.ok_or(Refusal::Missing("account"))?;
    let was_admin = before.role == ADMIN && before.disabled_at.is_none() && before.kind == "user";
    if was_admin && change.takes_admin() && others == 0 {
        return Err(Refusal::LastAdmin(before.name).into());
    }
    let role = change.role.unwrap_or(&before.role);
    let disabled = change.disabled.unwrap_or(before.disabled_at.is_some());
    if role == before.role && disabled == before.disabled_at.is_some() {
        return Ok(before);
    }
    let since = match (disabled, before.disabled_at) {
        (true, None) => Some(chrono::Utc::now()),
        (true, since) => since,
        (false, _) => None,
    };
    let after: AccountRow = diesel::update(accounts::table.find(id.uuid()))
        .set((accounts::role.eq(role), accounts::disabled_at.eq(since)))
        .returning(AccountRow::as_returning())
        .get_result(conn)
        .await?;
    let reason = if disabled { "account_disabled" } else { "role_changed" };
    sessions_end_in_txn(conn, id, reason).await?;
    if change.takes_admin() {
        let unused =
            invites::table.filter(invites::created_by.eq(id.uuid())).filter(invites::used_at.is_null());
        diesel::delete(unused).execute(conn).await?;
    }
    let audit =
        AuditNew::done("account_update", &before.name).change(Some(shown(&before)), Some(shown(&after)));
    audit_insert_on_conn(conn, actor, &audit).await?;
    Ok(after)
}

/// Locks the people who are enabled administrators, always in the same order, and
/// says how many there are besides one. Whoever takes the role from another waits
/// here, and then no longer finds the first one. Services are not counted: none
/// can sign in.
async fn admins_lock_in_txn(conn: &mut AsyncPgConnection, but: UserId) -> Result<usize, StoreError> {
    let admins: Vec<Uuid> = accounts::table
        .filter(accounts::role.eq(ADMIN))
        .filter(accounts::kind.eq("user"))
        .filter(accounts::disabled_at.is_null())
        .order(accounts::id)
        .select(accounts::id)
        .for_no_key_update()
        .load(conn)
        .await?;
    Ok(admins.into_iter().filter(|id| *id != but.uuid()).count())
}

/// Makes an account. With the first administrator, what was printed to make it is
/// worth nothing any more.
pub(crate) async fn account_insert_on_conn(
    conn: &mut AsyncPgConnection,
    new: &AccountNew,
    role: &str,
) -> Result<AccountRow, StoreError> {
    let inserted = diesel::insert_into(accounts::table)
        .values((
            accounts::id.eq(new.id.uuid()),
            accounts::name.eq(&new.name),
            accounts::kind.eq(new.kind),
            accounts::email.eq(&new.email),
            accounts::password_hash.eq(&new.password_hash),
            accounts::role.eq(role),
        ))
        .returning(AccountRow::as_returning())
        .get_result(conn)
        .await
        .map_err(|e| {
            if violates(&e, "accounts_name_key") {
                StoreError::from(Refusal::NameTaken(new.name.clone()))
            } else {
                e.into()
            }
        })?;
    if role == "admin" {
        bootstrap_forget_on_conn(conn).await?;
    }
    Ok(inserted)
}
