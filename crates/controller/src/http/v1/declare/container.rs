//! The parts of a declaration that say how a container meets its host.

use std::collections::BTreeMap;

use domain::spec::{Device, LogSpec, Network, NetworkSpec, Options, Security, Ulimit, Volume, capability};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::error::Error;

/// What a container is connected to.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NetworkCreate {
    /// `bridge` (the engine's own), `host`, `none` or `named`; when left out `named`
    /// with networks and else `bridge`. A node refuses `host` unless its own
    /// configuration allows it.
    mode: Option<ModeCreate>,
    /// With `named`: 1 to 32 networks, which have to exist on the node.
    #[serde(default)]
    networks: Vec<AttachmentCreate>,
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum ModeCreate {
    Bridge,
    Host,
    None,
    Named,
}

/// A network to join.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct AttachmentCreate {
    /// Its name at the engine.
    name: String,
    /// Names by which the container is found there, beside its own.
    #[serde(default)]
    aliases: Vec<String>,
}

/// Something that is mounted into a container.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub(super) enum VolumeCreate {
    /// A volume of the node's engine, made when it is first used. It stays on that
    /// node.
    Named {
        /// Where it is mounted; an absolute path.
        target: String,
        /// Whether the container may only read it; `false` when left out.
        #[serde(default)]
        read_only: bool,
        /// The volume's name at the engine.
        name: String,
    },
    /// A directory or file of the host. A node refuses those that its own
    /// configuration does not allow (`bind_paths`).
    Bind {
        /// Where it is mounted; an absolute path.
        target: String,
        /// Whether the container may only read it; `false` when left out.
        #[serde(default)]
        read_only: bool,
        /// The host's path.
        path: String,
    },
    /// Memory, which is gone with the container.
    Tmpfs {
        /// Where it is mounted; an absolute path.
        target: String,
        /// At least 4096; half of the host's memory when left out.
        size_bytes: Option<u64>,
        /// Permissions in octal digits; `1777` when left out.
        mode: Option<String>,
    },
}

/// A device of the host.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DeviceCreate {
    /// The host's path.
    host_path: String,
    /// Where the container finds it; as on the host when left out.
    container_path: Option<String>,
    /// Of `r` (read), `w` (write) and `m` (make); `rw` when left out.
    permissions: Option<String>,
}

/// What a container may do.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SecurityCreate {
    /// Everything that the host's root may do. A node refuses it unless its own
    /// configuration allows it.
    #[serde(default)]
    privileged: bool,
    /// Capabilities beyond the engine's own set, such as `NET_ADMIN`. A node refuses
    /// those that reach the host, such as `SYS_ADMIN`, as it does `privileged`.
    #[serde(default)]
    cap_add: Vec<String>,
    /// Capabilities less than the engine's own set, or `ALL`.
    #[serde(default)]
    cap_drop: Vec<String>,
    /// Programs with the set-user-id bit gain nothing by it.
    #[serde(default)]
    no_new_privileges: bool,
    /// The image's own files cannot be written to; volumes can.
    #[serde(default)]
    read_only_root: bool,
}

/// A limit of each process of its own.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UlimitCreate {
    /// Such as `nofile`.
    name: String,
    /// What a process starts with; -1 for no limit.
    soft: i64,
    /// Up to where a process may raise it, -1 for no limit; as `soft` when left out.
    hard: Option<i64>,
}

/// What becomes of a container's output.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LogCreate {
    /// The engine's name of the log driver; `json-file` when left out.
    driver: Option<String>,
    /// As the driver has them. Whoever may see the deployment sees them.
    #[serde(default)]
    options: BTreeMap<String, String>,
}

impl NetworkCreate {
    pub(super) fn read(self) -> Result<Network, Error> {
        let join = |n: AttachmentCreate| NetworkSpec { name: n.name, aliases: n.aliases };
        let networks: Vec<_> = self.networks.into_iter().map(join).collect();
        let network = match self.mode {
            Some(ModeCreate::Host) => Network::Host,
            Some(ModeCreate::None) => Network::None,
            Some(ModeCreate::Bridge) => Network::Bridge,
            None if networks.is_empty() => Network::Bridge,
            Some(ModeCreate::Named) | None => return Ok(Network::Named { networks }),
        };
        if networks.is_empty() {
            return Ok(network);
        }
        Err(Error::invalid_field("network.networks", "goes with mode: named only"))
    }
}

/// Reads volumes; their paths and sizes are checked with the rest of the spec.
pub(super) fn volumes(volumes: Vec<VolumeCreate>) -> Result<Vec<Volume>, Error> {
    volumes.into_iter().enumerate().map(|(index, volume)| volume.read(index)).collect()
}

impl VolumeCreate {
    fn read(self, index: usize) -> Result<Volume, Error> {
        Ok(match self {
            Self::Named { target, read_only, name } => Volume::Named { target, read_only, name },
            Self::Bind { target, read_only, path } => Volume::Bind { target, read_only, path },
            Self::Tmpfs { target, size_bytes, mode } => {
                let read = |text: String| {
                    let field = format!("volumes[{index}].mode");
                    octal(&text)
                        .ok_or_else(|| Error::invalid_field(field, "must be octal digits such as 1777"))
                };
                Volume::Tmpfs { target, size_bytes, mode: mode.map(read).transpose()? }
            }
        })
    }
}

/// Reads permissions.
pub(super) fn octal(text: &str) -> Option<u32> {
    let digits = text.bytes().all(|b| matches!(b, b'0'..=b'7'));
    u32::from_str_radix(text, 8).ok().filter(|_| digits)
}

impl DeviceCreate {
    pub(super) fn read(self) -> Device {
        Device {
            container_path: self.container_path.unwrap_or_else(|| self.host_path.clone()),
            host_path: self.host_path,
            permissions: self.permissions.unwrap_or_else(|| "rw".to_owned()),
        }
    }
}

impl SecurityCreate {
    pub(super) fn read(self) -> Security {
        // One that is not known stays as it is, so that it is named as it was sent.
        let known = |name: String| capability(&name).map(str::to_owned).unwrap_or(name);
        Security {
            privileged: self.privileged,
            cap_add: self.cap_add.into_iter().map(known).collect(),
            cap_drop: self.cap_drop.into_iter().map(known).collect(),
            no_new_privileges: self.no_new_privileges,
            read_only_root: self.read_only_root,
        }
    }
}

impl UlimitCreate {
    pub(super) fn read(self) -> Ulimit {
        Ulimit { name: self.name, soft: self.soft, hard: self.hard.unwrap_or(self.soft) }
    }
}

impl LogCreate {
    pub(super) fn read(self) -> LogSpec {
        LogSpec { driver: self.driver, options: Options(self.options) }
    }
}
