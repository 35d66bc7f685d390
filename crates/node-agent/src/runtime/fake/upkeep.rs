//! What lies about in the engine in memory.

use std::collections::{BTreeMap, BTreeSet};

use domain::{
    housekeeping::{Belongings, Removal},
    node::StorageLimit,
};
use futures_util::future::{BoxFuture, FutureExt as _};
use tokio::sync::watch;

use super::{Call, FakeRuntime, state::not_found};
use crate::runtime::{
    RuntimeError,
    upkeep::{Discarded, Upkeep},
};

/// What a test says of the engine's store.
pub(super) struct Store {
    pub(super) enforces: bool,
    /// Bytes of writable layers, by container.
    pub(super) layers: BTreeMap<String, u64>,
    pub(super) held: Belongings,
    pub(super) in_use: BTreeSet<Removal>,
    pub(super) gone: Vec<Removal>,
    pub(super) fetched: watch::Sender<BTreeSet<String>>,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            enforces: false,
            layers: BTreeMap::new(),
            held: Belongings::default(),
            in_use: BTreeSet::new(),
            gone: Vec::new(),
            fetched: watch::Sender::new(BTreeSet::new()),
        }
    }
}

/// Remote control.
impl FakeRuntime {
    /// Makes it keep containers within sizes, or not.
    pub fn enforce_sizes(&self, enforces: bool) {
        self.state().store.enforces = enforces;
    }

    /// Sets the size of a container's writable layer.
    pub fn set_layer(&self, container_id: &str, bytes: u64) {
        self.state().store.layers.insert(container_id.to_owned(), bytes);
    }

    /// Puts things there.
    pub fn put(&self, held: Belongings) {
        self.state().store.held = held;
    }

    /// Makes it say of something that it is in use.
    pub fn use_outside(&self, removal: Removal) {
        self.state().store.in_use.insert(removal);
    }

    /// Says that an image was fetched.
    pub fn say_fetched(&self, id: &str) {
        self.state().store.fetched.send_if_modified(|fetched| fetched.insert(id.to_owned()));
    }

    /// What was cleared away, in order.
    #[must_use]
    pub fn cleared(&self) -> Vec<Removal> {
        self.state().store.gone.clone()
    }
}

impl Upkeep for FakeRuntime {
    fn storage_limit(&self) -> BoxFuture<'_, Result<StorageLimit, RuntimeError>> {
        self.answer(Call::StorageLimit, None, |state| {
            Ok(if state.store.enforces { StorageLimit::Enforced } else { StorageLimit::Measured })
        })
        .boxed()
    }

    fn writable_bytes<'a>(
        &'a self,
        container_id: &'a str,
    ) -> BoxFuture<'a, Result<Option<u64>, RuntimeError>> {
        let owner = self.state().owner(container_id);
        self.answer(Call::WritableBytes, owner, move |state| match owner {
            Some(_) if state.store.enforces => Ok(None),
            Some(_) => Ok(Some(state.store.layers.get(container_id).copied().unwrap_or(0))),
            None => Err(not_found()),
        })
        .boxed()
    }

    fn belongings(&self, volumes: bool) -> BoxFuture<'_, Result<Belongings, RuntimeError>> {
        self.answer(Call::Belongings, None, move |state| {
            let mut held = state.store.held.clone();
            if !volumes {
                held.volumes.clear();
            }
            Ok(held)
        })
        .boxed()
    }

    fn discard<'a>(&'a self, removal: &'a Removal) -> BoxFuture<'a, Result<Discarded, RuntimeError>> {
        self.answer(Call::Discard, None, move |state| {
            if state.store.in_use.contains(removal) {
                return Ok(Discarded::InUse);
            }
            let held = &mut state.store.held;
            match removal {
                Removal::Container(id) => held.containers.retain(|container| container.id != *id),
                Removal::Image(id) => held.images.retain(|image| image.id != *id),
                Removal::Network(id) => held.networks.retain(|network| network.id != *id),
                Removal::Volume(name) => held.volumes.retain(|volume| volume.name != *name),
            }
            state.store.gone.push(removal.clone());
            Ok(Discarded::Yes)
        })
        .boxed()
    }

    fn fetched(&self) -> watch::Receiver<BTreeSet<String>> {
        self.state().store.fetched.subscribe()
    }
}
