//! Sends what is known of attempts that ended, on a connection of its own.

use std::{sync::Arc, time::Duration};

use daemon::Backoff;
use protocol::{
    DOSSIER_BATCH_MAX,
    proto::{self, PushDossiersRequest, agent_service_client::AgentServiceClient},
};
use tokio::time::{sleep, timeout};
use tonic::{Code, Status, transport::Channel};

use super::{
    ConnectError, chain,
    connect::{Trust, connect},
};
use crate::{
    dossier::{Dossiers, Waiting},
    identity::Identity,
};

/// How long a push may take.
const PUSH_LIMIT: Duration = Duration::from_secs(15);
/// The first wait after a failed push, and the longest.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

#[derive(Debug, thiserror::Error)]
enum PushError {
    #[error("connect for dossiers")]
    Connect(#[from] ConnectError),
    #[error("push dossiers ({:?}: {})", .0.code(), .0.message())]
    Call(Box<Status>),
    #[error("push dossiers in time")]
    Timeout,
}

/// Sends dossiers as they come, for as long as the session lives. They stay until the
/// controller has them.
pub(super) async fn run(dossiers: Dossiers, identity: Arc<Identity>) {
    let mut backoff = Backoff::new(RETRY.0, RETRY.1);
    let mut client = None;
    let mut most = DOSSIER_BATCH_MAX;
    loop {
        dossiers.notified().await;
        let batch = dossiers.peek(most).await;
        if batch.is_empty() {
            // None of them could be read back.
            continue;
        }
        let numbers: Vec<u64> = batch.iter().map(|waiting| waiting.number).collect();
        match push(&mut client, &identity, &batch).await {
            Ok(dropped) => {
                dossiers.confirm(numbers).await;
                backoff.reset();
                most = DOSSIER_BATCH_MAX.min(most.saturating_mul(2));
                if dropped > 0 {
                    tracing::debug!(dropped, "the controller did not keep all dossiers");
                }
            }
            Err(PushError::Call(status)) if status.code() == Code::InvalidArgument && batch.len() > 1 => {
                // It may be one of them alone.
                tracing::debug!(
                    reason = status.message(),
                    "the controller refused dossiers; each is sent alone"
                );
                most = 1;
            }
            Err(PushError::Call(status)) if status.code() == Code::InvalidArgument => {
                // It would be refused for ever.
                dossiers.confirm(numbers).await;
                for Waiting { dossier, .. } in &batch {
                    let (instance, attempt) = (dossier.instance_id, dossier.attempt);
                    let reason = status.message();
                    tracing::warn!(instance.id = %instance, attempt, reason, "the controller refused a dossier; it is dropped");
                }
            }
            Err(error) => {
                client = None;
                tracing::debug!(error = chain(&error), "dossiers wait");
                sleep(backoff.next_delay()).await;
            }
        }
    }
}

/// Answers how many the controller did not keep.
async fn push(
    client: &mut Option<AgentServiceClient<Channel>>,
    identity: &Identity,
    batch: &[Waiting],
) -> Result<u32, PushError> {
    let client = match client {
        Some(client) => client,
        None => {
            let channel = connect(identity.controller(), Trust::Mutual(identity)).await?;
            client.insert(AgentServiceClient::new(channel))
        }
    };
    let dossiers = batch.iter().map(|waiting| proto::Dossier::from(&waiting.dossier)).collect();
    let call = client.push_dossiers(PushDossiersRequest { dossiers });
    let answer = timeout(PUSH_LIMIT, call).await.map_err(|_| PushError::Timeout)?;
    Ok(answer.map_err(|status| PushError::Call(Box::new(status)))?.into_inner().dropped)
}
