//! Builds the web UI, and checks its sources. Both need Node.js; cargo alone does not.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail};

use crate::{process::succeed, workspace::Workspace};

const WEB: &str = "crates/dashboard/web";
/// The oldest that the tools run on.
const NODE_MIN_MAJOR: u32 = 20;
/// Says which lock file `node_modules` was installed from.
const INSTALLED: &str = "node_modules/.installed-from";

/// Builds `web/dist`, which the next build of the controller takes in.
pub(crate) fn build(workspace: &Workspace) -> anyhow::Result<()> {
    let web = prepared(workspace)?;
    npm(&web, &["run", "types"])?;
    npm(&web, &["run", "build"])
}

/// Types, lints, format and tests.
pub(crate) fn check(workspace: &Workspace) -> anyhow::Result<()> {
    let web = prepared(workspace)?;
    for script in ["types", "lint", "format", "test"] {
        npm(&web, &["run", script])?;
    }
    Ok(())
}

/// The directory of the UI, with what it needs: packages, and the API's types.
fn prepared(workspace: &Workspace) -> anyhow::Result<PathBuf> {
    let version = node_version()?;
    if major(&version).is_none_or(|major| major < NODE_MIN_MAJOR) {
        bail!("Node.js {NODE_MIN_MAJOR} or newer is needed, and this is {}", version.trim());
    }
    let web = workspace.root().join(WEB);
    install(&web)?;
    npm(&web, &["run", "client"])?;
    Ok(web)
}

/// Installs exactly what the lock file says, unless that is there already.
fn install(web: &Path) -> anyhow::Result<()> {
    let lock = fs::read(web.join("package-lock.json")).context("cannot read package-lock.json")?;
    let note = web.join(INSTALLED);
    if fs::read(&note).is_ok_and(|installed| installed == lock) {
        return Ok(());
    }
    npm(web, &["ci"])?;
    fs::write(&note, lock).with_context(|| format!("cannot write {}", note.display()))
}

fn node_version() -> anyhow::Result<String> {
    let output = Command::new("node").arg("--version").output();
    let output = output.context("Node.js is needed for the web UI (Debian's packages: nodejs npm)")?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Of a version as node prints it: `v20.20.2`.
fn major(version: &str) -> Option<u32> {
    version.trim().strip_prefix('v')?.split('.').next()?.parse().ok()
}

fn npm(web: &Path, arguments: &[&str]) -> anyhow::Result<()> {
    let mut command = Command::new("npm");
    command.current_dir(web).stdin(Stdio::null()).arg("--silent").args(arguments);
    succeed(&mut command)
}

#[cfg(test)]
mod tests {
    use super::major;

    #[test]
    fn the_major_version_is_read_as_node_prints_it() {
        assert_eq!(major("v20.20.2\n"), Some(20));
        assert_eq!(major("v8.0.0"), Some(8));
        assert_eq!(major("20.1"), None);
        assert_eq!(major(""), None);
    }
}
