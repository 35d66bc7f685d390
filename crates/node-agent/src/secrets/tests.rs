//! Keeping, delivering and forgetting, on real directories.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
};

use domain::{
    deployment::InstanceSpec,
    id::{CredentialId, DeploymentId},
    instance::Desired,
    name::Name,
    spec::{Resolved, SecretTarget, SecretUse},
};
use uuid::Uuid;

use super::{
    testing::{Bench, Said, Vault, in_memory, node, over},
    *,
};
use crate::{ledger::testing::key, runtime::LoginProof};

fn id(n: u128) -> InstanceId {
    InstanceId::from_uuid(Uuid::from_u128(n))
}

fn credential(n: u128) -> CredentialId {
    CredentialId::from_uuid(Uuid::from_u128(n))
}

fn used(n: u128, target: SecretTarget) -> SecretUse {
    let resolved = Some(Resolved::new(credential(n), 1));
    SecretUse { credential: Name::nearest(&format!("key-{n}")), key: None, version: None, target, resolved }
}

fn env(n: u128, name: &str) -> SecretUse {
    used(n, SecretTarget::Env { name: name.into() })
}

fn file(n: u128, path: &str) -> SecretUse {
    used(n, SecretTarget::file(path))
}

fn assignment(secrets: Vec<SecretUse>) -> Assignment {
    Assignment {
        instance_id: id(1),
        deployment_id: DeploymentId::from_uuid(Uuid::nil()),
        deployment_name: "web".into(),
        revision: 1,
        spec: InstanceSpec { secrets, ..InstanceSpec::of_image("r.example.org/app:1") },
        desired: Desired::Running,
        restart_generation: 0,
        registry_credential: None,
    }
}

fn values(values: &[&[u8]]) -> Said {
    Said { values: values.iter().map(|value| value.to_vec()).collect(), ..Said::default() }
}

/// Bytes that can occur nowhere else by chance.
const MARK: &[u8] = b"4f9a-hunter2-\0-\xff-$PATH-\n";

