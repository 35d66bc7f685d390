//! Which secrets a container is given. Their values are another message, which is
//! converted by nobody: whoever reads it puts it where it may be.

use domain::{
    name::{Labels, Name},
    spec::{Resolved, SecretTarget, SecretUse},
};

use super::{ConvertError, Problem, id, inner, required};
use crate::proto;

impl TryFrom<proto::SecretUse> for SecretUse {
    type Error = ConvertError;

    fn try_from(m: proto::SecretUse) -> Result<Self, ConvertError> {
        use proto::secret_use::Target;
        let credential = Name::parse(m.credential);
        Ok(Self {
            credential: credential.map_err(|_| ConvertError::new("credential", Problem::NotName))?,
            key: m.key,
            version: m.version,
            target: match required("target", m.target)? {
                Target::Env(m) => SecretTarget::Env { name: m.name },
                Target::File(m) => SecretTarget::File { path: m.path, mode: m.mode, uid: m.uid, gid: m.gid },
            },
            resolved: m.resolved.map(|resolved| inner("resolved", Some(resolved))).transpose()?,
        })
    }
}

impl From<&SecretUse> for proto::SecretUse {
    fn from(secret: &SecretUse) -> Self {
        use proto::secret_use::{Env, File, Target};
        let target = match secret.target.clone() {
            SecretTarget::Env { name } => Target::Env(Env { name }),
            SecretTarget::File { path, mode, uid, gid } => Target::File(File { path, mode, uid, gid }),
        };
        Self {
            credential: secret.credential.to_string(),
            key: secret.key.clone(),
            version: secret.version,
            target: Some(target),
            resolved: secret.resolved.as_ref().map(Into::into),
        }
    }
}

impl TryFrom<proto::secret_use::Resolved> for Resolved {
    type Error = ConvertError;

    fn try_from(m: proto::secret_use::Resolved) -> Result<Self, ConvertError> {
        if m.version == 0 {
            return Err(ConvertError::new("version", Problem::OutOfRange));
        }
        let credential_id = id("credential_id", &m.credential_id)?;
        Ok(Self { credential_id, version: m.version, node_labels: Labels::new() })
    }
}

impl From<&Resolved> for proto::secret_use::Resolved {
    fn from(resolved: &Resolved) -> Self {
        Self { credential_id: resolved.credential_id.to_string(), version: resolved.version }
    }
}
