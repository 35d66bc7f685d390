//! What the agent measures against what the engine says of the same container.
//!
//! Both are read while the container is frozen; in between it works as hard as it can.
//! Not all stands still then: the kernel's own packets still reach it, and what it has
//! written may still go to the disk. So the engine's figure has to lie between two of
//! the agent's, one taken before the engine was asked and one after.

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
            ledger_trouble: watch::channel(None).1,
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
    before: InstanceSample,
    engine: Value,
    after: InstanceSample,
}

impl Both {
    /// Freezes the container and reads. All readings of the agent go to `readings`.
    async fn of(world: &World, id: &str, buffer: &SampleBuffer, readings: &mut Vec<InstanceSample>) -> Self {
        world.freeze(id).await;
        let before = reading_since(Utc::now(), buffer, readings).await;
        let engine = world.stats(id).await;
        let after = reading_since(Utc::now(), buffer, readings).await;
        Self { before, engine, after }
    }

    /// Says that the engine's figure is one of the agent's.
    fn agree(&self, what: &str, ours: impl Fn(&InstanceSample) -> Option<u64>, engine: f64) {
        let ours = [&self.before, &self.after].map(|sample| {
            #[expect(clippy::cast_precision_loss, reason = "figures of a test are far below 52 bits")]
            ours(sample).map(|figure| figure as f64).unwrap_or_else(|| panic!("{what} was not read"))
        });
        agree_about(what, engine.clamp(ours[0].min(ours[1]), ours[0].max(ours[1])), engine);
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

/// Takes what was read, until there is a reading later than that.
async fn reading_since(
    then: DateTime<Utc>,
    buffer: &SampleBuffer,
    readings: &mut Vec<InstanceSample>,
) -> InstanceSample {
    until("a reading of the frozen container", async || {
        take(buffer, readings);
        readings.last().filter(|last| last.at > then).cloned()
    })
    .await
}

/// Takes what was read.
fn take(buffer: &SampleBuffer, readings: &mut Vec<InstanceSample>) {
    let entries = buffer.peek(1000);
    buffer.confirm(entries.len());
    readings.extend(instances(entries));
}

/// The CPU time that readings come to, in nanoseconds, from one moment to another.
fn cpu_nanos(readings: &[InstanceSample], from: DateTime<Utc>, to: DateTime<Utc>) -> f64 {
    let pairs = readings.windows(2).filter(|pair| pair[1].at > from && pair[1].at <= to);
    pairs.map(|pair| pair[1].cpu_percent.unwrap() / 100.0 * seconds(pair[1].at - pair[0].at) * 1e9).sum()
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
         busybox dd if=/dev/zero of=/tmp/f bs=1M count=24 oflag=direct; \
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
        // The engine takes connections before the server does, and answers nothing then.
        let whole = async || world.fetch(port).await.filter(|page| page.len() == 400_000);
        until("the container's page", whole).await;
    }

    let mut readings = Vec::new();
    let first = Both::of(&world, &id, &measuring.buffer, &mut readings).await;
    world.docker(&["unpause", &id]).await;
    // It works, for eight readings at least and until that has come to something: beside
    // others it may get little of a processor.
    let (worked, since) = (readings.len(), first.after.at);
    until("readings of a second of work", async || {
        take(&measuring.buffer, &mut readings);
        let used = cpu_nanos(&readings, since, Utc::now());
        (readings.len() >= worked + 8 && used > 1.1e9).then_some(())
    })
    .await;
    let second = Both::of(&world, &id, &measuring.buffer, &mut readings).await;

    // CPU: what the agent's percentages come to over the interval, against the
    // engine's raw totals at both of its ends.
    let ours = cpu_nanos(&readings, since, second.after.at);
    let total = "/cpu_stats/cpu_usage/total_usage";
    let engine_nanos = second.engine(total) - first.engine(total);
    assert!(engine_nanos > 1e9, "it hardly worked: {engine_nanos} ns");
    agree_about("CPU time", ours, engine_nanos);
    let percent = ours / 1e7 / seconds(second.after.at - since);
    let engine_percent = engine_nanos / 1e7 / seconds(second.engine_at() - first.engine_at());
    eprintln!(
        "CPU percent over each one's own interval: ours {percent:.2}, the engine's {engine_percent:.2}"
    );

    let inactive = second.engine("/memory_stats/stats/total_inactive_file");
    let usage = second.engine("/memory_stats/usage") - inactive;
    second.agree("memory", |ours| ours.memory_bytes, usage);
    second.agree("memory limit", |ours| ours.memory_limit_bytes, second.engine("/memory_stats/limit"));
    second.agree("network received", |ours| ours.network_rx_bytes, second.engine("/networks/eth0/rx_bytes"));
    second.agree("network sent", |ours| ours.network_tx_bytes, second.engine("/networks/eth0/tx_bytes"));
    second.agree("blocks read", |ours| ours.block_read_bytes, second.engine_blocks("read"));
    second.agree("blocks written", |ours| ours.block_write_bytes, second.engine_blocks("write"));
    second.agree("processes", |ours| ours.pids, second.engine("/pids_stats/current"));
    // What it is known to have done: five pages of 400,000 bytes, twelve million bytes in a
    // variable, 24 MiB past the page cache, and a shell, a server and a sleep.
    let least = [
        (second.after.memory_bytes, 10_000_000),
        (second.after.network_tx_bytes, 2_000_000),
        (second.after.block_read_bytes, 24 << 20),
        (second.after.block_write_bytes, 24 << 20),
        (second.after.pids, 3),
    ];
    for (figure, least) in least {
        assert!(figure >= Some(least), "{figure:?} of {least}: {:?}", second.after);
    }

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
        take(&measuring.buffer, &mut readings);
        readings.last().filter(|last| last.oom_kills.is_some_and(|kills| kills > 0)).map(|_| ())
    })
    .await;
    let both = Both::of(&world, &id, &measuring.buffer, &mut readings).await;
    let throttled = both.engine("/cpu_stats/throttling_data/throttled_time");
    assert!(throttled > 0.0);
    both.agree("time held back", |ours| ours.throttled_nanos, throttled);
    world.docker(&["unpause", &id]).await;
    measuring.end().await;
    world.runtime.remove(&id).await.unwrap();
}
