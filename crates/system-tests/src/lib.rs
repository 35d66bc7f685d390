//! The harness of the tests that need more than one crate: the real programs, on
//! real Docker hosts, seen as a client and an operator see them.
//!
//! Nothing here knows the programs' insides. They are started as an operator
//! starts them, asked over REST, and what they do is checked at the engines.
//!
//! | module | what it is for |
//! |---|---|
//! | [`testbed`] | Docker hosts on this machine, one testbed at a time |
//! | [`docker`] | what a host's engine says, and what somebody else does there |
//! | [`process`] | programs under test: start, kill, wait, show the log of a failure |
//! | [`controller`], [`agent`] | the two daemons |
//! | [`fleet`] | all of it together |
//! | [`client`], [`views`], [`spec`], [`sse`] | the REST API |
//! | [`proxy`] | a link that can be held and cut |
//! | [`registry`] | one that wants a login |
//! | [`wait`] | waiting for a fact, with a deadline |
//! | [`scratch`] | directories that go away |

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test whose surroundings do not work should fail loudly"
)]

pub mod agent;
pub mod client;
pub mod controller;
pub mod docker;
pub mod fleet;
pub mod process;
pub mod proxy;
pub mod registry;
pub mod scratch;
pub mod spec;
pub mod sse;
pub mod testbed;
pub mod views;
pub mod wait;
