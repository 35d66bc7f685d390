//! Accounts, their sign-ins, their tokens, and the invites that make them.
//!
//! Roles are texts here; what they allow is decided in the controller. Tokens
//! come in as SHA-256 hashes and never in clear.

use std::time::Duration;

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use domain::{
    Timestamp,
    id::{SessionId, UserId},
};
use uuid::Uuid;

use crate::{
    Refusal, Store, StoreError,
    error::violates,
    event::{Actor, AuditNew, audit_insert_on_conn},
    schema::{accounts, api_tokens, invites, sessions},
};

/// An account. Holds a password hash: no `Debug`.
#[derive(Clone, Queryable, Selectable)]
#[diesel(table_name = accounts, check_for_backend(diesel::pg::Pg))]
pub struct AccountRow {
    id: Uuid,
    /// What it signs in with.
    pub name: String,
    /// bcrypt; `None` for one that cannot sign in with a password.
    pub password_hash: Option<String>,
    /// admin, operator or viewer.
    pub role: String,
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
    /// bcrypt.
    pub password_hash: String,
}

/// Who is calling, as the database knows it now.
#[derive(Clone, Debug, PartialEq, Eq, Queryable)]
pub struct CallerRow {
    id: Uuid,
    /// The account's name.
    pub name: String,
    /// The account's role, as it is now and not as a token says.
    pub role: String,
}

impl CallerRow {
    /// The account's id.
    #[must_use]
    pub fn id(&self) -> UserId {
        self.id.into()
    }
}

