use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use proptest::prelude::*;
use ring::hmac;
use serde_json::{Value, json};

use super::*;

const ISSUER: &str = "automator67:0195c1a8-7c1e-7000-8000-0123456789ab";
const DAY: Duration = Duration::from_secs(86_400);

fn now() -> Timestamp {
    "2026-03-01T12:00:00.75Z".parse().unwrap()
}

fn account() -> UserId {
    "0195c1a8-7c1e-7000-8000-0000000000aa".parse().unwrap()
}

fn session() -> SessionId {
    "0195c1a8-7c1e-7000-8000-0000000000bb".parse().unwrap()
}

/// A fleet's keys and the private one, for making tokens that are not quite right.
struct Fleet {
    key: NewKey,
    keys: SigningKeys,
}

impl Fleet {
    fn new() -> Self {
        let key = NewKey::generate().unwrap();
        let keys = SigningKeys::new(ISSUER, &key.private_key, []).unwrap();
        Self { key, keys }
    }

    fn token(&self) -> String {
        self.keys.issue(account(), session(), DAY, now()).unwrap().token.to_string()
    }

    fn verify(&self, token: &str) -> Result<Verified, JwtError> {
        self.keys.verify(token, now())
    }

    fn header(&self) -> Value {
        json!({"typ": "JWT", "alg": "EdDSA", "kid": self.key.kid})
    }

    /// A token with any header and claims, rightly signed by this fleet.
    fn signed(&self, header: &Value, claims: &Value) -> String {
        let message = message(header, claims);
        let pair = Ed25519KeyPair::from_pkcs8(&self.key.private_key).unwrap();
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(pair.sign(message.as_bytes())))
    }

    /// A token in which one claim is another or, with `null`, missing.
    fn with_claim(&self, name: &str, value: Value) -> String {
        let mut claims = claims();
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        } else {
            claims[name] = value;
        }
        self.signed(&self.header(), &claims)
    }
}

fn claims() -> Value {
    let iat = now().timestamp();
    json!({
        "iss": ISSUER, "aud": AUDIENCE, "sub": account().uuid(), "sid": session().uuid(),
        "iat": iat, "exp": iat + 86_400, "jti": Uuid::nil(),
    })
}

fn message(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", part(header), part(claims))
}

#[test]
fn a_token_says_whose_it_is_until_it_expires() {
    let fleet = Fleet::new();
    let issued = fleet.keys.issue(account(), session(), DAY, now()).unwrap();
    let verified = fleet.verify(&issued.token).unwrap();
    assert_eq!(verified, Verified { account: account(), session: session(), expires_at: issued.expires_at });
    assert_eq!(issued.expires_at, "2026-03-02T12:00:00Z".parse::<Timestamp>().unwrap());

    let last = issued.expires_at - Duration::from_millis(1);
    assert!(fleet.keys.verify(&issued.token, last).is_ok());
    assert_eq!(fleet.keys.verify(&issued.token, issued.expires_at), Err(JwtError::Expired));
}

#[test]
fn a_hand_made_token_of_the_right_form_is_accepted() {
    // Otherwise the tests below would show nothing.
    let fleet = Fleet::new();
    assert!(fleet.verify(&fleet.signed(&fleet.header(), &claims())).is_ok());
}

#[test]
fn no_two_tokens_are_the_same() {
    let fleet = Fleet::new();
    assert_ne!(fleet.token(), fleet.token());
}

#[test]
fn a_token_from_a_clock_a_little_ahead_is_accepted_and_one_far_ahead_is_not() {
    let fleet = Fleet::new();
    let at = |seconds: u64| fleet.keys.issue(account(), session(), DAY, now() + Duration::from_secs(seconds));
    assert!(fleet.verify(&at(60).unwrap().token).is_ok());
    assert_eq!(fleet.verify(&at(62).unwrap().token), Err(JwtError::NotYetValid));
    let begins = |seconds| fleet.with_claim("nbf", json!(now().timestamp() + seconds));
    assert!(fleet.verify(&begins(60)).is_ok());
    assert_eq!(fleet.verify(&begins(62)), Err(JwtError::NotYetValid));
    // An earlier beginning does not excuse an issue in the future.
    let mut both = claims();
    both["nbf"] = json!(0);
    both["iat"] = json!(now().timestamp() + 3_600);
    assert_eq!(fleet.verify(&fleet.signed(&fleet.header(), &both)), Err(JwtError::NotYetValid));
}

