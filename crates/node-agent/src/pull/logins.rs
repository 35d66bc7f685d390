//! Where logins for registries come from.
//!
//! Sources are asked in order, and the first that has a login for an image's
//! registry gives it. There is one of this kind: the node's own file, in the format of
//! Docker's `config.json`. The login that the controller chose for an assignment goes
//! before it and is found elsewhere, in [`crate::secrets`].
//!
//! The file is read anew for every try of a pull, so a change of it needs no word to
//! the agent, and no secret of it stays in memory between pulls. What it holds is
//! neither logged nor part of an error: errors name the file and at most a registry.

use std::{
    fs::File,
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use domain::spec::policy::{full_host, registry};
use serde::Deserialize;
use tokio::task::spawn_blocking;
use zeroize::Zeroizing;

use crate::runtime::{LoginProof, RegistryLogin};

/// Largest file that is read.
const FILE_MAX_BYTES: u64 = 1024 * 1024;
/// Rights of those who are neither the file's owner nor of its group.
const OTHERS: u32 = 0o007;
/// The right of its group to write.
const GROUP_WRITES: u32 = 0o020;

/// Where a login may come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoginSource {
    /// A file in the format of Docker's `config.json`.
    File(PathBuf),
}

/// All sources, in the order in which they are asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Logins(pub Vec<LoginSource>);

