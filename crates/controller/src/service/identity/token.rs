//! Invites and API tokens.

use std::time::Duration;

use chrono::{SubsecRound, Utc};
use domain::{Timestamp, id::UserId};
use store::{api_token::ApiTokenNew, audit::Actor};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{Services, account::role_name};
use crate::{
    auth::{
        caller::{Caller, Credential},
        policy::{self, covers},
        role::Role,
        token::{self, Secret},
    },
    error::{Error, ErrorKind},
};

/// Most scopes of a token.
const SCOPES_MAX: usize = 50;

/// What somebody wants a token to be.
pub struct TokenWish {
    /// What it is for; 1 to 100 printable characters.
    pub name: String,
    /// Names of permissions; see [`policy`].
    pub scopes: Vec<String>,
    /// For how long it is good; `None` is for good.
    pub lifetime: Option<Duration>,
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

/// A new invite.
pub struct InviteMade {
    /// Its id.
    pub id: Uuid,
    /// Its text; shown once.
    pub text: Zeroizing<String>,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// Whether scopes that a token has cover one that it would give away: no more of
/// the table than it covers itself, nor of what the table may get later.
fn scopes_cover(held: &[String], wanted: &str) -> bool {
    let all_later = |all: &str| wanted == all && !held.iter().any(|held| held == all || held == "*");
    if all_later("*") || all_later("*:read") {
        return false;
    }
    let reached = policy::TABLE.iter().filter(|rule| covers(wanted, rule));
    reached.into_iter().all(|rule| held.iter().any(|held| covers(held, rule)))
}

impl TokenWish {
    fn check(&self) -> Result<(), Error> {
        let Self { name, scopes, lifetime } = self;
        if !(1..=100).contains(&name.chars().count()) || name.contains(char::is_control) {
            return Err(Error::invalid_field("name", "must be 1 to 100 printable characters"));
        }
        if lifetime.is_some_and(|l| !(60..=315_360_000).contains(&l.as_secs())) {
            return Err(Error::invalid_field("expires_in_seconds", "must be 60 to 315360000 (ten years)"));
        }
        if scopes.is_empty() || scopes.len() > SCOPES_MAX || !scopes.iter().all(|s| policy::is_scope(s)) {
            let names: Vec<_> = policy::TABLE.iter().map(|rule| rule.name).collect();
            let message = format!("must be 1 to {SCOPES_MAX} of *, *:read, {}", names.join(", "));
            return Err(Error::invalid_field("scopes", message));
        }
        Ok(())
    }

    /// When the token ends, as exactly as the database keeps it.
    fn end(&self) -> Option<Timestamp> {
        self.lifetime.map(|l| (Utc::now() + l).trunc_subsecs(6))
    }
}

impl Services {
    /// Makes an invite for one account, with a role or with `None`.
    ///
    /// # Errors
    /// When the lifetime is out of range.
    pub async fn invite_create(
        &self,
        role: Option<Role>,
        lifetime: Duration,
        actor: &Actor,
    ) -> Result<InviteMade, Error> {
        if !(60..=30 * 24 * 3600).contains(&lifetime.as_secs()) {
            return Err(Error::invalid_field("expires_in_seconds", "must be 60 to 2592000 (30 days)"));
        }
        let secret = Secret::generate(token::Kind::Invite).map_err(Error::internal)?;
        let (id, expires_at) =
            self.store.invite_insert(&secret.sha256(), role_name(role), lifetime, actor).await?;
        Ok(InviteMade { id, text: secret.reveal(), expires_at })
    }

    /// Makes an API token that acts as an account, for whoever may do all that the
    /// account may.
    ///
    /// # Errors
    /// When name, scopes or lifetime are not allowed.
    pub async fn api_token_create(
        &self,
        account_id: UserId,
        wish: TokenWish,
        actor: &Actor,
    ) -> Result<ApiToken, Error> {
        wish.check()?;
        let expires_at = wish.end();
        self.api_token_make(account_id, wish, (expires_at, None), actor).await
    }

    /// Makes an API token with what the caller shows. A token that is made with a
    /// token covers no more than that one and does not outlive it: where no end is
    /// asked for, it ends with it.
    ///
    /// # Errors
    /// When name, scopes or lifetime are not allowed, or are more than the caller's
    /// own token has.
    pub async fn api_token_create_by(
        &self,
        caller: &Caller,
        account_id: UserId,
        wish: TokenWish,
        actor: &Actor,
    ) -> Result<ApiToken, Error> {
        let Credential::Token { id, scopes } = &caller.credential else {
            return self.api_token_create(account_id, wish, actor).await;
        };
        wish.check()?;
        if let Some(more) = wish.scopes.iter().find(|wanted| !scopes_cover(scopes, wanted)) {
            let message = format!("the API token that makes it does not cover {more}");
            return Err(Error::new(ErrorKind::PermissionDenied, "scope_missing", message));
        }
        let end = self.store.api_token_end(*id).await?;
        let wanted = wish.end();
        if let (Some(end), Some(wanted)) = (end, wanted)
            && wanted > end
        {
            let message = format!("must not be beyond the end of the API token that makes it, {end}");
            return Err(Error::invalid_field("expires_in_seconds", message));
        }
        self.api_token_make(account_id, wish, (wanted.or(end), Some(*id)), actor).await
    }

    async fn api_token_make(
        &self,
        account_id: UserId,
        wish: TokenWish,
        (expires_at, made_with): (Option<Timestamp>, Option<Uuid>),
        actor: &Actor,
    ) -> Result<ApiToken, Error> {
        let secret = Secret::generate(token::Kind::Api).map_err(Error::internal)?;
        let TokenWish { name, scopes, .. } = wish;
        let (id, sha256) = (Uuid::now_v7(), secret.sha256().to_vec());
        let new = ApiTokenNew { id, account_id, name, sha256, scopes, expires_at, made_with };
        self.store.api_token_insert(&new, actor).await?;
        Ok(ApiToken { id, text: secret.reveal().to_string(), expires_at })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scope() -> impl Strategy<Value = String> {
        let mut names: Vec<_> = policy::TABLE.iter().map(|rule| rule.name.to_owned()).collect();
        names.extend(["*".to_owned(), "*:read".to_owned()]);
        proptest::sample::select(names)
    }

    proptest! {
        #[test]
        fn what_a_token_gives_away_covers_nothing_that_it_does_not(
            held in proptest::collection::vec(scope(), 1..6), wanted in scope(), rule in 0..policy::TABLE.len(),
        ) {
            let rule = &policy::TABLE[rule];
            if scopes_cover(&held, &wanted) && covers(&wanted, rule) {
                prop_assert!(held.iter().any(|held| covers(held, rule)));
            }
        }

        #[test]
        fn a_token_may_give_away_what_it_has(held in proptest::collection::vec(scope(), 1..6)) {
            for wanted in &held {
                prop_assert!(scopes_cover(&held, wanted));
            }
        }
    }

    #[test]
    fn all_of_the_table_is_not_all() {
        let names: Vec<_> = policy::TABLE.iter().map(|rule| rule.name.to_owned()).collect();
        assert!(!scopes_cover(&names, "*") && !scopes_cover(&names, "*:read"));
        assert!(
            scopes_cover(&["*".to_owned()], "*:read") && scopes_cover(&["*:read".to_owned()], "nodes:read")
        );
        assert!(!scopes_cover(&["*:read".to_owned()], "nodes:write"));
    }
}
