//! Credentials that are made over REST, as containers find them.

use std::fs;

use anyhow::ensure;
use reqwest::Method;
use serde_json::{Value, json};
use system_tests::{
    fleet::Fleet,
    registry::{ClosedRegistry, LOGIN},
    spec::Spec,
    testbed::Host,
    wait::{note, seconds, until},
};
use uuid::Uuid;

async fn made(fleet: &Fleet, body: Value) {
    let _: Value = fleet.api.post("/credentials", &body).await.unwrap().good().unwrap();
}

/// What the container of an instance finds in its file and its variable.
fn found(host: &Host, instance: Uuid) -> anyhow::Result<(String, String)> {
    let id = host.running(instance)?.id;
    let file = host.docker(&["exec", &id, "cat", "/run/secrets/key"])?;
    let stat = host.docker(&["exec", &id, "stat", "-c", "%a %u %g", "/run/secrets/key"])?;
    ensure!(stat == "440 33 34", "{stat}");
    Ok((file, host.docker(&["exec", &id, "sh", "-c", "printf %s \"$TOKEN\""])?))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_has_its_secrets_also_without_the_controller_and_new_ones_by_a_rollout() {
    let mut fleet = Fleet::of(1).await;
    let host = fleet.bed.host(1).clone();
    let registry = ClosedRegistry::start(&fleet.bed, fleet.scratch.path()).await;
    let (username, password) = LOGIN;
    let login = json!({"server": registry.server, "username": username, "password": password});
    made(&fleet, json!({"name": "mirror", "kind": "registry", "registry": login})).await;
    made(&fleet, json!({"name": "app-key", "kind": "secret", "value": "$first value"})).await;
    made(&fleet, json!({"name": "app", "kind": "secret", "data": {"token": "t-1", "other": 2}})).await;
    let spec = Spec::new("web").image(&registry.image).set(
        "secrets",
        json!([
            {"credential": "app-key", "as": {"file": "/run/secrets/key", "mode": "0440", "uid": 33, "gid": 34}},
            {"credential": "app", "key": "token", "version": 1, "as": {"env": "TOKEN"}}
        ]),
    );
    let web = fleet.runs("web", &spec).await;
    let instance = web.instances[0].id;
    assert_eq!(found(&host, instance).unwrap(), ("$first value".to_owned(), "t-1".to_owned()));
    note("the values have arrived");

    // The container is killed while nobody but its agent is there, and the agent is new.
    fleet.controller.kill();
    fleet.agents[0].kill();
    fs::remove_dir_all(fleet.agents[0].secrets_dir()).unwrap();
    host.docker(&["kill", &host.running(instance).unwrap().id]).unwrap();
    fleet.agents[0].start();
    until("it runs again with its secrets", seconds(60), async || {
        ensure!(found(&host, instance)? == ("$first value".to_owned(), "t-1".to_owned()));
        Ok(())
    })
    .await;
    note("it came back without the controller");
    fleet.controller.start().await;
    fleet.all_ready().await;

    let body = json!({"value": "second value\n"}).to_string();
    let answer = fleet.api.send(Method::PUT, "/credentials/app-key/value", Some(body)).await.unwrap();
    let _: Value = answer.good().unwrap();
    until("the new version has arrived", seconds(90), async || {
        let now = fleet.api.deployment("web").await?;
        let [newest] = now.instances.as_slice() else { anyhow::bail!("{:?}", now.instances) };
        ensure!(newest.id != instance, "it is the old one");
        let (file, token) = found(&host, newest.id)?;
        ensure!((file.as_str(), token.as_str()) == ("second value", "t-1"), "{file} {token}");
        Ok(())
    })
    .await;

    fleet.deletes("web").await;
    let kept = fleet.agents[0].data_dir().join("secrets");
    until("the node has forgotten", seconds(30), async || {
        for dir in [kept.as_path(), fleet.agents[0].secrets_dir()] {
            let left = fs::read_dir(dir).map(Iterator::count).unwrap_or_default();
            ensure!(left == 0, "{left} are left in {}", dir.display());
        }
        Ok(())
    })
    .await;
}
