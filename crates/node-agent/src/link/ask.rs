//! Small questions to the controller, for whoever finds out what is wrong between
//! it and this host. None of them disturbs a session that is open.

use std::{future::poll_fn, time::Duration};

use chrono::{DateTime, Utc};
use domain::Timestamp;
use protocol::proto::{PushMetricsRequest, agent_service_client::AgentServiceClient};
use tokio::time::timeout;
use tonic::{
    Code,
    body::Body,
    client::GrpcService,
    transport::{Channel, Uri},
};

use super::{
    ConnectError,
    connect::{self, Trust},
};
use crate::identity::Identity;

/// How long an answer may take, once connected.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// A service that nobody has: whoever speaks HTTP/2 says so, and does nothing.
const NOBODY: &str = "automator67.Nobody/Ask";
/// What the transport says of a peer that took TLS and did not choose HTTP/2.
const NO_HTTP2: &str = "HTTP/2 was not negotiated";

/// Host and port of a controller's address; `None` where it is not `https://host:port`.
pub(crate) fn authority(controller: &str) -> Option<(String, u16)> {
    let uri: Uri = controller.parse().ok()?;
    connect::authority(&uri).map(|(host, port)| (host.to_owned(), port))
}

/// Whether an error means that TLS succeeded and the peer wants to speak something
/// older than HTTP/2: a proxy that ends TLS itself.
pub(crate) fn is_older_http(error: &ConnectError) -> bool {
    matches!(error, ConnectError::Unreachable { reason } if reason.contains(NO_HTTP2))
}

/// A connection to the controller, as nobody: its certificate was verified, ours
/// was not shown.
pub(crate) struct Line(Channel);

impl Line {
    /// Connects to `controller`, trusting the CA of `identity`.
    pub(crate) async fn open(controller: &str, identity: &Identity) -> Result<Self, ConnectError> {
        connect::connect(controller, Trust::CaOnly(identity)).await.map(Self)
    }

    /// Asks something that has an answer in any case, and answers the time that the
    /// controller's clock shows, in whole seconds; `None` where it does not say.
    ///
    /// # Errors
    /// With the reason, for people, where no HTTP/2 answer came.
    pub(crate) async fn clock(&mut self) -> Result<Option<Timestamp>, String> {
        let request = http::Request::post(format!("/{NOBODY}"))
            .version(http::Version::HTTP_2)
            .header(http::header::CONTENT_TYPE, "application/grpc")
            .body(Body::empty())
            .map_err(|error| error.to_string())?;
        let ask = async {
            poll_fn(|cx| GrpcService::<Body>::poll_ready(&mut self.0, cx)).await?;
            GrpcService::call(&mut self.0, request).await
        };
        let answer = timeout(ANSWER_LIMIT, ask).await;
        let answer = answer
            .map_err(|_| format!("no answer within {} s", ANSWER_LIMIT.as_secs()))?
            .map_err(|error| super::chain(&error))?;
        let date = answer.headers().get(http::header::DATE).and_then(|date| date.to_str().ok());
        Ok(date.and_then(|date| DateTime::parse_from_rfc2822(date).ok()).map(|date| date.with_timezone(&Utc)))
    }
}

/// Whether the controller takes this node's certificate.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It does.
    Yes,
    /// The node is revoked, removed, or never was one of this fleet.
    Refused {
        /// What the controller said.
        message: String,
    },
    /// It could not be found out.
    Unknown {
        /// Why, for people.
        reason: String,
    },
}

/// Shows the node's certificate and sends no reading at all, which anybody may do
/// who is a node.
pub(crate) async fn node_taken(controller: &str, identity: &Identity) -> Taken {
    let channel = match connect::connect(controller, Trust::Mutual(identity)).await {
        Ok(channel) => channel,
        Err(error) => return Taken::Unknown { reason: super::chain(&error) },
    };
    let mut client = AgentServiceClient::new(channel);
    match timeout(ANSWER_LIMIT, client.push_metrics(PushMetricsRequest::default())).await {
        Ok(Ok(_)) => Taken::Yes,
        Ok(Err(status)) if matches!(status.code(), Code::PermissionDenied | Code::Unauthenticated) => {
            Taken::Refused { message: status.message().to_owned() }
        }
        Ok(Err(status)) => Taken::Unknown { reason: format!("{:?}: {}", status.code(), status.message()) },
        Err(_) => Taken::Unknown { reason: format!("no answer within {} s", ANSWER_LIMIT.as_secs()) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{identity::testing::TestCa, link::testing::TestController};

    #[tokio::test]
    async fn the_controllers_clock_is_read_without_opening_a_session() {
        let mut controller = TestController::start().await;
        let dir = tempfile::tempdir().unwrap();
        let identity = controller.shared.ca.identity(dir.path(), &controller.url());
        let mut line = Line::open(&controller.url(), &identity).await.unwrap();
        let clock = line.clock().await.unwrap().unwrap();
        assert!((Utc::now() - clock).num_seconds().abs() < 5, "{clock}");
        assert!(controller.sessions.try_recv().is_err());
    }

    #[tokio::test]
    async fn a_controller_of_another_fleet_is_not_trusted() {
        let controller = TestController::start().await;
        let dir = tempfile::tempdir().unwrap();
        let identity = TestCa::new().identity(dir.path(), &controller.url());
        let error = Line::open(&controller.url(), &identity).await.err().unwrap();
        assert!(matches!(error, ConnectError::NotTrusted { .. }), "{error}");
        assert!(!is_older_http(&error));
    }

    #[tokio::test]
    async fn a_node_that_is_refused_is_told_apart_from_one_that_is_taken() {
        let controller = TestController::start().await;
        let dir = tempfile::tempdir().unwrap();
        let identity = controller.shared.ca.identity(dir.path(), &controller.url());
        assert_eq!(node_taken(&controller.url(), &identity).await, Taken::Yes);
        controller.behave(|b| b.refuse_metrics = Some(Code::PermissionDenied));
        assert!(matches!(node_taken(&controller.url(), &identity).await, Taken::Refused { .. }));
        controller.behave(|b| b.refuse_metrics = Some(Code::Unavailable));
        assert!(matches!(node_taken(&controller.url(), &identity).await, Taken::Unknown { .. }));
    }

    #[test]
    fn an_address_is_taken_apart() {
        assert_eq!(authority("https://c.example:6701"), Some(("c.example".into(), 6701)));
        assert_eq!(authority("http://c.example:6701"), None);
    }
}
