//! Who is calling: accounts, sign-ins, tokens.
//!
//! | room | what it is for |
//! |---|---|
//! | [`account`] | accounts, and how they come to be |
//! | [`limits`] | how often somebody unknown may try |
//! | [`session`] | signing in and out, and what is in between |
//! | [`cache`] | who showed a token a moment ago |
//! | [`keys`] | the keys that sign access tokens |
//! | [`provider`] | signing in at a provider |
//! | [`token`] | invites and API tokens |

pub mod account;
pub mod cache;
pub mod keys;
pub mod limits;
pub mod provider;
pub mod session;
pub mod token;

use std::time::Instant;

use chrono::Utc;
use domain::{Timestamp, id::ProjectId};
use store::{
    audit::{Actor, ActorKind, AuditNew},
    caller::CallerRow,
    project::ProjectKey,
};

use super::Services;
use crate::{
    auth::{
        caller::{Caller, Credential},
        password::{HashError, Hasher},
        policy::Rule,
        role::Role,
        token as opaque,
    },
    error::{Error, ErrorKind},
};

/// What checks passwords and tokens.
pub struct Identity {
    /// Hashes.
    pub passwords: Hasher,
    /// Signatures.
    pub keys: keys::Keys,
    /// Who showed a token a moment ago.
    pub callers: cache::Callers,
}

/// A stored role; `None` for the one that is nothing.
pub(crate) fn role(text: &str) -> Result<Option<Role>, Error> {
    match (text, Role::parse(text)) {
        ("none", None) => Ok(None),
        (_, Some(role)) => Ok(Some(role)),
        _ => Err(Error::internal("an account has an unknown role")),
    }
}

/// A stored kind of account.
pub(crate) fn kind(text: &str) -> ActorKind {
    if text == "service" { ActorKind::Service } else { ActorKind::User }
}

fn caller(row: &CallerRow, credential: Credential) -> Result<Caller, Error> {
    let membership = |(project, text): (&uuid::Uuid, &String)| match role(text)? {
        Some(role) => Ok((*project, role)),
        None => Err(Error::internal("a member has no role")),
    };
    Ok(Caller {
        account_id: row.id(),
        name: row.name.clone(),
        kind: kind(&row.kind),
        role: role(&row.role)?,
        memberships: row.memberships.iter().map(membership).collect::<Result<_, Error>>()?,
        credential,
    })
}

/// One answer for everything that is wrong with a token, so that it tells nothing.
fn bad_token() -> Error {
    Error::new(ErrorKind::Unauthenticated, "bad_token", "the token is not good, or not good any more")
}

fn hash_error(error: HashError) -> Error {
    match error {
        HashError::Busy => {
            Error::new(ErrorKind::RateLimited, "too_many_sign_ins", "too many sign-ins at once; try again")
        }
        HashError::Unusable(fault) => Error::invalid_field("password", fault.to_string()),
        HashError::Random
        | HashError::Cost(_)
        | HashError::Library(_)
        | HashError::Threads(_)
        | HashError::Broken => Error::internal(error),
    }
}

impl Services {
    /// Says who a token belongs to, by the database's present state: as it is now, or
    /// was a moment ago and was not changed since (see [`cache`]).
    ///
    /// # Errors
    /// When it is not good, or not good any more.
    pub async fn authenticate(&self, text: &str, address: Option<&str>) -> Result<Caller, Error> {
        let key = opaque::sha256_of(text.as_bytes());
        let now = Instant::now();
        if let Some(known) = self.identity.callers.get(&key, (now, Utc::now())) {
            return Ok(known);
        }
        let ticket = self.identity.callers.ticket(now);
        let (caller, good_until) = self.look_up(text, address).await?;
        self.identity.callers.insert(key, &caller, ticket, good_until);
        Ok(caller)
    }

    /// Asks the database who a token belongs to, and until when that one's right ends by
    /// itself.
    async fn look_up(&self, text: &str, address: Option<&str>) -> Result<(Caller, Option<Timestamp>), Error> {
        if text.starts_with(opaque::Kind::Api.prefix()) {
            let found = self.store.api_token_caller(&opaque::sha256(text), address).await?;
            let found = found.ok_or_else(bad_token)?;
            let credential = Credential::Token { id: found.id, scopes: found.scopes };
            return Ok((caller(&found.caller, credential)?, found.expires_at));
        }
        let claims = self.access_token_verify(text).await?;
        let found = self.store.session_caller(claims.session).await?.ok_or_else(bad_token)?;
        if found.caller.id() != claims.account {
            return Err(bad_token());
        }
        let caller = caller(&found.caller, Credential::Session(claims.session))?;
        Ok((caller, Some(claims.expires_at.min(found.expires_at))))
    }

    /// Writes down that somebody was refused for lack of a permission, over an object of
    /// that project where it is about one.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn refused(
        &self,
        actor: &Actor,
        rule: &Rule,
        subject: &str,
        project: Option<ProjectId>,
    ) -> Result<(), Error> {
        let needs = serde_json::json!({ "needs": rule.name });
        let audit = AuditNew::refused("request", subject).change(None, Some(needs));
        let project = match project {
            Some(id) => self.store.project_fetch(&ProjectKey::Id(id)).await?,
            None => None,
        };
        let audit = match project {
            Some(project) => audit.in_project(project.name),
            None => audit,
        };
        Ok(self.store.audit_insert(actor, &audit).await?)
    }
}
