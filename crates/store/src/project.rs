//! Projects, and who is a member of which.

use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use domain::{
    Timestamp,
    id::{ProjectId, UserId},
};
use serde_json::json;
use uuid::Uuid;

use crate::{
    Cursor, Page, Refusal, Store, StoreError,
    audit::{Actor, AuditNew, audit_insert_on_conn},
    caller::Visible,
    error::violates,
    page::fetch_limit,
    schema::{accounts, credentials, deployments, project_members, projects},
    wake::{Wake, wake_in_txn},
};

/// A project: what deployments belong to.
#[derive(Clone, Debug, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = projects, check_for_backend(diesel::pg::Pg))]
pub struct Project {
    id: Uuid,
    /// Unique among those that are not deleted.
    pub name: String,
    /// Whether it is the one that is meant where none is named.
    pub is_default: bool,
    /// When it was made.
    pub created_at: Timestamp,
}

impl Project {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> ProjectId {
        self.id.into()
    }
}

/// A project by its id or by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProjectKey {
    /// By id.
    Id(ProjectId),
    /// By name.
    Name(String),
}

/// An account's membership in a project.
#[derive(Clone, Debug, PartialEq, Eq, Queryable)]
pub struct Member {
    account_id: Uuid,
    /// The account's name.
    pub account: String,
    /// `user` or `service`.
    pub kind: String,
    /// admin, operator or viewer.
    pub role: String,
    /// Since when; a change of the role leaves it.
    pub created_at: Timestamp,
}

impl Member {
    /// The account's id.
    #[must_use]
    pub fn account_id(&self) -> UserId {
        self.account_id.into()
    }
}

type MemberColumns = (
    project_members::account_id,
    accounts::name,
    accounts::kind,
    project_members::role,
    project_members::created_at,
);

const MEMBER: MemberColumns = (
    project_members::account_id,
    accounts::name,
    accounts::kind,
    project_members::role,
    project_members::created_at,
);

impl Store {
    /// Makes a project without members.
    ///
    /// # Errors
    /// [`Refusal::NameTaken`].
    pub async fn project_insert(
        &self,
        id: ProjectId,
        name: &str,
        actor: &Actor,
    ) -> Result<Project, StoreError> {
        self.transact("project_insert", async |conn| {
            let project: Project = diesel::insert_into(projects::table)
                .values((projects::id.eq(id.uuid()), projects::name.eq(name)))
                .returning(Project::as_returning())
                .get_result(conn)
                .await
                .map_err(|e| match violates(&e, "projects_name") {
                    true => Refusal::NameTaken(name.to_owned()).into(),
                    false => StoreError::from(e),
                })?;
            let audit = AuditNew::done("project_create", name).in_project(name);
            audit_insert_on_conn(conn, actor, &audit).await?;
            Ok(project)
        })
        .await
    }

