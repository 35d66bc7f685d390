//! Commands in the containers of the engine in memory.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use domain::plan::ContainerStatus;
use tokio::time::sleep;

use super::{Call, FakeRuntime, state::not_found};
use crate::runtime::{Executed, RuntimeError};

/// What commands do, and which of them still run.
#[derive(Default)]
pub(super) struct Execs {
    /// By the words of the command. One that is not here ends with 0 at once.
    answers: BTreeMap<Vec<String>, (Option<i32>, Bytes)>,
    running: BTreeSet<String>,
    last: u32,
}

/// Remote control.
impl FakeRuntime {
    /// Sets what a command does: writes `output`, and ends with `exit_code`, or with
    /// `None` not until [`FakeRuntime::end_commands`].
    pub fn set_command(&self, command: &[&str], exit_code: Option<i32>, output: &str) {
        let command = command.iter().map(|word| (*word).to_owned()).collect();
        let answer = (exit_code, Bytes::copy_from_slice(output.as_bytes()));
        self.state().execs.answers.insert(command, answer);
    }

    /// Ends all commands that have not ended.
    pub fn end_commands(&self) {
        self.state().execs.running.clear();
    }

    pub(super) async fn execute(
        &self,
        container_id: &str,
        command: &[String],
        deadline: Duration,
    ) -> Result<Executed, RuntimeError> {
        let owner = self.state().owner(container_id);
        let begun = self.answer(Call::Exec, owner, |state| {
            let container = owner.and_then(|owner| state.containers.get(&owner)).ok_or_else(not_found)?;
            if container.status != ContainerStatus::Running {
                return Err(not_found());
            }
            let execs = &mut state.execs;
            execs.last += 1;
            let exec_id = format!("exec-{}", execs.last);
            let (exit_code, output) = execs.answers.get(command).cloned().unwrap_or((Some(0), Bytes::new()));
            if exit_code.is_none() {
                execs.running.insert(exec_id.clone());
            }
            Ok(Executed { exec_id, exit_code, output })
        });
        let executed = begun.await?;
        if executed.exit_code.is_none() {
            sleep(deadline).await;
        }
        Ok(executed)
    }

    pub(super) async fn command_runs(&self, exec_id: &str) -> Result<bool, RuntimeError> {
        self.answer(Call::ExecIsRunning, None, |state| Ok(state.execs.running.contains(exec_id))).await
    }
}
