//! Digests, sizes, leases and deaths.

use domain::{
    dossier::DossierProbe,
    spec::{PullPolicy, StorageExceeded},
};

use super::*;
use crate::runtime::ImageInfo;

const LIMIT: u64 = 1024 * 1024;

fn digest(engine: &FakeRuntime) {
    let digest = Some("sha256:d1".to_owned());
    engine.describe_image("app:1", ImageInfo { digest, ..ImageInfo::default() });
}

fn has_digest(agent: &Agent, n: u128) -> bool {
    agent.last(n).is_some_and(|r| r.status.image_digest.as_deref() == Some("sha256:d1"))
}

fn sizes(sizes: &[(u128, u64)]) -> Sizes {
    Arc::new(sizes.iter().map(|(n, bytes)| (id(*n), *bytes)).collect())
}

#[tokio::test]
async fn an_image_is_asked_after_once_for_all_that_run_it() {
    let (dir, engine) = (tempfile::tempdir().unwrap(), FakeRuntime::default());
    engine.add_image("app:1");
    digest(&engine);
    let agent = Agent::start(dir.path(), &engine).await;
    let present = |n| {
        let mut present = assignment(n);
        present.spec.pull = PullPolicy::Never;
        present
    };
    agent.assign((1..=5).map(present)).await;
    until("each has a digest", || (1..=5).all(|n| has_digest(&agent, n) && agent.is_healthy(n))).await;
    engine.kill(id(1), 9);
    agent.healthy_since(1, 2).await;
    assert!(has_digest(&agent, 1));
    assert_eq!(engine.count(Call::ImagePresent, None), 1);
    agent.stop().await;
}

#[tokio::test]
async fn a_digest_that_could_not_be_found_out_is_asked_for_again() {
    let (dir, engine) = (tempfile::tempdir().unwrap(), FakeRuntime::default());
    engine.add_image("app:1");
    digest(&engine);
    engine.fail_next(Call::ImagePresent, Fault::Error(RuntimeErrorKind::Timeout));
    let agent = Agent::start(dir.path(), &engine).await;
    let mut present = assignment(1);
    present.spec.pull = PullPolicy::Never;
    agent.assign([present]).await;
    agent.healthy(1).await;
    until("it has a digest", || has_digest(&agent, 1)).await;
    assert_eq!(agent.last(1).unwrap().message, "its image is sha256:d1");
    assert_eq!(engine.count(Call::ImagePresent, None), 2);
    agent.stop().await;
}

fn limited(policy: StorageExceeded) -> Assignment {
    let mut limited = assignment(1);
    limited.spec.limits.storage_bytes = Some(LIMIT);
    limited.spec.limits.storage_exceeded = policy;
    limited
}

#[tokio::test]
async fn one_that_is_over_its_limit_is_marked_and_left_running() {
    let (dir, engine) = (tempfile::tempdir().unwrap(), FakeRuntime::default());
    let agent = Agent::start(dir.path(), &engine).await;
    agent.assign([limited(StorageExceeded::Mark)]).await;
    agent.healthy(1).await;
    for (bytes, marked) in [(LIMIT + 1, true), (LIMIT / 2, false)] {
        agent.storage.send_replace(sizes(&[(1, bytes), (77, LIMIT)]));
        until("it is told", || agent.last(1).unwrap().status.storage_exceeded == marked).await;
        agent.storage.send_replace(sizes(&[(1, bytes)]));
    }
    looked_anew(&agent, &engine).await;
    assert_eq!(agent.reports(1).iter().filter(|r| r.cause == Cause::Storage).count(), 2, "each once");
    assert_eq!(engine.count(Call::Stop, None), 0);
    agent.stop().await;
}

#[tokio::test]
async fn one_that_is_over_its_limit_is_stopped_and_begins_with_an_empty_layer_when_it_is_asked_for() {
    let (dir, engine) = (tempfile::tempdir().unwrap(), FakeRuntime::default());
    let agent = Agent::start(dir.path(), &engine).await;
    agent.assign([limited(StorageExceeded::Stop)]).await;
    agent.healthy(1).await;
    agent.storage.send_replace(sizes(&[(1, 2 * LIMIT)]));
    until("it is stopped", || agent.last(1).unwrap().status.progress.phase == Phase::Ended).await;
    let last = agent.last(1).unwrap();
    let Some(Outcome::Failed { reason, message, .. }) = last.status.outcome else { panic!("{last:?}") };
    assert_eq!((reason, last.cause), (FailureReason::StorageExceeded, Cause::Storage));
    assert_eq!(message, "its writable layer is over its limit: 2 MiB of 1 MiB");
    assert_eq!(agent.death().unwrap().attempt, 1);
    looked_anew(&agent, &engine).await;
    assert_eq!(engine.count(Call::Start, None), 1, "it stays down");
    let asked = Assignment { restart_generation: 1, ..limited(StorageExceeded::Stop) };
    agent.assign([asked]).await;
    agent.healthy_since(1, 2).await;
    // What was measured of the container before says nothing of this one.
    agent.storage.send_replace(sizes(&[(1, 2 * LIMIT)]));
    looked_anew(&agent, &engine).await;
    assert!(agent.is_healthy(1) && !agent.last(1).unwrap().status.storage_exceeded);
    assert_eq!((engine.count(Call::Create, None), engine.count(Call::Remove, None)), (2, 1));
    agent.storage.send_replace(sizes(&[(1, 2 * LIMIT)]));
    until("it is stopped again", || engine.running() == 0).await;
    agent.stop().await;
}

