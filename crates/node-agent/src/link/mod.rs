//! The conversation with the controller.
//!
//! The agent dials, keeps one session open and comes back when it breaks. What
//! passes over it is said in the `.proto` files; how it is arranged here:
//!
//! - Whatever must not be lost is in the [`Ledger`]: assignments are durable
//!   before anything acts on them, reports are sent again until they are
//!   acknowledged. So a session can end at any moment.
//! - A heartbeat waits for nothing (I11): it has a task of its own, a way past the
//!   reports in the queue, and a connection on which no bulk data ever flows.
//!   Readings, dossiers and log streams have connections of their own, so a reader that
//!   stalls can use up no window but his own stream's.
//! - With the controller away, nothing here stops anything (I12): containers are
//!   the reconciler's business, and it works from the ledger alone.
//!
//! | file | what |
//! |---|---|
//! | `ask` | small questions, for whoever looks for a fault |
//! | `connect` | a connection to the right controller, or none |
//! | `enrolment` | the calls that need no client certificate |
//! | `reconnect` | when to dial again |
//! | `session` | one session from `Hello` to its end |
//! | `outbound` | what is sent, the urgent first |
//! | `heartbeat`, `reporter`, `facts`, `metrics`, `dossiers`, `pulls` | one task each |
//! | `secrets` | answers for who asks what an instance is given |
//! | `streams` | log streams that the controller asks for |
//! | `renewal` | a new certificate in time |

pub(crate) mod ask;
mod connect;
mod dossiers;
pub(crate) mod enrolment;
mod facts;
mod heartbeat;
mod metrics;
mod outbound;
mod pulls;
mod reconnect;
mod renewal;
mod reporter;
mod secrets;
mod session;
mod streams;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use daemon::Supervisor;
use domain::Timestamp;
use tokio::sync::watch;

use crate::{
    agent::EngineStatus, dossier::Dossiers, identity::Identity, lease::Lease, ledger::Ledger, pull,
    runtime::Runtime, sample::SampleBuffer, secrets::ask::Asked,
};

pub use connect::ConnectError;
pub use enrolment::CallError;
pub use session::SessionError;

/// Where a boot's id is; it tells a reboot from a restart of the agent.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// What the link needs of the other parts.
pub struct Parts {
    /// Who this node is.
    pub identity: Identity,
    /// Where assignments go to and reports come from.
    pub ledger: Ledger,
    /// Where logs are read.
    pub runtime: Arc<dyn Runtime>,
    /// What heartbeats and facts say.
    pub engine: EngineStatus,
    /// Readings to send.
    pub samples: SampleBuffer,
    /// What is known of attempts that ended, to send.
    pub dossiers: Dossiers,
    /// How often to measure, as the controller wishes.
    pub sample_period: watch::Sender<Duration>,
    /// Where published ports are reached; `None` takes the address of ours that the
    /// controller is reached from.
    pub address: Option<String>,
    /// Renewed by each answer to a heartbeat.
    pub lease: Lease,
    /// How far pulls have come.
    pub pulls: watch::Receiver<pull::Board>,
    /// Questions about what instances are given.
    pub asked: Asked,
}

/// How the link stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// There is no session, and another try is coming.
    Away,
    /// There is a session.
    Up {
        /// Its number.
        session_epoch: u64,
    },
    /// The controller refuses this node. Tried again now and then, in case an
    /// operator acts.
    Refused,
}

/// Why the last session ended, or why none came about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// When.
    pub at: Timestamp,
    /// The error with all that caused it, in one line. Holds no secret.
    pub reason: String,
}

/// How the link stands, for those who ask.
#[derive(Clone, Debug)]
pub struct LinkNews {
    /// How it stands now.
    pub state: watch::Receiver<LinkState>,
    /// What last went wrong, whether or not there is a session again.
    pub trouble: watch::Receiver<Option<Trouble>>,
}

