//! What the ledger holds, and how an entry changes it.

use std::{collections::BTreeMap, sync::Arc};

use domain::{
    assignment::{Assignment, AssignmentDelta, AssignmentSet},
    id::{InstanceId, ReportStreamId},
    instance::{Outcome, Report},
    plan::Record,
};
use serde::{Deserialize, Serialize};

use super::{REPORT_BYTES, REPORTS_MAX, REPORTS_MAX_BYTES, entry::Entry};

/// The whole of it. State is snapshot folded with entries, so [`State::apply`] is
/// the only thing that changes it, when it is read back as when it is written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct State {
    pub stream: ReportStreamId,
    #[serde(with = "shared")]
    pub assignments: Arc<AssignmentSet>,
    pub records: BTreeMap<InstanceId, Record>,
    /// Those that are not acknowledged, by number.
    #[serde(with = "listed")]
    pub reports: BTreeMap<u64, Report>,
    /// The number last given out.
    pub last_seq: u64,
    /// The last number that the controller said it has.
    pub acknowledged: u64,
    /// How many were dropped for lack of room.
    pub dropped: u64,
    /// The last number of each instance among `reports`.
    #[serde(skip)]
    latest: BTreeMap<InstanceId, u64>,
    /// What `reports` weigh.
    #[serde(skip)]
    weight: usize,
}

/// What a report takes, about, in bytes.
pub(crate) fn weight(report: &Report) -> usize {
    let outcome = match &report.status.outcome {
        Some(Outcome::Failed { message, .. }) => message.len(),
        Some(Outcome::Stopped { .. } | Outcome::Exited { .. }) | None => 0,
    };
    REPORT_BYTES + report.message.len() + outcome
}

impl State {
    pub(super) fn new(stream: ReportStreamId) -> Self {
        Self {
            stream,
            assignments: Arc::default(),
            records: BTreeMap::new(),
            reports: BTreeMap::new(),
            last_seq: 0,
            acknowledged: 0,
            dropped: 0,
            latest: BTreeMap::new(),
            weight: 0,
        }
    }

    /// Works out what a snapshot leaves out.
    pub(super) fn index(&mut self) {
        self.latest = self.reports.values().map(|report| (report.instance_id, report.seq)).collect();
        self.weigh();
    }

    fn weigh(&mut self) {
        self.weight = self.reports.values().map(weight).sum();
    }

    pub(super) fn apply(&mut self, entry: &Entry) {
        match entry {
            Entry::Replaced(complete) => {
                self.assignments = Arc::new(complete.clone());
                self.meet(complete.assignments.values());
            }
            Entry::Changed { base_revision, revision, upserts, removals } => {
                let delta = AssignmentDelta {
                    base_revision: *base_revision,
                    revision: *revision,
                    upserts: upserts.clone(),
                    removals: removals.clone(),
                };
                // It fitted when it was written.
                let _ = Arc::make_mut(&mut self.assignments).apply(&delta);
                self.meet(upserts);
            }
            Entry::Acknowledged(seq) => self.acknowledge(*seq),
            Entry::Restated { acknowledged, reports } => {
                self.acknowledged = *acknowledged;
                for report in reports {
                    self.report(report.clone());
                }
            }
            Entry::Committed { records, reports } => {
                for (instance_id, record) in records {
                    match record {
                        Some(record) => drop(self.records.insert(*instance_id, record.clone())),
                        None => drop(self.records.remove(instance_id)),
                    }
                }
                for report in reports {
                    self.report(report.clone());
                }
            }
        }
    }

    /// Begins a record of each instance that is new here. With the assignment on disk
    /// goes what it said of restarts when it came, and that cannot be found out later.
    fn meet<'a>(&mut self, assignments: impl IntoIterator<Item = &'a Assignment>) {
        for assignment in assignments {
            self.records.entry(assignment.instance_id).or_insert_with(|| Record::of(assignment));
        }
    }

    fn report(&mut self, report: Report) {
        self.last_seq = self.last_seq.max(report.seq);
        self.latest.insert(report.instance_id, report.seq);
        self.weight += weight(&report);
        if let Some(twice) = self.reports.insert(report.seq, report) {
            self.weight -= weight(&twice);
        }
        while self.reports.len() > REPORTS_MAX || self.weight > REPORTS_MAX_BYTES {
            let is_latest = |report: &Report| self.latest.get(&report.instance_id) == Some(&report.seq);
            let oldest = self.reports.values().find(|report| !is_latest(report)).map(|report| report.seq);
            // The latest of each instance stay, whatever they weigh.
            let Some(oldest) = oldest.and_then(|seq| self.reports.remove(&seq)) else { return };
            self.weight -= weight(&oldest);
            self.dropped = self.dropped.saturating_add(1);
        }
    }

    fn acknowledge(&mut self, seq: u64) {
        self.acknowledged = self.acknowledged.max(seq);
        if seq <= self.last_seq {
            self.reports = self.reports.split_off(&seq.saturating_add(1));
            self.latest.retain(|_, last| *last > seq);
            self.weigh();
            return;
        }
        // More than was ever given out: the disk went back to an earlier state. What
        // waits here was numbered in ignorance of what the controller already has.
        let waiting = std::mem::take(&mut self.reports);
        self.weight = 0;
        self.last_seq = seq;
        for (_, mut report) in waiting {
            report.seq = self.last_seq.saturating_add(1);
            self.report(report);
        }
    }
}

/// An [`Arc`] is stored as what it holds.
mod shared {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<T: Serialize, S: Serializer>(value: &Arc<T>, to: S) -> Result<S::Ok, S::Error> {
        value.as_ref().serialize(to)
    }

    pub(super) fn deserialize<'de, T, D>(from: D) -> Result<Arc<T>, D::Error>
    where
        T: Deserialize<'de>,
        D: Deserializer<'de>,
    {
        T::deserialize(from).map(Arc::new)
    }
}

/// Reports carry their numbers, so their map is stored as a list.
mod listed {
    use std::collections::BTreeMap;

    use domain::instance::Report;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(map: &BTreeMap<u64, Report>, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(map.values())
    }

    pub(super) fn deserialize<'de, D>(from: D) -> Result<BTreeMap<u64, Report>, D::Error>
    where
        D: Deserializer<'de>,
    {
        let reports = Vec::<Report>::deserialize(from)?;
        Ok(reports.into_iter().map(|report| (report.seq, report)).collect())
    }
}
