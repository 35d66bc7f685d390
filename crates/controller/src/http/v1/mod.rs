//! Version 1 of the API: one file per resource. Views are made here, from rows and
//! domain values, and nowhere else; never one struct for two of these.

mod accounts;
mod api_tokens;
mod audit;
mod auth;
mod browser;
mod credentials;
mod deaths;
mod declare;
mod deployments;
mod events;
mod instances;
mod invites;
mod logs;
mod node_changes;
mod nodes;
mod operations;
mod projects;
mod provider;
mod revisions;
mod sessions;
mod settings;
mod spans;
mod spec;

pub use spans::Spans;

use actix_web::{HttpResponse, http::header::LOCATION};
use utoipa_actix_web::{scope, service_config::ServiceConfig};

use self::operations::OperationView;

pub(super) fn routes(config: &mut ServiceConfig<'_>) {
    config.service(
        scope::scope("/api/v1")
            .service(browser::auth_methods)
            .service(auth::auth_register)
            .service(auth::auth_login)
            .service(auth::auth_refresh)
            .service(auth::auth_logout)
            .service(auth::auth_logout_all)
            .service(auth::auth_password)
            .service(auth::auth_me)
            .service(provider::github_begin)
            .service(provider::github_callback)
            .service(provider::github_exchange)
            .service(provider::github_link_begin)
            .service(provider::github_link_delete)
            .service(sessions::session_list)
            .service(sessions::session_end)
            .service(accounts::account_create)
            .service(accounts::account_list)
            .service(accounts::account_get)
            .service(accounts::account_update)
            .service(invites::invite_create)
            .service(invites::invite_list)
            .service(invites::invite_delete)
            .service(api_tokens::api_token_create)
            .service(api_tokens::api_token_list)
            .service(api_tokens::api_token_delete)
            .service(settings::settings_get)
            .service(settings::settings_update)
            .service(nodes::enrolment_token_create)
            .service(nodes::node_list)
            .service(nodes::node_get)
            .service(nodes::node_metrics)
            .service(node_changes::node_cordon)
            .service(node_changes::node_uncordon)
            .service(node_changes::node_update)
            .service(node_changes::node_drain)
            .service(node_changes::node_delete)
            .service(projects::project_create)
            .service(projects::project_list)
            .service(projects::project_get)
            .service(projects::project_delete)
            .service(projects::member_list)
            .service(projects::member_set)
            .service(projects::member_remove)
            .service(credentials::credential_create)
            .service(credentials::credential_list)
            .service(credentials::credential_get)
            .service(credentials::credential_delete)
            .service(credentials::credential_replace)
            .service(credentials::credential_version_list)
            .service(credentials::credential_rollback)
            .service(credentials::credential_used_by)
            .service(credentials::credential_reveal)
            .service(deployments::deployment_create)
            .service(deployments::deployment_list)
            .service(deployments::deployment_get)
            .service(deployments::deployment_delete)
            .service(revisions::deployment_update)
            .service(revisions::revision_list)
            .service(revisions::revision_get)
            .service(revisions::revision_diff)
            .service(revisions::deployment_rollback)
            .service(revisions::deployment_scale)
            .service(revisions::deployment_pause)
            .service(revisions::deployment_resume)
            .service(revisions::deployment_cancel)
            .service(instances::instance_get)
            .service(instances::instance_restart)
            .service(instances::instance_stop)
            .service(instances::instance_start)
            .service(instances::instance_metrics)
            .service(logs::instance_logs)
            .service(deaths::death_list)
            .service(deaths::death_get)
            .service(operations::operation_list)
            .service(operations::operation_get)
            .service(audit::audit_list)
            .service(audit::audit_export)
            .service(events::event_list),
    );
}

/// `202`: what was asked for is recorded, and this is where to see it done.
fn accepted(operation: OperationView) -> HttpResponse {
    HttpResponse::Accepted()
        .insert_header((LOCATION, format!("/api/v1/operations/{}", operation.id)))
        .json(operation)
}
