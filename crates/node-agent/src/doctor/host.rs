//! This host: engine, storage, control groups, disk.

use std::{
    fs::{self, OpenOptions},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use domain::id::{FleetId, NodeId};
use tokio::{task::spawn_blocking, time::timeout};
use uuid::Uuid;

use super::{Scene, Verdict, failed};
use crate::{
    runtime::{Runtime as _, RuntimeErrorKind, docker::DockerRuntime},
    secrets::judge_dir,
};

/// For the engine to say what it is.
const ENGINE_LIMIT: Duration = Duration::from_secs(10);
/// The oldest API that agents are tested with: Engine 20.10.
const API_MIN: (u32, u32) = (1, 41);
/// Less free space than this soon ends in trouble: an image alone may be larger.
const FREE_MIN_BYTES: u64 = 1024 * 1024 * 1024;
/// What helps where it takes a connection and says nothing.
const HANGS: &str = "the engine hangs: look at its log (journalctl -u docker) and restart it";
const MAKE_ROOM: &str = "make room, such as with docker image prune, or move the directory to a larger disk";
/// Control groups that limits and measuring need.
const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];

pub(super) async fn engine(scene: &mut Scene) -> Verdict {
    // Only to ask what the engine is: the labels that it would look for do not matter.
    let nobody = (FleetId::from_uuid(Uuid::nil()), NodeId::from_uuid(Uuid::nil()));
    let runtime = match DockerRuntime::new(&scene.docker_host, nobody.0, nobody.1) {
        Ok(runtime) => runtime,
        Err(error) => return failed(error.to_string(), "correct docker_host (A67_AGENT_DOCKER_HOST)"),
    };
    let info = match timeout(ENGINE_LIMIT, runtime.info()).await {
        Err(_) => {
            let waited = ENGINE_LIMIT.as_secs();
            return failed(format!("{} did not answer within {waited} s", scene.docker_host), HANGS);
        }
        Ok(Err(error)) => {
            let fix = engine_fix(&scene.docker_host, error.kind);
            return failed(format!("{} does not answer: {error}", scene.docker_host), fix);
        }
        Ok(Ok(info)) => info,
    };
    if api(&info.api_version).is_none_or(|version| version < API_MIN) {
        return failed(
            format!("the engine (version {}) speaks API {:?}", info.version, info.api_version),
            "agents need API 1.41 or newer: upgrade Docker Engine to 20.10 or newer",
        );
    }
    let text = format!("version {}, API {}, at {}", info.version, info.api_version, scene.docker_host);
    scene.engine = Some(info);
    Verdict::Ok(text)
}

fn api(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// What helps depends on how far one comes.
fn engine_fix(host: &str, kind: RuntimeErrorKind) -> String {
    if matches!(kind, RuntimeErrorKind::Timeout) {
        return HANGS.into();
    }
    let Some(path) = host.strip_prefix("unix://") else {
        return format!("look whether an engine listens at {host}");
    };
    if !matches!(kind, RuntimeErrorKind::Unreachable) {
        return "look at the engine's log: journalctl -u docker".into();
    }
    match std::os::unix::net::UnixStream::connect(path).map_err(|error| error.kind()) {
        Err(io::ErrorKind::NotFound) => {
            "there is no such socket: install Docker Engine, or start it (systemctl enable --now docker)"
                .into()
        }
        Err(io::ErrorKind::PermissionDenied) => "the socket is closed to this user: run this as root".into(),
        Err(io::ErrorKind::ConnectionRefused) => {
            "the socket is there, but no engine behind it: systemctl restart docker".into()
        }
        _ => "look at the engine's log: journalctl -u docker".into(),
    }
}

pub(super) async fn storage(scene: &mut Scene) -> Verdict {
    let Some(engine) = &scene.engine else { return Verdict::Skipped("needs engine".into()) };
    let Some(driver) = engine.storage_driver.clone() else {
        return failed(
            "the engine names no storage driver",
            "look at docker info; overlay2, btrfs and zfs are the ones to use",
        );
    };
    let dir = engine.data_dir.clone();
    let mounts = spawn_blocking(|| fs::read_to_string("/proc/self/mountinfo")).await;
    let mounts = mounts.ok().and_then(Result::ok).unwrap_or_default();
    let mount = dir.as_deref().and_then(|dir| mount_of(&mounts, Path::new(dir)));
    Verdict::Ok(judge_storage(&driver, mount.as_ref()))
}

/// A file system as far as the storage driver depends on it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mount {
    pub(super) kind: String,
    pub(super) project_quota: bool,
}

/// The mount that holds `path`, from the text of `/proc/PID/mountinfo` (`proc(5)`):
/// the longest mount point that the path begins with, and of those the last.
pub(super) fn mount_of(mountinfo: &str, path: &Path) -> Option<Mount> {
    let mut best: Option<(usize, Mount)> = None;
    for line in mountinfo.lines() {
        let Some((before, after)) = line.split_once(" - ") else { continue };
        let Some(point) = before.split(' ').nth(4) else { continue };
        if !path.starts_with(point) || best.as_ref().is_some_and(|(length, _)| *length > point.len()) {
            continue;
        }
        let mut after = after.split(' ');
        let (kind, options) = (after.next().unwrap_or_default(), after.nth(1).unwrap_or_default());
        let project_quota = options.split(',').any(|option| matches!(option, "prjquota" | "pquota"));
        best = Some((point.len(), Mount { kind: kind.to_owned(), project_quota }));
    }
    best.map(|(_, mount)| mount)
}

