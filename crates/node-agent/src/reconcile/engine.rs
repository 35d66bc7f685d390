//! The connection to the engine: whether it answers, what it says by itself, and
//! the full looks.

use std::{future::Future, sync::Arc, time::Duration};

use daemon::Backoff;
use domain::{Timestamp, id::InstanceId, node::EngineState, plan::Container};
use futures_util::{
    StreamExt as _,
    future::{BoxFuture, FutureExt as _},
    stream::BoxStream,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use super::{Settings, action::within};
use crate::runtime::{ContainerEvent, EngineEvent, Runtime, RuntimeError};

/// How far back the first subscription reaches, so that an agent that was away for
/// a moment learns who ended what meanwhile.
const LOOK_BACK: Duration = Duration::from_secs(300);

/// What a full look found.
type Listing = Result<Vec<(InstanceId, Container)>, RuntimeError>;

/// What the engine has to say.
#[derive(Debug)]
pub(super) enum Happening {
    /// Something happened to a container.
    Event(ContainerEvent),
    /// A full look ended.
    Listed { mark: u64, asked: Timestamp, containers: Vec<(InstanceId, Container)> },
    /// It answers, after it was suspected not to.
    Answers,
    /// It does not answer any more.
    Silent,
}

pub(super) struct Engine {
    runtime: Arc<dyn Runtime>,
    settings: Settings,
    state: watch::Sender<EngineState>,
    /// Whether the last ping was answered.
    up: bool,
    /// Whether somebody waits to hear that it answers.
    suspected: bool,
    ping: Option<BoxFuture<'static, Result<(), RuntimeError>>>,
    next_ping: Instant,
    events: Option<BoxStream<'static, Result<EngineEvent, RuntimeError>>>,
    subscribed: bool,
    /// Whether subscriptions are not accepted. Then it is looked without: late is
    /// better than not at all.
    deaf: bool,
    next_subscription: Instant,
    last_event: Timestamp,
    list: Option<(u64, Timestamp, BoxFuture<'static, Listing>)>,
    next_list: Instant,
    /// Whether there was a full look since it answers.
    listed: bool,
    /// When the last full look was asked for.
    looked: Timestamp,
    /// When it last answered anything.
    last_answer: Timestamp,
    /// When it was last away: from its last answer, to its first.
    away: Option<(Timestamp, Timestamp)>,
    backoff: Backoff,
}

impl Engine {
    pub(super) fn new(
        runtime: Arc<dyn Runtime>,
        settings: Settings,
        state: watch::Sender<EngineState>,
    ) -> Self {
        let now = Instant::now();
        Self {
            runtime,
            state,
            up: false,
            suspected: true,
            ping: None,
            next_ping: now,
            events: None,
            subscribed: false,
            deaf: false,
            next_subscription: now,
            last_event: (settings.clock)() - LOOK_BACK,
            list: None,
            next_list: now,
            listed: false,
            looked: Timestamp::MAX_UTC,
            last_answer: Timestamp::MAX_UTC,
            away: None,
            backoff: Backoff::new(settings.retry.0, settings.retry.1),
            settings,
        }
    }

    /// Whether something may be begun and concluded: it answers, and was looked at.
    pub(super) const fn is_ready(&self) -> bool {
        self.up && self.listed
    }

    /// Whether something that happened then is newer than the last full look. The
    /// tail of events that a subscription begins with tells of much that is past.
    pub(super) fn is_since_look(&self, at: Timestamp) -> bool {
        self.is_ready() && at >= self.looked
    }

    /// Whether it was away then. What happens to containers while nobody can talk to
    /// the engine is its own doing: one that starts ends what was left running.
    pub(super) fn was_away(&self, at: Timestamp) -> bool {
        self.away.is_some_and(|(from, until)| from <= at && at <= until)
    }

    /// Asks at once whether it answers; told as [`Happening::Answers`] or
    /// [`Happening::Silent`].
    pub(super) fn suspect(&mut self) {
        self.suspected = true;
        self.next_ping = Instant::now();
    }

    /// Waits for what it has to say next. `mark` is noted with a full look that
    /// begins. Cancel-safe: everything under way is kept in `self`.
    pub(super) async fn next(&mut self, mark: u64) -> Happening {
        loop {
            self.begin_what_is_due(mark);
            let timer = sleep_until(self.next_due());
            // Each arm polls something that `self` owns, so a lost race loses nothing. Events
            // go before the look that follows them: they say who did what it shows.
            let happening = tokio::select! {
                biased;
                answer = maybe(&mut self.ping) => {
                    self.ping = None;
                    self.pinged(answer)
                }
                () = timer => None,
                event = next_event(&mut self.events) => self.said(event),
                listing = maybe_list(&mut self.list) => self.listed(listing),
            };
            if let Some(happening) = happening {
                return happening;
            }
        }
    }

    fn begin_what_is_due(&mut self, mark: u64) {
        let now = Instant::now();
        let (ping_deadline, call_deadline) = (self.settings.ping_deadline, self.settings.call_deadline);
        if self.ping.is_none() && self.next_ping <= now {
            let runtime = self.runtime.clone();
            self.ping = Some(async move { within(ping_deadline, runtime.ping()).await }.boxed());
        }
        if !self.up {
            return;
        }
        if self.events.is_none() && self.next_subscription <= now {
            self.events = Some(self.runtime.events(Some(self.last_event)));
            // One that is never accepted is given up and made again.
            self.next_subscription = now + call_deadline;
        }
        if self.events.is_some() && !self.subscribed && self.next_subscription <= now {
            self.unsubscribed("it was not accepted in time");
            if !std::mem::replace(&mut self.deaf, true) {
                tracing::warn!(
                    period = ?self.settings.list_period,
                    "the container engine answers and tells of no events: all is looked at now and then"
                );
            }
        }
        if (self.subscribed || self.deaf) && self.list.is_none() && self.next_list <= now {
            let runtime = self.runtime.clone();
            let listing = async move { within(call_deadline, runtime.list()).await };
            self.list = Some((mark, (self.settings.clock)(), listing.boxed()));
        }
    }

    fn next_due(&self) -> Instant {
        // What is under way wakes us by itself; an hour stands for never.
        let never = Instant::now() + Duration::from_secs(3600);
        let ping = if self.ping.is_none() { self.next_ping } else { never };
        let subscription = if self.up && !self.subscribed { self.next_subscription } else { never };
        let listens = self.subscribed || self.deaf;
        let list = if self.up && listens && self.list.is_none() { self.next_list } else { never };
        ping.min(subscription).min(list)
    }

    fn pinged(&mut self, answer: Result<(), RuntimeError>) -> Option<Happening> {
        let was_up = self.up;
        match answer {
            Ok(()) => {
                let now = (self.settings.clock)();
                if !was_up {
                    self.away = Some((self.last_answer, now));
                }
                self.last_answer = now;
                self.up = true;
                self.next_ping = Instant::now() + self.settings.ping_period;
                if !was_up {
                    tracing::info!("container engine answers");
                    self.next_subscription = Instant::now();
                    self.state.send_replace(EngineState::Reachable);
                }
                std::mem::take(&mut self.suspected).then_some(Happening::Answers)
            }
            Err(error) => {
                if was_up || self.suspected {
                    tracing::warn!(%error, "container engine does not answer: everything stays as it was");
                }
                self.next_ping = Instant::now() + self.backoff.next_delay();
                self.up = false;
                self.listed = false;
                self.subscribed = false;
                self.suspected = false;
                self.events = None;
                self.list = None;
                self.state.send_replace(EngineState::Unreachable);
                // Also where it was down before: somebody may have begun to wait since.
                Some(Happening::Silent)
            }
        }
    }

    fn said(&mut self, event: Option<Result<EngineEvent, RuntimeError>>) -> Option<Happening> {
        match event {
            Some(Ok(EngineEvent::Subscribed)) => {
                self.subscribed = true;
                self.deaf = false;
                // What happened before was not told: look.
                self.next_list = Instant::now();
                None
            }
            Some(Ok(EngineEvent::Container(event))) => {
                self.last_event = self.last_event.max(event.at);
                self.last_answer = (self.settings.clock)();
                Some(Happening::Event(event))
            }
            Some(Err(error)) => self.unsubscribed(&error.message),
            None => self.unsubscribed("it ended"),
        }
    }

    /// The connection is lost, and with it maybe the engine.
    fn unsubscribed(&mut self, why: &str) -> Option<Happening> {
        tracing::debug!(why, "subscription to the container engine's events was lost");
        self.events = None;
        self.subscribed = false;
        self.next_subscription = Instant::now() + self.backoff.next_delay();
        self.suspect();
        None
    }

    fn listed(&mut self, listing: (u64, Timestamp, Listing)) -> Option<Happening> {
        self.list = None;
        let (mark, asked, listing) = listing;
        match listing {
            Ok(containers) => {
                self.listed = true;
                self.looked = asked;
                // It did real work for us: it is well.
                self.backoff.reset();
                self.next_list = Instant::now() + self.settings.list_period;
                Some(Happening::Listed { mark, asked, containers })
            }
            Err(error) => {
                tracing::warn!(%error, "containers could not be listed");
                self.next_list = Instant::now() + self.backoff.next_delay();
                self.suspect();
                None
            }
        }
    }
}

/// Waits for a future that may not be there.
async fn maybe<F: Future + Unpin>(future: &mut Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

async fn maybe_list(
    list: &mut Option<(u64, Timestamp, BoxFuture<'static, Listing>)>,
) -> (u64, Timestamp, Listing) {
    match list {
        Some((mark, asked, listing)) => (*mark, *asked, listing.await),
        None => std::future::pending().await,
    }
}

async fn next_event(
    events: &mut Option<BoxStream<'static, Result<EngineEvent, RuntimeError>>>,
) -> Option<Result<EngineEvent, RuntimeError>> {
    match events {
        Some(events) => events.next().await,
        None => std::future::pending().await,
    }
}
