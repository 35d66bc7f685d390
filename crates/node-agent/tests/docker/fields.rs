//! What a spec says is in force in the container, as its own program and the engine
//! see it.

use std::{fs, sync::Arc};

use domain::{
    instance::FailureReason,
    plan::ContainerStatus,
    spec::{
        Device, Limits, LogSpec, Network, NetworkSpec, Options, PortSpec, Security, Transport, Ulimit,
        Volume, policy::Policy,
    },
};
use node_agent::runtime::{Runtime as _, docker::HouseRules};

use crate::{
    engine::{World, shell, until},
    scenarios::{read_log, refused, texts},
};

/// What a program says that looks at everything around it.
const LOOK: &str = r#"
B=/bin/busybox
one() { for f in "$@"; do [ -e "$f" ] && $B cat "$f" && return; done; echo none; }
G=/sys/fs/cgroup
echo "nofile $(ulimit -n) $(ulimit -Hn)"
echo "core $(ulimit -c)"
echo "shm $($B awk '$2 == "/dev/shm" { print $4 }' /proc/mounts | tr , '\n' | $B grep size)"
echo "caps $($B awk '/CapBnd/ { print $2 }' /proc/self/status)"
echo "gain $($B awk '/NoNewPrivs/ { print $2 }' /proc/self/status)"
echo "root $(echo 2>/dev/null > /x && echo writable || echo readonly)"
echo "tmpfs $($B awk '$2 == "/run/t" { print $1, $4 }' /proc/mounts | $B tr ' ' , | tr , '\n' | $B grep -E '^(tmpfs|size|mode)' | tr '\n' ' ')"
echo "user $($B id -u):$($B id -g)"
echo "dir $PWD"
echo "name $(hostname)"
echo "env $GREETING"
echo "first $($B tr '\0' ' ' < /proc/1/cmdline | head -c 20)"
echo "device $($B test -c /dev/mine && $B head -c 1 /dev/mine | $B wc -c)"
echo "pids $(one $G/pids/pids.max $G/pids.max)"
echo "cpu $(one $G/cpu/cpu.cfs_quota_us $G/cpu.max)"
echo "memory $(one $G/memory/memory.limit_in_bytes $G/memory.max)"
echo "reserved $(one $G/memory/memory.soft_limit_in_bytes $G/memory.low)"
echo "bind $($B cat /bind/here) $(echo 2>/dev/null > /bind/new && echo writable || echo readonly)"
echo "volume $($B awk '$2 == "/data" { print $4 }' /proc/mounts | head -c 2)"
"#;

