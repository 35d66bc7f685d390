//! What this node refuses, before the engine is asked for anything.

use std::{io, path::Path};

use domain::{
    instance::FailureReason,
    spec::{
        InstanceSpec, Volume,
        policy::{Policy, Refusal, refuse, refuse_bind, refuse_image},
    },
};
use tokio::task::spawn_blocking;

use crate::runtime::RuntimeError;

/// What this node is set to, by its own configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HouseRules {
    /// What it refuses.
    pub policy: Policy,
    /// Where host ports that nobody fixed are chosen from, both ends included;
    /// `None` lets the engine choose.
    pub port_range: Option<(u16, u16)>,
}

/// A refusal is for good: nothing but the node's configuration changes it.
fn refused(refusal: &Refusal) -> RuntimeError {
    RuntimeError::refused(FailureReason::SpecRefused, refusal.to_string())
}

/// Checks a spec, and where the paths that it mounts really lead: whoever may write
/// below an allowed path could lay a link there. Paths that this process does not
/// see, because the agent has a file system of its own, are checked by name only.
///
/// # Errors
/// With the refusal.
pub(super) async fn check(spec: &InstanceSpec, policy: &Policy) -> Result<(), RuntimeError> {
    if let Some(refusal) = refuse(spec, policy) {
        return Err(refused(&refusal));
    }
    let bind = |volume: &Volume| match volume {
        Volume::Bind { path, .. } => Some(path.clone()),
        Volume::Named { .. } | Volume::Tmpfs { .. } => None,
    };
    let paths: Vec<String> = spec.volumes.iter().filter_map(bind).collect();
    if paths.is_empty() {
        return Ok(());
    }
    let policy = policy.clone();
    let look = move || paths.iter().find_map(|path| refuse_leading(Path::new(path), &policy));
    match spawn_blocking(look).await {
        Ok(None) => Ok(()),
        Ok(Some(refusal)) => Err(refused(&refusal)),
        Err(_) => Err(RuntimeError::refused(FailureReason::StartFailed, "the host's paths were not checked")),
    }
}

/// Checks where an image comes from.
///
/// # Errors
/// With the refusal.
pub(super) fn check_image(image: &str, policy: &Policy) -> Result<(), RuntimeError> {
    refuse_image(image, policy).map_or(Ok(()), |refusal| Err(refused(&refusal)))
}

/// Whether what a path leads to is refused. Where an allowed path is a link itself,
/// what it leads to is allowed with it.
fn refuse_leading(path: &Path, policy: &Policy) -> Option<Refusal> {
    let real = match path.canonicalize() {
        Ok(real) => real.to_string_lossy().into_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            let what = format!("the host's path {path:?} to be mounted without looking at it ({error})");
            return Some(Refusal { setting: "bind_paths", what });
        }
    };
    let allowed = policy.bind_paths.iter().map(|allowed| {
        Path::new(allowed)
            .canonicalize()
            .map_or_else(|_| allowed.clone(), |p| p.to_string_lossy().into_owned())
    });
    refuse_bind(&real, &Policy { bind_paths: allowed.collect(), ..Policy::default() })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::runtime::RuntimeErrorKind;

    fn mounting(path: &Path) -> InstanceSpec {
        let path = path.to_str().unwrap().to_owned();
        let volume = Volume::Bind { target: "/data".into(), read_only: true, path };
        InstanceSpec { volumes: vec![volume], ..InstanceSpec::of_image("app:1") }
    }

    #[tokio::test]
    async fn a_link_below_an_allowed_path_does_not_lead_out_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let (allowed, other) = (dir.path().join("allowed"), dir.path().join("other"));
        std::fs::create_dir_all(allowed.join("inner")).unwrap();
        std::fs::create_dir(&other).unwrap();
        symlink(&other, allowed.join("out")).unwrap();
        symlink(allowed.join("inner"), allowed.join("in")).unwrap();
        let policy = Policy { bind_paths: vec![allowed.to_str().unwrap().to_owned()], ..Policy::default() };
        for fine in ["", "inner", "in", "not-there"] {
            assert_eq!(check(&mounting(&allowed.join(fine)), &policy).await, Ok(()), "{fine}");
        }
        for path in [other, allowed.join("out")] {
            let error = check(&mounting(&path), &policy).await.unwrap_err();
            assert_eq!(error.kind, RuntimeErrorKind::Refused(FailureReason::SpecRefused));
            assert!(error.message.contains("bind_paths"), "{error}");
        }
        let link = dir.path().join("link");
        symlink(&allowed, &link).unwrap();
        let policy = Policy { bind_paths: vec![link.to_str().unwrap().to_owned()], ..Policy::default() };
        assert_eq!(
            check(&mounting(&link.join("inner")), &policy).await,
            Ok(()),
            "the link is the node's own"
        );
    }

    #[test]
    fn a_registry_that_is_not_allowed_is_refused_for_good() {
        let policy = Policy { registries: vec!["ghcr.io".into()], ..Policy::default() };
        assert_eq!(check_image("ghcr.io/team/app:1", &policy), Ok(()));
        let error = check_image("app:1", &policy).unwrap_err();
        assert_eq!(error.kind, RuntimeErrorKind::Refused(FailureReason::SpecRefused));
        assert!(!FailureReason::SpecRefused.may_pass());
    }
}
