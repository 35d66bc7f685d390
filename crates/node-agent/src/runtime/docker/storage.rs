//! Whether the engine keeps a container's writable layer within a size, and how
//! large one is.
//!
//! What an engine says about its storage driver does not tell: one that takes a size
//! may not keep it. So a container of an image that is made for it, which never
//! starts, is given a small size, and files are put into it through the API until
//! one is refused. Container and image are taken away again, by the next try where
//! this one was broken off.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bollard::{
    Docker,
    models::{ContainerCreateBody, HostConfig},
    query_parameters as query,
};
use bytes::Bytes;
use domain::{instance::FailureReason, node::StorageLimit};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::time::{sleep, timeout};

use super::{CHANGE, DockerRuntime, LOOK, failure::Failure};
use crate::runtime::{LABEL_TRIAL, RuntimeError, RuntimeErrorKind};

/// What the trial's container may write.
const SIZE: u64 = 8 << 20;
/// What must fit into it: else the disk is full, and nothing is proved.
const FITS: usize = 64 << 10;
/// What must not.
const TOO_MUCH: usize = 16 << 20;
/// What must not either, once file systems that count late have counted.
const MORE: usize = 1 << 20;
/// How late they count.
const LATE: Duration = Duration::from_secs(6);
/// For a trial as a whole, where a container waits for it.
const DEADLINE: Duration = Duration::from_secs(40);

/// What is known of the engine's storage.
#[derive(Default)]
pub(super) struct Storage {
    /// Held for reading and replacing only, never across an await.
    known: Mutex<Option<StorageLimit>>,
    /// Held during a trial: one at a time.
    turn: tokio::sync::Mutex<()>,
}

