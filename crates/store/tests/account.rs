//! Accounts, what makes them, and what ends with them.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on fails where it stands"
)]

use std::time::Duration;

use domain::id::UserId;
use serde_json::json;
use store::{
    Refusal, Store, StoreError,
    account::{AccountChange, AccountKey, AccountNew},
    api_token::ApiTokenNew,
    audit::Actor,
    session::SessionNew,
    testing::{TestDatabase, database},
    wake::Wake,
};
use uuid::Uuid;

const DAY: Duration = Duration::from_secs(24 * 3600);

fn actor() -> Actor {
    Actor { name: "tester".into(), ..Actor::system() }
}

fn new(name: &str, kind: &'static str) -> AccountNew {
    AccountNew {
        id: Uuid::now_v7().into(),
        name: name.into(),
        kind,
        password_hash: (kind == "user").then(|| "-".into()),
        email: None,
    }
}

async fn account(store: &Store, name: &str, role: &str) -> UserId {
    store.account_insert(&new(name, "user"), role, &actor()).await.unwrap().id()
}

async fn session(store: &Store, account_id: UserId) {
    let id = Uuid::now_v7();
    let new = SessionNew {
        id: id.into(),
        account_id,
        method: "password",
        refresh_sha256: id.as_bytes().to_vec(),
        expires_at: chrono::Utc::now() + DAY,
        address: None,
        user_agent: None,
    };
    store.session_insert(&new, None, &actor()).await.unwrap();
}

const fn role(role: &'static str) -> AccountChange {
    AccountChange { role: Some(role), disabled: None }
}

const fn disabled(disabled: bool) -> AccountChange {
    AccountChange { role: None, disabled: Some(disabled) }
}

#[track_caller]
fn refusal<T>(result: Result<T, StoreError>) -> Refusal {
    match result {
        Err(StoreError::Refused(refusal)) => refusal,
        Err(e) => panic!("{e:?}"),
        Ok(_) => panic!("it was done"),
    }
}

