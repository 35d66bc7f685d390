//! Whether a silent node is still there.
//!
//! A pure judgement over the last heartbeat. A controller that has itself not
//! been listening judges nobody: silence is evidence only while one listens.

use std::time::Duration;

use crate::{
    Timestamp,
    node::{EngineState, Heartbeat, NodeState},
};

/// The periods that presence is judged by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PresenceSettings {
    /// How often an agent sends a heartbeat.
    pub heartbeat_period: Duration,
    /// Silence after which a node is unreachable.
    pub unreachable_after: Duration,
    /// The longest that an agent which has lost its controller waits before it
    /// tries again. A controller that has just begun to listen gives it that much.
    pub reconnect_within: Duration,
}

impl Default for PresenceSettings {
    fn default() -> Self {
        Self {
            heartbeat_period: Duration::from_secs(2),
            unreachable_after: Duration::from_secs(6),
            reconnect_within: Duration::from_secs(35),
        }
    }
}

impl PresenceSettings {
    /// Silence after which a heartbeat counts as overdue: one and a half periods,
    /// so that ordinary lateness of half a period is no news.
    #[must_use]
    pub fn suspect_after(&self) -> Duration {
        (self.heartbeat_period * 3 / 2).min(self.unreachable_after)
    }
}

/// Judges one node.
///
/// `listening_since` is the moment from which this controller has heard
/// heartbeats without interruption; silence before it proves nothing, so a node
/// that has not been heard keeps its `current` state until its agent must have
/// tried to reconnect and a full `unreachable_after` has passed in silence.
#[must_use]
pub fn judge(
    current: NodeState,
    last: Option<Heartbeat>,
    listening_since: Timestamp,
    now: Timestamp,
    settings: &PresenceSettings,
) -> NodeState {
    let heard_or_listening = last.map_or(listening_since, |beat| beat.received_at.max(listening_since));
    let silence = (now - heard_or_listening).to_std().unwrap_or(Duration::ZERO);
    let never_heard = last.is_none();
    let patience = settings.reconnect_within + settings.unreachable_after;
    if never_heard && (current == NodeState::Enrolled || silence < patience) {
        return current;
    }
    if silence >= settings.unreachable_after {
        return NodeState::Unreachable;
    }
    if silence >= settings.suspect_after() {
        // An unreachable node becomes present by a heartbeat only, not by a restart of the judge.
        return if current == NodeState::Unreachable { current } else { NodeState::Suspect };
    }
    match last.map(|beat| beat.engine) {
        Some(EngineState::Reachable) => NodeState::Ready,
        Some(EngineState::Unreachable) => NodeState::EngineUnreachable,
        None => current,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;
    use proptest::prelude::*;

    fn at(seconds: f64) -> Timestamp {
        Timestamp::UNIX_EPOCH + TimeDelta::milliseconds((seconds * 1000.0) as i64)
    }

    fn beat(seconds: f64, engine: EngineState) -> Option<Heartbeat> {
        Some(Heartbeat { received_at: at(seconds), engine, assignment_revision: 0 })
    }

    fn judged(current: NodeState, last: Option<Heartbeat>, now: f64) -> NodeState {
        judge(current, last, at(0.0), at(now), &PresenceSettings::default())
    }

    #[test]
    fn a_node_passes_through_suspect_to_unreachable_and_back() {
        let last = beat(10.0, EngineState::Reachable);
        assert_eq!(judged(NodeState::Ready, last, 11.9), NodeState::Ready);
        assert_eq!(judged(NodeState::Ready, last, 13.0), NodeState::Suspect);
        assert_eq!(judged(NodeState::Suspect, last, 16.0), NodeState::Unreachable);
        assert_eq!(
            judged(NodeState::Unreachable, beat(20.0, EngineState::Reachable), 20.1),
            NodeState::Ready
        );
    }

    #[test]
    fn an_engine_that_does_not_answer_is_its_own_state() {
        let last = beat(10.0, EngineState::Unreachable);
        assert_eq!(judged(NodeState::Ready, last, 10.5), NodeState::EngineUnreachable);
    }

    #[test]
    fn a_controller_that_just_started_judges_nobody() {
        for current in [NodeState::Ready, NodeState::Unreachable, NodeState::EngineUnreachable] {
            assert_eq!(judged(current, None, 40.9), current);
            assert_eq!(judged(current, None, 41.0), NodeState::Unreachable);
        }
        assert_eq!(judged(NodeState::Enrolled, None, 600.0), NodeState::Enrolled);
    }

    proptest! {
        #[test]
        fn longer_silence_never_makes_a_node_more_present(first in 0.0f64..20.0, more in 0.0f64..20.0) {
            let rank = |s| match s { NodeState::Ready => 0, NodeState::Suspect => 1, _ => 2 };
            let last = beat(0.0, EngineState::Reachable);
            let early = judged(NodeState::Ready, last, first);
            prop_assert!(rank(judged(early, last, first + more)) >= rank(early));
        }
    }
}
