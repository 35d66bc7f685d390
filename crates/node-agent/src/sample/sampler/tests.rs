//! With files of our own for the kernel's, and a clock that is turned by hand.

use std::{fs, path::Path};

use tempfile::TempDir;
use tokio::time::advance;
use uuid::Uuid;

use daemon::Supervisor;

use super::*;
use crate::runtime::fake::{Call, FakeRuntime};
use crate::sample::Entry;
use crate::sample::testing::played;

const PERIOD: Duration = Duration::from_secs(30);

struct Bench {
    files: TempDir,
    running: watch::Sender<Running>,
    period: watch::Sender<Duration>,
    runtime: FakeRuntime,
    buffer: SampleBuffer,
    recent: Recent,
    sizes: watch::Sender<Sizes>,
    supervisor: Supervisor,
}

impl Bench {
    fn start() -> Self {
        let files = tempfile::tempdir().unwrap();
        let (running, running_rx) = watch::channel(Running::default());
        let (period, period_rx) = watch::channel(PERIOD);
        let (runtime, buffer) = (FakeRuntime::default(), SampleBuffer::new());
        let (sizes, storage) = watch::channel(Sizes::default());
        let recent = Recent::default();
        let sampler = Sampler {
            reader: Reader::below(files.path()),
            runtime: Arc::new(runtime.clone()),
            buffer: buffer.clone(),
            recent: recent.clone(),
            storage,
            past: Past::default(),
        };
        let supervisor = Supervisor::new(tokio::runtime::Handle::current());
        supervisor.spawn("sampler", sampler.run(running_rx, period_rx));
        Self { files, running, period, runtime, buffer, recent, sizes, supervisor }
    }

    fn publish(&self, containers: &[(u128, RunningContainer)]) {
        let containers = containers.iter().map(|(n, c)| (instance(*n), c.clone())).collect();
        self.running.send_replace(Arc::new(containers));
    }

    /// The next readings; time passes until they come.
    async fn next(&self, count: usize) -> Vec<InstanceSample> {
        let began = Instant::now();
        loop {
            let samples = self.buffer.peek(100);
            if samples.len() >= count {
                self.buffer.confirm(samples.len());
                let instance = |entry| match entry {
                    Entry::Instance(sample) => sample,
                    Entry::Host(_) => panic!("nobody reads the host here"),
                };
                return samples.into_iter().map(instance).collect();
            }
            assert!(began.elapsed() < Duration::from_secs(3600), "{count} readings did not come");
            advance(Duration::from_millis(100)).await;
            // The thread that reads files comes to its end first.
            spawn_blocking(|| ()).await.unwrap();
        }
    }

    async fn end(self) {
        drop(self.running);
        assert!(self.supervisor.shut_down(Duration::from_secs(5)).await);
    }
}

fn instance(n: u128) -> InstanceId {
    InstanceId::from_uuid(Uuid::from_u128(n))
}

fn container(pid: u32, started: i64) -> RunningContainer {
    RunningContainer {
        container_id: format!("id{pid}"),
        pid,
        started_at: Timestamp::from_timestamp(started, 0).unwrap(),
        memory_limit_bytes: Some(7),
    }
}

fn use_cpu(root: &Path, pid: u32, micros: u64) {
    let write = |path: String, text: String| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write(format!("proc/{pid}/cgroup"), format!("0::/docker-id{pid}.scope\n"));
    write(format!("cgroup/docker-id{pid}.scope/memory.stat"), "inactive_file 1\n".into());
    write(format!("cgroup/docker-id{pid}.scope/memory.current"), "11\n".into());
    write(format!("cgroup/docker-id{pid}.scope/cpu.stat"), format!("usage_usec {micros}\n"));
}

