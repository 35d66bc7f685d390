//! The connection to the engine, and the version it is spoken to in.
//!
//! The client library keeps a negotiated version but never sends it: joining the
//! version and the absolute path of a call drops the version again, so the engine
//! serves each call in its own newest version, whatever was agreed. Here the
//! version is put in front of every path after all.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bollard::{API_DEFAULT_VERSION, Docker, models::SystemInfo, models::SystemInfoCgroupVersionEnum};
use tokio::time::timeout;

use super::failure::{Failure, unreachable};
use crate::runtime::{EngineInfo, RuntimeError, RuntimeErrorKind};

/// How long the engine may take to say its version.
const NEGOTIATION_LIMIT: Duration = Duration::from_secs(10);
/// How much longer than the header of an answer its body may take.
const BODY_MORE: Duration = Duration::from_secs(10);

/// Header with the login for a registry.
const REGISTRY_AUTH: &str = "x-registry-auth";

/// Where the engine is.
enum Host {
    Unix(String),
    Tcp(String),
}

/// An engine that has told its version.
#[derive(Clone)]
pub(super) struct Engine {
    pub(super) docker: Docker,
    pub(super) api: ApiVersion,
    /// Whether it is Podman, which chooses no host port from a range.
    pub(super) is_podman: bool,
}

/// Such as 1.41.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ApiVersion {
    pub(super) major: usize,
    pub(super) minor: usize,
}

impl ApiVersion {
    fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.trim().split_once('.')?;
        Some(Self { major: major.parse().ok()?, minor: minor.parse().ok()? })
    }
}

impl std::fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Makes calls, and negotiates before the first one.
pub(super) struct Connection {
    host: Host,
    /// Held for reading and replacing only, never across an await.
    engine: Mutex<Option<Engine>>,
}

impl Connection {
    pub(super) fn new(host: &str) -> Result<Self, RuntimeError> {
        let host = if let Some(path) = host.strip_prefix("unix://").filter(|path| path.starts_with('/')) {
            Host::Unix(path.to_owned())
        } else if let Some(address) = host.strip_prefix("tcp://").filter(|address| !address.is_empty()) {
            Host::Tcp(address.trim_end_matches('/').to_owned())
        } else {
            let message = format!("engine address {host:?} must look like unix:///path or tcp://host:port");
            return Err(RuntimeError::unreachable(message));
        };
        Ok(Self { host, engine: Mutex::new(None) })
    }

    /// Makes one call, within `limit`, which counts up to the answer's header.
    pub(super) async fn make<T>(
        &self,
        limit: Duration,
        call: impl AsyncFnOnce(Docker) -> Result<T, bollard::errors::Error>,
    ) -> Result<T, Failure> {
        let engine = self.engine().await.map_err(Failure::Unanswered)?;
        let docker = engine.docker.with_timeout(limit);
        let answer = timeout(limit.saturating_add(BODY_MORE), call(docker)).await;
        let answer = answer.unwrap_or(Err(bollard::errors::Error::RequestTimeoutError));
        answer.map_err(|error| {
            let failure = Failure::of(&error);
            if let Failure::Unanswered(error) = &failure {
                self.note(error);
            }
            failure
        })
    }

    /// Forgets the version of an engine that cannot be reached: it may come back as
    /// another one.
    pub(super) fn note(&self, error: &RuntimeError) {
        if error.kind == RuntimeErrorKind::Unreachable {
            *self.lock() = None;
        }
    }

    /// The engine, its version known.
    pub(super) async fn engine(&self) -> Result<Engine, RuntimeError> {
        if let Some(engine) = self.lock().clone() {
            return Ok(engine);
        }
        // Two at once ask twice and find the same.
        let engine = self.negotiate().await?;
        *self.lock() = Some(engine.clone());
        Ok(engine)
    }

    /// The version that was agreed, such as `1.41`.
    pub(super) async fn api_version(&self) -> Result<String, RuntimeError> {
        Ok(self.engine().await?.api.to_string())
    }

