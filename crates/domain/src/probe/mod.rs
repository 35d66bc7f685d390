//! Whether a container that runs also works.
//!
//! A [`ProbeSpec`] says how to find out and how often; an agent carries single
//! probes out; a [`ProbeState`] makes of their results a health, the time of the
//! next probe, and whether the container has to be restarted. [`Probes`] holds all
//! of one run, and merges them into one health. A new run of the container gets a
//! new one.
//!
//! Until the first success a probe comes after 1 s, then after 2 s, 4 s and so on
//! up to the interval, as long as the start period lasts, and failures do not count
//! in it: so a program that is ready early is found ready early, and one that takes
//! its time is left alone. From then on each failure counts.
//!
//! Time comes in as an argument and may jump. A clock that was set back makes the
//! next probe due at once and the start period no longer than it is, seen from now;
//! it never silences a probe until the clock has caught up.

mod merge;
mod spec;
mod state;
#[cfg(test)]
mod tests;
mod validate;

pub use merge::{Probes, merge};
pub use spec::{HttpCheck, HttpHeader, ProbeKind, ProbeRole, ProbeSpec, StatusRange};
pub use state::{MESSAGE_MAX_CHARS, ProbeResult, ProbeState, RESULTS_KEPT, Verdict};
pub use validate::{PROBES_MAX, faults};
