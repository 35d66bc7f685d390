//! What handlers take in: callers with the permission that they need, bodies, queries.

use std::{future::Future, marker::PhantomData, pin::Pin, sync::Arc};

use actix_web::{
    FromRequest, HttpMessage, HttpRequest,
    dev::Payload,
    error::PayloadError,
    http::header::{AUTHORIZATION, CONTENT_TYPE},
    web::{Bytes, Data},
};
use serde::de::DeserializeOwned;
use store::{
    audit::{Actor, ActorKind},
    caller::Visible,
};
use tokio::time::timeout;
use tracing_actix_web::RequestId;
use uuid::Uuid;

use super::{client, guard};
use crate::{
    auth::{
        caller::{Caller, Credential, Decision},
        policy::{Permission, Rule},
    },
    error::{Error, ErrorKind},
    service::Services,
};

/// Largest body.
pub const BODY_MAX_BYTES: usize = 1024 * 1024;

type Extracted<T> = Pin<Box<dyn Future<Output = Result<T, Error>>>>;

/// Who calls, known to have the permission `P`; over which projects' objects, is
/// asked of [`Allowed::over`].
pub struct Allowed<P: Permission> {
    /// Who.
    pub caller: Caller,
    /// For records of what is done.
    pub actor: Actor,
    permission: PhantomData<P>,
}

impl<P: Permission> Allowed<P> {
    /// Makes sure that the caller has the permission over an object of a project;
    /// `what` is its kind, and its name or id.
    ///
    /// # Errors
    /// That there is none, to a caller who does not see it; else that it may not.
    pub async fn over(&self, services: &Services, project: Uuid, what: (&str, &str)) -> Result<(), Error> {
        let decision = self.caller.decide_in(&P::RULE, project);
        if decision != Decision::May {
            let (kind, name) = what;
            let subject = format!("{kind} {name}");
            services.refused(&self.actor, &P::RULE, &subject, Some(project.into())).await?;
        }
        judge(&self.caller, &P::RULE, decision, what.0)
    }

    /// Makes sure that the caller also has another permission, over the fleet, for
    /// what the request turns out to ask; `subject` goes into the audit log.
    ///
    /// # Errors
    /// That it may not.
    pub async fn also<Q: Permission>(&self, services: &Services, subject: &str) -> Result<(), Error> {
        let decision = self.caller.decide(&Q::RULE);
        if decision != Decision::May {
            services.refused(&self.actor, &Q::RULE, subject, None).await?;
        }
        judge(&self.caller, &Q::RULE, decision, "request")
    }

    /// The projects whose objects the caller sees.
    pub fn visible(&self) -> Visible {
        self.caller.visible()
    }
}

impl<P: Permission> FromRequest for Allowed<P> {
    type Error = Error;
    type Future = Extracted<Self>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        guard::remember(request);
        let services = services(request);
        let token = bearer(request);
        let anonymous = anonymous(request);
        let subject = format!("{} {}", request.method(), request.path());
        Box::pin(async move {
            let (services, token) = (services?, token?);
            let caller = match services.authenticate(&token, anonymous.address.as_deref()).await {
                Ok(caller) => caller,
                Err(e) => {
                    if e.kind() == ErrorKind::Unauthenticated {
                        services.stranger_refused(&anonymous, "authenticate", &subject).await;
                    }
                    return Err(e);
                }
            };
            let actor = actor(&caller, anonymous);
            let decision = caller.decide(&P::RULE);
            if decision != Decision::May {
                services.refused(&actor, &P::RULE, &subject, None).await?;
            }
            judge(&caller, &P::RULE, decision, "request")?;
            Ok(Self { caller, actor, permission: PhantomData })
        })
    }
}

fn actor(caller: &Caller, anonymous: Actor) -> Actor {
    let credential = match &caller.credential {
        Credential::Session(id) => Some(id.uuid()),
        Credential::Token { id, .. } => Some(*id),
        Credential::None => None,
    };
    Actor {
        name: caller.name.clone(),
        kind: caller.kind,
        account_id: Some(caller.account_id),
        credential,
        ..anonymous
    }
}

/// Turns what was decided into an answer.
fn judge(caller: &Caller, rule: &Rule, decision: Decision, what: &str) -> Result<(), Error> {
    let refused = |code, message| Err(Error::new(ErrorKind::PermissionDenied, code, message));
    match decision {
        Decision::May => Ok(()),
        Decision::Unseen => Err(Error::not_found(what)),
        Decision::RoleTooLow => {
            let message =
                format!("{} needs the role {} for this ({})", caller.name, rule.role.as_str(), rule.name);
            refused("role_too_low", message)
        }
        Decision::ScopeMissing => {
            refused("scope_missing", format!("the API token has no scope that covers {}", rule.name))
        }
    }
}

