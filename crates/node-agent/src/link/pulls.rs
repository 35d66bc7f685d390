//! Tells how far pulls have come.
//!
//! What is told is a gauge: where the link is busy, one is left out and the next one
//! says more. So nothing is queued, and nothing else waits for it (I11).

use std::collections::BTreeMap;

use domain::Timestamp;
use protocol::proto::agent_frame::Frame;
use tokio::sync::watch;

use super::outbound::Outbound;
use crate::pull::Board;

/// Tells what is new on the board, until the session's stream ends.
pub(super) async fn run(mut board: watch::Receiver<Board>, outbound: Outbound) {
    let mut told: BTreeMap<String, Timestamp> = BTreeMap::new();
    // What is there when the session begins is news to it.
    board.mark_changed();
    loop {
        // Cancel-safe: both only wait.
        let changed = tokio::select! {
            changed = board.changed() => changed,
            () = outbound.closed() => return,
        };
        if changed.is_err() {
            // No pull will ever be told of again, and a task that ends ends its session.
            return outbound.closed().await;
        }
        let now = board.borrow_and_update().clone();
        told.retain(|image, _| now.contains_key(image));
        for (image, progress) in now.iter() {
            let is_new = told.get(image) != Some(&progress.at);
            if is_new && outbound.lossy(Frame::PullProgress(progress.into())) {
                told.insert(image.clone(), progress.at);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use chrono::TimeDelta;
    use domain::pull::PullProgress;
    use futures_util::{Stream, StreamExt as _};
    use protocol::proto::{AgentFrame, Heartbeat, ReportBatch};
    use tokio::time::timeout;

    use super::*;

    fn progress(image: &str, second: i64) -> PullProgress {
        let at = Timestamp::UNIX_EPOCH + TimeDelta::seconds(second);
        PullProgress { image: image.into(), instance_ids: Vec::new(), at, attempt: 1, layers: Vec::new() }
    }

    fn put(board: &watch::Sender<Board>, progress: PullProgress) {
        board.send_modify(|board| {
            Arc::make_mut(board).insert(progress.image.clone(), progress);
        });
    }

    /// The next frame: image and second.
    async fn next(frames: &mut (impl Stream<Item = AgentFrame> + Unpin)) -> (String, i64) {
        let frame = timeout(Duration::from_secs(20), frames.next()).await.unwrap().unwrap();
        let Some(Frame::PullProgress(progress)) = frame.frame else { panic!("{frame:?}") };
        (progress.image, progress.at.unwrap().seconds)
    }

    #[tokio::test]
    async fn each_news_is_told_once_and_a_new_session_is_told_what_is_there() {
        let board = watch::Sender::new(Board::default());
        put(&board, progress("a", 1));
        for _ in 0..2 {
            let (outbound, mut frames) = Outbound::new();
            let task = tokio::runtime::Handle::current().spawn(run(board.subscribe(), outbound));
            assert_eq!(next(&mut frames).await, ("a".into(), 1));
            put(&board, progress("b", 2));
            assert_eq!(next(&mut frames).await, ("b".into(), 2));
            put(&board, progress("b", 3));
            assert_eq!(next(&mut frames).await, ("b".into(), 3));
            board.send_modify(|board| drop(Arc::make_mut(board).remove("b")));
            drop(frames);
            task.await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_busy_link_gets_the_newest_and_neither_reports_nor_heartbeats_wait() {
        let board = watch::Sender::new(Board::default());
        let (outbound, frames) = Outbound::new();
        // Nothing is taken out: the link stands still.
        while outbound.lossy(Frame::Reports(ReportBatch::default())) {}
        let told = run(board.subscribe(), outbound.clone());
        let meanwhile = async {
            for second in 1..100 {
                put(&board, progress("a", second));
                tokio::task::yield_now().await;
            }
            outbound.bulky(Frame::Reports(ReportBatch::default())).await.unwrap();
            outbound.urgent(Frame::Heartbeat(Heartbeat::default())).unwrap();
            let mut frames = frames.boxed();
            let first = frames.next().await.unwrap();
            assert!(matches!(first.frame, Some(Frame::Heartbeat(_))), "{first:?}");
            for _ in 0..3 {
                let next = frames.next().await.unwrap();
                assert!(matches!(next.frame, Some(Frame::Reports(_))), "{next:?}");
            }
            put(&board, progress("a", 100));
            assert_eq!(next(&mut frames).await, ("a".into(), 100));
        };
        // Cancel-safe: the test is over when the second ends.
        tokio::select! {
            () = told => panic!("it ended with its session open"),
            () = meanwhile => {}
        }
    }
}
