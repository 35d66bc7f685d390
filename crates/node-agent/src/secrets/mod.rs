//! What containers are given of the vault: values of secrets, and logins for the
//! registries of their images.
//!
//! The controller has them. The agent asks for those of one instance when it needs
//! them, and keeps the answer sealed on its disk, so that it can start containers
//! again while nobody answers (I12). Versions never change, so what is kept is as good
//! as what is asked for; only a login is asked for anew, since it may have been
//! replaced. What is kept goes when its instance is gone.
//!
//! A container finds a value as a variable, which the engine shows, or as a file in
//! memory: written below `secrets_dir` before each start, mounted for reading, and
//! refused where that directory is not in memory. In clear a value is nowhere else
//! (I7).
//!
//! | file | what |
//! |---|---|
//! | `ask` | questions to the controller, which the link answers |
//! | `kept` | the sealed files |
//! | `variables` | which values can be variables |
//! | `deliver` | the files in memory |
//! | `forget` | takes away what nobody needs any more |

pub mod ask;
mod deliver;
mod forget;
mod kept;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod variables;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use daemon::seal::SealingKey;
use domain::{
    assignment::Assignment,
    id::{InstanceId, NodeId},
    instance::FailureReason,
    secret::Secret,
};
use tokio::{sync::watch, task::spawn_blocking};

use self::{
    ask::{Answer, Asking, Unanswered},
    kept::Kept,
};
use crate::runtime::{Given, RegistryLogin, RuntimeError, RuntimeErrorKind};

pub(crate) use deliver::judge_dir;
pub(crate) use forget::keep as forget_in_time;

/// Most bytes of all values of one instance.
pub const INSTANCE_MAX_BYTES: usize = 16 * 1024 * 1024;
/// Most instances whose values are in memory because the disk takes none.
const UNKEPT_MAX: usize = 32;

/// What the room needs to know of its node.
pub struct Parts {
    /// Whose values these are.
    pub node: NodeId,
    /// Where sealed values are kept.
    pub kept_dir: PathBuf,
    /// What they are sealed with.
    pub key: SealingKey,
    /// Where files are put for containers. Has to be in memory.
    pub files_dir: PathBuf,
    /// Where questions go.
    pub asking: Asking,
}

/// The secrets of this node's instances. Clones are the same.
#[derive(Clone)]
pub struct Secrets(Arc<Inner>);

struct Inner {
    kept: Kept,
    files_dir: PathBuf,
    asking: Asking,
    /// Values that could not be written. Held for looking up and changing only.
    unkept: Mutex<BTreeMap<InstanceId, Arc<Vec<Secret>>>>,
}

