use std::{fs, sync::atomic::Ordering};

use daemon::seal::MasterKey;
use domain::{
    Timestamp,
    assignment::Assignment,
    deployment::InstanceSpec,
    id::DeploymentId,
    instance::{Cause, Desired, InstanceStatus, Phase},
};
use futures_util::{FutureExt as _, future::join_all};
use uuid::Uuid;

use super::{
    testing::{Fault, FaultyDisk, Mounted, key},
    *,
};

fn id(n: u128) -> InstanceId {
    InstanceId::from_uuid(Uuid::from_u128(n))
}

fn assignment(n: u128) -> Assignment {
    let mut spec = InstanceSpec::of_image("app:1");
    spec.env.0.insert("PASSWORD".into(), "hunter2-in-the-clear".into());
    Assignment {
        instance_id: id(n),
        deployment_id: DeploymentId::from_uuid(Uuid::nil()),
        deployment_name: "web".into(),
        revision: 1,
        spec,
        desired: Desired::Running,
        restart_generation: 0,
        registry_credential: None,
    }
}

fn set(revision: u64, ids: impl IntoIterator<Item = u128>) -> AssignmentSet {
    let assignments = ids.into_iter().map(|n| (id(n), assignment(n))).collect();
    AssignmentSet { revision, assignments }
}

fn transition(n: u128, message: &str) -> Transition {
    Transition {
        instance_id: id(n),
        status: InstanceStatus::FIRST,
        cause: Cause::Process,
        message: message.into(),
        at: Timestamp::UNIX_EPOCH,
    }
}

fn remember(n: u128) -> RecordChange {
    RecordChange { instance_id: id(n), record: Some(Record::new(id(n))) }
}

fn state(ledger: &Ledger) -> State {
    ledger.shared.read().clone()
}

fn seqs(ledger: &Ledger) -> Vec<u64> {
    ledger.reports_after(0, usize::MAX).iter().map(|report| report.seq).collect()
}

fn journal(dir: &Path) -> PathBuf {
    let mut found: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("journal-"))
        .collect();
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

#[tokio::test]
async fn what_was_answered_is_there_after_it_is_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(dir.path(), key()).unwrap();
    assert!(!ledger.complete_received());
    assert_eq!(ledger.assignments_replace(set(1, [1, 2])).await.unwrap(), Applied::Yes);
    let delta = set(1, [1, 2]).delta_to(&set(2, [2, 3]));
    assert_eq!(ledger.assignments_apply(delta.clone()).await.unwrap(), Applied::Yes);
    assert_eq!(ledger.assignments_apply(delta).await.unwrap(), Applied::Stale);
    let gap = AssignmentDelta { base_revision: 7, revision: 8, upserts: vec![], removals: vec![] };
    assert_eq!(ledger.assignments_apply(gap).await.unwrap(), Applied::Gap);
    let last = ledger.commit(vec![remember(2), remember(3)], vec![transition(2, "a"), transition(3, "b")]);
    assert_eq!(last.await.unwrap(), 2);
    let forget = vec![RecordChange { instance_id: id(3), record: None }];
    assert_eq!(ledger.commit(forget, vec![transition(3, "c")]).await.unwrap(), 3);
    ledger.acknowledge(1).await.unwrap();
    let before = state(&ledger);
    ledger.close().await;
    assert!(matches!(ledger.commit(vec![remember(1)], vec![]).await, Err(LedgerError::Closed)));
    let again = Ledger::open(dir.path(), key()).unwrap();
    assert_eq!(state(&again), before);
    assert_eq!((again.assignments().revision, again.complete_received()), (2, false));
    assert_eq!(again.records().keys().copied().collect::<Vec<_>>(), [id(1), id(2)]);
    assert_eq!(seqs(&again), [2, 3]);
    assert_eq!(*again.reports_changed().borrow(), 3);
}

