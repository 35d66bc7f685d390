//! Transactions: named, retried, and always the same way.

use std::time::Duration;

use diesel_async::{AnsiTransactionManager, AsyncPgConnection, TransactionManager};

use crate::{Store, StoreError, wake::noting_revocations};

/// How often a transaction that lost against another is run again. Each try waits
/// longer than the last; five tries cover contention that passes, and more would
/// only hide contention that does not.
const TRIES: u32 = 5;

/// The body of a transaction: an async closure that may be called again and whose
/// future can be sent. (`AsyncFnMut` alone cannot say the latter.)
pub(crate) trait Body<T, R>: AsyncFnMut(T) -> R + FnMut(T) -> <Self as Body<T, R>>::Fut {
    type Fut: Future<Output = R>;
}

impl<F, T, Fut, R> Body<T, R> for F
where
    F: AsyncFnMut(T) -> R + FnMut(T) -> Fut,
    Fut: Future<Output = R>,
{
    type Fut = Fut;
}

impl Store {
    /// Runs `body` in a transaction, again if it loses against another one.
    ///
    /// `body` must do nothing but use the connection: it may run several times,
    /// and its locks are held while it runs. On an error everything is rolled back.
    pub(crate) async fn transact<T, F>(&self, name: &'static str, mut body: F) -> Result<T, StoreError>
    where
        for<'c> F: AsyncFnMut(&'c mut AsyncPgConnection) -> Result<T, StoreError>
            + Body<&'c mut AsyncPgConnection, Result<T, StoreError>, Fut: Send>
            + Send,
        T: Send,
    {
        let mut attempt = 1;
        loop {
            let mut conn = self.conn().await?;
            AnsiTransactionManager::begin_transaction(&mut *conn).await?;
            let (done, revokes) = noting_revocations(body(&mut conn)).await;
            let result = match done {
                Ok(value) => AnsiTransactionManager::commit_transaction(&mut *conn)
                    .await
                    .map(|()| value)
                    .map_err(Into::into),
                Err(error) => {
                    // A rollback that fails means a broken connection, which the pool drops.
                    let _ = AnsiTransactionManager::rollback_transaction(&mut *conn).await;
                    Err(error)
                }
            };
            drop(conn);
            if revokes {
                // Also when it failed: the commit may have been lost on its way back.
                self.revocations().add();
            }
            match result {
                Err(error) if error.is_transient() && attempt < TRIES => {
                    tracing::debug!(
                        transaction = name,
                        attempt,
                        "lost against another transaction; trying again"
                    );
                    tokio::time::sleep(retry_delay(attempt)).await;
                    attempt += 1;
                }
                result => return result,
            }
        }
    }
}

/// Between half and the whole of 10 ms, doubled with each try. The jitter comes
/// from the clock's low digits: two losers of one conflict need only differ.
fn retry_delay(attempt: u32) -> Duration {
    let full = 10_000u64 << attempt.min(6);
    let nanos = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |d| u64::from(d.subsec_nanos()));
    Duration::from_micros(full / 2 + nanos % (full / 2))
}

/// The transaction's moment by the database's clock, for columns that may be null.
pub(crate) fn db_now()
-> diesel::expression::SqlLiteral<diesel::sql_types::Nullable<diesel::sql_types::Timestamptz>> {
    diesel::dsl::sql("now()")
}
