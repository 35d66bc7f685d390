//! What a user declares about a probe.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

/// What follows from a probe's failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProbeRole {
    /// The instance is unhealthy, and is restarted.
    Liveness,
    /// The instance is unhealthy, and is left as it is.
    Readiness,
}

impl ProbeRole {
    /// The stable text used in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Liveness => "liveness",
            Self::Readiness => "readiness",
        }
    }
}

/// HTTP status codes, from and to inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusRange {
    /// The lowest.
    pub from: u16,
    /// The highest.
    pub to: u16,
}

impl StatusRange {
    /// What is expected by default: any answer that is no error. A redirection is
    /// such an answer; it is not followed.
    pub const DEFAULT: Self = Self { from: 200, to: 399 };

    /// One code.
    #[must_use]
    pub const fn one(status: u16) -> Self {
        Self { from: status, to: status }
    }
}

impl fmt::Display for StatusRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.from == self.to { write!(f, "{}", self.from) } else { write!(f, "{}-{}", self.from, self.to) }
    }
}

/// A header to send. `Debug` shows the name only, because people put passwords here.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpHeader {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

impl fmt::Debug for HttpHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpHeader").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A GET request over HTTP/1.1, without TLS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpCheck {
    /// Path and query, beginning with `/`.
    pub path: String,
    /// Inside the container.
    pub port: u16,
    /// Sent beside those that a request needs, or in their place.
    #[serde(default)]
    pub headers: Vec<HttpHeader>,
    /// The answer's code has to be in one of these.
    #[serde(default = "default_status")]
    pub expected_status: Vec<StatusRange>,
    /// Has to be in the first 64 KiB of the answer's body. Without it, the body is
    /// not read.
    #[serde(default)]
    pub body_contains: Option<String>,
}

fn default_status() -> Vec<StatusRange> {
    vec![StatusRange::DEFAULT]
}

impl HttpCheck {
    /// A request for `path` that is content with [`StatusRange::DEFAULT`].
    #[must_use]
    pub fn of(port: u16, path: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            port,
            headers: Vec::new(),
            expected_status: default_status(),
            body_contains: None,
        }
    }

    /// Whether an answer with this code is what is expected.
    #[must_use]
    pub fn expects(&self, status: u16) -> bool {
        self.expected_status.iter().any(|range| (range.from..=range.to).contains(&status))
    }
}

/// How to find out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum ProbeKind {
    /// Asks over HTTP.
    Http(HttpCheck),
    /// Opens a connection, and closes it.
    Tcp {
        /// Inside the container.
        port: u16,
    },
    /// Runs a command in the container; exit code 0 is success.
    Exec {
        /// Program and arguments; no shell is put around them.
        command: Vec<String>,
    },
    /// Does what the image's own `HEALTHCHECK` says, at this probe's times.
    Image,
}

impl ProbeKind {
    /// What an image's own check comes to: `test` is the `Healthcheck.Test` of the
    /// image's configuration, `shell` its `Shell`, empty where it has none. `None`
    /// where the image has no check, or says that there shall be none. Other kinds
    /// stay as they are.
    #[must_use]
    pub fn resolved(&self, test: &[String], shell: &[String]) -> Option<Self> {
        if *self != Self::Image {
            return Some(self.clone());
        }
        let command = match test {
            [how, command @ ..] if how == "CMD" && !command.is_empty() => command.to_vec(),
            [how, line] if how == "CMD-SHELL" && shell.is_empty() => {
                vec!["/bin/sh".to_owned(), "-c".to_owned(), line.clone()]
            }
            [how, line] if how == "CMD-SHELL" => shell.iter().chain([line]).cloned().collect(),
            _ => return None,
        };
        Some(Self::Exec { command })
    }
}

/// One probe of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeSpec {
    /// How to find out.
    pub kind: ProbeKind,
    /// What follows from failures.
    pub role: ProbeRole,
    /// Seconds between the beginnings of two probes.
    pub interval_seconds: u32,
    /// Seconds that one probe may take.
    pub timeout_seconds: u32,
    /// Failures in a row that make the instance unhealthy.
    pub retries: u32,
    /// Seconds from the start of the process in which failures do not count, until
    /// the first success.
    pub start_period_seconds: u32,
}

impl ProbeSpec {
    /// A probe with default times: each 30 s, 5 s for an answer, unhealthy after 3
    /// failures, and a start period of 30 s.
    #[must_use]
    pub const fn new(role: ProbeRole, kind: ProbeKind) -> Self {
        Self { kind, role, interval_seconds: 30, timeout_seconds: 5, retries: 3, start_period_seconds: 30 }
    }

    /// See [`ProbeSpec::interval_seconds`].
    #[must_use]
    pub fn interval(&self) -> Duration {
        Duration::from_secs(u64::from(self.interval_seconds))
    }

    /// See [`ProbeSpec::timeout_seconds`].
    #[must_use]
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(u64::from(self.timeout_seconds))
    }

    /// See [`ProbeSpec::start_period_seconds`].
    #[must_use]
    pub fn start_period(&self) -> Duration {
        Duration::from_secs(u64::from(self.start_period_seconds))
    }
}
