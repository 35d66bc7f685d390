//! Settings that administrators change while controllers run.
//!
//! A setting is a name and a JSON value; what is not here is as the configuration
//! says. Nobody keeps a copy: whoever goes by a setting reads it at that moment, so
//! it holds in all controllers from the commit on.

use diesel::prelude::*;
use diesel_async::{RunQueryDsl, SimpleAsyncConnection};
use domain::Timestamp;
use serde_json::Value;

use crate::{
    Store, StoreError,
    audit::{Actor, AuditNew, audit_insert_on_conn},
    schema::settings,
};

/// A setting.
#[derive(Clone, Debug, PartialEq, Queryable, Selectable)]
#[diesel(table_name = settings, check_for_backend(diesel::pg::Pg))]
pub struct Setting {
    /// Its value.
    pub value: Value,
    /// When it was set.
    pub updated_at: Timestamp,
    /// By whom, as the audit log names that one.
    pub updated_by: String,
}

impl Store {
    /// A setting; `None` where nobody has set it.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn setting_fetch(&self, name: &str) -> Result<Option<Setting>, StoreError> {
        let mut conn = self.conn().await?;
        let query = settings::table.find(name).select(Setting::as_select());
        Ok(query.first(&mut conn).await.optional()?)
    }

    /// Sets a setting, or takes it away with `None`. What is so already changes
    /// nothing.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn setting_update(
        &self,
        name: &'static str,
        value: Option<&Value>,
        actor: &Actor,
    ) -> Result<(), StoreError> {
        self.transact("setting_update", async |conn| {
            // A row that is not there cannot be locked. Readers do not wait for this.
            conn.batch_execute("lock table settings in share row exclusive mode").await?;
            let before: Option<Value> =
                settings::table.find(name).select(settings::value).first(conn).await.optional()?;
            if before.as_ref() == value {
                return Ok(());
            }
            match value {
                None => diesel::delete(settings::table.find(name)).execute(conn).await?,
                Some(value) => {
                    let columns = (
                        settings::value.eq(value),
                        settings::updated_at.eq(diesel::dsl::now),
                        settings::updated_by.eq(&actor.name),
                    );
                    diesel::insert_into(settings::table)
                        .values((settings::name.eq(name), columns))
                        .on_conflict(settings::name)
                        .do_update()
                        .set(columns)
                        .execute(conn)
                        .await?
                }
            };
            let audit = AuditNew::done("setting_update", name).change(before, value.cloned());
            audit_insert_on_conn(conn, actor, &audit).await
        })
        .await
    }
}
