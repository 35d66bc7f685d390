//! Typed ids, so that a node's id cannot be handed over where an instance's is
//! meant. Ids are UUIDs of version 7 and therefore sort by the time they were
//! made; making them needs a clock, so the daemons do that.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// Wraps an id that came from elsewhere.
            #[must_use]
            pub const fn from_uuid(id: Uuid) -> Self {
                Self(id)
            }

            /// The bare id, for columns and wire fields.
            #[must_use]
            pub const fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl From<Uuid> for $name {
            fn from(id: Uuid) -> Self {
                Self(id)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }
    )*};
}

ids! {
    /// One installation of Automator67: all nodes that share a database.
    FleetId;
    /// A Docker host with an agent. Made at enrolment, carried in its certificate.
    NodeId;
    /// What a user declared. Stays the same while its revisions change.
    DeploymentId;
    /// One placement of one revision on one node. Never used again elsewhere (I1).
    InstanceId;
    /// A user's mutation being carried out.
    OperationId;
    /// What deployments belong to, and accounts are members of.
    ProjectId;
    /// An account.
    UserId;
    /// One sign-in of an account.
    SessionId;
    /// A secret in the vault. Its name may be used again after it was deleted; the id is not.
    CredentialId;
    /// The numbering under which one agent's ledger counts its reports. A ledger
    /// that was lost starts a new one, and its numbers start again from 1.
    ReportStreamId;
}

impl ProjectId {
    /// The project that is meant where none is named. It is in every database from
    /// the first migration on, under this id.
    pub const DEFAULT: Self = Self(Uuid::from_u128(0x0000_0000_0000_7000_8000_0000_0000_0001));
}
