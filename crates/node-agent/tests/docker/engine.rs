//! An engine of our own, and what scenarios need of it.

use std::{
    fs,
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
use node_agent::runtime::{Runtime as _, docker::DockerRuntime};
use tempfile::TempDir;
use tokio::{
    task::spawn_blocking,
    time::{sleep, timeout},
};
use uuid::Uuid;

/// The image that all scenarios use.
pub const IMAGE: &str = "a67-test/busybox:1";
/// Where the registry listens, inside the engine's network namespace.
pub const REGISTRY: &str = "127.0.0.1:5000";
/// The longest that anything is waited for.
const DEADLINE: Duration = Duration::from_secs(45);

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

/// A running `dockerd`; ends with this value.
pub struct Engine {
    dir: TempDir,
    process: Option<Child>,
    registry: Option<Child>,
}

impl Engine {
    pub async fn start() -> Self {
        assert!(rustix::process::geteuid().is_root(), "an engine of our own needs root");
        let dir = tempfile::Builder::new().prefix("a67-engine-").tempdir().unwrap();
        fs::write(dir.path().join("daemon.json"), "{}").unwrap();
        let mut engine = Self { dir, process: None, registry: None };
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
        // `exec` keeps the process number, so it is the engine's own that is ended.
        let script = "ip link set lo up && exec dockerd \"$@\"";
        let child = Command::new("unshare")
            .args(["--net", "--", "sh", "-c", script, "dockerd"])
            .args([
                "--config-file",
                &at("daemon.json"),
                "--data-root",
                &at("data"),
                "--exec-root",
                &at("exec"),
            ])
            .args(["--pidfile", &at("pid"), "--host", &format!("unix://{}", at("docker.sock"))])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("start dockerd");
        self.process = Some(child);
        let socket = self.socket();
        let up = async || docker_at(&socket, &["version"]).await.status.success().then_some(());
        if timeout(DEADLINE, until("the engine", up)).await.is_err() {
            panic!("dockerd: {}", fs::read_to_string(self.dir.path().join("log")).unwrap_or_default());
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
        let (root, socket) = (root.display().to_string(), self.socket().display().to_string());
        let script = format!("tar -C {root} -c . | docker -H unix://{socket} import - {IMAGE}");
        let imported = spawn_blocking(move || Command::new("sh").args(["-c", &script]).output().unwrap());
        let imported = imported.await.unwrap();
        assert!(imported.status.success(), "{imported:?}");
    }

    /// A registry beside the engine, with one image.
    async fn serve_images(&mut self) {
        let store = self.dir.path().join("registry");
        let config = format!(
            "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {REGISTRY}\n",
            store.display()
        );
        let path = self.dir.path().join("registry.yml");
        fs::write(&path, config).unwrap();
        let registry = Command::new("nsenter")
            .arg(format!("--net=/proc/{}/ns/net", self.process_id()))
            .args(["docker-registry", "serve"])
            .arg(path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start docker-registry");
        self.registry = Some(registry);
        let (socket, image) = (self.socket(), format!("{REGISTRY}/app:1"));
        assert!(docker_at(&socket, &["tag", IMAGE, &image]).await.status.success());
        until("the registry", async || {
            docker_at(&socket, &["push", &image]).await.status.success().then_some(())
        })
        .await;
        assert!(docker_at(&socket, &["rmi", &image]).await.status.success());
    }

    fn process_id(&self) -> u32 {
        self.process.as_ref().expect("the engine runs").id()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        for process in [self.registry.take(), self.process.take()] {
            let Some(mut process) = process else { continue };
            terminate(&mut process);
            wait_or_kill(&mut process, Duration::from_secs(30));
        }
        let left = processes_of(self.dir.path());
        if !std::thread::panicking() {
            assert!(left.is_empty(), "processes were left behind: {left:?}");
        }
    }
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
    socket: PathBuf,
    namespace: String,
}

impl World {
    pub fn new(engine: &Engine) -> Self {
        let fleet = FleetId::from_uuid(Uuid::now_v7());
        let socket = engine.socket();
        let runtime = runtime_at(&socket, fleet);
        let namespace = format!("/proc/{}/ns/net", engine.process_id());
        Self { runtime, fleet, socket, namespace }
    }

    /// The same engine, seen by another node.
    pub fn neighbour(&self) -> DockerRuntime {
        runtime_at(&self.socket, self.fleet)
    }

    /// Runs the `docker` command as somebody who is not the agent, and answers what
    /// it printed.
    pub async fn docker(&self, arguments: &[&str]) -> String {
        let output = docker_at(&self.socket, arguments).await;
        assert!(output.status.success(), "docker {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
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

fn runtime_at(socket: &Path, fleet: FleetId) -> DockerRuntime {
    let node = NodeId::from_uuid(Uuid::now_v7());
    DockerRuntime::new(&format!("unix://{}", socket.display()), fleet, node).unwrap()
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
    }
}
