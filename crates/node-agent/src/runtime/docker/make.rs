//! Making a container, and starting it.

use std::collections::BTreeSet;

use bollard::{Docker, query_parameters as query};
use domain::{assignment::Assignment, instance::FailureReason, node::StorageLimit, plan::Container};
use tokio::time::sleep;

use super::{
    CHANGE, CREATE_TRIES, DockerRuntime, REMOVAL_LOOK,
    container::Inspected,
    create,
    failure::{Failure, trimmed},
    image, refuse,
};
use crate::runtime::{Given, RuntimeError, container_name};

/// How often a start is tried whose port, chosen from the node's range, turns out to
/// be in use: engines go on to the next one each time.
const PORT_TRIES: usize = 16;
/// How often it may come by each port of a small range: engines count on for IPv4 and
/// IPv6 apart, and one may fail where the other does not.
const ROUNDS: usize = 3;

/// What became of one try to make a container.
enum Made {
    Container(Container),
    /// Whatever is in the way is going away.
    Again,
    /// The engine does not keep sizes after all.
    Unsized,
}

impl DockerRuntime {
    pub(super) async fn make(
        &self,
        assignment: &Assignment,
        given: &Given,
    ) -> Result<Container, RuntimeError> {
        refuse::check(&assignment.spec, &self.0.house.policy).await?;
        // Engines refuse it, too, and not all of them say so.
        if !image::is_reference(&assignment.spec.image) {
            let message = format!("{:?} names no image", assignment.spec.image);
            return Err(RuntimeError::refused(FailureReason::SpecRefused, trimmed(&message)));
        }
        let engine = self.call().engine().await?;
        let chosen = match self.0.house.port_range {
            Some(range) if engine.is_podman => Some(self.with_ports(assignment, range).await?),
            _ => None,
        };
        let assignment = chosen.as_ref().unwrap_or(assignment);
        let networks = assignment.spec.network.named();
        self.ensure_networks(networks.iter().map(|network| network.name.as_str())).await?;
        let limited = assignment.spec.limits.storage_bytes.is_some();
        let mut shape = create::Shape {
            api: engine.api,
            sizes_storage: limited && self.keeps_sizes().await? == StorageLimit::Enforced,
            ports: self.0.house.port_range,
        };
        for _ in 0..CREATE_TRIES {
            match self.try_make(assignment, given, shape).await? {
                Made::Container(container) => return Ok(container),
                Made::Again => sleep(REMOVAL_LOOK).await,
                Made::Unsized => {
                    self.0.storage.forget();
                    shape.sizes_storage = false;
                }
            }
        }
        let name = container_name(assignment.instance_id);
        let message = format!("container name {name} is taken by one that is going away");
        Err(RuntimeError::refused(FailureReason::StartFailed, message))
    }

    /// The assignment with host ports of the node's range where it fixes none, for
    /// engines that choose none themselves: such as no container has and nobody
    /// listens on, as far as this process sees.
    async fn with_ports(
        &self,
        assignment: &Assignment,
        range: (u16, u16),
    ) -> Result<Assignment, RuntimeError> {
        let summaries = self.summaries(Vec::new()).await?;
        let published = summaries.iter().flat_map(|summary| summary.ports.iter().flatten());
        let mut taken: BTreeSet<u16> = published.filter_map(|port| port.public_port).collect();
        taken.extend(assignment.spec.fixed_host_ports().map(|(_, port)| port));
        // From a place of its own on, so that two that choose at once choose apart.
        let length = u64::from(range.1 - range.0) + 1;
        let first = assignment.instance_id.uuid().as_u64_pair().1 % length;
        let candidates =
            (0..length).filter_map(|n| u16::try_from(u64::from(range.0) + (first + n) % length).ok());
        let mut free = candidates.filter(|port| !taken.contains(port) && is_free(*port));
        let mut chosen = assignment.clone();
        for port in chosen.spec.ports.iter_mut().filter(|port| port.host_port.is_none()) {
            let message = || {
                let (first, last) = range;
                RuntimeError::refused(
                    FailureReason::StartFailed,
                    format!("all host ports from {first} to {last} are in use"),
                )
            };
            port.host_port = Some(free.next().ok_or_else(message)?);
        }
        Ok(chosen)
    }

    async fn try_make(
        &self,
        assignment: &Assignment,
        given: &Given,
        shape: create::Shape,
    ) -> Result<Made, RuntimeError> {
        let name = container_name(assignment.instance_id);
        let options = query::CreateContainerOptionsBuilder::default().name(&name).build();
        let body = create::create_body(assignment, given, &self.0.owner, shape);
        let create = async |docker: Docker| docker.create_container(Some(options), body).await;
        match self.call().make(CHANGE, create).await {
            Ok(created) => self.inspect_there(&created.id).await.map(Made::Container),
            Err(failure) if failure.is_name_taken() => {
                // The name is taken: by the container of this very instance, made by a
                // call whose answer was lost, or by somebody else's.
                match self.inspect_any(&name).await? {
                    Some(i) if i.is_of(&self.0.owner) && i.instance_id == Some(assignment.instance_id) => {
                        Ok(Made::Container(i.container))
                    }
                    Some(_) => Err(failure.or_refused(FailureReason::NameTaken)),
                    None => Ok(Made::Again),
                }
            }
            // It came back with another storage driver.
            Err(Failure::Answered { message, .. }) if shape.sizes_storage && refuses_size(&message) => {
                Ok(Made::Unsized)
            }
            Err(failure) => Err(create::create_error(failure)),
        }
    }

    /// Lets a container join the networks that it could not join when it was made.
    /// Only what is missing, so it may be done again at each start.
    async fn join_networks(&self, inspected: &Inspected) -> Result<(), RuntimeError> {
        for attachment in &inspected.to_join {
            self.ensure_networks([attachment.name.as_str()].into_iter()).await?;
            self.join_network(&inspected.container.container_id, attachment).await?;
        }
        Ok(())
    }

    pub(super) async fn run(&self, container_id: &str) -> Result<Container, RuntimeError> {
        let inspected = self.inspect_any(container_id).await?;
        if let Some(inspected) = &inspected {
            self.join_networks(inspected).await?;
        }
        let start = async |docker: Docker| {
            docker.start_container(container_id, None::<query::StartContainerOptions>).await
        };
        let mut tries = 0;
        loop {
            tries += 1;
            let Err(failure) = self.call().make(CHANGE, start).await else {
                return self.inspect_there(container_id).await;
            };
            let (Failure::Answered { message, .. }, Some(inspected)) = (&failure, &inspected) else {
                return Err(create::start_error(failure));
            };
            if tries == 1 && create::misses_network(message) {
                // Somebody removed it while nothing ran in it.
                self.rejoin_networks(inspected).await?;
            } else if tries >= inspected.ranged_ports.saturating_mul(ROUNDS).min(PORT_TRIES)
                || !create::port_in_use(message)
            {
                return Err(create::start_error(failure));
            }
        }
    }
}

/// Whether nobody listens on a port of all addresses.
fn is_free(port: u16) -> bool {
    let any = std::net::Ipv4Addr::UNSPECIFIED;
    std::net::TcpListener::bind((any, port)).is_ok() && std::net::UdpSocket::bind((any, port)).is_ok()
}

/// Whether an engine refuses a size for a container's storage.
fn refuses_size(message: &str) -> bool {
    let lower = message.to_lowercase();
    lower.contains("storage-opt") || lower.contains("storage opt")
}
