//! An agent under test, on a host of the testbed.

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Output},
    time::Duration,
};

use crate::{
    process::{Process, finish, program},
    testbed::Host,
};

const COMMAND: Duration = Duration::from_secs(30);

/// An agent: its host, its files, and its process while it runs.
pub struct Agent {
    host: Host,
    name: String,
    data_dir: PathBuf,
    secrets_dir: PathBuf,
    log: PathBuf,
    filter: String,
    process: Option<Process>,
}

impl Agent {
    /// One that keeps its files below `dir`. Does not enrol or start it.
    #[must_use]
    pub fn new(host: &Host, dir: &Path) -> Self {
        Self::named(&host.name, host, dir)
    }

    /// The same, with another name than its host's.
    #[must_use]
    pub fn named(name: &str, host: &Host, dir: &Path) -> Self {
        Self {
            host: host.clone(),
            name: name.to_owned(),
            data_dir: dir.join(name),
            // In memory, on any Linux; the hosts' engines share this machine's files.
            secrets_dir: Path::new("/dev/shm").join(format!("a67s-{}-{name}", std::process::id())),
            log: dir.join(format!("agent-{name}.log")),
            filter: "info,node_agent=debug".to_owned(),
            process: None,
        }
    }

    /// Changes what it logs, from its next start on.
    pub fn log_filter(&mut self, filter: &str) {
        self.filter = filter.to_owned();
    }

    /// Its host.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Its name, and the node's.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where its files are.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Where its files with secrets are.
    #[must_use]
    pub fn secrets_dir(&self) -> &Path {
        &self.secrets_dir
    }

    /// Where it logs to.
    #[must_use]
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.host.command(&program("automator67-agent"), arguments);
        command
            .env("A67_AGENT_DATA_DIR", &self.data_dir)
            .env("A67_AGENT_SECRETS_DIR", &self.secrets_dir)
            .env("A67_AGENT_DOCKER_HOST", &self.host.docker_host)
            .env("A67_AGENT_LOG", &self.filter)
            .env("A67_AGENT_LOG_FORMAT", "json");
        command
    }

    /// Tries to enrol with these arguments besides its name.
    ///
    /// # Panics
    /// When that takes longer than half a minute.
    pub async fn try_enrol(&self, controller: &str, token: &str) -> Output {
        let arguments = ["enrol", "--controller", controller, "--token", token, "--name", &self.name];
        finish(self.command(&arguments), "", COMMAND).await
    }

    /// Enrols it.
    ///
    /// # Panics
    /// When that fails.
    pub async fn enrol(&self, controller: &str, token: &str) {
        let output = self.try_enrol(controller, token).await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{} does not enrol: {}: {said}", self.name, output.status);
    }

    /// Starts it.
    ///
    /// # Panics
    /// When it runs already.
    pub fn start(&mut self) {
        assert!(self.process.is_none(), "it runs already");
        let name = format!("agent {}", self.name);
        self.process = Some(Process::start(&name, &self.command(&["run"]), &self.log));
    }

    /// Its process.
    ///
    /// # Panics
    /// When it was not started, or was stopped by us.
    pub fn process_mut(&mut self) -> &mut Process {
        self.process.as_mut().expect("it was started")
    }

    /// Kills it.
    ///
    /// # Panics
    /// When it was not started.
    pub fn kill(&mut self) {
        self.process_mut().kill();
        self.process = None;
    }

    /// Asks it to stop, and waits until it has.
    ///
    /// # Panics
    /// When it does not stop within that time.
    pub async fn stop(&mut self, within: Duration) -> ExitStatus {
        let status = self.process_mut().terminate(within).await;
        self.process = None;
        status
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Its process goes first, so that nothing is written there any more.
        self.process = None;
        let _ = std::fs::remove_dir_all(&self.secrets_dir);
    }
}
