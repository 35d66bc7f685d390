//! From a death to what waits for the controller, on an engine in memory and a disk that
//! may be full.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use chrono::{TimeDelta, Utc};
use daemon::{Supervisor, seal::MasterKey};
use domain::{
    Timestamp,
    assignment::Assignment,
    deployment::InstanceSpec,
    dossier::{Dossier, DossierLine, DossierProbe, LOG_BYTES_MAX},
    id::{DeploymentId, InstanceId},
    instance::{Desired, Outcome},
    probe::{ProbeResult, Verdict},
    sample::InstanceSample,
};
use tempfile::TempDir;
use tokio::{runtime::Handle, time::sleep};
use uuid::Uuid;

use super::{
    disk::{Disk, Volume},
    keep::Bounds,
    *,
};
use crate::{
    death::Deaths,
    ledger::testing::key,
    runtime::{
        LogChunk, RuntimeErrorKind,
        fake::{Call, FakeRuntime, Fault},
    },
};

const SOON: Duration = Duration::from_secs(20);

fn quick() -> Timing {
    let millis = Duration::from_millis;
    Timing { log: millis(400), stop: millis(50), retry: (millis(1), millis(5)) }
}

fn at(millis: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + TimeDelta::days(20_000) + TimeDelta::milliseconds(millis)
}

fn dossier(n: u128, attempt: u32) -> Dossier {
    let line = DossierLine { at: None, stderr: false, text: format!("hunter2 {attempt}"), partial: false };
    Dossier {
        instance_id: InstanceId::from_uuid(Uuid::from_u128(n)),
        attempt,
        ended_at: at(0),
        outcome: Outcome::Exited { code: 3, oom: false },
        container_id: Some("0a1b".into()),
        log: vec![line],
        log_cut: false,
        probes: Vec::new(),
        memory: Vec::new(),
        memory_limit_bytes: Some(1 << 20),
    }
}

async fn attempts(dossiers: &Dossiers) -> Vec<u32> {
    dossiers.peek(1000).await.into_iter().map(|waiting| waiting.dossier.attempt).collect()
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut files: Vec<_> = entries.map(|e| e.path()).filter(|path| path.is_file()).collect();
    files.sort_unstable();
    files
}

#[tokio::test]
async fn dossiers_outlive_a_restart_and_are_handed_out_the_oldest_first_until_they_are_confirmed() {
    let dir = tempfile::tempdir().unwrap();
    let dossiers = Dossiers::open(dir.path(), key());
    for attempt in 1..=5 {
        dossiers.keep(dossier(1, attempt)).await;
    }
    let first = dossiers.peek(2).await;
    assert_eq!(first.iter().map(|w| w.dossier.clone()).collect::<Vec<_>>(), [dossier(1, 1), dossier(1, 2)]);
    assert_eq!(dossiers.peek(2).await, first);
    dossiers.confirm(first.iter().map(|w| w.number).collect()).await;
    drop(dossiers);

    let dossiers = Dossiers::open(dir.path(), key());
    assert_eq!(dossiers.waiting(), 3);
    dossiers.keep(dossier(1, 6)).await;
    assert_eq!(attempts(&dossiers).await, [3, 4, 5, 6]);
}

#[tokio::test]
async fn of_an_attempt_the_first_stays() {
    let dir = tempfile::tempdir().unwrap();
    let dossiers = Dossiers::open(dir.path(), key());
    dossiers.keep(dossier(1, 1)).await;
    dossiers.keep(Dossier { log_cut: true, ..dossier(1, 1) }).await;
    dossiers.keep(dossier(2, 1)).await;
    let held: Vec<_> = dossiers.peek(9).await.into_iter().map(|waiting| waiting.dossier).collect();
    assert_eq!(held, [dossier(1, 1), dossier(2, 1)]);
}

