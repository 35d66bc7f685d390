//! What agents are given of the vault over gRPC, and what they are not.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on fails where it stands"
)]

mod common;

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use common::Api;
use controller::{auth::role::Role, grpc, pki, service::enrolment::EnrolmentRequest};
use domain::{
    id::NodeId,
    name::Labels,
    node::{NodeFacts, NodeState},
};
use protocol::proto::{self, agent_service_client::AgentServiceClient, secret_part::Part};
use reqwest::Method;
use serde_json::{Value, json};
use store::audit::Actor;
use tonic::{
    Code,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};
use uuid::Uuid;

const SECRET: &str = "hunter2-pa$$w0rd\n";

/// A fleet with nodes whose agents speak.
struct Fleet {
    api: Api,
    token: String,
    address: String,
}

/// A node, as its agent sees the controller.
struct Node {
    id: NodeId,
    agent: AgentServiceClient<Channel>,
}

fn pem(der: &[u8]) -> String {
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", STANDARD.encode(der))
}

impl Fleet {
    async fn new() -> Self {
        let api = Api::new().await;
        let token = api.account("root", Role::Admin).await;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("https://{}", listener.local_addr().unwrap());
        let (services, supervisor) = (api.services.clone(), &api.services.supervisor);
        let tls = pki::server_config(services.ca.clone()).unwrap();
        let incoming = pki::incoming(listener, tls, supervisor);
        let stop = services.stopping.clone();
        supervisor.spawn("agents", grpc::serve(services.clone(), incoming, stop));
        Self { api, token, address }
    }

    async fn node(&self, name: &str, labels: &[(&str, &str)]) -> Node {
        let (services, once) = (&self.api.services, (1, Duration::from_secs(60)));
        let labels: Labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let (id, sha256) = (Uuid::now_v7(), controller::auth::token::sha256(name));
        services.store.enrolment_token_insert(id, &sha256, &labels, once, &Actor::system()).await.unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let facts = NodeFacts { cpu_millis: 4000, memory_bytes: 8 << 30, ..NodeFacts::default() };
        let request = EnrolmentRequest {
            token: name.to_owned(),
            csr_der: rcgen::CertificateParams::default().serialize_request(&key).unwrap().der().to_vec(),
            facts: facts.clone(),
            name: name.to_owned(),
            address: None,
        };
        let enrolled = services.node_enrol(request).await.unwrap();
        services.store.node_session_begin(enrolled.node_id, &facts, Uuid::now_v7().into()).await.unwrap();
        services.store.node_state_set(enrolled.node_id, NodeState::Ready, chrono::Utc::now()).await.unwrap();
        let tls = ClientTlsConfig::new()
            .domain_name("controller.automator67.internal")
            .ca_certificate(Certificate::from_pem(pem(services.ca.certificate())))
            .identity(Identity::from_pem(pem(&enrolled.certificate_der), key.serialize_pem()));
        let endpoint = Endpoint::from_shared(self.address.clone()).unwrap();
        let channel = endpoint.tls_config(tls).unwrap().connect().await.unwrap();
        Node { id: enrolled.node_id, agent: AgentServiceClient::new(channel) }
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        let answer = self.api.post(path, Some(&self.token), body).await;
        assert!(answer.status.is_success(), "{path}: {}", answer.body);
        answer.body
    }

    async fn put(&self, name: &str, body: Value) {
        let path = format!("/credentials/{name}/value");
        let answer = self.api.send(self.api.request(Method::PUT, &path, Some(&self.token)).json(&body)).await;
        assert!(answer.status.is_success(), "{}", answer.body);
    }

    /// Deploys one copy, and gives the id of its instance and where it is.
    async fn deploy(&self, name: &str, image: &str, secrets: Value) -> (String, String) {
        self.post("/deployments", json!({"name": name, "image": image, "secrets": secrets})).await;
        self.api.services.store.orchestrate(&()).await.unwrap();
        let query = format!(
            "select i.id || ' ' || i.node_id from instances i join deployments d on d.id = i.deployment_id where d.name = '{name}'"
        );
        let found = self.api.db.texts(&query).await.remove(0);
        let (id, node) = found.split_once(' ').unwrap();
        (id.to_owned(), node.to_owned())
    }
}

