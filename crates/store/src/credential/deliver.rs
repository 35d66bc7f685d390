//! Opening values: for the instance that uses them, and for who may see them.

use std::collections::{BTreeMap, BTreeSet};

use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use domain::{
    credential::{
        Form,
        registry::{Login, choose, host_of_image},
    },
    id::{CredentialId, InstanceId, NodeId},
    instance::Desired,
    name::Labels,
    secret::Secret,
    spec::SecretUse,
};
use uuid::Uuid;

use super::{Place, Sealed, Sealer, column, number, read_form, read_labels};
use crate::{
    Store, StoreError,
    audit::{Actor, AuditNew, audit_insert_on_conn},
    deployment::read_spec,
    schema::{credential_versions, credentials, deployments, instances, nodes, projects, revisions},
};

/// A version, opened. No `Debug`.
pub struct OpenedVersion {
    /// The credential's name.
    pub name: String,
    /// Labels that a node must carry to be given it.
    pub node_labels: Labels,
    /// Which version.
    pub version: u32,
    /// How the value is to be read.
    pub form: Form,
    /// What may be shown of it.
    pub shown: serde_json::Value,
    /// The value.
    pub value: Secret,
}

domain::assert_has_not!(OpenedVersion: std::fmt::Debug, std::fmt::Display, serde::Serialize, Clone);

/// What an instance on a node needs of the vault.
#[derive(Clone, Debug)]
pub struct InstanceSecrets {
    /// The login for its image, if there is one.
    pub login: Option<CredentialId>,
    /// What its revision asks for.
    pub secrets: Vec<SecretUse>,
    /// The labels of its node, as they are now.
    pub node_labels: Labels,
}

impl Store {
    /// What an instance needs that is assigned to that node and of which something is
    /// left; `None` for any other.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn instance_secrets_fetch(
        &self,
        node: NodeId,
        instance: InstanceId,
    ) -> Result<Option<InstanceSecrets>, StoreError> {
        let mut conn = self.conn().await?;
        let revision = revisions::deployment_id
            .eq(instances::deployment_id)
            .and(revisions::number.eq(instances::revision));
        let row: Option<(Uuid, serde_json::Value, serde_json::Value)> = instances::table
            .inner_join(deployments::table)
            .inner_join(revisions::table.on(revision))
            .inner_join(nodes::table)
            .filter(instances::id.eq(instance.uuid()))
            .filter(instances::node_id.eq(node.uuid()))
            .filter(instances::assigned)
            .filter(instances::removed.eq(false))
            .filter(instances::desired.ne(Desired::Removed.as_str()))
            .select((deployments::project_id, revisions::spec, nodes::labels))
            .first(&mut conn)
            .await
            .optional()?;
        let Some((project, spec, labels)) = row else { return Ok(None) };
        let spec = read_spec(spec)?.instance;
        let logins = LoginsOfNode::read_in_txn(&mut conn, labels, [project]).await?;
        let login = logins.choose(project, &spec.image);
        Ok(Some(InstanceSecrets { login, secrets: spec.secrets, node_labels: logins.labels }))
    }

    /// Those of these versions that are there, with the labels that a node must carry.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn credential_versions_known(
        &self,
        versions: &[(CredentialId, u32)],
    ) -> Result<BTreeMap<(CredentialId, u32), Labels>, StoreError> {
        let mut conn = self.conn().await?;
        let ids: BTreeSet<Uuid> = versions.iter().map(|(id, _)| id.uuid()).collect();
        let numbers: BTreeSet<i32> = versions.iter().map(|(_, version)| column(*version)).collect();
        let rows: Vec<(Uuid, i32, serde_json::Value)> = credential_versions::table
            .inner_join(credentials::table)
            .filter(credential_versions::credential_id.eq_any(ids))
            .filter(credential_versions::version.eq_any(numbers))
            .select((credentials::id, credential_versions::version, credentials::node_labels))
            .load(&mut conn)
            .await?;
        rows.into_iter()
            .map(|(id, version, labels)| Ok(((id.into(), number(version)), read_labels(labels)?)))
            .collect()
    }

    /// Opens a version; `None` when it is not there any more.
    ///
    /// # Errors
    /// [`StoreError::NotOpened`], which names the credential.
    pub async fn credential_open(
        &self,
        id: CredentialId,
        version: u32,
    ) -> Result<Option<OpenedVersion>, StoreError> {
        let sealer = self.sealer()?;
        let mut conn = self.conn().await?;
        open_in_txn(&mut conn, sealer, id, version).await
    }

    /// Opens a login as it is now; `None` when it is not there any more.
    ///
    /// # Errors
    /// [`StoreError::NotOpened`], which names the credential.
    pub async fn credential_open_latest(
        &self,
        id: CredentialId,
    ) -> Result<Option<OpenedVersion>, StoreError> {
        let sealer = self.sealer()?;
        let mut conn = self.conn().await?;
        let query = credentials::table.find(id.uuid()).select(credentials::latest);
        let latest: Option<i32> = query.first(&mut conn).await.optional()?;
        match latest {
            Some(latest) => open_in_txn(&mut conn, sealer, id, number(latest)).await,
            None => Ok(None),
        }
    }

    /// Opens a version for somebody who may see it, and writes that down.
    ///
    /// # Errors
    /// [`StoreError::NotOpened`], which names the credential.
    pub async fn credential_reveal(
        &self,
        id: CredentialId,
        version: u32,
        actor: &Actor,
    ) -> Result<Option<OpenedVersion>, StoreError> {
        let sealer = self.sealer()?;
        self.transact("credential_reveal", async |conn| {
            let Some(opened) = open_in_txn(conn, sealer, id, version).await? else { return Ok(None) };
            let project: String = credentials::table
                .inner_join(projects::table)
                .filter(credentials::id.eq(id.uuid()))
                .select(projects::name)
                .first(conn)
                .await?;
            let after = serde_json::json!({ "version": version });
            let audit = AuditNew::done("credential_reveal", &opened.name).in_project(project);
            audit_insert_on_conn(conn, actor, &audit.change(None, Some(after))).await?;
            Ok(Some(opened))
        })
        .await
    }
}

