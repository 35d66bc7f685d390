//! The per-host daemon of Automator67.

use std::process::ExitCode;

fn main() -> ExitCode {
    node_agent::run()
}