    /// One project that is not deleted.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn project_fetch(&self, key: &ProjectKey) -> Result<Option<Project>, StoreError> {
        let mut conn = self.conn().await?;
        let query =
            projects::table.filter(projects::deleted_at.is_null()).select(Project::as_select()).into_boxed();
        let query = match key {
            ProjectKey::Id(id) => query.filter(projects::id.eq(id.uuid())),
            ProjectKey::Name(name) => query.filter(projects::name.eq(name)),
        };
        Ok(query.first(&mut conn).await.optional()?)
    }

    /// Projects that are not deleted and are seen, the oldest first.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn project_list_page(
        &self,
        visible: &Visible,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Page<Project>, StoreError> {
        let mut conn = self.conn().await?;
        let mut query = projects::table
            .filter(projects::deleted_at.is_null())
            .select(Project::as_select())
            .order((projects::created_at, projects::id))
            .limit(fetch_limit(limit))
            .into_boxed();
        if let Visible::Projects(ids) = visible {
            query = query.filter(projects::id.eq_any(ids));
        }
        if let Some(Cursor { at, id }) = after {
            let same = projects::created_at.eq(at).and(projects::id.gt(id));
            query = query.filter(projects::created_at.gt(at).or(same));
        }
        let rows: Vec<Project> = query.load(&mut conn).await?;
        Ok(Page::cut(rows, limit, |row| Cursor { at: row.created_at, id: row.id }))
    }

    /// Marks a project as deleted; its name is free again, and what its members had
    /// by it ends at once.
    ///
    /// # Errors
    /// [`Refusal::Missing`], [`Refusal::DefaultProject`], or [`Refusal::NotEmpty`]
    /// while it has deployments that are not deleted.
    pub async fn project_delete(&self, id: ProjectId, actor: &Actor) -> Result<(), StoreError> {
        self.transact("project_delete", async |conn| {
            // Whoever adds a deployment holds the row shared, so none comes in between.
            let project: Option<Project> = projects::table
                .filter(projects::id.eq(id.uuid()))
                .filter(projects::deleted_at.is_null())
                .select(Project::as_select())
                .for_update()
                .first(conn)
                .await
                .optional()?;
            let project = project.ok_or(Refusal::Missing("project"))?;
            if project.is_default {
                return Err(Refusal::DefaultProject.into());
            }
            let present = deployments::table
                .filter(deployments::project_id.eq(id.uuid()))
                .filter(deployments::deleted_at.is_null());
            if diesel::select(diesel::dsl::exists(present)).get_result(conn).await? {
                return Err(Refusal::NotEmpty(project.name).into());
            }
            // The same holds for credentials; nothing secret goes without being named.
            let secrets = credentials::table.filter(credentials::project_id.eq(id.uuid()));
            if diesel::select(diesel::dsl::exists(secrets)).get_result(conn).await? {
                return Err(Refusal::NotEmpty(project.name).into());
            }
            diesel::update(projects::table.filter(projects::id.eq(id.uuid())))
                .set(projects::deleted_at.eq(crate::txn::db_now()))
                .execute(conn)
                .await?;
            let audit = AuditNew::done("project_delete", &project.name).in_project(&project.name);
            audit_insert_on_conn(conn, actor, &audit).await?;
            Ok(wake_in_txn(conn, Wake::Revoked).await?)
        })
        .await
    }

    /// Members of a project, those first who have been it for longest.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn project_member_list_page(
        &self,
        id: ProjectId,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Page<Member>, StoreError> {
        let mut conn = self.conn().await?;
        let mut query = project_members::table
            .inner_join(accounts::table)
            .filter(project_members::project_id.eq(id.uuid()))
            .select(MEMBER)
            .order((project_members::created_at, project_members::account_id))
            .limit(fetch_limit(limit))
            .into_boxed();
        if let Some(Cursor { at, id }) = after {
            let same = project_members::created_at.eq(at).and(project_members::account_id.gt(id));
            query = query.filter(project_members::created_at.gt(at).or(same));
        }
        let rows: Vec<Member> = query.load(&mut conn).await?;
        Ok(Page::cut(rows, limit, |row| Cursor { at: row.created_at, id: row.account_id }))
    }

    /// Gives an account, by name or id, a role in a project, in the place of the one
    /// it has there. The same role again changes nothing.
    ///
    /// # Errors
    /// [`Refusal::Missing`] for the project or the account.
    pub async fn project_member_set(
        &self,
        id: ProjectId,
        account: &str,
        role: &str,
        actor: &Actor,
    ) -> Result<Member, StoreError> {
        self.transact("project_member_set", async |conn| {
            let project = project_share_in_txn(conn, id).await?;
            let (account_id, name) = account_in_txn(conn, account).await?;
            let before = role_lock_in_txn(conn, id, account_id).await?;
            if before.as_deref() != Some(role) {
                diesel::insert_into(project_members::table)
                    .values((
                        project_members::project_id.eq(id.uuid()),
                        project_members::account_id.eq(account_id),
                        project_members::role.eq(role),
                    ))
                    .on_conflict((project_members::project_id, project_members::account_id))
                    .do_update()
                    .set(project_members::role.eq(role))
                    .execute(conn)
                    .await?;
                let before = before.map(|role| json!({ "role": role }));
                let audit = AuditNew::done("member_set", &name).in_project(project);
                let audit = audit.change(before, Some(json!({ "role": role })));
                audit_insert_on_conn(conn, actor, &audit).await?;
                wake_in_txn(conn, Wake::Revoked).await?;
            }
            let member = project_members::table
                .inner_join(accounts::table)
                .filter(project_members::project_id.eq(id.uuid()))
                .filter(project_members::account_id.eq(account_id));
            Ok(member.select(MEMBER).first(conn).await?)
        })
        .await
    }

    /// Ends an account's membership, by its name or id.
    ///
    /// # Errors
    /// [`Refusal::Missing`] for the project, or for who is no member.
    pub async fn project_member_remove(
        &self,
        id: ProjectId,
        account: &str,
        actor: &Actor,
    ) -> Result<(), StoreError> {
        self.transact("project_member_remove", async |conn| {
            let project = project_share_in_txn(conn, id).await?;
            // Whether there is such an account is nothing that a member list tells.
            let missing = || StoreError::from(Refusal::Missing("member"));
            let (account_id, name) = account_in_txn(conn, account).await.map_err(|e| match e {
                StoreError::Refused(_) => missing(),
                other => other,
            })?;
            let role: Option<String> = diesel::delete(
                project_members::table
                    .filter(project_members::project_id.eq(id.uuid()))
                    .filter(project_members::account_id.eq(account_id)),
            )
            .returning(project_members::role)
            .get_result(conn)
            .await
            .optional()?;
            let role = role.ok_or_else(missing)?;
            let audit = AuditNew::done("member_remove", &name).in_project(project);
            audit_insert_on_conn(conn, actor, &audit.change(Some(json!({ "role": role })), None)).await?;
            Ok(wake_in_txn(conn, Wake::Revoked).await?)
        })
        .await
    }
}

/// Keeps a project from being deleted while something is added to it; gives its name.
pub(crate) async fn project_share_in_txn(
    conn: &mut AsyncPgConnection,
    id: ProjectId,
) -> Result<String, StoreError> {
    let name: Option<String> = projects::table
        .filter(projects::id.eq(id.uuid()))
        .filter(projects::deleted_at.is_null())
        .select(projects::name)
        .for_share()
        .first(conn)
        .await
        .optional()?;
    Ok(name.ok_or(Refusal::Missing("project"))?)
}

/// An account that is there, kept there for the length of the transaction.
async fn account_in_txn(conn: &mut AsyncPgConnection, key: &str) -> Result<(Uuid, String), StoreError> {
    let query = accounts::table.select((accounts::id, accounts::name)).for_key_share();
    let row = match Uuid::parse_str(key) {
        Ok(id) => query.filter(accounts::id.eq(id)).first(conn).await.optional()?,
        Err(_) => query.filter(accounts::name.eq(key)).first(conn).await.optional()?,
    };
    Ok(row.ok_or(Refusal::Missing("account"))?)
}

/// The role as it is, which nobody changes before this transaction is over.
async fn role_lock_in_txn(
    conn: &mut AsyncPgConnection,
    project: ProjectId,
    account: Uuid,
) -> Result<Option<String>, StoreError> {
    Ok(project_members::table
        .find((project.uuid(), account))
        .select(project_members::role)
        .for_update()
        .first(conn)
        .await
        .optional()?)
}
