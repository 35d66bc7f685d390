//! Who uses which version of which credential.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use diesel::{
    prelude::*,
    sql_types::{Bool, Integer, Text, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use domain::{
    credential::{registry::host_of_image, use_fault},
    deployment::DeploymentSpec,
    id::{CredentialId, DeploymentId, NodeId, OperationId, ProjectId},
    instance::Desired,
    operation::OperationKind,
    spec::{FieldFault, InstanceSpec, Resolved, SecretTarget, SecretUse},
};
use uuid::Uuid;

use super::{Credential, Named, OpenedVersion, Sealer, ValueNew, column, deliver::open_in_txn, number};
use crate::{
    Refusal, Store, StoreError,
    audit::Actor,
    deployment::{
        read_spec,
        revision::{RevisionNew, Template, deployment_revise_in_txn},
    },
    event::{EventNew, Severity, event_insert_on_conn},
    instance::assignment_revision_next_in_txn,
    schema::{credential_uses, credentials, deployments, instances, revisions},
};

/// Whether a use `u` is live, in SQL.
pub(super) const LIVE: &str = "exists (select 1 from deployments d where d.id = u.deployment_id \
    and d.deleted_at is null and (u.revision in (d.revision, d.stable_revision) or exists (select 1 from instances i \
    where i.deployment_id = u.deployment_id and i.revision = u.revision and i.assigned and not i.removed)))";

/// Somebody who uses a credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialUser {
    /// Which deployment.
    pub deployment_id: DeploymentId,
    /// By name.
    pub deployment: String,
    /// Which of its revisions; the present one, or one that still has instances.
    pub revision: u32,
    /// Whether that is the present one.
    pub is_present: bool,
    /// Which version; `None` for a login, which is used as it is at the moment.
    pub version: Option<u32>,
    /// Whether a newer version makes a new revision.
    pub follows: bool,
}

/// A deployment that follows a credential and has a new revision for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Follower {
    /// Which.
    pub deployment_id: DeploymentId,
    /// By name.
    pub deployment: String,
    /// What brings the new revision about.
    pub operation_id: OperationId,
}

/// A deployment whose present revision follows a credential.
pub(super) struct Following {
    deployment: Named,
    spec: DeploymentSpec,
}

impl Store {
    /// Who uses a credential: by its live uses, and of a login whoever has an image of
    /// its registry.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn credential_users(&self, credential: &Credential) -> Result<Vec<CredentialUser>, StoreError> {
        let mut conn = self.conn().await?;
        let mut users = users_in_txn(&mut conn, credential.id).await?;
        users.extend(login_users_in_txn(&mut conn, credential).await?);
        Ok(users)
    }
}

/// Finds out what the uses of a spec mean now, and notes it there. The credentials stay
/// as they are until this transaction is over. Take them before the deployment's row.
///
/// # Errors
/// [`Refusal::Invalid`] with every use that cannot be served.
pub(crate) async fn secrets_resolve_in_txn(
    conn: &mut AsyncPgConnection,
    store: &Store,
    project: ProjectId,
    spec: &mut DeploymentSpec,
) -> Result<(), StoreError> {
    let names: BTreeSet<&str> = spec.instance.secrets.iter().map(|used| used.credential.as_str()).collect();
    if names.is_empty() {
        return Ok(());
    }
    let sealer = store.sealer()?;
    let known: Vec<(Uuid, String, i32)> = credentials::table
        .filter(credentials::project_id.eq(project.uuid()))
        .filter(credentials::name.eq_any(names))
        .order(credentials::id)
        .select((credentials::id, credentials::name, credentials::latest))
        .for_share()
        .load(conn)
        .await?;
    let known: BTreeMap<String, (CredentialId, u32)> =
        known.into_iter().map(|(id, name, latest)| (name, (id.into(), number(latest)))).collect();
    let mut opened = BTreeMap::new();
    let mut faults = Vec::new();
    for (index, used) in spec.instance.secrets.iter_mut().enumerate() {
        let mut fault = |field: &str, message: String| {
            faults.push(FieldFault { field: format!("secrets[{index}].{field}"), message });
        };
        let Some(&(credential_id, latest)) = known.get(used.credential.as_str()) else {
            fault("credential", "there is no such credential in the project".to_owned());
            continue;
        };
        let version = used.version.unwrap_or(latest);
        let Some(value) = opened_once(conn, sealer, &mut opened, (credential_id, version)).await? else {
            fault("version", "there is no such version of the credential".to_owned());
            continue;
        };
        if let Some((field, message)) = use_fault(used, value.form, &value.value) {
            fault(field, message);
        }
        let node_labels = value.node_labels.clone();
        used.resolved = Some(Resolved { credential_id, version, node_labels });
    }
    if faults.is_empty() { Ok(()) } else { Err(Refusal::Invalid(faults).into()) }
}

