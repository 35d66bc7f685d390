//! What is kept of attempts that ended: put together, kept, and handed out to be sent.
//!
//! A [`Death`] comes in; the last lines of the log of that very run are read, what its
//! probes found and how much memory it used are joined, and the whole is a
//! [`domain::dossier::Dossier`]. It is kept sealed on disk ([`Dossiers`]) until the controller has it.
//!
//! The container may be started again while its log is read, and its log goes on in
//! the same place. `window` says which lines are of the run that ended; the rest
//! is left out before lines are put together, so that none of the next run's text can
//! stick to an unfinished line of this one. Where the container is gone, the engine
//! hangs, or its log driver keeps nothing that can be read, there is a dossier
//! without a log, and it says so.
//!
//! | file | what |
//! |---|---|
//! | `collect` | puts them together, a few at a time |
//! | `window` | which lines are of which run |
//! | `tail` | the last lines, within bounds |
//! | `keep` | those that wait for the controller |
//! | `disk` | their files |

mod collect;
mod disk;
mod keep;
mod tail;
#[cfg(test)]
mod tests;
mod window;

use std::{sync::Arc, time::Duration};

use daemon::Supervisor;
use tokio::sync::mpsc;

pub use keep::{Dossiers, Waiting};

use crate::{death::Death, runtime::Runtime, sample::Recent};

/// What putting dossiers together needs of the other parts.
pub struct Parts {
    /// Attempts that ended.
    pub deaths: mpsc::Receiver<Death>,
    /// Where logs are read.
    pub runtime: Arc<dyn Runtime>,
    /// Where the use of memory is known.
    pub recent: Recent,
    /// Where dossiers go.
    pub dossiers: Dossiers,
}

/// How long things may take. Tests shorten them.
#[derive(Clone, Copy, Debug)]
struct Timing {
    /// For reading one log, all tries together.
    log: Duration,
    /// For the logs that are being read when the agent is asked to stop.
    stop: Duration,
    /// The first wait between two tries to read a log, and the longest.
    retry: (Duration, Duration),
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            log: Duration::from_secs(10),
            stop: Duration::from_millis(500),
            retry: (Duration::from_millis(200), Duration::from_secs(2)),
        }
    }
}

/// Starts to put dossiers together. It ends when `supervisor` shuts down, or with
/// those who tell of deaths; what is known by then is kept.
pub fn start(supervisor: &Supervisor, parts: Parts) {
    start_timed(supervisor, parts, Timing::default());
}

fn start_timed(supervisor: &Supervisor, parts: Parts, timing: Timing) {
    let collector = collect::Collector::new(parts.runtime, parts.recent, parts.dossiers, timing);
    let work = collector.run(parts.deaths, supervisor.stop_token());
    drop(supervisor.spawn("dossiers", work));
}
