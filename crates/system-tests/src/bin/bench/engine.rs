//! A Docker engine, spoken to directly: what we are compared with.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::sync::mpsc;

/// One engine, over its socket.
#[derive(Clone)]
pub struct Engine {
    client: reqwest::Client,
}

/// When something started, by this process's clock.
pub type Started = mpsc::UnboundedReceiver<Instant>;

impl Engine {
    pub fn new(socket: &Path) -> Result<Self> {
        Ok(Self { client: reqwest::Client::builder().unix_socket(socket).build()? })
    }

    async fn call(&self, request: reqwest::RequestBuilder) -> Result<Value> {
        let response = request.send().await?;
        let (status, text) = (response.status(), response.text().await?);
        ensure!(status.is_success() || status.as_u16() == 304, "the engine answered {status}: {text}");
        Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    /// Creates and starts a container as our agent would, and nothing more.
    pub async fn create_and_start(&self, name: &str, image: &str, command: &[&str]) -> Result<String> {
        let body = json!({
            "Image": image, "Cmd": command, "Labels": {"bench": "bare"},
            "HostConfig": {"NanoCpus": 1_000_000_000, "Memory": 536_870_912, "MemorySwap": 536_870_912, "PidsLimit": 1024}
        });
        let created = self
            .call(self.client.post(format!("http://engine/containers/create?name={name}")).json(&body))
            .await?;
        let id = created["Id"].as_str().context("the engine gave no id")?.to_owned();
        self.call(self.client.post(format!("http://engine/containers/{id}/start"))).await?;
        Ok(id)
    }

    /// Removes a container, running or not.
    pub async fn remove(&self, id: &str) -> Result<()> {
        self.call(self.client.delete(format!("http://engine/containers/{id}?force=true&v=true")))
            .await
            .map(drop)
    }

    /// Removes all containers.
    pub async fn clear(&self) -> Result<()> {
        let all = self.call(self.client.get("http://engine/containers/json?all=true")).await?;
        for container in all.as_array().into_iter().flatten() {
            self.remove(container["Id"].as_str().context("a container without id")?).await?;
        }
        Ok(())
    }

    /// How many containers there are, running or not.
    pub async fn count(&self) -> Result<usize> {
        let all = self.call(self.client.get("http://engine/containers/json?all=true")).await?;
        Ok(all.as_array().map_or(0, Vec::len))
    }

    /// Tells of each container that starts from now on.
    pub async fn starts(&self) -> Result<Started> {
        // {"event":["start"],"type":["container"]}
        const FILTERS: &str = "%7B%22event%22%3A%5B%22start%22%5D%2C%22type%22%3A%5B%22container%22%5D%7D";
        let response = self.client.get(format!("http://engine/events?filters={FILTERS}")).send().await?;
        let (sender, started) = mpsc::unbounded_channel();
        let mut lines = response.bytes_stream();
        tokio::runtime::Handle::current().spawn(async move {
            while let Some(Ok(chunk)) = lines.next().await {
                let now = Instant::now();
                for _ in chunk.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                    if sender.send(now).is_err() {
                        return;
                    }
                }
            }
        });
        Ok(started)
    }
}

/// The moment of the `count`th start from now on, within a deadline.
pub async fn nth_start(started: &mut Started, count: usize) -> Result<Instant> {
    let mut last = Instant::now();
    for n in 0..count {
        last = tokio::time::timeout(Duration::from_secs(180), started.recv())
            .await
            .with_context(|| format!("only {n} of {count} started"))?
            .context("the event stream broke")?;
    }
    Ok(last)
}
