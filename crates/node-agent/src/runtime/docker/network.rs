//! Networks that containers join by name.
//!
//! One that is missing is made: a bridge of this host, with our labels. One that is
//! there is used as it is, whoever made it: people connect our containers with what
//! they run beside them that way. Only those with our labels are ever removed, and
//! only by housekeeping.

use std::collections::HashMap;

use bollard::{
    Docker,
    models::{Network, NetworkConnectRequest, NetworkCreateRequest},
    query_parameters::{InspectNetworkOptions, ListNetworksOptionsBuilder},
};
use domain::instance::FailureReason;

use super::{CHANGE, DockerRuntime, LOOK, container::Inspected, create, failure::Failure};
use crate::runtime::RuntimeError;

/// Networks that every engine has, and that nobody makes.
const ENGINES_OWN: [&str; 4] = ["bridge", "host", "none", "podman"];

impl DockerRuntime {
    /// Makes those of these networks that are missing.
    pub(super) async fn ensure_networks<'a>(
        &self,
        names: impl Iterator<Item = &'a str> + Send,
    ) -> Result<(), RuntimeError> {
        for name in names.filter(|name| !ENGINES_OWN.contains(name)) {
            if self.network_id(name).await?.is_some() {
                continue;
            }
            // One at a time: engines before 25 make as many of one name as they are asked for.
            let _turn = self.0.networks.lock().await;
            if self.network_id(name).await?.is_none() {
                self.make_network(name).await?;
            }
        }
        Ok(())
    }

    /// Lets a container that does not run be again in networks that were removed, or
    /// removed and made anew: engines remember networks by their ids.
    pub(super) async fn rejoin_networks(&self, inspected: &Inspected) -> Result<(), RuntimeError> {
        for (network, was) in &inspected.networks {
            let name = network.name.as_str();
            if ENGINES_OWN.contains(&name) {
                continue;
            }
            self.ensure_networks([name].into_iter()).await?;
            if self.network_id(name).await?.as_ref() != was.as_ref() {
                self.join_network(&inspected.container.container_id, network).await?;
            }
        }
        Ok(())
    }

    /// Lets a container join one network.
    pub(super) async fn join_network(
        &self,
        container_id: &str,
        network: &create::Attachment,
    ) -> Result<(), RuntimeError> {
        let request = NetworkConnectRequest {
            container: container_id.to_owned(),
            endpoint_config: Some(network.settings()),
        };
        let join = async |docker: Docker| docker.connect_network(&network.name, request).await;
        self.call().make(CHANGE, join).await.map_err(create::start_error)
    }

    /// The id of a network, empty where there are several of its name: which one is
    /// meant, the engine refuses to say by itself.
    async fn network_id(&self, name: &str) -> Result<Option<String>, RuntimeError> {
        let look = async |docker: Docker| docker.inspect_network(name, None::<InspectNetworkOptions>).await;
        match self.call().make(LOOK, look).await {
            // An engine takes the beginning of an id for a name.
            Ok(found) => Ok((found.name.as_deref() == Some(name)).then(|| found.id.unwrap_or_default())),
            Err(Failure::Answered { status: 404, .. }) => Ok(None),
            Err(Failure::Answered { status: 400, .. }) => Ok(Some(String::new())),
            Err(other) => Err(other.unexpected()),
        }
    }

    async fn make_network(&self, name: &str) -> Result<(), RuntimeError> {
        let request = NetworkCreateRequest {
            name: name.to_owned(),
            driver: Some("bridge".to_owned()),
            labels: Some(self.0.owner.labels().into()),
            ..NetworkCreateRequest::default()
        };
        let make = async |docker: Docker| docker.create_network(request).await;
        match self.call().make(CHANGE, make).await {
            Ok(made) => {
                tracing::info!(network = name, "made a network that was missing");
                self.give_way(name, &made.id).await
            }
            // Somebody else was quicker.
            Err(Failure::Answered { status: 409, .. }) => Ok(()),
            // Not about a container: nothing is gone.
            Err(Failure::Answered { status: 404, message }) => {
                Err(RuntimeError::refused(FailureReason::StartFailed, super::trimmed(&message)))
            }
            Err(failure) => Err(create::start_error(failure)),
        }
    }

    /// Where somebody else made one of the same name meanwhile, the older one stays:
    /// with two, the engine would not know which one is meant.
    async fn give_way(&self, name: &str, made: &str) -> Result<(), RuntimeError> {
        let all = self.networks_with("name", name).await?;
        let mut same: Vec<_> = all
            .into_iter()
            .filter(|network| network.name.as_deref() == Some(name))
            .map(|network| {
                (super::container::moment(network.created.as_deref()), network.id.unwrap_or_default())
            })
            .collect();
        same.sort();
        match same.first() {
            Some((_, oldest)) if same.len() > 1 && oldest != made => {
                let remove = async |docker: Docker| docker.remove_network(made).await;
                match self.call().make(CHANGE, remove).await {
                    Ok(()) | Err(Failure::Answered { .. }) => Ok(()),
                    Err(failure) => Err(failure.unexpected()),
                }
            }
            _ => Ok(()),
        }
    }

    /// Networks that fit one filter.
    pub(super) async fn networks_with(&self, key: &str, value: &str) -> Result<Vec<Network>, RuntimeError> {
        let filters = HashMap::from([(key, vec![value.to_owned()])]);
        let options = ListNetworksOptionsBuilder::default().filters(&filters).build();
        let list = async |docker: Docker| docker.list_networks(Some(options)).await;
        self.call().make(LOOK, list).await.map_err(Failure::unexpected)
    }
}
