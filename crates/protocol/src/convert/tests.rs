//! There and back again is nothing; and nothing that comes in makes it panic.

use std::collections::BTreeMap;

use domain::{
    Timestamp,
    assignment::{Assignment, AssignmentDelta, AssignmentSet},
    deployment::{Env, InstanceSpec, Limits, PortSpec, PullPolicy, RestartPolicy, Transport},
    id::{DeploymentId, InstanceId},
    instance::{
        Cause, Desired, FailureReason, Health, InstanceStatus, Outcome, Phase, Progress, PublishedPort,
        Report,
    },
    node::{EngineState, NodeFacts},
    sample::InstanceSample,
};
use proptest::{collection::vec, option, prelude::*, sample::select};
use prost::Message;
use uuid::Uuid;

use super::*;
use crate::proto;

fn text() -> impl Strategy<Value = String> {
    ".{0,12}"
}

fn moment() -> impl Strategy<Value = Timestamp> {
    (-62_135_596_800i64..=253_402_300_799, 0u32..1_000_000_000)
        .prop_map(|(s, n)| Timestamp::from_timestamp(s, n).unwrap())
}

fn instance_id() -> impl Strategy<Value = InstanceId> {
    any::<u128>().prop_map(|n| InstanceId::from_uuid(Uuid::from_u128(n)))
}

fn transports() -> impl Strategy<Value = Transport> {
    select(&[Transport::Tcp, Transport::Udp][..])
}

prop_compose! {
    fn port_spec()(container_port: u16, host_port: Option<u16>, transport in transports()) -> PortSpec {
        PortSpec { container_port, host_port, transport }
    }
}

fn restart() -> impl Strategy<Value = RestartPolicy> {
    prop_oneof![
        Just(RestartPolicy::Always),
        any::<Option<u32>>().prop_map(|max_retries| RestartPolicy::OnFailure { max_retries }),
        Just(RestartPolicy::Never),
    ]
}

prop_compose! {
    fn spec()(
        image in text(),
        (entrypoint, command) in (vec(text(), 0..3), vec(text(), 0..3)),
        env in prop::collection::btree_map(text(), text(), 0..4),
        ports in vec(port_spec(), 0..3),
        (cpu_millis, memory_bytes, pids) in any::<(u32, u64, u32)>(),
        restart in restart(),
        pull in select(&[PullPolicy::Always, PullPolicy::Missing, PullPolicy::Never][..]),
        (stop_grace_seconds, min_healthy_seconds) in any::<(u32, u32)>(),
    ) -> InstanceSpec {
        let limits = Limits { cpu_millis, memory_bytes, pids };
        InstanceSpec {
            image, entrypoint, command, env: Env(env), ports, limits, restart, pull, stop_grace_seconds,
            min_healthy_seconds,
        }
    }
}

prop_compose! {
    fn assignment()(
        instance_id in instance_id(),
        deployment_id in any::<u128>().prop_map(|n| DeploymentId::from_uuid(Uuid::from_u128(n))),
        deployment_name in text(),
        (revision, restart_generation) in any::<(u32, u32)>(),
        spec in spec(),
        desired in select(&[Desired::Running, Desired::Stopped, Desired::Removed][..]),
    ) -> Assignment {
        Assignment { instance_id, deployment_id, deployment_name, revision, spec, desired, restart_generation }
    }
}

prop_compose! {
    fn set()(revision: u64, assignments in vec(assignment(), 0..4)) -> AssignmentSet {
        let assignments = assignments.into_iter().map(|a| (a.instance_id, a)).collect::<BTreeMap<_, _>>();
        AssignmentSet { revision, assignments }
    }
}

prop_compose! {
    fn delta()(
        (base_revision, revision) in any::<(u64, u64)>(),
        upserts in vec(assignment(), 0..3),
        removals in vec(instance_id(), 0..3),
    ) -> AssignmentDelta {
        AssignmentDelta { base_revision, revision, upserts, removals }
    }
}

fn outcome() -> impl Strategy<Value = Outcome> {
    use FailureReason as R;
    let reasons = [
        R::ImageNotFound,
        R::ImageDenied,
        R::ImagePullFailed,
        R::SpecRefused,
        R::NameTaken,
        R::StartFailed,
        R::Vanished,
    ];
    prop_oneof![
        any::<Option<i32>>().prop_map(|code| Outcome::Stopped { code }),
        any::<(i32, bool)>().prop_map(|(code, oom)| Outcome::Exited { code, oom }),
        (select(reasons.to_vec()), text()).prop_map(|(reason, message)| Outcome::Failed { reason, message }),
    ]
}

