//! The keys about GitHub, taken together.

use std::{fmt, fs, time::Duration};

use serde::{
    Deserialize, Deserializer,
    de::{SeqAccess, Visitor},
};
use url::Url;
use zeroize::Zeroizing;

use super::{Config, InvalidConfig};
use crate::auth::{
    oauth::{allow::Allow, github::GithubSettings},
    role::Role,
};

/// Where GitHub sends browsers back to, below `public_url`.
const CALLBACK_PATH: &str = "api/v1/auth/github/callback";
/// Most entries of one list: for each organisation and team GitHub is asked.
const LIST_MAX: usize = 50;

/// Texts: a list in the file; with commas between them in the environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct List(pub Vec<String>);

impl<'de> Deserialize<'de> for List {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Texts;
        impl<'de> Visitor<'de> for Texts {
            type Value = List;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("texts, as a list or with commas between them")
            }

            fn visit_str<E>(self, text: &str) -> Result<List, E> {
                let texts = text.split(',').map(str::trim).filter(|text| !text.is_empty());
                Ok(List(texts.map(ToOwned::to_owned).collect()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<List, A::Error> {
                let mut texts = Vec::new();
                while let Some(text) = seq.next_element::<String>()? {
                    texts.push(text.trim().to_owned());
                }
                Ok(List(texts))
            }
        }
        deserializer.deserialize_any(Texts)
    }
}

/// Why signing in with GitHub cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum GithubError {
    /// A key says something that is not allowed.
    #[error(transparent)]
    Config(#[from] InvalidConfig),
    /// The secret's file cannot be read.
    #[error("read github_client_secret_file {path}")]
    Secret {
        /// Which.
        path: String,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
}

fn refused(key: &'static str, allowed: &'static str) -> InvalidConfig {
    InvalidConfig::Range { key, allowed }
}

impl Config {
    /// Checks all keys about GitHub.
    pub(super) fn check_github(&self) -> Result<(), InvalidConfig> {
        let with_secret = self.github_client_secret.is_some() != self.github_client_secret_file.is_some();
        if self.github_client_id.is_some() && !with_secret {
            return Err(refused(
                "github_client_id",
                "needs github_client_secret or github_client_secret_file",
            ));
        }
        if self.github_client_id.is_none()
            && (self.github_client_secret.is_some() || self.github_client_secret_file.is_some())
        {
            return Err(refused("github_client_secret", "needs github_client_id"));
        }
        if !(1..=30).contains(&self.github_timeout_seconds) {
            return Err(refused("github_timeout_seconds", "must be 1 to 30"));
        }
        base_url("github_url", &self.github_url)?;
        base_url("github_api_url", &self.github_api_url)?;
        let allow = self.github_allow()?;
        let role_is_safe = match self.github_default_role {
            Some(Role::Admin) => false,
            Some(Role::Operator) => allow.has_lists(),
            Some(Role::Viewer) | None => true,
        };
        if role_is_safe {
            return Ok(());
        }
        Err(refused("github_default_role", "must be viewer, or operator where github_allowed_… say for whom"))
    }

    fn github_allow(&self) -> Result<Allow, InvalidConfig> {
        let lists = [
            ("github_allowed_organizations", &self.github_allowed_organizations),
            ("github_allowed_teams", &self.github_allowed_teams),
            ("github_allowed_users", &self.github_allowed_users),
            ("github_team_roles", &self.github_team_roles),
        ];
        if let Some((key, _)) = lists.into_iter().find(|(_, list)| list.0.len() > LIST_MAX) {
            return Err(refused(key, "must have at most 50 entries"));
        }
        Allow::new(
            &self.github_allowed_organizations.0,
            &self.github_allowed_teams.0,
            &self.github_allowed_users.0,
            self.github_default_role,
            &self.github_team_roles.0,
        )
        .map_err(|(key, allowed)| refused(key, allowed))
    }

    /// How signing in with GitHub is set up, if it is.
    ///
    /// # Errors
    /// When a key says something that is not allowed, or the secret cannot be read.
    pub fn github(&self) -> Result<Option<GithubSettings>, GithubError> {
        self.check_github()?;
        let Some(client_id) = self.github_client_id.clone() else { return Ok(None) };
        let mut callback_url = self.public_address()?;
        if let Ok(mut segments) = callback_url.path_segments_mut() {
            segments.pop_if_empty().extend(CALLBACK_PATH.split('/'));
        }
        Ok(Some(GithubSettings {
            client_id,
            client_secret: self.github_secret()?,
            url: base_url("github_url", &self.github_url)?,
            api_url: base_url("github_api_url", &self.github_api_url)?,
            callback_url,
            allow: self.github_allow()?,
            timeout: Duration::from_secs(self.github_timeout_seconds),
        }))
    }

    fn github_secret(&self) -> Result<Zeroizing<String>, GithubError> {
        if let Some(secret) = &self.github_client_secret {
            return Ok(secret.clone());
        }
        let path = self.github_client_secret_file.clone().unwrap_or_default();
        let failed = |source| GithubError::Secret { path: path.display().to_string(), source };
        let text = Zeroizing::new(fs::read_to_string(&path).map_err(failed)?);
        match text.trim() {
            "" => Err(failed(std::io::Error::new(std::io::ErrorKind::InvalidData, "it is empty"))),
            secret => Ok(Zeroizing::new(secret.to_owned())),
        }
    }

    /// How clients reach REST, taken apart.
    ///
    /// # Errors
    /// When it is no http or https URL.
    pub fn public_address(&self) -> Result<Url, InvalidConfig> {
        base_url("public_url", &self.public_url)
    }
}

/// An address that others are below.
fn base_url(key: &'static str, text: &str) -> Result<Url, InvalidConfig> {
    let url = Url::parse(text).ok().filter(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none()
    });
    url.ok_or(refused(key, "must be an http or https URL"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(edit: impl FnOnce(&mut Config)) -> Result<Option<GithubSettings>, String> {
        let mut config = Config {
            github_client_id: Some("Iv1.abc".into()),
            github_client_secret: Some(Zeroizing::new("hunter2".into())),
            ..Config::default()
        };
        edit(&mut config);
        config.github().map_err(|e| e.to_string())
    }

    fn list(texts: &[&str]) -> List {
        List(texts.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn without_a_client_id_it_is_not_set_up() {
        assert!(Config::default().github().unwrap().is_none());
    }

    #[test]
    fn the_callback_is_below_the_public_url() {
        let settings = with(|c| c.public_url = "https://a67.example/".into()).unwrap().unwrap();
        assert_eq!(settings.callback_url.as_str(), "https://a67.example/api/v1/auth/github/callback");
        assert_eq!(settings.api_url.as_str(), "https://api.github.com/");
    }

    #[test]
    fn the_secret_comes_from_its_file_without_the_end_of_its_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "hunter2\n").unwrap();
        let from_file = |c: &mut Config| {
            c.github_client_secret = None;
            c.github_client_secret_file = Some(file.path().to_owned());
        };
        assert_eq!(with(from_file).unwrap().unwrap().client_secret.as_str(), "hunter2");
        fs::write(file.path(), "\n").unwrap();
        assert!(with(from_file).err().unwrap().contains("github_client_secret_file"));
    }

    #[test]
    fn what_does_not_fit_together_is_refused_by_its_key_and_shows_no_secret() {
        let refused = |edit: fn(&mut Config)| {
            let error = with(edit).err().unwrap();
            assert!(!error.contains("hunter2"), "{error}");
            error
        };
        assert!(refused(|c| c.github_client_secret = None).contains("github_client_id"));
        assert!(refused(|c| c.github_client_id = None).contains("github_client_secret"));
        assert!(refused(|c| c.github_client_secret_file = Some("/x".into())).contains("github_client_id"));
        assert!(refused(|c| c.github_timeout_seconds = 0).contains("github_timeout_seconds"));
        assert!(refused(|c| c.github_url = "ftp://x".into()).contains("github_url"));
        assert!(refused(|c| c.github_api_url = "https://u:p@x".into()).contains("github_api_url"));
        assert!(refused(|c| c.github_allowed_teams = list(&["acme"])).contains("github_allowed_teams"));
        assert!(refused(|c| c.github_team_roles = list(&["acme/ops"])).contains("github_team_roles"));
        assert!(refused(|c| c.github_default_role = Some(Role::Admin)).contains("github_default_role"));
        assert!(refused(|c| c.github_default_role = Some(Role::Operator)).contains("github_default_role"));
        let operators = |c: &mut Config| {
            c.github_default_role = Some(Role::Operator);
            c.github_allowed_organizations = list(&["acme"]);
        };
        assert!(with(operators).is_ok());
    }
}
