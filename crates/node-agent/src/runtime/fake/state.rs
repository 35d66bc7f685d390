//! What the engine in memory holds, and what happens to it.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
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

use super::{Call, Fault};
use crate::runtime::{ContainerEvent, EngineEvent, EventKind, LogChunk, RuntimeError, RuntimeErrorKind};

/// Events kept for late subscribers, as many as Docker keeps.
const EVENTS_KEPT: usize = 256;

#[derive(Default)]
pub(super) struct State {
    pub(super) containers: BTreeMap<InstanceId, Container>,
    pub(super) images: BTreeSet<String>,
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
}

impl State {
    /// The time, never the same twice.
    pub(super) fn now(&mut self) -> Timestamp {
        let least = self.last_time.map(|last| last + TimeDelta::nanoseconds(1));
        let now = least.map_or_else(Utc::now, |least| Utc::now().max(least));
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
        if aloud {
            self.tell(instance, EventKind::Died);
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
