//! Nodes, and the tokens that make them.

use std::{collections::BTreeMap, time::Duration};

use actix_web::{
    HttpResponse, get, post,
    web::{Data, Path, Query},
};
use chrono::{DateTime, Utc};
use domain::{
    id::NodeId,
    node::{NodeFacts, StorageLimit},
    sample::{DiskSample, HostSample, Pressure},
};
use serde::{Deserialize, Serialize};
use store::node::{Node, NodeKey};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    super::{
        extract::{Allowed, Body},
        page::{PageQuery, PageView},
        problem::Problems,
    },
    instances::MetricsQuery,
};
use crate::{
    auth::policy::{NodesRead, NodesWrite},
    error::Error,
    service::Services,
};

/// A new enrolment token. A body without fields takes all defaults.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EnrolmentTokenCreate {
    /// Labels of the nodes that it makes.
    #[serde(default)]
    labels: BTreeMap<String, String>,
    /// How many nodes it makes, 1 to 1000; 1 when left out.
    uses: Option<u32>,
    /// 60 to 2592000 (30 days); 3600 when left out.
    expires_in_seconds: Option<u64>,
}

/// An enrolment token; its text is shown once.
#[derive(Serialize, ToSchema)]
pub struct EnrolmentTokenView {
    id: Uuid,
    token: String,
    /// SHA-256 of the fleet's CA, which is also in the token.
    ca_sha256: String,
    expires_at: DateTime<Utc>,
    /// What to run on the host.
    command: String,
}

/// What an agent says of its host.
#[derive(Serialize, ToSchema)]
pub struct NodeFactsView {
    hostname: String,
    os: String,
    kernel: String,
    architecture: String,
    /// Thousandths of a core.
    cpu_millis: u64,
    memory_bytes: u64,
    disk_bytes: u64,
    disk_free_bytes: u64,
    /// Null while the engine does not answer.
    engine_version: Option<String>,
    engine_api_version: Option<String>,
    storage_driver: Option<String>,
    cgroup_version: Option<u32>,
    agent_version: String,
    /// Where published ports are reached.
    address: Option<String>,
    /// `enforced`: the engine keeps containers within `limits.storage_bytes`;
    /// `measured`: the agent looks now and then; null: not known yet.
    storage_limit: Option<&'static str>,
}

impl From<NodeFacts> for NodeFactsView {
    fn from(facts: NodeFacts) -> Self {
        Self {
            hostname: facts.hostname,
            os: facts.os,
            kernel: facts.kernel,
            architecture: facts.architecture,
            cpu_millis: facts.cpu_millis,
            memory_bytes: facts.memory_bytes,
            disk_bytes: facts.disk_bytes,
            disk_free_bytes: facts.disk_free_bytes,
            engine_version: facts.engine_version,
            engine_api_version: facts.engine_api_version,
            storage_driver: facts.storage_driver,
            cgroup_version: facts.cgroup_version,
            agent_version: facts.agent_version,
            address: facts.address,
            storage_limit: facts.storage_limit.map(StorageLimit::as_str),
        }
    }
}

/// A node.
#[derive(Serialize, ToSchema)]
pub struct NodeView {
    id: Uuid,
    name: String,
    /// `enrolled`, `ready`, `suspect`, `unreachable` or `engine_unreachable`.
    state: String,
    state_since: DateTime<Utc>,
    labels: BTreeMap<String, String>,
    /// Whether it takes nothing new.
    cordoned: bool,
    /// Whether what it runs is being moved elsewhere.
    draining: bool,
    /// `healthy`, `degraded` or `failing`: what the node's agent makes of its own figures.
    health: &'static str,
    /// Why it is not healthy.
    health_reasons: Vec<String>,
    /// Null where its agent has not said so yet.
    health_since: Option<DateTime<Utc>>,
    facts: NodeFactsView,
    /// Null for a node that was never heard of.
    last_seen_at: Option<DateTime<Utc>>,
    created_at: DateTime<Utc>,
    /// How many instances it is assigned.
    instance_count: u64,
}