#[test]
fn the_public_key_as_an_hmac_secret_signs_nothing() {
    let fleet = Fleet::new();
    for (algorithm, hash) in
        [("HS256", hmac::HMAC_SHA256), ("HS384", hmac::HMAC_SHA384), ("HS512", hmac::HMAC_SHA512)]
    {
        let header = json!({"typ": "JWT", "alg": algorithm, "kid": fleet.key.kid});
        let message = message(&header, &claims());
        let tag = hmac::sign(&hmac::Key::new(hash, &fleet.key.public_key), message.as_bytes());
        let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(tag));
        assert_eq!(fleet.verify(&token), Err(JwtError::Malformed), "{algorithm}");
    }
}

#[test]
fn a_token_without_a_signature_is_refused() {
    let fleet = Fleet::new();
    for algorithm in ["none", "None", "NONE", "nOnE", "EdDSA", ""] {
        let header = json!({"typ": "JWT", "alg": algorithm, "kid": fleet.key.kid});
        let message = message(&header, &claims());
        for token in [message.clone(), format!("{message}."), format!("{message}.AA")] {
            assert!(fleet.verify(&token).is_err(), "{algorithm}");
        }
    }
}

#[test]
fn other_algorithms_in_a_rightly_signed_header_are_refused() {
    let fleet = Fleet::new();
    for algorithm in ["HS256", "ES256", "RS256", "PS256", "Ed25519", "eddsa", "none"] {
        let header = json!({"typ": "JWT", "alg": algorithm, "kid": fleet.key.kid});
        assert_eq!(fleet.verify(&fleet.signed(&header, &claims())), Err(JwtError::Malformed), "{algorithm}");
    }
}

#[test]
fn a_key_that_the_token_names_or_brings_itself_is_not_believed() {
    let (fleet, other) = (Fleet::new(), Fleet::new());
    assert_eq!(fleet.verify(&other.token()), Err(JwtError::UnknownKey));
    // Their signature under our key's name.
    assert_eq!(fleet.verify(&other.signed(&fleet.header(), &claims())), Err(JwtError::Signature));
    let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode(&other.key.public_key)});
    for header in [
        json!({"typ": "JWT", "alg": "EdDSA"}),
        json!({"typ": "JWT", "alg": "EdDSA", "kid": ""}),
        json!({"typ": "JWT", "alg": "EdDSA", "kid": "../../dev/null"}),
        json!({"typ": "JWT", "alg": "EdDSA", "jwk": jwk}),
        json!({"typ": "JWT", "alg": "EdDSA", "kid": fleet.key.kid, "jwk": jwk}),
        json!({"typ": "JWT", "alg": "EdDSA", "kid": fleet.key.kid, "jku": "https://example.org/keys"}),
    ] {
        assert!(fleet.verify(&other.signed(&header, &claims())).is_err(), "{header}");
    }
}

#[test]
fn other_types_and_critical_extensions_are_refused() {
    let fleet = Fleet::new();
    for header in [
        json!({"alg": "EdDSA", "kid": fleet.key.kid}),
        json!({"typ": "at+jwt", "alg": "EdDSA", "kid": fleet.key.kid}),
        json!({"typ": "JWT", "alg": "EdDSA", "kid": fleet.key.kid, "crit": ["b64"], "b64": false}),
    ] {
        assert_eq!(fleet.verify(&fleet.signed(&header, &claims())), Err(JwtError::Malformed), "{header}");
    }
}

#[test]
fn issuer_and_audience_are_exactly_ours() {
    let fleet = Fleet::new();
    for (claim, values) in [
        ("iss", [json!("automator67"), json!(""), json!([ISSUER]), json!(null)]),
        ("aud", [json!("another-api"), json!([AUDIENCE]), json!([AUDIENCE, "another-api"]), json!(null)]),
    ] {
        for value in values {
            let verdict = fleet.verify(&fleet.with_claim(claim, value.clone()));
            assert!(matches!(verdict, Err(JwtError::Foreign | JwtError::Malformed)), "{claim} {value}");
        }
    }
}

#[test]
fn every_claim_is_needed_and_of_its_kind() {
    let fleet = Fleet::new();
    for claim in ["iss", "aud", "sub", "sid", "iat", "exp", "jti"] {
        for value in [json!(null), json!(true), json!("x"), json!({}), json!(-1e300), json!(i64::MAX)] {
            assert!(fleet.verify(&fleet.with_claim(claim, value.clone())).is_err(), "{claim} {value}");
        }
    }
}

#[test]
fn a_claim_that_is_there_twice_is_refused() {
    let fleet = Fleet::new();
    let twice = claims().to_string().replacen('{', &format!("{{\"sub\":\"{}\",", Uuid::nil()), 1);
    let message =
        format!("{}.{}", URL_SAFE_NO_PAD.encode(fleet.header().to_string()), URL_SAFE_NO_PAD.encode(twice));
    let pair = Ed25519KeyPair::from_pkcs8(&fleet.key.private_key).unwrap();
    let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(pair.sign(message.as_bytes())));
    assert_eq!(fleet.verify(&token), Err(JwtError::Malformed));
}