#[tokio::test]
async fn the_first_complete_set_since_it_was_opened_counts_even_when_it_says_nothing_new() {
    let dir = tempfile::tempdir().unwrap();
    for expected in [Applied::Yes, Applied::Stale] {
        let ledger = Ledger::open(dir.path(), key()).unwrap();
        assert!(!ledger.complete_received(), "what is on disk may be old");
        let mut changed = ledger.assignments_changed();
        assert_eq!(ledger.assignments_replace(set(1, [1])).await.unwrap(), expected);
        assert!(ledger.complete_received());
        assert!(changed.has_changed().unwrap(), "whoever waits for it is woken");
        changed.mark_unchanged();
        ledger.close().await;
    }
}

#[tokio::test]
async fn readers_are_woken_and_then_find_what_woke_them() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(dir.path(), key()).unwrap();
    let (mut assignments, mut reports) = (ledger.assignments_changed(), ledger.reports_changed());
    let _ = ledger.assignments_replace(set(5, [1])).await.unwrap();
    ledger.commit(vec![], vec![transition(1, "a")]).await.unwrap();
    assignments.changed().await.unwrap();
    reports.changed().await.unwrap();
    assert_eq!((*assignments.borrow(), *reports.borrow()), (5, 1));
    ledger.acknowledge(1).await.unwrap();
    assert!(!reports.has_changed().unwrap(), "an acknowledgement is no news");
    let _ = ledger.assignments_replace(set(5, [1, 2])).await.unwrap();
    assignments.changed().await.unwrap();
}

/// Writes three entries and says where in the journal each of them ends, and what
/// the state was then.
async fn three_entries(dir: &Path) -> Vec<(usize, State)> {
    let ledger = Ledger::open(dir, key()).unwrap();
    let mut points = vec![(0, state(&ledger))];
    for n in 1..=3 {
        ledger.commit(vec![remember(n)], vec![transition(n, "happened")]).await.unwrap();
        points.push((fs::metadata(journal(dir)).unwrap().len().try_into().unwrap(), state(&ledger)));
    }
    ledger.close().await;
    points
}

/// The state at the last entry that ends at or before `good` bytes.
fn last_good(points: &[(usize, State)], good: usize) -> &State {
    &points.iter().rev().find(|(end, _)| *end <= good).unwrap().1
}

#[tokio::test]
async fn a_journal_torn_at_any_byte_leads_to_the_last_good_state() {
    let dir = tempfile::tempdir().unwrap();
    let points = three_entries(dir.path()).await;
    let path = journal(dir.path());
    let whole = fs::read(&path).unwrap();
    for length in 0..=whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        let ledger = Ledger::open(dir.path(), key()).unwrap();
        assert_eq!(&state(&ledger), last_good(&points, length), "cut to {length}");
        ledger.close().await;
    }
}

#[tokio::test]
async fn a_journal_corrupted_at_any_byte_leads_to_the_last_good_state_and_can_be_written_on() {
    let dir = tempfile::tempdir().unwrap();
    let points = three_entries(dir.path()).await;
    let path = journal(dir.path());
    let whole = fs::read(&path).unwrap();
    for at in 0..whole.len() {
        let mut corrupt = whole.clone();
        corrupt[at] ^= 0x55;
        fs::write(&path, &corrupt).unwrap();
        let ledger = Ledger::open(dir.path(), key()).unwrap();
        assert_eq!(&state(&ledger), last_good(&points, at), "byte {at}");
        if at % 50 != 0 {
            ledger.close().await;
            continue;
        }
        ledger.commit(vec![remember(9)], vec![]).await.unwrap();
        let before = state(&ledger);
        ledger.close().await;
        let again = Ledger::open(dir.path(), key()).unwrap();
        assert_eq!(state(&again), before, "byte {at}");
        again.close().await;
    }
}

#[tokio::test]
async fn entries_cannot_change_places() {
    let dir = tempfile::tempdir().unwrap();
    let points = three_entries(dir.path()).await;
    let path = journal(dir.path());
    let whole = fs::read(&path).unwrap();
    let (first, second) = (points[1].0, points[2].0);
    fs::write(&path, [&whole[first..second], &whole[..first], &whole[second..]].concat()).unwrap();
    assert_eq!(state(&Ledger::open(dir.path(), key()).unwrap()), points[0].1);
}

