//! Bringing a database to this version's schema.

use diesel_async::{AsyncMigrationHarness, AsyncPgConnection, SimpleAsyncConnection};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use crate::{Store, StoreError};

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("../../migrations");

/// Taken by whoever migrates, so that several controllers that start together
/// do not trip over one another. The number is arbitrary, and only ours.
const LOCK: i64 = 6_701_001;

impl Store {
    /// Applies the migrations that are not yet applied; says how many there were.
    ///
    /// Several controllers may call it at once: one migrates, the others wait, a
    /// minute at most. Runs on a connection of its own without a statement limit.
    ///
    /// # Errors
    /// When the database is not there, a migration fails (its own transaction is
    /// then rolled back), or the schema is newer than this program.
    pub async fn migrate(&self) -> Result<usize, StoreError> {
        let mut conn = self.connect_apart().await?;
        conn.batch_execute(&format!(
            "set statement_timeout = '60s'; select pg_advisory_lock({LOCK}); set statement_timeout = 0"
        ))
        .await?;
        // The harness blocks, which a runtime's worker must not.
        let (applied, _released_with_the_connection) = tokio::task::spawn_blocking(move || run(conn))
            .await
            .map_err(|e| StoreError::Migration(e.into()))??;
        Ok(applied)
    }
}

fn run(conn: AsyncPgConnection) -> Result<(usize, AsyncPgConnection), StoreError> {
    let mut harness = AsyncMigrationHarness::new(conn);
    let known: Vec<String> = diesel::migration::MigrationSource::<diesel::pg::Pg>::migrations(&MIGRATIONS)
        .map_err(StoreError::Migration)?
        .iter()
        .map(|m| m.name().version().to_string())
        .collect();
    let applied = harness.applied_migrations().map_err(StoreError::Migration)?;
    if let Some(newer) = applied.iter().map(ToString::to_string).find(|version| !known.contains(version)) {
        return Err(StoreError::Migration(
            format!(
                "it has migration {newer}, which this version does not know: a newer version has used it"
            )
            .into(),
        ));
    }
    let count = harness.run_pending_migrations(MIGRATIONS).map_err(StoreError::Migration)?.len();
    Ok((count, harness.into_inner()))
}

#[cfg(feature = "testing")]
pub(crate) fn revert_all(conn: AsyncPgConnection) -> Result<(), StoreError> {
    let mut harness = AsyncMigrationHarness::new(conn);
    harness.revert_all_migrations(MIGRATIONS).map(drop).map_err(StoreError::Migration)
}

/// Applies the migrations up to and with that one.
#[cfg(feature = "testing")]
pub(crate) fn run_up_to(conn: AsyncPgConnection, version: &str) -> Result<(), StoreError> {
    let mut harness = AsyncMigrationHarness::new(conn);
    for migration in harness.pending_migrations(MIGRATIONS).map_err(StoreError::Migration)? {
        if migration.name().version().to_string().as_str() <= version {
            harness.run_migration(&*migration).map_err(StoreError::Migration)?;
        }
    }
    Ok(())
}
