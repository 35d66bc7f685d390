//! The order in which the agent's parts start and stop.
//!
//! Each part has a supervisor of its own, so that they end one after the other:
//! first the link, so that nothing new comes in; then measuring; then reconciling,
//! which writes down what it knows; then what looks into deaths, which reconciling may
//! have told of to the last; then the ledger. No container is touched: they
//! belong to the engine, and the next agent finds them as they are (I10).

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use daemon::{
    Supervisor, notify,
    seal::{KeyError, SealingKey},
    shutdown::Signals,
};
use domain::node::{EngineState, NodeFacts};
use tokio::{
    runtime::Handle,
    sync::watch,
    task::{JoinError, spawn_blocking},
    time::timeout,
};
use tracing::Instrument as _;

use crate::{
    config::Config,
    death::Deaths,
    dossier::{self, Dossiers},
    facts, housekeeping,
    identity::{Identity, IdentityError},
    lease::{self, Lease},
    ledger::{Ledger, LedgerError},
    link, pull, reconcile,
    runtime::{Runtime, RuntimeError, docker::DockerRuntime, upkeep::Upkeep},
    sample,
    secrets::{self, Secrets},
    status, storage,
};

/// How often containers are measured until the controller says.
const SAMPLE_PERIOD: Duration = Duration::from_secs(30);
/// How long the link waits for the engine's first answer, so that an agent that was
/// restarted does not tell of an engine that it has not yet asked.
const FIRST_ANSWER: Duration = Duration::from_secs(1);
/// What each part may take to end.
const PART_GRACE: Duration = Duration::from_secs(3);
/// What reconciling may take to end: it writes to disk.
const RECONCILE_GRACE: Duration = Duration::from_secs(6);

/// What is known of the engine and the host, for whoever tells the controller.
#[derive(Clone, Debug)]
pub struct EngineStatus {
    /// Whether the engine answers.
    pub state: watch::Receiver<EngineState>,
    /// The host's facts; they change when the engine comes or goes.
    pub facts: watch::Receiver<NodeFacts>,
}

