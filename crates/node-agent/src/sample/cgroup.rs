//! What the kernel writes into the files of a control group, of both versions.
//! Pure: text in, numbers out.

use std::path::{Component, Path, PathBuf};

/// A limit from here on means none: version 1 writes the largest multiple of a
/// page that fits, which differs between architectures.
const NO_LIMIT: u64 = 1 << 62;

/// Where the files of one process's control group are, below `/sys/fs/cgroup`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Group {
    /// One hierarchy for each controller.
    V1(Box<V1>),
    /// One hierarchy for all.
    V2(PathBuf),
}

/// The hierarchies of version 1. Those without which there is nothing to read are
/// there; the others may be missing in a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct V1 {
    pub(super) cpuacct: Place,
    pub(super) memory: Place,
    pub(super) cpu: Option<Place>,
    pub(super) blkio: Option<Place>,
    pub(super) pids: Option<Place>,
}

/// A group in one hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The names under which the hierarchy may be mounted: its controller's, and all
    /// of its controllers as the kernel lists them. One is often a link to the other.
    pub(super) mounts: [String; 2],
    /// Below that.
    pub(super) path: PathBuf,
}

impl Group {
    /// Reads `/proc/<pid>/cgroup` of a container's process. Version 1 wins where both
    /// are there, because on such hosts version 2 has no controllers. `None` where
    /// the process is not of that container, or its group lies outside of what this
    /// process can see.
    pub(super) fn parse(text: &str, container_id: &str) -> Option<Self> {
        let lines = || text.lines().filter_map(line);
        let v1 = |wanted: &str| {
            let (listed, path) = lines().find(|(all, _)| all.split(',').any(|one| one == wanted))?;
            Some(Place { mounts: [wanted.to_owned(), listed.to_owned()], path: inside(path, container_id)? })
        };
        let names = |wanted: &str| lines().any(|(all, _)| all.split(',').any(|one| one == wanted));
        if names("cpuacct") && names("memory") {
            return Some(Self::V1(Box::new(V1 {
                cpuacct: v1("cpuacct")?,
                memory: v1("memory")?,
                cpu: v1("cpu"),
                blkio: v1("blkio"),
                pids: v1("pids"),
            })));
        }
        let (_, path) = lines().find(|(controllers, _)| controllers.is_empty())?;
        inside(path, container_id).map(Self::V2)
    }
}

/// Controllers and path of a line such as `4:cpu,cpuacct:/docker/<id>`.
fn line(text: &str) -> Option<(&str, &str)> {
    let (_, rest) = text.split_once(':')?;
    rest.split_once(':')
}

/// The container's own group, relative to the hierarchy's root: what follows its id
/// was made inside (by an init system, say) and is only a part of it. A path with
/// `..` is of a namespace above this process's own.
fn inside(path: &str, container_id: &str) -> Option<PathBuf> {
    let mut group = PathBuf::new();
    for component in Path::new(path).strip_prefix("/").ok()?.components() {
        let Component::Normal(name) = component else { return None };
        group.push(name);
        if name.to_str().is_some_and(|name| name.contains(container_id)) {
            return Some(group);
        }
    }
    None
}

/// A file that holds one number.
pub(super) fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// A limit: `None` where there is none.
pub(super) fn limit(text: &str) -> Option<u64> {
    number(text).filter(|limit| *limit < NO_LIMIT)
}

/// A value in a file of `name value` lines.
pub(super) fn value(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(' ')?;
        if key == name { number(value) } else { None }
    })
}

/// CPU time in nanoseconds, from version 2's `cpu.stat`.
pub(super) fn cpu_nanos(cpu_stat: &str) -> Option<u64> {
    value(cpu_stat, "usage_usec")?.checked_mul(1000)
}

/// Time in which a CPU limit held a group back, from version 2's `cpu.stat`.
pub(super) fn throttled_nanos(cpu_stat: &str) -> Option<u64> {
    value(cpu_stat, "throttled_usec")?.checked_mul(1000)
}

/// Bytes read and written, over all devices, from a `blkio` file of version 1:
/// lines such as `8:0 Read 4096`. A group that never used a disk has none.
pub(super) fn blkio_bytes(text: &str) -> (u64, u64) {
    text.lines().fold((0, 0), |(read, written): (u64, u64), line| {
        let mut words = line.split_ascii_whitespace();
        // The line of the total has no device, and so no third word.
        let (_, kind, bytes) = (words.next(), words.next(), words.next().and_then(number));
        match (kind, bytes) {
            (Some("Read"), Some(bytes)) => (read.saturating_add(bytes), written),
            (Some("Write"), Some(bytes)) => (read, written.saturating_add(bytes)),
            _ => (read, written),
        }
    })
}

/// Bytes read and written, over all devices, from version 2's `io.stat`: lines such
/// as `8:0 rbytes=4096 wbytes=0 rios=1 wios=0`. A group that never used a disk has none.
pub(super) fn io_stat_bytes(text: &str) -> (u64, u64) {
    let words = text.lines().flat_map(str::split_ascii_whitespace);
    words.fold((0, 0), |(read, written): (u64, u64), word| match word.split_once('=') {
        Some(("rbytes", bytes)) => (read.saturating_add(number(bytes).unwrap_or(0)), written),
        Some(("wbytes", bytes)) => (read, written.saturating_add(number(bytes).unwrap_or(0))),
        _ => (read, written),
    })
}

