//! Where a sign-in at a provider comes from and goes to: pure, because every part of
//! it is said by a browser.

use domain::name::{NAME_MAX_BYTES, Name};
use url::{Position, Url};

/// Longest path to return to, in bytes.
const RETURN_TO_MAX_BYTES: usize = 1024;
/// Names that are tried with a number before the provider's own id goes into one.
const NUMBERED_NAMES: u32 = 9;

/// A text is no path in the UI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be a path in the UI, such as /nodes: one / at its beginning, no other host, no backslash, no control character, at most 1024 bytes, not under /api/"
)]
pub struct InvalidReturnTo;

/// Reads a path to return to, and writes it as a browser would understand it.
///
/// What a browser makes of an address is not what it looks like: it takes `\` for `/`,
/// leaves out tabs, and resolves `/.//host`. So it is resolved by the rules of browsers
/// against the UI's address, must stay there, and the result must still be a path that
/// resolves to itself.
///
/// # Errors
/// When it is anything but a path in the UI.
pub fn return_to(text: &str, public_url: &Url) -> Result<String, InvalidReturnTo> {
    let plain = text.len() <= RETURN_TO_MAX_BYTES
        && text.starts_with('/')
        && !text.starts_with("//")
        && !text.contains('\\')
        && !text.contains(char::is_control);
    if !plain {
        return Err(InvalidReturnTo);
    }
    let resolved = public_url.join(text).map_err(|_| InvalidReturnTo)?;
    let path = resolved[Position::BeforePath..].to_owned();
    let stays = resolved.origin() == public_url.origin()
        && resolved.username().is_empty()
        && !path.starts_with("//")
        && public_url.join(&path).is_ok_and(|again| again == resolved);
    let is_api = resolved.path() == "/api" || resolved.path().starts_with("/api/");
    if stays && !is_api { Ok(path) } else { Err(InvalidReturnTo) }
}

/// The UI's address for a path that [`return_to`] gave, with something for the UI to
/// know. What else there is of that name is taken out.
///
/// # Errors
/// When the path is none, because the UI's address has changed since.
pub fn landing(path: &str, public_url: &Url, (key, value): (&str, &str)) -> Result<Url, InvalidReturnTo> {
    let mut url = public_url.join(&return_to(path, public_url)?).map_err(|_| InvalidReturnTo)?;
    let others: Vec<(String, String)> =
        url.query_pairs().filter(|(name, _)| name != key).map(|(k, v)| (k.into(), v.into())).collect();
    url.query_pairs_mut().clear().extend_pairs(others).append_pair(key, value);
    Ok(url)
}

/// Names for the account of somebody who is called `login` elsewhere, to be tried in
/// this order; the last holds the id there and so is hardly ever in use.
#[must_use]
pub fn names(login: &str, subject: &str) -> Vec<String> {
    let known = login.chars().any(|c| c.is_ascii_alphanumeric());
    let base = Name::nearest(if known { login } else { "user" });
    let numbered = (2..=NUMBERED_NAMES).map(|n| with_suffix(base.as_str(), &n.to_string()));
    std::iter::once(base.to_string())
        .chain(numbered)
        .chain(std::iter::once(with_suffix(base.as_str(), subject)))
        .filter(|name| Name::parse(name.as_str()).is_ok())
        .collect()
}