#[tokio::test]
async fn without_a_word_of_the_controller_one_is_stopped_and_with_a_new_one_it_runs_again() {
    let (dir, engine) = (tempfile::tempdir().unwrap(), FakeRuntime::default());
    let agent = Agent::start(dir.path(), &engine).await;
    let mut leased = assignment(1);
    leased.spec.stop_after_seconds = Some(1);
    agent.assign([leased, assignment(2)]).await;
    agent.healthy(2).await;
    until("it is stopped", || {
        matches!(agent.last(1).unwrap().status.outcome, Some(Outcome::Stopped { code: Some(143) }))
    })
    .await;
    assert_eq!(agent.last(1).unwrap().cause, Cause::LeaseExpired);
    assert!(agent.lease.age() > Duration::from_secs(1));
    assert!(agent.death().is_none(), "it was asked to");
    let starts = engine.count(Call::Start, Some(id(1)));
    looked_anew(&agent, &engine).await;
    assert_eq!(engine.count(Call::Start, Some(id(1))), starts, "no word, no start");
    until("it runs again", || {
        agent.lease.renew();
        agent.is_healthy_since(1, 2)
    })
    .await;
    assert_eq!(agent.last(2).unwrap().status.progress.attempt, 1, "who needs no word goes on");
    agent.stop().await;
}

#[tokio::test]
async fn each_end_that_was_not_asked_for_is_told_once() {
    let (dir, engine) = (tempfile::tempdir().unwrap(), FakeRuntime::default());
    engine.refuse_image("missing:1", FailureReason::ImageNotFound);
    let agent = Agent::start(dir.path(), &engine).await;
    let mut missing = assignment(2);
    missing.spec.image = "missing:1".into();
    agent.assign([assignment(1), missing.clone()]).await;
    agent.healthy(1).await;
    let container = engine.container(id(1)).unwrap();
    engine.exit(id(1), 3);
    agent.healthy_since(1, 2).await;
    let death = agent.death().unwrap();
    assert_eq!((death.instance_id, death.attempt), (id(1), 1));
    assert_eq!(death.outcome, Outcome::Exited { code: 3, oom: false });
    assert_eq!((death.started_at, death.container_id), (container.started_at, Some(container.container_id)));
    assert_eq!(death.memory_limit_bytes, Some(assignment(1).spec.limits.memory_bytes));
    assert_eq!(death.probes, [] as [DossierProbe; 0]);
    agent.assign([Assignment { desired: Desired::Removed, ..assignment(1) }, missing]).await;
    until("it is gone", || agent.last(1).is_some_and(|r| r.status.progress.removed)).await;
    until("the other failed", || agent.last(2).is_some_and(|r| r.status.outcome.is_some())).await;
    assert!(agent.death().is_none(), "neither a stop nor what never ran");
    agent.stop().await;
}

#[test]
fn leases_are_looked_at_when_they_end_while_they_are_out_and_now_and_then() {
    let seconds = Duration::from_secs;
    let mut leased = assignment(1);
    leased.spec.stop_after_seconds = Some(60);
    let mut stopped = Assignment { desired: Desired::Stopped, ..assignment(2) };
    stopped.spec.stop_after_seconds = Some(1);
    let all = [leased, stopped, assignment(3)];
    let assignments = all.into_iter().map(|a| (a.instance_id, a)).collect();
    let wanted = AssignmentSet { revision: 1, assignments };
    let mut leases = crate::reconcile::vital::Leased::of(&wanted, seconds(0));
    assert_eq!(leases.wake(seconds(0)), Some(seconds(5)), "the host may have slept");
    assert_eq!(leases.wake(seconds(58)), Some(Duration::from_millis(2001)));
    assert_eq!(leases.wake(seconds(61)), Some(seconds(1)), "for a new word");
    assert_eq!(leases.changed(seconds(60)), []);
    assert_eq!(leases.changed(Duration::MAX), [id(1)]);
    assert_eq!(leases.changed(Duration::MAX), [], "once");
    assert_eq!(leases.changed(seconds(0)), [id(1)]);
}
