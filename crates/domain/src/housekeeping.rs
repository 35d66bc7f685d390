//! What an agent may clear away on its engine, and when.
//!
//! Only what is ours: images that the agent fetched, containers, networks and
//! volumes with its labels. Of these only what nobody refers to: no container of
//! anybody's, no assignment, and, for images, not the revision before the present
//! one either, so that a rollback needs no registry. What is left goes when it has
//! lain about for a time, or sooner when the disk gets full.
//!
//! Pure: the loop around it looks, calls [`tidy`], and removes without force, so
//! what begins to be used in between is refused by the engine.

use std::{collections::BTreeSet, time::Duration};

use crate::{Timestamp, id::InstanceId};

/// How long anything lies about at least: what was just made may be about to be used.
pub const GRACE: Duration = Duration::from_secs(600);
/// Points of disk use below the watermark down to which images are cleared away.
pub const RELIEF_PERCENT: u8 = 5;

/// When things go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How long an image or volume stays that nobody uses.
    pub keep_unused: Duration,
    /// Disk use from which images go sooner, the longest unused first.
    pub watermark_percent: u8,
    /// Whether volumes are cleared away at all.
    pub volumes: bool,
}

/// Everything in an engine that matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Belongings {
    /// All images.
    pub images: Vec<Image>,
    /// All containers, whosever.
    pub containers: Vec<Container>,
    /// The networks that we made.
    pub networks: Vec<Network>,
    /// The volumes that we made; none where they were not asked for.
    pub volumes: Vec<Volume>,
}

/// An image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The engine's id.
    pub id: String,
    /// All names and digests that it goes by.
    pub names: Vec<String>,
    /// Its size, layers that it shares with others included.
    pub size_bytes: u64,
}

/// A container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// The engine's id.
    pub id: String,
    /// Whose it is, if ours.
    pub instance_id: Option<InstanceId>,
    /// Whether it has ended, or never began.
    pub is_dead: bool,
    /// When it was made.
    pub created_at: Option<Timestamp>,
    /// Its image's id, and the name that it was made with.
    pub images: Vec<String>,
    /// Names and ids of its networks.
    pub networks: Vec<String>,
    /// Names of its volumes.
    pub volumes: Vec<String>,
}

/// A network that we made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// The engine's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// When it was made; one that does not say is left alone.
    pub created_at: Option<Timestamp>,
}

/// A volume that was made for a container of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Its name.
    pub name: String,
}

/// What is wanted and known here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Whether a complete set of assignments has come since the agent started.
    /// Before that nothing is known to be unneeded.
    pub complete: bool,
    /// Images that an assignment, a record or the revision before has: by name, by
    /// id, or by digest alone.
    pub images: BTreeSet<String>,
    /// Names of networks that an assignment has.
    pub networks: BTreeSet<String>,
    /// Names of volumes that an assignment has.
    pub volumes: BTreeSet<String>,
    /// Instances that are assigned or remembered.
    pub instances: BTreeSet<InstanceId>,
}

/// What the agent remembers of things, over restarts.
pub trait Memory {
    /// Since when an image that we fetched has been unused; `None` for one that we
    /// did not fetch, or that was in use at the last look.
    fn image_unused_since(&self, id: &str) -> Option<Timestamp>;
    /// Since when a volume has been unused.
    fn volume_unused_since(&self, name: &str) -> Option<Timestamp>;
}

/// The file system that holds the engine's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disk {
    /// Its size.
    pub bytes: u64,
    /// What is free.
    pub free_bytes: u64,
}

impl Disk {
    fn used_bytes(&self) -> u64 {
        self.bytes.saturating_sub(self.free_bytes)
    }

    fn share(&self, percent: u8) -> u64 {
        (self.bytes / 100).saturating_mul(percent.into())
    }
}

/// Something to remove.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Removal {
    /// A dead container, by its id.
    Container(String),
    /// An image, by its id.
    Image(String),
    /// A network, by its id.
    Network(String),
    /// A volume, by its name.
    Volume(String),
}

