//! Credentials, as they lie in the database: sealed.
//!
//! The store knows no key. It hands values to a [`Sealer`], which the vault gives it at
//! the start ([`Store::seal_with`]), and that says with which key and bound to what a
//! value is sealed. So a value is in clear only in the memory of a transaction.
//!
//! A version never changes, but for the key that it is sealed with. Which revisions of
//! which deployments use which version is in `credential_uses`; a use is *live* while its
//! revision is the present one or has instances that are not gone.
//!
//! Locks: a credential's row is taken before the fleet's row and before its epoch's; who
//! uses a credential takes its row shared, so that it neither goes nor gets a new version
//! meanwhile.
//!
//! | room | what |
//! |---|---|
//! | `sealing` | which data key, and how much it has sealed |
//! | `change` | making, replacing, setting back, deleting |
//! | `query` | what reads them, never values |
//! | `uses` | who uses which version |
//! | `deliver` | opening, for an instance and for those who may see |
//! | [`rekey`] | moving everything to another master key |

mod change;
mod deliver;
mod query;
pub mod rekey;
mod sealing;
mod uses;

use std::{fmt, sync::Arc};

use diesel::prelude::*;
use domain::{
    Timestamp,
    credential::{CredentialKind, Form},
    id::{CredentialId, DeploymentId, ProjectId},
    name::Labels,
    secret::Secret,
};
use uuid::Uuid;

pub use change::{CredentialNew, Deleted, Replaced, ValueNew};
pub(crate) use deliver::LoginsOfNode;
pub use deliver::{InstanceSecrets, OpenedVersion};
pub use sealing::Sealed;
pub use uses::{CredentialUser, Follower, env_warning};
pub(crate) use uses::{env_warning_in_txn, secrets_resolve_in_txn, uses_insert_in_txn};

use crate::{
    Store, StoreError,
    schema::{credential_versions, credentials, projects},
};

/// What the data keys of credentials are called.
pub const PURPOSE: &str = "credential";

/// Where a sealed value belongs; it opens nowhere else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Whose credential it is of.
    pub project_id: ProjectId,
    /// Which credential.
    pub credential_id: CredentialId,
    /// Which version.
    pub version: u32,
}

impl fmt::Display for Place {
    /// What the cipher authenticates beside the key's own purpose.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PURPOSE} {} {} {}", self.credential_id, self.version, self.project_id)
    }
}

/// Why a value does not open or cannot be sealed; tells nothing of it.
pub type SealerError = Box<dyn std::error::Error + Send + Sync>;

/// Seals and opens values: the vault, which holds the keys. Called inside transactions,
/// so it must be quick and do nothing else.
pub trait Sealer: Send + Sync {
    /// How many values one data key may seal.
    fn epoch_bound(&self) -> i64;

    /// Seals with a data key of that master key.
    ///
    /// # Errors
    /// When the master key is not known here.
    fn seal(
        &self,
        master_key: &[u8],
        epoch: u32,
        place: Place,
        value: &Secret,
    ) -> Result<Vec<u8>, SealerError>;

    /// Opens what was sealed for that place.
    ///
    /// # Errors
    /// When it was changed, belongs elsewhere, or its key is not known here.
    fn open(&self, place: Place, sealed: &Sealed) -> Result<Secret, SealerError>;
}

impl Store {
    /// Says who seals and opens credentials, once; a second time changes nothing.
    pub fn seal_with(&self, sealer: Arc<dyn Sealer>) {
        let _ = self.sealer_cell().set(sealer);
    }

    pub(crate) fn sealer(&self) -> Result<&dyn Sealer, StoreError> {
        let none = || StoreError::Unsealable("nothing is sealed here yet".into());
        Ok(self.sealer_cell().get().ok_or_else(none)?.as_ref())
    }
}

/// A credential, without its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// Its id.
    pub id: CredentialId,
    /// Which project it belongs to.
    pub project_id: ProjectId,
    /// By name.
    pub project: String,
    /// Its name; unique in its project.
    pub name: String,
    /// What it is for.
    pub kind: CredentialKind,
    /// Labels that a node must carry to be given it.
    pub node_labels: Labels,
    /// Whose images a login is for.
    pub registry_host: Option<String>,
    /// Number of its newest version.
    pub latest: u32,
    /// How that is to be read.
    pub form: Form,
    /// What may be shown of that.
    pub shown: serde_json::Value,
    /// When it was made.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
    /// When it got its newest version.
    pub updated_at: Timestamp,
}

/// A version, without its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialVersion {
    /// Its number.
    pub version: u32,
    /// How it is to be read.
    pub form: Form,
    /// What may be shown of it.
    pub shown: serde_json::Value,
    /// The version whose value it has again.
    pub restored_from: Option<u32>,
    /// When it was made.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
}

/// A credential by its id or by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CredentialKey {
    /// By id.
    Id(CredentialId),
    /// By name, in a project.
    In(ProjectId, String),
}

type Row = (
    (Uuid, Uuid, String, String),
    (String, serde_json::Value, Option<String>, i32),
    (String, serde_json::Value),
    (Timestamp, String, Timestamp),
);

/// Credentials with their newest versions.
#[diesel::dsl::auto_type(no_type_alias)]
fn whole() -> _ {
    let newest = credential_versions::credential_id
        .eq(credentials::id)
        .and(credential_versions::version.eq(credentials::latest));
    credentials::table.inner_join(credential_versions::table.on(newest)).inner_join(projects::table).select((
        (credentials::id, credentials::project_id, projects::name, credentials::name),
        (credentials::kind, credentials::node_labels, credentials::registry_host, credentials::latest),
        (credential_versions::form, credential_versions::shown),
        (credentials::created_at, credentials::created_by, credentials::updated_at),
    ))
}

fn read((who, what, newest, when): Row) -> Result<Credential, StoreError> {
    let (id, project_id, project, name) = who;
    let (kind, node_labels, registry_host, latest) = what;
    Ok(Credential {
        id: id.into(),
        project_id: project_id.into(),
        project,
        name,
        kind: read_kind(&kind)?,
        node_labels: read_labels(node_labels)?,
        registry_host,
        latest: number(latest),
        form: read_form(&newest.0)?,
        shown: newest.1,
        created_at: when.0,
        created_by: when.1,
        updated_at: when.2,
    })
}

fn read_kind(kind: &str) -> Result<CredentialKind, StoreError> {
    CredentialKind::parse(kind).ok_or_else(|| StoreError::corrupt("credential's kind", kind))
}

fn read_form(form: &str) -> Result<Form, StoreError> {
    Form::parse(form).ok_or_else(|| StoreError::corrupt("credential's form", form))
}

fn read_labels(labels: serde_json::Value) -> Result<Labels, StoreError> {
    serde_json::from_value(labels).map_err(|e| StoreError::corrupt("credential's node labels", e))
}

/// A number that the database keeps positive.
fn number(value: i32) -> u32 {
    u32::try_from(value).unwrap_or_default()
}

fn column(value: u32) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

/// Which deployment, for those who list them.
type Named = (DeploymentId, String);
