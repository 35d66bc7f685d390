//! How far the fetching of an image has come.

use serde::{Deserialize, Serialize};

use crate::{Timestamp, id::InstanceId};

/// Most layers that are told of; an image has at most 127.
pub const LAYERS_MAX: usize = 128;
/// Most instances that are said to wait for one image.
pub const WAITING_MAX: usize = 1000;
/// Longest id and status of a layer, in characters.
pub const TEXT_MAX_CHARS: usize = 64;
/// Longest name of an image, in characters.
pub const IMAGE_MAX_CHARS: usize = 512;

/// How far it has come. A gauge: each takes the place of the one before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullProgress {
    /// Of which image.
    pub image: String,
    /// Who waits for it.
    pub instance_ids: Vec<InstanceId>,
    /// By the node's clock.
    pub at: Timestamp,
    /// Which try this is, from 1.
    pub attempt: u32,
    /// In the order in which the engine first spoke of them.
    pub layers: Vec<LayerProgress>,
}

/// How far one layer has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerProgress {
    /// As the engine shortens it.
    pub id: String,
    /// What the engine says of it, such as `Downloading`.
    pub status: String,
    /// Bytes that are here.
    pub current_bytes: u64,
    /// Its size; `None` while it is not known.
    pub total_bytes: Option<u64>,
}

impl PullProgress {
    /// Bytes that are here, over all layers.
    #[must_use]
    pub fn current_bytes(&self) -> u64 {
        self.layers.iter().fold(0, |sum, layer| sum.saturating_add(layer.current_bytes))
    }

    /// Bytes of all layers; `None` while one of them is not known.
    #[must_use]
    pub fn total_bytes(&self) -> Option<u64> {
        let add = |sum: u64, layer: &LayerProgress| Some(sum.saturating_add(layer.total_bytes?));
        self.layers.iter().try_fold(0, add).filter(|_| !self.layers.is_empty())
    }

    /// The same without what is too much of it: what an engine says, and what a node
    /// says that it says, is of any length.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        shorten(&mut self.image, IMAGE_MAX_CHARS);
        self.instance_ids.truncate(WAITING_MAX);
        self.layers.truncate(LAYERS_MAX);
        for layer in &mut self.layers {
            shorten(&mut layer.id, TEXT_MAX_CHARS);
            shorten(&mut layer.status, TEXT_MAX_CHARS);
        }
        self
    }
}

fn shorten(text: &mut String, most: usize) {
    // A database keeps no such character, and a terminal should not either.
    text.retain(|c| !c.is_control());
    if let Some((end, _)) = text.char_indices().nth(most) {
        text.truncate(end);
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn layer(current_bytes: u64, total_bytes: Option<u64>) -> LayerProgress {
        LayerProgress { id: "0a1b".into(), status: "Downloading".into(), current_bytes, total_bytes }
    }

    fn progress(layers: Vec<LayerProgress>) -> PullProgress {
        let at = Timestamp::UNIX_EPOCH;
        PullProgress { image: "app:1".into(), instance_ids: Vec::new(), at, attempt: 1, layers }
    }

    #[test]
    fn a_total_is_known_once_every_layers_is() {
        assert_eq!((progress(vec![]).current_bytes(), progress(vec![]).total_bytes()), (0, None));
        let half = progress(vec![layer(3, Some(5)), layer(0, None)]);
        assert_eq!((half.current_bytes(), half.total_bytes()), (3, None));
        let whole = progress(vec![layer(3, Some(5)), layer(u64::MAX, Some(u64::MAX))]);
        assert_eq!((whole.current_bytes(), whole.total_bytes()), (u64::MAX, Some(u64::MAX)));
    }

    #[test]
    fn what_is_too_much_is_cut() {
        let mut much = progress(vec![layer(1, None); LAYERS_MAX + 1]);
        much.image = "ä".repeat(IMAGE_MAX_CHARS + 1);
        much.instance_ids = vec![InstanceId::from_uuid(Uuid::nil()); WAITING_MAX + 1];
        much.layers[0].id = "x\0\n".repeat(TEXT_MAX_CHARS + 1);
        much.layers[0].status = "é".repeat(TEXT_MAX_CHARS + 1);
        let cut = much.bounded();
        assert_eq!(cut.image.chars().count(), IMAGE_MAX_CHARS);
        assert_eq!((cut.instance_ids.len(), cut.layers.len()), (WAITING_MAX, LAYERS_MAX));
        assert_eq!(cut.layers[0].id, "x".repeat(TEXT_MAX_CHARS));
        assert_eq!(cut.layers[0].status.chars().count(), TEXT_MAX_CHARS);
        let fine = progress(vec![layer(1, Some(2))]);
        assert_eq!(fine.clone().bounded(), fine);
    }
}
