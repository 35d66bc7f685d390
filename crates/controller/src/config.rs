//! The controller's configuration: a file, then the environment, checked as a
//! whole before anything starts.
//!
//! Holds secrets: no `Debug`, and nothing logs it.

mod github;

use std::{
    ffi::OsString,
    net::{IpAddr, SocketAddr},
    num::NonZeroU32,
    path::{Path, PathBuf},
    time::Duration,
};

use daemon::{
    config::{ConfigError, Source, load, process_environment},
    logging::LogFormat,
};
use domain::{limit::Rate, presence::PresenceSettings};
use ipnet::IpNet;
use serde::Deserialize;
use zeroize::Zeroizing;

pub use github::{GithubError, List};

use crate::{
    auth::role::Role,
    service::{EdgeSettings, Settings, identity::account::Registration},
};

const DEFAULT_FILE: &str = "/etc/automator67/controller.toml";
/// Names in the environment that belong to clients and scripts.
const FOREIGN: &[&str] = &["A67_URL", "A67_TOKEN", "A67_BIN_DIR", "A67_TEST_", "A67_TESTBED_"];
/// What the agent's names begin with, and the one among them that is ours.
const AGENT_PREFIX: &str = "A67_AGENT_";
const AGENT_URL: &str = "A67_AGENT_URL";
/// How long a node's certificate is good; renewed at a third of it left.
const CERTIFICATE_LIFETIME: Duration = Duration::from_secs(90 * 24 * 3600);
/// One more failed sign-in to an account, after the first ones in a row.
const FAILURE_EACH: Duration = Duration::from_secs(30);

