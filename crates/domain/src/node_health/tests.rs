use proptest::{collection::vec, option, prelude::*};

use super::*;
use crate::sample::{DiskSample, Pressure};

fn fine() -> HostSample {
    HostSample {
        load: Some([0.1, 0.1, 0.1]),
        memory_bytes: Some(1000),
        memory_available_bytes: Some(900),
        disks: vec![disk("/", 900)],
        pressure: Some(Pressure::default()),
        ..HostSample::default()
    }
}

/// One of 1000 bytes and 1000 inodes, 900 of which are free.
fn disk(path: &str, free_bytes: u64) -> DiskSample {
    let (inodes, inodes_free) = (Some(1000), Some(900));
    DiskSample { path: path.into(), size_bytes: 1000, free_bytes, inodes, inodes_free }
}

fn judge(sample: &HostSample, before: &Held) -> Verdict {
    let seen = Seen { sample, cpus: Some(2), engine: EngineState::Reachable, ledger_trouble: None };
    health(&seen, &Thresholds::default(), before)
}

fn level(sample: &HostSample) -> NodeHealth {
    judge(sample, &Held::default()).health
}

#[test]
fn a_host_with_room_is_healthy_and_says_nothing() {
    assert_eq!(judge(&fine(), &Held::default()), Verdict::default());
    assert_eq!(level(&HostSample::default()), NodeHealth::Healthy, "what cannot be read is not judged");
}

#[test]
fn each_figure_has_its_two_thresholds() {
    use NodeHealth::{Degraded, Failing, Healthy};
    let disk = |free| HostSample { disks: vec![disk("/", free)], ..fine() };
    let inodes = |free| {
        let mut sample = fine();
        sample.disks[0].inodes_free = Some(free);
        sample
    };
    let memory = |free| HostSample { memory_available_bytes: Some(free), ..fine() };
    let load = |five| HostSample { load: Some([99.0, five, 0.0]), ..fine() };
    let pressure = |pressure| HostSample { pressure: Some(pressure), ..fine() };
    let memory_full = |memory_full| pressure(Pressure { memory_full, ..Pressure::default() });
    let io_full = |io_full| pressure(Pressure { io_full, ..Pressure::default() });
    let cpu_some = |cpu_some| pressure(Pressure { cpu_some, ..Pressure::default() });
    for (name, sample, expected) in [
        ("disk", disk(100), Healthy),
        ("disk", disk(99), Degraded),
        ("disk", disk(30), Degraded),
        ("disk", disk(29), Failing),
        ("inodes", inodes(100), Healthy),
        ("inodes", inodes(99), Degraded),
        ("inodes", inodes(29), Failing),
        ("memory", memory(100), Healthy),
        ("memory", memory(99), Degraded),
        ("memory", memory(29), Failing),
        ("load", load(7.9), Healthy),
        ("load", load(8.0), Degraded),
        ("load", load(32.0), Failing),
        ("memory pressure", memory_full(9.9), Healthy),
        ("memory pressure", memory_full(10.0), Degraded),
        ("memory pressure", memory_full(40.0), Failing),
        ("disk pressure", io_full(39.9), Healthy),
        ("disk pressure", io_full(40.0), Degraded),
        ("disk pressure", io_full(80.0), Failing),
        ("CPU pressure", cpu_some(79.9), Healthy),
        ("CPU pressure", cpu_some(80.0), Degraded),
        ("CPU pressure", cpu_some(100.0), Degraded),
    ] {
        assert_eq!(level(&sample), expected, "{name}: {sample:?}");
    }
}

#[test]
fn an_engine_that_does_not_answer_is_failing() {
    let sample = fine();
    let seen = Seen { sample: &sample, cpus: None, engine: EngineState::Unreachable, ledger_trouble: None };
    let verdict = health(&seen, &Thresholds::default(), &Held::default());
    assert_eq!(verdict.health, NodeHealth::Failing);
    assert_eq!(verdict.reasons, ["the container engine does not answer"]);
    // It has no margin: it answers or it does not.
    assert_eq!(judge(&sample, &verdict.held).health, NodeHealth::Healthy);
}

#[test]
fn what_was_short_has_to_be_better_by_a_margin() {
    let with = |free| HostSample { disks: vec![disk("/", free)], ..fine() };
    let short = judge(&with(90), &Held::default());
    assert_eq!(short.health, NodeHealth::Degraded);
    assert_eq!(short.reasons, ["disk / has 9.0 % free (short below 10 %)"]);
    let still = judge(&with(119), &short.held);
    assert_eq!(still.health, NodeHealth::Degraded);
    assert_eq!(judge(&with(120), &still.held).health, NodeHealth::Healthy);
    assert_eq!(judge(&with(119), &Held::default()).health, NodeHealth::Healthy);
    // From failing it comes back by way of degraded.
    let failing = judge(&with(20), &still.held);
    assert_eq!(failing.health, NodeHealth::Failing);
    let better = judge(&with(35), &failing.held);
    assert_eq!(better.health, NodeHealth::Failing);
    assert_eq!(judge(&with(36), &better.held).health, NodeHealth::Degraded);
}

