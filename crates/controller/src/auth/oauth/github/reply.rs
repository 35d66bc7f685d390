//! What GitHub answers. Only what is used is read; none of it is trusted to be there.

use reqwest::header::HeaderMap;
use serde::Deserialize;

use super::super::fault::Fault;

/// Longest name and address that are taken.
const TEXT_MAX: usize = 320;
/// What of an unknown error goes into the log, in characters.
const ERROR_MAX: usize = 64;

/// `/user`.
#[derive(Debug, Deserialize, PartialEq, Eq)]
pub(super) struct User {
    /// Never changes.
    pub id: u64,
    /// Does.
    pub login: String,
    /// The one that is public, which GitHub has verified.
    pub email: Option<String>,
}

impl User {
    pub(super) fn read(body: &[u8]) -> Result<Self, Fault> {
        let mut user: Self =
            serde_json::from_slice(body).map_err(|_| Fault::Nonsense("the user is not one"))?;
        let fits = (1..=TEXT_MAX).contains(&user.login.len()) && !user.login.contains(char::is_control);
        if user.id == 0 || !fits || matches!(user.login.as_str(), "." | "..") {
            return Err(Fault::Nonsense("the user has no id or login"));
        }
        user.email = user.email.filter(|email| is_mail(email));
        Ok(user)
    }
}

/// One of `/user/emails`.
#[derive(Deserialize)]
pub(super) struct Mail {
    email: String,
    primary: bool,
    verified: bool,
}

impl Mail {
    /// The primary address, if it is verified.
    pub(super) fn primary_verified(body: &[u8]) -> Result<Option<String>, Fault> {
        let mails: Vec<Self> =
            serde_json::from_slice(body).map_err(|_| Fault::Nonsense("the addresses are not a list"))?;
        let good = mails.into_iter().find(|mail| mail.primary && mail.verified && is_mail(&mail.email));
        Ok(good.map(|mail| mail.email))
    }
}

/// A membership of an organisation or team.
#[derive(Deserialize)]
pub(super) struct Membership {
    state: String,
}

impl Membership {
    pub(super) fn is_active(body: &[u8]) -> Result<bool, Fault> {
        let membership: Self =
            serde_json::from_slice(body).map_err(|_| Fault::Nonsense("the membership is not one"))?;
        Ok(membership.state == "active")
    }
}

fn is_mail(text: &str) -> bool {
    text.len() <= TEXT_MAX && text.contains('@') && !text.contains(char::is_control)
}

/// Whether an answer is an error, whatever its status says.
pub(super) fn is_error(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Said {
        error: Option<serde::de::IgnoredAny>,
    }
    serde_json::from_slice::<Said>(body).is_ok_and(|said| said.error.is_some())
}

/// What an error about a code means.
pub(super) fn token_fault(error: &str) -> Fault {
    let error: String = error.chars().take(ERROR_MAX).collect();
    match error.as_str() {
        "bad_verification_code" | "invalid_grant" => Fault::Code(error),
        "unverified_user_email" => Fault::NoVerifiedMail,
        _ => Fault::Misconfigured(error),
    }
}

/// Whether it says no only because it was asked too often.
pub(super) fn is_rate_limited(headers: &HeaderMap) -> bool {
    headers.contains_key("retry-after")
        || headers.get("x-ratelimit-remaining").is_some_and(|left| left == "0")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_user_is_an_id_and_a_login_and_perhaps_an_address() {
        let user = |text: &str| User::read(text.as_bytes()).ok();
        let full = user(r#"{"id":7,"login":"anna","email":"a@b.example","name":"Anna","x":[1]}"#).unwrap();
        assert_eq!((full.id, full.email.as_deref()), (7, Some("a@b.example")));
        for without in [
            r#"{"id":7,"login":"anna"}"#,
            r#"{"id":7,"login":"anna","email":null}"#,
            r#"{"id":7,"login":"anna","email":""}"#,
        ] {
            assert_eq!(user(without).unwrap().email, None, "{without}");
        }
        for bad in [
            "",
            "[]",
            "{}",
            r#"{"id":"7","login":"anna"}"#,
            r#"{"id":7,"login":""}"#,
            r#"{"id":0,"login":"a"}"#,
            r#"{"id":-7,"login":"a"}"#,
            r#"{"id":7,"login":".."}"#,
            r#"{"id":7,"login":"a\n"}"#,
        ] {
            assert_eq!(user(bad), None, "{bad}");
        }
    }

    #[test]
    fn only_the_primary_address_counts_and_only_if_it_is_verified() {
        let mail = |text: &str| Mail::primary_verified(text.as_bytes()).unwrap();
        let two = r#"[{"email":"x@y","primary":false,"verified":true},{"email":"a@b","primary":true,"verified":true}]"#;
        assert_eq!(mail(two).as_deref(), Some("a@b"));
        assert_eq!(
            mail(&two.replace(r#""primary":true,"verified":true"#, r#""primary":true,"verified":false"#)),
            None
        );
        assert_eq!(mail("[]"), None);
        assert!(Mail::primary_verified(b"{}").is_err());
    }

    #[test]
    fn an_invitation_is_no_membership() {
        assert!(Membership::is_active(br#"{"state":"active","role":"member"}"#).unwrap());
        assert!(!Membership::is_active(br#"{"state":"pending"}"#).unwrap());
        assert!(Membership::is_active(b"{}").is_err());
    }

    #[test]
    fn an_error_is_seen_in_an_answer_that_says_it_is_fine() {
        assert!(is_error(br#"{"error":"bad_verification_code","error_description":"x"}"#));
        assert!(!is_error(br#"{"access_token":"x","token_type":"bearer"}"#));
        assert!(!is_error(b"error=bad_verification_code"));
        assert!(matches!(token_fault("bad_verification_code"), Fault::Code(_)));
        assert!(matches!(token_fault("incorrect_client_credentials"), Fault::Misconfigured(_)));
    }

    proptest! {
        #[test]
        fn no_answer_panics(body in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = (User::read(&body), Mail::primary_verified(&body), Membership::is_active(&body), is_error(&body));
        }
    }
}
