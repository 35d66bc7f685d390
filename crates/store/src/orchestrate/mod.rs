//! The planning transaction: reads the fleet, lets [`domain::orchestrate`] and
//! [`domain::operation`] decide, and writes what they say, all in one.
//!
//! An advisory lock lets one controller at a time do it. The lock ends with the
//! transaction, so a controller that dies in the middle leaves nothing behind.

mod carry;
mod judge;
mod world;

use diesel_async::RunQueryDsl;
use domain::{Timestamp, orchestrate, presence::Hearing};

use crate::{Store, StoreError};

pub(crate) use judge::revert_in_txn;
pub(crate) use world::{Fleet, fleet_in_txn};

/// What one pass did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Orchestrated {
    /// Instances placed.
    pub placed: usize,
    /// Instances told to go.
    pub removed: usize,
    /// Operations that got their verdict.
    pub judged: usize,
    /// Operations that are still open.
    pub open: usize,
    /// When there is something to do again, if nothing happens before.
    pub due: Option<Timestamp>,
}

impl Store {
    /// Plans and judges once. Doing it twice does nothing more.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn orchestrate(&self, hearing: &dyn Hearing) -> Result<Orchestrated, StoreError> {
        self.transact("orchestrate", async |conn| {
            diesel::sql_query("select pg_advisory_xact_lock(6701004)").execute(conn).await?;
            let mut fleet = fleet_in_txn(conn, hearing).await?;
            let plan = orchestrate::plan(&fleet.world);
            let mut done = carry::carry_out_in_txn(conn, &mut fleet, &plan, hearing).await?;
            judge::judge_in_txn(conn, &fleet, &plan, &mut done).await?;
            Ok(done)
        })
        .await
    }
}
