//! Values as they come in: in types that cannot be shown.

use base64::{Engine, engine::general_purpose::STANDARD};
use domain::{
    credential::{CredentialKind, CredentialValue, RegistryValue, TlsValue, WebhookValue},
    name::Labels,
    secret::Secret,
};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use utoipa::ToSchema;
use zeroize::Zeroizing;

use crate::error::Error;

/// Fields that may be named where a body cannot be read.
pub(super) const FIELDS: &[&str] = &[
    "name",
    "kind",
    "project",
    "node_labels",
    "value",
    "value_base64",
    "data",
    "registry",
    "registry.server",
    "registry.username",
    "registry.password",
    "tls",
    "tls.certificate",
    "tls.private_key",
    "webhook",
    "webhook.url",
    "webhook.secret",
];

/// A new credential. Of the fields that hold a value, exactly one: `value`,
/// `value_base64` or `data` for the kind `secret`, for each other kind that of its name.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CredentialCreate {
    /// Lower-case letters, digits and inner hyphens, at most 63; unique in its project.
    pub(super) name: String,
    /// `secret`, `registry`, `tls` or `webhook`.
    kind: String,
    /// The project that it belongs to, by name or id; `default` when left out.
    pub(super) project: Option<String>,
    /// Labels that a node must carry to be given it; any node when left out.
    #[serde(default)]
    #[schema(value_type = std::collections::BTreeMap<String, String>)]
    pub(super) node_labels: Labels,
    /// A value that is a text, byte for byte; at most 256 KiB.
    #[schema(value_type = Option<String>, write_only)]
    value: Option<Secret>,
    /// Any bytes, in base64 with padding; at most 256 KiB of them.
    #[schema(value_type = Option<String>, write_only)]
    value_base64: Option<Secret>,
    /// Structured data, kept as it is written here; uses ask for parts by key.
    #[schema(value_type = Option<Object>, write_only)]
    data: Option<Data>,
    /// A login at a registry.
    #[schema(write_only)]
    registry: Option<RegistryBody>,
    /// A certificate and its key.
    #[schema(write_only)]
    tls: Option<TlsBody>,
    /// An address that is told what happens.
    #[schema(write_only)]
    webhook: Option<WebhookBody>,
}

/// A new value, of the credential's kind: exactly one field.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CredentialReplace {
    /// A value that is a text, byte for byte; at most 256 KiB.
    #[schema(value_type = Option<String>, write_only)]
    value: Option<Secret>,
    /// Any bytes, in base64 with padding; at most 256 KiB of them.
    #[schema(value_type = Option<String>, write_only)]
    value_base64: Option<Secret>,
    /// Structured data, kept as it is written here; uses ask for parts by key.
    #[schema(value_type = Option<Object>, write_only)]
    data: Option<Data>,
    /// A login at the same registry.
    #[schema(write_only)]
    registry: Option<RegistryBody>,
    /// A certificate and its key.
    #[schema(write_only)]
    tls: Option<TlsBody>,
    /// An address that is told what happens.
    #[schema(write_only)]
    webhook: Option<WebhookBody>,
}

/// A login at a registry.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RegistryBody {
    /// Its host, such as `ghcr.io`; all names of Docker's own are one. It is shown.
    server: String,
    /// The account.
    #[schema(value_type = String)]
    username: Secret,
    /// Password or token.
    #[schema(value_type = String)]
    password: Secret,
}

/// A certificate and its key.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct TlsBody {
    /// PEM, the server's own first. Its names and its end are shown.
    #[schema(value_type = String)]
    certificate: Secret,
    /// PEM, not encrypted.
    #[schema(value_type = String)]
    private_key: Secret,
}

/// An address that is told what happens.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct WebhookBody {
    /// `http` or `https`. It is not shown: who knows it may often use it.
    #[schema(value_type = String)]
    url: Secret,
    /// With what is sent is signed.
    #[schema(value_type = Option<String>)]
    secret: Option<Secret>,
}

/// A JSON value, as it is written in the body.
struct Data(Secret);

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?;
        Ok(Self(Secret::copy_of(raw.get().as_bytes())))
    }
}

domain::assert_has_not!(CredentialCreate: std::fmt::Debug, std::fmt::Display, serde::Serialize, Clone);
domain::assert_has_not!(CredentialReplace: std::fmt::Debug, std::fmt::Display, serde::Serialize, Clone);

/// The fields of a value, of which one is given.
struct Fields {
    value: Option<Secret>,
    value_base64: Option<Secret>,
    data: Option<Data>,
    registry: Option<RegistryBody>,
    tls: Option<TlsBody>,
    webhook: Option<WebhookBody>,
}

impl CredentialCreate {
    /// Reads the value.
    pub(super) fn read(self) -> Result<(String, Labels, CredentialValue), Error> {
        let Self { name, kind, project: _, node_labels, value, value_base64, data, registry, tls, webhook } =
            self;
        let kind = CredentialKind::parse(&kind)
            .ok_or_else(|| Error::invalid_field("kind", "must be secret, registry, tls or webhook"))?;
        let value = Fields { value, value_base64, data, registry, tls, webhook }.read()?;
        if value.kind() != kind {
            return Err(Error::invalid_field("kind", "must be the kind of the value that is given"));
        }
        Ok((name, node_labels, value))
    }
}

impl CredentialReplace {
    /// Reads the value.
    pub(super) fn read(self) -> Result<CredentialValue, Error> {
        let Self { value, value_base64, data, registry, tls, webhook } = self;
        Fields { value, value_base64, data, registry, tls, webhook }.read()
    }
}

impl Fields {
    fn read(self) -> Result<CredentialValue, Error> {
        let mut given = [
            self.value.map(|value| Ok(CredentialValue::Bytes(value))),
            self.value_base64.map(|text| decoded(&text).map(CredentialValue::Bytes)),
            self.data.map(|Data(text)| Ok(CredentialValue::Data(text))),
            self.registry.map(|RegistryBody { server, username, password }| {
                Ok(CredentialValue::Registry(RegistryValue { server, username, password }))
            }),
            self.tls.map(|TlsBody { certificate, private_key }| {
                Ok(CredentialValue::Tls(TlsValue { certificate, private_key }))
            }),
            self.webhook.map(|WebhookBody { url, secret }| {
                Ok(CredentialValue::Webhook(WebhookValue { url, secret }))
            }),
        ]
        .into_iter()
        .flatten();
        match (given.next(), given.next()) {
            (Some(one), None) => one,
            _ => Err(Error::invalid_field(
                "value",
                "exactly one of value, value_base64, data, registry, tls and webhook must be given",
            )),
        }
    }
}

fn decoded(text: &Secret) -> Result<Secret, Error> {
    // Its own errors would quote what was decoded.
    let mut bytes = Zeroizing::new(vec![0; text.size_bytes() / 4 * 3 + 3]);
    let length = STANDARD
        .decode_slice(text.reveal(), &mut bytes)
        .map_err(|_| Error::invalid_field("value_base64", "must be base64, with padding"))?;
    bytes.truncate(length);
    Ok(Secret::from_zeroizing(bytes))
}