#[tokio::test]
async fn no_line_of_a_log_lies_on_the_disk_in_clear_and_none_is_shown_by_debug() {
    let dir = tempfile::tempdir().unwrap();
    let dossiers = Dossiers::open(dir.path(), key());
    dossiers.keep(dossier(1, 1)).await;
    let bytes = fs::read(&files(dir.path())[0]).unwrap();
    assert!(!bytes.windows(7).any(|part| part == b"hunter2"));
    let shown = format!("{:?}", dossiers.peek(1).await);
    assert!(shown.contains("0a1b") && !shown.contains("hunter2"), "{shown}");
    let piece = LogChunk { at: None, stderr: false, bytes: Bytes::from_static(b"hunter2") };
    let line = crate::logs::LogLine { at: at(0), stderr: false, text: piece.bytes.clone(), partial: false };
    assert!(!format!("{piece:?} {line:?}").contains("hunter2"));
}

#[tokio::test]
async fn a_file_that_is_torn_changed_moved_or_of_another_key_is_set_aside_and_the_rest_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let dossiers = Dossiers::open(dir.path(), key());
    for attempt in 1..=6 {
        dossiers.keep(dossier(1, attempt)).await;
    }
    drop(dossiers);
    let found = files(dir.path());
    let bytes = fs::read(&found[0]).unwrap();
    fs::write(&found[0], &bytes[..bytes.len() / 2]).unwrap();
    fs::write(&found[1], b"").unwrap();
    let mut changed = fs::read(&found[2]).unwrap();
    *changed.last_mut().unwrap() ^= 1;
    fs::write(&found[2], changed).unwrap();
    // One attempt's content under the name of another.
    fs::copy(&found[4], &found[3]).unwrap();
    let stranger = MasterKey::generate().unwrap().derive("x");
    fs::write(&found[5], [&[1][..], &stranger.seal(b"x", b"y").unwrap()].concat()).unwrap();
    let foreign = dir.path().join("notes.txt");
    fs::write(&foreign, b"somebody's").unwrap();
    let half = dir.path().join(".00000000000000000009-x.tmp");
    fs::write(&half, b"half").unwrap();

    let dossiers = Dossiers::open(dir.path(), key());
    assert_eq!(attempts(&dossiers).await, [5]);
    assert_eq!(dossiers.waiting(), 1);
    assert_eq!(files(&dir.path().join("set-aside")).len(), 5);
    assert!(foreign.exists() && !half.exists());
    drop(dossiers);
    assert_eq!(attempts(&Dossiers::open(dir.path(), key())).await, [5]);
}

#[tokio::test]
async fn no_more_is_kept_than_allowed_in_number_and_in_bytes_and_the_oldest_go_first() {
    let dir = tempfile::tempdir().unwrap();
    let open = |bounds| Dossiers::open_on(dir.path(), key(), Box::new(Disk), bounds);
    let dossiers = open(Bounds { count: 3, ..Bounds::default() });
    for attempt in 1..=5 {
        dossiers.keep(dossier(1, attempt)).await;
    }
    assert_eq!(attempts(&dossiers).await, [3, 4, 5]);
    assert_eq!(files(dir.path()).len(), 3);
    drop(dossiers);
    let size = fs::metadata(&files(dir.path())[0]).unwrap().len();
    let dossiers = open(Bounds { bytes: 2 * size + size / 2, ..Bounds::default() });
    assert_eq!(attempts(&dossiers).await, [4, 5]);
    assert_eq!(files(dir.path()).len(), 2);
}

#[tokio::test]
async fn a_batch_is_no_larger_than_a_call_may_be() {
    let dir = tempfile::tempdir().unwrap();
    let dossiers = Dossiers::open(dir.path(), key());
    let large = |attempt| {
        let line = |_| DossierLine { at: None, stderr: false, text: "x".repeat(16_000), partial: false };
        Dossier { log: (0..8).map(line).collect(), ..dossier(1, attempt) }
    };
    for attempt in 1..=20 {
        dossiers.keep(large(attempt)).await;
    }
    let batch = dossiers.peek(16).await;
    assert!((2..16).contains(&batch.len()), "{}", batch.len());
    let sizes = batch.iter().map(|w| protocol::wire_size(&protocol::proto::Dossier::from(&w.dossier)));
    assert!(sizes.sum::<usize>() <= 8 * LOG_BYTES_MAX + 1024);
}

/// A disk that is full when told so.
struct Full(Arc<AtomicBool>);

impl Volume for Full {
    fn replace(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        if self.0.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Disk.replace(path, bytes)
    }
}

