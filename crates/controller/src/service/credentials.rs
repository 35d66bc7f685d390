//! Credentials: what may be in them, and who uses them.

use domain::{
    credential::{self, CredentialKind, CredentialValue, VALUE_MAX_BYTES, registry},
    id::{CredentialId, ProjectId},
    name::{Labels, labels_fault},
    spec::FieldFault,
};
use serde_json::json;
use store::{
    audit::Actor,
    caller::Visible,
    credential::{
        Credential, CredentialKey, CredentialNew, CredentialUser, Deleted, Follower, OpenedVersion, Replaced,
        ValueNew,
    },
};
use uuid::Uuid;

use super::Services;
use crate::{
    error::{Error, ErrorKind},
    vault::certificate_shown,
};

/// What a user wants to keep, not yet checked. No `Debug`.
pub struct CredentialWish {
    /// Which project it shall belong to.
    pub project_id: ProjectId,
    /// The name, as given.
    pub name: String,
    /// Labels that a node must carry to be given it.
    pub node_labels: Labels,
    /// The value.
    pub value: CredentialValue,
}

domain::assert_has_not!(CredentialWish: std::fmt::Debug, std::fmt::Display, serde::Serialize, Clone);

impl Services {
    /// Makes a credential.
    ///
    /// # Errors
    /// With every field that is not allowed, and nothing of the value; when the name is in
    /// use, or the project has as many as it may have.
    pub async fn credential_create(&self, wish: CredentialWish, actor: &Actor) -> Result<Credential, Error> {
        let mut faults = Vec::new();
        if let Err(message) = credential::name(&wish.name) {
            faults.push(FieldFault { field: "name".to_owned(), message });
        }
        if let Some(message) = labels_fault(&wish.node_labels) {
            faults.push(FieldFault { field: "node_labels".to_owned(), message });
        }
        let kind = wish.value.kind();
        let value = match checked(wish.value) {
            Ok(value) if faults.is_empty() => value,
            Ok(_) => return Err(Error::invalid(faults)),
            Err(more) => {
                faults.extend(more);
                return Err(Error::invalid(faults));
            }
        };
        let new = CredentialNew {
            id: CredentialId::from_uuid(Uuid::now_v7()),
            project_id: wish.project_id,
            name: wish.name,
            kind,
            node_labels: wish.node_labels,
            value,
        };
        let made = self.store.credential_create(&new, actor).await?;
        tracing::info!(credential.id = %made.id, credential.kind = made.kind.as_str(), "credential made");
        Ok(made)
    }

    /// Gives a credential a new value. Deployments that follow it are rolled to it.
    ///
    /// # Errors
    /// With every field that is not allowed; when the value is of another kind, or does
    /// not fit those who use it.
    pub async fn credential_replace(
        &self,
        credential: &Credential,
        value: CredentialValue,
        actor: &Actor,
    ) -> Result<(u32, Vec<Follower>), Error> {
        if value.kind() != credential.kind {
            return Err(Error::invalid_field(
                "kind",
                format!("must be that of a {}", credential.kind.as_str()),
            ));
        }
        let value = checked(value).map_err(Error::invalid)?;
        replaced(credential, self.store.credential_replace(credential.id, &value, actor).await?)
    }

    /// Gives a credential the value of an earlier version again, as a new version.
    ///
    /// # Errors
    /// When there is no such version, or it does not fit those who use it now.
    pub async fn credential_rollback(
        &self,
        credential: &Credential,
        version: u32,
        actor: &Actor,
    ) -> Result<(u32, Vec<Follower>), Error> {
        replaced(credential, self.store.credential_rollback(credential.id, version, actor).await?)
    }

    /// Deletes a credential.
    ///
    /// # Errors
    /// That it is in use, and by whom.
    pub async fn credential_delete(&self, credential: &Credential, actor: &Actor) -> Result<(), Error> {
        match self.store.credential_delete(credential.id, actor).await? {
            Deleted::Yes => {
                tracing::info!(credential.id = %credential.id, "credential deleted");
                Ok(())
            }
            Deleted::InUse(users) => Err(in_use(credential, &users)),
        }
    }