impl Secrets {
    /// Nothing is read or made yet.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let Parts { node, kept_dir, key, files_dir, asking } = parts;
        let kept = Kept::new(kept_dir, key, node);
        Self(Arc::new(Inner { kept, files_dir, asking, unkept: Mutex::default() }))
    }

    /// Counts how often the controller was reached; whoever waits for it may ask again.
    #[must_use]
    pub fn reachable(&self) -> watch::Receiver<u64> {
        self.0.asking.reachable()
    }

    /// Sees to it that the values for an instance are at hand and can be delivered.
    ///
    /// # Errors
    /// `HeldUp` while they cannot be had, `Refused` where they can never be delivered.
    pub async fn prepare(&self, assignment: &Assignment) -> Result<(), RuntimeError> {
        let secrets = &assignment.spec.secrets;
        if let Some(secret) = secrets.iter().find(|secret| secret.resolved.is_none()) {
            let message = format!(
                "the controller did not say which version of credential {} is meant",
                secret.credential
            );
            return Err(RuntimeError::refused(FailureReason::SpecRefused, message));
        }
        let values = match self.at_hand(assignment).await {
            Some(values) => values,
            None => {
                let answer = self.ask(assignment).await;
                self.keep(assignment, answer.map_err(|why| held_up("the values of its secrets", &why))?)
                    .await
                    .0
            }
        };
        variables::of(secrets, &values)
            .map(drop)
            .map_err(|why| RuntimeError::refused(FailureReason::SpecRefused, why))
    }

    /// What a container is to be made with: its variables, and its files, which are
    /// there when this returns. For what [`Secrets::prepare`] went well.
    ///
    /// # Errors
    /// `HeldUp` where the values went missing since, `Refused` where they cannot be
    /// delivered.
    pub async fn deliver(&self, assignment: &Assignment) -> Result<Given, RuntimeError> {
        if assignment.spec.secrets.is_empty() {
            return Ok(Given::default());
        }
        let values = self.at_hand(assignment).await.ok_or_else(|| {
            let message = "waiting for the values of its secrets: what was kept cannot be read any more";
            RuntimeError::new(RuntimeErrorKind::HeldUp, message)
        })?;
        let env = variables::of(&assignment.spec.secrets, &values)
            .map_err(|why| RuntimeError::refused(FailureReason::SpecRefused, why))?;
        let (dir, instance) = (self.0.files_dir.clone(), assignment.instance_id);
        let secrets = assignment.spec.secrets.clone();
        let write = move || deliver::write(&dir, instance, &secrets, &values);
        let files =
            spawn_blocking(write).await.unwrap_or_else(|_| Err("its files were not written".to_owned()));
        let files = files.map_err(|why| RuntimeError::refused(FailureReason::StartFailed, why))?;
        Ok(Given { env, files })
    }

    /// Puts an instance's files in place anew: memory is empty after a reboot.
    ///
    /// # Errors
    /// As [`Secrets::deliver`].
    pub async fn deliver_files(&self, assignment: &Assignment) -> Result<(), RuntimeError> {
        if assignment.spec.has_secret_files() { self.deliver(assignment).await.map(drop) } else { Ok(()) }
    }

    /// The login that the controller chose for an assignment's image: as it is now, or
    /// while nobody answers as it was kept. `None` where there is none any more.
    ///
    /// # Errors
    /// With what is waited for.
    pub async fn login(&self, assignment: &Assignment) -> Result<Option<RegistryLogin>, RuntimeError> {
        let Some(credential) = assignment.registry_credential else { return Ok(None) };
        match self.ask(assignment).await {
            Ok(answer) => Ok(self.keep(assignment, answer).await.1),
            Err(why) => {
                let (this, instance) = (Arc::clone(&self.0), assignment.instance_id);
                let look = spawn_blocking(move || this.kept.login(instance, credential));
                match look.await.ok().flatten() {
                    Some(login) => Ok(Some(login)),
                    None => Err(held_up("the login for its image's registry", &why)),
                }
            }
        }
    }

    async fn ask(&self, assignment: &Assignment) -> Result<Answer, Unanswered> {
        self.0.asking.ask(assignment.instance_id, assignment.spec.secrets.len()).await
    }

    /// Keeps an answer, on disk or else in memory.
    async fn keep(
        &self,
        assignment: &Assignment,
        answer: Answer,
    ) -> (Arc<Vec<Secret>>, Option<RegistryLogin>) {
        let Answer { login, values } = answer;
        let values = Arc::new(values);
        let (this, assignment, sealed) = (Arc::clone(&self.0), assignment.clone(), Arc::clone(&values));
        let instance = assignment.instance_id;
        let given = login.clone();
        let written = spawn_blocking(move || this.kept.write(&assignment, &sealed, given.as_ref())).await;
        match written {
            Ok(Ok(())) => drop(self.0.unkept().remove(&instance)),
            Ok(Err(error)) => {
                tracing::warn!(instance.id = %instance, %error, "what an instance is given cannot be kept on disk: it is kept in memory");
                self.0.hold(instance, &values);
            }
            Err(_) => self.0.hold(instance, &values),
        }
        (values, login)
    }

    async fn at_hand(&self, assignment: &Assignment) -> Option<Arc<Vec<Secret>>> {
        if let Some(values) = self.0.unkept().get(&assignment.instance_id) {
            return Some(Arc::clone(values));
        }
        let (this, instance) = (Arc::clone(&self.0), assignment.instance_id);
        let secrets = assignment.spec.secrets.clone();
        let look = spawn_blocking(move || this.kept.values(instance, &secrets));
        look.await.ok().flatten().map(Arc::new)
    }

    /// The instances that anything is kept of. Blocks.
    pub(crate) fn instances(&self) -> std::collections::BTreeSet<InstanceId> {
        let mut all = self.0.kept.instances();
        all.extend(deliver::instances(&self.0.files_dir));
        all.extend(self.0.unkept().keys());
        all
    }

    /// Forgets all of an instance. Blocks.
    pub(crate) fn forget(&self, instance: InstanceId) {
        self.0.unkept().remove(&instance);
        self.0.kept.remove(instance);
        deliver::remove(&self.0.files_dir, instance);
    }

    /// Where files are put for containers.
    #[must_use]
    pub fn files_dir(&self) -> &Path {
        &self.0.files_dir
    }
}

impl Inner {
    fn unkept(&self) -> MutexGuard<'_, BTreeMap<InstanceId, Arc<Vec<Secret>>>> {
        self.unkept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hold(&self, instance: InstanceId, values: &Arc<Vec<Secret>>) {
        let mut unkept = self.unkept();
        while unkept.len() >= UNKEPT_MAX && !unkept.contains_key(&instance) {
            // Whoever needs it asks again.
            unkept.pop_first();
        }
        unkept.insert(instance, Arc::clone(values));
    }
}

/// What is told while something cannot be had. The same as long as nothing changes.
fn held_up(what: &str, why: &Unanswered) -> RuntimeError {
    let message = match why {
        Unanswered::Missing(message) => format!("waiting for {what}: {message}"),
        other => format!("waiting for the controller, which has {what}: it {other}"),
    };
    RuntimeError::new(RuntimeErrorKind::HeldUp, message)
}
