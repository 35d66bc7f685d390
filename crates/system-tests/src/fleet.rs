//! A whole fleet: hosts, a controller, and an agent on each host.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    agent::Agent,
    client::Api,
    controller::Controller,
    docker::Container,
    scratch::Scratch,
    spec::Spec,
    testbed::Testbed,
    views::{Deployment, Operation},
    wait::{note, seconds, until},
};

/// Where the controller listens on the bridge, which is ours alone.
const PORT: u16 = 6700;

/// A fleet in which every node is ready. Agents end first, the testbed last.
pub struct Fleet {
    /// The API as an administrator.
    pub api: Api,
    /// One per host, in the order of the hosts; each is the node with its host's name.
    pub agents: Vec<Agent>,
    /// On this machine, at the bridge.
    pub controller: Controller,
    /// Where their files are.
    pub scratch: Scratch,
    /// The hosts.
    pub bed: Testbed,
}

impl Fleet {
    /// A controller without nodes, and so many hosts.
    ///
    /// # Panics
    /// When that cannot be had.
    pub async fn without_nodes(hosts: usize) -> Self {
        let bed = Testbed::up(hosts).await;
        let scratch = Scratch::new();
        let mut controller = Controller::at(&bed.gateway, PORT, scratch.path());
        controller.start().await;
        let api = controller.administrator().await;
        Self { api, agents: Vec::new(), controller, scratch, bed }
    }

    /// A fleet of so many nodes, all ready.
    ///
    /// # Panics
    /// When that cannot be had.
    pub async fn of(hosts: usize) -> Self {
        let mut fleet = Self::without_nodes(hosts).await;
        let token = fleet.enrolment_token(&json!({"uses": hosts})).await;
        for host in fleet.bed.hosts() {
            let mut agent = Agent::new(host, fleet.scratch.path());
            agent.enrol(fleet.controller.agent_url(), &token).await;
            agent.start();
            fleet.agents.push(agent);
        }
        fleet.all_ready().await;
        fleet
    }

    /// Makes an enrolment token.
    ///
    /// # Panics
    /// When the controller refuses.
    pub async fn enrolment_token(&self, body: &Value) -> String {
        let token: Value = self.api.post("/enrolment-tokens", body).await.unwrap().good().unwrap();
        token["token"].as_str().expect("it is a text").to_owned()
    }

    /// Waits until all nodes are ready.
    ///
    /// # Panics
    /// When one is not in a minute, or its agent has ended.
    pub async fn all_ready(&mut self) {
        for agent in &mut self.agents {
            let (api, name) = (&self.api, agent.name().to_owned());
            until(&format!("node {name} is ready"), seconds(60), async || {
                agent.process_mut().check()?;
                let node = api.node(&name).await?;
                ensure!(node.state == "ready", "it is {}", node.state);
                Ok(())
            })
            .await;
        }
        note("all nodes are ready");
    }

    /// The agent of a node.
    ///
    /// # Panics
    /// When there is none.
    pub fn agent(&mut self, node: &str) -> &mut Agent {
        self.agents.iter_mut().find(|agent| agent.name() == node).expect("every node has an agent")
    }

    /// Declares a deployment, waits for its success, and gives it as it is then.
    ///
    /// # Panics
    /// When it fails.
    pub async fn runs(&self, name: &str, spec: &Spec) -> Deployment {
        let operation = self.api.deploy(spec).await;
        self.api.succeeds(operation).await;
        self.api.deployment(name).await.unwrap()
    }

    /// Every container of a fleet, with the name of its host.
    ///
    /// # Errors
    /// When an engine does not answer.
    pub fn containers(&self) -> Result<Vec<(String, Container)>> {
        let mut all = Vec::new();
        for host in self.bed.hosts() {
            all.extend(host.containers()?.into_iter().map(|container| (host.name.clone(), container)));
        }
        all.sort_by_key(|(_, container)| container.instance);
        Ok(all)
    }

    /// Fails unless each of these instances has exactly one container, and there is no other.
    ///
    /// # Panics
    /// When that is not so.
    pub fn nothing_is_doubled(&self, instances: &[Uuid]) {
        let found: Vec<Uuid> = self.containers().unwrap().iter().map(|(_, c)| c.instance).collect();
        let mut wanted = instances.to_vec();
        wanted.sort_unstable();
        assert_eq!(found, wanted, "containers on the left, instances on the right");
    }

    /// Fails when a container of the fleet is left.
    ///
    /// # Panics
    /// When there is one.
    pub fn is_clean(&self) {
        let left = self.containers().unwrap();
        assert!(left.is_empty(), "containers are left: {left:?}");
    }

    /// Deletes a deployment, and fails unless its hosts are clean after that.
    ///
    /// # Panics
    /// When it fails.
    pub async fn deletes(&self, name: &str) -> Operation {
        let operation = self.api.delete(name).await;
        let operation = self.api.succeeds(operation).await;
        self.is_clean();
        operation
    }
}