/// Every key, with its default.
#[derive(Deserialize)]
#[serde(default)]
pub struct Config {
    /// Where the controller keeps its files.
    pub data_dir: PathBuf,
    /// A PostgreSQL server; without it a private one is run.
    pub database_url: Option<Zeroizing<String>>,
    /// Most database connections of this controller.
    pub database_connections: usize,
    /// Where REST is served.
    pub http_listen: SocketAddr,
    /// Where agents are served.
    pub grpc_listen: SocketAddr,
    /// How clients reach REST.
    pub public_url: String,
    /// How agents reach this controller; without it, this host's name.
    pub agent_url: Option<String>,
    /// What is logged.
    pub log: String,
    /// How it looks.
    pub log_format: LogFormat,
    /// The master key's file; without it, `master.key` in the data directory.
    pub master_key_file: Option<PathBuf>,
    /// The master key itself, instead of a file.
    pub master_key: Option<Zeroizing<String>>,
    /// The master key that is about to take its place, while the vault is being moved.
    pub master_key_next: Option<Zeroizing<String>>,
    /// Whether those who have the permission may see values of credentials.
    pub reveal_enabled: bool,
    /// Where PostgreSQL's programs are; without it they are looked for.
    pub postgres_bin_dir: Option<PathBuf>,
    /// Who runs PostgreSQL when the controller is root.
    pub postgres_user: Option<String>,
    /// Cost of password hashes, 4 to 16.
    pub bcrypt_cost: u32,
    /// For how long an access token is good.
    pub access_token_ttl_seconds: u64,
    /// For how long a session lasts that is not refreshed.
    pub session_ttl_seconds: u64,
    /// Who may register.
    pub registration: Registration,
    /// For how long lines of the audit log are kept; whole months go.
    pub audit_retention_days: u32,
    /// Proxies in front, as networks separated by commas: what they say of whom they
    /// forward for is believed.
    pub trusted_proxies: String,
    /// Other origins whose pages may call the API, separated by commas.
    pub cors_origins: String,
    /// Sign-ins, registrations and refreshes of one address in a minute; 0 for no limit.
    pub sign_in_limit_per_address_per_minute: u32,
    /// Failed sign-ins to one account in a row, with one more each 30 s; 0 for no limit.
    pub sign_in_limit_failures_per_account: u32,
    /// Requests of one address in a second, to each controller, with twice as many
    /// at once; 0 for no limit.
    pub request_limit_per_address_per_second: u32,
    /// How long a client may take to send a request's head, and again its body.
    pub client_timeout_seconds: u64,
    /// How long a request may take to be answered, besides the time that it asks to wait.
    pub request_timeout_seconds: u64,
    /// Client id of an OAuth app at GitHub; with it people can sign in with GitHub.
    pub github_client_id: Option<String>,
    /// Its secret.
    pub github_client_secret: Option<Zeroizing<String>>,
    /// A file with the secret, instead.
    pub github_client_secret_file: Option<PathBuf>,
    /// Where GitHub is; a GitHub Enterprise Server's address.
    pub github_url: String,
    /// Where its API is; of an Enterprise Server `https://HOST/api/v3`.
    pub github_api_url: String,
    /// Organizations whose members are let in.
    pub github_allowed_organizations: List,
    /// Teams whose members are let in, as `organization/team-slug`.
    pub github_allowed_teams: List,
    /// People who are let in: logins, or ids where they are numbers.
    pub github_allowed_users: List,
    /// Role of new accounts; without it they have none on the fleet.
    pub github_default_role: Option<Role>,
    /// Roles of teams' members, as `organization/team-slug=role`; applied at each sign-in.
    pub github_team_roles: List,
    /// How long GitHub may take to answer one question.
    pub github_timeout_seconds: u64,
    /// How often agents send heartbeats.
    pub heartbeat_period_ms: u64,
    /// Silence after which a node is unreachable.
    pub node_unreachable_after_ms: u64,
    /// How often agents measure.
    pub metrics_period_seconds: u64,
    /// How long requests under way may take when the controller stops.
    pub shutdown_grace_seconds: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: "/var/lib/automator67/controller".into(),
            database_url: None,
            database_connections: 16,
            http_listen: SocketAddr::from(([127, 0, 0, 1], 6700)),
            grpc_listen: SocketAddr::from(([0, 0, 0, 0], 6701)),
            public_url: "http://127.0.0.1:6700".into(),
            agent_url: None,
            log: "info".into(),
            log_format: LogFormat::Auto,
            master_key_file: None,
            master_key: None,
            master_key_next: None,
            reveal_enabled: false,
            postgres_bin_dir: None,
            postgres_user: None,
            bcrypt_cost: 12,
            access_token_ttl_seconds: 86_400,
            session_ttl_seconds: 30 * 86_400,
            registration: Registration::Invite,
            audit_retention_days: 365,
            trusted_proxies: String::new(),
            cors_origins: String::new(),
            sign_in_limit_per_address_per_minute: 30,
            sign_in_limit_failures_per_account: 10,
            request_limit_per_address_per_second: 0,
            client_timeout_seconds: 15,
            request_timeout_seconds: 30,
            github_client_id: None,
            github_client_secret: None,
            github_client_secret_file: None,
            github_url: "https://github.com".into(),
            github_api_url: "https://api.github.com".into(),
            github_allowed_organizations: List::default(),
            github_allowed_teams: List::default(),
            github_allowed_users: List::default(),
            github_default_role: None,
            github_team_roles: List::default(),
            github_timeout_seconds: 10,
            heartbeat_period_ms: 2000,
            node_unreachable_after_ms: 6000,
            metrics_period_seconds: 30,
            shutdown_grace_seconds: 10,
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
    #[error("{key} (A67_{}) {allowed}", key.to_uppercase())]
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
        let config = Self::read(file, process_environment())?;
        config.check()?;
        Ok(config)
    }

    fn read(file: Option<PathBuf>, mut environment: Vec<(OsString, OsString)>) -> Result<Self, ConfigError> {
        // Not in the list of foreign names, where its prefix would take our own too.
        environment.retain(|(name, _)| {
            let name = name.to_string_lossy();
            name == AGENT_URL || !name.starts_with(AGENT_PREFIX)
        });
        load(Source {
            file,
            default_file: Path::new(DEFAULT_FILE),
            prefix: "A67_",
            foreign: FOREIGN,
            environment,
        })
    }

    fn check(&self) -> Result<(), InvalidConfig> {
        let require =
            |fine: bool, key, allowed| if fine { Ok(()) } else { Err(InvalidConfig::Range { key, allowed }) };
        require(self.data_dir.is_absolute(), "data_dir", "must be an absolute path")?;
        require((4..=200).contains(&self.database_connections), "database_connections", "must be 4 to 200")?;
        // The private server takes 100, and commands at the host need some of them.
        require(
            self.database_url.is_some() || self.database_connections <= 80,
            "database_connections",
            "must be at most 80 with the private PostgreSQL",
        )?;
        require(is_url(&self.public_url, &["http", "https"]), "public_url", "must be an http or https URL")?;
        let agent_url = self.agent_url.as_ref().is_none_or(|url| is_url(url, &["https"]));
        require(agent_url, "agent_url", "must be an https URL")?;
        require((4..=16).contains(&self.bcrypt_cost), "bcrypt_cost", "must be 4 to 16")?;
        require(
            (60..=31_536_000).contains(&self.access_token_ttl_seconds),
            "access_token_ttl_seconds",
            "must be 60 to 31536000",
        )?;
        require(
            (self.access_token_ttl_seconds..=31_536_000).contains(&self.session_ttl_seconds),
            "session_ttl_seconds",
            "must be at least access_token_ttl_seconds and at most 31536000",
        )?;
        require(
            (31..=3650).contains(&self.audit_retention_days),
            "audit_retention_days",
            "must be 31 to 3650",
        )?;
        self.check_edge()?;
        self.check_github()?;
        require(
            (1000..=60_000).contains(&self.heartbeat_period_ms),
            "heartbeat_period_ms",
            "must be 1000 to 60000",
        )?;
        let overdue = self.node_unreachable_after_ms >= self.heartbeat_period_ms * 2
            && self.node_unreachable_after_ms <= 3_600_000;
        require(
            overdue,
            "node_unreachable_after_ms",
            "must be at least two heartbeat periods and at most 3600000",
        )?;
        require(
            (1..=3600).contains(&self.metrics_period_seconds),
            "metrics_period_seconds",
            "must be 1 to 3600",
        )?;
        require(
            (1..=600).contains(&self.shutdown_grace_seconds),
            "shutdown_grace_seconds",
            "must be 1 to 600",
        )?;
        require(
            self.master_key.is_none() || self.master_key_file.is_none(),
            "master_key",
            "and master_key_file exclude each other",
        )?;
        require(
            self.master_key_next.is_none() || self.master_key.is_some(),
            "master_key_next",
            "goes with master_key only; beside a file, the next key is a file too",
        )
    }

    /// What stands between clients and the API.
    fn check_edge(&self) -> Result<(), InvalidConfig> {
        let require =
            |fine: bool, key, allowed| if fine { Ok(()) } else { Err(InvalidConfig::Range { key, allowed }) };
        require(
            networks(&self.trusted_proxies).is_some(),
            "trusted_proxies",
            "must be networks or addresses, separated by commas, such as 10.0.0.0/8,::1",
        )?;
        require(
            list(&self.cors_origins).all(is_origin),
            "cors_origins",
            "must be origins, separated by commas, such as https://ui.example.org",
        )?;
        let most = |value: u32| value <= 100_000;
        let allowed = "must be 0 to 100000";
        let key = "sign_in_limit_per_address_per_minute";
        require(most(self.sign_in_limit_per_address_per_minute), key, allowed)?;
        let key = "sign_in_limit_failures_per_account";
        require(most(self.sign_in_limit_failures_per_account), key, allowed)?;
        let key = "request_limit_per_address_per_second";
        require(most(self.request_limit_per_address_per_second), key, allowed)?;
        let seconds = |value: u64| (1..=600).contains(&value);
        let allowed = "must be 1 to 600";
        require(seconds(self.client_timeout_seconds), "client_timeout_seconds", allowed)?;
        require(seconds(self.request_timeout_seconds), "request_timeout_seconds", allowed)
    }

    /// The master key's file.
    #[must_use]
    pub fn master_key_path(&self) -> PathBuf {
        self.master_key_file.clone().unwrap_or_else(|| self.data_dir.join("master.key"))
    }

    /// The private PostgreSQL's directory.
    #[must_use]
    pub fn postgres_dir(&self) -> PathBuf {
        self.data_dir.join("postgres")
    }

    /// What use cases need of it.
    #[must_use]
    pub fn settings(&self) -> Settings {
        let hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let agent_url = self
            .agent_url
            .clone()
            .unwrap_or_else(|| format!("https://{hostname}:{}", self.grpc_listen.port()));
        Settings {
            public_url: self.public_url.trim_end_matches('/').to_owned(),
            agent_url: agent_url.trim_end_matches('/').to_owned(),
            presence: PresenceSettings {
                heartbeat_period: Duration::from_millis(self.heartbeat_period_ms),
                unreachable_after: Duration::from_millis(self.node_unreachable_after_ms),
                ..PresenceSettings::default()
            },
            edge: EdgeSettings {
                trusted_proxies: networks(&self.trusted_proxies).unwrap_or_default(),
                cors_origins: list(&self.cors_origins).map(str::to_owned).collect(),
                attempts: Rate::new(self.sign_in_limit_per_address_per_minute, Duration::from_secs(60)),
                failures: Rate::new(
                    self.sign_in_limit_failures_per_account,
                    FAILURE_EACH * self.sign_in_limit_failures_per_account,
                ),
                requests_per_second: NonZeroU32::new(self.request_limit_per_address_per_second),
                client_timeout: Duration::from_secs(self.client_timeout_seconds),
                request_timeout: Duration::from_secs(self.request_timeout_seconds),
            },
            metrics_period: Duration::from_secs(self.metrics_period_seconds),
            session_ttl: Duration::from_secs(self.session_ttl_seconds),
            access_token_ttl: Duration::from_secs(self.access_token_ttl_seconds),
            registration: self.registration,
            audit_retention: Duration::from_secs(u64::from(self.audit_retention_days) * 24 * 3600),
            certificate_lifetime: CERTIFICATE_LIFETIME,
            reveal_enabled: self.reveal_enabled,
        }
    }
}

