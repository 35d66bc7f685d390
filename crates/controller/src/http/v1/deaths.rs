//! Attempts that ended: how, and what was seen of them before.

use actix_web::{
    HttpResponse, get,
    web::{Data, Path},
};
use chrono::{DateTime, Utc};
use domain::{
    dossier::{Dossier, DossierLine, DossierProbe, MemoryPoint},
    probe::Verdict,
};
use serde::Serialize;
use store::dossier::DossierSummary;
use utoipa::ToSchema;

use super::{
    super::{extract::Allowed, problem::Problems},
    instances::{self, OutcomeView},
};
use crate::{auth::policy::DeploymentsRead, error::Error, service::Services};

/// The last attempts of an instance that ended without having been asked to.
#[derive(Serialize, ToSchema)]
pub struct DeathListView {
    /// The newest first, at most 10.
    items: Vec<DeathSummaryView>,
}

/// How an attempt ended, in short.
#[derive(Serialize, ToSchema)]
pub struct DeathSummaryView {
    /// Which; they count from 1.
    attempt: u32,
    /// By its node's clock.
    ended_at: DateTime<Utc>,
    outcome: OutcomeView,
}

/// How an attempt ended, and what was seen of it before.
#[derive(Serialize, ToSchema)]
pub struct DeathView {
    attempt: u32,
    /// By its node's clock.
    ended_at: DateTime<Utc>,
    outcome: OutcomeView,
    container_id: Option<String>,
    /// The last lines that it wrote, the oldest first: at most 200, and 128 KiB in all.
    log: Vec<DeathLineView>,
    /// Whether some of those lines are missing: there was no room, or they could not be read.
    log_cut: bool,
    /// The last results of its probes, the oldest first.
    probes: Vec<DeathProbeView>,
    /// Its use of memory in the five minutes before, the oldest first.
    memory: Vec<MemoryPointView>,
    /// The limit in force.
    memory_limit_bytes: Option<u64>,
}

/// A line of a log.
#[derive(Serialize, ToSchema)]
pub struct DeathLineView {
    at: Option<DateTime<Utc>>,
    /// `stdout` or `stderr`.
    stream: &'static str,
    /// As the program wrote it; what is not UTF-8, or NUL, is replaced by U+FFFD.
    text: String,
    /// Whether this is only the beginning of a line of more than 16 KiB.
    partial: bool,
}

/// A result of a probe.
#[derive(Serialize, ToSchema)]
pub struct DeathProbeView {
    /// Its place in the deployment's `probes`, from 0.
    probe: u32,
    at: DateTime<Utc>,
    took_millis: u64,
    /// `passed`, `failed` or `unknown`.
    verdict: &'static str,
    message: String,
}

/// Use of memory at a moment.
#[derive(Serialize, ToSchema)]
pub struct MemoryPointView {
    at: DateTime<Utc>,
    /// Working set.
    bytes: u64,
}

impl From<DossierSummary> for DeathSummaryView {
    fn from(summary: DossierSummary) -> Self {
        Self { attempt: summary.attempt, ended_at: summary.ended_at, outcome: summary.outcome.into() }
    }
}

impl From<Dossier> for DeathView {
    fn from(dossier: Dossier) -> Self {
        Self {
            attempt: dossier.attempt,
            ended_at: dossier.ended_at,
            outcome: dossier.outcome.into(),
            container_id: dossier.container_id,
            log: dossier.log.into_iter().map(Into::into).collect(),
            log_cut: dossier.log_cut,
            probes: dossier.probes.into_iter().map(Into::into).collect(),
            memory: dossier.memory.into_iter().map(Into::into).collect(),
            memory_limit_bytes: dossier.memory_limit_bytes,
        }
    }
}

impl From<DossierLine> for DeathLineView {
    fn from(line: DossierLine) -> Self {
        let stream = if line.stderr { "stderr" } else { "stdout" };
        Self { at: line.at, stream, text: line.text, partial: line.partial }
    }
}

impl From<DossierProbe> for DeathProbeView {
    fn from(DossierProbe { probe, result }: DossierProbe) -> Self {
        let verdict = match result.verdict {
            Verdict::Passed => "passed",
            Verdict::Failed => "failed",
            Verdict::Unknown => "unknown",
        };
        let took_millis = u64::try_from(result.took.as_millis()).unwrap_or(u64::MAX);
        Self { probe, at: result.at, took_millis, verdict, message: result.message }
    }
}

impl From<MemoryPoint> for MemoryPointView {
    fn from(point: MemoryPoint) -> Self {
        Self { at: point.at, bytes: point.bytes }
    }
}

/// Lists how the last attempts of an instance ended that nobody had asked to end.
#[utoipa::path(tag = "instances", security(("bearer" = [])), params(("instance" = uuid::Uuid, Path)), responses((status = 200, body = DeathListView), Problems))]
#[get("/instances/{instance}/deaths")]
pub(super) async fn death_list(
    services: Data<Services>,
    caller: Allowed<DeploymentsRead>,
    path: Path<String>,
) -> Result<HttpResponse, Error> {
    let instance = instances::over(&services, &caller, &path).await?;
    let items = services.store.dossier_list(instance.id).await?;
    Ok(HttpResponse::Ok().json(DeathListView { items: items.into_iter().map(Into::into).collect() }))
}

/// Shows all that was kept of an attempt that ended.
///
/// That is how it ended, the last lines of its log, what its probes found last, and its use of
/// memory in the five minutes before.
#[utoipa::path(tag = "instances", security(("bearer" = [])), params(("instance" = uuid::Uuid, Path), ("attempt" = u32, Path)), responses((status = 200, body = DeathView), Problems))]
#[get("/instances/{instance}/deaths/{attempt}")]
pub(super) async fn death_get(
    services: Data<Services>,
    caller: Allowed<DeploymentsRead>,
    path: Path<(String, String)>,
) -> Result<HttpResponse, Error> {
    let (instance, attempt) = path.into_inner();
    let instance = instances::over(&services, &caller, &instance).await?;
    let nothing = || Error::not_found("attempt that ended");
    let attempt = attempt.parse().map_err(|_| nothing())?;
    let dossier = services.store.dossier_fetch(instance.id, attempt).await?.ok_or_else(nothing)?;
    Ok(HttpResponse::Ok().json(DeathView::from(dossier)))
}
