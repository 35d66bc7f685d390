//! Specs of before, every fault with its path, and what nodes refuse.

mod any;
mod secrets;

use super::{
    policy::{Policy, refuse, refuse_bind, refuse_exec, refuse_image, registry},
    *,
};
use crate::deployment::{DeploymentSpec, Reservation};

/// A revision's spec as it was stored before there was more to say.
const STORED: &str = r#"{
    "instance": {
        "image": "registry.example.org/app:1", "entrypoint": [], "command": ["run"], "env": {"A": "b"},
        "ports": [{"container_port": 80, "host_port": null, "transport": "tcp"}],
        "limits": {"cpu_millis": 500, "memory_bytes": 67108864, "pids": 64},
        "restart": {"when": "on_failure", "max_retries": 3}, "pull": "missing",
        "stop_grace_seconds": 5, "min_healthy_seconds": 2
    },
    "replicas": 2, "reservation": {"cpu_millis": 50, "memory_bytes": 16777216},
    "constraints": {"disk": "ssd"}, "progress_deadline_seconds": 300
}"#;

#[test]
fn a_spec_of_before_reads_and_means_what_it_meant() {
    let spec: DeploymentSpec = serde_json::from_str(STORED).unwrap();
    let mut expected = InstanceSpec::of_image("registry.example.org/app:1");
    expected.command = vec!["run".into()];
    expected.env.0.insert("A".into(), "b".into());
    expected.ports = vec![PortSpec { container_port: 80, host_port: None, transport: Transport::Tcp }];
    expected.limits.cpu_millis = 500;
    expected.limits.memory_bytes = 64 << 20;
    expected.limits.pids = 64;
    expected.limits.storage_bytes = None;
    expected.restart = RestartPolicy::OnFailure { max_retries: Some(3) };
    expected.stop_grace_seconds = 5;
    expected.min_healthy_seconds = 2;
    assert_eq!(spec.instance, expected);
    assert!(spec.instance.secrets.is_empty());
    assert_eq!(spec.validate(), Ok(()));
}

#[test]
fn a_new_spec_has_the_limits_that_were_promised() {
    let spec = InstanceSpec::of_image("app:1");
    let Limits { cpu_millis, memory_bytes, storage_bytes, swap_bytes, .. } = spec.limits;
    assert_eq!((cpu_millis, memory_bytes, storage_bytes), (1000, 512 << 20, Some(1 << 30)));
    assert_eq!((swap_bytes, spec.stop_grace_seconds, spec.restart), (0, 10, RestartPolicy::Always));
}

fn whole(instance: InstanceSpec) -> DeploymentSpec {
    DeploymentSpec {
        reservation: Reservation { cpu_millis: 10, memory_bytes: 0 },
        progress_deadline_seconds: 86_400,
        ..DeploymentSpec::of_instance(instance)
    }
}

fn faults(spoil: impl FnOnce(&mut InstanceSpec)) -> Vec<FieldFault> {
    let mut spec = InstanceSpec::of_image("app:1");
    spoil(&mut spec);
    whole(spec).validate().err().unwrap_or_default()
}

fn fields(spoil: impl FnOnce(&mut InstanceSpec)) -> Vec<String> {
    faults(spoil).into_iter().map(|fault| fault.field).collect()
}

fn networks(names: &[&str]) -> Network {
    let join = |name: &&str| NetworkSpec { name: (*name).to_owned(), aliases: Vec::new() };
    Network::Named { networks: names.iter().map(join).collect() }
}

fn bind(path: &str) -> Volume {
    Volume::Bind { target: "/data".into(), read_only: false, path: path.into() }
}

fn device(path: &str) -> Device {
    Device { host_path: path.into(), container_path: "/dev/x".into(), permissions: "rw".into() }
}

type Spoil = fn(&mut InstanceSpec);

