//! Sign-ins: how they begin, go on and end.
//!
//! A session's tokens are worth what its row says now. Whatever ends sessions says so
//! in the same transaction, so that no controller goes on believing them.

use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use domain::{
    Timestamp,
    id::{SessionId, UserId},
};
use uuid::Uuid;

use crate::{
    Cursor, Page, Store, StoreError,
    account::AccountRow,
    audit::{Actor, AuditNew, audit_insert_on_conn},
    caller::{CallerColumns, CallerRow, caller_columns, read_caller},
    page::fetch_limit,
    schema::{accounts, refresh_tokens, sessions},
    txn::db_now,
    wake::{Wake, wake_in_txn},
};

mod refresh;

pub use refresh::{Refresh, Refreshed};

/// A new sign-in.
pub struct SessionNew {
    /// Its id; in every access token of it.
    pub id: SessionId,
    /// Whose.
    pub account_id: UserId,
    /// How: `password`, or a provider's name.
    pub method: &'static str,
    /// SHA-256 of the refresh token that continues it.
    pub refresh_sha256: Vec<u8>,
    /// When it ends by itself, unless it is refreshed.
    pub expires_at: Timestamp,
    /// From where, as far as known.
    pub address: Option<String>,
    /// With what, as the client says.
    pub user_agent: Option<String>,
}

/// A session as its owner sees it.
#[derive(Clone, Debug, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = sessions, check_for_backend(diesel::pg::Pg))]
pub struct SessionRow {
    id: Uuid,
    /// How it began: `password`, or a provider's name.
    pub method: String,
    /// From where it began.
    pub address: Option<String>,
    /// What the client called itself.
    pub user_agent: Option<String>,
    /// When it began.
    pub created_at: Timestamp,
    /// When it was last used, to a minute.
    pub last_used_at: Timestamp,
    /// When it ends, unless it is refreshed.
    pub expires_at: Timestamp,
}

impl SessionRow {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> SessionId {
        self.id.into()
    }
}

/// Whose an open session is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionCaller {
    /// The account.
    pub caller: CallerRow,
    /// When the session ends, unless it is refreshed.
    pub expires_at: Timestamp,
}

/// Ends all open sessions of an account, as part of the change that is the reason,
/// and says how many they were. Everybody forgets what they know of tokens, also
/// where there was no session: the account's API tokens act by its state too.
pub(crate) async fn sessions_end_in_txn(
    conn: &mut AsyncPgConnection,
    account: UserId,
    reason: &str,
) -> Result<usize, StoreError> {
    let open =
        sessions::table.filter(sessions::account_id.eq(account.uuid())).filter(sessions::ended_at.is_null());
    let ended = diesel::update(open)
        .set((sessions::ended_at.eq(db_now()), sessions::ended_reason.eq(reason)))
        .execute(conn)
        .await?;
    wake_in_txn(conn, Wake::Revoked).await?;
    Ok(ended)
}

async fn session_insert_on_conn(conn: &mut AsyncPgConnection, new: &SessionNew) -> Result<(), StoreError> {
    diesel::insert_into(sessions::table)
        .values((
            sessions::id.eq(new.id.uuid()),
            sessions::account_id.eq(new.account_id.uuid()),
            sessions::expires_at.eq(new.expires_at),
            sessions::address.eq(&new.address),
            sessions::user_agent.eq(&new.user_agent),
            sessions::method.eq(new.method),
        ))
        .execute(conn)
        .await?;
    diesel::insert_into(refresh_tokens::table)
        .values((
            refresh_tokens::token_sha256.eq(&new.refresh_sha256),
            refresh_tokens::session_id.eq(new.id.uuid()),
        ))
        .execute(conn)
        .await?;
    Ok(())
}

