//! Signing in at a provider: what happens here before, between and after.
//!
//! The browser goes out with a state and comes back with it; a signed cookie shows
//! that it is the same browser, also when it fetches the tokens in the end. Nothing is
//! written between the state being taken and the one transaction that finishes the
//! sign-in, so one that fails on its way leaves nothing behind.

use std::sync::Arc;

use chrono::{TimeDelta, Utc};
use domain::id::{SessionId, UserId};
use oauth2::CsrfToken;
use serde_json::json;
use store::{
    audit::{Actor, AuditNew},
    identity::{IdentityClaim, IdentityOutcome, Unlinked},
    oauth::{OauthCodeNew, OauthFlowNew, OauthFlowRow},
};
use url::Url;
use zeroize::Zeroizing;

use super::{
    Services,
    session::{SignInFrom, SignedIn},
};
use crate::{
    auth::{
        caller::Caller,
        oauth::{Profile, Provider, allow::Admission, fault::Fault, flow},
        role::Role,
        token::{self, Secret},
    },
    error::{Error, ErrorKind},
};

/// How long a sign-in at a provider may take, in seconds.
pub const FLOW_SECONDS: u32 = 600;
/// How long a browser has to fetch the tokens.
const CODE_LIFETIME: TimeDelta = TimeDelta::seconds(60);
/// The role of an account that nothing gives one.
const NO_ROLE: &str = "none";

/// A browser that is sent to a provider.
pub struct Begun {
    /// Where to.
    pub url: Url,
    /// For its cookie.
    pub browser: Zeroizing<String>,
}

/// What a browser brings back from a provider. Anything may be in it.
#[derive(Default)]
pub struct CameBack {
    /// Gets the provider's word.
    pub code: Option<String>,
    /// What it was sent with.
    pub state: Option<String>,
    /// Why there is no code.
    pub error: Option<String>,
    /// The value in its cookie, if we signed it.
    pub browser: Option<String>,
}

impl Services {
    /// Whether signing in with a provider is set up.
    #[must_use]
    pub fn has_provider(&self, name: &str) -> bool {
        self.providers.get(name).is_some()
    }

    fn provider(&self, name: &str) -> Result<Arc<Provider>, Error> {
        self.providers.get(name).ok_or_else(|| {
            Error::new(
                ErrorKind::NotFound,
                "provider_not_configured",
                format!("signing in with {name} is not set up here"),
            )
        })
    }

    /// Sends a browser to a provider: to sign in, or to link the account of `caller`.
    ///
    /// # Errors
    /// When the provider is not configured, or `return_to` is no path in the UI.
    pub async fn provider_begin(
        &self,
        provider: &str,
        return_to: Option<&str>,
        caller: Option<&Caller>,
    ) -> Result<Begun, Error> {
        let provider = self.provider(provider)?;
        let return_to = flow::return_to(return_to.unwrap_or("/"), &self.providers.public_url)
            .map_err(|e| Error::invalid_field("return_to", e.to_string()))?;
        let linking = match caller {
            Some(caller) => Some((caller.account_id, caller.session_id().ok_or_else(session_needed)?)),
            None => None,
        };
        let departure = provider.begin();
        let state_sha256 = token::sha256(&departure.state);
        let browser = Zeroizing::new(CsrfToken::new_random_len(32).into_secret());
        let sealed = self
            .providers
            .sealing
            .seal(&aad(&state_sha256), departure.verifier.as_bytes())
            .map_err(Error::internal)?;
        let new = OauthFlowNew {
            state_sha256: &state_sha256,
            provider: provider.name(),
            browser_sha256: &token::sha256(&browser),
            pkce_verifier_sealed: &sealed,
            return_to: &return_to,
            linking,
            expires_at: Utc::now() + TimeDelta::seconds(i64::from(FLOW_SECONDS)),
        };
        self.store.oauth_flow_insert(&new).await?;
        Ok(Begun { url: departure.url, browser })
    }

    /// Takes a browser that came back, and says where in the UI it goes: with a one-time
    /// code for the tokens, or with the word that the account is linked.
    ///
    /// # Errors
    /// See [`Fault`]; it is written down, and nothing was changed.
    pub async fn provider_finish(&self, provider: &str, back: CameBack, actor: &Actor) -> Result<Url, Fault> {
        let mut subject = provider.to_owned();
        let finished = self.finish(provider, back, actor, &mut subject).await;
        if let Err(fault) = &finished {
            self.provider_fault(provider, fault, &subject, actor).await;
        }
        finished
    }

