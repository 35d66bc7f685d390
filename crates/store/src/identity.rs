//! Who an account is at a provider.
//!
//! The provider's own id decides, and nothing else: names and addresses there change
//! hands. A sign-in is one transaction: account, link, role and code, or nothing.

use diesel::{prelude::*, sql_types::Text};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use domain::id::{SessionId, UserId};
use serde_json::json;
use uuid::Uuid;

use crate::{
    Refusal, Store, StoreError,
    account::{AccountChange, AccountRow, account_update_in_txn},
    audit::{Actor, ActorKind, AuditNew, audit_insert_on_conn},
    invite::bootstrap_forget_on_conn,
    oauth::{OauthCodeNew, oauth_code_insert_on_conn},
    schema::{accounts, identities, sessions},
    txn::db_now,
};

/// Somebody whom a provider vouches for.
pub struct IdentityClaim<'a> {
    /// Which provider.
    pub provider: &'static str,
    /// The provider's own id.
    pub subject: &'a str,
    /// The name there, to be shown.
    pub login: &'a str,
    /// The verified address there.
    pub email: &'a str,
    /// The role that a mapping gives, if it gives one.
    pub mapped_role: Option<&'static str>,
    /// The role without a mapping: that of an account which had one by it.
    pub default_role: &'static str,
    /// Names for an account that is made, the first free one is taken; empty when
    /// none may be made.
    pub names: &'a [String],
}

/// What became of a claim. Unless it says otherwise, nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdentityOutcome {
    /// The code is for this account.
    SignedIn(UserId),
    /// Nobody is known by it, and no account may be made.
    Unknown,
    /// Its account may do nothing.
    Disabled,
    /// The session in which its account asked is over.
    SignedOut,
    /// It belongs to another account than the one that asked.
    OfAnother,
    /// The account that asked is linked to another one at this provider.
    HasAnother,
    /// It belongs to the account that asked, from now on if it did not before.
    Linked,
    /// Every name that was offered is in use.
    NoName,
}

/// What became of a wish to be linked no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unlinked {
    /// It is not linked any more.
    Yes,
    /// It was not linked.
    Missing,
    /// Nobody could sign in to the account any more. Nothing was changed.
    LastWay,
}

impl Store {
    /// Signs in whoever a provider vouches for: finds or makes the account, takes over
    /// a mapped role, and leaves the code that gets the tokens.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn identity_sign_in(
        &self,
        claim: &IdentityClaim<'_>,
        code: &OauthCodeNew<'_>,
        actor: &Actor,
    ) -> Result<IdentityOutcome, StoreError> {
        self.transact("identity_sign_in", async |conn| {
            lock(conn, claim).await?;
            let account = match fetch(conn, claim).await? {
                Some((account, _)) if account.disabled_at.is_some() => return Ok(IdentityOutcome::Disabled),
                Some((account, before)) => {
                    role_follow(conn, claim, (&account, before.as_deref()), actor).await?;
                    account.id()
                }
                None if claim.names.is_empty() => return Ok(IdentityOutcome::Unknown),
                None => match create(conn, claim, actor).await? {
                    Some(account) => account,
                    None => return Ok(IdentityOutcome::NoName),
                },
            };
            touch(conn, claim).await?;
            oauth_code_insert_on_conn(conn, (claim.provider, account), code).await?;
            Ok(IdentityOutcome::SignedIn(account))
        })
        .await
    }

    /// Links an account to whom a provider vouches for, while the session lasts in
    /// which it asked for that. Again: changes nothing.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn identity_link(
        &self,
        (account, session): (UserId, SessionId),
        claim: &IdentityClaim<'_>,
        actor: &Actor,
    ) -> Result<IdentityOutcome, StoreError> {
        self.transact("identity_link", async |conn| {
            lock(conn, claim).await?;
            let mine = accounts::table
                .inner_join(sessions::table)
                .filter(accounts::id.eq(account.uuid()))
                .filter(accounts::disabled_at.is_null())
                .filter(sessions::id.eq(session.uuid()))
                .filter(sessions::ended_at.is_null())
                .filter(sessions::expires_at.gt(diesel::dsl::now))
                .for_update();
            let mine = mine.select(AccountRow::as_select()).first(conn).await.optional()?;
            let Some(mine) = mine else { return Ok(IdentityOutcome::SignedOut) };
            match fetch(conn, claim).await? {
                Some((owner, _)) if owner.id() != account => return Ok(IdentityOutcome::OfAnother),
                Some(_) => return Ok(IdentityOutcome::Linked),
                None => {}
            }
            let other = identities::table
                .filter(identities::account_id.eq(account.uuid()))
                .filter(identities::provider.eq(claim.provider));
            if diesel::select(diesel::dsl::exists(other)).get_result(conn).await? {
                return Ok(IdentityOutcome::HasAnother);
            }
            insert(conn, claim, account, None).await?;
            let actor = Actor {
                name: mine.name.clone(),
                kind: ActorKind::User,
                account_id: Some(account),
                credential: Some(session.uuid()),
                ..actor.clone()
            };
            let audit = AuditNew::done("identity_link", &mine.name).change(None, Some(shown(claim)));
            audit_insert_on_conn(conn, &actor, &audit).await?;
            Ok(IdentityOutcome::Linked)
        })
        .await
    }

    /// Takes the link to a provider away, unless nobody could sign in any more.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn identity_unlink(
        &self,
        account: UserId,
        provider: &str,
        actor: &Actor,
    ) -> Result<Unlinked, StoreError> {
        self.transact("identity_unlink", async |conn| {
            // Of two links that are taken away at once, the second sees that it is the last.
            let row = accounts::table.filter(accounts::id.eq(account.uuid())).for_update();
            let password: Option<Option<String>> =
                row.select(accounts::password_hash).first(conn).await.optional()?;
            let links = identities::table.filter(identities::account_id.eq(account.uuid()));
            let providers: Vec<String> = links.select(identities::provider).load(conn).await?;
            if !providers.iter().any(|linked| linked == provider) {
                return Ok(Unlinked::Missing);
            }
            if providers.len() == 1 && password.flatten().is_none() {
                return Ok(Unlinked::LastWay);
            }
            let gone = links.filter(identities::provider.eq(provider));
            let subject: String =
                diesel::delete(gone).returning(identities::subject).get_result(conn).await?;
            let before = json!({ "provider": provider, "subject": subject });
            let audit = AuditNew::done("identity_unlink", &actor.name).change(Some(before), None);
            audit_insert_on_conn(conn, actor, &audit).await?;
            Ok(Unlinked::Yes)
        })
        .await
    }
}

