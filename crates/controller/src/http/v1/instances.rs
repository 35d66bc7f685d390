//! Instances: what runs, copy by copy.

use actix_web::{
    HttpResponse, get, post,
    web::{Data, Path, Query},
};
use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    id::InstanceId,
    instance::{self, Outcome, Presence},
    placement::Rejection,
    pull::{LayerProgress, PullProgress},
    sample::InstanceSample,
    spec::signal_name,
};
use serde::{Deserialize, Serialize};
use store::instance::{Instance, InstanceRequest};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::{
    super::{extract::Allowed, problem::Problems},
    accepted,
    operations::OperationView,
};
use crate::{
    auth::policy::{DeploymentsRead, DeploymentsWrite, Permission},
    error::Error,
    service::Services,
};

/// An instance: one placement of one revision on one node.
#[derive(Serialize, ToSchema)]
pub struct InstanceView {
    id: Uuid,
    deployment: String,
    deployment_id: Uuid,
    /// The project that the deployment belongs to.
    project: String,
    revision: u32,
    node: String,
    node_id: Uuid,
    /// Where its published ports are reached.
    address: Option<String>,
    /// `assigned`, `pulling`, `starting`, `running`, `stopping`, `backing_off`,
    /// `stopped`, `completed`, `failed` or `removed`.
    state: &'static str,
    phase: &'static str,
    /// Counts starts, from 1.
    attempt: u32,
    /// How often it was started again: one less than `attempt`.
    restarts: u32,
    /// `unknown`, `starting`, `healthy` or `unhealthy`.
    health: &'static str,
    /// `fresh`; `stale`: as last seen at `observed_at`; `lost`: nobody knows.
    presence: &'static str,
    /// `running`, `stopped` or `removed`.
    desired: &'static str,
    /// Why it was made: `lacking`, `new_revision`, `node_lost` or `drain`.
    placed_for: String,
    /// The instance on a lost node that it stands in for.
    replaces: Option<Uuid>,
    /// Why it is to go, such as `new_revision` or `node_back`; null while it is not.
    removed_for: Option<String>,
    /// How the present attempt ended; null before that.
    outcome: Option<OutcomeView>,
    /// Attempts in a row that failed.
    failures: u32,
    ports: Vec<PortView>,
    container_id: Option<String>,
    image_id: Option<String>,
    /// The image as its registry names it; null for one that came from none.
    image_digest: Option<String>,
    /// Whether its writable layer is over `limits.storage_bytes`.
    storage_exceeded: bool,
    started_at: Option<DateTime<Utc>>,
    finished_at: Option<DateTime<Utc>>,
    /// The next attempt waits until then.
    backoff_until: Option<DateTime<Utc>>,
    /// When its node last said something of it.
    observed_at: Option<DateTime<Utc>>,
    created_at: DateTime<Utc>,
    placement: PlacementView,
    /// How far its image has come; null while none is being fetched.
    pull: Option<PullView>,
}

/// How an attempt ended.
#[derive(Serialize, ToSchema)]
pub struct OutcomeView {
    /// `stopped`, `exited` or `failed`.
    kind: &'static str,
    /// Exit code; 128 + n for signal n.
    exit_code: Option<i32>,
    /// The signal that the exit code stands for, such as `SIGKILL`; null for others.
    signal: Option<String>,
    /// Whether the kernel killed it for memory.
    oom: Option<bool>,
    /// For programs, with `failed`.
    reason: Option<&'static str>,
    /// For people, with `failed`.
    message: Option<String>,
}

/// A port as it is published.
#[derive(Serialize, ToSchema)]
pub struct PortView {
    container_port: u16,
    host_port: u16,
    transport: &'static str,
}

/// How far an image has come, as the instance's node last said.
#[derive(Serialize, ToSchema)]
pub struct PullView {
    /// Bytes that are there, over all layers.
    current_bytes: u64,
    /// Bytes of all layers; null while one of them is not known.
    total_bytes: Option<u64>,
    /// At most 128, in the order in which the engine first spoke of them.
    layers: Vec<LayerView>,
    /// Which try this is, from 1; a start of the instance makes several.
    attempt: u32,
    observed_at: DateTime<Utc>,
}

/// How far one layer of an image has come.
#[derive(Serialize, ToSchema)]
pub struct LayerView {
    id: String,
    /// What the node's engine says of it, such as `Downloading`.
    status: String,
    current_bytes: u64,
    /// Null while it is not known.
    total_bytes: Option<u64>,
}

impl From<PullProgress> for PullView {
    fn from(progress: PullProgress) -> Self {
        let (current_bytes, total_bytes) = (progress.current_bytes(), progress.total_bytes());
        let layer = |layer: LayerProgress| LayerView {
            id: layer.id,
            status: layer.status,
            current_bytes: layer.current_bytes,
            total_bytes: layer.total_bytes,
        };
        Self {
            current_bytes,
            total_bytes,
            layers: progress.layers.into_iter().map(layer).collect(),
            attempt: progress.attempt,
            observed_at: progress.at,
        }
    }
}