#[tokio::test]
async fn a_full_disk_leaves_dossiers_in_memory_and_they_are_written_once_there_is_room() {
    let (dir, full) = (tempfile::tempdir().unwrap(), Arc::new(AtomicBool::new(true)));
    let bounds = Bounds { memory: 3, ..Bounds::default() };
    let dossiers = Dossiers::open_on(dir.path(), key(), Box::new(Full(full.clone())), bounds);
    for attempt in 1..=5 {
        dossiers.keep(dossier(1, attempt)).await;
    }
    assert_eq!(attempts(&dossiers).await, [3, 4, 5], "bounded in memory as well");
    assert_eq!(files(dir.path()).len(), 0);
    full.store(false, Ordering::Relaxed);
    dossiers.keep(dossier(1, 6)).await;
    assert_eq!(files(dir.path()).len(), 4);
    drop(dossiers);
    assert_eq!(attempts(&Dossiers::open(dir.path(), key())).await, [3, 4, 5, 6]);
}

#[tokio::test]
async fn a_directory_that_cannot_be_used_is_no_reason_to_keep_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("dossiers");
    fs::write(&file, b"in the way").unwrap();
    let dossiers = Dossiers::open(&file, key());
    dossiers.keep(dossier(1, 1)).await;
    let waiting = dossiers.peek(9).await;
    assert_eq!(waiting.len(), 1);
    dossiers.confirm(vec![waiting[0].number]).await;
    assert_eq!(dossiers.waiting(), 0);
}

/// An engine with one container, and what looks into its deaths.
struct World {
    engine: FakeRuntime,
    instance: InstanceId,
    recent: Recent,
    deaths: Deaths,
    dossiers: Dossiers,
    supervisor: Supervisor,
    _dir: TempDir,
}

impl World {
    async fn new(timing: Timing) -> Self {
        let (engine, dir) = (FakeRuntime::default(), tempfile::tempdir().unwrap());
        let instance = InstanceId::from_uuid(Uuid::now_v7());
        engine.add_image("app:1");
        let assignment = Assignment {
            instance_id: instance,
            deployment_id: DeploymentId::from_uuid(Uuid::nil()),
            deployment_name: "web".into(),
            revision: 1,
            spec: InstanceSpec::of_image("app:1"),
            desired: Desired::Running,
            restart_generation: 0,
            registry_credential: None,
        };
        let made = engine.create(&assignment).await.unwrap();
        engine.start(&made.container_id).await.unwrap();
        let (recent, dossiers) = (Recent::default(), Dossiers::open(dir.path(), key()));
        let (deaths, told) = Deaths::new();
        let supervisor = Supervisor::new(Handle::current());
        let parts = Parts {
            deaths: told,
            runtime: Arc::new(engine.clone()),
            recent: recent.clone(),
            dossiers: dossiers.clone(),
        };
        start_timed(&supervisor, parts, timing);
        Self { engine, instance, recent, deaths, dossiers, supervisor, _dir: dir }
    }

    fn write(&self, at: Timestamp, text: &str) {
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        self.engine.write_log(self.instance, LogChunk { at: Some(at), stderr: false, bytes });
    }

    /// The run that the engine shows, as one that has ended now.
    fn death(&self, attempt: u32) -> Death {
        let container = self.engine.container(self.instance).unwrap();
        Death {
            instance_id: self.instance,
            attempt,
            started_at: container.started_at,
            ended_at: container.finished_at.unwrap_or_else(Utc::now),
            outcome: Outcome::Exited { code: 3, oom: false },
            container_id: Some(container.container_id),
            memory_limit_bytes: Some(1 << 20),
            probes: Vec::new(),
        }
    }

    async fn dossiers(&self, count: usize) -> Vec<Dossier> {
        let begun = Instant::now();
        while self.dossiers.waiting() < count {
            assert!(begun.elapsed() < SOON, "waited in vain for {count} dossiers");
            sleep(Duration::from_millis(2)).await;
        }
        self.dossiers.peek(1000).await.into_iter().map(|waiting| waiting.dossier).collect()
    }

    async fn dossier(&self) -> Dossier {
        self.dossiers(1).await.remove(0)
    }
}

fn texts(dossier: &Dossier) -> Vec<&str> {
    dossier.log.iter().map(|line| line.text.as_str()).collect()
}