#[tokio::test]
async fn another_key_is_refused_and_nothing_is_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    three_entries(dir.path()).await;
    let content = || {
        let mut files: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .map(|path| (path.clone(), fs::read(path).unwrap()))
            .collect();
        files.sort();
        files
    };
    let before = content();
    let other = MasterKey::generate().unwrap().derive("another");
    assert!(matches!(Ledger::open(dir.path(), other), Err(LedgerError::OtherKey { .. })));
    assert_eq!(content(), before);
}

#[tokio::test]
async fn a_damaged_or_missing_snapshot_is_an_error_and_not_a_new_beginning() {
    let dir = tempfile::tempdir().unwrap();
    three_entries(dir.path()).await;
    let path = dir.path().join("snapshot");
    let good = fs::read(&path).unwrap();
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    for bad in [vec![], vec![0], flipped, good[..20].to_vec()] {
        fs::write(&path, &bad).unwrap();
        assert!(matches!(Ledger::open(dir.path(), key()), Err(LedgerError::Damaged { .. })));
        assert_eq!(fs::read(&path).unwrap(), bad);
    }
    fs::remove_file(&path).unwrap();
    assert!(matches!(Ledger::open(dir.path(), key()), Err(LedgerError::Damaged { .. })));
    fs::write(&path, &good).unwrap();
    assert_eq!(seqs(&Ledger::open(dir.path(), key()).unwrap()), [1, 2, 3]);
}

#[tokio::test]
async fn two_agents_cannot_have_one_ledger() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(dir.path(), key()).unwrap();
    assert!(matches!(Ledger::open(dir.path(), key()), Err(LedgerError::InUse { .. })));
    ledger.close().await;
    assert!(Ledger::open(dir.path(), key()).is_ok());
}

#[tokio::test]
async fn no_secret_is_in_the_files() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(dir.path(), key()).unwrap();
    let _ = ledger.assignments_replace(set(1, [1])).await.unwrap();
    ledger.close().await;
    for entry in fs::read_dir(dir.path()).unwrap() {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        assert!(!bytes.windows(7).any(|window| window == b"hunter2"));
    }
}

#[tokio::test]
async fn a_disk_that_fails_changes_nothing_and_all_is_well_once_it_is_mended() {
    for fault in [Fault::Full, Fault::ReadOnly, Fault::SyncFails] {
        let dir = tempfile::tempdir().unwrap();
        let disk = FaultyDisk::default();
        let ledger = disk.open(dir.path()).unwrap();
        ledger.commit(vec![remember(1)], vec![transition(1, "a")]).await.unwrap();
        let before = state(&ledger);
        disk.set(fault);
        for _ in 0..2 {
            let refused = ledger.commit(vec![remember(2)], vec![transition(2, "b")]).await;
            assert!(matches!(refused, Err(LedgerError::Io { .. })));
            assert!(ledger.assignments_replace(set(1, [1])).await.is_err());
            assert_eq!(state(&ledger), before, "memory does not run ahead of the disk");
        }
        disk.set(Fault::None);
        assert_eq!(ledger.commit(vec![remember(3)], vec![transition(3, "c")]).await.unwrap(), 2);
        let after = state(&ledger);
        ledger.close().await;
        let again = Ledger::open(dir.path(), key()).unwrap();
        assert_eq!(state(&again), after);
        assert_eq!(again.records().keys().copied().collect::<Vec<_>>(), [id(1), id(3)]);
    }
}

#[tokio::test]
async fn a_crash_while_the_disk_is_full_leaves_what_was_answered() {
    let dir = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::default();
    let ledger = disk.open(dir.path()).unwrap();
    ledger.commit(vec![remember(1)], vec![]).await.unwrap();
    disk.set(Fault::Full);
    assert!(ledger.commit(vec![remember(2)], vec![]).await.is_err());
    ledger.close().await;
    let again = Ledger::open(dir.path(), key()).unwrap();
    assert_eq!(again.records().keys().copied().collect::<Vec<_>>(), [id(1)]);
}