fn cause() -> impl Strategy<Value = Cause> {
    let plain = [
        Cause::Assigned,
        Cause::RestartRequested,
        Cause::RestartPolicy,
        Cause::Process,
        Cause::Outside,
        Cause::OutOfMemory,
        Cause::Engine,
        Cause::Time,
    ];
    prop_oneof![select(plain.to_vec()), any::<i32>().prop_map(|signal| Cause::OutsideSignal { signal })]
}

prop_compose! {
    fn published()(container_port: u16, host_port: u16, transport in transports()) -> PublishedPort {
        PublishedPort { container_port, host_port, transport }
    }
}

prop_compose! {
    fn status()(
        progress in (1u32.., select(&Phase::ALL[..]), any::<bool>())
            .prop_map(|(attempt, phase, removed)| Progress { attempt, phase, removed }),
        outcome in option::of(outcome()),
        health in select(&[Health::Unknown, Health::Starting, Health::Healthy, Health::Unhealthy][..]),
        (failures, restart_generation) in any::<(u32, u32)>(),
        (container_id, image_id) in (option::of(text()), option::of(text())),
        ports in vec(published(), 0..3),
        (started_at, finished_at, backoff_until) in
            (option::of(moment()), option::of(moment()), option::of(moment())),
    ) -> InstanceStatus {
        InstanceStatus {
            progress, outcome, health, failures, restart_generation, container_id, image_id, ports, started_at,
            finished_at, backoff_until,
        }
    }
}

prop_compose! {
    fn report()(
        seq in 1u64..,
        instance_id in instance_id(),
        status in status(),
        cause in cause(),
        message in text(),
        at in moment(),
    ) -> Report {
        Report { seq, instance_id, status, cause, message, at }
    }
}

prop_compose! {
    fn facts()(
        (hostname, os, kernel, architecture) in (text(), text(), text(), text()),
        (cpu_millis, memory_bytes, disk_bytes, disk_free_bytes) in any::<(u64, u64, u64, u64)>(),
        (engine_version, engine_api_version, storage_driver) in
            (option::of(text()), option::of(text()), option::of(text())),
        cgroup_version: Option<u32>,
        (agent_version, address) in (text(), option::of(text())),
    ) -> NodeFacts {
        NodeFacts {
            hostname, os, kernel, architecture, cpu_millis, memory_bytes, disk_bytes, disk_free_bytes,
            engine_version, engine_api_version, storage_driver, cgroup_version, agent_version, address,
        }
    }
}

prop_compose! {
    fn sample()(
        instance_id in instance_id(),
        at in moment(),
        cpu_percent in option::of(0.0f64..1e9),
        (memory_bytes, memory_limit_bytes, network_rx_bytes, network_tx_bytes) in
            any::<(Option<u64>, Option<u64>, Option<u64>, Option<u64>)>(),
    ) -> InstanceSample {
        InstanceSample {
            instance_id, at, cpu_percent, memory_bytes, memory_limit_bytes, network_rx_bytes, network_tx_bytes,
        }
    }
}

/// Over the bytes as well, so that what the wire leaves out is counted too.
fn there_and_back<T, P>(value: &T) -> T
where
    P: Message + Default + for<'a> From<&'a T>,
    T: TryFrom<P, Error: std::fmt::Debug>,
{
    let bytes = P::from(value).encode_to_vec();
    T::try_from(P::decode(bytes.as_slice()).unwrap()).unwrap()
}

