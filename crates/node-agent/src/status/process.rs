//! A process that is told apart from a later one with the same number.

use std::{fs, io};

use serde::{Deserialize, Serialize};

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// A process id alone is no identity: the same number belongs to someone else
/// later. With its start time, and the boot that this time counts from, it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// When it began, in clock ticks since boot (field 22 of `/proc/PID/stat`).
    pub start_ticks: u64,
    /// Which boot.
    pub boot_id: String,
}

impl Process {
    /// This process. Blocks for a moment.
    ///
    /// # Errors
    /// Where `/proc` is not there.
    pub fn own() -> io::Result<Self> {
        let pid = std::process::id();
        let start_ticks =
            started(pid)?.ok_or_else(|| io::Error::other("/proc/PID/stat is not as it should be"))?;
        Ok(Self { pid, start_ticks, boot_id: boot_id()? })
    }

    /// Whether that very process still runs. One of another process namespace is
    /// not seen. Blocks for a moment.
    #[must_use]
    pub fn lives(&self) -> bool {
        boot_id().is_ok_and(|boot| boot == self.boot_id)
            && started(self.pid).ok().flatten() == Some(self.start_ticks)
    }
}

fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string(BOOT_ID)?.trim().to_owned())
}

fn started(pid: u32) -> io::Result<Option<u64>> {
    Ok(start_ticks(&fs::read_to_string(format!("/proc/{pid}/stat"))?))
}

/// The start time in a line of `/proc/PID/stat`; `None` of one that has ended and
/// only waits for its parent.
fn start_ticks(stat: &str) -> Option<u64> {
    // The second field is the program's name in brackets and may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    if matches!(fields.next()?, "Z" | "X" | "x") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_time_is_found_whatever_the_program_is_called() {
        let line = |name: &str, state: &str| {
            format!("42 ({name}) {state} 1 42 42 0 -1 4194304 100 0 0 0 5 3 0 0 20 0 4 0 987654 1000 200 1")
        };
        assert_eq!(start_ticks(&line("agent", "S")), Some(987_654));
        assert_eq!(start_ticks(&line(") S 1 (", "R")), Some(987_654));
        assert_eq!(start_ticks(&line("agent", "Z")), None);
        assert_eq!(start_ticks("42 (agent) S 1"), None);
        assert_eq!(start_ticks(""), None);
    }

    #[test]
    fn this_process_lives_and_another_with_its_number_does_not() {
        let own = Process::own().unwrap();
        assert!(own.lives());
        assert!(!Process { start_ticks: own.start_ticks + 1, ..own.clone() }.lives());
        assert!(!Process { boot_id: "another".into(), ..own }.lives());
    }

    #[test]
    fn a_process_that_has_ended_does_not_live() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let stat = fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
        let start_ticks = start_ticks(&stat).unwrap_or_default();
        let process = Process { pid: child.id(), start_ticks, boot_id: boot_id().unwrap() };
        child.wait().unwrap();
        assert!(!process.lives());
    }
}
