//! When to dial again.

use std::{sync::Arc, time::Duration};

use chrono::Utc;
use daemon::Backoff;
use tokio::time::sleep;

use super::{
    LinkState, Shared, Trouble, chain,
    session::{self, Ended, SessionEnd},
};

/// A session that ended sooner than this by `Draining` counts as a failure, or a
/// controller that cannot make up its mind would be dialled without pause.
const DRAINED_TOO_SOON: Duration = Duration::from_secs(1);

/// Keeps a session open, for ever.
pub(super) async fn keep(shared: &Arc<Shared>) {
    let timing = shared.timing;
    let mut backoff = Backoff::new(timing.retry.0, timing.retry.1);
    let mut identities = shared.identity.clone();
    loop {
        let identity = Arc::clone(&identities.borrow_and_update());
        let wait = if identity.is_expired(Utc::now()) {
            // The renewal task is at it; its success wakes us.
            note(shared, format!("the certificate ended at {}", identity.certificate().not_after()));
            tracing::warn!(ended = %identity.certificate().not_after(), "no session: the certificate has ended");
            spread(timing.refused)
        } else {
            let ended = session::run(shared, &identity).await;
            next_wait(shared, &mut backoff, ended)
        };
        // Cancel-safe: both only wait.
        tokio::select! {
            () = sleep(wait) => {}
            Ok(()) = identities.changed() => backoff.reset(),
        }
    }
}

/// A wait of its upper half: a fleet that was refused at once does not come back at once.
fn spread(longest: Duration) -> Duration {
    Backoff::new(longest, longest).next_delay()
}

/// Keeps what went wrong, for those who ask.
fn note(shared: &Shared, reason: String) {
    shared.trouble.send_replace(Some(Trouble { at: Utc::now(), reason }));
}

/// What went wrong, in one line; `None` where nothing did.
fn reason(end: &SessionEnd) -> Option<String> {
    match end {
        SessionEnd::Renewed => None,
        SessionEnd::Draining => Some("the controller stopped".to_owned()),
        SessionEnd::Superseded => Some("a newer session of this node took over".to_owned()),
        SessionEnd::Refused { message } => Some(format!("the controller refuses this node: {message}")),
        SessionEnd::Version { message } => Some(format!("the controller refuses this version: {message}")),
        SessionEnd::Lost(error) => Some(format!("failed to {}", chain(error))),
    }
}

/// Tells the log and the others how a session ended, and says how long to wait.
fn next_wait(shared: &Shared, backoff: &mut Backoff, ended: Ended) -> Duration {
    let timing = shared.timing;
    if ended.lived.is_some_and(|lived| lived >= timing.good_after) {
        backoff.reset();
    }
    let refused = matches!(ended.end, SessionEnd::Refused { .. } | SessionEnd::Version { .. });
    if let Some(reason) = reason(&ended.end) {
        note(shared, reason);
    }
    shared.state.send_replace(if refused { LinkState::Refused } else { LinkState::Away });
    match ended.end {
        SessionEnd::Renewed => {
            tracing::info!("session ended to begin one with the new certificate");
            Duration::ZERO
        }
        SessionEnd::Draining if ended.lived.is_some_and(|lived| lived >= DRAINED_TOO_SOON) => {
            tracing::info!("the controller is about to stop; reconnecting");
            spread(timing.quick)
        }
        SessionEnd::Draining => backoff.next_delay(),
        SessionEnd::Superseded => {
            let wait = backoff.next_delay();
            tracing::warn!(
                retry_in = ?wait,
                "a newer session of this node took over; if this goes on, two agents run with one identity"
            );
            wait
        }
        SessionEnd::Refused { message } => {
            let wait = spread(timing.refused);
            tracing::error!(
                reason = message,
                retry_in = ?wait,
                "the controller refuses this node: it was removed or revoked; containers go on running, and an operator has to act"
            );
            wait
        }
        SessionEnd::Version { message } => {
            let wait = spread(timing.refused);
            tracing::error!(
                reason = message,
                retry_in = ?wait,
                "the controller does not serve this agent's version; containers go on running"
            );
            wait
        }
        SessionEnd::Lost(error) => {
            let wait = backoff.next_delay();
            tracing::warn!(error = chain(&error), retry_in = ?wait, "no session with the controller");
            wait
        }
    }
}
