//! Access tokens of signed-in accounts: JWTs, signed with Ed25519.
//!
//! A token names an account and its session, and is good until it expires; whether
//! the session still is, only the store knows, and the caller asks it each time.
//! The claims are `iss`, `aud`, `sub` (account), `sid` (session), `iat`, `exp` and
//! `jti`; the header names the key by `kid`. Several keys may be known, so that a
//! key can be changed without ending every session: only the current one signs.
//!
//! Verification leaves nothing to the token: the algorithm is EdDSA whatever the
//! header says, the key is one of ours whatever the header offers, issuer and
//! audience are exactly ours, and the clock is the caller's.

use std::{collections::BTreeMap, time::Duration};

use domain::{
    Timestamp,
    id::{SessionId, UserId},
};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use ring::{
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair},
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{jwt_ring, token};

/// Who tokens are for.
pub const AUDIENCE: &str = "automator67-api";
/// How far the clock of the controller that issued a token may be ahead of ours.
/// It does not lengthen the life of a token.
const LEEWAY: Duration = Duration::from_secs(60);
/// A longer text is not looked at; ours have some 450 bytes.
const TOKEN_MAX_BYTES: usize = 4_096;

/// Why a token is not accepted. None of them says anything of the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwtError {
    /// Not a token of ours in form: not a JWT, another algorithm, a claim missing
    /// or of the wrong kind.
    #[error("read the access token")]
    Malformed,
    /// No key of ours has the id that it names.
    #[error("verify the access token: it is signed with an unknown key")]
    UnknownKey,
    /// It is not signed by the key that it names.
    #[error("verify the access token: its signature is wrong")]
    Signature,
    /// It is from or for somebody else.
    #[error("accept the access token: it is not from this fleet or not for its API")]
    Foreign,
    /// It has expired.
    #[error("accept the access token: it has expired")]
    Expired,
    /// It is from the future.
    #[error("accept the access token: it is not valid yet")]
    NotYetValid,
}

/// Why a key or a token could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SigningError {
    /// The operating system gave no random bytes.
    #[error("get random bytes")]
    Random,
    /// The stored key is not one.
    #[error("load the signing key: it is not an Ed25519 key")]
    Key,
    /// The library refused, or the times do not fit.
    #[error("sign an access token")]
    Sign,
}

/// A key that was just made, to be kept: the private part sealed.
pub struct NewKey {
    /// Names the key; derived from the public part.
    pub kid: String,
    /// The public part, 32 bytes.
    pub public_key: Vec<u8>,
    /// The private part, PKCS #8.
    pub private_key: Zeroizing<Vec<u8>>,
}

impl NewKey {
    /// Makes a key.
    ///
    /// # Errors
    /// [`SigningError::Random`]; in practice it never comes.
    pub fn generate() -> Result<Self, SigningError> {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| SigningError::Random)?;
        let private_key = Zeroizing::new(pkcs8.as_ref().to_vec());
        let public_key = public_key_of(&private_key)?;
        Ok(Self { kid: kid(&public_key), public_key, private_key })
    }
}

fn public_key_of(pkcs8: &[u8]) -> Result<Vec<u8>, SigningError> {
    let pair = Ed25519KeyPair::from_pkcs8(pkcs8).map_err(|_| SigningError::Key)?;
    Ok(pair.public_key().as_ref().to_vec())
}

/// The first 16 digits of the public key's SHA-256.
fn kid(public_key: &[u8]) -> String {
    token::hex(&token::sha256_of(public_key)).chars().take(16).collect()
}

/// What is in a token.
#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: Uuid,
    sid: Uuid,
    iat: i64,
    exp: i64,
    jti: Uuid,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nbf: Option<i64>,
}

/// A token that was just issued.
pub struct Issued {
    /// The token itself, a secret.
    pub token: Zeroizing<String>,
    /// When it expires, in whole seconds.
    pub expires_at: Timestamp,
}

/// A key as it is shown to whoever wants to verify tokens himself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    /// In the header of every token that it signed.
    pub kid: String,
    /// Raw Ed25519, 32 bytes.
    pub public_key: Vec<u8>,
}

/// A key that signed before, and is still believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OlderKey {
    /// Raw Ed25519, 32 bytes.
    pub public_key: Vec<u8>,
    /// Until when, if that is known.
    pub retires_at: Option<Timestamp>,
}

/// What a verified token says. Ask the store whether the session still is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Whose it is.
    pub account: UserId,
    /// The session that it belongs to.
    pub session: SessionId,
    /// When it stops being good: it expires, or its key is retired.
    pub expires_at: Timestamp,
}

struct Known {
    key: DecodingKey,
    public_key: Vec<u8>,
    retires_at: Option<Timestamp>,
}

impl Known {
    fn new(OlderKey { public_key, retires_at }: OlderKey) -> (String, Self) {
        (kid(&public_key), Self { key: DecodingKey::from_ed_der(&public_key), public_key, retires_at })
    }

    fn is_believed(&self, now: Timestamp) -> bool {
        self.retires_at.is_none_or(|at| now < at)
    }
}

