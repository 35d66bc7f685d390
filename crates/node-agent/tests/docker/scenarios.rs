//! What the runtime promises, one promise at a time. Scenarios run side by side on
//! one engine: each has instances of its own, and removes them.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use chrono::Utc;
use domain::{
    assignment::Assignment,
    deployment::{PortSpec, Transport},
    instance::FailureReason,
    plan::{Container, ContainerStatus},
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream::BoxStream};
use node_agent::{
    logs::{self, LogLine, LogsRequest},
    runtime::{
        EngineEvent, EventKind, LogsQuery, RunningContainer, Runtime, RuntimeError, RuntimeErrorKind,
        container_name,
    },
};
use tokio::time::timeout;

use crate::engine::{Engine, IMAGE, World, shell, until};
use crate::figures::{Measuring, instances};

const GRACE: Duration = Duration::from_secs(5);

async fn remove(world: &World, container: &Container) {
    world.runtime.remove(&container.container_id).await.unwrap();
}

pub fn refused(error: &RuntimeError) -> FailureReason {
    match error.kind {
        RuntimeErrorKind::Refused(reason) => reason,
        other => panic!("not refused but {other:?}: {error}"),
    }
}

pub async fn a_container_is_made_started_stopped_and_removed(world: Arc<World>) {
    let runtime = &world.runtime;
    runtime.ping().await.unwrap();
    let info = runtime.info().await.unwrap();
    assert!(!info.version.is_empty() && info.api_version.starts_with("1."), "{info:?}");
    assert!(info.storage_driver.is_some() && info.cgroup_version.is_some() && info.data_dir.is_some());

    let assignment = shell("trap 'exit 7' TERM; while true; do sleep 0.05; done");
    let instance = assignment.instance_id;
    assert_eq!(runtime.inspect(instance).await.unwrap(), None);
    let made = runtime.create(&assignment).await.unwrap();
    assert_eq!((made.status, made.pid, made.started_at), (ContainerStatus::Created, None, None));

    let before = Utc::now();
    let started = runtime.start(&made.container_id).await.unwrap();
    assert_eq!((started.status, started.exit_code), (ContainerStatus::Running, None));
    assert!(started.pid.is_some() && started.started_at.unwrap() >= before - chrono::TimeDelta::seconds(1));
    assert_eq!(started.image_id, runtime.image(IMAGE).await.unwrap().map(|image| image.id));
    let again = runtime.start(&made.container_id).await.unwrap();
    assert_eq!(again.started_at, started.started_at);
    let listed = runtime.list().await.unwrap();
    assert!(listed.iter().any(|(id, container)| *id == instance && container.pid == started.pid));

    let stopped = runtime.stop(&made.container_id, GRACE).await.unwrap().unwrap();
    assert_eq!((stopped.status, stopped.exit_code, stopped.pid), (ContainerStatus::Exited, Some(7), None));
    assert!(stopped.finished_at.unwrap() > stopped.started_at.unwrap());
    assert_eq!(runtime.stop(&made.container_id, GRACE).await.unwrap(), Some(stopped));

    remove(&world, &made).await;
    remove(&world, &made).await;
    assert_eq!(runtime.inspect(instance).await.unwrap(), None);
    assert_eq!(runtime.stop(&made.container_id, GRACE).await.unwrap(), None);
    assert_eq!(runtime.start(&made.container_id).await.unwrap_err().kind, RuntimeErrorKind::NotFound);
}

pub async fn a_process_that_ends_by_itself_leaves_its_code(world: Arc<World>) {
    let assignment = shell("exit 3");
    let started = world.run(&assignment).await;
    let ended = world.container(assignment.instance_id, |c| c.status == ContainerStatus::Exited).await;
    assert_eq!((ended.exit_code, ended.oom_killed), (Some(3), false));
    assert_eq!(ended.started_at, started.started_at);
    // A second run is told apart by when it started.
    let second = world.runtime.start(&ended.container_id).await.unwrap();
    assert!(second.started_at > ended.started_at);
    remove(&world, &ended).await;
}

