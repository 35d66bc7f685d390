//! API tokens: they act for an account, within scopes.
//!
//! They come in as SHA-256 hashes and never in clear.

use diesel::{prelude::*, sql_types::Bool};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use domain::{Timestamp, id::UserId};
use uuid::Uuid;

use crate::{
    Cursor, Page, Refusal, Store, StoreError,
    audit::{Actor, AuditNew, audit_insert_on_conn},
    caller::{CallerColumns, CallerRow, caller_columns, read_caller},
    page::fetch_limit,
    schema::{accounts, api_tokens},
    wake::{Wake, wake_in_txn},
};

/// Whose a token is, and what it may be used for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenCaller {
    /// The account.
    pub caller: CallerRow,
    /// The token.
    pub id: Uuid,
    /// Its scopes: names of permissions; `*` is all.
    pub scopes: Vec<String>,
    /// When it ends; never when `None`.
    pub expires_at: Option<Timestamp>,
}

/// A new API token.
pub struct ApiTokenNew {
    /// Its id.
    pub id: Uuid,
    /// Whose.
    pub account_id: UserId,
    /// What it is for.
    pub name: String,
    /// What is kept of it.
    pub sha256: Vec<u8>,
    /// Names of permissions.
    pub scopes: Vec<String>,
    /// When it ends; never when `None`.
    pub expires_at: Option<Timestamp>,
    /// The API token that it is made with, if it is; that one must still be good.
    pub made_with: Option<Uuid>,
}

/// An API token, without what makes it one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiTokenRow {
    /// Its id.
    pub id: Uuid,
    /// Whose, by name.
    pub account: String,
    /// What it is for.
    pub name: String,
    /// Names of permissions.
    pub scopes: Vec<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends; never when `None`.
    pub expires_at: Option<Timestamp>,
    /// When it was last used, to the minute.
    pub last_used_at: Option<Timestamp>,
    /// From where.
    pub last_used_address: Option<String>,
}

type Columns = (
    (Uuid, String, String, serde_json::Value),
    (Timestamp, Option<Timestamp>, Option<Timestamp>, Option<String>),
);

fn read_scopes(scopes: serde_json::Value) -> Result<Vec<String>, StoreError> {
    serde_json::from_value(scopes).map_err(|e| StoreError::corrupt("API token's scopes", e))
}

fn read(columns: Columns) -> Result<ApiTokenRow, StoreError> {
    let ((id, account, name, scopes), (created_at, expires_at, last_used_at, last_used_address)) = columns;
    let scopes = read_scopes(scopes)?;
    Ok(ApiTokenRow { id, account, name, scopes, created_at, expires_at, last_used_at, last_used_address })
}

impl Store {
    /// When an API token that is still good ends; `None` inside for never.
    ///
    /// # Errors
    /// [`Refusal::TokenRefused`] for one that is not good any more.
    pub async fn api_token_end(&self, id: Uuid) -> Result<Option<Timestamp>, StoreError> {
        let mut conn = self.conn().await?;
        let good = api_tokens::expires_at.is_null().or(api_tokens::expires_at.gt(crate::txn::db_now()));
        let query = api_tokens::table.find(id).filter(good).select(api_tokens::expires_at);
        let end: Option<Option<Timestamp>> = query.first(&mut conn).await.optional()?;
        Ok(end.ok_or(Refusal::TokenRefused("API token"))?)
    }

    /// An account's API tokens, the oldest first.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn api_token_list_page(
        &self,
        account: UserId,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Page<ApiTokenRow>, StoreError> {
        let mut conn = self.conn().await?;
        let mut query = api_tokens::table
            .inner_join(accounts::table)
            .filter(api_tokens::account_id.eq(account.uuid()))
            .select((
                (api_tokens::id, accounts::name, api_tokens::name, api_tokens::scopes),
                (
                    api_tokens::created_at,
                    api_tokens::expires_at,
                    api_tokens::last_used_at,
                    api_tokens::last_used_address,
                ),
            ))
            .order((api_tokens::created_at, api_tokens::id))
            .limit(fetch_limit(limit))
            .into_boxed();
        if let Some(Cursor { at, id }) = after {
            let later = api_tokens::created_at.eq(at).and(api_tokens::id.gt(id));
            query = query.filter(api_tokens::created_at.gt(at).or(later));
        }
        let rows: Vec<Columns> = query.load(&mut conn).await?;
        let rows = rows.into_iter().map(read).collect::<Result<Vec<_>, _>>()?;
        Ok(Page::cut(rows, limit, |row: &ApiTokenRow| Cursor { at: row.created_at, id: row.id }))
    }

