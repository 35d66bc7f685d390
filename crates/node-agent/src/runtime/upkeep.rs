//! What keeping an engine in order takes, beside running containers.
//!
//! For the rooms that measure and tidy up; the reconciler knows nothing of it. As
//! with [`super::Runtime`], no call has a deadline of its own and dropping one is
//! safe at any moment.

use std::collections::BTreeSet;

use domain::{
    housekeeping::{Belongings, Removal},
    node::StorageLimit,
};
use futures_util::future::BoxFuture;
use tokio::sync::watch;

use super::RuntimeError;

/// What became of something that was to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Discarded {
    /// It is gone, by us or by somebody else.
    Yes,
    /// It is in use after all, or not what it was when it was looked at. It stays.
    InUse,
}

/// An engine, as whoever keeps it in order sees it.
pub trait Upkeep: Send + Sync + 'static {
    /// Finds out by trying whether the engine keeps a container's writable layer
    /// within a size. Writes some 16 MiB and takes it away again; where sizes turn
    /// out not to be kept it takes 6 s, because some file systems count late.
    /// Containers that are made afterwards get their size as an order to the engine
    /// or not, accordingly.
    fn storage_limit(&self) -> BoxFuture<'_, Result<StorageLimit, RuntimeError>>;

    /// Measures what a container wrote beside its volumes, in bytes. The engine
    /// walks through all of it, so this may take long. `None` for one that was made
    /// with a size which the engine keeps; `NotFound` for one that is gone.
    fn writable_bytes<'a>(
        &'a self,
        container_id: &'a str,
    ) -> BoxFuture<'a, Result<Option<u64>, RuntimeError>>;

    /// Everything that lies about in the engine and might be removed, with all that
    /// refers to it, whosever that is. Volumes only where `volumes` asks for them.
    fn belongings(&self, volumes: bool) -> BoxFuture<'_, Result<Belongings, RuntimeError>>;

    /// Removes one thing, never by force: what somebody began to use meanwhile stays.
    fn discard<'a>(&'a self, removal: &'a Removal) -> BoxFuture<'a, Result<Discarded, RuntimeError>>;

    /// The ids of the images that were fetched through here, since the start.
    fn fetched(&self) -> watch::Receiver<BTreeSet<String>>;
}
