//! Signing in and out, and what is in between.

use chrono::Utc;
use domain::{
    Timestamp,
    id::{SessionId, UserId},
};
use store::{
    Cursor, Page,
    account::AccountRow,
    audit::{Actor, AuditNew},
    session::{Refresh, Refreshed, SessionNew, SessionRow},
};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{
    Services, bad_token, hash_error,
    limits::{BAD_CREDENTIALS, shown},
};
use crate::{
    auth::{
        caller::Caller,
        password::{Password, Verdict},
        token::{self, Secret},
    },
    error::{Error, ErrorKind},
};

/// From where somebody signs in.
pub struct SignInFrom {
    /// Address and request.
    pub actor: Actor,
    /// What the client calls itself.
    pub user_agent: Option<String>,
}

/// A session's tokens, to be handed to whoever signed in.
pub struct SignedIn {
    /// The access token.
    pub access_token: Zeroizing<String>,
    /// When it ends.
    pub expires_at: Timestamp,
    /// The token that gets the next access token, once.
    pub refresh_token: Zeroizing<String>,
    /// When that one ends, and the session with it.
    pub refresh_expires_at: Timestamp,
    /// Who.
    pub account: AccountRow,
}

impl Services {
    /// Signs in. An unknown name and a wrong password take the same time and give
    /// the same answer.
    ///
    /// # Errors
    /// When they are not good, or too many sign-ins are under way.
    pub async fn sign_in(&self, name: &str, password: Password, from: SignInFrom) -> Result<SignedIn, Error> {
        let spent = self.failure_take(name, &from.actor).await?;
        let result = self.sign_in_checked(name, password, from).await;
        self.failure_settle(spent, &result).await;
        result
    }

    async fn sign_in_checked(
        &self,
        name: &str,
        password: Password,
        from: SignInFrom,
    ) -> Result<SignedIn, Error> {
        // Twice, if need be: another sign-in may give the account a new hash of the same
        // password while this one is checked.
        for _ in 0..2 {
            // No database connection is held over the hash.
            let row = self.store.account_fetch_by_name(name).await?.filter(|row| row.disabled_at.is_none());
            let hash = row.as_ref().and_then(|row| row.password_hash.clone());
            let shown = Password::new(password.reveal());
            let verdict = self.identity.passwords.verify(shown, hash.clone()).await.map_err(hash_error)?;
            let Some(row) = row.filter(|_| verdict != Verdict::Wrong) else { break };
            let opened = self.session_open(&row, "password", hash.as_deref(), &from).await?;
            if let Some(signed_in) = opened {
                if let (Verdict::RightButOutdated, Some(old)) = (verdict, hash) {
                    self.rehash(row.id(), &old, password).await;
                }
                return Ok(signed_in);
            }
        }
        self.store.audit_insert(&from.actor, &AuditNew::refused("sign_in", &shown(name))).await?;
        Err(Error::new(ErrorKind::Unauthenticated, BAD_CREDENTIALS, "name or password is wrong"))
    }

    /// Opens a session for an account whose owner has proven to be it, by `method`
    /// (a provider's name).
    ///
    /// # Errors
    /// When the account is disabled, or the database is not there.
    pub async fn session_begin(
        &self,
        row: &AccountRow,
        method: &'static str,
        from: SignInFrom,
    ) -> Result<SignedIn, Error> {
        self.session_open(row, method, None, &from).await?.ok_or_else(|| {
            Error::new(ErrorKind::PermissionDenied, "account_disabled", "the account is disabled")
        })
    }

    /// Opens a session, unless the account has another hash than `shown` or is disabled.
    async fn session_open(
        &self,
        row: &AccountRow,
        method: &'static str,
        shown: Option<&str>,
        from: &SignInFrom,
    ) -> Result<Option<SignedIn>, Error> {
        let (session, refresh) = self.session_new(row.id(), method, from)?;
        let actor = Actor {
            name: row.name.clone(),
            kind: super::kind(&row.kind),
            account_id: Some(row.id()),
            credential: Some(session.id.uuid()),
            ..from.actor.clone()
        };
        if !self.store.session_insert(&session, shown, &actor).await? {
            return Ok(None);
        }
        self.signed_in(row, session.id, (&refresh, session.expires_at)).map(Some)
    }

    fn session_new(
        &self,
        account_id: UserId,
        method: &'static str,
        from: &SignInFrom,
    ) -> Result<(SessionNew, Secret), Error> {
        let refresh = Secret::generate(token::Kind::Refresh).map_err(Error::internal)?;
        let session = SessionNew {
            id: SessionId::from_uuid(Uuid::now_v7()),
            account_id,
            method,
            refresh_sha256: refresh.sha256().to_vec(),
            expires_at: Utc::now() + self.settings.session_ttl,
            address: from.actor.address.clone(),
            user_agent: from.user_agent.clone(),
        };
        Ok((session, refresh))
    }

