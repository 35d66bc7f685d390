//! Who is calling: accounts, sign-ins, tokens.

use std::time::Duration;

use chrono::Utc;
use domain::{
    Timestamp,
    id::{SessionId, UserId},
    name::Name,
};
use serde::Deserialize;
use store::{
    account::{AccountNew, AccountRow, CallerRow, SessionNew},
    event::{Actor, AuditNew},
};
use uuid::Uuid;

use super::Services;
use crate::{
    auth::{
        jwt::SigningKeys,
        password::{HashError, Hasher, Password, Verdict},
        role::Role,
        token::{self, Secret},
    },
    error::{Error, ErrorKind},
};

/// Who may register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Registration {
    /// Anybody, as a viewer; with an invite, with its role.
    Open,
    /// Who has an invite.
    Invite,
    /// Nobody.
    Closed,
}

/// What checks passwords and tokens.
pub struct Identity {
    /// Hashes.
    pub passwords: Hasher,
    /// Signatures.
    pub keys: SigningKeys,
}

/// Who is calling, as of now.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The account.
    pub account_id: UserId,
    /// Its name.
    pub name: String,
    /// Its role.
    pub role: Role,
    /// The sign-in, when it is one and not an API token.
    pub session_id: Option<SessionId>,
}

/// From where somebody signs in.
pub struct SignInFrom {
    /// Address and request.
    pub actor: Actor,
    /// What the client calls itself.
    pub user_agent: Option<String>,
}

/// A sign-in that succeeded.
pub struct SignedIn {
    /// The token.
    pub access_token: String,
    /// When it ends.
    pub expires_at: Timestamp,
    /// Who.
    pub caller: Caller,
}

/// A new API token.
pub struct ApiToken {
    /// Its id.
    pub id: Uuid,
    /// Its text; shown once.
    pub text: String,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
}

fn role(text: &str) -> Result<Role, Error> {
    Role::parse(text).ok_or_else(|| Error::internal("an account has an unknown role"))
}

fn caller(row: &CallerRow, session_id: Option<SessionId>) -> Result<Caller, Error> {
    Ok(Caller { account_id: row.id(), name: row.name.clone(), role: role(&row.role)?, session_id })
}

fn account(row: &AccountRow) -> Result<Caller, Error> {
    Ok(Caller { account_id: row.id(), name: row.name.clone(), role: role(&row.role)?, session_id: None })
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
        HashError::Random | HashError::Cost(_) | HashError::Library(_) | HashError::Stopping => {
            Error::internal(error)
        }
    }
}

impl Services {
    /// Makes an account as the registration policy allows.
    ///
    /// # Errors
    /// When the policy forbids it, the invite is not good, the name is taken, or
    /// name or password are not allowed.
    pub async fn account_register(
        &self,
        name: String,
        password: Password,
        invite: Option<&str>,
        actor: &Actor,
    ) -> Result<Caller, Error> {
        let policy = self.settings.registration;
        let closed = |code, message: &'static str| Error::new(ErrorKind::PermissionDenied, code, message);
        if policy == Registration::Closed {
            return Err(closed("registration_closed", "nobody can register here; ask an administrator"));
        }
        if policy == Registration::Invite && invite.is_none() {
            return Err(closed("invite_needed", "registration needs an invite"));
        }
        let new = self.account_new(name, password).await?;
        let actor = Actor { name: new.name.clone(), ..actor.clone() };
        let row = match invite {
            Some(invite) => self.store.account_register(&new, &token::sha256(invite), &actor).await?,
            None => self.store.account_insert(&new, Role::Viewer.as_str(), &actor).await?,
        };
        account(&row)
    }

    /// Makes an account with a role, for an administrator at the host.
    ///
    /// # Errors
    /// When the name is taken, or name or password are not allowed.
    pub async fn account_create(
        &self,
        name: String,
        password: Password,
        role: Role,
        actor: &Actor,
    ) -> Result<Caller, Error> {
        let new = self.account_new(name, password).await?;
        account(&self.store.account_insert(&new, role.as_str(), actor).await?)
    }

    async fn account_new(&self, name: String, password: Password) -> Result<AccountNew, Error> {
        let name = Name::parse(name).map_err(|e| Error::invalid_field("name", e.to_string()))?;
        if let Some(fault) = password.fault() {
            return Err(Error::invalid_field("password", fault.to_string()));
        }
        let password_hash = self.identity.passwords.hash(password).await.map_err(hash_error)?;
        Ok(AccountNew { id: UserId::from_uuid(Uuid::now_v7()), name: name.to_string(), password_hash })
    }

