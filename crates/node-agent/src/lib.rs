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
//! | [`runtime`] | the container engine; the only user of Docker's API |
//! | [`sample`] | what containers use |
//! | [`logs`] | what containers write |
//! | [`facts`] | what this host is |

pub mod agent;
pub mod cli;
pub mod config;
pub mod facts;
pub mod identity;
pub mod ledger;
pub mod link;
pub mod logs;
pub mod reconcile;
pub mod runtime;
pub mod sample;

pub use cli::run;