/// A request whose sender nobody knows yet. It counts as an attempt of its address,
/// over all controllers; the answer says how many are left.
pub struct Anonymous(pub Actor);

impl FromRequest for Anonymous {
    type Error = Error;
    type Future = Extracted<Self>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        guard::remember(request);
        let (services, actor) = (services(request), anonymous(request));
        let (address, request) = (client::address(request), request.clone());
        Box::pin(async move {
            if let Some(taken) = services?.attempt_take(address).await? {
                request.extensions_mut().insert(taken);
            }
            Ok(Self(actor))
        })
    }
}

fn anonymous(request: &HttpRequest) -> Actor {
    Actor {
        address: client::address(request).map(|address| address.to_string()),
        request_id: request_id(request),
        ..Actor::of(ActorKind::Anonymous, "anonymous")
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

/// The token that a request shows.
pub(super) fn bearer(request: &HttpRequest) -> Result<String, Error> {
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

    /// Reads one that holds secrets. What cannot be read is told by its place alone, if
    /// that is one of `fields`: a secret in the wrong place would be quoted otherwise, as a
    /// name, as a number, as what was expected there.
    pub fn read_secret(self, fields: &[&'static str]) -> Result<T, Error> {
        if !self.is_json {
            return Err(Error::new(ErrorKind::Malformed, "not_json", "the body must be application/json"));
        }
        let bytes = self.bytes?;
        let mut reader = serde_json::Deserializer::from_slice(&bytes);
        let value = serde_path_to_error::deserialize(&mut reader).map_err(|e| secret_error(&e, fields))?;
        reader
            .end()
            .map_err(|_| Error::new(ErrorKind::Malformed, "bad_json", "the body goes on after its end"))?;
        Ok(value)
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
        let services = services(request);
        Box::pin(async move {
            let read = timeout(services?.settings.edge.client_timeout, bytes).await;
            let bytes = read.map_or_else(|_| Err(too_slow()), |bytes| bytes.map_err(|e| body_error(&e)));
            Ok(Self { bytes, is_json, value: PhantomData })
        })
    }
}

fn too_slow() -> Error {
    Error::new(ErrorKind::TooSlow, "body_too_slow", "the body did not come to its end in time")
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

/// See [`Body::read_secret`].
fn secret_error(error: &serde_path_to_error::Error<serde_json::Error>, fields: &[&'static str]) -> Error {
    if !error.inner().is_data() {
        return Error::new(ErrorKind::Malformed, "bad_json", "the body is not JSON");
    }
    let path = error.path().to_string();
    match fields.iter().find(|field| **field == path) {
        Some(field) => Error::malformed_field((*field).to_owned(), "cannot be read as what it must be"),
        None => Error::new(
            ErrorKind::Malformed,
            "bad_field",
            "a field is missing, is not known, or cannot be read; which, and why, is not said, since it may be secret",
        ),
    }
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
    use actix_web::{http::header::HeaderValue, test::TestRequest};
    use proptest::prelude::*;

    use super::{AUTHORIZATION, bearer, redacted};

    fn bearer_of(header: &[u8]) -> Result<String, &'static str> {
        // What no header can hold never comes in.
        let Ok(value) = HeaderValue::from_bytes(header) else { return Err("no_token") };
        let request = TestRequest::default().insert_header((AUTHORIZATION, value)).to_http_request();
        bearer(&request).map_err(|error| error.code())
    }

    #[test]
    fn only_a_bearer_header_has_a_token() {
        for header in ["Bearer a67_x", "bearer a67_x", "Bearer   a67_x "] {
            assert_eq!(bearer_of(header.as_bytes()), Ok("a67_x".to_owned()), "{header:?}");
        }
        for header in ["", "Bearer", "a67_x", "Basic a67_x", "Bearera67_x", "Token a67_x", "Bearer\ta67_x"] {
            assert_eq!(bearer_of(header.as_bytes()), Err("no_token"), "{header:?}");
        }
        assert!(bearer(&TestRequest::default().to_http_request()).is_err());
    }

    proptest! {
        #[test]
        fn any_header_gives_a_part_of_itself_or_nothing(
            scheme in prop_oneof![Just("Bearer "), Just("bearer "), Just("BEARER "), Just("Basic "), Just("")],
            rest in prop::collection::vec(any::<u8>(), 0..80),
        ) {
            let header = [scheme.as_bytes(), &rest].concat();
            match bearer_of(&header) {
                Ok(token) => {
                    prop_assert_eq!(token.trim(), token.as_str());
                    let text = std::str::from_utf8(&header).unwrap();
                    prop_assert!(text.to_ascii_lowercase().starts_with("bearer "));
                    prop_assert_eq!(text[7..].trim(), token);
                }
                Err(code) => prop_assert_eq!(code, "no_token"),
            }
        }
    }

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