/// The working set as `docker stats` shows it: usage without the file cache that
/// the kernel would give back first. `inactive` is the name of that line in
/// `memory.stat`: `total_inactive_file` in version 1, `inactive_file` in version 2.
/// `None` where the text is empty, as it is where a group has just gone.
pub(super) fn working_set(usage: u64, memory_stat: &str, inactive: &str) -> Option<u64> {
    let inactive = value(memory_stat, inactive);
    (!memory_stat.is_empty()).then(|| usage.saturating_sub(inactive.unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const V1_TEXT: &str = "\
12:pids:/docker/0a1b
11:blkio:/docker/0a1b
7:memory:/docker/0a1b
5:cpu,cpuacct:/docker/0a1b
1:name=systemd:/docker/0a1b
0::/system.slice/containerd.service
";
    const V2_TEXT: &str = "0::/system.slice/docker-0a1b.scope\n";

    fn place(mounts: [&str; 2]) -> Place {
        Place { mounts: mounts.map(ToOwned::to_owned), path: "docker/0a1b".into() }
    }

    #[test]
    fn version_1_is_found_in_its_hierarchies() {
        let expected = V1 {
            cpuacct: place(["cpuacct", "cpu,cpuacct"]),
            memory: place(["memory", "memory"]),
            cpu: Some(place(["cpu", "cpu,cpuacct"])),
            blkio: Some(place(["blkio", "blkio"])),
            pids: Some(place(["pids", "pids"])),
        };
        assert_eq!(Group::parse(V1_TEXT, "0a1b"), Some(Group::V1(Box::new(expected))));
    }

    #[test]
    fn a_kernel_without_some_controllers_has_the_others() {
        let text = "3:memory:/docker/0a1b\n2:cpuacct:/docker/0a1b\n";
        let Some(Group::V1(found)) = Group::parse(text, "0a1b") else { panic!("not found") };
        assert_eq!((found.cpu, found.blkio, found.pids), (None, None, None));
    }

    #[test]
    fn version_2_is_found_in_its_one_hierarchy() {
        let group = Some(Group::V2("system.slice/docker-0a1b.scope".into()));
        assert_eq!(Group::parse(V2_TEXT, "0a1b"), group);
        let below = "0::/system.slice/docker-0a1b.scope/init.scope\n";
        assert_eq!(Group::parse(below, "0a1b"), group, "a part was taken for the whole");
    }

    #[test]
    fn a_group_outside_of_our_namespace_or_of_another_container_is_not_found() {
        assert_eq!(Group::parse("0::/../docker-0a1b.scope\n", "0a1b"), None);
        assert_eq!(Group::parse(V1_TEXT, "ffff"), None);
        assert_eq!(Group::parse(V2_TEXT, "ffff"), None);
        assert_eq!(Group::parse("", "0a1b"), None);
        assert_eq!(Group::parse("nonsense\n5:cpuacct", "0a1b"), None);
    }

    #[test]
    fn values_of_version_1() {
        let stat = "cache 8192\ninactive_file 1\ntotal_cache 8192\ntotal_inactive_file 4096\n";
        assert_eq!(working_set(1_052_672, stat, "total_inactive_file"), Some(1_048_576));
        assert_eq!(limit("67108864\n"), Some(67_108_864));
        assert_eq!(limit("9223372036854771712\n"), None);
        let io = "8:0 Read 4096\n8:0 Write 1\n8:0 Sync 4097\n8:0 Total 4097\n8:16 Read 4\nTotal 4101\n";
        assert_eq!((blkio_bytes(io), blkio_bytes("Total 0\n")), ((4100, 1), (0, 0)));
        assert_eq!(value("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n", "oom_kill"), Some(2));
    }

    #[test]
    fn values_of_version_2() {
        let cpu = "usage_usec 1234567\nuser_usec 1000000\nsystem_usec 234567\nnr_periods 9\nnr_throttled 3\nthrottled_usec 250\n";
        assert_eq!((cpu_nanos(cpu), throttled_nanos(cpu)), (Some(1_234_567_000), Some(250_000)));
        let io = "253:0 rbytes=4096 wbytes=1 rios=1 wios=1 dbytes=9 dios=1\n8:0 rbytes=4 wbytes=10\n7:0 \n";
        assert_eq!((io_stat_bytes(io), io_stat_bytes("")), ((4100, 11), (0, 0)));
        let stat = "anon 100\nfile 300\ninactive_anon 7\ninactive_file 200\n";
        assert_eq!(working_set(1000, stat, "inactive_file"), Some(800));
        assert_eq!(limit("max\n"), None);
    }

    #[test]
    fn a_cache_that_outgrew_the_usage_in_between_gives_nothing_negative() {
        assert_eq!(working_set(100, "inactive_file 200", "inactive_file"), Some(0));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(.|\n){0,200}") {
            let _ = (Group::parse(&text, "a"), cpu_nanos(&text), limit(&text), working_set(1, &text, "a"));
            let _ = (throttled_nanos(&text), blkio_bytes(&text), io_stat_bytes(&text));
        }

        #[test]
        fn no_number_panics(a: u64, b: u64) {
            let text = format!("8:0 Read {a}\n8:1 Read {b}\n");
            prop_assert_eq!(blkio_bytes(&text), (a.saturating_add(b), 0));
            let text = format!("8:0 rbytes={a} wbytes={b}\n8:1 rbytes={b}");
            prop_assert_eq!(io_stat_bytes(&text), (a.saturating_add(b), b));
            let _ = (throttled_nanos(&format!("throttled_usec {a}")), cpu_nanos(&format!("usage_usec {a}")));
        }
    }
}