/// A new sign-in.
pub struct SessionNew {
    /// Its id; in every access token of it.
    pub id: SessionId,
    /// Whose.
    pub account_id: UserId,
    /// When it ends by itself.
    pub expires_at: Timestamp,
    /// From where, as far as known.
    pub address: Option<String>,
    /// With what, as the client says.
    pub user_agent: Option<String>,
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
            audit_insert_on_conn(conn, actor, &AuditNew::done("account_create", &new.name)).await?;
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
            let role: Option<String> = diesel::update(
                invites::table
                    .filter(invites::token_sha256.eq(invite_sha256))
                    .filter(invites::used_at.is_null())
                    .filter(invites::expires_at.gt(diesel::dsl::now)),
            )
            .set(invites::used_at.eq(crate::txn::db_now()))
            .returning(invites::role)
            .get_result(conn)
            .await
            .optional()?;
            let role = role.ok_or(Refusal::TokenRefused("invite"))?;
            let row = account_insert_on_conn(conn, new, &role).await?;
            audit_insert_on_conn(conn, actor, &AuditNew::done("account_register", &new.name)).await?;
            Ok(row)
        })
        .await
    }

    /// Makes an invite.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn invite_insert(
        &self,
        sha256: &[u8],
        role: &str,
        lifetime: Duration,
        actor: &Actor,
    ) -> Result<Timestamp, StoreError> {
        let expires_at = chrono::Utc::now() + lifetime;
        self.transact("invite_insert", async |conn| {
            diesel::insert_into(invites::table)
                .values((
                    invites::id.eq(Uuid::now_v7()),
                    invites::token_sha256.eq(sha256),
                    invites::role.eq(role),
                    invites::created_by.eq(actor.account_id.map(UserId::uuid)),
                    invites::expires_at.eq(expires_at),
                ))
                .execute(conn)
                .await?;
            audit_insert_on_conn(conn, actor, &AuditNew::done("invite_create", role)).await
        })
        .await?;
        Ok(expires_at)
    }

    /// Opens a session.
    ///
    /// # Errors
    /// When the database is not there, or the account is gone.
    pub async fn session_insert(&self, new: &SessionNew, actor: &Actor) -> Result<(), StoreError> {
        self.transact("session_insert", async |conn| {
            diesel::insert_into(sessions::table)
                .values((
                    sessions::id.eq(new.id.uuid()),
                    sessions::account_id.eq(new.account_id.uuid()),
                    sessions::expires_at.eq(new.expires_at),
                    sessions::address.eq(&new.address),
                    sessions::user_agent.eq(&new.user_agent),
                ))
                .execute(conn)
                .await?;
            audit_insert_on_conn(conn, actor, &AuditNew::done("sign_in", &actor.name)).await
        })
        .await
    }

    /// Who a session belongs to, if it is open and its account may act.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn session_caller(&self, id: SessionId) -> Result<Option<CallerRow>, StoreError> {
        let mut conn = self.conn().await?;
        let query = sessions::table
            .inner_join(accounts::table)
            .filter(sessions::id.eq(id.uuid()))
            .filter(sessions::ended_at.is_null())
            .filter(sessions::expires_at.gt(diesel::dsl::now))
            .filter(accounts::disabled_at.is_null())
            .select((accounts::id, accounts::name, accounts::role));
        Ok(query.first(&mut conn).await.optional()?)
    }

    /// Ends a session; its tokens are worth nothing from then on. Again: changes nothing.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn session_end(&self, id: SessionId, actor: &Actor) -> Result<(), StoreError> {
        self.transact("session_end", async |conn| {
            let open =
                sessions::table.filter(sessions::id.eq(id.uuid())).filter(sessions::ended_at.is_null());
            let ended =
                diesel::update(open).set(sessions::ended_at.eq(crate::txn::db_now())).execute(conn).await?;
            if ended == 1 {
                crate::wake::wake_in_txn(conn, crate::wake::Wake::Revoked).await?;
                audit_insert_on_conn(conn, actor, &AuditNew::done("sign_out", &actor.name)).await?;
            }
            Ok(())
        })
        .await
    }

    /// Adds an API token.
    ///
    /// # Errors
    /// When the database is not there, or the account is gone.
    pub async fn api_token_insert(
        &self,
        (id, account): (Uuid, UserId),
        name: &str,
        sha256: &[u8],
        expires_at: Option<Timestamp>,
        actor: &Actor,
    ) -> Result<(), StoreError> {
        self.transact("api_token_insert", async |conn| {
            diesel::insert_into(api_tokens::table)
                .values((
                    api_tokens::id.eq(id),
                    api_tokens::account_id.eq(account.uuid()),
                    api_tokens::name.eq(name),
                    api_tokens::token_sha256.eq(sha256),
                    api_tokens::expires_at.eq(expires_at),
                ))
                .execute(conn)
                .await?;
            audit_insert_on_conn(conn, actor, &AuditNew::done("api_token_create", name)).await
        })
        .await
    }

    /// Who an API token belongs to, if it is good and its account may act. Notes
    /// the use, at most once a minute.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn api_token_caller(&self, sha256: &[u8]) -> Result<Option<CallerRow>, StoreError> {
        let mut conn = self.conn().await?;
        let good = || {
            api_tokens::table
                .filter(api_tokens::token_sha256.eq(sha256))
                .filter(api_tokens::expires_at.is_null().or(api_tokens::expires_at.gt(crate::txn::db_now())))
        };
        let caller = good()
            .inner_join(accounts::table)
            .filter(accounts::disabled_at.is_null())
            .select((accounts::id, accounts::name, accounts::role, api_tokens::last_used_at))
            .first::<(Uuid, String, String, Option<Timestamp>)>(&mut conn)
            .await
            .optional()?;
        let Some((id, name, role, last_used_at)) = caller else { return Ok(None) };
        let minute_ago = chrono::Utc::now() - chrono::TimeDelta::minutes(1);
        if last_used_at.is_none_or(|at| at < minute_ago) {
            let unused = api_tokens::last_used_at.is_null().or(api_tokens::last_used_at.lt(Some(minute_ago)));
            diesel::update(api_tokens::table.filter(api_tokens::token_sha256.eq(sha256)).filter(unused))
                .set(api_tokens::last_used_at.eq(crate::txn::db_now()))
                .execute(&mut conn)
                .await?;
        }
        Ok(Some(CallerRow { id, name, role }))
    }
}

async fn account_insert_on_conn(
    conn: &mut diesel_async::AsyncPgConnection,
    new: &AccountNew,
    role: &str,
) -> Result<AccountRow, StoreError> {
    diesel::insert_into(accounts::table)
        .values((
            accounts::id.eq(new.id.uuid()),
            accounts::name.eq(&new.name),
            accounts::password_hash.eq(&new.password_hash),
            accounts::role.eq(role),
        ))
        .returning(AccountRow::as_returning())
        .get_result(conn)
        .await
        .map_err(|e| {
            if violates(&e, "accounts_name_key") {
                Refusal::NameTaken(new.name.clone()).into()
            } else {
                e.into()
            }
        })
}
