//! Says that the agent is there.

use std::time::Duration;

use domain::node::EngineState;
use protocol::{
    convert::engine_state_number,
    proto::{Heartbeat, agent_frame::Frame},
};
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};

use super::outbound::Outbound;
use crate::lease::Lease;

/// Frames have to pass at least this often, or a proxy on the way cuts the stream.
pub(super) const PERIOD_MAX: Duration = Duration::from_secs(15);
/// No controller needs to hear more often than this.
pub(super) const PERIOD_MIN: Duration = Duration::from_millis(100);

/// Sends heartbeats until the session's stream ends: each `period`, and when the
/// engine comes or goes. Reads only what others have published, and a heartbeat
/// that finds the stream standing still is left out: the next one says the same.
pub(super) async fn run(
    period: Duration,
    mut engine: watch::Receiver<EngineState>,
    revision: watch::Receiver<u64>,
    lease: Lease,
    outbound: Outbound,
) {
    let mut tick = interval(period.clamp(PERIOD_MIN, PERIOD_MAX));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while outbound.is_open() {
        // Cancel-safe: both only wait, and a change is seen by the next look.
        tokio::select! {
            _ = tick.tick() => {}
            Ok(()) = engine.changed() => {}
        }
        let heartbeat = Heartbeat {
            engine: engine_state_number(*engine.borrow_and_update()),
            assignment_revision: *revision.borrow(),
            stamp: u64::try_from(lease.now().as_millis()).ok(),
        };
        let _ = outbound.urgent(Frame::Heartbeat(heartbeat));
    }
}
