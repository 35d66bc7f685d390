//! From nothing to nodes that are ready.

use anyhow::ensure;
use serde_json::{Value, json};
use system_tests::{
    agent::Agent,
    client::Api,
    controller::ADMIN,
    fleet::Fleet,
    spec::Spec,
    views::{Node, Page},
    wait::{seconds, until},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_register_and_sign_in_and_hosts_enrol_and_become_ready_with_their_facts() {
    let mut fleet = Fleet::without_nodes(2).await;
    let operator = operator(&fleet).await;
    let me: Value = operator.get("/auth/me").await.unwrap();
    assert_eq!((&me["name"], &me["role"]), (&json!("anna"), &json!("operator")));

    let dir = fleet.scratch.path().to_owned();
    let url = fleet.controller.agent_url().to_owned();
    let token = fleet.enrolment_token(&json!({"labels": {"zone": "east"}, "uses": 1})).await;
    let mut first = Agent::new(fleet.bed.host(1), &dir);
    first.enrol(&url, &token).await;
    let node = operator.node("h1").await.unwrap();
    assert_eq!((node.state.as_str(), node.last_seen_at), ("enrolled", None));
    first.start();
    fleet.agents.push(first);
    fleet.all_ready().await;
    has_its_facts(&operator.node("h1").await.unwrap(), &fleet);

    // The token was for one; and who has no good one stays outside.
    let second = Agent::new(fleet.bed.host(2), &dir);
    let other_ca = format!("{}.{}", token.split_once('.').unwrap().0, "0".repeat(64));
    for (token, words) in [(token.as_str(), "refused"), (&other_ca, "certificate"), ("nonsense", "token")] {
        let output = second.try_enrol(&url, token).await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(words), "{token}: {said}");
        assert!(!said.contains(token.split_once('.').map_or(token, |(secret, _)| secret)), "{said}");
    }
    let nodes: Page<Node> = operator.get("/nodes").await.unwrap();
    assert_eq!(nodes.items.len(), 1);

    // Again on an enrolled host: it says so and changes nothing.
    let again = fleet.agents[0].try_enrol(&url, &token).await;
    assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));
    assert_eq!(operator.node("h1").await.unwrap().id, nodes.items[0].id);
}

/// Registers by an invite, as a person would, and signs in.
async fn operator(fleet: &Fleet) -> Api {
    let invite: Value =
        fleet.api.post("/invites", &json!({"role": "operator"})).await.unwrap().good().unwrap();
    let nobody = Api::new(fleet.controller.url());
    let account = json!({"name": "anna", "password": "a long enough one", "invite": invite["invite"]});
    assert_eq!(nobody.post("/auth/register", &account).await.unwrap().status, 201);
    let _ = nobody.post("/auth/register", &account).await.unwrap().problem(403);
    nobody.sign_in("anna", "a long enough one").await.unwrap()
}

