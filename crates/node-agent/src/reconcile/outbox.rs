//! What waits to be written to the ledger.

use std::collections::{BTreeMap, BTreeSet};

use domain::{
    id::InstanceId,
    plan::{Record, Transition},
};

use crate::ledger::RecordChange;

/// Most transitions that wait while the ledger cannot be written. Beyond it only
/// the latest of each instance stays.
const MOST: usize = 10_000;

/// Changes in the order in which they came, numbered by the commit that will hold
/// them.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    records: BTreeMap<InstanceId, Option<Record>>,
    transitions: Vec<Transition>,
    /// The commit that is under way, or was last.
    begun: u64,
    /// The last commit that went well.
    done: u64,
}

/// One commit's content; kept until it went well.
#[derive(Clone, Debug, Default)]
pub(super) struct Parcel {
    records: BTreeMap<InstanceId, Option<Record>>,
    transitions: Vec<Transition>,
}

impl Parcel {
    pub(super) fn contents(&self) -> (Vec<RecordChange>, Vec<Transition>) {
        let changes = self
            .records
            .iter()
            .map(|(instance_id, record)| RecordChange { instance_id: *instance_id, record: record.clone() });
        (changes.collect(), self.transitions.clone())
    }
}

impl Outbox {
    /// Queues what happened together with the record after it. Answers the number
    /// of the commit that will hold it.
    pub(super) fn note(&mut self, record: &Record, happened: Vec<Transition>) -> u64 {
        self.records.insert(record.instance_id, Some(record.clone()));
        self.transitions.extend(happened);
        self.bound();
        self.begun + 1
    }

    pub(super) fn forget(&mut self, instance: InstanceId) {
        self.records.insert(instance, None);
    }

    /// Takes all that waits for the next commit, if anything does.
    pub(super) fn take(&mut self) -> Option<Parcel> {
        if self.records.is_empty() && self.transitions.is_empty() {
            return None;
        }
        self.begun += 1;
        Some(Parcel {
            records: std::mem::take(&mut self.records),
            transitions: std::mem::take(&mut self.transitions),
        })
    }

    /// The commit that was under way went well.
    pub(super) fn written(&mut self) {
        self.done = self.begun;
    }

    /// It did not: what it held goes before what came meanwhile.
    pub(super) fn put_back(&mut self, parcel: Parcel) {
        let newer = std::mem::replace(&mut self.records, parcel.records);
        self.records.extend(newer);
        let newer = std::mem::replace(&mut self.transitions, parcel.transitions);
        self.transitions.extend(newer);
        self.bound();
        // The next commit holds it, and all that was promised for the next one.
    }

    /// Whether a commit is on disk.
    pub(super) const fn is_written(&self, commit: u64) -> bool {
        commit <= self.done
    }

    fn bound(&mut self) {
        if self.transitions.len() <= MOST {
            return;
        }
        let mut met = BTreeSet::new();
        self.transitions.reverse();
        self.transitions.retain(|transition| met.insert(transition.instance_id));
        self.transitions.reverse();
        tracing::warn!(
            kept = self.transitions.len(),
            "too many reports wait for the ledger: dropped earlier ones"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::{
        Timestamp,
        instance::{Cause, InstanceStatus},
    };
    use uuid::Uuid;

    fn id(n: u128) -> InstanceId {
        InstanceId::from_uuid(Uuid::from_u128(n))
    }

    fn transition(n: u128, message: &str) -> Transition {
        Transition {
            instance_id: id(n),
            status: InstanceStatus::FIRST,
            cause: Cause::Time,
            message: message.into(),
            at: Timestamp::UNIX_EPOCH,
        }
    }

    fn messages(parcel: &Parcel) -> Vec<String> {
        parcel.contents().1.into_iter().map(|t| t.message).collect()
    }

    #[test]
    fn what_came_during_a_commit_belongs_to_the_next() {
        let mut outbox = Outbox::default();
        let first = outbox.note(&Record::new(id(1)), vec![transition(1, "a")]);
        let parcel = outbox.take().unwrap();
        let second = outbox.note(&Record::new(id(1)), vec![transition(1, "b")]);
        assert_eq!(messages(&parcel), ["a"]);
        outbox.written();
        assert!(outbox.is_written(first) && !outbox.is_written(second));
        assert_eq!(messages(&outbox.take().unwrap()), ["b"]);
        outbox.written();
        assert!(outbox.is_written(second) && outbox.take().is_none());
    }

    #[test]
    fn a_commit_that_failed_is_made_again_in_order_and_with_the_newer_record() {
        let mut outbox = Outbox::default();
        let first = outbox.note(&Record::new(id(1)), vec![transition(1, "a")]);
        let parcel = outbox.take().unwrap();
        outbox.forget(id(1));
        let second = outbox.note(&Record::new(id(2)), vec![transition(2, "b")]);
        outbox.put_back(parcel);
        assert!(!outbox.is_written(first));
        let parcel = outbox.take().unwrap();
        assert_eq!(messages(&parcel), ["a", "b"]);
        assert_eq!(parcel.contents().0[0], RecordChange { instance_id: id(1), record: None });
        outbox.written();
        assert!(outbox.is_written(first) && outbox.is_written(second));
    }

    #[test]
    fn too_many_lose_all_but_the_latest_of_each_instance() {
        let mut outbox = Outbox::default();
        for n in 0..=MOST {
            outbox.note(&Record::new(id(1)), vec![transition(1, &n.to_string())]);
        }
        assert_eq!(messages(&outbox.take().unwrap()), [MOST.to_string()]);
    }
}
