//! What a container uses, by the engine's own measuring.

use bollard::models::ContainerStatsResponse;

use crate::runtime::Usage;

/// Reads the engine's figures as `docker stats` does.
pub(super) fn read(stats: ContainerStatsResponse) -> Usage {
    let memory = stats.memory_stats.unwrap_or_default();
    let parts = memory.stats.unwrap_or_default();
    // The first name is of cgroup version 1, the second of version 2.
    let inactive = parts.get("total_inactive_file").or_else(|| parts.get("inactive_file")).copied();
    let sum = |of: fn(&bollard::models::ContainerNetworkStats) -> Option<u64>| {
        let networks = stats.networks.as_ref()?;
        Some(networks.values().filter_map(of).sum())
    };
    Usage {
        cpu_nanos: stats.cpu_stats.and_then(|cpu| cpu.cpu_usage).and_then(|usage| usage.total_usage),
        memory_bytes: memory.usage.map(|usage| usage.saturating_sub(inactive.unwrap_or(0))),
        network_rx_bytes: sum(|network| network.rx_bytes),
        network_tx_bytes: sum(|network| network.tx_bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_as_docker_stats_shows_them() {
        let stats = serde_json::json!({
            "cpu_stats": { "cpu_usage": { "total_usage": 5 } },
            "memory_stats": { "usage": 100, "stats": { "inactive_file": 40 } },
            "networks": { "eth0": { "rx_bytes": 1, "tx_bytes": 2 }, "eth1": { "rx_bytes": 3, "tx_bytes": 4 } },
        });
        let usage = read(serde_json::from_value(stats).unwrap());
        let expected = Usage {
            cpu_nanos: Some(5),
            memory_bytes: Some(60),
            network_rx_bytes: Some(4),
            network_tx_bytes: Some(6),
        };
        assert_eq!(usage, expected);
    }

    #[test]
    fn what_the_engine_does_not_say_is_none() {
        assert_eq!(read(ContainerStatsResponse::default()), Usage::default());
    }
}
