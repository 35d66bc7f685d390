//! What is mounted into a container.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{LIST_MAX, fault::Faults, limits::BYTES_MAX, networks::is_engine_name};

/// Longest path, in bytes: what Linux takes.
pub const PATH_MAX_BYTES: usize = 4095;

/// Something that is mounted into a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Volume {
    /// A volume of the node's engine, made when it is first used. It outlives the
    /// container, and stays on that node.
    Named {
        /// Where it is mounted.
        target: String,
        /// Whether the container may only read it.
        #[serde(default)]
        read_only: bool,
        /// The volume's name at the engine.
        name: String,
    },
    /// A directory or file of the host. Nodes refuse it unless their own
    /// configuration allows the path.
    Bind {
        /// Where it is mounted.
        target: String,
        /// Whether the container may only read it.
        #[serde(default)]
        read_only: bool,
        /// The host's path.
        path: String,
    },
    /// Memory; counts towards the memory limit, and is gone with the container.
    Tmpfs {
        /// Where it is mounted.
        target: String,
        /// Most of it; `None` lets the kernel say (half of the host's memory).
        #[serde(default)]
        size_bytes: Option<u64>,
        /// Permissions of its root, such as `0o1777`, which `None` means too.
        #[serde(default)]
        mode: Option<u32>,
    },
}

impl Volume {
    /// Where it is mounted.
    #[must_use]
    pub fn target(&self) -> &str {
        match self {
            Self::Named { target, .. } | Self::Bind { target, .. } | Self::Tmpfs { target, .. } => target,
        }
    }
}

/// The parts of an absolute path; `None` for any other text. A path that climbs
/// (`..`) is none: where it leads cannot be said by looking at it.
pub(crate) fn parts(path: &str) -> Option<Vec<&str>> {
    let fine = path.starts_with('/') && path.len() <= PATH_MAX_BYTES && !path.contains(char::is_control);
    let parts: Vec<&str> = path.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    (fine && !parts.contains(&"..")).then_some(parts)
}

pub(super) fn path_fault(path: &str, field: impl Into<String>, faults: &mut Faults) {
    faults.unless(
        parts(path).is_some(),
        field,
        format!(
            "must be an absolute path of at most {PATH_MAX_BYTES} bytes, without '..' and control characters"
        ),
    );
}

pub(super) fn volume_faults(volumes: &[Volume], faults: &mut Faults) {
    faults.length("volumes", volumes.len(), LIST_MAX, "entries");
    let mut targets = BTreeSet::new();
    for (index, volume) in volumes.iter().enumerate() {
        let field = |name: &str| format!("volumes[{index}].{name}");
        path_fault(volume.target(), field("target"), faults);
        if let Some(parts) = parts(volume.target()) {
            faults.unless(!parts.is_empty(), field("target"), "must not be the root of the file system");
            faults.unless(targets.insert(parts), field("target"), "is mounted twice");
        }
        match volume {
            Volume::Named { name, .. } => faults.unless(
                is_engine_name(name) && name.len() >= 2,
                field("name"),
                "must be 2 to 255 letters, digits, '_', '.' and '-', and begin with a letter or digit",
            ),
            Volume::Bind { path, .. } => path_fault(path, field("path"), faults),
            Volume::Tmpfs { size_bytes, mode, .. } => {
                if let Some(size) = size_bytes {
                    faults.range(&field("size_bytes"), size, 4096, BYTES_MAX);
                }
                let fine = mode.is_none_or(|mode| mode <= 0o7777);
                faults.unless(fine, field("mode"), "must be 0 to 7777, in octal digits");
            }
        }
    }
}
