//! Logs of an instance, as its node has them.

use std::time::Duration;

use store::instance::Instance;
use tokio::time::timeout;

use super::Services;
use crate::{
    error::{Error, ErrorKind},
    fleet::{
        sessions::{LogsRequest, Request},
        streams::{Expectation, Item},
    },
};

/// How long an agent may take to answer with the first line, or with the end.
const ANSWER: Duration = Duration::from_secs(10);

/// An open log. Dropping it ends the stream at the agent.
pub struct OpenLog {
    first: Option<Item>,
    expectation: Expectation,
}

impl OpenLog {
    /// The next line; `None` at the end.
    pub async fn next(&mut self) -> Option<Item> {
        match self.first.take() {
            Some(item) => Some(item),
            None => self.expectation.items.recv().await,
        }
    }
}

impl Services {
    /// Opens an instance's log through its node's session.
    ///
    /// # Errors
    /// `Unavailable` when the node is not connected or does not answer within ten
    /// seconds, `Conflict` when it says that it has no log.
    pub async fn logs_open(&self, instance: &Instance, request: LogsRequest) -> Result<OpenLog, Error> {
        let unavailable = |what: String| Error::new(ErrorKind::Unavailable, "node_unavailable", what);
        let follow = request.follow;
        let mut expectation = self.streams.expect(instance.node_id).ok_or_else(|| {
            Error::new(ErrorKind::RateLimited, "too_many_streams", "too many logs are being read")
        })?;
        let ask = Request::Logs { stream_id: expectation.id, logs: request };
        self.sessions
            .request(instance.node_id, ask)
            .map_err(|e| unavailable(format!("node {}: {e}", instance.node_name)))?;
        // A log that is followed may have no line for hours. That the agent is there shows in
        // the node's state; here only a log that must end is waited for.
        let first = if follow {
            None
        } else {
            match timeout(ANSWER, expectation.items.recv()).await {
                Err(_) => {
                    return Err(unavailable(format!(
                        "node {} did not answer in {} s",
                        instance.node_name,
                        ANSWER.as_secs()
                    )));
                }
                Ok(Some(Err(message))) => return Err(Error::new(ErrorKind::Conflict, "no_log", message)),
                Ok(item) => item,
            }
        };
        Ok(OpenLog { first, expectation })
    }
}