#[tokio::test]
async fn a_long_journal_is_folded_and_nothing_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(dir.path(), key()).unwrap();
    let text = "x".repeat(4000);
    let commits = (0..600).map(|n| ledger.commit(vec![remember(n % 7)], vec![transition(n % 7, &text)]));
    join_all(commits).await.into_iter().for_each(|written| assert!(written.is_ok()));
    ledger.acknowledge(590).await.unwrap();
    let before = state(&ledger);
    ledger.close().await;
    let path = journal(dir.path());
    assert_ne!(path.file_name().unwrap(), "journal-1");
    assert!(fs::metadata(path).unwrap().len() < 2 * 1024 * 1024);
    let again = Ledger::open(dir.path(), key()).unwrap();
    assert_eq!(state(&again), before);
    assert_eq!(seqs(&again), (591..=600).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_crash_between_snapshot_and_journal_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let points = three_entries(dir.path()).await;
    fs::write(dir.path().join("journal-2"), b"left over by a fold that failed").unwrap();
    let ledger = Ledger::open(dir.path(), key()).unwrap();
    assert_eq!(state(&ledger), points[3].1);
    ledger.close().await;
    assert_eq!(journal(dir.path()).file_name().unwrap(), "journal-1");
}

#[tokio::test]
async fn too_many_reports_drop_the_oldest_that_is_not_an_instances_latest() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(dir.path(), key()).unwrap();
    ledger.commit(vec![], vec![transition(1, "the only one of 1")]).await.unwrap();
    let many = (0..REPORTS_MAX + 5).map(|_| transition(2, "again")).collect();
    ledger.commit(vec![], many).await.unwrap();
    let kept = seqs(&ledger);
    assert_eq!((kept.len(), ledger.reports_dropped()), (REPORTS_MAX, 6));
    assert_eq!(kept[..2], [1, 8]);
    ledger.close().await;
    assert_eq!(seqs(&Ledger::open(dir.path(), key()).unwrap()), kept);
}

#[tokio::test]
async fn reports_are_handed_out_in_order_and_in_pieces() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(dir.path(), key()).unwrap();
    ledger.commit(vec![], (0..10).map(|_| transition(1, "a")).collect()).await.unwrap();
    let piece = |after, max| ledger.reports_after(after, max).iter().map(|r| r.seq).collect::<Vec<_>>();
    assert_eq!(piece(0, 3), [1, 2, 3]);
    assert_eq!(piece(8, 100), [9, 10]);
    assert_eq!(piece(10, 100), Vec::<u64>::new());
    assert_eq!(piece(u64::MAX, 100), Vec::<u64>::new());
}

#[tokio::test]
async fn reports_that_a_lost_tail_numbered_twice_are_numbered_anew() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(dir.path(), key()).unwrap();
    ledger.commit(vec![], vec![transition(1, "a"), transition(2, "b")]).await.unwrap();
    let (acknowledged, committed) =
        tokio::join!(ledger.acknowledge(40), ledger.commit(vec![], vec![transition(3, "c")]));
    acknowledged.unwrap();
    assert_eq!(committed.unwrap(), 43);
    assert_eq!(seqs(&ledger), [41, 42, 43]);
    let before = state(&ledger);
    ledger.close().await;
    assert_eq!(state(&Ledger::open(dir.path(), key()).unwrap()), before);
}

#[tokio::test]
async fn commits_that_come_together_share_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::default();
    let ledger = disk.open(dir.path()).unwrap();
    let held = disk.gate.clone();
    let held = held.lock().unwrap();
    let mut commits = Box::pin(join_all((0..500).map(|n| ledger.commit(vec![remember(n)], vec![]))));
    // All are queued behind the first, which waits for the disk.
    assert!((&mut commits).now_or_never().is_none());
    drop(held);
    assert!(commits.await.iter().all(Result::is_ok));
    assert!(disk.syncs.load(Ordering::Relaxed) <= 4);
    assert_eq!(ledger.records().len(), 500);
}

#[tokio::test]
async fn an_instance_is_remembered_from_its_first_assignment_with_the_restarts_it_had_then() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(dir.path(), key()).unwrap();
    let asked = |generation| Assignment { restart_generation: generation, ..assignment(1) };
    let with = |revision, a: Assignment| AssignmentSet { revision, assignments: [(id(1), a)].into() };
    let _ = ledger.assignments_replace(with(1, asked(3))).await.unwrap();
    let _ = ledger.assignments_apply(with(1, asked(3)).delta_to(&with(2, asked(4)))).await.unwrap();
    assert_eq!(ledger.record(id(1)).unwrap().status.restart_generation, 3);
    ledger.close().await;
    let again = Ledger::open(dir.path(), key()).unwrap();
    assert_eq!(again.record(id(1)).unwrap().status.restart_generation, 3, "4 is still to be carried out");
}

