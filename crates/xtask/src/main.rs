//! Chores of the repository, as `cargo xtask <chore>`.
//!
//! | chore | what it does |
//! |---|---|
//! | `check` | everything that must hold of the sources, without running tests |
//! | `layers` | who may depend on whom, and which library stays in which room |
//! | `openapi` | writes the description of the REST API, or checks that it is up to date |
//! | `sizes` | lists files that have grown long |
//! | `bench` | runs the benchmarks |
//! | `dist` | builds the agent as one static file |
//! | `ui` | builds the web UI, which the controller then has inside |
//!
//! It depends on none of our crates, so it works while they do not compile.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod bench;
mod check;
mod dist;
mod layers;
mod openapi;
mod process;
mod sizes;
mod source;
mod ui;
mod workspace;

use workspace::Workspace;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Chores of the repository")]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Checks format, lints, layers, the OpenAPI document and the docs
    Check,
    /// Checks that crates and libraries are used only where they may be
    Layers,
    /// Writes docs/api/openapi.json from the handlers
    Openapi {
        /// Write nothing; fail where the file is not up to date
        #[arg(long)]
        check: bool,
    },
    /// Lists files with many lines that are not tests
    Sizes,
    /// Builds for release and runs the benchmarks
    Bench {
        /// Arguments for the benchmarks
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Builds the agent as one static file, checks it, and puts it to deploy/bin
    Dist,
    /// Builds the web UI with Node.js; the next build of the controller takes it in
    Ui,
}

fn main() -> ExitCode {
    match run(Cli::parse().chore) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(chore: Chore) -> anyhow::Result<()> {
    let workspace = Workspace::find()?;
    match chore {
        Chore::Check => check::run(&workspace),
        Chore::Layers => layers::run(&workspace),
        Chore::Openapi { check } => openapi::run(&workspace, check),
        Chore::Sizes => sizes::run(&workspace),
        Chore::Bench { arguments } => bench::run(&workspace, &arguments),
        Chore::Dist => dist::run(&workspace),
        Chore::Ui => ui::build(&workspace),
    }
}
