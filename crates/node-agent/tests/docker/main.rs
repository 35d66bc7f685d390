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
mod deaths;
#[cfg(test)]
mod engine;
#[cfg(test)]
mod fields;
#[cfg(test)]
mod figures;
#[cfg(test)]
mod keeping;
#[cfg(test)]
mod podman;
#[cfg(test)]
mod probes;
#[cfg(test)]
mod pulls;
#[cfg(test)]
mod registry;
#[cfg(test)]
mod scenarios;
#[cfg(test)]
mod secrets;

#[cfg(test)]
mod run {
    use std::{any::Any, panic::AssertUnwindSafe, sync::Arc, time::Duration};

    use futures_util::{
        FutureExt as _, StreamExt as _,
        future::{LocalBoxFuture, ready},
        stream,
    };
    use tokio::time::timeout;

    use crate::{
        deaths,
        engine::{Engine, Kind, World},
        fields, figures, keeping, probes, pulls, scenarios, secrets,
    };

    type Scenario = LocalBoxFuture<'static, ()>;

    /// No scenario takes longer. Far more than any needs: one that is late on a busy host
    /// fails by a deadline of its own, which says what did not come.
    const LIMIT: Duration = Duration::from_secs(240);
    /// How many are carried out at once. All of them would only keep each other waiting.
    const AT_ONCE: usize = 8;
    /// Where this is set, only scenarios run whose name contains it.
    const ONLY: &str = "A67_TEST_SCENARIOS";

    macro_rules! list {
        ($world:ident, $room:ident: $($name:ident),* $(,)?) => {
            vec![$((stringify!($name), Box::pin($room::$name(Arc::clone($world))) as Scenario)),*]
        };
    }

    /// Those that others would disturb: they look at the size of this process, or at the
    /// tail of events, of which the engine keeps so many.
    fn one_by_one(world: &Arc<World>) -> Vec<(&'static str, Scenario)> {
        let mut all = list![world, scenarios:
            an_outside_kill_is_seen_at_once_and_found_again_in_the_past,
        ];
        all.extend(list![world, deaths:
            a_dossier_has_the_lines_of_the_run_that_ended_though_the_next_began_at_once,
        ]);
        all
    }

    fn side_by_side(world: &Arc<World>) -> Vec<(&'static str, Scenario)> {
        let mut all = list![world, scenarios:
            a_container_is_made_started_stopped_and_removed,
            a_process_that_ends_by_itself_leaves_its_code,
            a_command_that_does_not_exist_is_a_failed_start_that_says_so,
            an_image_that_is_not_there_is_said_to_be_missing,
            environment_host_name_and_limits_arrive,
            published_ports_answer_and_a_taken_one_is_a_failed_start,
            what_happened_between_two_lists_is_in_the_second,
            a_second_create_adopts_the_first_containers_and_a_strangers_name_is_refused,
            a_renamed_container_is_found_and_a_neighbours_is_not_seen,
            a_process_that_takes_too_much_memory_is_known_to_have_been_killed_for_it,
            a_log_is_read_from_its_end_followed_and_split,
            a_log_that_is_no_longer_wanted_is_let_go,
            use_is_measured_at_once_and_from_then_on,
        ];
        all.extend(list![world, pulls:
            an_image_has_the_digest_by_which_it_was_pulled_and_an_imported_one_has_none,
            what_a_registry_does_not_have_is_told_apart_from_what_it_does_not_answer,
            what_can_pass_is_asked_for_again_and_what_cannot_is_not,
            a_registry_that_wants_a_login_gets_the_nodes_own,
            a_slow_layer_shows_its_bytes_and_goes_on_for_who_stays,
            a_pull_that_nobody_wants_any_more_is_ended_by_the_engine,
        ]);
        all.extend(list![world, secrets:
            values_arrive_byte_for_byte_and_files_lie_about_nowhere,
            a_directory_on_disk_is_refused_before_the_engine_is_asked,
            a_closed_registry_takes_the_login_that_the_controller_chose,
        ]);
        all.extend(list![world, probes:
            a_server_that_begins_to_fail_is_restarted_and_works_again,
            an_images_own_check_is_carried_out_by_the_agent_and_not_by_the_engine,
        ]);
        all.extend(list![world, figures:
            figures_agree_with_the_engines_under_load,
            what_a_container_is_held_back_from_is_counted,
        ]);
        all.extend(list![world, fields:
            every_field_of_a_spec_is_in_force,
            networks_are_made_joined_and_found_by_alias,
            the_hosts_network_is_the_nodes_to_allow_and_none_has_nothing_but_itself,
            a_port_of_the_nodes_range_is_chosen_past_those_in_use,
        ]);
        all.extend(list![world, keeping:
            what_becomes_of_a_storage_limit_is_found_out_by_trying_and_a_layer_is_measured,
            what_lies_about_is_seen_with_who_uses_it_and_what_is_used_stays,
            what_was_pulled_goes_when_nobody_needs_it_and_what_was_there_stays,
        ]);
        all
    }

