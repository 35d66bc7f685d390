//! Fetching images.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use bollard::{Docker, errors::Error, models::CreateImageInfo, query_parameters::CreateImageOptionsBuilder};
use domain::instance::FailureReason;
use futures_util::{
    Stream, StreamExt as _,
    stream::{self, BoxStream},
};
use tokio::{sync::OwnedMutexGuard, time::timeout};

use super::failure::{Failure, trimmed};
use crate::runtime::{PullProgress, RuntimeError};

/// How often a pull that waits for another one of the same image says so: that
/// counts as a sign of life.
const WAITING: Duration = Duration::from_secs(2);

/// The images that are being fetched, so that each is fetched once at a time.
#[derive(Clone, Default)]
pub(super) struct Pulls {
    /// Held for looking one up only, never across an await.
    turns: Arc<Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>>,
}

type Turn = Arc<tokio::sync::Mutex<()>>;

impl Pulls {
    fn turn(&self, image: &str) -> Turn {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| turn.strong_count() > 0);
        if let Some(turn) = turns.get(image).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Turn::default();
        turns.insert(image.to_owned(), Arc::downgrade(&turn));
        turn
    }
}

enum Step {
    Waiting(Turn),
    /// The guard is the turn; it ends with the stream.
    Pulling(BoxStream<'static, Result<CreateImageInfo, Error>>, OwnedMutexGuard<()>),
    Done,
}

/// Fetches an image, when nobody else is fetching it.
pub(super) fn pull(
    docker: Docker,
    pulls: Pulls,
    image: String,
) -> impl Stream<Item = Result<PullProgress, RuntimeError>> + Send {
    let step = Step::Waiting(pulls.turn(&image));
    stream::unfold((step, docker, image), |(mut step, docker, image)| async move {
        loop {
            step = match step {
                Step::Waiting(turn) => match timeout(WAITING, Arc::clone(&turn).lock_owned()).await {
                    Ok(guard) => Step::Pulling(request(&docker, &image), guard),
                    Err(_) => {
                        let status = "waiting for the same image".to_owned();
                        let progress = PullProgress { status, ..PullProgress::default() };
                        return Some((Ok(progress), (Step::Waiting(turn), docker, image)));
                    }
                },
                Step::Pulling(mut answers, guard) => match answers.next().await? {
                    Ok(answer) => {
                        return Some((Ok(progress(answer)), (Step::Pulling(answers, guard), docker, image)));
                    }
                    Err(error) => return Some((Err(pull_error(&error)), (Step::Done, docker, image))),
                },
                Step::Done => return None,
            };
        }
    })
}

fn request(docker: &Docker, image: &str) -> BoxStream<'static, Result<CreateImageInfo, Error>> {
    if !is_reference(image) {
        let message = "invalid reference format".to_owned();
        let refusal = Error::DockerResponseServerError { status_code: 400, message };
        return stream::iter([Err(refusal)]).boxed();
    }
    let options = CreateImageOptionsBuilder::default().from_image(&with_tag(image)).build();
    docker.create_image(Some(options), None, None).boxed()
}

/// An image reference that names one image: without a tag an engine would fetch
/// all that the repository has.
fn with_tag(image: &str) -> String {
    let name = image.rsplit_once('/').map_or(image, |(_, name)| name);
    if name.contains([':', '@']) { image.to_owned() } else { format!("{image}:latest") }
}

fn progress(info: CreateImageInfo) -> PullProgress {
    let detail = info.progress_detail.unwrap_or_default();
    let bytes = |count: Option<i64>| count.and_then(|count| u64::try_from(count).ok());
    let status = info.status.unwrap_or_default();
    PullProgress {
        status: info.id.map_or_else(|| status.clone(), |id| format!("{id}: {status}")),
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

/// What an engine says about a pull is for people; which of them it was has to
/// be guessed from the words, which registries and engines have kept for years.
fn pull_error(error: &Error) -> RuntimeError {
    let (status, message) = match Failure::of(error) {
        Failure::Answered { status, message } => (status, message),
        Failure::Unanswered(error) => return error,
    };
    let lower = message.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    let reason = if says(&[
        "denied",
        "unauthorized",
        "authentication required",
        "no basic auth credentials",
        "403 forbidden",
    ]) {
        FailureReason::ImageDenied
    } else if status == 400
        || says(&["manifest unknown", "name unknown", "no matching manifest", "repository does not exist"])
        || (status == 404 && says(&["not found"]))
        || says(&["not found: manifest", "no such image", "invalid reference"])
    {
        FailureReason::ImageNotFound
    } else {
        FailureReason::ImagePullFailed
    };
    RuntimeError::refused(reason, trimmed(&message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::RuntimeErrorKind;

    fn kind(status_code: u16, message: &str) -> RuntimeErrorKind {
        pull_error(&Error::DockerResponseServerError { status_code, message: message.into() }).kind
    }

    #[test]
    fn refusals_of_a_pull_are_told_apart_by_their_words() {
        use FailureReason::{ImageDenied, ImageNotFound, ImagePullFailed};
        for (status, message, reason) in [
            (
                404,
                "manifest for 10.0.0.1:5000/app:2 not found: manifest unknown: manifest unknown",
                ImageNotFound,
            ),
            (
                404,
                "pull access denied for app, repository does not exist or may require 'docker login'",
                ImageDenied,
            ),
            (
                500,
                "Head \"https://r/v2/app/manifests/1\": unauthorized: authentication required",
                ImageDenied,
            ),
            (400, "invalid reference format", ImageNotFound),
            (
                500,
                "Get \"http://10.0.0.1:5000/v2/\": dial tcp 10.0.0.1:5000: connect: connection refused",
                ImagePullFailed,
            ),
            (500, "Get \"https://r/v2/\": dial tcp: lookup r: no such host", ImagePullFailed),
        ] {
            assert_eq!(kind(status, message), RuntimeErrorKind::Refused(reason), "{message}");
        }
        let in_stream = Error::DockerStreamError { error: "no matching manifest for linux/arm64".into() };
        assert_eq!(pull_error(&in_stream).kind, RuntimeErrorKind::Refused(ImageNotFound));
    }

    #[test]
    fn an_engine_that_is_away_is_no_refusal() {
        assert_eq!(kind(503, "no"), RuntimeErrorKind::Unreachable);
        assert_eq!(pull_error(&Error::RequestTimeoutError).kind, RuntimeErrorKind::Timeout);
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

    #[test]
    fn two_pulls_of_one_image_have_one_turn_and_of_two_images_two() {
        let pulls = Pulls::default();
        let (a, b, c) = (pulls.turn("a"), pulls.turn("a"), pulls.turn("c"));
        assert!(Arc::ptr_eq(&a, &b) && !Arc::ptr_eq(&a, &c));
        drop((a, b));
        let _ = pulls.turn("d");
        assert_eq!(pulls.turns.lock().unwrap().len(), 2);
    }
}
