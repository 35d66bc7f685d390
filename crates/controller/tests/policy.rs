//! Every operation of the OpenAPI document against every kind of caller.
//!
//! What must come out is computed here from the rows of the policy's table and from
//! nothing else that decides. [`OPERATIONS`] says which row an operation asks for; an
//! operation that it does not name fails the tests, so a new one cannot be forgotten.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on fails where it stands"
)]

mod common;

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use common::{Answer, Api, PASSWORD};
use controller::{
    auth::{
        password::Password,
        policy::{
            self, AccountsRead, AccountsWrite, AuditRead, CredentialsRead, CredentialsReveal,
            CredentialsWrite, DeploymentsRead, DeploymentsWrite, EventsRead, MembersWrite, NodesRead,
            NodesWrite, OwnAccount, OwnTokens, OwnTokensRead, Permission, ProjectsRead, ProjectsWrite, Reach,
            Rule, SettingsRead, SettingsWrite,
        },
        role::Role,
    },
    fleet::{sessions::Request, streams::LogLine},
    http,
    service::{
        credentials::CredentialWish,
        identity::{session::SignInFrom, token::TokenWish},
    },
};
use domain::{
    credential::CredentialValue,
    deployment::{DeploymentSpec, InstanceSpec},
    dossier::Dossier,
    id::{CredentialId, DeploymentId, NodeId, ProjectId},
    name::{Labels, Name},
    node::{NodeFacts, NodeState},
    secret::Secret,
};
use reqwest::{Method, StatusCode, header};
use serde_json::{Value, json};
use store::{account::AccountRow, audit::Actor, deployment::DeploymentNew, node::NodeEnrol};
use uuid::Uuid;

/// An operation, and what it needs; `None` for those that are open to whoever has no
/// token, because they are how one comes to have one.
const OPERATIONS: &[(&str, Option<Rule>)] = &[
    ("auth_methods", None),
    ("auth_register", None),
    ("auth_login", None),
    ("auth_refresh", None),
    ("auth_logout", Some(OwnAccount::RULE)),
    ("auth_logout_all", Some(OwnAccount::RULE)),
    ("auth_password", Some(OwnAccount::RULE)),
    ("auth_me", Some(OwnAccount::RULE)),
    ("github_begin", None),
    ("github_callback", None),
    ("github_exchange", None),
    ("github_link_begin", Some(OwnAccount::RULE)),
    ("github_link_delete", Some(OwnAccount::RULE)),
    ("session_list", Some(OwnAccount::RULE)),
    ("session_end", Some(OwnAccount::RULE)),
    ("api_token_create", Some(OwnTokens::RULE)),
    ("api_token_list", Some(OwnTokensRead::RULE)),
    ("api_token_delete", Some(OwnTokens::RULE)),
    ("account_create", Some(AccountsWrite::RULE)),
    ("account_list", Some(AccountsRead::RULE)),
    ("account_get", Some(AccountsRead::RULE)),
    ("account_update", Some(AccountsWrite::RULE)),
    ("invite_create", Some(AccountsWrite::RULE)),
    ("invite_list", Some(AccountsRead::RULE)),
    ("invite_delete", Some(AccountsWrite::RULE)),
    ("settings_get", Some(SettingsRead::RULE)),
    ("settings_update", Some(SettingsWrite::RULE)),
    ("audit_list", Some(AuditRead::RULE)),
    ("audit_export", Some(AuditRead::RULE)),
    ("enrolment_token_create", Some(NodesWrite::RULE)),
    ("node_list", Some(NodesRead::RULE)),
    ("node_get", Some(NodesRead::RULE)),
    ("node_metrics", Some(NodesRead::RULE)),
    ("node_cordon", Some(NodesWrite::RULE)),
    ("node_uncordon", Some(NodesWrite::RULE)),
    ("node_update", Some(NodesWrite::RULE)),
    ("node_drain", Some(NodesWrite::RULE)),
    ("node_delete", Some(NodesWrite::RULE)),
    ("project_create", Some(ProjectsWrite::RULE)),
    ("project_list", Some(ProjectsRead::RULE)),
    ("project_get", Some(ProjectsRead::RULE)),
    ("project_delete", Some(ProjectsWrite::RULE)),
    ("member_list", Some(ProjectsRead::RULE)),
    ("member_set", Some(MembersWrite::RULE)),
    ("member_remove", Some(MembersWrite::RULE)),
    ("credential_create", Some(CredentialsWrite::RULE)),
    ("credential_list", Some(CredentialsRead::RULE)),
    ("credential_get", Some(CredentialsRead::RULE)),
    ("credential_delete", Some(CredentialsWrite::RULE)),
    ("credential_replace", Some(CredentialsWrite::RULE)),
    ("credential_version_list", Some(CredentialsRead::RULE)),
    ("credential_rollback", Some(CredentialsWrite::RULE)),
    ("credential_used_by", Some(CredentialsRead::RULE)),
    ("credential_reveal", Some(CredentialsReveal::RULE)),
    ("deployment_create", Some(DeploymentsWrite::RULE)),
    ("deployment_list", Some(DeploymentsRead::RULE)),
    ("deployment_get", Some(DeploymentsRead::RULE)),
    ("deployment_delete", Some(DeploymentsWrite::RULE)),
    ("deployment_update", Some(DeploymentsWrite::RULE)),
    ("deployment_rollback", Some(DeploymentsWrite::RULE)),
    ("deployment_scale", Some(DeploymentsWrite::RULE)),
    ("deployment_pause", Some(DeploymentsWrite::RULE)),
    ("deployment_resume", Some(DeploymentsWrite::RULE)),
    ("deployment_cancel", Some(DeploymentsWrite::RULE)),
    ("revision_list", Some(DeploymentsRead::RULE)),
    ("revision_get", Some(DeploymentsRead::RULE)),
    ("revision_diff", Some(DeploymentsRead::RULE)),
    ("instance_get", Some(DeploymentsRead::RULE)),
    ("instance_restart", Some(DeploymentsWrite::RULE)),
    ("instance_stop", Some(DeploymentsWrite::RULE)),
    ("instance_start", Some(DeploymentsWrite::RULE)),
    ("instance_metrics", Some(DeploymentsRead::RULE)),
    ("instance_logs", Some(DeploymentsRead::RULE)),
    ("death_list", Some(DeploymentsRead::RULE)),
    ("death_get", Some(DeploymentsRead::RULE)),
    ("operation_list", Some(DeploymentsRead::RULE)),
    ("operation_get", Some(DeploymentsRead::RULE)),
    ("event_list", Some(EventsRead::RULE)),
];

