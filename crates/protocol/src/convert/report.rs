//! What a node says of its instances.

use domain::instance::{
    Cause, FailureReason, Health, InstanceStatus, Outcome, Phase, Progress, PublishedPort, Report,
};

use super::{
    ConvertError, Problem, each, id, inner, port, required,
    spec::{transport, transport_number},
    time::{timestamp, timestamp_message, timestamp_opt},
    unknown,
};
use crate::proto;

impl TryFrom<proto::Report> for Report {
    type Error = ConvertError;

    fn try_from(m: proto::Report) -> Result<Self, ConvertError> {
        Ok(Self {
            seq: counted("seq", m.seq)?,
            instance_id: id("instance_id", &m.instance_id)?,
            status: inner("status", m.status)?,
            cause: inner("cause", m.cause)?,
            message: m.message,
            at: timestamp("at", m.at)?,
        })
    }
}

impl From<&Report> for proto::Report {
    fn from(report: &Report) -> Self {
        Self {
            seq: report.seq,
            instance_id: report.instance_id.to_string(),
            status: Some((&report.status).into()),
            cause: Some((&report.cause).into()),
            message: report.message.clone(),
            at: Some(timestamp_message(&report.at)),
        }
    }
}

impl TryFrom<proto::InstanceStatus> for InstanceStatus {
    type Error = ConvertError;

    fn try_from(m: proto::InstanceStatus) -> Result<Self, ConvertError> {
        Ok(Self {
            progress: Progress {
                attempt: counted("attempt", m.attempt)?,
                phase: phase(m.phase)?,
                removed: m.removed,
            },
            outcome: m.outcome.map(|m| Outcome::try_from(m).map_err(|e| e.within("outcome"))).transpose()?,
            health: health(m.health)?,
            failures: m.failures,
            restart_generation: m.restart_generation,
            container_id: m.container_id,
            image_id: m.image_id,
            image_digest: m.image_digest,
            storage_exceeded: m.storage_exceeded,
            ports: each("ports", m.ports)?,
            started_at: timestamp_opt("started_at", m.started_at)?,
            finished_at: timestamp_opt("finished_at", m.finished_at)?,
            backoff_until: timestamp_opt("backoff_until", m.backoff_until)?,
        })
    }
}

impl From<&InstanceStatus> for proto::InstanceStatus {
    fn from(status: &InstanceStatus) -> Self {
        let Progress { attempt, phase, removed } = status.progress;
        let health = match status.health {
            Health::Unknown => proto::Health::Unknown,
            Health::Starting => proto::Health::Starting,
            Health::Healthy => proto::Health::Healthy,
            Health::Unhealthy => proto::Health::Unhealthy,
        };
        Self {
            attempt,
            phase: i32::from(phase.number()),
            removed,
            outcome: status.outcome.as_ref().map(Into::into),
            health: health.into(),
            failures: status.failures,
            restart_generation: status.restart_generation,
            container_id: status.container_id.clone(),
            image_id: status.image_id.clone(),
            image_digest: status.image_digest.clone(),
            storage_exceeded: status.storage_exceeded,
            ports: status.ports.iter().map(Into::into).collect(),
            started_at: status.started_at.as_ref().map(timestamp_message),
            finished_at: status.finished_at.as_ref().map(timestamp_message),
            backoff_until: status.backoff_until.as_ref().map(timestamp_message),
        }
    }
}

impl TryFrom<proto::Outcome> for Outcome {
    type Error = ConvertError;

    fn try_from(m: proto::Outcome) -> Result<Self, ConvertError> {
        use proto::outcome::Outcome as Wire;
        Ok(match required("outcome", m.outcome)? {
            Wire::Stopped(m) => Self::Stopped { code: m.code },
            Wire::Exited(m) => Self::Exited { code: m.code, oom: m.oom },
            Wire::Failed(m) => Self::Failed { reason: reason(m.reason)?, message: m.message, code: m.code },
        })
    }
}

impl From<&Outcome> for proto::Outcome {
    fn from(outcome: &Outcome) -> Self {
        use proto::outcome::{Exited, Failed, Outcome as Wire, Stopped};
        let outcome = match outcome {
            Outcome::Stopped { code } => Wire::Stopped(Stopped { code: *code }),
            Outcome::Exited { code, oom } => Wire::Exited(Exited { code: *code, oom: *oom }),
            Outcome::Failed { reason, message, code } => Wire::Failed(Failed {
                reason: reason_message(*reason).into(),
                message: message.clone(),
                code: *code,
            }),
        };
        Self { outcome: Some(outcome) }
    }
}

impl TryFrom<proto::PublishedPort> for PublishedPort {
    type Error = ConvertError;

    fn try_from(m: proto::PublishedPort) -> Result<Self, ConvertError> {
        Ok(Self {
            container_port: port("container_port", m.container_port)?,
            host_port: port("host_port", m.host_port)?,
            transport: transport(m.transport)?,
        })
    }
}

impl From<&PublishedPort> for proto::PublishedPort {
    fn from(port: &PublishedPort) -> Self {
        Self {
            container_port: port.container_port.into(),
            host_port: port.host_port.into(),
            transport: transport_number(port.transport),
        }
    }
}

