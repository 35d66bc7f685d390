//! What reads credentials; none of it reads a value.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use domain::{
    Timestamp,
    id::{CredentialId, ProjectId},
};

use super::{Credential, CredentialKey, CredentialVersion, Row, number, read, read_form, whole};
use crate::{
    Cursor, Page, Store, StoreError,
    caller::Visible,
    page::fetch_limit,
    schema::{credential_versions, credentials, projects},
};

/// Most credentials of one name that a lookup gives.
const NAMESAKES_MAX: i64 = 20;

impl Store {
    /// One credential.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn credential_fetch(&self, key: &CredentialKey) -> Result<Option<Credential>, StoreError> {
        let mut conn = self.conn().await?;
        let query = whole().into_boxed();
        let query = match key {
            CredentialKey::Id(id) => query.filter(credentials::id.eq(id.uuid())),
            CredentialKey::In(project, name) => {
                query.filter(credentials::project_id.eq(project.uuid())).filter(credentials::name.eq(name))
            }
        };
        query.first::<Row>(&mut conn).await.optional()?.map(read).transpose()
    }

    /// The credentials of that name that are seen, at most 20: the one in the default
    /// project first, then by the project's name.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn credential_list_named(
        &self,
        name: &str,
        visible: &Visible,
    ) -> Result<Vec<Credential>, StoreError> {
        let mut conn = self.conn().await?;
        let mut query = whole()
            .filter(credentials::name.eq(name))
            .order((projects::is_default.desc(), projects::name))
            .limit(NAMESAKES_MAX)
            .into_boxed();
        if let Visible::Projects(ids) = visible {
            query = query.filter(credentials::project_id.eq_any(ids));
        }
        let rows: Vec<Row> = query.load(&mut conn).await?;
        rows.into_iter().map(read).collect()
    }

    /// Credentials that are seen, of one project where it is given, the oldest first.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn credential_list_page(
        &self,
        visible: &Visible,
        project: Option<ProjectId>,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Page<Credential>, StoreError> {
        let mut conn = self.conn().await?;
        let mut query =
            whole().order((credentials::created_at, credentials::id)).limit(fetch_limit(limit)).into_boxed();
        if let Visible::Projects(ids) = visible {
            query = query.filter(credentials::project_id.eq_any(ids));
        }
        if let Some(id) = project {
            query = query.filter(credentials::project_id.eq(id.uuid()));
        }
        if let Some(Cursor { at, id }) = after {
            let same = credentials::created_at.eq(at).and(credentials::id.gt(id));
            query = query.filter(credentials::created_at.gt(at).or(same));
        }
        let rows: Vec<Row> = query.load(&mut conn).await?;
        Page::cut(rows, limit, |row| Cursor { at: row.3.0, id: row.0.0 }).try_map(read)
    }

    /// A credential's versions that are kept, the newest first.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn credential_version_list(
        &self,
        id: CredentialId,
    ) -> Result<Vec<CredentialVersion>, StoreError> {
        let mut conn = self.conn().await?;
        let rows: Vec<(i32, String, serde_json::Value, Option<i32>, Timestamp, String)> =
            credential_versions::table
                .filter(credential_versions::credential_id.eq(id.uuid()))
                .order(credential_versions::version.desc())
                .select((
                    credential_versions::version,
                    credential_versions::form,
                    credential_versions::shown,
                    credential_versions::restored_from,
                    credential_versions::created_at,
                    credential_versions::created_by,
                ))
                .load(&mut conn)
                .await?;
        rows.into_iter()
            .map(|(version, form, shown, restored_from, created_at, created_by)| {
                Ok(CredentialVersion {
                    version: number(version),
                    form: read_form(&form)?,
                    shown,
                    restored_from: restored_from.map(number),
                    created_at,
                    created_by,
                })
            })
            .collect()
    }
}
