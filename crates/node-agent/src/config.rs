//! The agent's configuration: a file, then the environment, then the command line.

use std::{ffi::OsString, fmt, path::Path, path::PathBuf, time::Duration};

use daemon::{
    config::{ConfigError, Source, load, process_environment},
    logging::LogFormat,
};
use domain::{
    node_health::{Threshold, Thresholds},
    spec::policy::Policy,
};
use serde::{Deserialize, Deserializer, de};

use crate::{
    housekeeping,
    pull::{LoginSource, Logins},
    runtime::docker::HouseRules,
    storage,
};

const DEFAULT_FILE: &str = "/etc/automator67/agent.toml";
const PREFIX: &str = "A67_AGENT_";
/// A key of the controller's that has our prefix: what it tells agents to dial.
const FOREIGN: &[&str] = &["A67_AGENT_URL"];

/// Every key, with its default.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Where the agent keeps its files.
    pub data_dir: PathBuf,
    /// Where the engine listens: `unix:///path` or `tcp://host:port`.
    pub docker_host: String,
    /// Where files with secrets are put for containers: a directory in memory, which
    /// the engine sees under the same path.
    pub secrets_dir: PathBuf,
    /// Where published ports are reached; without it, the local address that the
    /// controller is reached from.
    pub address: Option<String>,
    /// What is logged.
    pub log: String,
    /// How it looks.
    pub log_format: LogFormat,
    /// Most actions at once; see [`crate::reconcile::Settings`].
    pub max_parallel_actions: usize,
    /// Whether containers may be privileged, or have what comes to the same.
    pub allow_privileged: bool,
    /// Whether containers may be in the host's network.
    pub allow_host_network: bool,
    /// Paths of the host that containers may mount, with all that is below them.
    pub bind_paths: List,
    /// Devices of the host that containers may use; a directory stands for all below it.
    pub device_paths: List,
    /// Whether commands may be run in containers.
    pub allow_exec: bool,
    /// Registries that images may come from, such as `docker.io` or `ghcr.io/team`;
    /// empty means all.
    pub allowed_registries: List,
    /// Host ports that are chosen from where a spec fixes none, such as
    /// `30000-32767`; the engine chooses when left out.
    pub port_range: Option<String>,
    /// How often writable layers are measured, where the engine keeps none within a
    /// limit.
    pub storage_period_seconds: u64,
    /// Whether images, networks and containers that nobody needs are cleared away.
    pub housekeeping: bool,
    /// How often that is looked into.
    pub housekeeping_period_seconds: u64,
    /// How long an image or volume stays that nobody uses.
    pub housekeeping_keep_hours: u64,
    /// Disk use, in percent, from which unused images go sooner.
    pub housekeeping_watermark_percent: u8,
    /// Whether volumes that were made for containers, and that nobody uses, go too.
    pub housekeeping_volumes: bool,
    /// A file with logins for registries, in the format of Docker's `config.json`.
    pub registry_auth_file: Option<PathBuf>,
    /// Free space of a file system in percent; see [`Thresholds`] for all of these.
    pub health_disk_free_percent: Levels,
    /// Free inodes of a file system in percent.
    pub health_inodes_free_percent: Levels,
    /// Available memory in percent.
    pub health_memory_available_percent: Levels,
    /// Time in which all tasks waited for memory, in percent.
    pub health_memory_pressure_percent: Levels,
    /// Time in which all tasks waited for disks, in percent.
    pub health_io_pressure_percent: Levels,
    /// Time in which tasks waited for a CPU, in percent.
    pub health_cpu_pressure_percent: Levels,
    /// Runnable tasks for each CPU.
    pub health_load_per_cpu: Levels,
}

/// Two numbers: from where on the host is degraded, and from where on it is failing.
/// In a file a list, in the environment separated by a comma.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Levels(pub Threshold);

impl<'de> Deserialize<'de> for Levels {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(LevelsVisitor)
    }
}

struct LevelsVisitor;

impl<'de> de::Visitor<'de> for LevelsVisitor {
    type Value = Levels;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("two numbers, degraded and failing, or one text with a comma between them")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Levels, E> {
        let numbers = text.split_once(',').and_then(|(degraded, failing)| {
            Some(Threshold { degraded: degraded.trim().parse().ok()?, failing: failing.trim().parse().ok()? })
        });
        numbers.map(Levels).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut items: A) -> Result<Levels, A::Error> {
        let mut next = || items.next_element::<f64>()?.ok_or_else(|| de::Error::invalid_length(1, &self));
        let threshold = Threshold { degraded: next()?, failing: next()? };
        match items.next_element::<f64>()? {
            None => Ok(Levels(threshold)),
            Some(_) => Err(de::Error::invalid_length(3, &self)),
        }
    }
}

