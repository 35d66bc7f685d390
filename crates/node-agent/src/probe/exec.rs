//! Whether a command in the container ends well.

use std::time::Duration;

use domain::instance::FailureReason;
use tokio::time::timeout;

use super::{Answer, Fault, seconds};
use crate::runtime::{Executed, Runtime, RuntimeError, RuntimeErrorKind};

/// What the engine may take beyond the command's own time.
const SLACK: Duration = Duration::from_secs(5);

/// Runs a command, unless the one before still runs.
pub(super) async fn ask(
    runtime: &dyn Runtime,
    container_id: &str,
    command: &[String],
    limit: Duration,
    left_running: &mut Option<String>,
) -> Answer {
    if let Some(exec_id) = left_running.as_deref() {
        if engine(limit, runtime.exec_is_running(exec_id)).await? {
            return Err(Fault::Failed("the command of an earlier probe has not ended yet".to_owned()));
        }
        *left_running = None;
    }
    let Executed { exec_id, exit_code, output } =
        engine(limit + SLACK, runtime.exec(container_id, command, limit)).await?;
    let output = String::from_utf8_lossy(&output);
    let said = match output.trim() {
        "" => String::new(),
        output => format!(": {output}"),
    };
    match exit_code {
        Some(0) => Ok(format!("exit code 0{said}")),
        Some(code) => Err(Fault::Failed(format!("exit code {code}{said}"))),
        None => {
            *left_running = Some(exec_id);
            Err(Fault::Failed(format!("the command does not end {}{said}", seconds(limit))))
        }
    }
}

/// Bounds an engine's answer, and tells what it refuses from what it does not know.
async fn engine<T>(
    limit: Duration,
    answer: impl Future<Output = Result<T, RuntimeError>>,
) -> Result<T, Fault> {
    let answer = timeout(limit, answer).await;
    answer.map_err(|_| Fault::Unasked("the engine does not answer".to_owned()))?.map_err(|error| {
        match error.kind {
            // This node runs no commands, which is not the container's fault.
            RuntimeErrorKind::Refused(FailureReason::SpecRefused)
            | RuntimeErrorKind::Unreachable
            | RuntimeErrorKind::Timeout
            | RuntimeErrorKind::NotFound
            | RuntimeErrorKind::HeldUp => Fault::Unasked(error.message),
            // The command is not there, or cannot be run.
            RuntimeErrorKind::Refused(_) => Fault::Failed(error.message),
        }
    })
}
