//! Instances that are given secrets, and logins of the controller's.

use std::fs;

use domain::{
    id::CredentialId,
    name::Name,
    spec::{PullPolicy, Resolved, SecretTarget, SecretUse},
};

use super::*;
use crate::secrets::{ask::Unanswered, testing::Said};

fn used(target: SecretTarget) -> SecretUse {
    let resolved = Some(Resolved::new(CredentialId::from_uuid(Uuid::nil()), 1));
    SecretUse { credential: Name::nearest("key"), key: None, version: None, target, resolved }
}

/// Given `KEY` and `/run/key`.
fn given(n: u128) -> Assignment {
    let mut assignment = assignment(n);
    let env = SecretTarget::Env { name: "KEY".into() };
    assignment.spec.secrets = vec![used(env), used(SecretTarget::file("/run/key"))];
    assignment
}

fn says(value: &str) -> Said {
    Said { values: vec![value.as_bytes().to_vec(); 2], ..Said::default() }
}

async fn agent(dir: &Path, engine: &FakeRuntime, vault: &Vault) -> Agent {
    Agent::start_on(dir, engine, settings(), &FaultyDisk::default(), vault).await
}

/// What the container's file holds now.
fn content(engine: &FakeRuntime, n: u128) -> Option<String> {
    let (_, files) = engine.given(id(n))?;
    fs::read_to_string(&files.first()?.source).ok()
}

#[tokio::test]
async fn a_container_is_made_with_its_variables_and_files() {
    let (dir, engine, vault) = (tempfile::tempdir().unwrap(), FakeRuntime::default(), Vault::default());
    vault.says(id(1), says("$x\n"));
    let agent = agent(dir.path(), &engine, &vault).await;
    agent.assign([given(1)]).await;
    agent.healthy(1).await;
    let (env, files) = engine.given(id(1)).unwrap();
    assert_eq!(env, [("KEY".to_owned(), "$x\n".to_owned())]);
    assert_eq!((files[0].target.as_str(), content(&engine, 1).as_deref()), ("/run/key", Some("$x\n")));
    assert_eq!(vault.asked(), 1, "kept, and not asked for at each step");
    agent.stop().await;
}

#[tokio::test]
async fn who_waits_for_the_controller_says_so_once_and_goes_on_when_it_is_back() {
    let (dir, engine, vault) = (tempfile::tempdir().unwrap(), FakeRuntime::default(), Vault::default());
    vault.says(id(1), says("one"));
    vault.is_away(true);
    let agent = agent(dir.path(), &engine, &vault).await;
    agent.assign([given(1), assignment(2)]).await;
    agent.healthy(2).await;
    let waits = |report: &Report| report.message.starts_with("waiting for the controller");
    until("it says so", || agent.reports(1).iter().any(waits)).await;
    until("it has asked again", || vault.asked() >= 2).await;
    assert_eq!(agent.reports(1).iter().filter(|report| waits(report)).count(), 1);
    let last = agent.last(1).unwrap();
    assert_eq!((last.status.outcome, last.status.failures), (None, 0), "that is nobody's failure");
    assert_eq!(engine.count(Call::Create, Some(id(1))), 0);
    agent.bench.comes_back();
    agent.healthy(1).await;
    assert_eq!(agent.last(1).unwrap().status.progress.attempt, 1);
    agent.stop().await;
}

#[tokio::test]
async fn what_was_deleted_is_told_and_its_instance_can_be_removed_meanwhile() {
    let (dir, engine, vault) = (tempfile::tempdir().unwrap(), FakeRuntime::default(), Vault::default());
    let missing = Unanswered::Missing("credential key version 1 was deleted".into());
    vault.says(id(1), Said { refusal: Some(missing), ..Said::default() });
    let agent = agent(dir.path(), &engine, &vault).await;
    agent.assign([given(1)]).await;
    let told = "waiting for the values of its secrets: credential key version 1 was deleted";
    until("it says so", || agent.last(1).is_some_and(|report| report.message == told)).await;
    agent.assign([Assignment { desired: Desired::Removed, ..given(1) }]).await;
    until("it is gone", || agent.last(1).is_some_and(|report| report.status.progress.removed)).await;
    agent.stop().await;
}

