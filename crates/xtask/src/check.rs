//! Everything that must hold of the sources, without running tests.

use std::time::Instant;

use anyhow::bail;

use crate::{
    layers, openapi,
    process::{cargo, succeed},
    ui,
    workspace::Workspace,
};

type Step = fn(&Workspace) -> anyhow::Result<()>;

/// Cheap ones first, so that a slip shows early.
const STEPS: &[(&str, Step)] = &[
    ("format", format),
    ("layers", layers::run),
    ("ui", ui::check),
    ("lints", lints),
    ("openapi", |workspace| openapi::run(workspace, true)),
    ("docs", docs),
];

/// Runs all steps, also after one has failed, and fails where any did.
pub(crate) fn run(workspace: &Workspace) -> anyhow::Result<()> {
    let mut failed = Vec::new();
    for (name, step) in STEPS {
        println!("== {name}");
        let begin = Instant::now();
        let result = step(workspace);
        let seconds = begin.elapsed().as_secs_f64();
        match result {
            Ok(()) => println!("== {name}: ok, {seconds:.1} s"),
            Err(error) => {
                println!("== {name}: FAILED, {seconds:.1} s: {error:#}");
                failed.push(*name);
            }
        }
    }
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

fn format(workspace: &Workspace) -> anyhow::Result<()> {
    succeed(cargo(workspace).args(["fmt", "--all", "--check"]))
}

fn lints(workspace: &Workspace) -> anyhow::Result<()> {
    succeed(cargo(workspace).args([
        "clippy",
        "--workspace",
        "--all-targets",
        "--quiet",
        "--",
        "-D",
        "warnings",
    ]))
}

fn docs(workspace: &Workspace) -> anyhow::Result<()> {
    let mut command = cargo(workspace);
    command.args(["doc", "--workspace", "--no-deps", "--quiet"]).env("RUSTDOCFLAGS", "-D warnings");
    succeed(&mut command)
}