#[test]
fn what_began_to_run_is_read_at_once_again_after_two_seconds_and_then_each_period() {
    played(async {
        let bench = Bench::start();
        use_cpu(bench.files.path(), 1, 5_000_000);
        let began = Instant::now();
        bench.publish(&[(1, container(1, 100))]);
        let first = bench.next(1).await;
        assert_eq!((first[0].cpu_percent, first[0].memory_bytes), (None, Some(10)));
        assert!(began.elapsed() < Duration::from_secs(1));

        use_cpu(bench.files.path(), 1, 6_000_000);
        let second = bench.next(1).await;
        let percent = second[0].cpu_percent.unwrap();
        assert!((40.0..=60.0).contains(&percent), "one second of CPU in two is {percent} percent");
        assert!(began.elapsed() < Duration::from_secs(3));

        bench.next(1).await;
        let passed = began.elapsed();
        assert!(passed >= PERIOD && passed < PERIOD + Duration::from_secs(2), "{passed:?}");
        bench.end().await;
    });
}

#[test]
fn a_new_run_of_an_instance_has_no_cpu_before_its_second_reading() {
    played(async {
        let bench = Bench::start();
        use_cpu(bench.files.path(), 1, 9_000_000);
        bench.publish(&[(1, container(1, 100))]);
        bench.next(2).await;
        use_cpu(bench.files.path(), 2, 10);
        bench.publish(&[(1, container(2, 200))]);
        let samples = bench.next(2).await;
        assert_eq!(samples[0].cpu_percent, None);
        assert!(samples[1].cpu_percent.is_some());
        bench.end().await;
    });
}

#[test]
fn another_period_counts_from_now_on_and_what_is_gone_is_read_no_more() {
    played(async {
        let bench = Bench::start();
        use_cpu(bench.files.path(), 1, 1);
        use_cpu(bench.files.path(), 2, 1);
        bench.publish(&[(1, container(1, 100)), (2, container(2, 100))]);
        bench.next(4).await;
        bench.period.send_replace(Duration::from_secs(5));
        let began = Instant::now();
        assert_eq!(bench.next(2).await.len(), 2);
        assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
        bench.publish(&[(2, container(2, 100))]);
        let only: Vec<_> = bench.next(3).await.into_iter().map(|s| s.instance_id).collect();
        assert_eq!(only, [instance(2); 3]);
        bench.end().await;
    });
}

#[test]
fn the_engine_is_asked_where_the_kernels_files_cannot_be_seen_and_no_more_often() {
    played(async {
        let bench = Bench::start();
        bench.publish(&[(1, container(1, 100))]);
        let began = Instant::now();
        // At once, after two seconds, and in two rounds.
        while bench.runtime.count(Call::Usage, None) < 4 {
            advance(Duration::from_millis(500)).await;
            spawn_blocking(|| ()).await.unwrap();
        }
        assert!(began.elapsed() >= 2 * PERIOD, "{:?}", began.elapsed());
        assert!(bench.buffer.peek(1).is_empty(), "the engine has no such container");
        bench.end().await;
    });
}

#[test]
fn memory_is_read_more_often_for_those_who_ask_why_an_instance_died() {
    played(async {
        let bench = Bench::start();
        use_cpu(bench.files.path(), 1, 1);
        bench.publish(&[(1, container(1, 100))]);
        bench.sizes.send_replace(Arc::new([(instance(1), 77)].into()));
        let samples = bench.next(2).await;
        assert_eq!(samples[1].storage_bytes, Some(77));
        let began = Instant::now();
        let round = bench.next(1).await;
        assert!(began.elapsed() > Duration::from_secs(20), "{:?}", began.elapsed());
        let points = bench.recent.memory(instance(1));
        // Two at the start, two in between, one of the round.
        assert_eq!(points.len(), 5, "{points:?}");
        assert!(points.iter().all(|point| point.bytes == 10));
        assert_eq!(points.last().map(|point| point.at), Some(round[0].at));
        // With a short period the rounds are enough.
        bench.period.send_replace(Duration::from_secs(10));
        bench.next(5).await;
        assert_eq!(bench.recent.memory(instance(1)).len(), 10);
        bench.end().await;
    });
}