type Opened = BTreeMap<(CredentialId, u32), Option<OpenedVersion>>;

/// A version that several uses may ask for.
async fn opened_once<'a>(
    conn: &mut AsyncPgConnection,
    sealer: &dyn Sealer,
    opened: &'a mut Opened,
    (id, version): (CredentialId, u32),
) -> Result<Option<&'a OpenedVersion>, StoreError> {
    let kept = match opened.entry((id, version)) {
        Entry::Occupied(there) => there.into_mut(),
        Entry::Vacant(place) => place.insert(open_in_txn(conn, sealer, id, version).await?),
    };
    Ok(kept.as_ref())
}

/// Notes which versions a new revision uses.
pub(crate) async fn uses_insert_in_txn(
    conn: &mut AsyncPgConnection,
    deployment: DeploymentId,
    revision: i32,
    spec: &InstanceSpec,
) -> Result<(), StoreError> {
    let resolved = || {
        let numbered = spec.secrets.iter().zip(0_i32..);
        numbered.filter_map(|(used, position)| Some((used, position, used.resolved.as_ref()?)))
    };
    let wanted: BTreeSet<Uuid> = resolved().map(|(.., r)| r.credential_id.uuid()).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    // A revision that is taken up again may name one that is gone: its instances will say so.
    let known: Vec<Uuid> = credentials::table
        .filter(credentials::id.eq_any(wanted))
        .order(credentials::id)
        .select(credentials::id)
        .for_key_share()
        .load(conn)
        .await?;
    let rows: Vec<_> = resolved()
        .filter(|(.., r)| known.contains(&r.credential_id.uuid()))
        .map(|(used, position, resolved)| {
            (
                credential_uses::deployment_id.eq(deployment.uuid()),
                credential_uses::revision.eq(revision),
                credential_uses::position.eq(position),
                credential_uses::credential_id.eq(resolved.credential_id.uuid()),
                credential_uses::version.eq(column(resolved.version)),
                credential_uses::follows.eq(used.version.is_none()),
            )
        })
        .collect();
    if !rows.is_empty() {
        diesel::insert_into(credential_uses::table).values(rows).execute(conn).await?;
    }
    Ok(())
}

/// Says, once for a deployment, that somebody who may look at its containers sees what
/// it is given as environment variables.
pub(crate) async fn env_warning_in_txn(
    conn: &mut AsyncPgConnection,
    (id, name): (DeploymentId, &str),
    before: Option<&InstanceSpec>,
    spec: &InstanceSpec,
) -> Result<(), StoreError> {
    if before.is_some_and(|before| env_warning(before).is_some()) {
        return Ok(());
    }
    let Some(warning) = env_warning(spec) else { return Ok(()) };
    let event = EventNew {
        deployment_id: Some(id),
        ..EventNew::now("secret_in_env", Severity::Warning, format!("deployment {name}: {warning}"))
    };
    event_insert_on_conn(conn, &event).await
}

/// What is to be said of credentials that are asked for as environment variables.
#[must_use]
pub fn env_warning(spec: &InstanceSpec) -> Option<String> {
    let named = spec.secrets.iter().filter_map(|used| match &used.target {
        SecretTarget::Env { name } => Some(format!("{} as {name}", used.credential)),
        SecretTarget::File { .. } => None,
    });
    let named: Vec<String> = named.collect();
    (!named.is_empty()).then(|| {
        format!(
            "environment variables are shown by the engine to whoever may inspect a container: {}; a file is not",
            named.join(", ")
        )
    })
}