#[test]
fn each_fault_of_a_program_is_named_with_its_path() {
    let cases: &[(Spoil, &str)] = &[
        (|s| s.working_dir = Some("work".into()), "working_dir"),
        (|s| s.working_dir = Some("/a/../b".into()), "working_dir"),
        (|s| s.user = Some("a:b:c".into()), "user"),
        (|s| s.user = Some(String::new()), "user"),
        (|s| s.hostname = Some("-web".into()), "hostname"),
        (|s| s.hostname = Some("a_b".into()), "hostname"),
        (|s| drop(s.labels.insert("automator67.fleet".into(), "x".into())), "labels[\"automator67.fleet\"]"),
        (|s| drop(s.labels.insert("a b".into(), "x".into())), "labels[\"a b\"]"),
        (|s| s.stop_signal = Some("SIGNOTHING".into()), "stop_signal"),
        (|s| s.stop_grace_seconds = 3601, "stop_grace_seconds"),
        (|s| s.log.driver = Some("JSON file".into()), "log.driver"),
        (|s| drop(s.log.options.0.insert("a b".into(), String::new())), "log.options[\"a b\"]"),
    ];
    for (spoil, field) in cases {
        assert_eq!(fields(spoil), [*field]);
    }
}

#[test]
fn each_fault_of_a_limit_or_right_is_named_with_its_path() {
    let ulimit = |name: &str, soft, hard| Ulimit { name: name.into(), soft, hard };
    assert_eq!(
        fields(|s| s.limits.memory_reservation_bytes = Some(1 << 30)),
        ["limits.memory_reservation_bytes"]
    );
    assert_eq!(fields(|s| s.limits.swap_bytes = u64::MAX), ["limits.swap_bytes"]);
    assert_eq!(fields(|s| s.limits.storage_bytes = Some(1)), ["limits.storage_bytes"]);
    assert_eq!(fields(|s| s.limits.shm_bytes = Some(0)), ["limits.shm_bytes"]);
    assert_eq!(fields(|s| s.ulimits = vec![ulimit("files", 1, 1)]), ["ulimits[0].name"]);
    assert_eq!(fields(|s| s.ulimits = vec![ulimit("core", 0, 0), ulimit("core", 1, 1)]), ["ulimits[1].name"]);
    assert_eq!(fields(|s| s.ulimits = vec![ulimit("core", 2, 1)]), ["ulimits[0].soft"]);
    assert_eq!(fields(|s| s.ulimits = vec![ulimit("core", -1, 1)]), ["ulimits[0].soft"]);
    assert_eq!(fields(|s| s.ulimits = vec![ulimit("core", -1, -1)]), [""; 0]);
    assert_eq!(fields(|s| s.security.cap_add = vec!["CAP_CHOWN".into()]), ["security.cap_add[0]"]);
    assert_eq!(
        fields(|s| {
            s.security.cap_add = vec!["CHOWN".into()];
            s.security.cap_drop = vec!["ALL".into(), "CHOWN".into()];
        }),
        ["security.cap_drop[1]"]
    );
    let bad =
        Device { host_path: "fuse".into(), container_path: "/dev/../x".into(), permissions: "rr".into() };
    assert_eq!(
        fields(|s| s.devices = vec![device("/dev/fuse"), bad]),
        ["devices[1].host_path", "devices[1].container_path", "devices[1].permissions"]
    );
    let message = faults(|s| s.limits.storage_bytes = Some(1)).remove(0).message;
    assert_eq!(message, "must be 1048576 to 70368744177664");
}

