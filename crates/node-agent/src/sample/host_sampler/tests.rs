//! With files of our own for the kernel's, and a clock that is turned by hand.

use std::fs;

use daemon::Supervisor;
use domain::{node::NodeHealth, sample::HostSample};
use tempfile::TempDir;
use tokio::time::advance;

use super::*;
use crate::sample::testing::played;
use crate::{runtime::fake::FakeRuntime, sample::Entry};

const PERIOD: Duration = Duration::from_secs(30);

struct Bench {
    files: TempDir,
    engine: watch::Sender<EngineState>,
    period: watch::Sender<Duration>,
    ledger: watch::Sender<Option<String>>,
    buffer: SampleBuffer,
    supervisor: Supervisor,
}

impl Bench {
    fn start(engine: EngineState) -> Self {
        let files = tempfile::tempdir().unwrap();
        fs::create_dir_all(files.path().join("proc")).unwrap();
        let (engine, engine_rx) = watch::channel(engine);
        let (period, period_rx) = watch::channel(PERIOD);
        let (ledger, ledger_rx) = watch::channel(None);
        let buffer = SampleBuffer::new();
        let sampler = HostSampler::new(
            HostReader::below(files.path()),
            Arc::new(FakeRuntime::default()),
            buffer.clone(),
            // Of the disk that the test happens to be on nothing is to be judged.
            (thresholds(), files.path().into()),
        );
        let supervisor = Supervisor::new(tokio::runtime::Handle::current());
        drop(supervisor.spawn("host sampler", sampler.run(engine_rx, period_rx, ledger_rx)));
        let bench = Self { files, engine, period, ledger, buffer, supervisor };
        bench.available(900);
        bench
    }

    fn available(&self, kib: u64) {
        let text = format!("MemTotal: 1000 kB\nMemAvailable: {kib} kB\n");
        fs::write(self.files.path().join("proc/meminfo"), text).unwrap();
    }

    /// The next reading, and how long it took to come.
    async fn next(&self) -> (HostSample, Duration) {
        let began = Instant::now();
        loop {
            if let Some(Entry::Host(sample)) = self.buffer.peek(1).pop() {
                self.buffer.confirm(1);
                return (*sample, began.elapsed());
            }
            assert!(began.elapsed() < Duration::from_secs(3600), "no reading came");
            advance(Duration::from_millis(100)).await;
            spawn_blocking(|| ()).await.unwrap();
        }
    }

    async fn end(self) {
        drop(self.engine);
        assert!(self.supervisor.shut_down(Duration::from_secs(5)).await);
    }
}

fn thresholds() -> Thresholds {
    let never = node_health::Threshold { degraded: 0.0, failing: 0.0 };
    Thresholds { disk_free_percent: never, inodes_free_percent: never, ..Thresholds::default() }
}

// By real time: a clock that is turned by hand does not wait for a disk.
#[test]
fn an_agent_that_cannot_write_says_so_at_once_and_when_it_can_again() {
    played(async {
        let bench = Bench::start(EngineState::Reachable);
        assert_eq!(bench.next().await.0.health, NodeHealth::Healthy);
        bench.ledger.send_replace(Some("no space left on device".into()));
        let (sample, took) = bench.next().await;
        assert!(took < PERIOD / 2, "{took:?}");
        assert_eq!(sample.health, NodeHealth::Failing);
        let wanted =
            "the agent cannot write down what happens, and so reports nothing: no space left on device";
        assert_eq!(sample.reasons, [wanted]);
        bench.ledger.send_replace(None);
        let (sample, took) = bench.next().await;
        assert_eq!((sample.health, sample.reasons.len()), (NodeHealth::Healthy, 0));
        assert!(took < PERIOD / 2, "{took:?}");
        bench.end().await;
    });
}

#[tokio::test]
async fn each_file_system_says_how_full_it_is() {
    let files = tempfile::tempdir().unwrap();
    let mut sampler = HostSampler::new(
        HostReader::below(files.path()),
        Arc::new(FakeRuntime::default()),
        SampleBuffer::new(),
        (thresholds(), files.path().into()),
    );
    let disks = sampler.disks().await;
    assert!(disks.iter().any(|disk| disk.path == "/"), "{disks:?}");
    assert!(disks.iter().all(|disk| disk.size_bytes >= disk.free_bytes && disk.size_bytes > 0), "{disks:?}");
}

#[test]
fn the_host_is_read_at_once_and_then_each_period_and_judged() {
    played(async {
        let bench = Bench::start(EngineState::Reachable);
        let (first, waited) = bench.next().await;
        assert!(waited < Duration::from_secs(3), "{waited:?}");
        assert_eq!((first.memory_bytes, first.health), (Some(1000 << 10), NodeHealth::Healthy));
        bench.available(20);
        let (second, waited) = bench.next().await;
        assert!(waited <= PERIOD + Duration::from_secs(2) && waited > PERIOD / 2, "{waited:?}");
        assert_eq!(second.health, NodeHealth::Failing);
        assert_eq!(second.reasons, ["2.0 % of memory is available (short below 3 %)"]);
        // What was held short matters to the next reading.
        bench.available(110);
        bench.period.send_replace(Duration::from_secs(1));
        let (third, waited) = bench.next().await;
        assert!(waited < Duration::from_secs(3), "{waited:?}");
        assert_eq!(third.health, NodeHealth::Degraded);
        bench.end().await;
    });
}

#[test]
fn an_engine_that_is_silent_for_ten_seconds_is_told_at_once_and_so_is_its_return() {
    played(async {
        let bench = Bench::start(EngineState::Unreachable);
        // As it is at the agent's start.
        assert_eq!(bench.next().await.0.health, NodeHealth::Healthy);
        let (silent, waited) = bench.next().await;
        assert!(waited < ENGINE_GRACE + Duration::from_secs(3), "{waited:?}");
        assert_eq!(silent.health, NodeHealth::Failing);
        assert_eq!(silent.reasons, ["the container engine does not answer"]);
        bench.engine.send_replace(EngineState::Reachable);
        let (back, waited) = bench.next().await;
        assert!(waited < Duration::from_secs(3), "{waited:?}");
        assert_eq!(back.health, NodeHealth::Healthy);
        bench.engine.send_replace(EngineState::Unreachable);
        advance(Duration::from_secs(5)).await;
        bench.engine.send_replace(EngineState::Reachable);
        let (regular, waited) = bench.next().await;
        assert!(waited > Duration::from_secs(10), "a short restart was told: {waited:?}");
        assert_eq!(regular.health, NodeHealth::Healthy);
        bench.end().await;
    });
}
