//! Which credentials a container is given, as it is shown. Never a value.

use domain::spec::{SecretTarget, SecretUse};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

/// One use of a credential.
#[derive(Serialize, ToSchema)]
pub struct SecretUseView {
    /// The credential's name.
    credential: String,
    /// Null: all of it.
    key: Option<String>,
    /// A version's number, or `latest`.
    version: VersionView,
    /// How the container finds it.
    r#as: SecretTargetView,
    /// What that means in this revision.
    resolved: Option<ResolvedView>,
}

/// A version's number, or `latest`.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
enum VersionView {
    Number(u32),
    Word(LatestView),
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum LatestView {
    Latest,
}

/// How a container finds a value.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
enum SecretTargetView {
    /// As an environment variable, which whoever may inspect the container at its
    /// engine sees.
    Env {
        /// The variable's name.
        env: String,
    },
    /// As a file in memory.
    File {
        /// Its path.
        file: String,
        /// Permissions in octal digits.
        mode: String,
        /// Number of the user whose it is.
        uid: u32,
        /// Number of its group.
        gid: u32,
    },
}

/// One version of one credential.
#[derive(Serialize, ToSchema)]
struct ResolvedView {
    credential_id: Uuid,
    version: u32,
}

impl From<SecretUse> for SecretUseView {
    fn from(secret: SecretUse) -> Self {
        Self {
            credential: secret.credential.into(),
            key: secret.key,
            version: secret.version.map_or(VersionView::Word(LatestView::Latest), VersionView::Number),
            r#as: match secret.target {
                SecretTarget::Env { name } => SecretTargetView::Env { env: name },
                SecretTarget::File { path, mode, uid, gid } => {
                    SecretTargetView::File { file: path, mode: format!("{mode:04o}"), uid, gid }
                }
            },
            resolved: secret.resolved.map(|resolved| ResolvedView {
                credential_id: resolved.credential_id.uuid(),
                version: resolved.version,
            }),
        }
    }
}
