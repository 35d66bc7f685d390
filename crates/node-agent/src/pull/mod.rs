//! Fetches images: each once at a time, however many instances wait for it.
//!
//! A pull lives as long as somebody waits for it. When nobody does any more, its
//! stream is dropped, and with the connection the engine ends it too. While it runs,
//! what the engine says is folded into [`PullProgress`] and published at most once a
//! second; the newest is kept and no older one, so nobody has to keep up.
//!
//! A pull that failed for a reason that can pass is tried again within the same
//! attempt of the instance, a few times with growing waits; `verdict` says which
//! reasons those are. Then the attempt fails, and the instance's own back-off goes on
//! from there. An engine that does not answer is nobody's failure and is not tried
//! again here (I5).
//!
//! A login that the controller chose for an image goes before the node's own file:
//! it is meant more closely. An image is fetched apart for each login, so that nobody
//! gets one by another's.

mod layers;
mod logins;
#[cfg(test)]
mod tests;
pub(crate) mod verdict;

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use daemon::Backoff;
use domain::{
    Timestamp,
    assignment::Assignment,
    id::{CredentialId, InstanceId},
    instance::FailureReason,
    pull::PullProgress,
    spec::policy::{full_host, registry},
};
use futures_util::{
    StreamExt as _,
    future::{BoxFuture, FutureExt as _, Shared, WeakShared},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout},
};

use self::{layers::Layers, verdict::Again};
use crate::{
    runtime::{RegistryLogin, Runtime, RuntimeError, RuntimeErrorKind},
    secrets::Secrets,
};

pub use logins::{LoginSource, Logins, LoginsError};

/// The limits that pulls keep.
#[derive(Clone, Debug)]
pub struct Settings {
    /// For the next sign of life. A pull as a whole may take any time.
    pub idle: Duration,
    /// Tries within one attempt of an instance.
    pub tries: u32,
    /// The first wait between tries, and the longest.
    pub retry: (Duration, Duration),
    /// The same where a registry wants to be asked less often and does not say when.
    pub limited: (Duration, Duration),
    /// The longest that a registry can make us wait by saying so.
    pub limited_most: Duration,
    /// Between two publications about an image that say something new.
    pub publish: Duration,
    /// Between two that say the same.
    pub repeat: Duration,
    /// Where logins come from.
    pub logins: Logins,
    /// Tells the time.
    pub clock: fn() -> Timestamp,
}

impl Default for Settings {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            idle: seconds(120),
            tries: 4,
            retry: (seconds(2), seconds(30)),
            limited: (seconds(30), seconds(300)),
            limited_most: seconds(900),
            publish: seconds(1),
            repeat: seconds(10),
            logins: Logins::default(),
            clock: chrono::Utc::now,
        }
    }
}

/// How far the pulls under way have come, by image.
pub type Board = Arc<BTreeMap<String, PullProgress>>;

type Outcome = Result<(), RuntimeError>;
type Work = BoxFuture<'static, Outcome>;
/// An image, and the controller's login for it.
type Key = (String, Option<CredentialId>);

/// The pulls of this node. Clones are the same.
#[derive(Clone)]
pub struct Pulls(Arc<Inner>);

struct Inner {
    runtime: Arc<dyn Runtime>,
    settings: Settings,
    /// Who has the controller's logins; `None` in tests that have no controller.
    secrets: Option<Secrets>,
    /// By image. Held for looking one up only, never across an await.
    under_way: Mutex<BTreeMap<Key, UnderWay>>,
    board: watch::Sender<Board>,
}

/// A pull, which lives as long as somebody waits for it.
struct UnderWay {
    pull: WeakShared<Work>,
    waiting: Waiting,
}

/// Who waits for one pull. Held for reading and changing only, never across an await.
#[derive(Clone, Default)]
struct Waiting(Arc<Mutex<BTreeSet<InstanceId>>>);

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, BTreeSet<InstanceId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets an instance wait for as long as the answer lives.
    fn enter(&self, instance: InstanceId) -> Place {
        self.lock().insert(instance);
        Place { waiting: self.clone(), instance }
    }
}

struct Place {
    waiting: Waiting,
    instance: InstanceId,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.waiting.lock().remove(&self.instance);
    }
}

impl Pulls {
    /// Pulls by `runtime`, none yet.
    #[must_use]
    pub fn new(runtime: Arc<dyn Runtime>, settings: Settings, secrets: Option<Secrets>) -> Self {
        let (under_way, board) = (Mutex::default(), watch::Sender::default());
        Self(Arc::new(Inner { runtime, settings, secrets, under_way, board }))
    }

