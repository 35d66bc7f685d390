//! The whole product on real Docker hosts. Each test has a testbed of its own,
//! one after the other.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on fails where it stands"
)]

mod away;
mod crash;
mod deploy;
mod disk;
mod engine;
mod enrol;
mod link;
mod outside;
mod proof;
mod requests;
mod rollout;
mod upgrade;
mod vault;