fn has_its_facts(node: &Node, fleet: &Fleet) {
    let host = fleet.bed.host(1);
    assert_eq!(node.labels, json!({"zone": "east"}));
    assert_eq!(node.facts.address.as_deref(), Some(host.address.as_str()));
    let engine = host.docker(&["version", "--format", "{{.Server.Version}} {{.Server.APIVersion}}"]).unwrap();
    let (version, api) = engine.split_once(' ').unwrap();
    assert_eq!(node.facts.engine_version.as_deref(), Some(version));
    assert_eq!(node.facts.engine_api_version.as_deref(), Some(api));
    let info = host.docker(&["info", "--format", "{{.Driver}} {{.CgroupVersion}} {{.NCPU}} {{.MemTotal}}"]);
    let info = info.unwrap();
    let facts = &node.facts;
    let told = format!(
        "{} {} {} {}",
        facts.storage_driver.as_deref().unwrap_or_default(),
        facts.cgroup_version.unwrap_or_default(),
        facts.cpu_millis / 1000,
        facts.memory_bytes
    );
    assert_eq!(told, info);
    assert!(facts.disk_bytes > facts.disk_free_bytes && facts.disk_free_bytes > 0, "{facts:?}");
    let texts = [&facts.hostname, &facts.os, &facts.kernel, &facts.architecture, &facts.agent_version];
    assert!(texts.iter().all(|text| !text.is_empty()), "{facts:?}");
    assert!(node.last_seen_at.is_some_and(|at| (chrono::Utc::now() - at).num_seconds() < 10), "{node:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_agents_with_one_identity_do_no_harm_and_the_node_stays() {
    let mut fleet = Fleet::of(1).await;
    let web = fleet.runs("web", &Spec::web("web")).await;
    let before = fleet.containers().unwrap();

    // With the very same files, the second one does not even begin.
    let mut same = Agent::new(fleet.bed.host(1), fleet.scratch.path());
    same.start();
    let status = same.process_mut().end(seconds(30)).await;
    assert_eq!(status.code(), Some(1), "{}", same.process_mut().log());

    // With a copy of them it takes the session over, and the first one says so.
    let copy = Agent::named("copy", fleet.bed.host(1), fleet.scratch.path());
    let copied = std::process::Command::new("cp")
        .arg("-r")
        .arg(fleet.agents[0].data_dir())
        .arg(copy.data_dir())
        .status()
        .unwrap();
    assert!(copied.success());
    let mut copy = copy;
    copy.start();
    let first = fleet.agents[0].process_mut();
    until("the first one was told that a newer session took over", seconds(30), async || {
        ensure!(first.log().contains("newer session"), "not yet");
        first.check()
    })
    .await;
    assert_eq!(copy.stop(seconds(15)).await.code(), Some(0));

    fleet.all_ready().await;
    let restarted = fleet.api.ask(web.instances[0].id, "restart").await;
    fleet.api.succeeds(restarted).await;
    let after = fleet.containers().unwrap();
    assert_eq!(after.len(), 1);
    assert_eq!(after[0].1.id, before[0].1.id);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_is_asked_to_stop_says_so_to_whom_it_concerns_and_leaves_containers_alone() {
    let mut fleet = Fleet::of(1).await;
    let web = fleet.runs("web", &Spec::web("web")).await;
    let before = fleet.containers().unwrap();

    let mut reader = fleet.api.follow(web.instances[0].id, 10).await.unwrap();
    assert_eq!(fleet.controller.stop(seconds(20)).await.code(), Some(0));
    let last = reader.next(seconds(10)).await.unwrap().unwrap();
    assert!(last.name == "error" && last.data["message"].is_string(), "{last:?}");
    let first = fleet.agents[0].process_mut();
    until("the agent was told", seconds(10), async || {
        ensure!(first.log().contains("about to stop"), "not yet");
        first.check()
    })
    .await;
    fleet.controller.start().await;
    let restart = fleet.api.ask(web.instances[0].id, "stop").await;
    fleet.api.succeeds(restart).await;
    let start = fleet.api.ask(web.instances[0].id, "start").await;
    fleet.api.succeeds(start).await;

    let started = fleet.containers().unwrap();
    assert_eq!(started[0].1.id, before[0].1.id);
    assert_eq!(fleet.agents[0].stop(seconds(15)).await.code(), Some(0));
    fleet.api.node_is("h1", "unreachable").await;
    assert_eq!(fleet.containers().unwrap(), started);
    fleet.agents[0].start();
    fleet.all_ready().await;
    assert_eq!(fleet.containers().unwrap(), started);
    let web = fleet.api.deployment("web").await.unwrap();
    assert_eq!((web.state.as_str(), web.instances[0].attempt), ("running", 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_is_in_a_log_however_much_is_logged_nor_in_clear_on_a_nodes_disk() {
    let mut fleet = Fleet::of(1).await;
    fleet.agents[0].kill();
    fleet.agents[0].log_filter("trace");
    fleet.agents[0].start();
    fleet.controller.kill();
    fleet.controller.set("A67_LOG", "trace");
    fleet.controller.start().await;
    fleet.all_ready().await;

    let api = fleet.api.sign_in(ADMIN.0, ADMIN.1).await.unwrap();
    let token = fleet.enrolment_token(&json!({})).await;
    let second = Agent::named("second", fleet.bed.host(1), fleet.scratch.path());
    second.enrol(fleet.controller.agent_url(), &token).await;
    let secret = "h0rse-battery-staple";
    let spec = Spec::new("app").set("env", json!({"PASSWORD": secret}));
    fleet.runs("app", &spec).await;
    let _ = api.post("/deployments", &spec.json()).await.unwrap().problem(409);
    let events = fleet.api.send(reqwest::Method::GET, "/events?limit=500", None).await.unwrap();
    assert!(!events.body.to_string().contains(secret));

    let master = std::fs::read_to_string(fleet.controller.data_dir().join("master.key")).unwrap();
    let bearer = api.token().unwrap().to_owned();
    let enrolment = token.trim_start_matches("a67e_").split_once('.').unwrap().0.to_owned();
    fleet.agents[0].kill();
    fleet.controller.kill();
    for (what, text) in [
        ("an environment variable", secret),
        ("a password", ADMIN.1),
        ("an access token", &bearer),
        ("an enrolment token", &enrolment),
        ("the master key", master.trim()),
    ] {
        let mut places =
            vec![fleet.scratch.path().join("controller.log"), fleet.agents[0].log_path().to_owned()];
        places.push(fleet.agents[0].data_dir().to_owned());
        for place in places {
            let found =
                std::process::Command::new("grep").args(["-rlaF", text]).arg(&place).output().unwrap();
            assert_eq!(
                found.status.code(),
                Some(1),
                "{what} is in {}",
                String::from_utf8_lossy(&found.stdout)
            );
        }
    }
}
