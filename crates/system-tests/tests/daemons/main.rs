//! The controller as an operator meets it: started, stopped, killed, misconfigured.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on fails where it stands"
)]

mod database;
mod input;
mod life;
mod mistakes;
