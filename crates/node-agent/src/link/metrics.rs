//! Sends readings, on a connection of their own.

use std::{sync::Arc, time::Duration};

use daemon::Backoff;
use protocol::{
    METRICS_BATCH_MAX,
    proto::{PushMetricsRequest, agent_service_client::AgentServiceClient},
};
use tokio::time::{sleep, timeout};
use tonic::{Code, Status, transport::Channel};

use super::{
    ConnectError, chain,
    connect::{Trust, connect},
};
use crate::{
    identity::Identity,
    sample::{Entry, SampleBuffer},
};

/// How long a push may take.
const PUSH_LIMIT: Duration = Duration::from_secs(15);
/// The first wait after a failed push, and the longest.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

#[derive(Debug, thiserror::Error)]
enum PushError {
    #[error("connect for readings")]
    Connect(#[from] ConnectError),
    #[error("push readings ({:?}: {})", .0.code(), .0.message())]
    Call(Box<Status>),
    #[error("push readings in time")]
    Timeout,
}

/// Sends readings as they come, for as long as the session lives.
pub(super) async fn run(samples: SampleBuffer, identity: Arc<Identity>) {
    let mut backoff = Backoff::new(RETRY.0, RETRY.1);
    let mut client = None;
    loop {
        samples.notified().await;
        let batch = samples.peek(METRICS_BATCH_MAX);
        match push(&mut client, &identity, &batch).await {
            Ok(dropped) => {
                samples.confirm(batch.len());
                backoff.reset();
                if dropped > 0 {
                    tracing::debug!(dropped, "the controller did not keep all readings");
                }
            }
            Err(PushError::Call(status)) if status.code() == Code::InvalidArgument => {
                // The same batch would be refused for ever.
                samples.confirm(batch.len());
                let (count, reason) = (batch.len(), status.message());
                tracing::warn!(count, reason, "the controller refused readings; they are dropped");
            }
            Err(error) => {
                client = None;
                tracing::debug!(error = chain(&error), "readings wait");
                sleep(backoff.next_delay()).await;
            }
        }
    }
}

/// Answers how many the controller did not keep.
async fn push(
    client: &mut Option<AgentServiceClient<Channel>>,
    identity: &Identity,
    batch: &[Entry],
) -> Result<u32, PushError> {
    let client = match client {
        Some(client) => client,
        None => {
            let channel = connect(identity.controller(), Trust::Mutual(identity)).await?;
            client.insert(AgentServiceClient::new(channel))
        }
    };
    let mut request = PushMetricsRequest::default();
    for entry in batch {
        match entry {
            Entry::Instance(sample) => request.samples.push(sample.into()),
            Entry::Host(sample) => request.host_samples.push(sample.as_ref().into()),
        }
    }
    let answer = timeout(PUSH_LIMIT, client.push_metrics(request)).await.map_err(|_| PushError::Timeout)?;
    Ok(answer.map_err(|status| PushError::Call(Box::new(status)))?.into_inner().dropped)
}
