//! The controller's state in PostgreSQL: the only user of diesel.
//!
//! Methods of [`Store`] are named noun, verb, qualifier, and each is one use of
//! the database: a statement, or a transaction that is named, re-runnable and
//! short. The guard of a change is in its `WHERE`; what became of it is in the
//! result. A change that others must see notifies them in the same transaction
//! ([`wake`]); a notification only wakes, the truth is always read again.
//!
//! | room | tables |
//! |---|---|
//! | [`fleet`] | fleet, signing_keys |
//! | [`account`] | accounts |
//! | [`session`] | sessions, refresh_tokens |
//! | [`api_token`] | api_tokens |
//! | [`invite`] | invites |
//! | [`settings`] | settings |
//! | [`oauth`] | oauth_flows, oauth_codes |
//! | [`identity`] | identities |
//! | [`caller`] | whose a session or token is, and what that one sees |
//! | [`audit`] | audit_log |
//! | [`node`] | nodes, node_certificates, enrolment_tokens |
//! | [`project`] | projects, project_members |
//! | [`deployment`] | deployments, revisions |
//! | [`credential`] | credentials, credential_versions, credential_uses, sealing_epochs |
//! | [`instance`] | instances: requests, assignments, reports |
//! | [`dossier`] | instance_dossiers |
//! | [`orchestrate`] | the planning transaction |
//! | [`operation`] | operations, idempotency_keys |
//! | [`event`] | events |
//! | [`limit`] | rate_limits |
//! | [`retention`] | what is too old, in all of them |
//! | [`sample`] | instance_samples and its partitions |

pub mod account;
pub mod api_token;
pub mod audit;
pub mod caller;
pub mod credential;
pub mod deployment;
pub mod dossier;
mod error;
pub mod event;
pub mod fleet;
pub mod identity;
pub mod instance;
pub mod invite;
pub mod limit;
mod migrate;
pub mod node;
pub mod oauth;
pub mod operation;
pub mod orchestrate;
mod page;
mod pool;
pub mod project;
mod pull;
mod report;
pub mod retention;
pub mod sample;
mod schema;
pub mod session;
pub mod settings;
#[cfg(feature = "testing")]
pub mod testing;
mod text;
mod txn;
mod url;
pub mod wake;
mod watched;

pub use error::{Refusal, StoreError};
pub use page::{Cursor, InvalidCursor, Page};
pub use pool::{Store, StoreSettings};
