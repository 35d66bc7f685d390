//! Which values can be variables.

use domain::{
    secret::Secret,
    spec::{SecretTarget, SecretUse},
};
use zeroize::Zeroizing;

/// Most bytes of a variable: `NAME=value` and the zero behind it, as Linux takes them
/// (`MAX_ARG_STRLEN`).
const VARIABLE_MAX_BYTES: usize = 128 * 1024;

/// The variables of a container, or which one cannot be. Says nothing of its value.
pub(super) fn of(
    secrets: &[SecretUse],
    values: &[Secret],
) -> Result<Vec<(String, Zeroizing<String>)>, String> {
    let mut variables = Vec::new();
    for (secret, value) in secrets.iter().zip(values) {
        let SecretTarget::Env { name } = &secret.target else { continue };
        let unfit = |why: &str| {
            let version =
                secret.resolved.as_ref().map(|r| format!(" version {}", r.version)).unwrap_or_default();
            format!(
                "credential {}{version} cannot be the variable {name}: {why}; a file can hold it",
                secret.credential
            )
        };
        let bytes = value.reveal();
        if name.len() + bytes.len() + 2 > VARIABLE_MAX_BYTES {
            return Err(unfit("it is longer than a variable can be (128 KiB)"));
        }
        if bytes.contains(&0) {
            return Err(unfit("it has a NUL character"));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| unfit("it is no UTF-8 text"))?;
        variables.push((name.clone(), Zeroizing::new(text.to_owned())));
    }
    Ok(variables)
}

#[cfg(test)]
mod tests {
    use domain::{name::Name, spec::Resolved};
    use uuid::Uuid;

    use super::*;

    fn env(name: &str) -> SecretUse {
        let resolved = Some(Resolved::new(Uuid::nil().into(), 2));
        let target = SecretTarget::Env { name: name.into() };
        SecretUse { credential: Name::nearest("key"), key: None, version: None, target, resolved }
    }

    #[test]
    fn texts_of_any_kind_arrive_as_they_are() {
        let fits = "x".repeat(VARIABLE_MAX_BYTES - "KEY".len() - 2);
        for text in ["", "a\n", "$HOME ${X} $$", "ü=\"'\\", fits.as_str()] {
            let made = of(&[env("KEY")], &[Secret::copy_of(text.as_bytes())]).unwrap();
            assert!(made.len() == 1 && made[0].0 == "KEY" && made[0].1.as_str() == text);
        }
    }

    #[test]
    fn what_no_variable_can_hold_is_refused_by_the_name_of_its_use_and_not_shown() {
        let long = "hunter2".repeat(20_000);
        for (value, why) in
            [(&b"hunter2\xff"[..], "no UTF-8"), (b"hunter2\0", "NUL"), (long.as_bytes(), "128 KiB")]
        {
            let said = of(&[env("KEY")], &[Secret::copy_of(value)]).unwrap_err();
            assert!(
                said.contains("credential key version 2") && said.contains("KEY") && said.contains(why),
                "{said}"
            );
            assert!(!said.contains("hunter2"), "{said}");
        }
        let file = SecretUse { target: SecretTarget::file("/a"), ..env("KEY") };
        assert!(of(&[file], &[Secret::copy_of(b"\0\xff")]).unwrap().is_empty());
    }
}