impl Node {
    async fn fetch(&self, instance: &str) -> Result<Vec<Part>, tonic::Status> {
        let request = proto::FetchSecretsRequest { instance_id: instance.to_owned() };
        let mut parts = self.agent.clone().fetch_secrets(request).await?.into_inner();
        let mut all = Vec::new();
        while let Some(part) = parts.message().await? {
            all.push(part.part.unwrap());
        }
        Ok(all)
    }

    async fn missing(&self, instance: &str) -> String {
        match self.fetch(instance).await.unwrap().as_slice() {
            [Part::Missing(missing)] => missing.message.clone(),
            other => panic!("{} parts and none is missing", other.len()),
        }
    }
}

fn value(part: &Part) -> (u32, &[u8]) {
    match part {
        Part::Value(value) => (value.index, &value.value),
        _ => panic!("it is no value"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_gets_what_its_instance_asks_for_and_only_that_part() {
    let fleet = Fleet::new().await;
    let node = fleet.node("n1", &[]).await;
    let data = json!({"password": SECRET, "other": "not asked for", "port": 5432});
    fleet.post("/credentials", json!({"name": "db", "kind": "secret", "data": data})).await;
    let raw: Vec<u8> = (0..=255).collect::<Vec<u8>>().repeat(1024);
    let body = json!({"name": "raw", "kind": "secret", "value_base64": STANDARD.encode(&raw)});
    fleet.post("/credentials", body).await;
    let secrets = json!([
        {"credential": "db", "key": "password", "as": {"file": "/run/a"}},
        {"credential": "db", "key": "/port", "as": {"env": "PORT"}},
        {"credential": "raw", "as": {"file": "/run/raw"}},
    ]);
    let (instance, _) = fleet.deploy("web", "app:1", secrets).await;
    let parts = node.fetch(&instance).await.unwrap();
    assert_eq!(parts.len(), 3);
    assert!(value(&parts[0]) == (0, SECRET.as_bytes()), "byte for byte");
    assert!(value(&parts[1]) == (1, b"5432"));
    assert!(value(&parts[2]) == (2, raw.as_slice()), "256 KiB of any bytes");
    let without = fleet.deploy("plain", "app:1", json!([])).await.0;
    assert!(node.fetch(&without).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_gets_what_another_nodes_instance_asks_for_and_a_revoked_node_gets_nothing() {
    let fleet = Fleet::new().await;
    let nodes = [fleet.node("n1", &[]).await, fleet.node("n2", &[]).await];
    fleet.post("/credentials", json!({"name": "db", "kind": "secret", "value": SECRET})).await;
    let secrets = json!([{"credential": "db", "as": {"file": "/run/a"}}]);
    let (instance, place) = fleet.deploy("web", "app:1", secrets).await;
    let at = nodes.iter().position(|node| node.id.to_string() == place).unwrap();
    let (owner, other) = (&nodes[at], &nodes[1 - at]);
    assert_eq!(owner.fetch(&instance).await.unwrap().len(), 1);
    for foreign in [instance.as_str(), &Uuid::now_v7().to_string()] {
        assert_eq!(other.fetch(foreign).await.unwrap_err().code(), Code::NotFound);
    }
    assert_eq!(owner.fetch("mine").await.unwrap_err().code(), Code::InvalidArgument);
    let revoke = format!("update node_certificates set revoked_at = now() where node_id = '{}'", owner.id);
    fleet.api.db.execute(&revoke).await;
    assert_eq!(owner.fetch(&instance).await.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_that_is_to_go_gets_nothing_any_more() {
    let fleet = Fleet::new().await;
    let node = fleet.node("n1", &[]).await;
    fleet.post("/credentials", json!({"name": "db", "kind": "secret", "value": SECRET})).await;
    let (instance, _) =
        fleet.deploy("web", "app:1", json!([{"credential": "db", "as": {"file": "/a"}}])).await;
    assert_eq!(node.fetch(&instance).await.unwrap().len(), 1);
    fleet.api.send(fleet.api.request(Method::DELETE, "/deployments/web", Some(&fleet.token))).await;
    fleet.api.services.store.orchestrate(&()).await.unwrap();
    assert_eq!(node.fetch(&instance).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_credential_for_some_nodes_goes_to_no_other_and_places_with_a_reason() {
    let fleet = Fleet::new().await;
    let (_, east) = (fleet.node("n1", &[]).await, fleet.node("n2", &[("zone", "east")]).await);
    let body = json!({"name": "db", "kind": "secret", "value": SECRET, "node_labels": {"zone": "east"}});
    fleet.post("/credentials", body).await;
    let (instance, place) =
        fleet.deploy("web", "app:1", json!([{"credential": "db", "as": {"file": "/a"}}])).await;
    assert_eq!(place, east.id.to_string());
    let shown = fleet.api.get("/deployments/web", &fleet.token).await.body.to_string();
    assert!(shown.contains("credential db is only for nodes with the label zone="), "{shown}");
    assert_eq!(east.fetch(&instance).await.unwrap().len(), 1);
    fleet.api.db.execute("update nodes set labels = '{}'").await;
    let told = east.missing(&instance).await;
    assert!(told.contains("credential db, version 1, is not for this node"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_is_chosen_by_the_images_registry_and_is_the_newest_at_once() {
    let fleet = Fleet::new().await;
    let node = fleet.node("n1", &[]).await;
    let login =
        |server: &str, password: &str| json!({"server": server, "username": "bot", "password": password});
    let hub =
        json!({"name": "hub", "kind": "registry", "registry": login("https://index.docker.io/v1/", "one")});
    fleet.post("/credentials", hub).await;
    let (instance, _) = fleet.deploy("web", "nginx:1", json!([])).await;
    let (other, _) = fleet.deploy("other", "ghcr.io/team/app:1", json!([])).await;
    let assigned = async || {
        let set = fleet.api.services.store.assignment_set_fetch(node.id).await.unwrap();
        let known = |id: &str| set.assignments[&id.parse().unwrap()].registry_credential.is_some();
        (set.revision, known(&instance), known(&other))
    };
    let (revision, web_has, other_has) = assigned().await;
    assert!(web_has && !other_has);
    let fetched = async |instance: &str| match node.fetch(instance).await.unwrap().as_slice() {
        [Part::RegistryLogin(login)] => Some(String::from_utf8(login.password.clone()).unwrap()),
        [] => None,
        _ => panic!("something else came"),
    };
    assert_eq!((fetched(&instance).await, fetched(&other).await), (Some("one".into()), None));
    fleet.put("hub", json!({"registry": login("docker.io", "two")})).await;
    assert_eq!(fetched(&instance).await, Some("two".into()));
    assert_eq!(assigned().await.0, revision, "another password rolls nothing and tells nobody");
    let ghcr = json!({"name": "ghcr", "kind": "registry", "registry": login("ghcr.io", "three")});
    fleet.post("/credentials", ghcr).await;
    let (later, _, other_has) = assigned().await;
    assert!(other_has && later > revision, "a login that is new is told of");
    assert_eq!(fetched(&other).await, Some("three".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_is_gone_is_named_without_its_content() {
    let fleet = Fleet::new().await;
    let node = fleet.node("n1", &[]).await;
    fleet.post("/credentials", json!({"name": "db", "kind": "secret", "value": SECRET})).await;
    let (instance, _) =
        fleet.deploy("web", "app:1", json!([{"credential": "db", "as": {"file": "/a"}}])).await;
    fleet.api.db.execute("delete from credential_versions").await;
    let told = node.missing(&instance).await;
    assert_eq!(told, "credential db, version 1, is not there any more");
}
