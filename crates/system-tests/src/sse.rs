//! Server-sent events.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use reqwest::Response;
use serde_json::Value;
use tokio::time::timeout;

/// A stream of events, read as they come.
pub struct Sse {
    response: Response,
    buffer: String,
}

/// One event.
#[derive(Clone, Debug, PartialEq)]
pub struct SseEvent {
    /// Its name.
    pub name: String,
    /// Its data, which is always JSON here.
    pub data: Value,
}

impl Sse {
    pub(crate) fn new(response: Response) -> Self {
        Self { response, buffer: String::new() }
    }

    /// The next event; `None` where the stream is over. Comments are passed over.
    ///
    /// # Errors
    /// When none comes within that time, or what comes is none.
    pub async fn next(&mut self, within: Duration) -> Result<Option<SseEvent>> {
        timeout(within, self.read()).await.context("no event came")?
    }

    async fn read(&mut self) -> Result<Option<SseEvent>> {
        loop {
            while let Some((block, rest)) = self.buffer.split_once("\n\n") {
                let event = parse(block)?;
                self.buffer = rest.to_owned();
                if event.is_some() {
                    return Ok(event);
                }
            }
            match self.response.chunk().await.context("the stream broke")? {
                Some(chunk) => self.buffer.push_str(std::str::from_utf8(&chunk)?),
                None if self.buffer.is_empty() => return Ok(None),
                None => bail!("the stream ends in the middle of an event: {:?}", self.buffer),
            }
        }
    }

    /// The text of the next line of a log.
    ///
    /// # Errors
    /// When none comes within that time, or another event does.
    pub async fn line(&mut self, within: Duration) -> Result<String> {
        match self.next(within).await? {
            Some(SseEvent { name, data }) if name == "line" => {
                Ok(data["text"].as_str().with_context(|| data.to_string())?.to_owned())
            }
            other => bail!("another event came: {other:?}"),
        }
    }
}

fn parse(block: &str) -> Result<Option<SseEvent>> {
    let (mut name, mut data) = (None, None);
    for line in block.lines() {
        match line.split_once(": ") {
            Some(("event", text)) => name = Some(text),
            Some(("data", text)) => data = Some(text),
            _ if line.starts_with(':') => {}
            _ => bail!("{line:?} is no line of an event"),
        }
    }
    let (Some(name), Some(data)) = (name, data) else { return Ok(None) };
    Ok(Some(SseEvent { name: name.to_owned(), data: serde_json::from_str(data)? }))
}
