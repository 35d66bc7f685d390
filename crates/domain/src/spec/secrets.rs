//! What a container is given of the vault, and how it finds it.
//!
//! A spec names credentials and never holds a value. Which version is meant is
//! settled by the controller when it makes a revision ([`SecretUse::resolved`]), so
//! that two copies of one revision cannot have different ones; a new version of a
//! credential that a deployment follows makes a new revision.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{InstanceSpec, LIST_MAX, fault::Faults, validate::is_env_name, volumes::parts};
use crate::{
    id::CredentialId,
    name::{Labels, Name},
};

/// Longest value of a secret.
pub const SECRET_MAX_BYTES: usize = 256 * 1024;
/// Permissions of a secret's file where nothing else is said: its owner may read it.
pub const SECRET_MODE: u32 = 0o400;
/// Largest number of a user or group; the one above it means 'leave it' to the kernel.
pub const ID_MAX: u32 = u32::MAX - 1;
/// Where the kernel shows itself: nothing can be put there.
const KERNEL_DIRS: [&str; 3] = ["proc", "sys", "dev"];

/// One use of a credential.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretUse {
    /// The credential's name in the deployment's project.
    pub credential: Name,
    /// Which of its values, where it has several; `None` means all of it.
    #[serde(default)]
    pub key: Option<String>,
    /// Which version; `None` follows the latest.
    #[serde(default)]
    pub version: Option<u32>,
    /// How the container finds it.
    pub target: SecretTarget,
    /// What the controller has found the above to mean. `None` in what a user sends.
    #[serde(default)]
    pub resolved: Option<Resolved>,
}

/// One version of one credential.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Resolved {
    /// Which credential.
    pub credential_id: CredentialId,
    /// Which of its versions.
    pub version: u32,
    /// Labels that a node must carry to be given it. Nodes are not told.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub node_labels: Labels,
}

impl Resolved {
    /// A version that any node may be given.
    #[must_use]
    pub const fn new(credential_id: CredentialId, version: u32) -> Self {
        Self { credential_id, version, node_labels: Labels::new() }
    }
}

impl SecretUse {
    /// The whole of a credential as it is at the time.
    #[must_use]
    pub const fn new(credential: Name, target: SecretTarget) -> Self {
        Self { credential, key: None, version: None, target, resolved: None }
    }
}

/// How a container finds a value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum SecretTarget {
    /// As an environment variable, which the engine shows to whoever may inspect the
    /// container.
    Env {
        /// The variable's name.
        name: String,
    },
    /// As a file in memory, which the container may only read.
    File {
        /// The file's path in the container.
        path: String,
        /// Its permissions.
        mode: u32,
        /// Whose it is, by number.
        uid: u32,
        /// Its group, by number.
        gid: u32,
    },
}

impl InstanceSpec {
    /// Whether some of its secrets are files, which have to be there at each start.
    #[must_use]
    pub fn has_secret_files(&self) -> bool {
        self.secrets.iter().any(|secret| matches!(secret.target, SecretTarget::File { .. }))
    }
}

impl SecretTarget {
    /// A file that root alone may read.
    #[must_use]
    pub fn file(path: impl Into<String>) -> Self {
        Self::File { path: path.into(), mode: SECRET_MODE, uid: 0, gid: 0 }
    }
}

/// What is wrong with a spec's secrets.
pub(super) fn secret_faults(spec: &InstanceSpec, faults: &mut Faults) {
    faults.length("secrets", spec.secrets.len(), LIST_MAX, "entries");
    let mut taken = Taken::new(spec);
    for (index, secret) in spec.secrets.iter().enumerate() {
        let field = |name: &str| format!("secrets[{index}].{name}");
        if let Some(key) = &secret.key {
            let fine = (1..=255).contains(&key.len()) && !key.contains(char::is_control);
            faults.unless(
                fine,
                field("key"),
                "must be 1 to 255 characters, none of them a control character",
            );
        }
        faults.unless(secret.version != Some(0), field("version"), "must be at least 1");
        match &secret.target {
            SecretTarget::Env { name } => taken.env_fault(name, field("as.env"), faults),
            SecretTarget::File { path, mode, uid, gid } => {
                taken.path_fault(path, &field("as.file"), faults);
                faults.unless(*mode <= 0o777, field("as.mode"), "must be 0 to 777, in octal digits");
                faults.range(&field("as.uid"), uid, 0, ID_MAX);
                faults.range(&field("as.gid"), gid, 0, ID_MAX);
            }
        }
    }
}

/// What is taken already, as faults are looked for.
struct Taken<'a> {
    /// Names of variables, and whether it is a secret that took them.
    env: BTreeMap<&'a str, bool>,
    /// Paths of secrets' files, by their parts.
    files: Vec<Vec<&'a str>>,
    mounts: Vec<Vec<&'a str>>,
}

impl<'a> Taken<'a> {
    fn new(spec: &'a InstanceSpec) -> Self {
        Self {
            env: spec.env.0.keys().map(|name| (name.as_str(), false)).collect(),
            files: Vec::new(),
            mounts: spec.volumes.iter().filter_map(|volume| parts(volume.target())).collect(),
        }
    }

    fn env_fault(&mut self, name: &'a str, field: String, faults: &mut Faults) {
        faults.unless(is_env_name(name), &field, "must be 1 to 255 characters without '='");
        let message = match self.env.insert(name, true) {
            None => return,
            Some(false) => "is in env as well",
            Some(true) => "is used twice",
        };
        faults.unless(false, field, message);
    }

    fn path_fault(&mut self, path: &'a str, field: &str, faults: &mut Faults) {
        super::volumes::path_fault(path, field, faults);
        let Some(path) = parts(path) else { return };
        faults.unless(!path.is_empty(), field, "must not be the root of the file system");
        let kernel = path.first().is_some_and(|first| KERNEL_DIRS.contains(first));
        faults.unless(!kernel, field, "must not be below /proc, /sys or /dev");
        // A file has nothing below it, so neither may lead through the other.
        let nested = self.files.iter().any(|other| path.starts_with(other) || other.starts_with(&path));
        faults.unless(!nested, field, "is the path of another secret, or leads through one");
        let mounted = self.mounts.iter().any(|mount| mount.starts_with(&path));
        faults.unless(!mounted, field, "is where a volume is mounted, or above it");
        self.files.push(path);
    }
}
