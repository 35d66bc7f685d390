//! Files in memory that containers mount.
//!
//! `secrets_dir/INSTANCE/N` is the file of the instance's secret number N. The
//! directories are the agent's alone; a container sees the one file that is mounted
//! into it. Whether the directory is in memory is asked of the very directory that is
//! written to, each time. A file that is there is replaced and never written into: a
//! container that still runs keeps what it has.

use std::{
    fs::{self, DirBuilder, File, Permissions},
    io::{self, Write as _},
    os::{
        fd::OwnedFd,
        unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _},
    },
    path::Path,
};

use domain::{
    id::InstanceId,
    secret::Secret,
    spec::{SecretTarget, SecretUse},
};
use rustix::{
    fs::{AtFlags, Gid, Mode, OFlags, Uid},
    process::{getegid, geteuid},
};

use crate::runtime::GivenFile;

/// `statfs(2)`: file systems that are memory.
const IN_MEMORY: [i64; 2] = [0x0102_1994, 0x8584_58f6];

/// Writes an instance's files. Says what cannot be done about it, in words for people.
pub(super) fn write(
    dir: &Path,
    instance: InstanceId,
    secrets: &[SecretUse],
    values: &[Secret],
) -> Result<Vec<GivenFile>, String> {
    let mut files = Vec::new();
    let mut place = None;
    let own = dir.join(instance.to_string());
    for (index, (secret, value)) in secrets.iter().zip(values).enumerate() {
        let SecretTarget::File { path, mode, uid, gid } = &secret.target else { continue };
        let place = match &place {
            Some(place) => place,
            None => place.insert(open(dir, &own)?),
        };
        let name = index.to_string();
        let made = write_one(place, &name, value.reveal(), (*mode, *uid, *gid));
        made.map_err(|error| {
            format!(
                "the file of credential {} for {path} cannot be written in {}: {error}",
                secret.credential,
                own.display()
            )
        })?;
        files.push(GivenFile { source: own.join(name), target: path.clone() });
    }
    Ok(files)
}

/// Makes the instance's directory, and makes sure that it is in memory.
fn open(dir: &Path, own: &Path) -> Result<OwnedFd, String> {
    let cannot = |error: io::Error| format!("secrets cannot be written in {}: {error}", own.display());
    private(dir).and_then(|()| private(own)).map_err(cannot)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let place = rustix::fs::open(own, flags, Mode::empty()).map_err(|error| cannot(error.into()))?;
    let found = rustix::fs::fstatfs(&place).map_err(|error| cannot(error.into()))?;
    if is_in_memory(found.f_type) {
        return Ok(place);
    }
    drop(place);
    // Nothing was written; an empty directory tells nothing.
    let _ = fs::remove_dir(own);
    Err(not_in_memory(dir))
}

fn not_in_memory(dir: &Path) -> String {
    format!(
        "{} is not in memory (tmpfs or ramfs), and secrets are written nowhere else: set secrets_dir (A67_AGENT_SECRETS_DIR) to a directory that is",
        dir.display()
    )
}

fn is_in_memory(kind: impl TryInto<i64>) -> bool {
    kind.try_into().is_ok_and(|kind: i64| IN_MEMORY.contains(&(kind & 0xffff_ffff)))
}

/// A directory that only its owner can enter. One that is there has to be the agent's.
fn private(dir: &Path) -> io::Result<()> {
    if let Some(parent) = dir.parent() {
        fs::create_dir_all(parent)?;
    }
    match DirBuilder::new().mode(0o700).create(dir) {
        Ok(()) => fs::set_permissions(dir, Permissions::from_mode(0o700)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let found = fs::symlink_metadata(dir)?;
            let own = found.is_dir() && found.uid() == geteuid().as_raw();
            let closed = found.permissions().mode() & 0o022 == 0;
            if own && closed {
                Ok(())
            } else {
                Err(io::Error::other("it is somebody else's, or others may write there"))
            }
        }
        Err(error) => Err(error),
    }
}

fn write_one(place: &OwnedFd, name: &str, value: &[u8], (mode, uid, gid): (u32, u32, u32)) -> io::Result<()> {
    let temporary = format!(".{name}.tmp");
    match rustix::fs::unlinkat(place, &temporary, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::openat(place, &temporary, flags, Mode::RUSR | Mode::WUSR)?);
    file.write_all(value)?;
    // In this order: whose the file is no more can its maker not change.
    file.set_permissions(Permissions::from_mode(mode))?;
    if (uid, gid) != (geteuid().as_raw(), getegid().as_raw()) {
        rustix::fs::fchown(&file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    }
    rustix::fs::renameat(place, &temporary, place, name)?;
    Ok(())
}

/// Of whom there are files.
pub(super) fn instances(dir: &Path) -> Vec<InstanceId> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

pub(super) fn remove(dir: &Path, instance: InstanceId) {
    let own = dir.join(instance.to_string());
    if let Err(error) = fs::remove_dir_all(&own)
        && error.kind() != io::ErrorKind::NotFound
    {
        // Found again at the next look.
        tracing::warn!(%error, dir = %own.display(), "files of secrets were not removed");
    }
}

/// Whether files could be put there, without leaving any; says what is wrong. Blocks.
pub(crate) fn judge_dir(dir: &Path) -> Result<(), String> {
    // One that is not there yet will be on the file system of its parent.
    let Some(there) = dir.ancestors().find(|path| path.exists()) else { return Err(not_in_memory(dir)) };
    let found = rustix::fs::statfs(there)
        .map_err(|error| format!("{} cannot be looked at: {error}", there.display()))?;
    if !is_in_memory(found.f_type) {
        return Err(not_in_memory(dir));
    }
    let writable = rustix::fs::access(there, rustix::fs::Access::WRITE_OK);
    writable.map_err(|error| format!("{} cannot be written: {error}", there.display()))
}
