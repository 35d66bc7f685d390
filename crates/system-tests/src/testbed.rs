//! Docker hosts on this machine, through `deploy/testbed/testbed.sh`.
//!
//! There is one such testbed at a time: a test takes its turn by a lock on a
//! file, brings it up, and takes it away at its end. The lock is also held by a
//! keeper, a shell that waits on a pipe from here: whatever way this process
//! ends, the pipe closes, the keeper takes the testbed away, and only then the
//! turn is over.

use std::{
    fs::{File, OpenOptions},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::wait::{note, until};

/// Not the default ones, which are for people.
const NAME: &str = "a67s";
const SUBNET: &str = "10.68.0.0/24";
const TURN_FILE: &str = "/tmp/a67s-testbed.turn";
/// How long other tests may take before it is our turn.
const TURN: Duration = Duration::from_secs(900);

/// The image that every host has, with busybox's commands, without a registry.
pub const IMAGE: &str = "app:1";

/// Several Docker hosts, on which nothing runs yet.
pub struct Testbed {
    /// This machine's address on the bridge.
    pub gateway: String,
    /// `host:port` of a registry without sign-in.
    pub registry: String,
    hosts: Vec<Host>,
    keeper: Child,
}

/// One Docker host.
#[derive(Clone, Debug, Deserialize)]
pub struct Host {
    /// `h1` and so on.
    pub name: String,
    /// Its address on the bridge.
    pub address: String,
    /// `unix://…`.
    pub docker_host: String,
}

#[derive(Deserialize)]
struct Env {
    gateway: String,
    registry: String,
    hosts: Vec<Host>,
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/testbed/testbed.sh")
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(script());
    command.args(arguments).env("A67_TESTBED_NAME", NAME).env("A67_TESTBED_SUBNET", SUBNET);
    command
}

fn run(mut command: Command) -> String {
    let output = command.stdin(Stdio::null()).output().expect("the testbed's script can be run");
    assert!(
        output.status.success(),
        "{command:?}: {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn keeper(turn: File) -> Child {
    Command::new("sh")
        .args(["-c", "read -r _; \"$0\" down >/dev/null 2>&1"])
        .arg(script())
        .env("A67_TESTBED_NAME", NAME)
        .env("A67_TESTBED_SUBNET", SUBNET)
        .stdin(Stdio::piped())
        // Not to write to: it holds the lock as long as the shell lives.
        .stdout(turn)
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .expect("there is a shell")
}

impl Testbed {
    /// Brings so many hosts up, each with [`IMAGE`].
    ///
    /// # Panics
    /// When it cannot: it needs root, `dockerd` and more; the script says what.
    pub async fn up(hosts: usize) -> Self {
        let turn = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(TURN_FILE)
            .expect("a file can be made in /tmp");
        until("the testbed is free", TURN, async || turn.try_lock().context("other tests use it")).await;
        note("our turn");
        let keeper = keeper(turn);
        // What a machine's crash has left.
        run(command(&["down"]));
        run(command(&["up", &hosts.to_string()]));
        let env: Env = serde_json::from_str(&run(command(&["env"]))).expect("`env` prints JSON");
        let bed = Self { gateway: env.gateway, registry: env.registry, hosts: env.hosts, keeper };
        let (name, tag) = IMAGE.split_once(':').expect("it has a tag");
        run(command(&["import", "all", name, tag]));
        note("the testbed is up");
        bed
    }

    /// All hosts.
    #[must_use]
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// The host with that number, from 1.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn host(&self, number: usize) -> &Host {
        self.hosts.get(number - 1).expect("there are that many hosts")
    }

    /// Puts [`IMAGE`] into the registry; gives its name there.
    #[must_use]
    pub fn push(&self) -> String {
        let (name, tag) = IMAGE.split_once(':').expect("it has a tag");
        run(command(&["push", "h1", name, tag])).trim().to_owned()
    }
}

impl Host {
    /// Unplugs its network: frames vanish.
    pub fn cut(&self) {
        run(command(&["cut", &self.name]));
    }

    /// Plugs it in again.
    pub fn heal(&self) {
        run(command(&["heal", &self.name]));
    }

    /// Kills its engine. Its containers run on, and nobody answers for them.
    pub fn engine_kill(&self) {
        run(command(&["engine-kill", &self.name]));
    }

    /// Starts its engine, which ends what ran under the one that was killed.
    pub fn engine_start(&self) {
        run(command(&["engine-start", &self.name]));
    }

    /// Starts its engine with `live-restore`: what ran under the one that was
    /// killed goes on.
    pub fn engine_start_keeping_containers(&self) {
        let mut command = command(&["engine-start", &self.name]);
        command.env("A67_TESTBED_LIVE_RESTORE", "1");
        run(command);
    }

    /// A command line that runs a program in the host's network.
    #[must_use]
    pub fn command(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = crate::process::clean_command(&script(), &["exec", &self.name]);
        command.arg(program).args(arguments);
        command.env("A67_TESTBED_NAME", NAME).env("A67_TESTBED_SUBNET", SUBNET);
        command
    }

    /// Does something until it is done or the deadline is over; for requests to
    /// published ports.
    ///
    /// # Errors
    /// When nobody answers there, or with an error.
    pub async fn http_get(&self, port: u16) -> Result<String> {
        let url = format!("http://{}:{port}/", self.address);
        let client = crate::client::http_client(Duration::from_secs(3));
        Ok(client.get(url).send().await?.error_for_status()?.text().await?)
    }
}

impl Drop for Testbed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let status = command(&["status"]).output();
            let shown = status.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
            eprintln!("---- the testbed:\n{}----", shown.unwrap_or_default());
        }
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}