#[tokio::test]
async fn a_controller_that_went_back_is_told_anew_how_things_stand() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(dir.path(), key()).unwrap();
    let mut runs = Record::new(id(1));
    runs.status.progress.phase = Phase::Running;
    let change = RecordChange { instance_id: id(1), record: Some(runs.clone()) };
    ledger.commit(vec![change, remember(2)], vec![transition(1, "a"), transition(1, "b")]).await.unwrap();
    ledger.resume(0).await.unwrap();
    assert_eq!(seqs(&ledger), [1, 2], "it has nothing yet, and had nothing before");
    ledger.resume(2).await.unwrap();
    assert_eq!(seqs(&ledger), Vec::<u64>::new());
    ledger.resume(1).await.unwrap();
    let told = ledger.reports_after(1, 10);
    assert_eq!(told.iter().map(|r| (r.seq, r.instance_id)).collect::<Vec<_>>(), [(3, id(1))]);
    assert_eq!(told[0].status, runs.status);
    ledger.resume(1).await.unwrap();
    assert_eq!(seqs(&ledger), [3], "once");
    let before = state(&ledger);
    ledger.close().await;
    assert_eq!(state(&Ledger::open(dir.path(), key()).unwrap()), before);
}

/// An entry of a kind that this version does not know, sealed and in its place.
fn write_entry_of_a_newer_agent(dir: &Path, ledger: State, index: u64) {
    let path = journal(dir);
    let aad = [
        b"ledger entry".as_slice(),
        ledger.stream.uuid().as_bytes(),
        &1_u64.to_le_bytes(),
        &index.to_le_bytes(),
    ]
    .concat();
    let sealed = key().seal(&aad, br#"{"of_a_later_kind":{}}"#).unwrap();
    let length = u32::try_from(sealed.len()).unwrap().to_le_bytes();
    let whole = [fs::read(&path).unwrap(), length.to_vec(), sealed].concat();
    fs::write(path, whole).unwrap();
}

#[tokio::test]
async fn what_a_newer_agent_wrote_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let points = three_entries(dir.path()).await;
    write_entry_of_a_newer_agent(dir.path(), points[3].1.clone(), 3);
    let before = fs::read(journal(dir.path())).unwrap();
    let error = Ledger::open(dir.path(), key()).err().unwrap();
    assert!(matches!(error, LedgerError::Newer { .. }), "{error}");
    assert!(error.to_string().contains("a newer agent wrote it"), "{error}");
    assert_eq!(fs::read(journal(dir.path())).unwrap(), before, "nothing is cut off that was answered for");

    let snapshot = dir.path().join("snapshot");
    let mut newer = fs::read(&snapshot).unwrap();
    newer[0] += 1;
    fs::write(&snapshot, &newer).unwrap();
    assert!(matches!(Ledger::open(dir.path(), key()), Err(LedgerError::Newer { .. })));
    assert_eq!(fs::read(&snapshot).unwrap(), newer);
}

#[tokio::test]
async fn reports_are_bounded_in_bytes_and_the_latest_of_each_instance_stays() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(dir.path(), key()).unwrap();
    let text = "x".repeat(TEXT_MAX_BYTES);
    for n in 0..40 {
        ledger.commit(vec![], (0..64).map(|_| transition(n, &text)).collect()).await.unwrap();
    }
    let kept = ledger.reports_after(0, usize::MAX);
    let bytes: usize = kept.iter().map(weight).sum();
    assert!(bytes <= REPORTS_MAX_BYTES && bytes > REPORTS_MAX_BYTES - 2 * TEXT_MAX_BYTES, "{bytes}");
    assert_eq!(ledger.reports_dropped() as usize + kept.len(), 40 * 64);
    let latest = |n| kept.iter().rfind(|report| report.instance_id == id(n)).map(|report| report.seq);
    assert!((0..40).all(|n| latest(n) == Some(u64::try_from(n + 1).unwrap() * 64)));
    assert_eq!(kept.iter().filter(|report| report.instance_id == id(0)).count(), 1, "the oldest went first");
    ledger.close().await;
    let again = Ledger::open(dir.path(), key()).unwrap();
    again.acknowledge(39 * 64).await.unwrap();
    again.commit(vec![], (0..2000).map(|_| transition(1, &text)).collect()).await.unwrap();
    let bytes: usize = again.reports_after(0, usize::MAX).iter().map(weight).sum();
    assert!(bytes <= REPORTS_MAX_BYTES && bytes > REPORTS_MAX_BYTES - 2 * TEXT_MAX_BYTES, "{bytes}");
}

