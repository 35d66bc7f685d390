//! Asks a container once whether it works.
//!
//! When to ask and what follows from the answer is decided by [`domain::probe`];
//! here a single probe is carried out. It talks to the container's own address,
//! never through a published port, and runs commands through the [`Runtime`].
//!
//! Each probe ends within its timeout, reads a bounded amount, leaves no connection
//! behind, and never fails as a function: what goes wrong on the container's side is
//! [`Verdict::Failed`], what goes wrong on ours is [`Verdict::Unknown`] and counts
//! against nobody (I5). Dropping it gives it up at any moment.
//!
//! The trap is a command that hangs: no engine can end one. It fails the probe, and
//! [`Probed::left_running`] names it; handed to the next probe, it keeps that one
//! from starting a second.

mod exec;
mod http;
mod tcp;
#[cfg(test)]
mod tests;

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use domain::{
    Timestamp,
    probe::{ProbeKind, ProbeResult, ProbeSpec, Verdict},
};

use crate::runtime::Runtime;

/// Whom to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The engine's id of the container.
    pub container_id: String,
    /// Where its ports are reached from this host; `None` where it has no network.
    pub address: Option<IpAddr>,
}

/// A probe that was carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probed {
    /// What it found.
    pub result: ProbeResult,
    /// A command that did not end in time and may still run; to be handed to the
    /// next probe of the same container.
    pub left_running: Option<String>,
}

/// Why a probe did not pass.
enum Fault {
    /// Because of the container.
    Failed(String),
    /// Because of us, the host or the engine.
    Unasked(String),
}

/// What a probe says: a line for people where it passed.
type Answer = Result<String, Fault>;

/// Carries one probe out, within its timeout.
///
/// `left_running` is what the probe before left behind. `clock` says when it began.
/// [`ProbeKind::Image`] has to be resolved before; see [`ProbeKind::resolved`].
pub async fn probe(
    runtime: &dyn Runtime,
    target: &Target,
    spec: &ProbeSpec,
    left_running: Option<String>,
    clock: fn() -> Timestamp,
) -> Probed {
    let (at, begun) = (clock(), Instant::now());
    let mut left_running = left_running;
    let answer = match &spec.kind {
        ProbeKind::Http(check) => match target.address {
            Some(address) => http::ask(address, check, spec.timeout()).await,
            None => Err(no_address()),
        },
        ProbeKind::Tcp { port } => match target.address {
            Some(address) => tcp::ask(address, *port, spec.timeout()).await,
            None => Err(no_address()),
        },
        ProbeKind::Exec { command } => {
            exec::ask(runtime, &target.container_id, command, spec.timeout(), &mut left_running).await
        }
        ProbeKind::Image => Err(Fault::Unasked("the image's own check is not known".to_owned())),
    };
    let (verdict, message) = match answer {
        Ok(message) => (Verdict::Passed, message),
        Err(Fault::Failed(message)) => (Verdict::Failed, message),
        Err(Fault::Unasked(message)) => (Verdict::Unknown, message),
    };
    Probed { result: ProbeResult { at, took: begun.elapsed(), verdict, message }, left_running }
}

/// A container that just lost its network, or whose engine did not say.
fn no_address() -> Fault {
    Fault::Unasked("the container has no address that this host can reach".to_owned())
}

fn seconds(timeout: Duration) -> String {
    format!("within {} s", timeout.as_secs_f64())
}
