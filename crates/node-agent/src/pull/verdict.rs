//! What an engine's words about a pull mean.
//!
//! An engine says in one sentence for people what a registry answered with a code,
//! and the sentence differs from engine to engine. Which of them it was has to be
//! guessed from the words; this is the only place that does. The words are those of
//! Docker 20.10 (with Docker's own registry, and with one that answers badly on
//! purpose), of Docker with containerd's image store, and of Podman.
//!
//! No engine hands on a registry's `Retry-After` header. Some registries say the
//! delay in their message as well, and that is heeded.

use std::time::Duration;

use domain::instance::FailureReason;

/// Whether a pull that failed is worth another try within the same attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Again {
    /// The next one would fail in the same way.
    Never,
    /// What was in the way may pass by itself.
    Soon,
    /// The registry wants to be asked less often, and maybe says when.
    Limited(Option<Duration>),
}

/// Too many requests.
const LIMITED: &[&str] = &[
    "toomanyrequests",
    "too many requests",
    "rate limit",
    "ratelimit",
    "http 429",
    "status code 429",
    "statuscode: 429",
    "http status: 429",
];
/// The way to the registry, or the registry itself, is out of order.
const PASSING: &[&str] = &[
    "http status: 5",
    "http 5",
    "status code 5",
    "statuscode: 5",
    ": 500 internal server error",
    ": 502 bad gateway",
    ": 503 service unavailable",
    ": 504 gateway timeout",
    "connection refused",
    "connection reset",
    "broken pipe",
    "no such host",
    "server misbehaving",
    "network is unreachable",
    "no route to host",
    "temporary failure in name resolution",
    "timeout",
    "deadline exceeded",
    "client.timeout",
    "unexpected eof",
    ": eof",
    "http 206",
];
/// Nothing but somebody's hand changes it, and it is neither of the others.
const LASTING: &[&str] = &[
    "x509:",
    "server gave http response to https client",
    "does not look like a tls handshake",
    "no space left on device",
    "read-only file system",
    "unsupported media type",
    "not supported",
];
const DENIED: &[&str] = &[
    "denied",
    "unauthorized",
    "authentication required",
    "no basic auth credentials",
    "authorization failed",
    "insufficient_scope",
    "invalid username/password",
    "incorrect username or password",
    "401 unauthorized",
    "403 forbidden",
    "http status: 401",
    "http status: 403",
    "http 401",
    "http 403",
];
const MISSING: &[&str] = &[
    "manifest unknown",
    "name unknown",
    "name_unknown",
    "blob unknown",
    "unknown blob",
    "no matching manifest",
    "no match for platform",
    "repository does not exist",
    "repository name not known",
    "no such image",
    "not found: manifest",
    ": not found",
    "404 not found",
    "http status: 404",
    "http 404",
    "invalid reference",
    "repository name must be lowercase",
    "invalid tag format",
    "did not resolve to an alias",
];

/// Says why a pull of `image` failed, by what the engine answered: `status` and
/// `message`, the same for an error in the middle of the stream (status 500).
pub(crate) fn reason(status: u16, message: &str, image: &str) -> FailureReason {
    let text = plain(message, image);
    if says(&text, LIMITED) || passes(&text) {
        FailureReason::ImagePullFailed
    } else if says(&text, DENIED) {
        FailureReason::ImageDenied
    } else if status == 400 || says(&text, MISSING) || (status == 404 && text.contains("not found")) {
        FailureReason::ImageNotFound
    } else {
        FailureReason::ImagePullFailed
    }
}

/// Says whether a pull of `image` that failed with
/// [`FailureReason::ImagePullFailed`] is worth another try.
pub(super) fn again(message: &str, image: &str) -> Again {
    let text = plain(message, image);
    if says(&text, LIMITED) {
        Again::Limited(delay(&text))
    } else if says(&text, LASTING) && !passes(&text) {
        Again::Never
    } else {
        Again::Soon
    }
}

fn says(text: &str, words: &[&str]) -> bool {
    words.iter().any(|word| text.contains(word))
}

fn passes(text: &str) -> bool {
    text == "eof" || says(text, PASSING)
}

/// A message in lower case, without what others chose: the image's name, and what
/// stands in quotes. An image may be called `denied`.
fn plain(message: &str, image: &str) -> String {
    let (mut text, mut quoted, mut escaped) = (String::with_capacity(message.len()), false, false);
    for c in message.trim().chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if !quoted => text.extend(c.to_lowercase()),
            _ => {}
        }
    }
    let image = image.to_lowercase();
    let repository = image.split('@').next().unwrap_or_default();
    let tag = repository.rfind(':').filter(|at| repository.rfind('/').is_none_or(|slash| *at > slash));
    let repository = tag.and_then(|at| repository.get(..at)).unwrap_or(repository);
    // Of a name of one word, what remains when it is gone may be what was to be read.
    let path = repository.split_once('/').map_or("", |(_, path)| path);
    for name in [image.as_str(), if path.is_empty() { "" } else { repository }, path] {
        if name.contains(['/', ':']) {
            text = text.replace(name, "");
        }
    }
    text
}

