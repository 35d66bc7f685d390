//! An engine in memory that can fail, hang, lie, die and come back, for tests.
//!
//! It keeps what a real engine keeps (containers, images, a tail of events) and
//! says what a real one says, in the same order: a stop is a kill event, a death,
//! and then the answer.

mod exec;
mod pulls;
mod state;
mod upkeep;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use chrono::Utc;
use domain::{
    Timestamp,
    assignment::Assignment,
    id::InstanceId,
    instance::FailureReason,
    plan::{Container, ContainerStatus},
};
use futures_util::{
    FutureExt as _, StreamExt as _,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use tokio::{
    sync::{mpsc, watch},
    time::sleep,
};
use tokio_stream::wrappers::ReceiverStream;

use self::state::{State, not_found};
pub use self::{pulls::ScriptedPull, state::MadeWith};
use super::{
    EngineEvent, EngineInfo, EventKind, Executed, Given, ImageInfo, LogChunk, LogsQuery, PullSign,
    RegistryLogin, Runtime, RuntimeError, RuntimeErrorKind, Usage,
};

/// Events that may wait for one subscriber.
const EVENTS_QUEUED: usize = 4096;

/// A method of [`Runtime`] or [`super::upkeep::Upkeep`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "named after the methods")]
pub enum Call {
    Ping,
    Info,
    List,
    Inspect,
    ImagePresent,
    Pull,
    Create,
    Start,
    Stop,
    Remove,
    Events,
    Logs,
    Usage,
    Exec,
    ExecIsRunning,
    StorageLimit,
    WritableBytes,
    Belongings,
    Discard,
}

/// What goes wrong with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It answers with an error and does nothing.
    Error(RuntimeErrorKind),
    /// It never answers and does nothing.
    Hang,
    /// It does what it was asked, and never answers.
    DoAndHang,
    /// It does what it was asked, and the connection breaks before it answers.
    DoAndBreak,
    /// The caller's own code panics.
    Panic,
}

/// The engine and its remote control. Clones are the same engine.
#[derive(Clone)]
pub struct FakeRuntime {
    state: Arc<Mutex<State>>,
    down: watch::Sender<bool>,
}

impl Default for FakeRuntime {
    fn default() -> Self {
        Self { state: Arc::default(), down: watch::Sender::new(false) }
    }
}

/// Remote control.
impl FakeRuntime {
    /// How a container ends that was stopped.
    pub const STOPPED_CODE: i32 = 143;

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the engine down: nothing answers, all connections break. Its
    /// containers live on.
    pub fn go_down(&self) {
        self.down.send_replace(true);
        self.state().subscribers.clear();
    }

    /// Brings it back.
    pub fn come_back(&self) {
        self.down.send_replace(false);
    }

    /// Takes it down, ends all its containers without a word, and brings it back.
    pub fn restart(&self) {
        self.go_down();
        let mut state = self.state();
        let running: Vec<_> = state.containers.keys().copied().collect();
        for instance in running {
            state.end(instance, 255, false);
        }
        state.past.clear();
        drop(state);
        self.come_back();
    }

    /// Lets the next call of this kind go wrong; more than one queue up.
    pub fn fail_next(&self, call: Call, fault: Fault) {
        self.state().faults.entry(call).or_default().push_back(fault);
    }

    /// Lets every call of this kind go wrong, until [`FakeRuntime::heal`].
    pub fn fail_always(&self, call: Call, fault: Fault) {
        self.state().always.insert(call, fault);
    }

    /// Ends [`FakeRuntime::fail_always`].
    pub fn heal(&self, call: Call) {
        self.state().always.remove(&call);
    }

    /// Makes every call take that long.
    pub fn delay(&self, delay: Duration) {
        self.state().delay = delay;
    }

    /// Makes it lie: full looks show nothing.
    pub fn hide_all(&self, hide: bool) {
        self.state().forgetful = hide;
    }

    /// Puts an image there.
    pub fn add_image(&self, image: &str) {
        self.state().images.insert(image.to_owned());
    }

    /// Sets what is known of an image, once it is there.
    pub fn describe_image(&self, image: &str, info: ImageInfo) {
        self.state().image_infos.insert(image.to_owned(), info);
    }

