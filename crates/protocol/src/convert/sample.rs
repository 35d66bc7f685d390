//! Readings.

use domain::{
    node::NodeHealth,
    sample::{DiskSample, HostSample, InstanceSample, Pressure},
};

use super::{ConvertError, Problem, id, timestamp, timestamp_message, unknown};
use crate::proto;

impl TryFrom<proto::InstanceSample> for InstanceSample {
    type Error = ConvertError;

    fn try_from(m: proto::InstanceSample) -> Result<Self, ConvertError> {
        Ok(Self {
            instance_id: id("instance_id", &m.instance_id)?,
            at: timestamp("at", m.at)?,
            cpu_percent: sound("cpu_percent", m.cpu_percent)?,
            memory_bytes: m.memory_bytes,
            memory_limit_bytes: m.memory_limit_bytes,
            network_rx_bytes: m.network_rx_bytes,
            network_tx_bytes: m.network_tx_bytes,
            block_read_bytes: m.block_read_bytes,
            block_write_bytes: m.block_write_bytes,
            pids: m.pids,
            throttled_nanos: m.throttled_nanos,
            oom_kills: m.oom_kills,
            storage_bytes: m.storage_bytes,
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
            block_read_bytes: sample.block_read_bytes,
            block_write_bytes: sample.block_write_bytes,
            pids: sample.pids,
            throttled_nanos: sample.throttled_nanos,
            oom_kills: sample.oom_kills,
            storage_bytes: sample.storage_bytes,
        }
    }
}

impl TryFrom<proto::HostSample> for HostSample {
    type Error = ConvertError;

    fn try_from(m: proto::HostSample) -> Result<Self, ConvertError> {
        let loads = (sound("load1", m.load1)?, sound("load5", m.load5)?, sound("load15", m.load15)?);
        Ok(Self {
            at: timestamp("at", m.at)?,
            cpu_percent: sound("cpu_percent", m.cpu_percent)?,
            load: match loads {
                (Some(one), Some(five), Some(fifteen)) => Some([one, five, fifteen]),
                _ => None,
            },
            memory_bytes: m.memory_bytes,
            memory_available_bytes: m.memory_available_bytes,
            swap_bytes: m.swap_bytes,
            swap_free_bytes: m.swap_free_bytes,
            network_rx_bytes: m.network_rx_bytes,
            network_tx_bytes: m.network_tx_bytes,
            disks: m.disks.into_iter().map(Into::into).collect(),
            pressure: m
                .pressure
                .map(|m| Pressure::try_from(m).map_err(|e| e.within("pressure")))
                .transpose()?,
            health: match proto::NodeHealth::try_from(m.health) {
                Ok(proto::NodeHealth::Healthy) => NodeHealth::Healthy,
                Ok(proto::NodeHealth::Degraded) => NodeHealth::Degraded,
                Ok(proto::NodeHealth::Failing) => NodeHealth::Failing,
                Ok(proto::NodeHealth::Unspecified) | Err(_) => return Err(unknown("health", m.health)),
            },
            reasons: m.reasons,
        })
    }
}

impl From<&HostSample> for proto::HostSample {
    fn from(sample: &HostSample) -> Self {
        let health = match sample.health {
            NodeHealth::Healthy => proto::NodeHealth::Healthy,
            NodeHealth::Degraded => proto::NodeHealth::Degraded,
            NodeHealth::Failing => proto::NodeHealth::Failing,
        };
        let load = sample.load;
        Self {
            at: Some(timestamp_message(&sample.at)),
            cpu_percent: sample.cpu_percent,
            load1: load.map(|[one, ..]| one),
            load5: load.map(|[_, five, _]| five),
            load15: load.map(|[.., fifteen]| fifteen),
            memory_bytes: sample.memory_bytes,
            memory_available_bytes: sample.memory_available_bytes,
            swap_bytes: sample.swap_bytes,
            swap_free_bytes: sample.swap_free_bytes,
            network_rx_bytes: sample.network_rx_bytes,
            network_tx_bytes: sample.network_tx_bytes,
            disks: sample.disks.iter().map(Into::into).collect(),
            pressure: sample.pressure.map(Into::into),
            health: health.into(),
            reasons: sample.reasons.clone(),
        }
    }
}

impl From<proto::host_sample::Disk> for DiskSample {
    fn from(m: proto::host_sample::Disk) -> Self {
        Self {
            path: m.path,
            size_bytes: m.size_bytes,
            free_bytes: m.free_bytes,
            inodes: m.inodes,
            inodes_free: m.inodes_free,
        }
    }
}

impl From<&DiskSample> for proto::host_sample::Disk {
    fn from(disk: &DiskSample) -> Self {
        Self {
            path: disk.path.clone(),
            size_bytes: disk.size_bytes,
            free_bytes: disk.free_bytes,
            inodes: disk.inodes,
            inodes_free: disk.inodes_free,
        }
    }
}

impl TryFrom<proto::host_sample::Pressure> for Pressure {
    type Error = ConvertError;

    fn try_from(m: proto::host_sample::Pressure) -> Result<Self, ConvertError> {
        let part = |field: &str, value: f64| sound(field, Some(value)).map(Option::unwrap_or_default);
        Ok(Self {
            cpu_some: part("cpu_some", m.cpu_some)?,
            memory_some: part("memory_some", m.memory_some)?,
            memory_full: part("memory_full", m.memory_full)?,
            io_some: part("io_some", m.io_some)?,
            io_full: part("io_full", m.io_full)?,
        })
    }
}

impl From<Pressure> for proto::host_sample::Pressure {
    fn from(pressure: Pressure) -> Self {
        let Pressure { cpu_some, memory_some, memory_full, io_some, io_full } = pressure;
        Self { cpu_some, memory_some, memory_full, io_some, io_full }
    }
}

/// A figure that is a number, and not below nothing.
fn sound(field: &str, value: Option<f64>) -> Result<Option<f64>, ConvertError> {
    match value {
        Some(value) if !value.is_finite() || value < 0.0 => {
            Err(ConvertError::new(field, Problem::OutOfRange))
        }
        value => Ok(value),
    }
}
