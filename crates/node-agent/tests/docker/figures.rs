//! What the agent measures against what the engine says of the same container.
//!
//! Both are read while the container is frozen, so that they are of the same moment;
//! in between it works as hard as it can.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use daemon::Supervisor;
use domain::{
    deployment::{PortSpec, Transport},
    id::InstanceId,
    node::EngineState,
    plan::Container,
    sample::InstanceSample,
};
use node_agent::{
    runtime::{RunningContainer, Runtime as _},
    sample::{self, Entry, Recent, SampleBuffer},
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::watch;

use crate::engine::{World, shell, until};

/// How far figures may be apart.
const TOLERANCE: f64 = 0.02;

/// A sampler at work, and all that it is told.
pub struct Measuring {
    pub running: watch::Sender<sample::Running>,
    pub buffer: SampleBuffer,
    supervisor: Supervisor,
    _period: watch::Sender<Duration>,
    _engine: watch::Sender<EngineState>,
    _dir: TempDir,
}

impl Measuring {
    pub fn start(world: &World, period: Duration) -> Self {
        let supervisor = Supervisor::new(tokio::runtime::Handle::current());
        let (running, running_rx) = watch::channel(Arc::new(BTreeMap::new()));
        let (period, period_rx) = watch::channel(period);
        let (engine, engine_rx) = watch::channel(EngineState::Reachable);
        let (_, storage) = watch::channel(Arc::default());
        let dir = tempfile::tempdir().unwrap();
        let parts = sample::Parts {
            running: running_rx,
            runtime: Arc::new(world.runtime.clone()),
            engine: engine_rx,
            period: period_rx,
            storage,
            recent: Recent::default(),
            thresholds: Default::default(),
            data_dir: dir.path().into(),
        };
        let buffer = sample::start(&supervisor, parts);
        Self { running, buffer, supervisor, _period: period, _engine: engine, _dir: dir }
    }

    pub async fn end(self) {
        assert!(self.supervisor.shut_down(Duration::from_secs(5)).await);
    }
}

/// Those of instances.
pub fn instances(entries: Vec<Entry>) -> Vec<InstanceSample> {
    let instance = |entry| match entry {
        Entry::Instance(sample) => Some(sample),
        Entry::Host(_) => None,
    };
    entries.into_iter().filter_map(instance).collect()
}

fn as_running(instance: InstanceId, container: &Container) -> sample::Running {
    let running = RunningContainer {
        container_id: container.container_id.clone(),
        pid: container.pid.unwrap(),
        started_at: container.started_at.unwrap(),
        memory_limit_bytes: None,
    };
    Arc::new(BTreeMap::from([(instance, running)]))
}

/// What the engine and the agent say of a container that stands still.
struct Both {
    engine: Value,
    ours: InstanceSample,
}

impl Both {
    /// Freezes the container, and reads until a reading of the agent was taken after
    /// that. All readings of the agent go to `readings`.
    async fn of(world: &World, id: &str, buffer: &SampleBuffer, readings: &mut Vec<InstanceSample>) -> Self {
        world.freeze(id).await;
        let frozen_at = Utc::now();
        let engine = world.stats(id).await;
        let ours = until("a reading of the frozen container", async || {
            let entries = buffer.peek(1000);
            buffer.confirm(entries.len());
            readings.extend(instances(entries));
            readings.last().filter(|last| last.at > frozen_at).cloned()
        })
        .await;
        Self { engine, ours }
    }

    fn engine(&self, path: &str) -> f64 {
        self.engine.pointer(path).and_then(Value::as_f64).unwrap_or_else(|| panic!("{path}: {}", self.engine))
    }

    /// Bytes of one kind over all devices, as `docker stats` adds them up.
    fn engine_blocks(&self, kind: &str) -> f64 {
        let entries =
            self.engine.pointer("/blkio_stats/io_service_bytes_recursive").and_then(Value::as_array);
        let of_kind = entries
            .into_iter()
            .flatten()
            .filter(|entry| entry["op"].as_str().is_some_and(|op| op.eq_ignore_ascii_case(kind)));
        of_kind.filter_map(|entry| entry["value"].as_f64()).sum()
    }

    fn engine_at(&self) -> DateTime<Utc> {
        self.engine["read"].as_str().unwrap().parse().unwrap()
    }
}

#[expect(clippy::cast_precision_loss, reason = "figures of a test are far below 52 bits")]
fn agree(what: &str, ours: Option<u64>, engine: f64) {
    let ours = ours.unwrap_or_else(|| panic!("{what} was not read")) as f64;
    agree_about(what, ours, engine);
}

fn agree_about(what: &str, ours: f64, engine: f64) {
    let apart = (ours - engine).abs() / engine.max(1.0);
    eprintln!("{what}: ours {ours}, the engine's {engine}, {:.3} % apart", apart * 100.0);
    assert!(apart <= TOLERANCE, "{what}: ours {ours}, the engine's {engine}");
}

#[expect(clippy::cast_precision_loss, reason = "figures of a test are far below 52 bits")]
fn seconds(span: chrono::TimeDelta) -> f64 {
    span.num_microseconds().unwrap() as f64 / 1e6
}

/// Newer kernels count a group's block I/O under cgroup version 1 only on devices for
/// which there is a rule. This makes one that limits nothing.
async fn count_blocks(world: &World, id: &str) {
    let group = format!("/sys/fs/cgroup/blkio/docker/{id}/blkio.throttle");
    let root = world.docker(&["info", "--format", "{{.DockerRootDir}}"]).await;
    let device = rustix::fs::stat(root.as_str()).unwrap().st_dev;
    let rule = format!("{}:{} 1099511627776", rustix::fs::major(device), rustix::fs::minor(device));
    for kind in ["read", "write"] {
        let file = format!("{group}.{kind}_bps_device");
        if std::path::Path::new(&file).exists() {
            std::fs::write(&file, &rule).unwrap();
        }
    }
}

pub async fn figures_agree_with_the_engines_under_load(world: Arc<World>) {
    // The page is there once all else is done.
    let mut assignment = shell(
        "while [ ! -d /tmp/go ]; do sleep 0.1; done; \
         mkdir -p /tmp/w; head -c 400000 /dev/zero > /tmp/w/index.html; \
         busybox dd if=/dev/zero of=/tmp/f bs=1M count=24 conv=fsync; \
         busybox dd if=/tmp/f of=/dev/null bs=1M iflag=direct; \
         x=$(head -c 12000000 /dev/zero | tr '\\0' x); sleep 1000 & \
         httpd -p 8080 -h /tmp/w; while true; do : ; done",
    );
    let port = PortSpec { container_port: 8080, host_port: None, transport: Transport::Tcp };
    assignment.spec.ports = vec![port];
    let container = world.run(&assignment).await;
    let (id, port) = (container.container_id.clone(), container.ports[0].host_port);
    let measuring = Measuring::start(&world, Duration::from_secs(1));
    measuring.running.send_replace(as_running(assignment.instance_id, &container));
    count_blocks(&world, &id).await;
    world.docker(&["exec", &id, "mkdir", "/tmp/go"]).await;
    for _ in 0..5 {
        until("the container's page", async || world.fetch(port).await).await;
    }

    let mut readings = Vec::new();
    let first = Both::of(&world, &id, &measuring.buffer, &mut readings).await;
    world.docker(&["unpause", &id]).await;
    // It works, until there are eight more readings of that.
    let worked = readings.len();
    until("eight readings under load", async || {
        let entries = measuring.buffer.peek(1000);
        measuring.buffer.confirm(entries.len());
        readings.extend(instances(entries));
        (readings.len() >= worked + 8).then_some(())
    })
    .await;
    let second = Both::of(&world, &id, &measuring.buffer, &mut readings).await;

    // CPU: what the agent's percentages come to over the interval, against the
    // engine's raw totals at both of its ends.
    let between = |at: DateTime<Utc>| at > first.ours.at && at <= second.ours.at;
    let cpu_nanos: f64 = readings
        .windows(2)
        .filter(|pair| between(pair[1].at))
        .map(|pair| pair[1].cpu_percent.unwrap() / 100.0 * seconds(pair[1].at - pair[0].at) * 1e9)
        .sum();
    let total = "/cpu_stats/cpu_usage/total_usage";
    let engine_nanos = second.engine(total) - first.engine(total);
    assert!(engine_nanos > 1e9, "it hardly worked: {engine_nanos} ns");
    agree_about("CPU time", cpu_nanos, engine_nanos);
    let percent = cpu_nanos / 1e7 / seconds(second.ours.at - first.ours.at);
    let engine_percent = engine_nanos / 1e7 / seconds(second.engine_at() - first.engine_at());
    eprintln!(
        "CPU percent over each one's own interval: ours {percent:.2}, the engine's {engine_percent:.2}"
    );

    let inactive = second.engine("/memory_stats/stats/total_inactive_file");
    agree("memory", second.ours.memory_bytes, second.engine("/memory_stats/usage") - inactive);
    assert!(second.ours.memory_bytes.unwrap() > 10_000_000, "{:?}", second.ours);
    agree("memory limit", second.ours.memory_limit_bytes, second.engine("/memory_stats/limit"));
    agree("network received", second.ours.network_rx_bytes, second.engine("/networks/eth0/rx_bytes"));
    agree("network sent", second.ours.network_tx_bytes, second.engine("/networks/eth0/tx_bytes"));
    assert!(second.ours.network_tx_bytes.unwrap() > 2_000_000, "{:?}", second.ours);
    agree("blocks read", second.ours.block_read_bytes, second.engine_blocks("read"));
    agree("blocks written", second.ours.block_write_bytes, second.engine_blocks("write"));
    let (read, written) = (second.ours.block_read_bytes.unwrap(), second.ours.block_write_bytes.unwrap());
    // What was written may still be in the page cache; how much of it is the kernel's affair.
    assert!(read >= 24 << 20 && written >= 1 << 20, "{:?}", second.ours);
    agree("processes", second.ours.pids, second.engine("/pids_stats/current"));
    assert!(second.ours.pids.unwrap() >= 3, "{:?}", second.ours);

    world.docker(&["unpause", &id]).await;
    measuring.end().await;
    world.runtime.remove(&id).await.unwrap();
}

pub async fn what_a_container_is_held_back_from_is_counted(world: Arc<World>) {
    // A child that takes too much memory is killed, and its parent goes on.
    let mut assignment =
        shell("(x=$(head -c 60000000 /dev/zero | tr '\\0' x); y=$x$x) ; while true; do : ; done");
    assignment.spec.limits.memory_bytes = 32 << 20;
    assignment.spec.limits.cpu_millis = 300;
    let container = world.run(&assignment).await;
    let id = container.container_id.clone();
    let measuring = Measuring::start(&world, Duration::from_secs(1));
    measuring.running.send_replace(as_running(assignment.instance_id, &container));
    let mut readings = Vec::new();
    until("a kill for lack of memory", async || {
        let entries = measuring.buffer.peek(1000);
        measuring.buffer.confirm(entries.len());
        readings.extend(instances(entries));
        readings.last().filter(|last| last.oom_kills.is_some_and(|kills| kills > 0)).map(|_| ())
    })
    .await;
    let both = Both::of(&world, &id, &measuring.buffer, &mut readings).await;
    let throttled = both.engine("/cpu_stats/throttling_data/throttled_time");
    assert!(throttled > 0.0);
    agree("time held back", both.ours.throttled_nanos, throttled);
    world.docker(&["unpause", &id]).await;
    measuring.end().await;
    world.runtime.remove(&id).await.unwrap();
}