#[test]
fn each_fault_of_a_network_or_volume_is_named_with_its_path() {
    assert_eq!(fields(|s| s.network = networks(&[])), ["network.networks"]);
    assert_eq!(fields(|s| s.network = networks(&["front", "front"])), ["network.networks[1].name"]);
    for name in ["host", "none", "bridge", "container:1", "", "a/b"] {
        assert_eq!(fields(|s| s.network = networks(&[name])), ["network.networks[0].name"], "{name:?}");
    }
    assert_eq!(
        fields(|s| {
            let aliases = vec!["db".into(), "-".into()];
            s.network = Network::Named { networks: vec![NetworkSpec { name: "front".into(), aliases }] };
        }),
        ["network.networks[0].aliases[1]"]
    );
    let port = PortSpec { container_port: 80, host_port: None, transport: Transport::Tcp };
    for network in [Network::Host, Network::None] {
        assert_eq!(fields(|s| (s.network, s.ports) = (network, vec![port])), ["ports"]);
    }
    let named = |target: &str, name: &str| Volume::Named {
        target: target.into(),
        read_only: false,
        name: name.into(),
    };
    let tmpfs = |size, mode| Volume::Tmpfs { target: "/run".into(), size_bytes: size, mode };
    for (volume, field) in [
        (named("data", "db"), "target"),
        (named("/", "db"), "target"),
        (named("/data", "/srv"), "name"),
        (bind("srv"), "path"),
        (bind("/srv/../etc"), "path"),
        (tmpfs(Some(1), None), "size_bytes"),
        (tmpfs(None, Some(0o10_000)), "mode"),
    ] {
        assert_eq!(fields(|s| s.volumes = vec![volume]), [format!("volumes[0].{field}")]);
    }
    let twice = vec![named("/data", "db"), named("//data/.", "db2")];
    assert_eq!(fields(|s| s.volumes = twice), ["volumes[1].target"]);
}

#[test]
fn signals_are_known_by_name_and_number() {
    for known in ["SIGTERM", "SIGRTMIN", "SIGRTMIN+15", "SIGRTMAX-1", "1", "64"] {
        assert!(is_signal(known), "{known}");
    }
    for unknown in
        ["", "TERM", "sigterm", "SIG", "0", "65", "999", "SIGRTMIN+16", "SIGRTMIN-1", "SIGRTMIN++1"]
    {
        assert!(!is_signal(unknown), "{unknown}");
    }
}

#[test]
fn capabilities_are_known_however_engines_take_them() {
    for text in ["NET_ADMIN", "net_admin", "CAP_NET_ADMIN", "cap_net_admin"] {
        assert_eq!(capability(text), Some("NET_ADMIN"));
    }
    assert_eq!((capability("all"), capability("CAP_ALL"), capability("")), (Some("ALL"), None, None));
    assert!(reaches_host("cap_sys_admin") && !reaches_host("NET_ADMIN"));
}

fn refused(policy: &Policy, spoil: impl FnOnce(&mut InstanceSpec)) -> Option<&'static str> {
    let mut spec = InstanceSpec::of_image("app:1");
    spoil(&mut spec);
    refuse(&spec, policy).map(|refusal| refusal.setting)
}

#[test]
fn a_node_that_was_told_nothing_gives_no_way_to_the_host() {
    let node = Policy::default();
    assert_eq!(refused(&node, |_| {}), None);
    let cases: &[(Spoil, &str)] = &[
        (|s| s.security.privileged = true, "allow_privileged"),
        (|s| s.security.cap_add = vec!["SYS_ADMIN".into()], "allow_privileged"),
        (|s| s.security.cap_add = vec!["CHOWN".into(), "cap_sys_module".into()], "allow_privileged"),
        (|s| s.devices = vec![device("/dev/sda")], "device_paths"),
        (|s| s.network = Network::Host, "allow_host_network"),
        (|s| s.network = networks(&["front", "HOST"]), "allow_host_network"),
        (|s| s.network = networks(&["container:0a1b"]), "allow_host_network"),
        (|s| s.volumes = vec![bind("/")], "bind_paths"),
        (
            |s| {
                let name = "/etc".into();
                s.volumes = vec![Volume::Named { target: "/data".into(), read_only: true, name }];
            },
            "bind_paths",
        ),
    ];
    for (spoil, setting) in cases {
        assert_eq!(refused(&node, spoil), Some(*setting));
    }
    for fine in ["NET_ADMIN", "CHOWN"] {
        assert_eq!(refused(&node, |s| s.security.cap_add = vec![fine.into()]), None);
    }
    assert_eq!(refused(&node, |s| s.security.cap_drop = vec!["ALL".into()]), None);
    assert_eq!(refuse_exec(&node), None);
    assert!(refuse_exec(&Policy { exec: false, ..node }).is_some());
}

