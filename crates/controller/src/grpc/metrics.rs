//! Readings from agents.

use domain::{id::NodeId, sample::InstanceSample};
use protocol::{METRICS_BATCH_MAX, proto};
use tonic::{Response, Status};

use super::{convert_status, status};
use crate::service::Services;

pub(super) async fn push(
    services: &Services,
    node: NodeId,
    request: proto::PushMetricsRequest,
) -> Result<Response<proto::PushMetricsResponse>, Status> {
    if request.samples.len() > METRICS_BATCH_MAX {
        return Err(Status::invalid_argument(format!("at most {METRICS_BATCH_MAX} readings in a call")));
    }
    let samples: Vec<InstanceSample> = request
        .samples
        .into_iter()
        .map(TryInto::try_into)
        .collect::<Result<_, _>>()
        .map_err(|e| convert_status(&e))?;
    let dropped = services.store.sample_insert(node, &samples).await.map_err(|e| status(&e.into()))?;
    Ok(Response::new(proto::PushMetricsResponse { dropped: u32::try_from(dropped).unwrap_or(u32::MAX) }))
}
