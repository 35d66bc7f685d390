//! What handlers take in: callers with the role that they need, bodies, queries.

use std::{future::Future, marker::PhantomData, pin::Pin, sync::Arc};

use actix_web::{
    FromRequest, HttpMessage, HttpRequest,
    dev::Payload,
    error::PayloadError,
    http::header::{AUTHORIZATION, CONTENT_TYPE},
    web::{Bytes, Data},
};
use serde::de::DeserializeOwned;
use store::event::Actor;
use tracing_actix_web::RequestId;

use crate::{
    auth::role::Role,
    error::{Error, ErrorKind},
    service::{Services, identity},
};

/// Largest body.
pub const BODY_MAX_BYTES: usize = 1024 * 1024;

type Extracted<T> = Pin<Box<dyn Future<Output = Result<T, Error>>>>;

/// A role that a handler can ask for in its signature.
pub trait AtLeast: 'static {
    /// The least role that may.
    const ROLE: Role;
}

/// May look.
pub struct Viewer;
/// May change deployments.
pub struct Operator;
/// May change who may what.
pub struct Admin;

impl AtLeast for Viewer {
    const ROLE: Role = Role::Viewer;
}
impl AtLeast for Operator {
    const ROLE: Role = Role::Operator;
}
impl AtLeast for Admin {
    const ROLE: Role = Role::Admin;
}

/// Who calls, known to have at least the role `R`.
pub struct Caller<R: AtLeast> {
    /// The account and its session.
    pub identity: identity::Caller,
    /// For records of what is done.
    pub actor: Actor,
    role: PhantomData<R>,
}

impl<R: AtLeast> FromRequest for Caller<R> {
    type Error = Error;
    type Future = Extracted<Self>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let services = services(request);
        let token = bearer(request);
        let anonymous = anonymous(request);
        Box::pin(async move {
            let (services, token) = (services?, token?);
            let identity = services.authenticate(&token).await?;
            let actor =
                Actor { name: identity.name.clone(), account_id: Some(identity.account_id), ..anonymous };
            if identity.role < R::ROLE {
                services.refused(&actor).await?;
                let message = format!(
                    "this needs the role {}; {} has the role {}",
                    R::ROLE.as_str(),
                    identity.name,
                    identity.role.as_str()
                );
                return Err(Error::new(ErrorKind::PermissionDenied, "role_too_low", message));
            }
            Ok(Self { identity, actor, role: PhantomData })
        })
    }
}

/// A request whose sender nobody knows yet.
pub struct Anonymous(pub Actor);

impl FromRequest for Anonymous {
    type Error = Error;
    type Future = std::future::Ready<Result<Self, Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        std::future::ready(Ok(Self(anonymous(request))))
    }
}

fn anonymous(request: &HttpRequest) -> Actor {
    Actor {
        name: "anonymous".to_owned(),
        account_id: None,
        address: request.peer_addr().map(|a| a.ip().to_string()),
        request_id: request_id(request),
    }
}

/// The request's id, as in the log.
pub(super) fn request_id(request: &HttpRequest) -> Option<String> {
    request.extensions().get::<RequestId>().map(ToString::to_string)
}

fn services(request: &HttpRequest) -> Result<Arc<Services>, Error> {
    let data = request.app_data::<Data<Services>>().map(|data| data.clone().into_inner());
    data.ok_or_else(|| Error::internal("the services are not registered"))
}

fn bearer(request: &HttpRequest) -> Result<String, Error> {
    let header = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token =
        header.and_then(|value| value.strip_prefix("Bearer ").or_else(|| value.strip_prefix("bearer ")));
    token.map(|token| token.trim().to_owned()).ok_or_else(|| {
        Error::new(
            ErrorKind::Unauthenticated,
            "no_token",
            "an Authorization header with a bearer token is needed",
        )
    })
}

/// A JSON body of at most 1 MiB without unknown fields, not yet read: who may not
/// send it is told so first, whatever it says. What cannot be read names its field.
pub struct Body<T> {
    bytes: Result<Bytes, Error>,
    is_json: bool,
    value: PhantomData<T>,
}

impl<T: DeserializeOwned> Body<T> {
    /// Reads it.
    pub fn read(self) -> Result<T, Error> {
        self.read_with_bytes().map(|(value, _)| value)
    }

    /// Reads it, and gives it as it came, for its hash.
    pub fn read_with_bytes(self) -> Result<(T, Bytes), Error> {
        if !self.is_json {
            return Err(Error::new(ErrorKind::Malformed, "not_json", "the body must be application/json"));
        }
        let bytes = self.bytes?;
        let mut reader = serde_json::Deserializer::from_slice(&bytes);
        let value = serde_path_to_error::deserialize(&mut reader).map_err(|e| json_error(&e))?;
        reader
            .end()
            .map_err(|_| Error::new(ErrorKind::Malformed, "bad_json", "the body goes on after its end"))?;
        Ok((value, bytes))
    }
}

impl<T: 'static> FromRequest for Body<T> {
    type Error = Error;
    type Future = Extracted<Self>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let kind = request.headers().get(CONTENT_TYPE).and_then(|v| v.to_str().ok());
        let is_json = kind.is_none_or(|kind| kind.to_ascii_lowercase().starts_with("application/json"));
        let bytes = Bytes::from_request(request, payload);
        Box::pin(async move {
            Ok(Self { bytes: bytes.await.map_err(|e| body_error(&e)), is_json, value: PhantomData })
        })
    }
}

fn body_error(error: &actix_web::Error) -> Error {
    match error.as_error::<PayloadError>() {
        Some(PayloadError::Overflow) => Error::new(
            ErrorKind::TooLarge,
            "body_too_large",
            format!("a body may have at most {BODY_MAX_BYTES} bytes"),
        ),
        _ => Error::new(ErrorKind::Malformed, "bad_body", "the body could not be read"),
    }
}

/// serde's words name what is allowed, and quote names and numbers but no texts
/// that might be secret.
fn json_error(error: &serde_path_to_error::Error<serde_json::Error>) -> Error {
    let inner = error.inner();
    if !inner.is_data() {
        return Error::new(ErrorKind::Malformed, "bad_json", format!("the body is not JSON: {inner}"));
    }
    let message = redacted(&inner.to_string());
    // The field says where; line and column of a compact body do not.
    let message = message.split(" at line ").next().unwrap_or_default();
    let path = match (error.path().to_string(), message.strip_prefix("missing field `")) {
        (path, None) => path,
        (path, Some(rest)) if path == "." => rest.trim_end_matches('`').to_owned(),
        (path, Some(rest)) => format!("{path}.{}", rest.trim_end_matches('`')),
    };
    Error::malformed_field(path, message)
}

/// Takes quoted values out of serde's message: `invalid type: string "x"`.
fn redacted(message: &str) -> String {
    match message.split_once('"') {
        Some((before, rest)) => {
            let after = rest.rsplit_once('"').map_or("", |(_, after)| after);
            format!("{}{after}", before.trim_end())
        }
        None => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::redacted;

    #[test]
    fn a_value_in_a_message_is_not_repeated() {
        assert_eq!(
            redacted("invalid type: string \"hun\\\"ter2\", expected u32 at line 1 column 20"),
            "invalid type: string, expected u32 at line 1 column 20"
        );
        assert_eq!(
            redacted("unknown field `imge`, expected `image`"),
            "unknown field `imge`, expected `image`"
        );
    }
}
