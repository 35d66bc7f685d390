//! The thread that owns the server: starts it, starts it again when it dies, and
//! stops it. It lives as long as the server, because the kernel ties the server's
//! death signal to the thread that started it.

use std::{
    fs::File,
    path::PathBuf,
    process::{Child, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, Sender},
    time::{Duration, Instant, SystemTime},
};

use domain::backoff;
use rustix::process::{Pid, Signal};

use super::{
    EmbeddedError, EmbeddedSettings,
    account::{self, Account},
    cluster::{self, Postmaster},
    layout::{self, Layout},
    process,
    programs::{Programs, Wanted},
};

/// How long a server of an earlier controller may take to end.
const LEAVE_DEADLINE: Duration = Duration::from_secs(30);
/// How long a server may take until it accepts connections. After a crash it first
/// replays its log, which may be a gigabyte.
const READY_DEADLINE: Duration = Duration::from_secs(300);
const READY_POLL: Duration = Duration::from_millis(10);
/// The signals that end a server, each with its time: fast shutdown, immediate
/// shutdown (recovers at the next start), and what nothing can ignore.
const STOP_STEPS: [(Signal, Duration); 3] = [
    (Signal::INT, Duration::from_secs(20)),
    (Signal::QUIT, Duration::from_secs(10)),
    (Signal::KILL, Duration::from_secs(5)),
];
/// Longer than all that the thread can be busy with before it answers to a stop.
pub(super) const STOP_DEADLINE: Duration = Duration::from_secs(90);

/// What the thread waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// The handle was told to stop, or dropped.
    Stop,
    /// The server's process has ended.
    Exited,
}

/// A cluster whose lock we hold, with all that is needed to start its server.
pub(super) struct Supervisor {
    layout: Layout,
    programs: Programs,
    account: Option<Account>,
    socket_dir: PathBuf,
    tell: Sender<Event>,
    events: Receiver<Event>,
    /// Held until this goes.
    _lock: File,
}

/// A server's process.
struct Server {
    child: Child,
    spawned_at: SystemTime,
    started: Instant,
}

impl Supervisor {
    /// Finds the programs, takes the lock, and makes the cluster if there is none.
    pub(super) fn prepare(
        settings: &EmbeddedSettings,
        tell: Sender<Event>,
        events: Receiver<Event>,
    ) -> Result<Self, EmbeddedError> {
        let account = account::choose(settings.user.as_deref(), &settings.data_dir.join("cluster"))?;
        let layout = Layout::prepare(&settings.data_dir, account)?;
        let lock = layout.lock()?;
        let cluster = layout.cluster();
        let cluster_major = cluster::major(&cluster)?;
        let bin_dir = settings.bin_dir.as_deref();
        let programs = Programs::find(&Wanted { bin_dir, cluster: &cluster, cluster_major }, account)?;
        layout.remove_half_made()?;
        if cluster_major.is_none() {
            cluster::make(&layout, &programs, account)?;
        }
        let uid = account.map_or(rustix::process::geteuid().as_raw(), |account| account.uid);
        let socket_dir = layout.socket_dir(uid);
        Ok(Self { layout, programs, account, socket_dir, tell, events, _lock: lock })
    }

    /// The directory of the socket, for the URL.
    pub(super) fn socket_dir(&self) -> &std::path::Path {
        &self.socket_dir
    }

    /// Starts the server; calls `ready` once it answers, or with why it does not.
    /// Comes back when the server has been stopped.
    pub(super) fn run(
        self,
        ready: impl FnOnce(Result<(), EmbeddedError>) -> bool,
    ) -> Result<(), EmbeddedError> {
        match self.start() {
            Ok(server) => {
                if ready(Ok(())) {
                    self.keep(server)
                } else {
                    // Nobody waits for the answer any more.
                    self.shut_down(server)
                }
            }
            Err(error) => {
                ready(Err(error));
                Ok(())
            }
        }
    }