pub async fn every_field_of_a_spec_is_in_force(world: Arc<World>) {
    let bound = tempfile::Builder::new().prefix("a67-bind-").tempdir().unwrap();
    fs::write(bound.path().join("here"), "yes").unwrap();
    let path = bound.path().to_str().unwrap().to_owned();
    let volume = "a67-fields-data".to_owned();
    let mut assignment = shell(LOOK);
    let spec = &mut assignment.spec;
    spec.limits = Limits {
        cpu_millis: 250,
        memory_bytes: 64 << 20,
        memory_reservation_bytes: Some(32 << 20),
        swap_bytes: 16 << 20,
        storage_bytes: None,
        pids: 33,
        shm_bytes: Some(8 << 20),
        ..Limits::default()
    };
    spec.ulimits = vec![
        Ulimit { name: "nofile".into(), soft: 512, hard: 600 },
        Ulimit { name: "core".into(), soft: 0, hard: 0 },
    ];
    spec.security = Security {
        privileged: false,
        cap_add: vec!["NET_ADMIN".into()],
        cap_drop: vec!["ALL".into()],
        no_new_privileges: true,
        read_only_root: true,
    };
    spec.volumes = vec![
        Volume::Named { target: "/data".into(), read_only: false, name: volume.clone() },
        Volume::Bind { target: "/bind".into(), read_only: true, path: path.clone() },
        Volume::Tmpfs { target: "/run/t".into(), size_bytes: Some(1 << 20), mode: Some(0o700) },
    ];
    spec.devices = vec![Device {
        host_path: "/dev/zero".into(),
        container_path: "/dev/mine".into(),
        permissions: "r".into(),
    }];
    spec.user = Some("1000:1001".into());
    spec.working_dir = Some("/tmp".into());
    spec.hostname = Some("box.internal".into());
    spec.labels = [("team".to_owned(), "blue".to_owned())].into();
    spec.env.0.insert("GREETING".into(), "a = b".into());
    spec.init = true;
    spec.stop_signal = Some("SIGQUIT".into());
    spec.stop_grace_seconds = 7;
    spec.log = LogSpec { driver: None, options: Options([("max-size".to_owned(), "1m".to_owned())].into()) };

    // A node that was told nothing lets nobody at its paths and devices.
    let error = world.runtime.create(&assignment).await.unwrap_err();
    assert_eq!(refused(&error), FailureReason::SpecRefused);
    let policy = Policy {
        bind_paths: vec![path.clone()],
        device_paths: vec!["/dev/zero".into()],
        ..Policy::default()
    };
    let runtime = world.with_rules(HouseRules { policy, port_range: None });
    let made = runtime.create(&assignment).await.unwrap();
    let container = runtime.start(&made.container_id).await.unwrap();
    let look = async || {
        let seen = runtime.inspect(assignment.instance_id).await.unwrap();
        seen.filter(|c| c.status == ContainerStatus::Exited)
    };
    until("the look around", look).await;
    let lines = read_log(&world, &container, node_agent::runtime::LogsQuery::default()).await;
    let expected = [
        "nofile 512 600",
        "core 0",
        "shm size=8192k",
        // NET_ADMIN alone.
        "caps 0000000000001000",
        "gain 1",
        "root readonly",
        "tmpfs tmpfs size=1024k mode=700 ",
        "user 1000:1001",
        "dir /tmp",
        "name box.internal",
        "env a = b",
        "device 1",
        "pids 33",
        "bind yes readonly",
        "volume rw",
    ];
    let said = texts(&lines);
    for line in expected {
        assert!(said.contains(&line), "{line:?} not in {said:#?}");
    }
    let value = |name: &str| said.iter().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    assert!(["25000", "25000 100000"].contains(&value("cpu").as_str()), "{said:#?}");
    assert_eq!((value("memory"), value("reserved")), ((64 << 20).to_string(), (32 << 20).to_string()));
    assert!(value("first").contains("init"), "{said:#?}");

    let inspect =
        async |format: &str| world.docker(&["inspect", "--format", format, &container.container_id]).await;
    for (format, expected) in [
        ("{{.HostConfig.MemorySwap}}", (80 << 20).to_string()),
        ("{{.HostConfig.RestartPolicy.Name}} {{.HostConfig.Privileged}}", "no false".into()),
        ("{{.Config.StopSignal}} {{.Config.StopTimeout}}", "SIGQUIT 7".into()),
        ("{{index .Config.Labels \"team\"}}", "blue".into()),
        ("{{.HostConfig.LogConfig}}", "{json-file map[max-file:3 max-size:1m]}".into()),
    ] {
        assert_eq!(inspect(format).await, expected, "{format}");
    }
    runtime.remove(&container.container_id).await.unwrap();
    let owner = world
        .docker(&["volume", "inspect", "--format", "{{index .Labels \"automator67.fleet\"}}", &volume])
        .await;
    assert_eq!(owner, world.fleet.to_string(), "a volume outlives its container, and is known as ours");
    world.docker(&["volume", "rm", &volume]).await;
}

fn in_networks(script: &str, networks: &[(&str, &[&str])]) -> domain::assignment::Assignment {
    let mut assignment = shell(script);
    let networks = networks.iter().map(|(name, aliases)| NetworkSpec {
        name: (*name).to_owned(),
        aliases: aliases.iter().map(|&alias| alias.to_owned()).collect(),
    });
    assignment.spec.network = Network::Named { networks: networks.collect() };
    assignment
}

