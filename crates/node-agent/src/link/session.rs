//! One session, from `Hello` to its end.

use std::{pin::Pin, sync::Arc, time::Duration};

use daemon::Backoff;
use domain::assignment::{Applied, AssignmentDelta, AssignmentSet};
use protocol::{
    PROTOCOL_VERSION,
    convert::{self, ConvertError},
    proto::{
        AssignmentsWanted, ControllerFrame, Hello, Settings, StreamRefused, Welcome,
        agent_frame::Frame as Up, agent_service_client::AgentServiceClient, controller_frame::Frame as Down,
    },
};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};
use tonic::{Code, Status, Streaming};
use tracing::Instrument as _;

use super::{
    ConnectError, LinkState, Shared,
    connect::{Trust, connect, local_address},
    dossiers, facts, heartbeat, metrics,
    outbound::{Outbound, Stuck},
    pulls, reporter, streams,
};
use crate::{identity::Identity, ledger::LedgerError};

/// Largest frame that is taken. A complete set of a large node has to fit.
const FRAME_MAX_BYTES: usize = 64 * 1024 * 1024;
/// The longest that containers may go unmeasured, and the shortest.
const METRICS_PERIOD: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3600));

/// How long the reason of an end may come after it was noticed.
const VERDICT_LIMIT: Duration = Duration::from_secs(1);

/// How a session ended, and how long it lived after `Welcome`.
pub(super) struct Ended {
    pub(super) end: SessionEnd,
    /// `None` where it never came to `Welcome`.
    pub(super) lived: Option<Duration>,
}

/// How a session ended.
pub(super) enum SessionEnd {
    /// The controller is about to stop.
    Draining,
    /// There is a new certificate.
    Renewed,
    /// A newer session of this node took over.
    Superseded,
    /// The controller refuses this node.
    Refused { message: String },
    /// The controller refuses this version.
    Version { message: String },
    /// It broke, or never came about.
    Lost(SessionError),
}

