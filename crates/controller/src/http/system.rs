//! What load balancers, orchestrators and newcomers look at. Outside the API and
//! its document; needs no token.

use std::time::Duration;

use actix_web::{HttpResponse, get, http::header::CACHE_CONTROL, web};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Serialize;
use utoipa::openapi::OpenApi;

use crate::{auth::jwt::PublicKey, service::Services};

pub(super) fn routes(config: &mut web::ServiceConfig) {
    config.service(healthz).service(readyz).service(version).service(openapi).service(jwks);
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

#[derive(Serialize)]
struct Jwks {
    keys: Vec<Jwk>,
}

/// RFC 8037.
#[derive(Serialize)]
struct Jwk {
    kty: &'static str,
    crv: &'static str,
    alg: &'static str,
    #[serde(rename = "use")]
    usage: &'static str,
    kid: String,
    x: String,
}

impl From<PublicKey> for Jwk {
    fn from(PublicKey { kid, public_key }: PublicKey) -> Self {
        let x = URL_SAFE_NO_PAD.encode(public_key);
        Self { kty: "OKP", crv: "Ed25519", alg: "EdDSA", usage: "sig", kid, x }
    }
}

/// The keys by which access tokens can be verified. Whether a token's session still is,
/// only the API says.
#[get("/.well-known/jwks.json")]
async fn jwks(services: web::Data<Services>) -> HttpResponse {
    let keys = services.public_keys().into_iter().map(Jwk::from).collect();
    HttpResponse::Ok().insert_header((CACHE_CONTROL, "public, max-age=300")).json(Jwks { keys })
}
