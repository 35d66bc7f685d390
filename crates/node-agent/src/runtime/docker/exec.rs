//! Commands that run in a container.
//!
//! The engine runs one beside the container's own process and cannot be told to
//! end it again. So one that has not ended in time is left behind, and told of.

use std::time::Duration;

use bollard::{
    Docker,
    exec::{StartExecOptions, StartExecResults},
    models::{ExecConfig, ExecInspectResponse},
};
use bytes::{Bytes, BytesMut};
use domain::{
    instance::FailureReason,
    spec::policy::{Policy, refuse_exec},
};
use futures_util::StreamExt as _;
use tokio::time::{Instant, sleep, timeout_at};

use super::{LOOK, engine::Connection, failure::Failure};
use crate::runtime::{EXEC_OUTPUT_MAX, Executed, RuntimeError, RuntimeErrorKind};

/// What is read of a command's output at most. One that writes more is not waited
/// for: it may never end.
const READ_MAX: usize = 1024 * 1024;
/// Between looks whether a command has ended that has closed its output.
const END_LOOK: Duration = Duration::from_millis(50);

/// Runs a command, unless this node refuses to, and waits for its end until
/// `deadline` has passed.
pub(super) async fn run(
    connection: &Connection,
    policy: &Policy,
    container_id: &str,
    command: &[String],
    deadline: Duration,
) -> Result<Executed, RuntimeError> {
    if let Some(refusal) = refuse_exec(policy) {
        return Err(RuntimeError::refused(FailureReason::SpecRefused, refusal.to_string()));
    }
    let until = Instant::now() + deadline;
    let exec_id = timeout_at(until, create(connection, container_id, command)).await.map_err(silent)??;
    let start = async |docker: Docker| {
        let options = StartExecOptions { detach: false, tty: false, output_capacity: None };
        docker.start_exec(&exec_id, Some(options)).await
    };
    let started = timeout_at(until, connection.make(LOOK, start)).await.map_err(silent)?;
    let mut output = BytesMut::new();
    let end = match started.map_err(|failure| failure.or_refused(FailureReason::StartFailed))? {
        StartExecResults::Attached { output: stream, input: _input } => {
            timeout_at(until, follow(connection, &exec_id, stream, &mut output)).await
        }
        StartExecResults::Detached => Ok(Ok(None)),
    };
    let exit_code = match end {
        Ok(end) => end?,
        Err(_) => None,
    };
    Ok(Executed { exec_id, exit_code, output: output.freeze() })
}

/// Whether a command still runs. One that the engine does not know any more does
/// not: it forgets those of containers that ended.
pub(super) async fn is_running(connection: &Connection, exec_id: &str) -> Result<bool, RuntimeError> {
    match inspect(connection, exec_id).await {
        Ok(found) => Ok(found.running.unwrap_or(false)),
        Err(error) if error.kind == RuntimeErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

async fn create(
    connection: &Connection,
    container_id: &str,
    command: &[String],
) -> Result<String, RuntimeError> {
    let config = ExecConfig {
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        cmd: Some(command.to_vec()),
        ..ExecConfig::default()
    };
    let create = async |docker: Docker| docker.create_exec(container_id, config).await;
    match connection.make(LOOK, create).await {
        Ok(created) => Ok(created.id),
        // Not running, or paused.
        Err(Failure::Answered { status: 409, message }) => {
            Err(RuntimeError::new(RuntimeErrorKind::NotFound, super::trimmed(&message)))
        }
        Err(failure) => Err(failure.or_refused(FailureReason::StartFailed)),
    }
}

/// Reads the output to its end, and asks how the command ended. `None` where it
/// writes too much to be waited for.
async fn follow(
    connection: &Connection,
    exec_id: &str,
    mut stream: impl futures_util::Stream<Item = Result<bollard::container::LogOutput, bollard::errors::Error>>
    + Unpin,
    output: &mut BytesMut,
) -> Result<Option<i32>, RuntimeError> {
    let mut read = 0;
    while let Some(piece) = stream.next().await {
        let bytes: Bytes = piece.map_err(|error| Failure::of(&error).unexpected())?.into_bytes();
        read += bytes.len();
        let room = EXEC_OUTPUT_MAX.saturating_sub(output.len()).min(bytes.len());
        output.extend_from_slice(bytes.get(..room).unwrap_or_default());
        if read > READ_MAX {
            return Ok(None);
        }
    }
    loop {
        let found = inspect(connection, exec_id).await?;
        if let (Some(false), Some(code)) = (found.running, found.exit_code) {
            return Ok(Some(i32::try_from(code).unwrap_or(i32::MAX)));
        }
        sleep(END_LOOK).await;
    }
}

async fn inspect(connection: &Connection, exec_id: &str) -> Result<ExecInspectResponse, RuntimeError> {
    let look = async |docker: Docker| docker.inspect_exec(exec_id).await;
    connection.make(LOOK, look).await.map_err(Failure::unexpected)
}

fn silent<E>(_: E) -> RuntimeError {
    RuntimeError::new(RuntimeErrorKind::Timeout, "the engine did not begin the command in time")
}
