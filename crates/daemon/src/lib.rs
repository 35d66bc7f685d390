//! What any long-running process needs, and nothing of what this one is for.
//!
//! | room | what it is for |
//! |---|---|
//! | [`config`] | settings from a file and the environment, with errors that name the key |
//! | [`logging`] | log lines for people on a terminal, JSON for everything else |
//! | [`supervise`] | background work that has an owner, a name and an end |
//! | [`shutdown`] | the first signal asks, the second one insists |
//! | [`backoff`] | growing, jittered waits between attempts |
//! | [`seal`] | AES-256-GCM for what must not lie about in clear |
//! | [`files`] | files that are either the old or the new content, never half |
//! | [`notify`] | what a service manager is told |
//! | [`exit`] | what the exit codes mean |

pub mod backoff;
pub mod config;
pub mod exit;
pub mod files;
pub mod logging;
pub mod notify;
pub mod seal;
pub mod shutdown;
pub mod supervise;

pub use backoff::Backoff;
pub use supervise::{BackgroundTask, Supervisor};
