//! Asks the controller for what instances are given, on a connection of its own.

use std::{sync::Arc, time::Duration};

use domain::secret::Secret;
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use protocol::{
    SECRET_MAX_BYTES,
    proto::{self, FetchSecretsRequest, agent_service_client::AgentServiceClient, secret_part::Part},
};
use tokio::{
    sync::{Mutex, watch},
    time::{Instant, sleep, timeout},
};
use tonic::{Code, Status, Streaming, transport::Channel};
use zeroize::Zeroizing;

use super::{
    LinkState, chain,
    connect::{Trust, connect},
};
use crate::{
    identity::Identity,
    runtime::{LoginProof, RegistryLogin},
    secrets::{
        INSTANCE_MAX_BYTES,
        ask::{Answer, Ask, Asked, Unanswered},
    },
};

/// How long one answer may take.
const FETCH_LIMIT: Duration = Duration::from_secs(15);
/// Questions under way at once.
const AT_ONCE: usize = 8;
/// A connection that nobody used for so long is closed.
const IDLE: Duration = Duration::from_secs(30);
/// After a connection that failed no other is tried for so long: many ask at once.
const PAUSE: Duration = Duration::from_secs(1);
/// Longest text of the controller's that is passed on.
const MESSAGE_MAX: usize = 512;
/// What a value is wrapped in.
const WRAPPING: usize = 1024;

/// The connection, made when it is needed.
struct Line {
    identity: watch::Receiver<Arc<Identity>>,
    /// Held while it is made: whoever asks meanwhile waits for the same.
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    channel: Option<Channel>,
    failed: Option<Instant>,
}

/// Answers questions until nobody can ask any more. Each session that comes about is
/// told to those who wait.
pub(super) async fn serve(
    mut asked: Asked,
    identity: watch::Receiver<Arc<Identity>>,
    mut states: watch::Receiver<LinkState>,
) {
    let line = Line { identity, held: Mutex::default() };
    let mut under_way = FuturesUnordered::new();
    loop {
        // Cancel-safe: what is under way stays in its set, and the rest are wake-ups.
        tokio::select! {
            ask = asked.next(), if under_way.len() < AT_ONCE => match ask {
                Some(ask) => under_way.push(answer(&line, ask)),
                None => return,
            },
            Some(()) = under_way.next(), if !under_way.is_empty() => {}
            Ok(()) = states.changed() => {
                if matches!(*states.borrow_and_update(), LinkState::Up { .. }) {
                    line.forgive();
                    asked.tell_reachable();
                }
            }
            () = sleep(IDLE), if under_way.is_empty() => line.hang_up(),
        }
    }
}

async fn answer(line: &Line, ask: Ask) {
    let Ask { instance, values, answer } = ask;
    let found = timeout(FETCH_LIMIT, fetch(line, instance.to_string(), values)).await;
    let found = found.unwrap_or_else(|_| {
        tracing::debug!(instance.id = %instance, "the controller gave no secrets in time");
        Err(Unanswered::Away)
    });
    if let Err(why) = &found {
        tracing::debug!(instance.id = %instance, reason = %why, "secrets of an instance cannot be had");
    }
    // Whoever asked may have given up.
    let _ = answer.send(found);
}

async fn fetch(line: &Line, instance_id: String, values: usize) -> Result<Answer, Unanswered> {
    let channel = line.channel().await?;
    let mut client = AgentServiceClient::new(channel).max_decoding_message_size(SECRET_MAX_BYTES + WRAPPING);
    let gathered = async {
        let parts = client.fetch_secrets(FetchSecretsRequest { instance_id }).await?.into_inner();
        gather(parts, values).await
    };
    match gathered.await {
        Ok(answer) => answer,
        Err(status) => {
            let why = meaning(&status);
            if why == Unanswered::Away {
                tracing::debug!(code = ?status.code(), reason = status.message(), "a call for secrets failed");
                line.held.lock().await.channel = None;
            }
            Err(why)
        }
    }
}

impl Line {
    /// Lets the next connection be tried at once. Whoever is making one holds the lock,
    /// and needs the loop that calls this in order to go on: so it is not waited for.
    fn forgive(&self) {
        if let Ok(mut held) = self.held.try_lock() {
            held.failed = None;
        }
    }

    /// Closes what nobody uses; not waited for either.
    fn hang_up(&self) {
        if let Ok(mut held) = self.held.try_lock() {
            held.channel = None;
        }
    }

    async fn channel(&self) -> Result<Channel, Unanswered> {
        let mut held = self.held.lock().await;
        if let Some(channel) = &held.channel {
            return Ok(channel.clone());
        }
        if held.failed.is_some_and(|failed| failed.elapsed() < PAUSE) {
            return Err(Unanswered::Away);
        }
        let identity = Arc::clone(&self.identity.borrow());
        match connect(identity.controller(), Trust::Mutual(&identity)).await {
            Ok(channel) => Ok(held.channel.insert(channel).clone()),
            Err(error) => {
                tracing::debug!(error = chain(&error), "no connection for secrets");
                held.failed = Some(Instant::now());
                Err(Unanswered::Away)
            }
        }
    }
}

fn meaning(status: &Status) -> Unanswered {
    match status.code() {
        Code::NotFound => Unanswered::NotOurs,
        Code::PermissionDenied | Code::Unauthenticated => Unanswered::Refused,
        Code::Unimplemented => Unanswered::TooOld,
        // A part above the limit.
        Code::OutOfRange => Unanswered::NotUnderstood,
        _ => Unanswered::Away,
    }
}

