//! Revisions: what makes a new one, and what reads them.
//!
//! A revision has a *template*: the number of the revision whose copies its own are
//! like. An instance whose template is that of the present revision stays as it is,
//! whatever else changed; so a scale replaces nothing, and going back to an earlier
//! revision finds its copies where they still are.

use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use domain::{
    Timestamp,
    deployment::DeploymentSpec,
    id::{DeploymentId, OperationId},
    operation::OperationKind,
};
use serde_json::json;
use uuid::Uuid;

use super::{
    DeploymentKey, read_spec,
    request::{
        Asked, Open, deployment_lock_in_txn, operation_cancel_in_txn, operation_open_of_in_txn,
        requested_in_txn,
    },
};
use crate::{
    Refusal, Store, StoreError,
    audit::{Actor, spec_shown},
    credential::{env_warning_in_txn, secrets_resolve_in_txn, uses_insert_in_txn},
    operation::{OperationNew, operation_insert_in_txn},
    schema::{deployments, revisions},
};

/// A revision, as stored.
#[derive(Clone, Debug)]
pub struct Revision {
    /// Counts from 1 within its deployment.
    pub number: u32,
    /// What it says.
    pub spec: DeploymentSpec,
    /// Why it is there, for people.
    pub cause: String,
    /// The number of the revision whose copies its own are like.
    pub template: u32,
    /// By whom.
    pub created_by: String,
    /// When.
    pub created_at: Timestamp,
}

/// A new revision of a deployment, and the operation that brings it about.
pub struct RevisionNew<'a> {
    /// Whose.
    pub deployment: DeploymentId,
    /// What it says. Must be valid.
    pub spec: &'a DeploymentSpec,
    /// What is asked for: an update, a rollback or a scale.
    pub kind: OperationKind,
    /// The operation that carries it out.
    pub operation_id: OperationId,
    /// Why, for people; a clause such as `credential registry was replaced`.
    pub cause: String,
    /// The present revision as whoever asks knows it; `None` where that does not matter.
    pub expected: Option<u32>,
    /// Whether an operation that is under way is cancelled for this one; refused
    /// otherwise.
    pub supersede: bool,
    /// Which copies its own are like.
    pub template: Template,
}

/// Which copies those of a new revision are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Template {
    /// Those of the latest revision whose spec says the same of them, if there is one.
    Found,
    /// Those of no other: all are replaced, even where the spec says the same as before,
    /// because what it refers to has changed.
    New,
    /// Those of that template.
    Of(u32),
}

fn unsigned(number: i32) -> u32 {
    u32::try_from(number).unwrap_or_default()
}

