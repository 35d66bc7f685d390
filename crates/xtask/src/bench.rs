//! Runs the benchmarks, which live with the tests that need whole programs.

use crate::{
    process::{cargo, succeed},
    workspace::Workspace,
};

/// Runs them with these arguments, on a release build.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> anyhow::Result<()> {
    let mut command = cargo(workspace);
    command.args(["run", "--release", "--package", "system-tests", "--bin", "bench", "--"]).args(arguments);
    succeed(&mut command)
}
