//! Who the agent is to a registry.

use zeroize::Zeroizing;

/// A login for one registry. On purpose it can be neither shown nor written out
/// (I7).
#[derive(Clone)]
pub struct RegistryLogin {
    /// The registry, as the login's source names it.
    pub server: String,
    /// How it is proved.
    pub proof: LoginProof,
}

/// What a registry takes as proof.
#[derive(Clone)]
pub enum LoginProof {
    /// A password, or a token that is used as one.
    Password {
        /// Whose.
        username: String,
        /// The secret.
        password: Zeroizing<String>,
    },
    /// A token that is exchanged for another with each use (OAuth).
    IdentityToken {
        /// Whose; some registries want a placeholder here.
        username: String,
        /// The secret.
        token: Zeroizing<String>,
    },
}
