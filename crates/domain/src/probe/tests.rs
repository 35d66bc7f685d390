//! What holds of any results in any order, and a few of them followed by hand.

use std::time::Duration;

use chrono::TimeDelta;
use proptest::prelude::*;

use super::*;
use crate::{Timestamp, instance::Health};

const START: Timestamp = Timestamp::UNIX_EPOCH;

fn spec() -> ProbeSpec {
    ProbeSpec::new(ProbeRole::Liveness, ProbeKind::Tcp { port: 80 })
}

fn at(millis: i64) -> Timestamp {
    START + TimeDelta::milliseconds(millis)
}

fn result(at: Timestamp, verdict: Verdict) -> ProbeResult {
    ProbeResult { at, took: Duration::from_millis(3), verdict, message: "so it was".into() }
}

/// Probes as soon as it is due, `count` times, with one verdict each time.
fn driven(mut state: ProbeState, now: &mut Timestamp, verdict: Verdict, count: usize) -> ProbeState {
    for _ in 0..count {
        *now = state.next_due(*now);
        state = state.observe(*now, result(*now, verdict));
    }
    state
}

fn specs() -> impl Strategy<Value = ProbeSpec> {
    (1u32..120, 1u32..6, 0u32..120, any::<bool>()).prop_map(|(interval, retries, start, live)| ProbeSpec {
        interval_seconds: interval,
        retries,
        start_period_seconds: start,
        role: if live { ProbeRole::Liveness } else { ProbeRole::Readiness },
        ..spec()
    })
}

fn verdicts() -> impl Strategy<Value = Verdict> {
    prop_oneof![2 => Just(Verdict::Passed), 3 => Just(Verdict::Failed), 1 => Just(Verdict::Unknown)]
}

/// Results of a clock that only goes forward; each milliseconds after the one before.
fn forward() -> impl Strategy<Value = Vec<(i64, Verdict)>> {
    prop::collection::vec((1i64..200_000, verdicts()), 0..40)
}

/// Results of a clock that also jumps back.
fn jumping() -> impl Strategy<Value = Vec<(i64, Verdict)>> {
    let step = prop_oneof![4 => 1i64..200_000, 1 => -10_000_000i64..-1, 1 => 200_000i64..10_000_000];
    prop::collection::vec((step, verdicts()), 0..40)
}

/// Goes through all results, and shows what is known after each.
fn played(
    spec: &ProbeSpec,
    steps: &[(i64, Verdict)],
    mut look: impl FnMut(&ProbeState, Timestamp, Verdict),
) -> (ProbeState, Timestamp) {
    let (mut state, mut now) = (ProbeState::new(spec, START, START), START);
    for (millis, verdict) in steps {
        now += TimeDelta::milliseconds(*millis);
        state = state.observe(now, result(now, *verdict));
        look(&state, now, *verdict);
    }
    (state, now)
}