async fn count(db: &TestDatabase, from: &str) -> String {
    db.texts(&format!("select count(*) from {from}")).await.remove(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_two_administrators_who_go_at_once_one_stays() {
    let db = database().await;
    let (a, b) = (account(&db.store, "a", "admin").await, account(&db.store, "b", "admin").await);
    for round in 0..20 {
        let (one, other) = match round % 3 {
            0 => (role("viewer"), role("none")),
            1 => (disabled(true), disabled(true)),
            _ => (role("operator"), disabled(true)),
        };
        let by = actor();
        let (one, other) =
            tokio::join!(db.store.account_update(a, &one, &by), db.store.account_update(b, &other, &by));
        assert_eq!([one.is_ok(), other.is_ok()].iter().filter(|ok| **ok).count(), 1, "round {round}");
        let refused = refusal(one.and(other));
        assert!(matches!(&refused, Refusal::LastAdmin(name) if name == "a" || name == "b"), "{refused:?}");
        db.execute("update accounts set role = 'admin', disabled_at = null").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_enabled_person_with_the_role_admin_stays_one() {
    let db = database().await;
    let last = account(&db.store, "last", "admin").await;
    let gone = account(&db.store, "gone", "admin").await;
    let service = db.store.account_insert(&new("ci", "service"), "admin", &actor()).await.unwrap().id();
    db.store.account_update(gone, &disabled(true), &actor()).await.unwrap();
    for change in [role("operator"), role("none"), disabled(true)] {
        let refused = refusal(db.store.account_update(last, &change, &actor()).await);
        assert_eq!(refused, Refusal::LastAdmin("last".into()), "{change:?}");
    }
    // These take nothing from anybody.
    let both = AccountChange { role: Some("admin"), disabled: Some(false) };
    assert_eq!(db.store.account_update(last, &both, &actor()).await.unwrap().role, "admin");
    assert_eq!(db.store.account_update(service, &role("viewer"), &actor()).await.unwrap().role, "viewer");
    assert_eq!(db.store.account_update(gone, &role("viewer"), &actor()).await.unwrap().role, "viewer");
    let nobody = Uuid::now_v7().into();
    assert_eq!(
        refusal(db.store.account_update(nobody, &role("viewer"), &actor()).await),
        Refusal::Missing("account")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_ends_the_accounts_sessions_and_unused_invites_and_no_others() {
    let db = database().await;
    let (anna, bert) = (account(&db.store, "anna", "admin").await, account(&db.store, "bert", "admin").await);
    for id in [anna, anna, bert] {
        session(&db.store, id).await;
    }
    for (id, token) in [(anna, "one"), (bert, "two")] {
        let by = Actor { account_id: Some(id), ..actor() };
        db.store.invite_insert(token.as_bytes(), "admin", DAY, &by).await.unwrap();
    }
    let same = db.store.account_update(anna, &role("admin"), &actor()).await.unwrap();
    assert_eq!(
        (same.role.as_str(), count(&db, "sessions where ended_at is not null").await),
        ("admin", "0".into())
    );
    assert_eq!(count(&db, "audit_log where action = 'account_update'").await, "0");
    db.store.account_update(anna, &role("operator"), &actor()).await.unwrap();
    let ended = "select a.name || ' ' || coalesce(s.ended_reason, 'open') from sessions s \
        join accounts a on a.id = s.account_id order by 1";
    assert_eq!(db.texts(ended).await, ["anna role_changed", "anna role_changed", "bert open"]);
    assert_eq!(db.texts("select created_by from invites").await, [bert.to_string()]);
    session(&db.store, anna).await;
    db.store.account_update(anna, &disabled(true), &actor()).await.unwrap();
    assert_eq!(count(&db, "sessions where ended_reason = 'account_disabled'").await, "1");
    let lines = "select before::text || ' ' || after::text from audit_log where action = 'account_update' order by id";
    let expected = [
        (
            json!({"role": "admin", "kind": "user", "disabled": false}),
            json!({"role": "operator", "kind": "user", "disabled": false}),
        ),
        (
            json!({"role": "operator", "kind": "user", "disabled": false}),
            json!({"role": "operator", "kind": "user", "disabled": true}),
        ),
    ];
    for (line, (before, after)) in db.texts(lines).await.iter().zip(expected) {
        let mut values = serde_json::Deserializer::from_str(line).into_iter::<serde_json::Value>();
        assert_eq!((values.next().unwrap().unwrap(), values.next().unwrap().unwrap()), (before, after));
    }
    assert_eq!(count(&db, "audit_log where action = 'account_update'").await, "2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_takes_access_away_is_announced() {
    let db = database().await;
    let anna = account(&db.store, "anna", "viewer").await;
    let token = ApiTokenNew {
        id: Uuid::now_v7(),
        account_id: anna,
        name: "ci".into(),
        sha256: b"t".to_vec(),
        scopes: vec!["*".into()],
        expires_at: None,
        made_with: None,
    };
    db.store.api_token_insert(&token, &actor()).await.unwrap();
    let (tx, mut rx) = tokio::sync::mpsc::unbounded_channel();
    let ready = tokio::sync::Notify::new();
    let listening = db.store.listen(|| ready.notify_one(), |wake| tx.send(wake).unwrap_or_default());
    let acting = async {
        ready.notified().await;
        db.store.account_update(anna, &role("none"), &actor()).await.unwrap();
        assert_eq!(rx.recv().await, Some(Wake::Revoked));
        db.store.account_update(anna, &disabled(true), &actor()).await.unwrap();
        assert_eq!(rx.recv().await, Some(Wake::Revoked));
        db.store.account_password_reset(anna, "other", &actor()).await.unwrap();
        assert_eq!(rx.recv().await, Some(Wake::Revoked));
        db.store.api_token_delete(token.id, Some(anna), &actor()).await.unwrap();
        assert_eq!(rx.recv().await, Some(Wake::Revoked));
    };
    tokio::select! {
        ended = listening => panic!("{ended:?}"),
        acted = tokio::time::timeout(Duration::from_secs(10), acting) => acted.unwrap(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_is_reset_for_a_person_only_and_ends_the_sessions() {
    let db = database().await;
    let anna = account(&db.store, "anna", "viewer").await;
    session(&db.store, anna).await;
    let service = db.store.account_insert(&new("ci", "service"), "viewer", &actor()).await.unwrap().id();
    db.store.account_password_reset(anna, "other", &actor()).await.unwrap();
    assert_eq!(db.texts("select ended_reason from sessions").await, ["password_reset"]);
    let found = db.store.account_fetch(&AccountKey::Name("anna".into())).await.unwrap().unwrap();
    assert_eq!(found.password_hash.as_deref(), Some("other"));
    assert_eq!(
        refusal(db.store.account_password_reset(service, "other", &actor()).await),
        Refusal::Missing("account")
    );
    let lines = "select subject || ' ' || after::text from audit_log where action = 'password_reset'";
    assert_eq!(db.texts(lines).await, ["anna {\"sessions_ended\": 1}"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_administrators_invite_works_once_and_only_the_newest() {
    let db = database().await;
    assert!(db.store.invite_bootstrap(b"old", DAY, &actor()).await.unwrap().is_some());
    assert!(db.store.invite_bootstrap(b"new", DAY, &actor()).await.unwrap().is_some());
    assert_eq!(count(&db, "invites").await, "1");
    assert!(!db.store.invite_is_bootstrap(b"old").await.unwrap());
    assert!(db.store.invite_is_bootstrap(b"new").await.unwrap());
    let refused = refusal(db.store.account_register(&new("eve", "user"), b"old", &actor()).await);
    assert_eq!(refused, Refusal::TokenRefused("invite"));
    let made = db.store.account_register(&new("root", "user"), b"new", &actor()).await.unwrap();
    assert_eq!(made.role, "admin");
    let refused = refusal(db.store.account_register(&new("eve", "user"), b"new", &actor()).await);
    assert_eq!(refused, Refusal::TokenRefused("invite"));
    assert_eq!(db.store.invite_bootstrap(b"late", DAY, &actor()).await.unwrap(), None);
    assert!(!db.store.invite_is_bootstrap(b"new").await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_administrators_invite_goes_with_the_first_administrator_however_that_one_came() {
    let db = database().await;
    db.store.invite_bootstrap(b"b", DAY, &actor()).await.unwrap();
    account(&db.store, "otto", "viewer").await;
    assert_eq!(count(&db, "invites").await, "1", "somebody who registered first takes nothing away");
    account(&db.store, "anna", "admin").await;
    assert_eq!(count(&db, "invites").await, "0");
    // As if it had been made by something that does not know of such invites.
    let left = "insert into invites (id, token_sha256, role, bootstrap, expires_at) \
        values (gen_random_uuid(), 'b', 'admin', true, now() + interval '1 day')";
    db.execute(left).await;
    let refused = refusal(db.store.account_register(&new("eve", "user"), b"b", &actor()).await);
    assert_eq!(refused, Refusal::TokenRefused("invite"));
    assert_eq!(db.store.invite_bootstrap(b"c", DAY, &actor()).await.unwrap(), None);
    assert_eq!(count(&db, "invites").await, "0");
    let used = "insert into invites (id, token_sha256, role, bootstrap, expires_at, used_at) \
        values (gen_random_uuid(), 'u', 'admin', true, now() + interval '1 day', now())";
    db.execute(used).await;
    account(&db.store, "bert", "admin").await;
    assert_eq!(count(&db, "invites").await, "1", "a used one is history");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn controllers_that_start_together_leave_one_invite_and_two_who_use_it_make_one_account() {
    for _ in 0..5 {
        let db = database().await;
        let by = actor();
        let made = tokio::join!(
            db.store.invite_bootstrap(b"a", DAY, &by),
            db.store.invite_bootstrap(b"b", DAY, &by),
        );
        assert!(made.0.unwrap().is_some() && made.1.unwrap().is_some());
        assert_eq!(count(&db, "invites").await, "1");
        let token = if db.store.invite_is_bootstrap(b"a").await.unwrap() { b"a" } else { b"b" };
        let (eve, mallory, host) = (new("eve", "user"), new("mallory", "user"), new("host", "user"));
        let (one, other, at_host) = tokio::join!(
            db.store.account_register(&eve, token, &by),
            db.store.account_register(&mallory, token, &by),
            db.store.account_insert(&host, "admin", &by),
        );
        at_host.unwrap();
        let made = [one, other].into_iter().filter(Result::is_ok).count();
        assert!(made <= 1);
        let accounts = if made == 1 { "2" } else { "1" };
        assert_eq!(count(&db, "accounts").await, accounts);
        assert_eq!(count(&db, "invites where used_at is null").await, "0");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_setting_is_kept_until_it_is_taken_away_and_each_change_is_on_record() {
    let db = database().await;
    assert_eq!(db.store.setting_fetch("registration").await.unwrap(), None);
    for value in [Some(json!("open")), Some(json!("open")), Some(json!("closed")), None, None] {
        db.store.setting_update("registration", value.as_ref(), &actor()).await.unwrap();
        let found = db.store.setting_fetch("registration").await.unwrap();
        assert_eq!(found.as_ref().map(|setting| &setting.value), value.as_ref());
        assert!(found.is_none_or(|setting| setting.updated_by == "tester"));
    }
    let lines =
        "select coalesce(before::text, '-') || ' ' || coalesce(after::text, '-') from audit_log order by id";
    assert_eq!(db.texts(lines).await, ["- \"open\"", "\"open\" \"closed\"", "\"closed\" -"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_token_is_deleted_by_its_owner_or_by_who_may_all_and_makes_no_more_then() {
    let db = database().await;
    let (anna, bert) =
        (account(&db.store, "anna", "viewer").await, account(&db.store, "bert", "viewer").await);
    let token = |n: u8, made_with| ApiTokenNew {
        id: Uuid::now_v7(),
        account_id: anna,
        name: format!("t{n}"),
        sha256: vec![n],
        scopes: vec!["*:read".into()],
        expires_at: None,
        made_with,
    };
    let (first, second) = (token(1, None), token(2, None));
    for new in [&first, &second] {
        db.store.api_token_insert(new, &actor()).await.unwrap();
    }
    let page = db.store.api_token_list_page(anna, None, 1).await.unwrap();
    assert_eq!((page.items[0].name.as_str(), page.items[0].account.as_str()), ("t1", "anna"));
    let page = db.store.api_token_list_page(anna, page.next, 1).await.unwrap();
    assert_eq!((page.items[0].name.as_str(), page.next), ("t2", None));
    assert!(db.store.api_token_list_page(bert, None, 9).await.unwrap().items.is_empty());
    let missing = Refusal::Missing("API token");
    assert_eq!(refusal(db.store.api_token_delete(first.id, Some(bert), &actor()).await), missing);
    db.store.api_token_delete(first.id, Some(anna), &actor()).await.unwrap();
    assert_eq!(refusal(db.store.api_token_delete(first.id, Some(anna), &actor()).await), missing);
    db.store.api_token_delete(second.id, None, &actor()).await.unwrap();
    let refused = refusal(db.store.api_token_insert(&token(3, Some(second.id)), &actor()).await);
    assert_eq!(refused, Refusal::TokenRefused("API token"));
    assert_eq!(refusal(db.store.api_token_end(second.id).await), Refusal::TokenRefused("API token"));
    assert_eq!(count(&db, "api_tokens").await, "0");
}
