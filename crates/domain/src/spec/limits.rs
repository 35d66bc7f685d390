//! What one copy may use.

use serde::{Deserialize, Serialize};

use super::{LIST_MAX, fault::Faults};

/// Least memory limit: the Docker Engine refuses less than 6 MiB.
pub const MEMORY_MIN_BYTES: u64 = 6 * 1024 * 1024;
/// Most of any limit in bytes: 64 TiB.
pub const BYTES_MAX: u64 = 1 << 46;
/// Least storage limit: file systems need some for themselves.
pub const STORAGE_MIN_BYTES: u64 = 1024 * 1024;
/// What a ulimit is where there shall be none.
pub const UNLIMITED: i64 = -1;

/// Resources that the kernel limits for each process, by the names that Docker
/// gives them.
pub const ULIMITS: [&str; 15] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// What a node does about a writable layer that is over its limit, where its engine
/// does not keep it within.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StorageExceeded {
    /// Says so, and lets it run.
    #[default]
    Mark,
    /// Stops it; it stays down.
    Stop,
}

impl StorageExceeded {
    /// The stable text used in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Mark => "mark",
            Self::Stop => "stop",
        }
    }
}

/// What one instance may use at most; enforced by the kernel, storage by the
/// engine where its storage driver can.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Thousandths of a core.
    pub cpu_millis: u32,
    /// Hard limit; see `swap_bytes` for what may be swapped out beyond it.
    pub memory_bytes: u64,
    /// What the kernel leaves it when memory gets scarce; `None` sets nothing.
    #[serde(default)]
    pub memory_reservation_bytes: Option<u64>,
    /// Swap beyond the memory limit; 0 means none.
    #[serde(default)]
    pub swap_bytes: u64,
    /// Most of its writable layer; `None` means no limit, as in specs from before
    /// there was one.
    #[serde(default)]
    pub storage_bytes: Option<u64>,
    /// What happens to one that is over it where the engine does not enforce it.
    #[serde(default)]
    pub storage_exceeded: StorageExceeded,
    /// Most processes and threads.
    pub pids: u32,
    /// Size of `/dev/shm`, which counts as memory; `None` leaves it to the engine (64 MiB).
    #[serde(default)]
    pub shm_bytes: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            cpu_millis: 1000,
            memory_bytes: 512 * 1024 * 1024,
            memory_reservation_bytes: None,
            swap_bytes: 0,
            storage_bytes: Some(1024 * 1024 * 1024),
            storage_exceeded: StorageExceeded::Mark,
            pids: 1024,
            shm_bytes: None,
        }
    }
}

/// A limit of each process of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// One of [`ULIMITS`].
    pub name: String,
    /// What a process starts with; [`UNLIMITED`] for none.
    pub soft: i64,
    /// Up to where a process may raise it; [`UNLIMITED`] for none.
    pub hard: i64,
}

pub(super) fn limit_faults(limits: &Limits, faults: &mut Faults) {
    faults.range("limits.cpu_millis", &limits.cpu_millis, 10, 1_024_000);
    faults.unless(
        (MEMORY_MIN_BYTES..=BYTES_MAX).contains(&limits.memory_bytes),
        "limits.memory_bytes",
        format!("must be {MEMORY_MIN_BYTES} (6 MiB) to {BYTES_MAX} (64 TiB)"),
    );
    if let Some(reserved) = limits.memory_reservation_bytes {
        faults.unless(
            (MEMORY_MIN_BYTES..=limits.memory_bytes).contains(&reserved),
            "limits.memory_reservation_bytes",
            format!("must be {MEMORY_MIN_BYTES} (6 MiB) to limits.memory_bytes"),
        );
    }
    faults.range("limits.swap_bytes", &limits.swap_bytes, 0, BYTES_MAX);
    if let Some(storage) = limits.storage_bytes {
        faults.range("limits.storage_bytes", &storage, STORAGE_MIN_BYTES, BYTES_MAX);
    }
    faults.range("limits.pids", &limits.pids, 1, 4_194_304);
    if let Some(shm) = limits.shm_bytes {
        faults.range("limits.shm_bytes", &shm, 4096, BYTES_MAX);
    }
}

pub(super) fn ulimit_faults(ulimits: &[Ulimit], faults: &mut Faults) {
    faults.length("ulimits", ulimits.len(), LIST_MAX, "entries");
    let mut seen = std::collections::BTreeSet::new();
    for (index, Ulimit { name, soft, hard }) in ulimits.iter().enumerate() {
        let known = ULIMITS.contains(&name.as_str());
        faults.unless(
            known,
            format!("ulimits[{index}].name"),
            format!("must be one of {}", ULIMITS.join(", ")),
        );
        faults.unless(
            !known || seen.insert(name),
            format!("ulimits[{index}].name"),
            format!("{name} is there twice"),
        );
        for (which, value) in [("soft", soft), ("hard", hard)] {
            let field = format!("ulimits[{index}].{which}");
            faults.unless(*value >= UNLIMITED, field, "must be 0 or more, or -1 for no limit");
        }
        let fits = *hard == UNLIMITED || (*soft != UNLIMITED && soft <= hard);
        faults.unless(fits, format!("ulimits[{index}].soft"), "must not be more than hard");
    }
}
