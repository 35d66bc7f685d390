//! What people are told.

use std::fmt::Write as _;

use chrono::TimeDelta;
use domain::{Timestamp, node::EngineState};

use super::{Session, Snapshot, keep::PERIOD};

/// A file older than this many periods is not being written any more.
const PERIODS_LATE: i32 = 4;

/// Who the node is, as its identity says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its controller's address.
    pub controller: String,
    /// When its certificate ends.
    pub certificate_ends_at: Timestamp,
}

/// Whether there is an agent behind a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Liveness {
    /// It runs, and writes.
    Runs,
    /// Its process is there, but has not written for too long.
    Silent,
    /// Its process is gone.
    Stopped,
}

/// Judges a status. `lives` says whether the process that wrote it still runs.
#[must_use]
pub fn liveness(snapshot: &Snapshot, lives: bool, now: Timestamp) -> Liveness {
    let late = TimeDelta::from_std(PERIOD).unwrap_or_default() * PERIODS_LATE;
    match lives {
        false => Liveness::Stopped,
        true if now - snapshot.written_at > late => Liveness::Silent,
        true => Liveness::Runs,
    }
}

/// Puts it into words, a line for each thing. Without a status no agent ever ran.
#[must_use]
pub fn show(node: &Node, status: Option<(&Snapshot, Liveness)>, now: Timestamp) -> String {
    let mut text = String::new();
    let mut line = |name: &str, what: String| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{name:<12} {what}");
    };
    line("node", format!("{} ({})", node.name, node.id));
    line("controller", node.controller.clone());
    line("certificate", certificate(node.certificate_ends_at, now));
    let Some((snapshot, liveness)) = status else {
        line("agent", "STOPPED: it has never run here".into());
        return text;
    };
    line("agent", agent(snapshot, liveness, now));
    match liveness {
        Liveness::Stopped => {
            line("session", "none, as there is no agent; what follows is how it was then".into())
        }
        Liveness::Runs | Liveness::Silent => line("session", session(&snapshot.session, now)),
    }
    if let Some(error) = &snapshot.last_error {
        line("last error", format!("{} ago: {}", span(now - error.at), error.reason));
    }
    line(
        "engine",
        match snapshot.engine {
            EngineState::Reachable => "answers".into(),
            EngineState::Unreachable => "DOES NOT ANSWER".into(),
        },
    );
    line("assignments", assignments(snapshot));
    line("reports", reports(snapshot));
    line("readings", readings(snapshot));
    line("secrets", secrets(snapshot));
    text
}

fn secrets(snapshot: &Snapshot) -> String {
    let text = format!("{} instances are given some", snapshot.secrets);
    match &snapshot.secrets_trouble {
        Some(trouble) => format!("{text}; CANNOT BE DELIVERED: {trouble}"),
        None => text,
    }
}

fn readings(snapshot: &Snapshot) -> String {
    let mut text = format!("{} not sent yet", snapshot.readings_waiting);
    // Writing to a string does not fail.
    if snapshot.readings_on_disk > 0 {
        let _ = write!(text, ", {} of them on disk", snapshot.readings_on_disk);
    }
    if snapshot.readings_dropped > 0 {
        let _ = write!(text, "; {} were dropped", snapshot.readings_dropped);
    }
    if let Some(trouble) = &snapshot.readings_trouble {
        let _ = write!(text, "; NOT KEPT ON DISK: {trouble}");
    }
    text
}

fn certificate(ends: Timestamp, now: Timestamp) -> String {
    if now < ends {
        format!("good until {}, for {}", moment(ends), span(ends - now))
    } else {
        format!("ENDED at {}, {} ago", moment(ends), span(now - ends))
    }
}

fn agent(snapshot: &Snapshot, liveness: Liveness, now: Timestamp) -> String {
    let Snapshot { process, version, .. } = snapshot;
    let age = span(now - snapshot.written_at);
    match liveness {
        Liveness::Runs => {
            let up = span(now - snapshot.started_at);
            format!("runs for {up} (process {}, version {version}); as of {age} ago", process.pid)
        }
        Liveness::Silent => {
            format!("SILENT: process {} is there, but has written nothing for {age}", process.pid)
        }
        Liveness::Stopped => format!("STOPPED: process {} is gone; last seen {age} ago", process.pid),
    }
}

