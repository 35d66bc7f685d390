//! Credentials: what is kept of them, who uses them, and what two do at once.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on fails where it stands"
)]

#[path = "credential/sealer.rs"]
mod sealer;

use std::{collections::BTreeSet, sync::Arc};

use domain::{
    credential::{CredentialKind, Form, PER_PROJECT_MAX, VERSIONS_KEPT},
    deployment::{DeploymentSpec, InstanceSpec},
    id::{CredentialId, ProjectId},
    name::{Labels, Name},
    operation::OperationKind,
    secret::Secret,
    spec::{SecretTarget, SecretUse},
};
use sealer::{FIRST, Plainly, SECOND};
use serde_json::json;
use store::{
    Refusal, StoreError,
    audit::Actor,
    caller::Visible,
    credential::{
        Credential, CredentialKey, CredentialNew, Deleted, Replaced, ValueNew, rekey::FleetResealed,
    },
    deployment::{
        DeploymentKey, DeploymentNew,
        revision::{RevisionNew, Template},
    },
    project::ProjectKey,
    testing::{TestDatabase, database},
};
use uuid::Uuid;

const SECRET: &str = "hunter2-hunter2";

fn actor() -> Actor {
    Actor { name: "tester".into(), ..Actor::system() }
}

/// A database whose fleet is sealed with the first key.
async fn vault(bound: i64) -> TestDatabase {
    let db = database().await;
    db.execute(&format!(
        "insert into fleet (id, master_key_check, ca_certificate_der, ca_key_sealed, seals_with) \
         values (gen_random_uuid(), 'check', 'der', 'ca', '{FIRST}')"
    ))
    .await;
    db.store.seal_with(Arc::new(Plainly { bound }));
    db
}

fn value(text: &str) -> ValueNew {
    let value = Secret::copy_of(text.as_bytes());
    let form = if text.starts_with('{') { Form::Json } else { Form::Bytes };
    ValueNew { form, value, shown: json!({}), registry_host: None }
}

fn login(host: &str) -> ValueNew {
    let parts = json!({ "server": host, "username": "bot", "password": SECRET }).to_string();
    ValueNew { registry_host: Some(host.to_owned()), ..value(&parts) }
}

fn new(name: &str, value: ValueNew) -> CredentialNew {
    CredentialNew {
        id: CredentialId::from_uuid(Uuid::now_v7()),
        project_id: ProjectId::DEFAULT,
        name: name.into(),
        kind: if value.registry_host.is_some() { CredentialKind::Registry } else { CredentialKind::Secret },
        node_labels: Labels::new(),
        value,
    }
}

async fn create(db: &TestDatabase, name: &str, text: &str) -> Credential {
    db.store.credential_create(&new(name, value(text)), &actor()).await.unwrap()
}

fn uses(credential: &str, key: Option<&str>, target: SecretTarget) -> SecretUse {
    let credential = Name::parse(credential).unwrap();
    SecretUse { key: key.map(str::to_owned), ..SecretUse::new(credential, target) }
}

fn file(credential: &str) -> SecretUse {
    uses(credential, None, SecretTarget::file("/run/secret"))
}

fn env(credential: &str, key: Option<&str>) -> SecretUse {
    uses(credential, key, SecretTarget::Env { name: "SECRET".into() })
}

fn deployment(name: &str, image: &str, secrets: Vec<SecretUse>) -> DeploymentNew {
    let instance = InstanceSpec { secrets, ..InstanceSpec::of_image(image) };
    DeploymentNew {
        project_id: ProjectId::DEFAULT,
        id: Uuid::now_v7().into(),
        name: name.into(),
        spec: DeploymentSpec { replicas: 0, ..DeploymentSpec::of_instance(instance) },
        operation_id: Uuid::now_v7().into(),
        idempotency: None,
    }
}

async fn deploy(db: &TestDatabase, name: &str, secrets: Vec<SecretUse>) -> DeploymentNew {
    let new = deployment(name, "app:1", secrets);
    db.store.deployment_create(&new, &actor()).await.unwrap();
    new
}

fn refused<T>(result: Result<T, StoreError>) -> Refusal {
    match result {
        Err(StoreError::Refused(refusal)) => refusal,
        Err(other) => panic!("{other:?} is no refusal"),
        Ok(_) => panic!("it was done"),
    }
}

