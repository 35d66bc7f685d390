//! Projects: what is in which, who is a member, and what such a member's lists hold.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on fails where it stands"
)]

use std::collections::BTreeSet;

use domain::{
    deployment::{DeploymentSpec, InstanceSpec},
    id::{ProjectId, UserId},
};
use store::{
    Refusal, Store, StoreError,
    account::AccountNew,
    audit::Actor,
    caller::Visible,
    deployment::{DeploymentKey, DeploymentNew},
    event::{EventFilter, EventNew, Severity},
    project::{Project, ProjectKey},
    testing::{TestDatabase, database},
};
use uuid::Uuid;

fn actor() -> Actor {
    Actor { name: "tester".into(), ..Actor::system() }
}

fn deployment(project_id: ProjectId, name: &str) -> DeploymentNew {
    let instance = InstanceSpec::of_image("app:1");
    DeploymentNew {
        project_id,
        id: Uuid::now_v7().into(),
        name: name.into(),
        spec: DeploymentSpec {
            replicas: 0,
            progress_deadline_seconds: 60,
            ..DeploymentSpec::of_instance(instance)
        },
        operation_id: Uuid::now_v7().into(),
        idempotency: None,
    }
}

async fn project(store: &Store, name: &str) -> Project {
    store.project_insert(Uuid::now_v7().into(), name, &actor()).await.unwrap()
}

async fn create(store: &Store, project: ProjectId, name: &str) -> DeploymentNew {
    let new = deployment(project, name);
    store.deployment_create(&new, &actor()).await.unwrap();
    new
}

async fn account(store: &Store, name: &str) -> UserId {
    let id = Uuid::now_v7().into();
    let new = AccountNew { id, name: name.into(), kind: "user", password_hash: None, email: None };
    store.account_insert(&new, "none", &actor()).await.unwrap();
    id
}

fn refused<T: std::fmt::Debug>(result: Result<T, StoreError>) -> Refusal {
    match result {
        Err(StoreError::Refused(refusal)) => refusal,
        other => panic!("{other:?} is no refusal"),
    }
}

