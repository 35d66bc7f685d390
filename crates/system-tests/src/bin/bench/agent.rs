//! What an agent costs its host: a hundred running containers on one engine.
//!
//! CPU is read from `/proc/PID/stat`, whose counts the kernel keeps exactly and
//! shows in hundredths of a second, over windows that are long against that.
//! dockerd and its containerd count together; the containers' shims do not. What
//! the agent causes in the engine is what the engine uses with it, less what it
//! uses without it, with the same containers.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::json;
use system_tests::{
    fleet::Fleet,
    spec::Spec,
    testbed::Host,
    wait::{seconds, until},
};

use crate::{
    engine::{Engine, nth_start},
    table::{Row, median, millis},
};

/// Containers.
const COUNT: usize = 100;
/// Until what comes with a start is over.
const SETTLE: Duration = Duration::from_secs(45);
/// For the engine alone.
const ALONE: Duration = Duration::from_secs(120);
/// For agent and engine at the default periods: six rounds of everything.
const TOGETHER: Duration = Duration::from_secs(200);
/// For a round of readings each second.
const SAMPLING: Duration = Duration::from_secs(60);
/// What `docker stats` is asked, and how often containers are killed.
const ROUNDS: usize = 3;
/// Containers started at once by the command line's side.
const LANES: usize = 8;
/// Of `/proc`, whatever the kernel's own clock does (`USER_HZ`, proc(5)).
const TICKS_PER_SECOND: f64 = 100.0;
const NAME: &str = "hundred";

/// Who uses CPU.
struct Pids {
    agent: u32,
    engine: [u32; 2],
}

/// CPU time of each, in a window.
struct Used {
    agent: Duration,
    engine: Duration,
    wall: Duration,
}

impl Used {
    fn percent(time: Duration, wall: Duration) -> f64 {
        time.as_secs_f64() * 100.0 / wall.as_secs_f64()
    }

    fn agent(&self) -> f64 {
        Self::percent(self.agent, self.wall)
    }

    fn engine(&self) -> f64 {
        Self::percent(self.engine, self.wall)
    }
}

/// All figures, from one run.
pub async fn run() -> Result<Vec<Row>> {
    let mut fleet = Fleet::without_nodes(1).await;
    let host = fleet.bed.host(1).clone();
    let engine = Engine::new(Path::new(host.docker_host.trim_start_matches("unix://")))?;
    sample_every(&mut fleet, 30).await;
    enrol(&mut fleet).await;
    fleet.runs(NAME, &hundred()).await;

    // The same containers, and nobody who looks after them.
    fleet.agent("h1").stop(seconds(20)).await;
    tokio::time::sleep(SETTLE).await;
    let mut pids = Pids { agent: std::process::id(), engine: engines(&host)? };
    let alone = window(&pids, ALONE).await?;
    let stats = stats(&host, &pids, &alone).await?;
    let theirs = by_command_line(&host, &engine).await?;

    fleet.agent("h1").start();
    fleet.all_ready().await;
    tokio::time::sleep(SETTLE).await;
    pids.agent = fleet.agent("h1").process_mut().pid();
    let together = window(&pids, TOGETHER).await?;
    let (resident, peak) = (memory(pids.agent, "VmRSS:")?, memory(pids.agent, "VmHWM:")?);

    sample_every(&mut fleet, 1).await;
    fleet.all_ready().await;
    tokio::time::sleep(SETTLE).await;
    let often = window(&pids, SAMPLING).await?;
    sample_every(&mut fleet, 30).await;
    fleet.all_ready().await;
    let ours = by_agent(&fleet, &host, &engine).await?;

    let caused = together.engine() - alone.engine();
    let round = round(&often, &together);
    Ok(vec![
        Row {
            what: format!("CPU of one round of readings, {COUNT} containers"),
            ours: millis(round),
            against: "docker stats --no-stream, client and engine".into(),
            theirs: millis(stats),
            ratio: format!("{:.0}x less", stats.as_secs_f64() / round.as_secs_f64().max(0.000_1)),
            aim: "at most 20 ms; 100x less",
        },
        Row {
            what: "resident memory of the agent".into(),
            ours: format!(
                "{:.1} MiB, at most so far {:.1}",
                resident as f64 / 1_048_576.0,
                peak as f64 / 1_048_576.0
            ),
            against: "Komodo's Periphery, published".into(),
            theirs: "19.2 MB".into(),
            ratio: format!("{:.2}x", resident as f64 / 19_200_000.0),
            aim: "at most 15 MiB",
        },
        Row {
            what: format!("CPU at default periods, over {} s", TOGETHER.as_secs()),
            ours: format!(
                "{:.3} % of a core: agent {:.3}, engine {caused:+.3}",
                together.agent() + caused,
                together.agent()
            ),
            against: format!("Periphery, published; the engine alone uses {:.3} %", alone.engine()),
            theirs: "0.56 % and 0.67 % in dockerd".into(),
            ratio: format!("{:.2}x", (together.agent() + caused) / 1.23),
            aim: "at most 0.2 %",
        },
        Row {
            what: format!("{COUNT} killed containers all running again, median of {ROUNDS}"),
            ours: millis(ours),
            against: format!("docker start, {LANES} at a time"),
            theirs: millis(theirs),
            ratio: format!("{:.2}x", ours.as_secs_f64() / theirs.as_secs_f64()),
            aim: "near 1x",
        },
    ])
}