proptest! {
    #[test]
    fn assignments_come_back_as_they_went(set in set(), delta in delta()) {
        prop_assert_eq!(there_and_back::<_, proto::CompleteAssignments>(&set), set);
        prop_assert_eq!(there_and_back::<_, proto::AssignmentDelta>(&delta), delta);
    }

    #[test]
    fn reports_come_back_as_they_went(report in report()) {
        prop_assert_eq!(there_and_back::<_, proto::Report>(&report), report);
    }

    #[test]
    fn facts_and_readings_come_back_as_they_went(facts in facts(), sample in sample()) {
        prop_assert_eq!(there_and_back::<_, proto::NodeFacts>(&facts), facts);
        prop_assert_eq!(there_and_back::<_, proto::InstanceSample>(&sample), sample);
    }

    #[test]
    fn lengths_of_time_come_back_as_they_went(seconds in 0..i64::MAX as u64, nanos in 0u32..1_000_000_000) {
        let length = std::time::Duration::new(seconds, nanos);
        prop_assert_eq!(duration("period", Some(duration_message(length))), Ok(length));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..256)) {
        swallow(&bytes);
    }

    /// Bytes at random rarely get past the first field. These are a real message
    /// with some bytes changed.
    #[test]
    fn damaged_messages_never_panic(
        set in set(), report in report(), sample in sample(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        for mut bytes in [
            proto::CompleteAssignments::from(&set).encode_to_vec(),
            proto::Report::from(&report).encode_to_vec(),
            proto::InstanceSample::from(&sample).encode_to_vec(),
        ] {
            for (index, byte) in damage.iter().filter(|_| !bytes.is_empty()).collect::<Vec<_>>() {
                let at = index.index(bytes.len());
                bytes[at] = *byte;
            }
            swallow(&bytes);
        }
    }

    #[test]
    fn moments_of_any_kind_never_panic(seconds: i64, nanos: i32) {
        let _ = timestamp("at", Some(prost_types::Timestamp { seconds, nanos }));
        let _ = duration("period", Some(prost_types::Duration { seconds, nanos }));
    }
}

fn swallow(bytes: &[u8]) {
    let _ = proto::CompleteAssignments::decode(bytes).map(AssignmentSet::try_from);
    let _ = proto::AssignmentDelta::decode(bytes).map(AssignmentDelta::try_from);
    let _ = proto::Report::decode(bytes).map(Report::try_from);
    let _ = proto::InstanceSample::decode(bytes).map(InstanceSample::try_from);
    let _ = proto::NodeFacts::decode(bytes).map(NodeFacts::from);
    let _ = proto::Heartbeat::decode(bytes).map(|beat| beat.received(Timestamp::UNIX_EPOCH));
}

fn a_report() -> proto::Report {
    (&Report {
        seq: 1,
        instance_id: InstanceId::from_uuid(Uuid::nil()),
        status: InstanceStatus {
            outcome: Some(Outcome::Failed { reason: FailureReason::Vanished, message: String::new() }),
            ports: vec![PublishedPort { container_port: 80, host_port: 8080, transport: Transport::Tcp }],
            ..InstanceStatus::FIRST
        },
        cause: Cause::Assigned,
        message: String::new(),
        at: Timestamp::UNIX_EPOCH,
    })
        .into()
}

fn an_assignment() -> proto::Assignment {
    let mut spec = InstanceSpec::of_image("app:1");
    spec.ports.push(PortSpec { container_port: 80, host_port: None, transport: Transport::Tcp });
    (&Assignment {
        instance_id: InstanceId::from_uuid(Uuid::nil()),
        deployment_id: DeploymentId::from_uuid(Uuid::nil()),
        deployment_name: "web".into(),
        revision: 1,
        spec,
        desired: Desired::Running,
        restart_generation: 0,
    })
        .into()
}

type Spoil<P> = fn(&mut P);

#[test]
fn each_fault_of_a_report_is_named() {
    use Problem::{Missing, NotUuid, OutOfRange, UnknownValue};
    let cases: &[(Spoil<proto::Report>, &str, Problem)] = &[
        (|m| m.seq = 0, "seq", OutOfRange),
        (|m| m.instance_id = "one".into(), "instance_id", NotUuid),
        (|m| m.status = None, "status", Missing),
        (|m| m.cause = None, "cause", Missing),
        (|m| m.cause = Some(proto::Cause { cause: None }), "cause.cause", Missing),
        (
            |m| m.cause = Some(proto::Cause { cause: Some(proto::cause::Cause::Plain(99)) }),
            "cause.plain",
            UnknownValue(99),
        ),
        (|m| m.at = None, "at", Missing),
        (|m| m.at.as_mut().unwrap().nanos = -1, "at", OutOfRange),
        (|m| m.at.as_mut().unwrap().seconds = i64::MAX, "at", OutOfRange),
        (|m| m.status.as_mut().unwrap().attempt = 0, "status.attempt", OutOfRange),
        (|m| m.status.as_mut().unwrap().phase = 0, "status.phase", UnknownValue(0)),
        (|m| m.status.as_mut().unwrap().phase = 65_546, "status.phase", UnknownValue(65_546)),
        (|m| m.status.as_mut().unwrap().health = 0, "status.health", UnknownValue(0)),
        (
            |m| m.status.as_mut().unwrap().outcome = Some(proto::Outcome { outcome: None }),
            "status.outcome.outcome",
            Missing,
        ),
        (|m| m.status.as_mut().unwrap().ports[0].host_port = 65_536, "status.ports[0].host_port", OutOfRange),
    ];
    for (spoil, field, problem) in cases {
        let mut message = a_report();
        spoil(&mut message);
        assert_eq!(Report::try_from(message), Err(ConvertError::new(*field, *problem)));
    }
    assert!(Report::try_from(a_report()).is_ok());
}

