//! The one error type that leaves a service, and its one table of meanings.

use std::{borrow::Cow, time::Duration};

use domain::{deployment::FieldFault, limit::Taken};
use store::{Refusal, StoreError};

/// What a caller can do about an error. Closed on purpose: a kind is added only
/// when some caller would act differently on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The request cannot be read.
    Malformed,
    /// It can be read, and says something that is not allowed.
    InvalidArgument,
    /// It is larger than is taken.
    TooLarge,
    /// Its address is longer than is taken.
    UriTooLong,
    /// Its headers are more than are taken.
    HeadersTooLarge,
    /// It did not come to its end in time.
    TooSlow,
    /// Nobody is known to have sent it.
    Unauthenticated,
    /// Who sent it may not.
    PermissionDenied,
    /// What it is about is not there.
    NotFound,
    /// Its name or key is in use.
    AlreadyExists,
    /// The request is fine, but not in the present state of its target.
    Conflict,
    /// The target changed since the caller looked.
    PreconditionFailed,
    /// Too many of them; later.
    RateLimited,
    /// Something that it needs is away; later.
    Unavailable,
    /// A bug, or a broken invariant. The caller gets no detail.
    Internal,
}

impl ErrorKind {
    /// The only place that turns a kind into codes. No `_` arm, so that a new
    /// kind does not compile until someone has decided both.
    #[must_use]
    pub const fn codes(self) -> (u16, GrpcCode) {
        match self {
            Self::Malformed => (400, GrpcCode::InvalidArgument),
            Self::InvalidArgument => (422, GrpcCode::InvalidArgument),
            Self::TooLarge => (413, GrpcCode::ResourceExhausted),
            Self::UriTooLong => (414, GrpcCode::InvalidArgument),
            Self::HeadersTooLarge => (431, GrpcCode::InvalidArgument),
            Self::TooSlow => (408, GrpcCode::DeadlineExceeded),
            Self::Unauthenticated => (401, GrpcCode::Unauthenticated),
            Self::PermissionDenied => (403, GrpcCode::PermissionDenied),
            Self::NotFound => (404, GrpcCode::NotFound),
            Self::AlreadyExists => (409, GrpcCode::AlreadyExists),
            Self::Conflict => (409, GrpcCode::FailedPrecondition),
            Self::PreconditionFailed => (412, GrpcCode::FailedPrecondition),
            Self::RateLimited => (429, GrpcCode::ResourceExhausted),
            Self::Unavailable => (503, GrpcCode::Unavailable),
            Self::Internal => (500, GrpcCode::Internal),
        }
    }
}

/// The gRPC codes in use, by their own names, so that this table needs no gRPC
/// library; `grpc` turns them into its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "they are gRPC's")]
pub enum GrpcCode {
    InvalidArgument,
    NotFound,
    AlreadyExists,
    PermissionDenied,
    ResourceExhausted,
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    Unavailable,
    Unauthenticated,
}

type Source = Box<dyn std::error::Error + Send + Sync>;

/// `code` is stable and may be matched by clients; `message` may be reworded at
/// any time; `fields` says what is wrong where. All three go to the caller.
/// `source` goes only to the log.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: ErrorKind,
    code: &'static str,
    message: Cow<'static, str>,
    fields: Vec<FieldFault>,
    // Boxed: few errors have it.
    later: Option<Box<Later>>,
    #[source]
    source: Option<Source>,
}

/// When to try again, and what a limit says.
#[derive(Debug)]
struct Later {
    retry_after: Duration,
    rate: Option<Taken>,
}

