//! The REST side of the controller: the only room that knows actix-web.
//!
//! Handlers read the request, call one use case, and turn what it gives into a
//! view. They never spawn: a worker's runtime ends with the server.

mod client;
mod cookie;
mod cors;
mod extract;
mod guard;
mod headers;
mod openapi;
mod page;
mod problem;
mod system;
mod ui;
mod v1;

use std::{sync::Arc, time::Duration};

use actix_web::{
    App, Error as ActixError, HttpMessage, HttpServer,
    body::{BoxBody, MessageBody},
    dev::{Server, ServiceRequest, ServiceResponse},
    http::header::{HeaderName, HeaderValue, VARY},
    middleware::{Condition, Next, from_fn},
    web,
};
use utoipa_actix_web::AppExt;

use domain::limit::Taken;
pub use openapi::document as openapi_document;

use crate::{
    error::{Error, ErrorKind},
    service::Services,
};

/// HTTP workers. Handlers mostly wait for the database; two keep both cores of a
/// small host busy.
const WORKERS_MIN: usize = 2;

/// Binds and starts the server; it runs until the services' `stopping` token is
/// cancelled, and then finishes what is under way for `grace` at most.
///
/// # Errors
/// When the address cannot be bound.
pub fn server(
    services: Arc<Services>,
    listener: std::net::TcpListener,
    grace: Duration,
) -> std::io::Result<Server> {
    let stop = services.stopping.clone();
    let workers = std::thread::available_parallelism().map_or(WORKERS_MIN, |n| n.get().clamp(WORKERS_MIN, 8));
    let edge = services.settings.edge.clone();
    let client_timeout = edge.client_timeout;
    let data = web::Data::from(services);
    let server = HttpServer::new(move || {
        let (app, document) =
            App::new().into_utoipa_app().openapi(openapi::head()).configure(v1::routes).split_for_parts();
        app.app_data(data.clone())
            .app_data(web::Data::new(openapi::finished(document)))
            .app_data(web::PayloadConfig::new(extract::BODY_MAX_BYTES))
            .app_data(web::QueryConfig::default().error_handler(|e, _| query_error(&e).into()))
            .app_data(web::PathConfig::default().error_handler(|_, _| no_such_route().into()))
            .configure(system::routes)
            .default_service(web::to(ui::serve))
            .wrap(from_fn(guard::guard))
            .wrap(Condition::new(!edge.cors_origins.is_empty(), cors::cors(&edge.cors_origins)))
            .wrap(from_fn(respond))
            .wrap(from_fn(headers::secure))
            .wrap(tracing_actix_web::TracingLogger::<v1::Spans>::new())
    });
    let server = server
        .workers(workers)
        .worker_max_blocking_threads(4)
        .client_request_timeout(client_timeout)
        .shutdown_timeout(grace.as_secs())
        .disable_signals()
        .shutdown_signal(stop.cancelled_owned())
        .listen(listener)?;
    Ok(server.run())
}

/// Puts the request's id into every answer, and makes problems of errors: the
/// one place where they are logged.
async fn respond(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, ActixError> {
    let id = extract::request_id(request.request());
    let response = next.call(request).await?.map_into_boxed_body();
    let problem = response.response().error().map(|error| match error.as_error::<Error>() {
        Some(error) => {
            if error.kind() == ErrorKind::Internal {
                tracing::error!(error = error.chain(), "a request failed");
            } else {
                tracing::debug!(error = error.chain(), code = error.code(), "a request was refused");
            }
            problem::answer(error, id.clone())
        }
        None => problem::answer(&foreign(error), id.clone()),
    });
    let mut response = match problem {
        Some(mut problem) => {
            // What says which pages may read the answer stays on it.
            let kept = |name: &HeaderName| name == VARY || name.as_str().starts_with("access-control-");
            for (name, value) in response.headers().iter().filter(|(name, _)| kept(name)) {
                problem.headers_mut().append(name.clone(), value.clone());
            }
            response.into_response(problem)
        }
        None => response,
    };
    let taken = response.request().extensions().get::<Taken>().copied();
    if let Some(taken) = taken.filter(|_| !response.headers().contains_key("ratelimit-limit")) {
        headers::rate(response.headers_mut(), taken);
    }
    if let Some(value) = id.and_then(|id| HeaderValue::from_str(&id).ok()) {
        response.headers_mut().insert(HeaderName::from_static("x-request-id"), value);
    }
    Ok(response)
}

/// An error of actix-web's own: a path that is not UTF-8, a broken body.
fn foreign(error: &ActixError) -> Error {
    if error.as_response_error().status_code().is_server_error() {
        return Error::internal(error.to_string());
    }
    if error.as_error::<actix_cors::CorsError>().is_some() {
        let message = "pages of this origin may not call the API; see cors_origins";
        return Error::new(ErrorKind::PermissionDenied, "origin_not_allowed", message);
    }
    Error::new(ErrorKind::Malformed, "malformed", error.to_string())
}

fn query_error(error: &actix_web::error::QueryPayloadError) -> Error {
    Error::new(ErrorKind::Malformed, "malformed_query", format!("the query cannot be read: {error}"))
}

fn no_such_route() -> Error {
    Error::new(
        ErrorKind::NotFound,
        "no_such_route",
        "there is nothing under this path and method; see /api/v1/openapi.json",
    )
}