/// The keys of a fleet: one that signs, and all that are still believed.
pub struct SigningKeys {
    issuer: String,
    header: Header,
    signing: EncodingKey,
    verifying: BTreeMap<String, Known>,
    validation: Validation,
}

impl SigningKeys {
    /// Takes up the current private key (PKCS #8), and the keys that older tokens may
    /// still be signed with. `issuer` is what makes tokens of this fleet
    /// its own; the same for all its controllers.
    ///
    /// # Errors
    /// [`SigningError::Key`].
    pub fn new(
        issuer: impl Into<String>,
        current: &[u8],
        older: impl IntoIterator<Item = OlderKey>,
    ) -> Result<Self, SigningError> {
        jwt_ring::install();
        let current_public = public_key_of(current)?;
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some(kid(&current_public));
        let current_key = OlderKey { public_key: current_public, retires_at: None };
        let verifying = older.into_iter().chain([current_key]).map(Known::new).collect();
        let (issuer, signing) = (issuer.into(), EncodingKey::from_ed_der(current));
        let validation = validation(&issuer);
        Ok(Self { issuer, header, signing, verifying, validation })
    }

    /// The keys whose tokens are believed now, for others to see.
    #[must_use]
    pub fn public_keys(&self, now: Timestamp) -> Vec<PublicKey> {
        let believed = self.verifying.iter().filter(|(_, known)| known.is_believed(now));
        let shown =
            believed.map(|(kid, known)| PublicKey { kid: kid.clone(), public_key: known.public_key.clone() });
        shown.collect()
    }

    /// Issues a token for a session.
    ///
    /// # Errors
    /// [`SigningError::Sign`] when `lifetime` is out of all reason.
    pub fn issue(
        &self,
        account: UserId,
        session: SessionId,
        lifetime: Duration,
        now: Timestamp,
    ) -> Result<Issued, SigningError> {
        let iat = now.timestamp();
        let seconds = i64::try_from(lifetime.as_secs()).map_err(|_| SigningError::Sign)?;
        let exp = iat.checked_add(seconds).ok_or(SigningError::Sign)?;
        let expires_at = Timestamp::from_timestamp(exp, 0).ok_or(SigningError::Sign)?;
        let claims = Claims {
            iss: self.issuer.clone(),
            aud: AUDIENCE.to_owned(),
            sub: account.uuid(),
            sid: session.uuid(),
            iat,
            exp,
            jti: Uuid::new_v4(),
            nbf: None,
        };
        let token =
            jsonwebtoken::encode(&self.header, &claims, &self.signing).map_err(|_| SigningError::Sign)?;
        Ok(Issued { token: Zeroizing::new(token), expires_at })
    }

    /// Verifies a token: it is ours, unchanged, and of now.
    ///
    /// # Errors
    /// See [`JwtError`].
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<Verified, JwtError> {
        if token.len() > TOKEN_MAX_BYTES {
            return Err(JwtError::Malformed);
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| JwtError::Malformed)?;
        if header.alg != Algorithm::EdDSA || header.typ.as_deref() != Some("JWT") || header.crit.is_some() {
            return Err(JwtError::Malformed);
        }
        let known = header.kid.as_deref().and_then(|kid| self.verifying.get(kid));
        let known = known.filter(|known| known.is_believed(now)).ok_or(JwtError::UnknownKey)?;
        let claims: Claims =
            jsonwebtoken::decode(token, &known.key, &self.validation).map_err(fault_of)?.claims;
        let verified = self.accept(&claims, now)?;
        let expires_at = known.retires_at.map_or(verified.expires_at, |at| at.min(verified.expires_at));
        Ok(Verified { expires_at, ..verified })
    }

    fn accept(&self, claims: &Claims, now: Timestamp) -> Result<Verified, JwtError> {
        if claims.iss != self.issuer || claims.aud != AUDIENCE {
            return Err(JwtError::Foreign);
        }
        let at = |seconds| Timestamp::from_timestamp(seconds, 0).ok_or(JwtError::Malformed);
        let (issued_at, expires_at) = (at(claims.iat)?, at(claims.exp)?);
        let begins_at = claims.nbf.map(at).transpose()?.map_or(issued_at, |begins| begins.max(issued_at));
        if now >= expires_at {
            return Err(JwtError::Expired);
        }
        if begins_at.signed_duration_since(now).to_std().is_ok_and(|ahead| ahead > LEEWAY) {
            return Err(JwtError::NotYetValid);
        }
        Ok(Verified { account: claims.sub.into(), session: claims.sid.into(), expires_at })
    }
}

/// What the library checks. The clock it would use is the system's, so times are
/// checked here.
fn validation(issuer: &str) -> Validation {
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    validation.set_issuer(&[issuer]);
    validation.set_audience(&[AUDIENCE]);
    validation.validate_exp = false;
    validation
}

fn fault_of(error: jsonwebtoken::errors::Error) -> JwtError {
    use jsonwebtoken::errors::ErrorKind;
    match error.kind() {
        ErrorKind::InvalidSignature => JwtError::Signature,
        ErrorKind::InvalidIssuer | ErrorKind::InvalidAudience => JwtError::Foreign,
        _ => JwtError::Malformed,
    }
}

#[cfg(test)]
mod tests;
