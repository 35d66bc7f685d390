//! What containers are given of the vault.

use proptest::prelude::*;

use super::{
    super::{
        super::{
            id::CredentialId,
            name::{Labels, Name},
        },
        *,
    },
    any::secrets,
    fields,
};

fn used(target: SecretTarget) -> SecretUse {
    let credential = Name::parse("app-key").unwrap();
    SecretUse { credential, key: None, version: None, target, resolved: None }
}

fn env(name: &str) -> SecretUse {
    used(SecretTarget::Env { name: name.into() })
}

fn file(path: &str) -> SecretUse {
    used(SecretTarget::file(path))
}

fn of(secrets: Vec<SecretUse>) -> Vec<String> {
    fields(|spec| spec.secrets = secrets)
}

#[test]
fn files_and_variables_beside_each_other_are_fine() {
    let secrets =
        vec![env("TOKEN"), env("KEY"), file("/run/secrets/a"), file("/run/secrets/ab"), file("/etc/x")];
    assert_eq!(of(secrets), [""; 0]);
    let pinned = SecretUse { key: Some("db.password".into()), version: Some(3), ..env("DB") };
    assert_eq!(of(vec![pinned]), [""; 0]);
}

#[test]
fn each_fault_of_a_use_is_named_with_its_path() {
    let mode = |mode, uid| used(SecretTarget::File { path: "/a".into(), mode, uid, gid: 0 });
    for (secret, field) in [
        (env(""), "as.env"),
        (env("A=B"), "as.env"),
        (env("A\0"), "as.env"),
        (file("etc/key"), "as.file"),
        (file("/etc/../key"), "as.file"),
        (file("/"), "as.file"),
        (file("/proc/1/key"), "as.file"),
        (file("//sys/./key"), "as.file"),
        (file("/dev/key"), "as.file"),
        (mode(0o1000, 0), "as.mode"),
        (mode(0o400, u32::MAX), "as.uid"),
        (SecretUse { key: Some(String::new()), ..env("A") }, "key"),
        (SecretUse { key: Some("a\nb".into()), ..env("A") }, "key"),
        (SecretUse { version: Some(0), ..env("A") }, "version"),
    ] {
        assert_eq!(of(vec![secret]), [format!("secrets[0].{field}")]);
    }
    assert_eq!(of((0..=LIST_MAX).map(|n| env(&format!("V{n}"))).collect()), ["secrets"]);
}

#[test]
fn two_things_cannot_be_in_one_place() {
    for (one, other, field) in [
        (env("A"), env("A"), "as.env"),
        (file("/a/b"), file("//a/./b"), "as.file"),
        (file("/a/b"), file("/a/b/c"), "as.file"),
        (file("/a/b/c"), file("/a/b"), "as.file"),
    ] {
        assert_eq!(of(vec![one, other]), [format!("secrets[1].{field}")]);
    }
    let with = |target: &str, path: &str| {
        fields(|spec| {
            let target = target.to_owned();
            spec.volumes = vec![Volume::Tmpfs { target, size_bytes: None, mode: None }];
            spec.env.0.insert("HOME".into(), "/".into());
            spec.secrets = vec![file(path), env("TOKEN")];
        })
    };
    assert_eq!(with("/run", "/run/secrets/a"), [""; 0], "below a volume is fine");
    assert_eq!(with("/data/", "/data"), ["secrets[0].as.file"]);
    assert_eq!(with("/data/a", "/data"), ["secrets[0].as.file"]);
    let twice = fields(|spec| {
        spec.env.0.insert("TOKEN".into(), "x".into());
        spec.secrets = vec![env("TOKEN")];
    });
    assert_eq!(twice, ["secrets[0].as.env"]);
}

#[test]
fn a_use_is_stored_with_what_it_was_found_to_mean() {
    let credential_id = CredentialId::from_uuid(uuid::Uuid::from_u128(7));
    let resolved = Some(Resolved { credential_id, version: 2, node_labels: Labels::new() });
    let secret = SecretUse { resolved, ..file("/run/key") };
    let stored = serde_json::json!({
        "credential": "app-key", "key": null, "version": null,
        "target": {"kind": "file", "path": "/run/key", "mode": 256, "uid": 0, "gid": 0},
        "resolved": {"credential_id": credential_id, "version": 2}
    });
    assert_eq!(serde_json::to_value(&secret).unwrap(), stored);
    assert_eq!(serde_json::from_value::<SecretUse>(stored).unwrap(), secret);
}

proptest! {
    #[test]
    fn what_is_accepted_has_each_target_once_and_no_file_leads_through_another(secrets in secrets(true)) {
        if of(secrets.clone()).is_empty() {
            let mut names = std::collections::BTreeSet::new();
            let mut paths: Vec<Vec<&str>> = Vec::new();
            for secret in &secrets {
                match &secret.target {
                    SecretTarget::Env { name } => prop_assert!(names.insert(name)),
                    SecretTarget::File { path, mode, uid, gid } => {
                        prop_assert!(path.starts_with('/') && *mode <= 0o777 && uid.max(gid) < &u32::MAX);
                        let path: Vec<&str> = path.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
                        prop_assert!(!path.contains(&"..") && !matches!(path[0], "proc" | "sys" | "dev"));
                        prop_assert!(!paths.iter().any(|other| other.starts_with(&path) || path.starts_with(other)));
                        paths.push(path);
                    }
                }
            }
        }
    }
}
