//! One node's session: what passes up and what passes down.
//!
//! Two loops share it. The *reader* takes frames as they come and answers
//! heartbeats at once, with no database in its way (I11). The *worker* does what
//! takes time, one thing after the other: assignments down, reports into the
//! database. Between them is a short queue; an agent has one batch of reports
//! under way, so one that fills it is not one of ours, and its session ends.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use chrono::Utc;
use domain::{
    id::{NodeId, ReportStreamId},
    instance::Report,
    node::NodeFacts,
    pull::PullProgress,
};
use protocol::{
    convert::{self, duration_message, timestamp_message},
    proto::{self, agent_frame::Frame as Up, controller_frame::Frame as Down},
};
use store::{Refusal, StoreError};
use tokio::{
    sync::mpsc,
    time::{interval, timeout},
};
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tonic::{Response, Status, Streaming};

use super::{Frames, check_version, convert_status, status};
use crate::{
    fleet::sessions::{Registration, Request},
    service::Services,
};

/// How long an agent may take to say who it is.
const HELLO: Duration = Duration::from_secs(10);
/// Frames that may wait for a slow link.
const DOWN: usize = 64;
/// Pieces of work that may wait for a slow database.
const WORK: usize = 32;
/// How often assignments are looked at without a wake-up, since one may be lost.
const LOOK: Duration = Duration::from_secs(10);
/// No frame from the agent for that long: the link is dead.
const SILENCE: Duration = Duration::from_secs(45);
/// Between tries while the database is away.
const RETRY: Duration = Duration::from_secs(1);

enum Work {
    Reports(Vec<Report>),
    Complete,
    Facts(Box<NodeFacts>),
    Pull(Box<PullProgress>),
}

struct Session {
    services: Arc<Services>,
    node: NodeId,
    stream: ReportStreamId,
    down: mpsc::Sender<Result<proto::ControllerFrame, Status>>,
    /// Set from when the node was heard of after a silence until it was told what is
    /// wanted of it now; no heartbeat is answered meanwhile.
    owes_set: AtomicBool,
}

/// Why a session ended, for the log.
enum Ended {
    ByAgent,
    Silent,
    Evicted,
    Stopping,
    LinkClosed,
    Refused(Status),
}

pub(super) async fn open(
    services: Arc<Services>,
    node: NodeId,
    mut up: Streaming<proto::AgentFrame>,
) -> Result<Response<Frames<proto::ControllerFrame>>, Status> {
    let first =
        timeout(HELLO, up.message()).await.map_err(|_| Status::deadline_exceeded("no hello came"))??;
    let Some(Up::Hello(hello)) = first.and_then(|f| f.frame) else {
        return Err(Status::invalid_argument("the first frame must be a hello"));
    };
    check_version(hello.protocol_version)?;
    let stream: ReportStreamId =
        convert::id("report_stream_id", &hello.report_stream_id).map_err(|e| convert_status(&e))?;
    let facts = NodeFacts::from(hello.facts.ok_or_else(|| Status::invalid_argument("facts are missing"))?);
    let begun = services.store.node_session_begin(node, &facts, stream).await.map_err(|e| match e {
        StoreError::Refused(Refusal::Missing(_)) => Status::permission_denied("the node was removed"),
        other => status(&other.into()),
    })?;
    let registration = services
        .sessions
        .register(node, begun.epoch)
        .ok_or_else(|| Status::aborted("a newer session of this node is open"))?;
    let (down, frames) = mpsc::channel(DOWN);
    let owes_set = AtomicBool::new(false);
    let session = Session { services: services.clone(), node, stream, down, owes_set };
    let welcome = session.welcome(begun.epoch, begun.acknowledged_seq);
    let span = tracing::info_span!("session", node.id = %node, session.epoch = begun.epoch);
    services
        .supervisor
        .spawn("session", tracing::Instrument::instrument(session.run(up, registration, welcome), span));
    Ok(Response::new(Box::pin(ReceiverStream::new(frames))))
}

impl Session {
    fn welcome(&self, epoch: u64, acknowledged_seq: u64) -> Down {
        let settings = &self.services.settings;
        Down::Welcome(proto::Welcome {
            session_epoch: epoch,
            settings: Some(proto::Settings {
                heartbeat_period: Some(duration_message(settings.presence.heartbeat_period)),
                metrics_period: Some(duration_message(settings.metrics_period)),
            }),
            acknowledged_seq,
        })
    }

