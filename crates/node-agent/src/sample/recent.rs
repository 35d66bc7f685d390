//! The last minutes of each instance's use of memory, for whoever asks why it died.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use domain::{
    Timestamp,
    dossier::{MEMORY_POINTS_MAX, MEMORY_SPAN, MemoryPoint},
    id::InstanceId,
    sample::InstanceSample,
};

/// Most instances whose points are held, running or not.
const INSTANCES_MAX: usize = 2_000;

/// Holds what was read in the last [`MEMORY_SPAN`], of each instance. Clones share
/// everything. An instance that is read no more keeps its points for that long.
#[derive(Clone, Debug, Default)]
pub struct Recent(Arc<Mutex<BTreeMap<InstanceId, VecDeque<MemoryPoint>>>>);

impl Recent {
    /// Takes readings in.
    pub fn push(&self, samples: &[InstanceSample]) {
        let points = samples.iter().filter_map(|sample| {
            Some((sample.instance_id, MemoryPoint { at: sample.at, bytes: sample.memory_bytes? }))
        });
        self.push_points(points);
    }

    /// Takes points in.
    pub fn push_points(&self, points: impl IntoIterator<Item = (InstanceId, MemoryPoint)>) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (id, point) in points {
            if held.len() >= INSTANCES_MAX && !held.contains_key(&id) {
                continue;
            }
            let points = held.entry(id).or_default();
            let oldest = point.at - MEMORY_SPAN;
            while points.front().is_some_and(|point| point.at < oldest) || points.len() >= MEMORY_POINTS_MAX {
                points.pop_front();
            }
            points.push_back(point);
        }
    }

    /// Forgets instances that `keep` does not want and that have not been read for
    /// [`MEMORY_SPAN`].
    pub fn prune(&self, now: Timestamp, keep: impl Fn(InstanceId) -> bool) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let oldest = now - MEMORY_SPAN;
        held.retain(|id, points| keep(*id) || points.back().is_some_and(|point| point.at >= oldest));
    }

    /// What is known of an instance, the oldest first.
    #[must_use]
    pub fn memory(&self, instance: InstanceId) -> Vec<MemoryPoint> {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.get(&instance).map(|points| points.iter().copied().collect()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use uuid::Uuid;

    use super::*;

    fn instance(n: u128) -> InstanceId {
        InstanceId::from_uuid(Uuid::from_u128(n))
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + TimeDelta::seconds(second)
    }

    fn sample(n: u128, second: i64, memory_bytes: Option<u64>) -> InstanceSample {
        InstanceSample { memory_bytes, ..InstanceSample::empty(instance(n), at(second)) }
    }

    #[test]
    fn five_minutes_are_kept_of_each_instance() {
        let recent = Recent::default();
        for second in 0..1000 {
            recent.push(&[sample(1, second, Some(7)), sample(2, second * 30, Some(8)), sample(3, 0, None)]);
        }
        let one = recent.memory(instance(1));
        assert_eq!(
            (one.len(), one.first().map(|p| p.at), one.last().map(|p| p.at)),
            (300, Some(at(700)), Some(at(999)))
        );
        assert_eq!(recent.memory(instance(2)).len(), 11);
        assert!(recent.memory(instance(3)).is_empty());
    }

    #[test]
    fn what_is_gone_is_forgotten_after_five_minutes_and_not_before() {
        let recent = Recent::default();
        recent.push(&[sample(1, 0, Some(7)), sample(2, 0, Some(7))]);
        recent.prune(at(300), |id| id == instance(2));
        assert_eq!(recent.memory(instance(1)).len(), 1);
        recent.prune(at(301), |id| id == instance(2));
        assert_eq!((recent.memory(instance(1)).len(), recent.memory(instance(2)).len()), (0, 1));
    }
}
