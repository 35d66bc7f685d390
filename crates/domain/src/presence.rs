//! Whether a silent node is still there.
//!
//! A pure judgement over the last heartbeat. A controller that has itself not
//! been listening judges nobody: silence is evidence only while one listens.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    Timestamp,
    id::NodeId,
    node::{EngineState, Heartbeat, NodeState},
};

/// What a controller has heard of its nodes, now.
pub trait Hearing: Sync {
    /// Since when a node is silent, where that is certain; see [`silent_since`].
    fn silent_since(&self, node: NodeId, now: Timestamp) -> Option<Timestamp>;
}

/// Of one that cannot say of any node that it is silent.
impl Hearing for () {
    fn silent_since(&self, _: NodeId, _: Timestamp) -> Option<Timestamp> {
        None
    }
}

/// Of one that knows it of these nodes.
impl Hearing for BTreeMap<NodeId, Timestamp> {
    fn silent_since(&self, node: NodeId, _: Timestamp) -> Option<Timestamp> {
        self.get(&node).copied()
    }
}

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
    // What was heard before this process could not listen for a while is as good as nothing.
    let last = last.filter(|beat| beat.received_at >= listening_since);
    let heard_or_listening = last.map_or(listening_since, |beat| beat.received_at);
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

/// Since when nothing was heard of a node, where that is certain.
///
/// A heartbeat that this process has heard while it listens is a sure beginning. Of a
/// node that it has not heard, it knows only that it heard nothing since it listens; and
/// that counts only once the node must have tried to reach it, as in [`judge`].
#[must_use]
pub fn silent_since(
    last: Option<Timestamp>,
    listening_since: Timestamp,
    now: Timestamp,
    settings: &PresenceSettings,
) -> Option<Timestamp> {
    if let Some(last) = last.filter(|last| *last >= listening_since) {
        return Some(last);
    }
    let patience = settings.reconnect_within + settings.unreachable_after;
    let listened = (now - listening_since).to_std().unwrap_or(Duration::ZERO);
    (listened >= patience).then_some(listening_since)
}

/// The longest pause between two looks at the heartbeats after which whoever looks may
/// have been asleep, and cannot say what was sent meanwhile.
#[must_use]
pub fn longest_pause(settings: &PresenceSettings) -> Duration {
    settings.unreachable_after / 2
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
    fn a_controller_that_was_asleep_judges_nobody_until_it_has_listened() {
        let before = beat(10.0, EngineState::Reachable);
        let woken = |now| judge(NodeState::Ready, before, at(100.0), at(now), &PresenceSettings::default());
        assert_eq!(woken(100.1), NodeState::Ready);
        assert_eq!(woken(140.9), NodeState::Ready);
        assert_eq!(woken(141.0), NodeState::Unreachable);
    }

    #[test]
    fn silence_counts_from_what_was_surely_heard_last() {
        let settings = PresenceSettings::default();
        let since = |last: Option<f64>, now| silent_since(last.map(at), at(100.0), at(now), &settings);
        assert_eq!(since(Some(120.0), 121.0), Some(at(120.0)));
        assert_eq!(since(Some(99.0), 130.0), None, "it was heard before this process could not listen");
        assert_eq!(since(None, 140.9), None);
        assert_eq!(since(None, 141.0), Some(at(100.0)));
        assert_eq!(since(Some(99.0), 141.0), Some(at(100.0)));
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
