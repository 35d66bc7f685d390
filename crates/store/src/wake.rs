//! Wake-ups between controllers, and between the parts of one.
//!
//! A notification is sent inside the transaction whose change it announces, so
//! it arrives after the commit and never without it. It may be lost with the
//! connection; whoever listens must look for himself from time to time.

use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use diesel::{result::Error as DieselError, sql_types::Text};
use diesel_async::{AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use domain::id::{NodeId, OperationId};
use futures_util::{Stream, StreamExt};

use crate::{Store, StoreError};

const CHANNEL: &str = "automator67";

/// What somebody should look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wake {
    /// There may be something to plan or to judge.
    Orchestrate,
    /// A node's assignments changed.
    Assignments(NodeId),
    /// An operation moved on.
    Operation(OperationId),
    /// A session, account or node was revoked.
    Revoked,
    /// The keys that sign access tokens changed.
    Keys,
}

impl Wake {
    fn text(self) -> String {
        match self {
            Self::Orchestrate => "orchestrate".to_owned(),
            Self::Assignments(node) => format!("assignments {node}"),
            Self::Operation(operation) => format!("operation {operation}"),
            Self::Revoked => "revoked".to_owned(),
            Self::Keys => "keys".to_owned(),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        match text.split_once(' ') {
            None if text == "orchestrate" => Some(Self::Orchestrate),
            None if text == "revoked" => Some(Self::Revoked),
            None if text == "keys" => Some(Self::Keys),
            Some(("assignments", id)) => id.parse().ok().map(Self::Assignments),
            Some(("operation", id)) => id.parse().ok().map(Self::Operation),
            _ => None,
        }
    }
}

/// How often access was ended, as far as this process knows: by its own transactions,
/// and by those it was told of. What was found out about a caller is good only while
/// this has the value that it had before the question was asked.
///
/// A transaction that announces [`Wake::Revoked`] counts before its call returns, so
/// nobody who ends access can forget to.
#[derive(Clone, Default)]
pub struct Revocations(Arc<AtomicU64>);

impl Revocations {
    /// Counts one.
    pub fn add(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        AtomicU64::load(&self.0, Ordering::SeqCst)
    }
}

tokio::task_local! {
    /// Whether the transaction that runs ends somebody's access.
    static REVOKES: Cell<bool>;
}

/// Runs a transaction's body, and says whether it announced [`Wake::Revoked`].
pub(crate) async fn noting_revocations<T>(body: impl Future<Output = T>) -> (T, bool) {
    let noted = async {
        let result = body.await;
        (result, REVOKES.with(Cell::get))
    };
    REVOKES.scope(Cell::new(false), noted).await
}

/// Announces a change; heard once the transaction has committed.
pub(crate) async fn wake_in_txn(conn: &mut AsyncPgConnection, wake: Wake) -> Result<(), DieselError> {
    if wake == Wake::Revoked {
        // Outside a transaction whoever announces it counts it himself.
        let _ = REVOKES.try_with(|revokes| revokes.set(true));
    }
    diesel::sql_query("select pg_notify($1, $2)")
        .bind::<Text, _>(CHANNEL)
        .bind::<Text, _>(wake.text())
        .execute(conn)
        .await
        .map(drop)
}

impl Store {
    /// Announces a change outside a transaction.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn wake(&self, wake: Wake) -> Result<(), StoreError> {
        let mut conn = self.conn().await?;
        let announced = wake_in_txn(&mut conn, wake).await.map_err(Into::into);
        if wake == Wake::Revoked {
            self.revocations().add();
        }
        announced
    }

    /// Listens on a connection of its own, and hands each wake-up to `on`, until
    /// the connection breaks. Calls `ready` once it listens: what changed before
    /// that must be looked up.
    ///
    /// # Errors
    /// Always, in the end: when the connection cannot be had, or breaks.
    pub async fn listen(
        &self,
        ready: impl FnOnce() + Send,
        mut on: impl FnMut(Wake) + Send,
    ) -> Result<(), StoreError> {
        let mut conn = self.connect_apart().await?;
        conn.batch_execute(&format!("listen {CHANNEL}")).await?;
        ready();
        let mut stream = std::pin::pin!(notifications(&mut conn));
        while let Some(notification) = stream.next().await {
            if let Some(wake) = Wake::parse(&notification?) {
                on(wake);
            }
        }
        Err(StoreError::Unavailable("the listening connection was closed".into()))
    }
}

fn notifications(conn: &mut AsyncPgConnection) -> impl Stream<Item = Result<String, DieselError>> + '_ {
    conn.notifications_stream().map(|n| n.map(|n| n.payload))
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn wake_ups_read_back() {
        let id = Uuid::from_u128(5);
        for wake in [
            Wake::Orchestrate,
            Wake::Revoked,
            Wake::Keys,
            Wake::Assignments(id.into()),
            Wake::Operation(id.into()),
        ] {
            assert_eq!(Wake::parse(&wake.text()), Some(wake));
        }
        assert_eq!(Wake::parse("assignments nobody"), None);
    }
}
