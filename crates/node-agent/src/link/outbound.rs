//! What a session sends: two bounded queues into one stream, the urgent first.

use futures_util::{Stream, stream};
use protocol::proto::{AgentFrame, agent_frame::Frame};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// Small frames that pass all others. Filled only where the connection stands still.
const URGENT_MAX: usize = 64;
/// Frames that may be large. Few, because what waits here is sent after a cut anyway.
const BULKY_MAX: usize = 4;

/// The ways into a session's stream.
#[derive(Clone)]
pub(super) struct Outbound {
    urgent: mpsc::Sender<AgentFrame>,
    bulky: mpsc::Sender<AgentFrame>,
}

/// The session's stream has ended, or stands still.
#[derive(Debug)]
pub(super) struct Stuck;

impl Outbound {
    /// The two ends.
    pub(super) fn new() -> (Self, impl Stream<Item = AgentFrame> + Send + 'static) {
        let (urgent, urgent_rx) = mpsc::channel(URGENT_MAX);
        let (bulky, bulky_rx) = mpsc::channel(BULKY_MAX);
        let frames = stream::select_with_strategy(
            ReceiverStream::new(urgent_rx),
            ReceiverStream::new(bulky_rx),
            |(): &mut ()| stream::PollNext::Left,
        );
        (Self { urgent, bulky }, frames)
    }

    /// Sends a small frame past the large ones, without ever waiting.
    pub(super) fn urgent(&self, frame: Frame) -> Result<(), Stuck> {
        self.urgent.try_send(AgentFrame { frame: Some(frame) }).map_err(|_| Stuck)
    }

    /// Whether frames can still be sent.
    pub(super) fn is_open(&self) -> bool {
        !self.urgent.is_closed()
    }

    /// Sends a frame that may be large, when there is room.
    pub(super) async fn bulky(&self, frame: Frame) -> Result<(), Stuck> {
        self.bulky.send(AgentFrame { frame: Some(frame) }).await.map_err(|_| Stuck)
    }

    /// Sends a frame that nobody misses, if there is more than enough room: what waits
    /// for a place is worth more. Says whether it did.
    pub(super) fn lossy(&self, frame: Frame) -> bool {
        self.bulky.capacity() > BULKY_MAX / 2
            && self.bulky.try_send(AgentFrame { frame: Some(frame) }).is_ok()
    }

    /// Waits until the session's stream has ended.
    pub(super) async fn closed(&self) {
        self.urgent.closed().await;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;
    use protocol::proto::{AssignmentsWanted, Heartbeat, PullProgress, ReportBatch};

    use super::*;

    #[tokio::test]
    async fn urgent_frames_pass_the_large_ones() {
        let (outbound, frames) = Outbound::new();
        outbound.bulky(Frame::Reports(ReportBatch::default())).await.unwrap();
        outbound.bulky(Frame::Reports(ReportBatch::default())).await.unwrap();
        outbound.urgent(Frame::Heartbeat(Heartbeat::default())).unwrap();
        outbound.urgent(Frame::AssignmentsWanted(AssignmentsWanted {})).unwrap();
        drop(outbound);
        let order: Vec<_> = frames.map(|f| matches!(f.frame, Some(Frame::Reports(_)))).collect().await;
        assert_eq!(order, [false, false, true, true]);
    }

    #[tokio::test]
    async fn a_frame_that_nobody_misses_leaves_room_for_the_others() {
        let (outbound, frames) = Outbound::new();
        let progress = || Frame::PullProgress(PullProgress::default());
        let sent = (0..BULKY_MAX).filter(|_| outbound.lossy(progress())).count();
        assert_eq!(sent, BULKY_MAX / 2);
        outbound.bulky(Frame::Reports(ReportBatch::default())).await.unwrap();
        assert!(!outbound.lossy(progress()));
        drop(frames);
        outbound.closed().await;
        assert!(!outbound.lossy(progress()));
    }

    #[tokio::test]
    async fn an_urgent_frame_never_waits() {
        let (outbound, frames) = Outbound::new();
        let beat = || Frame::Heartbeat(Heartbeat::default());
        while outbound.urgent(beat()).is_ok() {}
        assert!(outbound.is_open());
        drop(frames);
        assert!(!outbound.is_open());
    }
}
