//! Who is calling, as the database knows it now, and what of it such a caller sees.

use std::collections::BTreeMap;

use diesel::{expression::SqlLiteral, prelude::*, sql_types::Jsonb};
use diesel_async::RunQueryDsl;
use domain::id::UserId;
use uuid::Uuid;

use crate::{
    Store, StoreError,
    schema::{accounts, project_members, projects},
};

/// Who is calling, as the database knows it now and not as a token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallerRow {
    id: Uuid,
    /// The account's name.
    pub name: String,
    /// `user` or `service`.
    pub kind: String,
    /// The account's role on the fleet.
    pub role: String,
    /// Its roles in projects, by the project's id.
    pub memberships: BTreeMap<Uuid, String>,
}

impl CallerRow {
    /// The account's id.
    #[must_use]
    pub fn id(&self) -> UserId {
        self.id.into()
    }
}

/// The columns of [`caller_columns`].
pub(crate) type CallerColumns = (Uuid, String, String, String, serde_json::Value);

type Selected = (accounts::id, accounts::name, accounts::kind, accounts::role, SqlLiteral<Jsonb>);

/// What [`CallerRow`] is read from, in a query about accounts.
pub(crate) fn caller_columns() -> Selected {
    let memberships = diesel::dsl::sql::<Jsonb>(
        "(select coalesce(jsonb_object_agg(m.project_id, m.role), '{}') from project_members m \
          join projects p on p.id = m.project_id and p.deleted_at is null where m.account_id = accounts.id)",
    );
    (accounts::id, accounts::name, accounts::kind, accounts::role, memberships)
}

/// What an account's owner is told of it, besides what [`CallerRow`] has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Where its owner is reached, as far as known and proven.
    pub email: Option<String>,
    /// The projects that it is a member of, by name: id, name, role.
    pub memberships: Vec<(Uuid, String, String)>,
}

impl Store {
    /// What an account's owner is told of it.
    ///
    /// # Errors
    /// When the database is not there, or the account is gone.
    pub async fn account_profile(&self, id: UserId) -> Result<Profile, StoreError> {
        let mut conn = self.conn().await?;
        let email = accounts::table.find(id.uuid()).select(accounts::email).first(&mut conn).await?;
        let memberships = project_members::table
            .inner_join(projects::table)
            .filter(project_members::account_id.eq(id.uuid()))
            .filter(projects::deleted_at.is_null())
            .order(projects::name)
            .select((projects::id, projects::name, project_members::role))
            .load(&mut conn)
            .await?;
        Ok(Profile { email, memberships })
    }
}

pub(crate) fn read_caller(
    (id, name, kind, role, memberships): CallerColumns,
) -> Result<CallerRow, StoreError> {
    let memberships =
        serde_json::from_value(memberships).map_err(|e| StoreError::corrupt("account's memberships", e))?;
    Ok(CallerRow { id, name, kind, role, memberships })
}

/// Which projects' objects a caller sees. What it does not see is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Visible {
    /// All.
    All,
    /// Those in these projects.
    Projects(Vec<Uuid>),
}

impl Visible {
    /// Whether an object of a project is seen.
    #[must_use]
    pub fn sees(&self, project: Uuid) -> bool {
        match self {
            Self::All => true,
            Self::Projects(ids) => ids.contains(&project),
        }
    }
}