/// The delay that a message asks for: `retry-after: 1m30s`, `retry after 30 seconds`,
/// `try again in 5 minutes`. A number alone counts seconds.
fn delay(text: &str) -> Option<Duration> {
    let rest = ["retry-after", "retry after", "retryafter", "try again in", "retry in"]
        .iter()
        .find_map(|words| text.split_once(words).map(|(_, rest)| rest))?;
    let mut rest = rest.trim_start_matches([':', '=', ' ']);
    let mut sum = None;
    while let Some((amount, after)) = number(rest) {
        let unit: String = after.trim_start().chars().take_while(|c| c.is_alphabetic()).collect();
        let seconds = match unit.as_str() {
            "" | "s" | "sec" | "secs" | "second" | "seconds" => 1.0,
            "m" | "min" | "mins" | "minute" | "minutes" => 60.0,
            "h" | "hour" | "hours" => 3600.0,
            "ms" | "milliseconds" => 1e-3,
            "us" | "µs" | "μs" => 1e-6,
            "ns" => 1e-9,
            _ if sum.is_some() => break,
            // Seconds, and the sentence goes on.
            _ => 1.0,
        };
        let whole = Duration::try_from_secs_f64(amount * seconds).ok()?;
        sum = Some(sum.unwrap_or(Duration::ZERO).saturating_add(whole));
        // The parts of one duration stand together: `1m30s`.
        rest = after.strip_prefix(unit.as_str()).filter(|_| !unit.is_empty()).unwrap_or_default();
    }
    sum
}