/// What an operation without an object of a project in its path says of one.
fn names_project_in_body(operation: &str) -> bool {
    matches!(operation, "deployment_create" | "credential_create")
}

/// An operation of the document.
#[derive(Debug)]
struct Operation {
    id: String,
    method: Method,
    /// Below `/api/v1`.
    path: String,
    needs: Option<Rule>,
}

impl Operation {
    fn is_about_a_project(&self) -> bool {
        names_project_in_body(&self.id)
            || ["{project}", "{credential}", "{deployment}", "{instance}", "{operation}"]
                .iter()
                .any(|p| self.path.contains(p))
    }
}

fn operations() -> Vec<Operation> {
    let document = serde_json::to_value(http::openapi_document()).unwrap();
    let mut operations = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let id = operation["operationId"].as_str().unwrap().to_owned();
            let Some((_, needs)) = OPERATIONS.iter().find(|(known, _)| *known == id) else {
                panic!("{method} {path} ({id}) has no row in OPERATIONS of {}: say what it needs", file!());
            };
            assert_eq!(
                operation.get("security").is_some(),
                needs.is_some(),
                "whether {id} needs a token is said differently in the document and in OPERATIONS"
            );
            let (path, method) = (path.trim_start_matches("/api/v1").to_owned(), method.to_uppercase());
            operations.push(Operation { id, method: method.parse().unwrap(), path, needs: *needs });
        }
    }
    operations
}

fn closed() -> impl Iterator<Item = (Operation, Rule)> {
    operations().into_iter().filter_map(|operation| operation.needs.map(|rule| (operation, rule)))
}

/// Somebody with an account.
struct Person {
    account: AccountRow,
    on_fleet: Option<Role>,
    in_a: Option<Role>,
    in_b: Option<Role>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    May,
    Forbidden,
    Hidden,
}