proptest! {
    #[test]
    fn never_unhealthy_before_as_many_failures_in_a_row_as_there_are_retries(spec in specs(), steps in jumping()) {
        let mut row = 0;
        let mut sound = true;
        played(&spec, &steps, |state, _, verdict| {
            row = match verdict {
                Verdict::Passed => 0,
                Verdict::Failed => row + 1,
                Verdict::Unknown => row,
            };
            sound &= state.health() != Health::Unhealthy || row >= spec.retries;
        });
        prop_assert!(sound);
    }

    #[test]
    fn once_the_start_period_is_over_as_many_failures_as_retries_are_enough(spec in specs(), steps in forward()) {
        let (state, now) = played(&spec, &steps, |_, _, _| ());
        let after = now.max(START + spec.start_period());
        let state = (1..=spec.retries).fold(state, |state, n| {
            let now = after + spec.interval() * n;
            state.observe(now, result(now, Verdict::Failed))
        });
        prop_assert_eq!(state.health(), Health::Unhealthy);
        prop_assert_eq!(state.must_restart(), spec.role == ProbeRole::Liveness);
    }

    #[test]
    fn one_success_in_the_start_period_makes_healthy(
        spec in specs(),
        failures in prop::collection::btree_set(0i64..120_000, 0..30),
    ) {
        let period = i64::from(spec.start_period_seconds) * 1000;
        prop_assume!(period > 0);
        let mut state = ProbeState::new(&spec, START, START);
        for millis in failures.into_iter().filter(|millis| *millis < period - 1) {
            state = state.observe(at(millis), result(at(millis), Verdict::Failed));
            prop_assert_eq!(state.health(), Health::Starting);
        }
        let now = at(period - 1);
        prop_assert_eq!(state.observe(now, result(now, Verdict::Passed)).health(), Health::Healthy);
    }

    #[test]
    fn what_is_kept_is_bounded_and_the_latest(spec in specs(), steps in forward(), length in 0usize..2000) {
        let (mut state, now) = played(&spec, &steps, |_, _, _| ());
        let message = "ä\n".repeat(length);
        let now = now + TimeDelta::seconds(1);
        state = state.observe(now, ProbeResult { message, ..result(now, Verdict::Passed) });
        prop_assert_eq!(state.results().len(), (steps.len() + 1).min(RESULTS_KEPT));
        prop_assert!(state.results().all(|r| r.message.chars().count() <= MESSAGE_MAX_CHARS));
        prop_assert!(state.results().all(|r| !r.message.contains('\n')));
        prop_assert_eq!(state.results().last().unwrap().at, now);
    }

    #[test]
    fn late_and_repeated_results_change_nothing(
        spec in specs(),
        steps in forward(),
        late in prop::collection::vec((-100_000i64..8_000_000, verdicts()), 0..20),
    ) {
        let mut told = Vec::new();
        let (state, now) = played(&spec, &steps, |_, now, verdict| told.push(result(now, verdict)));
        prop_assume!(!told.is_empty());
        let late = late.into_iter().map(|(millis, verdict)| result(at(millis).min(now), verdict));
        for again in told.into_iter().chain(late) {
            prop_assert_eq!(&state.clone().observe(now, again.clone()), &state);
            prop_assert_eq!(&state.clone().observe(now + TimeDelta::days(1), again), &state);
        }
    }

    #[test]
    fn the_next_probe_is_never_due_in_the_past_nor_more_than_an_interval_ahead(
        spec in specs(),
        steps in jumping(),
        later in -10_000_000i64..10_000_000,
    ) {
        let (state, now) = played(&spec, &steps, |_, _, _| ());
        for now in [now, now + TimeDelta::milliseconds(later)] {
            let due = state.next_due(now);
            prop_assert!(now <= due && due <= now + spec.interval());
            prop_assert_eq!(state.next_due(due), due, "waiting for it brings it about");
        }
    }

    #[test]
    fn a_clock_that_is_set_back_hides_no_failure_for_long(
        spec in specs(),
        before in 0usize..12,
        back in 1i64..100_000_000,
    ) {
        let mut now = START;
        let mut state = driven(ProbeState::new(&spec, START, now), &mut now, Verdict::Failed, before);
        let mut passed = now - START;
        now -= TimeDelta::milliseconds(back);
        let mut probes = before;
        while state.health() != Health::Unhealthy {
            let asked = now;
            state = driven(state, &mut now, Verdict::Failed, 1);
            passed += now - asked;
            probes += 1;
            prop_assert!(probes < 1000);
        }
        let most = spec.start_period() * 2 + spec.interval() * (spec.retries + 2);
        prop_assert!(passed <= TimeDelta::from_std(most).unwrap() || before > 0 && probes == before);
    }

    #[test]
    fn the_order_of_probes_does_not_matter_to_the_whole(each in prop::collection::vec(0usize..4, 0..6), seed: usize) {
        let healths = [Health::Unknown, Health::Starting, Health::Healthy, Health::Unhealthy];
        let each: Vec<_> = each.into_iter().map(|n| healths[n]).collect();
        let mut turned = each.clone();
        turned.rotate_left(seed % each.len().max(1));
        turned.reverse();
        prop_assert_eq!(merge(each.clone()), merge(turned));
        prop_assert_eq!(merge(each.clone()) == Health::Unhealthy, each.contains(&Health::Unhealthy));
        let all_healthy = !each.is_empty() && each.iter().all(|h| *h == Health::Healthy);
        prop_assert_eq!(merge(each) == Health::Healthy, all_healthy);
    }
}

