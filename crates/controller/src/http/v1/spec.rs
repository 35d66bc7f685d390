//! A deployment's spec as it is shown: every field, defaults filled in.

use std::collections::BTreeMap;

use domain::deployment::{DeploymentSpec, PullPolicy, RestartPolicy};
use serde::Serialize;
use utoipa::ToSchema;

/// What a revision says.
#[derive(Serialize, ToSchema)]
pub struct SpecView {
    image: String,
    entrypoint: Vec<String>,
    command: Vec<String>,
    env: BTreeMap<String, String>,
    ports: Vec<PortSpecView>,
    limits: LimitsView,
    reservation: ReservationView,
    replicas: u32,
    restart: RestartView,
    pull: &'static str,
    stop_grace_seconds: u32,
    min_healthy_seconds: u32,
    progress_deadline_seconds: u32,
    constraints: BTreeMap<String, String>,
}

/// A port to publish.
#[derive(Serialize, ToSchema)]
pub struct PortSpecView {
    container_port: u16,
    /// Null: the engine chooses.
    host_port: Option<u16>,
    transport: &'static str,
}

/// Enforced limits.
#[derive(Serialize, ToSchema)]
pub struct LimitsView {
    cpu_millis: u32,
    memory_bytes: u64,
    pids: u32,
}

/// What is set aside.
#[derive(Serialize, ToSchema)]
pub struct ReservationView {
    cpu_millis: u32,
    memory_bytes: u64,
}

/// When a container that ended is started again.
#[derive(Serialize, ToSchema)]
pub struct RestartView {
    when: &'static str,
    max_retries: Option<u32>,
}

impl From<DeploymentSpec> for SpecView {
    fn from(spec: DeploymentSpec) -> Self {
        let DeploymentSpec { instance, replicas, reservation, constraints, progress_deadline_seconds } = spec;
        let (when, max_retries) = match instance.restart {
            RestartPolicy::Always => ("always", None),
            RestartPolicy::OnFailure { max_retries } => ("on_failure", max_retries),
            RestartPolicy::Never => ("never", None),
        };
        Self {
            image: instance.image,
            entrypoint: instance.entrypoint,
            command: instance.command,
            env: instance.env.0,
            ports: instance
                .ports
                .into_iter()
                .map(|p| PortSpecView {
                    container_port: p.container_port,
                    host_port: p.host_port,
                    transport: p.transport.as_str(),
                })
                .collect(),
            limits: LimitsView {
                cpu_millis: instance.limits.cpu_millis,
                memory_bytes: instance.limits.memory_bytes,
                pids: instance.limits.pids,
            },
            reservation: ReservationView {
                cpu_millis: reservation.cpu_millis,
                memory_bytes: reservation.memory_bytes,
            },
            replicas,
            restart: RestartView { when, max_retries },
            pull: match instance.pull {
                PullPolicy::Always => "always",
                PullPolicy::Missing => "missing",
                PullPolicy::Never => "never",
            },
            stop_grace_seconds: instance.stop_grace_seconds,
            min_healthy_seconds: instance.min_healthy_seconds,
            progress_deadline_seconds,
            constraints,
        }
    }
}
