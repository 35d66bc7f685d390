//! The daemons as an operator meets them: started, stopped, killed, misconfigured.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on fails where it stands"
)]

mod agent;
mod database;
mod input;
mod life;
mod mistakes;
