//! Plans: one deployment at a time in `table`, fleets over time in `sim`.

mod sim;
mod table;

use std::sync::Arc;

use uuid::Uuid;

use super::*;
use crate::{
    instance::{Health, Phase, Progress},
    placement::tests::{candidate, spec},
};

fn seconds(n: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + chrono::TimeDelta::seconds(n)
}

fn deployment_id(id: u8) -> DeploymentId {
    DeploymentId::from_uuid(Uuid::from_u128(u128::from(id)))
}

fn instance_id(id: u128) -> InstanceId {
    InstanceId::from_uuid(Uuid::from_u128(id))
}

fn node_id(id: u8) -> NodeId {
    candidate(id, 0, 0).id
}

fn healthy(status: &mut InstanceStatus) {
    status.progress = Progress { attempt: status.progress.attempt, phase: Phase::Running, removed: false };
    status.health = Health::Healthy;
}