/// A list: in a file as such, in the environment separated by commas.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct List(pub Vec<String>);

impl<'de> Deserialize<'de> for List {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(ListVisitor)
    }
}

struct ListVisitor;

impl<'de> de::Visitor<'de> for ListVisitor {
    type Value = List;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of texts, or one text with commas between them")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<List, E> {
        Ok(List(text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()))
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut items: A) -> Result<List, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(List(list))
    }
}

impl Default for Config {
    fn default() -> Self {
        let healthy = Thresholds::default();
        Self {
            data_dir: "/var/lib/automator67/agent".into(),
            docker_host: "unix:///var/run/docker.sock".into(),
            secrets_dir: "/run/automator67-agent/secrets".into(),
            address: None,
            log: "info".into(),
            log_format: LogFormat::Auto,
            max_parallel_actions: 8,
            allow_privileged: false,
            allow_host_network: false,
            bind_paths: List::default(),
            device_paths: List::default(),
            allow_exec: true,
            allowed_registries: List::default(),
            port_range: None,
            storage_period_seconds: 60,
            housekeeping: true,
            housekeeping_period_seconds: 600,
            housekeeping_keep_hours: 168,
            housekeeping_watermark_percent: 85,
            housekeeping_volumes: false,
            health_disk_free_percent: Levels(healthy.disk_free_percent),
            health_inodes_free_percent: Levels(healthy.inodes_free_percent),
            health_memory_available_percent: Levels(healthy.memory_available_percent),
            health_memory_pressure_percent: Levels(healthy.memory_pressure_percent),
            health_io_pressure_percent: Levels(healthy.io_pressure_percent),
            health_cpu_pressure_percent: Levels(healthy.cpu_pressure_percent),
            health_load_per_cpu: Levels(healthy.load_per_cpu),
            registry_auth_file: None,
        }
    }
}

/// Why the configuration cannot be used. Shows keys, never values.
#[derive(Debug, thiserror::Error)]
pub enum InvalidConfig {
    /// It cannot be read.
    #[error(transparent)]
    Load(#[from] ConfigError),
    /// A value is out of range.
    #[error("use the configuration: {key} ({PREFIX}{}) {allowed}", key.to_uppercase())]
    Range {
        /// Which.
        key: &'static str,
        /// What is allowed.
        allowed: &'static str,
    },
}

impl Config {
    /// Loads and checks it.
    ///
    /// # Errors
    /// Naming the key that is wrong.
    pub fn load(file: Option<PathBuf>) -> Result<Self, InvalidConfig> {
        Self::read(file, process_environment())
    }

    fn read(file: Option<PathBuf>, environment: Vec<(OsString, OsString)>) -> Result<Self, InvalidConfig> {
        let default_file = Path::new(DEFAULT_FILE);
        let source = Source { file, default_file, prefix: PREFIX, foreign: FOREIGN, environment };
        let config: Self = load(source)?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), InvalidConfig> {
        if !(1..=64).contains(&self.max_parallel_actions) {
            let allowed = "must be 1 to 64";
            return Err(InvalidConfig::Range { key: "max_parallel_actions", allowed });
        }
        for (key, paths) in [("bind_paths", &self.bind_paths), ("device_paths", &self.device_paths)] {
            if !paths.0.iter().all(|path| is_plain_path(path)) {
                return Err(InvalidConfig::Range { key, allowed: "must be absolute paths, without '..'" });
            }
        }
        if !self.secrets_dir.to_str().is_some_and(is_plain_path) {
            let allowed = "must be an absolute path, without '..'";
            return Err(InvalidConfig::Range { key: "secrets_dir", allowed });
        }
        if !self.allowed_registries.0.iter().all(|registry| is_registry(registry)) {
            let allowed = "must be registries such as docker.io or ghcr.io/team, without a scheme";
            return Err(InvalidConfig::Range { key: "allowed_registries", allowed });
        }
        if self.port_range.is_some() && self.ports().is_none() {
            let allowed = "must be two ports from 1 to 65535, such as 30000-32767";
            return Err(InvalidConfig::Range { key: "port_range", allowed });
        }
        for (key, value, range, allowed) in [
            ("storage_period_seconds", self.storage_period_seconds, 10..=86_400, "must be 10 to 86400"),
            (
                "housekeeping_period_seconds",
                self.housekeeping_period_seconds,
                10..=86_400,
                "must be 10 to 86400",
            ),
            ("housekeeping_keep_hours", self.housekeeping_keep_hours, 1..=8760, "must be 1 to 8760"),
            (
                "housekeeping_watermark_percent",
                self.housekeeping_watermark_percent.into(),
                10..=100,
                "must be 10 to 100",
            ),
        ] {
            if !range.contains(&value) {
                return Err(InvalidConfig::Range { key, allowed });
            }
        }
        if self.registry_auth_file.as_ref().is_some_and(|path| !path.is_absolute()) {
            let allowed = "must be an absolute path";
            return Err(InvalidConfig::Range { key: "registry_auth_file", allowed });
        }
        self.check_health()
    }