    async fn finish(
        &self,
        provider: &str,
        back: CameBack,
        actor: &Actor,
        subject: &mut String,
    ) -> Result<Url, Fault> {
        let provider = self.provider(provider)?;
        let (state, browser) = (back.state.ok_or(Fault::State)?, back.browser.ok_or(Fault::State)?);
        let (state_sha256, browser_sha256) = (token::sha256(&state), token::sha256(&browser));
        let taken = self.store.oauth_flow_take(provider.name(), &state_sha256, &browser_sha256).await;
        let taken = taken.map_err(Error::from)?.ok_or(Fault::State)?;
        let code = match (back.error.as_deref(), back.code) {
            (None, Some(code)) => code,
            (Some("access_denied"), _) => return Err(Fault::Denied),
            (Some(other), _) => return Err(Fault::Misconfigured(other.chars().take(64).collect())),
            (None, None) => return Err(Fault::State),
        };
        let verifier = self.verifier(&taken, &state_sha256)?;
        let asked = provider.clone();
        // On the main runtime: its connections must not end with this worker. The
        // provider's own deadline bounds it.
        let profile = self
            .supervisor
            .spawn("sign-in at a provider", async move { asked.profile(code, verifier).await });
        let profile = profile.await.ok().flatten();
        let profile = profile.ok_or_else(|| Error::internal("a sign-in at a provider panicked"))??;
        subject.clone_from(&profile.login);
        match taken.linking() {
            Some(asked) => self.link(&provider, &profile, (asked, &taken.return_to), actor).await,
            None => self.admit(&provider, &profile, (&browser_sha256, &taken.return_to), actor).await,
        }
    }

    fn verifier(&self, taken: &OauthFlowRow, state_sha256: &[u8]) -> Result<Zeroizing<String>, Error> {
        let opened = self.providers.sealing.open(&aad(state_sha256), &taken.pkce_verifier_sealed);
        let opened = opened.map_err(Error::internal)?;
        let text = std::str::from_utf8(&opened).map_err(Error::internal)?;
        Ok(Zeroizing::new(text.to_owned()))
    }

    /// Signs in whoever came back.
    async fn admit(
        &self,
        provider: &Provider,
        profile: &Profile,
        (browser_sha256, return_to): (&[u8], &str),
        actor: &Actor,
    ) -> Result<Url, Fault> {
        let names = match profile.admission {
            Admission::No => return Err(Fault::NotAllowed),
            Admission::Known { .. } => Vec::new(),
            Admission::New { .. } => flow::names(&profile.login, &profile.subject),
        };
        let code = Secret::generate(token::Kind::Code).map_err(Error::internal)?;
        let url = self.landing(return_to, ("code", &code.reveal()))?;
        let new = OauthCodeNew {
            code_sha256: &code.sha256(),
            browser_sha256,
            expires_at: Utc::now() + CODE_LIFETIME,
        };
        let claim = claim(provider, profile, &names);
        match self.store.identity_sign_in(&claim, &new, actor).await.map_err(Error::from)? {
            IdentityOutcome::NoName => Err(Error::internal("every name for a new account is in use").into()),
            outcome => came_to(outcome).map(|()| url),
        }
    }

    /// Links whoever came back to the account that sent that one out.
    async fn link(
        &self,
        provider: &Provider,
        profile: &Profile,
        (asked, return_to): ((UserId, SessionId), &str),
        actor: &Actor,
    ) -> Result<Url, Fault> {
        if profile.admission == Admission::No {
            return Err(Fault::NotAllowed);
        }
        let url = self.landing(return_to, ("linked", provider.name()))?;
        let claim = claim(provider, profile, &[]);
        let outcome = self.store.identity_link(asked, &claim, actor).await.map_err(Error::from)?;
        came_to(outcome).map(|()| url)
    }

    fn landing(&self, return_to: &str, with: (&str, &str)) -> Result<Url, Error> {
        flow::landing(return_to, &self.providers.public_url, with).map_err(Error::internal)
    }