/// What the table says of a person and an operation, about an object of project `a`
/// if it is about one.
fn expected(rule: &Rule, person: &Person, about_a: bool) -> Outcome {
    let over_a = person.on_fleet.max(person.in_a);
    let anywhere = over_a.max(person.in_b);
    let at_least = |role: Option<Role>| role >= Some(rule.role);
    match rule.reach {
        Reach::Own => Outcome::May,
        Reach::Fleet if at_least(person.on_fleet) => Outcome::May,
        Reach::Fleet => Outcome::Forbidden,
        // Whoever may look at nothing may look at lists, which are empty for him.
        Reach::Project if !at_least(anywhere) && rule.role > Role::Viewer => Outcome::Forbidden,
        Reach::Project if !about_a => Outcome::May,
        Reach::Project if over_a.is_none() => Outcome::Hidden,
        Reach::Project if at_least(over_a) => Outcome::May,
        Reach::Project => Outcome::Forbidden,
    }
}

fn outcome(answer: &Answer) -> Outcome {
    match (answer.status, answer.body["code"].as_str()) {
        (StatusCode::FORBIDDEN, Some("role_too_low" | "scope_missing")) => Outcome::Forbidden,
        (StatusCode::NOT_FOUND, Some("not_found")) => Outcome::Hidden,
        _ => Outcome::May,
    }
}

/// A fleet with a node, projects `a` and `b`, and a deployment `web` with a copy in each.
struct World {
    api: Api,
    a: ProjectId,
    b: ProjectId,
    node: NodeId,
    web: Vec<DeploymentNew>,
    stranger: AccountRow,
    counter: AtomicU32,
}

impl World {
    async fn new() -> Self {
        let api = Api::with(|config| config.reveal_enabled = true).await;
        let store = &api.services.store;
        let node = ready_node(&api).await;
        let (a, b) = (Uuid::now_v7().into(), Uuid::now_v7().into());
        let mut web = Vec::new();
        for (id, name) in [(a, "a"), (b, "b")] {
            store.project_insert(id, name, &Actor::system()).await.unwrap();
            let new = deployment(id, "web");
            store.deployment_create(&new, &Actor::system()).await.unwrap();
            web.push(new);
        }
        store.orchestrate(&()).await.unwrap();
        let stranger = account(&api, "stranger", None).await;
        Self { api, a, b, node, web, stranger, counter: AtomicU32::new(0) }
    }

    async fn person(&self, on_fleet: Option<Role>, in_a: Option<Role>, in_b: Option<Role>) -> Person {
        let part = |role: Option<Role>| role.map_or("none", Role::as_str);
        let name = format!("{}-{}-{}", part(on_fleet), part(in_a), part(in_b));
        let account = account(&self.api, &name, on_fleet).await;
        for (project, role) in [(self.a, in_a), (self.b, in_b)] {
            if let Some(role) = role {
                self.membership(project, &name, role).await;
            }
        }
        Person { account, on_fleet, in_a, in_b }
    }

    /// Every role on the fleet, in the project, and in another one.
    async fn people(&self) -> Vec<Person> {
        let roles = [Role::Admin, Role::Operator, Role::Viewer].map(Some);
        let mut people = vec![self.person(None, None, None).await];
        for role in roles {
            people.push(self.person(role, None, None).await);
            people.push(self.person(None, role, None).await);
            people.push(self.person(None, None, role).await);
        }
        people.push(self.person(None, Some(Role::Viewer), Some(Role::Admin)).await);
        people.push(self.person(Some(Role::Viewer), Some(Role::Operator), None).await);
        people
    }

    async fn membership(&self, project: ProjectId, name: &str, role: Role) {
        let store = &self.api.services.store;
        store.project_member_set(project, name, role.as_str(), &Actor::system()).await.unwrap();
    }

    /// A new access token.
    async fn token(&self, account: &AccountRow) -> String {
        let from = SignInFrom { actor: Actor::system(), user_agent: None };
        let signed_in = self.api.services.session_begin(account, "password", from).await.unwrap();
        signed_in.access_token.to_string()
    }

