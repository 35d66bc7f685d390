//! The repository: its top, its packages, its Rust sources.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use cargo_metadata::{Metadata, MetadataCommand};

/// What `cargo metadata` says, without going into dependencies of dependencies.
pub(crate) struct Workspace {
    metadata: Metadata,
}

impl Workspace {
    /// The workspace that the current directory lies in.
    pub(crate) fn find() -> anyhow::Result<Self> {
        let metadata = MetadataCommand::new().no_deps().exec().context("cannot read the workspace")?;
        Ok(Self { metadata })
    }

    pub(crate) fn root(&self) -> &Path {
        self.metadata.workspace_root.as_std_path()
    }

    /// Where cargo puts what it builds.
    pub(crate) fn target(&self) -> &Path {
        self.metadata.target_directory.as_std_path()
    }

    pub(crate) fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// All Rust files below `crates/`, by their path from the top, sorted.
    pub(crate) fn sources(&self) -> anyhow::Result<Vec<(PathBuf, String)>> {
        let mut files = Vec::new();
        rust_files(&self.root().join("crates"), &mut files)?;
        files.sort();
        files.into_iter().map(|file| self.read(&file)).collect()
    }

    fn read(&self, file: &Path) -> anyhow::Result<(PathBuf, String)> {
        let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        Ok((file.strip_prefix(self.root())?.to_owned(), text))
    }
}

fn rust_files(directory: &Path, into: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let entries = fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))?;
    for entry in entries {
        let (path, kind) = entry.and_then(|entry| Ok((entry.path(), entry.file_type()?)))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let foreign = name.starts_with('.') || name == "target" || name == "node_modules";
        if kind.is_dir() && !foreign {
            rust_files(&path, into)?;
        } else if kind.is_file() && path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
    Ok(())
}