/// Says what the driver does with size limits: enforcing needs support below it.
pub(super) fn judge_storage(driver: &str, mount: Option<&Mount>) -> String {
    let under = mount.map(|mount| format!(" on {}", mount.kind)).unwrap_or_default();
    let quota = mount.is_some_and(|mount| mount.kind == "xfs" && mount.project_quota);
    match driver {
        "btrfs" | "zfs" => format!("{driver}{under}; storage limits are enforced"),
        "overlay2" if quota => format!("{driver}{under} with pquota; storage limits are enforced"),
        "vfs" => format!("{driver}{under}; each container copies its whole image: for tests only"),
        _ => format!("{driver}{under}; storage limits are not enforced by the engine"),
    }
}

pub(super) async fn cgroups() -> Verdict {
    let look = || judge_cgroups(Path::new("/sys/fs/cgroup"));
    spawn_blocking(look).await.unwrap_or_else(|_| failed("/sys/fs/cgroup was not read", "try again"))
}

/// Looks at the hierarchy in `root`. Version 1 wins where both are mounted, as it
/// does for the engine. Blocks for a moment.
pub(super) fn judge_cgroups(root: &Path) -> Verdict {
    let (version, lacking): (_, Vec<_>) = match fs::read_to_string(root.join("cgroup.controllers")) {
        Ok(text) => {
            let lacking =
                CONTROLLERS.into_iter().filter(|name| !text.split_ascii_whitespace().any(|c| c == *name));
            (2, lacking.collect())
        }
        Err(_) => (1, CONTROLLERS.into_iter().filter(|name| !root.join(name).is_dir()).collect()),
    };
    if lacking.len() == CONTROLLERS.len() {
        return failed(
            format!("no control groups are mounted at {}", root.display()),
            "boot with systemd, or mount them (cgroupfs-mount); in a container, mount the host's /sys/fs/cgroup",
        );
    }
    if !lacking.is_empty() {
        return failed(
            format!("version {version}, without {}", lacking.join(", ")),
            "switch it on in the kernel's command line, such as cgroup_enable=memory cgroup_memory=1, and reboot",
        );
    }
    Verdict::Ok(format!("version {version}, with {}", CONTROLLERS.join(", ")))
}

pub(super) async fn disk(scene: &mut Scene) -> Verdict {
    let (data_dir, engine) = (scene.data_dir.clone(), scene.engine.as_ref().and_then(|e| e.data_dir.clone()));
    spawn_blocking(move || judge_disk(&data_dir, engine.map(PathBuf::from), FREE_MIN_BYTES))
        .await
        .unwrap_or_else(|_| failed("the disk was not looked at", "try again"))
}

/// Looks whether the agent can write to `data_dir`, and whether there is room of
/// `free_min` bytes there and in the engine's directory. Blocks.
pub(super) fn judge_disk(data_dir: &Path, engine: Option<PathBuf>, free_min: u64) -> Verdict {
    if data_dir.is_dir()
        && let Err(error) = can_write(data_dir)
    {
        let fix = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => MAKE_ROOM,
            io::ErrorKind::ReadOnlyFilesystem => {
                "mount its file system for writing; one with errors is made read-only by the kernel (dmesg)"
            }
            _ => "make it writable for the agent's user (root)",
        };
        return failed(format!("{} cannot be written: {error}", data_dir.display()), fix);
    }
    let mut seen = Vec::new();
    for (what, path) in [("agent", Some(data_dir.to_owned())), ("engine", engine)] {
        // A directory that is not there yet will be on the file system of its parent.
        let Some(path) = path.as_deref().and_then(|path| path.ancestors().find(|path| path.exists())) else {
            continue;
        };
        let Ok(stat) = rustix::fs::statvfs(path) else { continue };
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        let room = format!("{} free for the {what} in {}", bytes(free), path.display());
        if free < free_min {
            return failed(format!("only {room}"), MAKE_ROOM);
        }
        // File systems without a table of inodes say 0 of 0.
        if stat.f_files > 0 && stat.f_favail == 0 {
            return failed(
                format!("no inode is free in {}", path.display()),
                "remove files that nobody needs: it is their number that counts here, and not their size",
            );
        }
        seen.push(room);
    }
    Verdict::Ok(seen.join(", "))
}

pub(super) async fn secrets(scene: &Scene) -> Verdict {
    let dir = scene.secrets_dir.clone();
    spawn_blocking(move || judge_secrets(&dir))
        .await
        .unwrap_or_else(|_| failed("the directory for secrets was not looked at", "try again"))
}

/// Looks whether files with secrets could be put into `dir`. Blocks.
pub(super) fn judge_secrets(dir: &Path) -> Verdict {
    match judge_dir(dir) {
        Ok(()) => Verdict::Ok(format!("{} is in memory", dir.display())),
        Err(why) => failed(
            why,
            "only containers that are given secrets as files need it; in a container, share the host's /run/automator67-agent at the same path",
        ),
    }
}

/// Makes a file, writes to it, and removes it.
fn can_write(dir: &Path) -> io::Result<()> {
    let path = dir.join(format!(".doctor.{}", std::process::id()));
    let made = OpenOptions::new().write(true).create_new(true).open(&path);
    let written = made.and_then(|mut file| {
        io::Write::write_all(&mut file, b"doctor\n")?;
        file.sync_all()
    });
    // What could not be made is not there.
    let _ = fs::remove_file(&path);
    written
}

fn bytes(count: u64) -> String {
    const MIB: u64 = 1024 * 1024;
    match count / MIB {
        mib @ 0..10_240 => format!("{mib} MiB"),
        mib => format!("{} GiB", mib / 1024),
    }
}