#[derive(QueryableByName)]
struct UserRow {
    #[diesel(sql_type = SqlUuid)]
    deployment_id: Uuid,
    #[diesel(sql_type = Text)]
    deployment: String,
    #[diesel(sql_type = Integer)]
    revision: i32,
    #[diesel(sql_type = Bool)]
    is_present: bool,
    #[diesel(sql_type = Integer)]
    version: i32,
    #[diesel(sql_type = Bool)]
    follows: bool,
}

/// Who uses a credential, by its live uses.
pub(super) async fn users_in_txn(
    conn: &mut AsyncPgConnection,
    id: CredentialId,
) -> Result<Vec<CredentialUser>, StoreError> {
    let rows: Vec<UserRow> = diesel::sql_query(format!(
        "select distinct u.deployment_id, n.name as deployment, u.revision, u.revision = n.revision as is_present, \
         u.version, u.follows from credential_uses u join deployments n on n.id = u.deployment_id \
         where u.credential_id = $1 and {LIVE} order by 2, 3, 5"
    ))
    .bind::<SqlUuid, _>(id.uuid())
    .load(conn)
    .await?;
    let user = |row: UserRow| CredentialUser {
        deployment_id: row.deployment_id.into(),
        deployment: row.deployment,
        revision: number(row.revision),
        is_present: row.is_present,
        version: Some(number(row.version)),
        follows: row.follows,
    };
    Ok(rows.into_iter().map(user).collect())
}

/// Who has an image of a login's registry; nobody for other kinds.
pub(super) async fn login_users_in_txn(
    conn: &mut AsyncPgConnection,
    credential: &Credential,
) -> Result<Vec<CredentialUser>, StoreError> {
    let Some(host) = &credential.registry_host else { return Ok(Vec::new()) };
    let present =
        revisions::deployment_id.eq(deployments::id).and(revisions::number.eq(deployments::revision));
    let rows: Vec<(Uuid, String, i32, serde_json::Value)> = deployments::table
        .inner_join(revisions::table.on(present))
        .filter(deployments::project_id.eq(credential.project_id.uuid()))
        .filter(deployments::deleted_at.is_null())
        .order(deployments::name)
        .select((deployments::id, deployments::name, deployments::revision, revisions::spec))
        .load(conn)
        .await?;
    let mut users = Vec::new();
    for (id, deployment, revision, spec) in rows {
        if host_of_image(&read_spec(spec)?.instance.image) == *host {
            let revision = number(revision);
            let deployment_id = id.into();
            users.push(CredentialUser {
                deployment_id,
                deployment,
                revision,
                is_present: true,
                version: None,
                follows: true,
            });
        }
    }
    Ok(users)
}

/// Whether a use follows a credential.
fn follows_latest(used: &SecretUse, credential: CredentialId) -> bool {
    used.version.is_none() && used.resolved.as_ref().is_some_and(|r| r.credential_id == credential)
}

/// The deployments whose present revision follows a locked credential, locked too.
pub(super) async fn following_in_txn(
    conn: &mut AsyncPgConnection,
    credential: CredentialId,
) -> Result<Vec<Following>, StoreError> {
    let follows = credential_uses::table
        .filter(credential_uses::credential_id.eq(credential.uuid()))
        .filter(credential_uses::deployment_id.eq(deployments::id))
        .filter(credential_uses::revision.eq(deployments::revision))
        .filter(credential_uses::follows);
    let ids: Vec<Uuid> = deployments::table
        .filter(deployments::deleted_at.is_null())
        .filter(deployments::deleting.eq(false))
        .filter(diesel::dsl::exists(follows))
        .order(deployments::id)
        .select(deployments::id)
        .for_no_key_update()
        .load(conn)
        .await?;
    // Read again now that they are locked: while one was waited for, it may have got
    // another revision, and that may not follow.
    let present =
        revisions::deployment_id.eq(deployments::id).and(revisions::number.eq(deployments::revision));
    let rows: Vec<(Uuid, String, serde_json::Value)> = deployments::table
        .inner_join(revisions::table.on(present))
        .filter(deployments::id.eq_any(ids))
        .order(deployments::id)
        .select((deployments::id, deployments::name, revisions::spec))
        .load(conn)
        .await?;
    let mut following = Vec::with_capacity(rows.len());
    for (id, name, spec) in rows {
        let spec = read_spec(spec)?;
        if spec.instance.secrets.iter().any(|used| follows_latest(used, credential)) {
            following.push(Following { deployment: (id.into(), name), spec });
        }
    }
    Ok(following)
}

