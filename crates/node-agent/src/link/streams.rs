//! Log streams that the controller asks for.
//!
//! Each has a connection of its own: on a shared one, a reader who does not read
//! would use up the window of the whole connection, and with it stop the others.
//! From there to the engine everything pulls: a line is read when there is room
//! to send it.

use std::{sync::Arc, time::Duration};

use domain::id::InstanceId;
use futures_util::{StreamExt as _, stream::BoxStream};
use protocol::{
    convert,
    proto::{self, OpenStream, StreamFrame, agent_service_client::AgentServiceClient, open_stream::What},
};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use super::{
    Shared, chain,
    connect::{Trust, connect},
    session::StreamTask,
};
use crate::{
    identity::Identity,
    logs::{self, LogLine, LogsError, LogsRequest},
    runtime::{LogsQuery, Runtime},
};

/// Most streams of a node at once.
pub(super) const STREAMS_MAX: usize = 64;
/// Lines that may wait between the engine and the connection.
const LINES_MAX: usize = 16;
/// How long the engine may take to find a container.
const FIND_LIMIT: Duration = Duration::from_secs(5);
/// How long the controller may take to end a call whose last frame it has.
const END_LIMIT: Duration = Duration::from_secs(10);

type Lines = BoxStream<'static, Result<LogLine, LogsError>>;

/// Reads a request, and answers the task that carries it out; or says why it
/// cannot be.
pub(super) fn prepare(
    shared: &Shared,
    identity: &Arc<Identity>,
    open: OpenStream,
) -> Result<StreamTask, String> {
    let request = match open.what {
        Some(What::Logs(request)) => request,
        None => return Err("this agent does not know this kind of stream".to_owned()),
    };
    let instance: InstanceId =
        convert::id("logs.instance_id", &request.instance_id).map_err(|error| error.to_string())?;
    let since = request.since.map(|at| convert::timestamp("logs.since", Some(at)));
    let since = since.transpose().map_err(|error| error.to_string())?;
    let record = shared.ledger.records().remove(&instance);
    if record.is_none() && !shared.ledger.assignments().assignments.contains_key(&instance) {
        return Err(format!("instance {instance} is not on this node"));
    }
    let known = record.and_then(|record| record.status.container_id);
    let query = LogsQuery { tail: request.tail, since, until: None, follow: request.follow };
    let (runtime, identity) = (Arc::clone(&shared.runtime), Arc::clone(identity));
    Ok(Box::pin(async move {
        let lines = find(runtime, instance, known, query).await;
        if let Err(error) = serve(&identity, &open.stream_id, lines).await {
            tracing::warn!(stream = open.stream_id, instance.id = %instance, error, "log stream broke");
        }
    }))
}

/// The log of an instance's container, by the engine's word on which one that is;
/// the ledger's may be older, and does where the engine does not answer.
async fn find(
    runtime: Arc<dyn Runtime>,
    instance: InstanceId,
    known: Option<String>,
    query: LogsQuery,
) -> Result<Lines, String> {
    let container_id = match timeout(FIND_LIMIT, runtime.inspect(instance)).await {
        Ok(Ok(Some(container))) => container.container_id,
        Ok(Ok(None)) => return Err(format!("instance {instance} has no container")),
        Ok(Err(error)) => known.ok_or_else(|| error.to_string())?,
        Err(_) => known.ok_or("the engine does not answer")?,
    };
    Ok(logs::open(&runtime, &LogsRequest { container_id, query }).boxed())
}

/// Sends lines until they end or nobody reads them any more.
async fn serve(identity: &Identity, stream_id: &str, lines: Result<Lines, String>) -> Result<(), String> {
    let channel =
        connect(identity.controller(), Trust::Mutual(identity)).await.map_err(|error| chain(&error))?;
    let (frames, sent) = mpsc::channel(LINES_MAX);
    let send = pump(frames, stream_id.to_owned(), lines);
    let call = async move {
        let mut answers =
            AgentServiceClient::new(channel).stream(ReceiverStream::new(sent)).await?.into_inner();
        while answers.message().await?.is_some() {}
        Ok::<_, Status>(())
    };
    tokio::pin!(send, call);
    // Cancel-safe: whichever ends first ends the other, which is the intent.
    let ended = tokio::select! {
        // The reader has gone: so does the engine's stream, with `send`.
        ended = &mut call => ended,
        () = &mut send => tokio::select! {
            ended = &mut call => ended,
            () = sleep(END_LIMIT) => Ok(()),
        },
    };
    match ended {
        Ok(()) => Ok(()),
        // Nobody waits for it any more.
        Err(status) if matches!(status.code(), Code::NotFound | Code::Cancelled) => Ok(()),
        Err(status) => Err(format!("{:?}: {}", status.code(), status.message())),
    }
}

/// Feeds the call: the stream's id, the lines, and why they ended early, if they did.
async fn pump(frames: mpsc::Sender<StreamFrame>, stream_id: String, lines: Result<Lines, String>) {
    use proto::stream_frame::Frame;
    let send = async |frame| frames.send(StreamFrame { frame: Some(frame) }).await.is_ok();
    if !send(Frame::StreamId(stream_id)).await {
        return;
    }
    let mut lines = match lines {
        Ok(lines) => lines,
        Err(message) => {
            send(Frame::Error(message)).await;
            return;
        }
    };
    while let Some(line) = lines.next().await {
        let (frame, last) = match line {
            Ok(line) => (Frame::LogLine(message(line)), false),
            Err(error) => (Frame::Error(chain(&error)), true),
        };
        if !send(frame).await || last {
            return;
        }
    }
}

fn message(line: LogLine) -> proto::LogLine {
    proto::LogLine {
        at: Some(convert::timestamp_message(&line.at)),
        stderr: line.stderr,
        text: line.text,
        partial: line.partial,
    }
}