impl TryFrom<proto::Cause> for Cause {
    type Error = ConvertError;

    fn try_from(m: proto::Cause) -> Result<Self, ConvertError> {
        use proto::cause::{Cause as Wire, Plain};
        let number = match required("cause", m.cause)? {
            Wire::OutsideSignal(signal) => return Ok(Self::OutsideSignal { signal }),
            Wire::Plain(number) => number,
        };
        match Plain::try_from(number) {
            Ok(Plain::Assigned) => Ok(Self::Assigned),
            Ok(Plain::RestartRequested) => Ok(Self::RestartRequested),
            Ok(Plain::RestartPolicy) => Ok(Self::RestartPolicy),
            Ok(Plain::Process) => Ok(Self::Process),
            Ok(Plain::Outside) => Ok(Self::Outside),
            Ok(Plain::OutOfMemory) => Ok(Self::OutOfMemory),
            Ok(Plain::Engine) => Ok(Self::Engine),
            Ok(Plain::Time) => Ok(Self::Time),
            Ok(Plain::Probe) => Ok(Self::Probe),
            Ok(Plain::Storage) => Ok(Self::Storage),
            Ok(Plain::LeaseExpired) => Ok(Self::LeaseExpired),
            Ok(Plain::Unspecified) | Err(_) => Err(unknown("plain", number)),
        }
    }
}

impl From<&Cause> for proto::Cause {
    fn from(cause: &Cause) -> Self {
        use proto::cause::{Cause as Wire, Plain};
        let plain = match cause {
            Cause::OutsideSignal { signal } => return Self { cause: Some(Wire::OutsideSignal(*signal)) },
            Cause::Assigned => Plain::Assigned,
            Cause::RestartRequested => Plain::RestartRequested,
            Cause::RestartPolicy => Plain::RestartPolicy,
            Cause::Process => Plain::Process,
            Cause::Outside => Plain::Outside,
            Cause::OutOfMemory => Plain::OutOfMemory,
            Cause::Engine => Plain::Engine,
            Cause::Time => Plain::Time,
            Cause::Probe => Plain::Probe,
            Cause::Storage => Plain::Storage,
            Cause::LeaseExpired => Plain::LeaseExpired,
        };
        Self { cause: Some(Wire::Plain(plain.into())) }
    }
}

/// Numbers that count from 1, where 0 is what the wire makes of an absent field.
fn counted<N: Default + PartialEq>(field: &str, number: N) -> Result<N, ConvertError> {
    if number == N::default() { Err(ConvertError::new(field, Problem::OutOfRange)) } else { Ok(number) }
}

/// The wire's numbers are the domain's own; a test holds the two together.
fn phase(number: i32) -> Result<Phase, ConvertError> {
    i16::try_from(number).ok().and_then(Phase::from_number).ok_or_else(|| unknown("phase", number))
}

fn health(number: i32) -> Result<Health, ConvertError> {
    match proto::Health::try_from(number) {
        Ok(proto::Health::Unknown) => Ok(Health::Unknown),
        Ok(proto::Health::Starting) => Ok(Health::Starting),
        Ok(proto::Health::Healthy) => Ok(Health::Healthy),
        Ok(proto::Health::Unhealthy) => Ok(Health::Unhealthy),
        Ok(proto::Health::Unspecified) | Err(_) => Err(unknown("health", number)),
    }
}

fn reason(number: i32) -> Result<FailureReason, ConvertError> {
    use proto::FailureReason as Wire;
    match Wire::try_from(number) {
        Ok(Wire::ImageNotFound) => Ok(FailureReason::ImageNotFound),
        Ok(Wire::ImageDenied) => Ok(FailureReason::ImageDenied),
        Ok(Wire::ImagePullFailed) => Ok(FailureReason::ImagePullFailed),
        Ok(Wire::SpecRefused) => Ok(FailureReason::SpecRefused),
        Ok(Wire::NameTaken) => Ok(FailureReason::NameTaken),
        Ok(Wire::StartFailed) => Ok(FailureReason::StartFailed),
        Ok(Wire::Vanished) => Ok(FailureReason::Vanished),
        Ok(Wire::Unhealthy) => Ok(FailureReason::Unhealthy),
        Ok(Wire::StorageExceeded) => Ok(FailureReason::StorageExceeded),
        Ok(Wire::Unspecified) | Err(_) => Err(unknown("failed.reason", number)),
    }
}

fn reason_message(reason: FailureReason) -> proto::FailureReason {
    use proto::FailureReason as Wire;
    match reason {
        FailureReason::ImageNotFound => Wire::ImageNotFound,
        FailureReason::ImageDenied => Wire::ImageDenied,
        FailureReason::ImagePullFailed => Wire::ImagePullFailed,
        FailureReason::SpecRefused => Wire::SpecRefused,
        FailureReason::NameTaken => Wire::NameTaken,
        FailureReason::StartFailed => Wire::StartFailed,
        FailureReason::Vanished => Wire::Vanished,
        FailureReason::Unhealthy => Wire::Unhealthy,
        FailureReason::StorageExceeded => Wire::StorageExceeded,
    }
}