/// What deployments could not use of a new value.
pub(super) fn unfit(credential: CredentialId, following: &[Following], value: &ValueNew) -> Vec<FieldFault> {
    let faults = following.iter().flat_map(|Following { deployment: (_, name), spec }| {
        let uses = spec.instance.secrets.iter().enumerate();
        let uses = uses.filter(|(_, used)| follows_latest(used, credential));
        uses.filter_map(move |(index, used)| {
            let (field, message) = use_fault(used, value.form, &value.value)?;
            let message = format!("does not fit deployment {name}: its secrets[{index}].{field} {message}");
            Some(FieldFault { field: "value".to_owned(), message })
        })
    });
    faults.collect()
}

/// Gives every follower a revision with the new version.
pub(super) async fn follow_in_txn(
    conn: &mut AsyncPgConnection,
    credential: &Credential,
    version: u32,
    following: Vec<Following>,
    actor: &Actor,
) -> Result<Vec<Follower>, StoreError> {
    let mut followers = Vec::with_capacity(following.len());
    for Following { deployment: (deployment_id, deployment), mut spec } in following {
        for used in &mut spec.instance.secrets {
            if let Some(resolved) = &mut used.resolved
                && used.version.is_none()
                && resolved.credential_id == credential.id
            {
                resolved.version = version;
            }
        }
        let operation_id = OperationId::from_uuid(Uuid::now_v7());
        let new = RevisionNew {
            deployment: deployment_id,
            spec: &spec,
            kind: OperationKind::DeploymentUpdate,
            operation_id,
            cause: format!("credential {} has version {version}", credential.name),
            expected: None,
            supersede: true,
            template: Template::Found,
        };
        deployment_revise_in_txn(conn, &new, actor).await?;
        followers.push(Follower { deployment_id, deployment, operation_id });
    }
    Ok(followers)
}

/// Tells nodes anew about instances whose image is of a registry that a project has
/// another login for than before, or one more, or one less.
pub(super) async fn logins_changed_in_txn(
    conn: &mut AsyncPgConnection,
    project: ProjectId,
    host: &str,
) -> Result<(), StoreError> {
    let revision =
        revisions::deployment_id.eq(instances::deployment_id).and(revisions::number.eq(instances::revision));
    let rows: Vec<(Uuid, Uuid, serde_json::Value)> = instances::table
        .inner_join(deployments::table)
        .inner_join(revisions::table.on(revision))
        .filter(deployments::project_id.eq(project.uuid()))
        .filter(instances::assigned)
        .filter(instances::desired.ne(Desired::Removed.as_str()))
        .select((instances::id, instances::node_id, revisions::spec))
        .load(conn)
        .await?;
    let mut of_node: BTreeMap<NodeId, Vec<Uuid>> = BTreeMap::new();
    for (instance, node, spec) in rows {
        if host_of_image(&read_spec(spec)?.instance.image) == host {
            of_node.entry(node.into()).or_default().push(instance);
        }
    }
    // In the order of the nodes' ids, each before its instances, as everywhere.
    for (node, ids) in of_node {
        let revision = assignment_revision_next_in_txn(conn, node).await?;
        diesel::update(instances::table.filter(instances::id.eq_any(ids)))
            .set(instances::assignment_revision.eq(revision))
            .execute(conn)
            .await?;
    }
    Ok(())
}