    /// How far the pulls under way have come; the newest of each image.
    #[must_use]
    pub fn board(&self) -> watch::Receiver<Board> {
        self.0.board.subscribe()
    }

    /// Whether the image of an assignment is being pulled.
    #[must_use]
    pub fn is_under_way(&self, assignment: &Assignment) -> bool {
        find(&self.lock(), &key_of(assignment)).is_some()
    }

    /// Joins the pull of an assignment's image, or begins it. It goes on as long as one of those
    /// who joined polls it, and ends when the last of them has dropped the answer.
    /// An error is of kind `Refused` with `ImageNotFound`, `ImageDenied`,
    /// `ImagePullFailed` or `SpecRefused`, or of a kind of its own: `HeldUp` while the
    /// controller's login cannot be had.
    pub fn join(&self, assignment: &Assignment) -> BoxFuture<'static, Outcome> {
        let (key, instance) = (key_of(assignment), assignment.instance_id);
        let (pull, place) = {
            let mut under_way = self.lock();
            if let Some((pull, waiting)) = find(&under_way, &key) {
                (pull, waiting.enter(instance))
            } else {
                under_way.retain(|_, entry| entry.pull.upgrade().is_some());
                let waiting = Waiting::default();
                let place = waiting.enter(instance);
                let work = fetch(Arc::clone(&self.0), assignment.clone(), waiting.clone());
                let pull = work.boxed().shared();
                // Only one that has ended already has no weak side.
                if let Some(weak) = pull.downgrade() {
                    under_way.insert(key, UnderWay { pull: weak, waiting });
                }
                (pull, place)
            }
        };
        async move {
            let _place = place;
            pull.await
        }
        .boxed()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, UnderWay>> {
        self.0.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The pull of an image that is under way. One that has ended is of no use: whoever
/// asks now, asks for the image of now.
fn find(under_way: &BTreeMap<Key, UnderWay>, key: &Key) -> Option<(Shared<Work>, Waiting)> {
    let entry = under_way.get(key)?;
    let pull = entry.pull.upgrade().filter(|pull| pull.peek().is_none())?;
    Some((pull, entry.waiting.clone()))
}

fn key_of(assignment: &Assignment) -> Key {
    (assignment.spec.image.clone(), assignment.registry_credential)
}

async fn fetch(inner: Arc<Inner>, assignment: Assignment, waiting: Waiting) -> Outcome {
    let image = assignment.spec.image.clone();
    let mut retry = Retry::new(&inner.settings);
    let mut telling = Telling::new(&inner, &image, waiting);
    loop {
        let error = match once(&inner, &assignment, &mut telling).await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        let Some(pause) = retry.pause(&error, &image) else {
            return Err(counted(error, telling.attempt));
        };
        let (attempt, seconds) = (telling.attempt, pause.as_secs_f64());
        tracing::info!(image, attempt, seconds, %error, "a pull failed and is tried again after a pause");
        telling.during(sleep(pause)).await;
        telling.attempt += 1;
        telling.layers = Layers::default();
    }
}

/// One try, for as long as there are signs of life.
async fn once(inner: &Inner, assignment: &Assignment, telling: &mut Telling<'_>) -> Outcome {
    let image = assignment.spec.image.as_str();
    let (login, trouble) = telling.during(find_login(inner, assignment)).await?;
    let idle = inner.settings.idle;
    let mut signs = inner.runtime.pull(image, login);
    loop {
        match telling.during(timeout(idle, signs.next())).await {
            Ok(Some(Ok(sign))) => {
                tracing::trace!(image, status = sign.status, "pulling");
                telling.layers.fold(&sign);
                telling.tell_if_due();
            }
            Ok(Some(Err(mut error))) => {
                let denied = error.kind == RuntimeErrorKind::Refused(FailureReason::ImageDenied);
                if let Some(trouble) = trouble.filter(|_| denied) {
                    error.message = format!("{} (no login was used: failed to {trouble})", error.message);
                }
                return Err(error);
            }
            Ok(None) => return Ok(()),
            Err(_) => {
                let message = format!("no sign of life for {} s", idle.as_secs_f64());
                return Err(RuntimeError::new(RuntimeErrorKind::Timeout, message));
            }
        }
    }
}

/// The login to pull with, and why there is none where there may have been one: the
/// controller's, or else the node's own. `HeldUp` where the controller has one, and
/// nobody else has.
async fn find_login(
    inner: &Inner,
    assignment: &Assignment,
) -> Result<(Option<RegistryLogin>, Option<String>), RuntimeError> {
    let image = assignment.spec.image.as_str();
    let given = match &inner.secrets {
        Some(secrets) => secrets.login(assignment).await,
        None => Ok(None),
    };
    let (login, waits) = match given {
        Ok(login) => (login, None),
        Err(waits) => (None, Some(waits)),
    };
    if let Some(login) = login {
        // It is sent to nobody but whom it is for.
        if registry(image).is_some_and(|host| host == full_host(&login.server)) {
            return Ok((Some(login), None));
        }
        tracing::warn!(
            image,
            server = login.server,
            "the controller's login is for another registry; it is not used"
        );
    }
    match (inner.settings.logins.find(image).await, waits) {
        (Ok(None), Some(waits)) | (Err(_), Some(waits)) => Err(waits),
        (Ok(login), _) => Ok((login, None)),
        // Most images need none.
        (Err(error), None) => {
            let reason = chain(&error);
            tracing::warn!(image, reason, "pulling without a login");
            Ok((None, Some(reason)))
        }
    }
}

/// An error with all that caused it, in one line.
fn chain(error: &LoginsError) -> String {
    let source = std::error::Error::source(error);
    source.map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}

fn counted(mut error: RuntimeError, tries: u32) -> RuntimeError {
    if tries > 1 && error.kind != RuntimeErrorKind::HeldUp {
        error.message = format!("{} (tried {tries} times)", error.message);
    }
    error
}

/// Whether, and when, to try again.
struct Retry {
    /// Tries that are left.
    left: u32,
    backoff: Backoff,
    limited: Backoff,
    limited_most: Duration,
}

impl Retry {
    fn new(settings: &Settings) -> Self {
        Self {
            left: settings.tries.saturating_sub(1),
            backoff: Backoff::new(settings.retry.0, settings.retry.1),
            limited: Backoff::new(settings.limited.0, settings.limited.1),
            limited_most: settings.limited_most,
        }
    }

    /// How long to wait before the next try; `None` when there is none.
    fn pause(&mut self, error: &RuntimeError, image: &str) -> Option<Duration> {
        if error.kind != RuntimeErrorKind::Refused(FailureReason::ImagePullFailed) {
            return None;
        }
        let again = verdict::again(&error.message, image);
        if again == Again::Never || self.left == 0 {
            return None;
        }
        self.left -= 1;
        Some(match again {
            Again::Limited(None) => self.limited.next_delay(),
            Again::Limited(Some(said)) => {
                let said = said.min(self.limited_most);
                // Never earlier than it says, and not all nodes at once.
                let wait = said.saturating_add(Backoff::new(said / 10, said / 10).next_delay());
                wait.max(self.backoff.next_delay())
            }
            Again::Soon | Again::Never => self.backoff.next_delay(),
        })
    }
}

/// Publishes how far one pull has come, and takes it off the board when it ends.
struct Telling<'a> {
    inner: &'a Inner,
    image: &'a str,
    waiting: Waiting,
    /// Which try this is.
    attempt: u32,
    layers: Layers,
    /// When there may be something to say again.
    due: Instant,
    /// When it was last said.
    said: Option<Instant>,
}

impl<'a> Telling<'a> {
    fn new(inner: &'a Inner, image: &'a str, waiting: Waiting) -> Self {
        let (attempt, layers, due) = (1, Layers::default(), Instant::now());
        Self { inner, image, waiting, attempt, layers, due, said: None }
    }