    /// Makes pulls of an image be refused.
    pub fn refuse_image(&self, image: &str, reason: FailureReason) {
        self.state().refused_images.insert(image.to_owned(), reason);
    }

    /// Gives the name of an instance's container to a stranger.
    pub fn take_name(&self, instance: InstanceId) {
        self.state().names_taken.insert(instance);
    }

    /// Somebody sends a container a signal that ends it.
    pub fn kill(&self, instance: InstanceId, signal: i32) {
        let mut state = self.state();
        state.tell(instance, EventKind::Killed { signal });
        state.end(instance, 128 + signal, true);
    }

    /// A container's process ends by itself.
    pub fn exit(&self, instance: InstanceId, code: i32) {
        self.state().end(instance, code, true);
    }

    /// Somebody starts a container.
    pub fn start_outside(&self, instance: InstanceId) {
        self.state().begin(instance);
    }

    /// Somebody freezes a container, or lets it go on.
    pub fn freeze(&self, instance: InstanceId, freeze: bool) {
        self.state().freeze(instance, freeze);
    }

    /// Somebody removes a container by force.
    pub fn remove_outside(&self, instance: InstanceId) {
        let mut state = self.state();
        state.tell(instance, EventKind::Killed { signal: 9 });
        state.end(instance, 137, true);
        state.remove(instance);
    }

    /// Lets it tell the time by another clock.
    pub fn set_clock(&self, clock: fn() -> Timestamp) {
        self.state().clock = Some(clock);
    }

    /// Breaks all subscriptions to events; nothing else happens.
    pub fn lose_subscribers(&self) {
        self.state().subscribers.clear();
    }

    /// How many are subscribed to its events.
    #[must_use]
    pub fn subscribers(&self) -> usize {
        self.state().subscribers.len()
    }

    /// Says that something happened to a container, whether or not it did.
    pub fn say(&self, instance: InstanceId, kind: EventKind) {
        self.state().tell(instance, kind);
    }

    /// Takes it down, and brings it back with other containers: none of those it
    /// had, and those of these assignments, which run.
    pub fn come_back_with(&self, others: &[Assignment]) {
        self.go_down();
        let mut state = self.state();
        state.containers.clear();
        state.past.clear();
        for other in others {
            state.images.insert(other.spec.image.clone());
            // It has the image, and nobody has the name.
            let _ = state.create(other);
            state.begin(other.instance_id);
        }
        drop(state);
        self.come_back();
    }

    /// A container as it really is.
    #[must_use]
    pub fn container(&self, instance: InstanceId) -> Option<Container> {
        self.state().containers.get(&instance).cloned()
    }

    /// What a container was last made with: variables, and files.
    #[must_use]
    pub fn given(&self, instance: InstanceId) -> Option<MadeWith> {
        self.state().given.get(&instance).cloned()
    }

    /// How many containers really run.
    #[must_use]
    pub fn running(&self) -> usize {
        self.state().containers.values().filter(|c| c.status == ContainerStatus::Running).count()
    }

    /// How often a call was made, for one instance or at all.
    #[must_use]
    pub fn count(&self, call: Call, instance: Option<InstanceId>) -> usize {
        let state = self.state();
        state.calls.iter().filter(|(c, i)| *c == call && (instance.is_none() || *i == instance)).count()
    }

    /// The most creations, starts and removals that went on at once.
    #[must_use]
    pub fn most_working(&self) -> usize {
        self.state().most_working
    }

    /// Lets a container write.
    pub fn write_log(&self, instance: InstanceId, chunk: LogChunk) {
        let mut state = self.state();
        if let Some(id) = state.containers.get(&instance).map(|c| c.container_id.clone()) {
            state.logs.entry(id).or_default().push(chunk);
        }
    }

