//! The pool. Its connections live on the main runtime.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use diesel::{ConnectionError, ConnectionResult};
use diesel_async::{
    AsyncPgConnection,
    pooled_connection::{AsyncDieselConnectionManager, ManagerConfig, RecyclingMethod, deadpool},
};
use futures_util::FutureExt;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use tokio::runtime::Handle;
use tokio_postgres::tls::MakeTlsConnect;

use crate::{
    StoreError,
    credential::Sealer,
    url::{DatabaseUrl, TlsRoots},
    wake::Revocations,
    watched::Watched,
};

/// How long a caller waits for a free connection before it is told 503.
const WAIT: Duration = Duration::from_secs(5);
/// Longest statement. All of ours take milliseconds; a longer one is stuck.
const STATEMENT_TIMEOUT_MS: u32 = 15_000;

/// How to reach the database. Holds a password: no `Debug`.
#[derive(Clone)]
pub struct StoreSettings {
    /// As libpq writes it, with `sslmode` and `sslrootcert`.
    pub url: Arc<str>,
    /// Most connections at once, besides one that listens.
    pub connections_max: usize,
}

pub(crate) type Conn = deadpool::Object<AsyncPgConnection>;

/// The controller's state. A cheap handle; clones share one pool.
#[derive(Clone)]
pub struct Store {
    pool: deadpool::Pool<AsyncPgConnection>,
    settings: StoreSettings,
    revocations: Revocations,
    sealer: Arc<OnceLock<Arc<dyn Sealer>>>,
}

impl Store {
    /// Prepares the pool; connects to nothing yet.
    ///
    /// diesel-async drives a connection on a task of the runtime that opened it.
    /// Left alone, a connection first wanted by an HTTP handler would live on
    /// that worker's own runtime: it would stall when the worker is busy, and die
    /// when the HTTP server stops, under whoever holds it then. So connections
    /// are opened on `main`.
    ///
    /// # Errors
    /// When the URL cannot be used.
    pub fn new(settings: StoreSettings, main: Handle) -> Result<Self, StoreError> {
        let unavailable = |e: Box<dyn std::error::Error + Send + Sync>| StoreError::Unavailable(e);
        // Parsed once here, so that a bad URL is an error at the start and not at the first query.
        settings.url.parse::<DatabaseUrl>().map_err(|e| unavailable(e.into()))?;
        let mut config = ManagerConfig::default();
        config.recycling_method = RecyclingMethod::Fast;
        config.custom_setup = Box::new(move |url| {
            let (main, url) = (main.clone(), url.to_owned());
            async move {
                main.spawn(async move { connect_watched(&url).await })
                    .await
                    .map_err(|e| ConnectionError::BadConnection(e.to_string()))?
            }
            .boxed()
        });
        let manager = AsyncDieselConnectionManager::new_with_config(settings.url.as_ref(), config);
        let pool = deadpool::Pool::builder(manager)
            .max_size(settings.connections_max)
            .wait_timeout(Some(WAIT))
            .create_timeout(Some(WAIT))
            .recycle_timeout(Some(WAIT))
            .runtime(::deadpool::Runtime::Tokio1)
            .build()
            .map_err(|e| unavailable(e.into()))?;
        Ok(Self { pool, settings, revocations: Revocations::default(), sealer: Arc::default() })
    }

    /// How often access was ended; shared by all clones.
    #[must_use]
    pub fn revocations(&self) -> &Revocations {
        &self.revocations
    }

    pub(crate) fn sealer_cell(&self) -> &OnceLock<Arc<dyn Sealer>> {
        &self.sealer
    }

    /// A connection from the pool, within five seconds.
    pub(crate) async fn conn(&self) -> Result<Conn, StoreError> {
        self.pool.get().await.map_err(|e| StoreError::Unavailable(e.into()))
    }

    /// A connection of its own, outside the pool.
    pub(crate) async fn connect_apart(&self) -> Result<AsyncPgConnection, StoreError> {
        connect(&self.settings.url).await.map_err(|e| StoreError::Unavailable(e.into()))
    }

