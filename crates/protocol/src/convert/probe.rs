//! How a node finds out whether a container works, and what it found.

use domain::probe::{
    HttpCheck, HttpHeader, ProbeKind, ProbeResult, ProbeRole, ProbeSpec, StatusRange, Verdict,
};

use super::{
    ConvertError, duration, duration_message, each, port, required, timestamp, timestamp_message, unknown,
};
use crate::proto;

impl TryFrom<proto::Probe> for ProbeSpec {
    type Error = ConvertError;

    fn try_from(m: proto::Probe) -> Result<Self, ConvertError> {
        use proto::probe::Role;
        Ok(Self {
            kind: required("kind", m.kind)?.try_into()?,
            role: match Role::try_from(m.role) {
                Ok(Role::Liveness) => ProbeRole::Liveness,
                Ok(Role::Readiness) => ProbeRole::Readiness,
                Ok(Role::Unspecified) | Err(_) => return Err(unknown("role", m.role)),
            },
            interval_seconds: m.interval_seconds,
            timeout_seconds: m.timeout_seconds,
            retries: m.retries,
            start_period_seconds: m.start_period_seconds,
        })
    }
}

impl From<&ProbeSpec> for proto::Probe {
    fn from(probe: &ProbeSpec) -> Self {
        use proto::probe::Role;
        let role = match probe.role {
            ProbeRole::Liveness => Role::Liveness,
            ProbeRole::Readiness => Role::Readiness,
        };
        Self {
            kind: Some((&probe.kind).into()),
            role: role.into(),
            interval_seconds: probe.interval_seconds,
            timeout_seconds: probe.timeout_seconds,
            retries: probe.retries,
            start_period_seconds: probe.start_period_seconds,
        }
    }
}

impl TryFrom<proto::probe::Kind> for ProbeKind {
    type Error = ConvertError;

    fn try_from(m: proto::probe::Kind) -> Result<Self, ConvertError> {
        use proto::probe::Kind;
        Ok(match m {
            Kind::Http(m) => Self::Http(m.try_into().map_err(|e: ConvertError| e.within("http"))?),
            Kind::Tcp(m) => Self::Tcp { port: port("tcp.port", m.port)? },
            Kind::Exec(m) => Self::Exec { command: m.command },
            Kind::Image(_) => Self::Image,
        })
    }
}

impl From<&ProbeKind> for proto::probe::Kind {
    fn from(kind: &ProbeKind) -> Self {
        use proto::probe::{Exec, Image, Tcp};
        match kind {
            ProbeKind::Http(check) => Self::Http(check.into()),
            ProbeKind::Tcp { port } => Self::Tcp(Tcp { port: (*port).into() }),
            ProbeKind::Exec { command } => Self::Exec(Exec { command: command.clone() }),
            ProbeKind::Image => Self::Image(Image {}),
        }
    }
}

impl TryFrom<proto::probe::Http> for HttpCheck {
    type Error = ConvertError;

    fn try_from(m: proto::probe::Http) -> Result<Self, ConvertError> {
        let mut expected_status = each("expected_status", m.expected_status)?;
        if expected_status.is_empty() {
            expected_status.push(StatusRange::DEFAULT);
        }
        Ok(Self {
            path: m.path,
            port: port("port", m.port)?,
            headers: m.headers.into_iter().map(|h| HttpHeader { name: h.name, value: h.value }).collect(),
            expected_status,
            body_contains: m.body_contains,
        })
    }
}

impl From<&HttpCheck> for proto::probe::Http {
    fn from(check: &HttpCheck) -> Self {
        use proto::probe::Header;
        let header = |h: &HttpHeader| Header { name: h.name.clone(), value: h.value.clone() };
        Self {
            path: check.path.clone(),
            port: check.port.into(),
            headers: check.headers.iter().map(header).collect(),
            expected_status: check.expected_status.iter().map(Into::into).collect(),
            body_contains: check.body_contains.clone(),
        }
    }
}

impl TryFrom<proto::probe::StatusRange> for StatusRange {
    type Error = ConvertError;

    fn try_from(m: proto::probe::StatusRange) -> Result<Self, ConvertError> {
        Ok(Self { from: port("from", m.from)?, to: port("to", m.to)? })
    }
}

impl From<&StatusRange> for proto::probe::StatusRange {
    fn from(range: &StatusRange) -> Self {
        Self { from: range.from.into(), to: range.to.into() }
    }
}

impl TryFrom<proto::ProbeResult> for ProbeResult {
    type Error = ConvertError;

    fn try_from(m: proto::ProbeResult) -> Result<Self, ConvertError> {
        use proto::probe_result::Verdict as Wire;
        Ok(Self {
            at: timestamp("at", m.at)?,
            took: duration("took", m.took)?,
            verdict: match Wire::try_from(m.verdict) {
                Ok(Wire::Passed) => Verdict::Passed,
                Ok(Wire::Failed) => Verdict::Failed,
                Ok(Wire::Unknown) => Verdict::Unknown,
                Ok(Wire::Unspecified) | Err(_) => return Err(unknown("verdict", m.verdict)),
            },
            message: m.message,
        })
    }
}

/// The result of the probe at a place in the spec.
#[must_use]
pub fn probe_result_message(probe: u32, result: &ProbeResult) -> proto::ProbeResult {
    use proto::probe_result::Verdict as Wire;
    let verdict = match result.verdict {
        Verdict::Passed => Wire::Passed,
        Verdict::Failed => Wire::Failed,
        Verdict::Unknown => Wire::Unknown,
    };
    proto::ProbeResult {
        probe,
        at: Some(timestamp_message(&result.at)),
        took: Some(duration_message(result.took)),
        verdict: verdict.into(),
        message: result.message.clone(),
    }
}
