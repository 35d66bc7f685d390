//! The OpenAPI document, made from the handlers.

use actix_web::App;
use utoipa::{
    OpenApi as _,
    openapi::{
        OpenApi,
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};
use utoipa_actix_web::AppExt;

/// What stands at the head of the document. All of it is said here: what is left
/// out would be filled in from the package's own metadata.
#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Automator67",
        version = "1",
        description = "Runs containers on a fleet of ordinary Docker hosts. Errors are RFC 9457 problems with a stable `code`; long work answers 202 with an operation.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    tags(
        (name = "auth", description = "Accounts, sessions, tokens"),
        (name = "nodes", description = "Docker hosts with an agent"),
        (name = "projects", description = "What deployments belong to, and who is a member"),
        (name = "deployments", description = "What shall run"),
        (name = "instances", description = "What runs, copy by copy"),
        (name = "operations", description = "What was asked for, and what became of it"),
        (name = "events", description = "The timeline")
    )
)]
struct Head;

pub(super) fn head() -> OpenApi {
    Head::openapi()
}

/// Adds what holds for all operations.
pub(super) fn finished(mut document: OpenApi) -> OpenApi {
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("An access token from sign-in, or an API token (`a67_…`)"))
        .build();
    document.components.get_or_insert_default().add_security_scheme("bearer", SecurityScheme::Http(bearer));
    document
}

/// The whole document.
#[must_use]
pub fn document() -> OpenApi {
    let (_, document) =
        App::new().into_utoipa_app().openapi(head()).configure(super::v1::routes).split_for_parts();
    finished(document)
}
