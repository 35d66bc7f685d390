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
    let cpu = stats.cpu_stats.unwrap_or_default();
    // The engine puts what it reads from either version of cgroups under this name,
    // in lower case with version 2. An engine that has no figures leaves it out.
    let blocks = stats.blkio_stats.and_then(|stats| stats.io_service_bytes_recursive);
    let blocks = |wanted: &str| {
        let of_kind = |op: &Option<String>| op.as_ref().is_some_and(|op| op.eq_ignore_ascii_case(wanted));
        let entries = blocks.as_ref()?.iter().filter(|entry| of_kind(&entry.op));
        Some(entries.filter_map(|entry| entry.value).sum())
    };
    Usage {
        block_read_bytes: blocks("read"),
        block_write_bytes: blocks("write"),
        pids: stats.pids_stats.and_then(|pids| pids.current),
        throttled_nanos: cpu.throttling_data.and_then(|throttling| throttling.throttled_time),
        // The engine does not say.
        oom_kills: None,
        cpu_nanos: cpu.cpu_usage.and_then(|usage| usage.total_usage),
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
            "cpu_stats": { "cpu_usage": { "total_usage": 5 }, "throttling_data": { "throttled_time": 9 } },
            "pids_stats": { "current": 3 },
            "blkio_stats": { "io_service_bytes_recursive": [
                { "major": 8, "minor": 0, "op": "Read", "value": 10 }, { "major": 8, "minor": 0, "op": "Total", "value": 15 },
                { "major": 8, "minor": 1, "op": "read", "value": 1 }, { "major": 8, "minor": 0, "op": "Write", "value": 5 },
            ] },
            "memory_stats": { "usage": 100, "stats": { "inactive_file": 40 } },
            "networks": { "eth0": { "rx_bytes": 1, "tx_bytes": 2 }, "eth1": { "rx_bytes": 3, "tx_bytes": 4 } },
        });
        let usage = read(serde_json::from_value(stats).unwrap());
        let expected = Usage {
            cpu_nanos: Some(5),
            memory_bytes: Some(60),
            network_rx_bytes: Some(4),
            network_tx_bytes: Some(6),
            block_read_bytes: Some(11),
            block_write_bytes: Some(5),
            pids: Some(3),
            throttled_nanos: Some(9),
            oom_kills: None,
        };
        assert_eq!(usage, expected);
    }

    #[test]
    fn what_the_engine_does_not_say_is_none() {
        assert_eq!(read(ContainerStatsResponse::default()), Usage::default());
    }
}