fn signed(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// Makes a new revision of a deployment from a spec, with its operation, audit line and
/// event, within the caller's transaction. The deployment's row is locked from here on.
///
/// # Errors
/// [`Refusal::Missing`], [`Refusal::Deleting`], [`Refusal::RevisionChanged`],
/// [`Refusal::InProgress`] unless the new one supersedes it.
pub(crate) async fn deployment_revise_in_txn(
    conn: &mut AsyncPgConnection,
    new: &RevisionNew<'_>,
    actor: &Actor,
) -> Result<OperationId, StoreError> {
    let locked = deployment_lock_in_txn(conn, &DeploymentKey::Id(new.deployment)).await?;
    if locked.deleting {
        return Err(Refusal::Deleting(locked.name).into());
    }
    if new.expected.is_some_and(|expected| signed(expected) != locked.revision) {
        return Err(Refusal::RevisionChanged(unsigned(locked.revision)).into());
    }
    let mut replaced = 0;
    if let Some(open) = operation_open_of_in_txn(conn, locked.id).await? {
        if !new.supersede {
            return Err(Refusal::InProgress(open).into());
        }
        let why = format!("{} {} took its place", new.kind.as_str(), new.operation_id);
        replaced = operation_cancel_in_txn(conn, locked.id, Open::Whole, &why).await?;
    }
    let before = revision_in_txn(conn, locked.id, locked.revision).await?;
    let base = locked.stable_revision.unwrap_or(locked.revision);
    let inserted =
        revision_insert_in_txn(conn, locked.id, new.spec, &new.cause, new.template, &actor.name).await?;
    let (was, is) = (Some(&before.spec.instance), &new.spec.instance);
    env_warning_in_txn(conn, (locked.id, &locked.name), was, is).await?;
    // Where all copies stay as they are, what was good before is as good now.
    let alike = inserted.template == before.template && locked.stable_revision == Some(locked.revision);
    let stable = if alike { Some(inserted.number) } else { locked.stable_revision };
    diesel::update(deployments::table.filter(deployments::id.eq(locked.id.uuid())))
        .set((
            deployments::revision.eq(inserted.number),
            deployments::stable_revision.eq(stable),
            deployments::paused.eq(None::<String>),
            deployments::updated_at.eq(diesel::dsl::now),
        ))
        .execute(conn)
        .await?;
    let operation = OperationNew {
        total: new.spec.replicas,
        deadline_seconds: new.spec.progress_deadline_seconds,
        revision: Some(unsigned(inserted.number)),
        base_revision: Some(unsigned(base)),
        replaced,
        ..OperationNew::about(new.operation_id, new.kind, (locked.id, &locked.name))
    };
    operation_insert_in_txn(conn, &operation, actor).await?;
    let message = format!(
        "{} made revision {} of deployment {}: {}",
        actor.name, inserted.number, locked.name, new.cause
    );
    let asked = Asked {
        kind: new.kind,
        id: locked.id,
        name: &locked.name,
        project: locked.project,
        audit: (Some(spec_shown(&before.spec)), Some(spec_shown(new.spec))),
        event: (
            Some(json!({ "revision": locked.revision, "replicas": before.spec.replicas })),
            Some(json!({ "revision": inserted.number, "replicas": new.spec.replicas, "cause": new.cause })),
        ),
        message,
    };
    requested_in_txn(conn, asked, new.operation_id, actor).await?;
    Ok(new.operation_id)
}

/// A revision that was just made.
#[derive(Clone, Copy)]
pub(crate) struct Inserted {
    pub(crate) number: i32,
    pub(crate) template: i32,
}

/// The number that the next revision would have, and its template: that of the latest
/// revision whose spec says the same of copies, or else its own.
pub(crate) async fn template_found_in_txn(
    conn: &mut AsyncPgConnection,
    deployment: DeploymentId,
    spec: &DeploymentSpec,
) -> Result<Inserted, StoreError> {
    let earlier: Vec<(i32, i32, serde_json::Value)> = revisions::table
        .filter(revisions::deployment_id.eq(deployment.uuid()))
        .order(revisions::number.desc())
        .select((revisions::number, revisions::template, revisions::spec))
        .load(conn)
        .await?;
    let number = earlier.as_slice().iter().next().map_or(1, |(number, ..)| number + 1);
    for (_, template, stored) in earlier {
        if read_spec(stored)?.has_same_copies(spec) {
            return Ok(Inserted { number, template });
        }
    }
    Ok(Inserted { number, template: number })
}

/// Inserts the next revision of a deployment whose row is locked.
pub(crate) async fn revision_insert_in_txn(
    conn: &mut AsyncPgConnection,
    deployment: DeploymentId,
    spec: &DeploymentSpec,
    cause: &str,
    template: Template,
    created_by: &str,
) -> Result<Inserted, StoreError> {
    let Inserted { number, template: found } = template_found_in_txn(conn, deployment, spec).await?;
    let template = match template {
        Template::New => number,
        Template::Of(template) => signed(template),
        Template::Found => found,
    };
    let stored = serde_json::to_value(spec).map_err(|e| StoreError::corrupt("deployment's spec", e))?;
    diesel::insert_into(revisions::table)
        .values((
            revisions::deployment_id.eq(deployment.uuid()),
            revisions::number.eq(number),
            revisions::spec.eq(stored),
            revisions::created_by.eq(created_by),
            revisions::template.eq(template),
            revisions::cause.eq(cause),
        ))
        .execute(conn)
        .await?;
    uses_insert_in_txn(conn, deployment, number, &spec.instance).await?;
    Ok(Inserted { number, template })
}

type RevisionRow = (i32, serde_json::Value, String, i32, String, Timestamp);

fn read(
    (number, spec, cause, template, created_by, created_at): RevisionRow,
) -> Result<Revision, StoreError> {
    Ok(Revision {
        number: unsigned(number),
        spec: read_spec(spec)?,
        cause,
        template: unsigned(template),
        created_by,
        created_at,
    })
}

/// A revision with its numbers as stored.
pub(crate) struct Held {
    pub(crate) spec: DeploymentSpec,
    pub(crate) template: i32,
}

pub(crate) async fn revision_in_txn(
    conn: &mut AsyncPgConnection,
    deployment: DeploymentId,
    number: i32,
) -> Result<Held, StoreError> {
    let found: Option<(serde_json::Value, i32)> = revisions::table
        .find((deployment.uuid(), number))
        .select((revisions::spec, revisions::template))
        .first(conn)
        .await
        .optional()?;
    let (spec, template) = found.ok_or(Refusal::Missing("revision"))?;
    Ok(Held { spec: read_spec(spec)?, template })
}

impl Store {
    /// Makes a new revision; see [`RevisionNew`]. What its uses of credentials mean is
    /// found out anew, so one that follows gets the newest version.
    ///
    /// # Errors
    /// [`Refusal::Missing`], [`Refusal::Deleting`], [`Refusal::RevisionChanged`],
    /// [`Refusal::InProgress`], [`Refusal::Invalid`] for uses that cannot be served.
    pub async fn deployment_revise(
        &self,
        new: &RevisionNew<'_>,
        actor: &Actor,
    ) -> Result<OperationId, StoreError> {
        self.transact("deployment_revise", async |conn| {
            let project: Option<Uuid> = deployments::table
                .find(new.deployment.uuid())
                .select(deployments::project_id)
                .first(conn)
                .await
                .optional()?;
            let project = project.ok_or(Refusal::Missing("deployment"))?;
            let mut spec = new.spec.clone();
            // Before the deployment's row, as everywhere.
            secrets_resolve_in_txn(conn, self, project.into(), &mut spec).await?;
            // Copies that are given another version than those of a template are not like them.
            let template = match new.template {
                Template::Of(_) if spec != *new.spec => Template::Found,
                template => template,
            };
            let resolved = RevisionNew {
                deployment: new.deployment,
                spec: &spec,
                kind: new.kind,
                operation_id: new.operation_id,
                cause: new.cause.clone(),
                expected: new.expected,
                supersede: new.supersede,
                template,
            };
            deployment_revise_in_txn(conn, &resolved, actor).await
        })
        .await
    }

    /// The revisions of a deployment, the newest first.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn revision_list(
        &self,
        deployment: DeploymentId,
        before: Option<u32>,
        limit: usize,
    ) -> Result<Vec<Revision>, StoreError> {
        let mut conn = self.conn().await?;
        let rows: Vec<RevisionRow> = revisions::table
            .filter(revisions::deployment_id.eq(deployment.uuid()))
            .filter(revisions::number.lt(before.map_or(i32::MAX, signed)))
            .order(revisions::number.desc())
            .limit(i64::try_from(limit).unwrap_or(i64::MAX))
            .select((
                revisions::number,
                revisions::spec,
                revisions::cause,
                revisions::template,
                revisions::created_by,
                revisions::created_at,
            ))
            .load(&mut conn)
            .await?;
        rows.into_iter().map(read).collect()
    }

    /// One revision of a deployment.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn revision_fetch(
        &self,
        deployment: DeploymentId,
        number: u32,
    ) -> Result<Option<Revision>, StoreError> {
        let mut conn = self.conn().await?;
        let row: Option<RevisionRow> = revisions::table
            .find((deployment.uuid(), signed(number)))
            .select((
                revisions::number,
                revisions::spec,
                revisions::cause,
                revisions::template,
                revisions::created_by,
                revisions::created_at,
            ))
            .first(&mut conn)
            .await
            .optional()?;
        row.map(read).transpose()
    }
}
