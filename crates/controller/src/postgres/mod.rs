//! The embedded PostgreSQL: a private cluster that lives and ends with the controller.
//!
//! Without a database URL the controller runs PostgreSQL's own programs, as the
//! distribution installed them, on a data directory of its own. The server is a
//! foreground child, listens on a Unix socket only, flushes to disk, and runs under
//! an unprivileged account even when the controller is root. A thread of its own
//! starts it, starts it again when it dies, and stops it; if the controller is
//! killed, the kernel tells the server to shut down.
//!
//! Who may connect is decided by the mode of the socket's directory, 0700, and by
//! nothing else: whoever can pass it owns the data files anyway.
//!
//! The controller's own directory may stay closed to reading, but the server's
//! account must be able to pass through every directory above the cluster; a
//! directory with mode 0700 there is an error that names it.
//!
//! It does not tune, back up or upgrade the cluster; who needs that sets a database
//! URL.

use std::{
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use self::{
    cluster::Postmaster,
    layout::Layout,
    supervisor::{Event, STOP_DEADLINE, Supervisor},
};

mod account;
mod cluster;
mod error;
mod layout;
mod process;
mod programs;
mod supervisor;

pub use self::error::EmbeddedError;

/// The superuser of the cluster, and the name of the database in it.
const ROLE: &str = "automator67";
const DATABASE: &str = "automator67";
/// How long [`open`] waits for another process that is just starting the cluster.
const OPEN_DEADLINE: Duration = Duration::from_secs(60);

/// Where the cluster is and what runs it.
#[derive(Clone, Debug)]
pub struct EmbeddedSettings {
    /// The directory for the cluster, its log and its socket. Made if missing.
    pub data_dir: PathBuf,
    /// The directory of `postgres` and `initdb`; unset: the newest, 14 or newer.
    pub bin_dir: Option<PathBuf>,
    /// The account to run as when we are root; unset: the owner of an existing
    /// cluster, else `postgres`, else `nobody`.
    pub user: Option<String>,
}

/// A running cluster of ours. Dropping it stops the server too, without waiting.
#[derive(Debug)]
#[must_use = "dropping the handle stops the database"]
pub struct Embedded {
    url: String,
    tell: mpsc::Sender<Event>,
    ended: oneshot::Receiver<Result<(), EmbeddedError>>,
}

impl Embedded {
    /// Starts the cluster, making it first where there is none, and waits until it
    /// accepts connections.
    ///
    /// Waits up to 30 s for the server of a controller that was just killed.
    /// Cancel-safe: a start that nobody waits for any more is undone.
    ///
    /// # Errors
    /// [`EmbeddedError::AlreadyRunning`] when another process runs this cluster;
    /// the others say what to install or to change.
    pub async fn start(settings: EmbeddedSettings) -> Result<Self, EmbeddedError> {
        let (tell, events) = mpsc::channel();
        let (started, starting) = oneshot::channel();
        let (told_end, ended) = oneshot::channel();
        let data_dir = settings.data_dir.clone();
        let own_tell = tell.clone();
        thread::Builder::new()
            .name("postgres".to_owned())
            .spawn(move || {
                let supervisor = match Supervisor::prepare(&settings, own_tell, events) {
                    Ok(supervisor) => supervisor,
                    Err(error) => return drop(started.send(Err(error))),
                };
                let url = socket_url(supervisor.socket_dir());
                let result = supervisor.run(|ready| started.send(ready.map(|()| url)).is_ok());
                // The lock is free by now, so whoever waits for this may start again.
                drop(told_end.send(result));
            })
            .map_err(|source| EmbeddedError::io("start a thread for", &data_dir, source))?;
        // From here on, a cancelled start still tells the thread to stop.
        let mut handle = Self { url: String::new(), tell, ended };
        handle.url = starting.await.map_err(|_| EmbeddedError::Gone)??;
        Ok(handle)
    }

    /// The URL of the database: its host is the directory of the socket. Holds no secret.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Stops the server: fast, and after 20 s by force, which costs a recovery at
    /// the next start and no data. Close the pool before.
    ///
    /// # Errors
    /// When the server's process does not end at all.
    pub async fn stop(mut self) -> Result<(), EmbeddedError> {
        if self.tell.send(Event::Stop).is_err() {
            tracing::debug!("the cluster's thread has ended already");
        }
        match tokio::time::timeout(STOP_DEADLINE, &mut self.ended).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) | Err(_) => Err(EmbeddedError::Gone),
        }
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        // A thread that has already ended needs no telling.
        drop(self.tell.send(Event::Stop));
    }
}

/// The URL of the cluster that another process of ours runs on `data_dir`; `None`
/// if none does, or if it does not answer yet.
///
/// Needs the right to read the cluster: root, or the account that runs it.
#[must_use]
pub fn attach(data_dir: &Path) -> Option<String> {
    let layout = Layout::existing(data_dir)?;
    if !layout.is_locked() {
        return None;
    }
    let postmaster = Postmaster::read(&layout.cluster())?;
    postmaster.answers().then(|| socket_url(&postmaster.socket_dir))
}

/// A way into the cluster, for a command that runs for a moment.
#[derive(Debug)]
pub enum Access {
    /// Another process runs it.
    Attached {
        /// The URL of the database.
        url: String,
    },
    /// Nobody ran it, so we do.
    Started(Embedded),
}

impl Access {
    /// The URL of the database.
    #[must_use]
    pub fn url(&self) -> &str {
        match self {
            Self::Attached { url } => url,
            Self::Started(embedded) => embedded.url(),
        }
    }

    /// Stops the server if it was started for this.
    ///
    /// # Errors
    /// As [`Embedded::stop`].
    pub async fn close(self) -> Result<(), EmbeddedError> {
        match self {
            Self::Attached { .. } => Ok(()),
            Self::Started(embedded) => embedded.stop().await,
        }
    }
}

/// Uses the cluster that another process runs, or starts it. Waits up to a minute
/// for a process that is just starting it.
///
/// # Errors
/// As [`Embedded::start`].
pub async fn open(settings: EmbeddedSettings) -> Result<Access, EmbeddedError> {
    let started = Instant::now();
    loop {
        if let Some(url) = attach(&settings.data_dir) {
            return Ok(Access::Attached { url });
        }
        match Embedded::start(settings.clone()).await {
            // The lock's own wait, some seconds, is the pause between two rounds.
            Err(EmbeddedError::AlreadyRunning { .. }) if started.elapsed() < OPEN_DEADLINE => {}
            other => return other.map(Access::Started),
        }
    }
}

/// Writes the directory into the host part, where a slash would end it.
fn socket_url(dir: &Path) -> String {
    let mut url = format!("postgres://{ROLE}@");
    for &byte in dir.as_os_str().as_encoded_bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.') {
            url.push(char::from(byte));
        } else {
            url.push_str(&format!("%{byte:02X}"));
        }
    }
    url.push('/');
    url.push_str(DATABASE);
    url
}

#[cfg(test)]
mod tests;
