//! A new certificate in time.

use std::{sync::Arc, time::Duration};

use chrono::Utc;
use daemon::Backoff;
use tokio::{sync::watch, time::sleep};

use super::{Timing, chain};
use crate::identity::{Identity, RenewError, Renewal, renew};

/// Longest sleep: a clock that was set, or a host that was suspended, is noticed
/// after this time.
const LOOK: Duration = Duration::from_secs(600);

/// Renews the certificate whenever it is due, and publishes the identity with the
/// new one. Never gives up: the old one may be good for long, and past its end the
/// controller still takes the old key's word for a while.
pub(super) async fn keep(identity: &watch::Sender<Arc<Identity>>, timing: Timing) {
    let mut backoff = Backoff::new(timing.renew.0, timing.renew.1);
    loop {
        let current = Arc::clone(&identity.borrow());
        let now = Utc::now();
        if let Ok(wait) = (Renewal::of(current.certificate()).due - now).to_std()
            && !wait.is_zero()
        {
            sleep(wait.min(LOOK)).await;
            continue;
        }
        match renew(&current).await {
            Ok(renewed) => {
                tracing::info!(until = %renewed.certificate().not_after(), "certificate renewed");
                identity.send_replace(Arc::new(renewed));
                backoff.reset();
            }
            Err(error) => {
                let denied = matches!(error, RenewError::Denied { .. });
                let wait = if denied { timing.renew.1 } else { backoff.next_delay() };
                let (until, error) = (current.certificate().not_after(), chain(&error));
                if denied || current.is_expired(now) {
                    tracing::error!(%until, error, retry_in = ?wait, "certificate not renewed");
                } else {
                    tracing::warn!(%until, error, retry_in = ?wait, "certificate not renewed yet");
                }
                sleep(wait).await;
            }
        }
    }
}