#[test]
fn until_the_first_success_probes_come_after_1_2_4_seconds_up_to_the_interval() {
    let spec = ProbeSpec { start_period_seconds: 120, ..spec() };
    let (mut state, mut now) = (ProbeState::new(&spec, START, START), START);
    let mut seconds = Vec::new();
    for _ in 0..7 {
        state = driven(state, &mut now, Verdict::Failed, 1);
        seconds.push((now - START).num_seconds());
    }
    assert_eq!(seconds, [1, 3, 7, 15, 31, 61, 91]);
    let state = driven(state, &mut now, Verdict::Passed, 1);
    assert_eq!(state.next_due(now), now + TimeDelta::seconds(30));
}

#[test]
fn a_success_ends_the_fast_cadence_and_the_patience_with_failures() {
    let mut now = START;
    let state = driven(ProbeState::new(&spec(), START, now), &mut now, Verdict::Passed, 1);
    assert_eq!((now, state.health()), (at(1000), Health::Healthy));
    let state = driven(state, &mut now, Verdict::Failed, 2);
    assert_eq!((now, state.health()), (at(61_000), Health::Healthy));
    let state = driven(state, &mut now, Verdict::Failed, 1);
    assert!(state.must_restart());
    let state = driven(state, &mut now, Verdict::Passed, 1);
    assert_eq!((state.health(), state.must_restart()), (Health::Healthy, false));
}

#[test]
fn a_program_that_never_comes_up_is_unhealthy_only_after_its_start_period() {
    let mut now = START;
    // 1, 3, 7, 15 s are within it; 31, 61, 91 s are not.
    let state = driven(ProbeState::new(&spec(), START, now), &mut now, Verdict::Failed, 6);
    assert_eq!((now, state.health()), (at(61_000), Health::Starting));
    let state = driven(state, &mut now, Verdict::Failed, 1);
    assert_eq!((now, state.health()), (at(91_000), Health::Unhealthy));
}

#[test]
fn an_unready_instance_is_not_restarted() {
    let spec = ProbeSpec { role: ProbeRole::Readiness, start_period_seconds: 0, ..spec() };
    let mut now = START;
    let state = driven(ProbeState::new(&spec, START, now), &mut now, Verdict::Failed, 3);
    assert_eq!((state.health(), state.must_restart()), (Health::Unhealthy, false));
}

#[test]
fn what_could_not_be_asked_says_nothing() {
    let mut now = START;
    let state = driven(ProbeState::new(&spec(), START, now), &mut now, Verdict::Unknown, 20);
    assert_eq!(state.health(), Health::Unknown);
    let state = driven(state, &mut now, Verdict::Passed, 1);
    let state = driven(state, &mut now, Verdict::Failed, 2);
    let state = driven(state, &mut now, Verdict::Unknown, 20);
    assert_eq!(state.health(), Health::Healthy);
    assert_eq!(driven(state, &mut now, Verdict::Failed, 1).health(), Health::Unhealthy, "still in a row");
}

#[test]
fn a_result_of_the_run_before_is_not_taken_for_this_one() {
    let state = ProbeState::new(&spec(), at(5000), at(5000));
    assert_eq!(state.clone().observe(at(6000), result(at(4000), Verdict::Passed)), state);
}

#[test]
fn a_probe_that_began_before_the_clock_was_set_back_counts_as_of_now() {
    let state = ProbeState::new(&spec(), START, START);
    let state = state.observe(at(2000), result(at(9_000_000), Verdict::Passed));
    assert_eq!((state.health(), state.next_due(at(2000))), (Health::Healthy, at(32_000)));
}

#[test]
fn an_engine_whose_clock_is_ahead_delays_nothing() {
    let state = ProbeState::new(&spec(), at(3_600_000), START);
    assert_eq!(state.next_due(START), at(1000));
}

