//! When too much is lost at once to replace anything.
//!
//! A third of a fleet rarely dies in one minute. Far more often it is a switch, or the
//! controller's own link, and the copies are alive; placing all of them anew on what is
//! left would bury that under them. So replacement pauses until nodes come back or an
//! operator says otherwise.

use std::time::Duration;

use crate::{Timestamp, node::NodeState, placement::Candidate};

/// Losses that follow each other within that time are one.
const AT_ONCE: Duration = Duration::from_secs(60);
/// Fewer nodes than that are never too many.
const LOST_MIN: usize = 2;
/// In a smaller fleet any loss is a large share.
const FLEET_MIN: usize = 3;

/// How much may be lost at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tolerance {
    /// The share of the fleet, in percent, that is too much; `None` for no limit.
    pub mass_loss_percent: Option<u32>,
}

impl Default for Tolerance {
    /// More than a third.
    fn default() -> Self {
        Self { mass_loss_percent: Some(34) }
    }
}

/// Says why nothing is to be replaced, if so.
///
/// Nodes that were lost at most a minute apart count together, measured against those
/// that were there when the first of them went. It holds for as long as enough of them
/// are away, however long that is.
#[must_use]
pub fn judge(nodes: &[Candidate], tolerance: &Tolerance) -> Option<String> {
    let percent = usize::try_from(tolerance.mass_loss_percent?).unwrap_or(usize::MAX);
    let known = nodes.iter().filter(|node| node.state != NodeState::Enrolled).count();
    let mut lost: Vec<Timestamp> =
        nodes.iter().filter(|n| n.state == NodeState::Unreachable).map(|n| n.state_since).collect();
    lost.sort_unstable();
    let (mut before, mut together, mut last) = (0, 0, None::<Timestamp>);
    let mut worst = None;
    for at in lost {
        if last.is_some_and(|last| (at - last).to_std().is_ok_and(|gap| gap > AT_ONCE)) {
            before += together;
            together = 0;
        }
        last = Some(at);
        together += 1;
        let fleet = known - before;
        let too_much = together >= LOST_MIN
            && fleet >= FLEET_MIN
            && together.saturating_mul(100) >= percent.saturating_mul(fleet);
        if too_much {
            worst = Some((together, fleet));
        }
    }
    worst.map(|(lost, fleet)| format!("{lost} of {fleet} nodes were lost at once"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::placement::tests::candidate;
    use chrono::TimeDelta;

    /// Nodes that were lost at these seconds, among so many.
    fn judged(fleet: u8, lost: &[i64], percent: Option<u32>) -> Option<String> {
        let mut nodes: Vec<_> = (0..fleet).map(|id| candidate(id, 1, 1)).collect();
        for (node, at) in nodes.iter_mut().zip(lost) {
            node.state = NodeState::Unreachable;
            node.state_since = Timestamp::UNIX_EPOCH + TimeDelta::seconds(*at);
        }
        judge(&nodes, &Tolerance { mass_loss_percent: percent })
    }

    #[test]
    fn more_than_a_third_at_once_is_too_much_and_a_third_is_not() {
        let third = Tolerance::default().mass_loss_percent;
        for (fleet, lost, paused) in [
            (1, vec![0], false),
            (2, vec![0], false),
            (2, vec![0, 0], false),
            (3, vec![0], false),
            (3, vec![0, 30], true),
            (3, vec![0, 61], false),
            (6, vec![0, 0], false),
            (5, vec![0, 1], true),
            (9, vec![0, 50, 100], false),
            (9, vec![0, 50, 100, 150], true),
            (4, vec![0, 1000, 1001], true),
            (5, vec![0, 1000, 2000], false),
        ] {
            assert_eq!(judged(fleet, &lost, third).is_some(), paused, "{fleet} {lost:?}");
        }
        assert_eq!(judged(3, &[0, 0], third).unwrap(), "2 of 3 nodes were lost at once");
    }

    #[test]
    fn the_share_is_a_setting_and_can_be_none() {
        assert!(judged(10, &[0, 0, 0], Some(30)).is_some());
        assert!(judged(10, &[0, 0, 0], Some(31)).is_none());
        assert!(judged(3, &[0, 0, 0], None).is_none());
    }

    #[test]
    fn nodes_that_were_never_there_do_not_count() {
        let mut nodes: Vec<_> = (0..9).map(|id| candidate(id, 1, 1)).collect();
        for node in &mut nodes[..5] {
            node.state = NodeState::Enrolled;
        }
        for node in &mut nodes[5..7] {
            node.state = NodeState::Unreachable;
        }
        assert!(judge(&nodes, &Tolerance::default()).is_some(), "two of four");
    }
}
