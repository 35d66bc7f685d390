//! How often somebody who is not known yet may try, over all controllers.
//!
//! Two limits, both kept in the database: attempts of an address, whatever becomes of
//! them, and failed sign-ins to a name, wherever they come from. A name is limited
//! whether there is such an account or not, so that it tells nothing; and it is spent
//! before the password is looked at, so that many at once are not more than one after
//! the other. What comes out well is given back.

use std::net::IpAddr;

use domain::{
    limit::{Rate, Taken},
    name::Name,
};
use store::audit::Actor;

use super::Services;
use crate::{
    auth::{caller::Caller, token::sha256_of},
    error::Error,
    service::{
        Settings,
        flood::{Flood, source},
    },
};

/// The code of the only error that counts as a failed sign-in.
pub(super) const BAD_CREDENTIALS: &str = "bad_credentials";

/// The limits of this process alone.
pub struct Floods {
    attempts: Option<Flood>,
    requests: Option<Flood>,
}

impl Floods {
    /// As configured.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        let per_second = settings.edge.requests_per_second.and_then(|n| {
            let burst = n.get().saturating_mul(2);
            Rate::new(burst, std::time::Duration::from_secs(2))
        });
        Self { attempts: Flood::new(settings.edge.attempts), requests: Flood::new(per_second) }
    }

    /// Lets any request of an address pass, or not.
    ///
    /// # Errors
    /// When there were too many.
    pub fn request(&self, address: IpAddr) -> Result<(), Error> {
        self.requests.as_ref().map_or(Ok(()), |flood| flood.check(address))
    }
}

/// A failed sign-in that was spent before it was one.
#[must_use]
pub struct Spent(Option<([u8; 32], Rate)>);

impl Services {
    /// Takes an attempt of an address; says what is left, where there is a limit.
    ///
    /// # Errors
    /// When none is left; says when there is one again.
    pub async fn attempt_take(&self, address: Option<IpAddr>) -> Result<Option<Taken>, Error> {
        let Some(rate) = self.settings.edge.attempts else { return Ok(None) };
        let source = address.map(source);
        if let (Some(flood), Some(source)) = (&self.floods.attempts, source) {
            flood.check(source)?;
        }
        let shown = source.map_or_else(|| "unknown".to_owned(), |source| source.to_string());
        let taken = self.store.limit_take(&key("attempts of address", &shown), rate, 1).await?;
        if taken.allowed { Ok(Some(taken)) } else { Err(Error::rate_limited(taken)) }
    }

    /// Spends a failed sign-in to `name`, before it is known how it comes out.
    ///
    /// # Errors
    /// When there were too many; says when the next may be tried.
    pub(super) async fn failure_take(&self, name: &str, actor: &Actor) -> Result<Spent, Error> {
        self.failure_take_of(key("failed sign-ins to", name), ("sign_in", &shown(name)), actor).await
    }

    /// Spends a wrong present password of an account whose session changes it. Apart from
    /// the sign-ins, so that strangers who fail at those do not lock its owner out of this.
    ///
    /// # Errors
    /// When there were too many; says when the next may be tried.
    pub(super) async fn present_password_take(&self, caller: &Caller, actor: &Actor) -> Result<Spent, Error> {
        let key = key("wrong present passwords of", &caller.account_id.to_string());
        self.failure_take_of(key, ("password_change", &caller.name), actor).await
    }

    async fn failure_take_of(
        &self,
        key: [u8; 32],
        (action, subject): (&'static str, &str),
        actor: &Actor,
    ) -> Result<Spent, Error> {
        let Some(rate) = self.settings.edge.failures else { return Ok(Spent(None)) };
        let taken = self.store.limit_take(&key, rate, 1).await?;
        if taken.allowed {
            return Ok(Spent(Some((key, rate))));
        }
        self.stranger_refused(actor, action, subject).await;
        Err(Error::rate_limited(taken))
    }

    /// Gives back what was spent, unless the sign-in failed for what was shown.
    pub(super) async fn failure_settle<T>(&self, spent: Spent, result: &Result<T, Error>) {
        if !result.as_ref().is_err_and(|error| error.code() == BAD_CREDENTIALS) {
            self.failure_give_back(spent).await;
        }
    }

    /// Gives back what was spent: nothing failed.
    pub(super) async fn failure_give_back(&self, spent: Spent) {
        let Spent(Some((key, rate))) = spent else { return };
        if let Err(e) = self.store.limit_give_back(&key, rate, 1).await {
            tracing::warn!(
                error = Error::from(e).chain(),
                "a sign-in that did not fail counts as one that did"
            );
        }
    }
}

/// A name that is not one could be anything, a password even: it is not written down.
pub(super) fn shown(name: &str) -> String {
    Name::parse(name).map_or_else(|_| "(not a name)".to_owned(), |name| name.to_string())
}

/// What is limited, hashed: a name that was typed may be a password.
fn key(what: &str, whose: &str) -> [u8; 32] {
    sha256_of(format!("{what} {whose}").as_bytes())
}
