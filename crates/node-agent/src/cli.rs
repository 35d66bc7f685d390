//! The command line.

use std::{error::Error, path::PathBuf, process::ExitCode, time::Duration};

use chrono::Utc;
use clap::{Args, Parser, Subcommand};
use daemon::{exit, logging, seal::KeyError};
use domain::id::{FleetId, NodeId};
use uuid::Uuid;

use crate::{
    agent::{self, AgentError},
    config::Config,
    doctor, facts,
    identity::{self, EnrolError, EnrolOptions, Enrolled, Identity},
    names,
    runtime::docker::DockerRuntime,
    status::{self, Liveness, Node},
};

/// The agent's work is waiting; two threads keep a slow one from holding up a heartbeat.
const WORKERS: usize = 2;
/// What an installer puts in its place: so program and unit are of one version.
const UNIT: &str = include_str!("../../../deploy/systemd/automator67-agent.service");
/// What blocking reads may take to end with the process.
const LAST_GRACE: Duration = Duration::from_secs(2);

/// The per-host daemon of Automator67.
#[derive(Parser)]
#[command(name = "automator67-agent", version, disable_help_subcommand = true)]
struct Cli {
    /// Configuration file; without it /etc/automator67/agent.toml where that exists. The environment (A67_AGENT_…) wins over it.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Makes this host a node.
    Enrol(Enrol),
    /// Runs the agent until a signal comes. Its containers go on after that.
    Run(Places),
    /// Says how the agent on this host stands.
    Status(Places),
    /// Finds out what is wrong between this host and its controller, and on this host.
    Doctor(Doctor),
    /// Prints the unit file for systemd.
    Unit,
}

#[derive(Args)]
struct Doctor {
    /// The controller's address for agents, in place of the one that this node is enrolled with.
    #[arg(long, value_name = "URL")]
    controller: Option<String>,
    #[command(flatten)]
    places: Places,
}

#[derive(Args)]
struct Enrol {
    /// The controller's address for agents, such as `https://controller.example.org:6701`.
    #[arg(long, value_name = "URL")]
    controller: String,
    /// The enrolment token; it also says which controller to trust.
    #[arg(long)]
    token: String,
    /// What to call the node; without it, the host's name.
    #[arg(long, value_name = "NODE")]
    name: Option<String>,
    #[command(flatten)]
    places: Places,
}

#[derive(Args)]
struct Places {
    /// Where the agent keeps its files.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Where the engine listens: `unix:///path` or `tcp://host:port`.
    #[arg(long, value_name = "HOST")]
    docker_host: Option<String>,
}

impl Places {
    fn over(self, config: Config) -> Config {
        Config {
            data_dir: self.data_dir.unwrap_or(config.data_dir),
            docker_host: self.docker_host.unwrap_or(config.docker_host),
            ..config
        }
    }
}

/// Runs the program; says what it exits with.
#[must_use]
pub fn run() -> ExitCode {
    names::keep_to_what_is_linked_in();
    let Cli { config, command } = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Where not even this can be written, the exit code still says it.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { exit::USAGE } else { 0 });
        }
    };
    let config = match Config::load(config) {
        Ok(config) => config,
        Err(error) => return complain(&error, exit::CONFIGURATION),
    };
    if let Err(error) = logging::init(&config.log_filter(), config.log_format) {
        return complain(&error, exit::CONFIGURATION);
    }
    // The one provider of cryptography; a second call would say that there is one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return complain(&error, exit::FAILURE),
    };
    let code = runtime.block_on(async {
        match command {
            Command::Enrol(enrol) => self::enrol(config, enrol).await,
            Command::Run(places) => match agent::run(places.over(config)).await {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => complain(&error, code_of_agent(&error)),
            },
            Command::Status(places) => status(&places.over(config)),
            Command::Doctor(doctor) => examine(config, doctor).await,
            Command::Unit => {
                print!("{UNIT}");
                ExitCode::SUCCESS
            }
        }
    });
    runtime.shutdown_timeout(LAST_GRACE);
    code
}

async fn enrol(config: Config, enrol: Enrol) -> ExitCode {
    let Enrol { controller, token, name, places } = enrol;
    let config = places.over(config);
    // Only to ask what the engine is: the labels that it would look for do not matter.
    let nobody = (FleetId::from_uuid(Uuid::nil()), NodeId::from_uuid(Uuid::nil()));
    let engine = match DockerRuntime::new(&config.docker_host, nobody.0, nobody.1) {
        Ok(runtime) => facts::ask_engine(&runtime).await,
        Err(error) => return complain(&AgentError::DockerHost(error), exit::CONFIGURATION),
    };
    if engine.is_none() {
        eprintln!("note: Docker does not answer at {}; the node is ready once it does", config.docker_host);
    }
    let facts = facts::host_facts(engine.as_ref(), config.address);
    let options = EnrolOptions { data_dir: config.data_dir, controller, token, name, facts };
    match identity::enrol(options).await {
        Ok(Enrolled::New(node)) => {
            println!("enrolled as node {} ({})", node.node_name(), node.node_id());
            ExitCode::SUCCESS
        }
        Ok(Enrolled::Already(node)) => {
            println!("already enrolled as node {} ({})", node.node_name(), node.node_id());
            ExitCode::SUCCESS
        }
        Ok(Enrolled::Mended { identity: node, aside }) => {
            println!("enrolled as node {} ({}), as before", node.node_name(), node.node_id());
            println!("its own key was lost or replaced: what that had sealed is now in {}", aside.display());
            ExitCode::SUCCESS
        }
        Err(error) => complain(&error, code_of_enrol(&error)),
    }
}

