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

use super::problem::{FieldProblem, Problem};

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
    // Every operation answers them, but none names them as its own.
    components(schemas(Problem, FieldProblem)),
    tags(
        (name = "auth", description = "Accounts, sessions, tokens"),
        (name = "nodes", description = "Docker hosts with an agent"),
        (name = "projects", description = "What deployments belong to, and who is a member"),
        (name = "credentials", description = "The vault: values go in and are not shown again"),
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    #[test]
    fn every_schema_that_is_referred_to_is_there() {
        let text = super::document().to_json().unwrap_or_default();
        let (names, parts) = ("#/components/schemas/", text.split("\"$ref\":"));
        let document: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        let referred: BTreeSet<&str> = parts
            .filter_map(|part| part.trim_start().strip_prefix('"')?.strip_prefix(names)?.split('"').next())
            .collect();
        assert!(referred.contains("Problem") && referred.len() > 50, "{referred:?}");
        let schemas = document.pointer("/components/schemas").and_then(|schemas| schemas.as_object());
        let missing: Vec<_> =
            referred.iter().filter(|name| schemas.is_none_or(|all| !all.contains_key(**name))).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }
}