/// Why a source cannot be used. Shows no secret.
#[derive(Debug, thiserror::Error)]
pub enum LoginsError {
    /// It cannot be read.
    #[error("read logins from {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Too many may read or change it.
    #[error(
        "use logins from {}: it must be no file that others may read or that its group may write (mode {mode:03o}); chmod 600 it",
        path.display()
    )]
    Open {
        /// Which file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It is not what it should be. Says where, not what stands there.
    #[error("understand the logins in {}: {what}", path.display())]
    Format {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
}

impl Logins {
    /// The login for the registry that `image` comes from, if a source has one.
    ///
    /// # Errors
    /// When a source cannot be used that may have had one.
    pub async fn find(&self, image: &str) -> Result<Option<RegistryLogin>, LoginsError> {
        let Some(registry) = registry(image) else { return Ok(None) };
        for source in self.0.clone() {
            let registry = registry.clone();
            let found = match source {
                LoginSource::File(path) => {
                    let lost = path.clone();
                    spawn_blocking(move || find_in(&path, &registry)).await.unwrap_or_else(|error| {
                        Err(LoginsError::Read { path: lost, source: io::Error::other(error) })
                    })?
                }
            };
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Looks whether all sources can be used, without keeping what is in them.
    ///
    /// # Errors
    /// With the first that cannot.
    pub async fn check(&self) -> Result<(), LoginsError> {
        // A name that no source has a login for is looked for in all of them.
        self.find("registry.invalid/nothing").await.map(|_| ())
    }
}

/// The part of Docker's `config.json` that is of use here.
#[derive(Deserialize)]
struct DockerConfig {
    #[serde(default)]
    auths: std::collections::BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    auth: Zeroizing<String>,
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: Zeroizing<String>,
    #[serde(default)]
    identitytoken: Zeroizing<String>,
}

fn find_in(path: &Path, registry: &str) -> Result<Option<RegistryLogin>, LoginsError> {
    let text = read(path)?;
    let config: DockerConfig = serde_json::from_slice(&text).map_err(|error| LoginsError::Format {
        path: path.to_owned(),
        // The library's own words may quote what it read.
        what: format!("no JSON of that form at line {} column {}", error.line(), error.column()),
    })?;
    let entry = config.auths.into_iter().find(|(key, _)| host_of(key).as_deref() == Some(registry));
    let Some((server, entry)) = entry else { return Ok(None) };
    match proof(entry) {
        // What `docker login` leaves behind when a helper keeps the secret.
        Ok(None) => {
            tracing::debug!(registry, "the file of logins names a registry and has no secret for it");
            Ok(None)
        }
        Ok(Some(proof)) => Ok(Some(RegistryLogin { server, proof })),
        Err(what) => {
            Err(LoginsError::Format { path: path.to_owned(), what: format!("{what} of {registry}") })
        }
    }
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, LoginsError> {
    let failed = |source| LoginsError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    // Of the file that was opened, and not of one that took its name meanwhile.
    let found = file.metadata().map_err(failed)?;
    let mode = found.mode() & 0o777;
    if !found.is_file() || mode & (OTHERS | GROUP_WRITES) != 0 {
        return Err(LoginsError::Open { path: path.to_owned(), mode });
    }
    if found.size() > FILE_MAX_BYTES {
        let what = format!("it is larger than {FILE_MAX_BYTES} bytes");
        return Err(LoginsError::Format { path: path.to_owned(), what });
    }
    let mut text = Zeroizing::new(Vec::with_capacity(usize::try_from(found.size()).unwrap_or_default() + 1));
    file.take(FILE_MAX_BYTES).read_to_end(&mut text).map_err(failed)?;
    Ok(text)
}

/// The registry that a key of `auths` stands for: `ghcr.io`, `https://ghcr.io`,
/// `https://index.docker.io/v1/`. `None` for one that stands for a part of one.
fn host_of(key: &str) -> Option<String> {
    let name = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    let (host, path) = name.split_once('/').unwrap_or((name, ""));
    matches!(path.trim_end_matches('/'), "" | "v1" | "v2").then(|| full_host(host))
}

/// What an entry proves with; `None` where it has nothing.
fn proof(entry: Entry) -> Result<Option<LoginProof>, &'static str> {
    let (username, password) = if entry.auth.is_empty() {
        (entry.username, entry.password)
    } else {
        split(&entry.auth).ok_or("no name and password in base64 in auth")?
    };
    if !entry.identitytoken.is_empty() {
        return Ok(Some(LoginProof::IdentityToken { username, token: entry.identitytoken }));
    }
    if username.is_empty() && password.is_empty() {
        return Ok(None);
    }
    Ok(Some(LoginProof::Password { username, password }))
}

fn split(auth: &str) -> Option<(String, Zeroizing<String>)> {
    let bytes = Zeroizing::new(STANDARD.decode(auth.trim()).ok()?);
    let text = std::str::from_utf8(&bytes).ok()?;
    let (username, password) = text.split_once(':')?;
    // Docker's own client ends some of them with a zero.
    Some((username.to_owned(), Zeroizing::new(password.trim_end_matches('\0').to_owned())))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use tempfile::TempDir;

    use super::*;

    struct Files {
        dir: TempDir,
    }

    impl Files {
        fn new() -> Self {
            Self { dir: tempfile::tempdir().unwrap() }
        }

        fn path(&self) -> PathBuf {
            self.dir.path().join("config.json")
        }

        fn logins(&self) -> Logins {
            Logins(vec![LoginSource::File(self.path())])
        }

        fn write(&self, text: &str, mode: u32) {
            fs::write(self.path(), text).unwrap();
            fs::set_permissions(self.path(), fs::Permissions::from_mode(mode)).unwrap();
        }

        /// Server, name and secret of the login for an image.
        async fn found(&self, image: &str) -> Option<(String, String, String)> {
            let login = self.logins().find(image).await.unwrap_or_else(|e| panic!("{e}"))?;
            let (username, secret) = match login.proof {
                LoginProof::Password { username, password } => (username, password.to_string()),
                LoginProof::IdentityToken { username, token } => (username, format!("token {}", *token)),
            };
            Some((login.server, username, secret))
        }

        async fn error(&self) -> String {
            match self.logins().find("ghcr.io/app").await {
                Ok(_) => panic!("no error"),
                Err(error) => format!("{error} {error:?}"),
            }
        }
    }

    const FILE: &str = r#"{
        "auths": {
            "https://index.docker.io/v1/": { "auth": "aHVi" },
            "https://GHCR.io": { "auth": "YWxpY2U6cGE6c3M=" },
            "r.example.org:5000": { "username": "bob", "password": "pw" },
            "acr.example.org": { "auth": "MDAwMDo=", "identitytoken": "refresh" },
            "helper.example.org": {},
            "quay.io/team": { "username": "team", "password": "pw" }
        },
        "credsStore": "desktop", "HttpHeaders": { "x": "y" }
    }"#;

    #[tokio::test]
    async fn a_login_is_found_by_the_images_registry_in_each_form_that_docker_writes() {
        let files = Files::new();
        files.write(&FILE.replace("aHVi", "aHViOnNlY3JldAA="), 0o600);
        let login = |server: &str, user: &str, secret: &str| {
            Some((server.to_owned(), user.to_owned(), secret.to_owned()))
        };
        let hub = login("https://index.docker.io/v1/", "hub", "secret");
        for image in ["app", "app:1", "team/app@sha256:00", "docker.io/app", "registry-1.docker.io/team/app"]
        {
            assert_eq!(files.found(image).await, hub, "{image}");
        }
        assert_eq!(files.found("ghcr.io/team/app").await, login("https://GHCR.io", "alice", "pa:ss"));
        assert_eq!(files.found("r.example.org:5000/app:1").await, login("r.example.org:5000", "bob", "pw"));
        assert_eq!(files.found("acr.example.org/a").await, login("acr.example.org", "0000", "token refresh"));
        // Another port is another registry, and a part of a registry is not all of it.
        for image in ["r.example.org/app", "helper.example.org/app", "quay.io/team/app", "sha256:00"] {
            assert_eq!(files.found(image).await, None, "{image}");
        }
    }

    #[tokio::test]
    async fn the_file_is_read_anew_when_it_changes() {
        let files = Files::new();
        files.write(r#"{"auths": {}}"#, 0o600);
        assert_eq!(files.found("ghcr.io/app").await, None);
        for password in ["one", "two"] {
            let text =
                format!(r#"{{"auths": {{"ghcr.io": {{"username": "u", "password": "{password}"}}}}}}"#);
            files.write(&text, 0o640);
            assert_eq!(files.found("ghcr.io/app").await.unwrap().2, password);
        }
    }

    #[tokio::test]
    async fn a_file_that_others_may_read_or_its_group_may_write_is_refused() {
        let files = Files::new();
        for mode in [0o604, 0o601, 0o602, 0o644, 0o666, 0o660, 0o620] {
            files.write(FILE, mode);
            let error = files.error().await;
            assert!(error.contains("chmod 600") && error.contains(&format!("{mode:o}")), "{error}");
            assert!(files.logins().check().await.is_err());
        }
        files.write(&FILE.replace("aHVi", "aHViOnNlY3JldAA="), 0o400);
        assert!(files.logins().check().await.is_ok());
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_said_without_what_stands_in_it() {
        let files = Files::new();
        assert!(files.error().await.contains("read logins"));
        for text in [
            "hunter2",
            r#"{"auths": {"ghcr.io": "hunter2"}}"#,
            r#"{"auths": {"ghcr.io": {"auth": "hunter2!"}}}"#,
            r#"{"auths": {"ghcr.io": {"auth": "aHVudGVyMg=="}}}"#,
            r#"{"auths": {"ghcr.io": {"password": ["hunter2"]}}}"#,
        ] {
            files.write(text, 0o600);
            let error = files.error().await;
            assert!(error.contains("understand the logins"), "{error}");
            assert!(!error.contains("hunter2") && !error.contains("aHVudGVyMg"), "{error}");
        }
        files.write(&" ".repeat(usize::try_from(FILE_MAX_BYTES).unwrap() + 1), 0o600);
        assert!(files.error().await.contains("larger than"));
    }

    #[tokio::test]
    async fn a_node_without_a_file_has_no_logins() {
        assert!(Logins::default().find("ghcr.io/app").await.is_ok_and(|found| found.is_none()));
        assert!(Logins::default().check().await.is_ok());
    }
}
