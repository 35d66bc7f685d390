//! Questions to the controller. The link answers them; nobody else knows how.

use std::{fmt, time::Duration};

use domain::{id::InstanceId, secret::Secret};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::timeout,
};

use crate::runtime::RegistryLogin;

/// Questions that may wait for the link; more make their askers wait.
const QUEUE: usize = 64;
/// For an answer, with all that it waits for. Beyond it the asker comes again.
const LIMIT: Duration = Duration::from_secs(25);

/// What the controller gives for one instance. On purpose it can be neither shown nor
/// written out.
pub struct Answer {
    /// The login for its image's registry, if the controller chose one.
    pub login: Option<RegistryLogin>,
    /// One for each of its secrets, in order.
    pub values: Vec<Secret>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unanswered {
    /// It cannot be reached, or did not answer in time.
    Away,
    /// It takes this node for revoked, removed or unknown.
    Refused,
    /// It does not take the instance for this node's.
    NotOurs,
    /// It is of a version that has no vault.
    TooOld,
    /// What it said is no answer.
    NotUnderstood,
    /// It cannot give it, in its own words.
    Missing(String),
}

impl fmt::Display for Unanswered {
    /// Goes on from 'the controller'.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Away => "does not answer",
            Self::Refused => "refuses this node",
            Self::NotOurs => "does not take this instance for this node's",
            Self::TooOld => "is too old to have any",
            Self::NotUnderstood => "gave an answer that cannot be understood",
            Self::Missing(message) => message,
        })
    }
}

/// One question.
pub struct Ask {
    /// About whom.
    pub instance: InstanceId,
    /// How many values there are.
    pub values: usize,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Result<Answer, Unanswered>>,
}

/// The side that asks. Clones are the same.
#[derive(Clone)]
pub struct Asking {
    asks: mpsc::Sender<Ask>,
    reachable: watch::Receiver<u64>,
}

/// The side that answers.
pub struct Asked {
    asks: mpsc::Receiver<Ask>,
    reachable: watch::Sender<u64>,
}

/// Both sides.
#[must_use]
pub fn channel() -> (Asking, Asked) {
    let (asks, asked) = mpsc::channel(QUEUE);
    let (told, reachable) = watch::channel(0);
    (Asking { asks, reachable }, Asked { asks: asked, reachable: told })
}

impl Asking {
    /// Asks, and waits for the answer within a deadline.
    pub(crate) async fn ask(&self, instance: InstanceId, values: usize) -> Result<Answer, Unanswered> {
        let asked = async {
            let (answer, answered) = oneshot::channel();
            self.asks.send(Ask { instance, values, answer }).await.ok()?;
            answered.await.ok()
        };
        timeout(LIMIT, asked).await.ok().flatten().unwrap_or(Err(Unanswered::Away))
    }

    pub(crate) fn reachable(&self) -> watch::Receiver<u64> {
        self.reachable.clone()
    }
}

impl Asked {
    /// The next question; `None` when nobody can ask any more. Cancel-safe.
    pub async fn next(&mut self) -> Option<Ask> {
        self.asks.recv().await
    }

    /// Tells those who wait that the controller was reached.
    pub fn tell_reachable(&self) {
        self.reachable.send_modify(|times| *times = times.wrapping_add(1));
    }
}
