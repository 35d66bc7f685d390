//! Signing in by somebody else's word: GitHub's, so far.
//!
//! What is of one provider only is in its room; the flow around it, its state and what
//! it does to accounts are of all of them. A further one is a variant of [`Provider`]
//! with its own address to send browsers to and its own way from a code to a
//! [`Profile`]. For OpenID Connect that is: discovery of the issuer, the ID token
//! checked by the issuer's keys, and a nonce, for which the hash of the state will do.
//!
//! | room | what it is for |
//! |---|---|
//! | [`flow`] | paths to return to, names for accounts |
//! | [`allow`] | who is let in, and as what |
//! | [`github`] | GitHub and GitHub Enterprise Server |
//! | [`fault`] | why a sign-in ended, and what to do about it |

pub mod allow;
pub mod fault;
pub mod flow;
pub mod github;

use std::sync::Arc;

use daemon::seal::SealingKey;
use url::Url;
use zeroize::Zeroizing;

use self::{
    allow::{Admission, Allow},
    fault::Fault,
    github::Github,
};

/// Somebody whom a provider vouches for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// The provider's own id, which never changes and never goes to somebody else.
    pub subject: String,
    /// The name there, which may do both.
    pub login: String,
    /// A verified address; for people to read, never to match by.
    pub email: String,
    /// What that one may here.
    pub admission: Admission,
}

/// Whose word is taken.
pub enum Provider {
    /// GitHub's.
    Github(Github),
}

impl Provider {
    /// What it is called in addresses, rows and records.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Github(_) => github::NAME,
        }
    }

    /// Who is let in.
    #[must_use]
    pub const fn allow(&self) -> &Allow {
        match self {
            Self::Github(github) => github.allow(),
        }
    }

    /// Where a browser goes to sign in, and what proves later that it was sent by us.
    #[must_use]
    pub fn begin(&self) -> Departure {
        match self {
            Self::Github(github) => github.begin(),
        }
    }

    /// Asks the provider who came back with a code. Takes no longer than the
    /// provider's whole deadline.
    ///
    /// # Errors
    /// When the code is not good, the provider does not answer as it should, or
    /// does not vouch for a verified address.
    pub async fn profile(&self, code: String, verifier: Zeroizing<String>) -> Result<Profile, Fault> {
        match self {
            Self::Github(github) => github.profile(code, verifier).await,
        }
    }
}

/// A browser that is sent to a provider. Holds secrets: no `Debug`.
pub struct Departure {
    /// Where to.
    pub url: Url,
    /// What comes back with it.
    pub state: Zeroizing<String>,
    /// What only we can show with the code (PKCE).
    pub verifier: Zeroizing<String>,
}

/// The providers that are configured.
pub struct Providers {
    github: Option<Arc<Provider>>,
    /// The UI's address.
    pub public_url: Url,
    /// Seals PKCE verifiers.
    pub sealing: SealingKey,
}

impl Providers {
    /// Takes them over.
    #[must_use]
    pub fn new(public_url: Url, github: Option<Github>, sealing: SealingKey) -> Self {
        Self { github: github.map(|github| Arc::new(Provider::Github(github))), public_url, sealing }
    }

    /// The one of that name, if it is configured.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Arc<Provider>> {
        if name == github::NAME { self.github.clone() } else { None }
    }
}