pub async fn a_command_that_does_not_exist_is_a_failed_start_that_says_so(world: Arc<World>) {
    let mut assignment = shell("");
    assignment.spec.command = vec!["/no/such/program".into()];
    let made = world.runtime.create(&assignment).await.unwrap();
    let error = world.runtime.start(&made.container_id).await.unwrap_err();
    assert_eq!(refused(&error), FailureReason::StartFailed);
    assert!(error.message.contains("/no/such/program") && !error.message.contains('\n'), "{error}");
    let left = world.runtime.inspect(assignment.instance_id).await.unwrap().unwrap();
    assert_eq!((left.status, left.exit_code, left.started_at), (ContainerStatus::Created, None, None));
    remove(&world, &made).await;
}

pub async fn an_image_that_is_not_there_is_said_to_be_missing(world: Arc<World>) {
    let mut assignment = shell("");
    assignment.spec.image = "a67-test/nothing:1".into();
    assert_eq!(world.runtime.image(&assignment.spec.image).await.unwrap(), None);
    let error = world.runtime.create(&assignment).await.unwrap_err();
    assert_eq!(refused(&error), FailureReason::ImageNotFound);
    assignment.spec.image = "not an image".into();
    assert_eq!(world.runtime.image(&assignment.spec.image).await.unwrap(), None);
    assert_eq!(refused(&world.runtime.create(&assignment).await.unwrap_err()), FailureReason::SpecRefused);
}

pub async fn environment_host_name_and_limits_arrive(world: Arc<World>) {
    let mut assignment = shell("echo \"$GREETING from $(hostname)\"");
    assignment.spec.env.0.insert("GREETING".into(), "a = b".into());
    assignment.spec.limits.cpu_millis = 250;
    assignment.spec.limits.pids = 33;
    let container = world.run(&assignment).await;
    world.container(assignment.instance_id, |c| c.status == ContainerStatus::Exited).await;
    let lines = read_log(&world, &container, LogsQuery::default()).await;
    assert_eq!(texts(&lines), ["a = b from web"]);
    let format = "{{.HostConfig.NanoCpus}} {{.HostConfig.Memory}} {{.HostConfig.MemorySwap}} {{.HostConfig.PidsLimit}} {{.HostConfig.RestartPolicy.Name}} {{.HostConfig.LogConfig.Config}}";
    assert_eq!(
        world.docker(&["inspect", "--format", format, &container.container_id]).await,
        format!("250000000 {0} {0} 33 no map[max-file:3 max-size:10m]", 64 << 20)
    );
    remove(&world, &container).await;
}

pub async fn published_ports_answer_and_a_taken_one_is_a_failed_start(world: Arc<World>) {
    let serve = || {
        let mut assignment =
            shell("mkdir -p /tmp/w && echo here > /tmp/w/index.html && exec httpd -f -p 8080 -h /tmp/w");
        let port = |host_port| PortSpec { container_port: 8080, host_port, transport: Transport::Tcp };
        assignment.spec.ports = vec![port(Some(18_080))];
        assignment
    };
    let (first, mut chosen, taken) = (serve(), serve(), serve());
    chosen.spec.ports[0].host_port = None;
    let fixed = world.run(&first).await;
    assert_eq!((fixed.ports.len(), fixed.ports[0].host_port), (1, 18_080));
    let free = world.run(&chosen).await;
    assert_eq!((free.ports.len(), free.ports[0].container_port), (1, 8080));
    for port in [18_080, free.ports[0].host_port] {
        until("an answer", async || world.fetch(port).await.filter(|body| body == "here")).await;
    }

    let made = world.runtime.create(&taken).await.unwrap();
    let error = world.runtime.start(&made.container_id).await.unwrap_err();
    assert_eq!(refused(&error), FailureReason::StartFailed);
    assert!(error.message.contains("18080"), "{error}");
    for container in [fixed, free, made] {
        remove(&world, &container).await;
    }
}

/// The next event of an instance that is not [`EventKind::Other`].
async fn next_event(
    events: &mut BoxStream<'static, Result<EngineEvent, RuntimeError>>,
    assignment: &Assignment,
) -> EventKind {
    let search = async {
        loop {
            if let EngineEvent::Container(event) = events.next().await.unwrap().unwrap()
                && event.instance_id == assignment.instance_id
                && event.kind != EventKind::Other
            {
                return event.kind;
            }
        }
    };
    timeout(Duration::from_secs(30), search).await.expect("no event came")
}

