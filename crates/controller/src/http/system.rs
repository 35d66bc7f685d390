//! What load balancers, orchestrators and newcomers look at. Outside the API and
//! its document; needs no token.

use std::time::Duration;

use actix_web::{HttpResponse, get, web};
use serde::Serialize;
use utoipa::openapi::OpenApi;

use crate::service::Services;

pub(super) fn routes(config: &mut web::ServiceConfig) {
    config.service(healthz).service(readyz).service(version).service(openapi).service(front);
}

#[derive(Serialize)]
struct Health {
    status: &'static str,
}

/// The process is alive. Looks at nothing else, so that an outage of the database
/// does not make anybody restart the controller.
#[get("/healthz")]
async fn healthz() -> HttpResponse {
    HttpResponse::Ok().json(Health { status: "ok" })
}

#[derive(Serialize)]
struct Readiness {
    ready: bool,
    database: &'static str,
    stopping: bool,
}

/// It can serve requests now.
#[get("/readyz")]
async fn readyz(services: web::Data<Services>) -> HttpResponse {
    let stopping = services.stopping.is_cancelled();
    let ping = tokio::time::timeout(Duration::from_secs(2), services.store.ping()).await;
    let database = if matches!(ping, Ok(Ok(()))) { "ok" } else { "unavailable" };
    let ready = database == "ok" && !stopping;
    let body = Readiness { ready, database, stopping };
    if ready { HttpResponse::Ok().json(body) } else { HttpResponse::ServiceUnavailable().json(body) }
}

#[derive(Serialize)]
struct Version {
    name: &'static str,
    version: &'static str,
    protocol_version: u32,
}

#[get("/version")]
async fn version() -> HttpResponse {
    HttpResponse::Ok().json(Version {
        name: "automator67-controller",
        version: env!("CARGO_PKG_VERSION"),
        protocol_version: protocol::PROTOCOL_VERSION,
    })
}

#[get("/api/v1/openapi.json")]
async fn openapi(document: web::Data<OpenApi>) -> HttpResponse {
    HttpResponse::Ok().json(document.get_ref())
}

/// A page for whoever opens the address in a browser.
#[get("/")]
async fn front() -> HttpResponse {
    HttpResponse::Ok().content_type("text/html; charset=utf-8").body(include_str!("front.html"))
}
