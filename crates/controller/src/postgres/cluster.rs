//! What is inside a data directory: making one, and reading what its server says
//! about itself.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::{fs::OpenOptionsExt, net::UnixStream},
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{
    DATABASE, EmbeddedError, ROLE,
    account::Account,
    layout::{self, Layout},
    process,
    programs::Programs,
};

/// The locale of a new cluster; the second is for systems without the first.
const LOCALES: [&str; 2] = ["C.UTF-8", "C"];
const INITDB_DEADLINE: Duration = Duration::from_secs(120);

/// The major version that made the cluster; `None` if there is no cluster yet.
pub(super) fn major(cluster: &Path) -> Result<Option<u32>, EmbeddedError> {
    let path = cluster.join("PG_VERSION");
    match fs::read_to_string(&path) {
        Ok(text) => match text.trim().parse() {
            Ok(major) => Ok(Some(major)),
            Err(_) => Err(EmbeddedError::NotACluster { path: cluster.to_owned() }),
        },
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(EmbeddedError::io("read", &path, error)),
        // Ours are renamed into place as a whole, so this one is not ours.
        Err(_) if cluster.exists() => Err(EmbeddedError::NotACluster { path: cluster.to_owned() }),
        Err(_) => Ok(None),
    }
}

/// Makes the cluster with its database, and only then gives it its name. A crash
/// before that leaves a directory that the next start removes.
pub(super) fn make(
    layout: &Layout,
    programs: &Programs,
    account: Option<Account>,
) -> Result<(), EmbeddedError> {
    let cluster = layout.cluster();
    let new = layout.dir.join(format!("cluster.new-{}", std::process::id()));
    let failed = |source| EmbeddedError::io("make", &cluster, source);
    tracing::info!(dir = %cluster.display(), postgres.major = programs.major, "making a database cluster");
    initdb(layout, programs, account, &new)?;
    create_database(layout, programs, account, &new)?;
    // initdb and the server have flushed what they wrote; the new name is left.
    fs::rename(&new, &cluster).map_err(failed)?;
    File::open(&layout.dir).and_then(|dir| dir.sync_all()).map_err(failed)
}

fn initdb(
    layout: &Layout,
    programs: &Programs,
    account: Option<Account>,
    new: &Path,
) -> Result<(), EmbeddedError> {
    let mut said = String::new();
    for locale in LOCALES {
        layout.remove_half_made()?;
        layout::private_dir(new, account)?;
        let mut command = programs.command("initdb", account);
        command.arg("--pgdata").arg(new).args(["--username", ROLE, "--encoding", "UTF8"]);
        // Who reaches the socket is decided by the mode of its directory.
        command.args(["--auth-local", "trust", "--auth-host", "reject", "--data-checksums"]);
        command.arg(format!("--locale={locale}")).args(["--text-search-config", "simple"]);
        said = match run_logged(layout, command, INITDB_DEADLINE) {
            Ok(()) => return Ok(()),
            Err(EmbeddedError::MakeCluster { said, .. }) => said,
            Err(other) => return Err(other),
        };
        if !said.contains("locale") {
            break;
        }
    }
    Err(EmbeddedError::MakeCluster { path: layout.cluster(), said })
}

/// Makes our database in single-user mode, which needs neither socket nor server.
fn create_database(
    layout: &Layout,
    programs: &Programs,
    account: Option<Account>,
    new: &Path,
) -> Result<(), EmbeddedError> {
    let failed = |source| EmbeddedError::io("make the database in", new, source);
    let statement = layout.dir.join("statement.sql");
    fs::write(&statement, format!("CREATE DATABASE {DATABASE};\n")).map_err(failed)?;
    let mut command = programs.command("postgres", account);
    // The first error ends it with a status, where it would else go on and succeed.
    command.args(["--single", "-c", "exit_on_error=on", "-D"]).arg(new).arg("postgres");
    command.stdin(File::open(&statement).map_err(failed)?);
    let result = run_logged(layout, command, INITDB_DEADLINE);
    fs::remove_file(&statement).map_err(failed)?;
    result
}

/// Runs one step of making a cluster; what it said on standard error goes into
/// the error.
fn run_logged(
    layout: &Layout,
    mut command: std::process::Command,
    deadline: Duration,
) -> Result<(), EmbeddedError> {
    let path = layout.dir.join("initdb.log");
    let failed = |source| EmbeddedError::io("run a program for", &layout.cluster(), source);
    let log = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&path);
    command.stdout(Stdio::null()).stderr(log.map_err(failed)?);
    let status = process::run(command, deadline).map_err(failed)?;
    let said = fs::read(&path).map_err(failed)?;
    let said = String::from_utf8_lossy(&said).trim().replace('\n', " | ");
    if status.success() {
        fs::remove_file(&path).map_err(failed)
    } else {
        Err(EmbeddedError::MakeCluster { path: layout.cluster(), said: format!("{status}: {said}") })
    }
}