#[tokio::test]
async fn an_agent_that_comes_back_without_its_controller_starts_containers_with_what_it_kept() {
    let (dir, engine, vault) = (tempfile::tempdir().unwrap(), FakeRuntime::default(), Vault::default());
    vault.says(id(1), says("one"));
    let first = agent(dir.path(), &engine, &vault).await;
    first.assign([given(1)]).await;
    first.healthy(1).await;
    vault.is_away(true);
    let was = engine.given(id(1)).unwrap().1[0].source.clone();
    let old = first.bench.files.clone();
    first.stop().await;
    // The host restarts: nothing runs, and what was in memory is gone.
    fs::remove_dir_all(was.parent().unwrap()).unwrap();
    engine.restart();
    let asked = vault.asked();
    let again = agent(dir.path(), &engine, &vault).await;
    again.healthy_since(1, 2).await;
    let place = again.bench.files.path().join(id(1).to_string()).join("1");
    assert_eq!(fs::read_to_string(place).unwrap(), "one", "written before the start");
    assert_eq!(vault.asked(), asked);
    // Somebody removes the container, too: it is made anew.
    let made = engine.count(Call::Create, Some(id(1)));
    engine.remove_outside(id(1));
    until("it is made anew", || engine.count(Call::Create, Some(id(1))) > made).await;
    again.healthy_since(1, 3).await;
    assert_eq!(engine.given(id(1)).unwrap().0[0].1, "one");
    again.stop().await;
    drop(old);
}

#[tokio::test]
async fn what_an_instance_was_given_goes_with_it() {
    let (dir, engine, vault) = (tempfile::tempdir().unwrap(), FakeRuntime::default(), Vault::default());
    vault.says(id(1), says("one"));
    vault.says(id(2), says("two"));
    let agent = agent(dir.path(), &engine, &vault).await;
    agent.assign([given(1), given(2)]).await;
    agent.healthy(1).await;
    agent.healthy(2).await;
    let kept = |n| dir.path().join("secrets").join(id(n).to_string()).exists();
    let file = |n: u128| agent.bench.files.path().join(id(n).to_string()).exists();
    assert!(kept(1) && file(1) && kept(2) && file(2));
    agent.assign([given(2)]).await;
    until("it is forgotten", || !kept(1) && !file(1)).await;
    assert!(kept(2) && content(&engine, 2).is_some());
    assert!(engine.container(id(1)).is_none());
    agent.stop().await;
}

#[tokio::test]
async fn a_variable_that_cannot_be_fails_for_good_and_shows_nothing() {
    let (dir, engine, vault) = (tempfile::tempdir().unwrap(), FakeRuntime::default(), Vault::default());
    vault.says(id(1), Said { values: vec![b"hunter2\0".to_vec(); 2], ..Said::default() });
    let agent = agent(dir.path(), &engine, &vault).await;
    agent.assign([given(1)]).await;
    until("it has failed", || agent.last(1).is_some_and(|r| r.status.outcome.is_some())).await;
    let last = agent.last(1).unwrap();
    let Some(Outcome::Failed { reason: FailureReason::SpecRefused, message, .. }) = &last.status.outcome
    else {
        panic!("{:?}", last.status)
    };
    assert!(message.contains("variable KEY") && !message.contains("hunter2"), "{message}");
    assert_eq!(last.status.backoff_until, None);
    agent.stop().await;
}

#[tokio::test]
async fn a_pull_uses_the_controllers_login_and_waits_where_it_cannot_be_had() {
    let (dir, engine, vault) = (tempfile::tempdir().unwrap(), FakeRuntime::default(), Vault::default());
    let login = Some(("r.example.org".to_owned(), "bot".to_owned(), "hunter2".to_owned()));
    vault.says(id(1), Said { login, ..Said::default() });
    vault.is_away(true);
    let agent = agent(dir.path(), &engine, &vault).await;
    let mut wanted = assignment(1);
    wanted.spec.image = "r.example.org/team/app:1".into();
    wanted.spec.pull = PullPolicy::Always;
    wanted.registry_credential = Some(CredentialId::from_uuid(Uuid::from_u128(7)));
    agent.assign([wanted]).await;
    let waits = |report: &Report| report.message.contains("which has the login for its image's registry");
    until("it says so", || agent.reports(1).iter().any(waits)).await;
    assert_eq!(engine.count(Call::Pull, None), 0);
    agent.bench.comes_back();
    agent.healthy(1).await;
    assert_eq!(engine.logins_used(), [Some("r.example.org".to_owned())]);
    assert_eq!(agent.reports(1).iter().filter(|r| r.message.starts_with("pulling image")).count(), 1);
    agent.stop().await;
}
