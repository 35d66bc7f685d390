//! From `POST /deployments` to a running container, against the engine alone.
//!
//! All engines and the controller share one machine, and everything is measured
//! in one run: ours, bare create and start, and `docker run -d`, in turns. A
//! container counts as running when the engine's own event says that it started.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use system_tests::{
    fleet::Fleet,
    spec::Spec,
    testbed::{Host, IMAGE},
    wait::{seconds, until},
};

use crate::{
    engine::{Engine, nth_start},
    table::{Row, median, millis},
};

/// Single starts of each kind.
const ROUNDS: usize = 15;
/// Containers over three engines.
const MANY: usize = 102;
const SLEEP: [&str; 2] = ["sleep", "86400"];

fn engine(host: &Host) -> Result<Engine> {
    Engine::new(Path::new(host.docker_host.trim_start_matches("unix://")))
}

fn sleeper(name: &str, replicas: usize) -> Spec {
    Spec::new(name)
        .command(&SLEEP)
        .replicas(u32::try_from(replicas).unwrap_or(u32::MAX))
        .set("stop_grace_seconds", 0)
        .set("limits", json!({"cpu_millis": 1000, "memory_bytes": 536_870_912}))
}

fn docker_run(host: &Host) -> Command {
    let mut command = Command::new("docker");
    command.env("DOCKER_HOST", &host.docker_host).args([
        "run",
        "-d",
        "--cpus=1",
        "--memory=512m",
        "--memory-swap=512m",
    ]);
    command.args(["--pids-limit=1024", "--label=bench=cli", IMAGE]).args(SLEEP).stdin(Stdio::null());
    command
}

/// One container at a time, on one engine.
pub async fn single() -> Result<Vec<Row>> {
    let fleet = Fleet::of(1).await;
    let host = fleet.bed.host(1).clone();
    let engine = engine(&host)?;
    let mut started = engine.starts().await?;
    let (mut ours, mut bare, mut cli) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let began = Instant::now();
        let id = engine.create_and_start(&format!("bare-{round}"), IMAGE, &SLEEP).await?;
        bare.push(nth_start(&mut started, 1).await? - began);
        engine.remove(&id).await?;

        let name = format!("single-{round}");
        let spec = sleeper(&name, 1);
        let began = Instant::now();
        fleet.api.deploy(&spec).await;
        ours.push(nth_start(&mut started, 1).await? - began);
        fleet.deletes(&name).await;

        let began = Instant::now();
        let output = docker_run(&host).output().context("docker's command is installed")?;
        cli.push(nth_start(&mut started, 1).await? - began);
        ensure!(output.status.success(), "docker run: {}", String::from_utf8_lossy(&output.stderr));
        engine.remove(String::from_utf8_lossy(&output.stdout).trim()).await?;
    }
    let (ours, bare, cli) = (median(&mut ours), median(&mut bare), median(&mut cli));
    let row = |against: &str, theirs: Duration, aim| Row {
        what: format!("POST to running, median of {ROUNDS}"),
        ours: millis(ours),
        against: against.to_owned(),
        theirs: millis(theirs),
        ratio: format!("{:+.1} ms", (ours.as_secs_f64() - theirs.as_secs_f64()) * 1000.0),
        aim,
    };
    Ok(vec![
        row("bare create and start", bare, "at most +50 ms"),
        row("docker run -d", cli, "for comparison"),
    ])
}

/// Many containers over three engines.
pub async fn many() -> Result<Vec<Row>> {
    let fleet = Fleet::of(3).await;
    let hosts: Vec<Host> = fleet.bed.hosts().to_vec();
    let engines = hosts.iter().map(engine).collect::<Result<Vec<_>>>()?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..3 {
        theirs.push(by_command_line(&hosts).await?);
        for engine in &engines {
            engine.clear().await?;
        }
        let name = format!("many-{round}");
        let mut starts = Vec::new();
        for engine in &engines {
            starts.push(engine.starts().await?);
        }
        let began = Instant::now();
        fleet.api.deploy(&sleeper(&name, MANY)).await;
        let mut last = began;
        for started in &mut starts {
            last = last.max(nth_start(started, MANY / hosts.len()).await?);
        }
        ours.push(last - began);
        let operation = fleet.api.delete(&name).await;
        fleet.api.succeeds(operation).await;
        for engine in &engines {
            until("the engine is empty", seconds(60), async || {
                let count = engine.count().await?;
                ensure!(count == 0, "{count} containers are left");
                Ok(())
            })
            .await;
        }
    }
    let (ours, theirs) = (median(&mut ours), median(&mut theirs));
    Ok(vec![Row {
        what: format!("{MANY} containers over three engines, median of 3"),
        ours: millis(ours),
        against: "docker run -d, eight at a time on each".into(),
        theirs: millis(theirs),
        ratio: format!("{:.2}x", ours.as_secs_f64() / theirs.as_secs_f64()),
        aim: "at most 1.05x (Swarm: 1.05x)",
    }])
}

/// `docker run -d`, eight at a time on each engine, all engines at once.
async fn by_command_line(hosts: &[Host]) -> Result<Duration> {
    let began = Instant::now();
    let each = MANY / hosts.len();
    let threads: Vec<_> = hosts
        .iter()
        .flat_map(|host| (0..8).map(move |lane| (host.clone(), lane)))
        .map(|(host, lane)| {
            tokio::task::spawn_blocking(move || {
                for _ in (lane..each).step_by(8) {
                    let output = docker_run(&host).output()?;
                    ensure!(
                        output.status.success(),
                        "docker run: {}",
                        String::from_utf8_lossy(&output.stderr)
                    );
                }
                Ok(())
            })
        })
        .collect();
    for thread in threads {
        thread.await??;
    }
    Ok(began.elapsed())
}