/// Why it is where it is.
#[derive(Serialize, ToSchema)]
pub struct PlacementView {
    reason: String,
    rejected: Vec<RejectionView>,
}

/// Why a node did not qualify.
#[derive(Serialize, ToSchema)]
pub struct RejectionView {
    node: String,
    reason: String,
}

impl From<Rejection> for RejectionView {
    fn from(rejection: Rejection) -> Self {
        Self { node: rejection.node, reason: rejection.reason }
    }
}

impl From<Outcome> for OutcomeView {
    fn from(outcome: Outcome) -> Self {
        let signal = outcome.signal();
        let signal = signal.map(|n| signal_name(n).unwrap_or_else(|| format!("signal {n}")));
        let exit_code = outcome.exit_code();
        let nothing = Self { kind: "", exit_code, signal, oom: None, reason: None, message: None };
        match outcome {
            Outcome::Stopped { .. } => Self { kind: "stopped", ..nothing },
            Outcome::Exited { oom, .. } => Self { kind: "exited", oom: Some(oom), ..nothing },
            Outcome::Failed { reason, message, .. } => {
                Self { kind: "failed", reason: Some(reason.as_str()), message: Some(message), ..nothing }
            }
        }
    }
}

impl From<Instance> for InstanceView {
    fn from(instance: Instance) -> Self {
        let status = instance.status;
        let ports = status.ports.iter().map(|p| PortView {
            container_port: p.container_port,
            host_port: p.host_port,
            transport: p.transport.as_str(),
        });
        Self {
            id: instance.id.uuid(),
            deployment: instance.deployment_name,
            deployment_id: instance.deployment_id.uuid(),
            project: instance.project,
            revision: instance.revision,
            node: instance.node_name,
            node_id: instance.node_id.uuid(),
            address: instance.node_address,
            state: instance::state(&status).as_str(),
            phase: status.progress.phase.as_str(),
            attempt: status.progress.attempt,
            restarts: status.progress.attempt.saturating_sub(1),
            health: status.health.as_str(),
            presence: Presence::of(instance.node_state).as_str(),
            desired: instance.desired.as_str(),
            placed_for: instance.placed_for,
            replaces: instance.replaces.map(|id| id.uuid()),
            removed_for: instance.removed_for,
            failures: status.failures,
            ports: ports.collect(),
            outcome: status.outcome.map(Into::into),
            container_id: status.container_id,
            image_id: status.image_id,
            image_digest: status.image_digest,
            storage_exceeded: status.storage_exceeded,
            started_at: status.started_at,
            finished_at: status.finished_at,
            backoff_until: status.backoff_until,
            observed_at: instance.observed_at,
            created_at: instance.created_at,
            placement: PlacementView {
                reason: instance.placement.reason,
                rejected: instance.placement.rejected.into_iter().map(Into::into).collect(),
            },
            pull: instance.pull.map(Into::into),
        }
    }
}

/// Reads an id out of a path. One that is none names nothing.
pub(super) fn instance_id(text: &str) -> Result<InstanceId, Error> {
    text.parse().map_err(|_| Error::not_found("instance"))
}

/// An instance, once it is certain that the caller has the permission over it.
pub(super) async fn over<P: Permission>(
    services: &Services,
    caller: &Allowed<P>,
    id: &str,
) -> Result<Instance, Error> {
    let instance = services.store.instance_fetch(instance_id(id)?).await?;
    let instance = instance.ok_or_else(|| Error::not_found("instance"))?;
    caller.over(services, instance.project_id.uuid(), ("instance", id)).await?;
    Ok(instance)
}

/// Shows an instance, even one that is gone.
#[utoipa::path(tag = "instances", security(("bearer" = [])), params(("instance" = Uuid, Path)), responses((status = 200, body = InstanceView), Problems))]
#[get("/instances/{instance}")]
pub(super) async fn instance_get(
    services: Data<Services>,
    caller: Allowed<DeploymentsRead>,
    path: Path<String>,
) -> Result<HttpResponse, Error> {
    Ok(HttpResponse::Ok().json(InstanceView::from(over(&services, &caller, &path).await?)))
}

/// Restarts an instance, once, whatever it does now.
#[utoipa::path(tag = "instances", security(("bearer" = [])), params(("instance" = Uuid, Path)), responses((status = 202, body = OperationView, headers(("Location" = String))), Problems))]
#[post("/instances/{instance}/restart")]
pub(super) async fn instance_restart(
    services: Data<Services>,
    caller: Allowed<DeploymentsWrite>,
    path: Path<String>,
) -> Result<HttpResponse, Error> {
    request(&services, &caller, &path, InstanceRequest::Restart).await
}