pub async fn networks_are_made_joined_and_found_by_alias(world: Arc<World>) {
    // One is there already, and somebody else's.
    world.docker(&["network", "create", "a67-front"]).await;
    let server = in_networks(
        "mkdir -p /tmp/w && echo here > /tmp/w/index.html && exec httpd -f -p 8080 -h /tmp/w",
        &[("a67-front", &[]), ("a67-back", &["db", "cache"])],
    );
    let client = in_networks(
        "until /bin/busybox nslookup db 127.0.0.11 && /bin/busybox nslookup cache 127.0.0.11; do sleep 0.1; done; exit 9",
        &[("a67-back", &[])],
    );
    // Both at once want the same network.
    let (server, started) = tokio::join!(world.run(&server), world.run(&client));
    let found = |c: &domain::plan::Container| c.status == ContainerStatus::Exited;
    assert_eq!(world.container(client.instance_id, found).await.exit_code, Some(9));
    let networks = "{{range $name, $_ := .NetworkSettings.Networks}}{{$name}} {{end}}";
    assert_eq!(
        world.docker(&["inspect", "--format", networks, &server.container_id]).await.trim(),
        "a67-back a67-front"
    );
    let label = "{{.Driver}} {{index .Labels \"automator67.fleet\"}}";
    let of = async |name: &str| world.docker(&["network", "inspect", "--format", label, name]).await;
    assert_eq!(of("a67-back").await, format!("bridge {}", world.fleet));
    assert_eq!(of("a67-front").await, "bridge");
    let same = world.docker(&["network", "ls", "--quiet", "--filter", "name=a67-back"]).await;
    assert_eq!(same.lines().count(), 1);

    // Removed by somebody while nothing ran in it, it is made again.
    world.runtime.stop(&server.container_id, std::time::Duration::ZERO).await.unwrap();
    world.docker(&["network", "rm", "a67-back"]).await;
    let again = world.runtime.start(&server.container_id).await.unwrap();
    assert_eq!(again.status, ContainerStatus::Running);
    for container in [server, started] {
        world.runtime.remove(&container.container_id).await.unwrap();
    }
    world.docker(&["network", "rm", "a67-front"]).await;
    world.docker(&["network", "rm", "a67-back"]).await;
}

pub async fn the_hosts_network_is_the_nodes_to_allow_and_none_has_nothing_but_itself(world: Arc<World>) {
    let count = "echo $(/bin/busybox ls /sys/class/net | /bin/busybox wc -l)";
    let mut host = shell(count);
    host.spec.network = Network::Host;
    assert_eq!(refused(&world.runtime.create(&host).await.unwrap_err()), FailureReason::SpecRefused);
    let policy = Policy { host_network: true, ..Policy::default() };
    let allowed = world.with_rules(HouseRules { policy, port_range: None });
    let made = allowed.create(&host).await.unwrap();
    assert_eq!(allowed.start(&made.container_id).await.unwrap().ports, []);
    allowed.remove(&made.container_id).await.unwrap();

    let mut none =
        shell("/bin/busybox cat /proc/net/dev | tail -n +3 | /bin/busybox cut -d: -f1 | tr -d ' '");
    none.spec.network = Network::None;
    let container = world.run(&none).await;
    world.container(none.instance_id, |c| c.status == ContainerStatus::Exited).await;
    let lines = read_log(&world, &container, node_agent::runtime::LogsQuery::default()).await;
    assert_eq!(texts(&lines), ["lo"]);
    world.runtime.remove(&container.container_id).await.unwrap();
}

pub async fn a_port_of_the_nodes_range_is_chosen_past_those_in_use(world: Arc<World>) {
    let runtime =
        world.with_rules(HouseRules { policy: Policy::default(), port_range: Some((21_000, 21_003)) });
    // Somebody on the host listens on two of the four.
    let mut taken = vec![world.occupy(21_000).await, world.occupy(21_001).await];
    let serve = || {
        let mut assignment = shell("sleep 60");
        assignment.spec.ports =
            vec![PortSpec { container_port: 8080, host_port: None, transport: Transport::Tcp }];
        assignment
    };
    let mut containers = Vec::new();
    let mut ports = Vec::new();
    for _ in 0..2 {
        let made = runtime.create(&serve()).await.unwrap();
        let started = runtime.start(&made.container_id).await.unwrap();
        ports.extend(started.ports.iter().map(|port| port.host_port));
        containers.push(made);
    }
    ports.sort_unstable();
    assert_eq!(ports, [21_002, 21_003]);
    let made = runtime.create(&serve()).await.unwrap();
    let error = runtime.start(&made.container_id).await.unwrap_err();
    assert_eq!(refused(&error), FailureReason::StartFailed);
    assert!(error.message.contains("allocated") || error.message.contains("in use"), "{error}");
    // The same container has its port as soon as there is one.
    for mut listener in taken.drain(..) {
        listener.kill().unwrap();
        listener.wait().unwrap();
    }
    let started = runtime.start(&made.container_id).await.unwrap();
    assert!((21_000..=21_001).contains(&started.ports[0].host_port), "{:?}", started.ports);
    containers.push(made);
    for container in containers {
        runtime.remove(&container.container_id).await.unwrap();
    }
}