    async fn run(self, up: Streaming<proto::AgentFrame>, mut registration: Registration, welcome: Down) {
        tracing::info!("session opened");
        let (work, todo) = mpsc::channel(WORK);
        let (evicted, stopping) = (registration.evicted.clone(), self.services.stopping.clone());
        let _ = work.try_send(Work::Complete);
        let ended = if self.send(welcome).await.is_err() {
            Ended::LinkClosed
        } else {
            // Cancel-safe: whichever ends first ends the session, and the agent begins a new one.
            tokio::select! {
                ended = self.read(up, work) => ended,
                ended = self.work(todo, &mut registration) => ended,
                () = evicted.cancelled() => Ended::Evicted,
                () = stopping.cancelled() => Ended::Stopping,
            }
        };
        self.say_goodbye(ended).await;
    }

    /// Tells the agent, as far as the link still takes it.
    async fn say_goodbye(&self, ended: Ended) {
        let last = match ended {
            Ended::ByAgent | Ended::LinkClosed => {
                tracing::info!("session ended by the agent or its link");
                return;
            }
            Ended::Silent => Err(Status::deadline_exceeded("no frame came for too long")),
            Ended::Evicted => Err(Status::aborted("a newer session of this node has begun")),
            Ended::Stopping => Ok(proto::ControllerFrame { frame: Some(Down::Draining(proto::Draining {})) }),
            Ended::Refused(status) => Err(status),
        };
        tracing::info!(goodbye = ?last.as_ref().map(|_| "draining").map_err(Status::message), "session ended");
        let _ = self.down.send_timeout(last, Duration::from_secs(1)).await;
    }

    async fn send(&self, frame: Down) -> Result<(), Ended> {
        self.down.send(Ok(proto::ControllerFrame { frame: Some(frame) })).await.map_err(|_| Ended::LinkClosed)
    }

    async fn read(&self, mut up: Streaming<proto::AgentFrame>, work: mpsc::Sender<Work>) -> Ended {
        loop {
            let frame = match timeout(SILENCE, up.next()).await {
                Err(_) => return Ended::Silent,
                Ok(None) => return Ended::ByAgent,
                Ok(Some(Err(status))) => {
                    tracing::debug!(code = ?status.code(), message = status.message(), "the link broke");
                    return Ended::ByAgent;
                }
                Ok(Some(Ok(proto::AgentFrame { frame }))) => frame,
            };
            if let Err(ended) = self.take(frame, &work) {
                return ended;
            }
        }
    }

    fn take(&self, frame: Option<Up>, work: &mpsc::Sender<Work>) -> Result<(), Ended> {
        let invalid = |e: convert::ConvertError| Ended::Refused(convert_status(&e));
        let queue = |piece| {
            work.try_send(piece).map_err(|_| {
                Ended::Refused(Status::resource_exhausted("too much is waiting for the controller"))
            })
        };
        match frame {
            Some(Up::Heartbeat(beat)) => {
                let stamp = beat.stamp;
                let beat = beat.received(Utc::now()).map_err(invalid)?;
                if self.services.heartbeats.beat(self.node, beat) {
                    // No lease before it knows what was put elsewhere meanwhile (I6).
                    self.owes_set.store(true, Ordering::SeqCst);
                    queue(Work::Complete)?;
                }
                if self.owes_set.load(Ordering::SeqCst) {
                    return Ok(());
                }
                let lease = Some(duration_message(self.services.settings.presence.unreachable_after));
                let answer = Down::HeartbeatAnswer(proto::HeartbeatAnswer { lease, stamp });
                // A full link needs no answer to a heartbeat on top of it.
                let _ = self.down.try_send(Ok(proto::ControllerFrame { frame: Some(answer) }));
                Ok(())
            }
            Some(Up::Reports(batch)) => {
                if batch.reports.len() > protocol::REPORT_BATCH_MAX {
                    return Err(Ended::Refused(Status::invalid_argument("too many reports in a batch")));
                }
                let reports = batch
                    .reports
                    .into_iter()
                    .map(TryInto::try_into)
                    .collect::<Result<_, _>>()
                    .map_err(invalid)?;
                queue(Work::Reports(reports))
            }
            Some(Up::AssignmentsWanted(_)) => queue(Work::Complete),
            Some(Up::Facts(facts)) => queue(Work::Facts(Box::new(facts.into()))),
            Some(Up::StreamRefused(refused)) => {
                if let Some(items) =
                    refused.stream_id.parse().ok().and_then(|id| self.services.streams.attach(id, self.node))
                {
                    let _ = items.try_send(Err(refused.message));
                }
                Ok(())
            }
            Some(Up::PullProgress(progress)) => {
                let progress = PullProgress::try_from(progress).map_err(invalid)?.bounded();
                // The next one says more, so none is worth the place of anything else.
                if work.capacity() > WORK / 2 {
                    let _ = work.try_send(Work::Pull(Box::new(progress)));
                }
                Ok(())
            }
            Some(Up::Hello(_)) => Err(Ended::Refused(Status::invalid_argument("hello came twice"))),
            // A frame of a later version: not for us.
            None => Ok(()),
        }
    }

