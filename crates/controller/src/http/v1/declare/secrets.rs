//! The part of a declaration that says which credentials a container is given.

use domain::{
    name::Name,
    spec::{FieldFault, SECRET_MODE, SecretTarget, SecretUse},
};
use serde::Deserialize;
use utoipa::ToSchema;

use super::container::octal;
use crate::error::Error;

/// One use of a credential.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SecretCreate {
    /// The credential's name in the deployment's project.
    credential: String,
    /// Which of its values, where it has several; all of it when left out.
    key: Option<String>,
    /// A version's number, or `latest`: then a new version rolls the deployment.
    /// `latest` when left out.
    #[serde(default)]
    version: VersionCreate,
    /// How the container finds it.
    r#as: TargetCreate,
}

#[derive(Deserialize, ToSchema)]
#[serde(untagged, expecting = "a number or \"latest\"")]
enum VersionCreate {
    Number(u32),
    Word(LatestCreate),
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum LatestCreate {
    Latest,
}

/// How a container finds a value: `env` or `file`, and not both.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct TargetCreate {
    /// Name of an environment variable. Whoever may inspect the container at its
    /// engine sees the value; a file is the better choice.
    env: Option<String>,
    /// Path of a file in memory; absolute, not below `/proc`, `/sys` and `/dev`.
    file: Option<String>,
    /// With `file`: its permissions in octal digits, at most `0777`; `0400` when left out.
    mode: Option<String>,
    /// With `file`: number of the user whose it is; 0 when left out.
    uid: Option<u32>,
    /// With `file`: number of its group; 0 when left out.
    gid: Option<u32>,
}

impl Default for VersionCreate {
    fn default() -> Self {
        Self::Word(LatestCreate::Latest)
    }
}

/// Reads uses of credentials; their paths and names are checked with the rest of the spec.
pub(super) fn secrets(secrets: Vec<SecretCreate>) -> Result<Vec<SecretUse>, Error> {
    secrets.into_iter().enumerate().map(|(index, secret)| secret.read(index)).collect()
}

impl SecretCreate {
    fn read(self, index: usize) -> Result<SecretUse, Error> {
        let field = |name: &str| format!("secrets[{index}].{name}");
        Ok(SecretUse {
            credential: Name::parse(self.credential)
                .map_err(|fault| Error::invalid_field(field("credential"), fault.to_string()))?,
            key: self.key,
            version: match self.version {
                VersionCreate::Number(number) => Some(number),
                VersionCreate::Word(LatestCreate::Latest) => None,
            },
            target: self.r#as.read().map_err(|fault| {
                let FieldFault { field: name, message } = fault;
                Error::invalid_field(field(&name), message)
            })?,
            resolved: None,
        })
    }
}

impl TargetCreate {
    fn read(self) -> Result<SecretTarget, FieldFault> {
        let fault = |field: &str, message: &str| FieldFault { field: field.into(), message: message.into() };
        match (self.env, self.file) {
            (None, Some(path)) => {
                let mode = self.mode.map(|text| octal(&text));
                let mode = mode.unwrap_or(Some(SECRET_MODE));
                Ok(SecretTarget::File {
                    path,
                    mode: mode.ok_or_else(|| fault("as.mode", "must be octal digits such as 0400"))?,
                    uid: self.uid.unwrap_or(0),
                    gid: self.gid.unwrap_or(0),
                })
            }
            (Some(name), None) => {
                let file_only = [
                    ("as.mode", self.mode.is_some()),
                    ("as.uid", self.uid.is_some()),
                    ("as.gid", self.gid.is_some()),
                ];
                match file_only.into_iter().find(|(_, there)| *there) {
                    Some((field, _)) => Err(fault(field, "goes with file only")),
                    None => Ok(SecretTarget::Env { name }),
                }
            }
            (Some(_), Some(_)) | (None, None) => Err(fault("as", "must have either env or file")),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(value: Value) -> Result<Vec<SecretUse>, String> {
        let create: SecretCreate = serde_json::from_value(value).map_err(|e| e.to_string())?;
        secrets(vec![create]).map_err(|e| e.to_string())
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let read = |value| read(value).unwrap().remove(0);
        let file = read(json!({"credential": "tls", "as": {"file": "/run/tls.key"}}));
        assert_eq!(file.target, SecretTarget::file("/run/tls.key"));
        assert_eq!((file.version, file.key, file.resolved), (None, None, None));
        let whole = json!({
            "credential": "tls", "key": "k", "version": 3,
            "as": {"file": "/a", "mode": "0440", "uid": 33, "gid": 34}
        });
        let whole = read(whole);
        let target = SecretTarget::File { path: "/a".into(), mode: 0o440, uid: 33, gid: 34 };
        assert_eq!((whole.target, whole.version, whole.key.as_deref()), (target, Some(3), Some("k")));
        let latest = read(json!({"credential": "tls", "version": "latest", "as": {"env": "A"}}));
        assert_eq!((latest.version, latest.target), (None, SecretTarget::Env { name: "A".into() }));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for (value, said) in [
            (json!({"credential": "TLS", "as": {"env": "A"}}), "secrets[0].credential must be 1 to 63"),
            (json!({"credential": "tls", "as": {}}), "secrets[0].as must have either env or file"),
            (
                json!({"credential": "tls", "as": {"env": "A", "file": "/a"}}),
                "secrets[0].as must have either",
            ),
            (
                json!({"credential": "tls", "as": {"env": "A", "uid": 1}}),
                "secrets[0].as.uid goes with file only",
            ),
            (
                json!({"credential": "tls", "as": {"file": "/a", "mode": "rw"}}),
                "secrets[0].as.mode must be octal",
            ),
            (json!({"credential": "tls", "version": "new", "as": {"env": "A"}}), "a number or \"latest\""),
            (json!({"credential": "tls", "as": {"env": "A"}, "value": "x"}), "unknown field `value`"),
        ] {
            let told = read(value).unwrap_err();
            assert!(told.contains(said), "{told}");
        }
    }
}
