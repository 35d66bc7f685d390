//! Use cases, free of transport: what REST and gRPC handlers call.

pub mod audit;
pub mod credentials;
pub mod deployments;
pub mod enrolment;
pub mod first_admin;
pub mod flood;
pub mod identity;
pub mod logs;
pub mod projects;
pub mod secrets;
pub mod settings;

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use domain::{
    id::{FleetId, OperationId},
    limit::Rate,
    presence::PresenceSettings,
};
use ipnet::IpNet;
use store::{Store, operation::Operation};
use tokio::{sync::broadcast, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    auth::{cookie::CookieKey, oauth::Providers},
    error::Error,
    fleet::{Heartbeats, Sessions, Streams},
    pki::Ca,
};
use daemon::supervise::Supervisor;

/// Announcements that a slow waiter may fall behind by; it then looks again.
const ANNOUNCEMENTS: usize = 256;

/// Settings that use cases need, checked at the start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where browsers and API clients reach this controller.
    pub public_url: String,
    /// Where agents reach it.
    pub agent_url: String,
    /// How often agents send heartbeats, and when they count as gone.
    pub presence: PresenceSettings,
    /// What stands between clients and the API.
    pub edge: EdgeSettings,
    /// How often agents measure.
    pub metrics_period: Duration,
    /// For how long a session lasts that is not refreshed.
    pub session_ttl: Duration,
    /// For how long an access token is good.
    pub access_token_ttl: Duration,
    /// Who may register.
    pub registration: identity::account::Registration,
    /// For how long lines of the audit log are kept.
    pub audit_retention: Duration,
    /// For how long a node's certificate is good.
    pub certificate_lifetime: Duration,
    /// Whether those who have the permission may see values of credentials.
    pub reveal_enabled: bool,
}

/// What stands between clients and the API.
#[derive(Clone, Debug)]
pub struct EdgeSettings {
    /// Proxies that are believed about whom they forward for.
    pub trusted_proxies: Vec<IpNet>,
    /// Other origins whose pages may call the API.
    pub cors_origins: Vec<String>,
    /// Requests without a token of one address; `None` for no limit.
    pub attempts: Option<Rate>,
    /// Failed sign-ins to one account; `None` for no limit.
    pub failures: Option<Rate>,
    /// Requests of one address to one controller; `None` for no limit.
    pub requests_per_second: Option<NonZeroU32>,
    /// How long a client may take to send a request's head, and again its body.
    pub client_timeout: Duration,
    /// How long a request may take to be answered, besides the time that it asks to wait.
    pub request_timeout: Duration,
}

/// Everything that handlers share. One per process, behind an `Arc`.
pub struct Services {
    /// State.
    pub store: Store,
    /// Accounts and tokens.
    pub identity: identity::Identity,
    /// Who else is believed about who somebody is.
    pub providers: Providers,
    /// Signs what cookies hold.
    pub cookies: CookieKey,
    /// The fleet's CA.
    pub ca: Arc<Ca>,
    /// Which fleet this is.
    pub fleet_id: FleetId,
    /// Live sessions.
    pub sessions: Sessions,
    /// Last heartbeats.
    pub heartbeats: Heartbeats,
    /// Streams that are waited for.
    pub streams: Streams,
    /// Operations that moved on.
    pub operations: OperationNews,
    /// Refusals of those whom nobody knows, so that not each of a flood is written down.
    pub strangers: audit::Strangers,
    /// How often addresses called this process lately.
    pub floods: identity::limits::Floods,
    /// Owner of everything that outlives a request.
    pub supervisor: Supervisor,
    /// Cancelled when the process begins to stop.
    pub stopping: CancellationToken,
    /// Settings.
    pub settings: Settings,
}

/// Announces operations that moved on to those who wait for them.
#[derive(Clone)]
pub struct OperationNews(broadcast::Sender<OperationId>);

impl Default for OperationNews {
    fn default() -> Self {
        Self(broadcast::Sender::new(ANNOUNCEMENTS))
    }
}

impl OperationNews {
    /// Announces that an operation moved on.
    pub fn announce(&self, id: OperationId) {
        // Nobody waiting is no fault.
        let _ = self.0.send(id);
    }
}

impl Services {
    /// An operation, when it is done or `wait` is over, whichever comes first.
    ///
    /// # Errors
    /// When there is none, or the database is not there.
    pub async fn operation_wait(
        self: &Arc<Self>,
        id: OperationId,
        wait: Duration,
    ) -> Result<Operation, Error> {
        let deadline = Instant::now() + wait;
        // Subscribed before the first look, so that nothing falls in between.
        let mut news = self.operations.0.subscribe();
        loop {
            let operation =
                self.store.operation_fetch(id).await?.ok_or_else(|| Error::not_found("operation"))?;
            if operation.verdict.is_some() || Instant::now() >= deadline {
                return Ok(operation);
            }
            // Looks again after two seconds even without news: announcements may be lost.
            let look = deadline.min(Instant::now() + Duration::from_secs(2));
            let moved = async {
                loop {
                    match news.recv().await {
                        Ok(moved) if moved != id => {}
                        Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => return,
                        Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
                    }
                }
            };
            // Cancel-safe: an announcement that is lost here costs a look two seconds later.
            tokio::select! {
                () = moved => {}
                () = tokio::time::sleep_until(look) => {}
                () = self.stopping.cancelled() => return Ok(operation),
            }
        }
    }
}