fn occurs(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

#[tokio::test]
async fn what_the_controller_gave_is_kept_sealed_and_serves_without_it() {
    let (dir, vault) = (tempfile::tempdir().unwrap(), Vault::default());
    let bench = Bench::new(dir.path(), &vault);
    let wanted = assignment(vec![file(1, "/run/key"), env(2, "TOKEN"), file(3, "/etc/empty")]);
    vault.says(id(1), values(&[MARK, b"text\n", b""]));
    bench.secrets.prepare(&wanted).await.unwrap();
    vault.is_away(true);
    // Another agent, after this one, and a reboot that emptied the memory.
    let again = Bench::new(dir.path(), &vault);
    again.secrets.prepare(&wanted).await.unwrap();
    assert_eq!(vault.asked(), 1);
    let given = again.secrets.deliver(&wanted).await.unwrap();
    assert!(given.env.len() == 1 && given.env[0].0 == "TOKEN" && given.env[0].1.as_str() == "text\n");
    let targets: Vec<&str> = given.files.iter().map(|file| file.target.as_str()).collect();
    assert_eq!(targets, ["/run/key", "/etc/empty"]);
    assert_eq!(fs::read(&given.files[0].source).unwrap(), MARK);
    assert_eq!(fs::read(&given.files[1].source).unwrap(), b"");
    let kept = fs::read(dir.path().join(id(1).to_string())).unwrap();
    assert!(!occurs(&kept, MARK) && !occurs(&kept, b"text\n"));
    assert_eq!(fs::metadata(dir.path().join(id(1).to_string())).unwrap().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn files_have_the_mode_and_owner_that_were_declared_in_a_directory_of_the_agents_own() {
    let (dir, vault) = (tempfile::tempdir().unwrap(), Vault::default());
    let bench = Bench::new(dir.path(), &vault);
    let target = |mode, uid, gid| SecretTarget::File { path: "/a".into(), mode, uid, gid };
    let root = rustix::process::geteuid().is_root();
    let (uid, gid) = if root {
        (33, 34)
    } else {
        (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
    };
    let wanted = assignment(vec![used(1, target(0o440, uid, gid)), used(2, target(0o400, uid, gid))]);
    vault.says(id(1), values(&[b"a", b"b"]));
    bench.secrets.prepare(&wanted).await.unwrap();
    for _ in 0..2 {
        let given = bench.secrets.deliver(&wanted).await.unwrap();
        let found = fs::metadata(&given.files[0].source).unwrap();
        assert_eq!((found.mode() & 0o7777, found.uid(), found.gid()), (0o440, uid, gid));
        let own = bench.files.path().join(id(1).to_string());
        assert_eq!(fs::metadata(&own).unwrap().mode() & 0o777, 0o700);
        assert_eq!(fs::read_dir(&own).unwrap().count(), 2, "nothing is left over");
    }
}

#[tokio::test]
async fn a_container_that_runs_keeps_the_file_that_it_has() {
    let (dir, vault) = (tempfile::tempdir().unwrap(), Vault::default());
    let bench = Bench::new(dir.path(), &vault);
    let wanted = assignment(vec![file(1, "/a")]);
    vault.says(id(1), values(&[b"one"]));
    bench.secrets.prepare(&wanted).await.unwrap();
    let source = bench.secrets.deliver(&wanted).await.unwrap().files[0].source.clone();
    let before = fs::metadata(&source).unwrap().ino();
    bench.secrets.deliver_files(&wanted).await.unwrap();
    assert_ne!(fs::metadata(&source).unwrap().ino(), before, "a new file, in its place");
}

#[tokio::test]
async fn a_directory_that_is_not_in_memory_is_refused_and_nothing_is_written() {
    let (dir, vault) = (tempfile::tempdir().unwrap(), Vault::default());
    let disk = tempfile::tempdir_in("/var/tmp").unwrap();
    let (secrets, mut asked) = over(dir.path(), &disk.path().join("files"), key(), node());
    tokio::runtime::Handle::current().spawn(async move {
        while let Some(ask) = asked.next().await {
            let answer = Answer { login: None, values: vec![Secret::copy_of(b"value")] };
            let _ = ask.answer.send(Ok(answer));
        }
    });
    drop(vault);
    let wanted = assignment(vec![file(1, "/a")]);
    secrets.prepare(&wanted).await.unwrap();
    let error = secrets.deliver(&wanted).await.err().unwrap();
    assert_eq!(error.kind, RuntimeErrorKind::Refused(FailureReason::StartFailed));
    assert!(error.message.contains("not in memory") && error.message.contains("secrets_dir"), "{error}");
    assert_eq!(fs::read_dir(disk.path().join("files")).unwrap().count(), 0);
    assert!(judge_dir(&disk.path().join("files")).unwrap_err().contains("not in memory"));
    assert_eq!(judge_dir(&in_memory().path().join("not/yet/there")), Ok(()));
}

#[tokio::test]
async fn a_directory_that_others_may_write_to_is_not_used() {
    let (dir, vault) = (tempfile::tempdir().unwrap(), Vault::default());
    let bench = Bench::new(dir.path(), &vault);
    let wanted = assignment(vec![file(1, "/a")]);
    vault.says(id(1), values(&[b"one"]));
    bench.secrets.prepare(&wanted).await.unwrap();
    let own = bench.files.path().join(id(1).to_string());
    fs::create_dir(&own).unwrap();
    fs::set_permissions(&own, fs::Permissions::from_mode(0o777)).unwrap();
    let error = bench.secrets.deliver(&wanted).await.err().unwrap();
    assert!(error.message.contains("others may write there"), "{error}");
}

#[tokio::test]
async fn while_it_cannot_be_had_it_is_said_what_is_waited_for() {
    let (dir, vault) = (tempfile::tempdir().unwrap(), Vault::default());
    let bench = Bench::new(dir.path(), &vault);
    let wanted = assignment(vec![file(1, "/a")]);
    let waits = async || {
        let error = bench.secrets.prepare(&wanted).await.err().unwrap();
        assert_eq!(error.kind, RuntimeErrorKind::HeldUp);
        error.message
    };
    assert_eq!(
        waits().await,
        "waiting for the controller, which has the values of its secrets: it does not answer"
    );
    let refusal = |why| Said { refusal: Some(why), ..Said::default() };
    vault.says(id(1), refusal(Unanswered::Missing("credential key-1 version 1 was deleted".into())));
    assert_eq!(
        waits().await,
        "waiting for the values of its secrets: credential key-1 version 1 was deleted"
    );
    vault.says(id(1), refusal(Unanswered::Refused));
    assert!(waits().await.ends_with("it refuses this node"));
}

#[tokio::test]
async fn what_can_never_be_delivered_is_refused() {
    let (dir, vault) = (tempfile::tempdir().unwrap(), Vault::default());
    let bench = Bench::new(dir.path(), &vault);
    vault.says(id(1), values(&[MARK]));
    let refused = async |secret: SecretUse| {
        let error = bench.secrets.prepare(&assignment(vec![secret])).await.err().unwrap();
        assert_eq!(error.kind, RuntimeErrorKind::Refused(FailureReason::SpecRefused));
        error.message
    };
    let message = refused(env(1, "TOKEN")).await;
    assert!(message.contains("TOKEN") && !message.contains("hunter2"), "{message}");
    let message = refused(SecretUse { resolved: None, ..file(1, "/a") }).await;
    assert!(message.contains("did not say which version"), "{message}");
}

#[tokio::test]
async fn a_file_that_is_torn_changed_or_of_another_use_is_asked_for_again() {
    let (dir, vault) = (tempfile::tempdir().unwrap(), Vault::default());
    let bench = Bench::new(dir.path(), &vault);
    let wanted = assignment(vec![file(1, "/a"), file(2, "/b")]);
    vault.says(id(1), values(&[b"one", b"two"]));
    bench.secrets.prepare(&wanted).await.unwrap();
    let path = dir.path().join(id(1).to_string());
    let whole = fs::read(&path).unwrap();
    let spoilt = (0..whole.len()).flat_map(|at| {
        let mut changed = whole.clone();
        changed[at] ^= 0x40;
        [whole[..at].to_vec(), changed]
    });
    for bytes in spoilt {
        fs::write(&path, &bytes).unwrap();
        let opened = bench.secrets.0.kept.values(id(1), &wanted.spec.secrets);
        assert!(opened.is_none(), "{} of {} bytes", bytes.len(), whole.len());
    }
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let asked = vault.asked();
    bench.secrets.prepare(&wanted).await.unwrap();
    assert_eq!(vault.asked(), asked + 1);
    let kept = |secrets: &[SecretUse]| bench.secrets.0.kept.values(id(1), secrets).is_some();
    assert!(kept(&wanted.spec.secrets));
    let [one, two] = [wanted.spec.secrets[0].clone(), wanted.spec.secrets[1].clone()];
    let version =
        SecretUse { resolved: one.resolved.clone().map(|r| Resolved { version: 2, ..r }), ..one.clone() };
    for other in [
        vec![two.clone(), one.clone()],
        vec![version, two.clone()],
        vec![SecretUse { key: Some(String::new()), ..one.clone() }, two.clone()],
        vec![file(3, "/a"), two.clone()],
        vec![one.clone(), two, one],
    ] {
        assert!(!kept(&other));
    }
    fs::copy(&path, dir.path().join(id(2).to_string())).unwrap();
    assert!(bench.secrets.0.kept.values(id(2), &wanted.spec.secrets).is_none(), "another instance's");
    let elsewhere = Kept::new(dir.path().to_owned(), key(), NodeId::from_uuid(Uuid::nil()));
    assert!(elsewhere.values(id(1), &wanted.spec.secrets).is_none(), "another node's");
}

#[tokio::test]
async fn what_was_kept_and_spoilt_between_two_steps_is_waited_for() {
    let (dir, vault) = (tempfile::tempdir().unwrap(), Vault::default());
    let bench = Bench::new(dir.path(), &vault);
    let wanted = assignment(vec![file(1, "/a")]);
    vault.says(id(1), values(&[b"one"]));
    bench.secrets.prepare(&wanted).await.unwrap();
    fs::write(dir.path().join(id(1).to_string()), b"").unwrap();
    assert_eq!(bench.secrets.deliver(&wanted).await.err().unwrap().kind, RuntimeErrorKind::HeldUp);
    bench.secrets.prepare(&wanted).await.unwrap();
    assert!(bench.secrets.deliver(&wanted).await.is_ok());
}

#[tokio::test]
async fn a_disk_that_takes_nothing_costs_a_question_and_no_container() {
    let (dir, vault) = (tempfile::tempdir().unwrap(), Vault::default());
    // A file where the directory should be.
    let kept = dir.path().join("secrets");
    fs::write(&kept, b"").unwrap();
    let bench = Bench::new(&kept, &vault);
    let wanted = assignment(vec![file(1, "/a")]);
    vault.says(id(1), values(&[b"one"]));
    bench.secrets.prepare(&wanted).await.unwrap();
    vault.is_away(true);
    let given = bench.secrets.deliver(&wanted).await.unwrap();
    assert_eq!(fs::read(&given.files[0].source).unwrap(), b"one");
    assert_eq!(bench.secrets.instances().len(), 1);
    bench.secrets.forget(id(1));
    assert!(bench.secrets.instances().is_empty() && !given.files[0].source.exists());
}

#[tokio::test]
async fn a_login_is_asked_for_anew_and_the_kept_one_serves_while_nobody_answers() {
    let (dir, vault) = (tempfile::tempdir().unwrap(), Vault::default());
    let bench = Bench::new(dir.path(), &vault);
    let wanted = Assignment { registry_credential: Some(credential(7)), ..assignment(vec![file(1, "/a")]) };
    let login = async |wanted: &Assignment| match bench.secrets.login(wanted).await?.map(|login| login.proof)
    {
        Some(LoginProof::Password { username, password }) => Ok(Some((username, password.to_string()))),
        Some(LoginProof::IdentityToken { .. }) => panic!("a token"),
        None => Ok(None),
    };
    let with = |password: &str| {
        let login = Some(("r.example.org".to_owned(), "bot".to_owned(), password.to_owned()));
        Said { login, ..values(&[b"one"]) }
    };
    let error: RuntimeError = login(&wanted).await.unwrap_err();
    assert!(error.kind == RuntimeErrorKind::HeldUp && error.message.contains("the login"), "{error}");
    for password in ["hunter2", "hunter3"] {
        vault.says(id(1), with(password));
        assert_eq!(login(&wanted).await, Ok(Some(("bot".into(), password.into()))));
    }
    vault.is_away(true);
    assert_eq!(login(&wanted).await, Ok(Some(("bot".into(), "hunter3".into()))));
    let other = Assignment { registry_credential: Some(credential(8)), ..wanted.clone() };
    assert!(login(&other).await.is_err(), "another login was not kept");
    bench.secrets.prepare(&wanted).await.unwrap();
    assert!(!occurs(&fs::read(dir.path().join(id(1).to_string())).unwrap(), b"hunter3"));
    let none = Assignment { registry_credential: None, ..wanted };
    assert_eq!(login(&none).await, Ok(None));
}