    /// Asks the database whether it is there.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn ping(&self) -> Result<(), StoreError> {
        use diesel_async::SimpleAsyncConnection;
        let mut conn = self.conn().await?;
        conn.batch_execute("select 1").await.map_err(Into::into)
    }

    /// Closes the pool; later calls fail.
    pub fn close(&self) {
        self.pool.close();
    }
}

fn bad(error: &dyn std::error::Error) -> ConnectionError {
    ConnectionError::BadConnection(chain(error))
}

fn configured(url: &str) -> ConnectionResult<DatabaseUrl> {
    let mut parsed: DatabaseUrl = url.parse().map_err(|e: crate::url::InvalidUrl| bad(&e))?;
    parsed.config.application_name("automator67-controller").connect_timeout(WAIT);
    let options = format!(
        "{} -c statement_timeout={STATEMENT_TIMEOUT_MS} -c idle_in_transaction_session_timeout={STATEMENT_TIMEOUT_MS}",
        parsed.config.get_options().unwrap_or_default()
    );
    parsed.config.options(options.trim());
    Ok(parsed)
}

/// Opens a connection for the pool on the present runtime: one that breaks when
/// the database does not answer.
async fn connect_watched(url: &str) -> ConnectionResult<AsyncPgConnection> {
    let DatabaseUrl { config, tls } = configured(url)?;
    let stream = Watched::dial(&config, tls.is_none()).await.map_err(|e| bad(&e))?;
    match tls {
        None => {
            let (client, connection) =
                config.connect_raw(stream, tokio_postgres::NoTls).await.map_err(|e| bad(&e))?;
            Handle::current().spawn(drive(connection));
            AsyncPgConnection::try_from(client).await
        }
        Some(roots) => {
            let mut maker =
                tokio_postgres_rustls::MakeRustlsConnect::new(tls_config(&roots).map_err(|e| bad(&*e))?);
            let host = config.get_hosts().iter().find_map(|host| match host {
                tokio_postgres::config::Host::Tcp(name) => Some(name.as_str()),
                tokio_postgres::config::Host::Unix(_) => None,
            });
            let connector = MakeTlsConnect::<Watched>::make_tls_connect(&mut maker, host.unwrap_or_default())
                .map_err(|e| bad(&e))?;
            let (client, connection) = config.connect_raw(stream, connector).await.map_err(|e| bad(&e))?;
            Handle::current().spawn(drive(connection));
            AsyncPgConnection::try_from(client).await
        }
    }
}

/// Moves a connection's bytes until it ends. Whoever waits on it is told by then;
/// here its end is only noted.
async fn drive<T>(connection: tokio_postgres::Connection<Watched, T>)
where
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    if let Err(error) = connection.await {
        tracing::debug!(error = chain(&error), "a database connection ended");
    }
}

/// Opens one connection on the present runtime, without a deadline for answers:
/// for listening, and for migrations, which may take long.
pub(crate) async fn connect(url: &str) -> ConnectionResult<AsyncPgConnection> {
    let DatabaseUrl { config, tls } = configured(url)?;
    match tls {
        None => {
            let (client, connection) = config.connect(tokio_postgres::NoTls).await.map_err(|e| bad(&e))?;
            AsyncPgConnection::try_from_client_and_connection(client, connection).await
        }
        Some(roots) => {
            let connector =
                tokio_postgres_rustls::MakeRustlsConnect::new(tls_config(&roots).map_err(|e| bad(&*e))?);
            let (client, connection) = config.connect(connector).await.map_err(|e| bad(&e))?;
            AsyncPgConnection::try_from_client_and_connection(client, connection).await
        }
    }
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

fn tls_config(roots: &TlsRoots) -> Result<rustls::ClientConfig, BoxError> {
    let mut store = rustls::RootCertStore::empty();
    match roots {
        TlsRoots::WebPki => store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        TlsRoots::File(path) => {
            for certificate in CertificateDer::pem_file_iter(path)? {
                store.add(certificate?)?;
            }
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(store)
        .with_no_client_auth())
}

/// tokio-postgres says only 'db error'; the reason is in its sources.
fn chain(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(error.source(), |e| e.source());
    sources.fold(error.to_string(), |text, source| format!("{text}: {source}"))
}
