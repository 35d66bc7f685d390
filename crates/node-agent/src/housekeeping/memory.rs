//! What has to be remembered to know what is ours to clear away, and since when it
//! lies about: a small file beside the ledger.
//!
//! It says of images which of them this agent fetched, and of each deployment which
//! images its last two revisions had here. Where it is lost, nothing is cleared away
//! that was fetched before; nothing else follows.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

use domain::{
    Timestamp,
    housekeeping::{Belongings, Memory as _, Needs, is_image_used, is_volume_used},
    id::DeploymentId,
};
use serde::{Deserialize, Serialize};

const FILE: &str = "housekeeping.json";
/// Most of each kind of entry. Beyond that the smallest key gives way.
const MOST: usize = 4096;
/// Revisions of a deployment that are remembered: the present one and the one before.
const REVISIONS: usize = 2;

/// An image that one revision of a deployment had here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Revision {
    number: u32,
    name: String,
    id: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Notes {
    /// Images that we fetched, and since when nobody uses them; `None` while in use.
    images: BTreeMap<String, Option<Timestamp>>,
    /// Volumes of ours that nobody uses, and since when.
    volumes: BTreeMap<String, Timestamp>,
    /// Of each deployment, newest revision first.
    deployments: BTreeMap<DeploymentId, Vec<Revision>>,
}

/// What is remembered, on disk and here.
pub(super) struct Memory {
    path: PathBuf,
    notes: Notes,
    written: Notes,
}

impl Memory {
    /// Reads it. What cannot be read is as good as lost.
    pub(super) fn load(dir: &Path) -> Self {
        let path = dir.join(FILE);
        let notes: Notes = match fs::read(&path).map(|bytes| serde_json::from_slice(&bytes)) {
            Ok(Ok(notes)) => notes,
            Ok(Err(error)) => {
                tracing::warn!(%error, "what housekeeping remembered cannot be read; older images stay");
                Notes::default()
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Notes::default(),
            Err(error) => {
                tracing::warn!(%error, "what housekeeping remembered cannot be read; older images stay");
                Notes::default()
            }
        };
        Self { path, written: notes.clone(), notes }
    }

    /// Takes note of images that were fetched.
    pub(super) fn fetched(&mut self, ids: &BTreeSet<String>) {
        for id in ids {
            self.notes.images.entry(id.clone()).or_insert(None);
        }
    }

    /// Takes note of what a revision of a deployment has; `id` where the image is here.
    pub(super) fn revision(&mut self, deployment: DeploymentId, number: u32, name: &str, id: Option<String>) {
        let revisions = self.notes.deployments.entry(deployment).or_default();
        match revisions.iter_mut().find(|revision| revision.number == number) {
            Some(known) => {
                known.id = id.or_else(|| known.id.take());
                name.clone_into(&mut known.name);
            }
            None => {
                revisions.push(Revision { number, name: name.to_owned(), id });
                revisions.sort_by_key(|revision| std::cmp::Reverse(revision.number));
                revisions.truncate(REVISIONS);
            }
        }
    }

    /// Forgets deployments that this node has no part of any more, and says what the
    /// last two revisions of the others need: names, and ids where they are known.
    pub(super) fn needed(&mut self, present: &BTreeSet<DeploymentId>) -> BTreeSet<String> {
        self.notes.deployments.retain(|id, _| present.contains(id));
        let revisions = self.notes.deployments.values().flatten();
        revisions
            .flat_map(|revision| std::iter::once(revision.name.clone()).chain(revision.id.clone()))
            .collect()
    }

    /// Takes note of what is in use and what is not.
    pub(super) fn look(&mut self, held: &Belongings, needs: &Needs, now: Timestamp) {
        // One that an engine does not have any more is nobody's.
        self.notes.images.retain(|id, _| held.images.iter().any(|image| image.id == *id));
        for image in &held.images {
            if let Some(since) = self.notes.images.get_mut(&image.id) {
                *since = (!is_image_used(image, held, needs)).then(|| earlier(*since, now));
            }
        }
        let unused = held.volumes.iter().filter(|volume| !is_volume_used(volume, held, needs));
        self.notes.volumes = unused
            .map(|volume| (volume.name.clone(), earlier(self.volume_unused_since(&volume.name), now)))
            .collect();
        while self.notes.images.len() > MOST {
            self.notes.images.pop_first();
        }
        while self.notes.volumes.len() > MOST {
            self.notes.volumes.pop_first();
        }
    }

    /// Writes it where it changed: whole or not at all. Blocks.
    pub(super) fn save(&mut self) -> io::Result<()> {
        if self.notes == self.written {
            return Ok(());
        }
        let bytes = serde_json::to_vec(&self.notes).map_err(io::Error::other)?;
        let new = self.path.with_extension("new");
        fs::write(&new, bytes)?;
        fs::File::open(&new)?.sync_all()?;
        fs::rename(&new, &self.path)?;
        self.written = self.notes.clone();
        Ok(())
    }
}

/// Since when something is unused; a clock that was set back begins anew.
fn earlier(since: Option<Timestamp>, now: Timestamp) -> Timestamp {
    since.map_or(now, |since| since.min(now))
}

impl domain::housekeeping::Memory for Memory {
    fn image_unused_since(&self, id: &str) -> Option<Timestamp> {
        self.notes.images.get(id).copied().flatten()
    }

    fn volume_unused_since(&self, name: &str) -> Option<Timestamp> {
        self.notes.volumes.get(name).copied()
    }
}
