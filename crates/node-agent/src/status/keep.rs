//! Writes how the agent stands.

use std::{io, path::PathBuf, time::Duration};

use chrono::Utc;
use daemon::Supervisor;
use domain::{Timestamp, node::EngineState, spec::InstanceSpec};
use tokio::{sync::watch, task::spawn_blocking, time::sleep};

use super::{LastError, Process, Session, Snapshot, write};
use crate::{
    ledger::Ledger,
    link::{LinkNews, LinkState},
    sample::SampleBuffer,
    secrets::judge_dir,
};

/// Between two files. What the link does is written at once.
pub(super) const PERIOD: Duration = Duration::from_secs(5);
/// Between two files at the least, however much the link does.
const PAUSE: Duration = Duration::from_millis(500);

/// Where it is seen from.
pub(crate) struct Sources {
    /// Where the file goes.
    pub(crate) data_dir: PathBuf,
    /// Assignments and reports.
    pub(crate) ledger: Ledger,
    /// Readings.
    pub(crate) samples: SampleBuffer,
    /// Whether the engine answers.
    pub(crate) engine: watch::Receiver<EngineState>,
    /// How the link stands.
    pub(crate) link: LinkNews,
    /// Where files with secrets are put.
    pub(crate) secrets_dir: PathBuf,
}

/// Keeps the file up to date until `supervisor` ends. A directory that cannot be
/// written is logged once, and tried again.
pub(crate) fn keep(supervisor: &Supervisor, sources: Sources) {
    let stop = supervisor.stop_token();
    drop(supervisor.spawn("status", async move {
        // Cancel-safe: a file is there whole or not at all.
        tokio::select! {
            () = stop.cancelled() => {}
            () = run(sources) => {}
        }
    }));
}

async fn run(mut sources: Sources) {
    let process = match spawn_blocking(Process::own).await {
        Ok(Ok(process)) => process,
        Ok(Err(error)) => {
            tracing::warn!(%error, "no status is written: this process does not find itself");
            return;
        }
        Err(_) => return,
    };
    let started_at = Utc::now();
    let mut since = (*sources.link.state.borrow_and_update(), started_at);
    let mut failed = false;
    loop {
        let snapshot = sources.look(&process, started_at, since);
        let data_dir = sources.data_dir.clone();
        let written = spawn_blocking(move || write(&data_dir, &snapshot))
            .await
            .unwrap_or_else(|gone| Err(io::Error::other(gone)));
        match &written {
            Err(error) if !failed => tracing::warn!(%error, "the status could not be written"),
            _ => {}
        }
        failed = written.is_err();
        sleep(PAUSE).await;
        // Cancel-safe: the state is read anew each time.
        tokio::select! {
            () = sleep(PERIOD.saturating_sub(PAUSE)) => {}
            Ok(()) = sources.link.state.changed() => {}
        }
        let state = *sources.link.state.borrow_and_update();
        if state != since.0 {
            since = (state, Utc::now());
        }
    }
}

impl Sources {
    /// How many instances are given secrets, and whether some are given files.
    fn secrets(&self) -> (usize, bool) {
        let wanted = self.ledger.assignments();
        let specs = || wanted.assignments.values().map(|assignment| &assignment.spec);
        (specs().filter(|spec| !spec.secrets.is_empty()).count(), specs().any(InstanceSpec::has_secret_files))
    }