#[test]
fn after_an_agent_came_back_what_was_healthy_is_healthy_and_asked_at_once() {
    let now = at(3_600_000);
    let state = ProbeState::resumed(&spec(), START, Health::Healthy, now);
    assert_eq!((state.health(), state.next_due(now)), (Health::Healthy, now));
    let (other, mut now) = (ProbeState::resumed(&spec(), START, Health::Unhealthy, now), now);
    assert_eq!((other.health(), other.must_restart()), (Health::Unknown, false));
    assert!(driven(other, &mut now, Verdict::Failed, 3).must_restart());
}

#[test]
fn of_several_probes_the_one_that_waits_longest_is_next() {
    let often = ProbeSpec { interval_seconds: 1, ..spec() };
    let mut probes = Probes::new(&[often, spec()], START, START);
    let mut turns = [0, 0];
    // Each takes longer than the interval of the first, which so is always overdue.
    for n in 1..=100 {
        let now = at(n * 5000);
        let (index, due) = probes.next_due(now).unwrap();
        assert!(index == 1 || due == now);
        probes = probes.observe(index, now, result(now, Verdict::Passed));
        turns[index] += 1;
    }
    assert!(turns[1] >= 14, "{turns:?}");
    assert_eq!(probes.health(), Health::Healthy);
}

#[test]
fn instances_are_healthy_when_all_probes_are_and_restarted_when_one_says_so() {
    let ready = ProbeSpec { role: ProbeRole::Readiness, ..spec() };
    let mut probes = Probes::new(&[ready, spec()], START, START);
    assert_eq!((probes.health(), probes.must_restart()), (Health::Unknown, None));
    probes = probes.observe(0, at(1000), result(at(1000), Verdict::Passed));
    assert_eq!(probes.health(), Health::Starting);
    probes = probes.observe(1, at(1000), result(at(1000), Verdict::Passed));
    assert_eq!(probes.health(), Health::Healthy);
    for n in 1..=3 {
        let now = at(1000 + n * 30_000);
        probes = probes.observe(1, now, result(now, Verdict::Failed));
    }
    assert_eq!((probes.health(), probes.must_restart()), (Health::Unhealthy, Some(1)));
    let unchanged = probes.clone();
    assert_eq!(probes.observe(7, at(900_000), result(at(900_000), Verdict::Passed)), unchanged);
    let none = Probes::new(&[], START, START);
    assert_eq!((none.is_empty(), none.next_due(START), none.health()), (true, None, Health::Unknown));
}

fn fields(probes: &[ProbeSpec]) -> Vec<String> {
    faults("probes", probes).into_iter().map(|fault| fault.field).collect()
}

#[test]
fn probes_of_defaults_are_fine() {
    let kinds = [
        ProbeKind::Http(HttpCheck::of(8080, "/healthz?full=1&x=%20")),
        ProbeKind::Tcp { port: 1 },
        ProbeKind::Exec { command: vec!["/bin/true".into()] },
        ProbeKind::Image,
    ];
    let probes = kinds.map(|kind| ProbeSpec::new(ProbeRole::Readiness, kind));
    assert_eq!(faults("probes", &probes), []);
}

#[test]
fn every_fault_of_a_probe_is_named_at_once() {
    let check = HttpCheck {
        path: "no/slash".into(),
        port: 0,
        headers: vec![
            HttpHeader { name: "Content-Length".into(), value: "1".into() },
            HttpHeader { name: "X Y".into(), value: "a\r\nb".into() },
        ],
        expected_status: vec![StatusRange { from: 300, to: 200 }, StatusRange::one(600)],
        body_contains: Some(String::new()),
    };
    let mut bad = ProbeSpec::new(ProbeRole::Liveness, ProbeKind::Http(check));
    (bad.interval_seconds, bad.timeout_seconds, bad.retries) = (0, 301, 0);
    bad.start_period_seconds = 86_401;
    let expected = [
        "path",
        "port",
        "headers[0].name",
        "headers[1].name",
        "headers[1].value",
        "expected_status[0]",
        "expected_status[1]",
        "body_contains",
        "interval_seconds",
        "timeout_seconds",
        "retries",
        "start_period_seconds",
    ];
    assert_eq!(fields(&[spec(), bad]), expected.map(|field| format!("probes[1].{field}")));
}

