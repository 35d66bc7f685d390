//! The rules, state by state; and, in `sim`, all of them against an engine that
//! things happen to.

mod sim;
mod table;
mod vital;

use super::*;
use crate::{
    deployment::InstanceSpec,
    id::DeploymentId,
    instance::{PublishedPort, Report},
};
use chrono::TimeDelta;
use uuid::Uuid;

pub(super) fn instance() -> InstanceId {
    InstanceId::from_uuid(Uuid::from_u128(7))
}

pub(super) fn at(millis: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + TimeDelta::milliseconds(millis)
}

pub(super) fn assignment(desired: Desired, generation: u32) -> Assignment {
    Assignment {
        instance_id: instance(),
        deployment_id: DeploymentId::from_uuid(Uuid::nil()),
        deployment_name: "web".into(),
        revision: 1,
        spec: InstanceSpec::of_image("app:1"),
        desired,
        restart_generation: generation,
        registry_credential: None,
    }
}

pub(super) fn container(status: ContainerStatus, started: Option<i64>) -> Container {
    let alive = status.is_alive();
    Container {
        container_id: "c1".into(),
        status,
        started_at: started.map(at),
        finished_at: None,
        exit_code: None,
        oom_killed: false,
        error: String::new(),
        image_id: Some("sha256:1".into()),
        ports: Vec::<PublishedPort>::new(),
        outside_signal: None,
        pid: alive.then_some(42),
        addresses: Vec::new(),
    }
}

pub(super) fn report(seq: u64, transition: &Transition) -> Report {
    Report {
        seq,
        instance_id: transition.instance_id,
        status: transition.status.clone(),
        cause: transition.cause.clone(),
        message: transition.message.clone(),
        at: transition.at,
    }
}