    /// Signs in. An unknown name and a wrong password take the same time and give
    /// the same answer.
    ///
    /// # Errors
    /// When they are not good, or too many sign-ins are under way.
    pub async fn sign_in(&self, name: &str, password: Password, from: SignInFrom) -> Result<SignedIn, Error> {
        // No database connection is held over the hash.
        let row = self.store.account_fetch_by_name(name).await?.filter(|row| row.disabled_at.is_none());
        let hash = row.as_ref().and_then(|row| row.password_hash.clone());
        let again = Password::new(password.reveal());
        let verdict = self.identity.passwords.verify(password, hash.clone()).await.map_err(hash_error)?;
        let Some(row) = row.filter(|_| verdict != Verdict::Wrong) else {
            let actor = Actor { name: "anonymous".to_owned(), ..from.actor };
            // A name that is not one could be anything, a password even: it is not written down.
            let shown = Name::parse(name).map_or_else(|_| "(not a name)".to_owned(), |name| name.to_string());
            self.store.audit_insert(&actor, &AuditNew::refused("sign_in", &shown)).await?;
            return Err(Error::new(
                ErrorKind::Unauthenticated,
                "bad_credentials",
                "name or password is wrong",
            ));
        };
        if let (Verdict::RightButOutdated, Some(old)) = (verdict, hash) {
            self.rehash(row.id(), &old, again).await;
        }
        let mut caller = account(&row)?;
        let session_id = SessionId::from_uuid(Uuid::now_v7());
        let expires_at = Utc::now() + self.settings.session_ttl;
        let actor = Actor { name: caller.name.clone(), account_id: Some(caller.account_id), ..from.actor };
        let session = SessionNew {
            id: session_id,
            account_id: caller.account_id,
            expires_at,
            address: actor.address.clone(),
            user_agent: from.user_agent,
        };
        self.store.session_insert(&session, &actor).await?;
        let issued = self
            .identity
            .keys
            .issue(caller.account_id, session_id, self.settings.session_ttl, Utc::now())
            .map_err(Error::internal)?;
        caller.session_id = Some(session_id);
        Ok(SignedIn { access_token: issued.token.to_string(), expires_at: issued.expires_at, caller })
    }

    /// Hashes a password again at the present cost. That it fails is no reason to
    /// refuse the sign-in; the next one tries again.
    async fn rehash(&self, account: UserId, old: &str, password: Password) {
        let new = self.identity.passwords.hash(password).await.map_err(hash_error);
        let kept = match new {
            Ok(new) => self.store.account_rehash(account, old, &new).await.map_err(Error::from),
            Err(e) => Err(e),
        };
        if let Err(e) = kept {
            tracing::warn!(error = e.chain(), "a password could not be hashed at the present cost");
        }
    }

    /// Ends a sign-in. An API token has none to end.
    ///
    /// # Errors
    /// When the caller uses an API token.
    pub async fn sign_out(&self, caller: &Caller, actor: &Actor) -> Result<(), Error> {
        let session = caller.session_id.ok_or_else(|| {
            Error::new(ErrorKind::Conflict, "no_session", "an API token belongs to no session")
        })?;
        Ok(self.store.session_end(session, actor).await?)
    }

    /// Says who a token belongs to, by the database's present state.
    ///
    /// # Errors
    /// When it is not good, or not good any more.
    pub async fn authenticate(&self, text: &str) -> Result<Caller, Error> {
        if text.starts_with(token::Kind::Api.prefix()) {
            let row = self.store.api_token_caller(&token::sha256(text)).await?;
            return caller(&row.ok_or_else(bad_token)?, None);
        }
        let claims = self.identity.keys.verify(text, Utc::now()).map_err(|e| bad_token().because(e))?;
        let row = self.store.session_caller(claims.session).await?.ok_or_else(bad_token)?;
        if row.id() != claims.account {
            return Err(bad_token());
        }
        caller(&row, Some(claims.session))
    }

    /// Writes down that somebody was refused for lack of a role.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn refused(&self, actor: &Actor) -> Result<(), Error> {
        Ok(self.store.audit_insert(actor, &AuditNew::refused("request", "role too low")).await?)
    }

    /// Makes an invite for one account.
    ///
    /// # Errors
    /// When the lifetime is out of range.
    pub async fn invite_create(
        &self,
        role: Role,
        lifetime: Duration,
        actor: &Actor,
    ) -> Result<(String, Timestamp), Error> {
        if !(60..=30 * 24 * 3600).contains(&lifetime.as_secs()) {
            return Err(Error::invalid_field("expires_in_seconds", "must be 60 to 2592000 (30 days)"));
        }
        let secret = Secret::generate(token::Kind::Invite).map_err(Error::internal)?;
        let expires_at = self.store.invite_insert(&secret.sha256(), role.as_str(), lifetime, actor).await?;
        Ok((secret.reveal().to_string(), expires_at))
    }

    /// Makes an API token that acts as an account.
    ///
    /// # Errors
    /// When name or lifetime are out of range.
    pub async fn api_token_create(
        &self,
        account: UserId,
        name: &str,
        lifetime: Option<Duration>,
        actor: &Actor,
    ) -> Result<ApiToken, Error> {
        if !(1..=100).contains(&name.chars().count()) || name.contains(char::is_control) {
            return Err(Error::invalid_field("name", "must be 1 to 100 printable characters"));
        }
        if lifetime.is_some_and(|l| !(60..=315_360_000).contains(&l.as_secs())) {
            return Err(Error::invalid_field("expires_in_seconds", "must be 60 to 315360000 (ten years)"));
        }
        let secret = Secret::generate(token::Kind::Api).map_err(Error::internal)?;
        let (id, expires_at) = (Uuid::now_v7(), lifetime.map(|l| Utc::now() + l));
        self.store.api_token_insert((id, account), name, &secret.sha256(), expires_at, actor).await?;
        Ok(ApiToken { id, text: secret.reveal().to_string(), expires_at })
    }
}