    /// Carries a call out with whatever is set to go wrong with it.
    async fn answer<T>(
        &self,
        call: Call,
        instance: Option<InstanceId>,
        work: impl FnOnce(&mut State) -> Result<T, RuntimeError>,
    ) -> Result<T, RuntimeError> {
        let (fault, delay) = {
            let mut state = self.state();
            state.calls.push((call, instance));
            let next = state.faults.get_mut(&call).and_then(VecDeque::pop_front);
            (next.or_else(|| state.always.get(&call).copied()), state.delay)
        };
        let _working = matches!(call, Call::Create | Call::Start | Call::Remove).then(|| Working::new(self));
        if *self.down.borrow() {
            return Err(gone());
        }
        if !delay.is_zero() {
            sleep(delay).await;
        }
        match fault {
            None => work(&mut self.state()),
            Some(Fault::Error(kind)) => Err(RuntimeError::new(kind, "as the test asked for")),
            Some(Fault::Hang) => Err(self.until_down().await),
            #[expect(clippy::panic, reason = "this is what the test asked for")]
            Some(Fault::Panic) => panic!("as the test asked for"),
            Some(Fault::DoAndHang) => {
                drop(work(&mut self.state()));
                Err(self.until_down().await)
            }
            Some(Fault::DoAndBreak) => {
                drop(work(&mut self.state()));
                Err(gone())
            }
        }
    }

    /// What hangs breaks when the engine goes away.
    async fn until_down(&self) -> RuntimeError {
        let mut down = self.down.subscribe();
        // The sender lives in `self`.
        let _ = down.wait_for(|down| *down).await;
        gone()
    }
}

fn gone() -> RuntimeError {
    RuntimeError::unreachable("connection refused")
}

/// Counts calls that are under way.
struct Working<'a>(&'a FakeRuntime);

impl<'a> Working<'a> {
    fn new(runtime: &'a FakeRuntime) -> Self {
        let mut state = runtime.state();
        state.working += 1;
        state.most_working = state.most_working.max(state.working);
        Self(runtime)
    }
}

impl Drop for Working<'_> {
    fn drop(&mut self) {
        self.0.state().working -= 1;
    }
}