/// Makes a token that hosts become nodes with.
#[utoipa::path(tag = "nodes", security(("bearer" = [])), request_body = EnrolmentTokenCreate, responses((status = 201, body = EnrolmentTokenView), Problems))]
#[post("/enrolment-tokens")]
pub(super) async fn enrolment_token_create(
    services: Data<Services>,
    caller: Allowed<NodesWrite>,
    body: Body<EnrolmentTokenCreate>,
) -> Result<HttpResponse, Error> {
    let EnrolmentTokenCreate { labels, uses, expires_in_seconds } = body.read()?;
    let lifetime = Duration::from_secs(expires_in_seconds.unwrap_or(3600));
    let token = services.enrolment_token_create(labels, uses.unwrap_or(1), lifetime, &caller.actor).await?;
    let ca_sha256 = token.text.rsplit_once('.').map(|(_, hash)| hash.to_owned()).unwrap_or_default();
    Ok(HttpResponse::Created().json(EnrolmentTokenView {
        id: token.id,
        command: format!(
            "automator67-agent enrol --controller {} --token {}",
            services.settings.agent_url, token.text
        ),
        token: token.text,
        ca_sha256,
        expires_at: token.expires_at,
    }))
}

/// Lists nodes, the oldest first.
#[utoipa::path(tag = "nodes", security(("bearer" = [])), params(PageQuery), responses((status = 200, body = PageView<NodeView>), Problems))]
#[get("/nodes")]
pub(super) async fn node_list(
    services: Data<Services>,
    _caller: Allowed<NodesRead>,
    page: Query<PageQuery>,
) -> Result<HttpResponse, Error> {
    let (cursor, limit) = page.read()?;
    let nodes = services.store.node_list_page(cursor, limit).await?;
    let ids: Vec<NodeId> = nodes.items.iter().map(|node| node.id).collect();
    let counts: BTreeMap<NodeId, u64> =
        services.store.node_instance_counts(&ids).await?.into_iter().collect();
    Ok(HttpResponse::Ok().json(PageView::of(nodes, |node| view(&services, node, &counts))))
}

/// Shows a node, by name or id.
#[utoipa::path(tag = "nodes", security(("bearer" = [])), params(("node" = String, Path, description = "Name or id")), responses((status = 200, body = NodeView), Problems))]
#[get("/nodes/{node}")]
pub(super) async fn node_get(
    services: Data<Services>,
    _caller: Allowed<NodesRead>,
    path: Path<String>,
) -> Result<HttpResponse, Error> {
    let node = services.store.node_fetch(&key(&path)).await?.ok_or_else(|| Error::not_found("node"))?;
    let counts = services.store.node_instance_counts(&[node.id]).await?.into_iter().collect();
    Ok(HttpResponse::Ok().json(view(&services, node, &counts)))
}

/// Use of a host's resources over time.
#[derive(Serialize, ToSchema)]
pub struct NodeMetricsView {
    /// The newest reading; null where there is none.
    latest: Option<NodeSampleView>,
    /// The newest first, at most 10000.
    samples: Vec<NodeSampleView>,
}

/// One reading of a host. What could not be read is null.
#[derive(Clone, Serialize, ToSchema)]
pub struct NodeSampleView {
    at: DateTime<Utc>,
    /// Percent of one core: 250 is two and a half cores.
    cpu_percent: Option<f64>,
    /// Runnable tasks, averaged over 1, 5 and 15 minutes.
    load: Option<[f64; 3]>,
    memory_bytes: Option<u64>,
    /// What could be had without swapping.
    memory_available_bytes: Option<u64>,
    /// 0 where there is no swap.
    swap_bytes: Option<u64>,
    swap_free_bytes: Option<u64>,
    /// Over all interfaces that lead out of the host, since it started.
    network_rx_bytes: Option<u64>,
    /// Over all interfaces that lead out of the host, since it started.
    network_tx_bytes: Option<u64>,
    /// The root's file system, the engine's data and the agent's, each once.
    disks: Vec<DiskView>,
    /// Null on a kernel without pressure stall information.
    pressure: Option<PressureView>,
    /// `healthy`, `degraded` or `failing`.
    health: &'static str,
    /// Why it is not healthy.
    health_reasons: Vec<String>,
}

