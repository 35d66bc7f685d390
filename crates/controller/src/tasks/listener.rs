//! Hears what other transactions, of this controller or another, have announced.

use std::{sync::Arc, time::Duration};

use daemon::Backoff;
use store::wake::Wake;
use tokio::sync::Notify;

use crate::{error::chain, service::Services};

/// Listens until the supervisor stops, again after each break. What was announced
/// in between is made up for by waking everybody once it listens again; who has which
/// access is not remembered while it does not.
pub(super) async fn listen(services: Arc<Services>, orchestrate: Arc<Notify>, keys: Arc<Notify>) {
    let stop = services.supervisor.stop_token();
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
    loop {
        let heard = std::sync::atomic::AtomicBool::new(false);
        let ready = || {
            heard.store(true, std::sync::atomic::Ordering::Relaxed);
            services.identity.callers.heard();
            orchestrate.notify_one();
            keys.notify_one();
            services.sessions.wake_all();
        };
        let on = |wake| match wake {
            Wake::Orchestrate => orchestrate.notify_one(),
            Wake::Assignments(node) => services.sessions.wake(node),
            Wake::Operation(id) => services.operations.announce(id),
            Wake::Revoked => services.identity.callers.forget(),
            Wake::Keys => keys.notify_one(),
        };
        // Cancel-safe: the stop ends the loop for good.
        let broken = tokio::select! {
            broken = services.store.listen(ready, on) => broken,
            () = stop.cancelled() => {
                services.identity.callers.deaf();
                return;
            }
        };
        services.identity.callers.deaf();
        if heard.load(std::sync::atomic::Ordering::Relaxed) {
            backoff.reset();
        }
        if let Err(e) = broken {
            tracing::warn!(error = chain(&e), "wake-ups are not heard; listening again");
        }
        // Cancel-safe, as above.
        tokio::select! {
            () = tokio::time::sleep(backoff.next_delay()) => {}
            () = stop.cancelled() => return,
        }
    }
}