impl Storage {
    fn known(&self) -> Option<StorageLimit> {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn learn(&self, limit: StorageLimit) {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some(limit);
    }

    pub(super) fn forget(&self) {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl DockerRuntime {
    /// Whether sizes are kept, as found out before, or now. Where it cannot be found
    /// out they are taken not to be, and the layer is measured.
    pub(super) async fn keeps_sizes(&self) -> Result<StorageLimit, RuntimeError> {
        if let Some(known) = self.0.storage.known() {
            return Ok(known);
        }
        let found = timeout(DEADLINE, async {
            let _turn = self.0.storage.turn.lock().await;
            match self.0.storage.known() {
                Some(known) => Ok(known),
                None => self.trial().await,
            }
        });
        match found.await {
            Ok(Ok(found)) => {
                self.0.storage.learn(found);
                Ok(found)
            }
            Ok(Err(error)) if error.kind == RuntimeErrorKind::Unreachable => Err(error),
            Ok(Err(error)) => {
                tracing::warn!(%error, "could not find out whether the engine keeps storage limits");
                Ok(StorageLimit::Measured)
            }
            Err(_) => Ok(StorageLimit::Measured),
        }
    }

    /// Tries it out, whatever was found before.
    pub(super) async fn find_storage_limit(&self) -> Result<StorageLimit, RuntimeError> {
        let _turn = self.0.storage.turn.lock().await;
        let found = self.trial().await?;
        self.0.storage.learn(found);
        Ok(found)
    }

    async fn trial(&self) -> Result<StorageLimit, RuntimeError> {
        self.clear_trials().await?;
        let found = self.try_out().await;
        let cleared = self.clear_trials().await;
        let found = found?;
        cleared.map(|()| found)
    }

    async fn try_out(&self) -> Result<StorageLimit, RuntimeError> {
        self.import_nothing().await?;
        let body = ContainerCreateBody {
            image: Some(self.trial_image()),
            cmd: Some(vec!["/nothing".to_owned()]),
            labels: Some(self.trial_labels()),
            host_config: Some(HostConfig {
                network_mode: Some("none".to_owned()),
                storage_opt: Some(HashMap::from([("size".to_owned(), SIZE.to_string())])),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        };
        let name = self.trial_name();
        let options = query::CreateContainerOptionsBuilder::default().name(&name).build();
        let create = async |docker: Docker| docker.create_container(Some(options), body).await;
        let made = match self.call().make(CHANGE, create).await {
            Ok(made) => made.id,
            Err(Failure::Answered { status: 404 | 409, message }) => {
                return Err(RuntimeError::refused(FailureReason::StartFailed, super::trimmed(&message)));
            }
            // It does not even take a size.
            Err(Failure::Answered { .. }) => return Ok(StorageLimit::Measured),
            Err(failure) => return Err(failure.unexpected()),
        };
        if self.is_full_after(&made, "fits", FITS).await? {
            let message = "there is no room for anything";
            return Err(RuntimeError::refused(FailureReason::StartFailed, message));
        }
        if self.is_full_after(&made, "much", TOO_MUCH).await? {
            return Ok(StorageLimit::Enforced);
        }
        sleep(LATE).await;
        let full = self.is_full_after(&made, "more", MORE).await?;
        Ok(if full { StorageLimit::Enforced } else { StorageLimit::Measured })
    }

    /// Puts a file into a container, and says whether there was no room for it.
    async fn is_full_after(&self, id: &str, file: &str, bytes: usize) -> Result<bool, RuntimeError> {
        let options = query::UploadToContainerOptionsBuilder::default().path("/").build();
        let tar = stream::iter(tar(file, bytes));
        let put = async |docker: Docker| {
            docker.upload_to_container(id, Some(options), bollard::body_stream(tar)).await
        };
        match self.call().make(CHANGE, put).await {
            Ok(()) => Ok(false),
            Err(Failure::Answered { message, .. }) if says_full(&message) => Ok(true),
            Err(failure) => Err(failure.or_refused(FailureReason::StartFailed)),
        }
    }

    /// An image with an empty directory in it.
    async fn import_nothing(&self) -> Result<(), RuntimeError> {
        let image = self.trial_image();
        let labels = self.trial_labels().into_iter().map(|(key, value)| format!("LABEL {key}={value}"));
        let options = query::CreateImageOptionsBuilder::default()
            .from_src("-")
            .repo(&image)
            .tag("latest")
            .changes(labels.collect())
            .build();
        let import = async |docker: Docker| {
            let tar: Vec<u8> = tar("nothing", 0).collect::<Vec<_>>().concat();
            let answers = docker.create_image(Some(options), Some(bollard::body_full(tar.into())), None);
            answers.boxed().try_collect::<Vec<_>>().await
        };
        match self.call().make(CHANGE, import).await {
            Ok(_) => Ok(()),
            Err(failure) => Err(failure.or_refused(FailureReason::StartFailed)),
        }
    }

    /// Removes what trials left, this one or one that was broken off.
    async fn clear_trials(&self) -> Result<(), RuntimeError> {
        let label = format!("{LABEL_TRIAL}={}", self.0.owner.node);
        for summary in self.summaries(vec![label.clone()]).await? {
            if let Some(id) = summary.id {
                self.delete(&id).await?;
            }
        }
        let filters = HashMap::from([("label", vec![label])]);
        let options = query::ListImagesOptionsBuilder::default().filters(&filters).build();
        let list = async |docker: Docker| docker.list_images(Some(options)).await;
        for image in self.call().make(LOOK, list).await.map_err(Failure::unexpected)? {
            let options = query::RemoveImageOptionsBuilder::default().force(true).build();
            let remove = async |docker: Docker| docker.remove_image(&image.id, Some(options), None).await;
            match self.call().make(CHANGE, remove).await {
                Ok(_) | Err(Failure::Answered { .. }) => {}
                Err(failure) => return Err(failure.unexpected()),
            }
        }
        Ok(())
    }

    fn trial_name(&self) -> String {
        format!("a67-trial-{}", self.0.owner.node)
    }

    /// Without a tag of its own, which Podman would not heed.
    fn trial_image(&self) -> String {
        self.trial_name()
    }

    fn trial_labels(&self) -> HashMap<String, String> {
        let mut labels = HashMap::from(self.0.owner.labels());
        labels.insert(LABEL_TRIAL.to_owned(), self.0.owner.node.to_string());
        labels
    }

    /// See [`crate::runtime::upkeep::Upkeep::writable_bytes`].
    pub(super) async fn measure(&self, container_id: &str) -> Result<Option<u64>, RuntimeError> {
        let options = query::InspectContainerOptionsBuilder::default().size(true).build();
        let look = async |docker: Docker| docker.inspect_container(container_id, Some(options)).await;
        // The engine walks through the layer before it answers.
        let found = self.call().make(CHANGE, look).await.map_err(Failure::unexpected)?;
        let options = found.host_config.and_then(|host| host.storage_opt).unwrap_or_default();
        if options.contains_key("size") {
            return Ok(None);
        }
        Ok(found.size_rw.and_then(|bytes| u64::try_from(bytes).ok()))
    }
}

/// What Linux says of a quota that is used up, and of a file system that is full.
/// XFS says the latter of the former.
fn says_full(message: &str) -> bool {
    let lower = message.to_lowercase();
    lower.contains("quota") || lower.contains("no space left")
}

/// An archive with one file, of bytes that no file system makes smaller; an empty
/// directory where there are none. In pieces, so that it is never in memory whole.
fn tar(name: &str, bytes: usize) -> impl Iterator<Item = Bytes> + Send + use<> {
    const PIECE: usize = 64 << 10;
    let head = Bytes::from(header(name, bytes));
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut noise = move |length: usize| {
        let mut piece = Vec::with_capacity(length + 8);
        while piece.len() < length {
            // Xorshift: nothing here is a secret.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            piece.extend_from_slice(&state.to_le_bytes());
        }
        piece.truncate(length);
        Bytes::from(piece)
    };
    let pieces = (0..bytes.div_ceil(PIECE)).map(move |index| noise(PIECE.min(bytes - index * PIECE)));
    let end = Bytes::from(vec![0; bytes.next_multiple_of(512) - bytes + 1024]);
    std::iter::once(head).chain(pieces).chain(std::iter::once(end))
}

/// The header of a file or directory (POSIX ustar).
fn header(name: &str, bytes: usize) -> Vec<u8> {
    let field = |text: String, length: usize| {
        let mut field = text.into_bytes();
        field.resize(length, 0);
        field
    };
    let (mode, kind) = if bytes == 0 { ("0000755\0", b'5') } else { ("0000644\0", b'0') };
    let mut header = field(name.to_owned(), 100);
    header.extend(field(mode.to_owned(), 8));
    header.extend(field("0000000\0".repeat(2), 16));
    header.extend(field(format!("{bytes:011o}\0"), 12));
    header.extend(field("00000000000\0".to_owned(), 12));
    // The sum is made with blanks in its own place.
    header.extend(field(" ".repeat(8), 8));
    header.push(kind);
    header.extend(field(String::new(), 100));
    header.extend(field("ustar\x0000".to_owned(), 8));
    header.resize(512, 0);
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header.splice(148..156, format!("{sum:06o}\0 ").into_bytes());
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_one_that_tar_reads() {
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in [("nothing", 0), ("small", 3), ("large", 200_000)] {
            let archive: Vec<u8> = tar(name, bytes).collect::<Vec<_>>().concat();
            assert_eq!(archive.len() % 512, 0);
            let path = dir.path().join("a.tar");
            std::fs::write(&path, archive).unwrap();
            let read =
                std::process::Command::new("tar").arg("-xf").arg(&path).current_dir(&dir).output().unwrap();
            assert!(read.status.success() && read.stderr.is_empty(), "{read:?}");
            let found = std::fs::metadata(dir.path().join(name)).unwrap();
            assert_eq!(
                (found.is_dir(), if found.is_dir() { 0 } else { found.len() }),
                (bytes == 0, bytes as u64)
            );
        }
    }

    #[test]
    fn a_full_file_system_is_told_from_other_failures() {
        assert!(
            says_full("write /much: disk quota exceeded") && says_full("write /x: no space left on device")
        );
        assert!(!says_full("unexpected EOF") && !says_full("permission denied"));
    }
}
