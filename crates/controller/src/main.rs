//! The control plane daemon of Automator67.

use std::process::ExitCode;

fn main() -> ExitCode {
    controller::run()
}
