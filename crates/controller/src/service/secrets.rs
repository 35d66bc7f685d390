//! What an instance is given of the vault, and whether it may be.
//!
//! A node gets what its own assignments need and nothing else: whether an instance is one
//! of them is asked in the query that finds it, and whether a credential may be on that
//! node by its labels as they are now.

use domain::{
    credential::{registry::carries, select::select},
    id::{CredentialId, InstanceId, NodeId},
    secret::Secret,
    spec::SecretUse,
};
use store::credential::InstanceSecrets;

use super::Services;
use crate::error::{Error, ErrorKind};

/// A login, opened. No `Debug`.
pub struct LoginGiven {
    /// The registry.
    pub server: Secret,
    /// The account.
    pub username: Secret,
    /// Password or token.
    pub password: Secret,
}

domain::assert_has_not!(LoginGiven: std::fmt::Debug, std::fmt::Display, serde::Serialize, Clone);

/// What an instance may have.
pub enum Given {
    /// All that it needs.
    All(InstanceSecrets),
    /// Something cannot be served; in words, without content.
    Missing(String),
}

impl Services {
    /// What an instance needs that is assigned to a node, where all of it can be served.
    ///
    /// # Errors
    /// When the instance is not that node's, or is to go.
    pub async fn secrets_of(&self, node: NodeId, instance: InstanceId) -> Result<Given, Error> {
        let wanted = self.store.instance_secrets_fetch(node, instance).await?;
        let wanted = wanted.ok_or_else(|| Error::not_found("instance on this node"))?;
        let versions: Vec<(CredentialId, u32)> = wanted
            .secrets
            .iter()
            .filter_map(|used| used.resolved.as_ref().map(|r| (r.credential_id, r.version)))
            .collect();
        let known = self.store.credential_versions_known(&versions).await?;
        for used in &wanted.secrets {
            let version = used.resolved.as_ref().map(|r| (r.credential_id, r.version));
            let Some(labels) = version.and_then(|version| known.get(&version)) else {
                return Ok(Given::Missing(missing(used, "is not there any more")));
            };
            if !carries(&wanted.node_labels, labels) {
                return Ok(Given::Missing(missing(used, "is not for this node, by its labels")));
            }
        }
        Ok(Given::All(wanted))
    }

    /// The value of one use.
    ///
    /// # Errors
    /// When it is not there any more, does not open, or has no such part.
    pub async fn secret_of_use(&self, used: &SecretUse) -> Result<Secret, Error> {
        let gone = |why: &str| Error::new(ErrorKind::Conflict, "secret_missing", missing(used, why));
        let resolved = used.resolved.as_ref().ok_or_else(|| gone("was not found yet"))?;
        let opened = self.store.credential_open(resolved.credential_id, resolved.version).await?;
        let opened = opened.ok_or_else(|| gone("is not there any more"))?;
        select(opened.form, &opened.value, used.key.as_deref()).map_err(|e| gone(&e.to_string()))
    }

    /// A login as it is now; `None` when it is not there any more.
    ///
    /// # Errors
    /// When it does not open.
    pub async fn login_of(&self, id: CredentialId) -> Result<Option<LoginGiven>, Error> {
        let Some(opened) = self.store.credential_open_latest(id).await? else { return Ok(None) };
        let part = |key| select(opened.form, &opened.value, Some(key)).map_err(Error::internal);
        Ok(Some(LoginGiven {
            server: part("server")?,
            username: part("username")?,
            password: part("password")?,
        }))
    }
}

fn missing(used: &SecretUse, why: &str) -> String {
    let version = used.resolved.as_ref().map(|r| format!(", version {},", r.version)).unwrap_or_default();
    format!("credential {}{version} {why}", used.credential)
}
