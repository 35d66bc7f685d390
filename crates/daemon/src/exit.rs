//! What the exit codes mean, so that a script or a service manager can tell a
//! mistake of the operator from a failure.
//!
//! The numbers are those of `sysexits.h`. They are `u8` because that is what
//! [`std::process::ExitCode`] is made from.

/// Anything that has no code of its own.
pub const FAILURE: u8 = 1;

/// The command line makes no sense (`EX_USAGE`).
pub const USAGE: u8 = 64;

/// The configuration is missing or wrong; starting again will not help
/// (`EX_CONFIG`).
pub const CONFIGURATION: u8 = 78;