/// Whether something refers to an image: a container of anybody's, or a need.
#[must_use]
pub fn is_image_used(image: &Image, held: &Belongings, needs: &Needs) -> bool {
    let is_digest = |need: &String| {
        need.starts_with("sha256:") && image.names.iter().any(|name| name.ends_with(need.as_str()))
    };
    let is = |need: &String| *need == image.id || image.names.contains(need) || is_digest(need);
    needs.images.iter().any(is) || held.containers.iter().any(|container| container.images.iter().any(is))
}

/// Whether something refers to a volume.
#[must_use]
pub fn is_volume_used(volume: &Volume, held: &Belongings, needs: &Needs) -> bool {
    needs.volumes.contains(&volume.name)
        || held.containers.iter().any(|container| container.volumes.contains(&volume.name))
}

/// Says what to remove now, in this order. Nothing before a complete set of
/// assignments has come.
#[must_use]
pub fn tidy(
    held: &Belongings,
    needs: &Needs,
    memory: &dyn Memory,
    disk: Option<Disk>,
    policy: &Policy,
    now: Timestamp,
) -> Vec<Removal> {
    if !needs.complete {
        return Vec::new();
    }
    let old = |since: Option<Timestamp>, least: Duration| {
        since.is_some_and(|since| (now - since).to_std().is_ok_and(|age| age >= least))
    };
    let dead = |c: &&Container| {
        c.is_dead
            && c.instance_id.is_some_and(|id| !needs.instances.contains(&id))
            && old(c.created_at, GRACE)
    };
    let containers = held.containers.iter().filter(dead).map(|c| Removal::Container(c.id.clone()));
    let joined = |n: &Network| {
        held.containers.iter().any(|c| c.networks.contains(&n.name) || c.networks.contains(&n.id))
    };
    let networks = held
        .networks
        .iter()
        .filter(|n| !joined(n) && !needs.networks.contains(&n.name) && old(n.created_at, GRACE));
    let volumes = held.volumes.iter().filter(|volume| {
        policy.volumes
            && !is_volume_used(volume, held, needs)
            && old(memory.volume_unused_since(&volume.name), policy.keep_unused.max(GRACE))
    });
    let mut removals: Vec<_> = containers.collect();
    removals.extend(networks.map(|network| Removal::Network(network.id.clone())));
    removals.extend(volumes.map(|volume| Removal::Volume(volume.name.clone())));
    removals.extend(images(held, needs, memory, disk, policy, now).map(Removal::Image));
    removals
}

/// The images to remove, the longest unused first.
fn images<'a>(
    held: &'a Belongings,
    needs: &'a Needs,
    memory: &'a dyn Memory,
    disk: Option<Disk>,
    policy: &Policy,
    now: Timestamp,
) -> impl Iterator<Item = String> + use<'a> {
    let unused = |image: &'a Image| {
        let since = memory.image_unused_since(&image.id)?;
        let age = (now - since).to_std().ok()?;
        (age >= GRACE && !is_image_used(image, held, needs)).then_some((since, age, image))
    };
    let mut unused: Vec<_> = held.images.iter().filter_map(unused).collect();
    unused.sort_by_key(|(since, _, image)| (*since, &image.id));
    // Layers that images share are counted with each: too little may be freed, and
    // the next look goes on.
    let mut to_free =
        disk.filter(|disk| disk.used_bytes() >= disk.share(policy.watermark_percent)).map_or(0, |disk| {
            disk.used_bytes()
                - disk.share(policy.watermark_percent.saturating_sub(RELIEF_PERCENT)).min(disk.used_bytes())
        });
    let keep = policy.keep_unused;
    unused.into_iter().filter_map(move |(_, age, image)| {
        let goes = age >= keep || to_free > 0;
        if goes {
            to_free = to_free.saturating_sub(image.size_bytes);
        }
        goes.then(|| image.id.clone())
    })
}

#[cfg(test)]
mod tests;