#[tokio::test]
async fn all_that_is_known_of_a_death_is_in_its_dossier() {
    let world = World::new(Timing::default()).await;
    let started = world.engine.container(world.instance).unwrap().started_at.unwrap();
    world.write(started, "one\ntwo\n");
    world.engine.exit(world.instance, 3);
    let mut death = world.death(1);
    let sample =
        |at, bytes| InstanceSample { memory_bytes: Some(bytes), ..InstanceSample::empty(world.instance, at) };
    // Of the run before, of this one, and of the next.
    let times = [started - TimeDelta::seconds(1), death.ended_at, death.ended_at + TimeDelta::seconds(1)];
    world.recent.push(&[sample(times[0], 1), sample(times[1], 2), sample(times[2], 3)]);
    let result = ProbeResult {
        at: started,
        took: Duration::from_millis(3),
        verdict: Verdict::Failed,
        message: "refused".into(),
    };
    death.probes = vec![DossierProbe { probe: 0, result }];
    world.deaths.tell(death.clone());
    let dossier = world.dossier().await;
    assert_eq!(texts(&dossier), ["one", "two"]);
    assert_eq!(dossier.memory.iter().map(|point| point.bytes).collect::<Vec<_>>(), [2]);
    assert_eq!(dossier.probes, death.probes);
    assert_eq!(
        (dossier.attempt, dossier.ended_at, dossier.outcome, dossier.memory_limit_bytes, dossier.log_cut),
        (1, death.ended_at, death.outcome, Some(1 << 20), false)
    );
}

#[tokio::test]
async fn no_text_of_the_next_run_gets_in_not_even_behind_an_unfinished_line() {
    let world = World::new(Timing::default()).await;
    world.engine.exit(world.instance, 3);
    world.engine.start_outside(world.instance);
    let next = world.engine.container(world.instance).unwrap().started_at.unwrap();
    let (started, ended) = (next - TimeDelta::seconds(10), next - TimeDelta::milliseconds(200));
    world.write(started, "first run\nunfinish");
    // As an engine does it: the last piece is stamped after the end, and the first ones of
    // the next run before its start.
    world.write(ended + TimeDelta::milliseconds(10), "ed");
    world.write(next - TimeDelta::milliseconds(20), "next run\n");
    for n in 0..3_000 {
        world.write(next, &format!("next run {n}\n"));
    }
    world.deaths.tell(Death { started_at: Some(started), ended_at: ended, ..world.death(1) });
    let dossier = world.dossier().await;
    assert_eq!((texts(&dossier), dossier.log_cut), (vec!["first run", "unfinished"], false));
}

#[tokio::test]
async fn runs_that_follow_each_other_quickly_each_keep_their_own_lines() {
    let world = World::new(Timing::default()).await;
    let mut told = Vec::new();
    for attempt in 1..=3_u32 {
        let begin = at(i64::from(attempt) * 1_000);
        // Stamped before the start, between, and after the end.
        for (offset, what) in [(-20, "first"), (100, "second"), (230, "last")] {
            world.write(begin + TimeDelta::milliseconds(offset), &format!("{what} of {attempt}\n"));
        }
        let (started_at, ended_at) = (Some(begin), begin + TimeDelta::milliseconds(200));
        told.push(Death { started_at, ended_at, ..world.death(attempt) });
    }
    // The engine is out of reach until all of them have come to pass.
    world.engine.fail_always(Call::Inspect, Fault::Error(RuntimeErrorKind::Unreachable));
    told.into_iter().for_each(|death| world.deaths.tell(death));
    let begun = Instant::now();
    while world.engine.count(Call::Inspect, None) < 6 {
        assert!(begun.elapsed() < SOON);
        sleep(Duration::from_millis(2)).await;
    }
    world.engine.heal(Call::Inspect);
    let mut dossiers = world.dossiers(3).await;
    dossiers.sort_by_key(|dossier| dossier.attempt);
    for dossier in dossiers {
        let own = |what| format!("{what} of {}", dossier.attempt);
        assert_eq!(texts(&dossier), ["first", "second", "last"].map(own));
        assert!(!dossier.log_cut);
    }
}

