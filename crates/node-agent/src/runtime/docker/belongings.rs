//! What lies about in the engine, and taking it away.
//!
//! Everything that might refer to something is read, whosever it is; only what
//! carries our labels is offered for removal, and images, which carry none, where
//! the caller knows that they are ours. Nothing is removed by force.

use std::collections::{BTreeSet, HashMap};

use bollard::{
    Docker,
    models::{ContainerSummary, ContainerSummaryStateEnum, ImageSummary},
    query_parameters as query,
};
use chrono::DateTime;
use domain::{
    housekeeping::{self as held, Belongings, Removal},
    instance::FailureReason,
    node::StorageLimit,
};
use futures_util::future::BoxFuture;
use tokio::sync::watch;

use super::{CHANGE, DockerRuntime, LOOK, container::moment, failure::Failure};
use crate::runtime::{
    LABEL_FLEET, LABEL_INSTANCE, LABEL_NODE, Runtime as _, RuntimeError, container_name,
    upkeep::{Discarded, Upkeep},
};

/// Most images that are remembered as fetched; whoever listens takes note at once.
const FETCHED_MAX: usize = 1024;

/// The images that were fetched through this runtime.
pub(super) struct Fetched(watch::Sender<BTreeSet<String>>);

impl Default for Fetched {
    fn default() -> Self {
        Self(watch::Sender::new(BTreeSet::new()))
    }
}

impl DockerRuntime {
    /// The id of an image that is here; `None` also where the engine does not say.
    pub(super) async fn image_id(&self, name: &str) -> Option<String> {
        self.image(name).await.ok().flatten().map(|image| image.id)
    }

    /// Takes note of an image that is here now and was not `before`.
    pub(super) async fn note_fetched(self, name: String, before: Option<String>) {
        let Some(id) = self.image_id(&name).await.filter(|id| before.as_ref() != Some(id)) else { return };
        self.0.fetched.0.send_modify(|fetched| {
            if fetched.len() >= FETCHED_MAX {
                fetched.pop_first();
            }
            fetched.insert(id);
        });
    }

    async fn everything(&self, volumes: bool) -> Result<Belongings, RuntimeError> {
        // Containers last: what refers to something that is listed is seen.
        let networks = self.networks_with("label", &format!("{LABEL_NODE}={}", self.0.owner.node)).await?;
        let fleet = self.0.owner.fleet.to_string();
        let networks = networks.into_iter().filter(|network| {
            network.labels.as_ref().and_then(|labels| labels.get(LABEL_FLEET)) == Some(&fleet)
        });
        let networks = networks.filter_map(|network| {
            let created_at = moment(network.created.as_deref());
            Some(held::Network { id: network.id?, name: network.name?, created_at })
        });
        let networks = networks.collect();
        let volumes = if volumes { self.own_volumes().await? } else { Vec::new() };
        let options = query::ListImagesOptionsBuilder::default().all(false).build();
        let list = async |docker: Docker| docker.list_images(Some(options)).await;
        let images = self.call().make(LOOK, list).await.map_err(Failure::unexpected)?;
        let containers = self.summaries(Vec::new()).await?;
        Ok(Belongings {
            images: images.into_iter().map(image_of).collect(),
            containers: containers.into_iter().filter_map(|summary| self.container_of(summary)).collect(),
            networks,
            volumes,
        })
    }

    async fn own_volumes(&self) -> Result<Vec<held::Volume>, RuntimeError> {
        let filters = HashMap::from([("label", self.0.owner.filters())]);
        let options = query::ListVolumesOptionsBuilder::default().filters(&filters).build();
        let list = async |docker: Docker| docker.list_volumes(Some(options)).await;
        let volumes = self.call().make(LOOK, list).await.map_err(Failure::unexpected)?;
        let own = volumes.volumes.unwrap_or_default().into_iter();
        Ok(own.map(|volume| held::Volume { name: volume.name }).collect())
    }

