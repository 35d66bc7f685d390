//! What a user sends as a credential's value, kind by kind, and whether it may be one.

use serde::ser::{SerializeStruct, Serializer};
use zeroize::Zeroizing;

use super::{CredentialKind, Form, VALUE_MAX_BYTES, json, registry};
use crate::{secret::Secret, spec::FieldFault};

/// A login at a registry.
pub struct RegistryValue {
    /// The registry, as the user wrote it.
    pub server: String,
    /// The account there.
    pub username: Secret,
    /// Password or token.
    pub password: Secret,
}

/// A certificate and its key, as PEM.
pub struct TlsValue {
    /// The certificate, and those that lead to its root.
    pub certificate: Secret,
    /// The private key.
    pub private_key: Secret,
}

/// An address that is told what happens.
pub struct WebhookValue {
    /// The address. Whoever knows it may often use it, so it is as secret as the rest.
    pub url: Secret,
    /// With what is sent is signed.
    pub secret: Option<Secret>,
}

/// A value, before it is sealed.
pub enum CredentialValue {
    /// Bytes, as they are.
    Bytes(Secret),
    /// A JSON object, as it came.
    Data(Secret),
    /// A login at a registry.
    Registry(RegistryValue),
    /// A certificate and its key.
    Tls(TlsValue),
    /// An address that is told what happens.
    Webhook(WebhookValue),
}

crate::assert_has_not!(CredentialValue: std::fmt::Debug, std::fmt::Display, serde::Serialize, Clone);
crate::assert_has_not!(RegistryValue: std::fmt::Debug, std::fmt::Display, serde::Serialize, Clone);
crate::assert_has_not!(TlsValue: std::fmt::Debug, std::fmt::Display, serde::Serialize, Clone);
crate::assert_has_not!(WebhookValue: std::fmt::Debug, std::fmt::Display, serde::Serialize, Clone);

impl CredentialValue {
    /// The kind of credential that it is a value of.
    #[must_use]
    pub const fn kind(&self) -> CredentialKind {
        match self {
            Self::Bytes(_) | Self::Data(_) => CredentialKind::Secret,
            Self::Registry(_) => CredentialKind::Registry,
            Self::Tls(_) => CredentialKind::Tls,
            Self::Webhook(_) => CredentialKind::Webhook,
        }
    }

    /// Everything that is wrong, besides what needs to understand certificates.
    #[must_use]
    pub fn faults(&self) -> Vec<FieldFault> {
        let mut faults = Vec::new();
        let mut unless = |fine: bool, field: &str, message: String| {
            if !fine {
                faults.push(FieldFault { field: field.to_owned(), message });
            }
        };
        match self {
            Self::Bytes(_) => {}
            Self::Data(text) => {
                if let Err(e) = json::check_object(text.reveal()) {
                    unless(false, "data", e.to_string());
                }
            }
            Self::Registry(login) => {
                if let Err(message) = registry::host_of_server(&login.server) {
                    unless(false, "registry.server", message.to_owned());
                }
                let fine = is_line(&login.username) && !login.username.reveal().contains(&b':');
                unless(
                    fine,
                    "registry.username",
                    "must be one line of text, not empty, without ':'".to_owned(),
                );
                unless(is_line(&login.password), "registry.password", ONE_LINE.to_owned());
            }
            Self::Tls(pair) => {
                let fine = |pem: &Secret| is_text(pem) && pem.size_bytes() > 0;
                unless(fine(&pair.certificate), "tls.certificate", "must be PEM".to_owned());
                unless(fine(&pair.private_key), "tls.private_key", "must be PEM".to_owned());
            }
            Self::Webhook(hook) => {
                let url = hook.url.reveal();
                let fine = (url.starts_with(b"https://") && url.len() > 8)
                    || (url.starts_with(b"http://") && url.len() > 7);
                let fine = fine && url.iter().all(u8::is_ascii_graphic);
                unless(fine, "webhook.url", "must be an http or https URL".to_owned());
                let signed = hook.secret.as_ref().is_none_or(is_line);
                unless(signed, "webhook.secret", ONE_LINE.to_owned());
            }
        }
        let field = match self {
            Self::Bytes(_) => "value",
            Self::Data(_) => "data",
            Self::Registry(_) => "registry",
            Self::Tls(_) => "tls",
            Self::Webhook(_) => "webhook",
        };
        let most = format!("must have at most {VALUE_MAX_BYTES} bytes");
        unless(self.least_bytes() <= VALUE_MAX_BYTES, field, most);
        faults
    }

    /// How many bytes it has at the least, before anything is added around its parts.
    fn least_bytes(&self) -> usize {
        match self {
            Self::Bytes(bytes) | Self::Data(bytes) => bytes.size_bytes(),
            Self::Registry(login) => {
                login.server.len() + login.username.size_bytes() + login.password.size_bytes()
            }
            Self::Tls(pair) => pair.certificate.size_bytes() + pair.private_key.size_bytes(),
            Self::Webhook(hook) => hook.url.size_bytes() + hook.secret.as_ref().map_or(0, Secret::size_bytes),
        }
    }

