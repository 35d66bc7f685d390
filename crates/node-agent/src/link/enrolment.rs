//! The calls that need no client certificate: enrol, and renew.

use std::{sync::Arc, time::Duration};

use domain::{
    id::{FleetId, NodeId},
    node::NodeFacts,
};
use protocol::{
    PROTOCOL_VERSION,
    convert::{self, ConvertError},
    proto::{EnrolRequest, RenewRequest, enrolment_service_client::EnrolmentServiceClient},
};
use tonic::{Code, Status};

use super::connect::{ConnectError, Trust, connect};
use crate::identity::{EnrolmentToken, Identity, PinnedCa};

/// How long a call may take, once connected. Signing is quick; its database may not be.
const CALL_LIMIT: Duration = Duration::from_secs(15);

/// Why a call did not give an answer that can be used.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The address is not `https://host:port`.
    #[error("use the controller's address")]
    Address,
    /// Nobody answers, or not in time.
    #[error("get an answer ({reason})")]
    Unreachable {
        /// What the connection said.
        reason: String,
    },
    /// Somebody answers who is not the controller.
    #[error("verify its certificate ({reason})")]
    NotTrusted {
        /// What is wrong with it.
        reason: String,
    },
    /// PERMISSION_DENIED.
    #[error("get permission ({message})")]
    Denied {
        /// What the controller said.
        message: String,
    },
    /// FAILED_PRECONDITION: versions do not fit.
    #[error("agree on a version ({message})")]
    Version {
        /// What the controller said.
        message: String,
    },
    /// Any other refusal.
    #[error("get an answer ({code}: {message})")]
    Rejected {
        /// gRPC's name of the kind.
        code: String,
        /// What the controller said.
        message: String,
    },
    /// The answer is not what the protocol says.
    #[error("read the answer")]
    BadAnswer(#[source] ConvertError),
}

impl From<ConnectError> for CallError {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Address => Self::Address,
            ConnectError::NotTrusted { reason } => Self::NotTrusted { reason },
            ConnectError::Unreachable { reason } => Self::Unreachable { reason },
            ConnectError::Timeout | ConnectError::Tls(_) => Self::Unreachable { reason: error.to_string() },
        }
    }
}

impl From<Status> for CallError {
    fn from(status: Status) -> Self {
        let message = status.message().to_owned();
        match status.code() {
            Code::PermissionDenied => Self::Denied { message },
            Code::FailedPrecondition => Self::Version { message },
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => {
                Self::Unreachable { reason: message }
            }
            code => Self::Rejected { code: format!("{code:?}"), message },
        }
    }
}

/// What is asked at enrolment.
pub(crate) struct EnrolCall<'a> {
    pub(crate) token: &'a EnrolmentToken,
    pub(crate) csr_der: Vec<u8>,
    pub(crate) facts: &'a NodeFacts,
    pub(crate) node_name: String,
}

/// What an enrolment gives. Nothing of it has been checked against the token.
pub(crate) struct EnrolAnswer {
    pub(crate) node_id: NodeId,
    pub(crate) fleet_id: FleetId,
    pub(crate) node_name: String,
    pub(crate) certificate_der: Vec<u8>,
    pub(crate) ca_der: Vec<u8>,
}

/// Asks for a certificate with an enrolment token.
pub(crate) async fn enrol(
    controller: &str,
    verifier: Arc<PinnedCa>,
    call: EnrolCall<'_>,
) -> Result<EnrolAnswer, CallError> {
    let channel = connect(controller, Trust::Pinned(verifier)).await?;
    let request = EnrolRequest {
        token: call.token.secret().to_owned(),
        csr_der: call.csr_der,
        facts: Some(call.facts.into()),
        node_name: call.node_name,
        protocol_version: PROTOCOL_VERSION,
    };
    let answer = limited(EnrolmentServiceClient::new(channel).enrol(request)).await?;
    Ok(EnrolAnswer {
        node_id: convert::id("node_id", &answer.node_id).map_err(CallError::BadAnswer)?,
        fleet_id: convert::id("fleet_id", &answer.fleet_id).map_err(CallError::BadAnswer)?,
        node_name: answer.node_name,
        certificate_der: answer.certificate_der,
        ca_der: answer.ca_certificate_der,
    })
}

/// Asks for a new certificate, by a signature of the old key over the request.
pub(crate) async fn renew(
    identity: &Identity,
    csr_der: Vec<u8>,
    signature: Vec<u8>,
) -> Result<Vec<u8>, CallError> {
    let channel = connect(identity.controller(), Trust::CaOnly(identity)).await?;
    let certificate_der = identity.certificate().der().to_vec();
    let request = RenewRequest { csr_der, certificate_der, signature };
    let answer = limited(EnrolmentServiceClient::new(channel).renew(request)).await?;
    Ok(answer.certificate_der)
}

async fn limited<T>(call: impl Future<Output = Result<tonic::Response<T>, Status>>) -> Result<T, CallError> {
    match tokio::time::timeout(CALL_LIMIT, call).await {
        Ok(answer) => Ok(answer?.into_inner()),
        Err(_) => Err(CallError::Unreachable { reason: "the controller does not answer".to_owned() }),
    }
}