    async fn api_token(&self, account: &AccountRow, scopes: &[&str]) -> (Uuid, String) {
        let scopes = scopes.iter().map(ToString::to_string).collect();
        let wish = TokenWish { name: "t".into(), scopes, lifetime: None };
        let made = self.api.services.api_token_create(account.id(), wish, &Actor::system()).await.unwrap();
        (made.id, made.text.to_string())
    }

    /// Sees to it that the first attempt of a deployment's copy has ended.
    async fn death(&self, deployment: DeploymentId) {
        let dossier = Dossier {
            instance_id: instance_of(&self.api, deployment).await.parse().unwrap(),
            attempt: 1,
            ended_at: chrono::Utc::now(),
            outcome: domain::instance::Outcome::Exited { code: 3, oom: false },
            container_id: None,
            log: Vec::new(),
            log_cut: false,
            probes: Vec::new(),
            memory: Vec::new(),
            memory_limit_bytes: None,
        };
        self.api.services.store.dossier_insert(self.node, &[dossier]).await.unwrap();
    }

    /// A new credential of project `a`.
    async fn credential(&self) -> CredentialId {
        let wish = CredentialWish {
            project_id: self.a,
            name: format!("c{}", self.number()),
            node_labels: Labels::new(),
            value: CredentialValue::Bytes(Secret::copy_of(b"hunter2")),
        };
        self.api.services.credential_create(wish, &Actor::system()).await.unwrap().id
    }

    fn number(&self) -> u32 {
        self.counter.fetch_add(1, Ordering::Relaxed)
    }

    /// An object for each part of a path that stands for one: of project `a`, or of
    /// the caller's own. Those that an operation uses up are new each time.
    async fn path(&self, operation: &Operation, caller: &AccountRow) -> String {
        let (db, services) = (&self.api.db, &self.api.services);
        let web = self.web[0].id;
        let mut parts = Vec::new();
        for part in operation.path.split('/') {
            parts.push(match part {
                "{project}" => self.a.to_string(),
                "{deployment}" => web.to_string(),
                "{operation}" => self.web[0].operation_id.to_string(),
                "{instance}" => instance_of(&self.api, web).await,
                "{revision}" => "1".to_owned(),
                "{attempt}" => {
                    self.death(web).await;
                    "1".to_owned()
                }
                "{credential}" => self.credential().await.to_string(),
                "{node}" => self.node.to_string(),
                "{account}" => {
                    self.membership(self.a, &self.stranger.name, Role::Viewer).await;
                    self.stranger.id().to_string()
                }
                "{invite}" => {
                    let lifetime = Duration::from_secs(60);
                    services.invite_create(None, lifetime, &Actor::system()).await.unwrap().id.to_string()
                }
                "{api_token}" => self.api_token(caller, &["*"]).await.0.to_string(),
                "{session}" => {
                    self.token(caller).await;
                    let newest = format!(
                        "select id from sessions where account_id = '{}' order by id desc limit 1",
                        caller.id()
                    );
                    db.texts(&newest).await.remove(0)
                }
                unknown if unknown.starts_with('{') => {
                    panic!("{}: what does {unknown} stand for? Say it in World::path", operation.id)
                }
                fixed => fixed.to_owned(),
            });
        }
        parts.join("/")
    }

    fn body(&self, operation: &Operation) -> Value {
        match operation.id.as_str() {
            "deployment_create" => {
                json!({"name": format!("d{}", self.number()), "image": "app:1", "replicas": 0, "project": "a"})
            }
            "credential_create" => {
                json!({"name": format!("n{}", self.number()), "kind": "secret", "value": "x", "project": "a"})
            }
            "credential_replace" => json!({"value": "x"}),
            "credential_rollback" => json!({"version": 1}),
            "node_update" => json!({"labels": {}}),
            "deployment_update" => json!({"name": "web", "image": "app:2", "replicas": 0}),
            "deployment_rollback" => json!({"revision": 1}),
            "deployment_scale" => json!({"replicas": 0}),
            "member_set" => json!({"role": "viewer"}),
            "project_create" => json!({"name": format!("p{}", self.number())}),
            _ => json!({}),
        }
    }