/// A number at the beginning, and what follows.
fn number(text: &str) -> Option<(f64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (digits, rest) = text.split_at_checked(end)?;
    // A sentence may end behind the number.
    Some((digits.trim_end_matches('.').parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use domain::instance::FailureReason::{ImageDenied, ImageNotFound, ImagePullFailed};
    use proptest::prelude::*;

    use super::*;

    const SOON: Again = Again::Soon;

    #[test]
    fn docker_20_10s_words_are_told_apart() {
        for (status, message, expected) in [
            // Docker's own registry.
            (404, "manifest for r:5000/app:2 not found: manifest unknown: manifest unknown", ImageNotFound),
            (
                404,
                "manifest for r:5000/app@sha256:00 not found: manifest unknown: manifest unknown",
                ImageNotFound,
            ),
            (500, "Head \"http://r:5000/v2/app/manifests/1\": no basic auth credentials", ImageDenied),
            (
                500,
                "Head \"http://r:5000/v2/app/manifests/1\": unauthorized: authentication required",
                ImageDenied,
            ),
            (500, "unauthorized: authentication required", ImageDenied),
            (500, "Head \"http://r:5000/v2/app/manifests/1\": unauthorized: bad login", ImageDenied),
            // One that answers with codes and nothing else in its favour.
            (500, "unauthorized", ImageDenied),
            (500, "denied", ImageDenied),
            (500, "manifest unknown", ImageNotFound),
            (500, "unknown blob", ImageNotFound),
            // docker.io.
            (
                404,
                "pull access denied for app, repository does not exist or may require 'docker login': denied: requested access to the resource is denied",
                ImageDenied,
            ),
            (500, "no matching manifest for linux/arm64/v8 in the manifest list entries", ImageNotFound),
            // What it finds out by itself.
            (400, "invalid reference format: repository name must be lowercase", ImageNotFound),
            (
                500,
                "normalizing image: normalizing name for compat API: repository name must be lowercase",
                ImageNotFound,
            ),
            (400, "invalid tag format", ImageNotFound),
        ] {
            assert_eq!(reason(status, message, "r:5000/app:1"), expected, "{message}");
        }
    }

    #[test]
    fn what_can_pass_is_tried_again() {
        for message in [
            "received unexpected HTTP status: 500 Internal Server Error",
            "received unexpected HTTP status: 502 Bad Gateway",
            "received unexpected HTTP status: 503 Service Unavailable",
            "Head \"http://r:5000/v2/app/manifests/1\": EOF",
            "EOF",
            "unexpected EOF",
            "expected HTTP 206 from byte range request",
            "Get \"http://r:5000/v2/\": dial tcp 10.0.0.1:5000: connect: connection refused",
            "Get \"https://r/v2/\": dial tcp: lookup r on 10.0.0.53:53: dial udp 10.0.0.53:53: connect: network is unreachable",
            "Get \"https://denied/v2/\": dial tcp: lookup denied: no such host",
            "Get \"https://r/v2/\": net/http: request canceled while waiting for connection (Client.Timeout exceeded while awaiting headers)",
            "Get \"https://r/v2/\": net/http: TLS handshake timeout",
            "read tcp 10.0.0.2:1->10.0.0.1:443: read: connection reset by peer",
            "failed to resolve reference \"r/app:1\": unexpected status from HEAD request to https://r/v2/app/manifests/1: 503 Service Unavailable",
            "initializing source docker://r/app:1: pinging container registry r: Get \"https://r/v2/\": dial tcp 10.0.0.1:443: connect: connection refused",
            "something that nobody has ever read",
        ] {
            assert_eq!(reason(500, message, "r/app:1"), ImagePullFailed, "{message}");
            assert_eq!(again(message, "r/app:1"), SOON, "{message}");
        }
    }

    #[test]
    fn what_lasts_is_not_tried_again_at_once() {
        for message in [
            "Get \"https://r/v2/\": x509: certificate signed by unknown authority",
            "Get \"https://r/v2/\": http: server gave HTTP response to HTTPS client",
            "Get \"https://r/v2/\": tls: first record does not look like a TLS handshake",
            "failed to register layer: Error processing tar file(exit status 1): write /x: no space left on device",
        ] {
            assert_eq!(reason(500, message, "r/app:1"), ImagePullFailed, "{message}");
            assert_eq!(again(message, "r/app:1"), Again::Never, "{message}");
        }
    }

    #[test]
    fn other_engines_words_mean_the_same() {
        for (message, expected) in [
            ("failed to resolve reference \"r/app:1\": r/app:1: not found", ImageNotFound),
            (
                "failed to resolve reference \"r/app:1\": pull access denied, repository does not exist or may require authorization: server message: insufficient_scope: authorization failed",
                ImageDenied,
            ),
            (
                "failed to authorize: failed to fetch anonymous token: unexpected status from GET request to https://r/token: 401 Unauthorized",
                ImageDenied,
            ),
            (
                "initializing source docker://r/app:1: reading manifest 1 in r/app: manifest unknown",
                ImageNotFound,
            ),
            (
                "initializing source docker://r/app:1: reading manifest 1 in r/app: name unknown: repository name not known to registry",
                ImageNotFound,
            ),
            (
                "initializing source docker://r/app:1: unable to retrieve auth token: invalid username/password: unauthorized: authentication required",
                ImageDenied,
            ),
            (
                "short-name \"app\" did not resolve to an alias and no unqualified-search registries are defined in \"/etc/containers/registries.conf\"",
                ImageNotFound,
            ),
        ] {
            assert_eq!(reason(500, message, "r/app:1"), expected, "{message}");
        }
    }

    #[test]
    fn a_registry_that_is_asked_too_often_is_waited_for_as_long_as_it_says() {
        let seconds = |s| Some(Duration::from_secs_f64(s));
        for (message, wait) in [
            (
                "toomanyrequests: You have reached your pull rate limit. You may increase the limit by authenticating",
                None,
            ),
            (
                "error parsing HTTP 429 response body: invalid character '<' looking for beginning of value: \"<html>\"",
                None,
            ),
            (
                "unexpected status from HEAD request to https://r/v2/app/manifests/1: 429 Too Many Requests",
                None,
            ),
            ("toomanyrequests: retry-after: 1.5s, allowed: 44000/minute", seconds(1.5)),
            ("toomanyrequests: retry-after: 301.834µs, allowed: 44000/minute", seconds(301.834e-6)),
            ("toomanyrequests: retry-after: 1m30s", seconds(90.0)),
            ("toomanyrequests: Retry-After: 30", seconds(30.0)),
            ("Too Many Requests, retry after 30 seconds.", seconds(30.0)),
            ("rate limit exceeded; please try again in 5 minutes", seconds(300.0)),
            ("rate limit exceeded; try again in 20. Thank you", seconds(20.0)),
            ("toomanyrequests: retry-after: 30, 50 allowed", seconds(30.0)),
            ("toomanyrequests: Retry-After: Wed, 21 Oct 2026 07:28:00 GMT", None),
            ("toomanyrequests: retry-after: 99999999999999999999999h", None),
        ] {
            assert_eq!(reason(500, message, "r/app:1"), ImagePullFailed, "{message}");
            assert_eq!(again(message, "r/app:1"), Again::Limited(wait), "{message}");
        }
    }

    #[test]
    fn an_images_name_does_not_speak_for_its_registry() {
        for (image, message, expected) in [
            (
                "r/denied:1",
                "manifest for r/denied:1 not found: manifest unknown: manifest unknown",
                ImageNotFound,
            ),
            ("team/too-many requests", "denied", ImageDenied),
            (
                "team/denied:timeout",
                "manifest for team/denied:timeout not found: manifest unknown",
                ImageNotFound,
            ),
            (
                "docker.io/x/timeout",
                "pull access denied for x/timeout, repository does not exist or may require 'docker login'",
                ImageDenied,
            ),
            ("denied", "pull access denied for denied, repository does not exist", ImageDenied),
            (
                "r/app:1",
                "Get \"https://r/v2/denied/toomanyrequests\\\" denied\": something else",
                ImagePullFailed,
            ),
        ] {
            assert_eq!(reason(500, message, image), expected, "{message}");
        }
    }

    proptest! {
        #[test]
        fn no_words_break_it(status in 400u16..600, message in ".{0,80}", image in ".{0,20}") {
            let _ = reason(status, &message, &image);
            let _ = again(&format!("toomanyrequests: retry-after: {message}"), &image);
        }
    }
}