    /// Carries them out, so many at once, and answers what became of those that failed.
    async fn run(scenarios: Vec<(&'static str, Scenario)>, at_once: usize) -> Vec<String> {
        let running = stream::iter(scenarios).map(|(name, scenario)| async move {
            // A panic is this scenario's alone.
            match AssertUnwindSafe(timeout(LIMIT, scenario)).catch_unwind().await {
                Ok(Ok(())) => None,
                Ok(Err(_)) => Some(format!("{name}: did not end within {LIMIT:?}")),
                Err(panic) => Some(format!("{name}: {}", said(panic.as_ref()))),
            }
        });
        running.buffer_unordered(at_once).filter_map(ready).collect().await
    }

    /// What was said in a panic.
    fn said(panic: &(dyn Any + Send)) -> &str {
        let literal = || panic.downcast_ref::<&str>().copied();
        panic.downcast_ref::<String>().map(String::as_str).or_else(literal).unwrap_or("panicked")
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_real_engine_does_what_the_runtime_promises() {
        let engine = Engine::start(Kind::Docker).await;
        let world = Arc::new(World::new(&engine));
        let only = std::env::var(ONLY).unwrap_or_default();
        let chosen = |mut all: Vec<(&'static str, Scenario)>| {
            all.retain(|(name, _)| name.contains(&only));
            all
        };
        let (first, rest) = (chosen(one_by_one(&world)), chosen(side_by_side(&world)));
        assert!(first.len() + rest.len() > 0, "no scenario's name contains {only:?}");
        let mut failures = run(first, 1).await;
        failures.extend(run(rest, AT_ONCE).await);
        assert!(failures.is_empty(), "{failures:#?}");
        assert_eq!(world.containers_left().await, [""; 0], "containers were left behind");
        crate::scenarios::an_engine_that_goes_away_is_out_of_reach_and_found_again(&world, engine).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_engine_on_btrfs_keeps_containers_to_their_storage() {
        let engine = Engine::start(Kind::DockerOnBtrfs).await;
        let world = Arc::new(World::new(&engine));
        let shared = &world;
        let kept = list![shared, keeping: a_limit_that_the_engine_keeps_is_found_out_and_holds];
        let failures = run(kept, 1).await;
        assert!(failures.is_empty(), "{failures:#?}");
        assert_eq!(world.containers_left().await, [""; 0], "containers were left behind");
    }

    /// What holds for Podman, too. Of the rest some is not so there (`docs/OPERATIONS.md`
    /// says what), and some asks Docker's own command for what Podman answers otherwise.
    fn on_podman(world: &Arc<World>) -> Vec<(&'static str, Scenario)> {
        let mut all = list![world, scenarios:
            a_container_is_made_started_stopped_and_removed,
            a_process_that_ends_by_itself_leaves_its_code,
            a_command_that_does_not_exist_is_a_failed_start_that_says_so,
            an_image_that_is_not_there_is_said_to_be_missing,
            published_ports_answer_and_a_taken_one_is_a_failed_start,
            what_happened_between_two_lists_is_in_the_second,
            a_second_create_adopts_the_first_containers_and_a_strangers_name_is_refused,
            a_renamed_container_is_found_and_a_neighbours_is_not_seen,
            a_log_is_read_from_its_end_followed_and_split,
            a_log_that_is_no_longer_wanted_is_let_go,
            use_is_measured_at_once_and_from_then_on,
        ];
        all.extend(list![world, pulls:
            what_a_registry_does_not_have_is_told_apart_from_what_it_does_not_answer,
        ]);
        all.extend(list![world, probes:
            a_server_that_begins_to_fail_is_restarted_and_works_again,
        ]);
        all.extend(list![world, fields:
            the_hosts_network_is_the_nodes_to_allow_and_none_has_nothing_but_itself,
        ]);
        all.extend(list![world, keeping:
            what_becomes_of_a_storage_limit_is_found_out_by_trying_and_a_layer_is_measured,
            what_was_pulled_goes_when_nobody_needs_it_and_what_was_there_stays,
        ]);
        all
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn podman_behind_its_compatible_socket_does_what_is_asked_of_it() {
        let engine = Engine::start(Kind::Podman).await;
        let world = Arc::new(World::new(&engine));
        let only = std::env::var(ONLY).unwrap_or_default();
        let mut chosen = on_podman(&world);
        chosen.retain(|(name, _)| name.contains(&only));
        // Each of its calls waits for locks on files that all of them share.
        let failures = run(chosen, 3).await;
        assert!(failures.is_empty(), "{failures:#?}");
        assert_eq!(world.containers_left().await, [""; 0], "containers were left behind");
    }
}