    async fn call(&self, operation: &Operation, path: &str, token: Option<&str>) -> Answer {
        let mut request = self.api.request(operation.method.clone(), path, token);
        if operation.method != Method::GET {
            request = request.json(&self.body(operation));
        }
        let request = request.timeout(Duration::from_secs(30));
        self.api.send(request).await
    }

    /// What refused requests must leave as it is.
    async fn state(&self) -> Vec<String> {
        let query = "select concat_ws(' ', (select count(*) from operations), (select count(*) from deployments), \
            (select string_agg(id || ' ' || latest, ',' order by id) from credentials), \
            (select count(*) from accounts), (select count(*) from invites), \
            (select count(*) from instances where desired = 'running'), \
            (select string_agg(name || coalesce(deleted_at::text, ''), ',' order by name) from projects), \
            (select string_agg(account_id || role, ',' order by project_id, account_id) from project_members))";
        self.api.db.texts(query).await
    }
}

fn deployment(project_id: ProjectId, name: &str) -> DeploymentNew {
    let instance = InstanceSpec::of_image("app:1");
    DeploymentNew {
        project_id,
        id: Uuid::now_v7().into(),
        name: name.into(),
        spec: DeploymentSpec { progress_deadline_seconds: 60, ..DeploymentSpec::of_instance(instance) },
        operation_id: Uuid::now_v7().into(),
        idempotency: None,
    }
}

async fn ready_node(api: &Api) -> NodeId {
    let (store, token) = (&api.services.store, Uuid::now_v7());
    let uses = (1, Duration::from_secs(60));
    store
        .enrolment_token_insert(Uuid::now_v7(), token.as_bytes(), &Labels::new(), uses, &Actor::system())
        .await
        .unwrap();
    let facts = NodeFacts { cpu_millis: 64_000, memory_bytes: 64 << 30, ..NodeFacts::default() };
    let enrol = NodeEnrol {
        id: Uuid::now_v7().into(),
        token_sha256: token.as_bytes(),
        key_sha256: b"key",
        name: &Name::parse("n1").unwrap(),
        facts: &facts,
        address: None,
    };
    let node = store.node_enrol(&enrol).await.unwrap().id;
    store.node_session_begin(node, &facts, Uuid::now_v7().into()).await.unwrap();
    store.node_state_set(node, NodeState::Ready, chrono::Utc::now()).await.unwrap();
    node
}

async fn instance_of(api: &Api, deployment: DeploymentId) -> String {
    let query = format!("select id from instances where deployment_id = '{deployment}'");
    api.db.texts(&query).await.remove(0)
}

async fn account(api: &Api, name: &str, role: Option<Role>) -> AccountRow {
    let password = Password::new(PASSWORD);
    let made = role.unwrap_or(Role::Viewer);
    let row = api.services.account_create(name.into(), password, made, &Actor::system()).await.unwrap();
    if role.is_none() {
        api.db.execute(&format!("update accounts set role = 'none' where name = '{name}'")).await;
    }
    row
}