/// Two first sign-ins of one person at once make one account: the second waits here
/// and then finds it.
async fn lock(conn: &mut AsyncPgConnection, claim: &IdentityClaim<'_>) -> Result<(), StoreError> {
    diesel::sql_query("select pg_advisory_xact_lock(hashtextextended($1, 67))")
        .bind::<Text, _>(format!("identity {} {}", claim.provider, claim.subject))
        .execute(conn)
        .await?;
    Ok(())
}

/// The account that it belongs to, and the role that was mapped last.
async fn fetch(
    conn: &mut AsyncPgConnection,
    claim: &IdentityClaim<'_>,
) -> Result<Option<(AccountRow, Option<String>)>, StoreError> {
    let query = identities::table
        .inner_join(accounts::table)
        .filter(identities::provider.eq(claim.provider))
        .filter(identities::subject.eq(claim.subject))
        .select((AccountRow::as_select(), identities::mapped_role));
    Ok(query.first(conn).await.optional()?)
}

async fn insert(
    conn: &mut AsyncPgConnection,
    claim: &IdentityClaim<'_>,
    account: UserId,
    mapped_role: Option<&str>,
) -> Result<(), StoreError> {
    let row = (
        identities::provider.eq(claim.provider),
        identities::subject.eq(claim.subject),
        identities::account_id.eq(account.uuid()),
        identities::login.eq(claim.login),
        identities::email.eq(claim.email),
        identities::mapped_role.eq(mapped_role),
    );
    diesel::insert_into(identities::table).values(row).execute(conn).await?;
    Ok(())
}

/// Makes the account under the first name that is free.
async fn create(
    conn: &mut AsyncPgConnection,
    claim: &IdentityClaim<'_>,
    actor: &Actor,
) -> Result<Option<UserId>, StoreError> {
    let role = claim.mapped_role.unwrap_or(claim.default_role);
    for name in claim.names {
        let id = UserId::from_uuid(Uuid::now_v7());
        let made = diesel::insert_into(accounts::table)
            .values((
                accounts::id.eq(id.uuid()),
                accounts::name.eq(name),
                accounts::kind.eq("user"),
                accounts::email.eq(claim.email),
                accounts::role.eq(role),
            ))
            // A name in use must not end the transaction.
            .on_conflict(accounts::name)
            .do_nothing()
            .execute(conn)
            .await?;
        if made == 1 {
            insert(conn, claim, id, claim.mapped_role).await?;
            if role == "admin" {
                bootstrap_forget_on_conn(conn).await?;
            }
            let after = json!({ "role": role, "identity": shown(claim) });
            let audit = AuditNew::done("account_create", name).change(None, Some(after));
            audit_insert_on_conn(conn, actor, &audit).await?;
            return Ok(Some(id));
        }
    }
    Ok(None)
}

/// Writes down how it is called now, and that it signed in.
async fn touch(conn: &mut AsyncPgConnection, claim: &IdentityClaim<'_>) -> Result<(), StoreError> {
    let own = identities::table
        .filter(identities::provider.eq(claim.provider))
        .filter(identities::subject.eq(claim.subject));
    diesel::update(own)
        .set((
            identities::login.eq(claim.login),
            identities::email.eq(claim.email),
            identities::mapped_role.eq(claim.mapped_role),
            identities::last_sign_in_at.eq(db_now()),
        ))
        .execute(conn)
        .await?;
    Ok(())
}

/// Gives the account the role that the mapping says now. An account that had its role
/// by the mapping, and is in no mapped team any more, falls back to the default role;
/// one that got its role here from an administrator keeps it. So does the last
/// administrator: who is locked out cannot let anybody in.
async fn role_follow(
    conn: &mut AsyncPgConnection,
    claim: &IdentityClaim<'_>,
    (account, before): (&AccountRow, Option<&str>),
    actor: &Actor,
) -> Result<(), StoreError> {
    let fallen = before.filter(|before| *before == account.role).map(|_| claim.default_role);
    let Some(role) = claim.mapped_role.or(fallen).filter(|role| *role != account.role) else {
        return Ok(());
    };
    let change = AccountChange { role: Some(role), disabled: None };
    match account_update_in_txn(conn, account.id(), &change, actor).await {
        Ok(_) => Ok(()),
        Err(StoreError::Refused(Refusal::LastAdmin(name))) => {
            let after = json!({ "role": role, "by": claim.provider, "reason": "last_admin" });
            let audit = AuditNew::refused("account_update", &name).change(None, Some(after));
            audit_insert_on_conn(conn, actor, &audit).await
        }
        Err(e) => Err(e),
    }
}

fn shown(claim: &IdentityClaim<'_>) -> serde_json::Value {
    json!({ "provider": claim.provider, "subject": claim.subject, "login": claim.login })
}
