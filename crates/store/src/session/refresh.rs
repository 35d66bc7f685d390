//! How a session goes on: its refresh tokens, each good once.
//!
//! A used token that comes again was shown by two: one of them stole it, and nobody
//! can tell who, so the session ends. Only for a moment after its use it may be that
//! two tabs of one browser asked at once, or that an answer was lost; then it is good
//! for a sibling. The session's row is locked first, so that two that come together
//! are decided one after the other.

use diesel::{dsl::sql, prelude::*, sql_types::Bool};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use domain::{Timestamp, id::SessionId};
use uuid::Uuid;

use super::{
    AccountRow, Actor, AuditNew, Store, StoreError, Wake, accounts, audit_insert_on_conn, db_now,
    refresh_tokens, sessions, wake_in_txn,
};

/// Most uses of one token: the first, and three within ten seconds of it.
const USES_MAX: i16 = 4;

/// Somebody shows a refresh token, and wants the next.
pub struct Refresh {
    /// SHA-256 of the token that is shown.
    pub shown_sha256: Vec<u8>,
    /// SHA-256 of the next one.
    pub next_sha256: Vec<u8>,
    /// When the session ends from now on, unless it is refreshed again.
    pub expires_at: Timestamp,
    /// Tokens from before are too old, used or not.
    pub oldest: Timestamp,
}

/// What became of it.
pub enum Refreshed {
    /// The session goes on with the next token.
    Done(SessionId, Box<AccountRow>),
    /// The token had been used: the session is ended.
    Reused(SessionId),
    /// There is no such token, or its session has ended.
    Unknown,
}

enum Token {
    /// Good; also for a sibling, shortly after its use.
    Good,
    Reused,
    Unknown,
}

async fn use_token(conn: &mut AsyncPgConnection, refresh: &Refresh) -> Result<Token, StoreError> {
    let shown = refresh_tokens::table
        .filter(refresh_tokens::token_sha256.eq(&refresh.shown_sha256))
        .filter(refresh_tokens::created_at.ge(refresh.oldest));
    let recent = sql::<Bool>("coalesce(refresh_tokens.used_at > now() - interval '10 s', true)");
    let found = shown.select((refresh_tokens::uses, recent)).for_update();
    let Some((uses, recent)) = found.first::<(i16, bool)>(conn).await.optional()? else {
        return Ok(Token::Unknown);
    };
    if uses >= USES_MAX || !recent {
        return Ok(Token::Reused);
    }
    let first_use = sql::<diesel::sql_types::Nullable<diesel::sql_types::Timestamptz>>(
        "coalesce(refresh_tokens.used_at, now())",
    );
    diesel::update(shown)
        .set((refresh_tokens::used_at.eq(first_use), refresh_tokens::uses.eq(uses + 1)))
        .execute(conn)
        .await?;
    Ok(Token::Good)
}

async fn go_on(conn: &mut AsyncPgConnection, session: Uuid, refresh: &Refresh) -> Result<(), StoreError> {
    diesel::insert_into(refresh_tokens::table)
        .values((
            refresh_tokens::token_sha256.eq(&refresh.next_sha256),
            refresh_tokens::session_id.eq(session),
        ))
        .execute(conn)
        .await?;
    let old = refresh_tokens::table
        .filter(refresh_tokens::session_id.eq(session))
        .filter(refresh_tokens::created_at.lt(refresh.oldest));
    diesel::delete(old).execute(conn).await?;
    diesel::update(sessions::table.filter(sessions::id.eq(session)))
        .set((sessions::expires_at.eq(refresh.expires_at), sessions::last_used_at.eq(diesel::dsl::now)))
        .execute(conn)
        .await?;
    Ok(())
}

async fn end(
    conn: &mut AsyncPgConnection,
    session: Uuid,
    account: &AccountRow,
    actor: &Actor,
) -> Result<(), StoreError> {
    const REASON: &str = "refresh_token_reused";
    diesel::update(sessions::table.filter(sessions::id.eq(session)))
        .set((sessions::ended_at.eq(db_now()), sessions::ended_reason.eq(REASON)))
        .execute(conn)
        .await?;
    wake_in_txn(conn, Wake::Revoked).await?;
    let after = serde_json::json!({ "session_id": session, "session_ended": true });
    let audit = AuditNew::refused("refresh_token_reuse", &account.name).change(None, Some(after));
    audit_insert_on_conn(conn, actor, &audit).await
}

impl Store {
    /// Continues a session. A token that was used before ends it instead, which is
    /// committed all the same.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn session_refresh(&self, refresh: &Refresh, actor: &Actor) -> Result<Refreshed, StoreError> {
        self.transact("session_refresh", async |conn| {
            let of_token = refresh_tokens::table
                .filter(refresh_tokens::token_sha256.eq(&refresh.shown_sha256))
                .select(refresh_tokens::session_id);
            let Some(session) = of_token.first::<Uuid>(conn).await.optional()? else {
                return Ok(Refreshed::Unknown);
            };
            let open = sessions::table
                .filter(sessions::id.eq(session))
                .filter(sessions::ended_at.is_null())
                .filter(sessions::expires_at.gt(diesel::dsl::now))
                .select(sessions::account_id)
                .for_no_key_update();
            let Some(account_id) = open.first::<Uuid>(conn).await.optional()? else {
                return Ok(Refreshed::Unknown);
            };
            let account = accounts::table
                .filter(accounts::id.eq(account_id))
                .filter(accounts::disabled_at.is_null())
                .select(AccountRow::as_select());
            let Some(account) = account.first(conn).await.optional()? else {
                return Ok(Refreshed::Unknown);
            };
            match use_token(conn, refresh).await? {
                Token::Good => {
                    go_on(conn, session, refresh).await?;
                    Ok(Refreshed::Done(session.into(), Box::new(account)))
                }
                Token::Reused => {
                    end(conn, session, &account, actor).await?;
                    Ok(Refreshed::Reused(session.into()))
                }
                Token::Unknown => Ok(Refreshed::Unknown),
            }
        })
        .await
    }
}
