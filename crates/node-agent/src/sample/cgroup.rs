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
    V1 {
        /// Below the `cpuacct` hierarchy.
        cpu: PathBuf,
        /// Below the `memory` hierarchy.
        memory: PathBuf,
    },
    /// One hierarchy for all.
    V2(PathBuf),
}

impl Group {
    /// Reads `/proc/<pid>/cgroup` of a container's process. Version 1 wins where both
    /// are there, because on such hosts version 2 has no controllers. `None` where
    /// the process is not of that container, or its group lies outside of what this
    /// process can see.
    pub(super) fn parse(text: &str, container_id: &str) -> Option<Self> {
        let inside = |path| inside(path, container_id);
        let lines = || text.lines().filter_map(line);
        let v1 = |wanted| lines().find(|(controllers, _)| controllers.split(',').any(|c| c == wanted));
        if let (Some((_, cpu)), Some((_, memory))) = (v1("cpuacct"), v1("memory")) {
            return Some(Self::V1 { cpu: inside(cpu)?, memory: inside(memory)? });
        }
        let (_, path) = lines().find(|(controllers, _)| controllers.is_empty())?;
        inside(path).map(Self::V2)
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

/// The working set as `docker stats` shows it: usage without the file cache that
/// the kernel would give back first. `inactive` is the name of that line in
/// `memory.stat`: `total_inactive_file` in version 1, `inactive_file` in version 2.
pub(super) fn working_set(usage: &str, memory_stat: &str, inactive: &str) -> Option<u64> {
    Some(number(usage)?.saturating_sub(value(memory_stat, inactive).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const V1: &str = "\
12:pids:/docker/0a1b
11:blkio:/docker/0a1b
7:memory:/docker/0a1b
5:cpu,cpuacct:/docker/0a1b
1:name=systemd:/docker/0a1b
0::/system.slice/containerd.service
";
    const V2: &str = "0::/system.slice/docker-0a1b.scope\n";

    #[test]
    fn version_1_is_found_in_its_hierarchies() {
        let path = PathBuf::from("docker/0a1b");
        assert_eq!(Group::parse(V1, "0a1b"), Some(Group::V1 { cpu: path.clone(), memory: path }));
    }

    #[test]
    fn version_2_is_found_in_its_one_hierarchy() {
        let group = Some(Group::V2("system.slice/docker-0a1b.scope".into()));
        assert_eq!(Group::parse(V2, "0a1b"), group);
        let below = "0::/system.slice/docker-0a1b.scope/init.scope\n";
        assert_eq!(Group::parse(below, "0a1b"), group, "a part was taken for the whole");
    }

    #[test]
    fn a_group_outside_of_our_namespace_or_of_another_container_is_not_found() {
        assert_eq!(Group::parse("0::/../docker-0a1b.scope\n", "0a1b"), None);
        assert_eq!(Group::parse(V1, "ffff"), None);
        assert_eq!(Group::parse(V2, "ffff"), None);
        assert_eq!(Group::parse("", "0a1b"), None);
        assert_eq!(Group::parse("nonsense\n5:cpuacct", "0a1b"), None);
    }

    #[test]
    fn values_of_version_1() {
        let stat = "cache 8192\ninactive_file 1\ntotal_cache 8192\ntotal_inactive_file 4096\n";
        assert_eq!(working_set("1052672\n", stat, "total_inactive_file"), Some(1_048_576));
        assert_eq!(limit("67108864\n"), Some(67_108_864));
        assert_eq!(limit("9223372036854771712\n"), None);
    }

    #[test]
    fn values_of_version_2() {
        let cpu = "usage_usec 1234567\nuser_usec 1000000\nsystem_usec 234567\nnr_periods 0\n";
        assert_eq!(cpu_nanos(cpu), Some(1_234_567_000));
        let stat = "anon 100\nfile 300\ninactive_anon 7\ninactive_file 200\n";
        assert_eq!(working_set("1000\n", stat, "inactive_file"), Some(800));
        assert_eq!(limit("max\n"), None);
    }

    #[test]
    fn a_cache_that_outgrew_the_usage_in_between_gives_nothing_negative() {
        assert_eq!(working_set("100", "inactive_file 200", "inactive_file"), Some(0));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(.|\n){0,200}") {
            let _ = (Group::parse(&text, "a"), cpu_nanos(&text), limit(&text), working_set(&text, &text, "a"));
        }
    }
}
