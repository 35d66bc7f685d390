//! Says anew what the host is, when that has changed.

use std::time::Duration;

use domain::node::NodeFacts;
use protocol::proto::agent_frame::Frame;
use tokio::{sync::watch, time::sleep};

use super::outbound::Outbound;

/// Changes that come closer together than this are told as one.
const PAUSE: Duration = Duration::from_secs(1);

/// The facts with the address that published ports are reached at, where they do
/// not say one themselves.
pub(super) fn with_address(mut facts: NodeFacts, address: Option<&str>) -> NodeFacts {
    facts.address = facts.address.or_else(|| address.map(ToOwned::to_owned));
    facts
}

/// Sends the facts whenever they are others than `told`, until the session's stream
/// ends.
pub(super) async fn run(
    mut facts: watch::Receiver<NodeFacts>,
    address: Option<String>,
    mut told: NodeFacts,
    outbound: Outbound,
) {
    loop {
        let now = with_address(facts.borrow_and_update().clone(), address.as_deref());
        if now != told {
            if outbound.bulky(Frame::Facts((&now).into())).await.is_err() {
                return;
            }
            told = now;
            sleep(PAUSE).await;
        }
        if facts.changed().await.is_err() {
            // Whoever knew them has gone; what was told stays true.
            return std::future::pending().await;
        }
    }
}
