//! Files that hold either the old content or the new one, never half of it, even
//! when the machine loses power in between.
//!
//! Everything here blocks until the disk says it is done: call it through
//! `spawn_blocking` from async code.

use std::{
    ffi::OsString,
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

/// Replaces the content of `path`, or makes it, with exactly `mode` whatever the
/// umask is. On return the change is durable.
///
/// The content first goes to `.NAME.tmp` in the same directory, which is why a
/// path must have one writer at a time. A file of that name left by a crash is
/// replaced.
///
/// # Errors
///
/// On an error the old content is untouched.
pub fn write_atomic(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let (directory, temporary) = beside(path)?;
    remove_if_there(&temporary)?;
    let written = write_new(&temporary, bytes, mode).and_then(|()| fs::rename(&temporary, path));
    if let Err(error) = written {
        // What is left over is harmless; the first error is the one to tell.
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    sync_dir(directory)
}

/// Makes a file that must not exist yet, with exactly `mode`. On return it is
/// durable.
///
/// # Errors
///
/// [`io::ErrorKind::AlreadyExists`] where the file is there; it is not touched.
pub fn write_exclusive(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let (directory, temporary) = beside(path)?;
    remove_if_there(&temporary)?;
    // A hard link fails where the name is taken, which a rename would not, and
    // never shows a file that is only half written.
    let written = write_new(&temporary, bytes, mode).and_then(|()| fs::hard_link(&temporary, path));
    let cleaned = remove_if_there(&temporary);
    written.and(cleaned)?;
    sync_dir(directory)
}

/// Makes a directory that only its owner can enter, and its missing parents with
/// the usual mode. One that exists keeps its mode: whoever made it decided.
///
/// # Errors
///
/// Also where `path` is there and is not a directory.
pub fn create_private_dir(path: &Path) -> io::Result<()> {
    let parent = parent_of(path);
    fs::create_dir_all(parent)?;
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => sync_dir(parent),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

/// The directory of `path`, and the name its new content is first written to.
fn beside(path: &Path) -> io::Result<(&Path, PathBuf)> {
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the path names no file"))?;
    let directory = parent_of(path);
    let mut temporary = OsString::from(".");
    temporary.push(name);
    temporary.push(".tmp");
    Ok((directory, directory.join(temporary)))
}

fn parent_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    file.sync_all()
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// A new name is durable only once its directory is.
fn sync_dir(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode_of(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    fn names_in(directory: &Path) -> Vec<OsString> {
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name()).collect()
    }

    #[test]
    fn write_makes_and_replaces_with_the_mode_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        write_atomic(&path, b"one", 0o600).unwrap();
        assert_eq!((fs::read(&path).unwrap(), mode_of(&path)), (b"one".to_vec(), 0o600));
        write_atomic(&path, b"two", 0o666).unwrap();
        assert_eq!((fs::read(&path).unwrap(), mode_of(&path)), (b"two".to_vec(), 0o666));
        assert_eq!(names_in(dir.path()), ["state"]);
    }

    #[test]
    fn what_a_crash_left_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(".state.tmp"), b"half of something much longer").unwrap();
        write_atomic(&dir.path().join("state"), b"new", 0o600).unwrap();
        assert_eq!(fs::read(dir.path().join("state")).unwrap(), b"new");
        assert_eq!(names_in(dir.path()), ["state"]);
    }

    #[test]
    fn failed_write_leaves_the_target_and_no_leftovers() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("inside"), b"kept").unwrap();
        write_atomic(&path, b"new", 0o600).unwrap_err();
        assert_eq!(fs::read(path.join("inside")).unwrap(), b"kept");
        assert_eq!(names_in(dir.path()), ["state"]);
    }

    #[test]
    fn a_path_without_a_name_is_refused() {
        let error = write_atomic(Path::new("/"), b"", 0o600).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn exclusive_write_refuses_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        write_exclusive(&path, b"one", 0o600).unwrap();
        let error = write_exclusive(&path, b"two", 0o600).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!((fs::read(&path).unwrap(), mode_of(&path)), (b"one".to_vec(), 0o600));
        assert_eq!(names_in(dir.path()), ["key"]);
    }

    #[test]
    fn private_dir_is_made_with_its_parents_and_only_it_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("var/lib/program");
        create_private_dir(&path).unwrap();
        assert_eq!(mode_of(&path), 0o700);
        assert_ne!(mode_of(&dir.path().join("var")), 0o700);
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        create_private_dir(&path).unwrap();
        assert_eq!(mode_of(&path), 0o755);
    }

    #[test]
    fn private_dir_refuses_a_file_in_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, b"").unwrap();
        create_private_dir(&path).unwrap_err();
    }
}
