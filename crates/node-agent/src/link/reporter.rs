//! Sends what the ledger has to report.

use domain::instance::Report;
use protocol::{
    REPORT_BATCH_MAX,
    proto::{ReportBatch, agent_frame::Frame},
};
use tokio::sync::watch;

use super::outbound::Outbound;
use crate::ledger::{Ledger, weight};

/// Most reports that may be on their way. More are sent as acknowledgements come.
const IN_FLIGHT_MAX: u64 = 1024;
/// About the most bytes of a batch: a heartbeat may have to wait for one that has
/// begun to be sent.
const BATCH_MAX_BYTES: usize = 64 * 1024;

/// Sends all reports after `acknowledged`'s first value, until the session's stream
/// ends. What is sent and not acknowledged is sent again by the next session.
pub(super) async fn run(ledger: Ledger, mut acknowledged: watch::Receiver<u64>, outbound: Outbound) {
    let mut last = ledger.reports_changed();
    let mut sent = *acknowledged.borrow_and_update();
    loop {
        // Both are marked as seen before the look, so a later change wakes us.
        last.mark_unchanged();
        let in_flight = sent.saturating_sub(*acknowledged.borrow_and_update());
        let room = usize::try_from(IN_FLIGHT_MAX.saturating_sub(in_flight)).unwrap_or(REPORT_BATCH_MAX);
        let reports = batch(ledger.reports_after(sent, room.min(REPORT_BATCH_MAX)));
        if let Some(report) = reports.last() {
            sent = report.seq;
            let reports = reports.iter().map(Into::into).collect();
            if outbound.bulky(Frame::Reports(ReportBatch { reports })).await.is_err() {
                return;
            }
            continue;
        }
        // Cancel-safe: both only wait.
        tokio::select! {
            changed = last.changed() => if changed.is_err() { return },
            changed = acknowledged.changed() => if changed.is_err() { return },
        }
    }
}

/// The reports at the front that go together: without gaps, and of bearable size.
fn batch(reports: Vec<Report>) -> Vec<Report> {
    let mut together: Vec<Report> = Vec::with_capacity(reports.len());
    let mut bytes = 0;
    for report in reports {
        bytes += weight(&report);
        let follows = together.last().is_none_or(|last| last.seq.checked_add(1) == Some(report.seq));
        if !follows || (bytes > BATCH_MAX_BYTES && !together.is_empty()) {
            break;
        }
        together.push(report);
    }
    together
}

#[cfg(test)]
mod tests {
    use domain::{
        Timestamp,
        id::InstanceId,
        instance::{Cause, InstanceStatus},
    };
    use uuid::Uuid;

    use super::*;

    fn report(seq: u64, bytes: usize) -> Report {
        Report {
            seq,
            instance_id: InstanceId::from_uuid(Uuid::nil()),
            status: InstanceStatus::FIRST,
            cause: Cause::Assigned,
            message: "x".repeat(bytes),
            at: Timestamp::UNIX_EPOCH,
        }
    }

    fn numbers(reports: Vec<Report>) -> Vec<u64> {
        batch(reports).into_iter().map(|report| report.seq).collect()
    }

    #[test]
    fn a_batch_ends_before_a_gap() {
        assert_eq!(numbers([3, 4, 7, 8].map(|seq| report(seq, 0)).to_vec()), [3, 4]);
        assert_eq!(numbers(vec![]), [0; 0]);
    }

    #[test]
    fn a_batch_is_of_bearable_size_and_never_empty_for_a_large_report() {
        assert_eq!(numbers((1..9).map(|seq| report(seq, 20_000)).collect()), [1, 2, 3]);
        assert_eq!(numbers((1..9).map(|seq| report(seq, 200_000)).collect()), [1]);
    }
}
