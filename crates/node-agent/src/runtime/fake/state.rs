//! What the engine in memory holds, and what happens to it.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::Ipv4Addr,
    time::Duration,
};

use chrono::{TimeDelta, Utc};
use domain::{
    Timestamp,
    assignment::Assignment,
    id::InstanceId,
    instance::{FailureReason, PublishedPort},
    plan::{Container, ContainerStatus},
};
use tokio::sync::mpsc;

use super::{Call, Fault, exec::Execs, pulls::Scripts, upkeep::Store};
use crate::runtime::{
    ContainerEvent, EngineEvent, EventKind, GivenFile, ImageInfo, LogChunk, RuntimeError, RuntimeErrorKind,
};

/// Events kept for late subscribers, as many as Docker keeps.
const EVENTS_KEPT: usize = 256;

/// Variables and files that a container was made with.
pub type MadeWith = (Vec<(String, String)>, Vec<GivenFile>);

#[derive(Default)]
pub(super) struct State {
    pub(super) containers: BTreeMap<InstanceId, Container>,
    pub(super) images: BTreeSet<String>,
    pub(super) image_infos: BTreeMap<String, ImageInfo>,
    pub(super) refused_images: BTreeMap<String, FailureReason>,
    pub(super) names_taken: BTreeSet<InstanceId>,
    pub(super) faults: BTreeMap<Call, VecDeque<Fault>>,
    pub(super) always: BTreeMap<Call, Fault>,
    pub(super) delay: Duration,
    pub(super) forgetful: bool,
    pub(super) calls: Vec<(Call, Option<InstanceId>)>,
    pub(super) working: usize,
    pub(super) most_working: usize,
    pub(super) last_time: Option<Timestamp>,
    pub(super) last_number: u32,
    pub(super) past: VecDeque<ContainerEvent>,
    pub(super) subscribers: Vec<mpsc::Sender<EngineEvent>>,
    pub(super) logs: BTreeMap<String, Vec<LogChunk>>,
    pub(super) execs: Execs,
    pub(super) store: Store,
    pub(super) clock: Option<fn() -> Timestamp>,
    pub(super) scripts: Scripts,
    pub(super) given: BTreeMap<InstanceId, MadeWith>,
}

impl State {
    /// The time, never the same twice.
    pub(super) fn now(&mut self) -> Timestamp {
        let least = self.last_time.map(|last| last + TimeDelta::nanoseconds(1));
        let told = self.clock.map_or_else(Utc::now, |clock| clock());
        let now = match least {
            // A clock of a test's may go back.
            Some(least) if self.clock.is_none() || told + TimeDelta::nanoseconds(1) == least => {
                told.max(least)
            }
            _ => told,
        };
        self.last_time = Some(now);
        now
    }

    pub(super) fn tell(&mut self, instance: InstanceId, kind: EventKind) {
        let Some(container_id) = self.containers.get(&instance).map(|c| c.container_id.clone()) else {
            return;
        };
        let event = ContainerEvent { instance_id: instance, container_id, kind, at: self.now() };
        self.subscribers.retain(|to| to.try_send(EngineEvent::Container(event.clone())).is_ok());
        self.past.push_back(event);
        if self.past.len() > EVENTS_KEPT {
            self.past.pop_front();
        }
    }

    pub(super) fn number(&mut self) -> u32 {
        self.last_number += 1;
        self.last_number
    }

    pub(super) fn begin(&mut self, instance: InstanceId) {
        let (now, pid) = (self.now(), self.number() + 1000);
        let Some(container) = self.containers.get_mut(&instance) else { return };
        if container.status.is_alive() {
            return;
        }
        container.status = ContainerStatus::Running;
        container.started_at = Some(now);
        container.finished_at = None;
        container.exit_code = None;
        container.pid = Some(pid);
        // So a test can have a server of its own answer for the container.
        container.addresses = vec![Ipv4Addr::LOCALHOST.into()];
        self.tell(instance, EventKind::Started);
    }

    pub(super) fn end(&mut self, instance: InstanceId, code: i32, aloud: bool) {
        let now = self.now();
        let Some(container) = self.containers.get_mut(&instance).filter(|c| c.status.is_alive()) else {
            return;
        };
        container.status = ContainerStatus::Exited;
        container.finished_at = Some(now);
        container.exit_code = Some(code);
        container.pid = None;
        container.addresses.clear();
        if aloud {
            self.tell(instance, EventKind::Died);
        }
    }

    /// What is known of an image, by its name or its id, which is made of the name.
    pub(super) fn image(&self, image: &str) -> Option<ImageInfo> {
        let name = image.strip_prefix("sha256:").unwrap_or(image);
        let info =
            self.images.contains(name).then(|| self.image_infos.get(name).cloned().unwrap_or_default());
        info.map(|info| ImageInfo { id: format!("sha256:{name}"), ..info })
    }

    pub(super) fn freeze(&mut self, instance: InstanceId, freeze: bool) {
        let (from, to, kind) = if freeze {
            (ContainerStatus::Running, ContainerStatus::Paused, EventKind::Paused)
        } else {
            (ContainerStatus::Paused, ContainerStatus::Running, EventKind::Unpaused)
        };
        if let Some(container) = self.containers.get_mut(&instance).filter(|c| c.status == from) {
            container.status = to;
            self.tell(instance, kind);
        }
    }

    pub(super) fn remove(&mut self, instance: InstanceId) {
        self.tell(instance, EventKind::Destroyed);
        self.containers.remove(&instance);
    }

    pub(super) fn create(&mut self, assignment: &Assignment) -> Result<Container, RuntimeError> {
        let instance = assignment.instance_id;
        if self.names_taken.contains(&instance) {
            return Err(RuntimeError::refused(FailureReason::NameTaken, "a stranger has the name"));
        }
        if let Some(ours) = self.containers.get(&instance) {
            return Ok(ours.clone());
        }
        if !self.images.contains(&assignment.spec.image) {
            return Err(RuntimeError::refused(FailureReason::ImageNotFound, "no such image"));
        }
        let number = self.number();
        let ports = assignment.spec.ports.iter().map(|port| PublishedPort {
            container_port: port.container_port,
            host_port: port.host_port.unwrap_or(port.container_port),
            transport: port.transport,
        });
        let container = Container {
            container_id: format!("container-{number}"),
            status: ContainerStatus::Created,
            started_at: None,
            finished_at: None,
            exit_code: None,
            oom_killed: false,
            error: String::new(),
            image_id: Some(format!("sha256:{}", assignment.spec.image)),
            ports: ports.collect(),
            outside_signal: None,
            pid: None,
            addresses: Vec::new(),
        };
        self.containers.insert(instance, container.clone());
        self.tell(instance, EventKind::Other);
        Ok(container)
    }

    pub(super) fn owner(&self, container_id: &str) -> Option<InstanceId> {
        self.containers.iter().find(|(_, c)| c.container_id == container_id).map(|(id, _)| *id)
    }

    pub(super) fn find(&self, instance: InstanceId) -> Result<Container, RuntimeError> {
        self.containers.get(&instance).cloned().ok_or_else(not_found)
    }
}

pub(super) fn not_found() -> RuntimeError {
    RuntimeError::new(RuntimeErrorKind::NotFound, "no such container")
}