    fn check_health(&self) -> Result<(), InvalidConfig> {
        /// Key, value, most, whether the two are in order, what is allowed.
        type Check = (&'static str, Levels, f64, fn(Threshold) -> bool, &'static str);
        const LOW: &str =
            "must be two numbers from 0 to 100, the second no more than the first; 0 means never";
        const HIGH: &str =
            "must be two numbers from 0 to 100, the second no less than the first; 0 means never";
        const LOAD: &str =
            "must be two numbers from 0 to 10000, the second no less than the first; 0 means never";
        let low = |t: Threshold| t.failing <= t.degraded || t.degraded == 0.0;
        let high = |t: Threshold| t.failing >= t.degraded || t.failing == 0.0;
        let checks: [Check; 7] = [
            ("health_disk_free_percent", self.health_disk_free_percent, 100.0, low, LOW),
            ("health_inodes_free_percent", self.health_inodes_free_percent, 100.0, low, LOW),
            ("health_memory_available_percent", self.health_memory_available_percent, 100.0, low, LOW),
            ("health_memory_pressure_percent", self.health_memory_pressure_percent, 100.0, high, HIGH),
            ("health_io_pressure_percent", self.health_io_pressure_percent, 100.0, high, HIGH),
            ("health_cpu_pressure_percent", self.health_cpu_pressure_percent, 100.0, high, HIGH),
            ("health_load_per_cpu", self.health_load_per_cpu, 10_000.0, high, LOAD),
        ];
        for (key, Levels(threshold), most, in_order, allowed) in checks {
            let within = |number: f64| (0.0..=most).contains(&number);
            if !within(threshold.degraded) || !within(threshold.failing) || !in_order(threshold) {
                return Err(InvalidConfig::Range { key, allowed });
            }
        }
        Ok(())
    }

    /// How writable layers are measured.
    #[must_use]
    pub fn storage(&self) -> storage::Settings {
        let period = Duration::from_secs(self.storage_period_seconds);
        storage::Settings { period, ..storage::Settings::default() }
    }

    /// What is cleared away, and when.
    #[must_use]
    pub fn housekeeping(&self) -> housekeeping::Settings {
        let policy = domain::housekeeping::Policy {
            keep_unused: Duration::from_secs(self.housekeeping_keep_hours * 3600),
            watermark_percent: self.housekeeping_watermark_percent,
            volumes: self.housekeeping_volumes,
        };
        let period = Duration::from_secs(self.housekeeping_period_seconds);
        housekeeping::Settings { on: self.housekeeping, policy, period, ..housekeeping::Settings::default() }
    }

    /// What counts as too little or too much on this host.
    #[must_use]
    pub fn health_thresholds(&self) -> Thresholds {
        Thresholds {
            disk_free_percent: self.health_disk_free_percent.0,
            inodes_free_percent: self.health_inodes_free_percent.0,
            memory_available_percent: self.health_memory_available_percent.0,
            memory_pressure_percent: self.health_memory_pressure_percent.0,
            io_pressure_percent: self.health_io_pressure_percent.0,
            cpu_pressure_percent: self.health_cpu_pressure_percent.0,
            load_per_cpu: self.health_load_per_cpu.0,
        }
    }

    /// Where logins for registries come from.
    #[must_use]
    pub fn logins(&self) -> Logins {
        Logins(self.registry_auth_file.iter().cloned().map(LoginSource::File).collect())
    }

    fn ports(&self) -> Option<(u16, u16)> {
        let (first, last) = self.port_range.as_deref()?.split_once('-')?;
        let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        (0 < first && first <= last).then_some((first, last))
    }

    /// What this node refuses and chooses, whatever its controller says.
    #[must_use]
    pub fn house_rules(&self) -> HouseRules {
        let policy = Policy {
            privileged: self.allow_privileged,
            host_network: self.allow_host_network,
            bind_paths: self.bind_paths.0.clone(),
            device_paths: self.device_paths.0.clone(),
            exec: self.allow_exec,
            registries: self.allowed_registries.0.clone(),
        };
        HouseRules { policy, port_range: self.ports() }
    }