    async fn work(&self, mut todo: mpsc::Receiver<Work>, registration: &mut Registration) -> Ended {
        let mut look = interval(LOOK);
        let mut sent = None;
        loop {
            // Cancel-safe: a permit, tick or item that loses the race is kept for the next round.
            let result = tokio::select! {
                biased;
                Some(piece) = todo.recv() => self.do_work(piece, &mut sent).await,
                Some(request) = registration.requests.recv() => self.send(open_stream(request)).await,
                () = registration.wake.notified() => self.send_delta(&mut sent).await,
                _ = look.tick() => self.send_delta(&mut sent).await,
            };
            if let Err(ended) = result {
                return ended;
            }
        }
    }

    async fn do_work(&self, piece: Work, sent: &mut Option<u64>) -> Result<(), Ended> {
        let store = &self.services.store;
        match piece {
            Work::Reports(reports) => {
                let seq = self.stored(|| store.reports_apply(self.node, self.stream, &reports)).await?;
                self.send(Down::ReportsAcknowledged(proto::ReportsAcknowledged { seq })).await
            }
            Work::Complete => {
                let set = self.stored(|| store.assignment_set_fetch(self.node)).await?;
                *sent = Some(set.revision);
                self.send(Down::CompleteAssignments((&set).into())).await?;
                self.owes_set.store(false, Ordering::SeqCst);
                Ok(())
            }
            Work::Pull(progress) => {
                let set = self.stored(|| store.pull_progress_set(self.node, &progress)).await?;
                tracing::trace!(image = progress.image, instances = set, "progress of a pull");
                Ok(())
            }
            Work::Facts(facts) => self.stored(|| store.node_facts_set(self.node, &facts)).await,
        }
    }

    async fn send_delta(&self, sent: &mut Option<u64>) -> Result<(), Ended> {
        // Before the complete set there is nothing that a delta could build on.
        let Some(base) = *sent else { return Ok(()) };
        let delta = self.stored(|| self.services.store.assignment_delta_fetch(self.node, base)).await?;
        if delta.revision == base {
            return Ok(());
        }
        *sent = Some(delta.revision);
        self.send(Down::AssignmentDelta((&delta).into())).await
    }

    /// Does something with the database, again while it is away: heartbeats go on
    /// meanwhile, so an outage of the database is not one of the fleet.
    async fn stored<T, F>(&self, mut act: impl FnMut() -> F) -> Result<T, Ended>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        loop {
            match act().await {
                Ok(value) => return Ok(value),
                Err(StoreError::Unavailable(e)) => {
                    tracing::warn!(error = %e, "waiting for the database");
                    tokio::time::sleep(RETRY).await;
                }
                Err(StoreError::Refused(Refusal::Missing("node"))) => {
                    return Err(Ended::Refused(Status::permission_denied("the node was removed")));
                }
                Err(StoreError::Refused(_)) => return Err(Ended::Evicted),
                Err(e) => return Err(Ended::Refused(status(&e.into()))),
            }
        }
    }
}

fn open_stream(Request::Logs { stream_id, logs }: Request) -> Down {
    Down::OpenStream(proto::OpenStream {
        stream_id: stream_id.to_string(),
        what: Some(proto::open_stream::What::Logs(proto::LogsRequest {
            instance_id: logs.instance_id.to_string(),
            tail: logs.tail,
            follow: logs.follow,
            since: logs.since.as_ref().map(timestamp_message),
        })),
    })
}