    /// Exchanges a one-time code for a session's tokens.
    ///
    /// # Errors
    /// When the code is not good any more, or came from another browser.
    pub async fn provider_exchange(
        &self,
        provider: &str,
        code: &str,
        browser: Option<&str>,
        from: SignInFrom,
    ) -> Result<SignedIn, Error> {
        let provider = self.provider(provider)?;
        let taken = match browser {
            Some(browser) => {
                let (code, browser) = (token::sha256(code), token::sha256(browser));
                self.store.oauth_code_take(provider.name(), &code, &browser).await?
            }
            None => None,
        };
        let Some(account) = taken else {
            self.stranger_refused(&from.actor, "sign_in", provider.name()).await;
            return Err(Error::new(
                ErrorKind::Unauthenticated,
                "bad_code",
                "the code is unknown, used up, expired, or of another browser; sign in again",
            ));
        };
        self.session_begin(&account, provider.name(), from).await
    }

    /// Takes the link to a provider away from the caller's account.
    ///
    /// # Errors
    /// When there is none, or nobody could sign in to the account any more.
    pub async fn provider_unlink(&self, provider: &str, caller: &Caller, actor: &Actor) -> Result<(), Error> {
        if caller.session_id().is_none() {
            return Err(session_needed());
        }
        match self.store.identity_unlink(caller.account_id, provider, actor).await? {
            Unlinked::Yes => Ok(()),
            Unlinked::Missing => Err(Error::not_found("link")),
            Unlinked::LastWay => Err(Error::new(
                ErrorKind::Conflict,
                "last_way_to_sign_in",
                "the account has no password, so nobody could sign in to it any more",
            )),
        }
    }

    /// Writes down that a sign-in ended. That it cannot be written changes no answer.
    async fn provider_fault(&self, provider: &str, fault: &Fault, subject: &str, actor: &Actor) {
        let code = fault.shown().code;
        let chain = crate::error::chain(fault);
        if matches!(fault, Fault::State) {
            // Whoever calls the address comes here: a flood of that must not be one of lines.
            self.stranger_refused(actor, "sign_in", provider).await;
            return;
        }
        let audit = if fault.is_refusal() {
            tracing::info!(provider, code, reason = chain, "a sign-in was refused");
            AuditNew::refused("sign_in", subject)
        } else {
            tracing::warn!(provider, code, error = chain, "a sign-in failed");
            AuditNew::failed("sign_in", subject)
        };
        let after = json!({ "provider": provider, "reason": code });
        if let Err(e) = self.store.audit_insert(actor, &audit.change(None, Some(after))).await {
            tracing::warn!(error = Error::from(e).chain(), "a failed sign-in could not be written down");
        }
    }
}

fn session_needed() -> Error {
    Error::new(ErrorKind::Conflict, "no_session", "this needs a sign-in, not an API token")
}

/// A PKCE verifier opens only for its own state.
fn aad(state_sha256: &[u8]) -> Vec<u8> {
    [b"oauth flow ".as_slice(), state_sha256].concat()
}

fn claim<'a>(provider: &Provider, profile: &'a Profile, names: &'a [String]) -> IdentityClaim<'a> {
    let mapped = match profile.admission {
        Admission::No => None,
        Admission::Known { mapped } | Admission::New { mapped } => mapped,
    };
    IdentityClaim {
        provider: provider.name(),
        subject: &profile.subject,
        login: &profile.login,
        email: &profile.email,
        mapped_role: mapped.map(Role::as_str),
        default_role: provider.allow().default_role().map_or(NO_ROLE, Role::as_str),
        names,
    }
}

fn came_to(outcome: IdentityOutcome) -> Result<(), Fault> {
    match outcome {
        IdentityOutcome::SignedIn(_) | IdentityOutcome::Linked => Ok(()),
        IdentityOutcome::Unknown | IdentityOutcome::NoName => Err(Fault::Unknown),
        IdentityOutcome::Disabled => Err(Fault::Disabled),
        IdentityOutcome::SignedOut => Err(Fault::SignedOut),
        IdentityOutcome::OfAnother => Err(Fault::OfAnother),
        IdentityOutcome::HasAnother => Err(Fault::HasAnother),
    }
}
