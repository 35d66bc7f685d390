//! What people ask of an instance that runs.

use anyhow::{Context, ensure};
use serde_json::json;
use system_tests::{
    fleet::Fleet,
    spec::Spec,
    views::Metrics,
    wait::{seconds, until},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_can_be_read_from_its_tail_and_followed_line_by_line() {
    let fleet = Fleet::of(1).await;
    let counts = "i=0; while :; do i=$((i+1)); echo line $i; sleep 0.1; done";
    let app = fleet.runs("app", &Spec::new("app").shell(counts)).await;
    let id = app.instances[0].id;
    let number = |line: &str| line.strip_prefix("line ").and_then(|n| n.parse::<u64>().ok()).unwrap();

    let tail = until("there are five lines", seconds(15), async || {
        let text = fleet.api.log(id, 5).await?;
        ensure!(text.lines().count() == 5, "{text:?}");
        Ok(text)
    })
    .await;
    let numbers: Vec<u64> = tail.lines().map(number).collect();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
    assert_eq!(fleet.api.log(id, 0).await.unwrap(), "");

    let mut followed = fleet.api.follow(id, 3).await.unwrap();
    let mut last = number(&followed.line(seconds(10)).await.unwrap());
    for _ in 0..20 {
        let line = followed.line(seconds(10)).await.unwrap();
        assert_eq!(number(&line), last + 1, "no line is lost, and none comes twice");
        last = number(&line);
    }
    // Others read meanwhile, and a reader that goes away disturbs nobody.
    let mut second = fleet.api.follow(id, 1).await.unwrap();
    second.line(seconds(10)).await.unwrap();
    drop(second);
    assert_eq!(number(&followed.line(seconds(10)).await.unwrap()), last + 1);

    // It ends when what it is about ends.
    let operation = fleet.api.ask(id, "stop").await;
    fleet.api.succeeds(operation).await;
    let end = until("the stream is told its end", seconds(20), async || {
        let event = followed.next(seconds(10)).await?.context("it was closed without a word")?;
        ensure!(event.name != "line", "{event:?}");
        Ok(event)
    })
    .await;
    assert_eq!(end.name, "end", "{end:?}");
    assert_eq!(followed.next(seconds(10)).await.unwrap(), None);
    // What it said before it ended can still be read.
    assert_eq!(fleet.api.log(id, 2).await.unwrap().lines().count(), 2);
    speaks_on_both_streams(&fleet).await;
}

/// Both streams are told apart, and text comes as it is.
async fn speaks_on_both_streams(fleet: &Fleet) {
    let speaks =
        r#"echo out; echo err >&2; printf 'a "quoted"\ttab\\\n'; printf 'grün\n'; exec sleep 100000"#;
    let app = fleet.runs("speaks", &Spec::new("speaks").shell(speaks)).await;
    let mut followed = fleet.api.follow(app.instances[0].id, 100).await.unwrap();
    let mut lines = Vec::new();
    for _ in 0..4 {
        let event = followed.next(seconds(10)).await.unwrap().unwrap();
        assert_eq!(event.name, "line");
        assert!(event.data["at"].is_string(), "{event:?}");
        lines.push((event.data["stream"].clone(), event.data["text"].clone()));
    }
    for line in [("stdout", "out"), ("stderr", "err"), ("stdout", "a \"quoted\"\ttab\\"), ("stdout", "grün")]
    {
        assert!(lines.contains(&(json!(line.0), json!(line.1))), "{line:?} is not in {lines:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_is_restarted_stopped_and_started_when_asked() {
    let fleet = Fleet::of(1).await;
    let host = fleet.bed.host(1);
    let app = fleet.runs("app", &Spec::web("app").replicas(2)).await;
    let (id, other) = (app.instances[0].id, app.instances[1].id);
    let (first, neighbour) = (host.running(id).unwrap(), host.running(other).unwrap());

    let operation = fleet.api.ask(id, "restart").await;
    fleet.api.succeeds(operation).await;
    let second = host.running(id).unwrap();
    assert_eq!(second.id, first.id, "one container for its whole life");
    assert_ne!(second.started_at, first.started_at);
    let instance = fleet.api.instance(id).await.unwrap();
    assert_eq!((instance.attempt, instance.state.as_str()), (2, "running"));
    fleet.api.event(id, "instance_stopped", "restart_requested").await;
    fleet.api.event(id, "instance_running", "restart_requested").await;

    let operation = fleet.api.ask(id, "stop").await;
    fleet.api.succeeds(operation).await;
    assert_eq!(host.container(id).unwrap().status, "exited");
    let instance = fleet.api.instance(id).await.unwrap();
    assert_eq!((instance.state.as_str(), instance.desired.as_str()), ("stopped", "stopped"));
    assert!(instance.ports.is_empty() && instance.finished_at.is_some(), "{instance:?}");
    // Stopped is stopped, also when somebody else starts it.
    host.docker(&["start", &second.id]).unwrap();
    until("it is stopped again", seconds(20), async || {
        let status = host.container(id)?.status;
        ensure!(status == "exited", "it is {status}");
        Ok(())
    })
    .await;

    let operation = fleet.api.ask(id, "start").await;
    fleet.api.succeeds(operation).await;
    assert_eq!(host.running(id).unwrap().id, first.id);
    let running = host.running(id).unwrap();
    let operation = fleet.api.ask(id, "start").await;
    fleet.api.succeeds(operation).await;
    assert_eq!(host.running(id).unwrap(), running, "a start of what runs changes nothing");

    assert_eq!(host.running(other).unwrap(), neighbour, "the other copy was not touched");
    fleet.deletes("app").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_show_cpu_memory_and_network() {
    let fleet = Fleet::of(1).await;
    let host = fleet.bed.host(1);
    let spec = Spec::web("busy")
        .shell("httpd -f -p 80 -h /www & while :; do :; done")
        .set("limits", json!({"cpu_millis": 300, "memory_bytes": 64 * 1024 * 1024}));
    let busy = fleet.runs("busy", &spec).await;
    let idle = fleet.runs("idle", &Spec::new("idle")).await;
    let of = async |id| fleet.api.get::<Metrics>(&format!("/instances/{id}/metrics")).await;
    let id = busy.instances[0].id;

    let first = until("it has been measured", seconds(30), async || {
        let metrics = of(id).await?;
        let latest = metrics.latest.context("not yet")?;
        ensure!(latest.cpu_percent.is_some_and(|cpu| cpu > 5.0), "{latest:?}");
        Ok(latest)
    })
    .await;
    let cpu = first.cpu_percent.unwrap();
    // 100 is one core; it may use 0.3 of one.
    assert!(cpu < 60.0, "{first:?}");
    assert_eq!(first.memory_limit_bytes, Some(64 * 1024 * 1024));
    let memory = first.memory_bytes.unwrap();
    assert!(memory > 10_000 && memory < 64 * 1024 * 1024, "{first:?}");
    let percent = first.memory_percent.unwrap();
    assert!((percent - 100.0 * memory as f64 / (64.0 * 1024.0 * 1024.0)).abs() < 0.01, "{first:?}");

    let before = first.network_rx_bytes.unwrap();
    let port = busy.instances[0].host_port(80).unwrap();
    for _ in 0..20 {
        until("it answers", seconds(10), async || host.http_get(port).await).await;
    }
    until("the network's figures have grown", seconds(15), async || {
        let latest = of(id).await?.latest.context("there was one")?;
        let grown = latest.network_rx_bytes.unwrap_or_default() > before + 1000;
        ensure!(grown && latest.network_tx_bytes.unwrap_or_default() > 1000, "{latest:?}");
        Ok(())
    })
    .await;
    let metrics = of(id).await.unwrap();
    assert!(metrics.samples.len() >= 2 && metrics.samples.windows(2).all(|pair| pair[0].at > pair[1].at));

    let calm = until("the idle one has been measured", seconds(15), async || {
        let latest = of(idle.instances[0].id).await?.latest.context("not yet")?;
        ensure!(latest.cpu_percent.is_some(), "{latest:?}");
        Ok(latest)
    })
    .await;
    assert!(calm.cpu_percent.unwrap() < 5.0, "{calm:?}");
}