impl Store {
    /// Opens a session, unless the account is gone or disabled, or, where a password was
    /// shown, has another one by now; says whether it did. `shown` is the hash that the
    /// password was right for.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn session_insert(
        &self,
        new: &SessionNew,
        shown: Option<&str>,
        actor: &Actor,
    ) -> Result<bool, StoreError> {
        self.transact("session_insert", async |conn| {
            // Locked, so that a change of the account comes wholly before or after, and ends
            // this session if it comes after.
            let account = accounts::table
                .filter(accounts::id.eq(new.account_id.uuid()))
                .filter(accounts::disabled_at.is_null())
                .select(accounts::password_hash)
                .for_share();
            let Some(hash) = account.first::<Option<String>>(conn).await.optional()? else {
                return Ok(false);
            };
            if shown.is_some_and(|shown| hash.as_deref() != Some(shown)) {
                return Ok(false);
            }
            session_insert_on_conn(conn, new).await?;
            audit_insert_on_conn(conn, actor, &AuditNew::done("sign_in", &actor.name)).await?;
            Ok(true)
        })
        .await
    }

    /// Who a session belongs to, if it is open and its account may act. Notes the use,
    /// at most once a minute.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn session_caller(&self, id: SessionId) -> Result<Option<SessionCaller>, StoreError> {
        let mut conn = self.conn().await?;
        let open = sessions::table.filter(sessions::id.eq(id.uuid())).filter(sessions::ended_at.is_null());
        let found = open
            .inner_join(accounts::table)
            .filter(sessions::expires_at.gt(diesel::dsl::now))
            .filter(accounts::disabled_at.is_null())
            .select((caller_columns(), sessions::expires_at, sessions::last_used_at))
            .first::<(CallerColumns, Timestamp, Timestamp)>(&mut conn)
            .await
            .optional()?;
        let Some((caller, expires_at, last_used_at)) = found else { return Ok(None) };
        let minute_ago = chrono::Utc::now() - chrono::TimeDelta::minutes(1);
        if last_used_at < minute_ago {
            diesel::update(open.filter(sessions::last_used_at.lt(minute_ago)))
                .set(sessions::last_used_at.eq(diesel::dsl::now))
                .execute(&mut conn)
                .await?;
        }
        Ok(Some(SessionCaller { caller: read_caller(caller)?, expires_at }))
    }

    /// An account's open sessions, the newest first.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn session_list(
        &self,
        account: UserId,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Page<SessionRow>, StoreError> {
        let mut conn = self.conn().await?;
        let mut query = sessions::table
            .filter(sessions::account_id.eq(account.uuid()))
            .filter(sessions::ended_at.is_null())
            .filter(sessions::expires_at.gt(diesel::dsl::now))
            .select(SessionRow::as_select())
            .order((sessions::created_at.desc(), sessions::id.desc()))
            .limit(fetch_limit(limit))
            .into_boxed();
        if let Some(Cursor { at, id }) = after {
            query = query
                .filter(sessions::created_at.lt(at).or(sessions::created_at.eq(at).and(sessions::id.lt(id))));
        }
        let rows = query.load(&mut conn).await?;
        Ok(Page::cut(rows, limit, |row: &SessionRow| Cursor { at: row.created_at, id: row.id }))
    }

    /// Ends an account's session; its tokens are worth nothing from then on. Says
    /// whether it was open. Again: changes nothing.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn session_end(
        &self,
        account: UserId,
        id: SessionId,
        reason: &str,
        actor: &Actor,
    ) -> Result<bool, StoreError> {
        self.transact("session_end", async |conn| {
            let open = sessions::table
                .filter(sessions::id.eq(id.uuid()))
                .filter(sessions::account_id.eq(account.uuid()))
                .filter(sessions::ended_at.is_null())
                .filter(sessions::expires_at.gt(diesel::dsl::now));
            let ended = diesel::update(open)
                .set((sessions::ended_at.eq(db_now()), sessions::ended_reason.eq(reason)))
                .execute(conn)
                .await?;
            if ended == 1 {
                wake_in_txn(conn, Wake::Revoked).await?;
                let session = serde_json::json!({ "session_id": id.uuid(), "reason": reason });
                let audit = AuditNew::done("sign_out", &actor.name).change(None, Some(session));
                audit_insert_on_conn(conn, actor, &audit).await?;
            }
            Ok(ended == 1)
        })
        .await
    }

    /// Ends all sessions of an account; says how many they were.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn session_end_all(
        &self,
        account: UserId,
        reason: &str,
        actor: &Actor,
    ) -> Result<usize, StoreError> {
        self.transact("session_end_all", async |conn| {
            let ended = sessions_end_in_txn(conn, account, reason).await?;
            let after = serde_json::json!({ "sessions_ended": ended, "reason": reason });
            let audit = AuditNew::done("sign_out_everywhere", &actor.name).change(None, Some(after));
            audit_insert_on_conn(conn, actor, &audit).await?;
            Ok(ended)
        })
        .await
    }

    /// Gives an account a new password, ends all its sessions and opens another one;
    /// says whether it did: not if the password is no longer the one that was shown.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn session_renew_with_password(
        &self,
        (old_hash, new_hash): (&str, &str),
        new: &SessionNew,
        actor: &Actor,
    ) -> Result<bool, StoreError> {
        self.transact("session_renew_with_password", async |conn| {
            let unchanged = accounts::table
                .filter(accounts::id.eq(new.account_id.uuid()))
                .filter(accounts::disabled_at.is_null())
                .filter(accounts::password_hash.eq(old_hash));
            let changed =
                diesel::update(unchanged).set(accounts::password_hash.eq(new_hash)).execute(conn).await?;
            if changed == 0 {
                return Ok(false);
            }
            let ended = sessions_end_in_txn(conn, new.account_id, "password_changed").await?;
            session_insert_on_conn(conn, new).await?;
            let after = serde_json::json!({ "sessions_ended": ended });
            let audit = AuditNew::done("password_change", &actor.name).change(None, Some(after));
            audit_insert_on_conn(conn, actor, &audit).await?;
            Ok(true)
        })
        .await
    }
}