/// How long things may take. Tests shorten them.
#[derive(Clone, Copy, Debug)]
struct Timing {
    /// The first wait between two tries, and the longest.
    retry: (Duration, Duration),
    /// The longest wait after the controller said that it is about to stop.
    quick: Duration,
    /// The wait after a refusal that only an operator can end.
    refused: Duration,
    /// A session that lived this long was a good one.
    good_after: Duration,
    /// From the first byte to `Welcome`.
    handshake: Duration,
    /// Without a frame for this long, the session is given up.
    silence: Duration,
    /// The first wait before what could not be kept is asked for again, and the longest.
    unkept: (Duration, Duration),
    /// The first wait between two tries to renew, and the longest.
    renew: (Duration, Duration),
}

impl Default for Timing {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            retry: (seconds(1), seconds(30)),
            quick: Duration::from_millis(500),
            refused: seconds(60),
            good_after: seconds(5),
            handshake: seconds(15),
            silence: seconds(30),
            unkept: (seconds(5), seconds(60)),
            renew: (seconds(5), seconds(600)),
        }
    }
}

/// What all of the link's tasks see.
struct Shared {
    identity: watch::Receiver<Arc<Identity>>,
    ledger: Ledger,
    runtime: Arc<dyn Runtime>,
    engine: EngineStatus,
    samples: SampleBuffer,
    dossiers: Dossiers,
    sample_period: watch::Sender<Duration>,
    address: Option<String>,
    lease: Lease,
    pulls: watch::Receiver<pull::Board>,
    boot_id: String,
    state: watch::Sender<LinkState>,
    trouble: watch::Sender<Option<Trouble>>,
    timing: Timing,
}

/// Starts the link's tasks. They end with `supervisor`; a session is simply cut
/// then, and the controller finds out by itself.
pub fn start(supervisor: &Supervisor, parts: Parts) -> LinkNews {
    start_with(supervisor, parts, Timing::default())
}

#[cfg(test)]
fn start_timed(supervisor: &Supervisor, parts: Parts, timing: Timing) -> watch::Receiver<LinkState> {
    start_with(supervisor, parts, timing).state
}

fn start_with(supervisor: &Supervisor, parts: Parts, timing: Timing) -> LinkNews {
    let (identity_tx, identity) = watch::channel(Arc::new(parts.identity));
    let shared_identity = identity.clone();
    let (state, states) = watch::channel(LinkState::Away);
    let (trouble, troubles) = watch::channel(None);
    let boot_id = std::fs::read_to_string(BOOT_ID).unwrap_or_default().trim().to_owned();
    let shared = Arc::new(Shared {
        identity,
        ledger: parts.ledger,
        runtime: parts.runtime,
        engine: parts.engine,
        samples: parts.samples,
        dossiers: parts.dossiers,
        sample_period: parts.sample_period,
        address: parts.address,
        lease: parts.lease,
        pulls: parts.pulls,
        boot_id,
        state,
        trouble,
        timing,
    });
    let stop = supervisor.stop_token();
    supervisor.spawn("link", async move {
        // Cancel-safe: what a session was doing is in the ledger, or is asked again.
        tokio::select! {
            () = stop.cancelled() => {}
            () = reconnect::keep(&shared) => {}
        }
    });
    let (stop, asked, own, up) = (supervisor.stop_token(), parts.asked, shared_identity, states.clone());
    supervisor.spawn("secrets", async move {
        // Cancel-safe: whoever asks gets no answer, and asks the next agent.
        tokio::select! {
            () = stop.cancelled() => {}
            () = secrets::serve(asked, own, up) => {}
        }
    });
    let stop = supervisor.stop_token();
    supervisor.spawn("certificate renewal", async move {
        // Cancel-safe: a certificate that is not on disk was never in use.
        tokio::select! {
            () = stop.cancelled() => {}
            () = renewal::keep(&identity_tx, timing) => {}
        }
    });
    LinkNews { state: states, trouble: troubles }
}

/// An error with all that caused it, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(inner) = next {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        next = inner.source();
    }
    text
}
