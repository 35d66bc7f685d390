//! An engine of our own, and what scenarios need of it.

use std::{
    fs,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use domain::{
    assignment::Assignment,
    deployment::InstanceSpec,
    id::{DeploymentId, FleetId, InstanceId, NodeId},
    instance::Desired,
    plan::Container,
};
use node_agent::runtime::{
    Runtime as _,
    docker::{DockerRuntime, HouseRules},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, UnixStream},
    task::spawn_blocking,
    time::{sleep, timeout},
};
use uuid::Uuid;

use crate::podman;

/// The image that all scenarios use.
pub const IMAGE: &str = "a67-test/busybox:1";
/// Where the registry listens, inside the engine's network namespace.
pub const REGISTRY: &str = "127.0.0.1:5000";
/// The same for who has a login, which is [`LOGIN`].
pub const CLOSED_REGISTRY: &str = "127.0.0.1:5001";
/// Name and password. In base64 it has both letters that are spelt in two ways.
pub const LOGIN: (&str, &str) = ("u", "a???>>>~~~b");
/// Its line in the registry's file, by crypt(3).
const LOGIN_LINE: &str = "u:$2y$05$abcdefghijklmnopqrstuuodgD49B7ru/wprLP3pGbWMzTxlikIlm";
/// The longest that anything is waited for.
const DEADLINE: Duration = Duration::from_secs(90);

