//! The Docker runtime against a real engine.
//!
//! The tests bring their own: one `dockerd`, in a network namespace and with
//! directories of its own, so it shares nothing with an engine that the host may
//! have. It has one image, made of a static busybox. It and all that it started
//! are gone afterwards, or the test fails.
//!
//! It is one test with many scenarios and not many tests, because a test runner
//! may give each test a process of its own, and with it an engine.
//!
//! Needs root, `dockerd` and `docker`, `docker-registry`, a static `busybox`,
//! `unshare`, `nsenter` and `bash`.

#[cfg(test)]
mod engine;
#[cfg(test)]
mod scenarios;

#[cfg(test)]
mod run {
    use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

    use futures_util::{
        FutureExt as _,
        future::{LocalBoxFuture, join_all},
    };
    use tokio::time::timeout;

    use crate::{
        engine::{Engine, World},
        scenarios,
    };

    type Scenario = LocalBoxFuture<'static, ()>;

    /// No scenario takes longer.
    const LIMIT: Duration = Duration::from_secs(90);

    fn all(world: &Arc<World>) -> Vec<(&'static str, Scenario)> {
        macro_rules! list {
            ($($name:ident),* $(,)?) => {
                vec![$((stringify!($name), Box::pin(scenarios::$name(Arc::clone(world))) as Scenario)),*]
            };
        }
        list![
            a_container_is_made_started_stopped_and_removed,
            a_process_that_ends_by_itself_leaves_its_code,
            a_command_that_does_not_exist_is_a_failed_start_that_says_so,
            an_image_that_is_not_there_is_said_to_be_missing,
            an_image_is_pulled_and_what_the_registry_does_not_have_is_told_apart,
            environment_host_name_and_limits_arrive,
            published_ports_answer_and_a_taken_one_is_a_failed_start,
            an_outside_kill_is_seen_at_once_and_found_again_in_the_past,
            a_second_create_adopts_the_first_containers_and_a_strangers_name_is_refused,
            a_renamed_container_is_found_and_a_neighbours_is_not_seen,
            a_process_that_takes_too_much_memory_is_known_to_have_been_killed_for_it,
            a_log_is_read_from_its_end_followed_and_split,
            a_log_that_is_no_longer_wanted_is_let_go,
            use_is_measured_at_once_and_from_then_on,
        ]
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_real_engine_does_what_the_runtime_promises() {
        let engine = Engine::start().await;
        let world = Arc::new(World::new(&engine));
        let running = all(&world).into_iter().map(|(name, scenario)| async move {
            // A panic is this scenario's alone.
            match AssertUnwindSafe(timeout(LIMIT, scenario)).catch_unwind().await {
                Ok(Ok(())) => None,
                Ok(Err(_)) => Some(format!("{name}: did not end within {LIMIT:?}")),
                Err(_) => Some(format!("{name}: panicked, see above")),
            }
        });
        let failures: Vec<String> = join_all(running).await.into_iter().flatten().collect();
        assert!(failures.is_empty(), "{failures:#?}");
        assert_eq!(world.containers_left().await, [""; 0], "containers were left behind");
        scenarios::an_engine_that_goes_away_is_out_of_reach_and_found_again(&world, engine).await;
    }
}
