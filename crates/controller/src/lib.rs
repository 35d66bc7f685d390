//! The control plane of Automator67: accounts, credentials and the desired state,
//! served as REST to people and as gRPC to agents.
//!
//! A change comes in through [`http`], becomes one transaction in a use case of
//! [`service`], is planned by [`tasks`], and goes out through [`grpc`] to the
//! agents, whose reports come back the same way.
//!
//! | room | what it is for |
//! |---|---|
//! | [`app`] | order of start and stop |
//! | [`config`], [`cli`] | what is told from outside |
//! | [`http`] | REST; the only user of actix-web |
//! | [`grpc`] | agents; the only user of tonic |
//! | [`service`] | use cases, free of transport |
//! | [`fleet`] | nodes as they are connected to this process |
//! | [`tasks`] | what is done without anybody asking |
//! | [`auth`] | passwords, tokens, roles |
//! | [`pki`] | the fleet's CA and mutual TLS |
//! | [`vault`] | the master key and what it seals |
//! | [`postgres`] | a private PostgreSQL |
//! | [`error`] | one error type, one table of codes |

pub mod admin;
pub mod app;
pub mod auth;
pub mod cli;
pub mod config;
pub mod error;
pub mod fleet;
pub mod grpc;
pub mod healthcheck;
pub mod http;
pub mod pki;
pub mod postgres;
pub mod service;
pub mod tasks;
pub mod vault;
mod vault_command;

use std::process::ExitCode;

use clap::Parser;
use cli::{Cli, Command};
use config::Config;
use daemon::{exit, logging};

/// Runs the program; says what it exits with.
#[must_use]
pub fn run() -> ExitCode {
    let Cli { config, command } = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            let _ = e.print();
            return ExitCode::from(if e.use_stderr() { exit::USAGE } else { 0 });
        }
    };
    if let Command::Openapi = command {
        return print_document();
    }
    let config = match Config::load(config) {
        Ok(config) => config,
        Err(e) => return failed("load the configuration", &e, exit::CONFIGURATION),
    };
    if let Err(e) = logging::init(&config.log, config.log_format) {
        return failed("set up logging (log, A67_LOG)", &e, exit::CONFIGURATION);
    }
    if let Command::Healthcheck = command {
        return match healthcheck::ready(config.http_listen) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => complain("the controller is not ready", exit::FAILURE),
            Err(e) => failed("ask the controller", &e, exit::FAILURE),
        };
    }
    // rustls chooses its cryptography once for the process; a second choice changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => return failed("start the runtime", &e, exit::FAILURE),
    };
    let code = runtime.block_on(dispatch(config, command));
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    code
}

async fn dispatch(config: Config, command: Command) -> ExitCode {
    let result = match command {
        Command::Serve => Box::pin(app::serve(config)).await,
        Command::Migrate => Box::pin(app::migrate_only(&config)).await,
        Command::Admin(admin) => return Box::pin(administer(&config, admin)).await,
        Command::Vault(vault) => match Box::pin(vault_command::run(&config, vault)).await {
            Ok(code) => return code,
            Err(e) => Err(e),
        },
        Command::Openapi | Command::Healthcheck => Ok(()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            tracing::error!(error = error::chain(&e), "failed");
            failed("run", &e, exit::FAILURE)
        }
    }
}

async fn administer(config: &Config, command: cli::Admin) -> ExitCode {
    match app::with_services(config, async |services| admin::run(services, command).await).await {
        Ok(Ok(Some(shown))) => print(&shown),
        Ok(Ok(None)) => ExitCode::SUCCESS,
        Ok(Err(e)) if e.kind() == error::ErrorKind::AlreadyExists => complain(&e.to_string(), admin::EXISTS),
        Ok(Err(e)) => failed("do that", &e, exit::FAILURE),
        Err(e) => failed("do that", &e, exit::FAILURE),
    }
}

fn print_document() -> ExitCode {
    match http::openapi_document().to_pretty_json() {
        Ok(text) => print(&text),
        Err(e) => failed("write the document", &e, exit::FAILURE),
    }
}

fn print(text: &str) -> ExitCode {
    use std::io::Write;
    match writeln!(std::io::stdout(), "{text}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => failed("print", &e, exit::FAILURE),
    }
}

fn failed(what: &str, error: &dyn std::error::Error, code: u8) -> ExitCode {
    complain(&format!("failed to {what}: {}", error::chain(error)), code)
}

fn complain(text: &str, code: u8) -> ExitCode {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "automator67-controller: {text}");
    ExitCode::from(code)
}