#[tokio::test]
async fn a_text_without_end_is_cut() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(dir.path(), key()).unwrap();
    ledger.commit(vec![], vec![transition(1, &"ä".repeat(1_000_000))]).await.unwrap();
    let message = &ledger.reports_after(0, 1)[0].message;
    assert!(message.len() <= TEXT_MAX_BYTES + 4 && message.ends_with("ä…"), "{}", message.len());
}

#[tokio::test]
async fn a_ledger_on_a_read_only_disk_is_read_and_written_again_once_it_can_be() {
    let disk = Mounted::new("4m");
    let points = three_entries(disk.path()).await;
    // A torn end, which cannot be cut off there.
    let path = journal(disk.path());
    fs::write(&path, [fs::read(&path).unwrap(), vec![7; 9]].concat()).unwrap();
    disk.remount("ro");
    let ledger = Ledger::open(disk.path(), key()).unwrap();
    assert_eq!(state(&ledger), points[3].1, "what it holds is known");
    assert!(matches!(Ledger::open(disk.path(), key()), Err(LedgerError::InUse { .. })), "and one's own");
    for _ in 0..2 {
        let refused = ledger.commit(vec![remember(9)], vec![transition(9, "a")]).await;
        assert!(matches!(refused, Err(LedgerError::Io { .. })), "{refused:?}");
    }
    assert_eq!(state(&ledger), points[3].1);
    disk.remount("rw");
    assert_eq!(ledger.commit(vec![remember(9)], vec![transition(9, "a")]).await.unwrap(), 4);
    let after = state(&ledger);
    ledger.close().await;
    let again = Ledger::open(disk.path(), key()).unwrap();
    assert_eq!(state(&again), after);
    again.close().await;
}

#[tokio::test]
async fn a_disk_that_is_really_full_changes_nothing_and_all_is_well_once_there_is_room() {
    let disk = Mounted::new("1m");
    let dir = disk.path().join("ledger");
    let ledger = Ledger::open(&dir, key()).unwrap();
    ledger.commit(vec![remember(1)], vec![transition(1, "a")]).await.unwrap();
    let before = state(&ledger);
    let filler = disk.path().join("filler");
    assert!(fs::write(&filler, vec![0; 2 << 20]).is_err(), "it takes what there is room for");
    let large = transition(1, &"x".repeat(TEXT_MAX_BYTES));
    for _ in 0..3 {
        assert!(ledger.commit(vec![remember(2)], vec![large.clone(); 3]).await.is_err());
        assert_eq!(state(&ledger), before);
        let trouble = ledger.trouble().borrow().clone().unwrap();
        assert!(trouble.starts_with("failed to write ledger file") && trouble.contains("space"), "{trouble}");
    }
    ledger.close().await;
    // So does one that is opened on it.
    let ledger = Ledger::open(&dir, key()).unwrap();
    assert_eq!(state(&ledger), before);
    assert!(ledger.commit(vec![remember(2)], vec![large.clone(); 3]).await.is_err());
    fs::remove_file(filler).unwrap();
    assert_eq!(ledger.commit(vec![remember(2)], vec![large; 3]).await.unwrap(), 4);
    assert_eq!(*ledger.trouble().borrow(), None);
    let after = state(&ledger);
    ledger.close().await;
    let again = Ledger::open(&dir, key()).unwrap();
    assert_eq!(state(&again), after);
    again.close().await;
}

