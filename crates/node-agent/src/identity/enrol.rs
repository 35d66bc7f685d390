//! How a host becomes a node.

use std::{path::PathBuf, sync::Arc};

use domain::node::NodeFacts;
use tokio::task::spawn_blocking;

use super::{
    Certificate, CertificateError, EnrolmentToken, Identity, IdentityError, InvalidToken, PinnedCa, files,
};
use crate::link::enrolment::{self, CallError};

/// What an operator says, and what the host says of itself.
pub struct EnrolOptions {
    /// Where the identity is kept.
    pub data_dir: PathBuf,
    /// `https://host:port`.
    pub controller: String,
    /// The enrolment token as the operator was given it.
    pub token: String,
    /// What to call the node; `None` takes the host's name.
    pub name: Option<String>,
    /// What the host is.
    pub facts: NodeFacts,
}

/// What became of an enrolment.
pub enum Enrolled {
    /// The host is a node now.
    New(Identity),
    /// It was one of the same fleet before; nothing was asked and nothing changed.
    Already(Identity),
    /// It was, and is the same node; but the key was lost that its files were sealed
    /// with, and there is a new one now.
    Mended {
        /// Who it is.
        identity: Identity,
        /// Where the files are that nobody can open.
        aside: PathBuf,
    },
}

/// Why a host did not become a node.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// The token is none.
    #[error(transparent)]
    Token(#[from] InvalidToken),
    /// The address is none.
    #[error("use {controller:?} as the controller's address: it must look like https://HOST:6701")]
    Address {
        /// What was given.
        controller: String,
    },
    /// This host is a node of another fleet.
    #[error("enrol: {} holds the identity of a node of another fleet; remove it to enrol anew", data_dir.display())]
    OtherFleet {
        /// Where that identity is.
        data_dir: PathBuf,
    },
    /// Nobody answers.
    #[error("reach the controller at {controller}")]
    Unreachable {
        /// The address.
        controller: String,
        /// What the connection said.
        #[source]
        source: CallError,
    },
    /// Somebody answers who is not the fleet's controller.
    #[error(
        "trust {controller}: its certificate is not of the fleet that the token is for; check the address, and that the token is from this controller"
    )]
    WrongController {
        /// The address.
        controller: String,
        /// What is wrong with the certificate.
        #[source]
        source: CallError,
    },
    /// The controller does not take the token.
    #[error(
        "enrol: the controller refused the token; it is unknown, has expired, or was used up ({message})"
    )]
    TokenRefused {
        /// What the controller said.
        message: String,
    },
    /// The controller does not serve this version of the agent.
    #[error("enrol: this agent's version does not fit the controller's ({message})")]
    Version {
        /// What the controller said.
        message: String,
    },
    /// The controller answered something else.
    #[error("enrol: the controller did not take the request")]
    Refused(#[source] CallError),
    /// The CA in the answer is not the one in the token.
    #[error("enrol: the controller answered with another CA than the token names")]
    OtherCa,
    /// What the controller signed cannot be used.
    #[error("use the certificate that the controller signed")]
    Certificate(#[source] CertificateError),
    /// The identity could not be kept.
    #[error("keep the node's identity")]
    Files(#[from] IdentityError),
    /// A request could not be signed.
    #[error("make a certificate request")]
    Key(#[source] super::NodeKeyError),
}

impl EnrolError {
    fn of_call(source: CallError, controller: String) -> Self {
        match source {
            CallError::Denied { message } => Self::TokenRefused { message },
            CallError::Version { message } => Self::Version { message },
            CallError::Unreachable { .. } => Self::Unreachable { controller, source },
            CallError::NotTrusted { .. } => Self::WrongController { controller, source },
            CallError::Address => Self::Address { controller },
            CallError::Rejected { .. } | CallError::BadAnswer(_) => Self::Refused(source),
        }
    }
}

/// Makes this host a node of the fleet that the token is for.
///
/// May be tried again after any failure: the key is kept from the first try on,
/// so the controller sees the same enrolment and does not count the token twice.
///
/// # Errors
/// See [`EnrolError`]. The host is then as it was, but for the key.
pub async fn enrol(options: EnrolOptions) -> Result<Enrolled, EnrolError> {
    let EnrolOptions { data_dir, controller, token, name, facts } = options;
    let token: EnrolmentToken = token.parse()?;
    let dir = data_dir.clone();
    if let Some(identity) = blocking(move || files::load(&dir)).await? {
        let same = identity.ca().sha256() == token.ca_sha256();
        if !same {
            return Err(EnrolError::OtherFleet { data_dir });
        }
        return Ok(match blocking(move || files::mend(&data_dir)).await? {
            Some(aside) => Enrolled::Mended { identity, aside },
            None => Enrolled::Already(identity),
        });
    }
    let dir = data_dir.clone();
    let key = blocking(move || files::enrolling_key(&dir)).await?;

    let request = enrolment::EnrolCall {
        token: &token,
        csr_der: key.csr_der().map_err(EnrolError::Key)?,
        facts: &facts,
        node_name: name.unwrap_or_default(),
    };
    let verifier = Arc::new(PinnedCa::new(token.ca_sha256()));
    let answer = enrolment::enrol(&controller, verifier, request)
        .await
        .map_err(|source| EnrolError::of_call(source, controller.clone()))?;

    let ca = Certificate::from_der(answer.ca_der).map_err(EnrolError::Certificate)?;
    if ca.sha256() != token.ca_sha256() {
        return Err(EnrolError::OtherCa);
    }
    let certificate = Certificate::from_der(answer.certificate_der)
        .and_then(|c| c.check(answer.node_id, &key.public_key_der(), &ca).map(|()| c))
        .map_err(EnrolError::Certificate)?;
    let identity = Identity {
        data_dir,
        node_id: answer.node_id,
        fleet_id: answer.fleet_id,
        node_name: answer.node_name,
        controller,
        ca,
        certificate,
        key,
    };
    blocking(move || files::commit(&identity).map(|()| identity)).await.map(Enrolled::New).map_err(Into::into)
}

/// Runs what blocks where it may.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, IdentityError> + Send + 'static,
) -> Result<T, IdentityError> {
    spawn_blocking(work).await.unwrap_or_else(|gone| {
        Err(IdentityError::Io { path: PathBuf::new(), source: std::io::Error::other(gone) })
    })
}