#[test]
fn one_figure_being_short_moves_no_border_of_another() {
    let mut sample = fine();
    sample.disks.push(disk("/data", 10));
    let short = judge(&sample, &Held::default());
    sample.disks[0].free_bytes = 110;
    sample.memory_available_bytes = Some(110);
    let next = judge(&sample, &short.held);
    assert_eq!(next.reasons, ["disk /data has 1.0 % free (short below 3 %)"]);
}

#[test]
fn the_worst_reason_comes_first() {
    let mut sample = fine();
    sample.memory_available_bytes = Some(10);
    sample.disks[0].free_bytes = 50;
    let verdict = judge(&sample, &Held::default());
    assert_eq!(verdict.health, NodeHealth::Failing);
    assert!(verdict.reasons[0].contains("memory") && verdict.reasons[1].contains("disk /"), "{verdict:?}");
}

#[test]
fn a_threshold_of_nothing_is_never_crossed() {
    let never = Threshold::new(0.0, 0.0);
    let thresholds = Thresholds {
        disk_free_percent: never,
        inodes_free_percent: never,
        memory_available_percent: never,
        memory_pressure_percent: never,
        io_pressure_percent: never,
        cpu_pressure_percent: never,
        load_per_cpu: never,
    };
    let sample = HostSample {
        load: Some([1e9; 3]),
        memory_bytes: Some(1),
        memory_available_bytes: Some(0),
        disks: vec![disk("/", 0)],
        pressure: Some(Pressure {
            cpu_some: 100.0,
            memory_full: 100.0,
            io_full: 100.0,
            ..Pressure::default()
        }),
        ..HostSample::default()
    };
    let seen = Seen { sample: &sample, cpus: Some(1), engine: EngineState::Reachable, ledger_trouble: None };
    assert_eq!(health(&seen, &thresholds, &Held::default()), Verdict::default());
}

prop_compose! {
    fn any_disk()(
        path in "/[a-c]{0,1}", size_bytes: u64, free_bytes: u64, inodes: Option<u64>, inodes_free: Option<u64>,
    ) -> DiskSample {
        DiskSample { path, size_bytes, free_bytes, inodes, inodes_free }
    }
}

prop_compose! {
    fn any_sample()(
        load in option::of(any::<[f64; 3]>()),
        (memory_bytes, memory_available_bytes) in any::<(Option<u64>, Option<u64>)>(),
        mut disks in vec(any_disk(), 0..8),
        pressure in option::of(any::<[f64; 5]>()),
    ) -> HostSample {
        // Each file system is there once.
        disks.sort_by(|a, b| a.path.cmp(&b.path));
        disks.dedup_by(|a, b| a.path == b.path);
        let pressure = pressure.map(|[cpu_some, memory_some, memory_full, io_some, io_full]| {
            Pressure { cpu_some, memory_some, memory_full, io_some, io_full }
        });
        HostSample { load, memory_bytes, memory_available_bytes, disks, pressure, ..HostSample::default() }
    }
}

/// Swaying figures around the thresholds of memory, in thousandths.
fn near() -> impl Strategy<Value = Vec<u64>> {
    vec(0u64..140, 1..40)
}

proptest! {
    #[test]
    fn any_figures_are_judged_and_reasons_are_there_exactly_when_it_is_not_healthy(
        first in any_sample(), second in any_sample(), cpus: Option<u32>, answers: bool,
    ) {
        let engine = if answers { EngineState::Reachable } else { EngineState::Unreachable };
        let mut held = Held::default();
        for sample in [first, second] {
            let verdict = health(&Seen { sample: &sample, cpus, engine, ledger_trouble: None }, &Thresholds::default(), &held);
            prop_assert_eq!(verdict.health == NodeHealth::Healthy, verdict.reasons.is_empty());
            prop_assert!(verdict.reasons.len() <= REASONS_MAX);
            prop_assert!(answers || verdict.health == NodeHealth::Failing);
            held = verdict.held;
        }
    }

    /// The same figures again change nothing.
    #[test]
    fn judging_again_gives_the_same(sample in any_sample(), before in any_sample()) {
        let held = judge(&before, &Held::default()).held;
        let once = judge(&sample, &held);
        let again = judge(&sample, &once.held);
        prop_assert_eq!(again.health, once.health);
        prop_assert_eq!(again.held, once.held);
    }

    /// Memory alone: what came before only ever makes the judgement more severe,
    /// and by no more than the margin allows.
    #[test]
    fn the_past_makes_a_judgement_worse_within_the_margin_only(values in near()) {
        let with = |free| HostSample { memory_available_bytes: Some(free), ..fine() };
        let mut held = Held::default();
        for value in values {
            let verdict = judge(&with(value), &held);
            let fresh = level(&with(value));
            prop_assert!(verdict.health >= fresh);
            if value >= 120 {
                prop_assert_eq!(verdict.health, NodeHealth::Healthy);
            } else if value >= 36 {
                prop_assert!(verdict.health <= NodeHealth::Degraded);
            }
            held = verdict.held;
        }
    }

    /// Less free never makes it better.
    #[test]
    fn less_is_never_better(less in 0u64..1000, more in 0u64..1000, before in 0u64..1000) {
        let (less, more) = (less.min(more), less.max(more));
        let with = |free| HostSample { memory_available_bytes: Some(free), ..fine() };
        let held = judge(&with(before), &Held::default()).held;
        prop_assert!(judge(&with(less), &held).health >= judge(&with(more), &held).health);
    }
}
