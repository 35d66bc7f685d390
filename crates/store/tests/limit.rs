//! Limits in the database: that they are those of the pure arithmetic, and that they
//! hold when many take at once.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on fails where it stands"
)]

use std::time::Duration;

use domain::limit::Rate;
use futures_util::future::join_all;
use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, TestRunner},
};
use store::testing::{TestDatabase, database};

/// Slow enough that the time a test takes brings nothing.
const EACH: Duration = Duration::from_secs(4 * 3600);

fn rate(count: u32) -> Rate {
    Rate::new(count, EACH * count).unwrap()
}

/// Lets time pass for all keys.
async fn pass(db: &TestDatabase, time: Duration) {
    let seconds = time.as_secs();
    db.execute(&format!("update rate_limits set empty_at = empty_at - interval '{seconds} s'")).await;
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Take(u32),
    GiveBack(u32),
    /// Quarters of what one costs.
    Pass(u32),
}

fn steps() -> impl Strategy<Value = (u32, Vec<Step>)> {
    let step = prop_oneof![
        5 => (0u32..8).prop_map(Step::Take),
        1 => (0u32..3).prop_map(Step::GiveBack),
        2 => (0u32..12).prop_map(Step::Pass),
    ];
    (1u32..7, prop::collection::vec(step, 1..40))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_database_takes_and_refuses_as_the_arithmetic_says() {
    let db = database().await;
    let mut runner = TestRunner::new(Config::default());
    for case in 0u32..40 {
        let (count, steps) = steps().new_tree(&mut runner).unwrap().current();
        let (rate, key) = (rate(count), case.to_be_bytes());
        let mut filled = Duration::ZERO;
        for (n, step) in steps.iter().enumerate() {
            match *step {
                Step::Take(cost) => {
                    let (expected, after) = rate.take(filled, cost);
                    let taken = db.store.limit_take(&key, rate, cost).await.unwrap();
                    filled = after;
                    let told = |t: domain::limit::Taken| (t.allowed, t.limit, t.remaining);
                    assert_eq!(told(taken), told(expected), "{count} {n} {steps:?}");
                    for (real, exact) in
                        [(taken.reset_after, expected.reset_after), (taken.retry_after, expected.retry_after)]
                    {
                        assert!(real <= exact && exact - real < EACH / 8, "{real:?} {exact:?} {n} {steps:?}");
                    }
                }
                Step::GiveBack(cost) => {
                    db.store.limit_give_back(&key, rate, cost).await.unwrap();
                    filled = rate.give_back(filled, cost);
                }
                Step::Pass(quarters) => {
                    pass(&db, EACH / 4 * quarters).await;
                    filled = filled.saturating_sub(EACH / 4 * quarters);
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_who_take_at_once_exactly_so_many_succeed() {
    let db = database().await;
    for key in 0u8..4 {
        let key = [key];
        let taken = join_all((0..24).map(|_| db.store.limit_take(&key, rate(10), 1))).await;
        assert_eq!(taken.into_iter().filter(|taken| taken.as_ref().unwrap().allowed).count(), 10, "{key:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_do_not_know_of_each_other() {
    let db = database().await;
    assert!(db.store.limit_take(b"one", rate(1), 1).await.unwrap().allowed);
    assert!(!db.store.limit_take(b"one", rate(1), 1).await.unwrap().allowed);
    assert!(db.store.limit_take(b"two", rate(1), 1).await.unwrap().allowed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_costs_more_than_there_ever_is_is_refused_and_leaves_no_row() {
    let db = database().await;
    assert!(!db.store.limit_take(b"one", rate(2), 3).await.unwrap().allowed);
    assert_eq!(db.texts("select count(*) from rate_limits").await, ["0"]);
    db.store.limit_give_back(b"one", rate(2), 1).await.unwrap();
    assert_eq!(db.texts("select count(*) from rate_limits").await, ["0"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_empty_buckets_are_forgotten() {
    let db = database().await;
    for (key, cost) in [(b"one", 1), (b"two", 2)] {
        assert!(db.store.limit_take(key, rate(2), cost).await.unwrap().allowed);
    }
    assert_eq!(db.store.limit_forget_empty().await.unwrap(), 0);
    pass(&db, EACH + Duration::from_secs(1)).await;
    assert_eq!(db.store.limit_forget_empty().await.unwrap(), 1);
    assert_eq!(db.store.limit_forget_empty().await.unwrap(), 0);
    assert_eq!(db.store.limit_take(b"two", rate(2), 1).await.unwrap().remaining, 0);
}
