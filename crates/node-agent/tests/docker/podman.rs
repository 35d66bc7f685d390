//! Podman, as the same kind of engine: its compatible socket, with storage, networks
//! and locks of its own.

use std::{fs, path::Path, process::Command};

use crate::engine::REGISTRY;

/// What it must not share with another Podman of this host.
const PRIVATE: [&str; 3] = ["/dev/shm", "/run", "/var/lib/cni"];

/// Writes its configuration. The ulimits are those that a host gives that may not
/// raise them; equal ones, because Podman 4.3 takes the one for the other.
pub fn configure(dir: &Path) {
    let at = |name: &str| dir.join(name).display().to_string();
    let containers = format!(
        "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n\
         [engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\n\
         [network]\nnetwork_backend = \"netavark\"\nnetwork_config_dir = \"{}\"\n",
        at("networks")
    );
    let storage = format!(
        "[storage]\ndriver = \"overlay\"\ngraphroot = \"{}\"\nrunroot = \"{}\"\n",
        at("data"),
        at("run")
    );
    let registries = format!(
        "unqualified-search-registries = [\"docker.io\"]\n[[registry]]\nlocation = \"{REGISTRY}\"\ninsecure = true\n"
    );
    for (name, text) in
        [("containers.conf", containers), ("storage.conf", storage), ("registries.conf", registries)]
    {
        fs::write(dir.join(name), text).unwrap();
    }
}

/// The command that serves the API, in namespaces of its own: what is mounted for
/// containers is gone with it.
pub fn service(dir: &Path) -> Command {
    let at = |name: &str| dir.join(name).display().to_string();
    let mounts: Vec<_> =
        PRIVATE.iter().map(|path| format!("mkdir -p {path} && mount -t tmpfs none {path}")).collect();
    let script = format!("ip link set lo up && {} && exec podman \"$@\"", mounts.join(" && "));
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "--", "sh", "-c", &script, "podman"]);
    command.args(["--root", &at("data"), "--runroot", &at("run"), "--tmpdir", &at("tmp")]);
    command.args(["system", "service", "--time=0", &format!("unix://{}", at("docker.sock"))]);
    command.env("CONTAINERS_CONF", at("containers.conf"));
    command.env("CONTAINERS_STORAGE_CONF", at("storage.conf"));
    command.env("CONTAINERS_REGISTRIES_CONF", at("registries.conf"));
    command
}
