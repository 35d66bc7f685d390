//! Readings.

use domain::sample::InstanceSample;

use super::{ConvertError, Problem, id, timestamp, timestamp_message};
use crate::proto;

impl TryFrom<proto::InstanceSample> for InstanceSample {
    type Error = ConvertError;

    fn try_from(m: proto::InstanceSample) -> Result<Self, ConvertError> {
        if m.cpu_percent.is_some_and(|p| !p.is_finite() || p < 0.0) {
            return Err(ConvertError::new("cpu_percent", Problem::OutOfRange));
        }
        Ok(Self {
            instance_id: id("instance_id", &m.instance_id)?,
            at: timestamp("at", m.at)?,
            cpu_percent: m.cpu_percent,
            memory_bytes: m.memory_bytes,
            memory_limit_bytes: m.memory_limit_bytes,
            network_rx_bytes: m.network_rx_bytes,
            network_tx_bytes: m.network_tx_bytes,
        })
    }
}

impl From<&InstanceSample> for proto::InstanceSample {
    fn from(sample: &InstanceSample) -> Self {
        Self {
            instance_id: sample.instance_id.to_string(),
            at: Some(timestamp_message(&sample.at)),
            cpu_percent: sample.cpu_percent,
            memory_bytes: sample.memory_bytes,
            memory_limit_bytes: sample.memory_limit_bytes,
            network_rx_bytes: sample.network_rx_bytes,
            network_tx_bytes: sample.network_tx_bytes,
        }
    }
}