#[test]
fn what_is_allowed_is_what_was_said_and_what_is_below_it() {
    let paths = |paths: &[&str]| paths.iter().map(|&path| path.to_owned()).collect::<Vec<_>>();
    let node = Policy { bind_paths: paths(&["/srv/data/", "/mnt"]), ..Policy::default() };
    for fine in ["/srv/data", "/srv//data/./a", "/mnt/x/y"] {
        assert_eq!(refuse_bind(fine, &node), None, "{fine}");
    }
    for bad in ["/srv", "/srv/database", "/srv/data/../../etc", "/", "srv/data", "/srv/data/..", ""] {
        assert!(refuse_bind(bad, &node).is_some(), "{bad}");
    }
    let said = refuse_bind("/etc", &node).unwrap().to_string();
    assert!(said.contains("bind_paths") && said.contains("/etc"), "{said}");
    let node = Policy { device_paths: paths(&["/dev/dri"]), ..Policy::default() };
    assert_eq!(refused(&node, |s| s.devices = vec![device("/dev/dri/card0")]), None);
    assert_eq!(refused(&node, |s| s.devices = vec![device("/dev/dri2")]), Some("device_paths"));
    let node = Policy { privileged: true, host_network: true, ..Policy::default() };
    assert_eq!(refused(&node, |s| (s.security.privileged, s.network) = (true, Network::Host)), None);
}

#[test]
fn an_images_registry_is_read_as_engines_read_it() {
    let of = |registries: &[&str]| Policy {
        registries: registries.iter().map(|&r| r.to_owned()).collect(),
        ..Policy::default()
    };
    assert_eq!(refuse_image("anything:1", &Policy::default()), None);
    let docker = of(&["docker.io"]);
    for fine in ["app", "app:1", "team/app@sha256:00", "docker.io/app", "index.docker.io/team/app:1"] {
        assert_eq!(refuse_image(fine, &docker), None, "{fine}");
    }
    let id = "0123456789abcdef".repeat(4);
    for bad in ["ghcr.io/app", "localhost/app", "docker.io.evil.org/app", "r:5000/app", "sha256:00", &id] {
        assert!(refuse_image(bad, &docker).is_some(), "{bad}");
    }
    let team = of(&["ghcr.io/team/", "r.example.org:5000"]);
    for fine in ["ghcr.io/team/app:1", "GHCR.io/team/app", "r.example.org:5000/app:1"] {
        assert_eq!(refuse_image(fine, &team), None, "{fine}");
    }
    for bad in ["ghcr.io/teams/app", "ghcr.io/other/app", "r.example.org/app", "app", "team/app"] {
        assert!(refuse_image(bad, &team).is_some(), "{bad}");
    }
    assert_eq!(refuse_image("app:1", &of(&["docker.io/library"])), None);
    for (image, whose) in [
        ("app:1", Some("docker.io")),
        ("index.docker.io/team/app", Some("docker.io")),
        ("GHCR.io/team/app@sha256:00", Some("ghcr.io")),
        ("r.example.org:5000/app:1", Some("r.example.org:5000")),
        (&id, None),
    ] {
        assert_eq!(registry(image).as_deref(), whose, "{image}");
    }
}

#[test]
fn debug_output_never_shows_an_option_of_a_log_driver() {
    let mut spec = InstanceSpec::of_image("app:1");
    spec.log.options.0.insert("splunk-token".into(), "hunter2".into());
    let shown = format!("{spec:?}");
    assert!(shown.contains("splunk-token") && !shown.contains("hunter2"));
}
