//! Dossiers on their way to the controller.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use daemon::seal::SealingKey;
use domain::dossier::{Dossier, LOG_BYTES_MAX};
use tokio::{sync::watch, task::spawn_blocking};

use super::disk::{Disk, Files, Key, Volume};

/// Most dossiers that are kept on disk, and most bytes of them; the oldest give way.
const COUNT_MAX: usize = 512;
const BYTES_MAX: u64 = 32 * 1024 * 1024;
/// Most that are kept in memory while the disk takes none; the oldest give way.
const MEMORY_MAX: usize = 16;
/// What a batch may hold: files of about that size, but one in any case.
const BATCH_BYTES_MAX: u64 = 8 * LOG_BYTES_MAX as u64;

/// Holds dossiers until the controller has them: on disk, sealed, and where the disk
/// takes none in memory. Clones share everything. Any number may keep, one may take.
#[derive(Clone)]
pub struct Dossiers(Arc<Shared>);

struct Shared {
    /// Held while files are written and read, so never on a thread of the runtime.
    shelf: Mutex<Shelf>,
    waiting: watch::Sender<usize>,
}

/// One that waits, under the number by which it is confirmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Grows; the oldest has the lowest.
    pub number: u64,
    /// What waits.
    pub dossier: Dossier,
}

struct Shelf {
    /// `None` where the directory cannot be used at all.
    files: Option<Files>,
    held: BTreeMap<u64, Held>,
    next: u64,
    bounds: Bounds,
    /// Whether the disk failed last; said once.
    failing: bool,
}

struct Held {
    key: Key,
    place: Place,
}

enum Place {
    File { bytes: u64 },
    Memory(Box<Dossier>),
}

#[derive(Clone, Copy)]
pub(super) struct Bounds {
    pub(super) count: usize,
    pub(super) bytes: u64,
    pub(super) memory: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { count: COUNT_MAX, bytes: BYTES_MAX, memory: MEMORY_MAX }
    }
}

impl Dossiers {
    /// Opens what is kept in `dir`. A directory that cannot be used is said in the log,
    /// and dossiers are kept in memory. Blocks.
    #[must_use]
    pub fn open(dir: &Path, key: SealingKey) -> Self {
        Self::open_on(dir, key, Box::new(Disk), Bounds::default())
    }

    pub(super) fn open_on(dir: &Path, key: SealingKey, volume: Box<dyn Volume>, bounds: Bounds) -> Self {
        let mut shelf = Shelf { files: None, held: BTreeMap::new(), next: 1, bounds, failing: false };
        match Files::open(dir, key, volume) {
            Ok((files, found)) => {
                shelf.files = Some(files);
                for found in found {
                    shelf.next = shelf.next.max(found.number.saturating_add(1));
                    let place = Place::File { bytes: found.bytes };
                    shelf.held.insert(found.number, Held { key: found.key, place });
                }
                shelf.make_room();
            }
            Err(error) => {
                let dir = dir.display();
                tracing::error!(%error, %dir, "no dossiers can be kept on disk: they are kept in memory");
            }
        }
        let waiting = watch::Sender::new(shelf.held.len());
        Self(Arc::new(Shared { shelf: Mutex::new(shelf), waiting }))
    }

    /// Keeps a dossier. On return it is durable, or the log says why it is not. Of an
    /// attempt that has one already it changes nothing.
    pub async fn keep(&self, dossier: Dossier) {
        self.on_disk(move |shelf| shelf.keep(dossier)).await;
    }

    /// How many wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        *self.0.waiting.borrow()
    }

    /// The oldest, at most `max` and about a megabyte of them. They stay until they are
    /// confirmed.
    pub async fn peek(&self, max: usize) -> Vec<Waiting> {
        self.on_disk(move |shelf| shelf.peek(max)).await.unwrap_or_default()
    }

    /// Forgets those with these numbers.
    pub async fn confirm(&self, numbers: Vec<u64>) {
        self.on_disk(move |shelf| numbers.iter().for_each(|number| shelf.remove(*number))).await;
    }

    /// Waits until there is one.
    pub async fn notified(&self) {
        // The sender lives in `self`.
        let _ = self.0.waiting.subscribe().wait_for(|waiting| *waiting > 0).await;
    }

    /// Does what waits for the disk. `None` only where the runtime is going down.
    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Shelf) -> T + Send + 'static,
    ) -> Option<T> {
        let shared = Arc::clone(&self.0);
        let work = move || {
            let mut shelf = shared.lock();
            let done = work(&mut shelf);
            shared.waiting.send_replace(shelf.held.len());
            done
        };
        spawn_blocking(work).await.ok()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Shelf> {
        // Whatever a panic left half done is a file too many, or one that is not there.
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shelf {
    fn keep(&mut self, dossier: Dossier) {
        let key = (dossier.instance_id, dossier.attempt);
        if self.held.values().any(|held| held.key == key) {
            return;
        }
        let number = self.next;
        self.next += 1;
        self.held.insert(number, Held { key, place: Place::Memory(Box::new(dossier)) });
        self.write_down();
        self.make_room();
    }

    /// Brings to disk what is in memory, the oldest first, as far as the disk takes it.
    fn write_down(&mut self) {
        let Some(files) = &mut self.files else { return };
        for (number, held) in &mut self.held {
            let Place::Memory(dossier) = &held.place else { continue };
            match files.write(*number, dossier) {
                Ok(bytes) => {
                    held.place = Place::File { bytes };
                    self.failing = false;
                }
                Err(error) => {
                    if !std::mem::replace(&mut self.failing, true) {
                        tracing::error!(%error, "a dossier cannot be written: it is kept in memory");
                    }
                    return;
                }
            }
        }
    }

    /// Drops the oldest until all bounds are kept.
    fn make_room(&mut self) {
        let (mut files, mut bytes, mut memory) = (0, 0, 0);
        let mut dropped = Vec::new();
        for (number, held) in self.held.iter().rev() {
            let fits = match held.place {
                Place::File { bytes: size } => {
                    (files, bytes) = (files + 1, bytes + size);
                    files <= self.bounds.count && bytes <= self.bounds.bytes
                }
                Place::Memory(_) => {
                    memory += 1;
                    memory <= self.bounds.memory
                }
            };
            if !fits {
                dropped.push(*number);
            }
        }
        if !dropped.is_empty() {
            tracing::warn!(count = dropped.len(), "too many dossiers wait: the oldest are dropped");
        }
        dropped.into_iter().for_each(|number| self.remove(number));
    }

    fn peek(&mut self, max: usize) -> Vec<Waiting> {
        let (mut batch, mut bytes, mut lost) = (Vec::new(), 0, Vec::new());
        for (number, held) in &self.held {
            let size = match held.place {
                Place::File { bytes } => bytes,
                Place::Memory(_) => LOG_BYTES_MAX as u64,
            };
            bytes += size;
            if batch.len() >= max || (bytes > BATCH_BYTES_MAX && !batch.is_empty()) {
                break;
            }
            let dossier = match &held.place {
                Place::Memory(dossier) => Some((**dossier).clone()),
                Place::File { .. } => self.files.as_ref().and_then(|files| files.read(*number, held.key)),
            };
            match dossier {
                Some(dossier) => batch.push(Waiting { number: *number, dossier }),
                None => lost.push(*number),
            }
        }
        for number in lost {
            self.held.remove(&number);
        }
        batch
    }

    fn remove(&mut self, number: u64) {
        let Some(held) = self.held.remove(&number) else { return };
        if let (Place::File { .. }, Some(files)) = (held.place, &self.files) {
            files.remove(number, held.key);
        }
    }
}
