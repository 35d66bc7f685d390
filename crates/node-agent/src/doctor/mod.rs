//! `automator67-agent doctor`: what is wrong between this host and its controller,
//! and on this host itself.
//!
//! Eleven checks in an order in which each builds on those before. `order` decides
//! which is made and which is skipped, and names the first failure; `way` looks at
//! the way to the controller, `host` at this host. Each check has a deadline, is
//! safe beside a running agent, and changes nothing that stays.

mod host;
mod order;
#[cfg(test)]
mod tests;
mod way;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use domain::Timestamp;
use tokio::{task::spawn_blocking, time::timeout};

pub use order::{Check, Finding, Step, Verdict, first_failure, line, next, summary};

use crate::{
    identity::{Identity, IdentityError},
    link::ask::Line,
    runtime::EngineInfo,
};

/// No check takes longer, whatever it waits for.
const LIMIT: Duration = Duration::from_secs(15);

/// Where to look.
pub struct Options {
    /// The agent's files.
    pub data_dir: PathBuf,
    /// The engine.
    pub docker_host: String,
    /// Where files with secrets are put.
    pub secrets_dir: PathBuf,
    /// The controller, in place of the one that the node is enrolled with.
    pub controller: Option<String>,
}

/// What checks know, and find out for later ones.
struct Scene {
    data_dir: PathBuf,
    docker_host: String,
    secrets_dir: PathBuf,
    /// `None` where the host is not enrolled and nobody named one.
    controller: Option<String>,
    identity: Result<Option<Identity>, IdentityError>,
    addresses: Vec<SocketAddr>,
    line: Option<Line>,
    /// The controller's clock, and ours at that moment.
    clocks: Option<(Option<Timestamp>, Timestamp)>,
    engine: Option<EngineInfo>,
}

/// Makes all checks, and tells each finding as soon as it is there.
pub async fn examine(options: Options, mut tell: impl FnMut(&Finding)) -> Vec<Finding> {
    let mut scene = Scene::open(options).await;
    let mut found = Vec::new();
    while let Some(step) = next(&found) {
        let finding = match step {
            Step::Skip(finding) => finding,
            Step::Make(check) => Finding { check, verdict: scene.limited(check).await },
        };
        tell(&finding);
        found.push(finding);
    }
    found
}

impl Scene {
    async fn open(options: Options) -> Self {
        let Options { data_dir, docker_host, secrets_dir, controller } = options;
        let dir = data_dir.clone();
        let identity = spawn_blocking(move || Identity::load(&dir)).await.unwrap_or(Ok(None));
        let enrolled = identity.as_ref().ok().and_then(Option::as_ref);
        let controller = controller.or_else(|| enrolled.map(|identity| identity.controller().to_owned()));
        Self {
            data_dir,
            docker_host,
            secrets_dir,
            controller,
            identity,
            addresses: Vec::new(),
            line: None,
            clocks: None,
            engine: None,
        }
    }

    async fn limited(&mut self, check: Check) -> Verdict {
        match timeout(LIMIT, Box::pin(self.make(check))).await {
            Ok(verdict) => verdict,
            Err(_) => failed(
                format!("no result within {} s", LIMIT.as_secs()),
                "something on this host does not answer; look at its load and its logs",
            ),
        }
    }

    async fn make(&mut self, check: Check) -> Verdict {
        match check {
            Check::Dns => way::dns(self).await,
            Check::Tcp => way::tcp(self).await,
            Check::Tls => way::tls(self).await,
            Check::Http2 => way::http2(self).await,
            Check::Certificate => way::certificate(self).await,
            Check::Clock => way::clock(self),
            Check::Engine => host::engine(self).await,
            Check::Storage => host::storage(self).await,
            Check::Cgroups => host::cgroups().await,
            Check::Disk => host::disk(self).await,
            Check::Secrets => host::secrets(self).await,
        }
    }

    fn node(&self) -> Option<&Identity> {
        self.identity.as_ref().ok().and_then(Option::as_ref)
    }
}

fn failed(what: impl Into<String>, fix: impl Into<String>) -> Verdict {
    Verdict::Failed { what: what.into(), fix: fix.into() }
}