#[tokio::test]
async fn a_hanging_engine_gives_a_dossier_without_a_log() {
    for call in [Call::Inspect, Call::Logs] {
        let world = World::new(quick()).await;
        world.engine.exit(world.instance, 3);
        world.engine.fail_always(call, Fault::Hang);
        world.deaths.tell(world.death(1));
        let dossier = world.dossier().await;
        assert_eq!((dossier.log.len(), dossier.log_cut), (0, true), "{call:?}");
    }
}

#[tokio::test]
async fn an_engine_that_comes_back_in_time_is_asked_again() {
    let world = World::new(Timing::default()).await;
    let death = world.death(1);
    world.write(death.started_at.unwrap(), "here\n");
    world.engine.exit(world.instance, 3);
    world.engine.fail_next(Call::Inspect, Fault::Error(RuntimeErrorKind::Unreachable));
    world.engine.fail_next(Call::Logs, Fault::Error(RuntimeErrorKind::Unreachable));
    world.deaths.tell(world.death(1));
    let dossier = world.dossier().await;
    assert_eq!((texts(&dossier), dossier.log_cut), (vec!["here"], false));
}

#[tokio::test]
async fn where_the_container_is_gone_or_its_start_unknown_the_rest_is_kept() {
    let world = World::new(quick()).await;
    world.write(Utc::now(), "lost\n");
    let death = world.death(1);
    world.deaths.tell(Death { started_at: None, ..death.clone() });
    world.deaths.tell(Death { attempt: 2, container_id: None, ..death.clone() });
    world.dossiers(2).await;
    world.engine.remove_outside(world.instance);
    world.deaths.tell(Death { attempt: 3, ..death });
    let dossiers = world.dossiers(3).await;
    assert_eq!(dossiers.len(), 3);
    assert!(dossiers.iter().all(|dossier| dossier.log.is_empty() && dossier.log_cut));
    assert!(dossiers.iter().all(|dossier| dossier.outcome == Outcome::Exited { code: 3, oom: false }));
}

#[tokio::test]
async fn what_was_told_before_a_stop_is_kept_though_the_engine_hangs() {
    let timing = Timing { log: Duration::from_secs(3600), ..quick() };
    let world = World::new(timing).await;
    world.engine.fail_always(Call::Inspect, Fault::Hang);
    for attempt in 1..=40 {
        world.deaths.tell(world.death(attempt));
    }
    assert!(world.supervisor.shut_down(SOON).await, "it did not end by itself");
    assert_eq!(world.dossiers.waiting(), 40);
}

/// Says how much of the pieces that were handed out is still held by somebody.
struct Piece {
    text: Vec<u8>,
    held: Arc<AtomicUsize>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.text
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.held.fetch_sub(self.text.len(), Ordering::Relaxed);
    }
}

#[tokio::test]
async fn a_line_of_ten_megabytes_passes_through_in_marked_parts_and_nothing_piles_up() {
    const PIECE: usize = 16 * 1024;
    let held = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&held);
    let piece = move |n: usize| {
        count.fetch_add(PIECE, Ordering::Relaxed);
        let mut text = vec![b'x'; PIECE];
        if n == 639 {
            text[PIECE - 1] = b'\n';
        }
        let bytes = Bytes::from_owner(Piece { text, held: Arc::clone(&count) });
        Ok(LogChunk { at: Some(at(0)), stderr: false, bytes })
    };
    let mut lines = std::pin::pin!(crate::logs::lines(futures_util::stream::iter((0..640).map(piece))));
    let (mut tail, mut parts, mut most) = (super::tail::Tail::default(), Vec::new(), 0);
    while let Some(line) = futures_util::StreamExt::next(&mut lines).await {
        let line = line.unwrap();
        most = most.max(held.load(Ordering::Relaxed));
        parts.push((line.text.len(), line.partial));
        tail.add(&line);
    }
    assert!(most <= 2 * PIECE, "{most} bytes of pieces were held at once");
    let (last, rest) = parts.split_last().unwrap();
    assert!(rest.iter().all(|part| *part == (protocol::LOG_LINE_MAX_BYTES, true)) && !last.1);
    assert_eq!(parts.iter().map(|(length, _)| length).sum::<usize>(), 640 * PIECE - 1);
    let (lines, cut) = tail.finish();
    assert_eq!((lines.len(), lines[0].text.len(), lines[0].partial, cut), (1, 16 * 1024, true, false));
}
