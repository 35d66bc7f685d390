//! What is known of the images that containers run, each asked for once.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use daemon::Backoff;
use domain::id::InstanceId;
use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use tokio::time::Instant;

use super::action::within;
use crate::runtime::{ImageInfo, Runtime, RuntimeError};

/// Most that are asked for at once.
const AT_ONCE: usize = 4;
/// Most that are remembered; beyond it those that nothing runs are forgotten.
const MOST: usize = 256;
/// First and longest wait after an engine that did not say.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// An answer about an image.
pub(super) type Answer = (String, Result<Option<ImageInfo>, RuntimeError>);

/// By the engine's id of the image.
pub(super) struct Images {
    known: BTreeMap<String, ImageInfo>,
    under_way: BTreeSet<String>,
    asking: FuturesUnordered<BoxFuture<'static, Answer>>,
    /// Who is to be decided about anew once more is known.
    waiting: BTreeSet<InstanceId>,
    /// After a failure: when to ask again.
    retry_at: Option<Instant>,
    backoff: Backoff,
}

impl Images {
    pub(super) fn new() -> Self {
        Self {
            known: BTreeMap::new(),
            under_way: BTreeSet::new(),
            asking: FuturesUnordered::new(),
            waiting: BTreeSet::new(),
            retry_at: None,
            backoff: Backoff::new(RETRY.0, RETRY.1),
        }
    }

    /// What is known of an image. Where nothing is, it is asked for, and the instance
    /// is among those that [`Images::answered`] or [`Images::time_passed`] name.
    pub(super) fn get(
        &mut self,
        image_id: &str,
        instance: InstanceId,
        runtime: &Arc<dyn Runtime>,
        deadline: Duration,
    ) -> Option<&ImageInfo> {
        if !self.known.contains_key(image_id) {
            self.waiting.insert(instance);
            let may = self.retry_at.is_none() && self.under_way.len() < AT_ONCE;
            if may && self.under_way.insert(image_id.to_owned()) {
                let (runtime, id) = (runtime.clone(), image_id.to_owned());
                let asked = async move {
                    let answer = within(deadline, runtime.image(&id)).await;
                    (id, answer)
                };
                self.asking.push(asked.boxed());
            }
        }
        self.known.get(image_id)
    }

    /// Waits for the next answer. Cancel-safe.
    pub(super) async fn next(&mut self) -> Answer {
        match self.asking.next().await {
            Some(answer) => answer,
            None => std::future::pending().await,
        }
    }

    /// Takes an answer over, and names those who wait for one. `in_use` says which
    /// images are run.
    pub(super) fn answered(&mut self, answer: Answer, in_use: &BTreeSet<&str>) -> BTreeSet<InstanceId> {
        let (image_id, answer) = answer;
        self.under_way.remove(&image_id);
        match answer {
            Ok(image) => {
                self.backoff.reset();
                if self.known.len() >= MOST {
                    self.known.retain(|id, _| in_use.contains(id.as_str()));
                }
                // A container may outlive its image; then nothing will ever be known of it.
                self.known.insert(image_id, image.unwrap_or_default());
                std::mem::take(&mut self.waiting)
            }
            Err(error) => {
                tracing::debug!(image = image_id, %error, "nothing is known of an image yet");
                self.retry_at = Some(Instant::now() + self.backoff.next_delay());
                BTreeSet::new()
            }
        }
    }

    /// When to call [`Images::time_passed`].
    pub(super) const fn wake(&self) -> Option<Instant> {
        self.retry_at
    }

    /// Names those who are to ask again.
    pub(super) fn time_passed(&mut self) -> BTreeSet<InstanceId> {
        if self.retry_at.take_if(|at| *at <= Instant::now()).is_some() {
            std::mem::take(&mut self.waiting)
        } else {
            BTreeSet::new()
        }
    }
}