    /// Deletes an API token, of that account only if one is named; it is worth
    /// nothing from then on.
    ///
    /// # Errors
    /// [`Refusal::Missing`], also for one of another account than the named one.
    pub async fn api_token_delete(
        &self,
        id: Uuid,
        of: Option<UserId>,
        actor: &Actor,
    ) -> Result<(), StoreError> {
        self.transact("api_token_delete", async |conn| {
            let theirs = api_tokens::account_id.nullable().eq(of.map(UserId::uuid));
            let found: Option<(Uuid, String, serde_json::Value)> = diesel::delete(
                api_tokens::table
                    .filter(api_tokens::id.eq(id))
                    .filter(theirs.assume_not_null().or(of.is_none().into_sql::<Bool>())),
            )
            .returning((api_tokens::account_id, api_tokens::name, api_tokens::scopes))
            .get_result(conn)
            .await
            .optional()?;
            let (account, name, scopes) = found.ok_or(Refusal::Missing("API token"))?;
            wake_in_txn(conn, Wake::Revoked).await?;
            let before = shown(conn, account, &name, &scopes).await?;
            let audit = AuditNew::done("api_token_delete", &id.to_string()).change(Some(before), None);
            audit_insert_on_conn(conn, actor, &audit).await
        })
        .await
    }

    /// Adds an API token.
    ///
    /// # Errors
    /// [`Refusal::TokenRefused`] when the one that it is made with is not good any more.
    pub async fn api_token_insert(&self, new: &ApiTokenNew, actor: &Actor) -> Result<(), StoreError> {
        let scopes = serde_json::json!(new.scopes);
        self.transact("api_token_insert", async |conn| {
            if let Some(parent) = new.made_with {
                // Locked: who deletes it either comes before this or sees what it made.
                let found: Option<Uuid> = api_tokens::table
                    .find(parent)
                    .select(api_tokens::id)
                    .for_key_share()
                    .first(conn)
                    .await
                    .optional()?;
                found.ok_or(Refusal::TokenRefused("API token"))?;
            }
            diesel::insert_into(api_tokens::table)
                .values((
                    api_tokens::id.eq(new.id),
                    api_tokens::account_id.eq(new.account_id.uuid()),
                    api_tokens::name.eq(&new.name),
                    api_tokens::token_sha256.eq(&new.sha256),
                    api_tokens::scopes.eq(&scopes),
                    api_tokens::expires_at.eq(new.expires_at),
                ))
                .execute(conn)
                .await?;
            let after = shown(conn, new.account_id.uuid(), &new.name, &scopes).await?;
            let after = serde_json::json!({ "token": after, "expires_at": new.expires_at });
            let audit = AuditNew::done("api_token_create", &new.id.to_string()).change(None, Some(after));
            audit_insert_on_conn(conn, actor, &audit).await
        })
        .await
    }

    /// Who an API token belongs to, if it is good and its account may act. Notes
    /// the use, at most once a minute.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn api_token_caller(
        &self,
        sha256: &[u8],
        address: Option<&str>,
    ) -> Result<Option<TokenCaller>, StoreError> {
        let mut conn = self.conn().await?;
        let found = api_tokens::table
            .filter(api_tokens::token_sha256.eq(sha256))
            .filter(api_tokens::expires_at.is_null().or(api_tokens::expires_at.gt(crate::txn::db_now())))
            .inner_join(accounts::table)
            .filter(accounts::disabled_at.is_null())
            .select((
                caller_columns(),
                (api_tokens::id, api_tokens::scopes),
                (api_tokens::expires_at, api_tokens::last_used_at),
            ))
            .first::<(CallerColumns, (Uuid, serde_json::Value), (Option<Timestamp>, Option<Timestamp>))>(
                &mut conn,
            )
            .await
            .optional()?;
        let Some((caller, (id, scopes), (expires_at, last_used_at))) = found else { return Ok(None) };
        let minute_ago = chrono::Utc::now() - chrono::TimeDelta::minutes(1);
        if last_used_at.is_none_or(|at| at < minute_ago) {
            let unused = api_tokens::last_used_at.is_null().or(api_tokens::last_used_at.lt(Some(minute_ago)));
            diesel::update(api_tokens::table.filter(api_tokens::id.eq(id)).filter(unused))
                .set((
                    api_tokens::last_used_at.eq(crate::txn::db_now()),
                    api_tokens::last_used_address.eq(address),
                ))
                .execute(&mut conn)
                .await?;
        }
        Ok(Some(TokenCaller { caller: read_caller(caller)?, id, scopes: read_scopes(scopes)?, expires_at }))
    }
}

/// What the audit log shows of an API token.
async fn shown(
    conn: &mut AsyncPgConnection,
    account: Uuid,
    name: &str,
    scopes: &serde_json::Value,
) -> Result<serde_json::Value, StoreError> {
    let account: String = accounts::table.find(account).select(accounts::name).first(conn).await?;
    Ok(serde_json::json!({ "account": account, "name": name, "scopes": scopes }))
}
