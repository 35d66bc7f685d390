//! The per-host daemon of Automator67.
//!
//! It holds its node's share of the desired state on disk, keeps the containers in
//! it alive by itself, and tells its controller what happened. With the controller
//! away it goes on; with the engine away it waits and forgets nothing.
//!
//! ```text
//! controller ── link ──► ledger ──► reconcile ──► runtime ──► Docker
//!      ▲                   │            │
//!      └──── reports ◄─────┴────────────┘        (decided by domain::plan)
//! ```
//!
//! | room | what it is for |
//! |---|---|
//! | [`cli`], [`config`] | what is told from outside |
//! | [`agent`] | order of start and stop |
//! | [`identity`] | who this node is |
//! | [`link`] | the conversation with the controller; the only user of gRPC |
//! | [`ledger`] | what must not be forgotten |
//! | [`reconcile`] | makes what runs here what is wanted here |
//! | [`pull`] | fetches images, each once at a time |
//! | [`secrets`] | what containers are given of the vault |
//! | [`runtime`] | the container engine; the only user of Docker's API |
//! | [`probe`] | asks a container whether it works |
//! | [`death`] | attempts that ended without having been asked to |
//! | [`dossier`] | what is kept of them |
//! | [`lease`] | how long ago the controller gave a word |
//! | [`sample`] | what containers use |
//! | [`logs`] | what containers write |
//! | [`facts`] | what this host is |
//! | [`storage`] | what containers write beside their volumes |
//! | [`housekeeping`] | takes away what nobody needs any more |
//! | [`status`] | how the agent stands, for who asks at the host |
//! | [`doctor`] | what is wrong, and what to do about it |

pub mod agent;
#[cfg(test)]
mod chaos;
pub mod cli;
pub mod config;
pub mod death;
pub mod doctor;
pub mod dossier;
pub mod facts;
pub mod housekeeping;
pub mod identity;
pub mod lease;
pub mod ledger;
pub mod link;
pub mod logs;
mod names;
pub mod probe;
pub mod pull;
pub mod reconcile;
pub mod runtime;
pub mod sample;
pub mod secrets;
pub mod status;
pub mod storage;

pub use cli::run;