/// Why a session broke.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// There was no connection.
    #[error("reach the controller")]
    Connect(#[from] ConnectError),
    /// The call failed.
    #[error("hold a session ({code}: {message})")]
    Call {
        /// gRPC's name of the kind.
        code: String,
        /// What the controller, or the connection, said.
        message: String,
    },
    /// The controller ended it without a word.
    #[error("hold a session: the controller ended it")]
    Closed,
    /// Nothing came for too long.
    #[error("hear from the controller within {0:?}")]
    Silent(Duration),
    /// The controller does not take what we send.
    #[error("send to the controller: the connection stands still")]
    Stuck,
    /// The controller broke the protocol.
    #[error("follow the controller: {0}")]
    Protocol(&'static str),
    /// A frame cannot be understood.
    #[error("understand a frame of the controller")]
    Frame(#[from] ConvertError),
    /// What was told could not be kept.
    #[error("keep what the controller said")]
    Ledger(#[from] LedgerError),
    /// A task of the session ended, which none should.
    #[error("keep a task of the session alive")]
    Task,
}

impl From<Stuck> for SessionError {
    fn from(_: Stuck) -> Self {
        Self::Stuck
    }
}

impl From<Status> for SessionEnd {
    fn from(status: Status) -> Self {
        let message = status.message().to_owned();
        match status.code() {
            Code::PermissionDenied | Code::Unauthenticated => Self::Refused { message },
            Code::FailedPrecondition => Self::Version { message },
            Code::Aborted => Self::Superseded,
            code => Self::Lost(SessionError::Call { code: format!("{code:?}"), message }),
        }
    }
}

impl<E: Into<SessionError>> From<E> for SessionEnd {
    fn from(error: E) -> Self {
        Self::Lost(error.into())
    }
}

/// Holds one session with `identity` to its end. May be dropped at any moment.
pub(super) async fn run(shared: &Arc<Shared>, identity: &Arc<Identity>) -> Ended {
    let (session, welcome) = match open(shared, identity).await {
        Ok(opened) => opened,
        Err(end) => return Ended { end, lived: None },
    };
    let (epoch, began) = (welcome.session_epoch, Instant::now());
    let span = tracing::info_span!("session", node.id = %identity.node_id(), session.epoch = epoch);
    let end = Box::pin(session.hold(welcome)).instrument(span).await.unwrap_or_else(|end| end);
    Ended { end, lived: Some(began.elapsed()) }
}

/// A session that the controller has welcomed.
struct Session<'a> {
    shared: &'a Arc<Shared>,
    identity: &'a Arc<Identity>,
    inbound: Streaming<ControllerFrame>,
    outbound: Outbound,
    /// What `Hello` said.
    told: domain::node::NodeFacts,
    address: Option<String>,
    /// Ends with the session; so does each task in it.
    tasks: JoinSet<()>,
    streams: JoinSet<()>,
    acknowledged: watch::Sender<u64>,
    /// Since when the complete set is overdue, if it is.
    wanted: Option<Instant>,
    /// When to ask for the complete set again, because what came could not be kept.
    ask_again: Option<Instant>,
    unkept: Backoff,
}

async fn open<'a>(
    shared: &'a Arc<Shared>,
    identity: &'a Arc<Identity>,
) -> Result<(Session<'a>, Welcome), SessionEnd> {
    let channel = connect(identity.controller(), Trust::Mutual(identity)).await?;
    let address = match &shared.address {
        Some(address) => Some(address.clone()),
        None => local_address(identity.controller()).await,
    };
    let told = facts::with_address(shared.engine.facts.borrow().clone(), address.as_deref());
    let (outbound, frames) = Outbound::new();
    outbound.urgent(Up::Hello(Hello {
        protocol_version: PROTOCOL_VERSION,
        facts: Some((&told).into()),
        boot_id: shared.boot_id.clone(),
        report_stream_id: shared.ledger.report_stream_id().to_string(),
        assignment_revision: *shared.ledger.assignments_changed().borrow(),
    }))?;
    let handshake = async {
        let mut client = AgentServiceClient::new(channel).max_decoding_message_size(FRAME_MAX_BYTES);
        let mut inbound = client.session(frames).await?.into_inner();
        match inbound.message().await?.and_then(|frame| frame.frame) {
            Some(Down::Welcome(welcome)) => Ok((inbound, welcome)),
            Some(_) => Err(SessionError::Protocol("the first frame is not a welcome").into()),
            None => Err(SessionEnd::from(SessionError::Closed)),
        }
    };
    let limit = shared.timing.handshake;
    let (inbound, welcome) = timeout(limit, handshake).await.map_err(|_| SessionError::Silent(limit))??;
    let session = Session {
        shared,
        identity,
        inbound,
        outbound,
        told,
        address,
        tasks: JoinSet::new(),
        streams: JoinSet::new(),
        acknowledged: watch::Sender::new(welcome.acknowledged_seq),
        wanted: Some(Instant::now()),
        ask_again: None,
        unkept: Backoff::new(shared.timing.unkept.0, shared.timing.unkept.1),
    };
    Ok((session, welcome))
}

impl Session<'_> {
    /// Takes part until something ends it; that is never an error of ours alone,
    /// so both sides of the result are ends.
    async fn hold(mut self, welcome: Welcome) -> Result<SessionEnd, SessionEnd> {
        let settings = Periods::read(welcome.settings)?;
        self.start_tasks(settings);
        self.shared.state.send_replace(LinkState::Up { session_epoch: welcome.session_epoch });
        tracing::info!(controller = self.identity.controller(), "session with the controller");
        self.resume(welcome.acknowledged_seq).await?;

        let silence = self.shared.timing.silence;
        let mut identities = self.shared.identity.clone();
        let mut heard = Instant::now();
        loop {
            let deadline = self.wanted.map_or(heard, |since| since.min(heard)) + silence;
            // Cancel-safe: `message` keeps what it has read so far in the stream, and
            // the others only wait.
            let frame = tokio::select! {
                biased;
                frame = self.inbound.message() => frame?.ok_or(SessionError::Closed)?,
                () = replaced(&mut identities, self.identity) => return Ok(SessionEnd::Renewed),
                Some(_) = self.tasks.join_next() => return Err(self.verdict().await),
                Some(_) = self.streams.join_next() => continue,
                () = sleep_until(deadline) => return Err(SessionError::Silent(silence).into()),
                () = maybe_until(self.ask_again) => {
                    self.ask_again = None;
                    self.want_complete_set()?;
                    continue;
                }
            };
            if let Some(end) = self.take(frame).await? {
                return Ok(end);
            }
            heard = Instant::now();
        }
    }

    /// Why a task ended: the stream did, and says why, or it was a fault of ours.
    async fn verdict(&mut self) -> SessionEnd {
        match timeout(VERDICT_LIMIT, self.inbound.message()).await {
            Ok(Err(status)) => status.into(),
            Ok(Ok(None)) => SessionError::Closed.into(),
            Ok(Ok(Some(_))) | Err(_) => SessionError::Task.into(),
        }
    }

    fn start_tasks(&mut self, periods: Periods) {
        let Shared { ledger, engine, samples, dossiers, .. } = self.shared.as_ref();
        self.shared.sample_period.send_if_modified(|period| {
            let other = *period != periods.metrics;
            *period = periods.metrics;
            other
        });
        let beat = heartbeat::run(
            periods.heartbeat,
            engine.state.clone(),
            ledger.assignments_changed(),
            self.shared.lease.clone(),
            self.outbound.clone(),
        );
        self.tasks.spawn(beat.in_current_span());
        let report = reporter::run(ledger.clone(), self.acknowledged.subscribe(), self.outbound.clone());
        self.tasks.spawn(report.in_current_span());
        let tell =
            facts::run(engine.facts.clone(), self.address.clone(), self.told.clone(), self.outbound.clone());
        self.tasks.spawn(tell.in_current_span());
        let push = metrics::run(samples.clone(), Arc::clone(self.identity));
        self.tasks.spawn(push.in_current_span());
        let push = dossiers::run(dossiers.clone(), Arc::clone(self.identity));
        self.tasks.spawn(push.in_current_span());
        let pulls = pulls::run(self.shared.pulls.clone(), self.outbound.clone());
        self.tasks.spawn(pulls.in_current_span());
    }

    /// Acts on one frame. Whatever the frame changes is durable on return.
    async fn take(&mut self, frame: ControllerFrame) -> Result<Option<SessionEnd>, SessionEnd> {
        match frame.frame {
            Some(Down::CompleteAssignments(set)) => {
                let set = AssignmentSet::try_from(set)?;
                let (revision, count) = (set.revision, set.assignments.len());
                let kept = self.shared.ledger.assignments_replace(set).await;
                self.wanted = None;
                let Some(applied) = self.kept(kept)? else { return Ok(None) };
                self.unkept.reset();
                tracing::debug!(revision, count, ?applied, "complete assignments");
            }
            Some(Down::AssignmentDelta(delta)) => {
                let delta = AssignmentDelta::try_from(delta)?;
                let revision = delta.revision;
                let kept = self.shared.ledger.assignments_apply(delta).await;
                let Some(applied) = self.kept(kept)? else { return Ok(None) };
                tracing::debug!(revision, ?applied, "changed assignments");
                if applied == Applied::Gap && self.wanted.is_none() && self.ask_again.is_none() {
                    self.want_complete_set()?;
                }
            }
            Some(Down::ReportsAcknowledged(acknowledged)) => self.acknowledge(acknowledged.seq).await?,
            Some(Down::OpenStream(open)) => self.open_stream(open)?,
            Some(Down::Draining(_)) => return Ok(Some(SessionEnd::Draining)),
            Some(Down::Welcome(_)) => {
                return Err(SessionError::Protocol("a second welcome in one session").into());
            }
            // Before the complete set came, nobody knows here what was put elsewhere while
            // this node was not heard of: what a lease ended must not begin again (I6).
            Some(Down::HeartbeatAnswer(_)) if self.wanted.is_some() => {}
            Some(Down::HeartbeatAnswer(answer)) => match answer.stamp {
                Some(sent) => self.shared.lease.renew_as_of(Duration::from_millis(sent)),
                None => self.shared.lease.renew(),
            },
            // A frame of a later version is none of ours.
            None => {}
        }
        Ok(None)
    }

    /// Takes note of what the controller has, as the session begins: that may be less
    /// than it had before, or more than this ledger knows.
    async fn resume(&mut self, seq: u64) -> Result<(), SessionEnd> {
        let last = *self.shared.ledger.reports_changed().borrow();
        if seq > last {
            tracing::warn!(
                acknowledged = seq,
                last,
                "the controller has reports that this ledger has lost; those that wait are numbered anew"
            );
        }
        let before = self.shared.ledger.acknowledged();
        match self.shared.ledger.resume(seq).await {
            // Only that they need not be sent is forgotten, and twice does no harm (I4).
            Err(LedgerError::Io { .. }) if (before..=last).contains(&seq) => Ok(()),
            resumed => Ok(resumed?),
        }
    }

    fn want_complete_set(&mut self) -> Result<(), SessionEnd> {
        self.wanted = Some(Instant::now());
        self.outbound.urgent(Up::AssignmentsWanted(AssignmentsWanted {}))?;
        Ok(())
    }

    /// What became of assignments; `None` where they could not be kept and were not
    /// taken over. A disk that is full is no reason to be called unreachable: the
    /// session goes on, and what could not be kept is asked for again.
    fn kept(&mut self, kept: Result<Applied, LedgerError>) -> Result<Option<Applied>, SessionEnd> {
        match kept {
            Err(LedgerError::Io { .. }) => {
                let wait = self.unkept.next_delay();
                tracing::debug!(retry_in = ?wait, "assignments could not be kept, so nothing acts on them");
                self.ask_again = Some(Instant::now() + wait);
                Ok(None)
            }
            kept => Ok(Some(kept?)),
        }
    }

    async fn acknowledge(&mut self, seq: u64) -> Result<(), SessionEnd> {
        match self.shared.ledger.acknowledge(seq).await {
            // As in `resume`. The ledger has told the log.
            Err(LedgerError::Io { .. }) if seq <= *self.shared.ledger.reports_changed().borrow() => {}
            acknowledged => acknowledged?,
        }
        self.acknowledged.send_if_modified(|held| {
            let more = seq > *held;
            *held = seq.max(*held);
            more
        });
        Ok(())
    }

    fn open_stream(&mut self, open: protocol::proto::OpenStream) -> Result<(), SessionEnd> {
        let stream_id = open.stream_id.clone();
        let prepared = if self.streams.len() >= streams::STREAMS_MAX {
            Err(format!("{} streams are open on this node already", streams::STREAMS_MAX))
        } else {
            streams::prepare(self.shared, self.identity, open)
        };
        match prepared {
            Ok(stream) => drop(self.streams.spawn(stream.in_current_span())),
            Err(message) => {
                tracing::debug!(stream = stream_id, message, "stream refused");
                self.outbound.urgent(Up::StreamRefused(StreamRefused { stream_id, message }))?;
            }
        }
        Ok(())
    }
}

/// Waits until there is another identity than the one in use.
async fn replaced(identities: &mut watch::Receiver<Arc<Identity>>, used: &Arc<Identity>) {
    if identities.wait_for(|now| !Arc::ptr_eq(now, used)).await.is_err() {
        std::future::pending().await
    }
}

async fn maybe_until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// What `Settings` says, within bounds.
struct Periods {
    heartbeat: Duration,
    metrics: Duration,
}

impl Periods {
    fn read(settings: Option<Settings>) -> Result<Self, ConvertError> {
        let settings = convert::required("settings", settings)?;
        let heartbeat = convert::duration("settings.heartbeat_period", settings.heartbeat_period)?;
        let metrics = convert::duration("settings.metrics_period", settings.metrics_period)?;
        Ok(Self { heartbeat, metrics: metrics.clamp(METRICS_PERIOD.0, METRICS_PERIOD.1) })
    }
}

/// What a stream's task is.
pub(super) type StreamTask = Pin<Box<dyn Future<Output = ()> + Send>>;
