//! A controller under test.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Output},
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use anyhow::ensure;

use crate::{
    client::Api,
    process::{Process, clean_command, finish, program},
    wait::{note, seconds, until},
};

/// Name and password of the administrator that [`Controller::administrator`] makes.
pub const ADMIN: (&str, &str) = ("root", "correct horse battery");
/// How long a start may take: on a busy machine PostgreSQL alone takes seconds.
const START: Duration = Duration::from_secs(60);
const COMMAND: Duration = Duration::from_secs(60);

/// A controller: its settings, its files, and its process while it runs.
pub struct Controller {
    /// Settings by their names in the environment, such as `A67_LOG`.
    settings: BTreeMap<String, String>,
    dir: PathBuf,
    url: String,
    process: Option<Process>,
}

/// An address of this machine that no other test uses: every process has a part
/// of 127.0.0.0/8 for itself.
fn own_address() -> (String, u16) {
    static NEXT: AtomicU16 = AtomicU16::new(20_000);
    let [_, a, b, c] = std::process::id().to_be_bytes();
    // Process ids have 22 bits at most.
    (format!("127.{}.{b}.{c}", 64 + a), NEXT.fetch_add(2, Ordering::Relaxed))
}

impl Controller {
    /// One that listens at an address, REST at `port` and agents at the next one,
    /// and keeps its files in `dir`. Does not start it.
    #[must_use]
    pub fn at(address: &str, port: u16, dir: &Path) -> Self {
        let url = format!("http://{address}:{port}");
        let controller = Self { settings: BTreeMap::new(), dir: dir.to_owned(), url, process: None };
        let agents = format!("{address}:{}", port + 1);
        let mut controller = controller
            .with("A67_HTTP_LISTEN", &format!("{address}:{port}"))
            .with("A67_GRPC_LISTEN", &agents)
            .with("A67_AGENT_URL", &format!("https://{agents}"))
            .with("A67_DATA_DIR", &dir.join("controller").display().to_string())
            .with("A67_BCRYPT_COST", "4")
            .with("A67_METRICS_PERIOD_SECONDS", "1")
            .with("A67_LOG_FORMAT", "json");
        let url = controller.url.clone();
        controller.set("A67_PUBLIC_URL", &url);
        controller
    }

    /// One that no agent of another host reaches.
    #[must_use]
    pub fn alone(dir: &Path) -> Self {
        let (address, port) = own_address();
        Self::at(&address, port, dir)
    }

    /// Another one with the same data, at another address.
    #[must_use]
    pub fn twin(&self) -> Self {
        let other = Self::alone(&self.dir);
        let data = self.settings.get("A67_DATA_DIR").cloned().unwrap_or_default();
        other.with("A67_DATA_DIR", &data)
    }

    /// With a setting, by its name in the environment.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.set(name, value);
        self
    }

    /// Changes a setting; it counts from the next start on.
    pub fn set(&mut self, name: &str, value: &str) {
        self.settings.insert(name.to_owned(), value.to_owned());
    }

    /// Where its files are.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.dir.join("controller")
    }

    /// `http://host:port`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What agents are told to dial.
    ///
    /// # Panics
    /// Never.
    #[must_use]
    pub fn agent_url(&self) -> &str {
        self.settings.get("A67_AGENT_URL").expect("it is always set")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = clean_command(&program("automator67-controller"), arguments);
        command.envs(&self.settings);
        command
    }

    /// Starts it, and does not wait.
    ///
    /// # Panics
    /// When it runs already.
    pub fn launch(&mut self) {
        assert!(self.process.is_none(), "it runs already");
        let log = self.dir.join("controller.log");
        self.process = Some(Process::start("controller", &self.command(&["serve"]), &log));
    }

    /// Starts it, and waits until it is ready.
    ///
    /// # Panics
    /// When it ends, or is not ready in a minute.
    pub async fn start(&mut self) {
        self.launch();
        self.is_ready().await;
    }

    /// Waits until it is ready.
    ///
    /// # Panics
    /// When it ends, or is not ready in a minute.
    pub async fn is_ready(&mut self) {
        let api = Api::new(&self.url);
        let process = self.process_mut();
        let ready = async || {
            // One that has ended never gets ready.
            if let Err(e) = process.check() {
                panic!("{e:#}");
            }
            let answer = api.outside("/readyz").await?;
            ensure!(answer.status == 200, "{}", answer.body);
            Ok(())
        };
        until("the controller is ready", START, ready).await;
        note("the controller is ready");
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

    /// Waits until it ends by itself, and says how, and what it logged.
    ///
    /// # Panics
    /// When it does not end in half a minute.
    pub async fn end(&mut self) -> (ExitStatus, String) {
        let process = self.process_mut();
        let ended = (process.end(seconds(30)).await, process.log());
        self.process = None;
        ended
    }

    /// Runs another of its commands to the end.
    ///
    /// # Panics
    /// When it takes longer than a minute.
    pub async fn run(&self, arguments: &[&str], input: &str) -> Output {
        finish(self.command(arguments), input, COMMAND).await
    }

    /// The same, and it has to succeed; gives what it printed.
    ///
    /// # Panics
    /// When it does not.
    pub async fn prints(&self, arguments: &[&str], input: &str) -> String {
        let output = self.run(arguments, input).await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {}: {said}", output.status);
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// Makes [`ADMIN`] at the host, and gives the API as that.
    ///
    /// # Panics
    /// When it cannot.
    pub async fn administrator(&self) -> Api {
        let (name, password) = ADMIN;
        self.prints(&["admin", "create", "--name", name, "--password-stdin"], password).await;
        Api::new(&self.url).sign_in(name, password).await.expect("the account was just made")
    }
}