/// The parts of a list.
fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty())
}

/// Networks; a bare address is a network of one. `None` where one cannot be read.
fn networks(text: &str) -> Option<Vec<IpNet>> {
    let network = |part: &str| part.parse().or_else(|_| part.parse::<IpAddr>().map(IpNet::from)).ok();
    list(text).map(network).collect()
}

/// Whether browsers would send it as an `Origin`, letter by letter.
fn is_origin(text: &str) -> bool {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    host.is_some_and(|host| {
        let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.:[]_".contains(c);
        !host.is_empty() && host.chars().all(fine)
    })
}

fn is_url(text: &str, schemes: &[&str]) -> bool {
    text.split_once("://").is_some_and(|(scheme, rest)| {
        schemes.contains(&scheme) && !rest.is_empty() && !rest.contains(char::is_whitespace)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_fine() {
        assert!(Config::default().check().is_ok());
    }

    #[test]
    fn what_is_out_of_range_is_named_by_its_key() {
        let refused = |edit: fn(&mut Config)| {
            let mut config = Config::default();
            edit(&mut config);
            config.check().err().unwrap().to_string()
        };
        assert!(refused(|c| c.bcrypt_cost = 40).contains("bcrypt_cost (A67_BCRYPT_COST) must be 4 to 16"));
        assert!(refused(|c| c.node_unreachable_after_ms = 2000).contains("node_unreachable_after_ms"));
        assert!(refused(|c| c.agent_url = Some("http://x".into())).contains("agent_url"));
        assert!(refused(|c| c.data_dir = "here".into()).contains("data_dir"));
        assert!(refused(|c| c.database_connections = 81).contains("private PostgreSQL"));
        assert!(refused(|c| c.public_url = "ftp://x".into()).contains("public_url"));
        assert!(refused(|c| c.audit_retention_days = 30).contains("audit_retention_days"));
        assert!(refused(|c| c.access_token_ttl_seconds = 0).contains("access_token_ttl_seconds"));
        for proxies in ["10.0.0.0/33", "proxy", "10.0.0.1;10.0.0.2", "10.0.0.1/"] {
            let config = Config { trusted_proxies: proxies.into(), ..Config::default() };
            assert!(config.check().err().unwrap().to_string().contains("trusted_proxies"), "{proxies}");
        }
        for origin in
            ["*", "null", "https://", "https://a.example/", "https://A.example", "a.example", "https://*.a"]
        {
            let config = Config { cors_origins: origin.into(), ..Config::default() };
            assert!(config.check().err().unwrap().to_string().contains("cors_origins"), "{origin}");
        }
        assert!(refused(|c| c.request_timeout_seconds = 0).contains("request_timeout_seconds"));
        assert!(refused(|c| c.client_timeout_seconds = 601).contains("client_timeout_seconds"));
        let both = |c: &mut Config| {
            c.master_key = Some(Zeroizing::new("secret".to_owned()));
            c.master_key_file = Some("/key".into());
        };
        assert!(refused(both).contains("master_key"));
        let alone = |c: &mut Config| c.master_key_next = Some(Zeroizing::new("secret".to_owned()));
        assert!(refused(alone).contains("master_key_next"));
    }

    /// Loads from these variables and, if there is any, this file.
    fn loaded(toml: &str, variables: &[(&str, &str)]) -> Result<Config, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("controller.toml");
        std::fs::write(&path, toml).unwrap();
        let environment = variables.iter().map(|(name, value)| (name.into(), value.into())).collect();
        Config::read(Some(path), environment).map_err(|error| error.to_string())
    }

    #[test]
    fn every_key_can_be_set_in_the_file_and_in_the_environment() {
        let values = [
            ("data_dir", "/data"),
            ("database_url", "postgres://localhost/a"),
            ("database_connections", "5"),
            ("http_listen", "0.0.0.0:1"),
            ("grpc_listen", "[::]:2"),
            ("public_url", "https://a.example"),
            ("agent_url", "https://b.example:6701"),
            ("log", "debug"),
            ("log_format", "json"),
            ("master_key_file", "/key"),
            ("master_key", "AAAA"),
            ("master_key_next", "BBBB"),
            ("reveal_enabled", "true"),
            ("postgres_bin_dir", "/pg"),
            ("postgres_user", "pg"),
            ("bcrypt_cost", "10"),
            ("access_token_ttl_seconds", "60"),
            ("session_ttl_seconds", "120"),
            ("registration", "closed"),
            ("audit_retention_days", "400"),
            ("trusted_proxies", "10.0.0.0/8, ::1"),
            ("cors_origins", "https://ui.example.org,http://localhost:5173"),
            ("sign_in_limit_per_address_per_minute", "60"),
            ("sign_in_limit_failures_per_account", "0"),
            ("request_limit_per_address_per_second", "200"),
            ("client_timeout_seconds", "5"),
            ("request_timeout_seconds", "20"),
            ("github_client_id", "Iv1.abc"),
            ("github_client_secret", "hunter2"),
            ("github_client_secret_file", "/secret"),
            ("github_url", "https://ghe.example"),
            ("github_api_url", "https://ghe.example/api/v3"),
            ("github_allowed_organizations", "acme, other"),
            ("github_allowed_teams", "acme/ops"),
            ("github_allowed_users", "anna,42"),
            ("github_default_role", "viewer"),
            ("github_team_roles", "acme/ops=operator,acme/root=admin"),
            ("github_timeout_seconds", "3"),
            ("heartbeat_period_ms", "1000"),
            ("node_unreachable_after_ms", "9000"),
            ("metrics_period_seconds", "5"),
            ("shutdown_grace_seconds", "3"),
        ];
        let toml: String = values.iter().map(|(key, value)| format!("{key} = '{value}'\n")).collect();
        let names = values.map(|(key, value)| (format!("A67_{}", key.to_uppercase()), value));
        let variables: Vec<_> = names.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        for config in [loaded(&toml, &[]).unwrap(), loaded("", &variables).unwrap()] {
            assert_eq!(config.master_key_path(), Path::new("/key"));
            assert_eq!(config.postgres_dir(), Path::new("/data/postgres"));
            assert_eq!(config.database_url.as_ref().unwrap().as_str(), "postgres://localhost/a");
            assert_eq!((config.bcrypt_cost, config.shutdown_grace_seconds), (10, 3));
            assert!(config.registration == Registration::Closed && config.log_format == LogFormat::Json);
            let settings = config.settings();
            assert_eq!(settings.agent_url, "https://b.example:6701");
            assert_eq!(config.github_allowed_organizations.0, ["acme", "other"]);
            assert_eq!(
                (config.github_team_roles.0.len(), config.github_default_role),
                (2, Some(Role::Viewer))
            );
            let edge = settings.edge;
            assert_eq!((edge.trusted_proxies.len(), edge.cors_origins.len()), (2, 2));
            assert!(edge.attempts == Rate::new(60, Duration::from_secs(60)) && edge.failures.is_none());
        }
    }

    #[test]
    fn an_unknown_key_is_named_and_names_of_other_programs_are_not_ours() {
        let error = loaded("", &[("A67_HTTP_LISTN", "x")]).err().unwrap();
        assert!(error.contains("A67_HTTP_LISTN") && error.contains("A67_HTTP_LISTEN"), "{error}");
        assert!(loaded("", &[("A67_URL", "x"), ("A67_TOKEN", "x"), ("A67_AGENT_LOG", "x")]).is_ok());
    }

    #[test]
    fn no_error_shows_a_secret() {
        for toml in ["master_key = ['hunter2']", "database_url = ['hunter2']", "master_key = hunter2"] {
            let error = loaded(toml, &[]).err().unwrap();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn without_an_agent_url_agents_are_told_this_hosts_name_and_the_agents_port() {
        let url = Config::default().settings().agent_url;
        assert!(url.starts_with("https://") && url.ends_with(":6701"), "{url}");
    }
}