    /// The tokens of a session that is in the database.
    fn signed_in(
        &self,
        account: &AccountRow,
        session: SessionId,
        (refresh, refresh_expires_at): (&Secret, Timestamp),
    ) -> Result<SignedIn, Error> {
        let lifetime = self.settings.access_token_ttl;
        let keys = self.identity.keys.current();
        let issued = keys.issue(account.id(), session, lifetime, Utc::now()).map_err(Error::internal)?;
        Ok(SignedIn {
            access_token: issued.token,
            expires_at: issued.expires_at,
            refresh_token: refresh.reveal(),
            refresh_expires_at,
            account: account.clone(),
        })
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

    /// Continues a session: gives the next tokens for its refresh token, which is good
    /// once. One that was used before ends the session, for then two have it; only
    /// within ten seconds it gets a sibling, for two tabs that ask at once.
    ///
    /// # Errors
    /// One and the same for all that is wrong with the token.
    pub async fn session_refresh(&self, shown: &str, actor: &Actor) -> Result<SignedIn, Error> {
        let shown = Secret::parse(token::Kind::Refresh, shown).map_err(|e| bad_token().because(e))?;
        let next = Secret::generate(token::Kind::Refresh).map_err(Error::internal)?;
        let (now, lifetime) = (Utc::now(), self.settings.session_ttl);
        let refresh = Refresh {
            shown_sha256: shown.sha256().to_vec(),
            next_sha256: next.sha256().to_vec(),
            expires_at: now + lifetime,
            oldest: now - lifetime,
        };
        match self.store.session_refresh(&refresh, actor).await? {
            Refreshed::Done(session, account) => {
                self.signed_in(&account, session, (&next, refresh.expires_at))
            }
            Refreshed::Reused(session) => {
                tracing::warn!(session.id = %session, "a refresh token came again; its session is ended");
                Err(bad_token())
            }
            Refreshed::Unknown => Err(bad_token()),
        }
    }

    /// Changes the caller's password, ends all sessions of the account, and opens
    /// another one in place of the caller's.
    ///
    /// # Errors
    /// When the caller uses an API token, the present password is wrong, or the new one
    /// is not allowed.
    pub async fn password_change(
        &self,
        (caller, from): (&Caller, SignInFrom),
        current: Password,
        new: Password,
    ) -> Result<SignedIn, Error> {
        session_of(caller)?;
        if let Some(fault) = new.fault() {
            return Err(Error::invalid_field("new_password", fault.to_string()));
        }
        let row = self.store.account_fetch_by_name(&caller.name).await?.ok_or_else(bad_token)?;
        let old = row.password_hash.clone();
        // Whoever has stolen a session guesses no faster than whoever has none.
        let spent = self.present_password_take(caller, &from.actor).await?;
        let verdict = self.identity.passwords.verify(current, old.clone()).await.map_err(hash_error);
        if !matches!(verdict, Ok(Verdict::Wrong)) {
            self.failure_give_back(spent).await;
        }
        let verdict = verdict?;
        let Some(old) = old.filter(|_| verdict != Verdict::Wrong) else {
            let refused = AuditNew::refused("password_change", &caller.name);
            self.store.audit_insert(&from.actor, &refused).await?;
            return Err(Error::invalid_field("current_password", "is not the account's password"));
        };
        let hash = self.identity.passwords.hash(new).await.map_err(hash_error)?;
        let (session, refresh) = self.session_new(row.id(), "password", &from)?;
        if !self.store.session_renew_with_password((&old, &hash), &session, &from.actor).await? {
            let message = "the password was changed by somebody else meanwhile";
            return Err(Error::new(ErrorKind::Conflict, "password_changed", message));
        }
        self.signed_in(&row, session.id, (&refresh, session.expires_at))
    }

    /// Ends a sign-in. An API token has none to end.
    ///
    /// # Errors
    /// When the caller uses an API token.
    pub async fn sign_out(&self, caller: &Caller, actor: &Actor) -> Result<(), Error> {
        let session = session_of(caller)?;
        self.store.session_end(caller.account_id, session, "signed_out", actor).await?;
        Ok(())
    }

    /// Ends all of the caller's sessions.
    ///
    /// # Errors
    /// When the caller uses an API token.
    pub async fn sign_out_everywhere(&self, caller: &Caller, actor: &Actor) -> Result<(), Error> {
        session_of(caller)?;
        self.sessions_end_all(caller.account_id, "signed_out_everywhere", actor).await?;
        Ok(())
    }

    /// Ends all sessions of an account; says how many they were.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn sessions_end_all(
        &self,
        account: UserId,
        reason: &str,
        actor: &Actor,
    ) -> Result<usize, Error> {
        Ok(self.store.session_end_all(account, reason, actor).await?)
    }

    /// The caller's open sessions, the newest first.
    ///
    /// # Errors
    /// When the caller uses an API token.
    pub async fn session_list(
        &self,
        caller: &Caller,
        (after, limit): (Option<Cursor>, usize),
    ) -> Result<Page<SessionRow>, Error> {
        session_of(caller)?;
        Ok(self.store.session_list(caller.account_id, after, limit).await?)
    }

    /// Ends one of the caller's sessions.
    ///
    /// # Errors
    /// When it is not open or somebody else's, or the caller uses an API token.
    pub async fn session_end(&self, caller: &Caller, id: SessionId, actor: &Actor) -> Result<(), Error> {
        session_of(caller)?;
        if self.store.session_end(caller.account_id, id, "ended_by_owner", actor).await? {
            Ok(())
        } else {
            Err(Error::not_found("session"))
        }
    }
}

/// The session that somebody calls with. An API token is for programs: whoever got hold
/// of one should not be able to take over or lock out its account.
fn session_of(caller: &Caller) -> Result<SessionId, Error> {
    caller.session_id().ok_or_else(|| {
        Error::new(
            ErrorKind::Conflict,
            "no_session",
            "this needs a sign-in; an API token belongs to no session",
        )
    })
}
