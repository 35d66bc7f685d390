//! What this host is: read from the kernel and the engine, told to the controller.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use daemon::Supervisor;
use domain::node::{EngineState, NodeFacts, StorageLimit};
use procfs::Current as _;
use tokio::{sync::watch, task::spawn_blocking, time::timeout};

use crate::runtime::{EngineInfo, Runtime};

/// Between looks at what changes by itself, such as free disk space.
const PERIOD: Duration = Duration::from_secs(30);
/// For the engine's answer.
const DEADLINE: Duration = Duration::from_secs(5);
/// A change of free disk space below this part of the disk is no news.
const DISK_NEWS: u64 = 100;

/// Reads the host's facts. Values that cannot be read are left empty or 0.
/// `engine` is what the engine said, where it answers; `address` is where
/// published ports are reached, where that is known. Blocks for a moment.
#[must_use]
pub fn host_facts(engine: Option<&EngineInfo>, address: Option<String>) -> NodeFacts {
    let uname = rustix::system::uname();
    let known = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let data_dir = engine.and_then(|engine| engine.data_dir.as_deref());
    let (disk_bytes, disk_free_bytes) = disk(data_dir);
    let cpus = procfs::CpuInfo::current().map_or(0, |cpu| cpu.num_cores());
    NodeFacts {
        hostname: uname.nodename().to_string_lossy().into_owned(),
        os: os_name(&fs::read_to_string("/etc/os-release").unwrap_or_default()),
        kernel: uname.release().to_string_lossy().into_owned(),
        architecture: std::env::consts::ARCH.to_owned(),
        cpu_millis: u64::try_from(cpus).unwrap_or_default().saturating_mul(1000),
        memory_bytes: procfs::Meminfo::current().map_or(0, |memory| memory.mem_total),
        disk_bytes,
        disk_free_bytes,
        engine_version: engine.and_then(|engine| known(&engine.version)),
        engine_api_version: engine.and_then(|engine| known(&engine.api_version)),
        storage_driver: engine.and_then(|engine| engine.storage_driver.clone()),
        cgroup_version: engine.and_then(|engine| engine.cgroup_version),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        address,
        storage_limit: None,
    }
}

/// Asks the engine what it is; `None` where it does not answer.
pub async fn ask_engine(runtime: &dyn Runtime) -> Option<EngineInfo> {
    match timeout(DEADLINE, runtime.info()).await {
        Ok(Ok(info)) => Some(info),
        Ok(Err(error)) => {
            tracing::debug!(%error, "container engine did not say what it is");
            None
        }
        Err(_) => None,
    }
}

/// Keeps the facts up to date: now and then, and when the engine comes or goes.
pub(crate) fn keep(
    supervisor: &Supervisor,
    runtime: Arc<dyn Runtime>,
    mut engine: watch::Receiver<EngineState>,
    mut storage: watch::Receiver<Option<StorageLimit>>,
    address: Option<String>,
) -> watch::Receiver<NodeFacts> {
    let (told, facts) = watch::channel(host_facts(None, address.clone()));
    let stop = supervisor.stop_token();
    let task = async move {
        let mut data_dir = None;
        loop {
            let state = *engine.borrow_and_update();
            let info = match state {
                EngineState::Reachable => ask_engine(runtime.as_ref()).await,
                EngineState::Unreachable => None,
            };
            // The disk is where the engine keeps its data, also while it is away.
            data_dir = info.as_ref().and_then(|info| info.data_dir.clone()).or(data_dir);
            let info =
                info.unwrap_or_else(|| EngineInfo { data_dir: data_dir.clone(), ..EngineInfo::default() });
            let address = address.clone();
            let storage_limit = *storage.borrow_and_update();
            if let Ok(new) = spawn_blocking(move || host_facts(Some(&info), address)).await {
                let new = NodeFacts { storage_limit, ..new };
                told.send_if_modified(|old| {
                    let news = is_news(old, &new);
                    if news {
                        *old = new;
                    }
                    news
                });
            }
            // Cancel-safe: the state is read anew each time.
            tokio::select! {
                () = stop.cancelled() => return,
                changed = engine.changed() => if changed.is_err() { return },
                // Its sender may be gone at the end, while the engine's is not.
                Ok(()) = storage.changed() => {}
                () = tokio::time::sleep(PERIOD) => {}
            }
        }
    };
    drop(supervisor.spawn("facts", task));
    facts
}