fn fields(result: Result<impl Sized, StoreError>) -> Vec<String> {
    match refused(result) {
        Refusal::Invalid(faults) => faults.into_iter().map(|fault| fault.field).collect(),
        other => panic!("{other:?} is about no field"),
    }
}

async fn opened(db: &TestDatabase, id: CredentialId, version: u32) -> String {
    let opened = db.store.credential_open(id, version).await.unwrap().unwrap();
    String::from_utf8(opened.value.reveal().to_vec()).unwrap()
}

fn version_of(replaced: Replaced) -> u32 {
    match replaced {
        Replaced::Yes(version, _) => version,
        Replaced::Unfit(faults) => panic!("{faults:?}"),
    }
}

/// The present version that a deployment uses, and its revision.
async fn used(db: &TestDatabase, name: &str) -> (u32, u32) {
    let found = db.store.deployment_fetch(&DeploymentKey::Name(name.into())).await.unwrap().unwrap();
    (found.spec.instance.secrets[0].resolved.as_ref().unwrap().version, found.revision)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_follow_each_other_and_an_earlier_value_comes_again_as_a_new_one() {
    let db = vault(1000).await;
    let made = create(&db, "db", "one").await;
    assert_eq!((made.latest, made.form, made.project.as_str()), (1, Form::Bytes, "default"));
    let by = actor();
    assert_eq!(version_of(db.store.credential_replace(made.id, &value("{\"a\":2}"), &by).await.unwrap()), 2);
    assert_eq!(version_of(db.store.credential_rollback(made.id, 1, &by).await.unwrap()), 3);
    assert_eq!(
        refused(db.store.credential_rollback(made.id, 9, &by).await),
        Refusal::Missing("version of the credential")
    );
    for (version, text) in [(1, "one"), (2, "{\"a\":2}"), (3, "one")] {
        assert_eq!(opened(&db, made.id, version).await, text);
    }
    let versions = db.store.credential_version_list(made.id).await.unwrap();
    let told: Vec<_> = versions.iter().map(|v| (v.version, v.form, v.restored_from)).collect();
    assert_eq!(told, [(3, Form::Bytes, Some(1)), (2, Form::Json, None), (1, Form::Bytes, None)]);
    let found = db.store.credential_fetch(&CredentialKey::In(ProjectId::DEFAULT, "db".into())).await.unwrap();
    assert_eq!(found.unwrap().latest, 3);
    assert_eq!(db.store.credential_delete(made.id, &by).await.unwrap(), Deleted::Yes);
    assert_eq!(db.texts("select count(*) from credential_versions").await, ["0"]);
    assert_eq!(refused(db.store.credential_delete(made.id, &by).await), Refusal::Missing("credential"));
    let actions = db.texts("select action from audit_log where subject = 'db' order by at, id").await;
    let done = ["credential_create", "credential_replace", "credential_rollback", "credential_delete"];
    assert_eq!(actions, done);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_is_nowhere_in_the_database_in_clear() {
    let db = vault(1000).await;
    let made = create(&db, "db", SECRET).await;
    deploy(&db, "web", vec![env("db", None)]).await;
    let _ = db.store.credential_replace(made.id, &value(&format!("{SECRET}\n")), &actor()).await.unwrap();
    db.store.credential_reveal(made.id, 1, &actor()).await.unwrap().unwrap();
    for table in db.texts("select tablename from pg_tables where schemaname = 'public'").await {
        let rows = db.texts(&format!("select to_jsonb(t) from {table} t")).await;
        assert!(rows.iter().all(|row| !row.contains(SECRET)), "{table}");
        let bytes =
            format!("select to_jsonb(t) from {table} t where to_jsonb(t)::text like '%68756e746572%'");
        assert_eq!(db.texts(&bytes).await, [""; 0], "{table}, in hexadecimal");
    }
    let revealed = db.texts("select after from audit_log where action = 'credential_reveal'").await;
    assert_eq!(revealed, ["{\"version\": 1}"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_and_registries_are_taken_once_in_a_project_and_projects_with_credentials_stay() {
    let db = vault(1000).await;
    create(&db, "db", "one").await;
    let again = db.store.credential_create(&new("db", value("two")), &actor()).await;
    assert_eq!(refused(again), Refusal::NameTaken("db".into()));
    let ghcr = new("ghcr", login("ghcr.io"));
    db.store.credential_create(&ghcr, &actor()).await.unwrap();
    let second = db.store.credential_create(&new("ghcr-2", login("ghcr.io")), &actor()).await;
    assert_eq!(refused(second), Refusal::RegistryTaken("ghcr.io".into()));
    let elsewhere = db.store.credential_replace(ghcr.id, &login("quay.io"), &actor()).await;
    assert_eq!(refused(elsewhere), Refusal::OtherRegistry);
    let east = [("zone".to_owned(), "east".to_owned())].into();
    let third = CredentialNew { node_labels: east, ..new("ghcr-east", login("ghcr.io")) };
    db.store.credential_create(&third, &actor()).await.unwrap();
    let other = db.store.project_insert(Uuid::now_v7().into(), "other", &actor()).await.unwrap();
    let there = CredentialNew { project_id: other.id(), ..new("db", value("x")) };
    let there = db.store.credential_create(&there, &actor()).await.unwrap();
    assert_eq!(
        refused(db.store.project_delete(other.id(), &actor()).await),
        Refusal::NotEmpty("other".into())
    );
    assert_eq!(db.store.credential_delete(there.id, &actor()).await.unwrap(), Deleted::Yes);
    db.store.project_delete(other.id(), &actor()).await.unwrap();
    assert_eq!(db.store.project_fetch(&ProjectKey::Name("other".into())).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_hold_what_is_seen_page_by_page() {
    let db = vault(1000).await;
    let other = db.store.project_insert(Uuid::now_v7().into(), "other", &actor()).await.unwrap();
    for (project_id, name) in
        [(other.id(), "a"), (ProjectId::DEFAULT, "b"), (other.id(), "c"), (ProjectId::DEFAULT, "a")]
    {
        let new = CredentialNew { project_id, ..new(name, value("x")) };
        db.store.credential_create(&new, &actor()).await.unwrap();
    }
    let pages = async |visible: Visible, project| {
        let (mut names, mut after) = (Vec::new(), None);
        loop {
            let page = db.store.credential_list_page(&visible, project, after, 1).await.unwrap();
            names.extend(page.items.into_iter().map(|c| format!("{}/{}", c.project, c.name)));
            after = page.next;
            if after.is_none() {
                return names;
            }
        }
    };
    let all = ["other/a", "default/b", "other/c", "default/a"];
    assert_eq!(pages(Visible::All, None).await, all);
    let only = Visible::Projects(vec![other.id().uuid()]);
    assert_eq!(pages(only.clone(), None).await, ["other/a", "other/c"]);
    assert_eq!(pages(only.clone(), Some(ProjectId::DEFAULT)).await, [""; 0]);
    assert_eq!(db.store.credential_list_named("a", &only).await.unwrap().len(), 1);
    assert_eq!(db.store.credential_list_named("a", &Visible::All).await.unwrap()[0].project, "default");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_project_takes_a_thousand_credentials_and_no_more() {
    let db = vault(10_000).await;
    let rows = PER_PROJECT_MAX - 1;
    db.execute(&format!(
        "insert into credentials (id, project_id, name, kind, latest, created_by) \
         select gen_random_uuid(), '{}', 'c' || n, 'secret', 1, 'x' from generate_series(1, {rows}) n",
        ProjectId::DEFAULT
    ))
    .await;
    let (a, b, by) = (new("one", value("x")), new("two", value("x")), actor());
    let (a, b) = tokio::join!(db.store.credential_create(&a, &by), db.store.credential_create(&b, &by));
    assert_ne!(a.is_ok(), b.is_ok(), "of two at once, one is the last");
    let late = refused(db.store.credential_create(&new("late", value("x")), &by).await);
    assert_eq!(late, Refusal::TooMany("credentials in the project", PER_PROJECT_MAX));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn replacements_at_once_each_get_a_version_of_their_own() {
    let db = vault(1000).await;
    let made = create(&db, "db", "v1").await;
    let (store, by) = (&db.store, actor());
    let replace = |n: usize| {
        let by = by.clone();
        async move { version_of(store.credential_replace(made.id, &value(&format!("r{n}")), &by).await.unwrap()) }
    };
    let versions: BTreeSet<u32> =
        futures_util::future::join_all((0..6).map(replace)).await.into_iter().collect();
    assert_eq!(versions, (2..=7).collect());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uses_are_resolved_when_a_deployment_is_made_and_faults_name_their_fields() {
    let db = vault(1000).await;
    let made = create(&db, "db", "{\"password\":\"x\",\"nul\":\"a\\u0000b\"}").await;
    create(&db, "raw", "plain").await;
    let wrong = vec![
        env("unknown", None),
        env("db", Some("other")),
        env("db", Some("nul")),
        env("raw", Some("key")),
        SecretUse { version: Some(7), ..env("raw", None) },
        env("raw", None),
    ];
    let faults = fields(db.store.deployment_create(&deployment("web", "app:1", wrong), &actor()).await);
    let expected = [
        "secrets[0].credential",
        "secrets[1].key",
        "secrets[2].as.env",
        "secrets[3].key",
        "secrets[4].version",
    ];
    assert_eq!(faults, expected);
    assert_eq!(db.texts("select name from deployments").await, [""; 0]);
    deploy(&db, "web", vec![env("db", Some("password")), file("raw")]).await;
    let found = db.store.deployment_fetch(&DeploymentKey::Name("web".into())).await.unwrap().unwrap();
    let resolved = found.spec.instance.secrets[0].resolved.clone().unwrap();
    assert_eq!((resolved.credential_id, resolved.version), (made.id, 1));
    let rows = "select position || ' ' || version || ' ' || follows from credential_uses order by 1";
    assert_eq!(db.texts(rows).await, ["0 1 true", "1 1 true"]);
    let warned = "select count(*) from events where kind = 'secret_in_env'";
    assert_eq!(db.texts(warned).await, ["1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_version_rolls_those_who_follow_and_leaves_those_who_are_pinned() {
    let db = vault(1000).await;
    let made = create(&db, "db", "one").await;
    deploy(&db, "follows", vec![file("db")]).await;
    deploy(&db, "pinned", vec![SecretUse { version: Some(1), ..file("db") }]).await;
    deploy(&db, "other", Vec::new()).await;
    let replaced = db.store.credential_replace(made.id, &value("two"), &actor()).await.unwrap();
    let Replaced::Yes(2, followers) = replaced else { panic!("{replaced:?}") };
    assert_eq!(followers.iter().map(|f| f.deployment.as_str()).collect::<Vec<_>>(), ["follows"]);
    assert_eq!((used(&db, "follows").await, used(&db, "pinned").await), ((2, 2), (1, 1)));
    let users = db.store.credential_users(&made).await.unwrap();
    let told: Vec<_> =
        users.iter().map(|u| (u.deployment.as_str(), u.revision, u.version, u.follows)).collect();
    assert_eq!(told, [("follows", 2, Some(2), true), ("pinned", 1, Some(1), false)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_finds_out_anew_what_its_uses_mean_and_is_refused_like_a_creation() {
    let db = vault(1000).await;
    let made = create(&db, "db", "one").await;
    let web = deploy(&db, "web", Vec::new()).await;
    let revise = async |secrets: Vec<SecretUse>| {
        let mut spec = web.spec.clone();
        spec.instance.secrets = secrets;
        let new = RevisionNew {
            deployment: web.id,
            spec: &spec,
            kind: OperationKind::DeploymentUpdate,
            operation_id: Uuid::now_v7().into(),
            cause: "it was changed".into(),
            expected: None,
            supersede: true,
            template: Template::Found,
        };
        db.store.deployment_revise(&new, &actor()).await
    };
    assert_eq!(fields(revise(vec![env("other", None)]).await), ["secrets[0].credential"]);
    let _ = db.store.credential_replace(made.id, &value("two"), &actor()).await.unwrap();
    revise(vec![env("db", None)]).await.unwrap();
    assert_eq!(used(&db, "web").await, (2, 2));
    let Deleted::InUse(users) = db.store.credential_delete(made.id, &actor()).await.unwrap() else {
        panic!()
    };
    assert_eq!((users[0].revision, users[0].version), (2, Some(2)));
    revise(vec![env("db", None), file("db")]).await.unwrap();
    let warned = "select count(*) from events where kind = 'secret_in_env'";
    assert_eq!(db.texts(warned).await, ["1"], "it is said once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_that_a_follower_could_not_use_is_refused_and_changes_nothing() {
    let db = vault(1000).await;
    let made = create(&db, "db", "{\"password\":\"x\"}").await;
    deploy(&db, "web", vec![env("db", Some("password"))]).await;
    for unfit in ["{\"other\":1}", "plain", "{\"password\":\"a\\u0000b\"}"] {
        let outcome = db.store.credential_replace(made.id, &value(unfit), &actor()).await.unwrap();
        let Replaced::Unfit(faults) = outcome else { panic!("{unfit} was taken") };
        assert!(faults[0].message.contains("deployment web"), "{faults:?}");
    }
    assert_eq!(db.texts("select latest from credentials").await, ["1"]);
    assert_eq!(used(&db, "web").await, (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_in_use_is_not_deleted_and_says_by_whom() {
    let db = vault(1000).await;
    let made = create(&db, "db", "one").await;
    let web = deploy(&db, "web", vec![file("db")]).await;
    let Deleted::InUse(users) = db.store.credential_delete(made.id, &actor()).await.unwrap() else {
        panic!()
    };
    assert_eq!((users[0].deployment_id, users[0].deployment.as_str()), (web.id, "web"));
    let ghcr = new("ghcr", login("ghcr.io"));
    let ghcr = db.store.credential_create(&ghcr, &actor()).await.unwrap();
    let app = deployment("app", "ghcr.io/team/app:1", Vec::new());
    db.store.deployment_create(&app, &actor()).await.unwrap();
    let Deleted::InUse(users) = db.store.credential_delete(ghcr.id, &actor()).await.unwrap() else {
        panic!()
    };
    assert_eq!((users[0].deployment.as_str(), users[0].version), ("app", None));
    for name in ["web", "app"] {
        let key = DeploymentKey::Name(name.into());
        db.store.deployment_delete(&key, Uuid::now_v7().into(), &actor()).await.unwrap();
    }
    db.store.orchestrate(&()).await.unwrap();
    for id in [made.id, ghcr.id] {
        assert_eq!(db.store.credential_delete(id, &actor()).await.unwrap(), Deleted::Yes);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_credential_never_goes_while_somebody_begins_to_use_it() {
    let db = vault(1000).await;
    for n in 0..12 {
        let made = create(&db, &format!("c{n}"), "x").await;
        let (web, by) = (deployment(&format!("web{n}"), "app:1", vec![file(&made.name)]), actor());
        let (deployed, deleted) =
            tokio::join!(db.store.deployment_create(&web, &by), db.store.credential_delete(made.id, &by));
        assert_ne!(deployed.is_ok(), deleted.unwrap() == Deleted::Yes, "exactly one of the two is done");
    }
    let lost = "select u.deployment_id from credential_uses u left join credentials c on c.id = u.credential_id where c.id is null";
    assert_eq!(db.texts(lost).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_deployment_that_begins_to_follow_never_misses_a_new_version() {
    let db = vault(1000).await;
    for n in 0..12 {
        let made = create(&db, &format!("c{n}"), "one").await;
        let name = format!("web{n}");
        let (web, by) = (deployment(&name, "app:1", vec![file(&made.name)]), actor());
        let new_value = value("two");
        let (deployed, replaced) = tokio::join!(
            db.store.deployment_create(&web, &by),
            db.store.credential_replace(made.id, &new_value, &by)
        );
        deployed.unwrap();
        assert_eq!(version_of(replaced.unwrap()), 2);
        assert_eq!(used(&db, &name).await.0, 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_versions_are_kept_and_older_ones_that_are_in_use() {
    let db = vault(10_000).await;
    let made = create(&db, "db", "v1").await;
    deploy(&db, "old", vec![SecretUse { version: Some(1), ..file("db") }]).await;
    for n in 2..=VERSIONS_KEPT + 3 {
        let _ = db.store.credential_replace(made.id, &value(&format!("v{n}")), &actor()).await.unwrap();
    }
    let kept: BTreeSet<u32> =
        db.store.credential_version_list(made.id).await.unwrap().into_iter().map(|v| v.version).collect();
    let expected: BTreeSet<u32> = std::iter::once(1).chain(4..=VERSIONS_KEPT + 3).collect();
    assert_eq!(kept, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_data_key_seals_more_than_its_bound_also_when_many_seal_at_once() {
    let db = vault(3).await;
    let by = actor();
    let all: Vec<_> = (0..10).map(|n| new(&format!("c{n}"), value("x"))).collect();
    let made =
        futures_util::future::join_all(all.iter().map(|new| db.store.credential_create(new, &by))).await;
    assert!(made.into_iter().all(|made| made.is_ok()));
    let counted = "select epoch || ' ' || sealed_count from sealing_epochs order by epoch";
    assert_eq!(db.texts(counted).await, ["1 3", "2 3", "3 3", "4 1"]);
    let sealed = "select epoch || ' ' || count(*) from credential_versions group by epoch order by epoch";
    assert_eq!(db.texts(sealed).await, ["1 3", "2 3", "3 3", "4 1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn everything_is_moved_to_another_master_key_while_values_come_and_go() {
    let db = vault(1000).await;
    for n in 0..25 {
        create(&db, &format!("c{n}"), &format!("value {n}")).await;
    }
    let by = actor();
    let (from, to) = (FIRST.as_bytes(), SECOND.as_bytes());
    let resealed = FleetResealed { ca_key_before: b"ca".to_vec(), ca_key_sealed: b"ca again".to_vec() };
    assert!(!db.store.rekey_finish(to, &resealed, &by).await.unwrap(), "there is no move");
    assert_eq!(refused(db.store.rekey_begin(to, from, b"check", &by).await), Refusal::OtherRekey);
    db.store.rekey_begin(from, to, b"next check", &by).await.unwrap();
    db.store.rekey_begin(from, to, b"another check", &by).await.unwrap();
    assert_eq!(refused(db.store.rekey_begin(from, b"third", b"check", &by).await), Refusal::OtherRekey);
    let state = db.store.rekey_state().await.unwrap();
    assert_eq!(state.next_key_check.as_deref(), Some(&b"next check"[..]), "the first check stays");
    create(&db, "meanwhile", "new").await;
    let (mut after, mut moved) = (None, 0);
    while let Some((count, last)) = db.store.rekey_batch(after, 4).await.unwrap() {
        assert!(!db.store.rekey_finish(to, &resealed, &by).await.unwrap() || moved + count == 25);
        (after, moved) = (Some(last), moved + count);
        if moved == 12 {
            // Whoever begins anew finds the rest.
            after = None;
        }
    }
    assert_eq!(moved, 25, "what was sealed meanwhile is sealed with the new key");
    assert_eq!(
        db.texts("select distinct encode(sealed_by, 'escape') from credential_versions").await,
        [SECOND]
    );
    let state = db.store.rekey_state().await.unwrap();
    assert_eq!((state.seals_with.as_deref(), state.next_key_check), (Some(to), None));
    assert_eq!(db.texts("select encode(ca_key_sealed, 'escape') from fleet").await, ["ca again"]);
    assert_eq!(db.texts("select encode(master_key_check, 'escape') from fleet").await, ["next check"]);
    for n in 0..25 {
        let key = CredentialKey::In(ProjectId::DEFAULT, format!("c{n}"));
        let found = db.store.credential_fetch(&key).await.unwrap().unwrap();
        assert_eq!(opened(&db, found.id, 1).await, format!("value {n}"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_does_not_open_is_named_and_its_batch_stays_as_it_was() {
    let db = vault(1000).await;
    create(&db, "good", "x").await;
    let bad = create(&db, "bad", SECRET).await;
    db.execute("update credential_versions set sealed = sealed || 'x' where credential_id = (select id from credentials where name = 'bad')").await;
    db.store.rekey_begin(FIRST.as_bytes(), SECOND.as_bytes(), b"check", &actor()).await.unwrap();
    let error = db.store.rekey_batch(None, 10).await.unwrap_err();
    let told = error.to_string();
    assert!(told.contains(&format!("bad ({}), version 1", bad.id)) && !told.contains(SECRET), "{told}");
    let sealed = "select distinct encode(sealed_by, 'escape') from credential_versions";
    assert_eq!(db.texts(sealed).await, [FIRST]);
    assert!(db.store.credential_open(bad.id, 1).await.is_err());
}
