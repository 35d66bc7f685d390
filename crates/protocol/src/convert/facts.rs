//! What an agent says of its host and its engine.

use domain::{
    Timestamp,
    node::{EngineState, Heartbeat, NodeFacts, StorageLimit},
};

use super::{ConvertError, unknown};
use crate::proto;

impl From<proto::NodeFacts> for NodeFacts {
    fn from(m: proto::NodeFacts) -> Self {
        Self {
            hostname: m.hostname,
            os: m.os,
            kernel: m.kernel,
            architecture: m.architecture,
            cpu_millis: m.cpu_millis,
            memory_bytes: m.memory_bytes,
            disk_bytes: m.disk_bytes,
            disk_free_bytes: m.disk_free_bytes,
            engine_version: m.engine_version,
            engine_api_version: m.engine_api_version,
            storage_driver: m.storage_driver,
            cgroup_version: m.cgroup_version,
            agent_version: m.agent_version,
            address: m.address,
            // One that this version does not know is as good as none.
            storage_limit: match proto::StorageLimit::try_from(m.storage_limit) {
                Ok(proto::StorageLimit::Enforced) => Some(StorageLimit::Enforced),
                Ok(proto::StorageLimit::Measured) => Some(StorageLimit::Measured),
                Ok(proto::StorageLimit::Unspecified) | Err(_) => None,
            },
        }
    }
}

impl From<&NodeFacts> for proto::NodeFacts {
    fn from(facts: &NodeFacts) -> Self {
        Self {
            hostname: facts.hostname.clone(),
            os: facts.os.clone(),
            kernel: facts.kernel.clone(),
            architecture: facts.architecture.clone(),
            cpu_millis: facts.cpu_millis,
            memory_bytes: facts.memory_bytes,
            disk_bytes: facts.disk_bytes,
            disk_free_bytes: facts.disk_free_bytes,
            engine_version: facts.engine_version.clone(),
            engine_api_version: facts.engine_api_version.clone(),
            storage_driver: facts.storage_driver.clone(),
            cgroup_version: facts.cgroup_version,
            agent_version: facts.agent_version.clone(),
            address: facts.address.clone(),
            storage_limit: match facts.storage_limit {
                Some(StorageLimit::Enforced) => proto::StorageLimit::Enforced,
                Some(StorageLimit::Measured) => proto::StorageLimit::Measured,
                None => proto::StorageLimit::Unspecified,
            }
            .into(),
        }
    }
}

impl From<EngineState> for proto::EngineState {
    fn from(state: EngineState) -> Self {
        match state {
            EngineState::Reachable => Self::Reachable,
            EngineState::Unreachable => Self::Unreachable,
        }
    }
}

/// Reads the number of an engine state.
///
/// # Errors
/// When this version does not know it.
pub fn engine_state(field: &str, number: i32) -> Result<EngineState, ConvertError> {
    match proto::EngineState::try_from(number) {
        Ok(proto::EngineState::Reachable) => Ok(EngineState::Reachable),
        Ok(proto::EngineState::Unreachable) => Ok(EngineState::Unreachable),
        Ok(proto::EngineState::Unspecified) | Err(_) => Err(unknown(field, number)),
    }
}

/// Writes an engine state as its number.
#[must_use]
pub fn engine_state_number(state: EngineState) -> i32 {
    proto::EngineState::from(state).into()
}

impl proto::Heartbeat {
    /// Turns a heartbeat into what the controller keeps of it.
    ///
    /// # Errors
    /// When the engine state is unknown.
    pub fn received(&self, received_at: Timestamp) -> Result<Heartbeat, ConvertError> {
        Ok(Heartbeat {
            received_at,
            engine: engine_state("engine", self.engine)?,
            assignment_revision: self.assignment_revision,
        })
    }
}