mod crash {
    //! A disk that loses power after any number of bytes.

    use std::{
        fs::File,
        io::{self, Write as _},
        sync::Mutex,
    };

    use proptest::prelude::*;

    use super::*;

    /// Takes so many bytes and then nothing any more, as if it had stopped there.
    /// What is replaced atomically is there whole or not at all.
    #[derive(Clone)]
    struct Failing(Arc<Mutex<usize>>);

    impl Failing {
        fn take(&self, wanted: usize) -> usize {
            let mut left = self.0.lock().unwrap();
            let taken = wanted.min(*left);
            *left -= taken;
            taken
        }
        fn lives(&self) -> io::Result<()> {
            if *self.0.lock().unwrap() == 0 { Err(io::Error::other("no power")) } else { Ok(()) }
        }
    }

    impl crate::ledger::disk::Volume for Failing {
        fn append(&mut self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
            let taken = self.take(bytes.len());
            file.write_all(&bytes[..taken])?;
            self.lives()
        }
        fn sync(&mut self, _: &File) -> io::Result<()> {
            self.lives()
        }
        fn cut(&mut self, file: &File, length: u64) -> io::Result<()> {
            self.lives()?;
            file.set_len(length)
        }
        fn replace(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()> {
            if self.take(bytes.len()) < bytes.len() {
                return Err(io::Error::other("no power"));
            }
            daemon::files::write_atomic(path, bytes, 0o600)
        }
    }

    /// What is asked of a ledger.
    #[derive(Clone, Debug)]
    enum Ask {
        Replace(Vec<u128>),
        Change(Vec<u128>),
        Commit(u128, usize),
        Forget(u128),
        Acknowledge(u64),
        Resume(u64),
    }

    fn ask() -> impl Strategy<Value = Ask> {
        let ids = || prop::collection::vec(0_u128..5, 0..4);
        prop_oneof![
            ids().prop_map(Ask::Replace),
            ids().prop_map(Ask::Change),
            (0_u128..5, 0_usize..40_000).prop_map(|(n, size)| Ask::Commit(n, size)),
            (0_u128..5).prop_map(Ask::Forget),
            (0_u64..8).prop_map(Ask::Acknowledge),
            (0_u64..8).prop_map(Ask::Resume),
        ]
    }

    async fn carry_out(ledger: &Ledger, ask: Ask) -> Result<(), LedgerError> {
        let revision = ledger.assignments().revision;
        match ask {
            Ask::Replace(ids) => ledger.assignments_replace(set(revision + 1, ids)).await.map(drop),
            Ask::Change(ids) => {
                let delta = ledger.assignments().delta_to(&set(revision + 1, ids));
                ledger.assignments_apply(delta).await.map(drop)
            }
            Ask::Commit(n, size) => {
                let many = (0..=size / 4000).map(|_| transition(n, &"x".repeat(size.min(4000)))).collect();
                ledger.commit(vec![remember(n)], many).await.map(drop)
            }
            Ask::Forget(n) => {
                ledger.commit(vec![RecordChange { instance_id: id(n), record: None }], vec![]).await.map(drop)
            }
            Ask::Acknowledge(seq) => ledger.acknowledge(seq).await,
            Ask::Resume(seq) => ledger.resume(seq).await,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn a_crash_after_any_byte_leaves_all_that_was_answered_for(
            asks in prop::collection::vec(ask(), 1..14), bytes in 300_usize..60_000,
        ) {
            let tokio = tokio::runtime::Builder::new_current_thread().build().unwrap();
            tokio.block_on(async {
                let dir = tempfile::tempdir().unwrap();
                let disk = Failing(Arc::new(Mutex::new(bytes)));
                let Ok((files, start)) = crate::ledger::disk::Files::open(dir.path(), key(), Box::new(disk)) else {
                    return;
                };
                let ledger = Ledger::start(files, start).unwrap();
                for ask in asks {
                    if carry_out(&ledger, ask).await.is_err() {
                        break;
                    }
                }
                let answered = state(&ledger);
                ledger.close().await;
                let again = Ledger::open(dir.path(), key()).unwrap();
                assert_eq!(state(&again), answered);
                again.close().await;
            });
        }
    }
}
