//! What a node refuses by its own configuration, whatever its controller says.
//!
//! Decided by the agent, from its own file, before it does anything. Nothing here
//! trusts that the controller has validated a spec: what is hidden under another
//! spelling is refused as what it is.

use std::fmt;

use super::{InstanceSpec, Network, Volume, reaches_host, volumes::parts};

/// What this node lets containers do. The default is what a host that was told
/// nothing gives: no way out to the host, images from anywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Privileged containers, and capabilities that come to the same.
    pub privileged: bool,
    /// Containers in the host's own network.
    pub host_network: bool,
    /// Paths of the host that may be mounted, with all that is below them.
    pub bind_paths: Vec<String>,
    /// Devices of the host that may be used; a directory stands for all below it.
    pub device_paths: Vec<String>,
    /// Commands run in containers, for people and for probes.
    pub exec: bool,
    /// Registries that images may come from, such as `docker.io` or
    /// `ghcr.io/team`; empty means all.
    pub registries: Vec<String>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            privileged: false,
            host_network: false,
            bind_paths: Vec::new(),
            device_paths: Vec::new(),
            exec: true,
            registries: Vec::new(),
        }
    }
}

/// Why a node does not run something. Nothing but its configuration changes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The key of the agent's configuration that decides.
    pub setting: &'static str,
    /// What it does not allow.
    pub what: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "this node's own configuration ({}) does not allow {}", self.setting, self.what)
    }
}

fn refusal(setting: &'static str, what: impl Into<String>) -> Option<Refusal> {
    Some(Refusal { setting, what: what.into() })
}

/// Says what of a spec this node refuses, if anything; the first of several.
#[must_use]
pub fn refuse(spec: &InstanceSpec, policy: &Policy) -> Option<Refusal> {
    refuse_privileges(spec, policy)
        .or_else(|| refuse_network(&spec.network, policy))
        .or_else(|| {
            spec.volumes.iter().find_map(|volume| match volume {
                Volume::Bind { path, .. } => refuse_bind(path, policy),
                Volume::Named { name, .. } if name.contains('/') => refuse_bind(name, policy),
                Volume::Named { .. } | Volume::Tmpfs { .. } => None,
            })
        })
        .or_else(|| refuse_image(&spec.image, policy))
}

fn refuse_privileges(spec: &InstanceSpec, policy: &Policy) -> Option<Refusal> {
    if policy.privileged {
        return None;
    }
    if spec.security.privileged {
        return refusal("allow_privileged", "privileged containers");
    }
    if let Some(name) = spec.security.cap_add.iter().find(|name| reaches_host(name)) {
        return refusal("allow_privileged", format!("the capability {name:?}, which reaches the host"));
    }
    let device = spec.devices.iter().find(|device| !is_below(&device.host_path, &policy.device_paths))?;
    refusal("device_paths", format!("the device {:?}", device.host_path))
}

fn refuse_network(network: &Network, policy: &Policy) -> Option<Refusal> {
    // `container:ID` is the network of another container, which may be the host's.
    let is_host = |name: &str| name.eq_ignore_ascii_case("host") || name.contains(':');
    let host = matches!(network, Network::Host) || network.named().iter().any(|n| is_host(&n.name));
    if host && !policy.host_network {
        return refusal("allow_host_network", "containers in the host's network");
    }
    None
}

/// Says whether this node refuses to mount a path of its own. To be asked again
/// about where the path really leads, where that can be known.
#[must_use]
pub fn refuse_bind(path: &str, policy: &Policy) -> Option<Refusal> {
    if is_below(path, &policy.bind_paths) {
        return None;
    }
    refusal("bind_paths", format!("the host's path {path:?} to be mounted"))
}

/// Says whether this node refuses an image for where it comes from.
#[must_use]
pub fn refuse_image(image: &str, policy: &Policy) -> Option<Refusal> {
    if policy.registries.is_empty() {
        return None;
    }
    let Some(name) = repository(image) else {
        return refusal("allowed_registries", format!("the image {image:?}, which names no registry"));
    };
    let fits = |allowed: &String| {
        let allowed = full_host(allowed.trim_end_matches('/'));
        name.strip_prefix(allowed.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    if policy.registries.iter().any(fits) {
        return None;
    }
    let registry = name.split('/').next().unwrap_or_default();
    refusal("allowed_registries", format!("the image {name:?} of the registry {registry}"))
}

/// Says whether this node refuses that commands are run in its containers.
#[must_use]
pub fn refuse_exec(policy: &Policy) -> Option<Refusal> {
    if policy.exec { None } else { refusal("allow_exec", "commands to be run in containers") }
}

/// Whether a path is one of these, or below one of them, by its parts.
fn is_below(path: &str, allowed: &[String]) -> bool {
    let Some(path) = parts(path) else { return false };
    allowed.iter().filter_map(|allowed| parts(allowed)).any(|allowed| path.starts_with(&allowed))
}

/// The registry that an image comes from, in lower case and with one name for
/// Docker's own, such as `docker.io`. `None` for an image that is named by its id.
#[must_use]
pub fn registry(image: &str) -> Option<String> {
    repository(image)?.split('/').next().map(str::to_owned)
}

/// An image's repository in full, as engines read it: `app:1` is
/// `docker.io/library/app`. `None` for an image that is named by its id.
fn repository(image: &str) -> Option<String> {
    let is_id = |text: &str| text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
    if image.starts_with("sha256:") || is_id(image) {
        return None;
    }
    let name = image.split('@').next().unwrap_or_default();
    // A colon in the last part begins the tag; one before it a registry's port.
    let tag = name.rfind(':').filter(|at| name.rfind('/').is_none_or(|slash| *at > slash));
    let name = tag.and_then(|at| name.get(..at)).unwrap_or(name);
    let is_host =
        |part: &str| part.contains(['.', ':']) || part == "localhost" || part != part.to_lowercase();
    Some(match name.split_once('/') {
        Some((host, rest)) if is_host(host) => {
            let host = full_host(host);
            if host == "docker.io" && !rest.contains('/') {
                format!("docker.io/library/{rest}")
            } else {
                format!("{host}/{rest}")
            }
        }
        Some(_) => format!("docker.io/{name}"),
        None => format!("docker.io/library/{name}"),
    })
}

/// A registry as it is compared: its host in lower case, and one name for Docker's own.
#[must_use]
pub fn full_host(text: &str) -> String {
    let (host, rest) = text.split_once('/').map_or((text, None), |(host, rest)| (host, Some(rest)));
    let host = match host.to_lowercase().as_str() {
        "index.docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
        other => other.to_owned(),
    };
    rest.map_or_else(|| host.clone(), |rest| format!("{host}/{rest}"))
}