    fn look(&self, process: &Process, started_at: Timestamp, since: (LinkState, Timestamp)) -> Snapshot {
        let (revision, phases) = self.ledger.phases();
        let (state, since) = since;
        let trouble = self.link.trouble.borrow().clone();
        let readings = self.samples.status();
        let (secrets, files) = self.secrets();
        let secrets_trouble = judge_dir(&self.secrets_dir).err().filter(|_| files);
        Snapshot {
            written_at: Utc::now(),
            process: process.clone(),
            started_at,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            engine: *self.engine.borrow(),
            session: match state {
                LinkState::Up { session_epoch } => Session::Up { epoch: session_epoch, since },
                LinkState::Away => Session::Away { since },
                LinkState::Refused => Session::Refused { since },
            },
            last_error: trouble.map(|trouble| LastError { at: trouble.at, reason: trouble.reason }),
            revision,
            complete_received: self.ledger.complete_received(),
            phases,
            reports_waiting: self.ledger.reports_waiting(),
            reports_dropped: self.ledger.reports_dropped(),
            ledger_trouble: self.ledger.trouble().borrow().clone(),
            readings_waiting: readings.waiting,
            readings_on_disk: readings.on_disk,
            readings_dropped: readings.dropped,
            readings_trouble: readings.trouble,
            secrets,
            secrets_trouble,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{path::Path, time::Instant};

    use domain::{
        assignment::{Assignment, AssignmentSet},
        deployment::InstanceSpec,
        id::{DeploymentId, InstanceId},
        instance::{Desired, Phase},
    };
    use tokio::runtime::Handle;
    use uuid::Uuid;

    use super::*;
    use crate::{ledger::testing::FaultyDisk, link::Trouble, status::read};

    async fn seen(dir: &Path, wanted: impl Fn(&Snapshot) -> bool) -> Snapshot {
        let begun = Instant::now();
        loop {
            if let Some(snapshot) = read(dir).unwrap().filter(|snapshot| wanted(snapshot)) {
                return snapshot;
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "waited in vain for the status");
            sleep(Duration::from_millis(5)).await;
        }
    }

    fn assigned(id: InstanceId) -> AssignmentSet {
        let assignment = Assignment {
            instance_id: id,
            deployment_id: DeploymentId::from_uuid(Uuid::nil()),
            deployment_name: "web".into(),
            revision: 1,
            spec: InstanceSpec::of_image("app:1"),
            desired: Desired::Running,
            restart_generation: 0,
            registry_credential: None,
        };
        AssignmentSet { revision: 5, assignments: [(id, assignment)].into() }
    }

    #[tokio::test]
    async fn the_file_says_how_the_running_agent_stands() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = FaultyDisk::default().open(&dir.path().join("ledger")).unwrap();
        let _ = ledger.assignments_replace(assigned(InstanceId::from_uuid(Uuid::now_v7()))).await.unwrap();
        let (state, states) = watch::channel(LinkState::Away);
        let (trouble, troubles) = watch::channel(None);
        let (_engine, engine) = watch::channel(EngineState::Unreachable);
        let supervisor = Supervisor::new(Handle::current());
        keep(
            &supervisor,
            Sources {
                data_dir: dir.path().into(),
                ledger,
                samples: SampleBuffer::new(),
                engine,
                link: LinkNews { state: states, trouble: troubles },
                secrets_dir: "/dev/shm/a67".into(),
            },
        );
        let first = seen(dir.path(), |_| true).await;
        assert!(first.process.lives());
        assert_eq!(first.engine, EngineState::Unreachable);
        assert_eq!((first.revision, first.phases), (5, [(Phase::Assigned, 1)].into()));
        trouble.send_replace(Some(Trouble { at: Utc::now(), reason: "failed to connect".into() }));
        state.send_replace(LinkState::Up { session_epoch: 3 });
        let up = seen(dir.path(), |s| matches!(s.session, Session::Up { epoch: 3, .. })).await;
        assert_eq!(up.last_error.unwrap().reason, "failed to connect");
        assert!(supervisor.shut_down(Duration::from_secs(5)).await);
    }

    #[tokio::test]
    async fn a_directory_that_cannot_be_written_ends_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = FaultyDisk::default().open(&dir.path().join("ledger")).unwrap();
        let data_dir = dir.path().join("missing");
        let (state, states) = watch::channel(LinkState::Away);
        let (_trouble, troubles) = watch::channel(None);
        let (_engine, engine) = watch::channel(EngineState::Reachable);
        let supervisor = Supervisor::new(Handle::current());
        keep(
            &supervisor,
            Sources {
                data_dir: data_dir.clone(),
                ledger,
                samples: SampleBuffer::new(),
                engine,
                link: LinkNews { state: states, trouble: troubles },
                secrets_dir: "/dev/shm/a67".into(),
            },
        );
        state.send_replace(LinkState::Refused);
        std::fs::create_dir(&data_dir).unwrap();
        seen(&data_dir, |s| matches!(s.session, Session::Refused { .. })).await;
        assert!(supervisor.shut_down(Duration::from_secs(5)).await);
    }
}
