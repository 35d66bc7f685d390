//! Sign-ins at a provider that are under way, and the codes that end them.
//!
//! A row of either table is used once: it is taken by deleting it, and the guard is
//! in that statement, so of two that come with one value only one gets it. All
//! secrets come in as SHA-256 hashes.

use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use domain::{
    Timestamp,
    id::{SessionId, UserId},
};
use uuid::Uuid;

use crate::{
    Store, StoreError,
    account::AccountRow,
    schema::{accounts, oauth_codes, oauth_flows},
};

/// A sign-in that begins.
pub struct OauthFlowNew<'a> {
    /// Of the state that goes to the provider and comes back.
    pub state_sha256: &'a [u8],
    /// At which provider.
    pub provider: &'static str,
    /// Of the value in the browser's cookie.
    pub browser_sha256: &'a [u8],
    /// The PKCE verifier, sealed.
    pub pkce_verifier_sealed: &'a [u8],
    /// Path in the UI to go to in the end.
    pub return_to: &'a str,
    /// The account that asked to be linked, and in which session, if one did.
    pub linking: Option<(UserId, SessionId)>,
    /// Until when it may come back.
    pub expires_at: Timestamp,
}

/// A sign-in that came back. Holds a sealed secret: no `Debug`.
#[derive(Queryable, Selectable)]
#[diesel(table_name = oauth_flows, check_for_backend(diesel::pg::Pg))]
pub struct OauthFlowRow {
    /// The PKCE verifier, sealed.
    pub pkce_verifier_sealed: Vec<u8>,
    /// Path in the UI to go to in the end.
    pub return_to: String,
    account_id: Option<Uuid>,
    session_id: Option<Uuid>,
}

impl OauthFlowRow {
    /// The account that asked to be linked, and in which session, if one did.
    #[must_use]
    pub fn linking(&self) -> Option<(UserId, SessionId)> {
        Some((self.account_id?.into(), self.session_id?.into()))
    }
}

/// A one-time code that gets the tokens of a sign-in.
pub struct OauthCodeNew<'a> {
    /// Of the code.
    pub code_sha256: &'a [u8],
    /// Of the value in the cookie of the browser that signed in.
    pub browser_sha256: &'a [u8],
    /// Until when it may be used.
    pub expires_at: Timestamp,
}

impl Store {
    /// Writes down a sign-in that begins.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn oauth_flow_insert(&self, new: &OauthFlowNew<'_>) -> Result<(), StoreError> {
        let mut conn = self.conn().await?;
        let row = (
            oauth_flows::state_sha256.eq(new.state_sha256),
            oauth_flows::provider.eq(new.provider),
            oauth_flows::browser_sha256.eq(new.browser_sha256),
            oauth_flows::pkce_verifier_sealed.eq(new.pkce_verifier_sealed),
            oauth_flows::return_to.eq(new.return_to),
            oauth_flows::account_id.eq(new.linking.map(|(account, _)| account.uuid())),
            oauth_flows::session_id.eq(new.linking.map(|(_, session)| session.uuid())),
            oauth_flows::expires_at.eq(new.expires_at),
        );
        diesel::insert_into(oauth_flows::table).values(row).execute(&mut conn).await?;
        Ok(())
    }

    /// Takes a sign-in that came back to the browser it began in. `None` when there is
    /// none: never begun, of another browser, too late, or taken already.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn oauth_flow_take(
        &self,
        provider: &str,
        state_sha256: &[u8],
        browser_sha256: &[u8],
    ) -> Result<Option<OauthFlowRow>, StoreError> {
        let mut conn = self.conn().await?;
        let own = oauth_flows::table
            .filter(oauth_flows::state_sha256.eq(state_sha256))
            .filter(oauth_flows::browser_sha256.eq(browser_sha256))
            .filter(oauth_flows::provider.eq(provider))
            .filter(oauth_flows::expires_at.gt(diesel::dsl::now));
        let taken = diesel::delete(own).returning(OauthFlowRow::as_returning());
        Ok(taken.get_result(&mut conn).await.optional()?)
    }

    /// Takes a code that came from the browser which signed in, and gives the account
    /// that it is for, if that may act. `None` for any other code.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn oauth_code_take(
        &self,
        provider: &str,
        code_sha256: &[u8],
        browser_sha256: &[u8],
    ) -> Result<Option<AccountRow>, StoreError> {
        self.transact("oauth_code_take", async |conn| {
            let own = oauth_codes::table
                .filter(oauth_codes::code_sha256.eq(code_sha256))
                .filter(oauth_codes::browser_sha256.eq(browser_sha256))
                .filter(oauth_codes::method.eq(provider))
                .filter(oauth_codes::expires_at.gt(diesel::dsl::now));
            let taken = diesel::delete(own).returning(oauth_codes::account_id);
            let Some(account) = taken.get_result::<Uuid>(conn).await.optional()? else {
                return Ok(None);
            };
            let account = accounts::table
                .filter(accounts::id.eq(account))
                .filter(accounts::disabled_at.is_null())
                .select(AccountRow::as_select());
            Ok(account.first(conn).await.optional()?)
        })
        .await
    }
}

pub(crate) async fn oauth_code_insert_on_conn(
    conn: &mut AsyncPgConnection,
    (provider, account): (&str, UserId),
    new: &OauthCodeNew<'_>,
) -> Result<(), StoreError> {
    let row = (
        oauth_codes::code_sha256.eq(new.code_sha256),
        oauth_codes::account_id.eq(account.uuid()),
        oauth_codes::method.eq(provider),
        oauth_codes::browser_sha256.eq(new.browser_sha256),
        oauth_codes::expires_at.eq(new.expires_at),
    );
    diesel::insert_into(oauth_codes::table).values(row).execute(conn).await?;
    Ok(())
}