#[test]
fn every_operation_has_exactly_one_row_and_every_permission_is_asked_for() {
    let documented: BTreeSet<String> = operations().into_iter().map(|operation| operation.id).collect();
    let known: BTreeSet<String> = OPERATIONS.iter().map(|(id, _)| (*id).to_owned()).collect();
    assert_eq!(known.difference(&documented).collect::<Vec<_>>(), [""; 0], "rows of no operation");
    assert_eq!(known.len(), OPERATIONS.len(), "an operation has two rows");
    let asked: BTreeSet<&str> = OPERATIONS.iter().filter_map(|(_, rule)| Some(rule.as_ref()?.name)).collect();
    let table: BTreeSet<&str> = policy::TABLE.iter().map(|rule| rule.name).collect();
    assert_eq!(asked, table, "a permission that no operation needs is none");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_no_good_token_gets_nowhere_but_to_where_one_gets_a_token() {
    let world = World::new().await;
    let before = world.state().await;
    let expired = world.api_token(&world.stranger, &["*"]).await.1;
    world.api.db.execute("update api_tokens set expires_at = now() - interval '1 s'").await;
    for operation in operations() {
        let path = match operation.needs {
            Some(_) => operation.path.replace(['{', '}'], ""),
            None => operation.path.clone(),
        };
        if operation.needs.is_none() {
            let answer = world.call(&operation, &path, None).await;
            let code = answer.body["code"].as_str();
            assert!(!matches!(code, Some("no_token" | "bad_token")), "{}: {}", operation.id, answer.body);
            continue;
        }
        for token in
            [None, Some("nonsense"), Some("a67_nonsense"), Some("eyJhbGciOiJub25lIn0.e30."), Some(&*expired)]
        {
            let answer = world.call(&operation, &path, token).await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{} {token:?}", operation.id);
            let code = if token.is_none() { "no_token" } else { "bad_token" };
            assert_eq!(answer.body["code"], code, "{} {token:?}", operation.id);
            assert_eq!(answer.headers[header::CONTENT_TYPE], "application/problem+json");
            assert_eq!(answer.body["request_id"].as_str(), answer.headers["x-request-id"].to_str().ok());
        }
    }
    assert_eq!(world.state().await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_operation_answers_every_role_as_the_table_says() {
    let world = World::new().await;
    for person in world.people().await {
        for (operation, rule) in closed() {
            let path = world.path(&operation, &person.account).await;
            let (token, before) = (world.token(&person.account).await, world.state().await);
            let answer = world.call(&operation, &path, Some(&token)).await;
            let what =
                format!("{} as {}: {} {}", operation.id, person.account.name, answer.status, answer.body);
            let wanted = expected(&rule, &person, operation.is_about_a_project());
            match wanted {
                Outcome::May => {
                    assert_ne!(answer.status, StatusCode::UNAUTHORIZED, "{what}");
                    assert_ne!(outcome(&answer), Outcome::Forbidden, "{what}");
                    let is_there = !operation.path.contains('{') || outcome(&answer) != Outcome::Hidden;
                    assert!(is_there, "{what}");
                    let node_is_away = answer.body["code"] == "node_unavailable";
                    assert!(!answer.status.is_server_error() || node_is_away, "{what}");
                }
                Outcome::Forbidden | Outcome::Hidden => {
                    assert_eq!(outcome(&answer), wanted, "{what}");
                    assert_eq!(world.state().await, before, "{what}");
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_projects_object_cannot_be_told_from_one_that_is_not_there() {
    let world = World::new().await;
    let nowhere = Uuid::now_v7().to_string();
    let same = |mut answer: Answer| {
        answer.body["request_id"] = Value::Null;
        (answer.status, answer.body)
    };
    for role in [None, Some(Role::Viewer), Some(Role::Admin)] {
        let person = world.person(None, None, role).await;
        let token = world.token(&person.account).await;
        for (operation, _) in closed().filter(|(operation, _)| operation.is_about_a_project()) {
            let path = world.path(&operation, &person.account).await;
            if path == operation.path {
                continue;
            }
            let real = ["{project}", "{deployment}", "{operation}", "{instance}"];
            let absent = operation.path.split('/').zip(path.split('/'));
            let absent: Vec<_> =
                absent.map(|(part, filled)| if real.contains(&part) { &*nowhere } else { filled }).collect();
            let there = same(world.call(&operation, &path, Some(&token)).await);
            let not_there = same(world.call(&operation, &absent.join("/"), Some(&token)).await);
            let unpathed = |(status, body): (StatusCode, Value)| {
                (status, body.to_string().replace(&path, "").replace(&absent.join("/"), ""))
            };
            assert_eq!(unpathed(there), unpathed(not_there), "{} as {}", operation.id, person.account.name);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_token_reaches_what_its_scopes_cover_and_no_other_operation() {
    let world = World::new().await;
    let admin = account(&world.api, "admin", Some(Role::Admin)).await;
    for scope in ["*:read", "deployments:write", "self"] {
        let token = world.api_token(&admin, &[scope]).await.1;
        for (operation, rule) in closed() {
            let path = world.path(&operation, &admin).await;
            let answer = world.call(&operation, &path, Some(&token)).await;
            let refused = answer.body["code"] == "scope_missing";
            let what = format!("{} with {scope}: {}", operation.id, answer.body);
            assert_eq!(refused, !policy::covers(scope, &rule), "{what}");
            assert_eq!(refused, answer.status == StatusCode::FORBIDDEN && refused, "{what}");
            assert_ne!(answer.status, StatusCode::UNAUTHORIZED, "{what}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_hold_only_what_their_reader_sees() {
    let world = World::new().await;
    let member = world.person(None, Some(Role::Viewer), None).await;
    let (none, fleet) =
        (world.person(None, None, None).await, world.person(Some(Role::Viewer), None, None).await);
    let projects = async |path: &str, person: &Person| {
        let answer = world.api.get(path, &world.token(&person.account).await).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.body);
        let field = if path == "/projects" { "name" } else { "project" };
        let items = answer.body["items"].as_array().unwrap().iter();
        items.map(|item| item[field].as_str().unwrap_or("no project").to_owned()).collect::<BTreeSet<_>>()
    };
    for path in ["/deployments", "/operations", "/events", "/projects"] {
        assert_eq!(projects(path, &member).await, BTreeSet::from(["a".to_owned()]), "{path}");
        assert!(projects(path, &none).await.is_empty(), "{path}");
        assert!(projects(path, &fleet).await.is_superset(&BTreeSet::from(["a".to_owned(), "b".into()])));
    }
    assert!(projects("/events", &fleet).await.contains("no project"), "what happened to a node");
    let foreign = world.web[1].id;
    for path in
        [format!("/events?deployment={foreign}"), "/events?node=n1".into(), "/events?node=none".into()]
    {
        assert!(!projects(&path, &member).await.contains("b"), "{path}");
    }
    let token = world.token(&member.account).await;
    for path in ["/deployments?project=b", "/events?project=b", "/deployments?project=nothing"] {
        assert_eq!(world.api.get(path, &token).await.status, StatusCode::NOT_FOUND, "{path}");
    }
    let own = world.api.get("/deployments/web", &token).await;
    assert_eq!((own.status, &own.body["project"]), (StatusCode::OK, &json!("a")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_means_the_default_project_or_the_only_one_that_has_it() {
    let world = World::new().await;
    let operator = world.person(Some(Role::Operator), None, None).await;
    let token = world.token(&operator.account).await;
    let ambiguous = world.api.get("/deployments/web", &token).await;
    assert_eq!((ambiguous.status, &ambiguous.body["code"]), (StatusCode::CONFLICT, &json!("ambiguous_name")));
    assert!(ambiguous.body["detail"].as_str().unwrap().contains("a, b"), "{}", ambiguous.body);
    let delete = world.api.request(Method::DELETE, "/deployments/web", Some(&token));
    assert_eq!(world.api.send(delete).await.status, StatusCode::CONFLICT);
    for project in ["a", "b", &world.b.to_string()] {
        let shown = world.api.get(&format!("/deployments/web?project={project}"), &token).await;
        let id = usize::from(project != "a");
        assert_eq!(shown.body["id"], world.web[id].id.to_string(), "{project}: {}", shown.body);
    }
    let other = format!("/deployments/{}?project=b", world.web[0].id);
    assert_eq!(world.api.get(&other, &token).await.status, StatusCode::NOT_FOUND, "it is in a");
    let made = world.api.post("/deployments", Some(&token), json!({"name": "web", "image": "x"})).await;
    assert_eq!((made.status, &made.body["project"]), (StatusCode::ACCEPTED, &json!("default")));
    assert_eq!(world.api.get("/deployments/web", &token).await.body["project"], "default");
    let listed = world.api.get("/deployments?project=b", &token).await;
    let listed = listed.body["items"].as_array().unwrap().clone();
    assert_eq!((listed.len(), &listed[0]["project"]), (1, &json!("b")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_project_is_made_filled_and_deleted_and_memberships_count_at_once() {
    let world = World::new().await;
    let (admin, anna) =
        (world.person(Some(Role::Admin), None, None).await, world.person(None, None, None).await);
    let (root, token) = (world.token(&admin.account).await, world.token(&anna.account).await);
    let api = &world.api;
    let call = async |method: Method, path: &str, token: &str, body: Value| {
        api.send(api.request(method, path, Some(token)).json(&body)).await
    };
    for (name, status) in [("c", 201), ("c", 409), ("C", 422), ("6ba7b810-9dad-11d1-80b4-00c04fd430c8", 422)]
    {
        let made = call(Method::POST, "/projects", &root, json!({ "name": name })).await;
        assert_eq!(made.status.as_u16(), status, "{name}: {}", made.body);
    }
    assert_eq!(api.get("/projects/c", &token).await.status, StatusCode::NOT_FOUND);
    let member = format!("/projects/c/members/{}", anna.account.name);
    let set = async |role: &str| call(Method::PUT, &member, &root, json!({ "role": role })).await;
    assert_eq!(set("owner").await.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(set("viewer").await.body["role"], "viewer");
    assert_eq!(api.get("/projects/c", &token).await.body["role"], "viewer");
    let deploy = async || {
        call(Method::POST, "/deployments", &token, json!({"name": "x", "image": "x", "project": "c"})).await
    };
    assert_eq!(deploy().await.body["code"], "role_too_low");
    set("operator").await;
    assert_eq!(deploy().await.status, StatusCode::ACCEPTED, "a raised role counts at once");
    let members = api.get("/projects/c/members", &token).await;
    assert_eq!(members.body["items"][0]["account"], anna.account.name);
    assert_eq!(set("viewer").await.status, StatusCode::OK);
    let delete = call(Method::DELETE, "/deployments/x?project=c", &token, json!({})).await;
    assert_eq!(delete.body["code"], "role_too_low", "a lowered role counts at once");
    assert_eq!(call(Method::DELETE, &member, &root, json!({})).await.status, StatusCode::NO_CONTENT);
    assert_eq!(api.get("/projects/c", &token).await.status, StatusCode::NOT_FOUND);
    for (project, code) in [("c", "project_not_empty"), ("default", "default_project")] {
        let refused = call(Method::DELETE, &format!("/projects/{project}"), &root, json!({})).await;
        assert_eq!((refused.status, &refused.body["code"]), (StatusCode::CONFLICT, &json!(code)));
    }
    api.db.execute("update deployments set deleted_at = now() where name = 'x'").await;
    assert_eq!(call(Method::DELETE, "/projects/c", &root, json!({})).await.status, StatusCode::NO_CONTENT);
    assert_eq!(api.get("/projects/c", &root).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_is_followed_for_no_longer_than_its_reader_may() {
    let world = World::new().await;
    let (api, streams) = (&world.api, &world.api.services.streams);
    let mut session = api.services.sessions.register(world.node, 1).unwrap();
    let member = world.person(None, Some(Role::Viewer), None).await;
    let path = format!("/instances/{}/logs?follow=true", instance_of(api, world.web[0].id).await);
    let follow = async |token: &str| {
        let request = api.request(Method::GET, &path, Some(token)).timeout(Duration::from_secs(30));
        request.send().await.unwrap()
    };
    let mut ends = Vec::new();
    for end in ["signed out", "no member any more", "still a member"] {
        world.membership(world.a, &member.account.name, Role::Viewer).await;
        let token = world.token(&member.account).await;
        let mut response = follow(&token).await;
        assert_eq!(response.status(), StatusCode::OK);
        let Some(Request::Logs { stream_id, .. }) = session.requests.recv().await else {
            panic!("no log is asked for")
        };
        let lines = streams.attach(stream_id, world.node).unwrap();
        let line = LogLine { at: None, stderr: false, text: "hello".into(), partial: false };
        lines.send(Ok(line)).await.unwrap();
        let first = response.chunk().await.unwrap().unwrap();
        assert!(String::from_utf8_lossy(&first).contains("hello"));
        match end {
            "signed out" => {
                let answer = api.post("/auth/logout", Some(&token), json!({})).await;
                assert_eq!(answer.status, StatusCode::NO_CONTENT);
            }
            "no member any more" => {
                let store = &api.services.store;
                store.project_member_remove(world.a, &member.account.name, &Actor::system()).await.unwrap();
            }
            _ => drop(lines),
        }
        let mut rest = String::new();
        while let Some(chunk) = response.chunk().await.unwrap() {
            rest.push_str(&String::from_utf8_lossy(&chunk));
        }
        ends.push(rest);
    }
    let cut = "event: error\ndata: {\"message\":\"your access to this log has ended\"}\n\n";
    assert_eq!(ends, [cut, cut, "event: end\ndata: {}\n\n"]);
}