    /// A container as it is listed; ours only where it has the name too: a label may
    /// come from an image that was made of a container of ours.
    fn container_of(&self, summary: ContainerSummary) -> Option<held::Container> {
        use ContainerSummaryStateEnum as State;
        let labels = summary.labels.unwrap_or_default();
        let owner = self.0.owner;
        let has = |key: &str, value: String| labels.get(key) == Some(&value);
        let ours = has(LABEL_FLEET, owner.fleet.to_string()) && has(LABEL_NODE, owner.node.to_string());
        let named = |name: &str| {
            let names = summary.names.iter().flatten();
            names.map(|given| given.trim_start_matches('/')).any(|given| given == name)
        };
        let instance_id = labels.get(LABEL_INSTANCE).and_then(|text| text.parse().ok());
        let instance_id = instance_id.filter(|id| ours && named(&container_name(*id)));
        let mut networks = Vec::new();
        for (name, settings) in summary.network_settings.and_then(|s| s.networks).unwrap_or_default() {
            networks.push(name);
            networks.extend(settings.network_id);
        }
        networks.extend(summary.host_config.and_then(|host| host.network_mode));
        networks.extend(super::create::attachments(&labels).into_iter().map(|attachment| attachment.name));
        let volumes = summary.mounts.unwrap_or_default().into_iter().filter_map(|mount| mount.name);
        Some(held::Container {
            id: summary.id?,
            instance_id,
            is_dead: matches!(summary.state, Some(State::CREATED | State::EXITED | State::DEAD)),
            created_at: summary.created.and_then(|seconds| DateTime::from_timestamp(seconds, 0)),
            images: summary.image_id.into_iter().chain(summary.image).collect(),
            networks,
            volumes: volumes.collect(),
        })
    }

    async fn take_away(&self, removal: &Removal) -> Result<Discarded, RuntimeError> {
        let done = match removal {
            Removal::Container(id) => {
                let options = query::RemoveContainerOptionsBuilder::default().v(true).build();
                let remove = async |docker: Docker| docker.remove_container(id, Some(options)).await;
                self.call().make(CHANGE, remove).await
            }
            Removal::Image(id) => {
                let options = query::RemoveImageOptionsBuilder::default().build();
                let remove =
                    async |docker: Docker| docker.remove_image(id, Some(options), None).await.map(drop);
                self.call().make(CHANGE, remove).await
            }
            Removal::Network(id) => {
                // Not while one is being made of which a container is to become a member.
                let _turn = self.0.networks.lock().await;
                let remove = async |docker: Docker| docker.remove_network(id).await;
                self.call().make(CHANGE, remove).await
            }
            Removal::Volume(name) => {
                let options = query::RemoveVolumeOptionsBuilder::default().build();
                let remove = async |docker: Docker| docker.remove_volume(name, Some(options)).await;
                self.call().make(CHANGE, remove).await
            }
        };
        match done {
            Ok(()) | Err(Failure::Answered { status: 404, .. }) => Ok(Discarded::Yes),
            // Podman says 500 of an image in use.
            Err(Failure::Answered { status: 403 | 409, .. }) => Ok(Discarded::InUse),
            Err(Failure::Answered { message, .. }) if message.contains("in use") => Ok(Discarded::InUse),
            Err(failure) => Err(failure.or_refused(FailureReason::StartFailed)),
        }
    }
}

fn image_of(summary: ImageSummary) -> held::Image {
    let names = summary.repo_tags.into_iter().chain(summary.repo_digests);
    held::Image {
        id: summary.id,
        names: names.filter(|name| !name.starts_with("<none>")).collect(),
        size_bytes: u64::try_from(summary.size).unwrap_or(0),
    }
}

impl Upkeep for DockerRuntime {
    fn storage_limit(&self) -> BoxFuture<'_, Result<StorageLimit, RuntimeError>> {
        Box::pin(self.find_storage_limit())
    }

    fn writable_bytes<'a>(
        &'a self,
        container_id: &'a str,
    ) -> BoxFuture<'a, Result<Option<u64>, RuntimeError>> {
        Box::pin(self.measure(container_id))
    }

    fn belongings(&self, volumes: bool) -> BoxFuture<'_, Result<Belongings, RuntimeError>> {
        Box::pin(self.everything(volumes))
    }

    fn discard<'a>(&'a self, removal: &'a Removal) -> BoxFuture<'a, Result<Discarded, RuntimeError>> {
        Box::pin(self.take_away(removal))
    }

    fn fetched(&self) -> watch::Receiver<BTreeSet<String>> {
        self.0.fetched.0.subscribe()
    }
}
