//! How a container is asked to end, and whether it is started again.

use serde::{Deserialize, Serialize};

use super::fault::Faults;

/// Signals of Linux that can be asked for by name, in the order of their numbers.
const SIGNALS: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
    "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
    "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// When a container that ended is started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "when")]
pub enum RestartPolicy {
    /// Whatever its exit code.
    #[default]
    Always,
    /// When it failed, at most `max_retries` times in a row (`None`: without end).
    OnFailure {
        /// Failures in a row after which it stays down.
        max_retries: Option<u32>,
    },
    /// Never.
    Never,
}

/// Whether an engine knows a signal by this text: `SIGTERM`, `SIGRTMIN+3`, `15`.
#[must_use]
pub fn is_signal(text: &str) -> bool {
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return text.parse::<u8>().is_ok_and(|number| (1..=64).contains(&number));
    }
    let Some(name) = text.strip_prefix("SIG") else { return false };
    let real_time = |rest: &str, sign: char, most: u8| {
        rest.is_empty()
            || rest.strip_prefix(sign).is_some_and(|n| {
                !n.starts_with(['+', '0']) && n.parse::<u8>().is_ok_and(|n| (1..=most).contains(&n))
            })
    };
    SIGNALS.contains(&name)
        || name.strip_prefix("RTMIN").is_some_and(|rest| real_time(rest, '+', 15))
        || name.strip_prefix("RTMAX").is_some_and(|rest| real_time(rest, '-', 14))
}

/// A signal as people know it, by its number on Linux for x86-64 and ARM.
#[must_use]
pub fn signal_name(number: i32) -> Option<String> {
    let place = usize::try_from(number).ok()?.checked_sub(1)?;
    SIGNALS.get(place).map(|name| format!("SIG{name}"))
}

pub(super) fn stop_faults(signal: Option<&str>, grace_seconds: u32, faults: &mut Faults) {
    faults.unless(
        signal.is_none_or(is_signal),
        "stop_signal",
        "must be a signal such as SIGTERM or SIGRTMIN+3, or its number, 1 to 64",
    );
    faults.range("stop_grace_seconds", &grace_seconds, 0, 3600);
}
