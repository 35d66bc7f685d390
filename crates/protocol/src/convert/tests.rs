//! There and back again is nothing; and nothing that comes in makes it panic.

use std::collections::BTreeMap;

use domain::{
    Timestamp,
    assignment::{Assignment, AssignmentDelta, AssignmentSet},
    dossier::{Dossier, DossierLine, DossierProbe, MemoryPoint},
    id::{CredentialId, DeploymentId, InstanceId},
    instance::{
        Cause, Desired, FailureReason, Health, InstanceStatus, Outcome, Phase, Progress, PublishedPort,
        Report,
    },
    name::{Labels, Name},
    node::{EngineState, NodeFacts, NodeHealth, StorageLimit},
    probe::{HttpCheck, HttpHeader, ProbeKind, ProbeResult, ProbeRole, ProbeSpec, StatusRange, Verdict},
    pull::{LayerProgress, PullProgress},
    sample::{DiskSample, HostSample, InstanceSample, Pressure},
    spec::{
        Device, Env, InstanceSpec, Limits, LogSpec, Network, NetworkSpec, Options, PortSpec, PullPolicy,
        Resolved, RestartPolicy, SecretTarget, SecretUse, Security, StorageExceeded, Transport, Ulimit,
        Volume,
    },
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

fn texts() -> impl Strategy<Value = Vec<String>> {
    vec(text(), 0..3)
}

fn network() -> impl Strategy<Value = Network> {
    let join = (text(), texts()).prop_map(|(name, aliases)| NetworkSpec { name, aliases });
    prop_oneof![
        Just(Network::Bridge),
        Just(Network::Host),
        Just(Network::None),
        vec(join, 0..3).prop_map(|networks| Network::Named { networks }),
    ]
}

fn volume() -> impl Strategy<Value = Volume> {
    prop_oneof![
        (text(), any::<bool>(), text()).prop_map(|(target, read_only, name)| Volume::Named {
            target,
            read_only,
            name
        }),
        (text(), any::<bool>(), text()).prop_map(|(target, read_only, path)| Volume::Bind {
            target,
            read_only,
            path
        }),
        (text(), any::<(Option<u64>, Option<u32>)>())
            .prop_map(|(target, (size_bytes, mode))| Volume::Tmpfs { target, size_bytes, mode }),
    ]
}

prop_compose! {
    fn secret()(
        credential in "[a-z]([a-z0-9-]{0,6}[a-z0-9])?",
        key in option::of(text()),
        version: Option<u32>,
        target in prop_oneof![
            text().prop_map(|name| SecretTarget::Env { name }),
            (text(), any::<(u32, u32, u32)>())
                .prop_map(|(path, (mode, uid, gid))| SecretTarget::File { path, mode, uid, gid }),
        ],
        resolved in option::of((any::<u128>(), 1u32..).prop_map(|(id, version)| Resolved {
            credential_id: CredentialId::from_uuid(Uuid::from_u128(id)), version, node_labels: Labels::new(),
        })),
    ) -> SecretUse {
        SecretUse { credential: Name::parse(credential).unwrap(), key, version, target, resolved }
    }
}

prop_compose! {
    fn limits()(
        (cpu_millis, memory_bytes, memory_reservation_bytes) in any::<(u32, u64, Option<u64>)>(),
        (swap_bytes, storage_bytes, pids, shm_bytes) in any::<(u64, Option<u64>, u32, Option<u64>)>(),
        storage_exceeded in select(&[StorageExceeded::Mark, StorageExceeded::Stop][..]),
    ) -> Limits {
        Limits {
            cpu_millis, memory_bytes, memory_reservation_bytes, swap_bytes, storage_bytes, storage_exceeded,
            pids, shm_bytes,
        }
    }
}

prop_compose! {
    fn security()(
        (privileged, no_new_privileges, read_only_root) in any::<(bool, bool, bool)>(),
        (cap_add, cap_drop) in (texts(), texts()),
    ) -> Security {
        Security { privileged, cap_add, cap_drop, no_new_privileges, read_only_root }
    }
}

prop_compose! {
    fn device()((host_path, container_path, permissions) in (text(), text(), text())) -> Device {
        Device { host_path, container_path, permissions }
    }
}

prop_compose! {
    fn ulimit()(name in text(), (soft, hard) in any::<(i64, i64)>()) -> Ulimit {
        Ulimit { name, soft, hard }
    }
}

prop_compose! {
    fn program()(
        image in text(),
        (entrypoint, command) in (texts(), texts()),
        env in prop::collection::btree_map(text(), text(), 0..4),
        (working_dir, user, hostname) in (option::of(text()), option::of(text()), option::of(text())),
        labels in prop::collection::btree_map(text(), text(), 0..3),
        restart in restart(),
        pull in select(&[PullPolicy::Always, PullPolicy::Missing, PullPolicy::Never][..]),
        stop_signal in option::of(text()),
        (stop_grace_seconds, min_healthy_seconds, init) in any::<(u32, u32, bool)>(),
    ) -> InstanceSpec {
        InstanceSpec {
            entrypoint, command, env: Env(env), working_dir, user, hostname, labels, restart, pull, stop_signal,
            stop_grace_seconds, min_healthy_seconds, init, ..InstanceSpec::of_image(image)
        }
    }
}

prop_compose! {
    fn spec()(
        program in program(),
        ports in vec(port_spec(), 0..3),
        network in network(),
        (volumes, secrets) in (vec(volume(), 0..3), vec(secret(), 0..3)),
        devices in vec(device(), 0..2),
        (security, limits) in (security(), limits()),
        ulimits in vec(ulimit(), 0..3),
        driver in option::of(text()),
        options in prop::collection::btree_map(text(), text(), 0..3),
        probes in vec(probe(), 0..3),
        stop_after_seconds: Option<u32>,
    ) -> InstanceSpec {
        let log = LogSpec { driver, options: Options(options) };
        InstanceSpec {
            ports, network, volumes, secrets, devices, security, limits, ulimits, log, probes, stop_after_seconds, ..program
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
        registry_credential in option::of(any::<u128>().prop_map(|n| CredentialId::from_uuid(Uuid::from_u128(n)))),
    ) -> Assignment {
        Assignment {
            instance_id, deployment_id, deployment_name, revision, spec, desired, restart_generation,
            registry_credential,
        }
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
        R::Unhealthy,
        R::StorageExceeded,
    ];
    prop_oneof![
        any::<Option<i32>>().prop_map(|code| Outcome::Stopped { code }),
        any::<(i32, bool)>().prop_map(|(code, oom)| Outcome::Exited { code, oom }),
        (select(reasons.to_vec()), text(), any::<Option<i32>>())
            .prop_map(|(reason, message, code)| Outcome::Failed { reason, message, code }),
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
        Cause::Probe,
        Cause::Storage,
        Cause::LeaseExpired,
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
        (container_id, image_id, image_digest) in
            (option::of(text()), option::of(text()), option::of(text())),
        storage_exceeded: bool,
        ports in vec(published(), 0..3),
        (started_at, finished_at, backoff_until) in
            (option::of(moment()), option::of(moment()), option::of(moment())),
    ) -> InstanceStatus {
        InstanceStatus {
            progress, outcome, health, failures, restart_generation, container_id, image_id, image_digest,
            storage_exceeded, ports, started_at, finished_at, backoff_until,
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
        storage_limit in option::of(select(&[StorageLimit::Enforced, StorageLimit::Measured][..])),
    ) -> NodeFacts {
        NodeFacts {
            hostname, os, kernel, architecture, cpu_millis, memory_bytes, disk_bytes, disk_free_bytes,
            engine_version, engine_api_version, storage_driver, cgroup_version, agent_version, address,
            storage_limit,
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
        (block_read_bytes, block_write_bytes, pids) in any::<(Option<u64>, Option<u64>, Option<u64>)>(),
        (throttled_nanos, oom_kills, storage_bytes) in any::<(Option<u64>, Option<u64>, Option<u64>)>(),
    ) -> InstanceSample {
        InstanceSample {
            instance_id, at, cpu_percent, memory_bytes, memory_limit_bytes, network_rx_bytes, network_tx_bytes,
            block_read_bytes, block_write_bytes, pids, throttled_nanos, oom_kills, storage_bytes,
        }
    }
}

fn share() -> impl Strategy<Value = f64> {
    0.0f64..1e6
}

prop_compose! {
    fn pressure()(
        (cpu_some, memory_some, memory_full, io_some, io_full) in
            (share(), share(), share(), share(), share()),
    ) -> Pressure {
        Pressure { cpu_some, memory_some, memory_full, io_some, io_full }
    }
}

prop_compose! {
    fn disk()(
        path in text(),
        (size_bytes, free_bytes) in any::<(u64, u64)>(),
        (inodes, inodes_free) in any::<(Option<u64>, Option<u64>)>(),
    ) -> DiskSample {
        DiskSample { path, size_bytes, free_bytes, inodes, inodes_free }
    }
}

prop_compose! {
    fn host_sample()(
        at in moment(),
        cpu_percent in option::of(share()),
        load in option::of((share(), share(), share())),
        (memory_bytes, memory_available_bytes) in any::<(Option<u64>, Option<u64>)>(),
        (swap_bytes, swap_free_bytes) in any::<(Option<u64>, Option<u64>)>(),
        (network_rx_bytes, network_tx_bytes) in any::<(Option<u64>, Option<u64>)>(),
        disks in vec(disk(), 0..3),
        pressure in option::of(pressure()),
        health in select(&[NodeHealth::Healthy, NodeHealth::Degraded, NodeHealth::Failing][..]),
        reasons in texts(),
    ) -> HostSample {
        HostSample {
            at, cpu_percent, load: load.map(|(one, five, fifteen)| [one, five, fifteen]), memory_bytes,
            memory_available_bytes, swap_bytes, swap_free_bytes, network_rx_bytes, network_tx_bytes, disks,
            pressure, health, reasons,
        }
    }
}

fn probe_kind() -> impl Strategy<Value = ProbeKind> {
    let header = (text(), text()).prop_map(|(name, value)| HttpHeader { name, value });
    let range = any::<(u16, u16)>().prop_map(|(from, to)| StatusRange { from, to });
    prop_oneof![
        (text(), any::<u16>(), vec(header, 0..3), vec(range, 1..3), option::of(text())).prop_map(
            |(path, port, headers, expected_status, body_contains)| ProbeKind::Http(HttpCheck {
                path,
                port,
                headers,
                expected_status,
                body_contains
            })
        ),
        any::<u16>().prop_map(|port| ProbeKind::Tcp { port }),
        texts().prop_map(|command| ProbeKind::Exec { command }),
        Just(ProbeKind::Image),
    ]
}

prop_compose! {
    fn probe()(
        kind in probe_kind(),
        role in select(&[ProbeRole::Liveness, ProbeRole::Readiness][..]),
        (interval_seconds, timeout_seconds, retries, start_period_seconds) in any::<(u32, u32, u32, u32)>(),
    ) -> ProbeSpec {
        ProbeSpec { kind, role, interval_seconds, timeout_seconds, retries, start_period_seconds }
    }
}

prop_compose! {
    fn probe_result()(
        (at, took, message) in (moment(), (0u64..1 << 40, 0u32..1_000_000_000), text()),
        verdict in select(&[Verdict::Passed, Verdict::Failed, Verdict::Unknown][..]),
    ) -> ProbeResult {
        ProbeResult { at, took: std::time::Duration::new(took.0, took.1), verdict, message }
    }
}

prop_compose! {
    fn line()((at, stderr, text, partial) in (option::of(moment()), any::<bool>(), text(), any::<bool>())) -> DossierLine {
        DossierLine { at, stderr, text, partial }
    }
}

fn memory_point() -> impl Strategy<Value = MemoryPoint> {
    (moment(), any::<u64>()).prop_map(|(at, bytes)| MemoryPoint { at, bytes })
}

prop_compose! {
    fn dossier()(
        (instance_id, attempt, ended_at) in (instance_id(), 1u32.., moment()),
        (outcome, container_id) in (outcome(), option::of(text())),
        (log, log_cut) in (vec(line(), 0..4), any::<bool>()),
        probes in vec((any::<u32>(), probe_result()).prop_map(|(probe, result)| DossierProbe { probe, result }), 0..3),
        (memory, memory_limit_bytes) in (vec(memory_point(), 0..3), any::<Option<u64>>()),
    ) -> Dossier {
        Dossier {
            instance_id, attempt, ended_at, outcome, container_id, log, log_cut, probes, memory,
            memory_limit_bytes,
        }
    }
}

prop_compose! {
    fn layer()(
        (id, status) in (text(), text()), current_bytes: u64, total_bytes: Option<u64>,
    ) -> LayerProgress {
        LayerProgress { id, status, current_bytes, total_bytes }
    }
}

prop_compose! {
    fn pull()(
        (image, at, attempt) in (text(), moment(), any::<u32>()),
        instance_ids in vec(instance_id(), 0..3),
        layers in vec(layer(), 0..3),
    ) -> PullProgress {
        PullProgress { image, instance_ids, at, attempt, layers }
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
    fn progress_of_a_pull_comes_back_as_it_went(pull in pull()) {
        prop_assert_eq!(there_and_back::<_, proto::PullProgress>(&pull), pull);
    }

    #[test]
    fn facts_and_readings_come_back_as_they_went(
        facts in facts(), sample in sample(), host in host_sample(),
    ) {
        prop_assert_eq!(there_and_back::<_, proto::NodeFacts>(&facts), facts);
        prop_assert_eq!(there_and_back::<_, proto::InstanceSample>(&sample), sample);
        prop_assert_eq!(there_and_back::<_, proto::HostSample>(&host), host);
    }

    #[test]
    fn dossiers_come_back_as_they_went(dossier in dossier(), result in probe_result(), point in memory_point()) {
        prop_assert_eq!(there_and_back::<_, proto::Dossier>(&dossier), dossier);
        prop_assert_eq!(there_and_back::<_, proto::MemoryPoint>(&point), point);
        let bytes = probe_result_message(7, &result).encode_to_vec();
        let back = DossierProbe::try_from(proto::ProbeResult::decode(bytes.as_slice()).unwrap()).unwrap();
        prop_assert_eq!(back, DossierProbe { probe: 7, result });
    }

    #[test]
    fn progress_of_pulls_comes_back_as_it_went(pull in pull()) {
        prop_assert_eq!(there_and_back::<_, proto::PullProgress>(&pull), pull);
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
        set in set(), report in report(), sample in sample(), (dossier, pull) in (dossier(), pull()),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        for mut bytes in [
            proto::CompleteAssignments::from(&set).encode_to_vec(),
            proto::Report::from(&report).encode_to_vec(),
            proto::InstanceSample::from(&sample).encode_to_vec(),
            proto::Dossier::from(&dossier).encode_to_vec(),
            proto::PullProgress::from(&pull).encode_to_vec(),
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
    let _ = proto::Dossier::decode(bytes).map(Dossier::try_from);
    let _ = proto::PullProgress::decode(bytes).map(PullProgress::try_from);
    let _ = proto::NodeFacts::decode(bytes).map(NodeFacts::from);
    let _ = proto::Heartbeat::decode(bytes).map(|beat| beat.received(Timestamp::UNIX_EPOCH));
}

fn a_report() -> proto::Report {
    (&Report {
        seq: 1,
        instance_id: InstanceId::from_uuid(Uuid::nil()),
        status: InstanceStatus {
            outcome: Some(Outcome::failed(FailureReason::Vanished, "")),
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
    spec.secrets.push(SecretUse {
        credential: Name::parse("app-key").unwrap(),
        key: None,
        version: None,
        target: SecretTarget::file("/run/key"),
        resolved: Some(Resolved {
            credential_id: CredentialId::from_uuid(Uuid::nil()),
            version: 1,
            node_labels: Labels::new(),
        }),
    });
    (&Assignment {
        instance_id: InstanceId::from_uuid(Uuid::nil()),
        deployment_id: DeploymentId::from_uuid(Uuid::nil()),
        deployment_name: "web".into(),
        revision: 1,
        spec,
        desired: Desired::Running,
        restart_generation: 0,
        registry_credential: None,
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
    use Problem::{Missing, NotName, NotUuid, OutOfRange, UnknownValue};
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
            |m| m.spec.as_mut().unwrap().network = Some(proto::Network { mode: None }),
            "spec.network.mode",
            Missing,
        ),
        (
            |m| m.spec.as_mut().unwrap().volumes.push(proto::Volume { kind: None }),
            "spec.volumes[0].kind",
            Missing,
        ),
        (
            |m| m.spec.as_mut().unwrap().ports[0].container_port = 70_000,
            "spec.ports[0].container_port",
            OutOfRange,
        ),
        (|m| m.spec.as_mut().unwrap().ports[0].transport = 0, "spec.ports[0].transport", UnknownValue(0)),
        (|m| m.registry_credential = Some("mine".into()), "registry_credential", NotUuid),
        (|m| m.spec.as_mut().unwrap().secrets[0].credential.clear(), "spec.secrets[0].credential", NotName),
        (|m| m.spec.as_mut().unwrap().secrets[0].target = None, "spec.secrets[0].target", Missing),
        (
            |m| {
                let secret = &mut m.spec.as_mut().unwrap().secrets[0];
                secret.resolved.as_mut().unwrap().version = 0;
            },
            "spec.secrets[0].resolved.version",
            OutOfRange,
        ),
    ];
    for (spoil, field, problem) in cases {
        let mut message = an_assignment();
        spoil(&mut message);
        assert_eq!(Assignment::try_from(message), Err(ConvertError::new(*field, *problem)));
    }
}

fn a_dossier() -> proto::Dossier {
    let at = Some(prost_types::Timestamp::default());
    let took = Some(prost_types::Duration::default());
    proto::Dossier {
        instance_id: Uuid::nil().to_string(),
        attempt: 1,
        ended_at: at,
        outcome: Some((&Outcome::Exited { code: 3, oom: false }).into()),
        log: vec![proto::LogLine { at, ..proto::LogLine::default() }],
        probes: vec![proto::ProbeResult { at, took, verdict: 1, ..proto::ProbeResult::default() }],
        memory: vec![proto::MemoryPoint { at, bytes: 1 }],
        ..proto::Dossier::default()
    }
}

#[test]
fn each_fault_of_a_dossier_is_named() {
    use Problem::{Missing, NotUuid, OutOfRange, UnknownValue};
    let cases: &[(Spoil<proto::Dossier>, &str, Problem)] = &[
        (|m| m.instance_id = "one".into(), "instance_id", NotUuid),
        (|m| m.attempt = 0, "attempt", OutOfRange),
        (|m| m.ended_at = None, "ended_at", Missing),
        (|m| m.outcome = None, "outcome", Missing),
        (|m| m.log[0].at.as_mut().unwrap().nanos = -1, "log[0].at", OutOfRange),
        (|m| m.probes[0].at = None, "probes[0].at", Missing),
        (|m| m.probes[0].took = None, "probes[0].took", Missing),
        (|m| m.probes[0].verdict = 0, "probes[0].verdict", UnknownValue(0)),
        (|m| m.memory[0].at = None, "memory[0].at", Missing),
    ];
    for (spoil, field, problem) in cases {
        let mut message = a_dossier();
        spoil(&mut message);
        assert_eq!(Dossier::try_from(message), Err(ConvertError::new(*field, *problem)));
    }
    assert!(Dossier::try_from(a_dossier()).is_ok());
}

#[test]
fn text_of_a_log_that_is_not_utf_8_is_shown_as_far_as_it_can_be() {
    let line = proto::LogLine { text: b"caf\xe9\0".as_slice().into(), ..proto::LogLine::default() };
    assert_eq!(DossierLine::try_from(line).unwrap().text, "caf\u{fffd}\0");
}

#[test]
fn each_fault_of_a_pulls_progress_is_named() {
    let good = proto::PullProgress {
        instance_ids: vec![Uuid::nil().to_string()],
        at: Some(prost_types::Timestamp::default()),
        ..proto::PullProgress::default()
    };
    assert!(PullProgress::try_from(good.clone()).is_ok());
    let cases: &[(Spoil<proto::PullProgress>, &str, Problem)] = &[
        (|m| m.instance_ids.push("one".into()), "instance_ids", Problem::NotUuid),
        (|m| m.at = None, "at", Problem::Missing),
    ];
    for (spoil, field, problem) in cases {
        let mut message = good.clone();
        spoil(&mut message);
        assert_eq!(PullProgress::try_from(message), Err(ConvertError::new(*field, *problem)));
    }
}

#[test]
fn a_spec_without_the_later_fields_means_what_it_always_meant() {
    let mut message = an_assignment();
    let spec = message.spec.as_mut().unwrap();
    (spec.network, spec.security, spec.log) = (None, None, None);
    spec.limits.as_mut().unwrap().storage_bytes = None;
    spec.secrets.clear();
    let read = Assignment::try_from(message).unwrap().spec;
    let mut expected = InstanceSpec::of_image("app:1");
    expected.limits.storage_bytes = None;
    expected.ports.push(PortSpec { container_port: 80, host_port: None, transport: Transport::Tcp });
    assert_eq!(read, expected);
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
