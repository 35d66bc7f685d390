//! The body as it goes over the wire, for engines old and new.

use domain::{
    id::{DeploymentId, FleetId, InstanceId, NodeId},
    instance::Desired,
    probe::{ProbeKind, ProbeRole, ProbeSpec},
    spec::{Limits, Options, StorageExceeded, Transport, Ulimit},
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::*;
use crate::runtime::RuntimeErrorKind;

const OLD: Shape = Shape { api: ApiVersion { major: 1, minor: 41 }, sizes_storage: false, ports: None };
const NEW: Shape = Shape { api: ApiVersion { major: 1, minor: 44 }, ..OLD };

fn owner() -> Owner {
    Owner { fleet: FleetId::from_uuid(Uuid::from_u128(1)), node: NodeId::from_uuid(Uuid::from_u128(2)) }
}

fn of(spec: InstanceSpec) -> Assignment {
    Assignment {
        instance_id: InstanceId::from_uuid(Uuid::from_u128(7)),
        deployment_id: DeploymentId::from_uuid(Uuid::nil()),
        deployment_name: "web".into(),
        revision: 3,
        spec,
        desired: Desired::Running,
        restart_generation: 0,
        registry_credential: None,
    }
}

fn body(spec: InstanceSpec, shape: Shape) -> Value {
    serde_json::to_value(create_body(&of(spec), Given::NONE, &owner(), shape)).unwrap()
}

fn app() -> InstanceSpec {
    InstanceSpec::of_image("app:1")
}

fn port(host_port: Option<u16>) -> PortSpec {
    PortSpec { container_port: 80, host_port, transport: Transport::Tcp }
}

#[test]
fn a_spec_of_defaults_sets_its_limits_and_nothing_that_the_engine_would_not_do_anyway() {
    let expected = json!({
        "Hostname": "web",
        "Image": "app:1",
        "Env": [],
        "ExposedPorts": {},
        "Labels": {
            "automator67.fleet": "00000000-0000-0000-0000-000000000001",
            "automator67.node": "00000000-0000-0000-0000-000000000002",
            "automator67.instance": "00000000-0000-0000-0000-000000000007",
            "automator67.deployment": "00000000-0000-0000-0000-000000000000",
            "automator67.revision": "3",
        },
        "StopTimeout": 10,
        "HostConfig": {
            "NanoCpus": 1_000_000_000,
            "Memory": 512 << 20,
            "MemorySwap": 512 << 20,
            "PidsLimit": 1024,
            "PortBindings": {},
            "LogConfig": { "Type": "json-file", "Config": { "max-size": "10m", "max-file": "3" } },
            "RestartPolicy": { "Name": "no" },
        },
    });
    let without_lists = |mut body: Value| {
        // An engine reads an empty list and an empty object as the same here.
        body["ExposedPorts"] = json!({});
        body
    };
    assert_eq!(without_lists(body(app(), OLD)), expected);
    assert_eq!(without_lists(body(app(), NEW)), expected);
}

#[test]
fn what_the_user_says_of_the_program_arrives() {
    let spec = InstanceSpec {
        entrypoint: vec!["/bin/sh".into()],
        command: vec!["-c".into(), "true".into()],
        env: domain::spec::Env([("A".to_owned(), "b=c".to_owned())].into()),
        working_dir: Some("/work".into()),
        user: Some("1000:1000".into()),
        hostname: Some("db.internal".into()),
        labels: [("traefik.enable", "true"), ("automator67.fleet", "stolen"), ("automator67.x", "y")]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into(),
        init: true,
        stop_signal: Some("SIGQUIT".into()),
        stop_grace_seconds: 30,
        ..app()
    };
    let body = body(spec, OLD);
    assert_eq!(body["Entrypoint"], json!(["/bin/sh"]));
    assert_eq!(body["Cmd"], json!(["-c", "true"]));
    assert_eq!(body["Env"], json!(["A=b=c"]));
    assert_eq!((&body["WorkingDir"], &body["User"]), (&json!("/work"), &json!("1000:1000")));
    assert_eq!(body["Hostname"], "db.internal");
    assert_eq!(body["HostConfig"]["Init"], true);
    assert_eq!((&body["StopSignal"], &body["StopTimeout"]), (&json!("SIGQUIT"), &json!(30)));
    let labels = body["Labels"].as_object().unwrap();
    assert_eq!((labels.len(), &labels["traefik.enable"]), (6, &json!("true")));
    assert_eq!(labels["automator67.fleet"], "00000000-0000-0000-0000-000000000001", "ours stays ours");
}

#[test]
fn limits_arrive_in_the_engines_units() {
    let limits = Limits {
        cpu_millis: 250,
        memory_bytes: 64 << 20,
        memory_reservation_bytes: Some(32 << 20),
        swap_bytes: 16 << 20,
        storage_bytes: Some(1 << 30),
        storage_exceeded: StorageExceeded::Mark,
        pids: 33,
        shm_bytes: Some(8 << 20),
    };
    let ulimits = vec![Ulimit { name: "nofile".into(), soft: 1024, hard: -1 }];
    let spec = InstanceSpec { limits, ulimits, ..app() };
    let host = body(spec.clone(), OLD)["HostConfig"].clone();
    assert_eq!(host["NanoCpus"], 250_000_000);
    assert_eq!((&host["Memory"], &host["MemoryReservation"]), (&json!(64 << 20), &json!(32 << 20)));
    assert_eq!(host["MemorySwap"], 80 << 20, "memory and swap together");
    assert_eq!((&host["PidsLimit"], &host["ShmSize"]), (&json!(33), &json!(8 << 20)));
    assert_eq!(host["Ulimits"], json!([{ "Name": "nofile", "Soft": 1024, "Hard": -1 }]));
    assert_eq!(host.get("StorageOpt"), None, "engines that cannot refuse the whole container");
    let able = Shape { sizes_storage: true, ..OLD };
    assert_eq!(body(spec, able)["HostConfig"]["StorageOpt"], json!({ "size": "1073741824" }));
}

#[test]
fn rights_and_devices_arrive() {
    let security = Security {
        privileged: true,
        cap_add: vec!["NET_ADMIN".into()],
        cap_drop: vec!["ALL".into()],
        no_new_privileges: true,
        read_only_root: true,
    };
    let device = Device {
        host_path: "/dev/fuse".into(),
        container_path: "/dev/fuse".into(),
        permissions: "rw".into(),
    };
    let host = body(InstanceSpec { security, devices: vec![device], ..app() }, OLD)["HostConfig"].clone();
    assert_eq!((&host["CapAdd"], &host["CapDrop"]), (&json!(["NET_ADMIN"]), &json!(["ALL"])));
    assert_eq!(host["SecurityOpt"], json!(["no-new-privileges:true"]));
    assert_eq!((&host["Privileged"], &host["ReadonlyRootfs"]), (&json!(true), &json!(true)));
    assert_eq!(
        host["Devices"],
        json!([{ "PathOnHost": "/dev/fuse", "PathInContainer": "/dev/fuse", "CgroupPermissions": "rw" }])
    );
}

#[test]
fn volumes_of_each_kind_are_mounts() {
    let volumes = vec![
        Volume::Named { target: "/data".into(), read_only: false, name: "db".into() },
        Volume::Bind { target: "/etc/app".into(), read_only: true, path: "/srv/a:b".into() },
        Volume::Tmpfs { target: "/run".into(), size_bytes: Some(1 << 20), mode: Some(0o1777) },
        Volume::Tmpfs { target: "/tmp".into(), size_bytes: None, mode: None },
    ];
    let host = body(InstanceSpec { volumes, ..app() }, OLD)["HostConfig"].clone();
    assert_eq!(
        host["Mounts"],
        json!([
            {
                "Target": "/data", "Source": "db", "Type": "volume",
                "VolumeOptions": { "Labels": {
                    "automator67.fleet": "00000000-0000-0000-0000-000000000001",
                    "automator67.node": "00000000-0000-0000-0000-000000000002",
                } },
            },
            { "Target": "/etc/app", "Source": "/srv/a:b", "Type": "bind", "ReadOnly": true },
            { "Target": "/run", "Type": "tmpfs", "TmpfsOptions": { "SizeBytes": 1 << 20, "Mode": 1023 } },
            { "Target": "/tmp", "Type": "tmpfs" },
        ])
    );
}

#[test]
fn a_port_is_fixed_or_chosen_by_the_engine_or_from_the_nodes_range() {
    let spec = InstanceSpec { ports: vec![port(None), port(Some(8080))], ..app() };
    let bindings = |shape| body(spec.clone(), shape)["HostConfig"]["PortBindings"]["80/tcp"].clone();
    assert_eq!(bindings(OLD), json!([{ "HostPort": "" }, { "HostPort": "8080" }]));
    let ranged = Shape { ports: Some((30_000, 32_767)), ..OLD };
    assert_eq!(bindings(ranged), json!([{ "HostPort": "30000-32767" }, { "HostPort": "8080" }]));
}

fn named() -> InstanceSpec {
    let network = |name: &str, aliases: &[&str]| NetworkSpec {
        name: name.into(),
        aliases: aliases.iter().map(|&alias| alias.to_owned()).collect(),
    };
    let networks = vec![network("front", &["web"]), network("back", &["db", "cache"]), network("side", &[])];
    InstanceSpec { network: Network::Named { networks }, ..app() }
}

#[test]
fn an_engine_that_takes_several_networks_gets_them_all_at_once() {
    let body = body(named(), NEW);
    assert_eq!(body["HostConfig"]["NetworkMode"], "front");
    let endpoints = json!({
        "front": { "Aliases": ["web"] }, "back": { "Aliases": ["db", "cache"] }, "side": {},
    });
    assert_eq!(body["NetworkingConfig"]["EndpointsConfig"], endpoints);
    assert_eq!(body["Labels"].get(LABEL_NETWORKS), None);
}

#[test]
fn an_engine_that_takes_one_network_gets_the_first_and_a_note_of_the_others() {
    let made = create_body(&of(named()), Given::NONE, &owner(), OLD);
    let body = serde_json::to_value(&made).unwrap();
    assert_eq!(body["HostConfig"]["NetworkMode"], "front");
    assert_eq!(body["NetworkingConfig"]["EndpointsConfig"], json!({ "front": { "Aliases": ["web"] } }));
    let later = attachments(&made.labels.unwrap());
    assert_eq!(later.iter().map(|a| a.name.as_str()).collect::<Vec<_>>(), ["back", "side"]);
    let aliases: Vec<_> = later.into_iter().map(|a| a.settings().aliases).collect();
    assert_eq!(aliases, [Some(vec!["db".to_owned(), "cache".to_owned()]), None]);
    assert_eq!(attachments(&HashMap::from([(LABEL_NETWORKS.to_owned(), "no json".to_owned())])), []);
}

#[test]
fn the_hosts_network_and_none_at_all_publish_nothing() {
    for (network, mode, hostname) in
        [(Network::Host, "host", Value::Null), (Network::None, "none", json!("web"))]
    {
        let body = body(InstanceSpec { network, ..app() }, OLD);
        assert_eq!(body["HostConfig"]["NetworkMode"], mode);
        assert_eq!(body["HostConfig"].get("PortBindings"), None);
        assert_eq!(body.get("Hostname").cloned().unwrap_or_default(), hostname);
        assert_eq!(body.get("NetworkingConfig"), None);
    }
}

#[test]
fn a_driver_of_the_users_gets_the_users_options_and_files_stay_bounded() {
    let log = |driver: Option<&str>, options: &[(&str, &str)]| {
        let options = options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let log = LogSpec { driver: driver.map(Into::into), options: Options(options) };
        body(InstanceSpec { log, ..app() }, OLD)["HostConfig"]["LogConfig"].clone()
    };
    assert_eq!(
        log(Some("local"), &[("max-size", "1m")]),
        json!({ "Type": "local", "Config": { "max-size": "1m", "max-file": "3" } })
    );
    assert_eq!(log(Some("none"), &[]), json!({ "Type": "none", "Config": {} }));
    assert_eq!(
        log(Some("syslog"), &[("tag", "web")]),
        json!({ "Type": "syslog", "Config": { "tag": "web" } })
    );
}

#[test]
fn where_probes_are_declared_the_engine_carries_no_check_of_the_image_out() {
    let probe = ProbeSpec::new(ProbeRole::Liveness, ProbeKind::Image);
    let probed = body(InstanceSpec { probes: vec![probe], ..app() }, OLD);
    assert_eq!(probed["Healthcheck"], json!({ "Test": ["NONE"] }));
    assert_eq!(body(app(), OLD)["Healthcheck"], Value::Null, "left as the image has it");
}

#[test]
fn a_network_that_is_missing_is_no_missing_image() {
    let error = |message: &str| create_error(Failure::Answered { status: 404, message: message.into() }).kind;
    for message in
        ["network front not found", "unable to find network with name or ID front: network not found"]
    {
        assert_eq!(error(message), RuntimeErrorKind::Refused(FailureReason::StartFailed));
        let failure = Failure::Answered { status: 404, message: message.into() };
        assert_eq!(start_error(failure).kind, RuntimeErrorKind::Refused(FailureReason::StartFailed));
    }
    for message in ["No such image: app:1", "No such image: network/app:1"] {
        assert_eq!(error(message), RuntimeErrorKind::Refused(FailureReason::ImageNotFound));
    }
    let gone = Failure::Answered { status: 404, message: "No such container: 0a1b".into() };
    assert_eq!(start_error(gone).kind, RuntimeErrorKind::NotFound);
}

#[test]
fn what_a_container_is_given_is_added_to_what_its_spec_says() {
    let mut spec = app();
    spec.env.0.insert("A".into(), "b".into());
    spec.volumes = vec![Volume::Tmpfs { target: "/run".into(), size_bytes: None, mode: None }];
    let value = zeroize::Zeroizing::new("$x\n".to_owned());
    let file = GivenFile { source: "/run/a67/7/0".into(), target: "/run/key".into() };
    let given = Given { env: vec![("KEY".into(), value)], files: vec![file] };
    let body = serde_json::to_value(create_body(&of(spec), &given, &owner(), OLD)).unwrap();
    assert_eq!(body["Env"], json!(["A=b", "KEY=$x\n"]));
    let bind = json!({ "Type": "bind", "Source": "/run/a67/7/0", "Target": "/run/key", "ReadOnly": true });
    assert_eq!(body["HostConfig"]["Mounts"][1], bind);
}
