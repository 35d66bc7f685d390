//! The first administrator of a new installation.
//!
//! A controller that serves and finds no account at all makes an invite for an
//! administrator and hands its text to whoever runs it. The text goes to standard
//! output and never to the log, which is kept, shipped and read by others. It is
//! good for one account, for a day, and only while there is no account.

use std::{io::Write, time::Duration};

use domain::Timestamp;
use store::audit::Actor;
use zeroize::Zeroizing;

use super::Services;
use crate::{
    auth::token::{Kind, Secret},
    error::Error,
};

/// For how long it is good. A later start makes another.
const LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// The invite for the first administrator: no `Debug`.
pub struct FirstAdmin {
    /// Its text.
    pub invite: Zeroizing<String>,
    /// When it ends.
    pub expires_at: Timestamp,
}

impl FirstAdmin {
    /// What is shown to whoever runs the controller, in one line.
    fn line(&self, public_url: &str) -> Zeroizing<String> {
        let (url, invite) = (public_url.trim_end_matches('/'), self.invite.as_str());
        // Behind `#` no server on the way sees it.
        Zeroizing::new(format!(
            "There is no administrator yet. To make the first administrator, until {}: open {url}/register#invite={invite} \
             in a browser, or POST {url}/api/v1/auth/register with {{\"name\": \"…\", \"password\": \"…\", \"invite\": \"{invite}\"}}",
            self.expires_at.format("%Y-%m-%dT%H:%M:%SZ"),
        ))
    }
}

impl Services {
    /// Makes the invite for the first administrator, in place of any earlier one;
    /// `None` where there is one. Again: makes another one.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn first_admin_invite(&self) -> Result<Option<FirstAdmin>, Error> {
        let secret = Secret::generate(Kind::Invite).map_err(Error::internal)?;
        let made = self.store.invite_bootstrap(&secret.sha256(), LIFETIME, &Actor::system()).await?;
        Ok(made.map(|expires_at| FirstAdmin { invite: secret.reveal(), expires_at }))
    }

    /// Makes that invite where there is no administrator, and writes it to `out` as one
    /// line. Whatever fails is logged and stops nothing: `admin create` is another way.
    pub async fn first_admin_announce(&self, mut out: impl Write) {
        match self.first_admin_invite().await {
            Ok(None) => {}
            Ok(Some(made)) => {
                let line = made.line(&self.settings.public_url);
                if let Err(e) = writeln!(out, "{}", line.as_str()).and_then(|()| out.flush()) {
                    tracing::warn!(
                        error = crate::error::chain(&e),
                        "could not print the first administrator's invite"
                    );
                }
            }
            Err(e) => tracing::warn!(error = e.chain(), "could not make the first administrator's invite"),
        }
    }
}