#[test]
fn each_fault_of_an_assignment_is_named() {
    use Problem::{Missing, NotUuid, OutOfRange, UnknownValue};
    let cases: &[(Spoil<proto::Assignment>, &str, Problem)] = &[
        (|m| m.deployment_id.clear(), "deployment_id", NotUuid),
        (|m| m.desired = 0, "desired", UnknownValue(0)),
        (|m| m.spec = None, "spec", Missing),
        (|m| m.spec.as_mut().unwrap().limits = None, "spec.limits", Missing),
        (|m| m.spec.as_mut().unwrap().restart = None, "spec.restart", Missing),
        (
            |m| m.spec.as_mut().unwrap().restart = Some(proto::RestartPolicy { when: None }),
            "spec.restart.when",
            Missing,
        ),
        (|m| m.spec.as_mut().unwrap().pull = 7, "spec.pull", UnknownValue(7)),
        (
            |m| m.spec.as_mut().unwrap().ports[0].container_port = 70_000,
            "spec.ports[0].container_port",
            OutOfRange,
        ),
        (|m| m.spec.as_mut().unwrap().ports[0].transport = 0, "spec.ports[0].transport", UnknownValue(0)),
    ];
    for (spoil, field, problem) in cases {
        let mut message = an_assignment();
        spoil(&mut message);
        assert_eq!(Assignment::try_from(message), Err(ConvertError::new(*field, *problem)));
    }
}

#[test]
fn a_set_that_names_an_instance_twice_is_refused() {
    let twice =
        proto::CompleteAssignments { revision: 1, assignments: vec![an_assignment(), an_assignment()] };
    let error = AssignmentSet::try_from(twice).unwrap_err();
    assert_eq!(error, ConvertError::new("assignments[1].instance_id", Problem::Duplicate));
    assert_eq!(error.to_string(), "field assignments[1].instance_id is there twice");
}

#[test]
fn phases_have_the_same_numbers_on_the_wire_as_in_the_domain() {
    for phase in Phase::ALL {
        let wire = proto::Phase::try_from(i32::from(phase.number())).unwrap();
        assert_eq!(wire.as_str_name(), format!("PHASE_{}", phase.as_str().to_uppercase()));
    }
}

#[test]
fn an_engine_state_that_is_unspecified_is_refused() {
    assert_eq!(engine_state("engine", 0), Err(ConvertError::new("engine", Problem::UnknownValue(0))));
    for state in [EngineState::Reachable, EngineState::Unreachable] {
        assert_eq!(engine_state("engine", engine_state_number(state)), Ok(state));
    }
}

#[test]
fn readings_that_are_no_numbers_are_refused() {
    for bad in [f64::NAN, f64::INFINITY, -1.0] {
        let sample = proto::InstanceSample {
            instance_id: Uuid::nil().to_string(),
            at: Some(prost_types::Timestamp::default()),
            cpu_percent: Some(bad),
            ..proto::InstanceSample::default()
        };
        let error = InstanceSample::try_from(sample).unwrap_err();
        assert_eq!(error, ConvertError::new("cpu_percent", Problem::OutOfRange));
    }
}

#[test]
fn a_leap_second_is_sent_as_the_moment_before_it() {
    let leap = Timestamp::from_timestamp(1_483_228_799, 1_500_000_000).unwrap();
    let back = timestamp("at", Some(timestamp_message(&leap))).unwrap();
    assert_eq!(back, Timestamp::from_timestamp(1_483_228_799, 999_999_999).unwrap());
}
