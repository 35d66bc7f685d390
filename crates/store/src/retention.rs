//! What is too old goes, a bounded piece at a time. Of the audit log and of readings,
//! whole partitions go: see their own rooms.

use diesel_async::RunQueryDsl;

use crate::{Store, StoreError};

/// Most rows of a table that one run deletes, so that no run holds its locks for
/// long; the next one goes on.
const ROWS_MAX: i32 = 5_000;

/// What goes: a table, its key, and which rows. The ages are part of the product's
/// documents; see `docs/DATABASE.md`.
const RULES: &[(&str, &str, &str)] = &[
    ("events", "id", "recorded_at < now() - interval '30 days'"),
    ("idempotency_keys", "ctid", "created_at < now() - interval '1 day'"),
    ("sessions", "id", "expires_at < now() - interval '30 days'"),
    ("invites", "id", "expires_at < now() - interval '30 days'"),
    ("enrolment_tokens", "id", "expires_at < now() - interval '30 days'"),
    ("oauth_flows", "state_sha256", "expires_at < now()"),
    ("oauth_codes", "code_sha256", "expires_at < now()"),
    ("operations", "id", "finished_at < now() - interval '90 days'"),
    ("instances", "id", "not assigned and coalesce(observed_at, created_at) < now() - interval '30 days'"),
    // Those of instances that go, go with them.
    ("instance_dossiers", "ctid", "recorded_at < now() - interval '30 days'"),
    // Longer than operations: who sees an operation is told by its deployment's project.
    ("deployments", "id", "deleted_at < now() - interval '91 days'"),
    ("projects", "id", "deleted_at < now() - interval '92 days'"),
];

impl Store {
    /// Deletes what is too old, at most 5,000 rows of each table; says how many
    /// rows there were. Again, or in two controllers at once: goes on.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn retention_apply(&self) -> Result<usize, StoreError> {
        let mut deleted = 0;
        for (table, key, old) in RULES {
            let statement = format!(
                "delete from {table} where {key} = any (array (select {key} from {table} where {old} limit {ROWS_MAX}))"
            );
            let mut conn = self.conn().await?;
            deleted += diesel::sql_query(statement).execute(&mut conn).await?;
        }
        Ok(deleted)
    }
}