/// Tells how the agent stands. Succeeds where it runs, with or without a session.
fn status(config: &Config) -> ExitCode {
    let identity = match Identity::load(&config.data_dir) {
        Ok(Some(identity)) => identity,
        Ok(None) => return complain(&AgentError::NotEnrolled, exit::CONFIGURATION),
        Err(error) => return complain(&error, exit::FAILURE),
    };
    let node = Node {
        id: identity.node_id().to_string(),
        name: identity.node_name().to_owned(),
        controller: identity.controller().to_owned(),
        certificate_ends_at: identity.certificate().not_after(),
    };
    let snapshot = match status::read(&config.data_dir) {
        Ok(snapshot) => snapshot,
        Err(error) => return complain(&error, exit::FAILURE),
    };
    let now = Utc::now();
    let judged = snapshot.as_ref().map(|snapshot| {
        let lives = snapshot.process.lives();
        (snapshot, status::liveness(snapshot, lives, now))
    });
    print!("{}", status::show(&node, judged, now));
    match judged {
        Some((_, Liveness::Runs)) => ExitCode::SUCCESS,
        Some((_, Liveness::Silent | Liveness::Stopped)) | None => ExitCode::from(exit::FAILURE),
    }
}

/// Makes the doctor's checks. Succeeds where nothing is wrong.
async fn examine(config: Config, doctor: Doctor) -> ExitCode {
    let Doctor { controller, places } = doctor;
    let Config { data_dir, docker_host, secrets_dir, .. } = places.over(config);
    let options = doctor::Options { data_dir, docker_host, secrets_dir, controller };
    let found = doctor::examine(options, |finding| println!("{}", doctor::line(finding))).await;
    println!("\n{}", doctor::summary(&found));
    match doctor::first_failure(&found) {
        Some(_) => ExitCode::from(exit::FAILURE),
        None => ExitCode::SUCCESS,
    }
}

/// Which failures a service manager should not try again.
const fn code_of_agent(error: &AgentError) -> u8 {
    match error {
        AgentError::NotEnrolled | AgentError::DockerHost(_) | AgentError::SealKeyLost { .. } => {
            exit::CONFIGURATION
        }
        AgentError::SealKey(error) => code_of_key(error),
        AgentError::Identity(_) | AgentError::Ledger(_) | AgentError::Signals(_) | AgentError::Lost(_) => {
            exit::FAILURE
        }
    }
}

/// A key that is not what it should be stays so; a disk may be read at the next try.
const fn code_of_key(error: &KeyError) -> u8 {
    match error {
        KeyError::Missing { .. }
        | KeyError::Exposed { .. }
        | KeyError::Malformed
        | KeyError::MalformedFile { .. }
        | KeyError::Exists { .. } => exit::CONFIGURATION,
        KeyError::Random | KeyError::Io { .. } => exit::FAILURE,
    }
}

const fn code_of_enrol(error: &EnrolError) -> u8 {
    match error {
        EnrolError::Token(_) | EnrolError::Address { .. } => exit::USAGE,
        _ => exit::FAILURE,
    }
}

/// Tells an error with all that caused it.
fn complain(error: &dyn Error, code: u8) -> ExitCode {
    let mut text = format!("error: failed to {error}");
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    eprintln!("{text}");
    ExitCode::from(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_makes_sense() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    #[test]
    fn the_unit_starts_this_program_and_waits_for_its_word() {
        for line in [
            "ExecStart=/usr/local/bin/automator67-agent run",
            "Type=notify",
            "RestartPreventExitStatus=64 78",
        ] {
            assert!(UNIT.lines().any(|l| l == line), "{line}");
        }
        assert_eq!((exit::USAGE, exit::CONFIGURATION), (64, 78));
    }

    #[test]
    fn a_service_manager_does_not_try_again_what_cannot_help() {
        let lost = AgentError::SealKeyLost { path: "/x/seal.key".into() };
        let told = lost.to_string();
        assert!(told.contains("/x/seal.key") && told.contains("automator67-agent enrol"), "{told}");
        let exposed = KeyError::Exposed { path: "/x/seal.key".into(), mode: 0o644 };
        for error in [lost, AgentError::NotEnrolled, exposed.into()] {
            assert_eq!(code_of_agent(&error), exit::CONFIGURATION, "{error}");
        }
        assert_eq!(code_of_agent(&KeyError::Random.into()), exit::FAILURE);
    }

    #[test]
    fn places_on_the_command_line_win() {
        let cli = Cli::try_parse_from(["automator67-agent", "run", "--data-dir", "/x"]).unwrap();
        let Command::Run(places) = cli.command else { panic!("another command") };
        let config = places.over(Config::default());
        assert_eq!(config.data_dir, PathBuf::from("/x"));
        assert_eq!(config.docker_host, Config::default().docker_host);
    }
}