/// A database with a deployment `web` in the default project, in `a` and in `b`.
async fn three() -> (TestDatabase, Project, Project) {
    let db = database().await;
    let (a, b) = (project(&db.store, "a").await, project(&db.store, "b").await);
    for id in [b.id(), ProjectId::DEFAULT, a.id()] {
        create(&db.store, id, "web").await;
    }
    (db, a, b)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_default_project_is_there_and_stays() {
    let db = database().await;
    let default = db.store.project_fetch(&ProjectKey::Id(ProjectId::DEFAULT)).await.unwrap().unwrap();
    assert_eq!((default.name.as_str(), default.is_default), ("default", true));
    let refusal = refused(db.store.project_delete(ProjectId::DEFAULT, &actor()).await);
    assert_eq!(refusal, Refusal::DefaultProject);
    db.refusal_of("insert into projects (id, name, is_default) values (gen_random_uuid(), 'x', true)").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_is_unique_in_its_project_and_free_again_after_deletion() {
    let (db, a, _) = three().await;
    let again = db.store.deployment_create(&deployment(a.id(), "web"), &actor()).await;
    assert_eq!(refused(again), Refusal::NameTaken("web".into()));
    assert_eq!(
        refused(db.store.project_insert(Uuid::now_v7().into(), "a", &actor()).await),
        Refusal::NameTaken("a".into())
    );
    assert_eq!(refused(db.store.project_delete(a.id(), &actor()).await), Refusal::NotEmpty("a".into()));
    let web = DeploymentKey::In(a.id(), "web".into());
    db.store.deployment_delete(&web, Uuid::now_v7().into(), &actor()).await.unwrap();
    assert_eq!(
        refused(db.store.project_delete(a.id(), &actor()).await),
        Refusal::NotEmpty("a".into()),
        "what is being deleted is not gone"
    );
    db.store.orchestrate(&()).await.unwrap();
    db.store.project_delete(a.id(), &actor()).await.unwrap();
    assert_eq!(refused(db.store.project_delete(a.id(), &actor()).await), Refusal::Missing("project"));
    let late = db.store.deployment_create(&deployment(a.id(), "late"), &actor()).await;
    assert_eq!(refused(late), Refusal::Missing("project"));
    assert_ne!(project(&db.store, "a").await.id(), a.id());
    let left = db.store.deployment_fetch(&DeploymentKey::Name("web".into())).await.unwrap().unwrap();
    assert_eq!(left.project, "default", "a name alone is one in the default project");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_never_comes_into_a_project_that_is_deleted_meanwhile() {
    let db = database().await;
    for n in 0..10 {
        let made = project(&db.store, &format!("p{n}")).await;
        let new = deployment(made.id(), "web");
        let by = actor();
        let (created, deleted) =
            tokio::join!(db.store.deployment_create(&new, &by), db.store.project_delete(made.id(), &by));
        assert_ne!(created.is_ok(), deleted.is_ok(), "exactly one of the two is done");
    }
    let lost =
        "select d.id from deployments d join projects p on p.id = d.project_id and p.deleted_at is not null";
    assert_eq!(db.texts(lost).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_hold_what_is_seen_and_pages_do_not_count_the_rest() {
    let (db, a, b) = three().await;
    let event = EventNew::now("node_ready", Severity::Info, "about no deployment");
    db.store.event_insert(&event).await.unwrap();
    let seen = async |visible: &Visible| {
        let (mut deployments, mut after) = (Vec::new(), None);
        loop {
            let page = db.store.deployment_list_page(visible, None, after, 1).await.unwrap();
            deployments.extend(page.items.into_iter().map(|d| d.project));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        let operations = db.store.operation_list_page(visible, None, 50).await.unwrap();
        let operations: Vec<_> = operations.items.into_iter().map(|o| o.project.unwrap().1).collect();
        let events = db.store.event_list_page(visible, &EventFilter::default(), None, 50).await.unwrap();
        let events: Vec<_> = events.items.into_iter().map(|e| e.project.unwrap_or_default()).collect();
        let projects = db.store.project_list_page(visible, None, 50).await.unwrap();
        let projects: BTreeSet<_> = projects.items.into_iter().map(|p| p.name).collect();
        (deployments, operations, events, projects)
    };
    let set = |names: &[&str]| names.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
    let (deployments, operations, events, projects) = seen(&Visible::All).await;
    assert_eq!(deployments, ["b", "default", "a"]);
    assert_eq!(operations, ["a", "default", "b"]);
    assert_eq!(events, ["", "a", "default", "b"]);
    assert_eq!(projects, set(&["a", "b", "default"]));
    let (deployments, operations, events, projects) =
        seen(&Visible::Projects(vec![a.id().uuid(), b.id().uuid()])).await;
    assert_eq!((deployments, operations), (vec!["b".into(), "a".into()], vec!["a".into(), "b".into()]));
    assert_eq!((events, projects), (vec!["a".to_owned(), "b".into()], set(&["a", "b"])));
    let (deployments, operations, events, projects) = seen(&Visible::Projects(Vec::new())).await;
    assert!(deployments.is_empty() && operations.is_empty() && events.is_empty() && projects.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filters_only_take_away_from_what_is_seen() {
    let (db, a, b) = three().await;
    let only_a = Visible::Projects(vec![a.id().uuid()]);
    for (project, count) in [(a.id(), 1), (b.id(), 0)] {
        let deployments = db.store.deployment_list_page(&only_a, Some(project), None, 50).await.unwrap();
        assert_eq!(deployments.items.len(), count);
        let filter = EventFilter { project_id: Some(project), ..EventFilter::default() };
        assert_eq!(db.store.event_list_page(&only_a, &filter, None, 50).await.unwrap().items.len(), count);
    }
    let foreign = db.store.deployment_fetch(&DeploymentKey::In(b.id(), "web".into())).await.unwrap().unwrap();
    let filter = EventFilter { deployment_id: Some(foreign.id), ..EventFilter::default() };
    assert!(db.store.event_list_page(&only_a, &filter, None, 50).await.unwrap().items.is_empty());
    let projects = async |visible: &Visible| {
        let found = db.store.deployment_list_named("web", visible).await.unwrap();
        found.into_iter().map(|d| d.project).collect::<Vec<_>>()
    };
    assert_eq!(projects(&Visible::All).await, ["default", "a", "b"]);
    assert_eq!(projects(&only_a).await, ["a"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forgotten_deployments_operation_is_only_for_who_sees_all() {
    let db = database().await;
    let a = project(&db.store, "a").await;
    let new = create(&db.store, a.id(), "web").await;
    let only_a = Visible::Projects(vec![a.id().uuid()]);
    assert_eq!(db.store.operation_list_page(&only_a, None, 50).await.unwrap().items.len(), 1);
    db.execute(&format!("delete from deployments where id = '{}'", new.id)).await;
    assert!(db.store.operation_list_page(&only_a, None, 50).await.unwrap().items.is_empty());
    let all = db.store.operation_list_page(&Visible::All, None, 50).await.unwrap().items;
    assert_eq!((all.len(), &all[0].project), (1, &None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_deployment_is_kept_for_longer_than_its_operations() {
    let db = database().await;
    let a = project(&db.store, "a").await;
    create(&db.store, a.id(), "web").await;
    let left = async |days: u32| {
        db.execute(&format!(
            "update operations set finished_at = now() - interval '{days} days';
             update deployments set deleted_at = now() - interval '{days} days';
             update projects set deleted_at = now() - interval '{days} days' where not is_default"
        ))
        .await;
        db.store.retention_apply().await.unwrap();
        let count = "select count(*) from operations union all select count(*) from deployments \
                     union all select count(*) from projects where not is_default";
        db.texts(count).await
    };
    assert_eq!(left(89).await, ["1", "1", "1"]);
    assert_eq!(left(90).await, ["0", "1", "1"]);
    assert_eq!(left(91).await, ["0", "0", "1"]);
    assert_eq!(left(92).await, ["0", "0", "0"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_membership_is_set_changed_and_ended_by_name_or_id_and_written_down() {
    let db = database().await;
    let (a, b) = (project(&db.store, "a").await, project(&db.store, "b").await);
    let (anna, bert) = (account(&db.store, "anna").await, account(&db.store, "bert").await);
    let set =
        async |account: &str, role: &str| db.store.project_member_set(a.id(), account, role, &actor()).await;
    let first = set("anna", "viewer").await.unwrap();
    assert_eq!((first.account_id(), first.role.as_str()), (anna, "viewer"));
    let changed = set(&anna.to_string(), "operator").await.unwrap();
    assert_eq!((changed.role.as_str(), changed.created_at), ("operator", first.created_at));
    assert_eq!(set("anna", "operator").await.unwrap(), changed, "again changes nothing");
    set("bert", "admin").await.unwrap();
    assert_eq!(refused(set("nobody", "viewer").await), Refusal::Missing("account"));
    let page = db.store.project_member_list_page(a.id(), None, 1).await.unwrap();
    assert_eq!(page.items, [changed]);
    let page = db.store.project_member_list_page(a.id(), page.next, 1).await.unwrap();
    assert_eq!((page.items[0].account_id(), page.next), (bert, None));
    assert!(db.store.project_member_list_page(b.id(), None, 50).await.unwrap().items.is_empty());
    let remove = async |account: &str| db.store.project_member_remove(a.id(), account, &actor()).await;
    remove("anna").await.unwrap();
    for account in ["anna", "nobody"] {
        assert_eq!(refused(remove(account).await), Refusal::Missing("member"), "{account}");
    }
    let lines = "select concat_ws(' ', action, subject, project, before->>'role', '->', after->>'role') \
                 from audit_log where action like 'member%' order by id";
    let expected = [
        "member_set anna a -> viewer",
        "member_set anna a viewer -> operator",
        "member_set bert a -> admin",
        "member_remove anna a operator ->",
    ];
    assert_eq!(db.texts(lines).await, expected);
}