    /// Waits for something, and tells meanwhile.
    async fn during<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            // Cancel-safe: what was being waited for stays pinned here.
            tokio::select! {
                biased;
                done = &mut work => return done,
                () = sleep_until(self.due) => self.tell_if_due(),
            }
        }
    }

    fn tell_if_due(&mut self) {
        let now = Instant::now();
        if now < self.due {
            return;
        }
        let Settings { publish, repeat, clock, .. } = &self.inner.settings;
        self.due = now + *publish;
        let mut progress = PullProgress {
            image: self.image.to_owned(),
            instance_ids: self.waiting.lock().iter().copied().collect(),
            at: clock(),
            attempt: self.attempt,
            layers: self.layers.0.clone(),
        }
        .bounded();
        let stale = self.said.is_none_or(|said| now.duration_since(said) >= *repeat);
        let told = self.inner.board.send_if_modified(|board| {
            if let Some(before) = board.get(self.image) {
                let same = PullProgress { at: before.at, ..progress.clone() } == *before;
                // A clock that was set back must not make news look old.
                progress.at = progress.at.max(before.at);
                if same && !stale {
                    return false;
                }
            }
            Arc::make_mut(board).insert(self.image.to_owned(), progress);
            true
        });
        if told {
            self.said = Some(now);
        }
    }
}

impl Drop for Telling<'_> {
    fn drop(&mut self) {
        let image = self.image;
        self.inner.board.send_if_modified(|board| Arc::make_mut(board).remove(image).is_some());
    }
}