fn with_suffix(base: &str, suffix: &str) -> String {
    let room = NAME_MAX_BYTES.saturating_sub(suffix.len() + 1);
    let base: String = base.chars().take(room).collect();
    format!("{}-{suffix}", base.trim_end_matches('-'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ui() -> Url {
        Url::parse("https://a67.example:8443").unwrap()
    }

    #[test]
    fn paths_in_the_ui_are_taken() {
        for (text, path) in [
            ("/", "/"),
            ("/nodes", "/nodes"),
            ("/nodes?sort=name&x=1#top", "/nodes?sort=name&x=1#top"),
            ("/a/../b", "/b"),
            ("/ä", "/%C3%A4"),
            ("/x?next=https://evil.example", "/x?next=https://evil.example"),
            ("/@evil.example", "/@evil.example"),
            ("/apis", "/apis"),
        ] {
            assert_eq!(return_to(text, &ui()).as_deref(), Ok(path), "{text}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for text in [
            "",
            "nodes",
            "//evil.example",
            "///evil.example",
            "/\\evil.example",
            "\\\\evil.example",
            "/\t/evil.example",
            "/\n/evil.example",
            "\t//evil.example",
            " //evil.example",
            "/.//evil.example",
            "/x/..//evil.example",
            "/%2e//evil.example",
            "https://evil.example",
            "https:evil.example",
            "javascript:alert(1)",
            "data:text/html,x",
            "/a\0b",
            "/a\u{85}b",
            "/api/v1/auth/me",
            "/x/../api/v1/auth/github",
            "/api",
            &format!("/{}", "a".repeat(1024)),
        ] {
            assert_eq!(return_to(text, &ui()), Err(InvalidReturnTo), "{text:?}");
        }
    }

    #[test]
    fn the_code_replaces_whatever_was_there_of_its_name() {
        let url = landing("/nodes?code=forged&a=1&code=again#x", &ui(), ("code", "a67c_x")).unwrap();
        assert_eq!(url.as_str(), "https://a67.example:8443/nodes?a=1&code=a67c_x#x");
        let url = landing("/", &ui(), ("linked", "github")).unwrap();
        assert_eq!(url.as_str(), "https://a67.example:8443/?linked=github");
    }

    #[test]
    fn a_login_becomes_a_name_with_a_number_where_needed() {
        let made = names("Octo_Cat", "583231");
        assert_eq!(made[..3], ["octo-cat", "octo-cat-2", "octo-cat-3"]);
        assert_eq!(made.last().unwrap(), "octo-cat-583231");
        assert_eq!(names("___", "1")[0], "user");
    }

    fn hostile() -> impl Strategy<Value = String> {
        let part = prop_oneof![
            Just("/".to_owned()),
            Just("//".to_owned()),
            Just("\\".to_owned()),
            Just(".".to_owned()),
            Just("..".to_owned()),
            Just("%2e".to_owned()),
            Just("%2f".to_owned()),
            Just("%5c".to_owned()),
            Just("\t".to_owned()),
            Just("\n".to_owned()),
            Just("@".to_owned()),
            Just(":".to_owned()),
            Just("?".to_owned()),
            Just("#".to_owned()),
            Just("evil.example".to_owned()),
            Just("https:".to_owned()),
            "\\PC{0,3}",
        ];
        prop::collection::vec(part, 0..8).prop_map(|parts| parts.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn what_is_taken_never_leaves_the_uis_origin(text in hostile(), rooted in any::<bool>()) {
            let text = if rooted { format!("/{text}") } else { text };
            if let Ok(path) = return_to(&text, &ui()) {
                prop_assert!(path.starts_with('/') && !path.starts_with("//"));
                let resolved = ui().join(&path).unwrap();
                prop_assert_eq!(resolved.origin(), ui().origin());
                // Also in front of another page of the UI, as a browser resolves a redirect.
                let deep = ui().join("/a/b/c?d#e").unwrap().join(&path).unwrap();
                prop_assert_eq!(deep.origin(), ui().origin());
                prop_assert_eq!(return_to(&path, &ui()), Ok(path.clone()), "taking it twice changes nothing");
                let landed = landing(&path, &ui(), ("code", "x")).unwrap();
                prop_assert_eq!(landed.origin(), ui().origin());
                prop_assert_eq!(landed.query_pairs().filter(|(k, _)| k == "code").count(), 1);
            }
        }

        #[test]
        fn every_name_is_one_and_no_two_are_the_same(login in "\\PC{0,80}", subject in 1_u64..) {
            let made = names(&login, &subject.to_string());
            prop_assert!(made.len() >= 2);
            prop_assert!(made.iter().all(|name| Name::parse(name.as_str()).is_ok()), "{:?}", made);
        }
    }
}