impl Runtime for FakeRuntime {
    fn ping(&self) -> BoxFuture<'_, Result<(), RuntimeError>> {
        self.answer(Call::Ping, None, |_| Ok(())).boxed()
    }

    fn info(&self) -> BoxFuture<'_, Result<EngineInfo, RuntimeError>> {
        let info = EngineInfo { version: "fake".into(), api_version: "1.41".into(), ..EngineInfo::default() };
        self.answer(Call::Info, None, |_| Ok(info)).boxed()
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<(InstanceId, Container)>, RuntimeError>> {
        self.answer(Call::List, None, |state| {
            let all = state.containers.iter().filter(|_| !state.forgetful);
            Ok(all.map(|(id, container)| (*id, container.clone())).collect())
        })
        .boxed()
    }

    fn inspect(&self, instance: InstanceId) -> BoxFuture<'_, Result<Option<Container>, RuntimeError>> {
        self.answer(Call::Inspect, Some(instance), move |state| Ok(state.containers.get(&instance).cloned()))
            .boxed()
    }

    fn image<'a>(&'a self, image: &'a str) -> BoxFuture<'a, Result<Option<ImageInfo>, RuntimeError>> {
        self.answer(Call::ImagePresent, None, |state| Ok(state.image(image))).boxed()
    }

    fn pull(
        &self,
        image: &str,
        login: Option<RegistryLogin>,
    ) -> BoxStream<'static, Result<PullSign, RuntimeError>> {
        self.fetch(image, login.as_ref())
    }

    fn create_given<'a>(
        &'a self,
        assignment: &'a Assignment,
        given: &'a Given,
    ) -> BoxFuture<'a, Result<Container, RuntimeError>> {
        self.answer(Call::Create, Some(assignment.instance_id), |state| {
            let env = given.env.iter().map(|(name, value)| (name.clone(), value.to_string()));
            state.given.insert(assignment.instance_id, (env.collect(), given.files.clone()));
            state.create(assignment)
        })
        .boxed()
    }

    fn start<'a>(&'a self, container_id: &'a str) -> BoxFuture<'a, Result<Container, RuntimeError>> {
        let owner = self.state().owner(container_id);
        self.answer(Call::Start, owner, move |state| {
            let instance = owner.ok_or_else(not_found)?;
            state.begin(instance);
            state.find(instance)
        })
        .boxed()
    }

    fn stop<'a>(
        &'a self,
        container_id: &'a str,
        _grace: Duration,
    ) -> BoxFuture<'a, Result<Option<Container>, RuntimeError>> {
        let owner = self.state().owner(container_id);
        self.answer(Call::Stop, owner, move |state| {
            let Some(instance) = owner else { return Ok(None) };
            if state.find(instance)?.status.is_alive() {
                state.tell(instance, EventKind::Killed { signal: 15 });
                state.end(instance, Self::STOPPED_CODE, true);
            }
            Ok(state.containers.get(&instance).cloned())
        })
        .boxed()
    }

    fn remove<'a>(&'a self, container_id: &'a str) -> BoxFuture<'a, Result<(), RuntimeError>> {
        let owner = self.state().owner(container_id);
        self.answer(Call::Remove, owner, move |state| {
            if let Some(instance) = owner {
                state.remove(instance);
            }
            Ok(())
        })
        .boxed()
    }

    fn events(&self, since: Option<Timestamp>) -> BoxStream<'static, Result<EngineEvent, RuntimeError>> {
        let engine = self.clone();
        let subscribe = async move {
            let subscribed = engine
                .answer(Call::Events, None, |state| {
                    let (to, from) = mpsc::channel(EVENTS_QUEUED);
                    let past = state.past.iter().filter(|event| since.is_some_and(|since| event.at >= since));
                    let past: Vec<_> = past.cloned().map(EngineEvent::Container).collect();
                    state.subscribers.push(to);
                    Ok((past, from))
                })
                .await;
            match subscribed {
                Ok((past, from)) => stream::iter([EngineEvent::Subscribed].into_iter().chain(past))
                    .chain(ReceiverStream::new(from))
                    .map(Ok)
                    .boxed(),
                Err(error) => stream::iter([Err(error)]).boxed(),
            }
        };
        stream::once(subscribe).flatten().boxed()
    }

    fn logs(
        &self,
        container_id: &str,
        query: &LogsQuery,
    ) -> BoxStream<'static, Result<LogChunk, RuntimeError>> {
        let (engine, container_id, query) = (self.clone(), container_id.to_owned(), query.clone());
        let read = async move {
            let owner = engine.state().owner(&container_id);
            let pieces = engine.answer(Call::Logs, owner, |state| {
                owner.ok_or_else(not_found)?;
                Ok(state.logs.get(&container_id).cloned().unwrap_or_default())
            });
            match pieces.await {
                // As a real one does it: first the end is cut off, then the time is looked at.
                Ok(pieces) => {
                    let skip = query.tail.map_or(0, |tail| pieces.len().saturating_sub(tail as usize));
                    let wanted = move |piece: &LogChunk| {
                        query.since.is_none_or(|since| piece.at.is_none_or(|at| at >= since))
                            && query.until.is_none_or(|until| piece.at.is_some_and(|at| at <= until))
                    };
                    stream::iter(pieces.into_iter().skip(skip).filter(wanted).map(Ok)).boxed()
                }
                Err(error) => stream::iter([Err(error)]).boxed(),
            }
        };
        stream::once(read).flatten().boxed()
    }

    fn usage<'a>(&'a self, container_id: &'a str) -> BoxFuture<'a, Result<Usage, RuntimeError>> {
        let owner = self.state().owner(container_id);
        self.answer(Call::Usage, owner, move |_| owner.map(|_| Usage::default()).ok_or_else(not_found))
            .boxed()
    }

    fn exec<'a>(
        &'a self,
        container_id: &'a str,
        command: &'a [String],
        deadline: Duration,
    ) -> BoxFuture<'a, Result<Executed, RuntimeError>> {
        self.execute(container_id, command, deadline).boxed()
    }

    fn exec_is_running<'a>(&'a self, exec_id: &'a str) -> BoxFuture<'a, Result<bool, RuntimeError>> {
        self.command_runs(exec_id).boxed()
    }
}

/// A line for [`FakeRuntime::write_log`].
#[must_use]
pub fn log_line(text: &str) -> LogChunk {
    LogChunk { at: Some(Utc::now()), stderr: false, bytes: Bytes::copy_from_slice(text.as_bytes()) }
}
