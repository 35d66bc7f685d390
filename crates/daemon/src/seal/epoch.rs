//! Data keys of one purpose, numbered by epoch.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use super::{MasterKey, SealingKey};

/// The keys of one purpose: one per epoch, the key of the purpose `PURPOSE/EPOCH`.
///
/// An epoch is a number that is kept beside what was sealed. Which one seals, and when
/// the next begins, is for the owner of the purpose to say, who counts what each has
/// sealed and keeps that below 2^32.
pub struct DataKeys {
    master: Arc<MasterKey>,
    purpose: &'static str,
    /// Guards only itself. Deriving a key costs more than sealing a short value with it.
    known: RwLock<BTreeMap<u32, Arc<SealingKey>>>,
}

impl DataKeys {
    /// The keys of a purpose.
    #[must_use]
    pub const fn new(master: Arc<MasterKey>, purpose: &'static str) -> Self {
        Self { master, purpose, known: RwLock::new(BTreeMap::new()) }
    }

    /// The key of an epoch.
    #[must_use]
    pub fn of(&self, epoch: u32) -> Arc<SealingKey> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner).get(&epoch).cloned();
        if let Some(key) = known {
            return key;
        }
        let key = Arc::new(self.master.derive(&format!("{}/{epoch}", self.purpose)));
        self.known.write().unwrap_or_else(PoisonError::into_inner).entry(epoch).or_insert(key).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_epoch_has_a_key_of_its_own_and_always_the_same() {
        let master = Arc::new(MasterKey::generate().unwrap());
        let (keys, again) = (DataKeys::new(master.clone(), "tests"), DataKeys::new(master.clone(), "tests"));
        assert_eq!(keys.of(1).id(), keys.of(1).id());
        assert_eq!(keys.of(1).id(), again.of(1).id());
        assert_eq!(keys.of(2).id(), master.derive("tests/2").id());
        assert_ne!(keys.of(1).id(), keys.of(2).id());
    }

    #[test]
    fn what_one_epoch_sealed_opens_in_no_other() {
        let keys = DataKeys::new(Arc::new(MasterKey::generate().unwrap()), "tests");
        let sealed = keys.of(1).seal(b"", b"value").unwrap();
        assert!(keys.of(2).open(b"", &sealed).is_err());
        keys.of(1).open(b"", &sealed).unwrap();
    }
}
