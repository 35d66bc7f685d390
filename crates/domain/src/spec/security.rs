//! What a container may do beyond its own walls, or not even within them.

use serde::{Deserialize, Serialize};

use super::{LIST_MAX, fault::Faults, volumes::path_fault};

/// Linux' capabilities, without `CAP_`, and `ALL` of them.
pub const CAPABILITIES: [&str; 42] = [
    "ALL",
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "AUDIT_WRITE",
    "BLOCK_SUSPEND",
    "BPF",
    "CHECKPOINT_RESTORE",
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "IPC_OWNER",
    "KILL",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "PERFMON",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYSLOG",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "WAKE_ALARM",
];

/// Those that reach the host itself: whoever has one is as good as privileged.
const HOSTILE: [&str; 13] = [
    "ALL",
    "BPF",
    "DAC_READ_SEARCH",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "PERFMON",
    "SYSLOG",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_MODULE",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_TIME",
];

/// What a container may do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Security {
    /// Everything that the host's root may do. Nodes refuse it unless their own
    /// configuration allows it.
    #[serde(default)]
    pub privileged: bool,
    /// Added to the engine's own set; of [`CAPABILITIES`].
    #[serde(default)]
    pub cap_add: Vec<String>,
    /// Taken from the engine's own set; of [`CAPABILITIES`].
    #[serde(default)]
    pub cap_drop: Vec<String>,
    /// Programs with the set-user-id bit gain nothing by it.
    #[serde(default)]
    pub no_new_privileges: bool,
    /// The image's own files cannot be written to; volumes can.
    #[serde(default)]
    pub read_only_root: bool,
}

/// A device of the host. Nodes refuse it unless their own configuration allows
/// the path: a disk is the whole host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// The host's path.
    pub host_path: String,
    /// Where the container finds it.
    pub container_path: String,
    /// Of `r` (read), `w` (write) and `m` (make more of its kind).
    pub permissions: String,
}

/// The name of a capability as it is kept, of any way that engines take it:
/// `cap_net_admin`, `NET_ADMIN`.
#[must_use]
pub fn capability(text: &str) -> Option<&'static str> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("CAP_").filter(|rest| *rest != "ALL").unwrap_or(&upper);
    CAPABILITIES.into_iter().find(|known| *known == name)
}

/// Whether a capability reaches the host itself.
#[must_use]
pub fn reaches_host(text: &str) -> bool {
    capability(text).is_some_and(|name| HOSTILE.contains(&name))
}

pub(super) fn security_faults(security: &Security, faults: &mut Faults) {
    let Security { cap_add, cap_drop, .. } = security;
    for (list, names) in [("security.cap_add", cap_add), ("security.cap_drop", cap_drop)] {
        faults.length(list, names.len(), LIST_MAX, "entries");
        for (index, name) in names.iter().enumerate() {
            faults.unless(
                CAPABILITIES.contains(&name.as_str()),
                format!("{list}[{index}]"),
                "must be ALL or a capability of Linux without CAP_, such as NET_ADMIN",
            );
        }
    }
    for (index, name) in cap_drop.iter().enumerate() {
        let field = format!("security.cap_drop[{index}]");
        faults.unless(!cap_add.contains(name), field, "is in cap_add too");
    }
}

pub(super) fn device_faults(devices: &[Device], faults: &mut Faults) {
    faults.length("devices", devices.len(), LIST_MAX, "entries");
    for (index, Device { host_path, container_path, permissions }) in devices.iter().enumerate() {
        path_fault(host_path, format!("devices[{index}].host_path"), faults);
        path_fault(container_path, format!("devices[{index}].container_path"), faults);
        let once = |c: char| permissions.matches(c).count() == 1;
        let fine = (1..=3).contains(&permissions.len())
            && permissions.chars().all(|c| matches!(c, 'r' | 'w' | 'm') && once(c));
        faults.unless(
            fine,
            format!("devices[{index}].permissions"),
            "must be of r, w and m, each at most once",
        );
    }
}
