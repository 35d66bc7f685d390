//! Order of start and stop.
//!
//! Start: logging, database (a private one where none is given), migrations,
//! vault, sockets, services, tasks, servers. Stop, in the order that loses
//! nothing: readiness off and no new connections; sessions are told to go and
//! requests under way finish; tasks end; the pool closes; the private PostgreSQL
//! stops last. A second signal ends the process at once.

use std::{path::Path, sync::Arc, time::Duration};

use daemon::{Supervisor, notify, seal::SealingKey, shutdown::Signals};
use store::{Store, StoreError, StoreSettings};
use tokio::{net::TcpListener, runtime::Handle};
use tokio_util::sync::CancellationToken;

use crate::{
    auth::{
        oauth::{Providers, github::Github},
        password::Hasher,
    },
    config::Config,
    grpc, http, pki,
    pki::PkiError,
    postgres::{self, Access, Embedded, EmbeddedError, EmbeddedSettings},
    service::{
        OperationNews, Services,
        audit::Strangers,
        identity::{Identity, cache::Callers, keys::Keys, limits::Floods},
    },
    tasks,
    vault::{self, VaultError, rekey::RekeyError},
};

/// Why the controller does not run.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The data directory cannot be used.
    #[error("use data directory {path}")]
    DataDir {
        /// Which.
        path: String,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The private PostgreSQL does not run.
    #[error("run the private PostgreSQL")]
    Postgres(#[from] EmbeddedError),
    /// The database cannot be used.
    #[error("use the database")]
    Store(#[from] StoreError),
    /// The vault does not open.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// Not everything could be moved to another master key.
    #[error(transparent)]
    Rekey(#[from] RekeyError),
    /// The agents' side has no certificate.
    #[error("make the server's certificate")]
    Pki(#[from] PkiError),
    /// An address is in use, or not this host's.
    #[error("listen on {address} ({key})")]
    Listen {
        /// Which.
        address: String,
        /// Where it is configured.
        key: &'static str,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// Signals cannot be heard, or a password hash cannot be made.
    #[error("start")]
    Start(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A server ended by itself.
    #[error("serve {0}")]
    Server(&'static str, #[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Makes the data directory, and lets PostgreSQL's account pass through it: the
/// directory's own files have modes of their own.
fn prepare_data_dir(path: &Path) -> Result<(), AppError> {
    use std::os::unix::fs::PermissionsExt;
    let made = std::fs::create_dir_all(path).and_then(|()| {
        let mut permissions = std::fs::metadata(path)?.permissions();
        if permissions.mode() & 0o777 == 0o711 {
            return Ok(());
        }
        permissions.set_mode(0o711);
        std::fs::set_permissions(path, permissions)
    });
    made.map_err(|source| AppError::DataDir { path: path.display().to_string(), source })
}

fn embedded_settings(config: &Config) -> EmbeddedSettings {
    EmbeddedSettings {
        data_dir: config.postgres_dir(),
        bin_dir: config.postgres_bin_dir.clone(),
        user: config.postgres_user.clone(),
    }
}

fn open_store(config: &Config, url: &str) -> Result<Store, AppError> {
    let settings = StoreSettings { url: url.into(), connections_max: config.database_connections };
    Ok(Store::new(settings, Handle::current())?)
}

/// Waits for a database that is starting: a compose file or a service manager may
/// start both at once. Applies the migrations, and makes sure that what is done from
/// here on has a month of the audit log to be written to.
async fn migrate(config: &Config, store: &Store) -> Result<usize, AppError> {
    let applied = migrate_when_there(store).await?;
    store.audit_partitions_maintain(chrono::Utc::now(), config.settings().audit_retention).await?;
    Ok(applied)
}

async fn migrate_when_there(store: &Store) -> Result<usize, AppError> {
    let mut backoff = daemon::Backoff::new(Duration::from_millis(200), Duration::from_secs(3));
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        match store.migrate().await {
            Ok(applied) => return Ok(applied),
            Err(e @ StoreError::Unavailable(_)) if tokio::time::Instant::now() < deadline => {
                tracing::warn!(error = crate::error::chain(&e), "waiting for the database");
                tokio::time::sleep(backoff.next_delay()).await;
            }
            Err(e) => return Err(e.into()),
        }
    }
}

/// Makes everything that handlers share. Founds the fleet on an empty database.
///
/// # Errors
/// When the vault does not open.
pub async fn build(config: &Config, store: Store, supervisor: Supervisor) -> Result<Arc<Services>, AppError> {
    let vault::Opened { fleet_id, ca, cookies, flows, keys, signing } = vault::open(config, &store).await?;
    let passwords = Hasher::new(config.bcrypt_cost).map_err(|e| AppError::Start(e.into()))?;
    let callers = Callers::new(store.revocations().clone());
    let providers = providers(config, flows)?;
    let settings = config.settings();
    Ok(Arc::new(Services {
        floods: Floods::new(&settings),
        store,
        identity: Identity { passwords, keys: Keys::new(keys, signing), callers },
        ca: Arc::new(ca),
        providers,
        cookies,
        fleet_id,
        sessions: crate::fleet::Sessions::default(),
        heartbeats: crate::fleet::Heartbeats::new(settings.presence),
        streams: crate::fleet::Streams::default(),
        operations: OperationNews::default(),
        strangers: Strangers::default(),
        stopping: CancellationToken::new(),
        supervisor,
        settings,
    }))
}

fn providers(config: &Config, flows: SealingKey) -> Result<Providers, AppError> {
    let start = |e: Box<dyn std::error::Error + Send + Sync>| AppError::Start(e);
    let github = config.github().map_err(|e| start(e.into()))?;
    let github = github.map(Github::new).transpose().map_err(|e| start(e.into()))?;
    let public_url = config.public_address().map_err(|e| start(e.into()))?;
    Ok(Providers::new(public_url, github, flows))
}

/// Runs `act` with services on the database, which is started for the moment if
/// no controller runs it. For commands at the host.
///
/// # Errors
/// When the database or the vault cannot be used.
pub async fn with_services<T>(config: &Config, act: impl AsyncFnOnce(&Services) -> T) -> Result<T, AppError> {
    with_store(config, async |store| {
        let services = build(config, store, Supervisor::new(Handle::current())).await?;
        Ok(act(&services).await)
    })
    .await
}

/// Runs `act` with the database at this version's schema; for commands that need no more.
///
/// # Errors
/// When the database cannot be used, and those of `act`.
pub async fn with_store<T>(
    config: &Config,
    act: impl AsyncFnOnce(Store) -> Result<T, AppError>,
) -> Result<T, AppError> {
    prepare_data_dir(&config.data_dir)?;
    let access = match &config.database_url {
        Some(_) => None,
        None => Some(postgres::open(embedded_settings(config)).await?),
    };
    let url = config.database_url.as_ref().map(|url| url.to_string());
    let store = open_store(config, url.as_deref().or(access.as_ref().map(Access::url)).unwrap_or_default())?;
    let result = async {
        migrate(config, &store).await?;
        act(store.clone()).await
    }
    .await;
    store.close();
    if let Some(access) = access {
        access.close().await?;
    }
    result
}

/// Brings the database to this version's schema.
///
/// # Errors
/// When the database cannot be used.
pub async fn migrate_only(config: &Config) -> Result<(), AppError> {
    with_services(config, async |_| ()).await
}

/// Serves until a signal comes.
///
/// # Errors
/// When it cannot start, or a server ends by itself.
pub async fn serve(config: Config) -> Result<(), AppError> {
    let signals = Signals::install().map_err(|e| AppError::Start(e.into()))?;
    let _watchdog = notify::Watchdog::start();
    prepare_data_dir(&config.data_dir)?;
    let http_listener = bind_std(config.http_listen, "http_listen")?;
    let grpc_listener = bind(config.grpc_listen, "grpc_listen").await?;
    let embedded = match &config.database_url {
        Some(_) => None,
        None => Some(Embedded::start(embedded_settings(&config)).await?),
    };
    let url = config.database_url.as_ref().map(|url| url.to_string());
    let store =
        open_store(&config, url.as_deref().or(embedded.as_ref().map(Embedded::url)).unwrap_or_default())?;
    let served = run(&config, store.clone(), (http_listener, grpc_listener), &signals).await;
    store.close();
    if let Some(embedded) = embedded {
        embedded.stop().await?;
    }
    tracing::info!("stopped");
    served
}

async fn prepare(config: &Config, store: Store, supervisor: Supervisor) -> Result<Arc<Services>, AppError> {
    let applied = migrate(config, &store).await?;
    tracing::info!(applied, "the database is at this version's schema");
    let services = build(config, store, supervisor).await?;
    // The first reading must find its partition.
    services.store.sample_partitions_maintain(chrono::Utc::now()).await?;
    Ok(services)
}

async fn run(
    config: &Config,
    store: Store,
    (http_listener, grpc_listener): (std::net::TcpListener, TcpListener),
    signals: &Signals,
) -> Result<(), AppError> {
    let supervisor = Supervisor::new(Handle::current());
    let grpc_supervisor = Supervisor::new(Handle::current());
    // Cancel-safe: what a start that was interrupted has made is found again by the next.
    let services = tokio::select! {
        services = prepare(config, store, supervisor.clone()) => services?,
        signal = signals.first() => {
            tracing::info!(%signal, "stopping before the start was complete");
            return Ok(());
        }
    };
    tasks::start(&services);
    services.first_admin_announce(std::io::stdout()).await;
    let grace = Duration::from_secs(config.shutdown_grace_seconds);
    let tls = pki::server_config(services.ca.clone())?;
    let incoming = pki::incoming(grpc_listener, tls, &grpc_supervisor);
    let mut agents =
        supervisor.spawn("gRPC server", grpc::serve(services.clone(), incoming, services.stopping.clone()));
    let http = http::server(services.clone(), http_listener, grace)
        .map_err(|e| AppError::Server("HTTP", e.into()))?;
    let mut clients = supervisor.spawn("HTTP server", http);
    tracing::info!(
        http = %config.http_listen, grpc = %config.grpc_listen, public_url = services.settings.public_url,
        agent_url = services.settings.agent_url, fleet = %services.fleet_id, "ready"
    );
    notify::ready();
    // Cancel-safe: whichever happens first begins the stop.
    let ended = tokio::select! {
        signal = signals.first() => {
            tracing::info!(%signal, "stopping");
            Ok(())
        }
        ended = &mut agents => Err(AppError::Server("agents", format!("it ended by itself: {ended:?}").into())),
        ended = &mut clients => Err(AppError::Server("HTTP", format!("it ended by itself: {ended:?}").into())),
    };
    notify::stopping();
    services.stopping.cancel();
    grpc_supervisor.shut_down(Duration::from_secs(1)).await;
    let servers = async {
        if !agents.is_finished() {
            let _ = (&mut agents).await;
        }
        if !clients.is_finished() {
            let _ = (&mut clients).await;
        }
    };
    if tokio::time::timeout(grace + Duration::from_secs(2), servers).await.is_err() {
        tracing::warn!(seconds = grace.as_secs(), "requests under way did not end in time");
    }
    if !supervisor.shut_down(Duration::from_secs(5)).await {
        tracing::warn!("tasks did not end in time");
    }
    ended
}

async fn bind(address: std::net::SocketAddr, key: &'static str) -> Result<TcpListener, AppError> {
    TcpListener::bind(address).await.map_err(|source| AppError::Listen {
        address: address.to_string(),
        key,
        source,
    })
}

fn bind_std(address: std::net::SocketAddr, key: &'static str) -> Result<std::net::TcpListener, AppError> {
    let listen = || {
        let socket = std::net::TcpListener::bind(address)?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    };
    listen().map_err(|source| AppError::Listen { address: address.to_string(), key, source })
}