    /// The value of a version, for somebody who may see it; the newest when none is named.
    /// It is written down who saw what.
    ///
    /// # Errors
    /// When values are not to be seen here at all, or there is no such version.
    pub async fn credential_reveal(
        &self,
        credential: &Credential,
        version: Option<u32>,
        actor: &Actor,
    ) -> Result<OpenedVersion, Error> {
        if !self.settings.reveal_enabled {
            let message = "values of credentials are not shown here; see reveal_enabled";
            return Err(Error::new(ErrorKind::PermissionDenied, "reveal_disabled", message));
        }
        let version = version.unwrap_or(credential.latest);
        let opened = self.store.credential_reveal(credential.id, version, actor).await?;
        opened.ok_or_else(|| Error::not_found("version of the credential"))
    }

    /// A credential by id, whoever sees it, or by name among those that are seen: in the
    /// project, where one is given; else in the default one; else in whichever alone has it.
    ///
    /// # Errors
    /// When there is none, or several projects have one of that name.
    pub async fn credential_find(
        &self,
        text: &str,
        project: Option<ProjectId>,
        visible: &Visible,
    ) -> Result<Credential, Error> {
        let missing = || Error::not_found("credential");
        if let Ok(id) = text.parse::<CredentialId>() {
            let found = self.store.credential_fetch(&CredentialKey::Id(id)).await?;
            return found.filter(|c| project.is_none_or(|id| c.project_id == id)).ok_or_else(missing);
        }
        if let Some(id) = project {
            let found = self.store.credential_fetch(&CredentialKey::In(id, text.to_owned())).await?;
            return found.filter(|found| visible.sees(found.project_id.uuid())).ok_or_else(missing);
        }
        let mut namesakes = self.store.credential_list_named(text, visible).await?.into_iter();
        let first = namesakes.next().ok_or_else(missing)?;
        if first.project_id == ProjectId::DEFAULT || namesakes.len() == 0 {
            return Ok(first);
        }
        let projects: Vec<_> = std::iter::once(first.project).chain(namesakes.map(|c| c.project)).collect();
        let projects = projects.join(", ");
        let message = format!("several projects have a credential {text}: {projects}; say which (?project=)");
        Err(Error::new(ErrorKind::Conflict, "ambiguous_name", message))
    }
}

/// A value that may be kept, and what may be shown of it.
fn checked(value: CredentialValue) -> Result<ValueNew, Vec<FieldFault>> {
    let faults = value.faults();
    if !faults.is_empty() {
        return Err(faults);
    }
    let (mut shown, mut registry_host) = (json!({}), None);
    match &value {
        CredentialValue::Registry(login) => {
            registry_host = registry::host_of_server(&login.server).ok();
            shown = json!({ "server": registry_host });
        }
        CredentialValue::Tls(pair) => {
            shown = serde_json::to_value(certificate_shown(pair)?).unwrap_or_default();
        }
        CredentialValue::Bytes(_) | CredentialValue::Data(_) | CredentialValue::Webhook(_) => {}
    }
    let kind = value.kind();
    let fault = |message: String| vec![FieldFault { field: field_of(kind).to_owned(), message }];
    let (form, value) = value.into_plain().map_err(|_| fault("must be text".to_owned()))?;
    if value.size_bytes() > VALUE_MAX_BYTES {
        return Err(fault(format!("must have at most {VALUE_MAX_BYTES} bytes as JSON")));
    }
    Ok(ValueNew { form, value, shown, registry_host })
}

const fn field_of(kind: CredentialKind) -> &'static str {
    match kind {
        CredentialKind::Secret => "value",
        other => other.as_str(),
    }
}

fn replaced(credential: &Credential, outcome: Replaced) -> Result<(u32, Vec<Follower>), Error> {
    match outcome {
        Replaced::Yes(version, followers) => {
            tracing::info!(
                credential.id = %credential.id, credential.version = version,
                followers = followers.len(), "credential has a new version"
            );
            Ok((version, followers))
        }
        Replaced::Unfit(faults) => Err(Error::invalid(faults)),
    }
}

fn in_use(credential: &Credential, users: &[CredentialUser]) -> Error {
    let user = |user: &CredentialUser| FieldFault {
        field: format!("deployments/{}", user.deployment),
        message: match user.version {
            Some(version) => format!("revision {} uses version {version}", user.revision),
            None => format!("revision {} has an image of its registry", user.revision),
        },
    };
    let message = format!("credential {} is in use by {} deployments", credential.name, {
        users.iter().map(|user| user.deployment_id).collect::<std::collections::BTreeSet<_>>().len()
    });
    Error::new(ErrorKind::Conflict, "credential_in_use", message)
        .with_fields(users.iter().map(user).collect())
}
