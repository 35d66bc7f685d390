//! A host's engine, as somebody with a shell on that host sees it.

use std::{
    collections::BTreeMap,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use uuid::Uuid;

use crate::testbed::Host;

const LABEL_INSTANCE: &str = "automator67.instance";

/// A container that carries a fleet's labels, as `docker inspect` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// The engine's id.
    pub id: String,
    /// Which instance it is of.
    pub instance: Uuid,
    /// `created`, `running`, `exited` and so on.
    pub status: String,
    /// To the nanosecond: tells two runs apart.
    pub started_at: String,
    /// How often the engine itself restarted it.
    pub restart_count: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    id: String,
    state: State,
    restart_count: u64,
    config: Config,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct State {
    status: String,
    started_at: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    labels: BTreeMap<String, String>,
}

impl Container {
    /// Whether its process runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.status == "running"
    }
}

impl Host {
    /// Runs a `docker` command; gives what it prints.
    ///
    /// # Errors
    /// When it fails.
    pub fn docker(&self, arguments: &[&str]) -> Result<String> {
        // The distribution's own fits its engine; a newer one may not.
        let own = Path::new("/usr/bin/docker");
        let program = if own.exists() { own } else { Path::new("docker") };
        let output = Command::new(program)
            .arg("-H")
            .arg(&self.docker_host)
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .context("run docker")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "docker {arguments:?} on {}: {said}", self.name);
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Every container with a fleet's labels, also one that does not run, in the
    /// order of their instances.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub fn containers(&self) -> Result<Vec<Container>> {
        let filter = format!("label={LABEL_INSTANCE}");
        let ids = self.docker(&["ps", "-aq", "--no-trunc", "--filter", &filter])?;
        let ids: Vec<&str> = ids.lines().collect();
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let inspected = self.docker(&[["inspect"].as_slice(), &ids].concat())?;
        let inspected: Vec<Inspected> = serde_json::from_str(&inspected)?;
        let mut containers = inspected.into_iter().map(read).collect::<Result<Vec<_>>>()?;
        containers.sort_by_key(|container| (container.instance, container.id.clone()));
        Ok(containers)
    }

    /// The one container of an instance.
    ///
    /// # Errors
    /// When there is none or, worse, more than one.
    pub fn container(&self, instance: Uuid) -> Result<Container> {
        let mut of_it: Vec<_> = self.containers()?.into_iter().filter(|c| c.instance == instance).collect();
        match (of_it.pop(), of_it.as_slice()) {
            (Some(one), []) => Ok(one),
            (None, _) => bail!("{} has no container of {instance}", self.name),
            (Some(_), _) => bail!("{} has several containers of {instance}", self.name),
        }
    }

    /// The same, and it has to run.
    ///
    /// # Errors
    /// When it does not.
    pub fn running(&self, instance: Uuid) -> Result<Container> {
        let container = self.container(instance)?;
        ensure!(container.is_running(), "it is {}", container.status);
        Ok(container)
    }

    /// What `docker inspect` prints of a container with a format of ours.
    ///
    /// # Errors
    /// When there is no such container.
    pub fn inspect(&self, container: &Container, format: &str) -> Result<String> {
        self.docker(&["inspect", "--format", format, &container.id])
    }
}

fn read(inspected: Inspected) -> Result<Container> {
    let instance = inspected.config.labels.get(LABEL_INSTANCE).context("the filter was for it")?;
    Ok(Container {
        instance: instance.parse()?,
        id: inspected.id,
        status: inspected.state.status,
        started_at: inspected.state.started_at,
        restart_count: inspected.restart_count,
    })
}