fn hundred() -> Spec {
    Spec::new(NAME)
        .replicas(u32::try_from(COUNT).unwrap_or(u32::MAX))
        .set("stop_grace_seconds", 0)
        .set("limits", json!({"cpu_millis": 1000, "memory_bytes": 67_108_864}))
        .set("reservation", json!({"cpu_millis": 5, "memory_bytes": 4_194_304}))
        .set("progress_deadline_seconds", 600)
}

/// Sets the period of readings; the agent learns it with its next session.
async fn sample_every(fleet: &mut Fleet, period_seconds: u32) {
    fleet.controller.stop(seconds(60)).await;
    fleet.controller.set("A67_METRICS_PERIOD_SECONDS", &period_seconds.to_string());
    fleet.controller.start().await;
}

async fn enrol(fleet: &mut Fleet) {
    let token = fleet.enrolment_token(&json!({"uses": 1})).await;
    let mut agent = system_tests::agent::Agent::new(fleet.bed.host(1), fleet.scratch.path());
    agent.log_filter("info");
    agent.enrol(fleet.controller.agent_url(), &token).await;
    agent.start();
    fleet.agents.push(agent);
    fleet.all_ready().await;
}

/// dockerd and containerd of a host, as the testbed has written them down.
fn engines(host: &Host) -> Result<[u32; 2]> {
    let socket = PathBuf::from(host.docker_host.trim_start_matches("unix://"));
    let run = socket.ancestors().nth(2).context("the testbed's directory")?.join("run");
    let pid = |program: &str| {
        let text = fs::read_to_string(run.join(format!("{}.{program}.pid", host.name)))?;
        Ok::<_, anyhow::Error>(text.split(' ').next().context("an empty pid file")?.parse()?)
    };
    Ok([pid("dockerd")?, pid("containerd")?])
}

/// CPU time of a process so far, with that of threads that have ended.
fn cpu(pid: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("process {pid}"))?;
    let (_, rest) = stat.rsplit_once(')').context("a line without a name")?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // utime and stime: fields 14 and 15 of proc(5), of which the first two are cut off.
    let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    Ok(Duration::from_secs_f64(ticks as f64 / TICKS_PER_SECOND))
}

fn cpu_of_engine(pids: &Pids) -> Result<Duration> {
    pids.engine.iter().map(|pid| cpu(*pid)).sum()
}

async fn window(pids: &Pids, length: Duration) -> Result<Used> {
    let (began, agent, engine) = (Instant::now(), cpu(pids.agent)?, cpu_of_engine(pids)?);
    tokio::time::sleep(length).await;
    Ok(Used {
        agent: cpu(pids.agent)?.saturating_sub(agent),
        engine: cpu_of_engine(pids)?.saturating_sub(engine),
        wall: began.elapsed(),
    })
}

