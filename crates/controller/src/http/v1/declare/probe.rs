//! How a user declares probes.

use std::collections::BTreeMap;

use domain::probe::{HttpCheck, HttpHeader, ProbeKind, ProbeRole, ProbeSpec, StatusRange};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::error::Error;

/// A way to find out whether a copy works. With probes it is healthy once all of
/// them have passed; without, once it has run for `min_healthy_seconds`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ProbeCreate {
    /// `http` asks `GET` of `port`, `tcp` opens a connection to it, `exec` runs
    /// `command` in the container, and `image` does what the image's own `HEALTHCHECK`
    /// says, at the times given here. A node refuses `exec` unless its own
    /// configuration allows it.
    r#type: ProbeTypeCreate,
    /// What follows from failures: `liveness` restarts the copy, `readiness` only says
    /// that it is unhealthy; `liveness` when left out.
    #[serde(default)]
    role: ProbeRoleCreate,
    /// With `http` and `tcp`: inside the container, whether it is published or not.
    port: Option<u16>,
    /// With `http`: path and query; `/` when left out.
    path: Option<String>,
    /// With `http`: sent beside what a request needs, or in its place. Whoever may see
    /// the deployment sees them.
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// With `http`: codes (`204`) and ranges of them (`"200-299"`) that pass;
    /// `"200-399"` when left out. Redirections are not followed.
    #[serde(default)]
    expected_status: Vec<ProbeStatusCreate>,
    /// With `http`: has to be in the first 64 KiB of the answer's body, 1 to 256 bytes.
    body_contains: Option<String>,
    /// With `exec`: program and arguments, without a shell; exit code 0 passes.
    #[serde(default)]
    command: Vec<String>,
    /// Seconds between the beginnings of two probes, 1 to 86400; 30 when left out. Until
    /// the first success they come after 1, 2, 4 seconds and so on.
    interval_seconds: Option<u32>,
    /// Seconds that one may take, 1 to 300; 5 when left out.
    timeout_seconds: Option<u32>,
    /// Failures in a row that make it unhealthy, 1 to 100; 3 when left out.
    retries: Option<u32>,
    /// Seconds from the start in which failures do not count, until the first success,
    /// 0 to 86400; 30 when left out.
    start_period_seconds: Option<u32>,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq, ToSchema)]
#[serde(rename_all = "snake_case")]
enum ProbeTypeCreate {
    Http,
    Tcp,
    Exec,
    Image,
}

#[derive(Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum ProbeRoleCreate {
    #[default]
    Liveness,
    Readiness,
}

/// HTTP status codes that pass.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
enum ProbeStatusCreate {
    /// One.
    Code(u16),
    /// One, or from and to, as in `200-299`.
    Text(String),
}

/// Reads probes; their ranges are checked with the rest of the spec.
pub(super) fn probes(probes: Vec<ProbeCreate>) -> Result<Vec<ProbeSpec>, Error> {
    probes.into_iter().enumerate().map(|(index, probe)| probe.read(index)).collect()
}

impl ProbeCreate {
    fn read(self, index: usize) -> Result<ProbeSpec, Error> {
        self.misplaced(index)?;
        let role = match self.role {
            ProbeRoleCreate::Liveness => ProbeRole::Liveness,
            ProbeRoleCreate::Readiness => ProbeRole::Readiness,
        };
        let port = || {
            let field = format!("probes[{index}].port");
            self.port.ok_or_else(|| Error::invalid_field(field, "is needed with type: http and type: tcp"))
        };
        let kind = match self.r#type {
            ProbeTypeCreate::Http => {
                let defaults = HttpCheck::of(port()?, self.path.unwrap_or_else(|| "/".to_owned()));
                let headers = self.headers.into_iter();
                ProbeKind::Http(HttpCheck {
                    headers: headers.map(|(name, value)| HttpHeader { name, value }).collect(),
                    expected_status: match statuses(&self.expected_status, index)? {
                        none if none.is_empty() => defaults.expected_status,
                        some => some,
                    },
                    body_contains: self.body_contains,
                    ..defaults
                })
            }
            ProbeTypeCreate::Tcp => ProbeKind::Tcp { port: port()? },
            ProbeTypeCreate::Exec => ProbeKind::Exec { command: self.command },
            ProbeTypeCreate::Image => ProbeKind::Image,
        };
        let defaults = ProbeSpec::new(role, kind);
        Ok(ProbeSpec {
            interval_seconds: self.interval_seconds.unwrap_or(defaults.interval_seconds),
            timeout_seconds: self.timeout_seconds.unwrap_or(defaults.timeout_seconds),
            retries: self.retries.unwrap_or(defaults.retries),
            start_period_seconds: self.start_period_seconds.unwrap_or(defaults.start_period_seconds),
            ..defaults
        })
    }

    /// Refuses what does not go with the type: it would do nothing.
    fn misplaced(&self, index: usize) -> Result<(), Error> {
        let (http, tcp) = (self.r#type == ProbeTypeCreate::Http, self.r#type == ProbeTypeCreate::Tcp);
        let fields = [
            ("port", self.port.is_some(), http || tcp, "http and type: tcp"),
            ("path", self.path.is_some(), http, "http"),
            ("headers", !self.headers.is_empty(), http, "http"),
            ("expected_status", !self.expected_status.is_empty(), http, "http"),
            ("body_contains", self.body_contains.is_some(), http, "http"),
            ("command", !self.command.is_empty(), self.r#type == ProbeTypeCreate::Exec, "exec"),
        ];
        match fields.into_iter().find(|(_, is_there, belongs, _)| *is_there && !belongs) {
            None => Ok(()),
            Some((field, _, _, with)) => {
                let message = format!("goes with type: {with} only");
                Err(Error::invalid_field(format!("probes[{index}].{field}"), message))
            }
        }
    }
}

fn statuses(statuses: &[ProbeStatusCreate], index: usize) -> Result<Vec<StatusRange>, Error> {
    let read = |(place, status): (usize, &ProbeStatusCreate)| {
        let range = match status {
            ProbeStatusCreate::Code(code) => Some(StatusRange::one(*code)),
            ProbeStatusCreate::Text(text) => {
                let (from, to) = text.split_once('-').unwrap_or((text, text));
                let code = |text: &str| text.trim().parse().ok();
                code(from).zip(code(to)).map(|(from, to)| StatusRange { from, to })
            }
        };
        let field = || format!("probes[{index}].expected_status[{place}]");
        range.ok_or_else(|| {
            Error::invalid_field(field(), "must be a code such as 204, or a range such as 200-299")
        })
    };
    statuses.iter().enumerate().map(read).collect()
}