/// Opens a version.
pub(super) async fn open_in_txn(
    conn: &mut AsyncPgConnection,
    sealer: &dyn Sealer,
    id: CredentialId,
    version: u32,
) -> Result<Option<OpenedVersion>, StoreError> {
    type Columns = ((Uuid, String, serde_json::Value), (String, serde_json::Value), (Vec<u8>, Vec<u8>, i32));
    let row: Option<Columns> = credential_versions::table
        .inner_join(credentials::table)
        .filter(credential_versions::credential_id.eq(id.uuid()))
        .filter(credential_versions::version.eq(column(version)))
        .select((
            (credentials::project_id, credentials::name, credentials::node_labels),
            (credential_versions::form, credential_versions::shown),
            (credential_versions::sealed, credential_versions::sealed_by, credential_versions::epoch),
        ))
        .first(conn)
        .await
        .optional()?;
    let Some(((project, name, labels), (form, shown), (bytes, master_key, epoch))) = row else {
        return Ok(None);
    };
    let place = Place { project_id: project.into(), credential_id: id, version };
    let sealed = Sealed { master_key, epoch: number(epoch), bytes };
    let value = sealer.open(place, &sealed).map_err(|source| StoreError::NotOpened {
        credential: format!("{name} ({id}), version {version}"),
        source,
    })?;
    let (node_labels, form) = (read_labels(labels)?, read_form(&form)?);
    Ok(Some(OpenedVersion { name, node_labels, version, form, shown, value }))
}

/// The logins that a node may be given, by project.
pub(crate) struct LoginsOfNode {
    labels: Labels,
    of_project: BTreeMap<Uuid, Vec<Login>>,
}

impl LoginsOfNode {
    /// Reads them, for a node with these labels.
    pub(crate) async fn read_in_txn(
        conn: &mut AsyncPgConnection,
        labels: serde_json::Value,
        projects: impl IntoIterator<Item = Uuid>,
    ) -> Result<Self, StoreError> {
        let projects: BTreeSet<Uuid> = projects.into_iter().collect();
        let rows: Vec<(Uuid, Uuid, Option<String>, serde_json::Value)> = credentials::table
            .filter(credentials::project_id.eq_any(projects))
            .filter(credentials::registry_host.is_not_null())
            .select((
                credentials::project_id,
                credentials::id,
                credentials::registry_host,
                credentials::node_labels,
            ))
            .load(conn)
            .await?;
        let mut of_project: BTreeMap<Uuid, Vec<Login>> = BTreeMap::new();
        for (project, id, host, node_labels) in rows {
            let (host, node_labels) = (host.unwrap_or_default(), read_labels(node_labels)?);
            of_project.entry(project).or_default().push(Login { id: id.into(), host, node_labels });
        }
        Ok(Self { labels: read_labels(labels)?, of_project })
    }

    /// The login for an image of a deployment of that project.
    pub(crate) fn choose(&self, project: Uuid, image: &str) -> Option<CredentialId> {
        let logins = self.of_project.get(&project)?;
        choose(logins, &host_of_image(image), &self.labels)
    }
}
