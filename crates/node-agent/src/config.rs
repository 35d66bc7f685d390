//! The agent's configuration: a file, then the environment, then the command line.

use std::{ffi::OsString, path::Path, path::PathBuf};

use daemon::{
    config::{ConfigError, Source, load, process_environment},
    logging::LogFormat,
};
use serde::Deserialize;

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
    /// Where published ports are reached; without it, the local address that the
    /// controller is reached from.
    pub address: Option<String>,
    /// What is logged.
    pub log: String,
    /// How it looks.
    pub log_format: LogFormat,
    /// Most actions at once; see [`crate::reconcile::Settings`].
    pub max_parallel_actions: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: "/var/lib/automator67/agent".into(),
            docker_host: "unix:///var/run/docker.sock".into(),
            address: None,
            log: "info".into(),
            log_format: LogFormat::Auto,
            max_parallel_actions: 8,
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
        Ok(())
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
    fn a_wrong_key_or_value_is_named() {
        let unknown = read(&[("A67_AGENT_DOKCER_HOST", "x")]).unwrap_err().to_string();
        assert!(unknown.contains("A67_AGENT_DOKCER_HOST") && unknown.contains("A67_AGENT_DOCKER_HOST"));
        let range = read(&[("A67_AGENT_MAX_PARALLEL_ACTIONS", "0")]).unwrap_err().to_string();
        assert!(range.contains("A67_AGENT_MAX_PARALLEL_ACTIONS") && range.contains("1 to 64"), "{range}");
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