#[test]
fn commands_and_the_number_of_probes_have_bounds() {
    for command in [vec![], vec![String::new()], vec!["a".to_owned(); 257], vec!["a\0".to_owned()]] {
        let bad = ProbeSpec { kind: ProbeKind::Exec { command }, ..spec() };
        assert_eq!(fields(&[bad]), ["probes[0].command"]);
    }
    assert_eq!(fields(&vec![spec(); PROBES_MAX]), [""; 0]);
    assert_eq!(fields(&vec![spec(); PROBES_MAX + 1]), ["probes"]);
    let image = ProbeSpec { kind: ProbeKind::Image, ..spec() };
    assert_eq!(fields(&[image.clone(), image]), ["probes"]);
}

#[test]
fn the_value_of_a_header_is_in_no_debug_output_and_in_no_fault() {
    let header = HttpHeader { name: "Authorization".into(), value: "hunter2\n".into() };
    let check = HttpCheck { headers: vec![header], ..HttpCheck::of(80, "/") };
    let probe = ProbeSpec::new(ProbeRole::Liveness, ProbeKind::Http(check));
    let shown = format!("{probe:?} {:?}", faults("probes", std::slice::from_ref(&probe)));
    assert!(shown.contains("Authorization") && !shown.contains("hunter2"), "{shown}");
}

#[test]
fn probes_read_back_as_they_were_written_and_may_leave_things_out() {
    let check = HttpCheck { body_contains: Some("ok".into()), ..HttpCheck::of(80, "/") };
    for kind in [
        ProbeKind::Http(check),
        ProbeKind::Tcp { port: 1 },
        ProbeKind::Exec { command: vec!["a".into()] },
        ProbeKind::Image,
    ] {
        let probe = ProbeSpec::new(ProbeRole::Readiness, kind);
        let text = serde_json::to_string(&probe).unwrap();
        assert_eq!(serde_json::from_str::<ProbeSpec>(&text).unwrap(), probe);
    }
    let kind = serde_json::json!({ "type": "http", "path": "/", "port": 80 });
    assert_eq!(serde_json::from_value::<ProbeKind>(kind).unwrap(), ProbeKind::Http(HttpCheck::of(80, "/")));
}

#[test]
fn expected_codes_are_ranges_with_both_ends() {
    let check = HttpCheck {
        expected_status: vec![StatusRange { from: 200, to: 204 }, StatusRange::one(401)],
        ..HttpCheck::of(80, "/")
    };
    for (status, expected) in [(199, false), (200, true), (204, true), (205, false), (401, true)] {
        assert_eq!(check.expects(status), expected, "{status}");
    }
    assert_eq!(StatusRange::DEFAULT.to_string(), "200-399");
    assert_eq!(StatusRange::one(204).to_string(), "204");
}

#[test]
fn an_images_own_check_becomes_a_command() {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let resolved = |test: &[&str], shell: &[&str]| ProbeKind::Image.resolved(&words(test), &words(shell));
    let exec = |command: &[&str]| Some(ProbeKind::Exec { command: words(command) });
    assert_eq!(resolved(&["CMD", "pg_isready", "-q"], &[]), exec(&["pg_isready", "-q"]));
    assert_eq!(
        resolved(&["CMD-SHELL", "curl -f x || exit 1"], &[]),
        exec(&["/bin/sh", "-c", "curl -f x || exit 1"])
    );
    assert_eq!(resolved(&["CMD-SHELL", "a"], &["/bin/bash", "-c"]), exec(&["/bin/bash", "-c", "a"]));
    for none in [&[][..], &["NONE"], &["CMD"], &["NONSENSE", "x"]] {
        assert_eq!(resolved(none, &[]), None, "{none:?}");
    }
    let tcp = ProbeKind::Tcp { port: 1 };
    assert_eq!(tcp.resolved(&words(&["NONE"]), &[]), Some(tcp));
}
