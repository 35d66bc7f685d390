//! Fetching images.

use std::time::Duration;

use bollard::{
    Docker,
    auth::DockerCredentials,
    errors::Error,
    models::{CreateImageInfo, ImageInspect},
    query_parameters::CreateImageOptionsBuilder,
};
use domain::instance::FailureReason;
use futures_util::{Stream, StreamExt as _, future, stream};

use super::failure::{Failure, trimmed};
use crate::{
    pull::verdict,
    runtime::{ImageInfo, LoginProof, PullSign, RegistryLogin, RuntimeError},
};

/// How long the engine may take to begin its answer. It does so once the registry
/// has told it of the image, which takes a minute where a name server is slow. Whoever
/// calls has a shorter patience of his own.
const HEADER: Duration = Duration::from_secs(600);

/// What is told of an image that was asked for as `name`. `None` for an answer
/// without an id, which no engine gives.
pub(super) fn info(name: &str, found: ImageInspect) -> Option<ImageInfo> {
    let config = found.config.unwrap_or_default();
    let digests = found.repo_digests.unwrap_or_default();
    Some(ImageInfo {
        id: found.id?,
        digest: digest_of(name, &digests),
        health_test: config.healthcheck.and_then(|check| check.test).unwrap_or_default(),
        shell: config.shell.unwrap_or_default(),
    })
}

/// The digest by which the registry of `name` knows an image; any other's where
/// that one does not.
fn digest_of(name: &str, digests: &[String]) -> Option<String> {
    let split = || digests.iter().filter_map(|entry| entry.split_once('@'));
    let base = name.split('@').next().unwrap_or_default();
    let named = split().find(|(repository, _)| {
        base.strip_prefix(repository).is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
    });
    named.or_else(|| split().next()).map(|(_, digest)| digest.to_owned())
}

/// Fetches an image.
pub(super) fn pull(
    docker: &Docker,
    image: String,
    login: Option<RegistryLogin>,
) -> impl Stream<Item = Result<PullSign, RuntimeError>> + Send + use<> {
    if !is_reference(&image) {
        let error = RuntimeError::refused(FailureReason::ImageNotFound, "invalid reference format");
        return stream::once(future::ready(Err(error))).left_stream();
    }
    let options = CreateImageOptionsBuilder::default().from_image(&with_tag(&image)).build();
    let answers =
        docker.clone().with_timeout(HEADER).create_image(Some(options), None, login.map(credentials));
    answers.map(move |answer| answer.map(sign).map_err(|error| pull_error(&error, &image))).right_stream()
}

fn credentials(login: RegistryLogin) -> DockerCredentials {
    let server = Some(login.server);
    let nothing = DockerCredentials { serveraddress: server, ..DockerCredentials::default() };
    match login.proof {
        LoginProof::Password { username, password } => {
            DockerCredentials { username: Some(username), password: Some(password.to_string()), ..nothing }
        }
        LoginProof::IdentityToken { username, token } => {
            DockerCredentials { username: Some(username), identitytoken: Some(token.to_string()), ..nothing }
        }
    }
}

/// An image reference that names one image: without a tag an engine would fetch
/// all that the repository has.
fn with_tag(image: &str) -> String {
    let name = image.rsplit_once('/').map_or(image, |(_, name)| name);
    if name.contains([':', '@']) { image.to_owned() } else { format!("{image}:latest") }
}

fn sign(info: CreateImageInfo) -> PullSign {
    let detail = info.progress_detail.unwrap_or_default();
    let bytes = |count: Option<i64>| count.and_then(|count| u64::try_from(count).ok());
    PullSign {
        id: info.id.filter(|id| !id.is_empty()),
        status: info.status.unwrap_or_default(),
        current_bytes: bytes(detail.current),
        total_bytes: bytes(detail.total),
    }
}