pub async fn an_outside_kill_is_seen_at_once_and_found_again_in_the_past(world: Arc<World>) {
    let assignment = shell("while true; do sleep 1; done");
    let before = Utc::now();
    let mut events = world.runtime.events(None);
    assert_eq!(events.next().await.unwrap().unwrap(), EngineEvent::Subscribed);
    let container = world.run(&assignment).await;
    assert_eq!(next_event(&mut events, &assignment).await, EventKind::Started);
    world.docker(&["kill", &container.container_id]).await;
    assert_eq!(next_event(&mut events, &assignment).await, EventKind::Killed { signal: 9 });
    assert_eq!(next_event(&mut events, &assignment).await, EventKind::Died);
    let dead = world.container(assignment.instance_id, |c| c.status == ContainerStatus::Exited).await;
    assert_eq!((dead.exit_code, dead.oom_killed), (Some(137), false));
    remove(&world, &container).await;
    assert_eq!(next_event(&mut events, &assignment).await, EventKind::Destroyed);

    // The same again, by somebody who was away.
    let mut past = world.runtime.events(Some(before));
    assert_eq!(past.next().await.unwrap().unwrap(), EngineEvent::Subscribed);
    for kind in [EventKind::Started, EventKind::Killed { signal: 9 }, EventKind::Died, EventKind::Destroyed] {
        assert_eq!(next_event(&mut past, &assignment).await, kind);
    }
}

pub async fn what_happened_between_two_lists_is_in_the_second(world: Arc<World>) {
    // A node of its own: no other scenario lists for it.
    let runtime = world.neighbour();
    let assignment = shell("while true; do sleep 1; done");
    let made = runtime.create(&assignment).await.unwrap();
    let id = made.container_id.as_str();
    runtime.start(id).await.unwrap();
    let listed = async || runtime.list().await.unwrap().pop().map(|(_, container)| container);
    let inspected = async || runtime.inspect(assignment.instance_id).await.unwrap();
    let (first, again) = (listed().await, listed().await);
    assert!(first.is_some() && first == again && first == inspected().await, "{first:?} {again:?}");
    // Each leaves a container that runs under the same id; a restart may be over in less
    // than the second that the engine's list tells times in.
    for change in [["restart", "-t", "0"].as_slice(), &["pause"], &["unpause"], &["rename"]] {
        let before = listed().await;
        let [verb, rest @ ..] = change else { unreachable!() };
        match *verb {
            "pause" => world.freeze(id).await,
            "rename" => drop(world.docker(&["rename", id, "a67-listed-anew"]).await),
            verb => drop(world.docker(&[&[verb], rest, &[id]].concat()).await),
        }
        let after = listed().await;
        assert_eq!(after, inspected().await, "{verb}");
        assert!(*verb == "rename" || after != before, "{verb}: {after:?}");
    }
    runtime.stop(id, Duration::ZERO).await.unwrap();
    assert_eq!(listed().await.unwrap().status, ContainerStatus::Exited);
    runtime.remove(id).await.unwrap();
    assert_eq!(listed().await, None);
}

pub async fn a_second_create_adopts_the_first_containers_and_a_strangers_name_is_refused(world: Arc<World>) {
    let assignment = shell("sleep 60");
    let first = world.run(&assignment).await;
    let second = world.runtime.create(&assignment).await.unwrap();
    assert_eq!((second.container_id, second.pid), (first.container_id.clone(), first.pid));
    remove(&world, &first).await;

    let name = container_name(assignment.instance_id);
    let stranger = world.docker(&["create", "--name", &name, IMAGE, "/bin/sleep", "60"]).await;
    let error = world.runtime.create(&assignment).await.unwrap_err();
    assert_eq!(refused(&error), FailureReason::NameTaken);
    assert_eq!(world.runtime.inspect(assignment.instance_id).await.unwrap(), None);
    assert_eq!(world.docker(&["inspect", "--format", "{{.Id}}", &name]).await, stranger);
    world.docker(&["rm", &stranger]).await;
}

