//! The controller is away for half a day.

use std::{
    sync::{OnceLock, mpsc},
    time::Duration,
};

use domain::{
    Timestamp,
    instance::{Cause, Phase},
};
use tokio::{
    task::{spawn_blocking, yield_now},
    time::{Instant, advance},
};

use super::*;
use crate::{lease::Lease, ledger::REPORTS_MAX};

static BEGUN: OnceLock<(Timestamp, Instant)> = OnceLock::new();

/// The calendar by the test's clock.
fn calendar() -> Timestamp {
    let (at, begun) =
        BEGUN.get_or_init(|| (Timestamp::from_timestamp(1_800_000_000, 0).unwrap(), Instant::now()));
    *at + begun.elapsed()
}

/// Lets so much time pass, in steps, and what is due in each be done.
async fn pass(node: &Node, time: Duration, step: Duration, mut each: impl FnMut()) {
    let mut passed = Duration::ZERO;
    while passed < time {
        advance(step).await;
        passed += step;
        for _ in 0..8 {
            yield_now().await;
        }
        // What was queued for the disk before is on it then.
        node.ledger.commit(Vec::new(), Vec::new()).await.unwrap();
        each();
    }
}

#[tokio::test(start_paused = true)]
async fn twelve_hours_alone_are_twelve_hours_of_restarts_back_off_and_a_lease_that_grows_old() {
    // While something blocks, the clock goes only where the test moves it.
    let (done, held) = mpsc::channel::<()>();
    let hold = spawn_blocking(move || held.recv());
    let (dir, engine) = (tempfile::tempdir().unwrap(), FakeRuntime::default());
    let begun = calendar();
    engine.set_clock(calendar);
    let settings = Settings { clock: calendar, ..Settings::default() };
    let since = Instant::now();
    let lease = Lease::with_clock(Duration::ZERO, move || since.elapsed());
    let node = Node::start_leased(dir.path(), &engine, settings, lease.clone());
    let mut alone = assignment(4);
    alone.spec.stop_after_seconds = Some(1800);
    node.assign([assignment(1), assignment(2), assignment(3), alone]).await;
    pass(&node, Duration::from_secs(60), Duration::from_secs(1), || {}).await;
    assert_eq!(engine.running(), 4);
    let steady = engine.container(id(1)).unwrap();

    // The second never lives for long, the third is killed each hour.
    let (mut steps, hours) = (0_u32, Duration::from_secs(12 * 3600));
    pass(&node, hours, Duration::from_secs(1), || {
        steps += 1;
        if steps.is_multiple_of(3) {
            engine.exit(id(2), 1);
        }
        if steps.is_multiple_of(3600) {
            engine.kill(id(3), 9);
        }
    })
    .await;
    pass(&node, Duration::from_secs(120), Duration::from_secs(1), || {}).await;

    assert_eq!(engine.container(id(1)).unwrap(), steady, "nobody touches what runs");
    assert_eq!(engine.running(), 3, "all run in the end but the one that was not to be left alone");
    let ended = node.reports(4).pop().unwrap();
    assert_eq!((ended.status.progress.phase, ended.cause), (Phase::Ended, Cause::LeaseExpired));
    let after = (ended.at - begun).num_seconds();
    assert!((1800..1830).contains(&after), "{after}");
    let attempts = |n| node.ledger.record(id(n)).unwrap().status.progress.attempt;
    assert_eq!((attempts(1), attempts(3)), (1, 13));
    // A wait is 24 s to 30 s from the sixth failure on, and a run at most 3 s.
    let lived = attempts(2);
    assert!((12 * 3600 / 34..=12 * 3600 / 24 + 10).contains(&lived), "{lived}");
    assert!(lease.age() >= hours, "{:?}", lease.age());

    let waiting = node.ledger.reports_waiting();
    assert!(waiting <= REPORTS_MAX, "{waiting}");
    let kills: Vec<_> =
        node.reports(3).into_iter().filter(|r| r.status.progress.phase == Phase::Ended).collect();
    assert_eq!(kills.len(), 12, "the story is whole");
    for (kill, hour) in kills.iter().zip(1_i64..) {
        let at = (kill.at - begun).num_seconds() - 60;
        assert!((at - 3600 * hour).abs() <= 5, "the {hour}th kill is told at its own time: {at}");
    }
    let times: Vec<_> = node.reports(2).iter().map(|report| report.at).collect();
    assert!(times.is_sorted(), "in the order in which it happened");
    drop(done);
    let _ = hold.await;
    node.stop().await;
}