/// What a server wrote about itself into `postmaster.pid`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Postmaster {
    pub(super) pid: u32,
    started_at: u64,
    pub(super) socket_dir: PathBuf,
    ready: bool,
}

impl Postmaster {
    /// `None` while there is no such file, or only half of it.
    pub(super) fn read(cluster: &Path) -> Option<Self> {
        Self::parse(&fs::read_to_string(cluster.join("postmaster.pid")).ok()?)
    }

    /// The lines are: process id, data directory, start time, port, socket
    /// directory, listen address, shared memory, status (`pidfile.h`).
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let pid = lines.next()?.trim().parse().ok()?;
        let started_at = lines.nth(1)?.trim().parse().ok()?;
        let socket_dir = PathBuf::from(lines.nth(1)?);
        let ready = lines.nth(2)?.trim() == "ready";
        Some(Self { pid, started_at, socket_dir, ready })
    }

    /// Whether the server accepts connections now.
    pub(super) fn answers(&self) -> bool {
        self.ready && UnixStream::connect(layout::socket_in(&self.socket_dir)).is_ok()
    }

    /// Whether this is what the process `pid`, started at `spawned_at`, wrote, and
    /// not what an earlier one with the same number left. The server notes whole
    /// seconds, so two of them are granted.
    pub(super) fn is_of(&self, pid: u32, spawned_at: SystemTime) -> bool {
        let spawned = spawned_at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        self.pid == pid && self.started_at + 2 >= spawned
    }
}

/// Removes a `postmaster.pid` whose process number has since gone to a process
/// that has nothing to do with this cluster; PostgreSQL would take it for a
/// running server and refuse to start. Common in containers, where numbers start
/// again from 1. Call it with the lock held and no process working in `cluster`.
pub(super) fn remove_stale_pid_file(cluster: &Path) -> Result<(), EmbeddedError> {
    let path = cluster.join("postmaster.pid");
    let pid = fs::read_to_string(&path).ok().and_then(|text| text.lines().next()?.trim().parse::<u32>().ok());
    match pid {
        Some(pid) if Path::new("/proc").join(pid.to_string()).exists() => {
            tracing::warn!(
                postgres.pid = pid,
                "removing a stale postmaster.pid: its number is another process's"
            );
            fs::remove_file(&path).map_err(|source| EmbeddedError::io("remove", &path, source))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "4711\n/data/cluster\n1700000000\n5432\n/data/run\n\n  5432001   8\nready   \n";

    #[test]
    fn the_pid_file_is_read_line_by_line() {
        let read = Postmaster::parse(FILE).unwrap();
        assert_eq!(
            read,
            Postmaster {
                pid: 4711,
                started_at: 1_700_000_000,
                socket_dir: PathBuf::from("/data/run"),
                ready: true
            }
        );
        assert!(!Postmaster::parse(&FILE.replace("ready   ", "starting")).unwrap().ready);
    }

    #[test]
    fn half_a_pid_file_is_none() {
        for end in 0..FILE.len() - "ready   \n".len() {
            assert_eq!(Postmaster::parse(&FILE[..end]), None, "{end}");
        }
    }

    #[test]
    fn what_an_earlier_process_of_the_same_number_left_is_not_ours() {
        let read = Postmaster::parse(FILE).unwrap();
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        assert!(read.is_of(4711, at(1_700_000_000)));
        assert!(read.is_of(4711, at(1_700_000_002)));
        assert!(!read.is_of(4711, at(1_700_000_003)));
        assert!(!read.is_of(4712, at(1_700_000_000)));
    }

    #[test]
    fn a_directory_that_is_no_cluster_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(major(&dir.path().join("missing")), Ok(None)));
        assert!(matches!(major(dir.path()), Err(EmbeddedError::NotACluster { .. })));
        fs::write(dir.path().join("PG_VERSION"), "15\n").unwrap();
        assert!(matches!(major(dir.path()), Ok(Some(15))));
        fs::write(dir.path().join("PG_VERSION"), "").unwrap();
        assert!(matches!(major(dir.path()), Err(EmbeddedError::NotACluster { .. })));
    }
}