pub async fn a_renamed_container_is_found_and_a_neighbours_is_not_seen(world: Arc<World>) {
    let assignment = shell("sleep 60");
    let container = world.run(&assignment).await;
    let neighbour = world.neighbour();
    assert_eq!(neighbour.inspect(assignment.instance_id).await.unwrap(), None);
    assert_eq!(neighbour.list().await.unwrap(), []);
    assert_eq!(
        refused(&neighbour.create(&assignment).await.unwrap_err()),
        FailureReason::NameTaken,
        "a container of another node was taken over"
    );

    world.docker(&["rename", &container.container_id, "somebody-elses-idea"]).await;
    let found = world.runtime.inspect(assignment.instance_id).await.unwrap().unwrap();
    assert_eq!(found.container_id, container.container_id);
    remove(&world, &container).await;
}

pub async fn a_process_that_takes_too_much_memory_is_known_to_have_been_killed_for_it(world: Arc<World>) {
    let mut assignment = shell("");
    // Reads an endless line, to have its end.
    assignment.spec.command = ["/bin/tail", "/dev/zero"].map(ToOwned::to_owned).to_vec();
    assignment.spec.limits.memory_bytes = 16 << 20;
    let made = world.runtime.create(&assignment).await.unwrap();
    // Engine 20.10 hears of the kill and of the end on two ways; where the end comes
    // first, which happens on a busy host, it never says that it was for memory.
    for _ in 0..20 {
        let started = world.runtime.start(&made.container_id).await.unwrap().started_at;
        let ended = |c: &Container| c.status == ContainerStatus::Exited && c.started_at == started;
        let dead = world.container(assignment.instance_id, ended).await;
        assert_eq!(dead.exit_code, Some(137));
        if dead.oom_killed {
            return remove(&world, &made).await;
        }
    }
    panic!("the engine never says why the process was killed");
}

pub async fn read_log(world: &World, container: &Container, query: LogsQuery) -> Vec<LogLine> {
    let runtime: Arc<dyn Runtime> = Arc::new(world.runtime.clone());
    let request = LogsRequest { container_id: container.container_id.clone(), query };
    logs::open(&runtime, &request).try_collect().await.unwrap()
}

pub fn texts(lines: &[LogLine]) -> Vec<&str> {
    lines.iter().map(|line| std::str::from_utf8(&line.text).unwrap()).collect()
}

pub async fn a_log_is_read_from_its_end_followed_and_split(world: Arc<World>) {
    let script = "echo one; echo two >&2; head -c 200000 /dev/zero | tr '\\0' x; echo; echo last; while [ ! -e /tmp/go ]; do sleep 0.05; done; echo gone";
    let assignment = shell(script);
    let container = world.run(&assignment).await;
    let all = LogsQuery::default;
    // The two streams reach the engine on their own ways, in any order.
    let written = async || {
        let lines = read_log(&world, &container, all()).await;
        ["two", "last"].iter().all(|text| lines.iter().any(|line| line.text == text)).then_some(lines)
    };
    let lines = until("the log", written).await;
    let of = |stderr| lines.iter().filter(move |line| line.stderr == stderr);
    assert_eq!(of(true).map(|l| l.text.as_ref()).collect::<Vec<_>>(), [b"two"]);
    let lengths: Vec<_> = of(false).map(|l| (l.text.len(), l.partial)).collect();
    assert_eq!(
        lengths,
        [(3, false), (65_536, true), (65_536, true), (65_536, true), (3_392, false), (4, false)]
    );
    assert!(lines.iter().all(|l| l.at >= container.started_at.unwrap() - chrono::TimeDelta::seconds(1)));

    let tail = read_log(&world, &container, LogsQuery { tail: Some(1), ..all() }).await;
    assert_eq!(tail, lines[lines.len() - 1..]);
    let latest = lines.iter().map(|line| line.at).max();
    let since = read_log(&world, &container, LogsQuery { since: latest, ..all() }).await;
    assert_eq!(since, lines.iter().filter(|line| Some(line.at) >= latest).cloned().collect::<Vec<_>>());

    // Followed to the container's end, through what is written only now.
    let follow = read_log(&world, &container, LogsQuery { tail: Some(1), follow: true, ..all() });
    let go = async {
        world.docker(&["exec", &container.container_id, "/bin/sh", "-c", "echo > /tmp/go"]).await;
    };
    let (followed, ()) = tokio::join!(follow, go);
    assert_eq!(followed[..1], tail);
    assert_eq!(texts(&followed[1..]), ["gone"]);
    remove(&world, &container).await;

    let runtime: Arc<dyn Runtime> = Arc::new(world.runtime.clone());
    let request = LogsRequest { container_id: container.container_id, query: all() };
    let error = logs::open(&runtime, &request).try_collect::<Vec<_>>().await.unwrap_err();
    assert_eq!(error.source.kind, RuntimeErrorKind::NotFound);
}

