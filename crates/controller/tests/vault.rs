//! The vault as a whole: tampering, moving it to another master key, verifying it.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on fails where it stands"
)]

mod common;

use std::{fs, path::Path};

use common::Api;
use controller::{
    auth::role::Role,
    config::Config,
    vault::{
        self, VaultError,
        rekey::{Rekey, RekeyError, Step},
        verify::verify,
    },
};
use daemon::seal::MasterKey;
use serde_json::json;
use store::{Store, StoreSettings, audit::Actor};

/// Credentials that a move has to do with: more than one batch.
const MANY: usize = 230;

/// A controller whose master key is in a directory of the test's.
struct Vault {
    api: Api,
    token: String,
    dir: tempfile::TempDir,
}

impl Vault {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("master.key");
        let api = Api::with(|config| {
            config.master_key_file = Some(path);
            config.reveal_enabled = true;
        })
        .await;
        let token = api.account("root", Role::Admin).await;
        Self { api, token, dir }
    }

    fn config(&self) -> Config {
        Config { master_key_file: Some(self.path("master.key")), ..Config::default() }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    /// A store of its own, as another process would have.
    fn store(&self) -> Store {
        let settings = StoreSettings { url: self.api.db.url.as_str().into(), connections_max: 4 };
        Store::new(settings, tokio::runtime::Handle::current()).unwrap()
    }

    async fn create(&self, name: &str, value: &str) {
        let body = json!({"name": name, "kind": "secret", "value": value});
        let answer = self.api.post("/credentials", Some(&self.token), body).await;
        assert_eq!(answer.status, 201, "{name}: {}", answer.body);
    }

    async fn many(&self) {
        let (store, services) = (&self.api.db.store, &self.api.services);
        for n in 0..MANY {
            let wish = controller::service::credentials::CredentialWish {
                project_id: domain::id::ProjectId::DEFAULT,
                name: format!("c{n}"),
                node_labels: domain::name::Labels::new(),
                value: domain::credential::CredentialValue::Bytes(domain::secret::Secret::copy_of(
                    format!("value {n}").as_bytes(),
                )),
            };
            services.credential_create(wish, &Actor::system()).await.unwrap();
        }
        store.ping().await.unwrap();
    }

    async fn revealed(&self, name: &str) -> String {
        use base64::{Engine, engine::general_purpose::STANDARD};
        let answer =
            self.api.post(&format!("/credentials/{name}/reveal"), Some(&self.token), json!({})).await;
        assert_eq!(answer.status, 200, "{name}: {}", answer.body);
        String::from_utf8(STANDARD.decode(answer.body["value_base64"].as_str().unwrap()).unwrap()).unwrap()
    }

    async fn verified(&self) -> vault::verify::Report {
        verify(&self.config(), &self.store()).await.unwrap()
    }

    /// Does up to so many steps of a move, and then dies; answers whether it came to its end.
    async fn rekey_for(&self, steps: usize) -> Result<bool, RekeyError> {
        let mut rekey = Rekey::new(&self.config(), &self.store()).await?;
        for _ in 0..steps {
            if rekey.step(&Actor::system()).await?.is_none() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn key_of(path: &Path) -> String {
    MasterKey::load(path).unwrap().id().to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_that_is_killed_after_any_step_is_gone_on_with_and_all_opens_at_each() {
    let vault = Vault::new().await;
    vault.many().await;
    let before = key_of(&vault.path("master.key"));
    let (mut ended, mut runs) = (false, 0);
    while !ended {
        ended = match vault.rekey_for(1 + runs).await {
            Ok(ended) => ended,
            // The last run died between its last step and its end.
            Err(RekeyError::OldKept { .. }) => true,
            Err(e) => panic!("{e}"),
        };
        runs += 1;
        let report = vault.verified().await;
        assert_eq!(
            (report.versions, report.failures.as_slice()),
            (MANY + runs - 1, &[][..]),
            "after run {runs}"
        );
        // A controller that has run all the time, and one that begins now.
        assert_eq!(vault.revealed("c0").await, "value 0");
        assert_eq!(vault.revealed(&format!("c{}", MANY - 1)).await, format!("value {}", MANY - 1));
        vault.create(&format!("new{runs}"), "new").await;
        assert_eq!(vault.revealed(&format!("new{runs}")).await, "new");
        vault::open(&vault.config(), &vault.store()).await.unwrap();
        assert!(runs < 20);
    }
    assert!(runs > 2, "it was killed a few times");
    assert_eq!(key_of(&vault.path("master.key.old")), before);
    assert_ne!(key_of(&vault.path("master.key")), before);
    assert!(!vault.path("master.key.next").exists());
    let keys = vault.api.db.texts("select distinct encode(sealed_by, 'hex') from credential_versions").await;
    assert_eq!(keys, [key_of(&vault.path("master.key"))]);
    fs::remove_file(vault.path("master.key.old")).unwrap();
    assert_eq!(vault.verified().await.failures, [""; 0]);
    let again =
        vault.api.post("/auth/login", None, json!({"name": "root", "password": common::PASSWORD})).await;
    assert_eq!(again.status, 200, "the signing key opens too");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_in_one_go_tells_what_it_did_and_a_second_needs_the_old_key_away() {
    let vault = Vault::new().await;
    vault.many().await;
    let mut rekey = Rekey::new(&vault.config(), &vault.store()).await.unwrap();
    let mut steps = Vec::new();
    while let Some(step) = rekey.step(&Actor::system()).await.unwrap() {
        steps.push(step);
    }
    let moved = [Step::Versions(100), Step::Versions(100), Step::Versions(MANY - 200), Step::Versions(0)];
    let expected = [&[Step::Begun, Step::SigningKeys(1)][..], &moved, &[Step::Ended, Step::Placed]].concat();
    assert_eq!(steps, expected);
    let refused = Rekey::new(&vault.config(), &vault.store()).await.err().unwrap();
    assert!(matches!(refused, RekeyError::OldKept { .. }), "{refused}");
    fs::remove_file(vault.path("master.key.old")).unwrap();
    assert!(vault.rekey_for(100).await.unwrap());
    assert_eq!(vault.verified().await.failures, [""; 0]);
    let audited = "select count(*) from audit_log where action = 'vault_rekey_finish'";
    assert_eq!(vault.api.db.texts(audited).await, ["2"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_move_is_under_way_the_next_key_is_missed_and_named() {
    let vault = Vault::new().await;
    vault.create("db", "x").await;
    vault.rekey_for(1).await.unwrap();
    fs::rename(vault.path("master.key.next"), vault.path("away")).unwrap();
    let error = vault::open(&vault.config(), &vault.store()).await.err().unwrap();
    assert!(matches!(error, VaultError::NextKeyMissing { .. }), "{error}");
    assert!(error.to_string().contains("master.key.next"), "{error}");
    let other = vault.rekey_for(100).await;
    assert!(other.is_err(), "a third key is never made while two are in use");
    fs::remove_file(vault.path("master.key.next")).ok();
    fs::rename(vault.path("away"), vault.path("master.key.next")).unwrap();
    assert!(vault.rekey_for(100).await.unwrap());
    assert_eq!(vault.revealed("db").await, "x");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_are_given_as_texts_are_moved_with_a_next_text() {
    let (one, two) =
        ("MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=", "ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=");
    let config = |text: &str, next: Option<&str>| Config {
        master_key: Some(text.to_owned().into()),
        master_key_next: next.map(|text| text.to_owned().into()),
        ..Config::default()
    };
    let api = Api::with(|c| c.master_key = Some(one.to_owned().into())).await;
    let store = || {
        let settings = StoreSettings { url: api.db.url.as_str().into(), connections_max: 4 };
        Store::new(settings, tokio::runtime::Handle::current()).unwrap()
    };
    let missing = Rekey::new(&config(one, None), &store()).await.err().unwrap();
    assert!(matches!(missing, RekeyError::NextTextMissing), "{missing}");
    let same = Rekey::new(&config(one, Some(one)), &store()).await.err().unwrap();
    assert!(matches!(same, RekeyError::Same), "{same}");
    let mut rekey = Rekey::new(&config(one, Some(two)), &store()).await.unwrap();
    while rekey.step(&Actor::system()).await.unwrap().is_some() {}
    for config in [config(two, None), config(one, Some(two))] {
        vault::open(&config, &store()).await.unwrap();
    }
    let error = vault::open(&config(one, None), &store()).await.err().unwrap();
    assert!(matches!(error, VaultError::WrongKey(_)), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_change_of_a_sealed_value_in_the_database_is_refused_and_named_without_its_content() {
    let vault = Vault::new().await;
    vault.create("db", "hunter2").await;
    vault.create("other", "hunter3").await;
    let length: usize =
        vault.api.db.texts("select length(sealed) from credential_versions").await[0].parse().unwrap();
    let sql = async |statement: &str| vault.api.db.execute(statement).await;
    let mine = "credential_id = (select id from credentials where name = 'db')";
    let refused = async |what: String| {
        let report = vault.verified().await;
        assert_eq!(report.versions, 1, "{what}");
        let [failure] = report.failures.as_slice() else { panic!("{what}: {:?}", report.failures) };
        assert!(failure.starts_with("credential db (") && !failure.contains("hunter"), "{what}: {failure}");
        let answer = vault.api.post("/credentials/db/reveal", Some(&vault.token), json!({})).await;
        assert_eq!(answer.body["code"], "credential_not_opened", "{what}");
        assert!(!answer.body.to_string().contains("hunter"), "{what}");
    };
    for at in 0..length {
        let flip = format!(
            "update credential_versions set sealed = set_byte(sealed, {at}, get_byte(sealed, {at}) # 1) where {mine}"
        );
        sql(&flip).await;
        refused(format!("byte {at}")).await;
        sql(&flip).await;
    }
    for (change, back) in [
        (
            format!("update credential_versions set epoch = 2 where {mine}"),
            format!("update credential_versions set epoch = 1 where {mine}"),
        ),
        (
            format!(
                "update credential_versions set sealed_by = set_byte(sealed_by, 0, get_byte(sealed_by, 0) # 1) where {mine}"
            ),
            format!(
                "update credential_versions set sealed_by = set_byte(sealed_by, 0, get_byte(sealed_by, 0) # 1) where {mine}"
            ),
        ),
        (
            "insert into projects (id, name) values ('00000000-0000-7000-8000-000000000002', 'p'); \
             update credentials set project_id = '00000000-0000-7000-8000-000000000002' where name = 'db'"
                .to_owned(),
            "update credentials set project_id = '00000000-0000-7000-8000-000000000001' where name = 'db'"
                .to_owned(),
        ),
    ] {
        sql(&change).await;
        refused(change.clone()).await;
        sql(&back).await;
    }
    let swap = format!(
        "update credential_versions v set sealed = o.sealed from credential_versions o where o.credential_id <> v.credential_id and v.{mine}"
    );
    sql(&swap).await;
    refused("another credential's value".to_owned()).await;
}