impl Error {
    /// An error that its caller can act on.
    pub fn new(kind: ErrorKind, code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, code, message: message.into(), fields: Vec::new(), later: None, source: None }
    }

    /// A bug, as far as the caller is concerned.
    pub fn internal(source: impl Into<Source>) -> Self {
        Self::new(ErrorKind::Internal, "internal", "internal error").because(source)
    }

    /// Fields that are not allowed to be what they are.
    #[must_use]
    pub fn invalid(fields: Vec<FieldFault>) -> Self {
        let message = match fields.as_slice() {
            [one] => format!("{} {}", one.field, one.message),
            many => format!("{} fields are not allowed to be what they are", many.len()),
        };
        Self { fields, ..Self::new(ErrorKind::InvalidArgument, "invalid_fields", message) }
    }

    /// Says what is wrong where, too.
    #[must_use]
    pub fn with_fields(self, fields: Vec<FieldFault>) -> Self {
        Self { fields, ..self }
    }

    /// One such field.
    #[must_use]
    pub fn invalid_field(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::invalid(vec![FieldFault { field: field.into(), message: message.into() }])
    }

    /// A field that cannot be read.
    #[must_use]
    pub fn malformed_field(field: impl Into<String>, message: impl Into<String>) -> Self {
        let fault = FieldFault { field: field.into(), message: message.into() };
        let detail = format!("{}: {}", fault.field, fault.message);
        Self { fields: vec![fault], ..Self::new(ErrorKind::Malformed, "malformed_field", detail) }
    }

    /// A limit that is used up.
    #[must_use]
    pub fn rate_limited(taken: Taken) -> Self {
        let later = Later { retry_after: taken.retry_after, rate: Some(taken) };
        let error = Self::new(ErrorKind::RateLimited, "rate_limited", "too many of these; try again later");
        Self { later: Some(Box::new(later)), ..error }
    }

    /// Says when to try again.
    #[must_use]
    pub fn retry_after(self, retry_after: Duration) -> Self {
        let rate = self.rate();
        Self { later: Some(Box::new(Later { retry_after, rate })), ..self }
    }

    /// When to try again, where that is known.
    #[must_use]
    pub fn retries_after(&self) -> Option<Duration> {
        self.later.as_ref().map(|later| later.retry_after)
    }

    /// What the limit says that is used up.
    #[must_use]
    pub fn rate(&self) -> Option<Taken> {
        self.later.as_ref().and_then(|later| later.rate)
    }

    /// Something is not there.
    #[must_use]
    pub fn not_found(what: &str) -> Self {
        Self::new(ErrorKind::NotFound, "not_found", format!("there is no such {what}"))
    }

    /// Adds what the log should know, and the caller should not.
    #[must_use]
    pub fn because(mut self, source: impl Into<Source>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What a caller can do about it.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// For programs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        self.code
    }

    /// What is wrong where.
    #[must_use]
    pub fn fields(&self) -> &[FieldFault] {
        &self.fields
    }

    /// The error and its sources, for the log.
    #[must_use]
    pub fn chain(&self) -> String {
        chain(self)
    }
}

/// An error and its sources in one line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(error.source(), |e| e.source());
    sources.fold(error.to_string(), |text, source| format!("{text}: {source}"))
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        let refused = |kind, code, refusal: &Refusal| Self::new(kind, code, refusal.to_string());
        match error {
            StoreError::Refused(refusal) => match &refusal {
                Refusal::NameTaken(_) => refused(ErrorKind::AlreadyExists, "name_taken", &refusal),
                Refusal::Missing(_) => refused(ErrorKind::NotFound, "not_found", &refusal),
                Refusal::Deleting(_) => refused(ErrorKind::Conflict, "being_deleted", &refusal),
                Refusal::NotEmpty(_) => refused(ErrorKind::Conflict, "project_not_empty", &refusal),
                Refusal::DefaultProject => refused(ErrorKind::Conflict, "default_project", &refusal),
                Refusal::TokenRefused(_) => refused(ErrorKind::PermissionDenied, "token_refused", &refusal),
                Refusal::LastAdmin(_) => refused(ErrorKind::Conflict, "last_admin", &refusal),
                Refusal::RevisionChanged(_) => {
                    refused(ErrorKind::PreconditionFailed, "revision_changed", &refusal)
                }
                Refusal::NothingUnderWay(_) => refused(ErrorKind::Conflict, "nothing_under_way", &refusal),
                Refusal::NodeInUse(..) => refused(ErrorKind::Conflict, "node_in_use", &refusal),
                Refusal::InProgress(_) => refused(ErrorKind::Conflict, "operation_in_progress", &refusal),
                Refusal::KeyReused => refused(ErrorKind::Conflict, "idempotency_key_reused", &refusal),
                Refusal::Invalid(faults) => Self::invalid(faults.clone()),
                Refusal::TooMany(..) => refused(ErrorKind::Conflict, "too_many", &refusal),
                Refusal::RegistryTaken(_) => refused(ErrorKind::AlreadyExists, "registry_taken", &refusal),
                Refusal::OtherRegistry => refused(ErrorKind::InvalidArgument, "other_registry", &refusal),
                Refusal::OtherRekey => refused(ErrorKind::Conflict, "other_rekey", &refusal),
            },
            StoreError::Unavailable(_) => Self::new(
                ErrorKind::Unavailable,
                "database_unavailable",
                "the database is not available; try again",
            )
            .because(error),
            // The key may be on its way to this controller; a change of a value stays one.
            StoreError::Unsealable(_) => Self::new(
                ErrorKind::Unavailable,
                "vault_unavailable",
                "nothing can be sealed at the moment; try again",
            )
            .because(error),
            StoreError::NotOpened { ref credential, .. } => {
                let message = format!("credential {credential} does not open; see `vault verify`");
                Self::new(ErrorKind::Internal, "credential_not_opened", message).because(error)
            }
            StoreError::Database(..) | StoreError::Corrupt(..) | StoreError::Migration(_) => {
                Self::internal(error)
            }
        }
    }
}