pub async fn a_log_that_is_no_longer_wanted_is_let_go(world: Arc<World>) {
    let container = world.run(&shell("while true; do echo again; done")).await;
    let query = LogsQuery { follow: true, ..LogsQuery::default() };
    let mut chunks = world.runtime.logs(&container.container_id, &query);
    for _ in 0..1000 {
        assert_eq!(chunks.next().await.unwrap().unwrap().bytes.as_ref(), b"again\n");
    }
    drop(chunks);
    remove(&world, &container).await;
}

pub async fn use_is_measured_at_once_and_from_then_on(world: Arc<World>) {
    let assignment = shell("while true; do :; done");
    let container = world.run(&assignment).await;
    let running = RunningContainer {
        container_id: container.container_id.clone(),
        pid: container.pid.unwrap(),
        started_at: container.started_at.unwrap(),
        memory_limit_bytes: None,
    };
    let measuring = Measuring::start(&world, Duration::from_secs(3600));
    let (publish, buffer) = (&measuring.running, &measuring.buffer);
    publish.send_replace(Arc::new(BTreeMap::from([(assignment.instance_id, running)])));
    let samples =
        until("two readings", async || Some(instances(buffer.peek(9))).filter(|s| s.len() == 2)).await;
    assert_eq!((samples[0].cpu_percent, samples[0].instance_id), (None, assignment.instance_id));
    let second = &samples[1];
    assert!((second.at - samples[0].at).num_milliseconds() >= 1900);
    // How much of a processor it gets is the host's affair; more than one it may not have.
    assert!(second.cpu_percent.unwrap() > 0.0 && second.cpu_percent.unwrap() < 150.0, "{second:?}");
    assert!(second.memory_bytes.unwrap() > 0 && second.memory_limit_bytes == Some(64 << 20), "{second:?}");
    assert!(second.network_rx_bytes.is_some() && second.network_tx_bytes.is_some(), "{second:?}");

    // The engine's own figures are of the same size.
    let usage = world.runtime.usage(&container.container_id).await.unwrap();
    assert!(usage.cpu_nanos.unwrap() > 1_000_000 && usage.memory_bytes.unwrap() < 64 << 20, "{usage:?}");
    measuring.end().await;
    remove(&world, &container).await;
}

/// Last of all, because it takes the engine from the others.
pub async fn an_engine_that_goes_away_is_out_of_reach_and_found_again(world: &World, mut engine: Engine) {
    let mut events = world.runtime.events(None);
    assert_eq!(events.next().await.unwrap().unwrap(), EngineEvent::Subscribed);
    engine.end().await;
    let lost = timeout(Duration::from_secs(30), async { while let Some(Ok(_)) = events.next().await {} });
    lost.await.expect("the stream of events outlived the engine");
    for error in [
        world.runtime.ping().await.unwrap_err(),
        world.runtime.list().await.unwrap_err(),
        world.runtime.events(None).next().await.unwrap().unwrap_err(),
        world.runtime.pull(IMAGE, None).next().await.unwrap().unwrap_err(),
    ] {
        assert_eq!(error.kind, RuntimeErrorKind::Unreachable, "{error}");
    }
    engine.launch().await;
    assert_eq!(world.runtime.list().await.unwrap(), []);
}
