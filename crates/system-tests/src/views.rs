//! What the API answers, as far as the tests look at it. Made from the document
//! and not from the controller's own types.

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

/// A list.
#[derive(Clone, Debug, Deserialize)]
pub struct Page<T> {
    /// What is on this page.
    pub items: Vec<T>,
    /// What to ask for the next one with.
    pub next_cursor: Option<String>,
}

/// A node.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "they are the API's")]
pub struct Node {
    pub id: Uuid,
    pub name: String,
    pub state: String,
    pub state_since: DateTime<Utc>,
    pub labels: Value,
    pub cordoned: bool,
    pub facts: Facts,
    pub last_seen_at: Option<DateTime<Utc>>,
    pub instance_count: u64,
}

/// What a node says of its host.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "they are the API's")]
pub struct Facts {
    pub hostname: String,
    pub os: String,
    pub kernel: String,
    pub architecture: String,
    pub cpu_millis: u64,
    pub memory_bytes: u64,
    pub disk_bytes: u64,
    pub disk_free_bytes: u64,
    pub engine_version: Option<String>,
    pub engine_api_version: Option<String>,
    pub storage_driver: Option<String>,
    pub cgroup_version: Option<u32>,
    pub agent_version: String,
    pub address: Option<String>,
}

/// A deployment.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "they are the API's")]
pub struct Deployment {
    pub id: Uuid,
    pub name: String,
    pub revision: u32,
    pub state: String,
    pub deleting: bool,
    pub healthy: u32,
    pub spec: Value,
    pub pending: Option<Value>,
    pub instances: Vec<Instance>,
}

/// An instance.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "they are the API's")]
pub struct Instance {
    pub id: Uuid,
    pub deployment: String,
    pub node: String,
    pub address: Option<String>,
    pub state: String,
    pub phase: String,
    pub attempt: u32,
    pub health: String,
    pub presence: String,
    pub desired: String,
    pub outcome: Option<Outcome>,
    pub failures: u32,
    pub ports: Vec<Port>,
    pub container_id: Option<String>,
    pub image_id: Option<String>,
    pub started_at: Option<DateTime<Utc>>,
    pub finished_at: Option<DateTime<Utc>>,
    pub observed_at: Option<DateTime<Utc>>,
}

/// How an attempt ended.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "they are the API's")]
pub struct Outcome {
    pub kind: String,
    pub exit_code: Option<i32>,
    pub reason: Option<String>,
    pub message: Option<String>,
}

/// A published port.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "they are the API's")]
pub struct Port {
    pub container_port: u16,
    pub host_port: u16,
    pub transport: String,
}

/// An operation.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "they are the API's")]
pub struct Operation {
    pub id: Uuid,
    pub kind: String,
    pub state: String,
    pub verdict: Option<String>,
    pub done: u32,
    pub total: u32,
    pub message: String,
    pub actor: String,
    pub deployment: String,
    pub instance_id: Option<Uuid>,
    pub finished_at: Option<DateTime<Utc>>,
}

/// One fact in the timeline.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "they are the API's")]
pub struct Event {
    pub id: Uuid,
    pub at: DateTime<Utc>,
    pub recorded_at: DateTime<Utc>,
    pub kind: String,
    pub severity: String,
    pub message: String,
    pub cause: Option<String>,
    pub actor: Option<String>,
    pub node: Option<String>,
    pub deployment: Option<String>,
    pub instance_id: Option<Uuid>,
    pub operation_id: Option<Uuid>,
}

/// What an instance uses.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "they are the API's")]
pub struct Metrics {
    pub latest: Option<Sample>,
    pub samples: Vec<Sample>,
}

/// One reading.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "they are the API's")]
pub struct Sample {
    pub at: DateTime<Utc>,
    pub cpu_percent: Option<f64>,
    pub memory_bytes: Option<u64>,
    pub memory_limit_bytes: Option<u64>,
    pub memory_percent: Option<f64>,
    pub network_rx_bytes: Option<u64>,
    pub network_tx_bytes: Option<u64>,
}

/// An error, as RFC 9457 has it.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "they are the API's")]
pub struct Problem {
    pub title: String,
    pub status: u16,
    pub code: String,
    pub detail: String,
    pub request_id: Option<String>,
    pub errors: Vec<FieldProblem>,
}

/// What is wrong with one field.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "they are the API's")]
pub struct FieldProblem {
    pub field: String,
    pub message: String,
}

impl Instance {
    /// The host's port for a port of the container.
    ///
    /// # Errors
    /// When it is not published now.
    pub fn host_port(&self, container_port: u16) -> anyhow::Result<u16> {
        let published = self.ports.iter().find(|port| port.container_port == container_port);
        published.map(|port| port.host_port).ok_or_else(|| anyhow::anyhow!("{:?} are published", self.ports))
    }
}
