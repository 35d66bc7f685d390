//! Docker, through its Engine API. Podman's compatible socket will do too.
//!
//! The API version is negotiated at the first call and again after the engine was
//! out of reach, since it may come back as another version; see `engine` for
//! why the version has to be put into the paths here.
//!
//! What the engine refuses and what it does not answer are kept apart throughout
//! (I5): only an answer says anything about a container. An answer that cannot be
//! read, or that a proxy gave, is none.
//!
//! Each call has a deadline as a last resort, far longer than the call ever
//! takes: whoever calls has his own, shorter one.

mod belongings;
mod container;
mod create;
mod engine;
mod events;
mod exec;
mod failure;
mod image;
mod logs;
mod make;
mod network;
mod refuse;
mod storage;
mod usage;

#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bollard::{models::ContainerSummary, query_parameters as query};
use domain::{
    Timestamp,
    assignment::Assignment,
    id::{FleetId, InstanceId, NodeId},
    instance::FailureReason,
    plan::Container,
};
use futures_util::{
    Stream, StreamExt as _, TryStreamExt as _,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use tokio::time::sleep;

use super::{
    ContainerEvent, EngineEvent, EngineInfo, Executed, Given, ImageInfo, LABEL_INSTANCE, LogChunk, LogsQuery,
    PullSign, RegistryLogin, Runtime, RuntimeError, RuntimeErrorKind, Usage, container_name,
};
use container::{Inspected, Owner};
use engine::Connection;
use failure::{Failure, trimmed};
pub use refuse::HouseRules;

/// For calls that only look something up.
const LOOK: Duration = Duration::from_secs(30);
/// For calls that change something.
const CHANGE: Duration = Duration::from_secs(300);
/// How much longer than its grace a stop may take.
const STOP_MORE: Duration = Duration::from_secs(120);
/// How many containers are inspected at once.
const INSPECT_PARALLEL: usize = 8;
/// How often, and how many times, to look whether a container that somebody else
/// is removing has gone.
const REMOVAL_LOOK: Duration = Duration::from_millis(100);
const REMOVAL_LOOKS: usize = 300;
/// How often, and how many times, to look again where a container is in between two
/// states: one of Podman's whose process has ended is `stopped` until Podman has cleared
/// up after it. That is no word of the API's, so no answer with it can be read; and how
/// the process ended is not in it yet.
const BETWEEN_LOOK: Duration = Duration::from_millis(50);
const BETWEEN_LOOKS: usize = 200;
/// How often a create is tried when whatever had the name went away meanwhile.
const CREATE_TRIES: usize = 3;

/// The engine of this host, seen through one node's labels. Clones share everything.
#[derive(Clone)]
pub struct DockerRuntime(Arc<Inner>);

struct Inner {
    connection: Connection,
    owner: Owner,
    house: HouseRules,
    /// Held while a network is being made.
    networks: tokio::sync::Mutex<()>,
    storage: storage::Storage,
    fetched: belongings::Fetched,
    /// What the last full list found, by the engine's ids: what has not changed since need
    /// not be asked for again. Held for reading and replacing only, never across an await.
    listed: Mutex<HashMap<String, Inspected>>,
}

impl DockerRuntime {
    /// A runtime on the engine at `host`: `unix:///path`, or `tcp://host:port`, with
    /// the rules of a node that was told nothing. Does not talk to it yet.
    ///
    /// # Errors
    /// When `host` has another form.
    pub fn new(host: &str, fleet: FleetId, node: NodeId) -> Result<Self, RuntimeError> {
        Self::with_rules(host, fleet, node, HouseRules::default())
    }

    /// As [`DockerRuntime::new`], with rules of the node's own.
    ///
    /// # Errors
    /// When `host` has another form.
    pub fn with_rules(
        host: &str,
        fleet: FleetId,
        node: NodeId,
        house: HouseRules,
    ) -> Result<Self, RuntimeError> {
        let connection = Connection::new(host)?;
        Ok(Self(Arc::new(Inner {
            connection,
            owner: Owner { fleet, node },
            house,
            networks: tokio::sync::Mutex::default(),
            storage: storage::Storage::default(),
            fetched: belongings::Fetched::default(),
            listed: Mutex::default(),
        })))
    }

    fn call(&self) -> &Connection {
        &self.0.connection
    }

    /// A stream of answers, opened once the version is known.
    fn streamed<T, S>(
        &self,
        open: impl FnOnce(bollard::Docker, &Inner) -> S + Send + 'static,
    ) -> BoxStream<'static, Result<T, RuntimeError>>
    where
        T: Send + 'static,
        S: Stream<Item = Result<T, RuntimeError>> + Send + 'static,
    {
        let (this, inner) = (Arc::clone(&self.0), Arc::clone(&self.0));
        let opened = async move {
            let engine = this.connection.engine().await?;
            Ok(open(engine.docker, &this))
        };
        let note = move |error: &RuntimeError| inner.connection.note(error);
        stream::once(opened).try_flatten().inspect_err(note).boxed()
    }

    /// A container by its id or name, whosever it is.
    async fn inspect_any(&self, id: &str) -> Result<Option<Inspected>, RuntimeError> {
        let mut looks = 1;
        loop {
            let look = async |docker: bollard::Docker| {
                docker.inspect_container(id, None::<query::InspectContainerOptions>).await
            };
            match self.call().make(LOOK, look).await {
                Ok(response) => return Inspected::read(response).map(Some),
                Err(Failure::Answered { status: 404, .. }) => return Ok(None),
                Err(failure) if failure.is_between() && looks < BETWEEN_LOOKS => looks += 1,
                Err(other) => return Err(other.unexpected()),
            }
            sleep(BETWEEN_LOOK).await;
        }
    }

    /// A container that has just been acted on.
    async fn inspect_there(&self, id: &str) -> Result<Container, RuntimeError> {
        let gone = || RuntimeError::new(RuntimeErrorKind::NotFound, format!("no container {id}"));
        self.inspect_any(id).await?.map(|inspected| inspected.container).ok_or_else(gone)
    }

    async fn summaries(&self, labels: Vec<String>) -> Result<Vec<ContainerSummary>, RuntimeError> {
        let filters = HashMap::from([("label", labels)]);
        let options = query::ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        let mut looks = 1;
        loop {
            let options = Some(options.clone());
            let list = async |docker: bollard::Docker| docker.list_containers(options).await;
            match self.call().make(LOOK, list).await {
                Err(failure) if failure.is_between() && looks < BETWEEN_LOOKS => looks += 1,
                answer => return answer.map_err(Failure::unexpected),
            }
            sleep(BETWEEN_LOOK).await;
        }
    }

    /// Containers, inspected anew where `known` is not what they still are.
    async fn inspected(
        &self,
        summaries: Vec<ContainerSummary>,
        known: &HashMap<String, Inspected>,
    ) -> Result<Vec<Inspected>, RuntimeError> {
        let look = |summary: ContainerSummary| async move {
            let Some(id) = summary.id.as_deref() else { return Ok(None) };
            match known.get(id).filter(|known| known.is_still(&summary)) {
                Some(known) => Ok(Some(known.clone())),
                None => self.inspect_any(id).await,
            }
        };
        let found: Vec<Option<Inspected>> =
            stream::iter(summaries).map(look).buffer_unordered(INSPECT_PARALLEL).try_collect().await?;
        Ok(found.into_iter().flatten().filter(|i| i.is_of(&self.0.owner)).collect())
    }

    /// All that is ours; of several that carry one instance's label, the one that is
    /// really its. A list costs the engine next to nothing, each inspection a little:
    /// so only those are inspected that may have changed since the last list.
    async fn list_all(&self) -> Result<Vec<(InstanceId, Container)>, RuntimeError> {
        // Lost where this comes to nothing: then all are inspected the next time.
        let known = std::mem::take(&mut *self.listed());
        let found = self.inspected(self.summaries(self.0.owner.filters()).await?, &known).await?;
        *self.listed() = found.iter().map(|i| (i.container.container_id.clone(), i.clone())).collect();
        let each = container::one_each(found.into_iter());
        Ok(each.into_iter().filter_map(|i| Some((i.instance_id?, i.container))).collect())
    }

    fn listed(&self) -> MutexGuard<'_, HashMap<String, Inspected>> {
        self.0.listed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn find(&self, instance: InstanceId) -> Result<Option<Container>, RuntimeError> {
        // Almost always it has its name; only then is one call enough.
        if let Some(inspected) = self.inspect_any(&container_name(instance)).await?
            && inspected.is_of(&self.0.owner)
            && inspected.instance_id == Some(instance)
        {
            return Ok(Some(inspected.container));
        }
        let mut labels = self.0.owner.filters();
        labels.push(format!("{LABEL_INSTANCE}={instance}"));
        let found = self.inspected(self.summaries(labels).await?, &HashMap::new()).await?;
        let each = container::one_each(found.into_iter());
        Ok(each.into_iter().find(|i| i.instance_id == Some(instance)).map(|i| i.container))
    }

    async fn end(&self, container_id: &str, grace: Duration) -> Result<Option<Container>, RuntimeError> {
        let seconds = i32::try_from(grace.as_secs()).unwrap_or(i32::MAX);
        let options = query::StopContainerOptionsBuilder::default().t(seconds).build();
        let stop = async |docker: bollard::Docker| docker.stop_container(container_id, Some(options)).await;
        match self.call().make(grace.saturating_add(STOP_MORE), stop).await {
            Ok(()) => Ok(self.inspect_any(container_id).await?.map(|inspected| inspected.container)),
            Err(Failure::Answered { status: 404, .. }) => Ok(None),
            // One container that does not go down says nothing about the engine.
            Err(failure) => Err(failure.or_refused(FailureReason::StartFailed)),
        }
    }

    async fn delete(&self, container_id: &str) -> Result<(), RuntimeError> {
        let options = query::RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        let remove =
            async |docker: bollard::Docker| docker.remove_container(container_id, Some(options)).await;
        match self.call().make(CHANGE, remove).await {
            Ok(()) | Err(Failure::Answered { status: 404, .. }) => Ok(()),
            // Somebody else is at it already: done when it is gone.
            Err(Failure::Answered { status: 409, .. }) => self.gone(container_id).await,
            Err(failure) => Err(failure.or_refused(FailureReason::StartFailed)),
        }
    }

    async fn gone(&self, container_id: &str) -> Result<(), RuntimeError> {
        for _ in 0..REMOVAL_LOOKS {
            if self.inspect_any(container_id).await?.is_none() {
                return Ok(());
            }
            sleep(REMOVAL_LOOK).await;
        }
        let message =
            format!("container {container_id} is being removed by somebody else, and is still there");
        Err(RuntimeError::new(RuntimeErrorKind::Timeout, message))
    }
}

impl Runtime for DockerRuntime {
    fn ping(&self) -> BoxFuture<'_, Result<(), RuntimeError>> {
        Box::pin(async move {
            let ping = async |docker: bollard::Docker| docker.ping().await;
            self.call().make(LOOK, ping).await.map(|_| ()).map_err(Failure::unexpected)
        })
    }

    fn info(&self) -> BoxFuture<'_, Result<EngineInfo, RuntimeError>> {
        Box::pin(async move {
            let ask = async |docker: bollard::Docker| docker.info().await;
            let info = self.call().make(LOOK, ask).await.map_err(Failure::unexpected)?;
            let api_version = self.call().api_version().await?;
            Ok(engine::info(info, api_version))
        })
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<(InstanceId, Container)>, RuntimeError>> {
        Box::pin(self.list_all())
    }

    fn inspect(&self, instance: InstanceId) -> BoxFuture<'_, Result<Option<Container>, RuntimeError>> {
        Box::pin(self.find(instance))
    }

    fn image<'a>(&'a self, image: &'a str) -> BoxFuture<'a, Result<Option<ImageInfo>, RuntimeError>> {
        Box::pin(async move {
            if !image::is_reference(image) {
                return Ok(None);
            }
            let look = async |docker: bollard::Docker| docker.inspect_image(image).await;
            match self.call().make(LOOK, look).await {
                Ok(found) => Ok(image::info(image, found)),
                // A reference that the engine cannot read cannot be held; the pull says so.
                Err(Failure::Answered { status: 400 | 404, .. }) => Ok(None),
                Err(other) => Err(other.unexpected()),
            }
        })
    }

    fn pull(
        &self,
        image: &str,
        login: Option<RegistryLogin>,
    ) -> BoxStream<'static, Result<PullSign, RuntimeError>> {
        if let Err(error) = refuse::check_image(image, &self.0.house.policy) {
            return stream::once(async { Err(error) }).boxed();
        }
        let image = image.to_owned();
        let (this, name) = (self.clone(), image.clone());
        let pull = self.streamed(move |docker, _| image::pull(&docker, image, login));
        // What is fetched is ours to clear away again.
        stream::once(async move {
            let before = this.image_id(&name).await;
            let noted = stream::once(this.note_fetched(name, before)).filter_map(|()| async { None });
            pull.chain(noted)
        })
        .flatten()
        .boxed()
    }

    fn create_given<'a>(
        &'a self,
        assignment: &'a Assignment,
        given: &'a Given,
    ) -> BoxFuture<'a, Result<Container, RuntimeError>> {
        Box::pin(async move {
            let scrub = |error: RuntimeError| RuntimeError { message: given.scrub(error.message), ..error };
            self.make(assignment, given).await.map_err(scrub)
        })
    }

    fn start<'a>(&'a self, container_id: &'a str) -> BoxFuture<'a, Result<Container, RuntimeError>> {
        Box::pin(self.run(container_id))
    }

    fn stop<'a>(
        &'a self,
        container_id: &'a str,
        grace: Duration,
    ) -> BoxFuture<'a, Result<Option<Container>, RuntimeError>> {
        Box::pin(self.end(container_id, grace))
    }

    fn remove<'a>(&'a self, container_id: &'a str) -> BoxFuture<'a, Result<(), RuntimeError>> {
        Box::pin(self.delete(container_id))
    }

    fn events(&self, since: Option<Timestamp>) -> BoxStream<'static, Result<EngineEvent, RuntimeError>> {
        let this = self.clone();
        stream::once(async move {
            // An answer proves that the engine is there, and tells its own clock. All
            // that happens from that moment on comes, however late the stream itself
            // is opened, because it is asked for from that moment.
            let ask = async |docker: bollard::Docker| docker.info().await;
            let info = this.call().make(LOOK, ask).await.map_err(Failure::unexpected)?;
            let from = since.or_else(|| container::moment(info.system_time.as_deref()));
            let engine = this.call().engine().await?;
            let events = events::follow(engine.docker, &this.0.owner, from.unwrap_or_else(chrono::Utc::now));
            let subscribed = stream::once(async { Ok(EngineEvent::Subscribed) });
            Ok(subscribed.chain(events.map_ok(|event: ContainerEvent| EngineEvent::Container(event))))
        })
        .try_flatten()
        .boxed()
    }

    fn logs(
        &self,
        container_id: &str,
        query: &LogsQuery,
    ) -> BoxStream<'static, Result<LogChunk, RuntimeError>> {
        let (container_id, query) = (container_id.to_owned(), query.clone());
        self.streamed(move |docker, _| logs::read(docker, container_id, query))
    }

    fn usage<'a>(&'a self, container_id: &'a str) -> BoxFuture<'a, Result<Usage, RuntimeError>> {
        Box::pin(async move {
            let options = query::StatsOptionsBuilder::default().stream(false).one_shot(true).build();
            let ask = async |docker: bollard::Docker| {
                docker.stats(container_id, Some(options)).boxed().try_next().await
            };
            match self.call().make(LOOK, ask).await {
                Ok(stats) => Ok(usage::read(stats.unwrap_or_default())),
                Err(failure) => Err(failure.unexpected()),
            }
        })
    }

    fn exec<'a>(
        &'a self,
        container_id: &'a str,
        command: &'a [String],
        deadline: Duration,
    ) -> BoxFuture<'a, Result<Executed, RuntimeError>> {
        Box::pin(exec::run(self.call(), &self.0.house.policy, container_id, command, deadline))
    }

    fn exec_is_running<'a>(&'a self, exec_id: &'a str) -> BoxFuture<'a, Result<bool, RuntimeError>> {
        Box::pin(exec::is_running(self.call(), exec_id))
    }
}