/// Why the agent could not start.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// This host is no node yet.
    #[error("start: this host is not enrolled; run automator67-agent enrol first")]
    NotEnrolled,
    /// Its identity cannot be used.
    #[error("load the node's identity")]
    Identity(#[from] IdentityError),
    /// The key that all here is sealed with cannot be used.
    #[error("load the node's own key")]
    SealKey(#[from] KeyError),
    /// The key that all here is sealed with is lost, or another one lies in its place.
    #[error(
        "start: {} is lost or was replaced, and what this node keeps cannot be opened without it; put the right one back, or enrol again (automator67-agent enrol, with a new token): what was sealed is set aside, the node stays what it is, and its containers run on",
        path.display()
    )]
    SealKeyLost {
        /// Where it belongs.
        path: PathBuf,
    },
    /// The ledger cannot be used.
    #[error("open the ledger")]
    Ledger(#[from] LedgerError),
    /// The engine's address is none.
    #[error("use docker_host")]
    DockerHost(#[source] RuntimeError),
    /// Signals cannot be listened for.
    #[error("listen for signals")]
    Signals(#[source] io::Error),
    /// A thread that was reading files was lost.
    #[error("read files")]
    Lost(#[from] JoinError),
}

/// Runs the agent until a signal asks it to stop. Call it on the main runtime.
///
/// # Errors
/// When it cannot start. What happens later is dealt with and logged.
pub async fn run(config: Config) -> Result<(), AgentError> {
    let signals = Signals::install().map_err(AgentError::Signals)?;
    let _watchdog = notify::Watchdog::start();
    let dir = config.data_dir.clone();
    let (identity, kept) = spawn_blocking(move || open(&dir)).await??;
    let (fleet, node, rules) = (identity.fleet_id(), identity.node_id(), config.house_rules());
    let runtime =
        DockerRuntime::with_rules(&config.docker_host, fleet, node, rules).map_err(AgentError::DockerHost)?;
    let span = tracing::error_span!("agent", node.id = %identity.node_id());
    let start = async {
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            node.name = identity.node_name(),
            controller = identity.controller(),
            assignments = kept.ledger.assignments().assignments.len(),
            "agent starts"
        );
        Running::start(&config, identity, kept, Arc::new(runtime)).await
    };
    let parts = start.instrument(span.clone()).await;
    notify::ready();
    let signal = signals.first().await;
    notify::stopping();
    tracing::info!(%signal, "agent stops; its containers go on");
    parts.stop().instrument(span).await;
    Ok(())
}

/// Opens what is in `dir`. Blocks.
pub(crate) fn open(dir: &Path) -> Result<(Identity, Kept), AgentError> {
    let identity = Identity::load(dir)?.ok_or(AgentError::NotEnrolled)?;
    let lost = || AgentError::SealKeyLost { path: identity.seal_key_path() };
    let key = match identity.ledger_key() {
        Err(KeyError::Missing { .. }) => return Err(lost()),
        key => key?,
    };
    let ledger = match Ledger::open(&dir.join("ledger"), key) {
        Err(LedgerError::OtherKey { .. }) => return Err(lost()),
        ledger => ledger?,
    };
    let dossiers = Dossiers::open(&dir.join("dossiers"), identity.ledger_key()?);
    let (secrets_key, lease) = (identity.secrets_key()?, lease::restore(dir));
    Ok((identity, Kept { ledger, dossiers, lease, secrets_key }))
}

/// What is on disk.
pub(crate) struct Kept {
    ledger: Ledger,
    dossiers: Dossiers,
    lease: Lease,
    secrets_key: SealingKey,
}

/// The parts, in the order in which they were started.
struct Running {
    ledger: Ledger,
    deaths: Supervisor,
    reconcile: Supervisor,
    sampling: Supervisor,
    link: Supervisor,
}

impl Running {
    async fn start(
        config: &Config,
        identity: Identity,
        kept: Kept,
        engine: Arc<impl Runtime + Upkeep>,
    ) -> Self {
        let (runtime, upkeep): (Arc<dyn Runtime>, Arc<dyn Upkeep>) = (engine.clone(), engine);
        let Kept { ledger, dossiers, lease, secrets_key } = kept;
        let (asking, asked) = secrets::ask::channel();
        let secrets = Secrets::new(secrets::Parts {
            node: identity.node_id(),
            kept_dir: config.data_dir.join("secrets"),
            key: secrets_key,
            files_dir: config.secrets_dir.clone(),
            asking,
        });
        let part = || Supervisor::new(Handle::current());
        let (deaths, reconcile, sampling, link) = (part(), part(), part(), part());
        let recent = sample::Recent::default();
        let (tell, told) = Deaths::new();
        dossier::start(
            &deaths,
            dossier::Parts {
                deaths: told,
                runtime: runtime.clone(),
                recent: recent.clone(),
                dossiers: dossiers.clone(),
            },
        );
        let settings = reconcile::Settings {
            max_parallel_actions: config.max_parallel_actions,
            pull: pull::Settings { logins: config.logins(), ..pull::Settings::default() },
            ..reconcile::Settings::default()
        };
        if let Err(error) = settings.pull.logins.check().await {
            let error: &dyn std::error::Error = &error;
            tracing::warn!(error, "registry_auth_file cannot be used; images are pulled without a login");
        }
        let (sizes, storage) = watch::channel(storage::Sizes::default());
        let published = reconcile::start(
            &reconcile,
            reconcile::Parts {
                ledger: ledger.clone(),
                runtime: runtime.clone(),
                settings,
                deaths: tell,
                lease: lease.clone(),
                storage: storage.clone(),
                secrets: secrets.clone(),
            },
        );
        secrets::forget_in_time(&reconcile, secrets.clone(), ledger.clone());
        let address = config.address.clone();
        let limit = storage::start(
            &reconcile,
            storage::Parts {
                upkeep: upkeep.clone(),
                ledger: ledger.clone(),
                running: published.running.clone(),
                engine: published.engine.clone(),
                sizes,
                settings: config.storage(),
            },
        );
        let facts =
            facts::keep(&reconcile, runtime.clone(), published.engine.clone(), limit, address.clone());
        housekeeping::start(
            &reconcile,
            housekeeping::Parts {
                upkeep,
                runtime: runtime.clone(),
                ledger: ledger.clone(),
                engine: published.engine.clone(),
                facts: facts.clone(),
                data_dir: config.data_dir.clone(),
                settings: config.housekeeping(),
            },
        );
        let (sample_period, period) = watch::channel(SAMPLE_PERIOD);
        let samples = sample::start(
            &sampling,
            sample::Parts {
                running: published.running,
                runtime: runtime.clone(),
                engine: published.engine.clone(),
                period,
                storage,
                recent,
                thresholds: config.health_thresholds(),
                data_dir: config.data_dir.clone(),
                ledger_trouble: ledger.trouble(),
            },
        );
        let mut state = published.engine.clone();
        // Whether it came in time is what the status says from then on.
        let _ = timeout(FIRST_ANSWER, state.wait_for(|state| *state == EngineState::Reachable)).await;
        let engine = EngineStatus { state: published.engine, facts };
        let (engine_state, waiting) = (engine.state.clone(), samples.clone());
        lease::keep(&link, lease.clone(), config.data_dir.clone());
        let news = link::start(
            &link,
            link::Parts {
                identity,
                ledger: ledger.clone(),
                runtime,
                engine,
                samples,
                dossiers,
                sample_period,
                address,
                lease,
                pulls: published.pulls,
                asked,
            },
        );
        status::keep(
            &link,
            status::Sources {
                data_dir: config.data_dir.clone(),
                ledger: ledger.clone(),
                samples: waiting,
                engine: engine_state,
                link: news,
                secrets_dir: config.secrets_dir.clone(),
            },
        );
        Self { ledger, deaths, reconcile, sampling, link }
    }

    async fn stop(self) {
        for (part, supervisor, grace) in [
            ("link", self.link, PART_GRACE),
            ("sampling", self.sampling, PART_GRACE),
            ("reconcile", self.reconcile, RECONCILE_GRACE),
            ("deaths", self.deaths, PART_GRACE),
        ] {
            if !supervisor.shut_down(grace).await {
                tracing::warn!(part, "a part of the agent did not end in time");
            }
        }
        if timeout(PART_GRACE, self.ledger.close()).await.is_err() {
            tracing::error!("the ledger was not closed in time");
        }
        tracing::info!("agent stopped");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use domain::{
        assignment::{Assignment, AssignmentSet},
        deployment::InstanceSpec,
        id::{DeploymentId, InstanceId},
        instance::Desired,
    };
    use tokio::time::sleep;
    use uuid::Uuid;

    use super::*;
    use crate::{
        identity::testing::TestCa,
        ledger::testing::{FaultyDisk, key},
        runtime::fake::FakeRuntime,
    };

    #[tokio::test]
    async fn an_agent_whose_controller_is_away_works_and_stops_in_order_and_touches_no_container() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = FaultyDisk::default().open(dir.path()).unwrap();
        let id = InstanceId::from_uuid(Uuid::now_v7());
        let assignment = Assignment {
            instance_id: id,
            deployment_id: DeploymentId::from_uuid(Uuid::nil()),
            deployment_name: "web".into(),
            revision: 1,
            spec: InstanceSpec::of_image("app:1"),
            desired: Desired::Running,
            restart_generation: 0,
            registry_credential: None,
        };
        let set = AssignmentSet { revision: 1, assignments: [(id, assignment)].into() };
        let _ = ledger.assignments_replace(set).await.unwrap();
        let dossiers = Dossiers::open(&dir.path().join("dossiers"), key());
        // A port that nobody listens on.
        let identity = TestCa::new().identity(dir.path(), "https://127.0.0.1:1");
        let engine = FakeRuntime::default();
        let config = Config { data_dir: dir.path().into(), ..Config::default() };
        let lease = Lease::renewed_ago(Duration::ZERO);
        let kept = Kept { ledger, dossiers, lease, secrets_key: key() };
        let parts = Running::start(&config, identity, kept, Arc::new(engine.clone())).await;
        let begun = Instant::now();
        while engine.running() == 0 {
            assert!(begun.elapsed() < Duration::from_secs(20), "waited in vain until it runs");
            sleep(Duration::from_millis(2)).await;
        }
        let before = engine.container(id);
        let stopping = Instant::now();
        parts.stop().await;
        assert!(stopping.elapsed() < Duration::from_secs(5), "{:?}", stopping.elapsed());
        assert_eq!(engine.container(id), before);
        let ledger = Ledger::open(dir.path(), key()).unwrap();
        assert_eq!(ledger.records().len(), 1, "what was learnt is on disk");
    }
}
