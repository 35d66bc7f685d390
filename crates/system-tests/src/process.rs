//! Programs under test.

use std::{
    fs::{self, File, OpenOptions},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::wait::until;

/// Lines of a log that are shown with a failure.
const TAIL: usize = 60;

/// A daemon that runs, or has run.
///
/// Ends with the thread that started it, whatever way that ends: the kernel kills
/// it then. So it has to be started by the test's own thread and not by a task.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    /// Where in the log this run begins.
    log_start: u64,
    ended: Option<ExitStatus>,
}

/// A command line that sees nothing of our environment but what programs need.
#[must_use]
pub fn clean_command(program: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).env_clear();
    for name in ["PATH", "HOME", "LANG", "TMPDIR"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
}

/// One of the programs under test, which have to be built.
///
/// # Panics
/// When it is not.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("this program has a path");
    // A test is TARGET/debug/deps/fleet-HASH, the benchmark TARGET/release/bench.
    let beside = own.with_file_name(name);
    let above = own.ancestors().nth(2).expect("it lies in cargo's directory").join(name);
    let path = if beside.exists() { beside } else { above };
    assert!(
        path.exists(),
        "{} is not there; build it: cargo build -p controller -p node-agent",
        path.display()
    );
    path
}

/// Runs a command to its end. Kills it after that time.
///
/// # Panics
/// When it cannot be run, or takes longer.
pub async fn finish(mut command: Command, input: &str, within: Duration) -> Output {
    let shown = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{shown}: {e}"));
    // What these commands read and write fits into the pipes.
    std::io::Write::write_all(&mut child.stdin.take().expect("it is a pipe"), input.as_bytes())
        .unwrap_or_else(|e| panic!("{shown}: {e}"));
    let mut child = Some(child);
    until(&format!("{shown} ends"), within, async || {
        if child.as_mut().expect("it was not taken").try_wait()?.is_none() {
            bail!("it runs");
        }
        Ok(child.take().expect("it was not taken").wait_with_output()?)
    })
    .await
}

impl Process {
    /// Starts a program that logs to the end of a file.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(name: &str, command: &Command, log: &Path) -> Self {
        let file: File =
            OpenOptions::new().create(true).append(true).open(log).expect("the log can be opened");
        let log_start = file.metadata().expect("it is open").len();
        let mut tied = Command::new("setpriv");
        tied.args(["--pdeathsig", "KILL"]).arg(command.get_program()).args(command.get_args()).env_clear();
        tied.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let child = tied
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("it is open"))
            .stderr(file)
            .spawn()
            .unwrap_or_else(|e| panic!("{name}: {tied:?}: {e}"));
        Self { name: name.to_owned(), child, log: log.to_owned(), log_start, ended: None }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended; `None` while it runs.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().expect("it is our child");
        }
        self.ended
    }

    /// What it has logged in this run.
    #[must_use]
    pub fn log(&self) -> String {
        let bytes = fs::read(&self.log).unwrap_or_default();
        let start = usize::try_from(self.log_start).unwrap_or_default().min(bytes.len());
        String::from_utf8_lossy(bytes.get(start..).unwrap_or_default()).into_owned()
    }

    /// Kills it, and waits until it is gone.
    pub fn kill(&mut self) {
        if self.ended().is_none() {
            self.signal(Signal::KILL);
            self.ended = Some(self.child.wait().expect("it is our child"));
        }
    }

    /// Asks it to stop.
    ///
    /// # Panics
    /// When it has ended before, or does not end within that time.
    pub async fn terminate(&mut self, within: Duration) -> ExitStatus {
        assert_eq!(self.ended(), None, "{} has ended before it was asked to", self.name);
        self.signal(Signal::TERM);
        self.end(within).await
    }

    /// Waits until it ends.
    ///
    /// # Panics
    /// When it does not within that time.
    pub async fn end(&mut self, within: Duration) -> ExitStatus {
        until(&format!("{} ends", self.name), within, async || self.ended().context("it runs")).await
    }

    /// Fails when it has ended.
    ///
    /// # Errors
    /// With its last words.
    pub fn check(&mut self) -> Result<()> {
        match self.ended() {
            None => Ok(()),
            Some(status) => bail!("{} has ended: {status}: {}", self.name, tail(&self.log(), 5)),
        }
    }

    fn signal(&self, signal: Signal) {
        // It may have ended in this moment; then there is nobody to tell.
        let _ = kill_process(Pid::from_child(&self.child), signal);
    }
}

/// The signal that ended a program.
#[must_use]
pub fn signal_of(status: ExitStatus) -> Option<i32> {
    status.signal()
}

fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all.get(all.len().saturating_sub(lines)..).unwrap_or_default().join("\n")
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let text = fs::read(&self.log).unwrap_or_default();
            let text = tail(&String::from_utf8_lossy(&text), TAIL);
            eprintln!("---- the end of the log of {} ({}):\n{text}\n----", self.name, self.log.display());
        }
    }
}
