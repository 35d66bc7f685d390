//! Secrets for tests: a controller that answers as the test says, and a directory that
//! is in memory.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex},
};

use daemon::seal::SealingKey;
use domain::{
    id::{InstanceId, NodeId},
    secret::Secret,
};
use tempfile::TempDir;
use uuid::Uuid;

use super::{
    Parts, Secrets,
    ask::{Answer, Asked, Unanswered, channel},
};
use crate::{
    ledger::testing::key,
    runtime::{LoginProof, RegistryLogin},
};

/// Where everything is memory on each Linux.
const MEMORY: &str = "/dev/shm";

/// What a test's controller says of one instance.
#[derive(Clone, Default)]
pub(crate) struct Said {
    pub(crate) values: Vec<Vec<u8>>,
    /// Server, name and password.
    pub(crate) login: Option<(String, String, String)>,
    /// Said in place of an answer.
    pub(crate) refusal: Option<Unanswered>,
}

/// A controller with a vault. Without a word about an instance it does not answer.
#[derive(Clone, Default)]
pub(crate) struct Vault(Arc<Mutex<Inside>>);

#[derive(Default)]
struct Inside {
    said: BTreeMap<InstanceId, Said>,
    asked: Vec<InstanceId>,
    away: bool,
}

impl Vault {
    pub(crate) fn says(&self, instance: InstanceId, said: Said) {
        self.0.lock().unwrap().said.insert(instance, said);
    }

    pub(crate) fn is_away(&self, away: bool) {
        self.0.lock().unwrap().away = away;
    }

    pub(crate) fn asked(&self) -> usize {
        self.0.lock().unwrap().asked.len()
    }

    fn answer(&self, instance: InstanceId) -> Result<Answer, Unanswered> {
        let mut inside = self.0.lock().unwrap();
        inside.asked.push(instance);
        let said = inside.said.get(&instance).filter(|_| !inside.away).ok_or(Unanswered::Away)?;
        if let Some(refusal) = &said.refusal {
            return Err(refusal.clone());
        }
        let login = said.login.clone().map(|(server, username, password)| RegistryLogin {
            server,
            proof: LoginProof::Password { username, password: password.into() },
        });
        Ok(Answer { login, values: said.values.iter().map(|value| Secret::copy_of(value)).collect() })
    }
}

/// Secrets whose questions this vault answers, on a task of its own.
pub(crate) struct Bench {
    pub(crate) secrets: Secrets,
    pub(crate) vault: Vault,
    pub(crate) files: Arc<TempDir>,
    reached: tokio::sync::mpsc::UnboundedSender<()>,
}

pub(crate) fn node() -> NodeId {
    NodeId::from_uuid(Uuid::from_u128(2))
}

pub(crate) fn in_memory() -> TempDir {
    tempfile::Builder::new().prefix("a67-secrets-").tempdir_in(MEMORY).unwrap()
}

pub(crate) fn over(kept: &Path, files: &Path, key: SealingKey, node: NodeId) -> (Secrets, Asked) {
    let (asking, asked) = channel();
    let (kept_dir, files_dir) = (kept.to_owned(), files.to_owned());
    (Secrets::new(Parts { node, kept_dir, key, files_dir, asking }), asked)
}

impl Bench {
    /// Has to be made on a runtime, which serves it.
    pub(crate) fn new(kept: &Path, vault: &Vault) -> Self {
        Self::on(&tokio::runtime::Handle::current(), kept, vault, Arc::new(in_memory()))
    }

    pub(crate) fn on(
        runtime: &tokio::runtime::Handle,
        kept: &Path,
        vault: &Vault,
        files: Arc<TempDir>,
    ) -> Self {
        let (secrets, mut asked) = over(kept, files.path(), key(), node());
        let (reached, mut reach) = tokio::sync::mpsc::unbounded_channel();
        let answering = vault.clone();
        runtime.spawn(async move {
            loop {
                tokio::select! {
                    ask = asked.next() => match ask {
                        Some(ask) => drop(ask.answer.send(answering.answer(ask.instance))),
                        None => return,
                    },
                    Some(()) = reach.recv() => asked.tell_reachable(),
                }
            }
        });
        Self { secrets, vault: vault.clone(), files, reached }
    }

    /// The controller is there again, and says so.
    pub(crate) fn comes_back(&self) {
        self.vault.is_away(false);
        let _ = self.reached.send(());
    }
}