/// Stops an instance; it stays stopped until it is started.
#[utoipa::path(tag = "instances", security(("bearer" = [])), params(("instance" = Uuid, Path)), responses((status = 202, body = OperationView, headers(("Location" = String))), Problems))]
#[post("/instances/{instance}/stop")]
pub(super) async fn instance_stop(
    services: Data<Services>,
    caller: Allowed<DeploymentsWrite>,
    path: Path<String>,
) -> Result<HttpResponse, Error> {
    request(&services, &caller, &path, InstanceRequest::Stop).await
}

/// Starts an instance that was stopped or has ended; changes nothing of one that runs.
#[utoipa::path(tag = "instances", security(("bearer" = [])), params(("instance" = Uuid, Path)), responses((status = 202, body = OperationView, headers(("Location" = String))), Problems))]
#[post("/instances/{instance}/start")]
pub(super) async fn instance_start(
    services: Data<Services>,
    caller: Allowed<DeploymentsWrite>,
    path: Path<String>,
) -> Result<HttpResponse, Error> {
    request(&services, &caller, &path, InstanceRequest::Start).await
}

async fn request(
    services: &Services,
    caller: &Allowed<DeploymentsWrite>,
    id: &str,
    request: InstanceRequest,
) -> Result<HttpResponse, Error> {
    let instance = over(services, caller, id).await?;
    let operation = services.instance_request(instance.id, request, &caller.actor).await?;
    Ok(accepted(operation.into()))
}

/// Which readings.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct MetricsQuery {
    /// How far back, 1 to 172800 (48 h); 3600 when left out.
    seconds: Option<u32>,
}

impl MetricsQuery {
    /// From when on.
    pub(super) fn since(&self) -> Result<DateTime<Utc>, Error> {
        let seconds = self.seconds.unwrap_or(3600);
        if !(1..=172_800).contains(&seconds) {
            return Err(Error::invalid_field("seconds", "must be 1 to 172800"));
        }
        Ok(Utc::now() - TimeDelta::seconds(i64::from(seconds)))
    }
}

/// Use of resources over time.
#[derive(Serialize, ToSchema)]
pub struct MetricsView {
    /// The newest reading; null where there is none.
    latest: Option<SampleView>,
    /// The newest first, at most 10000.
    samples: Vec<SampleView>,
}

/// One reading. What could not be read is null.
#[derive(Clone, Serialize, ToSchema)]
pub struct SampleView {
    at: DateTime<Utc>,
    /// Percent of one core: 250 is two and a half cores.
    cpu_percent: Option<f64>,
    /// Working set, as `docker stats` shows it.
    memory_bytes: Option<u64>,
    memory_limit_bytes: Option<u64>,
    memory_percent: Option<f64>,
    /// Since the container started.
    network_rx_bytes: Option<u64>,
    /// Since the container started.
    network_tx_bytes: Option<u64>,
    /// Since the container started.
    block_read_bytes: Option<u64>,
    /// Since the container started.
    block_write_bytes: Option<u64>,
    /// Processes and threads.
    pids: Option<u64>,
    /// Nanoseconds in which its CPU limit held it back, since the container started.
    throttled_nanos: Option<u64>,
    /// Processes killed for lack of memory, since the container started.
    oom_kills: Option<u64>,
    /// Size of its writable layer, where it was measured.
    storage_bytes: Option<u64>,
}

impl From<InstanceSample> for SampleView {
    fn from(sample: InstanceSample) -> Self {
        Self {
            at: sample.at,
            cpu_percent: sample.cpu_percent,
            memory_bytes: sample.memory_bytes,
            memory_limit_bytes: sample.memory_limit_bytes,
            memory_percent: sample.memory_percent(),
            network_rx_bytes: sample.network_rx_bytes,
            network_tx_bytes: sample.network_tx_bytes,
            block_read_bytes: sample.block_read_bytes,
            block_write_bytes: sample.block_write_bytes,
            pids: sample.pids,
            throttled_nanos: sample.throttled_nanos,
            oom_kills: sample.oom_kills,
            storage_bytes: sample.storage_bytes,
        }
    }
}

/// Shows what an instance uses.
#[utoipa::path(tag = "instances", security(("bearer" = [])), params(("instance" = Uuid, Path), MetricsQuery), responses((status = 200, body = MetricsView), Problems))]
#[get("/instances/{instance}/metrics")]
pub(super) async fn instance_metrics(
    services: Data<Services>,
    caller: Allowed<DeploymentsRead>,
    path: Path<String>,
    query: Query<MetricsQuery>,
) -> Result<HttpResponse, Error> {
    let since = query.since()?;
    let instance = over(&services, &caller, &path).await?;
    let samples = services.store.sample_list(instance.id, since, 10_000).await?;
    let samples: Vec<SampleView> = samples.into_iter().map(Into::into).collect();
    Ok(HttpResponse::Ok().json(MetricsView { latest: samples.first().cloned(), samples }))
}
