//! One line of the journal: what changed, in one piece.

use domain::{
    assignment::{Assignment, AssignmentDelta, AssignmentSet},
    id::InstanceId,
    instance::Report,
    plan::Record,
};
use serde::{Deserialize, Serialize};

/// A change of the state. An entry that was written before must read back as long
/// as the snapshot's format stays: add variants and defaulted fields only.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Entry {
    /// A complete set came.
    Replaced(AssignmentSet),
    /// A delta came and fitted.
    Changed { base_revision: u64, revision: u64, upserts: Vec<Assignment>, removals: Vec<InstanceId> },
    /// The controller has the reports up to this number.
    Acknowledged(u64),
    /// The controller has gone back to this number, and is told anew how things stand.
    Restated { acknowledged: u64, reports: Vec<Report> },
    /// The reconciler learnt something.
    Committed { records: Vec<(InstanceId, Option<Record>)>, reports: Vec<Report> },
}

impl Entry {
    pub(super) fn changed(delta: AssignmentDelta) -> Self {
        let AssignmentDelta { base_revision, revision, upserts, removals } = delta;
        Self::Changed { base_revision, revision, upserts, removals }
    }
}
