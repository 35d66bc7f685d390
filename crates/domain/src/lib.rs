//! What the words of Automator67 mean, and every decision as a pure function.
//!
//! Nothing here does I/O, reads a clock or makes a random number: time and ids
//! come in as arguments. So each decision can be tested by itself, replayed, and
//! shared by the two daemons without either having to trust the other's timing.
//!
//! | room | what it decides or describes |
//! |---|---|
//! | [`id`] | typed ids |
//! | [`name`] | names and labels that people choose |
//! | [`deployment`] | what a user declares, and whether it is acceptable |
//! | [`spec`] | the container of one copy, and what a node refuses of it |
//! | [`instance`] | the life of one placement, and how reports merge |
//! | [`assignment`] | what a node is told, complete or as a delta |
//! | [`credential`] | what may be in the vault, and which part of it a use gets |
//! | [`disconnect`] | what becomes of the copies on a node that is not heard of |
//! | [`dossier`] | what is kept of an attempt that ended |
//! | [`limit`] | how often something may be done |
//! | [`node`] | facts, capacity and state of a Docker host |
//! | [`node_health`] | how well a Docker host is, by its own figures |
//! | [`plan`] | what an agent does next about one instance |
//! | [`backoff`] | how long to wait before the next attempt |
//! | [`placement`] | which node takes an instance, and why not the others |
//! | [`orchestrate`] | which instances a deployment needs more or fewer of |
//! | [`operation`] | how far a user's mutation has come, and its verdict |
//! | [`overview`] | how a deployment as a whole stands |
//! | [`presence`] | whether a silent node is still there |
//! | [`probe`] | whether a container that runs also works |
//! | [`pull`] | how far the fetching of an image has come |
//! | [`secret`] | bytes that nobody may see |
//! | [`sample`] | measured use of resources, of containers and of hosts |
//! | [`update`] | how copies give way to those of a new revision |

pub mod assignment;
pub mod backoff;
pub mod credential;
pub mod deployment;
pub mod disconnect;
pub mod dossier;
pub mod housekeeping;
pub mod id;
pub mod instance;
pub mod limit;
pub mod name;
pub mod node;
pub mod node_health;
pub mod operation;
pub mod orchestrate;
pub mod overview;
pub mod placement;
pub mod plan;
pub mod presence;
pub mod probe;
pub mod pull;
pub mod sample;
pub mod secret;
pub mod spec;
pub mod update;

/// A moment, in UTC. Everything that crosses a process boundary uses it.
pub type Timestamp = chrono::DateTime<chrono::Utc>;
