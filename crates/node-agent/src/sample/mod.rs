//! Measuring what the containers and the host use.
//!
//! The figures come from files of the kernel, because the engine's own are slow:
//! an engine of version 20.10 takes a second for each container after the first.
//! Where those files cannot be seen (an agent in a container without the host's
//! process and cgroup trees) the engine is asked after all.
//!
//! Readings go into a [`SampleBuffer`], from where [`crate::link`] sends them. While
//! the controller is away they wait there, and on disk. A value that could not be
//! read is `None`, never 0.
//!
//! | file | what |
//! |---|---|
//! | `cgroup`, `net` | what the kernel's texts say; pure |
//! | `reader` | one container |
//! | `sampler` | when to read containers |
//! | `host` | the host |
//! | `host_sampler` | when to read it, and how well it is |
//! | `recent` | five minutes of memory, for whoever asks why an instance died |
//! | `buffer` | readings on their way |
//! | `ring`, `spill` | those that wait on disk |

mod buffer;
mod cgroup;
mod host;
mod host_sampler;
mod net;
mod reader;
mod recent;
mod ring;
mod sampler;
mod spill;
#[cfg(test)]
mod testing;

use std::{path::PathBuf, sync::Arc, time::Duration};

use daemon::Supervisor;
use domain::{node::EngineState, node_health::Thresholds};
use tokio::sync::watch;

use crate::{runtime::Runtime, storage::Sizes};

pub use buffer::{BufferStatus, Entry, SampleBuffer};
pub use recent::Recent;
pub use sampler::Running;

/// The directory of readings that wait, below the agent's own.
const DIRECTORY: &str = "samples";

/// What measuring needs of the other parts.
pub struct Parts {
    /// What runs.
    pub running: watch::Receiver<Running>,
    /// Asked only where the kernel's files cannot be seen.
    pub runtime: Arc<dyn Runtime>,
    /// Whether the engine answers.
    pub engine: watch::Receiver<EngineState>,
    /// How often to measure.
    pub period: watch::Receiver<Duration>,
    /// Sizes of writable layers, where they are measured.
    pub storage: watch::Receiver<Sizes>,
    /// Where the use of memory goes.
    pub recent: Recent,
    /// What counts as too little or too much on this host.
    pub thresholds: Thresholds,
    /// The agent's own directory.
    pub data_dir: PathBuf,
    /// See [`crate::ledger::Ledger::trouble`].
    pub ledger_trouble: watch::Receiver<Option<String>>,
}

/// Starts to measure all that runs, each period, and what has just been started at
/// once; and the host. Readings that nobody takes wait in `data_dir`, also for the
/// next agent.
pub fn start(supervisor: &Supervisor, parts: Parts) -> SampleBuffer {
    let Parts { running, runtime, engine, period, storage, recent, thresholds, data_dir, ledger_trouble } =
        parts;
    let buffer = spill::open(supervisor, data_dir.join(DIRECTORY));
    let sampler = sampler::Sampler {
        reader: reader::Reader::default(),
        runtime: Arc::clone(&runtime),
        buffer: buffer.clone(),
        recent,
        storage,
        past: sampler::Past::default(),
    };
    let (stop, each) = (supervisor.stop_token(), period.clone());
    drop(supervisor.spawn("sampler", async move {
        // Cancel-safe: a reading that is cut short is no reading.
        tokio::select! {
            () = stop.cancelled() => {}
            () = sampler.run(running, each) => {}
        }
    }));
    let host = host_sampler::HostSampler::new(
        host::HostReader::default(),
        runtime,
        buffer.clone(),
        (thresholds, data_dir),
    );
    let stop = supervisor.stop_token();
    drop(supervisor.spawn("host sampler", async move {
        // Cancel-safe: a reading that is cut short is no reading.
        tokio::select! {
            () = stop.cancelled() => {}
            () = host.run(engine, period, ledger_trouble) => {}
        }
    }));
    buffer
}
