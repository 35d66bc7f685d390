//! Readings from agents.

use domain::{
    id::NodeId,
    node_health::REASONS_MAX,
    sample::{HostSample, InstanceSample},
};
use protocol::{METRICS_BATCH_MAX, proto};
use tonic::{Response, Status};

use super::{convert_status, status};
use crate::service::Services;

/// Most file systems in one reading.
const DISKS_MAX: usize = 16;
/// As the kernel's own limit.
const PATH_MAX_BYTES: usize = 4096;
/// A path and a sentence.
const REASON_MAX_BYTES: usize = PATH_MAX_BYTES + 256;

pub(super) async fn push(
    services: &Services,
    node: NodeId,
    request: proto::PushMetricsRequest,
) -> Result<Response<proto::PushMetricsResponse>, Status> {
    if request.samples.len() > METRICS_BATCH_MAX || request.host_samples.len() > METRICS_BATCH_MAX {
        return Err(Status::invalid_argument(format!(
            "at most {METRICS_BATCH_MAX} readings of each kind in a call"
        )));
    }
    let samples: Vec<InstanceSample> = request
        .samples
        .into_iter()
        .map(TryInto::try_into)
        .collect::<Result<_, _>>()
        .map_err(|e| convert_status(&e))?;
    let hosts: Vec<HostSample> = request
        .host_samples
        .into_iter()
        .map(TryInto::try_into)
        .collect::<Result<_, _>>()
        .map_err(|e| convert_status(&e))?;
    if let Some(fault) = hosts.iter().find_map(too_much) {
        return Err(Status::invalid_argument(fault));
    }
    let mut dropped = 0;
    if !samples.is_empty() {
        dropped += services.store.sample_insert(node, &samples).await.map_err(|e| status(&e.into()))?;
    }
    if !hosts.is_empty() {
        dropped += services.store.node_sample_insert(node, &hosts).await.map_err(|e| status(&e.into()))?;
    }
    Ok(Response::new(proto::PushMetricsResponse { dropped: u32::try_from(dropped).unwrap_or(u32::MAX) }))
}

/// What of a host's reading is more than is stored: it goes into one row, and an
/// agent that is not ours may say anything.
fn too_much(sample: &HostSample) -> Option<String> {
    if sample.disks.len() > DISKS_MAX || sample.disks.iter().any(|disk| disk.path.len() > PATH_MAX_BYTES) {
        return Some(format!("at most {DISKS_MAX} disks in a reading, with paths of {PATH_MAX_BYTES} bytes"));
    }
    let reasons = &sample.reasons;
    (reasons.len() > REASONS_MAX || reasons.iter().any(|reason| reason.len() > REASON_MAX_BYTES))
        .then(|| format!("at most {REASONS_MAX} reasons in a reading, of {REASON_MAX_BYTES} bytes each"))
}

#[cfg(test)]
mod tests {
    use domain::sample::DiskSample;

    use super::*;

    #[test]
    fn a_reading_that_no_agent_of_ours_sends_is_refused() {
        let disk = |length| DiskSample { path: "x".repeat(length), ..DiskSample::default() };
        let fine = HostSample {
            disks: vec![disk(PATH_MAX_BYTES); DISKS_MAX],
            reasons: vec!["x".repeat(REASON_MAX_BYTES); REASONS_MAX],
            ..HostSample::default()
        };
        assert_eq!(too_much(&fine), None);
        for sample in [
            HostSample { disks: vec![disk(1); DISKS_MAX + 1], ..HostSample::default() },
            HostSample { disks: vec![disk(PATH_MAX_BYTES + 1)], ..HostSample::default() },
            HostSample { reasons: vec![String::new(); REASONS_MAX + 1], ..HostSample::default() },
            HostSample { reasons: vec!["x".repeat(REASON_MAX_BYTES + 1)], ..HostSample::default() },
        ] {
            assert!(too_much(&sample).is_some());
        }
    }
}
