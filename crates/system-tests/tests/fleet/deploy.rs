//! A declaration becomes containers, and they go away again.

use std::collections::BTreeSet;

use anyhow::ensure;
use serde_json::json;
use system_tests::{
    fleet::Fleet,
    spec::Spec,
    wait::{seconds, until},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_copies_run_on_three_hosts_answer_on_their_ports_and_go_without_a_trace() {
    let fleet = Fleet::of(3).await;
    let spec = Spec::web("web")
        .replicas(3)
        .set("env", json!({"COLOUR": "green"}))
        .set("limits", json!({"cpu_millis": 250, "memory_bytes": 32 * 1024 * 1024, "pids": 50}));
    let web = fleet.runs("web", &spec).await;
    assert_eq!((web.state.as_str(), web.healthy, web.revision), ("running", 3, 1));
    let nodes: BTreeSet<&str> = web.instances.iter().map(|i| i.node.as_str()).collect();
    assert_eq!(nodes, BTreeSet::from(["h1", "h2", "h3"]));
    fleet.nothing_is_doubled(&web.instances.iter().map(|i| i.id).collect::<Vec<_>>());

    for instance in &web.instances {
        let seen = (instance.state.as_str(), instance.health.as_str(), instance.presence.as_str());
        assert_eq!(seen, ("running", "healthy", "fresh"));
        let host = fleet.bed.hosts().iter().find(|host| host.name == instance.node).unwrap();
        assert_eq!(instance.address.as_deref(), Some(host.address.as_str()));
        let port = instance.host_port(80).unwrap();
        let page = until("the port answers", seconds(10), async || host.http_get(port).await).await;
        assert_eq!(page.trim(), "app:1");

        let container = host.running(instance.id).unwrap();
        assert_eq!(instance.container_id.as_deref(), Some(container.id.as_str()));
        let limits = "{{.HostConfig.NanoCpus}} {{.HostConfig.Memory}} {{.HostConfig.MemorySwap}} {{.HostConfig.PidsLimit}} {{.HostConfig.RestartPolicy.Name}}";
        let memory = 32 * 1024 * 1024;
        let limits = host.inspect(&container, limits).unwrap();
        assert_eq!(limits, format!("250000000 {memory} {memory} 50 no"));
        let said = host.docker(&["exec", &container.id, "sh", "-c", "echo $COLOUR"]).unwrap();
        assert_eq!(said, "green");
    }

    let images = || {
        fleet.bed.hosts().iter().map(|h| h.docker(&["images", "-q", "app:1"]).unwrap()).collect::<Vec<_>>()
    };
    let before = images();
    fleet.deletes("web").await;
    assert_eq!(images(), before, "images are not ours to remove");
    let gone = fleet.api.send(reqwest::Method::GET, "/deployments/web", None).await.unwrap();
    let _ = gone.problem(404);
    for instance in &web.instances {
        assert_eq!(fleet.api.instance(instance.id).await.unwrap().state, "removed");
    }
    // The name is free again, and so are the hosts.
    let again = fleet.runs("web", &Spec::web("web").replicas(2)).await;
    assert_ne!(again.id, web.id);
    fleet.deletes("web").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_is_pulled_and_one_that_is_not_there_fails_with_the_reason() {
    let fleet = Fleet::of(1).await;
    let image = fleet.bed.push();
    let host = fleet.bed.host(1);
    assert_eq!(host.docker(&["images", "-q", &image]).unwrap(), "");
    let pulled = fleet.runs("pulled", &Spec::new("pulled").image(&image)).await;
    let events = fleet.api.events("deployment=pulled").await.unwrap();
    assert!(events.iter().any(|event| event.kind == "instance_pulling"), "{events:?}");
    let id = host.docker(&["images", "-q", "--no-trunc", &image]).unwrap();
    assert_eq!(pulled.instances[0].image_id.as_deref(), Some(id.as_str()));

    let missing = format!("{}/nothing:1", fleet.bed.registry);
    for (name, image) in [("missing", missing.as_str()), ("nowhere", "nothing-of-that-name:1")] {
        let spec = Spec::new(name).image(image);
        // Without a registry at hand, a name without a host part can only be here already.
        let spec = if name == "nowhere" { spec.set("pull", "never") } else { spec };
        let operation = fleet.api.deploy(&spec).await;
        let ended = fleet.api.end_of(&operation).await;
        assert_eq!(ended.verdict.as_deref(), Some("failed"), "{}", ended.message);
        assert!(
            ended.message.contains("image_not_found") && ended.message.contains("h1"),
            "{}",
            ended.message
        );
        let deployment = fleet.api.deployment(name).await.unwrap();
        let instance = &deployment.instances[0];
        assert_eq!(instance.state, "failed");
        let outcome = instance.outcome.as_ref().unwrap();
        assert_eq!((outcome.kind.as_str(), outcome.reason.as_deref()), ("failed", Some("image_not_found")));
        let operation = fleet.api.delete(name).await;
        fleet.api.succeeds(operation).await;
    }
    fleet.deletes("pulled").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_fails_is_tried_again_and_the_operation_says_how_it_ended() {
    let fleet = Fleet::of(1).await;
    let crash = Spec::new("crash").shell("exit 3");
    let broken = Spec::new("broken").command(&["/no/such/program"]);
    let once = Spec::new("once").shell("exit 0").set("restart", json!({"when": "never"}));
    let (crash_op, broken_op) = (fleet.api.deploy(&crash).await, fleet.api.deploy(&broken).await);
    fleet.runs("once", &once).await;
    assert_eq!(fleet.api.deployment("once").await.unwrap().instances[0].state, "completed");

    let ended = fleet.api.end_of(&crash_op).await;
    assert_eq!(ended.verdict.as_deref(), Some("failed"), "{}", ended.message);
    assert!(ended.message.contains("exit code 3"), "{}", ended.message);
    let instance = fleet.api.deployment("crash").await.unwrap().instances.remove(0);
    assert!(instance.attempt >= 5 && instance.failures >= 5, "{instance:?}");

    let ended = fleet.api.end_of(&broken_op).await;
    assert_eq!(ended.verdict.as_deref(), Some("failed"), "{}", ended.message);
    assert!(ended.message.contains("/no/such/program"), "{}", ended.message);

    grows_too_much(&fleet).await;

    // What is told to go goes, whatever it is waiting for.
    for name in ["crash", "broken", "once", "grows"] {
        let operation = fleet.api.delete(name).await;
        fleet.api.succeeds(operation).await;
    }
    fleet.is_clean();
}

/// One that the kernel ends for lack of memory.
async fn grows_too_much(fleet: &Fleet) {
    // Grows a variable of the shell until the kernel ends it.
    let grows = "x=0123456789abcdef; while :; do x=$x$x; done";
    let spec = Spec::new("grows")
        .shell(grows)
        .set("limits", json!({"memory_bytes": 16 * 1024 * 1024}))
        .set("restart", json!({"when": "never"}));
    let operation = fleet.api.deploy(&spec).await;
    let ended = fleet.api.end_of(&operation).await;
    assert_eq!(ended.verdict.as_deref(), Some("failed"), "{}", ended.message);
    let id = fleet.api.deployment("grows").await.unwrap().instances[0].id;
    let event = fleet.api.event(id, "instance_exited", "out_of_memory").await;
    assert_eq!(event.severity, "warning");
    assert!(ended.message.contains("memory"), "{}", ended.message);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn containers_of_others_are_left_alone_and_a_taken_port_says_so() {
    let fleet = Fleet::of(1).await;
    let host = fleet.bed.host(1);
    host.docker(&["run", "-d", "--name", "mine", "-p", "8080:80", "app:1", "sleep", "100000"]).unwrap();
    let spec = Spec::web("web").set("ports", json!([{"container_port": 80, "host_port": 8080}]));
    let operation = fleet.api.deploy(&spec).await;
    let web = until("the engine's refusal is told", seconds(20), async || {
        let web = fleet.api.deployment("web").await?;
        let outcome = web.instances.first().and_then(|i| i.outcome.clone());
        ensure!(outcome.is_some_and(|o| o.reason.as_deref() == Some("start_failed")), "{web:?}");
        Ok(web)
    })
    .await;
    let message = web.instances[0].outcome.as_ref().unwrap().message.clone().unwrap_or_default();
    assert!(message.contains("8080"), "{message}");
    // Once the port is free, it comes up by itself.
    host.docker(&["rm", "-f", "mine"]).unwrap();
    host.docker(&[
        "run",
        "-d",
        "--name",
        "other",
        "--label",
        "automator67.instance=no",
        "app:1",
        "sleep",
        "100000",
    ])
    .unwrap();
    fleet.api.succeeds(operation).await;
    until("the port answers", seconds(10), async || host.http_get(8080).await).await;
    let operation = fleet.api.delete("web").await;
    fleet.api.succeeds(operation).await;
    assert_eq!(host.docker(&["ps", "-a", "--format", "{{.Names}}"]).unwrap(), "other");
}