    /// Watches over a running server until it is told to stop.
    fn keep(&self, mut server: Server) -> Result<(), EmbeddedError> {
        let mut failures = 0;
        loop {
            // The handle sends Stop when it is dropped, so this always ends.
            if self.events.recv() != Ok(Event::Exited) {
                return self.shut_down(server);
            }
            let status = server.child.wait();
            let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
            tracing::error!(
                postgres.pid = server.child.id(), status, log = %self.layout.log().display(),
                "postgresql ended by itself and is started again"
            );
            failures = if server.started.elapsed() >= backoff::RESET_AFTER { 1 } else { failures + 1 };
            match self.start_again(&mut failures) {
                Some(started) => server = started,
                None => return Ok(()),
            }
        }
    }

    /// Tries until it succeeds, at growing intervals; `None` when told to stop.
    fn start_again(&self, failures: &mut u32) -> Option<Server> {
        loop {
            let wait = backoff::delay(*failures, u64::from(std::process::id()));
            match self.events.recv_timeout(wait) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(_) | Err(RecvTimeoutError::Disconnected) => return None,
            }
            match self.start() {
                Ok(server) => return Some(server),
                Err(EmbeddedError::Stopped) => return None,
                Err(error) => {
                    *failures += 1;
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        failures,
                        "failed to start postgresql again"
                    );
                }
            }
        }
    }

    /// Starts the server and waits until it accepts connections.
    fn start(&self) -> Result<Server, EmbeddedError> {
        let cluster = self.layout.cluster();
        // A controller that was killed leaves a server that is still shutting down.
        process::wait_until_left(&cluster, LEAVE_DEADLINE)
            .map_err(|pid| EmbeddedError::StillRunning { path: cluster.clone(), pid })?;
        cluster::remove_stale_pid_file(&cluster)?;
        layout::private_dir(&self.socket_dir, self.account)?;
        let server = self.spawn()?;
        let server = self.wait_until_ready(server)?;
        tracing::info!(
            postgres.pid = server.child.id(),
            postgres.major = self.programs.major,
            duration_ms = u64::try_from(server.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            "postgresql is ready"
        );
        Ok(server)
    }

    fn spawn(&self) -> Result<Server, EmbeddedError> {
        let failed = |source| EmbeddedError::io("start", &self.programs.dir.join("postgres"), source);
        let log = self.layout.open_log()?;
        let mut command = self.programs.command("postgres", self.account);
        command.arg("-D").arg(self.layout.cluster());
        for setting in self.settings() {
            command.arg("-c").arg(setting);
        }
        command.stdout(Stdio::from(log.try_clone().map_err(failed)?)).stderr(log);
        process::die_with_us(&mut command, Signal::INT);
        let (spawned_at, started) = (SystemTime::now(), Instant::now());
        let mut child = command.spawn().map_err(failed)?;
        let tell = self.tell.clone();
        if let Err(source) = process::watch(&child, move || drop(tell.send(Event::Exited))) {
            child.kill().map_err(failed)?;
            child.wait().map_err(failed)?;
            return Err(failed(source));
        }
        Ok(Server { child, spawned_at, started })
    }

    /// Settings on the command line, which override those in the cluster's files:
    /// nobody can open a port or switch fsync off by editing a file there.
    fn settings(&self) -> Vec<String> {
        // The setting is a list in which a path may be quoted as an identifier is.
        let sockets = self.socket_dir.to_string_lossy().replace('"', "\"\"");
        let mut settings = vec![format!("unix_socket_directories=\"{sockets}\"")];
        settings.extend(
            [
                "listen_addresses=",
                "port=5432",
                "unix_socket_permissions=0700",
                "fsync=on",
                "full_page_writes=on",
                "synchronous_commit=on",
                "shared_buffers=128MB",
                "max_connections=100",
                "ssl=off",
                "logging_collector=off",
                "log_destination=stderr",
                "log_line_prefix=%m [%p] ",
                // Without the detail of an error, which may hold a whole row.
                "log_error_verbosity=terse",
                "log_timezone=UTC",
                "timezone=UTC",
                "cluster_name=automator67",
            ]
            .map(str::to_owned),
        );
        settings
    }

    fn wait_until_ready(&self, mut server: Server) -> Result<Server, EmbeddedError> {
        let cluster = self.layout.cluster();
        loop {
            match self.events.recv_timeout(READY_POLL) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(Event::Exited) => {
                    let status = server.child.wait();
                    let status = status.map_err(|source| EmbeddedError::io("await", &cluster, source))?;
                    return Err(EmbeddedError::Start { status, log: self.layout.log_tail() });
                }
                Ok(Event::Stop) | Err(RecvTimeoutError::Disconnected) => {
                    self.shut_down(server)?;
                    return Err(EmbeddedError::Stopped);
                }
            }
            let said = Postmaster::read(&cluster);
            if said.is_some_and(|said| said.is_of(server.child.id(), server.spawned_at) && said.answers()) {
                return Ok(server);
            }
            if server.started.elapsed() > READY_DEADLINE {
                self.shut_down(server)?;
                let log = self.layout.log_tail();
                return Err(EmbeddedError::NotReady { deadline: READY_DEADLINE, log });
            }
        }
    }

    /// Ends the server, gently first.
    fn shut_down(&self, server: Server) -> Result<(), EmbeddedError> {
        self.shut_down_in_steps(server, STOP_STEPS)
    }

    fn shut_down_in_steps(
        &self,
        mut server: Server,
        steps: [(Signal, Duration); 3],
    ) -> Result<(), EmbeddedError> {
        let pid = server.child.id();
        for (signal, deadline) in steps {
            // Until it is reaped below, the number is still this child's.
            if let Err(error) = rustix::process::kill_process(Pid::from_child(&server.child), signal) {
                tracing::warn!(postgres.pid = pid, %error, "failed to signal postgresql");
            }
            if self.exited_within(deadline) {
                let reaped = server.child.wait();
                reaped.map_err(|source| EmbeddedError::io("await", &self.layout.cluster(), source))?;
                self.remove_socket_dir();
                tracing::info!(postgres.pid = pid, "postgresql is stopped");
                return Ok(());
            }
            tracing::warn!(
                postgres.pid = pid,
                signal = signal.as_raw(),
                "postgresql does not end, signalling harder"
            );
        }
        Err(EmbeddedError::Stop { pid })
    }

    fn exited_within(&self, deadline: Duration) -> bool {
        let until = Instant::now() + deadline;
        loop {
            match self.events.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(Event::Exited) => return true,
                // Told again; it is already being done.
                Ok(Event::Stop) => {}
                Err(_) => return false,
            }
        }
    }

    /// Leaves nothing in `/tmp`. Beside the cluster the empty directory may stay.
    fn remove_socket_dir(&self) {
        if !self.socket_dir.starts_with(&self.layout.dir)
            && let Err(error) = std::fs::remove_dir(&self.socket_dir)
        {
            tracing::warn!(dir = %self.socket_dir.display(), %error, "failed to remove the socket directory");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt, sync::mpsc};

    use super::*;

    #[test]
    fn a_server_that_ignores_the_gentle_signals_is_ended_and_recovers() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o711)).unwrap();
        let settings = EmbeddedSettings { data_dir: dir.path().join("postgres"), bin_dir: None, user: None };
        let (tell, events) = mpsc::channel();
        let supervisor = Supervisor::prepare(&settings, tell, events).unwrap();
        let server = supervisor.start().unwrap();
        let pid = Pid::from_child(&server.child);
        rustix::process::kill_process(pid, Signal::STOP).unwrap();
        let short = Duration::from_millis(50);
        let steps = [(Signal::INT, short), (Signal::QUIT, short), (Signal::KILL, Duration::from_secs(10))];
        supervisor.shut_down_in_steps(server, steps).unwrap();

        let server = supervisor.start().unwrap();
        assert_ne!(Pid::from_child(&server.child), pid);
        supervisor.shut_down(server).unwrap();
    }
}
