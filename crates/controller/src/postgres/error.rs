//! What can go wrong around the embedded cluster, with what to do about it.

use std::{io, path::PathBuf, process::ExitStatus, time::Duration};

/// Why the embedded PostgreSQL cannot be used. Each text names the path, account
/// or version to change.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// Neither Debian's directories nor the path, or not the configured directory.
    #[error(
        "find PostgreSQL's programs of version 14 or newer in {looked_in}; install them \
         (Debian, Ubuntu: apt-get install postgresql), or set postgres_bin_dir to the directory of \
         `postgres` and `initdb`, or set database_url to use a server of your own"
    )]
    NoPrograms {
        /// Where they were looked for.
        looked_in: String,
    },
    /// The data are there, but not the programs that can read them.
    #[error(
        "open the database cluster in {}: PostgreSQL {cluster} made it, but only {found} is installed; \
         install postgresql-{cluster} again, or move the data with pg_upgrade",
        path.display()
    )]
    OtherMajor {
        /// The data directory.
        path: PathBuf,
        /// The major version that made it.
        cluster: u32,
        /// The major versions that were found.
        found: String,
    },
    /// Something else is where the cluster should be.
    #[error("open the database cluster in {}: it is there, but is not a PostgreSQL cluster; move it away", path.display())]
    NotACluster {
        /// The directory.
        path: PathBuf,
    },
    /// `initdb` or the first statement failed.
    #[error("make the database cluster in {}: {said}", path.display())]
    MakeCluster {
        /// The directory that was to be made.
        path: PathBuf,
        /// The status, and what the program wrote on standard error.
        said: String,
    },
    /// The configured account does not exist.
    #[error("find the user {name:?} (postgres_user)")]
    UnknownUser {
        /// The configured name.
        name: String,
    },
    /// We are root and there is no account to run the server under.
    #[error(
        "find a user to run PostgreSQL as, which refuses root: neither postgres nor nobody exists; set postgres_user"
    )]
    NoUser,
    /// The account is root's.
    #[error("run PostgreSQL as root, which it refuses; set postgres_user to an unprivileged user")]
    RootUser,
    /// Only root may start programs under another account.
    #[error("run PostgreSQL as user {wanted} from user {own}: only root can; unset postgres_user")]
    CannotSwitchUser {
        /// Our own user id.
        own: u32,
        /// The configured one.
        wanted: u32,
    },
    /// The cluster is another account's.
    #[error(
        "open the database cluster in {}: it belongs to user {owner}, not {wanted}; run as that user, \
         or change the owner of the whole directory",
        path.display()
    )]
    ForeignCluster {
        /// The data directory.
        path: PathBuf,
        /// Its owner's user id.
        owner: u32,
        /// The user id that the server would run under.
        wanted: u32,
    },
    /// A directory on the way is closed to the server's account.
    #[error("let user {uid}, who runs PostgreSQL, pass through {}: make it searchable (chmod a+x)", path.display())]
    Unreachable {
        /// The first closed directory, from the cluster upwards.
        path: PathBuf,
        /// The user id that the server runs under.
        uid: u32,
    },
    /// Somebody else owns the directory that the socket or the cluster should be in.
    #[error("use {} as a private directory: it is not a directory of user {wanted}; remove it", path.display())]
    NotPrivate {
        /// The directory.
        path: PathBuf,
        /// Who should own it.
        wanted: u32,
    },
    /// Another of our processes holds the lock.
    #[error("start the database in {}: another automator67-controller already runs it", path.display())]
    AlreadyRunning {
        /// The directory with the lock.
        path: PathBuf,
    },
    /// An earlier server does not go away.
    #[error("start the database in {}: process {pid} of an earlier server still works there; stop it", path.display())]
    StillRunning {
        /// The data directory.
        path: PathBuf,
        /// One of its processes.
        pid: u32,
    },
    /// The server ended before it accepted connections.
    #[error("start PostgreSQL ({status}): {log}")]
    Start {
        /// How it ended.
        status: ExitStatus,
        /// The end of its log.
        log: String,
    },
    /// The server did not accept connections in time.
    #[error("start PostgreSQL within {} s: {log}", deadline.as_secs())]
    NotReady {
        /// How long it was given.
        deadline: Duration,
        /// The end of its log.
        log: String,
    },
    /// Asked to stop before it was ready.
    #[error("start PostgreSQL: it was told to stop first")]
    Stopped,
    /// Not even a kill ended the server in time.
    #[error("stop PostgreSQL, process {pid}")]
    Stop {
        /// The server's process id.
        pid: u32,
    },
    /// The cluster's thread ended without an answer.
    #[error("reach the thread that runs PostgreSQL")]
    Gone,
    /// A system call failed.
    #[error("{action} {}", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

impl EmbeddedError {
    pub(super) fn io(action: &'static str, path: &std::path::Path, source: io::Error) -> Self {
        Self::Io { action, path: path.to_owned(), source }
    }
}