    /// What is logged, less what would put secrets into the log: the library that
    /// talks to the engine writes out whole bodies, environment variables and all,
    /// when it is asked for detail (I7).
    #[must_use]
    pub fn log_filter(&self) -> String {
        let detail = |directive: &&str| !directive.trim_start().starts_with("bollard");
        let kept: Vec<_> = self.log.split(',').filter(detail).collect();
        // Without a level of its own it would take the one for everything.
        let cap = if self.log.trim() == "off" { "bollard=off" } else { "bollard=info" };
        [kept.join(",").as_str(), cap].join(",").trim_start_matches(',').to_owned()
    }
}

fn is_plain_path(path: &str) -> bool {
    path.starts_with('/') && path.split('/').all(|part| part != "..") && !path.contains(char::is_control)
}

fn is_registry(text: &str) -> bool {
    !text.starts_with('/')
        && !text.contains("://")
        && !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':' | b'/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Config, InvalidConfig> {
        let environment = variables.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        let none = tempfile::NamedTempFile::new().unwrap();
        Config::read(Some(none.path().to_owned()), environment)
    }

    #[test]
    fn the_environment_sets_keys_and_the_rest_keeps_its_defaults() {
        let config = read(&[("A67_AGENT_ADDRESS", "192.0.2.7"), ("A67_AGENT_MAX_PARALLEL_ACTIONS", "3")]);
        let config = config.unwrap();
        assert_eq!((config.address.as_deref(), config.max_parallel_actions), (Some("192.0.2.7"), 3));
        assert_eq!(config.docker_host, "unix:///var/run/docker.sock");
    }

    #[test]
    fn a_node_that_was_told_nothing_keeps_containers_from_the_host() {
        let rules = read(&[]).unwrap().house_rules();
        assert_eq!(rules, HouseRules { policy: Policy::default(), port_range: None });
    }

    #[test]
    fn the_settings_of_one_who_was_told_nothing_are_the_rooms_own() {
        let config = read(&[("A67_AGENT_HOUSEKEEPING_VOLUMES", "true")]).unwrap();
        let (ours, theirs) = (config.housekeeping(), housekeeping::Settings::default());
        assert_eq!(ours.policy, domain::housekeeping::Policy { volumes: true, ..theirs.policy });
        assert_eq!((ours.on, ours.period), (theirs.on, theirs.period));
        assert_eq!(config.storage().period, storage::Settings::default().period);
    }