/// Waits until `check` gives something.
pub async fn until<T>(what: &str, mut check: impl AsyncFnMut() -> Option<T>) -> T {
    let search = async {
        loop {
            if let Some(found) = check().await {
                return found;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(DEADLINE, search).await.unwrap_or_else(|_| panic!("{what} did not come within {DEADLINE:?}"))
}

/// Which engine.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Docker,
    /// On a file system of its own, on which the engine can keep containers to a size.
    DockerOnBtrfs,
    Podman,
}

/// A running engine; ends with this value.
pub struct Engine {
    kind: Kind,
    dir: TempDir,
    process: Option<Child>,
    registries: Vec<Child>,
    /// Goes after the processes that use it, and before the directory that it is in.
    mounted: Option<Mounted>,
}

/// A file system that is taken away with this value.
struct Mounted(PathBuf);

impl Mounted {
    /// A btrfs in a file, at `name` below `dir`.
    fn btrfs(dir: &Path, name: &str) -> Self {
        let (file, at) = (dir.join("btrfs"), dir.join(name));
        fs::File::create(&file).unwrap().set_len(2 << 30).unwrap();
        fs::create_dir(&at).unwrap();
        let arguments = |words: &[&str]| words.iter().map(PathBuf::from).collect::<Vec<_>>();
        for (program, words, paths) in [
            ("mkfs.btrfs", arguments(&["-q"]), vec![file.clone()]),
            ("mount", arguments(&["-t", "btrfs", "-o", "loop"]), vec![file, at.clone()]),
        ] {
            let done = Command::new(program).args(words).args(paths).output().unwrap();
            assert!(done.status.success(), "{program}: {done:?}");
        }
        Self(at)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Lazily: after a panic something may still be in there.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

impl Engine {
    pub async fn start(kind: Kind) -> Self {
        assert!(rustix::process::geteuid().is_root(), "an engine of our own needs root");
        let dir = tempfile::Builder::new().prefix("a67-engine-").tempdir().unwrap();
        fs::write(dir.path().join("daemon.json"), "{}").unwrap();
        if kind == Kind::Podman {
            podman::configure(dir.path());
        }
        let mounted = (kind == Kind::DockerOnBtrfs).then(|| Mounted::btrfs(dir.path(), "data"));
        let mut engine = Self { kind, dir, process: None, registries: Vec::new(), mounted };
        engine.launch().await;
        engine.import_image().await;
        engine.serve_images().await;
        engine
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("docker.sock")
    }

    /// Starts the engine, on what it may have left from before.
    pub async fn launch(&mut self) {
        let at = |name: &str| self.dir.path().join(name).display().to_string();
        let log = fs::OpenOptions::new().create(true).append(true).open(self.dir.path().join("log")).unwrap();
        let mut command = match self.kind {
            Kind::Docker => dockerd(&at, &[]),
            Kind::DockerOnBtrfs => dockerd(&at, &["--storage-driver", "btrfs"]),
            Kind::Podman => podman::service(self.dir.path()),
        };
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("start the engine");
        self.process = Some(child);
        let socket = self.socket();
        let up = async || docker_at(&socket, &["version"]).await.status.success().then_some(());
        if timeout(DEADLINE, until("the engine", up)).await.is_err() {
            panic!("the engine: {}", fs::read_to_string(self.dir.path().join("log")).unwrap_or_default());
        }
    }

    /// Ends the engine, and waits until it has ended.
    pub async fn end(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        terminate(&mut process);
        spawn_blocking(move || wait_or_kill(&mut process, Duration::from_secs(30))).await.unwrap();
    }

    async fn import_image(&self) {
        let root = self.dir.path().join("root");
        fs::create_dir_all(root.join("bin")).unwrap();
        fs::create_dir_all(root.join("tmp")).unwrap();
        fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
        for name in ["sh", "sleep", "head", "tail", "tr", "mkdir", "httpd", "hostname"] {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(name)).unwrap();
        }
        self.import_as(IMAGE, &[]).await;
    }

    async fn import_as(&self, image: &str, more: &[&str]) {
        let (root, socket) = (self.dir.path().join("root"), self.socket());
        let script = "tar -C \"$1\" -c . | { shift; docker \"$@\"; }";
        let host = format!("unix://{}", socket.display());
        let mut command = Command::new("sh");
        command
            .args(["-c", script, "sh"])
            .arg(root)
            .args(["-H", &host, "import"])
            .args(more)
            .args(["-", image]);
        let imported = spawn_blocking(move || command.output().unwrap()).await.unwrap();
        assert!(imported.status.success(), "{imported:?}");
    }

    /// A registry beside the engine, with one image, and another door to it.
    async fn serve_images(&mut self) {
        let passwords = self.dir.path().join("passwords");
        fs::write(&passwords, format!("{LOGIN_LINE}\n")).unwrap();
        let auth = format!("auth:\n  htpasswd:\n    realm: a67\n    path: {}\n", passwords.display());
        for (address, auth) in [(REGISTRY, String::new()), (CLOSED_REGISTRY, auth)] {
            let registry = self.serve_at(address, &auth);
            self.registries.push(registry);
        }
        let socket = self.socket();
        for name in ["app:1", "locked:1", "given:1", "kept:1", "old:1"] {
            let image = format!("{REGISTRY}/{name}");
            // With something of its own, so that it is no other name of the same image.
            self.import_as(&image, &["--change", &format!("LABEL name={name}")]).await;
            until("the registry", async || {
                docker_at(&socket, &["push", &image]).await.status.success().then_some(())
            })
            .await;
            assert!(docker_at(&socket, &["rmi", &image]).await.status.success());
        }
    }

    fn serve_at(&self, address: &str, auth: &str) -> Child {
        let store = self.dir.path().join("registry");
        let config = format!(
            "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {address}\n{auth}",
            store.display()
        );
        let path = self.dir.path().join(format!("registry-{address}.yml"));
        fs::write(&path, config).unwrap();
        Command::new("nsenter")
            .arg(format!("--net=/proc/{}/ns/net", self.process_id()))
            .args(["docker-registry", "serve"])
            .arg(path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start docker-registry")
    }

    fn process_id(&self) -> u32 {
        self.process.as_ref().expect("the engine runs").id()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        for mut process in self.registries.drain(..).chain(self.process.take()) {
            terminate(&mut process);
            wait_or_kill(&mut process, Duration::from_secs(30));
        }
        if self.kind == Kind::Podman {
            end_monitors(self.dir.path());
        }
        self.mounted = None;
        let left = processes_of(self.dir.path());
        if !std::thread::panicking() {
            assert!(left.is_empty(), "processes were left behind: {left:?}");
        }
    }
}

fn dockerd(at: &impl Fn(&str) -> String, more: &[&str]) -> Command {
    // `exec` keeps the process number, so it is the engine's own that is ended.
    let script = "ip link set lo up && exec dockerd \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--net", "--", "sh", "-c", script, "dockerd"]);
    command.args([
        "--config-file",
        &at("daemon.json"),
        "--data-root",
        &at("data"),
        "--exec-root",
        &at("exec"),
    ]);
    command.args(["--pidfile", &at("pid"), "--host", &format!("unix://{}", at("docker.sock"))]);
    command.args(more);
    command
}

fn terminate(process: &mut Child) {
    let id = i32::try_from(process.id()).ok().and_then(rustix::process::Pid::from_raw);
    let _ = rustix::process::kill_process(id.unwrap(), rustix::process::Signal::TERM);
}

fn wait_or_kill(process: &mut Child, limit: Duration) {
    let began = Instant::now();
    while process.try_wait().unwrap().is_none() {
        if began.elapsed() > limit {
            let _ = process.kill();
            let _ = process.wait();
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Ends what Podman leaves of each command that was run in a container, for five
/// minutes: a monitor that waits for somebody to ask how the command ended.
fn end_monitors(dir: &Path) {
    let monitors = || processes_of(dir).into_iter().filter(|line| line.contains("/conmon "));
    let began = Instant::now();
    while monitors().next().is_some() && began.elapsed() < Duration::from_secs(10) {
        for line in monitors() {
            let id = line.split(':').next().and_then(|id| id.parse().ok());
            let id = id.and_then(rustix::process::Pid::from_raw).unwrap();
            // One that has just gone is no fault.
            let _ = rustix::process::kill_process(id, rustix::process::Signal::KILL);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Processes whose command line names a directory.
fn processes_of(dir: &Path) -> Vec<String> {
    let dir = dir.display().to_string();
    let lines = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
        let id: u32 = entry.file_name().to_str()?.parse().ok()?;
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        line.contains(&dir).then(|| format!("{id}: {line}"))
    });
    lines.collect()
}

/// Runs the `docker` command, as somebody who is not the agent.
async fn docker_at(socket: &Path, arguments: &[&str]) -> Output {
    let host = format!("unix://{}", socket.display());
    let arguments: Vec<String> = arguments.iter().map(|a| (*a).to_owned()).collect();
    spawn_blocking(move || Command::new("docker").args(["-H", &host]).args(arguments).output().unwrap())
        .await
        .unwrap()
}

/// What scenarios share.
pub struct World {
    pub runtime: DockerRuntime,
    pub fleet: FleetId,
    pub node: NodeId,
    socket: PathBuf,
    namespace: String,
}

impl World {
    pub fn new(engine: &Engine) -> Self {
        let fleet = FleetId::from_uuid(Uuid::now_v7());
        let socket = engine.socket();
        let node = NodeId::from_uuid(Uuid::now_v7());
        let runtime = runtime_at(&socket, fleet, node, HouseRules::default());
        let namespace = format!("/proc/{}/ns/net", engine.process_id());
        Self { runtime, fleet, node, socket, namespace }
    }

    /// Where the engine keeps what it has.
    pub fn engine_dir(&self) -> &Path {
        self.socket.parent().unwrap()
    }

    /// The engine's network namespace.
    pub fn network(&self) -> &str {
        &self.namespace
    }

    /// The same engine, seen by another node.
    pub fn neighbour(&self) -> DockerRuntime {
        runtime_at(&self.socket, self.fleet, NodeId::from_uuid(Uuid::now_v7()), HouseRules::default())
    }

    /// Another node on the same engine, set to other rules.
    pub fn with_rules(&self, house: HouseRules) -> DockerRuntime {
        runtime_at(&self.socket, self.fleet, NodeId::from_uuid(Uuid::now_v7()), house)
    }

    /// Somebody on the engine's host who listens on a port.
    pub async fn occupy(&self, port: u16) -> Child {
        let namespace = format!("--net={}", self.namespace);
        let child = Command::new("nsenter")
            .args([&namespace, "busybox", "nc", "-l", "-p", &port.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let table = format!("/proc/{}/net/tcp6", child.id());
        let port = format!(":{port:04X}");
        let listens = |line: &str| line.contains(&port) && line.contains(" 0A ");
        until("a listener", async || {
            fs::read_to_string(&table).unwrap_or_default().lines().any(listens).then_some(())
        })
        .await;
        child
    }

    /// Runs the `docker` command as somebody who is not the agent, and answers what
    /// it printed.
    pub async fn docker(&self, arguments: &[&str]) -> String {
        let output = docker_at(&self.socket, arguments).await;
        assert!(output.status.success(), "docker {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Freezes a container. The kernel does not always manage to at the first try
    /// while the host is busy, and the engine does not try again.
    pub async fn freeze(&self, container: &str) {
        until("the container frozen", async || {
            docker_at(&self.socket, &["pause", container]).await.status.success().then_some(())
        })
        .await;
    }

    /// What the engine says of a container's use: the figures that `docker stats` is
    /// computed from. Asked for directly, so that nothing of the agent's is in between.
    pub async fn stats(&self, container: &str) -> serde_json::Value {
        let mut stream = UnixStream::connect(&self.socket).await.unwrap();
        // Without a stay: an answer of HTTP 1.0 ends with the connection.
        let request = format!("GET /containers/{container}/stats?stream=false HTTP/1.0\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        timeout(DEADLINE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(" 200 "), "{answer}");
        serde_json::from_str(body).unwrap()
    }

    /// Listens inside the engine's network namespace, at a port of the kernel's choice.
    pub async fn listen(&self) -> TcpListener {
        let namespace = fs::File::open(&self.namespace).unwrap();
        // On a thread of its own, which ends: a thread does not come back from there.
        let bind = move || {
            let kind = rustix::thread::LinkNameSpaceType::Network;
            rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(kind)).unwrap();
            std::net::TcpListener::bind("127.0.0.1:0").unwrap()
        };
        let listener = spawn_blocking(move || std::thread::spawn(bind).join().unwrap()).await.unwrap();
        listener.set_nonblocking(true).unwrap();
        TcpListener::from_std(listener).unwrap()
    }

    /// What a port of the engine's host answers over HTTP.
    pub async fn fetch(&self, port: u16) -> Option<String> {
        let namespace = format!("--net={}", self.namespace);
        // The static busybox cannot look up addresses, so its wget is of no use here.
        let script = format!(
            "exec 3<>/dev/tcp/127.0.0.1/{port}; printf 'GET /index.html HTTP/1.0\\r\\n\\r\\n' >&3; tail -n 1 <&3"
        );
        let get =
            move || Command::new("nsenter").arg(namespace).args(["bash", "-c", &script]).output().unwrap();
        let output = spawn_blocking(get).await.unwrap();
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    pub async fn containers_left(&self) -> Vec<String> {
        self.docker(&["ps", "--all", "--quiet"]).await.lines().map(ToOwned::to_owned).collect()
    }

    /// The container of an instance, when it is as `check` wants it.
    pub async fn container(&self, instance: InstanceId, check: impl Fn(&Container) -> bool) -> Container {
        let look = async || self.runtime.inspect(instance).await.unwrap().filter(|c| check(c));
        until("a container's state", look).await
    }

    /// Makes and starts a container.
    pub async fn run(&self, assignment: &Assignment) -> Container {
        let made = self.runtime.create(assignment).await.unwrap();
        self.runtime.start(&made.container_id).await.unwrap()
    }
}

fn runtime_at(socket: &Path, fleet: FleetId, node: NodeId, house: HouseRules) -> DockerRuntime {
    DockerRuntime::with_rules(&format!("unix://{}", socket.display()), fleet, node, house).unwrap()
}

/// A new instance that runs a shell script.
pub fn shell(script: &str) -> Assignment {
    let mut spec = InstanceSpec::of_image(IMAGE);
    spec.command = ["/bin/sh", "-c", script].map(ToOwned::to_owned).to_vec();
    spec.limits.memory_bytes = 64 << 20;
    Assignment {
        instance_id: InstanceId::from_uuid(Uuid::now_v7()),
        deployment_id: DeploymentId::from_uuid(Uuid::now_v7()),
        deployment_name: "web".into(),
        revision: 1,
        spec,
        desired: Desired::Running,
        restart_generation: 0,
        registry_credential: None,
    }
}
