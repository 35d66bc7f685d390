//! Probes as they are shown.

use std::collections::BTreeMap;

use domain::probe::{HttpCheck, ProbeKind, ProbeSpec};
use serde::Serialize;
use utoipa::ToSchema;

/// A way to find out whether a copy works.
#[derive(Serialize, ToSchema)]
pub struct ProbeView {
    /// `http`, `tcp`, `exec` or `image`.
    r#type: &'static str,
    /// `liveness` or `readiness`.
    role: &'static str,
    /// Null where it asks no port.
    port: Option<u16>,
    /// Null where it is no `http`.
    path: Option<String>,
    headers: BTreeMap<String, String>,
    /// Codes such as `204`, and ranges such as `200-399`.
    expected_status: Vec<String>,
    /// Null: the body is not read.
    body_contains: Option<String>,
    /// Empty where it is no `exec`.
    command: Vec<String>,
    interval_seconds: u32,
    timeout_seconds: u32,
    retries: u32,
    start_period_seconds: u32,
}

impl From<ProbeSpec> for ProbeView {
    fn from(spec: ProbeSpec) -> Self {
        let view = Self {
            r#type: "image",
            role: spec.role.as_str(),
            port: None,
            path: None,
            headers: BTreeMap::new(),
            expected_status: Vec::new(),
            body_contains: None,
            command: Vec::new(),
            interval_seconds: spec.interval_seconds,
            timeout_seconds: spec.timeout_seconds,
            retries: spec.retries,
            start_period_seconds: spec.start_period_seconds,
        };
        match spec.kind {
            ProbeKind::Http(HttpCheck { path, port, headers, expected_status, body_contains }) => Self {
                r#type: "http",
                port: Some(port),
                path: Some(path),
                headers: headers.into_iter().map(|header| (header.name, header.value)).collect(),
                expected_status: expected_status.iter().map(ToString::to_string).collect(),
                body_contains,
                ..view
            },
            ProbeKind::Tcp { port } => Self { r#type: "tcp", port: Some(port), ..view },
            ProbeKind::Exec { command } => Self { r#type: "exec", command, ..view },
            ProbeKind::Image => view,
        }
    }
}