/// Whether a text can be an image reference. It becomes part of a path of the API,
/// so what would lead that path elsewhere has to be kept out of it.
pub(super) fn is_reference(image: &str) -> bool {
    let allowed =
        |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'/' | b':' | b'@' | b'+');
    image.bytes().all(allowed) && image.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

fn pull_error(error: &Error, image: &str) -> RuntimeError {
    // An engine answers 500 for a registry's 503; its own are of a proxy before it.
    match Failure::of(error) {
        Failure::Answered { status, message } => {
            RuntimeError::refused(verdict::reason(status, &message, image), trimmed(&message))
        }
        Failure::Unanswered(error) => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::RuntimeErrorKind;

    fn error(status_code: u16, message: &str) -> RuntimeError {
        pull_error(&Error::DockerResponseServerError { status_code, message: message.into() }, "r/app:1")
    }

    #[test]
    fn a_refusal_in_the_answer_and_one_in_its_stream_mean_the_same() {
        let refused = RuntimeErrorKind::Refused(FailureReason::ImageDenied);
        assert_eq!(error(500, "unauthorized:\n authentication required").kind, refused);
        assert_eq!(error(500, "unauthorized:\n no").message, "unauthorized: no");
        let in_stream = Error::DockerStreamError { error: "denied".into() };
        assert_eq!(pull_error(&in_stream, "r/app:1").kind, refused);
    }

    #[test]
    fn an_engine_that_is_away_is_no_refusal() {
        assert_eq!(error(503, "no").kind, RuntimeErrorKind::Unreachable);
        assert_eq!(pull_error(&Error::RequestTimeoutError, "app").kind, RuntimeErrorKind::Timeout);
    }

    #[test]
    fn a_digest_is_the_one_of_the_registry_that_was_asked() {
        let digests = ["r:5000/app@sha256:01", "ghcr.io/app@sha256:02", "app@sha256:03"].map(str::to_owned);
        for (name, digest) in [
            ("r:5000/app:1", "sha256:01"),
            ("r:5000/app@sha256:01", "sha256:01"),
            ("ghcr.io/app", "sha256:02"),
            ("app:1", "sha256:03"),
            ("sha256:0a1b", "sha256:01"),
        ] {
            assert_eq!(digest_of(name, &digests).as_deref(), Some(digest), "{name}");
        }
        assert_eq!(digest_of("app:1", &[]), None);
    }

    #[test]
    fn what_the_engine_says_is_taken_over_by_its_parts() {
        let line = r#"{"status":"Downloading","progressDetail":{"current":5,"total":9},"progress":"[=> ]","id":"0a1b"}"#;
        let expected = PullSign {
            id: Some("0a1b".into()),
            status: "Downloading".into(),
            current_bytes: Some(5),
            total_bytes: Some(9),
        };
        assert_eq!(sign(serde_json::from_str(line).unwrap()), expected);
        let line = r#"{"status":"Waiting","progressDetail":{},"id":"0a1b"}"#;
        assert_eq!(sign(serde_json::from_str(line).unwrap()).current_bytes, None);
    }

    #[test]
    fn a_reference_without_a_tag_means_the_latest() {
        for (given, meant) in [
            ("busybox", "busybox:latest"),
            ("host:5000/team/app", "host:5000/team/app:latest"),
            ("host:5000/app:1", "host:5000/app:1"),
            ("app@sha256:00", "app@sha256:00"),
        ] {
            assert_eq!(with_tag(given), meant);
        }
    }

    #[test]
    fn texts_that_would_lead_a_path_elsewhere_are_no_references() {
        for fine in ["busybox", "host:5000/team/app:1.2_3-x", "app@sha256:0a1b"] {
            assert!(is_reference(fine), "{fine}");
        }
        for bad in ["", "/app", "a//b", "../containers/json", "a/../b", "a?b", "a#b", "a b", "a%2e", "ä"] {
            assert!(!is_reference(bad), "{bad}");
        }
    }
}
