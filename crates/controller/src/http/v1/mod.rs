//! Version 1 of the API: one file per resource. Views are made here, from rows and
//! domain values, and nowhere else; never one struct for two of these.

mod auth;
mod declare;
mod deployments;
mod events;
mod instances;
mod logs;
mod nodes;
mod operations;
mod spans;
mod spec;

pub use spans::Spans;

use actix_web::{HttpResponse, http::header::LOCATION};
use utoipa_actix_web::{scope, service_config::ServiceConfig};

use self::operations::OperationView;

pub(super) fn routes(config: &mut ServiceConfig<'_>) {
    config.service(
        scope::scope("/api/v1")
            .service(auth::auth_register)
            .service(auth::auth_login)
            .service(auth::auth_logout)
            .service(auth::auth_me)
            .service(auth::invite_create)
            .service(auth::api_token_create)
            .service(nodes::enrolment_token_create)
            .service(nodes::node_list)
            .service(nodes::node_get)
            .service(deployments::deployment_create)
            .service(deployments::deployment_list)
            .service(deployments::deployment_get)
            .service(deployments::deployment_delete)
            .service(instances::instance_get)
            .service(instances::instance_restart)
            .service(instances::instance_stop)
            .service(instances::instance_start)
            .service(instances::instance_metrics)
            .service(logs::instance_logs)
            .service(operations::operation_list)
            .service(operations::operation_get)
            .service(events::event_list),
    );
}

/// `202`: what was asked for is recorded, and this is where to see it done.
fn accepted(operation: OperationView) -> HttpResponse {
    HttpResponse::Accepted()
        .insert_header((LOCATION, format!("/api/v1/operations/{}", operation.id)))
        .json(operation)
}
