use std::fs;

use super::*;

const DEV: &str = "Inter-|\n face |bytes\n  eth0: 10 0 0 0 0 0 0 0 20 0 0 0 0 0 0 0\n";

const V1: &[(&str, &str)] = &[
    (
        "proc/42/cgroup",
        "5:pids:/docker/0a1b\n4:blkio:/docker/0a1b\n3:memory:/docker/0a1b\n2:cpu,cpuacct:/docker/0a1b\n",
    ),
    ("proc/42/net/dev", DEV),
    // No short names: only under what the kernel calls it.
    ("cgroup/cpu,cpuacct/docker/0a1b/cpuacct.usage", "5000\n"),
    ("cgroup/cpu,cpuacct/docker/0a1b/cpu.stat", "nr_periods 4\nnr_throttled 2\nthrottled_time 7000\n"),
    ("cgroup/memory/docker/0a1b/memory.stat", "inactive_file 1\ntotal_inactive_file 40\n"),
    ("cgroup/memory/docker/0a1b/memory.usage_in_bytes", "100\n"),
    ("cgroup/memory/docker/0a1b/memory.limit_in_bytes", "4096\n"),
    ("cgroup/memory/docker/0a1b/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"),
    ("cgroup/blkio/docker/0a1b/blkio.throttle.io_service_bytes", "8:0 Read 30\n8:0 Write 31\nTotal 61\n"),
    ("cgroup/pids/docker/0a1b/pids.current", "3\n"),
];

const V2: &[(&str, &str)] = &[
    ("proc/42/cgroup", "0::/system.slice/docker-0a1b.scope\n"),
    ("proc/42/net/dev", DEV),
    (
        "cgroup/system.slice/docker-0a1b.scope/cpu.stat",
        "usage_usec 5\nnr_periods 4\nnr_throttled 2\nthrottled_usec 7\n",
    ),
    ("cgroup/system.slice/docker-0a1b.scope/memory.stat", "anon 60\ninactive_file 40\n"),
    ("cgroup/system.slice/docker-0a1b.scope/memory.current", "100\n"),
    ("cgroup/system.slice/docker-0a1b.scope/memory.max", "4096\n"),
    ("cgroup/system.slice/docker-0a1b.scope/memory.events", "low 0\noom 3\noom_kill 2\noom_group_kill 0\n"),
    ("cgroup/system.slice/docker-0a1b.scope/io.stat", "8:0 rbytes=30 wbytes=31 rios=1 wios=1\n"),
    ("cgroup/system.slice/docker-0a1b.scope/pids.current", "3\n"),
];

fn write(root: &Path, files: &[(&str, &str)]) {
    for (path, text) in files {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

fn container() -> RunningContainer {
    RunningContainer {
        container_id: "0a1b".into(),
        pid: 42,
        started_at: Timestamp::UNIX_EPOCH,
        memory_limit_bytes: None,
    }
}

fn expected() -> Reading {
    Reading {
        usage: Usage {
            cpu_nanos: Some(5_000),
            memory_bytes: Some(60),
            network_rx_bytes: Some(10),
            network_tx_bytes: Some(20),
            block_read_bytes: Some(30),
            block_write_bytes: Some(31),
            pids: Some(3),
            throttled_nanos: Some(7_000),
            oom_kills: Some(2),
        },
        memory_limit_bytes: Some(4096),
    }
}

#[test]
fn a_container_is_read_under_either_version() {
    for files in [V1, V2] {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), files);
        let mut reader = Reader::below(dir.path());
        assert_eq!(reader.read(&container()), Some(expected()));
        assert_eq!(reader.read_memory(&container()), Some(60));
    }
}

#[test]
fn what_a_kernel_does_not_have_is_left_out_and_is_not_nothing() {
    let dir = tempfile::tempdir().unwrap();
    write(
        dir.path(),
        &[
            ("proc/42/cgroup", "3:memory:/docker/0a1b\n2:cpuacct:/docker/0a1b\n"),
            ("cgroup/cpuacct/docker/0a1b/cpuacct.usage", "5000\n"),
            ("cgroup/memory/docker/0a1b/memory.stat", "total_inactive_file 40\n"),
            ("cgroup/memory/docker/0a1b/memory.usage_in_bytes", "100\n"),
        ],
    );
    let usage = Usage { cpu_nanos: Some(5000), memory_bytes: Some(60), ..Usage::default() };
    let reading = Reading { usage, memory_limit_bytes: None };
    assert_eq!(Reader::below(dir.path()).read(&container()), Some(reading));
}

#[test]
fn a_container_that_never_used_a_disk_used_nothing_of_it() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), V2);
    write(dir.path(), &[("cgroup/system.slice/docker-0a1b.scope/io.stat", "")]);
    let usage = Reader::below(dir.path()).read(&container()).unwrap().usage;
    assert_eq!((usage.block_read_bytes, usage.block_write_bytes), (Some(0), Some(0)));
}

#[test]
fn a_process_number_that_another_one_uses_by_now_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let other = [("proc/42/cgroup", "0::/other\n"), ("cgroup/other/memory.current", "1")];
    write(dir.path(), &other);
    assert_eq!(Reader::below(dir.path()).read(&container()), None);
}

#[test]
fn a_container_that_is_gone_is_not_read_even_if_it_was_known() {
    let dir = tempfile::tempdir().unwrap();
    let mut reader = Reader::below(dir.path());
    assert_eq!(reader.read(&container()), None);
    write(dir.path(), V2);
    assert!(reader.read(&container()).is_some());
    fs::remove_dir_all(dir.path().join("cgroup")).unwrap();
    assert_eq!((reader.read(&container()), reader.read_memory(&container())), (None, None));
    assert!(reader.known.is_empty());
}

#[test]
fn a_new_run_of_a_container_is_looked_up_again_and_one_that_is_not_wanted_is_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), V2);
    let mut reader = Reader::below(dir.path());
    assert!(reader.read(&container()).is_some());
    let again = RunningContainer { pid: 43, ..container() };
    assert_eq!(reader.read(&again), None, "the old process was read for the new one");
    write(dir.path(), &[("proc/43/cgroup", "0::/system.slice/docker-0a1b.scope\n")]);
    assert!(reader.read(&again).is_some());
    reader.retain(|id| id == "0a1b");
    assert_eq!(reader.known.len(), 1);
    reader.retain(|_| false);
    assert!(reader.known.is_empty());
}