async fn gather(
    mut parts: Streaming<proto::SecretPart>,
    expected: usize,
) -> Result<Result<Answer, Unanswered>, Status> {
    let mut gathering = Gathering::new(expected);
    while let Some(part) = parts.message().await? {
        if let Err(why) = gathering.take(part) {
            return Ok(Err(why));
        }
    }
    Ok(gathering.end())
}

/// An answer as it comes in. What is not in the order that was agreed is no answer.
struct Gathering {
    answer: Answer,
    expected: usize,
    bytes: usize,
}

impl Gathering {
    const fn new(expected: usize) -> Self {
        Self { answer: Answer { login: None, values: Vec::new() }, expected, bytes: 0 }
    }

    fn take(&mut self, part: proto::SecretPart) -> Result<(), Unanswered> {
        let Answer { login, values } = &mut self.answer;
        match part.part.ok_or(Unanswered::NotUnderstood)? {
            Part::Missing(missing) => Err(Unanswered::Missing(for_people(&missing.message))),
            Part::RegistryLogin(given) => {
                let password = Secret::new(given.password);
                let text = std::str::from_utf8(password.reveal()).map_err(|_| Unanswered::NotUnderstood)?;
                let proof = LoginProof::Password {
                    username: given.username,
                    password: Zeroizing::new(text.to_owned()),
                };
                let first = login.is_none() && values.is_empty();
                *login = Some(RegistryLogin { server: given.server, proof });
                if first { Ok(()) } else { Err(Unanswered::NotUnderstood) }
            }
            Part::Value(value) => {
                let place = usize::try_from(value.index).ok();
                let value = Secret::new(value.value);
                self.bytes = self.bytes.saturating_add(value.size_bytes());
                let fits = value.size_bytes() <= SECRET_MAX_BYTES && self.bytes <= INSTANCE_MAX_BYTES;
                if place != Some(values.len()) || values.len() >= self.expected || !fits {
                    return Err(Unanswered::NotUnderstood);
                }
                values.push(value);
                Ok(())
            }
        }
    }

    fn end(self) -> Result<Answer, Unanswered> {
        if self.answer.values.len() == self.expected {
            Ok(self.answer)
        } else {
            Err(Unanswered::NotUnderstood)
        }
    }
}

/// A text of the controller's, in one line of bounded length.
fn for_people(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MESSAGE_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(index: u32, value: &[u8]) -> Part {
        Part::Value(proto::SecretValue { index, value: value.to_vec() })
    }

    fn login(password: &[u8]) -> Part {
        let (server, username) = ("ghcr.io".into(), "bot".into());
        Part::RegistryLogin(proto::RegistryLogin { server, username, password: password.to_vec() })
    }

    fn gathered(parts: Vec<Part>, expected: usize) -> Result<Vec<Vec<u8>>, Unanswered> {
        let mut gathering = Gathering::new(expected);
        for part in parts {
            gathering.take(proto::SecretPart { part: Some(part) })?;
        }
        let answer = gathering.end()?;
        Ok(answer.values.iter().map(|value| value.reveal().to_vec()).collect())
    }

    #[test]
    fn values_are_taken_byte_for_byte_in_order_and_after_the_login() {
        let values: [&[u8]; 4] = [b"", b"\0\xff\n", b"$HOME\n", &vec![b'x'; SECRET_MAX_BYTES]];
        let parts = std::iter::once(login(b"pw")).chain(
            values.iter().enumerate().map(|(index, bytes)| value(u32::try_from(index).unwrap(), bytes)),
        );
        assert_eq!(gathered(parts.collect(), 4).unwrap(), values);
        assert_eq!(gathered(Vec::new(), 0), Ok(Vec::new()));
    }

    #[test]
    fn whatever_is_not_as_agreed_is_no_answer() {
        for (parts, expected) in [
            (vec![], 1),
            (vec![value(0, b"a")], 2),
            (vec![value(0, b"a"), value(1, b"b")], 1),
            (vec![value(1, b"a")], 1),
            (vec![value(0, b"a"), value(0, b"a")], 2),
            (vec![value(0, b"a"), login(b"pw")], 1),
            (vec![login(b"pw"), login(b"pw")], 0),
            (vec![login(b"\xff")], 0),
            (vec![value(0, &vec![0; SECRET_MAX_BYTES + 1])], 1),
            ((0..100).map(|n| value(n, &vec![0; SECRET_MAX_BYTES])).collect(), 100),
        ] {
            assert_eq!(gathered(parts, expected), Err(Unanswered::NotUnderstood));
        }
        let mut gathering = Gathering::new(0);
        assert_eq!(gathering.take(proto::SecretPart { part: None }), Err(Unanswered::NotUnderstood));
    }

    #[test]
    fn what_is_missing_is_told_in_the_controllers_words() {
        let message = "credential db version 3\nwas deleted".to_owned();
        let missing = Part::Missing(proto::SecretsMissing { message });
        let told = Unanswered::Missing("credential db version 3 was deleted".into());
        assert_eq!(gathered(vec![missing], 3), Err(told));
        assert_eq!(for_people(&"x".repeat(9000)).len(), MESSAGE_MAX);
    }
}
