//! Enrolment and renewal.

use domain::node::NodeFacts;
use protocol::{
    convert::timestamp_message,
    proto::{self, enrolment_service_server::EnrolmentService},
};
use tonic::{Request, Response, Status};

use super::{Grpc, check_version, status};
use crate::service::enrolment::EnrolmentRequest;

#[tonic::async_trait]
impl EnrolmentService for Grpc {
    async fn enrol(
        &self,
        request: Request<proto::EnrolRequest>,
    ) -> Result<Response<proto::EnrolResponse>, Status> {
        let request = request.into_inner();
        check_version(request.protocol_version)?;
        let facts = request.facts.ok_or_else(|| Status::invalid_argument("facts are missing"))?;
        let wish = EnrolmentRequest {
            token: request.token,
            csr_der: request.csr_der,
            facts: NodeFacts::from(facts),
            name: request.node_name,
        };
        let enrolment = self.0.node_enrol(wish).await.map_err(|e| status(&e))?;
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
        let request = request.into_inner();
        let renewed = self
            .0
            .node_renew(&request.certificate_der, &request.csr_der, &request.signature)
            .await
            .map_err(|e| status(&e))?;
        Ok(Response::new(proto::RenewResponse {
            certificate_der: renewed.certificate_der,
            not_after: Some(timestamp_message(&renewed.not_after)),
        }))
    }
}