    async fn negotiate(&self) -> Result<Engine, RuntimeError> {
        let seconds = NEGOTIATION_LIMIT.as_secs();
        let docker = match &self.host {
            Host::Unix(path) => Docker::connect_with_unix(path, seconds, API_DEFAULT_VERSION),
            Host::Tcp(address) => Docker::connect_with_http(address, seconds, API_DEFAULT_VERSION),
        }
        .map_err(|error| unreachable(&error))?;
        let answer = timeout(NEGOTIATION_LIMIT, docker.version()).await;
        let version = answer
            .unwrap_or(Err(bollard::errors::Error::RequestTimeoutError))
            .map_err(|error| Failure::of(&error).unexpected())?;
        let parse = |text: Option<String>| text.as_deref().and_then(ApiVersion::parse);
        let api = agree(parse(version.api_version), parse(version.min_api_version))
            .map_err(RuntimeError::unreachable)?;
        tracing::debug!(%api, "agreed on a version with the engine");
        let components = version.components.unwrap_or_default();
        let is_podman = components.iter().any(|component| component.name.contains("Podman"));
        Ok(Engine { docker: versioned(docker, api), api, is_podman })
    }

    fn lock(&self) -> MutexGuard<'_, Option<Engine>> {
        self.engine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The newest version that both sides speak.
fn agree(newest: Option<ApiVersion>, oldest: Option<ApiVersion>) -> Result<ApiVersion, String> {
    let ours =
        ApiVersion { major: API_DEFAULT_VERSION.major_version, minor: API_DEFAULT_VERSION.minor_version };
    let newest = newest.ok_or("the engine does not say its version")?;
    let api = newest.min(ours);
    match oldest {
        Some(oldest) if oldest > api => {
            Err(format!("the engine speaks version {oldest} of its API and later, this agent up to {ours}"))
        }
        _ => Ok(api),
    }
}

/// Puts the version in front of every path.
fn versioned(docker: Docker, api: ApiVersion) -> Docker {
    docker.with_request_modifier(move |mut request| {
        let mut parts = request.uri().clone().into_parts();
        parts.path_and_query = parts.path_and_query.and_then(|path| format!("/v{api}{path}").parse().ok());
        if let Ok(uri) = http::Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
        if let Some(login) = request.headers_mut().get_mut(REGISTRY_AUTH) {
            *login = url_safe(login);
        }
        request
    })
}

/// A login as engines read it, which is in the alphabet for URLs. The client library
/// writes the other one, and an engine takes a login that it cannot read for none at
/// all: passwords with a `?` or `>` in the wrong place were no passwords.
fn url_safe(login: &http::HeaderValue) -> http::HeaderValue {
    let swap = |byte: &u8| match byte {
        b'+' => b'-',
        b'/' => b'_',
        other => *other,
    };
    let bytes: Vec<u8> = login.as_bytes().iter().map(swap).collect();
    let mut login = http::HeaderValue::from_bytes(&bytes).unwrap_or_else(|_| login.clone());
    login.set_sensitive(true);
    login
}

/// What the agent wants to know of an engine.
pub(super) fn info(info: SystemInfo, api_version: String) -> EngineInfo {
    EngineInfo {
        version: info.server_version.unwrap_or_default(),
        api_version,
        storage_driver: info.driver.filter(|driver| !driver.is_empty()),
        cgroup_version: match info.cgroup_version {
            Some(SystemInfoCgroupVersionEnum::_1) => Some(1),
            Some(SystemInfoCgroupVersionEnum::_2) => Some(2),
            Some(SystemInfoCgroupVersionEnum::EMPTY) | None => None,
        },
        data_dir: info.docker_root_dir,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Option<ApiVersion> {
        ApiVersion::parse(text)
    }

    #[test]
    fn the_newest_version_that_both_speak_is_agreed_on() {
        assert_eq!(agree(version("1.41"), version("1.12")).map(|v| v.to_string()), Ok("1.41".into()));
        assert_eq!(agree(version("1.99"), version("1.44")), Ok(version("1.53").unwrap()));
        assert_eq!(agree(version("1.40"), None), Ok(version("1.40").unwrap()));
    }

    #[test]
    fn an_engine_that_is_too_new_says_so() {
        let message = agree(version("1.99"), version("1.60")).unwrap_err();
        assert!(message.contains("1.60") && message.contains("1.53"), "{message}");
        assert!(agree(None, None).is_err());
    }

    #[test]
    fn addresses_of_other_forms_are_refused() {
        for bad in ["", "/var/run/docker.sock", "unix://docker.sock", "tcp://", "ssh://host"] {
            assert!(Connection::new(bad).is_err(), "{bad}");
        }
        assert!(Connection::new("unix:///var/run/docker.sock").is_ok());
        assert!(Connection::new("tcp://127.0.0.1:2375").is_ok());
    }
}
