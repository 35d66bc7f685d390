//! The calendar jumps.

use std::sync::atomic::{AtomicI64, Ordering};

use chrono::{TimeDelta, Utc};
use domain::Timestamp;

use super::*;

const DAYS: i64 = 3 * 86_400;

/// A failing program, a jump while it waits, and what became of it.
async fn jump(offset: &AtomicI64, clock: fn() -> Timestamp, by: i64) {
    let (dir, engine) = (tempfile::tempdir().unwrap(), FakeRuntime::default());
    engine.set_clock(clock);
    let node = Node::start(dir.path(), &engine, Settings { clock, ..quick() });
    node.assign([assignment(1), assignment(2)]).await;
    until("both run", || engine.running() == 2).await;
    engine.exit(id(2), 0);
    until("the other one runs again", || engine.running() == 2).await;
    let other = engine.container(id(2)).unwrap();
    // Only the first one fails on.
    engine.exit(id(1), 1);
    until("it runs again", || engine.running() == 2).await;
    engine.exit(id(1), 1);
    until("it waits", || node.reports(1).pop().is_some_and(|r| r.status.backoff_until.is_some())).await;

    offset.store(by, Ordering::Relaxed);
    let begun = std::time::Instant::now();
    until("it runs once more", || engine.running() == 2).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "no wait is longer for it: {:?}", begun.elapsed());
    // The next failures wait as ever.
    engine.exit(id(1), 1);
    let begun = std::time::Instant::now();
    until("it runs after that", || engine.running() == 2).await;
    assert!(begun.elapsed() > Duration::from_secs(1), "{:?}", begun.elapsed());
    let attempts = || node.ledger.record(id(1)).unwrap().status.progress.attempt;
    until("that is written down", || attempts() >= 4).await;
    assert_eq!(attempts(), 4, "one attempt for each failure, and no more");
    assert_eq!(engine.container(id(2)).unwrap(), other, "who does well is left alone");
    node.stop().await;
}

#[tokio::test]
async fn a_calendar_that_jumps_ahead_by_days_ends_a_wait_and_nothing_else() {
    static OFFSET: AtomicI64 = AtomicI64::new(0);
    jump(&OFFSET, || Utc::now() + TimeDelta::seconds(OFFSET.load(Ordering::Relaxed)), DAYS).await;
}

#[tokio::test]
async fn a_calendar_that_is_set_back_by_days_makes_no_wait_longer() {
    static OFFSET: AtomicI64 = AtomicI64::new(0);
    jump(&OFFSET, || Utc::now() + TimeDelta::seconds(OFFSET.load(Ordering::Relaxed)), -DAYS).await;
}

#[tokio::test]
async fn who_is_healthy_by_time_is_so_in_time_though_the_calendar_is_set_back() {
    static OFFSET: AtomicI64 = AtomicI64::new(0);
    let clock: fn() -> Timestamp = || Utc::now() + TimeDelta::seconds(OFFSET.load(Ordering::Relaxed));
    let (dir, engine) = (tempfile::tempdir().unwrap(), FakeRuntime::default());
    engine.set_clock(clock);
    let node = Node::start(dir.path(), &engine, Settings { clock, ..quick() });
    let mut timed = assignment(1);
    timed.spec.min_healthy_seconds = 3;
    node.assign([timed]).await;
    let begun = std::time::Instant::now();
    until("it runs", || node.reports(1).pop().is_some_and(|r| r.status.health == Health::Starting)).await;
    OFFSET.store(-DAYS, Ordering::Relaxed);
    until("it is healthy", || node.is_healthy(1)).await;
    let took = begun.elapsed();
    assert!(took > Duration::from_secs(2) && took < Duration::from_secs(20), "{took:?}");
    node.stop().await;
}