#[test]
fn a_changed_payload_is_refused() {
    let fleet = Fleet::new();
    let token = fleet.token();
    let parts: Vec<&str> = token.split('.').collect();
    let mut changed: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts[1]).unwrap()).unwrap();
    changed["sub"] = json!(Uuid::nil());
    let changed = format!("{}.{}.{}", parts[0], URL_SAFE_NO_PAD.encode(changed.to_string()), parts[2]);
    assert_eq!(fleet.verify(&changed), Err(JwtError::Signature));
}

#[test]
fn no_changed_character_of_a_token_goes_unnoticed() {
    let fleet = Fleet::new();
    let token = fleet.token();
    for at in 0..token.len() {
        let mut changed = token.clone().into_bytes();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        assert!(fleet.verify(&String::from_utf8(changed).unwrap()).is_err(), "character {at}");
    }
}

#[test]
fn older_keys_still_verify_and_only_the_current_one_signs() {
    let old = Fleet::new();
    let new = NewKey::generate().unwrap();
    let older = |retires_at| OlderKey { public_key: old.key.public_key.clone(), retires_at };
    let both = SigningKeys::new(ISSUER, &new.private_key, [older(None)]).unwrap();
    assert!(both.verify(&old.token(), now()).is_ok());
    let issued = both.issue(account(), session(), DAY, now()).unwrap();
    let header = jsonwebtoken::decode_header(issued.token.as_str()).unwrap();
    assert_eq!(header.kid, Some(new.kid.clone()));
    assert_eq!(old.verify(&issued.token), Err(JwtError::UnknownKey));
    // Until its moment has come, an old key is believed, and its tokens end with it.
    let retires_at = now() + Duration::from_secs(60);
    let keys = SigningKeys::new(ISSUER, &new.private_key, [older(Some(retires_at))]).unwrap();
    assert_eq!(keys.verify(&old.token(), now()).unwrap().expires_at, retires_at);
    assert_eq!(keys.verify(&old.token(), retires_at), Err(JwtError::UnknownKey));
    assert_eq!(keys.public_keys(now()).len(), 2);
    let shown = keys.public_keys(retires_at);
    assert_eq!(shown, [PublicKey { kid: new.kid.clone(), public_key: new.public_key.clone() }]);
    // Once the old key is gone its tokens end.
    let only = SigningKeys::new(ISSUER, &new.private_key, []).unwrap();
    assert_eq!(only.verify(&old.token(), now()), Err(JwtError::UnknownKey));
}

#[test]
fn keys_that_are_none_are_refused() {
    for key in [&b""[..], b"garbage"] {
        assert_eq!(SigningKeys::new(ISSUER, key, []).err(), Some(SigningError::Key));
    }
    // A public key that is none verifies nothing and does no other harm.
    let fleet = Fleet::new();
    let none = [vec![], vec![1; 31]].map(|public_key| OlderKey { public_key, retires_at: None });
    let keys = SigningKeys::new(ISSUER, &fleet.key.private_key, none).unwrap();
    assert!(keys.verify(&fleet.token(), now()).is_ok());
}

#[test]
fn senseless_lifetimes_are_refused() {
    let fleet = Fleet::new();
    for lifetime in [Duration::MAX, Duration::from_secs(u64::MAX / 4)] {
        assert_eq!(fleet.keys.issue(account(), session(), lifetime, now()).err(), Some(SigningError::Sign));
    }
}

#[test]
fn an_overlong_token_is_not_looked_at() {
    let fleet = Fleet::new();
    let mut header = fleet.header();
    header["x"] = json!("x".repeat(TOKEN_MAX_BYTES));
    assert_eq!(fleet.verify(&fleet.signed(&header, &claims())), Err(JwtError::Malformed));
}

proptest! {
    #[test]
    fn garbage_is_refused_and_never_panics(
        text in prop_oneof![".{0,200}", "[A-Za-z0-9_-]{0,60}\\.[A-Za-z0-9_-]{0,60}\\.[A-Za-z0-9_-]{0,90}"],
    ) {
        prop_assert!(Fleet::new().verify(&text).is_err());
    }

    #[test]
    fn senseless_but_signed_claims_never_panic(
        name in prop_oneof![Just("iat"), Just("exp"), Just("nbf"), Just("sub"), Just("aud")],
        number in any::<i64>(),
        float in any::<f64>(),
    ) {
        let fleet = Fleet::new();
        for value in [json!(number), json!(float), json!([number])] {
            let _ = fleet.verify(&fleet.with_claim(name, value));
        }
    }
}