    /// The value as it is sealed, and how it is to be read. Kinds with parts become a JSON
    /// object with a member for each, so that a use can ask for one by its key.
    ///
    /// # Errors
    /// When a part is no text, which [`CredentialValue::faults`] would have said.
    pub fn into_plain(self) -> Result<(Form, Secret), serde_json::Error> {
        match self {
            Self::Bytes(bytes) => Ok((Form::Bytes, bytes)),
            Self::Data(text) => Ok((Form::Json, text)),
            Self::Registry(RegistryValue { server, username, password }) => parts(&[
                ("server", server.as_bytes()),
                ("username", username.reveal()),
                ("password", password.reveal()),
            ]),
            Self::Tls(TlsValue { certificate, private_key }) => {
                parts(&[("certificate", certificate.reveal()), ("private_key", private_key.reveal())])
            }
            Self::Webhook(WebhookValue { url, secret }) => {
                let mut members = vec![("url", url.reveal())];
                members.extend(secret.as_ref().map(|secret| ("secret", secret.reveal())));
                parts(&members)
            }
        }
    }
}

const ONE_LINE: &str = "must be one line of text, not empty";

fn is_text(secret: &Secret) -> bool {
    std::str::from_utf8(secret.reveal()).is_ok_and(|text| !text.contains('\0'))
}

fn is_line(secret: &Secret) -> bool {
    secret.size_bytes() > 0 && is_text(secret) && !secret.reveal().iter().any(|b| matches!(b, b'\n' | b'\r'))
}

/// A JSON object of texts, in a buffer that is large enough from the start: one that
/// grows leaves copies behind.
fn parts(members: &[(&'static str, &[u8])]) -> Result<(Form, Secret), serde_json::Error> {
    // A byte becomes six at most, as `\u0000`.
    let room = members.iter().map(|(name, text)| name.len() + text.len() * 6 + 8).sum::<usize>() + 2;
    let mut buffer = Zeroizing::new(Vec::with_capacity(room));
    let mut serializer = serde_json::Serializer::new(&mut *buffer);
    let mut object = serializer.serialize_struct("parts", members.len())?;
    for (name, text) in members {
        let text = std::str::from_utf8(text).map_err(serde::ser::Error::custom)?;
        object.serialize_field(name, text)?;
    }
    object.end()?;
    Ok((Form::Json, Secret::from_zeroizing(buffer)))
}

#[cfg(test)]
mod tests {
    use super::{super::select::select, *};

    fn secret(text: &str) -> Secret {
        Secret::copy_of(text.as_bytes())
    }

    fn login(server: &str, username: &str, password: &str) -> CredentialValue {
        let (username, password) = (secret(username), secret(password));
        CredentialValue::Registry(RegistryValue { server: server.into(), username, password })
    }

    fn fields(value: &CredentialValue) -> Vec<String> {
        value.faults().into_iter().map(|fault| fault.field).collect()
    }

    #[test]
    fn every_part_of_a_value_is_selected_byte_for_byte() {
        let (form, plain) = login("ghcr.io", "bot", "pa\"$$\\ é").into_plain().unwrap();
        for (key, part) in [("server", "ghcr.io"), ("username", "bot"), ("password", "pa\"$$\\ é")] {
            assert_eq!(select(form, &plain, Some(key)).unwrap().reveal(), part.as_bytes());
        }
        let hook = WebhookValue { url: secret("https://hooks.example/x"), secret: Some(secret("s")) };
        let (form, plain) = CredentialValue::Webhook(hook).into_plain().unwrap();
        assert_eq!(select(form, &plain, Some("secret")).unwrap().reveal(), b"s");
        let (form, plain) = CredentialValue::Bytes(Secret::copy_of(b"\xff\0\n")).into_plain().unwrap();
        assert_eq!((form, plain.reveal()), (Form::Bytes, &b"\xff\0\n"[..]));
        let data = " {\"b\": 1.0, \"a\" : 2}\n";
        let (form, plain) = CredentialValue::Data(secret(data)).into_plain().unwrap();
        assert_eq!((form, plain.reveal()), (Form::Json, data.as_bytes()));
    }

    #[test]
    fn faults_name_the_part_and_never_show_it() {
        assert!(fields(&login("ghcr.io", "bot", "x")).is_empty());
        let wrong = login("hunter2 hunter2", "hunter2:", "hunter2\n");
        assert_eq!(fields(&wrong), ["registry.server", "registry.username", "registry.password"]);
        assert!(wrong.faults().iter().all(|fault| !fault.message.contains("hunter2")));
        let hook = |url: &str| CredentialValue::Webhook(WebhookValue { url: secret(url), secret: None });
        assert!(fields(&hook("https://a")).is_empty());
        for bad in ["", "https://", "ftp://a", "https://a b", "https://ä"] {
            assert_eq!(fields(&hook(bad)), ["webhook.url"], "{bad}");
        }
        let pair = TlsValue { certificate: secret(""), private_key: Secret::copy_of(b"\xff") };
        assert_eq!(fields(&CredentialValue::Tls(pair)), ["tls.certificate", "tls.private_key"]);
        assert_eq!(fields(&CredentialValue::Data(secret("[]"))), ["data"]);
    }

    #[test]
    fn a_value_may_be_empty_and_have_256_kib_and_no_byte_more() {
        for length in [0, 1, VALUE_MAX_BYTES] {
            assert!(fields(&CredentialValue::Bytes(Secret::new(vec![0; length]))).is_empty());
        }
        assert_eq!(fields(&CredentialValue::Bytes(Secret::new(vec![0; VALUE_MAX_BYTES + 1]))), ["value"]);
    }
}
