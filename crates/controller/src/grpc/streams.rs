//! Streams of data from agents to those who wait for them.

use std::time::Duration;

use domain::id::NodeId;
use protocol::{
    convert,
    proto::{self, stream_frame::Frame},
};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::StreamExt;
use tonic::{Response, Status, Streaming};
use uuid::Uuid;

use super::{Frames, convert_status};
use crate::{
    fleet::streams::{Item, LogLine},
    service::Services,
};

/// How long an agent may take to name the stream that it opened.
const FIRST_FRAME: Duration = Duration::from_secs(10);

pub(super) async fn attach(
    services: &Services,
    node: NodeId,
    mut frames: Streaming<proto::StreamFrame>,
) -> Result<Response<Frames<proto::StreamControl>>, Status> {
    let first = timeout(FIRST_FRAME, frames.message())
        .await
        .map_err(|_| Status::deadline_exceeded("the stream was not named"))??;
    let Some(Frame::StreamId(id)) = first.and_then(|f| f.frame) else {
        return Err(Status::invalid_argument("the first frame must name the stream"));
    };
    let id: Uuid = convert::id("stream_id", &id).map_err(|e| convert_status(&e))?;
    let items =
        services.streams.attach(id, node).ok_or_else(|| Status::not_found("nobody waits for that stream"))?;
    // The answer's stream lives as long as lines are passed on: its end tells the agent to stop reading.
    let (control, answer) = mpsc::channel(1);
    let stop = services.stopping.clone();
    services.supervisor.spawn("log stream", async move {
        // Cancel-safe: whichever ends first ends the stream.
        tokio::select! {
            () = pass_on(&mut frames, &items) => {}
            () = items.closed() => {}
            () = stop.cancelled() => {}
        }
        drop::<mpsc::Sender<Result<proto::StreamControl, Status>>>(control);
    });
    Ok(Response::new(Box::pin(tokio_stream::wrappers::ReceiverStream::new(answer))))
}

async fn pass_on(frames: &mut Streaming<proto::StreamFrame>, items: &mpsc::Sender<Item>) {
    loop {
        let item = match frames.next().await {
            None => return,
            Some(Err(status)) => Err(format!("the stream broke: {}", status.message())),
            Some(Ok(proto::StreamFrame { frame: Some(Frame::LogLine(line)) })) => Ok(LogLine {
                at: line.at.and_then(|at| convert::timestamp("at", Some(at)).ok()),
                stderr: line.stderr,
                text: line.text,
                partial: line.partial,
            }),
            Some(Ok(proto::StreamFrame { frame: Some(Frame::Error(message)) })) => Err(message),
            // A frame of a later version: not for us.
            Some(Ok(_)) => continue,
        };
        let last = item.is_err();
        if items.send(item).await.is_err() || last {
            return;
        }
    }
}
