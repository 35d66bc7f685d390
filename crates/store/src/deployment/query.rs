//! What reads deployments.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use domain::{Timestamp, id::ProjectId};
use uuid::Uuid;

use super::{Deployment, DeploymentKey, read_spec};
use crate::{
    Cursor, Page, Store, StoreError,
    caller::Visible,
    page::fetch_limit,
    schema::{deployments, projects, revisions},
};

/// Most deployments of one name that a lookup gives.
const NAMESAKES_MAX: i64 = 20;

type Row = (
    (Uuid, String, Uuid, String),
    (i32, serde_json::Value, bool, Option<serde_json::Value>, Timestamp, Timestamp, Option<String>),
);

fn read((who, how): Row) -> Result<Deployment, StoreError> {
    let (id, name, project_id, project) = who;
    let (revision, spec, deleting, pending, created_at, updated_at, paused) = how;
    Ok(Deployment {
        id: id.into(),
        project_id: project_id.into(),
        project,
        name,
        revision: u32::try_from(revision).unwrap_or_default(),
        spec: read_spec(spec)?,
        deleting,
        paused,
        pending: pending
            .map(serde_json::from_value)
            .transpose()
            .map_err(|e| StoreError::corrupt("deployment's pending reasons", e))?,
        created_at,
        updated_at,
    })
}

#[diesel::dsl::auto_type(no_type_alias)]
fn present() -> _ {
    let revision =
        revisions::deployment_id.eq(deployments::id).and(revisions::number.eq(deployments::revision));
    deployments::table
        .inner_join(revisions::table.on(revision))
        .inner_join(projects::table)
        .filter(deployments::deleted_at.is_null())
        .select((
            (deployments::id, deployments::name, deployments::project_id, projects::name),
            (
                deployments::revision,
                revisions::spec,
                deployments::deleting,
                deployments::pending,
                deployments::created_at,
                deployments::updated_at,
                deployments::paused,
            ),
        ))
}

impl Store {
    /// One deployment that is not deleted.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn deployment_fetch(&self, key: &DeploymentKey) -> Result<Option<Deployment>, StoreError> {
        let mut conn = self.conn().await?;
        let query = present().into_boxed();
        let named = |project: ProjectId, name| {
            deployments::project_id.eq(project.uuid()).and(deployments::name.eq(name))
        };
        let query = match key {
            DeploymentKey::Id(id) => query.filter(deployments::id.eq(id.uuid())),
            DeploymentKey::Name(name) => query.filter(named(ProjectId::DEFAULT, name)),
            DeploymentKey::In(id, name) => query.filter(named(*id, name)),
        };
        query.first(&mut conn).await.optional()?.map(read).transpose()
    }

    /// The deployments of that name that are not deleted and are seen, at most 20:
    /// the one in the default project first, then by the project's name.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn deployment_list_named(
        &self,
        name: &str,
        visible: &Visible,
    ) -> Result<Vec<Deployment>, StoreError> {
        let mut conn = self.conn().await?;
        let mut query = present()
            .filter(deployments::name.eq(name))
            .order((projects::is_default.desc(), projects::name))
            .limit(NAMESAKES_MAX)
            .into_boxed();
        if let Visible::Projects(ids) = visible {
            query = query.filter(deployments::project_id.eq_any(ids));
        }
        let rows: Vec<Row> = query.load(&mut conn).await?;
        rows.into_iter().map(read).collect()
    }

    /// Deployments that are not deleted and are seen, of one project where it is
    /// given, the oldest first.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn deployment_list_page(
        &self,
        visible: &Visible,
        project: Option<ProjectId>,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Page<Deployment>, StoreError> {
        let mut conn = self.conn().await?;
        let mut query = present()
            .order((deployments::created_at, deployments::id))
            .limit(fetch_limit(limit))
            .into_boxed();
        if let Visible::Projects(ids) = visible {
            query = query.filter(deployments::project_id.eq_any(ids));
        }
        if let Some(id) = project {
            query = query.filter(deployments::project_id.eq(id.uuid()));
        }
        if let Some(Cursor { at, id }) = after {
            let same = deployments::created_at.eq(at).and(deployments::id.gt(id));
            query = query.filter(deployments::created_at.gt(at).or(same));
        }
        let rows: Vec<Row> = query.load(&mut conn).await?;
        Page::cut(rows, limit, |row| {
            let ((id, ..), (.., created_at, _, _)) = row;
            Cursor { at: *created_at, id: *id }
        })
        .try_map(read)
    }
}
