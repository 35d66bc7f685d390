//! The agents' side of the controller: gRPC over mutual TLS.
//!
//! Here messages are turned into domain values and errors into statuses; what is
//! done is in [`crate::service`]. A caller's identity comes from its certificate
//! and from nothing else.

mod dossiers;
mod identity;
mod metrics;
mod secrets;
mod session;
mod streams;

use std::{pin::Pin, sync::Arc, time::Duration};

use domain::id::NodeId;
use protocol::proto::{
    self,
    agent_service_server::{AgentService, AgentServiceServer},
    enrolment_service_server::EnrolmentServiceServer,
};
use store::{
    audit::{Actor, ActorKind},
    node::NodeKey,
};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status, Streaming};

use crate::{
    auth::token,
    error::{Error, GrpcCode},
    pki,
    service::Services,
};

/// Largest message from an agent: a full batch of reports with long messages.
const MESSAGE_MAX_BYTES: usize = 4 * 1024 * 1024;
/// Largest enrolment message.
const ENROLMENT_MAX_BYTES: usize = 64 * 1024;

/// The handlers.
#[derive(Clone)]
struct Grpc(Arc<Services>);

type Frames<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Serves agents until `stop`; sessions are told to go and end by themselves.
///
/// # Errors
/// When the transport fails as a whole; single connections never do that.
pub async fn serve<S>(
    services: Arc<Services>,
    incoming: S,
    stop: CancellationToken,
) -> Result<(), tonic::transport::Error>
where
    S: Stream<Item = std::io::Result<TlsStream<TcpStream>>> + Send + 'static,
{
    let grpc = Grpc(services);
    tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(Duration::from_secs(15)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
        .max_concurrent_streams(256)
        .add_service(EnrolmentServiceServer::new(grpc.clone()).max_decoding_message_size(ENROLMENT_MAX_BYTES))
        .add_service(AgentServiceServer::new(grpc).max_decoding_message_size(MESSAGE_MAX_BYTES))
        .serve_with_incoming_shutdown(incoming, stop.cancelled_owned())
        .await
}

/// Turns an error into a status, and logs what the agent is not told.
fn status(error: &Error) -> Status {
    let (_, code) = error.kind().codes();
    if code == GrpcCode::Internal {
        tracing::error!(error = error.chain(), "a call failed");
    } else {
        tracing::debug!(error = error.chain(), "a call was refused");
    }
    let code = match code {
        GrpcCode::InvalidArgument => Code::InvalidArgument,
        GrpcCode::NotFound => Code::NotFound,
        GrpcCode::AlreadyExists => Code::AlreadyExists,
        GrpcCode::PermissionDenied => Code::PermissionDenied,
        GrpcCode::ResourceExhausted => Code::ResourceExhausted,
        GrpcCode::DeadlineExceeded => Code::DeadlineExceeded,
        GrpcCode::FailedPrecondition => Code::FailedPrecondition,
        GrpcCode::Internal => Code::Internal,
        GrpcCode::Unavailable => Code::Unavailable,
        GrpcCode::Unauthenticated => Code::Unauthenticated,
    };
    Status::new(code, error.to_string())
}

fn convert_status(error: &protocol::convert::ConvertError) -> Status {
    Status::invalid_argument(crate::error::chain(error))
}

fn check_version(version: u32) -> Result<(), Status> {
    if version == protocol::PROTOCOL_VERSION {
        return Ok(());
    }
    Err(Status::failed_precondition(format!(
        "this controller serves protocol version {}, and the agent speaks {version}",
        protocol::PROTOCOL_VERSION
    )))
}

/// From where a call comes.
fn peer_address<T>(request: &Request<T>) -> Option<String> {
    request.remote_addr().map(|address| address.ip().to_canonical().to_string())
}

impl Grpc {
    /// The node that a call comes from: by its certificate, which TLS has
    /// verified, and which must not be revoked.
    async fn caller<T>(&self, request: &Request<T>) -> Result<NodeId, Status> {
        let certificates =
            request.peer_certs().ok_or_else(|| Status::unauthenticated("a client certificate is needed"))?;
        let leaf =
            certificates.first().ok_or_else(|| Status::unauthenticated("a client certificate is needed"))?;
        let node = pki::peer_node_id(leaf)
            .ok_or_else(|| Status::unauthenticated("the certificate names no node"))?;
        let good = self.0.store.node_certificate_is_good(node, &token::sha256_of(leaf)).await;
        if good.map_err(|e| status(&e.into()))? {
            return Ok(node);
        }
        let known = self.0.store.node_fetch(&NodeKey::Id(node)).await.ok().flatten();
        let name = known.map_or_else(|| node.to_string(), |node| node.name);
        let address = peer_address(request);
        let actor = Actor { address, ..Actor::of(ActorKind::Node, format!("node {name}")) };
        self.0.stranger_refused(&actor, "node_session", &name).await;
        Err(Status::permission_denied("the node is unknown, revoked or removed"))
    }
}

#[tonic::async_trait]
impl AgentService for Grpc {
    type FetchSecretsStream = Frames<proto::SecretPart>;
    type SessionStream = Frames<proto::ControllerFrame>;
    type StreamStream = Frames<proto::StreamControl>;

    async fn session(
        &self,
        request: Request<Streaming<proto::AgentFrame>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let node = self.caller(&request).await?;
        session::open(self.0.clone(), node, request.into_inner()).await
    }

    async fn push_metrics(
        &self,
        request: Request<proto::PushMetricsRequest>,
    ) -> Result<Response<proto::PushMetricsResponse>, Status> {
        let node = self.caller(&request).await?;
        metrics::push(&self.0, node, request.into_inner()).await
    }

    async fn push_dossiers(
        &self,
        request: Request<proto::PushDossiersRequest>,
    ) -> Result<Response<proto::PushDossiersResponse>, Status> {
        let node = self.caller(&request).await?;
        dossiers::push(&self.0, node, request.into_inner()).await
    }

    async fn stream(
        &self,
        request: Request<Streaming<proto::StreamFrame>>,
    ) -> Result<Response<Self::StreamStream>, Status> {
        let node = self.caller(&request).await?;
        streams::attach(&self.0, node, request.into_inner()).await
    }

    async fn fetch_secrets(
        &self,
        request: Request<proto::FetchSecretsRequest>,
    ) -> Result<Response<Self::FetchSecretsStream>, Status> {
        let node = self.caller(&request).await?;
        secrets::fetch(self.0.clone(), node, request.into_inner()).await
    }
}