    #[test]
    fn lists_are_written_with_commas_in_the_environment_and_as_lists_in_a_file() {
        let rules = read(&[
            ("A67_AGENT_BIND_PATHS", "/srv/data, /mnt"),
            ("A67_AGENT_DEVICE_PATHS", "/dev/fuse"),
            ("A67_AGENT_ALLOWED_REGISTRIES", "docker.io"),
            ("A67_AGENT_ALLOW_PRIVILEGED", "true"),
            ("A67_AGENT_ALLOW_EXEC", "false"),
            ("A67_AGENT_PORT_RANGE", "30000-32767"),
        ]);
        let rules = rules.unwrap().house_rules();
        assert_eq!(rules.policy.bind_paths, ["/srv/data", "/mnt"]);
        assert_eq!(rules.policy.device_paths, ["/dev/fuse"]);
        assert_eq!(rules.policy.registries, ["docker.io"]);
        assert!(rules.policy.privileged && !rules.policy.host_network && !rules.policy.exec);
        assert_eq!(rules.port_range, Some((30_000, 32_767)));

        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, "bind_paths = [\"/srv/data\"]\nallow_host_network = true\n").unwrap();
        let rules = Config::read(Some(file.path().to_owned()), Vec::new()).unwrap().house_rules();
        assert_eq!(rules.policy.bind_paths, ["/srv/data"]);
        assert!(rules.policy.host_network);
    }

    #[test]
    fn a_rule_that_would_not_mean_what_it_says_is_refused() {
        for (variable, value) in [
            ("A67_AGENT_BIND_PATHS", "srv"),
            ("A67_AGENT_BIND_PATHS", "/srv/../etc"),
            ("A67_AGENT_DEVICE_PATHS", "fuse"),
            ("A67_AGENT_ALLOWED_REGISTRIES", "https://ghcr.io"),
            ("A67_AGENT_PORT_RANGE", "0-10"),
            ("A67_AGENT_PORT_RANGE", "9000-8000"),
            ("A67_AGENT_PORT_RANGE", "8000"),
            ("A67_AGENT_STORAGE_PERIOD_SECONDS", "9"),
            ("A67_AGENT_HOUSEKEEPING_KEEP_HOURS", "0"),
            ("A67_AGENT_HOUSEKEEPING_WATERMARK_PERCENT", "101"),
            ("A67_AGENT_REGISTRY_AUTH_FILE", "config.json"),
        ] {
            let error = read(&[(variable, value)]).unwrap_err().to_string();
            assert!(error.contains(variable), "{variable}={value}: {error}");
        }
    }

    #[test]
    fn what_counts_as_too_little_is_two_numbers() {
        assert_eq!(read(&[]).unwrap().health_thresholds(), Thresholds::default());
        let config = read(&[
            ("A67_AGENT_HEALTH_DISK_FREE_PERCENT", "15, 2.5"),
            ("A67_AGENT_HEALTH_LOAD_PER_CPU", "0,0"),
            ("A67_AGENT_HEALTH_CPU_PRESSURE_PERCENT", "90,0"),
        ]);
        let thresholds = config.unwrap().health_thresholds();
        let expected = Thresholds {
            disk_free_percent: Threshold { degraded: 15.0, failing: 2.5 },
            load_per_cpu: Threshold { degraded: 0.0, failing: 0.0 },
            cpu_pressure_percent: Threshold { degraded: 90.0, failing: 0.0 },
            ..Thresholds::default()
        };
        assert_eq!(thresholds, expected);

        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, "health_memory_available_percent = [20, 5.5]\n").unwrap();
        let thresholds = Config::read(Some(file.path().to_owned()), Vec::new()).unwrap().health_thresholds();
        assert_eq!(thresholds.memory_available_percent, Threshold { degraded: 20.0, failing: 5.5 });

        for (variable, value) in [
            ("A67_AGENT_HEALTH_DISK_FREE_PERCENT", "10"),
            ("A67_AGENT_HEALTH_DISK_FREE_PERCENT", "3,10"),
            ("A67_AGENT_HEALTH_DISK_FREE_PERCENT", "101,10"),
            ("A67_AGENT_HEALTH_INODES_FREE_PERCENT", "10,-1"),
            ("A67_AGENT_HEALTH_MEMORY_AVAILABLE_PERCENT", "NaN,1"),
            ("A67_AGENT_HEALTH_MEMORY_PRESSURE_PERCENT", "40,10"),
            ("A67_AGENT_HEALTH_LOAD_PER_CPU", "4,1e9"),
        ] {
            let error = read(&[(variable, value)]).unwrap_err();
            let mut text = error.to_string();
            let mut source = std::error::Error::source(&error);
            while let Some(inner) = source {
                text.push_str(&inner.to_string());
                source = inner.source();
            }
            assert!(
                text.to_uppercase().contains(&variable["A67_AGENT_".len()..]),
                "{variable}={value}: {text}"
            );
        }
    }

    #[test]
    fn a_wrong_key_or_value_is_named() {
        let unknown = read(&[("A67_AGENT_DOKCER_HOST", "x")]).unwrap_err().to_string();
        assert!(unknown.contains("A67_AGENT_DOKCER_HOST") && unknown.contains("A67_AGENT_DOCKER_HOST"));
        let range = read(&[("A67_AGENT_MAX_PARALLEL_ACTIONS", "0")]).unwrap_err().to_string();
        assert!(range.contains("A67_AGENT_MAX_PARALLEL_ACTIONS") && range.contains("1 to 64"), "{range}");
    }

    #[test]
    fn logins_come_from_the_nodes_own_file_where_it_has_one() {
        assert_eq!(read(&[]).unwrap().logins(), Logins::default());
        let config = read(&[("A67_AGENT_REGISTRY_AUTH_FILE", "/etc/automator67/registries.json")]).unwrap();
        assert_eq!(
            config.logins(),
            Logins(vec![LoginSource::File("/etc/automator67/registries.json".into())])
        );
    }

    #[test]
    fn what_belongs_to_the_controller_is_left_alone() {
        assert!(read(&[("A67_AGENT_URL", "https://c:6701"), ("A67_URL", "x"), ("HOME", "/")]).is_ok());
    }

    #[test]
    fn no_filter_lets_the_engines_bodies_into_the_log() {
        for (log, filter) in [
            ("info", "info,bollard=info"),
            ("trace", "trace,bollard=info"),
            ("debug,bollard=trace,tonic=warn", "debug,tonic=warn,bollard=info"),
            ("warn, bollard::docker=debug", "warn,bollard=info"),
            ("bollard=trace", "bollard=info"),
            ("off", "off,bollard=off"),
        ] {
            assert_eq!(Config { log: log.into(), ..Config::default() }.log_filter(), filter);
        }
    }
}
