//! Enrolment and renewal.

use domain::node::NodeFacts;
use protocol::{
    convert::timestamp_message,
    proto::{self, enrolment_service_server::EnrolmentService},
};
use tonic::{Request, Response, Status};

use store::audit::{Actor, ActorKind};

use super::{Grpc, check_version, peer_address, status};
use crate::{
    error::{Error, ErrorKind},
    service::enrolment::EnrolmentRequest,
};

impl Grpc {
    /// The status for an error; what was refused to whom no certificate vouches for is
    /// written down.
    async fn refused(
        &self,
        error: &Error,
        address: Option<String>,
        (action, subject): (&'static str, &str),
    ) -> Status {
        if error.kind() == ErrorKind::PermissionDenied {
            let actor = Actor { address, ..Actor::of(ActorKind::Anonymous, "anonymous") };
            self.0.stranger_refused(&actor, action, subject).await;
        }
        status(error)
    }
}

#[tonic::async_trait]
impl EnrolmentService for Grpc {
    async fn enrol(
        &self,
        request: Request<proto::EnrolRequest>,
    ) -> Result<Response<proto::EnrolResponse>, Status> {
        let address = peer_address(&request);
        let request = request.into_inner();
        check_version(request.protocol_version)?;
        let facts = request.facts.ok_or_else(|| Status::invalid_argument("facts are missing"))?;
        let wish = EnrolmentRequest {
            token: request.token,
            csr_der: request.csr_der,
            facts: NodeFacts::from(facts),
            name: request.node_name,
            address: address.clone(),
        };
        let name = wish.name.clone();
        let enrolment = match self.0.node_enrol(wish).await {
            Ok(enrolment) => enrolment,
            Err(e) => return Err(self.refused(&e, address, ("node_enrol", &name)).await),
        };
        Ok(Response::new(proto::EnrolResponse {
            node_id: enrolment.node_id.to_string(),
            fleet_id: self.0.fleet_id.to_string(),
            node_name: enrolment.name,
            certificate_der: enrolment.certificate_der,
            ca_certificate_der: self.0.ca.certificate().to_vec(),
            not_after: Some(timestamp_message(&enrolment.not_after)),
        }))
    }

    async fn renew(
        &self,
        request: Request<proto::RenewRequest>,
    ) -> Result<Response<proto::RenewResponse>, Status> {
        let address = peer_address(&request);
        let proto::RenewRequest { certificate_der, csr_der, signature } = request.into_inner();
        let renewed =
            match self.0.node_renew(&certificate_der, &csr_der, &signature, address.as_deref()).await {
                Ok(renewed) => renewed,
                Err(e) => return Err(self.refused(&e, address, ("node_renew", "certificate")).await),
            };
        Ok(Response::new(proto::RenewResponse {
            certificate_der: renewed.certificate_der,
            not_after: Some(timestamp_message(&renewed.not_after)),
        }))
    }
}