fn session(session: &Session, now: Timestamp) -> String {
    match session {
        Session::Up { epoch, since } => {
            format!("number {epoch}, for {} (since {})", span(now - *since), moment(*since))
        }
        Session::Away { since } => {
            format!("NONE for {} (since {}); tried again and again", span(now - *since), moment(*since))
        }
        Session::Refused { since } => {
            format!("REFUSED for {} (since {}); an operator has to act", span(now - *since), moment(*since))
        }
    }
}

fn assignments(snapshot: &Snapshot) -> String {
    let phases: Vec<_> = snapshot.phases.iter().map(|(p, count)| format!("{count} {}", p.as_str())).collect();
    let total: usize = snapshot.phases.values().sum();
    let mut text = format!("revision {}, {total} instances", snapshot.revision);
    if !phases.is_empty() {
        let _ = write!(text, ": {}", phases.join(", "));
    }
    if !snapshot.complete_received {
        text.push_str("; from disk, not confirmed by the controller since the agent began");
    }
    text
}

fn reports(snapshot: &Snapshot) -> String {
    let mut text = format!("{} not sent yet", snapshot.reports_waiting);
    if snapshot.reports_dropped > 0 {
        let _ = write!(text, ", {} ever dropped for lack of room", snapshot.reports_dropped);
    }
    if let Some(trouble) = &snapshot.ledger_trouble {
        let _ = write!(text, "; WHAT HAPPENS NOW WAITS, AS IT CANNOT BE WRITTEN DOWN: {trouble}");
    }
    text
}

fn moment(at: Timestamp) -> String {
    at.format("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// A length of time in its largest unit that says enough. One below nothing, which
/// a clock that was set back makes, is nothing.
fn span(length: TimeDelta) -> String {
    let seconds = length.num_seconds().max(0);
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{
        LastError,
        testing::{at, snapshot},
    };

    fn node() -> Node {
        Node {
            id: "0190".into(),
            name: "web-1".into(),
            controller: "https://c.example:6701".into(),
            certificate_ends_at: at(60 * 86_400),
        }
    }

    #[test]
    fn an_agent_that_runs_is_told_in_full() {
        let snapshot = Snapshot {
            last_error: Some(LastError { at: at(-3700), reason: "failed to reach the controller".into() }),
            ..snapshot()
        };
        let text = show(&node(), Some((&snapshot, Liveness::Runs)), at(3));
        let wanted = "\
node         web-1 (0190)
controller   https://c.example:6701
certificate  good until 2027-03-16 08:00:00 UTC, for 59 days
agent        runs for 2 h (process 42, version 1.2.3); as of 3 s ago
session      number 9, for 60 min (since 2027-01-15 07:00:00 UTC)
last error   61 min ago: failed to reach the controller
engine       answers
assignments  revision 17, 5 instances: 1 pulling, 4 running
reports      3 not sent yet
readings     120 not sent yet, 100 of them on disk
secrets      2 instances are given some
";
        assert_eq!(text, wanted);
    }

    #[test]
    fn a_stopped_agent_has_no_session_whatever_the_file_says() {
        let text = show(&node(), Some((&snapshot(), Liveness::Stopped)), at(600));
        assert!(text.contains("agent        STOPPED: process 42 is gone; last seen 10 min ago"), "{text}");
        assert!(text.contains("session      none"), "{text}");
        assert!(!text.contains("number 9"), "{text}");
        assert!(show(&node(), None, at(0)).contains("STOPPED: it has never run here"));
    }

    #[test]
    fn an_agent_is_judged_by_its_process_first_and_by_the_files_age_then() {
        let judge = |lives, age| liveness(&snapshot(), lives, at(age));
        assert_eq!(judge(true, 0), Liveness::Runs);
        assert_eq!(judge(true, 20), Liveness::Runs);
        assert_eq!(judge(true, 21), Liveness::Silent);
        assert_eq!(judge(false, 1), Liveness::Stopped);
        // A clock that was set back.
        assert_eq!(judge(true, -500), Liveness::Runs);
    }

    #[test]
    fn trouble_is_in_capitals() {
        let snapshot = Snapshot {
            session: Session::Refused { since: at(-10) },
            engine: EngineState::Unreachable,
            complete_received: false,
            phases: Default::default(),
            reports_dropped: 2,
            ledger_trouble: Some("no space left on device".into()),
            ..snapshot()
        };
        let node = Node { certificate_ends_at: at(-86_400 * 3), ..node() };
        let text = show(&node, Some((&snapshot, Liveness::Silent)), at(60));
        for part in [
            "ENDED at",
            "SILENT",
            "REFUSED for 70 s",
            "DOES NOT ANSWER",
            "0 instances; from disk",
            "2 ever",
            "WRITTEN DOWN: no space left",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
