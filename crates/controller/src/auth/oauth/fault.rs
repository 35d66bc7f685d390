//! Why a sign-in at a provider ended, as the person in front of the browser is told.

use crate::error::Error;

type Source = Box<dyn std::error::Error + Send + Sync>;

/// Why it ended. Sources go only to the log.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// That one said no at the provider.
    #[error("the sign-in was denied at the provider")]
    Denied,
    /// It did not begin in this browser, is over, or took too long.
    #[error("the state is missing, unknown, of another browser, used up or expired")]
    State,
    /// The provider does not know the code (any more).
    #[error("the provider refused the code: {0:?}")]
    Code(String),
    /// No address is verified there.
    #[error("no address is verified at the provider")]
    NoVerifiedMail,
    /// No list has that one.
    #[error("no list allows it")]
    NotAllowed,
    /// There is no account, and none may be made.
    #[error("there is no account, and none may be made")]
    Unknown,
    /// The account is disabled.
    #[error("the account is disabled")]
    Disabled,
    /// The sign-in in which the link was asked for is over.
    #[error("the session that asked for the link is over")]
    SignedOut,
    /// It belongs to another account than the one that is to be linked.
    #[error("it belongs to another account")]
    OfAnother,
    /// The account that is to be linked is linked to another one.
    #[error("the account is linked to another identity of this provider")]
    HasAnother,
    /// The provider refuses us.
    #[error("the provider refused this controller: {0:?}")]
    Misconfigured(String),
    /// The provider said what nobody understands.
    #[error("the provider's answer cannot be understood: {0}")]
    Nonsense(&'static str),
    /// The provider cannot be reached, or has a fault.
    #[error("the provider is not available")]
    Away(#[source] Source),
    /// The provider takes too long.
    #[error("the provider did not answer in time")]
    Slow,
    /// Something here.
    #[error(transparent)]
    Own(#[from] Error),
}

/// What is shown of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The HTTP status.
    pub status: u16,
    /// Stable; for programs and for records.
    pub code: &'static str,
    /// What happened.
    pub title: &'static str,
    /// What to do.
    pub advice: &'static str,
}

impl Fault {
    /// Whether somebody was turned away, rather than something being broken.
    #[must_use]
    pub const fn is_refusal(&self) -> bool {
        !matches!(
            self,
            Self::Misconfigured(_) | Self::Nonsense(_) | Self::Away(_) | Self::Slow | Self::Own(_)
        )
    }

    /// What to show. The only table of it; no wildcard, so that a new one is decided.
    #[must_use]
    pub fn shown(&self) -> Shown {
        let show = |status, code, title, advice| Shown { status, code, title, advice };
        match self {
            Self::Denied => show(
                403,
                "denied_at_provider",
                "The sign-in was cancelled",
                "Sign in again, and let GitHub tell who you are when it asks.",
            ),
            Self::State => show(
                400,
                "bad_state",
                "This sign-in cannot be finished here",
                "It was begun in another browser, was finished already, or took more than ten minutes. Sign in again in this browser, with cookies allowed.",
            ),
            Self::Code(_) => {
                show(400, "code_refused", "GitHub does not accept this sign-in any more", "Sign in again.")
            }
            Self::NoVerifiedMail => show(
                403,
                "no_verified_mail",
                "GitHub has no verified mail address of you",
                "Verify your primary mail address in your settings at GitHub, then sign in again.",
            ),
            Self::NotAllowed => show(
                403,
                "not_allowed",
                "Your GitHub account has no access here",
                "Ask an administrator. If your organization restricts third-party applications, it must approve this one first.",
            ),
            Self::Unknown => show(
                403,
                "no_account",
                "There is no account for you here",
                "Ask an administrator for one. If you have one already, sign in with its password and link GitHub to it.",
            ),
            Self::Disabled => {
                show(403, "account_disabled", "Your account is disabled", "Ask an administrator.")
            }
            Self::SignedOut => show(
                403,
                "signed_out",
                "You are not signed in any more",
                "Nothing was linked. Sign in, then link GitHub again.",
            ),
            Self::OfAnother => show(
                409,
                "linked_elsewhere",
                "This GitHub account belongs to another account here",
                "Sign in to that account and remove the link there, or sign in to GitHub as somebody else.",
            ),
            Self::HasAnother => show(
                409,
                "has_another_link",
                "Your account is linked to another GitHub account",
                "Remove that link first, then link this one.",
            ),
            Self::Misconfigured(_) => show(
                502,
                "provider_misconfigured",
                "GitHub does not accept this controller",
                "Nothing was changed. Ask an administrator to check github_client_id, github_client_secret and the callback address at GitHub.",
            ),
            Self::Nonsense(_) => show(
                502,
                "provider_answer",
                "GitHub gave an answer that is not understood",
                "Nothing was changed. Sign in again in a minute; if that does not help, tell an administrator the request id.",
            ),
            Self::Away(_) => show(
                502,
                "provider_unavailable",
                "GitHub cannot be reached",
                "Nothing was changed. Sign in again in a minute, or with your password if you have one.",
            ),
            Self::Slow => show(
                504,
                "provider_timeout",
                "GitHub does not answer in time",
                "Nothing was changed. Sign in again in a minute, or with your password if you have one.",
            ),
            Self::Own(error) => match error.kind().codes().0 {
                503 => show(
                    503,
                    error.code(),
                    "The controller cannot work at the moment",
                    "Nothing was changed. Sign in again in a minute.",
                ),
                429 => show(
                    429,
                    error.code(),
                    "There are too many sign-ins at the moment",
                    "Nothing was changed. Sign in again in a minute.",
                ),
                404 => show(
                    404,
                    error.code(),
                    "Signing in with GitHub is not set up here",
                    "Sign in with your password.",
                ),
                _ => show(
                    500,
                    "internal",
                    "Something is wrong in the controller",
                    "Nothing was changed. Tell an administrator the request id.",
                ),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_provider_said_and_what_went_wrong_here_is_never_shown() {
        let faults = [
            Fault::Code("hunter2".into()),
            Fault::Misconfigured("hunter2".into()),
            Fault::Away("hunter2".into()),
            Fault::Own(Error::internal("hunter2")),
        ];
        for fault in faults {
            assert!(!format!("{:?}", fault.shown()).contains("hunter2"));
        }
    }

    #[test]
    fn refusals_are_of_the_4xx_and_faults_of_the_5xx() {
        for fault in [Fault::Denied, Fault::State, Fault::NotAllowed, Fault::OfAnother, Fault::Disabled] {
            assert!(fault.is_refusal() && (400..500).contains(&fault.shown().status), "{fault}");
        }
        for fault in [Fault::Slow, Fault::Nonsense("x"), Fault::Away("x".into())] {
            assert!(!fault.is_refusal() && (500..600).contains(&fault.shown().status), "{fault}");
        }
    }
}