/// What one round costs agent and engine: the difference between a window with a
/// round each second and one with a round each 30 s, by the rounds that it has more.
fn round(often: &Used, seldom: &Used) -> Duration {
    let more = often.agent() + often.engine() - seldom.agent() - seldom.engine();
    Duration::from_secs_f64((more / 100.0 / (1.0 - 1.0 / 30.0)).max(0.0))
}

/// CPU of `docker stats --no-stream`, client and engine, less what the engine uses
/// by itself in that time; the median.
async fn stats(host: &Host, pids: &Pids, alone: &Used) -> Result<Duration> {
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let (began, before) = (Instant::now(), cpu_of_engine(pids)?);
        let mut command = Command::new("bash");
        command
            .args(["-c", "PATH=/usr/bin:$PATH TIMEFORMAT='%U %S'; time docker stats --no-stream >/dev/null"])
            .env("DOCKER_HOST", &host.docker_host)
            .stdin(Stdio::null());
        let output = tokio::task::spawn_blocking(move || command.output()).await??;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "docker stats: {said}");
        let client: f64 = said.split_ascii_whitespace().map(str::parse::<f64>).sum::<Result<f64, _>>()?;
        let itself = alone.engine() / 100.0 * began.elapsed().as_secs_f64();
        let engine = cpu_of_engine(pids)?.saturating_sub(before).as_secs_f64() - itself;
        rounds.push(Duration::from_secs_f64((client + engine).max(0.0)));
    }
    Ok(median(&mut rounds))
}

/// A line of `/proc/PID/status`, in bytes.
fn memory(pid: u32, name: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)).context("no such line")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}

/// Kills the first process of every container, all at once.
fn kill_all(host: &Host) -> Result<Vec<String>> {
    let ids: Vec<String> = host.docker(&["ps", "-q", "--no-trunc"])?.lines().map(str::to_owned).collect();
    ensure!(ids.len() == COUNT, "{} containers run", ids.len());
    let arguments = ["inspect", "-f", "{{.State.Pid}}"].into_iter().chain(ids.iter().map(String::as_str));
    let pids = host.docker(&arguments.collect::<Vec<_>>())?;
    let status = Command::new("kill").arg("-9").args(pids.lines()).status()?;
    ensure!(status.success(), "kill: {status}");
    Ok(ids)
}

/// From the kill until the engine has told of the hundredth start.
async fn by_agent(fleet: &Fleet, host: &Host, engine: &Engine) -> Result<Duration> {
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        // A container that has run for half a minute is started again at once.
        tokio::time::sleep(SETTLE).await;
        let mut started = engine.starts().await?;
        let began = Instant::now();
        kill_all(host)?;
        rounds.push(nth_start(&mut started, COUNT).await? - began);
        until("all are reported running", seconds(120), async || {
            let deployment = fleet.api.deployment(NAME).await?;
            ensure!(deployment.state == "running", "it is {}", deployment.state);
            Ok(())
        })
        .await;
    }
    Ok(median(&mut rounds))
}

/// The same containers, from the first `docker start` until the hundredth start.
async fn by_command_line(host: &Host, engine: &Engine) -> Result<Duration> {
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let ids = kill_all(host)?;
        until("all have ended", seconds(120), async || {
            let left = host.docker(&["ps", "-q"])?;
            ensure!(left.is_empty(), "{} still run", left.lines().count());
            Ok(())
        })
        .await;
        let mut started = engine.starts().await?;
        let began = Instant::now();
        stream::iter(ids)
            .map(|id| {
                let host = host.clone();
                async move { tokio::task::spawn_blocking(move || host.docker(&["start", &id])).await? }
            })
            .buffer_unordered(LANES)
            .try_collect::<Vec<_>>()
            .await?;
        rounds.push(nth_start(&mut started, COUNT).await? - began);
    }
    Ok(median(&mut rounds))
}
