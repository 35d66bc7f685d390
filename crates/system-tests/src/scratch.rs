//! Directories that go away with the test, whatever way it ends.

use std::{
    fs,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// Programs that were just killed may still write; so it is tried again for 10 s.
const REMOVE: &str = "read -r _; for _ in $(seq 50); do rm -rf \"$0\" 2>/dev/null && exit; sleep 0.2; done";

/// A directory below the system's temporary one.
///
/// Its keeper is a shell that waits on a pipe from here: whatever way this
/// process ends, the pipe closes, and the shell removes the directory.
pub struct Scratch {
    path: PathBuf,
    keeper: Child,
}

impl Scratch {
    /// Makes one that everybody may pass through, as PostgreSQL's account must.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it makes something on disk")]
    pub fn new() -> Self {
        let path = tempfile::Builder::new()
            .prefix("a67s-")
            .tempdir_in("/tmp")
            .expect("a temporary directory can be made")
            .keep();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o711)).expect("it is ours");
        let keeper = Command::new("sh")
            .args(["-c", REMOVE])
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // A Ctrl-C at the terminal is for the tests.
            .process_group(0)
            .spawn()
            .expect("there is a shell");
        Self { path, keeper }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}
