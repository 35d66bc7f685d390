//! What can go wrong with the store, as far as a caller can act on it.

use diesel::result::{DatabaseErrorKind, Error as DieselError};
use domain::spec::FieldFault;

/// Why the database's own state refuses a request that is well-formed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Something else has the name.
    #[error("the name {0:?} is in use")]
    NameTaken(String),
    /// There is no such thing.
    #[error("there is no such {0}")]
    Missing(&'static str),
    /// The thing is on its way out.
    #[error("{0:?} is being deleted")]
    Deleting(String),
    /// The project has deployments or credentials.
    #[error("the project {0:?} has deployments or credentials; delete them first")]
    NotEmpty(String),
    /// There always is a default project.
    #[error("the default project cannot be deleted")]
    DefaultProject,
    /// A token or invite is unknown, used up or expired.
    #[error("the {0} is unknown, used up or expired")]
    TokenRefused(&'static str),
    /// Nobody would be left who may change who may do what.
    #[error("{0:?} is the last enabled administrator; make another one first")]
    LastAdmin(String),
    /// The same idempotency key came with another request.
    #[error("the idempotency key was used for another request")]
    KeyReused,
    /// Fields that are not allowed to be what they are, in the state as it is.
    #[error("{} fields are not allowed to be what they are", .0.len())]
    Invalid(Vec<FieldFault>),
    /// There are as many as there may be.
    #[error("there are {1} {0}, which is the most there may be")]
    TooMany(&'static str, u32),
    /// The project has a login for that registry and those nodes.
    #[error("the project has a login for {0} and these nodes already; replace it")]
    RegistryTaken(String),
    /// A login stays one at its registry.
    #[error("the login is for another registry; make a credential of its own")]
    OtherRegistry,
    /// The fleet is sealed with other keys than those, or moves between others.
    #[error("the fleet is not sealed with that master key, or is being moved to another one")]
    OtherRekey,
    /// The deployment has another revision than whoever asks has seen.
    #[error("the deployment is at revision {0} by now; read it again")]
    RevisionChanged(u32),
    /// Something is being done to it already.
    #[error("operation {0} is under way; wait for it, cancel it, or supersede it")]
    InProgress(domain::id::OperationId),
    /// There is no rollout that could be paused or cancelled.
    #[error("nothing is under way on {0:?} that could be paused, resumed or cancelled")]
    NothingUnderWay(String),
    /// The node has instances.
    #[error("the node {0:?} has {1} instances; drain it first, or force it")]
    NodeInUse(String, u64),
}

/// A failure of a store method.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The state refuses it. Nothing was changed.
    #[error("{0}")]
    Refused(Refusal),
    /// No connection could be had in time, or it broke. What was asked for may
    /// or may not have happened; every method may be called again.
    #[error("the database is not available")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The database said something else.
    #[error("the database refused {0}")]
    Database(&'static str, #[source] DieselError),
    /// A stored value is not what this version writes.
    #[error("a stored {0} cannot be read")]
    Corrupt(&'static str, #[source] Box<dyn std::error::Error + Send + Sync>),
    /// A value cannot be sealed. Nothing was changed.
    #[error("a value cannot be sealed")]
    Unsealable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A credential does not open: it was changed, belongs elsewhere, or its key is missing.
    #[error("credential {credential} does not open")]
    NotOpened {
        /// Name, id and version.
        credential: String,
        /// Why; tells nothing of the value.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Migrations could not be applied.
    #[error("the database could not be migrated")]
    Migration(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl From<Refusal> for StoreError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<DieselError> for StoreError {
    fn from(error: DieselError) -> Self {
        let broken = match &error {
            DieselError::BrokenTransactionManager => true,
            DieselError::DatabaseError(
                DatabaseErrorKind::ClosedConnection | DatabaseErrorKind::UnableToSendCommand,
                _,
            ) => true,
            // PostgreSQL ends connections like this when it stops or restarts.
            DieselError::DatabaseError(DatabaseErrorKind::Unknown, info) => {
                info.message().contains("terminating connection")
                    || info.message().contains("shutting down")
                    || info.message().contains("connection closed")
                    || info.message().contains("starting up")
            }
            _ => false,
        };
        if broken { Self::Unavailable(error.into()) } else { Self::Database("a statement", error) }
    }
}

impl StoreError {
    /// Whether running the same transaction again may succeed at once.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Database(_, DieselError::DatabaseError(DatabaseErrorKind::SerializationFailure, _)) => true,
            Self::Database(_, DieselError::DatabaseError(_, info)) => {
                info.message().contains("deadlock detected")
            }
            _ => false,
        }
    }

    pub(crate) fn corrupt(
        what: &'static str,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Corrupt(what, source.into())
    }
}

/// Whether an insert failed on the named unique constraint.
pub(crate) fn violates(error: &DieselError, constraint: &str) -> bool {
    matches!(error, DieselError::DatabaseError(DatabaseErrorKind::UniqueViolation, info)
        if info.constraint_name() == Some(constraint))
}