/// One file system of a host.
#[derive(Clone, Serialize, ToSchema)]
pub struct DiskView {
    /// Where it is mounted.
    path: String,
    size_bytes: u64,
    /// To programs that are not root.
    free_bytes: u64,
    /// Null where there is no limit.
    inodes: Option<u64>,
    inodes_free: Option<u64>,
}

/// Percent of the last ten seconds in which some or all tasks waited.
#[derive(Clone, Copy, Serialize, ToSchema)]
pub struct PressureView {
    cpu_some: f64,
    memory_some: f64,
    memory_full: f64,
    io_some: f64,
    io_full: f64,
}

impl From<HostSample> for NodeSampleView {
    fn from(sample: HostSample) -> Self {
        let disk = |disk: DiskSample| DiskView {
            path: disk.path,
            size_bytes: disk.size_bytes,
            free_bytes: disk.free_bytes,
            inodes: disk.inodes,
            inodes_free: disk.inodes_free,
        };
        let pressure = |Pressure { cpu_some, memory_some, memory_full, io_some, io_full }| PressureView {
            cpu_some,
            memory_some,
            memory_full,
            io_some,
            io_full,
        };
        Self {
            at: sample.at,
            cpu_percent: sample.cpu_percent,
            load: sample.load,
            memory_bytes: sample.memory_bytes,
            memory_available_bytes: sample.memory_available_bytes,
            swap_bytes: sample.swap_bytes,
            swap_free_bytes: sample.swap_free_bytes,
            network_rx_bytes: sample.network_rx_bytes,
            network_tx_bytes: sample.network_tx_bytes,
            disks: sample.disks.into_iter().map(disk).collect(),
            pressure: sample.pressure.map(pressure),
            health: sample.health.as_str(),
            health_reasons: sample.reasons,
        }
    }
}

/// Shows what a node's host uses.
#[utoipa::path(tag = "nodes", security(("bearer" = [])), params(("node" = String, Path, description = "Name or id"), MetricsQuery), responses((status = 200, body = NodeMetricsView), Problems))]
#[get("/nodes/{node}/metrics")]
pub(super) async fn node_metrics(
    services: Data<Services>,
    _caller: Allowed<NodesRead>,
    path: Path<String>,
    query: Query<MetricsQuery>,
) -> Result<HttpResponse, Error> {
    let since = query.since()?;
    let node = services.store.node_fetch(&key(&path)).await?.ok_or_else(|| Error::not_found("node"))?;
    let samples = services.store.node_sample_list(node.id, since, 10_000).await?;
    let samples: Vec<NodeSampleView> = samples.into_iter().map(Into::into).collect();
    Ok(HttpResponse::Ok().json(NodeMetricsView { latest: samples.first().cloned(), samples }))
}

/// Reads what a path or query says: an id, or else a name.
pub(super) fn key(text: &str) -> NodeKey {
    text.parse().map_or_else(|_| NodeKey::Name(text.to_owned()), NodeKey::Id)
}

/// The database's `last_seen_at` is written in batches; what this process has
/// heard itself is newer.
pub(super) fn view(services: &Services, node: Node, counts: &BTreeMap<NodeId, u64>) -> NodeView {
    let heard = services.heartbeats.last(node.id).map(|beat| beat.received_at);
    NodeView {
        id: node.id.uuid(),
        name: node.name,
        state: node.state.as_str().to_owned(),
        state_since: node.state_since,
        labels: node.labels,
        cordoned: node.cordoned,
        draining: node.draining,
        health: node.health.state.as_str(),
        health_reasons: node.health.reasons,
        health_since: node.health.since,
        facts: node.facts.into(),
        last_seen_at: node.last_seen_at.max(heard),
        created_at: node.created_at,
        instance_count: counts.get(&node.id).copied().unwrap_or_default(),
    }
}