/// Whether the controller should hear of it.
fn is_news(old: &NodeFacts, new: &NodeFacts) -> bool {
    let drift = old.disk_free_bytes.abs_diff(new.disk_free_bytes);
    let same_disk = NodeFacts { disk_free_bytes: old.disk_free_bytes, ..new.clone() };
    *old != same_disk || drift > new.disk_bytes / DISK_NEWS
}

/// Size and free space of the file system that holds `data_dir`, or of the root
/// where that cannot be seen (an agent in a container).
fn disk(data_dir: Option<&str>) -> (u64, u64) {
    let candidates = data_dir.into_iter().chain(["/"]).map(PathBuf::from);
    candidates.filter(|path| path.is_absolute()).find_map(|path| disk_of(&path)).unwrap_or_default()
}

fn disk_of(path: &Path) -> Option<(u64, u64)> {
    let stat = rustix::fs::statvfs(path).ok()?;
    // What is free to those who are not root: the rest is the kernel's reserve.
    Some((stat.f_blocks.saturating_mul(stat.f_frsize), stat.f_bavail.saturating_mul(stat.f_frsize)))
}

/// The name that a system gives itself (`os-release(5)`).
fn os_name(os_release: &str) -> String {
    let value = |key: &str| {
        os_release.lines().find_map(|line| Some(line.strip_prefix(key)?.strip_prefix('=')?.trim_matches('"')))
    };
    value("PRETTY_NAME").or_else(|| value("NAME")).unwrap_or("Linux").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::fake::FakeRuntime;

    #[test]
    fn this_host_has_a_name_processors_memory_and_a_disk() {
        let facts = host_facts(None, None);
        assert!(!facts.hostname.is_empty() && !facts.kernel.is_empty());
        assert!(facts.cpu_millis >= 1000 && facts.memory_bytes > 0);
        assert!(facts.disk_bytes > facts.disk_free_bytes && facts.disk_free_bytes > 0);
        assert_eq!(facts.engine_version, None);
    }

    #[test]
    fn a_system_is_called_as_it_calls_itself() {
        assert_eq!(os_name("NAME=\"Debian\"\nPRETTY_NAME=\"Debian GNU/Linux 12\"\n"), "Debian GNU/Linux 12");
        assert_eq!(os_name("NAME=Alpine\n"), "Alpine");
        assert_eq!(os_name(""), "Linux");
    }

    #[test]
    fn a_little_less_disk_is_no_news_and_anything_else_is() {
        let old = NodeFacts { disk_bytes: 1000, disk_free_bytes: 500, ..NodeFacts::default() };
        let free = |disk_free_bytes| NodeFacts { disk_free_bytes, ..old.clone() };
        assert!(!is_news(&old, &free(492)) && is_news(&old, &free(480)));
        assert!(is_news(&old, &NodeFacts { engine_version: Some("20".into()), ..old.clone() }));
    }

    #[tokio::test]
    async fn facts_follow_the_engine_as_it_comes_and_goes() {
        let supervisor = Supervisor::new(tokio::runtime::Handle::current());
        let (state, engine) = watch::channel(EngineState::Unreachable);
        let (limit, storage) = watch::channel(None);
        let mut facts = keep(&supervisor, Arc::new(FakeRuntime::default()), engine, storage, None);
        assert_eq!(facts.borrow().engine_version, None);
        limit.send_replace(Some(StorageLimit::Enforced));
        state.send_replace(EngineState::Reachable);
        let deadline = Duration::from_secs(10);
        let known = facts.wait_for(|facts| facts.engine_version.as_deref() == Some("fake"));
        assert!(timeout(deadline, known).await.is_ok_and(|known| known.is_ok()));
        let limited = facts.wait_for(|facts| facts.storage_limit == Some(StorageLimit::Enforced));
        assert!(timeout(deadline, limited).await.is_ok_and(|limited| limited.is_ok()));
        state.send_replace(EngineState::Unreachable);
        let unknown = facts.wait_for(|facts| facts.engine_version.is_none());
        assert!(timeout(deadline, unknown).await.is_ok_and(|unknown| unknown.is_ok()));
        assert!(supervisor.shut_down(deadline).await);
    }
}
